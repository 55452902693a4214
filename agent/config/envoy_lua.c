/* SPDX-License-Identifier: Apache-2.0 */
/* Envoy's Lua filter and LuaPerRoute. Code stands in the document: files and variables of a proxy there are none. */
#include "agent/config/envoy_reading.h"

#include "agent/base/str.h"
#include "agent/config/node.h"

#include <errno.h>

/* A DataSource. *code NULL: there is none. */
static int source_read(const struct reading *r, const struct node *source, const char *what, const char **code)
{
	static const char *const known[] = { "inline_string", NULL };
	const struct node *text = envoy_get(source, "inline_string");
	int rc = source ? envoy_known_only(r, source, what, known) : 0;

	*code = NULL;
	if (rc < 0 || !source)
		return rc;
	if (!text || text->type != NODE_STRING)
		return envoy_refuse(r, "%s: inline_string is missing", what);
	*code = text->text;
	return 0;
}

static int sources_check(const struct reading *r, const struct node *sources)
{
	const char *code;
	int rc = 0;

	if (sources && sources->type != NODE_MAP)
		return envoy_refuse(r, "source_codes is not a mapping");
	for (const struct node *n = sources ? sources->first : NULL; n && rc == 0; n = n->next)
		rc = source_read(r, n, "source_codes[]", &code);
	return rc;
}

const char *envoy_source(const struct node *entry)
{
	return envoy_get_text(entry, "inline_string");
}

int envoy_lua_read(const struct reading *r, const struct node *config)
{
	static const char *const known[] = { "@type",	     "inline_code", "default_source_code",
					     "source_codes", "stat_prefix", NULL };
	const struct node *sources = envoy_get(config, "source_codes"), *code = envoy_get(config, "inline_code");
	int rc = envoy_known_only(r, config, "typed_config", known);

	r->out->kind = ENVOY_LUA;
	r->out->sources = sources;
	if (rc == 0)
		rc = source_read(r, envoy_get(config, "default_source_code"), "default_source_code", &r->out->code);
	if (rc == 0)
		rc = sources_check(r, sources);
	if (rc == 0 && code && code->type != NODE_STRING)
		rc = envoy_refuse(r, "inlineCode is not text");
	if (rc == 0 && code && r->out->code)
		rc = envoy_refuse(r, "a Lua filter has either inlineCode or default_source_code");
	if (rc == 0 && code)
		r->out->code = code->text;
	if (rc == 0 && !r->out->code && !sources)
		rc = envoy_refuse(r,
				  "a Lua filter needs inlineCode, default_source_code.inline_string or source_codes");
	return rc;
}

int envoy_lua_route_check(const struct reading *r, const struct node *config)
{
	static const char *const known[] = { "@type", "disabled", "name", "source_code", "filter_context", NULL };
	const struct node *disabled = node_get(config, "disabled"), *context = envoy_get(config, "filter_context");
	const char *code;
	int rc = envoy_known_only(r, config, "LuaPerRoute", known);

	if (rc == 0)
		rc = source_read(r, envoy_get(config, "source_code"), "LuaPerRoute.source_code", &code);
	if (rc == 0 && disabled && (disabled->type != NODE_BOOL || !disabled->b))
		rc = envoy_refuse(r, "LuaPerRoute: disabled other than true is not supported: leave it out");
	if (rc == 0 &&
	    (disabled != NULL) + (node_get(config, "name") != NULL) + (envoy_get(config, "source_code") != NULL) > 1)
		rc = envoy_refuse(r, "LuaPerRoute has one of disabled, name and source_code");
	if (rc == 0 && context && context->type != NODE_MAP)
		rc = envoy_refuse(r, "LuaPerRoute: filter_context is not a mapping");
	return rc;
}

bool envoy_lua_route(const struct node *entry, struct envoy_lua_route *out)
{
	const char *type;
	const struct node *config = envoy_config_unwrap(entry, &type);

	if (!str_eq(type, "LuaPerRoute"))
		return false;
	*out = (struct envoy_lua_route){
		.filter = entry->key,
		.disabled = node_get(config, "disabled") != NULL,
		.source = node_get_text(config, "name"),
		.code = envoy_source(envoy_get(config, "source_code")),
		.context = envoy_get(config, "filter_context"),
	};
	return true;
}
