/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors are watched by an epoll instance of our own; libuv does timers, signals, file watches and wake-ups, and its
 * own epoll descriptor is one of those that ours watches. (uv_poll_t costs two system calls for each change of what is
 * waited for, where epoll needs one, and several times the memory.) A tick is: wait, descriptors, libuv when it has
 * something due, deferred functions, reap.
 *
 * A callback may free its own handle: a loop_io that is freed stays allocated, marked, until the end of the tick, since
 * epoll may have returned it in the same batch; the others start with the uv handle that they wrap, and are freed in its
 * close callback. */
#include "agent/base/loop_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/queue.h>
#include <time.h>
#include <unistd.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"

enum { IO_BATCH = 256, DEFERRED_ROUNDS = 4 };

struct loop_io {
	TAILQ_ENTRY(loop_io) link;
	struct loop *loop;
	loop_io_fn fn;
	void *arg;
	int fd, events;
	bool dead;
};

/* libuv would otherwise set up io_uring for each loop where it can: memory, and a system call that the helper's
 * seccomp filter forbids. One behaviour on all kernels. Read by libuv when the first loop is made. */
__attribute__((constructor)) static void loop_no_io_uring(void)
{
	setenv("UV_USE_IO_URING", "0", 0);
}

static uint64_t clock_ns(clockid_t id)
{
	struct timespec ts;
	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t clock_now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

uint64_t clock_wall_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}

static void loop_run_deferred(struct loop *loop)
{
	/* What they defer in turn is the next round's. After a few rounds descriptors have their turn again. */
	for (int round = 0; round < DEFERRED_ROUNDS && loop->deferred_count; round++) {
		struct deferred *batch = loop->deferred;
		size_t count = loop->deferred_count, cap = loop->deferred_cap;
		loop->deferred = loop->spare;
		loop->deferred_cap = loop->spare_cap;
		loop->deferred_count = 0;
		for (size_t i = 0; i < count; i++)
			batch[i].fn(batch[i].arg);
		loop->spare = batch;
		loop->spare_cap = cap;
	}
}

static void on_stop(uv_async_t *uv)
{
	loop_stop(container_of(uv, struct loop, stop_async));
}

static int loop_setup(struct loop *loop, struct err *err)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = NULL };
	int rc = uv_async_init(&loop->uv, &loop->stop_async, on_stop);
	if (rc < 0)
		return err_sys(err, rc, "loop: open eventfd (raise the limit of open files?)");
	uv_unref((uv_handle_t *)&loop->stop_async);

	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0 || epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, uv_backend_fd(&loop->uv), &event) < 0)
		return err_sys(err, -errno, "loop: open epoll (raise the limit of open files?)");
	return 0;
}

int loop_new(struct loop **out, struct err *err)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	if (!loop)
		return err_set(err, -ENOMEM, "loop: allocate");

	loop->epoll_fd = -1;
	loop->uv_ready = true;
	TAILQ_INIT(&loop->ios);
	TAILQ_INIT(&loop->dead);
	int rc = uv_loop_init(&loop->uv);
	if (rc < 0) {
		free(loop);
		return err_sys(err, rc, "loop: open epoll (raise the limit of open files?)");
	}
	rc = loop_setup(loop, err);
	if (rc < 0) {
		loop_free(loop);
		return rc;
	}
	*out = loop;
	return 0;
}

static void on_walk_close(uv_handle_t *uv, void *arg)
{
	const struct loop *loop = arg;
	if (uv_is_closing(uv))
		return;
	if (uv == (const uv_handle_t *)&loop->stop_async)
		uv_close(uv, NULL);
	else
		uv_close(uv, uv->type == UV_ASYNC ? loop_mailbox_closed : loop_handle_closed);
}

static void loop_reap(struct loop *loop)
{
	struct loop_io *io;
	while ((io = TAILQ_FIRST(&loop->dead))) {
		TAILQ_REMOVE(&loop->dead, io, link);
		free(io);
	}
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;

	/* Deferred work is mostly frees: it runs, and so does what it defers, while handles still work. */
	while (loop->deferred_count)
		loop_run_deferred(loop);
	while (!TAILQ_EMPTY(&loop->ios))
		loop_io_free(TAILQ_FIRST(&loop->ios));
	loop_reap(loop);
	uv_walk(&loop->uv, on_walk_close, loop);
	uv_run(&loop->uv, UV_RUN_DEFAULT);
	uv_loop_close(&loop->uv);
	fd_closep(&loop->epoll_fd);
	free(loop->deferred);
	free(loop->spare);
	free(loop);
}

static int io_events(const struct loop_io *io, uint32_t ready)
{
	/* An error or a hang-up of both directions comes unasked, and without the bits that were asked for: report those,
	 * so that the caller's read or write meets it. */
	if (ready & (EPOLLERR | EPOLLHUP))
		return (io->events & ~LOOP_EXCLUSIVE) | LOOP_HANGUP;

	int events = 0;
	if (ready & EPOLLIN)
		events |= LOOP_READ;
	if (ready & EPOLLOUT)
		events |= LOOP_WRITE;
	if (ready & EPOLLRDHUP)
		events |= LOOP_HANGUP;
	return events;
}

static struct epoll_event io_registration(struct loop_io *io, int events)
{
	/* A paused one stays registered: errors and hang-ups can't be masked, but edge-triggered they come once. */
	struct epoll_event event = { .events = events ? 0 : EPOLLET, .data.ptr = io };
	if (events & LOOP_READ)
		event.events |= EPOLLIN;
	if (events & LOOP_WRITE)
		event.events |= EPOLLOUT;
	if (events & LOOP_HANGUP)
		event.events |= EPOLLRDHUP;
	if (events & LOOP_EXCLUSIVE)
		event.events |= EPOLLEXCLUSIVE;
	return event;
}

/* The kernel lets an exclusive registration be made and removed, not changed. */
static void io_register_again(struct loop_io *io, int events)
{
	struct epoll_event event = io_registration(io, events);
	if (epoll_ctl(io->loop->epoll_fd, EPOLL_CTL_DEL, io->fd, NULL) < 0 ||
	    epoll_ctl(io->loop->epoll_fd, EPOLL_CTL_ADD, io->fd, &event) < 0)
		abort(); /* what it takes was just given back; going on would leave a listener deaf */
}

/* As epoll_pwait(), after a rest where that saves work. */
static int loop_poll(struct loop *loop, struct epoll_event *batch, int timeout_ms)
{
	static const struct timespec rest = { .tv_nsec = PACE_REST_NS };
	bool paced = loop->paced && timeout_ms != 0;
	if (paced && pace_before(&loop->pace, clock_now_ns()))
		nanosleep(&rest, NULL);
	int n = epoll_pwait(loop->epoll_fd, batch, IO_BATCH, timeout_ms, NULL);
	loop->now_ns = 0;
	if (paced)
		pace_after(&loop->pace, loop_now_ns(loop), n > 0 ? (uint32_t)n : 0);
	return n;
}

static void loop_wait(struct loop *loop, int timeout_ms)
{
	struct epoll_event batch[IO_BATCH];
	int n = loop_poll(loop, batch, timeout_ms);
	for (int i = 0; i < n; i++) {
		struct loop_io *io = batch[i].data.ptr;
		if (!io)
			loop->uv_ready = true;
		else if (!io->dead && io->events) /* else paused or freed by another callback of this batch */
			io->fn(io, io_events(io, batch[i].events), io->arg);
		/* The kernel wakes the first in its list that sleeps: who had its turn goes to the end. */
		if (io && !io->dead && io->events & LOOP_EXCLUSIVE)
			io_register_again(io, io->events);
	}
}

void loop_pace(struct loop *loop)
{
	loop->paced = true;
}

void loop_read_together(struct loop *loop, uint32_t messages)
{
	loop->pace.together += messages;
}

static bool loop_alive(const struct loop *loop)
{
	return loop->armed || loop->deferred_count || uv_loop_alive(&loop->uv);
}

void loop_run(struct loop *loop)
{
	while (!loop->stopped && loop_alive(loop)) {
		/* 0 also when libuv has handles to close or timers that are due */
		int timeout_ms = -1;
		uv_update_time(&loop->uv);
		if (loop->uv_ready || loop->deferred_count)
			timeout_ms = 0;
		else if (uv_loop_alive(&loop->uv))
			timeout_ms = uv_backend_timeout(&loop->uv);

		loop_wait(loop, timeout_ms);
		uv_update_time(&loop->uv);
		if (loop->uv_ready || (uv_loop_alive(&loop->uv) && uv_backend_timeout(&loop->uv) == 0)) {
			loop->uv_ready = false;
			uv_run(&loop->uv, UV_RUN_NOWAIT);
		}
		loop_run_deferred(loop);
		loop_reap(loop);
	}
	loop->stopped = false;
	loop->now_ns = 0;
}

void loop_stop(struct loop *loop)
{
	loop->stopped = true;
}

void loop_stop_async(struct loop *loop)
{
	uv_async_send(&loop->stop_async);
}

uint64_t loop_now_ns(const struct loop *loop)
{
	/* A cache: the loop is the same to the caller. Each loop_new() allocates, so none is really const. */
	struct loop *cache = (struct loop *)(uintptr_t)loop;
	if (!cache->now_ns)
		cache->now_ns = clock_now_ns();
	return cache->now_ns;
}

void loop_defer(struct loop *loop, void (*fn)(void *arg), void *arg)
{
	/* Deferred frees can't be refused, and losing one would corrupt memory later. */
	if (mem_reserve(&loop->deferred, &loop->deferred_cap, loop->deferred_count + 1, sizeof(*loop->deferred)) < 0)
		abort();
	loop->deferred[loop->deferred_count++] = (struct deferred){ fn, arg };
}

/* --- readiness --- */

int loop_io_open(struct loop *loop, int fd, int events, loop_io_fn fn, void *arg, struct loop_io **out)
{
	struct loop_io *io = calloc(1, sizeof(*io));
	if (!io)
		return -ENOMEM;

	struct epoll_event event = io_registration(io, events);
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
		int rc = -errno;
		free(io);
		return rc;
	}
	*io = (struct loop_io){ .loop = loop, .fn = fn, .arg = arg, .fd = fd, .events = events };
	loop->armed += events != 0;
	TAILQ_INSERT_TAIL(&loop->ios, io, link);
	*out = io;
	return 0;
}

int loop_io_new(struct loop *loop, int fd, loop_io_fn fn, void *arg, struct loop_io **out)
{
	int rc = loop_io_open(loop, fd, 0, fn, arg, out), on = 1;
	if (rc == 0)
		ioctl(fd, FIONBIO, &on);
	return rc;
}

int loop_io_set(struct loop_io *io, int events)
{
	if (events == io->events)
		return 0;

	struct epoll_event event = io_registration(io, events);
	if ((events | io->events) & LOOP_EXCLUSIVE)
		io_register_again(io, events);
	else if (epoll_ctl(io->loop->epoll_fd, EPOLL_CTL_MOD, io->fd, &event) < 0)
		return -errno;
	io->loop->armed += (size_t)(events != 0) - (size_t)(io->events != 0);
	io->events = events;
	return 0;
}

void loop_io_free(struct loop_io *io)
{
	if (!io || io->dead)
		return;

	/* A descriptor closed before would leave its registration behind if a duplicate of it is open, and epoll would
	 * return the freed memory. That is a mistake of the caller which must not go on. */
	if (epoll_ctl(io->loop->epoll_fd, EPOLL_CTL_DEL, io->fd, NULL) < 0)
		abort();
	if (io->events)
		io->loop->armed--;
	io->dead = true;
	TAILQ_REMOVE(&io->loop->ios, io, link);
	TAILQ_INSERT_TAIL(&io->loop->dead, io, link);
}
