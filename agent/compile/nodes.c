/* SPDX-License-Identifier: Apache-2.0 */
/* From nodes to the publisher. Each step can be repeated until it is committed: only then do nodes take note. */
#include "agent/compile/nodes.h"

#include <errno.h>

#include "agent/base/table.h"
#include "agent/compile/identities.h"

int nodes_publish(struct compiler *c)
{
	for (size_t i = 0; i < c->changed_workloads.n; i++) {
		const struct workload_node *node = c->changed_workloads.v[i];
		if (node->object != node->published &&
		    publisher_workload(&c->publisher, node->published, node->object) < 0)
			return -ENOMEM;
	}
	for (size_t i = 0; i < c->changed_services.n; i++) {
		const struct service_node *node = c->changed_services.v[i];
		if (node->object != node->published &&
		    publisher_service(&c->publisher, node->published, node->object) < 0)
			return -ENOMEM;
	}
	return identities_publish(c);
}

void nodes_committed(struct compiler *c)
{
	for (size_t i = 0; i < c->changed_workloads.n; i++) {
		struct workload_node *node = c->changed_workloads.v[i];
		node->published = node->object;
		node->changed = false;
		if (!node->resource)
			table_remove_str(c->workloads, node->uid);
	}
	c->changed_workloads.n = 0;
	for (size_t i = 0; i < c->changed_services.n; i++) {
		struct service_node *node = c->changed_services.v[i];
		node->published = node->object;
		node->changed = false;
		if (!node->resource)
			service_node_free(c, node);
	}
	c->changed_services.n = 0;
	identities_committed(c);
}

void nodes_retire(struct compiler *c)
{
	struct table_iter it = { 0 };

	publisher_begin(&c->publisher);
	while (c->workloads && table_next(c->workloads, &it)) {
		struct workload_node *node = it.value;
		if (node->published)
			publisher_retire_workload(&c->publisher, node->published);
	}
	for (struct service_node *node = c->all_services; node; node = node->all_next)
		if (node->published)
			publisher_retire_service(&c->publisher, node->published);
	publisher_retire_end(&c->publisher);
}
