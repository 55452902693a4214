/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "agent/base/mem.h"

static void test_take_moves_pointer_out(void **state)
{
	(void)state;
	char *kept;
	{
		AUTO(mem_freep) char *p = malloc(4);
		kept = TAKE(p);
		assert_null(p);
	}
	kept[0] = 'x'; /* a use after free under ASan if the scope had freed it */
	free(kept);
}

static void test_auto_frees_at_end_of_scope(void **state)
{
	(void)state;
	/* LeakSanitizer sees it otherwise; here only that the pointer is cleared. */
	void *p = malloc(4);
	mem_freep(&p);
	assert_null(p);
	mem_freep(&p);
}

static void test_fd_closep_closes_once_and_keeps_errno(void **state)
{
	(void)state;
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), copy = fd;
	errno = ENOENT;
	fd_closep(&fd);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(fd, -1);
	assert_int_equal(fcntl(copy, F_GETFD), -1);
	fd_closep(&fd);
}

static void test_reserve_grows_and_keeps_elements(void **state)
{
	(void)state;
	AUTO(mem_freep) int *a = NULL;
	size_t cap = 0;
	for (size_t i = 0; i < 1000; i++) {
		assert_int_equal(mem_reserve(&a, &cap, i + 1, sizeof(*a)), 0);
		a[i] = (int)i;
	}
	assert_true(cap >= 1000);
	for (size_t i = 0; i < 1000; i++)
		assert_int_equal(a[i], i);
}

static void test_reserve_impossible_size_leaves_array(void **state)
{
	(void)state;
	AUTO(mem_freep) int *a = NULL;
	size_t cap = 0;
	assert_int_equal(mem_reserve(&a, &cap, 2, sizeof(*a)), 0);
	int *before = a;
	size_t cap_before = cap;
	assert_int_equal(mem_reserve(&a, &cap, SIZE_MAX, sizeof(*a)), -ENOMEM);
	assert_int_equal(mem_reserve(&a, &cap, SIZE_MAX / 2, sizeof(*a)), -ENOMEM);
	assert_ptr_equal(a, before);
	assert_int_equal(cap, cap_before);
}

struct outer {
	int head;
	int member;
};

static void test_container_of_finds_the_outer(void **state)
{
	(void)state;
	struct outer o;
	assert_ptr_equal(container_of(&o.member, struct outer, member), &o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_take_moves_pointer_out),
		cmocka_unit_test(test_auto_frees_at_end_of_scope),
		cmocka_unit_test(test_fd_closep_closes_once_and_keeps_errno),
		cmocka_unit_test(test_reserve_grows_and_keeps_elements),
		cmocka_unit_test(test_reserve_impossible_size_leaves_array),
		cmocka_unit_test(test_container_of_finds_the_outer),
	};
	return cmocka_run_group_tests_name("base/mem", tests, NULL, NULL);
}
