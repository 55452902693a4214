/* SPDX-License-Identifier: Apache-2.0 */
/* A workload: a pod, a WorkloadEntry, or a host process. Immutable, reference-counted. */
#pragma once

#include "agent/base/addr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_filters;
struct identity;
struct policy;
struct telemetry;

struct label {
	char *key, *value;
};

/* Where a workload of this node lives. */
enum workload_place {
	WORKLOAD_REMOTE, /* not on this node */
	WORKLOAD_NETNS,	 /* place_name: name below /run/netns, or a path */
	WORKLOAD_PID,	 /* place_name: a decimal pid whose network namespace it is */
	WORKLOAD_CGROUP, /* place_name: a cgroup2 path; shares the host's network */
};

/* What a connection to it over a wire speaks. */
enum workload_tunnel {
	TUNNEL_NONE,  /* plaintext */
	TUNNEL_HBONE, /* HTTP/2 CONNECT over mTLS on port 15008 */
};

/* What becomes of a pod's connections to what is not known. */
enum outbound_policy {
	OUTBOUND_ALLOW_ANY,
	OUTBOUND_REGISTRY_ONLY,
	OUTBOUND_EGRESS_PROXY, /* TCP goes to the service that its Sidecar names */
};

struct workload {
	unsigned int refs;
	char *uid; /* "shop/frontend-1": namespace/name, unique in a plan */
	char *name, *ns;
	char *node;					   /* NULL: unknown */
	char *locality;					   /* "region/zone/subzone" or "" */
	char *canonical_name, *canonical_revision, *owner; /* Istio's telemetry labels; owner: workload name */
	struct identity *identity;			   /* never NULL */
	struct addr *addrs;
	size_t addr_count;
	struct label *labels; /* sorted by key */
	size_t label_count;
	uint32_t weight; /* >= 1 */
	bool enrolled;	 /* in the mesh: captured, and policed when local */
	enum workload_tunnel tunnel;
	enum workload_place place;
	char *place_name;
	uint32_t network_id;	  /* reserved, 0 */
	struct policy *policy;	  /* inbound policy; set for enrolled workloads of this node, else NULL */
	struct port_range *ports; /* for WORKLOAD_CGROUP: the ports that are its own on the host */
	size_t port_count;
	uint32_t max_connections; /* per pod limit in the helper; 0: default */
	uint8_t outbound_policy;  /* enum outbound_policy; for enrolled workloads of this node */
	/* Above L4; for enrolled workloads of this node, else NULL and none. */
	struct http_filters *inbound, *outbound;
	struct telemetry *telemetry;
	struct inbound_port *l7_ports; /* sorted by port: inbound connections that the helper must see */
	size_t l7_port_count;
	bool l7_other_ports; /* so must those to ports that no service declares: HTTP if the first bytes say so */
};

enum inbound_target {
	INBOUND_SAME,	   /* the address that was called */
	INBOUND_LOOPBACK,  /* 127.0.0.1 */
	INBOUND_LOOPBACK6, /* ::1 */
};

/* A port of the workload as services, or its Sidecar, declare it. */
struct inbound_port {
	uint16_t port; /* 0: what is said of all that are not in the list */
	uint8_t app; /* enum app_protocol; APP_TCP and the like in this list mean: L4 rules alone, never to the helper, but: */
	bool sni;	      /* such a port, and rules ask for the TLS server name of its connections */
	bool helper;	      /* such a port, and only the helper can reach its application */
	uint8_t target;	      /* enum inbound_target: where the application listens */
	uint16_t target_port; /* there; 0: the address and port that were called */
	/* What the application takes at once; 0: no limit */
	uint32_t max_connections, max_pending, max_requests, max_requests_per_connection;
	uint32_t idle_ms; /* of its connections without requests; 0: the default */
};

_Static_assert(sizeof(struct inbound_port) == 28, "compared and hashed as bytes");

struct port_range {
	uint16_t first, last;
};

struct workload *workload_new(void); /* refs 1, zeroed, weight 1; the builder fills it before sharing */
struct workload *workload_ref(struct workload *w);
void workload_unref(struct workload *w);
const char *workload_label(const struct workload *w, const char *key); /* NULL: none */
bool workload_has_addr(const struct workload *w, const struct addr *a);
static inline bool workload_is_local(const struct workload *w)
{
	return w->place != WORKLOAD_REMOTE;
}
