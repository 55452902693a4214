/* SPDX-License-Identifier: Apache-2.0 */
/* VirtualService -> routes, as Istio makes them for a sidecar: what is said of other gateways and other ports is left out,
 * the rest keeps its order. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/compile/http_vs.h"
#include "agent/config/kinds_http.h"

/* --- matches */

void http_vs_string(struct http_routing *to, struct http_text *out, const struct string_match *m, bool ignore_case)
{
	static const enum http_text_kind kinds[] = {
		[STRING_MATCH_PRESENT] = HTTP_TEXT_PRESENT,
		[STRING_MATCH_EXACT] = HTTP_TEXT_EXACT,
		[STRING_MATCH_PREFIX] = HTTP_TEXT_PREFIX,
		[STRING_MATCH_REGEX] = HTTP_TEXT_REGEX,
	};

	http_text_set(to, out, kinds[m->kind], m->text, ignore_case && m->kind != STRING_MATCH_REGEX);
}

static struct http_text *string_new(struct http_routing *to, const struct string_match *m, bool ignore_case)
{
	struct http_text *t = m ? http_alloc(to, 1, sizeof(*t)) : NULL;

	if (t)
		http_vs_string(to, t, m, ignore_case);
	return t;
}

/* Istio ignores these as header names, as the match has fields for them. */
static bool is_special(const char *name)
{
	static const char *const names[] = { "uri", "scheme", "method", "authority" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return name[0] == '@'; /* "@request.auth.claims": for gateways */
}

static void headers_add(struct http_routing *to, struct http_match *out, const struct named_match *v, size_t n,
			bool invert, const struct resource *r)
{
	for (size_t i = 0; i < n; i++) {
		if (is_special(v[i].key)) {
			NOTE(to->notes, FINDING_WARNING, r, "a match on the header \"%s\" is ignored%s", v[i].key,
			     v[i].key[0] == '@' ? ": claims are for gateways, so nobody has any" :
						  ": the match has a field of that name");
			continue;
		}
		struct http_field_match *f = &out->headers[out->header_count++];
		f->name = http_lower(to, v[i].key);
		f->invert = invert;
		http_vs_string(to, &f->value, &v[i].match, false);
	}
}

static void labels_set(struct http_routing *to, struct http_match *out, const struct string_map *labels)
{
	out->source_labels = http_alloc(to, labels->n, sizeof(*out->source_labels));
	for (size_t i = 0; out->source_labels && i < labels->n; i++, out->source_label_count++)
		out->source_labels[i] =
			(struct label){ http_dup(to, labels->v[i].key), http_dup(to, labels->v[i].value) };
}

static void match_set(struct http_routing *to, struct http_match *out, const struct vs_match *m,
		      const struct resource *r)
{
	out->name = http_dup(to, m->name);
	out->path = string_new(to, m->uri, m->ignore_uri_case);
	out->scheme = string_new(to, m->scheme, false);
	out->method = string_new(to, m->method, false);
	out->authority = string_new(to, m->authority, false);
	out->port =
		to->port ? 0 : m->port; /* match_counts has compared it: pods may listen elsewhere than their service */
	out->source_namespace = http_dup(to, m->source_namespace);
	labels_set(to, out, &m->source_labels);
	out->headers = http_alloc(to, m->headers.n + m->without_headers.n, sizeof(*out->headers));
	if (out->headers) {
		headers_add(to, out, m->headers.v, m->headers.n, false, r);
		headers_add(to, out, m->without_headers.v, m->without_headers.n, true, r);
	}
	out->params = http_alloc(to, m->query_params.n, sizeof(*out->params));
	for (size_t i = 0; out->params && i < m->query_params.n; i++) {
		struct http_field_match *f = &out->params[out->param_count++];
		f->name = http_dup(to, m->query_params.v[i].key);
		http_vs_string(to, &f->value, &m->query_params.v[i].match, false);
	}
}

/* Tokens are verified on the callee's side, behind the route: on the caller's no claim is known, so none can be matched. */
static const char *claim_asked(const struct vs_match *m)
{
	for (size_t i = 0; i < m->headers.n; i++)
		if (m->headers.v[i].key[0] == '@')
			return m->headers.v[i].key;
	return NULL;
}

/* A match of this mesh, this port, this namespace. Labels are compared for each request: they differ between pods. */
static bool match_counts(const struct http_routing *to, const struct vs_match *m)
{
	if (m->gateways.n && !string_list_has(&m->gateways, "mesh"))
		return false;
	if (m->port && to->port && m->port != to->port)
		return false;
	return !m->source_namespace || !to->scope->ns || str_eq(m->source_namespace, to->scope->ns);
}

/* false: the route has matches, and none is for here. */
static bool matches_set(struct http_routing *to, struct http_route *route, const struct vs_route *from,
			const struct resource *r)
{
	if (!from->match.n)
		return true;
	route->matches = http_alloc(to, from->match.n, sizeof(*route->matches));
	for (size_t i = 0; route->matches && i < from->match.n; i++) {
		const struct vs_match *m = &from->match.v[i];
		if (!match_counts(to, m))
			continue;
		if (claim_asked(m))
			NOTE(to->notes, FINDING_WARNING, r, "a match on \"%s\" never holds: claims are for gateways",
			     claim_asked(m));
		else
			match_set(to, &route->matches[route->match_count++], m, r);
	}
	return route->match_count > 0;
}

/* --- routes */

static void route_drop(struct http_routing *to)
{
	http_route_done(&to->v[--to->n]);
}

void http_vs_route(struct http_routing *to, const struct vs_route *from, const struct resource *r)
{
	struct http_route *route = http_route_add(to, r, from->line_offset, from->name);

	if (!route)
		return;
	if (!matches_set(to, route, from, r)) {
		route_drop(to);
		return;
	}
	http_vs_actions(to, route, from, r);
	http_route_finish(to, r);
}

void http_virtual_service_routes(struct http_routing *to, const struct resource *r)
{
	const struct virtual_service_spec *spec = r->spec.virtual_service;

	for (size_t i = 0; i < spec->http.n && !to->no_memory; i++) {
		if (spec->http.v[i].delegate)
			http_vs_delegate(to, &spec->http.v[i], r);
		else
			http_vs_route(to, &spec->http.v[i], r);
	}
}

/* --- tls and tcp */

static bool l4_match_counts(const struct http_routing *to, const struct vs_l4_match *m, const struct workload *caller)
{
	if (m->gateways.n && !string_list_has(&m->gateways, "mesh"))
		return false;
	if (m->port && to->port && m->port != to->port)
		return false;
	if (m->source_namespace && to->scope->ns && !str_eq(m->source_namespace, to->scope->ns))
		return false;
	return !caller || !m->source_labels.n ||
	       labels_selected(&m->source_labels, caller->labels, caller->label_count);
}

static void l4_match_set(struct http_routing *to, struct l4_route *out, const struct vs_l4_match *m)
{
	out->sni_hosts = http_alloc(to, m->sni_hosts.n, sizeof(*out->sni_hosts));
	for (size_t i = 0; out->sni_hosts && i < m->sni_hosts.n; i++)
		out->sni_hosts[out->sni_host_count++] = http_lower(to, m->sni_hosts.v[i]);
	out->destinations = http_alloc(to, m->destination_subnets.n, sizeof(*out->destinations));
	for (size_t i = 0; out->destinations && i < m->destination_subnets.n; i++)
		if (cidr_parse(m->destination_subnets.v[i], &out->destinations[out->destination_count]) == 0)
			out->destination_count++;
}

static void l4_clusters_set(struct http_routing *to, struct l4_route *out, const struct vs_l4_route *from,
			    const struct resource *r)
{
	out->clusters = http_alloc(to, from->route.n, sizeof(*out->clusters));
	for (size_t i = 0; out->clusters && i < from->route.n; i++) {
		struct http_destination *d = &out->clusters[out->cluster_count];
		uint32_t weight = from->route.n == 1 ? 1 : from->route.v[i].weight;
		if (!weight)
			continue;
		out->cluster_count++;
		d->cluster = http_vs_cluster(to, r, from->route.v[i].destination);
		d->weight = weight;
		out->total_weight += weight;
	}
}

struct l4_route *http_l4_add(struct http_routing *to, const struct resource *r, uint32_t line)
{
	if (mem_reserve(&to->l4, &to->l4_cap, to->l4_n + 1, sizeof(*to->l4)) < 0) {
		to->no_memory = true;
		return NULL;
	}
	struct l4_route *out = &to->l4[to->l4_n++];
	*out = (struct l4_route){ .origin = str_format("%s:%u", r->file, r->line + line) };
	to->no_memory |= !out->origin;
	return out;
}

/* One for each match, as the first that matches counts. */
static void l4_route_set(struct http_routing *to, const struct vs_l4_route *from, const struct resource *r)
{
	for (size_t i = 0; i < (from->match.n ? from->match.n : 1) && !to->no_memory; i++) {
		const struct vs_l4_match *m = from->match.n ? &from->match.v[i] : NULL;
		if (m && !l4_match_counts(to, m, to->scope->caller))
			continue;
		struct l4_route *out = http_l4_add(to, r, 0);
		if (!out)
			return;
		if (m)
			l4_match_set(to, out, m);
		l4_clusters_set(to, out, from, r);
	}
}

void http_virtual_service_l4(struct http_routing *to, const struct resource *r)
{
	const struct virtual_service_spec *spec = r->spec.virtual_service;

	for (size_t i = 0; i < spec->tls.n; i++)
		l4_route_set(to, &spec->tls.v[i], r);
	for (size_t i = 0; i < spec->tcp.n; i++)
		l4_route_set(to, &spec->tcp.v[i], r);
}
