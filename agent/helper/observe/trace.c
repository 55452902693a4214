/* SPDX-License-Identifier: Apache-2.0 */
/* Where a request stands in a trace: continued from the caller's headers or begun, sampled or not, handed on. */
#include "agent/helper/observe/context.h"
#include "agent/helper/observe/internal.h"

#include "agent/base/mem.h"
#include "agent/helper/worker.h"
#include "agent/model/telemetry.h"

#include <string.h>

enum { UUID_LEN = 36, MILLION = 1000000 };

/* RFC 9562: version 4, variant 10 */
static void request_id_make(struct observe *o, char out[UUID_LEN + 1])
{
	uint64_t random[2] = { observe_random(o), observe_random(o) };
	uint8_t b[16];
	memcpy(b, random, sizeof(b));
	b[6] = (uint8_t)(0x40 | (b[6] & 0x0f));
	b[8] = (uint8_t)(0x80 | (b[8] & 0x3f));
	static const struct {
		uint8_t from, n, at;
	} groups[] = { { 0, 4, 0 }, { 4, 2, 9 }, { 6, 2, 14 }, { 8, 2, 19 }, { 10, 6, 24 } };
	for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
		trace_hex(b + groups[i].from, groups[i].n, out + groups[i].at);
		out[groups[i].at + 2 * groups[i].n] = '-';
	}
	out[UUID_LEN] = 0;
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

	if (!r->keep_request_id && !http_get_id(head, HTTP_X_REQUEST_ID).n) {
		request_id_make(o, id);
		http_set_id(head, HTTP_X_REQUEST_ID, id, UUID_LEN);
	}
	if (!tracing || !tracing->provider)
		return;
	r->has_parent = trace_context_read(head, &from);
	if (!from.w3c)
		http_remove_id(head, HTTP_TRACESTATE); /* of another trace: W3C Trace Context 4.3 */
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
	r->sampled = from.has_sampled ? from.sampled : observe_random(o) % MILLION < tracing->sampling_ppm;
}

void trace_inject(struct observe *o, const struct request_record *r, struct http_head *head)
{
	static const uint8_t none[16];
	const struct telemetry *t = r->pod ? r->pod->telemetry : NULL;
	struct trace_context c = { .has_sampled = true, .sampled = r->sampled };
	(void)o;

	if (t && t->tracing[r->reporter].no_propagation)
		return;
	if (!memcmp(r->trace_id, none, sizeof(none)) || !memcmp(r->span_id, none, sizeof(r->span_id)))
		return;
	memcpy(c.trace_id, r->trace_id, sizeof(c.trace_id));
	memcpy(c.span_id, r->span_id, sizeof(c.span_id));
	bool own = r->has_parent && memcmp(r->parent_id, r->span_id, sizeof(r->span_id)) != 0;
	trace_context_write(head, &c, own ? r->parent_id : NULL);
}
