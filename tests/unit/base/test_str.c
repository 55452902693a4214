/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"

static void test_sb_builds_text(void **state)
{
	(void)state;
	struct sb sb = { 0 };
	sb_add(&sb, "a=");
	sb_addf(&sb, "%d,%s", 42, "x");
	sb_add_bytes(&sb, "yz", 1);
	AUTO(mem_freep) char *text = sb_take(&sb);
	assert_string_equal(text, "a=42,xy");
	assert_null(sb.p);
}

static void test_sb_long_text_is_whole(void **state)
{
	(void)state;
	struct sb sb = { 0 };
	for (int i = 0; i < 5000; i++)
		sb_addf(&sb, "%04d", i);
	assert_int_equal(sb.len, 20000);
	assert_memory_equal(sb.p + 4 * 4321, "4321", 4);
	sb_done(&sb);
	assert_null(sb.p);
}

static void test_sb_take_of_nothing_is_empty_text(void **state)
{
	(void)state;
	struct sb sb = { 0 };
	AUTO(mem_freep) char *text = sb_take(&sb);
	assert_string_equal(text, "");
}

static void test_sb_after_failure_gives_null(void **state)
{
	(void)state;
	struct sb sb = { 0 };
	sb_add(&sb, "x");
	sb_add_bytes(&sb, "", SIZE_MAX - 1); /* no such memory: not read */
	assert_true(sb.failed);
	sb_add(&sb, "y");
	assert_int_equal(sb.len, 1);
	assert_null(sb_take(&sb));
	assert_null(sb.p);
}

static void test_eq_null_only_equals_null(void **state)
{
	(void)state;
	assert_true(str_eq(NULL, NULL));
	assert_false(str_eq(NULL, ""));
	assert_false(str_eq("", NULL));
	assert_true(str_eq("a", "a"));
	assert_false(str_eq("a", "b"));
}

static void test_starts_ends(void **state)
{
	(void)state;
	assert_true(str_starts("spiffe://x", "spiffe://"));
	assert_false(str_starts("sp", "spiffe"));
	assert_true(str_ends("a.yaml", ".yaml"));
	assert_false(str_ends("yaml", ".yaml"));
	assert_true(str_ends("x", ""));
}

static void test_copy_too_long_is_cut_and_says_so(void **state)
{
	(void)state;
	char buf[4];
	assert_true(str_copy(buf, sizeof(buf), "abc"));
	assert_string_equal(buf, "abc");
	assert_false(str_copy(buf, sizeof(buf), "wxyz"));
	assert_string_equal(buf, "wxy");
	assert_false(str_copy(buf, 0, ""));
}

static void test_to_u64_limits(void **state)
{
	(void)state;
	uint64_t n = 7;
	assert_int_equal(str_to_u64("65535", 65535, &n), 0);
	assert_int_equal(n, 65535);
	assert_int_equal(str_to_u64("65536", 65535, &n), -ERANGE);
	assert_int_equal(str_to_u64("18446744073709551615", UINT64_MAX, &n), 0);
	assert_true(n == UINT64_MAX);
	assert_int_equal(str_to_u64("18446744073709551616", UINT64_MAX, &n), -ERANGE);
	assert_int_equal(str_to_u64("99999999999999999999999999", UINT64_MAX, &n), -ERANGE);
	assert_true(n == UINT64_MAX); /* untouched on failure */
}

static void test_to_u64_bad_text_refused(void **state)
{
	(void)state;
	static const char *const bad[] = { "", "-1", "+1", " 1", "1 ", "0x10", "1e3", "99999999999999999999x" };
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		uint64_t n;
		assert_int_equal(str_to_u64(bad[i], UINT64_MAX, &n), -EINVAL);
	}
}

static void test_to_duration_values(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		uint64_t ns;
	} cases[] = {
		{ "0", 0 },
		{ "0s", 0 },
		{ "10s", 10000000000 },
		{ "250ms", 250000000 },
		{ "1h30m", 5400000000000 },
		{ "0.5s", 500000000 },
		{ ".5s", 500000000 },
		{ "1.s", 1000000000 },
		{ "1.5h", 5400000000000 },
		{ "1m0.25s", 60250000000 },
		{ "7us", 7000 },
		{ "9ns", 9 },
		{ "0.000000001s", 1 },
		{ "1.0000000000000000000000001s", 1000000000 },
		{ "24h", 86400000000000 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t ns;
		assert_int_equal(str_to_duration_ns(cases[i].text, &ns), 0);
		assert_true(ns == cases[i].ns);
	}
}

static void test_to_duration_bad_text_refused(void **state)
{
	(void)state;
	static const char *const bad[] = { "", "2x", "s", ".s", "10", "-1s", "1 s", "1s ", "1s1", "1.2.3s", "1d" };
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		uint64_t ns;
		assert_int_equal(str_to_duration_ns(bad[i], &ns), -EINVAL);
	}
}

static void test_to_duration_too_long_is_erange(void **state)
{
	(void)state;
	uint64_t ns;
	assert_int_equal(str_to_duration_ns("99999999999999999999s", &ns), -ERANGE);
	assert_int_equal(str_to_duration_ns("18446744074s", &ns), -ERANGE);
	assert_int_equal(str_to_duration_ns("5000000h5000000h", &ns), -ERANGE);
}

static void test_distance_counts_edits(void **state)
{
	(void)state;
	assert_int_equal(str_distance("trafficPolicy", "trafficPolicy", 3), 0);
	assert_int_equal(str_distance("host", "hots", 3), 1); /* a swap is one edit */
	assert_int_equal(str_distance("port", "ports", 3), 1);
	assert_int_equal(str_distance("kitten", "sitting", 5), 3);
	assert_int_equal(str_distance("", "ab", 5), 2);
	assert_int_equal(str_distance("abc", "xyz", 2), 3); /* limit + 1 */
	assert_int_equal(str_distance("a", "abcdefgh", 2), 3);
}

static void test_distance_very_long_text_is_past_limit(void **state)
{
	(void)state;
	char text[4096];
	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	assert_int_equal(str_distance(text, text, 2), 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sb_builds_text),
		cmocka_unit_test(test_sb_long_text_is_whole),
		cmocka_unit_test(test_sb_take_of_nothing_is_empty_text),
		cmocka_unit_test(test_sb_after_failure_gives_null),
		cmocka_unit_test(test_eq_null_only_equals_null),
		cmocka_unit_test(test_starts_ends),
		cmocka_unit_test(test_copy_too_long_is_cut_and_says_so),
		cmocka_unit_test(test_to_u64_limits),
		cmocka_unit_test(test_to_u64_bad_text_refused),
		cmocka_unit_test(test_to_duration_values),
		cmocka_unit_test(test_to_duration_bad_text_refused),
		cmocka_unit_test(test_to_duration_too_long_is_erange),
		cmocka_unit_test(test_distance_counts_edits),
		cmocka_unit_test(test_distance_very_long_text_is_past_limit),
	};
	return cmocka_run_group_tests_name("base/str", tests, NULL, NULL);
}
