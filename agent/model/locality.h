/* SPDX-License-Identifier: Apache-2.0 */
/* Istio's locality load balancing: which endpoints a caller of a locality uses first. Pure functions. */
#pragma once

#include "agent/model/workload.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct locality_share {
	const char *to; /* "us-west/zone1/a"; parts at the end may be left out or a star */
	uint32_t weight;
};

struct locality_distribution {
	const char *from;
	const struct locality_share *to;
	size_t to_count;
};

struct locality_failover_rule {
	const char *from, *to; /* regions */
};

/* One of distribute, failover, failover_priority; all empty: nearer localities first. Borrowed texts. */
struct locality_setting {
	const struct locality_distribution *distribute;
	size_t distribute_count;
	const struct locality_failover_rule *failover;
	size_t failover_count;
	const char *const *failover_priority; /* label keys, or "key=value" */
	size_t failover_priority_count;
};

/* Where a caller or an endpoint is. */
struct locality_place {
	const char *locality; /* "region/zone/subzone"; "" or NULL: unknown */
	const struct label *labels;
	size_t label_count;
};

struct locality_endpoint {
	struct locality_place place;
	uint32_t weight;  /* in and out: distribute changes it */
	uint8_t priority; /* out: 0 is first, without gaps */
	bool dropped;	  /* out: distribute names other localities only */
};

/* Assigns priority (and with distribute: weight and dropped) to every endpoint. A caller of unknown locality gets
 * priority 0 everywhere, as in Istio, but with failover_priority. */
void locality_assign(const struct locality_setting *setting, const struct locality_place *caller,
		     struct locality_endpoint *endpoints, size_t count);
/* "us-west/zone1" and "us-west/zone1/" with a star match "us-west/zone1/a"; a star alone everything. */
bool locality_matches(const char *pattern, const char *locality);
