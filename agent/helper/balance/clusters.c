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

struct addr_key {
	uint8_t b[18];
};

static struct addr_key key_of(const struct addr_port *a)
{
	struct addr_key key;
	memcpy(key.b, a->addr.b, 16);
	memcpy(key.b + 16, &a->port, 2);
	return key;
}

/* --- versions */

static struct version *version_new(struct http_cluster *c)
{
	struct version *v = calloc(1, sizeof(*v));
	if (!v)
		return NULL;
	v->refs = 1;
	v->cluster = http_cluster_ref(c);
	return v;
}

void version_unref(struct version *v)
{
	if (!v || --v->refs)
		return;
	http_cluster_unref(v->cluster);
	free(v);
}

static uint64_t text_hash(uint64_t id, const char *text)
{
	return hash64_str(hash64(id, text ? "+" : "-", 1), text ? text : "");
}

/* All that a connection to the endpoint was made with. */
static uint64_t transport_id_of(const struct http_cluster *c, const struct cluster_endpoint *e)
{
	const uint64_t numbers[] = { c->protocol, c->tls,   c->insecure,	c->proxy_protocol,
				     e->tunnel,	  e->local, e->tunnel_addr.port };
	uint64_t id = hash64(HASH64_INIT, numbers, sizeof(numbers));
	id = hash64(id, e->tunnel_addr.addr.b, sizeof(e->tunnel_addr.addr.b));
	const char *const texts[] = { c->sni, c->ca_pem, c->chain_pem, c->key_pem, c->proxy_host, e->hostname };
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		id = text_hash(id, texts[i]);
	for (size_t i = 0; i < c->subject_alt_name_count; i++)
		id = text_hash(id, c->subject_alt_names[i]);
	for (size_t i = 0; i < e->identity_count; i++)
		id = text_hash(id, e->identities[i]);
	return id ? id : 1;
}

/* --- hosts */

static struct host *host_new(struct entry *e, const struct addr_port *addr)
{
	struct host *h = calloc(1, sizeof(*h));
	if (!h)
		return NULL;
	h->refs = 1;
	h->entry = e;
	h->addr = *addr;
	h->b.key = balance_key(addr);
	LIST_INIT(&h->pools);
	return h;
}

void host_unref(struct host *h)
{
	if (!h || --h->refs)
		return;
	version_unref(h->version);
	free(h->own);
	free(h);
}

static void host_health_release(struct entry *e, struct host *h)
{
	if (h->shared && shared_host_put(e->shared, h->shared))
		e->u->shard->outlier_ejected--;
	h->shared = NULL;
	h->b.ejected = false;
}

/* It is no endpoint any more: connections end when their streams have. */
static void host_retire(struct entry *e, struct host *h)
{
	h->gone = true;
	host_health_release(e, h);
	struct pool *p;
	LIST_FOREACH(p, &h->pools, by_host)
	pool_drain(p, 0);
	host_unref(h);
}

static void host_transport(struct host *h, uint64_t id)
{
	if (h->transport_id && h->transport_id != id) {
		struct pool *p;
		LIST_FOREACH(p, &h->pools, by_host)
		pool_drain(p, id);
	}
	h->transport_id = id;
}

static void host_set(struct host *h, struct version *v, const struct cluster_endpoint *endpoint, bool is_new,
		     bool first, uint64_t now_ns)
{
	bool was_healthy = !is_new && h->b.healthy;

	version_unref(h->version);
	h->version = version_ref(v);
	h->endpoint = endpoint;
	h->ad_hoc = false;
	h->b.weight = endpoint->weight;
	h->b.priority = endpoint->priority;
	h->b.healthy = endpoint->healthy;
	/* Those that the first version has may have been serving for long. */
	if (h->b.healthy && !was_healthy && !first)
		h->b.warm_from_ns = now_ns ? now_ns : 1;
	host_transport(h, transport_id_of(v->cluster, endpoint));
}

struct host *host_find(const struct entry *e, const struct addr_port *addr)
{
	struct addr_key key = key_of(addr);
	return e->by_addr ? table_get(e->by_addr, &key, sizeof(key)) : NULL;
}

struct host *host_ad_hoc(struct entry *e, const struct addr_port *addr)
{
	struct addr_key key = key_of(addr);
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
	*h->own = (struct cluster_endpoint){ .addr = *addr, .weight = 1, .healthy = true };
	h->ad_hoc = true;
	h->endpoint = h->own;
	h->version = version_ref(e->version);
	h->transport_id = transport_id_of(e->version->cluster, h->own);
	h->b.weight = 1;
	h->b.healthy = true;
	e->ad_hoc_count++;
	return h;
}

/* --- outlier detection */

static void health_attach(struct entry *e)
{
	bool on = health_on(&e->version->cluster->outlier);
	if (on && !e->shared) {
		e->shared = shared_cluster_get(e->name);
		e->generation = 0;
	}
	for (size_t i = 0; i < e->host_count; i++) {
		struct host *h = e->hosts[i];
		if (!on)
			host_health_release(e, h);
		else if (e->shared && !h->shared)
			h->shared = shared_host_get(e->shared, &h->addr);
	}
	if (!on && e->shared) {
		shared_cluster_put(e->shared);
		e->shared = NULL;
	}
}

static void health_read(struct entry *e)
{
	e->generation = __atomic_load_n(&e->shared->set.generation, __ATOMIC_ACQUIRE);
	for (size_t i = 0; i < e->host_count; i++)
		e->hosts[i]->b.ejected = e->hosts[i]->shared && health_ejected(&e->hosts[i]->shared->health);
}

static void health_sweep_all(struct entry *e, uint64_t now_ns)
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
		health_sweep_all(e, now_ns);
	if (e->generation == __atomic_load_n(&e->shared->set.generation, __ATOMIC_RELAXED))
		return;
	health_read(e);
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

/* --- versions of an entry */

/* Hosts for the endpoints of a version, old ones where they stay. Only then is the entry changed. */
static int hosts_make(struct entry *e, const struct http_cluster *c, struct host **hosts, struct table *by_addr)
{
	for (size_t i = 0; i < c->endpoint_count; i++) {
		struct addr_key key = key_of(&c->endpoints[i].addr);
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

/* Those of PASSTHROUGH stay, unless they are endpoints now. */
static void ad_hoc_keep(struct entry *e, struct table *by_addr)
{
	struct table_iter it = { 0 };
	size_t kept = 0;
	while (e->by_addr && table_next(e->by_addr, &it)) {
		struct host *h = it.value;
		if (!h->ad_hoc || h->seen)
			continue;
		if (table_set(by_addr, it.key, it.key_len, h) < 0) {
			host_retire(e, h);
			continue;
		}
		version_unref(h->version);
		h->version = version_ref(e->version);
		host_transport(h, transport_id_of(e->version->cluster, h->own));
		kept++;
	}
	e->ad_hoc_count = kept;
}

static void hosts_retire_old(struct entry *e)
{
	for (size_t i = 0; i < e->host_count; i++)
		if (!e->hosts[i]->seen)
			host_retire(e, e->hosts[i]);
}

/* The waiting ones of hosts that went choose again. */
static void waits_rescue(struct upstreams *u, struct entry *e)
{
	struct wait_queue queue = TAILQ_HEAD_INITIALIZER(queue);
	struct upstream_wait *w;
	struct pool *p;
	size_t count = 0;
	LIST_FOREACH(p, &e->pools, by_entry)
	while (p->host->gone && (w = TAILQ_FIRST(&p->pending))) {
		wait_remove(w);
		w->queue = &queue;
		w->count = &count;
		TAILQ_INSERT_TAIL(&queue, w, link);
		count++;
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
	hosts_retire_old(e);
	ad_hoc_keep(e, by_addr);
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
	health_attach(e);
	if (e->shared)
		health_read(e);

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
		if (h->ad_hoc)
			host_retire(e, h);
	}
	for (size_t i = 0; i < e->host_count; i++)
		host_retire(e, e->hosts[i]);
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

static void ad_hoc_sweep(struct entry *e, uint64_t now_s)
{
	struct table_iter it = { 0 };
	while (e->ad_hoc_count && table_next(e->by_addr, &it)) {
		struct host *h = it.value;
		if (!h->ad_hoc || h->refs > 1 || now_s - h->used_s < UPSTREAM_AD_HOC_UNUSED_S)
			continue;
		table_remove(e->by_addr, it.key, it.key_len);
		e->ad_hoc_count--;
		host_unref(h);
	}
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
