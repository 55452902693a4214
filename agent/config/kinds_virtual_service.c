/* SPDX-License-Identifier: Apache-2.0 */
/* Table of VirtualService, and what holds between its fields. */
#include "agent/config/kinds_http.h"

#include <string.h>

#include "agent/base/str.h"
#include "agent/config/decode.h"
#include "agent/config/node.h"
#include "agent/config/schema.h"

/* --- matches */

static const struct field string_match_fields[] = {
	FIELD(string_match, exact, "exact", STRING, .group = 1, .doc = "Equal."),
	FIELD(string_match, prefix, "prefix", STRING, .group = 1, .check = text_check_not_empty,
	      .doc = "Begins with it."),
	FIELD(string_match, regex, "regex", STRING, .group = 1, .check = text_check_not_empty,
	      .doc = "Matches as a whole (RE2)."),
};

static void string_match_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	struct string_match *m = object;
	m->kind = m->exact  ? STRING_MATCH_EXACT :
		  m->prefix ? STRING_MATCH_PREFIX :
		  m->regex  ? STRING_MATCH_REGEX :
			      STRING_MATCH_PRESENT;
	m->text = m->exact ? m->exact : m->prefix ? m->prefix : m->regex;
	decode_regex_check(d, path, "regex", node, m->regex, NULL);
}

static const struct schema schema_string_match =
	SCHEMA(string_match, string_match_fields, .name = "StringMatch", .validate = string_match_validate);

/* The entries of a map to matches: the same fields, behind the key. */
static const struct field named_match_fields[] = {
	FIELD(named_match, match.exact, "exact", STRING, .group = 1, .doc = "Equal."),
	FIELD(named_match, match.prefix, "prefix", STRING, .group = 1, .check = text_check_not_empty,
	      .doc = "Begins with it."),
	FIELD(named_match, match.regex, "regex", STRING, .group = 1, .check = text_check_not_empty,
	      .doc = "Matches as a whole."),
};

static void named_match_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	string_match_validate(d, path, node, &((struct named_match *)object)->match);
}

static const struct field named_match_key = FIELD(named_match, key, NULL, STRING, .check = text_check_not_empty);
static const struct schema schema_named_match = SCHEMA(named_match, named_match_fields, .name = "StringMatch",
						       .key = &named_match_key, .validate = named_match_validate);

static const struct field http_match_fields[] = {
	FIELD(vs_match, name, "name", STRING, .doc = "For logs."),
	FIELD(vs_match, stat_prefix, "statPrefix", STRING, .flags = FIELD_UNUSED, .doc = "For statistics."),
	FIELD(vs_match, uri, "uri", OBJECT, .of = &schema_string_match, .doc = "Path."),
	FIELD(vs_match, scheme, "scheme", OBJECT, .of = &schema_string_match, .doc = "Scheme."),
	FIELD(vs_match, method, "method", OBJECT, .of = &schema_string_match, .doc = "Method."),
	FIELD(vs_match, authority, "authority", OBJECT, .of = &schema_string_match, .doc = "Host."),
	FIELD(vs_match, headers, "headers", MAP, .of = &schema_named_match, .doc = "Headers, all of them."),
	FIELD(vs_match, without_headers, "withoutHeaders", MAP, .of = &schema_named_match,
	      .doc = "None of these headers."),
	FIELD(vs_match, query_params, "queryParams", MAP, .of = &schema_named_match,
	      .doc = "Query parameters, all of them."),
	FIELD(vs_match, port, "port", U16, .min = 1, .max = 65535, .doc = "Port that was asked."),
	FIELD(vs_match, source_labels, "sourceLabels", STRING_MAP, .key_check = text_check_label_key,
	      .check = text_check_label_value, .doc = "Labels of the caller."),
	FIELD(vs_match, gateways, "gateways", STRING_LIST, .check = text_check_not_empty, .doc = "Gateways, or mesh."),
	FIELD(vs_match, ignore_uri_case, "ignoreUriCase", BOOL, .doc = "For exact and prefix paths."),
	FIELD(vs_match, source_namespace, "sourceNamespace", STRING, .check = text_check_dns_label,
	      .doc = "Namespace of the caller."),
};
static const struct schema schema_http_match = SCHEMA(vs_match, http_match_fields, .name = "HTTPMatchRequest");

/* --- destinations */

static const struct field port_number_fields[] = {
	FIELD(port_selector, number, "number", U16, .flags = FIELD_REQUIRED, .min = 1, .max = 65535,
	      .doc = "Port of the service."),
};
static const struct schema schema_port_number = SCHEMA(port_selector, port_number_fields, .name = "PortSelector");

static const struct field destination_fields[] = {
	FIELD(destination, host, "host", STRING, .flags = FIELD_REQUIRED, .check = text_check_fqdn_host,
	      .doc = "The service."),
	FIELD(destination, subset, "subset", STRING, .check = text_check_name,
	      .doc = "A subset of its DestinationRule."),
	FIELD(destination, port, "port", OBJECT, .of = &schema_port_number,
	      .doc = "Its port; needed when it has several."),
};
static const struct schema schema_destination = SCHEMA(destination, destination_fields, .name = "Destination");

static const struct field operation_fields[] = {
	FIELD(header_operations, set, "set", STRING_MAP, .key_check = text_check_not_empty,
	      .doc = "Headers to overwrite."),
	FIELD(header_operations, add, "add", STRING_MAP, .key_check = text_check_not_empty,
	      .doc = "Headers to append."),
	FIELD(header_operations, remove, "remove", STRING_LIST, .check = text_check_not_empty,
	      .doc = "Headers to take away."),
};
static const struct schema schema_operations =
	SCHEMA(header_operations, operation_fields, .name = "Headers.HeaderOperations");

static const struct field headers_fields[] = {
	FIELD(headers, request, "request", OBJECT, .of = &schema_operations, .doc = "Of the request."),
	FIELD(headers, response, "response", OBJECT, .of = &schema_operations, .doc = "Of the response."),
};
static const struct schema schema_headers = SCHEMA(headers, headers_fields, .name = "Headers");

static const struct field http_destination_fields[] = {
	FIELD(http_route_destination, destination, "destination", OBJECT, .of = &schema_destination,
	      .flags = FIELD_REQUIRED, .doc = "Where to."),
	FIELD(http_route_destination, weight, "weight", U32, .min = 0, .max = INT32_MAX,
	      .doc = "Its share of the sum."),
	FIELD(http_route_destination, headers, "headers", OBJECT, .of = &schema_headers, .doc = "Changes to headers."),
};
static const struct schema schema_http_destination =
	SCHEMA(http_route_destination, http_destination_fields, .name = "HTTPRouteDestination");

static const struct field route_destination_fields[] = {
	FIELD(route_destination, destination, "destination", OBJECT, .of = &schema_destination, .flags = FIELD_REQUIRED,
	      .doc = "Where to."),
	FIELD(route_destination, weight, "weight", U32, .min = 0, .max = INT32_MAX, .doc = "Its share of the sum."),
};
static const struct schema schema_route_destination =
	SCHEMA(route_destination, route_destination_fields, .name = "RouteDestination");

/* --- what a route does */

static const struct field redirect_fields[] = {
	FIELD(vs_redirect, uri, "uri", STRING, .group = 2, .doc = "New path."),
	FIELD(vs_redirect, prefix_rewrite, "prefixRewrite", STRING, .group = 2,
	      .doc = "Instead of the prefix that matched."),
	FIELD(vs_redirect, authority, "authority", STRING, .doc = "New host."),
	FIELD(vs_redirect, scheme, "scheme", STRING, .doc = "New scheme."),
	FIELD(vs_redirect, port, "port", U16, .group = 1, .min = 1, .max = 65535, .doc = "New port."),
	FIELD(vs_redirect, derive_port, "derivePort", STRING, .group = 1,
	      .doc = "FROM_PROTOCOL_DEFAULT or FROM_REQUEST_PORT."),
	FIELD(vs_redirect, redirect_code, "redirectCode", U32, .min = 301, .max = 308, .def = "301", .doc = "Status."),
};
static const struct schema schema_redirect = SCHEMA(vs_redirect, redirect_fields, .name = "HTTPRedirect");

static const struct field body_fields[] = {
	FIELD(http_body, string, "string", STRING, .group = 1, .doc = "Text."),
	FIELD(http_body, bytes, "bytes", STRING, .group = 1, .doc = "Base64."),
};
static const struct schema schema_body = SCHEMA(http_body, body_fields, .name = "HTTPBody");

static const struct field direct_response_fields[] = {
	FIELD(direct_response, status, "status", U32, .flags = FIELD_REQUIRED, .min = 200, .max = 599,
	      .doc = "Status."),
	FIELD(direct_response, body, "body", OBJECT, .of = &schema_body, .doc = "Body."),
};
static const struct schema schema_direct_response =
	SCHEMA(direct_response, direct_response_fields, .name = "HTTPDirectResponse");

static const struct field delegate_fields[] = {
	FIELD(delegate, name, "name", STRING, .flags = FIELD_REQUIRED, .check = text_check_name,
	      .doc = "A VirtualService."),
	FIELD(delegate, ns, "namespace", STRING, .check = text_check_dns_label,
	      .doc = "Its namespace; default: this one."),
};
static const struct schema schema_delegate = SCHEMA(delegate, delegate_fields, .name = "Delegate");

static const struct field regex_rewrite_fields[] = {
	FIELD(regex_rewrite, match, "match", STRING, .flags = FIELD_REQUIRED, .check = text_check_not_empty,
	      .doc = "Regular expression."),
	FIELD(regex_rewrite, rewrite, "rewrite", STRING, .flags = FIELD_REQUIRED, .doc = "Replacement."),
};

static void regex_rewrite_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	const struct regex_rewrite *r = object;
	decode_regex_check(d, path, "match", node, r->match, r->rewrite);
}

static const struct schema schema_regex_rewrite =
	SCHEMA(regex_rewrite, regex_rewrite_fields, .name = "RegexRewrite", .validate = regex_rewrite_validate);

static const struct field rewrite_fields[] = {
	FIELD(vs_rewrite, uri, "uri", STRING, .group = 1, .doc = "Instead of the path, or the prefix that matched."),
	FIELD(vs_rewrite, authority, "authority", STRING, .doc = "Instead of the host."),
	FIELD(vs_rewrite, uri_regex_rewrite, "uriRegexRewrite", OBJECT, .group = 1, .of = &schema_regex_rewrite,
	      .doc = "By regular expression."),
};
static const struct schema schema_rewrite = SCHEMA(vs_rewrite, rewrite_fields, .name = "HTTPRewrite");

static const struct field retry_fields[] = {
	FIELD(vs_retry, attempts, "attempts", U32, .min = 0, .max = 1000, .def = "2", .doc = "Retries; 0: none."),
	FIELD(vs_retry, per_try_timeout, "perTryTimeout", OPT_MS, .min = 1, .doc = "Of one attempt."),
	FIELD(vs_retry, backoff, "backoff", OPT_MS, .min = 1, .doc = "Shortest pause."),
	FIELD(vs_retry, retry_on, "retryOn", STRING, .doc = "Conditions, with commas."),
	FIELD(vs_retry, retry_remote_localities, "retryRemoteLocalities", OPT_BOOL, .doc = "Elsewhere too."),
	FIELD(vs_retry, retry_ignore_previous_hosts, "retryIgnorePreviousHosts", OPT_BOOL,
	      .doc = "Not the same endpoint again."),
};

static void retry_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	const struct vs_retry *r = object;
	if (!r->attempts && (r->per_try_timeout.set || r->retry_on) && node_get(node, "attempts"))
		decode_error(d, path, "attempts", node_get(node, "attempts"),
			     "is 0, but other settings of retries are there");
}

const struct schema schema_vs_retry = SCHEMA(vs_retry, retry_fields, .name = "HTTPRetry", .validate = retry_validate);

static const struct field percent_fields[] = {
	FIELD(percent, value, "value", OPT_DOUBLE, .min = 0, .max = 100, .doc = "0 to 100."),
};
static const struct schema schema_percent = SCHEMA(percent, percent_fields, .name = "Percent");

static const struct field delay_fields[] = {
	FIELD(fault_delay, fixed_delay, "fixedDelay", OPT_MS, .group = 1, .min = 1, .doc = "How long."),
	FIELD(fault_delay, exponential_delay, "exponentialDelay", OPT_MS, .group = 1, .min = 1, .doc = "Mean."),
	FIELD(fault_delay, percentage, "percentage", OBJECT, .of = &schema_percent, .doc = "Share of requests."),
	FIELD(fault_delay, percent, "percent", U32, .min = 0, .max = 100, .doc = "Old form of percentage."),
};
static const struct schema schema_delay = SCHEMA(fault_delay, delay_fields, .name = "HTTPFaultInjection.Delay");

static const struct field abort_fields[] = {
	FIELD(fault_abort, http_status, "httpStatus", U32, .group = 1, .min = 200, .max = 599, .doc = "Status."),
	FIELD(fault_abort, grpc_status, "grpcStatus", STRING, .group = 1, .check = text_check_not_empty,
	      .doc = "gRPC status."),
	FIELD(fault_abort, http2_error, "http2Error", STRING, .group = 1, .doc = "HTTP/2 error."),
	FIELD(fault_abort, percentage, "percentage", OBJECT, .of = &schema_percent, .doc = "Share of requests."),
};

static void abort_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	const struct fault_abort *a = object;
	if (!a->http_status && !a->grpc_status && !a->http2_error)
		decode_error(d, path, NULL, node, "needs httpStatus or grpcStatus");
}

static const struct schema schema_abort =
	SCHEMA(fault_abort, abort_fields, .name = "HTTPFaultInjection.Abort", .validate = abort_validate);

static const struct field fault_fields[] = {
	FIELD(vs_fault, delay, "delay", OBJECT, .of = &schema_delay, .doc = "Waits."),
	FIELD(vs_fault, abort, "abort", OBJECT, .of = &schema_abort, .doc = "Failures."),
};
static const struct schema schema_fault = SCHEMA(vs_fault, fault_fields, .name = "HTTPFaultInjection");

static const struct field mirror_fields[] = {
	FIELD(vs_mirror, destination, "destination", OBJECT, .of = &schema_destination, .flags = FIELD_REQUIRED,
	      .doc = "Where copies go."),
	FIELD(vs_mirror, percentage, "percentage", OBJECT, .of = &schema_percent, .doc = "Share of requests."),
};
static const struct schema schema_mirror = SCHEMA(vs_mirror, mirror_fields, .name = "HTTPMirrorPolicy");

static const struct field cors_fields[] = {
	FIELD(cors_policy, allow_origins, "allowOrigins", LIST, .of = &schema_string_match,
	      .doc = "Origins, any of which."),
	FIELD(cors_policy, allow_origin, "allowOrigin", STRING_LIST, .doc = "Old form of allowOrigins."),
	FIELD(cors_policy, allow_methods, "allowMethods", STRING_LIST, .check = text_check_not_empty,
	      .doc = "Methods."),
	FIELD(cors_policy, allow_headers, "allowHeaders", STRING_LIST, .check = text_check_not_empty,
	      .doc = "Headers of requests."),
	FIELD(cors_policy, expose_headers, "exposeHeaders", STRING_LIST, .check = text_check_not_empty,
	      .doc = "Headers of responses."),
	FIELD(cors_policy, max_age, "maxAge", OPT_MS, .doc = "How long a preflight's answer holds."),
	FIELD(cors_policy, allow_credentials, "allowCredentials", OPT_BOOL, .doc = "Cookies and the like."),
	FIELD(cors_policy, unmatched_preflights, "unmatchedPreflights", STRING, .doc = "FORWARD or IGNORE."),
};
static const struct schema schema_cors = SCHEMA(cors_policy, cors_fields, .name = "CorsPolicy");

/* --- routes */

static const struct field http_route_fields[] = {
	FIELD(vs_route, line_offset, NULL, LINE),
	FIELD(vs_route, name, "name", STRING, .doc = "For logs and metrics."),
	FIELD(vs_route, match, "match", LIST, .of = &schema_http_match, .doc = "Any of these; none: all requests."),
	FIELD(vs_route, route, "route", LIST, .of = &schema_http_destination, .group = 1,
	      .doc = "Where requests go, by weight."),
	FIELD(vs_route, redirect, "redirect", OBJECT, .of = &schema_redirect, .group = 1,
	      .doc = "Sends the client elsewhere."),
	FIELD(vs_route, direct_response, "directResponse", OBJECT, .of = &schema_direct_response, .group = 1,
	      .doc = "Answers itself."),
	FIELD(vs_route, delegate, "delegate", OBJECT, .of = &schema_delegate, .group = 1,
	      .doc = "Another VirtualService's routes."),
	FIELD(vs_route, rewrite, "rewrite", OBJECT, .of = &schema_rewrite, .doc = "Changes path and host."),
	FIELD(vs_route, timeout, "timeout", OPT_MS, .doc = "Of the whole request; 0s: none."),
	FIELD(vs_route, retries, "retries", OBJECT, .of = &schema_vs_retry, .doc = "Tries again."),
	FIELD(vs_route, fault, "fault", OBJECT, .of = &schema_fault, .doc = "Failures on purpose."),
	FIELD(vs_route, mirror, "mirror", OBJECT, .of = &schema_destination, .group = 2, .doc = "Where copies go."),
	FIELD(vs_route, mirror_percentage, "mirrorPercentage", OBJECT, .of = &schema_percent,
	      .doc = "Share of copies."),
	FIELD(vs_route, mirror_percent, "mirrorPercent", OPT_U32, .min = 0, .max = 100,
	      .doc = "Old form of mirrorPercentage."),
	FIELD(vs_route, mirrors, "mirrors", LIST, .of = &schema_mirror, .group = 2,
	      .doc = "Several places for copies."),
	FIELD(vs_route, cors_policy, "corsPolicy", OBJECT, .of = &schema_cors, .doc = "Cross-origin requests."),
	FIELD(vs_route, headers, "headers", OBJECT, .of = &schema_headers, .doc = "Changes to headers."),
};

static void http_route_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	const struct vs_route *r = object;
	uint64_t sum = 0;
	if (!r->route.n && !r->redirect && !r->direct_response && !r->delegate)
		decode_error(d, path, NULL, node, "needs one of route, redirect, directResponse, delegate");
	for (size_t i = 0; i < r->route.n; i++)
		sum += r->route.v[i].weight;
	if (r->route.n > 1 && !sum)
		decode_error(d, path, "route", node_get(node, "route"), "has %zu destinations without any weight",
			     r->route.n);
}

static const struct schema schema_vs_http_route =
	SCHEMA(vs_route, http_route_fields, .name = "HTTPRoute", .validate = http_route_validate);

static const struct field tcp_match_fields[] = {
	FIELD(vs_l4_match, destination_subnets, "destinationSubnets", STRING_LIST, .doc = "Addresses that were asked."),
	FIELD(vs_l4_match, port, "port", U16, .min = 1, .max = 65535, .doc = "Port that was asked."),
	FIELD(vs_l4_match, source_labels, "sourceLabels", STRING_MAP, .key_check = text_check_label_key,
	      .check = text_check_label_value, .doc = "Labels of the caller."),
	FIELD(vs_l4_match, gateways, "gateways", STRING_LIST, .check = text_check_not_empty,
	      .doc = "Gateways, or mesh."),
	FIELD(vs_l4_match, source_namespace, "sourceNamespace", STRING, .check = text_check_dns_label,
	      .doc = "Namespace of the caller."),
};
static const struct schema schema_tcp_match = SCHEMA(vs_l4_match, tcp_match_fields, .name = "L4MatchAttributes");

static const struct field tls_match_fields[] = {
	FIELD(vs_l4_match, sni_hosts, "sniHosts", STRING_LIST, .flags = FIELD_REQUIRED | FIELD_NOT_EMPTY,
	      .check = text_check_host, .doc = "Server names."),
	FIELD(vs_l4_match, destination_subnets, "destinationSubnets", STRING_LIST, .doc = "Addresses that were asked."),
	FIELD(vs_l4_match, port, "port", U16, .min = 1, .max = 65535, .doc = "Port that was asked."),
	FIELD(vs_l4_match, source_labels, "sourceLabels", STRING_MAP, .key_check = text_check_label_key,
	      .check = text_check_label_value, .doc = "Labels of the caller."),
	FIELD(vs_l4_match, gateways, "gateways", STRING_LIST, .check = text_check_not_empty,
	      .doc = "Gateways, or mesh."),
	FIELD(vs_l4_match, source_namespace, "sourceNamespace", STRING, .check = text_check_dns_label,
	      .doc = "Namespace of the caller."),
};
static const struct schema schema_tls_match = SCHEMA(vs_l4_match, tls_match_fields, .name = "TLSMatchAttributes");

static const struct field tcp_route_fields[] = {
	FIELD(vs_l4_route, match, "match", LIST, .of = &schema_tcp_match, .doc = "Any of these; none: all."),
	FIELD(vs_l4_route, route, "route", LIST, .of = &schema_route_destination,
	      .flags = FIELD_REQUIRED | FIELD_NOT_EMPTY, .doc = "Where connections go, by weight."),
};
static const struct schema schema_vs_tcp_route = SCHEMA(vs_l4_route, tcp_route_fields, .name = "TCPRoute");

static const struct field tls_route_fields[] = {
	FIELD(vs_l4_route, match, "match", LIST, .of = &schema_tls_match, .flags = FIELD_REQUIRED | FIELD_NOT_EMPTY,
	      .doc = "Any of these."),
	FIELD(vs_l4_route, route, "route", LIST, .of = &schema_route_destination,
	      .flags = FIELD_REQUIRED | FIELD_NOT_EMPTY, .doc = "Where connections go, by weight."),
};
static const struct schema schema_vs_tls_route = SCHEMA(vs_l4_route, tls_route_fields, .name = "TLSRoute");

static const struct field virtual_service_fields[] = {
	FIELD(virtual_service_spec, hosts, "hosts", STRING_LIST, .check = text_check_host,
	      .doc = "Hosts that it holds for; none: a delegate."),
	FIELD(virtual_service_spec, gateways, "gateways", STRING_LIST, .check = text_check_not_empty,
	      .doc = "[namespace/]name, or mesh."),
	FIELD(virtual_service_spec, http, "http", LIST, .of = &schema_vs_http_route,
	      .doc = "HTTP routes, the first that matches."),
	FIELD(virtual_service_spec, tls, "tls", LIST, .of = &schema_vs_tls_route, .doc = "Routes by server name."),
	FIELD(virtual_service_spec, tcp, "tcp", LIST, .of = &schema_vs_tcp_route,
	      .doc = "Routes of other connections."),
	FIELD(virtual_service_spec, export_to, "exportTo", STRING_LIST, .check = text_check_export_to,
	      .doc = "Namespaces that see it."),
};

static void virtual_service_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	const struct virtual_service_spec *vs = object;
	if (!vs->http.n && !vs->tls.n && !vs->tcp.n)
		decode_error(d, path, NULL, node, "needs http, tls or tcp routes");
	for (size_t i = 0; i < vs->hosts.n && vs->gateways.n == 0; i++)
		if (!strcmp(vs->hosts.v[i], "*"))
			decode_error(d, path, "hosts", node_get(node, "hosts"),
				     "\"*\" is for gateways; inside the mesh name services");
}

const struct schema schema_virtual_service =
	SCHEMA(virtual_service_spec, virtual_service_fields, .name = "VirtualService",
	       .validate = virtual_service_validate, .doc = "How requests for a host are routed.");
