/* SPDX-License-Identifier: Apache-2.0 */
/* What a script's handle reaches: one callback of one request. For lua*.c only. */
#pragma once

#include "agent/helper/filter/lua_vm.h"
#include "agent/helper/route/exchange.h"

#include <lauxlib.h>

struct lua_call {
	struct exchange *x;
	struct http_head *head; /* the request's or the response's */
	bool response;
	uint64_t serial; /* of this callback: objects of others are refused */
	const char *name;
	lua_State *co;
	int metadata; /* registry reference of dynamicMetadata()'s table; LUA_NOREF: none yet */
	bool path_changed;
	/* what it yielded for */
	bool wants_body, responded;
	uint16_t status;
	char *body; /* of respond(); NULL: none */
	struct http_head *extra;
};

/* Pushes the handle for L's running callback. */
void lua_handle_push(lua_State *L, const struct lua_call *call);
/* Pushes what body() returns. */
void lua_body_push(lua_State *L, const uint8_t *body, size_t len);
/* A new object of this class ("weft.headers") for the running callback. */
void lua_object_push(lua_State *L, const char *class, uint64_t serial);
/* The running callback, whose object of that class the first argument must be. */
struct lua_call *lua_object_check(lua_State *L, const char *class);
void lua_class_register(lua_State *L, const char *class, const struct luaL_Reg *methods, lua_CFunction pairs);
void lua_headers_register(lua_State *L); /* lua_headers.c */
/* A field name of the script's, in lower case, in buf. Raises an error when it is none. */
const char *lua_name_check(lua_State *L, int index, char *buf, size_t size);
