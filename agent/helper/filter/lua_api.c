/* SPDX-License-Identifier: Apache-2.0 */
/* The handle of Envoy's Lua filter. Functions here run inside a script: they may be left by an error at any call of Lua's,
 * so they own nothing across one. */
#include "agent/helper/filter/lua_api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "agent/base/log.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/helper/filter/fields.h"
#include "agent/helper/worker.h"

enum { LOG_LINE_MAX = 500, LOG_LINES_PER_S = 50, BASE64_MAX = 64 << 10 };

/* --- objects */

struct object {
	uint64_t serial; /* first: lua_body.c knows it there */
	int part;
};

void lua_object_push(lua_State *L, const char *class, uint64_t serial, int part)
{
	struct object *object = lua_newuserdata(L, sizeof(*object));
	*object = (struct object){ serial, part };
	luaL_getmetatable(L, class);
	lua_setmetatable(L, -2);
}

struct lua_call *lua_serial_check(lua_State *L, uint64_t serial)
{
	struct lua_call *c = lua_vm_of(L)->user;

	if (!c || c->serial != serial)
		luaL_error(L, "an object is used outside of the callback that it was given to");
	return c;
}

struct lua_call *lua_object_check(lua_State *L, const char *class)
{
	const struct object *object = luaL_checkudata(L, 1, class);
	return lua_serial_check(L, object->serial);
}

int lua_object_part(lua_State *L)
{
	return ((const struct object *)lua_touserdata(L, 1))->part;
}

void lua_class_register(lua_State *L, const char *class, const struct luaL_Reg *methods, lua_CFunction pairs)
{
	luaL_newmetatable(L, class);
	lua_newtable(L);
	for (; methods->name; methods++) {
		lua_pushcfunction(L, methods->func);
		lua_setfield(L, -2, methods->name);
	}
	lua_setfield(L, -2, "__index");
	lua_pushboolean(L, 0);
	lua_setfield(L, -2, "__metatable");
	if (pairs) {
		lua_pushcfunction(L, pairs);
		lua_setfield(L, -2, "__pairs");
	}
	lua_pop(L, 1);
}

int lua_sub_object(lua_State *L, const char *of, const char *class)
{
	lua_object_push(L, class, lua_object_check(L, of)->serial, 0);
	return 1;
}

void lua_handle_push(lua_State *L, const struct lua_call *call)
{
	lua_object_push(L, "weft.handle", call->serial, 0);
}

static int on_headers(lua_State *L)
{
	return lua_sub_object(L, "weft.handle", "weft.headers");
}

static int on_unsupported(lua_State *L)
{
	return luaL_error(L, "%s() is not supported", lua_tostring(L, lua_upvalueindex(1)));
}

void lua_yield_check(lua_State *L, const struct lua_call *c, const char *what)
{
	if (L != c->co)
		luaL_error(L, "%s() can't be called in a coroutine of the script's own", what);
}

/* --- tables of fields */

static void pseudo_put(lua_State *L, struct http_head *head, const char *name, const char *text, size_t n)
{
	struct http_string *member = str_eq(name, ":method")	? &head->method :
				     str_eq(name, ":path")	? &head->path :
				     str_eq(name, ":scheme")	? &head->scheme :
				     str_eq(name, ":authority") ? &head->authority :
								  NULL;
	bool fits = n > 0 && (member != &head->path || text[0] == '/') &&
		    (member != &head->method || http_name_valid(text, n));

	for (size_t i = 0; i < n; i++)
		fits &= text[i] > ' ' && text[i] < 0x7f;
	if (!member || !fits) {
		luaL_error(L, "\"%s\": there is no such header of a request, or its value can't be one", name);
		return; /* not reached */
	}
	*member = http_head_text(head, text, n);
	if (!member->p)
		luaL_error(L, "out of memory");
}

static void field_from_table(lua_State *L, int value, struct http_head *head, uint16_t *status)
{
	char buf[256];
	const char *name = lua_name_check(L, -2, buf, sizeof(buf));
	size_t n;
	const char *text = luaL_checklstring(L, value, &n);

	lua_vm_steps(L, 50 + n);
	if (status && str_eq(name, ":status")) {
		long number = strtol(text, NULL, 10);
		if (number < 200 || number > 599)
			luaL_error(L, ":status must be between 200 and 599");
		*status = (uint16_t)number;
		return;
	}
	if (!status && (name[0] == ':' || str_eq(name, "host"))) {
		pseudo_put(L, head, name[0] == ':' ? name : ":authority", text, n);
		return;
	}
	if (field_put(head, (struct http_string){ name, (uint32_t)strlen(name) },
		      (struct http_string){ text, (uint32_t)n }, false) < 0)
		luaL_error(L, "out of memory");
}

void lua_fields_put(lua_State *L, int index, struct http_head *head, uint16_t *status)
{
	int top = lua_gettop(L);

	for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
		if (lua_type(L, -2) != LUA_TSTRING)
			luaL_error(L, "headers are named by strings");
		if (!lua_istable(L, -1)) {
			field_from_table(L, top + 2, head, status);
			continue;
		}
		for (int i = 1; i <= 100; i++) {
			lua_pushvalue(L, -2); /* the name, under each value */
			lua_rawgeti(L, -2, i);
			bool last = lua_isnil(L, -1);
			if (!last)
				field_from_table(L, lua_gettop(L), head, status);
			lua_pop(L, 2);
			if (last)
				break;
		}
	}
}

/* --- respond */

/* respond(headers, body): the script does not go on. */
static int on_respond(lua_State *L)
{
	struct lua_call *c = lua_object_check(L, "weft.handle");
	size_t n = 0;

	if (c->response)
		return luaL_error(L, "respond() is not supported in the response path");
	lua_yield_check(L, c, "respond");
	luaL_checktype(L, 2, LUA_TTABLE);
	const char *body = luaL_optlstring(L, 3, NULL, &n);
	if (n > LUA_TEXT_MAX)
		return luaL_error(L, "respond(): a body of at most 256 KiB");
	http_head_free(c->extra);
	c->extra = http_head_new();
	free(c->body);
	c->body = n ? malloc(n) : NULL;
	c->body_len = n;
	c->status = 0;
	if (!c->extra || (n && !c->body))
		return luaL_error(L, "out of memory");
	if (n)
		memcpy(c->body, body, n);
	lua_settop(L, 3);
	lua_fields_put(L, 2, c->extra, &c->status);
	if (!c->status)
		return luaL_error(L, "respond(): :status must be between 200 and 599");
	c->wants = LUA_WANTS_RESPOND;
	return lua_yield(L, 0);
}

/* --- log */

bool lua_log_allowed(void)
{
	static __thread uint64_t second;
	static __thread unsigned int lines;
	uint64_t now = clock_now_ns() / 1000000000;

	if (now != second) {
		second = now;
		lines = 0;
	}
	return lines++ < LOG_LINES_PER_S;
}

static int on_log(lua_State *L)
{
	const struct lua_call *c = lua_object_check(L, "weft.handle");
	enum log_level level = (enum log_level)lua_tointeger(L, lua_upvalueindex(1));
	size_t n;
	const char *text = luaL_checklstring(L, 2, &n);
	char line[LOG_LINE_MAX];

	if (level > log_get_level() || !lua_log_allowed())
		return 0;
	n = n < sizeof(line) ? n : sizeof(line) - 1;
	for (size_t i = 0; i < n; i++)
		line[i] = (unsigned char)text[i] < ' ' || text[i] == 0x7f ? '?' : text[i];
	line[n] = '\0';
	log_at(level, "lua %s: %s", c->name, line);
	return 0;
}

/* --- small things */

static int on_base64(lua_State *L)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t n;
	lua_object_check(L, "weft.handle");
	const uint8_t *in = (const uint8_t *)luaL_checklstring(L, 2, &n);
	if (n > BASE64_MAX)
		return luaL_error(L, "base64Escape(): at most 64 KiB");
	lua_vm_steps(L, n);
	char *out = lua_newuserdata(L, (n + 2) / 3 * 4 + 1); /* freed by the machine, whatever happens */
	size_t len = 0;
	for (size_t i = 0; i < n; i += 3) {
		uint32_t v = (uint32_t)in[i] << 16 | (uint32_t)(i + 1 < n ? in[i + 1] : 0) << 8 |
			     (i + 2 < n ? in[i + 2] : 0);
		for (size_t k = 0; k < 4; k++)
			out[len++] = i + k > n ? '=' : digits[v >> (18 - 6 * k) & 63];
	}
	lua_pushlstring(L, out, len);
	return 1;
}

static int on_timestamp(lua_State *L)
{
	lua_object_check(L, "weft.handle");
	uint64_t us = clock_wall_ns() / 1000;
	lua_pushnumber(L, (lua_Number)(luaL_optinteger(L, 2, 0) == 1 ? us : us / 1000));
	return 1;
}

static int on_timestamp_string(lua_State *L)
{
	char text[24];

	lua_object_check(L, "weft.handle");
	uint64_t us = clock_wall_ns() / 1000;
	snprintf(text, sizeof(text), "%llu", (unsigned long long)(luaL_optinteger(L, 2, 0) == 1 ? us : us / 1000));
	lua_pushstring(L, text);
	return 1;
}

/* Routes are looked for again anyway. */
static int on_clear_route(lua_State *L)
{
	lua_object_check(L, "weft.handle");
	return 0;
}

/* --- all of it */

static void logs_register(lua_State *L)
{
	static const struct {
		const char *name;
		enum log_level level;
	} logs[] = { { "logTrace", LOG_DEBUG }, { "logDebug", LOG_DEBUG }, { "logInfo", LOG_INFO },
		     { "logWarn", LOG_WARN },	{ "logErr", LOG_ERROR },   { "logCritical", LOG_ERROR } };

	for (size_t i = 0; i < ARRAY_SIZE(logs); i++) {
		lua_pushinteger(L, logs[i].level);
		lua_pushcclosure(L, on_log, 1);
		lua_setfield(L, -2, logs[i].name);
	}
}

static void unsupported_register(lua_State *L)
{
	static const char *const names[] = { "importPublicKey", "verifySignature", "setUpstreamOverrideHost",
					     "virtualHost", "connectionStreamInfo" };
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		lua_pushstring(L, names[i]);
		lua_pushcclosure(L, on_unsupported, 1);
		lua_setfield(L, -2, names[i]);
	}
}

static void methods_add(lua_State *L, const struct luaL_Reg *methods)
{
	for (; methods->name; methods++) {
		lua_pushcfunction(L, methods->func);
		lua_setfield(L, -2, methods->name);
	}
}

void lua_api_register(lua_State *L)
{
	static const struct luaL_Reg handle[] = { { "headers", on_headers },
						  { "respond", on_respond },
						  { "httpCall", lua_http_call },
						  { "base64Escape", on_base64 },
						  { "timestamp", on_timestamp },
						  { "timestampString", on_timestamp_string },
						  { "clearRouteCache", on_clear_route },
						  { NULL, NULL } };
	lua_class_register(L, "weft.handle", handle, NULL);
	luaL_getmetatable(L, "weft.handle");
	lua_getfield(L, -1, "__index");
	methods_add(L, lua_body_methods);
	methods_add(L, lua_info_methods);
	logs_register(L);
	unsupported_register(L);
	lua_pop(L, 2);
	lua_body_register(L);
	lua_info_register(L);
	lua_headers_register(L);
	lua_newtable(L);
	lua_pushinteger(L, 0);
	lua_setfield(L, -2, "MILLISECOND");
	lua_pushinteger(L, 1);
	lua_setfield(L, -2, "MICROSECOND");
	lua_setfield(L, -2, "EnvoyTimestampResolution");
}
