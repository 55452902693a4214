/* SPDX-License-Identifier: Apache-2.0 */
/* TLS 1.3 handshakes with mutual certificates: OpenSSL in memory, so that the caller owns socket and time. When one is
 * done, its secrets go to a record layer (tls_record.h) and OpenSSL's state is freed.
 * A context belongs to one worker; everything here runs on that worker's thread. */
#pragma once

#include "agent/helper/tls_peer.h"
#include "agent/helper/tls_record.h"
#include "bpf/reason.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffer;
struct err;
struct identity;
struct tls_context;
struct tls_credentials;
struct tls_handshake;
struct tls_trust;

enum { TLS_PEER_CHAIN_MAX = 8 };

/* Takes references of its own. Handshakes that run keep the context that they began with. */
int tls_context_new(struct tls_credentials *credentials, struct tls_trust *trust, struct tls_context **out,
		    struct err *err);
struct tls_context *tls_context_ref(struct tls_context *c); /* worker-local */
void tls_context_unref(struct tls_context *c);		    /* NULL is fine */

/* Whom we accept. The array and strings are copied. */
struct tls_expect {
	const char *const *uris; /* any of these, exactly; or, when there is none: */
	size_t uri_count;
	const char *const *trust_domains; /* any identity of these */
	size_t trust_domain_count;
};

/* An authenticated peer. */
struct tls_peer {
	struct identity *identity;
	char serials[TLS_PEER_CHAIN_MAX][TLS_SERIAL_MAX]; /* of its certificate and intermediates */
	size_t serial_count;
};
void tls_peer_done(struct tls_peer *peer);

int tls_handshake_new(struct tls_context *c, bool server, const struct tls_expect *expect, struct tls_handshake **out);
void tls_handshake_free(struct tls_handshake *hs); /* NULL is fine */

/* Feeds received bytes (none to begin as a client) and appends what is to be sent to out.
 * 1: done; 0: more bytes are needed; -errno: failed, tls_handshake_reason() and err say why, out may hold an alert. */
int tls_handshake_step(struct tls_handshake *hs, const uint8_t *bytes, size_t len, struct buffer *out, struct err *err);
enum drop_reason tls_handshake_reason(const struct tls_handshake *hs);
/* The peer's URI as far as it was seen, also when it was refused; NULL: none. */
const char *tls_handshake_peer_uri(const struct tls_handshake *hs);

/* After 1: the record layer, the peer (caller: tls_peer_done), and bytes that came behind the handshake, appended to
 * early. 0 or -errno. */
int tls_handshake_finish(struct tls_handshake *hs, struct tls_record **record, struct tls_peer *peer,
			 struct buffer *early);
