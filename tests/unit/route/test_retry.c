/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/route/world.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/err.h"
#include "agent/helper/route/internal.h"

enum { BACKOFF_OVER_MS = 60 };

static const char get[] = "GET / HTTP/1.1\r\nHost: shop\r\n\r\n";
static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/* --- the decision alone --- */

static bool on_response(const char *on, uint16_t status, const char *name, const char *value)
{
	struct http_retry retry = { 0 };
	struct err err = ERR_INIT;
	assert_int_equal(http_retry_on_parse(on, &retry, &err), 0);
	struct http_head *h = http_head_new();
	h->status = status;
	if (name)
		http_add(h, name, value);
	bool again = retry_on_response(&retry, h);
	http_head_free(h);
	free(retry.statuses);
	return again;
}

static void test_conditions_of_responses(void **state)
{
	(void)state;
	static const struct {
		const char *on;
		uint16_t status;
		const char *name, *value;
		bool again;
	} cases[] = {
		{ "5xx", 500, NULL, NULL, true },
		{ "5xx", 599, NULL, NULL, true },
		{ "5xx", 499, NULL, NULL, false },
		{ "gateway-error", 500, NULL, NULL, false },
		{ "gateway-error", 502, NULL, NULL, true },
		{ "gateway-error", 504, NULL, NULL, true },
		{ "gateway-error", 505, NULL, NULL, false },
		{ "retriable-4xx", 409, NULL, NULL, true },
		{ "retriable-4xx", 404, NULL, NULL, false },
		{ "retriable-status-codes,503", 503, NULL, NULL, true },
		{ "retriable-status-codes,503", 500, NULL, NULL, false },
		{ "connect-failure,refused-stream,reset", 503, NULL, NULL, false },
		{ "5xx", 503, "x-envoy-ratelimited", "true", false },
		{ "envoy-ratelimited", 429, "x-envoy-ratelimited", "true", true },
		{ "cancelled", 200, "grpc-status", "1", true },
		{ "deadline-exceeded", 200, "grpc-status", "4", true },
		{ "resource-exhausted", 200, "grpc-status", "8", true },
		{ "internal", 200, "grpc-status", "13", true },
		{ "unavailable", 200, "grpc-status", "14", true },
		{ "unavailable", 200, "grpc-status", "13", false },
		{ "unavailable", 200, "grpc-status", "nonsense", false },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (on_response(cases[i].on, cases[i].status, cases[i].name, cases[i].value) != cases[i].again)
			fail_msg("%s of %u is %d", cases[i].on, cases[i].status, !cases[i].again);
}

static bool on_reset(const char *on, enum attempt_reset why, bool sent)
{
	struct http_retry retry = { 0 };
	struct err err = ERR_INIT;
	assert_int_equal(http_retry_on_parse(on, &retry, &err), 0);
	bool again = retry_on_reset(&retry, why, sent);
	free(retry.statuses);
	return again;
}

static void test_conditions_of_resets(void **state)
{
	(void)state;
	assert_true(on_reset("reset", ATTEMPT_TERMINATED, true));
	assert_true(on_reset("5xx", ATTEMPT_REMOTE_RESET, true));
	assert_true(on_reset("gateway-error", ATTEMPT_LOCAL_RESET, true));
	assert_true(on_reset("connect-failure", ATTEMPT_CONNECT_FAILURE, false));
	assert_true(on_reset("connect-failure", ATTEMPT_CONNECT_TIMEOUT, false));
	assert_false(on_reset("connect-failure", ATTEMPT_TERMINATED, true));
	assert_true(on_reset("refused-stream", ATTEMPT_REFUSED_STREAM, true));
	assert_false(on_reset("refused-stream", ATTEMPT_REMOTE_RESET, true));
	assert_true(on_reset("reset-before-request", ATTEMPT_CONNECT_FAILURE, false));
	assert_false(on_reset("reset-before-request", ATTEMPT_TERMINATED, true));
	assert_false(on_reset("5xx,reset,connect-failure", ATTEMPT_OVERFLOW, false));
	assert_false(on_reset("unavailable,retriable-4xx", ATTEMPT_TERMINATED, true));
}

static void test_backoff_doubles_up_to_its_limit(void **state)
{
	(void)state;
	struct http_retry retry = { .backoff_ms = 25, .backoff_max_ms = 250 };
	static const uint32_t limits[] = { 25, 50, 100, 200, 250, 250 };
	for (uint32_t i = 0; i < 6; i++) {
		uint32_t max = 0;
		for (uint64_t random = 0; random < 1000; random++) {
			uint32_t ms = retry_backoff_ms(&retry, i + 1, random);
			max = ms > max ? ms : max;
		}
		assert_int_equal(max, limits[i] - 1);
	}
	assert_true(retry_backoff_ms(&retry, 1000, UINT64_MAX) < 250);
}

/* --- in the engine --- */

static void test_503_is_tried_again_elsewhere(void **state)
{
	(void)state;
	struct world *w = world_new();
	world_retry(w, "5xx", 2);
	world_connect(w);
	world_send(w, "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 4\r\n\r\nbody");
	world_answer(w, 0, "HTTP/1.1 503 No\r\nContent-Length: 3\r\n\r\nbad");
	assert_not_received(w, "HTTP");
	assert_true(w->attempts[0].done);
	assert_int_equal(w->attempts[0].outcome, OUTCOME_RESPONSE);
	assert_int_equal(w->attempts[0].status, 503);
	world_tick(w, BACKOFF_OVER_MS);
	assert_int_equal(w->attempt_count, 2);
	assert_int_equal(w->retry_leaves, 1); /* held while it runs */
	assert_int_equal(w->attempts[1].avoid_count, 1);
	assert_requested(w, 1, "x-envoy-attempt-count: 2\r\n");
	assert_requested(w, 1, "\r\n\r\nbody");
	world_answer(w, 1, ok);
	assert_received(w, "HTTP/1.1 200 OK\r\n");
	assert_not_received(w, "bad");
	assert_int_equal(w->tries, 2);
	assert_int_equal(w->flags, 0);
	assert_string_equal(w->endpoint, "10.1.0.2:8080");
	world_free(w);
}

/* Envoy's previous_priorities: two tries each. The fake's endpoints are taken in turn: priorities 0, 1, 0, 0, 1. */
static void test_other_localities_are_tried_after_two(void **state)
{
	(void)state;
	for (int wanted = 0; wanted < 2; wanted++) {
		struct world *w = world_new();
		world_retry(w, "5xx", 4);
		w->route->retry.remote_localities = wanted;
		world_priority(w, 1, 1);
		world_connect(w);
		world_send(w, get);
		for (size_t i = 0; i < 4; i++) {
			world_answer(w, i, "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n");
			world_tick(w, 300);
		}
		assert_int_equal(w->attempt_count, 5);
		assert_int_equal(w->attempts[1].skip, 0);
		assert_int_equal(w->attempts[2].skip, wanted ? 3 : 0);
		assert_int_equal(w->attempts[4].skip, wanted ? 3 : 0);
		world_free(w);
	}
}

static void test_last_answer_is_passed_on_with_urx(void **state)
{
	(void)state;
	struct world *w = world_new();
	world_retry(w, "5xx", 1);
	world_connect(w);
	world_send(w, get);
	world_answer(w, 0, "HTTP/1.1 503 No\r\nContent-Length: 1\r\n\r\n1");
	world_tick(w, BACKOFF_OVER_MS);
	world_answer(w, 1, "HTTP/1.1 503 No\r\nContent-Length: 1\r\n\r\n2");
	assert_received(w, "HTTP/1.1 503 ");
	assert_received(w, "\r\n\r\n2");
	assert_int_equal(w->flags, FLAG(URX));
	assert_string_equal(w->details, "via_upstream");
	world_free(w);
}

static void test_no_attempts_no_retry(void **state)
{
	(void)state;
	struct world *w = world_new();
	world_retry(w, "5xx", 0);
	world_connect(w);
	world_send(w, get);
	world_answer(w, 0, "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
	assert_received(w, "HTTP/1.1 500 ");
	assert_int_equal(w->flags, 0);
	world_free(w);
}

static void test_connect_failure_is_tried_again(void **state)
{
	(void)state;
	struct world *w = world_new();
	world_retry(w, "connect-failure", 2);
	w->script[0] = (struct script){ .failure = UPSTREAM_CONNECT };
	w->script[1] = (struct script){ .failure = UPSTREAM_OK };
	w->script_count = 2;
	world_connect(w);
	world_send(w, get);
	world_tick(w, BACKOFF_OVER_MS);
	assert_int_equal(w->attempts[1].avoid_count, 1);
	world_answer(w, 1, ok);
	assert_received(w, "200 OK");
	assert_string_equal(w->failure, "-"); /* of the attempt that counts */
	world_free(w);
}

static void test_all_connects_failed(void **state)
{
	(void)state;
	struct world *w = world_new();
	world_retry(w, "connect-failure", 1);
	w->script[w->script_count++] = (struct script){ .failure = UPSTREAM_CONNECT };
	world_connect(w);
	world_send(w, get);
	world_tick(w, BACKOFF_OVER_MS);
	assert_received(w, "upstream connect error or disconnect/reset before headers. retried and the latest reset "
			   "reason: connection failure");
	assert_int_equal(w->flags, FLAG(UF) | FLAG(URX));
	assert_string_equal(w->failure, "TLS_error: as the test says");
	world_free(w);
}

static void test_reset_before_the_head_is_tried_again(void **state)
{
	(void)state;
	struct world *w = world_new();
	world_retry(w, "reset", 2);
	world_connect(w);
	world_send(w, get);
	fake_break(w->attempts[0].t, -ECONNRESET);
	world_tick(w, BACKOFF_OVER_MS);
	assert_int_equal(w->attempts[0].outcome, OUTCOME_RESET);
	world_answer(w, 1, ok);
	assert_received(w, "200 OK");
	world_free(w);
}

static void test_reset_after_the_head_is_not(void **state)
{
	(void)state;
	struct world *w = world_new();
	world_retry(w, "reset,5xx", 2);
	world_connect(w);
	world_send(w, get);
	world_answer(w, 0, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
	fake_break(w->attempts[0].t, -ECONNRESET);
	world_tick(w, BACKOFF_OVER_MS);
	assert_int_equal(w->attempt_count, 1);
	assert_true(w->client->closed);
	assert_int_equal(w->flags, FLAG(UC));
	assert_string_equal(w->details, "upstream_reset_after_response_started{connection_termination}");
	assert_int_equal(w->response_bytes, 4);
	world_free(w);
}

static void test_reset_that_no_condition_covers(void **state)
{
	(void)state;
	struct world *w = world_new();
	world_retry(w, "connect-failure", 2);
	world_connect(w);
	world_send(w, get);
	fake_break(w->attempts[0].t, -ECONNRESET);
	assert_received(w, "HTTP/1.1 503 ");
	assert_received(w, "reset reason: connection termination");
	assert_int_equal(w->flags, FLAG(UC));
	world_free(w);
}

/* What a client that keeps connections itself would do: RFC 9110 9.2.2. */
static void test_reused_connection_that_was_closed(void **state)
{
	(void)state;
	static const struct {
		const char *request;
		bool again;
	} cases[] = {
		{ "GET / HTTP/1.1\r\nHost: shop\r\n\r\n", true },
		{ "HEAD / HTTP/1.1\r\nHost: shop\r\n\r\n", true },
		{ "DELETE / HTTP/1.1\r\nHost: shop\r\n\r\n", true },
		{ "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 0\r\n\r\n", false },
		{ "PATCH / HTTP/1.1\r\nHost: shop\r\nContent-Length: 0\r\n\r\n", false },
		{ "PUT / HTTP/1.1\r\nHost: shop\r\nContent-Length: 1\r\n\r\nx", false }, /* not kept: no retries */
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct world *w = world_new();
		world_connect(w);
		world_send(w, cases[i].request);
		w->attempts[0].conn->requests = 2;
		fake_break(w->attempts[0].t, -ECONNRESET);
		world_tick(w, BACKOFF_OVER_MS);
		if ((w->attempt_count == 2) != cases[i].again)
			fail_msg("%s: %zu attempts", cases[i].request, w->attempt_count);
		if (cases[i].again) {
			assert_int_equal(w->attempts[0].outcome, OUTCOME_CANCELLED);
			world_answer(w, 1, "HTTP/1.1 204 Done\r\n\r\n");
		}
		assert_received(w, cases[i].again ? "204" : "503");
		assert_int_equal(w->flags, cases[i].again ? 0 : FLAG(UC));
		world_free(w);
	}
}

static void test_reused_connections_are_not_tried_for_ever(void **state)
{
	(void)state;
	struct world *w = world_new();
	world_connect(w);
	world_send(w, get);
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(w->attempt_count, i + 1);
		w->attempts[i].conn->requests = 2;
		fake_break(w->attempts[i].t, -ECONNRESET);
		world_tick(w, BACKOFF_OVER_MS);
	}
	assert_int_equal(w->attempt_count, 4);
	assert_received(w, "HTTP/1.1 503 ");
	assert_int_equal(w->flags, FLAG(UC));
	world_free(w);
}

static void test_body_beyond_64k_is_not_sent_again(void **state)
{
	(void)state;
	struct world *w = world_new();
	world_retry(w, "5xx", 2);
	world_connect(w);
	enum { LEN = (64 << 10) + 1 };
	char *body = malloc(LEN);
	memset(body, 'x', LEN);
	char head[128];
	snprintf(head, sizeof(head), "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: %d\r\n\r\n", LEN);
	world_send(w, head);
	fake_push(w->client, body, LEN);
	world_tick(w, 0);
	world_answer(w, 0, "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n");
	assert_received(w, "HTTP/1.1 503 ");
	assert_int_equal(w->attempt_count, 1);
	assert_int_equal(w->request_bytes, LEN);
	world_free(w);

	/* One byte less fits. */
	w = world_new();
	world_retry(w, "5xx", 2);
	world_connect(w);
	snprintf(head, sizeof(head), "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: %d\r\n\r\n", LEN - 1);
	world_send(w, head);
	fake_push(w->client, body, LEN - 1);
	world_tick(w, 0);
	world_answer(w, 0, "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n");
	world_tick(w, BACKOFF_OVER_MS);
	assert_int_equal(w->attempt_count, 2);
	const char *again = strstr(world_request(w, 1), "\r\n\r\n");
	assert_non_null(again);
	assert_int_equal(strlen(again + 4), LEN - 1);
	world_free(w);
	free(body);
}

static void test_retry_while_the_body_still_comes(void **state)
{
	(void)state;
	struct world *w = world_new();
	world_retry(w, "5xx", 2);
	world_connect(w);
	world_send(w, "POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
	world_answer(w, 0, "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n");
	world_send(w, "3\r\ndef\r\n"); /* during the back-off */
	world_tick(w, BACKOFF_OVER_MS);
	world_send(w, "0\r\n\r\n");
	assert_requested(w, 1, "3\r\nabc\r\n");
	assert_requested(w, 1, "def\r\n");
	assert_requested(w, 1, "0\r\n\r\n");
	world_answer(w, 1, ok);
	assert_received(w, "200 OK");
	world_free(w);
}

static void test_retry_beyond_the_limit_passes_the_answer_on(void **state)
{
	(void)state;
	struct world *w = world_new();
	world_retry(w, "5xx", 2);
	w->retries_over = true;
	world_connect(w);
	world_send(w, get);
	world_answer(w, 0, "HTTP/1.1 502 No\r\nContent-Length: 7\r\nx-app: 1\r\n\r\nbe");
	world_answer(w, 0, "cause");
	assert_received(w, "HTTP/1.1 502 ");
	assert_received(w, "x-app: 1\r\n");
	assert_received(w, "\r\n\r\nbecause");
	assert_int_equal(w->attempt_count, 1);
	assert_int_equal(w->flags, FLAG(UO));
	assert_string_equal(w->details, "via_upstream");
	assert_int_equal(w->attempts[0].outcome, OUTCOME_RESPONSE);
	/* The same of the second try's answer. */
	w->retries_over = false;
	world_send(w, get);
	world_answer(w, 1, "HTTP/1.1 503 No\r\nContent-Length: 3\r\n\r\nbad");
	world_tick(w, BACKOFF_OVER_MS);
	w->retries_over = true;
	world_answer(w, 2, "HTTP/1.1 504 No\r\nContent-Length: 5\r\n\r\nworse");
	assert_received(w, "HTTP/1.1 504 ");
	assert_received(w, "\r\n\r\nworse");
	assert_not_received(w, "bad");
	world_free(w);
}

static void test_retry_beyond_the_limit_of_what_was_reset(void **state)
{
	(void)state;
	struct world *w = world_new();
	world_retry(w, "5xx", 2);
	w->retries_over = true;
	w->script[0] = (struct script){ .failure = UPSTREAM_CONNECT };
	w->script_count = 1;
	world_connect(w);
	world_send(w, get);
	assert_received(w, "HTTP/1.1 503 ");
	assert_received(w, "reset reason: connection failure");
	assert_int_equal(w->flags, FLAG(UF) | FLAG(UO));
	world_free(w);
}

static void test_client_that_leaves_during_the_backoff(void **state)
{
	(void)state;
	struct world *w = world_new();
	world_retry(w, "5xx", 2);
	world_connect(w);
	world_send(w, get);
	world_answer(w, 0, "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n");
	fake_break(w->client, -ECONNRESET);
	world_tick(w, BACKOFF_OVER_MS);
	assert_int_equal(w->attempt_count, 1);
	assert_int_equal(w->flags, FLAG(DC));
	assert_int_equal(w->status, 0);
	world_free(w);
}

/* --- timeouts --- */

static void test_timeout_is_504_ut(void **state)
{
	(void)state;
	struct world *w = world_new();
	w->route->timeout_ms = 30;
	world_connect(w);
	world_send(w, get);
	world_tick(w, 70);
	assert_received(w, "HTTP/1.1 504 Gateway Timeout\r\n");
	assert_received(w, "\r\n\r\nupstream request timeout");
	assert_int_equal(w->flags, FLAG(UT));
	assert_string_equal(w->details, "response_timeout");
	assert_int_equal(w->attempts[0].outcome, OUTCOME_TIMEOUT);
	assert_string_equal(w->endpoint, "10.1.0.1:8080");
	world_free(w);
}

static void test_timeout_waits_for_the_end_of_the_request(void **state)
{
	(void)state;
	struct world *w = world_new();
	w->route->timeout_ms = 20;
	world_connect(w);
	world_send(w, "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 2\r\n\r\na");
	world_tick(w, 60);
	assert_not_received(w, "504");
	world_send(w, "b");
	world_tick(w, 60);
	assert_received(w, "504");
	world_free(w);
}

static void test_timeout_after_the_head_resets(void **state)
{
	(void)state;
	struct world *w = world_new();
	w->route->timeout_ms = 20;
	world_connect(w);
	world_send(w, get);
	world_answer(w, 0, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
	world_tick(w, 60);
	assert_true(w->client->closed);
	assert_int_equal(w->flags, FLAG(UT));
	world_free(w);
}

static void test_timeout_while_connecting(void **state)
{
	(void)state;
	struct world *w = world_new();
	w->route->timeout_ms = 20;
	w->script[w->script_count++] = (struct script){ .later = true };
	world_connect(w);
	world_send(w, get);
	world_tick(w, 60);
	assert_received(w, "504");
	assert_false(w->attempts[0].pending);
	world_free(w);
}

static void test_timeout_covers_all_tries(void **state)
{
	(void)state;
	struct world *w = world_new();
	w->route->timeout_ms = 150;
	world_retry(w, "5xx", 9);
	w->route->retry.per_try_timeout_ms = 40;
	world_connect(w);
	world_send(w, get);
	world_tick(w, 300);
	assert_received(w, "504");
	assert_string_equal(w->details, "response_timeout");
	assert_in_range(w->attempt_count, 2, 4);
	world_free(w);
}

static void test_try_that_is_too_slow_is_tried_again(void **state)
{
	(void)state;
	struct world *w = world_new();
	world_retry(w, "5xx", 1);
	w->route->retry.per_try_timeout_ms = 20;
	world_connect(w);
	world_send(w, get);
	world_tick(w, 90);
	assert_int_equal(w->attempts[0].outcome, OUTCOME_TIMEOUT);
	assert_int_equal(w->attempt_count, 2);
	world_tick(w, 60);
	assert_received(w, "504");
	assert_string_equal(w->details, "upstream_per_try_timeout");
	assert_int_equal(w->flags, FLAG(UT) | FLAG(URX));
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_conditions_of_responses),
		cmocka_unit_test(test_conditions_of_resets),
		cmocka_unit_test(test_backoff_doubles_up_to_its_limit),
		cmocka_unit_test(test_503_is_tried_again_elsewhere),
		cmocka_unit_test(test_other_localities_are_tried_after_two),
		cmocka_unit_test(test_last_answer_is_passed_on_with_urx),
		cmocka_unit_test(test_no_attempts_no_retry),
		cmocka_unit_test(test_connect_failure_is_tried_again),
		cmocka_unit_test(test_all_connects_failed),
		cmocka_unit_test(test_reset_before_the_head_is_tried_again),
		cmocka_unit_test(test_reset_after_the_head_is_not),
		cmocka_unit_test(test_reset_that_no_condition_covers),
		cmocka_unit_test(test_reused_connection_that_was_closed),
		cmocka_unit_test(test_reused_connections_are_not_tried_for_ever),
		cmocka_unit_test(test_body_beyond_64k_is_not_sent_again),
		cmocka_unit_test(test_retry_while_the_body_still_comes),
		cmocka_unit_test(test_retry_beyond_the_limit_passes_the_answer_on),
		cmocka_unit_test(test_retry_beyond_the_limit_of_what_was_reset),
		cmocka_unit_test(test_client_that_leaves_during_the_backoff),
		cmocka_unit_test(test_timeout_is_504_ut),
		cmocka_unit_test(test_timeout_waits_for_the_end_of_the_request),
		cmocka_unit_test(test_timeout_after_the_head_resets),
		cmocka_unit_test(test_timeout_while_connecting),
		cmocka_unit_test(test_timeout_covers_all_tries),
		cmocka_unit_test(test_try_that_is_too_slow_is_tried_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
