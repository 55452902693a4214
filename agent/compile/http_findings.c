/* SPDX-License-Identifier: Apache-2.0 */
/* What is odd about routes: each document is made into routes once more with somebody listening, as a caller of its own
 * namespace would have them. */
#include <netinet/in.h>
#include <string.h>

#include "agent/base/str.h"
#include "agent/base/table.h"
#include "agent/compile/http.h"
#include "agent/compile/http_findings.h"
#include "agent/compile/inventory.h"
#include "agent/config/kinds_gateway_api.h"
#include "agent/config/kinds_http.h"

static bool is_mesh(const struct virtual_service_spec *spec)
{
	return !spec->gateways.n || string_list_has(&spec->gateways, "mesh");
}

/* Of two documents for one host the first by name is in force. */
static void rival_look(const struct compiler *c, const struct resource *r, const char *host, struct notes *notes)
{
	struct bag_items items = bag_get(&c->http.virtual_services, host, strlen(host));
	const struct resource *first = r;

	for (size_t i = 0; i < items.n; i++)
		if (strcmp(((const struct resource *)items.v[i])->key, first->key) < 0)
			first = items.v[i];
	if (first != r)
		NOTE(notes, FINDING_WARNING, r, "is ignored where both are seen: %s is for the same host %s",
		     first->key, host);
}

static int routing_look(struct http_routing *to)
{
	bool no_memory = to->no_memory;

	http_routing_done(to);
	return no_memory ? -1 : 0;
}

static bool has_http_port(const struct service *s)
{
	for (size_t i = 0; i < s->port_count; i++)
		if (s->ports[i].l7 == L7_HTTP || s->ports[i].l7 == L7_SNIFF)
			return true;
	return false;
}

static int virtual_service_look(struct compiler *c, const struct resource *r, struct notes *notes)
{
	const struct virtual_service_spec *spec = r->spec.virtual_service;
	const struct http_scope scope = { .c = c, .ns = r->ns };

	if (!is_mesh(spec))
		NOTE(notes, FINDING_INFO, r, "is for gateways only: nothing inside the mesh follows from it");
	for (size_t i = 0; is_mesh(spec) && i < spec->hosts.n; i++) {
		char host[256];
		if (!host_write_out(c, r->ns, spec->hosts.v[i], host))
			continue;
		rival_look(c, r, host, notes);
		const struct service_node *node = http_service_find(&scope, host, 0);
		const struct service *s = node ? node->object : NULL;
		const struct resource *routes[1];
		if (!s && host[0] != '*')
			NOTE(notes, FINDING_WARNING, r,
			     "host %s: no Service or ServiceEntry has it%s: the routes hold only for requests that "
			     "name it at the "
			     "address of another service",
			     host,
			     strchr(spec->hosts.v[i], '.') ? "" : " (a short name means the document's own namespace)");
		if (s && spec->http.n && !has_http_port(s))
			NOTE(notes, FINDING_WARNING, r,
			     "host %s: none of its ports is HTTP by appProtocol or name (or weft.dev/l7 is disabled): "
			     "the http routes "
			     "have no effect",
			     host);
		if (s && spec->http.n &&
		    (http_routes_of(&scope, s, 0, KIND_K8S_HTTP_ROUTE, routes, 1) ||
		     http_routes_of(&scope, s, 0, KIND_K8S_GRPC_ROUTE, routes, 1)))
			NOTE(notes, FINDING_WARNING, r, "host %s: %s is attached to the service, and counts instead",
			     host, routes[0]->key);
		struct http_routing to = { .c = c,
					   .scope = &scope,
					   .service = s,
					   .notes = notes,
					   .port = s && s->port_count ? s->ports[0].port : 80 };
		http_virtual_service_routes(&to, r);
		http_virtual_service_l4(&to, r);
		if (routing_look(&to) < 0)
			return -1;
	}
	return 0;
}

/* Routes of requests need a port that speaks HTTP; hostnames are for gateways, which serve many hosts. */
static void http_route_look(const struct resource *r, const struct route_parent *p, const struct service *s,
			    struct notes *notes)
{
	if (r->kind != KIND_K8S_HTTP_ROUTE && r->kind != KIND_K8S_GRPC_ROUTE)
		return;
	const struct string_list *hostnames =
		r->kind == KIND_K8S_HTTP_ROUTE ? &r->spec.http_route->hostnames : &r->spec.grpc_route->hostnames;
	const struct service_port *port = p->port ? service_port_find(s, p->port, IPPROTO_TCP) : NULL;

	if (hostnames->n)
		NOTE(notes, FINDING_INFO, r,
		     "hostnames are for gateways: requests to the Service %s are meant whatever host they name",
		     p->name);
	if (port ? port->l7 != L7_HTTP && port->l7 != L7_SNIFF : !has_http_port(s))
		NOTE(notes, FINDING_WARNING, r,
		     "parent Service %s/%s: %s by appProtocol or name (or weft.dev/l7 is disabled): the route has no "
		     "effect",
		     s->ns, p->name, port ? "the port is not HTTP" : "none of its ports is HTTP");
}

static bool has_section(const struct service *s, const char *name)
{
	for (size_t i = 0; i < s->port_count; i++)
		if (str_eq(s->ports[i].name, name))
			return true;
	return false;
}

static int route_look(struct compiler *c, const struct resource *r, struct notes *notes)
{
	const struct http_scope scope = { .c = c, .ns = r->ns };
	const struct route_parents *parents = r->spec.route_parents;
	bool attached = false;

	for (size_t i = 0; i < parents->n; i++) {
		const struct route_parent *p = &parents->v[i];
		char host[256];
		if (*p->group || strcmp(p->kind, "Service") != 0) {
			bool gateway = str_eq(p->group, "gateway.networking.k8s.io");
			NOTE(notes, gateway ? FINDING_INFO : FINDING_WARNING, r, "%sparent %s %s %s",
			     gateway ? "" : "Accepted=False (InvalidKind): ", p->kind, p->name,
			     gateway ? "is for gateways: nothing inside the mesh follows from it" :
				       "is of a kind that has no routes here: it has no effect");
			continue;
		}
		attached = true;
		if (!host_write_out(c, p->ns ? p->ns : r->ns, p->name, host))
			continue;
		const struct service_node *node = http_service_find(&scope, host, p->port);
		if (!node) {
			NOTE(notes, FINDING_WARNING, r,
			     "Accepted=False (NoMatchingParent): parent Service %s/%s: there is no such service%s",
			     p->ns ? p->ns : r->ns, p->name, p->port ? " with this port" : "");
			continue;
		}
		const struct service *s = node->object;
		if (p->section && !has_section(s, p->section)) {
			NOTE(notes, FINDING_WARNING, r,
			     "Accepted=False (NoMatchingParent): parent Service %s/%s: it has no port of the name %s",
			     s->ns, p->name, p->section);
			continue;
		}
		http_route_look(r, p, s, notes);
		struct http_routing to = { .c = c,
					   .scope = &scope,
					   .service = s,
					   .notes = notes,
					   .port = p->port	 ? p->port :
						   s->port_count ? s->ports[0].port :
								   80 };
		http_gateway_api_routes(&to);
		http_gateway_api_l4(&to);
		if (routing_look(&to) < 0)
			return -1;
	}
	if (!parents->n && !attached)
		NOTE(notes, FINDING_WARNING, r, "has no parentRefs: it has no effect");
	return 0;
}

int http_look(struct compiler *c, struct notes *notes)
{
	static const enum resource_kind kinds[] = { KIND_K8S_HTTP_ROUTE, KIND_K8S_GRPC_ROUTE, KIND_K8S_TLS_ROUTE,
						    KIND_K8S_TCP_ROUTE };
	const struct inventory *inv = &c->inventory[KIND_SIDECAR];

	for (size_t i = 0; i < inv->n; i++)
		sidecar_look(c, inv->v[i], notes);
	inv = &c->inventory[KIND_VIRTUAL_SERVICE];
	for (size_t i = 0; i < inv->n; i++)
		if (virtual_service_look(c, inv->v[i], notes) < 0)
			return -1;
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		inv = &c->inventory[kinds[k]];
		for (size_t i = 0; i < inv->n; i++)
			if (route_look(c, inv->v[i], notes) < 0)
				return -1;
	}
	return 0;
}
