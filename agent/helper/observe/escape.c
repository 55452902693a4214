/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/observe/escape.h"

#include "agent/base/str.h"

#include <string.h>

size_t escape_utf8_len(const char *text, size_t n)
{
	const unsigned char *p = (const unsigned char *)text;
	unsigned char c = n ? p[0] : 0xff;
	size_t len = c < 0x80		    ? 1 :
		     c >= 0xc2 && c <= 0xdf ? 2 :
		     c >= 0xe0 && c <= 0xef ? 3 :
		     c >= 0xf0 && c <= 0xf4 ? 4 :
					      0;
	if (len < 2 || n < len)
		return len == 1;
	/* The shortest form, no surrogates, up to 10FFFF. */
	unsigned char low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
	unsigned char high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
	if (p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

static bool is_plain(unsigned char c)
{
	return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

/* C1 controls (U+0085 is an end of line), U+2028 and U+2029: some readers begin a new line there. */
static unsigned int line_break(const char *text, size_t len)
{
	const unsigned char *p = (const unsigned char *)text;
	if (len == 2 && p[0] == 0xc2 && p[1] < 0xa0)
		return p[1];
	if (len == 3 && p[0] == 0xe2 && p[1] == 0x80 && (p[2] == 0xa8 || p[2] == 0xa9))
		return 0x2000u + (p[2] & 0x3f);
	return 0;
}

/* Appends one character, or one byte that is none. Returns how many bytes it was. */
static size_t escape_one(struct sb *out, const char *p, size_t n, bool json)
{
	unsigned char c = (unsigned char)*p;
	size_t len = escape_utf8_len(p, n);
	unsigned int breaks = line_break(p, len);

	if (c == '"' || c == '\\')
		sb_addf(out, "\\%c", c);
	else if (is_plain(c) || (len > 1 && !breaks))
		sb_add_bytes(out, p, len);
	else if (!json)
		for (size_t i = 0; i < (len ? len : 1); i++)
			sb_addf(out, "\\x%02x", (unsigned char)p[i]);
	else
		sb_addf(out, "\\u%04x", !len ? 0xfffd : breaks ? breaks : c);
	return len ? len : 1;
}

void escape_since(struct sb *out, size_t from, bool json)
{
	struct sb raw = { 0 };
	while (from < out->len && is_plain((unsigned char)out->p[from]))
		from++;
	if (from >= out->len || out->failed)
		return;
	sb_add_bytes(&raw, out->p + from, out->len - from);
	out->len = from;
	for (size_t i = 0; i < raw.len;)
		i += escape_one(out, raw.p + i, raw.len - i, json);
	out->failed |= raw.failed;
	sb_done(&raw);
}
