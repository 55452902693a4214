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
#include "agent/model/identity.h"

enum { LOG_LINE_MAX = 500, LOG_LINES_PER_S = 50, RESPOND_BODY_MAX = 256 << 10, BASE64_MAX = 64 << 10 };

/* --- objects */

void lua_object_push(lua_State *L, const char *class, uint64_t serial)
{
	uint64_t *object = lua_newuserdata(L, sizeof(*object));
	*object = serial;
	luaL_getmetatable(L, class);
	lua_setmetatable(L, -2);
}

struct lua_call *lua_object_check(lua_State *L, const char *class)
{
	const uint64_t *object = luaL_checkudata(L, 1, class);
	struct lua_call *c = lua_vm_of(L)->user;

	if (!c || c->serial != *object)
		luaL_error(L, "an object is used outside of the callback that it was given to");
	return c;
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

static int sub_object(lua_State *L, const char *of, const char *class)
{
	lua_object_push(L, class, lua_object_check(L, of)->serial);
	return 1;
}

void lua_handle_push(lua_State *L, const struct lua_call *call)
{
	lua_object_push(L, "weft.handle", call->serial);
}

static int on_headers(lua_State *L)
{
	return sub_object(L, "weft.handle", "weft.headers");
}

static int on_metadata(lua_State *L)
{
	return sub_object(L, "weft.handle", "weft.metadata");
}

static int on_stream_info(lua_State *L)
{
	return sub_object(L, "weft.handle", "weft.streamInfo");
}

static int on_connection(lua_State *L)
{
	return sub_object(L, "weft.handle", "weft.connection");
}

static int on_unsupported(lua_State *L)
{
	return luaL_error(L, "%s() is not supported", lua_tostring(L, lua_upvalueindex(1)));
}

/* --- body */

static int on_body_length(lua_State *L)
{
	lua_pushinteger(L, (lua_Integer)lua_objlen(L, lua_upvalueindex(1)));
	return 1;
}

static int on_body_bytes(lua_State *L)
{
	size_t n;
	const char *body = lua_tolstring(L, lua_upvalueindex(1), &n);
	lua_Integer from = luaL_optinteger(L, 2, 0), len = luaL_optinteger(L, 3, (lua_Integer)n);

	if (from < 0 || len < 0 || (size_t)from > n || (size_t)len > n - (size_t)from)
		return luaL_error(L, "getBytes(): the range is beyond the body");
	lua_pushlstring(L, body + from, (size_t)len);
	return 1;
}

void lua_body_push(lua_State *L, const uint8_t *body, size_t len)
{
	lua_newtable(L);
	lua_pushlstring(L, (const char *)body, len);
	lua_pushvalue(L, -1);
	lua_pushcclosure(L, on_body_length, 1);
	lua_setfield(L, -3, "length");
	lua_pushcclosure(L, on_body_bytes, 1);
	lua_setfield(L, -2, "getBytes");
}

static void yield_check(lua_State *L, const struct lua_call *c, const char *what)
{
	if (c->response)
		luaL_error(L, "%s() is not supported in the response path", what);
	if (L != c->co)
		luaL_error(L, "%s() can't be called in a coroutine of the script's own", what);
}

static int on_body(lua_State *L)
{
	struct lua_call *c = lua_object_check(L, "weft.handle");

	yield_check(L, c, "body");
	c->wants_body = true;
	return lua_yield(L, 0);
}

/* --- respond */

static void extra_put(lua_State *L, struct lua_call *c, int value)
{
	char buf[256];
	const char *name = lua_name_check(L, -2, buf, sizeof(buf));
	size_t n;
	const char *text = luaL_checklstring(L, value, &n);

	if (str_eq(name, ":status")) {
		long status = strtol(text, NULL, 10);
		if (status < 200 || status > 599)
			luaL_error(L, ":status must be between 200 and 599");
		c->status = (uint16_t)status;
		return;
	}
	if (field_put(c->extra, (struct http_string){ name, (uint32_t)strlen(name) },
		      (struct http_string){ text, (uint32_t)n }, false) < 0)
		luaL_error(L, "out of memory");
}

/* respond(headers, body): the script does not go on. */
static int on_respond(lua_State *L)
{
	struct lua_call *c = lua_object_check(L, "weft.handle");
	size_t n = 0;

	yield_check(L, c, "respond");
	luaL_checktype(L, 2, LUA_TTABLE);
	const char *body = luaL_optlstring(L, 3, NULL, &n);
	if (body && (n > RESPOND_BODY_MAX || memchr(body, 0, n)))
		return luaL_error(L, "respond(): a body of at most 256 KiB, of text");
	http_head_free(c->extra);
	c->extra = http_head_new();
	free(c->body);
	c->body = body && n ? strdup(body) : NULL;
	c->status = 0;
	if (!c->extra || (body && n && !c->body))
		return luaL_error(L, "out of memory");
	lua_settop(L, 3);
	for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1)) {
		if (lua_type(L, -2) != LUA_TSTRING)
			return luaL_error(L, "respond(): headers are named by strings");
		if (!lua_istable(L, -1)) {
			extra_put(L, c, lua_gettop(L));
			continue;
		}
		for (int i = 1; i <= 100; i++) {
			lua_pushvalue(L, -2); /* the name, under each value */
			lua_rawgeti(L, -2, i);
			bool last = lua_isnil(L, -1);
			if (!last)
				extra_put(L, c, lua_gettop(L));
			lua_pop(L, 2);
			if (last)
				break;
		}
	}
	if (!c->status)
		return luaL_error(L, "respond(): :status must be between 200 and 599");
	c->responded = true;
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

static int on_nothing(lua_State *L)
{
	lua_pushnil(L);
	return 1;
}

static int on_no_pairs(lua_State *L)
{
	lua_pushcfunction(L, on_nothing);
	return 1;
}

/* --- streamInfo() */

static struct lua_call *info_check(lua_State *L)
{
	return lua_object_check(L, "weft.streamInfo");
}

static int on_protocol(lua_State *L)
{
	enum http_version v = info_check(L)->x->head->version;
	lua_pushstring(L, v == HTTP_2 ? "HTTP/2" : v == HTTP_1_0 ? "HTTP/1.0" : "HTTP/1.1");
	return 1;
}

static int address_push(lua_State *L, const struct addr_port *a)
{
	char text[ADDR_PORT_TEXT_MAX];
	lua_pushstring(L, addr_port_text(a, text));
	return 1;
}

static int on_remote(lua_State *L)
{
	return address_push(L, &info_check(L)->x->source);
}

static int on_local(lua_State *L)
{
	return address_push(L, &info_check(L)->x->destination);
}

static int on_server_name(lua_State *L)
{
	info_check(L);
	lua_pushliteral(L, "");
	return 1;
}

static int on_route_name(lua_State *L)
{
	const struct http_route *route = info_check(L)->x->route;
	lua_pushstring(L, route && route->name ? route->name : "");
	return 1;
}

static int on_dynamic_metadata(lua_State *L)
{
	return sub_object(L, "weft.streamInfo", "weft.dynamicMetadata");
}

/* Pushes the table; it lives as long as the request. */
static void metadata_push(lua_State *L, struct lua_call *c)
{
	if (c->metadata == LUA_NOREF) {
		lua_newtable(L);
		c->metadata = luaL_ref(L, LUA_REGISTRYINDEX);
	}
	lua_rawgeti(L, LUA_REGISTRYINDEX, c->metadata);
}

static int on_dynamic_get(lua_State *L)
{
	struct lua_call *c = lua_object_check(L, "weft.dynamicMetadata");
	luaL_checkstring(L, 2);
	metadata_push(L, c);
	lua_pushvalue(L, 2);
	lua_rawget(L, -2);
	return 1;
}

static int on_dynamic_set(lua_State *L)
{
	struct lua_call *c = lua_object_check(L, "weft.dynamicMetadata");
	luaL_checkstring(L, 2);
	luaL_checkstring(L, 3);
	lua_settop(L, 4);
	metadata_push(L, c);
	lua_pushvalue(L, 2);
	lua_rawget(L, 5);
	if (!lua_istable(L, -1)) {
		lua_pop(L, 1);
		lua_newtable(L);
		lua_pushvalue(L, 2);
		lua_pushvalue(L, -2);
		lua_rawset(L, 5);
	}
	lua_pushvalue(L, 3);
	lua_pushvalue(L, 4);
	lua_rawset(L, -3);
	return 0;
}

/* --- connection() */

static int on_ssl(lua_State *L)
{
	const struct lua_call *c = lua_object_check(L, "weft.connection");
	if (!c->x->peer)
		return on_nothing(L);
	lua_object_push(L, "weft.ssl", c->serial);
	return 1;
}

static int on_presented(lua_State *L)
{
	lua_object_check(L, "weft.ssl");
	lua_pushboolean(L, 1);
	return 1;
}

static int uri_push(lua_State *L, const struct identity *who)
{
	lua_newtable(L);
	if (who) {
		lua_pushstring(L, who->uri);
		lua_rawseti(L, -2, 1);
	}
	return 1;
}

static int on_peer_uri(lua_State *L)
{
	return uri_push(L, lua_object_check(L, "weft.ssl")->x->peer);
}

static int on_local_uri(lua_State *L)
{
	const struct worker_pod *pod = lua_object_check(L, "weft.ssl")->x->pod;
	return uri_push(L, pod ? pod->identity : NULL);
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
	static const char *const names[] = { "bodyChunks",	"trailers",	   "httpCall",	    "importPublicKey",
					     "verifySignature", "timestampString", "filterContext", "virtualHost" };
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		lua_pushstring(L, names[i]);
		lua_pushcclosure(L, on_unsupported, 1);
		lua_setfield(L, -2, names[i]);
	}
}

void lua_api_register(lua_State *L)
{
	static const struct luaL_Reg handle[] = { { "headers", on_headers },
						  { "body", on_body },
						  { "respond", on_respond },
						  { "metadata", on_metadata },
						  { "streamInfo", on_stream_info },
						  { "connection", on_connection },
						  { "base64Escape", on_base64 },
						  { "timestamp", on_timestamp },
						  { NULL, NULL } };
	static const struct luaL_Reg metadata[] = { { "get", on_nothing }, { NULL, NULL } };
	static const struct luaL_Reg info[] = { { "protocol", on_protocol },
						{ "requestedServerName", on_server_name },
						{ "downstreamDirectRemoteAddress", on_remote },
						{ "downstreamRemoteAddress", on_remote },
						{ "downstreamLocalAddress", on_local },
						{ "routeName", on_route_name },
						{ "dynamicMetadata", on_dynamic_metadata },
						{ NULL, NULL } };
	static const struct luaL_Reg dynamic[] = { { "get", on_dynamic_get },
						   { "set", on_dynamic_set },
						   { NULL, NULL } };
	static const struct luaL_Reg connection[] = { { "ssl", on_ssl }, { NULL, NULL } };
	static const struct luaL_Reg ssl[] = { { "peerCertificatePresented", on_presented },
					       { "peerCertificateValidated", on_presented },
					       { "uriSanPeerCertificate", on_peer_uri },
					       { "uriSanLocalCertificate", on_local_uri },
					       { NULL, NULL } };
	lua_class_register(L, "weft.handle", handle, NULL);
	luaL_getmetatable(L, "weft.handle");
	lua_getfield(L, -1, "__index");
	logs_register(L);
	unsupported_register(L);
	lua_pop(L, 2);
	lua_class_register(L, "weft.metadata", metadata, on_no_pairs);
	lua_class_register(L, "weft.streamInfo", info, NULL);
	lua_class_register(L, "weft.dynamicMetadata", dynamic, on_no_pairs);
	lua_class_register(L, "weft.connection", connection, NULL);
	lua_class_register(L, "weft.ssl", ssl, NULL);
	lua_headers_register(L);
	lua_newtable(L);
	lua_pushinteger(L, 0);
	lua_setfield(L, -2, "MILLISECOND");
	lua_pushinteger(L, 1);
	lua_setfield(L, -2, "MICROSECOND");
	lua_setfield(L, -2, "EnvoyTimestampResolution");
}
