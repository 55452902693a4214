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

/* --- the way */

enum step { STEP_FAILED, STEP_DONE, STEP_WAIT, STEP_WAIT_POOL };

struct way { /* how far it got */
	enum upstream_failure why;
	const struct cluster_endpoint *endpoint; /* chosen, if it was */
	const struct http_cluster *cluster;
	struct upstream *up;
	struct wait_queue *queue; /* to wait in, if not in pool's */
	size_t *count;
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

/* PASSTHROUGH to an address that is another service's, or of a pod that is not in the subset, can't be meant: any endpoint of
 * the cluster will do, if it has one. An address of its own counts even when its pod is no endpoint any more. */
static bool passes_through(const struct entry *e, const struct attempt *a)
{
	const struct http_cluster *c = e->version->cluster;

	if (c->lb != CLUSTER_PASSTHROUGH)
		return false;
	bool own = !(c->subset && *c->subset) && (!a->q.called || str_eq(a->q.called, c->host));
	if (own || !c->endpoint_count)
		return true;
	const struct host *h = host_find(e, &a->q.original);
	return h && !host_is_ad_hoc(h);
}

static struct host *host_choose(struct upstreams *u, struct entry *e, struct attempt *a, struct way *way)
{
	uint64_t now_ns = loop_now_ns(u->loop);
	const struct http_cluster *c = e->version->cluster;
	const struct balance_host *avoid[UPSTREAM_AVOID_MAX];
	struct balance_ask ask = {
		.now_ns = now_ns, .random = &u->random, .avoid = avoid, .skip = a->q.skip_priorities
	};

	if (passes_through(e, a)) {
		struct addr_port to = a->q.original;
		if (to.port && c->original_port)
			to.port = c->original_port;
		return to.port ? ad_hoc_get(e, &to, now_ns, &way->queue, &way->count) : NULL;
	}
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
	if (a->q.pod->removed)
		return failed(way, UPSTREAM_CONNECT);
	for (;;) { /* twice at most: DYNAMIC_DNS */
		e->used_s = upstreams_second(loop_now_ns(u->loop));
		if (e->answered && !e->version)
			entry_ask_again(e);
		if (!e->answered) {
			way->queue = &e->waits;
			way->count = &e->wait_count;
			return e->wait_count < UPSTREAM_WAITS_MAX ? STEP_WAIT : failed(way, UPSTREAM_OVERFLOW);
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
	way->cluster = e->version->cluster;
	struct host *h = host_choose(u, e, a, way);
	if (!h)
		return way->queue ? STEP_WAIT : failed(way, UPSTREAM_NO_ENDPOINT);
	way->endpoint = h->endpoint;
	return a->pick ? STEP_DONE : way_pool(u, h, a, way);
}

static void answer(struct upstreams *u, const struct attempt *a, const struct way *way, bool done)
{
	enum upstream_failure why = done ? UPSTREAM_OK : way->why;
	if (why == UPSTREAM_OVERFLOW)
		u->shard->upstream_overflows++;
	if (a->pick)
		a->pick(done ? way->cluster : NULL, way->endpoint, why, a->arg);
	else if (a->fn)
		a->fn(way->up, why, way->endpoint, a->arg);
}

static void wait_start(struct upstream_wait *w, const struct way *way)
{
	if (way->pool)
		wait_enqueue(w, &way->pool->pending, &way->pool->pending_count, way->pool);
	else
		wait_enqueue(w, way->queue, way->count, NULL);
	if (way->pool && !pool_grow(way->pool))
		pool_serve_later(way->pool); /* which tells it so */
}

static struct upstream_wait *ask(struct upstreams *u, struct attempt *a)
{
	struct way way = { .why = UPSTREAM_NO_CLUSTER };
	struct entry *e = a->q.cluster ? entry_get(u, a->q.cluster) : NULL;
	enum step step = e ? way_go(u, e, a, &way) : STEP_FAILED;
	if (step == STEP_WAIT || step == STEP_WAIT_POOL) {
		struct upstream_wait *w = wait_new(u, a, step == STEP_WAIT);
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
		if (step == STEP_WAIT || step == STEP_WAIT_POOL) {
			wait_start(w, &way);
			continue;
		}
		answer(u, &w->attempt, &way, step == STEP_DONE);
		wait_free(w);
	}
}

void attempt_answer(struct upstreams *u, const struct attempt *a, enum upstream_failure why)
{
	struct way way = { .why = why };
	answer(u, a, &way, false);
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
