/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "agent/config/arena.h"

enum { FIRST = 704, STEP = 24, LARGE = 300000 };

static void test_arena_many_small_wastes_little(void **state)
{
	(void)state;
	struct arena *a = arena_new(FIRST);
	assert_non_null(a);
	for (size_t used = 0; used < LARGE; used += STEP) {
		assert_non_null(arena_alloc(a, STEP));
		assert_true(arena_size(a) <= FIRST + (used + STEP) * 3 / 2);
	}
	arena_free(a);
}

static void test_arena_large_gets_what_it_asks_for(void **state)
{
	(void)state;
	struct arena *a = arena_new(FIRST);
	char *p = arena_alloc(a, LARGE);
	assert_non_null(p);
	memset(p, 'x', LARGE); /* ASan sees a chunk that is too short */
	char *text = arena_strdup(a, "after");
	assert_string_equal(text, "after");
	assert_int_equal(p[LARGE - 1], 'x');
	arena_free(a);
}

static void test_arena_reset_keeps_the_first_chunk_only(void **state)
{
	(void)state;
	struct arena *a = arena_new(FIRST);
	char *first = arena_alloc(a, 8);
	assert_non_null(arena_alloc(a, LARGE));
	arena_reset(a);
	assert_int_equal(arena_size(a), FIRST);
	assert_ptr_equal(arena_alloc(a, 8), first);
	arena_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arena_many_small_wastes_little),
		cmocka_unit_test(test_arena_large_gets_what_it_asks_for),
		cmocka_unit_test(test_arena_reset_keeps_the_first_chunk_only),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
