/* SPDX-License-Identifier: Apache-2.0 */
/* What requests for one host mean: routes in order, each with its matches and actions. Compiled from VirtualService,
 * HTTPRoute and GRPCRoute; matched by the helper for every request and by `explain` with the same code.
 * Immutable after http_vhost_seal(), reference-counted (atomic). Matching is pure: no I/O, no clock. */
#pragma once

#include "agent/base/addr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct label;
struct regex; /* agent/base/regex.h */

enum http_text_kind {
	HTTP_TEXT_EXACT,
	HTTP_TEXT_PREFIX,
	HTTP_TEXT_SUFFIX,
	HTTP_TEXT_REGEX,       /* full match, RE2-like syntax */
	HTTP_TEXT_PRESENT,     /* the field is there, with any value */
	HTTP_TEXT_PATH_PREFIX, /* Gateway API: whole segments; "/a" matches "/a" and "/a/b", not "/ab" */
};

struct http_text {
	enum http_text_kind kind;
	bool ignore_case;
	char *text;
	struct regex *regex; /* of kind REGEX; made by http_vhost_seal() */
};

/* A header or query parameter, by name. Headers: lower case, several of one name are joined with "," before matching. */
struct http_field_match {
	char *name;
	struct http_text value;
	bool invert; /* withoutHeaders: the whole condition is negated, an absent field fulfils it */
};

/* All conditions that are present must hold. Pointers: NULL is no condition. */
struct http_match {
	char *name;
	struct http_text *path, *scheme, *method, *authority; /* path: without query, normalised */
	struct http_field_match *headers, *params;
	size_t header_count, param_count;
	uint16_t port;		/* that the caller asked for; 0: any */
	char *source_namespace; /* NULL: any */
	struct label *source_labels;
	size_t source_label_count;
};

struct http_header_value {
	char *name, *value; /* value: may hold %operators% of the access log, such as %DOWNSTREAM_REMOTE_ADDRESS% */
};

struct http_header_ops {
	struct http_header_value *set, *add;
	size_t set_count, add_count;
	char **remove;
	size_t remove_count;
};

struct http_destination {
	char *cluster;	 /* name of an http_cluster */
	uint32_t weight; /* of total_weight */
	struct http_header_ops request, response;
	char *host_rewrite; /* HTTPRoute's URLRewrite.hostname as a backend filter; NULL: none */
};

struct http_rewrite {
	/* At most one of the three. path_prefix replaces what the match's prefix covered (the whole path for exact). */
	char *path_prefix;
	char *path_full;
	char *path_regex; /* with path_substitution: RE2 syntax, \1 groups */
	char *path_substitution;
	struct regex *regex; /* of path_regex */
	char *authority;
};

struct http_redirect {
	char *scheme, *authority; /* NULL: the request's */
	char *path_full, *path_prefix;
	/* The port of the location, left out when it is the scheme's default. None of these: as it is in the authority. */
	uint16_t port;
	bool keep_port;	   /* the one that was called */
	bool default_port; /* the scheme's */
	uint32_t status;   /* 301, 302, 303, 307, 308 */
};

struct http_direct_response {
	uint32_t status;
	char *body;
	size_t body_len;
	char *content_type; /* NULL: text/plain when there is a body */
};

struct http_fraction { /* of a million */
	uint32_t ppm;
};

struct http_fault {
	uint32_t delay_ms; /* 0: none */
	struct http_fraction delay_share;
	bool abort;
	uint32_t abort_status; /* HTTP */
	int32_t abort_grpc;    /* -1: none */
	struct http_fraction abort_share;
};

struct http_mirror {
	char *cluster;
	struct http_fraction share;
};

struct http_cors {
	struct http_text *origins;
	size_t origin_count;
	char *methods, *headers, *expose; /* joined with ","; NULL: not sent */
	uint32_t max_age_s;
	bool has_max_age, credentials, forward_unmatched_preflights;
};

/* Envoy's conditions, as bits. */
enum http_retry_on {
	RETRY_5XX = 1,
	RETRY_GATEWAY_ERROR = 2,
	RETRY_RESET = 4,
	RETRY_RESET_BEFORE_REQUEST = 8,
	RETRY_CONNECT_FAILURE = 16,
	RETRY_ENVOY_RATELIMITED = 32,
	RETRY_RETRIABLE_4XX = 64,
	RETRY_REFUSED_STREAM = 128,
	RETRY_STATUS_CODES = 256, /* statuses */
	RETRY_HEADERS = 512,
	RETRY_GRPC_CANCELLED = 1024,
	RETRY_GRPC_DEADLINE = 2048,
	RETRY_GRPC_INTERNAL = 4096,
	RETRY_GRPC_EXHAUSTED = 8192,
	RETRY_GRPC_UNAVAILABLE = 16384,
	RETRY_HTTP3_POST_CONNECT_FAILURE = 32768, /* accepted, never happens */
};

struct http_retry {
	uint32_t attempts; /* further ones; Istio's default: 2. 0: none */
	uint32_t per_try_timeout_ms;
	uint32_t on; /* http_retry_on */
	uint16_t *statuses;
	size_t status_count;
	uint32_t backoff_ms, backoff_max_ms; /* 25, 250; exponential with full jitter */
	bool other_hosts;		     /* avoid endpoints that failed this request */
	bool remote_localities;
};

/* Which action a route takes: the first of redirect, direct, else destinations. None of them: 404 (no route), as does a
 * weight sum of 0 with 500 (Gateway API). */
struct http_route {
	char *name;		    /* of the document's route, or "default" */
	char *origin;		    /* "20-traffic.yaml:33": for explain */
	char *owner;		    /* "VirtualService shop/catalog" */
	struct http_match *matches; /* any of them; none: everything */
	size_t match_count;
	struct http_redirect *redirect;
	struct http_direct_response *direct;
	struct http_destination *destinations;
	size_t destination_count;
	uint32_t total_weight;
	bool invalid_backend; /* Gateway API: answers 500 for the share of invalid_weight */
	uint32_t invalid_weight;
	struct http_rewrite *rewrite;
	struct http_header_ops request, response;
	struct http_fault *fault;
	struct http_mirror *mirrors;
	size_t mirror_count;
	struct http_cors *cors;
	struct http_retry retry;
	uint32_t timeout_ms;  /* 0: none */
	char *session_name;   /* HTTPRoute sessionPersistence: the cookie's or header's name; NULL: none */
	bool session_header;  /* a header instead of a cookie */
	bool session_max_age; /* the cookie is to be kept for what is left of session_absolute_s */
	uint32_t session_absolute_s, session_idle_s; /* how long it lasts at most, and unused; 0: for ever */
};

struct http_vhost {
	unsigned int refs;
	uint64_t id;		   /* content hash, by http_vhost_seal() */
	char *name;		   /* Istio's: "catalog.shop.svc.cluster.local:80" */
	char *host;		   /* "catalog.shop.svc.cluster.local", or as in the VirtualService */
	struct http_route *routes; /* in order of precedence */
	size_t route_count;
	bool include_attempt_count; /* x-envoy-attempt-count; true */
};

struct http_vhost *http_vhost_new(void); /* refs 1 */
struct http_vhost *http_vhost_ref(struct http_vhost *v);
void http_vhost_unref(struct http_vhost *v);
void http_route_done(struct http_route *route); /* frees what it holds */
void http_match_done(struct http_match *m);
void http_destination_done(struct http_destination *d);
void http_header_ops_done(struct http_header_ops *ops);
/* Compiles the expressions of one route, as http_vhost_seal() does for all: to leave a bad route out. */
int http_route_seal(struct http_route *route, struct err *err);
/* Compiles regular expressions and fills id. 0, -ENOMEM, or -EINVAL with the sentence for a bad expression. */
int http_vhost_seal(struct http_vhost *v, struct err *err);

/* --- the request, as the matcher sees it */

struct http_view { /* a piece of text; p NULL: absent */
	const char *p;
	size_t n;
};

struct http_request_view {
	struct http_view method, scheme, authority; /* authority as sent; matched without its port too */
	struct http_view path;			    /* normalised, without query */
	struct http_view query;			    /* after '?', undecoded */
	uint16_t port;
	/* The values of a header (lower-case name), joined with ","; `scratch` is the request's own and lives as long. */
	struct http_view (*header)(const struct http_request_view *r, const char *name);
	const void *headers; /* for `header` */
	const char *source_namespace;
	const struct label *source_labels;
	size_t source_label_count;
};

/* Why a route did not match, for explain. */
struct http_mismatch {
	size_t route, match;
	const char *what; /* "path", "header x-canary", "sourceLabels" ... */
};

/* The first route that matches, and which of its matches (SIZE_MAX: it has none). NULL: none does. */
const struct http_route *http_route_find(const struct http_vhost *v, const struct http_request_view *r, size_t *match);
/* NULL when it matches, else the first condition that does not hold, in words; buf is used for some. */
const char *http_match_why(const struct http_match *m, const struct http_request_view *r, char *buf, size_t size);
bool http_text_matches(const struct http_text *t, struct http_view value);
/* The first value of a query parameter, percent-decoded into buf. false: absent. */
bool http_query_get(struct http_view query, const char *name, char *buf, size_t size, struct http_view *out);
/* The destination for a random number in [0, total_weight + invalid_weight). NULL: the invalid backend. */
const struct http_destination *http_route_pick(const struct http_route *route, uint32_t random);
/* The path (with query) after the route's rewrite, newly allocated; NULL: no rewrite or no memory (*failed). */
char *http_rewrite_path(const struct http_route *route, size_t match, struct http_view path, struct http_view query,
			bool *failed);
/* The Location of the route's redirect, newly allocated; NULL: no memory, or beyond the limits. secure: the request came
 * over TLS, for when neither route nor request names a scheme. */
char *http_redirect_location(const struct http_route *route, size_t match, const struct http_request_view *r,
			     bool secure);
/* "5xx,gateway-error,503" to bits and statuses. -EINVAL: an unknown condition, named in err. */
int http_retry_on_parse(const char *text, struct http_retry *out, struct err *err);
