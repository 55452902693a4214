/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/un.h>

#include "agent/base/addr.h"
#include "agent/base/mem.h"

static struct addr addr_of(const char *text)
{
	struct addr a;
	assert_int_equal(addr_parse(text, &a), 0);
	return a;
}

static struct cidr cidr_of(const char *text)
{
	struct cidr c;
	assert_int_equal(cidr_parse(text, &c), 0);
	return c;
}

static void test_parse_text_round_trip(void **state)
{
	(void)state;
	static const char *const same[] = { "10.0.0.1", "0.0.0.0", "255.255.255.255",	  "::",
					    "::1",	"fd00::1", "2001:db8:1:2:3:4:5:6" };
	char buf[ADDR_TEXT_MAX];
	for (size_t i = 0; i < ARRAY_SIZE(same); i++) {
		struct addr a = addr_of(same[i]);
		assert_string_equal(addr_text(&a, buf), same[i]);
	}
}

static void test_parse_v4_mapped_equals_v4(void **state)
{
	(void)state;
	struct addr a = addr_of("::ffff:10.0.0.1"), b = addr_of("10.0.0.1");
	assert_true(addr_eq(&a, &b));
	assert_true(addr_is_v4(&a));
}

static void test_parse_bad_text_refused(void **state)
{
	(void)state;
	static const char *const bad[] = { "",		"10.0.0",	"10.0.0.256", "10.0.0.1 ",
					   " 10.0.0.1", "fe80::1%eth0", "[::1]",      "10.0.0.1:80",
					   ":::",	"01.2.3.4.5",	"1.2.3.4/8",  "localhost" };
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct addr a;
		assert_int_equal(addr_parse(bad[i], &a), -EINVAL);
	}
}

static void test_is_zero_both_families(void **state)
{
	(void)state;
	struct addr a = addr_of("::"), b = addr_of("0.0.0.0"), c = addr_of("::1"), d = addr_of("0.0.0.1");
	assert_true(addr_is_zero(&a));
	assert_true(addr_is_zero(&b));
	assert_false(addr_is_zero(&c));
	assert_false(addr_is_zero(&d));
}

static void test_is_loopback_both_families(void **state)
{
	(void)state;
	struct addr a = addr_of("127.8.9.1"), b = addr_of("::1"), c = addr_of("128.0.0.1"), d = addr_of("fd00::1");
	assert_true(addr_is_loopback(&a));
	assert_true(addr_is_loopback(&b));
	assert_false(addr_is_loopback(&c));
	assert_false(addr_is_loopback(&d));
}

static void test_port_parse_round_trip(void **state)
{
	(void)state;
	static const char *const same[] = { "10.0.0.1:80", "[fd00::1]:65535", "0.0.0.0:0" };
	char buf[ADDR_PORT_TEXT_MAX];
	for (size_t i = 0; i < ARRAY_SIZE(same); i++) {
		struct addr_port a;
		assert_int_equal(addr_port_parse(same[i], &a), 0);
		assert_string_equal(addr_port_text(&a, buf), same[i]);
	}
}

static void test_port_parse_bad_text_refused(void **state)
{
	(void)state;
	static const char *const bad[] = { "10.0.0.1",	"10.0.0.1:",   "10.0.0.1:65536", "10.0.0.1:8x", "fd00::1:80",
					   "[fd00::1]", "[fd00::1]80", "[10.0.0.1]:80",	 ":80",		"" };
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct addr_port a;
		assert_int_equal(addr_port_parse(bad[i], &a), -EINVAL);
	}
}

static void test_cidr_parse_clears_host_bits(void **state)
{
	(void)state;
	static const struct {
		const char *text, *want;
		int bits;
	} cases[] = {
		{ "10.1.2.3/8", "10.0.0.0/8", 104 },	 { "10.1.2.3", "10.1.2.3/32", 128 },
		{ "10.1.2.3/0", "0.0.0.0/0", 96 },	 { "192.168.77.200/25", "192.168.77.128/25", 121 },
		{ "fd00:1:2::3/33", "fd00:1::/33", 33 }, { "::/0", "::/0", 0 },
		{ "fd00::1", "fd00::1/128", 128 },	 { "::ffff:10.9.9.9/104", "10.0.0.0/8", 104 },
	};
	char buf[CIDR_TEXT_MAX];
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct cidr c = cidr_of(cases[i].text);
		assert_string_equal(cidr_text(&c, buf), cases[i].want);
		assert_int_equal(c.bits, cases[i].bits);
	}
}

static void test_cidr_parse_bad_text_refused(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"10.0.0.0/33", "fd00::/129", "10.0.0.0/", "10.0.0.0/-1", "/8", "10.0.0.0/8/8"
	};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct cidr c;
		assert_int_equal(cidr_parse(bad[i], &c), -EINVAL);
	}
}

static void test_cidr_contains_edges(void **state)
{
	(void)state;
	struct cidr c = cidr_of("10.1.0.0/15");
	struct addr first = addr_of("10.0.0.0"), last = addr_of("10.1.255.255"), past = addr_of("10.2.0.0");
	assert_true(cidr_contains(&c, &first));
	assert_true(cidr_contains(&c, &last));
	assert_false(cidr_contains(&c, &past));
}

static void test_cidr_contains_any_v6_is_not_v4(void **state)
{
	(void)state;
	struct cidr any6 = cidr_of("::/0"), any4 = cidr_of("0.0.0.0/0");
	struct addr v4 = addr_of("10.0.0.1"), v6 = addr_of("fd00::1");
	assert_true(cidr_contains(&any6, &v6));
	assert_false(cidr_contains(&any6, &v4));
	assert_true(cidr_contains(&any4, &v4));
	assert_false(cidr_contains(&any4, &v6));
}

static void test_sockaddr_round_trip(void **state)
{
	(void)state;
	static const char *const texts[] = { "10.0.0.1:80", "[fd00::1]:443" };
	static const int families[] = { AF_INET, AF_INET6 };
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct addr_port a, b;
		struct sockaddr_storage ss;
		assert_int_equal(addr_port_parse(texts[i], &a), 0);
		socklen_t len = addr_to_sockaddr(&a, &ss);
		assert_int_equal(ss.ss_family, families[i]);
		assert_int_equal(len, i ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
		assert_int_equal(addr_from_sockaddr((struct sockaddr *)&ss, &b), 0);
		assert_true(addr_port_eq(&a, &b));

		struct sockaddr_in6 in6;
		addr_to_sockaddr6(&a, &in6);
		assert_int_equal(addr_from_sockaddr((struct sockaddr *)&in6, &b), 0);
		assert_true(addr_port_eq(&a, &b));
	}
}

static void test_sockaddr_other_family_refused(void **state)
{
	(void)state;
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct addr_port a;
	assert_int_equal(addr_from_sockaddr((struct sockaddr *)&un, &a), -EAFNOSUPPORT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_text_round_trip),
		cmocka_unit_test(test_parse_v4_mapped_equals_v4),
		cmocka_unit_test(test_parse_bad_text_refused),
		cmocka_unit_test(test_is_zero_both_families),
		cmocka_unit_test(test_is_loopback_both_families),
		cmocka_unit_test(test_port_parse_round_trip),
		cmocka_unit_test(test_port_parse_bad_text_refused),
		cmocka_unit_test(test_cidr_parse_clears_host_bits),
		cmocka_unit_test(test_cidr_parse_bad_text_refused),
		cmocka_unit_test(test_cidr_contains_edges),
		cmocka_unit_test(test_cidr_contains_any_v6_is_not_v4),
		cmocka_unit_test(test_sockaddr_round_trip),
		cmocka_unit_test(test_sockaddr_other_family_refused),
	};
	return cmocka_run_group_tests_name("base/addr", tests, NULL, NULL);
}
