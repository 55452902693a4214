/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/compile/rules.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/str.h"
#include "agent/compile/build.h"
#include "agent/compile/http.h"
#include "agent/compile/inventory.h"
#include "agent/model/cluster.h"
#include "agent/model/workload.h"

/* --- the index */

int rules_init(struct compiler *c)
{
	return bag_init(&c->rules) == 0 && bag_init(&c->rules_by_host) == 0 ? 0 : -ENOMEM;
}

void rules_done(struct compiler *c)
{
	bag_done(&c->rules);
	bag_done(&c->rules_by_host);
}

int rules_index(struct compiler *c, const struct resource *rule, bool add)
{
	char host[256];
	struct bag_key key;

	if (!host_write_out(c, rule->ns, rule->spec.destination_rule->host, host))
		return 0;
	bag_key_label(&key, rule->ns, "", host);
	if (!add) {
		bag_remove(&c->rules, key.bytes, key.len, rule);
		bag_remove(&c->rules_by_host, host, strlen(host), rule);
		return 0;
	}
	if (bag_add(&c->rules, key.bytes, key.len, (void *)rule) < 0)
		return -ENOMEM;
	return bag_add(&c->rules_by_host, host, strlen(host), (void *)rule);
}

int rules_index_all(struct compiler *c, bool add)
{
	const struct inventory *inv = &c->inventory[KIND_DESTINATION_RULE];
	int rc = 0;

	for (size_t i = 0; !rc && i < inv->n; i++)
		rc = rules_index(c, inv->v[i], add);
	return rc;
}

/* --- who sees a rule */

static const struct selector *selector_of(const struct resource *r)
{
	return r->spec.destination_rule->workload_selector;
}

static const struct string_list *export_of(const struct compiler *c, const struct resource *r)
{
	const struct string_list *own = &r->spec.destination_rule->export_to;

	return own->n || !c->mesh_config ? own : &c->mesh_config->default_destination_rule_export_to;
}

bool rule_exported(const struct compiler *c, const struct resource *rule, const char *ns)
{
	const struct string_list *to = export_of(c, rule);

	if (!to->n)
		return true;
	for (size_t i = 0; to->v && i < to->n; i++)
		if (str_eq(to->v[i], "*") || str_eq(to->v[i], ns) || (str_eq(to->v[i], ".") && str_eq(rule->ns, ns)))
			return true;
	return false;
}

static bool is_private(const struct compiler *c, const struct resource *r)
{
	const struct string_list *to = export_of(c, r);

	return selector_of(r) || (to->n == 1 && (str_eq(to->v[0], ".") || str_eq(to->v[0], r->ns)));
}

/* Where the rules of a namespace are looked for. */
enum place {
	PLACE_NOBODY, /* for no caller in particular */
	PLACE_OWN,    /* the caller's namespace */
	PLACE_ROOT,   /* the same, and it is the root namespace, where what is for all comes last */
	PLACE_OTHER,
};

static bool is_for(const struct compiler *c, const struct resource *r, enum place place,
		   const struct rule_caller *caller)
{
	const struct selector *selector = selector_of(r);

	if (place == PLACE_NOBODY)
		return !selector;
	if (selector &&
	    (place == PLACE_OTHER || !labels_selected(&selector->match_labels, caller->labels, caller->label_count)))
		return false;
	if (!selector && !rule_exported(c, r, caller->ns))
		return false;
	return place != PLACE_ROOT || is_private(c, r);
}

/* --- merging */

static bool selectors_same(const struct selector *a, const struct selector *b)
{
	if (!a || !b || a->match_labels.n != b->match_labels.n)
		return a == b;
	for (size_t i = 0; i < a->match_labels.n; i++)
		if (!str_eq(a->match_labels.v[i].key, b->match_labels.v[i].key) ||
		    !str_eq(a->match_labels.v[i].value, b->match_labels.v[i].value))
			return false;
	return true;
}

/* Those with a selector come first; of several selectors that fit, the rules of the first by name. */
static bool goes_before(const struct resource *a, const struct resource *b)
{
	bool x = selector_of(a), y = selector_of(b);

	return x != y ? x : strcmp(a->key, b->key) < 0;
}

static void set_add(struct rule_set *set, const struct resource *r)
{
	size_t at = set->n;

	while (at && goes_before(r, set->v[at - 1]))
		at--;
	if (at == RULE_SET_MAX)
		return;
	set->n += set->n < RULE_SET_MAX;
	for (size_t i = set->n - 1; i > at; i--)
		set->v[i] = set->v[i - 1];
	set->v[at] = r;
}

static void set_bound(struct rule_set *set)
{
	size_t text = 0, n = 0;

	for (; n < set->n; n++) {
		text += strlen(set->v[n]->name) + 1;
		if (n && text > RULE_SET_TEXT_MAX)
			break;
	}
	set->n = n;
}

static void rules_at(const struct compiler *c, const char *ns, const char *host, enum place place,
		     const struct rule_caller *caller, struct rule_set *out)
{
	struct bag_key key;
	bag_key_label(&key, ns, "", host);
	struct bag_items rules = bag_get(&c->rules, key.bytes, key.len);
	const struct resource *lead = NULL;

	for (size_t i = 0; i < rules.n; i++)
		if (selector_of(rules.v[i]) && is_for(c, rules.v[i], place, caller) &&
		    (!lead || goes_before(rules.v[i], lead)))
			lead = rules.v[i];
	for (size_t i = 0; i < rules.n; i++) {
		const struct resource *r = rules.v[i];
		if (is_for(c, r, place, caller) &&
		    (!selector_of(r) || (lead && selectors_same(selector_of(r), selector_of(lead)))))
			set_add(out, r);
	}
	set_bound(out);
}

/* The most specific host in one namespace: the host itself, then wildcards from the longest. */
static bool rules_in(const struct compiler *c, const char *ns, const char *hostname, enum place place,
		     const struct rule_caller *caller, struct rule_set *out)
{
	char wide[256];

	rules_at(c, ns, hostname, place, caller, out);
	for (const char *at = hostname; !out->n && http_wider_host(hostname, &at, wide);)
		rules_at(c, ns, wide, place, caller, out);
	return out->n > 0;
}

static bool named_by_any(const struct compiler *c, const char *hostname)
{
	char wide[256];
	bool any = bag_get(&c->rules_by_host, hostname, strlen(hostname)).n > 0;

	for (const char *at = hostname; !any && http_wider_host(hostname, &at, wide);)
		any = bag_get(&c->rules_by_host, wide, strlen(wide)).n > 0;
	return any;
}

void rules_of(const struct compiler *c, const struct rule_caller *caller, const char *service_ns, const char *hostname,
	      struct rule_set *out)
{
	const char *root = c->mesh.root_namespace;
	bool in_root = str_eq(caller->ns, root);

	*out = (struct rule_set){ 0 };
	if (!named_by_any(c, hostname))
		return;
	if (!caller->ns) {
		if (!rules_in(c, service_ns, hostname, PLACE_NOBODY, caller, out))
			rules_in(c, root, hostname, PLACE_NOBODY, caller, out);
		return;
	}
	if (rules_in(c, caller->ns, hostname, in_root ? PLACE_ROOT : PLACE_OWN, caller, out) ||
	    rules_in(c, service_ns, hostname, PLACE_OTHER, caller, out))
		return;
	rules_in(c, root, hostname, PLACE_OTHER, caller, out);
}

bool rules_same(const struct rule_set *a, const struct rule_set *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (a->v[i] != b->v[i])
			return false;
	return true;
}

const struct traffic_policy *rules_policy(const struct rule_set *set)
{
	for (size_t i = 0; i < set->n; i++)
		if (set->v[i]->spec.destination_rule->traffic_policy)
			return set->v[i]->spec.destination_rule->traffic_policy;
	return NULL;
}

bool rules_of_others(const struct compiler *c, const char *service_ns, const char *hostname,
		     bool (*fn)(const struct rule_set *one, void *arg), void *arg)
{
	char host[256];
	const char *at = hostname;

	str_copy(host, sizeof(host), hostname);
	do {
		struct bag_items rules = bag_get(&c->rules_by_host, host, strlen(host));
		for (size_t i = 0; i < rules.n; i++) {
			const struct resource *r = rules.v[i];
			if (!selector_of(r) && (str_eq(r->ns, service_ns) || str_eq(r->ns, c->mesh.root_namespace)))
				continue;
			if (fn(&(struct rule_set){ .v = { r }, .n = 1 }, arg))
				return true;
		}
	} while (http_wider_host(hostname, &at, host));
	return false;
}

/* --- names of clusters */

/* failoverPriority compares labels of the caller: clusters differ by them. Without outlier detection nothing fails over. */
static size_t labels_compared(const struct compiler *c, const struct workload *caller, const struct http_rule *rule,
			      struct label out[RULE_LABELS_MAX])
{
	const struct locality_lb_setting *setting = c->mesh_config ? c->mesh_config->locality_lb_setting : NULL;
	size_t n = 0;

	if (rule->lb && rule->lb->locality_lb_setting)
		setting = rule->lb->locality_lb_setting;
	if (!setting || !rule->outlier || (setting->enabled.set && !setting->enabled.v))
		return 0;
	for (size_t i = 0; i < setting->failover_priority.n && n < RULE_LABELS_MAX; i++) {
		const char *key = setting->failover_priority.v[i];
		const char *value = strchr(key, '=') ? NULL : workload_label(caller, key);
		if (value)
			out[n++] = (struct label){ (char *)(uintptr_t)key, (char *)(uintptr_t)value };
	}
	return n;
}

size_t rules_named_labels(char *text, struct label out[RULE_LABELS_MAX])
{
	size_t n = 0;

	for (char *at = strchr(text, ';'), *next; at && n < RULE_LABELS_MAX; at = next) {
		*at++ = '\0';
		next = strchr(at, ';');
		char *equals = strchr(at, '=');
		if (!equals || (next && equals > next))
			continue;
		*equals = '\0';
		out[n++] = (struct label){ at, equals + 1 };
	}
	return n;
}

static void qualifier_write(const struct rule_set *set, struct sb *sb)
{
	for (size_t i = 0; i < set->n; i++)
		sb_addf(sb, "%s%s%s", i ? "" : set->v[i]->ns, i ? "," : "/", set->v[i]->name);
}

char *rules_cluster_name(const struct compiler *c, const struct workload *caller, const struct service *s,
			 uint16_t port, const char *subset, const char *host)
{
	struct label labels[RULE_LABELS_MAX];
	struct rule_set own, general;
	struct http_rule rule;
	struct sb sb = { 0 };

	if (!s || !caller)
		return http_cluster_name(port, subset, host);
	rules_of(c, &(struct rule_caller){ caller->ns, caller->labels, caller->label_count }, s->ns, s->hostname, &own);
	rules_of(c, &(struct rule_caller){ 0 }, s->ns, s->hostname, &general);
	http_rule_of(&own, port, subset, &rule);
	size_t label_count = labels_compared(c, caller, &rule, labels);
	if (rules_same(&own, &general) && !label_count)
		return http_cluster_name(port, subset, host);
	sb_addf(&sb, "%s@", subset ? subset : "");
	if (rules_same(&own, &general))
		sb_add(&sb, "*");
	else
		qualifier_write(&own, &sb);
	for (size_t i = 0; i < label_count; i++)
		sb_addf(&sb, ";%s=%s", labels[i].key, labels[i].value);
	char *qualified = sb_take(&sb);
	char *name = qualified ? http_cluster_name(port, qualified, host) : NULL;
	free(qualified);
	return name;
}

static bool covers(const struct compiler *c, const struct resource *r, const char *hostname)
{
	char host[256];

	if (!host_write_out(c, r->ns, r->spec.destination_rule->host, host))
		return false;
	return host[0] == '*' ? str_ends(hostname, host + 1) : str_eq(hostname, host);
}

void rules_named(const struct compiler *c, const char *text, const char *service_ns, const char *hostname,
		 struct rule_set *out)
{
	const char *slash = strchr(text, '/');
	char ns[256], name[256];

	*out = (struct rule_set){ 0 };
	if (!*text)
		return;
	for (const char *at = slash ? slash + 1 : ""; *at && out->n < RULE_SET_MAX;) {
		size_t len = strcspn(at, ",");
		if ((size_t)(slash - text) >= sizeof(ns) || len >= sizeof(name))
			break;
		snprintf(ns, sizeof(ns), "%.*s", (int)(slash - text), text);
		snprintf(name, sizeof(name), "%.*s", (int)len, at);
		const struct resource *r = inventory_get(c, KIND_DESTINATION_RULE, ns, name);
		if (r && covers(c, r, hostname))
			out->v[out->n++] = r;
		at += len + (at[len] == ',');
	}
	if (!out->n)
		rules_of(c, &(struct rule_caller){ 0 }, service_ns, hostname, out);
}
