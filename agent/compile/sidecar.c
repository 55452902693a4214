/* SPDX-License-Identifier: Apache-2.0 */
/* What a Sidecar says of its workloads' connections, besides which services they see (http_index.c). Nothing listens here
 * for applications: connections are captured where they are made and where they arrive, so that is what bind and captureMode
 * can't change. */
#include "agent/compile/http.h"

#include <stdlib.h>
#include <string.h>

#include "agent/base/addr.h"
#include "agent/base/str.h"
#include "agent/config/kinds_http.h"
#include "agent/model/workload.h"

const struct destination *sidecar_egress_proxy(const struct http_scope *scope)
{
	const struct sidecar_spec *spec = scope->sidecar ? scope->sidecar->spec.sidecar : NULL;

	return spec && spec->outbound_traffic_policy ? spec->outbound_traffic_policy->egress_proxy : NULL;
}

void sidecar_outbound_set(const struct compiler *c, struct workload *w)
{
	struct http_scope scope;

	http_scope_of(c, w, &scope);
	w->outbound_policy = scope.registry_only	  ? OUTBOUND_REGISTRY_ONLY :
			     sidecar_egress_proxy(&scope) ? OUTBOUND_EGRESS_PROXY :
							    OUTBOUND_ALLOW_ANY;
}

/* --- inbound */

static uint32_t ms_of(const struct opt_ms *t)
{
	return !t->set ? 0 : t->ms > UINT32_MAX ? UINT32_MAX : (uint32_t)t->ms;
}

static void pool_set(struct inbound_port *p, const struct connection_pool *pool)
{
	const struct connection_pool_http *http = pool ? pool->http : NULL;

	p->max_connections = pool && pool->tcp ? pool->tcp->max_connections : 0;
	p->max_pending = http ? http->http1_max_pending_requests : 0;
	p->max_requests = http ? http->http2_max_requests : 0;
	p->max_requests_per_connection = http ? http->max_requests_per_connection : 0;
	p->idle_ms = http ? ms_of(&http->idle_timeout) : 0;
}

bool sidecar_pool_counts(const struct connection_pool *pool)
{
	struct inbound_port p = { 0 };

	pool_set(&p, pool);
	return p.max_connections || p.max_pending || p.max_requests || p.max_requests_per_connection || p.idle_ms;
}

bool sidecar_ingress_counts(const struct sidecar_spec *spec, const struct sidecar_ingress *in)
{
	return in->default_endpoint || sidecar_pool_counts(in->connection_pool) ||
	       sidecar_pool_counts(spec->inbound_connection_pool);
}

void sidecar_target_set(struct inbound_port *p, const struct sidecar_ingress *in)
{
	struct addr_port to;

	if (!in->default_endpoint || addr_port_parse(in->default_endpoint, &to) < 0)
		return;
	p->target_port = to.port;
	if (addr_is_loopback(&to.addr))
		p->target = addr_is_v4(&to.addr) ? INBOUND_LOOPBACK : INBOUND_LOOPBACK6;
}

void sidecar_limits_set(const struct sidecar_spec *spec, struct inbound_port *p)
{
	const struct connection_pool *pool = spec->inbound_connection_pool;

	for (size_t i = 0; i < spec->ingress.n; i++)
		if (spec->ingress.v[i].port->number == p->port && spec->ingress.v[i].connection_pool)
			pool = spec->ingress.v[i].connection_pool;
	pool_set(p, pool);
	p->helper = p->target_port != 0;
}

/* --- findings */

static void inbound_pool_look(const struct resource *r, const struct connection_pool *pool, const char *where,
			      struct notes *notes)
{
	const struct connection_pool_tcp *tcp = pool ? pool->tcp : NULL;
	const struct connection_pool_http *http = pool ? pool->http : NULL;

	if (tcp && tcp->max_connections)
		NOTE(notes, FINDING_INFO, r,
		     "%s.tcp.maxConnections is in force on HTTP connections; those of other protocols are not counted",
		     where);
	if (tcp && (tcp->connect_timeout.set || tcp->tcp_keepalive || tcp->max_connection_duration.set ||
		    tcp->idle_timeout.set))
		NOTE(notes, FINDING_INFO, r,
		     "%s.tcp: timeouts, durations and keepalive have no effect: the application is on the same node",
		     where);
	if (http && (http->max_retries.set || http->h2_upgrade_policy != H2_UPGRADE_DEFAULT ||
		     http->use_client_protocol || http->max_concurrent_streams))
		NOTE(notes, FINDING_INFO, r,
		     "%s.http: maxRetries, h2UpgradePolicy, useClientProtocol and maxConcurrentStreams have no effect: "
		     "there "
		     "are no retries on the way in, and the application is spoken to as the caller speaks",
		     where);
}

static void egress_look(const struct resource *r, const struct sidecar_egress *e, size_t index, struct notes *notes)
{
	struct addr addr;

	if (e->bind && str_starts(e->bind, "unix:"))
		NOTE(notes, FINDING_WARNING, r,
		     "egress[%zu].bind: there is no unix socket: callers connect to the service's own address", index);
	else if (e->bind && addr_parse(e->bind, &addr) == 0 && addr_is_loopback(&addr))
		NOTE(notes, FINDING_WARNING, r,
		     "egress[%zu].bind %s: nothing listens there: callers connect to the service's own address", index,
		     e->bind);
	else if (e->bind || str_eq(e->capture_mode, "NONE"))
		NOTE(notes, FINDING_INFO, r,
		     "egress[%zu].%s has no effect: calls are captured where they are made, whatever their address",
		     index, e->bind ? "bind" : "captureMode NONE");
}

static void ingress_look(const struct resource *r, const struct sidecar_ingress *in, size_t index, struct notes *notes)
{
	inbound_pool_look(r, in->connection_pool, "ingress connectionPool", notes);
	if (in->tls)
		NOTE(notes, FINDING_WARNING, r,
		     "ingress[%zu].tls is not served: TLS of callers outside of the mesh reaches the application as it "
		     "is",
		     index);
	if (in->bind || str_eq(in->capture_mode, "NONE"))
		NOTE(notes, FINDING_INFO, r,
		     "ingress[%zu].%s has no effect: connections to every address of the pod are captured", index,
		     in->bind ? "bind" : "captureMode NONE");
}

static void proxy_look(const struct compiler *c, const struct resource *r, const struct destination *proxy,
		       struct notes *notes)
{
	const struct http_scope scope = { .c = c, .ns = r->ns };
	struct http_routing to = { .c = (struct compiler *)(uintptr_t)c, .scope = &scope, .notes = notes };
	char host[256];

	/* The notes are what is wanted; port 0 of several would be the port that is called. */
	char *name = http_destination_name(&to, r, proxy->host, proxy->subset, proxy->port ? proxy->port->number : 0);
	free(name);
	if (!proxy->port && host_write_out(c, r->ns, proxy->host, host)) {
		const struct service_node *node = http_service_find(&scope, host, 0);
		if (node && node->object->port_count > 1)
			NOTE(notes, FINDING_WARNING, r,
			     "egressProxy %s has several ports: give one, else it is the port that is called", host);
	}
}

void sidecar_look(const struct compiler *c, const struct resource *r, struct notes *notes)
{
	const struct sidecar_spec *spec = r->spec.sidecar;

	for (size_t i = 0; i < spec->egress.n; i++)
		egress_look(r, &spec->egress.v[i], i, notes);
	for (size_t i = 0; i < spec->ingress.n; i++)
		ingress_look(r, &spec->ingress.v[i], i, notes);
	inbound_pool_look(r, spec->inbound_connection_pool, "inboundConnectionPool", notes);
	if (spec->outbound_traffic_policy && spec->outbound_traffic_policy->egress_proxy)
		proxy_look(c, r, spec->outbound_traffic_policy->egress_proxy, notes);
}
