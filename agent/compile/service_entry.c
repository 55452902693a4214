/* SPDX-License-Identifier: Apache-2.0 */
/* One host of a ServiceEntry: fixed endpoints, names that are resolved, selected workloads, or a pass to addresses. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/str.h"
#include "agent/compile/endpoints.h"
#include "agent/compile/hosts.h"
#include "agent/compile/http.h"

struct gathering {
	const struct compiler *c;
	const struct service_entry_port *port;
	struct endpoint_list *list;
};

static uint16_t target_port(const struct service_entry_port *port)
{
	return port->target_port ? port->target_port : port->number;
}

static int on_workload(struct workload_node *node, void *arg)
{
	struct gathering *g = arg;
	uint16_t port = workload_entry_port(node->resource->spec.workload_entry, g->port->name);

	return endpoints_add_workload(g->list, node->object, port ? port : target_port(g->port));
}

/* An address of a workload that is known for itself gets that workload's identity and tunnel. */
static int addr_endpoint_add(struct gathering *g, const struct addr *a, uint16_t port, uint32_t weight)
{
	struct bag_items nodes = bag_get(&g->c->by_addr, a->b, sizeof(a->b));
	struct endpoint e = { .addr = *a, .port = port, .weight = weight ? weight : 1 };

	for (size_t i = 0; i < nodes.n; i++) { /* of several the first by uid, as in the plan */
		const struct workload_node *node = nodes.v[i];
		if (!e.workload || strcmp(node->uid, e.workload->uid) < 0)
			e.workload = node->object;
	}
	return endpoint_add(g->list, &e);
}

static int host_endpoints_add(struct gathering *g, const char *name, uint16_t port, uint32_t weight)
{
	const struct resolved *host = hosts_get(g->c, name);

	for (size_t i = 0; host && i < host->n; i++)
		if (addr_endpoint_add(g, &host->addrs[i], port, weight) < 0)
			return -ENOMEM;
	return 0;
}

static int listed_endpoints_add(struct gathering *g, const struct service_entry_spec *spec)
{
	bool by_name = spec->resolution != RESOLUTION_STATIC;

	for (size_t i = 0; i < spec->endpoints.n; i++) {
		const struct workload_entry_spec *e = &spec->endpoints.v[i];
		uint16_t port = workload_entry_port(e, g->port->name);
		int rc = 0;
		if (!port)
			port = target_port(g->port);
		if (e->is_ip)
			rc = addr_endpoint_add(g, &e->ip, port, e->weight);
		else if (e->address && by_name)
			rc = host_endpoints_add(g, e->address, port, e->weight);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int endpoints_gather(struct gathering *g, const struct service *s, const struct service_entry_spec *spec)
{
	if (spec->resolution == RESOLUTION_NONE)
		return 0;
	if (spec->workload_selector && spec->workload_selector->labels.n)
		return workloads_selected(g->c, s->ns, &spec->workload_selector->labels, on_workload, g);
	if (spec->endpoints.n)
		return listed_endpoints_add(g, spec);
	if (spec->resolution == RESOLUTION_STATIC)
		return 0;
	return host_endpoints_add(g, s->hostname, target_port(g->port), 1);
}

static int entry_port_build(struct compiler *c, struct service *s, const struct resource *r,
			    const struct service_entry_port *from, const struct rules_asked *asked)
{
	const struct service_entry_spec *spec = r->spec.service_entry;
	struct service_port *port = &s->ports[s->port_count++];
	struct endpoint_list list = { 0 };
	struct gathering g = { c, from, &list };
	bool udp = from->protocol && strcasecmp(from->protocol, "UDP") == 0;
	struct traffic traffic;

	*port = (struct service_port){ .port = from->number, .proto = udp ? IPPROTO_UDP : IPPROTO_TCP };
	port->app = app_protocol_of(from->protocol, udp);
	port->name = strdup(from->name ? from->name : "");
	if (!port->name)
		return -ENOMEM;
	if (endpoints_gather(&g, s, spec) < 0) {
		free(list.v);
		return -ENOMEM;
	}
	traffic_of(c, asked, from->number, &traffic);
	if (spec->resolution == RESOLUTION_NONE)
		traffic.lb = LB_PASSTHROUGH;
	if (spec->resolution == RESOLUTION_NONE && target_port(from) != from->number)
		port->original_port = from->target_port;
	port->l7 = (uint8_t)http_port_l7(c, s, r, port, asked->set);
	return port_finish(c, port, &list, &traffic, asked->plain ? (struct vip_family){ 0 } : vip_family_of(s));
}

/* Only HTTP and TLS say whom they call. */
static void any_address_look(const struct service *s, const struct resource *r, struct notes *notes)
{
	const struct service_entry_spec *spec = r->spec.service_entry;

	for (size_t i = 0; i < spec->ports.n; i++) {
		const struct service_entry_port *p = &spec->ports.v[i];
		bool udp = p->protocol && strcasecmp(p->protocol, "UDP") == 0;
		bool says = app_says_host(app_protocol_of(p->protocol, udp));
		if (!says && spec->resolution == RESOLUTION_NONE)
			NOTE(notes, FINDING_WARNING, r,
			     "%s: resolution NONE without addresses: nothing tells what port %u (%s) is called for, so "
			     "any "
			     "address that nothing else has is its; give `addresses`",
			     s->hostname, p->number, p->protocol ? p->protocol : "TCP");
		else if (!says || http_wish_of(r) == L7_WISH_DISABLED)
			NOTE(notes, FINDING_WARNING, r,
			     "%s: without addresses what connections to port %u say would have to tell that they are "
			     "its, "
			     "and %s: none is",
			     s->hostname, p->number,
			     says ? "weft.dev/l7: disabled has nobody look" : "its protocol does not");
	}
}

/* At the addresses that resolvers outside give for its names, as Istio has it where it allocates none. */
static bool is_called_anywhere(const struct compiler *c, const struct service_entry_spec *spec)
{
	if (spec->addresses.n || spec->resolution == RESOLUTION_STATIC)
		return false;
	return spec->resolution == RESOLUTION_NONE || !c->mesh.auto_allocate_vips;
}

static int entry_vips_set(struct compiler *c, struct service *s, const struct resource *r, struct notes *notes)
{
	const struct service_entry_spec *spec = r->spec.service_entry;

	if (s->any_address) {
		any_address_look(s, r, notes);
		s->vips = calloc(1, sizeof(*s->vips));
		s->vip_count = s->vips ? 1 : 0;
		return s->vips ? 0 : -ENOMEM;
	}
	if (!spec->addresses.n)
		return vips_allocate(c, s, r, notes);
	s->vips = calloc(spec->addresses.n, sizeof(*s->vips));
	if (!s->vips)
		return -ENOMEM;
	memcpy(s->vips, spec->addresses.v, spec->addresses.n * sizeof(*s->vips));
	s->vip_count = spec->addresses.n;
	return 0;
}

static int entry_export_set(const struct compiler *c, struct service *s, const struct service_entry_spec *spec)
{
	const struct string_list *list = &spec->export_to;

	if (!list->n && c->mesh_config)
		list = &c->mesh_config->default_service_export_to;
	return export_to_set(s, list->v, list->n);
}

/* Only a WorkloadEntry has an identity and a tunnel: without one the wire would see plaintext. Sockets that are files are the
 * host's, and the helper has no file system. */
static void endpoints_look(const struct compiler *c, const struct resource *r, struct notes *notes)
{
	const struct service_entry_spec *spec = r->spec.service_entry;

	for (size_t i = 0; notes && i < spec->endpoints.n; i++) {
		const struct workload_entry_spec *e = &spec->endpoints.v[i];
		if (e->address && str_starts(e->address, "unix:"))
			NOTE(notes, FINDING_WARNING, r, "endpoint %s is left out: unix sockets are not called",
			     e->address);
		if (e->network)
			NOTE(notes, FINDING_INFO, r,
			     "endpoint %s: network %s has no effect: it is called at its own address",
			     e->address ? e->address : "without an address", e->network);
		const char *mark = string_map_get(&e->labels, "networking.istio.io/tunnel");
		if (mark && e->is_ip && !bag_get(&c->by_addr, e->ip.b, sizeof(e->ip.b)).n)
			NOTE(notes, FINDING_WARNING, r,
			     "endpoint %s is marked as a tunnel, but is called in plaintext: tunnels are for "
			     "WorkloadEntries; write one for it",
			     e->address);
	}
}

int service_entry_build(struct compiler *c, struct service *s, const struct resource *r,
			const struct rules_asked *asked, struct notes *notes)
{
	const struct service_entry_spec *spec = r->spec.service_entry;

	endpoints_look(c, r, notes);
	s->kind = SERVICE_ENTRY;
	s->external = spec->location == LOCATION_MESH_EXTERNAL;
	/* Its addresses were allocated here, if any: a caller with names of its own doesn't know them. */
	s->by_endpoint = spec->resolution == RESOLUTION_STATIC && !spec->addresses.n;
	s->any_address = is_called_anywhere(c, spec);
	if (spec->resolution == RESOLUTION_NONE)
		s->lb = LB_PASSTHROUGH;
	s->ports = calloc(spec->ports.n + 1, sizeof(*s->ports));
	if (!s->ports || entry_export_set(c, s, spec) < 0 || entry_vips_set(c, s, r, notes) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < spec->ports.n; i++)
		if (entry_port_build(c, s, r, &spec->ports.v[i], asked) < 0)
			return -ENOMEM;
	return spec->addresses.n || s->any_address ? dns_addrs_of_vips(s) : dns_addrs_of_allocated(s);
}
