/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/helper/dns_message.h"

struct message {
	uint8_t b[2048];
	size_t len;
};

static void put(struct message *m, const void *bytes, size_t len)
{
	memcpy(m->b + m->len, bytes, len);
	m->len += len;
}

static void put16(struct message *m, unsigned int v)
{
	put(m, (uint8_t[]){ (uint8_t)(v >> 8), (uint8_t)v }, 2);
}

static struct message query(const char *name, unsigned int type)
{
	struct message m = { 0 };
	put(&m, "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00", 12);
	while (*name) {
		size_t label = strcspn(name, ".");
		put(&m, &(uint8_t){ (uint8_t)label }, 1);
		put(&m, name, label);
		name += label + (name[label] == '.');
	}
	put(&m, "", 1);
	put16(&m, type);
	put16(&m, DNS_CLASS_IN);
	return m;
}

static void with_edns(struct message *m, unsigned int size)
{
	m->b[11]++;
	put(m, "", 1);
	put16(m, DNS_TYPE_OPT);
	put16(m, size);
	put(m, "\0\0\0\0\0\0", 6);
}

static unsigned int get16(const uint8_t *p)
{
	return (unsigned int)p[0] << 8 | p[1];
}

static void test_dns_parse_plain_query_gives_lower_case_name(void **state)
{
	(void)state;
	struct message m = query("Catalog.SHOP.svc_1.cluster-x.local", DNS_TYPE_A);
	struct dns_query q;
	assert_int_equal(dns_query_parse(m.b, m.len, &q), 0);
	assert_string_equal(q.name, "catalog.shop.svc_1.cluster-x.local");
	assert_int_equal(q.id, 0x1234);
	assert_int_equal(q.type, DNS_TYPE_A);
	assert_int_equal(q.question_end, m.len);
	assert_false(q.edns);
	assert_int_equal(dns_udp_limit(&q), 512);
}

static void test_dns_parse_edns_query_gives_size(void **state)
{
	(void)state;
	struct dns_query q;
	struct message m = query("a.b", DNS_TYPE_A);
	with_edns(&m, 4096);
	assert_int_equal(dns_query_parse(m.b, m.len, &q), 0);
	assert_true(q.edns);
	assert_int_equal(dns_udp_limit(&q), 1232);
	with_edns(&m, 4096); /* two of them */
	assert_int_equal(dns_query_parse(m.b, m.len, &q), -EINVAL);
}

static void test_dns_parse_other_kinds_are_not_judged(void **state)
{
	(void)state;
	struct dns_query q;
	struct message m = query("a.b", DNS_TYPE_A);
	m.b[2] = 0x28; /* UPDATE */
	assert_int_equal(dns_query_parse(m.b, m.len, &q), -ENOTSUP);
	m = query("a.b", DNS_TYPE_A);
	m.b[5] = 2; /* two questions */
	assert_int_equal(dns_query_parse(m.b, m.len, &q), -ENOTSUP);
}

static void test_dns_parse_name_of_other_characters_is_nobodys(void **state)
{
	(void)state;
	struct dns_query q;
	struct message m = query("a*b.example", DNS_TYPE_A);
	assert_int_equal(dns_query_parse(m.b, m.len, &q), 0);
	assert_string_equal(q.name, "");
	/* A dot inside a label must not pass for a border between two. */
	m = query("catalogxshop.svc", DNS_TYPE_A);
	m.b[12 + 8] = '.';
	assert_int_equal(dns_query_parse(m.b, m.len, &q), 0);
	assert_string_equal(q.name, "");
	m = query("", DNS_TYPE_A);
	assert_int_equal(dns_query_parse(m.b, m.len, &q), 0);
	assert_string_equal(q.name, "");
}

static void test_dns_parse_every_cut_is_malformed(void **state)
{
	(void)state;
	struct dns_query q;
	struct message m = query("catalog.shop", DNS_TYPE_A);
	with_edns(&m, 1232);
	for (size_t len = 0; len < m.len; len++)
		assert_int_equal(dns_query_parse(m.b, len, &q), -EINVAL);
	assert_int_equal(dns_query_parse(m.b, m.len, &q), 0);
}

static void test_dns_parse_pointer_in_question_is_malformed(void **state)
{
	(void)state;
	struct dns_query q;
	struct message m = query("", DNS_TYPE_A);
	m.len = 12;
	put(&m, "\xc0\x0c\0\1\0\1", 6); /* to itself */
	assert_int_equal(dns_query_parse(m.b, m.len, &q), -EINVAL);
}

static void test_dns_parse_long_labels_and_names_are_malformed(void **state)
{
	(void)state;
	struct dns_query q;
	char name[300] = "";
	for (int i = 0; i < 4; i++)
		strcat(name, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.");
	struct message m = query(name, DNS_TYPE_A); /* 4 x 64 + 1 = 257 octets */
	assert_int_equal(dns_query_parse(m.b, m.len, &q), -EINVAL);
	name[64 * 3 + 61] = 0; /* 3 x 64 + 62 + 1 = 255 octets: the longest there is */
	m = query(name, DNS_TYPE_A);
	assert_int_equal(dns_query_parse(m.b, m.len, &q), 0);
	assert_int_equal(strlen(q.name), 253);
	m = query("a", DNS_TYPE_A);
	m.b[12] = 64;
	assert_int_equal(dns_query_parse(m.b, m.len, &q), -EINVAL);
}

static void test_dns_parse_response_is_refused(void **state)
{
	(void)state;
	struct dns_query q;
	uint8_t reply[DNS_HEADER_LEN];
	struct message m = query("a", DNS_TYPE_A);
	m.b[2] |= 0x80;
	assert_int_equal(dns_query_parse(m.b, m.len, &q), -EINVAL);
	assert_int_equal(dns_formerr_write(m.b, m.len, reply), 0); /* two of us would answer each other for ever */
}

static void addrs_fill(struct addr addrs[4])
{
	assert_int_equal(addr_parse("10.0.0.1", &addrs[0]), 0);
	assert_int_equal(addr_parse("fd00::1", &addrs[1]), 0);
	assert_int_equal(addr_parse("10.0.0.2", &addrs[2]), 0);
	assert_int_equal(addr_parse("fd00::2", &addrs[3]), 0);
}

static void test_dns_response_has_addresses_of_the_type(void **state)
{
	(void)state;
	struct {
		unsigned int type, count, rdata;
	} cases[] = { { DNS_TYPE_A, 2, 4 }, { DNS_TYPE_AAAA, 2, 16 }, { DNS_TYPE_ANY, 4, 0 }, { 16 /* TXT */, 0, 0 } };
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct message m = query("Catalog.shop", cases[i].type);
		struct dns_query q;
		struct addr addrs[4];
		uint8_t r[512];
		addrs_fill(addrs);
		assert_int_equal(dns_query_parse(m.b, m.len, &q), 0);
		size_t n = dns_response_write(m.b, &q, DNS_NOERROR, addrs, 4, 30, r, sizeof(r));
		assert_true(n >= m.len);
		assert_true(dns_is_response(r, n, 0x1234));
		assert_int_equal(get16(r + 2), 0x8580); /* QR AA RD RA, no error */
		assert_int_equal(get16(r + 6), cases[i].count);
		assert_memory_equal(r + 12, m.b + 12, m.len - 12); /* the question, its case too */
		if (!cases[i].rdata)
			continue;
		const uint8_t *record = r + m.len;
		assert_int_equal(get16(record), 0xc00c);
		assert_int_equal(get16(record + 2), cases[i].type);
		assert_int_equal(get16(record + 8), 30);
		assert_int_equal(get16(record + 10), cases[i].rdata);
		assert_int_equal(n, m.len + 2 * (12 + cases[i].rdata));
	}
}

static void test_dns_response_too_large_is_truncated(void **state)
{
	(void)state;
	struct message m = query("catalog.shop", DNS_TYPE_AAAA);
	struct addr addrs[40] = { 0 };
	struct dns_query q;
	uint8_t r[4096];
	for (int i = 0; i < 40; i++)
		addrs[i].b[0] = 0xfd;
	with_edns(&m, 600);
	assert_int_equal(dns_query_parse(m.b, m.len, &q), 0);
	size_t n = dns_response_write(m.b, &q, DNS_NOERROR, addrs, 40, 30, r, dns_udp_limit(&q));
	assert_true(n > 0 && n <= 600);
	assert_true(get16(r + 2) & 0x0200);
	assert_int_equal(get16(r + 6), 0);
	assert_int_equal(get16(r + 10), 1); /* EDNS is answered with EDNS */
	n = dns_response_write(m.b, &q, DNS_NOERROR, addrs, 40, 30, r, sizeof(r));
	assert_false(get16(r + 2) & 0x0200);
	assert_int_equal(get16(r + 6), 40);
	assert_int_equal(dns_response_write(m.b, &q, DNS_NOERROR, addrs, 40, 30, r, 20), 0);
}

static void test_dns_response_error_repeats_question(void **state)
{
	(void)state;
	struct message m = query("catalog.shop", DNS_TYPE_A);
	struct dns_query q;
	uint8_t r[512];
	assert_int_equal(dns_query_parse(m.b, m.len, &q), 0);
	size_t n = dns_response_write(m.b, &q, DNS_SERVFAIL, NULL, 0, 0, r, sizeof(r));
	assert_int_equal(n, m.len);
	assert_int_equal(r[3] & 15, DNS_SERVFAIL);
	assert_false(dns_is_response(r, n, 0x4321));
	assert_false(dns_is_response(m.b, m.len, 0x1234));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dns_parse_plain_query_gives_lower_case_name),
		cmocka_unit_test(test_dns_parse_edns_query_gives_size),
		cmocka_unit_test(test_dns_parse_other_kinds_are_not_judged),
		cmocka_unit_test(test_dns_parse_name_of_other_characters_is_nobodys),
		cmocka_unit_test(test_dns_parse_every_cut_is_malformed),
		cmocka_unit_test(test_dns_parse_pointer_in_question_is_malformed),
		cmocka_unit_test(test_dns_parse_long_labels_and_names_are_malformed),
		cmocka_unit_test(test_dns_parse_response_is_refused),
		cmocka_unit_test(test_dns_response_has_addresses_of_the_type),
		cmocka_unit_test(test_dns_response_too_large_is_truncated),
		cmocka_unit_test(test_dns_response_error_repeats_question),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
