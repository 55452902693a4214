/* SPDX-License-Identifier: Apache-2.0 */
/* Timers, signals, file watches and mailboxes: libuv's, which the loop's epoll watches by one descriptor. Each starts with
 * the uv handle that it wraps, and is freed in that one's close callback, so a callback may free its own. */
#include "agent/base/loop_internal.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/err.h"

enum { MAILBOX_BATCH = 256, MAILBOX_FIRST_CAP = 16 };

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

void loop_handle_closed(uv_handle_t *uv)
{
	free(uv); /* the wrapper starts with it */
}

static void handle_close(void *wrapper)
{
	uv_handle_t *uv = wrapper;
	if (uv && !uv_is_closing(uv))
		uv_close(uv, loop_handle_closed);
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

void loop_mailbox_closed(uv_handle_t *uv)
{
	struct mailbox *box = (struct mailbox *)uv;
	pthread_mutex_destroy(&box->lock);
	free(box->ring);
	free(box);
}

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
	uv_close((uv_handle_t *)&box->uv, loop_mailbox_closed);
}
