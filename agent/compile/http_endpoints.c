/* SPDX-License-Identifier: Apache-2.0 */
/* The endpoints of a cluster: those of the service's port, with what is known of the workloads behind them. Health, weights
 * and priorities are the plan's; a workload with addresses of both families is one endpoint here, as the helper balances
 * requests over workloads, unless the caller has chosen the address. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/str.h"
#include "agent/compile/http_cluster.h"
#include "agent/model/identity.h"
#include "agent/model/workload.h"

enum { HBONE_PORT = 15008 };

/* The entry's own words on an address that is no workload's: labels for subsets, a place. */
static const struct workload_entry_spec *listed(const struct service_node *node, const struct addr *a)
{
	const struct resource *r = node->resource;

	for (size_t i = 0; r->kind == KIND_SERVICE_ENTRY && i < r->spec.service_entry->endpoints.n; i++) {
		const struct workload_entry_spec *e = &r->spec.service_entry->endpoints.v[i];
		if (e->is_ip && addr_eq(&e->ip, a))
			return e;
	}
	return NULL;
}

static bool in_subset(const struct service_node *node, const struct endpoint *e, const struct subset *subset)
{
	const struct workload_entry_spec *entry;

	if (!subset)
		return true;
	if (e->workload)
		return labels_selected(&subset->labels, e->workload->labels, e->workload->label_count);
	entry = listed(node, &e->addr);
	if (!entry)
		return !subset->labels.n;
	for (size_t i = 0; i < subset->labels.n; i++)
		if (!str_eq(string_map_get(&entry->labels, subset->labels.v[i].key), subset->labels.v[i].value))
			return false;
	return true;
}

/* The pods of this node have IPv4 addresses: then an IPv4 address can be reached, and is preferred. */
static bool node_has_v4(const struct compiler *c)
{
	for (size_t i = 0; i < c->locals.n; i++) {
		const struct workload *w = ((const struct workload_node *)c->locals.v[i])->object;
		for (size_t k = 0; k < w->addr_count; k++)
			if (addr_is_v4(&w->addrs[k]))
				return true;
	}
	return !c->locals.n;
}

/* Of a workload's addresses the first of the preferred family; without one, its first. */
static bool is_chosen(const struct endpoint *e, bool v4)
{
	const struct workload *w = e->workload;

	if (!w || w->addr_count < 2)
		return true;
	for (size_t i = 0; i < w->addr_count; i++)
		if (addr_is_v4(&w->addrs[i]) == v4)
			return addr_eq(&w->addrs[i], &e->addr);
	return addr_eq(&w->addrs[0], &e->addr);
}

static bool dup_to(char **out, const char *text)
{
	*out = text && *text ? strdup(text) : NULL;
	return !(text && *text) || *out;
}

static int workload_set(const struct compiler *c, struct cluster_endpoint *out, const struct workload *w)
{
	out->local = workload_is_local(w);
	out->enrolled = w->enrolled;
	/* On one node the kernel attests the caller: no tunnel. */
	if (w->tunnel == TUNNEL_HBONE && !(out->local && c->mesh.same_node == SAME_NODE_ATTEST)) {
		out->tunnel = ENDPOINT_HBONE;
		out->tunnel_addr = (struct addr_port){ out->addr.addr, HBONE_PORT };
	}
	if (w->identity) {
		out->identities = calloc(1, sizeof(*out->identities));
		if (!out->identities || !(out->identities[0] = strdup(w->identity->uri)))
			return -ENOMEM;
		out->identity_count = 1;
	}
	return dup_to(&out->workload, w->owner) && dup_to(&out->ns, w->ns) &&
			       dup_to(&out->principal, w->identity ? w->identity->uri : NULL) &&
			       dup_to(&out->app, workload_label(w, "app")) &&
			       dup_to(&out->version, workload_label(w, "version")) &&
			       dup_to(&out->canonical_name, w->canonical_name) &&
			       dup_to(&out->canonical_revision, w->canonical_revision) &&
			       dup_to(&out->locality, w->locality) ?
		       0 :
		       -ENOMEM;
}

static int endpoint_set(const struct compiler *c, struct cluster_endpoint *out, const struct service_node *node,
			const struct endpoint *e)
{
	const struct workload_entry_spec *entry;

	*out = (struct cluster_endpoint){
		.addr = { e->addr, e->port },
		.weight = e->weight,
		.priority = e->priority,
		.healthy = e->healthy,
	};
	if (e->workload)
		return workload_set(c, out, e->workload);
	entry = listed(node, &e->addr);
	if (entry && !dup_to(&out->locality, entry->locality))
		return -ENOMEM;
	return node->resource->kind == KIND_SERVICE_ENTRY && !dup_to(&out->hostname, node->hostname) ? -ENOMEM : 0;
}

/* A subset may have none of some priority. */
static void priorities_close(struct http_cluster *out)
{
	bool used[256] = { false };
	uint8_t rank[256], next = 0;

	for (size_t i = 0; i < out->endpoint_count; i++)
		used[out->endpoints[i].priority] = true;
	for (size_t i = 0; i < 256; i++) {
		rank[i] = next;
		next = (uint8_t)(next + used[i]);
	}
	for (size_t i = 0; i < out->endpoint_count; i++)
		out->endpoints[i].priority = rank[out->endpoints[i].priority];
}

int http_cluster_endpoints(const struct compiler *c, struct http_cluster *out, const struct service_node *node,
			   const struct service_port *port, const struct subset *subset)
{
	bool v4 = node_has_v4(c), all = out->lb == CLUSTER_PASSTHROUGH; /* callers name the address */

	out->endpoints = calloc(port->endpoint_count + 1, sizeof(*out->endpoints));
	if (!out->endpoints)
		return -ENOMEM;
	for (size_t i = 0; i < port->endpoint_count; i++) {
		const struct endpoint *e = &port->endpoints[i];
		if (!in_subset(node, e, subset) || !(all || is_chosen(e, v4)))
			continue;
		if (endpoint_set(c, &out->endpoints[out->endpoint_count++], node, e) < 0)
			return -ENOMEM;
	}
	priorities_close(out);
	return 0;
}
