/* SPDX-License-Identifier: Apache-2.0 */
/* A Lua machine of LuaJIT's interpreter for the scripts of one object of filters, on one worker: what scripts may use of
 * Lua, and how much of instructions and memory. One thread. */
#pragma once

#include "agent/model/filters.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lua.h>

struct json_t;

enum {
	LUA_INSTRUCTIONS_MAX = 1000000, /* of one callback: 10 ms or so */
	LUA_MEMORY_MAX = 1 << 20,	/* that one callback may add */
	LUA_STEPS_MAX = 4000000,	/* of pattern matching and the like in one callback */
	LUA_KEPT_MAX = 4 << 20,		/* bytes that the globals of all scripts of a machine may have */
	LUA_VMS_MAX = 64,		/* of one worker that are not in use */
};

#define LUA_FILTER_NAME "envoy.filters.http.lua"

enum lua_over { LUA_WITHIN, LUA_OVER_INSTRUCTIONS, LUA_OVER_TIME, LUA_OVER_MEMORY, LUA_OVER_STEPS };

/* What a callback has left, also when it goes on after waiting. */
struct lua_budget {
	size_t steps, instructions, memory;
	uint64_t time_ns; /* of the processor's */
};

struct lua_unit {	  /* a piece of code (lua_unit.c) */
	const char *code; /* NULL: none */
	const char *name;
	int chunk;	  /* registry reference; LUA_NOREF: it does not compile */
	int functions[2]; /* envoy_on_request, envoy_on_response; LUA_NOREF: it has none */
	bool begun;	  /* its top level ran */
	uint64_t failed_ns;
};

struct lua_vm {
	lua_State *L, *running;
	const struct http_filters *filters; /* a reference */
	unsigned int refs;		    /* requests; the list of machines is not counted */
	bool listed;
	uint64_t used_ns;
	struct lua_vm *next;
	size_t bytes, bytes_max; /* max: SIZE_MAX unless a script runs */
	size_t collected;	 /* bytes after the last full collection */
	size_t suspended;	 /* callbacks that wait */
	struct lua_budget *budget;
	size_t steps_left, instructions_left;
	uint64_t began_ns, began_cpu_ns;
	enum lua_over over;
	struct lua_unit *units;
	size_t unit_count;
	struct json_t **contexts, **metadata; /* by route */
	void *user;			      /* whose callback runs */
};

/* The machine for these filters: made when there is none. NULL: no memory. */
struct lua_vm *lua_vm_get(const struct http_filters *filters, uint64_t now_ns);
void lua_vm_release(struct lua_vm *vm);
void lua_vms_clear(void); /* all that are not in use, of this thread: for tests */
/* After a callback: when scripts have kept too much, their globals begin anew. */
void lua_vm_settle(struct lua_vm *vm);

void lua_budget_fill(struct lua_budget *b);
/* Resumes co with nargs values on its stack, within the budget, which is what is left then. LUA_YIELD, 0, or an error with its
 * message on co's stack; vm->over tells whether a limit was the reason (also when the script caught the error). */
int lua_vm_resume(struct lua_vm *vm, lua_State *co, int nargs, struct lua_budget *budget, void *user);
struct lua_vm *lua_vm_of(lua_State *L);
/* Takes from the budget of steps; raises an error when it is used up. */
void lua_vm_steps(lua_State *L, size_t steps);

/* Scripts of one worker, and what is wrong with them, may be so many lines a second, whoever asks. */
bool lua_log_allowed(void);

/* --- lua_unit.c */
int lua_units_new(struct lua_vm *vm); /* 0 or -ENOMEM; before there is a machine */
void lua_units_free(struct lua_vm *vm);
void lua_units_load(struct lua_vm *vm); /* compiles; may raise an error */
void lua_unit_reset(struct lua_vm *vm, size_t unit);
/* *ref: the function, LUA_NOREF when it has none. 0; -EINVAL: it does not compile, or failed, which was logged. */
int lua_unit_function(struct lua_vm *vm, size_t unit, bool response, int *ref);

struct lua_choice {
	size_t unit;
	bool disabled, metadata_own;
	const struct json_t *context, *metadata; /* objects; NULL: none */
};
typedef bool (*lua_route_applies)(const struct lua_route *r, const void *arg);
/* What a script runs for a request to which those routes apply. */
void lua_unit_choose(const struct lua_vm *vm, size_t script, lua_route_applies applies, const void *arg,
		     struct lua_choice *out);

/* --- lua_library.c */
int lua_library_open(lua_State *L); /* protected; leaves the metatable of environments in the registry */
/* --- lua_string.c: find, match, gmatch, gsub and the like with a budget, into the table at the top */
void lua_string_functions(lua_State *L);
/* --- lua_api.c: what handles are made of */
void lua_api_register(lua_State *L);
