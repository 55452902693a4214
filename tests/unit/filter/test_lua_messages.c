/* SPDX-License-Identifier: Apache-2.0 */
/* What scripts do with bodies, trailers and responses, at once and after waiting. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "agent/helper/worker.h"
#include "tests/unit/filter/scripts.h"

static char large[70000];

#define AROUND_BODY                                                                                                    \
	"local b = h:body() h:headers():add('x-seen', b and b:getBytes(0, b:length()) or 'nil') if b then "            \
	"h:headers():add('x-len', b:setBytes('<' .. b:getBytes(0, b:length()) .. '>')) end "

static void test_request_body_is_replaced(void **state)
{
	(void)state;
	for (int late = 0; late < 2; late++) {
		fake_body_late = late;
		fake_body = "hello";
		scripts_only("function envoy_on_request(h) " AROUND_BODY "end");
		scripts_add("function envoy_on_request(h) h:headers():add('x-second', h:body():getBytes(0, 7)) end");
		struct exchange *x = scripts_start("POST /");
		x->head->content_length = 5;
		if (late)
			fake_body_deliver();
		assert_int_equal(answer.continued, late);
		assert_string_equal(fake_fields(x->head), "x-seen: hello\nx-len: 7\nx-second: <hello>\n");
		assert_true(answer.replaced && !answer.replaced_response);
		assert_string_equal(answer.replacement, "<hello>");
		fake_exchange_free(x);
	}
}

static void test_response_body_is_seen_and_replaced(void **state)
{
	(void)state;
	for (int late = 0; late < 2; late++) {
		struct http_head *r;
		fake_response_late = late;
		fake_response_body = "hello";
		scripts_only("function envoy_on_response(h) " AROUND_BODY "end");
		scripts_add("function envoy_on_response(h) h:headers():add('x-first', h:body():length()) end");
		struct exchange *x = scripts_start("GET /");
		assert_int_equal(scripts_respond(x, "", &r), late ? STAGE_WAIT : STAGE_CONTINUE);
		if (late)
			fake_response_deliver();
		assert_int_equal(answer.response_continued, late);
		assert_string_equal(fake_fields(r), "x-first: 5\nx-seen: hello\nx-len: 7\n");
		assert_int_equal(r->content_length, 7);
		assert_true(answer.replaced_response);
		assert_string_equal(answer.replacement, "<hello>");
		fake_exchange_free(x);
		http_head_free(r);
	}
}

static void test_no_body_is_nil_unless_it_is_wanted(void **state)
{
	(void)state;
	struct http_head *r;
	fake_response_body = "";
	scripts_only("function envoy_on_response(h) h:headers():add('x-nil', tostring(h:body())) "
		     "h:body(true):setBytes('new') h:headers():add('x-now', h:body():getBytes(0, 3)) end");
	struct exchange *x = scripts_start("GET /");
	assert_int_equal(scripts_respond(x, "", &r), STAGE_CONTINUE);
	assert_string_equal(fake_fields(r), "x-nil: nil\nx-now: new\n");
	assert_string_equal(answer.replacement, "new");
	fake_exchange_free(x);
	http_head_free(r);
}

/* As Envoy, which has not passed on anything of it yet. */
static void test_too_large_response_body_is_an_error(void **state)
{
	(void)state;
	memset(large, 'x', sizeof(large) - 1);
	for (int late = 0; late < 2; late++) {
		struct http_head *r;
		fake_response_late = late;
		fake_response_body = large;
		scripts_only("function envoy_on_response(h) h:body() end");
		struct exchange *x = scripts_start("GET /");
		assert_int_equal(scripts_respond(x, "", &r), late ? STAGE_WAIT : STAGE_ANSWERED);
		if (late)
			fake_response_deliver();
		assert_int_equal(answer.status, 500);
		assert_string_equal(answer.details, "response_payload_too_large");
		assert_false(answer.response_continued);
		fake_exchange_free(x);
		http_head_free(r);
	}
}

static void test_chunks_are_the_body_once(void **state)
{
	(void)state;
	static const char code[] =
		"function %s(h) local n, last = 0 for c in h:bodyChunks() do n = n + c:length() last = c end "
		"h:headers():add('x-n', n) if last then last:setBytes('done') end end";
	char text[512];
	struct http_head *r;

	fake_body = fake_response_body = "12345";
	snprintf(text, sizeof(text), code, "envoy_on_request");
	scripts_only(text);
	struct exchange *x = scripts_start("POST /");
	assert_string_equal(fake_fields(x->head), "x-n: 5\n");
	assert_string_equal(answer.replacement, "done");
	fake_exchange_free(x);

	snprintf(text, sizeof(text), code, "envoy_on_response");
	scripts_only(text);
	x = scripts_start("GET /");
	assert_int_equal(scripts_respond(x, "", &r), STAGE_CONTINUE);
	assert_string_equal(fake_fields(r), "x-n: 5\n");
	assert_true(answer.replaced_response);
	fake_exchange_free(x);
	http_head_free(r);
}

static void test_trailers(void **state)
{
	(void)state;
	struct http_head *r;
	fake_response_body = "b";
	fake_trailers = "grpc-status: 5\nx-t: 1";
	scripts_only("function envoy_on_response(h) local t = h:trailers() h:headers():add('x-status', "
		     "t:get('grpc-status')) t:replace('x-t', '2') t:add('x-u', '3') t:remove('grpc-status') "
		     "for k, v in pairs(t) do h:headers():add('y-' .. k, v) end end");
	struct exchange *x = scripts_start("GET /");
	assert_int_equal(scripts_respond(x, "", &r), STAGE_CONTINUE);
	assert_string_equal(fake_fields(r), "x-status: 5\ny-x-t: 2\ny-x-u: 3\n");
	assert_string_equal(fake_fields(fake_trailer_head), "x-t: 2\nx-u: 3\n");
	fake_exchange_free(x);
	http_head_free(r);

	fake_trailers = NULL;
	scripts_only("function envoy_on_request(h) h:headers():add('x', tostring(h:trailers())) end");
	x = scripts_start("GET /");
	assert_string_equal(fake_fields(x->head), "x: nil\n");
	fake_exchange_free(x);
}

/* Before tokens are verified, then the others after; one body. */
static void test_early_scripts_have_a_pass_of_their_own(void **state)
{
	(void)state;
	struct http_head *r;
	fake_body = "b";
	scripts_add("function envoy_on_request(h) h:headers():add('x', 'late' .. h:body():getBytes(0, 4)) end "
		    "function envoy_on_response(h) h:headers():add('x', 'late') end");
	scripts_add("function envoy_on_request(h) h:headers():add('x', 'early') h:body():setBytes('made') end "
		    "function envoy_on_response(h) h:headers():add('x', 'early') end")
		->early = true;
	http_filters_seal(scripts);
	struct exchange *x = fake_exchange("POST /");
	x->filters = scripts;
	assert_int_equal(stage_lua_early(x), STAGE_CONTINUE);
	assert_string_equal(fake_fields(x->head), "x: early\n");
	assert_string_equal(answer.replacement, "made");
	answer.replaced = false;
	assert_int_equal(stage_lua(x), STAGE_CONTINUE);
	assert_string_equal(fake_fields(x->head), "x: early\nx: latemade\n");
	assert_false(answer.replaced);
	assert_int_equal(scripts_respond(x, "", &r), STAGE_CONTINUE);
	assert_string_equal(fake_fields(r), "x: early\nx: late\n"); /* backwards */
	fake_exchange_free(x);
	http_head_free(r);

	scripts_only("function envoy_on_request(h) h:headers():add('x', '1') end");
	x = fake_exchange("GET /");
	x->filters = scripts;
	assert_int_equal(stage_lua_early(x), STAGE_CONTINUE);
	assert_string_equal(fake_fields(x->head), "");
	fake_exchange_free(x);
}

/* The request's and the response's callbacks, and all scripts, have one. */
static void test_dynamic_metadata_is_shared(void **state)
{
	(void)state;
	struct http_head *r;
	scripts_add("function envoy_on_request(h) h:streamInfo():dynamicMetadata():set('a', 'k', {deep = 'v'}) end "
		    "function envoy_on_response(h) local n = 0 for k, v in pairs(h:streamInfo():dynamicMetadata()) do "
		    "n = n + 1 end h:headers():add('x-n', n) end");
	scripts_add("function envoy_on_response(h) local d = h:streamInfo():dynamicMetadata() "
		    "h:headers():add('x', d:get('a').k.deep) d:set('b', 'k', 1) end");
	for (int i = 0; i < 2; i++) {
		struct exchange *x = scripts_start("GET /");
		assert_int_equal(scripts_respond(x, "", &r), STAGE_CONTINUE);
		assert_string_equal(fake_fields(r), "x: v\nx-n: 2\n");
		fake_exchange_free(x);
		http_head_free(r);
	}
}

static void test_wrong_uses_are_errors_of_the_script(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"local b = h:body() b:getBytes(-1, 1)",
		"h:body():getBytes(0, 6)",
		"h:body():getBytes(6, 0)",
		"h:body():setBytes(('x'):rep(300000))",
		"h:body('yes')",
		"h:body():setBytes({})",
		"kept = h:body() coroutine.wrap(function() h:respond({[':status']='200'}) end)()",
	};
	fake_body = "hello";
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char code[256];
		snprintf(code, sizeof(code), "function envoy_on_request(h) %s h:headers():add('after', '1') end",
			 bad[i]);
		scripts_only(code);
		memset(&fake_metrics, 0, sizeof(fake_metrics));
		struct exchange *x = scripts_start("POST /");
		assert_string_equal(fake_fields(x->head), "");
		assert_int_equal(fake_metrics.lua_errors, 1);
		assert_false(answer.given || answer.replaced);
		fake_exchange_free(x);
	}
}

/* The exchange ends while a script waits, or the engine answers in its place. */
static void test_waiting_scripts_are_forgotten(void **state)
{
	(void)state;
	struct http_head *r, *other;
	fake_response_late = true;
	fake_response_body = "b";
	scripts_only("function envoy_on_response(h) h:body() h:headers():add('x', '1') end");
	struct exchange *x = scripts_start("GET /");
	assert_int_equal(scripts_respond(x, "", &r), STAGE_WAIT);
	assert_int_equal(scripts_respond(x, "x-local: 1", &other), STAGE_CONTINUE); /* a timeout's 504 */
	assert_string_equal(fake_fields(other), "x-local: 1\n");
	fake_exchange_free(x);
	http_head_free(r);
	http_head_free(other);

	x = scripts_start("GET /");
	assert_int_equal(scripts_respond(x, "", &r), STAGE_WAIT);
	fake_exchange_free(x);
	http_head_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCRIPT_CASE(test_request_body_is_replaced),
		SCRIPT_CASE(test_response_body_is_seen_and_replaced),
		SCRIPT_CASE(test_no_body_is_nil_unless_it_is_wanted),
		SCRIPT_CASE(test_too_large_response_body_is_an_error),
		SCRIPT_CASE(test_chunks_are_the_body_once),
		SCRIPT_CASE(test_trailers),
		SCRIPT_CASE(test_early_scripts_have_a_pass_of_their_own),
		SCRIPT_CASE(test_dynamic_metadata_is_shared),
		SCRIPT_CASE(test_wrong_uses_are_errors_of_the_script),
		SCRIPT_CASE(test_waiting_scripts_are_forgotten),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
