/* SPDX-License-Identifier: Apache-2.0 */
/* Routes, targets and clusters: what http_*.c share, and what they ask of the rest of this folder. Targets and clusters are
 * made when somebody asks for them and kept until what they are made of changes (state.h: http_state). */
#pragma once

#include "agent/compile/build.h"
#include "agent/model/http.h"
#include "agent/model/l7.h"

/* --- http_index.c: what is looked up by host */

int http_init(struct compiler *c); /* 0 or -ENOMEM; http_done either way */
void http_done(struct compiler *c);
int http_on_virtual_service(struct compiler *c, const struct resource *old, const struct resource *new);
int http_on_route(struct compiler *c, const struct resource *old, const struct resource *new);
int http_on_scope_change(struct compiler *c, const struct resource *old, const struct resource *new);
int http_on_sidecar(struct compiler *c, const struct resource *old, const struct resource *new);
int http_index_all(struct compiler *c, bool add); /* around a change of the cluster's domain. 0 or -ENOMEM */
/* The two differ in more than endpoints and balancing. Either may be NULL. */
bool http_shape_differs(const struct service *a, const struct service *b);

/* Who asks: what its namespace, and its Sidecar, let it see. */
struct http_scope {
	const struct compiler *c;
	const char *ns;			/* NULL: nobody in particular; sees all */
	const struct workload *caller;	/* NULL: likewise */
	const struct resource *sidecar; /* NULL: none */
	bool registry_only;
};
void http_scope_of(const struct compiler *c, const struct workload *caller, struct http_scope *out);
bool http_scope_sees(const struct http_scope *scope, const char *ns, const char *host, uint16_t port);

/* The service that has a host, as seen from there: of the caller's namespace first, then by namespace. NULL: none. Also
 * one behind a wildcard host of a ServiceEntry. */
struct service_node *http_service_find(const struct http_scope *scope, const char *host, uint16_t port);
/* The most specific VirtualService for a host that is in force inside the mesh; the first by name of several. *over, unless
 * NULL, gets one that had to give way, or NULL. */
const struct resource *http_virtual_service(const struct http_scope *scope, const char *host,
					    const struct resource **over);
/* HTTPRoutes, GRPCRoutes, TLSRoutes and TCPRoutes whose parent is the service, of the kind, sorted by key; those of the
 * caller's namespace alone if there are any. Returns how many were put into out (at most cap). */
size_t http_routes_of(const struct http_scope *scope, const struct service *s, uint16_t port, enum resource_kind kind,
		      const struct resource **out, size_t cap);
/* One of the route's parents is the service, all of it or this port. */
bool http_route_attached(const struct compiler *c, const struct resource *r, const struct service *s, uint16_t port);
/* "a.b.c" -> "*.b.c" -> "*.c" -> "*": the next wider wildcard into out; false: no more. */
bool http_wider_host(const char *host, const char **at, char out[256]);

/* --- sidecar.c: what a Sidecar says besides who sees what */

void sidecar_outbound_set(const struct compiler *c, struct workload *w);
/* Inbound: which of its words say anything, and what they do to a port. */
struct connection_pool;
struct inbound_port;
struct sidecar_ingress;
struct sidecar_spec;
bool sidecar_pool_counts(const struct connection_pool *pool); /* NULL is fine */
bool sidecar_ingress_counts(const struct sidecar_spec *spec, const struct sidecar_ingress *in);
void sidecar_target_set(struct inbound_port *p, const struct sidecar_ingress *in);
void sidecar_limits_set(const struct sidecar_spec *spec, struct inbound_port *p);
/* The service that calls to what is not known go to; NULL: none. */
const struct destination *sidecar_egress_proxy(const struct http_scope *scope);
void sidecar_look(const struct compiler *c, const struct resource *r, struct notes *notes);

/* --- http_ports.c */

/* What weft.dev/l7 says, a label or an annotation of a Service or ServiceEntry. */
enum l7_wish { L7_WISH_NONE, L7_WISH_DISABLED, L7_WISH_SNIFF /* what nothing is declared of */, L7_WISH_UNKNOWN };
enum l7_wish http_wish_of(const struct resource *r);
enum l7_mode http_port_l7(const struct compiler *c, const struct service *s, const struct resource *r,
			  const struct service_port *port, const struct rule_set *rules);
/* Fills l7_ports of an enrolled local workload, whose policy and filters stand. 0 or -ENOMEM. */
int http_workload_ports(const struct compiler *c, struct workload *w, const struct resource *r);
/* The one place that says which workloads have HTTP rules on inbound connections. */
bool workload_needs_l7(const struct workload *w);
bool http_locals_care(const struct compiler *c); /* some workload of this node has l7_ports */

/* --- http_virtual_service.c, http_gateway_api.c: documents -> routes */

struct http_routing {
	struct compiler *c;
	const struct http_scope *scope;
	const struct service *service; /* that was called; NULL: none is known */
	uint16_t port;		       /* that was called */
	struct http_route *v;
	size_t n, cap;
	struct l4_route *l4;
	size_t l4_n, l4_cap;
	struct notes *notes;
	bool no_memory;
};
void http_routing_done(struct http_routing *to);
/* strdup that notes a failure; NULL gives NULL. */
char *http_dup(struct http_routing *to, const char *text);
char *http_lower(struct http_routing *to, const char *text);	  /* the same, in lower case */
void *http_alloc(struct http_routing *to, size_t n, size_t size); /* calloc; NULL also for n 0 */
/* A zeroed route at the end, with the defaults of Istio; NULL: no memory. */
struct http_route *http_route_add(struct http_routing *to, const struct resource *r, uint32_t line, const char *name);
/* Drops the last route when its expressions are no good, with a note. */
void http_route_finish(struct http_routing *to, const struct resource *r);
void http_retry_default(struct http_routing *to, struct http_retry *retry);
void http_text_set(struct http_routing *to, struct http_text *out, enum http_text_kind kind, const char *text,
		   bool ignore_case);
/* "outbound|port|subset|host"; says what does not exist. port 0: that of the service when it has one, else what was called. */
char *http_destination_name(struct http_routing *to, const struct resource *r, const char *host, const char *subset,
			    uint16_t port);
void http_default_route(struct http_routing *to, const char *cluster);

void http_virtual_service_routes(struct http_routing *to, const struct resource *r);
void http_virtual_service_l4(struct http_routing *to, const struct resource *r);
/* false: no such route is attached, to is as it was. */
bool http_gateway_api_routes(struct http_routing *to);
bool http_gateway_api_l4(struct http_routing *to);

/* --- http_rule.c: DestinationRules */

/* What is in force for a port, or a subset of it. Members are NULL when nothing is said. */
struct http_rule {
	const struct rule_set *set;
	const struct subset *subset; /* NULL: none asked for, or no such */
	const struct load_balancer *lb;
	const struct connection_pool *pool;
	const struct outlier_detection *outlier;
	const struct client_tls *tls;
	const struct dr_tunnel *tunnel;
	const struct dr_proxy_protocol *proxy_protocol;
	const struct retry_budget *retry_budget;
};
void http_rule_of(const struct rule_set *set, uint16_t port, const char *subset, struct http_rule *out);
/* An annotation of the first rule that has it; NULL: none has. */
const char *http_rule_note(const struct rule_set *set, const char *annotation);

/* --- http_target.c, http_cluster.c: what is in the caches */

void http_cached_target_free(void *entry);
void http_cached_cluster_free(void *entry);
