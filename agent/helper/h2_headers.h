/* SPDX-License-Identifier: Apache-2.0 */
/* Header blocks of HBONE: CONNECT requests and their responses (RFC 7541, RFC 9113 section 8.5). Decoding is
 * nghttp2's; encoding uses only the static table and literals, so it has no state and no cost for idle connections.
 * Input is from strangers. One owner, one thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct buffer;
struct h2_decoder; /* the dynamic table of one connection; made when first needed */

enum { H2_AUTHORITY_MAX = 272, H2_HEADERS_MAX = 16384 };

/* What we send. The optional ones may be NULL. */
struct h2_connect {
	const char *authority;
	const char *baggage, *forwarded, *traceparent;
};

/* A request as received. problem: why it is not a CONNECT that may be served; NULL: it is one. Nothing else of it is
 * kept: a peer's baggage or forwarded decides nothing. */
struct h2_request {
	char authority[H2_AUTHORITY_MAX];
	const char *problem;
};

int h2_encode_connect(const struct h2_connect *c, struct buffer *out); /* 0 or -ENOMEM */
int h2_encode_status(int status, struct buffer *out);

/* Decode one whole block. *d may be NULL at first. 0; -EBADMSG (HPACK error: fatal to the connection), -E2BIG (the
 * list is longer than H2_HEADERS_MAX), -ENOMEM. A malformed request is 0 with problem set. */
int h2_decode_request(struct h2_decoder **d, const uint8_t *block, size_t len, struct h2_request *out);
/* *status is 0 for trailers or when it is malformed. */
int h2_decode_response(struct h2_decoder **d, const uint8_t *block, size_t len, int *status);
void h2_decoder_free(struct h2_decoder *d); /* NULL is fine */
