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
#include "agent/link/request_labels.h"
#include "agent/model/cluster.h"
#include "agent/model/identity.h"
#include "agent/model/workload.h"
#include "tests/unit/observe/fake.h"

#define CASE(name) cmocka_unit_test_setup_teardown(name, fake_setup, fake_teardown)
enum { FIRST = 1, VALUES = REQUEST_LABEL_COUNT + REQUEST_TAGS_MAX };

static void finish(struct fake *f)
{
	record_finish(f->observe, &f->r);
}

static const struct request_series *series(size_t i)
{
	assert_true(i < fake_notes.shard->used);
	return &fake_notes.shard->series[i];
}

static void label_is(size_t i, enum request_label label, const char *expected)
{
	const char *v[VALUES];
	size_t n = request_series_labels(series(i), v, VALUES);
	assert_true(n >= REQUEST_LABEL_COUNT);
	assert_string_equal(v[label], expected);
}

/* The n-th of a Telemetry resource's own; NULL: there are fewer. */
static const char *extra(size_t i, size_t n)
{
	static const char *v[VALUES];
	size_t count = request_series_labels(series(i), v, VALUES);
	return REQUEST_LABEL_COUNT + n < count ? v[REQUEST_LABEL_COUNT + n] : NULL;
}

static void override(struct fake *f, enum request_metric metric, const char *tag, const char *value)
{
	struct metric_override *o = &f->telemetry->overrides[REPORTER_CLIENT][metric];
	o->tags = realloc(o->tags, (o->tag_count + 1) * sizeof(*o->tags));
	o->tags[o->tag_count++] =
		(struct tag_override){ .tag = strdup(tag), .remove = !value, .value = value ? strdup(value) : NULL };
}

static void override_all(struct fake *f, const char *tag, const char *value)
{
	for (int i = 0; i < REQUEST_METRIC_COUNT; i++)
		override(f, (enum request_metric)i, tag, value);
}

static void test_client_labels(void **state)
{
	struct fake *f = *state;
	static const char *const expected[REQUEST_LABEL_COUNT] = { "source",
								   "web",
								   "shop",
								   "spiffe://cluster.local/ns/shop/sa/web",
								   "web",
								   "v1",
								   "web",
								   "v1",
								   "catalog",
								   "shop",
								   "spiffe://cluster.local/ns/shop/sa/catalog",
								   "catalog",
								   "v2",
								   "catalog",
								   "v2",
								   "catalog.shop.svc.cluster.local",
								   "catalog",
								   "shop",
								   "http",
								   "200",
								   "",
								   "-",
								   "mutual_tls" };
	finish(f);
	for (size_t i = 0; i < REQUEST_LABEL_COUNT; i++)
		label_is(FIRST, (enum request_label)i, expected[i]);
	assert_int_equal(series(FIRST)->requests, 1);
	assert_int_equal(series(FIRST)->duration.sum, 12345);
	assert_int_equal(series(FIRST)->duration.buckets[4], 1); /* up to 25 ms */
	assert_int_equal(series(FIRST)->request_bytes.sum, 110);
	assert_int_equal(series(FIRST)->response_bytes.sum, 2050);
	assert_null(extra(FIRST, 0));
}

static void test_server_labels(void **state)
{
	struct fake *f = *state;
	const struct identity peer = { .uri = (char *)"spiffe://cluster.local/ns/front/sa/ui", .ns = (char *)"front" };
	f->r.reporter = REPORTER_SERVER;
	f->r.peer = &peer;
	f->r.mutual = false;
	finish(f);
	label_is(FIRST, REQUEST_LABEL_REPORTER, "destination");
	label_is(FIRST, REQUEST_LABEL_SOURCE_PRINCIPAL, peer.uri);
	label_is(FIRST, REQUEST_LABEL_SOURCE_WORKLOAD_NAMESPACE, "front");
	label_is(FIRST, REQUEST_LABEL_SOURCE_WORKLOAD, "");
	label_is(FIRST, REQUEST_LABEL_DESTINATION_WORKLOAD, "web");
	label_is(FIRST, REQUEST_LABEL_DESTINATION_SERVICE, "web.shop.svc.cluster.local");
	label_is(FIRST, REQUEST_LABEL_CONNECTION_SECURITY_POLICY, "none");
	f->r.mutual = true; /* without TLS: attested by the kernel */
	finish(f);
	label_is(FIRST + 1, REQUEST_LABEL_CONNECTION_SECURITY_POLICY, "attested");
	f->r.downstream_tls = true;
	finish(f);
	label_is(FIRST + 2, REQUEST_LABEL_CONNECTION_SECURITY_POLICY, "mutual_tls");
}

static void test_no_cluster_is_told_by_the_virtual_host(void **state)
{
	struct fake *f = *state;
	f->r.cluster = NULL;
	f->r.endpoint = NULL;
	f->r.status = 404;
	f->r.flags = FLAG(NR);
	finish(f);
	label_is(FIRST, REQUEST_LABEL_DESTINATION_SERVICE, "catalog.shop.svc.cluster.local");
	label_is(FIRST, REQUEST_LABEL_DESTINATION_SERVICE_NAME, "catalog");
	label_is(FIRST, REQUEST_LABEL_DESTINATION_SERVICE_NAMESPACE, "shop");
	label_is(FIRST, REQUEST_LABEL_DESTINATION_WORKLOAD, "");
	label_is(FIRST, REQUEST_LABEL_RESPONSE_FLAGS, "NR");
	f->r.vhost = "example.com";
	finish(f);
	label_is(FIRST + 1, REQUEST_LABEL_DESTINATION_SERVICE, "example.com");
	label_is(FIRST + 1, REQUEST_LABEL_DESTINATION_SERVICE_NAME, "");
	f->r.vhost = NULL;
	finish(f);
	label_is(FIRST + 2, REQUEST_LABEL_DESTINATION_SERVICE, "");
}

static void test_who_is_nobodys_service_has_istios_names(void **state)
{
	struct fake *f = *state;
	const struct http_route refused = { .name = (char[]){ "block_all" } };
	struct http_cluster *c = (struct http_cluster *)(uintptr_t)f->r.cluster;
	char *service = TAKE(c->service), *host = TAKE(c->host);
	c->host = (char[]){ "PassthroughCluster" };
	finish(f);
	c->host = host;
	c->service = service;
	label_is(FIRST, REQUEST_LABEL_DESTINATION_SERVICE_NAME, "PassthroughCluster");
	f->r.cluster = NULL;
	f->r.endpoint = NULL;
	f->r.vhost = NULL;
	finish(f);
	f->r.route = &refused;
	finish(f);
	label_is(FIRST + 1, REQUEST_LABEL_DESTINATION_SERVICE_NAME, "");
	label_is(FIRST + 2, REQUEST_LABEL_DESTINATION_SERVICE_NAME, "BlackHoleCluster");
}

static void test_each_thing_that_differs_is_a_series_of_its_own(void **state)
{
	struct fake *f = *state;
	struct cluster_endpoint other = *f->r.endpoint;
	for (int round = 0; round < 3; round++) { /* then out of the cache */
		f->r.status = 200;
		finish(f);
		f->r.status = 503;
		finish(f);
		f->r.flags = FLAG(UF);
		finish(f);
		f->r.flags = 0;
		f->r.mutual = false;
		finish(f);
		f->r.mutual = true;
	}
	assert_int_equal(fake_notes.shard->used, FIRST + 4);
	for (size_t i = FIRST; i < FIRST + 4; i++)
		assert_int_equal(series(i)->requests, 3);
	other.addr.port++;
	f->r.endpoint = &other; /* the same labels: found by them */
	finish(f);
	assert_int_equal(fake_notes.shard->used, FIRST + 4);
}

static void test_labels_that_change_make_another_series(void **state)
{
	struct fake *f = *state;
	struct label labels[] = { { (char *)"app", (char *)"web" }, { (char *)"version", (char *)"v2" } };
	finish(f);
	f->pod.labels = labels; /* the same pod, described anew */
	f->pod.labels_id++;
	finish(f);
	finish(f);
	assert_int_equal(fake_notes.shard->used, FIRST + 2);
	label_is(FIRST, REQUEST_LABEL_SOURCE_VERSION, "v1");
	label_is(FIRST + 1, REQUEST_LABEL_SOURCE_VERSION, "v2");
	assert_int_equal(series(FIRST)->requests, 1);
	assert_int_equal(series(FIRST + 1)->requests, 2);
}

/* Which the cache remembers. */
static void test_a_place_given_up_is_not_counted_in(void **state)
{
	struct fake *f = *state;
	const uint64_t hour_ns = REQUEST_IDLE_S * 1000000000ull;
	finish(f);
	f->r.status = 404;
	for (uint64_t s = 0; s < 3; s++) {
		f->r.end_ns += s ? 1000000000 : hour_ns;
		finish(f);
	}
	assert_int_equal(series(FIRST)->state, REQUEST_RETIRED);
	f->r.status = 200;
	finish(f);
	finish(f);
	assert_int_equal(series(FIRST)->requests, 1);
	assert_int_equal(series(FIRST + 2)->requests, 2);
	label_is(FIRST + 2, REQUEST_LABEL_RESPONSE_CODE, "200");
}

static void test_grpc_metrics(void **state)
{
	struct fake *f = *state;
	f->r.grpc = true;
	f->r.grpc_status = 14;
	f->r.grpc_request_messages = 3;
	f->r.grpc_response_messages = 5;
	finish(f);
	label_is(FIRST, REQUEST_LABEL_REQUEST_PROTOCOL, "grpc");
	label_is(FIRST, REQUEST_LABEL_GRPC_RESPONSE_STATUS, "14");
	assert_int_equal(series(FIRST)->grpc_request_messages, 3);
	assert_int_equal(series(FIRST)->grpc_response_messages, 5);
}

static void test_tags_of_the_request(void **state)
{
	struct fake *f = *state;
	fake_field(f->request, "x-tenant", "blue");
	override_all(f, "tenant", "request.headers['x-tenant']");
	override_all(f, "absent", "request.headers['x-absent']");
	override_all(f, "destination_service", "request.host");
	override_all(f, "response_flags", NULL);
	finish(f);
	finish(f);
	assert_int_equal(fake_notes.shard->used, FIRST + 1);
	assert_int_equal(series(FIRST)->requests, 2);
	assert_string_equal(extra(FIRST, 0), "tenant=blue");
	assert_string_equal(extra(FIRST, 1), "absent=unknown");
	assert_null(extra(FIRST, 2));
	label_is(FIRST, REQUEST_LABEL_DESTINATION_SERVICE, "shop.example");
	label_is(FIRST, REQUEST_LABEL_RESPONSE_FLAGS, REQUEST_LABEL_REMOVED);
}

static void test_a_caller_can_not_remove_a_label(void **state)
{
	struct fake *f = *state;
	fake_field(f->request, "x", REQUEST_LABEL_REMOVED);
	override_all(f, "destination_service", "request.headers['x']");
	finish(f);
	label_is(FIRST, REQUEST_LABEL_DESTINATION_SERVICE, "'");
}

static void test_metrics_that_differ_are_series_apart(void **state)
{
	struct fake *f = *state;
	override(f, METRIC_REQUEST_SIZE, "source_app", NULL);
	f->telemetry->overrides[REPORTER_CLIENT][METRIC_RESPONSE_SIZE].disabled = true;
	finish(f);
	assert_int_equal(fake_notes.shard->used, FIRST + 2);
	assert_int_equal(series(FIRST)->metrics, 1u << METRIC_REQUEST_COUNT | 1u << METRIC_REQUEST_DURATION);
	assert_int_equal(series(FIRST + 1)->metrics, 1u << METRIC_REQUEST_SIZE);
	label_is(FIRST, REQUEST_LABEL_SOURCE_APP, "web");
	label_is(FIRST + 1, REQUEST_LABEL_SOURCE_APP, REQUEST_LABEL_REMOVED);
}

static void test_metrics_may_be_off(void **state)
{
	struct fake *f = *state;
	f->telemetry->metrics = false;
	finish(f);
	assert_int_equal(fake_notes.shard->used, FIRST);
	f->pod.telemetry = NULL; /* nothing was said: all of them */
	finish(f);
	assert_int_equal(series(FIRST)->metrics, 15);
}

static void test_overflow_goes_to_the_first_slot(void **state)
{
	struct fake *f = *state;
	struct http_cluster c = *f->r.cluster;
	char host[64];
	c.host = host;
	f->r.cluster = &c;
	for (unsigned int i = 0; i < REQUEST_SERIES_MAX + 9; i++) {
		snprintf(host, sizeof(host), "host-%u", i);
		c.id = i + 1;
		finish(f);
	}
	assert_int_equal(fake_notes.shard->used, REQUEST_SERIES_MAX);
	assert_int_equal(fake_notes.shard->unplaced, 10); /* the first slot is none of theirs */
	assert_int_equal(fake_notes.shard->series[0].requests, 10);
}

static void test_labels_too_long_go_to_the_first_slot(void **state)
{
	struct fake *f = *state;
	char path[REQUEST_KEY_MAX + 2];
	memset(path, 'a', sizeof(path));
	path[sizeof(path) - 1] = 0;
	fake_field(f->request, "x", path);
	override_all(f, "path", "request.headers['x']");
	finish(f);
	assert_int_equal(fake_notes.shard->used, FIRST);
	assert_int_equal(fake_notes.shard->unplaced, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_client_labels),
		CASE(test_server_labels),
		CASE(test_no_cluster_is_told_by_the_virtual_host),
		CASE(test_who_is_nobodys_service_has_istios_names),
		CASE(test_each_thing_that_differs_is_a_series_of_its_own),
		CASE(test_labels_that_change_make_another_series),
		CASE(test_a_place_given_up_is_not_counted_in),
		CASE(test_grpc_metrics),
		CASE(test_tags_of_the_request),
		CASE(test_a_caller_can_not_remove_a_label),
		CASE(test_metrics_that_differ_are_series_apart),
		CASE(test_metrics_may_be_off),
		CASE(test_overflow_goes_to_the_first_slot),
		CASE(test_labels_too_long_go_to_the_first_slot),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
