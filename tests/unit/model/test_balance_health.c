/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "agent/model/balance_health.h"

#define SECOND 1000000000ull

static const struct cluster_outlier five = {
	.consecutive_5xx = 5, .interval_ms = 10000, .base_ejection_ms = 30000, .max_ejection_percent = 100
};

static const enum health_event events[] = {
	['o'] = HEALTH_OK,	 ['5'] = HEALTH_5XX,	      ['g'] = HEALTH_GATEWAY,
	['O'] = HEALTH_LOCAL_OK, ['f'] = HEALTH_LOCAL_FAILED, ['t'] = HEALTH_LOCAL_TIMEOUT
};

/* After which event of the story the host is ejected; 0: it is not. */
static size_t story(const struct cluster_outlier *s, const char *text)
{
	struct health_set set = { 0 };
	struct host_health h = { 0 };
	for (size_t i = 0; text[i]; i++)
		if (health_note(s, &set, 10, &h, events[(unsigned char)text[i]], SECOND)) {
			assert_true(health_ejected(&h));
			assert_int_equal(set.ejected, 1);
			assert_int_equal(set.generation, 1);
			return i + 1;
		}
	assert_false(health_ejected(&h));
	return 0;
}

static void test_errors_in_a_row_eject(void **state)
{
	(void)state;
	const struct cluster_outlier only_gateway = { .consecutive_gateway = 3, .max_ejection_percent = 100 };
	const struct cluster_outlier both = { .consecutive_5xx = 5,
					      .consecutive_gateway = 2,
					      .max_ejection_percent = 100 };
	const struct cluster_outlier split = {
		.consecutive_5xx = 3, .consecutive_local = 2, .split_local = true, .max_ejection_percent = 100
	};
	const struct cluster_outlier split_off = { .consecutive_5xx = 3,
						   .split_local = true,
						   .max_ejection_percent = 100 };
	const struct cluster_outlier off = { .max_ejection_percent = 100 };
	const struct {
		const struct cluster_outlier *s;
		const char *text;
		size_t ejected_at;
	} rows[] = {
		{ &five, "55555", 5 },
		{ &five, "5555o5555", 0 },
		{ &five, "5g5g5", 5 }, /* gateway errors are 5xx */
		{ &five, "fftff", 5 }, /* and so is what did not even get there */
		{ &five, "ffffOf", 0 },
		{ &only_gateway, "ggg", 3 },
		{ &only_gateway, "gg5gg", 0 },
		{ &only_gateway, "555555", 0 },
		{ &only_gateway, "fft", 3 },
		{ &both, "gg", 2 },
		{ &both, "g5g55", 5 },
		{ &split, "ff", 2 },
		{ &split, "ft", 2 },
		{ &split, "fOf", 0 },
		{ &split, "fof", 0 },
		{ &split, "f5f5f5", 6 }, /* each clears the local failures, but not the other way round */
		{ &split, "555", 3 },
		{ &split, "55O5", 4 }, /* connecting is no answer */
		{ &split_off, "ffffffff", 0 },
		{ &off, "555555gggggffff", 0 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		size_t at = story(rows[i].s, rows[i].text);
		if (at != rows[i].ejected_at)
			fail_msg("row %zu: ejected at %zu instead of %zu", i, at, rows[i].ejected_at);
	}
	assert_false(health_on(&off));
	assert_false(health_on(&split_off) && !split_off.consecutive_5xx);
	assert_true(health_on(&only_gateway));
}

static bool fail_times(const struct cluster_outlier *s, struct health_set *set, size_t hosts, struct host_health *h,
		       int times, uint64_t now)
{
	bool out = false;
	for (int i = 0; i < times; i++)
		out |= health_note(s, set, hosts, h, HEALTH_5XX, now);
	return out;
}

static size_t sweep(const struct cluster_outlier *s, struct health_set *set, struct host_health *h, uint64_t now)
{
	if (!health_sweep_due(s, set, now))
		return 0;
	return health_sweep(set, &h, 1, now);
}

static void test_ejection_lasts_longer_each_time_and_less_after_good_intervals(void **state)
{
	(void)state;
	struct health_set set = { 0 };
	struct host_health h = { 0 };
	uint64_t now = 100 * SECOND;

	assert_int_equal(sweep(&five, &set, &h, now), 0); /* the intervals begin */
	assert_true(fail_times(&five, &set, 3, &h, 5, now));
	assert_false(fail_times(&five, &set, 3, &h, 10, now)); /* it is out already */
	assert_int_equal(sweep(&five, &set, &h, now + 29 * SECOND), 0);
	assert_true(health_ejected(&h));
	assert_int_equal(sweep(&five, &set, &h, now + 39 * SECOND), 1);
	assert_false(health_ejected(&h));
	assert_int_equal(set.ejected, 0);
	assert_int_equal(set.generation, 2);

	now += 39 * SECOND; /* a second time: 60 s */
	assert_true(fail_times(&five, &set, 3, &h, 5, now));
	assert_int_equal(h.until_ns, now + 60 * SECOND);
	assert_int_equal(sweep(&five, &set, &h, now + 59 * SECOND), 0);
	assert_int_equal(sweep(&five, &set, &h, now + 70 * SECOND), 1);

	now += 70 * SECOND; /* one good interval: of two ejections one is forgotten */
	assert_int_equal(sweep(&five, &set, &h, now + 10 * SECOND), 0);
	assert_int_equal(h.times, 1);
	assert_int_equal(sweep(&five, &set, &h, now + 15 * SECOND), 0); /* the interval is not over */
	assert_int_equal(h.times, 1);
	now += 15 * SECOND;
	assert_true(fail_times(&five, &set, 3, &h, 5, now));
	assert_int_equal(h.until_ns, now + 60 * SECOND);
	assert_int_equal(h.ejections, 3);
}

static void test_ejection_has_a_longest_time(void **state)
{
	(void)state;
	struct health_set set = { 0 };
	struct host_health h = { .times = 100 };
	assert_true(fail_times(&five, &set, 3, &h, 5, SECOND));
	assert_int_equal(h.until_ns, 301 * SECOND);

	struct cluster_outlier hour = five;
	struct host_health other = { 0 };
	hour.base_ejection_ms = 3600000;
	assert_true(fail_times(&hour, &set, 3, &other, 5, SECOND));
	assert_int_equal(other.until_ns, 3601 * SECOND);
}

static void test_at_most_a_percentage_is_ejected_but_one_always_may(void **state)
{
	(void)state;
	const struct {
		uint8_t percent;
		size_t hosts, ejected;
	} rows[] = {
		{ 10, 10, 1 }, { 10, 3, 1 }, { 0, 10, 1 }, { 50, 10, 5 }, { 50, 3, 1 }, { 67, 3, 2 }, { 100, 4, 4 }
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct cluster_outlier s = five;
		struct health_set set = { 0 };
		struct host_health hosts[10] = { 0 };
		s.max_ejection_percent = rows[i].percent;
		for (size_t k = 0; k < rows[i].hosts; k++)
			fail_times(&s, &set, rows[i].hosts, &hosts[k], 5, SECOND);
		assert_int_equal(set.ejected, rows[i].ejected);
		assert_int_equal(set.spared, rows[i].hosts - rows[i].ejected);
	}
}

static void test_one_of_several_workers_sweeps(void **state)
{
	(void)state;
	struct health_set set = { 0 };
	assert_false(health_sweep_due(&five, &set, SECOND));
	assert_false(health_sweep_due(&five, &set, 10 * SECOND));
	assert_true(health_sweep_due(&five, &set, 11 * SECOND));
	assert_false(health_sweep_due(&five, &set, 11 * SECOND));
	assert_true(health_sweep_due(&five, &set, 21 * SECOND));
}

static void test_a_host_that_goes_makes_room(void **state)
{
	(void)state;
	struct health_set set = { 0 };
	struct host_health a = { 0 }, b = { 0 };
	struct cluster_outlier s = five;
	s.max_ejection_percent = 10;
	assert_true(fail_times(&s, &set, 2, &a, 5, SECOND));
	assert_false(fail_times(&s, &set, 2, &b, 5, SECOND));
	assert_true(health_gone(&set, &a));
	assert_false(health_gone(&set, &b));
	assert_int_equal(set.ejected, 0);
	assert_true(fail_times(&s, &set, 1, &b, 5, SECOND));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_errors_in_a_row_eject),
		cmocka_unit_test(test_ejection_lasts_longer_each_time_and_less_after_good_intervals),
		cmocka_unit_test(test_ejection_has_a_longest_time),
		cmocka_unit_test(test_at_most_a_percentage_is_ejected_but_one_always_may),
		cmocka_unit_test(test_one_of_several_workers_sweeps),
		cmocka_unit_test(test_a_host_that_goes_makes_room),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
