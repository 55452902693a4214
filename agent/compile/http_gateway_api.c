/* SPDX-License-Identifier: Apache-2.0 */
/* HTTPRoute, GRPCRoute, TLSRoute and TCPRoute whose parent is a Service -> routes. Unlike a VirtualService's, their order
 * follows from how specific a match is, across all routes of the service: so every match becomes a route of its own. */
#include "agent/compile/http_gateway.h"

#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/compile/http_cluster.h"
#include "agent/compile/http_vs.h"

enum { ROUTES_OF_SERVICE_MAX = 256 };

/* --- matches */

static enum http_text_kind value_kind(enum route_match_type type)
{
	return type == ROUTE_MATCH_REGEX ? HTTP_TEXT_REGEX : HTTP_TEXT_EXACT;
}

static struct http_text *text_new(struct http_routing *to, enum http_text_kind kind, const char *text)
{
	struct http_text *t = http_alloc(to, 1, sizeof(*t));

	if (t)
		http_text_set(to, t, kind, text, false);
	return t;
}

/* Of several entries for one header the first counts (Gateway API). */
static struct http_field_match *fields_new(struct http_routing *to, const struct route_value_match *from, size_t n,
					   bool headers, size_t *count)
{
	struct http_field_match *v = http_alloc(to, n, sizeof(*v));

	for (size_t i = 0; v && i < n; i++) {
		bool again = false;
		for (size_t k = 0; k < i; k++)
			again |= headers ? strcasecmp(from[k].name, from[i].name) == 0 :
					   str_eq(from[k].name, from[i].name);
		if (again)
			continue;
		struct http_field_match *f = &v[(*count)++];
		f->name = headers ? http_lower(to, from[i].name) : http_dup(to, from[i].name);
		http_text_set(to, &f->value, value_kind(from[i].type), from[i].value, false);
	}
	return v;
}

static void http_match_set(struct http_routing *to, struct http_match *out, const struct http_route_match *m)
{
	if (m->path && m->path->type == ROUTE_MATCH_PREFIX)
		out->path = text_new(to, HTTP_TEXT_PATH_PREFIX, m->path->value);
	else if (m->path)
		out->path = text_new(to, value_kind(m->path->type), m->path->value);
	if (m->method)
		out->method = text_new(to, HTTP_TEXT_EXACT, m->method);
	out->headers = fields_new(to, m->headers.v, m->headers.n, true, &out->header_count);
	out->params = fields_new(to, m->params.v, m->params.n, false, &out->param_count);
}

static void grpc_match_set(struct http_routing *to, struct http_match *out, const struct grpc_route_match *m)
{
	const struct grpc_method_match *method = m->method;

	if (method) {
		bool regex = method->type == ROUTE_MATCH_REGEX || !method->service;
		char *path = regex ? str_format("/(?:%s)/(?:%s)", method->service ? method->service : "[^/]+",
						method->method ? method->method : "[^/]+") :
				     str_format("/%s/%s", method->service, method->method ? method->method : "");
		to->no_memory |= !path;
		if (path)
			out->path = text_new(to,
					     regex	    ? HTTP_TEXT_REGEX :
					     method->method ? HTTP_TEXT_EXACT :
							      HTTP_TEXT_PREFIX,
					     path);
		free(path);
	}
	out->headers = fields_new(to, m->headers.v, m->headers.n, true, &out->header_count);
}

/* --- order */

struct candidate {
	const struct resource *r;
	size_t rule, match; /* match SIZE_MAX: the rule has none */
	int path_rank;	    /* RANK_... */
	size_t path_len, headers, params;
	bool method;
};

/* The prefix "/" matches everything, so it comes behind expressions, of which the Gateway API leaves that open. */
enum { RANK_ROOT, RANK_REGEX, RANK_PREFIX, RANK_EXACT };

/* A path that is not said is the prefix "/" (which the API server writes out), also that of a rule without matches. */
static void http_candidate_rank(struct candidate *c, const struct http_route_match *m)
{
	const struct route_path_match *path = m ? m->path : NULL;

	c->path_rank = !path || (path->type == ROUTE_MATCH_PREFIX && str_eq(path->value, "/")) ? RANK_ROOT :
		       path->type == ROUTE_MATCH_EXACT					       ? RANK_EXACT :
		       path->type == ROUTE_MATCH_PREFIX					       ? RANK_PREFIX :
												 RANK_REGEX;
	c->path_len = path ? strlen(path->value) : 1;
	c->method = m && m->method;
	c->headers = m ? m->headers.n : 0;
	c->params = m ? m->params.n : 0;
}

static void grpc_candidate_rank(struct candidate *c, const struct grpc_route_match *m)
{
	const struct grpc_method_match *method = m ? m->method : NULL;

	if (method) {
		bool regex = method->type == ROUTE_MATCH_REGEX || !method->service;
		c->path_rank = regex ? RANK_REGEX : method->method ? RANK_EXACT : RANK_PREFIX;
		c->path_len =
			(method->service ? strlen(method->service) : 0) + (method->method ? strlen(method->method) : 0);
	}
	c->headers = m ? m->headers.n : 0;
}

static void candidate_rank(struct candidate *c)
{
	if (c->r->kind == KIND_K8S_HTTP_ROUTE) {
		const struct http_route_rule *rule = &c->r->spec.http_route->rules.v[c->rule];
		http_candidate_rank(c, c->match == SIZE_MAX ? NULL : &rule->matches.v[c->match]);
	} else {
		const struct grpc_route_rule *rule = &c->r->spec.grpc_route->rules.v[c->rule];
		grpc_candidate_rank(c, c->match == SIZE_MAX ? NULL : &rule->matches.v[c->match]);
	}
}

#define ORDER(a, b)                                                                                                    \
	do {                                                                                                           \
		if ((a) != (b))                                                                                        \
			return (a) > (b) ? -1 : 1;                                                                     \
	} while (0)

/* Files have no age: of two routes that are as specific the first by name counts. */
static int on_candidate_cmp(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	ORDER(x->path_rank, y->path_rank);
	ORDER(x->path_len, y->path_len);
	ORDER(x->method, y->method);
	ORDER(x->headers, y->headers);
	ORDER(x->params, y->params);
	int c = strcmp(x->r->key, y->r->key);
	if (c)
		return c;
	ORDER(y->rule, x->rule);
	ORDER(y->match, x->match);
	return 0;
}

struct candidates {
	struct candidate *v;
	size_t n, cap;
};

static void candidates_add(struct http_routing *to, struct candidates *list, const struct resource *r, size_t rule,
			   size_t matches)
{
	for (size_t i = 0; i < (matches ? matches : 1); i++) {
		if (mem_reserve(&list->v, &list->cap, list->n + 1, sizeof(*list->v)) < 0) {
			to->no_memory = true;
			return;
		}
		struct candidate *c = &list->v[list->n++];
		*c = (struct candidate){ .r = r, .rule = rule, .match = matches ? i : SIZE_MAX };
		candidate_rank(c);
	}
}

/* --- routes */

static struct http_route *candidate_route(struct http_routing *to, const struct candidate *c, const char *name,
					  uint32_t line)
{
	char *text = str_format("%s.%s.%zu", c->r->ns, c->r->name, c->rule);
	struct http_route *route = text ? http_route_add(to, c->r, line, name ? name : text) : NULL;

	to->no_memory |= !text;
	free(text);
	if (!route || c->match == SIZE_MAX)
		return route;
	route->matches = http_alloc(to, 1, sizeof(*route->matches));
	route->match_count = route->matches ? 1 : 0;
	return route;
}

static void unsupported_set(struct http_route *route)
{
	for (size_t i = 0; i < route->destination_count; i++)
		http_destination_done(&route->destinations[i]);
	route->destination_count = 0;
	route->total_weight = 0;
	route->invalid_backend = true;
	route->invalid_weight = 1;
}

static void http_candidate_add(struct http_routing *to, const struct candidate *c)
{
	const struct http_route_rule *rule = &c->r->spec.http_route->rules.v[c->rule];
	struct http_route *route = candidate_route(to, c, rule->name, rule->line_offset);
	if (!route || to->no_memory)
		return;

	if (route->matches)
		http_match_set(to, route->matches, &rule->matches.v[c->match]);
	bool known = gateway_filters_set(to, route, rule->filters.v, rule->filters.n, c->r);
	gateway_backends_set(to, route, rule->backends.v, rule->backends.n, c->r, rule->session != NULL);
	if (!known)
		unsupported_set(route);
	if (rule->timeouts) {
		route->timeout_ms = http_ms(&rule->timeouts->request);
		route->retry.per_try_timeout_ms = http_ms(&rule->timeouts->backend_request);
	}
	gateway_retry_set(to, &route->retry, rule->retry);
	gateway_session_set(to, route, rule->session);
	http_route_finish(to, c->r);
}

static void grpc_candidate_add(struct http_routing *to, const struct candidate *c)
{
	const struct grpc_route_rule *rule = &c->r->spec.grpc_route->rules.v[c->rule];
	struct http_route *route = candidate_route(to, c, rule->name, rule->line_offset);
	if (!route || to->no_memory)
		return;

	if (route->matches)
		grpc_match_set(to, route->matches, &rule->matches.v[c->match]);
	bool known = gateway_filters_set(to, route, rule->filters.v, rule->filters.n, c->r);
	gateway_backends_set(to, route, rule->backends.v, rule->backends.n, c->r, rule->session != NULL);
	if (!known)
		unsupported_set(route);
	gateway_session_set(to, route, rule->session);
	http_route_finish(to, c->r);
}

bool http_gateway_api_routes(struct http_routing *to)
{
	const struct resource *routes[ROUTES_OF_SERVICE_MAX];
	struct candidates list = { 0 };
	if (!to->service)
		return false;

	size_t n = http_routes_of(to->scope, to->service, to->port, KIND_K8S_HTTP_ROUTE, routes, ROUTES_OF_SERVICE_MAX);
	size_t all = n;
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < routes[i]->spec.http_route->rules.n; k++)
			candidates_add(to, &list, routes[i], k, routes[i]->spec.http_route->rules.v[k].matches.n);
	n = http_routes_of(to->scope, to->service, to->port, KIND_K8S_GRPC_ROUTE, routes, ROUTES_OF_SERVICE_MAX);
	all += n;
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < routes[i]->spec.grpc_route->rules.n; k++)
			candidates_add(to, &list, routes[i], k, routes[i]->spec.grpc_route->rules.v[k].matches.n);

	if (list.n)
		qsort(list.v, list.n, sizeof(*list.v), on_candidate_cmp);
	for (size_t i = 0; i < list.n && !to->no_memory; i++) {
		if (list.v[i].r->kind == KIND_K8S_HTTP_ROUTE)
			http_candidate_add(to, &list.v[i]);
		else
			grpc_candidate_add(to, &list.v[i]);
	}
	free(list.v);
	return all > 0;
}

/* --- TLSRoute, TCPRoute */

static void l4_rule_add(struct http_routing *to, const struct resource *r, const struct l4_route_rule *rule,
			const struct string_list *hostnames)
{
	struct l4_route *out = http_l4_add(to, r, rule->line_offset);
	if (!out)
		return;

	out->sni_hosts = http_alloc(to, hostnames ? hostnames->n : 0, sizeof(*out->sni_hosts));
	for (size_t i = 0; out->sni_hosts && hostnames && i < hostnames->n; i++)
		out->sni_hosts[out->sni_host_count++] = http_lower(to, hostnames->v[i]);
	out->clusters = http_alloc(to, rule->backends.n, sizeof(*out->clusters));
	for (size_t i = 0; out->clusters && i < rule->backends.n; i++) {
		const struct route_backend_ref *b = &rule->backends.v[i];
		if (!b->weight)
			continue;
		char *cluster = gateway_backend_cluster(to, r, &b->backend, GATEWAY_CONNECTIONS);
		if (!cluster && !(cluster = http_dup(to, HTTP_BLACK_HOLE)))
			continue;
		out->clusters[out->cluster_count++] =
			(struct http_destination){ .cluster = cluster, .weight = b->weight };
		out->total_weight += b->weight;
	}
}

bool http_gateway_api_l4(struct http_routing *to)
{
	const struct resource *routes[ROUTES_OF_SERVICE_MAX];
	if (!to->service)
		return false;

	size_t tls =
		http_routes_of(to->scope, to->service, to->port, KIND_K8S_TLS_ROUTE, routes, ROUTES_OF_SERVICE_MAX);
	for (size_t i = 0; i < tls; i++)
		for (size_t k = 0; k < routes[i]->spec.tls_route->rules.n && !to->no_memory; k++)
			l4_rule_add(to, routes[i], &routes[i]->spec.tls_route->rules.v[k],
				    &routes[i]->spec.tls_route->hostnames);
	size_t tcp =
		http_routes_of(to->scope, to->service, to->port, KIND_K8S_TCP_ROUTE, routes, ROUTES_OF_SERVICE_MAX);
	for (size_t i = 0; i < tcp; i++)
		for (size_t k = 0; k < routes[i]->spec.tcp_route->rules.n && !to->no_memory; k++)
			l4_rule_add(to, routes[i], &routes[i]->spec.tcp_route->rules.v[k], NULL);
	return tls || tcp;
}
