/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/helper/observe/expression.h"
#include "tests/unit/observe/fake.h"

#define CASE(name) cmocka_unit_test_setup_teardown(name, fake_setup, fake_teardown)

static void all(const struct request_record *r, const char *const *cases, size_t n, bool expected)
{
	for (size_t i = 0; i < n; i++)
		if (expression_true(r, cases[i]) != expected)
			fail_msg("%s is not %s", cases[i], expected ? "true" : "false");
}
#define ALL(r, expected, ...)                                                                                          \
	do {                                                                                                           \
		static const char *const cases_[] = { __VA_ARGS__ };                                                   \
		all(r, cases_, ARRAY_SIZE(cases_), expected);                                                          \
	} while (0)

static void test_comparisons(void **state)
{
	struct fake *f = *state;
	ALL(&f->r, true, "response.code == 200", "response.code!=404", "response.code >= 200 ", "response.code <= 200",
	    "response.code < 201", "response.code > -1", "request.method == 'GET'", "request.method == \"GET\"",
	    "'a' < 'b'", "'a' < 'ab'", "true", "!false", "connection.mtls", "connection.mtls == true", "1.5 < 2",
	    "response.flags == 0", "response.code != '200'", "request.path == '/a?b=1'", "request.url_path == '/a'",
	    "request.host == 'shop.example'", "request.protocol == 'HTTP/1.1'", "request.duration == 12");
	ALL(&f->r, false, "response.code == 404", "response.code == '200'", "response.code < '300'", "!true", "200",
	    "'true'", "response.code", "request.method");
}

static void test_precedence(void **state)
{
	struct fake *f = *state;
	ALL(&f->r, true, "false && false || true", "true || false && false", "!false && true", "!false == true",
	    "(true || false) && true", "1 == 1 && 2 == 2", "!(1 == 2)", "!!true", "true || 1 == 2 || false",
	    "1 == 2 ? false : true", "true ? 1 == 1 : 1 == 2", "false ? false : false ? false : true");
	ALL(&f->r, false, "(true || true) && false", "!(true)", "false || false", "1 == 2 && 1 == 1", "!true == true");
}

static void test_absent_is_an_error_that_others_may_outvote(void **state)
{
	struct fake *f = *state;
	f->r.response = NULL;
	ALL(&f->r, false, "request.headers['x'] == 'a'", "request.headers['x'] != 'a'",
	    "!(request.headers['x'] == 'a')", "response.headers['x'] == ''", "response.grpc_status == 0",
	    "no.such.thing == 1", "!no.such", "request.headers['x'].startsWith('')",
	    "'a'.contains(request.headers['x'])", "has(request.headers['x'])", "request.headers['x'] in ['a']",
	    "has(response.headers['x'])");
	ALL(&f->r, true, "request.headers['x'] == 'a' || true", "true || request.headers['x'].contains('a')",
	    "!(request.headers['x'] == 'a' && false)", "!has(request.headers['x'])", "has(request.method)",
	    "!has(response.grpc_status)");
}

static void test_headers_methods_and_lists(void **state)
{
	struct fake *f = *state;
	fake_field(f->request, "x-tenant", "blue");
	fake_field(f->request, "plain", "1");
	fake_field(f->response, "x-cache", "hit");
	ALL(&f->r, true, "request.headers['X-Tenant'] == 'blue'", "request.headers[\"x-tenant\"].startsWith('bl')",
	    "request.headers.plain == '1'", "request.headers['x-tenant'].endsWith('ue')",
	    "response.headers['x-cache'] == 'hit'", "request.headers['x-tenant'].contains('lu')",
	    "request.path.startsWith(\"/a\")", "request.path.endsWith('')",
	    "request.headers['x-tenant'] in ['red', 'blue']", "response.code in [200,201]",
	    "'x-tenant' in request.headers", "!('nope' in request.headers)",
	    "has(request.headers['x-tenant']) && response.code in[200]", "size(request.headers['x-tenant']) == 4",
	    "string(response.code) == '200'", "string(response.code).startsWith('2')", "('GET').contains('E')",
	    "source.address == '10.0.0.1:4000'", "destination.port == 80",
	    "source.address in [destination.address, upstream.address, '10.0.0.1:4000']",
	    "xds.cluster_name.contains('catalog')", "xds.route_name == 'shop/catalog'", "request.query == 'b=1'",
	    "request.total_size == 110", "response.total_size == 2050", "response.backend_latency == 7",
	    "upstream.port == 8080", "upstream.local_address == '10.0.0.1:4001'", "upstream.request_attempt_count == 1",
	    "xds.virtual_host_name.startsWith('catalog.shop')", "!has(request.referer)",
	    "!has(upstream.transport_failure_reason)");
	ALL(&f->r, false, "response.code in []", "response.code in ['200']", "request.path.endsWith('/a?b=1x')",
	    "source.address in [destination.address, upstream.address]",
	    "request.headers['x-tenant'].startsWith('blues')");
}

static void test_junk_is_false(void **state)
{
	struct fake *f = *state;
	ALL(&f->r, false, "", " ", "(", ")", "true)", "true true", "&&", "true &&", "|| true", "true ||", "!",
	    "! =", "'open", "\"open", "request.headers[", "request.headers['a'", "request.headers[]", "request.headers",
	    "has(", "has()", "true in", "1 in [", "1 in [1", "1 in [1 2]", "1 in [,]", "request.path.startsWith(",
	    "request.path.nothing('a')", "request.path.startsWith", "true ? true", "true ? : true", "evil(1)", "true;",
	    "1 == == 1", "\xff\xfe", "-", "[1]", "'a\\'b' == 'a'",
	    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	    "true.contains('a')");
}

static char *repeated(const char *what, size_t n, const char *end)
{
	struct sb out = { 0 };
	for (size_t i = 0; i < n; i++)
		sb_add(&out, what);
	sb_add(&out, end);
	return sb_take(&out);
}

static void test_depth_is_limited(void **state)
{
	struct fake *f = *state;
	static const char *const openings[] = { "(", "!", "!(", "has(", "true ? ", "1 in [(" };
	for (size_t i = 0; i < ARRAY_SIZE(openings); i++) {
		AUTO(mem_freep) char *deep = repeated(openings[i], 100000, "true");
		assert_false(expression_true(&f->r, deep));
	}
	assert_true(expression_true(&f->r, "((((true))))"));
	assert_true(expression_true(&f->r, "!!!!true"));
	AUTO(mem_freep) char *wide = repeated("true && ", 1000, "true"); /* not deep */
	assert_true(expression_true(&f->r, wide));
}

static void test_made_up_texts_are_limited(void **state)
{
	struct fake *f = *state;
	AUTO(mem_freep) char *many = repeated("source.address == '' || ", 100, "true");
	assert_false(expression_true(&f->r, many));
}

static void test_values(void **state)
{
	struct fake *f = *state;
	static const char *const cases[][2] = { { "request.method", "GET" },
						{ "'literal'", "literal" },
						{ "response.code", "200" },
						{ "connection.mtls", "true" },
						{ "string(destination.port)", "80" },
						{ "request.host + request.url_path", "shop.example/a" },
						{ "string(response.code / 100) + 'xx'", "2xx" },
						{ "request.url_path.matches('^/a(/|$)') ? 'api' : 'web'", "api" },
						{ "1.0 / 4", "0.25" },
						{ "has(request.headers['t']) ? request.headers['t'] : 'none'",
						  "none" } };
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct sb out = { 0 };
		assert_true(expression_value(&f->r, cases[i][0], &out));
		assert_string_equal(out.p, cases[i][1]);
		sb_done(&out);
	}
	struct sb none = { 0 };
	assert_false(expression_value(&f->r, "request.headers['t']", &none));
	assert_false(expression_value(&f->r, "junk junk", &none));
	assert_int_equal(none.len, 0);
}

static void test_patterns(void **state)
{
	struct fake *f = *state;
	fake_field(f->request, "x-tenant", "gold-17");
	ALL(&f->r, true, "request.path.matches('^/a')", "request.path.matches('b=[0-9]$')", "request.path.matches('b')",
	    "request.headers['x-tenant'].matches(r'^gold-\\d+$')",
	    "request.headers['x-tenant'].matches('^gold-\\\\d+$')", "'a.b'.matches(\"^a\\\\.b$\")",
	    "!request.path.matches('^b')", "request.path.matches('(?i)^/A')",
	    "(request.method + 'x').matches('^GETx$')", "true && request.path.matches('a') && true");
	/* A pattern is the configuration's, never a request's; broken ones and those that RE2 does not have are refused. */
	ALL(&f->r, false, "request.path.matches('^b')", "request.path.matches(request.headers['x-tenant'])",
	    "request.path.matches('[')", "request.path.matches('(a)\\\\1')", "request.path.matches('(?=a)')",
	    "response.code.matches('2')", "request.headers['none'].matches('')", "request.path.matches()",
	    "request.path.matches('a', 'b')", "request.path.matches('a'", "!request.headers['none'].matches('')");
	/* More patterns than are kept, again and again. */
	for (int i = 0; i < 200; i++) {
		char text[64];
		snprintf(text, sizeof(text), "request.path.matches('^/a.b=1(x{%d})?$')", 1 + i % 70);
		assert_true(expression_true(&f->r, text));
	}
	/* Backtracks for ever, elsewhere. */
	AUTO(mem_freep) char *many = repeated("a", 4000, "");
	f->r.original_path = (struct http_string){ many, (uint32_t)strlen(many) };
	assert_false(expression_true(&f->r, "request.path.matches('^(a+)+$') && request.path.matches('^((a+)+)+b')"));
	AUTO(mem_freep) char *pattern = repeated("a?", 300, "')");
	AUTO(mem_freep) char *longest = str_format("request.path.matches('%s", pattern);
	assert_false(expression_true(&f->r, longest)); /* of more than 512 bytes */
}

static void test_arithmetic(void **state)
{
	struct fake *f = *state;
	ALL(&f->r, true, "1 + 2 * 3 == 7", "(1 + 2) * 3 == 9", "7 / 2 == 3", "-7 / 2 == -3", "7.0 / 2 == 3.5",
	    "7 % 4 == 3", "response.code / 100 == 2", "10 - 4 - 3 == 3", "-(2) == -2", "2 - -2 == 4", "2u + 1u == 3u",
	    "1-1 == 0", "request.size + response.size > 2000", "response.code - 1 < response.code", "1.0 / 0 > 1",
	    "5 in [2 + 3, 9]", "'a' + 'b' == 'ab'", "'a' + \"b\" + request.method == 'abGET'", "int('12') + 1 == 13",
	    "int(7.9) == 7", "double('0.5') * 2 == 1", "duration('1.5s') == 1500",
	    "request.duration > duration('10ms')", "duration('1m0.5s') == 60500", "duration('-2us') < 0",
	    "duration('1h') == 60 * 60 * 1000", "'abc'.size() == 3", "size('a' + 'b') == 2", "'a\\nb'.size() == 3",
	    "'\\x41' == 'A'", "'it\\'s' == \"it's\"", "r'\\n'.size() == 2");
	/* What has no value is neither true nor false. */
	ALL(&f->r, false, "1 / 0 == 0", "1 % 0 == 0", "1.5 % 1 == 0", "1 + 'a' == 2", "'a' - 'a' == ''",
	    "!(1 / 0 == 0)", "request.headers['none'] + 'a' == 'a'", "int('twelve') == 12", "int('') == 0",
	    "int(' 1') == 1", "duration('fast') == 0", "duration('') == 0", "duration('5') == 5",
	    "duration('1sx') == 1000", "true + true", "1 +", "* 2 == 2", "1 ** 2 == 1", "'\\q' == 'q'", "'\\",
	    "'\\x4' == 'A'", "r'", "-'a' == 'a'");
	/* Texts that are made may not grow for ever. */
	AUTO(mem_freep) char *wide = repeated("request.path + ", 1500, "''");
	AUTO(mem_freep) char *text = str_format("size(%s) > 0", wide);
	assert_false(expression_true(&f->r, text));
}

/* What only requests have is absent, so that a filter of theirs takes no connection. */
static void test_connections(void **state)
{
	struct fake *f = *state;
	f->r.request = f->r.response = NULL;
	f->r.status = 0;
	f->r.cluster = NULL;
	f->r.endpoint = NULL;
	f->r.cluster_name = "outbound|9000||echo";
	f->r.server_name = "echo.example";
	f->r.termination = "rbac";
	ALL(&f->r, true, "xds.cluster_name == 'outbound|9000||echo'",
	    "connection.requested_server_name == 'echo.example'", "connection.termination_details == 'rbac'",
	    "destination.port == 80", "!has(response.code)", "connection.mtls", "request.duration == 12",
	    "!has(request.method)", "response.total_size > 0");
	ALL(&f->r, false, "response.code >= 400", "response.code < 400", "request.path == ''", "request.url_path == ''",
	    "request.headers['a'] == ''", "has(request.protocol)", "has(upstream.address)",
	    "response.code_details == 'x'");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_comparisons),
		CASE(test_precedence),
		CASE(test_absent_is_an_error_that_others_may_outvote),
		CASE(test_headers_methods_and_lists),
		CASE(test_junk_is_false),
		CASE(test_depth_is_limited),
		CASE(test_made_up_texts_are_limited),
		CASE(test_values),
		CASE(test_patterns),
		CASE(test_arithmetic),
		CASE(test_connections),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
