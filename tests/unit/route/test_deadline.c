/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/route/deadline.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "agent/base/err.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"

static struct loop *loop;
static struct deadlines *wheel;
static uint64_t start_ns;

struct one {
	struct deadline d;
	int fired;
	struct one *clears, *sets;
};

static void on_due(struct deadline *d)
{
	struct one *o = container_of(d, struct one, d);
	o->fired++;
	if (o->clears)
		deadline_clear(wheel, &o->clears->d);
	if (o->sets)
		deadline_set(wheel, &o->sets->d, 10, on_due);
}

static int setup(void **state)
{
	(void)state;
	struct err err = ERR_INIT;
	wheel = calloc(1, sizeof(*wheel));
	if (loop_new(&loop, &err) < 0)
		return -1;
	start_ns = loop_now_ns(loop);
	return deadlines_init(wheel, loop);
}

static int teardown(void **state)
{
	(void)state;
	deadlines_done(wheel);
	free(wheel);
	loop_free(loop);
	return 0;
}

static void at(uint64_t ms)
{
	deadlines_run(wheel, start_ns + ms * 1000000);
}

static void test_due_when_it_is_time_and_once(void **state)
{
	(void)state;
	struct one o = { 0 };
	deadline_set(wheel, &o.d, 50, on_due);
	at(40);
	assert_int_equal(o.fired, 0);
	at(70);
	at(90);
	assert_int_equal(o.fired, 1);
	assert_false(o.d.set);
	assert_int_equal(wheel->count, 0);
}

static void test_beyond_a_turn_waits_for_its_own(void **state)
{
	(void)state;
	struct one near = { 0 }, far = { 0 };
	deadline_set(wheel, &near.d, 100, on_due);
	deadline_set(wheel, &far.d, 100 + DEADLINE_SLOTS * DEADLINE_TICK_MS, on_due); /* the same slot */
	at(150);
	assert_int_equal(near.fired, 1);
	assert_int_equal(far.fired, 0);
	at(150 + DEADLINE_SLOTS * DEADLINE_TICK_MS);
	assert_int_equal(far.fired, 1);
}

static void test_a_long_sleep_misses_none(void **state)
{
	(void)state;
	struct one many[100] = { 0 };
	for (size_t i = 0; i < ARRAY_SIZE(many); i++)
		deadline_set(wheel, &many[i].d, i * 317, on_due);
	at(100 * 317 + 10000000);
	for (size_t i = 0; i < ARRAY_SIZE(many); i++)
		assert_int_equal(many[i].fired, 1);
	assert_int_equal(wheel->count, 0);
}

static void test_setting_again_replaces(void **state)
{
	(void)state;
	struct one o = { 0 };
	deadline_set(wheel, &o.d, 10, on_due);
	deadline_set(wheel, &o.d, 500, on_due);
	at(100);
	assert_int_equal(o.fired, 0);
	deadline_clear(wheel, &o.d);
	deadline_clear(wheel, &o.d);
	at(1000);
	assert_int_equal(o.fired, 0);
}

static void test_callbacks_may_clear_and_set_others(void **state)
{
	(void)state;
	struct one a = { 0 }, b = { 0 }, c = { 0 };
	a.clears = &b;
	b.clears = &a;
	a.sets = b.sets = &c;
	deadline_set(wheel, &a.d, 20, on_due);
	deadline_set(wheel, &b.d, 20, on_due);
	at(40);
	assert_int_equal(a.fired + b.fired, 1); /* whichever came first cleared the other */
	assert_int_equal(c.fired, 0);
	at(100);
	assert_int_equal(c.fired, 1);
}

static void test_timer_of_the_loop_runs_it(void **state)
{
	(void)state;
	struct one o = { 0 };
	deadline_set(wheel, &o.d, 20, on_due);
	loop_run(loop); /* ends when no timer is left */
	assert_int_equal(o.fired, 1);
	assert_true(clock_now_ns() - start_ns >= 20000000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_due_when_it_is_time_and_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_beyond_a_turn_waits_for_its_own, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_long_sleep_misses_none, setup, teardown),
		cmocka_unit_test_setup_teardown(test_setting_again_replaces, setup, teardown),
		cmocka_unit_test_setup_teardown(test_callbacks_may_clear_and_set_others, setup, teardown),
		cmocka_unit_test_setup_teardown(test_timer_of_the_loop_runs_it, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
