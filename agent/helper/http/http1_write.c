/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/http/http1_write.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "agent/base/hash.h"
#include "agent/base/loop.h"
#include "agent/helper/http/http_chars.h"

enum { DATE_LEN = sizeof("date: Sun, 06 Nov 1994 08:49:37 GMT\r\n") - 1, OTHER_MAX = 384 };

static char *put(char *to, const char *p, size_t n)
{
	memcpy(to, p, n);
	return to + n;
}
#define PUT(to, literal) put(to, literal, sizeof(literal) - 1)

static char *put_string(char *to, struct http_string s)
{
	return s.n ? put(to, s.p, s.n) : to;
}

static char *put_number(char *to, uint64_t v)
{
	char digits[20];
	size_t n = 0;
	do
		digits[n++] = (char)('0' + v % 10);
	while (v /= 10);
	while (n)
		*to++ = digits[--n];
	return to;
}

size_t http1_chunk_write(char *to, uint64_t size)
{
	static const char hex[] = "0123456789abcdef";
	int shift = size ? (63 - __builtin_clzll(size)) & ~3 : 0;
	char *p = to;
	for (; shift >= 0; shift -= 4)
		*p++ = hex[size >> shift & 15];
	p = PUT(p, "\r\n");
	return (size_t)(p - to);
}

static char *put_date(char *to, uint64_t now_ns)
{
	static _Thread_local struct {
		uint64_t until_ns;
		char text[DATE_LEN + 1];
	} date;
	if (now_ns >= date.until_ns) {
		uint64_t wall = clock_wall_ns();
		time_t seconds = (time_t)(wall / 1000000000);
		struct tm tm;
		gmtime_r(&seconds, &tm);
		/* The helper never calls setlocale(). */
		strftime(date.text, sizeof(date.text), "date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
		date.until_ns = now_ns + 1000000000 - wall % 1000000000;
	}
	return put(to, date.text, DATE_LEN);
}

/* The codec says these itself. */
static bool is_framing(uint16_t id)
{
	switch (id) {
	case HTTP_CONNECTION:
	case HTTP_CONTENT_LENGTH:
	case HTTP_KEEP_ALIVE:
	case HTTP_PROXY_CONNECTION:
	case HTTP_TRANSFER_ENCODING:
	case HTTP_UPGRADE:
		return true;
	default:
		return false;
	}
}

static char *put_fields(char *to, const struct http_head *head, bool request, bool *dated)
{
	for (size_t i = 0; i < head->field_count; i++) {
		const struct http_field *f = &head->fields[i];
		if (f->id) {
			if (is_framing(f->id) || (request && f->id == HTTP_HOST))
				continue;
			*dated |= f->id == HTTP_DATE;
		}
		to = put(to, f->as_sent ? f->as_sent : f->name.p, f->name.n);
		*to++ = ':';
		*to++ = ' ';
		to = put_string(to, f->value);
		*to++ = '\r';
		*to++ = '\n';
	}
	return to;
}

/* One of the names above, as the message's sender wrote it where that is to be kept. */
static char *put_name(char *to, const struct http_head *head, enum http_spelt which, const char *lower, size_t n)
{
	const char *as_sent = head->spelling ? head->spelling->of[which] : NULL;
	to = put(to, as_sent ? as_sent : lower, n);
	return PUT(to, ": ");
}
#define PUT_NAME(to, head, which, lower) put_name(to, head, which, lower, sizeof(lower) - 1)

static char *put_connection(char *to, const struct http_head *head, const struct http1_framing *f)
{
	if (f->length) {
		to = PUT_NAME(to, head, HTTP_SPELT_CONTENT_LENGTH, "content-length");
		to = put_number(to, head->content_length > 0 ? (uint64_t)head->content_length : 0);
		to = PUT(to, "\r\n");
	} else if (f->chunked) {
		to = PUT_NAME(to, head, HTTP_SPELT_TRANSFER_ENCODING, "transfer-encoding");
		to = PUT(to, "chunked\r\n");
	}
	if (f->upgrade) {
		to = PUT_NAME(to, head, HTTP_SPELT_CONNECTION, "connection");
		to = PUT(to, "upgrade\r\n");
		to = PUT_NAME(to, head, HTTP_SPELT_UPGRADE, "upgrade");
		to = put_string(to, head->protocol.p ? head->protocol : http_get_id(head, HTTP_UPGRADE));
		to = PUT(to, "\r\n");
	} else if (f->close || f->keep_alive) {
		to = PUT_NAME(to, head, HTTP_SPELT_CONNECTION, "connection");
		to = f->close ? PUT(to, "close\r\n") : PUT(to, "keep-alive\r\n");
	}
	return PUT(to, "\r\n");
}

size_t http1_head_room(const struct http_head *head, const struct http1_framing *f)
{
	/* text_bytes is a count for limits, and members may have been changed behind its back: not to be trusted
	 * here. */
	size_t n = f->method.n + head->path.n + head->authority.n + head->protocol.n + OTHER_MAX;
	for (size_t i = 0; i < head->field_count; i++)
		n += (size_t)head->fields[i].name.n + head->fields[i].value.n + 4;
	return f->upgrade ? n + http_get_id(head, HTTP_UPGRADE).n : n;
}

/* A nonce, not a secret: RFC 6455 4.1. */
static char *put_websocket_key(char *to, uint64_t now_ns)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	static _Thread_local uint64_t count;
	uint64_t from[2] = { now_ns, ++count };
	uint64_t random[2] = { hash_keyed(from, sizeof(from)), 0 };
	random[1] = hash_keyed(random, sizeof(random));
	uint8_t b[sizeof(random)];
	memcpy(b, random, sizeof(b));

	to = PUT(to, "sec-websocket-key: ");
	for (int i = 0; i < 15; i += 3) {
		uint32_t v = (uint32_t)b[i] << 16 | (uint32_t)b[i + 1] << 8 | b[i + 2];
		for (int shift = 18; shift >= 0; shift -= 6)
			*to++ = digits[v >> shift & 63];
	}
	*to++ = digits[b[15] >> 2];
	*to++ = digits[(b[15] & 3) << 4];
	return PUT(to, "==\r\n");
}

size_t http1_request_write(char *to, const struct http_head *head, const struct http1_framing *f)
{
	struct http_string target = head->path, host = head->authority;
	if (!target.n)
		target = http_is(f->method, "CONNECT") ? host : (struct http_string){ "/", 1 };
	if (!f->method.n || !target.n || !http_name_valid(f->method.p, f->method.n) ||
	    !http_visible(target.p, target.n) || !http_visible(host.p, host.n))
		return 0;
	char *p = put_string(to, f->method);
	*p++ = ' ';
	p = put_string(p, target);
	p = PUT(p, " HTTP/1.1\r\n");
	p = PUT_NAME(p, head, HTTP_SPELT_HOST, "host");
	p = put_string(p, host);
	p = PUT(p, "\r\n");
	bool dated = true;
	p = put_fields(p, head, true, &dated);
	if (head->expect_continue) {
		p = PUT_NAME(p, head, HTTP_SPELT_EXPECT, "expect");
		p = PUT(p, "100-continue\r\n");
	}
	if (f->websocket_key) {
		if (!http_get(head, "sec-websocket-key").p)
			p = put_websocket_key(p, f->now_ns);
		if (!http_get(head, "sec-websocket-version").p)
			p = PUT(p, "sec-websocket-version: 13\r\n");
	}
	p = put_connection(p, head, f);
	return (size_t)(p - to);
}

static char *put_status_line(char *to, uint16_t status)
{
	if (status == 200)
		return PUT(to, "HTTP/1.1 200 OK\r\n");
	to = PUT(to, "HTTP/1.1 ");
	to = put_number(to, status);
	*to++ = ' ';
	const char *reason = http_reason(status);
	to = put(to, reason, strlen(reason));
	return PUT(to, "\r\n");
}

size_t http1_response_write(char *to, const struct http_head *head, const struct http1_framing *f)
{
	if (f->status < 100 || f->status > 999)
		return 0;
	char *p = put_status_line(to, f->status);
	bool dated = false;
	p = put_fields(p, head, false, &dated);
	if (f->date && !dated)
		p = put_date(p, f->now_ns);
	p = put_connection(p, head, f);
	return (size_t)(p - to);
}

size_t http1_trailers_write(char *to, const struct http_head *trailers)
{
	bool dated = true;
	char *p = put_fields(to, trailers, false, &dated);
	p = PUT(p, "\r\n");
	return (size_t)(p - to);
}

size_t http1_refusal_write(char to[HTTP1_REFUSAL_MAX], uint16_t status, uint64_t now_ns)
{
	char *p = put_status_line(to, status);
	p = PUT(p, "content-length: 0\r\nconnection: close\r\n");
	if (status == 426)
		p = PUT(p, "upgrade: HTTP/1.1\r\n");
	p = put_date(p, now_ns);
	p = PUT(p, "\r\n");
	return (size_t)(p - to);
}
