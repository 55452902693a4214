/* SPDX-License-Identifier: Apache-2.0 */
/* Access logs, spans and taps as record_finish() makes them. WEFT_PERF=1 times it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/helper/observe/connection_log.h"
#include "agent/helper/observe/log_writer.h"
#include "agent/link/span.h"
#include "agent/model/cluster.h"
#include "tests/unit/observe/fake.h"

#define CASE(name) cmocka_unit_test_setup_teardown(name, fake_setup, fake_teardown)

static void log_add(struct fake *f, const char *path, bool json, const char *format, const char *filter)
{
	struct telemetry *t = f->telemetry;
	size_t n = t->log_count[REPORTER_CLIENT]++;
	t->logs[REPORTER_CLIENT] = realloc(t->logs[REPORTER_CLIENT], (n + 1) * sizeof(struct access_log));
	t->logs[REPORTER_CLIENT][n] = (struct access_log){ .provider = strdup("envoy"),
							   .path = strdup(path),
							   .json = json,
							   .format = format ? strdup(format) : NULL,
							   .filter = filter ? strdup(filter) : NULL };
	telemetry_seal(t);
}

static FILE *sink(const char *path)
{
	FILE *file = tmpfile();
	if (!fake_notes.settings.log_writer)
		assert_int_equal(log_writer_new(&fake_notes.settings.log_writer), 0);
	assert_int_equal(log_writer_sink(fake_notes.settings.log_writer, path, dup(fileno(file))), 0);
	return file;
}

/* As when the helper ends: workers first. */
static void finish(struct fake *f)
{
	observe_free(f->observe);
	f->observe = NULL;
	log_writer_free(fake_notes.settings.log_writer);
}

static void expect(FILE *file, const char *text)
{
	char buf[4096];
	rewind(file);
	size_t n = fread(buf, 1, sizeof(buf) - 1, file);
	buf[n] = 0;
	assert_string_equal(buf, text);
	fclose(file);
}

static void test_lines_are_batched_and_filtered(void **state)
{
	struct fake *f = *state;
	FILE *a = sink("a"), *b = sink("b");
	log_add(f, "a", false, "%RESPONSE_CODE% %REQ(:METHOD)%", NULL);
	log_add(f, "b", true, "{\"code\":\"%RESPONSE_CODE%\"}\n", "response.code >= 400");
	record_finish(f->observe, &f->r);
	f->r.status = 503;
	record_finish(f->observe, &f->r);
	rewind(a);
	assert_int_equal(fgetc(a), EOF); /* not yet */
	fake_run(150);
	finish(f);
	expect(a, "200 GET\n503 GET\n");
	expect(b, "{\"code\":503}\n");
}

static void test_a_changed_format_is_read_again(void **state)
{
	struct fake *f = *state;
	FILE *a = sink("a");
	log_add(f, "a", false, "one", NULL);
	record_finish(f->observe, &f->r);
	free(f->telemetry->logs[REPORTER_CLIENT][0].format);
	f->telemetry->logs[REPORTER_CLIENT][0].format = strdup("two");
	telemetry_seal(f->telemetry);
	record_finish(f->observe, &f->r);
	fake_run(150);
	finish(f);
	expect(a, "one\ntwo\n");
}

static void test_lost_lines_are_counted(void **state)
{
	struct fake *f = *state;
	FILE *a = sink("a");
	log_add(f, "nowhere", false, "x", NULL);
	record_finish(f->observe, &f->r);
	record_finish(f->observe, &f->r);
	fake_run(150);
	assert_int_equal(fake_notes.metrics.access_log_dropped, 2);
	finish(f);
	expect(a, "");
}

static void test_paths_come_and_go(void **state)
{
	struct fake *f = *state;
	FILE *last = sink("path-99");
	log_add(f, "path", false, "x", NULL);
	for (int i = 0; i < 100; i++) {
		free(f->telemetry->logs[REPORTER_CLIENT][0].path);
		f->telemetry->logs[REPORTER_CLIENT][0].path = str_format("path-%d", i);
		record_finish(f->observe, &f->r);
		if (i % 10 == 9)
			fake_run(110);
	}
	assert_int_equal(fake_notes.metrics.access_log_dropped, 99); /* of those without a sink */
	finish(f);
	expect(last, "x\n");
}

static void tracing(struct fake *f)
{
	struct tracing *t = &f->telemetry->tracing[REPORTER_CLIENT];
	*t = (struct tracing){ .provider = strdup("otel"), .sampling_ppm = 1000000, .client = true };
	t->tags = calloc(5, sizeof(*t->tags));
	t->tag_count = 5;
	t->tags[0] = (struct custom_tag){ strdup("cell"), TAG_LITERAL, strdup("a"), NULL };
	t->tags[1] = (struct custom_tag){ strdup("tenant"), TAG_HEADER, strdup("x-tenant"), strdup("none") };
	t->tags[2] = (struct custom_tag){ strdup("other"), TAG_HEADER, strdup("x-other"), strdup("none") };
	t->tags[3] = (struct custom_tag){ strdup("component"), TAG_LITERAL, strdup("mine"), NULL };
	t->tags[4] = (struct custom_tag){ strdup("way"), TAG_FORMATTER, strdup("%REQ(:METHOD)% %PROTOCOL%"), NULL };
	telemetry_seal(f->telemetry);
}

static const char *attribute(const struct span *s, const char *key)
{
	const char *found = NULL;
	for (size_t i = 0; i < s->attribute_count; i++)
		if (str_eq(s->attributes[i].key, key)) {
			assert_null(found);
			found = s->attributes[i].text;
		}
	return found;
}

static void on_span(const struct span *s, void *arg)
{
	const struct request_record *r = arg;
	assert_string_equal(s->name, "catalog.shop.svc.cluster.local:80");
	assert_string_equal(s->service, "web.shop");
	assert_string_equal(s->provider, "otel");
	assert_memory_equal(s->trace_id, r->trace_id, 16);
	assert_memory_equal(s->span_id, r->span_id, 8);
	assert_true(s->has_parent && !s->server && !s->error);
	assert_int_equal(s->start_ns, r->start_ns);
	assert_int_equal(s->end_ns - s->start_ns, 12345678 - 1000000);
	assert_string_equal(attribute(s, "http.request.method"), "GET");
	assert_string_equal(attribute(s, "cell"), "a");
	assert_string_equal(attribute(s, "tenant"), "blue?");
	assert_string_equal(attribute(s, "other"), "none");
	assert_string_equal(attribute(s, "component"), "mine");
	assert_string_equal(attribute(s, "way"), "GET HTTP/1.1");
	assert_string_equal(attribute(s, "network.peer.address"), "10.0.0.2:8080");
}

static void test_a_span_says_what_happened(void **state)
{
	struct fake *f = *state;
	tracing(f);
	fake_field(f->request, "x-tenant", "blue\xff");
	f->r.end_ns = 1011345678;
	f->r.sampled = f->r.has_parent = true;
	memset(f->r.trace_id, 1, 16);
	memset(f->r.span_id, 2, 8);
	record_finish(f->observe, &f->r);
	f->r.sampled = false;
	record_finish(f->observe, &f->r);
	assert_int_equal(fake_notes.span_count, 0);
	fake_run(250);
	assert_int_equal(fake_notes.span_count, 1);
	assert_int_equal(span_batch_read((const uint8_t *)fake_notes.spans.p, fake_notes.spans.len, on_span, &f->r), 0);
}

static void on_plain_span(const struct span *s, void *arg)
{
	const bool *plain = arg;
	for (size_t i = 0; i < s->attribute_count; i++)
		assert_false(*plain && str_starts(s->attributes[i].key, "istio."));
	assert_int_equal(!attribute(s, "istio.namespace"), *plain);
}

static void test_istios_tags_may_be_left_out(void **state)
{
	struct fake *f = *state;
	tracing(f);
	f->r.sampled = true;
	for (bool plain = false;; plain = true) {
		f->telemetry->tracing[REPORTER_CLIENT].no_istio_tags = plain;
		record_finish(f->observe, &f->r);
		fake_run(250);
		assert_int_equal(span_batch_read((const uint8_t *)fake_notes.spans.p, fake_notes.spans.len,
						 on_plain_span, &plain),
				 0);
		sb_done(&fake_notes.spans);
		fake_notes.spans = (struct sb){ 0 };
		if (plain)
			break;
	}
}

static void test_spans_are_sent_before_a_batch_is_too_long(void **state)
{
	struct fake *f = *state;
	tracing(f);
	f->r.sampled = true;
	for (int i = 0; i < 1000; i++)
		record_finish(f->observe, &f->r);
	assert_true(fake_notes.span_batches > 1);
	assert_true(fake_notes.spans.len / fake_notes.span_batches <= (32 << 10) + 1024);
}

static void test_taps_see_what_their_filter_takes(void **state)
{
	struct fake *f = *state;
	fake_field(f->request, "user-agent", "a\"b\n");
	fake_notes.tap = "response.code == 200";
	record_finish(f->observe, &f->r);
	f->r.status = 404;
	record_finish(f->observe, &f->r);
	assert_int_equal(fake_notes.tap_records, 1);
	json_t *j = json_loads(fake_notes.tap_record, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(j);
	assert_string_equal(json_string_value(json_object_get(j, "user_agent")), "a\"b\n");
	assert_string_equal(json_string_value(json_object_get(j, "pod")), "shop/web-1");
	assert_int_equal(json_integer_value(json_object_get(j, "duration_ms")), 12);
	json_decref(j);
}

static void test_taps_say_which_policy(void **state)
{
	struct fake *f = *state;
	char name[] = "shop/no-admin";
	const struct policy_rule rule = { .action = POLICY_DENY, .name = name };
	f->r.authz_rule = name;
	f->r.dry_deny = (struct policy_shadow){ true, &rule };
	f->r.dry_allow.asked = true;
	fake_notes.tap = "true";
	record_finish(f->observe, &f->r);
	json_t *j = json_loads(fake_notes.tap_record, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(j);
	assert_string_equal(json_string_value(json_object_get(j, "policy")), "shop/no-admin");
	const json_t *deny = json_object_get(j, "dry_run_deny"), *allow = json_object_get(j, "dry_run_allow");
	assert_string_equal(json_string_value(json_object_get(deny, "result")), "denied");
	assert_string_equal(json_string_value(json_object_get(deny, "policy")), "shop/no-admin");
	assert_string_equal(json_string_value(json_object_get(allow, "result")), "denied");
	assert_null(json_object_get(allow, "policy"));
	json_decref(j);
}

static void on_dry_run_span(const struct span *s, void *arg)
{
	(void)arg;
	assert_string_equal(attribute(s, "istio.authorization.dry_run.deny_policy.name"),
			    "ns[shop]-policy[no-admin]-rule[2]");
	assert_string_equal(attribute(s, "istio.authorization.dry_run.deny_policy.result"), "denied");
	assert_null(attribute(s, "istio.authorization.dry_run.allow_policy.name"));
	assert_null(attribute(s, "istio.authorization.dry_run.allow_policy.result"));
}

static void test_spans_say_what_dry_runs_would(void **state)
{
	struct fake *f = *state;
	char name[] = "shop/no-admin";
	const struct policy_rule rule = { .action = POLICY_DENY, .name = name, .index = 2 };
	tracing(f);
	f->r.sampled = true;
	f->r.dry_deny = (struct policy_shadow){ true, &rule };
	record_finish(f->observe, &f->r);
	fake_run(250);
	assert_int_equal(fake_notes.span_count, 1);
	assert_int_equal(
		span_batch_read((const uint8_t *)fake_notes.spans.p, fake_notes.spans.len, on_dry_run_span, NULL), 0);
}

static uint64_t cpu_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void time_it(struct fake *f, const char *what)
{
	enum { N = 200000 };
	uint64_t began = cpu_ns();
	for (int i = 0; i < N; i++) {
		record_finish(f->observe, &f->r);
		fake_notes.spans.len = 0;
	}
	print_message("%s: %llu ns\n", what, (unsigned long long)(cpu_ns() - began) / N);
}

static void test_time(void **state)
{
	struct fake *f = *state;
	if (!getenv("WEFT_PERF"))
		return;
	fake_field(f->request, "user-agent", "curl/8.1");
	fake_field(f->request, "x-request-id", "0f8b6b1e-9d9c-4c7c-8d5e-000000000000");
	time_it(f, "metrics alone");
	FILE *a = sink("a");
	log_add(f, "a", false, NULL, NULL);
	time_it(f, "and a log in text");
	f->telemetry->logs[REPORTER_CLIENT][0].json = true;
	telemetry_seal(f->telemetry);
	time_it(f, "and a log in JSON");
	f->telemetry->log_count[REPORTER_CLIENT] = 0;
	telemetry_seal(f->telemetry);
	tracing(f);
	f->r.sampled = true;
	memset(f->r.trace_id, 1, 16);
	time_it(f, "and a span");
	f->telemetry->log_count[REPORTER_CLIENT] = 1;
	finish(f);
	fclose(a);
}

/* One that the kernel carried, of which all is known at once, and one that nobody asks for. */
static void test_a_connection_that_is_over(void **state)
{
	struct fake *f = *state;
	struct addr_port called;
	FILE *a = sink("a");
	assert_null(connection_log_new(NULL, &f->pod, REPORTER_CLIENT));
	log_add(f, "a", false,
		"%START_TIME% %DURATION% %BYTES_SENT% %UPSTREAM_CLUSTER% %RESPONSE_FLAGS% %DOWNSTREAM_LOCAL_ADDRESS%",
		"destination.port == 5432");
	assert_null(connection_log_new(NULL, &f->pod, REPORTER_SERVER));
	for (uint16_t port = 5431; port < 5434; port++) {
		struct connection_log *l = connection_log_new(NULL, &f->pod, REPORTER_CLIENT);
		const struct connection_end end = { .source = f->r.source, .sent_bytes = 7 };
		addr_port_parse("10.0.0.9:1", &called);
		called.port = port;
		connection_log_times(l, 1700000000123456789ull, 2500000000);
		connection_log_asked(l, &called, NULL, NULL);
		connection_log_chosen(l, &f->r.endpoint->addr, "db.shop.svc.cluster.local");
		connection_log_timed_out(l);
		connection_log_end(l, port == 5433 ? NULL : &end);
	}
	assert_int_equal(f->pod.refs, 0);
	finish(f);
	expect(a, "2023-11-14T22:13:20.123Z 2500 7 outbound|5432||db.shop.svc.cluster.local DT 10.0.0.9:5432\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_lines_are_batched_and_filtered),
		CASE(test_a_connection_that_is_over),
		CASE(test_a_changed_format_is_read_again),
		CASE(test_lost_lines_are_counted),
		CASE(test_paths_come_and_go),
		CASE(test_a_span_says_what_happened),
		CASE(test_istios_tags_may_be_left_out),
		CASE(test_spans_are_sent_before_a_batch_is_too_long),
		CASE(test_taps_see_what_their_filter_takes),
		CASE(test_taps_say_which_policy),
		CASE(test_spans_say_what_dry_runs_would),
		CASE(test_time),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
