/* SPDX-License-Identifier: Apache-2.0 */
/* What the readers of an EnvoyFilter's patches share: envoy_*.c only. */
#pragma once

#include "agent/config/envoy_patch.h"

#include <stddef.h>

struct reading {
	struct envoy_patch *out;
	char *why;
	size_t size;
};

/* -ENOTSUP, and says why. */
int envoy_refuse(const struct reading *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* All keys of a map are ones that are understood. known: in snake_case, NULL at the end. 0 or -ENOTSUP. */
int envoy_known_only(const struct reading *r, const struct node *map, const char *what, const char *const *known);
/* What "@type" says behind its last dot; TypedStructs are unwrapped. */
const struct node *envoy_config_unwrap(const struct node *config, const char **type);

/* clang-tidy does not follow it, and would take what it returns for a success. */
#ifdef __clang_analyzer__
#define envoy_refuse(...) (envoy_refuse(__VA_ARGS__), -ENOTSUP)
#endif

/* --- envoy_limits.c: 0 or -ENOTSUP */
int envoy_local_limit_check(const struct reading *r, const struct node *config);
int envoy_global_limit_check(const struct reading *r, const struct node *config);
int envoy_actions_check(const struct reading *r, const struct node *list);
/* --- envoy_lua.c */
int envoy_lua_read(const struct reading *r, const struct node *config);
int envoy_lua_route_check(const struct reading *r, const struct node *config);
