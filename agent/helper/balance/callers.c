/* SPDX-License-Identifier: Apache-2.0 */
/* One pod's use of one cluster, against the limits of connectionPool: the pod's on all workers. */
#include "agent/helper/balance/internal.h"

#include <stdlib.h>

#include "agent/base/mem.h"
#include "agent/helper/worker.h"

static bool has_limits(const struct http_cluster *c)
{
	return c->tcp.max_connections || c->max_pending || c->max_requests || c->max_retries;
}

static void share(struct caller *c)
{
	const struct version *v = c->entry->version;
	if (c->shared || !v || !has_limits(v->cluster))
		return;
	c->shared = shared_limits_get(c->entry->name, c->pod->cookie);
	for (int i = 0; c->shared && i < LIMIT_KINDS; i++)
		__atomic_add_fetch(&c->shared->n[i], c->n[i], __ATOMIC_RELAXED);
}

struct caller *caller_get(struct entry *e, struct worker_pod *pod)
{
	struct caller *c;
	LIST_FOREACH(c, &e->callers, link)
	{
		if (c->pod == pod) {
			c->refs++;
			return c;
		}
	}
	c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->refs = 1;
	c->entry = e;
	c->pod = worker_pod_ref(pod);
	LIST_INSERT_HEAD(&e->callers, c, link);
	share(c);
	return c;
}

void caller_ref(struct caller *c)
{
	c->refs++;
}

void caller_unref(struct caller *c)
{
	if (--c->refs)
		return;
	LIST_REMOVE(c, link);
	if (c->shared)
		shared_limits_put(c->entry->name, c->pod->cookie, c->shared);
	worker_pod_unref(c->entry->u->w, c->pod);
	free(c);
}

void caller_add(struct caller *c, enum limit limit, int n)
{
	c->n[limit] += (uint32_t)n;
	if (c->shared)
		__atomic_add_fetch(&c->shared->n[limit], (uint32_t)n, __ATOMIC_RELAXED);
}

static uint32_t used(const struct caller *c, enum limit limit)
{
	return c->shared ? __atomic_load_n(&c->shared->n[limit], __ATOMIC_RELAXED) : c->n[limit];
}

bool caller_over(const struct caller *c, enum limit limit, uint32_t max)
{
	return max && used(c, limit) >= max;
}

/* Envoy's: a budget is a share of the requests under way, but some retries are always allowed. */
bool caller_retry_over(const struct caller *c, const struct http_cluster *cluster)
{
	if (!cluster->retry_budget_percent)
		return caller_over(c, LIMIT_RETRIES, cluster->max_retries);
	uint64_t requests = (uint64_t)used(c, LIMIT_REQUESTS) + used(c, LIMIT_PENDING);
	uint64_t allowed = requests * cluster->retry_budget_percent / 100;
	if (allowed < cluster->retry_budget_min)
		allowed = cluster->retry_budget_min;
	return used(c, LIMIT_RETRIES) >= allowed;
}

struct caller *upstream_retry_begin(struct upstreams *u, struct worker_pod *pod, const char *cluster,
				    const struct upstream *up)
{
	struct caller *c = NULL;
	struct entry *e = up ? NULL : entry_get(u, cluster);
	if (up) {
		c = container_of(up, struct upstream_item, up)->caller;
		caller_ref(c);
	} else if (e) {
		c = caller_get(e, pod);
	}
	if (!c)
		return NULL;
	const struct version *v = c->entry->version;
	bool limited = v && (v->cluster->max_retries || v->cluster->retry_budget_percent);
	if (!v || (limited && caller_retry_over(c, v->cluster))) {
		u->shard->upstream_overflows++;
		caller_unref(c);
		return NULL;
	}
	caller_add(c, LIMIT_RETRIES, 1);
	c->entry->live++;
	return c;
}

void upstream_retry_end(struct caller *leave)
{
	if (!leave)
		return;
	leave->entry->live--;
	caller_add(leave, LIMIT_RETRIES, -1);
	caller_unref(leave);
}

void callers_changed(struct entry *e)
{
	struct caller *c;
	LIST_FOREACH(c, &e->callers, link)
	{
		share(c);
	}
}
