/* SPDX-License-Identifier: Apache-2.0 */
/* The server side's way to the pod's own application: one connection for each downstream connection, of the same protocol
 * and from the same peer's address, so that the application sees who calls. Made when the first request comes, made again
 * when the application has closed it. */
#include "agent/helper/route/internal.h"

#include <errno.h>
#include <stdlib.h>

#include "agent/base/mem.h"
#include "agent/helper/worker.h"

enum { LOCAL_TRIES = 2 };

struct local_upstream {
	struct downstream *d;
	struct transport_connect *connecting;
	struct http_conn *conn;
	bool closed;		      /* with its downstream connection, with which it is freed */
	struct exchange_list waiters; /* by local_link */
};

static void local_connect(struct local_upstream *l);

static struct exchange_private *waiter_take(struct local_upstream *l)
{
	struct exchange_private *e = TAILQ_FIRST(&l->waiters);
	if (!e)
		return NULL;
	TAILQ_REMOVE(&l->waiters, e, local_link);
	e->local_waits = false;
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
	attempt_got_stream(e, s);
}

static void serve_waiters(struct local_upstream *l)
{
	while (l->conn && !TAILQ_EMPTY(&l->waiters) && http_conn_capacity(l->conn))
		give_stream(l, waiter_take(l));
}

/* --- the connection --- */

static void on_capacity(struct http_conn *c, void *arg)
{
	(void)c;
	serve_waiters(arg);
}

static void on_closed(struct http_conn *c, void *arg)
{
	struct local_upstream *l = arg;
	if (l->conn != c)
		return;
	l->conn = NULL;
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
		fail_waiters(l, error == -ETIMEDOUT ? UPSTREAM_CONNECT_TIMEOUT : UPSTREAM_CONNECT);
		return;
	}
	struct loop *loop = l->d->proxy->loop;
	bool h2 = l->d->conn && l->d->conn->protocol == HTTP_PROTO_2;
	int rc = h2 ? http2_client_new(loop, t, &http_limits_default, &local_events, l, &l->conn) :
		      http1_client_new(loop, t, &http_limits_default, &local_events, l, &l->conn);
	if (rc < 0)
		fail_waiters(l, UPSTREAM_CONNECT);
	else
		serve_waiters(l);
}

static void local_connect(struct local_upstream *l)
{
	if (l->connecting || l->closed)
		return;
	struct exchange_private *e, *next;
	for (e = TAILQ_FIRST(&l->waiters); e; e = next) {
		next = TAILQ_NEXT(e, local_link);
		if (e->local_tries++ < LOCAL_TRIES)
			continue;
		TAILQ_REMOVE(&l->waiters, e, local_link);
		e->local_waits = false;
		attempt_no_stream(e, UPSTREAM_CONNECT, NULL);
	}
	if (TAILQ_EMPTY(&l->waiters))
		return;
	struct downstream *d = l->d;
	l->connecting = transport_connect_local(d->proxy->w, d->pod, &d->source, &d->destination, on_connect, l);
	if (!l->connecting)
		fail_waiters(l, UPSTREAM_CONNECT);
}

/* --- for exchanges --- */

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
	if (l->conn && TAILQ_EMPTY(&l->waiters) && http_conn_capacity(l->conn)) {
		give_stream(l, e);
		return;
	}
	TAILQ_INSERT_TAIL(&l->waiters, e, local_link);
	e->local_waits = true;
	/* Without streams and without room for any: it is on its end. */
	if (l->conn && !http_conn_streams(l->conn)) {
		struct http_conn *c = TAKE(l->conn);
		http_conn_close(c);
	}
	if (!l->conn)
		local_connect(l);
}

void local_cancel(struct exchange_private *e)
{
	if (!e->local_waits)
		return;
	TAILQ_REMOVE(&e->conn->local->waiters, e, local_link);
	e->local_waits = false;
}

void local_close(struct local_upstream *l)
{
	if (!l)
		return;
	l->closed = true;
	transport_connect_cancel(TAKE(l->connecting));
	struct http_conn *c = TAKE(l->conn);
	if (c)
		http_conn_close(c);
	fail_waiters(l, UPSTREAM_CONNECT);
}
