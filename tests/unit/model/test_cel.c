/* SPDX-License-Identifier: Apache-2.0 */
/* What agent/helper/observe's tests of expressions do not need a request for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/model/cel.h"

static void all(const char *const texts[], size_t n, bool condition, int expected)
{
	for (size_t i = 0; i < n; i++) {
		struct err err = ERR_INIT;
		int rc = cel_check(texts[i], condition, &err);
		if (rc != expected)
			fail_msg("%s: %d (%s), not %d", texts[i], rc, err.text, expected);
	}
}
#define ALL(condition, expected, ...)                                                                                  \
	do {                                                                                                           \
		static const char *const texts_[] = { __VA_ARGS__ };                                                   \
		all(texts_, ARRAY_SIZE(texts_), condition, expected);                                                  \
	} while (0)

static void test_check_conditions(void **state)
{
	(void)state;
	ALL(true, 0, "response.code >= 400 && !connection.mtls", "request.headers['a'] == 'b'", "true",
	    "has(request.headers['a']) ? response.code == 200 : false",
	    "node.id.contains('/x') || xds.cluster_name.endsWith('y')", "request.path.startsWith(request.host)",
	    "'x-a' in request.headers", "response.code in [200, 204]", "request.method.matches('^(GET|PUT)$')",
	    "'a\\'b' == 'c'", "1 + 1 == 2", "response.size / response.code > 1", "1 / (response.code - 1) == 1",
	    "request.duration > duration('1s')", "duration(request.headers['a']) > 1", "int(request.headers['a']) > 1",
	    "request.path.matches(r'^/v\\d+/')");
	ALL(true, -EINVAL, "", "response.code >=", "(true", "response.code", "'text'", "true true",
	    "request.method.matches('x'", "response.code < '400'", "!response.code", "'a\\qb' == 'c'", "1 + 'a' == 2",
	    "1 + 1", "request.method - 'a' == ''", "request.path.matches('(')", "request.path.matches(request.method)",
	    "duration('soon') > 1", "response.code.matches('2')");
	ALL(true, -ENOENT, "respons.code >= 400", "response.cod == 1", "true || metadata.x == 1", "has(node.metadata)");
}

static void test_check_values(void **state)
{
	(void)state;
	ALL(false, 0, "request.method", "'literal'", "response.code", "request.headers['x-tenant']",
	    "string(destination.port)", "has(request.headers['t']) ? request.headers['t'] : 'none'");
	ALL(false, -EINVAL, "", "request.headers[", "filter_state['wasm.x']", "a b");
	ALL(false, -ENOENT, "istio_operationId", "request.tenant");
}

static void test_check_says_where(void **state)
{
	struct err err = ERR_INIT;
	(void)state;
	assert_int_equal(cel_check("response.code >= ", true, &err), -EINVAL);
	assert_non_null(strstr(err.text, "see character 18"));
	assert_int_equal(cel_check("request.path.matches('[') || true", true, &err), -EINVAL);
	assert_non_null(strstr(err.text, "regular expression in quotes: see before character 25"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_check_conditions),
		cmocka_unit_test(test_check_values),
		cmocka_unit_test(test_check_says_where),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
