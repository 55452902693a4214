/* SPDX-License-Identifier: Apache-2.0 */
/* Between tls_context.c, tls_verify.c and tls_handshake.c. */
#pragma once

#include "agent/helper/tls_handshake.h"
#include "agent/helper/tls_internal.h"

struct tls_context {
	unsigned int refs;
	SSL_CTX *ctx;
	struct tls_credentials *credentials;
	struct tls_trust *trust;
};

struct tls_handshake {
	struct tls_context *context;
	SSL *ssl; /* its app data is the handshake */
	bool server, done;
	size_t received; /* bytes, bounded */
	char **uris, **trust_domains;
	size_t uri_count, trust_domain_count;

	/* Filled by the callbacks: */
	struct tls_secrets secrets;
	unsigned int secrets_seen; /* bit 0: client, bit 1: server */
	char *peer_uri;
	struct tls_peer peer;
	enum drop_reason reason; /* DROP_NONE: the callbacks had nothing against it */
	struct err err;
};

/* SSL_CTX_set_cert_verify_callback: chain, dates, revocation, identity. */
int tls_verify(X509_STORE_CTX *store, void *arg);
/* SSL_CTX_set_keylog_callback */
void tls_on_secret(const SSL *ssl, const char *line);
