/* SPDX-License-Identifier: Apache-2.0 */
/* A worker's HTTP proxy: the downstream connections of its pods, each with a server codec whose streams become exchanges.
 * What is over is unlinked at once and freed at the end of the tick. */
#include "agent/helper/route/side_call.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/helper/worker.h"
#include "agent/model/identity.h"

/* --- chance --- */

/* splitmix64: for weights, shares and jitter, not for secrets. */
uint64_t proxy_random(struct http_proxy *p)
{
	uint64_t z = (p->random += 0x9e3779b97f4a7c15u);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

bool proxy_chance(struct http_proxy *p, struct http_fraction share)
{
	if (share.ppm >= 1000000)
		return true;
	return share.ppm && proxy_random(p) % 1000000 < share.ppm;
}

/* --- the end of the tick --- */

static void downstream_free(struct downstream *d)
{
	assert(d->magic == DOWNSTREAM_MAGIC && !d->conn && !d->exchanges);
	http_vhost_unref(d->vhost);
	identity_unref(d->peer);
	local_free(d->local);
	worker_pod_unref(d->proxy->w, d->pod);
	d->magic = 0;
	free(d);
}

static void reap(struct http_proxy *p)
{
	struct exchange_private *e;
	while ((e = TAILQ_FIRST(&p->dead))) {
		TAILQ_REMOVE(&p->dead, e, link);
		exchange_reap(p, e);
	}
	side_call_reap(p);
	struct downstream *d;
	while ((d = TAILQ_FIRST(&p->dead_conns))) {
		TAILQ_REMOVE(&p->dead_conns, d, link);
		downstream_free(d);
	}
}

static void on_reap(void *arg)
{
	struct http_proxy *p = arg;
	p->reaping = false;
	if (p->freed) {
		free(p);
		return;
	}
	reap(p);
}

void proxy_reap_later(struct http_proxy *p)
{
	if (p->reaping)
		return;
	p->reaping = true;
	loop_defer(p->loop, on_reap, p);
}

/* --- downstream connections --- */

static void downstream_bury(struct downstream *d)
{
	if (!d->dead || d->exchanges)
		return;
	TAILQ_INSERT_TAIL(&d->proxy->dead_conns, d, link);
	proxy_reap_later(d->proxy);
}

void downstream_release(struct downstream *d)
{
	assert(d->magic == DOWNSTREAM_MAGIC && d->exchanges);
	d->exchanges--;
	downstream_bury(d);
}

static void on_stream(struct http_conn *c, struct http_stream *s, void *arg)
{
	struct downstream *d = arg;
	(void)c;
	struct exchange_private *e = exchange_new(d, s);
	s->events = e ? &downstream_events : &downstream_ignored;
	s->user = e;
}

static void count_bad(struct link_shard *m, enum http_bad why)
{
	uint64_t *const counters[HTTP_BAD_COUNT] = {
		[HTTP_BAD_REQUEST_LINE] = &m->http_bad_request_line,
		[HTTP_BAD_FIELD] = &m->http_bad_field,
		[HTTP_BAD_FRAMING] = &m->http_bad_framing,
		[HTTP_BAD_CHUNK] = &m->http_bad_chunk,
		[HTTP_BAD_HOST] = &m->http_bad_host,
		[HTTP_BAD_TOO_LARGE] = &m->http_too_large,
		[HTTP_BAD_TIMEOUT] = &m->http_timeout,
		[HTTP_BAD_H2_PROTOCOL] = &m->http2_protocol,
		[HTTP_BAD_H2_FLOOD] = &m->http2_flood,
		[HTTP_BAD_VERSION] = &m->http_bad_version,
	};
	if (counters[why])
		(*counters[why])++;
}

static void on_bad(struct http_conn *c, enum http_bad why, uint16_t status, void *arg)
{
	struct downstream *d = arg;
	(void)c;
	(void)status;
	count_bad(worker_metrics(d->proxy->w), why);
}

static void on_closed(struct http_conn *c, void *arg)
{
	struct downstream *d = arg;
	struct http_proxy *p = d->proxy;
	(void)c;
	d->conn = NULL;
	local_close(d->local);
	d->dead = true;
	TAILQ_REMOVE(&p->conns, d, link);
	p->conn_count--;
	worker_metrics(p->w)->http_connections--;
	worker_pod_leave(p->w, d->pod);
	downstream_bury(d);
}

static const struct http_conn_events conn_events = {
	.on_stream = on_stream,
	.on_bad = on_bad,
	.on_closed = on_closed,
};

static bool admit(struct http_proxy *p, struct worker_pod *pod, const struct transport *t, bool inbound)
{
	enum drop_reason reason = p->draining ? DROP_DRAINING : pod->removed ? DROP_NOT_READY : DROP_NONE;
	if (reason == DROP_NONE && worker_pod_admit(p->w, pod))
		return true;
	struct worker_drop drop = { .pod = pod,
				    .reason = reason ? reason : DROP_CONNECTION_LIMIT,
				    .inbound = inbound,
				    .source = t->remote,
				    .destination = t->local };
	worker_drop(p->w, &drop);
	return false;
}

static struct downstream *downstream_new(struct http_proxy *p, struct worker_pod *pod, struct transport *t,
					 enum exchange_side side)
{
	struct downstream *d = calloc(1, sizeof(*d));
	if (!d)
		return NULL;
	d->magic = DOWNSTREAM_MAGIC;
	d->proxy = p;
	d->pod = worker_pod_ref(pod);
	d->side = side;
	d->source = t->remote;
	d->destination = d->original = t->local;
	d->tls = t->tls;
	if (t->peer)
		d->peer = identity_ref((struct identity *)t->peer);
	d->from_node = t->from_node;
	return d;
}

bool preserves_case(const struct worker_pod *pod, enum exchange_side side)
{
	const struct http_filters *filters = side == SIDE_CLIENT ? pod->outbound : pod->inbound;
	return filters && filters->proxy.preserve_case;
}

/* Takes the transport. */
static void downstream_start(struct http_proxy *p, struct worker_pod *pod, struct transport *t,
			     enum http_protocol protocol, enum exchange_side side, const struct addr_port *original,
			     struct http_vhost *vhost)
{
	if (!admit(p, pod, t, side == SIDE_SERVER)) {
		transport_close(t, true);
		return;
	}
	struct downstream *d = downstream_new(p, pod, t, side);
	if (!d) {
		worker_pod_leave(p->w, pod);
		transport_close(t, true);
		return;
	}
	if (original)
		d->destination = d->original = *original;
	if (vhost)
		d->vhost = http_vhost_ref(vhost);
	TAILQ_INSERT_TAIL(&p->conns, d, link);
	p->conn_count++;
	worker_metrics(p->w)->http_connections++;
	struct http_limits limits = http_limits_default;
	limits.preserve_case = preserves_case(pod, side);
	int rc = protocol == HTTP_PROTO_2 ? http2_server_new(p->loop, t, &limits, &conn_events, d, &d->conn) :
					    http1_server_new(p->loop, t, &limits, &conn_events, d, &d->conn);
	if (rc < 0)
		on_closed(NULL, d);
}

void http_proxy_outbound(struct http_proxy *p, struct worker_pod *pod, struct transport *t, enum http_protocol protocol,
			 const struct addr_port *original, struct http_vhost *vhost)
{
	downstream_start(p, pod, t, protocol, SIDE_CLIENT, original, vhost);
}

void http_proxy_inbound(struct http_proxy *p, struct worker_pod *pod, struct transport *t, enum http_protocol protocol)
{
	downstream_start(p, pod, t, protocol, SIDE_SERVER, NULL, NULL);
}

static void close_conns(struct http_proxy *p, const struct worker_pod *pod)
{
	struct downstream *d, *next;
	for (d = TAILQ_FIRST(&p->conns); d; d = next) {
		next = TAILQ_NEXT(d, link);
		if (d->conn && (!pod || d->pod == pod))
			http_conn_close(d->conn);
	}
}

/* --- for the worker --- */

int http_proxy_new(struct worker *w, struct http_proxy **out)
{
	struct http_proxy *p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->w = w;
	p->loop = worker_loop(w);
	p->half_idle_ms = HALF_IDLE_MS;
	TAILQ_INIT(&p->conns);
	TAILQ_INIT(&p->calls);
	TAILQ_INIT(&p->dead_calls);
	TAILQ_INIT(&p->dead);
	TAILQ_INIT(&p->idle);
	TAILQ_INIT(&p->tunnels);
	TAILQ_INIT(&p->dead_conns);
	if (getrandom(&p->random, sizeof(p->random), GRND_NONBLOCK) < 0)
		p->random = clock_now_ns();
	int rc = deadlines_init(&p->deadlines, p->loop);
	if (!rc)
		rc = upstreams_new(w, &p->upstreams);
	if (rc < 0) {
		http_proxy_free(p);
		return rc;
	}
	*out = p;
	return 0;
}

void http_proxy_free(struct http_proxy *p)
{
	if (!p)
		return;
	close_conns(p, NULL);
	side_calls_end(p, NULL);
	reap(p);
	upstreams_free(TAKE(p->upstreams));
	reap(p); /* what its connections' ends left */
	deadlines_done(&p->deadlines);
	struct exchange_private *e;
	while ((e = TAILQ_FIRST(&p->idle))) {
		TAILQ_REMOVE(&p->idle, e, link);
		free(e);
	}
	p->freed = true;
	if (!p->reaping)
		free(p);
}

struct upstreams *http_proxy_upstreams(struct http_proxy *p)
{
	return p->upstreams;
}

/* What was agreed to under other rules may last for ever. */
static void judge_tunnels(struct http_proxy *p, const struct worker_pod *pod)
{
	struct exchange_private *e, *next;
	for (e = TAILQ_FIRST(&p->tunnels); e; e = next) {
		next = TAILQ_NEXT(e, link);
		if (e->x.pod != pod || e->x.policy == pod->policy || authorize_holds(&e->x))
			continue;
		worker_metrics(p->w)->policy_cuts++;
		exchange_abort(e, 0, "rbac_access_denied_matched_policy", HTTP_RESET_CANCEL);
	}
}

void http_proxy_pod_changed(struct http_proxy *p, struct worker_pod *pod)
{
	judge_tunnels(p, pod);
	/* Each request takes what is in force when it begins; but connections to the pod may go around it. */
	upstreams_pod_changed(p->upstreams, pod);
	struct downstream *d;
	TAILQ_FOREACH(d, &p->conns, link)
	{
		if (d->pod == pod && d->conn)
			http_conn_preserve_case(d->conn, preserves_case(pod, d->side));
	}
}

void http_proxy_pod_removed(struct http_proxy *p, struct worker_pod *pod)
{
	close_conns(p, pod);
	side_calls_end(p, pod);
	upstreams_pod_removed(p->upstreams, pod);
}

void http_proxy_drain(struct http_proxy *p)
{
	p->draining = true;
	struct downstream *d, *next;
	for (d = TAILQ_FIRST(&p->conns); d; d = next) {
		next = TAILQ_NEXT(d, link);
		if (d->conn)
			http_conn_drain(d->conn);
	}
	upstreams_drain(p->upstreams);
}

size_t http_proxy_live(const struct http_proxy *p)
{
	return p->live;
}

static void dump_conn(const struct downstream *d, struct sb *out)
{
	char source[ADDR_PORT_TEXT_MAX], destination[ADDR_PORT_TEXT_MAX];
	sb_addf(out, "{\"pod\":\"%s/%s\",\"side\":\"%s\",\"protocol\":\"%s\",\"source\":\"%s\",\"destination\":\"%s\",",
		d->pod->ns ? d->pod->ns : "", d->pod->name ? d->pod->name : "",
		d->side == SIDE_CLIENT ? "client" : "server",
		d->conn && d->conn->protocol == HTTP_PROTO_2 ? "http2" : "http1", addr_port_text(&d->source, source),
		addr_port_text(&d->destination, destination));
	sb_addf(out, "\"peer\":\"%s\",\"requests\":%llu,\"active\":%zu}", d->peer ? d->peer->uri : "",
		d->conn ? (unsigned long long)d->conn->requests : 0ull, d->exchanges);
}

void http_proxy_dump(struct http_proxy *p, const char *what, struct sb *out)
{
	sb_add(out, "[");
	const struct downstream *d;
	bool first = true;
	if (str_eq(what, "http-connections")) {
		TAILQ_FOREACH(d, &p->conns, link)
		{
			sb_add(out, first ? "" : ",");
			dump_conn(d, out);
			first = false;
		}
	}
	sb_add(out, "]");
}
