/* SPDX-License-Identifier: Apache-2.0 */
/* What bytes may stand where, RFC 9110 5.5 and 5.6.2, 9112 3. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A token's bytes in lower case; 0: not of a token. */
extern const uint8_t http_token_lower[256];

static inline uint64_t http_word(const char *p)
{
	uint64_t w;
	memcpy(&w, p, sizeof(w));
	return w;
}

#define HTTP_ONES 0x0101010101010101ull
#define HTTP_HIGHS 0x8080808080808080ull

/* Not 0 when one of eight bytes is below `limit` (1..128) or is DEL. Exact for "is there one", not for where. */
static inline uint64_t http_word_odd(uint64_t w, uint8_t limit)
{
	uint64_t del = w ^ (HTTP_ONES * 0x7f);
	return (((w - HTTP_ONES * limit) & ~w) | ((del - HTTP_ONES) & ~del)) & HTTP_HIGHS;
}

/* A field value's bytes: anything but controls (HTAB is allowed). */
static inline bool http_text_ok(const char *p, size_t n)
{
	for (; n >= 8; p += 8, n -= 8) {
		if (!http_word_odd(http_word(p), 0x20))
			continue;
		for (int i = 0; i < 8; i++) {
			uint8_t c = (uint8_t)p[i];
			if ((c < 0x20 && c != '\t') || c == 0x7f)
				return false;
		}
	}
	for (; n; p++, n--) {
		uint8_t c = (uint8_t)*p;
		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return false;
	}
	return true;
}

/* A request target's bytes: visible ASCII. */
static inline bool http_visible(const char *p, size_t n)
{
	for (; n >= 8; p += 8, n -= 8) {
		uint64_t w = http_word(p);
		if (http_word_odd(w, 0x21) || (w & HTTP_HIGHS))
			return false;
	}
	for (; n; p++, n--) {
		uint8_t c = (uint8_t)*p;
		if (c < 0x21 || c > 0x7e)
			return false;
	}
	return true;
}

static inline bool http_blank(char c)
{
	return c == ' ' || c == '\t';
}
