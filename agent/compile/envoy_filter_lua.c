/* SPDX-License-Identifier: Apache-2.0 */
/* Lua filters of EnvoyFilters -> a workload's scripts, in the order in which they run, and what routes say to them. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/compile/envoy_filter.h"

static const char of_the_kind[] = "envoy.filters.http.lua"; /* where metadata is looked for, too */

void taking_script(struct taking *t, const struct envoy_patch *p)
{
	struct lua_script *grown = reallocarray(t->f->scripts, t->f->script_count + 1, sizeof(*grown));
	t->failed |= !grown;
	if (!grown)
		return;
	t->f->scripts = grown;
	size_t at = p->first ? 0 : t->f->script_count;
	memmove(&grown[at + 1], &grown[at], (t->f->script_count - at) * sizeof(*grown));
	t->f->script_count++;
	struct lua_script *s = &grown[at];
	size_t sources = p->sources ? p->sources->count : 0;
	*s = (struct lua_script){ .name = str_format("%s[%zu]", t->r->key, t->index),
				  .origin = taking_text(t, t->r->origin),
				  .code = taking_text(t, p->code),
				  .filter = taking_text(t, p->filter),
				  .early = p->early,
				  .port = p->port };
	s->sources = sources ? calloc(sources, sizeof(*s->sources)) : NULL;
	t->failed |= !s->name || (sources && !s->sources);
	for (const struct node *n = s->sources ? p->sources->first : NULL; n; n = n->next)
		s->sources[s->source_count++] =
			(struct lua_source){ taking_text(t, n->key), taking_text(t, envoy_source(n)) };
}

/* --- routes */

static struct lua_route *route_add(struct taking *t, const struct envoy_patch *p, const char *filter)
{
	struct lua_route *grown = reallocarray(t->f->lua_routes, t->f->lua_route_count + 1, sizeof(*grown));
	if (grown)
		t->f->lua_routes = grown;
	const struct resource **sources =
		reallocarray(t->lua_sources, t->f->lua_route_count + 1, sizeof(struct resource *));
	if (sources)
		t->lua_sources = sources;
	t->failed |= !grown || !sources;
	if (t->failed)
		return NULL;
	sources[t->f->lua_route_count] = t->r;
	struct lua_route *to = &grown[t->f->lua_route_count++];
	*to = (struct lua_route){ .filter = taking_text(t, filter),
				  .origin = taking_text(t, t->r->origin),
				  .route = taking_text(t, p->route),
				  .vhost = taking_vhost(t, p),
				  .port = p->port };
	return to;
}

static char *json_text(struct taking *t, const struct node *from)
{
	json_t *json = from ? node_to_json(from) : NULL;
	char *text = json ? json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS) : NULL;

	json_decref(json);
	t->failed |= from && !text;
	return text;
}

void taking_lua_routes(struct taking *t, const struct envoy_patch *p)
{
	for (const struct node *n = p->per_filter ? p->per_filter->first : NULL; n && !t->failed; n = n->next) {
		struct envoy_lua_route from;
		struct lua_route *to = envoy_lua_route(n, &from) ? route_add(t, p, from.filter) : NULL;
		if (!to)
			continue;
		to->replaces = true;
		to->disabled = from.disabled;
		to->source = taking_text(t, from.source);
		to->code = taking_text(t, from.code);
		to->context = json_text(t, from.context);
	}
	for (const struct node *n = p->metadata ? p->metadata->first : NULL; n && !t->failed; n = n->next) {
		struct lua_route *to = route_add(t, p, n->key);
		if (to)
			to->metadata = json_text(t, n);
	}
}

static bool is_heard(const struct http_filters *f, const struct lua_route *r)
{
	for (size_t i = 0; i < f->script_count; i++) {
		const struct lua_script *s = &f->scripts[i];
		bool named = !r->source;
		if (!str_eq(s->filter, r->filter) && (r->replaces || !str_eq(r->filter, of_the_kind)))
			continue;
		for (size_t k = 0; k < s->source_count && !named; k++)
			named = str_eq(s->sources[k].name, r->source);
		if (named)
			return true;
	}
	return false;
}

void taking_lua_look(const struct taking *t)
{
	for (size_t i = 0; i < t->f->lua_route_count; i++) {
		const struct lua_route *r = &t->f->lua_routes[i];
		if (is_heard(t->f, r))
			continue;
		NOTE(t->of->notes, FINDING_WARNING, t->lua_sources[i],
		     "what it says of routes to the filter \"%s\" has no effect: there is no Lua filter of that "
		     "name%s%s",
		     r->filter, r->source ? ", with a source " : "", r->source ? r->source : "");
	}
}
