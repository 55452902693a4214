/* SPDX-License-Identifier: Apache-2.0 */
/* TLS towards servers outside of tunnels (DestinationRule's SIMPLE, MUTUAL and ISTIO_MUTUAL): OpenSSL in memory, TLS 1.2 and
 * 1.3. The caller owns socket and time. A context belongs to one worker; everything runs on that worker's thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct buffer;
struct err;
struct tls_client;
struct tls_client_context;
struct tls_credentials;
struct tls_trust;

/* Whom to trust, and who we are. */
struct tls_client_config {
	const char *ca_pem;		 /* roots; NULL: `trust`, or nobody */
	const char *crl_pem;		 /* revocation lists, one for each authority of a chain; NULL: not looked at */
	struct tls_trust *trust;	 /* of the mesh, with what it revokes */
	bool insecure;			 /* any certificate is taken */
	const char *chain_pem, *key_pem; /* ours, from files; or: */
	struct tls_credentials *credentials;
};

/* 0, -EINVAL with the sentence, -ENOMEM. Nothing of the config is kept but references. */
int tls_client_context_new(const struct tls_client_config *config, struct tls_client_context **out, struct err *err);
struct tls_client_context *tls_client_context_ref(struct tls_client_context *c); /* worker-local */
void tls_client_context_unref(struct tls_client_context *c);			 /* NULL is fine */

/* Whom we call. Strings are copied. */
struct tls_client_target {
	const char *sni; /* NULL: none is sent */
	const char *const
		*names; /* any of these must be in the certificate: DNS names, addresses, or URIs with "://" */
	size_t name_count;
	const char *const *alpn; /* in order of preference */
	size_t alpn_count;
};

int tls_client_new(struct tls_client_context *context, const struct tls_client_target *target, struct tls_client **out);
void tls_client_free(struct tls_client *c); /* NULL is fine */

/* What is to be sent; consumed by the caller. */
struct buffer *tls_client_output(struct tls_client *c);
/* Takes of the received bytes (none to begin). 1: done; 0: more are needed; -EKEYREJECTED or (revoked)
 * -EKEYREVOKED: the server is none that is trusted; -EPROTO: it broke TLS, or wants none of us; each with the sentence;
 * -ENOMEM. The output may hold an alert. */
int tls_client_handshake(struct tls_client *c, const uint8_t **bytes, size_t *len, struct err *err);
const char *tls_client_alpn(const struct tls_client *c); /* NULL: nothing */
const char *
tls_client_peer(const struct tls_client *c); /* which name the certificate had; NULL: insecure, or resumed */
/* Plaintext of the received bytes, at most 16 KiB at a time when size allows it: > 0; 0: more bytes are needed; -EPIPE: the
 * peer has ended in order; -EPROTO: it is over. */
ssize_t tls_client_read(struct tls_client *c, const uint8_t **bytes, size_t *len, uint8_t *out, size_t size);
int tls_client_write(struct tls_client *c, const void *bytes, size_t len); /* 0 or -errno; sealed into the output */
void tls_client_end(struct tls_client *c);				   /* close_notify */
