/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/control/http_filters.h"

#include <stdlib.h>

#include <jansson.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/control/json.h"

static void met(json_t *list, const char *kind, const char *name, const char *origin, struct sb *text)
{
	json_t *o = json_object();

	json_set_text(o, "kind", kind);
	json_set_text(o, "name", name);
	json_set_text_if(o, "origin", origin);
	json_set_text_if(o, "text", text->p);
	json_add(list, o);
	sb_done(text);
	*text = (struct sb){ 0 };
}

/* --- scripts */

/* What the route says of it; NULL: nothing. */
static const struct lua_route *route_of(const struct filters_met *m, const struct lua_script *s)
{
	const struct lua_route *found = NULL;

	for (size_t i = 0; i < m->filters->lua_route_count; i++) {
		const struct lua_route *r = &m->filters->lua_routes[i];
		if (r->replaces && str_eq(r->filter, s->filter) && filter_applies(&m->at, r->route, r->vhost, r->port))
			found = r;
	}
	return found;
}

static void scripts(const struct filters_met *m, bool early, json_t *list)
{
	for (size_t i = 0; i < m->filters->script_count; i++) {
		const struct lua_script *s = &m->filters->scripts[i];
		const struct lua_route *r = route_of(m, s);
		struct sb text = { 0 };

		if ((m->verdict && s->early != early) || (s->port && s->port != m->at.port))
			continue;
		if (r && r->disabled)
			sb_addf(&text, "switched off by the route (%s)", r->origin ? r->origin : "?");
		else if (r && (r->code || r->source))
			sb_addf(&text, "with the route's code (%s)", r->origin ? r->origin : "?");
		else if (!s->code)
			continue;
		else if (m->verdict && early)
			sb_addf(&text, "before tokens are verified");
		met(list, "script", s->name, s->origin, &text);
	}
}

/* --- external authorisation */

static void authorizers(const struct filters_met *m, json_t *list)
{
	for (size_t i = 0; i < m->verdict->custom_count; i++) {
		const char *name = m->verdict->custom[i]->provider;
		const struct ext_authz *found = NULL;
		struct sb text = { 0 };

		for (size_t k = 0; m->filters && k < m->filters->ext_authz_count; k++)
			if (str_eq(m->filters->ext_authz[k].provider, name))
				found = &m->filters->ext_authz[k];
		if (found)
			sb_addf(&text, "asks %s by %s%s", found->cluster, found->grpc ? "gRPC" : "HTTP",
				found->fail_open ? "; passes if that fails" : "");
		else
			sb_addf(&text, "is not configured: refused");
		met(list, "authorizer", name, m->verdict->custom[i]->origin, &text);
	}
}

/* --- limits */

static void bucket_text(const struct token_bucket *b, struct sb *out)
{
	sb_addf(out, "%u at once, %u more each %.6g s", b->max_tokens, b->tokens_per_fill,
		(double)b->fill_interval_ms / 1000);
}

static void descriptor_text(const struct limit_descriptor *d, struct sb *out)
{
	for (size_t i = 0; i < d->entry_count; i++)
		sb_addf(out, "%s%s=%s", i ? ", " : "", d->entries[i].key,
			d->entries[i].value ? d->entries[i].value : "*");
	sb_addf(out, ": ");
	bucket_text(&d->bucket, out);
}

static void local_limit(const struct rate_limit *l, json_t *list)
{
	struct sb text = { 0 };

	for (size_t i = 0; i < l->descriptor_count; i++) {
		descriptor_text(&l->descriptors[i], &text);
		sb_addf(&text, "; ");
	}
	if (l->has_bucket)
		bucket_text(&l->bucket, &text);
	else
		sb_addf(&text, "others without a limit");
	if (!l->enabled.ppm || !l->enforced.ppm)
		sb_addf(&text, "; not enforced");
	met(list, "local_limit", l->name, l->origin, &text);
}

/* Limits of the route are in place of the others. */
static void local_limits(const struct filters_met *m, json_t *list)
{
	bool own = false;

	for (size_t pass = 0; pass < 2; pass++)
		for (size_t i = 0; i < m->filters->limit_count; i++) {
			const struct rate_limit *l = &m->filters->limits[i];
			if (l->global || !filter_applies(&m->at, l->route, l->vhost, l->port))
				continue;
			if (pass == 0)
				own |= l->per_route;
			else if (l->per_route == own && (l->has_bucket || l->descriptor_count))
				local_limit(l, list);
		}
}

static void global_limits(const struct filters_met *m, json_t *list)
{
	for (size_t i = 0; i < m->filters->limit_count; i++) {
		const struct rate_limit *l = &m->filters->limits[i];
		struct sb text = { 0 };

		if (!l->global || !filter_applies(&m->at, l->route, l->vhost, l->port))
			continue;
		sb_addf(&text, "asks %s, domain %s%s", l->cluster ? l->cluster : "?", l->domain ? l->domain : "?",
			l->failure_deny ? "; refused if that fails" : "");
		met(list, "global_limit", l->name, l->origin, &text);
	}
}

json_t *filters_met_json(const struct filters_met *m)
{
	json_t *list = json_array();
	bool refused = m->verdict && m->verdict->reason != DROP_NONE;

	if (m->filters && m->verdict)
		scripts(m, true, list);
	if (m->verdict)
		authorizers(m, list);
	if (!m->filters || refused)
		return list;
	local_limits(m, list);
	global_limits(m, list);
	scripts(m, false, list);
	return list;
}
