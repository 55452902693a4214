/* SPDX-License-Identifier: Apache-2.0 */
/* Where a request stands in a trace: continued from the caller's headers or begun, sampled or not, handed on. */
#include "agent/helper/observe/context.h"
#include "agent/helper/observe/internal.h"

#include "agent/model/telemetry.h"

#include <stdio.h>
#include <string.h>

enum { UUID_LEN = 36, MILLION = 1000000 };

static void request_id_make(struct observe *o, char out[UUID_LEN + 1])
{
	uint64_t a = observe_random(o), b = observe_random(o);
	/* RFC 9562: version 4, variant 10 */
	snprintf(out, UUID_LEN + 1, "%08x-%04x-4%03x-%04x-%012llx", (uint32_t)(a >> 32), (uint32_t)(a >> 16) & 0xffff,
		 (uint32_t)a & 0xfff, ((uint32_t)(b >> 48) & 0x3fff) | 0x8000,
		 (unsigned long long)(b & 0xffffffffffffull));
}

static void id_make(struct observe *o, uint8_t *out, size_t n)
{
	for (size_t i = 0; i < n; i += 8) {
		uint64_t v = observe_random(o) | 1; /* not zero */
		memcpy(out + i, &v, 8);
	}
}

void trace_begin(struct observe *o, struct request_record *r, struct http_head *head, const struct telemetry *t)
{
	const struct tracing *tracing = t ? &t->tracing[r->reporter] : NULL;
	struct trace_context from;
	char id[UUID_LEN + 1];

	if (!http_get_id(head, HTTP_X_REQUEST_ID).p) {
		request_id_make(o, id);
		http_set_id(head, HTTP_X_REQUEST_ID, id, UUID_LEN);
	}
	if (!tracing || !tracing->provider)
		return;
	r->has_parent = trace_context_read(head, &from);
	if (r->has_parent) {
		memcpy(r->trace_id, from.trace_id, sizeof(r->trace_id));
		memcpy(r->parent_id, from.span_id, sizeof(r->parent_id));
	} else {
		id_make(o, r->trace_id, sizeof(r->trace_id));
	}
	bool own = r->reporter == REPORTER_CLIENT ? tracing->client : tracing->server;
	if (own || !r->has_parent)
		id_make(o, r->span_id, sizeof(r->span_id));
	else
		memcpy(r->span_id, r->parent_id, sizeof(r->span_id)); /* handed on as it came */
	/* Who began the trace decides. */
	r->sampled = r->has_parent && from.has_sampled ? from.sampled :
							 observe_random(o) % MILLION < tracing->sampling_ppm;
}

void trace_inject(struct observe *o, const struct request_record *r, struct http_head *head)
{
	static const uint8_t none[16];
	struct trace_context c = { .has_sampled = true, .sampled = r->sampled };
	(void)o;

	if (!memcmp(r->trace_id, none, sizeof(none)) || !memcmp(r->span_id, none, sizeof(r->span_id)))
		return;
	memcpy(c.trace_id, r->trace_id, sizeof(c.trace_id));
	memcpy(c.span_id, r->span_id, sizeof(c.span_id));
	c.b3 = http_get_id(head, HTTP_X_B3_TRACEID).p != NULL;
	trace_context_write(head, &c, r->has_parent ? r->parent_id : NULL);
}
