/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/filter/lua_json.h"

#include <jansson.h>
#include <lauxlib.h>

#include "agent/helper/filter/jwt_token.h"
#include "agent/helper/filter/lua_vm.h"

enum { DEPTH_MAX = 32 };

struct json_t *lua_json_new(const char *text)
{
	jwt_json_init();
	return text ? json_loads(text, 0, NULL) : NULL;
}

void lua_json_free(struct json_t *json)
{
	json_decref(json);
}

static void push(lua_State *L, const json_t *value, int depth)
{
	const char *key;
	json_t *member;

	luaL_checkstack(L, 4, "values in values");
	lua_vm_steps(L, 1);
	switch (json_typeof(value)) {
	case JSON_STRING:
		lua_vm_steps(L, json_string_length(value) / 8);
		lua_pushlstring(L, json_string_value(value), json_string_length(value));
		return;
	case JSON_INTEGER:
	case JSON_REAL:
		lua_pushnumber(L, json_number_value(value));
		return;
	case JSON_TRUE:
	case JSON_FALSE:
		lua_pushboolean(L, json_is_true(value));
		return;
	case JSON_NULL:
		lua_pushnil(L);
		return;
	default:
		break;
	}
	lua_newtable(L);
	if (depth >= DEPTH_MAX)
		return;
	for (size_t i = 0; i < json_array_size(value); i++) {
		push(L, json_array_get(value, i), depth + 1);
		lua_rawseti(L, -2, (int)i + 1);
	}
	/* An iteration of jansson's, which Lua's errors may leave: it owns nothing. */
	json_object_foreach((json_t *)(uintptr_t)value, key, member)
	{
		lua_pushstring(L, key);
		push(L, member, depth + 1);
		lua_rawset(L, -3);
	}
}

void lua_json_push(lua_State *L, const struct json_t *value)
{
	push(L, value, 0);
}

void lua_json_member_push(lua_State *L, const struct json_t *object, const char *name)
{
	const json_t *member = json_object_get(object, name);

	if (member)
		push(L, member, 0);
	else
		lua_pushnil(L);
}
