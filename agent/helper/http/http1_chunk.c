/* SPDX-License-Identifier: Apache-2.0 */
/* The framing of chunks, byte by byte: nothing is kept between calls but a number. RFC 9112 7.1. Extensions are
 * skipped; the blanks that the grammar has around them (BWS) are refused before the first one, as after a size
 * without any. */
#include "agent/helper/http/http1_parse.h"

enum { SIZE, EXTENSION, SIZE_LF, DATA, DATA_CR, DATA_LF, ENDED };
/* 60 bits of size never overflow; extensions are of no use to anybody known. */
enum { DIGITS_MAX = 15, EXTENSION_MAX = 1024 };

static int hex_value(uint8_t b)
{
	if (b >= '0' && b <= '9')
		return b - '0';
	b |= 0x20;
	return b >= 'a' && b <= 'f' ? b - 'a' + 10 : -1;
}

static bool size_byte(struct http1_chunks *c, uint8_t b)
{
	int v = hex_value(b);
	if (v >= 0) {
		c->left = c->left << 4 | (uint64_t)v;
		return ++c->digits <= DIGITS_MAX;
	}
	if (c->digits == 0)
		return false;
	if (b == '\r')
		c->state = SIZE_LF;
	else if (b == ';')
		c->state = EXTENSION;
	else
		return false;
	c->extension = 0;
	return true;
}

static bool extension_byte(struct http1_chunks *c, uint8_t b)
{
	if (b == '\r') {
		c->state = SIZE_LF;
		return true;
	}
	return ++c->extension <= EXTENSION_MAX && (b == '\t' || b >= 0x20) && b != 0x7f;
}

static bool framing_byte(struct http1_chunks *c, uint8_t b)
{
	switch (c->state) {
	case SIZE:
		return size_byte(c, b);
	case EXTENSION:
		return extension_byte(c, b);
	case SIZE_LF:
		c->digits = 0;
		c->state = c->left ? DATA : ENDED;
		return b == '\n';
	case DATA_CR:
		c->state = DATA_LF;
		return b == '\r';
	case DATA_LF:
		c->state = SIZE;
		return b == '\n';
	default:
		return false;
	}
}

enum http1_chunk http1_chunk_next(struct http1_chunks *c, const uint8_t *bytes, size_t len, size_t *used)
{
	size_t i = 0;
	while (c->state != DATA && c->state != ENDED) {
		if (i == len) {
			*used = i;
			return HTTP1_CHUNK_MORE;
		}
		if (!framing_byte(c, bytes[i++])) {
			*used = i;
			return HTTP1_CHUNK_BAD;
		}
	}
	*used = i;
	return c->state == DATA ? HTTP1_CHUNK_DATA : HTTP1_CHUNK_LAST;
}

void http1_chunk_taken(struct http1_chunks *c, size_t n)
{
	c->left -= n;
	if (c->left == 0)
		c->state = DATA_CR;
}
