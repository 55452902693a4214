/* SPDX-License-Identifier: Apache-2.0 */
/* EnvoyFilters and the annotation for limits -> a workload's limits and scripts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "agent/model/filters.h"
#include "tests/unit/compile/world.h"

static struct world w;

static struct world_fixture fixture = { &w, NULL };

#define WORKLOAD(more)                                                                                                 \
	"apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n"                                                    \
	"metadata: { name: a, namespace: shop, annotations: { weft.dev/netns: x" more " } }\n"                         \
	"spec: { address: 10.0.0.1, labels: { app: frontend } }\n---\n"
static const char base[] = "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop, labels: { "
			   "istio.io/dataplane-mode: ambient } }\n---\n" WORKLOAD("");

#define FILTER(name, ns, spec)                                                                                         \
	"apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: { name: " name ", namespace: " ns      \
	" }\nspec: { " spec " }\n---\n"
#define HTTP_FILTER(context, type, config)                                                                             \
	"{ applyTo: HTTP_FILTER, match: { context: " context                                                           \
	" }, patch: { operation: INSERT_BEFORE, value: { name: x, "                                                    \
	"typed_config: { \"@type\": type.googleapis.com/envoy.x.v3." type ", " config " } } } }"
#define ON                                                                                                             \
	"filter_enabled: { default_value: { numerator: 100, denominator: HUNDRED } }, "                                \
	"filter_enforced: { default_value: { numerator: 100, denominator: HUNDRED } }"
#define BUCKET(max, fill, interval)                                                                                    \
	"token_bucket: { max_tokens: " max ", tokens_per_fill: " fill ", fill_interval: " interval " }"

static const struct http_filters *inbound(void)
{
	return world_workload(&w, "shop/a")->inbound;
}

static const struct http_filters *outbound(void)
{
	return world_workload(&w, "shop/a")->outbound;
}

static void test_shop_example_as_written(void **state)
{
	(void)state;
	world_set(&w, base);
	world_set(&w, "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n"
		      "metadata: { name: p, namespace: shop, annotations: { weft.dev/netns: z } }\n"
		      "spec: { address: 10.0.0.2, labels: { app: payments } }\n");
	world_load(&w, "tests/data/shop/40-filters-telemetry.yaml");
	world_compile(&w);
	const struct http_filters *f = inbound(), *p = world_workload(&w, "shop/p")->inbound;
	assert_int_equal(f->limit_count, 1);
	assert_int_equal(f->script_count, 0);
	const struct rate_limit *l = &f->limits[0];
	assert_true(l->has_bucket);
	assert_int_equal(l->bucket.max_tokens, 1000);
	assert_int_equal(l->bucket.tokens_per_fill, 100);
	assert_int_equal(l->bucket.fill_interval_ms, 60000);
	assert_int_equal(l->enabled.ppm, 1000000);
	assert_int_equal(l->enforced.ppm, 1000000);
	assert_int_equal(l->status, 429);
	assert_string_equal(l->name, "EnvoyFilter/shop/frontend-limit[0]");
	assert_int_equal(p->script_count, 1);
	assert_int_equal(p->limit_count, 0);
	assert_non_null(strstr(p->scripts[0].code, "function envoy_on_request(handle)"));
	assert_string_equal(p->scripts[0].name, "EnvoyFilter/shop/tenant-required[0]");
	assert_null(outbound());
}

static void test_sides_namespaces_and_selectors(void **state)
{
	(void)state;
	world_set(&w, base);
	world_with(&w,
		   FILTER("b", "shop", "configPatches: [ " HTTP_FILTER("ANY", "Lua", "inlineCode: both") " ]") FILTER(
			   "a", "istio-system",
			   "configPatches: [ " HTTP_FILTER(
				   "SIDECAR_OUTBOUND", "Lua",
				   "inlineCode: out") " ]") FILTER("c", "elsewhere",
								   "configPatches: [ " HTTP_FILTER(
									   "ANY", "Lua", "inlineCode: none") " ]")
			   FILTER("d", "shop",
				  "workloadSelector: { labels: { app: other } }, configPatches: [ " HTTP_FILTER(
					  "ANY", "Lua", "inlineCode: none") " ]")
				   FILTER("e", "shop",
					  "targetRefs: [ { kind: Gateway, name: g } ], configPatches: [ " HTTP_FILTER(
						  "ANY", "Lua", "inlineCode: none") " ]"));
	assert_int_equal(inbound()->script_count, 1);
	assert_string_equal(inbound()->scripts[0].code, "both");
	assert_int_equal(outbound()->script_count, 2);
	assert_string_equal(outbound()->scripts[0].code, "both"); /* put before what the root namespace has put there */
	assert_string_equal(outbound()->scripts[1].code, "out");
	assert_true(world_finds(&w, "EnvoyFilter/shop/e", "targetRefs"));
	world_delete(&w, "EnvoyFilter/shop/b");
	world_compile(&w);
	assert_null(inbound());
}

static void test_gateways_patches_are_told_of_and_others_hold(void **state)
{
	(void)state;
	world_set(&w, base);
	world_with(&w, FILTER("mixed", "shop",
			      "configPatches: [ " HTTP_FILTER("GATEWAY", "Lua", "inlineCode: edge") ", " HTTP_FILTER(
				      "SIDECAR_INBOUND", "Lua", "inlineCode: pod") " ]") FILTER("edge", "istio-system",
												"workloadSelector: { "
												"labels: { istio: "
												"ingressgateway } }, "
												"configPatches: [ "
												"{ applyTo: CLUSTER, "
												"match: { context: "
												"GATEWAY } } ]"));
	assert_int_equal(inbound()->script_count, 1);
	assert_string_equal(inbound()->scripts[0].code, "pod");
	assert_null(outbound());
	assert_true(world_finds(&w, "EnvoyFilter/shop/mixed", "configPatches[0] is for gateways"));
	assert_false(world_finds(&w, "EnvoyFilter/shop/mixed", "configPatches[1]"));
	assert_true(world_finds(&w, "EnvoyFilter/istio-system/edge", "configPatches[0] is for gateways"));
	assert_true(world_finds(&w, "EnvoyFilter/istio-system/edge", "selects no workload of any namespace"));
}

static void test_shares_and_what_is_absent(void **state)
{
	(void)state;
	world_set(&w, base);
	world_with(&w,
		   FILTER("a", "shop",
			  "configPatches: [ " HTTP_FILTER(
				  "SIDECAR_INBOUND", "LocalRateLimit",
				  BUCKET("5", "1",
					 "1s")) ", " HTTP_FILTER("SIDECAR_INBOUND", "LocalRateLimit",
								 BUCKET("5", "2",
									"0.5s") ", filter_enabled: { default_value: { "
										"numerator: 5, denominator: "
										"TEN_THOUSAND } }"
										", filter_enforced: { default_value: "
										"{ numerator: 250, denominator: "
										"MILLION } }, status: { code: "
										"ServiceUnavailable }"
										", "
										"rate_limited_as_resource_exhausted: "
										"true, enable_x_ratelimit_headers: "
										"DRAFT_VERSION_03"
										", "
										"always_consume_default_token_bucket: "
										"false, response_headers_to_add: [ { "
										"append: false, header: { key: X-L, "
										"value: a } },"
										" { header: { key: x-m, value: b } } "
										"]") " ]"));
	const struct rate_limit *l = inbound()->limits;
	assert_int_equal(l[0].enabled.ppm, 0);
	assert_int_equal(l[0].enforced.ppm, 0);
	assert_true(world_finds(&w, "EnvoyFilter/shop/a", "configPatches[0]: filter_enabled is not set"));
	assert_true(world_finds(&w, "EnvoyFilter/shop/a", "configPatches[0]: filter_enforced is not set"));
	assert_int_equal(l[1].enabled.ppm, 500);
	assert_int_equal(l[1].enforced.ppm, 250);
	assert_int_equal(l[1].status, 503);
	assert_int_equal(l[1].bucket.fill_interval_ms, 500);
	assert_true(l[1].grpc_exhausted && l[1].x_ratelimit_headers && l[1].spare_bucket);
	assert_false(l[0].grpc_exhausted || l[0].x_ratelimit_headers || l[0].spare_bucket);
	assert_string_equal(l[1].response.set[0].name, "x-l");
	assert_string_equal(l[1].response.add[0].value, "b");
	assert_true(l[0].id != l[1].id);
}

#define DESCRIPTORS                                                                                                    \
	"descriptors: [ { entries: [ { key: who, value: me }, { key: way } ], " BUCKET("1", "1", "1s") " } ]"

static void test_actions_of_routes_go_to_limits_without_their_own(void **state)
{
	(void)state;
	world_set(&w, base);
	world_with(
		&w,
		FILTER("a", "shop",
		       "configPatches: [ " HTTP_FILTER("SIDECAR_INBOUND", "LocalRateLimit", BUCKET("5", "1", "1s") ", " ON ", " DESCRIPTORS) ", " HTTP_FILTER(
			       "SIDECAR_INBOUND", "LocalRateLimit",
			       BUCKET("6", "1",
				      "1s") ", " ON ", " DESCRIPTORS
					    ", rate_limits: [ { actions: [ { remote_address: {} } ] } "
					    "]") ", " HTTP_FILTER("SIDECAR_INBOUND", "LocalRateLimit",
								  BUCKET("7", "1",
									 "1s") ", " ON) ","
											" " HTTP_FILTER(
												"SIDECAR_INBOUND",
												"RateLimit",
												"domain: d, "
												"failure_mode_deny: "
												"true, timeout: 0.25s, "
												"rate_limit_service: "
												"{ grpc_service: { "
												"envoy_grpc: { "
												"cluster_name: "
												"outbound|8081||rl."
												"shop.svc.cluster."
												"local } } }") " ]")
			FILTER("b", "shop",
			       "configPatches: [ { applyTo: VIRTUAL_HOST, match: { context: SIDECAR_INBOUND, "
			       "routeConfiguration: "
			       "{ vhost: { name: inbound|http|8080, route: { action: ANY } } } }, patch: { operation: "
			       "MERGE, value: { rate_limits: "
			       "[ { actions: [ { request_headers: { header_name: X-Who, descriptor_key: who, "
			       "skip_if_absent: true } }, "
			       "{ header_value_match: { descriptor_value: w, expect_match: false, headers: [ { name: "
			       "X-A, string_match: "
			       "{ prefix: p, ignore_case: true } }, { name: b, safe_regex_match: { regex: 'a+' }, "
			       "invert_match: true }, { name: c } ] } } ] }, "
			       "{ actions: [ { generic_key: { descriptor_value: g } } ] } ] } } } ]"));
	const struct rate_limit *l = inbound()->limits;
	assert_int_equal(inbound()->limit_count, 4);
	assert_int_equal(l[0].action_count, 2);
	assert_int_equal(l[0].actions[0].port, 8080);
	const struct limit_action *a = l[0].actions[0].v;
	assert_int_equal(l[0].actions[0].n, 2);
	assert_int_equal(a[0].kind, LIMIT_REQUEST_HEADER);
	assert_string_equal(a[0].header, "x-who");
	assert_string_equal(a[0].key, "who");
	assert_true(a[0].skip_if_absent);
	assert_int_equal(a[1].kind, LIMIT_HEADER_VALUE_MATCH);
	assert_string_equal(a[1].key, "header_match");
	assert_false(a[1].expect_match);
	assert_int_equal(a[1].match_count, 3);
	assert_string_equal(a[1].matches[0].name, "x-a");
	assert_int_equal(a[1].matches[0].value.kind, HTTP_TEXT_PREFIX);
	assert_true(a[1].matches[0].value.ignore_case);
	assert_int_equal(a[1].matches[1].value.kind, HTTP_TEXT_REGEX);
	assert_true(a[1].matches[1].invert);
	assert_non_null(a[1].matches[1].value.regex);
	assert_int_equal(a[1].matches[2].value.kind, HTTP_TEXT_PRESENT);
	assert_int_equal(l[0].actions[1].v[0].kind, LIMIT_GENERIC_KEY);
	assert_string_equal(l[0].actions[1].v[0].key, "generic_key");
	assert_int_equal(l[1].action_count, 1);
	assert_int_equal(l[1].actions[0].v[0].kind, LIMIT_REMOTE_ADDRESS);
	assert_int_equal(l[2].action_count, 0);
	assert_true(l[3].global && l[3].failure_deny);
	assert_string_equal(l[3].domain, "d");
	assert_string_equal(l[3].cluster, "outbound|8081||rl.shop.svc.cluster.local");
	assert_int_equal(l[3].timeout_ms, 250);
	assert_int_equal(l[3].action_count, 2);
	assert_string_equal(l[0].descriptors[0].entries[0].value, "me");
	assert_null(l[0].descriptors[0].entries[1].value);
	world_delete(&w, "EnvoyFilter/shop/b");
	world_compile(&w);
	assert_int_equal(inbound()->limits[0].action_count, 0);
	assert_true(world_finds(&w, "EnvoyFilter/shop/a", "configPatches[0]: nothing makes descriptors"));
	assert_true(world_finds(&w, "EnvoyFilter/shop/a", "configPatches[3]: nothing makes descriptors"));
}

static void test_a_limit_of_one_route(void **state)
{
	(void)state;
	world_set(&w, base);
	world_with(
		&w,
		FILTER("a", "shop",
		       "configPatches: [ " HTTP_FILTER(
			       "SIDECAR_OUTBOUND", "LocalRateLimit",
			       "stat_prefix: x") ", { applyTo: HTTP_ROUTE, match: { context: SIDECAR_OUTBOUND, "
						 "routeConfiguration: { vhost: { name: \"c.shop.svc:8000\", "
						 "route: { name: slow } } } }, patch: { operation: MERGE, value: { "
						 "typed_per_filter_config: { envoy.filters.http.local_ratelimit: "
						 "{ \"@type\": type.googleapis.com/udpa.type.v1.TypedStruct, type_url: "
						 "type.googleapis.com/envoy.x.LocalRateLimit, value: { " BUCKET(
							 "3", "3", "1s") ", " ON " } } } } } } ]"));
	const struct rate_limit *l = outbound()->limits;
	assert_int_equal(outbound()->limit_count, 2);
	assert_false(l[0].has_bucket || l[0].per_route);
	assert_true(l[1].has_bucket && l[1].per_route);
	assert_string_equal(l[1].route, "slow");
	assert_int_equal(l[1].port, 8000);
	assert_int_equal(l[1].bucket.max_tokens, 3);
	assert_null(inbound());
}

static void test_a_limit_keeps_its_id_when_the_file_moves(void **state)
{
	(void)state;
#define LIMIT                                                                                                          \
	FILTER("a", "shop",                                                                                            \
	       "configPatches: [ " HTTP_FILTER("SIDECAR_INBOUND", "LocalRateLimit",                                    \
					       BUCKET("5", "1", "1s") ", " ON) " ]")
	world_set(&w, base);
	world_with(&w, LIMIT);
	uint64_t id = inbound()->limits[0].id;
	world_with(&w, "# one\n# more\n" LIMIT FILTER(
			       "b", "shop", "configPatches: [ " HTTP_FILTER("ANY", "Lua", "inlineCode: x") " ]"));
	assert_int_equal(inbound()->script_count, 1);
	assert_true(inbound()->limits[0].id == id);
}

static void test_annotation(void **state)
{
	(void)state;
	static const struct {
		const char *document;
		uint32_t max, fill;
		uint64_t interval_ms;
		bool bad;
	} rows[] = {
		{ WORKLOAD(", weft.dev/local-rate-limit: 100/60s"), 100, 100, 60000, false },
		{ WORKLOAD(", weft.dev/local-rate-limit: \"1000 burst, 100/60s\""), 1000, 100, 60000, false },
		{ WORKLOAD(", weft.dev/local-rate-limit: 1/50ms"), 1, 1, 50, false },
		{ WORKLOAD(", weft.dev/local-rate-limit: 1/49ms"), 0, 0, 1000, true },
		{ WORKLOAD(", weft.dev/local-rate-limit: \"100\""), 0, 0, 1000, true },
		{ WORKLOAD(", weft.dev/local-rate-limit: 0/1s"), 0, 0, 1000, true },
		{ WORKLOAD(", weft.dev/local-rate-limit: \"9 burst 1/1s\""), 0, 0, 1000, true },
		{ WORKLOAD(", weft.dev/local-rate-limit: \"9, 1/1s\""), 0, 0, 1000, true },
		{ WORKLOAD(", weft.dev/local-rate-limit: 100/minute"), 0, 0, 1000, true },
	};
	world_set(&w, base);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		world_with(&w, rows[i].document);
		const struct rate_limit *l = inbound()->limits;
		assert_int_equal(inbound()->limit_count, 1);
		assert_true(l->has_bucket);
		assert_int_equal(l->bucket.max_tokens, rows[i].max);
		assert_int_equal(l->bucket.tokens_per_fill, rows[i].fill);
		assert_int_equal(l->bucket.fill_interval_ms, rows[i].interval_ms);
		assert_int_equal(l->enforced.ppm, 1000000);
		if (rows[i].bad)
			assert_true(world_finds(&w, "WorkloadEntry/shop/a", "weft.dev/local-rate-limit"));
		assert_null(outbound());
	}
}

#define LUA_AT(operation, chain, code)                                                                                 \
	"{ applyTo: HTTP_FILTER, match: { context: SIDECAR_INBOUND" chain " }, patch: { operation: " operation         \
	", value: { name: my-lua, typed_config: { \"@type\": type.googleapis.com/envoy.x.v3.Lua, inlineCode: \"" code  \
	"\" } } } }"
#define BEFORE_ROUTER                                                                                                  \
	", listener: { filterChain: { filter: { name: envoy.filters.network.http_connection_manager, subFilter: { "    \
	"name: envoy.filters.http.router } } } }"

static const char *order(void)
{
	static char text[64];
	text[0] = '\0';
	for (size_t i = 0; i < inbound()->script_count; i++)
		strcat(text, inbound()->scripts[i].code);
	return text;
}

static void test_scripts_are_in_order_of_priority(void **state)
{
	(void)state;
	world_set(&w, base);
	world_with(&w, FILTER("a", "shop",
			      "priority: 5, configPatches: [ " LUA_AT("INSERT_BEFORE", BEFORE_ROUTER, "1") ", " LUA_AT(
				      "INSERT_BEFORE", BEFORE_ROUTER, "2") " ]")
			       FILTER("b", "shop", "configPatches: [ " LUA_AT("INSERT_BEFORE", BEFORE_ROUTER, "3") " ]")
				       FILTER("c", "shop",
					      "priority: -7, configPatches: [ " LUA_AT("INSERT_BEFORE", BEFORE_ROUTER,
										       "4") " ]")
					       FILTER("d", "istio-system",
						      "priority: 9, configPatches: [ " LUA_AT("INSERT_BEFORE",
											      BEFORE_ROUTER, "5") " ]")
						       FILTER("e", "shop",
							      "priority: 10, configPatches: [ " LUA_AT(
								      "INSERT_FIRST", BEFORE_ROUTER, "6") " ]"));
	assert_string_equal(order(), "654312");
	assert_true(inbound()->scripts[0].early);
	assert_false(inbound()->scripts[1].early);
	assert_string_equal(inbound()->scripts[1].filter, "my-lua");
}

#define ROUTE_PATCH(context, vhost, route, value)                                                                      \
	"{ applyTo: HTTP_ROUTE, match: { context: " context ", routeConfiguration: { vhost: { name: \"" vhost          \
	"\", route: { name: " route " } } } }, patch: { operation: MERGE, value: { " value " } } }"

static void test_what_routes_say_to_scripts(void **state)
{
	(void)state;
	world_set(&w, base);
	world_with(
		&w,
		FILTER("a", "shop",
		       "configPatches: [ { applyTo: HTTP_FILTER, match: { context: SIDECAR_OUTBOUND }, patch: { "
		       "operation: "
		       "INSERT_FIRST, value: { name: my-lua, typed_config: { \"@type\": a.Lua, sourceCodes: { a.lua: { "
		       "inlineString: src } } } } } }, " ROUTE_PATCH(
			       "SIDECAR_OUTBOUND", "b.shop.svc.cluster.local:80", "r",
			       "metadata: { filter_metadata: { my-lua: { k: [ 1, true ] } } }, "
			       "typed_per_filter_config: { "
			       "my-lua: { \"@type\": a.LuaPerRoute, name: a.lua } }") ", " ROUTE_PATCH("SIDECAR_"
												       "INBOUND",
												       "inbound|http|"
												       "8080",
												       "default",
												       "typed_per_"
												       "filter_config: "
												       "{ "
												       "else: { "
												       "\"@type\": "
												       "a.LuaPerRoute, "
												       "disabled: true "
												       "} }") " ]"));
	const struct http_filters *f = outbound();
	assert_int_equal(f->script_count, 1);
	assert_null(f->scripts[0].code);
	assert_int_equal(f->scripts[0].source_count, 1);
	assert_string_equal(f->scripts[0].sources[0].name, "a.lua");
	assert_string_equal(f->scripts[0].sources[0].code, "src");
	assert_int_equal(f->lua_route_count, 2);
	const struct lua_route *r = f->lua_routes;
	assert_string_equal(r[0].filter, "my-lua");
	assert_string_equal(r[0].route, "r");
	assert_string_equal(r[0].vhost, "b.shop.svc.cluster.local:80");
	assert_int_equal(r[0].port, 80);
	assert_true(r[0].replaces && !r[0].disabled);
	assert_string_equal(r[0].source, "a.lua");
	assert_false(r[1].replaces);
	assert_string_equal(r[1].metadata, "{\"k\":[1,true]}");
	assert_int_equal(inbound()->lua_route_count, 1);
	assert_true(inbound()->lua_routes[0].disabled);
	assert_null(inbound()->lua_routes[0].vhost);
	assert_int_equal(inbound()->lua_routes[0].port, 8080);
	assert_true(world_finds(&w, "EnvoyFilter/shop/a", "\"else\" has no effect"));
	assert_false(world_finds(&w, "EnvoyFilter/shop/a", "\"my-lua\" has no effect"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_CASE(test_shop_example_as_written),
		WORLD_CASE(test_sides_namespaces_and_selectors),
		WORLD_CASE(test_gateways_patches_are_told_of_and_others_hold),
		WORLD_CASE(test_shares_and_what_is_absent),
		WORLD_CASE(test_actions_of_routes_go_to_limits_without_their_own),
		WORLD_CASE(test_a_limit_of_one_route),
		WORLD_CASE(test_a_limit_keeps_its_id_when_the_file_moves),
		WORLD_CASE(test_annotation),
		WORLD_CASE(test_scripts_are_in_order_of_priority),
		WORLD_CASE(test_what_routes_say_to_scripts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
