/* SPDX-License-Identifier: Apache-2.0 */
/* A route that delegates: the delegate's routes in its place, each under the root's conditions too. Istio merges a root's
 * match with a delegate's when the delegate's is the narrower, and leaves the pair out otherwise. */
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/compile/http_vs.h"
#include "agent/compile/inventory.h"
#include "agent/config/kinds_http.h"

static bool strings_conflict(const struct string_match *root, const struct string_match *leaf)
{
	if (!root || !leaf)
		return false;
	if (root->kind == STRING_MATCH_REGEX || leaf->kind == STRING_MATCH_REGEX)
		return true;
	if (root->kind == STRING_MATCH_EXACT)
		return leaf->kind != STRING_MATCH_EXACT || !str_eq(root->text, leaf->text);
	if (root->kind == STRING_MATCH_PREFIX)
		return leaf->kind == STRING_MATCH_PRESENT || !str_starts(leaf->text, root->text);
	return leaf->kind != STRING_MATCH_PRESENT;
}

static const struct string_match *named_get(const struct named_match *v, size_t n, const char *key)
{
	for (size_t i = 0; i < n; i++)
		if (str_eq(v[i].key, key))
			return &v[i].match;
	return NULL;
}

static bool named_conflict(const struct named_match *root, size_t root_n, const struct named_match *leaf, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strings_conflict(named_get(root, root_n, leaf[i].key), &leaf[i].match))
			return true;
	return false;
}

static bool conflict(const struct vs_match *root, const struct vs_match *leaf)
{
	if (strings_conflict(root->uri, leaf->uri) || strings_conflict(root->scheme, leaf->scheme) ||
	    strings_conflict(root->method, leaf->method) || strings_conflict(root->authority, leaf->authority) ||
	    named_conflict(root->headers.v, root->headers.n, leaf->headers.v, leaf->headers.n) ||
	    named_conflict(root->without_headers.v, root->without_headers.n, leaf->without_headers.v,
			   leaf->without_headers.n) ||
	    named_conflict(root->query_params.v, root->query_params.n, leaf->query_params.v, leaf->query_params.n))
		return true;
	if (root->ignore_uri_case != leaf->ignore_uri_case || (root->port && leaf->port && root->port != leaf->port))
		return true;
	if (root->source_namespace && leaf->source_namespace && !str_eq(root->source_namespace, leaf->source_namespace))
		return true;
	for (size_t i = 0; i < leaf->source_labels.n; i++) {
		const char *value = string_map_get(&root->source_labels, leaf->source_labels.v[i].key);
		if (value && !str_eq(value, leaf->source_labels.v[i].value))
			return true;
	}
	return false;
}

/* What is made for the time of one merge. */
struct scratch {
	struct http_routing *to;
	void *v[256];
	size_t n;
};

static void *scratch_alloc(struct scratch *s, size_t n, size_t size)
{
	void *p = http_alloc(s->to, n, size);

	if (p && s->n == ARRAY_SIZE(s->v)) { /* more matches than anybody writes */
		free(p);
		s->to->no_memory = true;
		return NULL;
	}
	if (p)
		s->v[s->n++] = p;
	return p;
}

static struct named_match *named_merge(struct scratch *s, const struct named_match *root, size_t root_n,
				       const struct named_match *leaf, size_t leaf_n, size_t *n)
{
	struct named_match *v = scratch_alloc(s, root_n + leaf_n, sizeof(*v));

	*n = 0;
	for (size_t i = 0; v && i < root_n; i++)
		if (!named_get(leaf, leaf_n, root[i].key))
			v[(*n)++] = root[i];
	for (size_t i = 0; v && i < leaf_n; i++)
		v[(*n)++] = leaf[i];
	return v;
}

static void labels_merge(struct scratch *s, const struct string_map *root, const struct string_map *leaf,
			 struct string_map *out)
{
	out->v = scratch_alloc(s, root->n + leaf->n, sizeof(*out->v));
	out->n = 0;
	for (size_t i = 0; out->v && i < root->n; i++)
		if (!string_map_get(leaf, root->v[i].key))
			out->v[out->n++] = root->v[i];
	for (size_t i = 0; out->v && i < leaf->n; i++)
		out->v[out->n++] = leaf->v[i];
}

static void match_merge(struct scratch *s, const struct vs_match *root, const struct vs_match *leaf,
			struct vs_match *out)
{
	*out = *leaf;
	out->gateways = (struct string_list){ 0 }; /* both were found to be of the mesh */
	if (!out->uri)
		out->uri = root->uri;
	if (!out->scheme)
		out->scheme = root->scheme;
	if (!out->method)
		out->method = root->method;
	if (!out->authority)
		out->authority = root->authority;
	if (!out->port)
		out->port = root->port;
	if (!out->source_namespace)
		out->source_namespace = root->source_namespace;
	out->headers.v =
		named_merge(s, root->headers.v, root->headers.n, leaf->headers.v, leaf->headers.n, &out->headers.n);
	out->without_headers.v = named_merge(s, root->without_headers.v, root->without_headers.n,
					     leaf->without_headers.v, leaf->without_headers.n, &out->without_headers.n);
	out->query_params.v = named_merge(s, root->query_params.v, root->query_params.n, leaf->query_params.v,
					  leaf->query_params.n, &out->query_params.n);
	labels_merge(s, &root->source_labels, &leaf->source_labels, &out->source_labels);
}

static bool of_mesh(const struct vs_match *m)
{
	return !m->gateways.n || string_list_has(&m->gateways, "mesh");
}

/* false: no pair of matches goes together. */
static bool matches_merge(struct scratch *s, const struct vs_route *root, const struct vs_route *leaf,
			  struct vs_route *out)
{
	if (!root->match.n || !leaf->match.n) {
		out->match.v = root->match.n ? root->match.v : leaf->match.v;
		out->match.n = root->match.n ? root->match.n : leaf->match.n;
		return true;
	}
	out->match.v = scratch_alloc(s, root->match.n * leaf->match.n, sizeof(*out->match.v));
	out->match.n = 0;
	for (size_t i = 0; out->match.v && i < leaf->match.n; i++)
		for (size_t k = 0; k < root->match.n; k++) {
			const struct vs_match *a = &root->match.v[k], *b = &leaf->match.v[i];
			if (of_mesh(a) && of_mesh(b) && !conflict(a, b))
				match_merge(s, a, b, &out->match.v[out->match.n++]);
		}
	return out->match.n > 0;
}

static void route_merge(struct http_routing *to, const struct vs_route *root, const struct vs_route *leaf,
			const struct resource *r)
{
	struct scratch s = { .to = to };
	struct vs_route out = *leaf;

	if (!out.name)
		out.name = root->name;
	if (!out.rewrite)
		out.rewrite = root->rewrite;
	if (!out.timeout.set)
		out.timeout = root->timeout;
	if (!out.retries)
		out.retries = root->retries;
	if (!out.fault)
		out.fault = root->fault;
	if (!out.mirror && !out.mirrors.n) {
		out.mirror = root->mirror;
		out.mirror_percentage = root->mirror_percentage;
		out.mirror_percent = root->mirror_percent;
		out.mirrors.v = root->mirrors.v;
		out.mirrors.n = root->mirrors.n;
	}
	if (!out.cors_policy)
		out.cors_policy = root->cors_policy;
	if (!out.headers)
		out.headers = root->headers;
	if (matches_merge(&s, root, leaf, &out))
		http_vs_route(to, &out, r);
	else if (!to->no_memory)
		NOTE(to->notes, FINDING_WARNING, r,
		     "route %s: its matches are not within those of the route that delegates to it: "
		     "it never matches",
		     leaf->name ? leaf->name : "without a name");
	for (size_t i = 0; i < s.n; i++)
		free(s.v[i]);
}

void http_vs_delegate(struct http_routing *to, const struct vs_route *root, const struct resource *r)
{
	const struct delegate *d = root->delegate;
	const char *ns = d->ns ? d->ns : r->ns;
	const struct resource *leaf = inventory_get(to->c, KIND_VIRTUAL_SERVICE, ns, d->name);

	if (!leaf || leaf == r) {
		NOTE(to->notes, FINDING_ERROR, r,
		     "delegate %s/%s: there is no such VirtualService: its routes are missing", ns, d->name);
		return;
	}
	const struct virtual_service_spec *spec = leaf->spec.virtual_service;
	if (spec->hosts.n) {
		NOTE(to->notes, FINDING_ERROR, r,
		     "delegate %s/%s: a delegate must not have hosts: its routes are missing", ns, d->name);
		return;
	}
	for (size_t i = 0; i < spec->http.n && !to->no_memory; i++) {
		if (spec->http.v[i].delegate)
			NOTE(to->notes, FINDING_ERROR, leaf, "a delegate must not delegate: the route is left out");
		else
			route_merge(to, root, &spec->http.v[i], leaf);
	}
}
