/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
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
	static const char *const cases[][2] = {
		{ "request.method", "GET" },
		{ "'literal'", "literal" },
		{ "response.code", "200" },
		{ "connection.mtls", "true" },
		{ "string(destination.port)", "80" },
		{ "has(request.headers['t']) ? request.headers['t'] : 'none'", "none" }
	};
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
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
