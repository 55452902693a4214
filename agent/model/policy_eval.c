/* SPDX-License-Identifier: Apache-2.0 */
/* The verdict, in Istio's order: mutual TLS mode, DENY, ALLOW. Rules that are only watched (AUDIT, dry run) are
 * reported beside the verdict and never part of it. */
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/str.h"
#include "agent/model/identity.h"
#include "agent/model/policy.h"

static bool strings_match(const struct match_strings *s, const char *text)
{
	for (size_t i = 0; i < s->n; i++)
		if (match_string_matches(&s->v[i], text))
			return true;
	return false;
}

static bool strings_hold(const struct match_strings *yes, const struct match_strings *no, const char *text)
{
	return (!yes->n || strings_match(yes, text)) && !strings_match(no, text);
}

static bool cidrs_match(const struct match_cidrs *c, const struct addr *a)
{
	for (size_t i = 0; i < c->n; i++)
		if (cidr_contains(&c->v[i], a))
			return true;
	return false;
}

static bool cidrs_hold(const struct match_cidrs *yes, const struct match_cidrs *no, const struct addr *a)
{
	return (!yes->n || cidrs_match(yes, a)) && !cidrs_match(no, a);
}

static bool ports_match(const struct match_ports *p, uint16_t port)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->v[i] == port)
			return true;
	return false;
}

/* "ns/account" against "ns/account" patterns, without allocating: both names are at most 253 bytes. */
static bool accounts_hold(const struct policy_match *m, const struct identity *peer)
{
	if (!m->service_accounts.n && !m->not_service_accounts.n)
		return true;

	char text[2 * 254 + 2];
	int len = peer ? snprintf(text, sizeof(text), "%s/%s", peer->ns, peer->service_account) : 0;
	if (len < 0 || (size_t)len >= sizeof(text))
		return false;
	return strings_hold(&m->service_accounts, &m->not_service_accounts, peer ? text : "");
}

bool policy_match_peer(const struct policy_match *m, const struct identity *peer)
{
	/* Nobody has the empty name, so an anonymous peer matches no pattern and passes every `not`. */
	const char *principal = peer ? identity_principal(peer) : "";
	const char *ns = peer ? peer->ns : "";

	return strings_hold(&m->principals, &m->not_principals, principal) &&
	       strings_hold(&m->namespaces, &m->not_namespaces, ns) && accounts_hold(m, peer);
}

static bool match_holds(const struct policy_rule *rule, size_t i, const struct policy_input *in)
{
	const struct policy_match *m = &rule->matches[i];
	bool refuses = rule->action == POLICY_DENY || rule->action == POLICY_CUSTOM;

	/* Of a server name that is known, rule_matches() has seen to it. */
	if (m->has_http && refuses == in->requests_later && (!in->sni || policy_rule_is_http(rule, i)))
		return false;
	if (m->ports.n && !ports_match(&m->ports, in->port))
		return false;
	if (ports_match(&m->not_ports, in->port))
		return false;
	return cidrs_hold(&m->ip_blocks, &m->not_ip_blocks, &in->source) &&
	       cidrs_hold(&m->remote_ip_blocks, &m->not_remote_ip_blocks, &in->source) &&
	       cidrs_hold(&m->destination_ips, &m->not_destination_ips, &in->destination) &&
	       policy_match_peer(m, in->peer);
}

/* Envoy: no name is as an absent one, which matches nothing and passes every `not`. */
bool policy_condition_holds_sni(const struct policy_condition *c, const char *sni)
{
	const char *p = *sni ? sni : NULL;
	size_t n = strlen(sni);

	return (!c->values.n || match_strings_hold(&c->values, p, n, true)) &&
	       !match_strings_hold(&c->not_values, p, n, true);
}

static bool rule_matches(const struct policy_rule *rule, const struct policy_input *in)
{
	for (size_t i = 0; in->sni && i < rule->when_count; i++)
		if (rule->when[i].attribute == POLICY_SNI && !policy_condition_holds_sni(&rule->when[i], in->sni))
			return false;
	for (size_t i = 0; i < rule->match_count; i++)
		if (match_holds(rule, i, in))
			return true;
	return rule->match_count == 0;
}

enum mtls_mode policy_mtls_mode(const struct policy *p, uint16_t port)
{
	for (size_t i = 0; i < p->port_mtls_count; i++)
		if (p->port_mtls[i].port == port)
			return p->port_mtls[i].mode;
	return p->mtls;
}

static const struct policy_rule *rule_first(const struct policy *p, enum policy_action action,
					    const struct policy_input *in)
{
	for (size_t i = 0; i < p->rule_count; i++)
		if (p->rules[i].action == action && !p->rules[i].dry_run && rule_matches(&p->rules[i], in))
			return &p->rules[i];
	return NULL;
}

static const struct policy_rule *audit_first(const struct policy *p, const struct policy_input *in)
{
	for (size_t i = 0; i < p->rule_count; i++) {
		const struct policy_rule *rule = &p->rules[i];
		if ((rule->action == POLICY_AUDIT || rule->dry_run) && rule_matches(rule, in))
			return rule;
	}
	return NULL;
}

void policy_eval(const struct policy *p, const struct policy_input *in, struct policy_verdict *out)
{
	*out = (struct policy_verdict){ .reason = DROP_NONE };

	if (policy_mtls_mode(p, in->port) == MTLS_STRICT && !in->peer && !in->from_node) {
		out->reason = DROP_MTLS_REQUIRED;
		return;
	}
	if (in->proto == IPPROTO_UDP)
		return;

	out->audit = audit_first(p, in);
	out->rule = rule_first(p, POLICY_CUSTOM, in); /* nobody can be asked */
	if (!out->rule)
		out->rule = rule_first(p, POLICY_DENY, in);
	if (out->rule) {
		out->reason = DROP_POLICY_DENY;
		return;
	}
	if (!p->has_allow)
		return;
	out->rule = rule_first(p, POLICY_ALLOW, in);
	if (!out->rule)
		out->reason = DROP_POLICY_NO_ALLOW;
}
