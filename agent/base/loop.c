/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors are watched by an epoll instance of our own; libuv does timers, signals, file watches and wake-ups, and its
 * own epoll descriptor is one of those that ours watches. (uv_poll_t costs two system calls for each change of what is
 * waited for, where epoll needs one, and several times the memory.) A tick is: wait, descriptors, libuv when it has
 * something due, deferred functions, reap.
 *
 * A callback may free its own handle: a loop_io that is freed stays allocated, marked, until the end of the tick, since
 * epoll may have returned it in the same batch; the others start with the uv handle that they wrap, and are freed in its
 * close callback. */
#include "agent/base/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/queue.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/pace.h"

enum { IO_BATCH = 256, MAILBOX_BATCH = 256, MAILBOX_FIRST_CAP = 16, DEFERRED_ROUNDS = 4 };

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

struct loop_io {
	TAILQ_ENTRY(loop_io) link;
	struct loop *loop;
	loop_io_fn fn;
	void *arg;
	int fd, events;
	bool dead;
};

struct loop_timer {
	uv_timer_t uv;
	loop_timer_fn fn;
	void *arg;
};

struct loop_signal {
	uv_signal_t uv;
	void (*fn)(int signum, void *arg);
	void *arg;
};

struct loop_watch {
	uv_fs_event_t uv;
	loop_watch_fn fn;
	void *arg;
};

struct mailbox {
	uv_async_t uv;
	void (*on_message)(void *message, void *arg);
	void *arg;
	bool freed;
	pthread_mutex_t lock; /* guards what follows */
	void **ring;
	size_t cap, head, count, limit;
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

static void on_closed(uv_handle_t *uv)
{
	free(uv); /* the wrapper starts with it */
}

static void handle_close(void *wrapper)
{
	uv_handle_t *uv = wrapper;
	if (uv && !uv_is_closing(uv))
		uv_close(uv, on_closed);
}

/* Hands over a new handle, or frees it when libuv refused it; rc is libuv's, which is -errno. */
static int handle_made(struct loop *loop, void *wrapper, int rc, void *out)
{
	loop->uv_ready = true; /* it may have a descriptor to register */
	if (rc < 0)
		free(wrapper);
	else
		memcpy(out, &wrapper, sizeof(wrapper));
	return rc;
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

static void mailbox_release(uv_handle_t *uv)
{
	struct mailbox *box = (struct mailbox *)uv;
	pthread_mutex_destroy(&box->lock);
	free(box->ring);
	free(box);
}

static void on_walk_close(uv_handle_t *uv, void *arg)
{
	const struct loop *loop = arg;
	if (uv_is_closing(uv))
		return;
	if (uv == (const uv_handle_t *)&loop->stop_async)
		uv_close(uv, NULL);
	else
		uv_close(uv, uv->type == UV_ASYNC ? mailbox_release : on_closed);
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

/* --- timers, signals, files --- */

static void on_timer(uv_timer_t *uv)
{
	struct loop_timer *timer = (struct loop_timer *)uv;
	timer->fn(timer, timer->arg);
}

int loop_timer_new(struct loop *loop, loop_timer_fn fn, void *arg, struct loop_timer **out)
{
	struct loop_timer *timer = calloc(1, sizeof(*timer));
	if (!timer)
		return -ENOMEM;
	timer->fn = fn;
	timer->arg = arg;
	return handle_made(loop, timer, uv_timer_init(&loop->uv, &timer->uv), out);
}

void loop_timer_start(struct loop_timer *timer, uint64_t after_ms, uint64_t repeat_ms)
{
	uv_timer_start(&timer->uv, on_timer, after_ms, repeat_ms);
}

void loop_timer_stop(struct loop_timer *timer)
{
	uv_timer_stop(&timer->uv);
}

void loop_timer_free(struct loop_timer *timer)
{
	handle_close(timer);
}

static void on_signal(uv_signal_t *uv, int signum)
{
	struct loop_signal *signal = (struct loop_signal *)uv;
	signal->fn(signum, signal->arg);
}

int loop_signal_new(struct loop *loop, int signum, void (*fn)(int signum, void *arg), void *arg,
		    struct loop_signal **out)
{
	struct loop_signal *signal = calloc(1, sizeof(*signal));
	if (!signal)
		return -ENOMEM;
	signal->fn = fn;
	signal->arg = arg;
	int rc = uv_signal_init(&loop->uv, &signal->uv);
	if (rc < 0)
		return handle_made(loop, signal, rc, out);

	rc = uv_signal_start(&signal->uv, on_signal, signum);
	if (rc < 0) {
		handle_close(signal);
		return rc;
	}
	return handle_made(loop, signal, 0, out);
}

void loop_signal_free(struct loop_signal *signal)
{
	handle_close(signal);
}

static void on_fs_event(uv_fs_event_t *uv, const char *name, int events, int status)
{
	struct loop_watch *watch = (struct loop_watch *)uv;
	(void)events;
	watch->fn(watch, status < 0 ? NULL : name, watch->arg);
}

int loop_watch_new(struct loop *loop, const char *path, loop_watch_fn fn, void *arg, struct loop_watch **out,
		   struct err *err)
{
	struct loop_watch *watch = calloc(1, sizeof(*watch));
	if (!watch)
		return err_set(err, -ENOMEM, "watch %s: allocate", path);
	watch->fn = fn;
	watch->arg = arg;
	int rc = uv_fs_event_init(&loop->uv, &watch->uv);
	if (rc < 0) {
		free(watch);
		return err_sys(err, rc, "watch %s", path);
	}
	rc = uv_fs_event_start(&watch->uv, on_fs_event, path, 0);
	if (rc < 0) {
		handle_close(watch);
		const char *hint = rc == -ENOSPC || rc == -EMFILE ? " (raise sysctl fs.inotify.*)" : "";
		return err_sys(err, rc, "watch %s%s", path, hint);
	}
	return handle_made(loop, watch, 0, out);
}

void loop_watch_free(struct loop_watch *watch)
{
	handle_close(watch);
}

/* --- mailbox --- */

static void *mailbox_take(struct mailbox *box, bool *more)
{
	void *message = NULL;
	pthread_mutex_lock(&box->lock);
	if (box->count) {
		message = box->ring[box->head];
		box->head = (box->head + 1) % box->cap;
		box->count--;
	}
	*more = box->count > 0;
	pthread_mutex_unlock(&box->lock);
	return message;
}

static void on_async(uv_async_t *uv)
{
	struct mailbox *box = (struct mailbox *)uv;
	bool more = true;
	for (int i = 0; i < MAILBOX_BATCH && more; i++) {
		void *message = mailbox_take(box, &more);
		if (!message)
			return;
		box->on_message(message, box->arg);
		if (box->freed)
			return;
	}
	if (more)
		uv_async_send(uv);
}

int mailbox_new(struct loop *loop, size_t limit, void (*on_message)(void *message, void *arg), void *arg,
		struct mailbox **out)
{
	struct mailbox *box = calloc(1, sizeof(*box));
	if (!box)
		return -ENOMEM;
	box->on_message = on_message;
	box->arg = arg;
	box->limit = limit;
	box->cap = MAILBOX_FIRST_CAP;
	box->ring = calloc(box->cap, sizeof(*box->ring));
	if (!box->ring) {
		free(box);
		return -ENOMEM;
	}
	pthread_mutex_init(&box->lock, NULL);
	int rc = uv_async_init(&loop->uv, &box->uv, on_async);
	if (rc < 0) {
		pthread_mutex_destroy(&box->lock);
		free(box->ring);
	}
	return handle_made(loop, box, rc, out);
}

/* With the lock held: room for one more. A ring that wraps is laid out anew from its head. */
static int mailbox_grow(struct mailbox *box)
{
	if (box->count < box->cap)
		return 0;

	size_t cap = box->cap * 2;
	void **ring = calloc(cap, sizeof(*ring));
	if (!ring)
		return -ENOBUFS;
	for (size_t i = 0; i < box->count; i++)
		ring[i] = box->ring[(box->head + i) % box->cap];
	free(box->ring);
	box->ring = ring;
	box->cap = cap;
	box->head = 0;
	return 0;
}

int mailbox_post(struct mailbox *box, void *message)
{
	pthread_mutex_lock(&box->lock);
	int rc = box->count < box->limit ? mailbox_grow(box) : -ENOBUFS;
	bool first = box->count == 0;
	if (rc == 0)
		box->ring[(box->head + box->count++) % box->cap] = message;
	/* Under the lock: once the loop's thread has the message, it may free the mailbox. */
	if (rc == 0 && first)
		uv_async_send(&box->uv);
	pthread_mutex_unlock(&box->lock);
	return rc;
}

void mailbox_free(struct mailbox *box, void (*on_left)(void *message))
{
	if (!box)
		return;

	box->freed = true;
	bool more = true;
	void *message;
	while (more && (message = mailbox_take(box, &more)))
		if (on_left)
			on_left(message);
	uv_close((uv_handle_t *)&box->uv, mailbox_release);
}
