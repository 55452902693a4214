/* SPDX-License-Identifier: Apache-2.0 */
/* nghttp2's memory. Each session has a buffer of one frame, 16 KiB, to put together what it sends: most of what an idle
 * connection would keep. It holds nothing from one call of nghttp2_session_mem_send() to the next, since http2_output.c
 * takes each frame whole before it asks for another. So the sessions of a thread share one. (Further buffers, of header
 * blocks beyond 16 KiB, are allocated as they are needed and freed after.) */
#include "agent/helper/http/http2_internal.h"

#include <nghttp2/nghttp2.h>
#include <stdlib.h>

enum { FRAME_MIN = 16384, FRAME_MAX = 16384 + 64 };

static _Thread_local uint8_t frame[FRAME_MAX];
static _Thread_local bool making;

/* NULL: not the frame buffer. */
static void *take_frame(size_t size)
{
	if (!making || size < FRAME_MIN || size > FRAME_MAX)
		return NULL;
	making = false; /* the first only */
	return frame;
}

static void *memory_malloc(size_t size, void *arg)
{
	(void)arg;
	void *p = take_frame(size);
	return p ? p : malloc(size);
}

static void memory_free(void *p, void *arg)
{
	(void)arg;
	if (p != frame)
		free(p);
}

static void *memory_calloc(size_t n, size_t size, void *arg)
{
	(void)arg;
	return calloc(n, size);
}

static void *memory_realloc(void *p, size_t size, void *arg)
{
	(void)arg;
	if (p == frame)
		abort(); /* only with a callback that we don't set; going on would free what is not ours */
	void *q = p ? NULL : take_frame(size);
	return q ? q : realloc(p, size);
}

static nghttp2_mem memory = { NULL, memory_malloc, memory_free, memory_calloc, memory_realloc };

void *http2_memory(bool now_making)
{
	making = now_making;
	return &memory;
}
