/* SPDX-License-Identifier: Apache-2.0 */
/* Faults, CORS, mirrors, and what filters may do. */
#include "tests/unit/route/world.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/err.h"
#include "agent/helper/worker.h"

static const char get[] = "GET / HTTP/1.1\r\nHost: shop\r\n\r\n";
static const char grpc[] =
	"POST /s/M HTTP/1.1\r\nHost: shop\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n";
static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
static const struct http_fraction always = { 1000000 }, never = { 0 };

/* --- faults --- */

static struct http_fault *fault(struct world *w)
{
	struct http_fault *f = w->route->fault = calloc(1, sizeof(*f));
	f->abort_grpc = -1;
	return f;
}

static void test_abort_answers(void **state)
{
	(void)state;
	struct world *w = world_new();
	struct http_fault *f = fault(w);
	f->abort = true;
	f->abort_status = 418;
	f->abort_share = always;
	world_connect(w);
	world_send(w, get);
	assert_received(w, "HTTP/1.1 418 ");
	assert_received(w, "\r\n\r\nfault filter abort");
	assert_int_equal(w->flags, FLAG(FI));
	assert_string_equal(w->details, "fault_filter_abort");
	assert_int_equal(w->attempt_count, 0);
	world_free(w);
}

static void test_abort_of_no_share_does_nothing(void **state)
{
	(void)state;
	struct world *w = world_new();
	struct http_fault *f = fault(w);
	f->abort = true;
	f->abort_status = 500;
	f->abort_share = never;
	f->delay_ms = 10000;
	f->delay_share = never;
	world_connect(w);
	world_send(w, get);
	assert_int_equal(w->attempt_count, 1);
	world_free(w);
}

static void test_grpc_abort(void **state)
{
	(void)state;
	struct world *w = world_new();
	struct http_fault *f = fault(w);
	f->abort = true;
	f->abort_grpc = 8;
	f->abort_share = always;
	world_connect(w);
	world_send(w, grpc);
	assert_received(w, "HTTP/1.1 200 OK\r\n");
	assert_received(w, "content-type: application/grpc\r\n");
	assert_received(w, "grpc-status: 8\r\n");
	assert_received(w, "grpc-message: fault filter abort\r\n");
	assert_int_equal(w->grpc_status, 8);
	fake_forget(w->client);
	world_send(w, get); /* not gRPC: the status that stands for it */
	assert_received(w, "HTTP/1.1 429 ");
	world_free(w);
}

static void test_http_abort_of_a_grpc_request_is_mapped(void **state)
{
	(void)state;
	struct world *w = world_new();
	struct http_fault *f = fault(w);
	f->abort = true;
	f->abort_status = 503;
	f->abort_share = always;
	world_connect(w);
	world_send(w, grpc);
	assert_received(w, "HTTP/1.1 200 OK\r\n");
	assert_received(w, "grpc-status: 14\r\n");
	world_free(w);
}

static void test_delay_then_forward(void **state)
{
	(void)state;
	struct world *w = world_new();
	struct http_fault *f = fault(w);
	f->delay_ms = 40;
	f->delay_share = always;
	world_connect(w);
	world_send(w, get);
	assert_int_equal(w->attempt_count, 0);
	world_tick(w, 80);
	world_answer(w, 0, ok);
	assert_received(w, "200 OK");
	assert_int_equal(w->flags, FLAG(DI));
	world_free(w);
}

static void test_delay_then_abort(void **state)
{
	(void)state;
	struct world *w = world_new();
	struct http_fault *f = fault(w);
	*f = (struct http_fault){ .delay_ms = 20,
				  .delay_share = always,
				  .abort = true,
				  .abort_status = 503,
				  .abort_grpc = -1,
				  .abort_share = always };
	world_connect(w);
	world_send(w, get);
	world_tick(w, 60);
	assert_received(w, "HTTP/1.1 503 ");
	assert_int_equal(w->flags, FLAG(DI) | FLAG(FI));
	world_free(w);
}

static void test_client_that_leaves_during_a_delay(void **state)
{
	(void)state;
	struct world *w = world_new();
	struct http_fault *f = fault(w);
	f->delay_ms = 20;
	f->delay_share = always;
	world_connect(w);
	world_send(w, get);
	fake_break(w->client, -ECONNRESET);
	world_tick(w, 60);
	assert_int_equal(w->attempt_count, 0);
	assert_int_equal(w->flags, FLAG(DI) | FLAG(DC));
	world_free(w);
}

/* --- CORS --- */

static struct http_cors *cors(struct world *w)
{
	struct http_cors *c = w->route->cors = calloc(1, sizeof(*c));
	c->origins = calloc(1, sizeof(*c->origins));
	c->origin_count = 1;
	c->origins[0].kind = HTTP_TEXT_EXACT;
	c->origins[0].text = strdup("https://ui.example");
	c->methods = strdup("GET,PUT");
	c->headers = strdup("x-a,x-b");
	c->expose = strdup("x-c");
	c->max_age_s = 60;
	c->has_max_age = c->credentials = true;
	return c;
}

static const char preflight[] = "OPTIONS / HTTP/1.1\r\nHost: shop\r\nOrigin: https://ui.example\r\n"
				"Access-Control-Request-Method: PUT\r\n\r\n";
static const char strange_preflight[] = "OPTIONS / HTTP/1.1\r\nHost: shop\r\nOrigin: https://evil.example\r\n"
					"Access-Control-Request-Method: PUT\r\n\r\n";

static void test_preflight_is_answered(void **state)
{
	(void)state;
	struct world *w = world_new();
	cors(w);
	world_connect(w);
	world_send(w, preflight);
	assert_int_equal(w->attempt_count, 0);
	assert_received(w, "HTTP/1.1 200 OK\r\n");
	assert_received(w, "access-control-allow-origin: https://ui.example\r\n");
	assert_received(w, "access-control-allow-methods: GET,PUT\r\n");
	assert_received(w, "access-control-allow-headers: x-a,x-b\r\n");
	assert_received(w, "access-control-max-age: 60\r\n");
	assert_received(w, "access-control-allow-credentials: true\r\n");
	assert_not_received(w, "expose");
	world_free(w);
}

static void star(char **field)
{
	free(*field);
	*field = strdup("*");
}

/* A star with credentials would be taken by its word: what was asked for is named instead. */
static void test_stars_with_credentials(void **state)
{
	(void)state;
	for (int credentials = 0; credentials < 2; credentials++) {
		struct world *w = world_new();
		struct http_cors *c = cors(w);
		star(&c->methods);
		star(&c->headers);
		c->credentials = credentials;
		world_connect(w);
		world_send(w, "OPTIONS / HTTP/1.1\r\nHost: shop\r\nOrigin: https://ui.example\r\n"
			      "Access-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: x-d, x-e\r\n\r\n");
		assert_received(w, credentials ? "access-control-allow-methods: PUT\r\n" :
						 "access-control-allow-methods: *\r\n");
		assert_received(w, credentials ? "access-control-allow-headers: x-d, x-e\r\n" :
						 "access-control-allow-headers: *\r\n");
		world_free(w);
	}
	struct world *w = world_new();
	star(&cors(w)->headers);
	world_connect(w);
	world_send(w, preflight); /* asks for none */
	assert_received(w, "access-control-allow-methods: GET,PUT\r\n");
	assert_not_received(w, "access-control-allow-headers");
	world_free(w);
}

static void test_answers_get_their_fields(void **state)
{
	(void)state;
	struct world *w = world_new();
	cors(w);
	world_connect(w);
	world_send(w, "GET / HTTP/1.1\r\nHost: shop\r\nOrigin: https://ui.example\r\n\r\n");
	world_answer(w, 0, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\naccess-control-allow-origin: *\r\n\r\n");
	assert_received(w, "access-control-allow-origin: https://ui.example\r\n");
	assert_received(w, "access-control-expose-headers: x-c\r\n");
	assert_not_received(w, "allow-origin: *");
	world_free(w);
}

static void test_strange_origins(void **state)
{
	(void)state;
	for (int forward = 0; forward < 2; forward++) {
		struct world *w = world_new();
		cors(w)->forward_unmatched_preflights = forward;
		world_connect(w);
		world_send(w, strange_preflight);
		assert_int_equal(w->attempt_count, forward);
		if (forward)
			world_answer(w, 0, "HTTP/1.1 204 No Content\r\n\r\n");
		assert_received(w, forward ? "HTTP/1.1 204 " : "HTTP/1.1 200 ");
		assert_not_received(w, "access-control");
		world_free(w);
	}
}

/* --- mirrors --- */

static void mirror(struct world *w, struct http_fraction share)
{
	w->route->mirrors = calloc(1, sizeof(*w->route->mirrors));
	w->route->mirror_count = 1;
	w->route->mirrors[0].cluster = strdup("shadow");
	w->route->mirrors[0].share = share;
}

static void test_mirror_gets_a_copy(void **state)
{
	(void)state;
	struct world *w = world_new();
	mirror(w, always);
	world_connect(w);
	world_send(w, "POST /p HTTP/1.1\r\nHost: shop:8080\r\nContent-Length: 6\r\n\r\nabc");
	assert_int_equal(w->attempt_count, 2);
	assert_string_equal(w->attempts[0].cluster, "shadow");
	world_send(w, "def");
	assert_requested(w, 0, "POST /p HTTP/1.1\r\n");
	assert_requested(w, 0, "shop-shadow:8080\r\n");
	assert_requested(w, 0, "\r\n\r\nabcdef");
	assert_requested(w, 1, "\r\n\r\nabcdef");
	world_answer(w, 0, "HTTP/1.1 500 No\r\nContent-Length: 3\r\n\r\nbad");
	assert_int_equal(w->attempts[0].status, 500);
	assert_not_received(w, "500");
	world_answer(w, 1, ok);
	assert_received(w, "200 OK");
	assert_int_equal(w->records, 1);
	world_free(w);
}

static void test_mirror_that_hangs_or_fails_changes_nothing(void **state)
{
	(void)state;
	static const struct script scripts[] = { { .later = true }, { .failure = UPSTREAM_NO_ENDPOINT } };
	for (size_t i = 0; i < 2; i++) {
		struct world *w = world_new();
		mirror(w, always);
		w->script[0] = scripts[i];
		w->script[1] = (struct script){ 0 };
		w->script_count = 2;
		world_connect(w);
		world_send(w, "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 3\r\n\r\nabc");
		world_answer(w, 1, ok);
		assert_received(w, "200 OK");
		world_free(w);
	}
}

static void test_mirror_that_takes_nothing_is_dropped(void **state)
{
	(void)state;
	struct world *w = world_new();
	mirror(w, always);
	w->script[0] = (struct script){ .later = true };
	w->script[1] = (struct script){ 0 };
	w->script_count = 2;
	world_connect(w);
	enum { LEN = 100000 };
	char *body = calloc(1, LEN);
	world_send(w, "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 100000\r\n\r\n");
	fake_push(w->client, body, LEN);
	world_tick(w, 0);
	assert_true(w->attempts[0].done);
	world_answer(w, 1, ok);
	assert_received(w, "200 OK");
	free(body);
	world_free(w);
}

static void test_mirror_share(void **state)
{
	(void)state;
	struct world *w = world_new();
	mirror(w, never);
	world_connect(w);
	world_send(w, get);
	assert_int_equal(w->attempt_count, 1);
	assert_string_equal(w->attempts[0].cluster, "c");
	world_free(w);
}

static void test_mirror_of_a_request_that_breaks_off_is_cut(void **state)
{
	(void)state;
	struct world *w = world_new();
	mirror(w, always);
	world_connect(w);
	world_send(w, "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 9\r\n\r\nabc");
	fake_break(w->client, -ECONNRESET);
	world_tick(w, 0);
	assert_true(w->attempts[0].done && w->attempts[1].done);
	assert_int_equal(w->attempts[1].outcome, OUTCOME_CANCELLED);
	world_free(w);
}

/* --- side calls --- */

struct heard {
	int calls;
	uint16_t status;
	char body[16];
	size_t len;
};

static void on_side_call(const struct http_head *response, const uint8_t *body, size_t len,
			 const struct http_head *trailers, uint16_t status, void *arg)
{
	struct heard *h = arg;
	(void)trailers;
	assert_int_equal(response != NULL, status != 0);
	h->calls++;
	h->status = status;
	h->len = len;
	if (len && len < sizeof(h->body))
		memcpy(h->body, body, len);
}

static struct http_head *check_head(void)
{
	struct http_head *head = http_head_new();
	head->version = HTTP_1_1;
	head->method = http_head_text(head, "POST", 4);
	head->path = http_head_text(head, "/check", 6);
	head->authority = http_head_text(head, "authz:9000", 10);
	head->content_length = -1;
	return head;
}

static void test_side_call_hears_the_answer(void **state)
{
	(void)state;
	struct world *w = world_new();
	struct heard heard = { 0 };
	world_connect(w);
	struct worker_pod *pod = worker_pod_of(w);
	side_call_new(w->w, pod, "authz", check_head(), "question", 8, 1000, on_side_call, &heard);
	assert_requested(w, 0, "POST /check HTTP/1.1\r\n");
	assert_requested(w, 0, "content-length: 8\r\n");
	assert_requested(w, 0, "\r\n\r\nquestion");
	assert_string_equal(w->attempts[0].host, "authz");
	world_answer(w, 0, "HTTP/1.1 403 No\r\nContent-Length: 3\r\n\r\nwhy");
	assert_int_equal(heard.calls, 1);
	assert_int_equal(heard.status, 403);
	assert_string_equal(heard.body, "why");
	world_free(w);
}

static void test_side_call_without_an_answer(void **state)
{
	(void)state;
	struct world *w = world_new();
	struct heard slow = { 0 }, broken = { 0 }, refused = { 0 }, cancelled = { 0 };
	world_connect(w);
	struct worker_pod *pod = worker_pod_of(w);
	side_call_new(w->w, pod, "authz", check_head(), NULL, 0, 30, on_side_call, &slow);
	side_call_new(w->w, pod, "authz", check_head(), NULL, 0, 1000, on_side_call, &broken);
	struct side_call *c = side_call_new(w->w, pod, "authz", check_head(), NULL, 0, 1000, on_side_call, &cancelled);
	side_call_cancel(c);
	fake_break(w->attempts[1].t, -ECONNRESET);
	w->script[w->script_count++] = (struct script){ .failure = UPSTREAM_CONNECT };
	side_call_new(w->w, pod, "authz", check_head(), NULL, 0, 1000, on_side_call, &refused);
	assert_int_equal(refused.calls, 0); /* never from inside */
	world_tick(w, 80);
	assert_int_equal(slow.calls, 1);
	assert_int_equal(broken.calls, 1);
	assert_int_equal(refused.calls, 1);
	assert_int_equal(cancelled.calls, 0);
	assert_int_equal(slow.status + broken.status + refused.status, 0);
	assert_int_equal(w->attempts[0].outcome, OUTCOME_TIMEOUT);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_abort_answers),
		cmocka_unit_test(test_abort_of_no_share_does_nothing),
		cmocka_unit_test(test_grpc_abort),
		cmocka_unit_test(test_http_abort_of_a_grpc_request_is_mapped),
		cmocka_unit_test(test_delay_then_forward),
		cmocka_unit_test(test_delay_then_abort),
		cmocka_unit_test(test_client_that_leaves_during_a_delay),
		cmocka_unit_test(test_preflight_is_answered),
		cmocka_unit_test(test_stars_with_credentials),
		cmocka_unit_test(test_answers_get_their_fields),
		cmocka_unit_test(test_strange_origins),
		cmocka_unit_test(test_mirror_gets_a_copy),
		cmocka_unit_test(test_mirror_that_hangs_or_fails_changes_nothing),
		cmocka_unit_test(test_mirror_that_takes_nothing_is_dropped),
		cmocka_unit_test(test_mirror_share),
		cmocka_unit_test(test_mirror_of_a_request_that_breaks_off_is_cut),
		cmocka_unit_test(test_side_call_hears_the_answer),
		cmocka_unit_test(test_side_call_without_an_answer),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
