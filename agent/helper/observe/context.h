/* SPDX-License-Identifier: Apache-2.0 */
/* Trace context as it travels in headers: W3C traceparent and Zipkin's B3. Pure. */
#pragma once

#include "agent/helper/http/message.h"

#include <stdbool.h>
#include <stdint.h>

struct trace_context {
	uint8_t trace_id[16], span_id[8];
	bool has_sampled, sampled; /* B3 may leave the decision open */
	bool b3;		   /* the caller speaks B3: so will we, beside traceparent */
};

/* false: none, or not valid (a broken one is as none: W3C Trace Context 4.3). */
bool trace_context_read(const struct http_head *head, struct trace_context *out);
/* Replaces what there is. 0 or -ENOMEM. */
int trace_context_write(struct http_head *head, const struct trace_context *c, const uint8_t parent_id[8]);
