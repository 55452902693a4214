/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/link/span.h"

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/link/span.pb-c.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SPANS_MAX = 4096 };

/* --- writing: by hand, as it is done for each request; span.proto has the numbers. A length is always written as three
 * bytes, so that it can be filled in when what it counts is there. */

enum {
	WIRE_VARINT = 0,
	WIRE_FIXED64 = 1,
	WIRE_BYTES = 2,
	LENGTH_SIZE = 3,
	VARINT_MAX = 10,
	LENGTH_MAX = (1 << 21) - 1
};

static uint8_t *put_tag(uint8_t *p, unsigned int number, unsigned int wire)
{
	*p++ = (uint8_t)(number << 3 | wire);
	return p;
}

static uint8_t *put_length(uint8_t *p, size_t n)
{
	p[0] = (uint8_t)(n | 0x80);
	p[1] = (uint8_t)(n >> 7 | 0x80);
	p[2] = (uint8_t)(n >> 14 & 0x7f);
	return p + LENGTH_SIZE;
}

static uint8_t *put_bytes(uint8_t *p, unsigned int number, const void *bytes, size_t n)
{
	if (!n)
		return p;
	p = put_length(put_tag(p, number, WIRE_BYTES), n);
	memcpy(p, bytes, n);
	return p + n;
}

static uint8_t *put_varint(uint8_t *p, unsigned int number, uint64_t v)
{
	p = put_tag(p, number, WIRE_VARINT);
	for (; v >= 0x80; v >>= 7)
		*p++ = (uint8_t)(v | 0x80);
	*p++ = (uint8_t)v;
	return p;
}

static uint8_t *put_fixed64(uint8_t *p, unsigned int number, uint64_t v)
{
	p = put_tag(p, number, WIRE_FIXED64);
	for (int i = 0; i < 8; i++)
		*p++ = (uint8_t)(v >> 8 * i);
	return p;
}

static size_t length_of(const char *text)
{
	return text ? strlen(text) : 0;
}

static uint8_t *put_text(uint8_t *p, unsigned int number, const char *text)
{
	return put_bytes(p, number, text, length_of(text));
}

static uint8_t *put_attribute(uint8_t *p, const struct span_attribute *a)
{
	uint8_t *length = put_tag(p, 11, WIRE_BYTES), *begin = length + LENGTH_SIZE;
	p = put_text(begin, 1, a->key);
	if (!a->text)
		p = put_varint(p, 3, (uint64_t)a->number);
	else if (*a->text)
		p = put_text(p, 2, a->text);
	else
		p = put_length(put_tag(p, 2, WIRE_BYTES), 0); /* which of the two it is has to be said */
	put_length(length, (size_t)(p - begin));
	return p;
}

static uint8_t *put_span(uint8_t *p, const struct span *s)
{
	p = put_bytes(p, 1, s->trace_id, sizeof(s->trace_id));
	p = put_bytes(p, 2, s->span_id, sizeof(s->span_id));
	p = put_bytes(p, 3, s->parent_id, s->has_parent ? sizeof(s->parent_id) : 0);
	p = put_text(p, 4, s->name);
	if (s->server)
		p = put_varint(p, 5, 1);
	if (s->error)
		p = put_varint(p, 6, 1);
	p = put_fixed64(p, 7, s->start_ns);
	p = put_fixed64(p, 8, s->end_ns);
	p = put_text(p, 9, s->provider);
	p = put_text(p, 10, s->service);
	for (size_t i = 0; i < s->attribute_count; i++)
		p = put_attribute(p, &s->attributes[i]);
	return p;
}

/* At least what put_span() writes. */
static size_t span_bound(const struct span *s)
{
	size_t n = 16 * (1 + LENGTH_SIZE + VARINT_MAX) + 32;
	n += length_of(s->name) + length_of(s->provider) + length_of(s->service);
	for (size_t i = 0; i < s->attribute_count; i++)
		n += 3 * (1 + LENGTH_SIZE) + VARINT_MAX + length_of(s->attributes[i].key) +
		     length_of(s->attributes[i].text);
	return n;
}

int span_batch_add(struct sb *batch, const struct span *s)
{
	size_t bound = span_bound(s);
	if (bound > LENGTH_MAX || batch->failed)
		return -EINVAL;
	if (mem_reserve(&batch->p, &batch->cap, batch->len + bound + 1, 1) < 0)
		return -ENOMEM;
	/* Batches of one, one behind the other, are a batch: that is how protobuf merges repeated fields. */
	uint8_t *from = (uint8_t *)batch->p + batch->len, *begin = put_tag(from, 1, WIRE_BYTES) + LENGTH_SIZE;
	uint8_t *end = put_span(begin, s);
	put_length(begin - LENGTH_SIZE, (size_t)(end - begin));
	*end = 0;
	batch->len += (size_t)(end - from);
	return 0;
}

static bool too_long(const char *text)
{
	return strnlen(text, SPAN_TEXT_MAX + 1) > SPAN_TEXT_MAX;
}

/* Texts go on in protobuf strings and JSON, and a collector refuses a whole batch for one that is not UTF-8. */
static void clean(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || (unsigned char)*text >= 0x7f)
			*text = '?';
}

static void span_clean(const Weft__Link__Span *m)
{
	clean(m->name);
	clean(m->service);
	for (size_t i = 0; i < m->n_attributes; i++) {
		clean(m->attributes[i]->key);
		if (m->attributes[i]->value_case == WEFT__LINK__SPAN_ATTRIBUTE__VALUE_TEXT)
			clean(m->attributes[i]->text);
	}
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
		s->attributes[s->attribute_count++] = (struct span_attribute){ .key = a->key,
									       .text = text ? a->text : NULL,
									       .number = text ? 0 : a->number };
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
	for (size_t i = 0; rc == 0 && i < b->n_spans; i++) {
		span_clean(b->spans[i]);
		if (span_from(b->spans[i], &s))
			fn(&s, arg);
	}
	if (b)
		weft__link__span_batch__free_unpacked(b, NULL);
	return rc;
}
