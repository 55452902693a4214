/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of access logs: text formats and JSON templates with %operators% in them. */
#include "agent/helper/observe/format.h"

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/helper/observe/escape.h"
#include "agent/helper/observe/operator.h"

#include <stdlib.h>
#include <string.h>

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

/* Literal text, then an operator's value. */
struct piece {
	const char *text;
	size_t len;
	struct access_operator call; /* name NULL: none */
	bool whole;		     /* JSON: it is a string of its own, whose quotes are not in the text */
};

struct log_format {
	bool json;
	char *text;
	struct piece *pieces;
	size_t count, cap;
};

/* The literal text up to the next operator, which *out is. Returns where what is behind it begins; a piece of text ends
 * with the percent sign that it has to show. */
static const char *piece_read(const char *p, bool json, struct piece *out)
{
	size_t len = strcspn(p, "%");
	*out = (struct piece){ .text = p, .len = len };
	p += len;
	if (!*p)
		return p;
	size_t n = access_operator_read(p, &out->call);
	/* One that has no end in its own string must not reach into the next. */
	if (n && (!json || !memchr(p, '"', n)))
		return p + n;
	out->call = (struct access_operator){ 0 };
	out->len++; /* a lone percent sign is itself, and two are one */
	return p + (p[1] == '%' ? 2 : 1);
}

void record_format(const struct request_record *r, const char *format, struct sb *out)
{
	while (*format) {
		struct piece piece;
		format = piece_read(format, false, &piece);
		sb_add_bytes(out, piece.text, piece.len);
		if (piece.call.name && !operator_write(r, &piece.call, out))
			sb_add(out, "-");
	}
}

/* "%X%" between two quotes of JSON's own, and not an object's key. */
static bool is_whole(const struct piece *p, const char *after)
{
	size_t escapes = 0;
	if (!p->call.name || !p->len || p->text[p->len - 1] != '"' || *after != '"')
		return false;
	while (escapes + 1 < p->len && p->text[p->len - 2 - escapes] == '\\')
		escapes++;
	after += 1 + strspn(after + 1, " \t\r\n");
	return escapes % 2 == 0 && *after != ':';
}

struct log_format *log_format_new(const char *text, bool json)
{
	struct log_format *f = calloc(1, sizeof(*f));
	if (!f)
		return NULL;
	f->json = json;
	f->text = strdup(text);
	bool ok = f->text != NULL;
	for (const char *p = f->text; ok && *p;) {
		ok = mem_reserve(&f->pieces, &f->cap, f->count + 1, sizeof(*f->pieces)) == 0;
		if (!ok)
			break;
		struct piece *piece = &f->pieces[f->count++];
		p = piece_read(p, json, piece);
		piece->whole = json && is_whole(piece, p);
		piece->len -= piece->whole;
		p += piece->whole;
	}
	if (ok)
		return f;
	log_format_free(f);
	return NULL;
}

void log_format_free(struct log_format *f)
{
	if (!f)
		return;
	free(f->pieces);
	free(f->text);
	free(f);
}

void log_format_write(const struct log_format *f, const struct request_record *r, struct sb *out)
{
	for (size_t i = 0; i < f->count; i++) {
		const struct piece *p = &f->pieces[i];
		sb_add_bytes(out, p->text, p->len);
		if (!p->call.name)
			continue;
		bool quotes = p->whole && p->call.value != ACCESS_NUMBER;
		size_t before = out->len;
		if (quotes)
			sb_add_bytes(out, "\"", 1);
		size_t value = out->len;
		if (operator_write(r, &p->call, out)) {
			escape_since(out, value, f->json);
			if (quotes)
				sb_add_bytes(out, "\"", 1);
		} else if (!out->failed) {
			out->len = before;
			sb_add(out, p->whole ? "null" : "-");
		}
	}
}
