/* SPDX-License-Identifier: Apache-2.0 */
/* Scripts as people write them for Envoy, and as people write them who want more than they may have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/err.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "agent/helper/filter/lua_vm.h"
#include "agent/helper/sandbox_calls.h"
#include "agent/helper/worker.h"
#include "agent/model/identity.h"
#include "tests/unit/filter/scripts.h"

static void test_required_header(void **state)
{
	(void)state;
	scripts_add("function envoy_on_request(handle)\n  if handle:headers():get(\"x-tenant\") == nil then\n"
		    "    handle:respond({[\":status\"] = \"403\"}, \"tenant required\")\n  end\nend\n");
	for (size_t i = 0; i < 100; i++) {
		fake_exchange_free(scripts_start("GET /"));
		assert_int_equal(answer.status, 403);
		assert_string_equal(answer.body, "tenant required");
		assert_string_equal(answer.details, "lua_response");
		fake_exchange_free(scripts_start("GET /\nx-tenant: t"));
		assert_false(answer.given);
	}
	assert_string_equal(scripts_log, "");
}

static void test_headers(void **state)
{
	(void)state;
	static const struct {
		const char *expression, *value;
	} rows[] = {
		{ "h:headers():get('X-A')", "1,2" },
		{ "h:headers():get('none')", "nil" },
		{ "h:headers():get(':path')", "/p?q=1" },
		{ "h:headers():get(':method') .. h:headers():get(':authority') .. h:headers():get('host')",
		  "GETshop.exampleshop.example" },
		{ "h:headers():getAtIndex('x-a', 1)", "2" },
		{ "h:headers():getAtIndex('x-a', 2)", "nil" },
		{ "h:headers():getNumValues('x-a')", "2" },
		{ "h:headers():getNumValues('x-b')", "0" },
		{ "(function() local t = '' for k, v in pairs(h:headers()) do t = t .. k .. '=' .. v .. ' ' end return "
		  "t end)()",
		  ":authority=shop.example :path=/p?q=1 :method=GET :scheme=http x-a=1 x-a=2 user-agent=u " },
		{ "(function() local t = 0 for k, v in pairs({1, 2, a = 3}) do t = t + v end return t end)()", "6" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_string_equal(scripts_say(rows[i].expression), rows[i].value);
}

static void test_changing_headers(void **state)
{
	(void)state;
	scripts_add("function envoy_on_request(h) local t = h:headers() t:add('X-New', 'a') t:add('x-new', 'b') "
		    "t:replace('x-a', '9') "
		    "t:remove('user-agent') t:remove('content-length') t:add('content-length', '5') "
		    "t:add('transfer-encoding', 'chunked') "
		    "t:replace(':path', '/other/../new?z=2') t:replace(':authority', 'else.example') end");
	struct exchange *x = scripts_start("GET /p\nx-a: 1\nx-a: 2\nuser-agent: u");
	assert_false(answer.given);
	assert_string_equal(fake_fields(x->head), "x-new: a\nx-new: b\nx-a: 9\n");
	assert_memory_equal(x->path.p, "/new", 4); /* normalised again */
	assert_int_equal(x->path.n, 4);
	assert_memory_equal(x->query.p, "z=2", 3);
	assert_true(http_is(x->head->authority, "else.example"));
	fake_exchange_free(x);
}

static void test_values_that_would_break_a_message(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"t:add('x', 'a\\r\\nb: c')",   "t:add('x y', '1')",	  "t:add('', '1')",
		"t:replace(':path', '/a b')",  "t:replace(':path', 'a')", "t:replace(':method', 'A B')",
		"t:replace(':authority', '')", "t:add('x', 'a\\0b')",	  "t:replace(':other', 'x')"
	};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char code[256];
		snprintf(code, sizeof(code),
			 "function envoy_on_request(h) local t = h:headers() t:add('y', '1') %s t:add('z', '1') end",
			 bad[i]);
		scripts_only(code);
		struct exchange *x = scripts_start("GET /p");
		assert_false(answer.given); /* as with Envoy, the request goes on */
		if (i < 8)
			assert_string_equal(fake_fields(x->head), "y: 1\n");
		assert_true(http_is(x->head->path, "/p"));
		fake_exchange_free(x);
	}
}

static void test_body(void **state)
{
	(void)state;
	static char large[70000];
	for (int late = 0; late < 2; late++) {
		fake_body_late = late;
		fake_body = "hello";
		scripts_only("function envoy_on_request(h) local b = h:body() h:respond({[':status']='200'}, "
			     "b:length() .. b:getBytes(1, 3) .. b:getBytes(0, b:length())) end");
		struct exchange *x = scripts_start("POST /");
		if (late)
			fake_body_deliver();
		assert_string_equal(answer.body, "5ellhello");
		fake_exchange_free(x);

		fake_body = "";
		scripts_only("function envoy_on_request(h) assert(h:body() == nil) assert(h:body() == nil) "
			     "h:headers():add('x-seen', 'yes') end");
		x = scripts_start("POST /");
		if (late)
			fake_body_deliver();
		assert_int_equal(answer.continued, late);
		assert_false(answer.given);
		assert_string_equal(fake_header(x, "x-seen"), "yes");
		fake_exchange_free(x);

		memset(large, 'x', sizeof(large) - 1);
		fake_body = large;
		x = scripts_start("POST /");
		if (late)
			fake_body_deliver();
		assert_int_equal(answer.status, 413);
		fake_exchange_free(x);
	}
	fake_body_late = true;
	fake_exchange_free(scripts_start("POST /")); /* the client goes away while it is waited for */
}

static void test_other_calls(void **state)
{
	(void)state;
	assert_string_equal(scripts_say("h:base64Escape('')"), "");
	assert_string_equal(scripts_say("h:base64Escape('f') .. h:base64Escape('fo') .. h:base64Escape('foo')"),
			    "Zg==Zm8=Zm9v");
	assert_string_equal(scripts_say("h:metadata():get('k')"), "nil");
	assert_string_equal(scripts_say("h:streamInfo():protocol()"), "HTTP/1.1");
	assert_string_equal(scripts_say("h:streamInfo():downstreamDirectRemoteAddress()"), "10.7.0.1:40000");
	assert_string_equal(scripts_say("h:streamInfo():downstreamRemoteAddress()"), "10.7.0.1:40000");
	scripts_only(
		"function envoy_on_request(h) h:headers():add('x', h:streamInfo():downstreamRemoteAddress() .. ' ' .. "
		"h:streamInfo():downstreamDirectRemoteAddress()) end");
	struct exchange *far = fake_exchange("GET /");
	far->filters = scripts;
	addr_parse("192.0.2.7", &far->remote);
	assert_int_equal(stage_lua(far), STAGE_CONTINUE);
	assert_string_equal(fake_header(far, "x"), "192.0.2.7:0 10.7.0.1:40000");
	fake_exchange_free(far);
	assert_string_equal(scripts_say("#h:streamInfo():requestedServerName()"), "0");
	assert_string_equal(scripts_say("h:connection():ssl()"), "nil");
	assert_true(strtod(scripts_say("h:timestamp()"), NULL) > 1.6e12);
	assert_true(strtod(scripts_say("h:timestamp(EnvoyTimestampResolution.MICROSECOND)"), NULL) > 1.6e15);
	assert_string_equal(scripts_say(
				    "(function() local d = h:streamInfo():dynamicMetadata() d:set('f', 'k', {1, 2}) "
				    "d:set('f', 'l', 'v') "
				    "return d:get('f').k[2] .. d:get('f').l .. tostring(d:get('g')) end)()"),
			    "2vnil");
	scripts_only("function envoy_on_request(h) h:logInfo('one\\ntwo') h:logErr('three') h:logTrace('four') end");
	fake_exchange_free(scripts_start("GET /"));
	assert_non_null(strstr(scripts_log, "lua EnvoyFilter/shop/s[0]: one?two"));
	assert_non_null(strstr(scripts_log, "three"));
	struct identity who = { .uri = (char *)"spiffe://td/ns/a/sa/b" };
	scripts_only("function envoy_on_request(h) local s = h:connection():ssl() h:respond({[':status']='200'}, "
		     "tostring(s:peerCertificatePresented()) .. s:uriSanPeerCertificate()[1]) end");
	struct exchange *x = fake_exchange("GET /");
	x->filters = scripts;
	x->peer = &who;
	assert_int_equal(stage_lua(x), STAGE_ANSWERED);
	assert_string_equal(answer.body, "truespiffe://td/ns/a/sa/b");
	fake_exchange_free(x);
}

static void test_respond_ends_the_script(void **state)
{
	(void)state;
	scripts_add("function envoy_on_request(h) pcall(function() h:respond({[':status']=418, ['X-H']={'a', 'b'}, "
		    "['set-cookie']='c', "
		    "['content-length']='9'}) end) h:headers():add('never', '1') end");
	scripts_add("function envoy_on_request(h) h:headers():add('second', '1') end");
	struct exchange *x = scripts_start("GET /");
	assert_int_equal(answer.status, 418);
	assert_string_equal(answer.body, "");
	assert_non_null(strstr(answer.extra, "x-h: a\nx-h: b\n"));
	assert_non_null(strstr(answer.extra, "set-cookie: c\n"));
	assert_null(strstr(answer.extra, "content-length"));
	assert_string_equal(fake_fields(x->head), "");
	fake_exchange_free(x);
}

static void test_respond_takes_any_bytes(void **state)
{
	(void)state;
	scripts_add("function envoy_on_request(h) h:respond({[':status']=200}, 'a\\0b\\255') end");
	struct exchange *x = scripts_start("GET /");
	assert_int_equal(answer.status, 200);
	assert_int_equal(answer.body_len, 4);
	assert_memory_equal(answer.body, "a\0b\xff", 4);
	fake_exchange_free(x);
}

static void test_errors_let_the_request_go_on(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"error('x')",
		"error({})",
		"local a = nil .. 'x'",
		"h:nothing()",
		"h:httpCall('c', {}, '', 5)",
		"h:importPublicKey('', 0)",
		"h:respond({}, '')",
		"h:respond({[':status']='99'})",
		"coroutine.yield()",
		"h.headers()",
		"h.headers(1)",
		"h:headers().get(h, 'x')",
		"coroutine.wrap(function() h:body() end)()",
		"setmetatable({}, {__index = function() error('deep') end}).x()",
		"string.rep()",
		"('x'):rep(-1, 2, 3):bad()",
		"local function f() return f() + 1 end f()",
	};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char code[512];
		snprintf(code, sizeof(code),
			 "function envoy_on_request(h) h:headers():add('before', '1') %s h:headers():add('after', '1') "
			 "end",
			 bad[i]);
		scripts_only(code);
		memset(&fake_metrics, 0, sizeof(fake_metrics));
		struct exchange *x = scripts_start("GET /");
		if (answer.given)
			fail_msg("%s: answered %u", bad[i], answer.status);
		assert_string_equal(fake_fields(x->head), "before: 1\n");
		assert_int_equal(fake_metrics.lua_errors, 1);
		fake_exchange_free(x);
	}
	assert_non_null(strstr(scripts_log, "importPublicKey() is not supported"));
}

static void refused(const char *code)
{
	struct timespec a, b;
	scripts_only(code);
	scripts_log[0] = '\0';
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
	for (size_t i = 0; i < 2; i++) {
		struct exchange *x = scripts_start("GET /\nx-a: 1");
		if (!answer.given || answer.status != 500)
			fail_msg("not refused: %s", code);
		assert_string_equal(answer.details, "lua_script_error");
		assert_int_equal(answer.reason, DROP_LUA_REFUSED);
		fake_exchange_free(x);
	}
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
	double s = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;
	if (s > 30) /* two tries; without limits they would not end */
		fail_msg("took %.2f s: %s", s, code);
}

static void test_scripts_that_do_not_compile_refuse(void **state)
{
	(void)state;
	refused("function envoy_on_request(h) this is not lua end");
	assert_non_null(strstr(scripts_log, "every request is refused"));
	refused("error('at the top')");
	refused("\x1bLJ\x02");
	refused("while true do end");
	refused("coroutine.yield()");
}

/* Loops, memory, recursion; each also where errors are caught. */
static void test_hostile_scripts_are_stopped_and_refused(void **state)
{
	(void)state;
	static const char *const bombs[] = {
		"while true do end",
		"local s = 'x' while true do s = s .. s end",
		"string.rep('x', 1e9)",
		"local t = {} for i = 1, 1e9 do t[i] = {} end",
		"local s = ('x'):rep(500000) while true do local u = s .. 'y' end",
		"local s = ('x'):rep(30000) return s:find(('.-'):rep(20) .. 'y')",
		"local s = ('a'):rep(60000) return s:gsub('a*a*a*b', '')",
		"local s = ('a'):rep(60000) for x in s:gmatch('a-a-a-a-b') do end",
		"local s = ('('):rep(100000) while true do s:match('%b()') end",
		"local t = {} for i = 1, 60000 do t[i] = i end while true do table.insert(t, 1, 1) table.remove(t, 1) "
		"end",
		"local t = {} for i = 1, 60000 do t[i] = i % 7 end while true do table.sort(t) end",
		"local t = {} for i = 1, 1000 do t[i] = i end table.sort(t, function() while true do end end)",
		"while true do local s = ('x'):rep(900000) end",
		"local function f() while true do end end while true do pcall(f) end",
		"for i = 1, 1e9 do pcall(string.rep, 'x', 1e9) end",
		"while true do xpcall(function() while true do end end, function() while true do end end) end",
		"while true do coroutine.wrap(function() while true do end end)() end",
		"while true do local c = coroutine.create(function() while true do end end) coroutine.resume(c) end",
		"local function f(n) return pcall(f, n) end while true do f(1) end",
		"local t = setmetatable({}, {__index = function(t, k) return t[k + 1] end}) while true do "
		"pcall(function() return t[1] end) end",
		"while true do ('x'):gsub('x', function() while true do end end) end",
		"local s = ('x'):rep(400000) while true do s:upper() end",
		"while true do h:headers():add('x-many', ('v'):rep(1000)) end",
		"while true do pcall(h.headers(h).add, h:headers(), 'x-many', ('v'):rep(1000)) end",
		"while true do h:base64Escape(('v'):rep(60000)) end",
		"pcall(function() while true do end end) h:respond({[':status']='200'}, 'free')",
		"pcall(string.rep, 'x', 1e9)",
	};
	for (size_t i = 0; i < ARRAY_SIZE(bombs); i++) {
		char code[512];
		snprintf(code, sizeof(code), "function envoy_on_request(h) %s end", bombs[i]);
		if (i == 22) { /* too many headers is an error of the script's, before any limit */
			scripts_only(code);
			struct exchange *x = scripts_start("GET /");
			assert_false(answer.given);
			assert_true(x->head->field_count < 1100);
			fake_exchange_free(x);
			continue;
		}
		refused(code);
	}
}

static void test_what_is_not_there(void **state)
{
	(void)state;
	static const char *const names[] = { "io",	     "os",	 "require", "package",	   "ffi",
					     "debug",	     "jit",	 "load",    "loadstring",  "loadfile",
					     "dofile",	     "newproxy", "setfenv", "getfenv",	   "collectgarbage",
					     "module",	     "rawset",	 "_G",	    "string.dump", "gcinfo",
					     "table.foreach" };
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		assert_string_equal(scripts_say(names[i]), "nil");
	assert_string_equal(scripts_say("getmetatable('')"), "false");
	assert_string_equal(scripts_say("getmetatable(h)"), "false");
	assert_string_equal(scripts_say("getmetatable(string)"), "false");
	assert_string_equal(scripts_say("pcall(function() string.rep = 1 end)"), "false");
	assert_string_equal(scripts_say("pcall(setmetatable, string, {})"), "false");
	assert_string_equal(scripts_say("(function() string = nil return ('x'):upper() end)()"), "X");
}

static void test_response(void **state)
{
	(void)state;
	scripts_add(
		"function envoy_on_response(h) local t = h:headers() t:add('x-order', 'first') t:replace('x-status', "
		"t:get(':status')) "
		"t:replace(':status', '418') end");
	scripts_add(
		"function envoy_on_response(h) h:headers():add('x-order', 'second') pcall(function() h:body() end) "
		"pcall(function() h:respond({[':status']='200'}, 'x') end) for i = 1, 10 do local x = i .. '' end end");
	struct exchange *x = scripts_start("GET /");
	struct http_head *r = http_head_new();
	r->status = 200;
	http_add(r, "server", "s");
	stage_lua_response(x, r);
	assert_string_equal(fake_fields(r), "server: s\nx-order: second\nx-order: first\nx-status: 200\n");
	assert_int_equal(r->status, 418);
	assert_int_equal(x->record.status, 418);
	assert_false(answer.given);
	http_head_free(r);
	fake_exchange_free(x);

	scripts_only("function envoy_on_response(h) h:headers():add('x-before', '1') while true do end end");
	x = scripts_start("GET /");
	r = http_head_new();
	r->status = 200;
	stage_lua_response(x, r);
	assert_string_equal(fake_fields(r), "x-before: 1\n");
	assert_int_equal(fake_metrics.lua_errors, 1);
	http_head_free(r);
	fake_exchange_free(x);

	/* What a script answers is not shown to it again. */
	scripts_only("function envoy_on_request(h) h:respond({[':status']='403'}) end function envoy_on_response(h) "
		     "h:headers():add('x', '1') end");
	x = scripts_start("GET /");
	r = http_head_new();
	stage_lua_response(x, r);
	assert_string_equal(fake_fields(r), "");
	http_head_free(r);
	fake_exchange_free(x);
}

static void test_ports(void **state)
{
	(void)state;
	scripts_add("function envoy_on_request(h) h:respond({[':status']='403'}) end");
	scripts->scripts[0].port = 9090;
	http_filters_seal(scripts);
	fake_exchange_free(scripts_start("GET /"));
	assert_false(answer.given);
	scripts->scripts[0].port = 8080;
	http_filters_seal(scripts);
	fake_exchange_free(scripts_start("GET /"));
	assert_int_equal(answer.status, 403);
}

static void test_strings(void **state)
{
	(void)state;
	static const struct {
		const char *expression, *value;
	} rows[] = {
		{ "('hello world'):find('wor')", "7" },
		{ "select(2, ('hello world'):find('wor'))", "9" },
		{ "('a.b'):find('.', 1, true)", "2" },
		{ "('abc'):find('b', -1)", "nil" },
		{ "('abc'):find('', 10)", "4" },
		{ "('Bearer  tok.en'):match('^Bearer%s+(.+)$')", "tok.en" },
		{ "('  trim me '):match('^%s*(.-)%s*$') .. '|'", "trim me|" },
		{ "('key=value'):match('(%w+)=(%w+)')", "key" },
		{ "select(2, ('key=value'):match('(%w+)=(%w+)'))", "value" },
		{ "('abc'):match('()b()')", "2" },
		{ "('[x]'):match('[]]')", "]" },
		{ "('a-z'):match('[a%-]+')", "a-" },
		{ "('x^'):match('[x^]+')", "x^" },
		{ "('abc123'):match('[^%a]+')", "123" },
		{ "('f(a(b)c)d'):match('%b()')", "(a(b)c)" },
		{ "('THE (quick) fox'):find('%f[%a]%a+%f[%A]', 2)", "6" },
		{ "('\"it\" x'):match('([\"\\'])(.-)%1')", "\"" },
		{ "('colour'):match('colou?r')", "colour" },
		{ "('color'):match('colou?r')", "color" },
		{ "('aaa'):gsub('a', 'b', 2)", "bba" },
		{ "('hello world'):gsub('(%w+)', '<%1>')", "<hello> <world>" },
		{ "('hello'):gsub('', '-')", "-h-e-l-l-o-" },
		{ "('abc'):gsub('%w', '%0%0')", "aabbcc" },
		{ "('$name is'):gsub('%$(%w+)', {name = 'lua'})", "lua is" },
		{ "('abc'):gsub('%w', function(c) if c == 'b' then return 'X' end end)", "aXc" },
		{ "select(2, ('abc'):gsub('%w', '.'))", "3" },
		{ "('abab'):gsub('^ab', 'x')", "xab" },
		{ "(function() local t = {} for k, v in ('a=1, b=2'):gmatch('(%w+)=(%w+)') do t[#t + 1] = k .. v end "
		  "return table.concat(t, ';') end)()",
		  "a1;b2" },
		{ "(function() local n = 0 for x in ('abc'):gmatch('') do n = n + 1 end return n end)()", "4" },
		{ "pcall(string.find, 'a', '[a')", "false" },
		{ "pcall(string.find, 'a', '%')", "false" },
		{ "pcall(string.find, 'a', '(a')", "false" },
		{ "pcall(string.match, 'a', 'a)')", "false" },
		{ "pcall(string.gsub, 'a', 'a', '%9')", "false" },
		{ "('x'):rep(3) .. ('%d-%s'):format(5, 'y')", "xxx5-y" },
		{ "table.concat((function() local t = {3, 1, 2} table.sort(t) return t end)(), ',')", "1,2,3" },
		{ "table.concat((function() local t = {3, 1, 2} table.sort(t, function(a, b) return a > b end) return "
		  "t end)(), ',')",
		  "3,2,1" },
		{ "bit.band(12, 10)", "8" },
		{ "select(2, xpcall(function(a) return a + 1 end, print, 1))", "2" },
		{ "select(2, xpcall(function() error('e', 0) end, function(e) return '<' .. e end))", "<e" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char code[512];
		snprintf(code, sizeof(code), "(%s)", rows[i].expression);
		const char *got = scripts_say(code);
		if (strcmp(got, rows[i].value) != 0)
			fail_msg("%s: %s instead of %s", rows[i].expression, got, rows[i].value);
	}
}

static void test_memory_stays_flat(void **state)
{
	(void)state;
	scripts_add("function envoy_on_request(h) local t = {} for i = 1, 50 do t[i] = ('x'):rep(i) end keep = t end");
	size_t after = 0;
	for (size_t i = 0; i < 3000; i++) {
		fake_exchange_free(scripts_start("GET /"));
		struct lua_vm *vm = lua_vm_get(scripts, 0);
		if (i == 500)
			after = vm->bytes;
		if (i > 500)
			assert_true(vm->bytes < 3 * after + 200000);
		assert_true(vm->bytes < 2 << 20);
		lua_vm_release(vm);
	}
}

/* Nothing that LuaJIT does is forbidden to the helper: above all, no executable memory. */
static int child(void)
{
	struct err err = ERR_INIT;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || sandbox_calls_restrict(&err) < 0)
		return 2;
	scripts_only("function envoy_on_request(h) local s = 0 for i = 1, 50000 do s = s + i % 7 end for i = 1, 300 do "
		     "h:headers():get('x-a') end "
		     "h:respond({[':status']='403'}, s .. '') end");
	struct exchange *x = scripts_start("GET /\nx-a: 1");
	if (!answer.given || answer.status != 403)
		return 3;
	fake_exchange_free(x);
	scripts_only("function envoy_on_request(h) while true do end end");
	x = scripts_start("GET /");
	return answer.given && answer.status == 500 ? 0 : 4;
}

static void test_in_the_sandbox(void **state)
{
	(void)state;
	int status = 0;
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(child());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCRIPT_CASE(test_in_the_sandbox),
		SCRIPT_CASE(test_required_header),
		SCRIPT_CASE(test_headers),
		SCRIPT_CASE(test_changing_headers),
		SCRIPT_CASE(test_values_that_would_break_a_message),
		SCRIPT_CASE(test_body),
		SCRIPT_CASE(test_other_calls),
		SCRIPT_CASE(test_respond_ends_the_script),
		SCRIPT_CASE(test_respond_takes_any_bytes),
		SCRIPT_CASE(test_errors_let_the_request_go_on),
		SCRIPT_CASE(test_scripts_that_do_not_compile_refuse),
		SCRIPT_CASE(test_hostile_scripts_are_stopped_and_refused),
		SCRIPT_CASE(test_what_is_not_there),
		SCRIPT_CASE(test_response),
		SCRIPT_CASE(test_ports),
		SCRIPT_CASE(test_strings),
		SCRIPT_CASE(test_memory_stays_flat),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
