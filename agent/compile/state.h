/* SPDX-License-Identifier: Apache-2.0 */
/* What the compiler remembers between runs; for the files of this folder only. */
#pragma once

#include "agent/compile/bag.h"
#include "agent/compile/compile.h"
#include "agent/compile/publish.h"
#include "agent/compile/vip.h"
#include "agent/config/kinds.h"

struct table;

enum { COMPILE_KINDS = KIND_K8S_BACKEND_TLS_POLICY + 1 }; /* the kinds that plans are made of come first in the enum */

/* The resources of the last run, by key; a reference each. */
struct inventory {
	const struct resource **v;
	size_t n, cap;
};

/* A list of pointers that is emptied at once. */
struct queue {
	void **v;
	size_t n, cap;
};

struct workload_node {
	const struct resource *resource; /* NULL: deleted; the node goes when that is published */
	char *uid;
	struct workload *object;    /* the present one; NULL: none (unusable or deleted) */
	struct workload *published; /* in the last plan. One reference when it is `object`, else one each */
	uint64_t content;
	bool dirty, changed, indexed;
};

/* A host of a Service or ServiceEntry. Those with the same namespace and host name are chained by resource key; the
 * first counts, the others are found odd. */
struct service_node {
	const struct resource *resource; /* NULL: deleted */
	char *key;			 /* "namespace/hostname" */
	const char *hostname;		 /* in key; lower case */
	struct service_node *next;
	struct service_node *all_prev, *all_next; /* of all nodes, dropped ones too */
	struct service *object, *published;	  /* as above */
	uint64_t content;
	uint32_t id;
	bool dirty, changed;
};

/* What http_*.c remember. */
struct http_state {
	struct bag services;	     /* host name -> service_nodes */
	struct bag virtual_services; /* host, written out -> VirtualServices of the mesh */
	struct bag routes;	     /* the host name of the parent Service -> HTTPRoutes and the like */
	struct table *targets, *clusters;
	struct table *dynamic; /* names behind wildcards that requests asked for */
	uint64_t generation;   /* of all that targets and clusters are made of but the services' endpoints */
	char *(*read_file)(void *arg, const char *path);
	void *read_arg;
};

/* Key sets for tokens: jwks.c. */
struct jwks_state {
	struct table *keys;		  /* uri -> text; NULL: none was ever there */
	struct compile_jwks_want *wanted; /* by uri */
	size_t wanted_count;
};

struct compiler {
	struct mesh_settings mesh;
	const struct mesh_config_spec *mesh_config; /* NULL: defaults */
	char *node, *locality;
	struct inventory inventory[COMPILE_KINDS];
	struct table *namespaces; /* name -> resource */

	struct table *workloads; /* "ns/name" -> workload_node */
	struct bag by_label;	 /* ns, label, value -> workload_nodes */
	struct bag by_addr;	 /* addr -> workload_nodes */
	struct queue locals;	 /* workload_nodes whose object is of this node, unordered */
	struct table *identities, *identity_ids;
	struct queue changed_identities;

	struct table *services; /* "ns/hostname" -> service_node, the first of the chain */
	struct service_node *all_services;
	struct bag by_resource;	  /* address of a resource -> its service_nodes */
	struct bag by_selector;	  /* ns, first label and value of the selector -> service_nodes */
	struct bag by_watch;	  /* addr of an endpoint that a ServiceEntry lists -> service_nodes */
	struct bag rules;	  /* ns, DestinationRule host, written out -> resources, by key */
	struct bag rules_by_host; /* the host alone -> the same */
	struct table *service_ids;
	struct vip_pool vips;
	struct http_state http;

	struct jwks_state jwks;
	struct bag dns_services, dns_workloads; /* name -> nodes that need it resolved */
	struct table *hosts;			/* name -> struct resolved */
	struct bag by_resolved;			/* addr -> those that have it */
	char **wanted;
	size_t wanted_count;

	struct addr_port *ejected;
	size_t ejected_count;

	struct queue dirty_workloads, dirty_services, changed_workloads, changed_services;
	struct publisher publisher;
	struct compile_stats stats;
	size_t outliers;	/* services with outlier detection */
	size_t target_policies; /* AuthorizationPolicies that name a service as their target */
	bool spent;		/* a run failed half-way */
};

int queue_add(struct queue *q, void *item); /* 0 or -ENOMEM */
void queue_remove(struct queue *q, const void *item);
void queue_done(struct queue *q);
