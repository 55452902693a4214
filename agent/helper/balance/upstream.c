/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/balance/upstream.h"

#include <errno.h>
#include <stdlib.h>

#include "agent/base/str.h"

struct upstreams {
	struct worker *w;
};

int upstreams_new(struct worker *w, struct upstreams **out)
{
	struct upstreams *u = calloc(1, sizeof(*u));
	if (!u)
		return -ENOMEM;
	u->w = w;
	*out = u;
	return 0;
}

void upstreams_free(struct upstreams *u)
{
	free(u);
}

void upstreams_drain(struct upstreams *u)
{
	(void)u;
}

size_t upstreams_live(const struct upstreams *u)
{
	(void)u;
	return 0;
}

void upstreams_pod_removed(struct upstreams *u, struct worker_pod *pod)
{
	(void)u;
	(void)pod;
}

void upstreams_dump(struct upstreams *u, const char *what, struct sb *out)
{
	(void)u;
	(void)what;
	sb_add(out, "[]");
}

struct upstream_wait *upstream_get(struct upstreams *u, const struct upstream_query *q,
				   const struct http_stream_events *events, void *user, upstream_fn fn, void *arg)
{
	(void)u;
	(void)q;
	(void)events;
	(void)user;
	fn(NULL, UPSTREAM_NO_CLUSTER, NULL, arg);
	return NULL;
}

void upstream_cancel(struct upstream_wait *wait)
{
	(void)wait;
}

void upstream_done(struct upstreams *u, struct upstream *up, enum upstream_outcome outcome, uint16_t status,
		   uint64_t latency_ns)
{
	(void)u;
	(void)outcome;
	(void)status;
	(void)latency_ns;
	free(up);
}

struct upstream_wait *upstream_pick(struct upstreams *u, const struct upstream_query *q, upstream_pick_fn fn, void *arg)
{
	(void)u;
	(void)q;
	fn(NULL, NULL, UPSTREAM_NO_CLUSTER, arg);
	return NULL;
}

void upstream_report(struct upstreams *u, const char *cluster, const struct addr_port *endpoint, bool connected)
{
	(void)u;
	(void)cluster;
	(void)endpoint;
	(void)connected;
}
