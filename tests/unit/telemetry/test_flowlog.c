/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */
#include "agent/telemetry/flowlog.h"

static void add(struct flowlog *log, uint64_t time_ns)
{
	struct flow flow = { .time_ns = time_ns, .kind = FLOW_OPENED };
	flowlog_add(log, &flow, NULL);
}

static void test_next_of_empty_log_is_none(void **state)
{
	(void)state;
	struct flowlog *log = flowlog_new(4);
	assert_null(flowlog_next(log, 0));
	assert_int_equal(flowlog_oldest(log), 0);
	flowlog_free(log);
}

static void test_next_walks_in_order(void **state)
{
	(void)state;
	struct flowlog *log = flowlog_new(4);
	for (uint64_t i = 1; i <= 3; i++)
		add(log, i * 10);
	uint64_t after = 0, n = 0;
	for (const struct flow_entry *e; (e = flowlog_next(log, after)); after = e->sequence)
		assert_int_equal(e->flow.time_ns, ++n * 10);
	assert_int_equal(n, 3);
	flowlog_free(log);
}

static void test_next_for_slow_reader_jumps_to_the_oldest(void **state)
{
	(void)state;
	struct flowlog *log = flowlog_new(4);
	for (uint64_t i = 1; i <= 10; i++)
		add(log, i);
	const struct flow_entry *e = flowlog_next(log, 2);
	assert_int_equal(e->sequence, 7);
	assert_int_equal(flowlog_oldest(log), 7);
	assert_int_equal(flowlog_newest(log), 10);
	assert_null(flowlog_next(log, 10));
	flowlog_free(log);
}

static void test_add_long_rule_is_cut(void **state)
{
	(void)state;
	struct flowlog *log = flowlog_new(4);
	struct flow flow = { 0 };
	char rule[300];
	for (size_t i = 0; i < sizeof(rule) - 1; i++)
		rule[i] = 'r';
	rule[sizeof(rule) - 1] = 0;
	flowlog_add(log, &flow, rule);
	assert_int_equal(flowlog_next(log, 0)->rule[78], 'r');
	assert_int_equal(flowlog_next(log, 0)->rule[79], 0);
	flowlog_free(log);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_next_of_empty_log_is_none),
		cmocka_unit_test(test_next_walks_in_order),
		cmocka_unit_test(test_next_for_slow_reader_jumps_to_the_oldest),
		cmocka_unit_test(test_add_long_rule_is_cut),
	};
	return cmocka_run_group_tests_name("flowlog", tests, NULL, NULL);
}
