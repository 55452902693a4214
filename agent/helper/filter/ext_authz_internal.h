/* SPDX-License-Identifier: Apache-2.0 */
/* The two protocols of external authorisation: what is asked, and what an answer means. For ext_authz*.c only. */
#pragma once

#include "agent/helper/route/exchange.h"

struct ext_body { /* of the request; p NULL: none was wanted */
	const uint8_t *p;
	size_t n;
	bool whole;
};

enum ext_outcome {
	EXT_ALLOW, /* what it says of headers has been done to the request */
	EXT_DENY,
	EXT_ERROR, /* no answer, or none that can be understood */
};

struct ext_denial {
	uint16_t status;
	uint8_t *body; /* any bytes; NULL: none */
	size_t body_len;
	struct http_head *extra; /* NULL: none */
};

/* Says whether the body is all there is; a client says no such thing. */
#define EXT_PARTIAL_BODY "x-envoy-auth-partial-body"

/* The head to send; NULL: no memory. grpc: *bytes is the message, with its frame, to be freed. */
struct http_head *ext_authz_http_request(struct exchange *x, const struct ext_authz *p, const struct ext_body *body);
struct http_head *ext_authz_grpc_request(struct exchange *x, const struct ext_authz *p, const struct ext_body *body,
					 uint8_t **bytes, size_t *len);
enum ext_outcome ext_authz_http_response(struct exchange *x, const struct ext_authz *p,
					 const struct http_head *response, const uint8_t *body, size_t len,
					 struct ext_denial *denial);
enum ext_outcome ext_authz_grpc_response(struct exchange *x, const struct http_head *response, const uint8_t *body,
					 size_t len, const struct http_head *trailers, struct ext_denial *denial);
void ext_denial_body(struct ext_denial *denial, const void *body, size_t len); /* a copy */
const char *ext_authz_host(const struct ext_authz *p);			       /* of the service that is asked */
