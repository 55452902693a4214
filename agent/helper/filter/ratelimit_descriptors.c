/* SPDX-License-Identifier: Apache-2.0 */
/* Envoy's actions: each adds an entry to the descriptor, or is the reason that there is none. */
#include <string.h>

#include "agent/base/str.h"
#include "agent/helper/filter/ratelimit_internal.h"
#include "agent/helper/worker.h"

bool limit_applies(const struct exchange *x, const char *route, const char *vhost, uint16_t port)
{
	const struct filter_place at = { .route = x->route ? x->route->name : NULL,
					 .vhost = x->vhost ? x->vhost->name : NULL,
					 .port = x->destination.port };

	return filter_applies(&at, route, vhost, port);
}

/* p NULL: absent. */
static struct http_string header_value(struct exchange *x, const char *name)
{
	if (name[0] != ':')
		return http_get_joined(x->head, name);
	return str_eq(name, ":path")	  ? x->head->path :
	       str_eq(name, ":method")	  ? x->head->method :
	       str_eq(name, ":authority") ? x->head->authority :
	       str_eq(name, ":scheme")	  ? x->head->scheme :
					    (struct http_string){ 0 };
}

/* Envoy's: an absent header has no value that could be another, so inverted matches of values don't hold either. */
static bool matches(struct exchange *x, const struct http_field_match *m)
{
	struct http_string value = header_value(x, m->name);

	if (!value.p)
		return m->invert && m->value.kind == HTTP_TEXT_PRESENT;
	return http_text_matches(&m->value, (struct http_view){ value.p, value.n }) != m->invert;
}

static bool all_match(struct exchange *x, const struct limit_action *a)
{
	for (size_t i = 0; i < a->match_count; i++)
		if (!matches(x, &a->matches[i]))
			return false;
	return true;
}

static struct http_string text(const char *s)
{
	return (struct http_string){ s, (uint32_t)strlen(s) };
}

static struct http_string destination_cluster(struct exchange *x)
{
	if (x->side == SIDE_SERVER)
		return http_head_textf(x->head, "inbound|%u||", x->destination.port);
	/* Which of several is chosen later. */
	const char *name = x->route && x->route->destination_count ? x->route->destinations[0].cluster : NULL;
	size_t hidden;
	const char *at = http_cluster_qualifier(name, &hidden);
	if (!name)
		return (struct http_string){ 0 };
	return hidden ? http_head_textf(x->head, "%.*s%s", (int)(at - name), name, at + hidden) : text(name);
}

static struct http_string source_cluster(struct exchange *x)
{
	if (!x->pod || !x->pod->canonical_name)
		return (struct http_string){ 0 };
	return http_head_textf(x->head, "%s.%s", x->pod->canonical_name, x->pod->ns);
}

static struct http_string remote_address(struct exchange *x)
{
	char buf[ADDR_TEXT_MAX];

	addr_text(&x->remote, buf);
	return http_head_text(x->head, buf, strlen(buf));
}

/* p NULL: nothing. */
static struct http_string action_value(struct exchange *x, const struct limit_action *a)
{
	switch (a->kind) {
	case LIMIT_REQUEST_HEADER:
		return header_value(x, a->header);
	case LIMIT_REMOTE_ADDRESS:
		return remote_address(x);
	case LIMIT_GENERIC_KEY:
		return text(a->value);
	case LIMIT_HEADER_VALUE_MATCH:
		return all_match(x, a) == a->expect_match ? text(a->value) : (struct http_string){ 0 };
	case LIMIT_DESTINATION_CLUSTER:
		return destination_cluster(x);
	case LIMIT_SOURCE_CLUSTER:
		return source_cluster(x);
	case LIMIT_PATH:
		return x->head->path;
	case LIMIT_METHOD:
		return x->head->method;
	}
	return (struct http_string){ 0 };
}

static bool descriptor_make(struct exchange *x, const struct limit_actions *actions, struct descriptor *out)
{
	out->n = 0;
	for (size_t i = 0; i < actions->n; i++) {
		const struct limit_action *a = &actions->v[i];
		struct http_string value = action_value(x, a);
		if (!value.p && a->kind == LIMIT_REQUEST_HEADER && a->skip_if_absent)
			continue;
		if (!value.p || out->n == ENTRIES_MAX)
			return false;
		out->v[out->n++] = (struct descriptor_entry){ a->key ? a->key : "", value };
	}
	return out->n > 0;
}

size_t descriptors_make(struct exchange *x, const struct rate_limit *l, struct descriptor *out)
{
	size_t n = 0;

	for (size_t i = 0; i < l->action_count && n < DESCRIPTORS_MAX; i++) {
		const struct limit_actions *a = &l->actions[i];
		if (limit_applies(x, a->route, a->vhost, a->port) && descriptor_make(x, a, &out[n]))
			n++;
	}
	return n;
}
