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

/* Everything is borrowed for the call. */
struct compile_input {
	uint64_t revision;
	const char *node;     /* this node's name */
	const char *locality; /* of this node; NULL: that of its workloads */
	const struct compile_host *hosts;
	size_t host_count;
	const struct addr_port *ejected; /* by outlier detection, earliest first */
	size_t ejected_count;
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

/* The strictest outlier detection of the services that have this endpoint; false: none is on. Cheap enough to ask for
 * each connection. */
bool compiler_outlier(const struct compiler *c, const struct addr_port *endpoint, struct outlier_settings *out);

/* The policy of any workload of the last plan, also of one of another node, whose own does not carry it: what that node
 * makes of the same configuration. *out is a new reference. 0 or -ENOMEM. */
int compiler_policy(const struct compiler *c, const struct workload *w, struct policy **out);

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
