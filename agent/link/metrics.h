/* SPDX-License-Identifier: Apache-2.0 */
/* Layout of the memfd that helper and agent share: one shard per worker, written only by that worker with relaxed
 * atomics, summed by the agent at scrape time. Counters only grow; gauges are signed sums. */
#pragma once

#include "bpf/reason.h"

#include <stdint.h>

#define LINK_METRICS_MAGIC 0x31544557u			    /* "WET1" */
enum { LINK_SHARDS_MAX = 16, LINK_HANDSHAKE_BUCKETS = 10 }; /* us: 250 500 1k 2.5k 5k 10k 25k 100k 500k +Inf */

/* X(field, kind, "metric suffix", "help") ; kind: counter or gauge */
#define LINK_METRICS(X)                                                                                                \
	X(outbound_opened, counter, "outbound_connections_opened_total", "Outbound connections carried")               \
	X(outbound_closed, counter, "outbound_connections_closed_total", "Outbound connections ended")                 \
	X(inbound_opened, counter, "inbound_connections_opened_total", "HBONE streams accepted")                       \
	X(inbound_closed, counter, "inbound_connections_closed_total", "HBONE streams ended")                          \
	X(sent_bytes, counter, "sent_bytes_total", "Application bytes sent to other nodes")                            \
	X(received_bytes, counter, "received_bytes_total", "Application bytes received from other nodes")              \
	X(handshakes_client, counter, "tls_client_handshakes_total", "TLS handshakes completed as client")             \
	X(handshakes_server, counter, "tls_server_handshakes_total", "TLS handshakes completed as server")             \
	X(handshakes_failed, counter, "tls_handshakes_failed_total", "TLS handshakes failed")                          \
	X(handshake_sum_us, counter, "tls_handshake_microseconds_sum", "Time spent in handshakes")                     \
	X(pool_connections, gauge, "pool_connections", "Open HBONE connections to other nodes")                        \
	X(pool_hits, counter, "pool_hits_total", "New connections that found a pooled HBONE connection")               \
	X(pool_misses, counter, "pool_misses_total", "New connections that had to make an HBONE connection")           \
	X(buffers_bytes, gauge, "buffer_bytes", "Bytes held in connection buffers")                                    \
	X(policy_cuts, counter, "connections_cut_total", "Live connections cut by a policy or revocation change")      \
	X(dns_answered, counter, "dns_answered_total", "DNS queries answered by the mesh")                             \
	X(dns_forwarded, counter, "dns_forwarded_total", "DNS queries forwarded")                                      \
	X(dns_failed, counter, "dns_failed_total", "DNS queries that could not be answered or forwarded")              \
	X(rotations, counter, "certificate_rotations_total", "Certificates put in force")                              \
	X(http_connections, gauge, "http_connections", "Connections that the HTTP engine serves")                      \
	X(http_requests, counter, "http_requests_total", "Requests that the HTTP engine began")                        \
	X(http_retries, counter, "http_retries_total", "Further attempts at requests")                                 \
	X(http_bad_request_line, counter, "http_bad_request_line_total", "Requests refused: request line")             \
	X(http_bad_field, counter, "http_bad_field_total", "Requests refused: a header field")                         \
	X(http_bad_framing, counter, "http_bad_framing_total", "Requests refused: contradictory framing")              \
	X(http_bad_chunk, counter, "http_bad_chunk_total", "Requests refused: chunked coding")                         \
	X(http_bad_host, counter, "http_bad_host_total", "Requests refused: Host")                                     \
	X(http_too_large, counter, "http_head_too_large_total", "Requests refused: head too large")                    \
	X(http_timeout, counter, "http_head_timeout_total", "Requests refused: head too slow")                         \
	X(http2_protocol, counter, "http2_protocol_errors_total", "HTTP/2 connections ended: protocol broken")         \
	X(http2_flood, counter, "http2_floods_total", "HTTP/2 connections ended: floods of frames or resets")          \
	X(http_bad_version, counter, "http_bad_version_total", "Requests refused: HTTP version")                       \
	X(upstream_connections, gauge, "upstream_connections", "Pooled HTTP connections to endpoints")                 \
	X(upstream_overflows, counter, "upstream_overflows_total", "Requests refused by a limit of connectionPool")    \
	X(outlier_ejections, counter, "outlier_ejections_total", "Endpoints ejected by outlier detection")             \
	X(spans_sent, counter, "spans_sent_total", "Spans handed to the agent")                                        \
	X(spans_dropped, counter, "spans_dropped_total", "Spans dropped: the agent takes them too slowly, or is away") \
	X(access_log_dropped, counter, "access_log_lines_dropped_total",                                               \
	  "Lines of access logs that could not be written")                                                            \
	X(taps_dropped, counter, "tap_records_dropped_total", "Requests that a tap did not show for its rate")         \
	X(outlier_ejected, gauge, "outlier_ejected_endpoints", "Endpoints that are ejected now")                       \
	X(limits_unenforced, counter, "rate_limit_unenforced_total", "Requests over a limit that is not enforced")     \
	X(limits_full, counter, "rate_limit_table_full_total", "Requests refused: no room for another token bucket")   \
	X(limits_failed, counter, "rate_limit_service_failures_total", "Questions that a rate limit service left")     \
	X(lua_errors, counter, "lua_errors_total", "Lua scripts that ended with an error")                             \
	X(dry_run_denied, counter, "authz_dry_run_denied_total",                                                       \
	  "Requests that dry-run AuthorizationPolicies would refuse")                                                  \
	X(dry_run_allowed, counter, "authz_dry_run_allowed_total",                                                     \
	  "Requests that dry-run AuthorizationPolicies would let pass")                                                \
	X(http_joined, counter, "http_joined_total", "HTTP connections to pods of the node that needed no socket")

struct link_shard {
#define LINK_METRIC_FIELD(field, kind, suffix, help) uint64_t field;
	LINK_METRICS(LINK_METRIC_FIELD)
#undef LINK_METRIC_FIELD
	uint64_t handshake_buckets[LINK_HANDSHAKE_BUCKETS];
	uint64_t drops[64]; /* by enum drop_reason */
} __attribute__((aligned(128)));

struct link_metrics {
	uint32_t magic, version, shard_count, reserved;
	struct link_shard shards[LINK_SHARDS_MAX];
};

_Static_assert(DROP_REASON_COUNT <= 64, "drops[] must hold every reason");
