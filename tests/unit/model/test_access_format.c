/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/model/access_format.h"

static void good(const char *format, const char *absent)
{
	struct err err = ERR_INIT;
	const char *found;
	if (access_format_check(format, &found, &err) < 0)
		fail_msg("%s: %s", format, err.text);
	if (absent)
		assert_string_equal(found, absent);
	else
		assert_null(found);
}

static void bad(const char *format, const char *why)
{
	struct err err = ERR_INIT;
	assert_int_equal(access_format_check(format, NULL, &err), -EINVAL);
	if (!strstr(err.text, why))
		fail_msg("%s: \"%s\" does not say \"%s\"", format, err.text, why);
}

static void test_formats_that_can_be_shown(void **state)
{
	(void)state;
	good("", NULL);
	good("no operator, 100%%", NULL);
	good("[%START_TIME%] %REQ(X-A?:PATH):20% %RESPONSE_CODE%\n", NULL);
	good("%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)% %DURATION%", NULL);
	good("%CEL(request.path.startsWith('/a') ? 'x' : request.headers['y'])%", NULL);
	good("%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)%", NULL);
	good("%DURATION% %REQUESTED_SERVER_NAME% %DYNAMIC_METADATA(a:b)%", "DYNAMIC_METADATA");
	good("%FILTER_STATE(wasm.downstream_peer:PLAIN)%", "FILTER_STATE");
}

static void test_what_is_wrong_is_named(void **state)
{
	(void)state;
	bad("%RESPONSE_COD%", "%RESPONSE_COD% is no operator");
	bad("%DURATION% %PATH(WQ)%", "%PATH% is no operator");
	bad("%REQ%", "%REQ% needs an argument");
	bad("%DURATION(x)%", "%DURATION% has no argument");
	bad("100% of it", "character 4 is a percent sign");
	bad("%REQ(X-A", "character 1 is a percent sign");
	bad("%CEL(request.path ==)%", "%CEL()%: the expression can't be read");
	bad("%CEL(nothing.known)%", "%CEL()%: the expression asks for something");
}

static void test_arguments_and_limits_are_read(void **state)
{
	struct access_operator op;
	(void)state;
	assert_int_equal(access_operator_read("%REQ(A?B):12% x", &op), 13);
	assert_int_equal(op.id, ACCESS_REQ);
	assert_int_equal(op.max, 12);
	assert_memory_equal(op.argument, "A?B", 3);
	assert_int_equal(op.argument_len, 3);
	assert_int_equal(access_operator_read("%CEL((a) % (b))%)%", &op), 16); /* the first end */
	assert_int_equal(access_operator_read("%NOBODY%", &op), 8);
	assert_int_equal(op.id, -1);
	assert_int_equal(access_operator_read("%%", &op), 0);
	assert_int_equal(access_operator_read("%lower%", &op), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_formats_that_can_be_shown),
		cmocka_unit_test(test_what_is_wrong_is_named),
		cmocka_unit_test(test_arguments_and_limits_are_read),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
