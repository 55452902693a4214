/* SPDX-License-Identifier: Apache-2.0 */
/* Two HTTP/2 ends without TLS or sockets: what one puts out is fed to the other in pieces of every size. */
#include "agent/helper/buffer.h"
#include "agent/helper/h2.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct end {
	struct h2 *h;
	struct h2_stream streams[H2_STREAMS_MAX];
	size_t count;
	char authority[64];
	const char *problem;
	int status;
	char data[256];
	size_t data_len, data_total;
	unsigned int ends, resets, windows, goaways, pongs;
	uint32_t reset_code;
	bool refuse;
};

static uint64_t now_s;

static struct h2_stream *stream_new(void *arg)
{
	struct end *e = arg;
	if (e->refuse)
		return NULL;
	struct h2_stream *s = &e->streams[e->count++ % (sizeof(e->streams) / sizeof(e->streams[0]))];
	*s = (struct h2_stream){ 0 };
	return s;
}

static void on_request(struct h2_stream *s, const struct h2_request *request, void *arg)
{
	struct end *e = arg;
	strcpy(e->authority, request->authority);
	e->problem = request->problem;
	assert_int_equal(h2_respond(e->h, s, request->problem ? 400 : 200, request->problem), 0);
}

static void on_response(struct h2_stream *s, int status, void *arg)
{
	struct end *e = arg;
	(void)s;
	e->status = status;
}

static void on_data(struct h2_stream *s, const uint8_t *bytes, size_t len, void *arg)
{
	struct end *e = arg;
	(void)s;
	if (e->data_len + len <= sizeof(e->data)) {
		memcpy(e->data + e->data_len, bytes, len);
		e->data_len += len;
	}
	e->data_total += len;
}

static void on_end(struct h2_stream *s, void *arg)
{
	struct end *e = arg;
	(void)s;
	e->ends++;
}

static void on_reset(struct h2_stream *s, uint32_t code, void *arg)
{
	struct end *e = arg;
	assert_int_equal(s->id, 0);
	e->resets++;
	e->reset_code = code;
}

static void on_window(struct h2_stream *s, void *arg)
{
	struct end *e = arg;
	(void)s;
	e->windows++;
}

static void on_goaway(uint32_t code, void *arg)
{
	struct end *e = arg;
	(void)code;
	e->goaways++;
}

static void on_settings(void *arg)
{
	(void)arg;
}

static void on_pong(void *arg)
{
	struct end *e = arg;
	e->pongs++;
}

static const struct h2_events events = { stream_new, on_request, on_response, on_data,	   on_end,
					 on_reset,   on_window,	 on_goaway,   on_settings, on_pong };

static void ends_init(struct end *client, struct end *server)
{
	*client = *server = (struct end){ 0 };
	assert_int_equal(h2_new(false, &events, client, &client->h), 0);
	assert_int_equal(h2_new(true, &events, server, &server->h), 0);
}

static void ends_done(struct end *client, struct end *server)
{
	h2_free(client->h);
	h2_free(server->h);
}

static void carry(struct end *from, struct end *to, size_t piece)
{
	struct buffer *out = h2_output(from->h);
	while (out->len) {
		size_t n = out->len < piece ? out->len : piece;
		assert_int_equal(h2_input(to->h, buffer_head(out), n, now_s), 0);
		buffer_consume(out, n);
	}
}

static void settle(struct end *a, struct end *b, size_t piece)
{
	while (h2_output(a->h)->len || h2_output(b->h)->len) {
		carry(a, b, piece);
		carry(b, a, piece);
	}
}

static void send_data(struct end *e, struct h2_stream *s, const void *bytes, size_t len)
{
	uint8_t header[H2_FRAME_HEADER];
	assert_true(h2_credit(e->h, s) >= len);
	h2_data_header(e->h, s, len, false, header);
	buffer_append(h2_output(e->h), header, sizeof(header));
	buffer_append(h2_output(e->h), bytes, len);
}

static void open_stream(struct end *client, struct end *server, struct h2_stream *s)
{
	struct h2_connect request = { .authority = "10.1.2.3:80",
				      .baggage = "k8s.namespace.name=shop",
				      .forwarded = "for=10.0.0.1",
				      .traceparent = "00-1-2-00" };
	assert_true(h2_can_open(client->h));
	assert_int_equal(h2_open(client->h, s, &request), 0);
	settle(client, server, 1000);
}

static void test_h2_conversation_in_pieces_of_any_size(void **state)
{
	(void)state;
	for (size_t piece = 1; piece < 80; piece++) {
		struct end client, server;
		struct h2_stream s = { 0 };
		ends_init(&client, &server);
		settle(&client, &server, piece);
		open_stream(&client, &server, &s);
		assert_string_equal(server.authority, "10.1.2.3:80");
		assert_int_equal(client.status, 200);
		send_data(&client, &s, "question", 8);
		h2_end(client.h, &s);
		settle(&client, &server, piece);
		assert_int_equal(server.data_len, 8);
		assert_memory_equal(server.data, "question", 8);
		assert_int_equal(server.ends, 1);
		send_data(&server, &server.streams[0], "answer", 6);
		h2_end(server.h, &server.streams[0]);
		settle(&client, &server, piece);
		assert_memory_equal(client.data, "answer", 6);
		assert_int_equal(client.ends, 1);
		assert_int_equal(s.id, 0);
		assert_int_equal(h2_stream_count(client.h), 0);
		assert_int_equal(h2_stream_count(server.h), 0);
		ends_done(&client, &server);
	}
}

static void test_h2_windows_are_as_announced(void **state)
{
	struct end client, server;
	struct h2_stream s = { 0 };
	(void)state;
	ends_init(&client, &server);
	settle(&client, &server, 1000);
	open_stream(&client, &server, &s);
	assert_int_equal(h2_credit(client.h, &s), H2_STREAM_WINDOW);
	ends_done(&client, &server);
}

/* Sends until the window is used up; returns the bytes. */
static size_t send_all_credit(struct end *client, struct end *server, struct h2_stream *s)
{
	static const uint8_t block[H2_FRAME_MAX];
	size_t total = 0, n;
	while ((n = h2_credit(client->h, s)) > 0) {
		n = n < sizeof(block) ? n : sizeof(block);
		send_data(client, s, block, n);
		carry(client, server, 65536);
		total += n;
	}
	return total;
}

static void test_h2_credit_returns_only_with_consumption(void **state)
{
	struct end client, server;
	struct h2_stream s = { 0 };
	(void)state;
	ends_init(&client, &server);
	settle(&client, &server, 1000);
	open_stream(&client, &server, &s);
	assert_int_equal(send_all_credit(&client, &server, &s), H2_STREAM_WINDOW);
	settle(&client, &server, 1000);
	assert_int_equal(h2_credit(client.h, &s), 0);
	unsigned int before = client.windows;
	h2_consumed(server.h, &server.streams[0], H2_STREAM_WINDOW / 2);
	settle(&client, &server, 1000);
	assert_int_equal(client.windows, before + 1);
	assert_int_equal(send_all_credit(&client, &server, &s), H2_STREAM_WINDOW / 2);
	ends_done(&client, &server);
}

/* As send_all_credit(), to an application that takes what comes, up to `most` bytes. */
static size_t send_taken(struct end *client, struct end *server, struct h2_stream *s, struct h2_stream *to, size_t most)
{
	static const uint8_t block[H2_FRAME_MAX];
	size_t total = 0, n;
	while (total < most && (n = h2_credit(client->h, s)) > 0) {
		n = n < sizeof(block) ? n : sizeof(block);
		send_data(client, s, block, n);
		carry(client, server, 65536);
		h2_consumed(server->h, to, n);
		carry(server, client, 65536);
		total += n;
	}
	return total;
}

/* All but the last stream go unread. */
static void fill(struct end *client, struct end *server, struct h2_stream *s, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		open_stream(client, server, &s[i]);
		if (i + 1 < count)
			assert_int_equal(send_all_credit(client, server, &s[i]), H2_STREAM_WINDOW);
		settle(client, server, 65536);
	}
}

static void test_h2_unread_streams_leave_the_others_credit(void **state)
{
	static struct end client, server;
	struct h2_stream s[H2_STREAMS_MAX] = { 0 };
	(void)state;
	ends_init(&client, &server);
	settle(&client, &server, 1000);
	fill(&client, &server, s, H2_STREAMS_MAX);
	struct h2_stream *last = &server.streams[H2_STREAMS_MAX - 1];
	assert_int_equal(send_taken(&client, &server, &s[H2_STREAMS_MAX - 1], last, 64 << 20), 64 << 20);
	/* One that is reset with bytes of it unread gives them back. */
	h2_reset(server.h, &server.streams[0], H2_CANCEL);
	h2_consumed(server.h, NULL, H2_STREAM_WINDOW);
	settle(&client, &server, 1000);
	assert_int_equal(client.resets, 1);
	ends_done(&client, &server);
}

/* Streams that are given up at once, and whose bytes nobody deals with. */
static size_t leave_behind(struct end *client, struct end *server, size_t most)
{
	size_t total = 0, sent = 1;
	while (total < most && sent) {
		struct h2_stream s = { 0 };
		open_stream(client, server, &s);
		sent = send_all_credit(client, server, &s);
		total += sent;
		h2_reset(client->h, &s, H2_CANCEL);
		settle(client, server, 65536);
	}
	return total;
}

static void test_h2_beyond_the_shared_budget_holders_wait(void **state)
{
	static struct end client, server, other_client, other_server;
	struct h2_stream other = { 0 }, late = { 0 };
	struct h2_budget budget = { .limit = 1 << 20 };
	(void)state;
	ends_init(&client, &server);
	ends_init(&other_client, &other_server);
	h2_share(server.h, &budget);
	h2_share(other_server.h, &budget);
	settle(&client, &server, 1000);
	settle(&other_client, &other_server, 1000);
	size_t total = leave_behind(&client, &server, H2_HELD_MAX);
	/* What came before the budget was reached did not count. */
	assert_in_range(total, H2_CONNECTION_WINDOW, H2_CONNECTION_WINDOW + budget.limit);
	assert_int_equal(budget.held, total);
	open_stream(&other_client, &other_server, &other);
	assert_int_equal(send_taken(&other_client, &other_server, &other, &other_server.streams[0], 64 << 20),
			 64 << 20);

	h2_review(server.h);
	assert_int_equal(h2_output(server.h)->len, 0);
	budget.limit = 64 << 20;
	h2_review(server.h);
	settle(&client, &server, 1000);
	open_stream(&client, &server, &late);
	assert_int_equal(send_all_credit(&client, &server, &late), H2_STREAM_WINDOW);
	ends_done(&client, &server);
	assert_int_equal(budget.held, 0);
	ends_done(&other_client, &other_server);
}

static void test_h2_connection_holds_so_much_and_no_more(void **state)
{
	static struct end client, server;
	(void)state;
	ends_init(&client, &server);
	settle(&client, &server, 1000);
	size_t total = leave_behind(&client, &server, SIZE_MAX);
	assert_int_equal(total, H2_HELD_MAX + H2_CONNECTION_WINDOW);
	h2_consumed(server.h, NULL, total);
	settle(&client, &server, 1000);
	assert_int_equal(leave_behind(&client, &server, 4 << 20), 4 << 20);
	ends_done(&client, &server);
}

/* How much the peer has under way, when it stops being taken. */
static size_t window_of(struct end *client, struct end *server, struct h2_stream *s)
{
	settle(client, server, 65536);
	return send_all_credit(client, server, s);
}

static void test_h2_windows_of_fast_streams_grow(void **state)
{
	static struct end client, server;
	struct h2_stream s[2] = { 0 };
	(void)state;
	ends_init(&client, &server);
	settle(&client, &server, 1000);
	open_stream(&client, &server, &s[0]);
	open_stream(&client, &server, &s[1]);
	send_taken(&client, &server, &s[0], &server.streams[0], 16 << 20);
	assert_in_range(window_of(&client, &server, &s[0]), H2_STREAM_WINDOW_MAX * 3 / 4, H2_STREAM_WINDOW_MAX);
	for (int i = 0; i < 100; i++, now_s++)
		send_taken(&client, &server, &s[1], &server.streams[1], H2_STREAM_WINDOW);
	assert_in_range(window_of(&client, &server, &s[1]), H2_STREAM_WINDOW / 2, H2_STREAM_WINDOW);
	ends_done(&client, &server);
}

/* Applications that read fast, and then not at all. */
static void test_h2_windows_grow_by_so_much_together(void **state)
{
	static struct end client, server;
	struct h2_stream s[H2_STREAMS_MAX] = { 0 };
	size_t total = 0;
	(void)state;
	ends_init(&client, &server);
	settle(&client, &server, 1000);
	for (size_t i = 0; i < H2_STREAMS_MAX; i++) {
		open_stream(&client, &server, &s[i]);
		send_taken(&client, &server, &s[i], &server.streams[i], 16 << 20);
	}
	for (size_t i = 0; i + 1 < H2_STREAMS_MAX; i++)
		total += window_of(&client, &server, &s[i]);
	assert_in_range(total, 20 << 20, H2_HELD_MAX);
	struct h2_stream *last = &server.streams[H2_STREAMS_MAX - 1];
	assert_int_equal(send_taken(&client, &server, &s[H2_STREAMS_MAX - 1], last, 64 << 20), 64 << 20);
	ends_done(&client, &server);
}

static void test_h2_streams_that_became_slow_give_back_their_growth(void **state)
{
	static struct end client, server;
	struct h2_stream s[8] = { 0 };
	(void)state;
	ends_init(&client, &server);
	settle(&client, &server, 1000);
	for (size_t i = 0; i < 7; i++) {
		open_stream(&client, &server, &s[i]);
		send_taken(&client, &server, &s[i], &server.streams[i], 16 << 20);
	}
	for (int n = 0; n < 200; n++, now_s++)
		for (size_t i = 0; i < 7; i++)
			send_taken(&client, &server, &s[i], &server.streams[i], 64 << 10);
	open_stream(&client, &server, &s[7]);
	send_taken(&client, &server, &s[7], &server.streams[7], 16 << 20);
	assert_in_range(window_of(&client, &server, &s[7]), H2_STREAM_WINDOW_MAX * 3 / 4, H2_STREAM_WINDOW_MAX);
	ends_done(&client, &server);
}

static void test_h2_data_beyond_window_is_an_error(void **state)
{
	static uint8_t frame[H2_FRAME_HEADER + H2_FRAME_MAX] = { 0, 0x40, 0, 0, 0, 0, 0, 0, 1 };
	struct end client, server;
	struct h2_stream s = { 0 };
	(void)state;
	ends_init(&client, &server);
	settle(&client, &server, 1000);
	open_stream(&client, &server, &s);
	for (size_t sent = 0; sent < H2_STREAM_WINDOW; sent += H2_FRAME_MAX)
		assert_int_equal(h2_input(server.h, frame, sizeof(frame), 0), 0);
	assert_int_equal(server.resets, 0);
	assert_int_equal(h2_input(server.h, frame, sizeof(frame), 0), 0);
	assert_int_equal(server.resets, 1);
	assert_int_equal(server.reset_code, H2_FLOW_CONTROL_ERROR);
	ends_done(&client, &server);
}

static void test_h2_refused_stream_is_reported_as_such(void **state)
{
	struct end client, server;
	struct h2_stream s = { 0 };
	(void)state;
	ends_init(&client, &server);
	server.refuse = true;
	settle(&client, &server, 1000);
	open_stream(&client, &server, &s);
	assert_int_equal(client.resets, 1);
	assert_int_equal(client.reset_code, H2_REFUSED_STREAM);
	ends_done(&client, &server);
}

static void test_h2_goaway_gives_back_streams_it_does_not_cover(void **state)
{
	struct end client, server;
	struct h2_stream s[2] = { 0 };
	struct h2_connect request = { .authority = "a:1" };
	(void)state;
	ends_init(&client, &server);
	settle(&client, &server, 1000);
	open_stream(&client, &server, &s[0]);
	h2_goaway(server.h, H2_NO_ERROR);
	assert_int_equal(h2_open(client.h, &s[1], &request), 0); /* crosses it */
	carry(&server, &client, 1000);
	assert_int_equal(client.goaways, 1);
	assert_int_equal(client.resets, 1);
	assert_int_equal(client.reset_code, H2_REFUSED_STREAM);
	assert_int_not_equal(s[0].id, 0);
	assert_false(h2_can_open(client.h));
	settle(&client, &server, 1000);
	ends_done(&client, &server);
}

static void test_h2_request_that_crosses_goaway_harms_nobody(void **state)
{
	struct end client, server;
	struct h2_stream s[2] = { 0 };
	struct h2_connect request = { .authority = "a:1" };
	(void)state;
	ends_init(&client, &server);
	settle(&client, &server, 1000);
	open_stream(&client, &server, &s[0]);
	h2_goaway(server.h, H2_NO_ERROR);
	assert_int_equal(h2_open(client.h, &s[1], &request), 0);
	send_data(&client, &s[1], "late", 4);
	carry(&client, &server, 1000);
	settle(&client, &server, 1000);
	assert_int_equal(server.count, 1);
	send_data(&client, &s[0], "fine", 4);
	settle(&client, &server, 1000);
	assert_memory_equal(server.data, "fine", 4);
	ends_done(&client, &server);
}

static void test_h2_ping_comes_back(void **state)
{
	struct end client, server;
	(void)state;
	ends_init(&client, &server);
	settle(&client, &server, 1000);
	h2_ping(client.h);
	settle(&client, &server, 1000);
	assert_int_equal(client.pongs, 1);
	ends_done(&client, &server);
}

static void test_h2_long_header_value_is_encoded(void **state)
{
	char long_text[3000];
	struct end client, server;
	struct h2_stream s = { 0 };
	(void)state;
	memset(long_text, 'a', sizeof(long_text));
	long_text[sizeof(long_text) - 1] = '\0';
	ends_init(&client, &server);
	settle(&client, &server, 1000);
	struct h2_connect request = { .authority = "10.1.2.3:80", .baggage = long_text };
	assert_int_equal(h2_open(client.h, &s, &request), 0);
	settle(&client, &server, 1000);
	assert_int_equal(client.status, 200);
	ends_done(&client, &server);
}

static void test_h2_stop_ends_input(void **state)
{
	struct end client, server;
	(void)state;
	ends_init(&client, &server);
	h2_stop(server.h);
	struct buffer *out = h2_output(client.h);
	assert_int_equal(h2_input(server.h, buffer_head(out), out->len, 0), -ECANCELED);
	ends_done(&client, &server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_h2_conversation_in_pieces_of_any_size),
		cmocka_unit_test(test_h2_windows_are_as_announced),
		cmocka_unit_test(test_h2_credit_returns_only_with_consumption),
		cmocka_unit_test(test_h2_unread_streams_leave_the_others_credit),
		cmocka_unit_test(test_h2_beyond_the_shared_budget_holders_wait),
		cmocka_unit_test(test_h2_connection_holds_so_much_and_no_more),
		cmocka_unit_test(test_h2_windows_of_fast_streams_grow),
		cmocka_unit_test(test_h2_windows_grow_by_so_much_together),
		cmocka_unit_test(test_h2_streams_that_became_slow_give_back_their_growth),
		cmocka_unit_test(test_h2_data_beyond_window_is_an_error),
		cmocka_unit_test(test_h2_refused_stream_is_reported_as_such),
		cmocka_unit_test(test_h2_goaway_gives_back_streams_it_does_not_cover),
		cmocka_unit_test(test_h2_request_that_crosses_goaway_harms_nobody),
		cmocka_unit_test(test_h2_ping_comes_back),
		cmocka_unit_test(test_h2_long_header_value_is_encoded),
		cmocka_unit_test(test_h2_stop_ends_input),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
