/* SPDX-License-Identifier: Apache-2.0 */
/* Values of Envoy's messages as JSON has them: names in two forms, numbers as text, durations, statuses. */
#include "agent/config/envoy_reading.h"

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/config/node.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int(envoy_refuse)(const struct reading *r, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(r->why, r->size, format, args);
	va_end(args);
	return -ENOTSUP;
}

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

const char *envoy_get_text(const struct node *map, const char *name)
{
	const struct node *n = envoy_get(map, name);
	return n && n->type == NODE_STRING ? n->text : NULL;
}

bool envoy_key_is(const char *key, const char *snake)
{
	return str_eq(key, snake) || is_camel(key, snake);
}

int envoy_known_only(const struct reading *r, const struct node *map, const char *what, const char *const *known)
{
	if (!map || map->type != NODE_MAP)
		return envoy_refuse(r, "%s is not a mapping", what);
	for (const struct node *n = map->first; n; n = n->next) {
		size_t i = 0;
		while (known[i] && !envoy_key_is(n->key, known[i]))
			i++;
		if (!known[i])
			return envoy_refuse(r, "%s: \"%.60s\" is not supported", what, n->key);
	}
	return 0;
}

/* What "@type" says behind its last dot; TypedStructs are unwrapped. */
const struct node *envoy_config_unwrap(const struct node *config, const char **type)
{
	const char *url = node_get_text(config, "@type");
	*type = "";
	if (!url)
		return config;
	if (str_ends(url, ".TypedStruct")) {
		url = envoy_get_text(config, "type_url");
		config = node_get(config, "value");
	}
	if (!url)
		return config;
	const char *dot = strrchr(url, '.');
	*type = dot ? dot + 1 : url;
	return config;
}
