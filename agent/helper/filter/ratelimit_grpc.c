/* SPDX-License-Identifier: Apache-2.0 */
/* Envoy's rate limit service, version 3. */
#include <stdlib.h>
#include <string.h>

#include "agent/helper/filter/fields.h"
#include "agent/helper/filter/grpc_call.h"
#include "agent/helper/filter/ratelimit.pb-c.h"
#include "agent/helper/filter/ratelimit_internal.h"

enum { CODE_OK = 1, CODE_OVER_LIMIT = 2 };

struct asking { /* all of one request in one piece: bounded by ratelimit_internal.h */
	Weft__Ratelimit__Entry entries[DESCRIPTORS_MAX][ENTRIES_MAX], *entry_list[DESCRIPTORS_MAX][ENTRIES_MAX];
	Weft__Ratelimit__Descriptor descriptors[DESCRIPTORS_MAX], *descriptor_list[DESCRIPTORS_MAX];
	struct http_head *text;
	bool failed;
};

static void descriptor_fill(struct asking *a, size_t i, const struct descriptor *from)
{
	weft__ratelimit__descriptor__init(&a->descriptors[i]);
	for (size_t e = 0; e < from->n; e++) {
		Weft__Ratelimit__Entry *entry = &a->entries[i][e];
		weft__ratelimit__entry__init(entry);
		entry->key = (char *)(uintptr_t)from->v[e].key;
		entry->value = field_text(a->text, from->v[e].value);
		a->failed |= !entry->value;
		a->entry_list[i][e] = entry;
	}
	a->descriptors[i].entries = a->entry_list[i];
	a->descriptors[i].n_entries = from->n;
	a->descriptor_list[i] = &a->descriptors[i];
}

struct http_head *limit_request(const struct rate_limit *l, const struct descriptor *descriptors, size_t count,
				uint8_t **bytes, size_t *len)
{
	static const char path[] = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
	Weft__Ratelimit__Request m = WEFT__RATELIMIT__REQUEST__INIT;
	struct asking *a = malloc(sizeof(*a));
	if (!a)
		return NULL;
	a->text = http_head_new();
	a->failed = !a->text;
	for (size_t i = 0; i < count && !a->failed; i++)
		descriptor_fill(a, i, &descriptors[i]);
	m.domain = l->domain;
	m.descriptors = a->descriptor_list;
	m.n_descriptors = count;

	size_t n = a->failed ? 0 : weft__ratelimit__request__get_packed_size(&m);
	uint8_t *out = a->failed ? NULL : malloc(GRPC_FRAME + n);
	struct http_head *head = out ? grpc_call_head(l->cluster, path, l->timeout_ms, GRPC_FRAME + n) : NULL;
	if (head) {
		grpc_frame_write(out, n);
		weft__ratelimit__request__pack(&m, out + GRPC_FRAME);
		*bytes = out;
		*len = GRPC_FRAME + n;
	} else {
		free(out);
	}
	http_head_free(a->text);
	free(a);
	return head;
}

/* --- the answer */

static int fields_take(struct http_head **to, size_t count, Weft__Ratelimit__HeaderValue *const *fields)
{
	if (count && !*to)
		*to = http_head_new();
	for (size_t i = 0; i < count; i++) {
		const Weft__Ratelimit__HeaderValue *f = fields[i];
		const char *value = f->raw_value.len ? (const char *)f->raw_value.data : f->value;
		size_t n = f->raw_value.len ? f->raw_value.len : strlen(f->value);
		if (!*to || field_put(*to, (struct http_string){ f->key, (uint32_t)strlen(f->key) },
				      (struct http_string){ value, (uint32_t)n }, false) < 0)
			return -1;
	}
	return 0;
}

/* Of the descriptor that has the least left. */
static void quota_tell(struct exchange *x, const Weft__Ratelimit__Response *m)
{
	const Weft__Ratelimit__DescriptorStatus *least = NULL;

	for (size_t i = 0; i < m->n_statuses; i++)
		if (m->statuses[i]->current_limit &&
		    (!least || m->statuses[i]->limit_remaining < least->limit_remaining))
			least = m->statuses[i];
	if (least)
		limit_headers(x, least->current_limit->requests_per_unit, least->limit_remaining,
			      least->duration_until_reset && least->duration_until_reset->seconds > 0 ?
				      (uint64_t)least->duration_until_reset->seconds :
				      0);
}

enum limit_outcome limit_response(struct exchange *x, const struct rate_limit *l, const struct http_head *response,
				  const struct http_head *trailers, const uint8_t *body, size_t len)
{
	size_t n = 0;
	const uint8_t *message = grpc_call_message(response, trailers, body, len, &n);
	Weft__Ratelimit__Response *m = message ? weft__ratelimit__response__unpack(NULL, n, message) : NULL;
	if (!m)
		return LIMIT_ERROR;
	enum limit_outcome outcome = m->overall_code == CODE_OK		? LIMIT_OK :
				     m->overall_code == CODE_OVER_LIMIT ? LIMIT_OVER :
									  LIMIT_ERROR;
	if (outcome != LIMIT_ERROR &&
	    fields_take(&x->response_extra, m->n_response_headers_to_add, m->response_headers_to_add) < 0)
		outcome = LIMIT_ERROR;
	if (outcome == LIMIT_OK && fields_take(&x->head, m->n_request_headers_to_add, m->request_headers_to_add) < 0)
		outcome = LIMIT_ERROR;
	if (outcome != LIMIT_ERROR && l->x_ratelimit_headers)
		quota_tell(x, m);
	weft__ratelimit__response__free_unpacked(m, NULL);
	return outcome;
}
