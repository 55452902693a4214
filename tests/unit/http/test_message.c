/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/helper/http/message.h"

#define assert_text(string, text)                                                                                      \
	do {                                                                                                           \
		struct http_string s_ = (string);                                                                      \
		assert_non_null(s_.p);                                                                                 \
		assert_int_equal(s_.n, strlen(text));                                                                  \
		assert_memory_equal(s_.p, text, s_.n);                                                                 \
	} while (0)

static void test_name_id_every_known_name_is_found(void **state)
{
	(void)state;
	for (unsigned int id = 1; id < HTTP_NAME_COUNT; id++) {
		struct http_string text = http_name_text((enum http_name)id);
		assert_int_equal(http_name_id(text.p, text.n), id);
		char other[64];
		memcpy(other, text.p, text.n);
		other[text.n / 2] = '~';
		assert_int_equal(http_name_id(other, text.n), HTTP_NAME_OTHER);
		assert_int_equal(http_name_id(text.p, text.n - 1) == id, false);
	}
	assert_int_equal(http_name_id("", 0), HTTP_NAME_OTHER);
}

static void test_fields_set_add_remove_keep_order(void **state)
{
	(void)state;
	struct http_head *h = http_head_new();
	assert_int_equal(http_add(h, "a", "1"), 0);
	assert_int_equal(http_add(h, "cookie", "x=1"), 0);
	assert_int_equal(http_add(h, "b", "2"), 0);
	assert_int_equal(http_add(h, "a", "3"), 0);
	assert_int_equal(http_add_id(h, HTTP_COOKIE, "y=2", 3), 0);
	assert_int_equal(h->text_bytes, 1 + 1 + 6 + 3 + 1 + 1 + 1 + 1 + 6 + 3);

	assert_text(http_get(h, "a"), "1");
	assert_text(http_get_joined(h, "a"), "1,3");
	assert_text(http_get_joined(h, "cookie"), "x=1; y=2");
	assert_ptr_equal(http_get_joined(h, "a").p, http_get_joined(h, "a").p); /* made once */
	assert_text(http_get_joined(h, "b"), "2");
	assert_null(http_get(h, "c").p);
	assert_null(http_get_joined(h, "c").p);

	assert_int_equal(http_set(h, "a", "4"), 0);
	assert_int_equal(h->field_count, 4);
	assert_text(http_get_joined(h, "a"), "4");
	assert_text(h->fields[0].name, "a");
	assert_text(h->fields[2].name, "b");
	assert_int_equal(http_set_id(h, HTTP_COOKIE, "", 0), 0);
	assert_text(http_get_id(h, HTTP_COOKIE), "");
	http_remove(h, "a");
	http_remove_id(h, HTTP_COOKIE);
	assert_int_equal(h->field_count, 1);
	assert_int_equal(h->text_bytes, 2);
	http_head_free(h);
}

static void test_fields_bad_values_are_refused(void **state)
{
	(void)state;
	struct http_head *h = http_head_new();
	static const char *const bad[] = { "a\rb",  "a\nb", " a",	  "a ",
					   "a\x01", "\x7f", "12345678\r", "1234567\n12345678" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(http_add(h, "x", bad[i]), -EINVAL);
		assert_int_equal(http_set_id(h, HTTP_HOST, bad[i], strlen(bad[i])), -EINVAL);
	}
	assert_int_equal(http_add_id(h, HTTP_HOST, "a\0b", 3), -EINVAL);
	assert_int_equal(http_add(h, "x y", "v"), -EINVAL);
	assert_int_equal(http_add(h, "", "v"), -EINVAL);
	assert_int_equal(h->field_count, 0);
	assert_int_equal(http_add(h, "x", "tab\there, \xc3\xa9 and more of it"), 0);
	http_head_free(h);
}

static void test_head_many_fields_and_long_text(void **state)
{
	(void)state;
	struct http_head *h = http_head_new();
	char name[32], value[400];
	memset(value, 'v', sizeof(value));
	for (int i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "x-%d", i);
		assert_int_equal(http_add(h, name, "value"), 0);
		struct http_string n = http_head_textf(h, "y-%d", i);
		assert_int_equal(http_add_ref(h, n, http_head_text(h, value, sizeof(value))), 0);
	}
	assert_int_equal(h->field_count, 600);
	struct http_head *copy = http_head_copy(h);
	http_head_free(h);
	assert_int_equal(copy->field_count, 600);
	assert_text(http_get(copy, "x-299"), "value");
	assert_int_equal(http_get(copy, "y-150").n, 400);
	http_head_free(copy);
}

static void test_head_copy_has_everything(void **state)
{
	(void)state;
	struct http_head *h = http_head_new();
	h->version = HTTP_1_0;
	h->method = http_head_text(h, "GET", 3);
	h->authority = http_head_text(h, "a:80", 4);
	h->path = http_head_text(h, "/x?y", 4);
	h->protocol = http_head_text(h, "websocket", 9);
	h->content_length = 12;
	h->upgrade = h->expect_continue = true;
	http_add(h, "host", "h");
	h->fields[0].as_sent = "HOST";
	h->fields[0].sensitive = true;
	struct http_head *c = http_head_copy(h);
	http_head_free(h);
	http_head_free(http_head_new());
	assert_text(c->method, "GET");
	assert_null(c->scheme.p);
	assert_text(c->authority, "a:80");
	assert_text(c->path, "/x?y");
	assert_text(c->protocol, "websocket");
	assert_int_equal(c->version, HTTP_1_0);
	assert_int_equal(c->content_length, 12);
	assert_true(c->upgrade && c->expect_continue);
	assert_memory_equal(c->fields[0].as_sent, "HOST", 4);
	assert_true(c->fields[0].sensitive);
	assert_int_equal(c->fields[0].id, HTTP_HOST);
	http_head_free(c);
}

static void test_hop_by_hop_is_removed(void **state)
{
	(void)state;
	struct http_head *h = http_head_new();
	http_add(h, "connection", "close, X-One ,,x-two, te, upgrade");
	http_add(h, "x-one", "1");
	http_add(h, "keep-alive", "1");
	http_add(h, "x-two", "1");
	http_add(h, "proxy-connection", "1");
	http_add(h, "transfer-encoding", "chunked");
	http_add(h, "upgrade", "websocket");
	http_add(h, "http2-settings", "AAA");
	http_add(h, "te", "gzip, Trailers;q=1, trailers");
	http_add(h, "x-three", "1");
	http_add(h, "connection", "x-three");
	http_add(h, "x-stays", "1");
	struct http_head *up = http_head_copy(h);
	http_remove_hop_by_hop(h);
	assert_int_equal(h->field_count, 2);
	assert_text(http_get(h, "te"), "trailers");
	assert_text(http_get(h, "x-stays"), "1");
	assert_int_equal(h->text_bytes, 2 + 8 + 7 + 1);

	up->upgrade = true;
	http_set(up, "te", "gzip");
	http_remove_hop_by_hop(up);
	assert_int_equal(up->field_count, 2);
	assert_text(http_get(up, "upgrade"), "websocket");
	http_head_free(up);
	http_head_free(h);
}

static void test_list_has_token(void **state)
{
	(void)state;
	struct http_string list = { "keep-alive ,\tClose,x", 20 };
	assert_true(http_list_has(list, "close"));
	assert_true(http_list_has(list, "x"));
	assert_false(http_list_has(list, "clos"));
	assert_false(http_list_has((struct http_string){ 0 }, "x"));
	assert_false(http_list_has((struct http_string){ "", 0 }, "x"));
}

static void test_reasons(void **state)
{
	(void)state;
	assert_string_equal(http_reason(200), "OK");
	assert_string_equal(http_reason(100), "Continue");
	assert_string_equal(http_reason(431), "Request Header Fields Too Large");
	assert_string_equal(http_reason(511), "Network Authentication Required");
	assert_string_equal(http_reason(299), "");
	assert_false(http_status_has_body(204));
	assert_false(http_status_has_body(304));
	assert_false(http_status_has_body(103));
	assert_true(http_status_has_body(404));
}

static void *use_heads(void *arg)
{
	(void)arg;
	struct http_head *h[100];
	for (size_t i = 0; i < 100; i++)
		h[i] = http_head_new();
	for (size_t i = 0; i < 100; i++)
		http_head_free(h[i]);
	return NULL;
}

/* The leak checker sees what a thread leaves behind. */
static void test_heads_of_a_thread_end_with_it(void **state)
{
	(void)state;
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, use_heads, NULL), 0);
	pthread_join(thread, NULL);
	use_heads(NULL);
	http_heads_trim();
	http_head_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_name_id_every_known_name_is_found),
		cmocka_unit_test(test_fields_set_add_remove_keep_order),
		cmocka_unit_test(test_fields_bad_values_are_refused),
		cmocka_unit_test(test_head_many_fields_and_long_text),
		cmocka_unit_test(test_head_copy_has_everything),
		cmocka_unit_test(test_hop_by_hop_is_removed),
		cmocka_unit_test(test_list_has_token),
		cmocka_unit_test(test_reasons),
		cmocka_unit_test(test_heads_of_a_thread_end_with_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
