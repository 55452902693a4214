/* SPDX-License-Identifier: Apache-2.0 */
/* PASSTHROUGH to an address that is no endpoint of the cluster. It may be a pod's all the same, to which no byte may go
 * but through its tunnel: so the worker is asked what the address is, and asked again now and then. Without an answer
 * nothing is sent. What has become something else gets a new host, as the old one's may be in use. */
#include "agent/helper/balance/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/loop.h"
#include "agent/base/table.h"
#include "agent/helper/worker.h"

enum { AD_HOC_FRESH_MS = 5000, AD_HOC_ASK_AGAIN_MS = 1000 };

struct ad_hoc {
	struct cluster_endpoint endpoint;
	bool current; /* the host has not become an endpoint, nor gone */
	bool known;   /* there was an answer */
	bool stale;   /* and another one since */
	bool asking;
	struct worker_wait *answer; /* that is waited for */
	uint64_t answered_ns;	    /* or that there was no answer */
	struct wait_queue waits;
	size_t wait_count;
};

bool host_is_ad_hoc(const struct host *h)
{
	return h->own && h->own->current;
}

static void identities_free(struct cluster_endpoint *e)
{
	for (size_t i = 0; i < e->identity_count; i++)
		free(e->identities[i]);
	free(e->identities);
	e->identities = NULL;
	e->identity_count = 0;
}

void ad_hoc_free(struct ad_hoc *own)
{
	if (!own)
		return;
	identities_free(&own->endpoint);
	free(own);
}

void ad_hoc_retire(struct host *h)
{
	struct ad_hoc *own = h->own;
	struct entry *e = h->entry;
	struct upstream_wait *w;

	own->current = false;
	worker_wait_cancel(own->answer);
	own->answer = NULL;
	own->asking = false;
	/* Whoever pushed a new version lets those that wait for the cluster go on. */
	while ((w = TAILQ_FIRST(&own->waits))) {
		wait_remove(w);
		wait_enqueue(w, &e->waits, &e->wait_count, NULL);
	}
}

static int endpoint_fill(struct cluster_endpoint *out, const struct addr_port *addr, const struct endpoint_info *info)
{
	*out = (struct cluster_endpoint){ .addr = *addr, .weight = 1, .healthy = true };
	if (!info->known || !info->hbone)
		return 0;
	out->enrolled = true;
	out->tunnel = ENDPOINT_HBONE;
	out->tunnel_addr = info->tunnel;
	out->identities = calloc(info->identity_count + 1, sizeof(char *));
	if (!out->identities)
		return -ENOMEM;
	for (size_t i = 0; i < info->identity_count; i++) {
		out->identities[i] = strdup(info->identities[i]);
		if (!out->identities[i])
			return -ENOMEM;
		out->identity_count++;
	}
	return 0;
}

static void on_info(const struct endpoint_info *info, void *arg)
{
	struct host *h = arg;
	struct ad_hoc *own = h->own;
	struct entry *e = h->entry;
	struct cluster_endpoint now = { 0 };
	bool inside = own->asking && !own->answer;

	own->asking = false;
	own->answer = NULL;
	own->answered_ns = loop_now_ns(e->u->loop);
	if (info && endpoint_fill(&now, &h->addr, info) == 0) {
		uint64_t id = transport_id_of(h->version->cluster, &now);
		if (!own->known) {
			own->endpoint = now;
			now.identities = NULL;
			now.identity_count = 0;
			own->known = true;
			h->transport_id = id;
		}
		own->stale = id != h->transport_id;
	}
	identities_free(&now);
	if (!inside && own->wait_count)
		waits_again(e->u, e, &own->waits);
}

static void ask(struct host *h, uint64_t now_ns)
{
	struct ad_hoc *own = h->own;
	uint64_t fresh_ns = (own->known ? AD_HOC_FRESH_MS : AD_HOC_ASK_AGAIN_MS) * 1000000ull;
	if (own->asking || (own->answered_ns && now_ns - own->answered_ns < fresh_ns))
		return;
	own->asking = true;
	struct worker_wait *answer = worker_endpoint_get(h->entry->u->w, &h->addr, on_info, h);
	if (own->asking)
		own->answer = answer;
}

static struct host *ad_hoc_new(struct entry *e, const struct addr_port *addr)
{
	struct addr_key key = addr_key_of(addr);
	if (e->ad_hoc_count >= UPSTREAM_AD_HOC_MAX)
		return NULL;
	struct host *h = host_new(e, addr);
	if (!h)
		return NULL;
	h->own = calloc(1, sizeof(*h->own));
	if (!h->own || table_set(e->by_addr, &key, sizeof(key), h) < 0) {
		host_unref(h);
		return NULL;
	}
	TAILQ_INIT(&h->own->waits);
	h->own->current = true;
	h->own->endpoint = (struct cluster_endpoint){ .addr = *addr, .weight = 1, .healthy = true };
	h->endpoint = &h->own->endpoint;
	h->version = version_ref(e->version);
	h->b.weight = 1;
	h->b.healthy = true;
	e->ad_hoc_count++;
	return h;
}

static void ad_hoc_remove(struct entry *e, struct host *h)
{
	struct addr_key key = addr_key_of(&h->addr);
	table_remove(e->by_addr, &key, sizeof(key));
	e->ad_hoc_count--;
	host_retire(h);
}

struct host *ad_hoc_get(struct entry *e, const struct addr_port *addr, uint64_t now_ns, struct wait_queue **queue,
			size_t **count)
{
	for (int i = 0; i < 2; i++) {
		struct host *h = host_find(e, addr);
		if (!h)
			h = ad_hoc_new(e, addr);
		if (!h)
			return NULL;
		h->used_s = upstreams_second(now_ns);
		if (!host_is_ad_hoc(h))
			return h;
		struct ad_hoc *own = h->own;
		ask(h, now_ns);
		if (own->stale) {
			ad_hoc_remove(e, h);
			continue;
		}
		if (own->known)
			return h;
		if (own->asking && own->wait_count < UPSTREAM_WAITS_MAX) {
			*queue = &own->waits;
			*count = &own->wait_count;
		}
		return NULL;
	}
	return NULL;
}

void ad_hoc_keep(struct entry *e, struct table *by_addr)
{
	struct table_iter it = { 0 };
	size_t kept = 0;
	while (e->by_addr && table_next(e->by_addr, &it)) {
		struct host *h = it.value;
		if (!host_is_ad_hoc(h) || h->seen)
			continue;
		if (table_set(by_addr, it.key, it.key_len, h) < 0) {
			host_retire(h);
			continue;
		}
		version_unref(h->version);
		h->version = version_ref(e->version);
		if (h->own->known)
			host_transport(h, transport_id_of(e->version->cluster, h->endpoint));
		kept++;
	}
	e->ad_hoc_count = kept;
}

void ad_hoc_sweep(struct entry *e, uint64_t now_s)
{
	struct table_iter it = { 0 };
	while (e->ad_hoc_count && table_next(e->by_addr, &it)) {
		struct host *h = it.value;
		if (host_is_ad_hoc(h) && h->refs == 1 && !h->own->wait_count &&
		    now_s - h->used_s >= UPSTREAM_AD_HOC_UNUSED_S)
			ad_hoc_remove(e, h);
	}
}
