/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes on their way: a FIFO that holds no memory while it is empty, because most connections are idle.
 * Zero-initialise. One owner, one thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct buffer {
	uint8_t *p;
	uint32_t off, len, cap; /* bytes are p[off..off+len) */
};

int buffer_append(struct buffer *b, const void *bytes, size_t len); /* 0 or -ENOMEM; all or nothing */
/* Room for len bytes at the end, to be filled and counted with buffer_added(). NULL: no memory. */
uint8_t *buffer_reserve(struct buffer *b, size_t len);
static inline void buffer_added(struct buffer *b, size_t len)
{
	b->len += (uint32_t)len;
}
static inline uint8_t *buffer_head(const struct buffer *b)
{
	return b->p + b->off;
}
void buffer_consume(struct buffer *b, size_t len); /* frees the memory when nothing is left */
void buffer_done(struct buffer *b);
