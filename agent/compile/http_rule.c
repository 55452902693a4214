/* SPDX-License-Identifier: Apache-2.0 */
/* What a DestinationRule says of one port, and of a subset of it, by Istio's rules of merging: a subset's setting replaces
 * the rule's; what is said of a port replaces all of load balancer, pool, outlier detection and TLS, said or not. */
#include <string.h>

#include "agent/base/str.h"
#include "agent/compile/http.h"

static void policy_merge(struct http_rule *out, const struct traffic_policy *p, uint16_t port)
{
	if (!p)
		return;
	if (p->load_balancer)
		out->lb = p->load_balancer;
	if (p->connection_pool)
		out->pool = p->connection_pool;
	if (p->outlier_detection)
		out->outlier = p->outlier_detection;
	if (p->tls)
		out->tls = p->tls;
	if (p->tunnel)
		out->tunnel = p->tunnel;
	if (p->proxy_protocol)
		out->proxy_protocol = p->proxy_protocol;
	if (p->retry_budget)
		out->retry_budget = p->retry_budget;
	for (size_t i = 0; port && i < p->port_level_settings.n; i++) {
		const struct port_traffic_policy *level = &p->port_level_settings.v[i];
		if (level->port->number != port)
			continue;
		out->lb = level->load_balancer;
		out->pool = level->connection_pool;
		out->outlier = level->outlier_detection;
		out->tls = level->tls;
		break;
	}
}

void http_rule_of(const struct rule_set *set, uint16_t port, const char *subset, struct http_rule *out)
{
	*out = (struct http_rule){ .set = set };
	policy_merge(out, rules_policy(set), port);
	for (size_t i = 0; subset && *subset && !out->subset && i < set->n; i++) {
		const struct destination_rule_spec *spec = set->v[i]->spec.destination_rule;
		for (size_t k = 0; k < spec->subsets.n && !out->subset; k++)
			if (str_eq(spec->subsets.v[k].name, subset))
				out->subset = &spec->subsets.v[k];
	}
	if (out->subset)
		policy_merge(out, out->subset->traffic_policy, port);
}

const char *http_rule_note(const struct rule_set *set, const char *annotation)
{
	const char *value = NULL;

	for (size_t i = 0; !value && i < set->n; i++)
		value = string_map_get(&set->v[i]->annotations, annotation);
	return value;
}
