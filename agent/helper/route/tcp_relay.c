/* SPDX-License-Identifier: Apache-2.0 */
/* A relay: the accepted socket waits, unread, until the other side stands; then each side's bytes are written to the
 * other from where they were read, what is not taken stops its reading, and each end is passed on by itself. One that is
 * ahead has the other side first, and its socket when it is known that it needs it. */
#include "agent/helper/route/tcp_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/mem.h"
#include "agent/helper/balance/limits.h"
#include "agent/helper/balance/upstream.h"
#include "agent/helper/observe/connection_log.h"
#include "agent/helper/route/exchange.h"
#include "agent/helper/transport_internal.h"
#include "agent/helper/worker.h"
#include "agent/model/cluster.h"
#include "agent/model/identity.h"
#include "agent/model/l7.h"
#include "agent/model/telemetry.h"

/* --- life of a relay --- */

static void on_reap(void *arg)
{
	free(arg);
}

static void side_close(struct relay_side *side, bool abort_it)
{
	if (side->t)
		transport_close(TAKE(side->t), abort_it);
}

/* --- limits of clusters --- */

bool tcp_relay_load(struct tcp_relay *r, const struct http_cluster *cluster)
{
	uint32_t max = cluster->tcp.max_connections;
	if (!max || !cluster->name)
		return true;
	char *name = strdup(cluster->name);
	struct shared_limits *load = name ? shared_limits_get(name, r->pod->cookie) : NULL;
	if (!load || !limit_take(load, LIMIT_CONNECTIONS, max)) {
		if (load)
			shared_limits_put(name, r->pod->cookie, load);
		free(name);
		return false;
	}
	r->load = load;
	r->load_name = name;
	return true;
}

static void load_leave(struct tcp_relay *r)
{
	struct shared_limits *load = TAKE(r->load);
	if (!load)
		return;
	limit_give(load, LIMIT_CONNECTIONS);
	shared_limits_put(r->load_name, r->pod->cookie, load);
	free(TAKE(r->load_name));
}

/* --- its end --- */

static void write_log(struct tcp_relay *r)
{
	const struct addr_port *to = r->inbound && r->far.t ? &r->far.t->remote : &r->endpoint;
	const struct connection_end end = {
		.source = &r->peer,
		.destination = &r->local,
		.upstream = to->port ? to : NULL,
		.upstream_local = r->far.t ? &r->far.t->local : NULL,
		.cluster = r->cluster,
		.server_name = r->name ? r->name : r->sni,
		.peer = r->caller,
		.received_bytes = r->near.bytes,
		.sent_bytes = r->far.bytes,
	};
	connection_log_end(TAKE(r->log), &end);
}

void tcp_relay_over(struct tcp_relay *r, bool abort_it)
{
	struct tcp_proxy *p = r->p;
	tcp_ahead_fn ahead = TAKE(r->ahead);
	if (r->over)
		return;
	r->over = true;
	if (r->log)
		write_log(r);
	upstream_cancel(TAKE(r->pick));
	transport_connect_cancel(TAKE(r->connect));
	side_close(&r->near, abort_it);
	side_close(&r->far, abort_it);
	if (r->fd >= 0) {
		struct linger linger = { .l_onoff = 1, .l_linger = 0 };
		setsockopt(r->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
		close(r->fd);
		r->fd = -1;
		worker_pod_leave(p->w, r->pod);
	}
	load_leave(r);
	TAILQ_REMOVE(&p->relays, r, all);
	if (--p->count == 0)
		loop_timer_stop(p->tick);
	if (r->counted)
		*(r->inbound ? &worker_metrics(p->w)->inbound_closed : &worker_metrics(p->w)->outbound_closed) += 1;
	worker_pod_unref(p->w, TAKE(r->pod));
	l7_target_unref(TAKE(r->target));
	http_cluster_unref(TAKE(r->cluster));
	identity_unref(TAKE(r->caller));
	free(TAKE(r->name));
	free(TAKE(r->sni));
	loop_defer(p->loop, on_reap, r);
	if (ahead)
		ahead(false, r->ahead_arg);
}

void tcp_relay_refuse(struct tcp_relay *r, enum drop_reason reason, const char *rule)
{
	struct worker_drop drop = {
		.pod = r->pod,
		.reason = reason,
		.inbound = r->inbound,
		.source = r->peer,
		.destination = r->endpoint.port ? r->endpoint : r->local,
		.peer = r->caller ? r->caller->uri : NULL,
		.rule = rule,
	};
	if (!r->ahead)
		worker_drop(r->p->w, &drop);
	connection_log_refused(r->log, reason, rule, r->far.t ? NULL : transport_failure(r->p->w));
	tcp_relay_over(r, true);
}

struct tcp_relay *tcp_relay_new(struct tcp_proxy *p, struct worker_pod *pod, int fd, bool inbound)
{
	struct tcp_relay *r = calloc(1, sizeof(*r));
	if (!r && fd >= 0) {
		close(fd);
		worker_pod_leave(p->w, pod);
	}
	if (!r)
		return NULL;
	r->p = p;
	r->pod = worker_pod_ref(pod);
	r->fd = fd;
	r->inbound = inbound;
	r->near = (struct relay_side){ .relay = r, .other = &r->far };
	r->far = (struct relay_side){ .relay = r, .other = &r->near };
	r->began_ms = r->active_ms = tcp_now_ms(p);
	r->idle_ms = TCP_IDLE_MS;
	if (fd >= 0) /* else it is only tried */
		r->log = connection_log_new(p->w, pod, inbound ? REPORTER_SERVER : REPORTER_CLIENT);
	TAILQ_INSERT_TAIL(&p->relays, r, all);
	if (p->count++ == 0)
		loop_timer_start(p->tick, TCP_TICK_MS, TCP_TICK_MS);
	return r;
}

void tcp_relay_count(struct tcp_relay *r)
{
	if (r->counted || r->ahead)
		return;
	struct link_shard *m = worker_metrics(r->p->w);
	r->counted = true;
	*(r->inbound ? &m->inbound_opened : &m->outbound_opened) += 1;
}

/* --- bytes --- */

static size_t on_data(struct transport *t, const uint8_t *bytes, size_t len, void *arg)
{
	struct relay_side *side = arg;
	struct iovec iov = { (void *)(uintptr_t)bytes, len };
	(void)t;
	size_t took = transport_write(side->other->t, &iov, 1);
	side->bytes += took;
	return took;
}

static void on_end(struct transport *t, void *arg)
{
	struct relay_side *side = arg;
	(void)t;
	side->ended = true;
	transport_end(side->other->t);
	if (side->other->ended)
		tcp_relay_over(side->relay, false);
}

static void on_room(struct transport *t, void *arg)
{
	struct relay_side *side = arg;
	(void)t;
	transport_resume(side->other->t);
}

static void on_broken(struct transport *t, int error, void *arg)
{
	struct relay_side *side = arg;
	(void)t;
	(void)error;
	tcp_relay_over(side->relay, true);
}

static const struct transport_events relay_events = { on_data, on_end, on_room, on_broken };

/* The other side stands. */
static void relay_begin(struct tcp_relay *r, struct transport *far)
{
	struct tcp_proxy *p = r->p;
	int fd = r->fd;
	r->fd = -1;
	r->far.t = far;
	if (transport_socket_new(p->w, fd, NULL, 0, &r->near.t) < 0) {
		worker_pod_leave(p->w, r->pod);
		tcp_relay_refuse(r, DROP_NO_MEMORY, NULL);
		return;
	}
	transport_socket_charge(r->near.t, r->pod);
	r->near.t->remote = r->peer;
	r->near.t->local = r->local;
	transport_on(r->near.t, &relay_events, &r->near);
	transport_on(far, &relay_events, &r->far);
	transport_socket_join(r->near.t, far, &r->near.bytes, &r->far.bytes);
	r->active_ms = tcp_now_ms(p);
	if (r->far.ended)
		transport_end(r->near.t);
}

/* --- ahead of its socket --- */

static void on_spoke(void *arg)
{
	struct tcp_relay *r = arg;
	tcp_ahead_fn ahead = r->ahead;
	if (ahead)
		ahead(true, r->ahead_arg);
}

static void server_spoke(struct tcp_relay *r)
{
	if (!r->spoke)
		loop_defer(r->p->loop, on_spoke, r);
	r->spoke = true;
}

static size_t ahead_on_data(struct transport *t, const uint8_t *bytes, size_t len, void *arg)
{
	struct relay_side *side = arg;
	(void)t;
	(void)bytes;
	(void)len;
	server_spoke(side->relay);
	return 0; /* the transport keeps it */
}

static void ahead_on_end(struct transport *t, void *arg)
{
	struct relay_side *side = arg;
	(void)t;
	side->ended = true;
	server_spoke(side->relay);
}

static void ahead_on_room(struct transport *t, void *arg)
{
	(void)t;
	(void)arg;
}

static const struct transport_events ahead_events = { ahead_on_data, ahead_on_end, ahead_on_room, on_broken };

void tcp_ahead_take(struct tcp_relay *r, int fd, const char *sni)
{
	struct policy_verdict verdict;
	r->ahead = NULL;
	r->fd = fd;
	r->log = connection_log_new(r->p->w, r->pod, r->inbound ? REPORTER_SERVER : REPORTER_CLIENT);
	if (r->connect || r->far.t)
		tcp_relay_count(r);
	if (r->inbound) {
		r->sni = sni ? strdup(sni) : NULL;
		tcp_relay_judge(r, &verdict);
		if (verdict.reason != DROP_NONE) {
			tcp_relay_refuse(r, verdict.reason, verdict.rule ? verdict.rule->name : NULL);
			return;
		}
	}
	if (!r->far.t)
		return; /* as for any other */
	relay_begin(r, r->far.t);
	if (!r->over && r->spoke)
		transport_resume(r->far.t);
}

void tcp_ahead_cancel(struct tcp_relay *r)
{
	if (!r)
		return;
	r->ahead = NULL;
	tcp_relay_over(r, false);
}

/* --- the other side --- */

static enum drop_reason reason_of(int error)
{
	switch (error) {
	case -EKEYREVOKED:
		return DROP_TLS_REVOKED;
	case -EPERM:
	case -EKEYREJECTED:
		return DROP_TLS_UNTRUSTED;
	case -EPROTO:
		return DROP_TLS_HANDSHAKE;
	case -ENOMEM:
		return DROP_NO_MEMORY;
	default:
		return DROP_UPSTREAM_CONNECT;
	}
}

void tcp_relay_connected(struct transport *t, int error, void *arg)
{
	struct tcp_relay *r = arg;
	r->connect = NULL;
	if (r->cluster)
		upstream_report(http_proxy_upstreams(worker_http(r->p->w)), r->cluster->name, &r->endpoint, t != NULL);
	if (!t) {
		tcp_relay_refuse(r, reason_of(error), NULL);
	} else if (r->ahead) {
		r->far.t = t;
		transport_on(t, &ahead_events, &r->far);
	} else {
		relay_begin(r, t);
	}
}
