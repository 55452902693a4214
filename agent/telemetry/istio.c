/* SPDX-License-Identifier: Apache-2.0 */
/* A row of the kernel's sums is a pair of identities, a service, a path and a side. Istio's labels are of workloads: when
 * all workloads of an identity agree on a label it is given, else "unknown". Rows that come to have the same labels
 * (two paths without TLS, identities that have left the plan) are added up, as no series may appear twice. */
#include "agent/telemetry/istio.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/table.h"
#include "agent/model/plan.h"
#include "agent/telemetry/exposition.h"
#include "agent/telemetry/metrics.h"
#include "agent/telemetry/parties.h"

struct series {
	char *labels; /* without response_flags */
	uint32_t off; /* metrics that are not shown, by enum request_metric */
	uint64_t opened, closed, failed, sent_bytes, received_bytes;
};

struct istio {
	const struct metrics_snapshot *snapshot;
	struct parties *parties;
	struct table *services; /* service id -> struct service */
	struct table *by_labels;
	struct series *rows;
	size_t row_count, row_cap;
};

static int index_services(struct istio *m, const struct plan *plan)
{
	for (size_t i = 0; plan && i < plan->service_count; i++) {
		struct service *s = plan->services[i];
		if (table_set(m->services, &s->id, sizeof(s->id), s) < 0)
			return -1;
	}
	return 0;
}

static void party_labels(struct sb *sb, const char *side, const struct party *p, bool authenticated)
{
	static const struct party nobody;
	const struct party *q = p ? p : &nobody;
	const char *revision = q->revision ? q->revision : q->canonical ? "latest" : NULL;
	const struct {
		const char *key, *value;
	} labels[] = {
		{ "workload", q->workload },
		{ "workload_namespace", q->ns },
		{ "principal", q->identity && authenticated ? q->identity->uri : NULL },
		{ "app", q->app },
		{ "version", q->version },
		{ "canonical_service", q->canonical },
		{ "canonical_revision", revision },
		{ "cluster", q->workload || q->ns ? EXPOSITION_CLUSTER : NULL },
	};
	for (size_t i = 0; i < ARRAY_SIZE(labels); i++) {
		char key[64];
		snprintf(key, sizeof(key), "%s_%s", side, labels[i].key);
		exposition_label(sb, key, labels[i].value);
	}
}

static const char *security_policy(enum flow_path path)
{
	/* Attested is not TLS and is not called so; Istio has no word for an identity that the kernel vouches for. */
	return path == FLOW_HBONE ? "mutual_tls" : path == FLOW_ATTESTED ? "attested" : "none";
}

/* Which service was called the accepting side is not always told: then it is the workload's own, by its canonical name, as for
 * requests. */
static void service_labels(struct sb *sb, const struct service *s, const struct party *destination, bool source_side)
{
	bool own = !s && !source_side && destination && destination->canonical && destination->ns;
	AUTO(mem_freep) char *host =
		own ? str_format("%s.%s.svc.cluster.local", destination->canonical, destination->ns) : NULL;
	const char *unknown = own ? destination->canonical : destination ? NULL : "PassthroughCluster";

	exposition_label(sb, "destination_service", s ? s->hostname : host);
	exposition_label(sb, "destination_service_name", s ? s->name : unknown);
	exposition_label(sb, "destination_service_namespace", s ? s->ns : destination ? destination->ns : NULL);
}

static char *row_labels(const struct istio *m, const struct flow_sum *sum)
{
	const struct party *source = parties_by_id(m->parties, sum->source_identity);
	const struct party *destination = parties_by_id(m->parties, sum->destination_identity);
	const struct service *s = table_get(m->services, &sum->service, sizeof(uint32_t));
	bool authenticated = sum->path == FLOW_HBONE || sum->path == FLOW_ATTESTED;
	struct sb sb = { 0 };

	exposition_label(&sb, "reporter", sum->source_side ? "source" : "destination");
	party_labels(&sb, "source", source, authenticated);
	party_labels(&sb, "destination", destination, authenticated);
	service_labels(&sb, s, destination, sum->source_side);
	exposition_label(&sb, "request_protocol", "tcp");
	exposition_label(&sb, "connection_security_policy", security_policy(sum->path));
	return sb_take(&sb);
}

/* The row that has these labels, made when there is none; the last one allowed takes all that is beyond. */
static struct series *row_get(struct istio *m, const struct flow_sum *sum)
{
	bool fits = m->row_count < METRICS_SERIES_MAX;
	AUTO(mem_freep) char *labels = fits ? row_labels(m, sum) : strdup("reporter=\"other\"");
	if (!labels)
		return NULL;
	/* Rows move when the array grows, so the table holds index + 1. */
	uintptr_t at = (uintptr_t)table_get_str(m->by_labels, labels);
	if (at)
		return &m->rows[at - 1];
	if (mem_reserve(&m->rows, &m->row_cap, m->row_count + 1, sizeof(*m->rows)) < 0 ||
	    table_set_str(m->by_labels, labels, (void *)(m->row_count + 1)) < 0)
		return NULL;
	const struct party *reporter =
		parties_by_id(m->parties, sum->source_side ? sum->source_identity : sum->destination_identity);
	struct series *row = &m->rows[m->row_count++];
	*row = (struct series){ .labels = TAKE(labels) };
	if (fits && reporter)
		row->off = reporter->off[sum->source_side ? REPORTER_CLIENT : REPORTER_SERVER];
	return row;
}

static int collect(struct istio *m)
{
	for (size_t i = 0; i < m->snapshot->sum_count; i++) {
		const struct flow_sum *sum = &m->snapshot->sums[i];
		/* Connections of the HTTP engine are counted as requests. */
		if (sum->proto != IPPROTO_TCP || sum->path == FLOW_HTTP)
			continue;
		struct series *row = row_get(m, sum);
		if (!row)
			return -1;
		row->opened += sum->opened;
		row->closed += sum->closed;
		row->failed += sum->failed;
		/* Istio's "sent" is the response, whoever reports; the kernel's is what the reporting socket sent. */
		row->sent_bytes += sum->source_side ? sum->received_bytes : sum->sent_bytes;
		row->received_bytes += sum->source_side ? sum->sent_bytes : sum->received_bytes;
	}
	return 0;
}

static int cmp_series(const void *a, const void *b)
{
	return strcmp(((const struct series *)a)->labels, ((const struct series *)b)->labels);
}

static void render_rows(const struct istio *m, struct exposition *e, enum request_metric metric, const char *name,
			const char *help, size_t field)
{
	bool with_failed = metric == METRIC_TCP_OPENED || metric == METRIC_TCP_CLOSED;
	struct sb labels = { 0 };

	exposition_family(e, name, EXPOSITION_COUNTER, help);
	for (size_t i = 0; i < m->row_count; i++) {
		const struct series *row = &m->rows[i];
		uint64_t value;
		if (row->off & (1u << metric))
			continue;
		memcpy(&value, (const char *)row + field, sizeof(value));
		labels.len = 0;
		sb_addf(&labels, "%s,response_flags=\"-\"", row->labels);
		exposition_u64(e, name, labels.p ? labels.p : "", value);
		if (!with_failed || !row->failed)
			continue;
		/* As Envoy reports a connection that never came about: opened and closed, "upstream failure". */
		labels.len = 0;
		sb_addf(&labels, "%s,response_flags=\"UF\"", row->labels);
		exposition_u64(e, name, labels.p ? labels.p : "", row->failed);
	}
	e->out->failed |= labels.failed;
	sb_done(&labels);
}

void istio_render(const struct metrics_snapshot *snapshot, struct exposition *e)
{
	struct istio m = { .snapshot = snapshot, .services = table_new(NULL), .by_labels = table_new(NULL) };
	bool ok = m.services && m.by_labels && parties_new(snapshot->plan, &m.parties) == 0 &&
		  index_services(&m, snapshot->plan) == 0 && collect(&m) == 0;

	if (ok) {
		if (m.row_count)
			qsort(m.rows, m.row_count, sizeof(*m.rows), cmp_series);
		render_rows(&m, e, METRIC_TCP_OPENED, "istio_tcp_connections_opened_total", "TCP connections opened.",
			    offsetof(struct series, opened));
		render_rows(&m, e, METRIC_TCP_CLOSED, "istio_tcp_connections_closed_total", "TCP connections closed.",
			    offsetof(struct series, closed));
		render_rows(&m, e, METRIC_TCP_SENT, "istio_tcp_sent_bytes_total",
			    "Bytes sent to the client, in the response direction.",
			    offsetof(struct series, sent_bytes));
		render_rows(&m, e, METRIC_TCP_RECEIVED, "istio_tcp_received_bytes_total",
			    "Bytes received from the client, in the request direction.",
			    offsetof(struct series, received_bytes));
	}
	e->out->failed |= !ok;
	for (size_t i = 0; i < m.row_count; i++)
		free(m.rows[i].labels);
	free(m.rows);
	table_free(m.by_labels);
	table_free(m.services);
	parties_free(m.parties);
}
