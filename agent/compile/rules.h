/* SPDX-License-Identifier: Apache-2.0 */
/* Which DestinationRules are in force for whom. Istio's order: those of the caller's namespace, of the service's, of the root
 * namespace; in each the most specific host. Rules with a workloadSelector are for callers of their own namespace that have
 * its labels; exportTo says for which namespaces the others are. Several for one host are merged: the trafficPolicy of the
 * first that has one, the subsets of all. Pure but for the index. */
#pragma once

#include "agent/compile/state.h"

struct label;
struct service;
struct workload;

/* Names together are in names of clusters, so there is a limit. */
enum { RULE_SET_MAX = 8, RULE_SET_TEXT_MAX = 384, RULE_LABELS_MAX = 4 };

/* In the order of merging. Of one namespace. */
struct rule_set {
	const struct resource *v[RULE_SET_MAX];
	size_t n;
};

/* All of zero: nobody in particular, whose view the kernel goes by. It has the rules of the service's namespace and of the
 * root namespace, exported or not, but none with a selector. */
struct rule_caller {
	const char *ns;
	const struct label *labels;
	size_t label_count;
};

int rules_init(struct compiler *c); /* 0 or -ENOMEM; rules_done either way */
void rules_done(struct compiler *c);
int rules_index(struct compiler *c, const struct resource *rule, bool add); /* 0 or -ENOMEM */
int rules_index_all(struct compiler *c, bool add);

void rules_of(const struct compiler *c, const struct rule_caller *caller, const char *service_ns, const char *hostname,
	      struct rule_set *out);
bool rules_same(const struct rule_set *a, const struct rule_set *b);
const struct traffic_policy *rules_policy(const struct rule_set *set); /* NULL: none says anything */
/* The rules that are in force for some callers only: calls back until fn returns true; so does this then. */
bool rules_of_others(const struct compiler *c, const char *service_ns, const char *hostname,
		     bool (*fn)(const struct rule_set *one, void *arg), void *arg);
/* The rule is for namespace ns. */
bool rule_exported(const struct compiler *c, const struct resource *rule, const char *ns);

/* The name of a cluster as it is for a caller: Istio's, with "@NS/RULE,RULE" behind the subset where the rules are not those
 * that nobody in particular has ("@" alone: none are), and ";LABEL=VALUE" of the caller where failoverPriority compares it
 * ("@*;LABEL=VALUE": with the rules that all have). Newly allocated, or NULL. */
char *rules_cluster_name(const struct compiler *c, const struct workload *caller, const struct service *s,
			 uint16_t port, const char *subset, const char *host);
/* The rules that are named so ("@" not included), as far as they are there and for the host; if they were and none is left,
 * those of nobody in particular, as whoever asks has not yet been told. */
void rules_named(const struct compiler *c, const char *text, const char *service_ns, const char *hostname,
		 struct rule_set *out);

/* The labels in such a text, which is cut up for it. Returns how many. */
size_t rules_named_labels(char *text, struct label out[RULE_LABELS_MAX]);
