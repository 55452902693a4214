/* SPDX-License-Identifier: Apache-2.0 */
/* Outlier detection of a cluster's hosts: between what the workers share and this worker's balance. */
#include "agent/helper/balance/internal.h"

#include <stdlib.h>

#include "agent/base/mem.h"
#include "agent/link/metrics.h"

void host_health_release(struct host *h)
{
	struct entry *e = h->entry;
	if (h->shared && shared_host_put(e->shared, h->shared))
		e->u->shard->outlier_ejected--;
	h->shared = NULL;
	h->b.ejected = false;
}

void entry_health_attach(struct entry *e)
{
	bool on = health_on(&e->version->cluster->outlier);
	if (on && !e->shared) {
		e->shared = shared_cluster_get(e->name);
		e->generation = 0;
	}
	for (size_t i = 0; i < e->host_count; i++) {
		struct host *h = e->hosts[i];
		if (!on)
			host_health_release(h);
		else if (e->shared && !h->shared)
			h->shared = shared_host_get(e->shared, &h->addr);
	}
	if (!on && e->shared) {
		shared_cluster_put(e->shared);
		e->shared = NULL;
	}
}

void entry_health_read(struct entry *e)
{
	e->generation = __atomic_load_n(&e->shared->set.generation, __ATOMIC_ACQUIRE);
	for (size_t i = 0; i < e->host_count; i++)
		e->hosts[i]->b.ejected = e->hosts[i]->shared && health_ejected(&e->hosts[i]->shared->health);
}

static void sweep_all(struct entry *e, uint64_t now_ns)
{
	AUTO(mem_freep) struct host_health **healths = calloc(e->host_count + 1, sizeof(struct host_health *));
	size_t n = 0;
	if (!healths)
		return;
	for (size_t i = 0; i < e->host_count; i++)
		if (e->hosts[i]->shared)
			healths[n++] = &e->hosts[i]->shared->health;
	e->u->shard->outlier_ejected -= health_sweep(&e->shared->set, healths, n, now_ns);
}

void entry_health(struct entry *e, uint64_t now_ns)
{
	if (!e->shared || !e->version)
		return;
	if (health_sweep_due(&e->version->cluster->outlier, &e->shared->set, now_ns))
		sweep_all(e, now_ns);
	if (e->generation == __atomic_load_n(&e->shared->set.generation, __ATOMIC_RELAXED))
		return;
	entry_health_read(e);
	balance_refresh(e->balance, now_ns, &e->u->random);
}

void host_note(struct host *h, enum health_event event, uint64_t now_ns)
{
	struct entry *e = h->entry;
	if (!h->shared || !e->version)
		return;
	if (health_note(&e->version->cluster->outlier, &e->shared->set, e->host_count, &h->shared->health, event,
			now_ns)) {
		e->u->shard->outlier_ejections++;
		e->u->shard->outlier_ejected++;
	}
}
