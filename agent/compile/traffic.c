/* SPDX-License-Identifier: Apache-2.0 */
/* DestinationRule's L4 part, and the mesh's defaults below it. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/str.h"
#include "agent/compile/http.h"

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

static void traffic_pool_apply(const struct connection_pool *pool, struct traffic *out)
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

void traffic_of(const struct compiler *c, const struct rules_asked *asked, uint16_t port, struct traffic *out)
{
	struct http_rule rule;

	*out = (struct traffic){ .lb = LB_LEAST_REQUEST };
	out->tcp.connect_timeout_ms = c->mesh.connect_timeout_ms;
	if (c->mesh_config) {
		out->locality = c->mesh_config->locality_lb_setting;
		if (c->mesh_config->tcp_keepalive)
			keepalive_apply(c->mesh_config->tcp_keepalive, &out->tcp);
	}
	out->labels = asked->labels;
	out->label_count = asked->label_count;
	http_rule_of(asked->set, port, asked->subset, &rule);
	balancer_apply(rule.lb, out);
	traffic_pool_apply(rule.pool, out);
	outlier_apply(rule.outlier, out);
}
