/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/model/policy.h"

#include <stdlib.h>

struct policy *policy_new(void)
{
	struct policy *p = calloc(1, sizeof(*p));
	if (p)
		p->refs = 1;
	return p;
}

struct policy *policy_ref(struct policy *p)
{
	__atomic_add_fetch(&p->refs, 1, __ATOMIC_RELAXED);
	return p;
}

static void strings_done(struct match_strings *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->v[i].text);
	free(s->v);
}

void policy_match_done(struct policy_match *m)
{
	strings_done(&m->principals);
	strings_done(&m->not_principals);
	strings_done(&m->namespaces);
	strings_done(&m->not_namespaces);
	strings_done(&m->service_accounts);
	strings_done(&m->not_service_accounts);
	free(m->ip_blocks.v);
	free(m->not_ip_blocks.v);
	free(m->remote_ip_blocks.v);
	free(m->not_remote_ip_blocks.v);
	free(m->destination_ips.v);
	free(m->not_destination_ips.v);
	free(m->ports.v);
	free(m->not_ports.v);
	strings_done(&m->request_principals);
	strings_done(&m->not_request_principals);
	strings_done(&m->hosts);
	strings_done(&m->not_hosts);
	strings_done(&m->methods);
	strings_done(&m->not_methods);
	strings_done(&m->paths);
	strings_done(&m->not_paths);
	*m = (struct policy_match){ 0 };
}

void policy_condition_done(struct policy_condition *c)
{
	for (size_t i = 0; i < c->path_count; i++)
		free(c->path[i]);
	free(c->path);
	strings_done(&c->values);
	strings_done(&c->not_values);
	*c = (struct policy_condition){ 0 };
}

void policy_rule_done(struct policy_rule *rule)
{
	for (size_t i = 0; i < rule->match_count; i++)
		policy_match_done(&rule->matches[i]);
	for (size_t i = 0; i < rule->when_count; i++)
		policy_condition_done(&rule->when[i]);
	free(rule->matches);
	free(rule->when);
	free(rule->name);
	free(rule->origin);
	free(rule->provider);
}

void policy_unref(struct policy *p)
{
	if (!p || __atomic_sub_fetch(&p->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;

	for (size_t i = 0; i < p->rule_count; i++)
		policy_rule_done(&p->rules[i]);
	free(p->rules);
	free(p->port_mtls);
	free(p->mtls_origin);
	free(p->allow_names);
	free(p);
}

static bool match_has_request(const struct policy_match *m)
{
	return m->request_principals.n || m->not_request_principals.n || m->hosts.n || m->not_hosts.n || m->methods.n ||
	       m->not_methods.n || m->paths.n || m->not_paths.n;
}

bool policy_rule_is_http(const struct policy_rule *rule, size_t i)
{
	if (match_has_request(&rule->matches[i]))
		return true;
	for (size_t k = 0; k < rule->when_count; k++)
		if (rule->when[k].attribute != POLICY_SNI)
			return true;
	return rule->matches[i].has_http && !rule->when_count;
}

static bool has_port(const struct match_ports *p, uint16_t port)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->v[i] == port)
			return true;
	return false;
}

static bool rule_has_port(const struct policy_rule *rule, uint16_t port)
{
	for (size_t i = 0; i < rule->match_count; i++) {
		const struct policy_match *m = &rule->matches[i];
		if ((!m->ports.n || has_port(&m->ports, port)) && !has_port(&m->not_ports, port))
			return true;
	}
	return !rule->match_count;
}

bool policy_needs_sni(const struct policy *p, uint16_t port)
{
	for (size_t i = 0; p && i < p->rule_count; i++) {
		const struct policy_rule *rule = &p->rules[i];
		for (size_t k = 0; k < rule->when_count; k++)
			if (rule->when[k].attribute == POLICY_SNI && rule_has_port(rule, port))
				return true;
	}
	return false;
}

bool policy_needs_http(const struct policy *p)
{
	for (size_t i = 0; p && i < p->rule_count; i++) {
		const struct policy_rule *rule = &p->rules[i];
		if (rule->action == POLICY_CUSTOM || rule->when_count)
			return true;
		for (size_t k = 0; k < rule->match_count; k++)
			if (rule->matches[k].has_http)
				return true;
	}
	return false;
}

bool policy_names_remote_ip(const struct policy *p)
{
	for (size_t i = 0; p && i < p->rule_count; i++)
		for (size_t k = 0; k < p->rules[i].match_count; k++)
			if (p->rules[i].matches[k].remote_ip_blocks.n || p->rules[i].matches[k].not_remote_ip_blocks.n)
				return true;
	return false;
}
