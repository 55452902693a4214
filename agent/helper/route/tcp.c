/* SPDX-License-Identifier: Apache-2.0 */
/* Where connections go that are not HTTP, and whether they may. */
#include "agent/helper/route/tcp_internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/helper/balance/upstream.h"
#include "agent/helper/observe/connection_log.h"
#include "agent/helper/route/exchange.h"
#include "agent/helper/route/tcp_route.h"
#include "agent/helper/worker.h"
#include "agent/model/cluster.h"
#include "agent/model/identity.h"
#include "agent/model/l7.h"

static uint32_t next_random(struct tcp_proxy *p)
{
	p->random = p->random * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(p->random >> 32);
}

/* --- outbound --- */

static void relay_connect(struct tcp_relay *r, const struct http_cluster *cluster,
			  const struct cluster_endpoint *endpoint)
{
	struct tcp_proxy *p = r->p;
	bool originates = cluster->tls == CLUSTER_TLS_SIMPLE || cluster->tls == CLUSTER_TLS_MUTUAL;
	if (!r->ahead && endpoint->tunnel == ENDPOINT_HBONE && !originates && !cluster->proxy_host) {
		/* The tunnel reads and writes the socket itself, which spares a copy. It asks for a place of its own. */
		struct worker_pod *pod = worker_pod_ref(r->pod);
		struct addr_port original = r->local, to = endpoint->addr;
		struct connection_log *log = TAKE(r->log);
		int fd = r->fd;
		r->fd = -1;
		connection_log_asked(log, &original, http_cluster_shown(cluster), r->name);
		worker_pod_leave(p->w, pod);
		tcp_relay_over(r, false);
		hbone_outbound(worker_hbone(p->w), pod, fd, &to, &original, log);
		worker_pod_unref(p->w, pod);
		return;
	}
	if (!tcp_relay_load(r, cluster)) {
		tcp_relay_refuse(r, DROP_CONNECTION_LIMIT, NULL);
		return;
	}
	tcp_relay_count(r);
	r->cluster = http_cluster_ref((struct http_cluster *)(uintptr_t)cluster);
	r->idle_ms = cluster->tcp.idle_timeout_ms ? cluster->tcp.idle_timeout_ms : TCP_IDLE_MS;
	r->max_ms = cluster->tcp.max_connection_duration_ms;
	r->connect = transport_connect(p->w, r->pod, cluster, endpoint, NULL, r->name, tcp_relay_connected, r);
}

static void on_pick(const struct http_cluster *cluster, const struct cluster_endpoint *endpoint,
		    enum upstream_failure why, void *arg)
{
	struct tcp_relay *r = arg;
	r->pick = NULL;
	if (why != UPSTREAM_OK || !endpoint) {
		tcp_relay_refuse(r,
				 why == UPSTREAM_NO_CLUSTER ? DROP_UNKNOWN_DESTINATION :
				 why == UPSTREAM_OVERFLOW   ? DROP_CONNECTION_LIMIT :
							      DROP_NO_ENDPOINT,
				 NULL);
		return;
	}
	r->endpoint = endpoint->addr;
	relay_connect(r, cluster, endpoint);
}

static const char *host_called(const struct l7_target *target)
{
	const char *slash = target->service ? strchr(target->service, '/') : NULL;
	return slash ? slash + 1 : NULL;
}

/* name: of the client's TLS; "": none. */
static void outbound_begin(struct tcp_relay *r, const struct addr_port *original, struct l7_target *target,
			   const char *name)
{
	struct tcp_proxy *p = r->p;
	r->target = l7_target_ref(target);
	r->local = *original;
	if (r->pod->addr_count)
		r->peer.addr = r->pod->addrs[0];
	const char *cluster = tcp_route_pick(target, original, name, next_random(p));
	connection_log_asked(r->log, original, cluster, name);
	if (!cluster) {
		tcp_relay_refuse(r, target->registry_only ? DROP_NOT_IN_REGISTRY : DROP_UNKNOWN_DESTINATION, NULL);
		return;
	}
	if (*name && !(r->name = strdup(name))) {
		tcp_relay_refuse(r, DROP_NO_MEMORY, NULL);
		return;
	}
	struct upstream_query q = {
		.pod = r->pod,
		.cluster = cluster,
		.host = r->name,
		.original = *original,
		.called = host_called(target),
		.source = r->peer,
	};
	struct upstream_wait *wait = upstream_pick(http_proxy_upstreams(worker_http(p->w)), &q, on_pick, r);
	if (wait)
		r->pick = wait;
}

void tcp_proxy_outbound(struct tcp_proxy *p, struct worker_pod *pod, int fd, const struct addr_port *original,
			struct l7_target *target, const char *name)
{
	struct tcp_relay *r = tcp_relay_new(p, pod, fd, false);
	if (r)
		outbound_begin(r, original, target, name);
}

/* Its failures while it begins end it before its owner knows of it. */
static struct tcp_relay *ahead_begun(struct tcp_relay *r, tcp_ahead_fn fn, void *arg)
{
	if (r->over)
		return NULL;
	r->ahead = fn;
	r->ahead_arg = arg;
	return r;
}

static void not_yet(bool spoke, void *arg)
{
	(void)spoke;
	(void)arg;
}

struct tcp_relay *tcp_ahead_outbound(struct tcp_proxy *p, struct worker_pod *pod, const struct addr_port *original,
				     struct l7_target *target, tcp_ahead_fn fn, void *arg)
{
	struct tcp_relay *r = tcp_relay_new(p, pod, -1, false);
	if (!r)
		return NULL;
	r->ahead = not_yet;
	outbound_begin(r, original, target, "");
	return ahead_begun(r, fn, arg);
}

/* --- inbound --- */

static void judge(const struct worker_pod *pod, const struct tcp_call *call, const char *sni,
		  struct policy_verdict *verdict)
{
	const struct policy_input in = {
		.peer = call->caller,
		.from_node = call->from_node,
		.source = call->peer.addr,
		.destination = call->local.addr,
		.port = call->local.port,
		.sni = sni,
		.proto = IPPROTO_TCP,
	};
	*verdict = (struct policy_verdict){ .reason = DROP_NOT_READY };
	if (pod->policy)
		policy_eval(pod->policy, &in, verdict);
}

void tcp_relay_judge(const struct tcp_relay *r, struct policy_verdict *verdict)
{
	const struct tcp_call call = {
		.peer = r->peer, .local = r->local, .caller = r->caller, .from_node = r->from_node
	};

	judge(r->pod, &call, r->sni, verdict);
}

bool tcp_proxy_admits(const struct worker_pod *pod, const struct tcp_call *call, const char *sni)
{
	struct policy_verdict verdict;
	judge(pod, call, sni, &verdict);
	return verdict.reason == DROP_NONE;
}

static void inbound_begin(struct tcp_relay *r, const struct tcp_call *call, const char *sni)
{
	struct policy_verdict verdict;
	r->peer = call->peer;
	r->local = call->local;
	r->caller = call->caller ? identity_ref(call->caller) : NULL;
	r->from_node = call->from_node;
	r->sni = sni ? strdup(sni) : NULL; /* without memory it is not known: nothing more is let in */
	tcp_relay_judge(r, &verdict);
	if (verdict.reason != DROP_NONE) {
		tcp_relay_refuse(r, verdict.reason, verdict.rule ? verdict.rule->name : NULL);
		return;
	}
	tcp_relay_count(r);
	r->connect = transport_connect_local(r->p->w, r->pod, &r->peer, &r->local, tcp_relay_connected, r);
}

void tcp_proxy_inbound(struct tcp_proxy *p, struct worker_pod *pod, int fd, const struct tcp_call *call,
		       const char *sni)
{
	struct tcp_relay *r = tcp_relay_new(p, pod, fd, true);
	if (r)
		inbound_begin(r, call, sni);
}

struct tcp_relay *tcp_ahead_inbound(struct tcp_proxy *p, struct worker_pod *pod, const struct tcp_call *call,
				    tcp_ahead_fn fn, void *arg)
{
	struct tcp_relay *r = tcp_relay_new(p, pod, -1, true);
	if (!r)
		return NULL;
	r->ahead = not_yet;
	inbound_begin(r, call, NULL);
	return ahead_begun(r, fn, arg);
}

void tcp_proxy_policy_changed(struct tcp_proxy *p, struct worker_pod *pod)
{
	struct tcp_relay *r, *next;
	for (r = TAILQ_FIRST(&p->relays); r; r = next) {
		struct policy_verdict verdict;
		next = TAILQ_NEXT(r, all);
		if (r->pod != pod || !r->inbound)
			continue;
		tcp_relay_judge(r, &verdict);
		if (verdict.reason == DROP_NONE)
			continue;
		worker_metrics(p->w)->policy_cuts += !r->ahead; /* which carries nothing yet */
		tcp_relay_refuse(r, verdict.reason, verdict.rule ? verdict.rule->name : NULL);
	}
}

void tcp_proxy_pod_removed(struct tcp_proxy *p, struct worker_pod *pod)
{
	struct tcp_relay *r, *next;
	for (r = TAILQ_FIRST(&p->relays); r; r = next) {
		next = TAILQ_NEXT(r, all);
		if (r->pod == pod)
			tcp_relay_over(r, true);
	}
}

/* --- the proxy --- */

static void on_tick(struct loop_timer *timer, void *arg)
{
	struct tcp_proxy *p = arg;
	struct tcp_relay *r, *next;
	uint64_t now = tcp_now_ms(p);
	(void)timer;
	for (r = TAILQ_FIRST(&p->relays); r; r = next) {
		next = TAILQ_NEXT(r, all);
		uint64_t bytes = r->near.bytes + r->far.bytes;
		if (bytes != r->bytes)
			r->active_ms = now;
		r->bytes = bytes;
		bool late = r->max_ms && now - r->began_ms >= r->max_ms;
		if (late)
			connection_log_timed_out(r->log);
		if (late || now - r->active_ms >= r->idle_ms)
			tcp_relay_over(r, true);
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
	int rc = loop_timer_new(p->loop, on_tick, p, &p->tick);
	if (rc < 0) {
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
		tcp_relay_over(r, true);
	loop_timer_free(p->tick);
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
			r->near.t && r->far.t ? transport_queued(r->near.t) + transport_queued(r->far.t) : 0,
			(unsigned long long)((tcp_now_ms(p) - r->began_ms) / 1000));
		comma = ",";
	}
}
