/* SPDX-License-Identifier: Apache-2.0 */
/* Two passes: spelling (escapes, backslashes) from the input to the output, then segments and slashes within the
 * output. Most paths need neither: one look at each byte says so. */
#include "agent/model/http_path.h"

#include <errno.h>
#include <string.h>

enum { PLAIN = 0, BAD = 1, ESCAPE = 2, LOOK = 4, UNRESERVED = 8 };

/* BAD: refused. ESCAPE: not of a URI (RFC 3986 2), written as %XX. LOOK: may make a difference. UNRESERVED: never
 * escaped. */
static unsigned int kind_of(unsigned char c)
{
	if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
		return UNRESERVED;
	if (c <= 0x20 || c == 0x7f || c == '#')
		return BAD;
	if (c >= 0x80)
		return ESCAPE;
	switch (c) {
	case '-':
	case '_':
	case '~':
		return UNRESERVED;
	case '.':
		return UNRESERVED | LOOK;
	case '/':
	case '\\':
	case '%':
		return LOOK;
	case '"':
	case '<':
	case '>':
	case '?': /* an escaped one: as it is; a bare one begins the query */
	case '^':
	case '`':
	case '{':
	case '|':
	case '}':
		return ESCAPE;
	default:
		return PLAIN;
	}
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that "%XX" at p means; -1: it is none. */
static int escaped_byte(const char *p, size_t n)
{
	if (n < 3)
		return -1;
	int high = hex_value(p[1]), low = hex_value(p[2]);
	return high < 0 || low < 0 ? -1 : high << 4 | low;
}

static int check_only(const char *path, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((kind_of((unsigned char)path[i]) & BAD) || (path[i] == '%' && escaped_byte(path + i, n - i) == 0))
			return -EINVAL;
	return 1;
}

/* Whether the look at each byte found nothing to change. */
static bool is_normal(enum path_normalization mode, const char *path, size_t n)
{
	bool merge = mode != PATH_BASE;
	for (size_t i = 0; i < n; i++) {
		unsigned int kind = kind_of((unsigned char)path[i]);
		if (!(kind & (LOOK | BAD | ESCAPE)))
			continue;
		if (kind & (BAD | ESCAPE))
			return false;
		bool after_slash = i > 0 && path[i - 1] == '/';
		if (path[i] == '/' ? merge && after_slash : path[i] != '.' || after_slash)
			return false;
	}
	return true;
}

static int spell(enum path_normalization mode, const char *path, size_t n, char *out, size_t *out_len)
{
	static const char hex[] = "0123456789ABCDEF";
	bool slashes = mode == PATH_DECODE_AND_MERGE_SLASHES;
	char *to = out;
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)path[i];
		unsigned int kind = kind_of(c);
		if (kind & BAD)
			return -EINVAL;
		if (c == '\\') {
			*to++ = '/';
		} else if (kind & ESCAPE) {
			*to++ = '%';
			*to++ = hex[c >> 4];
			*to++ = hex[c & 15];
		} else if (c == '%') {
			int byte = escaped_byte(path + i, n - i);
			if (byte <= 0)
				return -EINVAL;
			if (kind_of((unsigned char)byte) & UNRESERVED) {
				*to++ = (char)byte;
			} else if (slashes && (byte == '/' || byte == '\\')) {
				*to++ = '/';
			} else {
				memcpy(to, path + i, 3);
				to += 3;
			}
			i += 2;
		} else {
			*to++ = (char)c;
		}
	}
	*out_len = (size_t)(to - out);
	return 0;
}

/* How many dots the segment is: 0 for none of "." and "..", -1 for one of them with parameters. */
static int dots(const char *segment, size_t n)
{
	size_t k = 0;
	while (k < n && k < 2 && segment[k] == '.')
		k++;
	if (k == n)
		return (int)k;
	return k && segment[k] == ';' ? -1 : 0;
}

/* RFC 3986 5.2.4, in place: what is written is never longer than what was read. */
static int resolve(char *path, size_t *len, bool merge)
{
	size_t n = *len, to = 1; /* path[0] is the first slash; path[to - 1] is always one here */
	for (size_t i = 1; i <= n;) {
		size_t end = i;
		while (end < n && path[end] != '/')
			end++;
		int up = dots(path + i, end - i);
		if (up < 0)
			return -EINVAL;
		if (up == 2 && to > 1) {
			to--;
			while (path[to - 1] != '/')
				to--;
		}
		bool empty = end == i && end < n; /* between two slashes */
		if (up == 0 && !(empty && merge)) {
			memmove(path + to, path + i, end - i);
			to += end - i;
			if (end < n)
				path[to++] = '/';
		}
		i = end + 1;
	}
	*len = to;
	return 0;
}

int http_path_normalise(enum path_normalization mode, const char *path, size_t n, char *out, size_t *out_len)
{
	if (n == 1 && path[0] == '*')
		return 1;
	if (n == 0 || (path[0] != '/' && (mode == PATH_NONE || path[0] != '\\')))
		return -EINVAL;
	if (mode == PATH_NONE)
		return check_only(path, n);
	if (is_normal(mode, path, n))
		return 1;
	int rc = spell(mode, path, n, out, out_len);
	return rc < 0 ? rc : resolve(out, out_len, mode != PATH_BASE);
}

bool http_query_valid(const char *query, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)query[i];
		if (c <= 0x20 || c == 0x7f || c == '#')
			return false;
	}
	return true;
}
