/* SPDX-License-Identifier: Apache-2.0 */
/* The patches of an EnvoyFilter that have a meaning here: Lua scripts and rate limits as filters, and rate limits of one
 * route. Reading is pure; texts and nodes are borrowed from the resource. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct node;

enum envoy_patch_kind { ENVOY_LUA, ENVOY_LOCAL_LIMIT, ENVOY_GLOBAL_LIMIT, ENVOY_ROUTE_ACTIONS };
enum envoy_patch_side { ENVOY_INBOUND = 1, ENVOY_OUTBOUND = 2 };

struct envoy_patch {
	enum envoy_patch_kind kind;
	unsigned int sides;	    /* envoy_patch_side; 0: for gateways, and nothing of it was read */
	uint16_t port;		    /* that the filter is for; 0: any */
	const char *route;	    /* name of the route that it is for; NULL: any */
	const char *vhost;	    /* "host:port" that it is for; NULL: any, or one of the inbound side */
	const char *filter;	    /* its name, as others speak of it; NULL: none */
	bool first, early;	    /* filters: before those that are there; before tokens are verified, too */
	const char *code;	    /* Lua; NULL: only `sources` */
	const struct node *sources; /* Lua: a map of names to code; NULL: none */
	const struct node *config; /* the filter's typed_config, without its wrapping; NULL for Lua and ROUTE_ACTIONS */
	const struct node *rate_limits; /* of the route, or of the filter: a list of {actions}; NULL: none */
	bool per_route;			/* by typed_per_filter_config: in place of what the filter has for all */
	const struct node *per_filter;	/* of the route, by filter: see envoy_lua_route(); NULL: none */
	const struct node *metadata;	/* of the route, by filter; NULL: none */
};

/* 0; -ENOTSUP with `why`: what is not understood, in words. Nothing of the patch holds then. */
int envoy_patch_read(const struct node *patch, struct envoy_patch *out, char *why, size_t size);
/* google.protobuf.Duration as in JSON ("60s", "0.5s"), or {seconds, nanos}. false: neither. */
bool envoy_duration_ms(const struct node *n, uint64_t *ms);
/* 429 or TooManyRequests; 0: neither a status nor one of Envoy's names for the usual ones. */
uint32_t envoy_status(const struct node *code);

/* What a route says to a Lua filter: LuaPerRoute. */
struct envoy_lua_route {
	const char *filter;
	bool disabled;
	const char *source, *code;  /* one of the filter's sources, or its own; NULL: neither */
	const struct node *context; /* a map; NULL: none */
};
/* false: this entry of `per_filter` is something else. */
bool envoy_lua_route(const struct node *entry, struct envoy_lua_route *out);
/* The code of an entry of `sources`. */
const char *envoy_source(const struct node *entry);
bool envoy_key_is(const char *key, const char *snake); /* the same name, in snake_case or camelCase */
/* A member by its name in snake_case, or as the same in camelCase. */
const struct node *envoy_get(const struct node *map, const char *name);
const char *envoy_get_text(const struct node *map, const char *name); /* when it is a string, else NULL */
/* A number, also as text. */
bool envoy_number(const struct node *n, uint64_t *out);
