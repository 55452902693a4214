/* SPDX-License-Identifier: Apache-2.0 */
/* A token bucket kept as one point in time (GCRA). Pure: time is an argument. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct rate {
	uint64_t interval_ns; /* between tokens */
	uint64_t burst_ns;    /* burst x interval */
	uint64_t next_ns;     /* when the bucket will be full again */
};

#define RATE(per_second, burst)                                                                                        \
	((struct rate){ .interval_ns = 1000000000u / (per_second), .burst_ns = 1000000000ull / (per_second) * (burst) })

static inline bool rate_take(struct rate *r, uint64_t now_ns, uint32_t count)
{
	uint64_t from = r->next_ns > now_ns ? r->next_ns : now_ns;
	uint64_t to = from + r->interval_ns * count;
	if (to - now_ns > r->burst_ns)
		return false;
	r->next_ns = to;
	return true;
}
