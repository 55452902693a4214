/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/route/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/err.h"

static struct http_header_value *values(const char *name, const char *value)
{
	struct http_header_value *v = calloc(1, sizeof(*v));
	v->name = strdup(name);
	v->value = strdup(value);
	return v;
}

static void test_request_is_forwarded_and_recorded(void **state)
{
	(void)state;
	struct world *w = world_new();
	w->route->timeout_ms = 3000;
	world_connect(w);
	world_send(w, "POST /a?b=c HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\nConnection: x-hop\r\nx-hop: 1\r\n"
		      "x-envoy-max-retries: 9\r\nx-forwarded-client-cert: forged\r\n\r\nhello");
	assert_int_equal(w->attempt_count, 1);
	assert_string_equal(w->attempts[0].cluster, "c");
	assert_string_equal(w->attempts[0].host, "shop");
	assert_requested(w, 0, "POST /a?b=c HTTP/1.1\r\n");
	assert_requested(w, 0, "x-forwarded-proto: http\r\n");
	assert_requested(w, 0, "x-envoy-attempt-count: 1\r\n");
	assert_requested(w, 0, "x-envoy-expected-rq-timeout-ms: 3000\r\n");
	assert_requested(w, 0, "x-request-id: new-id\r\n");
	assert_requested(w, 0, "\r\n\r\nhello");
	assert_not_requested(w, 0, "x-hop");
	assert_not_requested(w, 0, "max-retries");
	assert_not_requested(w, 0, "forged");
	world_answer(w, 0, "HTTP/1.1 201 Created\r\nContent-Length: 2\r\nKeep-Alive: 5\r\nx-app: 1\r\n\r\nok");
	assert_received(w, "HTTP/1.1 201 Created\r\n");
	assert_received(w, "x-app: 1\r\n");
	assert_received(w, "x-envoy-upstream-service-time: ");
	assert_received(w, "\r\n\r\nok");
	assert_not_received(w, "keep-alive: 5");
	assert_int_equal(w->records, 1);
	assert_int_equal(w->status, 201);
	assert_int_equal(w->flags, 0);
	assert_string_equal(w->details, "via_upstream");
	assert_int_equal(w->request_bytes, 5);
	assert_int_equal(w->response_bytes, 2);
	assert_string_equal(w->endpoint, "10.1.0.1:8080");
	assert_int_equal(w->attempts[0].outcome, OUTCOME_RESPONSE);
	assert_int_equal(w->attempts[0].status, 201);
	world_free(w);
}

static void test_two_requests_on_one_connection(void **state)
{
	(void)state;
	struct world *w = world_new();
	world_connect(w);
	for (size_t i = 0; i < 2; i++) {
		world_send(w, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
		world_answer(w, i, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	}
	assert_int_equal(w->records, 2);
	assert_false(w->client->closed);
	world_free(w);
}

static void test_no_route_is_404_nr(void **state)
{
	(void)state;
	struct world *w = world_new();
	w->vhost->route_count = 0;
	world_connect(w);
	world_send(w, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
	assert_received(w, "HTTP/1.1 404 Not Found\r\n");
	assert_received(w, "content-length: 0\r\n");
	assert_int_equal(w->flags, FLAG(NR));
	assert_string_equal(w->details, "route_not_found");
	w->vhost->route_count = 1; /* so that it is freed */
	world_free(w);
}

static void test_authority_picks_another_target(void **state)
{
	(void)state;
	struct world *w = world_new();
	struct err err = ERR_INIT;
	w->other = http_vhost_new();
	w->other->name = strdup("other:80");
	w->other->routes = calloc(1, sizeof(*w->other->routes));
	w->other->route_count = 1;
	w->other->routes[0].name = strdup("o");
	w->other->routes[0].direct = calloc(1, sizeof(struct http_direct_response));
	w->other->routes[0].direct->status = 418;
	assert_int_equal(http_vhost_seal(w->other, &err), 0);
	world_connect(w);
	world_send(w, "GET / HTTP/1.1\r\nHost: SHOP:80\r\n\r\n");
	assert_string_equal(w->asked_host, "-");
	world_answer(w, 0, "HTTP/1.1 204 No Content\r\n\r\n");
	world_send(w, "GET / HTTP/1.1\r\nHost: OTHER:80\r\n\r\n");
	assert_string_equal(w->asked_host, "other");
	assert_received(w, "HTTP/1.1 418 ");
	world_free(w);
}

static void test_unknown_host_of_a_closed_registry_is_502(void **state)
{
	(void)state;
	struct world *w = world_new();
	w->registry_only = true;
	world_connect(w);
	world_send(w, "GET / HTTP/1.1\r\nHost: unknown\r\n\r\n");
	assert_received(w, "HTTP/1.1 502 Bad Gateway\r\n");
	assert_int_equal(w->attempt_count, 0);
	world_free(w);
}

static void test_no_answer_of_the_agent_leaves_the_old_routes(void **state)
{
	(void)state;
	struct world *w = world_new();
	w->no_target = true;
	world_connect(w);
	world_send(w, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
	assert_int_equal(w->attempt_count, 1);
	world_free(w); /* the client is gone in the middle */
}

static void test_client_that_leaves_while_the_target_is_awaited(void **state)
{
	(void)state;
	struct world *w = world_new();
	w->target_later = true;
	world_connect(w);
	world_send(w, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
	fake_push_end(w->client);
	world_tick(w, 0);
	assert_int_equal(w->records, 1);
	assert_int_equal(w->flags, FLAG(DC));
	world_free(w);
}

static void test_redirect_builds_the_location(void **state)
{
	(void)state;
	static const struct {
		struct http_redirect r;
		const char *location;
	} cases[] = {
		{ { .scheme = (char *)"https", .status = 301 }, "location: https://shop/a/b?x=1\r\n" },
		{ { .authority = (char *)"new.example", .status = 302 }, "location: http://new.example/a/b?x=1\r\n" },
		{ { .path_full = (char *)"/p", .status = 307 }, "location: http://shop:8080/p?x=1\r\n" },
		{ { .path_full = (char *)"/p?y=2", .status = 307 }, "location: http://shop:8080/p?y=2\r\n" },
		{ { .port = 80, .status = 308 }, "location: http://shop/a/b?x=1\r\n" },
		{ { .default_port = true, .path_full = (char *)"/p", .status = 301 },
		  "location: http://shop/p?x=1\r\n" },
		{ { .port = 8443, .scheme = (char *)"https", .status = 308 },
		  "location: https://shop:8443/a/b?x=1\r\n" },
		{ { .keep_port = true, .authority = (char *)"n", .status = 303 }, /* the one that was called */
		  "location: http://n/a/b?x=1\r\n" },
		{ { .path_prefix = (char *)"/z", .status = 301 }, "location: http://shop:8080/z/b?x=1\r\n" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct world *w = world_new();
		struct http_redirect *r = w->route->redirect = calloc(1, sizeof(*r));
		*r = cases[i].r;
		if (r->scheme)
			r->scheme = strdup(r->scheme);
		if (r->authority)
			r->authority = strdup(r->authority);
		if (r->path_full)
			r->path_full = strdup(r->path_full);
		if (r->path_prefix)
			r->path_prefix = strdup(r->path_prefix);
		struct http_match *m = w->route->matches = calloc(1, sizeof(*m));
		w->route->match_count = 1;
		m->path = calloc(1, sizeof(*m->path));
		m->path->kind = HTTP_TEXT_PATH_PREFIX;
		m->path->text = strdup("/a");
		world_connect(w);
		bool port = strstr(cases[i].location, ":8080") || !r->scheme;
		world_send(w, port ? "GET /a/b?x=1 HTTP/1.1\r\nHost: shop:8080\r\n\r\n" :
				     "GET /a/b?x=1 HTTP/1.1\r\nHost: shop\r\n\r\n");
		assert_received(w, cases[i].location);
		assert_int_equal(w->status, cases[i].r.status);
		world_free(w);
	}
}

static void test_direct_response_has_its_body_and_the_routes_fields(void **state)
{
	(void)state;
	struct world *w = world_new();
	w->route->direct = calloc(1, sizeof(*w->route->direct));
	*w->route->direct = (struct http_direct_response){ .status = 503,
							   .body = strdup("{\"down\":true}"),
							   .body_len = 13,
							   .content_type = strdup("application/json") };
	w->route->response.set = values("x-why", "maintenance");
	w->route->response.set_count = 1;
	world_connect(w);
	world_send(w, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
	assert_received(w, "HTTP/1.1 503 ");
	assert_received(w, "content-type: application/json\r\n");
	assert_received(w, "x-why: maintenance\r\n");
	assert_received(w, "\r\n\r\n{\"down\":true}");
	assert_string_equal(w->details, "direct_response");
	w->client->out_len = 0;
	world_send(w, "HEAD / HTTP/1.1\r\nHost: shop\r\n\r\n");
	assert_received(w, "content-length: 13\r\n");
	assert_not_received(w, "down");
	world_free(w);
}

static void test_header_operations_of_route_and_destination(void **state)
{
	(void)state;
	struct world *w = world_new();
	struct http_destination *d = w->route->destinations;
	d->request.set = values("x-a", "destination");
	d->request.set_count = 1;
	w->route->request.set = values("x-a", "route");
	w->route->request.set_count = 1;
	w->route->request.add = values("x-b", "%PROTOCOL%");
	w->route->request.add_count = 1;
	w->route->request.remove = calloc(1, sizeof(char *));
	w->route->request.remove[0] = strdup("x-c");
	w->route->request.remove_count = 1;
	d->response.remove = calloc(1, sizeof(char *));
	d->response.remove[0] = strdup("x-secret");
	d->response.remove_count = 1;
	w->route->response.add = values("x-d", "added");
	w->route->response.add_count = 1;
	world_connect(w);
	world_send(w, "GET / HTTP/1.1\r\nHost: shop\r\nx-a: client\r\nx-b: client\r\nx-c: client\r\n\r\n");
	assert_requested(w, 0, "x-a: route\r\n");
	assert_not_requested(w, 0, "destination");
	assert_requested(w, 0, "x-b: client\r\n");
	assert_requested(w, 0, "x-b: <%PROTOCOL%>\r\n");
	assert_not_requested(w, 0, "x-c");
	world_answer(w, 0, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nx-secret: 1\r\nx-d: own\r\n\r\n");
	assert_not_received(w, "x-secret");
	assert_received(w, "x-d: own\r\n");
	assert_received(w, "x-d: added\r\n");
	world_free(w);
}

static void test_rewrite_of_path_and_authority(void **state)
{
	(void)state;
	struct world *w = world_new();
	w->route->rewrite = calloc(1, sizeof(*w->route->rewrite));
	w->route->rewrite->path_prefix = strdup("/new");
	w->route->rewrite->authority = strdup("inner.example");
	struct http_match *m = w->route->matches = calloc(1, sizeof(*m));
	w->route->match_count = 1;
	m->path = calloc(1, sizeof(*m->path));
	m->path->kind = HTTP_TEXT_PREFIX;
	m->path->text = strdup("/old");
	world_connect(w);
	world_send(w, "GET /old/x?q=1 HTTP/1.1\r\nHost: shop\r\n\r\n");
	assert_requested(w, 0, "GET /new/x?q=1 HTTP/1.1\r\n");
	assert_requested(w, 0, "inner.example\r\n");
	assert_requested(w, 0, "x-envoy-original-path: /old/x?q=1\r\n");
	assert_string_equal(w->attempts[0].host, "inner.example");
	world_free(w);
}

static void test_weights_are_kept(void **state)
{
	(void)state;
	struct world *w = world_new();
	struct http_route *r = w->route;
	r->destinations = realloc(r->destinations, 2 * sizeof(*r->destinations));
	memset(&r->destinations[1], 0, sizeof(r->destinations[1]));
	r->destinations[1].cluster = strdup("nowhere");
	r->destination_count = 2;
	r->destinations[0].weight = 0;
	r->destinations[1].weight = 100;
	r->total_weight = 100;
	world_connect(w);
	world_send(w, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
	assert_string_equal(w->attempts[0].cluster, "nowhere");
	world_free(w);
}

static void test_invalid_backend_is_500(void **state)
{
	(void)state;
	struct world *w = world_new();
	w->route->destinations[0].weight = w->route->total_weight = 0;
	w->route->invalid_backend = true;
	w->route->invalid_weight = 1;
	world_connect(w);
	world_send(w, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
	assert_received(w, "HTTP/1.1 500 ");
	world_send(w,
		   "POST /s/M HTTP/1.1\r\nHost: shop\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n");
	assert_received(w, "grpc-status: 14\r\n"); /* UNAVAILABLE */
	assert_int_equal(w->attempt_count, 0);
	world_free(w);
}

static void test_failures_before_an_endpoint(void **state)
{
	(void)state;
	static const struct {
		enum upstream_failure why;
		const char *status, *body, *details;
		uint32_t flags;
	} cases[] = {
		{ UPSTREAM_NO_CLUSTER, "503", "\r\n\r\n", "cluster_not_found", FLAG(NC) },
		{ UPSTREAM_NO_ENDPOINT, "503", "\r\n\r\nno healthy upstream", "no_healthy_upstream", FLAG(UH) },
		{ UPSTREAM_OVERFLOW, "503",
		  "upstream connect error or disconnect/reset before headers. reset reason: overflow",
		  "upstream_reset_before_response_started{overflow}", FLAG(UO) },
		{ UPSTREAM_CONNECT, "503",
		  "upstream connect error or disconnect/reset before headers. reset reason: connection failure",
		  "upstream_reset_before_response_started{connection_failure}", FLAG(UF) },
		{ UPSTREAM_CONNECT_TIMEOUT, "503", "reset reason: connection timeout",
		  "upstream_reset_before_response_started{connection_timeout}", FLAG(UF) },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct world *w = world_new();
		w->script[w->script_count++] = (struct script){ .failure = cases[i].why };
		world_connect(w);
		world_send(w, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
		assert_received(w, cases[i].status);
		assert_received(w, cases[i].body);
		assert_string_equal(w->details, cases[i].details);
		assert_int_equal(w->flags, cases[i].flags);
		assert_string_equal(w->cluster, "c"); /* whose it was is known, for metrics */
		if (cases[i].why == UPSTREAM_OVERFLOW)
			assert_received(w, "x-envoy-overloaded: true\r\n");
		if (cases[i].why == UPSTREAM_CONNECT)
			assert_string_equal(w->endpoint, "10.1.0.1:8080");
		world_free(w);
	}
}

static void test_hash_cookie_is_issued(void **state)
{
	(void)state;
	struct world *w = world_new();
	free(w->route->destinations[0].cluster);
	w->route->destinations[0].cluster = strdup("cookie");
	world_connect(w);
	world_send(w, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
	world_answer(w, 0, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	assert_received(w, "set-cookie: lb=1; Path=/\r\n");
	world_free(w);
}

static void test_connect_is_no_route(void **state)
{
	(void)state;
	struct world *w = world_new();
	world_connect(w);
	world_send(w, "CONNECT shop:80 HTTP/1.1\r\nHost: shop:80\r\n\r\n");
	assert_received(w, "HTTP/1.1 404 ");
	assert_int_equal(w->attempt_count, 0);
	world_free(w);
}

static void test_connections_beyond_the_limit_are_refused(void **state)
{
	(void)state;
	struct world *w = world_new();
	http_proxy_drain(w->proxy);
	world_connect(w);
	assert_true(w->client->closed && w->client->aborted);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_request_is_forwarded_and_recorded),
		cmocka_unit_test(test_two_requests_on_one_connection),
		cmocka_unit_test(test_no_route_is_404_nr),
		cmocka_unit_test(test_authority_picks_another_target),
		cmocka_unit_test(test_unknown_host_of_a_closed_registry_is_502),
		cmocka_unit_test(test_no_answer_of_the_agent_leaves_the_old_routes),
		cmocka_unit_test(test_client_that_leaves_while_the_target_is_awaited),
		cmocka_unit_test(test_redirect_builds_the_location),
		cmocka_unit_test(test_direct_response_has_its_body_and_the_routes_fields),
		cmocka_unit_test(test_header_operations_of_route_and_destination),
		cmocka_unit_test(test_rewrite_of_path_and_authority),
		cmocka_unit_test(test_weights_are_kept),
		cmocka_unit_test(test_invalid_backend_is_500),
		cmocka_unit_test(test_failures_before_an_endpoint),
		cmocka_unit_test(test_hash_cookie_is_issued),
		cmocka_unit_test(test_connect_is_no_route),
		cmocka_unit_test(test_connections_beyond_the_limit_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
