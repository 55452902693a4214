/* SPDX-License-Identifier: Apache-2.0 */
/* Routes of the Gateway API whose parent is a Service. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "tests/unit/compile/http_world.h"

static struct world w;

#define SERVICE(name, ns, vip, ports)                                                                                  \
	"apiVersion: v1\nkind: Service\nmetadata: { name: " name ", namespace: " ns " }\n"                             \
	"spec: { clusterIPs: [ " vip " ], selector: { app: " name " }, ports: [ " ports " ] }\n---\n"
#define POD(name, ns, addr)                                                                                            \
	"apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: { name: " name ", namespace: " ns          \
	" }\nspec: { address: " addr ", labels: { app: " name " } }\n---\n"
#define ROUTE(kind, name, ns, spec)                                                                                    \
	"apiVersion: gateway.networking.k8s.io/v1\nkind: " kind "\nmetadata: { name: " name ", namespace: " ns         \
	" }\nspec: { parentRefs: [ { group: \"\", kind: Service, name: a, namespace: shop } ], " spec " }\n---\n"
#define B "backendRefs: [ { name: b, port: 80 } ]"

static const char town[] = SERVICE("a", "shop", "10.60.0.1",
				   "{ name: http, port: 80 }, { name: grpc, port: 90 }, { name: tcp-x, port: 91 }")
	SERVICE("b", "shop", "10.60.0.2", "{ name: http, port: 80 }")
		SERVICE("c", "other", "10.60.0.3", "{ name: http, port: 80 }") POD("me", "shop", "10.0.0.9")
			POD("you", "other", "10.0.0.8");

static struct world_fixture fixture = { &w, town };

static struct l7_target *target_a(const char *caller)
{
	return http_target(&w, caller, "10.60.0.1:80", NULL);
}

static struct l7_target *with(const char *rules)
{
	char yaml[8192];
	snprintf(yaml, sizeof(yaml), ROUTE("HTTPRoute", "r", "shop", "rules: [ %s ]"), rules);
	world_with(&w, yaml);
	return target_a("shop/me");
}

static void test_most_specific_match_is_taken(void **state)
{
	(void)state;
	world_with(&w, ROUTE("HTTPRoute", "z", "shop",
			     "rules: [ { name: older-by-name-loses, matches: [ { path: { value: /a } } ], " B " } ]"));
	struct l7_target *t = with(
		"{ name: all, " B " }, { name: prefix, matches: [ { path: { value: /a } } ], " B " }, "
		"{ name: longer, matches: [ { path: { value: /a/b } } ], " B " }, "
		"{ name: exact, matches: [ { path: { type: Exact, value: /a } } ], " B " }, "
		"{ name: method, matches: [ { path: { value: /a }, method: POST } ], " B " }, "
		"{ name: headers, matches: [ { path: { value: /a }, headers: [ { name: X-A, value: v } ] } ], " B " }, "
		"{ name: more-headers, matches: [ { path: { value: /a }, headers: [ { name: x-a, value: v }, { name: "
		"x-b, type: "
		"RegularExpression, value: \"v|w\" } ] } ], " B " }, "
		"{ name: params, matches: [ { path: { value: /a }, queryParams: [ { name: q, value: v } ] } ], " B
		" }, "
		"{ name: regex, matches: [ { path: { type: RegularExpression, value: \"/x[0-9]+\" } }, { path: { "
		"value: /y } } ], " B " }");
	static const struct {
		const char *request, *route;
	} rows[] = {
		{ "GET /", "all" },
		{ "GET /a", "exact" },
		{ "GET /a/", "prefix" },
		{ "GET /ab", "all" },
		{ "GET /a/b/c", "longer" },
		{ "POST /a/c", "method" },
		{ "GET /a/c x-a=v", "headers" },
		{ "GET /a/c x-a=v x-b=w", "more-headers" },
		{ "GET /a/c?q=v", "params" },
		{ "GET /a/c?q=v x-a=v", "headers" },
		{ "POST /a/b", "longer" },
		{ "GET /x12", "regex" },
		{ "GET /y/1", "regex" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (strcmp(http_taken(&w, t, "shop/me", rows[i].request), rows[i].route) != 0)
			fail_msg("%s took %s", rows[i].request, http_taken(&w, t, "shop/me", rows[i].request));
	const struct http_route *r = http_route_named(t, "all");
	assert_string_equal(r->owner, "HTTPRoute shop/r");
	assert_string_equal(http_clusters_of(r), "outbound|80||b.shop.svc.cluster.local 1");
	l7_target_unref(t);
}

/* A match without a path is one of the prefix "/", and a rule without matches too: the API server writes that out. */
static void test_no_path_is_the_root(void **state)
{
	(void)state;
	struct l7_target *t =
		with("{ name: root, matches: [ { path: { value: / } } ], " B " }, "
		     "{ name: header, matches: [ { headers: [ { name: v, value: two } ] } ], " B " }, "
		     "{ name: param, matches: [ { queryParams: [ { name: q, value: v } ] } ], " B " }, "
		     "{ name: method, matches: [ { method: PUT } ], " B " }, "
		     "{ name: regex, matches: [ { path: { type: RegularExpression, value: \"/r.*\" } } ], " B " } ");
	static const char *const rows[][2] = { { "GET /", "root" },	     { "GET / v=two", "header" },
					       { "GET /x v=two", "header" }, { "GET /?q=v", "param" },
					       { "PUT / v=two", "method" },  { "GET /?q=v v=two", "header" },
					       { "GET /r v=two", "regex" } };

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (strcmp(http_taken(&w, t, "shop/me", rows[i][0]), rows[i][1]) != 0)
			fail_msg("%s took %s", rows[i][0], http_taken(&w, t, "shop/me", rows[i][0]));
	l7_target_unref(t);
	/* Of rules that say nothing and the root the first counts. */
	t = with("{ name: nothing, " B " }, { name: root, matches: [ { path: { value: / } } ], " B " }");
	assert_string_equal(http_taken(&w, t, "shop/me", "GET /a"), "nothing");
	l7_target_unref(t);
}

static void test_filters(void **state)
{
	(void)state;
	struct l7_target *t = with(
		"{ name: f, filters: [ { type: RequestHeaderModifier, requestHeaderModifier: { set: [ { name: A, "
		"value: b } ], remove: [ X-Y ] } }, "
		"{ type: ResponseHeaderModifier, responseHeaderModifier: { add: [ { name: c, value: d } ] } }, "
		"{ type: URLRewrite, urlRewrite: { hostname: h.example, path: { type: ReplacePrefixMatch, "
		"replacePrefixMatch: /z } } }, "
		"{ type: RequestMirror, requestMirror: { backendRef: { name: b, port: 80 }, fraction: { numerator: 1, "
		"denominator: 4 } } }, "
		"{ type: CORS, cors: { allowOrigins: [ \"https://*.example.com\" ], allowMethods: [ GET ] } } ], " B
		", timeouts: { request: 10s, backendRequest: 2s }, retry: { codes: [ 500, 502 ], attempts: 1 }, "
		"sessionPersistence: { "
		"sessionName: s, absoluteTimeout: 1h, cookieConfig: { lifetimeType: Permanent } } }, "
		"{ name: away, matches: [ { path: { value: /r } } ], filters: [ { type: RequestRedirect, "
		"requestRedirect: { scheme: https, "
		"statusCode: 301, path: { type: ReplaceFullPath, replaceFullPath: /q } } } ] }, "
		"{ name: here, matches: [ { path: { value: /d } } ], filters: [ { type: DirectResponse, "
		"directResponse: { "
		"statusCode: 403, body: { string: \"no\" } } } ] }");
	const struct http_route *r = http_route_named(t, "f");
	assert_string_equal(r->request.set[0].name, "a"); /* as the engine has them, to overwrite "A" and "a" */
	assert_string_equal(r->request.remove[0], "x-y");
	assert_string_equal(r->response.add[0].value, "d");
	assert_string_equal(r->rewrite->authority, "h.example");
	assert_string_equal(r->rewrite->path_prefix, "/z");
	assert_int_equal(r->mirrors[0].share.ppm, 250000);
	assert_true(http_text_matches(&r->cors->origins[0], (struct http_view){ "https://a.example.com", 21 }));
	assert_false(http_text_matches(&r->cors->origins[0], (struct http_view){ "https://a.example.org", 21 }));
	assert_false(http_text_matches(&r->cors->origins[0], (struct http_view){ "https://axexampleycom", 21 }));
	assert_int_equal(r->timeout_ms, 10000);
	assert_int_equal(r->retry.per_try_timeout_ms, 2000);
	assert_int_equal(r->retry.attempts, 1);
	assert_int_equal(r->retry.status_count, 2);
	assert_string_equal(r->session_name, "s");
	assert_int_equal(r->session_absolute_s, 3600);
	assert_true(r->session_max_age && !r->session_header);
	assert_int_equal(r->session_idle_s, 0);
	r = http_route_named(t, "away");
	assert_int_equal(r->redirect->status, 301);
	assert_true(r->redirect->default_port);
	assert_string_equal(r->redirect->path_full, "/q");
	assert_false(r->invalid_backend);
	r = http_route_named(t, "here");
	assert_int_equal(r->direct->status, 403);
	assert_memory_equal(r->direct->body, "no", r->direct->body_len);
	assert_false(r->invalid_backend);
	l7_target_unref(t);
}

static void test_sessions(void **state)
{
	(void)state;
	struct l7_target *t =
		with("{ name: h, " B ", sessionPersistence: { type: Header, sessionName: X-Who, idleTimeout: 1500ms } "
		     "}, { name: d, matches: [ { path: { value: /d } } ], sessionPersistence: { absoluteTimeout: "
		     "1h }, backendRefs: [ { name: b, port: 80 }, { name: a, port: 80, weight: 0 } ] }, { matches: [ { "
		     "path: { value: /e } } ], " B ", sessionPersistence: { type: Header } }");
	const struct http_route *r = http_route_named(t, "h");
	assert_string_equal(r->session_name, "x-who");
	assert_true(r->session_header && !r->session_max_age);
	assert_int_equal(r->session_idle_s, 2);
	assert_int_equal(r->session_absolute_s, 0);
	r = http_route_named(t, "d");
	assert_memory_equal(r->session_name, "weft-session-", 13);
	assert_false(r->session_header || r->session_max_age);
	assert_int_equal(r->session_absolute_s, 3600);
	assert_int_equal(r->destination_count, 2); /* sessions may have begun at the other */
	assert_int_equal(r->destinations[1].weight, 0);
	assert_int_equal(r->total_weight, 1);
	const struct http_route *e = http_route_named(t, "shop.r.2");
	assert_memory_equal(e->session_name, "x-weft-session-", 15);
	assert_string_not_equal(e->session_name + 15, r->session_name + 13);
	l7_target_unref(t);
}

static void test_invalid_backends_answer_500_for_their_share(void **state)
{
	(void)state;
	struct l7_target *t = with("{ name: r, backendRefs: [ { name: b, port: 80, weight: 9 }, { name: nobody, port: "
				   "80 }, { name: b, port: "
				   "81, weight: 2 }, { name: c, namespace: other, port: 80, weight: 4 }, { kind: "
				   "Other, name: b, port: 80 }, { name: "
				   "b, port: 80, weight: 0 } ] }, { name: none, matches: [ { path: { value: /n } } ] "
				   "}, { name: zero, matches: [ { "
				   "path: { value: /z } } ], backendRefs: [ { name: b, port: 80, weight: 0 } ] }");
	const struct http_route *r = http_route_named(t, "r");
	assert_string_equal(http_clusters_of(r), "outbound|80||b.shop.svc.cluster.local 9");
	assert_true(r->invalid_backend);
	assert_int_equal(r->invalid_weight, 1 + 2 + 4 + 1);
	r = http_route_named(t, "none");
	assert_true(r->invalid_backend && r->invalid_weight == 1 && !r->destination_count);
	r = http_route_named(t, "zero");
	assert_true(r->invalid_backend && r->invalid_weight == 1 && !r->destination_count);
	l7_target_unref(t);
	assert_true(world_finds(&w, "HTTPRoute/shop/r",
				"ResolvedRefs=False (RefNotPermitted): backend other/c: no ReferenceGrant of namespace "
				"other allows it: requests get 500"));
	assert_true(world_finds(&w, "HTTPRoute/shop/r",
				"ResolvedRefs=False (BackendNotFound): backend shop/nobody: there is no such service"));
	assert_true(world_finds(&w, "HTTPRoute/shop/r", "ResolvedRefs=False (InvalidKind): backend"));

	world_with(&w, "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: { name: g, "
		       "namespace: other }\n"
		       "spec: { from: [ { group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop } ], to: "
		       "[ { group: \"\", kind: "
		       "Service, name: c } ] }\n");
	t = target_a("shop/me");
	r = http_route_named(t, "r");
	assert_string_equal(http_clusters_of(r),
			    "outbound|80||b.shop.svc.cluster.local 9, outbound|80||c.other.svc.cluster.local 4");
	assert_int_equal(r->invalid_weight, 4);
	l7_target_unref(t);
}

static void test_extension_filter_answers_500(void **state)
{
	(void)state;
	w.skip_rejected = false;
	struct l7_target *t =
		with("{ name: r, filters: [ { type: ExtensionRef, extensionRef: { group: x, kind: Y, name: z } } ], " B
		     " }");
	assert_true(http_route_named(t, "r")->invalid_backend);
	assert_int_equal(http_route_named(t, "r")->destination_count, 0);
	l7_target_unref(t);
	/* Whatever else the rule would do. */
	t = with("{ name: r, filters: [ { type: RequestRedirect, requestRedirect: { scheme: https } }, { type: "
		 "ExternalAuth, externalAuth: { protocol: HTTP } } ] }");
	assert_true(http_route_named(t, "r")->invalid_backend);
	assert_null(http_route_named(t, "r")->redirect);
	l7_target_unref(t);
}

static void test_backend_filters(void **state)
{
	(void)state;
	struct l7_target *t =
		with("{ name: r, backendRefs: [ { name: b, port: 80, filters: [ { type: RequestHeaderModifier, "
		     "requestHeaderModifier: { set: [ { name: x, value: z } ] } }, { type: URLRewrite, urlRewrite: { "
		     "hostname: "
		     "h.example } } ] } ] }");
	const struct http_route *r = http_route_named(t, "r");
	assert_string_equal(r->destinations[0].request.set[0].value, "z");
	assert_string_equal(r->destinations[0].host_rewrite, "h.example");
	l7_target_unref(t);
}

static void test_route_goes_before_virtual_service(void **state)
{
	(void)state;
	world_with(&w,
		   "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: v, namespace: shop }\n"
		   "spec: { hosts: [ a ], http: [ { name: vs, route: [ { destination: { host: b } } ] } ] }\n");
	struct l7_target *t = target_a("shop/me");
	assert_string_equal(t->vhost->routes[0].name, "vs");
	l7_target_unref(t);
	t = with("{ name: route, matches: [ { path: { value: /only } } ], " B " }");
	assert_string_equal(http_taken(&w, t, "shop/me", "GET /only"), "route");
	assert_string_equal(http_taken(&w, t, "shop/me", "GET /"), "-"); /* 404, as the Gateway API has it */
	l7_target_unref(t);
	assert_true(world_finds(&w, "VirtualService/shop/v", "HTTPRoute/shop/r is attached"));
}

static void test_consumers_route_is_for_its_namespace(void **state)
{
	(void)state;
	world_with(&w, ROUTE("HTTPRoute", "own", "shop", "rules: [ { name: producer, " B " } ]"));
	world_with(&w, ROUTE("HTTPRoute", "theirs", "other",
			     "rules: [ { name: consumer, backendRefs: [ { name: c, port: 80 } ] } ]"));
	struct l7_target *t = target_a("shop/me");
	assert_string_equal(t->vhost->routes[0].name, "producer");
	l7_target_unref(t);
	t = target_a("other/you");
	assert_string_equal(t->vhost->routes[0].name, "consumer");
	l7_target_unref(t);
}

static void test_parent_port(void **state)
{
	(void)state;
	world_with(
		&w,
		"apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: p, namespace: shop }\n"
		"spec: { parentRefs: [ { group: \"\", kind: Service, name: a, port: 90 } ], rules: [ { name: of-90, " B
		" } ] }\n");
	struct l7_target *t = target_a("shop/me");
	assert_string_equal(t->vhost->routes[0].name, "default");
	l7_target_unref(t);
	t = http_target(&w, "shop/me", "10.60.0.1:90", NULL);
	assert_string_equal(t->vhost->routes[0].name, "of-90");
	l7_target_unref(t);
}

static void test_grpc_routes(void **state)
{
	(void)state;
	world_with(&w, ROUTE("GRPCRoute", "g", "shop",
			     "rules: [ { name: all, " B
			     " }, { name: service, matches: [ { method: { service: p.S } } ], " B " }, "
			     "{ name: method, matches: [ { method: { service: p.S, method: Get } } ], " B " }, "
			     "{ name: any-service, matches: [ { method: { method: Put } } ], " B " }, "
			     "{ name: regex, matches: [ { method: { type: RegularExpression, service: \"q.*\", method: "
			     "\"A|B\" } } ], " B " }, "
			     "{ name: header, matches: [ { method: { service: p.S, method: Get }, headers: [ { name: "
			     "x-a, value: v } ] } ], " B " } ]"));
	static const struct {
		const char *request, *route;
	} rows[] = {
		{ "POST /p.S/Get", "method" },	 { "POST /p.S/Get x-a=v", "header" },
		{ "POST /p.S/List", "service" }, { "POST /x/Put", "any-service" },
		{ "POST /q.T/A", "regex" },	 { "POST /q.T/C", "all" },
		{ "POST /q.T/B", "regex" },	 { "POST B", "all" },
	};
	struct l7_target *t = http_target(&w, "shop/me", "10.60.0.1:90", NULL);

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (strcmp(http_taken(&w, t, "shop/me", rows[i].request), rows[i].route) != 0)
			fail_msg("%s took %s", rows[i].request, http_taken(&w, t, "shop/me", rows[i].request));
	l7_target_unref(t);
}

static void test_tcp_routes(void **state)
{
	(void)state;
	assert_int_equal(world_port(&w, "shop", "a.shop.svc.cluster.local", 91)->l7, L7_NONE);
	world_with(&w, "apiVersion: gateway.networking.k8s.io/v1alpha2\nkind: TCPRoute\nmetadata: { name: t, "
		       "namespace: shop }\n"
		       "spec: { parentRefs: [ { group: \"\", kind: Service, name: a, port: 91 } ], rules: [ { "
		       "backendRefs: [ { name: b, port: "
		       "80, weight: 3 }, { name: nobody, port: 1 } ] } ] }\n");
	assert_int_equal(world_port(&w, "shop", "a.shop.svc.cluster.local", 91)->l7, L7_TCP);
	struct l7_target *t = http_target(&w, "shop/me", "10.60.0.1:91", NULL);
	assert_int_equal(t->mode, L7_TCP);
	assert_int_equal(t->l4_count, 1);
	assert_int_equal(t->l4->cluster_count, 2);
	assert_int_equal(t->l4->total_weight, 4);
	assert_string_equal(t->l4->clusters[1].cluster, "BlackHoleCluster"); /* its share is refused */
	assert_true(http_cluster_missing(&w, "BlackHoleCluster"));
	l7_target_unref(t);
	assert_true(world_finds(&w, "TCPRoute/shop/t", "with a port 1: connections are refused"));
	world_delete(&w, "TCPRoute/shop/t");
	world_compile(&w);
	assert_int_equal(world_port(&w, "shop", "a.shop.svc.cluster.local", 91)->l7, L7_NONE);
}

static void test_dangling_parents_are_found(void **state)
{
	(void)state;
	world_with(&w,
		   "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: p, namespace: shop }\n"
		   "spec: { parentRefs: [ { group: \"\", kind: Service, name: nobody }, { name: edge } ], rules: [ { " B
		   " } ] }\n");
	assert_true(world_finds(&w, "HTTPRoute/shop/p", "parent Service shop/nobody: there is no such service"));
	assert_true(world_finds(&w, "HTTPRoute/shop/p", "parent Gateway edge is for gateways"));
}

#define PARENTS(name, parents, more)                                                                                   \
	"apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: " name                           \
	", namespace: shop }\nspec: { parentRefs: [ " parents " ], " more " rules: [ { " B " } ] }\n---\n"

static void test_what_a_status_would_say_is_found(void **state)
{
	(void)state;
	world_with(&w, PARENTS("port", "{ group: \"\", kind: Service, name: a, port: 8 }", "")
			       PARENTS("section", "{ group: \"\", kind: Service, name: a, sectionName: x }", "")
				       PARENTS("kind", "{ group: apps, kind: Deployment, name: a }", "")
					       PARENTS("tcp", "{ group: \"\", kind: Service, name: a, port: 91 }", "")
						       PARENTS("hosts", "{ group: \"\", kind: Service, name: a }",
							       "hostnames: [ a.example ],"));
	assert_true(world_finds(&w, "HTTPRoute/shop/port",
				"Accepted=False (NoMatchingParent): parent Service shop/a: there is no such service "
				"with this port"));
	assert_true(
		world_finds(&w, "HTTPRoute/shop/section",
			    "Accepted=False (NoMatchingParent): parent Service shop/a: it has no port of the name x"));
	assert_true(world_finds(&w, "HTTPRoute/shop/kind", "Accepted=False (InvalidKind): parent Deployment a"));
	assert_true(world_finds(&w, "HTTPRoute/shop/tcp", "the port is not HTTP"));
	assert_true(world_finds(&w, "HTTPRoute/shop/hosts", "hostnames are for gateways"));
	assert_false(world_finds(&w, "HTTPRoute/shop/hosts", "Accepted=False"));
	/* Copies to nobody are no reason for a 500, and a weight of 0 none to keep quiet. */
	l7_target_unref(
		with("{ filters: [ { type: RequestMirror, requestMirror: { backendRef: { name: nobody, port: 80 "
		     "} } } ], backendRefs: [ { name: b, port: 80 }, { name: c, port: 81, weight: 0 } ] }"));
	assert_true(world_finds(&w, "HTTPRoute/shop/r", "a port 80: no copies are made"));
	assert_true(world_finds(&w, "HTTPRoute/shop/r", "backend shop/c: there is no such service with a port 81"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_CASE(test_most_specific_match_is_taken),
		WORLD_CASE(test_no_path_is_the_root),
		WORLD_CASE(test_filters),
		WORLD_CASE(test_sessions),
		WORLD_CASE(test_invalid_backends_answer_500_for_their_share),
		WORLD_CASE(test_extension_filter_answers_500),
		WORLD_CASE(test_backend_filters),
		WORLD_CASE(test_route_goes_before_virtual_service),
		WORLD_CASE(test_consumers_route_is_for_its_namespace),
		WORLD_CASE(test_parent_port),
		WORLD_CASE(test_grpc_routes),
		WORLD_CASE(test_tcp_routes),
		WORLD_CASE(test_dangling_parents_are_found),
		WORLD_CASE(test_what_a_status_would_say_is_found),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
