/* SPDX-License-Identifier: Apache-2.0 */
/* VirtualServices: hosts, order, and each of the things that a route may do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/str.h"
#include "tests/unit/compile/http_world.h"

static struct world w;

#define SERVICE(name, ns, vip, ports)                                                                                  \
	"apiVersion: v1\nkind: Service\nmetadata: { name: " name ", namespace: " ns " }\n"                             \
	"spec: { clusterIPs: [ " vip " ], selector: { app: " name " }, ports: [ " ports " ] }\n---\n"
#define POD(name, ns, addr, labels)                                                                                    \
	"apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: { name: " name ", namespace: " ns          \
	" }\nspec: { address: " addr ", labels: { " labels " } }\n---\n"
#define VS(name, ns, spec)                                                                                             \
	"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: " name ", namespace: " ns " }\n"  \
	"spec: { " spec " }\n---\n"
#define HTTP(port) "{ name: http-" port ", port: " port " }"
#define TO(host) "route: [ { destination: { host: " host " } } ]"

static const char town[] = SERVICE("a", "shop", "10.60.0.1", HTTP("80") ", " HTTP("81"))
	SERVICE("b", "shop", "10.60.0.2", HTTP("80")) SERVICE("a", "other", "10.60.0.3", HTTP("80"))
		POD("me", "shop", "10.0.0.9", "app: me, version: v1") POD("you", "other", "10.0.0.8", "app: you");

static struct world_fixture fixture = { &w, town };
#define A "a.shop.svc.cluster.local"

static struct l7_target *target_a(void)
{
	return http_target(&w, "shop/me", "10.60.0.1:80", NULL);
}

/* The routes of a VirtualService for a, by name. */
static struct l7_target *with(const char *http)
{
	char yaml[8192];
	snprintf(yaml, sizeof(yaml), VS("v", "shop", "hosts: [ a ], http: [ %s ]"), http);
	world_with(&w, yaml);
	return target_a();
}

static void test_default_route_is_istios(void **state)
{
	(void)state;
	struct l7_target *t = target_a();
	const struct http_route *r = http_route_named(t, "default");
	assert_string_equal(http_clusters_of(r), "outbound|80||" A " 1");
	assert_int_equal(r->timeout_ms, 0);
	assert_int_equal(r->retry.attempts, 2);
	assert_int_equal(r->retry.on, RETRY_CONNECT_FAILURE | RETRY_REFUSED_STREAM | RETRY_GRPC_UNAVAILABLE |
					      RETRY_GRPC_CANCELLED | RETRY_STATUS_CODES);
	assert_int_equal(r->retry.status_count, 0);
	assert_int_equal(r->retry.backoff_ms, 25);
	assert_true(r->retry.other_hosts);
	assert_string_equal(t->default_cluster, "outbound|80||" A);
	l7_target_unref(t);
}

static void test_host_decides_before_the_address(void **state)
{
	(void)state;
	static const struct {
		const char *caller, *host, *service;
	} rows[] = {
		{ "shop/me", NULL, "shop/" A },
		{ "shop/me", "b", "shop/b.shop.svc.cluster.local" },
		{ "shop/me", "B:80", "shop/b.shop.svc.cluster.local" },
		{ "shop/me", "b.shop", "shop/b.shop.svc.cluster.local" },
		{ "shop/me", "b.shop.svc", "shop/b.shop.svc.cluster.local" },
		{ "shop/me", "b.shop.svc.cluster.local.", "shop/b.shop.svc.cluster.local" },
		{ "other/you", "a", "other/a.other.svc.cluster.local" },
		{ "other/you", "b", "shop/" A }, /* no b there */
		{ "shop/me", "example.com", "shop/" A },
		{ "shop/me", "[fd00::1]:80", "shop/" A },
		{ "shop/me", "", "shop/" A },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct l7_target *t = http_target(&w, rows[i].caller, "10.60.0.1:80", rows[i].host);
		if (!str_eq(t->service, rows[i].service))
			fail_msg("row %zu: %s", i, t->service);
		l7_target_unref(t);
	}
}

static void test_unknown_address_is_passed_or_refused(void **state)
{
	(void)state;
	struct l7_target *t = http_target(&w, "shop/me", "192.0.2.1:80", "example.com");
	assert_int_equal(t->mode, L7_SNIFF);
	assert_string_equal(t->default_cluster, "PassthroughCluster");
	assert_string_equal(http_clusters_of(t->vhost->routes), "PassthroughCluster 1");
	l7_target_unref(t);
	struct http_cluster *c = http_cluster(&w, "PassthroughCluster");
	assert_int_equal(c->lb, CLUSTER_PASSTHROUGH);
	http_cluster_unref(c);

	world_with(&w, "outboundTrafficPolicy: { mode: REGISTRY_ONLY }\n");
	t = http_target(&w, "shop/me", "192.0.2.1:80", "example.com");
	assert_true(t->registry_only);
	assert_null(t->vhost);
	assert_null(t->default_cluster);
	l7_target_unref(t);
	t = target_a();
	assert_non_null(t->vhost);
	l7_target_unref(t);
}

static void test_most_specific_host_wins(void **state)
{
	(void)state;
	static const struct {
		const char *yaml, *route;
	} rows[] = {
		{ VS("v1", "shop", "hosts: [ \"*.cluster.local\" ], http: [ { name: wide, " TO("b") " } ]"), "wide" },
		{ VS("v2", "shop", "hosts: [ \"*.shop.svc.cluster.local\" ], http: [ { name: narrow, " TO("b") " } ]"),
		  "narrow" },
		{ VS("v3", "shop", "hosts: [ a ], http: [ { name: exact, " TO("b") " } ]"), "exact" },
		{ VS("v4", "shop", "hosts: [ a.shop.svc.cluster.local ], http: [ { name: later, " TO("b") " } ]"),
		  "exact" },
		{ VS("v0", "shop", "hosts: [ a ], gateways: [ edge ], http: [ { name: gateway, " TO("b") " } ]"),
		  "exact" },
		{ VS("u0", "other", "hosts: [ \"*.cluster.local\" ], http: [ { name: far, " TO("b") " } ]"), "exact" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		world_with(&w, rows[i].yaml);
		struct l7_target *t = target_a();
		assert_string_equal(t->vhost->routes[0].name, rows[i].route);
		l7_target_unref(t);
	}
	assert_true(world_finds(&w, "VirtualService/shop/v4", "VirtualService/shop/v3 is for the same host"));
	world_delete(&w, "VirtualService/shop/v3");
	world_delete(&w, "VirtualService/shop/v4");
	world_compile(&w);
	struct l7_target *t = target_a();
	assert_string_equal(t->vhost->routes[0].name, "narrow");
	l7_target_unref(t);
}

static void test_export_to_limits_callers(void **state)
{
	(void)state;
	world_with(&w, VS("v", "shop", "hosts: [ a ], exportTo: [ \".\" ], http: [ { name: own, " TO("b") " } ]"));
	struct l7_target *t = target_a();
	assert_string_equal(t->vhost->routes[0].name, "own");
	l7_target_unref(t);
	t = http_target(&w, "other/you", "10.60.0.1:80", NULL);
	assert_string_equal(t->vhost->routes[0].name, "default");
	l7_target_unref(t);
}

static void test_sidecar_limits_what_is_seen(void **state)
{
	(void)state;
	static const char sidecar[] =
		"apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: { name: default, namespace: shop }\n"
		"spec: { egress: [ { hosts: [ \"./*\" ] } ]%s }\n---\n";
	char yaml[512];
	world_with(&w, VS("v", "other", "hosts: [ a ], http: [ { name: theirs, " TO("a") " } ]"));
	struct l7_target *t = http_target(&w, "shop/me", "10.60.0.3:80", NULL);
	assert_string_equal(t->vhost->routes[0].name, "theirs");
	l7_target_unref(t);

	snprintf(yaml, sizeof(yaml), sidecar, "");
	world_with(&w, yaml);
	t = http_target(&w, "shop/me", "10.60.0.3:80", NULL); /* as the kernel would: plainly */
	assert_string_equal(t->vhost->routes[0].name, "default");
	l7_target_unref(t);
	t = http_target(&w, "shop/me", "192.0.2.1:80", "a.other");
	assert_string_equal(t->default_cluster, "PassthroughCluster");
	l7_target_unref(t);

	snprintf(yaml, sizeof(yaml), sidecar, ", outboundTrafficPolicy: { mode: REGISTRY_ONLY }");
	world_with(&w, yaml);
	t = http_target(&w, "shop/me", "10.60.0.3:80", NULL);
	assert_true(t->registry_only);
	assert_null(t->vhost);
	l7_target_unref(t);
	t = target_a();
	assert_non_null(t->vhost);
	l7_target_unref(t);
	t = http_target(&w, "other/you", "10.60.0.3:80", NULL);
	assert_string_equal(t->vhost->routes[0].name, "theirs");
	l7_target_unref(t);
}

static void test_matches(void **state)
{
	(void)state;
	static const struct {
		const char *match, *request;
		bool taken;
	} rows[] = {
		{ "uri: { exact: /x }", "GET /x?y", true },
		{ "uri: { exact: /x }", "GET /X", false },
		{ "uri: { exact: /x }, ignoreUriCase: true", "GET /X", true },
		{ "uri: { prefix: /x }, ignoreUriCase: true", "GET /XY", true },
		{ "uri: { regex: /x }, ignoreUriCase: true", "GET /X", false },
		{ "uri: { regex: \"/v[0-9]\" }", "GET /v1", true },
		{ "uri: { regex: \"/v[0-9]\" }", "GET /v11", false },
		{ "method: { exact: POST }", "POST /", true },
		{ "method: { regex: \"GET|HEAD\" }", "HEAD /", true },
		{ "scheme: { exact: https }", "GET /", false },
		{ "authority: { prefix: a. }", "GET / host=a.shop:80", true },
		{ "authority: { exact: a.shop }", "GET / host=a.shop:80", true },
		{ "headers: { X-Test: { exact: v } }", "GET / x-test=v", true },
		{ "headers: { x-test: {} }", "GET / x-test=", true },
		{ "headers: { x-test: {} }", "GET /", false },
		{ "withoutHeaders: { x-test: {} }", "GET /", true },
		{ "withoutHeaders: { x-test: { exact: v } }", "GET / x-test=v", false },
		{ "queryParams: { q: { exact: v } }", "GET /?q=%76", true },
		{ "queryParams: { q: {} }", "GET /?q", true },
		{ "port: 80", "GET /", true },
		{ "port: 81", "GET /", false },
		{ "sourceLabels: { version: v1 }", "GET /", true },
		{ "sourceLabels: { version: v2 }", "GET /", false },
		{ "sourceNamespace: shop", "GET /", true },
		{ "sourceNamespace: other", "GET /", false },
		{ "gateways: [ mesh ]", "GET /", true },
		{ "gateways: [ edge ]", "GET /", false },
		{ "uri: { prefix: / }, method: { exact: PUT }", "GET /", false },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char http[512];
		snprintf(http, sizeof(http), "{ name: hit, match: [ { %s } ], " TO("a") " }", rows[i].match);
		struct l7_target *t = with(http);
		if (strcmp(http_taken(&w, t, "shop/me", rows[i].request), rows[i].taken ? "hit" : "-") != 0)
			fail_msg("row %zu: %s on %s", i, rows[i].match, rows[i].request);
		l7_target_unref(t);
	}
}

/* Envoy's headers can't: Istio rewrites. */
/* Claims are known behind the route alone: a route for those who have one is for nobody, and never for all. */
static void test_a_match_on_claims_never_holds(void **state)
{
	(void)state;
	struct l7_target *t =
		with("{ name: admins, match: [ { uri: { prefix: /admin }, headers: { \"@request.auth.claims.group\": { "
		     "exact: admin } } } ], " TO(
			     "b") " }, "
				  "{ name: either, match: [ { headers: { \"@request.auth.claims[x]\": { exact: z } } "
				  "}, { uri: { prefix: "
				  "/x } } ], " TO("b") " }, "
						       "{ name: without, match: [ { withoutHeaders: { "
						       "\"@request.auth.claims.group\": { exact: admin } } } ], " TO(
							       "a") " }");
	assert_int_equal(t->vhost->route_count, 2);
	assert_string_equal(t->vhost->routes[0].name, "either");
	assert_int_equal(t->vhost->routes[0].match_count, 1);
	assert_int_equal(t->vhost->routes[0].matches[0].header_count, 0);
	assert_string_equal(t->vhost->routes[1].name, "without");
	assert_int_equal(t->vhost->routes[1].matches[0].header_count, 0);
	l7_target_unref(t);
	assert_true(world_finds(&w, "VirtualService/shop/v", "\"@request.auth.claims.group\" never holds"));
}

static void test_host_among_headers_is_a_rewrite(void **state)
{
	(void)state;
	struct l7_target *t = with("{ name: r, headers: { request: { set: { Host: all.example, x: z } } }, route: [ { "
				   "destination: { host: a }, "
				   "headers: { request: { set: { \":authority\": one.example } } } } ] }");
	const struct http_route *r = http_route_named(t, "r");
	assert_string_equal(r->rewrite->authority, "all.example");
	assert_int_equal(r->request.set_count, 1);
	assert_string_equal(r->request.set[0].name, "x");
	assert_string_equal(r->destinations[0].host_rewrite, "one.example");
	assert_int_equal(r->destinations[0].request.set_count, 0);
	l7_target_unref(t);
}

static void test_retries_of_the_mesh(void **state)
{
	(void)state;
	world_with(&w, "defaultHttpRetryPolicy: { attempts: 5, retryOn: \"5xx,409\", perTryTimeout: 2s }\n");
	struct l7_target *t = target_a();
	const struct http_retry *retry = &http_route_named(t, "default")->retry;
	assert_int_equal(retry->attempts, 5);
	assert_int_equal(retry->on, RETRY_5XX | RETRY_STATUS_CODES);
	assert_int_equal(retry->statuses[0], 409);
	assert_int_equal(retry->per_try_timeout_ms, 2000);
	l7_target_unref(t);
	t = with("{ name: own, retries: { attempts: 1, retryOn: reset }, " TO("a") " }, { name: rest, " TO("a") " }");
	assert_int_equal(http_route_named(t, "own")->retry.on, RETRY_RESET);
	assert_int_equal(http_route_named(t, "own")->retry.attempts, 1);
	assert_int_equal(http_route_named(t, "rest")->retry.attempts, 5);
	l7_target_unref(t);
	world_with(&w, "defaultHttpRetryPolicy: { attempts: 5, retryOn: 6xx }\n");
	assert_true(world_finds(&w, "MeshConfig/mesh", "\"6xx\" is neither"));
}

static void test_weights_and_destinations(void **state)
{
	(void)state;
	struct l7_target *t =
		with("{ name: r, route: [ { destination: { host: a, subset: v1 }, weight: 90 }, { destination: { host: "
		     "b }, weight: 10, "
		     "headers: { request: { set: { X-B: b }, remove: [ X-A ] }, response: { add: { y: z } } } }, { "
		     "destination: { host: b }, "
		     "weight: 0 } ], headers: { request: { add: { h: \"%DOWNSTREAM_REMOTE_ADDRESS%\" } } } }");
	const struct http_route *r = http_route_named(t, "r");
	assert_string_equal(http_clusters_of(r), "outbound|80|v1|" A " 90, outbound|80||b.shop.svc.cluster.local 10");
	assert_int_equal(r->total_weight, 100);
	assert_string_equal(r->destinations[1].request.set[0].name, "x-b");
	assert_string_equal(r->destinations[1].request.remove[0], "x-a");
	assert_string_equal(r->destinations[1].response.add[0].value, "z");
	assert_string_equal(r->request.add[0].value, "%DOWNSTREAM_REMOTE_ADDRESS%");
	l7_target_unref(t);
	assert_true(world_finds(&w, "VirtualService/shop/v", "no DestinationRule has a subset v1"));

	t = with("{ name: r, route: [ { destination: { host: nobody, port: { number: 8 } } } ] }");
	assert_string_equal(http_clusters_of(http_route_named(t, "r")), "outbound|8||nobody.shop.svc.cluster.local 1");
	l7_target_unref(t);
	assert_true(world_finds(&w, "VirtualService/shop/v", "there is no such service (a short name"));
	assert_true(http_cluster_missing(&w, "outbound|8||nobody.shop.svc.cluster.local"));

	/* The port of a service that has one; else the one that was called. */
	t = http_target(&w, "shop/me", "10.60.0.1:81", NULL);
	l7_target_unref(t);
	l7_target_unref(with("{ name: r, " TO("b") " }"));
	t = http_target(&w, "shop/me", "10.60.0.1:81", NULL);
	assert_string_equal(http_clusters_of(http_route_named(t, "r")), "outbound|80||b.shop.svc.cluster.local 1");
	l7_target_unref(t);
}

static void test_answers_rewrites_faults_cors_mirrors(void **state)
{
	(void)state;
	struct l7_target *t = with(
		"{ name: away, redirect: { uri: /new, authority: b, scheme: https, redirectCode: 308, derivePort: "
		"FROM_REQUEST_PORT } }, "
		"{ name: text, directResponse: { status: 418, body: { string: tea } } }, "
		"{ name: bytes, directResponse: { status: 200, body: { bytes: \"aGkA\" } } }, "
		"{ name: rw, rewrite: { uri: /y, authority: c }, " TO(
			"a") ", timeout: 1500ms, retries: { attempts: 0 } }, "
			     "{ name: rx, rewrite: { uriRegexRewrite: { match: \"^/(a)\", rewrite: \"/\\\\1\" } }, " TO(
				     "a") " }, "
					  "{ name: fault, fault: { abort: { grpcStatus: UNAVAILABLE, percentage: { "
					  "value: 0.5 } }, delay: { fixedDelay: 1s } }, " TO(
						  "a") " }, "
						       "{ name: cors, corsPolicy: { allowOrigins: [ { exact: \"*\" }, "
						       "{ regex: \"https://.*\" } ], allowMethods: [ GET, PUT ], "
						       "maxAge: 1m, allowCredentials: true, unmatchedPreflights: "
						       "IGNORE }, " TO("a") " }, "
									    "{ name: m, mirrors: [ { destination: { "
									    "host: b }, percentage: { value: 50 } }, { "
									    "destination: { host: a } } ], " TO(
										    "a") " }");
	const struct http_route *r = http_route_named(t, "away");
	assert_true(r->redirect->keep_port && r->redirect->status == 308);
	assert_string_equal(r->redirect->path_full, "/new");
	r = http_route_named(t, "text");
	assert_int_equal(r->direct->status, 418);
	assert_string_equal(r->direct->body, "tea");
	r = http_route_named(t, "bytes");
	assert_int_equal(r->direct->body_len, 3);
	assert_memory_equal(r->direct->body, "hi", 3);
	r = http_route_named(t, "rw");
	assert_string_equal(r->rewrite->path_prefix, "/y");
	assert_string_equal(r->rewrite->authority, "c");
	assert_int_equal(r->timeout_ms, 1500);
	assert_int_equal(r->retry.attempts, 0);
	assert_non_null(http_route_named(t, "rx")->rewrite->regex);
	r = http_route_named(t, "fault");
	assert_int_equal(r->fault->abort_grpc, 14);
	assert_int_equal(r->fault->abort_share.ppm, 5000);
	assert_int_equal(r->fault->delay_share.ppm, 0); /* no percentage, no delay */
	assert_true(world_finds(&w, "VirtualService/shop/v", "fault.delay has no percentage"));
	assert_false(world_finds(&w, "VirtualService/shop/v", "fault.abort has no percentage"));
	r = http_route_named(t, "cors");
	assert_int_equal(r->cors->origins[0].kind, HTTP_TEXT_PRESENT);
	assert_int_equal(r->cors->origins[1].kind, HTTP_TEXT_REGEX);
	assert_string_equal(r->cors->methods, "GET,PUT");
	assert_int_equal(r->cors->max_age_s, 60);
	assert_true(r->cors->credentials && !r->cors->forward_unmatched_preflights);
	r = http_route_named(t, "m");
	assert_int_equal(r->mirror_count, 2);
	assert_int_equal(r->mirrors[0].share.ppm, 500000);
	assert_int_equal(r->mirrors[1].share.ppm, 1000000);
	l7_target_unref(t);
	t = with("{ name: old, mirror: { host: b }, mirrorPercent: 5, " TO(
		"a") " }, { name: both, mirror: { host: b }, "
		     "mirrorPercent: 5, mirrorPercentage: { value: 7 }, " TO(
			     "a") " }, { name: none, mirror: { host: b }, "
				  "mirrorPercent: 0, " TO("a") " }, { name: away, redirect: { prefixRewrite: /z } }");
	assert_int_equal(http_route_named(t, "old")->mirrors[0].share.ppm, 50000);
	assert_int_equal(http_route_named(t, "both")->mirrors[0].share.ppm, 70000);
	assert_int_equal(http_route_named(t, "none")->mirror_count, 0);
	assert_string_equal(http_route_named(t, "away")->redirect->path_prefix, "/z");
	l7_target_unref(t);
}

static void test_unknown_retry_condition_is_noted(void **state)
{
	(void)state;
	struct l7_target *t = with("{ name: r, retries: { attempts: 2, retryOn: 6xx }, " TO("a") " }");
	assert_int_equal(http_route_named(t, "r")->retry.attempts, 2);
	l7_target_unref(t);
	assert_true(world_finds(&w, "VirtualService/shop/v", "\"6xx\" is neither"));
}

static void test_delegates_are_merged(void **state)
{
	(void)state;
	world_with(&w, VS("leaf", "other",
			  "http: [ { name: cart, match: [ { uri: { prefix: /shop/cart } }, { uri: { prefix: /elsewhere "
			  "} } ], " TO("a") " }, { name: never, match: [ { uri: { regex: /shop } } ], " TO(
				  "a") " }, { name: rest, " TO("a") ", timeout: 7s } ]"));
	struct l7_target *t = with("{ name: root, match: [ { uri: { prefix: /shop }, headers: { x: { exact: v } } } ], "
				   "timeout: 3s, delegate: { "
				   "name: leaf, namespace: other } }, { name: last, " TO("b") " }");
	assert_string_equal(http_taken(&w, t, "shop/me", "GET /shop/cart/1 x=v"), "cart");
	assert_string_equal(http_taken(&w, t, "shop/me", "GET /shop/cart/1"), "last");
	assert_string_equal(http_taken(&w, t, "shop/me", "GET /elsewhere x=v"), "last");
	assert_string_equal(http_taken(&w, t, "shop/me", "GET /shop/x x=v"), "rest");
	assert_int_equal(http_route_named(t, "cart")->timeout_ms, 3000);
	assert_int_equal(http_route_named(t, "rest")->timeout_ms, 7000);
	assert_string_equal(http_clusters_of(http_route_named(t, "cart")), "outbound|80||a.other.svc.cluster.local 1");
	assert_int_equal(t->vhost->route_count, 3);
	l7_target_unref(t);
	assert_true(world_finds(&w, "VirtualService/other/leaf", "it never matches"));
	t = with("{ name: root, delegate: { name: nobody } }");
	assert_int_equal(t->vhost->route_count, 0);
	l7_target_unref(t);
	assert_true(world_finds(&w, "VirtualService/shop/v", "no such VirtualService"));
}

static void test_l4_routes(void **state)
{
	(void)state;
	world_with(&w, SERVICE("db", "shop", "10.60.0.7",
			       "{ name: tcp, port: 5432 }, { name: tls, port: 443 }, { name: tcp-b, port: 5433 }")
			       VS("db", "shop",
				  "hosts: [ db ], tcp: [ { match: [ { port: 5432, sourceLabels: { app: me } } ], "
				  "route: [ { destination: { host: db }, "
				  "weight: 80 }, { destination: { host: b }, weight: 20 } ] } ], tls: [ { match: [ { "
				  "port: 443, sniHosts: [ "
				  "DB.example.com ], destinationSubnets: [ 10.0.0.0/8 ] } ], " TO("b") " } ]"));
	assert_int_equal(world_port(&w, "shop", "db.shop.svc.cluster.local", 5432)->l7, L7_TCP);
	assert_int_equal(world_port(&w, "shop", "db.shop.svc.cluster.local", 5433)->l7, L7_NONE);
	struct l7_target *t = http_target(&w, "shop/me", "10.60.0.7:5432", NULL);
	assert_int_equal(t->mode, L7_TCP);
	assert_null(t->vhost);
	assert_int_equal(t->l4_count, 1);
	assert_int_equal(t->l4->total_weight, 100);
	assert_string_equal(t->l4->clusters[0].cluster, "outbound|5432||db.shop.svc.cluster.local");
	assert_string_equal(t->default_cluster, "outbound|5432||db.shop.svc.cluster.local");
	l7_target_unref(t);
	t = http_target(&w, "other/you", "10.60.0.7:5432", NULL);
	assert_int_equal(t->l4_count, 0);
	l7_target_unref(t);
	t = http_target(&w, "shop/me", "10.60.0.7:443", NULL);
	assert_int_equal(t->l4_count, 1);
	assert_string_equal(t->l4->sni_hosts[0], "db.example.com");
	assert_int_equal(t->l4->destinations[0].bits, 104);
	l7_target_unref(t);
}

struct said {
	char text[2048];
};

static bool on_explain(void *arg, size_t route, size_t match, const char *why)
{
	struct said *said = arg;
	size_t len = strlen(said->text);

	snprintf(said->text + len, sizeof(said->text) - len, "%zu.%zd: %s\n", route,
		 match == SIZE_MAX ? -1 : (ssize_t)match, why ? why : "taken");
	return true;
}

static void test_explain_says_why(void **state)
{
	(void)state;
	struct l7_target *t =
		with("{ name: x, match: [ { headers: { x: { exact: v } } }, { uri: { prefix: /a } } ], " TO(
			"a") " }, { name: rest, " TO("a") " }");
	struct http_request_view r = http_request(&w, "shop/me", "GET /b");
	struct said said = { "" };
	const struct http_route *taken = compiler_explain_http(t->vhost, &r, on_explain, &said);
	assert_string_equal(taken->name, "rest");
	assert_string_equal(said.text, "0.0: header x is absent, wanted exactly \"v\"\n0.1: path is \"/b\", wanted the "
				       "prefix \"/a\"\n1.-1: taken\n");
	l7_target_unref(t);
}

static void test_unchanged_answers_keep_their_id(void **state)
{
	(void)state;
	struct l7_target *t = with("{ name: r, " TO("a") " }");
	uint64_t id = t->id;
	l7_target_unref(t);
	struct l7_target *again = target_a(), *same = target_a();
	assert_ptr_equal(again, same); /* kept */
	l7_target_unref(again);
	l7_target_unref(same);

	world_with(&w, POD("b-1", "shop", "10.0.0.2", "app: b")); /* an endpoint is no change of routes */
	again = target_a();
	assert_true(again->id == id);
	l7_target_unref(again);
	world_with(&w, VS("else", "shop", "hosts: [ b ], http: [ { " TO("b") " } ]"));
	again = target_a();
	assert_true(again->id == id);
	l7_target_unref(again);
	again = with("{ name: r2, " TO("a") " }");
	assert_true(again->id != id);
	l7_target_unref(again);
	world_delete(&w, "VirtualService/shop/v");
	world_compile(&w);
	again = target_a();
	assert_string_equal(again->vhost->routes[0].name, "default");
	l7_target_unref(again);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_CASE(test_default_route_is_istios),
		WORLD_CASE(test_host_decides_before_the_address),
		WORLD_CASE(test_unknown_address_is_passed_or_refused),
		WORLD_CASE(test_most_specific_host_wins),
		WORLD_CASE(test_export_to_limits_callers),
		WORLD_CASE(test_sidecar_limits_what_is_seen),
		WORLD_CASE(test_matches),
		WORLD_CASE(test_a_match_on_claims_never_holds),
		WORLD_CASE(test_host_among_headers_is_a_rewrite),
		WORLD_CASE(test_retries_of_the_mesh),
		WORLD_CASE(test_weights_and_destinations),
		WORLD_CASE(test_answers_rewrites_faults_cors_mirrors),
		WORLD_CASE(test_unknown_retry_condition_is_noted),
		WORLD_CASE(test_delegates_are_merged),
		WORLD_CASE(test_l4_routes),
		WORLD_CASE(test_explain_says_why),
		WORLD_CASE(test_unchanged_answers_keep_their_id),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
