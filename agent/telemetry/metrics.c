/* SPDX-License-Identifier: Apache-2.0 */
/* Weft's own families. Units are Prometheus' base units; names of reasons and paths are those that meshctl prints. */
#include "agent/telemetry/metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/model/plan.h"
#include "agent/telemetry/exposition.h"
#include "agent/telemetry/istio.h"
#include "agent/telemetry/requests.h"

static const char *const path_names[FLOW_PATH_COUNT] = {
	[FLOW_DIRECT] = "direct",	[FLOW_ATTESTED] = "attested", [FLOW_HBONE] = "hbone",
	[FLOW_PLAINTEXT] = "plaintext", [FLOW_HTTP] = "http",
};

static const char *const reason_names[DROP_REASON_COUNT] = {
#define REASON_NAME(symbol, name, help) [DROP_##symbol] = name,
	DROP_REASONS(REASON_NAME)
#undef REASON_NAME
};

static const uint32_t rtt_bounds_us[RTT_BUCKETS - 1] = { 50,   100,   250,   500,    1000,  2500,
							 5000, 10000, 25000, 100000, 500000 };
static const uint32_t handshake_bounds_us[LINK_HANDSHAKE_BUCKETS - 1] = { 250,	 500,	1000,	2500,  5000,
									  10000, 25000, 100000, 500000 };

static void gauge(struct exposition *e, const char *name, const char *help, uint64_t value)
{
	exposition_family(e, name, EXPOSITION_GAUGE, help);
	exposition_u64(e, name, "", value);
}

static void counter(struct exposition *e, const char *name, const char *help, uint64_t value)
{
	exposition_family(e, name, EXPOSITION_COUNTER, help);
	exposition_u64(e, name, "", value);
}

static void render_build(const struct metrics_snapshot *s, struct exposition *e)
{
	AUTO(sb_done) struct sb labels = { 0 };
	exposition_label(&labels, "version", s->version);
	exposition_label(&labels, "node", s->node);
	exposition_family(e, "weft_build_info", EXPOSITION_GAUGE, "Version of the agent; always 1.");
	exposition_u64(e, "weft_build_info", labels.p ? labels.p : "", 1);
	e->out->failed |= labels.failed;
	/* What Istio's dashboards list components by. */
	labels.len = 0;
	exposition_label(&labels, "component", "proxy");
	exposition_label(&labels, "tag", s->version);
	exposition_family(e, "istio_build", EXPOSITION_GAUGE, "Version of what does a proxy's work; always 1.");
	exposition_u64(e, "istio_build", labels.p ? labels.p : "", 1);
	e->out->failed |= labels.failed;

	gauge(e, "weft_start_time_seconds", "When the agent started, in seconds since the epoch.", s->started_s);
	gauge(e, "weft_ready", "1 when the agent and its helper take connections.", s->ready);
	exposition_family(e, "weft_resident_bytes", EXPOSITION_GAUGE, "Resident memory of a process.");
	if (s->agent_resident_bytes)
		exposition_u64(e, "weft_resident_bytes", "process=\"agent\"", s->agent_resident_bytes);
	if (s->helper_resident_bytes)
		exposition_u64(e, "weft_resident_bytes", "process=\"helper\"", s->helper_resident_bytes);
}

static void render_config(const struct metrics_snapshot *s, struct exposition *e)
{
	gauge(e, "weft_config_revision", "Number of the configuration revision in force.", s->config_revision);
	gauge(e, "weft_config_resources", "Resources in force.", s->config_resources);
	gauge(e, "weft_config_rejected_documents", "Documents that are not in force because they are wrong.",
	      s->config_rejected);
	gauge(e, "weft_config_warnings", "Warnings about documents that are in force.", s->config_warnings);
	gauge(e, "weft_services", "Services known.", s->plan ? s->plan->service_count : 0);
	gauge(e, "weft_workloads", "Workloads known, on all nodes.", s->plan ? s->plan->workload_count : 0);
	gauge(e, "weft_enrolled_pods", "Pods of this node that are captured and policed.", s->pods_enrolled);
	gauge(e, "weft_failed_pods", "Pods of this node that should be enrolled and could not be.", s->pods_failed);
}

/* Indexed by path, then by side. */
struct path_sums {
	uint64_t opened[FLOW_PATH_COUNT][2], failed[FLOW_PATH_COUNT][2], retransmits[FLOW_PATH_COUNT][2];
	uint64_t rtt[FLOW_PATH_COUNT][RTT_BUCKETS], rtt_sum_us[FLOW_PATH_COUNT];
};

static void path_sums_collect(const struct metrics_snapshot *s, struct path_sums *out)
{
	*out = (struct path_sums){ 0 };
	for (size_t i = 0; i < s->sum_count; i++) {
		const struct flow_sum *sum = &s->sums[i];
		if (sum->path >= FLOW_PATH_COUNT)
			continue;
		out->opened[sum->path][sum->source_side] += sum->opened;
		out->failed[sum->path][sum->source_side] += sum->failed;
		out->retransmits[sum->path][sum->source_side] += sum->retransmits;
		out->rtt_sum_us[sum->path] += sum->rtt_sum_us;
		for (size_t k = 0; k < RTT_BUCKETS; k++)
			out->rtt[sum->path][k] += sum->rtt[k];
	}
}

static void render_by_path(struct exposition *e, const char *name, const char *help,
			   const uint64_t values[FLOW_PATH_COUNT][2])
{
	exposition_family(e, name, EXPOSITION_COUNTER, help);
	for (size_t path = 0; path < FLOW_PATH_COUNT; path++) {
		for (size_t side = 0; side < 2; side++) {
			char labels[64];
			snprintf(labels, sizeof(labels), "path=\"%s\",reporter=\"%s\"", path_names[path],
				 side ? "source" : "destination");
			exposition_u64(e, name, labels, values[path][side]);
		}
	}
}

static void render_connections(const struct metrics_snapshot *s, struct exposition *e)
{
	struct path_sums sums;
	path_sums_collect(s, &sums);
	render_by_path(
		e, "weft_connections_total",
		"Connections opened, by the way they took; one between two pods of a node is reported by both ends.",
		sums.opened);
	render_by_path(e, "weft_connections_failed_total", "Connections that could not be established.", sums.failed);
	render_by_path(e, "weft_retransmits_total", "TCP segments sent again.", sums.retransmits);

	exposition_family(e, "weft_connection_rtt_seconds", EXPOSITION_HISTOGRAM,
			  "Smoothed round-trip time of connections when they closed.");
	for (size_t path = 0; path < FLOW_PATH_COUNT; path++) {
		char labels[32];
		snprintf(labels, sizeof(labels), "path=\"%s\"", path_names[path]);
		exposition_histogram_us(e, "weft_connection_rtt_seconds", labels, rtt_bounds_us, sums.rtt[path],
					RTT_BUCKETS, sums.rtt_sum_us[path]);
	}
}

/* What a verdict on an established connection can say. */
static const enum drop_reason cut_reasons[] = { DROP_POLICY_DENY, DROP_POLICY_NO_ALLOW, DROP_MTLS_REQUIRED,
						DROP_NOT_READY,	  DROP_MAP_MISSING,	DROP_HTTP_RULES };

static void render_drops(const struct metrics_snapshot *s, struct exposition *e)
{
	exposition_family(e, "weft_drops_total", EXPOSITION_COUNTER,
			  "Connections and datagrams refused, by reason and by who refused.");
	for (size_t reason = DROP_NONE + 1; reason < DROP_REASON_COUNT; reason++) {
		char labels[96];
		snprintf(labels, sizeof(labels), "reason=\"%s\",where=\"kernel\"", reason_names[reason]);
		exposition_u64(e, "weft_drops_total", labels, s->kernel_drops[reason]);
		snprintf(labels, sizeof(labels), "reason=\"%s\",where=\"helper\"", reason_names[reason]);
		exposition_u64(e, "weft_drops_total", labels, s->helper.drops[reason]);
	}
	exposition_family(e, "weft_connections_cut_total", EXPOSITION_COUNTER,
			  "Established connections that the kernel carried and a changed policy ended, by reason.");
	for (size_t i = 0; i < ARRAY_SIZE(cut_reasons); i++) {
		char labels[96];
		snprintf(labels, sizeof(labels), "reason=\"%s\"", reason_names[cut_reasons[i]]);
		exposition_u64(e, "weft_connections_cut_total", labels, s->kernel_cuts[cut_reasons[i]]);
	}
	counter(e, "weft_connections_cut_failed_total",
		"Established connections that a changed policy forbids and that could not be ended.",
		s->kernel_cuts_failed);
	counter(e, "weft_flow_events_lost_total", "Flow events that were lost because the kernel's ring was full.",
		s->flows_lost);
	exposition_family(e, "weft_map_entries", EXPOSITION_GAUGE, "Entries in a kernel table.");
	for (size_t i = 0; i < s->map_count; i++) {
		AUTO(sb_done) struct sb labels = { 0 };
		exposition_label(&labels, "map", s->maps[i].name);
		exposition_u64(e, "weft_map_entries", labels.p ? labels.p : "", s->maps[i].entries);
	}
	exposition_family(e, "weft_map_max_entries", EXPOSITION_GAUGE, "Entries that a kernel table has room for.");
	for (size_t i = 0; i < s->map_count; i++) {
		AUTO(sb_done) struct sb labels = { 0 };
		exposition_label(&labels, "map", s->maps[i].name);
		exposition_u64(e, "weft_map_max_entries", labels.p ? labels.p : "", s->maps[i].max_entries);
	}
}

enum { KIND_counter = EXPOSITION_COUNTER, KIND_gauge = EXPOSITION_GAUGE };

static const struct {
	const char *name, *help;
	int type;
	size_t offset;
} helper_metrics[] = {
#define HELPER_METRIC(field, kind, suffix, help)                                                                       \
	{ "weft_helper_" suffix, help ".", KIND_##kind, offsetof(struct link_shard, field) },
	LINK_METRICS(HELPER_METRIC)
#undef HELPER_METRIC
};

static void render_helper(const struct metrics_snapshot *s, struct exposition *e)
{
	gauge(e, "weft_helper_up", "1 when a helper takes connections.", s->helper_ready);
	counter(e, "weft_helper_restarts_total", "Times that the helper died and was started again.",
		s->helper_restarts);
	counter(e, "weft_access_log_dropped_total",
		"Lines of connections that the kernel carried, which were more than the helper was told of.",
		s->access_lines_dropped);
	counter(e, "weft_log_records_exported_total", "Lines of access logs that a collector took.",
		s->log_records_exported);
	counter(e, "weft_log_records_dropped_total", "Lines of access logs that no collector took.",
		s->log_records_dropped);
	counter(e, "weft_spans_exported_total", "Spans that a collector took.", s->spans_exported);
	counter(e, "weft_spans_dropped_total", "Spans that no collector took.", s->spans_dropped);
	counter(e, "weft_span_requests_failed_total", "Batches of spans that a collector refused or did not get.",
		s->span_requests_failed);
	counter(e, "weft_helper_protocol_errors_total", "Messages of the helper that the agent refused.",
		s->helper_protocol_errors);
	counter(e, "weft_helper_rate_limited_total", "Messages of the helper beyond their rate.",
		s->helper_rate_limited);
	for (size_t i = 0; i < ARRAY_SIZE(helper_metrics); i++) {
		/* The sum of handshake times is part of the histogram below. */
		if (helper_metrics[i].offset == offsetof(struct link_shard, handshake_sum_us))
			continue;
		uint64_t value = *(const uint64_t *)(const void *)((const char *)&s->helper + helper_metrics[i].offset);
		exposition_family(e, helper_metrics[i].name, helper_metrics[i].type, helper_metrics[i].help);
		exposition_u64(e, helper_metrics[i].name, "", value);
	}
	exposition_family(e, "weft_helper_tls_handshake_seconds", EXPOSITION_HISTOGRAM, "Duration of TLS handshakes.");
	exposition_histogram_us(e, "weft_helper_tls_handshake_seconds", "", handshake_bounds_us,
				s->helper.handshake_buckets, LINK_HANDSHAKE_BUCKETS, s->helper.handshake_sum_us);
}

static void render_certificates(const struct metrics_snapshot *s, struct exposition *e)
{
	exposition_family(e, "weft_certificate_expiry_timestamp_seconds", EXPOSITION_GAUGE,
			  "When the newest certificate of an identity expires, in seconds since the epoch.");
	for (size_t i = 0; i < s->certificate_count && i < METRICS_SERIES_MAX; i++) {
		AUTO(sb_done) struct sb labels = { 0 };
		exposition_label(&labels, "identity", s->certificates[i].identity);
		exposition_u64(e, "weft_certificate_expiry_timestamp_seconds", labels.p ? labels.p : "",
			       s->certificates[i].not_after_s);
	}
	gauge(e, "weft_certificates_revoked", "Serial numbers in the revocation list.", s->certificates_revoked);
	if (!s->root_not_after_s)
		return;
	gauge(e, "weft_root_certificate_expiry_timestamp_seconds", "When the root that signs expires.",
	      s->root_not_after_s);
	gauge(e, "weft_signer_certificate_expiry_timestamp_seconds", "When the chain that signs expires.",
	      s->signer_not_after_s);
}

static void render_jwks_family(const struct metrics_snapshot *s, struct exposition *e, const char *name, int type,
			       const char *help, size_t offset)
{
	exposition_family(e, name, type, help);
	for (size_t i = 0; i < s->jwks_count; i++) {
		AUTO(sb_done) struct sb labels = { 0 };
		exposition_label(&labels, "uri", s->jwks[i].uri);
		exposition_u64(e, name, labels.p ? labels.p : "",
			       *(const uint64_t *)(const void *)((const char *)&s->jwks[i] + offset));
	}
}

static void render_jwks(const struct metrics_snapshot *s, struct exposition *e)
{
	if (!s->jwks_count)
		return;
	render_jwks_family(s, e, "weft_jwks_fetches_total", EXPOSITION_COUNTER, "Fetches of a key set for tokens.",
			   offsetof(struct metrics_jwks, fetches));
	render_jwks_family(s, e, "weft_jwks_errors_total", EXPOSITION_COUNTER, "Fetches of a key set that failed.",
			   offsetof(struct metrics_jwks, errors));
	render_jwks_family(s, e, "weft_jwks_last_success_timestamp_seconds", EXPOSITION_GAUGE,
			   "When a key set was last fetched, in seconds since the epoch; 0: never.",
			   offsetof(struct metrics_jwks, last_ok_s));
}

void metrics_render(const struct metrics_snapshot *snapshot, bool openmetrics, struct sb *out)
{
	struct exposition e = { .out = out, .openmetrics = openmetrics };

	render_build(snapshot, &e);
	render_config(snapshot, &e);
	istio_render(snapshot, &e);
	requests_render(snapshot, &e);
	render_connections(snapshot, &e);
	render_drops(snapshot, &e);
	render_helper(snapshot, &e);
	render_certificates(snapshot, &e);
	render_jwks(snapshot, &e);
	exposition_end(&e);
}

const char *metrics_content_type(bool openmetrics)
{
	return openmetrics ? "application/openmetrics-text; version=1.0.0; charset=utf-8" :
			     "text/plain; version=0.0.4; charset=utf-8";
}

uint64_t metrics_resident_bytes(int pid)
{
	char path[64];
	uint64_t size, resident;

	snprintf(path, sizeof(path), "/proc/%d/statm", pid);
	FILE *f = fopen(path, "re");
	if (!f)
		return 0;
	int n = fscanf(f, "%" SCNu64 " %" SCNu64, &size, &resident);
	fclose(f);
	return n == 2 ? resident * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}
