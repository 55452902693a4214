/* SPDX-License-Identifier: Apache-2.0 */
/* A Lua machine of LuaJIT's interpreter for the scripts of one object of filters, on one worker: what scripts may use of
 * Lua, and how much of instructions and memory. One thread. */
#pragma once

#include "agent/model/filters.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lua.h>

enum {
	LUA_INSTRUCTIONS_MAX = 1000000, /* of one callback: 10 ms or so */
	LUA_MEMORY_MAX = 1 << 20,	/* that one callback may add */
	LUA_STEPS_MAX = 4000000,	/* of pattern matching and the like in one callback */
	LUA_VMS_MAX = 64,		/* of one worker that are not in use */
};

enum lua_over { LUA_WITHIN, LUA_OVER_INSTRUCTIONS, LUA_OVER_TIME, LUA_OVER_MEMORY, LUA_OVER_STEPS };

struct lua_vm {
	lua_State *L;
	const struct http_filters *filters; /* a reference */
	unsigned int refs;		    /* requests; the list of machines is not counted */
	bool listed;
	uint64_t used_ns;
	struct lua_vm *next;
	size_t bytes, bytes_max; /* max: SIZE_MAX unless a script runs */
	size_t steps_left, instructions_left;
	uint64_t began_ns, began_cpu_ns;
	enum lua_over over;
	int *chunks;   /* registry references, by script; LUA_NOREF: it does not compile */
	char **errors; /* why */
	void *user;    /* whose callback runs */
};

/* The machine for these filters: made when there is none. NULL: no memory. */
struct lua_vm *lua_vm_get(const struct http_filters *filters, uint64_t now_ns);
void lua_vm_release(struct lua_vm *vm);
void lua_vms_clear(void); /* all that are not in use, of this thread: for tests */

/* A new environment for one request, in which the script's own definitions are. Reference in *env. 0; -EINVAL: it does not
 * compile, or failed, which was logged. */
int lua_vm_environment(struct lua_vm *vm, size_t script, int *env);
/* Resumes co with nargs values on its stack, within the limits. LUA_YIELD, 0, or an error with its message on co's stack;
 * vm->over tells whether a limit was the reason (also when the script caught the error). fresh: the budget is new. */
int lua_vm_resume(struct lua_vm *vm, lua_State *co, int nargs, bool fresh, void *user);
struct lua_vm *lua_vm_of(lua_State *L);
/* Takes from the budget of steps; raises an error when it is used up. */
void lua_vm_steps(lua_State *L, size_t steps);

/* Scripts of one worker, and what is wrong with them, may be so many lines a second, whoever asks. */
bool lua_log_allowed(void);

/* --- lua_string.c: find, match, gmatch, gsub and the like with a budget, into the table at the top */
void lua_string_functions(lua_State *L);
/* --- lua_api.c: what handles are made of */
void lua_api_register(lua_State *L);
