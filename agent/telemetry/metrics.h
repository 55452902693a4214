/* SPDX-License-Identifier: Apache-2.0 */
/* /metrics: Istio's istio_tcp_* and Weft's own families, rendered from one snapshot that the caller has taken. Pure: no
 * I/O, no clock. Series are bounded by METRICS_SERIES_MAX whatever the sums hold. */
#pragma once

#include "agent/link/metrics.h"
#include "agent/model/flow.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct plan;
struct request_totals;
struct sb;

enum { METRICS_SERIES_MAX = 8192 }; /* of each istio_tcp_* family; what is beyond goes into one "other" series */

struct metrics_certificate {
	const char *identity; /* SPIFFE URI */
	uint64_t not_after_s;
};

/* A key set that tokens are verified with. */
struct metrics_jwks {
	const char *uri;
	uint64_t fetches, errors, last_ok_s; /* last_ok_s 0: never */
};

/* Everything is borrowed for the call. */
struct metrics_snapshot {
	const char *node, *version;
	uint64_t started_s;	 /* wall clock, of the agent */
	const struct plan *plan; /* NULL: none yet */
	bool ready;

	const struct flow_sum *sums;
	size_t sum_count;
	uint64_t kernel_drops[DROP_REASON_COUNT];
	uint64_t kernel_cuts[DROP_REASON_COUNT]; /* established connections that a changed policy ended */
	uint64_t kernel_cuts_failed;		 /* and those that it could not */
	uint64_t flows_lost;			 /* the kernel's ring was full */
	const struct map_fill *maps;
	size_t map_count;

	struct link_shard helper; /* sum over all helpers and workers */
	bool helper_ready;
	uint64_t helper_restarts, helper_protocol_errors, helper_rate_limited;
	uint64_t agent_resident_bytes, helper_resident_bytes; /* 0: not known */

	uint64_t config_revision;
	size_t config_rejected, config_warnings, config_resources; /* documents */
	size_t pods_enrolled, pods_failed;

	/* Newest certificate of each identity; expired ones left out. */
	const struct metrics_certificate *certificates;
	size_t certificate_count, certificates_revoked;
	uint64_t root_not_after_s, signer_not_after_s; /* 0: no CA here */

	const struct request_totals *requests; /* NULL: none */
	uint64_t access_lines_dropped, log_records_exported, log_records_dropped;
	uint64_t spans_exported, spans_dropped, span_requests_failed;

	const struct metrics_jwks *jwks;
	size_t jwks_count;
};

/* openmetrics: families of counters are named without _total, as OpenMetrics wants it and the older text format does
 * not. Both end with "# EOF" (a comment to the older). */
void metrics_render(const struct metrics_snapshot *snapshot, bool openmetrics, struct sb *out);
const char *metrics_content_type(bool openmetrics);
/* Resident set of a process in bytes, from /proc; 0: no such process. */
uint64_t metrics_resident_bytes(int pid);
