/* SPDX-License-Identifier: Apache-2.0 */
/* What scripts are kept from: files, processes and other code are not there; instructions are counted by a hook, memory by
 * the allocator, and the string functions that take long in one instruction by a budget of their own. When a limit is
 * reached every further instruction raises the error again, so that no pcall() holds it up for long; and as catching it
 * changes nothing of vm->over, the request is refused.
 *
 * Whatever can fail for want of memory runs protected: the limit is only there while a script runs. */
#include "agent/helper/filter/lua_vm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <lauxlib.h>
#include <luajit.h>
#include <lualib.h>

#include "agent/base/log.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"

enum {
	CODE_MAX = 256 << 10,
	KEPT_S = 60,
	NS_PER_S = 1000000000,
	HOOK_COUNT = 100,	  /* instructions between two looks */
	TIME_MAX_NS = 100000000,  /* of the processor's, for one callback */
	IDLE_BYTES_MAX = 4 << 20, /* of a machine between requests, with its garbage */
};

static __thread struct lua_vm *vms;
static __thread size_t vm_count;

/* --- limits */

static void *on_alloc(void *user, void *p, size_t old, size_t size)
{
	struct lua_vm *vm = user;

	if (!size) {
		vm->bytes -= p ? old : 0;
		free(p);
		return NULL;
	}
	old = p ? old : 0;
	if (size > old && vm->bytes_max != SIZE_MAX && vm->bytes + (size - old) > vm->bytes_max) {
		vm->over = LUA_OVER_MEMORY;
		return NULL;
	}
	void *grown = realloc(p, size);
	if (grown)
		vm->bytes += size - old;
	return grown;
}

struct lua_vm *lua_vm_of(lua_State *L)
{
	void *vm = NULL;
	lua_getallocf(L, &vm);
	return vm;
}

static void on_count(lua_State *L, lua_Debug *ar);

static void stop(lua_State *L, enum lua_over why)
{
	struct lua_vm *vm = lua_vm_of(L);
	if (!vm->over)
		vm->over = why;
	lua_sethook(L, on_count, LUA_MASKCOUNT, 1);
	luaL_error(L, "the script was stopped");
}

static uint64_t cpu_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* An instruction may copy a megabyte: so there is a limit of time, too. It is looked at with the cheaper clock first. */
static void on_count(lua_State *L, lua_Debug *ar)
{
	struct lua_vm *vm = lua_vm_of(L);
	(void)ar;
	vm->instructions_left -= vm->instructions_left < HOOK_COUNT ? vm->instructions_left : HOOK_COUNT;
	if (vm->over || !vm->instructions_left)
		stop(L, LUA_OVER_INSTRUCTIONS);
	if (clock_now_ns() - vm->began_ns > TIME_MAX_NS && cpu_ns() - vm->began_cpu_ns > TIME_MAX_NS)
		stop(L, LUA_OVER_TIME);
}

void lua_vm_steps(lua_State *L, size_t steps)
{
	struct lua_vm *vm = lua_vm_of(L);
	if (steps <= vm->steps_left) {
		vm->steps_left -= steps;
		return;
	}
	vm->steps_left = 0;
	stop(L, LUA_OVER_STEPS);
}

int lua_vm_resume(struct lua_vm *vm, lua_State *co, int nargs, bool fresh, void *user)
{
	if (fresh) {
		vm->steps_left = LUA_STEPS_MAX;
		vm->instructions_left = LUA_INSTRUCTIONS_MAX;
		vm->over = LUA_WITHIN;
	}
	vm->user = user;
	vm->bytes_max = vm->bytes + LUA_MEMORY_MAX;
	vm->began_ns = clock_now_ns();
	vm->began_cpu_ns = cpu_ns();
	lua_sethook(co, on_count, LUA_MASKCOUNT, HOOK_COUNT);
	int rc = lua_resume(co, nargs);
	lua_sethook(co, NULL, 0, 0);
	vm->bytes_max = SIZE_MAX;
	vm->user = NULL;
	return rc;
}

/* --- what there is of Lua */

static int on_panic(lua_State *L)
{
	const char *text = lua_tostring(L, -1);
	log_error("lua: %s outside of a script", text ? text : "an error");
	abort();
}

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

static int on_setup(lua_State *L)
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
	static const char *const coroutine[] = { "create", "resume", "running", "status", "wrap", "yield", NULL };
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

/* --- scripts */

/* Bytecode is not loaded: it can break the machine. */
static void script_load(struct lua_vm *vm, size_t i)
{
	const struct lua_script *s = &vm->filters->scripts[i];
	size_t len = strlen(s->code);
	int rc = s->code[0] == LUA_SIGNATURE[0] || len > CODE_MAX ?
			 LUA_ERRSYNTAX :
			 luaL_loadbuffer(vm->L, s->code, len, s->name ? s->name : "=script");

	vm->chunks[i] = LUA_NOREF;
	if (rc == 0) {
		vm->chunks[i] = luaL_ref(vm->L, LUA_REGISTRYINDEX);
		return;
	}
	const char *why =
		rc == LUA_ERRSYNTAX && lua_gettop(vm->L) ? lua_tostring(vm->L, -1) : "it is too long, or not text";
	log_error("lua %s: %s: every request is refused", s->name ? s->name : "script", why ? why : "no memory");
	vm->errors[i] = strdup(why ? why : "no memory");
	lua_settop(vm->L, 0);
}

static int on_load(lua_State *L)
{
	struct lua_vm *vm = lua_vm_of(L);

	for (size_t i = 0; i < vm->filters->script_count; i++)
		script_load(vm, i);
	return 0;
}

static void vm_free(struct lua_vm *vm)
{
	if (vm->L)
		lua_close(vm->L);
	for (size_t i = 0; vm->errors && i < vm->filters->script_count; i++)
		free(vm->errors[i]);
	free(vm->errors);
	free(vm->chunks);
	http_filters_unref((struct http_filters *)(uintptr_t)vm->filters);
	free(vm);
}

static struct lua_vm *vm_new(const struct http_filters *filters)
{
	struct lua_vm *vm = calloc(1, sizeof(*vm));
	if (!vm)
		return NULL;
	vm->filters = http_filters_ref((struct http_filters *)(uintptr_t)filters);
	vm->bytes_max = SIZE_MAX;
	vm->chunks = calloc(filters->script_count + 1, sizeof(*vm->chunks));
	vm->errors = calloc(filters->script_count + 1, sizeof(*vm->errors));
	vm->L = vm->chunks && vm->errors ? lua_newstate(on_alloc, vm) : NULL;
	if (!vm->L) {
		vm_free(vm);
		return NULL;
	}
	lua_atpanic(vm->L, on_panic);
	if (!luaJIT_setmode(vm->L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF) || lua_cpcall(vm->L, on_setup, NULL) ||
	    lua_cpcall(vm->L, on_load, NULL)) {
		vm_free(vm);
		return NULL;
	}
	lua_gc(vm->L, LUA_GCSETPAUSE, 120);
	lua_gc(vm->L, LUA_GCSETSTEPMUL, 400);
	return vm;
}

int lua_vm_environment(struct lua_vm *vm, size_t script, int *env)
{
	lua_State *L = vm->L;

	if (vm->chunks[script] == LUA_NOREF)
		return -EINVAL;
	lua_State *co = lua_newthread(L);
	lua_newtable(co);
	lua_getfield(co, LUA_REGISTRYINDEX, "weft.environment");
	lua_setmetatable(co, -2);
	lua_rawgeti(co, LUA_REGISTRYINDEX, vm->chunks[script]);
	lua_pushvalue(co, -2);
	lua_setfenv(co, -2);
	/* Stack: the environment, the chunk; resume leaves the first. */
	int rc = lua_vm_resume(vm, co, 0, true, NULL);
	if (rc != 0 || vm->over) {
		const char *why = rc == LUA_YIELD ? "it yields outside of its functions" : lua_tostring(co, -1);
		if (lua_log_allowed())
			log_error("lua %s: %s: the request is refused", vm->filters->scripts[script].name,
				  why ? why : "it failed without a message");
		lua_pop(L, 1);
		return -EINVAL;
	}
	lua_settop(co, 1);
	*env = luaL_ref(co, LUA_REGISTRYINDEX);
	lua_pop(L, 1);
	return 0;
}

/* --- machines of this thread */

static void vm_unlist(struct lua_vm **at)
{
	struct lua_vm *vm = *at;
	*at = vm->next;
	vm->listed = false;
	vm_count--;
	if (!vm->refs)
		vm_free(vm);
}

/* Those that nobody needed for a while, and when there are too many, all that are idle. */
static void vms_trim(uint64_t now_ns, bool all)
{
	for (struct lua_vm **at = &vms; *at;) {
		struct lua_vm *vm = *at;
		if (!vm->refs && (all || now_ns - vm->used_ns > (uint64_t)KEPT_S * NS_PER_S))
			vm_unlist(at);
		else
			at = &vm->next;
	}
}

void lua_vms_clear(void)
{
	vms_trim(0, true);
}

struct lua_vm *lua_vm_get(const struct http_filters *filters, uint64_t now_ns)
{
	struct lua_vm *vm = vms;
	while (vm && vm->filters->id != filters->id)
		vm = vm->next;
	if (!vm) {
		vms_trim(now_ns, vm_count >= LUA_VMS_MAX);
		vm = vm_new(filters);
		if (!vm)
			return NULL;
		vm->next = vms;
		vm->listed = true;
		vms = vm;
		vm_count++;
	}
	vm->used_ns = now_ns;
	vm->refs++;
	return vm;
}

void lua_vm_release(struct lua_vm *vm)
{
	if (--vm->refs)
		return;
	if (!vm->listed)
		vm_free(vm);
	else if (vm->bytes > IDLE_BYTES_MAX)
		lua_gc(vm->L, LUA_GCCOLLECT, 0);
}
