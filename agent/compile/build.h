/* SPDX-License-Identifier: Apache-2.0 */
/* The builders of this folder: each makes one object of the plan from resources and what the compiler knows. They
 * change nothing of the compiler but its pools of addresses and identities. */
#pragma once

#include "agent/compile/rules.h"
#include "agent/compile/state.h"

/* Said once by whoever finds it; only findings.c listens, other callers pass NULL. */
struct notes {
	void (*note)(struct notes *notes, enum finding_severity severity, const struct resource *about,
		     const char *format, ...) __attribute__((format(printf, 4, 5)));
};
#define NOTE(notes, ...)                                                                                               \
	do {                                                                                                           \
		if (notes)                                                                                             \
			(notes)->note((notes), __VA_ARGS__);                                                           \
	} while (0)

int mesh_build(const struct mesh_config_spec *spec, struct mesh_settings *out); /* spec NULL: defaults */

/* --- workload.c */
/* *out NULL (and 0): the entry has no address that can be used. */
int workload_build(struct compiler *c, const struct resource *r, struct workload **out, struct notes *notes);
uint64_t workload_content(const struct workload *w);
bool labels_selected(const struct string_map *selector, const struct label *labels, size_t n);

/* --- policy.c */
int policy_build(const struct compiler *c, const char *ns, const struct label *labels, size_t label_count,
		 struct policy **out, struct notes *notes);
bool policy_same(const struct policy *a, const struct policy *b); /* in everything, the origins too */
/* The rules of one AuthorizationPolicy, appended to *rules. */
struct rule_list {
	struct policy_rule *v;
	size_t n, cap;
};
int authz_rules_build(const struct compiler *c, const struct resource *r, struct rule_list *rules, struct notes *notes);
void rule_list_done(struct rule_list *list);
/* The policy is about workloads of namespace ns with these labels. */
bool authz_selects(const struct compiler *c, const struct resource *r, const char *ns, const struct label *labels,
		   size_t n);

/* A targetRef of r's is a service that has such workloads behind it. */
bool target_selects(const struct compiler *c, const struct resource *r, const struct target_ref *ref, const char *ns,
		    const struct label *labels, size_t n);

/* --- service.c, service_entry.c, endpoints.c, schedule.c, traffic.c */
/* By which DestinationRules a service is built. */
struct rules_asked {
	const struct rule_set *set;
	const char *subset;	    /* whose policy counts; NULL: none's */
	bool plain;		    /* for endpoints alone: no schedules for the kernel */
	const struct label *labels; /* of the caller, as far as they count; their names point into a cluster's name */
	size_t label_count;
};
/* asked NULL: as the plan has it. */
int service_build(struct compiler *c, struct service_node *node, const struct rules_asked *asked, struct service **out,
		  struct notes *notes);
uint64_t service_content(const struct service *s);

struct endpoint_list {
	struct endpoint *v;
	size_t n, cap;
};

/* What a DestinationRule or the mesh says of one port. */
struct traffic {
	enum lb_algorithm lb;
	struct tcp_settings tcp;
	struct outlier_settings outlier;
	bool outlier_set; /* outlierDetection is written: Istio's failover between localities depends on it */
	const struct locality_lb_setting *locality; /* NULL: off */
	bool near_first;	    /* trafficDistribution: by locality, also without outlier detection */
	const struct label *labels; /* of the caller */
	size_t label_count;
};

/* port 0: the service as a whole. */
void traffic_of(const struct compiler *c, const struct rules_asked *asked, uint16_t port, struct traffic *out);
/* "catalog" of namespace shop -> "catalog.shop.svc.cluster.local"; others as they are, lower case. false: too long. */
bool host_write_out(const struct compiler *c, const char *ns, const char *host, char out[256]);

struct vip_family {
	bool v4, v6; /* the service has a VIP of it */
};
/* Orders the endpoints, decides which are healthy and first in line, and builds the schedules. Takes the list over. */
int port_finish(const struct compiler *c, struct service_port *port, struct endpoint_list *endpoints,
		const struct traffic *traffic, struct vip_family vips);

/* The workloads that a selector chooses in a namespace: calls back for each. */
int workloads_selected(const struct compiler *c, const char *ns, const struct string_map *selector,
		       int (*on_workload)(struct workload_node *node, void *arg), void *arg);

/* Keys of the bags. */
struct bag_key {
	size_t len;
	char bytes[1024];
};
void bag_key_label(struct bag_key *key, const char *ns, const char *label, const char *value);
