/* SPDX-License-Identifier: Apache-2.0 */
/* Counts of requests as Prometheus sees them. The helper's memory is an enemy's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/link/request_labels.h"
#include "agent/link/request_metrics.h"
#include "agent/model/identity.h"
#include "agent/model/plan.h"
#include "agent/model/telemetry.h"
#include "agent/telemetry/exposition.h"
#include "agent/telemetry/metrics.h"
#include "agent/telemetry/requests.h"

struct test {
	struct request_metrics *memory;
	struct request_writer *writer;
	struct request_totals *totals;
	struct sb out;
};

enum { HTTP = 1u << METRIC_REQUEST_COUNT | 1u << METRIC_REQUEST_DURATION, COUNT = 1u << METRIC_REQUEST_COUNT };

static int setup(void **state)
{
	struct test *t = calloc(1, sizeof(*t));
	t->memory = aligned_alloc(4096, sizeof(*t->memory));
	memset(t->memory, 0, sizeof(*t->memory));
	t->memory->magic = REQUEST_METRICS_MAGIC;
	t->memory->version = 0;
	t->memory->shard_count = 1;
	t->memory->series_max = REQUEST_SERIES_MAX;
	assert_int_equal(request_writer_new(&t->memory->shards[0], &t->writer), 0);
	assert_int_equal(request_totals_new(&t->totals), 0);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct test *t = *state;
	request_totals_free(t->totals);
	request_writer_free(t->writer);
	free(t->memory);
	sb_done(&t->out);
	free(t);
	return 0;
}

/* Labels as "name=value" words behind the standard ones, of which `set` gives one. */
static void request(struct test *t, uint32_t metrics, enum request_label label, const char *value, const char *tag, ...)
{
	struct sb key = { 0 };
	const struct request_sample sample = { .duration_us = 700, .request_bytes = 1, .response_bytes = 2 };
	va_list tags;
	for (int i = 0; i < REQUEST_LABEL_COUNT; i++) {
		sb_add(&key, i == (int)label ? value : i == REQUEST_LABEL_REPORTER ? "destination" : "");
		sb_add_bytes(&key, "", 1);
	}
	va_start(tags, tag);
	for (; tag; tag = va_arg(tags, const char *)) {
		sb_add(&key, tag);
		sb_add_bytes(&key, "", 1);
	}
	va_end(tags);
	request_writer_add(t->writer, request_writer_place(t->writer, metrics, key.p, key.len, 0), &sample, 0);
	sb_done(&key);
}

static void render(struct test *t, const struct plan *plan, bool openmetrics)
{
	const struct metrics_snapshot snapshot = { .requests = t->totals, .plan = plan };
	struct exposition e = { .out = &t->out, .openmetrics = openmetrics };
	assert_int_equal(request_totals_add(t->totals, t->memory), 0);
	requests_render(&snapshot, &e);
	assert_false(t->out.failed);
}

static size_t count(const char *text, const char *what)
{
	size_t n = 0, len = strlen(what);
	for (; *text; text++)
		n += *text == *what && strncmp(text, what, len) == 0;
	return n;
}

/* As a scrape refuses: a series twice, a label twice in one. */
static int cmp_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void no_series_twice(const struct test *t)
{
	AUTO(mem_freep) char *copy = strdup(t->out.p);
	char **lines = calloc(count(copy, "\n") + 1, sizeof(*lines)), *rest = copy, *line;
	size_t n = 0;
	while ((line = strsep(&rest, "\n")))
		if (*line && *line != '#') {
			*strrchr(line, ' ') = 0;
			lines[n++] = line;
		}
	qsort(lines, n, sizeof(*lines), cmp_text);
	for (size_t i = 1; i < n; i++)
		if (!strcmp(lines[i - 1], lines[i]))
			fail_msg("twice: %s", lines[i]);
	free(lines);
}

static void promtool(const struct test *t)
{
	char path[] = "/tmp/weft-test-requests-XXXXXX";
	if (system("command -v promtool >/dev/null 2>&1") != 0)
		return;
	int fd = mkstemp(path);
	assert_int_equal(write(fd, t->out.p, t->out.len), t->out.len);
	close(fd);
	AUTO(mem_freep) char *command = str_format("promtool check metrics < %s 2>&1", path);
	FILE *p = popen(command, "r");
	char line[1024];
	/* Istio's milliseconds are its own affair; nothing else may be said. */
	while (fgets(line, sizeof(line), p))
		if (*line != '\n' && !strstr(line, "use base unit \"seconds\" instead of \"milliseconds\""))
			fail_msg("%s", line);
	pclose(p);
	unlink(path);
}

#define CLUSTERS "source_cluster=\"unknown\",destination_cluster=\"unknown\""

static void test_counters_and_histograms(void **state)
{
	struct test *t = *state;
	request(t, HTTP, REQUEST_LABEL_RESPONSE_CODE, "200", NULL);
	request(t, HTTP, REQUEST_LABEL_RESPONSE_CODE, "200", NULL);
	render(t, NULL, false);
	assert_int_equal(count(t->out.p, "istio_requests_total{reporter=\"destination\",source_workload=\"unknown\""),
			 1);
	assert_non_null(strstr(
		t->out.p,
		"response_code=\"200\",response_flags=\"unknown\",connection_security_policy=\"unknown\"," CLUSTERS
		"} 2\n"));
	assert_int_equal(count(t->out.p, "istio_request_duration_milliseconds_bucket{"), REQUEST_BUCKETS);
	assert_non_null(strstr(t->out.p, ",le=\"0.5\"} 0\n"));
	assert_non_null(strstr(t->out.p, ",le=\"1\"} 2\n"));
	assert_int_equal(count(t->out.p, "istio_request_bytes_count"), 0);
	assert_null(strstr(t->out.p, "grpc_response_status"));
	no_series_twice(t);
	promtool(t);
}

static void test_rows_that_come_to_be_alike_are_one_series(void **state)
{
	struct test *t = *state;
	request(t, HTTP, REQUEST_LABEL_RESPONSE_CODE, "200", NULL);
	request(t, COUNT, REQUEST_LABEL_RESPONSE_CODE, "200",
		NULL); /* after a Telemetry resource had disabled the rest */
	request(t, HTTP, REQUEST_LABEL_RESPONSE_CODE, "", NULL);
	request(t, HTTP, REQUEST_LABEL_RESPONSE_CODE, "unknown", NULL);
	render(t, NULL, true);
	no_series_twice(t);
	assert_int_equal(count(t->out.p, "istio_requests_total{"), 2);
	assert_int_equal(count(t->out.p, "connection_security_policy=\"unknown\"," CLUSTERS "} 2\n"),
			 3); /* and a histogram's count */
}

static void test_tags_and_removed_labels(void **state)
{
	struct test *t = *state;
	request(t, HTTP, REQUEST_LABEL_SOURCE_APP, REQUEST_LABEL_REMOVED, "tenant=a=b\"\\", NULL);
	render(t, NULL, false);
	assert_null(strstr(t->out.p, "source_app"));
	assert_non_null(strstr(t->out.p, ",tenant=\"a=b\\\"\\\\\"}"));
	promtool(t);
}

static void test_clusters_of_both_ends(void **state)
{
	struct test *t = *state;
	request(t, HTTP, REQUEST_LABEL_DESTINATION_WORKLOAD, "web", NULL);
	request(t, HTTP, REQUEST_LABEL_SOURCE_WORKLOAD, "web", "destination_cluster=east", NULL);
	request(t, HTTP, REQUEST_LABEL_DESTINATION_WORKLOAD, "db", "source_cluster=" REQUEST_LABEL_REMOVED, NULL);
	render(t, NULL, false);
	assert_non_null(strstr(t->out.p, "source_cluster=\"unknown\",destination_cluster=\"Kubernetes\"}"));
	assert_non_null(strstr(t->out.p, "source_cluster=\"Kubernetes\",destination_cluster=\"east\"}"));
	assert_non_null(strstr(t->out.p, "connection_security_policy=\"unknown\",destination_cluster=\"Kubernetes\"}"));
	promtool(t);
}

static void test_hostile_labels_are_made_fit(void **state)
{
	struct test *t = *state;
	request(t, HTTP, REQUEST_LABEL_SOURCE_APP, "a\n\"} 1\xff\x80\x01", "reporter=twice", "x=1", "x=2", "le=9",
		"__name__=a", "0a=1", "a-b=1", "=1", "no", "ok=\xc3\xa9", NULL);
	render(t, NULL, false);
	assert_int_equal(count(t->out.p, "reporter="), count(t->out.p, "source_app="));
	assert_null(strstr(t->out.p, "twice"));
	assert_null(strstr(t->out.p, "__name__"));
	assert_null(strstr(t->out.p, "x=\"2\""));
	assert_non_null(strstr(t->out.p, "source_app=\"a?\\\"} 1???\""));
	assert_non_null(strstr(t->out.p, ",x=\"1\",ok=\"\xc3\xa9\"} 1\n"));
	assert_int_equal(count(t->out.p, "le=\"9\""), 0);
	no_series_twice(t);
	promtool(t);
}

static void test_a_slot_that_lies_is_bounded(void **state)
{
	struct test *t = *state;
	request(t, HTTP, REQUEST_LABEL_SOURCE_APP, "a", NULL);
	t->memory->shards[0].series[1].key_len = UINT32_MAX;
	t->memory->shards[0].used = UINT32_MAX;
	t->memory->shard_count = UINT32_MAX;
	render(t, NULL, false);
	no_series_twice(t);
}

static void test_what_had_no_room_is_other(void **state)
{
	struct test *t = *state;
	const struct request_sample sample = { 0 };
	request_writer_add(t->writer, request_writer_place(t->writer, HTTP, "", 0, 0), &sample, 0);
	render(t, NULL, false);
	assert_non_null(strstr(t->out.p, "istio_requests_total{reporter=\"other\"} 1\n"));
}

static struct workload *workload(const char *name, const char *version)
{
	struct workload *w = workload_new();
	w->uid = str_format("shop/%s", name);
	w->name = strdup(name);
	w->ns = strdup("shop");
	w->identity = identity_new("cluster.local", "shop", "web");
	w->owner = strdup("web");
	w->canonical_name = strdup("web");
	w->canonical_revision = strdup(version);
	w->labels = calloc(1, sizeof(*w->labels));
	w->labels[0] = (struct label){ strdup("app"), strdup("web") };
	w->label_count = 1;
	return w;
}

static void test_callers_are_filled_in_by_their_identity(void **state)
{
	struct test *t = *state;
	struct plan *plan = plan_new();
	plan->workloads = calloc(2, sizeof(*plan->workloads));
	plan->workloads[0] = workload("web-1", "v1");
	plan->workloads[1] = workload("web-2", "v2");
	plan->workload_count = 2;
	request(t, HTTP, REQUEST_LABEL_SOURCE_PRINCIPAL, "spiffe://cluster.local/ns/shop/sa/web", NULL);
	request(t, HTTP, REQUEST_LABEL_SOURCE_PRINCIPAL, "spiffe://cluster.local/ns/shop/sa/nobody", NULL);
	render(t, plan, false);
	assert_non_null(strstr(t->out.p,
			       "source_workload=\"web\",source_workload_namespace=\"unknown\","
			       "source_principal=\"spiffe://cluster.local/ns/shop/sa/web\",source_app=\"web\","
			       "source_version=\"unknown\",source_canonical_service=\"web\","
			       "source_canonical_revision=\"unknown\""));
	assert_non_null(strstr(t->out.p, "source_workload=\"unknown\",source_workload_namespace=\"unknown\","
					 "source_principal=\"spiffe://cluster.local/ns/shop/sa/nobody\""));
	plan_unref(plan);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_counters_and_histograms),	CASE(test_rows_that_come_to_be_alike_are_one_series),
		CASE(test_tags_and_removed_labels),	CASE(test_clusters_of_both_ends),
		CASE(test_hostile_labels_are_made_fit), CASE(test_a_slot_that_lies_is_bounded),
		CASE(test_what_had_no_room_is_other),	CASE(test_callers_are_filled_in_by_their_identity),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
