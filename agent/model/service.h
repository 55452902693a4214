/* SPDX-License-Identifier: Apache-2.0 */
/* A service as the data path needs it: addresses, ports, and per port an ordered set of endpoints with the
 * balancing that was chosen. Immutable, reference-counted: an unchanged service keeps its pointer from one
 * plan to the next, so that sinks compare pointers. */
#pragma once

#include "agent/base/addr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct workload;

enum lb_algorithm {
	LB_LEAST_REQUEST, /* Istio's default: two random choices, fewer live connections */
	LB_ROUND_ROBIN,
	LB_RANDOM,
	LB_CONSISTENT_HASH, /* on the source address: Maglev */
	LB_PASSTHROUGH,	    /* to the address that the caller used */
};

enum service_kind {
	SERVICE_CLUSTER,  /* core Service with a VIP */
	SERVICE_HEADLESS, /* no VIP: DNS gives the endpoints */
	SERVICE_ENTRY,	  /* ServiceEntry */
};

enum app_protocol { APP_TCP, APP_UDP, APP_HTTP, APP_HTTP2, APP_GRPC, APP_TLS, APP_UNKNOWN };

struct endpoint {
	struct addr addr;
	uint16_t port;
	uint32_t weight; /* >= 1 */
	struct workload
		*workload; /* NULL: outside the mesh; not owned by reference count: plan keeps workloads alive */
	uint8_t priority;  /* 0 first: locality and health preference; only the lowest usable one is put in slots */
	bool healthy;
};

struct tcp_settings {
	uint32_t max_connections;					   /* 0: no limit */
	uint32_t connect_timeout_ms;					   /* default 10000 */
	uint32_t keepalive_time_s, keepalive_interval_s, keepalive_probes; /* 0: the system's */
	uint32_t max_connection_duration_ms;				   /* 0: none */
	uint32_t idle_timeout_ms;					   /* 0: default 1 h */
};

/* Outlier detection on failed connects. consecutive_failures 0: off. */
struct outlier_settings {
	uint32_t consecutive_failures;
	uint32_t interval_ms, base_ejection_ms;
	uint8_t max_ejection_percent, min_health_percent;
};

struct service_port {
	uint16_t port;
	uint8_t proto; /* IPPROTO_TCP or IPPROTO_UDP */
	enum app_protocol app;
	uint8_t l7; /* enum l7_mode (l7.h): not L7_NONE: callers go through the helper's HTTP engine */
	char *name;
	struct endpoint *endpoints; /* all, sorted by (priority, addr, port) */
	size_t endpoint_count;
	/* Indexes into endpoints: the schedules that the kernel indexes by counter, random number or hash.
	 * Weights are in them already (smooth weighted round robin reduced by the gcd; Maglev for hashes).
	 * There is one for each family of the VIP that was called, because a socket reaches one family:
	 *   slots   a caller that used an IPv4 VIP, on an AF_INET socket or v4-mapped on AF_INET6: IPv4 endpoints, and
	 *           those of either family that go through the helper, which has sockets of its own;
	 *   slots6  a caller that used an IPv6 VIP: IPv6 endpoints and those through the helper. When there is none of
	 *           these: the IPv4 endpoints, to be called v4-mapped (an IPV6_V6ONLY socket gets ENETUNREACH).
	 * A schedule is only built when the service has a VIP of the family. Equal contents have equal ids, so both may
	 * share one table. An empty schedule (count 0, id 0) means: no endpoint. */
	uint32_t *slots;
	size_t slot_count; /* 0: no endpoint */
	uint64_t slots_id; /* content hash of the endpoints' addresses and flags in slot order */
	uint32_t *slots6;
	size_t slot6_count;
	uint64_t slots6_id;
	/* Of this port: the service's, or DestinationRule portLevelSettings. The sinks use these. */
	enum lb_algorithm lb;
	uint16_t
		original_port; /* of PASSTHROUGH: goes in place of the port that was called (targetPort); 0: none does */
	struct tcp_settings tcp;
	struct outlier_settings outlier;
};

struct service {
	unsigned int refs;
	uint32_t id;		    /* hash32_id("namespace/hostname"), collision-free in a plan; 0 is none */
	char *name, *ns, *hostname; /* "catalog", "shop", "catalog.shop.svc.cluster.local" */
	enum service_kind kind;
	bool by_endpoint; /* callers use the endpoints' own addresses: headless, or a ServiceEntry that gives no others */
	/* It is called at whatever address its name has outside (resolution NONE without addresses, or where the mesh allocates
	 * none), so the only range of vips is ::/0, for both families: at an address that nothing else is known of, what is said tells who is called. */
	bool any_address;
	struct cidr *vips; /* single addresses as /128; ServiceEntry may have ranges */
	size_t vip_count;
	struct addr *dns_addrs; /* what its name resolves to: single VIPs, or the endpoints when there is none */
	size_t dns_addr_count;
	struct service_port *ports; /* by port, proto */
	size_t port_count;
	enum lb_algorithm lb;
	uint32_t affinity_timeout_s; /* 0: no session affinity */
	struct tcp_settings tcp;
	struct outlier_settings outlier;
	bool external;	  /* MESH_EXTERNAL */
	char **export_to; /* namespaces, "*"; NULL: all. "." is written out as the own namespace, "~" as none: "" */
	size_t export_to_count;
	char *origin; /* "file:line" of the Service or ServiceEntry, for explain */
};

struct service *service_new(void);
struct service *service_ref(struct service *s);
void service_unref(struct service *s);
void service_port_done(struct service_port *port); /* frees what it holds */
const struct service_port *service_port_find(const struct service *s, uint16_t port, uint8_t proto);
bool app_says_host(enum app_protocol app);			    /* its clients name whom they call: HTTP, TLS */
bool service_visible_from(const struct service *s, const char *ns); /* exportTo; ns NULL: anybody */
/* Fills slots_id and slots6_id; called once the schedules stand. */
void service_port_seal(struct service_port *port);
