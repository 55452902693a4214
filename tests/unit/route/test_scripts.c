/* SPDX-License-Identifier: Apache-2.0 */
/* Real scripts in the real engine: messages that wait for them, what goes wrong meanwhile, and framing after. */
#include "tests/unit/route/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/helper/filter/lua_vm.h"
#include "agent/helper/worker.h"

static const char get[] = "GET / HTTP/1.1\r\nHost: shop\r\n\r\n";
static const char post[] = "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 3\r\n\r\nabc";

/* The script runs for what the pod's application sends. */
static struct world *scripted(const char *code)
{
	struct world *w = world_new();
	struct http_filters *f = http_filters_new();
	f->scripts = calloc(1, sizeof(*f->scripts));
	f->scripts[f->script_count++].code = strdup(code);
	http_filters_seal(f);
	worker_pod_of(w)->outbound = f;
	return w;
}

static void finish(struct world *w)
{
	struct http_filters *f = worker_pod_of(w)->outbound;
	world_free(w);
	http_filters_unref(f);
	lua_vms_clear();
}

#define WRAPS                                                                                                          \
	"function envoy_on_response(h) local b = h:body(true) b:setBytes('<' .. b:getBytes(0, b:length()) .. '>') "    \
	"h:headers():add('x-seen', 'yes') end"

static void test_response_body_is_replaced(void **state)
{
	(void)state;
	static const char *const answers[][3] = {
		{ "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", "bo", "dy" },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "2\r\nbo\r\n2\r\nd", "y\r\n0\r\n\r\n" },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody", "", "" },
	};
	for (size_t i = 0; i < 3; i++) {
		struct world *w = scripted(WRAPS);
		world_connect(w);
		for (size_t n = 0; n < 2; n++) { /* twice on the same connection: it is framed right */
			world_send(w, get);
			for (size_t k = 0; k < 3; k++) {
				if (k && *answers[i][k])
					assert_true(w->client->out_len == 0); /* the head waits for the body */
				world_answer(w, n, answers[i][k]);
			}
			assert_received(w, "x-seen: yes\r\n");
			assert_received(w, "content-length: 6\r\n");
			assert_received(w, "\r\n\r\n<body>");
			assert_int_equal(w->records, n + 1);
			assert_int_equal(w->response_bytes, 6);
			assert_int_equal(w->attempts[n].outcome, OUTCOME_RESPONSE);
			fake_forget(w->client);
		}
		finish(w);
	}
}

static void test_body_where_there_was_none(void **state)
{
	(void)state;
	struct world *w = scripted(WRAPS);
	world_connect(w);
	world_send(w, get);
	world_answer(w, 0, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	assert_received(w, "content-length: 2\r\n");
	assert_received(w, "\r\n\r\n<>");
	fake_forget(w->client);
	world_send(w, get);
	world_answer(w, 1, "HTTP/1.1 204 No Content\r\n\r\n");
	assert_received(w, "x-seen: yes\r\n");
	assert_not_received(w, "<");
	fake_forget(w->client);
	world_send(w, "HEAD / HTTP/1.1\r\nHost: shop\r\n\r\n");
	world_answer(w, 2, "HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n");
	assert_received(w, "x-seen: yes\r\n");
	assert_not_received(w, "<");
	fake_forget(w->client);
	world_send(w, get);
	world_answer(w, 3, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	assert_received(w, "\r\n\r\n<>");
	finish(w);
}

static void test_trailers_are_changed_behind_a_new_body(void **state)
{
	(void)state;
	struct world *w = scripted("function envoy_on_response(h) h:body():setBytes('new') "
				   "h:trailers():replace('x-sum', '2') end");
	world_connect(w);
	world_send(w, get);
	world_answer(w, 0, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nold\r\n0\r\nx-sum: 1\r\n\r\n");
	assert_received(w, "transfer-encoding: chunked\r\n");
	assert_received(w, "3\r\nnew\r\n0\r\nx-sum: 2\r\n\r\n");
	assert_not_received(w, "content-length");
	finish(w);
}

static void test_too_large_a_body_answers_500(void **state)
{
	(void)state;
	struct world *w = scripted(WRAPS);
	char *body = malloc(70001);
	memset(body, 'b', 70000);
	body[70000] = '\0';
	world_connect(w);
	world_send(w, get);
	world_answer(w, 0, "HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n");
	world_answer(w, 0, body);
	assert_received(w, "HTTP/1.1 500 Internal Server Error\r\n");
	assert_string_equal(w->details, "response_payload_too_large");
	assert_true(w->attempts[0].done);
	assert_false(w->client->closed);
	free(body);
	finish(w);
}

static void test_without_body_much_passes_a_slow_client(void **state)
{
	(void)state;
	struct world *w = scripted("function envoy_on_response(h) h:headers():add('x-seen', 'yes') end");
	char *body = malloc(300001);
	memset(body, 'b', 300000);
	body[300000] = '\0';
	world_connect(w);
	world_send(w, get);
	w->client->hold = true;
	w->client->limit = 10000;
	world_answer(w, 0, "HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n");
	world_answer(w, 0, body);
	for (int i = 0; i < 100; i++) {
		fake_drain(w->client);
		world_tick(w, 0);
	}
	assert_received(w, "x-seen: yes\r\n");
	assert_int_equal(strlen(strstr(world_received(w), "\r\n\r\n") + 4), 300000);
	free(body);
	finish(w);
}

static void test_replaced_body_meets_a_slow_client(void **state)
{
	(void)state;
	struct world *w = scripted("function envoy_on_response(h) h:body():setBytes(('y'):rep(100000)) end");
	world_connect(w);
	world_send(w, get);
	w->client->hold = true;
	w->client->limit = 1000;
	world_answer(w, 0, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	assert_int_equal(w->records, 0);
	for (int i = 0; i < 300; i++) {
		fake_drain(w->client);
		world_tick(w, 0);
	}
	assert_int_equal(strlen(strstr(world_received(w), "\r\n\r\n") + 4), 100000);
	assert_int_equal(w->records, 1);
	assert_int_equal(w->response_bytes, 100000);
	finish(w);
}

/* The endpoint has answered: there is no other try, and nothing half to be seen. */
static void test_endpoint_that_breaks_off_while_it_is_held(void **state)
{
	(void)state;
	struct world *w = scripted(WRAPS);
	world_retry(w, "5xx,reset", 3);
	world_connect(w);
	world_send(w, get);
	world_answer(w, 0, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbo");
	fake_break(w->attempts[0].t, 0);
	world_tick(w, 0);
	assert_int_equal(w->attempt_count, 1);
	assert_int_equal(w->client->out_len, 0);
	assert_true(w->client->closed);
	assert_int_equal(w->records, 1);
	finish(w);
}

static void test_client_that_goes_while_it_is_held(void **state)
{
	(void)state;
	struct world *w = scripted(WRAPS);
	world_connect(w);
	world_send(w, get);
	world_answer(w, 0, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbo");
	fake_break(w->client, 0);
	world_tick(w, 0);
	assert_int_equal(w->records, 1);
	assert_true(w->attempts[0].done);
	finish(w);
}

static void test_route_timeout_while_it_is_held(void **state)
{
	(void)state;
	struct world *w = scripted(WRAPS);
	w->route->timeout_ms = 40;
	world_connect(w);
	world_send(w, get);
	world_answer(w, 0, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbo");
	world_tick(w, 80);
	assert_received(w, "HTTP/1.1 504 Gateway Timeout\r\n");
	assert_not_received(w, "x-seen");
	assert_true(w->attempts[0].done);
	finish(w);
}

static void test_our_own_answers_are_replaced_too(void **state)
{
	(void)state;
	struct world *w = scripted(WRAPS);
	w->script[w->script_count++] = (struct script){ .failure = UPSTREAM_NO_ENDPOINT };
	world_connect(w);
	world_send(w, get);
	assert_received(w, "HTTP/1.1 503 ");
	assert_received(w, "content-length: 21\r\n");
	assert_received(w, "\r\n\r\n<no healthy upstream>");
	finish(w);
}

static void test_request_body_is_replaced_and_tried_again(void **state)
{
	(void)state;
	struct world *w =
		scripted("function envoy_on_request(h) local b = h:body() b:setBytes(b:getBytes(0, 3) .. 'def') end");
	world_retry(w, "5xx", 1);
	world_connect(w);
	world_send(w, post);
	for (size_t i = 0; i < 2; i++) {
		assert_requested(w, i, "content-length: 6\r\n");
		assert_requested(w, i, "\r\n\r\nabcdef");
		world_answer(w, i, "HTTP/1.1 503 no\r\nContent-Length: 0\r\n\r\n");
		world_tick(w, 60);
	}
	assert_int_equal(w->attempt_count, 2);
	assert_int_equal(w->request_bytes, 3);
	finish(w);
}

static void test_request_gets_a_body(void **state)
{
	(void)state;
	struct world *w = scripted("function envoy_on_request(h) h:body(true):setBytes('made') end");
	world_connect(w);
	world_send(w, get);
	assert_requested(w, 0, "content-length: 4\r\n");
	assert_requested(w, 0, "\r\n\r\nmade");
	world_answer(w, 0, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	world_send(w, post);
	assert_requested(w, 1, "\r\n\r\nmade");
	world_answer(w, 1, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	finish(w);
}

/* --- calls */

#define ASKS                                                                                                           \
	"local function ask(h, path) return h:httpCall('auth', {[':method'] = 'GET', [':path'] = path, "               \
	"[':authority'] = 'auth.shop'}, nil, 50) end "

static void test_calls_before_and_after(void **state)
{
	(void)state;
	struct world *w = scripted(ASKS "function envoy_on_request(h) local r, b = ask(h, '/in') "
					"h:headers():add('x-in', r[':status'] .. b) end "
					"function envoy_on_response(h) local r, b = ask(h, '/out') "
					"h:headers():add('x-out', b) end");
	world_connect(w);
	world_send(w, post);
	assert_int_equal(w->attempt_count, 1);
	assert_string_equal(w->attempts[0].cluster, "auth");
	assert_requested(w, 0, "GET /in HTTP/1.1\r\nhost: auth.shop\r\n");
	world_answer(w, 0, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
	assert_requested(w, 1, "x-in: 200hi\r\n");
	assert_requested(w, 1, "\r\n\r\nabc");
	world_answer(w, 1, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	assert_requested(w, 2, "GET /out HTTP/1.1\r\n");
	assert_int_equal(w->client->out_len, 0); /* it waits, with its body */
	world_answer(w, 2, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nthere");
	assert_received(w, "x-out: there\r\n");
	assert_received(w, "\r\n\r\nok");
	assert_int_equal(w->records, 1);
	finish(w);
}

static void test_call_that_takes_too_long(void **state)
{
	(void)state;
	struct world *w =
		scripted(ASKS "function envoy_on_request(h) local r, b = ask(h, '/') if r[':status'] ~= '200' then "
			      "h:respond({[':status'] = '403'}, b) end end");
	world_connect(w);
	world_send(w, get);
	world_tick(w, 100);
	assert_received(w, "HTTP/1.1 403 Forbidden\r\n");
	assert_received(w, "\r\n\r\nupstream failure");
	assert_int_equal(w->attempt_count, 1);
	finish(w);
}

static void test_client_that_goes_during_a_call(void **state)
{
	(void)state;
	struct world *w =
		scripted(ASKS "function envoy_on_request(h) if h:headers():get(':path') == '/' then ask(h, '/') "
			      "end end function envoy_on_response(h) ask(h, '/') end");
	world_connect(w);
	world_send(w, "GET /x HTTP/1.1\r\nHost: shop\r\n\r\n");
	world_answer(w, 0, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	assert_int_equal(w->attempt_count, 2);
	fake_break(w->client, 0);
	world_tick(w, 0);
	assert_int_equal(w->records, 1);
	assert_true(w->attempts[0].done && w->attempts[1].done);
	finish(w);

	w = scripted(ASKS "function envoy_on_request(h) ask(h, '/') end");
	world_connect(w);
	world_send(w, get);
	fake_break(w->client, 0);
	world_tick(w, 0);
	assert_int_equal(w->records, 1);
	assert_true(w->attempts[0].done);
	finish(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_response_body_is_replaced),
		cmocka_unit_test(test_body_where_there_was_none),
		cmocka_unit_test(test_trailers_are_changed_behind_a_new_body),
		cmocka_unit_test(test_too_large_a_body_answers_500),
		cmocka_unit_test(test_without_body_much_passes_a_slow_client),
		cmocka_unit_test(test_replaced_body_meets_a_slow_client),
		cmocka_unit_test(test_endpoint_that_breaks_off_while_it_is_held),
		cmocka_unit_test(test_client_that_goes_while_it_is_held),
		cmocka_unit_test(test_route_timeout_while_it_is_held),
		cmocka_unit_test(test_our_own_answers_are_replaced_too),
		cmocka_unit_test(test_request_body_is_replaced_and_tried_again),
		cmocka_unit_test(test_request_gets_a_body),
		cmocka_unit_test(test_calls_before_and_after),
		cmocka_unit_test(test_call_that_takes_too_long),
		cmocka_unit_test(test_client_that_goes_during_a_call),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
