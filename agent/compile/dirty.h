/* SPDX-License-Identifier: Apache-2.0 */
/* What a change reaches: marks for the next build. All return 0 or -ENOMEM. */
#pragma once

#include "agent/base/addr.h"

struct compiler;
struct resource;
struct service_node;
struct workload;
struct workload_node;

int dirty_workload(struct compiler *c, struct workload_node *node);
int dirty_service(struct compiler *c, struct service_node *node);
int dirty_services(struct compiler *c); /* all */
int dirty_everything(struct compiler *c);
/* The services that may have this workload among their endpoints. */
int dirty_services_of(struct compiler *c, const struct workload *w);
/* The services that a DestinationRule is for. */
int dirty_services_of_rule(struct compiler *c, const struct resource *rule);
/* The services that may have this address among their endpoints. */
int each_service_of_addr(struct compiler *c, const struct addr *a,
			 int (*fn)(struct compiler *c, struct service_node *node, void *arg), void *arg);
int dirty_services_of_addr(struct compiler *c, const struct addr *a);
int dirty_namespace(struct compiler *c, const char *ns); /* its workloads */
/* The workloads of this node, of one namespace or (NULL) all: a policy changed. */
int dirty_locals(struct compiler *c, const char *ns);
