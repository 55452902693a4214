/* SPDX-License-Identifier: Apache-2.0 */
/* Which connections the HTTP engine must see: calls to a service's port (by its protocol and the rules that name it), and
 * connections to a workload of this node (by its policy and filters). */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/compile/dirty.h"
#include "agent/compile/endpoints.h"
#include "agent/compile/http.h"
#include "agent/compile/http_backend_tls.h"
#include "agent/compile/nodes.h"
#include "agent/config/kinds_http.h"
#include "agent/model/filters.h"
#include "agent/model/policy.h"
#include "agent/model/telemetry.h"

/* --- callers' side */

enum l7_wish http_wish_of(const struct resource *r)
{
	const char *word = string_map_get(&r->labels, "weft.dev/l7");

	if (!word)
		word = string_map_get(&r->annotations, "weft.dev/l7");
	return !word			? L7_WISH_NONE :
	       str_eq(word, "disabled") ? L7_WISH_DISABLED :
	       str_eq(word, "sniff")	? L7_WISH_SNIFF :
					  L7_WISH_UNKNOWN;
}

/* What is said that only requests can fulfil. */
static bool policy_is_http(const struct load_balancer *lb, const struct connection_pool *pool,
			   const struct outlier_detection *outlier)
{
	const struct consistent_hash *hash = lb ? lb->consistent_hash : NULL;

	return (pool && pool->http) || (hash && !hash->use_source_ip) ||
	       (outlier && (outlier->consecutive_5xx_errors.set || outlier->consecutive_gateway_errors.set ||
			    outlier->consecutive_errors));
}

static bool rule_is_http(const struct rule_set *rules, void *port)
{
	struct http_rule in_force;

	http_rule_of(rules, *(const uint16_t *)port, NULL, &in_force);
	for (size_t i = 0; i < rules->n; i++)
		if (rules->v[i]->spec.destination_rule->subsets.n)
			return true;
	return policy_is_http(in_force.lb, in_force.pool, in_force.outlier);
}

struct named { /* by routes */
	bool http, l4;
};

static bool l4_names(const struct vs_l4_route *route, uint16_t port)
{
	for (size_t i = 0; i < route->match.n; i++)
		if (!route->match.v[i].port || route->match.v[i].port == port)
			return true;
	return !route->match.n;
}

static void named_by_virtual_services(const struct compiler *c, const char *host, uint16_t port, struct named *out)
{
	struct bag_items items = bag_get(&c->http.virtual_services, host, strlen(host));

	for (size_t i = 0; i < items.n; i++) {
		const struct virtual_service_spec *spec = ((const struct resource *)items.v[i])->spec.virtual_service;
		out->http |= spec->http.n > 0;
		for (size_t k = 0; k < spec->tls.n; k++)
			out->l4 |= l4_names(&spec->tls.v[k], port);
		for (size_t k = 0; k < spec->tcp.n; k++)
			out->l4 |= l4_names(&spec->tcp.v[k], port);
	}
}

static void named_by_routes(const struct compiler *c, const struct service *s, uint16_t port, struct named *out)
{
	struct bag_items items = bag_get(&c->http.routes, s->hostname, strlen(s->hostname));

	for (size_t i = 0; i < items.n; i++) {
		enum resource_kind kind = ((const struct resource *)items.v[i])->kind;
		if (!http_route_attached(c, items.v[i], s, port))
			continue;
		out->http |= kind == KIND_K8S_HTTP_ROUTE || kind == KIND_K8S_GRPC_ROUTE;
		out->l4 |= kind == KIND_K8S_TLS_ROUTE || kind == KIND_K8S_TCP_ROUTE;
	}
}

static struct named named_of(const struct compiler *c, const struct service *s, uint16_t port)
{
	struct named out = { 0 };
	char wide[256];

	named_by_routes(c, s, port, &out);
	named_by_virtual_services(c, s->hostname, port, &out);
	for (const char *at = s->hostname; !out.http && !out.l4 && http_wider_host(s->hostname, &at, wide);)
		named_by_virtual_services(c, wide, port, &out);
	return out;
}

/* The helper must originate TLS, or speak to a proxy, whatever the bytes are. */
static bool rule_is_l4_helper(const struct rule_set *rules, void *port)
{
	struct http_rule in_force;

	http_rule_of(rules, *(const uint16_t *)port, NULL, &in_force);
	return in_force.tunnel || in_force.proxy_protocol ||
	       (in_force.tls && (in_force.tls->mode == CLIENT_TLS_SIMPLE || in_force.tls->mode == CLIENT_TLS_MUTUAL));
}

/* Istio's: protocols whose servers speak first, on ports of which nothing is declared. */
static bool well_known_tcp(uint16_t port)
{
	return port == 25 || port == 53 || port == 3306 || port == 27017;
}

enum l7_mode http_port_l7(const struct compiler *c, const struct service *s, const struct resource *r,
			  const struct service_port *port, const struct rule_set *rules)
{
	uint16_t number = port->port;
	enum l7_wish wish = http_wish_of(r);

	if (port->proto != IPPROTO_TCP || wish == L7_WISH_DISABLED)
		return L7_NONE;
	if (port->app == APP_HTTP || port->app == APP_HTTP2 || port->app == APP_GRPC)
		return L7_HTTP;
	if (port->app == APP_UNKNOWN && wish == L7_WISH_SNIFF)
		return L7_SNIFF;

	struct named named = named_of(c, s, port->port);
	if (port->app == APP_UNKNOWN && !well_known_tcp(port->port) &&
	    (named.http || rule_is_http(rules, &number) ||
	     rules_of_others(c, s->ns, s->hostname, rule_is_http, &number)))
		return L7_SNIFF;
	/* What one caller's rules ask for is done by the helper, so it has all callers' connections. */
	if (named.l4 || rule_is_l4_helper(rules, &number) || http_backend_tls(c, s, port) ||
	    rules_of_others(c, s->ns, s->hostname, rule_is_l4_helper, &number))
		return L7_TCP;
	/* What is called at any address says itself who that is; the kernel changes no port of what passes. */
	if ((s->any_address && port->app == APP_TLS) || port->original_port)
		return L7_TCP;
	/* A name with a star has no address of its own: the server's name says where a connection goes. */
	return port->app == APP_TLS && s->hostname[0] == '*' && s->kind == SERVICE_ENTRY && port->lb != LB_PASSTHROUGH ?
		       L7_TCP :
		       L7_NONE;
}

/* --- workloads' side */

bool workload_needs_l7(const struct workload *w)
{
	const struct http_filters *f = w->inbound;

	if ((w->policy && policy_needs_http(w->policy)) || (w->telemetry && w->telemetry->server))
		return true;
	if (!f)
		return false;
	/* With proxies that are trusted, whose address the client's is stands in its request. */
	return f->jwt_count || f->limit_count || f->script_count || f->ext_authz_count || f->proxy.client_cert_asked ||
	       (f->proxy.trusted_proxies && policy_names_remote_ip(w->policy));
}

bool http_locals_care(const struct compiler *c)
{
	for (size_t i = 0; i < c->locals.n; i++) {
		const struct workload *w = ((const struct workload_node *)c->locals.v[i])->object;
		if (w->l7_port_count || w->l7_other_ports)
			return true;
	}
	return false;
}

struct gathering {
	struct workload *w;
	const struct workload_entry_spec *spec;
	size_t cap;
};

/* Made when it is not there; NULL: no memory. */
static struct inbound_port *port_get(struct gathering *g, uint16_t port)
{
	struct workload *w = g->w;

	for (size_t i = 0; i < w->l7_port_count; i++)
		if (w->l7_ports[i].port == port)
			return &w->l7_ports[i];
	if (mem_reserve(&w->l7_ports, &g->cap, w->l7_port_count + 1, sizeof(*w->l7_ports)) < 0)
		return NULL;
	struct inbound_port *p = &w->l7_ports[w->l7_port_count++];
	memset(p, 0, sizeof(*p)); /* compared as bytes */
	p->port = port;
	p->app = APP_UNKNOWN;
	return p;
}

static int port_note(struct gathering *g, uint16_t port, enum app_protocol app)
{
	size_t had = g->w->l7_port_count;
	struct inbound_port *p = port ? port_get(g, port) : NULL;

	if (!p)
		return port ? -ENOMEM : 0;
	/* Two services that disagree: what is HTTP for one must be looked at. */
	if (had != g->w->l7_port_count || app == APP_HTTP || app == APP_HTTP2 || app == APP_GRPC ||
	    p->app == APP_UNKNOWN)
		p->app = (uint8_t)app;
	return 0;
}

static int core_ports_note(struct gathering *g, const struct service_spec *spec)
{
	for (size_t i = 0; i < spec->ports.n; i++) {
		const struct service_spec_port *p = &spec->ports.v[i];
		uint16_t port = workload_entry_port(g->spec, p->name);
		if (p->protocol != SERVICE_PROTO_TCP)
			continue;
		if (!port)
			port = workload_entry_port(g->spec, p->target_port.name);
		if (!port && !p->target_port.name)
			port = p->target_port.number ? p->target_port.number : p->port;
		if (port_note(g, port, app_protocol_of(p->app_protocol ? p->app_protocol : p->name, false)) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int entry_ports_note(struct gathering *g, const struct service_entry_spec *spec)
{
	for (size_t i = 0; i < spec->ports.n; i++) {
		const struct service_entry_port *p = &spec->ports.v[i];
		uint16_t port = workload_entry_port(g->spec, p->name);
		if (p->protocol && strcasecmp(p->protocol, "UDP") == 0)
			continue;
		if (!port)
			port = p->target_port ? p->target_port : p->number;
		if (port_note(g, port, app_protocol_of(p->protocol, false)) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int on_port_cmp(const void *a, const void *b)
{
	return (int)((const struct inbound_port *)a)->port - (int)((const struct inbound_port *)b)->port;
}

static int selecting_note(const struct compiler *c, struct gathering *g, const struct label *label)
{
	struct bag_key key;
	bag_key_label(&key, g->w->ns, label->key, label->value);
	struct bag_items nodes = bag_get(&c->by_selector, key.bytes, key.len);

	for (size_t k = 0; k < nodes.n; k++) {
		const struct service_node *node = nodes.v[k];
		const struct resource *r = node->resource;
		if (!r || !labels_selected(service_selector(node), g->w->labels, g->w->label_count))
			continue;
		int rc = r->kind == KIND_SERVICE ? core_ports_note(g, r->spec.service) :
						   entry_ports_note(g, r->spec.service_entry);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static bool is_seen(uint8_t app)
{
	return app == APP_HTTP || app == APP_HTTP2 || app == APP_GRPC || app == APP_UNKNOWN;
}

/* What the Sidecar says of ports: declared by it, whatever services say; with their limits. */
static int sidecar_ports_note(struct gathering *g, const struct sidecar_spec *spec)
{
	for (size_t i = 0; spec && i < spec->ingress.n; i++) {
		const struct sidecar_ingress *in = &spec->ingress.v[i];
		if (!sidecar_ingress_counts(spec, in))
			continue;
		struct inbound_port *p = port_get(g, in->port->number);
		if (!p)
			return -ENOMEM;
		p->app = (uint8_t)app_protocol_of(in->port->protocol, false);
		sidecar_target_set(p, in);
	}
	if (spec && sidecar_pool_counts(spec->inbound_connection_pool) && !port_get(g, 0))
		return -ENOMEM;
	for (size_t i = 0; spec && i < g->w->l7_port_count; i++)
		sidecar_limits_set(spec, &g->w->l7_ports[i]);
	return 0;
}

int http_workload_ports(const struct compiler *c, struct workload *w, const struct resource *r)
{
	struct gathering g = { .w = w, .spec = r->spec.workload_entry };
	struct http_scope scope;

	http_scope_of(c, w, &scope);
	const struct sidecar_spec *sidecar = scope.sidecar ? scope.sidecar->spec.sidecar : NULL;
	w->l7_other_ports = workload_needs_l7(w) || (sidecar && sidecar_pool_counts(sidecar->inbound_connection_pool));
	for (size_t i = 0; w->l7_other_ports && i < w->label_count; i++)
		if (selecting_note(c, &g, &w->labels[i]) < 0)
			return -ENOMEM;
	if (sidecar_ports_note(&g, sidecar) < 0)
		return -ENOMEM;
	if (w->l7_port_count)
		qsort(w->l7_ports, w->l7_port_count, sizeof(*w->l7_ports), on_port_cmp);
	for (size_t i = 0; i < w->l7_port_count; i++)
		w->l7_ports[i].sni = !is_seen(w->l7_ports[i].app) && policy_needs_sni(w->policy, w->l7_ports[i].port);
	return 0;
}
