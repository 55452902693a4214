/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/observe/fake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/model/cluster.h"
#include "agent/model/http.h"
#include "agent/model/identity.h"
#include "agent/model/workload.h"

struct fake_notes fake_notes;

static struct label labels[] = { { (char *)"app", (char *)"web" }, { (char *)"version", (char *)"v1" } };
static struct addr_port source, destination, local;
static struct cluster_endpoint endpoint = { .workload = (char *)"catalog",
					    .ns = (char *)"shop",
					    .principal = (char *)"spiffe://cluster.local/ns/shop/sa/catalog",
					    .app = (char *)"catalog",
					    .version = (char *)"v2",
					    .canonical_name = (char *)"catalog",
					    .canonical_revision = (char *)"v2" };
static struct http_cluster cluster = { .id = 77,
				       .name = (char *)"outbound|80||catalog.shop.svc.cluster.local",
				       .host = (char *)"catalog.shop.svc.cluster.local",
				       .service = (char *)"catalog",
				       .ns = (char *)"shop" };
static struct http_route route = { .name = (char *)"shop/catalog" };
static struct identity identity = { .uri = (char *)"spiffe://cluster.local/ns/shop/sa/web", .ns = (char *)"shop" };

struct worker {
	int none;
};
static struct worker worker;

void fake_field(struct http_head *h, const char *name, const char *value)
{
	struct http_string n = http_head_text(h, name, strlen(name)), v = http_head_text(h, value, strlen(value));
	assert_int_equal(http_add_ref(h, n, v), 0);
}

static struct http_string text(struct http_head *h, const char *s)
{
	return http_head_text(h, s, strlen(s));
}

static void record_fill(struct fake *f)
{
	f->request = http_head_new();
	f->response = http_head_new();
	f->request->version = HTTP_1_1;
	f->request->method = text(f->request, "GET");
	f->request->path = text(f->request, "/a?b=1");
	f->request->authority = text(f->request, "shop.example");
	f->request->scheme = text(f->request, "http");
	addr_port_parse("10.0.0.1:4000", &source);
	addr_port_parse("10.96.0.5:80", &destination);
	addr_port_parse("10.0.0.2:8080", &endpoint.addr);
	addr_port_parse("10.0.0.1:4001", &local);
	f->r = (struct request_record){ .reporter = REPORTER_CLIENT,
					.pod = &f->pod,
					.request = f->request,
					.response = f->response,
					.status = 200,
					.grpc_status = -1,
					.details = "via_upstream",
					.start_ns = 1700000000123456789ull,
					.began_ns = 1000000000,
					.request_end_ns = 1001000000,
					.upstream_ns = 1002000000,
					.response_begin_ns = 1009000000,
					.end_ns = 1012345678,
					.request_bytes = 10,
					.response_bytes = 2000,
					.request_header_bytes = 100,
					.response_header_bytes = 50,
					.attempts = 1,
					.route = &route,
					.vhost = "catalog.shop.svc.cluster.local:80",
					.cluster = &cluster,
					.endpoint = &endpoint,
					.source = &source,
					.destination = &destination,
					.upstream_local = &local,
					.mutual = true,
					.upstream_tls = true };
}

int fake_setup(void **state)
{
	struct fake *f = calloc(1, sizeof(*f));
	fake_notes = (struct fake_notes){ 0 };
	/* As big as the real one, and as empty. */
	fake_notes.shard = aligned_alloc(4096, (sizeof(*fake_notes.shard) + 4095) / 4096 * 4096);
	memset(fake_notes.shard, 0, sizeof(*fake_notes.shard));
	assert_int_equal(request_writer_new(fake_notes.shard, &fake_notes.writer), 0);
	assert_int_equal(loop_new(&fake_notes.loop, NULL), 0);
	f->telemetry = telemetry_new();
	f->pod = (struct worker_pod){ .cookie = 5,
				      .uid = (char *)"shop/web-1",
				      .ns = (char *)"shop",
				      .name = (char *)"web-1",
				      .owner = (char *)"web",
				      .canonical_name = (char *)"web",
				      .canonical_revision = (char *)"v1",
				      .identity = &identity,
				      .telemetry = f->telemetry,
				      .labels = labels,
				      .label_count = ARRAY_SIZE(labels) };
	record_fill(f);
	assert_int_equal(observe_new(&worker, &f->observe), 0);
	fake_notes.observe = f->observe;
	*state = f;
	return 0;
}

int fake_teardown(void **state)
{
	struct fake *f = *state;
	observe_free(f->observe);
	http_head_free(f->request);
	http_head_free(f->response);
	http_heads_trim();
	telemetry_unref(f->telemetry);
	free(f);
	request_writer_free(fake_notes.writer);
	free(fake_notes.shard);
	loop_free(fake_notes.loop);
	sb_done(&fake_notes.spans);
	free(fake_notes.tap_record);
	return 0;
}

static void on_stop(struct loop_timer *timer, void *arg)
{
	(void)timer;
	loop_stop(arg);
}

void fake_run(unsigned int ms)
{
	struct loop_timer *timer;
	assert_int_equal(loop_timer_new(fake_notes.loop, on_stop, fake_notes.loop, &timer), 0);
	loop_timer_start(timer, ms, 0);
	loop_run(fake_notes.loop);
	loop_timer_free(timer);
}

/* --- the worker */

struct loop *worker_loop(struct worker *w)
{
	(void)w;
	return fake_notes.loop;
}

const struct helper_settings *worker_settings(const struct worker *w)
{
	(void)w;
	return &fake_notes.settings;
}

struct link_shard *worker_metrics(struct worker *w)
{
	(void)w;
	return &fake_notes.metrics;
}

struct observe *worker_observe(struct worker *w)
{
	(void)w;
	return fake_notes.observe;
}

struct worker_pod *worker_pod_ref(struct worker_pod *pod)
{
	pod->refs++;
	return pod;
}

void worker_pod_unref(struct worker *w, struct worker_pod *pod)
{
	(void)w;
	pod->refs--;
}

struct request_writer *worker_requests(struct worker *w)
{
	(void)w;
	return fake_notes.writer;
}

void worker_spans(struct worker *w, const uint8_t *bytes, size_t len, uint32_t count)
{
	(void)w;
	sb_add_bytes(&fake_notes.spans, bytes, len);
	fake_notes.span_count += count;
	fake_notes.span_batches++;
}

size_t worker_taps(const struct worker *w, const struct worker_tap **taps, uint32_t *generation)
{
	static struct worker_tap tap;
	(void)w;
	tap = (struct worker_tap){ 1, fake_notes.tap };
	*taps = &tap;
	*generation = 1;
	return fake_notes.tap != NULL;
}

bool worker_tap_allows(struct worker *w, uint32_t id)
{
	(void)w;
	(void)id;
	return true;
}

void worker_tap_record(struct worker *w, uint32_t id, char *json)
{
	(void)w;
	(void)id;
	free(fake_notes.tap_record);
	fake_notes.tap_record = json;
	fake_notes.tap_records++;
}
