/* SPDX-License-Identifier: Apache-2.0 */
/* SPIFFE identities, spiffe://<trust domain>/ns/<namespace>/sa/<service account>, as Istio uses them.
 * Immutable, reference-counted (atomic: shared between threads). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct err;

enum { IDENTITY_URI_MAX = 2048 }; /* SPIFFE-ID, section 2.3 */

struct identity {
	unsigned int refs;
	uint32_t id; /* hash32_id(uri): the same on every node and run; compile resolves collisions. 0: anonymous */
	char *uri;   /* "spiffe://cluster.local/ns/shop/sa/frontend" */
	char *trust_domain;
	char *ns;
	char *service_account;
	/* Of the certificate that has just proved it, where one did; else NULL. The hash is SHA-256 in hexadecimal digits, the
	 * subject as in RFC 2253. */
	char *certificate_hash, *certificate_subject;
};

/* NULL: no memory. Names are not validated here. */
struct identity *identity_new(const char *trust_domain, const char *ns, const char *service_account);
/* Parses and validates a SPIFFE URI of Istio's shape. 0, -EINVAL or -ENOMEM. */
int identity_parse(const char *uri, struct identity **out, struct err *err);
struct identity *identity_ref(struct identity *identity);
void identity_unref(struct identity *identity); /* NULL is fine */
/* "cluster.local/ns/shop/sa/frontend": the principal, as AuthorizationPolicy writes it. */
const char *identity_principal(const struct identity *identity);
