/* SPDX-License-Identifier: Apache-2.0 */
/* The server's side: judged, then handed to the pod's own application. */
#include "tests/unit/route/world.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/helper/balance/limits.h"
#include "agent/helper/worker.h"
#include "agent/model/workload.h"

static const char get[] = "GET / HTTP/1.1\r\nHost: shop\r\n\r\n";
static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
static const char peer[] = "spiffe://cluster.local/ns/web/sa/front";

static void app_answers(struct world *w, size_t n, const char *text)
{
	assert_true(n < w->app_count);
	fake_push_text(w->app[n], text);
	world_tick(w, 0);
}

static const char *app_got(struct world *w, size_t n)
{
	world_tick(w, 0);
	world_tick(w, 0);
	assert_true(n < w->app_count);
	return w->app[n]->out;
}

static void test_application_gets_the_request(void **state)
{
	(void)state;
	struct world *w = world_new();
	world_connect_inbound(w, peer);
	world_send(w, "POST /p HTTP/1.1\r\nHost: shop\r\nContent-Length: 3\r\nx-forwarded-proto: https\r\n\r\nabc");
	assert_non_null(strstr(app_got(w, 0), "POST /p HTTP/1.1\r\n"));
	assert_non_null(strstr(w->app[0]->out, "x-forwarded-client-cert: By=spiffe://cluster.local/ns/shop/sa/me;"
					       "URI=spiffe://cluster.local/ns/web/sa/front\r\n"));
	assert_non_null(strstr(w->app[0]->out, "x-forwarded-proto: https\r\n"));
	assert_null(strstr(w->app[0]->out, "attempt-count"));
	assert_non_null(strstr(w->app[0]->out, "\r\n\r\nabc"));
	app_answers(w, 0, ok);
	assert_received(w, "200 OK");
	assert_int_equal(w->attempt_count, 0);
	assert_int_equal(w->status, 200);
	world_send(w, get); /* on the same connection */
	app_answers(w, 0, ok);
	assert_int_equal(w->app_count, 1);
	assert_int_equal(w->records, 2);
	world_free(w);
}

static void test_anonymous_client_claims_no_certificate(void **state)
{
	(void)state;
	struct world *w = world_new();
	world_connect_inbound(w, NULL);
	world_send(w, "GET / HTTP/1.1\r\nHost: shop\r\nx-forwarded-client-cert: URI=spiffe://forged\r\n\r\n");
	assert_null(strstr(app_got(w, 0), "forged"));
	app_answers(w, 0, ok);
	world_free(w);
}

static enum stage_result denies(struct exchange *x)
{
	exchange_respond(x, 403, 0, "rbac_access_denied_matched_policy[none]", "RBAC: access denied", NULL);
	return STAGE_ANSWERED;
}

static void test_refused_request_never_reaches_the_application(void **state)
{
	(void)state;
	struct world *w = world_new();
	w->authorize = denies;
	world_connect_inbound(w, NULL);
	world_send(w, "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 3\r\n\r\nabc");
	assert_received(w, "HTTP/1.1 403 Forbidden\r\n");
	assert_received(w, "\r\n\r\nRBAC: access denied");
	world_tick(w, 0);
	assert_int_equal(w->app_count, 0);
	assert_false(w->client->closed); /* the body was read, the connection lives */
	world_send(w, get);
	assert_int_equal(w->records, 2);
	world_free(w);
}

static void test_application_that_is_not_there(void **state)
{
	(void)state;
	struct world *w = world_new();
	w->app_error = -ECONNREFUSED;
	world_connect_inbound(w, NULL);
	world_send(w, get);
	world_tick(w, 0);
	assert_received(w, "HTTP/1.1 503 ");
	assert_received(w, "reset reason: connection failure");
	assert_int_equal(w->flags, FLAG(UF));
	w->app_error = 0;
	world_send(w, get);
	app_got(w, 0);
	app_answers(w, 0, ok);
	assert_received(w, "200 OK");
	world_free(w);
}

static void test_application_that_closed_is_connected_again(void **state)
{
	(void)state;
	struct world *w = world_new();
	world_connect_inbound(w, NULL);
	world_send(w, get);
	app_got(w, 0);
	app_answers(w, 0, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
	fake_push_end(w->app[0]);
	world_tick(w, 0);
	world_send(w, get);
	app_got(w, 1);
	app_answers(w, 1, ok);
	assert_int_equal(w->records, 2);
	assert_int_equal(w->status, 200);
	world_free(w);
}

static void test_application_that_breaks_off(void **state)
{
	(void)state;
	struct world *w = world_new();
	world_connect_inbound(w, NULL);
	world_send(w, "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 3\r\n\r\nabc");
	app_got(w, 0);
	fake_break(w->app[0], -ECONNRESET);
	assert_received(w, "HTTP/1.1 503 ");
	assert_int_equal(w->flags, FLAG(UC));
	assert_int_equal(w->app_count, 1); /* it may have acted on it */
	world_free(w);
}

static void test_client_that_leaves_while_the_application_is_called(void **state)
{
	(void)state;
	struct world *w = world_new();
	world_connect_inbound(w, NULL);
	fake_push_text(w->client, get);
	fake_break(w->client, -ECONNRESET);
	world_tick(w, 0);
	world_tick(w, 0);
	assert_int_equal(w->records, 1);
	assert_int_equal(w->app_count, 0);
	world_free(w);
}

static struct exchange *waiting;
static int cancels;

static void on_cancel(struct exchange *x)
{
	assert_ptr_equal(x, waiting);
	cancels++;
}

static enum stage_result waits(struct exchange *x)
{
	waiting = x;
	x->stage_cancel = on_cancel;
	return STAGE_WAIT;
}

static void test_stage_that_waits(void **state)
{
	(void)state;
	struct world *w = world_new();
	w->authorize = waits;
	world_connect_inbound(w, NULL);
	world_send(w, get);
	assert_int_equal(w->app_count, 0);
	exchange_continue(waiting);
	app_got(w, 0);
	app_answers(w, 0, ok);
	assert_received(w, "200 OK");
	assert_int_equal(cancels, 0);

	world_send(w, get);
	exchange_respond(waiting, 401, 0, "jwt", NULL, NULL);
	assert_received(w, "HTTP/1.1 401 ");
	assert_int_equal(cancels, 0);

	world_send(w, get);
	fake_break(w->client, -ECONNRESET);
	world_tick(w, 0);
	assert_int_equal(cancels, 1);
	assert_int_equal(w->records, 3);
	world_free(w);
}

static void test_pod_that_is_removed_loses_its_connections(void **state)
{
	(void)state;
	struct world *w = world_new();
	world_connect_inbound(w, NULL);
	world_send(w, get);
	http_proxy_pod_removed(w->proxy, worker_pod_of(w));
	world_tick(w, 0);
	assert_true(w->client->closed);
	assert_int_equal(w->records, 1);
	assert_int_equal(http_proxy_live(w->proxy), 0);
	world_free(w);
}

/* --- what the application takes at once --- */

/* What other workers use of the limits of port 80, and the port's settings. */
static struct inbound_port port;

static struct shared_limits *limits_begin(struct world *w, struct inbound_port settings)
{
	struct worker_pod *pod = worker_pod_of(w);
	port = settings;
	port.port = 80;
	pod->l7_ports = &port;
	pod->l7_port_count = 1;
	struct shared_limits *l = shared_limits_get("inbound|80||", pod->cookie);
	assert_non_null(l);
	return l;
}

static void limits_end(struct world *w, struct shared_limits *l)
{
	uint64_t cookie = worker_pod_of(w)->cookie;
	http_proxy_pod_removed(w->proxy, worker_pod_of(w));
	world_tick(w, 0);
	for (int i = 0; i < LIMIT_KINDS; i++)
		assert_int_equal(l->n[i], 0); /* all that was taken was given back */
	shared_limits_put("inbound|80||", cookie, l);
	world_free(w);
}

static void test_no_more_requests_than_the_application_takes(void **state)
{
	(void)state;
	struct world *w = world_new();
	struct shared_limits *l = limits_begin(w, (struct inbound_port){ .max_requests = 2 });
	l->n[LIMIT_REQUESTS] = 2;
	world_connect_inbound(w, NULL);
	world_send(w, get);
	world_tick(w, 0);
	assert_received(w, "HTTP/1.1 503 ");
	assert_received(w, "x-envoy-overloaded: true\r\n");
	assert_int_equal(w->flags, FLAG(UO));
	assert_int_equal(w->app_count, 0);
	assert_int_equal(l->n[LIMIT_REQUESTS], 2);
	l->n[LIMIT_REQUESTS] = 1;
	world_send(w, get);
	world_tick(w, 0);
	assert_int_equal(l->n[LIMIT_REQUESTS], 2);
	app_answers(w, 0, ok);
	assert_received(w, "200 OK");
	assert_int_equal(l->n[LIMIT_REQUESTS], 1);
	l->n[LIMIT_REQUESTS] = 0;
	limits_end(w, l);
}

static void test_a_request_waits_for_a_connections_place(void **state)
{
	(void)state;
	struct world *w = world_new();
	struct shared_limits *l = limits_begin(w, (struct inbound_port){ .max_connections = 1, .max_pending = 3 });
	l->n[LIMIT_CONNECTIONS] = 1;
	world_connect_inbound(w, NULL);
	world_send(w, get);
	world_tick(w, 100);
	assert_int_equal(w->app_count, 0);
	assert_int_equal(l->n[LIMIT_PENDING], 1);
	assert_not_received(w, "HTTP");
	l->n[LIMIT_CONNECTIONS] = 0; /* another worker's has ended */
	world_tick(w, 30);
	world_tick(w, 0);
	assert_int_equal(l->n[LIMIT_CONNECTIONS], 1);
	assert_int_equal(l->n[LIMIT_PENDING], 0);
	app_answers(w, 0, ok);
	assert_received(w, "200 OK");
	world_tick(w, 0);
	assert_int_equal(l->n[LIMIT_CONNECTIONS], 0); /* kept without a request it would keep others out */
	limits_end(w, l);
}

static void test_no_more_waits_than_may(void **state)
{
	(void)state;
	struct world *w = world_new();
	struct shared_limits *l = limits_begin(w, (struct inbound_port){ .max_connections = 1, .max_pending = 3 });
	l->n[LIMIT_CONNECTIONS] = 1;
	l->n[LIMIT_PENDING] = 3;
	world_connect_inbound(w, NULL);
	world_send(w, get);
	world_tick(w, 0);
	assert_received(w, "HTTP/1.1 503 ");
	assert_int_equal(w->flags, FLAG(UO));
	assert_int_equal(l->n[LIMIT_REQUESTS], 0);
	l->n[LIMIT_CONNECTIONS] = l->n[LIMIT_PENDING] = 0;
	limits_end(w, l);
}

static void test_a_client_that_leaves_gives_its_wait_back(void **state)
{
	(void)state;
	struct world *w = world_new();
	struct shared_limits *l = limits_begin(w, (struct inbound_port){ .max_connections = 1 });
	l->n[LIMIT_CONNECTIONS] = 1;
	world_connect_inbound(w, NULL);
	world_send(w, get);
	world_tick(w, 0);
	assert_int_equal(l->n[LIMIT_PENDING], 1);
	fake_break(w->client, -ECONNRESET);
	world_tick(w, 50);
	assert_int_equal(l->n[LIMIT_PENDING], 0);
	assert_int_equal(l->n[LIMIT_REQUESTS], 0);
	l->n[LIMIT_CONNECTIONS] = 0;
	limits_end(w, l);
}

static void test_so_many_requests_on_a_connection(void **state)
{
	(void)state;
	struct world *w = world_new();
	struct shared_limits *l = limits_begin(w, (struct inbound_port){ .max_requests_per_connection = 2 });
	world_connect_inbound(w, NULL);
	for (size_t i = 0; i < 4; i++) {
		world_send(w, get);
		world_tick(w, 0);
		world_tick(w, 0);
		app_answers(w, i / 2, ok);
		world_tick(w, 0);
		assert_int_equal(w->app_count, i / 2 + 1);
	}
	limits_end(w, l);
}

/* A WebSocket may last for ever: it ends when the rules that let it in are replaced by others that would not. */
static void test_rules_that_change_end_tunnels_that_they_forbid(void **state)
{
	(void)state;
	struct policy *rules = policy_new();
	for (int forbid = 0; forbid < 2; forbid++) {
		struct world *w = world_new();
		world_connect_inbound(w, NULL);
		world_send(w, "GET / HTTP/1.1\r\nHost: shop\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
		world_tick(w, 0);
		fake_push_text(w->app[0],
			       "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
		world_tick(w, 0);
		assert_received(w, "HTTP/1.1 101 ");
		w->rules_forbid = true;
		http_proxy_pod_changed(w->proxy, worker_pod_of(w)); /* something else than rules changed */
		assert_int_equal(w->records, 0);
		w->rules_forbid = forbid;
		worker_pod_of(w)->policy = rules;
		http_proxy_pod_changed(w->proxy, worker_pod_of(w));
		world_tick(w, 0);
		assert_int_equal(w->records, forbid);
		assert_int_equal(w->client->closed, forbid);
		assert_int_equal(w->app[0]->closed, forbid);
		if (!forbid) {
			fake_push_text(w->app[0], "still");
			world_tick(w, 0);
			assert_received(w, "\r\n\r\nstill");
		}
		worker_pod_of(w)->policy = NULL;
		world_free(w);
	}
	policy_unref(rules);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_application_gets_the_request),
		cmocka_unit_test(test_anonymous_client_claims_no_certificate),
		cmocka_unit_test(test_refused_request_never_reaches_the_application),
		cmocka_unit_test(test_application_that_is_not_there),
		cmocka_unit_test(test_application_that_closed_is_connected_again),
		cmocka_unit_test(test_application_that_breaks_off),
		cmocka_unit_test(test_client_that_leaves_while_the_application_is_called),
		cmocka_unit_test(test_stage_that_waits),
		cmocka_unit_test(test_pod_that_is_removed_loses_its_connections),
		cmocka_unit_test(test_no_more_requests_than_the_application_takes),
		cmocka_unit_test(test_a_request_waits_for_a_connections_place),
		cmocka_unit_test(test_no_more_waits_than_may),
		cmocka_unit_test(test_a_client_that_leaves_gives_its_wait_back),
		cmocka_unit_test(test_so_many_requests_on_a_connection),
		cmocka_unit_test(test_rules_that_change_end_tunnels_that_they_forbid),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
