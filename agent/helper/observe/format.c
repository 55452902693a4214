/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of access logs: text formats and JSON templates with %operators% in them. */
#include "agent/helper/observe/format.h"

#include "agent/base/str.h"
#include "agent/helper/observe/operator.h"

#include <string.h>

const char access_log_text[] =
	"[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% "
	"%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "
	"\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% "
	"%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" "
	"\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER% "
	"%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% "
	"%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

const char access_log_json[] =
	"{\"start_time\":\"%START_TIME%\",\"method\":\"%REQ(:METHOD)%\","
	"\"path\":\"%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%\",\"protocol\":\"%PROTOCOL%\","
	"\"response_code\":\"%RESPONSE_CODE%\",\"response_flags\":\"%RESPONSE_FLAGS%\","
	"\"response_code_details\":\"%RESPONSE_CODE_DETAILS%\","
	"\"connection_termination_details\":\"%CONNECTION_TERMINATION_DETAILS%\","
	"\"upstream_transport_failure_reason\":\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\","
	"\"bytes_received\":\"%BYTES_RECEIVED%\",\"bytes_sent\":\"%BYTES_SENT%\",\"duration\":\"%DURATION%\","
	"\"upstream_service_time\":\"%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%\","
	"\"x_forwarded_for\":\"%REQ(X-FORWARDED-FOR)%\",\"user_agent\":\"%REQ(USER-AGENT)%\","
	"\"request_id\":\"%REQ(X-REQUEST-ID)%\",\"authority\":\"%REQ(:AUTHORITY)%\","
	"\"upstream_host\":\"%UPSTREAM_HOST%\",\"upstream_cluster\":\"%UPSTREAM_CLUSTER%\","
	"\"upstream_local_address\":\"%UPSTREAM_LOCAL_ADDRESS%\","
	"\"downstream_local_address\":\"%DOWNSTREAM_LOCAL_ADDRESS%\","
	"\"downstream_remote_address\":\"%DOWNSTREAM_REMOTE_ADDRESS%\","
	"\"requested_server_name\":\"%REQUESTED_SERVER_NAME%\",\"route_name\":\"%ROUTE_NAME%\"}\n";

/* What strangers write must not begin a new line or look like one. */
static void text_escape(struct sb *out, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)p[i];
		if (c >= 0x20 && c != 0x7f && c != '"')
			sb_add_bytes(out, p + i, 1);
		else
			sb_addf(out, c == '"' ? "\\\"" : "\\x%02x", c);
	}
}

static bool is_utf8_tail(const char *p, size_t n, size_t at, size_t count)
{
	for (size_t i = 1; i <= count; i++)
		if (at + i >= n || ((unsigned char)p[at + i] & 0xc0) != 0x80)
			return false;
	return true;
}

/* Bytes that are no UTF-8 become U+FFFD. */
static void json_escape(struct sb *out, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)p[i];
		size_t tail = c >= 0xf0 && c < 0xf5 ? 3 : c >= 0xe0 && c < 0xf0 ? 2 : c >= 0xc2 && c < 0xe0 ? 1 : 0;
		if (c == '"' || c == '\\')
			sb_addf(out, "\\%c", c);
		else if (c < 0x20)
			sb_addf(out, "\\u%04x", c);
		else if (c < 0x80)
			sb_add_bytes(out, p + i, 1);
		else if (tail && is_utf8_tail(p, n, i, tail)) {
			sb_add_bytes(out, p + i, tail + 1);
			i += tail;
		} else
			sb_add(out, "\\ufffd");
	}
}

void record_format(const struct request_record *r, const char *format, struct sb *out)
{
	for (const char *p = format; *p;) {
		size_t plain = strcspn(p, "%");
		struct operator_text op;
		bool number;
		sb_add_bytes(out, p, plain);
		p += plain;
		if (!*p)
			break;
		size_t n = operator_find(p, &op);
		if (n && !operator_write(r, op, out, &number))
			sb_add(out, "-");
		if (!n) {
			sb_add(out, "%");
			n = p[1] == '%' ? 2 : 1;
		}
		p += n;
	}
}

void record_format_line(const struct request_record *r, const char *format, struct sb *out)
{
	struct sb value = { 0 };
	for (const char *p = format; *p;) {
		size_t plain = strcspn(p, "%");
		struct operator_text op;
		bool number;
		sb_add_bytes(out, p, plain);
		p += plain;
		if (!*p)
			break;
		size_t n = operator_find(p, &op);
		value.len = 0;
		if (n && operator_write(r, op, &value, &number))
			text_escape(out, value.p ? value.p : "", value.len);
		else
			sb_add(out, n ? "-" : "%");
		p += n ? n : p[1] == '%' ? 2 : 1;
	}
	out->failed |= value.failed;
	sb_done(&value);
}

/* The string in which p lies is this operator alone: numbers stand bare then, and what is absent is null. */
static bool is_whole_string(const struct sb *out, const char *after)
{
	return out->len && out->p[out->len - 1] == '"' && *after == '"';
}

void record_format_json(const struct request_record *r, const char *format, struct sb *out)
{
	struct sb value = { 0 };
	for (const char *p = format; *p;) {
		size_t plain = strcspn(p, "%");
		struct operator_text op;
		bool number = false;
		sb_add_bytes(out, p, plain);
		p += plain;
		if (!*p || out->failed)
			break;
		size_t n = operator_find(p, &op);
		if (!n) {
			sb_add(out, "%");
			p += p[1] == '%' ? 2 : 1;
			continue;
		}
		value.len = 0;
		bool there = operator_write(r, op, &value, &number);
		bool whole = is_whole_string(out, p + n) && (number || !there);
		if (whole)
			out->len--; /* the quote before */
		if (there)
			json_escape(out, value.p ? value.p : "", value.len);
		else
			sb_add(out, whole ? "null" : "-");
		p += n + whole;
	}
	out->failed |= value.failed;
	sb_done(&value);
}
