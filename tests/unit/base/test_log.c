/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/log.h"

static char last[16384];
static enum log_level last_level;
static int lines;

static void on_line(enum log_level level, const char *line, void *arg)
{
	assert_ptr_equal(arg, last);
	last_level = level;
	lines++;
	strncpy(last, line, sizeof(last) - 1);
}

static int setup(void **state)
{
	(void)state;
	lines = 0;
	memset(last, 0, sizeof(last));
	log_init("unit", false);
	log_set_level(LOG_INFO);
	log_set_sink(on_line, last);
	return 0;
}

static void test_line_has_time_level_component_text(void **state)
{
	(void)state;
	log_warn("disk %d%% full", 90);
	assert_int_equal(lines, 1);
	assert_int_equal(last_level, LOG_WARN);
	assert_int_equal(last[10], 'T');
	assert_int_equal(last[23], 'Z');
	assert_string_equal(last + 25, "warn  unit: disk 90% full");
}

static void test_level_below_is_dropped(void **state)
{
	(void)state;
	log_debug("not seen");
	assert_int_equal(lines, 0);
	log_set_level(LOG_DEBUG);
	log_debug("seen");
	assert_int_equal(lines, 1);
	log_set_level(LOG_ERROR);
	log_warn("not seen");
	assert_int_equal(lines, 1);
}

static void test_control_characters_are_escaped(void **state)
{
	(void)state;
	log_info("peer said \"a\n\x1b[2J\"");
	assert_string_equal(last + 25, "info  unit: peer said \"a\\x0a\\x1b[2J\"");
}

static void test_json_escapes_quotes(void **state)
{
	(void)state;
	log_init("unit", true);
	log_error("say \"x\\y\"\n");
	assert_non_null(strstr(
		last, "\"level\":\"error\",\"component\":\"unit\",\"msg\":\"say \\u0022x\\u005cy\\u0022\\u000a\"}"));
	assert_int_equal(last[0], '{');
}

static void test_long_text_is_cut(void **state)
{
	(void)state;
	char text[5000];
	memset(text, '\n', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	log_info("%s", text);
	assert_int_equal(strlen(last + 25 + strlen("info  unit: ")), 2047 * 4);
}

static void test_stderr_gets_one_line(void **state)
{
	(void)state;
	int pipes[2], saved = dup(STDERR_FILENO);
	assert_int_equal(pipe(pipes), 0);
	dup2(pipes[1], STDERR_FILENO);
	log_set_sink(NULL, NULL);
	errno = ENOENT;
	log_info("hello");
	int kept = errno;
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(pipes[1]);

	char buf[256];
	ssize_t n = read(pipes[0], buf, sizeof(buf) - 1);
	close(pipes[0]);
	assert_true(n > 0);
	buf[n] = 0;
	assert_string_equal(buf + 25, "info  unit: hello\n");
	assert_int_equal(kept, ENOENT);
}

static void test_level_parse_knows_names(void **state)
{
	(void)state;
	enum log_level level = LOG_ERROR;
	assert_int_equal(log_level_parse("debug", &level), 0);
	assert_int_equal(level, LOG_DEBUG);
	assert_int_equal(log_level_parse("verbose", &level), -EINVAL);
	assert_string_equal(log_level_name(LOG_WARN), "warn");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_line_has_time_level_component_text, setup),
		cmocka_unit_test_setup(test_level_below_is_dropped, setup),
		cmocka_unit_test_setup(test_control_characters_are_escaped, setup),
		cmocka_unit_test_setup(test_json_escapes_quotes, setup),
		cmocka_unit_test_setup(test_long_text_is_cut, setup),
		cmocka_unit_test_setup(test_stderr_gets_one_line, setup),
		cmocka_unit_test_setup(test_level_parse_knows_names, setup),
	};
	return cmocka_run_group_tests_name("base/log", tests, NULL, NULL);
}
