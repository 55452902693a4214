/* SPDX-License-Identifier: Apache-2.0 */
/* One connection to an endpoint: connecting, then in its pool's lists by what it can take, then draining. The codec may
 * free its half in any call that ends it, and on_closed() then frees ours. */
#include "agent/helper/balance/internal.h"

#include <errno.h>
#include <stdlib.h>

#include "agent/base/loop.h"
#include "agent/helper/transport.h"
#include "agent/helper/worker.h"

static struct conn_list *list_of(struct pool *p, enum conn_state state, size_t **count)
{
	switch (state) {
	case CONN_CONNECTING:
		*count = &p->connecting_count;
		return &p->connecting;
	case CONN_READY:
		*count = &p->ready_count;
		return &p->ready;
	case CONN_BUSY:
		*count = &p->busy_count;
		return &p->busy;
	case CONN_DRAINING:
		*count = &p->draining_count;
		return &p->draining;
	case CONN_CLOSED:
		break;
	}
	return NULL;
}

static void conn_place(struct conn *c, enum conn_state state)
{
	size_t *count;
	struct conn_list *list = list_of(c->pool, c->state, &count);
	if (list) {
		TAILQ_REMOVE(list, c, link);
		--*count;
	}
	if (c->state == CONN_CONNECTING && state != CONN_CONNECTING) {
		c->pool->expected -= c->expected;
		TAILQ_REMOVE(&c->pool->u->connecting, c, by_age);
	}
	c->state = state;
	list = list_of(c->pool, state, &count);
	if (list) {
		TAILQ_INSERT_HEAD(list, c, link);
		++*count;
	}
}

static uint32_t streams_max(const struct conn *c)
{
	uint32_t max = c->pool->host->version->cluster->max_concurrent_streams;
	return max ? max : UINT32_MAX;
}

/* The connection is no more. What waits for it is looked after when the codec is out of the way. */
static void conn_gone(struct conn *c)
{
	struct pool *p = c->pool;
	struct upstream_item *item;
	bool unused = c->state != CONN_CONNECTING && c->state != CONN_DRAINING && !c->served;

	conn_place(c, CONN_CLOSED);
	if (c->up_count)
		p->u->live--;
	while ((item = LIST_FIRST(&c->ups))) {
		LIST_REMOVE(item, link);
		item->conn = NULL;
		item->up.conn = NULL;
	}
	caller_add(p->caller, LIMIT_CONNECTIONS, -1);
	p->u->shard->upstream_connections--;
	version_unref(c->version);
	free(c);
	if (!p->pending_count)
		return;
	p->broken |= unused; /* it ended before it could be used: trying again at once might go on for ever */
	pool_serve_later(p);
}

void conn_close(struct conn *c)
{
	if (c->state == CONN_CONNECTING) {
		transport_connect_cancel(c->connect);
		conn_gone(c);
		return;
	}
	conn_place(c, CONN_CLOSED); /* what its streams' users call meanwhile leaves it alone */
	http_conn_close(c->http);
}

static void drain_now(struct conn *c)
{
	c->drained = true;
	http_conn_drain(c->http);
}

/* Those that only waited for their last stream; not from inside the codec's events. */
void conns_drain_unused(struct pool *p)
{
	struct conn *c, *next;
	for (c = TAILQ_FIRST(&p->draining); c; c = next) {
		next = TAILQ_NEXT(c, link);
		if (!c->up_count && !c->drained)
			drain_now(c);
	}
}

void conn_drain(struct conn *c)
{
	if (c->state == CONN_CONNECTING) {
		conn_close(c);
		return;
	}
	conn_place(c, CONN_DRAINING);
	if (!c->up_count)
		drain_now(c);
}

/* No stream is left, though upstream_done() may come later: limits and balancing see them end now. */
static void ups_over(struct conn *c)
{
	struct upstream_item *item;
	LIST_FOREACH(item, &c->ups, link)
	{
		item_over(item);
	}
}

void conn_update(struct conn *c)
{
	struct pool *p = c->pool;

	if (c->state == CONN_DRAINING && !c->up_count && !c->drained)
		pool_serve_later(p);
	if (c->state != CONN_READY && c->state != CONN_BUSY)
		return;
	bool has_room = c->up_count < streams_max(c) && http_conn_capacity(c->http);
	if (!has_room) {
		if (c->state == CONN_READY)
			conn_place(c, CONN_BUSY);
		return;
	}
	if (!http_conn_streams(c->http)) {
		c->idle_ns = loop_now_ns(p->u->loop);
		ups_over(c);
	}
	if (c->state == CONN_BUSY)
		conn_place(c, CONN_READY);
	if (p->pending_count)
		pool_serve_later(p);
}

static void on_capacity(struct http_conn *http, void *arg)
{
	(void)http;
	conn_update(arg);
}

/* A server that closes a connection under a request has closed those that lie idle, or is about to. */
static void drain_idle(struct pool *p)
{
	struct conn *c, *next;
	for (c = TAILQ_FIRST(&p->ready); c; c = next) {
		next = TAILQ_NEXT(c, link);
		if (!c->up_count)
			conn_drain(c);
	}
}

static void on_closed(struct http_conn *http, void *arg)
{
	struct conn *c = arg;
	struct pool *p = c->pool;
	conn_gone(c);
	if (http->stale)
		drain_idle(p);
}

static const struct http_conn_events conn_events = { .on_capacity = on_capacity, .on_closed = on_closed };

static enum upstream_failure failure_of(int error)
{
	switch (error) {
	case -ETIMEDOUT:
		return UPSTREAM_CONNECT_TIMEOUT;
	case -EPERM:
	case -EACCES:
		return UPSTREAM_REFUSED;
	case -EPROTO:
	case -EKEYREJECTED:
	case -EKEYREVOKED:
		return UPSTREAM_TLS;
	default:
		return UPSTREAM_CONNECT;
	}
}

/* Refused by us, or by TLS: counted like a peer of the mesh that is refused. */
static void tls_drop(const struct conn *c, int error)
{
	struct worker_pod *pod = c->pool->caller->pod;
	struct worker_drop drop = {
		.pod = pod,
		.reason = error == -EKEYREVOKED	 ? DROP_TLS_REVOKED :
			  error == -EKEYREJECTED ? DROP_TLS_UNTRUSTED :
						   DROP_TLS_HANDSHAKE,
		.destination = c->pool->host->endpoint->addr,
	};
	if (pod->addr_count)
		drop.source.addr = pod->addrs[0];
	worker_drop(c->pool->u->w, &drop);
}

static void conn_failed(struct conn *c, int error)
{
	struct pool *p = c->pool;
	uint64_t now_ns = loop_now_ns(p->u->loop), took_ns = now_ns - c->born_ns;
	enum upstream_failure why = failure_of(error);

	if (why == UPSTREAM_TLS)
		tls_drop(c, error);
	conn_place(c, CONN_CLOSED);
	caller_add(p->caller, LIMIT_CONNECTIONS, -1);
	p->u->shard->upstream_connections--;
	version_unref(c->version);
	free(c);
	p->host->connect_failures++;
	/* For peak EWMA: what can't be reached is slow. */
	balance_observe(&p->host->b, took_ns > 1000000000 ? took_ns : 1000000000, now_ns);
	pool_failed(p, why);
}

static uint32_t idle_ms_of(const struct http_cluster *c)
{
	return c->http_idle_ms ? c->http_idle_ms : UPSTREAM_IDLE_MS;
}

static int conn_speak(struct conn *c, struct transport *t)
{
	struct pool *p = c->pool;
	struct http_limits limits = http_limits_default;
	limits.idle_timeout_ms = idle_ms_of(c->version->cluster);
	bool h2 = t->alpn ? t->alpn[0] == 'h' && t->alpn[1] == '2' : p->protocol == HTTP_PROTO_2;
	return h2 ? http2_client_new(p->u->loop, t, &limits, &conn_events, c, &c->http) :
		    http1_client_new(p->u->loop, t, &limits, &conn_events, c, &c->http);
}

static void on_connect(struct transport *t, int error, void *arg)
{
	struct conn *c = arg;
	struct pool *p = c->pool;

	c->connect = NULL;
	if (t)
		error = conn_speak(c, t);
	if (error < 0) {
		conn_failed(c, error);
		conns_timer(p->u);
		return;
	}
	c->born_ns = c->idle_ns = loop_now_ns(p->u->loop);
	conn_place(c, CONN_READY);
	conns_timer(p->u);
	pool_serve(p);
}

static void on_connect_timer(struct loop_timer *timer, void *arg)
{
	struct upstreams *u = arg;
	struct conn *c;
	(void)timer;
	uint64_t now_ns = loop_now_ns(u->loop);
	u->connect_timer_ns = 0;
	/* One at a time from the start: a callback may end others. */
again:
	TAILQ_FOREACH(c, &u->connecting, by_age)
	{
		if (c->deadline_ns > now_ns)
			continue;
		transport_connect_cancel(c->connect);
		conn_failed(c, -ETIMEDOUT);
		goto again;
	}
	conns_timer(u);
}

int conns_timer_new(struct upstreams *u)
{
	return loop_timer_new(u->loop, on_connect_timer, u, &u->connect_timer);
}

/* Set for the first that will time out. There are few, and seldom more than one timeout among them. */
void conns_timer(struct upstreams *u)
{
	struct conn *c = TAILQ_FIRST(&u->connecting);
	if (!c) {
		if (u->connect_timer_ns)
			loop_timer_stop(u->connect_timer);
		u->connect_timer_ns = 0;
		return;
	}
	uint64_t first_ns = u->connect_timer_ns;
	if (first_ns)
		return; /* when it fires it is set again */
	TAILQ_FOREACH(c, &u->connecting, by_age)
	{
		if (!first_ns || c->deadline_ns < first_ns)
			first_ns = c->deadline_ns;
	}
	uint64_t now_ns = loop_now_ns(u->loop);
	u->connect_timer_ns = first_ns;
	loop_timer_start(u->connect_timer, first_ns > now_ns ? (first_ns - now_ns) / 1000000 + 1 : 1, 0);
}

static void connect_deadline(struct conn *c, uint64_t now_ns)
{
	struct upstreams *u = c->pool->u;
	uint32_t timeout_ms = c->version->cluster->tcp.connect_timeout_ms;
	if (!timeout_ms)
		timeout_ms = worker_settings(u->w)->connect_timeout_ms;
	c->deadline_ns = now_ns + (uint64_t)(timeout_ms ? timeout_ms : 10000) * 1000000;
	if (u->connect_timer_ns && c->deadline_ns < u->connect_timer_ns) {
		loop_timer_stop(u->connect_timer);
		u->connect_timer_ns = 0;
	}
	conns_timer(u);
}

bool conn_new(struct pool *p)
{
	struct host *h = p->host;
	struct conn *c = calloc(1, sizeof(*c));
	if (!c)
		return false;
	c->pool = p;
	c->version = version_ref(h->version);
	c->transport_id = h->transport_id;
	c->born_ns = loop_now_ns(p->u->loop);
	LIST_INIT(&c->ups);
	c->expected = p->protocol == HTTP_PROTO_1	    ? 1 :
		      streams_max(c) < UPSTREAM_H2_EXPECTED ? streams_max(c) :
							      UPSTREAM_H2_EXPECTED;
	c->connect = transport_connect(p->u->w, p->caller->pod, h->version->cluster, h->endpoint,
				       p->protocol == HTTP_PROTO_2 ? "h2" : "http/1.1", p->sni, on_connect, c);
	if (!c->connect) {
		version_unref(c->version);
		free(c);
		return false;
	}
	c->state = CONN_CLOSED; /* in no list yet */
	conn_place(c, CONN_CONNECTING);
	p->expected += c->expected;
	TAILQ_INSERT_TAIL(&p->u->connecting, c, by_age);
	caller_add(p->caller, LIMIT_CONNECTIONS, 1);
	p->u->shard->upstream_connections++;
	connect_deadline(c, c->born_ns);
	upstreams_sweep_soon(p->u, pool_is_short(p));
	return true;
}

void conn_not_ready(struct conn *c)
{
	conn_place(c, CONN_BUSY);
}

void conn_up_add(struct conn *c, struct upstream_item *item)
{
	const struct http_cluster *cluster = c->pool->host->version->cluster;
	uint32_t max = cluster->max_requests_per_connection;

	if (!c->up_count++)
		c->pool->u->live++;
	c->served++;
	item->conn = c;
	item->up.conn = c->http;
	LIST_INSERT_HEAD(&c->ups, item, link);
	if ((max && c->served >= max) || c->pool->u->draining || c->pool->host->gone)
		conn_place(c, CONN_DRAINING);
	else if (c->up_count >= streams_max(c) || !http_conn_capacity(c->http))
		conn_place(c, CONN_BUSY);
}

void conn_up_remove(struct conn *c, struct upstream_item *item)
{
	LIST_REMOVE(item, link);
	item->conn = NULL;
	if (!--c->up_count)
		c->pool->u->live--;
	conn_update(c);
}

static void conn_sweep(struct conn *c, uint64_t now_ns)
{
	const struct http_cluster *cluster = c->pool->host->version->cluster;
	uint64_t longest_ns = (uint64_t)cluster->tcp.max_connection_duration_ms * 1000000;
	bool too_old = longest_ns && now_ns - c->born_ns >= longest_ns;
	bool idle = c->state == CONN_READY && !c->up_count && !http_conn_streams(c->http) &&
		    now_ns - c->idle_ns >= (uint64_t)idle_ms_of(cluster) * 1000000;
	if (too_old || idle)
		conn_drain(c);
}

/* Of the ready ones those at the end of the list have been idle for longest. */
void conns_sweep(struct pool *p, uint64_t now_ns)
{
	bool all = p->host->version->cluster->tcp.max_connection_duration_ms != 0;
	struct conn *c, *next;
	for (c = TAILQ_LAST(&p->ready, conn_list); c; c = next) {
		size_t before = p->ready_count;
		next = TAILQ_PREV(c, conn_list, link);
		conn_sweep(c, now_ns);
		if (!all && p->ready_count == before)
			break;
	}
	for (c = all ? TAILQ_FIRST(&p->busy) : NULL; c; c = next) {
		next = TAILQ_NEXT(c, link);
		conn_sweep(c, now_ns);
	}
}
