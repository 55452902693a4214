/* SPDX-License-Identifier: Apache-2.0 */
/* The specs of the kinds above L4 as C structs; see kinds.h for the rules. */
#pragma once

#include "agent/config/kinds.h"

/* --- RequestAuthentication */

struct jwt_header {
	const char *name, *prefix;
};

struct claim_to_header {
	const char *header, *claim;
};

struct jwt_rule_spec {
	const char *issuer;
	struct string_list audiences;
	const char *jwks_uri, *jwks; /* one of them, or neither: found by the issuer's discovery document */
	LIST(struct jwt_header) from_headers;
	struct string_list from_params, from_cookies;
	const char *output_payload_to_header;
	bool forward_original_token;
	LIST(struct claim_to_header) output_claim_to_headers;
	struct opt_ms timeout;
	struct string_list space_delimited_claims;
};

struct request_authentication_spec {
	struct selector *selector;
	struct target_ref *target_ref;
	LIST(struct target_ref) target_refs;
	LIST(struct jwt_rule_spec) jwt_rules;
};

/* --- VirtualService */

enum string_match_kind { STRING_MATCH_PRESENT, STRING_MATCH_EXACT, STRING_MATCH_PREFIX, STRING_MATCH_REGEX };

struct string_match {
	enum string_match_kind kind; /* PRESENT: `{}` */
	const char *text;
	const char *exact, *prefix, *regex; /* as written; kind and text say the same */
};

struct named_match {
	const char *key;
	struct string_match match;
};

struct vs_match {
	const char *name, *stat_prefix;
	struct string_match *uri, *scheme, *method, *authority;
	LIST(struct named_match) headers, without_headers, query_params;
	uint16_t port;
	struct string_map source_labels;
	struct string_list gateways;
	bool ignore_uri_case;
	const char *source_namespace;
};

struct destination {
	const char *host, *subset;
	struct port_selector *port;
};

struct header_operations {
	struct string_map set, add;
	struct string_list remove;
};

struct headers {
	struct header_operations *request, *response;
};

struct http_route_destination {
	struct destination *destination; /* never NULL */
	uint32_t weight;		 /* 0 in all: equal */
	struct headers *headers;
};

struct route_destination {
	struct destination *destination; /* never NULL */
	uint32_t weight;
};

struct vs_redirect {
	const char *uri, *prefix_rewrite, *authority, *scheme, *derive_port;
	uint16_t port;
	uint32_t redirect_code; /* 301 */
};

struct http_body {
	const char *string, *bytes; /* bytes: base64 */
};

struct direct_response {
	uint32_t status;
	struct http_body *body;
};

struct delegate {
	const char *name, *ns;
};

struct regex_rewrite {
	const char *match, *rewrite;
};

struct vs_rewrite {
	const char *uri, *authority;
	struct regex_rewrite *uri_regex_rewrite;
};

struct vs_retry {
	uint32_t attempts; /* 2 when absent */
	struct opt_ms per_try_timeout, backoff;
	const char *retry_on;
	struct opt_bool retry_remote_localities, retry_ignore_previous_hosts;
};

struct percent {
	struct opt_double value;
};

struct fault_delay {
	struct opt_ms fixed_delay, exponential_delay;
	struct percent *percentage; /* NULL: all */
	uint32_t percent;	    /* old form */
};

struct fault_abort {
	uint32_t http_status;
	const char *grpc_status, *http2_error;
	struct percent *percentage;
};

struct vs_fault {
	struct fault_delay *delay;
	struct fault_abort *abort;
};

struct vs_mirror {
	struct destination *destination; /* never NULL */
	struct percent *percentage;
};

struct cors_policy {
	LIST(struct string_match) allow_origins;
	struct string_list allow_origin; /* old form, exact */
	struct string_list allow_methods, allow_headers, expose_headers;
	struct opt_ms max_age;
	struct opt_bool allow_credentials;
	const char *unmatched_preflights;
};

struct vs_route {
	const char *name;
	uint32_t line_offset; /* add the resource's line */
	LIST(struct vs_match) match;
	LIST(struct http_route_destination) route;
	struct vs_redirect *redirect;
	struct direct_response *direct_response;
	struct delegate *delegate;
	struct vs_rewrite *rewrite;
	struct opt_ms timeout;
	struct vs_retry *retries;
	struct vs_fault *fault;
	struct destination *mirror;
	struct percent *mirror_percentage;
	struct opt_u32 mirror_percent; /* old form */
	LIST(struct vs_mirror) mirrors;
	struct cors_policy *cors_policy;
	struct headers *headers;
};

struct vs_l4_match {
	struct string_list destination_subnets, sni_hosts;
	uint16_t port;
	struct string_map source_labels;
	struct string_list gateways;
	const char *source_namespace;
};

struct vs_l4_route {
	LIST(struct vs_l4_match) match;
	LIST(struct route_destination) route;
};

struct virtual_service_spec {
	struct string_list hosts, gateways;
	LIST(struct vs_route) http;
	LIST(struct vs_l4_route) tls, tcp;
	struct string_list export_to;
};

/* --- Gateway (Istio's) */

enum server_tls_mode {
	SERVER_TLS_PASSTHROUGH,
	SERVER_TLS_SIMPLE,
	SERVER_TLS_MUTUAL,
	SERVER_TLS_AUTO_PASSTHROUGH,
	SERVER_TLS_ISTIO_MUTUAL,
	SERVER_TLS_OPTIONAL_MUTUAL
};
enum tls_version { TLS_VERSION_AUTO, TLS_VERSION_1_0, TLS_VERSION_1_1, TLS_VERSION_1_2, TLS_VERSION_1_3 };

struct server_tls {
	bool https_redirect;
	enum server_tls_mode mode;
	const char *server_certificate, *private_key, *ca_certificates, *ca_crl, *credential_name;
	struct string_list credential_names;
	struct string_list subject_alt_names, verify_certificate_spki, verify_certificate_hash, cipher_suites;
	enum tls_version min_protocol_version, max_protocol_version;
};

struct gateway_port {
	uint16_t number;
	const char *protocol, *name;
	uint16_t target_port;
};

struct gateway_server {
	struct gateway_port *port; /* never NULL */
	const char *bind, *default_endpoint, *name;
	struct string_list hosts;
	struct server_tls *tls;
};

struct gateway_spec {
	LIST(struct gateway_server) servers;
	struct string_map selector;
};

/* --- Sidecar */

struct sidecar_egress {
	struct gateway_port *port;
	const char *bind, *capture_mode; /* have no effect: nothing listens, calls are captured where they are made */
	struct string_list hosts;
};

struct sidecar_ingress {
	struct gateway_port *port; /* never NULL */
	const char *bind, *capture_mode, *default_endpoint;
	struct server_tls *tls;
	struct connection_pool *connection_pool; /* instead of the Sidecar's */
};

struct sidecar_spec {
	struct workload_selector *workload_selector;
	LIST(struct sidecar_ingress) ingress;
	LIST(struct sidecar_egress) egress;
	struct outbound_traffic_policy *outbound_traffic_policy;
	struct connection_pool *inbound_connection_pool;
};

/* --- Telemetry */

enum workload_mode { WORKLOAD_CLIENT_AND_SERVER, WORKLOAD_CLIENT, WORKLOAD_SERVER };

struct telemetry_match {
	enum workload_mode mode;
};

struct provider_ref {
	const char *name;
};

struct tag_value {
	const char *value;
};

struct tag_lookup {
	const char *name, *default_value;
};

struct span_tag { /* one of them */
	const char *name;
	struct tag_value *literal, *formatter;
	struct tag_lookup *environment, *header;
};

struct tracing_rule {
	struct telemetry_match *match;
	LIST(struct provider_ref) providers;
	struct opt_double random_sampling_percentage;
	struct opt_bool disable_span_reporting, use_request_id_for_trace_sampling, enable_istio_tags,
		disable_context_propagation;
	bool has_custom_tags;
	LIST(struct span_tag) custom_tags;
};

struct metric_selector {
	int metric; /* enum request_metric; -1: all */
	const char *custom_metric;
	enum workload_mode mode;
};

enum tag_operation { TAG_UPSERT, TAG_REMOVE };

struct metric_tag {
	const char *name;
	enum tag_operation operation;
	const char *value;
};

struct metrics_override {
	struct metric_selector *match;
	struct opt_bool disabled;
	LIST(struct metric_tag) tag_overrides;
};

struct metrics_rule {
	LIST(struct provider_ref) providers;
	LIST(struct metrics_override) overrides;
	struct opt_ms reporting_interval;
};

struct logging_filter {
	const char *expression;
};

struct logging_rule {
	struct telemetry_match *match;
	LIST(struct provider_ref) providers;
	struct opt_bool disabled;
	struct logging_filter *filter;
};

struct telemetry_spec {
	struct selector *selector;
	struct target_ref *target_ref;
	LIST(struct target_ref) target_refs;
	LIST(struct tracing_rule) tracing;
	LIST(struct metrics_rule) metrics;
	LIST(struct logging_rule) access_logging;
};

/* --- EnvoyFilter: the patches are kept as written */

struct envoy_filter_spec {
	struct workload_selector *workload_selector;
	LIST(struct target_ref) target_refs;
	const struct node *config_patches; /* a list, or NULL */
	const struct node *priority;	   /* an integer, or NULL: 0 */
};
