/* SPDX-License-Identifier: Apache-2.0 */
/* Envoy's Lua filter. Each callback is a coroutine, which stops where it waits for a body or an answer: the message's head
 * waits with it. Requests go through the scripts in their order, responses the other way round. As in Envoy, a script that
 * ends with an error changes nothing more and the message goes on. Otherwise than there, a script that does not compile, or
 * goes beyond its limits, refuses the request. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "agent/base/log.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/helper/filter/lua_api.h"
#include "agent/helper/filter/ratelimit_internal.h"
#include "agent/helper/filter/refuse.h"
#include "agent/helper/worker.h"

enum { BODY_MAX = 64 << 10, SUSPENDED_MAX = 256 }; /* callbacks of a worker that wait */

struct exchange_lua {
	struct lua_call call; /* first */
	struct lua_vm *vm;
	int co_ref; /* the coroutine that waits */
	size_t at;  /* the script */
	bool early; /* the pass before tokens are verified */
	bool in_stage, waits, body_whole, answered;
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
	l->vm = lua_vm_get(x->filters, clock_now_ns());
	if (!l->vm) {
		free(l);
		return NULL;
	}
	l->call.x = x;
	l->call.metadata = l->co_ref = LUA_NOREF;
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
	l->vm->suspended -= l->waits;
	l->waits = false;
}

/* Whatever waits does not go on. */
static void forget(struct exchange_lua *l)
{
	side_call_cancel(TAKE(l->call.side));
	wait_over(l);
	co_drop(l);
}

static void on_cancel(struct exchange *x)
{
	forget(x->lua);
}

/* false: there are too many. */
static bool wait_begin(struct exchange_lua *l)
{
	if (suspended >= SUSPENDED_MAX)
		return false;
	suspended++;
	l->vm->suspended++;
	l->waits = true;
	l->call.x->stage_cancel = on_cancel;
	return true;
}

void exchange_lua_free(struct exchange_lua *l)
{
	if (!l)
		return;
	forget(l);
	luaL_unref(l->vm->L, LUA_REGISTRYINDEX, l->call.metadata);
	lua_vm_release(l->vm);
	free(l->call.body);
	http_head_free(l->call.extra);
	http_head_free(l->call.outgoing);
	free(l->call.bytes);
	free(l);
}

/* --- one callback */

enum run {
	RUN_DONE,
	RUN_YIELDED, /* c->wants says for what */
	RUN_WAITS,
	RUN_REFUSED,  /* by a limit */
	RUN_ANSWERED, /* exchange_respond() was called */
};

static void error_count(const struct lua_call *c, const char *why)
{
	worker_metrics(c->x->w)->lua_errors++;
	if (lua_log_allowed())
		log_warn("lua %s: %s", c->name, why);
}

static enum run run_end(struct exchange_lua *l, int rc)
{
	static const char *const limits[] = { [LUA_OVER_INSTRUCTIONS] = "instructions",
					      [LUA_OVER_TIME] = "time",
					      [LUA_OVER_MEMORY] = "memory",
					      [LUA_OVER_STEPS] = "string matching" };
	struct lua_call *c = &l->call;

	if (!l->vm->over && rc == LUA_YIELD && c->wants != LUA_WANTS_NOTHING)
		return RUN_YIELDED;
	side_call_cancel(TAKE(c->side));
	if (l->vm->over) {
		if (lua_log_allowed())
			log_warn("lua %s: the limit of %s is reached: the request is refused, and the globals of the "
				 "script "
				 "begin anew",
				 c->name, limits[l->vm->over]);
		lua_unit_reset(l->vm, c->choice.unit);
		co_drop(l);
		return RUN_REFUSED;
	}
	if (rc != 0) {
		const char *why = rc == LUA_YIELD ? "it yields outside of its own coroutines" : lua_tostring(c->co, -1);
		error_count(c, why ? why : "an error that is no text");
	}
	co_drop(l);
	lua_vm_settle(l->vm);
	return RUN_DONE;
}

static bool route_applies(const struct lua_route *r, const void *arg)
{
	return limit_applies(arg, r->route, r->vhost, r->port);
}

static enum run run_begin(struct exchange_lua *l)
{
	struct lua_call *c = &l->call;
	const struct lua_script *s = &l->vm->filters->scripts[l->at];
	int function;

	if (s->port && s->port != c->x->destination.port)
		return RUN_DONE;
	if (!c->response && c->x->side == SIDE_SERVER && s->early != l->early)
		return RUN_DONE;
	lua_unit_choose(l->vm, l->at, route_applies, c->x, &c->choice);
	if (c->choice.disabled)
		return RUN_DONE;
	if (lua_unit_function(l->vm, c->choice.unit, c->response, &function) < 0)
		return RUN_REFUSED;
	if (function == LUA_NOREF)
		return RUN_DONE;
	c->co = lua_newthread(l->vm->L);
	l->co_ref = luaL_ref(l->vm->L, LUA_REGISTRYINDEX);
	c->name = l->vm->units[c->choice.unit].name;
	c->serial = ++serials;
	c->wants = LUA_WANTS_NOTHING;
	c->chunks_over = false;
	c->side_count = 0;
	lua_budget_fill(&c->budget);
	lua_rawgeti(c->co, LUA_REGISTRYINDEX, function);
	lua_handle_push(c->co, c);
	return run_end(l, lua_vm_resume(l->vm, c->co, 1, &c->budget, c));
}

/* With so many values on its stack. */
static enum run run_resume(struct exchange_lua *l, int values)
{
	struct lua_call *c = &l->call;

	c->wants = LUA_WANTS_NOTHING;
	return run_end(l, lua_vm_resume(l->vm, c->co, values, &c->budget, c));
}

/* --- what it yields for */

static enum run respond(struct exchange_lua *l)
{
	struct lua_call *c = &l->call;

	l->answered = true;
	co_drop(l);
	exchange_respond_bytes(c->x, c->status, 0, "lua_response", c->body, c->body_len, c->extra);
	return RUN_ANSWERED;
}

static enum run too_large(struct exchange_lua *l)
{
	struct lua_call *c = &l->call;

	co_drop(l);
	if (c->response)
		exchange_respond(c->x, 500, 0, "response_payload_too_large", "Internal Server Error", NULL);
	else
		exchange_respond(c->x, 413, 0, "request_payload_too_large", "Payload Too Large", NULL);
	return RUN_ANSWERED;
}

static void on_body(struct exchange *x, const uint8_t *body, size_t len, bool whole, void *arg);

/* RUN_YIELDED: it is here. */
static enum run body_get(struct exchange_lua *l)
{
	struct lua_call *c = &l->call;

	if (!c->body_here) {
		if (!wait_begin(l))
			return RUN_REFUSED;
		l->in_stage = true;
		if (c->response)
			exchange_buffer_response(c->x, BODY_MAX, on_body, l);
		else
			exchange_buffer_body(c->x, BODY_MAX + 1, on_body, l);
		l->in_stage = false;
	}
	if (!c->body_here)
		return RUN_WAITS;
	wait_over(l);
	return l->body_whole ? RUN_YIELDED : too_large(l);
}

/* Gives the script what it wants, until it ends or has to wait. */
static enum run run_on(struct exchange_lua *l, enum run run)
{
	while (run == RUN_YIELDED) {
		if (l->call.wants == LUA_WANTS_RESPOND)
			return respond(l);
		if (l->call.wants == LUA_WANTS_ANSWER) {
			if (wait_begin(l))
				return RUN_WAITS;
			side_call_cancel(TAKE(l->call.side));
			return RUN_REFUSED;
		}
		run = body_get(l);
		if (run == RUN_YIELDED)
			run = run_resume(l, lua_body_results(&l->call));
	}
	return run;
}

/* --- the request */

static enum stage_result refuse(struct exchange *x, const char *name)
{
	refuse_count(x, DROP_LUA_REFUSED, name);
	exchange_respond(x, 500, FLAG(LR), "lua_script_error", NULL, NULL);
	return STAGE_ANSWERED;
}

static enum stage_result request_done(struct exchange_lua *l)
{
	struct lua_call *c = &l->call;

	if (c->body_changed && exchange_body_replace(c->x, false, c->bytes, c->len) == -ENOMEM)
		return refuse(c->x, c->name);
	bool path_changed = c->path_changed;
	c->body_changed = c->path_changed = false; /* told: there may be another pass */
	return path_changed ? stage_normalise(c->x) : STAGE_CONTINUE;
}

/* From what the script l->at did to the end. */
static enum stage_result request_on(struct exchange_lua *l, enum run run)
{
	struct exchange *x = l->call.x;

	for (;;) {
		run = run_on(l, run);
		if (run == RUN_WAITS)
			return STAGE_WAIT;
		if (run == RUN_ANSWERED)
			return STAGE_ANSWERED;
		if (run == RUN_REFUSED)
			return refuse(x, x->filters->scripts[l->at].name);
		if (++l->at >= x->filters->script_count)
			return request_done(l);
		run = run_begin(l);
	}
}

static enum stage_result pass(struct exchange *x, bool early)
{
	struct exchange_lua *l = lua_get(x);

	if (!l)
		return refuse(x, NULL);
	l->call.head = x->head;
	l->early = early;
	l->at = 0;
	return request_on(l, run_begin(l));
}

enum stage_result stage_lua_early(struct exchange *x)
{
	for (size_t i = 0; x->filters && i < x->filters->script_count; i++)
		if (x->filters->scripts[i].early)
			return pass(x, true);
	return STAGE_CONTINUE;
}

enum stage_result stage_lua(struct exchange *x)
{
	return x->filters && x->filters->script_count ? pass(x, false) : STAGE_CONTINUE;
}

/* --- the response */

static enum stage_result response_done(struct exchange_lua *l)
{
	struct lua_call *c = &l->call;

	if (c->body_changed)
		exchange_body_replace(c->x, true, c->bytes, c->len);
	c->x->record.status = c->head->status;
	return STAGE_CONTINUE;
}

/* What is refused here is the script's: what it did until then holds, and the error is counted. */
static enum stage_result response_on(struct exchange_lua *l, enum run run)
{
	for (;;) {
		run = run_on(l, run);
		if (run == RUN_WAITS)
			return STAGE_WAIT;
		if (run == RUN_ANSWERED)
			return STAGE_ANSWERED;
		if (run == RUN_REFUSED) {
			co_drop(l);
			worker_metrics(l->call.x->w)->lua_errors++;
		}
		if (l->at == 0)
			return response_done(l);
		l->at--;
		run = run_begin(l);
	}
}

enum stage_result stage_lua_response(struct exchange *x, struct http_head *response)
{
	if (!x->filters || !x->filters->script_count || (x->lua && x->lua->answered))
		return STAGE_CONTINUE;
	struct exchange_lua *l = lua_get(x);
	if (!l)
		return STAGE_CONTINUE;
	struct lua_call *c = &l->call;
	forget(l);
	if (c->response) /* our own in place of the one that a script looks at */
		return STAGE_CONTINUE;
	c->head = response;
	c->response = true;
	c->body_here = c->body_changed = false;
	free(TAKE(c->bytes));
	c->len = 0;
	c->trailers = NULL;
	l->at = x->filters->script_count - 1;
	return response_on(l, run_begin(l));
}

/* --- what was waited for */

static void go_on(struct exchange_lua *l, enum run run)
{
	struct exchange *x = l->call.x;

	if (l->call.response) {
		if (response_on(l, run) != STAGE_WAIT)
			exchange_response_continue(x); /* unless it was answered */
	} else if (request_on(l, run) == STAGE_CONTINUE) {
		exchange_continue(x);
	}
}

static void on_body(struct exchange *x, const uint8_t *body, size_t len, bool whole, void *arg)
{
	struct exchange_lua *l = arg;
	struct lua_call *c = &l->call;
	(void)x;
	c->body_here = true;
	l->body_whole = whole && (c->response || len <= BODY_MAX);
	free(c->bytes);
	c->bytes = malloc(len + 1);
	c->len = c->bytes ? len : 0;
	if (len && c->bytes)
		memcpy(c->bytes, body, len);
	else if (len)
		l->body_whole = false;
	if (!l->in_stage)
		go_on(l, RUN_YIELDED);
}

void lua_answered(struct lua_call *c, int values)
{
	struct exchange_lua *l = container_of(c, struct exchange_lua, call);

	wait_over(l);
	go_on(l, run_resume(l, values));
}
