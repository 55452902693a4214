/* SPDX-License-Identifier: Apache-2.0 */
/* What happens to a workload's requests besides routing: who may send them, how many, and what a script says. One object
 * for each direction of a workload: inbound filters protect it, outbound ones are what EnvoyFilters put on its client side.
 * Immutable, reference-counted (atomic). */
#pragma once

#include "agent/model/http.h"
#include "agent/model/proxy.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct policy;

/* --- RequestAuthentication */

struct jwt_location {
	char *name;   /* header (lower case), parameter or cookie */
	char *prefix; /* of a header's value, "Bearer "; NULL: none */
};

struct jwt_claim_header {
	char *header, *claim; /* claim: nested with "." */
};

struct jwt_rule {
	char *issuer;
	char **audiences;
	size_t audience_count;
	char *jwks;		  /* the keys: inline, or as the agent fetched them; NULL: not there (yet) */
	char *jwks_uri;		  /* for messages */
	bool jwks_inline;	  /* HS* only then */
	uint32_t jwks_timeout_ms; /* for fetching them */
	/* None of the three lists: Authorization "Bearer " and the parameter access_token. */
	struct jwt_location *headers, *params, *cookies;
	size_t header_count, param_count, cookie_count;
	bool forward;
	char *output_payload_header;
	struct jwt_claim_header *output_claims;
	size_t output_claim_count;
	char **space_delimited_claims;
	size_t space_delimited_claim_count;
	char *origin; /* "12-authorization.yaml:33" */
};

/* --- rate limits */

struct token_bucket {
	uint32_t max_tokens, tokens_per_fill;
	uint64_t fill_interval_ms;
};

struct limit_entry {
	char *key, *value; /* value NULL: any (a bucket for each) */
};

struct limit_descriptor {
	struct limit_entry *entries;
	size_t entry_count;
	struct token_bucket bucket;
};

/* What makes a descriptor's entries from a request. */
enum limit_action_kind {
	LIMIT_REQUEST_HEADER, /* key, header */
	LIMIT_REMOTE_ADDRESS,
	LIMIT_GENERIC_KEY,	  /* key, value */
	LIMIT_HEADER_VALUE_MATCH, /* key, value when `match` holds */
	LIMIT_DESTINATION_CLUSTER,
	LIMIT_SOURCE_CLUSTER,
	LIMIT_PATH,
	LIMIT_METHOD,
};

struct limit_action {
	enum limit_action_kind kind;
	char *key, *value, *header;
	bool skip_if_absent;
	struct http_field_match *matches;
	size_t match_count;
	bool expect_match;
};

struct limit_actions { /* one descriptor */
	struct limit_action *v;
	size_t n;
	char *route;   /* only of this route's requests; NULL: of all */
	char *vhost;   /* only of this virtual host's ("host:port"); NULL: of all */
	uint16_t port; /* 0: all */
};

struct rate_limit {
	uint64_t id; /* by http_filters_seal(): of all but the origin, so that buckets outlive edits elsewhere */
	char *name, *origin;
	char *route;	/* only on this route's name; NULL: all */
	char *vhost;	/* only on this virtual host's; NULL: all */
	uint16_t port;	/* 0: all */
	bool per_route; /* where it applies, local limits that are not don't */
	bool global;
	bool grpc_exhausted; /* RESOURCE_EXHAUSTED instead of UNAVAILABLE */
	/* local */
	struct token_bucket bucket;
	bool has_bucket;
	bool spare_bucket; /* a request that has a descriptor's bucket does not take from `bucket` too */
	struct limit_descriptor *descriptors; /* each combination once */
	size_t descriptor_count;
	struct http_fraction enabled, enforced;
	uint32_t status;		 /* 429 */
	struct http_header_ops response; /* of refusals; no %operators% */
	bool x_ratelimit_headers;
	/* global: the service and what to ask */
	char *cluster, *domain;
	uint32_t timeout_ms;
	bool failure_deny;
	/* both: descriptors made of each request */
	struct limit_actions *actions;
	size_t action_count;
};

/* --- Lua */

struct lua_source { /* of source_codes: for routes that name it */
	char *name, *code;
};

struct lua_script {
	char *name, *origin;
	char *code;    /* NULL: nothing but what routes say */
	char *filter;  /* the name by which routes speak of it; NULL: none */
	bool early;    /* before tokens are verified and policies asked */
	uint16_t port; /* 0: all */
	struct lua_source *sources;
	size_t source_count;
};

/* What one route has to say to filters of a name: later ones count before earlier ones. */
struct lua_route {
	char *filter, *origin;
	char *route;   /* its name; NULL: all */
	char *vhost;   /* its virtual host's name; NULL: all */
	uint16_t port; /* 0: all */
	bool replaces; /* by LuaPerRoute: what is run, and the context */
	bool disabled;
	char *source, *code;	  /* one of source_codes, or its own; neither: the filter's */
	char *context, *metadata; /* JSON objects; NULL: none */
};

/* --- CUSTOM authorisation */

struct ext_authz {
	char *provider; /* name in extensionProviders */
	bool grpc;
	char *cluster; /* of the service */
	char *path_prefix;
	uint32_t timeout_ms; /* 600 ms when absent */
	bool fail_open;
	uint32_t status_on_error; /* 403 */
	char **include_request_headers;
	size_t include_request_header_count;
	char **upstream_headers, **downstream_on_deny, **downstream_on_allow; /* patterns: exact, prefix*, *suffix */
	size_t upstream_header_count, downstream_on_deny_count, downstream_on_allow_count;
	struct http_header_ops additional; /* `set` for the check request */
	uint32_t max_body_bytes;
	bool allow_partial, pack_as_bytes;
};

enum path_normalization { PATH_NONE, PATH_BASE, PATH_MERGE_SLASHES, PATH_DECODE_AND_MERGE_SLASHES };

struct http_filters {
	unsigned int refs;
	uint64_t id; /* content hash */
	struct jwt_rule *jwt;
	size_t jwt_count;
	struct rate_limit *limits;
	size_t limit_count;
	struct lua_script *scripts;
	size_t script_count;
	struct lua_route *lua_routes;
	size_t lua_route_count;
	struct ext_authz *ext_authz; /* the providers that CUSTOM rules of the workload's policy name */
	size_t ext_authz_count;
	enum path_normalization normalization; /* BASE unless the mesh says else */
	struct proxy_settings proxy;	       /* of headers */
};

/* Where a request is: what is of one route, virtual host or port asks for that. */
struct filter_place {
	const char *route, *vhost; /* names; NULL: none, as on the server's side */
	uint16_t port;
};
bool filter_applies(const struct filter_place *at, const char *route, const char *vhost, uint16_t port);

struct http_filters *http_filters_new(void);
struct http_filters *http_filters_ref(struct http_filters *f);
void http_filters_unref(struct http_filters *f);
void http_filters_seal(struct http_filters *f); /* fills id */
