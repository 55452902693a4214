/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/buffer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BUFFER_MIN = 256, BUFFER_MAX = 1 << 28 };

uint8_t *buffer_reserve(struct buffer *b, size_t len)
{
	if (len > BUFFER_MAX - b->len)
		return NULL;

	size_t need = b->len + len;
	if (b->off + need <= b->cap)
		return b->p + b->off + b->len;
	if (need <= b->cap && b->off >= b->cap / 2) {
		memmove(b->p, b->p + b->off, b->len);
		b->off = 0;
		return b->p + b->len;
	}

	size_t cap = b->cap ? b->cap : BUFFER_MIN;
	while (cap < need)
		cap *= 2;
	uint8_t *p = malloc(cap);
	if (!p)
		return NULL;
	if (b->len)
		memcpy(p, b->p + b->off, b->len);
	free(b->p);
	b->p = p;
	b->off = 0;
	b->cap = (uint32_t)cap;
	return p + b->len;
}

int buffer_append(struct buffer *b, const void *bytes, size_t len)
{
	if (len == 0)
		return 0;
	uint8_t *to = buffer_reserve(b, len);
	if (!to)
		return -ENOMEM;
	memcpy(to, bytes, len);
	buffer_added(b, len);
	return 0;
}

void buffer_consume(struct buffer *b, size_t len)
{
	b->off += (uint32_t)len;
	b->len -= (uint32_t)len;
	if (b->len == 0)
		buffer_done(b);
}

void buffer_done(struct buffer *b)
{
	free(b->p);
	*b = (struct buffer){ 0 };
}
