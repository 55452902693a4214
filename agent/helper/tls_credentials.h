/* SPDX-License-Identifier: Apache-2.0 */
/* What a TLS handshake needs: a workload's certificate chain with its key, and whom to trust. Both are immutable
 * and atomically reference-counted: the link thread makes them, every worker holds a reference. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct identity;
struct ssl_ctx_st;
struct tls_credentials;
struct tls_key;
struct tls_trust;
struct x509_store_st;

/* chain_pem: leaf first, then intermediates. The leaf must hold `key` and have `uri` as its only URI SAN. The key may
 * be freed afterwards. 0, -EINVAL (sentence says what does not fit) or -ENOMEM. */
int tls_credentials_new(const char *uri, const struct tls_key *key, const char *chain_pem, struct tls_credentials **out,
			struct err *err);
struct tls_credentials *tls_credentials_ref(struct tls_credentials *c);
void tls_credentials_unref(struct tls_credentials *c); /* NULL is fine */
const char *tls_credentials_uri(const struct tls_credentials *c);
uint64_t tls_credentials_not_after_s(const struct tls_credentials *c); /* seconds since 1970 */

/* roots_pem: one certificate or several. revoked: serial numbers in hex, any case, leading zeros ignored.
 * 0, -EINVAL or -ENOMEM. (As worker.h has it; this is final.) */
int tls_trust_new(const char *roots_pem, const char *const *revoked, size_t revoked_count, struct tls_trust **out,
		  struct err *err);
struct tls_trust *tls_trust_ref(struct tls_trust *t);
void tls_trust_unref(struct tls_trust *t);			       /* NULL is fine */
bool tls_trust_revokes(const struct tls_trust *t, const char *serial); /* lower-case hex without leading zeros */

/* For tls*.c only. */
int tls_credentials_use(const struct tls_credentials *c, struct ssl_ctx_st *ctx); /* 0 or -EINVAL */
struct x509_store_st *tls_trust_store(const struct tls_trust *t);		  /* borrowed */
