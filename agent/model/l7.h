/* SPDX-License-Identifier: Apache-2.0 */
/* What a call to an address and port means to one pod, above L4. The kernel brings such connections to the helper without
 * choosing an endpoint; the helper asks the agent once (pod, address, host) and keeps the answer, which the agent pushes
 * again when it changes. Immutable, reference-counted (atomic). */
#pragma once

#include "agent/model/http.h"

#include <stddef.h>
#include <stdint.h>

enum l7_mode {
	L7_NONE,  /* the kernel balances it; never in an answer */
	L7_HTTP,  /* declared: HTTP/1 or HTTP/2, told apart by the first bytes */
	L7_SNIFF, /* HTTP if the client's first bytes say so; server-first protocols are not delayed */
	L7_TCP,	  /* weighted or SNI routes of a VirtualService: bytes are relayed to the cluster chosen */
};

/* A TCP or TLS route. In order; the first that matches is taken, a cluster by weight. */
struct l4_route {
	char **sni_hosts; /* "a.example.com", "*.example.com"; none: any, TLS or not */
	size_t sni_host_count;
	struct cidr *destinations; /* none: any */
	size_t destination_count;
	struct http_destination *clusters;
	size_t cluster_count;
	uint32_t total_weight;
	char *origin;
};

struct l7_target {
	unsigned int refs;
	uint64_t id; /* content hash */
	enum l7_mode mode;
	char *service;		  /* "shop/catalog.shop.svc.cluster.local" */
	struct http_vhost *vhost; /* HTTP and SNIFF; NULL: requests get 404 with flag NR */
	struct l4_route *l4;	  /* what is not HTTP */
	size_t l4_count;
	char *default_cluster; /* when no l4_route matches; NULL: refused */
	bool by_name; /* the address says nothing: TLS is what the target of its server name says, as a request is of its host */
	bool registry_only; /* hosts that are not known are refused (502, as BlackHoleCluster) rather than passed through */
};

struct l7_target *l7_target_new(void);
struct l7_target *l7_target_ref(struct l7_target *t);
void l7_target_unref(struct l7_target *t);
void l4_route_done(struct l4_route *route); /* frees what it holds */
void l7_target_seal(struct l7_target *t);   /* fills id; the vhost is sealed */
