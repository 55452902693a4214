/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/route/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/helper/route/grpc.h"

/* Over HTTP/1, which gRPC does not use: the engine does not care, and it can be read. */
#define CALL(fields)                                                                                                   \
	"POST /s/M HTTP/1.1\r\nHost: shop\r\nContent-Type: application/grpc+proto\r\n" fields                          \
	"Transfer-Encoding: chunked\r\n\r\n"
static const char end[] = "0\r\n\r\n";

static void test_content_types(void **state)
{
	(void)state;
	static const struct {
		const char *type;
		bool grpc;
	} cases[] = {
		{ "application/grpc", true },	   { "application/grpc+proto", true }, { "application/grpc;x=y", true },
		{ "application/grpc-web", false }, { "application/json", false },      { "application/grp", false },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct http_head *h = http_head_new();
		http_add(h, "content-type", cases[i].type);
		assert_int_equal(grpc_is(h), cases[i].grpc);
		http_head_free(h);
	}
}

static void test_timeouts(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		bool good;
		uint64_t ms;
	} cases[] = {
		{ "100m", true, 100 },	{ "1S", true, 1000 },
		{ "2M", true, 120000 }, { "1H", true, 3600000 },
		{ "1u", true, 1 },	{ "1500u", true, 2 },
		{ "1n", true, 1 },	{ "99999999H", true, 359999996400000 },
		{ "100", false, 0 },	{ "m", false, 0 },
		{ "-1m", false, 0 },	{ "1x", false, 0 },
		{ "", false, 0 },	{ "999999999m", false, 0 },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct http_head *h = http_head_new();
		if (*cases[i].text)
			http_add(h, "grpc-timeout", cases[i].text);
		uint64_t ms = 0;
		assert_int_equal(grpc_timeout(h, &ms), cases[i].good);
		assert_int_equal(ms, cases[i].ms);
		http_head_free(h);
	}
}

static void test_messages_are_counted_in_any_pieces(void **state)
{
	(void)state;
	static const uint8_t body[] = { 0, 0, 0, 0, 2, 'a', 'b', 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 'c' };
	for (size_t piece = 1; piece <= sizeof(body); piece++) {
		struct grpc_counter c = { 0 };
		for (size_t i = 0; i < sizeof(body); i += piece)
			grpc_count(&c, body + i, piece < sizeof(body) - i ? piece : sizeof(body) - i);
		assert_int_equal(c.messages, 3);
		assert_int_equal(c.left, 0);
	}
}

static void test_message_is_encoded(void **state)
{
	(void)state;
	char out[16];
	size_t n = grpc_message_encode("a%b\n\xff", 5, out, sizeof(out));
	assert_int_equal(n, 11);
	assert_memory_equal(out, "a%25b%0A%FF", 11);
	assert_true(grpc_message_encode("\n\n\n\n\n\n\n\n", 8, out, sizeof(out)) <= sizeof(out));
}

static void test_status_in_trailers(void **state)
{
	(void)state;
	struct world *w = world_new();
	world_connect(w);
	world_send(w, CALL(""));
	fake_push(w->client, "7\r\n\0\0\0\0\2ab\r\n", 12);
	world_send(w, end);
	world_answer(w, 0, "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n");
	fake_push(w->attempts[0].t, "5\r\n\0\0\0\0\0\r\n", 10);
	world_answer(w, 0, "0\r\ngrpc-status: 5\r\ngrpc-message: none\r\n\r\n");
	assert_int_equal(w->grpc_status, 5);
	assert_int_equal(w->status, 200);
	assert_int_equal(w->request_messages, 1);
	assert_int_equal(w->response_messages, 1);
	assert_int_equal(w->attempts[0].status, 404); /* as outlier detection sees it */
	world_free(w);
}

static void test_unavailable_in_the_head_is_tried_again(void **state)
{
	(void)state;
	struct world *w = world_new();
	world_retry(w, "unavailable", 2);
	world_connect(w);
	world_send(w, CALL(""));
	world_send(w, end);
	world_answer(
		w, 0,
		"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\ngrpc-status: 14\r\nContent-Length: 0\r\n\r\n");
	world_tick(w, 60);
	assert_int_equal(w->attempt_count, 2);
	assert_int_equal(w->attempts[0].status, 503);
	world_answer(
		w, 1,
		"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\ngrpc-status: 0\r\nContent-Length: 0\r\n\r\n");
	assert_int_equal(w->grpc_status, 0);
	assert_int_equal(w->tries, 2);
	world_free(w);
}

static void deadline(const char *call, uint32_t route_ms, unsigned int wait_ms, bool expired)
{
	struct world *w = world_new();
	w->route->timeout_ms = route_ms;
	world_connect(w);
	world_send(w, call);
	world_send(w, end);
	world_tick(w, wait_ms);
	if (expired) {
		assert_received(w, "HTTP/1.1 200 OK\r\n");
		assert_received(w, "grpc-status: 4\r\n");
		assert_received(w, "grpc-message: upstream request timeout\r\n");
		assert_int_equal(w->flags, FLAG(UT));
		assert_int_equal(w->grpc_status, 4);
	} else {
		assert_not_received(w, "HTTP");
	}
	world_free(w);
}

static void test_deadline_is_the_shorter_one(void **state)
{
	(void)state;
	deadline(CALL("grpc-timeout: 20m\r\n"), 0, 60, true);
	deadline(CALL("grpc-timeout: 20m\r\n"), 60000, 60, true);
	deadline(CALL("grpc-timeout: 1H\r\n"), 20, 60, true);
	deadline(CALL("grpc-timeout: 1H\r\n"), 0, 30, false);
	deadline(CALL("grpc-timeout: nonsense\r\n"), 20, 60, true);
}

static void test_our_answers_are_trailers_only(void **state)
{
	(void)state;
	struct world *w = world_new();
	w->script[w->script_count++] = (struct script){ .failure = UPSTREAM_NO_ENDPOINT };
	world_connect(w);
	world_send(w, CALL(""));
	world_send(w, end);
	assert_received(w, "HTTP/1.1 200 OK\r\n");
	assert_received(w, "content-type: application/grpc\r\n");
	assert_received(w, "grpc-status: 14\r\n");
	assert_received(w, "grpc-message: no healthy upstream\r\n");
	assert_int_equal(w->flags, FLAG(UH));
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_content_types),
		cmocka_unit_test(test_timeouts),
		cmocka_unit_test(test_messages_are_counted_in_any_pieces),
		cmocka_unit_test(test_message_is_encoded),
		cmocka_unit_test(test_status_in_trailers),
		cmocka_unit_test(test_unavailable_in_the_head_is_tried_again),
		cmocka_unit_test(test_deadline_is_the_shorter_one),
		cmocka_unit_test(test_our_answers_are_trailers_only),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
