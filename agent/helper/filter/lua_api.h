/* SPDX-License-Identifier: Apache-2.0 */
/* What a script's handle reaches: one callback of one request. For lua*.c only. */
#pragma once

#include "agent/helper/filter/lua_vm.h"
#include "agent/helper/route/exchange.h"

#include <lauxlib.h>

enum { LUA_TEXT_MAX = 256 << 10 }; /* of a body that a script makes */

enum lua_wants { /* what it yielded for */
		 LUA_WANTS_NOTHING,
		 LUA_WANTS_BODY,
		 LUA_WANTS_CHUNK,
		 LUA_WANTS_TRAILERS,
		 LUA_WANTS_ANSWER,  /* of httpCall() */
		 LUA_WANTS_RESPOND, /* to be the last */
};

struct lua_call {
	struct exchange *x;
	struct http_head *head; /* the request's or the response's */
	bool response;
	uint64_t serial; /* of this callback: objects of others are refused */
	const char *name;
	lua_State *co;
	struct lua_budget budget;
	struct lua_choice choice; /* what runs, and what the route says to it */
	int metadata;		  /* registry reference of dynamicMetadata()'s table; LUA_NOREF: none yet */
	bool claims_known;	  /* they are in that table */
	bool path_changed;
	enum lua_wants wants;
	bool wrap; /* an object also for no body */
	/* the body, once somebody asked for it; for all scripts of this direction */
	bool body_here, body_changed;
	bool chunks_over; /* this callback has seen it as its one chunk */
	uint8_t *bytes;
	size_t len;
	struct http_head *trailers;
	/* respond() */
	uint16_t status;
	void *body; /* NULL: none */
	size_t body_len;
	struct http_head *extra;
	/* httpCall() */
	struct http_head *outgoing;
	struct side_call *side;
	unsigned int side_count;
	bool duplicates; /* fields of the answer that are there twice are lists */
};

/* Pushes the handle for L's running callback. */
void lua_handle_push(lua_State *L, const struct lua_call *call);
/* A new object of this class ("weft.headers") for the running callback; part: which of its things. */
void lua_object_push(lua_State *L, const char *class, uint64_t serial, int part);
/* The running callback, whose object of that class the argument must be. */
struct lua_call *lua_object_check(lua_State *L, const char *class);
int lua_object_part(lua_State *L); /* of the first argument, which was checked */
struct lua_call *lua_serial_check(lua_State *L, uint64_t serial);
int lua_sub_object(lua_State *L, const char *of, const char *class);
void lua_class_register(lua_State *L, const char *class, const struct luaL_Reg *methods, lua_CFunction pairs);
/* Raises an error where a callback can't stop and go on. */
void lua_yield_check(lua_State *L, const struct lua_call *c, const char *what);
/* The fields of the table at index, into head; its ":status" is put into *status, the other pseudo-headers are its members. */
void lua_fields_put(lua_State *L, int index, struct http_head *head, uint16_t *status);
/* A field name of the script's, in lower case, in buf. Raises an error when it is none. */
const char *lua_name_check(lua_State *L, int index, char *buf, size_t size);

/* --- lua_headers.c */
enum { LUA_HEADERS, LUA_TRAILERS }; /* parts of the class weft.headers */
void lua_headers_register(lua_State *L);
/* --- lua_body.c: body(), bodyChunks(), trailers() */
void lua_body_register(lua_State *L);
extern const struct luaL_Reg lua_body_methods[];
int lua_body_results(struct lua_call *c); /* pushes what the callback yielded for; how many values */
/* --- lua_info.c: metadata(), streamInfo(), connection() */
void lua_info_register(lua_State *L);
extern const struct luaL_Reg lua_info_methods[];
/* --- lua_http_call.c */
int lua_http_call(lua_State *L);

/* --- lua.c: the answer to httpCall() is on c->co's stack, so many values. */
void lua_answered(struct lua_call *c, int values);
