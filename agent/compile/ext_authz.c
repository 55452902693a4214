/* SPDX-License-Identifier: Apache-2.0 */
/* The mesh's extensionProviders that a workload's CUSTOM rules name. One that is not there, or is of another kind, is left
 * out: the helper refuses what it can't ask about. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/compile/filters.h"
#include "agent/config/node.h"
#include "agent/model/cluster.h"

enum { BODY_MAX = 1 << 20 };

/* --- values of a node; a failed allocation is noted in *failed */

static char *text(const char *from, bool *failed)
{
	char *copy = from && *from ? strdup(from) : NULL;

	*failed |= from && *from && !copy;
	return copy;
}

static bool flag_of(const struct node *map, const char *key)
{
	const struct node *n = node_get(map, key);

	return n && n->type == NODE_BOOL && n->b;
}

static uint64_t number_of(const struct node *map, const char *key, uint64_t max)
{
	const struct node *n = node_get(map, key);
	uint64_t value = 0;

	if (n && n->type == NODE_INT && n->i > 0)
		value = (uint64_t)n->i;
	else if (n && n->type == NODE_STRING && str_to_u64(n->text, max, &value) < 0)
		value = 0;
	return value < max ? value : max;
}

static void patterns(const struct node *map, const char *key, char ***to, size_t *count, bool *failed)
{
	const struct node *list = node_get(map, key);

	if (!list || list->type != NODE_LIST || !list->count)
		return;
	*to = calloc(list->count, sizeof(**to));
	*failed |= !*to;
	for (const struct node *n = list->first; *to && n; n = n->next) {
		char *copy = n->type == NODE_STRING ? text(n->text, failed) : NULL;
		for (char *p = copy; p && *p; p++)
			*p = (char)tolower((unsigned char)*p);
		if (copy)
			(*to)[(*count)++] = copy;
	}
}

static void additional(const struct node *map, struct http_header_ops *to, bool *failed)
{
	const struct node *headers = node_get(map, "includeAdditionalHeadersInCheck");

	if (!headers || headers->type != NODE_MAP || !headers->count)
		return;
	to->set = calloc(headers->count, sizeof(*to->set));
	*failed |= !to->set;
	for (const struct node *n = headers->first; to->set && n; n = n->next) {
		if (n->type != NODE_STRING)
			continue;
		struct http_header_value *h = &to->set[to->set_count++];
		h->name = text(n->key, failed);
		h->value = strdup(n->text);
		*failed |= !h->value;
		for (char *p = h->name; p && *p; p++)
			*p = (char)tolower((unsigned char)*p);
	}
}

/* "[namespace/]host" and a port. */
static char *cluster_of(const struct node *map, const char *ns, const struct compiler *c, bool *failed)
{
	const char *service = node_get_text(map, "service");
	uint64_t port = number_of(map, "port", UINT16_MAX);
	char host[256];

	if (!service || !port)
		return NULL;
	const char *slash = strchr(service, '/');
	if (!host_write_out(c, ns, slash ? slash + 1 : service, host))
		return NULL;
	char *name = http_cluster_name((uint16_t)port, NULL, host);
	*failed |= !name;
	return name;
}

static void common(const struct node *map, struct ext_authz *to)
{
	const char *timeout = node_get_text(map, "timeout");
	const struct node *body = node_get(map, "includeRequestBodyInCheck");
	uint64_t ns;

	to->timeout_ms = 600;
	if (timeout && str_to_duration_ns(timeout, &ns) == 0 && ns / 1000000 <= UINT32_MAX)
		to->timeout_ms = ns < 1000000 ? 1 : (uint32_t)(ns / 1000000);
	to->fail_open = flag_of(map, "failOpen");
	to->status_on_error = (uint32_t)number_of(map, "statusOnError", 599);
	if (to->status_on_error < 200)
		to->status_on_error = 403;
	to->max_body_bytes = (uint32_t)number_of(body, "maxRequestBytes", BODY_MAX);
	to->allow_partial = flag_of(body, "allowPartialMessage");
	to->pack_as_bytes = flag_of(body, "packAsBytes");
}

/* Fills *to, which is to be freed with the filters. false: it is no such provider. */
static bool provider_read(const struct filters_of *of, const struct node *node, struct ext_authz *to, bool *failed)
{
	const struct node *http = node_get(node, "envoyExtAuthzHttp"), *grpc = node_get(node, "envoyExtAuthzGrpc");
	const struct node *map = http ? http : grpc;

	if (!map)
		return false;
	to->grpc = !http;
	to->provider = text(node_get_text(node, "name"), failed);
	to->cluster = cluster_of(map, of->c->mesh.root_namespace, of->c, failed);
	common(map, to);
	if (!http)
		return to->cluster != NULL;
	to->path_prefix = text(node_get_text(map, "pathPrefix"), failed);
	/* The second name is the older one of the same. */
	patterns(map,
		 node_get(map, "includeRequestHeadersInCheck") ? "includeRequestHeadersInCheck" :
								 "includeHeadersInCheck",
		 &to->include_request_headers, &to->include_request_header_count, failed);
	patterns(map, "headersToUpstreamOnAllow", &to->upstream_headers, &to->upstream_header_count, failed);
	patterns(map, "headersToDownstreamOnDeny", &to->downstream_on_deny, &to->downstream_on_deny_count, failed);
	patterns(map, "headersToDownstreamOnAllow", &to->downstream_on_allow, &to->downstream_on_allow_count, failed);
	additional(map, &to->additional, failed);
	return to->cluster != NULL;
}

static const struct node *provider_node(const struct compiler *c, const char *name)
{
	const struct node *list = c->mesh_config ? c->mesh_config->extension_providers : NULL;

	for (const struct node *n = list && list->type == NODE_LIST ? list->first : NULL; n; n = n->next)
		if (str_eq(node_get_text(n, "name"), name))
			return n;
	return NULL;
}

static bool has_provider(const struct http_filters *f, const char *name)
{
	for (size_t i = 0; i < f->ext_authz_count; i++)
		if (str_eq(f->ext_authz[i].provider, name))
			return true;
	return false;
}

static int provider_add(const struct filters_of *of, const char *name, struct http_filters *f)
{
	const struct node *node = provider_node(of->c, name);
	bool failed = false;

	if (!node || has_provider(f, name))
		return 0;
	struct ext_authz *grown = reallocarray(f->ext_authz, f->ext_authz_count + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	f->ext_authz = grown;
	struct ext_authz *to = &f->ext_authz[f->ext_authz_count++];
	*to = (struct ext_authz){ 0 };
	if (!provider_read(of, node, to, &failed) && !failed) {
		/* It stays without its name: nobody finds it, and what it has is freed with the rest. */
		free(to->provider);
		to->provider = NULL;
	}
	return failed ? -ENOMEM : 0;
}

int ext_authz_add(const struct filters_of *of, struct http_filters *f)
{
	for (size_t i = 0; of->policy && i < of->policy->rule_count; i++) {
		const struct policy_rule *rule = &of->policy->rules[i];
		if (rule->provider && provider_add(of, rule->provider, f) < 0)
			return -ENOMEM;
	}
	return 0;
}

void ext_authz_look(const struct compiler *c, const struct resource *r, struct notes *notes)
{
	const struct authz_provider *provider = r->spec.authorization_policy->provider;
	const struct node *node = provider ? provider_node(c, provider->name) : NULL;
	const struct node *map = node_get(node, "envoyExtAuthzHttp");

	if (!provider || r->spec.authorization_policy->action != AUTHZ_CUSTOM)
		return;
	if (!map)
		map = node_get(node, "envoyExtAuthzGrpc");
	if (!node)
		NOTE(notes, FINDING_ERROR, r,
		     "provider %s is not among the mesh's extensionProviders: what the rules match is refused",
		     provider->name);
	else if (!map || !node_get_text(map, "service") || !number_of(map, "port", UINT16_MAX))
		NOTE(notes, FINDING_ERROR, r,
		     "provider %s has no envoyExtAuthzHttp or envoyExtAuthzGrpc with service and port: what the rules "
		     "match is refused",
		     provider->name);
}
