/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/model/locality.h"

enum { MAX = 6 };

static const char *const here[] = { "us-east/a/1", "us-east/a/2", "us-east/b/1", "us-west/a/1", "eu/a/1", "" };

static void fill(struct locality_endpoint *e)
{
	memset(e, 0, MAX * sizeof(*e));
	for (size_t i = 0; i < MAX; i++) {
		e[i].place.locality = here[i];
		e[i].weight = 1;
	}
}

static void check(const struct locality_setting *s, const char *caller, const uint8_t want[MAX])
{
	struct locality_endpoint e[MAX];

	fill(e);
	locality_assign(s, &(struct locality_place){ .locality = caller }, e, MAX);
	for (size_t i = 0; i < MAX; i++)
		if (e[i].priority != want[i])
			fail_msg("caller %s, endpoint %s: priority %u, not %u", caller, here[i], e[i].priority,
				 want[i]);
}

static void test_near_localities_come_first(void **state)
{
	(void)state;
	const struct locality_setting none = { 0 };
	check(&none, "us-east/a/1", (const uint8_t[]){ 0, 1, 2, 3, 3, 3 });
	check(&none, "us-west/z/9", (const uint8_t[]){ 1, 1, 1, 0, 1, 1 }); /* without gaps */
}

static void test_caller_of_unknown_locality_has_no_preference(void **state)
{
	(void)state;
	const struct locality_setting none = { 0 };
	check(&none, "", (const uint8_t[]){ 0, 0, 0, 0, 0, 0 });
	check(&none, NULL, (const uint8_t[]){ 0, 0, 0, 0, 0, 0 });
}

static void test_failover_names_the_next_region(void **state)
{
	(void)state;
	const struct locality_failover_rule rules[] = { { "eu", "us-east" }, { "us-east", "eu" } };
	const struct locality_setting s = { .failover = rules, .failover_count = 2 };
	check(&s, "us-east/a/1", (const uint8_t[]){ 0, 1, 2, 4, 3, 4 });
	check(&s, "us-west/a/1", (const uint8_t[]){ 1, 1, 1, 0, 1, 1 }); /* no rule */
}

static void test_failover_priority_compares_labels_in_order(void **state)
{
	(void)state;
	const char *const keys[] = { "topology.kubernetes.io/region", "version=v2", "topology.kubernetes.io/zone" };
	const struct locality_setting s = { .failover_priority = keys, .failover_priority_count = 3 };
	struct label v2 = { "version", "v2" };
	struct locality_endpoint e[MAX];

	fill(e);
	e[2].place.labels = &v2;
	e[2].place.label_count = 1;
	e[4].place.labels = &v2;
	e[4].place.label_count = 1;
	locality_assign(&s, &(struct locality_place){ .locality = "us-east/a/1" }, e, MAX);
	assert_int_equal(e[2].priority, 0); /* region, v2; another zone */
	assert_int_equal(e[0].priority, 1); /* region, not v2 */
	assert_int_equal(e[1].priority, 1);
	assert_int_equal(e[3].priority, 2);
	assert_int_equal(e[4].priority, 2); /* v2 does not help a foreign region */
}

static void test_distribute_splits_shares_and_drops_the_rest(void **state)
{
	(void)state;
	const struct locality_share to[] = { { "us-east/*", 80 }, { "us-west/a", 20 } };
	const struct locality_distribution d[] = { { "eu/*", NULL, 0 }, { "us-east/a/*", to, 2 } };
	const struct locality_setting s = { .distribute = d, .distribute_count = 2 };
	struct locality_endpoint e[MAX];

	fill(e);
	e[0].weight = 2;
	locality_assign(&s, &(struct locality_place){ .locality = "us-east/a/1" }, e, MAX);
	assert_int_equal(e[0].weight, 400000);
	assert_int_equal(e[1].weight, 200000);
	assert_int_equal(e[2].weight, 200000);
	assert_int_equal(e[3].weight, 200000);
	assert_true(e[4].dropped && e[5].dropped && !e[0].dropped && !e[3].dropped);
}

static void test_distribute_without_a_rule_for_the_caller_changes_nothing(void **state)
{
	(void)state;
	const struct locality_distribution d[] = { { "eu/*", NULL, 0 } };
	const struct locality_setting s = { .distribute = d, .distribute_count = 1 };
	check(&s, "us-east/a/1", (const uint8_t[]){ 0, 0, 0, 0, 0, 0 });
}

static void test_locality_patterns(void **state)
{
	(void)state;
	static const struct {
		const char *pattern, *locality;
		bool want;
	} rows[] = {
		{ "us-east/a/1", "us-east/a/1", true },
		{ "us-east/a/1", "us-east/a/2", false },
		{ "us-east/a/*", "us-east/a/2", true },
		{ "us-east/*", "us-east/b/2", true },
		{ "us-east", "us-east/b", true },
		{ "us-east", "us-east2", false },
		{ "*", "", true },
		{ "us-east/a", "us-east", false },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (locality_matches(rows[i].pattern, rows[i].locality) != rows[i].want)
			fail_msg("%s on %s", rows[i].pattern, rows[i].locality);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_near_localities_come_first),
		cmocka_unit_test(test_caller_of_unknown_locality_has_no_preference),
		cmocka_unit_test(test_failover_names_the_next_region),
		cmocka_unit_test(test_failover_priority_compares_labels_in_order),
		cmocka_unit_test(test_distribute_splits_shares_and_drops_the_rest),
		cmocka_unit_test(test_distribute_without_a_rule_for_the_caller_changes_nothing),
		cmocka_unit_test(test_locality_patterns),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
