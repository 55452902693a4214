/* SPDX-License-Identifier: Apache-2.0 */
/* What is odd though valid. The builders say some of it while they build, so everything is built once more with
 * somebody listening; what concerns several resources is looked for here. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/table.h"
#include "agent/compile/build.h"
#include "agent/compile/filters.h"
#include "agent/compile/http_backend_tls.h"
#include "agent/compile/http_findings.h"
#include "agent/compile/http_tls.h"
#include "agent/compile/inventory.h"
#include "agent/compile/nodes.h"
#include "agent/compile/unused.h"
#include "agent/config/kinds_http.h"
#include "agent/model/l7.h"

struct listener {
	struct notes notes; /* first: `note` gets its address */
	struct findings *out;
	bool no_memory;
};

static void finding_done(struct finding *f)
{
	free(f->key);
	free(f->origin);
	free(f->text);
}

void findings_done(struct findings *f)
{
	for (size_t i = 0; i < f->n; i++)
		finding_done(&f->v[i]);
	free(f->v);
	*f = (struct findings){ 0 };
}

static __attribute__((format(printf, 4, 5))) void on_note(struct notes *notes, enum finding_severity severity,
							  const struct resource *about, const char *format, ...)
{
	struct listener *l = container_of(notes, struct listener, notes);
	struct finding f = { .severity = severity, .key = strdup(about->key), .origin = strdup(about->origin) };
	va_list args;

	va_start(args, format);
	if (vasprintf(&f.text, format, args) < 0)
		f.text = NULL;
	va_end(args);
	if (!f.key || !f.origin || !f.text ||
	    mem_reserve(&l->out->v, &l->out->cap, l->out->n + 1, sizeof(*l->out->v)) < 0) {
		finding_done(&f);
		l->no_memory = true;
		return;
	}
	l->out->v[l->out->n++] = f;
}

/* --- workloads */

static int on_node_count(struct workload_node *node, void *arg)
{
	(void)node;
	++*(size_t *)arg;
	return 0;
}

static bool selects_any(const struct compiler *c, const char *ns, const struct string_map *selector)
{
	size_t n = 0;
	struct table_iter it = { 0 };

	if (ns) {
		workloads_selected(c, ns, selector, on_node_count, &n);
		return n > 0;
	}
	while (table_next(c->workloads, &it)) {
		const struct workload *w = ((struct workload_node *)it.value)->object;
		if (w && labels_selected(selector, w->labels, w->label_count))
			return true;
	}
	return false;
}

static int workloads_look(struct compiler *c, struct notes *notes)
{
	struct table_iter it = { 0 };

	while (table_next(c->workloads, &it)) {
		const struct workload_node *node = it.value;
		struct workload *w = NULL;
		if (!node->resource)
			continue;
		if (workload_build(c, node->resource, &w, notes) < 0)
			return -ENOMEM;
		if (w && !w->enrolled && workload_is_local(w))
			NOTE(notes, FINDING_INFO, node->resource,
			     "the workload is on this node and not in the mesh: %s %s has no label "
			     "istio.io/dataplane-mode: ambient",
			     table_get_str(c->namespaces, w->ns) ? "its namespace" :
								   "there is no Namespace document, and",
			     w->ns);
		workload_unref(w);
	}
	return 0;
}

static void addresses_look(const struct compiler *c, struct notes *notes)
{
	struct table_iter it = { 0 };

	while (table_next(c->workloads, &it)) {
		const struct workload_node *node = it.value;
		const struct workload *w = node->object;
		for (size_t i = 0; w && w->place != WORKLOAD_CGROUP && i < w->addr_count; i++) {
			struct bag_items others = bag_get(&c->by_addr, w->addrs[i].b, sizeof(w->addrs[i].b));
			for (size_t k = 0; k < others.n; k++) {
				const struct workload_node *other = others.v[k];
				char text[ADDR_TEXT_MAX];
				if (other->object->place != WORKLOAD_CGROUP && strcmp(other->uid, node->uid) < 0)
					NOTE(notes, FINDING_ERROR, node->resource,
					     "the address %s is also that of %s, which is taken for its owner",
					     addr_text(&w->addrs[i], text), other->resource->key);
			}
		}
	}
}

/* --- services */

static void endpoints_look(const struct service_node *node, struct notes *notes)
{
	const struct service *s = node->object;
	size_t n = 0;

	for (size_t i = 0; i < s->port_count; i++)
		n += s->ports[i].endpoint_count;
	if (n || !s->port_count || s->ports[0].lb == LB_PASSTHROUGH)
		return;
	if (service_selector(node))
		NOTE(notes, FINDING_WARNING, node->resource, "%s: the selector selects no workload of namespace %s",
		     s->hostname, s->ns);
	else
		NOTE(notes, FINDING_WARNING, node->resource, "%s: there is no endpoint", s->hostname);
}

static int services_look(struct compiler *c, struct notes *notes)
{
	struct table_iter it = { 0 };

	while (table_next(c->services, &it)) {
		struct service_node *node = it.value;
		struct service *s = NULL;
		for (const struct service_node *rival = node->next; rival; rival = rival->next)
			NOTE(notes, FINDING_WARNING, rival->resource, "the host %s is ignored: %s has it already",
			     rival->hostname, node->resource->key);
		if (service_build(c, node, NULL, &s, notes) < 0)
			return -ENOMEM;
		service_unref(s);
		if (node->object)
			endpoints_look(node, notes);
	}

	const struct inventory *inv = &c->inventory[KIND_SERVICE];
	for (size_t i = 0; i < inv->n; i++)
		if (inv->v[i]->spec.service->type == SERVICE_TYPE_EXTERNAL_NAME)
			NOTE(notes, FINDING_WARNING, inv->v[i],
			     "type ExternalName is not supported: use a ServiceEntry with resolution DNS");
	return 0;
}

static const struct resource *resource_of(const struct compiler *c, const struct service *s)
{
	char key[640];

	snprintf(key, sizeof(key), "%s/%s", s->ns, s->hostname);
	const struct service_node *node = table_get_str(c->services, key);
	return node ? node->resource : NULL;
}

static void vips_look(const struct compiler *c, struct notes *notes)
{
	size_t n;
	const struct plan_vip *v = publisher_vips(&c->publisher, &n);

	for (size_t i = 1; i < n; i++) {
		const struct plan_vip *a = &v[i - 1], *b = &v[i];
		char text[CIDR_TEXT_MAX];
		const struct resource *about = resource_of(c, b->service);
		/* An endpoint may belong to many services: the request's host says which one is called. */
		if (about && a->service != b->service && !b->endpoint && plan_vip_same_key(a, b))
			NOTE(notes, FINDING_ERROR, about,
			     "%s port %u is also that of %s/%s, which gets the connections", cidr_text(&b->range, text),
			     b->port, a->service->ns, a->service->hostname);
	}
}

/* --- DestinationRules */

/* The first port that the kernel balances alone, of a service that the rule names; NULL: there is none. */
static const struct service *
l4_port_of(const struct compiler *c, const struct resource *r, const char *host,
	   bool (*counts)(const struct compiler *c, const struct resource *r, const struct service *s), uint16_t *port)
{
	struct table_iter it = { 0 };

	while (table_next(c->services, &it)) {
		const struct service_node *node = it.value;
		const struct service *s = node->object;
		if (!s || (host[0] == '*' ? !str_ends(node->hostname, host + 1) : !str_eq(node->hostname, host)) ||
		    !counts(c, r, s))
			continue;
		for (size_t i = 0; i < s->port_count; i++)
			if (s->ports[i].l7 == L7_NONE) {
				*port = s->ports[i].port;
				return s;
			}
	}
	return NULL;
}

static bool rule_has_service(const struct compiler *c, const char *host)
{
	struct table_iter it = { 0 };

	while (table_next(c->services, &it)) {
		const struct service_node *node = it.value;
		if (host[0] == '*' ? str_ends(node->hostname, host + 1) : str_eq(node->hostname, host))
			return true;
	}
	return false;
}

/* The service-wide rules are others. */
static bool for_callers_only(const struct compiler *c, const struct resource *r, const struct service *s)
{
	return r->spec.destination_rule->workload_selector ||
	       (!str_eq(r->ns, s->ns) && !str_eq(r->ns, c->mesh.root_namespace));
}

/* The service-wide rule is not for all. */
static bool for_some_only(const struct compiler *c, const struct resource *r, const struct service *s)
{
	const struct string_list *to = &r->spec.destination_rule->export_to;

	return !for_callers_only(c, r, s) && to->n && !string_list_has(to, "*");
}

static void rule_l4_look(const struct compiler *c, const struct resource *r, const char *host, struct notes *notes)
{
	uint16_t port = 0;
	const struct service *s = l4_port_of(c, r, host, for_callers_only, &port);

	if (s)
		NOTE(notes, FINDING_INFO, r,
		     "is for some callers only: on connections to %s port %u, which the kernel balances for all "
		     "callers "
		     "alike, the service's own rules are in force",
		     s->hostname, port);
	s = l4_port_of(c, r, host, for_some_only, &port);
	if (s)
		NOTE(notes, FINDING_INFO, r,
		     "exportTo decides for requests; on connections to %s port %u, which the kernel balances for all "
		     "callers alike, the rule is in force for all",
		     s->hostname, port);
}

/* What several rules for one host say twice. */
static void rule_rival_look(const struct resource *r, const struct resource *first, const char *host,
			    struct notes *notes)
{
	const struct destination_rule_spec *spec = r->spec.destination_rule, *other = first->spec.destination_rule;

	if (spec->traffic_policy && other->traffic_policy)
		NOTE(notes, FINDING_WARNING, r, "the trafficPolicy is ignored: %s is for the same host %s", first->key,
		     host);
	for (size_t i = 0; i < spec->subsets.n; i++)
		for (size_t k = 0; k < other->subsets.n; k++)
			if (str_eq(spec->subsets.v[i].name, other->subsets.v[k].name))
				NOTE(notes, FINDING_WARNING, r,
				     "the subset %s is ignored: %s has one for the same host", spec->subsets.v[i].name,
				     first->key);
}

static void rule_look(const struct compiler *c, const struct resource *r, struct notes *notes)
{
	const struct destination_rule_spec *spec = r->spec.destination_rule;
	char host[256];

	if (!host_write_out(c, r->ns, spec->host, host))
		return;
	if (!rule_has_service(c, host))
		NOTE(notes, FINDING_WARNING, r, "host %s: there is no such service%s", host,
		     strchr(spec->host, '.') ? "" : " (a short name means the rule's own namespace)");
	rule_l4_look(c, r, host, notes);
	if (spec->workload_selector && !selects_any(c, r->ns, &spec->workload_selector->match_labels))
		NOTE(notes, FINDING_WARNING, r,
		     "workloadSelector selects no workload of namespace %s, whose calls the rule is for", r->ns);

	struct bag_key key;
	bag_key_label(&key, r->ns, "", host);
	struct bag_items rules = bag_get(&c->rules, key.bytes, key.len);
	const struct resource *first = NULL;
	for (size_t i = 0; i < rules.n; i++) {
		const struct resource *other = rules.v[i];
		if (!spec->workload_selector && !other->spec.destination_rule->workload_selector &&
		    strcmp(other->key, r->key) < 0 && (!first || strcmp(other->key, first->key) < 0))
			first = other;
	}
	if (first)
		rule_rival_look(r, first, host, notes);
	const struct load_balancer *lb = spec->traffic_policy ? spec->traffic_policy->load_balancer : NULL;
	if (lb && lb->consistent_hash && !lb->consistent_hash->use_source_ip)
		NOTE(notes, FINDING_INFO, r,
		     "consistentHash on an HTTP attribute does not apply to TCP: LEAST_REQUEST is used; useSourceIp "
		     "works");
}

/* --- policies */

static void peer_look(const struct compiler *c, const struct resource *r, struct notes *notes)
{
	const struct peer_authentication_spec *spec = r->spec.peer_authentication;
	bool all = !spec->selector || !spec->selector->match_labels.n;

	if (all && spec->port_level_mtls.n)
		NOTE(notes, FINDING_WARNING, r, "portLevelMtls has no effect without a selector");
	if (!all && !selects_any(c, r->ns, &spec->selector->match_labels))
		NOTE(notes, FINDING_WARNING, r, "the selector selects no workload of namespace %s", r->ns);

	struct resource_range range = inventory_range(c, KIND_PEER_AUTHENTICATION, r->ns);
	for (size_t i = 0; all && i < range.n; i++) {
		const struct selector *other = range.v[i]->spec.peer_authentication->selector;
		if (range.v[i] == r)
			break;
		if (!other || !other->match_labels.n) {
			NOTE(notes, FINDING_WARNING, r, "is ignored: %s is for the whole namespace too",
			     range.v[i]->key);
			break;
		}
	}
}

static void target_look(const struct compiler *c, const struct resource *r, const struct target_ref *ref,
			struct notes *notes)
{
	if (!ref->kind || !ref->name)
		return;
	bool service = strcmp(ref->kind, "Service") == 0, entry = strcmp(ref->kind, "ServiceEntry") == 0;
	if (!service && !entry) {
		NOTE(notes, FINDING_INFO, r, "targetRef %s %s is not a matter of workloads: no effect here", ref->kind,
		     ref->name);
		return;
	}
	if (!inventory_get(c, service ? KIND_SERVICE : KIND_SERVICE_ENTRY, r->ns, ref->name))
		NOTE(notes, FINDING_WARNING, r, "targetRef: there is no %s %s in namespace %s", ref->kind, ref->name,
		     r->ns);
	else
		NOTE(notes, FINDING_INFO, r, "targetRef %s %s: in force for all ports of the workloads behind it",
		     ref->kind, ref->name);
}

static int authz_look(const struct compiler *c, const struct resource *r, struct notes *notes)
{
	const struct authorization_policy_spec *spec = r->spec.authorization_policy;
	struct rule_list rules = { 0 };
	bool root = str_eq(r->ns, c->mesh.root_namespace), http = false;

	if (spec->target_ref)
		target_look(c, r, spec->target_ref, notes);
	for (size_t i = 0; i < spec->target_refs.n; i++)
		target_look(c, r, &spec->target_refs.v[i], notes);
	if (spec->selector && spec->selector->match_labels.n &&
	    !selects_any(c, root ? NULL : r->ns, &spec->selector->match_labels))
		NOTE(notes, FINDING_WARNING, r, "the selector selects no workload of %s%s",
		     root ? "any namespace" : "namespace ", root ? "" : r->ns);
	ext_authz_look(c, r, notes);
	if (authz_rules_build(c, r, &rules, notes) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < rules.n; i++)
		for (size_t k = 0; k < rules.v[i].match_count; k++)
			http |= rules.v[i].matches[k].has_http && policy_rule_is_http(&rules.v[i], k);
	rule_list_done(&rules);
	if (http)
		NOTE(notes, FINDING_INFO, r, "%s",
		     spec->action == AUTHZ_DENY ? "HTTP conditions are not looked at on TCP: the rules deny more" :
						  "rules with HTTP conditions never match on TCP");
	return 0;
}

static void authn_look(const struct compiler *c, const struct resource *r, struct notes *notes)
{
	const struct request_authentication_spec *spec = r->spec.request_authentication;
	bool root = str_eq(r->ns, c->mesh.root_namespace);

	if (spec->target_ref)
		target_look(c, r, spec->target_ref, notes);
	for (size_t i = 0; i < spec->target_refs.n; i++)
		target_look(c, r, &spec->target_refs.v[i], notes);
	if (spec->selector && spec->selector->match_labels.n &&
	    !selects_any(c, root ? NULL : r->ns, &spec->selector->match_labels))
		NOTE(notes, FINDING_WARNING, r, "the selector selects no workload of %s%s",
		     root ? "any namespace" : "namespace ", root ? "" : r->ns);
	request_authn_look(r, notes);
}

static void filter_look(const struct compiler *c, const struct resource *r, struct notes *notes)
{
	const struct envoy_filter_spec *spec = r->spec.envoy_filter;
	bool root = str_eq(r->ns, c->mesh.root_namespace);

	if (spec->workload_selector && spec->workload_selector->labels.n &&
	    !selects_any(c, root ? NULL : r->ns, &spec->workload_selector->labels))
		NOTE(notes, FINDING_WARNING, r, "the workloadSelector selects no workload of %s%s",
		     root ? "any namespace" : "namespace ", root ? "" : r->ns);
	envoy_filter_look(r, notes);
}

/* --- all */

static int on_finding_cmp(const void *a, const void *b)
{
	const struct finding *x = a, *y = b;
	int c = strcmp(x->key, y->key);

	return c ? c : strcmp(x->text, y->text);
}

/* The same is said for each workload that a policy selects. */
static void duplicates_drop(struct findings *f)
{
	size_t kept = 0;

	if (f->n)
		qsort(f->v, f->n, sizeof(*f->v), on_finding_cmp);
	for (size_t i = 0; i < f->n; i++) {
		if (kept && on_finding_cmp(&f->v[kept - 1], &f->v[i]) == 0)
			finding_done(&f->v[i]);
		else
			f->v[kept++] = f->v[i];
	}
	f->n = kept;
}

static void each_look(const struct compiler *c, enum resource_kind kind, struct notes *notes,
		      void (*kind_look)(const struct resource *r, struct notes *notes))
{
	for (size_t i = 0; i < c->inventory[kind].n; i++)
		kind_look(c->inventory[kind].v[i], notes);
}

static int look(struct compiler *c, struct notes *notes)
{
	if (workloads_look(c, notes) < 0 || services_look(c, notes) < 0 || http_look(c, notes) < 0)
		return -ENOMEM;
	addresses_look(c, notes);
	vips_look(c, notes);
	each_look(c, KIND_DESTINATION_RULE, notes, unused_rule_look);
	each_look(c, KIND_SERVICE, notes, unused_service_look);
	each_look(c, KIND_SERVICE_ENTRY, notes, unused_service_entry_look);
	each_look(c, KIND_MESH_CONFIG, notes, unused_mesh_look);
	for (size_t i = 0; i < c->inventory[KIND_MESH_CONFIG].n; i++)
		if (proxy_config_look(c->inventory[KIND_MESH_CONFIG].v[i], notes) < 0)
			return -ENOMEM;
	for (size_t i = 0; i < c->inventory[KIND_DESTINATION_RULE].n; i++) {
		rule_look(c, c->inventory[KIND_DESTINATION_RULE].v[i], notes);
		http_tls_look(c, c->inventory[KIND_DESTINATION_RULE].v[i], notes);
	}
	for (size_t i = 0; i < c->inventory[KIND_K8S_BACKEND_TLS_POLICY].n; i++)
		http_backend_tls_look(c, c->inventory[KIND_K8S_BACKEND_TLS_POLICY].v[i], notes);
	for (size_t i = 0; i < c->inventory[KIND_PEER_AUTHENTICATION].n; i++)
		peer_look(c, c->inventory[KIND_PEER_AUTHENTICATION].v[i], notes);
	for (size_t i = 0; i < c->inventory[KIND_REQUEST_AUTHENTICATION].n; i++)
		authn_look(c, c->inventory[KIND_REQUEST_AUTHENTICATION].v[i], notes);
	for (size_t i = 0; i < c->inventory[KIND_ENVOY_FILTER].n; i++)
		filter_look(c, c->inventory[KIND_ENVOY_FILTER].v[i], notes);
	for (size_t i = 0; i < c->inventory[KIND_AUTHORIZATION_POLICY].n; i++)
		if (authz_look(c, c->inventory[KIND_AUTHORIZATION_POLICY].v[i], notes) < 0)
			return -ENOMEM;
	return 0;
}

int compiler_findings(struct compiler *c, struct findings *out)
{
	struct listener listener = { .notes = { on_note }, .out = out };

	*out = (struct findings){ 0 };
	if (look(c, &listener.notes) < 0 || listener.no_memory) {
		findings_done(out);
		return -ENOMEM;
	}
	duplicates_drop(out);
	return 0;
}
