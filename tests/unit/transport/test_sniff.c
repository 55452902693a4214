/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/sniff.h"

#include "agent/base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static enum sniffed text(const char *t)
{
	char name[SNIFF_NAME_MAX];
	return sniff((const uint8_t *)t, strlen(t), name);
}

static void test_sniff_texts_are_told_apart(void **state)
{
	static const struct {
		const char *bytes;
		enum sniffed what;
	} rows[] = {
		{ "", SNIFF_MORE },
		{ "G", SNIFF_MORE },
		{ "GET", SNIFF_MORE },
		{ "GET ", SNIFF_MORE },
		{ "GET /", SNIFF_HTTP1 },
		{ "GET /x HTTP/1.1\r\n", SNIFF_HTTP1 },
		{ "OPTIONS * HTTP/1.1\r\n", SNIFF_HTTP1 },
		{ "CONNECT a:443 HTTP/1.1\r\n", SNIFF_HTTP1 },
		{ "CONNECT a:443", SNIFF_MORE },
		{ "GET http://a/ HTTP/1.0\r\n", SNIFF_HTTP1 },
		{ "BREW /pot HTTP/1.1\r\n", SNIFF_HTTP1 },
		{ "BREW /pot", SNIFF_MORE },
		{ "\r\nGET / HTTP/1.1\r\n", SNIFF_HTTP1 },
		{ "\r\n\r\nGET / HTTP/1.1\r\n", SNIFF_HTTP1 },
		{ "\r", SNIFF_MORE },
		{ "\r\n", SNIFF_MORE },
		{ "\rx", SNIFF_OTHER },
		{ "\r\n\r\n\r\nGET / HTTP/1.1\r\n", SNIFF_OTHER },
		{ "GET key\r\n", SNIFF_OTHER },		 /* Redis, inline */
		{ "get key\r\n", SNIFF_OTHER },		 /* memcached */
		{ "*1\r\n$4\r\nPING\r\n", SNIFF_OTHER }, /* Redis */
		{ "GET /key\r\n", SNIFF_HTTP1 },
		{ "BREW /pot\r\n", SNIFF_OTHER },
		{ "GET  / HTTP/1.1\r\n", SNIFF_OTHER },
		{ "GET x HTTP/2.0\r\n", SNIFF_OTHER },
		{ "GET x HTTP/0.9\r\n", SNIFF_OTHER },
		{ "EHLO mail\r\n", SNIFF_OTHER },
		{ "SSH-2.0-OpenSSH_9\r\n", SNIFF_OTHER },
		{ "(GET / HTTP/1.1\r\n", SNIFF_OTHER },
		{ " GET / HTTP/1.1\r\n", SNIFF_OTHER },
		{ "AVERYLONGMETHODNAMETHATNOBODYWOULDUSE", SNIFF_OTHER },
		{ "P", SNIFF_MORE },
		{ "PRI * HTTP/2.0\r\n\r\nSM\r\n\r", SNIFF_MORE },
		{ "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", SNIFF_HTTP2 },
		{ "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", SNIFF_OTHER },
		{ "PRI * HTTP/1.1\r\n", SNIFF_HTTP1 },
		{ "\x03\x01\x02", SNIFF_OTHER },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (text(rows[i].bytes) != rows[i].what)
			fail_msg("row %zu, \"%s\": %d", i, rows[i].bytes, text(rows[i].bytes));
}

static void test_sniff_always_decides_in_the_end(void **state)
{
	(void)state;
	char name[SNIFF_NAME_MAX];
	uint8_t *p = malloc(SNIFF_MAX);
	memset(p, 'a', SNIFF_MAX);
	memcpy(p, "GET ", 4);
	assert_int_equal(sniff(p, SNIFF_MAX - 1, name), SNIFF_MORE);
	assert_int_equal(sniff(p, SNIFF_MAX, name), SNIFF_OTHER);
	free(p);
}

/* --- ClientHello --- */

struct hello {
	uint8_t b[2048];
	size_t n;
};

static void put(struct hello *h, size_t bytes, size_t value)
{
	while (bytes--)
		h->b[h->n++] = (uint8_t)(value >> 8 * bytes);
}

static void put_len(struct hello *h, size_t at, size_t bytes)
{
	size_t end = h->n, len = end - at - bytes;
	h->n = at;
	put(h, bytes, len);
	h->n = end;
}

static void hello_make(struct hello *h, const char *name, bool extensions)
{
	h->n = 0;
	put(h, 1, 1);
	put(h, 3, 0);
	put(h, 2, 0x303);
	memset(h->b + h->n, 7, 32);
	h->n += 32;
	put(h, 1, 32);
	h->n += 32;
	put(h, 2, 4);
	put(h, 4, 0x13011302);
	put(h, 2, 0x100);
	if (extensions) {
		size_t all = h->n;
		put(h, 2, 0);
		put(h, 4, 0x002b0003);
		put(h, 3, 0x020304);
		if (name) {
			put(h, 2, 0);
			size_t at = h->n;
			put(h, 2, 0);
			put(h, 2, strlen(name) + 3);
			put(h, 1, 0);
			put(h, 2, strlen(name));
			memcpy(h->b + h->n, name, strlen(name));
			h->n += strlen(name);
			put_len(h, at, 2);
		}
		put(h, 4, 0x00170000);
		put_len(h, all, 2);
	}
	put_len(h, 1, 3);
}

/* In records of at most `piece` bytes. */
static size_t in_records(const struct hello *h, size_t piece, uint8_t *out)
{
	size_t n = 0;
	for (size_t at = 0; at < h->n; at += piece) {
		size_t len = h->n - at < piece ? h->n - at : piece;
		memcpy(out + n, (uint8_t[]){ 22, 3, 1, (uint8_t)(len >> 8), (uint8_t)len }, 5);
		memcpy(out + n + 5, h->b + at, len);
		n += 5 + len;
	}
	return n;
}

static void check_hello(const struct hello *h, size_t piece, enum sniffed what, const char *expected)
{
	uint8_t wire[16384];
	char name[SNIFF_NAME_MAX];
	size_t n = in_records(h, piece, wire);
	if (what == SNIFF_TLS)
		for (size_t some = 1; some < n; some++) {
			uint8_t *exact = malloc(some);
			memcpy(exact, wire, some);
			assert_int_equal(sniff(exact, some, name), SNIFF_MORE);
			assert_string_equal(name, "");
			free(exact);
		}
	assert_int_equal(sniff(wire, n, name), what);
	assert_string_equal(name, expected);
}

static void test_sniff_hello_gives_its_name(void **state)
{
	struct hello h;
	(void)state;
	hello_make(&h, "Shop.Example.com", true);
	check_hello(&h, 16384, SNIFF_TLS, "shop.example.com");
	check_hello(&h, 10, SNIFF_TLS, "shop.example.com");
	hello_make(&h, NULL, true);
	check_hello(&h, 16384, SNIFF_TLS, "");
	hello_make(&h, NULL, false);
	check_hello(&h, 16384, SNIFF_TLS, "");
}

static void test_sniff_odd_hello_is_refused(void **state)
{
	struct hello h;
	(void)state;
	hello_make(&h, "a b", true);
	check_hello(&h, 16384, SNIFF_OTHER, "");
	hello_make(&h, "", true);
	check_hello(&h, 16384, SNIFF_OTHER, "");
	hello_make(&h, "a\nb", true);
	check_hello(&h, 16384, SNIFF_OTHER, "");
	hello_make(&h, "ok", true);
	h.b[0] = 2; /* a ServerHello */
	check_hello(&h, 16384, SNIFF_OTHER, "");
	hello_make(&h, "ok", true);
	h.b[3]--; /* shorter than what is in it */
	check_hello(&h, 16384, SNIFF_OTHER, "");
}

static void test_sniff_server_name_is_told_apart_from_none(void **state)
{
	(void)state;
	static const uint8_t tls[] = { 22, 3, 1, 0, 200, 1 }, other[] = { 'E' };
	assert_string_equal(sniff_server_name(SNIFF_TLS, tls, sizeof(tls), "a.example"), "a.example");
	assert_string_equal(sniff_server_name(SNIFF_TLS, tls, sizeof(tls), ""), "");
	assert_null(sniff_server_name(SNIFF_MORE, tls, sizeof(tls), ""));
	assert_null(sniff_server_name(SNIFF_OTHER, tls, sizeof(tls), ""));
	assert_null(sniff_server_name(SNIFF_MORE, NULL, 0, ""));
	assert_string_equal(sniff_server_name(SNIFF_OTHER, other, 1, ""), "");
	assert_string_equal(sniff_server_name(SNIFF_MORE, other, 1, ""), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sniff_server_name_is_told_apart_from_none),
		cmocka_unit_test(test_sniff_texts_are_told_apart),
		cmocka_unit_test(test_sniff_always_decides_in_the_end),
		cmocka_unit_test(test_sniff_hello_gives_its_name),
		cmocka_unit_test(test_sniff_odd_hello_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
