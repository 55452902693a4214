/* SPDX-License-Identifier: Apache-2.0 */
/* agent/model/cluster.h. */
#include "agent/link/message.h"
#include "agent/link/shape.h"

#include <errno.h>

#include "agent/model/cluster.h"

static const struct shape_field cluster_endpoint_fields[] = {
	SHAPE_STRUCT(cluster_endpoint, addr, &shape_addr_port),
	SHAPE_U32(cluster_endpoint, weight),
	SHAPE_NUMBER(cluster_endpoint, priority, UINT8_MAX),
	SHAPE_BOOL(cluster_endpoint, healthy),
	SHAPE_BOOL(cluster_endpoint, local),
	SHAPE_BOOL(cluster_endpoint, enrolled),
	SHAPE_NUMBER(cluster_endpoint, tunnel, ENDPOINT_HBONE),
	SHAPE_STRUCT(cluster_endpoint, tunnel_addr, &shape_addr_port),
	SHAPE_TEXTS(cluster_endpoint, identities, identity_count),
	SHAPE_TEXT(cluster_endpoint, hostname),
	SHAPE_TEXT(cluster_endpoint, workload),
	SHAPE_TEXT(cluster_endpoint, ns),
	SHAPE_TEXT(cluster_endpoint, principal),
	SHAPE_TEXT(cluster_endpoint, app),
	SHAPE_TEXT(cluster_endpoint, version),
	SHAPE_TEXT(cluster_endpoint, canonical_name),
	SHAPE_TEXT(cluster_endpoint, canonical_revision),
	SHAPE_TEXT(cluster_endpoint, locality),
};

/* A weight of 0 would never be chosen, or divide by it; a tunnel needs somewhere to go. */
static int endpoint_check(const void *model)
{
	const struct cluster_endpoint *e = model;
	if (!e->weight || (e->tunnel == ENDPOINT_HBONE && !e->tunnel_addr.port))
		return -EINVAL;
	return 0;
}

static const struct shape shape_cluster_endpoint = { SHAPE_OF(cluster_endpoint), .check = endpoint_check };

static const struct shape_field tcp_settings_fields[] = {
	SHAPE_U32(tcp_settings, max_connections),  SHAPE_U32(tcp_settings, connect_timeout_ms),
	SHAPE_U32(tcp_settings, keepalive_time_s), SHAPE_U32(tcp_settings, keepalive_interval_s),
	SHAPE_U32(tcp_settings, keepalive_probes), SHAPE_U32(tcp_settings, max_connection_duration_ms),
	SHAPE_U32(tcp_settings, idle_timeout_ms),
};
static const struct shape shape_tcp_settings = { SHAPE_OF(tcp_settings) };

static const struct shape_field cluster_outlier_fields[] = {
	SHAPE_U32(cluster_outlier, consecutive_5xx),
	SHAPE_U32(cluster_outlier, consecutive_gateway),
	SHAPE_U32(cluster_outlier, consecutive_local),
	SHAPE_BOOL(cluster_outlier, split_local),
	SHAPE_U32(cluster_outlier, interval_ms),
	SHAPE_U32(cluster_outlier, base_ejection_ms),
	SHAPE_NUMBER(cluster_outlier, max_ejection_percent, 100),
	SHAPE_NUMBER(cluster_outlier, min_health_percent, 100),
};
static const struct shape shape_cluster_outlier = { SHAPE_OF(cluster_outlier) };

static const struct shape_field http_cluster_fields[] = {
	SHAPE_NEEDED(http_cluster, name),
	SHAPE_TEXT(http_cluster, host),
	SHAPE_TEXT(http_cluster, service),
	SHAPE_TEXT(http_cluster, ns),
	SHAPE_TEXT(http_cluster, subset),
	SHAPE_U16(http_cluster, port),
	SHAPE_NUMBER(http_cluster, app, APP_UNKNOWN),
	SHAPE_NUMBER(http_cluster, protocol, CLUSTER_AS_CLIENT),
	SHAPE_NUMBER(http_cluster, lb, CLUSTER_PEAK_EWMA),
	SHAPE_NUMBER(http_cluster, hash, HASH_QUERY),
	SHAPE_TEXT(http_cluster, hash_key),
	SHAPE_TEXT(http_cluster, cookie_path),
	SHAPE_U32(http_cluster, cookie_ttl_s),
	SHAPE_BOOL(http_cluster, cookie_make),
	SHAPE_TEXT(http_cluster, cookie_attributes),
	SHAPE_U32(http_cluster, ring_size_min),
	SHAPE_U32(http_cluster, maglev_size),
	SHAPE_U32(http_cluster, warmup_ms),
	SHAPE_U32(http_cluster, warmup_min_percent),
	SHAPE_DOUBLE(http_cluster, warmup_aggression),
	SHAPE_STRUCT(http_cluster, tcp, &shape_tcp_settings),
	SHAPE_U32(http_cluster, max_pending),
	SHAPE_U32(http_cluster, max_requests),
	SHAPE_U32(http_cluster, max_requests_per_connection),
	SHAPE_U32(http_cluster, max_retries),
	SHAPE_U32(http_cluster, retry_budget_percent),
	SHAPE_U32(http_cluster, retry_budget_min),
	SHAPE_U32(http_cluster, http_idle_ms),
	SHAPE_U32(http_cluster, max_concurrent_streams),
	SHAPE_STRUCT(http_cluster, outlier, &shape_cluster_outlier),
	SHAPE_NUMBER(http_cluster, tls, CLUSTER_TLS_ISTIO_MUTUAL),
	SHAPE_TEXT(http_cluster, sni),
	SHAPE_TEXTS(http_cluster, subject_alt_names, subject_alt_name_count),
	SHAPE_TEXT(http_cluster, ca_pem),
	SHAPE_TEXT(http_cluster, chain_pem),
	SHAPE_TEXT(http_cluster, key_pem),
	SHAPE_BOOL(http_cluster, insecure),
	SHAPE_TEXT(http_cluster, proxy_host),
	SHAPE_NUMBER(http_cluster, proxy_protocol, 2),
	SHAPE_BOOL(http_cluster, dynamic_dns),
	SHAPE_BOOL(http_cluster, external),
	SHAPE_LIST(http_cluster, endpoints, endpoint_count, &shape_cluster_endpoint),
	SHAPE_TEXT(http_cluster, crl_pem),
	SHAPE_U16(http_cluster, original_port),
};
const struct shape shape_http_cluster = { SHAPE_OF(http_cluster) };

int message_cluster_encode(const struct http_cluster *cluster, Weft__Link__HttpCluster **out)
{
	return shape_encode(&shape_http_cluster, cluster, (ProtobufCMessage **)out);
}

int message_cluster_decode(const Weft__Link__HttpCluster *from, struct http_cluster **out)
{
	struct http_cluster *cluster = http_cluster_new();
	if (!cluster)
		return -ENOMEM;
	int rc = shape_decode(&shape_http_cluster, &from->base, cluster);
	if (rc < 0) {
		http_cluster_unref(cluster);
		return rc;
	}
	http_cluster_seal(cluster);
	*out = cluster;
	return 0;
}
