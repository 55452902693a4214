/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/route/tcp_route.h"

#include <string.h>
#include <strings.h>

#include "agent/model/l7.h"

/* "*.example.com" stands for any label or labels before it, not for example.com itself. */
static bool host_matches(const char *pattern, const char *name)
{
	if (strcmp(pattern, "*") == 0)
		return true;
	if (pattern[0] != '*')
		return strcasecmp(pattern, name) == 0;
	size_t suffix = strlen(pattern + 1), n = strlen(name);
	return n > suffix && strcasecmp(pattern + 1, name + n - suffix) == 0;
}

static bool route_matches(const struct l4_route *route, const struct addr_port *original, const char *name)
{
	bool sni = route->sni_host_count == 0, to = route->destination_count == 0;
	for (size_t i = 0; i < route->sni_host_count && !sni; i++)
		sni = *name && host_matches(route->sni_hosts[i], name);
	for (size_t i = 0; i < route->destination_count && !to; i++)
		to = cidr_contains(&route->destinations[i], &original->addr);
	return sni && to;
}

static const char *by_weight(const struct l4_route *route, uint32_t random)
{
	if (route->cluster_count == 1)
		return route->clusters[0].cluster;
	if (!route->total_weight)
		return NULL;
	uint32_t at = random % route->total_weight;
	for (size_t i = 0; i < route->cluster_count; i++) {
		if (at < route->clusters[i].weight)
			return route->clusters[i].cluster;
		at -= route->clusters[i].weight;
	}
	return NULL;
}

const char *tcp_route_pick(const struct l7_target *target, const struct addr_port *original, const char *name,
			   uint32_t random)
{
	for (size_t i = 0; i < target->l4_count; i++)
		if (route_matches(&target->l4[i], original, name))
			return by_weight(&target->l4[i], random);
	return target->default_cluster;
}

bool tcp_route_wants_name(const struct l7_target *target)
{
	for (size_t i = 0; i < target->l4_count; i++)
		if (target->l4[i].sni_host_count)
			return true;
	return false;
}
