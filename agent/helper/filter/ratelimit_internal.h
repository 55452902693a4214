/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by ratelimit*.c: what a request is, as limits see it. */
#pragma once

#include "agent/helper/route/exchange.h"

enum { ENTRIES_MAX = 16, DESCRIPTORS_MAX = 32 }; /* of one descriptor; of one request and limit */

struct descriptor_entry {
	const char *key;
	struct http_string value;
};

struct descriptor {
	struct descriptor_entry v[ENTRIES_MAX];
	size_t n;
};

/* Whether it is about requests of this port and route. */
bool limit_applies(const struct exchange *x, const char *route, const char *vhost, uint16_t port);
/* The descriptors that a limit's actions make of the request; at most DESCRIPTORS_MAX. Texts lie in the request's head and in
 * the limit. */
size_t descriptors_make(struct exchange *x, const struct rate_limit *l, struct descriptor *out);

/* --- ratelimit_grpc.c: envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit */
enum limit_outcome { LIMIT_OK, LIMIT_OVER, LIMIT_ERROR };

/* The call's head and, to be freed, its body with the frame. NULL: no memory. */
struct http_head *limit_request(const struct rate_limit *l, const struct descriptor *descriptors, size_t count,
				uint8_t **bytes, size_t *len);
/* What the service said; fields that it wants are put into the request, and into x->response_extra. */
enum limit_outcome limit_response(struct exchange *x, const struct rate_limit *l, const struct http_head *response,
				  const struct http_head *trailers, const uint8_t *body, size_t len);
/* x-ratelimit-*, for the response. */
void limit_headers(struct exchange *x, uint32_t limit, uint32_t remaining, uint64_t reset_s);
