/* SPDX-License-Identifier: Apache-2.0 */
/* One AuthorizationPolicy -> rules. A rule's from and to are multiplied out into alternatives, each of which is a
 * conjunction of lists; what `when` says of connections is joined to each, what it says of requests stays a list of the
 * rule (authz_http.c). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/compile/authz_http.h"
#include "agent/compile/build.h"
#include "agent/compile/condition.h"

struct expansion {
	const struct compiler *c;
	const struct resource *r;
	struct policy_match *m;
	enum policy_action action;
	struct notes *notes;
	bool inexact;
};

/* Its rules refuse, or ask: what can't be said exactly is said too wide, never too narrow. */
static bool refuses(enum policy_action action)
{
	return action == POLICY_DENY || action == POLICY_CUSTOM;
}

/* A list that was rewritten: the strings are owned. */
struct owned_list {
	struct string_list list;
	size_t cap;
};

static void owned_done(struct owned_list *o)
{
	for (size_t i = 0; i < o->list.n; i++)
		free((char *)o->list.v[i]);
	free(o->list.v);
}

/* Takes text; NULL is an allocation that failed. */
static int owned_add(struct owned_list *o, char *text)
{
	if (!text)
		return -ENOMEM;
	if (string_list_has(&o->list, text)) {
		free(text);
		return 0;
	}
	if (mem_reserve(&o->list.v, &o->cap, o->list.n + 1, sizeof(*o->list.v)) < 0) {
		free(text);
		return -ENOMEM;
	}
	o->list.v[o->list.n++] = text;
	return 0;
}

/* --- principals: the trust domain's aliases */

/* The trust domain of "td/ns/x/sa/y"; false for anything else, as "*" or "*x". */
static bool principal_split(const char *principal, char *domain, size_t size, const char **rest)
{
	unsigned int slashes = 0;
	for (const char *p = principal; *p; p++)
		slashes += *p == '/';
	const char *slash = strchr(principal, '/');
	if (slashes != 4 || slash == principal || (size_t)(slash - principal) >= size)
		return false;
	memcpy(domain, principal, (size_t)(slash - principal));
	domain[slash - principal] = '\0';
	*rest = slash;
	return true;
}

static bool domain_matches(const char *pattern, const char *domain)
{
	struct match_string m;
	if (match_string_init(&m, pattern) < 0)
		return false;
	bool yes = match_string_matches(&m, domain);
	free(m.text);
	return yes;
}

/* Istio: a principal whose trust domain is the mesh's, an alias, or "cluster.local" (which always means the mesh's own)
 * stands for that principal in all of them. A pattern that already covers one of them stays for that one. */
static int principal_expand(const struct mesh_settings *mesh, const char *principal, struct owned_list *out)
{
	char domain[256];
	const char *rest;
	if (!principal_split(principal, domain, sizeof(domain), &rest))
		return owned_add(out, strdup(principal));

	bool ours = strcmp(domain, "cluster.local") == 0 || domain_matches(domain, mesh->trust_domain);
	for (size_t i = 0; !ours && i < mesh->trust_domain_alias_count; i++)
		ours = domain_matches(domain, mesh->trust_domain_aliases[i]);
	if (!ours)
		return owned_add(out, strdup(principal));

	for (size_t i = 0; i <= mesh->trust_domain_alias_count; i++) {
		const char *td = i ? mesh->trust_domain_aliases[i - 1] : mesh->trust_domain;
		int rc = owned_add(out, domain_matches(domain, td) ? strdup(principal) : str_format("%s%s", td, rest));
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* --- lists of an attribute */

static int strings_both(struct expansion *x, struct match_strings *yes, struct match_strings *no,
			const struct string_list *values, const struct string_list *not_values)
{
	if (condition_not_strings(no, not_values) < 0)
		return -ENOMEM;
	int rc = condition_strings(yes, values, refuses(x->action));
	if (rc == CONDITION_INEXACT) {
		x->inexact = true;
		rc = yes->n ? CONDITION_OK : CONDITION_NEVER;
	}
	return rc;
}

typedef int (*rewrite_fn)(struct expansion *x, const char *value, struct owned_list *out);

static int on_principal(struct expansion *x, const char *value, struct owned_list *out)
{
	return principal_expand(&x->c->mesh, value, out);
}

static int on_account(struct expansion *x, const char *value, struct owned_list *out)
{
	return owned_add(out, strchr(value, '/') ? strdup(value) : str_format("%s/%s", x->r->ns, value));
}

static int strings_rewritten(struct expansion *x, struct match_strings *yes, struct match_strings *no,
			     const struct string_list *values, const struct string_list *not_values, rewrite_fn rewrite)
{
	struct owned_list a = { 0 }, b = { 0 };
	int rc = 0;

	for (size_t i = 0; !rc && i < values->n; i++)
		rc = rewrite(x, values->v[i], &a);
	for (size_t i = 0; !rc && i < not_values->n; i++)
		rc = rewrite(x, not_values->v[i], &b);
	if (!rc)
		rc = strings_both(x, yes, no, &a.list, &b.list);
	owned_done(&a);
	owned_done(&b);
	return rc;
}

static int cidrs_both(struct match_cidrs *yes, struct match_cidrs *no, const struct cidr *values, size_t n,
		      const struct cidr *not_values, size_t not_n)
{
	if (condition_not_cidrs(no, not_values, not_n) < 0)
		return -ENOMEM;
	return condition_cidrs(yes, values, n);
}

static int cidrs_parse(const struct string_list *values, struct cidr **out, size_t *n)
{
	*out = calloc(values->n + 1, sizeof(**out));
	*n = 0;
	if (!*out)
		return -ENOMEM;
	for (size_t i = 0; i < values->n; i++)
		if (cidr_parse(values->v[i], *out + *n) == 0) /* validated when it was decoded */
			(*n)++;
	return 0;
}

static int cidrs_text(struct match_cidrs *yes, struct match_cidrs *no, const struct authz_condition *w)
{
	AUTO(mem_freep) struct cidr *a = NULL;
	AUTO(mem_freep) struct cidr *b = NULL;
	size_t n, not_n;

	if (cidrs_parse(&w->values, &a, &n) < 0 || cidrs_parse(&w->not_values, &b, &not_n) < 0)
		return -ENOMEM;
	if (w->values.n && !n)
		return CONDITION_NEVER;
	return cidrs_both(yes, no, a, n, b, not_n);
}

/* --- from, to, when: each a condition_result or -ENOMEM */

static int source_add(struct expansion *x, const struct authz_source *s)
{
	struct policy_match *m = x->m;

	if (authz_http_source(s, m) < 0)
		return -ENOMEM;
	int rc = strings_rewritten(x, &m->principals, &m->not_principals, &s->principals, &s->not_principals,
				   on_principal);
	if (!rc)
		rc = strings_both(x, &m->namespaces, &m->not_namespaces, &s->namespaces, &s->not_namespaces);
	if (!rc)
		rc = strings_rewritten(x, &m->service_accounts, &m->not_service_accounts, &s->service_accounts,
				       &s->not_service_accounts, on_account);
	if (!rc)
		rc = cidrs_both(&m->ip_blocks, &m->not_ip_blocks, s->ip_blocks.v, s->ip_blocks.n, s->not_ip_blocks.v,
				s->not_ip_blocks.n);
	if (!rc)
		rc = cidrs_both(&m->remote_ip_blocks, &m->not_remote_ip_blocks, s->remote_ip_blocks.v,
				s->remote_ip_blocks.n, s->not_remote_ip_blocks.v, s->not_remote_ip_blocks.n);
	return rc;
}

static int ports_both(struct policy_match *m, const struct string_list *values, const struct string_list *not_values)
{
	if (condition_not_ports(&m->not_ports, not_values) < 0)
		return -ENOMEM;
	return condition_ports(&m->ports, values);
}

static int operation_add(struct expansion *x, const struct authz_operation *op)
{
	if (authz_http_operation(op, x->m) < 0)
		return -ENOMEM;
	return ports_both(x->m, &op->ports, &op->not_ports);
}

static int when_add(struct expansion *x, const struct authz_condition *w)
{
	struct policy_match *m = x->m;

	if (strcmp(w->key, "source.ip") == 0)
		return cidrs_text(&m->ip_blocks, &m->not_ip_blocks, w);
	if (strcmp(w->key, "remote.ip") == 0)
		return cidrs_text(&m->remote_ip_blocks, &m->not_remote_ip_blocks, w);
	if (strcmp(w->key, "destination.ip") == 0)
		return cidrs_text(&m->destination_ips, &m->not_destination_ips, w);
	if (strcmp(w->key, "destination.port") == 0)
		return ports_both(m, &w->values, &w->not_values);
	if (strcmp(w->key, "source.namespace") == 0)
		return strings_both(x, &m->namespaces, &m->not_namespaces, &w->values, &w->not_values);
	if (strcmp(w->key, "source.principal") == 0)
		return strings_rewritten(x, &m->principals, &m->not_principals, &w->values, &w->not_values,
					 on_principal);
	if (strcmp(w->key, "source.serviceAccount") == 0)
		return strings_rewritten(x, &m->service_accounts, &m->not_service_accounts, &w->values, &w->not_values,
					 on_account);
	return CONDITION_OK; /* of requests: see when_http_add() */
}

/* request.*, connection.sni: once for the rule. */
static int when_http_add(struct expansion *x, const struct authz_rule *rule, struct policy_rule *out)
{
	out->when = calloc(rule->when.n + 1, sizeof(*out->when));
	if (!out->when)
		return -ENOMEM;
	for (size_t i = 0; i < rule->when.n; i++) {
		const struct authz_condition *w = &rule->when.v[i];
		if (str_starts(w->key, "experimental.")) {
			NOTE(x->notes, FINDING_ERROR, x->r, "%s is not supported: the rule %s", w->key,
			     refuses(x->action) ? "is in force without this condition" : "is left out");
			if (!refuses(x->action))
				return CONDITION_NEVER;
			continue;
		}
		int rc = authz_http_condition(w, &out->when[out->when_count]);
		if (rc < 0)
			return rc;
		out->when_count += (size_t)rc;
	}
	return CONDITION_OK;
}

/* --- rules */

static int alternative_build(struct expansion *x, const struct authz_rule *rule, size_t from, size_t to)
{
	int rc = CONDITION_OK;

	if (rule->from.n)
		rc = source_add(x, rule->from.v[from].source);
	if (!rc && rule->to.n)
		rc = operation_add(x, rule->to.v[to].operation);
	for (size_t i = 0; !rc && i < rule->when.n; i++)
		rc = when_add(x, &rule->when.v[i]);
	return rc;
}

/* 0: all alternatives that can match stand in out; -ENOMEM. */
static int rule_expand(struct expansion *x, const struct authz_rule *rule, struct policy_rule *out)
{
	size_t froms = rule->from.n ? rule->from.n : 1, tos = rule->to.n ? rule->to.n : 1;

	int rc = when_http_add(x, rule, out);
	if (rc)
		return rc == CONDITION_NEVER ? 0 : rc;
	out->matches = calloc(froms * tos, sizeof(*out->matches));
	if (!out->matches)
		return -ENOMEM;
	for (size_t i = 0; i < froms * tos; i++) {
		x->m = &out->matches[out->match_count++];
		rc = alternative_build(x, rule, i / tos, i % tos);
		if (rc < 0)
			return rc;
		x->m->has_http |= out->when_count > 0;
		if (rc == CONDITION_NEVER)
			policy_match_done(&out->matches[--out->match_count]);
	}
	return 0;
}

static int rule_build(struct expansion *x, size_t index, struct rule_list *rules, bool dry_run)
{
	const struct authz_rule *rule = &x->r->spec.authorization_policy->rules.v[index];
	struct policy_rule out = { .action = x->action, .index = rule->index, .dry_run = dry_run };
	int rc = -ENOMEM;
	bool all = !rule->from.n && !rule->to.n && !rule->when.n;

	out.name = str_format("%s/%s", x->r->ns, x->r->name);
	out.origin = str_format("%s:%u", x->r->file, x->r->line + rule->line_offset);
	const struct authz_provider *provider = x->r->spec.authorization_policy->provider;
	if (x->action == POLICY_CUSTOM)
		out.provider = strdup(provider ? provider->name : "");
	if (!out.name || !out.origin || (x->action == POLICY_CUSTOM && !out.provider))
		goto fail;
	rc = all ? 0 : rule_expand(x, rule, &out);
	if (rc < 0)
		goto fail;
	/* A rule that can't match is left out: without alternatives it would match everything. */
	if (!all && !out.match_count) {
		policy_rule_done(&out);
		return 0;
	}
	rc = mem_reserve(&rules->v, &rules->cap, rules->n + 1, sizeof(*rules->v));
	if (rc < 0)
		goto fail;
	rules->v[rules->n++] = out;
	return 0;
fail:
	policy_rule_done(&out);
	return rc;
}

int authz_rules_build(const struct compiler *c, const struct resource *r, struct rule_list *rules, struct notes *notes)
{
	static const enum policy_action actions[] = {
		[AUTHZ_ALLOW] = POLICY_ALLOW,
		[AUTHZ_DENY] = POLICY_DENY,
		[AUTHZ_AUDIT] = POLICY_AUDIT,
		[AUTHZ_CUSTOM] = POLICY_CUSTOM,
	};
	const struct authorization_policy_spec *spec = r->spec.authorization_policy;
	const char *dry = string_map_get(&r->annotations, "istio.io/dry-run");
	struct expansion x = { .c = c, .r = r, .action = actions[spec->action], .notes = notes };

	for (size_t i = 0; i < spec->rules.n; i++) {
		int rc = rule_build(&x, i, rules, dry && strcmp(dry, "true") == 0);
		if (rc < 0)
			return rc;
	}
	if (x.inexact)
		NOTE(notes, FINDING_WARNING, r,
		     "a prefix and a suffix pattern on one attribute can't be joined: the rule %s than it says",
		     x.action == POLICY_CUSTOM ? "asks more" :
		     x.action == POLICY_DENY   ? "denies more" :
						 "allows less");
	return 0;
}

void rule_list_done(struct rule_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		policy_rule_done(&list->v[i]);
	free(list->v);
	*list = (struct rule_list){ 0 };
}
