/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies both ways: back-pressure, early answers, interim responses, upgrades, and every order of breaking off. */
#include "agent/helper/route/internal.h"
#include "tests/unit/route/world.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char get[] = "GET / HTTP/1.1\r\nHost: shop\r\n\r\n";
static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

static void test_trailers_pass_both_ways(void **state)
{
	(void)state;
	struct world *w = world_new();
	world_connect(w);
	world_send(w, "POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n"
		      "3\r\nabc\r\n0\r\nx-t: request\r\n\r\n");
	assert_requested(w, 0, "abc\r\n0\r\nx-t: request\r\n\r\n");
	world_answer(w, 0,
		     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ndef\r\n0\r\nx-u: response\r\n\r\n");
	assert_received(w, "def\r\n0\r\nx-u: response\r\n\r\n");
	assert_int_equal(w->request_bytes, 3);
	assert_int_equal(w->response_bytes, 3);
	world_free(w);
}

static void test_response_waits_for_a_slow_client(void **state)
{
	(void)state;
	struct world *w = world_new();
	world_connect(w);
	world_send(w, get);
	w->client->hold = true;
	w->client->limit = 1000;
	world_answer(w, 0, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
	char *body = malloc(100000);
	memset(body, 'r', 100000);
	fake_push(w->attempts[0].t, body, 100000);
	world_tick(w, 0);
	assert_true(w->attempts[0].t->kept_len > 90000); /* it stays where it came from */
	for (int i = 0; i < 300 && !w->records; i++) {
		fake_drain(w->client);
		world_tick(w, 0);
	}
	assert_int_equal(w->records, 1);
	assert_int_equal(w->response_bytes, 100000);
	free(body);
	world_free(w);
}

static void request_against_a_slow_endpoint(bool retries)
{
	struct world *w = world_new();
	if (retries)
		world_retry(w, "5xx", 2);
	w->script[w->script_count++] = (struct script){ .later = true };
	world_connect(w);
	char *body = malloc(100000);
	memset(body, 'q', 100000);
	world_send(w, "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 100000\r\n\r\n");
	fake_push(w->client, body, 100000);
	world_tick(w, 0);
	assert_true(w->client->kept_len > 0); /* nobody takes it yet */
	world_attempt_ready(w, 0, UPSTREAM_OK);
	w->attempts[0].t->hold = true;
	w->attempts[0].t->limit = 1000;
	world_tick(w, 0);
	for (int i = 0; i < 300 && w->client->kept_len; i++) {
		fake_drain(w->attempts[0].t);
		world_tick(w, 0);
	}
	for (int i = 0; i < 10; i++) {
		fake_drain(w->attempts[0].t);
		world_tick(w, 0);
	}
	const char *sent = strstr(world_request(w, 0), "\r\n\r\n");
	assert_int_equal(strlen(sent + 4), 100000);
	world_answer(w, 0, ok);
	assert_received(w, "200 OK");
	assert_int_equal(w->request_bytes, 100000);
	free(body);
	world_free(w);
}

static void test_request_waits_for_a_slow_endpoint(void **state)
{
	(void)state;
	request_against_a_slow_endpoint(false);
	request_against_a_slow_endpoint(true);
}

static void test_100_continue_is_the_endpoints(void **state)
{
	(void)state;
	struct world *w = world_new();
	world_connect(w);
	world_send(w, "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
	assert_requested(w, 0, "100-continue\r\n");
	assert_not_received(w, "100");
	world_answer(w, 0, "HTTP/1.1 100 Continue\r\n\r\n");
	assert_received(w, "HTTP/1.1 100 Continue\r\n\r\n");
	world_send(w, "hi");
	world_answer(w, 0, ok);
	assert_received(w, "200 OK");
	world_free(w);
}

static void test_interim_responses_pass(void **state)
{
	(void)state;
	struct world *w = world_new();
	world_connect(w);
	world_send(w, get);
	world_answer(w, 0, "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
	assert_received(w, "HTTP/1.1 103 Early Hints\r\n");
	assert_received(w, "link: </a>\r\n");
	world_answer(w, 0, ok);
	assert_received(w, "200 OK");
	world_free(w);
}

static void test_head_and_304_have_no_body(void **state)
{
	(void)state;
	struct world *w = world_new();
	world_connect(w);
	world_send(w, "HEAD / HTTP/1.1\r\nHost: shop\r\n\r\n");
	world_answer(w, 0, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
	assert_int_equal(w->records, 1);
	assert_received(w, "content-length: 1000\r\n");
	world_send(w, get);
	world_answer(w, 1, "HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n");
	assert_int_equal(w->records, 2);
	world_free(w);
}

static void test_answer_before_the_request_ended(void **state)
{
	(void)state;
	struct world *w = world_new();
	world_connect(w);
	world_send(w, "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 10\r\n\r\nabc");
	world_answer(w, 0, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n");
	assert_received(w, "HTTP/1.1 413 ");
	assert_int_equal(w->records, 1);
	assert_int_equal(w->attempts[0].outcome, OUTCOME_RESPONSE);
	assert_true(w->attempts[0].t->closed); /* the request was cut on it */
	world_free(w);
}

static void test_websocket(void **state)
{
	(void)state;
	struct world *w = world_new();
	w->route->timeout_ms = 30;
	world_retry(w, "5xx", 2);
	world_connect(w);
	world_send(w, "GET /chat HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
		      "Sec-WebSocket-Key: k\r\n\r\n");
	assert_true(w->attempts[0].upgrade);
	assert_requested(w, 0, "websocket\r\n");
	assert_requested(w, 0, "sec-websocket-key: k\r\n");
	world_answer(w, 0, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
	assert_received(w, "HTTP/1.1 101 Switching Protocols\r\n");
	world_send(w, "ping");
	assert_requested(w, 0, "\r\n\r\nping");
	world_answer(w, 0, "pong");
	assert_received(w, "\r\n\r\npong");
	world_tick(w, 80); /* the timeout was for the answer */
	world_send(w, "ping2");
	assert_requested(w, 0, "pingping2");
	assert_int_equal(w->records, 0);
	fake_push_end(w->attempts[0].t);
	world_tick(w, 0);
	assert_true(w->client->ended && !w->client->closed); /* the other half lives */
	assert_int_equal(w->records, 0);
	world_send(w, "bye");
	assert_requested(w, 0, "pingping2bye");
	assert_false(w->attempts[0].t->ended);
	fake_push_end(w->client);
	world_tick(w, 0);
	assert_int_equal(w->records, 1);
	assert_int_equal(w->status, 101);
	assert_int_equal(w->flags, 0);
	assert_int_equal(w->response_bytes, 4);
	assert_int_equal(w->request_bytes, 12);
	assert_true(w->client->closed && !w->client->aborted);
	assert_true(w->attempts[0].t->closed && !w->attempts[0].t->aborted);
	world_free(w);
}

static void upgraded(struct world *w)
{
	world_send(w, "GET /chat HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
	world_answer(w, 0, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
}

static void test_tunnel_whose_client_ends_first(void **state)
{
	(void)state;
	struct world *w = world_new();
	world_connect(w);
	upgraded(w);
	world_send(w, "all");
	fake_push_end(w->client);
	world_tick(w, 0);
	assert_true(w->attempts[0].t->ended && !w->attempts[0].t->closed);
	assert_false(w->client->closed);
	world_answer(w, 0, "late");
	assert_received(w, "\r\n\r\nlate");
	fake_push_end(w->attempts[0].t);
	world_tick(w, 0);
	assert_int_equal(w->records, 1);
	assert_int_equal(w->flags, 0);
	assert_true(w->client->closed && !w->client->aborted);
	world_free(w);
}

static void test_half_of_a_tunnel_breaks(void **state)
{
	(void)state;
	for (int client = 0; client < 2; client++) {
		struct world *w = world_new();
		world_connect(w);
		upgraded(w);
		fake_push_end(client ? w->attempts[0].t : w->client);
		world_tick(w, 0);
		assert_int_equal(w->records, 0);
		fake_break(client ? w->client : w->attempts[0].t, -ECONNRESET);
		world_tick(w, 0);
		assert_int_equal(w->records, 1);
		assert_int_equal(w->flags, client ? FLAG(DC) : FLAG(UC));
		world_free(w);
	}
}

static void test_half_of_a_tunnel_may_not_be_idle_for_ever(void **state)
{
	(void)state;
	for (int client = 0; client < 2; client++) {
		struct world *w = world_new();
		w->proxy->half_idle_ms = 300;
		world_connect(w);
		upgraded(w);
		world_tick(w, 400); /* with both there is no limit */
		assert_int_equal(w->records, 0);
		fake_push_end(client ? w->client : w->attempts[0].t);
		for (int i = 0; i < 4; i++) {
			world_tick(w, 100);
			if (client)
				world_answer(w, 0, "still");
			else
				world_send(w, "still");
			assert_int_equal(w->records, 0);
		}
		world_tick(w, 800);
		assert_int_equal(w->records, 1);
		assert_int_equal(w->flags, FLAG(SI));
		assert_string_equal(w->details, "stream_idle_timeout");
		assert_true(w->client->closed);
		world_free(w);
	}
}

static void test_upgrade_that_is_refused_is_an_answer(void **state)
{
	(void)state;
	struct world *w = world_new();
	world_connect(w);
	world_send(w, "GET / HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
	world_answer(w, 0, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
	assert_received(w, "HTTP/1.1 403 Forbidden\r\n");
	assert_received(w, "\r\n\r\nno");
	assert_int_equal(w->records, 1);
	world_free(w);
}

static void test_client_that_leaves_cancels_the_endpoint(void **state)
{
	(void)state;
	struct world *w = world_new();
	world_connect(w);
	world_send(w, get);
	fake_break(w->client, -ECONNRESET);
	world_tick(w, 0);
	assert_int_equal(w->records, 1);
	assert_int_equal(w->flags, FLAG(DC));
	assert_int_equal(w->status, 0);
	assert_string_equal(w->details, "downstream_remote_disconnect");
	assert_int_equal(w->attempts[0].outcome, OUTCOME_CANCELLED);
	assert_true(w->attempts[0].t->closed);
	world_free(w);
}

static void test_endpoint_that_breaks_http_is_502(void **state)
{
	(void)state;
	struct world *w = world_new();
	world_connect(w);
	world_send(w, get);
	world_answer(w, 0, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n");
	assert_received(w, "HTTP/1.1 502 ");
	assert_received(w, "reset reason: protocol error");
	assert_int_equal(w->flags, FLAG(UPE));
	world_free(w);
}

/* Cut at each byte: before the head's end it is a 503 of ours, after it the client sees the connection end, and never an
 * answer that looks whole. */
static void cut_at(size_t bytes, bool end)
{
	static const char head[] = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nx-a: b\r\n\r\n";
	static const char all[] = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nx-a: b\r\n\r\nbody";
	struct world *w = world_new();
	world_connect(w);
	world_send(w, get);
	fake_push(w->attempts[0].t, all, bytes);
	world_tick(w, 0);
	if (bytes < sizeof(all) - 1) {
		assert_int_equal(w->records, 0);
		if (end)
			fake_push_end(w->attempts[0].t);
		else
			fake_break(w->attempts[0].t, -ECONNRESET);
	}
	world_tick(w, 0);
	assert_int_equal(w->records, 1);
	if (bytes == sizeof(all) - 1) {
		assert_int_equal(w->flags, 0);
	} else if (bytes >= sizeof(head) - 1) {
		assert_int_equal(w->flags, FLAG(UC));
		assert_int_equal(w->status, 200);
		assert_true(w->client->closed);
		assert_int_equal(w->response_bytes, bytes - (sizeof(head) - 1));
	} else {
		assert_received(w, "HTTP/1.1 503 ");
		assert_int_equal(w->flags & (FLAG(UC) | FLAG(UPE)), w->flags);
		assert_int_equal(w->status, 503);
		assert_false(w->client->closed);
	}
	world_free(w);
}

static void test_response_cut_at_each_byte(void **state)
{
	(void)state;
	for (size_t bytes = 0; bytes <= 50; bytes++) {
		cut_at(bytes, false);
		cut_at(bytes, true);
	}
}

static void test_pieces_of_one_byte(void **state)
{
	(void)state;
	static const char request[] =
		"POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
	static const char response[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ndef\r\n0\r\n\r\n";
	struct world *w = world_new();
	world_retry(w, "5xx", 1);
	world_connect(w);
	fake_push_pieces(w->client, request, sizeof(request) - 1, 1);
	world_tick(w, 0);
	fake_push_pieces(w->attempts[0].t, response, sizeof(response) - 1, 1);
	world_tick(w, 0);
	assert_int_equal(w->records, 1);
	assert_int_equal(w->request_bytes, 3);
	assert_int_equal(w->response_bytes, 3);
	world_free(w);
}

static void test_pipelined_requests_are_answered_in_order(void **state)
{
	(void)state;
	struct world *w = world_new();
	w->route->direct = calloc(1, sizeof(*w->route->direct));
	w->route->direct->status = 200;
	world_connect(w);
	world_send(w, "GET /1 HTTP/1.1\r\nHost: shop\r\n\r\nGET /2 HTTP/1.1\r\nHost: shop\r\n\r\n"
		      "GET /3 HTTP/1.1\r\nHost: shop\r\n\r\n");
	world_tick(w, 0);
	assert_int_equal(w->records, 3);
	world_free(w);
}

/* --- a stage that reads the body --- */

static struct {
	char text[64];
	size_t len, max;
	bool whole, asked;
} read_body;

static void on_body(struct exchange *x, const uint8_t *body, size_t len, bool whole, void *arg)
{
	assert_ptr_equal(arg, &read_body);
	read_body.len = len;
	read_body.whole = whole;
	if (len < sizeof(read_body.text)) {
		if (len)
			memcpy(read_body.text, body, len);
		read_body.text[len] = '\0';
	}
	if (read_body.asked)
		exchange_continue(x);
}

static enum stage_result reads_body(struct exchange *x)
{
	read_body.asked = false;
	read_body.len = SIZE_MAX;
	exchange_buffer_body(x, read_body.max, on_body, &read_body);
	read_body.asked = true;
	return read_body.len == SIZE_MAX ? STAGE_WAIT : STAGE_CONTINUE;
}

static void answer_app(struct world *w, size_t n)
{
	fake_push_text(w->app[n], "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	world_tick(w, 0);
}

static void test_stage_that_reads_the_body(void **state)
{
	(void)state;
	struct world *w = world_new();
	w->authorize = reads_body;
	read_body.max = 32;
	world_connect_inbound(w, NULL);
	world_send(w, "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 6\r\nExpect: 100-continue\r\n\r\n");
	assert_received(w, "HTTP/1.1 100 Continue\r\n"); /* or it would never come */
	world_send(w, "abc");
	assert_int_equal(w->app_count, 0);
	world_send(w, "def");
	assert_true(read_body.whole);
	assert_string_equal(read_body.text, "abcdef");
	world_tick(w, 0);
	assert_int_equal(w->app_count, 1);
	world_tick(w, 0);
	assert_non_null(strstr(w->app[0]->out, "\r\n\r\nabcdef"));
	answer_app(w, 0);
	assert_received(w, "200 OK");
	assert_int_equal(w->request_bytes, 6);
	fake_forget(w->client);
	world_send(w, get); /* nothing to read */
	assert_true(read_body.whole);
	assert_int_equal(read_body.len, 0);
	answer_app(w, 0);
	assert_received(w, "200 OK");
	world_free(w);
}

static void test_stage_that_gets_part_of_a_long_body(void **state)
{
	(void)state;
	struct world *w = world_new();
	w->authorize = reads_body;
	read_body.max = 4;
	world_connect_inbound(w, NULL);
	world_send(w, "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 10\r\n\r\n0123456789");
	assert_false(read_body.whole);
	assert_string_equal(read_body.text, "0123");
	world_tick(w, 0);
	world_tick(w, 0);
	assert_non_null(strstr(w->app[0]->out, "\r\n\r\n0123456789"));
	answer_app(w, 0);
	assert_received(w, "200 OK");
	assert_int_equal(w->request_bytes, 10);
	world_free(w);
}

/* What follows the request's head is the tunnel's: who waited for its end would wait for ever. */
static void test_stage_that_reads_the_body_of_an_upgrade(void **state)
{
	(void)state;
	struct world *w = world_new();
	w->authorize = reads_body;
	read_body.max = 4;
	world_connect_inbound(w, NULL);
	world_send(w, "GET / HTTP/1.1\r\nHost: shop\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
	assert_true(read_body.whole);
	assert_int_equal(read_body.len, 0);
	world_tick(w, 0);
	assert_int_equal(w->app_count, 1);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_trailers_pass_both_ways),
		cmocka_unit_test(test_response_waits_for_a_slow_client),
		cmocka_unit_test(test_request_waits_for_a_slow_endpoint),
		cmocka_unit_test(test_100_continue_is_the_endpoints),
		cmocka_unit_test(test_interim_responses_pass),
		cmocka_unit_test(test_head_and_304_have_no_body),
		cmocka_unit_test(test_answer_before_the_request_ended),
		cmocka_unit_test(test_websocket),
		cmocka_unit_test(test_tunnel_whose_client_ends_first),
		cmocka_unit_test(test_half_of_a_tunnel_breaks),
		cmocka_unit_test(test_half_of_a_tunnel_may_not_be_idle_for_ever),
		cmocka_unit_test(test_upgrade_that_is_refused_is_an_answer),
		cmocka_unit_test(test_client_that_leaves_cancels_the_endpoint),
		cmocka_unit_test(test_endpoint_that_breaks_http_is_502),
		cmocka_unit_test(test_response_cut_at_each_byte),
		cmocka_unit_test(test_pieces_of_one_byte),
		cmocka_unit_test(test_pipelined_requests_are_answered_in_order),
		cmocka_unit_test(test_stage_that_reads_the_body),
		cmocka_unit_test(test_stage_that_gets_part_of_a_long_body),
		cmocka_unit_test(test_stage_that_reads_the_body_of_an_upgrade),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
