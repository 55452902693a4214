/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/observe/context.h"

#include <stdio.h>
#include <string.h>

enum { TRACEPARENT_LEN = 55, B3_SPAN_LEN = 16, B3_SIZE = 80 };

static const char b3_header[] = "b3", b3_parent_header[] = "x-b3-parentspanid";

static int nibble(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* n bytes from 2n lower-case digits. */
static bool hex_read(const char *p, uint8_t *out, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int high = nibble(p[2 * i]), low = nibble(p[2 * i + 1]);
		if (high < 0 || low < 0)
			return false;
		out[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static bool all_zero(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i])
			return false;
	return true;
}

static bool w3c_read(struct http_string v, struct trace_context *out)
{
	uint8_t version, flags;
	if (v.n < TRACEPARENT_LEN || !hex_read(v.p, &version, 1) || version == 0xff || v.p[2] != '-' ||
	    v.p[35] != '-' || v.p[52] != '-' || (version == 0 && v.n != TRACEPARENT_LEN) ||
	    (v.n > TRACEPARENT_LEN && v.p[55] != '-'))
		return false;
	if (!hex_read(v.p + 3, out->trace_id, 16) || !hex_read(v.p + 36, out->span_id, 8) ||
	    !hex_read(v.p + 53, &flags, 1) || all_zero(out->trace_id, 16) || all_zero(out->span_id, 8))
		return false;
	out->has_sampled = true;
	out->sampled = flags & 1;
	return true;
}

/* 16 or 32 digits, and 16. */
static bool b3_ids(struct http_string trace, struct http_string span, struct trace_context *out)
{
	size_t skip = trace.n == 16 ? 8 : 0;
	memset(out->trace_id, 0, sizeof(out->trace_id));
	return (trace.n == 16 || trace.n == 32) && span.n == B3_SPAN_LEN &&
	       hex_read(trace.p, out->trace_id + skip, trace.n / 2) && hex_read(span.p, out->span_id, 8) &&
	       !all_zero(out->trace_id, 16) && !all_zero(out->span_id, 8);
}

static void b3_decision(struct http_string v, struct trace_context *out)
{
	bool yes = http_is(v, "1") || http_is(v, "d") || http_is_nocase(v, "true");
	if (!yes && !http_is(v, "0") && !http_is_nocase(v, "false"))
		return;
	out->has_sampled = true;
	out->sampled = yes;
}

static bool b3_multi_read(const struct http_head *head, struct trace_context *out)
{
	b3_decision(http_get_id(head, HTTP_X_B3_SAMPLED), out);
	if (http_is(http_get_id(head, HTTP_X_B3_FLAGS), "1")) /* debug */
		out->has_sampled = out->sampled = true;
	return b3_ids(http_get_id(head, HTTP_X_B3_TRACEID), http_get_id(head, HTTP_X_B3_SPANID), out);
}

/* Up to the next dash; p NULL: there is nothing more. */
static struct http_string part_take(struct http_string *rest)
{
	struct http_string part = *rest;
	const char *dash = rest->p ? memchr(rest->p, '-', rest->n) : NULL;
	if (!dash) {
		*rest = (struct http_string){ 0 };
		return part;
	}
	part.n = (uint32_t)(dash - part.p);
	*rest = (struct http_string){ dash + 1, rest->n - part.n - 1 };
	return part;
}

/* "traceid-spanid[-decision[-parent]]", or the decision alone. */
static bool b3_single_read(struct http_string v, struct trace_context *out)
{
	struct http_string rest = v;
	if (!v.p)
		return false;
	if (!memchr(v.p, '-', v.n)) {
		b3_decision(v, out);
		return false;
	}
	struct http_string trace = part_take(&rest), span = part_take(&rest);
	if (!b3_ids(trace, span, out))
		return false;
	b3_decision(part_take(&rest), out);
	return true;
}

bool trace_context_read(const struct http_head *head, struct trace_context *out)
{
	struct http_string v = http_get_id(head, HTTP_TRACEPARENT);
	*out = (struct trace_context){ 0 };
	if (v.p && w3c_read(v, out))
		return out->w3c = true;
	*out = (struct trace_context){ 0 };
	if (b3_single_read(http_get(head, b3_header), out) || b3_multi_read(head, out))
		return true;
	*out = (struct trace_context){ .has_sampled = out->has_sampled, .sampled = out->sampled };
	return false;
}

void trace_hex(const uint8_t *from, size_t n, char *to)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < n; i++) {
		to[2 * i] = digits[from[i] >> 4];
		to[2 * i + 1] = digits[from[i] & 15];
	}
	to[2 * n] = 0;
}

static int b3_multi_write(struct http_head *head, bool sampled, const char *trace, const char *span, const char *parent)
{
	int rc = http_set_id(head, HTTP_X_B3_TRACEID, trace, 32);
	if (rc == 0)
		rc = http_set_id(head, HTTP_X_B3_SPANID, span, B3_SPAN_LEN);
	if (rc == 0)
		rc = http_set_id(head, HTTP_X_B3_SAMPLED, sampled ? "1" : "0", 1);
	if (rc == 0 && *parent)
		return http_set(head, b3_parent_header, parent);
	http_remove(head, b3_parent_header); /* of a span before ours */
	return rc;
}

static int b3_single_write(struct http_head *head, bool sampled, const char *trace, const char *span,
			   const char *parent)
{
	char text[B3_SIZE];
	snprintf(text, sizeof(text), "%s-%s-%d%s%s", trace, span, sampled, *parent ? "-" : "", parent);
	return http_set(head, b3_header, text);
}

int trace_context_write(struct http_head *head, const struct trace_context *c, const uint8_t parent_id[8])
{
	char text[TRACEPARENT_LEN + 1] = "00-", *trace = text + 3, *span = trace + 33, parent[17] = "";
	trace_hex(c->trace_id, 16, trace);
	trace_hex(c->span_id, 8, span);
	if (parent_id)
		trace_hex(parent_id, 8, parent);
	int rc = 0;
	if (http_get(head, b3_header).p)
		rc = b3_single_write(head, c->sampled, trace, span, parent);
	if (rc == 0 && (http_get_id(head, HTTP_X_B3_TRACEID).p || http_get_id(head, HTTP_X_B3_SAMPLED).p))
		rc = b3_multi_write(head, c->sampled, trace, span, parent);
	if (rc < 0)
		return rc;
	trace[32] = span[16] = '-';
	memcpy(span + 17, c->sampled ? "01" : "00", 3);
	return http_set_id(head, HTTP_TRACEPARENT, text, TRACEPARENT_LEN);
}
