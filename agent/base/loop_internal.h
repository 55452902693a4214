/* SPDX-License-Identifier: Apache-2.0 */
/* What loop.c (epoll, the tick) and loop_uv.c (timers, signals, file watches, mailboxes) share. */
#pragma once

#include "agent/base/loop.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uv.h>

#include "agent/base/pace.h"

struct deferred {
	void (*fn)(void *arg);
	void *arg;
};

TAILQ_HEAD(io_list, loop_io);

struct loop {
	uv_loop_t uv;
	uv_async_t stop_async;
	int epoll_fd;
	bool stopped;
	bool uv_ready; /* libuv has events to handle, or descriptors to register with its epoll */
	struct io_list ios, dead;
	size_t armed;			   /* loop_io that wait for something: they keep the loop alive */
	struct deferred *deferred, *spare; /* spare: what ran last, to be filled next */
	size_t deferred_count, deferred_cap, spare_cap;
	uint64_t now_ns; /* 0: not asked yet in this tick */
	bool paced;
	struct pace pace;
};

/* Close callbacks, for who closes handles of any kind. A wrapper starts with its handle, and is freed here. */
void loop_handle_closed(uv_handle_t *uv);
void loop_mailbox_closed(uv_handle_t *uv);
