/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/config/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct chunk {
	struct chunk *next;
	size_t size; /* of data */
	char data[] __attribute__((aligned(8)));
};

struct arena {
	struct chunk *chunks; /* newest first; the first one ever holds the arena and is not in the list */
	char *at, *end;
	char *first_at, *first_end;
	size_t total;
};

enum { ARENA_CHUNK_MIN = 256, ARENA_CHUNK_MAX = 64 * 1024 };

struct arena *arena_new(size_t first_size)
{
	if (first_size < sizeof(struct arena) + ARENA_CHUNK_MIN)
		first_size = sizeof(struct arena) + ARENA_CHUNK_MIN;
	struct arena *a = malloc(first_size);
	if (!a)
		return NULL;
	*a = (struct arena){ .total = first_size };
	a->at = a->first_at = (char *)(a + 1);
	a->end = a->first_end = (char *)a + first_size;
	return a;
}

static void arena_drop_chunks(struct arena *a)
{
	while (a->chunks) {
		struct chunk *next = a->chunks->next;
		free(a->chunks);
		a->chunks = next;
	}
}

void arena_free(struct arena *a)
{
	if (!a)
		return;
	arena_drop_chunks(a);
	free(a);
}

void arena_freep(struct arena **a)
{
	arena_free(*a);
	*a = NULL;
}

void arena_reset(struct arena *a)
{
	arena_drop_chunks(a);
	a->at = a->first_at;
	a->end = a->first_end;
	a->total = (size_t)(a->first_end - (char *)a);
}

static char *arena_grow(struct arena *a, size_t size)
{
	/* Tens of thousands of arenas stay for good: what the last chunk has left over is to be small beside the rest. */
	size_t want = a->total / 4;
	if (size > SIZE_MAX / 2)
		return NULL;
	if (want < ARENA_CHUNK_MIN)
		want = ARENA_CHUNK_MIN;
	if (want > ARENA_CHUNK_MAX)
		want = ARENA_CHUNK_MAX;
	if (want < size)
		want = size;
	struct chunk *c = malloc(sizeof(*c) + want);
	if (!c)
		return NULL;
	c->next = a->chunks;
	c->size = want;
	a->chunks = c;
	a->total += sizeof(*c) + want;
	a->at = c->data + size;
	a->end = c->data + want;
	return c->data;
}

void *arena_alloc(struct arena *a, size_t size)
{
	char *p = (char *)(((uintptr_t)a->at + 7) & ~(uintptr_t)7);
	if (p <= a->end && size <= (size_t)(a->end - p))
		a->at = p + size;
	else
		p = arena_grow(a, size);
	if (p)
		memset(p, 0, size);
	return p;
}

char *arena_bytes(struct arena *a, size_t size)
{
	if (size > (size_t)(a->end - a->at))
		return arena_grow(a, size);
	char *p = a->at;
	a->at += size;
	return p;
}

char *arena_strndup(struct arena *a, const char *text, size_t len)
{
	char *p = len < SIZE_MAX ? arena_bytes(a, len + 1) : NULL;
	if (!p)
		return NULL;
	memcpy(p, text, len);
	p[len] = 0;
	return p;
}

char *arena_strdup(struct arena *a, const char *text)
{
	return arena_strndup(a, text, strlen(text));
}

char *arena_format(struct arena *a, const char *format, ...)
{
	va_list args, again;
	va_start(args, format);
	va_copy(again, args);
	int len = vsnprintf(NULL, 0, format, args);
	va_end(args);
	char *p = len < 0 ? NULL : arena_bytes(a, (size_t)len + 1);
	if (p)
		vsnprintf(p, (size_t)len + 1, format, again);
	va_end(again);
	return p;
}

size_t arena_size(const struct arena *a)
{
	return a->total;
}
