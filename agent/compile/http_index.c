/* SPDX-License-Identifier: Apache-2.0 */
/* What is looked up by host: services, VirtualServices, the routes of the Gateway API. Each by its own key in a table, so
 * that a question costs as many look-ups as the host has labels, however many documents there are. And who sees what:
 * exportTo and Sidecars. */
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/str.h"
#include "agent/base/table.h"
#include "agent/compile/dirty.h"
#include "agent/compile/http.h"
#include "agent/compile/inventory.h"
#include "agent/config/kinds_gateway_api.h"
#include "agent/config/kinds_http.h"
#include "agent/model/cluster.h"

static void on_target_free(void *value)
{
	http_cached_target_free(value);
}

static void on_cluster_free(void *value)
{
	http_cached_cluster_free(value);
}

int http_init(struct compiler *c)
{
	struct http_state *h = &c->http;

	h->targets = table_new(on_target_free);
	h->clusters = table_new(on_cluster_free);
	h->dynamic = table_new(NULL);
	return h->targets && h->clusters && h->dynamic && bag_init(&h->services) == 0 &&
			       bag_init(&h->virtual_services) == 0 && bag_init(&h->routes) == 0 ?
		       0 :
		       -ENOMEM;
}

void http_done(struct compiler *c)
{
	table_free(c->http.targets);
	table_free(c->http.clusters);
	table_free(c->http.dynamic);
	bag_done(&c->http.services);
	bag_done(&c->http.virtual_services);
	bag_done(&c->http.routes);
}

/* --- services that a document is about, for their ports' l7 */

static int dirty_host(struct compiler *c, const char *host)
{
	if (host[0] == '*') {
		struct table_iter it = { 0 };
		while (table_next(c->services, &it)) {
			struct service_node *node = it.value;
			if (str_ends(node->hostname, host + 1) && dirty_service(c, node) < 0)
				return -ENOMEM;
		}
		return 0;
	}
	struct bag_items nodes = bag_get(&c->http.services, host, strlen(host));
	for (size_t i = 0; i < nodes.n; i++)
		if (dirty_service(c, nodes.v[i]) < 0)
			return -ENOMEM;
	return 0;
}

static int bag_edit(struct bag *bag, const char *key, const struct resource *r, bool add)
{
	if (add)
		return bag_add(bag, key, strlen(key), (void *)r);
	bag_remove(bag, key, strlen(key), r);
	return 0;
}

/* --- VirtualServices */

static bool in_mesh(const struct virtual_service_spec *spec)
{
	return !spec->gateways.n || string_list_has(&spec->gateways, "mesh");
}

static int virtual_service_index(struct compiler *c, const struct resource *r, bool add)
{
	const struct virtual_service_spec *spec = r->spec.virtual_service;
	int rc = 0;

	for (size_t i = 0; !rc && in_mesh(spec) && i < spec->hosts.n; i++) {
		char host[256];
		if (!host_write_out(c, r->ns, spec->hosts.v[i], host))
			continue;
		rc = bag_edit(&c->http.virtual_services, host, r, add);
		if (!rc)
			rc = dirty_host(c, host);
	}
	return rc;
}

int http_on_virtual_service(struct compiler *c, const struct resource *old, const struct resource *new)
{
	c->http.generation++;
	if (old && virtual_service_index(c, old, false) < 0)
		return -ENOMEM;
	return new ? virtual_service_index(c, new, true) : 0;
}

/* --- routes of the Gateway API */

static bool parent_host(const struct compiler *c, const struct resource *r, const struct route_parent *p,
			char host[256])
{
	return !*p->group && strcmp(p->kind, "Service") == 0 && host_write_out(c, p->ns ? p->ns : r->ns, p->name, host);
}

static int route_index(struct compiler *c, const struct resource *r, bool add)
{
	const struct route_parents *parents = r->spec.route_parents;
	int rc = 0;

	for (size_t i = 0; !rc && i < parents->n; i++) {
		char host[256];
		if (!parent_host(c, r, &parents->v[i], host))
			continue;
		bag_remove(&c->http.routes, host, strlen(host), r); /* two parentRefs, of two ports, say */
		rc = add ? bag_edit(&c->http.routes, host, r, true) : 0;
		if (!rc)
			rc = dirty_host(c, host);
	}
	return rc;
}

int http_on_route(struct compiler *c, const struct resource *old, const struct resource *new)
{
	c->http.generation++;
	if (old && route_index(c, old, false) < 0)
		return -ENOMEM;
	return new ? route_index(c, new, true) : 0;
}

int http_on_scope_change(struct compiler *c, const struct resource *old, const struct resource *new)
{
	(void)old, (void)new;
	c->http.generation++;
	return 0;
}

/* What its workloads may call, and take, is theirs. */
int http_on_sidecar(struct compiler *c, const struct resource *old, const struct resource *new)
{
	const char *ns = new ? new->ns : old->ns;

	c->http.generation++;
	return dirty_locals(c, str_eq(ns, c->mesh.root_namespace) ? NULL : ns);
}

int http_index_all(struct compiler *c, bool add)
{
	static const enum resource_kind kinds[] = { KIND_K8S_HTTP_ROUTE, KIND_K8S_GRPC_ROUTE, KIND_K8S_TLS_ROUTE,
						    KIND_K8S_TCP_ROUTE };
	const struct inventory *inv = &c->inventory[KIND_VIRTUAL_SERVICE];
	int rc = 0;

	c->http.generation++;
	for (size_t i = 0; !rc && i < inv->n; i++)
		rc = virtual_service_index(c, inv->v[i], add);
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		inv = &c->inventory[kinds[k]];
		for (size_t i = 0; !rc && i < inv->n; i++)
			rc = route_index(c, inv->v[i], add);
	}
	return rc;
}

bool http_shape_differs(const struct service *a, const struct service *b)
{
	if (!a || !b)
		return a != b;
	if (a->port_count != b->port_count || a->kind != b->kind || a->by_endpoint != b->by_endpoint ||
	    a->any_address != b->any_address || a->external != b->external ||
	    a->export_to_count != b->export_to_count || a->vip_count != b->vip_count)
		return true;
	for (size_t i = 0; i < a->vip_count; i++)
		if (a->vips[i].bits != b->vips[i].bits || !addr_eq(&a->vips[i].addr, &b->vips[i].addr))
			return true;
	for (size_t i = 0; i < a->export_to_count; i++)
		if (!str_eq(a->export_to[i], b->export_to[i]))
			return true;
	for (size_t i = 0; i < a->port_count; i++) {
		const struct service_port *p = &a->ports[i], *q = &b->ports[i];
		if (p->port != q->port || p->proto != q->proto || p->app != q->app || p->l7 != q->l7 ||
		    !str_eq(p->name, q->name))
			return true;
	}
	return false;
}

/* --- who sees what */

static bool exported(const struct string_list *to, const char *own_ns, const char *ns)
{
	if (!to->n || !ns)
		return true;
	for (size_t i = 0; i < to->n; i++) {
		const char *one = to->v[i];
		if (strcmp(one, "*") == 0 || strcmp(one, ns) == 0 || (strcmp(one, ".") == 0 && strcmp(own_ns, ns) == 0))
			return true;
	}
	return false;
}

static const struct resource *sidecar_in(const struct compiler *c, const char *ns, const struct workload *caller)
{
	struct resource_range range = inventory_range(c, KIND_SIDECAR, ns);
	const struct resource *general = NULL;

	for (size_t i = 0; i < range.n; i++) {
		const struct workload_selector *selector = range.v[i]->spec.sidecar->workload_selector;
		if (!selector || !selector->labels.n) {
			general = general ? general : range.v[i];
			continue;
		}
		if (caller && labels_selected(&selector->labels, caller->labels, caller->label_count))
			return range.v[i];
	}
	return general;
}

void http_scope_of(const struct compiler *c, const struct workload *caller, struct http_scope *out)
{
	*out = (struct http_scope){ .c = c, .registry_only = c->mesh.outbound == OUTBOUND_REGISTRY_ONLY };
	if (!caller)
		return;
	out->ns = caller->ns;
	out->caller = caller;
	out->sidecar = sidecar_in(c, caller->ns, caller);
	if (!out->sidecar)
		out->sidecar = sidecar_in(c, c->mesh.root_namespace, NULL);
	const struct sidecar_spec *spec = out->sidecar ? out->sidecar->spec.sidecar : NULL;
	if (spec && spec->outbound_traffic_policy)
		out->registry_only = spec->outbound_traffic_policy->mode == OUTBOUND_MODE_REGISTRY_ONLY;
}

static bool host_covers(const char *pattern, const char *host)
{
	return pattern[0] == '*' ? str_ends(host, pattern + 1) : str_eq(pattern, host);
}

static bool egress_names(const struct http_scope *scope, const char *entry, const char *ns, const char *host)
{
	const char *slash = strchr(entry, '/');
	if (!slash)
		return false;
	size_t len = (size_t)(slash - entry);
	bool own = len == 1 && entry[0] == '.', any = len == 1 && entry[0] == '*';

	if (!any && !(own ? str_eq(ns, scope->ns) : strlen(ns) == len && memcmp(ns, entry, len) == 0))
		return false;
	return host_covers(slash + 1, host);
}

bool http_scope_sees(const struct http_scope *scope, const char *ns, const char *host, uint16_t port)
{
	const struct sidecar_spec *spec = scope->sidecar ? scope->sidecar->spec.sidecar : NULL;

	if (!spec || !spec->egress.n)
		return true;
	for (size_t i = 0; i < spec->egress.n; i++) {
		const struct sidecar_egress *e = &spec->egress.v[i];
		if (e->port && port && e->port->number != port)
			continue;
		for (size_t k = 0; k < e->hosts.n; k++)
			if (egress_names(scope, e->hosts.v[k], ns, host))
				return true;
	}
	return false;
}

/* --- look-ups */

bool http_wider_host(const char *host, const char **at, char out[256])
{
	if (!*at)
		return false;
	if (**at == '*' && !(*at)[1]) {
		*at = NULL;
		return false;
	}
	const char *from = *at == host && host[0] == '*' ? host + 2 : *at;
	const char *dot = strchr(from, '.');
	if (!dot) {
		*at = NULL;
		str_copy(out, 256, "*");
		return true;
	}
	snprintf(out, 256, "*%s", dot);
	*at = dot + 1;
	return true;
}

static bool node_has_port(const struct service_node *node, uint16_t port)
{
	return !port || (node->object && service_port_find(node->object, port, IPPROTO_TCP));
}

static struct service_node *service_of_host(const struct http_scope *scope, const char *host, uint16_t port)
{
	struct bag_items nodes = bag_get(&scope->c->http.services, host, strlen(host));
	struct service_node *best = NULL;

	for (size_t i = 0; i < nodes.n; i++) {
		struct service_node *node = nodes.v[i];
		if (!node->resource || !node->object || !node_has_port(node, port) ||
		    !service_visible_from(node->object, scope->ns) ||
		    !http_scope_sees(scope, node->object->ns, node->hostname, port) ||
		    table_get_str(scope->c->services, node->key) != node)
			continue;
		bool own = str_eq(node->object->ns, scope->ns);
		if (!best || (own && !str_eq(best->object->ns, scope->ns)) ||
		    (own == str_eq(best->object->ns, scope->ns) && strcmp(node->key, best->key) < 0))
			best = node;
	}
	return best;
}

struct service_node *http_service_find(const struct http_scope *scope, const char *host, uint16_t port)
{
	struct service_node *node = service_of_host(scope, host, port);
	char wide[256];

	for (const char *at = host; !node && http_wider_host(host, &at, wide);)
		node = service_of_host(scope, wide, port);
	return node;
}

static const struct resource *virtual_service_of_host(const struct http_scope *scope, const char *host,
						      const struct resource **over)
{
	const struct compiler *c = scope->c;
	struct bag_items items = bag_get(&c->http.virtual_services, host, strlen(host));
	const struct resource *best = NULL;

	for (size_t i = 0; i < items.n; i++) {
		const struct resource *r = items.v[i];
		const struct string_list *to = &r->spec.virtual_service->export_to;
		if (!to->n && c->mesh_config)
			to = &c->mesh_config->default_virtual_service_export_to;
		if (r == best || !exported(to, r->ns, scope->ns) || !http_scope_sees(scope, r->ns, host, 0))
			continue;
		const struct resource *first = !best || strcmp(r->key, best->key) < 0 ? r : best;
		if (over && best)
			*over = first == r ? best : r;
		best = first;
	}
	return best;
}

const struct resource *http_virtual_service(const struct http_scope *scope, const char *host,
					    const struct resource **over)
{
	char wide[256];

	if (over)
		*over = NULL;
	const struct resource *r = virtual_service_of_host(scope, host, over);
	for (const char *at = host; !r && http_wider_host(host, &at, wide);)
		r = virtual_service_of_host(scope, wide, over);
	return r;
}

static int on_resource_cmp(const void *a, const void *b)
{
	return strcmp((*(const struct resource *const *)a)->key, (*(const struct resource *const *)b)->key);
}

bool http_route_attached(const struct compiler *c, const struct resource *r, const struct service *s, uint16_t port)
{
	const struct route_parents *parents = r->spec.route_parents;
	const struct service_port *sp = service_port_find(s, port, IPPROTO_TCP);

	for (size_t i = 0; i < parents->n; i++) {
		const struct route_parent *p = &parents->v[i];
		char host[256];
		if ((p->port && port && p->port != port) || (p->section && sp && !str_eq(p->section, sp->name)))
			continue;
		if (parent_host(c, r, p, host) && str_eq(host, s->hostname))
			return true;
	}
	return false;
}

/* Routes of the service's own namespace are for all callers; those of another for the callers of that one, instead. */
size_t http_routes_of(const struct http_scope *scope, const struct service *s, uint16_t port, enum resource_kind kind,
		      const struct resource **out, size_t cap)
{
	struct bag_items items = bag_get(&scope->c->http.routes, s->hostname, strlen(s->hostname));
	bool consumer = scope->ns && !str_eq(scope->ns, s->ns);
	size_t n = 0;

	for (int pass = consumer ? 0 : 1; pass < 2 && !n; pass++)
		for (size_t i = 0; i < items.n && n < cap; i++) {
			const struct resource *r = items.v[i];
			const char *ns = pass ? s->ns : scope->ns;
			if (r->kind == kind && str_eq(r->ns, ns) && http_route_attached(scope->c, r, s, port))
				out[n++] = r;
		}
	if (n)
		qsort(out, n, sizeof(*out), on_resource_cmp);
	return n;
}
