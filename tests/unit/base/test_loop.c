/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/err.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/pace.h"

enum { GUARD_MS = 10000 };

/* A loop with a timer that stops a test which would otherwise hang; `fired` tells. */
struct fixture {
	struct loop *loop;
	struct loop_timer *guard;
	bool fired;
	int calls, events;
	struct loop_io *io;
	struct loop_timer *timer;
	struct mailbox *box;
	size_t got, limit;
	char name[64];
	int order[8];
};

static void on_guard(struct loop_timer *timer, void *arg)
{
	(void)timer;
	struct fixture *f = arg;
	f->fired = true;
	loop_stop(f->loop);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	assert_non_null(f);
	assert_int_equal(loop_new(&f->loop, NULL), 0);
	assert_int_equal(loop_timer_new(f->loop, on_guard, f, &f->guard), 0);
	loop_timer_start(f->guard, GUARD_MS, 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	bool hung = f->fired;
	loop_free(f->loop);
	free(f);
	return hung ? -1 : 0;
}

static void run_until_idle(struct fixture *f)
{
	loop_timer_free(TAKE(f->guard));
	loop_run(f->loop);
}

static void test_run_without_handles_returns(void **state)
{
	run_until_idle(*state);
}

static void on_io_once(struct loop_io *io, int events, void *arg)
{
	struct fixture *f = arg;
	f->calls++;
	f->events |= events;
	loop_io_free(io);
	loop_stop(f->loop);
}

static void test_io_readable_is_reported(void **state)
{
	struct fixture *f = *state;
	int s[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
	assert_int_equal(loop_io_new(f->loop, s[0], on_io_once, f, &f->io), 0);
	assert_int_equal(loop_io_set(f->io, LOOP_READ), 0);
	assert_int_equal(write(s[1], "x", 1), 1);
	loop_run(f->loop);
	assert_int_equal(f->calls, 1);
	assert_int_equal(f->events, LOOP_READ);
	close(s[0]);
	close(s[1]);
}

static void on_io_level(struct loop_io *io, int events, void *arg)
{
	(void)events;
	struct fixture *f = arg;
	if (++f->calls < 3)
		return; /* nothing is read: a level must be reported again */
	loop_io_set(io, 0);
	loop_stop(f->loop);
}

static void on_timer_stop(struct loop_timer *timer, void *arg)
{
	(void)timer;
	struct fixture *f = arg;
	loop_stop(f->loop);
}

static void test_io_is_level_triggered_and_zero_pauses(void **state)
{
	struct fixture *f = *state;
	int s[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
	assert_int_equal(loop_io_new(f->loop, s[0], on_io_level, f, &f->io), 0);
	loop_io_set(f->io, LOOP_READ);
	assert_int_equal(write(s[1], "x", 1), 1);
	loop_run(f->loop);
	assert_int_equal(f->calls, 3);

	assert_int_equal(loop_timer_new(f->loop, on_timer_stop, f, &f->timer), 0);
	loop_timer_start(f->timer, 5, 0);
	loop_run(f->loop);
	assert_int_equal(f->calls, 3);
	loop_io_free(f->io);
	close(s[0]);
	close(s[1]);
}

static void test_io_opened_waits_at_once(void **state)
{
	struct fixture *f = *state;
	int s[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s), 0);
	assert_int_equal(loop_io_open(f->loop, s[0], LOOP_READ, on_io_once, f, &f->io), 0);
	assert_int_equal(write(s[1], "x", 1), 1);
	loop_run(f->loop);
	assert_int_equal(f->calls, 1);
	assert_int_equal(f->events, LOOP_READ);
	close(s[0]);
	close(s[1]);
}

static void on_io_count(struct loop_io *io, int events, void *arg)
{
	struct fixture *f = arg;
	(void)io;
	f->events = events;
	f->calls++;
	loop_stop(f->loop);
}

static void test_io_exclusive_is_level_triggered_and_may_change(void **state)
{
	struct fixture *f = *state;
	int s[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
	assert_int_equal(loop_io_new(f->loop, s[0], on_io_count, f, &f->io), 0);
	assert_int_equal(loop_io_set(f->io, LOOP_READ | LOOP_EXCLUSIVE), 0);
	assert_int_equal(write(s[1], "x", 1), 1);
	for (int i = 1; i <= 3; i++) {
		loop_run(f->loop);
		assert_int_equal(f->calls, i);
		assert_int_equal(f->events, LOOP_READ);
	}
	assert_int_equal(loop_io_set(f->io, 0), 0);
	assert_int_equal(loop_timer_new(f->loop, on_timer_stop, f, &f->timer), 0);
	loop_timer_start(f->timer, 5, 0);
	loop_run(f->loop);
	assert_int_equal(f->calls, 3);

	assert_int_equal(loop_io_set(f->io, LOOP_READ | LOOP_EXCLUSIVE), 0);
	assert_int_equal(loop_io_set(f->io, LOOP_READ | LOOP_WRITE), 0);
	loop_run(f->loop);
	assert_int_equal(f->events, LOOP_READ | LOOP_WRITE);
	loop_io_free(f->io);
	close(s[0]);
	close(s[1]);
}

static void test_io_peer_closed_is_hangup(void **state)
{
	struct fixture *f = *state;
	int s[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
	assert_int_equal(loop_io_new(f->loop, s[0], on_io_once, f, &f->io), 0);
	loop_io_set(f->io, LOOP_HANGUP);
	close(s[1]);
	loop_run(f->loop);
	assert_true(f->events & LOOP_HANGUP);
	close(s[0]);
}

static void on_io_error(struct loop_io *io, int events, void *arg)
{
	struct fixture *f = arg;
	f->events |= events;
	if (++f->calls == 2) {
		loop_io_free(io);
		loop_stop(f->loop);
	}
}

static void test_io_error_is_reported_and_stays_a_level(void **state)
{
	/* The write end of a pipe whose reader is gone has POLLERR and nothing else. */
	struct fixture *f = *state;
	int p[2];
	assert_int_equal(pipe(p), 0);
	close(p[0]);
	assert_int_equal(loop_io_new(f->loop, p[1], on_io_error, f, &f->io), 0);
	loop_io_set(f->io, LOOP_WRITE);
	loop_run(f->loop);
	assert_int_equal(f->calls, 2);
	assert_true(f->events & LOOP_WRITE);
	close(p[1]);
}

static struct loop_io *pair_io[2];

static void on_io_free_both(struct loop_io *io, int events, void *arg)
{
	(void)io;
	(void)events;
	struct fixture *f = arg;
	f->calls++;
	loop_io_free(pair_io[0]);
	loop_io_free(pair_io[1]);
	loop_stop(f->loop);
}

static void test_io_freed_by_another_is_not_called(void **state)
{
	struct fixture *f = *state;
	int s[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
	for (int i = 0; i < 2; i++) { /* both are ready in the same batch */
		assert_int_equal(loop_io_new(f->loop, s[i], on_io_free_both, f, &pair_io[i]), 0);
		assert_int_equal(loop_io_set(pair_io[i], LOOP_WRITE), 0);
	}
	loop_run(f->loop);
	assert_int_equal(f->calls, 1);
	close(s[0]);
	close(s[1]);
}

static void test_io_error_while_paused_is_reported_when_resumed(void **state)
{
	struct fixture *f = *state;
	int s[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
	assert_int_equal(loop_io_new(f->loop, s[0], on_io_once, f, &f->io), 0);
	close(s[1]);
	assert_int_equal(loop_timer_new(f->loop, on_timer_stop, f, &f->timer), 0);
	loop_timer_start(f->timer, 5, 0);
	loop_run(f->loop);
	assert_int_equal(f->calls, 0);
	assert_int_equal(loop_io_set(f->io, LOOP_READ), 0);
	loop_run(f->loop);
	assert_int_equal(f->calls, 1);
	assert_true(f->events & LOOP_READ);
	close(s[0]);
}

static void test_io_armed_keeps_the_loop_alive(void **state)
{
	struct fixture *f = *state;
	int s[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
	assert_int_equal(loop_io_new(f->loop, s[0], on_io_once, f, &f->io), 0);
	run_until_idle(f); /* paused: nothing to wait for */
	assert_int_equal(loop_io_set(f->io, LOOP_WRITE), 0);
	loop_run(f->loop);
	assert_int_equal(f->calls, 1);
	close(s[0]);
	close(s[1]);
}

static void test_io_regular_file_is_refused(void **state)
{
	struct fixture *f = *state;
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	f->io = NULL;
	assert_int_equal(loop_io_new(f->loop, fd, on_io_once, f, &f->io), -EPERM);
	assert_null(f->io);
	close(fd);
}

static void on_repeat(struct loop_timer *timer, void *arg)
{
	struct fixture *f = arg;
	if (++f->calls == 3)
		loop_timer_free(timer);
}

static void test_timer_repeats_and_may_free_itself(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(loop_timer_new(f->loop, on_repeat, f, &f->timer), 0);
	loop_timer_start(f->timer, 0, 1);
	run_until_idle(f);
	assert_int_equal(f->calls, 3);
}

static void test_timer_stopped_does_not_run(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(loop_timer_new(f->loop, on_repeat, f, &f->timer), 0);
	loop_timer_start(f->timer, 0, 0);
	loop_timer_stop(f->timer);
	run_until_idle(f);
	assert_int_equal(f->calls, 0);
}

static void on_signum(int signum, void *arg)
{
	struct fixture *f = arg;
	f->calls = signum;
	loop_stop(f->loop);
}

static void test_signal_is_reported(void **state)
{
	struct fixture *f = *state;
	struct loop_signal *sig;
	assert_int_equal(loop_signal_new(f->loop, SIGUSR1, on_signum, f, &sig), 0);
	raise(SIGUSR1);
	loop_run(f->loop);
	assert_int_equal(f->calls, SIGUSR1);
	loop_signal_free(sig);
}

static void on_entry(struct loop_watch *watch, const char *name, void *arg)
{
	(void)watch;
	struct fixture *f = arg;
	snprintf(f->name, sizeof(f->name), "%s", name ? name : "");
	loop_stop(f->loop);
}

static void test_watch_names_the_new_file(void **state)
{
	struct fixture *f = *state;
	char dir[] = "/tmp/weft-test-loop-XXXXXX", path[64];
	struct loop_watch *watch;
	assert_non_null(mkdtemp(dir));
	assert_int_equal(loop_watch_new(f->loop, dir, on_entry, f, &watch, NULL), 0);
	snprintf(path, sizeof(path), "%s/a.yaml", dir);
	close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	loop_run(f->loop);
	assert_string_equal(f->name, "a.yaml");
	loop_watch_free(watch);
	unlink(path);
	rmdir(dir);
}

static void test_watch_missing_path_says_which(void **state)
{
	struct fixture *f = *state;
	struct loop_watch *watch;
	struct err err = ERR_INIT;
	assert_int_equal(loop_watch_new(f->loop, "/nonexistent/x", on_entry, f, &watch, &err), -ENOENT);
	assert_string_equal(err.text, "watch /nonexistent/x: No such file or directory");
}

static void deferred_second(void *arg)
{
	struct fixture *f = arg;
	f->order[f->calls++] = 3;
}

static void deferred_first(void *arg)
{
	struct fixture *f = arg;
	f->order[f->calls++] = 2;
	loop_defer(f->loop, deferred_second, f);
}

static void on_timer_defer(struct loop_timer *timer, void *arg)
{
	struct fixture *f = arg;
	loop_defer(f->loop, deferred_first, f);
	f->order[f->calls++] = 1;
	loop_timer_free(timer);
}

static void test_defer_runs_after_the_callback_in_order(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(loop_timer_new(f->loop, on_timer_defer, f, &f->timer), 0);
	loop_timer_start(f->timer, 0, 0);
	run_until_idle(f);
	assert_int_equal(f->calls, 3);
	for (int i = 0; i < 3; i++)
		assert_int_equal(f->order[i], i + 1);
}

static void on_ready_defer(struct loop_io *io, int events, void *arg)
{
	struct fixture *f = arg;
	(void)io;
	(void)events;
	loop_defer(f->loop, deferred_first, f);
	f->order[f->calls++] = 1;
	loop_stop(f->loop);
}

/* One that is stopped ends with its tick: what deferred functions deferred belongs to it. */
static void test_defer_of_deferred_is_of_the_same_tick(void **state)
{
	struct fixture *f = *state;
	struct loop_io *io;
	int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_int_equal(loop_io_open(f->loop, fd, LOOP_READ, on_ready_defer, f, &io), 0);
	loop_run(f->loop);
	assert_int_equal(f->calls, 3);
	loop_io_free(io);
	close(fd);
}

static void deferred_again(void *arg)
{
	struct fixture *f = arg;
	if (++f->calls < 1000)
		loop_defer(f->loop, deferred_again, f);
}

static void on_ready_stop(struct loop_io *io, int events, void *arg)
{
	struct fixture *f = arg;
	(void)io;
	(void)events;
	loop_stop(f->loop);
}

static void test_defer_without_end_leaves_descriptors_their_turn(void **state)
{
	struct fixture *f = *state;
	struct loop_io *io;
	int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
	loop_defer(f->loop, deferred_again, f);
	assert_int_equal(loop_io_open(f->loop, fd, LOOP_READ, on_ready_stop, f, &io), 0);
	loop_run(f->loop);
	assert_in_range(f->calls, 1, 100);
	loop_io_free(io);
	close(fd);
}

static void on_ready_count(struct loop_io *io, int events, void *arg)
{
	struct fixture *f = arg;
	(void)io;
	(void)events;
	loop_read_together(f->loop, 10);
	if (++f->calls == 500)
		loop_stop(f->loop);
}

/* It rests before nearly each wait, and misses nothing. */
static void test_paced_loop_goes_on_at_its_pace(void **state)
{
	struct fixture *f = *state;
	struct loop_io *io;
	int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
	loop_pace(f->loop);
	assert_int_equal(loop_io_open(f->loop, fd, LOOP_READ, on_ready_count, f, &io), 0);
	uint64_t before_ns = clock_now_ns();
	loop_run(f->loop);
	assert_true(clock_now_ns() - before_ns > 100ull * PACE_REST_NS);
	assert_int_equal(f->calls, 500);
	loop_io_free(io);
	close(fd);
}

static void test_defer_left_over_runs_on_free(void **state)
{
	(void)state;
	struct fixture f = { 0 };
	assert_int_equal(loop_new(&f.loop, NULL), 0);
	loop_defer(f.loop, deferred_first, &f);
	loop_free(f.loop);
	assert_int_equal(f.calls, 2);
}

static void on_timer_now(struct loop_timer *timer, void *arg)
{
	struct fixture *f = arg;
	uint64_t first = loop_now_ns(f->loop), fresh;
	do
		fresh = clock_now_ns();
	while (fresh <= first);
	assert_true(loop_now_ns(f->loop) == first);
	f->calls++;
	loop_timer_free(timer);
}

static void test_now_is_fixed_within_a_tick(void **state)
{
	struct fixture *f = *state;
	uint64_t before = clock_now_ns();
	assert_int_equal(loop_timer_new(f->loop, on_timer_now, f, &f->timer), 0);
	loop_timer_start(f->timer, 2, 0);
	run_until_idle(f);
	assert_int_equal(f->calls, 1);
	assert_true(loop_now_ns(f->loop) >= before + 1000000);
}

static void *stop_from_thread(void *arg)
{
	loop_stop_async(arg);
	return NULL;
}

static void test_stop_async_from_other_thread(void **state)
{
	struct fixture *f = *state;
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, stop_from_thread, f->loop), 0);
	loop_run(f->loop);
	pthread_join(thread, NULL);
	assert_false(f->fired);
}

/* Messages are (producer << 32 | sequence + 1): each producer's must come in order. */
enum { PRODUCERS = 4, POSTS = 20000 };

static uint64_t next_of[PRODUCERS];

struct producer {
	struct mailbox *box;
	uint64_t id;
	uint64_t full;
};

static void on_message(void *message, void *arg)
{
	struct fixture *f = arg;
	uint64_t value = (uint64_t)(uintptr_t)message, id = value >> 32;
	assert_true(id < PRODUCERS);
	assert_true((value & 0xffffffff) == ++next_of[id]);
	if (++f->got == f->limit)
		loop_stop(f->loop);
}

static void *produce(void *arg)
{
	struct producer *p = arg;
	for (uint64_t i = 1; i <= POSTS; i++) {
		while (mailbox_post(p->box, (void *)(uintptr_t)(p->id << 32 | i)) == -ENOBUFS) {
			p->full++;
			sched_yield();
		}
	}
	return NULL;
}

static void test_mailbox_many_producers_keep_order(void **state)
{
	struct fixture *f = *state;
	struct producer p[PRODUCERS];
	pthread_t threads[PRODUCERS];
	memset(next_of, 0, sizeof(next_of));
	f->limit = (size_t)PRODUCERS * POSTS;
	assert_int_equal(mailbox_new(f->loop, 1000, on_message, f, &f->box), 0);
	for (uint64_t i = 0; i < PRODUCERS; i++) {
		p[i] = (struct producer){ f->box, i, 0 };
		assert_int_equal(pthread_create(&threads[i], NULL, produce, &p[i]), 0);
	}
	loop_run(f->loop);
	for (int i = 0; i < PRODUCERS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(f->got, PRODUCERS * POSTS);
	mailbox_free(f->box, NULL);
}

static size_t left;

static void on_left(void *message)
{
	left += (size_t)(uintptr_t)message;
}

static void test_mailbox_full_refuses_and_free_returns_the_rest(void **state)
{
	struct fixture *f = *state;
	left = 0;
	assert_int_equal(mailbox_new(f->loop, 3, on_message, f, &f->box), 0);
	for (uintptr_t i = 1; i <= 3; i++)
		assert_int_equal(mailbox_post(f->box, (void *)i), 0);
	assert_int_equal(mailbox_post(f->box, (void *)(uintptr_t)4), -ENOBUFS);
	mailbox_free(f->box, on_left);
	assert_int_equal(left, 6);
}

static void on_message_free(void *message, void *arg)
{
	(void)message;
	struct fixture *f = arg;
	f->calls++;
	mailbox_free(f->box, on_left);
}

static void test_mailbox_freed_by_its_own_message(void **state)
{
	struct fixture *f = *state;
	left = 0;
	assert_int_equal(mailbox_new(f->loop, 10, on_message_free, f, &f->box), 0);
	for (uintptr_t i = 1; i <= 3; i++)
		assert_int_equal(mailbox_post(f->box, (void *)i), 0);
	run_until_idle(f);
	assert_int_equal(f->calls, 1);
	assert_int_equal(left, 5);
}

static void on_tick_end(void *arg)
{
	struct fixture *f = arg;
	f->events = f->calls;
}

static void on_message_count(void *message, void *arg)
{
	(void)message;
	struct fixture *f = arg;
	if (++f->calls == 1)
		loop_defer(f->loop, on_tick_end, f);
	if (f->calls == 1000)
		loop_stop(f->loop);
}

static void test_mailbox_wakeup_is_bounded_to_256(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(mailbox_new(f->loop, 1000, on_message_count, f, &f->box), 0);
	for (uintptr_t i = 1; i <= 1000; i++)
		assert_int_equal(mailbox_post(f->box, (void *)i), 0);
	loop_run(f->loop);
	assert_int_equal(f->calls, 1000);
	assert_int_equal(f->events, 256);
	mailbox_free(f->box, NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_run_without_handles_returns),
		TEST(test_io_readable_is_reported),
		TEST(test_io_is_level_triggered_and_zero_pauses),
		TEST(test_io_opened_waits_at_once),
		TEST(test_io_exclusive_is_level_triggered_and_may_change),
		TEST(test_io_peer_closed_is_hangup),
		TEST(test_io_error_is_reported_and_stays_a_level),
		TEST(test_io_freed_by_another_is_not_called),
		TEST(test_io_error_while_paused_is_reported_when_resumed),
		TEST(test_io_armed_keeps_the_loop_alive),
		TEST(test_io_regular_file_is_refused),
		TEST(test_timer_repeats_and_may_free_itself),
		TEST(test_timer_stopped_does_not_run),
		TEST(test_signal_is_reported),
		TEST(test_watch_names_the_new_file),
		TEST(test_watch_missing_path_says_which),
		TEST(test_defer_runs_after_the_callback_in_order),
		TEST(test_defer_left_over_runs_on_free),
		TEST(test_defer_of_deferred_is_of_the_same_tick),
		TEST(test_defer_without_end_leaves_descriptors_their_turn),
		TEST(test_paced_loop_goes_on_at_its_pace),
		TEST(test_now_is_fixed_within_a_tick),
		TEST(test_stop_async_from_other_thread),
		TEST(test_mailbox_many_producers_keep_order),
		TEST(test_mailbox_full_refuses_and_free_returns_the_rest),
		TEST(test_mailbox_freed_by_its_own_message),
		TEST(test_mailbox_wakeup_is_bounded_to_256),
	};
	return cmocka_run_group_tests_name("base/loop", tests, NULL, NULL);
}
