/* SPDX-License-Identifier: Apache-2.0 */
/* string.find, match, gmatch and gsub, with the budget of lua_pattern. */
#include <ctype.h>
#include <string.h>

#include <lauxlib.h>

#include "agent/helper/filter/lua_pattern.h"

static int find(lua_State *L, bool positions)
{
	size_t n, pattern_len;
	const char *text = luaL_checklstring(L, 1, &n), *pattern = luaL_checklstring(L, 2, &pattern_len);
	lua_Integer init = luaL_optinteger(L, 3, 1);
	if (init < 0)
		init = init + (lua_Integer)n + 1;
	size_t at = init < 1 ? 0 : (size_t)init - 1;
	if (at > n)
		at = n;
	if (positions && (lua_toboolean(L, 4) || strcspn(pattern, "^$*+?.([%-") == pattern_len)) {
		lua_vm_steps(L, (n - at) / 8 + 1);
		const char *found = memmem(text + at, n - at, pattern, pattern_len);
		if (!found)
			return 0;
		lua_pushinteger(L, found - text + 1);
		lua_pushinteger(L, found - text + (lua_Integer)pattern_len);
		return 2;
	}
	struct lua_matching m;
	lua_pattern_begin(&m, L, text, n, pattern, pattern_len);
	bool anchored = pattern_len && *pattern == '^';
	for (const char *s = text + at; s <= m.text_end; s++) {
		const char *end = lua_pattern_try(&m, s, pattern + anchored);
		if (end && positions) {
			lua_pushinteger(L, s - text + 1);
			lua_pushinteger(L, end - text);
			return 2 + lua_pattern_captures(&m, s, end, false);
		}
		if (end)
			return lua_pattern_captures(&m, s, end, true);
		if (anchored)
			break;
	}
	lua_pushnil(L);
	return 1;
}

static int on_find(lua_State *L)
{
	int n = find(L, true);
	if (!n)
		lua_pushnil(L);
	return n ? n : 1;
}

static int on_match(lua_State *L)
{
	return find(L, false);
}

static int on_gmatch_next(lua_State *L)
{
	size_t n, pattern_len, at = (size_t)lua_tointeger(L, lua_upvalueindex(3));
	const char *text = lua_tolstring(L, lua_upvalueindex(1), &n);
	const char *pattern = lua_tolstring(L, lua_upvalueindex(2), &pattern_len);
	struct lua_matching m;

	lua_pattern_begin(&m, L, text, n, pattern, pattern_len);
	for (const char *s = text + at; s <= m.text_end; s++) {
		const char *end = lua_pattern_try(&m, s, pattern);
		if (!end)
			continue;
		lua_pushinteger(L, end - text + (end == s)); /* an empty match moves on */
		lua_replace(L, lua_upvalueindex(3));
		return lua_pattern_captures(&m, s, end, true);
	}
	return 0;
}

static int on_gmatch(lua_State *L)
{
	luaL_checkstring(L, 1);
	luaL_checkstring(L, 2);
	lua_settop(L, 2);
	lua_pushinteger(L, 0);
	lua_pushcclosure(L, on_gmatch_next, 3);
	return 1;
}

/* What the third argument of gsub() makes of a match, added to the buffer. */
static void replacement_add(struct lua_matching *m, luaL_Buffer *b, const char *s, const char *end)
{
	lua_State *L = m->L;
	int type = lua_type(L, 3);

	if (type == LUA_TSTRING || type == LUA_TNUMBER) {
		size_t n;
		const char *r = lua_tolstring(L, 3, &n);
		lua_vm_steps(L, n / 8);
		for (size_t i = 0; i < n; i++) {
			if (r[i] != '%' || ++i == n || !isdigit((unsigned char)r[i])) {
				luaL_addlstring(b, &r[i], 1);
			} else if (r[i] == '0') {
				luaL_addlstring(b, s, (size_t)(end - s));
			} else {
				lua_pattern_capture(m, r[i] - '1', s, end);
				luaL_addvalue(b);
			}
		}
		return;
	}
	if (type == LUA_TTABLE) {
		lua_pattern_capture(m, 0, s, end);
		lua_gettable(L, 3);
	} else {
		lua_pushvalue(L, 3);
		lua_call(L, lua_pattern_captures(m, s, end, true), 1);
	}
	if (!lua_toboolean(L, -1)) {
		lua_pop(L, 1);
		luaL_addlstring(b, s, (size_t)(end - s));
	} else if (!lua_isstring(L, -1)) {
		luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
	} else {
		luaL_addvalue(b);
	}
}

static int on_gsub(lua_State *L)
{
	size_t n, pattern_len;
	const char *text = luaL_checklstring(L, 1, &n), *pattern = luaL_checklstring(L, 2, &pattern_len);
	lua_Integer most = luaL_optinteger(L, 4, (lua_Integer)n + 1), done = 0;
	int type = lua_type(L, 3);
	bool anchored = pattern_len && *pattern == '^';
	struct lua_matching m;
	luaL_Buffer b;

	luaL_argcheck(L, type == LUA_TNUMBER || type == LUA_TSTRING || type == LUA_TFUNCTION || type == LUA_TTABLE, 3,
		      "string/function/table expected");
	lua_settop(L, 4);
	luaL_buffinit(L, &b);
	lua_pattern_begin(&m, L, text, n, pattern, pattern_len);
	const char *s = text;
	while (done < most) {
		const char *end = lua_pattern_try(&m, s, pattern + anchored);
		if (end) {
			done++;
			replacement_add(&m, &b, s, end);
			m.left = lua_vm_of(L)->steps_left; /* the script's function may have used some */
		}
		if (end && end > s)
			s = end;
		else if (s < m.text_end)
			luaL_addlstring(&b, s++, 1);
		else
			break;
		if (anchored)
			break;
	}
	luaL_addlstring(&b, s, (size_t)(m.text_end - s));
	luaL_pushresult(&b);
	lua_pushinteger(L, done);
	return 2;
}

void lua_string_functions(lua_State *L)
{
	static const struct luaL_Reg functions[] = {
		{ "find", on_find }, { "match", on_match }, { "gmatch", on_gmatch }, { "gsub", on_gsub }, { NULL, NULL }
	};
	for (const struct luaL_Reg *f = functions; f->name; f++) {
		lua_pushcfunction(L, f->func);
		lua_setfield(L, -2, f->name);
	}
}
