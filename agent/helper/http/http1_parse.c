/* SPDX-License-Identifier: Apache-2.0 */
/* Heads, line by line: the first line, then fields, then a look at the whole (framing, Host, upgrade).
 *
 * What frames or routes the message leaves the fields and becomes a member: Host, Content-Length, Transfer-Encoding
 * and "Expect: 100-continue". Each of them is allowed once. The first fault in the order of the bytes is the one
 * reported. */
#include "agent/helper/http/http1_parse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "agent/base/mem.h"
#include "agent/helper/http/http_chars.h"

/* More names in Connection fields than this are an attack on whoever removes them. */
enum { CONNECTION_TOKENS_MAX = 64, LENGTH_DIGITS_MAX = 18 };

static int fail(struct http1_fault *fault, enum http_bad why, uint16_t status)
{
	*fault = (struct http1_fault){ why, status };
	return -EBADMSG;
}

void http1_parse_begin(struct http1_parser *p, enum http1_kind kind)
{
	http_head_free(p->head);
	*p = (struct http1_parser){ .kind = kind };
}

struct http_head *http1_parse_take(struct http1_parser *p)
{
	struct http_head *head = p->head;
	p->head = NULL;
	return head;
}

/* --- the request line */

static bool host_char(uint8_t c)
{
	/* unreserved, sub-delims and "%" of pct-encoded */
	return http_token_lower[c] ? c != '#' && c != '^' && c != '`' && c != '|' :
				     c == '(' || c == ')' || c == ',' || c == ';' || c == '=';
}

static bool literal_char(uint8_t c) /* in brackets: an IPv6 address, with its zone */
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == ':' || c == '.' ||
	       c == '%' || c == '-' || c == '_' || c == '~';
}

bool http1_authority_valid(const char *p, size_t n, bool need_port)
{
	const char *end = p + n, *host = p;
	if (n && *p == '[') {
		for (p++; p < end && *p != ']'; p++)
			if (!literal_char((uint8_t)*p))
				return false;
		if (p == end || p == host + 1)
			return false;
		p++;
	} else {
		while (p < end && host_char((uint8_t)*p))
			p++;
		if (p == host)
			return false;
	}
	if (p == end)
		return !need_port;
	if (*p++ != ':')
		return false;
	if (p == end)
		return !need_port; /* "host:" is the default port */
	uint32_t port = 0;
	for (; p < end; p++) {
		if (*p < '0' || *p > '9')
			return false;
		port = port * 10 + (uint32_t)(*p - '0');
		if (port > UINT16_MAX)
			return false;
	}
	return true;
}

/* "http://authority/path?query": what it says overrides Host. RFC 9112 3.2.2. */
static int target_absolute(struct http1_parser *p, struct http_string t, struct http1_fault *fault)
{
	struct http_head *h = p->head;
	uint32_t scheme = t.n > 8 && strncasecmp(t.p, "https://", 8) == 0 ? 5 :
			  t.n > 7 && strncasecmp(t.p, "http://", 7) == 0  ? 4 :
									    0;
	if (!scheme)
		return fail(fault, HTTP_BAD_REQUEST_LINE, 400);
	const char *authority = t.p + scheme + 3, *end = t.p + t.n, *path = authority;
	while (path < end && *path != '/' && *path != '?')
		path++;
	if (!http1_authority_valid(authority, (size_t)(path - authority), false))
		return fail(fault, HTTP_BAD_HOST, 400);

	h->scheme = (struct http_string){ scheme == 5 ? "https" : "http", scheme };
	h->authority = (struct http_string){ authority, (uint32_t)(path - authority) };
	p->absolute = true;
	uint32_t n = (uint32_t)(end - path);
	if (n && *path == '/')
		h->path = (struct http_string){ path, n };
	else if (n)
		h->path = http_head_textf(h, "/%.*s", (int)n, path);
	else
		h->path = (struct http_string){ http_is(h->method, "OPTIONS") ? "*" : "/", 1 };
	return h->path.p ? 0 : -ENOMEM;
}

static int target_parse(struct http1_parser *p, struct http_string t, struct http1_fault *fault)
{
	struct http_head *h = p->head;
	if (!http_visible(t.p, t.n) || memchr(t.p, '#', t.n))
		return fail(fault, HTTP_BAD_REQUEST_LINE, 400);
	if (http_is(h->method, "CONNECT")) {
		if (!http1_authority_valid(t.p, t.n, true))
			return fail(fault, HTTP_BAD_HOST, 400);
		h->authority = t;
		p->absolute = true;
		return 0;
	}
	if (t.p[0] == '/') {
		h->path = t;
		return 0;
	}
	if (t.n == 1 && t.p[0] == '*') {
		if (!http_is(h->method, "OPTIONS"))
			return fail(fault, HTTP_BAD_REQUEST_LINE, 400);
		h->path = t;
		return 0;
	}
	return target_absolute(p, t, fault);
}

/* "HTTP/1.1". 0: a version; 1: none. */
static int version_parse(const char *p, size_t n, enum http_version *out, bool *known)
{
	if (n != 8 || memcmp(p, "HTTP/", 5) != 0 || p[5] < '0' || p[5] > '9' || p[6] != '.' || p[7] < '0' || p[7] > '9')
		return 1;
	*known = p[5] == '1' && (p[7] == '0' || p[7] == '1');
	*out = p[7] == '0' ? HTTP_1_0 : HTTP_1_1;
	return 0;
}

/* Who greets in another protocol would take an answer in HTTP/1 for something of his own. A request, however broken,
 * begins with a method or ends with a version. */
static bool is_foreign(const char *line, size_t n)
{
	static const char *const methods[] = { "GET",	  "HEAD",  "POST",  "PUT",    "DELETE",
					       "OPTIONS", "PATCH", "TRACE", "CONNECT" };
	const char *blank = n ? memchr(line, ' ', n) : NULL, *last = n ? memrchr(line, ' ', n) : NULL;
	struct http_string first = { line, (uint32_t)(blank ? blank - line : (ptrdiff_t)n) };
	for (size_t i = 0; i < ARRAY_SIZE(methods); i++)
		if (http_is_nocase(first, methods[i]))
			return false;
	return n && !(last && line + n - last > 5 && strncasecmp(last + 1, "HTTP/", 5) == 0);
}

static int request_line(struct http1_parser *p, const struct http_limits *limits, const char *line, size_t n,
			struct http1_fault *fault)
{
	struct http_head *h = p->head;
	struct http_string text = http_head_text(h, line, n);
	if (!text.p)
		return -ENOMEM;
	const char *end = text.p + text.n;
	const char *space = memchr(text.p, ' ', text.n);
	if (is_foreign(text.p, text.n))
		return fail(fault, HTTP_BAD_REQUEST_LINE, 0);
	if (!space || !http_name_valid(text.p, (size_t)(space - text.p)) || space + 1 == end)
		return fail(fault, HTTP_BAD_REQUEST_LINE, 400);
	h->method = (struct http_string){ text.p, (uint32_t)(space - text.p) };

	const char *target = space + 1, *target_end = memchr(target, ' ', (size_t)(end - target));
	if (!target_end) { /* HTTP/0.9 has no version */
		bool old = http_is(h->method, "GET") && http_visible(target, (size_t)(end - target));
		return fail(fault, old ? HTTP_BAD_VERSION : HTTP_BAD_REQUEST_LINE, old ? 505 : 400);
	}
	bool known;
	if (target_end == target || version_parse(target_end + 1, (size_t)(end - target_end - 1), &h->version, &known))
		return fail(fault, HTTP_BAD_REQUEST_LINE, 400);
	if (!known)
		return fail(fault, HTTP_BAD_VERSION, 505);
	if (h->version == HTTP_1_0 && !limits->accept_http10)
		return fail(fault, HTTP_BAD_VERSION, 426);
	return target_parse(p, (struct http_string){ target, (uint32_t)(target_end - target) }, fault);
}

/* "HTTP/1.1 200 OK"; the phrase, and the blank before it, may be left out. */
static int status_line(struct http1_parser *p, const char *line, size_t n, struct http1_fault *fault)
{
	bool known;
	if (n < 12 || version_parse(line, 8, &p->head->version, &known) || !known || line[8] != ' ')
		return fail(fault, HTTP_BAD_REQUEST_LINE, 502);
	uint16_t status = 0;
	for (int i = 9; i < 12; i++) {
		if (line[i] < '0' || line[i] > '9')
			return fail(fault, HTTP_BAD_REQUEST_LINE, 502);
		status = (uint16_t)(status * 10 + (line[i] - '0'));
	}
	if (status < 100 || (n > 12 && line[12] != ' ') || !http_text_ok(line + 12, n - 12))
		return fail(fault, HTTP_BAD_REQUEST_LINE, 502);
	p->head->status = status;
	return 0;
}

/* --- fields that mean something to the codec. 1: not kept among the fields. */

static int field_length(struct http1_parser *p, struct http_string v, struct http1_fault *fault)
{
	if (p->head->content_length >= 0 || v.n == 0 || v.n > LENGTH_DIGITS_MAX)
		return fail(fault, HTTP_BAD_FRAMING, 400);
	int64_t length = 0;
	for (uint32_t i = 0; i < v.n; i++) {
		if (v.p[i] < '0' || v.p[i] > '9')
			return fail(fault, HTTP_BAD_FRAMING, 400);
		length = length * 10 + (v.p[i] - '0');
	}
	p->head->content_length = length;
	return 1;
}

static int field_coding(struct http1_parser *p, struct http_string v, struct http1_fault *fault)
{
	static const char chunked[] = "chunked";
	enum { LEN = sizeof(chunked) - 1 };
	if (p->coded || p->head->version == HTTP_1_0)
		return fail(fault, HTTP_BAD_FRAMING, 400);
	p->coded = true;
	if (v.n == LEN && strncasecmp(v.p, chunked, LEN) == 0) {
		p->chunked = true;
		return 1;
	}
	/* Framed as it should be, but coded as well: RFC 9112 6.1 has 501 for that. */
	if (v.n > LEN && strncasecmp(v.p + v.n - LEN, chunked, LEN) == 0) {
		struct http_string before = { v.p, v.n - LEN };
		while (before.n && http_blank(before.p[before.n - 1]))
			before.n--;
		if (before.n > 1 && before.p[before.n - 1] == ',' && !http_list_has(before, chunked))
			return fail(fault, HTTP_BAD_FRAMING, 501);
	}
	return fail(fault, HTTP_BAD_FRAMING, 400);
}

static int field_connection(struct http1_parser *p, struct http_string v, struct http1_fault *fault)
{
	if (http_is_nocase(v, "keep-alive")) { /* most often */
		p->keep_alive = true;
		return 0;
	}
	for (uint32_t i = 0; i < v.n; i++)
		p->connection_tokens = (uint16_t)(p->connection_tokens + (v.p[i] == ','));
	if (++p->connection_tokens > CONNECTION_TOKENS_MAX)
		return fail(fault, HTTP_BAD_FIELD, 400);
	p->close |= http_list_has(v, "close");
	p->keep_alive |= http_list_has(v, "keep-alive");
	p->connection_upgrade |= http_list_has(v, "upgrade");
	return 0;
}

static int field_special(struct http1_parser *p, enum http_name id, struct http_string v, struct http1_fault *fault)
{
	switch (id) {
	case HTTP_CONTENT_LENGTH:
		return field_length(p, v, fault);
	case HTTP_TRANSFER_ENCODING:
		return field_coding(p, v, fault);
	case HTTP_CONNECTION:
		return field_connection(p, v, fault);
	case HTTP_HOST:
		if (p->kind != HTTP1_REQUEST)
			return 0;
		if (p->has_host || !http1_authority_valid(v.p, v.n, false))
			return fail(fault, HTTP_BAD_HOST, 400);
		p->has_host = true;
		if (!p->absolute)
			p->head->authority = v;
		return 1;
	case HTTP_EXPECT:
		if (p->kind != HTTP1_REQUEST || !http_is_nocase(v, "100-continue"))
			return 0;
		p->head->expect_continue = true;
		return 1;
	case HTTP_UPGRADE:
		p->upgrade = v;
		p->upgrades = p->upgrades < 2 ? p->upgrades + 1 : 2;
		return 0;
	default:
		return 0;
	}
}

/* Trailers can't frame or route what was read already; what belongs to the hop is left out. */
static int field_trailer(enum http_name id, struct http1_fault *fault)
{
	switch (id) {
	case HTTP_CONTENT_LENGTH:
	case HTTP_TRANSFER_ENCODING:
	case HTTP_HOST:
		return fail(fault, HTTP_BAD_FRAMING, 400);
	case HTTP_AUTHORIZATION:
	case HTTP_CONNECTION:
	case HTTP_EXPECT:
	case HTTP_KEEP_ALIVE:
	case HTTP_PROXY_CONNECTION:
	case HTTP_TE:
	case HTTP_TRAILER:
	case HTTP_UPGRADE:
		return 1;
	default:
		return 0;
	}
}

/* The names that the codec writes itself when it sends the message on. */
static void spell(struct http1_parser *p, enum http_name id, const char *as_sent, size_t n)
{
	static const uint8_t which[HTTP_NAME_COUNT] = {
		[HTTP_HOST] = HTTP_SPELT_HOST + 1,
		[HTTP_CONTENT_LENGTH] = HTTP_SPELT_CONTENT_LENGTH + 1,
		[HTTP_TRANSFER_ENCODING] = HTTP_SPELT_TRANSFER_ENCODING + 1,
		[HTTP_EXPECT] = HTTP_SPELT_EXPECT + 1,
		[HTTP_CONNECTION] = HTTP_SPELT_CONNECTION + 1,
		[HTTP_UPGRADE] = HTTP_SPELT_UPGRADE + 1,
	};
	if (which[id])
		http_head_spell(p->head, (enum http_spelt)(which[id] - 1), as_sent, n);
}

static int field_line(struct http1_parser *p, const struct http_limits *limits, const char *line, size_t n,
		      struct http1_fault *fault)
{
	if (++p->fields > limits->field_count)
		return fail(fault, HTTP_BAD_TOO_LARGE, 431);
	struct http_head *h = p->head;
	char *room = http_head_room(h, n);
	if (!room)
		return -ENOMEM;
	size_t i = 0;
	for (; i < n && (room[i] = (char)http_token_lower[(uint8_t)line[i]]) != 0; i++)
		;
	/* A blank before the name (obs-fold) or the colon is not of a token. */
	if (i == 0 || i == n || line[i] != ':')
		return fail(fault, HTTP_BAD_FIELD, 400);

	const char *v = line + i + 1, *end = line + n;
	while (v < end && http_blank(*v))
		v++;
	while (end > v && http_blank(end[-1]))
		end--;
	size_t value_len = (size_t)(end - v);
	if (!http_text_ok(v, value_len))
		return fail(fault, HTTP_BAD_FIELD, 400);
	enum http_name id = http_name_id(room, i);
	struct http_string name = { room, (uint32_t)i }, value = { room + i, (uint32_t)value_len };
	memcpy(room + i, v, value_len);

	if (limits->preserve_case)
		spell(p, id, line, i);
	int rc = id == HTTP_NAME_OTHER	   ? 0 :
		 p->kind == HTTP1_TRAILERS ? field_trailer(id, fault) :
					     field_special(p, id, value, fault);
	if (rc != 0)
		return rc < 0 ? rc : 0;
	if (http_add_known(h, name, id, value) < 0)
		return -ENOMEM;
	if (limits->preserve_case)
		h->fields[h->field_count - 1].as_sent = http_head_text(h, line, i).p;
	return 0;
}

/* --- the whole */

static int head_check(struct http1_parser *p, struct http1_fault *fault)
{
	struct http_head *h = p->head;
	if (p->kind == HTTP1_TRAILERS)
		return 0;
	if (p->coded && h->content_length >= 0)
		return fail(fault, HTTP_BAD_FRAMING, 400);
	if (p->kind == HTTP1_RESPONSE) {
		if (h->status == 101) {
			h->upgrade = true;
			h->protocol = p->upgrade;
		}
		return 0;
	}
	if (!p->has_host && h->version == HTTP_1_1)
		return fail(fault, HTTP_BAD_HOST, 400);
	bool body = p->chunked || h->content_length > 0;
	if (!body || h->version == HTTP_1_0)
		h->expect_continue = false;
	/* One protocol, no body before it; h2c by Upgrade is obsolete (RFC 9113 3.1) and goes on as a plain request. */
	if (p->connection_upgrade && p->upgrades == 1 && h->version == HTTP_1_1 && !body && h->path.p &&
	    http_name_valid(p->upgrade.p, p->upgrade.n) && !http_is_nocase(p->upgrade, "h2c")) {
		h->upgrade = true;
		h->protocol = p->upgrade;
	}
	return 0;
}

int http1_parse_partial(const struct http1_parser *p, const struct http_limits *limits, size_t len,
			struct http1_fault *fault)
{
	if (p->bytes + len <= limits->head_bytes)
		return 0;
	bool uri = p->kind == HTTP1_REQUEST && !p->first_line_done;
	return fail(fault, HTTP_BAD_TOO_LARGE, uri ? 414 : 431);
}

/* One line without its end. 1: it was the empty one. */
static int line_parse(struct http1_parser *p, const struct http_limits *limits, const char *line, size_t n,
		      struct http1_fault *fault)
{
	if (p->first_line_done) {
		if (n)
			return field_line(p, limits, line, n, fault);
		int rc = head_check(p, fault);
		return rc < 0 ? rc : 1;
	}
	/* RFC 9112 2.2: an empty line before a request, as some clients send after a body. One. */
	if (n == 0 && p->kind == HTTP1_REQUEST && !p->blank_skipped) {
		p->blank_skipped = true;
		return 0;
	}
	p->first_line_done = true;
	return p->kind == HTTP1_REQUEST ? request_line(p, limits, line, n, fault) : status_line(p, line, n, fault);
}

/* An LF that no CR is before; n bytes are. */
static int line_end_bad(const struct http1_parser *p, const char *line, size_t n, struct http1_fault *fault)
{
	if (p->first_line_done)
		return fail(fault, HTTP_BAD_FIELD, p->kind == HTTP1_RESPONSE ? 502 : 400);
	bool foreign = p->kind == HTTP1_REQUEST && is_foreign(line, n);
	return fail(fault, HTTP_BAD_REQUEST_LINE, p->kind == HTTP1_RESPONSE ? 502 : foreign ? 0 : 400);
}

int http1_parse(struct http1_parser *p, const struct http_limits *limits, const uint8_t *bytes, size_t len,
		size_t *used, struct http1_fault *fault)
{
	*used = 0;
	if (!p->head) {
		p->head = http_head_new();
		if (!p->head)
			return -ENOMEM;
		p->first_line_done = p->kind == HTTP1_TRAILERS;
	}
	const char *at = (const char *)bytes, *end = at + len;
	while (at < end) {
		const char *lf = memchr(at, '\n', (size_t)(end - at));
		int rc = http1_parse_partial(p, limits, (size_t)((lf ? lf + 1 : end) - at), fault);
		if (rc < 0 || !lf)
			return rc;
		if (lf == at || lf[-1] != '\r')
			return line_end_bad(p, at, (size_t)(lf - at), fault);
		p->bytes += (uint32_t)(lf + 1 - at);
		*used += (size_t)(lf + 1 - at);
		rc = line_parse(p, limits, at, (size_t)(lf - 1 - at), fault);
		if (rc != 0)
			return rc;
		at = lf + 1;
	}
	return 0;
}
