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
	const size_t limit = 1000;
	uint8_t big[2000];
	memset(big, 'b', sizeof(big));
	for (size_t i = 0; i < 3; i++) {
		const size_t lens[] = { limit + 1, limit + 9, sizeof(big) };
		int pair[2];
		struct end end = { .kept = -1, .loop = f->loop };
		assert_int_equal(channel_pair(pair, NULL), 0);
		assert_int_equal(channel_new(f->loop, pair[0], on_message, on_closed, &end, &end.channel), 0);
		channel_limit(end.channel, limit);
		end.stop_after = 1;
		assert_int_equal(send(pair[1], big, limit, 0), limit);
		loop_run(f->loop);
		assert_int_equal(end.last_len, limit);
		assert_int_equal(send(pair[1], big, lens[i], 0), lens[i]);
		loop_run(f->loop);
		assert_int_equal(end.closed.code, -EMSGSIZE);
		assert_int_equal(end.messages, 1);
		channel_free(end.channel);
		close(pair[1]);
	}
}

/* --- fragments --- */

static uint8_t *pattern(size_t len)
{
	uint8_t *bytes = malloc(len);
	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)(i * 31 + i / 251);
	return bytes;
}

static const uint8_t *expected;

static void on_long_message(const uint8_t *bytes, size_t len, int *fds, size_t fd_count, void *arg)
{
	if (len > 1)
		assert_memory_equal(bytes, expected, len);
	on_message(bytes, len, fds, fd_count, arg);
}

/* Between two short ones, with descriptors, through a socket that takes only a part at once. */
static void test_channel_long_message_arrives_whole_and_in_order(void **state)
{
	struct fixture *f = *state;
	const size_t len = CHANNEL_MESSAGE_MAX - 5;
	uint8_t *big = pattern(len);
	int pair[2], small = 200000, fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct end from = { .kept = -1, .loop = f->loop }, to = from;
	assert_int_equal(channel_pair(pair, NULL), 0);
	assert_int_equal(setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	assert_int_equal(channel_new(f->loop, pair[0], on_message, on_closed, &from, &from.channel), 0);
	assert_int_equal(channel_new(f->loop, pair[1], on_long_message, on_closed, &to, &to.channel), 0);
	expected = big;
	to.stop_after = 4;
	assert_int_equal(channel_send(from.channel, (const uint8_t *)"a", 1, NULL, 0), 0);
	assert_int_equal(channel_send(from.channel, big, len, (int[]){ fd, fd }, 2), 0);
	assert_true(channel_fill(from.channel) > 0);
	assert_int_equal(channel_send(from.channel, big, len, &fd, 1), 0);
	assert_int_equal(channel_send(from.channel, (const uint8_t *)"z", 1, NULL, 0), 0);
	loop_run(f->loop);
	assert_int_equal(to.messages, 4);
	assert_int_equal(to.bytes, 2 * len + 2);
	assert_int_equal(to.fds, 3);
	assert_int_equal(to.last, 'z');
	assert_int_equal(channel_fill(from.channel), 0);
	channel_free(from.channel);
	channel_free(to.channel);
	fd_closep(&to.kept);
	close(fd);
	free(big);
}

static void test_channel_lengths_around_a_record_arrive(void **state)
{
	struct fixture *f = *state;
	uint8_t *big = pattern(3 * CHANNEL_RECORD_MAX);
	for (size_t first = 0; first < 2; first++) {
		big[0] = (uint8_t)(first ? 'x' : 0); /* a message may begin with what marks a fragment */
		for (int off = -2; off <= 2; off++) {
			size_t lens[] = { 3, CHANNEL_RECORD_MAX + off, 2 * CHANNEL_RECORD_MAX + off };
			for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
				f->b.stop_after = f->b.messages + 1;
				assert_int_equal(channel_send(f->a.channel, big, lens[i], NULL, 0), 0);
				loop_run(f->loop);
				assert_int_equal(f->b.last_len, lens[i]);
				assert_int_equal(f->b.first, big[0]);
				assert_int_equal(f->b.last, big[lens[i] - 1]);
			}
		}
	}
	free(big);
}

struct record {
	uint8_t flags;
	uint32_t total;
	size_t len; /* of the data; SIZE_MAX: a whole message of 1 byte */
	bool fd;
	uint8_t pad;
	bool cut; /* the header, in the middle */
};

static void record_send(int fd, const struct record *r, int passed)
{
	uint8_t bytes[256] = { 0, r->flags, r->pad };
	size_t len = r->cut ? 5 : 8 + r->len;
	for (size_t i = 0; i < 4; i++)
		bytes[4 + i] = (uint8_t)(r->total >> (8 * i));
	if (r->len == SIZE_MAX) {
		bytes[0] = 'w';
		len = 1;
	}
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { bytes, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	if (r->fd) {
		msg.msg_control = control.buf;
		msg.msg_controllen = sizeof(control.buf);
		struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
		*cmsg = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
		memcpy(CMSG_DATA(cmsg), &passed, sizeof(int));
	}
	assert_int_equal(sendmsg(fd, &msg, 0), len);
}

enum { FIRST = 1, LAST = 2, LIMIT = 100 };

static void test_channel_fragments_that_break_the_rules_close(void **state)
{
	struct fixture *f = *state;
	static const struct {
		struct record r[3];
		int code;
	} cases[] = {
		{ { { 0, 10, 5 } }, -EPROTO },				      /* no beginning */
		{ { { FIRST, 10, 5, true }, { .len = SIZE_MAX } }, -EPROTO }, /* another message between */
		{ { { FIRST, 10, 5, true }, { FIRST, 10, 5 } }, -EPROTO },    /* begun again */
		{ { { FIRST, LIMIT + 1, 5, true } }, -EMSGSIZE },	      /* longer than allowed */
		{ { { FIRST, UINT32_MAX, 5 } }, -EMSGSIZE },
		{ { { FIRST, 10, 11, true } }, -EPROTO }, /* more than was said */
		{ { { FIRST, 10, 5, true }, { LAST, 10, 6 } }, -EPROTO },
		{ { { FIRST | LAST, 10, 5, true } }, -EPROTO },			/* ends early */
		{ { { FIRST, 10, 5, true }, { 0, 10, 5 } }, -EPROTO },		/* does not end */
		{ { { FIRST, 10, 5, true }, { LAST, 11, 5 } }, -EPROTO },	/* another length */
		{ { { FIRST, 10, 5, true }, { LAST, 10, 5, true } }, -EPROTO }, /* a descriptor with the second */
		{ { { FIRST, 10, 0, true } }, -EPROTO },			/* nothing in it */
		{ { { FIRST, 10, 5, true }, { 0, 10, 0 } }, -EPROTO },
		{ { { FIRST, 10, 5, true, 1 } }, -EPROTO }, /* not zero */
		{ { { FIRST, 10, 5, true, .cut = true } }, -EPROTO },
	};
	int passed = open("/dev/null", O_RDONLY | O_CLOEXEC);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		size_t before = open_fds();
		int pair[2];
		struct end end = { .kept = -1, .loop = f->loop };
		assert_int_equal(channel_pair(pair, NULL), 0);
		assert_int_equal(channel_new(f->loop, pair[0], on_message, on_closed, &end, &end.channel), 0);
		channel_limit(end.channel, LIMIT);
		for (size_t r = 0; r < 3 && (cases[i].r[r].total || cases[i].r[r].len); r++)
			record_send(pair[1], &cases[i].r[r], passed);
		loop_run(f->loop);
		if (end.closed.code != cases[i].code)
			fail_msg("case %zu: %d", i, end.closed.code);
		assert_int_equal(end.messages, 0);
		channel_free(end.channel);
		close(pair[1]);
		f->b.stop_after = f->b.messages + 1; /* the freed one is reaped */
		channel_send(f->a.channel, (const uint8_t *)"x", 1, NULL, 0);
		loop_run(f->loop);
		assert_int_equal(open_fds(), before);
	}
	close(passed);
}

static void test_channel_free_with_half_a_message_closes_descriptors(void **state)
{
	struct fixture *f = *state;
	int pair[2], passed = open("/dev/null", O_RDONLY | O_CLOEXEC);
	size_t before = open_fds();
	struct end end = { .kept = -1, .loop = f->loop };
	assert_int_equal(channel_pair(pair, NULL), 0);
	assert_int_equal(channel_new(f->loop, pair[0], on_message, on_closed, &end, &end.channel), 0);
	record_send(pair[1], &(struct record){ FIRST, 10, 5, true }, passed);
	close(pair[1]);
	loop_run(f->loop);
	assert_int_equal(end.closed.code, -EPIPE);
	channel_free(end.channel);
	f->b.stop_after = 1;
	channel_send(f->a.channel, (const uint8_t *)"x", 1, NULL, 0);
	loop_run(f->loop);
	assert_int_equal(open_fds(), before);
	close(passed);
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
		T(test_channel_long_message_arrives_whole_and_in_order),
		T(test_channel_lengths_around_a_record_arrive),
		T(test_channel_fragments_that_break_the_rules_close),
		T(test_channel_free_with_half_a_message_closes_descriptors),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
