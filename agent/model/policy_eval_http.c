/* SPDX-License-Identifier: Apache-2.0 */
/* The verdict on a request. What is absent matches no pattern and passes every `not`, as in Envoy's matchers. */
#include "agent/model/policy_http.h"

#include <stdio.h>
#include <string.h>

#include "agent/base/str.h"
#include "agent/model/identity.h"

static bool both_hold(const struct match_strings *yes, const struct match_strings *no, struct http_view v, bool nocase)
{
	return (!yes->n || match_strings_hold(yes, v.p, v.n, nocase)) && !match_strings_hold(no, v.p, v.n, nocase);
}

static bool cidrs_hold(const struct match_cidrs *yes, const struct match_cidrs *no, const struct addr *a)
{
	bool found = !yes->n;

	for (size_t i = 0; i < yes->n && !found; i++)
		found = cidr_contains(&yes->v[i], a);
	for (size_t i = 0; i < no->n && found; i++)
		found = !cidr_contains(&no->v[i], a);
	return found;
}

static bool has_port(const struct match_ports *p, uint16_t port)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->v[i] == port)
			return true;
	return false;
}

/* "a.example.:8080" without its port, which may be empty, and without the dot of the root; an IPv6 literal keeps its
 * brackets. */
static struct http_view bare_host(struct http_view host)
{
	size_t n = host.n;

	while (n && host.p[n - 1] >= '0' && host.p[n - 1] <= '9')
		n--;
	if (n && host.p[n - 1] == ':' && (n == 1 || host.p[n - 2] == ']' || !memchr(host.p, ':', n - 1)))
		host.n = n - 1;
	if (host.n > 1 && host.p[host.n - 1] == '.')
		host.n--;
	return host;
}

static bool hosts_hold(const struct policy_match *m, struct http_view host)
{
	if (!m->hosts.n && !m->not_hosts.n)
		return true;
	struct http_view bare = bare_host(host);

	if (m->hosts.n && !match_strings_hold(&m->hosts, host.p, host.n, true) &&
	    !match_strings_hold(&m->hosts, bare.p, bare.n, true))
		return false;
	return !match_strings_hold(&m->not_hosts, host.p, host.n, true) &&
	       !match_strings_hold(&m->not_hosts, bare.p, bare.n, true);
}

/* NULL: the alternative holds; else the first field that does not. */
static const char *match_why(const struct policy_match *m, const struct policy_http_input *in)
{
	const struct http_request_view *r = in->request;

	if ((m->ports.n && !has_port(&m->ports, in->port)) || has_port(&m->not_ports, in->port))
		return "ports";
	if (!both_hold(&m->methods, &m->not_methods, r->method, false))
		return "methods";
	if (!both_hold(&m->paths, &m->not_paths, r->path, false))
		return "paths";
	if (!hosts_hold(m, r->authority))
		return "hosts";
	if (!policy_match_peer(m, in->peer))
		return "from";
	if (!cidrs_hold(&m->ip_blocks, &m->not_ip_blocks, &in->source))
		return "ipBlocks";
	if (!cidrs_hold(&m->remote_ip_blocks, &m->not_remote_ip_blocks, &in->remote))
		return "remoteIpBlocks";
	if (!cidrs_hold(&m->destination_ips, &m->not_destination_ips, &in->destination))
		return "destination.ip";
	if (!both_hold(&m->request_principals, &m->not_request_principals, in->request_principal, false))
		return "requestPrincipals";
	return NULL;
}

/* --- when */

static struct http_view header_of(const struct http_request_view *r, const char *name)
{
	if (strcmp(name, "host") == 0) /* which is no field of its own */
		return r->authority;
	if (name[0] != ':')
		return r->header(r, name);
	if (strcmp(name, ":method") == 0)
		return r->method;
	if (strcmp(name, ":authority") == 0)
		return r->authority;
	if (strcmp(name, ":scheme") == 0)
		return r->scheme;
	return strcmp(name, ":path") == 0 ? r->path : (struct http_view){ 0 };
}

static bool on_claim_value(struct http_view value, void *arg)
{
	return match_strings_hold(arg, value.p, value.n, false);
}

static bool claim_matches(const struct policy_condition *c, const struct match_strings *values,
			  const struct policy_http_input *in)
{
	return in->claim && values->n &&
	       in->claim(in->claims, c->path, c->path_count, on_claim_value, (struct match_strings *)values);
}

static bool condition_holds(const struct policy_condition *c, const struct policy_http_input *in)
{
	switch (c->attribute) {
	case POLICY_HEADER:
		return both_hold(&c->values, &c->not_values, header_of(in->request, c->path[0]), false);
	case POLICY_REQUEST_PRINCIPAL:
		return both_hold(&c->values, &c->not_values, in->request_principal, false);
	case POLICY_SNI:
		return both_hold(&c->values, &c->not_values, in->sni, true);
	case POLICY_CLAIM:
		return (!c->values.n || claim_matches(c, &c->values, in)) && !claim_matches(c, &c->not_values, in);
	}
	return false;
}

static const char *condition_text(const struct policy_condition *c, char *buf, size_t size)
{
	if (c->attribute == POLICY_REQUEST_PRINCIPAL)
		return "request.auth.principal";
	if (c->attribute == POLICY_SNI)
		return "connection.sni";
	snprintf(buf, size, "%s", c->attribute == POLICY_HEADER ? "request.headers" : "request.auth.claims");
	for (size_t i = 0; i < c->path_count; i++) {
		size_t len = strlen(buf);
		snprintf(buf + len, size - len, "[%s]", c->path[i]);
	}
	return buf;
}

/* --- rules */

const char *policy_rule_why(const struct policy_rule *rule, const struct policy_http_input *in, char *buf, size_t size)
{
	const char *why = NULL;

	for (size_t i = 0; i < rule->match_count; i++) {
		why = match_why(&rule->matches[i], in);
		if (!why)
			break;
	}
	if (why)
		return why;
	for (size_t i = 0; i < rule->when_count; i++)
		if (!condition_holds(&rule->when[i], in))
			return condition_text(&rule->when[i], buf, size);
	return NULL;
}

void policy_rule_text(const struct policy_rule *rule, char *buf, size_t size)
{
	const char *slash = strchr(rule->name, '/');

	snprintf(buf, size, "ns[%.*s]-policy[%s]-rule[%u]", slash ? (int)(slash - rule->name) : 0, rule->name,
		 slash ? slash + 1 : rule->name, rule->index);
}

static bool rule_holds(const struct policy_rule *rule, const struct policy_http_input *in)
{
	bool found = rule->match_count == 0;

	for (size_t i = 0; i < rule->match_count && !found; i++)
		found = !match_why(&rule->matches[i], in);
	for (size_t i = 0; i < rule->when_count && found; i++)
		found = condition_holds(&rule->when[i], in);
	return found;
}

/* false: too many providers. */
static bool custom_add(struct policy_http_verdict *out, const struct policy_rule *rule)
{
	for (size_t i = 0; i < out->custom_count; i++)
		if (str_eq(out->custom[i]->provider, rule->provider))
			return true;
	if (out->custom_count == POLICY_CUSTOM_MAX)
		return false;
	out->custom[out->custom_count++] = rule;
	return true;
}

static bool provider_known(const struct policy_http_verdict *out, const char *provider)
{
	for (size_t i = 0; i < out->custom_count; i++)
		if (str_eq(out->custom[i]->provider, provider))
			return true;
	return false;
}

/* Whether a rule may still change the verdict. */
static bool is_open(const struct policy_http_verdict *v, const struct policy_rule *rule)
{
	if (rule->dry_run)
		return true;
	switch (rule->action) {
	case POLICY_AUDIT:
		return !v->audit;
	case POLICY_CUSTOM:
		return !provider_known(v, rule->provider);
	case POLICY_DENY:
		return v->reason != DROP_POLICY_DENY;
	case POLICY_ALLOW:
		return v->reason == DROP_POLICY_NO_ALLOW;
	}
	return false;
}

/* Istio asks dry-run rules of DENY and of ALLOW apart from each other and from those in force. */
static void watch(struct policy_http_verdict *v, const struct policy_rule *rule)
{
	struct policy_shadow *s = rule->action == POLICY_DENY  ? &v->dry_deny :
				  rule->action == POLICY_ALLOW ? &v->dry_allow :
								 NULL;

	if (rule->dry_run && s && !s->rule)
		s->rule = rule;
	if (!v->audit)
		v->audit = rule;
}

bool policy_shadow_refuses(const struct policy_shadow *shadow, enum policy_action action)
{
	return shadow->asked && (action == POLICY_DENY) == (shadow->rule != NULL);
}

void policy_eval_http(const struct policy *p, const struct policy_http_input *in, struct policy_http_verdict *out)
{
	*out = (struct policy_http_verdict){ .reason = p->has_allow ? DROP_POLICY_NO_ALLOW : DROP_NONE };
	if (policy_mtls_mode(p, in->port) == MTLS_STRICT && !in->peer && !in->from_node) {
		out->reason = DROP_MTLS_REQUIRED;
		return;
	}
	if (!in->request->path.p) {
		out->reason = DROP_POLICY_DENY;
		return;
	}
	for (size_t i = 0; i < p->rule_count; i++) {
		const struct policy_rule *rule = &p->rules[i];

		out->dry_deny.asked |= rule->dry_run && rule->action == POLICY_DENY;
		out->dry_allow.asked |= rule->dry_run && rule->action == POLICY_ALLOW;
		if (!is_open(out, rule) || !rule_holds(rule, in))
			continue;
		if (rule->dry_run || rule->action == POLICY_AUDIT) {
			watch(out, rule);
		} else if (rule->action != POLICY_CUSTOM || !custom_add(out, rule)) {
			out->rule = rule;
			out->reason = rule->action == POLICY_ALLOW ? DROP_NONE : DROP_POLICY_DENY;
		}
	}
}
