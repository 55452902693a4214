/* SPDX-License-Identifier: Apache-2.0 */
/* Resources -> plan. Pure: no I/O and no clock; all that is not configuration comes in struct compile_input. The
 * compiler remembers the last run, so that what did not change costs nothing and keeps its pointers. One thread;
 * plans may be released on any. */
#pragma once

#include "agent/base/addr.h"
#include "agent/config/resource.h"
#include "agent/model/plan.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct compiler;
struct err;
struct http_cluster;
struct http_request_view;
struct http_route;
struct http_vhost;
struct l7_target;

/* Where the resources are: store_next of source/store.h fits. In the order of their keys (strcmp); they must stay as
 * they are for the duration of a run; the compiler takes references on those that it keeps. */
struct compile_source {
	const struct resource *(*next)(const void *arg, enum resource_kind kind, const struct resource *after);
	const void *arg;
};

/* What a host of compiler_hosts() resolved to. No addresses: the name does not exist. */
struct compile_host {
	const char *name;
	const struct addr *addrs;
	size_t addr_count;
};

/* A key set that was fetched for compiler_jwks(). */
struct compile_jwks {
	const char *uri, *keys;
};

/* Everything is borrowed for the call. */
struct compile_input {
	uint64_t revision;
	const char *node;     /* this node's name */
	const char *locality; /* of this node; NULL: that of its workloads */
	const struct compile_host *hosts;
	size_t host_count;
	const struct addr_port *ejected; /* by outlier detection, earliest first */
	size_t ejected_count;
	const struct compile_jwks *jwks; /* those that are there */
	size_t jwks_count;
};

struct compile_stats { /* of the last run: how much was done anew */
	size_t resources_changed;
	size_t workloads_built, policies_built, services_built;
	size_t workloads_replaced, services_replaced; /* their content differed: a new pointer in the plan */
};

int compiler_new(struct compiler **out);
void compiler_free(struct compiler *c); /* plans live on */
/* *out is a sealed plan, the caller's reference. 0 or -ENOMEM: keep the plan in force; the next run starts from nothing.
 * What is wrong with a resource never fails a run. */
int compiler_run(struct compiler *c, const struct compile_source *source, const struct compile_input *in,
		 struct plan **out, struct err *err);
const struct compile_stats *compiler_stats(const struct compiler *c);

/* The names that are to be resolved, for compile_input.hosts of the next run: sorted, unique, borrowed until then. */
const char *const *compiler_hosts(const struct compiler *c, size_t *count);

/* The addresses of key sets that this node's workloads verify tokens with (jwksUri, or an issuer's discovery document, which
 * ends in "/.well-known/openid-configuration"), for compile_input.jwks of the next run: as above. */
struct compile_jwks_want {
	char *uri;
	uint32_t timeout_ms; /* the longest that a rule gives it */
};
const struct compile_jwks_want *compiler_jwks(const struct compiler *c, size_t *count);

/* The strictest outlier detection of the services that have this endpoint; false: none is on. Cheap enough to ask for
 * each connection. */
bool compiler_outlier(const struct compiler *c, const struct addr_port *endpoint, struct outlier_settings *out);

/* The policy of any workload of the last plan, also of one of another node, whose own does not carry it: what that node
 * makes of the same configuration. *out is a new reference. 0 or -ENOMEM. */
int compiler_policy(const struct compiler *c, const struct workload *w, struct policy **out);

/* --- above L4: made when asked for, kept until what they are made of changes. An unchanged answer has the same id. All of
 * the last run; *out is a new reference. 0, -ENOMEM, or as said. */

/* What a call of a workload to an address and port means. host: of the request (with or without a port), or a TLS server
 * name; NULL: not known. A host that the caller sees, and that has the port, decides before the address does. caller NULL:
 * anybody. */
int compiler_target(struct compiler *c, const struct workload *caller, const struct addr_port *original,
		    const char *host, struct l7_target **out);
/* "outbound|80|v1|catalog.shop.svc.cluster.local", the same with "|<host>" behind for a dynamic_dns one, or
 * "PassthroughCluster". -ENOENT: there is no such service, port or subset: requests get 503. */
int compiler_cluster(struct compiler *c, const char *name, struct http_cluster **out);
/* The names of the clusters of all services, with their subsets, sorted; the caller frees each and the array. */
int compiler_cluster_names(struct compiler *c, char ***out, size_t *count);
/* Where a DestinationRule's certificates are read: the file's text, newly allocated, or NULL. Without it, TLS settings with
 * files verify nothing, so connections fail. */
#define COMPILE_SYSTEM_ROOTS "system" /* in place of a path: the roots that this machine trusts; what Istio takes too */
void compiler_set_files(struct compiler *c, char *(*read_file)(void *arg, const char *path), void *arg);
void compiler_files_changed(struct compiler *c); /* clusters are made anew */

/* Why each match of each route of a virtual host takes a request, or not: calls back in order until a route is taken (that
 * one included, with why NULL) or fn returns false. match SIZE_MAX: the route has no match and takes everything. Returns the
 * route that is taken, or NULL. Pure. */
typedef bool (*http_explain_fn)(void *arg, size_t route, size_t match, const char *why);
const struct http_route *compiler_explain_http(const struct http_vhost *v, const struct http_request_view *r,
					       http_explain_fn fn, void *arg);

/* What is odd in the configuration in force: nothing that was refused, but what likely is not meant. */
enum finding_severity { FINDING_INFO, FINDING_WARNING, FINDING_ERROR };

struct finding {
	enum finding_severity severity;
	char *key;    /* "DestinationRule/shop/catalog" */
	char *origin; /* "20-traffic.yaml:1" */
	char *text;   /* what, why, what to do */
};

struct findings {
	struct finding *v; /* by key, text */
	size_t n, cap;
};

/* Looks at everything anew (0.2 s at 50,000 workloads): for people who ask, not for each run. */
int compiler_findings(struct compiler *c, struct findings *out); /* 0 or -ENOMEM */
void findings_done(struct findings *f);
