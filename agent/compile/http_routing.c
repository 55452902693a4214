/* SPDX-License-Identifier: Apache-2.0 */
/* What both families of documents need to make routes: texts, the defaults of Istio, names of clusters. */
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/compile/http_vs.h"
#include "agent/model/cluster.h"

enum { RETRY_ATTEMPTS = 2, RETRY_BACKOFF_MS = 25, RETRY_BACKOFF_MAX_MS = 250, ROUTES_MAX = 20000 };

void http_routing_done(struct http_routing *to)
{
	for (size_t i = 0; i < to->n; i++)
		http_route_done(&to->v[i]);
	for (size_t i = 0; i < to->l4_n; i++)
		l4_route_done(&to->l4[i]);
	free(to->v);
	free(to->l4);
	to->v = NULL;
	to->l4 = NULL;
	to->n = to->l4_n = 0;
}

char *http_dup(struct http_routing *to, const char *text)
{
	char *copy = text ? strdup(text) : NULL;

	to->no_memory |= text && !copy;
	return copy;
}

char *http_lower(struct http_routing *to, const char *text)
{
	char *copy = http_dup(to, text);

	for (char *p = copy; p && *p; p++)
		*p = (char)tolower((unsigned char)*p);
	return copy;
}

void *http_alloc(struct http_routing *to, size_t n, size_t size)
{
	if (!n)
		return NULL;
	void *p = calloc(n, size);

	to->no_memory |= !p;
	return p;
}

/* Istio's since 1.24: a 503 that the application gave is not retried. */
void http_retry_default(struct http_routing *to, struct http_retry *retry)
{
	*retry = (struct http_retry){
		.attempts = RETRY_ATTEMPTS,
		.on = RETRY_CONNECT_FAILURE | RETRY_REFUSED_STREAM | RETRY_GRPC_UNAVAILABLE | RETRY_GRPC_CANCELLED |
		      RETRY_STATUS_CODES,
		.backoff_ms = RETRY_BACKOFF_MS,
		.backoff_max_ms = RETRY_BACKOFF_MAX_MS,
		.other_hosts = true,
	};
	if (to->c->mesh_config)
		http_vs_retry(to, retry, to->c->mesh_config->default_http_retry_policy, "default",
			      to->c->inventory[KIND_MESH_CONFIG].v[0]);
}

struct http_route *http_route_add(struct http_routing *to, const struct resource *r, uint32_t line, const char *name)
{
	if (to->n >= ROUTES_MAX) {
		NOTE(to->notes, FINDING_ERROR, r, "has more than %d routes: the others are left out", ROUTES_MAX);
		return NULL;
	}
	if (mem_reserve(&to->v, &to->cap, to->n + 1, sizeof(*to->v)) < 0) {
		to->no_memory = true;
		return NULL;
	}
	struct http_route *route = &to->v[to->n++];
	*route = (struct http_route){ 0 };
	http_retry_default(to, &route->retry);
	route->name = http_dup(to, name ? name : "default");
	if (r) {
		route->origin = str_format("%s:%u", r->file, r->line + line);
		route->owner = str_format("%s %s/%s", resource_kind_name(r->kind), r->ns, r->name);
		to->no_memory |= !route->origin || !route->owner;
	}
	return route;
}

void http_route_finish(struct http_routing *to, const struct resource *r)
{
	struct http_route *route = &to->v[to->n - 1];
	struct err err = ERR_INIT;
	int rc = to->no_memory ? 0 : http_route_seal(route, &err);

	if (!rc)
		return;
	if (rc == -ENOMEM) {
		to->no_memory = true;
		return;
	}
	/* A route that can't be matched must not fall through to the next one, which may allow more: it answers 500. */
	NOTE(to->notes, FINDING_ERROR, r, "route %s: %s; requests to the host get 500 from there on", route->name,
	     err.text);
	struct http_route broken = { .name = TAKE(route->name),
				     .origin = TAKE(route->origin),
				     .owner = TAKE(route->owner),
				     .invalid_backend = true,
				     .invalid_weight = 1 };
	http_route_done(route);
	*route = broken;
}

void http_text_set(struct http_routing *to, struct http_text *out, enum http_text_kind kind, const char *text,
		   bool ignore_case)
{
	*out = (struct http_text){ .kind = kind, .ignore_case = ignore_case };
	if (kind != HTTP_TEXT_PRESENT)
		out->text = http_dup(to, text ? text : "");
}

static void subset_look(struct http_routing *to, const struct resource *r, const struct service *s, const char *subset)
{
	const struct rule_caller caller = { .ns = r->ns };
	struct rule_set rules;
	struct http_rule rule;

	if (!to->notes || !subset || !*subset)
		return;
	rules_of(to->c, &(struct rule_caller){ 0 }, s->ns, s->hostname, &rules);
	http_rule_of(&rules, 0, subset, &rule);
	if (!rule.subset) {
		rules_of(to->c, &caller, s->ns, s->hostname, &rules);
		http_rule_of(&rules, 0, subset, &rule);
	}
	if (!rule.subset)
		NOTE(to->notes, FINDING_ERROR, r,
		     "destination %s: no DestinationRule has a subset %s: requests get 503", s->hostname, subset);
}

char *http_destination_name(struct http_routing *to, const struct resource *r, const char *host, const char *subset,
			    uint16_t port)
{
	char full[256];
	if (!host_write_out(to->c, r->ns, host, full)) {
		NOTE(to->notes, FINDING_ERROR, r, "destination %.40s...: is too long", host);
		full[0] = '\0';
	}
	/* A route may lead where its caller's Sidecar does not look: that is what the one who wrote it says. */
	struct http_scope scope = *to->scope;
	scope.sidecar = NULL;
	const struct service_node *node = http_service_find(&scope, full, port);
	const struct service *s = node ? node->object : NULL;

	if (!s) {
		node = http_service_find(&scope, full, 0);
		if (node)
			NOTE(to->notes, FINDING_ERROR, r,
			     "destination %s: the service has no port %u: requests get 503", full, port);
		else
			NOTE(to->notes, FINDING_ERROR, r,
			     "destination %s: there is no such service%s: requests get 503", full,
			     strchr(host, '.') ? "" : " (a short name means the document's own namespace)");
	}
	if (s)
		subset_look(to, r, s, subset);
	if (!port && s)
		port = s->port_count == 1 ? s->ports[0].port : to->port;
	char *name = rules_cluster_name(to->c, to->scope->caller, s, port ? port : to->port, subset, full);
	to->no_memory |= !name;
	return name;
}

void http_default_route(struct http_routing *to, const char *cluster)
{
	struct http_route *route = http_route_add(to, NULL, 0, "default");
	if (!route)
		return;

	route->destinations = http_alloc(to, 1, sizeof(*route->destinations));
	if (!route->destinations)
		return;
	route->destination_count = 1;
	route->destinations->cluster = http_dup(to, cluster);
	route->destinations->weight = route->total_weight = 1;
}
