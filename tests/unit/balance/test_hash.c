/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "tests/unit/balance/fake.h"

#define TEST(name) cmocka_unit_test_setup_teardown(name, fake_setup, fake_teardown)

static struct http_cluster *hash_cluster(enum cluster_hash hash, const char *key)
{
	struct http_cluster *c = fake_cluster(8);
	c->lb = CLUSTER_RING_HASH;
	c->hash = hash;
	c->hash_key = key ? strdup(key) : NULL;
	return c;
}

static struct http_head *head_new(const char *path)
{
	struct http_head *h = http_head_new();
	assert_non_null(h);
	h->method = http_head_text(h, "GET", 3);
	h->path = http_head_text(h, path, strlen(path));
	h->authority = http_head_text(h, "c.example", 9);
	return h;
}

/* The endpoint for a request; cookie: what the response is to set. */
static unsigned int endpoint_of(struct upstream_query *q, char *cookie, size_t size)
{
	struct request r;
	request_start_with(&r, q);
	fake_connected_all();
	assert_non_null(r.up);
	unsigned int at = r.endpoint.addr.b[15];
	if (cookie)
		snprintf(cookie, size, "%s", r.up->cookie);
	else
		assert_string_equal(r.up->cookie, "");
	request_end(&r, 200);
	return at;
}

static unsigned int endpoint_for(const char *path, const char *name, const char *value)
{
	struct upstream_query q;
	struct http_head *h = head_new(path);
	if (name)
		assert_int_equal(http_add(h, name, value), 0);
	request_query(&q);
	q.head = h;
	unsigned int at = endpoint_of(&q, NULL, 0);
	http_head_free(h);
	return at;
}

static size_t different(const unsigned int *at, size_t n)
{
	size_t count = 0;
	for (unsigned int host = 1; host <= 8; host++)
		for (size_t i = 0; i < n; i++)
			if (at[i] == host) {
				count++;
				break;
			}
	return count;
}

static void test_header_decides(void **state)
{
	(void)state;
	unsigned int at[64];
	fake_push_c(hash_cluster(HASH_HEADER, "X-User"));
	for (size_t i = 0; i < 64; i++) {
		char user[16];
		snprintf(user, sizeof(user), "user-%zu", i);
		at[i] = endpoint_for("/", "x-user", user);
		for (int k = 0; k < 3; k++)
			assert_int_equal(endpoint_for("/other", "x-user", user), at[i]);
	}
	assert_true(different(at, 64) >= 7);
	for (size_t i = 0; i < 64; i++) /* without it: anywhere */
		at[i] = endpoint_for("/", NULL, NULL);
	assert_true(different(at, 64) >= 7);

	fake_push_c(hash_cluster(HASH_HEADER, ":path"));
	assert_int_equal(endpoint_for("/a", NULL, NULL), endpoint_for("/a", NULL, NULL));
}

static void test_source_address_decides_not_its_port(void **state)
{
	(void)state;
	unsigned int at[64];
	struct upstream_query q;
	struct http_cluster *c = hash_cluster(HASH_SOURCE_IP, NULL);
	c->lb = CLUSTER_MAGLEV;
	fake_push_c(c);
	request_query(&q);
	assert_int_equal(addr_port_parse("[fd00::1]:1000", &q.source), 0);
	for (size_t i = 0; i < 64; i++) {
		q.source.addr.b[15] = (uint8_t)i;
		at[i] = endpoint_of(&q, NULL, 0);
		q.source.port++;
		assert_int_equal(endpoint_of(&q, NULL, 0), at[i]);
	}
	assert_true(different(at, 64) >= 7);
}

static void test_query_parameter_decides(void **state)
{
	(void)state;
	unsigned int at[64];
	fake_push_c(hash_cluster(HASH_QUERY, "id"));
	for (size_t i = 0; i < 64; i++) {
		char path[64];
		snprintf(path, sizeof(path), "/a?x=%zu&id=%zu", 100 - i, i);
		at[i] = endpoint_for(path, NULL, NULL);
		snprintf(path, sizeof(path), "/b?id=%zu&x=7", i);
		assert_int_equal(endpoint_for(path, NULL, NULL), at[i]);
	}
	assert_true(different(at, 64) >= 7);
}

static void test_a_cookie_is_made_and_followed(void **state)
{
	(void)state;
	struct upstream_query q;
	unsigned int at[64];
	struct http_cluster *c = hash_cluster(HASH_COOKIE, "session");
	c->cookie_make = true;
	c->cookie_ttl_s = 3600;
	c->cookie_path = strdup("/shop");
	c->cookie_attributes = strdup("; SameSite=Strict");
	fake_push_c(c);
	for (size_t i = 0; i < 64; i++) {
		char cookie[256], value[64], sent[128];
		struct http_head *h = head_new("/");
		request_query(&q);
		q.head = h;
		at[i] = endpoint_of(&q, cookie, sizeof(cookie));
		assert_int_equal(sscanf(cookie, "session=\"%16[0-9a-f]\"", value), 1);
		assert_string_equal(cookie + strlen("session=\"0123456789abcdef\""),
				    "; Max-Age=3600; Path=/shop; SameSite=Strict; HttpOnly");
		snprintf(sent, sizeof(sent), "a=1; session=\"%s\"; xsession=no", value);
		assert_int_equal(endpoint_for("/", "cookie", sent), at[i]);
		snprintf(sent, sizeof(sent), "session=%s", value);
		assert_int_equal(endpoint_for("/", "cookie", sent), at[i]);
		http_head_free(h);
	}
	assert_true(different(at, 64) >= 7);
}

static void test_a_foreign_cookie_is_hashed_and_none_is_made_without_ttl(void **state)
{
	(void)state;
	unsigned int at[32];
	fake_push_c(hash_cluster(HASH_COOKIE, "user"));
	for (size_t i = 0; i < 32; i++) {
		char sent[64];
		snprintf(sent, sizeof(sent), "b=2;user=u%zu", i);
		at[i] = endpoint_for("/", "cookie", sent);
		snprintf(sent, sizeof(sent), "user=u%zu ; c=3", i);
		assert_int_equal(endpoint_for("/", "cookie", sent), at[i]);
	}
	assert_true(different(at, 32) >= 6);
	endpoint_for("/", "cookie", "user; superuser=x; user"); /* asserts that no cookie is made */
	endpoint_for("/", NULL, NULL);
}

static void test_a_request_that_waits_for_the_cluster_is_hashed_too(void **state)
{
	(void)state;
	struct request r;
	struct upstream_query q;
	struct http_head *h = head_new("/");
	assert_int_equal(http_add(h, "x-user", "somebody"), 0);
	request_query(&q);
	q.head = h;
	request_start_with(&r, &q);
	http_head_free(h); /* it was lent for the call */
	fake_push_c(hash_cluster(HASH_HEADER, "x-user"));
	fake_connected_all();
	unsigned int at = r.endpoint.addr.b[15];
	request_end(&r, 200);
	assert_int_equal(endpoint_for("/", "x-user", "somebody"), at);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_header_decides),
		TEST(test_source_address_decides_not_its_port),
		TEST(test_query_parameter_decides),
		TEST(test_a_cookie_is_made_and_followed),
		TEST(test_a_foreign_cookie_is_hashed_and_none_is_made_without_ttl),
		TEST(test_a_request_that_waits_for_the_cluster_is_hashed_too),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
