/* SPDX-License-Identifier: Apache-2.0 */
/* The specs of the L4 kinds as C structs, in Istio's and Kubernetes' names. Filled by the schema tables (schema.h),
 * whose defaults are applied, so a plain number or enum is always valid. What must be told from "not written" is an
 * opt_ or a pointer (NULL: absent). Strings are NULL when absent. Immutable, owned by the resource's arena. */
#pragma once

#include "agent/base/addr.h"
#include "agent/config/resource.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct node; /* node.h: a subtree as written, for what is passed on without a table */

#define LIST(type)                                                                                                     \
	struct {                                                                                                       \
		type *v;                                                                                               \
		size_t n;                                                                                              \
	}

struct opt_bool {
	bool set, v;
};

struct opt_u32 {
	bool set;
	uint32_t v;
};

struct opt_double {
	bool set;
	double v;
};

struct opt_ms {
	bool set;
	uint64_t ms; /* a duration above zero is at least 1 */
};

/* --- Service (core/v1) */

enum service_type {
	SERVICE_TYPE_CLUSTER_IP,
	SERVICE_TYPE_NODE_PORT,
	SERVICE_TYPE_LOAD_BALANCER,
	SERVICE_TYPE_EXTERNAL_NAME
};
enum service_proto { SERVICE_PROTO_TCP, SERVICE_PROTO_UDP, SERVICE_PROTO_SCTP };
enum session_affinity { SESSION_AFFINITY_NONE, SESSION_AFFINITY_CLIENT_IP };
enum ip_family_policy { IP_FAMILY_SINGLE_STACK, IP_FAMILY_PREFER_DUAL_STACK, IP_FAMILY_REQUIRE_DUAL_STACK };
enum ip_family { IP_FAMILY_V4, IP_FAMILY_V6 };
enum traffic_scope { TRAFFIC_CLUSTER, TRAFFIC_LOCAL };

/* A port by number, or by name when name is not NULL. number 0 and no name: absent. */
struct int_or_name {
	uint16_t number;
	const char *name;
};

struct service_spec_port {
	const char *name;	  /* NULL only when it is the sole port */
	const char *app_protocol; /* "kubernetes.io/h2c", "http", ... */
	enum service_proto protocol;
	uint16_t port;
	uint16_t node_port;
	struct int_or_name target_port; /* absent in the document: number = port */
};

struct client_ip_config {
	uint32_t timeout_seconds; /* 10800 */
};

struct session_affinity_config {
	struct client_ip_config *client_ip;
};

struct service_spec {
	enum service_type type;
	bool headless;			     /* clusterIP: None */
	LIST(struct addr) cluster_ips;	     /* clusterIPs, or clusterIP; validated as one list */
	struct string_list cluster_ips_text; /* as written, "None" too */
	const char *cluster_ip_text;
	LIST(struct addr) external_ips;
	const char *external_name;
	struct string_map selector; /* empty: endpoints are not chosen by labels */
	LIST(struct service_spec_port) ports;
	enum session_affinity session_affinity;
	struct session_affinity_config *session_affinity_config;
	enum ip_family_policy ip_family_policy;
	LIST(enum ip_family) ip_families;
	enum traffic_scope internal_traffic_policy, external_traffic_policy;
	const char *traffic_distribution; /* "PreferClose", ... */
	const char *load_balancer_class, *load_balancer_ip;
	struct string_list load_balancer_source_ranges;
	bool publish_not_ready_addresses;
	struct opt_bool allocate_load_balancer_node_ports;
	struct opt_u32 health_check_node_port;
};

/* --- WorkloadEntry, also an endpoint of a ServiceEntry */

struct named_port {
	const char *key; /* the Service port's name */
	uint16_t port;
};

struct workload_entry_spec {
	const char *address; /* IP, DNS name or "unix:///path"; NULL: none (only with a network) */
	bool is_ip;	     /* `ip` is the address */
	struct addr ip;
	LIST(struct named_port) ports;
	struct string_map labels;
	const char *network;
	const char *locality;	     /* "region/zone/subzone" */
	uint32_t weight;	     /* 0 in the document: 1 */
	const char *service_account; /* NULL: "default" is meant */
};

/* --- ServiceEntry */

enum service_entry_location { LOCATION_MESH_EXTERNAL, LOCATION_MESH_INTERNAL };
enum service_entry_resolution {
	RESOLUTION_NONE,
	RESOLUTION_STATIC,
	RESOLUTION_DNS,
	RESOLUTION_DNS_ROUND_ROBIN,
	RESOLUTION_DYNAMIC_DNS
};

struct service_entry_port {
	uint16_t number;
	const char *protocol; /* "HTTP", "TCP", "TLS", ... upper case; default "TCP" */
	const char *name;
	uint16_t target_port; /* absent in the document: number */
};

struct workload_selector {
	struct string_map labels;
};

struct service_entry_spec {
	struct string_list hosts;
	LIST(struct cidr) addresses;
	LIST(struct service_entry_port) ports;
	enum service_entry_location location;
	enum service_entry_resolution resolution;
	LIST(struct workload_entry_spec) endpoints;
	struct workload_selector *workload_selector;
	struct string_list export_to;
	struct string_list subject_alt_names;
};

/* --- PeerAuthentication */

enum peer_mtls_mode { PEER_MTLS_UNSET, PEER_MTLS_DISABLE, PEER_MTLS_PERMISSIVE, PEER_MTLS_STRICT };

struct selector {
	struct string_map match_labels;
};

struct peer_mtls {
	enum peer_mtls_mode mode;
};

struct port_level_mtls {
	uint16_t port;
	enum peer_mtls_mode mode;
};

struct peer_authentication_spec {
	struct selector *selector; /* NULL or empty: the namespace, or the mesh in the root namespace */
	struct peer_mtls *mtls;	   /* NULL: UNSET */
	LIST(struct port_level_mtls) port_level_mtls;
};

/* --- AuthorizationPolicy */

enum authz_action { AUTHZ_ALLOW, AUTHZ_DENY, AUTHZ_AUDIT, AUTHZ_CUSTOM };

struct target_ref {
	const char *group, *kind, *name, *ns;
};

struct authz_source {
	struct string_list principals, not_principals;
	struct string_list request_principals, not_request_principals;
	struct string_list namespaces, not_namespaces;
	struct string_list service_accounts, not_service_accounts; /* "ns/sa", or "sa" of the policy's namespace */
	LIST(struct cidr) ip_blocks, not_ip_blocks, remote_ip_blocks, not_remote_ip_blocks;
};

struct authz_operation {
	struct string_list hosts, not_hosts;
	struct string_list ports, not_ports; /* decimal, validated */
	struct string_list methods, not_methods;
	struct string_list paths, not_paths;
};

struct authz_from {
	struct authz_source *source; /* never NULL */
};

struct authz_to {
	struct authz_operation *operation; /* never NULL */
};

struct authz_condition {
	const char *key; /* "source.ip", "request.headers[x-tenant]", ... validated */
	struct string_list values, not_values;
};

struct authz_rule {
	uint32_t index;	      /* in the document, from 0: rules that can't be honoured are left out (see below) */
	uint32_t line_offset; /* add the resource's line */
	LIST(struct authz_from) from;
	LIST(struct authz_to) to;
	LIST(struct authz_condition) when;
};

struct authz_provider {
	const char *name;
};

struct authorization_policy_spec {
	struct selector *selector;
	struct target_ref *target_ref;
	LIST(struct target_ref) target_refs;
	enum authz_action action;
	/* `rules: [{}]`: one rule that matches everything. A rule of an ALLOW policy with fields that this version does
	 * not know is left out with a warning: it allows nothing rather than too much. */
	LIST(struct authz_rule) rules;
	struct authz_provider *provider; /* CUSTOM */
};

/* --- DestinationRule */

enum simple_lb {
	SIMPLE_LB_UNSPECIFIED,
	SIMPLE_LB_RANDOM,
	SIMPLE_LB_PASSTHROUGH,
	SIMPLE_LB_ROUND_ROBIN,
	SIMPLE_LB_LEAST_REQUEST
};
enum h2_upgrade { H2_UPGRADE_DEFAULT, H2_UPGRADE_DO_NOT_UPGRADE, H2_UPGRADE_UPGRADE };
enum client_tls_mode { CLIENT_TLS_DISABLE, CLIENT_TLS_SIMPLE, CLIENT_TLS_MUTUAL, CLIENT_TLS_ISTIO_MUTUAL };
enum proxy_protocol { PROXY_PROTOCOL_V1, PROXY_PROTOCOL_V2 };

struct cookie_attribute {
	const char *name, *value;
};

struct http_cookie {
	const char *name, *path;
	struct opt_ms ttl; /* set: the cookie is made when it is missing */
	LIST(struct cookie_attribute) attributes;
};

struct ring_hash {
	uint64_t minimum_ring_size;
};

struct maglev {
	uint64_t table_size;
};

/* One of the keys is set. */
struct consistent_hash {
	const char *http_header_name;
	struct http_cookie *http_cookie;
	bool use_source_ip;
	const char *http_query_parameter_name;
	struct ring_hash *ring_hash;
	struct maglev *maglev;
	uint64_t minimum_ring_size;
};

struct locality_weight {
	const char *key; /* region/zone/subzone, the last of them may be a star */
	uint32_t value;
};

struct locality_distribute {
	const char *from;
	LIST(struct locality_weight) to;
};

struct locality_failover {
	const char *from, *to; /* regions */
};

struct locality_lb_setting {
	struct opt_bool enabled;
	LIST(struct locality_distribute) distribute;
	LIST(struct locality_failover) failover;
	struct string_list failover_priority; /* label keys, or "key=value" */
};

struct warmup {
	struct opt_ms duration;
	struct opt_double minimum_percent, aggression;
};

struct load_balancer {
	enum simple_lb simple; /* LEAST_CONN is read as LEAST_REQUEST */
	struct consistent_hash *consistent_hash;
	struct locality_lb_setting *locality_lb_setting;
	struct opt_ms warmup_duration_secs;
	struct warmup *warmup;
};

struct tcp_keepalive {
	struct opt_u32 probes;
	struct opt_ms time, interval;
};

struct connection_pool_tcp {
	uint32_t max_connections; /* 0: no limit */
	struct opt_ms connect_timeout;
	struct tcp_keepalive *tcp_keepalive;
	struct opt_ms max_connection_duration;
	struct opt_ms idle_timeout;
};

struct connection_pool_http {
	uint32_t http1_max_pending_requests, http2_max_requests, max_requests_per_connection; /* 0: no limit */
	struct opt_u32 max_retries;
	struct opt_ms idle_timeout;
	enum h2_upgrade h2_upgrade_policy;
	bool use_client_protocol;
	uint32_t max_concurrent_streams; /* 0: the default */
};

struct connection_pool {
	struct connection_pool_tcp *tcp;
	struct connection_pool_http *http;
};

struct outlier_detection {
	uint32_t consecutive_errors; /* old name of consecutiveGatewayErrors */
	bool split_external_local_origin_errors;
	struct opt_u32 consecutive_local_origin_failures;
	struct opt_u32 consecutive_gateway_errors;
	struct opt_u32 consecutive_5xx_errors; /* absent: 5; 0: off */
	struct opt_ms interval;		       /* absent: 10 s */
	struct opt_ms base_ejection_time;      /* absent: 30 s */
	struct opt_u32 max_ejection_percent;   /* absent: 10 */
	uint32_t min_health_percent;	       /* 0 */
};

/* What is known of their keys, decoded; values are texts (PEM). */
struct secret_spec {
	const char *type;
	struct string_map values;
};

struct config_map_spec {
	struct string_map values;
};

struct client_tls {
	enum client_tls_mode mode;
	const char *client_certificate, *private_key, *ca_certificates, *ca_crl, *credential_name, *sni;
	struct string_list subject_alt_names;
	struct opt_bool insecure_skip_verify;
};

struct dr_tunnel {
	const char *protocol, *target_host;
	uint16_t target_port;
};

struct dr_proxy_protocol {
	enum proxy_protocol version;
};

struct retry_budget {
	struct opt_double percent;
	uint32_t min_retry_concurrency;
};

struct port_selector {
	uint16_t number;
};

struct port_traffic_policy {
	struct port_selector *port; /* never NULL */
	struct load_balancer *load_balancer;
	struct connection_pool *connection_pool;
	struct outlier_detection *outlier_detection;
	struct client_tls *tls;
};

struct traffic_policy {
	struct load_balancer *load_balancer;
	struct connection_pool *connection_pool;
	struct outlier_detection *outlier_detection;
	struct client_tls *tls;
	LIST(struct port_traffic_policy) port_level_settings;
	struct dr_tunnel *tunnel;
	struct dr_proxy_protocol *proxy_protocol;
	struct retry_budget *retry_budget;
};

struct subset {
	const char *name;
	struct string_map labels;
	struct traffic_policy *traffic_policy;
};

struct destination_rule_spec {
	const char *host; /* as written: short names are the rule's namespace's */
	struct traffic_policy *traffic_policy;
	LIST(struct subset) subsets;
	struct string_list export_to;
	struct selector *workload_selector; /* of callers */
};

/* --- MeshConfig: Istio's names, and Weft's own below `weft:` */

enum outbound_mode { OUTBOUND_MODE_ALLOW_ANY, OUTBOUND_MODE_REGISTRY_ONLY };
enum weft_same_node { WEFT_SAME_NODE_ATTEST, WEFT_SAME_NODE_MTLS };
enum weft_key_type { WEFT_KEY_ECDSA_P256, WEFT_KEY_RSA_2048 };
enum access_log_encoding { ACCESS_LOG_TEXT, ACCESS_LOG_JSON };

struct destination;

struct outbound_traffic_policy {
	enum outbound_mode mode;
	struct destination *egress_proxy; /* of Sidecars; NULL: none */
};

struct ca_certificate {
	const char *pem, *spiffe_bundle_url;
	struct string_list trust_domains, cert_signers;
};

struct weft_dns {
	bool auto_allocate;	    /* VIPs for ServiceEntries without addresses: true */
	struct opt_ms ttl;	    /* 30 s */
	const char *cluster_domain; /* "cluster.local" */
};

struct weft_certificates {
	struct opt_ms ttl;	    /* 24 h */
	struct opt_ms grace_period; /* rotate when less than this is left; absent: grace_percent */
	uint32_t grace_percent;	    /* 50 */
	enum weft_key_type key_type;
};

struct weft_helper {
	uint32_t threads;		  /* 0: one a processor, at most 4 */
	uint32_t max_connections_per_pod; /* 65536 */
	struct opt_ms drain_timeout;	  /* 24 h */
	uint32_t draining;		  /* 4 */
};

struct weft_maps {
	uint32_t services, endpoints, workloads, connections, flows; /* initial sizes; 0: the agent's default */
};

struct weft_settings {
	enum weft_same_node same_node;
	struct weft_dns *dns; /* never NULL, as the others here */
	struct weft_certificates *certificates;
	struct weft_helper *helper;
	struct weft_maps *maps;
};

enum mesh_normalization {
	MESH_NORMALIZE_DEFAULT,
	MESH_NORMALIZE_NONE,
	MESH_NORMALIZE_BASE,
	MESH_NORMALIZE_MERGE_SLASHES,
	MESH_NORMALIZE_DECODE_AND_MERGE_SLASHES
};

struct mesh_path_normalization {
	enum mesh_normalization normalization;
};

struct vs_retry;

struct mesh_config_spec {
	const char *trust_domain; /* "cluster.local" */
	struct string_list trust_domain_aliases;
	const char *root_namespace;				 /* "istio-system" */
	struct outbound_traffic_policy *outbound_traffic_policy; /* never NULL; ALLOW_ANY */
	struct opt_ms connect_timeout;				 /* 10 s when absent */
	struct tcp_keepalive *tcp_keepalive;
	struct locality_lb_setting *locality_lb_setting;
	struct opt_bool enable_auto_mtls;
	LIST(struct ca_certificate) ca_certificates;
	struct string_list default_service_export_to, default_destination_rule_export_to,
		default_virtual_service_export_to;
	const char *access_log_file; /* NULL or "": off */
	const char *access_log_format;
	enum access_log_encoding access_log_encoding;
	bool enable_tracing;
	struct mesh_path_normalization *path_normalization; /* NULL: BASE */
	enum h2_upgrade h2_upgrade_policy;
	struct vs_retry *default_http_retry_policy; /* kinds_http.h; NULL: Istio's own default */
	const struct node *default_config;	    /* ProxyConfig, as written */
	const struct node *extension_providers;	    /* a list, as written */
	const struct node *default_providers;
	const struct node *discovery_selectors;
	struct weft_settings *weft; /* never NULL */
};
