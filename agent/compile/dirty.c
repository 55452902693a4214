/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/compile/dirty.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/table.h"
#include "agent/compile/build.h"
#include "agent/compile/hosts.h"
#include "agent/compile/inventory.h"
#include "agent/compile/nodes.h"

int queue_add(struct queue *q, void *item)
{
	if (mem_reserve(&q->v, &q->cap, q->n + 1, sizeof(*q->v)) < 0)
		return -ENOMEM;
	q->v[q->n++] = item;
	return 0;
}

void queue_remove(struct queue *q, const void *item)
{
	for (size_t i = 0; i < q->n; i++)
		if (q->v[i] == item) {
			q->v[i] = q->v[--q->n];
			return;
		}
}

void queue_done(struct queue *q)
{
	free(q->v);
	*q = (struct queue){ 0 };
}

int dirty_workload(struct compiler *c, struct workload_node *node)
{
	if (node->dirty)
		return 0;
	if (queue_add(&c->dirty_workloads, node) < 0)
		return -ENOMEM;
	node->dirty = true;
	return 0;
}

int dirty_service(struct compiler *c, struct service_node *node)
{
	if (node->dirty)
		return 0;
	if (queue_add(&c->dirty_services, node) < 0)
		return -ENOMEM;
	node->dirty = true;
	return 0;
}

static int dirty_all_services(struct compiler *c, bool (*wanted)(const struct service_node *node, const void *arg),
			      const void *arg)
{
	struct table_iter it = { 0 };

	while (table_next(c->services, &it))
		for (struct service_node *node = it.value; node; node = node->next)
			if ((!wanted || wanted(node, arg)) && dirty_service(c, node) < 0)
				return -ENOMEM;
	return 0;
}

int dirty_services(struct compiler *c)
{
	return dirty_all_services(c, NULL, NULL);
}

int dirty_everything(struct compiler *c)
{
	struct table_iter it = { 0 };

	while (table_next(c->workloads, &it))
		if (dirty_workload(c, it.value) < 0)
			return -ENOMEM;
	return dirty_services(c);
}

typedef int (*service_fn)(struct compiler *c, struct service_node *node, void *arg);

static int each_watcher(struct compiler *c, const struct addr *a, service_fn fn, void *arg)
{
	struct bag_items nodes = bag_get(&c->by_watch, a->b, sizeof(a->b));
	int rc = 0;

	for (size_t i = 0; !rc && i < nodes.n; i++)
		rc = fn(c, nodes.v[i], arg);
	return rc;
}

static int each_selecting(struct compiler *c, const struct workload *w, service_fn fn, void *arg)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < w->label_count; i++) {
		struct bag_key key;
		bag_key_label(&key, w->ns, w->labels[i].key, w->labels[i].value);
		struct bag_items nodes = bag_get(&c->by_selector, key.bytes, key.len);
		for (size_t k = 0; !rc && k < nodes.n; k++)
			if (labels_selected(service_selector(nodes.v[k]), w->labels, w->label_count))
				rc = fn(c, nodes.v[k], arg);
	}
	return rc;
}

int each_service_of_addr(struct compiler *c, const struct addr *a, service_fn fn, void *arg)
{
	struct bag_items nodes = bag_get(&c->by_addr, a->b, sizeof(a->b));
	int rc = each_watcher(c, a, fn, arg);

	for (size_t i = 0; !rc && i < nodes.n; i++)
		rc = each_selecting(c, ((struct workload_node *)nodes.v[i])->object, fn, arg);
	return rc ? rc : hosts_each_user(c, a, fn, arg);
}

static int on_dirty(struct compiler *c, struct service_node *node, void *arg)
{
	(void)arg;
	return dirty_service(c, node);
}

int dirty_services_of(struct compiler *c, const struct workload *w)
{
	int rc = each_selecting(c, w, on_dirty, NULL);

	for (size_t i = 0; !rc && i < w->addr_count; i++) {
		rc = each_watcher(c, &w->addrs[i], on_dirty, NULL);
		if (!rc)
			rc = hosts_each_user(c, &w->addrs[i], on_dirty, NULL);
	}
	return rc;
}

int dirty_services_of_addr(struct compiler *c, const struct addr *a)
{
	return each_service_of_addr(c, a, on_dirty, NULL);
}

static bool rule_reaches(const struct service_node *node, const void *arg)
{
	const char *wildcard = arg; /* written out */

	return str_ends(node->hostname, wildcard + 1);
}

int dirty_services_of_rule(struct compiler *c, const struct resource *rule)
{
	char host[256];
	if (!host_write_out(c, rule->ns, rule->spec.destination_rule->host, host))
		return 0;

	/* Those of other namespaces too: what one caller's rule asks for may bring the port's connections to the helper. */
	if (host[0] == '*')
		return dirty_all_services(c, rule_reaches, host);
	struct bag_items nodes = bag_get(&c->http.services, host, strlen(host));
	for (size_t i = 0; i < nodes.n; i++)
		if (dirty_service(c, nodes.v[i]) < 0)
			return -ENOMEM;
	return 0;
}

int dirty_namespace(struct compiler *c, const char *ns)
{
	struct resource_range range = inventory_range(c, KIND_WORKLOAD_ENTRY, ns);

	for (size_t i = 0; i < range.n; i++) {
		struct workload_node *node = workload_node_get(c, ns, range.v[i]->name);
		if (node && dirty_workload(c, node) < 0)
			return -ENOMEM;
	}
	return 0;
}

int dirty_locals(struct compiler *c, const char *ns)
{
	for (size_t i = 0; i < c->locals.n; i++) {
		struct workload_node *node = c->locals.v[i];
		if ((!ns || str_eq(node->object->ns, ns)) && dirty_workload(c, node) < 0)
			return -ENOMEM;
	}
	return 0;
}
