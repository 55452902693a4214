/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/str.h"
#include "agent/link/span.h"

static size_t seen;

static void on_span(const struct span *s, void *arg)
{
	const char *names[] = { "GET catalog", "GET other" };
	assert_ptr_equal(arg, &seen);
	assert_string_equal(s->name, names[seen]);
	assert_int_equal(s->trace_id[15], 7);
	assert_int_equal(s->span_id[0], 9);
	assert_int_equal(s->has_parent, seen == 0);
	assert_int_equal(s->start_ns, 1000);
	assert_int_equal(s->end_ns, 3000);
	assert_string_equal(s->provider, "otel");
	assert_string_equal(s->service, "catalog.shop");
	assert_int_equal(s->attribute_count, 2);
	assert_string_equal(s->attributes[0].text, "GET");
	assert_null(s->attributes[1].text);
	assert_int_equal(s->attributes[1].number, -503);
	seen++;
}

static void test_batch_of_two_read_back(void **state)
{
	(void)state;
	struct sb batch = { 0 };
	struct span s = { .name = "GET catalog", .provider = "otel", .service = "catalog.shop", .has_parent = true };
	s.trace_id[15] = 7;
	s.span_id[0] = 9;
	s.start_ns = 1000;
	s.end_ns = 3000;
	s.attributes[0] = (struct span_attribute){ .key = "http.request.method", .text = "GET" };
	s.attributes[1] = (struct span_attribute){ .key = "http.response.status_code", .number = -503 };
	s.attribute_count = 2;
	assert_int_equal(span_batch_add(&batch, &s), 0);
	s.name = "GET other";
	s.has_parent = false;
	assert_int_equal(span_batch_add(&batch, &s), 0);
	seen = 0;
	assert_int_equal(span_batch_read((uint8_t *)batch.p, batch.len, on_span, &seen), 0);
	assert_int_equal(seen, 2);
	sb_done(&batch);
}

static void test_long_text_refused_whole(void **state)
{
	(void)state;
	struct sb batch = { 0 };
	char text[SPAN_TEXT_MAX + 2];
	struct span s = { .name = text };
	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	assert_int_equal(span_batch_add(&batch, &s), 0);
	assert_true(span_batch_read((uint8_t *)batch.p, batch.len, on_span, &seen) < 0);
	assert_true(span_batch_read((const uint8_t *)"\xff\xff\xff", 3, on_span, &seen) < 0);
	sb_done(&batch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_batch_of_two_read_back),
		cmocka_unit_test(test_long_text_refused_whole),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
