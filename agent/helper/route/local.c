/* SPDX-License-Identifier: Apache-2.0 */
/* The server side's way to the pod's own application: one connection for each downstream connection, of the same protocol
 * and from the same peer's address, so that the application sees who calls. Made when the first request comes, made again
 * when the application has closed it. */
#include "agent/helper/route/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/base/mem.h"
#include "agent/helper/balance/limits.h"
#include "agent/helper/worker.h"
#include "agent/helper/worker_accept.h"
#include "agent/link/metrics.h"
#include "agent/model/workload.h"

enum { LOCAL_TRIES = 2, LOCAL_POLL_MS = 10 };

struct local_upstream {
	struct downstream *d;
	struct transport_connect *connecting;
	struct http_conn *conn;
	bool closed;		      /* with its downstream connection, with which it is freed */
	struct shared_limits *limits; /* of what the application takes; NULL: none are set */
	bool placed;		      /* connection or attempt to get one: counted */
	struct addr_port to;	      /* where the connection leads */
	char name[24];		      /* of the limits */
	struct deadline poll;	      /* another worker may have given a place back */
	struct exchange_list waiters; /* by local_link */
};

static void local_connect(struct local_upstream *l);
static void serve_waiters(struct local_upstream *l);

/* --- what the application takes at once: Sidecar's inboundConnectionPool --- */

static const struct inbound_port *port_of(const struct local_upstream *l)
{
	return pod_inbound_port(l->d->pod, l->d->destination.port);
}

static bool has_limits(const struct inbound_port *p)
{
	return p && (p->max_connections || p->max_pending || p->max_requests);
}

/* NULL: there are none. */
static struct shared_limits *limits_of(struct local_upstream *l, const struct inbound_port *p)
{
	if (!l->limits && has_limits(p)) {
		snprintf(l->name, sizeof(l->name), "inbound|%u||", l->d->destination.port);
		l->limits = shared_limits_get(l->name, l->d->pod->cookie);
	}
	return l->limits;
}

static void place_give(struct local_upstream *l)
{
	if (l->placed)
		limit_give(l->limits, LIMIT_CONNECTIONS);
	l->placed = false;
}

static void on_poll(struct deadline *d)
{
	struct local_upstream *l = container_of(d, struct local_upstream, poll);
	if (l->conn)
		serve_waiters(l);
	else
		local_connect(l);
}

/* A place for one connection more. false: there is none now, and it is looked for again. */
static bool place_take(struct local_upstream *l)
{
	const struct inbound_port *p = port_of(l);
	struct shared_limits *limits = p && p->max_connections ? limits_of(l, p) : NULL;
	if (!limits || l->placed)
		return true;
	l->placed = limit_take(limits, LIMIT_CONNECTIONS, p->max_connections);
	if (!l->placed)
		deadline_set(&l->d->proxy->deadlines, &l->poll, LOCAL_POLL_MS, on_poll);
	return l->placed;
}

static void wait_begin(struct local_upstream *l, struct exchange_private *e)
{
	TAILQ_INSERT_TAIL(&l->waiters, e, local_link);
	e->local_waits = true;
	e->local_pending = l->limits && limit_take(l->limits, LIMIT_PENDING, 0);
}

static void wait_end(struct local_upstream *l, struct exchange_private *e)
{
	TAILQ_REMOVE(&l->waiters, e, local_link);
	e->local_waits = false;
	if (e->local_pending)
		limit_give(l->limits, LIMIT_PENDING);
	e->local_pending = false;
}

/* --- who waits --- */

static struct exchange_private *waiter_take(struct local_upstream *l)
{
	struct exchange_private *e = TAILQ_FIRST(&l->waiters);
	if (!e)
		return NULL;
	wait_end(l, e);
	return e;
}

static void fail_waiters(struct local_upstream *l, enum upstream_failure why)
{
	struct exchange_private *e;
	while ((e = waiter_take(l)))
		attempt_no_stream(e, why, NULL);
}

static void give_stream(struct local_upstream *l, struct exchange_private *e)
{
	struct http_stream *s;
	http_conn_preserve_case(l->conn, preserves_case(e->x.pod, SIDE_SERVER));
	if (http_client_open(l->conn, &upstream_events, e, &s) < 0) {
		attempt_no_stream(e, UPSTREAM_CONNECT, NULL);
		return;
	}
	struct request_record *r = &e->x.record;
	e->upstream_local = l->conn->transport->local;
	r->upstream_local = &e->upstream_local;
	r->upstream = &l->to; /* which lives as long as the connection that the exchange came by */
	attempt_got_stream(e, s);
}

static void serve_waiters(struct local_upstream *l)
{
	while (l->conn && !TAILQ_EMPTY(&l->waiters) && http_conn_capacity(l->conn) && place_take(l))
		give_stream(l, waiter_take(l));
}

/* --- the connection --- */

static void on_capacity(struct http_conn *c, void *arg)
{
	struct local_upstream *l = arg;
	serve_waiters(l);
	/* Places are few: one without a request is given back. */
	if (l->conn && l->conn == c && l->placed && !http_conn_streams(c))
		http_conn_drain(c);
}

static void on_closed(struct http_conn *c, void *arg)
{
	struct local_upstream *l = arg;
	if (l->conn != c)
		return;
	l->conn = NULL;
	place_give(l);
	if (!TAILQ_EMPTY(&l->waiters))
		local_connect(l);
}

static const struct http_conn_events local_events = {
	.on_capacity = on_capacity,
	.on_closed = on_closed,
};

static void on_connect(struct transport *t, int error, void *arg)
{
	struct local_upstream *l = arg;
	l->connecting = NULL;
	if (!t) {
		place_give(l);
		fail_waiters(l, error == -ETIMEDOUT ? UPSTREAM_CONNECT_TIMEOUT : UPSTREAM_CONNECT);
		return;
	}
	struct loop *loop = l->d->proxy->loop;
	bool h2 = l->d->conn && l->d->conn->protocol == HTTP_PROTO_2;
	const struct inbound_port *p = port_of(l);
	struct http_limits limits = http_limits_default;
	if (p && p->idle_ms)
		limits.idle_timeout_ms = p->idle_ms;
	if (p && p->max_requests_per_connection)
		limits.max_requests = p->max_requests_per_connection;
	int rc = h2 ? http2_client_new(loop, t, &limits, &local_events, l, &l->conn) :
		      http1_client_new(loop, t, &limits, &local_events, l, &l->conn);
	if (rc < 0) {
		place_give(l);
		fail_waiters(l, UPSTREAM_CONNECT);
		return;
	}
	serve_waiters(l);
	if (l->conn && l->placed && !http_conn_streams(l->conn))
		http_conn_drain(l->conn); /* who wanted it has gone */
}

static void local_connect(struct local_upstream *l)
{
	if (l->connecting || l->closed || l->conn)
		return;
	if (TAILQ_EMPTY(&l->waiters) || !place_take(l))
		return;
	struct exchange_private *e, *next;
	for (e = TAILQ_FIRST(&l->waiters); e; e = next) {
		next = TAILQ_NEXT(e, local_link);
		if (e->local_tries++ < LOCAL_TRIES)
			continue;
		wait_end(l, e);
		attempt_no_stream(e, UPSTREAM_CONNECT, NULL);
	}
	if (TAILQ_EMPTY(&l->waiters)) {
		place_give(l);
		return;
	}
	struct downstream *d = l->d;
	l->to = pod_inbound_target(d->pod, &d->destination);
	l->connecting = transport_connect_local(d->proxy->w, d->pod, &d->source, &d->destination, on_connect, l);
	if (!l->connecting) {
		place_give(l);
		fail_waiters(l, UPSTREAM_CONNECT);
	}
}

/* --- for exchanges --- */

static void request_give(struct exchange_private *e)
{
	if (e->local_counted)
		limit_give(e->conn->local->limits, LIMIT_REQUESTS);
	e->local_counted = false;
}

/* false: the application has as many requests as it takes. */
static bool request_take(struct local_upstream *l, struct exchange_private *e)
{
	const struct inbound_port *p = port_of(l);
	if (!has_limits(p))
		return true;
	struct shared_limits *limits = limits_of(l, p);
	if (limits && !e->local_counted)
		e->local_counted = limit_take(limits, LIMIT_REQUESTS, p->max_requests);
	return e->local_counted; /* without memory nothing can be counted: refused */
}

static bool may_wait(const struct local_upstream *l)
{
	const struct inbound_port *p = port_of(l);
	return !l->limits || !p || !p->max_pending ||
	       __atomic_load_n(&l->limits->n[LIMIT_PENDING], __ATOMIC_RELAXED) < p->max_pending;
}

static void overflow(struct exchange_private *e)
{
	worker_metrics(e->x.w)->upstream_overflows++;
	attempt_no_stream(e, UPSTREAM_OVERFLOW, NULL);
}

static struct local_upstream *local_of(struct downstream *d)
{
	if (!d->local && (d->local = calloc(1, sizeof(*d->local)))) {
		d->local->d = d;
		TAILQ_INIT(&d->local->waiters);
	}
	return d->local;
}

void local_open(struct exchange_private *e)
{
	struct local_upstream *l = local_of(e->conn);
	if (!l) {
		attempt_no_stream(e, UPSTREAM_CONNECT, NULL);
		return;
	}
	if (!request_take(l, e)) {
		overflow(e);
		return;
	}
	struct addr_port to = pod_inbound_target(l->d->pod, &l->d->destination);
	if (l->conn && !addr_port_eq(&to, &l->to))
		http_conn_drain(l->conn); /* the Sidecar says otherwise now */
	if (l->conn && TAILQ_EMPTY(&l->waiters) && http_conn_capacity(l->conn) && place_take(l)) {
		give_stream(l, e);
		return;
	}
	if (!may_wait(l)) {
		request_give(e);
		overflow(e);
		return;
	}
	wait_begin(l, e);
	/* Without streams and without room for any: it is on its end. */
	if (l->conn && !http_conn_streams(l->conn) && !http_conn_capacity(l->conn)) {
		struct http_conn *c = TAKE(l->conn);
		place_give(l);
		http_conn_close(c);
	}
	if (!l->conn)
		local_connect(l);
}

void local_cancel(struct exchange_private *e)
{
	request_give(e);
	if (e->local_waits)
		wait_end(e->conn->local, e);
}

void local_close(struct local_upstream *l)
{
	if (!l)
		return;
	l->closed = true;
	deadline_clear(&l->d->proxy->deadlines, &l->poll);
	transport_connect_cancel(TAKE(l->connecting));
	struct http_conn *c = TAKE(l->conn);
	if (c)
		http_conn_close(c);
	place_give(l);
	fail_waiters(l, UPSTREAM_CONNECT);
}

/* Its exchanges have ended. */
void local_free(struct local_upstream *l)
{
	if (l && l->limits)
		shared_limits_put(l->name, l->d->pod->cookie, l->limits);
	free(l);
}
