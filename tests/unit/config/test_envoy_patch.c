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
		{ "{ applyTo: HTTP_FILTER, match: { context: GATEWAY }, patch: { operation: ADD } }",
		  "match.context GATEWAY" },
		{ FILTER("Wasm", "config: {}"), "(Wasm) is not supported" },
		{ FILTER("Lua", "source_codes: {}"), "\"source_codes\" is not supported" },
		{ FILTER("Lua", "inlineCode: 5"), "needs inlineCode" },
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
		cmocka_unit_test(test_names_in_both_cases),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
