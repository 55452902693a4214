/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/err.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/link/channel.h"

struct end {
	struct channel *channel;
	size_t messages, bytes, fds, last_len;
	uint8_t first, last;
	int kept;	    /* the last descriptor taken, -1: none */
	bool close_at_once; /* frees the channel in the callback */
	struct err closed;
	size_t stop_after; /* messages */
	struct loop *loop;
};

struct fixture {
	struct loop *loop;
	struct end a, b;
};

static void on_message(const uint8_t *bytes, size_t len, int *fds, size_t fd_count, void *arg)
{
	struct end *end = arg;
	end->messages++;
	end->bytes += len;
	end->last_len = len;
	end->first = bytes[0];
	end->last = bytes[len - 1];
	end->fds += fd_count;
	if (fd_count) {
		fd_closep(&end->kept);
		end->kept = fds[0];
		fds[0] = -1;
	}
	if (end->close_at_once) {
		channel_free(end->channel);
		end->channel = NULL;
		loop_stop(end->loop);
	}
	if (end->messages == end->stop_after)
		loop_stop(end->loop);
}

static void on_closed(const struct err *err, void *arg)
{
	struct end *end = arg;
	end->closed = *err;
	loop_stop(end->loop);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int pair[2];
	assert_int_equal(loop_new(&f->loop, NULL), 0);
	assert_int_equal(channel_pair(pair, NULL), 0);
	f->a = f->b = (struct end){ .kept = -1, .loop = f->loop };
	assert_int_equal(channel_new(f->loop, pair[0], on_message, on_closed, &f->a, &f->a.channel), 0);
	assert_int_equal(channel_new(f->loop, pair[1], on_message, on_closed, &f->b, &f->b.channel), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	channel_free(f->a.channel);
	channel_free(f->b.channel);
	fd_closep(&f->a.kept);
	fd_closep(&f->b.kept);
	loop_free(f->loop);
	free(f);
	return 0;
}

static size_t open_fds(void)
{
	size_t n = 0;
	for (int fd = 0; fd < 4096; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void test_channel_send_message_arrives_whole(void **state)
{
	struct fixture *f = *state;
	f->b.stop_after = 2;
	assert_int_equal(channel_send(f->a.channel, (const uint8_t *)"hello", 5, NULL, 0), 0);
	assert_int_equal(channel_send(f->a.channel, (const uint8_t *)"xyz", 3, NULL, 0), 0);
	loop_run(f->loop);
	assert_int_equal(f->b.messages, 2);
	assert_int_equal(f->b.bytes, 8);
	assert_int_equal(f->b.last, 'z');
}

static void test_channel_send_largest_message_arrives(void **state)
{
	struct fixture *f = *state;
	uint8_t *big = malloc(CHANNEL_MESSAGE_MAX);
	memset(big, 'm', CHANNEL_MESSAGE_MAX);
	big[CHANNEL_MESSAGE_MAX - 1] = 'e';
	f->b.stop_after = 1;
	assert_int_equal(channel_send(f->a.channel, big, CHANNEL_MESSAGE_MAX, NULL, 0), 0);
	loop_run(f->loop);
	assert_int_equal(f->b.last_len, CHANNEL_MESSAGE_MAX);
	assert_int_equal(f->b.last, 'e');
	free(big);
}

static void test_channel_send_too_large_is_refused_and_link_lives(void **state)
{
	struct fixture *f = *state;
	uint8_t *big = calloc(1, CHANNEL_MESSAGE_MAX + 1);
	assert_int_equal(channel_send(f->a.channel, big, CHANNEL_MESSAGE_MAX + 1, NULL, 0), -EMSGSIZE);
	free(big);
	test_channel_send_message_arrives_whole(state);
}

static void test_channel_send_descriptors_arrive(void **state)
{
	struct fixture *f = *state;
	int pipe_fds[2], many[CHANNEL_FDS_MAX];
	char byte = 0;
	assert_int_equal(pipe(pipe_fds), 0);
	for (size_t i = 0; i < CHANNEL_FDS_MAX; i++)
		many[i] = pipe_fds[1];
	f->b.stop_after = 1;
	assert_int_equal(channel_send(f->a.channel, (const uint8_t *)"x", 1, many, CHANNEL_FDS_MAX), 0);
	close(pipe_fds[1]);
	loop_run(f->loop);
	assert_int_equal(f->b.fds, CHANNEL_FDS_MAX);
	assert_true(fcntl(f->b.kept, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(write(f->b.kept, "y", 1), 1);
	assert_int_equal(read(pipe_fds[0], &byte, 1), 1);
	assert_int_equal(byte, 'y');
	/* All but the one that was taken are closed again: the pipe ends with it. */
	fd_closep(&f->b.kept);
	assert_int_equal(read(pipe_fds[0], &byte, 1), 0);
	close(pipe_fds[0]);
}

static void test_channel_send_too_many_descriptors_is_refused(void **state)
{
	struct fixture *f = *state;
	int many[CHANNEL_FDS_MAX + 1] = { 0 };
	assert_int_equal(channel_send(f->a.channel, (const uint8_t *)"x", 1, many, CHANNEL_FDS_MAX + 1), -EMSGSIZE);
}

static void test_channel_send_unread_queues_then_arrives_in_order(void **state)
{
	struct fixture *f = *state;
	uint8_t message[65536] = { 0 };
	const size_t count = 300; /* 19 MB: more than the socket takes */
	f->b.stop_after = count;
	for (size_t i = 0; i < count; i++) {
		message[0] = (uint8_t)i;
		assert_int_equal(channel_send(f->a.channel, message, sizeof(message), NULL, 0), 0);
	}
	assert_true(channel_fill(f->a.channel) > 0);
	loop_run(f->loop);
	assert_int_equal(f->b.messages, count);
	assert_int_equal(f->b.first, (uint8_t)(count - 1));
	assert_int_equal(channel_fill(f->a.channel), 0);
}

static void test_channel_send_queue_full_refuses_and_keeps_what_waits(void **state)
{
	struct fixture *f = *state;
	size_t sent = 0, before = open_fds();
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), rc;
	while ((rc = channel_send(f->a.channel, (const uint8_t *)"x", 1, &fd, 1)) == 0)
		sent++;
	assert_int_equal(rc, -ENOBUFS);
	assert_true(sent >= CHANNEL_QUEUE_MESSAGES);
	assert_int_equal(channel_fill(f->a.channel), 100);
	f->b.stop_after = sent;
	loop_run(f->loop);
	assert_int_equal(f->b.messages, sent);
	close(fd);
	fd_closep(&f->b.kept);
	assert_int_equal(open_fds(), before); /* the queue's duplicates are closed */
}

static void test_channel_free_with_queue_closes_descriptors(void **state)
{
	struct fixture *f = *state;
	uint8_t message[65536] = { 0 };
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	size_t before = open_fds();
	for (size_t i = 0; i < 200; i++)
		assert_int_equal(channel_send(f->a.channel, message, sizeof(message), &fd, 1), 0);
	assert_true(open_fds() > before);
	channel_free(f->a.channel);
	f->a.channel = NULL;
	f->b.stop_after = 100000;
	loop_run(f->loop); /* until b sees the end */
	assert_int_equal(f->b.closed.code, -EPIPE);
	fd_closep(&f->b.kept);
	assert_int_equal(open_fds(), before - 1);
	close(fd);
}

static void test_channel_peer_closes_is_reported_once(void **state)
{
	struct fixture *f = *state;
	channel_free(f->a.channel);
	f->a.channel = NULL;
	loop_run(f->loop);
	assert_int_equal(f->b.closed.code, -EPIPE);
	assert_int_equal(channel_send(f->b.channel, (const uint8_t *)"x", 1, NULL, 0), -EPIPE);
}

static void test_channel_free_in_callback_is_safe(void **state)
{
	struct fixture *f = *state;
	f->b.close_at_once = true;
	for (int i = 0; i < 10; i++)
		assert_int_equal(channel_send(f->a.channel, (const uint8_t *)"x", 1, NULL, 0), 0);
	loop_run(f->loop);
	assert_int_equal(f->b.messages, 1);
}

static void test_channel_peer_sends_more_than_allowed_closes(void **state)
{
	struct fixture *f = *state;
	int pair[2], size = 8 << 20;
	struct end end = { .kept = -1, .loop = f->loop };
	assert_int_equal(channel_pair(pair, NULL), 0);
	assert_int_equal(setsockopt(pair[1], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)), 0);
	assert_int_equal(channel_new(f->loop, pair[0], on_message, on_closed, &end, &end.channel), 0);
	uint8_t *big = calloc(1, CHANNEL_MESSAGE_MAX + 1);
	assert_int_equal(send(pair[1], big, CHANNEL_MESSAGE_MAX + 1, 0), CHANNEL_MESSAGE_MAX + 1);
	loop_run(f->loop);
	assert_int_equal(end.closed.code, -EMSGSIZE);
	assert_int_equal(end.messages, 0);
	channel_free(end.channel);
	close(pair[1]);
	free(big);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_channel_send_message_arrives_whole),
		T(test_channel_send_largest_message_arrives),
		T(test_channel_send_too_large_is_refused_and_link_lives),
		T(test_channel_send_descriptors_arrive),
		T(test_channel_send_too_many_descriptors_is_refused),
		T(test_channel_send_unread_queues_then_arrives_in_order),
		T(test_channel_send_queue_full_refuses_and_keeps_what_waits),
		T(test_channel_free_with_queue_closes_descriptors),
		T(test_channel_peer_closes_is_reported_once),
		T(test_channel_free_in_callback_is_safe),
		T(test_channel_peer_sends_more_than_allowed_closes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
