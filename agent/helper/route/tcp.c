/* SPDX-License-Identifier: Apache-2.0 */
/* A relay: the accepted socket waits, unread, until the other side stands; then each side's bytes are written to the
 * other from where they were read, what is not taken stops its reading, and each end is passed on by itself. */
#include "agent/helper/route/tcp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/table.h"
#include "agent/helper/balance/upstream.h"
#include "agent/helper/route/exchange.h"
#include "agent/helper/route/tcp_route.h"
#include "agent/helper/transport_internal.h"
#include "agent/helper/worker.h"
#include "agent/model/cluster.h"
#include "agent/model/identity.h"
#include "agent/model/l7.h"
#include "agent/model/policy.h"

enum { RELAY_MAGIC = 0x79616c72, IDLE_DEFAULT_MS = 3600000, TICK_MS = 1000 };

struct relay_side {
	struct transport *t;
	struct tcp_relay *relay;
	struct relay_side *other;
	uint64_t bytes; /* that came from it */
	bool ended;	/* it sends no more */
};

/* Connections to a cluster: connectionPool.tcp.maxConnections. */
struct cluster_load {
	uint32_t count;
	char name[];
};

struct tcp_relay {
	uint32_t magic;
	struct tcp_proxy *p;
	struct worker_pod *pod; /* a reference; the place in its limit is fd's, then near.t's */
	int fd;			/* accepted, until there is the other side */
	bool inbound, over;
	bool counted;		     /* as carried: what goes on as a tunnel's stream counts there */
	struct relay_side near, far; /* near: accepted */
	struct upstream_wait *pick;
	struct transport_connect *connect;
	struct http_cluster *cluster;
	struct cluster_load *load; /* counted in; NULL: there is no limit */
	struct identity *caller;
	struct addr_port peer, local; /* of the accepted one, as the application's peer sees them */
	struct addr_port endpoint;
	char *name;
	char *sni;			     /* inbound: as policy_input's */
	uint64_t began_ms, active_ms, bytes; /* active: when it was last seen that `bytes` had grown */
	uint32_t idle_ms, max_ms;
	TAILQ_ENTRY(tcp_relay) all;
};

struct tcp_proxy {
	struct worker *w;
	struct loop *loop;
	struct loop_timer *tick;
	uint64_t random;
	struct table *loads; /* name of a cluster -> struct cluster_load: those with a limit */
	TAILQ_HEAD(, tcp_relay) relays;
	size_t count;
};

static uint64_t now_ms(const struct tcp_proxy *p)
{
	return loop_now_ns(p->loop) / 1000000;
}

static uint32_t next_random(struct tcp_proxy *p)
{
	p->random = p->random * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(p->random >> 32);
}

/* --- life of a relay --- */

static void on_reap(void *arg)
{
	struct tcp_relay *r = arg;
	r->magic = 0;
	free(r);
}

static void side_close(struct relay_side *side, bool abort_it)
{
	if (side->t)
		transport_close(TAKE(side->t), abort_it);
}

/* --- limits of clusters --- */

/* False: it has as many as it may. The limit is the destination's; each worker has its share. */
static bool load_take(struct tcp_relay *r, const struct http_cluster *cluster)
{
	struct tcp_proxy *p = r->p;
	uint32_t threads = worker_settings(p->w)->threads ? worker_settings(p->w)->threads : 1;
	uint32_t max = (cluster->tcp.max_connections + threads - 1) / threads;
	if (!max || !cluster->name)
		return true;
	struct cluster_load *load = table_get_str(p->loads, cluster->name);
	if (!load) {
		size_t len = strlen(cluster->name) + 1;
		load = calloc(1, sizeof(*load) + len);
		if (!load || table_set_str(p->loads, cluster->name, load) < 0) {
			free(load);
			return false;
		}
		memcpy(load->name, cluster->name, len);
	}
	if (load->count >= max)
		return false;
	load->count++;
	r->load = load;
	return true;
}

static void load_leave(struct tcp_relay *r)
{
	struct cluster_load *load = TAKE(r->load);
	if (!load || --load->count > 0)
		return;
	table_remove(r->p->loads, load->name, strlen(load->name));
	free(load);
}

/* --- its end --- */

/* Ends it: in order, when both sides have ended, or with resets. */
static void relay_over(struct tcp_relay *r, bool abort_it)
{
	struct tcp_proxy *p = r->p;
	if (r->over)
		return;
	r->over = true;
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
	http_cluster_unref(TAKE(r->cluster));
	identity_unref(TAKE(r->caller));
	free(TAKE(r->name));
	free(TAKE(r->sni));
	loop_defer(p->loop, on_reap, r);
}

static void relay_refuse(struct tcp_relay *r, enum drop_reason reason, const char *rule)
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
	worker_drop(r->p->w, &drop);
	relay_over(r, true);
}

static struct tcp_relay *relay_new(struct tcp_proxy *p, struct worker_pod *pod, int fd, bool inbound)
{
	struct tcp_relay *r = calloc(1, sizeof(*r));
	if (!r) {
		close(fd);
		worker_pod_leave(p->w, pod);
		return NULL;
	}
	r->magic = RELAY_MAGIC;
	r->p = p;
	r->pod = worker_pod_ref(pod);
	r->fd = fd;
	r->inbound = inbound;
	r->near = (struct relay_side){ .relay = r, .other = &r->far };
	r->far = (struct relay_side){ .relay = r, .other = &r->near };
	r->began_ms = r->active_ms = now_ms(p);
	r->idle_ms = IDLE_DEFAULT_MS;
	TAILQ_INSERT_TAIL(&p->relays, r, all);
	if (p->count++ == 0)
		loop_timer_start(p->tick, TICK_MS, TICK_MS);
	return r;
}

static void relay_count(struct tcp_relay *r)
{
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
		relay_over(side->relay, false);
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
	relay_over(side->relay, true);
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
		relay_refuse(r, DROP_NO_MEMORY, NULL);
		return;
	}
	transport_socket_charge(r->near.t, r->pod);
	r->near.t->remote = r->peer;
	r->near.t->local = r->local;
	transport_on(r->near.t, &relay_events, &r->near);
	transport_on(far, &relay_events, &r->far);
	transport_socket_join(r->near.t, far, &r->near.bytes, &r->far.bytes);
	r->active_ms = now_ms(p);
}

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

static void on_connect(struct transport *t, int error, void *arg)
{
	struct tcp_relay *r = arg;
	r->connect = NULL;
	if (r->cluster)
		upstream_report(http_proxy_upstreams(worker_http(r->p->w)), r->cluster->name, &r->endpoint, t != NULL);
	if (t)
		relay_begin(r, t);
	else
		relay_refuse(r, reason_of(error), NULL);
}

/* --- outbound --- */

static void relay_connect(struct tcp_relay *r, const struct http_cluster *cluster,
			  const struct cluster_endpoint *endpoint)
{
	struct tcp_proxy *p = r->p;
	bool originates = cluster->tls == CLUSTER_TLS_SIMPLE || cluster->tls == CLUSTER_TLS_MUTUAL;
	if (endpoint->tunnel == ENDPOINT_HBONE && !originates && !cluster->proxy_host) {
		/* The tunnel reads and writes the socket itself, which spares a copy. It asks for a place of its own. */
		struct worker_pod *pod = worker_pod_ref(r->pod);
		struct addr_port original = r->local, to = endpoint->addr;
		int fd = r->fd;
		r->fd = -1;
		worker_pod_leave(p->w, pod);
		relay_over(r, false);
		hbone_outbound(worker_hbone(p->w), pod, fd, &to, &original);
		worker_pod_unref(p->w, pod);
		return;
	}
	if (!load_take(r, cluster)) {
		relay_refuse(r, DROP_CONNECTION_LIMIT, NULL);
		return;
	}
	relay_count(r);
	r->cluster = http_cluster_ref((struct http_cluster *)(uintptr_t)cluster);
	r->idle_ms = cluster->tcp.idle_timeout_ms ? cluster->tcp.idle_timeout_ms : IDLE_DEFAULT_MS;
	r->max_ms = cluster->tcp.max_connection_duration_ms;
	r->connect = transport_connect(p->w, r->pod, cluster, endpoint, NULL, r->name, on_connect, r);
}

static void on_pick(const struct http_cluster *cluster, const struct cluster_endpoint *endpoint,
		    enum upstream_failure why, void *arg)
{
	struct tcp_relay *r = arg;
	r->pick = NULL;
	if (why != UPSTREAM_OK || !endpoint) {
		relay_refuse(r,
			     why == UPSTREAM_NO_CLUSTER ? DROP_UNKNOWN_DESTINATION :
			     why == UPSTREAM_OVERFLOW	? DROP_CONNECTION_LIMIT :
							  DROP_NO_ENDPOINT,
			     NULL);
		return;
	}
	r->endpoint = endpoint->addr;
	relay_connect(r, cluster, endpoint);
}

void tcp_proxy_outbound(struct tcp_proxy *p, struct worker_pod *pod, int fd, const struct addr_port *original,
			const struct l7_target *target, const char *name)
{
	struct tcp_relay *r = relay_new(p, pod, fd, false);
	if (!r)
		return;
	r->local = *original;
	if (pod->addr_count)
		r->peer.addr = pod->addrs[0];
	const char *cluster = tcp_route_pick(target, original, name, next_random(p));
	if (!cluster) {
		relay_refuse(r, target->registry_only ? DROP_NOT_IN_REGISTRY : DROP_UNKNOWN_DESTINATION, NULL);
		return;
	}
	if (*name && !(r->name = strdup(name))) {
		relay_refuse(r, DROP_NO_MEMORY, NULL);
		return;
	}
	struct upstream_query q = {
		.pod = pod, .cluster = cluster, .host = r->name, .original = *original, .source = r->peer
	};
	struct upstream_wait *wait = upstream_pick(http_proxy_upstreams(worker_http(p->w)), &q, on_pick, r);
	if (wait)
		r->pick = wait;
}

/* --- inbound --- */

static void judge_one(const struct worker_pod *pod, const struct policy_input *in, struct policy_verdict *verdict)
{
	*verdict = (struct policy_verdict){ .reason = DROP_NOT_READY };
	if (pod->policy)
		policy_eval(pod->policy, in, verdict);
}

static void judge(const struct tcp_relay *r, struct policy_verdict *verdict)
{
	const struct policy_input in = {
		.peer = r->caller,
		.source = r->peer.addr,
		.destination = r->local.addr,
		.port = r->local.port,
		.sni = r->sni,
		.proto = IPPROTO_TCP,
	};
	judge_one(r->pod, &in, verdict);
}

bool tcp_proxy_admits(const struct worker_pod *pod, const struct addr_port *peer, const struct addr_port *local,
		      const struct identity *caller, const char *sni)
{
	const struct policy_input in = {
		.peer = caller,
		.source = peer->addr,
		.destination = local->addr,
		.port = local->port,
		.sni = sni,
		.proto = IPPROTO_TCP,
	};
	struct policy_verdict verdict;
	judge_one(pod, &in, &verdict);
	return verdict.reason == DROP_NONE;
}

void tcp_proxy_inbound(struct tcp_proxy *p, struct worker_pod *pod, int fd, const struct addr_port *peer,
		       const struct addr_port *local, struct identity *caller, const char *sni)
{
	struct tcp_relay *r = relay_new(p, pod, fd, true);
	struct policy_verdict verdict;
	if (!r)
		return;
	r->peer = *peer;
	r->local = *local;
	r->caller = caller ? identity_ref(caller) : NULL;
	r->sni = sni ? strdup(sni) : NULL; /* without memory it is not known: nothing more is let in */
	judge(r, &verdict);
	if (verdict.reason != DROP_NONE) {
		relay_refuse(r, verdict.reason, verdict.rule ? verdict.rule->name : NULL);
		return;
	}
	relay_count(r);
	r->connect = transport_connect_local(p->w, pod, peer, local, on_connect, r);
}

void tcp_proxy_policy_changed(struct tcp_proxy *p, struct worker_pod *pod)
{
	struct tcp_relay *r, *next;
	for (r = TAILQ_FIRST(&p->relays); r; r = next) {
		struct policy_verdict verdict;
		next = TAILQ_NEXT(r, all);
		if (r->pod != pod || !r->inbound)
			continue;
		judge(r, &verdict);
		if (verdict.reason == DROP_NONE)
			continue;
		worker_metrics(p->w)->policy_cuts++;
		relay_refuse(r, verdict.reason, verdict.rule ? verdict.rule->name : NULL);
	}
}

void tcp_proxy_pod_removed(struct tcp_proxy *p, struct worker_pod *pod)
{
	struct tcp_relay *r, *next;
	for (r = TAILQ_FIRST(&p->relays); r; r = next) {
		next = TAILQ_NEXT(r, all);
		if (r->pod == pod)
			relay_over(r, true);
	}
}

/* --- the proxy --- */

static void on_tick(struct loop_timer *timer, void *arg)
{
	struct tcp_proxy *p = arg;
	struct tcp_relay *r, *next;
	uint64_t now = now_ms(p);
	(void)timer;
	for (r = TAILQ_FIRST(&p->relays); r; r = next) {
		next = TAILQ_NEXT(r, all);
		uint64_t bytes = r->near.bytes + r->far.bytes;
		if (bytes != r->bytes)
			r->active_ms = now;
		r->bytes = bytes;
		if (now - r->active_ms >= r->idle_ms || (r->max_ms && now - r->began_ms >= r->max_ms))
			relay_over(r, true);
	}
}

int tcp_proxy_new(struct worker *w, struct tcp_proxy **out)
{
	struct tcp_proxy *p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->w = w;
	p->loop = worker_loop(w);
	TAILQ_INIT(&p->relays);
	/* Of which route a connection takes, nothing secret hangs. */
	if (getrandom(&p->random, sizeof(p->random), 0) != sizeof(p->random))
		p->random = clock_now_ns();
	p->loads = table_new(NULL);
	int rc = p->loads ? loop_timer_new(p->loop, on_tick, p, &p->tick) : -ENOMEM;
	if (rc < 0) {
		table_free(p->loads);
		free(p);
		return rc;
	}
	*out = p;
	return 0;
}

void tcp_proxy_free(struct tcp_proxy *p)
{
	struct tcp_relay *r;
	if (!p)
		return;
	while ((r = TAILQ_FIRST(&p->relays)))
		relay_over(r, true);
	loop_timer_free(p->tick);
	table_free(p->loads);
	free(p);
}

size_t tcp_proxy_live(const struct tcp_proxy *p)
{
	return p->count;
}

void tcp_proxy_dump(struct tcp_proxy *p, struct sb *out)
{
	const struct tcp_relay *r;
	const char *comma = "";
	TAILQ_FOREACH(r, &p->relays, all)
	{
		char to[ADDR_PORT_TEXT_MAX], at[ADDR_PORT_TEXT_MAX] = "";
		if (r->endpoint.port)
			addr_port_text(&r->endpoint, at);
		sb_addf(out,
			"%s{\"pod\":\"%s\",\"direction\":\"%s\",\"state\":\"%s\",\"destination\":\"%s\","
			"\"endpoint\":\"%s\",\"peer\":\"%s\",\"sent_bytes\":%llu,\"received_bytes\":%llu,"
			"\"buffered_bytes\":%zu,\"age_s\":%llu}",
			comma, r->pod->uid ? r->pod->uid : "", r->inbound ? "inbound" : "outbound",
			r->far.t ? "open" : "connecting", addr_port_text(&r->local, to), at,
			r->caller ? r->caller->uri : "", (unsigned long long)r->near.bytes,
			(unsigned long long)r->far.bytes,
			r->far.t ? transport_queued(r->near.t) + transport_queued(r->far.t) : 0,
			(unsigned long long)((now_ms(p) - r->began_ms) / 1000));
		comma = ",";
	}
}
