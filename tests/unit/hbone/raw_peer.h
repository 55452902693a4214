/* SPDX-License-Identifier: Apache-2.0 */
/* A peer by OpenSSL alone that says whatever a test wants: it checks our TLS and HTTP/2 against another
 * implementation's and against hostile input. */
#pragma once

#include "agent/base/addr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loop;
struct ssl_st;
struct tls_credentials;

struct raw_peer {
	struct loop *loop;
	struct ssl_st *ssl;
	int fd;
	uint8_t in[1 << 16];
	size_t in_len;
};

struct raw_options {
	struct tls_credentials *credentials; /* NULL: no certificate */
	int max_version;		     /* 0: TLS 1.3 */
	const char *alpn;		     /* NULL: "h2"; "": none */
	const char *ciphers;		     /* TLS 1.3 ciphersuites; NULL: default */
	const char *groups;
};

struct raw_frame {
	uint8_t type, flags;
	uint32_t id;
	size_t len;
	uint8_t payload[16384];
};

/* Connects as a client. True: the handshake is done on this side (in TLS 1.3 the server may still refuse). */
bool raw_connect(struct raw_peer *p, struct loop *loop, const struct addr_port *to, const struct raw_options *o);
void raw_close(struct raw_peer *p);
void raw_send(struct raw_peer *p, const void *bytes, size_t len);
void raw_send_frame(struct raw_peer *p, uint8_t type, uint8_t flags, uint32_t id, const void *payload, size_t len);
void raw_begin(struct raw_peer *p); /* preface and empty SETTINGS */
/* CONNECT on stream id; extra: literal header bytes behind :method and :authority, or NULL. */
void raw_request(struct raw_peer *p, uint32_t id, const char *authority, uint8_t flags);
/* The next frame that is not SETTINGS or WINDOW_UPDATE; false: the connection ended. */
bool raw_next(struct raw_peer *p, struct raw_frame *f);
/* The status of the next HEADERS frame; 0: the connection ended or another frame came. */
int raw_status(struct raw_peer *p, uint32_t id);
bool raw_is_over(struct raw_peer *p); /* reads everything; waits until the other side closes */
