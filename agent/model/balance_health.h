/* SPDX-License-Identifier: Apache-2.0 */
/* Outlier detection on requests, as Envoy's: errors in a row eject a host for a time that grows with each ejection, and
 * shrinks again with each interval without one. The words are shared by all workers: every access is atomic, and cheap when
 * all is well (a success of a host without errors only reads). No clock: the time is an argument. */
#pragma once

#include "agent/model/cluster.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HEALTH_MAX_EJECTION_MS = 300000 }; /* Envoy's max_ejection_time; a longer base is kept */

enum health_event {
	HEALTH_OK,	     /* the endpoint answered, with no 5xx */
	HEALTH_5XX,	     /* 500 and others */
	HEALTH_GATEWAY,	     /* 502, 503, 504 */
	HEALTH_LOCAL_OK,     /* connected (TCP) */
	HEALTH_LOCAL_FAILED, /* not connected, reset */
	HEALTH_LOCAL_TIMEOUT,
};

struct host_health {
	uint32_t run_5xx, run_gateway, run_local; /* in a row */
	uint32_t times;				  /* ejected, less the intervals that went well since */
	uint32_t ejections;			  /* ever */
	uint64_t until_ns;			  /* the end of its ejection; 0: it is not ejected */
};

struct health_set {	     /* of one cluster */
	uint32_t generation; /* changes when a host is ejected or returns */
	uint32_t ejected;    /* now */
	uint32_t spared;     /* ejections that max_ejection_percent forbade */
	uint64_t sweep_ns;   /* when the next interval ends */
};

bool health_on(const struct cluster_outlier *settings);
static inline bool health_ejected(const struct host_health *h)
{
	return __atomic_load_n(&h->until_ns, __ATOMIC_RELAXED) != 0;
}
/* Returns true when it ejects the host, one of `hosts`. */
bool health_note(const struct cluster_outlier *settings, struct health_set *set, size_t hosts, struct host_health *h,
		 enum health_event event, uint64_t now_ns);
/* Whether an interval ended: then one caller, of any worker, gets true and calls health_sweep(). */
bool health_sweep_due(const struct cluster_outlier *settings, struct health_set *set, uint64_t now_ns);
/* Takes back those whose time is over, and forgets ejections of those that did well. Returns how many came back. */
size_t health_sweep(struct health_set *set, struct host_health *const *hosts, size_t count, uint64_t now_ns);
/* It is in no version of the cluster any more. Returns true when it was ejected. */
bool health_gone(struct health_set *set, struct host_health *h);
