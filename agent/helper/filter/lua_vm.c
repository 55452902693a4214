/* SPDX-License-Identifier: Apache-2.0 */
/* What scripts are kept from: files, processes and other code are not there; instructions are counted by a hook, memory by
 * the allocator, and the string functions that take long in one instruction by a budget of their own. When a limit is
 * reached every further instruction raises the error again, so that no pcall() holds it up for long; and as catching it
 * changes nothing of vm->over, the request is refused. What a callback has left is kept while it waits for something.
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
	KEPT_S = 3600, /* without a request */
	NS_PER_S = 1000000000,
	HOOK_COUNT = 100,	 /* instructions between two looks */
	TIME_MAX_NS = 100000000, /* of the processor's, for one callback */
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
	uint64_t left = vm->budget->time_ns;
	if (clock_now_ns() - vm->began_ns > left && cpu_ns() - vm->began_cpu_ns > left)
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

void lua_budget_fill(struct lua_budget *b)
{
	*b = (struct lua_budget){ LUA_STEPS_MAX, LUA_INSTRUCTIONS_MAX, LUA_MEMORY_MAX, TIME_MAX_NS };
}

/* What is left of memory: less what the machine grew by. Garbage counts until it is collected. */
static size_t memory_left(size_t left, size_t before, size_t now)
{
	if (now > before)
		return left > now - before ? left - (now - before) : 0;
	left += before - now;
	return left < LUA_MEMORY_MAX ? left : LUA_MEMORY_MAX;
}

int lua_vm_resume(struct lua_vm *vm, lua_State *co, int nargs, struct lua_budget *budget, void *user)
{
	size_t before = vm->bytes;

	vm->budget = budget;
	vm->steps_left = budget->steps;
	vm->instructions_left = budget->instructions;
	vm->over = LUA_WITHIN;
	vm->user = user;
	vm->running = co;
	vm->bytes_max = vm->bytes + budget->memory;
	vm->began_ns = clock_now_ns();
	vm->began_cpu_ns = cpu_ns();
	lua_sethook(co, on_count, LUA_MASKCOUNT, HOOK_COUNT);
	int rc = lua_resume(co, nargs);
	lua_sethook(co, NULL, 0, 0);
	vm->bytes_max = SIZE_MAX;
	vm->user = vm->running = NULL;
	vm->budget = NULL;
	uint64_t used = cpu_ns() - vm->began_cpu_ns;
	budget->steps = vm->steps_left;
	budget->instructions = vm->instructions_left;
	budget->memory = memory_left(budget->memory, before, vm->bytes);
	budget->time_ns -= used < budget->time_ns ? used : budget->time_ns;
	return rc;
}

/* --- the machine */

static int on_panic(lua_State *L)
{
	const char *text = lua_tostring(L, -1);
	log_error("lua: %s outside of a script", text ? text : "an error");
	abort();
}

static int on_load(lua_State *L)
{
	lua_units_load(lua_vm_of(L));
	return 0;
}

static void vm_free(struct lua_vm *vm)
{
	if (vm->L)
		lua_close(vm->L);
	lua_units_free(vm);
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
	vm->L = lua_units_new(vm) == 0 ? lua_newstate(on_alloc, vm) : NULL;
	if (!vm->L) {
		vm_free(vm);
		return NULL;
	}
	lua_atpanic(vm->L, on_panic);
	if (!luaJIT_setmode(vm->L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF) ||
	    lua_cpcall(vm->L, lua_library_open, NULL) || lua_cpcall(vm->L, on_load, NULL)) {
		vm_free(vm);
		return NULL;
	}
	lua_gc(vm->L, LUA_GCSETPAUSE, 120);
	lua_gc(vm->L, LUA_GCSETSTEPMUL, 400);
	return vm;
}

void lua_vm_settle(struct lua_vm *vm)
{
	size_t most = LUA_KEPT_MAX + vm->suspended * LUA_MEMORY_MAX;

	if (vm->bytes <= LUA_KEPT_MAX || vm->bytes < vm->collected + LUA_KEPT_MAX / 2)
		return;
	lua_gc(vm->L, LUA_GCCOLLECT, 0);
	if (vm->bytes > most) {
		if (lua_log_allowed())
			log_warn("lua: the globals of the scripts have %zu KiB: they begin anew", vm->bytes >> 10);
		for (size_t i = 0; i < vm->unit_count; i++)
			lua_unit_reset(vm, i);
		lua_gc(vm->L, LUA_GCCOLLECT, 0);
	}
	vm->collected = vm->bytes;
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

/* Those that nobody needed for long; or all that are idle. */
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

/* The one that was not needed for longest. */
static void vms_drop_one(void)
{
	struct lua_vm **oldest = NULL;
	for (struct lua_vm **at = &vms; *at; at = &(*at)->next)
		if (!(*at)->refs && (!oldest || (*at)->used_ns < (*oldest)->used_ns))
			oldest = at;
	if (oldest)
		vm_unlist(oldest);
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
		vms_trim(now_ns, false);
		if (vm_count >= LUA_VMS_MAX)
			vms_drop_one();
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
	else
		lua_vm_settle(vm);
}
