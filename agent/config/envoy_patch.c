/* SPDX-License-Identifier: Apache-2.0 */
/* A patch of an EnvoyFilter: what it is applied to, where, and what it puts there. */
#include "agent/config/envoy_reading.h"

#include "agent/base/str.h"
#include "agent/config/node.h"

#include <errno.h>
#include <string.h>

static int filter_read(const struct reading *r, const struct node *value)
{
	static const char *const known[] = { "name", "typed_config", NULL };
	const char *type;
	const struct node *config = envoy_config_unwrap(envoy_get(value, "typed_config"), &type);
	int rc = envoy_known_only(r, value, "patch.value", known);
	if (rc < 0)
		return rc;
	if (!config || config->type != NODE_MAP)
		return envoy_refuse(r, "patch.value.typed_config is missing");
	r->out->filter = node_get_text(value, "name");
	if (str_eq(type, "Lua"))
		return envoy_lua_read(r, config);
	r->out->config = config;
	if (str_eq(type, "LocalRateLimit")) {
		r->out->kind = ENVOY_LOCAL_LIMIT;
		r->out->rate_limits = envoy_get(config, "rate_limits");
		return envoy_local_limit_check(r, config);
	}
	if (str_eq(type, "RateLimit")) {
		r->out->kind = ENVOY_GLOBAL_LIMIT;
		return envoy_global_limit_check(r, config);
	}
	return envoy_refuse(r,
			    "the filter \"%.80s\" (%.80s) is not supported: only Lua, LocalRateLimit and RateLimit are",
			    node_get_text(value, "name") ? node_get_text(value, "name") : "?",
			    *type ? type : "no @type");
}

/* typed_per_filter_config: limits in place of the filter's, and what the route says to Lua filters, by their names. */
static int per_filter_read(const struct reading *r, const struct node *per_filter)
{
	int rc = 0;

	if (per_filter->type != NODE_MAP)
		return envoy_refuse(r, "typed_per_filter_config is not a mapping");
	for (const struct node *n = per_filter->first; n && rc == 0; n = n->next) {
		const char *type;
		const struct node *config = envoy_config_unwrap(n, &type);
		if (str_eq(type, "LuaPerRoute")) {
			rc = envoy_lua_route_check(r, config);
		} else if (str_eq(n->key, "envoy.filters.http.local_ratelimit")) {
			r->out->config = config;
			r->out->kind = ENVOY_LOCAL_LIMIT;
			r->out->per_route = true;
			rc = envoy_local_limit_check(r, config);
		} else {
			rc = envoy_refuse(r, "typed_per_filter_config: \"%.60s\" (%.60s) is not supported", n->key,
					  *type ? type : "no @type");
		}
	}
	r->out->per_filter = per_filter;
	return rc;
}

static int metadata_read(const struct reading *r, const struct node *metadata)
{
	static const char *const known[] = { "filter_metadata", NULL };
	const struct node *by_filter = envoy_get(metadata, "filter_metadata");
	int rc = envoy_known_only(r, metadata, "patch.value.metadata", known);

	if (rc == 0 && (!by_filter || by_filter->type != NODE_MAP))
		rc = envoy_refuse(r, "patch.value.metadata: filter_metadata is missing");
	for (const struct node *n = rc == 0 ? by_filter->first : NULL; n && rc == 0; n = n->next)
		if (n->type != NODE_MAP)
			rc = envoy_refuse(r, "metadata.filter_metadata: \"%.60s\" is not a mapping", n->key);
	r->out->metadata = by_filter;
	return rc;
}

/* HTTP_ROUTE and VIRTUAL_HOST: what is said to filters, and what makes descriptors of limits. */
static int route_read(const struct reading *r, const struct node *value, bool vhost)
{
	static const char *const known[] = { "typed_per_filter_config", "route", "rate_limits", "metadata", NULL };
	static const char *const route_known[] = { "rate_limits", NULL };
	const struct node *per_filter = envoy_get(value, "typed_per_filter_config");
	const struct node *route = node_get(value, "route"), *metadata = node_get(value, "metadata");
	int rc = envoy_known_only(r, value, "patch.value", known);

	r->out->kind = ENVOY_ROUTE_ACTIONS;
	if (rc == 0 && vhost && metadata)
		rc = envoy_refuse(r,
				  "metadata of a VIRTUAL_HOST is not supported: scripts see that of their HTTP_ROUTE");
	if (rc == 0 && route)
		rc = envoy_known_only(r, route, "patch.value.route", route_known);
	if (rc == 0 && metadata)
		rc = metadata_read(r, metadata);
	if (rc < 0)
		return rc;
	r->out->rate_limits = envoy_get(route ? route : value, "rate_limits");
	rc = envoy_actions_check(r, r->out->rate_limits);
	if (rc == 0 && per_filter)
		rc = per_filter_read(r, per_filter);
	if (rc == 0 && !per_filter && !metadata && !r->out->rate_limits)
		rc = envoy_refuse(r, "patch.value has nothing that is supported");
	return rc;
}

/* --- which listener, and which route */

static int context_read(const struct reading *r, const struct node *match)
{
	const char *context = node_get_text(match, "context");
	if (!context || str_eq(context, "ANY"))
		r->out->sides = ENVOY_INBOUND | ENVOY_OUTBOUND;
	else if (str_eq(context, "SIDECAR_INBOUND"))
		r->out->sides = ENVOY_INBOUND;
	else if (str_eq(context, "SIDECAR_OUTBOUND"))
		r->out->sides = ENVOY_OUTBOUND;
	else
		return envoy_refuse(
			r,
			"match.context %.40s is not supported: only ANY, SIDECAR_INBOUND, SIDECAR_OUTBOUND and "
			"GATEWAY (without effect)",
			context);
	if (node_get(match, "proxy"))
		return envoy_refuse(r, "match.proxy is not supported");
	return 0;
}

/* Where in the chain. What is there before routing has a fixed order here: limits and scripts are behind authorisation, but
 * for scripts that are put in front of the tokens' filter. */
static int chain_read(const struct reading *r, const struct node *chain, const char *operation)
{
	static const char *const known[] = { "filter", NULL }, *const filter_known[] = { "name", "sub_filter", NULL };
	const struct node *filter = node_get(chain, "filter"), *sub = envoy_get(filter, "sub_filter");
	const char *name = node_get_text(filter, "name"), *at = node_get_text(sub, "name");
	int rc = chain ? envoy_known_only(r, chain, "match.listener.filterChain", known) : 0;

	if (rc == 0 && filter)
		rc = envoy_known_only(r, filter, "match.listener.filterChain.filter", filter_known);
	if (rc == 0 && name && !str_eq(name, "envoy.filters.network.http_connection_manager") &&
	    !str_eq(name, "envoy.http_connection_manager"))
		rc = envoy_refuse(
			r,
			"match.listener.filterChain.filter.name %.60s is not supported: only the HTTP connection "
			"manager has HTTP filters",
			name);
	bool before = str_eq(operation, "INSERT_BEFORE");
	r->out->first = str_eq(operation, "INSERT_FIRST") || (before && !at);
	r->out->early = r->out->first || (before && str_eq(at, "envoy.filters.http.jwt_authn"));
	return rc;
}

static int listener_read(const struct reading *r, const struct node *match, const char *operation)
{
	static const char *const known[] = { "port_number", "filter_chain", "name", NULL };
	const struct node *listener = node_get(match, "listener"), *port = envoy_get(listener, "port_number");
	uint64_t v = 0;
	if (!listener)
		return chain_read(r, NULL, operation);
	int rc = envoy_known_only(r, listener, "match.listener", known);
	const char *name = node_get_text(listener, "name");
	if (rc == 0 && name && !str_eq(name, "virtualInbound") && !str_eq(name, "virtualOutbound"))
		rc = envoy_refuse(r, "match.listener.name is not supported: use portNumber");
	if (rc == 0 && port && (!envoy_number(port, &v) || v > 65535))
		rc = envoy_refuse(r, "match.listener.portNumber is not a port");
	r->out->port = (uint16_t)v;
	return rc == 0 ? chain_read(r, envoy_get(listener, "filter_chain"), operation) : rc;
}

/* "inbound|http|8080", "inbound|8080||", "catalog.shop.svc.cluster.local:80" */
static uint16_t port_of_vhost(const char *name)
{
	const char *at = str_starts(name, "inbound|http|") ? name + 13 :
			 str_starts(name, "inbound|")	   ? name + 8 :
			 strrchr(name, ':')		   ? strrchr(name, ':') + 1 :
							     "";
	unsigned long port = 0;
	while (*at >= '0' && *at <= '9' && port < 65536)
		port = port * 10 + (unsigned long)(*at++ - '0');
	return port < 65536 ? (uint16_t)port : 0;
}

static int routes_read(const struct reading *r, const struct node *match)
{
	const struct node *config = envoy_get(match, "route_configuration");
	const struct node *vhost = node_get(config, "vhost"), *route = node_get(vhost, "route");
	const char *name = node_get_text(vhost, "name");
	uint64_t port = 0;
	if (envoy_get(config, "port_number") && envoy_number(envoy_get(config, "port_number"), &port))
		r->out->port = (uint16_t)port;
	if (name && *name)
		r->out->port = port_of_vhost(name);
	if (name && *name && !r->out->port)
		return envoy_refuse(r, "match.routeConfiguration.vhost.name \"%.80s\" names no port", name);
	r->out->vhost = name && *name && !str_starts(name, "inbound|") ? name : NULL;
	r->out->route = node_get_text(route, "name");
	if (r->out->route && (str_eq(r->out->route, "default") || !*r->out->route))
		r->out->route = NULL; /* the only route that inbound has */
	return 0;
}

int envoy_patch_read(const struct node *patch, struct envoy_patch *out, char *why, size_t size)
{
	struct reading r = { out, why, size };
	const char *apply_to = envoy_get_text(patch, "apply_to");
	const struct node *match = node_get(patch, "match"), *body = node_get(patch, "patch");
	const char *operation = node_get_text(body, "operation");

	*out = (struct envoy_patch){ .kind = ENVOY_LUA };
	if (str_eq(node_get_text(match, "context"), "GATEWAY"))
		return 0; /* whatever it is: nobody here is one */
	int rc = context_read(&r, match);
	if (rc < 0)
		return rc;
	if (str_eq(apply_to, "HTTP_FILTER")) {
		if (!operation || (!str_starts(operation, "INSERT_") && !str_eq(operation, "ADD")))
			return envoy_refuse(
				&r, "patch.operation %.40s of HTTP_FILTER is not supported: only INSERT_* and ADD",
				operation ? operation : "(none)");
		rc = listener_read(&r, match, operation);
		return rc == 0 ? filter_read(&r, node_get(body, "value")) : rc;
	}
	if (str_eq(apply_to, "HTTP_ROUTE") || str_eq(apply_to, "VIRTUAL_HOST")) {
		if (!str_eq(operation, "MERGE"))
			return envoy_refuse(&r, "patch.operation %.40s of %s is not supported: only MERGE",
					    operation ? operation : "(none)", apply_to);
		rc = routes_read(&r, match);
		return rc == 0 ? route_read(&r, node_get(body, "value"), str_starts(apply_to, "VIRTUAL")) : rc;
	}
	return envoy_refuse(&r, "applyTo %.40s is not supported: only HTTP_FILTER, HTTP_ROUTE and VIRTUAL_HOST",
			    apply_to ? apply_to : "(none)");
}
