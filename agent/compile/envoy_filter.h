/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of taking EnvoyFilters share: envoy_filter*.c only. */
#pragma once

#include "agent/base/str.h"
#include "agent/compile/filters.h"
#include "agent/compile/inventory.h"
#include "agent/config/envoy_patch.h"
#include "agent/config/kinds_http.h"
#include "agent/config/node.h"

struct limit_source {
	const struct resource *r;
	size_t index;
	bool own_actions;
};

struct taking {
	const struct filters_of *of;
	struct http_filters *f;
	unsigned int side;
	const struct resource *r;
	size_t index;			     /* of the patch */
	struct limit_source *sources;	     /* by limit */
	const struct resource **lua_sources; /* by lua_route */
	bool limits_known;		     /* all were added: actions of routes may follow */
	bool failed;
};

#define FIRST(list) ((list) && (list)->type == NODE_LIST ? (list)->first : NULL)

/* Copies; NULL for NULL. t->failed when there is no memory. */
char *taking_text(struct taking *t, const char *from);
char *taking_lower(struct taking *t, const char *from);
void *taking_room(struct taking *t, const struct node *list, size_t size); /* zeroed, for a list's elements */
/* The virtual host that a patch is for: the other side has no names. */
char *taking_vhost(struct taking *t, const struct envoy_patch *p);

/* --- envoy_filter_limits.c */
struct rate_limit *taking_limit_add(struct taking *t);
void taking_local_limit(struct taking *t, const struct envoy_patch *p);
void taking_global_limit(struct taking *t, const struct envoy_patch *p);
void taking_route_actions(struct taking *t, const struct envoy_patch *p); /* once all limits are known */
void taking_limits_look(const struct taking *t);

/* --- envoy_filter_lua.c */
void taking_script(struct taking *t, const struct envoy_patch *p);
void taking_lua_routes(struct taking *t, const struct envoy_patch *p);
void taking_lua_look(const struct taking *t);
