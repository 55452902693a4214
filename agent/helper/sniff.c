/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/sniff.h"

#include <stdbool.h>
#include <string.h>

#include "agent/base/mem.h"

enum { METHOD_MAX = 32, EMPTY_LINES_MAX = 2 };

/* --- HTTP --- */

static enum sniffed sniff_http2(const uint8_t *p, size_t n)
{
	static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
	size_t want = sizeof(preface) - 1;
	if (memcmp(p, preface, n < want ? n : want) != 0)
		return SNIFF_OTHER;
	return n < want ? SNIFF_MORE : SNIFF_HTTP2;
}

static bool is_token(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_known_method(const uint8_t *p, size_t n)
{
	static const char *const methods[] = { "GET",	  "HEAD",    "POST",  "PUT",	  "DELETE",
					       "CONNECT", "OPTIONS", "TRACE", "PATCH",	  "PROPFIND",
					       "MKCOL",	  "COPY",    "MOVE",  "LOCK",	  "UNLOCK",
					       "REPORT",  "SEARCH",  "PURGE", "PROPPATCH" };
	for (size_t i = 0; i < ARRAY_SIZE(methods); i++)
		if (strlen(methods[i]) == n && memcmp(methods[i], p, n) == 0)
			return true;
	return false;
}

/* " HTTP/1." behind the target. */
static enum sniffed sniff_version(const uint8_t *p, size_t n)
{
	static const char version[] = " HTTP/1.";
	size_t want = sizeof(version) - 1;
	if (memcmp(p, version, n < want ? n : want) != 0)
		return SNIFF_OTHER;
	return n < want ? SNIFF_MORE : SNIFF_HTTP1;
}

static enum sniffed sniff_http1(const uint8_t *p, size_t n)
{
	size_t at = 0;
	/* RFC 9112, 2.2: empty lines before a request are passed over. */
	for (int i = 0; i < EMPTY_LINES_MAX && at < n && p[at] == '\r'; i++, at += 2)
		if (at + 1 < n && p[at + 1] != '\n')
			return SNIFF_OTHER;
	if (at >= n)
		return SNIFF_MORE;
	p += at;
	n -= at;

	size_t method = 0;
	while (method < n && method < METHOD_MAX && is_token(p[method]))
		method++;
	if (method == n)
		return SNIFF_MORE;
	if (method == 0 || p[method] != ' ')
		return SNIFF_OTHER;
	size_t target = method + 1;
	if (target == n)
		return SNIFF_MORE;
	/* Others have commands of these names too (Redis: GET key), but not with such an argument. */
	if (p[target] == '/' && is_known_method(p, method))
		return SNIFF_HTTP1;
	size_t end = target;
	while (end < n && p[end] > ' ' && p[end] != 0x7f)
		end++;
	if (end == n)
		return SNIFF_MORE;
	return end == target ? SNIFF_OTHER : sniff_version(p + end, n - end);
}

/* --- TLS: a ClientHello, in one record or several (RFC 8446, 4.1.2, 5.1) --- */

enum { RECORD_HANDSHAKE = 22, CLIENT_HELLO = 1, EXTENSION_SERVER_NAME = 0, NAME_HOST = 0 };

struct reader {
	const uint8_t *p;
	size_t n;
	size_t record;	    /* bytes left in the present record */
	size_t left;	    /* of the message; read no further */
	enum sniffed state; /* SNIFF_TLS: so far so good */
};

static bool reader_stop(struct reader *r, enum sniffed state)
{
	if (r->state == SNIFF_TLS)
		r->state = state;
	return false;
}

static bool reader_record(struct reader *r)
{
	if (r->n >= 1 && r->p[0] != RECORD_HANDSHAKE)
		return reader_stop(r, SNIFF_OTHER);
	if (r->n >= 2 && r->p[1] != 3)
		return reader_stop(r, SNIFF_OTHER);
	if (r->n >= 3 && r->p[2] > 4)
		return reader_stop(r, SNIFF_OTHER);
	if (r->n < 5)
		return reader_stop(r, SNIFF_MORE);
	r->record = (size_t)r->p[3] << 8 | r->p[4];
	r->p += 5;
	r->n -= 5;
	if (r->record == 0 || r->record > 16384)
		return reader_stop(r, SNIFF_OTHER);
	return true;
}

/* Takes n bytes of the message; out NULL: passes over them. */
static bool take(struct reader *r, size_t n, uint8_t *out)
{
	if (r->state != SNIFF_TLS)
		return false;
	if (n > r->left)
		return reader_stop(r, SNIFF_OTHER);
	r->left -= n;
	while (n) {
		if (r->record == 0 && !reader_record(r))
			return false;
		if (r->n == 0)
			return reader_stop(r, SNIFF_MORE);
		size_t some = n < r->record ? n : r->record;
		if (some > r->n)
			some = r->n;
		if (out) {
			memcpy(out, r->p, some);
			out += some;
		}
		r->p += some;
		r->n -= some;
		r->record -= some;
		n -= some;
	}
	return true;
}

static size_t take_number(struct reader *r, size_t bytes)
{
	uint8_t b[3] = { 0 };
	size_t value = 0;
	if (!take(r, bytes, b))
		return 0;
	for (size_t i = 0; i < bytes; i++)
		value = value << 8 | b[i];
	return value;
}

static void take_name(struct reader *r, size_t len, char name[SNIFF_NAME_MAX])
{
	uint8_t text[SNIFF_NAME_MAX];
	size_t list = take_number(r, 2);
	size_t type = take_number(r, 1), n = take_number(r, 2);
	if (r->state != SNIFF_TLS)
		return;
	if (list + 2 != len || n + 3 > list || type != NAME_HOST || n == 0 || n >= SNIFF_NAME_MAX) {
		reader_stop(r, SNIFF_OTHER);
		return;
	}
	if (!take(r, n, text) || !take(r, list - 3 - n, NULL))
		return;
	for (size_t i = 0; i < n; i++) {
		uint8_t c = text[i];
		if (c >= 'A' && c <= 'Z')
			c = (uint8_t)(c + 'a' - 'A');
		bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
		if (!plain) {
			reader_stop(r, SNIFF_OTHER);
			return;
		}
		name[i] = (char)c;
	}
	name[n] = '\0';
}

static void take_extensions(struct reader *r, char name[SNIFF_NAME_MAX])
{
	size_t all = take_number(r, 2);
	if (r->state == SNIFF_TLS && all != r->left)
		reader_stop(r, SNIFF_OTHER);
	bool named = false;
	while (r->state == SNIFF_TLS && r->left) {
		size_t type = take_number(r, 2), len = take_number(r, 2);
		if (type != EXTENSION_SERVER_NAME || r->state != SNIFF_TLS) {
			take(r, len, NULL);
			continue;
		}
		if (named || len < 5 || len > r->left) {
			reader_stop(r, SNIFF_OTHER);
			return;
		}
		take_name(r, len, name);
		named = true;
	}
}

static enum sniffed sniff_tls(const uint8_t *p, size_t n, char name[SNIFF_NAME_MAX])
{
	struct reader r = { .p = p, .n = n, .left = 4, .state = SNIFF_TLS };
	size_t type = take_number(&r, 1);
	if (r.state == SNIFF_TLS && type != CLIENT_HELLO)
		return SNIFF_OTHER;
	size_t len = take_number(&r, 3);
	r.left = len;
	take(&r, 2 + 32, NULL); /* version, random */
	take(&r, take_number(&r, 1), NULL);
	take(&r, take_number(&r, 2), NULL);
	take(&r, take_number(&r, 1), NULL);
	if (r.state == SNIFF_TLS && r.left)
		take_extensions(&r, name);
	if (r.state != SNIFF_TLS)
		name[0] = '\0';
	return r.state;
}

enum sniffed sniff(const uint8_t *bytes, size_t len, char name[SNIFF_NAME_MAX])
{
	name[0] = '\0';
	if (len == 0)
		return SNIFF_MORE;
	if (len > SNIFF_MAX)
		len = SNIFF_MAX;
	enum sniffed what = bytes[0] == RECORD_HANDSHAKE ? sniff_tls(bytes, len, name) : sniff_http2(bytes, len);
	if (what == SNIFF_OTHER && bytes[0] != RECORD_HANDSHAKE)
		what = sniff_http1(bytes, len);
	return what == SNIFF_MORE && len >= SNIFF_MAX ? SNIFF_OTHER : what;
}

const char *sniff_server_name(enum sniffed what, const uint8_t *bytes, size_t len, const char *name)
{
	if (what == SNIFF_TLS)
		return name;
	return len && bytes[0] != RECORD_HANDSHAKE ? "" : NULL;
}
