/* SPDX-License-Identifier: Apache-2.0 */
/* Event loop, over libuv (which appears only in loop.c). One loop a thread; everything but
 * mailbox_post and loop_stop_async must be called on the loop's own thread. Callbacks may free
 * the handle that called them: memory is reaped at the end of the tick. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct err;
struct loop;
struct loop_io;
struct loop_timer;
struct loop_signal;
struct loop_watch;
struct mailbox;

/* LOOP_EXCLUSIVE, with LOOP_READ alone: loops that wait for one file (a listener's duplicates) are not all woken for each
 * event; they take turns. */
enum { LOOP_READ = 1, LOOP_WRITE = 2, LOOP_HANGUP = 4, LOOP_EXCLUSIVE = 8 };

int loop_new(struct loop **out, struct err *err);
void loop_free(struct loop *loop); /* closes handles that are still open */
void loop_run(struct loop *loop);  /* until loop_stop or no handle is left */
/* From now on it rests for moments when that saves work (base/pace.h); who reads tells of messages that it found behind others
 * in one read. */
void loop_pace(struct loop *loop);
void loop_read_together(struct loop *loop, uint32_t messages);
void loop_stop(struct loop *loop);
void loop_stop_async(struct loop *loop);       /* from any thread or signal handler */
uint64_t loop_now_ns(const struct loop *loop); /* CLOCK_MONOTONIC, cached for the tick */
uint64_t clock_now_ns(void);		       /* CLOCK_MONOTONIC, fresh */
uint64_t clock_wall_ns(void);		       /* CLOCK_REALTIME */

/* Readiness of a descriptor that the caller owns; level-triggered. events may be changed; 0 pauses. */
typedef void (*loop_io_fn)(struct loop_io *io, int events, void *arg);
/* New: paused; the fd is made non-blocking. At most one loop_io per fd. An error on the fd (POLLERR) is reported as the
 * events asked for plus LOOP_HANGUP. */
int loop_io_new(struct loop *loop, int fd, loop_io_fn fn, void *arg, struct loop_io **out);
/* The same in one system call, of an fd that is non-blocking already, waiting for events. */
int loop_io_open(struct loop *loop, int fd, int events, loop_io_fn fn, void *arg, struct loop_io **out);
int loop_io_set(struct loop_io *io, int events);
void loop_io_free(struct loop_io *io); /* before the fd is closed; NULL is fine */

typedef void (*loop_timer_fn)(struct loop_timer *timer, void *arg);
int loop_timer_new(struct loop *loop, loop_timer_fn fn, void *arg, struct loop_timer **out);
void loop_timer_start(struct loop_timer *timer, uint64_t after_ms, uint64_t repeat_ms); /* repeat 0: once */
void loop_timer_stop(struct loop_timer *timer);
void loop_timer_free(struct loop_timer *timer);

int loop_signal_new(struct loop *loop, int signum, void (*fn)(int signum, void *arg), void *arg,
		    struct loop_signal **out);
void loop_signal_free(struct loop_signal *signal);

/* A directory or file (inotify). name: the entry that changed, or NULL. */
typedef void (*loop_watch_fn)(struct loop_watch *watch, const char *name, void *arg);
int loop_watch_new(struct loop *loop, const char *path, loop_watch_fn fn, void *arg, struct loop_watch **out,
		   struct err *err);
void loop_watch_free(struct loop_watch *watch);

/* Runs fn once at the end of this tick (deferred frees and batching). */
void loop_defer(struct loop *loop, void (*fn)(void *arg), void *arg);

/* Messages between threads: a queue of pointers, bounded by `limit`. on_message runs on the loop's thread,
 * in order of posting, at most 256 a wake-up. */
int mailbox_new(struct loop *loop, size_t limit, void (*on_message)(void *message, void *arg), void *arg,
		struct mailbox **out);
int mailbox_post(struct mailbox *box, void *message); /* any thread; 0, or -ENOBUFS when full: caller keeps message */
void mailbox_free(struct mailbox *box, void (*on_left)(void *message)); /* what was not delivered goes to on_left */
