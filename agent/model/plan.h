/* SPDX-License-Identifier: Apache-2.0 */
/* The compiled plan: everything that the sinks (kernel, helper, CA, DNS, control) are to bring about for one
 * revision of the configuration on one node. Immutable, reference-counted; arrays are sorted by the key named.
 * Objects that did not change keep their pointer from one plan to the next. */
#pragma once

#include "agent/base/addr.h"
#include "agent/model/identity.h"
#include "agent/model/policy.h"
#include "agent/model/service.h"
#include "agent/model/workload.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum same_node_mode { SAME_NODE_ATTEST, SAME_NODE_MTLS };

enum trace_kind { TRACE_ZIPKIN, TRACE_OTLP_HTTP, TRACE_OTLP_GRPC, TRACE_OTLP_LOGS };

/* Of extensionProviders: where spans go; TRACE_OTLP_LOGS: lines of access logs, by gRPC. */
struct trace_provider {
	char *name, *host;
	char *path; /* of HTTP: "/api/v2/spans" */
	uint16_t port;
	enum trace_kind kind;
};

/* From MeshConfig (Istio's names), with Weft's own below `weft:`. Every field has a default. */
struct mesh_settings {
	char *trust_domain; /* "cluster.local" */
	char **trust_domain_aliases;
	size_t trust_domain_alias_count;
	char *cluster_domain; /* "cluster.local" */
	char *root_namespace; /* "istio-system" */
	enum outbound_policy outbound;
	enum same_node_mode same_node;
	bool auto_allocate_vips; /* for ServiceEntries without addresses */
	uint32_t dns_ttl_s;	 /* of answers that the mesh gives: 30 */
	uint32_t connect_timeout_ms;
	uint32_t workload_cert_ttl_s;	  /* 86400 */
	uint32_t cert_grace_percent;	  /* rotate when less than this share of the life is left: 50 */
	bool rsa_keys;			  /* RSA-2048 instead of ECDSA P-256 */
	uint32_t helper_threads;	  /* 0: one a processor, at most 4 */
	uint32_t max_connections_per_pod; /* in the helper: 65536 */
	uint32_t helper_drain_ms;	  /* how long an old helper carries its connections on: 24 h */
	uint32_t helpers_draining;	  /* at once: 4 */
	uint32_t map_services, map_endpoints, map_workloads, map_connections, map_flows; /* initial map sizes */
	char **ca_certificates; /* PEM texts of further roots */
	size_t ca_certificate_count;
	struct trace_provider *trace_providers;
	size_t trace_provider_count;
};

/* A DNS name that the mesh answers. Lower case, no final dot; a leading "*." is a wildcard. */
struct dns_name {
	char *name;		 /* "catalog.shop.svc.cluster.local"; shorter forms are found by the lookups below */
	struct service *service; /* borrowed from the plan */
	struct addr *addrs;
	size_t addr_count;
};

struct plan {
	unsigned int refs;
	uint64_t revision;
	char *node; /* this node's name */
	struct mesh_settings mesh;
	struct service **services; /* by ns, hostname; unique */
	size_t service_count;
	struct workload **workloads; /* by uid */
	size_t workload_count;
	struct identity **identities; /* by uri: all that workloads have */
	size_t identity_count;
	struct dns_name *names; /* by name */
	size_t name_count;
	/* Indexes, built by plan_seal(); use the lookups. Sorted arrays, so that the next plan's are merged, not rebuilt. */
	struct plan_addr *by_addr; /* by addr, workload uid */
	size_t by_addr_count;
	struct plan_vip *by_vip; /* by range, port, proto, endpoint, service */
	size_t by_vip_count;
	bool sealed;
	/* Set by compile: called at the last unref in place of freeing what the plan points at, which is then shared
	 * with other plans. NULL (a plan built by hand): the plan owns its arrays and names, and a reference on each object. */
	void (*on_release)(void *shared);
	void *shared;
};

struct plan_addr {
	struct addr addr;
	struct workload *workload;
};

/* An address and port that mean a service: its VIPs, and of services by_endpoint the endpoints of those ports that the
 * helper must see. Others that are called at an endpoint's address are balanced by nobody, so they need no entry. */
struct plan_vip {
	struct cidr range; /* longest first, so single addresses come before ranges */
	uint16_t port;	   /* that is called */
	uint16_t service_port;
	uint8_t proto;
	bool endpoint; /* the address is an endpoint's own; VIPs come first */
	bool unheard; /* of services of any_address: a port where the kernel need not bring the helper in. These come last,
			* as one that must be listened to is so whatever others say of the port. */
	struct service *service;
};

struct plan *plan_new(void);	  /* refs 1, mesh with its defaults */
int plan_seal(struct plan *plan); /* sorts, builds indexes; 0 or -ENOMEM */
struct plan *plan_ref(struct plan *plan);
void plan_unref(struct plan *plan);
struct workload *plan_workload_by_addr(const struct plan *plan, const struct addr *a); /* the first by uid */
struct workload *plan_workload_by_uid(const struct plan *plan, const char *uid);
struct identity *plan_identity_by_id(const struct plan *plan, uint32_t id); /* linear */
struct service *plan_service_by_id(const struct plan *plan, uint32_t id);   /* linear */
struct service *plan_service_by_name(const struct plan *plan, const char *ns, const char *hostname);
/* The service that has this port at the VIP: a single address first, then the longest ServiceEntry range that holds it.
 * port 0: any port and protocol. */
struct service *plan_service_by_vip(const struct plan *plan, const struct addr *a, uint16_t port, uint8_t proto);
/* The entry that says so: the first of those with its address, port and protocol. */
const struct plan_vip *plan_vip_find(const struct plan *plan, const struct addr *a, uint16_t port, uint8_t proto);
bool plan_vip_same_key(const struct plan_vip *a, const struct plan_vip *b); /* range, port, proto */
/* The entries of a service, in no order; stops at the first that fn returns not 0 for, and returns that. */
int plan_vips_of(struct service *s, int (*fn)(void *arg, const struct plan_vip *vip), void *arg);
/* A full name ("catalog.shop.svc.cluster.local", a ServiceEntry's host), "name.ns.svc" or "name.ns"; wildcards too.
 * Any case, a final dot is ignored. */
const struct dns_name *plan_dns_lookup(const struct plan *plan, const char *name);
/* As asked by a workload of namespace ns: also a bare "catalog", and only what is exported to ns; of several services
 * with one host that of ns comes first. ns NULL: as plan_dns_lookup. */
const struct dns_name *plan_dns_lookup_from(const struct plan *plan, const char *ns, const char *name);
/* "web-0.web", in any form of the headless service's name: its ready endpoint of that hostname, which is what a StatefulSet's
 * label says, or else the workload's name. NULL: none. Linear in the service's endpoints. */
const struct workload *plan_dns_pod_lookup(const struct plan *plan, const char *ns, const char *name);

int mesh_settings_init(struct mesh_settings *mesh); /* the defaults; 0 or -ENOMEM */
int mesh_settings_copy(struct mesh_settings *to, const struct mesh_settings *from);
void mesh_settings_done(struct mesh_settings *mesh);
int trace_provider_copy(struct trace_provider *to, const struct trace_provider *from); /* 0 or -ENOMEM */
void trace_provider_done(struct trace_provider *p);

/* Orders of the index entries, for those who merge them. */
int plan_addr_cmp(const struct plan_addr *a, const struct plan_addr *b);
int plan_vip_cmp(const struct plan_vip *a, const struct plan_vip *b);
int service_cmp(const struct service *a, const struct service *b);    /* by ns, hostname */
int dns_name_cmp(const struct dns_name *a, const struct dns_name *b); /* by name, service */
