/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/filter/refuse.h"

#include "agent/helper/route/exchange.h"
#include "agent/helper/worker.h"
#include "agent/model/identity.h"

void refuse_count(struct exchange *x, enum drop_reason reason, const char *rule)
{
	const struct worker_drop drop = {
		.pod = x->pod,
		.reason = reason,
		.inbound = x->side == SIDE_SERVER,
		.source = x->source,
		.destination = x->destination,
		.peer = x->peer ? x->peer->uri : NULL,
		.rule = rule,
	};

	worker_drop(x->w, &drop);
}
