/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/helper/observe/log_writer.h"

static void settle(struct log_writer *w)
{
	const struct timespec moment = { .tv_nsec = 1000000 };
	for (int i = 0; i < 5000 && log_writer_busy(w); i++)
		nanosleep(&moment, NULL);
	assert_false(log_writer_busy(w));
}

static int file(char path[32])
{
	strcpy(path, "/tmp/weft-log-XXXXXX");
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	return fd;
}

static char *contents(const char *path)
{
	struct sb out = { 0 };
	char buf[4096];
	int fd = open(path, O_RDONLY);
	for (ssize_t n; (n = read(fd, buf, sizeof(buf))) > 0;)
		sb_add_bytes(&out, buf, (size_t)n);
	close(fd);
	return sb_take(&out);
}

static void test_lines_of_a_rotated_file_go_to_the_new_one(void **state)
{
	(void)state;
	char first[32], second[32];
	struct log_writer *w;
	assert_int_equal(log_writer_new(&w), 0);
	assert_int_equal(log_writer_sink(w, "log", file(first)), 0);
	assert_true(log_writer_put(w, "log", strdup("one\n"), 4, 1));
	settle(w);
	assert_int_equal(log_writer_sink(w, "log", file(second)), 0);
	assert_true(log_writer_put(w, "log", strdup("two\n"), 4, 1));
	assert_false(log_writer_put(w, "other", strdup("three\n"), 6, 1));
	log_writer_free(w); /* writes what is queued */
	AUTO(mem_freep) char *a = contents(first), *b = contents(second);
	assert_string_equal(a, "one\n");
	assert_string_equal(b, "two\n");
	unlink(first);
	unlink(second);
}

static void test_drops_are_told_of_once(void **state)
{
	(void)state;
	struct log_writer *w;
	assert_int_equal(log_writer_new(&w), 0);
	assert_false(log_writer_put(w, "none", strdup("x\n"), 2, 7));
	assert_int_equal(log_writer_dropped(w), 7);
	assert_int_equal(log_writer_dropped(w), 0);
	log_writer_free(w);
}

static void test_places_of_ended_paths_are_used_again(void **state)
{
	(void)state;
	struct log_writer *w;
	assert_int_equal(log_writer_new(&w), 0);
	for (int i = 0; i < 100; i++) {
		AUTO(mem_freep) char *path = str_format("log-%d", i);
		assert_int_equal(log_writer_sink(w, path, open("/dev/null", O_WRONLY)), 0);
		assert_int_equal(log_writer_sink(w, path, -1), 0);
	}
	int rc = 0;
	for (int i = 0; i < 100 && rc == 0; i++) {
		AUTO(mem_freep) char *path = str_format("log-%d", i);
		rc = log_writer_sink(w, path, open("/dev/null", O_WRONLY));
	}
	assert_int_equal(rc, -E2BIG);
	log_writer_free(w);
}

/* A pipe that blocks and that nobody reads, as stdout may be. */
static void test_a_blocked_pipe_costs_lines_and_no_time(void **state)
{
	(void)state;
	int fds[2];
	char path[32];
	struct log_writer *w;
	enum { CHUNKS = 40, LINES = 1024, LEN = 64 * LINES };
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(log_writer_new(&w), 0);
	assert_int_equal(log_writer_sink(w, "pipe", fds[1]), 0);
	assert_int_equal(log_writer_sink(w, "file", file(path)), 0);
	uint64_t began = clock_now_ns();
	for (int i = 0; i < CHUNKS; i++) {
		char *lines = malloc(LEN);
		memset(lines, 'a', LEN);
		for (int k = 1; k <= LINES; k++)
			lines[64 * k - 1] = '\n';
		log_writer_put(w, "pipe", lines, LEN, LINES);
	}
	log_writer_put(w, "file", strdup("through\n"), 8, 1);
	assert_true(clock_now_ns() - began < 20000000000); /* the pipe blocks for ever */
	settle(w);
	AUTO(mem_freep) char *text = contents(path);
	assert_string_equal(text, "through\n");

	/* What was not dropped is in the pipe; a line that was torn is ended before the next. */
	uint64_t dropped = log_writer_dropped(w);
	size_t lines = 0, len = 0;
	char buf[1 << 16];
	assert_in_range(dropped, 1, CHUNKS * LINES - 1);
	assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
	while (read(fds[0], buf, sizeof(buf)) > 0)
		;
	log_writer_put(w, "pipe", strdup("again\n"), 6, 1);
	settle(w);
	for (ssize_t n; (n = read(fds[0], buf, sizeof(buf))) > 0;)
		for (ssize_t i = 0; i < n; i++) {
			len++;
			lines += buf[i] == '\n';
		}
	assert_true((lines == 1 && len == 6) || (lines == 2 && len == 7));
	assert_int_equal(log_writer_dropped(w), 0);
	log_writer_free(w);
	close(fds[0]);
	unlink(path);
}

static void test_a_closed_pipe_drops(void **state)
{
	(void)state;
	int fds[2];
	struct log_writer *w;
	assert_int_equal(pipe(fds), 0);
	close(fds[0]);
	assert_int_equal(log_writer_new(&w), 0);
	assert_int_equal(log_writer_sink(w, "pipe", fds[1]), 0);
	assert_true(log_writer_put(w, "pipe", strdup("a\nb\n"), 4, 2));
	settle(w);
	assert_int_equal(log_writer_dropped(w), 2);
	log_writer_free(w);
}

enum { WRITERS = 2, PUTS = 2000 };

static void *writer(void *arg)
{
	struct log_writer *w = arg;
	for (int i = 0; i < PUTS; i++) {
		log_writer_put(w, "log", strdup("a line\n"), 7, 1);
		if (i % 100 == 0)
			log_writer_sink(w, "other", i % 200 ? -1 : open("/dev/null", O_WRONLY));
		log_writer_put(w, "other", strdup("x\n"), 2, 1);
		log_writer_busy(w);
	}
	return NULL;
}

static void test_two_writers_lose_nothing(void **state)
{
	(void)state;
	char path[32];
	pthread_t threads[WRITERS];
	struct log_writer *w;
	assert_int_equal(log_writer_new(&w), 0);
	assert_int_equal(log_writer_sink(w, "log", file(path)), 0);
	for (int i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, writer, w), 0);
	for (int i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	settle(w);
	log_writer_free(w);
	AUTO(mem_freep) char *text = contents(path);
	assert_int_equal(strlen(text), WRITERS * PUTS * 7);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines_of_a_rotated_file_go_to_the_new_one),
		cmocka_unit_test(test_drops_are_told_of_once),
		cmocka_unit_test(test_places_of_ended_paths_are_used_again),
		cmocka_unit_test(test_a_blocked_pipe_costs_lines_and_no_time),
		cmocka_unit_test(test_a_closed_pipe_drops),
		cmocka_unit_test(test_two_writers_lose_nothing),
	};
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
