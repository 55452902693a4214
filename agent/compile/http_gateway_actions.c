/* SPDX-License-Identifier: Apache-2.0 */
/* What a rule of the Gateway API does with requests: backends, filters, retries, sessions. */
#include "agent/compile/http_gateway.h"

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
#include "agent/config/node.h"
#include "agent/model/cluster.h"
#include "agent/model/digest.h"

/* --- backends */

static bool granted(const struct compiler *c, const struct resource *r, const struct route_backend *b)
{
	struct resource_range range = inventory_range(c, KIND_K8S_REFERENCE_GRANT, b->ns);

	for (size_t i = 0; i < range.n; i++) {
		const struct reference_grant_spec *spec = range.v[i]->spec.reference_grant;
		bool from = false, to = false;
		for (size_t k = 0; k < spec->from.n; k++)
			from |= str_eq(spec->from.v[k].group, "gateway.networking.k8s.io") &&
				str_eq(spec->from.v[k].ns, r->ns) &&
				str_eq(spec->from.v[k].kind, resource_kind_name(r->kind));
		for (size_t k = 0; k < spec->to.n; k++)
			to |= (!spec->to.v[k].group || !*spec->to.v[k].group) &&
			      str_eq(spec->to.v[k].kind, "Service") &&
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

/* What becomes of what would have gone to a backend that is none. */
static const char *const dropped_words[] = {
	[GATEWAY_REQUESTS] = "requests get 500",
	[GATEWAY_COPIES] = "no copies are made",
	[GATEWAY_CONNECTIONS] = "connections are refused",
};

/* The conditions of a route's status are words of findings: who runs from files has no status to look at. */
#define NOTE_UNRESOLVED(to, r, use, reason, format, ...)                                                               \
	NOTE((to)->notes, FINDING_ERROR, r, "ResolvedRefs=False (" reason "): backend " format ": %s", __VA_ARGS__,    \
	     dropped_words[use])

char *gateway_backend_cluster(struct http_routing *to, const struct resource *r, const struct route_backend *b,
			      enum gateway_use use)
{
	char host[256], key[640];
	const char *ns = b->ns ? b->ns : r->ns;
	bool hostname = str_eq(b->group, "networking.istio.io") && str_eq(b->kind, "Hostname");

	if (hostname && b->port)
		return http_destination_name(to, r, b->name, NULL, b->port);
	if (!hostname && (!is_core(b->group) || !str_eq(b->kind, "Service"))) {
		NOTE_UNRESOLVED(to, r, use, "InvalidKind", "%s: kind %s%s%s is not supported", b->name,
				b->group ? b->group : "", is_core(b->group) ? "" : "/", b->kind);
		return NULL;
	}
	if (!hostname && !str_eq(ns, r->ns) &&
	    !granted(to->c, r, &(struct route_backend){ .ns = ns, .name = b->name })) {
		NOTE_UNRESOLVED(to, r, use, "RefNotPermitted", "%s/%s: no ReferenceGrant of namespace %s allows it", ns,
				b->name, ns);
		return NULL;
	}
	if (!b->port || !host_write_out(to->c, ns, b->name, host)) {
		NOTE_UNRESOLVED(to, r, use, "BackendNotFound", "%s/%s: needs a port", ns, b->name);
		return NULL;
	}
	snprintf(key, sizeof(key), "%s/%s", ns, host);
	const struct service_node *node = table_get_str(to->c->services, key);
	if (!node || !node->object || !service_port_find(node->object, b->port, IPPROTO_TCP)) {
		NOTE_UNRESOLVED(to, r, use, "BackendNotFound", "%s/%s: there is no such service with a port %u", ns,
				b->name, b->port);
		return NULL;
	}
	char *name = rules_cluster_name(to->c, to->scope->caller, node->object, b->port, NULL, host);
	to->no_memory |= !name;
	return name;
}

/* --- filters */

static void values_append(struct http_routing *to, struct http_header_value **v, size_t *count,
			  const struct route_header *from, size_t n)
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
		grown[(*count)++] =
			(struct http_header_value){ http_lower(to, from[i].name), http_dup(to, from[i].value) };
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
		grown[out->remove_count++] = http_lower(to, from->remove.v[i]);
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

static void direct_set(struct http_routing *to, struct http_route *route, const struct route_direct *from)
{
	struct http_direct_response *out = route->direct = http_alloc(to, 1, sizeof(*out));
	if (!out)
		return;

	out->status = from->status;
	out->body = from->body ? http_dup(to, from->body->text) : NULL;
	out->body_len = out->body ? strlen(out->body) : 0;
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
	char *cluster = gateway_backend_cluster(to, r, from->backend, GATEWAY_COPIES);

	if (from->percent.set)
		ppm = http_ppm(from->percent.v);
	else if (from->fraction)
		ppm = http_ppm(100.0 * from->fraction->numerator / from->fraction->denominator);
	struct http_mirror *grown =
		cluster && ppm ? reallocarray(route->mirrors, route->mirror_count + 1, sizeof(*grown)) : NULL;
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
bool gateway_filters_set(struct http_routing *to, struct http_route *route, const struct route_filter *v, size_t n,
			 const struct resource *r)
{
	for (size_t i = 0; i < n; i++)
		if (v[i].type == ROUTE_FILTER_EXTENSION || v[i].type == ROUTE_FILTER_EXTERNAL_AUTH)
			return false;
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
		case ROUTE_FILTER_DIRECT:
			if (!route->direct)
				direct_set(to, route, f->direct);
			break;
		case ROUTE_FILTER_EXTERNAL_AUTH:
		case ROUTE_FILTER_EXTENSION:
			break;
		}
	}
	return true;
}

static bool backend_filters_set(struct http_routing *to, struct http_destination *d,
				const struct route_backend_ref *from, const struct resource *r)
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
			     "Accepted=False (UnsupportedValue): backend %s: of a backend's filters only those on "
			     "headers and on the host are supported: requests to it get 500",
			     from->backend.name);
			return false;
		}
	}
	return true;
}

/* sessions: one that began at a backend goes on there, also when its weight is 0 now. */
void gateway_backends_set(struct http_routing *to, struct http_route *route, const struct route_backend_ref *v,
			  size_t n, const struct resource *r, bool sessions)
{
	route->destinations = http_alloc(to, n, sizeof(*route->destinations));
	for (size_t i = 0; route->destinations && i < n; i++) {
		struct http_destination *d = &route->destinations[route->destination_count];
		if (!v[i].weight && !sessions && !to->notes)
			continue; /* who looks for findings wants to know all the same */
		d->cluster = gateway_backend_cluster(to, r, &v[i].backend, GATEWAY_REQUESTS);
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
	if (!route->total_weight && !route->invalid_weight && !route->redirect && !route->direct) {
		route->invalid_backend = true;
		route->invalid_weight = 1;
	}
}

static uint32_t seconds(const struct opt_ms *ms)
{
	return ms->set ? (http_ms(ms) + 999) / 1000 : 0;
}

/* Each rule has a session of its own: where no name is given, one is made of what the rule is called. */
static char *session_name(struct http_routing *to, const struct http_route *route, const struct route_session *from)
{
	if (from->name)
		return route->session_header ? http_lower(to, from->name) : http_dup(to, from->name);
	uint64_t id = digest_end(digest_text(digest_text(HASH64_INIT, route->owner), route->name));
	char *name = str_format("%s%08x", route->session_header ? "x-weft-session-" : "weft-session-", (uint32_t)id);
	to->no_memory |= !name;
	return name;
}

void gateway_session_set(struct http_routing *to, struct http_route *route, const struct route_session *from)
{
	if (!from)
		return;
	route->session_header = from->type && str_eq(from->type, "Header");
	route->session_name = session_name(to, route, from);
	route->session_absolute_s = seconds(&from->absolute_timeout);
	route->session_idle_s = seconds(&from->idle_timeout);
	route->session_max_age = from->cookie && from->cookie->lifetime == ROUTE_LIFETIME_PERMANENT;
}

void gateway_retry_set(struct http_routing *to, struct http_retry *out, const struct route_retry *from)
{
	if (!from)
		return;
	if (from->attempts.set)
		out->attempts = from->attempts.v;
	if (from->backoff.set) {
		out->backoff_ms = http_ms(&from->backoff);
		out->backoff_max_ms = out->backoff_ms > UINT32_MAX / 10 ? UINT32_MAX : out->backoff_ms * 10;
	}
	if (!from->codes)
		return;
	free(out->statuses);
	out->status_count = 0;
	out->on |= RETRY_STATUS_CODES;
	out->statuses = http_alloc(to, from->codes->count, sizeof(*out->statuses));
	for (const struct node *code = from->codes->first; out->statuses && code; code = code->next)
		out->statuses[out->status_count++] = (uint16_t)code->i;
}
