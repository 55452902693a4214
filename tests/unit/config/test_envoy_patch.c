/* SPDX-License-Identifier: Apache-2.0 */
/* EnvoyFilters that are taken, and those that are refused: with the reason by name, and never by half. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "agent/config/envoy_patch.h"
#include "agent/config/kinds_http.h"
#include "agent/config/node.h"
#include "tests/unit/config/one.h"

#define DOCUMENT                                                                                                       \
	"apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: { name: it, namespace: shop "          \
	"}\nspec:\n"                                                                                                   \
	"  configPatches:\n  - "
#define FILTER(type, config)                                                                                           \
	"{ applyTo: HTTP_FILTER, patch: { operation: INSERT_BEFORE, value: { name: n, typed_config: { \"@type\": "     \
	"type.googleapis.com/envoy." type ", " config " } } } }"
#define BUCKET "token_bucket: { max_tokens: 1, fill_interval: 1s }"
#define LOCAL(more) FILTER("LocalRateLimit", BUCKET ", " more)
#define ACTION(text) LOCAL("rate_limits: [ { actions: [ " text " ] } ]")
#define MATCHER(text) ACTION("{ header_value_match: { descriptor_value: v, headers: [ " text " ] } }")
#define ROUTE(value)                                                                                                   \
	"{ applyTo: HTTP_ROUTE, match: { routeConfiguration: { vhost: { name: \"a:80\" } } }, patch: { operation: "    \
	"MERGE, value: { " value " } } }"

#define PER_ROUTE(config)                                                                                              \
	ROUTE("typed_per_filter_config: { my-lua: { \"@type\": type.googleapis.com/envoy.LuaPerRoute, " config " } }")

static struct one one;

static int done(void **state)
{
	(void)state;
	one_done(&one);
	return 0;
}

static void decode(const char *patch)
{
	char text[4096];
	snprintf(text, sizeof(text), "%s%s\n", DOCUMENT, patch);
	one_done(&one);
	one_decode(&one, "a.yaml", text);
}

static void test_what_is_taken(void **state)
{
	(void)state;
	static const char *const rows[] = {
		FILTER("Lua", "inlineCode: x"),
		FILTER("Lua", "default_source_code: { inline_string: x }"),
		FILTER("Lua", "inline_code: x, source_codes: { a.lua: { inline_string: w }, b: { inlineString: z } }"),
		FILTER("Lua", "sourceCodes: { a.lua: { inline_string: w } }"),
		PER_ROUTE("disabled: true"),
		PER_ROUTE("name: a.lua"),
		PER_ROUTE("source_code: { inline_string: x }, filter_context: { a: { b: [ 1 ] } }"),
		ROUTE("metadata: { filter_metadata: { my-lua: { a: 1 } } }, typed_per_filter_config: { "
		      "envoy.filters.http.local_ratelimit: { \"@type\": a.LocalRateLimit, " BUCKET
		      " }, my-lua: { \"@type\": "
		      "a.LuaPerRoute, name: b } }"),
		LOCAL("status: { code: 503 }"),
		LOCAL("status: { code: TooManyRequests }"),
		LOCAL("responseHeadersToAdd: [ { append: false, header: { key: a, value: b } } ]"),
		FILTER("LocalRateLimit", "stat_prefix: x"),
		FILTER("LocalRateLimit", "tokenBucket: { maxTokens: 1, tokensPerFill: 1, fillInterval: 0.5s }"),
		ACTION("{ remote_address: {} }, { requestHeaders: { headerName: a, descriptorKey: b } }"),
		ACTION("{ generic_key: { descriptor_value: a, descriptor_key: b } }, { destination_cluster: {} }, { "
		       "source_cluster: {} }"),
		MATCHER("{ name: a }, { name: a, present_match: true }, { name: b, string_match: { safe_regex: { "
			"regex: 'a+' } } }"),
		MATCHER("{ name: a, exact_match: b, invert_match: true }, { name: a, stringMatch: { prefix: b, "
			"ignoreCase: true } }"),
		ROUTE("rate_limits: [ { actions: [ { remote_address: {} } ] } ]"),
		ROUTE("route: { rate_limits: [ { actions: [ { remote_address: {} } ] } ] }"),
		ROUTE("typed_per_filter_config: { envoy.filters.http.local_ratelimit: { \"@type\": "
		      "a.LocalRateLimit, " BUCKET " } }"),
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		decode(rows[i]);
		one_has_no_problem(&one);
		one_resource(&one);
	}
}

static void test_what_is_refused_and_why(void **state)
{
	(void)state;
	static const struct {
		const char *patch, *why;
	} rows[] = {
		{ "{ applyTo: CLUSTER, patch: { operation: MERGE, value: {} } }", "applyTo CLUSTER is not supported" },
		{ "{ patch: { operation: MERGE, value: {} } }", "applyTo (none) is not supported" },
		{ "{ applyTo: HTTP_FILTER, patch: { operation: REMOVE } }", "patch.operation REMOVE" },
		{ "{ applyTo: HTTP_FILTER, match: { context: WAYPOINT }, patch: { operation: ADD } }",
		  "match.context WAYPOINT" },
		{ FILTER("Wasm", "config: {}"), "(Wasm) is not supported" },
		{ "{ applyTo: 5, patch: {} }", "applyTo (none) is not supported" },
		{ FILTER("Lua", "inlineCode: 5"), "inlineCode is not text" },
		{ FILTER("Lua", "stat_prefix: x"), "needs inlineCode" },
		{ FILTER("Lua", "source_codes: { a: { filename: /x } }"),
		  "source_codes[]: \"filename\" is not supported" },
		{ FILTER("Lua", "default_source_code: { inline_bytes: eA== }"), "\"inline_bytes\" is not supported" },
		{ FILTER("Lua", "inlineCode: x, default_source_code: { inline_string: x }"), "has either" },
		{ PER_ROUTE("name: a, disabled: true"), "one of disabled, name and source_code" },
		{ PER_ROUTE("disabled: false"), "disabled other than true" },
		{ PER_ROUTE("source_code: { environment_variable: X }"), "\"environment_variable\" is not supported" },
		{ PER_ROUTE("filter_context: 5"), "filter_context is not a mapping" },
		{ ROUTE("typed_per_filter_config: { envoy.filters.http.cors: { \"@type\": a.CorsPolicy } }"),
		  "\"envoy.filters.http.cors\" (CorsPolicy) is not supported" },
		{ ROUTE("metadata: { typed_filter_metadata: {} }"), "\"typed_filter_metadata\" is not supported" },
		{ ROUTE("metadata: { filter_metadata: { a: 5 } }"), "\"a\" is not a mapping" },
		{ "{ applyTo: VIRTUAL_HOST, match: { routeConfiguration: { vhost: { name: \"a:80\" } } }, patch: { "
		  "operation: "
		  "MERGE, value: { metadata: { filter_metadata: {} } } } }",
		  "metadata of a VIRTUAL_HOST" },
		{ "{ applyTo: HTTP_FILTER, match: { listener: { filterChain: { sni: a } } }, patch: { operation: ADD } "
		  "}",
		  "filterChain: \"sni\" is not supported" },
		{ "{ applyTo: HTTP_FILTER, match: { listener: { filterChain: { filter: { name: "
		  "envoy.filters.network.tcp_proxy } } } "
		  "}, patch: { operation: ADD } }",
		  "tcp_proxy is not supported" },
		{ LOCAL("local_cluster_rate_limit: {}"), "\"local_cluster_rate_limit\" is not supported" },
		{ LOCAL("status: { code: Teapot }"), "status.code" },
		{ LOCAL("response_headers_to_add: [ { header: { key: a, value: \"%START_TIME%\" } } ]"),
		  "%operators%" },
		{ LOCAL("response_headers_to_add: [ { header: { key: a } } ]"), "needs key and value" },
		{ FILTER("LocalRateLimit", "token_bucket: { max_tokens: 0, fill_interval: 1s }"),
		  "max_tokens must be" },
		{ FILTER("LocalRateLimit", "token_bucket: { max_tokens: 1, fill_interval: 1ms }"),
		  "fill_interval must be" },
		{ ACTION("{ metadata: {} }"), "\"metadata\" is not supported" },
		{ ACTION("{ request_headers: { header_name: a } }"), "descriptor_key is missing" },
		{ ACTION("{ request_headers: { header_name: a, descriptor_key: b, other: c } }"),
		  "\"other\" is not supported" },
		{ ACTION("{ remote_address: { x: 1 } }"), "remote_address: \"x\" is not supported" },
		{ ACTION("{ generic_key: {} }"), "descriptor_value is missing" },
		{ ACTION("{ header_value_match: { descriptor_value: v } }"), "headers is missing" },
		{ MATCHER("{ name: a, range_match: { start: 1, end: 2 } }"), "\"range_match\" is not supported" },
		{ MATCHER("{ name: a, string_match: { contains: b } }"), "\"contains\" is not supported" },
		{ MATCHER("{ name: a, safe_regex_match: { regex: '(a' } }"), "headers[]: " },
		{ MATCHER("{ exact_match: b }"), "name is missing" },
		{ MATCHER("{ name: a, present_match: false }"), "use invert_match" },
		{ LOCAL("rate_limits: [ { stage: 1, actions: [ { remote_address: {} } ] } ]"), "stages other than 0" },
		{ LOCAL("rate_limits: [ { disable_key: k, actions: [ { remote_address: {} } ] } ]"),
		  "\"disable_key\" is not supported" },
#define A "{ remote_address: {} }, "
		{ ACTION(A A A A A A A A A A A A A A A A A), "more than 16 actions" },
		{ ROUTE("route: { timeout: 1s }"), "\"timeout\" is not supported" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		decode(rows[i].patch);
		one_has(&one, PROBLEM_ERROR, rows[i].why);
		assert_true(one.docs[0].rejected);
	}
}

/* What is put into gateways has no effect, and is no reason to refuse the rest. */
static void test_patches_for_gateways_are_for_nobody(void **state)
{
	(void)state;
	decode("{ applyTo: CLUSTER, match: { context: GATEWAY, cluster: { service: x } }, patch: { operation: MERGE, "
	       "value: { "
	       "connect_timeout: 1s } } }");
	const struct envoy_filter_spec *spec = one_resource(&one)->spec.envoy_filter;
	struct envoy_patch patch;
	char why[200];
	assert_int_equal(envoy_patch_read(spec->config_patches->first, &patch, why, sizeof(why)), 0);
	assert_int_equal(patch.sides, 0);
}

static struct envoy_patch read(const char *operation, const char *chain)
{
	struct envoy_patch patch;
	char text[1024], why[200];
	snprintf(text, sizeof(text),
		 "{ applyTo: HTTP_FILTER, match: { context: SIDECAR_INBOUND%s }, patch: { operation: %s, value: { "
		 "name: my-lua, "
		 "typed_config: { \"@type\": a.Lua, inlineCode: x } } } }",
		 chain, operation);
	decode(text);
	const struct envoy_filter_spec *spec = one_resource(&one)->spec.envoy_filter;
	assert_int_equal(envoy_patch_read(spec->config_patches->first, &patch, why, sizeof(why)), 0);
	return patch;
}

/* As Istio: before nothing that is named is before all. */
static void test_where_filters_are_put(void **state)
{
	(void)state;
#define CHAIN(sub)                                                                                                     \
	", listener: { filterChain: { filter: { name: envoy.filters.network.http_connection_manager" sub " } } }"
#define SUB(name) CHAIN(", subFilter: { name: " name " }")
	static const struct {
		const char *operation, *chain;
		bool first, early;
	} rows[] = {
		{ "INSERT_FIRST", "", true, true },
		{ "INSERT_FIRST", SUB("envoy.filters.http.router"), true, true },
		{ "INSERT_BEFORE", "", true, true },
		{ "INSERT_BEFORE", CHAIN(""), true, true },
		{ "INSERT_BEFORE", SUB("envoy.filters.http.router"), false, false },
		{ "INSERT_BEFORE", SUB("envoy.filters.http.jwt_authn"), false, true },
		{ "INSERT_AFTER", "", false, false },
		{ "INSERT_AFTER", SUB("envoy.filters.http.jwt_authn"), false, false },
		{ "ADD", "", false, false },
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct envoy_patch p = read(rows[i].operation, rows[i].chain);
		if (p.first != rows[i].first || p.early != rows[i].early)
			fail_msg("%s %s", rows[i].operation, rows[i].chain);
		assert_string_equal(p.filter, "my-lua");
	}
}

static void test_priority(void **state)
{
	(void)state;
	static const char document[] =
		"apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: { name: it, "
		"namespace: shop }\nspec: { priority: %s }\n";
	static const struct {
		const char *text, *why;
	} rows[] = { { "-5", NULL },
		     { "2147483647", NULL },
		     { "2147483648", "is not a number of 32 bits" },
		     { "high", "priority" } };
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char text[512];
		snprintf(text, sizeof(text), document, rows[i].text);
		one_done(&one);
		one_decode(&one, "a.yaml", text);
		if (rows[i].why)
			one_has(&one, PROBLEM_ERROR, rows[i].why);
		else
			one_has_no_problem(&one);
	}
}

static void test_names_in_both_cases(void **state)
{
	(void)state;
	struct node two = { .key = "tokensPerFill" }, first = { .key = "max_tokens", .next = &two };
	const struct node map = { .type = NODE_MAP, .first = &first, .count = 2 };
	assert_ptr_equal(envoy_get(&map, "max_tokens"), &first);
	assert_ptr_equal(envoy_get(&map, "tokens_per_fill"), &two);
	assert_null(envoy_get(&map, "tokens_per"));
	assert_null(envoy_get(&map, "tokens_per_fill_more"));
	assert_null(envoy_get(NULL, "x"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_what_is_taken, done),
		cmocka_unit_test_teardown(test_what_is_refused_and_why, done),
		cmocka_unit_test_teardown(test_where_filters_are_put, done),
		cmocka_unit_test_teardown(test_patches_for_gateways_are_for_nobody, done),
		cmocka_unit_test_teardown(test_priority, done),
		cmocka_unit_test(test_names_in_both_cases),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
