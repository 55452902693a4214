/* SPDX-License-Identifier: Apache-2.0 */
/* Istio's labels of a peer that is known by its identity alone: what all workloads of the identity agree on. Internal to
 * agent/telemetry; pure. */
#pragma once

#include "agent/model/telemetry.h"

#include <stdbool.h>
#include <stdint.h>

struct plan;

/* NULL: nothing is known, or they differ. Borrowed from the plan. */
struct party {
	const struct identity *identity;
	const char *workload, *ns, *app, *version, *canonical, *revision;
	bool seen, told;
	uint32_t off
		[REPORTER_COUNT]; /* metrics (bits by enum request_metric) that Telemetry resources switch off, for all */
};

struct parties;

int parties_new(const struct plan *plan, struct parties **out); /* plan may be NULL. 0 or -ENOMEM */
void parties_free(struct parties *p);
const struct party *parties_by_id(const struct parties *p, uint32_t identity); /* NULL: unknown */
const struct party *parties_by_uri(const struct parties *p, const char *uri);  /* NULL: unknown */
