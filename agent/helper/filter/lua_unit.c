/* SPDX-License-Identifier: Apache-2.0 */
/* The pieces of code of an object of filters: what each filter runs, what routes may name, what routes bring. Each is run once
 * for a machine, in an environment of its own: its globals and its functions are there for all requests of the worker, as in
 * Envoy. They begin anew when they have grown too large, or after a callback that went beyond its limits: what that left
 * behind could do the same to the next one. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "agent/base/log.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/helper/filter/lua_json.h"
#include "agent/helper/filter/lua_vm.h"

enum { CODE_MAX = 256 << 10 };
#define RETRY_NS 5000000000ull /* after a code that failed at its top level */

static void unit_add(struct lua_vm *vm, const char *code, const char *name)
{
	struct lua_unit *u = &vm->units[vm->unit_count++];

	*u = (struct lua_unit){ .code = code, .name = name ? name : "script", .chunk = LUA_NOREF };
	u->functions[0] = u->functions[1] = LUA_NOREF;
}

/* In this order: what filters run, what they have by name, what routes bring. lua_unit_of_source() and _route() count so. */
int lua_units_new(struct lua_vm *vm)
{
	const struct http_filters *f = vm->filters;
	size_t n = f->script_count + f->lua_route_count;

	for (size_t i = 0; i < f->script_count; i++)
		n += f->scripts[i].source_count;
	vm->units = calloc(n + 1, sizeof(*vm->units));
	vm->contexts = calloc(f->lua_route_count + 1, sizeof(struct json_t *));
	vm->metadata = calloc(f->lua_route_count + 1, sizeof(struct json_t *));
	if (!vm->units || !vm->contexts || !vm->metadata)
		return -ENOMEM;
	for (size_t i = 0; i < f->script_count; i++)
		unit_add(vm, f->scripts[i].code, f->scripts[i].name);
	for (size_t i = 0; i < f->script_count; i++)
		for (size_t k = 0; k < f->scripts[i].source_count; k++)
			unit_add(vm, f->scripts[i].sources[k].code, f->scripts[i].name);
	for (size_t i = 0; i < f->lua_route_count; i++) {
		const struct lua_route *r = &f->lua_routes[i];
		unit_add(vm, r->code, r->origin);
		vm->contexts[i] = lua_json_new(r->context);
		vm->metadata[i] = lua_json_new(r->metadata);
	}
	return 0;
}

void lua_units_free(struct lua_vm *vm)
{
	for (size_t i = 0; vm->contexts && vm->metadata && i < vm->filters->lua_route_count; i++) {
		lua_json_free(vm->contexts[i]);
		lua_json_free(vm->metadata[i]);
	}
	free(vm->contexts);
	free(vm->metadata);
	free(vm->units);
}

/* Bytecode is not loaded: it can break the machine. */
static void unit_load(struct lua_vm *vm, struct lua_unit *u)
{
	size_t len = strlen(u->code);
	int rc = u->code[0] == LUA_SIGNATURE[0] || len > CODE_MAX ? LUA_ERRSYNTAX :
								    luaL_loadbuffer(vm->L, u->code, len, u->name);

	if (rc == 0) {
		u->chunk = luaL_ref(vm->L, LUA_REGISTRYINDEX);
		return;
	}
	const char *why =
		rc == LUA_ERRSYNTAX && lua_gettop(vm->L) ? lua_tostring(vm->L, -1) : "it is too long, or not text";
	log_error("lua %s: %s: every request is refused", u->name, why ? why : "no memory");
	lua_settop(vm->L, 0);
}

void lua_units_load(struct lua_vm *vm)
{
	for (size_t i = 0; i < vm->unit_count; i++)
		if (vm->units[i].code)
			unit_load(vm, &vm->units[i]);
}

void lua_unit_reset(struct lua_vm *vm, size_t unit)
{
	struct lua_unit *u = &vm->units[unit];

	for (size_t i = 0; i < ARRAY_SIZE(u->functions); i++) {
		luaL_unref(vm->L, LUA_REGISTRYINDEX, u->functions[i]);
		u->functions[i] = LUA_NOREF;
	}
	u->begun = false;
	u->failed_ns = 0;
	if (u->chunk == LUA_NOREF)
		return;
	lua_rawgeti(vm->L, LUA_REGISTRYINDEX, u->chunk); /* it knows its environment, too */
	lua_pushvalue(vm->L, LUA_GLOBALSINDEX);
	lua_setfenv(vm->L, -2);
	lua_pop(vm->L, 1);
}

/* The code's top level, in a new environment; its two functions are kept, and with them what they refer to. */
static int unit_run(struct lua_vm *vm, struct lua_unit *u)
{
	static const char *const names[] = { "envoy_on_request", "envoy_on_response" };
	struct lua_budget budget;
	lua_State *L = vm->L, *co = lua_newthread(L);

	lua_newtable(co);
	lua_getfield(co, LUA_REGISTRYINDEX, "weft.environment");
	lua_setmetatable(co, -2);
	lua_rawgeti(co, LUA_REGISTRYINDEX, u->chunk);
	lua_pushvalue(co, -2);
	lua_setfenv(co, -2);
	/* Stack: the environment, the chunk; resume leaves the first. */
	lua_budget_fill(&budget);
	int rc = lua_vm_resume(vm, co, 0, &budget, NULL);
	if (rc != 0 || vm->over) {
		const char *why = rc == LUA_YIELD ? "it yields outside of its functions" : lua_tostring(co, -1);
		if (lua_log_allowed())
			log_error("lua %s: %s: requests are refused", u->name,
				  why ? why : "it failed without a message");
		lua_pop(L, 1);
		return -EINVAL;
	}
	lua_settop(co, 1);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		lua_pushstring(co, names[i]);
		lua_rawget(co, 1);
		if (lua_isfunction(co, -1))
			u->functions[i] = luaL_ref(co, LUA_REGISTRYINDEX);
		else
			lua_pop(co, 1);
	}
	lua_pop(L, 1);
	u->begun = true;
	return 0;
}

int lua_unit_function(struct lua_vm *vm, size_t unit, bool response, int *ref)
{
	struct lua_unit *u = &vm->units[unit];
	uint64_t now_ns = clock_now_ns();

	*ref = LUA_NOREF;
	if (!u->code)
		return 0;
	if (u->chunk == LUA_NOREF || (u->failed_ns && now_ns - u->failed_ns < RETRY_NS))
		return -EINVAL;
	if (!u->begun && unit_run(vm, u) < 0) {
		u->failed_ns = now_ns;
		return -EINVAL;
	}
	u->failed_ns = 0;
	*ref = u->functions[response];
	return 0;
}

/* --- what a route says */

static size_t unit_of_source(const struct http_filters *f, size_t script, const char *name)
{
	size_t unit = f->script_count;

	for (size_t i = 0; i < script; i++)
		unit += f->scripts[i].source_count;
	for (size_t k = 0; k < f->scripts[script].source_count; k++)
		if (strcmp(f->scripts[script].sources[k].name, name) == 0)
			return unit + k;
	return script;
}

static size_t unit_of_route(const struct lua_vm *vm, size_t route)
{
	return vm->unit_count - vm->filters->lua_route_count + route;
}

void lua_unit_choose(const struct lua_vm *vm, size_t script, lua_route_applies applies, const void *arg,
		     struct lua_choice *out)
{
	const struct http_filters *f = vm->filters;
	const char *filter = f->scripts[script].filter;

	*out = (struct lua_choice){ .unit = script };
	for (size_t i = 0; i < f->lua_route_count; i++) {
		const struct lua_route *r = &f->lua_routes[i];
		bool own = filter && strcmp(r->filter, filter) == 0;
		/* Envoy: metadata is found under the filter's own name, else under that of its kind. */
		if (!(own || (!r->replaces && strcmp(r->filter, LUA_FILTER_NAME) == 0)) || !applies(r, arg))
			continue;
		if (!r->replaces) {
			if (own || !out->metadata_own)
				out->metadata = vm->metadata[i];
			out->metadata_own |= own;
			continue;
		}
		out->disabled = r->disabled;
		out->context = vm->contexts[i];
		out->unit = r->code ? unit_of_route(vm, i) : r->source ? unit_of_source(f, script, r->source) : script;
	}
}
