/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/model/filters.h"

#include <stdlib.h>

#include "agent/base/regex.h"
#include "agent/base/str.h"
#include "agent/model/digest.h"

struct http_filters *http_filters_new(void)
{
	struct http_filters *f = calloc(1, sizeof(*f));
	if (!f)
		return NULL;
	f->refs = 1;
	f->normalization = PATH_BASE;
	return f;
}

struct http_filters *http_filters_ref(struct http_filters *f)
{
	__atomic_add_fetch(&f->refs, 1, __ATOMIC_RELAXED);
	return f;
}

bool filter_applies(const struct filter_place *at, const char *route, const char *vhost, uint16_t port)
{
	return (!port || port == at->port) && (!vhost || str_eq(vhost, at->vhost)) &&
	       (!route || str_eq(route, at->route));
}

/* --- end of life --- */

static void texts_free(char **texts, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(texts[i]);
	free(texts);
}

static void locations_free(struct jwt_location *v, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free(v[i].name);
		free(v[i].prefix);
	}
	free(v);
}

static void jwt_done(struct jwt_rule *j)
{
	free(j->issuer);
	texts_free(j->audiences, j->audience_count);
	free(j->jwks);
	free(j->jwks_uri);
	locations_free(j->headers, j->header_count);
	locations_free(j->params, j->param_count);
	locations_free(j->cookies, j->cookie_count);
	free(j->output_payload_header);
	for (size_t i = 0; i < j->output_claim_count; i++) {
		free(j->output_claims[i].header);
		free(j->output_claims[i].claim);
	}
	free(j->output_claims);
	texts_free(j->space_delimited_claims, j->space_delimited_claim_count);
	free(j->origin);
}

static void values_free(struct http_header_value *v, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free(v[i].name);
		free(v[i].value);
	}
	free(v);
}

static void header_ops_done(struct http_header_ops *ops)
{
	values_free(ops->set, ops->set_count);
	values_free(ops->add, ops->add_count);
	texts_free(ops->remove, ops->remove_count);
}

static void action_done(struct limit_action *a)
{
	free(a->key);
	free(a->value);
	free(a->header);
	for (size_t i = 0; i < a->match_count; i++) {
		free(a->matches[i].name);
		free(a->matches[i].value.text);
		regex_free(a->matches[i].value.regex);
	}
	free(a->matches);
}

static void limit_done(struct rate_limit *l)
{
	free(l->name);
	free(l->origin);
	free(l->route);
	free(l->vhost);
	for (size_t i = 0; i < l->descriptor_count; i++) {
		struct limit_descriptor *d = &l->descriptors[i];
		for (size_t e = 0; e < d->entry_count; e++) {
			free(d->entries[e].key);
			free(d->entries[e].value);
		}
		free(d->entries);
	}
	free(l->descriptors);
	header_ops_done(&l->response);
	free(l->cluster);
	free(l->domain);
	for (size_t i = 0; i < l->action_count; i++) {
		for (size_t a = 0; a < l->actions[i].n; a++)
			action_done(&l->actions[i].v[a]);
		free(l->actions[i].v);
		free(l->actions[i].route);
		free(l->actions[i].vhost);
	}
	free(l->actions);
}

static void script_done(struct lua_script *s)
{
	free(s->name);
	free(s->origin);
	free(s->code);
	free(s->filter);
	for (size_t i = 0; i < s->source_count; i++) {
		free(s->sources[i].name);
		free(s->sources[i].code);
	}
	free(s->sources);
}

static void lua_route_done(struct lua_route *r)
{
	free(r->filter);
	free(r->origin);
	free(r->route);
	free(r->vhost);
	free(r->source);
	free(r->code);
	free(r->context);
	free(r->metadata);
}

static void ext_authz_done(struct ext_authz *a)
{
	free(a->provider);
	free(a->cluster);
	free(a->path_prefix);
	texts_free(a->include_request_headers, a->include_request_header_count);
	texts_free(a->upstream_headers, a->upstream_header_count);
	texts_free(a->downstream_on_deny, a->downstream_on_deny_count);
	texts_free(a->downstream_on_allow, a->downstream_on_allow_count);
	header_ops_done(&a->additional);
}

void http_filters_unref(struct http_filters *f)
{
	if (!f || __atomic_sub_fetch(&f->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;

	for (size_t i = 0; i < f->jwt_count; i++)
		jwt_done(&f->jwt[i]);
	for (size_t i = 0; i < f->limit_count; i++)
		limit_done(&f->limits[i]);
	for (size_t i = 0; i < f->script_count; i++)
		script_done(&f->scripts[i]);
	for (size_t i = 0; i < f->lua_route_count; i++)
		lua_route_done(&f->lua_routes[i]);
	for (size_t i = 0; i < f->ext_authz_count; i++)
		ext_authz_done(&f->ext_authz[i]);
	free(f->jwt);
	free(f->limits);
	free(f->scripts);
	free(f->lua_routes);
	free(f->ext_authz);
	proxy_settings_done(&f->proxy);
	free(f);
}

/* --- the id --- */

static uint64_t locations_digest(uint64_t id, const struct jwt_location *v, size_t count)
{
	id = digest_number(id, count);
	for (size_t i = 0; i < count; i++) {
		id = digest_text(id, v[i].name);
		id = digest_text(id, v[i].prefix);
	}
	return id;
}

static uint64_t jwt_digest(uint64_t id, const struct jwt_rule *j)
{
	id = digest_text(id, j->issuer);
	id = digest_texts(id, j->audiences, j->audience_count);
	id = digest_text(id, j->jwks);
	id = digest_text(id, j->jwks_uri);
	id = digest_number(id, j->jwks_inline);
	id = digest_number(id, j->jwks_timeout_ms);
	id = locations_digest(id, j->headers, j->header_count);
	id = locations_digest(id, j->params, j->param_count);
	id = locations_digest(id, j->cookies, j->cookie_count);
	id = digest_number(id, j->forward);
	id = digest_text(id, j->output_payload_header);
	id = digest_number(id, j->output_claim_count);
	for (size_t i = 0; i < j->output_claim_count; i++) {
		id = digest_text(id, j->output_claims[i].header);
		id = digest_text(id, j->output_claims[i].claim);
	}
	id = digest_texts(id, j->space_delimited_claims, j->space_delimited_claim_count);
	return digest_text(id, j->origin);
}

static uint64_t values_digest(uint64_t id, const struct http_header_value *v, size_t count)
{
	id = digest_number(id, count);
	for (size_t i = 0; i < count; i++) {
		id = digest_text(id, v[i].name);
		id = digest_text(id, v[i].value);
	}
	return id;
}

static uint64_t header_ops_digest(uint64_t id, const struct http_header_ops *ops)
{
	id = values_digest(id, ops->set, ops->set_count);
	id = values_digest(id, ops->add, ops->add_count);
	return digest_texts(id, ops->remove, ops->remove_count);
}

static uint64_t bucket_digest(uint64_t id, const struct token_bucket *b)
{
	id = digest_number(id, b->max_tokens);
	id = digest_number(id, b->tokens_per_fill);
	return digest_number(id, b->fill_interval_ms);
}

static uint64_t action_digest(uint64_t id, const struct limit_action *a)
{
	id = digest_number(id, a->kind);
	id = digest_text(id, a->key);
	id = digest_text(id, a->value);
	id = digest_text(id, a->header);
	id = digest_number(id, a->skip_if_absent);
	id = digest_number(id, a->expect_match);
	id = digest_number(id, a->match_count);
	for (size_t i = 0; i < a->match_count; i++) {
		const struct http_field_match *m = &a->matches[i];
		id = digest_text(id, m->name);
		id = digest_number(id, m->value.kind);
		id = digest_number(id, m->value.ignore_case);
		id = digest_text(id, m->value.text);
		id = digest_number(id, m->invert);
	}
	return id;
}

static uint64_t descriptor_digest(uint64_t id, const struct limit_descriptor *d)
{
	id = digest_number(id, d->entry_count);
	for (size_t i = 0; i < d->entry_count; i++) {
		id = digest_text(id, d->entries[i].key);
		id = digest_text(id, d->entries[i].value);
	}
	return bucket_digest(id, &d->bucket);
}

static uint64_t limit_digest(uint64_t id, const struct rate_limit *l)
{
	id = digest_text(id, l->name);
	id = digest_text(id, l->route);
	id = digest_text(id, l->vhost);
	id = digest_number(id, l->port);
	id = digest_number(id, l->per_route);
	id = digest_number(id, l->global);
	id = digest_number(id, l->grpc_exhausted);
	id = digest_number(id, l->spare_bucket);
	id = bucket_digest(id, &l->bucket);
	id = digest_number(id, l->has_bucket);
	id = digest_number(id, l->descriptor_count);
	for (size_t i = 0; i < l->descriptor_count; i++)
		id = descriptor_digest(id, &l->descriptors[i]);
	id = digest_number(id, l->enabled.ppm);
	id = digest_number(id, l->enforced.ppm);
	id = digest_number(id, l->status);
	id = header_ops_digest(id, &l->response);
	id = digest_number(id, l->x_ratelimit_headers);
	id = digest_text(id, l->cluster);
	id = digest_text(id, l->domain);
	id = digest_number(id, l->timeout_ms);
	id = digest_number(id, l->failure_deny);
	id = digest_number(id, l->action_count);
	for (size_t i = 0; i < l->action_count; i++) {
		id = digest_number(id, l->actions[i].n);
		id = digest_text(id, l->actions[i].route);
		id = digest_text(id, l->actions[i].vhost);
		id = digest_number(id, l->actions[i].port);
		for (size_t a = 0; a < l->actions[i].n; a++)
			id = action_digest(id, &l->actions[i].v[a]);
	}
	return id;
}

static uint64_t script_digest(uint64_t id, const struct lua_script *s)
{
	id = digest_text(id, s->name);
	id = digest_text(id, s->origin);
	id = digest_text(id, s->code);
	id = digest_text(id, s->filter);
	id = digest_number(id, s->early);
	id = digest_number(id, s->port);
	id = digest_number(id, s->source_count);
	for (size_t i = 0; i < s->source_count; i++) {
		id = digest_text(id, s->sources[i].name);
		id = digest_text(id, s->sources[i].code);
	}
	return id;
}

static uint64_t lua_route_digest(uint64_t id, const struct lua_route *r)
{
	id = digest_texts(id, (char *[]){ r->filter, r->origin, r->route, r->source, r->code, r->context, r->metadata },
			  7);
	id = digest_number(id, r->port);
	id = digest_text(id, r->vhost);
	id = digest_number(id, r->replaces);
	return digest_number(id, r->disabled);
}

static uint64_t ext_authz_digest(uint64_t id, const struct ext_authz *a)
{
	id = digest_text(id, a->provider);
	id = digest_number(id, a->grpc);
	id = digest_text(id, a->cluster);
	id = digest_text(id, a->path_prefix);
	id = digest_number(id, a->timeout_ms);
	id = digest_number(id, a->fail_open);
	id = digest_number(id, a->status_on_error);
	id = digest_texts(id, a->include_request_headers, a->include_request_header_count);
	id = digest_texts(id, a->upstream_headers, a->upstream_header_count);
	id = digest_texts(id, a->downstream_on_deny, a->downstream_on_deny_count);
	id = digest_texts(id, a->downstream_on_allow, a->downstream_on_allow_count);
	id = header_ops_digest(id, &a->additional);
	id = digest_number(id, a->max_body_bytes);
	id = digest_number(id, a->allow_partial);
	return digest_number(id, a->pack_as_bytes);
}

/* An expression that is none was refused when the configuration was read; here it matches nothing. */
static void action_compile(struct limit_action *a)
{
	for (size_t i = 0; i < a->match_count; i++) {
		struct http_text *t = &a->matches[i].value;
		if (t->kind == HTTP_TEXT_REGEX && t->text && !t->regex)
			regex_new(t->text, t->ignore_case, &t->regex, NULL);
	}
}

void http_filters_seal(struct http_filters *f)
{
	for (size_t l = 0; l < f->limit_count; l++)
		for (size_t i = 0; i < f->limits[l].action_count; i++)
			for (size_t a = 0; a < f->limits[l].actions[i].n; a++)
				action_compile(&f->limits[l].actions[i].v[a]);

	uint64_t id = proxy_settings_digest(digest_number(HASH64_INIT, f->normalization), &f->proxy);
	id = digest_number(id, f->jwt_count);
	for (size_t i = 0; i < f->jwt_count; i++)
		id = jwt_digest(id, &f->jwt[i]);
	id = digest_number(id, f->limit_count);
	for (size_t i = 0; i < f->limit_count; i++) {
		f->limits[i].id = limit_digest(HASH64_INIT, &f->limits[i]);
		id = digest_text(digest_number(id, f->limits[i].id), f->limits[i].origin);
	}
	id = digest_number(id, f->script_count);
	for (size_t i = 0; i < f->script_count; i++)
		id = script_digest(id, &f->scripts[i]);
	id = digest_number(id, f->lua_route_count);
	for (size_t i = 0; i < f->lua_route_count; i++)
		id = lua_route_digest(id, &f->lua_routes[i]);
	id = digest_number(id, f->ext_authz_count);
	for (size_t i = 0; i < f->ext_authz_count; i++)
		id = ext_authz_digest(id, &f->ext_authz[i]);
	f->id = digest_end(id);
}
