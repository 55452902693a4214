/* SPDX-License-Identifier: Apache-2.0 */
/* A cluster: where a route's requests go. The endpoints of a service's port (or of a subset), and how they are balanced,
 * limited, watched and spoken to. From Service, ServiceEntry and DestinationRule. Immutable, reference-counted (atomic);
 * an unchanged cluster keeps its id. */
#pragma once

#include "agent/base/addr.h"
#include "agent/model/service.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum cluster_lb {
	CLUSTER_LEAST_REQUEST,
	CLUSTER_ROUND_ROBIN,
	CLUSTER_RANDOM,
	CLUSTER_PASSTHROUGH, /* to the address that the caller used */
	CLUSTER_RING_HASH,
	CLUSTER_MAGLEV,
	CLUSTER_PEAK_EWMA, /* weft.dev/load-balancer: peak-ewma on the DestinationRule */
};

enum cluster_hash { HASH_NONE, HASH_HEADER, HASH_COOKIE, HASH_SOURCE_IP, HASH_QUERY };

enum cluster_protocol {
	CLUSTER_H1,
	CLUSTER_H2,
	CLUSTER_AS_CLIENT, /* useClientProtocol */
};

enum cluster_tls {
	CLUSTER_TLS_AUTO,    /* mesh: HBONE or attested, as the endpoint has it */
	CLUSTER_TLS_DISABLE, /* plaintext to endpoints outside the mesh; between workloads as AUTO */
	CLUSTER_TLS_SIMPLE,
	CLUSTER_TLS_MUTUAL,	  /* certificate from files */
	CLUSTER_TLS_ISTIO_MUTUAL, /* the caller's identity; as AUTO when the endpoint speaks HBONE */
};

struct cluster_endpoint {
	struct addr_port addr;
	uint32_t weight;  /* >= 1; localities' weights are in it */
	uint8_t priority; /* 0 first */
	bool healthy;	  /* health checks and readiness; not outlier detection, which is the helper's own */
	bool local;	  /* a pod of this node */
	bool enrolled;
	enum { ENDPOINT_PLAIN, ENDPOINT_HBONE } tunnel;
	struct addr_port tunnel_addr;
	char **identities; /* SPIFFE URIs, any of which the peer may have */
	size_t identity_count;
	char *hostname; /* DNS name that it stands for (ServiceEntry); NULL: none. For DYNAMIC_DNS: see below */
	/* Istio's labels of the destination; NULL: unknown */
	char *workload, *ns, *principal, *app, *version, *canonical_name, *canonical_revision;
	char *locality;
};

struct cluster_outlier { /* zero: off */
	uint32_t consecutive_5xx, consecutive_gateway, consecutive_local;
	bool split_local;
	uint32_t interval_ms, base_ejection_ms;
	uint8_t max_ejection_percent, min_health_percent;
};

struct http_cluster {
	unsigned int refs;
	uint64_t id; /* content hash */
	char *name; /* Istio's: "outbound|80|v1|catalog.shop.svc.cluster.local", and behind the subset, from "@" on, by which
		      * DestinationRules it is made when not by those that all callers have */
	char *shown; /* without that; NULL, or the same as name: there is none */
	char *host, *service, *ns, *subset;
	uint16_t port;
	enum app_protocol app;
	enum cluster_protocol protocol;
	enum cluster_lb lb;
	uint16_t original_port; /* with PASSTHROUGH: in place of the port that was called; 0: none */
	enum cluster_hash hash;
	char *hash_key; /* header, cookie or parameter */
	char *cookie_path;
	uint32_t cookie_ttl_s; /* with cookie_make */
	bool cookie_make;
	char *cookie_attributes; /* "; SameSite=Strict", or NULL */
	uint32_t ring_size_min;	 /* 1024 */
	uint32_t maglev_size;	 /* prime; 65537 */
	uint32_t warmup_ms;	 /* slow start; 0: off */
	uint32_t warmup_min_percent;
	double warmup_aggression;
	struct tcp_settings tcp;
	uint32_t max_pending, max_requests, max_requests_per_connection, max_retries; /* 0: no limit */
	uint32_t retry_budget_percent, retry_budget_min;			      /* 0: none, max_retries holds */
	uint32_t http_idle_ms; /* of pooled connections; 0: 1 h */
	uint32_t max_concurrent_streams;
	struct cluster_outlier outlier;
	enum cluster_tls tls;
	char *sni;		  /* NULL: the request's host */
	char **subject_alt_names; /* none: the name that was called, unless insecure */
	size_t subject_alt_name_count;
	/* Contents, which the agent has read; "": missing, so that nothing is verified. ca NULL: with `insecure` alone. crl NULL:
	 * nothing is revoked. */
	char *ca_pem, *crl_pem, *chain_pem, *key_pem;
	bool insecure;
	char *proxy_host; /* HTTP proxy through CONNECT: "host:port" of the real target; endpoints are the proxy's */
	uint8_t proxy_protocol; /* 0, 1 or 2 */
	bool dynamic_dns;	/* endpoints come from the request's host: the helper asks for "<name>|<host>" */
	bool external;
	struct cluster_endpoint *endpoints; /* by priority, addr, port */
	size_t endpoint_count;
};

struct http_cluster *http_cluster_new(void); /* refs 1, defaults */
struct http_cluster *http_cluster_ref(struct http_cluster *c);
void http_cluster_unref(struct http_cluster *c);
void http_cluster_seal(struct http_cluster *c); /* sorts endpoints, fills id */
/* "outbound|PORT|SUBSET|HOST", newly allocated. subset NULL or "": none. */
char *http_cluster_name(uint16_t port, const char *subset, const char *host);
const char *http_cluster_shown(const struct http_cluster *c); /* the name that logs and spans have; borrowed */
/* The part of a name that is not shown; len 0: all is. */
const char *http_cluster_qualifier(const char *name, size_t *len);
