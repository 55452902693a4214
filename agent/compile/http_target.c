/* SPDX-License-Identifier: Apache-2.0 */
/* A call of a workload -> target. By host first (as Istio's listeners on a port are shared by all services that have it),
 * then by address. Made on demand; an entry of the cache holds until the generation of routes and services changes. */
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/err.h"
#include "agent/base/hash.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/table.h"
#include "agent/compile/dirty.h"
#include "agent/compile/http_cluster.h"
#include "agent/config/kinds_http.h"

enum { TARGETS_MAX = 16384 };

struct cached_target {
	uint64_t generation;
	struct l7_target *target;
};

void http_cached_target_free(void *entry)
{
	struct cached_target *t = entry;

	l7_target_unref(t->target);
	free(t);
}

/* Lower case, without port and final dot. false: no host that could be known. */
static bool host_clean(const char *host, char out[256])
{
	size_t n = 0;

	if (!host || !*host || host[0] == '[')
		return false;
	for (; host[n] && host[n] != ':'; n++) {
		if (n == 255)
			return false;
		out[n] = (char)tolower((unsigned char)host[n]);
	}
	if (n && out[n - 1] == '.')
		n--;
	out[n] = '\0';
	return n > 0;
}

/* As a caller writes it: "catalog", "catalog.shop", "catalog.shop.svc", or in full. */
static struct service_node *service_by_name(const struct http_scope *scope, const char *host, uint16_t port)
{
	const char *domain = scope->c->mesh.cluster_domain;
	struct service_node *node = http_service_find(scope, host, port);
	char full[600];

	if (!node && !strchr(host, '.') && scope->ns) {
		snprintf(full, sizeof(full), "%s.%s.svc.%s", host, scope->ns, domain);
		node = http_service_find(scope, full, port);
	}
	if (!node && strchr(host, '.')) {
		snprintf(full, sizeof(full), "%s.svc.%s", host, domain);
		node = strlen(full) < 256 ? http_service_find(scope, full, port) : NULL;
	}
	if (!node && str_ends(host, ".svc")) {
		snprintf(full, sizeof(full), "%s.%s", host, domain);
		node = strlen(full) < 256 ? http_service_find(scope, full, port) : NULL;
	}
	return node;
}

/* "web-0.web.shop": a pod of the headless service "web.shop". What is behind a wildcard is less specific. */
static struct service_node *service_or_pod_by_name(const struct http_scope *scope, const char *host, uint16_t port)
{
	struct service_node *node = service_by_name(scope, host, port);
	const char *dot = strchr(host, '.');
	if ((node && node->hostname[0] != '*') || !dot || !dot[1])
		return node;
	struct service_node *of = service_by_name(scope, dot + 1, port);
	return of && of->object->kind == SERVICE_HEADLESS ? of : node;
}

/* What has the address and port. Of several VIPs the first has it alone; an endpoint may be many services', and so may every
 * address that nothing else is known of. */
struct vips {
	const struct plan_vip *v;
	size_t n;
};

static struct vips vips_called(const struct compiler *c, const struct addr_port *original)
{
	struct plan view = { .sealed = true };

	view.by_vip = (struct plan_vip *)publisher_vips(&c->publisher, &view.by_vip_count);
	struct vips found = { plan_vip_find(&view, &original->addr, original->port, IPPROTO_TCP), 0 };
	if (!found.v)
		return found;
	size_t left = view.by_vip_count - (size_t)(found.v - view.by_vip);
	bool shared = found.v->endpoint || found.v->service->any_address;
	for (found.n = 1; shared && found.n < left; found.n++)
		if (!plan_vip_same_key(found.v, &found.v[found.n]))
			break;
	return found;
}

static bool vip_is_seen(const struct http_scope *scope, const struct plan_vip *vip)
{
	const struct service *s = vip->service;

	return service_visible_from(s, scope->ns) && http_scope_sees(scope, s->ns, s->hostname, vip->service_port);
}

/* --- building */

static int vhost_make(struct http_routing *to, const char *host, struct http_vhost **out)
{
	struct http_vhost *v = http_vhost_new();
	if (!v || to->no_memory) {
		http_vhost_unref(v);
		return -ENOMEM;
	}
	v->name = str_format("%s:%u", host, to->port);
	v->host = strdup(host);
	v->routes = TAKE(to->v);
	v->route_count = to->n;
	to->n = to->cap = 0;
	if (!v->name || !v->host || http_vhost_seal(v, NULL) < 0) { /* what can't be sealed was left out before */
		http_vhost_unref(v);
		return -ENOMEM;
	}
	*out = v;
	return 0;
}

/* The routes of the documents about a host. false: there are none. */
static bool document_routes(struct http_routing *to, const char *host)
{
	const struct resource *over;

	if (http_gateway_api_routes(to))
		return true;
	const struct resource *r = http_virtual_service(to->scope, host, &over);
	if (!r || !r->spec.virtual_service->http.n)
		return false;
	http_virtual_service_routes(to, r);
	return true;
}

static void document_l4(struct http_routing *to, const char *host)
{
	if (http_gateway_api_l4(to))
		return;
	const struct resource *r = http_virtual_service(to->scope, host, NULL);
	if (r)
		http_virtual_service_l4(to, r);
}

/* What a call is about. */
struct called {
	const struct service *service; /* NULL: none is known */
	uint16_t port;		       /* of the service */
	bool seen;
	bool named;	   /* it is this service that the caller means, rather than one pod: its documents count */
	bool any;	   /* the address says nothing: what the client says has to be listened to, as mode has it */
	bool wants_name;   /* for the server name of its TLS too */
	enum l7_mode mode; /* with any */
	char host[256];	   /* clean; "": none */
};

static void mode_set(const struct http_routing *to, const struct called *call, struct l7_target *t)
{
	const struct service_port *port = to->service ? service_port_find(to->service, to->port, IPPROTO_TCP) : NULL;

	t->mode = call->any ? call->mode : !port ? L7_SNIFF : port->l7 == L7_NONE ? L7_TCP : (enum l7_mode)port->l7;
	t->by_name = call->any && call->wants_name;
}

/* by_document: what VirtualServices and routes say counts; else the caller may not see the service, or means one of its pods,
 * and calls it as is. */
static int target_fill(struct http_routing *to, struct l7_target *t, const char *host, bool by_document)
{
	if (by_document)
		document_l4(to, host);
	t->l4 = TAKE(to->l4);
	t->l4_count = to->l4_n;
	to->l4_n = to->l4_cap = 0;
	if (t->mode == L7_TCP)
		return to->no_memory ? -ENOMEM : 0;
	if (!(by_document && document_routes(to, host)) && t->default_cluster)
		http_default_route(to, t->default_cluster);
	return vhost_make(to, host, &t->vhost);
}

static void target_freep(struct l7_target **t)
{
	l7_target_unref(*t);
}

/* No service: a VirtualService for the host, or on to the address that was called, or refused. */
static int other_target(struct http_routing *to, const struct called *call, struct l7_target **out)
{
	const char *host = call->host;
	AUTO(target_freep) struct l7_target *t = l7_target_new();
	if (!t)
		return -ENOMEM;

	t->registry_only = to->scope->registry_only;
	mode_set(to, call, t);
	const struct destination *proxy = sidecar_egress_proxy(to->scope);
	if (proxy)
		t->default_cluster = http_destination_name(to, to->scope->sidecar, proxy->host, proxy->subset,
							   proxy->port ? proxy->port->number : 0);
	else if (!t->registry_only)
		t->default_cluster = strdup(HTTP_PASSTHROUGH);
	if (!t->registry_only && !t->default_cluster)
		return -ENOMEM;
	bool routed = *host && http_virtual_service(to->scope, host, NULL);
	if ((routed || t->default_cluster) && target_fill(to, t, *host ? host : "allow_any", routed) < 0)
		return -ENOMEM;
	l7_target_seal(t);
	*out = TAKE(t);
	return 0;
}

static bool called_by_name(const struct http_scope *scope, uint16_t port, struct called *out)
{
	const struct service_node *node = service_or_pod_by_name(scope, out->host, port);

	if (!node)
		return false;
	out->service = node->object;
	out->port = port;
	out->seen = out->named = true;
	return true;
}

/* An endpoint's port need not be that of its service. */
static bool called_host(const struct http_scope *scope, const struct vips *vips, uint16_t port, struct called *out)
{
	for (size_t i = 0; i < vips->n; i++)
		if (vips->v[i].service_port != port && (!i || vips->v[i].service_port != vips->v[i - 1].service_port) &&
		    called_by_name(scope, vips->v[i].service_port, out))
			return true;
	return called_by_name(scope, port, out);
}

/* Of an address only the port is known: the client says whom it calls, and what it says that is neither HTTP nor TLS is for
 * the first service that takes anything. Services that the caller doesn't see listen to nothing. */
static void any_resolve(const struct http_scope *scope, const struct vips *vips, struct called *out)
{
	bool http = false, tls = false;

	for (size_t i = 0; i < vips->n; i++) {
		const struct service *s = vips->v[i].service;
		const struct service_port *port = service_port_find(s, vips->v[i].service_port, IPPROTO_TCP);
		if (!port || !s->any_address || !vip_is_seen(scope, &vips->v[i]))
			continue;
		http |= port->l7 == L7_HTTP || port->l7 == L7_SNIFF;
		tls |= port->app == APP_TLS;
		if (!out->service && port->app != APP_TLS && port->l7 != L7_HTTP) {
			out->service = s;
			out->port = port->port;
			out->seen = out->named = true;
		}
	}
	out->any = true;
	out->wants_name = http || tls;
	out->mode = !http ? L7_TCP : tls || out->service ? L7_SNIFF : L7_HTTP;
}

static void call_resolve(const struct http_scope *scope, const struct addr_port *original, const char *host,
			 struct called *out)
{
	struct vips vips = vips_called(scope->c, original);

	*out = (struct called){ .port = original->port };
	if ((host_clean(host, out->host) && called_host(scope, &vips, original->port, out)) || !vips.n)
		return;
	const struct plan_vip *at = vips.v;
	if (at->service->any_address) {
		any_resolve(scope, &vips, out);
		return;
	}
	for (size_t i = 0; i < vips.n; i++)
		if (vip_is_seen(scope, &vips.v[i])) {
			at = &vips.v[i];
			break;
		}
	/* Another host at an endpoint's address: passed on to that, by the service that is one with its endpoints. */
	out->named = !at->endpoint || !host || !*host;
	if (!out->named && at->service->kind != SERVICE_HEADLESS)
		return;
	out->service = at->service;
	out->port = at->service_port;
	out->seen = vip_is_seen(scope, at);
}

/* The host that documents are looked up by: behind a wildcard, a VirtualService may name just the one that is called. */
static const char *document_host(const struct http_scope *scope, const struct called *call)
{
	const char *host = call->service->hostname;

	if (host[0] != '*' || !*call->host || !call->named)
		return host;
	return http_virtual_service(scope, call->host, NULL) != http_virtual_service(scope, host, NULL) ? call->host :
													  host;
}

static int service_target(struct http_routing *to, const struct called *call, struct l7_target **out)
{
	const struct service *s = to->service;
	AUTO(target_freep) struct l7_target *t = l7_target_new();
	if (!t)
		return -ENOMEM;

	t->registry_only = to->scope->registry_only;
	t->service = str_format("%s/%s", s->ns, s->hostname);
	if (!t->service)
		return -ENOMEM;
	mode_set(to, call, t);
	if (call->seen || !to->scope->registry_only) {
		const char *host = document_host(to->scope, call);
		t->default_cluster = rules_cluster_name(to->c, to->scope->caller, s, to->port, NULL, s->hostname);
		if (!t->default_cluster || target_fill(to, t, host, call->seen && call->named) < 0)
			return -ENOMEM;
	} else {
		t->mode = L7_HTTP; /* refused, whatever it is */
	}
	l7_target_seal(t);
	*out = TAKE(t);
	return 0;
}

static int target_build(struct compiler *c, const struct http_scope *scope, const struct called *call,
			struct l7_target **out)
{
	struct http_routing to = { .c = c, .scope = scope, .service = call->service, .port = call->port };
	int rc = call->service ? service_target(&to, call, out) : other_target(&to, call, out);

	http_routing_done(&to);
	return rc;
}

/* --- the cache */

/* Who asks, as far as that matters, and what for. What callers make up is not in it. 0: too long, or not to be kept. */
static size_t cache_key(const struct http_scope *scope, const struct called *call, char *key, size_t size)
{
	uint64_t labels = HASH64_INIT;

	if (document_host(scope, call) == call->host)
		return 0;
	for (size_t i = 0; scope->caller && i < scope->caller->label_count; i++)
		labels = hash64_str(hash64_str(labels, scope->caller->labels[i].key), scope->caller->labels[i].value);
	int n = snprintf(key, size, "%s|%s|%llx|%s/%s|%u|%d|%d", scope->ns ? scope->ns : "",
			 scope->sidecar ? scope->sidecar->key : "", (unsigned long long)labels, call->service->ns,
			 call->service->hostname, call->port, call->named,
			 call->any ? 1 + 2 * (int)call->mode + call->wants_name : 0);
	return n < 0 || (size_t)n >= size ? 0 : (size_t)n;
}

static void cache_put(struct compiler *c, const char *key, size_t len, struct l7_target *target)
{
	if (table_count(c->http.targets) >= TARGETS_MAX) {
		struct table *fresh = table_new(http_cached_target_free);
		if (!fresh)
			return;
		table_free(c->http.targets);
		c->http.targets = fresh;
	}
	struct cached_target *entry = calloc(1, sizeof(*entry));
	if (!entry)
		return;
	*entry = (struct cached_target){ c->http.generation, l7_target_ref(target) };
	if (table_set(c->http.targets, key, len, entry) < 0)
		http_cached_target_free(entry);
}

int compiler_target(struct compiler *c, const struct workload *caller, const struct addr_port *original,
		    const char *host, struct l7_target **out)
{
	struct http_scope scope;
	struct called call;
	char key[1600];

	http_scope_of(c, caller, &scope);
	call_resolve(&scope, original, host, &call);
	size_t len = call.service ? cache_key(&scope, &call, key, sizeof(key)) : 0;
	const struct cached_target *cached = len ? table_get(c->http.targets, key, len) : NULL;
	if (cached && cached->generation == c->http.generation) {
		*out = l7_target_ref(cached->target);
		return 0;
	}
	int rc = target_build(c, &scope, &call, out);
	if (!rc && len)
		cache_put(c, key, len, *out);
	return rc;
}

/* --- why */

const struct http_route *compiler_explain_http(const struct http_vhost *v, const struct http_request_view *r,
					       http_explain_fn fn, void *arg)
{
	char buf[1024];

	for (size_t i = 0; i < v->route_count; i++) {
		const struct http_route *route = &v->routes[i];
		if (!route->match_count) {
			fn(arg, i, SIZE_MAX, NULL);
			return route;
		}
		for (size_t k = 0; k < route->match_count; k++) {
			const char *why = http_match_why(&route->matches[k], r, buf, sizeof(buf));
			if (!fn(arg, i, k, why))
				return why ? NULL : route;
			if (!why)
				return route;
		}
	}
	return NULL;
}
