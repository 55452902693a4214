/* SPDX-License-Identifier: Apache-2.0 */
/* Table of DestinationRule, and what holds between its fields. */
#include "agent/config/kinds.h"

#include <string.h>

#include "agent/base/str.h"
#include "agent/config/decode.h"
#include "agent/config/node.h"
#include "agent/config/schema.h"

static const struct words simple_lbs =
	WORDS({ "UNSPECIFIED", SIMPLE_LB_UNSPECIFIED }, { "RANDOM", SIMPLE_LB_RANDOM },
	      { "PASSTHROUGH", SIMPLE_LB_PASSTHROUGH }, { "ROUND_ROBIN", SIMPLE_LB_ROUND_ROBIN },
	      { "LEAST_REQUEST", SIMPLE_LB_LEAST_REQUEST }, { "LEAST_CONN", SIMPLE_LB_LEAST_REQUEST });
static const struct words h2_upgrades =
	WORDS({ "DEFAULT", H2_UPGRADE_DEFAULT }, { "DO_NOT_UPGRADE", H2_UPGRADE_DO_NOT_UPGRADE },
	      { "UPGRADE", H2_UPGRADE_UPGRADE });
static const struct words tls_modes =
	WORDS({ "DISABLE", CLIENT_TLS_DISABLE }, { "SIMPLE", CLIENT_TLS_SIMPLE }, { "MUTUAL", CLIENT_TLS_MUTUAL },
	      { "ISTIO_MUTUAL", CLIENT_TLS_ISTIO_MUTUAL });
static const struct words proxy_protocols = WORDS({ "V1", PROXY_PROTOCOL_V1 }, { "V2", PROXY_PROTOCOL_V2 });

/* --- loadBalancer */

static const struct field attribute_fields[] = {
	FIELD(cookie_attribute, name, "name", STRING, .flags = FIELD_REQUIRED, .check = text_check_not_empty,
	      .doc = "Attribute."),
	FIELD(cookie_attribute, value, "value", STRING, .doc = "Its value."),
};
static const struct schema schema_attribute =
	SCHEMA(cookie_attribute, attribute_fields, .name = "HTTPCookie.Attribute");

static const struct field cookie_fields[] = {
	FIELD(http_cookie, name, "name", STRING, .flags = FIELD_REQUIRED, .check = text_check_not_empty,
	      .doc = "Name of the cookie."),
	FIELD(http_cookie, path, "path", STRING, .doc = "Path to set."),
	FIELD(http_cookie, ttl, "ttl", OPT_MS, .doc = "Lifetime; when it is there, a missing cookie is made."),
	FIELD(http_cookie, attributes, "attributes", LIST, .of = &schema_attribute, .doc = "Further attributes."),
};
static const struct schema schema_cookie = SCHEMA(http_cookie, cookie_fields, .name = "HTTPCookie");

static const struct field ring_hash_fields[] = {
	FIELD(ring_hash, minimum_ring_size, "minimumRingSize", U64, .def = "1024", .doc = "Smallest ring."),
};
static const struct schema schema_ring_hash = SCHEMA(ring_hash, ring_hash_fields, .name = "RingHash");

static const struct field maglev_fields[] = {
	FIELD(maglev, table_size, "tableSize", U64, .min = 2, .max = 5000011, .def = "65537", .doc = "A prime."),
};
static const struct schema schema_maglev = SCHEMA(maglev, maglev_fields, .name = "Maglev");

static const struct field consistent_hash_fields[] = {
	FIELD(consistent_hash, http_header_name, "httpHeaderName", STRING, .group = 1, .check = text_check_not_empty,
	      .doc = "Hash of a header."),
	FIELD(consistent_hash, http_cookie, "httpCookie", OBJECT, .group = 1, .of = &schema_cookie,
	      .doc = "Hash of a cookie."),
	FIELD(consistent_hash, use_source_ip, "useSourceIp", BOOL, .group = 1, .doc = "Hash of the caller's address."),
	FIELD(consistent_hash, http_query_parameter_name, "httpQueryParameterName", STRING, .group = 1,
	      .check = text_check_not_empty, .doc = "Hash of a query parameter."),
	FIELD(consistent_hash, ring_hash, "ringHash", OBJECT, .group = 2, .of = &schema_ring_hash,
	      .doc = "Ring of hashes."),
	FIELD(consistent_hash, maglev, "maglev", OBJECT, .group = 2, .of = &schema_maglev, .doc = "Maglev's table."),
	FIELD(consistent_hash, minimum_ring_size, "minimumRingSize", U64,
	      .doc = "Old place of ringHash.minimumRingSize."),
};

static void consistent_hash_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	const struct consistent_hash *ch = object;
	if (!ch->http_header_name && !ch->http_cookie && !ch->use_source_ip && !ch->http_query_parameter_name)
		decode_error(d, path, NULL, node,
			     "needs one of httpHeaderName, httpCookie, useSourceIp, httpQueryParameterName");
}

static const struct schema schema_consistent_hash = SCHEMA(
	consistent_hash, consistent_hash_fields, .name = "ConsistentHashLB", .validate = consistent_hash_validate);

static const struct field locality_weight_value[] = { FIELD(locality_weight, value, NULL, U32, .min = 0, .max = 100) };
static const struct field locality_weight_key =
	FIELD(locality_weight, key, NULL, STRING, .check = text_check_not_empty);
static const struct schema schema_locality_weight =
	SCHEMA(locality_weight, locality_weight_value, .name = "weight", .key = &locality_weight_key);

static const struct field distribute_fields[] = {
	FIELD(locality_distribute, from, "from", STRING, .flags = FIELD_REQUIRED, .check = text_check_not_empty,
	      .doc = "Locality of the caller."),
	FIELD(locality_distribute, to, "to", MAP, .of = &schema_locality_weight,
	      .flags = FIELD_REQUIRED | FIELD_NOT_EMPTY, .doc = "Percent by locality; together 100."),
};

static void distribute_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	const struct locality_distribute *ld = object;
	uint64_t sum = 0;
	for (size_t i = 0; i < ld->to.n; i++)
		sum += ld->to.v[i].value;
	if (sum != 100)
		decode_error(d, path, "to", node_get(node, "to"), "the weights sum up to %llu, not 100",
			     (unsigned long long)sum);
}

static const struct schema schema_distribute =
	SCHEMA(locality_distribute, distribute_fields, .name = "LocalityLoadBalancerSetting.Distribute",
	       .validate = distribute_validate);

static const struct field failover_fields[] = {
	FIELD(locality_failover, from, "from", STRING, .flags = FIELD_REQUIRED, .check = text_check_not_empty,
	      .doc = "Region that fails."),
	FIELD(locality_failover, to, "to", STRING, .flags = FIELD_REQUIRED, .check = text_check_not_empty,
	      .doc = "Region that takes over."),
};

static void failover_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	const struct locality_failover *lf = object;
	if (!strcmp(lf->from, lf->to))
		decode_error(d, path, NULL, node, "fails over from \"%.60s\" to itself", lf->from);
	if (strpbrk(lf->from, "/*") || strpbrk(lf->to, "/*"))
		decode_error(d, path, NULL, node, "takes regions only, without \"/\" or \"*\"");
}

static const struct schema schema_failover =
	SCHEMA(locality_failover, failover_fields, .name = "LocalityLoadBalancerSetting.Failover",
	       .validate = failover_validate);

static const struct field locality_fields[] = {
	FIELD(locality_lb_setting, enabled, "enabled", OPT_BOOL, .def = "true", .doc = "Whether localities count."),
	FIELD(locality_lb_setting, distribute, "distribute", LIST, .of = &schema_distribute, .group = 1,
	      .doc = "Shares by locality."),
	FIELD(locality_lb_setting, failover, "failover", LIST, .of = &schema_failover, .group = 1,
	      .doc = "Where to go when a region fails."),
	FIELD(locality_lb_setting, failover_priority, "failoverPriority", STRING_LIST, .check = text_check_not_empty,
	      .doc = "Labels that endpoints should share with the caller, the most important first."),
};

static void locality_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	const struct locality_lb_setting *l = object;
	if (l->distribute.n && l->failover_priority.n)
		decode_error(d, path, "failoverPriority", node_get(node, "failoverPriority"),
			     "cannot be together with \"distribute\"");
}

const struct schema schema_locality_lb_setting = SCHEMA(
	locality_lb_setting, locality_fields, .name = "LocalityLoadBalancerSetting", .validate = locality_validate);

static const struct field warmup_fields[] = {
	FIELD(warmup, duration, "duration", OPT_MS, .flags = FIELD_REQUIRED, .min = 1,
	      .doc = "How long a new endpoint warms up."),
	FIELD(warmup, minimum_percent, "minimumPercent", OPT_DOUBLE, .min = 0, .max = 100, .def = "10",
	      .doc = "Share at the start."),
	FIELD(warmup, aggression, "aggression", OPT_DOUBLE, .min = 1, .max = 1000000, .def = "1",
	      .doc = "Shape of the increase."),
};
static const struct schema schema_warmup = SCHEMA(warmup, warmup_fields, .name = "WarmupConfiguration");

static const struct field load_balancer_fields[] = {
	FIELD(load_balancer, simple, "simple", ENUM, .words = &simple_lbs, .def = "UNSPECIFIED", .group = 1,
	      .doc = "The algorithm; default LEAST_REQUEST."),
	FIELD(load_balancer, consistent_hash, "consistentHash", OBJECT, .of = &schema_consistent_hash, .group = 1,
	      .doc = "The same key reaches the same endpoint."),
	FIELD(load_balancer, locality_lb_setting, "localityLbSetting", OBJECT, .of = &schema_locality_lb_setting,
	      .doc = "Near endpoints first."),
	FIELD(load_balancer, warmup_duration_secs, "warmupDurationSecs", OPT_MS, .min = 1, .group = 2,
	      .doc = "Old place of warmup.duration."),
	FIELD(load_balancer, warmup, "warmup", OBJECT, .of = &schema_warmup, .group = 2,
	      .doc = "New endpoints get less at first."),
};
static const struct schema schema_load_balancer =
	SCHEMA(load_balancer, load_balancer_fields, .name = "LoadBalancerSettings");

/* --- connectionPool */

static const struct field keepalive_fields[] = {
	FIELD(tcp_keepalive, probes, "probes", OPT_U32, .min = 0, .max = 127,
	      .doc = "Lost probes that end a connection."),
	FIELD(tcp_keepalive, time, "time", OPT_MS, .min = 1, .doc = "Silence before the first probe."),
	FIELD(tcp_keepalive, interval, "interval", OPT_MS, .min = 1, .doc = "Between probes."),
};
const struct schema schema_tcp_keepalive = SCHEMA(tcp_keepalive, keepalive_fields, .name = "TcpKeepalive");

static const struct field pool_tcp_fields[] = {
	FIELD(connection_pool_tcp, max_connections, "maxConnections", U32, .min = 0, .max = INT32_MAX,
	      .doc = "To a host; 0: no limit."),
	FIELD(connection_pool_tcp, connect_timeout, "connectTimeout", OPT_MS, .min = 1, .def = "10s",
	      .doc = "For TCP's handshake."),
	FIELD(connection_pool_tcp, tcp_keepalive, "tcpKeepalive", OBJECT, .of = &schema_tcp_keepalive,
	      .doc = "SO_KEEPALIVE."),
	FIELD(connection_pool_tcp, max_connection_duration, "maxConnectionDuration", OPT_MS, .min = 1,
	      .doc = "A connection's longest life."),
	FIELD(connection_pool_tcp, idle_timeout, "idleTimeout", OPT_MS, .def = "1h",
	      .doc = "Silence that ends a connection; 0s: none."),
};
static const struct schema schema_pool_tcp =
	SCHEMA(connection_pool_tcp, pool_tcp_fields, .name = "ConnectionPoolSettings.TCPSettings");

static const struct field pool_http_fields[] = {
	FIELD(connection_pool_http, http1_max_pending_requests, "http1MaxPendingRequests", U32, .min = 0,
	      .max = INT32_MAX, .doc = "Requests that wait for a connection."),
	FIELD(connection_pool_http, http2_max_requests, "http2MaxRequests", U32, .min = 0, .max = INT32_MAX,
	      .doc = "Requests in flight."),
	FIELD(connection_pool_http, max_requests_per_connection, "maxRequestsPerConnection", U32, .min = 0,
	      .max = INT32_MAX, .doc = "1 turns keep-alive off."),
	FIELD(connection_pool_http, max_retries, "maxRetries", OPT_U32, .min = 0, .max = INT32_MAX,
	      .doc = "Retries in flight."),
	FIELD(connection_pool_http, idle_timeout, "idleTimeout", OPT_MS, .def = "1h",
	      .doc = "Connection without requests."),
	FIELD(connection_pool_http, h2_upgrade_policy, "h2UpgradePolicy", ENUM, .words = &h2_upgrades, .def = "DEFAULT",
	      .doc = "HTTP/2 to the endpoint."),
	FIELD(connection_pool_http, use_client_protocol, "useClientProtocol", BOOL, .group = 1,
	      .doc = "The caller's HTTP version."),
	FIELD(connection_pool_http, max_concurrent_streams, "maxConcurrentStreams", U32, .min = 0, .max = INT32_MAX,
	      .doc = "On one HTTP/2 connection."),
};
static const struct schema schema_pool_http =
	SCHEMA(connection_pool_http, pool_http_fields, .name = "ConnectionPoolSettings.HTTPSettings");

static const struct field pool_fields[] = {
	FIELD(connection_pool, tcp, "tcp", OBJECT, .of = &schema_pool_tcp, .doc = "Of connections."),
	FIELD(connection_pool, http, "http", OBJECT, .of = &schema_pool_http, .doc = "Of requests."),
};
const struct schema schema_connection_pool = SCHEMA(connection_pool, pool_fields, .name = "ConnectionPoolSettings");

/* --- the rest of a policy */

static const struct field outlier_fields[] = {
	FIELD(outlier_detection, consecutive_errors, "consecutiveErrors", U32,
	      .doc = "Old name of consecutiveGatewayErrors."),
	FIELD(outlier_detection, split_external_local_origin_errors, "splitExternalLocalOriginErrors", BOOL,
	      .doc = "Failed connections count apart."),
	FIELD(outlier_detection, consecutive_local_origin_failures, "consecutiveLocalOriginFailures", OPT_U32,
	      .def = "5", .doc = "Failed connections that eject."),
	FIELD(outlier_detection, consecutive_gateway_errors, "consecutiveGatewayErrors", OPT_U32,
	      .doc = "502, 503, 504, or failed connections, that eject."),
	FIELD(outlier_detection, consecutive_5xx_errors, "consecutive5xxErrors", OPT_U32, .def = "5",
	      .doc = "5xx answers, or failed connections, that eject; 0: off."),
	FIELD(outlier_detection, interval, "interval", OPT_MS, .min = 1, .def = "10s", .doc = "Between sweeps."),
	FIELD(outlier_detection, base_ejection_time, "baseEjectionTime", OPT_MS, .min = 1, .def = "30s",
	      .doc = "Times the number of ejections."),
	FIELD(outlier_detection, max_ejection_percent, "maxEjectionPercent", OPT_U32, .min = 0, .max = 100, .def = "10",
	      .doc = "Of the endpoints, at once."),
	FIELD(outlier_detection, min_health_percent, "minHealthPercent", U32, .min = 0, .max = 100,
	      .doc = "Fewer healthy ones: ejection is off."),
};
static const struct schema schema_outlier = SCHEMA(outlier_detection, outlier_fields, .name = "OutlierDetection");

static const struct field tls_fields[] = {
	FIELD(client_tls, mode, "mode", ENUM, .words = &tls_modes, .def = "DISABLE",
	      .doc = "What is spoken to the endpoints."),
	FIELD(client_tls, client_certificate, "clientCertificate", STRING, .doc = "File."),
	FIELD(client_tls, private_key, "privateKey", STRING, .doc = "File."),
	FIELD(client_tls, ca_certificates, "caCertificates", STRING, .doc = "File, or \"system\"."),
	FIELD(client_tls, ca_crl, "caCrl", STRING, .doc = "File of revoked certificates."),
	FIELD(client_tls, credential_name, "credentialName", STRING, .doc = "Secret instead of files."),
	FIELD(client_tls, subject_alt_names, "subjectAltNames", STRING_LIST, .check = text_check_not_empty,
	      .doc = "Names, any of which the server must have."),
	FIELD(client_tls, sni, "sni", STRING, .doc = "Server name to send."),
	FIELD(client_tls, insecure_skip_verify, "insecureSkipVerify", OPT_BOOL, .doc = "Trust any server."),
};

static void tls_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	const struct client_tls *t = object;
	if (t->mode == CLIENT_TLS_MUTUAL && !t->credential_name && (!t->client_certificate || !t->private_key))
		decode_error(d, path, NULL, node,
			     "mode MUTUAL needs clientCertificate and privateKey, or credentialName");
	if ((t->mode == CLIENT_TLS_MUTUAL || t->mode == CLIENT_TLS_SIMPLE) && t->credential_name &&
	    (t->client_certificate || t->private_key || t->ca_certificates || t->ca_crl))
		decode_error(d, path, "credentialName", node, "cannot be together with files");
	if (t->mode == CLIENT_TLS_ISTIO_MUTUAL &&
	    (t->client_certificate || t->private_key || t->ca_certificates || t->credential_name))
		decode_error(d, path, NULL, node, "mode ISTIO_MUTUAL brings its own certificates; remove the others");
	if (t->insecure_skip_verify.v)
		decode_warn(d, path, "insecureSkipVerify", node_get(node, "insecureSkipVerify"),
			    "any server is trusted");
}

static const struct schema schema_tls =
	SCHEMA(client_tls, tls_fields, .name = "ClientTLSSettings", .validate = tls_validate);

static const struct field port_selector_fields[] = {
	FIELD(port_selector, number, "number", U16, .flags = FIELD_REQUIRED, .min = 1, .max = 65535,
	      .doc = "Port of the service."),
};
static const struct schema schema_port_selector = SCHEMA(port_selector, port_selector_fields, .name = "PortSelector");

static const struct field port_policy_fields[] = {
	FIELD(port_traffic_policy, port, "port", OBJECT, .of = &schema_port_selector, .flags = FIELD_REQUIRED,
	      .doc = "Which port."),
	FIELD(port_traffic_policy, load_balancer, "loadBalancer", OBJECT, .of = &schema_load_balancer,
	      .doc = "As in the policy, instead of it."),
	FIELD(port_traffic_policy, connection_pool, "connectionPool", OBJECT, .of = &schema_connection_pool,
	      .doc = "As in the policy."),
	FIELD(port_traffic_policy, outlier_detection, "outlierDetection", OBJECT, .of = &schema_outlier,
	      .doc = "As in the policy."),
	FIELD(port_traffic_policy, tls, "tls", OBJECT, .of = &schema_tls, .doc = "As in the policy."),
};
static const struct schema schema_port_policy =
	SCHEMA(port_traffic_policy, port_policy_fields, .name = "TrafficPolicy.PortTrafficPolicy");

static const struct field tunnel_fields[] = {
	FIELD(dr_tunnel, protocol, "protocol", STRING, .def = "CONNECT", .doc = "CONNECT or POST."),
	FIELD(dr_tunnel, target_host, "targetHost", STRING, .flags = FIELD_REQUIRED, .check = text_check_fqdn_host,
	      .doc = "Where the tunnel ends."),
	FIELD(dr_tunnel, target_port, "targetPort", U16, .flags = FIELD_REQUIRED, .min = 1, .max = 65535,
	      .doc = "Its port."),
};
static const struct schema schema_tunnel = SCHEMA(dr_tunnel, tunnel_fields, .name = "TrafficPolicy.TunnelSettings");

static const struct field proxy_protocol_fields[] = {
	FIELD(dr_proxy_protocol, version, "version", ENUM, .words = &proxy_protocols, .def = "V1", .doc = "Version."),
};
static const struct schema schema_proxy_protocol =
	SCHEMA(dr_proxy_protocol, proxy_protocol_fields, .name = "TrafficPolicy.ProxyProtocol");

static const struct field retry_budget_fields[] = {
	FIELD(retry_budget, percent, "percent", OPT_DOUBLE, .min = 0, .max = 100, .def = "20",
	      .doc = "Retries among the requests in flight."),
	FIELD(retry_budget, min_retry_concurrency, "minRetryConcurrency", U32, .def = "3",
	      .doc = "Retries that are always allowed."),
};
static const struct schema schema_retry_budget =
	SCHEMA(retry_budget, retry_budget_fields, .name = "TrafficPolicy.RetryBudget");

static const struct field traffic_policy_fields[] = {
	FIELD(traffic_policy, load_balancer, "loadBalancer", OBJECT, .of = &schema_load_balancer,
	      .doc = "Which endpoint."),
	FIELD(traffic_policy, connection_pool, "connectionPool", OBJECT, .of = &schema_connection_pool,
	      .doc = "Limits and timeouts."),
	FIELD(traffic_policy, outlier_detection, "outlierDetection", OBJECT, .of = &schema_outlier,
	      .doc = "Endpoints that fail rest for a while."),
	FIELD(traffic_policy, tls, "tls", OBJECT, .of = &schema_tls, .doc = "TLS to the endpoints."),
	FIELD(traffic_policy, port_level_settings, "portLevelSettings", LIST, .of = &schema_port_policy,
	      .doc = "Instead of the above, for single ports."),
	FIELD(traffic_policy, tunnel, "tunnel", OBJECT, .of = &schema_tunnel, .doc = "Through another proxy."),
	FIELD(traffic_policy, proxy_protocol, "proxyProtocol", OBJECT, .of = &schema_proxy_protocol,
	      .doc = "PROXY header to the endpoints."),
	FIELD(traffic_policy, retry_budget, "retryBudget", OBJECT, .of = &schema_retry_budget,
	      .doc = "Share of retries."),
};

static void traffic_policy_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	const struct traffic_policy *tp = object;
	for (size_t i = 0; i < tp->port_level_settings.n && i < 1000; i++)
		for (size_t j = 0; j < i; j++)
			if (tp->port_level_settings.v[i].port->number == tp->port_level_settings.v[j].port->number)
				decode_error(d, path, "portLevelSettings", node_get(node, "portLevelSettings"),
					     "port %u is there twice", tp->port_level_settings.v[i].port->number);
}

static const struct schema schema_traffic_policy =
	SCHEMA(traffic_policy, traffic_policy_fields, .name = "TrafficPolicy", .validate = traffic_policy_validate);

static const struct field subset_fields[] = {
	FIELD(subset, name, "name", STRING, .flags = FIELD_REQUIRED, .check = text_check_name,
	      .doc = "Name that routes use."),
	FIELD(subset, labels, "labels", STRING_MAP, .key_check = text_check_label_key, .check = text_check_label_value,
	      .doc = "Labels of its endpoints."),
	FIELD(subset, traffic_policy, "trafficPolicy", OBJECT, .of = &schema_traffic_policy,
	      .doc = "What differs from the rule's."),
};
static const struct schema schema_subset = SCHEMA(subset, subset_fields, .name = "Subset");

static const struct field destination_rule_fields[] = {
	FIELD(destination_rule_spec, host, "host", STRING, .flags = FIELD_REQUIRED, .check = text_check_host,
	      .doc = "The service; a short name is one of the rule's namespace."),
	FIELD(destination_rule_spec, traffic_policy, "trafficPolicy", OBJECT, .of = &schema_traffic_policy,
	      .doc = "For all of its traffic."),
	FIELD(destination_rule_spec, subsets, "subsets", LIST, .of = &schema_subset,
	      .doc = "Named groups of endpoints."),
	FIELD(destination_rule_spec, export_to, "exportTo", STRING_LIST, .check = text_check_export_to,
	      .doc = "Namespaces that it holds for; default: all."),
	FIELD(destination_rule_spec, workload_selector, "workloadSelector", OBJECT, .of = &schema_selector,
	      .doc = "Callers that it holds for; default: all."),
};

static void destination_rule_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	const struct destination_rule_spec *dr = object;
	for (size_t i = 0; i < dr->subsets.n && i < 1000; i++)
		for (size_t j = 0; j < i; j++)
			if (!strcmp(dr->subsets.v[i].name, dr->subsets.v[j].name))
				decode_error(d, path, "subsets", node_get(node, "subsets"), "\"%.60s\" is there twice",
					     dr->subsets.v[i].name);
}

const struct schema schema_destination_rule =
	SCHEMA(destination_rule_spec, destination_rule_fields, .name = "DestinationRule",
	       .validate = destination_rule_validate,
	       .doc = "What happens to traffic after it was routed to a service.");
