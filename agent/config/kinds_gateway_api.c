/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of HTTPRoute, GRPCRoute, TLSRoute, TCPRoute and ReferenceGrant. */
#include "agent/config/kinds_gateway_api.h"

#include <string.h>

#include "agent/config/decode.h"
#include "agent/config/node.h"
#include "agent/config/schema.h"

#define GATEWAY_GROUP "gateway.networking.k8s.io"

/* --- references */

static const struct field parent_fields[] = {
	FIELD(route_parent, group, "group", STRING, .def = GATEWAY_GROUP, .doc = "\"\" for a Service."),
	FIELD(route_parent, kind, "kind", STRING, .check = text_check_not_empty, .def = "Gateway",
	      .doc = "Gateway, or Service for routes inside the mesh."),
	FIELD(route_parent, ns, "namespace", STRING, .check = text_check_dns_label, .doc = "Default: the route's."),
	FIELD(route_parent, name, "name", STRING, .flags = FIELD_REQUIRED, .check = text_check_name,
	      .doc = "Its name."),
	FIELD(route_parent, section, "sectionName", STRING, .check = text_check_name,
	      .doc = "A listener, or a port's name."),
	FIELD(route_parent, port, "port", U16, .min = 1, .max = 65535, .doc = "Only this port."),
};
static const struct schema schema_parent = SCHEMA(route_parent, parent_fields, .name = "ParentReference");

static const struct field backend_fields[] = {
	FIELD(route_backend, group, "group", STRING, .doc = "\"\" for a Service."),
	FIELD(route_backend, kind, "kind", STRING, .check = text_check_not_empty, .def = "Service", .doc = "Kind."),
	FIELD(route_backend, ns, "namespace", STRING, .check = text_check_dns_label,
	      .doc = "Default: the route's; others need a ReferenceGrant."),
	FIELD(route_backend, name, "name", STRING, .flags = FIELD_REQUIRED, .check = text_check_name,
	      .doc = "Its name."),
	FIELD(route_backend, port, "port", U16, .min = 1, .max = 65535, .doc = "Port of the service."),
};
static const struct schema schema_backend = SCHEMA(route_backend, backend_fields, .name = "BackendObjectReference");

/* --- filters */

static const struct field header_fields[] = {
	FIELD(route_header, name, "name", STRING, .flags = FIELD_REQUIRED, .check = text_check_not_empty,
	      .doc = "Header."),
	FIELD(route_header, value, "value", STRING, .flags = FIELD_REQUIRED, .doc = "Value."),
};
static const struct schema schema_header = SCHEMA(route_header, header_fields, .name = "HTTPHeader");

static const struct field header_filter_fields[] = {
	FIELD(route_header_filter, set, "set", LIST, .of = &schema_header, .doc = "Headers to overwrite."),
	FIELD(route_header_filter, add, "add", LIST, .of = &schema_header, .doc = "Headers to append."),
	FIELD(route_header_filter, remove, "remove", STRING_LIST, .check = text_check_not_empty,
	      .doc = "Headers to take away."),
};
static const struct schema schema_header_filter =
	SCHEMA(route_header_filter, header_filter_fields, .name = "HTTPHeaderFilter");

static const struct field fraction_fields[] = {
	FIELD(route_fraction, numerator, "numerator", U32, .flags = FIELD_REQUIRED, .min = 0, .max = INT32_MAX,
	      .doc = "Part."),
	FIELD(route_fraction, denominator, "denominator", U32, .min = 1, .max = INT32_MAX, .def = "100",
	      .doc = "Whole."),
};
static const struct schema schema_fraction = SCHEMA(route_fraction, fraction_fields, .name = "Fraction");

static const struct field mirror_fields[] = {
	FIELD(route_mirror, backend, "backendRef", OBJECT, .of = &schema_backend, .flags = FIELD_REQUIRED,
	      .doc = "Where copies go."),
	FIELD(route_mirror, percent, "percent", OPT_U32, .group = 1, .min = 0, .max = 100, .doc = "Share of requests."),
	FIELD(route_mirror, fraction, "fraction", OBJECT, .group = 1, .of = &schema_fraction,
	      .doc = "Share of requests."),
};
static const struct schema schema_mirror = SCHEMA(route_mirror, mirror_fields, .name = "HTTPRequestMirrorFilter");

static const struct words path_changes =
	WORDS({ "ReplaceFullPath", ROUTE_PATH_FULL }, { "ReplacePrefixMatch", ROUTE_PATH_PREFIX });
static const struct field path_modifier_fields[] = {
	FIELD(route_path_modifier, type, "type", ENUM, .words = &path_changes, .flags = FIELD_REQUIRED,
	      .doc = "What is replaced."),
	FIELD(route_path_modifier, full, "replaceFullPath", STRING, .group = 1, .doc = "Instead of the path."),
	FIELD(route_path_modifier, prefix, "replacePrefixMatch", STRING, .group = 1,
	      .doc = "Instead of the prefix that matched."),
};

static void path_modifier_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	const struct route_path_modifier *m = object;
	if (m->type == ROUTE_PATH_FULL ? !m->full : !m->prefix)
		decode_error(d, path, NULL, node, "needs %s",
			     m->type == ROUTE_PATH_FULL ? "replaceFullPath" : "replacePrefixMatch");
}

static const struct schema schema_path_modifier = SCHEMA(
	route_path_modifier, path_modifier_fields, .name = "HTTPPathModifier", .validate = path_modifier_validate);

static const struct field redirect_fields[] = {
	FIELD(route_redirect, scheme, "scheme", STRING, .check = text_check_not_empty, .doc = "New scheme."),
	FIELD(route_redirect, hostname, "hostname", STRING, .check = text_check_host, .doc = "New host."),
	FIELD(route_redirect, path, "path", OBJECT, .of = &schema_path_modifier, .doc = "New path."),
	FIELD(route_redirect, port, "port", U16, .min = 1, .max = 65535, .doc = "New port."),
	FIELD(route_redirect, status, "statusCode", U32, .min = 301, .max = 308, .def = "302", .doc = "Status."),
};
static const struct schema schema_redirect =
	SCHEMA(route_redirect, redirect_fields, .name = "HTTPRequestRedirectFilter");

static const struct field rewrite_fields[] = {
	FIELD(route_rewrite, hostname, "hostname", STRING, .check = text_check_host, .doc = "New host."),
	FIELD(route_rewrite, path, "path", OBJECT, .of = &schema_path_modifier, .doc = "New path."),
};
static const struct schema schema_rewrite = SCHEMA(route_rewrite, rewrite_fields, .name = "HTTPURLRewriteFilter");

static const struct field cors_fields[] = {
	FIELD(route_cors, origins, "allowOrigins", STRING_LIST, .check = text_check_not_empty,
	      .doc = "Origins, any of which."),
	FIELD(route_cors, credentials, "allowCredentials", OPT_BOOL, .doc = "Cookies and the like."),
	FIELD(route_cors, methods, "allowMethods", STRING_LIST, .check = text_check_not_empty, .doc = "Methods."),
	FIELD(route_cors, headers, "allowHeaders", STRING_LIST, .check = text_check_not_empty,
	      .doc = "Headers of requests."),
	FIELD(route_cors, expose, "exposeHeaders", STRING_LIST, .check = text_check_not_empty,
	      .doc = "Headers of responses."),
	FIELD(route_cors, max_age_s, "maxAge", OPT_U32, .min = 1,
	      .doc = "Seconds that a preflight's answer holds; 5 when absent."),
};
static const struct schema schema_cors = SCHEMA(route_cors, cors_fields, .name = "HTTPCORSFilter");

static const char *check_direct_body(const char *text)
{
	return strlen(text) > 4096 ? "is longer than 4096 bytes" : NULL;
}

static const struct field direct_body_fields[] = {
	FIELD(route_direct_body, text, "string", STRING, .flags = FIELD_REQUIRED, .check = check_direct_body,
	      .doc = "Plain text."),
};
static const struct schema schema_direct_body =
	SCHEMA(route_direct_body, direct_body_fields, .name = "HTTPDirectResponseBody");
static const struct field direct_fields[] = {
	FIELD(route_direct, status, "statusCode", U32, .flags = FIELD_REQUIRED, .min = 200, .max = 599,
	      .doc = "Status; those below 200 are no answers."),
	FIELD(route_direct, body, "body", OBJECT, .of = &schema_direct_body, .doc = "Its body."),
};
static const struct schema schema_direct = SCHEMA(route_direct, direct_fields, .name = "HTTPDirectResponseFilter");

static const struct words filter_types =
	WORDS({ "RequestHeaderModifier", ROUTE_FILTER_REQUEST_HEADERS },
	      { "ResponseHeaderModifier", ROUTE_FILTER_RESPONSE_HEADERS }, { "RequestMirror", ROUTE_FILTER_MIRROR },
	      { "RequestRedirect", ROUTE_FILTER_REDIRECT }, { "URLRewrite", ROUTE_FILTER_REWRITE },
	      { "CORS", ROUTE_FILTER_CORS }, { "DirectResponse", ROUTE_FILTER_DIRECT },
	      { "ExternalAuth", ROUTE_FILTER_EXTERNAL_AUTH }, { "ExtensionRef", ROUTE_FILTER_EXTENSION });
static const struct field filter_fields[] = {
	FIELD(route_filter, type, "type", ENUM, .words = &filter_types, .flags = FIELD_REQUIRED,
	      .doc = "Which of the others is meant."),
	FIELD(route_filter, request, "requestHeaderModifier", OBJECT, .group = 1, .of = &schema_header_filter,
	      .doc = "Changes the request's headers."),
	FIELD(route_filter, response, "responseHeaderModifier", OBJECT, .group = 1, .of = &schema_header_filter,
	      .doc = "Changes the response's headers."),
	FIELD(route_filter, mirror, "requestMirror", OBJECT, .group = 1, .of = &schema_mirror, .doc = "Sends copies."),
	FIELD(route_filter, redirect, "requestRedirect", OBJECT, .group = 1, .of = &schema_redirect,
	      .doc = "Sends the client elsewhere."),
	FIELD(route_filter, rewrite, "urlRewrite", OBJECT, .group = 1, .of = &schema_rewrite,
	      .doc = "Changes path and host."),
	FIELD(route_filter, cors, "cors", OBJECT, .group = 1, .of = &schema_cors, .doc = "Cross-origin requests."),
	FIELD(route_filter, direct, "directResponse", OBJECT, .group = 1, .of = &schema_direct,
	      .doc = "Answers the request."),
	FIELD_IGNORED("externalAuth", "Not supported: requests of the rule get 500."),
	FIELD_IGNORED("extensionRef", "Not supported: requests of the rule get 500."),
};

static void filter_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	static const char *const members[] = { "requestHeaderModifier",
					       "responseHeaderModifier",
					       "requestMirror",
					       "requestRedirect",
					       "urlRewrite",
					       "cors",
					       "directResponse" };
	const struct route_filter *f = object;
	const void *of[] = { f->request, f->response, f->mirror, f->redirect, f->rewrite, f->cors, f->direct };
	if (f->type == ROUTE_FILTER_EXTENSION || f->type == ROUTE_FILTER_EXTERNAL_AUTH)
		decode_warn(d, path, NULL, node,
			    "%s is not supported: requests that match get 500 (Accepted=False, UnsupportedValue)%s",
			    f->type == ROUTE_FILTER_EXTENSION ? "ExtensionRef" : "ExternalAuth",
			    f->type == ROUTE_FILTER_EXTENSION ?
				    "" :
				    "; an AuthorizationPolicy with action CUSTOM asks a provider");
	else if (!of[f->type])
		decode_error(d, path, NULL, node, "needs %s", members[f->type]);
}

static const struct schema schema_filter =
	SCHEMA(route_filter, filter_fields, .name = "HTTPRouteFilter", .validate = filter_validate);

static const struct field backend_ref_fields[] = {
	FIELD(route_backend_ref, backend.group, "group", STRING, .doc = "\"\" for a Service."),
	FIELD(route_backend_ref, backend.kind, "kind", STRING, .check = text_check_not_empty, .def = "Service",
	      .doc = "Kind."),
	FIELD(route_backend_ref, backend.ns, "namespace", STRING, .check = text_check_dns_label,
	      .doc = "Default: the route's; others need a ReferenceGrant."),
	FIELD(route_backend_ref, backend.name, "name", STRING, .flags = FIELD_REQUIRED, .check = text_check_name,
	      .doc = "Its name."),
	FIELD(route_backend_ref, backend.port, "port", U16, .min = 1, .max = 65535, .doc = "Port of the service."),
	FIELD(route_backend_ref, weight, "weight", U32, .min = 0, .max = 1000000, .def = "1",
	      .doc = "Its share of the sum."),
	FIELD(route_backend_ref, filters, "filters", LIST, .of = &schema_filter, .doc = "For requests to it."),
};
static const struct schema schema_backend_ref = SCHEMA(route_backend_ref, backend_ref_fields, .name = "HTTPBackendRef");

/* --- matches */

static const struct words path_match_types = WORDS({ "Exact", ROUTE_MATCH_EXACT }, { "PathPrefix", ROUTE_MATCH_PREFIX },
						   { "RegularExpression", ROUTE_MATCH_REGEX });
static const struct words value_match_types =
	WORDS({ "Exact", ROUTE_MATCH_EXACT }, { "RegularExpression", ROUTE_MATCH_REGEX });

static const struct field path_match_fields[] = {
	FIELD(route_path_match, type, "type", ENUM, .words = &path_match_types, .def = "PathPrefix", .doc = "How."),
	FIELD(route_path_match, value, "value", STRING, .def = "/", .doc = "Path."),
};

static void path_match_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	const struct route_path_match *m = object;
	if (m->type == ROUTE_MATCH_REGEX)
		decode_regex_check(d, path, "value", node, m->value, NULL);
	else if (m->value[0] != '/')
		decode_error(d, path, "value", node, "\"%s\" does not begin with a slash", m->value);
}

static const struct schema schema_path_match =
	SCHEMA(route_path_match, path_match_fields, .name = "HTTPPathMatch", .validate = path_match_validate);

static const struct field value_match_fields[] = {
	FIELD(route_value_match, type, "type", ENUM, .words = &value_match_types, .def = "Exact", .doc = "How."),
	FIELD(route_value_match, name, "name", STRING, .flags = FIELD_REQUIRED, .check = text_check_not_empty,
	      .doc = "Of what."),
	FIELD(route_value_match, value, "value", STRING, .flags = FIELD_REQUIRED, .doc = "Value."),
};

static void value_match_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	const struct route_value_match *m = object;
	if (m->type == ROUTE_MATCH_REGEX)
		decode_regex_check(d, path, "value", node, m->value, NULL);
}

static const struct schema schema_value_match =
	SCHEMA(route_value_match, value_match_fields, .name = "HTTPHeaderMatch", .validate = value_match_validate);

static const struct field http_match_fields[] = {
	FIELD(http_route_match, path, "path", OBJECT, .of = &schema_path_match, .doc = "Path."),
	FIELD(http_route_match, headers, "headers", LIST, .of = &schema_value_match, .doc = "Headers, all of them."),
	FIELD(http_route_match, params, "queryParams", LIST, .of = &schema_value_match,
	      .doc = "Query parameters, all of them."),
	FIELD(http_route_match, method, "method", STRING, .check = text_check_not_empty, .doc = "Method."),
};
static const struct schema schema_http_match = SCHEMA(http_route_match, http_match_fields, .name = "HTTPRouteMatch");

static const struct field method_match_fields[] = {
	FIELD(grpc_method_match, type, "type", ENUM, .words = &value_match_types, .def = "Exact", .doc = "How."),
	FIELD(grpc_method_match, service, "service", STRING, .check = text_check_not_empty, .doc = "package.Service"),
	FIELD(grpc_method_match, method, "method", STRING, .check = text_check_not_empty, .doc = "Method."),
};

static void method_match_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	const struct grpc_method_match *m = object;
	if (!m->service && !m->method)
		decode_error(d, path, NULL, node, "needs service or method");
	if (m->type == ROUTE_MATCH_REGEX) {
		decode_regex_check(d, path, "service", node, m->service, NULL);
		decode_regex_check(d, path, "method", node, m->method, NULL);
	}
}

static const struct schema schema_method_match =
	SCHEMA(grpc_method_match, method_match_fields, .name = "GRPCMethodMatch", .validate = method_match_validate);

static const struct field grpc_match_fields[] = {
	FIELD(grpc_route_match, method, "method", OBJECT, .of = &schema_method_match, .doc = "Service and method."),
	FIELD(grpc_route_match, headers, "headers", LIST, .of = &schema_value_match, .doc = "Headers, all of them."),
};
static const struct schema schema_grpc_match = SCHEMA(grpc_route_match, grpc_match_fields, .name = "GRPCRouteMatch");

/* --- rules */

static const struct field timeouts_fields[] = {
	FIELD(route_timeouts, request, "request", OPT_MS, .doc = "Of the whole request; 0s: none."),
	FIELD(route_timeouts, backend_request, "backendRequest", OPT_MS, .doc = "Of one attempt."),
};
static const struct schema schema_timeouts = SCHEMA(route_timeouts, timeouts_fields, .name = "HTTPRouteTimeouts");

static const struct field retry_fields[] = {
	FIELD(route_retry, codes, "codes", ANY, .any = NODE_LIST, .doc = "Statuses to retry."),
	FIELD(route_retry, attempts, "attempts", OPT_U32, .min = 0, .max = 1000, .doc = "Retries."),
	FIELD(route_retry, backoff, "backoff", OPT_MS, .min = 1, .doc = "Shortest pause."),
};

static void retry_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	const struct route_retry *r = object;
	for (const struct node *code = r->codes ? r->codes->first : NULL; code; code = code->next)
		if (code->type != NODE_INT || code->i < 400 || code->i > 599)
			decode_error(d, path, "codes", node, "holds something else than statuses from 400 to 599");
}

static const struct schema schema_retry =
	SCHEMA(route_retry, retry_fields, .name = "HTTPRouteRetry", .validate = retry_validate);

static const struct words lifetimes =
	WORDS({ "Session", ROUTE_LIFETIME_SESSION }, { "Permanent", ROUTE_LIFETIME_PERMANENT });
static const struct field cookie_config_fields[] = {
	FIELD(route_cookie_config, lifetime, "lifetimeType", ENUM, .words = &lifetimes, .def = "Session",
	      .doc = "How long the client keeps it."),
};
static const struct schema schema_cookie_config =
	SCHEMA(route_cookie_config, cookie_config_fields, .name = "CookieConfig");

/* A token, RFC 9110 5.6.2: names of cookies and headers are no more. */
static const char *check_session_name(const char *text)
{
	static const char signs[] = "!#$%&'*+-.^_`|~";
	size_t n = strlen(text);
	for (size_t i = 0; i < n; i++) {
		char c = text[i];
		bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
		if (!word && !strchr(signs, c))
			return "has characters that names of cookies and headers have not";
	}
	return !n ? "is empty" : n > 128 ? "is longer than 128 characters" : NULL;
}

static const char *check_session_type(const char *text)
{
	return strcmp(text, "Cookie") && strcmp(text, "Header") ? "is neither Cookie nor Header" : NULL;
}

static const struct field session_fields[] = {
	FIELD(route_session, name, "sessionName", STRING, .check = check_session_name,
	      .doc = "Name of the cookie or header; made of the rule when absent."),
	FIELD(route_session, type, "type", STRING, .check = check_session_type, .def = "Cookie",
	      .doc = "Cookie, or Header, which clients send back themselves."),
	FIELD(route_session, absolute_timeout, "absoluteTimeout", OPT_MS, .min = 1, .doc = "How long a session lasts."),
	FIELD(route_session, idle_timeout, "idleTimeout", OPT_MS, .min = 1, .doc = "How long without a request."),
	FIELD(route_session, cookie, "cookieConfig", OBJECT, .of = &schema_cookie_config, .doc = "The cookie."),
};

static void session_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	const struct route_session *s = object;
	if (s->cookie && s->cookie->lifetime == ROUTE_LIFETIME_PERMANENT && !s->absolute_timeout.set)
		decode_error(d, path, "absoluteTimeout", node, "is required when lifetimeType is Permanent");
	if (s->cookie && s->type && strcmp(s->type, "Header") == 0)
		decode_error(d, path, "cookieConfig", node_get(node, "cookieConfig"), "is for the type Cookie only");
}

static const struct schema schema_session =
	SCHEMA(route_session, session_fields, .name = "SessionPersistence", .validate = session_validate);

static const struct field http_rule_fields[] = {
	FIELD(http_route_rule, line_offset, NULL, LINE),
	FIELD(http_route_rule, name, "name", STRING, .check = text_check_name, .doc = "For logs and metrics."),
	FIELD(http_route_rule, matches, "matches", LIST, .of = &schema_http_match,
	      .doc = "Any of these; none: all requests."),
	FIELD(http_route_rule, filters, "filters", LIST, .of = &schema_filter, .doc = "What is done besides."),
	FIELD(http_route_rule, backends, "backendRefs", LIST, .of = &schema_backend_ref,
	      .doc = "Where requests go, by weight."),
	FIELD(http_route_rule, timeouts, "timeouts", OBJECT, .of = &schema_timeouts, .doc = "Time limits."),
	FIELD(http_route_rule, retry, "retry", OBJECT, .of = &schema_retry, .doc = "Tries again."),
	FIELD(http_route_rule, session, "sessionPersistence", OBJECT, .of = &schema_session,
	      .doc = "The same endpoint for a session."),
};

static void http_rule_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	const struct http_route_rule *r = object;
	bool redirect = false, rewrite = false, direct = false;
	for (size_t i = 0; i < r->filters.n; i++) {
		redirect |= r->filters.v[i].type == ROUTE_FILTER_REDIRECT;
		rewrite |= r->filters.v[i].type == ROUTE_FILTER_REWRITE;
		direct |= r->filters.v[i].type == ROUTE_FILTER_DIRECT;
	}
	if (direct && (redirect || rewrite || r->backends.n))
		decode_error(d, path, "filters", node_get(node, "filters"),
			     "has a DirectResponse together with %s (Accepted=False, IncompatibleFilters)",
			     redirect ? "a RequestRedirect" :
			     rewrite  ? "a URLRewrite" :
					"backendRefs");
	if (redirect && (rewrite || r->backends.n))
		decode_error(d, path, "filters", node_get(node, "filters"),
			     "has a RequestRedirect together with %s (Accepted=False, IncompatibleFilters)",
			     rewrite ? "a URLRewrite" : "backendRefs");
	const struct route_timeouts *t = r->timeouts;
	if (t && t->request.set && t->request.ms && t->backend_request.set && t->backend_request.ms > t->request.ms)
		decode_error(d, path, "timeouts", node_get(node, "timeouts"),
			     "has a backendRequest longer than request");
}

static const struct schema schema_http_rule =
	SCHEMA(http_route_rule, http_rule_fields, .name = "HTTPRouteRule", .validate = http_rule_validate);

static const struct field grpc_rule_fields[] = {
	FIELD(grpc_route_rule, line_offset, NULL, LINE),
	FIELD(grpc_route_rule, name, "name", STRING, .check = text_check_name, .doc = "For logs and metrics."),
	FIELD(grpc_route_rule, matches, "matches", LIST, .of = &schema_grpc_match,
	      .doc = "Any of these; none: all calls."),
	FIELD(grpc_route_rule, filters, "filters", LIST, .of = &schema_filter, .doc = "What is done besides."),
	FIELD(grpc_route_rule, backends, "backendRefs", LIST, .of = &schema_backend_ref,
	      .doc = "Where calls go, by weight."),
	FIELD(grpc_route_rule, session, "sessionPersistence", OBJECT, .of = &schema_session,
	      .doc = "The same endpoint for a session."),
};
static const struct schema schema_grpc_rule = SCHEMA(grpc_route_rule, grpc_rule_fields, .name = "GRPCRouteRule");

static const struct field l4_rule_fields[] = {
	FIELD(l4_route_rule, line_offset, NULL, LINE),
	FIELD(l4_route_rule, name, "name", STRING, .check = text_check_name, .doc = "For logs."),
	FIELD(l4_route_rule, backends, "backendRefs", LIST, .of = &schema_backend_ref,
	      .flags = FIELD_REQUIRED | FIELD_NOT_EMPTY, .doc = "Where connections go, by weight."),
};
static const struct schema schema_l4_rule = SCHEMA(l4_route_rule, l4_rule_fields, .name = "TCPRouteRule");

/* --- kinds */

static const struct field http_route_fields[] = {
	FIELD(http_route_spec, parents, "parentRefs", LIST, .of = &schema_parent,
	      .doc = "Services (or Gateways) whose requests are meant."),
	FIELD(http_route_spec, hostnames, "hostnames", STRING_LIST, .check = text_check_host, .doc = "For Gateways."),
	FIELD(http_route_spec, rules, "rules", LIST, .of = &schema_http_rule,
	      .doc = "Rules; the most specific match is taken."),
	FIELD_IGNORED("useDefaultGateways", "For Gateways."),
};
const struct schema schema_http_route =
	SCHEMA(http_route_spec, http_route_fields, .name = "HTTPRoute", .doc = "How HTTP requests are routed.");

static const struct field grpc_route_fields[] = {
	FIELD(grpc_route_spec, parents, "parentRefs", LIST, .of = &schema_parent,
	      .doc = "Services (or Gateways) whose calls are meant."),
	FIELD(grpc_route_spec, hostnames, "hostnames", STRING_LIST, .check = text_check_host, .doc = "For Gateways."),
	FIELD(grpc_route_spec, rules, "rules", LIST, .of = &schema_grpc_rule,
	      .doc = "Rules; the most specific match is taken."),
	FIELD_IGNORED("useDefaultGateways", "For Gateways."),
};
const struct schema schema_grpc_route =
	SCHEMA(grpc_route_spec, grpc_route_fields, .name = "GRPCRoute", .doc = "How gRPC calls are routed.");

static const struct field tls_route_fields[] = {
	FIELD(tls_route_spec, parents, "parentRefs", LIST, .of = &schema_parent,
	      .doc = "Services (or Gateways) whose connections are meant."),
	FIELD(tls_route_spec, hostnames, "hostnames", STRING_LIST, .check = text_check_host, .doc = "Server names."),
	FIELD(tls_route_spec, rules, "rules", LIST, .of = &schema_l4_rule, .doc = "Rules; the first is taken."),
	FIELD_IGNORED("useDefaultGateways", "For Gateways."),
};
const struct schema schema_tls_route =
	SCHEMA(tls_route_spec, tls_route_fields, .name = "TLSRoute", .doc = "How TLS connections are routed.");

static const struct field tcp_route_fields[] = {
	FIELD(tcp_route_spec, parents, "parentRefs", LIST, .of = &schema_parent,
	      .doc = "Services (or Gateways) whose connections are meant."),
	FIELD(tcp_route_spec, rules, "rules", LIST, .of = &schema_l4_rule, .doc = "Rules; the first is taken."),
	FIELD_IGNORED("useDefaultGateways", "For Gateways."),
};
const struct schema schema_tcp_route =
	SCHEMA(tcp_route_spec, tcp_route_fields, .name = "TCPRoute", .doc = "How TCP connections are routed.");

static const struct field grant_from_fields[] = {
	FIELD(grant_from, group, "group", STRING, .doc = "Group of the kind that refers."),
	FIELD(grant_from, kind, "kind", STRING, .flags = FIELD_REQUIRED, .check = text_check_not_empty,
	      .doc = "HTTPRoute and the like."),
	FIELD(grant_from, ns, "namespace", STRING, .flags = FIELD_REQUIRED, .check = text_check_dns_label,
	      .doc = "Its namespace."),
};
static const struct schema schema_grant_from = SCHEMA(grant_from, grant_from_fields, .name = "ReferenceGrantFrom");
static const struct field grant_to_fields[] = {
	FIELD(grant_to, group, "group", STRING, .doc = "\"\" for a Service."),
	FIELD(grant_to, kind, "kind", STRING, .flags = FIELD_REQUIRED, .check = text_check_not_empty,
	      .doc = "Service, Secret."),
	FIELD(grant_to, name, "name", STRING, .check = text_check_name, .doc = "Only this one; absent: all."),
};
static const struct schema schema_grant_to = SCHEMA(grant_to, grant_to_fields, .name = "ReferenceGrantTo");
static const struct field grant_fields[] = {
	FIELD(reference_grant_spec, from, "from", LIST, .of = &schema_grant_from,
	      .flags = FIELD_REQUIRED | FIELD_NOT_EMPTY, .doc = "Who may refer."),
	FIELD(reference_grant_spec, to, "to", LIST, .of = &schema_grant_to, .flags = FIELD_REQUIRED | FIELD_NOT_EMPTY,
	      .doc = "To what of this namespace."),
};
const struct schema schema_reference_grant = SCHEMA(reference_grant_spec, grant_fields, .name = "ReferenceGrant",
						    .doc = "Allows references from other namespaces.", .strict = true);
