/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/base/regex.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"

static struct regex *compiled(const char *pattern)
{
	struct regex *re;
	struct err err = ERR_INIT;

	if (regex_new(pattern, false, &re, &err) < 0)
		fail_msg("%s: %s", pattern, err.text);
	return re;
}

static void test_match_is_of_the_whole_text(void **state)
{
	(void)state;
	static const struct {
		const char *pattern, *text;
		int want;
	} rows[] = {
		{ "a", "a", 1 },
		{ "a", "ab", 0 },
		{ "a", "ba", 0 },
		{ "a|ab", "ab", 1 }, /* whatever alternative comes first */
		{ "a+?", "aaa", 1 },
		{ "^/v[0-9]+/.*$", "/v12/x", 1 },
		{ "^/v[0-9]+/.*$", "/v/x", 0 },
		{ "a$", "a\n", 0 },
		{ "a.c", "a\nc", 0 },
		{ "(?s)a.c", "a\nc", 1 },
		{ "(?i)ABC", "abc", 1 },
		{ "ABC", "abc", 0 },
		{ "(?P<x>a)(?:b)(?<y>c)", "abc", 1 },
		{ "[[:alpha:]]+[]x]", "ab]", 1 },
		{ "\\Qa.b\\E", "a.b", 1 },
		{ "\\Qa.b\\E", "axb", 0 },
		{ "\\d{3}-\\w+\\.\\x41", "123-a_b.A", 1 },
		{ "a{,3}", "a{,3}", 1 }, /* a letter, not a repetition */
		{ "", "", 1 },
		{ "", "a", 0 },
		{ "\xc3\xa9.", "\xc3\xa9\xc3\xa8", 1 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		AUTO(regex_freep) struct regex *re = compiled(rows[i].pattern);
		if (regex_match(re, rows[i].text, strlen(rows[i].text)) != rows[i].want)
			fail_msg("\"%s\" on \"%s\"", rows[i].pattern, rows[i].text);
	}
}

static void test_bytes_are_matched_with_their_length(void **state)
{
	(void)state;
	AUTO(regex_freep) struct regex *re = compiled("a\\x00b");
	assert_int_equal(regex_match(re, "a\0b", 3), 1);
	assert_int_equal(regex_match(re, "a\0bc", 3), 1);
	assert_int_equal(regex_match(re, "a", 1), 0);
	AUTO(regex_freep) struct regex *high = compiled("[^/]+");
	assert_int_equal(regex_match(high, "\xff\xfe", 2), 1);
}

static void test_case_may_be_ignored(void **state)
{
	(void)state;
	AUTO(regex_freep) struct regex *re = NULL;
	assert_int_equal(regex_new("a[b-c]", true, &re, NULL), 0);
	assert_true(regex_matches(re, "AB", 2));
}

static void test_what_re2_refuses_is_refused(void **state)
{
	(void)state;
	static const char *const patterns[] = {
		"(a)\\1",
		"(?P<x>a)(?P=x)",
		"(?<x>a)\\k<x>",
		"a(?=b)",
		"a(?!b)",
		"(?<=a)b",
		"(?<!a)b",
		"(?>a)",
		"(?|a|b)",
		"(?R)",
		"(a)(?1)",
		"a++",
		"a*+",
		"a**",
		"a{2}{3}",
		"(*UTF)a",
		"(?C1)a",
		"(?#x)a",
		"(?(1)a)",
		"a{1001}",
		"a{2,1001}",
		"\\Ka",
		"\\Ga",
		"\\R",
		"\\X",
		"\\C",
		"\\h",
		"[a",
		"(a",
		"a)",
		"*a",
		"a\\",
		"(?x)a b",
		"[[.a.]]",
		"\\g1",
		"[b-a]",
		"\\e",
		"\\o{12}",
		"\\cA",
	};

	for (size_t i = 0; i < ARRAY_SIZE(patterns); i++) {
		struct regex *re = NULL;
		struct err err = ERR_INIT;
		int rc = regex_new(patterns[i], false, &re, &err);
		if (rc != -EINVAL || re || !strstr(err.text, "regex"))
			fail_msg("\"%s\" was taken (%d): %s", patterns[i], rc, err.text);
	}
	AUTO(mem_freep) char *long_one = malloc(REGEX_PATTERN_MAX + 2);
	assert_non_null(long_one);
	memset(long_one, 'a', REGEX_PATTERN_MAX + 1);
	long_one[REGEX_PATTERN_MAX + 1] = 0;
	struct regex *re;
	assert_int_equal(regex_new(long_one, false, &re, NULL), -EINVAL);
}

static double now_s(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Exponential for a matcher that backtracks without limits. Where an answer is given, it is the right one. */
static void test_backtracking_is_bounded(void **state)
{
	(void)state;
	static const struct {
		const char *pattern;
		char last;
		bool answered;
	} rows[] = {
		{ "(a+)+", 'a', false },  { "(a|a)*", 'a', true },	    { "(a*)*b", 'b', true },
		{ "(a|aa)+", 'a', true }, { "([a-z]+)*[0-9]", '7', false }, { "(.*)(.*)(.*)(.*)(.*)x", 'x', true },
	};
	char text[4001];
	memset(text, 'a', 4000);
	text[4000] = 0;
	double start = now_s();

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		AUTO(regex_freep) struct regex *re = compiled(rows[i].pattern);
		text[3999] = '!';
		int rc = regex_match(re, text, 4000);
		assert_int_equal(rc, rows[i].answered ? 0 : -E2BIG);
		assert_false(regex_matches(re, text, 4000));
		text[3999] = rows[i].last;
		assert_int_equal(regex_match(re, text + 3960, 40), 1);
		if (rows[i].answered)
			assert_int_equal(regex_match(re, text, 4000), 1);
	}
	assert_true(now_s() - start < 30); /* hours without limits; sanitizers are slow */
}

static void test_replace_follows_re2(void **state)
{
	(void)state;
	static const struct {
		const char *pattern, *text, *substitution, *want;
	} rows[] = {
		{ "^/service/([^/]+)(/.*)$", "/service/foo/v1/api", "\\2/instance/\\1", "/v1/api/instance/foo" },
		{ "one", "/xxx/one/yyy/one/zzz", "two", "/xxx/two/yyy/two/zzz" }, /* Envoy's documentation */
		{ "^(.*?)one(.*)$", "/xxx/one/yyy/one/zzz", "\\1two\\2", "/xxx/two/yyy/one/zzz" },
		{ "(?i)/xxx/", "/aaa/XxX/bbb", "/yyy/", "/aaa/yyy/bbb" },
		{ "x", "abc", "y", "abc" },
		{ "b*", "abc", "-", "-a-c-" },
		{ "", "ab", ".", ".a.b." },
		{ "a", "a", "\\\\\\0", "\\a" },
		{ "(a)|(b)", "ab", "[\\1|\\2]", "[a|][|b]" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		AUTO(regex_freep) struct regex *re = compiled(rows[i].pattern);
		AUTO(mem_freep) char *out = NULL;
		assert_int_equal(regex_substitution_check(re, rows[i].substitution, NULL), 0);
		assert_int_equal(regex_replace(re, rows[i].text, strlen(rows[i].text), rows[i].substitution, &out), 0);
		assert_string_equal(out, rows[i].want);
	}
}

static void test_replace_is_checked_and_bounded(void **state)
{
	(void)state;
	AUTO(regex_freep) struct regex *re = compiled("(a)");
	struct err err = ERR_INIT;
	assert_int_equal(regex_substitution_check(re, "\\2", &err), -EINVAL);
	assert_non_null(strstr(err.text, "has 1 groups"));
	assert_int_equal(regex_substitution_check(re, "x\\", &err), -EINVAL);
	assert_int_equal(regex_substitution_check(re, "\\n", &err), -EINVAL);

	AUTO(mem_freep) char *many = calloc(1, 900 + 1);
	AUTO(mem_freep) char *wide = calloc(1, 100 + 1);
	assert_non_null(many);
	assert_non_null(wide);
	memset(many, 'a', 900);
	memset(wide, 'b', 100);
	char *out = NULL;
	assert_int_equal(regex_replace(re, many, 900, wide, &out), -E2BIG);
	assert_null(out);
}

static void test_search_finds_a_part(void **state)
{
	(void)state;
	AUTO(regex_freep) struct regex *re = compiled("b+");
	assert_int_equal(regex_search(re, "abc", 3), 1);
	assert_int_equal(regex_search(re, "ac", 2), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_match_is_of_the_whole_text),
		cmocka_unit_test(test_bytes_are_matched_with_their_length),
		cmocka_unit_test(test_case_may_be_ignored),
		cmocka_unit_test(test_what_re2_refuses_is_refused),
		cmocka_unit_test(test_backtracking_is_bounded),
		cmocka_unit_test(test_replace_follows_re2),
		cmocka_unit_test(test_replace_is_checked_and_bounded),
		cmocka_unit_test(test_search_finds_a_part),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
