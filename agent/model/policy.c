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
	*m = (struct policy_match){ 0 };
}

void policy_rule_done(struct policy_rule *rule)
{
	for (size_t i = 0; i < rule->match_count; i++)
		policy_match_done(&rule->matches[i]);
	free(rule->matches);
	free(rule->name);
	free(rule->origin);
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
