/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/telemetry/span_zipkin.h"

#include <inttypes.h>

#include "agent/base/str.h"
#include "agent/link/span.h"

static void hex(struct sb *out, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		sb_addf(out, "%02x", p[i]);
}

/* What the helper sends is ASCII; anything else would be escaped byte by byte. */
static void text(struct sb *out, const char *p)
{
	sb_add(out, "\"");
	for (; p && *p; p++) {
		unsigned char c = (unsigned char)*p;
		if (c == '"' || c == '\\')
			sb_addf(out, "\\%c", c);
		else if (c < 0x20 || c >= 0x7f)
			sb_addf(out, "\\u%04x", c);
		else
			sb_add_bytes(out, p, 1);
	}
	sb_add(out, "\"");
}

void span_zipkin_add(struct sb *out, const struct span *s)
{
	sb_add(out, "{\"traceId\":\"");
	hex(out, s->trace_id, sizeof(s->trace_id));
	sb_add(out, "\",\"id\":\"");
	hex(out, s->span_id, sizeof(s->span_id));
	if (s->has_parent) {
		sb_add(out, "\",\"parentId\":\"");
		hex(out, s->parent_id, sizeof(s->parent_id));
	}
	sb_addf(out, "\",\"kind\":\"%s\",\"name\":", s->server ? "SERVER" : "CLIENT");
	text(out, s->name);
	sb_addf(out, ",\"timestamp\":%" PRIu64 ",\"duration\":%" PRIu64 ",\"localEndpoint\":{\"serviceName\":",
		s->start_ns / 1000, s->end_ns > s->start_ns ? (s->end_ns - s->start_ns + 999) / 1000 : 1);
	text(out, s->service);
	sb_add(out, "},\"tags\":{");
	for (size_t i = 0; i < s->attribute_count; i++) {
		const struct span_attribute *a = &s->attributes[i];
		sb_add(out, i ? "," : "");
		text(out, a->key);
		sb_add(out, ":");
		if (a->text)
			text(out, a->text);
		else
			sb_addf(out, "\"%" PRId64 "\"", a->number);
	}
	sb_addf(out, "%s}}", s->error ? (s->attribute_count ? ",\"error\":\"true\"" : "\"error\":\"true\"") : "");
}
