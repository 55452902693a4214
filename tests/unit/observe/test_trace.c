/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "agent/helper/observe/context.h"
#include "tests/unit/observe/fake.h"

#define CASE(name) cmocka_unit_test_setup_teardown(name, fake_setup, fake_teardown)
#define TRACE "4bf92f3577b34da6a3ce929d0e0e4736"
#define SPAN "00f067aa0ba902b7"

static const char *value(const struct http_head *h, const char *name)
{
	static char text[256];
	struct http_string v = http_get(h, name);
	if (!v.p)
		return NULL;
	memcpy(text, v.p, v.n);
	text[v.n] = 0;
	return text;
}

static void provider(struct fake *f, uint32_t ppm)
{
	for (int i = 0; i < REPORTER_COUNT; i++) {
		f->telemetry->tracing[i] = (struct tracing){ .provider = strdup("otel"), .sampling_ppm = ppm };
		f->telemetry->tracing[i].client = f->telemetry->tracing[i].server = true;
	}
}

static void begin(struct fake *f)
{
	trace_begin(f->observe, &f->r, f->request, f->telemetry);
}

static void inject(struct fake *f)
{
	trace_inject(f->observe, &f->r, f->request);
}

static void test_traceparent_table(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		bool valid, sampled;
	} cases[] = {
		{ "00-" TRACE "-" SPAN "-01", true, true },
		{ "00-" TRACE "-" SPAN "-00", true, false },
		{ "00-" TRACE "-" SPAN "-03", true, true },
		{ "cc-" TRACE "-" SPAN "-01", true, true },
		{ "cc-" TRACE "-" SPAN "-01-what-will-be", true, true },
		{ "cc-" TRACE "-" SPAN "-01.what", false, false },
		{ "00-" TRACE "-" SPAN "-01-more", false, false },
		{ "ff-" TRACE "-" SPAN "-01", false, false },
		{ "00-" TRACE "-" SPAN "-0", false, false },
		{ "00-" TRACE "-" SPAN "-0x", false, false },
		{ "00_" TRACE "-" SPAN "-01", false, false },
		{ "00-00000000000000000000000000000000-" SPAN "-01", false, false },
		{ "00-" TRACE "-0000000000000000-01", false, false },
		{ "00-4BF92F3577B34DA6A3CE929D0E0E4736-" SPAN "-01", false, false },
		{ "", false, false },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct http_head *h = http_head_new();
		struct trace_context c;
		fake_field(h, "traceparent", cases[i].text);
		assert_int_equal(trace_context_read(h, &c), cases[i].valid);
		assert_int_equal(c.sampled, cases[i].sampled);
		assert_int_equal(c.w3c, cases[i].valid);
		assert_int_equal(c.trace_id[0], cases[i].valid ? 0x4b : 0);
		http_head_free(h);
	}
}

static void test_b3_table(void **state)
{
	(void)state;
	static const struct {
		const char *single, *trace, *span, *sampled, *flags;
		bool valid, has_sampled, is_sampled;
	} cases[] = {
		{ NULL, TRACE, SPAN, "1", NULL, true, true, true },
		{ NULL, TRACE, SPAN, "0", NULL, true, true, false },
		{ NULL, TRACE, SPAN, "true", NULL, true, true, true },
		{ NULL, TRACE, SPAN, NULL, NULL, true, false, false },
		{ NULL, TRACE, SPAN, NULL, "1", true, true, true },
		{ NULL, TRACE, SPAN, "what", NULL, true, false, false },
		{ NULL, "a3ce929d0e0e4736", SPAN, "1", NULL, true, true, true },
		{ NULL, "a3ce929d0e0e473", SPAN, "1", NULL, false, true, true },
		{ NULL, TRACE, NULL, "0", NULL, false, true, false },
		{ NULL, NULL, NULL, "0", NULL, false, true, false },
		{ TRACE "-" SPAN "-1", NULL, NULL, NULL, NULL, true, true, true },
		{ TRACE "-" SPAN "-0-05e3ac9a4f6e3b90", NULL, NULL, NULL, NULL, true, true, false },
		{ TRACE "-" SPAN "-d", NULL, NULL, NULL, NULL, true, true, true },
		{ TRACE "-" SPAN, NULL, NULL, NULL, NULL, true, false, false },
		{ "a3ce929d0e0e4736-" SPAN, NULL, NULL, NULL, NULL, true, false, false },
		{ "0", NULL, NULL, NULL, NULL, false, true, false },
		{ "d", NULL, NULL, NULL, NULL, false, true, true },
		{ TRACE, NULL, NULL, NULL, NULL, false, false, false },
		{ TRACE "-", NULL, NULL, NULL, NULL, false, false, false },
		{ "-" SPAN "-1", NULL, NULL, NULL, NULL, false, false, false },
		{ "---", NULL, NULL, NULL, NULL, false, false, false },
		{ "", NULL, NULL, NULL, NULL, false, false, false },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct http_head *h = http_head_new();
		struct trace_context c;
		const char *const fields[][2] = { { "b3", cases[i].single },
						  { "x-b3-traceid", cases[i].trace },
						  { "x-b3-spanid", cases[i].span },
						  { "x-b3-sampled", cases[i].sampled },
						  { "x-b3-flags", cases[i].flags } };
		for (size_t k = 0; k < ARRAY_SIZE(fields); k++)
			if (fields[k][1])
				assert_int_equal(http_add(h, fields[k][0], fields[k][1]), 0);
		assert_int_equal(trace_context_read(h, &c), cases[i].valid);
		assert_int_equal(c.has_sampled, cases[i].has_sampled);
		assert_int_equal(c.sampled, cases[i].is_sampled);
		if (cases[i].valid)
			assert_int_equal(c.trace_id[8], 0xa3);
		http_head_free(h);
	}
}

static void test_no_provider_touches_no_header(void **state)
{
	struct fake *f = *state;
	fake_field(f->request, "x-request-id", "mine");
	fake_field(f->request, "traceparent", "00-" TRACE "-" SPAN "-01");
	fake_field(f->request, "tracestate", "a=b");
	size_t fields = f->request->field_count;
	begin(f);
	inject(f);
	assert_string_equal(value(f->request, "traceparent"), "00-" TRACE "-" SPAN "-01");
	assert_string_equal(value(f->request, "tracestate"), "a=b");
	assert_string_equal(value(f->request, "x-request-id"), "mine");
	assert_int_equal(f->request->field_count, fields);
	assert_false(f->r.sampled);
}

static void test_headers_are_left_where_they_are_not_to_be_passed_on(void **state)
{
	struct fake *f = *state;
	provider(f, 1000000);
	f->telemetry->tracing[REPORTER_CLIENT].no_propagation = true;
	begin(f);
	inject(f);
	assert_true(f->r.sampled);
	assert_null(value(f->request, "traceparent"));
	f->r.reporter = REPORTER_SERVER;
	begin(f);
	inject(f);
	assert_non_null(value(f->request, "traceparent"));
}

static void test_request_id_is_a_uuid_of_version_4(void **state)
{
	struct fake *f = *state;
	char before[64] = "";
	for (int i = 0; i < 64; i++) {
		http_remove_id(f->request, HTTP_X_REQUEST_ID);
		begin(f);
		const char *id = value(f->request, "x-request-id");
		assert_int_equal(strlen(id), 36);
		assert_int_equal(strspn(id, "0123456789abcdef-"), 36);
		assert_true(id[8] == '-' && id[13] == '-' && id[18] == '-' && id[23] == '-');
		assert_int_equal(id[14], '4');
		assert_non_null(strchr("89ab", id[19]));
		assert_string_not_equal(id, before);
		strcpy(before, id);
	}
}

static void test_spans_of_client_and_server_form_a_chain(void **state)
{
	struct fake *f = *state;
	provider(f, 1000000);
	fake_field(f->request, "traceparent", "00-" TRACE "-" SPAN "-01");
	fake_field(f->request, "tracestate", "a=b");
	begin(f);
	inject(f);
	struct request_record client = f->r;
	assert_int_equal(client.parent_id[0], 0x00);
	assert_int_equal(client.parent_id[1], 0xf0);
	assert_string_equal(value(f->request, "tracestate"), "a=b");

	f->r.reporter = REPORTER_SERVER;
	begin(f);
	inject(f);
	assert_memory_equal(f->r.trace_id, client.trace_id, 16);
	assert_memory_equal(f->r.parent_id, client.span_id, 8);
	assert_memory_not_equal(f->r.span_id, client.span_id, 8);
	assert_true(client.sampled && f->r.sampled);
	char expected[64], span[17];
	trace_hex(f->r.span_id, 8, span);
	snprintf(expected, sizeof(expected), "00-" TRACE "-%s-01", span);
	assert_string_equal(value(f->request, "traceparent"), expected);
	assert_null(value(f->request, "b3"));
	assert_null(value(f->request, "x-b3-traceid"));
}

static void test_a_new_trace_drops_the_state_of_another(void **state)
{
	struct fake *f = *state;
	provider(f, 1000000);
	fake_field(f->request, "traceparent", "broken");
	fake_field(f->request, "tracestate", "a=b");
	begin(f);
	inject(f);
	assert_null(value(f->request, "tracestate"));
	assert_false(f->r.has_parent);
	assert_int_equal(strlen(value(f->request, "traceparent")), 55);
}

static void test_b3_is_answered_in_its_own_form(void **state)
{
	struct fake *f = *state;
	char span[17], expected[128];
	provider(f, 0);
	fake_field(f->request, "b3", TRACE "-" SPAN "-1");
	begin(f);
	inject(f);
	trace_hex(f->r.span_id, 8, span);
	snprintf(expected, sizeof(expected), TRACE "-%s-1-" SPAN, span);
	assert_string_equal(value(f->request, "b3"), expected);
	assert_true(f->r.sampled);
	assert_null(value(f->request, "x-b3-traceid"));

	http_remove(f->request, "b3");
	http_remove(f->request, "traceparent");
	fake_field(f->request, "x-b3-traceid", "a3ce929d0e0e4736");
	fake_field(f->request, "x-b3-spanid", SPAN);
	fake_field(f->request, "x-b3-parentspanid", "1111111111111111");
	begin(f);
	inject(f);
	trace_hex(f->r.span_id, 8, span);
	assert_string_equal(value(f->request, "x-b3-traceid"), "0000000000000000a3ce929d0e0e4736");
	assert_string_equal(value(f->request, "x-b3-spanid"), span);
	assert_string_equal(value(f->request, "x-b3-parentspanid"), SPAN);
	assert_string_equal(value(f->request, "x-b3-sampled"), "0");
	assert_false(f->r.sampled);
}

static void test_a_side_without_spans_hands_on_what_came(void **state)
{
	struct fake *f = *state;
	provider(f, 1000000);
	f->telemetry->tracing[REPORTER_CLIENT].client = false;
	fake_field(f->request, "traceparent", "00-" TRACE "-" SPAN "-01");
	begin(f);
	inject(f);
	assert_string_equal(value(f->request, "traceparent"), "00-" TRACE "-" SPAN "-01");
}

static void test_sampling(void **state)
{
	struct fake *f = *state;
	int sampled = 0;
	provider(f, 250000);
	for (int i = 0; i < 4000; i++) {
		begin(f);
		sampled += f->r.sampled;
	}
	assert_in_range(sampled, 800, 1200);
	fake_field(f->request, "x-b3-sampled", "0"); /* the decision alone */
	for (int i = 0; i < 100; i++) {
		begin(f);
		assert_false(f->r.sampled);
		assert_false(f->r.has_parent);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_traceparent_table),
		cmocka_unit_test(test_b3_table),
		CASE(test_no_provider_touches_no_header),
		CASE(test_headers_are_left_where_they_are_not_to_be_passed_on),
		CASE(test_request_id_is_a_uuid_of_version_4),
		CASE(test_spans_of_client_and_server_form_a_chain),
		CASE(test_a_new_trace_drops_the_state_of_another),
		CASE(test_b3_is_answered_in_its_own_form),
		CASE(test_a_side_without_spans_hands_on_what_came),
		CASE(test_sampling),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
