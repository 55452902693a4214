/* SPDX-License-Identifier: Apache-2.0 */
/* The policy of one workload, from the PeerAuthentications and AuthorizationPolicies that are about it. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/hash.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/compile/build.h"
#include "agent/compile/inventory.h"

/* --- PeerAuthentication */

/* The one that counts at each level; of several the first by name (Istio takes the oldest; files have no age). */
struct peer_levels {
	const struct resource *mesh, *ns, *workload;
};

static bool selector_empty(const struct selector *selector)
{
	return !selector || !selector->match_labels.n;
}

static void level_take(const struct resource **level, const struct resource *r, struct notes *notes)
{
	if (!*level)
		*level = r;
	else
		NOTE(notes, FINDING_WARNING, r, "is ignored where %s applies, which selects the same and comes first",
		     (*level)->key);
}

static struct peer_levels peer_levels_of(const struct compiler *c, const char *ns, const struct label *labels, size_t n,
					 struct notes *notes)
{
	struct peer_levels levels = { 0 };
	struct resource_range range = inventory_range(c, KIND_PEER_AUTHENTICATION, c->mesh.root_namespace);

	for (size_t i = 0; i < range.n; i++)
		if (selector_empty(range.v[i]->spec.peer_authentication->selector))
			level_take(&levels.mesh, range.v[i], notes);

	bool root = str_eq(ns, c->mesh.root_namespace);
	range = inventory_range(c, KIND_PEER_AUTHENTICATION, ns);
	for (size_t i = 0; i < range.n; i++) {
		const struct selector *selector = range.v[i]->spec.peer_authentication->selector;
		if (selector_empty(selector)) {
			if (!root)
				level_take(&levels.ns, range.v[i], notes);
		} else if (labels_selected(&selector->match_labels, labels, n)) {
			level_take(&levels.workload, range.v[i], notes);
		}
	}
	return levels;
}

static bool mode_convert(enum peer_mtls_mode from, enum mtls_mode *to)
{
	switch (from) {
	case PEER_MTLS_UNSET:
		return false;
	case PEER_MTLS_DISABLE:
		*to = MTLS_DISABLE;
		return true;
	case PEER_MTLS_PERMISSIVE:
		*to = MTLS_PERMISSIVE;
		return true;
	case PEER_MTLS_STRICT:
		*to = MTLS_STRICT;
		return true;
	}
	return false;
}

static int ports_apply(const struct peer_authentication_spec *spec, struct policy *p)
{
	if (!spec->port_level_mtls.n)
		return 0;
	p->port_mtls = calloc(spec->port_level_mtls.n, sizeof(*p->port_mtls));
	if (!p->port_mtls)
		return -ENOMEM;
	for (size_t i = 0; i < spec->port_level_mtls.n; i++) {
		struct port_mtls port = { .port = spec->port_level_mtls.v[i].port };
		if (mode_convert(spec->port_level_mtls.v[i].mode, &port.mode)) /* UNSET: the workload's */
			p->port_mtls[p->port_mtls_count++] = port;
	}
	return 0;
}

static int mtls_apply(const struct compiler *c, const char *ns, const struct label *labels, size_t n, struct policy *p,
		      struct notes *notes)
{
	struct peer_levels levels = peer_levels_of(c, ns, labels, n, notes);
	const struct resource *order[] = { levels.workload, levels.ns, levels.mesh };
	const char *origin = "default";

	p->mtls = MTLS_PERMISSIVE;
	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		const struct peer_mtls *mtls = order[i] ? order[i]->spec.peer_authentication->mtls : NULL;
		if (mtls && mode_convert(mtls->mode, &p->mtls)) {
			origin = NULL;
			p->mtls_origin = str_format("%s (%s)", order[i]->key, order[i]->origin);
			break;
		}
	}
	if (origin)
		p->mtls_origin = strdup(origin);
	if (!p->mtls_origin)
		return -ENOMEM;
	return levels.workload ? ports_apply(levels.workload->spec.peer_authentication, p) : 0;
}

/* --- AuthorizationPolicy */

/* A policy that names a Service is meant for its workloads; here that is all of their ports, because a connection to
 * the pod's own address does not say which service it is for. */
bool target_selects(const struct compiler *c, const struct resource *r, const struct target_ref *ref, const char *ns,
		    const struct label *labels, size_t n)
{
	if (!ref->kind || !ref->name || strcmp(r->ns, ns) != 0)
		return false;
	if (strcmp(ref->kind, "Service") == 0) {
		const struct resource *service = inventory_get(c, KIND_SERVICE, r->ns, ref->name);
		return service && service->spec.service->selector.n &&
		       labels_selected(&service->spec.service->selector, labels, n);
	}
	if (strcmp(ref->kind, "ServiceEntry") == 0) {
		const struct resource *entry = inventory_get(c, KIND_SERVICE_ENTRY, r->ns, ref->name);
		const struct workload_selector *selector = entry ? entry->spec.service_entry->workload_selector : NULL;
		return selector && selector->labels.n && labels_selected(&selector->labels, labels, n);
	}
	return false; /* Gateway, GatewayClass: enforced there */
}

bool authz_selects(const struct compiler *c, const struct resource *r, const char *ns, const struct label *labels,
		   size_t n)
{
	const struct authorization_policy_spec *spec = r->spec.authorization_policy;

	if (strcmp(r->ns, ns) != 0 && !str_eq(r->ns, c->mesh.root_namespace))
		return false;
	if (spec->target_ref || spec->target_refs.n) {
		if (spec->target_ref && target_selects(c, r, spec->target_ref, ns, labels, n))
			return true;
		for (size_t i = 0; i < spec->target_refs.n; i++)
			if (target_selects(c, r, &spec->target_refs.v[i], ns, labels, n))
				return true;
		return false;
	}
	return selector_empty(spec->selector) || labels_selected(&spec->selector->match_labels, labels, n);
}

static bool is_dry_run(const struct resource *r)
{
	const char *value = string_map_get(&r->annotations, "istio.io/dry-run");

	return value && strcmp(value, "true") == 0;
}

struct assembly {
	const struct compiler *c;
	struct rule_list rules;
	struct sb allow_names;
	bool has_allow;
	struct notes *notes;
};

static int authz_add(struct assembly *as, const struct resource *r)
{
	if (r->spec.authorization_policy->action == AUTHZ_ALLOW && !is_dry_run(r)) {
		as->has_allow = true;
		sb_addf(&as->allow_names, "%s%s/%s", as->allow_names.len ? ", " : "", r->ns, r->name);
	}
	return authz_rules_build(as->c, r, &as->rules, as->notes);
}

/* CUSTOM before DENY before ALLOW before AUDIT; by name, then number. */
static int on_rule_cmp(const void *a, const void *b)
{
	static const int order[] = { [POLICY_CUSTOM] = 0, [POLICY_DENY] = 1, [POLICY_ALLOW] = 2, [POLICY_AUDIT] = 3 };
	const struct policy_rule *x = a, *y = b;
	int c = order[x->action] - order[y->action];

	if (!c)
		c = strcmp(x->name, y->name);
	return c ? c : x->index < y->index ? -1 : x->index > y->index;
}

static int authz_apply(const struct compiler *c, const char *ns, const struct label *labels, size_t n, struct policy *p,
		       struct notes *notes)
{
	struct assembly as = { .c = c, .notes = notes };
	const char *places[] = { c->mesh.root_namespace, ns };
	int rc = 0;

	for (size_t k = str_eq(places[0], ns) ? 1 : 0; k < ARRAY_SIZE(places); k++) {
		struct resource_range range = inventory_range(c, KIND_AUTHORIZATION_POLICY, places[k]);
		for (size_t i = 0; !rc && i < range.n; i++)
			if (authz_selects(c, range.v[i], ns, labels, n))
				rc = authz_add(&as, range.v[i]);
	}
	if (!rc && as.has_allow) {
		p->allow_names = sb_take(&as.allow_names);
		rc = p->allow_names ? 0 : -ENOMEM;
	}
	sb_done(&as.allow_names);
	if (rc < 0) {
		rule_list_done(&as.rules);
		return rc;
	}
	if (as.rules.n)
		qsort(as.rules.v, as.rules.n, sizeof(*as.rules.v), on_rule_cmp);
	p->has_allow = as.has_allow;
	p->rules = as.rules.v;
	p->rule_count = as.rules.n;
	return 0;
}

/* --- the content's hash */

static uint64_t strings_hash(uint64_t h, const struct match_strings *s)
{
	h = hash64(h, &s->n, sizeof(s->n));
	for (size_t i = 0; i < s->n; i++)
		h = hash64_str(hash64(h, &s->v[i].kind, sizeof(s->v[i].kind)), s->v[i].text);
	return h;
}

static uint64_t cidrs_hash(uint64_t h, const struct match_cidrs *s)
{
	h = hash64(h, &s->n, sizeof(s->n));
	for (size_t i = 0; i < s->n; i++)
		h = hash64(hash64(h, &s->v[i].addr, sizeof(s->v[i].addr)), &s->v[i].bits, 1);
	return h;
}

static uint64_t ports_hash(uint64_t h, const struct match_ports *s)
{
	h = hash64(h, &s->n, sizeof(s->n));
	return s->n ? hash64(h, s->v, s->n * sizeof(*s->v)) : h;
}

static uint64_t match_hash(uint64_t h, const struct policy_match *m)
{
	const struct match_strings *strings[] = {
		&m->principals,
		&m->not_principals,
		&m->namespaces,
		&m->not_namespaces,
		&m->service_accounts,
		&m->not_service_accounts,
		&m->request_principals,
		&m->not_request_principals,
		&m->hosts,
		&m->not_hosts,
		&m->methods,
		&m->not_methods,
		&m->paths,
		&m->not_paths,
	};
	const struct match_cidrs *cidrs[] = { &m->ip_blocks,	    &m->not_ip_blocks,
					      &m->remote_ip_blocks, &m->not_remote_ip_blocks,
					      &m->destination_ips,  &m->not_destination_ips };

	for (size_t i = 0; i < ARRAY_SIZE(strings); i++)
		h = strings_hash(h, strings[i]);
	for (size_t i = 0; i < ARRAY_SIZE(cidrs); i++)
		h = cidrs_hash(h, cidrs[i]);
	h = ports_hash(ports_hash(h, &m->ports), &m->not_ports);
	return hash64(h, &m->has_http, sizeof(m->has_http));
}

static uint64_t condition_hash(uint64_t h, const struct policy_condition *c)
{
	const uint64_t head[] = { c->attribute, c->path_count };

	h = hash64(h, head, sizeof(head));
	for (size_t i = 0; i < c->path_count; i++)
		h = hash64_str(h, c->path[i]);
	return strings_hash(strings_hash(h, &c->values), &c->not_values);
}

/* Names and numbers of rules are in it, because the kernel reports a rule by its place; lines in a file are not. */
static uint64_t policy_hash(const struct policy *p)
{
	const uint64_t head[] = { p->mtls, p->port_mtls_count, p->rule_count, p->has_allow };
	uint64_t h = hash64(HASH64_INIT, head, sizeof(head));

	for (size_t i = 0; i < p->port_mtls_count; i++) {
		const uint64_t port[] = { p->port_mtls[i].port, p->port_mtls[i].mode };
		h = hash64(h, port, sizeof(port));
	}
	for (size_t i = 0; i < p->rule_count; i++) {
		const struct policy_rule *rule = &p->rules[i];
		const uint64_t rule_head[] = { rule->action, rule->index, rule->dry_run, rule->match_count,
					       rule->when_count };
		h = hash64_str(hash64(h, rule_head, sizeof(rule_head)), rule->name);
		h = rule->provider ? hash64_str(h, rule->provider) : h;
		for (size_t k = 0; k < rule->when_count; k++)
			h = condition_hash(h, &rule->when[k]);
		for (size_t k = 0; k < rule->match_count; k++)
			h = match_hash(h, &rule->matches[k]);
	}
	return h ? h : 1;
}

int policy_build(const struct compiler *c, const char *ns, const struct label *labels, size_t label_count,
		 struct policy **out, struct notes *notes)
{
	struct policy *p = policy_new();
	if (!p)
		return -ENOMEM;
	if (mtls_apply(c, ns, labels, label_count, p, notes) < 0 ||
	    authz_apply(c, ns, labels, label_count, p, notes) < 0) {
		policy_unref(p);
		return -ENOMEM;
	}
	p->id = policy_hash(p);
	*out = p;
	return 0;
}

bool policy_same(const struct policy *a, const struct policy *b)
{
	if (!a || !b || a->id != b->id || !str_eq(a->mtls_origin, b->mtls_origin) ||
	    !str_eq(a->allow_names, b->allow_names) || a->rule_count != b->rule_count)
		return a == b;
	for (size_t i = 0; i < a->rule_count; i++)
		if (!str_eq(a->rules[i].origin, b->rules[i].origin))
			return false;
	return true;
}

int compiler_policy(const struct compiler *c, const struct workload *w, struct policy **out)
{
	if (w->policy) {
		*out = policy_ref(w->policy);
		return 0;
	}
	return policy_build(c, w->ns, w->labels, w->label_count, out, NULL);
}
