/* SPDX-License-Identifier: Apache-2.0 */
/* One snapshot of everything that is counted, for /metrics. */
#include "agent/telemetry/metrics.h"
#include "agent/base/log.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/ca/ca.h"
#include "agent/daemon/internal.h"
#include "agent/kernel/kernel.h"
#include "agent/link/request_metrics.h"
#include "agent/link/supervisor.h"
#include "agent/source/jwks.h"
#include "agent/source/store.h"
#include "agent/telemetry/exporters.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUMS_MAX = 65536, MAPS_MAX = 64 };

struct collected {
	struct flow_sum *sums;
	size_t sum_count, sum_cap;
	struct map_fill maps[MAPS_MAX];
	size_t map_count;
};

static void on_sum(const struct flow_sum *row, void *arg)
{
	struct collected *c = arg;

	if (c->sum_count < SUMS_MAX && mem_reserve(&c->sums, &c->sum_cap, c->sum_count + 1, sizeof(*c->sums)) == 0)
		c->sums[c->sum_count++] = *row;
}

static void on_map(const struct map_fill *fill, void *arg)
{
	struct collected *c = arg;

	if (c->map_count < MAPS_MAX)
		c->maps[c->map_count++] = *fill;
}

static void config_count(const struct daemon *d, struct metrics_snapshot *s)
{
	size_t n = 0;
	const struct rejection *rejections = store_rejections(d->store, &n);

	for (size_t i = 0; i < n; i++)
		*(rejections[i].warning ? &s->config_warnings : &s->config_rejected) += 1;
	s->config_revision = store_revision(d->store);
	s->config_resources = store_count(d->store);
}

/* The newest certificate of each identity; ca_issued() is oldest first. */
static struct metrics_certificate *certificates_collect(struct daemon *d, struct metrics_snapshot *s)
{
	const struct ca_cert *certs = NULL;
	size_t n = ca_issued(d->ca, clock_wall_ns() / 1000000000, &certs);
	struct metrics_certificate *out = n ? calloc(n, sizeof(*out)) : NULL;
	struct table *seen = table_new(NULL);

	for (size_t i = n; out && seen && i-- > 0;) {
		if (certs[i].revoked || table_get_str(seen, certs[i].identity))
			continue;
		table_set_str(seen, certs[i].identity, out);
		out[s->certificate_count++] = (struct metrics_certificate){ certs[i].identity, certs[i].not_after_s };
	}
	table_free(seen);
	s->certificates = out;
	const char *const *revoked = NULL;
	s->certificates_revoked = ca_revoked(d->ca, &revoked);
	s->root_not_after_s = ca_root_not_after_s(d->ca);
	s->signer_not_after_s = ca_signer_not_after_s(d->ca);
	return out;
}

static struct metrics_jwks *jwks_collect(const struct daemon *d, struct metrics_snapshot *s)
{
	size_t n;
	const struct jwks_set *sets = jwks_source_sets(d->jwks, &n);
	struct metrics_jwks *out = n ? calloc(n, sizeof(*out)) : NULL;

	for (size_t i = 0; out && i < n; i++)
		out[s->jwks_count++] =
			(struct metrics_jwks){ sets[i].uri, sets[i].fetches, sets[i].errors, sets[i].last_ok_s };
	s->jwks = out;
	return out;
}

static struct request_totals *requests_collect(const struct daemon *d)
{
	struct request_totals *totals = NULL;

	if (request_totals_new(&totals) == 0 && supervisor_requests(d->supervisor, totals) == 0)
		return totals;
	request_totals_free(totals);
	return NULL;
}

void daemon_pods_count(const struct daemon *d, size_t *enrolled, size_t *failed)
{
	struct table_iter it = { 0 };

	*enrolled = *failed = 0;
	while (table_next(d->pods, &it)) {
		const struct daemon_pod *pod = it.value;
		*(pod->offered ? enrolled : failed) += 1;
	}
}

void daemon_metrics(bool openmetrics, struct sb *out, void *arg)
{
	struct daemon *d = arg;
	struct collected c = { 0 };
	struct supervisor_status helper;
	struct metrics_snapshot s = {
		.node = d->options->node,
		.version = d->options->version,
		.started_s = d->started_s,
		.plan = d->plan,
		.ready = daemon_not_ready(d) == NULL,
	};

	kernel_flow_sums(d->kernel, on_sum, &c);
	kernel_map_fill(d->kernel, on_map, &c);
	kernel_drops(d->kernel, s.kernel_drops);
	s.flows_lost = kernel_flows_lost(d->kernel);
	struct recheck_counts cuts;
	kernel_rechecks(d->kernel, &cuts);
	memcpy(s.kernel_cuts, cuts.cut, sizeof(s.kernel_cuts));
	s.kernel_cuts_failed = cuts.failed;
	s.sums = c.sums;
	s.sum_count = c.sum_count;
	s.maps = c.maps;
	s.map_count = c.map_count;
	supervisor_metrics(d->supervisor, &s.helper);
	supervisor_status(d->supervisor, &helper);
	s.helper_ready = helper.ready;
	s.helper_restarts = helper.restarts;
	s.helper_protocol_errors = helper.protocol_errors;
	s.helper_rate_limited = helper.rate_limited;
	s.agent_resident_bytes = metrics_resident_bytes(getpid());
	s.helper_resident_bytes = helper.pid ? metrics_resident_bytes(helper.pid) : 0;
	config_count(d, &s);
	daemon_pods_count(d, &s.pods_enrolled, &s.pods_failed);
	struct metrics_certificate *certificates = certificates_collect(d, &s);
	struct metrics_jwks *jwks = jwks_collect(d, &s);
	struct request_totals *requests = requests_collect(d);
	struct exporters_stats spans;
	exporters_stats(d->exporters, &spans);
	s.access_lines_dropped = d->lines_dropped;
	s.log_records_exported = spans.lines_exported;
	s.log_records_dropped = spans.lines_dropped;
	s.spans_exported = spans.exported;
	s.spans_dropped = spans.dropped;
	s.span_requests_failed = spans.failures;
	s.requests = requests;
	metrics_render(&s, openmetrics, out);
	request_totals_free(requests);
	free(jwks);
	free(certificates);
	free(c.sums);
}
