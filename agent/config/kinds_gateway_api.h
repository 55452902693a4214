/* SPDX-License-Identifier: Apache-2.0 */
/* The specs of the Gateway API's routes as C structs; see kinds.h for the rules. */
#pragma once

#include "agent/config/kinds.h"

struct route_parent {
	const char *group; /* "gateway.networking.k8s.io" when absent */
	const char *kind;  /* "Gateway" when absent */
	const char *ns, *name, *section;
	uint16_t port; /* 0: all */
};

/* The first member of every route's spec. */
struct route_parents {
	struct route_parent *v;
	size_t n;
};

struct route_header {
	const char *name, *value;
};

struct route_header_filter {
	LIST(struct route_header) set, add;
	struct string_list remove;
};

struct route_backend {
	const char *group; /* "" when absent: core */
	const char *kind;  /* "Service" when absent */
	const char *ns, *name;
	uint16_t port; /* 0: absent */
};

struct route_fraction {
	uint32_t numerator, denominator;
};

struct route_mirror {
	struct route_backend *backend; /* never NULL */
	struct opt_u32 percent;
	struct route_fraction *fraction;
};

enum route_path_change { ROUTE_PATH_FULL, ROUTE_PATH_PREFIX };

struct route_path_modifier {
	enum route_path_change type;
	const char *full, *prefix;
};

struct route_redirect {
	const char *scheme, *hostname;
	struct route_path_modifier *path;
	uint16_t port;
	uint32_t status; /* 302 */
};

struct route_rewrite {
	const char *hostname;
	struct route_path_modifier *path;
};

struct route_cors {
	struct string_list origins, methods, headers, expose;
	struct opt_bool credentials;
	struct opt_u32 max_age_s;
};

struct route_direct_body {
	const char *text; /* never NULL */
};

struct route_direct {
	uint32_t status;
	struct route_direct_body *body;
};

enum route_filter_type {
	ROUTE_FILTER_REQUEST_HEADERS,
	ROUTE_FILTER_RESPONSE_HEADERS,
	ROUTE_FILTER_MIRROR,
	ROUTE_FILTER_REDIRECT,
	ROUTE_FILTER_REWRITE,
	ROUTE_FILTER_CORS,
	ROUTE_FILTER_DIRECT,
	ROUTE_FILTER_EXTERNAL_AUTH,
	ROUTE_FILTER_EXTENSION
};

struct route_filter {
	enum route_filter_type type;
	struct route_header_filter *request, *response;
	struct route_mirror *mirror;
	struct route_redirect *redirect;
	struct route_rewrite *rewrite;
	struct route_cors *cors;
	struct route_direct *direct;
};

struct route_backend_ref {
	struct route_backend backend; /* its fields are written in line */
	uint32_t weight;	      /* 1 */
	LIST(struct route_filter) filters;
};

enum route_match_type { ROUTE_MATCH_EXACT, ROUTE_MATCH_PREFIX, ROUTE_MATCH_REGEX };

struct route_path_match {
	enum route_match_type type; /* PREFIX */
	const char *value;	    /* "/" */
};

struct route_value_match {
	enum route_match_type type; /* EXACT or REGEX */
	const char *name, *value;
};

struct http_route_match {
	struct route_path_match *path;
	LIST(struct route_value_match) headers, params;
	const char *method;
};

struct grpc_method_match {
	enum route_match_type type; /* EXACT or REGEX */
	const char *service, *method;
};

struct grpc_route_match {
	struct grpc_method_match *method;
	LIST(struct route_value_match) headers;
};

struct route_timeouts {
	struct opt_ms request, backend_request;
};

struct route_retry {
	const struct node *codes; /* a list of numbers */
	struct opt_u32 attempts;
	struct opt_ms backoff;
};

enum route_lifetime { ROUTE_LIFETIME_SESSION, ROUTE_LIFETIME_PERMANENT };

struct route_cookie_config {
	enum route_lifetime lifetime;
};

struct route_session {
	const char *name, *type; /* "Cookie" when absent */
	struct opt_ms absolute_timeout, idle_timeout;
	struct route_cookie_config *cookie;
};

struct http_route_rule {
	uint32_t line_offset;
	const char *name;
	LIST(struct http_route_match) matches;
	LIST(struct route_filter) filters;
	LIST(struct route_backend_ref) backends;
	struct route_timeouts *timeouts;
	struct route_retry *retry;
	struct route_session *session;
};

struct grpc_route_rule {
	uint32_t line_offset;
	const char *name;
	LIST(struct grpc_route_match) matches;
	LIST(struct route_filter) filters;
	LIST(struct route_backend_ref) backends;
	struct route_session *session;
};

struct l4_route_rule {
	uint32_t line_offset;
	const char *name;
	LIST(struct route_backend_ref) backends;
};

struct http_route_spec {
	struct route_parents parents;
	struct string_list hostnames;
	LIST(struct http_route_rule) rules;
};

struct grpc_route_spec {
	struct route_parents parents;
	struct string_list hostnames;
	LIST(struct grpc_route_rule) rules;
};

struct tls_route_spec {
	struct route_parents parents;
	struct string_list hostnames; /* server names */
	LIST(struct l4_route_rule) rules;
};

struct tcp_route_spec {
	struct route_parents parents;
	LIST(struct l4_route_rule) rules;
};

struct grant_from {
	const char *group, *kind, *ns;
};

struct grant_to {
	const char *group, *kind, *name; /* name NULL: all */
};

struct reference_grant_spec {
	LIST(struct grant_from) from;
	LIST(struct grant_to) to;
};

/* --- BackendTLSPolicy */

struct policy_target {
	const char *group, *kind, *name, *section; /* of its own namespace; section: a port's name, or NULL */
};

struct local_ref {
	const char *group, *kind, *name;
};

enum backend_san { BACKEND_SAN_HOSTNAME, BACKEND_SAN_URI };

struct backend_alt_name {
	enum backend_san type;
	const char *hostname, *uri;
};

struct backend_tls_validation {
	LIST(struct local_ref) ca_refs;
	const char *well_known; /* "System", or NULL */
	const char *hostname;	/* sent, and expected unless there are subject_alt_names */
	LIST(struct backend_alt_name) subject_alt_names;
};

struct backend_tls_policy_spec {
	LIST(struct policy_target) targets;
	struct backend_tls_validation *validation; /* never NULL */
};
