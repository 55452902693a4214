/* SPDX-License-Identifier: Apache-2.0 */
/* handle:body(), bodyChunks() and trailers(). The whole body is there before a script sees any of it, and the head waits with
 * it: so chunks are one chunk, trailers are known, and content-length follows what a script makes of the body. */
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "agent/helper/filter/lua_api.h"

static const char class[] = "weft.body";

/* --- the object */

static int on_length(lua_State *L)
{
	lua_pushinteger(L, (lua_Integer)lua_object_check(L, class)->len);
	return 1;
}

static int on_get_bytes(lua_State *L)
{
	const struct lua_call *c = lua_object_check(L, class);
	lua_Integer from = luaL_optinteger(L, 2, 0), len = luaL_optinteger(L, 3, (lua_Integer)c->len - from);

	if (from < 0 || len < 0 || (size_t)from > c->len || (size_t)len > c->len - (size_t)from)
		return luaL_error(L, "index/length must be >= 0 and (index + length) must be <= buffer size");
	lua_vm_steps(L, (size_t)len / 8);
	lua_pushlstring(L, len ? (const char *)c->bytes + from : "", (size_t)len);
	return 1;
}

static int on_set_bytes(lua_State *L)
{
	struct lua_call *c = lua_object_check(L, class);
	size_t n;
	const char *text = luaL_checklstring(L, 2, &n);

	if (n > LUA_TEXT_MAX)
		return luaL_error(L, "setBytes(): at most 256 KiB");
	lua_vm_steps(L, n / 8);
	uint8_t *copy = malloc(n + 1);
	if (!copy)
		return luaL_error(L, "out of memory");
	memcpy(copy, text, n);
	free(c->bytes);
	c->bytes = copy;
	c->len = n;
	c->body_changed = true;
	c->head->content_length = (int64_t)n;
	lua_pushinteger(L, (lua_Integer)n);
	return 1;
}

static int body_push(lua_State *L, struct lua_call *c)
{
	if (!c->len && !c->wrap && !c->body_changed)
		lua_pushnil(L);
	else
		lua_object_push(L, class, c->serial, 0);
	return 1;
}

static int chunk_push(lua_State *L, struct lua_call *c)
{
	bool over = c->chunks_over || !c->len;

	c->chunks_over = true;
	if (over)
		lua_pushnil(L);
	else
		lua_object_push(L, class, c->serial, 0);
	return 1;
}

static int trailers_push(lua_State *L, struct lua_call *c)
{
	c->trailers = exchange_trailers(c->x, c->response);
	if (c->trailers)
		lua_object_push(L, "weft.headers", c->serial, LUA_TRAILERS);
	else
		lua_pushnil(L);
	return 1;
}

/* --- the handle's */

static int now_or_later(lua_State *L, struct lua_call *c, enum lua_wants what, const char *name)
{
	c->wants = what;
	if (c->body_here) {
		lua_settop(L, 0);
		return what == LUA_WANTS_BODY  ? body_push(L, c) :
		       what == LUA_WANTS_CHUNK ? chunk_push(L, c) :
						 trailers_push(L, c);
	}
	lua_yield_check(L, c, name);
	return lua_yield(L, 0);
}

int lua_body_results(struct lua_call *c)
{
	return c->wants == LUA_WANTS_BODY  ? body_push(c->co, c) :
	       c->wants == LUA_WANTS_CHUNK ? chunk_push(c->co, c) :
					     trailers_push(c->co, c);
}

static int on_body(lua_State *L)
{
	struct lua_call *c = lua_object_check(L, "weft.handle");

	if (!lua_isnoneornil(L, 2))
		luaL_checktype(L, 2, LUA_TBOOLEAN);
	c->wrap = lua_toboolean(L, 2);
	return now_or_later(L, c, LUA_WANTS_BODY, "body");
}

static int on_chunk(lua_State *L)
{
	struct lua_call *c = lua_serial_check(L, *(const uint64_t *)lua_touserdata(L, lua_upvalueindex(1)));
	return now_or_later(L, c, LUA_WANTS_CHUNK, "bodyChunks");
}

static int on_chunks(lua_State *L)
{
	lua_object_check(L, "weft.handle");
	lua_pushvalue(L, 1);
	lua_pushcclosure(L, on_chunk, 1);
	return 1;
}

static int on_trailers(lua_State *L)
{
	return now_or_later(L, lua_object_check(L, "weft.handle"), LUA_WANTS_TRAILERS, "trailers");
}

const struct luaL_Reg lua_body_methods[] = {
	{ "body", on_body }, { "bodyChunks", on_chunks }, { "trailers", on_trailers }, { NULL, NULL }
};

void lua_body_register(lua_State *L)
{
	static const struct luaL_Reg methods[] = {
		{ "length", on_length }, { "getBytes", on_get_bytes }, { "setBytes", on_set_bytes }, { NULL, NULL }
	};
	lua_class_register(L, class, methods, NULL);
}
