/* SPDX-License-Identifier: Apache-2.0 */
/* Trace context as it travels in headers: W3C traceparent and Zipkin's B3. Pure. */
#pragma once

#include "agent/helper/http/message.h"

#include <stdbool.h>
#include <stdint.h>

struct trace_context {
	uint8_t trace_id[16], span_id[8];
	bool has_sampled, sampled; /* B3 may leave the decision open */
	bool w3c;		   /* from traceparent, and tracestate goes with it */
};

/* false: none, or not valid (a broken one is as none: W3C Trace Context 4.3); then *out may still have a decision, which B3
 * can bring alone. */
bool trace_context_read(const struct http_head *head, struct trace_context *out);
/* traceparent, and what there is of B3's headers: who speaks B3 is answered in it. parent_id: of span_id; NULL: none.
 * 0 or -ENOMEM. */
int trace_context_write(struct http_head *head, const struct trace_context *c, const uint8_t parent_id[8]);
/* 2n digits and a NUL. */
void trace_hex(const uint8_t *from, size_t n, char *to);
