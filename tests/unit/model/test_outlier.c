/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/model/outlier.h"

static struct outlier *o;
static const struct outlier_settings settings = {
	.consecutive_failures = 3, .interval_ms = 10000, .base_ejection_ms = 30000, .max_ejection_percent = 10
};

static int on_setup(void **state)
{
	(void)state;
	o = outlier_new();
	return o ? 0 : -1;
}

static int on_teardown(void **state)
{
	(void)state;
	outlier_free(o);
	return 0;
}

static struct addr_port endpoint(uint16_t port)
{
	struct addr_port ap = { .port = port };

	addr_parse("10.0.0.1", &ap.addr);
	return ap;
}

static bool fail_once(uint64_t now_ms, uint16_t port)
{
	struct addr_port ap = endpoint(port);

	return outlier_report(o, now_ms, &ap, &settings, false);
}

static void succeed(uint64_t now_ms, uint16_t port)
{
	struct addr_port ap = endpoint(port);

	assert_false(outlier_report(o, now_ms, &ap, &settings, true));
}

static size_t ejected(void)
{
	size_t n;

	outlier_ejected(o, &n);
	return n;
}

static void eject(uint64_t now_ms, uint16_t port)
{
	assert_false(fail_once(now_ms, port));
	assert_false(fail_once(now_ms, port));
	assert_true(fail_once(now_ms, port));
}

static void test_failures_in_a_row_eject(void **state)
{
	(void)state;
	eject(1000, 80);
	assert_int_equal(ejected(), 1);
	assert_false(fail_once(1001, 80)); /* it is out already */
}

static void test_success_between_failures_starts_over(void **state)
{
	(void)state;
	fail_once(0, 80);
	fail_once(0, 80);
	succeed(0, 80);
	assert_false(fail_once(0, 80));
	assert_int_equal(ejected(), 0);
}

static void test_ejection_ends_and_the_next_is_longer(void **state)
{
	(void)state;
	uint64_t next;

	eject(0, 80);
	assert_false(outlier_expire(o, 29999, &next));
	assert_int_equal(next, 30000);
	assert_true(outlier_expire(o, 30000, &next));
	assert_int_equal(ejected(), 0);

	eject(31000, 80);
	assert_false(outlier_expire(o, 31000 + 59999, &next));
	assert_int_equal(next, 31000 + 60000);
	assert_true(outlier_expire(o, next, &next));
}

static void test_time_without_trouble_forgives(void **state)
{
	(void)state;
	uint64_t next;

	eject(0, 80);
	outlier_expire(o, 30000, &next);
	assert_int_equal(next, 40000);
	assert_false(outlier_expire(o, 40000, &next));
	assert_int_equal(next, 0); /* nothing to wait for */
	eject(50000, 80);
	outlier_expire(o, 50000, &next);
	assert_int_equal(next, 80000); /* as the first time */
}

static void test_ejection_has_a_longest_time(void **state)
{
	(void)state;
	uint64_t next, now = 0;

	for (int i = 0; i < 15; i++) {
		eject(now, 80);
		outlier_expire(o, now, &next);
		assert_true(next - now <= OUTLIER_MAX_EJECTION_MS);
		now = next;
		assert_true(outlier_expire(o, now, &next));
	}
	assert_int_equal(ejected(), 0);
}

static void test_ejected_are_in_the_order_of_ejection(void **state)
{
	(void)state;
	size_t n;

	eject(20, 81);
	eject(10, 82);
	eject(30, 80);
	const struct addr_port *list = outlier_ejected(o, &n);
	assert_int_equal(n, 3);
	assert_int_equal(list[0].port, 82);
	assert_int_equal(list[1].port, 81);
	assert_int_equal(list[2].port, 80);
}

static void test_off_counts_nothing(void **state)
{
	(void)state;
	const struct outlier_settings off = { 0 };
	struct addr_port ap = endpoint(80);

	for (int i = 0; i < 100; i++)
		assert_false(outlier_report(o, 0, &ap, &off, false));
	assert_int_equal(ejected(), 0);
}

static void test_usable_keeps_to_the_percentages(void **state)
{
	(void)state;
	static const struct {
		uint8_t max_ejection, min_health;
		size_t ejected, want_usable; /* of 10 */
	} rows[] = {
		{ 10, 0, 1, 9 }, { 10, 0, 5, 9 },   { 50, 0, 4, 6 },   { 50, 0, 9, 5 },	   { 0, 0, 3, 10 },
		{ 1, 0, 3, 9 },	 { 100, 0, 10, 0 }, { 100, 50, 5, 5 }, { 100, 50, 6, 10 }, { 100, 100, 1, 10 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct outlier_settings s = { .consecutive_failures = 1,
						    .max_ejection_percent = rows[i].max_ejection,
						    .min_health_percent = rows[i].min_health };
		bool out[10] = { false }, usable[10];
		size_t n = 0;
		for (size_t k = 0; k < rows[i].ejected; k++)
			out[k] = true;
		outlier_usable(&s, out, 10, usable);
		for (size_t k = 0; k < 10; k++)
			n += usable[k];
		if (n != rows[i].want_usable)
			fail_msg("row %zu: %zu usable", i, n);
	}
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, on_setup, on_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_failures_in_a_row_eject),
		CASE(test_success_between_failures_starts_over),
		CASE(test_ejection_ends_and_the_next_is_longer),
		CASE(test_time_without_trouble_forgives),
		CASE(test_ejection_has_a_longest_time),
		CASE(test_ejected_are_in_the_order_of_ejection),
		CASE(test_off_counts_nothing),
		CASE(test_usable_keeps_to_the_percentages),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
