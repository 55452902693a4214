/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/base/table.h"

static int freed;

static void count_free(void *value)
{
	freed++;
	free(value);
}

static int *boxed(int n)
{
	int *p = malloc(sizeof(*p));
	assert_non_null(p);
	*p = n;
	return p;
}

static int reset(void **state)
{
	(void)state;
	freed = 0;
	return 0;
}

static void test_get_missing_is_null(void **state)
{
	(void)state;
	AUTO(table_freep) struct table *t = table_new(NULL);
	assert_null(table_get_str(t, "x"));
	assert_false(table_remove_str(t, "x"));
	assert_int_equal(table_count(t), 0);
}

static void test_set_many_all_found(void **state)
{
	(void)state;
	AUTO(table_freep) struct table *t = table_new(count_free);
	for (int i = 0; i < 10000; i++)
		assert_int_equal(table_set(t, &i, sizeof(i), boxed(i)), 0);
	assert_int_equal(table_count(t), 10000);
	for (int i = 0; i < 10000; i++)
		assert_int_equal(*(int *)table_get(t, &i, sizeof(i)), i);
	int missing = 10000;
	assert_null(table_get(t, &missing, sizeof(missing)));
}

static void test_set_same_key_replaces_and_frees(void **state)
{
	(void)state;
	AUTO(table_freep) struct table *t = table_new(count_free);
	int *second = boxed(2);
	table_set_str(t, "k", boxed(1));
	table_set_str(t, "k", second);
	assert_int_equal(freed, 1);
	assert_int_equal(table_count(t), 1);
	table_set_str(t, "k", second); /* the same value again must not free it */
	assert_int_equal(freed, 1);
	assert_int_equal(*(int *)table_get_str(t, "k"), 2);
}

static void test_key_prefix_and_empty_are_distinct(void **state)
{
	(void)state;
	AUTO(table_freep) struct table *t = table_new(NULL);
	int a, b, c;
	table_set(t, "ab", 2, &a);
	table_set(t, "ab", 3, &b);
	table_set(t, NULL, 0, &c);
	assert_ptr_equal(table_get(t, "ab", 2), &a);
	assert_ptr_equal(table_get(t, "ab", 3), &b);
	assert_ptr_equal(table_get(t, "", 0), &c);
}

static void test_churn_keeps_what_is_left(void **state)
{
	(void)state;
	/* Tombstones pile up and are swept; a table with no free slot would hang here. */
	AUTO(table_freep) struct table *t = table_new(count_free);
	for (int i = 0; i < 20000; i++) {
		int old = i - 5;
		table_set(t, &i, sizeof(i), boxed(i));
		if (old >= 0)
			assert_true(table_remove(t, &old, sizeof(old)));
	}
	assert_int_equal(table_count(t), 5);
	assert_int_equal(freed, 19995);
	for (int i = 19995; i < 20000; i++)
		assert_int_equal(*(int *)table_get(t, &i, sizeof(i)), i);
}

static void test_next_visits_each_once(void **state)
{
	(void)state;
	AUTO(table_freep) struct table *t = table_new(NULL);
	int seen[100] = { 0 };
	for (int i = 0; i < 100; i++)
		table_set(t, &i, sizeof(i), &seen[i]);
	struct table_iter it = { 0 };
	while (table_next(t, &it)) {
		int key;
		assert_int_equal(it.key_len, sizeof(key));
		memcpy(&key, it.key, sizeof(key));
		assert_ptr_equal(it.value, &seen[key]);
		seen[key]++;
	}
	for (int i = 0; i < 100; i++)
		assert_int_equal(seen[i], 1);
}

static void test_remove_while_iterating(void **state)
{
	(void)state;
	AUTO(table_freep) struct table *t = table_new(count_free);
	for (int i = 0; i < 100; i++)
		table_set(t, &i, sizeof(i), boxed(i));
	struct table_iter it = { 0 };
	int visited = 0;
	while (table_next(t, &it)) {
		visited++;
		if (*(int *)it.value % 2)
			assert_true(table_remove(t, it.key, it.key_len));
	}
	assert_int_equal(visited, 100);
	assert_int_equal(table_count(t), 50);
	assert_int_equal(freed, 50);
}

static void test_free_frees_all_values(void **state)
{
	(void)state;
	struct table *t = table_new(count_free);
	for (int i = 0; i < 10; i++)
		table_set(t, &i, sizeof(i), boxed(i));
	table_free(t);
	assert_int_equal(freed, 10);
	table_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_get_missing_is_null, reset),
		cmocka_unit_test_setup(test_set_many_all_found, reset),
		cmocka_unit_test_setup(test_set_same_key_replaces_and_frees, reset),
		cmocka_unit_test_setup(test_key_prefix_and_empty_are_distinct, reset),
		cmocka_unit_test_setup(test_churn_keeps_what_is_left, reset),
		cmocka_unit_test_setup(test_next_visits_each_once, reset),
		cmocka_unit_test_setup(test_remove_while_iterating, reset),
		cmocka_unit_test_setup(test_free_frees_all_values, reset),
	};
	return cmocka_run_group_tests_name("base/table", tests, NULL, NULL);
}
