/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/model/lb.h"

static void schedule_check(const uint32_t *weights, size_t n, const uint32_t *want, size_t want_n)
{
	uint32_t *slots;
	size_t count;

	assert_int_equal(lb_schedule(weights, n, &slots, &count), 0);
	assert_int_equal(count, want_n);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(slots[i], want[i]);
	free(slots);
}

static void test_schedule_of_nothing_is_empty(void **state)
{
	(void)state;
	schedule_check(NULL, 0, NULL, 0);
}

static void test_schedule_of_equal_weights_is_one_slot_each(void **state)
{
	(void)state;
	schedule_check((uint32_t[]){ 7, 7, 7 }, 3, (uint32_t[]){ 0, 1, 2 }, 3);
	schedule_check((uint32_t[]){ 0, 0 }, 2, (uint32_t[]){ 0, 1 }, 2);
}

static void test_schedule_spreads_a_heavy_endpoint(void **state)
{
	(void)state;
	schedule_check((uint32_t[]){ 5, 1, 1 }, 3, (uint32_t[]){ 0, 0, 1, 0, 2, 0, 0 }, 7);
	schedule_check((uint32_t[]){ 200, 100 }, 2, (uint32_t[]){ 0, 1, 0 }, 3);
}

/* How many slots each of n endpoints has. */
static void slots_count(const uint32_t *slots, size_t count, uint32_t *of, size_t n)
{
	memset(of, 0, n * sizeof(*of));
	for (size_t i = 0; i < count; i++) {
		assert_true(slots[i] < n);
		of[slots[i]]++;
	}
}

static void test_schedule_of_great_weights_is_bounded_and_proportional(void **state)
{
	(void)state;
	const uint32_t weights[] = { 4000000000u, 2000000001u, 1, 999999999u };
	uint32_t *slots, of[4];
	size_t count;

	assert_int_equal(lb_schedule(weights, 4, &slots, &count), 0);
	assert_int_equal(count, LB_SCHEDULE_MAX);
	slots_count(slots, count, of, 4);
	assert_in_range(of[0], 583, 586);
	assert_in_range(of[1], 291, 294);
	assert_int_equal(of[2], 1);
	assert_in_range(of[3], 145, 147);
	free(slots);
}

static void test_schedule_of_many_unequal_endpoints_gives_each_a_slot(void **state)
{
	(void)state;
	enum { MANY = 1000 };
	static uint32_t weights[MANY], of[MANY];
	uint32_t *slots;
	size_t count;

	for (uint32_t i = 0; i < MANY; i++)
		weights[i] = i % 7 ? 1 : 1000003;
	assert_int_equal(lb_schedule(weights, MANY, &slots, &count), 0);
	assert_int_equal(count, LB_SCHEDULE_MAX);
	slots_count(slots, count, of, MANY);
	for (size_t i = 0; i < MANY; i++)
		assert_true(of[i] >= 1);
	free(slots);
}

static void test_schedule_past_the_bound_is_one_slot_each(void **state)
{
	(void)state;
	enum { MANY = 3000 };
	static uint32_t weights[MANY], of[MANY];
	uint32_t *slots;
	size_t count;

	for (uint32_t i = 0; i < MANY; i++)
		weights[i] = i + 1;
	assert_int_equal(lb_schedule(weights, MANY, &slots, &count), 0);
	assert_int_equal(count, MANY);
	slots_count(slots, count, of, MANY);
	for (size_t i = 0; i < MANY; i++)
		assert_int_equal(of[i], 1);
	free(slots);
}

enum { KEYS = 20 };

static void keys_fill(uint64_t *keys, uint32_t *weights)
{
	for (size_t i = 0; i < KEYS; i++) {
		keys[i] = 0x9e3779b97f4a7c15ull * (i + 1);
		weights[i] = 1;
	}
}

static void test_maglev_size_is_a_prime_in_range(void **state)
{
	(void)state;
	for (size_t n = 1; n < 5000; n += 7) {
		size_t size = lb_maglev_size(n);
		assert_in_range(size, LB_MAGLEV_MIN, LB_MAGLEV_MAX);
		assert_true(size >= n * 100 || size == LB_MAGLEV_MAX);
		for (size_t d = 2; d * d <= size; d++)
			assert_int_not_equal(size % d, 0);
	}
}

static void test_maglev_spreads_evenly(void **state)
{
	(void)state;
	uint64_t keys[KEYS];
	uint32_t weights[KEYS], *slots, of[KEYS];
	size_t count;

	keys_fill(keys, weights);
	assert_int_equal(lb_maglev(keys, weights, KEYS, &slots, &count), 0);
	assert_int_equal(count, lb_maglev_size(KEYS));
	slots_count(slots, count, of, KEYS);
	for (size_t i = 0; i < KEYS; i++)
		assert_in_range(of[i], count / KEYS, count / KEYS + 1);
	free(slots);
}

static void test_maglev_weights_are_kept(void **state)
{
	(void)state;
	uint64_t keys[3] = { 11, 22, 33 };
	uint32_t weights[3] = { 1, 3, 1000000 }, *slots, of[3];
	size_t count;

	assert_int_equal(lb_maglev(keys, weights, 3, &slots, &count), 0);
	slots_count(slots, count, of, 3);
	assert_true(of[0] >= 1 && of[1] >= 1 && of[2] > count * 9 / 10);
	free(slots);
	weights[2] = 4;
	assert_int_equal(lb_maglev(keys, weights, 3, &slots, &count), 0);
	slots_count(slots, count, of, 3);
	assert_in_range(of[0], count / 8 - 2, count / 8 + 2);
	assert_in_range(of[1], count * 3 / 8 - 2, count * 3 / 8 + 2);
	free(slots);
}

/* Taking one endpoint away moves few of the other slots; their order does not matter at all. */
static void test_maglev_is_stable(void **state)
{
	(void)state;
	uint64_t keys[KEYS], reversed[KEYS];
	uint32_t weights[KEYS], *all, *turned, *fewer;
	size_t count, same = 0, others = 0;

	keys_fill(keys, weights);
	for (size_t i = 0; i < KEYS; i++)
		reversed[i] = keys[KEYS - 1 - i];
	assert_int_equal(lb_maglev(keys, weights, KEYS, &all, &count), 0);
	assert_int_equal(lb_maglev(reversed, weights, KEYS, &turned, &count), 0);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(all[i], KEYS - 1 - turned[i]);

	size_t fewer_count;
	assert_int_equal(lb_maglev(keys, weights, KEYS - 1, &fewer, &fewer_count), 0);
	assert_int_equal(fewer_count, count);
	for (size_t i = 0; i < count; i++) {
		if (all[i] == KEYS - 1)
			continue;
		others++;
		same += all[i] == fewer[i];
	}
	assert_true(same * 100 > others * 85);
	free(all);
	free(turned);
	free(fewer);
}

static void test_maglev_of_too_many_is_refused(void **state)
{
	(void)state;
	uint32_t *slots;
	size_t count;
	uint64_t *keys = calloc(LB_MAGLEV_MAX + 1, sizeof(*keys));
	uint32_t *weights = calloc(LB_MAGLEV_MAX + 1, sizeof(*weights));

	assert_int_equal(lb_maglev(keys, weights, LB_MAGLEV_MAX + 1, &slots, &count), -E2BIG);
	assert_int_equal(lb_maglev(keys, weights, 0, &slots, &count), 0);
	assert_null(slots);
	free(keys);
	free(weights);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_schedule_of_nothing_is_empty),
		cmocka_unit_test(test_schedule_of_equal_weights_is_one_slot_each),
		cmocka_unit_test(test_schedule_spreads_a_heavy_endpoint),
		cmocka_unit_test(test_schedule_of_great_weights_is_bounded_and_proportional),
		cmocka_unit_test(test_schedule_of_many_unequal_endpoints_gives_each_a_slot),
		cmocka_unit_test(test_schedule_past_the_bound_is_one_slot_each),
		cmocka_unit_test(test_maglev_size_is_a_prime_in_range),
		cmocka_unit_test(test_maglev_spreads_evenly),
		cmocka_unit_test(test_maglev_weights_are_kept),
		cmocka_unit_test(test_maglev_is_stable),
		cmocka_unit_test(test_maglev_of_too_many_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
