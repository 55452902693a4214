/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/base/loop.h"
#include "tests/unit/transport/rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/helper/transport_internal.h"

static void check_data(const struct told *told, const char *text)
{
	assert_int_equal(told->data.len, strlen(text));
	assert_memory_equal(told->data.p, text, strlen(text));
}

static void test_socket_bytes_go_both_ways(void **state)
{
	struct worker *w = *state;
	struct told told;
	char text[16];
	int fd = rig_transport(w, &told, NULL, 0);
	assert_int_equal(send(fd, "question", 8, 0), 8);
	rig_until_bytes(w, &told, 8);
	check_data(&told, "question");
	assert_int_equal(rig_write(told.t, "ans", 3), 3);
	assert_int_equal(rig_write(told.t, "wer", 3), 3);
	assert_int_equal(transport_queued(told.t), 6); /* until the end of the tick */
	assert_int_equal(recv(fd, text, sizeof(text), MSG_DONTWAIT), -1);
	assert_int_equal(rig_next(w, fd, text, sizeof(text)), 6); /* in one piece */
	assert_memory_equal(text, "answer", 6);
	assert_int_equal(transport_queued(told.t), 0);
	told_done(&told);
	close(fd);
}

static void test_socket_flush_sends_at_once(void **state)
{
	struct worker *w = *state;
	struct told told;
	char text[16];
	int fd = rig_transport(w, &told, NULL, 0);
	rig_write(told.t, "now", 3);
	transport_flush(told.t);
	assert_int_equal(recv(fd, text, sizeof(text), MSG_DONTWAIT), 3);
	told_done(&told);
	close(fd);
}

static void test_socket_first_bytes_come_before_others(void **state)
{
	struct worker *w = *state;
	struct told told;
	int fd = rig_transport(w, &told, "first,", 6);
	assert_int_equal(send(fd, "second", 6, 0), 6);
	assert_int_equal(told.received, 0); /* not from inside */
	rig_until_bytes(w, &told, 12);
	check_data(&told, "first,second");
	told_done(&told);
	close(fd);
}

static void test_socket_idle_holds_no_buffer(void **state)
{
	struct worker *w = *state;
	struct told told;
	char text[4096] = { 0 };
	int fd = rig_transport(w, &told, NULL, 0);
	send(fd, text, sizeof(text), 0);
	rig_until_bytes(w, &told, sizeof(text));
	rig_write(told.t, text, sizeof(text));
	assert_int_equal(rig_next(w, fd, text, sizeof(text)), sizeof(text));
	rig_run(w, 1);
	assert_int_equal(w->metrics.buffers_bytes, 0);
	told_done(&told);
	close(fd);
}

/* --- back-pressure in --- */

static void test_socket_what_is_not_taken_is_kept(void **state)
{
	struct worker *w = *state;
	struct told told;
	int fd = rig_transport(w, &told, NULL, 0);
	told.take = 3;
	send(fd, "abcdef", 6, 0);
	rig_until_bytes(w, &told, 3);
	send(fd, "ghi", 3, 0);
	rig_run(w, 5);
	check_data(&told, "abc");
	assert_int_not_equal(w->metrics.buffers_bytes, 0);
	told.take = 2;
	transport_resume(told.t);
	check_data(&told, "abcde");
	told.take = SIZE_MAX;
	transport_resume(told.t);
	check_data(&told, "abcdef");
	rig_until_bytes(w, &told, 9);
	check_data(&told, "abcdefghi");
	told_done(&told);
	close(fd);
}

static void test_socket_end_comes_after_what_was_kept(void **state)
{
	struct worker *w = *state;
	struct told told;
	int fd = rig_transport(w, &told, NULL, 0);
	told.take = 0;
	send(fd, "last", 4, 0);
	close(fd);
	rig_run(w, 5);
	assert_int_equal(told.ends, 0);
	assert_int_equal(told.broken, 0);
	told.take = SIZE_MAX;
	transport_resume(told.t);
	rig_until(w, &told.ends, 1);
	check_data(&told, "last");
	rig_run(w, 5);
	assert_int_equal(told.ends, 1);
	told_done(&told);
}

static void test_socket_close_inside_on_data_is_safe(void **state)
{
	struct worker *w = *state;
	for (int kept = 0; kept < 2; kept++) {
		struct told told;
		int fd = rig_transport(w, &told, kept ? "abc" : NULL, kept ? 3 : 0);
		told.close_on_data = kept;
		told.abort_on_data = !kept;
		send(fd, "def", 3, 0);
		rig_until_bytes(w, &told, 3);
		assert_int_equal(told.data.len, 3);
		close(fd);
		rig_run(w, 3);
		told_done(&told);
	}
}

/* --- back-pressure out --- */

static void test_socket_queue_is_bounded_and_tells_of_room(void **state)
{
	struct worker *w = *state;
	struct told told;
	int fd = rig_transport(w, &told, NULL, 0);
	size_t size = 4 << 20, took;
	uint8_t *bytes = malloc(size), *got = malloc(size);
	for (size_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)(i * 7 + i / 251);
	size_t sent = 0, received = 0;
	unsigned int rooms = 0;
	while (received < size) {
		while (sent < size &&
		       (took = rig_write(told.t, bytes + sent, size - sent < 100000 ? size - sent : 100000))) {
			sent += took;
			if (took < 100000)
				break;
		}
		assert_true(transport_queued(told.t) <= TRANSPORT_QUEUE);
		ssize_t n;
		while (received < sent && (n = rig_next(w, fd, got + received, size - received)) > 0)
			received += (size_t)n;
		if (sent < size) {
			rig_until(w, &told.rooms, ++rooms);
			assert_int_equal(transport_queued(told.t), 0);
		}
	}
	assert_memory_equal(bytes, got, size);
	assert_true(rooms > 1);
	assert_int_equal(told.rooms, rooms);
	free(bytes);
	free(got);
	told_done(&told);
	close(fd);
}

static void test_socket_small_writes_behind_a_large_one_keep_their_order(void **state)
{
	struct worker *w = *state;
	struct told told;
	int fd = rig_transport(w, &told, NULL, 0);
	size_t size = 600000, got = 0;
	uint8_t *bytes = calloc(1, size), *in = malloc(size + 16);
	rig_write(told.t, "head", 4);
	size_t took = rig_write(told.t, bytes, size);
	assert_true(took < size);
	assert_int_equal(rig_write(told.t, "x", 1), 0);
	ssize_t n;
	while (got < 4 + took && (n = rig_next(w, fd, in + got, size)) > 0)
		got += (size_t)n;
	rig_until(w, &told.rooms, 1);
	assert_int_equal(rig_write(told.t, "tail", 4), 4);
	assert_int_equal(rig_next(w, fd, in + got, 16), 4);
	assert_memory_equal(in, "head", 4);
	assert_int_equal(in[4], 0);
	assert_memory_equal(in + got, "tail", 4);
	free(bytes);
	free(in);
	told_done(&told);
	close(fd);
}

static void test_socket_echo_of_much_arrives_whole(void **state)
{
	struct worker *w = *state;
	struct told told;
	int fd = rig_transport(w, &told, NULL, 0);
	told.echo = told.t;
	told.count_only = true;
	size_t size = 3 << 20, sent = 0, got = 0;
	uint8_t *bytes = malloc(size), *in = malloc(size);
	for (size_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)(i ^ (i >> 9));
	while (got < size) {
		ssize_t n = send(fd, bytes + sent, size - sent, MSG_DONTWAIT);
		sent += n > 0 ? (size_t)n : 0;
		rig_run(w, 1);
		n = recv(fd, in + got, size - got, MSG_DONTWAIT);
		got += n > 0 ? (size_t)n : 0;
	}
	assert_memory_equal(bytes, in, size);
	free(bytes);
	free(in);
	told_done(&told);
	close(fd);
}

/* --- ends --- */

static void test_socket_end_is_half(void **state)
{
	struct worker *w = *state;
	struct told told;
	char text[16];
	int fd = rig_transport(w, &told, NULL, 0);
	rig_write(told.t, "bye", 3);
	transport_end(told.t);
	assert_int_equal(rig_next(w, fd, text, sizeof(text)), 3);
	assert_int_equal(rig_next(w, fd, text, sizeof(text)), 0);
	send(fd, "still here", 10, 0);
	rig_until_bytes(w, &told, 10);
	close(fd);
	rig_until(w, &told.ends, 1);
	transport_close(told.t, false);
	told.t = NULL;
	rig_run(w, 2);
	assert_true(TAILQ_EMPTY(&w->transports->all));
	told_done(&told);
}

static void test_socket_peer_ends_first_we_still_send(void **state)
{
	struct worker *w = *state;
	struct told told;
	char text[16];
	int fd = rig_transport(w, &told, NULL, 0);
	send(fd, "q", 1, 0);
	shutdown(fd, SHUT_WR);
	rig_until(w, &told.ends, 1);
	check_data(&told, "q");
	rig_write(told.t, "a", 1);
	transport_close(told.t, false);
	told.t = NULL;
	assert_int_equal(rig_next(w, fd, text, sizeof(text)), 1);
	assert_int_equal(rig_next(w, fd, text, sizeof(text)), 0);
	assert_true(TAILQ_EMPTY(&w->transports->all));
	told_done(&told);
	close(fd);
}

static void test_socket_close_sends_what_is_queued(void **state)
{
	struct worker *w = *state;
	struct told told;
	int fd = rig_transport(w, &told, NULL, 0);
	size_t size = 600000, got = 0;
	uint8_t *bytes = calloc(1, size);
	size_t took = rig_write(told.t, bytes, size);
	transport_close(told.t, false);
	told.t = NULL;
	send(fd, bytes, 1000, 0); /* is not a reason to reset */
	ssize_t n;
	while ((n = rig_next(w, fd, bytes, size)) > 0)
		got += (size_t)n;
	assert_int_equal(n, 0);
	assert_int_equal(got, took);
	assert_false(TAILQ_EMPTY(&w->transports->all)); /* the peer may still be sending */
	close(fd);
	rig_run(w, 3);
	assert_true(TAILQ_EMPTY(&w->transports->all));
	free(bytes);
	told_done(&told);
}

static void test_socket_discards_only_so_much_after_close(void **state)
{
	struct worker *w = *state;
	struct told told;
	uint8_t bytes[65536] = { 0 };
	int fd = rig_transport(w, &told, NULL, 0);
	transport_close(told.t, false);
	told.t = NULL;
	size_t sent = 0;
	for (;;) {
		ssize_t n = send(fd, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN)
			break;
		sent += n > 0 ? (size_t)n : 0;
		assert_true(sent < 4 << 20);
		rig_run(w, 1);
	}
	assert_true(TAILQ_EMPTY(&w->transports->all));
	told_done(&told);
	close(fd);
}

static void test_socket_lingers_for_its_time(void **state)
{
	struct worker *w = *state;
	struct told told;
	int fd = rig_transport(w, &told, NULL, 0);
	transport_close(told.t, false);
	told.t = NULL;
	rig_run(w, 2);
	struct transport_socket *s = TAILQ_FIRST(&w->transports->lingering);
	assert_non_null(s);
	transports_free(w->transports); /* and the end of the worker ends it */
	assert_int_equal(transports_new(w, &w->transports), 0);
	char byte;
	ssize_t n = rig_next(w, fd, &byte, 1);
	assert_true(n == 0 || n == -ECONNRESET);
	told_done(&told);
	close(fd);
}

static void test_socket_abort_resets(void **state)
{
	struct worker *w = *state;
	struct told told;
	char byte;
	int fd = rig_transport(w, &told, NULL, 0);
	rig_write(told.t, "never sent", 10);
	transport_close(told.t, true);
	told.t = NULL;
	ssize_t n = rig_next(w, fd, &byte, 1);
	assert_true(n == 0 || n == -ECONNRESET); /* a local pair has no reset */
	told_done(&told);
	close(fd);
}

static void test_socket_write_to_a_gone_peer_breaks_later(void **state)
{
	struct worker *w = *state;
	struct told told;
	int fd = rig_transport(w, &told, NULL, 0);
	close(fd);
	uint8_t much[20000] = { 0 };
	assert_int_equal(rig_write(told.t, much, sizeof(much)), sizeof(much));
	assert_int_equal(told.broken, 0); /* never from inside */
	rig_until(w, &told.broken, 1);
	assert_int_equal(told.error, -EPIPE);
	assert_int_equal(told.ends, 0);
	told_done(&told);
}

static void test_socket_charge_is_given_back(void **state)
{
	struct worker *w = *state;
	struct told told;
	int fd = rig_transport(w, &told, NULL, 0);
	assert_true(worker_pod_admit(w, &w->pod));
	transport_socket_charge(told.t, &w->pod);
	told_done(&told);
	assert_int_equal(w->pod.connections, 0);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(test_socket_bytes_go_both_ways),
		RIG_TEST(test_socket_flush_sends_at_once),
		RIG_TEST(test_socket_first_bytes_come_before_others),
		RIG_TEST(test_socket_idle_holds_no_buffer),
		RIG_TEST(test_socket_what_is_not_taken_is_kept),
		RIG_TEST(test_socket_end_comes_after_what_was_kept),
		RIG_TEST(test_socket_close_inside_on_data_is_safe),
		RIG_TEST(test_socket_queue_is_bounded_and_tells_of_room),
		RIG_TEST(test_socket_small_writes_behind_a_large_one_keep_their_order),
		RIG_TEST(test_socket_echo_of_much_arrives_whole),
		RIG_TEST(test_socket_end_is_half),
		RIG_TEST(test_socket_peer_ends_first_we_still_send),
		RIG_TEST(test_socket_close_sends_what_is_queued),
		RIG_TEST(test_socket_discards_only_so_much_after_close),
		RIG_TEST(test_socket_lingers_for_its_time),
		RIG_TEST(test_socket_abort_resets),
		RIG_TEST(test_socket_write_to_a_gone_peer_breaks_later),
		RIG_TEST(test_socket_charge_is_given_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
