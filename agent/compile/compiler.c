/* SPDX-License-Identifier: Apache-2.0 */
/* A run: what is different in the resources and in the rest of the input marks nodes dirty; dirty workloads are built,
 * which marks services; dirty services are built; an object whose content is what it was keeps its pointer; the
 * differences are merged into the last plan's arrays. Nothing here walks over all objects when one changed. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/table.h"
#include "agent/compile/build.h"
#include "agent/compile/dirty.h"
#include "agent/compile/filters.h"
#include "agent/compile/hosts.h"
#include "agent/compile/http.h"
#include "agent/compile/http_backend_tls.h"
#include "agent/compile/identities.h"
#include "agent/compile/inventory.h"
#include "agent/compile/nodes.h"
#include "agent/config/kinds_http.h"

static void compiler_done(struct compiler *c)
{
	nodes_retire(c);
	publisher_done(&c->publisher);
	workload_nodes_done(c);
	service_nodes_done(c);
	http_done(c);
	identities_done(c);
	hosts_done(c);
	jwks_done(c);
	table_free(c->namespaces);
	for (size_t i = 0; i < COMPILE_KINDS; i++)
		inventory_done(&c->inventory[i]);
	mesh_settings_done(&c->mesh);
	free(c->ejected);
	free(c->locality);
	free(c->node);
	/* Who reads files is told once. */
	*c = (struct compiler){ .spent = true,
				.http = { .read_file = c->http.read_file, .read_arg = c->http.read_arg } };
}

static int compiler_init(struct compiler *c)
{
	c->namespaces = table_new(NULL);
	c->node = strdup("");
	c->locality = strdup("");
	if (!c->namespaces || !c->node || !c->locality || mesh_settings_init(&c->mesh) < 0 ||
	    publisher_init(&c->publisher) < 0 || identities_init(c) < 0 || workload_nodes_init(c) < 0 ||
	    service_nodes_init(c) < 0 || http_init(c) < 0 || hosts_init(c) < 0) {
		compiler_done(c);
		return -ENOMEM;
	}
	c->spent = false;
	return 0;
}

int compiler_new(struct compiler **out)
{
	struct compiler *c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	if (compiler_init(c) < 0) {
		free(c);
		return -ENOMEM;
	}
	*out = c;
	return 0;
}

void compiler_free(struct compiler *c)
{
	if (!c)
		return;
	compiler_done(c);
	free(c);
}

/* --- what is different in the resources */

/* Only the document's place in its file is another: the decoded spec is the very same. */
static bool only_moved(const struct resource *old, const struct resource *new)
{
	return old && new && old->hash == new->hash && old->spec.any == new->spec.any &&
	       old->labels.v == new->labels.v && old->annotations.v == new->annotations.v;
}

static int on_mesh_change(struct compiler *c, const struct resource *old, const struct resource *new)
{
	struct mesh_settings mesh;

	if (only_moved(old, new))
		return 0;
	c->mesh_config = new ? new->spec.mesh_config : NULL;
	if (mesh_build(c->mesh_config, &mesh) < 0)
		return -ENOMEM;
	if (!str_eq(mesh.cluster_domain, c->mesh.cluster_domain) && service_nodes_rekey(c, mesh.cluster_domain) < 0) {
		mesh_settings_done(&mesh);
		return -ENOMEM;
	}
	mesh_settings_done(&c->mesh);
	c->mesh = mesh;
	c->http.generation++;
	return dirty_everything(c);
}

static int on_namespace_change(struct compiler *c, const struct resource *old, const struct resource *new)
{
	const char *name = new ? new->name : old->name;

	if (new) {
		if (table_set_str(c->namespaces, name, (void *)new) < 0)
			return -ENOMEM;
	} else {
		table_remove_str(c->namespaces, name);
	}
	c->http.generation++;
	return only_moved(old, new) ? 0 : dirty_namespace(c, name);
}

static int on_workload_change(struct compiler *c, const struct resource *old, const struct resource *new)
{
	return workload_node_change(c, old, new, only_moved(old, new));
}

static int on_peer_change(struct compiler *c, const struct resource *old, const struct resource *new)
{
	const char *ns = new ? new->ns : old->ns;

	return dirty_locals(c, str_eq(ns, c->mesh.root_namespace) ? NULL : ns);
}

static bool has_target(const struct resource *r)
{
	return r && (r->spec.authorization_policy->target_ref || r->spec.authorization_policy->target_refs.n);
}

static int on_authz_change(struct compiler *c, const struct resource *old, const struct resource *new)
{
	c->target_policies += (size_t)has_target(new) - (size_t)has_target(old);
	return on_peer_change(c, old, new);
}

static bool authn_has_target(const struct resource *r)
{
	return r && (r->spec.request_authentication->target_ref || r->spec.request_authentication->target_refs.n);
}

static int on_authn_change(struct compiler *c, const struct resource *old, const struct resource *new)
{
	c->target_policies += (size_t)authn_has_target(new) - (size_t)authn_has_target(old);
	return on_peer_change(c, old, new);
}

/* Policies may name a service as their target, and a service's ports say which of a workload speak HTTP. */
static int on_service_change(struct compiler *c, const struct resource *old, const struct resource *new)
{
	/* A service says where it is written, so it is built also when that is all that is new. */
	if (!only_moved(old, new) && (c->target_policies || http_locals_care(c)) &&
	    dirty_locals(c, new ? new->ns : old->ns) < 0)
		return -ENOMEM;
	return service_node_change(c, old, new);
}

static int on_rule_change(struct compiler *c, const struct resource *old, const struct resource *new)
{
	bool moved = only_moved(old, new);

	c->http.generation++;
	if (old && (rules_index(c, old, false) < 0 || (!moved && dirty_services_of_rule(c, old) < 0)))
		return -ENOMEM;
	if (new && (rules_index(c, new, true) < 0 || (!moved && dirty_services_of_rule(c, new) < 0)))
		return -ENOMEM;
	return 0;
}

static int resources_sync(struct compiler *c, const struct compile_source *source)
{
	/* The mesh's names first: the others' keys are made with them. */
	static const struct {
		enum resource_kind kind;
		int (*on_change)(struct compiler *c, const struct resource *old, const struct resource *new);
	} kinds[] = {
		{ KIND_MESH_CONFIG, on_mesh_change },
		{ KIND_NAMESPACE, on_namespace_change },
		{ KIND_WORKLOAD_ENTRY, on_workload_change },
		{ KIND_SERVICE, on_service_change },
		{ KIND_SERVICE_ENTRY, on_service_change },
		{ KIND_PEER_AUTHENTICATION, on_peer_change },
		{ KIND_AUTHORIZATION_POLICY, on_authz_change },
		{ KIND_DESTINATION_RULE, on_rule_change },
		{ KIND_REQUEST_AUTHENTICATION, on_authn_change },
		{ KIND_TELEMETRY, on_peer_change },
		{ KIND_ENVOY_FILTER, on_peer_change },
		{ KIND_VIRTUAL_SERVICE, http_on_virtual_service },
		{ KIND_SIDECAR, http_on_sidecar },
		{ KIND_K8S_HTTP_ROUTE, http_on_route },
		{ KIND_K8S_GRPC_ROUTE, http_on_route },
		{ KIND_K8S_TLS_ROUTE, http_on_route },
		{ KIND_K8S_TCP_ROUTE, http_on_route },
		{ KIND_K8S_REFERENCE_GRANT, http_on_scope_change },
		{ KIND_K8S_BACKEND_TLS_POLICY, http_on_backend_tls },
		{ KIND_SECRET, http_on_scope_change },
		{ KIND_CONFIG_MAP, http_on_scope_change },
	};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (inventory_sync(c, kinds[i].kind, source, kinds[i].on_change) < 0)
			return -ENOMEM;
	return 0;
}

/* --- what is different in the rest */

static int node_sync(struct compiler *c, const char *name)
{
	if (str_eq(c->node, name))
		return 0;
	char *copy = strdup(name);
	if (!copy)
		return -ENOMEM;
	free(c->node);
	c->node = copy;
	return dirty_everything(c);
}

static bool has_ejected(const struct addr_port *list, size_t n, const struct addr_port *one)
{
	for (size_t i = 0; i < n; i++)
		if (addr_port_eq(&list[i], one))
			return true;
	return false;
}

static int ejected_sync(struct compiler *c, const struct compile_input *in)
{
	struct addr_port *copy = calloc(in->ejected_count + 1, sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	if (in->ejected_count)
		memcpy(copy, in->ejected, in->ejected_count * sizeof(*copy));

	int rc = 0;
	for (size_t i = 0; !rc && i < in->ejected_count; i++)
		if (!has_ejected(c->ejected, c->ejected_count, &copy[i]))
			rc = dirty_services_of_addr(c, &copy[i].addr);
	for (size_t i = 0; !rc && i < c->ejected_count; i++)
		if (!has_ejected(copy, in->ejected_count, &c->ejected[i]))
			rc = dirty_services_of_addr(c, &c->ejected[i].addr);
	free(c->ejected);
	c->ejected = copy;
	c->ejected_count = in->ejected_count;
	return rc;
}

/* The node's locality is that of its workloads: of the first by name, should they differ. */
static int locality_sync(struct compiler *c, const struct compile_input *in)
{
	const char *locality = in->locality;
	const char *first = NULL;

	for (size_t i = 0; !in->locality && i < c->locals.n; i++) {
		const struct workload *w = ((struct workload_node *)c->locals.v[i])->object;
		if (!*w->locality || (first && strcmp(first, w->uid) < 0))
			continue;
		first = w->uid;
		locality = w->locality;
	}
	if (!locality)
		locality = "";
	if (str_eq(c->locality, locality))
		return 0;
	char *copy = strdup(locality);
	if (!copy)
		return -ENOMEM;
	free(c->locality);
	c->locality = copy;
	return dirty_services(c);
}

/* --- the run */

static int build(struct compiler *c, const struct compile_source *source, const struct compile_input *in)
{
	/* In this order: each step marks what the later ones do. */
	if (node_sync(c, in->node) < 0 || resources_sync(c, source) < 0 || hosts_update(c, in) < 0 ||
	    jwks_update(c, in) < 0 || workload_nodes_build(c) < 0 || jwks_wanted_update(c) < 0 ||
	    ejected_sync(c, in) < 0 || locality_sync(c, in) < 0 || service_nodes_build(c) < 0)
		return -ENOMEM;
	return c->stats.resources_changed ? hosts_wanted_update(c) : 0;
}

static int publish(struct compiler *c, const struct compile_input *in, struct plan **out)
{
	struct plan *plan = plan_new();
	if (!plan)
		return -ENOMEM;

	mesh_settings_done(&plan->mesh);
	plan->revision = in->revision;
	plan->node = strdup(in->node);
	publisher_begin(&c->publisher);
	if (!plan->node || mesh_settings_copy(&plan->mesh, &c->mesh) < 0 || nodes_publish(c) < 0 ||
	    publisher_commit(&c->publisher, plan) < 0) {
		plan_unref(plan);
		return -ENOMEM;
	}
	nodes_committed(c);
	*out = plan;
	return 0;
}

int compiler_run(struct compiler *c, const struct compile_source *source, const struct compile_input *in,
		 struct plan **out, struct err *err)
{
	if (c->spent) {
		compiler_done(c);
		if (compiler_init(c) < 0)
			return err_set(err, -ENOMEM, "compile: out of memory; the last plan stays");
	}

	c->stats = (struct compile_stats){ 0 };
	if (build(c, source, in) < 0 || publish(c, in, out) < 0) {
		c->spent = true;
		return err_set(err, -ENOMEM, "compile: out of memory with %zu changed resources; the last plan stays",
			       c->stats.resources_changed);
	}
	return 0;
}

const struct compile_stats *compiler_stats(const struct compiler *c)
{
	return &c->stats;
}

/* --- outlier detection's question */

struct question {
	const struct addr_port *endpoint;
	struct outlier_settings *out;
};

static void stricter(const struct service_port *port, const struct question *q)
{
	if (!port->outlier.consecutive_failures ||
	    (q->out->consecutive_failures && q->out->consecutive_failures <= port->outlier.consecutive_failures))
		return;
	for (size_t i = 0; i < port->endpoint_count; i++)
		if (port->endpoints[i].port == q->endpoint->port &&
		    addr_eq(&port->endpoints[i].addr, &q->endpoint->addr)) {
			*q->out = port->outlier;
			return;
		}
}

static int on_service(struct compiler *c, struct service_node *node, void *arg)
{
	(void)c;
	for (size_t i = 0; node->object && i < node->object->port_count; i++)
		stricter(&node->object->ports[i], arg);
	return 0;
}

bool compiler_outlier(const struct compiler *c, const struct addr_port *endpoint, struct outlier_settings *out)
{
	struct question q = { endpoint, out };

	*out = (struct outlier_settings){ 0 };
	if (!c->outliers)
		return false;
	each_service_of_addr((struct compiler *)c, &endpoint->addr, on_service, &q);
	return out->consecutive_failures > 0;
}
