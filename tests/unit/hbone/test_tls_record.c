/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/tls_record.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct pair {
	struct tls_record *client, *server;
};

static void pair_init(struct pair *p, bool aes256)
{
	struct tls_secrets s = { .aes256 = aes256 };
	memset(s.client, 0x11, sizeof(s.client));
	memset(s.server, 0x22, sizeof(s.server));
	assert_int_equal(tls_record_new(&s, false, &p->client), 0);
	assert_int_equal(tls_record_new(&s, true, &p->server), 0);
}

static void pair_done(struct pair *p)
{
	tls_record_free(p->client);
	tls_record_free(p->server);
}

static uint8_t record[TLS_RECORD_MAX];
static struct tls_plain plain;

static size_t seal(struct tls_record *r, enum tls_content type, const void *bytes, size_t len)
{
	if (len)
		memcpy(record + TLS_HEADER, bytes, len);
	ssize_t n = tls_record_seal(r, type, record, len);
	assert_int_equal(n, TLS_HEADER + (ssize_t)len + TLS_TAIL);
	return (size_t)n;
}

static void exchange(struct tls_record *from, struct tls_record *to, const char *text)
{
	size_t n = seal(from, TLS_DATA, text, strlen(text));
	assert_int_equal(tls_record_open(to, record, n, &plain), n);
	assert_int_equal(plain.what, TLS_OPENED_DATA);
	assert_int_equal(plain.len, strlen(text));
	assert_memory_equal(plain.data, text, plain.len);
}

/* RFC 8448, section 3: the server's application traffic keys. */
static void test_label_of_rfc8448_gives_its_keys(void **state)
{
	static const uint8_t secret[32] = { 0xa1, 0x1a, 0xf9, 0xf0, 0x55, 0x31, 0xf8, 0x56, 0xad, 0x47, 0x11,
					    0x6b, 0x45, 0xa9, 0x50, 0x32, 0x82, 0x04, 0xb4, 0xf4, 0x4b, 0xfb,
					    0x6b, 0x3a, 0x4b, 0x4f, 0x1f, 0x3f, 0xcb, 0x63, 0x16, 0x43 };
	static const uint8_t key[16] = { 0x9f, 0x02, 0x28, 0x3b, 0x6c, 0x9c, 0x07, 0xef,
					 0xc2, 0x6b, 0xb9, 0xf2, 0xac, 0x92, 0xe3, 0x56 };
	static const uint8_t iv[12] = { 0xcf, 0x78, 0x2b, 0x88, 0xdd, 0x83, 0x54, 0x9a, 0xad, 0xf1, 0xe9, 0x84 };
	uint8_t out[16];
	(void)state;
	assert_int_equal(tls_expand_label(false, secret, "key", out, 16), 0);
	assert_memory_equal(out, key, 16);
	assert_int_equal(tls_expand_label(false, secret, "iv", out, 12), 0);
	assert_memory_equal(out, iv, 12);
}

static void test_record_both_ways_and_both_ciphers(void **state)
{
	(void)state;
	for (int aes256 = 0; aes256 < 2; aes256++) {
		struct pair p;
		pair_init(&p, aes256);
		for (int i = 0; i < 3; i++) {
			exchange(p.client, p.server, "there");
			exchange(p.server, p.client, "and back");
		}
		pair_done(&p);
	}
}

static void test_record_of_any_size_opens(void **state)
{
	static uint8_t bytes[TLS_CONTENT_MAX];
	struct pair p;
	(void)state;
	pair_init(&p, false);
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7);
	for (size_t len = 1; len <= sizeof(bytes); len = len < 40 ? len + 1 : len * 2) {
		size_t n = seal(p.client, TLS_DATA, bytes, len);
		assert_int_equal(tls_record_open(p.server, record, n, &plain), n);
		assert_int_equal(plain.len, len);
		assert_memory_equal(plain.data, bytes, len);
	}
	assert_int_equal(tls_record_seal(p.client, TLS_DATA, record, TLS_CONTENT_MAX + 1), -EMSGSIZE);
	pair_done(&p);
}

static void test_record_incomplete_waits(void **state)
{
	struct pair p;
	(void)state;
	pair_init(&p, false);
	size_t n = seal(p.client, TLS_DATA, "text", 4);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(tls_record_open(p.server, record, i, &plain), 0);
	assert_int_equal(tls_record_open(p.server, record, n, &plain), n);
	pair_done(&p);
}

static void test_record_changed_anywhere_does_not_open(void **state)
{
	(void)state;
	for (size_t at = 0; at < TLS_HEADER + 4 + TLS_TAIL; at++) {
		struct pair p;
		pair_init(&p, false);
		size_t n = seal(p.client, TLS_DATA, "text", 4);
		record[at] ^= 1;
		if (at == 3 || at == 4)
			assert_true(tls_record_open(p.server, record, n, &plain) <= 0);
		else
			assert_true(tls_record_open(p.server, record, n, &plain) < 0);
		pair_done(&p);
	}
}

static void test_record_replayed_does_not_open(void **state)
{
	uint8_t copy[64];
	struct pair p;
	(void)state;
	pair_init(&p, false);
	size_t n = seal(p.client, TLS_DATA, "text", 4);
	memcpy(copy, record, n);
	assert_int_equal(tls_record_open(p.server, record, n, &plain), n);
	assert_int_equal(tls_record_open(p.server, copy, n, &plain), -EBADMSG);
	pair_done(&p);
}

static void test_record_key_update_changes_one_direction(void **state)
{
	struct pair p;
	(void)state;
	pair_init(&p, true);
	exchange(p.client, p.server, "old key");
	ssize_t n = tls_record_update(p.client, true, record);
	assert_int_equal(n, TLS_UPDATE_MAX);
	assert_int_equal(tls_record_open(p.server, record, (size_t)n, &plain), n);
	assert_int_equal(plain.what, TLS_OPENED_UPDATE);
	exchange(p.client, p.server, "new key");
	exchange(p.server, p.client, "still the old one");
	n = tls_record_update(p.server, false, record);
	assert_int_equal(tls_record_open(p.client, record, (size_t)n, &plain), n);
	assert_int_equal(plain.what, TLS_OPENED_NONE);
	exchange(p.server, p.client, "new as well");
	pair_done(&p);
}

static void test_record_alerts_are_told_apart(void **state)
{
	struct pair p;
	(void)state;
	pair_init(&p, false);
	ssize_t n = tls_record_alert(p.client, 1, 0, record);
	assert_int_equal(tls_record_open(p.server, record, (size_t)n, &plain), n);
	assert_int_equal(plain.what, TLS_OPENED_CLOSE);
	n = tls_record_alert(p.client, 2, 48, record);
	assert_int_equal(tls_record_open(p.server, record, (size_t)n, &plain), n);
	assert_int_equal(plain.what, TLS_OPENED_ALERT);
	assert_int_equal(plain.alert, 48);
	pair_done(&p);
}

static ssize_t message(const void *bytes, size_t len)
{
	struct pair p;
	pair_init(&p, false);
	size_t n = seal(p.server, TLS_MESSAGE, bytes, len);
	ssize_t rc = tls_record_open(p.client, record, n, &plain);
	pair_done(&p);
	return rc;
}

static void test_record_ticket_is_ignored(void **state)
{
	(void)state;
	assert_true(message("\x04\0\0\x04\1\2\3\4", 8) > 0);
	assert_int_equal(plain.what, TLS_OPENED_NONE);
}

static void test_record_other_messages_are_refused(void **state)
{
	(void)state;
	assert_int_equal(message("\x0d\0\0\x01\0", 5), -EPROTO);	   /* CertificateRequest */
	assert_int_equal(message("\x18\0\0\x01\x02", 5), -EPROTO);	   /* KeyUpdate of an unknown kind */
	assert_int_equal(message("\x18\0\0\x01\0\x04\0\0\0", 9), -EPROTO); /* something behind a KeyUpdate */
	assert_int_equal(message("\x04\xff\xff\xff", 4), -EMSGSIZE);
	assert_int_equal(message("", 0), -EPROTO);
}

static void test_record_message_over_two_records_is_joined(void **state)
{
	struct pair p;
	(void)state;
	pair_init(&p, false);
	size_t n = seal(p.server, TLS_MESSAGE, "\x18\0\0", 3);
	assert_int_equal(tls_record_open(p.client, record, n, &plain), n);
	n = seal(p.server, TLS_MESSAGE, "\x01\x01", 2);
	assert_int_equal(tls_record_open(p.client, record, n, &plain), n);
	assert_int_equal(plain.what, TLS_OPENED_UPDATE);
	pair_done(&p);
}

static void test_record_data_inside_a_message_is_refused(void **state)
{
	struct pair p;
	(void)state;
	pair_init(&p, false);
	size_t n = seal(p.server, TLS_MESSAGE, "\x18\0\0", 3);
	assert_int_equal(tls_record_open(p.client, record, n, &plain), n);
	n = seal(p.server, TLS_DATA, "x", 1);
	assert_int_equal(tls_record_open(p.client, record, n, &plain), -EPROTO);
	pair_done(&p);
}

static void test_record_empty_data_is_rationed(void **state)
{
	struct pair p;
	ssize_t rc = 1;
	int count = 0;
	(void)state;
	pair_init(&p, false);
	while (rc > 0 && count++ < 1000) {
		size_t n = seal(p.client, TLS_DATA, NULL, 0);
		rc = tls_record_open(p.server, record, n, &plain);
	}
	assert_int_equal(rc, -EPROTO);
	assert_true(count < 100);
	pair_done(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_label_of_rfc8448_gives_its_keys),
		cmocka_unit_test(test_record_both_ways_and_both_ciphers),
		cmocka_unit_test(test_record_of_any_size_opens),
		cmocka_unit_test(test_record_incomplete_waits),
		cmocka_unit_test(test_record_changed_anywhere_does_not_open),
		cmocka_unit_test(test_record_replayed_does_not_open),
		cmocka_unit_test(test_record_key_update_changes_one_direction),
		cmocka_unit_test(test_record_alerts_are_told_apart),
		cmocka_unit_test(test_record_ticket_is_ignored),
		cmocka_unit_test(test_record_other_messages_are_refused),
		cmocka_unit_test(test_record_message_over_two_records_is_joined),
		cmocka_unit_test(test_record_data_inside_a_message_is_refused),
		cmocka_unit_test(test_record_empty_data_is_rationed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
