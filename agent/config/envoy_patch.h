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
	unsigned int sides;	   /* envoy_patch_side */
	uint16_t port;		   /* that the filter is for; 0: any */
	const char *route;	   /* name of the route that it is for; NULL: any */
	const char *code;	   /* Lua */
	const struct node *config; /* the filter's typed_config, without its wrapping; NULL for Lua and ROUTE_ACTIONS */
	const struct node *rate_limits; /* of the route, or of the filter: a list of {actions}; NULL: none */
	bool per_route;			/* by typed_per_filter_config: in place of what the filter has for all */
};

/* 0; -ENOTSUP with `why`: what is not understood, in words. Nothing of the patch holds then. */
int envoy_patch_read(const struct node *patch, struct envoy_patch *out, char *why, size_t size);
/* google.protobuf.Duration as in JSON ("60s", "0.5s"), or {seconds, nanos}. false: neither. */
bool envoy_duration_ms(const struct node *n, uint64_t *ms);
/* 429 or TooManyRequests; 0: neither a status nor one of Envoy's names for the usual ones. */
uint32_t envoy_status(const struct node *code);
/* A member by its name in snake_case, or as the same in camelCase. */
const struct node *envoy_get(const struct node *map, const char *name);
/* A number, also as text. */
bool envoy_number(const struct node *n, uint64_t *out);
