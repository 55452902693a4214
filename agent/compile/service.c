/* SPDX-License-Identifier: Apache-2.0 */
/* A Service, or one host of a ServiceEntry -> service. What both have is here; core Services too. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/hash.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/table.h"
#include "agent/compile/build.h"
#include "agent/compile/endpoints.h"
#include "agent/compile/http.h"

/* --- core Service */

struct gathering {
	const struct compiler *c;
	const struct service_spec_port *port;
	struct endpoint_list *list;
	bool local_only;
	const struct resource *about;
	struct notes *notes;
	size_t unnamed; /* workloads without the port's name */
};

/* Istio's order: the entry's own port for the Service port's name, for the targetPort's name, then the number. */
static int on_workload(struct workload_node *node, void *arg)
{
	struct gathering *g = arg;
	const struct workload_entry_spec *spec = node->resource->spec.workload_entry;

	if (g->local_only && !workload_is_local(node->object))
		return 0;
	uint16_t port = workload_entry_port(spec, g->port->name);
	if (!port)
		port = workload_entry_port(spec, g->port->target_port.name);
	if (!port && !g->port->target_port.name)
		port = g->port->target_port.number ? g->port->target_port.number : g->port->port;
	if (!port) {
		g->unnamed++;
		return 0;
	}
	return endpoints_add_workload(g->list, node->object, port);
}

static const char *port_app(const struct service_spec_port *port)
{
	return port->app_protocol ? port->app_protocol : port->name;
}

static int core_port_build(struct compiler *c, struct service *s, const struct resource *r,
			   const struct service_spec_port *from, const struct rules_asked *asked, struct notes *notes)
{
	const struct service_spec *spec = r->spec.service;
	struct service_port *port = &s->ports[s->port_count];
	struct endpoint_list list = { 0 };
	struct gathering g = { c, from, &list, spec->internal_traffic_policy == TRAFFIC_LOCAL, r, notes, 0 };
	struct traffic traffic;
	bool udp = from->protocol == SERVICE_PROTO_UDP;

	if (from->protocol == SERVICE_PROTO_SCTP) {
		NOTE(notes, FINDING_WARNING, r, "port %u is SCTP, which the mesh does not carry", from->port);
		return 0;
	}
	*port = (struct service_port){ .port = from->port, .proto = udp ? IPPROTO_UDP : IPPROTO_TCP };
	port->app = app_protocol_of(port_app(from), udp);
	s->port_count++;
	port->name = strdup(from->name ? from->name : "");
	if (!port->name)
		return -ENOMEM;
	if (spec->selector.n && workloads_selected(c, s->ns, &spec->selector, on_workload, &g) < 0) {
		free(list.v);
		return -ENOMEM;
	}
	if (g.unnamed)
		NOTE(notes, FINDING_WARNING, r,
		     "port %u: targetPort \"%s\" is a name that %zu of the selected workloads don't have in spec.ports",
		     from->port, from->target_port.name, g.unnamed);
	traffic_of(c, asked, from->port, &traffic);
	traffic.near_first = spec->traffic_distribution != NULL;
	port->l7 = (uint8_t)http_port_l7(c, s, r, port, asked->set);
	return port_finish(c, port, &list, &traffic, asked->plain ? (struct vip_family){ 0 } : vip_family_of(s));
}

static int core_vips_set(struct compiler *c, struct service *s, const struct resource *r, struct notes *notes)
{
	const struct service_spec *spec = r->spec.service;

	if (spec->headless) {
		s->kind = SERVICE_HEADLESS;
		s->by_endpoint = true;
		return 0;
	}
	if (!spec->cluster_ips.n) /* Kubernetes would have given it one */
		return vips_allocate(c, s, r, notes);
	s->vips = calloc(spec->cluster_ips.n, sizeof(*s->vips));
	if (!s->vips)
		return -ENOMEM;
	for (size_t i = 0; i < spec->cluster_ips.n; i++)
		s->vips[s->vip_count++] = (struct cidr){ spec->cluster_ips.v[i], 128 };
	return 0;
}

/* "ns1, ns2" */
static int export_annotation_set(struct service *s, const char *text)
{
	enum { EXPORTS_MAX = 64 };
	AUTO(mem_freep) char *copy = strdup(text);
	const char *names[EXPORTS_MAX];
	size_t n = 0;

	if (!copy)
		return -ENOMEM;
	for (char *rest = copy, *one; n < EXPORTS_MAX && (one = strsep(&rest, ","));) {
		one += strspn(one, " ");
		one[strcspn(one, " ")] = '\0';
		if (*one)
			names[n++] = one;
	}
	return export_to_set(s, names, n);
}

static int core_export_set(const struct compiler *c, struct service *s, const struct resource *r)
{
	const char *annotation = string_map_get(&r->annotations, "networking.istio.io/exportTo");

	if (annotation)
		return export_annotation_set(s, annotation);
	if (c->mesh_config)
		return export_to_set(s, c->mesh_config->default_service_export_to.v,
				     c->mesh_config->default_service_export_to.n);
	return 0;
}

int service_core_build(struct compiler *c, struct service *s, const struct resource *r, const struct rules_asked *asked,
		       struct notes *notes)
{
	const struct service_spec *spec = r->spec.service;

	s->kind = SERVICE_CLUSTER;
	s->ports = calloc(spec->ports.n + 1, sizeof(*s->ports));
	if (!s->ports || core_export_set(c, s, r) < 0 || core_vips_set(c, s, r, notes) < 0)
		return -ENOMEM;
	if (spec->session_affinity == SESSION_AFFINITY_CLIENT_IP)
		s->affinity_timeout_s = spec->session_affinity_config && spec->session_affinity_config->client_ip ?
						spec->session_affinity_config->client_ip->timeout_seconds :
						10800;
	for (size_t i = 0; i < spec->ports.n; i++)
		if (core_port_build(c, s, r, &spec->ports.v[i], asked, notes) < 0)
			return -ENOMEM;
	if (s->kind == SERVICE_HEADLESS)
		return dns_addrs_of_endpoints(s);
	return spec->cluster_ips.n ? dns_addrs_of_vips(s) : dns_addrs_of_allocated(s);
}

/* --- both kinds */

static int on_port_cmp(const void *a, const void *b)
{
	const struct service_port *x = a, *y = b;

	return x->port != y->port ? (int)x->port - (int)y->port : (int)x->proto - (int)y->proto;
}

static void service_freep(struct service **s)
{
	service_unref(*s);
}

int service_build(struct compiler *c, struct service_node *node, const struct rules_asked *asked, struct service **out,
		  struct notes *notes)
{
	const struct resource *r = node->resource;
	struct rule_set general;
	const struct rules_asked usual = { .set = &general };
	AUTO(service_freep) struct service *s = service_new();
	if (!s)
		return -ENOMEM;

	struct traffic traffic;
	if (!asked) {
		rules_of(c, &(struct rule_caller){ 0 }, r->ns, node->hostname, &general);
		asked = &usual;
	}
	traffic_of(c, asked, 0, &traffic);
	s->lb = traffic.lb;
	s->tcp = traffic.tcp;
	s->outlier = traffic.outlier;
	s->name = strdup(r->name);
	s->ns = strdup(r->ns);
	s->hostname = strdup(node->hostname);
	s->origin = strdup(r->origin);
	if (!s->name || !s->ns || !s->hostname || !s->origin)
		return -ENOMEM;

	int rc = r->kind == KIND_SERVICE ? service_core_build(c, s, r, asked, notes) :
					   service_entry_build(c, s, r, asked, notes);
	if (rc < 0)
		return rc;
	if (s->port_count)
		qsort(s->ports, s->port_count, sizeof(*s->ports), on_port_cmp);
	*out = TAKE(s);
	return 0;
}

static uint64_t port_content(uint64_t h, const struct service_port *port)
{
	const uint64_t numbers[] = {
		port->port,
		port->proto,
		port->app,
		port->l7,
		port->endpoint_count,
		port->slot_count,
		port->slots_id,
		port->slot6_count,
		port->slots6_id,
		port->lb,
		port->tcp.max_connections,
		port->tcp.connect_timeout_ms,
		port->tcp.keepalive_time_s,
		port->tcp.keepalive_interval_s,
		port->tcp.keepalive_probes,
		port->tcp.max_connection_duration_ms,
		port->tcp.idle_timeout_ms,
		port->outlier.consecutive_failures,
		port->outlier.interval_ms,
		port->outlier.base_ejection_ms,
		port->outlier.max_ejection_percent,
		port->outlier.min_health_percent,
		port->original_port,
	};
	h = hash64_str(hash64(h, numbers, sizeof(numbers)), port->name);
	for (size_t i = 0; i < port->endpoint_count; i++) {
		const struct endpoint *e = &port->endpoints[i];
		const uint64_t more[] = { e->port, e->weight, (uintptr_t)e->workload, e->priority, e->healthy };
		h = hash64(hash64(h, &e->addr, sizeof(e->addr)), more, sizeof(more));
	}
	return h;
}

/* The service-wide traffic settings differ only when the port's do, or nobody can tell. */
uint64_t service_content(const struct service *s)
{
	const uint64_t numbers[] = { s->kind,
				     s->by_endpoint,
				     s->any_address,
				     s->lb,
				     s->affinity_timeout_s,
				     s->external,
				     s->vip_count,
				     s->dns_addr_count,
				     s->port_count,
				     s->export_to_count,
				     s->tcp.connect_timeout_ms,
				     s->tcp.max_connections,
				     s->outlier.consecutive_failures };
	uint64_t h = hash64(HASH64_INIT, numbers, sizeof(numbers));

	h = hash64_str(hash64_str(hash64_str(h, s->name), s->hostname), s->origin);
	for (size_t i = 0; i < s->vip_count; i++)
		h = hash64(hash64(h, &s->vips[i].addr, sizeof(s->vips[i].addr)), &s->vips[i].bits, 1);
	if (s->dns_addr_count)
		h = hash64(h, s->dns_addrs, s->dns_addr_count * sizeof(*s->dns_addrs));
	for (size_t i = 0; i < s->export_to_count; i++)
		h = hash64_str(h, s->export_to[i]);
	for (size_t i = 0; i < s->port_count; i++)
		h = port_content(h, &s->ports[i]);
	return h;
}
