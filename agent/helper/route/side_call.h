/* SPDX-License-Identifier: Apache-2.0 */
/* A request of our own to a cluster: filters' questions (side_call_new() of exchange.h) and mirrors, whose body comes in
 * pieces and whose response nobody reads. */
#pragma once

#include "agent/helper/route/internal.h"

/* Takes head. The body follows with side_call_feed() and side_call_end(); *owner becomes NULL when the call is over before.
 * NULL: no memory. */
struct side_call *side_call_stream(struct http_proxy *p, struct worker_pod *pod, const char *cluster,
				   struct http_head *head, uint32_t timeout_ms, struct side_call **owner);
/* What the endpoint doesn't take is kept, up to 64 KiB; beyond, the call is over. */
void side_call_feed(struct side_call *c, const uint8_t *bytes, size_t len);
/* The body's end; from then on it has timeout_ms. The owner forgets it. trailers: copied; may be NULL. */
void side_call_end(struct side_call *c, const struct http_head *trailers, uint32_t timeout_ms);
void side_call_reap(struct http_proxy *p); /* frees those that are over */
