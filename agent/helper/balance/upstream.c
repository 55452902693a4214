/* SPDX-License-Identifier: Apache-2.0 */
/* From a question to a stream: cluster, host, pool, connection. With a connection at hand that is two looks into tables, a
 * choice and an open; nothing is allocated. Where something is lacking the question is copied into a wait, which goes the
 * same way again when the cluster is known, or is served when there is a connection. */
#include "agent/helper/balance/internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/hash.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/table.h"
#include "agent/helper/worker.h"

/* --- items and waits */

struct upstream_item *item_new(struct upstreams *u)
{
	struct upstream_item *item = LIST_FIRST(&u->free_items);
	if (!item)
		return malloc(sizeof(*item));
	LIST_REMOVE(item, link);
	u->free_count--;
	return item;
}

void item_free(struct upstreams *u, struct upstream_item *item)
{
	if (u->free_count >= UPSTREAM_KEPT) {
		free(item);
		return;
	}
	LIST_INSERT_HEAD(&u->free_items, item, link);
	u->free_count++;
}

void item_over(struct upstream_item *item)
{
	if (item->over)
		return;
	item->over = true;
	caller_add(item->caller, LIMIT_REQUESTS, -1);
	if (item->up.retry)
		caller_add(item->caller, LIMIT_RETRIES, -1);
	item->host->b.active--;
}

void wait_remove(struct upstream_wait *w)
{
	assert(w->queue && w->count);
	TAILQ_REMOVE(w->queue, w, link);
	--*w->count;
	if (w->pool)
		caller_add(w->pool->caller, LIMIT_PENDING, -1);
	w->queue = NULL;
	w->count = NULL;
	w->pool = NULL;
}

void wait_free(struct upstream_wait *w)
{
	struct upstreams *u = w->u;

	worker_pod_unref(u->w, w->attempt.q.pod);
	http_head_free(w->head);
	free(w->host);
	if (u->free_wait_count >= UPSTREAM_KEPT) {
		free(w);
		return;
	}
	TAILQ_INSERT_HEAD(&u->free_waits, w, link);
	u->free_wait_count++;
}

/* Copies what the caller lends for the call. The head only where its hash is not known yet. */
static struct upstream_wait *wait_new(struct upstreams *u, const struct attempt *a, bool with_head)
{
	struct upstream_wait *w = TAILQ_FIRST(&u->free_waits);
	if (w) {
		TAILQ_REMOVE(&u->free_waits, w, link);
		u->free_wait_count--;
	} else {
		w = malloc(sizeof(*w));
		if (!w)
			return NULL;
	}
	*w = (struct upstream_wait){ .u = u, .attempt = *a };
	w->attempt.q.pod = worker_pod_ref(a->q.pod);
	w->attempt.q.cluster = NULL;
	if (a->q.host)
		w->attempt.q.host = w->host = strdup(a->q.host);
	if (a->q.head && with_head)
		w->head = http_head_copy(a->q.head);
	w->attempt.q.head = w->head;
	if ((a->q.host && !w->host) || (a->q.head && with_head && !w->head)) {
		wait_free(w);
		return NULL;
	}
	return w;
}

static void wait_queue(struct upstream_wait *w, struct wait_queue *queue, size_t *count, struct pool *pool)
{
	w->queue = queue;
	w->count = count;
	w->pool = pool;
	TAILQ_INSERT_TAIL(queue, w, link);
	++*count;
	if (pool)
		caller_add(pool->caller, LIMIT_PENDING, 1);
}

/* --- the way */

enum step { STEP_FAILED, STEP_DONE, STEP_WAIT_CLUSTER, STEP_WAIT_POOL };

struct way { /* how far it got */
	enum upstream_failure why;
	const struct cluster_endpoint *endpoint; /* chosen, if it was */
	const struct http_cluster *cluster;
	struct upstream *up;
	struct entry *entry; /* to wait for */
	struct pool *pool;
};

static enum step failed(struct way *way, enum upstream_failure why)
{
	way->why = why;
	return STEP_FAILED;
}

/* Host without port, in lower case. */
static bool host_name(const char *host, char *out, size_t size)
{
	const char *colon = strrchr(host, ':');
	size_t n = strlen(host);
	if (colon && !strchr(colon, ']') && (strchr(host, ':') == colon || *host == '['))
		n = (size_t)(colon - host);
	if (!n || n >= size)
		return false;
	for (size_t i = 0; i < n; i++)
		out[i] = host[i] >= 'A' && host[i] <= 'Z' ? (char)(host[i] + 32) : host[i];
	out[n] = 0;
	return true;
}

static struct entry *entry_of_host(struct upstreams *u, const struct entry *e, const struct attempt *a)
{
	char host[UPSTREAM_HOST_MAX], name[2 * UPSTREAM_HOST_MAX];
	if (!a->q.host || !host_name(a->q.host, host, sizeof(host)))
		return NULL;
	int n = snprintf(name, sizeof(name), "%s|%s", e->name, host);
	return n > 0 && (size_t)n < sizeof(name) ? entry_get(u, name) : NULL;
}

static bool is_avoided(const struct attempt *a, const struct addr_port *addr)
{
	for (size_t i = 0; i < a->q.avoid_count; i++)
		if (addr_port_eq(&a->q.avoid[i], addr))
			return true;
	return false;
}

static struct host *host_passthrough(struct entry *e, const struct attempt *a, uint64_t now_ns)
{
	if (!a->q.original.port)
		return NULL;
	struct host *h = host_find(e, &a->q.original);
	if (!h)
		h = host_ad_hoc(e, &a->q.original);
	if (h)
		h->used_s = upstreams_second(now_ns);
	return h;
}

static struct host *host_choose(struct upstreams *u, struct entry *e, struct attempt *a)
{
	uint64_t now_ns = loop_now_ns(u->loop);
	const struct http_cluster *c = e->version->cluster;
	const struct balance_host *avoid[UPSTREAM_AVOID_MAX];
	struct balance_ask ask = { .now_ns = now_ns, .random = &u->random, .avoid = avoid };

	if (c->lb == CLUSTER_PASSTHROUGH)
		return host_passthrough(e, a, now_ns);
	entry_health(e, now_ns);
	if (a->q.pinned.port && !is_avoided(a, &a->q.pinned)) {
		struct host *h = host_find(e, &a->q.pinned);
		if (h && h->b.healthy && !h->b.ejected)
			return h;
	}
	for (size_t i = 0; i < a->q.avoid_count && i < UPSTREAM_AVOID_MAX; i++) {
		struct host *h = host_find(e, &a->q.avoid[i]);
		if (h)
			avoid[ask.avoid_count++] = &h->b;
	}
	if (c->lb == CLUSTER_RING_HASH || c->lb == CLUSTER_MAGLEV) {
		if (!a->hash_known)
			a->has_hash = hash_input(c, &a->q, &u->random, &a->hash, a->cookie, sizeof(a->cookie));
		a->hash_known = true;
		ask.has_hash = a->has_hash;
		ask.hash = a->hash;
	}
	struct balance_host *b = e->balance ? balance_choose(e->balance, &ask) : NULL;
	return b ? container_of(b, struct host, b) : NULL;
}

static enum http_protocol protocol_of(const struct http_cluster *c, const struct upstream_query *q)
{
	if (q->upgrade)
		return HTTP_PROTO_1;
	switch (c->protocol) {
	case CLUSTER_H1:
		break;
	case CLUSTER_H2:
		return HTTP_PROTO_2;
	case CLUSTER_AS_CLIENT:
		return q->downstream_h2 ? HTTP_PROTO_2 : HTTP_PROTO_1;
	}
	return HTTP_PROTO_1;
}

static enum step way_pool(struct upstreams *u, struct host *h, const struct attempt *a, struct way *way)
{
	const struct http_cluster *c = way->cluster;
	char host[UPSTREAM_HOST_MAX];
	const char *sni = NULL;
	if ((c->tls == CLUSTER_TLS_SIMPLE || c->tls == CLUSTER_TLS_MUTUAL) && !c->sni && a->q.host &&
	    host_name(a->q.host, host, sizeof(host)))
		sni = host;
	struct pool *p = pool_get(u, h, a->q.pod, protocol_of(c, &a->q), sni);
	if (!p)
		return failed(way, UPSTREAM_CONNECT);
	/* Who came first is served first. */
	enum attach how = p->pending_count ? ATTACH_AGAIN : pool_attach(p, a, &way->up);
	switch (how) {
	case ATTACH_OK:
		return STEP_DONE;
	case ATTACH_OVERFLOW:
		return failed(way, UPSTREAM_OVERFLOW);
	case ATTACH_FAILED:
		return failed(way, UPSTREAM_CONNECT);
	case ATTACH_AGAIN:
		break;
	}
	if (caller_over(p->caller, LIMIT_PENDING, c->max_pending) || p->pending_count >= UPSTREAM_PENDING_MAX)
		return failed(way, UPSTREAM_OVERFLOW);
	way->pool = p;
	return STEP_WAIT_POOL;
}

/* Everything that a question goes through, once or again. */
static enum step way_go(struct upstreams *u, struct entry *e, struct attempt *a, struct way *way)
{
	for (;;) { /* twice at most: DYNAMIC_DNS */
		e->used_s = upstreams_second(loop_now_ns(u->loop));
		if (e->answered && !e->version)
			entry_ask_again(e);
		if (!e->answered) {
			way->entry = e;
			return e->wait_count < UPSTREAM_WAITS_MAX ? STEP_WAIT_CLUSTER : failed(way, UPSTREAM_OVERFLOW);
		}
		if (!e->version)
			return failed(way, UPSTREAM_NO_CLUSTER);
		if (a->of_host || !e->version->cluster->dynamic_dns)
			break;
		a->of_host = true;
		e = entry_of_host(u, e, a);
		if (!e)
			return failed(way, UPSTREAM_NO_ENDPOINT);
	}
	const struct http_cluster *c = way->cluster = e->version->cluster;
	if (a->q.retry && (c->max_retries || c->retry_budget_percent)) {
		struct caller *caller = caller_get(e, a->q.pod);
		if (!caller || caller_retry_over(caller, c))
			return failed(way, UPSTREAM_RETRY_OVERFLOW);
	}
	struct host *h = host_choose(u, e, a);
	if (!h)
		return failed(way, UPSTREAM_NO_ENDPOINT);
	way->endpoint = h->endpoint;
	return a->pick ? STEP_DONE : way_pool(u, h, a, way);
}

static void answer(struct upstreams *u, const struct attempt *a, const struct way *way, bool done)
{
	enum upstream_failure why = done ? UPSTREAM_OK : way->why;
	if (why == UPSTREAM_OVERFLOW || why == UPSTREAM_RETRY_OVERFLOW)
		u->shard->upstream_overflows++;
	if (a->pick)
		a->pick(done ? way->cluster : NULL, way->endpoint, why, a->arg);
	else
		a->fn(way->up, why, way->endpoint, a->arg);
}

static void wait_start(struct upstream_wait *w, const struct way *way)
{
	if (way->pool)
		wait_queue(w, &way->pool->pending, &way->pool->pending_count, way->pool);
	else
		wait_queue(w, &way->entry->waits, &way->entry->wait_count, NULL);
	if (way->pool && !pool_grow(way->pool))
		pool_serve_later(way->pool); /* which tells it so */
}

static struct upstream_wait *ask(struct upstreams *u, struct attempt *a)
{
	struct way way = { .why = a->q.pod->removed ? UPSTREAM_CONNECT : UPSTREAM_NO_CLUSTER };
	struct entry *e = a->q.cluster && !a->q.pod->removed ? entry_get(u, a->q.cluster) : NULL;
	enum step step = e ? way_go(u, e, a, &way) : STEP_FAILED;
	if (step == STEP_WAIT_CLUSTER || step == STEP_WAIT_POOL) {
		struct upstream_wait *w = wait_new(u, a, step == STEP_WAIT_CLUSTER);
		if (w) {
			wait_start(w, &way);
			return w;
		}
		step = failed(&way, UPSTREAM_CONNECT);
	}
	answer(u, a, &way, step == STEP_DONE);
	return NULL;
}

void waits_again(struct upstreams *u, struct entry *e, struct wait_queue *queue)
{
	struct upstream_wait *w;
	while ((w = TAILQ_FIRST(queue))) {
		struct way way = { .why = UPSTREAM_NO_CLUSTER };
		wait_remove(w);
		enum step step = way_go(u, e, &w->attempt, &way);
		if (step == STEP_WAIT_CLUSTER || step == STEP_WAIT_POOL) {
			wait_start(w, &way);
			continue;
		}
		answer(u, &w->attempt, &way, step == STEP_DONE);
		wait_free(w);
	}
}

struct upstream_wait *upstream_get(struct upstreams *u, const struct upstream_query *q,
				   const struct http_stream_events *events, void *user, upstream_fn fn, void *arg)
{
	struct attempt a;

	a.q = *q;
	a.events = events;
	a.user = user;
	a.fn = fn;
	a.pick = NULL;
	a.arg = arg;
	a.hash_known = a.has_hash = a.of_host = false;
	a.hash = 0;
	a.cookie[0] = 0;
	return ask(u, &a);
}

struct upstream_wait *upstream_pick(struct upstreams *u, const struct upstream_query *q, upstream_pick_fn fn, void *arg)
{
	struct attempt a = { .q = *q, .pick = fn, .arg = arg };
	return ask(u, &a);
}

void upstream_cancel(struct upstream_wait *w)
{
	if (!w || !w->queue)
		return;
	wait_remove(w);
	wait_free(w);
}

/* --- the end of a stream */

static bool outcome_event(enum upstream_outcome outcome, uint16_t status, enum health_event *event)
{
	switch (outcome) {
	case OUTCOME_RESPONSE:
		*event = status >= 502 && status <= 504 ? HEALTH_GATEWAY : status >= 500 ? HEALTH_5XX : HEALTH_OK;
		return true;
	case OUTCOME_RESET:
		*event = HEALTH_LOCAL_FAILED;
		return true;
	case OUTCOME_TIMEOUT:
		*event = HEALTH_LOCAL_TIMEOUT;
		return true;
	case OUTCOME_CANCELLED:
		break;
	}
	return false;
}

void upstream_done(struct upstreams *u, struct upstream *up, enum upstream_outcome outcome, uint16_t status,
		   uint64_t latency_ns)
{
	if (!up)
		return;
	struct upstream_item *item = container_of(up, struct upstream_item, up);
	struct host *h = item->host;
	uint64_t now_ns = loop_now_ns(u->loop);
	enum health_event event;

	item_over(item);
	if (outcome_event(outcome, status, &event)) {
		host_note(h, event, now_ns);
		h->errors += event != HEALTH_OK;
		if (outcome != OUTCOME_RESET)
			balance_observe(&h->b, latency_ns, now_ns);
	}
	if (item->conn)
		conn_up_remove(item->conn, item);
	h->entry->live--;
	h->entry->used_s = upstreams_second(now_ns);
	caller_unref(item->caller);
	version_unref(item->version);
	host_unref(h);
	item_free(u, item);
}

void upstream_report(struct upstreams *u, const char *cluster, const struct addr_port *endpoint, bool connected)
{
	struct entry *e = table_get_str(u->entries, cluster);
	struct host *h = e ? host_find(e, endpoint) : NULL;
	if (!h)
		return;
	h->connect_failures += !connected;
	host_note(h, connected ? HEALTH_LOCAL_OK : HEALTH_LOCAL_FAILED, loop_now_ns(u->loop));
}

/* --- all of them */

static void on_sweep(struct loop_timer *timer, void *arg)
{
	struct upstreams *u = arg;
	uint64_t now_ns = loop_now_ns(u->loop);
	bool was_short = u->short_sweeps;

	pools_sweep(u, now_ns);
	entries_sweep(u, upstreams_second(now_ns));
	if (TAILQ_EMPTY(&u->entry_list)) {
		u->sweeping = false;
		loop_timer_stop(timer);
	} else if (u->short_sweeps != was_short) {
		uint64_t every_ms = u->short_sweeps ? 1000 : UPSTREAM_SWEEP_S * 1000;
		loop_timer_start(timer, every_ms, every_ms);
	}
}

void upstreams_sweep_soon(struct upstreams *u, bool short_timeouts)
{
	if (u->sweeping && (u->short_sweeps || !short_timeouts))
		return;
	u->sweeping = true;
	u->short_sweeps |= short_timeouts;
	uint64_t every_ms = u->short_sweeps ? 1000 : UPSTREAM_SWEEP_S * 1000;
	loop_timer_start(u->sweep_timer, every_ms, every_ms);
}

static void upstreams_freep(struct upstreams **u)
{
	upstreams_free(*u);
}

int upstreams_new(struct worker *w, struct upstreams **out)
{
	AUTO(upstreams_freep) struct upstreams *u = calloc(1, sizeof(*u));
	if (!u)
		return -ENOMEM;
	u->w = w;
	u->loop = worker_loop(w);
	u->shard = worker_metrics(w);
	TAILQ_INIT(&u->entry_list);
	TAILQ_INIT(&u->pools);
	TAILQ_INIT(&u->serving);
	TAILQ_INIT(&u->connecting);
	LIST_INIT(&u->free_items);
	TAILQ_INIT(&u->free_waits);
	/* Workers must not choose in step. */
	const uint64_t seed[2] = { (uintptr_t)u, clock_now_ns() };
	u->random = hash_keyed(seed, sizeof(seed));
	u->entries = table_new(NULL);
	if (!u->entries)
		return -ENOMEM;
	int rc = loop_timer_new(u->loop, on_sweep, u, &u->sweep_timer);
	if (rc == 0)
		rc = conns_timer_new(u);
	if (rc < 0)
		return rc;
	*out = TAKE(u);
	return 0;
}

static void waits_drop(struct wait_queue *queue)
{
	struct upstream_wait *w;
	while ((w = TAILQ_FIRST(queue))) {
		wait_remove(w);
		wait_free(w);
	}
}

void upstreams_free(struct upstreams *u)
{
	struct entry *e;
	struct upstream_item *item;
	struct upstream_wait *w;

	if (!u)
		return;
	while ((e = TAILQ_FIRST(&u->entry_list))) {
		waits_drop(&e->waits);
		entry_free(e);
	}
	if (u->sweep_timer)
		loop_timer_free(u->sweep_timer);
	if (u->connect_timer)
		loop_timer_free(u->connect_timer);
	while ((item = LIST_FIRST(&u->free_items))) {
		LIST_REMOVE(item, link);
		free(item);
	}
	while ((w = TAILQ_FIRST(&u->free_waits))) {
		TAILQ_REMOVE(&u->free_waits, w, link);
		free(w);
	}
	table_free(u->entries);
	free(u->buckets);
	u->closed = true;
	if (!u->serve_deferred) /* else that frees it */
		free(u);
}

void upstreams_drain(struct upstreams *u)
{
	struct pool *p;
	struct conn *c, *next;

	u->draining = true;
	TAILQ_FOREACH(p, &u->pools, link)
	{
		for (c = TAILQ_FIRST(&p->ready); c; c = next) {
			next = TAILQ_NEXT(c, link);
			conn_drain(c);
		}
		for (c = TAILQ_FIRST(&p->busy); c; c = next) {
			next = TAILQ_NEXT(c, link);
			conn_drain(c);
		}
		if (p->pending_count)
			pool_serve_later(p);
	}
}

size_t upstreams_live(const struct upstreams *u)
{
	return u->live;
}

void upstreams_pod_removed(struct upstreams *u, struct worker_pod *pod)
{
	struct entry *e;
	TAILQ_FOREACH(e, &u->entry_list, link)
	{
		struct wait_queue queue = TAILQ_HEAD_INITIALIZER(queue);
		struct upstream_wait *w, *next;
		size_t count = 0;
		for (w = TAILQ_FIRST(&e->waits); w; w = next) {
			next = TAILQ_NEXT(w, link);
			if (w->attempt.q.pod != pod)
				continue;
			wait_remove(w);
			wait_queue(w, &queue, &count, NULL);
		}
		while ((w = TAILQ_FIRST(&queue))) {
			struct way way = { .why = UPSTREAM_CONNECT };
			wait_remove(w);
			answer(u, &w->attempt, &way, false);
			wait_free(w);
		}
	}
	pools_pod_removed(u, pod);
}
