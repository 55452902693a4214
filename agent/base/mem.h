/* SPDX-License-Identifier: Apache-2.0 */
/* Ownership helpers: scope cleanup, moving out of a scope, containers of members. */
#pragma once

#include <stddef.h>
#include <stdlib.h>

/* AUTO(foo_freep) struct foo *f = ...;  runs foo_freep(&f) at the end of the scope. */
#define AUTO(fn) __attribute__((cleanup(fn)))
/* TAKE(p): the value of p, with p set to NULL, so that its AUTO does nothing. */
#define TAKE(p)                                                                                                        \
	({                                                                                                             \
		__typeof__(p) taken_ = (p);                                                                            \
		(p) = NULL;                                                                                            \
		taken_;                                                                                                \
	})
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* For AUTO on malloc'ed pointers of any type and on file descriptors (-1: none). */
void mem_freep(void *pointer_to_pointer);
void fd_closep(int *fd);

/* Grows *array (element size `size`) so that it holds `need` elements; *cap is the capacity. 0 or -ENOMEM. */
int mem_reserve(void *array, size_t *cap, size_t need, size_t size);
