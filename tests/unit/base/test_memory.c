/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/memory.h"

enum { BLOCKS = 20000, BLOCK = 400 };

/* The sum of a line of the process's mappings whose rights begin with `rights`, in kB. */
static long resident_kb(const char *rights, const char *field)
{
	char line[512], have[8] = "";
	long sum = 0, kb;
	FILE *f = fopen("/proc/self/smaps", "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		size_t len = strlen(field);
		if (sscanf(line, "%*[0-9a-f]-%*[0-9a-f] %7s", have) == 1)
			continue;
		if (strncmp(have, rights, strlen(rights)) == 0 && strncmp(line, field, len) == 0 &&
		    sscanf(line + len, "%ld", &kb) == 1)
			sum += kb;
	}
	fclose(f);
	return sum;
}

static void test_settle_lets_go_of_code_that_still_runs_after(void **state)
{
	(void)state;
	long before = resident_kb("r-x", "Rss:");
	memory_settle();
	long after = resident_kb("r-x", "Rss:");
	print_message("code: %ld, then %ld kB\n", before, after);
	assert_true(after < before);
	assert_int_equal(strtol("42", NULL, 10), 42);
}

/* What a sanitizer keeps of freed memory is its own affair. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
static void test_settle_returns_free_heap_below_what_is_held(void **state)
{
	static char *blocks[BLOCKS];
	(void)state;
	for (size_t i = 0; i < BLOCKS; i++) {
		blocks[i] = malloc(BLOCK);
		assert_non_null(blocks[i]);
		memset(blocks[i], 1, BLOCK);
	}
	for (size_t i = 0; i < BLOCKS - 1; i++)
		free(blocks[i]);
	long before = resident_kb("rw-", "Anonymous:");
	memory_settle();
	long after = resident_kb("rw-", "Anonymous:");
	assert_true(before - after > (long)BLOCKS * BLOCK / 1024 / 2);
	assert_int_equal(blocks[BLOCKS - 1][BLOCK - 1], 1);
	free(blocks[BLOCKS - 1]);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_settle_lets_go_of_code_that_still_runs_after),
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
		cmocka_unit_test(test_settle_returns_free_heap_below_what_is_held),
#endif
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
