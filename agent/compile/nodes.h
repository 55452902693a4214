/* SPDX-License-Identifier: Apache-2.0 */
/* The nodes of workloads and services: made and unmade as resources come and go, built when they are dirty. Functions
 * return 0 or -ENOMEM. */
#pragma once

#include "agent/compile/state.h"

int workload_nodes_init(struct compiler *c);
void workload_nodes_done(struct compiler *c);
struct workload_node *workload_node_get(const struct compiler *c, const char *ns, const char *name);
/* moved: nothing but the document's place is new. */
int workload_node_change(struct compiler *c, const struct resource *old, const struct resource *new, bool moved);
int workload_nodes_build(struct compiler *c); /* all that are dirty; marks the services that follow from them */

int service_nodes_init(struct compiler *c);
void service_nodes_done(struct compiler *c);
int service_node_change(struct compiler *c, const struct resource *old, const struct resource *new);
int service_nodes_rekey(struct compiler *c, const char *cluster_domain); /* the cluster's domain becomes another */
int service_nodes_build(struct compiler *c);
void service_node_free(struct compiler *c, struct service_node *node);
/* Which workloads are its endpoints; NULL: none are selected. */
const struct string_map *service_selector(const struct service_node *node);

/* What the publisher is to know, and after it has committed. */
int nodes_publish(struct compiler *c);
void nodes_committed(struct compiler *c);
/* Hands every published object to the publisher: the compiler goes, and plans may stay. */
void nodes_retire(struct compiler *c);
