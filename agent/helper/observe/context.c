/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/observe/context.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { TRACEPARENT_LEN = 55 };

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
	if (v.n < TRACEPARENT_LEN || !hex_read(v.p, &version, 1) || version == 0xff || v.p[2] != '-' || v.p[35] != '-' ||
	    v.p[52] != '-' || (version == 0 && v.n != TRACEPARENT_LEN) || (v.n > TRACEPARENT_LEN && v.p[55] != '-'))
		return false;
	if (!hex_read(v.p + 3, out->trace_id, 16) || !hex_read(v.p + 36, out->span_id, 8) ||
	    !hex_read(v.p + 53, &flags, 1) || all_zero(out->trace_id, 16) || all_zero(out->span_id, 8))
		return false;
	out->has_sampled = true;
	out->sampled = flags & 1;
	return true;
}

/* 16 or 32 digits. */
static bool b3_trace_id(struct http_string v, struct trace_context *out)
{
	memset(out->trace_id, 0, sizeof(out->trace_id));
	if (v.n != 16 && v.n != 32)
		return false;
	return hex_read(v.p, out->trace_id + (v.n == 16 ? 8 : 0), v.n / 2) && !all_zero(out->trace_id, 16);
}

static bool b3_read(const struct http_head *head, struct trace_context *out)
{
	struct http_string trace = http_get_id(head, HTTP_X_B3_TRACEID), span = http_get_id(head, HTTP_X_B3_SPANID);
	struct http_string sampled = http_get_id(head, HTTP_X_B3_SAMPLED);
	struct http_string flags = http_get_id(head, HTTP_X_B3_FLAGS);
	if (!trace.p || !span.p || span.n != 16 || !b3_trace_id(trace, out) || !hex_read(span.p, out->span_id, 8) ||
	    all_zero(out->span_id, 8))
		return false;
	out->b3 = true;
	out->has_sampled = sampled.p || http_is(flags, "1");
	out->sampled = http_is(flags, "1") || http_is(sampled, "1") || http_is_nocase(sampled, "true");
	return true;
}

bool trace_context_read(const struct http_head *head, struct trace_context *out)
{
	struct http_string v = http_get_id(head, HTTP_TRACEPARENT);
	*out = (struct trace_context){ 0 };
	if (v.p && w3c_read(v, out)) {
		out->b3 = http_get_id(head, HTTP_X_B3_TRACEID).p != NULL;
		return true;
	}
	*out = (struct trace_context){ 0 };
	return b3_read(head, out);
}

static void hex_write(const uint8_t *from, size_t n, char *to)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < n; i++) {
		to[2 * i] = digits[from[i] >> 4];
		to[2 * i + 1] = digits[from[i] & 15];
	}
	to[2 * n] = 0;
}

static int b3_write(struct http_head *head, const struct trace_context *c, const char *trace, const char *span,
		    const uint8_t parent_id[8])
{
	char parent[17];
	int rc = http_set_id(head, HTTP_X_B3_TRACEID, trace, 32);
	if (rc == 0)
		rc = http_set_id(head, HTTP_X_B3_SPANID, span, 16);
	if (rc == 0)
		rc = http_set_id(head, HTTP_X_B3_SAMPLED, c->sampled ? "1" : "0", 1);
	if (rc == 0 && parent_id && !all_zero(parent_id, 8)) {
		hex_write(parent_id, 8, parent);
		rc = http_set(head, "x-b3-parentspanid", parent);
	}
	return rc;
}

int trace_context_write(struct http_head *head, const struct trace_context *c, const uint8_t parent_id[8])
{
	char trace[33], span[17], text[TRACEPARENT_LEN + 1];
	hex_write(c->trace_id, 16, trace);
	hex_write(c->span_id, 8, span);
	snprintf(text, sizeof(text), "00-%s-%s-%02d", trace, span, c->sampled ? 1 : 0);
	int rc = http_set_id(head, HTTP_TRACEPARENT, text, TRACEPARENT_LEN);
	return rc == 0 && c->b3 ? b3_write(head, c, trace, span, parent_id) : rc;
}
