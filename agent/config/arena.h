/* SPDX-License-Identifier: Apache-2.0 */
/* An arena: many small allocations that die together. The arena itself lives in its first chunk, so a small resource
 * is one malloc. Not thread-safe while it is being filled. */
#pragma once

#include <stddef.h>

struct arena;

/* first_size: bytes of the first chunk, header included. NULL: no memory. */
struct arena *arena_new(size_t first_size);
void arena_free(struct arena *a); /* NULL is fine */
void arena_freep(struct arena **a);
/* Drops all allocations, keeping the first chunk for reuse. */
void arena_reset(struct arena *a);
/* Zeroed, aligned to 8. NULL: no memory. */
void *arena_alloc(struct arena *a, size_t size);
/* For text: not zeroed, not aligned. */
char *arena_bytes(struct arena *a, size_t size);
char *arena_strdup(struct arena *a, const char *text);
char *arena_strndup(struct arena *a, const char *text, size_t len);
char *arena_format(struct arena *a, const char *format, ...) __attribute__((format(printf, 2, 3)));
size_t arena_size(const struct arena *a); /* bytes taken from malloc */
