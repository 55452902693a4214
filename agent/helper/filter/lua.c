/* SPDX-License-Identifier: Apache-2.0 */
/* Envoy's Lua filter. Each script is a coroutine in an environment that is the request's own; envoy_on_request() and
 * envoy_on_response() of one request share it. As in Envoy, a script that ends with an error changes nothing more and the
 * request goes on. Otherwise than there, a script that does not compile, or goes beyond its limits, refuses it. */
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "agent/base/log.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/helper/filter/lua_api.h"
#include "agent/helper/filter/refuse.h"
#include "agent/helper/worker.h"

enum { BODY_MAX = 64 << 10, SUSPENDED_MAX = 256 }; /* requests of a worker that wait for their bodies */

struct exchange_lua {
	struct lua_call call;
	struct lua_vm *vm;
	int *environments; /* by script; LUA_NOREF: not made yet */
	int co_ref;	   /* the coroutine that waits */
	size_t at;	   /* the script */
	bool in_stage, waits, body_here, body_whole, answered;
	uint8_t *bytes; /* the body */
	size_t len;
};

static __thread uint64_t serials;
static __thread size_t suspended;

static struct exchange_lua *lua_get(struct exchange *x)
{
	if (x->lua)
		return x->lua;
	struct exchange_lua *l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	l->environments = calloc(x->filters->script_count, sizeof(*l->environments));
	l->vm = l->environments ? lua_vm_get(x->filters, clock_now_ns()) : NULL;
	if (!l->vm) {
		free(l->environments);
		free(l);
		return NULL;
	}
	l->call.x = x;
	l->call.metadata = l->co_ref = LUA_NOREF;
	for (size_t i = 0; i < x->filters->script_count; i++)
		l->environments[i] = LUA_NOREF;
	x->lua = l;
	return l;
}

static void co_drop(struct exchange_lua *l)
{
	luaL_unref(l->vm->L, LUA_REGISTRYINDEX, l->co_ref);
	l->co_ref = LUA_NOREF;
	l->call.co = NULL;
}

static void wait_over(struct exchange_lua *l)
{
	suspended -= l->waits;
	l->waits = false;
}

void exchange_lua_free(struct exchange_lua *l)
{
	if (!l)
		return;
	wait_over(l);
	co_drop(l);
	luaL_unref(l->vm->L, LUA_REGISTRYINDEX, l->call.metadata);
	for (size_t i = 0; i < l->vm->filters->script_count; i++)
		luaL_unref(l->vm->L, LUA_REGISTRYINDEX, l->environments[i]);
	lua_vm_release(l->vm);
	free(l->environments);
	free(l->call.body);
	http_head_free(l->call.extra);
	free(l->bytes);
	free(l);
}

/* --- one callback */

enum run { RUN_DONE, RUN_YIELDED, RUN_REFUSED };

static const char *script_name(const struct exchange_lua *l)
{
	const char *name = l->vm->filters->scripts[l->at].name;
	return name ? name : "script";
}

/* Pushes the function on the coroutine's stack, with its handle. false: the script has none. */
static bool function_push(struct exchange_lua *l, const char *name)
{
	lua_State *co = l->call.co;

	lua_rawgeti(co, LUA_REGISTRYINDEX, l->environments[l->at]);
	lua_pushstring(co, name);
	lua_rawget(co, -2);
	lua_remove(co, -2);
	if (!lua_isfunction(co, -1))
		return false;
	lua_handle_push(co, &l->call);
	return true;
}

static enum run run_end(struct exchange_lua *l, int rc)
{
	static const char *const limits[] = { [LUA_OVER_INSTRUCTIONS] = "instructions",
					      [LUA_OVER_TIME] = "time",
					      [LUA_OVER_MEMORY] = "memory",
					      [LUA_OVER_STEPS] = "string matching" };
	const struct lua_call *c = &l->call;

	if (l->vm->over) {
		if (lua_log_allowed())
			log_warn("lua %s: the limit of %s is reached: the request is refused", script_name(l),
				 limits[l->vm->over]);
		co_drop(l);
		return RUN_REFUSED;
	}
	if (rc == LUA_YIELD && (c->wants_body || c->responded))
		return RUN_YIELDED;
	if (rc != 0) {
		const char *why = rc == LUA_YIELD ? "it yields outside of its own coroutines" : lua_tostring(c->co, -1);
		worker_metrics(c->x->w)->lua_errors++;
		if (lua_log_allowed())
			log_warn("lua %s: %s", script_name(l), why ? why : "an error that is no text");
	}
	co_drop(l);
	return RUN_DONE;
}

static enum run run_begin(struct exchange_lua *l, const char *function)
{
	struct lua_call *c = &l->call;

	if (l->environments[l->at] == LUA_NOREF && lua_vm_environment(l->vm, l->at, &l->environments[l->at]) < 0)
		return RUN_REFUSED;
	c->co = lua_newthread(l->vm->L);
	l->co_ref = luaL_ref(l->vm->L, LUA_REGISTRYINDEX);
	c->name = script_name(l);
	c->serial = ++serials;
	c->wants_body = c->responded = false;
	if (!function_push(l, function)) {
		co_drop(l);
		return RUN_DONE;
	}
	return run_end(l, lua_vm_resume(l->vm, c->co, 1, true, c));
}

/* With the body, or nil when there is none. What a script used before it waited is not counted again: bodies are few. */
static enum run run_resume(struct exchange_lua *l)
{
	struct lua_call *c = &l->call;

	c->wants_body = false;
	if (l->len)
		lua_body_push(c->co, l->bytes, l->len);
	else
		lua_pushnil(c->co);
	return run_end(l, lua_vm_resume(l->vm, c->co, 1, true, c));
}

/* --- the request */

static enum stage_result refuse(struct exchange *x, const char *name)
{
	refuse_count(x, DROP_LUA_REFUSED, name);
	exchange_respond(x, 500, FLAG(LR), "lua_script_error", NULL, NULL);
	return STAGE_ANSWERED;
}

static enum stage_result respond(struct exchange_lua *l)
{
	struct lua_call *c = &l->call;

	l->answered = true;
	co_drop(l);
	exchange_respond(c->x, c->status, 0, "lua_response", c->body, c->extra);
	return STAGE_ANSWERED;
}

static void on_body(struct exchange *x, const uint8_t *body, size_t len, bool whole, void *arg);

/* STAGE_CONTINUE: it is here. */
static enum stage_result body_get(struct exchange_lua *l)
{
	struct exchange *x = l->call.x;

	if (!l->body_here) {
		if (suspended >= SUSPENDED_MAX)
			return refuse(x, script_name(l));
		suspended++;
		l->waits = true;
		l->in_stage = true;
		exchange_buffer_body(x, BODY_MAX + 1, on_body, l);
		l->in_stage = false;
	}
	if (!l->body_here)
		return STAGE_WAIT;
	wait_over(l);
	if (l->body_whole && l->len <= BODY_MAX)
		return STAGE_CONTINUE;
	co_drop(l);
	exchange_respond(x, 413, 0, "request_payload_too_large", "Payload Too Large", NULL);
	return STAGE_ANSWERED;
}

static bool script_applies(const struct exchange *x, size_t i)
{
	uint16_t port = x->filters->scripts[i].port;
	return !port || port == x->destination.port;
}

/* From the script l->at on; begun: it has yielded. */
static enum stage_result proceed(struct exchange_lua *l, bool begun)
{
	struct exchange *x = l->call.x;

	for (; l->at < x->filters->script_count; l->at++, begun = false) {
		if (!begun && !script_applies(x, l->at))
			continue;
		enum run run = begun ? run_resume(l) : run_begin(l, "envoy_on_request");
		while (run == RUN_YIELDED && !l->call.responded) {
			enum stage_result result = body_get(l);
			if (result != STAGE_CONTINUE)
				return result;
			run = run_resume(l);
		}
		if (run == RUN_REFUSED)
			return refuse(x, script_name(l));
		if (run == RUN_YIELDED)
			return respond(l);
	}
	return l->call.path_changed ? stage_normalise(x) : STAGE_CONTINUE;
}

static void on_body(struct exchange *x, const uint8_t *body, size_t len, bool whole, void *arg)
{
	struct exchange_lua *l = arg;

	l->body_here = true;
	l->body_whole = whole;
	l->bytes = len ? malloc(len) : NULL;
	if (l->bytes) {
		memcpy(l->bytes, body, len);
		l->len = len;
	} else if (len) {
		l->body_whole = false;
	}
	if (l->in_stage)
		return;
	enum stage_result result = body_get(l);
	if (result == STAGE_CONTINUE)
		result = proceed(l, true);
	if (result == STAGE_CONTINUE)
		exchange_continue(x);
}

enum stage_result stage_lua(struct exchange *x)
{
	if (!x->filters || !x->filters->script_count)
		return STAGE_CONTINUE;
	struct exchange_lua *l = lua_get(x);
	if (!l)
		return refuse(x, NULL);
	l->call.head = x->head;
	return proceed(l, false);
}

/* --- the response */

void stage_lua_response(struct exchange *x, struct http_head *response)
{
	if (!x->filters || !x->filters->script_count || (x->lua && x->lua->answered))
		return;
	struct exchange_lua *l = lua_get(x);
	uint16_t status = response->status;
	if (!l)
		return;
	wait_over(l);
	co_drop(l);
	l->call.head = response;
	l->call.response = true;
	for (size_t i = x->filters->script_count; i-- > 0;) { /* the other way round */
		l->at = i;
		/* It is too late to refuse: what went before holds, and the error is counted. */
		if (script_applies(x, i) && run_begin(l, "envoy_on_response") == RUN_REFUSED)
			worker_metrics(x->w)->lua_errors++;
	}
	if (response->status != status)
		x->record.status = response->status;
}
