/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/config/envoy_patch.h"

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/regex.h"
#include "agent/base/str.h"
#include "agent/config/node.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { FILL_INTERVAL_MIN_MS = 50, ACTIONS_MAX = 16, RATE_LIMITS_MAX = 32 /* as the helper has room for */ };

struct reading {
	struct envoy_patch *out;
	char *why;
	size_t size;
};

static int refuse(const struct reading *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int refuse(const struct reading *r, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(r->why, r->size, format, args);
	va_end(args);
	return -ENOTSUP;
}

/* clang-tidy does not follow it, and would take what it returns for a success. */
#ifdef __clang_analyzer__
#define refuse(...) (refuse(__VA_ARGS__), -ENOTSUP)
#endif

bool envoy_number(const struct node *n, uint64_t *out)
{
	if (n && n->type == NODE_INT && n->i >= 0) {
		*out = (uint64_t)n->i;
		return true;
	}
	return n && n->type == NODE_STRING && str_to_u64(n->text, UINT64_MAX, out) == 0;
}

bool envoy_duration_ms(const struct node *n, uint64_t *ms)
{
	uint64_t ns, nanos = 0;
	if (n && n->type == NODE_MAP) {
		if (!envoy_number(node_get(n, "seconds"), &ns))
			return false;
		envoy_number(node_get(n, "nanos"), &nanos);
		*ms = ns * 1000 + nanos / 1000000;
		return true;
	}
	if (!n || n->type != NODE_STRING || str_to_duration_ns(n->text, &ns) < 0)
		return false;
	*ms = ns / 1000000;
	return true;
}

uint32_t envoy_status(const struct node *code)
{
	static const struct {
		const char *name;
		uint32_t status;
	} names[] = { { "BadRequest", 400 },
		      { "Unauthorized", 401 },
		      { "PaymentRequired", 402 },
		      { "Forbidden", 403 },
		      { "NotFound", 404 },
		      { "MethodNotAllowed", 405 },
		      { "Conflict", 409 },
		      { "PreconditionFailed", 412 },
		      { "MisdirectedRequest", 421 },
		      { "TooManyRequests", 429 },
		      { "InternalServerError", 500 },
		      { "NotImplemented", 501 },
		      { "BadGateway", 502 },
		      { "ServiceUnavailable", 503 },
		      { "GatewayTimeout", 504 } };
	uint64_t number;
	if (envoy_number(code, &number))
		return number >= 100 && number <= 599 ? (uint32_t)number : 0;
	for (size_t i = 0; code && code->type == NODE_STRING && i < ARRAY_SIZE(names); i++)
		if (str_eq(code->text, names[i].name))
			return names[i].status;
	return 0;
}

/* "maxTokens" is "max_tokens". */
static bool is_camel(const char *key, const char *snake)
{
	for (; *snake; key++, snake++) {
		bool up = *snake == '_' && snake[1] >= 'a' && snake[1] <= 'z';
		snake += up;
		if (*key != (up ? *snake - 'a' + 'A' : *snake))
			return false;
	}
	return !*key;
}

const struct node *envoy_get(const struct node *map, const char *name)
{
	const struct node *found = node_get(map, name);
	for (const struct node *n = !found && map && map->type == NODE_MAP ? map->first : NULL; n && !found;
	     n = n->next)
		if (is_camel(n->key, name))
			found = n;
	return found;
}

/* The member by either of its two JSON names. */
static const struct node *get2(const struct node *map, const char *snake, const char *camel)
{
	const struct node *n = node_get(map, snake);
	return n ? n : node_get(map, camel);
}

static bool key_known(const char *key, const char *const *known)
{
	for (; *known; known++) {
		const char *a = key, *b = *known;
		/* max_tokens and maxTokens */
		while (*a && *b) {
			if (*b == '_' && *a != '_') {
				b++;
				if (*b - 'a' + 'A' != *a)
					break;
			} else if (*a != *b) {
				break;
			}
			a++;
			b++;
		}
		if (!*a && !*b)
			return true;
	}
	return false;
}

/* All keys of a map are ones that are understood. */
static int known_only(const struct reading *r, const struct node *map, const char *what, const char *const *known)
{
	if (!map || map->type != NODE_MAP)
		return refuse(r, "%s is not a mapping", what);
	for (const struct node *n = map->first; n; n = n->next)
		if (!key_known(n->key, known))
			return refuse(r, "%s: \"%.60s\" is not supported", what, n->key);
	return 0;
}

/* --- rate limits */

static int bucket_check(const struct reading *r, const struct node *bucket, const char *what)
{
	static const char *const known[] = { "max_tokens", "tokens_per_fill", "fill_interval", NULL };
	uint64_t v;
	int rc = known_only(r, bucket, what, known);
	if (rc < 0)
		return rc;
	if (!envoy_number(get2(bucket, "max_tokens", "maxTokens"), &v) || v == 0 || v > UINT32_MAX)
		return refuse(r, "%s: max_tokens must be a number from 1", what);
	const struct node *fill = get2(bucket, "tokens_per_fill", "tokensPerFill");
	if (fill && (!envoy_number(fill, &v) || v == 0 || v > UINT32_MAX))
		return refuse(r, "%s: tokens_per_fill must be a number from 1", what);
	if (!envoy_duration_ms(get2(bucket, "fill_interval", "fillInterval"), &v) || v < FILL_INTERVAL_MIN_MS)
		return refuse(r, "%s: fill_interval must be a duration of at least 50ms", what);
	return 0;
}

static int descriptors_check(const struct reading *r, const struct node *list)
{
	static const char *const known[] = { "entries", "token_bucket", NULL };
	static const char *const entry_known[] = { "key", "value", NULL };
	for (const struct node *d = list && list->type == NODE_LIST ? list->first : NULL; d; d = d->next) {
		const struct node *entries = node_get(d, "entries");
		int rc = known_only(r, d, "descriptors[]", known);
		if (rc == 0)
			rc = bucket_check(r, get2(d, "token_bucket", "tokenBucket"), "descriptors[].token_bucket");
		if (rc == 0 && (!entries || entries->type != NODE_LIST || !entries->count))
			rc = refuse(r, "descriptors[]: entries is missing");
		for (const struct node *e = rc == 0 ? entries->first : NULL; e && rc == 0; e = e->next) {
			rc = known_only(r, e, "descriptors[].entries[]", entry_known);
			if (rc == 0 && !node_get_text(e, "key"))
				rc = refuse(r, "descriptors[].entries[]: key is missing");
		}
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int regex_check(const struct reading *r, const struct node *safe_regex, const char *what)
{
	const char *text = node_get_text(safe_regex, "regex");
	struct err err = ERR_INIT;
	struct regex *regex = NULL;
	if (!text)
		return refuse(r, "%s: regex is missing", what);
	if (regex_new(text, false, &regex, &err) < 0)
		return refuse(r, "%s: %.120s", what, err.text);
	regex_free(regex);
	return 0;
}

static int header_check(const struct reading *r, const struct node *header)
{
	static const char *const known[] = { "name",	     "exact_match",   "prefix_match",
					     "suffix_match", "present_match", "safe_regex_match",
					     "string_match", "invert_match",  NULL };
	static const char *const text_known[] = { "exact", "prefix", "suffix", "safe_regex", "ignore_case", NULL };
	static const char what[] = "header_value_match.headers[]";
	const struct node *text = envoy_get(header, "string_match");
	const struct node *regex = text ? envoy_get(text, "safe_regex") : envoy_get(header, "safe_regex_match");
	const struct node *present = envoy_get(header, "present_match");
	int rc = known_only(r, header, what, known);
	if (rc == 0 && text)
		rc = known_only(r, text, "header_value_match.headers[].string_match", text_known);
	if (rc == 0 && !node_get_text(header, "name"))
		rc = refuse(r, "%s: name is missing", what);
	if (rc == 0 && present && (present->type != NODE_BOOL || !present->b))
		rc = refuse(r, "%s: present_match other than true is not supported: use invert_match", what);
	return rc == 0 && regex ? regex_check(r, regex, what) : rc;
}

/* What each kind of action may and must say. */
static int action_check(const struct reading *r, const struct node *action)
{
	static const struct {
		const char *kind, *known[6], *needed[2];
	} kinds[] = {
		{ "request_headers",
		  { "header_name", "descriptor_key", "skip_if_absent" },
		  { "header_name", "descriptor_key" } },
		{ "generic_key", { "descriptor_key", "descriptor_value" }, { "descriptor_value" } },
		{ "header_value_match",
		  { "descriptor_key", "descriptor_value", "expect_match", "headers" },
		  { "descriptor_value" } },
		{ "remote_address", { NULL }, { NULL } },
		{ "destination_cluster", { NULL }, { NULL } },
		{ "source_cluster", { NULL }, { NULL } },
	};
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (!str_eq(action->key, kinds[i].kind) && !is_camel(action->key, kinds[i].kind))
			continue;
		int rc = known_only(r, action, kinds[i].kind, kinds[i].known);
		for (size_t k = 0; k < ARRAY_SIZE(kinds[i].needed) && kinds[i].needed[k] && rc == 0; k++) {
			const struct node *n = envoy_get(action, kinds[i].needed[k]);
			if (!n || n->type != NODE_STRING || !*n->text)
				rc = refuse(r, "%s: %s is missing", kinds[i].kind, kinds[i].needed[k]);
		}
		const struct node *headers = node_get(action, "headers");
		if (rc == 0 && str_starts(kinds[i].kind, "header_value") &&
		    (!headers || headers->type != NODE_LIST || !headers->count))
			rc = refuse(r, "%s: headers is missing", kinds[i].kind);
		for (const struct node *h = rc == 0 && headers ? headers->first : NULL; h && rc == 0; h = h->next)
			rc = header_check(r, h);
		return rc;
	}
	return 0;
}

static int actions_check(const struct reading *r, const struct node *list)
{
	static const char *const known[] = { "actions", "stage", NULL };
	static const char *const kinds[] = {
		"request_headers",     "remote_address", "generic_key", "header_value_match",
		"destination_cluster", "source_cluster", NULL
	};
	if (list && list->type != NODE_LIST)
		return refuse(r, "rate_limits is not a list");
	if (list && list->count > RATE_LIMITS_MAX)
		return refuse(r, "rate_limits: more than %d are not supported", RATE_LIMITS_MAX);
	for (const struct node *one = list ? list->first : NULL; one; one = one->next) {
		const struct node *actions = node_get(one, "actions");
		uint64_t stage = 0;
		int rc = known_only(r, one, "rate_limits[]", known);
		if (rc == 0 && node_get(one, "stage") && (!envoy_number(node_get(one, "stage"), &stage) || stage))
			rc = refuse(r, "rate_limits[]: stages other than 0 are not supported");
		if (rc == 0 && (!actions || actions->type != NODE_LIST || !actions->count))
			rc = refuse(r, "rate_limits[]: actions is missing");
		if (rc == 0 && actions->count > ACTIONS_MAX)
			rc = refuse(r, "rate_limits[]: more than %d actions are not supported", ACTIONS_MAX);
		for (const struct node *a = rc == 0 ? actions->first : NULL; a && rc == 0; a = a->next) {
			rc = known_only(r, a, "rate_limits[].actions[]", kinds);
			if (rc == 0 && (a->count != 1 || !a->first || a->first->type != NODE_MAP))
				rc = refuse(r, "rate_limits[].actions[] must have one action each");
			if (rc == 0)
				rc = action_check(r, a->first);
		}
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Of refusals. */
static int response_check(const struct reading *r, const struct node *config)
{
	static const char *const known[] = { "header", "append", "append_action", "keep_empty_value", NULL };
	static const char *const header_known[] = { "key", "value", NULL };
	static const char *const status_known[] = { "code", NULL };
	const struct node *list = envoy_get(config, "response_headers_to_add"), *status = node_get(config, "status");
	int rc = status ? known_only(r, status, "status", status_known) : 0;
	if (rc == 0 && status && !envoy_status(node_get(status, "code")))
		rc = refuse(r, "status.code is neither a number nor a name of an HTTP status that is known here");
	if (rc == 0 && list && list->type != NODE_LIST)
		rc = refuse(r, "response_headers_to_add is not a list");
	for (const struct node *n = rc == 0 && list ? list->first : NULL; n && rc == 0; n = n->next) {
		const struct node *header = node_get(n, "header");
		const char *value = node_get_text(header, "value");
		rc = known_only(r, n, "response_headers_to_add[]", known);
		if (rc == 0)
			rc = known_only(r, header, "response_headers_to_add[].header", header_known);
		if (rc == 0 && (!node_get_text(header, "key") || !value))
			rc = refuse(r, "response_headers_to_add[]: header needs key and value, as text");
		if (rc == 0 && strchr(value, '%'))
			rc = refuse(r, "response_headers_to_add[]: %%operators%% are not supported");
	}
	return rc;
}

static int local_limit_check(const struct reading *r, const struct node *config)
{
	static const char *const known[] = { "@type",
					     "stat_prefix",
					     "token_bucket",
					     "filter_enabled",
					     "filter_enforced",
					     "descriptors",
					     "status",
					     "response_headers_to_add",
					     "rate_limits",
					     "enable_x_ratelimit_headers",
					     "stage",
					     "always_consume_default_token_bucket",
					     "rate_limited_as_resource_exhausted",
					     "local_rate_limit_per_downstream_connection",
					     NULL };
	int rc = known_only(r, config, "typed_config", known);
	const struct node *bucket = get2(config, "token_bucket", "tokenBucket");
	const struct node *each =
		get2(config, "local_rate_limit_per_downstream_connection", "localRateLimitPerDownstreamConnection");
	if (rc == 0 && each && each->type == NODE_BOOL && each->b)
		rc = refuse(r, "local_rate_limit_per_downstream_connection is not supported");
	if (rc == 0 && bucket)
		rc = bucket_check(r, bucket, "token_bucket");
	if (rc == 0)
		rc = descriptors_check(r, node_get(config, "descriptors"));
	if (rc == 0)
		rc = response_check(r, config);
	return rc == 0 ? actions_check(r, get2(config, "rate_limits", "rateLimits")) : rc;
}

static int global_limit_check(const struct reading *r, const struct node *config)
{
	static const char *const known[] = { "@type",
					     "domain",
					     "stage",
					     "request_type",
					     "timeout",
					     "failure_mode_deny",
					     "rate_limited_as_resource_exhausted",
					     "rate_limit_service",
					     "enable_x_ratelimit_headers",
					     "stat_prefix",
					     NULL };
	const struct node *service = get2(config, "rate_limit_service", "rateLimitService");
	const struct node *grpc = get2(service, "grpc_service", "grpcService");
	const struct node *envoy = get2(grpc, "envoy_grpc", "envoyGrpc");
	int rc = known_only(r, config, "typed_config", known);
	if (rc == 0 && !node_get_text(config, "domain"))
		rc = refuse(r, "typed_config: domain is missing");
	if (rc == 0 && !node_get_text(envoy, "cluster_name") && !node_get_text(envoy, "clusterName"))
		rc = refuse(r, "rate_limit_service needs grpc_service.envoy_grpc.cluster_name (outbound|PORT||HOST)");
	return rc;
}

/* --- filters */

/* What "@type" says behind its last dot; TypedStructs are unwrapped. */
static const struct node *config_unwrap(const struct node *config, const char **type)
{
	const char *url = node_get_text(config, "@type");
	*type = "";
	if (!url)
		return config;
	if (str_ends(url, ".TypedStruct")) {
		url = get2(config, "type_url", "typeUrl") ? get2(config, "type_url", "typeUrl")->text : "";
		config = node_get(config, "value");
	}
	const char *dot = strrchr(url, '.');
	*type = dot ? dot + 1 : url;
	return config;
}

static int lua_read(const struct reading *r, const struct node *config)
{
	static const char *const known[] = { "@type", "inline_code", "default_source_code", "stat_prefix", NULL };
	const struct node *source = get2(config, "default_source_code", "defaultSourceCode");
	int rc = known_only(r, config, "typed_config", known);
	const struct node *code = get2(config, "inline_code", "inlineCode");
	if (rc == 0 && !code)
		code = get2(source, "inline_string", "inlineString");
	if (rc == 0 && (!code || code->type != NODE_STRING))
		rc = refuse(r, "a Lua filter needs inlineCode or default_source_code.inline_string");
	if (rc < 0)
		return rc;
	r->out->kind = ENVOY_LUA;
	r->out->code = code->text;
	return 0;
}

static int filter_read(const struct reading *r, const struct node *value)
{
	static const char *const known[] = { "name", "typed_config", NULL };
	const char *type;
	const struct node *config = config_unwrap(get2(value, "typed_config", "typedConfig"), &type);
	int rc = known_only(r, value, "patch.value", known);
	if (rc < 0)
		return rc;
	if (!config || config->type != NODE_MAP)
		return refuse(r, "patch.value.typed_config is missing");
	if (str_eq(type, "Lua"))
		return lua_read(r, config);
	r->out->config = config;
	if (str_eq(type, "LocalRateLimit")) {
		r->out->kind = ENVOY_LOCAL_LIMIT;
		r->out->rate_limits = get2(config, "rate_limits", "rateLimits");
		return local_limit_check(r, config);
	}
	if (str_eq(type, "RateLimit")) {
		r->out->kind = ENVOY_GLOBAL_LIMIT;
		return global_limit_check(r, config);
	}
	return refuse(r, "the filter \"%.80s\" (%.80s) is not supported: only Lua, LocalRateLimit and RateLimit are",
		      node_get_text(value, "name") ? node_get_text(value, "name") : "?", *type ? type : "no @type");
}

/* HTTP_ROUTE and VIRTUAL_HOST: limits of a route by typed_per_filter_config, and what makes descriptors. */
static int route_read(const struct reading *r, const struct node *value)
{
	static const char *const known[] = { "typed_per_filter_config", "route", "rate_limits", NULL };
	static const char *const route_known[] = { "rate_limits", NULL };
	static const char *const filters[] = { "envoy.filters.http.local_ratelimit", NULL };
	const struct node *per_filter = get2(value, "typed_per_filter_config", "typedPerFilterConfig");
	const struct node *route = node_get(value, "route");
	const char *type;
	int rc = known_only(r, value, "patch.value", known);
	if (rc == 0 && route)
		rc = known_only(r, route, "patch.value.route", route_known);
	if (rc == 0 && per_filter)
		rc = known_only(r, per_filter, "typed_per_filter_config", filters);
	if (rc < 0)
		return rc;
	r->out->rate_limits = get2(route ? route : value, "rate_limits", "rateLimits");
	rc = actions_check(r, r->out->rate_limits);
	if (rc < 0)
		return rc;
	r->out->kind = ENVOY_ROUTE_ACTIONS;
	if (!per_filter)
		return r->out->rate_limits ? 0 : refuse(r, "patch.value has nothing that is supported");
	r->out->config = config_unwrap(per_filter->first, &type);
	r->out->kind = ENVOY_LOCAL_LIMIT;
	r->out->per_route = true;
	return local_limit_check(r, r->out->config);
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
		return refuse(r, "match.context %.40s is not supported: only ANY, SIDECAR_INBOUND and SIDECAR_OUTBOUND",
			      context);
	if (node_get(match, "proxy"))
		return refuse(r, "match.proxy is not supported");
	return 0;
}

static int listener_read(const struct reading *r, const struct node *match)
{
	static const char *const known[] = { "port_number", "filter_chain", "name", NULL };
	const struct node *listener = node_get(match, "listener"), *port = get2(listener, "port_number", "portNumber");
	uint64_t v = 0;
	if (!listener)
		return 0;
	int rc = known_only(r, listener, "match.listener", known);
	const char *name = node_get_text(listener, "name");
	if (rc == 0 && name && !str_eq(name, "virtualInbound") && !str_eq(name, "virtualOutbound"))
		rc = refuse(r, "match.listener.name is not supported: use portNumber");
	if (rc == 0 && port && (!envoy_number(port, &v) || v > 65535))
		rc = refuse(r, "match.listener.portNumber is not a port");
	r->out->port = (uint16_t)v;
	return rc;
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
	const struct node *config = get2(match, "route_configuration", "routeConfiguration");
	const struct node *vhost = node_get(config, "vhost"), *route = node_get(vhost, "route");
	const char *name = node_get_text(vhost, "name");
	uint64_t port = 0;
	if (get2(config, "port_number", "portNumber") && envoy_number(get2(config, "port_number", "portNumber"), &port))
		r->out->port = (uint16_t)port;
	if (name && *name)
		r->out->port = port_of_vhost(name);
	if (name && *name && !r->out->port)
		return refuse(r, "match.routeConfiguration.vhost.name \"%.80s\" names no port", name);
	r->out->route = node_get_text(route, "name");
	if (r->out->route && (str_eq(r->out->route, "default") || !*r->out->route))
		r->out->route = NULL; /* the only route that inbound has */
	return 0;
}

int envoy_patch_read(const struct node *patch, struct envoy_patch *out, char *why, size_t size)
{
	struct reading r = { out, why, size };
	const char *apply_to = get2(patch, "apply_to", "applyTo") ? get2(patch, "apply_to", "applyTo")->text : NULL;
	const struct node *match = node_get(patch, "match"), *body = node_get(patch, "patch");
	const char *operation = node_get_text(body, "operation");

	*out = (struct envoy_patch){ .kind = ENVOY_LUA };
	int rc = context_read(&r, match);
	if (rc < 0)
		return rc;
	if (str_eq(apply_to, "HTTP_FILTER")) {
		if (!operation || (!str_starts(operation, "INSERT_") && !str_eq(operation, "ADD")))
			return refuse(&r,
				      "patch.operation %.40s of HTTP_FILTER is not supported: only INSERT_* and ADD",
				      operation ? operation : "(none)");
		rc = listener_read(&r, match);
		return rc == 0 ? filter_read(&r, node_get(body, "value")) : rc;
	}
	if (str_eq(apply_to, "HTTP_ROUTE") || str_eq(apply_to, "VIRTUAL_HOST")) {
		if (!str_eq(operation, "MERGE"))
			return refuse(&r, "patch.operation %.40s of %s is not supported: only MERGE",
				      operation ? operation : "(none)", apply_to);
		rc = routes_read(&r, match);
		return rc == 0 ? route_read(&r, node_get(body, "value")) : rc;
	}
	return refuse(&r, "applyTo %.40s is not supported: only HTTP_FILTER, HTTP_ROUTE and VIRTUAL_HOST",
		      apply_to ? apply_to : "(none)");
}
