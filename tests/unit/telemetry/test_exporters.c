/* SPDX-License-Identifier: Apache-2.0 */
/* Spans on their way to a collector, which is a socket that answers as it is told; and what both formats say. */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/link/span.h"
#include "agent/telemetry/exporters.h"
#include "agent/telemetry/log_otlp.h"
#include "agent/telemetry/otlp.pb-c.h"
#include "agent/telemetry/span_otlp.h"
#include "agent/telemetry/span_zipkin.h"

struct test {
	struct loop *loop;
	struct exporters *e;
	pthread_t thread;
	pthread_mutex_t lock;
	bool serves;
	int fd;
	uint16_t port;
	const char *answer;
	struct sb got;
	size_t requests;
	bool located;
};

static struct span a_span(const char *provider)
{
	struct span s = { .has_parent = true,
			  .server = true,
			  .error = true,
			  .name = "web \"x\"",
			  .provider = provider,
			  .service = "web.shop",
			  .start_ns = 1700000000000000000ull,
			  .end_ns = 1700000000001500000ull };
	memset(s.trace_id, 0xab, 16);
	memset(s.span_id, 0xcd, 8);
	memset(s.parent_id, 0xef, 8);
	s.attributes[0] = (struct span_attribute){ .key = "http.request.method", .text = "GET\n" };
	s.attributes[1] = (struct span_attribute){ .key = "code", .number = -7 };
	s.attribute_count = 2;
	return s;
}

/* A thread of its own; a request's head and the start of its body come in one piece or two, the end is at "]". */
static void *collector(void *arg)
{
	struct test *t = arg;
	char buf[65536];
	for (int c; (c = accept(t->fd, NULL, NULL)) >= 0; close(c)) {
		struct sb got = { 0 };
		ssize_t n;
		while ((!got.len || got.p[got.len - 1] != ']') && (n = recv(c, buf, sizeof(buf), 0)) > 0)
			sb_add_bytes(&got, buf, (size_t)n);
		const char *answer = __atomic_load_n(&t->answer, __ATOMIC_ACQUIRE);
		if (write(c, answer, strlen(answer)) < 0)
			perror("collector");
		pthread_mutex_lock(&t->lock);
		sb_add_bytes(&t->got, got.p ? got.p : "", got.len);
		t->requests++;
		pthread_mutex_unlock(&t->lock);
		sb_done(&got);
	}
	return NULL;
}

static void serve(struct test *t)
{
	t->serves = true;
	assert_int_equal(pthread_create(&t->thread, NULL, collector, t), 0);
}

static bool locate(const struct trace_provider *p, char *buf, size_t size, void *arg)
{
	struct test *t = arg;
	(void)p;
	snprintf(buf, size, "127.0.0.1:%u", t->port);
	return t->located;
}

static void set(struct test *t, const char *path)
{
	const struct trace_provider p = { .name = (char *)"zip",
					  .host = (char *)"zipkin",
					  .path = (char *)(uintptr_t)path,
					  .port = 9411,
					  .kind = TRACE_ZIPKIN };
	assert_int_equal(exporters_set(t->e, &p, 1), 0);
}

static int setup(void **state)
{
	struct test *t = calloc(1, sizeof(*t));
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);
	t->located = true;
	t->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(t->fd, (struct sockaddr *)&at, len), 0);
	assert_int_equal(listen(t->fd, 16), 0);
	assert_int_equal(getsockname(t->fd, (struct sockaddr *)&at, &len), 0);
	t->port = ntohs(at.sin_port);
	assert_int_equal(loop_new(&t->loop, NULL), 0);
	pthread_mutex_init(&t->lock, NULL);
	const struct exporters_options options = { .loop = t->loop, .node = "n1", .locate = locate, .arg = t };
	assert_int_equal(exporters_new(&options, &t->e, NULL), 0);
	set(t, "/api/v2/spans");
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct test *t = *state;
	exporters_free(t->e);
	loop_free(t->loop);
	shutdown(t->fd, SHUT_RDWR);
	if (t->serves)
		pthread_join(t->thread, NULL);
	close(t->fd);
	sb_done(&t->got);
	free(t);
	return 0;
}

static void on_stop(struct loop_timer *timer, void *arg)
{
	(void)timer;
	loop_stop(arg);
}

static void run(struct test *t, unsigned int ms)
{
	struct loop_timer *timer;
	assert_int_equal(loop_timer_new(t->loop, on_stop, t->loop, &timer), 0);
	loop_timer_start(timer, ms, 0);
	loop_run(t->loop);
	loop_timer_free(timer);
}

static void add(struct test *t, const char *provider, size_t n)
{
	struct sb batch = { 0 };
	struct span s = a_span(provider);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(span_batch_add(&batch, &s), 0);
	exporters_add(t->e, (const uint8_t *)batch.p, batch.len);
	sb_done(&batch);
}

static struct exporters_stats stats(const struct test *t)
{
	struct exporters_stats s;
	exporters_stats(t->e, &s);
	return s;
}

#define OK "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
#define BAD "HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

static void test_a_batch_is_sent_and_counted(void **state)
{
	struct test *t = *state;
	t->answer = OK;
	serve(t);
	add(t, "zip", 3);
	add(t, "nobody", 2);
	exporters_add(t->e, (const uint8_t *)"\xff\xff", 2);
	run(t, 2500); /* libcurl takes its time to begin */
	pthread_mutex_lock(&t->lock);
	assert_int_equal(t->requests, 1);
	pthread_mutex_unlock(&t->lock);
	assert_non_null(strstr(t->got.p, "POST /api/v2/spans HTTP/1.1\r\n"));
	assert_int_equal(stats(t).exported, 3);
	assert_int_equal(stats(t).dropped, 2);
	assert_int_equal(stats(t).failures, 0);
}

static void test_failure_drops_and_the_next_may_succeed(void **state)
{
	struct test *t = *state;
	t->answer = BAD;
	serve(t);
	add(t, "zip", 3);
	run(t, 1500);
	assert_int_equal(stats(t).failures, 1);
	assert_int_equal(stats(t).dropped, 3);
	__atomic_store_n(&t->answer, OK, __ATOMIC_RELEASE);
	add(t, "zip", 1);
	run(t, 1500);
	assert_int_equal(stats(t).exported, 1);
	t->located = false;
	add(t, "zip", 4);
	run(t, 1500);
	assert_int_equal(stats(t).failures, 2);
	assert_int_equal(stats(t).dropped, 7);
}

static void test_a_provider_changed_in_flight_is_cancelled(void **state)
{
	struct test *t = *state;
	add(t, "zip", 3);	 /* the kernel connects, and nobody answers */
	set(t, "/api/v2/spans"); /* the same: the queue stays */
	assert_int_equal(stats(t).dropped, 0);
	set(t, "/other");
	assert_int_equal(stats(t).dropped, 3);
	add(t, "zip", 1);
	run(t, 1500); /* it is under way */
	assert_int_equal(stats(t).dropped, 3);
	set(t, "/third");
	assert_int_equal(stats(t).dropped, 4);
	assert_int_equal(exporters_set(t->e, NULL, 0), 0);
}

static void test_the_queue_is_bounded(void **state)
{
	struct test *t = *state;
	for (int i = 0; i < 20; i++)
		add(t, "zip", 1000);
	assert_in_range(stats(t).dropped, 1, 19999);
	assert_int_equal(stats(t).exported, 0);
}

static void on_clean(const struct span *s, void *arg)
{
	*(bool *)arg = true;
	assert_string_equal(s->name, "a??b");
	assert_string_equal(s->attributes[0].text, "GET?");
}

static void test_texts_of_a_hostile_helper_are_ascii(void **state)
{
	(void)state;
	struct sb batch = { 0 };
	struct span s = a_span("zip");
	bool read = false;
	s.name = "a\xff\nb";
	assert_int_equal(span_batch_add(&batch, &s), 0);
	assert_int_equal(span_batch_read((const uint8_t *)batch.p, batch.len, on_clean, &read), 0);
	assert_true(read);
	sb_done(&batch);
}

static void test_otlp_decodes_to_what_went_in(void **state)
{
	(void)state;
	struct span s = a_span("otel");
	struct sb out = { 0 };
	assert_int_equal(span_otlp_add(&out, &s, "n1"), 0);
	s.server = s.error = s.has_parent = false;
	assert_int_equal(span_otlp_add(&out, &s, "n1"), 0); /* behind it: one request of two */
	Weft__Otlp__ExportTraceServiceRequest *m =
		weft__otlp__export_trace_service_request__unpack(NULL, out.len, (const uint8_t *)out.p);
	assert_non_null(m);
	assert_int_equal(m->n_resource_spans, 2);
	const Weft__Otlp__ResourceSpans *r = m->resource_spans[0];
	assert_string_equal(r->resource->attributes[0]->key, "service.name");
	assert_string_equal(r->resource->attributes[0]->value->string_value, "web.shop");
	assert_string_equal(r->resource->attributes[1]->value->string_value, "n1");
	const Weft__Otlp__Span *one = r->scope_spans[0]->spans[0],
			       *two = m->resource_spans[1]->scope_spans[0]->spans[0];
	assert_int_equal(one->trace_id.len, 16);
	assert_memory_equal(one->trace_id.data, s.trace_id, 16);
	assert_memory_equal(one->span_id.data, s.span_id, 8);
	assert_memory_equal(one->parent_span_id.data, s.parent_id, 8);
	assert_int_equal(two->parent_span_id.len, 0);
	assert_string_equal(one->name, s.name);
	assert_true(one->kind == 2 && two->kind == 3);
	assert_true(one->status && one->status->code == 2 && !two->status);
	assert_true(one->start_time_unix_nano == s.start_ns && one->end_time_unix_nano == s.end_ns);
	assert_int_equal(one->n_attributes, 2);
	assert_string_equal(one->attributes[0]->value->string_value, "GET\n");
	assert_int_equal(one->attributes[1]->value->int_value, -7);
	weft__otlp__export_trace_service_request__free_unpacked(m, NULL);
	sb_done(&out);
}

static void test_lines_become_log_records(void **state)
{
	static const char line[] = "{\"t\":\"1700000000123456789\",\"p\":\"web-1\",\"b\":\"GET \\u00e9 200\","
				   "\"a\":{\"code\":200,\"path\":\"/a\",\"none\":null,\"more\":{\"x\":true}}}";
	struct sb out = { 0 };
	(void)state;
	assert_int_equal(log_otlp_add(&out, line, strlen(line), "n1"), 0);
	assert_int_equal(log_otlp_add(&out, "{}", 2, "n1"), 0);
	size_t len = out.len;
	assert_int_equal(log_otlp_add(&out, "no", 2, "n1"), -EINVAL);
	assert_int_equal(log_otlp_add(&out, "[1]", 3, "n1"), -EINVAL);
	assert_int_equal(out.len, len);
	Weft__Otlp__ExportLogsServiceRequest *m =
		weft__otlp__export_logs_service_request__unpack(NULL, out.len, (const uint8_t *)out.p);
	assert_non_null(m);
	assert_int_equal(m->n_resource_logs, 2);
	assert_string_equal(m->resource_logs[0]->resource->attributes[0]->value->string_value, "web-1");
	assert_string_equal(m->resource_logs[0]->resource->attributes[1]->value->string_value, "n1");
	const Weft__Otlp__LogRecord *r = m->resource_logs[0]->scope_logs[0]->log_records[0];
	assert_true(r->time_unix_nano == 1700000000123456789ull);
	assert_string_equal(r->body->string_value, "GET \xc3\xa9 200");
	assert_int_equal(r->n_attributes, 3);
	assert_string_equal(r->attributes[0]->key, "code");
	assert_int_equal(r->attributes[0]->value->int_value, 200);
	assert_string_equal(r->attributes[1]->value->string_value, "/a");
	assert_string_equal(r->attributes[2]->value->string_value, "{\"x\":true}");
	weft__otlp__export_logs_service_request__free_unpacked(m, NULL);
	sb_done(&out);
}

static void test_zipkin_json(void **state)
{
	(void)state;
	struct span s = a_span("zip");
	struct sb out = { 0 };
	span_zipkin_add(&out, &s);
	assert_string_equal(
		out.p,
		"{\"traceId\":\"abababababababababababababababab\",\"id\":\"cdcdcdcdcdcdcdcd\","
		"\"parentId\":\"efefefefefefefef\",\"kind\":\"SERVER\",\"name\":\"web \\\"x\\\"\","
		"\"timestamp\":1700000000000000,\"duration\":1500,\"localEndpoint\":{\"serviceName\":\"web.shop\"},"
		"\"tags\":{\"http.request.method\":\"GET\\u000a\",\"code\":\"-7\",\"error\":\"true\"}}");
	sb_done(&out);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_a_batch_is_sent_and_counted),
		CASE(test_failure_drops_and_the_next_may_succeed),
		CASE(test_a_provider_changed_in_flight_is_cancelled),
		CASE(test_the_queue_is_bounded),
		cmocka_unit_test(test_texts_of_a_hostile_helper_are_ascii),
		cmocka_unit_test(test_otlp_decodes_to_what_went_in),
		cmocka_unit_test(test_lines_become_log_records),
		cmocka_unit_test(test_zipkin_json),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
