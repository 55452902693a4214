/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "agent/base/err.h"

static void test_err_set_fills_code_and_text(void **state)
{
	(void)state;
	struct err err = ERR_INIT;
	assert_int_equal(err_set(&err, -EINVAL, "port %d is taken", 80), -EINVAL);
	assert_int_equal(err.code, -EINVAL);
	assert_string_equal(err.text, "port 80 is taken");
}

static void test_err_set_own_text_as_argument_is_kept(void **state)
{
	(void)state;
	struct err err = ERR_INIT;
	err_set(&err, -EIO, "inner");
	err_set(&err, -EIO, "outer: %s", err.text);
	assert_string_equal(err.text, "outer: inner");
}

static void test_err_null_only_returns_code(void **state)
{
	(void)state;
	assert_int_equal(err_set(NULL, -EPERM, "x"), -EPERM);
	assert_int_equal(err_sys(NULL, -EPERM, "x"), -EPERM);
	assert_int_equal(err_prefix(NULL, "x"), 0);
}

static void test_err_sys_appends_reason(void **state)
{
	(void)state;
	struct err err = ERR_INIT;
	assert_int_equal(err_sys(&err, -ENOENT, "open %s", "/a"), -ENOENT);
	assert_string_equal(err.text, "open /a: No such file or directory");
}

static void test_err_prefix_adds_context_and_keeps_code(void **state)
{
	(void)state;
	struct err err = ERR_INIT;
	err_set(&err, -EINVAL, "not a duration");
	assert_int_equal(err_prefix(&err, "spec.http[%d]", 2), -EINVAL);
	assert_string_equal(err.text, "spec.http[2]: not a duration");
}

static void test_err_prefix_too_long_is_cut_and_terminated(void **state)
{
	(void)state;
	struct err err = ERR_INIT;
	err_set(&err, -EINVAL, "end");
	for (int i = 0; i < 200; i++)
		err_prefix(&err, "context");
	assert_int_equal(strnlen(err.text, sizeof(err.text)), ERR_TEXT_MAX - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_err_set_fills_code_and_text),
		cmocka_unit_test(test_err_set_own_text_as_argument_is_kept),
		cmocka_unit_test(test_err_null_only_returns_code),
		cmocka_unit_test(test_err_sys_appends_reason),
		cmocka_unit_test(test_err_prefix_adds_context_and_keeps_code),
		cmocka_unit_test(test_err_prefix_too_long_is_cut_and_terminated),
	};
	return cmocka_run_group_tests_name("base/err", tests, NULL, NULL);
}
