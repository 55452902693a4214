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

#include "agent/compile/vip.h"

static struct vip_pool pool;

static int on_setup(void **state)
{
	(void)state;
	return vip_pool_init(&pool);
}

static int on_teardown(void **state)
{
	(void)state;
	vip_pool_done(&pool);
	return 0;
}

static void get(const char *key, struct addr *v4, struct addr *v6)
{
	assert_int_equal(vip_pool_get(&pool, key, v4, v6), 0);
}

static void test_key_keeps_its_addresses(void **state)
{
	(void)state;
	struct addr a4, a6, b4, b6, c4, c6;

	get("shop/a.example", &a4, &a6);
	get("shop/b.example", &b4, &b6);
	get("shop/a.example", &c4, &c6);
	assert_true(addr_eq(&a4, &c4) && addr_eq(&a6, &c6));
	assert_false(addr_eq(&a4, &b4) || addr_eq(&a6, &b6));
	vip_pool_release(&pool, "shop/a.example");
	vip_pool_release(&pool, "shop/a.example");
	get("shop/a.example", &c4, &c6);
	assert_true(addr_eq(&a4, &c4));
}

static void test_addresses_are_in_their_ranges(void **state)
{
	(void)state;
	struct cidr v4, v6;
	struct addr a4, a6;

	cidr_parse("240.240.0.0/16", &v4);
	cidr_parse("2001:2::/48", &v6);
	for (int i = 0; i < 1000; i++) {
		char key[32];
		snprintf(key, sizeof(key), "ns/host%d", i);
		get(key, &a4, &a6);
		assert_true(cidr_contains(&v4, &a4) && cidr_contains(&v6, &a6));
		assert_false(a4.b[14] == 0 && a4.b[15] == 0);
		assert_false(a4.b[14] == 255 && a4.b[15] == 255);
	}
}

static void test_full_pool_gives_each_its_own_and_then_none(void **state)
{
	(void)state;
	static bool seen[65536];
	struct addr a4, a6;
	char key[32];

	for (int i = 0; i < VIP_POOL_SIZE; i++) {
		snprintf(key, sizeof(key), "k%d", i);
		get(key, &a4, &a6);
		unsigned int place = (unsigned int)a4.b[14] << 8 | a4.b[15];
		assert_false(seen[place]);
		seen[place] = true;
	}
	assert_int_equal(vip_pool_get(&pool, "more", &a4, &a6), -ENOSPC);
	vip_pool_release(&pool, "k7");
	assert_int_equal(vip_pool_get(&pool, "more", &a4, &a6), 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, on_setup, on_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_key_keeps_its_addresses),
		CASE(test_addresses_are_in_their_ranges),
		CASE(test_full_pool_gives_each_its_own_and_then_none),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
