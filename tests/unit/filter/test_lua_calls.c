/* SPDX-License-Identifier: Apache-2.0 */
/* Scripts that ask others, what routes tell them, and what they keep between requests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "agent/helper/filter/lua_vm.h"
#include "agent/helper/worker.h"
#include "tests/unit/filter/scripts.h"

/* --- httpCall() */

static void test_a_call_decides(void **state)
{
	(void)state;
	scripts_only(
		"function envoy_on_request(h) local r, body = h:httpCall('outbound|80||auth', "
		"{[':method'] = 'POST', [':path'] = '/check?x=1', [':authority'] = 'auth.shop', "
		"['X-Key'] = {'a', 'b'}, ['content-length'] = '9', authorization = h:headers():get('authorization')}, "
		"'ask', 250) if r[':status'] ~= '200' then "
		"h:respond({[':status'] = '403'}, 'no: ' .. tostring(body)) end "
		"h:headers():add('x-user', r['x-user']) end");
	struct exchange *x = scripts_start("GET /\nauthorization: t");
	assert_true(call.open);
	assert_string_equal(call.cluster, "outbound|80||auth");
	assert_string_equal(call.method, "POST");
	assert_string_equal(call.path, "/check?x=1");
	assert_string_equal(call.authority, "auth.shop");
	assert_non_null(strstr(call.fields, "x-key: a\nx-key: b\n"));
	assert_non_null(strstr(call.fields, "authorization: t\n"));
	assert_null(strstr(call.fields, "content-length"));
	assert_int_equal(call.body_len, 3);
	assert_memory_equal(call.body, "ask", 3);
	assert_int_equal(call.timeout_ms, 250);
	fake_call_answer(200, "x-user: u", NULL, 0, NULL);
	assert_true(answer.continued && !answer.given);
	assert_string_equal(fake_header(x, "x-user"), "u");
	fake_exchange_free(x);

	x = scripts_start("GET /");
	fake_call_answer(401, "", "denied", 6, NULL);
	assert_int_equal(answer.status, 403);
	assert_string_equal(answer.body, "no: denied");
	assert_false(answer.continued);
	fake_exchange_free(x);

	x = scripts_start("GET /"); /* no answer in time */
	fake_call_answer(0, NULL, NULL, 0, NULL);
	assert_string_equal(answer.body, "no: upstream failure");
	fake_exchange_free(x);
}

static void test_calls_in_turn_and_in_responses(void **state)
{
	(void)state;
	struct http_head *r;
	scripts_only("local function ask(h, path) local r, b = h:httpCall('c', {[':method'] = 'GET', [':path'] = path, "
		     "[':authority'] = 'a'}, nil, {timeout_ms = 5, return_duplicate_headers = true}) return r, b end "
		     "function envoy_on_request(h) local _, one = ask(h, '/1') local r, two = ask(h, '/2') "
		     "h:headers():add('x', one .. two .. r.x[1] .. r.x[2] .. r.x[3] .. r.y) end "
		     "function envoy_on_response(h) h:headers():add('x', select(2, ask(h, '/3'))) end");
	struct exchange *x = scripts_start("GET /");
	assert_string_equal(call.path, "/1");
	assert_int_equal(call.timeout_ms, 5);
	fake_call_answer(200, "", "a", 1, NULL);
	assert_string_equal(call.path, "/2");
	fake_call_answer(200, "x: 1\nx: 2\ny: 4\nx: 3", "b", 1, NULL);
	assert_true(answer.continued);
	assert_string_equal(fake_header(x, "x"), "ab1234");
	assert_int_equal(scripts_respond(x, "", &r), STAGE_WAIT);
	assert_string_equal(call.path, "/3");
	fake_call_answer(200, "", "c", 1, NULL);
	assert_true(answer.response_continued);
	assert_string_equal(fake_fields(r), "x: c\n");
	fake_exchange_free(x);
	http_head_free(r);
}

static void test_a_call_that_nobody_waits_for(void **state)
{
	(void)state;
	scripts_only("function envoy_on_request(h) h:httpCall('c', {[':method'] = 'GET', [':path'] = '/', "
		     "[':authority'] = 'a'}, '', 0, true) h:headers():add('x', '1') end");
	struct exchange *x = scripts_start("GET /");
	assert_true(call.open && !answer.given);
	assert_int_equal(call.timeout_ms, 60000);
	assert_string_equal(fake_header(x, "x"), "1");
	fake_exchange_free(x); /* it goes on behind the request */
	assert_true(call.open);
	fake_call_answer(200, "", NULL, 0, NULL);
}

static void test_calls_are_cancelled_and_can_fail_at_once(void **state)
{
	(void)state;
	scripts_only("function envoy_on_request(h) local r, b = h:httpCall('c', {[':method'] = 'GET', [':path'] = '/', "
		     "[':authority'] = 'a'}, '', 10) h:headers():add('x', r[':status'] .. b) end");
	struct exchange *x = scripts_start("GET /");
	assert_true(call.open);
	fake_exchange_free(x); /* the client went away */
	assert_false(call.open);

	x = fake_exchange("GET /");
	x->filters = scripts;
	call.refuse = true;
	assert_int_equal(stage_lua(x), STAGE_CONTINUE);
	assert_string_equal(fake_header(x, "x"), "503upstream failure");
	fake_exchange_free(x);
}

#define ASK "h:httpCall('c', {[':method'] = 'GET', [':path'] = '/', [':authority'] = 'a'}, '', 10)"

static void test_bad_calls_are_errors(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"h:httpCall()",
		"h:httpCall('c', {}, '', 1)",
		"h:httpCall('c', {[':method'] = 'GET', [':path'] = '/'}, '', 1)",
		"h:httpCall('c', {[':method'] = 'G T', [':path'] = '/', [':authority'] = 'a'}, '', 1)",
		"h:httpCall('c', {[':method'] = 'GET', [':path'] = '/\\r\\nx: y', [':authority'] = 'a'}, '', 1)",
		"h:httpCall('c', {[':method'] = 'GET', [':path'] = '/', [':authority'] = 'a', [':x'] = 'b'}, '', 1)",
		"h:httpCall('c', {[':method'] = 'GET', [':path'] = '/', [':authority'] = 'a'}, '', -1)",
		"h:httpCall('c', {[':method'] = 'GET', [':path'] = '/', [':authority'] = 'a'}, ('x'):rep(70000), 1)",
		"h:httpCall('c', {[':method'] = 'GET', [':path'] = '/', [':authority'] = 'a'}, '', 1, 'yes')",
		"coroutine.wrap(function() " ASK " end)()",
		"('x'):gsub('x', function() " ASK " end)",
	};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char code[512];
		snprintf(code, sizeof(code), "function envoy_on_request(h) %s h:headers():add('after', '1') end",
			 bad[i]);
		scripts_only(code);
		memset(&fake_metrics, 0, sizeof(fake_metrics));
		struct exchange *x = scripts_start("GET /");
		if (call.open || answer.given || fake_metrics.lua_errors != 1)
			fail_msg("%s: not an error", bad[i]);
		assert_string_equal(fake_fields(x->head), "");
		fake_exchange_free(x);
	}
}

/* --- limits hold across waiting */

static void test_calls_of_one_callback_are_few(void **state)
{
	(void)state;
	scripts_only("function envoy_on_request(h) while true do " ASK " end end");
	struct exchange *x = scripts_start("GET /");
	size_t n = 0;
	for (; call.open && n < 100; n++)
		fake_call_answer(200, "", NULL, 0, NULL);
	assert_int_equal(n, 16);
	assert_true(answer.continued);
	assert_int_equal(fake_metrics.lua_errors, 1);
	fake_exchange_free(x);
}

static void test_budgets_are_not_filled_again_after_waiting(void **state)
{
	(void)state;
	static const char *const bombs[] = {
		"for i = 1, 10 do for k = 1, 150000 do end " ASK " end",		   /* instructions */
		"local t = {} for i = 1, 10 do t[i] = ('x'):rep(200000) .. i " ASK " end", /* memory */
		"for i = 1, 10 do (('a'):rep(150)):find('.-.-b') " ASK " end",		   /* steps */
	};
	for (size_t i = 0; i < ARRAY_SIZE(bombs); i++) {
		char code[512];
		snprintf(code, sizeof(code), "function envoy_on_request(h) %s end", bombs[i]);
		scripts_only(code);
		struct exchange *x = scripts_start("GET /");
		for (size_t n = 0; call.open && n < 100; n++)
			fake_call_answer(200, "", NULL, 0, NULL);
		if (!answer.given || answer.status != 500 || call.count < 2 || call.count > 9)
			fail_msg("%s: %zu calls, status %u", bombs[i], call.count, answer.status);
		fake_exchange_free(x);
	}
}

static void test_too_many_that_wait_are_refused(void **state)
{
	(void)state;
	enum { MANY = 300 };
	struct exchange *all[MANY];
	size_t refused = 0;

	fake_body_late = true;
	scripts_only("function envoy_on_request(h) h:body() end");
	for (size_t i = 0; i < MANY; i++) {
		all[i] = scripts_start("POST /");
		refused += answer.given;
	}
	assert_int_equal(refused, MANY - 256);
	for (size_t i = 0; i < MANY; i++)
		fake_exchange_free(all[i]);
	fake_exchange_free(scripts_start("POST /"));
	assert_false(answer.given);
}

/* --- globals */

static void test_globals_live_on(void **state)
{
	(void)state;
	scripts_only(
		"count = 0 local seen = {} local function note(h) count = count + 1 seen[count] = h end "
		"function envoy_on_request(h) note(h) string = nil h:headers():add('x-count', count) "
		"local old = seen[count - 1] h:headers():add('x-old', tostring(old and pcall(old.headers, old))) end "
		"function envoy_on_response(h) h:headers():add('x-count', count) end");
	scripts_add("function envoy_on_request(h) h:headers():add('x-other', tostring(count)) end");
	for (size_t i = 1; i <= 3; i++) {
		char count[8], text[64];
		struct http_head *r;
		snprintf(count, sizeof(count), "%zu", i);
		snprintf(text, sizeof(text), "x-count: %zu\n", i);
		struct exchange *x = scripts_start("GET /");
		assert_string_equal(fake_header(x, "x-count"), count);
		assert_string_equal(fake_header(x, "x-old"), i == 1 ? "nil" : "false"); /* handles don't live on */
		assert_string_equal(fake_header(x, "x-other"), "nil");			/* each script has its own */
		assert_int_equal(scripts_respond(x, "", &r), STAGE_CONTINUE);
		assert_string_equal(fake_fields(r), text);
		http_head_free(r);
		fake_exchange_free(x);
	}
}

static void test_globals_that_grow_begin_anew(void **state)
{
	(void)state;
	size_t resets = 0, most = 0;
	scripts_only("kept = {} function envoy_on_request(h) kept[#kept + 1] = ('x'):rep(100000) .. #kept "
		     "h:headers():add('x', #kept) end");
	for (size_t i = 0; i < 300; i++) {
		struct exchange *x = scripts_start("GET /");
		assert_false(answer.given);
		resets += strcmp(fake_header(x, "x"), "1") == 0;
		fake_exchange_free(x);
		struct lua_vm *vm = lua_vm_get(scripts, 0);
		most = vm->bytes > most ? vm->bytes : most;
		lua_vm_release(vm);
	}
	assert_true(resets > 2 && resets < 20);
	assert_true(most < 2 * LUA_KEPT_MAX + LUA_MEMORY_MAX);
	assert_non_null(strstr(scripts_log, "begin anew"));
}

/* One request's excess is not the next one's. */
static void test_globals_begin_anew_after_a_limit(void **state)
{
	(void)state;
	scripts_only("n = 10 function envoy_on_request(h) if h:headers():get('x-evil') then n = 1e9 end "
		     "for i = 1, n do end h:headers():add('x-n', n) end");
	fake_exchange_free(scripts_start("GET /\nx-evil: 1"));
	assert_int_equal(answer.status, 500);
	struct exchange *x = scripts_start("GET /");
	assert_string_equal(fake_header(x, "x-n"), "10");
	fake_exchange_free(x);
}

/* A coroutine that waits can't be resumed by another request. */
static void test_a_callback_can_not_be_kept(void **state)
{
	(void)state;
	assert_string_equal(scripts_say("coroutine.running()"), "nil");
	scripts_only("function envoy_on_request(h) if kept then h:headers():add('x', tostring(pcall(kept))) return end "
		     "kept = coroutine.wrap(function() coroutine.yield() return h:headers():get('x-secret') end) "
		     "kept() end");
	fake_exchange_free(scripts_start("GET /\nx-secret: s"));
	struct exchange *x = scripts_start("GET /");
	assert_string_equal(fake_header(x, "x"), "false");
	fake_exchange_free(x);
}

/* --- what routes say */

static struct lua_route *route_add(const struct lua_route *r)
{
	scripts->lua_routes =
		reallocarray(scripts->lua_routes, scripts->lua_route_count + 1, sizeof(*scripts->lua_routes));
	struct lua_route *to = &scripts->lua_routes[scripts->lua_route_count++];
	*to = *r;
	to->filter = strdup(r->filter);
	to->route = r->route ? strdup(r->route) : NULL;
	to->source = r->source ? strdup(r->source) : NULL;
	to->code = r->code ? strdup(r->code) : NULL;
	to->context = r->context ? strdup(r->context) : NULL;
	to->metadata = r->metadata ? strdup(r->metadata) : NULL;
	http_filters_seal(scripts);
	return to;
}

static const char *on_route(const char *name)
{
	static struct http_route route;
	struct exchange *x = fake_exchange("GET /");
	route.name = (char *)(uintptr_t)name;
	x->filters = scripts;
	x->route = &route;
	assert_int_equal(stage_lua(x), STAGE_CONTINUE);
	const char *value = fake_header(x, "x");
	fake_exchange_free(x);
	return value ? value : "none";
}

#define SAYS(text) "function envoy_on_request(h) h:headers():add('x', " text ") end"

static void test_code_by_route(void **state)
{
	(void)state;
	struct lua_script *s = scripts_add(SAYS("'default'"));
	s->filter = strdup("my-lua");
	s->sources = calloc(1, sizeof(*s->sources));
	s->sources[s->source_count++] = (struct lua_source){ strdup("b.lua"), strdup(SAYS("'named'")) };
	route_add(&(struct lua_route){
		.filter = (char *)"my-lua", .route = (char *)"off", .replaces = true, .disabled = true });
	route_add(&(struct lua_route){
		.filter = (char *)"my-lua", .route = (char *)"named", .replaces = true, .source = (char *)"b.lua" });
	route_add(&(struct lua_route){
		.filter = (char *)"my-lua", .route = (char *)"own", .replaces = true, .code = (char *)SAYS("'own'") });
	route_add(&(struct lua_route){
		.filter = (char *)"other", .route = (char *)"else", .replaces = true, .disabled = true });
	route_add(&(struct lua_route){ .filter = (char *)"my-lua",
				       .route = (char *)"context",
				       .replaces = true,
				       .code = (char *)SAYS("h:filterContext().a[2] .. tostring(h:filterContext().b)"),
				       .context = (char *)"{\"a\":[1,2.5]}" });
	route_add(&(struct lua_route){
		.filter = (char *)"my-lua", .route = (char *)"port", .port = 9, .replaces = true, .disabled = true });
	assert_string_equal(on_route("any"), "default");
	assert_string_equal(on_route("off"), "none");
	assert_string_equal(on_route("named"), "named");
	assert_string_equal(on_route("own"), "own");
	assert_string_equal(on_route("else"), "default");
	assert_string_equal(on_route("context"), "2.5nil");
	assert_string_equal(on_route("port"), "default");
}

#define METADATA                                                                                                       \
	SAYS("(function() local t = tostring(h:metadata():get('k')) local n = 0 for k, v in pairs(h:metadata()) do "   \
	     "n = n + 1 end return t .. n end)()")

static void test_metadata_of_routes(void **state)
{
	(void)state;
	scripts_add(METADATA);
	assert_string_equal(on_route("r"), "nil0");
	scripts_only(METADATA);
	scripts->scripts[0].filter = strdup("my-lua");
	route_add(&(struct lua_route){ .filter = (char *)LUA_FILTER_NAME, .metadata = (char *)"{\"k\":\"kind\"}" });
	route_add(&(struct lua_route){
		.filter = (char *)"my-lua", .route = (char *)"r", .metadata = (char *)"{\"k\":true,\"l\":{\"m\":1}}" });
	route_add(&(struct lua_route){ .filter = (char *)"else", .metadata = (char *)"{\"k\":1}" });
	assert_string_equal(on_route("r"), "true2");
	assert_string_equal(on_route("q"), "kind1");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCRIPT_CASE(test_a_call_decides),
		SCRIPT_CASE(test_calls_in_turn_and_in_responses),
		SCRIPT_CASE(test_a_call_that_nobody_waits_for),
		SCRIPT_CASE(test_calls_are_cancelled_and_can_fail_at_once),
		SCRIPT_CASE(test_bad_calls_are_errors),
		SCRIPT_CASE(test_calls_of_one_callback_are_few),
		SCRIPT_CASE(test_budgets_are_not_filled_again_after_waiting),
		SCRIPT_CASE(test_too_many_that_wait_are_refused),
		SCRIPT_CASE(test_globals_live_on),
		SCRIPT_CASE(test_globals_that_grow_begin_anew),
		SCRIPT_CASE(test_globals_begin_anew_after_a_limit),
		SCRIPT_CASE(test_a_callback_can_not_be_kept),
		SCRIPT_CASE(test_code_by_route),
		SCRIPT_CASE(test_metadata_of_routes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
