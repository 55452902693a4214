/* SPDX-License-Identifier: Apache-2.0 */
/* The table of token buckets under a clock of the test's own. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "agent/helper/filter/ratelimit_buckets.h"

static struct buckets *b;

static int on_setup(void **state)
{
	(void)state;
	b = buckets_new();
	return b ? 0 : -1;
}

static int on_teardown(void **state)
{
	(void)state;
	buckets_free(b);
	return 0;
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, on_setup, on_teardown)

static const uint64_t ms = 1000000;

static struct bucket_key key(uint64_t n)
{
	return bucket_key(&n, sizeof(n));
}

static size_t allowed(uint64_t n, const struct token_bucket *c, uint64_t now_ns, size_t times)
{
	size_t got = 0;
	for (size_t i = 0; i < times; i++)
		got += buckets_take(b, key(n), 0, c, now_ns).allowed;
	return got;
}

static void test_fills_at_the_end_of_intervals(void **state)
{
	(void)state;
	const struct token_bucket c = { 5, 2, 1000 };
	const uint64_t t = 77 * ms;
	static const struct {
		uint64_t at_ms;
		size_t allowed;
	} rows[] = { { 0, 5 },	  { 1, 0 },    { 999, 0 },   { 1000, 2 },  { 1999, 0 }, { 2500, 2 },
		     { 2999, 0 }, { 3000, 2 }, { 60000, 5 }, { 60999, 0 }, { 61000, 2 } };
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(allowed(1, &c, t + rows[i].at_ms * ms, 20), rows[i].allowed);
}

static void test_says_what_is_left_and_until_when(void **state)
{
	(void)state;
	const struct token_bucket c = { 2, 1, 60000 };
	struct bucket_state s = buckets_take(b, key(1), 0, &c, 0);
	assert_true(s.allowed);
	assert_int_equal(s.remaining, 1);
	assert_int_equal(s.reset_ms, 60000);
	s = buckets_take(b, key(1), 0, &c, 20000 * ms);
	assert_int_equal(s.remaining, 0);
	assert_int_equal(s.reset_ms, 40000);
	s = buckets_take(b, key(1), 0, &c, 20001 * ms);
	assert_false(s.allowed || s.no_room);
	assert_int_equal(s.reset_ms, 39999);
}

static void test_clocks_that_are_behind_and_large_steps(void **state)
{
	(void)state;
	const struct token_bucket c = { UINT32_MAX, 3, 50 };
	assert_int_equal(allowed(1, &c, 1000 * ms, 10), 10);
	assert_int_equal(buckets_take(b, key(1), 0, &c, 900 * ms).remaining, UINT32_MAX - 11);
	assert_int_equal(buckets_take(b, key(1), 0, &c, 1050 * ms).remaining, UINT32_MAX - 12 + 3);
	assert_int_equal(buckets_take(b, key(1), 0, &c, UINT64_MAX / 2).remaining, UINT32_MAX - 1);
	const struct token_bucket none = { 0, 0, 1000 };
	assert_int_equal(allowed(2, &none, 0, 10), 0);
	assert_int_equal(allowed(2, &none, 5000 * ms, 10), 0);
	assert_int_equal(buckets_count(b), 1);
}

static void test_keys_have_buckets_of_their_own(void **state)
{
	(void)state;
	const struct token_bucket c = { 1, 1, 1000 };
	for (uint64_t i = 0; i < 1000; i++)
		assert_int_equal(allowed(i, &c, 0, 3), 1);
	assert_int_equal(buckets_count(b), 1000);
}

/* More keys than places: those of full buckets are used again, and when there is none, nothing passes. */
static void test_no_room_is_a_refusal_until_buckets_are_full_again(void **state)
{
	(void)state;
	const struct token_bucket c = { 2, 2, 1000 };
	size_t passed = 0, refused = 0;
	for (uint64_t i = 0; i < 2 * BUCKETS_MAX; i++) {
		struct bucket_state s = buckets_take(b, key(i), 0, &c, 0);
		passed += s.allowed;
		refused += s.no_room;
		assert_true(s.allowed != s.no_room);
	}
	assert_true(passed <= BUCKETS_MAX && passed > BUCKETS_MAX - BUCKETS_MAX / 16);
	assert_int_equal(passed + refused, 2 * BUCKETS_MAX);
	assert_int_equal(buckets_count(b), passed);
	/* Who has a bucket keeps it. */
	assert_int_equal(allowed(0, &c, 1, 3), 1);
	for (uint64_t i = 0; i < 1000; i++)
		assert_true(buckets_take(b, key(10 * BUCKETS_MAX + i), 0, &c, 1000 * ms).allowed);
	assert_true(buckets_count(b) <= BUCKETS_MAX);
}

/* Clients who make up values fill their limit's part of the table, and nobody else's. */
static void test_one_owner_does_not_fill_the_table_for_others(void **state)
{
	(void)state;
	const struct token_bucket c = { 2, 2, 1000 };
	size_t passed[5] = { 0 };
	for (uint64_t owner = 1; owner <= 4; owner++) {
		for (uint64_t i = 0; i < BUCKETS_MAX; i++)
			passed[owner] += buckets_take(b, key(owner * BUCKETS_MAX + i), owner, &c, 0).allowed;
		/* A quarter each: of three quarters there is nothing left for the fourth. */
		assert_in_range(passed[owner], 0, BUCKETS_MAX / 4);
		assert_true(owner == 4 ? passed[4] == 0 : passed[owner] > BUCKETS_MAX / 4 - BUCKETS_MAX / 64);
	}
	for (uint64_t i = 0; i < BUCKETS_MAX / 8; i++)
		assert_true(buckets_take(b, key(9 * BUCKETS_MAX + i), 0, &c, 0).allowed);
	/* When they are full again, others may have their places; but not more than a quarter. */
	size_t later = 0;
	for (uint64_t i = 0; i < BUCKETS_MAX; i++)
		later += buckets_take(b, key(20 * BUCKETS_MAX + i), 4, &c, 1000 * ms).allowed;
	assert_in_range(later, BUCKETS_MAX / 4 - BUCKETS_MAX / 64, BUCKETS_MAX / 4);
}

enum { THREADS = 4, TRIES = 20000 };
static size_t got[THREADS];

static void *take_many(void *arg)
{
	const struct token_bucket c = { 30000, 1, 1000000 };
	size_t *n = arg;
	for (size_t i = 0; i < TRIES; i++)
		*n += buckets_take(b, key(1), 0, &c, i).allowed;
	return NULL;
}

static void test_threads_together_get_exactly_what_there_is(void **state)
{
	(void)state;
	pthread_t threads[THREADS];
	size_t sum = 0;
	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, take_many, &got[i]), 0);
	for (size_t i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		sum += got[i];
	}
	assert_int_equal(sum, 30000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_fills_at_the_end_of_intervals),
		CASE(test_says_what_is_left_and_until_when),
		CASE(test_clocks_that_are_behind_and_large_steps),
		CASE(test_keys_have_buckets_of_their_own),
		CASE(test_no_room_is_a_refusal_until_buckets_are_full_again),
		CASE(test_one_owner_does_not_fill_the_table_for_others),
		CASE(test_threads_together_get_exactly_what_there_is),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
