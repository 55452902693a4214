/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/hash.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/table.h"
#include "agent/compile/build.h"
#include "agent/compile/dirty.h"
#include "agent/compile/hosts.h"
#include "agent/compile/http.h"
#include "agent/compile/nodes.h"

int service_nodes_init(struct compiler *c)
{
	c->services = table_new(NULL);
	c->service_ids = table_new(NULL);
	return c->services && c->service_ids && bag_init(&c->by_resource) == 0 && bag_init(&c->by_selector) == 0 &&
			       bag_init(&c->by_watch) == 0 && rules_init(c) == 0 && vip_pool_init(&c->vips) == 0 ?
		       0 :
		       -ENOMEM;
}

void service_node_free(struct compiler *c, struct service_node *node)
{
	if (node->all_prev)
		node->all_prev->all_next = node->all_next;
	else
		c->all_services = node->all_next;
	if (node->all_next)
		node->all_next->all_prev = node->all_prev;
	if (node->object != node->published)
		service_unref(node->object);
	free(node->key);
	free(node);
}

void service_nodes_done(struct compiler *c)
{
	while (c->all_services)
		service_node_free(c, c->all_services);
	table_free(c->services);
	table_free(c->service_ids);
	bag_done(&c->by_resource);
	bag_done(&c->by_selector);
	bag_done(&c->by_watch);
	rules_done(c);
	vip_pool_done(&c->vips);
	queue_done(&c->dirty_services);
	queue_done(&c->changed_services);
}

/* --- what a resource is indexed by */

const struct string_map *service_selector(const struct service_node *node)
{
	const struct resource *r = node->resource;
	const struct string_map *selector;

	if (r->kind == KIND_SERVICE)
		selector = &r->spec.service->selector;
	else
		selector = r->spec.service_entry->workload_selector ?
				   &r->spec.service_entry->workload_selector->labels :
				   NULL;
	return selector && selector->n ? selector : NULL;
}

struct indexing {
	struct compiler *c;
	struct service_node *node;
	bool add;
};

static int bag_edit(const struct indexing *ix, struct bag *bag, const void *key, size_t len)
{
	if (ix->add)
		return bag_add(bag, key, len, ix->node);
	bag_remove(bag, key, len, ix->node);
	return 0;
}

static int on_host_name(const char *name, void *arg)
{
	const struct indexing *ix = arg;

	return bag_edit(ix, &ix->c->dns_services, name, strlen(name));
}

static int node_index(struct compiler *c, struct service_node *node, bool add)
{
	const struct resource *r = node->resource;
	const struct string_map *selector = service_selector(node);
	struct indexing ix = { c, node, add };
	int rc = bag_edit(&ix, &c->by_resource, &r, sizeof(r));

	if (!rc)
		rc = bag_edit(&ix, &c->http.services, node->hostname, strlen(node->hostname));
	if (!rc && selector) {
		struct bag_key key;
		bag_key_label(&key, r->ns, selector->v[0].key, selector->v[0].value);
		rc = bag_edit(&ix, &c->by_selector, key.bytes, key.len);
	}
	if (r->kind != KIND_SERVICE_ENTRY)
		return rc;
	const struct service_entry_spec *spec = r->spec.service_entry;
	for (size_t i = 0; !rc && i < spec->endpoints.n; i++)
		if (spec->endpoints.v[i].is_ip)
			rc = bag_edit(&ix, &c->by_watch, spec->endpoints.v[i].ip.b, sizeof(spec->endpoints.v[i].ip.b));
	return rc ? rc : service_entry_hosts(r, node->hostname, on_host_name, &ix);
}

/* --- chains of one name */

static int chain_insert(struct compiler *c, struct service_node *node)
{
	struct service_node *head = table_get_str(c->services, node->key), **at = &head;

	while (*at && (*at)->resource && strcmp((*at)->resource->key, node->resource->key) < 0)
		at = &(*at)->next;
	node->next = *at;
	*at = node;
	if (head == node && node->next && dirty_service(c, node->next) < 0) /* it no longer counts */
		return -ENOMEM;
	return table_set_str(c->services, node->key, head);
}

static int chain_remove(struct compiler *c, struct service_node *node)
{
	struct service_node *head = table_get_str(c->services, node->key), **at = &head;

	while (*at && *at != node)
		at = &(*at)->next;
	if (*at)
		*at = node->next;
	node->next = NULL;
	if (!head) {
		table_remove_str(c->services, node->key);
		return 0;
	}
	if (table_set_str(c->services, node->key, head) < 0)
		return -ENOMEM;
	return dirty_service(c, head);
}

static bool node_counts(const struct compiler *c, const struct service_node *node)
{
	return node->resource && table_get_str(c->services, node->key) == node;
}

/* --- resources come and go */

static int node_add(struct compiler *c, const struct resource *r, const char *hostname)
{
	struct service_node *node = calloc(1, sizeof(*node));
	if (!node)
		return -ENOMEM;
	node->all_next = c->all_services;
	if (node->all_next)
		node->all_next->all_prev = node;
	c->all_services = node;
	node->key = str_format("%s/%s", r->ns, hostname);
	if (!node->key)
		return -ENOMEM;
	for (char *p = node->key; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	node->hostname = strchr(node->key, '/') + 1;
	node->resource = r;
	if (chain_insert(c, node) < 0 || node_index(c, node, true) < 0)
		return -ENOMEM;
	return dirty_service(c, node);
}

/* The node lives on without a resource until its absence is published. */
static int node_drop(struct compiler *c, struct service_node *node)
{
	if (node_index(c, node, false) < 0 || chain_remove(c, node) < 0)
		return -ENOMEM;
	node->resource = NULL;
	return dirty_service(c, node);
}

static int node_rebind(struct compiler *c, struct service_node *node, const struct resource *r)
{
	if (node_index(c, node, false) < 0)
		return -ENOMEM;
	node->resource = r;
	return node_index(c, node, true) < 0 ? -ENOMEM : dirty_service(c, node);
}

/* The i-th host of a resource, lower case; false: no more. */
static bool resource_host(const struct compiler *c, const struct resource *r, size_t i, char out[256])
{
	if (r->kind == KIND_SERVICE)
		return i == 0 && r->spec.service->type != SERVICE_TYPE_EXTERNAL_NAME &&
		       host_write_out(c, r->ns, r->name, out);
	if (i >= r->spec.service_entry->hosts.n || !str_copy(out, 256, r->spec.service_entry->hosts.v[i]))
		return false;
	for (char *p = out; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	return true;
}

static struct service_node *node_of(struct bag_items nodes, const char *hostname)
{
	for (size_t i = 0; i < nodes.n; i++)
		if (str_eq(((struct service_node *)nodes.v[i])->hostname, hostname))
			return nodes.v[i];
	return NULL;
}

static bool has_host(const struct compiler *c, const struct resource *r, const char *hostname)
{
	char host[256];

	for (size_t i = 0; r && resource_host(c, r, i, host); i++)
		if (str_eq(host, hostname))
			return true;
	return false;
}

int service_node_change(struct compiler *c, const struct resource *old, const struct resource *new)
{
	char host[256];
	struct bag_items nodes = old ? bag_get(&c->by_resource, &old, sizeof(old)) : (struct bag_items){ 0 };
	AUTO(mem_freep) struct service_node **bound = calloc(nodes.n + 1, sizeof(*bound)); /* the bag changes below */
	if (!bound)
		return -ENOMEM;
	size_t n = nodes.n;
	if (n)
		memcpy(bound, nodes.v, n * sizeof(*bound));

	for (size_t i = 0; i < n; i++) {
		int rc = has_host(c, new, bound[i]->hostname) ? node_rebind(c, bound[i], new) : node_drop(c, bound[i]);
		if (rc < 0)
			return rc;
	}
	for (size_t i = 0; new &&resource_host(c, new, i, host); i++)
		if (!node_of(bag_get(&c->by_resource, &new, sizeof(new)), host) && node_add(c, new, host) < 0)
			return -ENOMEM;
	return 0;
}

int service_nodes_rekey(struct compiler *c, const char *cluster_domain)
{
	const struct inventory *inv = &c->inventory[KIND_SERVICE];
	int rc = rules_index_all(c, false);

	if (!rc)
		rc = http_index_all(c, false);
	for (size_t i = 0; !rc && i < inv->n; i++)
		rc = service_node_change(c, inv->v[i], NULL);
	if (rc < 0)
		return rc;
	char *copy = strdup(cluster_domain);
	if (!copy)
		return -ENOMEM;
	free(c->mesh.cluster_domain);
	c->mesh.cluster_domain = copy;
	for (size_t i = 0; !rc && i < inv->n; i++)
		rc = service_node_change(c, NULL, inv->v[i]);
	if (!rc)
		rc = rules_index_all(c, true);
	return rc ? rc : http_index_all(c, true);
}

/* --- building */

/* Ids are hashes; of two names with one hash the later gets the next free number. */
static int id_claim(struct compiler *c, struct service_node *node)
{
	if (node->id)
		return 0;
	uint32_t id = hash32_id(node->key);
	while (!id || table_get(c->service_ids, &id, sizeof(id)))
		id++;
	if (table_set(c->service_ids, &id, sizeof(id), node) < 0)
		return -ENOMEM;
	node->id = id;
	return 0;
}

static bool has_outlier(const struct service *s)
{
	for (size_t i = 0; s && i < s->port_count; i++)
		if (s->ports[i].outlier.consecutive_failures)
			return true;
	return false;
}

static int object_set(struct compiler *c, struct service_node *node, struct service *new, uint64_t content)
{
	c->outliers += (size_t)has_outlier(new) - (size_t)has_outlier(node->object);
	c->http.generation += http_shape_differs(node->object, new);
	if (node->object != node->published)
		service_unref(node->object);
	node->object = new;
	node->content = content;
	c->stats.services_replaced++;
	if (node->changed)
		return 0;
	if (queue_add(&c->changed_services, node) < 0)
		return -ENOMEM;
	node->changed = true;
	return 0;
}

static int node_build(struct compiler *c, struct service_node *node)
{
	struct service *new = NULL;

	if (!node_counts(c, node)) {
		if (node->id)
			table_remove(c->service_ids, &node->id, sizeof(node->id));
		node->id = 0;
		return node->object ? object_set(c, node, NULL, 0) : 0;
	}
	int rc = service_build(c, node, NULL, &new, NULL);
	if (rc < 0)
		return rc;
	c->stats.services_built++;
	uint64_t content = service_content(new);
	if ((node->object && content == node->content) || id_claim(c, node) < 0) {
		service_unref(new);
		return node->id ? 0 : -ENOMEM;
	}
	new->id = node->id;
	return object_set(c, node, new, content);
}

int service_nodes_build(struct compiler *c)
{
	/* Those that go give their ids and addresses back first. */
	for (int gone = 1; gone >= 0; gone--)
		for (size_t i = 0; i < c->dirty_services.n; i++) {
			struct service_node *node = c->dirty_services.v[i];
			if (node_counts(c, node) == gone)
				continue;
			if (gone && !table_get_str(c->services, node->key))
				vip_pool_release(&c->vips, node->key);
			int rc = node_build(c, node);
			if (rc < 0)
				return rc;
		}
	for (size_t i = 0; i < c->dirty_services.n; i++) {
		struct service_node *node = c->dirty_services.v[i];
		node->dirty = false;
		if (!node->resource && !node->changed && !node->published)
			service_node_free(c, node);
	}
	c->dirty_services.n = 0;
	return 0;
}
