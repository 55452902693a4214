/* SPDX-License-Identifier: Apache-2.0 */
/* A client of ours, and a server that writes frames by hand: the sections of RFC 9113 that h2spec tries on servers. */
#include "tests/unit/http2/side.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/err.h"
#include "agent/base/loop.h"

enum {
	PROTOCOL_ERROR = 1,
	FLOW_CONTROL_ERROR = 3,
	STREAM_CLOSED = 5,
	FRAME_SIZE_ERROR = 6,
	COMPRESSION_ERROR = 9,
	CALM = 11
};

static struct loop *loop;
static struct side client;

static int setup(void **state)
{
	struct err err;
	(void)state;
	memset(&client, 0, sizeof(client));
	return loop_new(&loop, &err);
}

static int teardown(void **state)
{
	(void)state;
	side_done(&client);
	loop_free(loop);
	return 0;
}

static void again(void)
{
	side_done(&client);
	memset(&client, 0, sizeof(client));
}

static void start(void)
{
	side_client(&client, loop);
	raw_preface(&client);
	raw_frame(&client, F_SETTINGS, ACK, 0, NULL, 0);
}

static struct seen *request(bool end)
{
	struct seen *x = side_request(&client, end ? "GET" : "POST", "/", end);
	fake_tick(loop, 0);
	return x;
}

#define FIELDS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void test_preface_of_a_client(void **state)
{
	(void)state;
	start();
	assert_memory_equal(client.f->out, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
	assert_int_equal(client.f->out[24 + 3], F_SETTINGS);
	assert_int_equal(raw_count(&client, F_SETTINGS, ACK), 1);
}

static void test_malformed_responses_are_reset(void **state)
{
	(void)state;
	const char *const *const malformed[] = {
		FIELDS("x", "1"),
		FIELDS(":status", "20"),
		FIELDS(":status", "2000"),
		FIELDS(":status", "abc"),
		FIELDS(":status", "101"),
		FIELDS(":status", "000"),
		FIELDS(":status", "200", ":status", "200"),
		FIELDS("x", "1", ":status", "200"),
		FIELDS(":status", "200", ":path", "/"),
		FIELDS(":status", "200", ":method", "GET"),
		FIELDS(":status", "200", ":unknown", "1"),
		FIELDS(":status", "200", "Upper", "1"),
		FIELDS(":status", "200", "connection", "close"),
		FIELDS(":status", "200", "keep-alive", "1"),
		FIELDS(":status", "200", "transfer-encoding", "chunked"),
		FIELDS(":status", "200", "upgrade", "h2c"),
		FIELDS(":status", "200", "x", "a\nb"),
		FIELDS(":status", "200", "x", "a "),
		FIELDS(":status", "200", "x y", "a"),
		FIELDS(":status", "200", "content-length", "x"),
		FIELDS(":status", "200", "content-length", "1", "content-length", "2"),
	};
	start();
	for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++) {
		uint32_t id = (uint32_t)(1 + 2 * i);
		struct seen *x = request(true);
		raw_headers(&client, END_HEADERS, id, malformed[i]);
		if (raw_rst(&client, id) != PROTOCOL_ERROR || x->reset != HTTP_RESET_PROTOCOL || x->head)
			fail_msg("malformed[%zu]: %ld %d", i, raw_rst(&client, id), x->reset);
		assert_int_equal(http_conn_streams(client.c), 0);
	}
}

static void test_content_length_must_match_data(void **state)
{
	(void)state;
	start();
	for (uint32_t i = 0; i < 3; i++) {
		struct seen *x = request(true);
		uint32_t id = 1 + 2 * i;
		raw_headers(&client, END_HEADERS, id, FIELDS(":status", "200", "content-length", "3"));
		raw_frame(&client, F_DATA, END_STREAM, id, "abcd", 2 + i);
		assert_int_equal(x->reset, i == 1 ? -1 : HTTP_RESET_PROTOCOL);
		assert_int_equal(x->end, i == 1);
	}
	struct seen *x = request(true);
	raw_headers(&client, END_HEADERS | END_STREAM, 7, FIELDS(":status", "200", "content-length", "3"));
	assert_int_equal(x->reset, HTTP_RESET_PROTOCOL);
	x = side_request(&client, "HEAD", "/", true);
	fake_tick(loop, 0);
	raw_headers(&client, END_HEADERS, 9, FIELDS(":status", "200", "content-length", "3"));
	raw_frame(&client, F_DATA, END_STREAM, 9, "abc", 3);
	assert_int_equal(x->reset, HTTP_RESET_PROTOCOL);
}

static void test_heads_in_a_wrong_order(void **state)
{
	(void)state;
	start();
	struct seen *x = request(true); /* DATA before a head */
	raw_frame(&client, F_DATA, 0, 1, "a", 1);
	assert_true(x->reset == HTTP_RESET_PROTOCOL);
	again();
	start();
	x = request(true); /* 1xx that ends */
	raw_headers(&client, END_HEADERS | END_STREAM, 1, FIELDS(":status", "103"));
	assert_true(x->reset == HTTP_RESET_PROTOCOL);
	again();
	start();
	x = request(true); /* DATA after 1xx */
	raw_headers(&client, END_HEADERS, 1, FIELDS(":status", "103"));
	raw_frame(&client, F_DATA, END_STREAM, 1, "a", 1);
	assert_true(x->reset == HTTP_RESET_PROTOCOL);
	again();
	start();
	x = request(true); /* a second head */
	raw_headers(&client, END_HEADERS, 1, FIELDS(":status", "200"));
	raw_headers(&client, END_HEADERS | END_STREAM, 1, FIELDS(":status", "200"));
	assert_true(x->reset == HTTP_RESET_PROTOCOL && x->head && !x->trailers);
}

static void test_head_beyond_the_limits(void **state)
{
	(void)state;
	uint8_t block[16384];
	start();
	struct seen *x = request(true);
	size_t len = raw_block(block, sizeof(block), FIELDS(":status", "200"));
	for (int i = 0; i < 101; i++)
		len += raw_block(block + len, sizeof(block) - len, FIELDS("x", "1"));
	raw_frame(&client, F_HEADERS, END_HEADERS, 1, block, len);
	assert_int_equal(x->reset, HTTP_RESET_TOO_LARGE);
	assert_non_null(client.c);
	assert_int_equal(http_conn_streams(client.c), 0);
}

struct shape {
	const char *name;
	uint8_t type, flags;
	uint32_t id;
	const char *payload;
	size_t len;
	long code;
};

/* 1 has its request sent, 3 is answered and closed. */
static const struct shape shapes[] = {
	{ "DATA on stream 0", F_DATA, 0, 0, "a", 1, PROTOCOL_ERROR },
	{ "DATA on an idle stream", F_DATA, 0, 9, "a", 1, PROTOCOL_ERROR },
	{ "DATA on a stream of the server's", F_DATA, 0, 2, "a", 1, PROTOCOL_ERROR },
	{ "DATA with too much padding", F_DATA, PADDED, 5, "\5a", 2, PROTOCOL_ERROR },
	{ "DATA after the end", F_DATA, 0, 3, "a", 1, STREAM_CLOSED },
	{ "HEADERS after the end", F_HEADERS, END_HEADERS | END_STREAM, 3, "\210", 1, STREAM_CLOSED },
	{ "HEADERS on stream 0", F_HEADERS, END_HEADERS, 0, "\210", 1, PROTOCOL_ERROR },
	{ "HEADERS on an idle stream", F_HEADERS, END_HEADERS, 9, "\210", 1, PROTOCOL_ERROR },
	{ "HEADERS on a stream of the server's", F_HEADERS, END_HEADERS, 2, "\210", 1, PROTOCOL_ERROR },
	{ "HEADERS that don't decompress", F_HEADERS, END_HEADERS, 1, "\377\377\377\377\377", 5, COMPRESSION_ERROR },
	{ "PRIORITY on stream 0", F_PRIORITY, 0, 0, "\0\0\0\1\0", 5, PROTOCOL_ERROR },
	{ "RST_STREAM on stream 0", F_RST, 0, 0, "\0\0\0\0", 4, PROTOCOL_ERROR },
	{ "RST_STREAM on an idle stream", F_RST, 0, 9, "\0\0\0\0", 4, PROTOCOL_ERROR },
	{ "RST_STREAM of a wrong size", F_RST, 0, 1, "\0\0\0", 3, FRAME_SIZE_ERROR },
	{ "SETTINGS on a stream", F_SETTINGS, 0, 1, "", 0, PROTOCOL_ERROR },
	{ "SETTINGS of a wrong size", F_SETTINGS, 0, 0, "\0\1\0", 3, FRAME_SIZE_ERROR },
	{ "SETTINGS with a window too large", F_SETTINGS, 0, 0, "\0\4\200\0\0\0", 6, FLOW_CONTROL_ERROR },
	{ "SETTINGS with ENABLE_PUSH of a server", F_SETTINGS, 0, 0, "\0\2\0\0\0\1", 6, PROTOCOL_ERROR },
	{ "PUSH_PROMISE that was forbidden", F_PUSH, END_HEADERS, 1, "\0\0\0\2\202", 5, PROTOCOL_ERROR },
	{ "PING on a stream", F_PING, 0, 1, "12345678", 8, PROTOCOL_ERROR },
	{ "PING of a wrong size", F_PING, 0, 0, "1234567", 7, FRAME_SIZE_ERROR },
	{ "GOAWAY on a stream", F_GOAWAY, 0, 1, "\0\0\0\0\0\0\0\0", 8, PROTOCOL_ERROR },
	{ "GOAWAY with a stream of the server's", F_GOAWAY, 0, 0, "\0\0\0\2\0\0\0\0", 8, PROTOCOL_ERROR },
	{ "WINDOW_UPDATE of 0", F_WINDOW, 0, 0, "\0\0\0\0", 4, PROTOCOL_ERROR },
	{ "WINDOW_UPDATE that overflows", F_WINDOW, 0, 0, "\177\377\377\377", 4, FLOW_CONTROL_ERROR },
	{ "WINDOW_UPDATE on an idle stream", F_WINDOW, 0, 9, "\0\0\0\1", 4, PROTOCOL_ERROR },
	{ "CONTINUATION without HEADERS", F_CONTINUATION, END_HEADERS, 1, "\210", 1, PROTOCOL_ERROR },
};

static void test_frames_that_end_the_connection(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		const struct shape *s = &shapes[i];
		start();
		struct seen *x = request(true), *y = request(true), *z = request(true);
		raw_headers(&client, END_HEADERS | END_STREAM, 3, FIELDS(":status", "200"));
		raw_headers(&client, END_HEADERS, 5, FIELDS(":status", "200"));
		assert_true(y->end && z->head);
		raw_frame(&client, s->type, s->flags, s->id, s->payload, s->len);
		if (raw_goaway(&client) != s->code || !client.closed || x->reset != HTTP_RESET_PROTOCOL)
			fail_msg("%s: %ld %d", s->name, raw_goaway(&client), x->reset);
		again();
	}
	start();
}

static void test_server_that_speaks_http1(void **state)
{
	(void)state;
	side_client(&client, loop);
	struct seen *x = request(true);
	fake_push_text(client.f, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
	fake_tick(loop, 0);
	assert_true(client.closed);
	assert_int_equal(x->reset, HTTP_RESET_PROTOCOL);
}

/* --- GOAWAY and refusals */

static void goaway(uint32_t last, uint32_t code)
{
	uint8_t p[8] = { (uint8_t)(last >> 24), (uint8_t)(last >> 16), (uint8_t)(last >> 8), (uint8_t)last, 0, 0, 0,
			 (uint8_t)code };
	raw_frame(&client, F_GOAWAY, 0, 0, p, sizeof(p));
}

static void test_streams_above_goaway_were_not_processed(void **state)
{
	(void)state;
	start();
	struct seen *x = request(true), *y = request(true), *z = request(false);
	goaway(1, 0);
	assert_int_equal(y->reset, HTTP_RESET_LEFT);
	assert_int_equal(z->reset, HTTP_RESET_LEFT);
	assert_int_equal(x->reset, -1);
	assert_int_equal(http_conn_capacity(client.c), 0);
	assert_true(client.capacity_told > 0);
	raw_headers(&client, END_HEADERS | END_STREAM, 1, FIELDS(":status", "200"));
	fake_tick(loop, 0);
	assert_true(x->end && client.closed);
}

static void test_goaway_of_two_steps(void **state)
{
	(void)state;
	start();
	struct seen *x = request(true), *y = request(true);
	goaway(0x7fffffff, 0);
	assert_int_equal(http_conn_capacity(client.c), 0);
	assert_null(side_open(&client));
	assert_int_equal(y->reset, -1);
	goaway(3, 0);
	assert_int_equal(y->reset, -1);
	raw_headers(&client, END_HEADERS | END_STREAM, 1, FIELDS(":status", "200"));
	raw_headers(&client, END_HEADERS | END_STREAM, 3, FIELDS(":status", "200"));
	fake_tick(loop, 0);
	assert_true(x->end && y->end && client.closed);
}

/* The GOAWAY comes after the stream was opened, before its head could go. */
static void test_goaway_before_the_head_is_sent(void **state)
{
	(void)state;
	start();
	struct seen *w = request(true);
	struct seen *x = side_open(&client);
	goaway(1, 0);
	struct http_head *h = request_head("GET", "/");
	stream_send_head(x->s, h, true);
	http_head_free(h);
	fake_tick(loop, 0);
	fake_tick(loop, 0);
	assert_int_equal(x->reset, HTTP_RESET_LEFT);
	assert_int_equal(w->reset, -1);
	assert_int_equal(raw_count(&client, F_HEADERS, 0), 1);
}

static void test_goaway_with_an_error(void **state)
{
	(void)state;
	start();
	struct seen *x = request(true);
	goaway(1, 2);
	assert_int_equal(x->reset, -1); /* it may still be answered */
	fake_push_end(client.f);
	assert_int_equal(x->reset, HTTP_RESET_CLOSED);
}

static void test_resets_by_code(void **state)
{
	(void)state;
	static const struct {
		uint32_t code;
		int why;
	} codes[] = { { 0, HTTP_RESET_NO_ERROR },  { 1, HTTP_RESET_PROTOCOL }, { 2, HTTP_RESET_INTERNAL },
		      { 7, HTTP_RESET_REFUSED },   { 8, HTTP_RESET_CANCEL },   { 11, HTTP_RESET_INTERNAL },
		      { 13, HTTP_RESET_INTERNAL }, { 99, HTTP_RESET_INTERNAL } };
	start();
	for (uint32_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		struct seen *x = request(false);
		raw_u32(&client, F_RST, 1 + 2 * i, codes[i].code);
		assert_int_equal(x->reset, codes[i].why);
	}
	assert_int_equal(http_conn_streams(client.c), 0);
	assert_int_equal(http_conn_capacity(client.c), 1000);
}

static void test_capacity_follows_settings(void **state)
{
	(void)state;
	side_client(&client, loop);
	assert_int_equal(http_conn_capacity(client.c), 100);
	raw_preface(&client); /* SETTINGS that say nothing of it */
	assert_int_equal(http_conn_capacity(client.c), 1000);
	unsigned int told = client.capacity_told;
	raw_frame(&client, F_SETTINGS, 0, 0, "\0\3\0\0\0\2", 6);
	assert_true(client.capacity_told > told);
	struct seen *x = request(true);
	assert_int_equal(http_conn_capacity(client.c), 1);
	request(true);
	assert_null(side_open(&client));
	told = client.capacity_told;
	raw_headers(&client, END_HEADERS | END_STREAM, 1, FIELDS(":status", "200"));
	assert_true(x->end && client.capacity_told > told);
	assert_int_equal(http_conn_capacity(client.c), 1);
	raw_frame(&client, F_SETTINGS, 0, 0, "\0\3\0\0\0\0", 6);
	assert_int_equal(http_conn_capacity(client.c), 0);
}

static void test_upgrade_needs_the_servers_consent(void **state)
{
	(void)state;
	start();
	struct seen *x = side_open(&client);
	struct http_head *h = request_head("GET", "/");
	h->upgrade = true;
	h->protocol = http_head_text(h, "websocket", 9);
	assert_true(stream_send_head(x->s, h, false) < 0);
	fake_tick(loop, 0);
	fake_tick(loop, 0);
	assert_int_equal(x->reset, HTTP_RESET_REFUSED);
	raw_frame(&client, F_SETTINGS, 0, 0, "\0\10\0\0\0\1", 6);
	x = side_open(&client);
	assert_int_equal(stream_send_head(x->s, h, false), 0);
	http_head_free(h);
	fake_tick(loop, 0);
	raw_headers(&client, END_HEADERS, 1, FIELDS(":status", "403", "content-length", "2"));
	raw_frame(&client, F_DATA, END_STREAM, 1, "no", 2);
	assert_int_equal(x->head->status, 403);
	assert_false(x->head->upgrade);
	assert_string_equal(x->body.p, "no");
}

static void test_floods_of_a_server(void **state)
{
	(void)state;
	start();
	struct seen *x = request(true);
	for (int i = 0; i < 1500 && client.c; i++)
		raw_frame(&client, F_PING, 0, 0, "12345678", 8);
	assert_true(client.closed);
	assert_int_equal(raw_goaway(&client), CALM);
	assert_int_equal(x->reset, HTTP_RESET_PROTOCOL);
}

static void noise_is_spent(void)
{
	for (int i = 0; i < 990; i++)
		raw_frame(&client, F_PING, 0, 0, "12345678", 8);
	assert_false(client.closed);
}

/* nginx answers a request before it has read its body, and then ends the stream with NO_ERROR, each time. */
static void test_a_reset_after_each_response_is_no_flood(void **state)
{
	(void)state;
	start();
	noise_is_spent();
	for (uint32_t i = 0; i < 200; i++) {
		uint32_t id = 1 + 2 * i;
		struct seen *x = request(false);
		seen_send(x, "body", 4, true);
		fake_tick(loop, 0);
		raw_headers(&client, END_HEADERS | END_STREAM, id, FIELDS(":status", "200"));
		raw_u32(&client, F_RST, id, 0);
		assert_true(x->end);
		assert_int_equal(x->reset, -1);
	}
	assert_false(client.closed);
}

/* Of a connection that has earned no more: 1,500 of one stream. */
static void test_resets_without_streams_are_a_flood(void **state)
{
	(void)state;
	start();
	request(true);
	for (int i = 0; i < 1500 && client.c; i++)
		raw_u32(&client, F_RST, 1, 0);
	assert_true(client.closed);
	assert_int_equal(raw_goaway(&client), CALM);
}

/* gRPC's Go: a PING with each DATA that comes. */
static void test_a_server_that_measures_is_no_flood(void **state)
{
	(void)state;
	start();
	noise_is_spent();
	struct seen *x = request(true);
	raw_headers(&client, END_HEADERS, 1, FIELDS(":status", "200"));
	for (int i = 0; i < 1500 && client.c; i++) {
		raw_frame(&client, F_DATA, 0, 1, "x", 1);
		raw_frame(&client, F_PING, 0, 0, "12345678", 8);
	}
	assert_false(client.closed);
	assert_int_equal(x->body.len, 1500);
}

/* A response in bytes, cut at each place: the stream is reset, and nothing is told twice. */
static void test_response_that_breaks_at_each_byte(void **state)
{
	(void)state;
	uint8_t response[200];
	size_t len = raw_block(response + 9, 100, FIELDS(":status", "200", "x", "1"));
	memcpy(response, (uint8_t[]){ 0, 0, (uint8_t)len, F_HEADERS, END_HEADERS, 0, 0, 0, 1 }, 9);
	len += 9;
	memcpy(response + len, (uint8_t[]){ 0, 0, 4, F_DATA, END_STREAM, 0, 0, 0, 1, 'a', 'b', 'c', 'd' }, 13);
	len += 13;
	for (size_t cut = 0; cut <= len; cut++) {
		start();
		struct seen *x = request(true);
		fake_push_pieces(client.f, response, cut, 1);
		fake_push_end(client.f);
		assert_int_equal(x->end, cut == len);
		assert_int_equal(x->reset, cut == len ? -1 : HTTP_RESET_CLOSED);
		assert_int_equal(x->body.len, cut == len ? 4 : cut > len - 4 ? cut - (len - 4) : 0);
		again();
	}
	start();
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_preface_of_a_client),
		TEST(test_malformed_responses_are_reset),
		TEST(test_content_length_must_match_data),
		TEST(test_heads_in_a_wrong_order),
		TEST(test_head_beyond_the_limits),
		TEST(test_frames_that_end_the_connection),
		TEST(test_server_that_speaks_http1),
		TEST(test_streams_above_goaway_were_not_processed),
		TEST(test_goaway_of_two_steps),
		TEST(test_goaway_before_the_head_is_sent),
		TEST(test_goaway_with_an_error),
		TEST(test_resets_by_code),
		TEST(test_capacity_follows_settings),
		TEST(test_upgrade_needs_the_servers_consent),
		TEST(test_floods_of_a_server),
		TEST(test_a_reset_after_each_response_is_no_flood),
		TEST(test_resets_without_streams_are_a_flood),
		TEST(test_a_server_that_measures_is_no_flood),
		TEST(test_response_that_breaks_at_each_byte),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
