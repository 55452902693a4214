/* SPDX-License-Identifier: Apache-2.0 */
/* What ProxyConfig says of headers (agent/model/proxy.h), on both sides. */
#include "tests/unit/route/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "agent/helper/worker.h"
#include "agent/model/identity.h"

static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
static const char peer[] = "spiffe://cluster.local/ns/web/sa/front";

static struct http_filters *filters;

static struct world *world_of(struct proxy_settings settings)
{
	struct world *w = world_new();
	filters = http_filters_new();
	filters->proxy = settings;
	worker_pod_of(w)->inbound = worker_pod_of(w)->outbound = filters;
	return w;
}

static void done(struct world *w)
{
	worker_pod_of(w)->inbound = worker_pod_of(w)->outbound = NULL;
	world_free(w);
	filters->proxy.server = NULL; /* static text */
	http_filters_unref(filters);
}

static const char *app_got(struct world *w)
{
	world_tick(w, 0);
	world_tick(w, 0);
	assert_int_equal(w->app_count, 1);
	return w->app[0]->out;
}

static void app_answers(struct world *w, const char *text)
{
	fake_push_text(w->app[0], text);
	world_tick(w, 0);
}

static void test_case_of_names_goes_through_the_client_side(void **state)
{
	(void)state;
	struct world *w = world_of((struct proxy_settings){ .preserve_case = true });
	world_connect(w);
	world_send(w, "POST / HTTP/1.1\r\nHOST: shop\r\nX-MiXeD: 1\r\nContent-LENGTH: 2\r\nUser-Agent: u\r\n\r\nab");
	assert_requested(w, 0, "\r\nHOST: shop\r\n");
	assert_requested(w, 0, "\r\nX-MiXeD: 1\r\n");
	assert_requested(w, 0, "\r\nContent-LENGTH: 2\r\n");
	assert_requested(w, 0, "\r\nUser-Agent: u\r\n");
	assert_requested(w, 0, "\r\nx-request-id: new-id\r\n"); /* ours */
	world_answer(w, 0, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-App: 1\r\nDATE: now\r\n\r\nok");
	assert_received(w, "\r\nContent-Length: 2\r\n");
	assert_received(w, "\r\nX-App: 1\r\n");
	assert_received(w, "\r\nDATE: now\r\n");
	done(w);
}

static void test_case_of_names_goes_through_the_server_side(void **state)
{
	(void)state;
	struct world *w = world_of((struct proxy_settings){ .preserve_case = true });
	world_connect_inbound(w, peer);
	world_send(w, "POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\nEXPECT: 100-continue\r\nX-A: "
		      "1\r\n\r\n2\r\nab\r\n");
	assert_non_null(strstr(app_got(w), "\r\nHost: shop\r\n"));
	assert_non_null(strstr(w->app[0]->out, "\r\nTransfer-Encoding: chunked\r\n"));
	assert_non_null(strstr(w->app[0]->out, "\r\nEXPECT: 100-continue\r\n"));
	assert_non_null(strstr(w->app[0]->out, "\r\nX-A: 1\r\n"));
	world_send(w, "0\r\n\r\n");
	app_answers(w, "HTTP/1.1 200 OK\r\nContent-LENGTH: 0\r\nServer: App\r\nX-B: 1\r\n\r\n");
	assert_received(w, "\r\nContent-LENGTH: 0\r\n");
	assert_received(w, "\r\nServer: App\r\n");
	assert_received(w, "\r\nX-B: 1\r\n");
	done(w);
}

static void test_upgrade_keeps_its_case(void **state)
{
	(void)state;
	struct world *w = world_of((struct proxy_settings){ .preserve_case = true });
	world_connect(w);
	world_send(w, "GET /ws HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
		      "Sec-WebSocket-Key: k\r\nSec-WebSocket-Version: 13\r\n\r\n");
	assert_requested(w, 0, "\r\nConnection: upgrade\r\nUpgrade: websocket\r\n");
	assert_requested(w, 0, "\r\nSec-WebSocket-Key: k\r\n");
	done(w);
}

static void test_change_counts_on_the_connection_that_is_there(void **state)
{
	(void)state;
	struct world *w = world_of((struct proxy_settings){ 0 });
	world_connect_inbound(w, peer);
	world_send(w, "GET / HTTP/1.1\r\nHost: shop\r\nX-A: 1\r\n\r\n");
	assert_non_null(strstr(app_got(w), "\r\nx-a: 1\r\n"));
	app_answers(w, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-B: 1\r\n\r\n");
	assert_received(w, "\r\nx-b: 1\r\n");
	filters->proxy.preserve_case = true;
	http_proxy_pod_changed(w->proxy, worker_pod_of(w));
	world_send(w, "GET / HTTP/1.1\r\nHost: shop\r\nX-C: 1\r\n\r\n");
	assert_non_null(strstr(app_got(w), "\r\nX-C: 1\r\n"));
	app_answers(w, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-D: 1\r\n\r\n");
	assert_received(w, "\r\nX-D: 1\r\n");
	done(w);
}

static void test_names_are_lower_case_otherwise(void **state)
{
	(void)state;
	struct world *w = world_of((struct proxy_settings){ 0 });
	world_connect(w);
	world_send(w, "GET / HTTP/1.1\r\nHost: shop\r\nX-MiXeD: 1\r\n\r\n");
	assert_requested(w, 0, "\r\nhost: shop\r\n");
	assert_requested(w, 0, "\r\nx-mixed: 1\r\n");
	done(w);
}

static void test_headers_of_ours_are_left_out(void **state)
{
	(void)state;
	struct world *w = world_of(
		(struct proxy_settings){ .no_attempt_count = true, .no_request_id = true, .no_envoy_headers = true });
	w->route->timeout_ms = 3000;
	world_connect(w);
	world_send(w, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
	assert_not_requested(w, 0, "x-envoy-attempt-count");
	assert_not_requested(w, 0, "x-request-id");
	assert_not_requested(w, 0, "x-envoy-expected-rq-timeout-ms");
	world_answer(w, 0, ok);
	assert_received(w, "200 OK");
	assert_not_received(w, "x-envoy-upstream-service-time");
	/* What is there already stays. */
	world_send(w, "GET / HTTP/1.1\r\nHost: shop\r\nx-request-id: mine\r\nx-envoy-attempt-count: 7\r\n\r\n");
	assert_requested(w, 1, "x-request-id: mine\r\n");
	assert_requested(w, 1, "x-envoy-attempt-count: 7\r\n");
	world_answer(w, 1, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nx-envoy-upstream-service-time: 5\r\n\r\n");
	assert_received(w, "x-envoy-upstream-service-time: 5\r\n");
	done(w);
}

static void test_overload_is_not_said_without_debug_headers(void **state)
{
	(void)state;
	for (int quiet = 0; quiet < 2; quiet++) {
		struct world *w = world_of((struct proxy_settings){ .no_envoy_headers = quiet });
		w->script[0].failure = UPSTREAM_OVERFLOW;
		w->script_count = 1;
		world_connect(w);
		world_send(w, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
		assert_received(w, "HTTP/1.1 503 ");
		assert_int_equal(strstr(world_received(w), "x-envoy-overloaded: true") == NULL, quiet);
		done(w);
	}
}

static void test_server_is_the_one_that_is_set(void **state)
{
	(void)state;
	struct world *w = world_of((struct proxy_settings){ .server = (char *)"hidden" });
	world_connect(w);
	world_send(w, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
	world_answer(w, 0, "HTTP/1.1 200 OK\r\nServer: secret/1.0\r\nContent-Length: 0\r\n\r\n");
	assert_received(w, "\r\nserver: hidden\r\n");
	assert_not_received(w, "secret");
	done(w);
	w = world_of((struct proxy_settings){ 0 });
	world_connect(w);
	world_send(w, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
	world_answer(w, 0, "HTTP/1.1 200 OK\r\nServer: secret/1.0\r\nContent-Length: 0\r\n\r\n");
	assert_received(w, "\r\nserver: secret/1.0\r\n");
	done(w);
}

static void test_client_certificates(void **state)
{
	(void)state;
#define OURS "By=spiffe://cluster.local/ns/shop/sa/me;URI=spiffe://cluster.local/ns/web/sa/front"
	static const struct {
		enum proxy_client_cert mode;
		const char *authenticated, *anonymous; /* what the application sees; NULL: no such field */
	} rows[] = {
		{ PROXY_CERT_APPEND, "By=old," OURS, NULL },
		{ PROXY_CERT_SANITIZE, NULL, NULL },
		{ PROXY_CERT_FORWARD, "By=old", NULL },
		{ PROXY_CERT_SET, OURS, NULL },
		{ PROXY_CERT_ALWAYS_FORWARD, "By=old", "By=old" },
	};
	for (size_t i = 0; i < 2 * ARRAY_SIZE(rows); i++) {
		const char *want = i % 2 ? rows[i / 2].anonymous : rows[i / 2].authenticated;
		struct world *w = world_of((struct proxy_settings){ .client_cert = rows[i / 2].mode });
		world_connect_inbound(w, i % 2 ? NULL : peer);
		world_send(w, "GET / HTTP/1.1\r\nHost: shop\r\nx-forwarded-client-cert: By=old\r\n\r\n");
		const char *at = strstr(app_got(w), "x-forwarded-client-cert: ");
		assert_int_equal(at != NULL, want != NULL);
		if (want) {
			at += strlen("x-forwarded-client-cert: ");
			assert_memory_equal(at, want, strlen(want));
			assert_memory_equal(at + strlen(want), "\r\n", 2);
		}
		app_answers(w, ok);
		done(w);
	}
}

static void test_certificate_with_hash_and_subject(void **state)
{
	(void)state;
	for (int without = 0; without < 2; without++) {
		struct world *w = world_of((struct proxy_settings){ .no_cert_subject = without });
		world_connect_inbound(w, peer);
		struct identity *shown = (struct identity *)(uintptr_t)w->client->t.peer;
		shown->certificate_hash = strdup("0123ab");
		shown->certificate_subject = strdup("CN=a \\\"b\\\",O=c");
		world_send(w, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
		assert_non_null(
			strstr(app_got(w),
			       without ? "x-forwarded-client-cert: By=spiffe://cluster.local/ns/shop/sa/me;Hash=0123ab;"
					 "URI=spiffe://cluster.local/ns/web/sa/front\r\n" :
					 "x-forwarded-client-cert: By=spiffe://cluster.local/ns/shop/sa/me;Hash=0123ab;"
					 "Subject=\"CN=a \\\"b\\\",O=c\";"
					 "URI=spiffe://cluster.local/ns/web/sa/front\r\n"));
		app_answers(w, ok);
		done(w);
	}
}

static void test_certificate_without_its_uri(void **state)
{
	(void)state;
	struct world *w = world_of((struct proxy_settings){ .no_cert_uri = true });
	world_connect_inbound(w, peer);
	world_send(w, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
	assert_non_null(strstr(app_got(w), "x-forwarded-client-cert: By=spiffe://cluster.local/ns/shop/sa/me\r\n"));
	app_answers(w, ok);
	done(w);
}

static bool unknown;
static char remote[ADDR_TEXT_MAX];

static enum stage_result on_authorize(struct exchange *x)
{
	addr_text(&x->remote, remote);
	unknown = x->remote_unknown;
	exchange_respond(x, 200, 0, "test", NULL, NULL);
	return STAGE_ANSWERED;
}

static void test_remote_address_is_what_trusted_proxies_tell(void **state)
{
	(void)state;
	static const struct {
		const char *told, *want;
		uint32_t trusted;
		bool unknown;
	} rows[] = {
		{ "1.1.1.1", "10.0.0.1", 0, false },
		{ "1.1.1.1, 2.2.2.2", "2.2.2.2", 1, false },
		{ "1.1.1.1, 2.2.2.2", "1.1.1.1", 2, false },
		{ "1.1.1.1, 2.2.2.2", "10.0.0.1", 3, false },
		{ "1.1.1.1\r\nX-Forwarded-For: fd00::5", "fd00::5", 1, false }, /* repeated */
		{ "1.1.1.1, bogus", "10.0.0.1", 1, true },
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct world *w = world_of((struct proxy_settings){ .trusted_proxies = rows[i].trusted });
		char text[256];
		w->authorize = on_authorize;
		world_connect_inbound(w, peer);
		snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: shop\r\nX-Forwarded-For: %s\r\n\r\n",
			 rows[i].told);
		world_send(w, text);
		assert_string_equal(remote, rows[i].want);
		assert_int_equal(unknown, rows[i].unknown);
		done(w);
	}
}

static void test_balancing_by_source_goes_by_the_told_one(void **state)
{
	(void)state;
	struct world *w = world_of((struct proxy_settings){ .trusted_proxies = 1 });
	char text[ADDR_TEXT_MAX];
	world_connect(w);
	world_send(w, "GET / HTTP/1.1\r\nHost: shop\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n");
	assert_string_equal(addr_text(&w->attempts[0].source.addr, text), "192.0.2.7");
	world_answer(w, 0, ok);
	world_send(w, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
	assert_string_equal(addr_text(&w->attempts[1].source.addr, text), "10.0.0.1");
	done(w);
}

static void test_decorator_operation_ends_here(void **state)
{
	(void)state;
	struct world *w = world_of((struct proxy_settings){ 0 });
	world_connect(w);
	world_send(w, "GET / HTTP/1.1\r\nHost: shop\r\nx-envoy-decorator-operation: a\r\n\r\n");
	assert_not_requested(w, 0, "decorator");
	world_answer(w, 0, "HTTP/1.1 200 OK\r\nx-envoy-decorator-operation: b\r\nContent-Length: 0\r\n\r\n");
	assert_received(w, "200 OK");
	assert_not_received(w, "decorator");
	done(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_case_of_names_goes_through_the_client_side),
		cmocka_unit_test(test_case_of_names_goes_through_the_server_side),
		cmocka_unit_test(test_upgrade_keeps_its_case),
		cmocka_unit_test(test_change_counts_on_the_connection_that_is_there),
		cmocka_unit_test(test_names_are_lower_case_otherwise),
		cmocka_unit_test(test_headers_of_ours_are_left_out),
		cmocka_unit_test(test_overload_is_not_said_without_debug_headers),
		cmocka_unit_test(test_server_is_the_one_that_is_set),
		cmocka_unit_test(test_client_certificates),
		cmocka_unit_test(test_certificate_with_hash_and_subject),
		cmocka_unit_test(test_certificate_without_its_uri),
		cmocka_unit_test(test_remote_address_is_what_trusted_proxies_tell),
		cmocka_unit_test(test_balancing_by_source_goes_by_the_told_one),
		cmocka_unit_test(test_decorator_operation_ends_here),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
