/* SPDX-License-Identifier: Apache-2.0 */
/* The helper counts requests by labels; here they get their names. What the server's side does not know of its caller but
 * the identity is filled in from the plan, as for istio_tcp_*. Totals are by all label values and by the metrics that have
 * them, so rows may come to have the same labels (a Telemetry resource changed what is counted; "" and "unknown"; what was
 * filled in): they are one series, since a scrape with one twice is refused. Tags' names are the helper's word: those that
 * would be a label twice are left out. */
#include "agent/telemetry/requests.h"

#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/link/request_labels.h"
#include "agent/link/request_metrics.h"
#include "agent/model/telemetry.h"
#include "agent/telemetry/exposition.h"
#include "agent/telemetry/metrics.h"
#include "agent/telemetry/parties.h"

enum { VALUES_MAX = REQUEST_LABEL_COUNT + REQUEST_TAGS_MAX };

struct row {
	char *labels;
	const struct request_series *series;
};

struct requests {
	struct parties *parties;
	struct row *rows;
	size_t count, cap;
};

static const char *const names[REQUEST_LABEL_COUNT] = {
#define LABEL_NAME(symbol, name) [REQUEST_LABEL_##symbol] = name,
	REQUEST_LABELS(LABEL_NAME)
#undef LABEL_NAME
};

static void caller_fill(const struct parties *parties, const char *v[])
{
	const char *principal = v[REQUEST_LABEL_SOURCE_PRINCIPAL];
	const struct party *p = *principal ? parties_by_uri(parties, principal) : NULL;
	const struct {
		enum request_label label;
		const char *value;
	} known[] = {
		{ REQUEST_LABEL_SOURCE_WORKLOAD, p ? p->workload : NULL },
		{ REQUEST_LABEL_SOURCE_APP, p ? p->app : NULL },
		{ REQUEST_LABEL_SOURCE_VERSION, p ? p->version : NULL },
		{ REQUEST_LABEL_SOURCE_CANONICAL_SERVICE, p ? p->canonical : NULL },
		{ REQUEST_LABEL_SOURCE_CANONICAL_REVISION, p ? p->revision : NULL },
	};
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (known[i].value && !*v[known[i].label])
			v[known[i].label] = known[i].value;
}

/* Prometheus keeps "__" for itself, and "le" is the histograms'. */
static bool is_label_name(const char *p, size_t n)
{
	if (n >= 2 && (!memcmp(p, "__", 2) || (n == 2 && !memcmp(p, "le", 2))))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!((p[i] >= 'a' && p[i] <= 'z') || (p[i] >= 'A' && p[i] <= 'Z') || p[i] == '_' ||
		      (i && p[i] >= '0' && p[i] <= '9')))
			return false;
	return n > 0 && n < 64;
}

/* v[i], "name=value", has the name of a standard label or of a tag before it. */
static bool is_twice(const char *const v[], size_t i, size_t name_len)
{
	for (size_t k = 0; k < REQUEST_LABEL_COUNT; k++)
		if (strlen(names[k]) == name_len && !memcmp(names[k], v[i], name_len))
			return true;
	for (size_t k = REQUEST_LABEL_COUNT; k < i; k++)
		if (!strncmp(v[k], v[i], name_len + 1)) /* with the equals sign */
			return true;
	return false;
}

/* source_cluster and destination_cluster follow from who it is, and so are not counted by; a Telemetry resource may set or
 * remove them like any other. */
static void cluster_label(struct sb *sb, const char *const v[], size_t n, enum request_label workload)
{
	const char *name = workload == REQUEST_LABEL_SOURCE_WORKLOAD ? "source_cluster" : "destination_cluster";
	bool known = *v[workload] && !str_eq(v[workload], "unknown");
	for (size_t i = REQUEST_LABEL_COUNT; i < n; i++)
		if (str_starts(v[i], name) && v[i][strlen(name)] == '=')
			return;
	exposition_label(sb, name, known ? EXPOSITION_CLUSTER : NULL);
}

static char *labels_of(const struct requests *r, const struct request_series *series)
{
	const char *v[VALUES_MAX];
	size_t n = request_series_labels(series, v, VALUES_MAX);
	struct sb sb = { 0 };

	if (n < REQUEST_LABEL_COUNT) {
		exposition_label(&sb, names[REQUEST_LABEL_REPORTER], "other");
		return sb_take(&sb);
	}
	caller_fill(r->parties, v);
	for (size_t i = 0; i < REQUEST_LABEL_COUNT; i++) {
		bool optional = i == REQUEST_LABEL_GRPC_RESPONSE_STATUS && !*v[i];
		if (!optional && !str_eq(v[i], REQUEST_LABEL_REMOVED))
			exposition_label(&sb, names[i], v[i]);
	}
	cluster_label(&sb, v, n, REQUEST_LABEL_SOURCE_WORKLOAD);
	cluster_label(&sb, v, n, REQUEST_LABEL_DESTINATION_WORKLOAD);
	for (size_t i = REQUEST_LABEL_COUNT; i < n; i++) {
		const char *equals = strchr(v[i], '=');
		char name[64];
		if (!equals || !is_label_name(v[i], (size_t)(equals - v[i])) || is_twice(v, i, (size_t)(equals - v[i])))
			continue;
		if (str_eq(equals + 1, REQUEST_LABEL_REMOVED))
			continue;
		memcpy(name, v[i], (size_t)(equals - v[i]));
		name[equals - v[i]] = 0;
		exposition_label(&sb, name, equals + 1);
	}
	return sb_take(&sb);
}

static int collect(struct requests *r, const struct request_totals *totals)
{
	struct request_totals_iter it = { 0 };
	const struct request_series *series;

	while ((series = request_totals_next(totals, &it))) {
		if (r->count == METRICS_SERIES_MAX)
			return 0; /* request_totals bounds them too */
		if (mem_reserve(&r->rows, &r->cap, r->count + 1, sizeof(*r->rows)) < 0)
			return -1;
		struct row *row = &r->rows[r->count];
		*row = (struct row){ .labels = labels_of(r, series), .series = series };
		if (!row->labels)
			return -1;
		r->count++;
	}
	return 0;
}

static int cmp_rows(const void *a, const void *b)
{
	return strcmp(((const struct row *)a)->labels, ((const struct row *)b)->labels);
}

/* The rows of a metric with the labels of the one at *at, which moves past them: calls back for each. Returns the labels;
 * NULL: no row of those labels has the metric. */
static const char *rows_alike(const struct requests *r, size_t *at, enum request_metric metric,
			      void (*add)(const struct request_series *s, size_t field, void *sum), size_t field,
			      void *sum)
{
	const char *labels = r->rows[*at].labels, *found = NULL;
	for (; *at < r->count && str_eq(r->rows[*at].labels, labels); (*at)++) {
		if (!(r->rows[*at].series->metrics & (1u << metric)))
			continue;
		add(r->rows[*at].series, field, sum);
		found = labels;
	}
	return found;
}

static void add_number(const struct request_series *s, size_t field, void *sum)
{
	uint64_t value;
	memcpy(&value, (const char *)s + field, sizeof(value));
	*(uint64_t *)sum += value;
}

static void add_histogram(const struct request_series *s, size_t field, void *arg)
{
	const struct request_histogram *h = (const void *)((const char *)s + field);
	struct request_histogram *sum = arg;
	sum->sum += h->sum;
	for (size_t i = 0; i < REQUEST_BUCKETS; i++)
		sum->buckets[i] += h->buckets[i];
}

static void counters(const struct requests *r, struct exposition *e, const char *name, const char *help,
		     enum request_metric metric, size_t field)
{
	exposition_family(e, name, EXPOSITION_COUNTER, help);
	for (size_t i = 0; i < r->count;) {
		uint64_t sum = 0;
		const char *labels = rows_alike(r, &i, metric, add_number, field, &sum);
		if (labels)
			exposition_u64(e, name, labels, sum);
	}
}

/* unit: of the sum, in what is shown. */
static void histograms(const struct requests *r, struct exposition *e, const char *name, const char *help,
		       enum request_metric metric, size_t field, double unit)
{
	exposition_family(e, name, EXPOSITION_HISTOGRAM, help);
	for (size_t i = 0; i < r->count;) {
		struct request_histogram sum = { 0 };
		const char *labels = rows_alike(r, &i, metric, add_histogram, field, &sum);
		if (labels)
			exposition_histogram_milli(e, name, labels, request_bounds_milli, sum.buckets, REQUEST_BUCKETS,
						   (double)sum.sum * unit);
	}
}

static void render(const struct requests *r, struct exposition *e)
{
	counters(r, e, "istio_requests_total", "Requests.", METRIC_REQUEST_COUNT,
		 offsetof(struct request_series, requests));
	histograms(r, e, "istio_request_duration_milliseconds", "From the request's head to the end of the response.",
		   METRIC_REQUEST_DURATION, offsetof(struct request_series, duration), 1e-3);
	histograms(r, e, "istio_request_bytes", "Size of requests, heads included.", METRIC_REQUEST_SIZE,
		   offsetof(struct request_series, request_bytes), 1);
	histograms(r, e, "istio_response_bytes", "Size of responses, heads included.", METRIC_RESPONSE_SIZE,
		   offsetof(struct request_series, response_bytes), 1);
	counters(r, e, "istio_request_messages_total", "gRPC messages sent by clients.", METRIC_GRPC_REQUEST_MESSAGES,
		 offsetof(struct request_series, grpc_request_messages));
	counters(r, e, "istio_response_messages_total", "gRPC messages sent by servers.", METRIC_GRPC_RESPONSE_MESSAGES,
		 offsetof(struct request_series, grpc_response_messages));
}

void requests_render(const struct metrics_snapshot *snapshot, struct exposition *e)
{
	struct requests r = { 0 };

	if (!snapshot->requests)
		return;
	bool ok = parties_new(snapshot->plan, &r.parties) == 0 && collect(&r, snapshot->requests) == 0;
	if (ok) {
		if (r.count)
			qsort(r.rows, r.count, sizeof(*r.rows), cmp_rows);
		render(&r, e);
	}
	e->out->failed |= !ok;
	for (size_t i = 0; i < r.count; i++)
		free(r.rows[i].labels);
	free(r.rows);
	parties_free(r.parties);
}
