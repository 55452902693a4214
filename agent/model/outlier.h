/* SPDX-License-Identifier: Apache-2.0 */
/* Outlier detection's bookkeeping: failed connects in a row eject an endpoint for a time that grows with each ejection.
 * Which of the ejected are really left out (maxEjectionPercent, minHealthPercent) depends on the set of endpoints:
 * outlier_usable decides that. No clock: the time is an argument. Only endpoints with failures are remembered. */
#pragma once

#include "agent/base/addr.h"
#include "agent/model/service.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct outlier;

enum {
	OUTLIER_MAX_TRACKED = 65536,
	OUTLIER_MAX_EJECTION_MS = 300000, /* Envoy's max_ejection_time */
};

struct outlier *outlier_new(void); /* NULL: no memory */
void outlier_free(struct outlier *o);
/* The outcome of a connect. Returns true when the set of ejected endpoints changed. A failure beyond the limit of
 * tracked endpoints is not counted. */
bool outlier_report(struct outlier *o, uint64_t now_ms, const struct addr_port *endpoint,
		    const struct outlier_settings *settings, bool ok);
/* Ends the ejections whose time is over; true when there were any. *next_ms: when to call again; 0: not needed. */
bool outlier_expire(struct outlier *o, uint64_t now_ms, uint64_t *next_ms);
/* The ejected, earliest ejection first. Borrowed until the next call. */
const struct addr_port *outlier_ejected(struct outlier *o, size_t *count);

/* ejected[i]: endpoint i is among the ejected. Fills usable[i]: false for those that are left out, at most
 * max_ejection_percent of n (but one at least, unless it is 0), all true when those left over are fewer than
 * min_health_percent. */
void outlier_usable(const struct outlier_settings *settings, const bool *ejected, size_t n, bool *usable);
