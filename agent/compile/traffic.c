/* SPDX-License-Identifier: Apache-2.0 */
/* DestinationRule's L4 part, and the mesh's defaults below it.
 * Istio looks in the client's namespace, the service's, then the root namespace. A plan is one node's, whose clients
 * may be of any namespace, so here it is the service's, then the root's. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/str.h"
#include "agent/compile/build.h"

enum { HOST_TEXT_MAX = 256, DEFAULT_EJECTION_PERCENT = 10, DEFAULT_FAILURES = 5 };

bool host_write_out(const struct compiler *c, const char *ns, const char *host, char out[256])
{
	int len;

	if (strchr(host, '.') || strcmp(host, "*") == 0)
		len = snprintf(out, HOST_TEXT_MAX, "%s", host);
	else
		len = snprintf(out, HOST_TEXT_MAX, "%s.%s.svc.%s", host, ns, c->mesh.cluster_domain);
	if (len < 0 || len >= HOST_TEXT_MAX)
		return false;
	for (char *p = out; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	return true;
}

static const struct resource *rule_for_host(const struct compiler *c, const char *ns, const char *host)
{
	struct bag_key key;
	bag_key_label(&key, ns, "", host);
	struct bag_items rules = bag_get(&c->rules, key.bytes, key.len);
	const struct resource *best = NULL;

	for (size_t i = 0; i < rules.n; i++) {
		const struct resource *r = rules.v[i];
		if (r->spec.destination_rule->workload_selector) /* of some clients only */
			continue;
		if (!best || strcmp(r->key, best->key) < 0)
			best = r;
	}
	return best;
}

/* The most specific in one namespace: the host itself, then wildcards from the longest. */
static const struct resource *rule_in_namespace(const struct compiler *c, const char *ns, const char *host)
{
	const struct resource *r = rule_for_host(c, ns, host);
	char wild[HOST_TEXT_MAX + 1];

	for (const char *dot = strchr(host, '.'); !r && dot; dot = strchr(dot + 1, '.')) {
		if (dot == host + 1 && host[0] == '*') /* "*.a.b" itself has been looked for */
			continue;
		snprintf(wild, sizeof(wild), "*%s", dot);
		r = rule_for_host(c, ns, wild);
	}
	return r ? r : rule_for_host(c, ns, "*");
}

const struct resource *traffic_rule(const struct compiler *c, const char *ns, const char *hostname)
{
	const struct resource *r = rule_in_namespace(c, ns, hostname);

	return r ? r : rule_in_namespace(c, c->mesh.root_namespace, hostname);
}

static uint32_t clamp_u32(uint64_t v)
{
	return v > UINT32_MAX ? UINT32_MAX : (uint32_t)v;
}

static void keepalive_apply(const struct tcp_keepalive *from, struct tcp_settings *to)
{
	enum { TIME_S = 7200, INTERVAL_S = 75, PROBES = 9 }; /* Linux's: asking for keepalive turns it on */

	to->keepalive_time_s = from->time.set ? clamp_u32((from->time.ms + 999) / 1000) : TIME_S;
	to->keepalive_interval_s = from->interval.set ? clamp_u32((from->interval.ms + 999) / 1000) : INTERVAL_S;
	to->keepalive_probes = from->probes.set ? from->probes.v : PROBES;
}

void traffic_pool_apply(const struct connection_pool *pool, struct traffic *out)
{
	const struct connection_pool_tcp *tcp = pool ? pool->tcp : NULL;
	if (!tcp)
		return;

	out->tcp.max_connections = tcp->max_connections;
	if (tcp->connect_timeout.set)
		out->tcp.connect_timeout_ms = clamp_u32(tcp->connect_timeout.ms);
	if (tcp->tcp_keepalive)
		keepalive_apply(tcp->tcp_keepalive, &out->tcp);
	if (tcp->max_connection_duration.set)
		out->tcp.max_connection_duration_ms = clamp_u32(tcp->max_connection_duration.ms);
	if (tcp->idle_timeout.set)
		out->tcp.idle_timeout_ms = clamp_u32(tcp->idle_timeout.ms);
}

/* On TCP a failed connect counts as a 5xx, unless local errors are told apart. */
static void outlier_apply(const struct outlier_detection *from, struct traffic *out)
{
	if (!from)
		return;
	struct opt_u32 failures = from->split_external_local_origin_errors ? from->consecutive_local_origin_failures :
									     from->consecutive_5xx_errors;
	out->outlier_set = true;
	out->outlier = (struct outlier_settings){
		.consecutive_failures = failures.set ? failures.v : DEFAULT_FAILURES,
		.interval_ms = from->interval.set ? clamp_u32(from->interval.ms) : 10000,
		.base_ejection_ms = from->base_ejection_time.set ? clamp_u32(from->base_ejection_time.ms) : 30000,
		.max_ejection_percent = (uint8_t)(from->max_ejection_percent.set ? from->max_ejection_percent.v :
										   DEFAULT_EJECTION_PERCENT),
		.min_health_percent = (uint8_t)from->min_health_percent,
	};
}

static void balancer_apply(const struct load_balancer *from, struct traffic *out)
{
	static const enum lb_algorithm simple[] = {
		[SIMPLE_LB_UNSPECIFIED] = LB_LEAST_REQUEST,   [SIMPLE_LB_RANDOM] = LB_RANDOM,
		[SIMPLE_LB_PASSTHROUGH] = LB_PASSTHROUGH,     [SIMPLE_LB_ROUND_ROBIN] = LB_ROUND_ROBIN,
		[SIMPLE_LB_LEAST_REQUEST] = LB_LEAST_REQUEST,
	};

	if (!from)
		return;
	/* Headers and cookies are not to be had at L4: as Envoy's TCP proxy, without a key it is as if not written. */
	if (!from->consistent_hash)
		out->lb = simple[from->simple];
	else if (from->consistent_hash->use_source_ip)
		out->lb = LB_CONSISTENT_HASH;
	if (from->locality_lb_setting)
		out->locality = from->locality_lb_setting;
}

void traffic_of(const struct compiler *c, const char *ns, const char *hostname, uint16_t port, struct traffic *out)
{
	*out = (struct traffic){ .lb = LB_LEAST_REQUEST };
	out->tcp.connect_timeout_ms = c->mesh.connect_timeout_ms;
	if (c->mesh_config) {
		out->locality = c->mesh_config->locality_lb_setting;
		if (c->mesh_config->tcp_keepalive)
			keepalive_apply(c->mesh_config->tcp_keepalive, &out->tcp);
	}

	out->rule = traffic_rule(c, ns, hostname);
	const struct traffic_policy *policy = out->rule ? out->rule->spec.destination_rule->traffic_policy : NULL;
	if (!policy)
		return;
	/* A port's settings replace the whole policy's, each as a unit. */
	const struct load_balancer *lb = policy->load_balancer;
	const struct connection_pool *pool = policy->connection_pool;
	const struct outlier_detection *outlier = policy->outlier_detection;
	for (size_t i = 0; port && i < policy->port_level_settings.n; i++) {
		const struct port_traffic_policy *level = &policy->port_level_settings.v[i];
		if (level->port->number != port)
			continue;
		lb = level->load_balancer;
		pool = level->connection_pool;
		outlier = level->outlier_detection;
		break;
	}
	balancer_apply(lb, out);
	traffic_pool_apply(pool, out);
	outlier_apply(outlier, out);
}
