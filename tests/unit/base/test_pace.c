/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/base/pace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { US = 1000 };

static uint64_t now_ns;
static struct pace p;

static int setup(void **state)
{
	(void)state;
	now_ns = 1000000000;
	p = (struct pace){ 0 };
	return 0;
}

/* One turn: a wait, then work, with messages that were read behind others. Returns whether it rested before. */
static bool turn(uint64_t wait_us, uint32_t events, uint64_t work_us, uint32_t together)
{
	bool rested = pace_before(&p, now_ns);
	now_ns += (rested ? PACE_REST_NS : 0) + wait_us * US;
	pace_after(&p, now_ns, events);
	p.together += together;
	now_ns += work_us * US;
	return rested;
}

static void become_busy(void)
{
	for (int i = 0; i < 8 && !turn(1, 1, 8, 0); i++)
		;
	assert_true(p.rested);
}

static size_t rests(size_t turns, uint64_t wait_us, uint32_t events, uint64_t work_us, uint32_t together)
{
	size_t count = 0;
	for (size_t i = 0; i < turns; i++)
		count += turn(wait_us, events, work_us, together);
	return count;
}

static void test_pace_idle_loop_never_rests(void **state)
{
	(void)state;
	assert_int_equal(rests(1000, 60, 1, 8, 0), 0);
}

static void test_pace_single_events_at_once_rests_soon(void **state)
{
	(void)state;
	assert_in_range(rests(8, 1, 1, 8, 0), 1, 8);
}

static void test_pace_waiting_once_in_a_while_is_idle(void **state)
{
	(void)state;
	for (int i = 0; i < 100; i++) {
		assert_int_equal(rests(3, 1, 1, 8, 0), 0);
		assert_false(turn(60, 1, 8, 0));
	}
}

static void test_pace_batches_need_no_rest(void **state)
{
	(void)state;
	assert_int_equal(rests(1000, 1, 12, 30, 0), 0);
}

static void test_pace_long_turns_need_no_rest(void **state)
{
	(void)state;
	assert_int_equal(rests(1000, 1, 2, 100, 0), 0);
}

static void test_pace_futile_rests_are_given_up(void **state)
{
	(void)state;
	/* Four connections of one request each: all that can come has come. */
	size_t few = rests(10000, 1, 3, 8, 0);
	assert_in_range(few, 1, 100);
}

static void test_pace_given_up_rests_are_tried_again(void **state)
{
	(void)state;
	become_busy();
	rests(50, 1, 1, 8, 0);
	assert_false(p.rested);
	assert_in_range(rests(10000, 1, 1, 8, 0), 12, 100);
}

/* Each rest finds what the loop would else have found one by one. */
static void test_pace_rests_that_gather_go_on(void **state)
{
	(void)state;
	become_busy();
	for (int i = 0; i < 100; i++) {
		turn(1, 6, 30, 0);
		assert_in_range(rests(2, 1, 1, 8, 0), 1, 2);
	}
}

static void test_pace_messages_in_one_read_count_as_gathered(void **state)
{
	(void)state;
	become_busy();
	assert_in_range(rests(5000, 1, 1, 30, 5), 4990, 5000);
}

/* Peers need a few rests to join in. */
static void test_pace_slow_start_is_not_given_up(void **state)
{
	(void)state;
	become_busy();
	rests(8, 1, 1, 8, 0);
	assert_in_range(rests(5000, 1, 1, 30, 5), 4980, 5000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_pace_idle_loop_never_rests, setup),
		cmocka_unit_test_setup(test_pace_single_events_at_once_rests_soon, setup),
		cmocka_unit_test_setup(test_pace_waiting_once_in_a_while_is_idle, setup),
		cmocka_unit_test_setup(test_pace_batches_need_no_rest, setup),
		cmocka_unit_test_setup(test_pace_long_turns_need_no_rest, setup),
		cmocka_unit_test_setup(test_pace_futile_rests_are_given_up, setup),
		cmocka_unit_test_setup(test_pace_given_up_rests_are_tried_again, setup),
		cmocka_unit_test_setup(test_pace_rests_that_gather_go_on, setup),
		cmocka_unit_test_setup(test_pace_messages_in_one_read_count_as_gathered, setup),
		cmocka_unit_test_setup(test_pace_slow_start_is_not_given_up, setup),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
