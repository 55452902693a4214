/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/link/span.h"

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/link/span.pb-c.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SPANS_MAX = 4096 };

/* The members are only read by the packer. */
static char *text_of(const char *text)
{
	return (char *)(uintptr_t)(text ? text : "");
}

static ProtobufCBinaryData bytes_of(const uint8_t *p, size_t n)
{
	return (ProtobufCBinaryData){ n, (uint8_t *)(uintptr_t)p };
}

int span_batch_add(struct sb *batch, const struct span *s)
{
	Weft__Link__SpanAttribute attributes[SPAN_ATTRIBUTES_MAX], *pointers[SPAN_ATTRIBUTES_MAX];
	Weft__Link__Span m = WEFT__LINK__SPAN__INIT, *one = &m;
	Weft__Link__SpanBatch b = WEFT__LINK__SPAN_BATCH__INIT;

	for (size_t i = 0; i < s->attribute_count; i++) {
		weft__link__span_attribute__init(&attributes[i]);
		attributes[i].key = text_of(s->attributes[i].key);
		if (s->attributes[i].text) {
			attributes[i].value_case = WEFT__LINK__SPAN_ATTRIBUTE__VALUE_TEXT;
			attributes[i].text = text_of(s->attributes[i].text);
		} else {
			attributes[i].value_case = WEFT__LINK__SPAN_ATTRIBUTE__VALUE_NUMBER;
			attributes[i].number = s->attributes[i].number;
		}
		pointers[i] = &attributes[i];
	}
	m.trace_id = bytes_of(s->trace_id, sizeof(s->trace_id));
	m.span_id = bytes_of(s->span_id, sizeof(s->span_id));
	m.parent_id = bytes_of(s->parent_id, s->has_parent ? sizeof(s->parent_id) : 0);
	m.name = text_of(s->name);
	m.server = s->server;
	m.error = s->error;
	m.start_ns = s->start_ns;
	m.end_ns = s->end_ns;
	m.provider = text_of(s->provider);
	m.service = text_of(s->service);
	m.attributes = pointers;
	m.n_attributes = s->attribute_count;
	/* Batches of one, one behind the other, are a batch: that is how protobuf merges repeated fields. */
	b.spans = &one;
	b.n_spans = 1;
	size_t len = weft__link__span_batch__get_packed_size(&b);
	AUTO(mem_freep) uint8_t *packed = malloc(len);
	if (!packed)
		return -ENOMEM;
	weft__link__span_batch__pack(&b, packed);
	sb_add_bytes(batch, packed, len);
	return batch->failed ? -ENOMEM : 0;
}

static bool too_long(const char *text)
{
	return strnlen(text, SPAN_TEXT_MAX + 1) > SPAN_TEXT_MAX;
}

static bool span_from(const Weft__Link__Span *m, struct span *s)
{
	*s = (struct span){ .server = m->server,
			    .error = m->error,
			    .name = m->name,
			    .provider = m->provider,
			    .service = m->service,
			    .start_ns = m->start_ns,
			    .end_ns = m->end_ns };
	if (m->trace_id.len != 16 || m->span_id.len != 8 || (m->parent_id.len != 0 && m->parent_id.len != 8) ||
	    m->n_attributes > SPAN_ATTRIBUTES_MAX || too_long(m->name) || too_long(m->provider) || too_long(m->service))
		return false;
	memcpy(s->trace_id, m->trace_id.data, 16);
	memcpy(s->span_id, m->span_id.data, 8);
	s->has_parent = m->parent_id.len == 8;
	if (s->has_parent)
		memcpy(s->parent_id, m->parent_id.data, 8);
	for (size_t i = 0; i < m->n_attributes; i++) {
		const Weft__Link__SpanAttribute *a = m->attributes[i];
		bool text = a->value_case == WEFT__LINK__SPAN_ATTRIBUTE__VALUE_TEXT;
		if (too_long(a->key) || (text && too_long(a->text)))
			return false;
		s->attributes[s->attribute_count++] =
			(struct span_attribute){ .key = a->key, .text = text ? a->text : NULL, .number = text ? 0 : a->number };
	}
	return true;
}

int span_batch_read(const uint8_t *bytes, size_t len, void (*fn)(const struct span *s, void *arg), void *arg)
{
	Weft__Link__SpanBatch *b = weft__link__span_batch__unpack(NULL, len, bytes);
	struct span s;
	int rc = b && b->n_spans <= SPANS_MAX ? 0 : -EINVAL;

	for (size_t i = 0; rc == 0 && i < b->n_spans; i++)
		rc = span_from(b->spans[i], &s) ? 0 : -EINVAL;
	for (size_t i = 0; rc == 0 && i < b->n_spans; i++)
		if (span_from(b->spans[i], &s))
			fn(&s, arg);
	if (b)
		weft__link__span_batch__free_unpacked(b, NULL);
	return rc;
}
