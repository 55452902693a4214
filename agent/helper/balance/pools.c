/* SPDX-License-Identifier: Apache-2.0 */
/* Pools: the connections of one pod to one host in one protocol, and who waits for them. Found by one look into a hash
 * table. Freed only by the sweep, when a pod goes, and at the end: callbacks may do what they like meanwhile. */
#include "agent/helper/balance/internal.h"

#include <stdlib.h>
#include <string.h>

#include "agent/base/loop.h"
#include "agent/base/str.h"
#include "agent/helper/worker.h"

enum { BUCKETS_MIN = 64, POOL_UNUSED_S = 60 };

static size_t bucket_of(const struct upstreams *u, const struct host *h, const struct worker_pod *pod,
			enum http_protocol protocol)
{
	uint64_t x = (uintptr_t)h * 0x9e3779b97f4a7c15ull ^ (uintptr_t)pod ^ (uint64_t)protocol << 60;
	return (size_t)balance_mix(x) & (u->bucket_count - 1);
}

static bool buckets_grow(struct upstreams *u)
{
	size_t count = u->bucket_count ? u->bucket_count * 2 : BUCKETS_MIN;
	if (u->pool_count < u->bucket_count)
		return true;
	struct pool **buckets = calloc(count, sizeof(*buckets));
	if (!buckets)
		return u->bucket_count != 0;
	free(u->buckets);
	u->buckets = buckets;
	u->bucket_count = count;
	struct pool *p;
	TAILQ_FOREACH(p, &u->pools, link)
	{
		size_t at = bucket_of(u, p->host, p->caller->pod, p->protocol);
		p->chain = buckets[at];
		buckets[at] = p;
	}
	return true;
}

static struct pool *pool_new(struct upstreams *u, struct host *h, struct worker_pod *pod, enum http_protocol protocol,
			     const char *sni)
{
	if (!buckets_grow(u))
		return NULL;
	struct caller *caller = caller_get(h->entry, pod);
	struct pool *p = caller ? calloc(1, sizeof(*p)) : NULL;
	if (!p || (sni && !(p->sni = strdup(sni)))) {
		if (caller)
			caller_unref(caller);
		free(p);
		return NULL;
	}
	p->u = u;
	p->host = h;
	h->refs++;
	p->caller = caller;
	p->protocol = protocol;
	TAILQ_INIT(&p->ready);
	TAILQ_INIT(&p->busy);
	TAILQ_INIT(&p->connecting);
	TAILQ_INIT(&p->draining);
	TAILQ_INIT(&p->pending);
	size_t at = bucket_of(u, h, pod, protocol);
	p->chain = u->buckets[at];
	u->buckets[at] = p;
	TAILQ_INSERT_TAIL(&u->pools, p, link);
	LIST_INSERT_HEAD(&h->pools, p, by_host);
	LIST_INSERT_HEAD(&h->entry->pools, p, by_entry);
	u->pool_count++;
	return p;
}

static bool pool_is(const struct pool *p, const struct host *h, const struct worker_pod *pod,
		    enum http_protocol protocol, const char *sni)
{
	return p->host == h && p->caller->pod == pod && p->protocol == protocol && str_eq(p->sni, sni);
}

struct pool *pool_get(struct upstreams *u, struct host *h, struct worker_pod *pod, enum http_protocol protocol,
		      const char *sni)
{
	struct pool *p = LIST_FIRST(&h->pools);
	if (!p)
		return pool_new(u, h, pod, protocol, sni);
	if (pool_is(p, h, pod, protocol, sni)) /* on most nodes one pod calls an endpoint, in one way */
		return p;
	p = u->buckets[bucket_of(u, h, pod, protocol)];
	while (p && !pool_is(p, h, pod, protocol, sni))
		p = p->chain;
	return p ? p : pool_new(u, h, pod, protocol, sni);
}

static void conns_close(struct conn_list *list)
{
	struct conn *c;
	while ((c = TAILQ_FIRST(list)))
		conn_close(c);
}

void pool_free(struct pool *p)
{
	struct upstreams *u = p->u;
	struct upstream_wait *w;
	while ((w = TAILQ_FIRST(&p->pending))) {
		wait_remove(w);
		wait_free(w);
	}
	conns_close(&p->connecting);
	conns_close(&p->ready);
	conns_close(&p->busy);
	conns_close(&p->draining);
	if (p->serve_later)
		TAILQ_REMOVE(&u->serving, p, by_serve);
	struct pool **at = &u->buckets[bucket_of(u, p->host, p->caller->pod, p->protocol)];
	while (*at != p)
		at = &(*at)->chain;
	*at = p->chain;
	TAILQ_REMOVE(&u->pools, p, link);
	LIST_REMOVE(p, by_host);
	LIST_REMOVE(p, by_entry);
	u->pool_count--;
	caller_unref(p->caller);
	host_unref(p->host);
	free(p->sni);
	free(p);
}

bool pool_is_empty(const struct pool *p)
{
	return !p->ready_count && !p->busy_count && !p->connecting_count && !p->draining_count && !p->pending_count &&
	       !p->serve_later;
}

static void item_fill(struct upstream_item *item, struct pool *p, const struct attempt *a)
{
	struct host *h = p->host;
	struct upstream *up = &item->up;

	up->cluster = h->version->cluster;
	up->endpoint = h->endpoint;
	up->cookie[0] = 0;
	if (a->cookie[0])
		str_copy(up->cookie, sizeof(up->cookie), a->cookie);
	item->over = false;
	item->host = h;
	h->refs++;
	item->caller = p->caller;
	caller_ref(p->caller);
	item->version = version_ref(h->version);
	caller_add(p->caller, LIMIT_REQUESTS, 1);
	h->b.active++;
	h->requests++;
	h->entry->live++;
	p->used_s = upstreams_second(loop_now_ns(p->u->loop));
	h->used_s = h->entry->used_s = p->used_s;
}

enum attach pool_attach(struct pool *p, const struct attempt *a, struct upstream **out)
{
	struct conn *c;

	if (TAILQ_EMPTY(&p->ready))
		return ATTACH_AGAIN;
	if (caller_over(p->caller, LIMIT_REQUESTS, p->host->version->cluster->max_requests))
		return ATTACH_OVERFLOW;
	struct upstream_item *item = item_new(p->u);
	if (!item)
		return ATTACH_FAILED;
	while ((c = TAILQ_FIRST(&p->ready))) {
		if (http_client_open(c->http, a->events, a->user, &item->up.stream) == 0) {
			item_fill(item, p, a);
			conn_up_add(c, item);
			*out = &item->up;
			return ATTACH_OK;
		}
		conn_not_ready(c);
	}
	item_free(p->u, item);
	return ATTACH_AGAIN;
}

/* One that serves its last request (maxRequestsPerConnection) is still one: when it closes, who waits is looked after. Not
 * so those that drain because much has changed, which may have streams that last for hours. */
static bool has_conns(const struct pool *p)
{
	uint32_t max = p->host->version->cluster->max_requests_per_connection;
	const struct conn *c;

	if (p->ready_count || p->busy_count || p->connecting_count)
		return true;
	TAILQ_FOREACH(c, &p->draining, link)
	{
		if (max && c->up_count && c->served >= max)
			return true;
	}
	return false;
}

bool pool_grow(struct pool *p)
{
	uint32_t max = p->host->version->cluster->tcp.max_connections;
	while (p->expected < p->pending_count) {
		/* As in Envoy a pool without any may have one in spite of the limit: others may never give theirs back. */
		if (has_conns(p) && caller_over(p->caller, LIMIT_CONNECTIONS, max))
			break;
		if (!conn_new(p))
			break;
	}
	return has_conns(p);
}

void pool_fail(struct pool *p, size_t count, enum upstream_failure why)
{
	struct wait_queue queue = TAILQ_HEAD_INITIALIZER(queue);
	struct upstream_wait *w;
	size_t left = 0;
	for (; count && (w = TAILQ_FIRST(&p->pending)); count--) {
		wait_remove(w);
		wait_enqueue(w, &queue, &left, NULL);
	}
	while ((w = TAILQ_FIRST(&queue))) {
		wait_remove(w);
		w->attempt.fn(NULL, why, p->host->endpoint, w->attempt.arg);
		wait_free(w);
	}
}

/* A connection did not come about: who waited for it is told, so that it may try elsewhere. Others still hope for those
 * on their way, or for one that is busy now. */
void pool_failed(struct pool *p, enum upstream_failure why)
{
	size_t hope = p->ready_count || p->busy_count ? p->pending_count : p->expected;
	size_t count = p->pending_count > hope ? p->pending_count - hope : p->pending_count ? 1 : 0;
	enum health_event event = why == UPSTREAM_CONNECT_TIMEOUT ? HEALTH_LOCAL_TIMEOUT : HEALTH_LOCAL_FAILED;
	uint64_t now_ns = loop_now_ns(p->u->loop);

	for (size_t i = 0; why != UPSTREAM_REFUSED && i < (count ? count : 1); i++)
		host_note(p->host, event, now_ns);
	pool_fail(p, count, why);
}

void pool_serve(struct pool *p)
{
	struct upstream_wait *w;
	while ((w = TAILQ_FIRST(&p->pending))) {
		struct upstream *up = NULL;
		enum attach how = pool_attach(p, &w->attempt, &up);
		if (how == ATTACH_AGAIN)
			break;
		wait_remove(w);
		if (how == ATTACH_OVERFLOW)
			p->u->shard->upstream_overflows++;
		w->attempt.fn(up,
			      up		     ? UPSTREAM_OK :
			      how == ATTACH_OVERFLOW ? UPSTREAM_OVERFLOW :
						       UPSTREAM_CONNECT,
			      up ? up->endpoint : p->host->endpoint, w->attempt.arg);
		wait_free(w);
	}
	if (p->pending_count && !pool_grow(p))
		pool_fail(p, p->pending_count, UPSTREAM_CONNECT);
}

static void on_serve(void *arg)
{
	struct upstreams *u = arg;
	struct pool *p;
	u->serve_deferred = false;
	if (u->closed) {
		free(u);
		return;
	}
	/* Those that are put in meanwhile wait for the next tick. */
	struct pool *last = TAILQ_LAST(&u->serving, pool_list);
	while ((p = TAILQ_FIRST(&u->serving))) {
		TAILQ_REMOVE(&u->serving, p, by_serve);
		p->serve_later = false;
		conns_drain_unused(p);
		if (p->broken) {
			p->broken = false;
			pool_failed(p, UPSTREAM_CONNECT);
		}
		pool_serve(p);
		if (p == last)
			break;
	}
	if (!TAILQ_EMPTY(&u->serving) && !u->serve_deferred) {
		u->serve_deferred = true;
		loop_defer(u->loop, on_serve, u);
	}
}

void pool_serve_later(struct pool *p)
{
	struct upstreams *u = p->u;
	if (p->serve_later)
		return;
	p->serve_later = true;
	TAILQ_INSERT_TAIL(&u->serving, p, by_serve);
	if (u->serve_deferred)
		return;
	u->serve_deferred = true;
	loop_defer(u->loop, on_serve, u);
}

static void conns_drain(struct conn_list *list, uint64_t except)
{
	struct conn *c, *next;
	for (c = TAILQ_FIRST(list); c; c = next) {
		next = TAILQ_NEXT(c, link);
		if (!except || c->transport_id != except)
			conn_drain(c);
	}
}

void pool_drain(struct pool *p, uint64_t except_transport_id)
{
	conns_drain(&p->connecting, except_transport_id);
	conns_drain(&p->ready, except_transport_id);
	conns_drain(&p->busy, except_transport_id);
}

bool pool_is_short(const struct pool *p)
{
	const struct http_cluster *c = p->host->version->cluster;
	uint32_t longest_ms = c->tcp.max_connection_duration_ms;
	return (c->http_idle_ms && c->http_idle_ms < UPSTREAM_SHORT_S * 1000) ||
	       (longest_ms && longest_ms < UPSTREAM_SHORT_S * 1000);
}

void pools_sweep(struct upstreams *u, uint64_t now_ns)
{
	uint64_t now_s = upstreams_second(now_ns);
	struct pool *p, *next;
	u->short_sweeps = false;
	for (p = TAILQ_FIRST(&u->pools); p; p = next) {
		next = TAILQ_NEXT(p, link);
		conns_sweep(p, now_ns);
		u->short_sweeps |= pool_is_short(p) && !pool_is_empty(p);
		if (pool_is_empty(p) && (p->host->gone || now_s - p->used_s >= POOL_UNUSED_S))
			pool_free(p);
	}
}

void pools_pod_removed(struct upstreams *u, struct worker_pod *pod)
{
	struct pool *p, *next;
	/* Callbacks may add pools, at the end, but free none. */
	TAILQ_FOREACH(p, &u->pools, link)
	{
		if (p->caller->pod != pod)
			continue;
		conns_close(&p->connecting);
		conns_close(&p->ready);
		conns_close(&p->busy);
		conns_close(&p->draining);
		pool_fail(p, p->pending_count, UPSTREAM_CONNECT);
	}
	for (p = TAILQ_FIRST(&u->pools); p; p = next) {
		next = TAILQ_NEXT(p, link);
		if (p->caller->pod == pod)
			pool_free(p);
	}
}
