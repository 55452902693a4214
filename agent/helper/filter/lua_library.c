/* SPDX-License-Identifier: Apache-2.0 */
/* What there is of Lua's own functions: those that can neither reach outside nor run long in one instruction, in tables that
 * can't be changed. */
#include <errno.h>
#include <string.h>

#include <lauxlib.h>
#include <lualib.h>

#include "agent/base/mem.h"
#include "agent/helper/filter/lua_vm.h"

/* pairs() of the host's objects is theirs. */
static int on_pairs(lua_State *L)
{
	luaL_checkany(L, 1);
	if (luaL_getmetafield(L, 1, "__pairs")) {
		lua_pushvalue(L, 1);
		lua_call(L, 1, 3);
		return 3;
	}
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_getfield(L, LUA_REGISTRYINDEX, "weft.next");
	lua_pushvalue(L, 1);
	lua_pushnil(L);
	return 3;
}

static void library_open(lua_State *L, lua_CFunction f, const char *name)
{
	lua_pushcfunction(L, f);
	lua_pushstring(L, name);
	lua_call(L, 1, 0);
}

static int on_write(lua_State *L)
{
	return luaL_error(L, "the libraries can't be changed");
}

static int on_less(lua_State *L)
{
	lua_vm_steps(L, 1);
	lua_pushboolean(L, lua_lessthan(L, 1, 2));
	return 1;
}

/* table.sort() may need the square of what there is, in one instruction: so each comparison counts. */
static int on_sort(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 2);
	lua_getfield(L, LUA_REGISTRYINDEX, "weft.sort");
	lua_pushvalue(L, 1);
	if (lua_isnil(L, 2))
		lua_pushcfunction(L, on_less);
	else
		lua_pushvalue(L, 2);
	lua_call(L, 2, 0);
	return 0;
}

/* The handler of Lua's own runs inside of the error, where no hook is called: one that loops could not be stopped. */
static const char xpcall[] = "local pcall = pcall\n"
			     "local function done(handler, ok, ...)\n"
			     "  if ok then return true, ... end\n"
			     "  return false, handler((...))\n"
			     "end\n"
			     "return function(f, handler, ...) return done(handler, pcall(f, ...)) end\n";

/* The table at the top becomes one that can be read only. */
static void protect(lua_State *L)
{
	lua_newtable(L);
	lua_newtable(L);
	lua_pushvalue(L, -3);
	lua_setfield(L, -2, "__index");
	lua_pushcfunction(L, on_write);
	lua_setfield(L, -2, "__newindex");
	lua_pushboolean(L, 0);
	lua_setfield(L, -2, "__metatable");
	lua_setmetatable(L, -2);
	lua_remove(L, -2);
}

static void library_copy(lua_State *L, const char *name, const char *const *members)
{
	lua_getglobal(L, name);
	lua_newtable(L);
	for (; *members; members++) {
		lua_getfield(L, -2, *members);
		lua_setfield(L, -2, *members);
	}
	lua_remove(L, -2);
}

/* Strings have methods: those of the copy, and no way to the metatable. */
static void strings_set(lua_State *L)
{
	lua_string_functions(L);
	lua_pushliteral(L, "");
	lua_getmetatable(L, -1);
	lua_pushvalue(L, -3);
	lua_setfield(L, -2, "__index");
	lua_pushboolean(L, 0);
	lua_setfield(L, -2, "__metatable");
	lua_pop(L, 2);
}

/* A script does not get hold of the coroutine that it runs in itself: who has it could resume it for another request. */
static int on_running(lua_State *L)
{
	if (L == lua_vm_of(L)->running)
		lua_pushnil(L);
	else
		lua_pushthread(L);
	return 1;
}

int lua_library_open(lua_State *L)
{
	static const char *const base[] = { "assert",	"error",    "getmetatable", "ipairs", "next",
					    "pcall",	"rawequal", "rawget",	    "select", "setmetatable",
					    "tonumber", "tostring", "type",	    "unpack", NULL };
	static const char *const string[] = {
		"byte", "char", "format", "len", "lower", "rep", "reverse", "upper", NULL
	};
	static const char *const table[] = { "insert", "maxn", "remove", "concat", NULL };
	static const char *const math[] = { "abs",  "ceil",  "cos", "exp",   "floor", "fmod", "frexp",
					    "huge", "ldexp", "log", "log10", "max",   "min",  "modf",
					    "pi",   "pow",   "sin", "sqrt",  "tan",   NULL };
	static const char *const bit[] = { "arshift", "band", "bnot",	"bor",	 "bswap", "bxor", "lshift",
					   "rol",     "ror",  "rshift", "tobit", "tohex", NULL };
	static const char *const coroutine[] = { "create", "resume", "status", "wrap", "yield", NULL };
	static const struct {
		const char *name;
		const char *const *members;
	} libraries[] = {
		{ "string", string }, { "table", table }, { "math", math }, { "bit", bit }, { "coroutine", coroutine }
	};

	library_open(L, luaopen_base, "");
	library_open(L, luaopen_string, LUA_STRLIBNAME);
	library_open(L, luaopen_table, LUA_TABLIBNAME);
	library_open(L, luaopen_math, LUA_MATHLIBNAME);
	library_open(L, luaopen_bit, LUA_BITLIBNAME);
	lua_getglobal(L, "next");
	lua_setfield(L, LUA_REGISTRYINDEX, "weft.next");
	lua_getglobal(L, "table");
	lua_getfield(L, -1, "sort");
	lua_setfield(L, LUA_REGISTRYINDEX, "weft.sort");
	lua_pop(L, 1);

	lua_newtable(L); /* what environments see */
	for (size_t i = 0; base[i]; i++) {
		lua_getglobal(L, base[i]);
		lua_setfield(L, -2, base[i]);
	}
	lua_pushcfunction(L, on_pairs);
	lua_setfield(L, -2, "pairs");
	if (luaL_loadbuffer(L, xpcall, sizeof(xpcall) - 1, "=xpcall"))
		return lua_error(L);
	lua_call(L, 0, 1);
	lua_setfield(L, -2, "xpcall");
	for (size_t i = 0; i < ARRAY_SIZE(libraries); i++) {
		library_copy(L, libraries[i].name, libraries[i].members);
		if (i == 0)
			strings_set(L);
		if (i == 1) {
			lua_pushcfunction(L, on_sort);
			lua_setfield(L, -2, "sort");
		}
		if (libraries[i].members == coroutine) {
			lua_pushcfunction(L, on_running);
			lua_setfield(L, -2, "running");
		}
		protect(L);
		lua_setfield(L, -2, libraries[i].name);
	}
	lua_api_register(L);
	lua_getfield(L, -1, "EnvoyTimestampResolution");
	protect(L);
	lua_setfield(L, -2, "EnvoyTimestampResolution");
	lua_newtable(L);
	lua_insert(L, -2);
	lua_setfield(L, -2, "__index");
	lua_pushboolean(L, 0);
	lua_setfield(L, -2, "__metatable");
	lua_setfield(L, LUA_REGISTRYINDEX, "weft.environment"); /* their metatable */
	return 0;
}
