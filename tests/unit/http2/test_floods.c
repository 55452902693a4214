/* SPDX-License-Identifier: Apache-2.0 */
/* What costs a peer little and us much is rationed; and a peer that does no wrong is not hit by it. */
#include "tests/unit/http2/side.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/err.h"
#include "agent/base/loop.h"
#include "agent/helper/http/tick.h"

enum { CALM = 11, FRAMES = 1500 };

static struct loop *loop;
static struct side server;

static int setup(void **state)
{
	struct err err;
	(void)state;
	memset(&server, 0, sizeof(server));
	return loop_new(&loop, &err);
}

static int teardown(void **state)
{
	(void)state;
	side_done(&server);
	loop_free(loop);
	return 0;
}

static void start(enum answer answer)
{
	server.answer = answer;
	side_server(&server, loop);
	raw_preface(&server);
}

static void assert_calmed(void)
{
	assert_int_equal(raw_goaway(&server), CALM);
	assert_int_equal(server.bad[HTTP_BAD_H2_FLOOD], 1);
	assert_true(server.closed && server.f->closed);
}

static void again(void)
{
	side_done(&server);
	memset(&server, 0, sizeof(server));
}

static void test_frames_without_use(void **state)
{
	(void)state;
	static const struct {
		uint8_t type, flags;
		uint32_t id;
		const char *payload;
		size_t len;
	} frames[] = {
		{ F_PING, 0, 0, "12345678", 8 },
		{ F_SETTINGS, 0, 0, "", 0 },
		{ F_SETTINGS, 0, 0, "\0\4\0\0\1\0", 6 },
		{ F_PRIORITY, 0, 5, "\0\0\0\3\0", 5 },
		{ F_DATA, 0, 1, "", 0 },
		{ F_WINDOW, 0, 0, "\0\0\0\1", 4 },
		{ F_WINDOW, 0, 1, "\0\0\0\1", 4 },
		{ F_RST, 0, 3, "\0\0\0\10", 4 }, /* of a stream that is closed */
		{ 0xbe, 0, 0, "", 0 },
		{ 0xbe, 0, 1, "abc", 3 },
	};
	for (size_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
		start(ANSWER_NONE);
		raw_get(&server, 1, false);
		raw_get(&server, 3, true);
		size_t n = 0;
		for (; n < FRAMES && !server.closed; n++)
			raw_frame(&server, frames[i].type, frames[i].flags, frames[i].id, frames[i].payload,
				  frames[i].len);
		if (!server.closed || n < 900)
			fail_msg("frame %zu: %zu", i, n);
		assert_calmed();
		assert_int_equal(server.seen[0].reset, HTTP_RESET_PROTOCOL);
		again();
	}
	start(ANSWER_NONE);
}

static void test_rapid_reset(void **state)
{
	(void)state;
	start(ANSWER_NONE);
	uint32_t id = 1;
	for (; id < 2 * FRAMES && !server.closed; id += 2) {
		raw_get(&server, id, true);
		if (!server.closed)
			raw_u32(&server, F_RST, id, 8);
	}
	assert_in_range(id / 2, 150, 300);
	assert_calmed();
}

/* In one piece, as attackers send it: no more requests reach the user than may be open or reset. */
static void test_rapid_reset_in_one_piece(void **state)
{
	(void)state;
	static uint8_t bytes[64 << 10];
	size_t len = 0;
	uint8_t block[256];
	start(ANSWER_NONE);
	size_t block_len = raw_block(block, sizeof(block),
				     (const char *const[]){ ":method", "GET", ":scheme", "http", ":path", "/",
							    ":authority", "a", NULL });
	for (uint32_t id = 1; len + 9 + block_len + 13 < sizeof(bytes) && id < 2000; id += 2) {
		uint8_t head[9] = { 0, 0, (uint8_t)block_len, F_HEADERS,  END_HEADERS | END_STREAM,
				    0, 0, (uint8_t)(id >> 8), (uint8_t)id };
		uint8_t rst[13] = { 0, 0, 4, F_RST, 0, 0, 0, (uint8_t)(id >> 8), (uint8_t)id, 0, 0, 0, 8 };
		memcpy(bytes + len, head, 9);
		memcpy(bytes + len + 9, block, block_len);
		memcpy(bytes + len + 9 + block_len, rst, 13);
		len += 9 + block_len + 13;
	}
	fake_push(server.f, bytes, len);
	fake_tick(loop, 0);
	assert_calmed();
	assert_in_range(server.count, 1, 300);
}

/* The same, where the client makes the server reset (CVE-2025-8671). */
static void test_made_you_reset(void **state)
{
	(void)state;
	start(ANSWER_NONE);
	uint32_t id = 1;
	for (; id < 2 * FRAMES && !server.closed; id += 2) {
		raw_get(&server, id, true);
		if (!server.closed)
			raw_u32(&server, F_WINDOW, id, 0x7fffffff);
	}
	assert_in_range(id / 2, 150, 300);
	assert_calmed();
}

static void test_malformed_requests_without_end(void **state)
{
	(void)state;
	start(ANSWER_NONE);
	uint32_t id = 1;
	for (; id < 2 * FRAMES && !server.closed; id += 2)
		raw_headers(&server, END_HEADERS | END_STREAM, id, (const char *const[]){ "x", "1", NULL });
	assert_in_range(id / 2, 150, 300);
	assert_calmed();
	assert_int_equal(server.count, 0);
}

static void test_continuations_without_end(void **state)
{
	(void)state;
	for (size_t len = 0; len < 200; len += 199) {
		static uint8_t payload[200];
		start(ANSWER_NONE);
		raw_get(&server, 1, false);
		raw_frame(&server, F_HEADERS, 0, 3, "\202", 1);
		memset(payload, 0x82, sizeof(payload));
		size_t n = 0;
		for (; n < FRAMES && !server.closed; n++)
			raw_frame(&server, F_CONTINUATION, 0, 3, payload, len);
		assert_in_range(n, 2, 20);
		assert_calmed();
		again();
	}
	start(ANSWER_NONE);
}

/* Answers to PING that nobody reads. */
static void test_output_that_is_not_read_is_bounded(void **state)
{
	(void)state;
	start(ANSWER_NONE);
	server.f->hold = true;
	server.f->limit = 100;
	server.f->queued = 90;
	size_t n = 0;
	for (; n < FRAMES && !server.closed; n++)
		raw_frame(&server, F_PING, 0, 0, "12345678", 8);
	assert_true(server.closed);
	assert_in_range(n, 900, 1100);
}

/* Requests and answers at any rate, PINGs of a client that measures, one WINDOW_UPDATE for each DATA. */
static void test_a_busy_client_is_no_flood(void **state)
{
	(void)state;
	static char body[16000];
	bool end;
	start(ANSWER_NONE);
	for (uint32_t i = 0; i < 400; i++) {
		uint32_t id = 1 + 2 * i;
		raw_get(&server, id, true);
		struct seen *x = &server.seen[i];
		struct http_head *h = response_head(200);
		stream_send_head(x->s, h, false);
		http_head_free(h);
		seen_send(x, body, sizeof(body), true);
		fake_tick(loop, 0);
		assert_int_equal(raw_data(&server, id, &end), sizeof(body));
		fake_forget(server.f);
		for (int k = 0; k < 8; k++)
			raw_u32(&server, F_WINDOW, 0, sizeof(body) / 8);
		if (i % 2)
			raw_frame(&server, F_PING, 0, 0, "12345678", 8);
	}
	assert_int_equal(server.count, 400);
	assert_non_null(server.c);
	assert_int_equal(server.bad[HTTP_BAD_H2_FLOOD], 0);
}

/* Clients that give up what took too long, and those that give up every second request. */
static void test_timeouts_are_no_flood(void **state)
{
	(void)state;
	start(ANSWER_NONE);
	uint32_t id = 1;
	for (int s = 0; s < 4; s++) {
		for (int i = 0; i < 100; i++)
			raw_get(&server, id + 2 * (uint32_t)i, true);
		tick_advance(loop, 1100);
		for (int i = 0; i < 100; i++, id += 2)
			raw_u32(&server, F_RST, id, 8);
	}
	assert_int_equal(server.count, 400);
	assert_non_null(server.c);
	again();
	start(ANSWER_NONE);
	id = 1;
	for (uint32_t i = 0; i < 500; i++, id += 2) {
		raw_get(&server, id, true);
		if (i % 2) {
			raw_u32(&server, F_RST, id, 8);
			continue;
		}
		struct http_head *h = response_head(200);
		stream_send_head(server.seen[i].s, h, true);
		http_head_free(h);
		fake_tick(loop, 0);
	}
	assert_non_null(server.c);
}

/* What the server's own user resets is no fault of the peer's. */
static void test_own_resets_are_no_flood(void **state)
{
	(void)state;
	server.reset_in_head = true;
	start(ANSWER_NONE);
	for (uint32_t id = 1; id < 1000; id += 2)
		raw_get(&server, id, true);
	assert_int_equal(server.count, 500);
	assert_non_null(server.c);
}

static void test_rations_fill_again(void **state)
{
	(void)state;
	start(ANSWER_NONE);
	for (int s = 0; s < 20; s++) {
		for (int n = 0; n < 95; n++)
			raw_frame(&server, F_PING, 0, 0, "12345678", 8);
		tick_advance(loop, 1000);
	}
	assert_non_null(server.c);
	for (int n = 0; n < 1500 && server.c; n++)
		raw_frame(&server, F_PING, 0, 0, "12345678", 8);
	assert_null(server.c);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_frames_without_use),
		TEST(test_rapid_reset),
		TEST(test_rapid_reset_in_one_piece),
		TEST(test_made_you_reset),
		TEST(test_malformed_requests_without_end),
		TEST(test_continuations_without_end),
		TEST(test_output_that_is_not_read_is_bounded),
		TEST(test_a_busy_client_is_no_flood),
		TEST(test_timeouts_are_no_flood),
		TEST(test_own_resets_are_no_flood),
		TEST(test_rations_fill_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
