/* SPDX-License-Identifier: Apache-2.0 */
/* What does not come in time, with a clock that the test moves; and the wheel of deadlines itself. */
#include "tests/unit/http2/side.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/err.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/helper/http/tick.h"

static struct loop *loop;
static struct side client, server;

static int setup(void **state)
{
	struct err err;
	(void)state;
	memset(&client, 0, sizeof(client));
	memset(&server, 0, sizeof(server));
	client.limits = server.limits = http_limits_default;
	return loop_new(&loop, &err);
}

static int teardown(void **state)
{
	(void)state;
	if (client.f)
		side_done(&client);
	if (server.f)
		side_done(&server);
	loop_free(loop);
	return 0;
}

static void start_server(void)
{
	side_server(&server, loop);
	raw_preface(&server);
}

static void advance(uint64_t ms)
{
	for (; ms > 1000; ms -= 1000)
		tick_advance(loop, 1000);
	tick_advance(loop, ms);
	fake_tick(loop, 0);
}

static void test_preface_that_does_not_come(void **state)
{
	(void)state;
	side_server(&server, loop);
	fake_push_text(server.f, "PRI * HT");
	advance(9000);
	assert_non_null(server.c);
	advance(3000);
	assert_true(server.closed && server.f->closed);
}

static void test_settings_of_a_server_that_do_not_come(void **state)
{
	(void)state;
	side_client(&client, loop);
	struct seen *x = side_request(&client, "GET", "/", true);
	fake_tick(loop, 0);
	struct seen *y = side_request(&client, "GET", "/", true); /* never sent */
	advance(12000);
	assert_true(client.closed);
	assert_int_equal(x->reset, HTTP_RESET_CLOSED);
	assert_int_equal(y->reset, HTTP_RESET_REFUSED);
}

static void test_header_block_that_does_not_end(void **state)
{
	(void)state;
	start_server();
	raw_get(&server, 1, false);
	raw_frame(&server, F_HEADERS, END_STREAM, 3, "\202", 1);
	advance(9000);
	assert_non_null(server.c);
	advance(3000);
	assert_true(server.closed);
	assert_int_equal(server.bad[HTTP_BAD_TIMEOUT], 1);
	assert_int_equal(server.seen[0].reset, HTTP_RESET_CLOSED);
}

/* Half a frame of headers is no head either. */
static void test_header_frame_that_does_not_end(void **state)
{
	(void)state;
	start_server();
	fake_push(server.f, "\0\0\40\1\5\0\0\0\1\202", 10);
	advance(12000);
	assert_true(server.closed);
}

static void test_idle_connection_is_drained(void **state)
{
	(void)state;
	server.limits.idle_timeout_ms = 60000;
	start_server();
	raw_get(&server, 1, true);
	advance(100000); /* not idle */
	assert_non_null(server.c);
	struct http_head *h = response_head(200);
	stream_send_head(server.seen[0].s, h, true);
	http_head_free(h);
	fake_tick(loop, 0);
	advance(58000);
	assert_int_equal(raw_count(&server, F_GOAWAY, 0), 0);
	advance(5000);
	assert_true(raw_count(&server, F_GOAWAY, 0) >= 2);
	assert_int_equal(raw_goaway(&server), 0);
	assert_true(server.closed);
}

static void test_body_that_does_not_come(void **state)
{
	(void)state;
	server.limits.body_timeout_ms = 5000;
	start_server();
	raw_get(&server, 1, false);
	for (int i = 0; i < 4; i++) {
		raw_frame(&server, F_DATA, 0, 1, "a", 1);
		advance(4000);
	}
	assert_int_equal(server.seen[0].reset, -1);
	advance(3000);
	assert_int_equal(server.seen[0].reset, HTTP_RESET_TIMEOUT);
	assert_int_equal(raw_rst(&server, 1), 8);
	assert_non_null(server.c);
	assert_int_equal(http_conn_streams(server.c), 0);
}

/* A client that asks for much and opens no window. */
static void test_window_that_stays_closed(void **state)
{
	(void)state;
	static char body[100000];
	server.limits.body_timeout_ms = 5000;
	start_server();
	raw_frame(&server, F_SETTINGS, 0, 0, "\0\4\0\0\0\0", 6);
	raw_get(&server, 1, true);
	struct http_head *h = response_head(200);
	stream_send_head(server.seen[0].s, h, false);
	http_head_free(h);
	seen_send(&server.seen[0], body, sizeof(body), true);
	assert_int_equal(server.seen[0].out_sent, 0);
	advance(7000);
	assert_int_equal(server.seen[0].reset, HTTP_RESET_TIMEOUT);
	assert_int_equal(http_conn_streams(server.c), 0);
}

/* What was kept for it, its user being gone, goes too. */
static void test_kept_answer_is_not_kept_for_ever(void **state)
{
	(void)state;
	server.answer = ANSWER_ECHO;
	start_server();
	raw_frame(&server, F_SETTINGS, 0, 0, "\0\4\0\0\0\0", 6);
	raw_get(&server, 1, false);
	raw_frame(&server, F_DATA, END_STREAM, 1, "abc", 3);
	assert_true(server.seen[0].end);
	assert_int_equal(http_conn_streams(server.c), 1);
	advance(40000);
	assert_int_equal(http_conn_streams(server.c), 0);
	assert_int_equal(raw_rst(&server, 1), 8);
}

static void test_silent_server_is_asked(void **state)
{
	(void)state;
	side_client(&client, loop);
	raw_preface(&client);
	advance(50000); /* no stream: no question */
	assert_int_equal(raw_count(&client, F_PING, 0), 0);
	struct seen *x = side_request(&client, "GET", "/", true);
	fake_tick(loop, 0);
	raw_frame(&client, 0xbe, 0, 0, NULL, 0);
	advance(28000);
	assert_int_equal(raw_count(&client, F_PING, 0), 0);
	advance(4000);
	assert_int_equal(raw_count(&client, F_PING, 0), 1);
	advance(6000);
	raw_frame(&client, F_PING, ACK, 0, "\0\0\0\0\0\0\0\0", 8);
	advance(28000);
	assert_non_null(client.c);
	advance(4000);
	assert_int_equal(raw_count(&client, F_PING, 0), 2);
	advance(6000);
	assert_non_null(client.c);
	advance(6000);
	assert_true(client.closed);
	assert_int_equal(x->reset, HTTP_RESET_CLOSED);
}

static void test_drain_goes_on_without_an_answer(void **state)
{
	(void)state;
	start_server();
	raw_get(&server, 1, true);
	http_conn_drain(server.c);
	fake_tick(loop, 0);
	assert_int_equal(raw_count(&server, F_GOAWAY, 0), 1);
	assert_int_equal(raw_count(&server, F_PING, 0), 1);
	advance(2500);
	assert_int_equal(raw_count(&server, F_GOAWAY, 0), 2);
	raw_get(&server, 3, true); /* beyond it */
	assert_int_equal(server.count, 1);
	struct http_head *h = response_head(200);
	stream_send_head(server.seen[0].s, h, true);
	http_head_free(h);
	fake_tick(loop, 0);
	fake_tick(loop, 0);
	assert_true(server.closed);
}

/* --- the wheel */

struct entry {
	struct tick tick;
	unsigned int fired;
	struct entry *ends; /* another that it ends */
};

static void on_tick(struct tick *t)
{
	struct entry *e = container_of(t, struct entry, tick);
	e->fired++;
	if (e->ends)
		tick_done(&e->ends->tick);
}

static void test_wheel(void **state)
{
	(void)state;
	struct entry e[4] = { 0 };
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(tick_init(&e[i].tick, loop, on_tick), 0);
	tick_set(&e[0].tick, 1000);
	tick_set(&e[1].tick, 3600000);
	tick_set(&e[2].tick, 5000);
	tick_set(&e[2].tick, 2000); /* replaced */
	tick_set(&e[3].tick, 1000);
	tick_clear(&e[3].tick);
	tick_advance(loop, 900);
	assert_int_equal(e[0].fired, 0);
	tick_advance(loop, 700);
	assert_int_equal(e[0].fired, 1);
	advance(10000);
	assert_int_equal(e[0].fired, 1);
	assert_int_equal(e[2].fired, 1);
	assert_int_equal(e[3].fired, 0);
	for (int i = 0; i < 58; i++)
		tick_advance(loop, 60000);
	assert_int_equal(e[1].fired, 0);
	tick_advance(loop, 200000); /* more than the wheel's turn at once */
	assert_int_equal(e[1].fired, 1);
	for (size_t i = 0; i < 4; i++)
		tick_done(&e[i].tick);
	tick_done(&e[0].tick); /* twice is fine */
}

static void test_wheel_entries_may_end_each_other(void **state)
{
	(void)state;
	struct entry e[2] = { 0 };
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(tick_init(&e[i].tick, loop, on_tick), 0);
		e[i].ends = &e[1 - i];
		tick_set(&e[i].tick, 1000);
	}
	tick_advance(loop, 2000);
	assert_int_equal(e[0].fired + e[1].fired, 1);
	tick_done(&e[0].tick);
	tick_done(&e[1].tick);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_preface_that_does_not_come),
		TEST(test_settings_of_a_server_that_do_not_come),
		TEST(test_header_block_that_does_not_end),
		TEST(test_header_frame_that_does_not_end),
		TEST(test_idle_connection_is_drained),
		TEST(test_body_that_does_not_come),
		TEST(test_window_that_stays_closed),
		TEST(test_kept_answer_is_not_kept_for_ever),
		TEST(test_silent_server_is_asked),
		TEST(test_drain_goes_on_without_an_answer),
		TEST(test_wheel),
		TEST(test_wheel_entries_may_end_each_other),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
