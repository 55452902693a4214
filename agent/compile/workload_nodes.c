/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/str.h"
#include "agent/base/table.h"
#include "agent/compile/build.h"
#include "agent/compile/dirty.h"
#include "agent/compile/filters.h"
#include "agent/compile/identities.h"
#include "agent/compile/nodes.h"

static void node_free(struct workload_node *node)
{
	if (node->object != node->published)
		workload_unref(node->object);
	free(node->uid);
	free(node);
}

static void on_node_free(void *value)
{
	node_free(value);
}

int workload_nodes_init(struct compiler *c)
{
	c->workloads = table_new(on_node_free);
	return c->workloads && bag_init(&c->by_label) == 0 && bag_init(&c->by_addr) == 0 ? 0 : -ENOMEM;
}

void workload_nodes_done(struct compiler *c)
{
	table_free(c->workloads);
	bag_done(&c->by_label);
	bag_done(&c->by_addr);
	queue_done(&c->locals);
	queue_done(&c->dirty_workloads);
	queue_done(&c->changed_workloads);
}

struct workload_node *workload_node_get(const struct compiler *c, const char *ns, const char *name)
{
	char uid[520];

	snprintf(uid, sizeof(uid), "%s/%s", ns, name);
	return table_get_str(c->workloads, uid);
}

static struct workload_node *node_new(struct compiler *c, const struct resource *r)
{
	struct workload_node *node = calloc(1, sizeof(*node));
	if (!node)
		return NULL;
	node->uid = str_format("%s/%s", r->ns, r->name);
	if (!node->uid || table_set_str(c->workloads, node->uid, node) < 0) {
		node_free(node);
		return NULL;
	}
	return node;
}

/* The name in place of an address, if it has one. */
static const char *dns_name_of(const struct resource *r)
{
	const struct workload_entry_spec *spec = r->spec.workload_entry;

	return spec->is_ip || !spec->address || str_starts(spec->address, "unix:") ? NULL : spec->address;
}

int workload_node_change(struct compiler *c, const struct resource *old, const struct resource *new, bool moved)
{
	const struct resource *any = new ? new : old;
	struct workload_node *node = workload_node_get(c, any->ns, any->name);
	const char *name = old ? dns_name_of(old) : NULL;

	if (!node)
		node = node_new(c, any);
	if (!node)
		return -ENOMEM;
	if (name)
		bag_remove(&c->dns_workloads, name, strlen(name), node);
	name = new ? dns_name_of(new) : NULL;
	if (name && bag_add(&c->dns_workloads, name, strlen(name), node) < 0)
		return -ENOMEM;
	node->resource = new;
	return moved ? 0 : dirty_workload(c, node);
}

/* --- indexes over the objects in force */

static int index_add(struct compiler *c, struct workload_node *node)
{
	const struct workload *w = node->object;

	for (size_t i = 0; i < w->label_count; i++) {
		struct bag_key key;
		bag_key_label(&key, w->ns, w->labels[i].key, w->labels[i].value);
		if (bag_add(&c->by_label, key.bytes, key.len, node) < 0)
			return -ENOMEM;
	}
	for (size_t i = 0; i < w->addr_count; i++)
		if (bag_add(&c->by_addr, w->addrs[i].b, sizeof(w->addrs[i].b), node) < 0)
			return -ENOMEM;
	if (workload_is_local(w) && queue_add(&c->locals, node) < 0)
		return -ENOMEM;
	return identities_count(c, w->identity, 1);
}

static int index_remove(struct compiler *c, struct workload_node *node)
{
	const struct workload *w = node->object;

	for (size_t i = 0; i < w->label_count; i++) {
		struct bag_key key;
		bag_key_label(&key, w->ns, w->labels[i].key, w->labels[i].value);
		bag_remove(&c->by_label, key.bytes, key.len, node);
	}
	for (size_t i = 0; i < w->addr_count; i++)
		bag_remove(&c->by_addr, w->addrs[i].b, sizeof(w->addrs[i].b), node);
	if (workload_is_local(w))
		queue_remove(&c->locals, node);
	return identities_count(c, w->identity, -1);
}

/* --- building */

static int object_set(struct compiler *c, struct workload_node *node, struct workload *new, uint64_t content)
{
	struct workload *old = node->object;

	if (old && (dirty_services_of(c, old) < 0 || index_remove(c, node) < 0))
		return -ENOMEM;
	if (old != node->published)
		workload_unref(old);
	node->object = new;
	node->content = content;
	if (!node->changed) {
		if (queue_add(&c->changed_workloads, node) < 0)
			return -ENOMEM;
		node->changed = true;
	}
	c->stats.workloads_replaced++;
	return new ? dirty_services_of(c, new) < 0 ? -ENOMEM : index_add(c, node) : 0;
}

static int node_build(struct compiler *c, struct workload_node *node)
{
	struct workload *new = NULL;

	if (!node->resource)
		return node->object ? object_set(c, node, NULL, 0) : 0;
	int rc = workload_build(c, node->resource, &new, NULL);
	if (rc < 0)
		return rc;
	c->stats.workloads_built++;
	if (!new)
		return node->object ? object_set(c, node, NULL, 0) : 0;

	c->stats.policies_built += new->policy != NULL;
	if (node->object && policy_same(new->policy, node->object->policy) && new->policy) {
		policy_unref(new->policy);
		new->policy = policy_ref(node->object->policy);
	}
	if (node->object) {
		filters_keep(&new->inbound, node->object->inbound);
		filters_keep(&new->outbound, node->object->outbound);
	}
	uint64_t content = workload_content(new);
	if (node->object && content == node->content) {
		workload_unref(new);
		return 0;
	}
	return object_set(c, node, new, content);
}

int workload_nodes_build(struct compiler *c)
{
	for (size_t i = 0; i < c->dirty_workloads.n; i++) {
		struct workload_node *node = c->dirty_workloads.v[i];
		int rc = node_build(c, node);
		if (rc < 0)
			return rc;
		node->dirty = false;
		/* Gone before it was ever published. */
		if (!node->resource && !node->changed && !node->published)
			table_remove_str(c->workloads, node->uid);
	}
	c->dirty_workloads.n = 0;
	return 0;
}
