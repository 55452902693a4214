/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel reports of connections: events, sums by identity pair, and the fill of its tables. Plain data, shared
 * by the kernel sink, telemetry and the admin API. */
#pragma once

#include "agent/base/addr.h"
#include "bpf/reason.h"

#include <stdbool.h>
#include <stdint.h>

enum flow_path { FLOW_DIRECT, FLOW_ATTESTED, FLOW_HBONE, FLOW_PLAINTEXT, FLOW_HTTP, FLOW_PATH_COUNT };
enum flow_kind { FLOW_OPENED, FLOW_CLOSED, FLOW_FAILED, FLOW_REFUSED };

/* One event of the kernel's ring. Ids are those of the plan (identity.id, service.id); 0: unknown or none. */
struct flow {
	uint64_t time_ns; /* CLOCK_REALTIME */
	enum flow_kind kind;
	enum flow_path path;
	enum drop_reason reason; /* for FLOW_REFUSED */
	uint8_t proto;
	bool source_side; /* seen where the connection was made; else where it arrived */
	uint32_t source_identity, destination_identity, service;
	struct addr_port source, destination, original;	  /* original: what the caller asked for */
	uint64_t policy_id;				  /* that refused or allowed, 0: none */
	uint32_t rule;					  /* index into that policy's rules; UINT32_MAX: a default */
	uint64_t sent_bytes, received_bytes, duration_ns; /* FLOW_CLOSED */
	uint32_t rtt_us, min_rtt_us, retransmits;
	int error; /* FLOW_FAILED: errno-like: ETIMEDOUT, ECONNREFUSED, ... */
};

enum { RTT_BUCKETS = 12 }; /* upper bounds in us: 50 100 250 500 1000 2500 5000 10000 25000 100000 500000 +Inf */
struct flow_sum {
	uint32_t source_identity, destination_identity, service;
	enum flow_path path;
	bool source_side;
	uint8_t proto;
	uint64_t opened, closed, failed, sent_bytes, received_bytes, retransmits;
	uint64_t rtt[RTT_BUCKETS], rtt_sum_us; /* each bucket alone, not cumulative */
};
struct map_fill {
	const char *name;
	uint32_t entries, max_entries;
};

/* A flow as the log keeps it (agent/telemetry/flowlog.h) and the admin API shows it. */
struct flow_entry {
	uint64_t sequence; /* from 1, of this agent's run */
	struct flow flow;
	char rule[80]; /* name of the deciding rule when whoever refused told it, else "" */
};
