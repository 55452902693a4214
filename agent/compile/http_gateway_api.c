/* SPDX-License-Identifier: Apache-2.0 */
/* HTTPRoute, GRPCRoute, TLSRoute and TCPRoute whose parent is a Service -> routes. Unlike a VirtualService's, their order
 * follows from how specific a match is, across all routes of the service: so every match becomes a route of its own. */
#include <ctype.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/table.h"
#include "agent/compile/http_vs.h"
#include "agent/compile/inventory.h"
#include "agent/config/kinds_gateway_api.h"
#include "agent/config/node.h"
#include "agent/model/cluster.h"

enum { ROUTES_OF_SERVICE_MAX = 256 };

/* --- backends */

static bool granted(const struct compiler *c, const struct resource *r, const struct route_backend *b)
{
	struct resource_range range = inventory_range(c, KIND_K8S_REFERENCE_GRANT, b->ns);

	for (size_t i = 0; i < range.n; i++) {
		const struct reference_grant_spec *spec = range.v[i]->spec.reference_grant;
		bool from = false, to = false;
		for (size_t k = 0; k < spec->from.n; k++)
			from |= str_eq(spec->from.v[k].group, "gateway.networking.k8s.io") && str_eq(spec->from.v[k].ns, r->ns) &&
				str_eq(spec->from.v[k].kind, resource_kind_name(r->kind));
		for (size_t k = 0; k < spec->to.n; k++)
			to |= (!spec->to.v[k].group || !*spec->to.v[k].group) && str_eq(spec->to.v[k].kind, "Service") &&
			      (!spec->to.v[k].name || str_eq(spec->to.v[k].name, b->name));
		if (from && to)
			return true;
	}
	return false;
}

static bool is_core(const char *group)
{
	return !group || !*group;
}

/* The name of the cluster; NULL: not a valid backend, which was noted (or no memory). */
static char *backend_cluster(struct http_routing *to, const struct resource *r, const struct route_backend *b)
{
	char host[256], key[640];
	const char *ns = b->ns ? b->ns : r->ns;
	bool hostname = str_eq(b->group, "networking.istio.io") && str_eq(b->kind, "Hostname");

	if (hostname)
		return b->port ? http_destination_name(to, r, b->name, NULL, b->port) : NULL;
	if (!is_core(b->group) || !str_eq(b->kind, "Service")) {
		NOTE(to->notes, FINDING_ERROR, r, "backend %s: kind %s is not supported: requests get 500", b->name, b->kind);
		return NULL;
	}
	if (!str_eq(ns, r->ns) && !granted(to->c, r, &(struct route_backend){ .ns = ns, .name = b->name })) {
		NOTE(to->notes, FINDING_ERROR, r, "backend %s/%s: no ReferenceGrant of namespace %s allows it: requests get 500", ns,
		     b->name, ns);
		return NULL;
	}
	if (!b->port || !host_write_out(to->c, ns, b->name, host)) {
		NOTE(to->notes, FINDING_ERROR, r, "backend %s/%s: needs a port: requests get 500", ns, b->name);
		return NULL;
	}
	snprintf(key, sizeof(key), "%s/%s", ns, host);
	const struct service_node *node = table_get_str(to->c->services, key);
	if (!node || !node->object || !service_port_find(node->object, b->port, IPPROTO_TCP)) {
		NOTE(to->notes, FINDING_ERROR, r, "backend %s/%s: there is no such service with a port %u: requests get 500", ns,
		     b->name, b->port);
		return NULL;
	}
	char *name = http_cluster_name(b->port, NULL, host);
	to->no_memory |= !name;
	return name;
}

/* --- filters */

static char *lower(struct http_routing *to, const char *text)
{
	char *copy = http_dup(to, text);

	for (char *p = copy; p && *p; p++)
		*p = (char)tolower((unsigned char)*p);
	return copy;
}

static void values_append(struct http_routing *to, struct http_header_value **v, size_t *count, const struct route_header *from,
			  size_t n)
{
	if (!n)
		return;
	struct http_header_value *grown = reallocarray(*v, *count + n, sizeof(*grown));
	if (!grown) {
		to->no_memory = true;
		return;
	}
	*v = grown;
	for (size_t i = 0; i < n; i++)
		grown[(*count)++] = (struct http_header_value){ http_dup(to, from[i].name), http_dup(to, from[i].value) };
}

static void headers_append(struct http_routing *to, struct http_header_ops *out, const struct route_header_filter *from)
{
	values_append(to, &out->set, &out->set_count, from->set.v, from->set.n);
	values_append(to, &out->add, &out->add_count, from->add.v, from->add.n);
	if (!from->remove.n)
		return;
	char **grown = reallocarray(out->remove, out->remove_count + from->remove.n, sizeof(*grown));
	if (!grown) {
		to->no_memory = true;
		return;
	}
	out->remove = grown;
	for (size_t i = 0; i < from->remove.n; i++)
		grown[out->remove_count++] = lower(to, from->remove.v[i]);
}

static void redirect_set(struct http_routing *to, struct http_route *route, const struct route_redirect *from)
{
	struct http_redirect *out = route->redirect = http_alloc(to, 1, sizeof(*out));
	if (!out)
		return;

	out->scheme = http_dup(to, from->scheme);
	out->authority = http_dup(to, from->hostname);
	if (from->path && from->path->type == ROUTE_PATH_FULL)
		out->path_full = http_dup(to, from->path->full);
	else if (from->path)
		out->path_prefix = http_dup(to, from->path->prefix);
	out->port = from->port;
	out->default_port = !from->port && from->scheme;
	out->keep_port = !from->port && !from->scheme;
	out->status = from->status;
}

static void rewrite_set(struct http_routing *to, struct http_route *route, const struct route_rewrite *from)
{
	struct http_rewrite *out = route->rewrite = http_alloc(to, 1, sizeof(*out));
	if (!out)
		return;

	out->authority = http_dup(to, from->hostname);
	if (from->path && from->path->type == ROUTE_PATH_FULL)
		out->path_full = http_dup(to, from->path->full);
	else if (from->path)
		out->path_prefix = http_dup(to, from->path->prefix);
}

static void mirror_append(struct http_routing *to, struct http_route *route, const struct route_mirror *from,
			  const struct resource *r)
{
	uint32_t ppm = 1000000;
	char *cluster = backend_cluster(to, r, from->backend);

	if (from->percent.set)
		ppm = http_ppm(from->percent.v);
	else if (from->fraction)
		ppm = http_ppm(100.0 * from->fraction->numerator / from->fraction->denominator);
	struct http_mirror *grown = cluster && ppm ? reallocarray(route->mirrors, route->mirror_count + 1, sizeof(*grown)) : NULL;
	if (!grown) {
		to->no_memory |= cluster && ppm;
		free(cluster);
		return;
	}
	route->mirrors = grown;
	grown[route->mirror_count++] = (struct http_mirror){ cluster, { ppm } };
}

/* An origin may have stars in its host. */
static void origin_set(struct http_routing *to, struct http_text *out, const char *text)
{
	struct sb sb = { 0 };

	if (strcmp(text, "*") == 0 || !strchr(text, '*')) {
		http_text_set(to, out, *text == '*' ? HTTP_TEXT_PRESENT : HTTP_TEXT_EXACT, text, false);
		return;
	}
	for (const char *p = text; *p; p++) {
		if (*p == '*')
			sb_add(&sb, ".*");
		else
			sb_addf(&sb, isalnum((unsigned char)*p) || *p == '/' || *p == ':' ? "%c" : "\\%c", *p);
	}
	char *regex = sb_take(&sb);
	to->no_memory |= !regex;
	http_text_set(to, out, HTTP_TEXT_REGEX, regex, false);
	free(regex);
}

static void cors_set(struct http_routing *to, struct http_route *route, const struct route_cors *from)
{
	enum { MAX_AGE_S = 5 };
	struct http_cors *out = route->cors = http_alloc(to, 1, sizeof(*out));
	if (!out)
		return;

	out->origins = http_alloc(to, from->origins.n, sizeof(*out->origins));
	for (size_t i = 0; out->origins && i < from->origins.n; i++)
		origin_set(to, &out->origins[out->origin_count++], from->origins.v[i]);
	out->methods = http_join(to, &from->methods);
	out->headers = http_join(to, &from->headers);
	out->expose = http_join(to, &from->expose);
	out->has_max_age = true;
	out->max_age_s = from->max_age_s.set ? from->max_age_s.v : MAX_AGE_S;
	out->credentials = from->credentials.set && from->credentials.v;
	out->forward_unmatched_preflights = true;
}

/* false: a filter that can't be honoured: the route must answer 500. */
static bool filters_set(struct http_routing *to, struct http_route *route, const struct route_filter *v, size_t n,
			const struct resource *r)
{
	for (size_t i = 0; i < n; i++) {
		const struct route_filter *f = &v[i];
		switch (f->type) {
		case ROUTE_FILTER_REQUEST_HEADERS:
			headers_append(to, &route->request, f->request);
			break;
		case ROUTE_FILTER_RESPONSE_HEADERS:
			headers_append(to, &route->response, f->response);
			break;
		case ROUTE_FILTER_MIRROR:
			mirror_append(to, route, f->mirror, r);
			break;
		case ROUTE_FILTER_REDIRECT:
			if (!route->redirect)
				redirect_set(to, route, f->redirect);
			break;
		case ROUTE_FILTER_REWRITE:
			if (!route->rewrite)
				rewrite_set(to, route, f->rewrite);
			break;
		case ROUTE_FILTER_CORS:
			if (!route->cors)
				cors_set(to, route, f->cors);
			break;
		case ROUTE_FILTER_EXTENSION:
			return false;
		}
	}
	return true;
}

static bool backend_filters_set(struct http_routing *to, struct http_destination *d, const struct route_backend_ref *from,
				const struct resource *r)
{
	for (size_t i = 0; i < from->filters.n; i++) {
		const struct route_filter *f = &from->filters.v[i];
		if (f->type == ROUTE_FILTER_REQUEST_HEADERS) {
			headers_append(to, &d->request, f->request);
		} else if (f->type == ROUTE_FILTER_RESPONSE_HEADERS) {
			headers_append(to, &d->response, f->response);
		} else if (f->type == ROUTE_FILTER_REWRITE && f->rewrite->hostname && !f->rewrite->path) {
			free(d->host_rewrite);
			d->host_rewrite = http_dup(to, f->rewrite->hostname);
		} else {
			NOTE(to->notes, FINDING_ERROR, r,
			     "backend %s: of a backend's filters only those on headers and on the host are supported: requests to "
			     "it get 500",
			     from->backend.name);
			return false;
		}
	}
	return true;
}

static void backends_set(struct http_routing *to, struct http_route *route, const struct route_backend_ref *v, size_t n,
			 const struct resource *r)
{
	route->destinations = http_alloc(to, n, sizeof(*route->destinations));
	for (size_t i = 0; route->destinations && i < n; i++) {
		struct http_destination *d = &route->destinations[route->destination_count];
		if (!v[i].weight)
			continue;
		d->cluster = backend_cluster(to, r, &v[i].backend);
		d->weight = v[i].weight;
		if (!d->cluster || !backend_filters_set(to, d, &v[i], r)) {
			http_destination_done(d);
			route->invalid_backend = true;
			route->invalid_weight += v[i].weight;
			continue;
		}
		route->destination_count++;
		route->total_weight += d->weight;
	}
	/* Nothing to go to, or weights of zero only: 500. */
	if (!route->destination_count && !route->invalid_weight && !route->redirect) {
		route->invalid_backend = true;
		route->invalid_weight = 1;
	}
}

static void session_set(struct http_routing *to, struct http_route *route, const struct route_session *from)
{
	if (!from)
		return;
	route->affinity_cookie = http_dup(to, from->name ? from->name : "weft-session");
	if (from->cookie && from->cookie->lifetime == ROUTE_LIFETIME_PERMANENT)
		route->affinity_cookie_ttl_s = http_ms(&from->absolute_timeout) / 1000;
}

static void retry_set(struct http_routing *to, struct http_retry *out, const struct route_retry *from)
{
	if (!from)
		return;
	if (from->attempts.set)
		out->attempts = from->attempts.v;
	if (from->backoff.set) {
		out->backoff_ms = http_ms(&from->backoff);
		out->backoff_max_ms = out->backoff_ms > UINT32_MAX / 10 ? UINT32_MAX : out->backoff_ms * 10;
	}
	out->statuses = http_alloc(to, from->codes ? from->codes->count : 0, sizeof(*out->statuses));
	for (const struct node *code = from->codes ? from->codes->first : NULL; out->statuses && code; code = code->next)
		out->statuses[out->status_count++] = (uint16_t)code->i;
}

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
static struct http_field_match *fields_new(struct http_routing *to, const struct route_value_match *from, size_t n, bool headers,
					   size_t *count)
{
	struct http_field_match *v = http_alloc(to, n, sizeof(*v));

	for (size_t i = 0; v && i < n; i++) {
		bool again = false;
		for (size_t k = 0; k < i; k++)
			again |= headers ? strcasecmp(from[k].name, from[i].name) == 0 : str_eq(from[k].name, from[i].name);
		if (again)
			continue;
		struct http_field_match *f = &v[(*count)++];
		f->name = headers ? lower(to, from[i].name) : http_dup(to, from[i].name);
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
		char *path = regex ? str_format("/%s/%s", method->service ? method->service : "[^/]+",
						method->method ? method->method : "[^/]+") :
				     str_format("/%s/%s", method->service, method->method ? method->method : "");
		to->no_memory |= !path;
		if (path)
			out->path = text_new(to, regex ? HTTP_TEXT_REGEX : method->method ? HTTP_TEXT_EXACT : HTTP_TEXT_PREFIX, path);
		free(path);
	}
	out->headers = fields_new(to, m->headers.v, m->headers.n, true, &out->header_count);
}

/* --- order */

struct candidate {
	const struct resource *r;
	size_t rule, match; /* match SIZE_MAX: the rule has none */
	int path_rank;	    /* exact before prefix before regex before none */
	size_t path_len, headers, params;
	bool method;
};

static void candidate_rank(struct candidate *c)
{
	if (c->match == SIZE_MAX)
		return;
	if (c->r->kind == KIND_K8S_HTTP_ROUTE) {
		const struct http_route_match *m = &c->r->spec.http_route->rules.v[c->rule].matches.v[c->match];
		if (m->path) {
			static const int ranks[] = { [ROUTE_MATCH_EXACT] = 3, [ROUTE_MATCH_PREFIX] = 2, [ROUTE_MATCH_REGEX] = 1 };
			c->path_rank = ranks[m->path->type];
			c->path_len = strlen(m->path->value);
		}
		c->method = m->method != NULL;
		c->headers = m->headers.n;
		c->params = m->params.n;
		return;
	}
	const struct grpc_route_match *m = &c->r->spec.grpc_route->rules.v[c->rule].matches.v[c->match];
	if (m->method) {
		bool regex = m->method->type == ROUTE_MATCH_REGEX || !m->method->service;
		c->path_rank = regex ? 1 : m->method->method ? 3 : 2;
		c->path_len = (m->method->service ? strlen(m->method->service) : 0) + (m->method->method ? strlen(m->method->method) : 0);
	}
	c->headers = m->headers.n;
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

static void candidates_add(struct http_routing *to, struct candidates *list, const struct resource *r, size_t rule, size_t matches)
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

static struct http_route *candidate_route(struct http_routing *to, const struct candidate *c, const char *name, uint32_t line)
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
	bool known = filters_set(to, route, rule->filters.v, rule->filters.n, c->r);
	backends_set(to, route, rule->backends.v, rule->backends.n, c->r);
	if (!known)
		unsupported_set(route);
	if (rule->timeouts) {
		route->timeout_ms = http_ms(&rule->timeouts->request);
		route->retry.per_try_timeout_ms = http_ms(&rule->timeouts->backend_request);
	}
	retry_set(to, &route->retry, rule->retry);
	session_set(to, route, rule->session);
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
	bool known = filters_set(to, route, rule->filters.v, rule->filters.n, c->r);
	backends_set(to, route, rule->backends.v, rule->backends.n, c->r);
	if (!known)
		unsupported_set(route);
	session_set(to, route, rule->session);
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
	for (size_t i = 0; out->sni_hosts && i < hostnames->n; i++)
		out->sni_hosts[out->sni_host_count++] = lower(to, hostnames->v[i]);
	out->clusters = http_alloc(to, rule->backends.n, sizeof(*out->clusters));
	for (size_t i = 0; out->clusters && i < rule->backends.n; i++) {
		const struct route_backend_ref *b = &rule->backends.v[i];
		char *cluster = b->weight ? backend_cluster(to, r, &b->backend) : NULL;
		if (!cluster)
			continue;
		out->clusters[out->cluster_count++] = (struct http_destination){ .cluster = cluster, .weight = b->weight };
		out->total_weight += b->weight;
	}
}

bool http_gateway_api_l4(struct http_routing *to)
{
	const struct resource *routes[ROUTES_OF_SERVICE_MAX];
	if (!to->service)
		return false;

	size_t tls = http_routes_of(to->scope, to->service, to->port, KIND_K8S_TLS_ROUTE, routes, ROUTES_OF_SERVICE_MAX);
	for (size_t i = 0; i < tls; i++)
		for (size_t k = 0; k < routes[i]->spec.tls_route->rules.n && !to->no_memory; k++)
			l4_rule_add(to, routes[i], &routes[i]->spec.tls_route->rules.v[k], &routes[i]->spec.tls_route->hostnames);
	size_t tcp = http_routes_of(to->scope, to->service, to->port, KIND_K8S_TCP_ROUTE, routes, ROUTES_OF_SERVICE_MAX);
	for (size_t i = 0; i < tcp; i++)
		for (size_t k = 0; k < routes[i]->spec.tcp_route->rules.n && !to->no_memory; k++)
			l4_rule_add(to, routes[i], &routes[i]->spec.tcp_route->rules.v[k], NULL);
	return tls || tcp;
}
