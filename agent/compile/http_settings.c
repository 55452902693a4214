/* SPDX-License-Identifier: Apache-2.0 */
/* What a DestinationRule, and the mesh, say of a cluster: balancing, limits, outlier detection. TLS is http_tls.c's. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/str.h"
#include "agent/compile/http_cluster.h"
#include "agent/compile/http_tls.h"
#include "agent/config/kinds_http.h"

static uint32_t clamp_u32(uint64_t v)
{
	return v > UINT32_MAX ? UINT32_MAX : (uint32_t)v;
}

static uint32_t ms(const struct opt_ms *t)
{
	return t->set ? clamp_u32(t->ms) : 0;
}

/* --- balancing */

static uint32_t next_prime(uint64_t n)
{
	enum { MAGLEV_MAX = 5000011 }; /* Envoy's */

	if (n >= MAGLEV_MAX)
		return MAGLEV_MAX;
	for (uint32_t p = n < 3 ? 3 : (uint32_t)n | 1;; p += 2) {
		bool prime = true;
		for (uint32_t d = 3; prime && (uint64_t)d * d <= p; d += 2)
			prime = p % d != 0;
		if (prime)
			return p;
	}
}

static int cookie_set(struct http_cluster *out, const struct http_cookie *cookie)
{
	struct sb sb = { 0 };

	out->cookie_make = cookie->ttl.set;
	out->cookie_ttl_s = ms(&cookie->ttl) / 1000;
	if (cookie->path && !(out->cookie_path = strdup(cookie->path)))
		return -ENOMEM;
	for (size_t i = 0; i < cookie->attributes.n; i++) {
		const struct cookie_attribute *a = &cookie->attributes.v[i];
		sb_addf(&sb, "; %s%s%s", a->name ? a->name : "", a->value && *a->value ? "=" : "",
			a->value ? a->value : "");
	}
	if (cookie->attributes.n && !(out->cookie_attributes = sb_take(&sb)))
		return -ENOMEM;
	return 0;
}

static int hash_set(struct http_cluster *out, const struct consistent_hash *hash)
{
	enum { RING_MAX = 8 * 1024 * 1024 };
	const char *key = NULL;
	uint64_t ring = hash->ring_hash ? hash->ring_hash->minimum_ring_size : hash->minimum_ring_size;

	out->lb = hash->maglev ? CLUSTER_MAGLEV : CLUSTER_RING_HASH;
	if (ring)
		out->ring_size_min = ring > RING_MAX ? RING_MAX : (uint32_t)ring;
	if (hash->maglev && hash->maglev->table_size)
		out->maglev_size = next_prime(hash->maglev->table_size);
	if (hash->http_header_name) {
		out->hash = HASH_HEADER;
		key = hash->http_header_name;
	} else if (hash->http_cookie) {
		out->hash = HASH_COOKIE;
		key = hash->http_cookie->name;
		if (cookie_set(out, hash->http_cookie) < 0)
			return -ENOMEM;
	} else if (hash->use_source_ip) {
		out->hash = HASH_SOURCE_IP;
	} else if (hash->http_query_parameter_name) {
		out->hash = HASH_QUERY;
		key = hash->http_query_parameter_name;
	}
	if (key && !(out->hash_key = strdup(key)))
		return -ENOMEM;
	for (char *p = out->hash == HASH_HEADER ? out->hash_key : NULL; p && *p; p++)
		*p = *p >= 'A' && *p <= 'Z' ? (char)(*p + 32) : *p;
	return 0;
}

static void warmup_set(struct http_cluster *out, const struct load_balancer *lb)
{
	if (out->lb != CLUSTER_LEAST_REQUEST && out->lb != CLUSTER_ROUND_ROBIN)
		return;
	out->warmup_ms = lb->warmup ? ms(&lb->warmup->duration) : ms(&lb->warmup_duration_secs);
	if (lb->warmup && lb->warmup->minimum_percent.set)
		out->warmup_min_percent = (uint32_t)lround(fmin(fmax(lb->warmup->minimum_percent.v, 0), 100));
	if (lb->warmup && lb->warmup->aggression.set && lb->warmup->aggression.v >= 1)
		out->warmup_aggression = lb->warmup->aggression.v;
}

static int balancer_set(struct http_cluster *out, const struct service *s, const struct service_port *port,
			const struct http_rule *rule)
{
	static const enum cluster_lb simple[] = {
		[SIMPLE_LB_UNSPECIFIED] = CLUSTER_LEAST_REQUEST,   [SIMPLE_LB_RANDOM] = CLUSTER_RANDOM,
		[SIMPLE_LB_PASSTHROUGH] = CLUSTER_PASSTHROUGH,	   [SIMPLE_LB_ROUND_ROBIN] = CLUSTER_ROUND_ROBIN,
		[SIMPLE_LB_LEAST_REQUEST] = CLUSTER_LEAST_REQUEST,
	};
	const char *own = http_rule_note(rule->set, "weft.dev/load-balancer");

	if (rule->lb && !rule->lb->consistent_hash)
		out->lb = simple[rule->lb->simple];
	else if (rule->lb && hash_set(out, rule->lb->consistent_hash) < 0)
		return -ENOMEM;
	if (!rule->lb && s->affinity_timeout_s) { /* sessionAffinity: ClientIP, as the kernel balances connections */
		out->lb = CLUSTER_MAGLEV;
		out->hash = HASH_SOURCE_IP;
	}
	if (str_eq(own, "peak-ewma") && !(rule->lb && rule->lb->consistent_hash))
		out->lb = CLUSTER_PEAK_EWMA;
	if (rule->lb)
		warmup_set(out, rule->lb);
	/* There is nothing to choose: the caller has chosen an address. */
	if (s->kind == SERVICE_HEADLESS || port->lb == LB_PASSTHROUGH)
		out->lb = CLUSTER_PASSTHROUGH;
	out->original_port = port->original_port;
	return 0;
}

/* --- limits */

static void pool_set(struct http_cluster *out, const struct connection_pool_http *http,
		     const struct retry_budget *budget)
{
	enum { BUDGET_PERCENT = 20, BUDGET_MIN = 3 };

	if (http) {
		out->max_pending = http->http1_max_pending_requests;
		out->max_requests = http->http2_max_requests;
		out->max_requests_per_connection = http->max_requests_per_connection;
		out->max_retries = http->max_retries.set ? http->max_retries.v : 0;
		out->http_idle_ms = ms(&http->idle_timeout);
		out->max_concurrent_streams = http->max_concurrent_streams;
	}
	if (budget) {
		double percent = budget->percent.set ? fmin(fmax(budget->percent.v, 0), 100) : BUDGET_PERCENT;
		out->retry_budget_percent = (uint32_t)lround(percent);
		out->retry_budget_min = budget->min_retry_concurrency ? budget->min_retry_concurrency : BUDGET_MIN;
	}
}

/* HTTP/1 unless the port says otherwise; as the caller speaks where nothing is declared. h2UpgradePolicy is about what
 * proxies speak with each other: a server's sidecar goes on in HTTP/1 with an application that knows no other. Here the
 * application is next, and tunnels carry all connections of a pair over one; so it counts outside of the mesh alone. */
static enum cluster_protocol protocol_of(const struct service *s, const struct service_port *port,
					 const struct connection_pool_http *http)
{
	if (http && http->use_client_protocol)
		return CLUSTER_AS_CLIENT;
	if (port->app == APP_HTTP2 || port->app == APP_GRPC)
		return CLUSTER_H2;
	if (s->external && http && http->h2_upgrade_policy == H2_UPGRADE_UPGRADE)
		return CLUSTER_H2;
	return port->app == APP_UNKNOWN ? CLUSTER_AS_CLIENT : CLUSTER_H1;
}

static void outlier_set(struct cluster_outlier *out, const struct outlier_detection *from)
{
	enum { DEFAULT_FAILURES = 5, DEFAULT_EJECTION_PERCENT = 10, INTERVAL_MS = 10000, EJECTION_MS = 30000 };

	if (!from)
		return;
	out->consecutive_5xx = from->consecutive_5xx_errors.set ? from->consecutive_5xx_errors.v : DEFAULT_FAILURES;
	out->consecutive_gateway =
		from->consecutive_gateway_errors.set ? from->consecutive_gateway_errors.v : from->consecutive_errors;
	out->split_local = from->split_external_local_origin_errors;
	if (out->split_local)
		out->consecutive_local = from->consecutive_local_origin_failures.set ?
						 from->consecutive_local_origin_failures.v :
						 DEFAULT_FAILURES;
	out->interval_ms = from->interval.set ? ms(&from->interval) : INTERVAL_MS;
	out->base_ejection_ms = from->base_ejection_time.set ? ms(&from->base_ejection_time) : EJECTION_MS;
	out->max_ejection_percent =
		(uint8_t)(from->max_ejection_percent.set ? from->max_ejection_percent.v : DEFAULT_EJECTION_PERCENT);
	out->min_health_percent = (uint8_t)from->min_health_percent;
}

int http_cluster_settings(struct compiler *c, struct http_cluster *out, const struct service *s,
			  const struct service_port *port, const struct http_rule *rule)
{
	const struct rules_asked asked = { .set = rule->set, .subset = out->subset };
	const struct connection_pool_http *http = rule->pool ? rule->pool->http : NULL;
	struct traffic traffic;

	traffic_of(c, &asked, out->port, &traffic);
	out->tcp = traffic.tcp;
	out->protocol = protocol_of(s, port, http);
	pool_set(out, http, rule->retry_budget);
	outlier_set(&out->outlier, rule->outlier);
	if (rule->tunnel) {
		out->proxy_host = str_format(strchr(rule->tunnel->target_host, ':') ? "[%s]:%u" : "%s:%u",
					     rule->tunnel->target_host, rule->tunnel->target_port);
		if (!out->proxy_host)
			return -ENOMEM;
	}
	if (rule->proxy_protocol)
		out->proxy_protocol = rule->proxy_protocol->version == PROXY_PROTOCOL_V2 ? 2 : 1;
	if (balancer_set(out, s, port, rule) < 0)
		return -ENOMEM;
	return http_tls_set(c, out, s, port, rule);
}
