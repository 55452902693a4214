/* SPDX-License-Identifier: Apache-2.0 */
/* The clusters that this worker uses, as versions come and go. A host stays for as long as its endpoint does, with what
 * is known of it: live requests, latency, ejections, connections. */
#include "agent/helper/balance/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/hash.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/table.h"
#include "agent/helper/worker.h"

/* --- versions of an entry */

/* Hosts for the endpoints of a version, old ones where they stay. Only then is the entry changed. */
static int hosts_make(struct entry *e, const struct http_cluster *c, struct host **hosts, struct table *by_addr)
{
	for (size_t i = 0; i < c->endpoint_count; i++) {
		struct addr_key key = addr_key_of(&c->endpoints[i].addr);
		struct host *h = host_find(e, &c->endpoints[i].addr);
		if (h && h->seen) /* twice in one version: the second has its own */
			h = NULL;
		hosts[i] = h ? h : host_new(e, &c->endpoints[i].addr);
		if (!hosts[i])
			return -ENOMEM;
		hosts[i]->seen = true;
		if (!table_get(by_addr, &key, sizeof(key)) && table_set(by_addr, &key, sizeof(key), hosts[i]) < 0)
			return -ENOMEM;
	}
	return 0;
}

static void hosts_unmake(struct host **hosts, size_t count)
{
	for (size_t i = 0; i < count && hosts[i]; i++) {
		hosts[i]->seen = false;
		if (!hosts[i]->version) /* was made for this version */
			host_unref(hosts[i]);
	}
}

static void hosts_retire_old(struct entry *e)
{
	for (size_t i = 0; i < e->host_count; i++)
		if (!e->hosts[i]->seen)
			host_retire(e->hosts[i]);
}

/* The waiting ones of hosts that went choose again. */
static void waits_rescue(struct upstreams *u, struct entry *e)
{
	struct wait_queue queue = TAILQ_HEAD_INITIALIZER(queue);
	struct upstream_wait *w;
	struct pool *p;
	size_t count = 0;
	LIST_FOREACH(p, &e->pools, by_entry)
	{
		while (p->host->gone && (w = TAILQ_FIRST(&p->pending))) {
			wait_remove(w);
			wait_enqueue(w, &queue, &count, NULL);
		}
	}
	waits_again(u, e, &queue);
}

static int entry_install(struct entry *e, struct http_cluster *c)
{
	uint64_t now_ns = loop_now_ns(e->u->loop);
	bool first = !e->host_count;
	AUTO(mem_freep) struct host **hosts = calloc(c->endpoint_count + 1, sizeof(struct host *));
	AUTO(mem_freep) struct balance_host **list = calloc(c->endpoint_count + 1, sizeof(struct balance_host *));
	AUTO(table_freep) struct table *by_addr = table_new(NULL);
	struct version *v = version_new(c);
	if (!hosts || !list || !by_addr || !v || hosts_make(e, c, hosts, by_addr) < 0) {
		if (hosts)
			hosts_unmake(hosts, c->endpoint_count);
		version_unref(v);
		return -ENOMEM;
	}

	struct version *old = e->version;
	e->version = v;
	ad_hoc_keep(e, by_addr); /* looks at all of the old table: before any of them may be freed */
	hosts_retire_old(e);
	for (size_t i = 0; i < c->endpoint_count; i++) {
		host_set(hosts[i], v, &c->endpoints[i], !hosts[i]->version, first, now_ns);
		hosts[i]->seen = false;
		list[i] = &hosts[i]->b;
	}
	version_unref(old);
	free(e->hosts);
	table_free(e->by_addr);
	e->hosts = TAKE(hosts);
	e->host_count = c->endpoint_count;
	e->by_addr = TAKE(by_addr);
	entry_health_attach(e);
	if (e->shared)
		entry_health_read(e);

	struct balance_settings settings;
	balance_settings_of(c, &settings);
	balance_free(e->balance);
	e->balance = NULL;
	callers_changed(e);
	return balance_new(&settings, list, e->host_count, now_ns, &e->u->random, &e->balance);
}

static void entry_clear(struct entry *e)
{
	struct table_iter it = { 0 };
	while (e->by_addr && table_next(e->by_addr, &it)) {
		struct host *h = it.value;
		if (host_is_ad_hoc(h))
			host_retire(h);
	}
	for (size_t i = 0; i < e->host_count; i++)
		host_retire(e->hosts[i]);
	balance_free(e->balance);
	free(e->hosts);
	table_free(e->by_addr);
	shared_cluster_put(e->shared);
	version_unref(e->version);
	e->balance = NULL;
	e->hosts = NULL;
	e->by_addr = NULL;
	e->shared = NULL;
	e->version = NULL;
	e->host_count = e->ad_hoc_count = 0;
}

static void on_cluster(struct http_cluster *cluster, void *arg)
{
	struct entry *e = arg;
	struct upstreams *u = e->u;

	bool gone = !cluster;

	e->answered = true;
	if (!gone && (!e->version || e->version->cluster->id != cluster->id))
		gone = entry_install(e, cluster) < 0 && !e->balance; /* no memory: as if there were none */
	if (gone)
		entry_clear(e);
	if (e->applying)
		return; /* from inside entry_get(): nobody waits */
	waits_rescue(u, e);
	waits_again(u, e, &e->waits);
}

/* --- entries */

static bool entry_watch(struct entry *e)
{
	e->watched_ns = loop_now_ns(e->u->loop);
	e->applying = true;
	e->watch = worker_cluster_watch(e->u->w, e->name, on_cluster, e);
	e->applying = false;
	return e->watch;
}

static struct entry *entry_new(struct upstreams *u, const char *name)
{
	if (table_count(u->entries) >= UPSTREAM_ENTRIES_MAX)
		return NULL;
	struct entry *e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	e->u = u;
	LIST_INIT(&e->callers);
	LIST_INIT(&e->pools);
	TAILQ_INIT(&e->waits);
	e->name = strdup(name);
	if (!e->name || table_set_str(u->entries, name, e) < 0) {
		free(e->name);
		free(e);
		return NULL;
	}
	TAILQ_INSERT_TAIL(&u->entry_list, e, link);
	/* What is refused at once, as too many names made of requests' hosts are, is not kept. */
	if (!entry_watch(e) || (e->answered && !e->version)) {
		entry_free(e);
		return NULL;
	}
	upstreams_sweep_soon(u, false);
	return e;
}

/* "None" may also mean that nobody could say so far. */
void entry_ask_again(struct entry *e)
{
	if (loop_now_ns(e->u->loop) - e->watched_ns < UPSTREAM_ASK_AGAIN_MS * 1000000ull)
		return;
	worker_cluster_unwatch(e->watch);
	e->watch = NULL;
	e->answered = false;
	if (!entry_watch(e))
		e->answered = true;
}

struct entry *entry_get(struct upstreams *u, const char *name)
{
	size_t slot = (size_t)(balance_mix((uintptr_t)name) % UPSTREAM_CACHE);
	/* Names of routes stay where they are; what was there before may have been another text. */
	struct entry *e = u->cache[slot].name == name ? u->cache[slot].entry : NULL;
	if (!e || strcmp(e->name, name) != 0) {
		e = table_get_str(u->entries, name);
		if (!e)
			e = entry_new(u, name);
		u->cache[slot].name = name;
		u->cache[slot].entry = e;
	}
	return e;
}

void entry_free(struct entry *e)
{
	struct upstreams *u = e->u;
	for (size_t i = 0; i < UPSTREAM_CACHE; i++)
		if (u->cache[i].entry == e)
			u->cache[i].entry = NULL;
	worker_cluster_unwatch(e->watch);
	table_remove_str(u->entries, e->name);
	TAILQ_REMOVE(&u->entry_list, e, link);
	entry_clear(e);
	struct pool *p;
	while ((p = LIST_FIRST(&e->pools)))
		pool_free(p);
	free(e->name);
	free(e);
}

void entries_sweep(struct upstreams *u, uint64_t now_s)
{
	struct entry *e, *next;
	for (e = TAILQ_FIRST(&u->entry_list); e; e = next) {
		next = TAILQ_NEXT(e, link);
		entry_health(e, loop_now_ns(u->loop));
		ad_hoc_sweep(e, now_s);
		uint64_t unused_s = e->version || !e->answered ? UPSTREAM_UNUSED_S : UPSTREAM_ABSENT_UNUSED_S;
		if (!e->live && !e->wait_count && now_s - e->used_s >= unused_s)
			entry_free(e);
	}
}
