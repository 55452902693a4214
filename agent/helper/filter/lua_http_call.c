/* SPDX-License-Identifier: Apache-2.0 */
/* handle:httpCall(cluster, headers, body, timeout_ms, asynchronous), or with a table of options in place of the last two. The
 * script waits for the answer, within limits of calls and time; one that nobody waits for goes on behind the request. What
 * fails is an answer with 503, as in Envoy. */
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "agent/base/mem.h"
#include "agent/helper/filter/lua_api.h"

enum {
	CALLS_MAX = 16,		/* of one callback */
	TIMEOUT_MAX_MS = 60000, /* also where Envoy would wait for ever */
	UNWATCHED_MAX = 256,	/* of a worker, that nobody waits for */
	ANSWER_MAX = 64 << 10,	/* that a side call keeps: one that is as long was cut */
};

static __thread size_t unwatched;

/* --- the answer */

static int failure_push(lua_State *L)
{
	lua_createtable(L, 0, 1);
	lua_pushliteral(L, "503");
	lua_setfield(L, -2, ":status");
	lua_pushliteral(L, "upstream failure");
	return 2;
}

/* The table at the top gets the value; with duplicates, a list of those that were there before and this one. */
static void field_set(lua_State *L, const struct http_field *f, bool duplicates)
{
	lua_pushlstring(L, f->name.p, f->name.n);
	if (duplicates) {
		lua_pushvalue(L, -1);
		lua_rawget(L, -3);
		if (lua_istable(L, -1)) {
			lua_pushlstring(L, f->value.p, f->value.n);
			lua_rawseti(L, -2, (int)lua_objlen(L, -2) + 1);
			lua_pop(L, 2);
			return;
		}
		if (!lua_isnil(L, -1)) {
			lua_createtable(L, 2, 0);
			lua_insert(L, -2);
			lua_rawseti(L, -2, 1);
			lua_pushlstring(L, f->value.p, f->value.n);
			lua_rawseti(L, -2, 2);
			lua_rawset(L, -3);
			return;
		}
		lua_pop(L, 1);
	}
	lua_pushlstring(L, f->value.p, f->value.n);
	lua_rawset(L, -3);
}

static void on_answer(const struct http_head *response, const uint8_t *body, size_t len,
		      const struct http_head *trailers, uint16_t status, void *arg)
{
	struct lua_call *c = arg;
	lua_State *L = c->co;
	(void)trailers;
	c->side = NULL;
	if (!response || len >= ANSWER_MAX) {
		lua_answered(c, failure_push(L));
		return;
	}
	lua_createtable(L, 0, (int)response->field_count + 1);
	lua_pushfstring(L, "%d", (int)status);
	lua_setfield(L, -2, ":status");
	for (size_t i = 0; i < response->field_count; i++)
		field_set(L, &response->fields[i], c->duplicates);
	if (len)
		lua_pushlstring(L, (const char *)body, len);
	else
		lua_pushnil(L);
	lua_answered(c, 2);
}

static void on_unwatched(const struct http_head *response, const uint8_t *body, size_t len,
			 const struct http_head *trailers, uint16_t status, void *arg)
{
	(void)response;
	(void)body;
	(void)len;
	(void)trailers;
	(void)status;
	(void)arg;
	unwatched--;
}

/* --- the call */

struct options {
	lua_Integer timeout_ms;
	bool unwatched, duplicates;
};

static bool option_flag(lua_State *L, const char *name)
{
	lua_getfield(L, 5, name);
	if (!lua_isnil(L, -1) && !lua_isboolean(L, -1))
		luaL_error(L, "httpCall(): %s must be 'true', 'false', or empty", name);
	bool flag = lua_toboolean(L, -1);
	lua_pop(L, 1);
	return flag;
}

static void options_read(lua_State *L, struct options *o)
{
	if (lua_istable(L, 5)) {
		lua_getfield(L, 5, "timeout_ms");
		o->timeout_ms = luaL_optinteger(L, -1, 0);
		lua_pop(L, 1);
		o->unwatched = option_flag(L, "asynchronous");
		o->duplicates = option_flag(L, "return_duplicate_headers");
	} else {
		o->timeout_ms = luaL_checkinteger(L, 5);
		if (!lua_isnoneornil(L, 6) && !lua_isboolean(L, 6))
			luaL_error(L, "http call asynchronous flag must be 'true', 'false', or empty");
		o->unwatched = lua_toboolean(L, 6);
	}
	if (o->timeout_ms < 0)
		luaL_error(L, "http call timeout must be >= 0");
	if (!o->timeout_ms || o->timeout_ms > TIMEOUT_MAX_MS)
		o->timeout_ms = TIMEOUT_MAX_MS;
}

int lua_http_call(lua_State *L)
{
	struct lua_call *c = lua_object_check(L, "weft.handle");
	const char *cluster = luaL_checkstring(L, 2);
	struct options o = { 0 };
	size_t len = 0;

	luaL_checktype(L, 3, LUA_TTABLE);
	const char *body = luaL_optlstring(L, 4, NULL, &len);
	if (len >= ANSWER_MAX)
		return luaL_error(L, "httpCall(): a body of less than 64 KiB");
	options_read(L, &o);
	if (!o.unwatched)
		lua_yield_check(L, c, "httpCall");
	side_call_cancel(TAKE(c->side)); /* of one that could not wait */
	if (++c->side_count > CALLS_MAX)
		return luaL_error(L, "httpCall(): at most %d in one callback", CALLS_MAX);
	http_head_free(c->outgoing);
	c->outgoing = http_head_new();
	if (!c->outgoing)
		return luaL_error(L, "out of memory");
	lua_fields_put(L, 3, c->outgoing, NULL);
	if (!c->outgoing->path.p || !c->outgoing->method.p || !c->outgoing->authority.p)
		return luaL_error(L, "http call headers must include ':path', ':method', and ':authority'");
	lua_vm_steps(L, 1000 + len);
	c->outgoing->version = HTTP_1_1;
	c->outgoing->content_length = body ? (int64_t)len : -1;
	if (!c->outgoing->scheme.p)
		c->outgoing->scheme = http_head_text(c->outgoing, "http", 4);
	if (o.unwatched) {
		if (unwatched < UNWATCHED_MAX && side_call_new(c->x->w, c->x->pod, cluster, TAKE(c->outgoing), body,
							       len, (uint32_t)o.timeout_ms, on_unwatched, NULL))
			unwatched++;
		return 0;
	}
	c->duplicates = o.duplicates;
	c->side = side_call_new(c->x->w, c->x->pod, cluster, TAKE(c->outgoing), body, len, (uint32_t)o.timeout_ms,
				on_answer, c);
	if (!c->side)
		return failure_push(L);
	c->wants = LUA_WANTS_ANSWER;
	return lua_yield(L, 0);
}
