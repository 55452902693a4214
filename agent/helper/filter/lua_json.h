/* SPDX-License-Identifier: Apache-2.0 */
/* JSON of the configuration and of tokens as Lua's values. */
#pragma once

#include <lua.h>

struct json_t;

struct json_t *lua_json_new(const char *text); /* NULL: no text, or none that is JSON */
void lua_json_free(struct json_t *json);       /* NULL is fine */
/* From inside a script: takes from its budget, may raise an error. What is nested deeper than 32 is left out. */
void lua_json_push(lua_State *L, const struct json_t *value);
void lua_json_member_push(lua_State *L, const struct json_t *object, const char *name); /* nil: there is none */
