/* SPDX-License-Identifier: Apache-2.0 */
/* Which limits a request meets, what it is answered, and what a rate limit service is asked. Buckets are the process's own:
 * each test has limits of another name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "agent/helper/filter/grpc_call.h"
#include "agent/helper/filter/ratelimit.pb-c.h"
#include "agent/helper/worker.h"
#include "tests/unit/filter/fake.h"

static struct http_filters *f;

static struct rate_limit *limit(const char *name, uint32_t max)
{
	f->limits = reallocarray(f->limits, f->limit_count + 1, sizeof(*f->limits));
	struct rate_limit *l = &f->limits[f->limit_count++];
	*l = (struct rate_limit){
		.name = strdup(name), .status = 429, .enabled = { 1000000 }, .enforced = { 1000000 }
	};
	l->has_bucket = max > 0;
	l->bucket = (struct token_bucket){ max, 1, 3600000 };
	return l;
}

static struct limit_action *action(struct rate_limit *l, bool new_descriptor, enum limit_action_kind kind,
				   const char *key)
{
	if (new_descriptor) {
		l->actions = reallocarray(l->actions, l->action_count + 1, sizeof(*l->actions));
		l->actions[l->action_count++] = (struct limit_actions){ 0 };
	}
	struct limit_actions *to = &l->actions[l->action_count - 1];
	to->v = reallocarray(to->v, to->n + 1, sizeof(*to->v));
	to->v[to->n] = (struct limit_action){ .kind = kind, .key = strdup(key), .expect_match = true };
	return &to->v[to->n++];
}

static void descriptor(struct rate_limit *l, uint32_t max, const char *key, const char *value, const char *key2,
		       const char *value2)
{
	l->descriptors = reallocarray(l->descriptors, l->descriptor_count + 1, sizeof(*l->descriptors));
	struct limit_descriptor *d = &l->descriptors[l->descriptor_count++];
	*d = (struct limit_descriptor){ .entries = calloc(2, sizeof(*d->entries)), .entry_count = key2 ? 2 : 1 };
	d->entries[0] = (struct limit_entry){ strdup(key), value ? strdup(value) : NULL };
	if (key2)
		d->entries[1] = (struct limit_entry){ strdup(key2), value2 ? strdup(value2) : NULL };
	d->bucket = (struct token_bucket){ max, 1, 3600000 };
}

static int on_setup(void **state)
{
	(void)state;
	f = http_filters_new();
	memset(&fake_metrics, 0, sizeof(fake_metrics));
	return 0;
}

static int on_teardown(void **state)
{
	(void)state;
	http_filters_unref(f);
	return 0;
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, on_setup, on_teardown)

/* true: it passed. */
static bool run_as(const char *request, bool grpc, const char **response)
{
	static char fields[1024];
	struct exchange *x = fake_exchange(request);
	x->filters = f;
	x->record.grpc = grpc;
	enum stage_result result = stage_rate_limit(x);
	assert_int_equal(result, answer.given ? STAGE_ANSWERED : STAGE_CONTINUE);
	snprintf(fields, sizeof(fields), "%s", fake_fields(x->response_extra));
	if (response)
		*response = fields;
	fake_exchange_free(x);
	return result == STAGE_CONTINUE;
}

static bool run(const char *request)
{
	return run_as(request, false, NULL);
}

static size_t passes(const char *request, size_t times)
{
	size_t n = 0;
	for (size_t i = 0; i < times; i++)
		n += run(request);
	return n;
}

static void test_a_bucket_and_the_answer(void **state)
{
	(void)state;
	struct rate_limit *l = limit("answer", 3);
	l->response.add = calloc(1, sizeof(*l->response.add));
	l->response.add_count = 1;
	l->response.add[0] = (struct http_header_value){ strdup("x-local-rate-limit"), strdup("true") };
	http_filters_seal(f);
	assert_int_equal(passes("GET /", 10), 3);
	assert_int_equal(answer.status, 429);
	assert_int_equal(answer.flags, FLAG(RL));
	assert_string_equal(answer.details, "local_rate_limited");
	assert_string_equal(answer.body, "local_rate_limited");
	assert_string_equal(answer.extra, "x-envoy-ratelimited: true\nx-local-rate-limit: true\n");
	assert_int_equal(answer.drops, 1);
	assert_int_equal(answer.reason, DROP_RATE_LIMITED);
	assert_string_equal(answer.rule, "answer");
}

static void test_grpc(void **state)
{
	(void)state;
	struct rate_limit *l = limit("grpc", 1);
	http_filters_seal(f);
	assert_true(run_as("POST /", true, NULL));
	assert_false(run_as("POST /", true, NULL));
	assert_int_equal(answer.status, 429); /* the engine makes UNAVAILABLE of it */
	l->grpc_exhausted = true;
	assert_false(run_as("POST /", true, NULL));
	assert_int_equal(answer.status, 200);
	assert_non_null(strstr(answer.extra, "grpc-status: 8\n"));
	assert_non_null(strstr(answer.extra, "grpc-message: local_rate_limited\n"));
	assert_false(run_as("POST /", false, NULL));
	assert_int_equal(answer.status, 429);
}

static void test_enabled_and_enforced(void **state)
{
	(void)state;
	struct rate_limit *l = limit("shares", 1);
	http_filters_seal(f);
	l->enabled.ppm = 0;
	assert_int_equal(passes("GET /", 5), 5);
	l->enabled.ppm = 1000000;
	l->enforced.ppm = 0;
	assert_int_equal(passes("GET /", 5), 5);
	assert_int_equal(fake_metrics.limits_unenforced, 4);
	l->enforced.ppm = 300000;
	size_t n = passes("GET /", 2000);
	assert_in_range(n, 1250, 1550);
}

static void test_x_ratelimit_headers(void **state)
{
	(void)state;
	const char *fields;
	struct rate_limit *l = limit("headers", 2);
	l->x_ratelimit_headers = true;
	http_filters_seal(f);
	assert_true(run_as("GET /", false, &fields));
	assert_non_null(strstr(fields, "x-ratelimit-limit: 2\nx-ratelimit-remaining: 1\nx-ratelimit-reset: 3600\n"));
	assert_true(run("GET /"));
	assert_false(run_as("GET /", false, &fields));
	assert_non_null(strstr(fields, "x-ratelimit-remaining: 0\n"));
}

static void test_ports_and_other_pods_and_sides(void **state)
{
	(void)state;
	struct worker_pod one = { .cookie = 1 }, two = { .cookie = 2 };
	struct rate_limit *l = limit("pods", 1);
	l->port = 8080;
	http_filters_seal(f);
	for (size_t i = 0; i < 8; i++) {
		struct exchange *x = fake_exchange("GET /");
		x->filters = f;
		x->pod = i & 1 ? &one : &two;
		x->side = i & 2 ? SIDE_CLIENT : SIDE_SERVER;
		if (x->side == SIDE_CLIENT && i > 3) {
			x->destination.port = 8081; /* of no limit */
			assert_int_equal(stage_rate_limit(x), STAGE_CONTINUE);
		} else if (i < 4) {
			assert_int_equal(stage_rate_limit(x), STAGE_CONTINUE);
		}
		fake_exchange_free(x);
	}
	assert_true(passes("GET /", 3) == 1);
}

static void test_descriptors(void **state)
{
	(void)state;
	struct rate_limit *l = limit("descriptors", 8);
	action(l, true, LIMIT_REQUEST_HEADER, "who")->header = strdup("x-who");
	action(l, false, LIMIT_REQUEST_HEADER, "way")->header = strdup(":method");
	struct limit_action *a = action(l, true, LIMIT_REQUEST_HEADER, "user");
	a->header = strdup("x-user");
	descriptor(l, 2, "who", "alice", "way", "GET");
	descriptor(l, 1, "user", NULL, NULL, NULL);
	descriptor(l, 3, "user", "root", NULL, NULL);
	http_filters_seal(f);
	assert_int_equal(passes("GET /\nx-who: alice", 5), 2); /* of the default bucket, two as well */
	assert_int_equal(passes("GET /\nx-user: a", 3), 1);    /* each value has its own; 5 are left */
	assert_int_equal(passes("GET /\nx-user: b", 3), 1);
	assert_int_equal(passes("GET /\nx-user: root", 9), 3);	/* the exact one counts */
	assert_int_equal(passes("POST /\nx-who: alice", 9), 1); /* matches nothing: the default bucket's last */
	assert_false(run("GET /\nx-user: c"));			/* the default bucket is always used too */
	f->limits[0].spare_bucket = true;
	assert_true(run("GET /\nx-user: d"));
}

static void test_a_descriptor_needs_all_its_actions(void **state)
{
	(void)state;
	struct rate_limit *l = limit("actions", 0);
	action(l, true, LIMIT_REQUEST_HEADER, "a")->header = strdup("x-a");
	struct limit_action *b = action(l, false, LIMIT_REQUEST_HEADER, "b");
	b->header = strdup("x-b");
	b->skip_if_absent = true;
	struct limit_action *m = action(l, false, LIMIT_HEADER_VALUE_MATCH, "m");
	m->value = strdup("yes");
	m->matches = calloc(1, sizeof(*m->matches));
	m->match_count = 1;
	m->matches[0] =
		(struct http_field_match){ strdup("x-m"), { .kind = HTTP_TEXT_PREFIX, .text = strdup("p") }, false };
	descriptor(l, 1, "a", "1", "m", "yes");
	http_filters_seal(f);
	assert_true(run("GET /\nx-a: 1\nx-m: pp"));
	assert_false(run("GET /\nx-a: 1\nx-m: pp"));
	assert_true(run("GET /\nx-a: 1\nx-b: 2\nx-m: pp")); /* another descriptor */
	assert_true(run("GET /\nx-a: 1\nx-m: q"));
	assert_true(run("GET /\nx-a: 1"));
	assert_true(run("GET /\nx-m: pp"));
	m->expect_match = false;
	assert_false(run("GET /\nx-a: 1"));
}

/* As Envoy matches headers: pseudo-headers too, and what is absent has no value, whatever is inverted. */
static void test_header_value_matches(void **state)
{
	(void)state;
	static const struct {
		const char *name, *text, *request;
		enum http_text_kind kind;
		bool invert, limited;
	} rows[] = {
		{ ":path", "/api/", "GET /api/v1?x=1", HTTP_TEXT_PREFIX, false, true },
		{ ":path", "/api/", "GET /web", HTTP_TEXT_PREFIX, false, false },
		{ ":method", "POST", "POST /", HTTP_TEXT_EXACT, false, true },
		{ ":authority", "shop.example", "GET /", HTTP_TEXT_EXACT, false, true },
		{ ":authority", "shop.example", "GET /", HTTP_TEXT_EXACT, true, false },
		{ ":scheme", "http", "GET /", HTTP_TEXT_EXACT, false, true },
		{ "x-a", "1", "GET /\nx-a: 2", HTTP_TEXT_EXACT, true, true },
		{ "x-a", "1", "GET /", HTTP_TEXT_EXACT, true, false },
		{ "x-a", NULL, "GET /", HTTP_TEXT_PRESENT, true, true },
		{ "x-a", NULL, "GET /\nx-a: 2", HTTP_TEXT_PRESENT, true, false },
		{ "x-a", NULL, "GET /\nx-a: 2", HTTP_TEXT_PRESENT, false, true },
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char name[32];
		snprintf(name, sizeof(name), "value-match-%zu", i);
		http_filters_unref(f);
		f = http_filters_new();
		struct rate_limit *l = limit(name, 0);
		struct limit_action *a = action(l, true, LIMIT_HEADER_VALUE_MATCH, "hit");
		a->value = strdup("yes");
		a->matches = calloc(1, sizeof(*a->matches));
		a->match_count = 1;
		a->matches[0].name = strdup(rows[i].name);
		a->matches[0].invert = rows[i].invert;
		a->matches[0].value.kind = rows[i].kind;
		a->matches[0].value.text = rows[i].text ? strdup(rows[i].text) : NULL;
		descriptor(l, 1, "hit", "yes", NULL, NULL);
		http_filters_seal(f);
		if (passes(rows[i].request, 2) != (rows[i].limited ? 1 : 2))
			fail_msg("row %zu", i);
	}
}

static void test_limits_of_a_route_are_in_place_of_others(void **state)
{
	(void)state;
	struct http_route route = { .name = (char *)"slow" };
	limit("of-all", 1);
	struct rate_limit *l = limit("of-one", 2);
	l->per_route = true;
	l->route = strdup("slow");
	http_filters_seal(f);
	for (size_t i = 0; i < 3; i++) {
		struct exchange *x = fake_exchange("GET /");
		x->filters = f;
		x->side = SIDE_CLIENT;
		x->route = &route;
		x->side = SIDE_SERVER;
		assert_int_equal(stage_rate_limit(x), i < 2 ? STAGE_CONTINUE : STAGE_ANSWERED);
		fake_exchange_free(x);
	}
	assert_int_equal(passes("GET /", 3), 1);
}

/* --- the service */

static struct rate_limit *service(bool deny)
{
	struct rate_limit *l = limit("service", 0);
	l->global = true;
	l->cluster = strdup("outbound|8081||limits.shop.svc.cluster.local");
	l->domain = strdup("shop");
	l->timeout_ms = 250;
	l->failure_deny = deny;
	action(l, true, LIMIT_REQUEST_HEADER, "who")->header = strdup("x-who");
	action(l, false, LIMIT_REMOTE_ADDRESS, "remote_address");
	return l;
}

static struct exchange *asked(const char *request)
{
	struct exchange *x = fake_exchange(request);
	x->filters = f;
	addr_parse("10.7.0.9", &x->remote); /* behind a proxy that is trusted */
	http_filters_seal(f);
	assert_int_equal(stage_rate_limit(x), STAGE_WAIT);
	assert_true(call.open);
	return x;
}

static void answer_with(int code, bool fields)
{
	Weft__Ratelimit__Response m = WEFT__RATELIMIT__RESPONSE__INIT;
	Weft__Ratelimit__HeaderValue one = WEFT__RATELIMIT__HEADER_VALUE__INIT, two = one, three = one;
	Weft__Ratelimit__HeaderValue *response[] = { &one }, *request[] = { &two, &three };
	uint8_t bytes[1024];
	one.key = (char *)"X-Rl", one.value = (char *)"1";
	two.key = (char *)"x-added", two.value = (char *)"2";
	three.key = (char *)"content-length", three.value = (char *)"0";
	m.overall_code = code;
	if (fields) {
		m.response_headers_to_add = response;
		m.n_response_headers_to_add = 1;
		m.request_headers_to_add = request;
		m.n_request_headers_to_add = 2;
	}
	size_t n = weft__ratelimit__response__pack(&m, bytes + GRPC_FRAME);
	grpc_frame_write(bytes, n);
	fake_call_answer(200, "content-type: application/grpc", bytes, n + GRPC_FRAME, "grpc-status: 0");
}

static void test_what_a_service_is_asked(void **state)
{
	(void)state;
	service(false);
	struct exchange *x = asked("GET /\nx-who: \xc3\xa4lice");
	assert_string_equal(call.cluster, "outbound|8081||limits.shop.svc.cluster.local");
	assert_string_equal(call.path, "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit");
	assert_string_equal(call.authority, "limits.shop.svc.cluster.local");
	assert_int_equal(call.timeout_ms, 250);
	assert_non_null(strstr(call.fields, "grpc-timeout: 250m\n"));
	Weft__Ratelimit__Request *m =
		weft__ratelimit__request__unpack(NULL, call.body_len - GRPC_FRAME, call.body + GRPC_FRAME);
	assert_non_null(m);
	assert_string_equal(m->domain, "shop");
	assert_int_equal(m->n_descriptors, 1);
	assert_int_equal(m->descriptors[0]->n_entries, 2);
	assert_string_equal(m->descriptors[0]->entries[0]->key, "who");
	assert_string_equal(m->descriptors[0]->entries[0]->value, "??lice");
	assert_string_equal(m->descriptors[0]->entries[1]->value, "10.7.0.9");
	weft__ratelimit__request__free_unpacked(m, NULL);
	answer_with(1, true);
	assert_true(answer.continued);
	assert_string_equal(fake_header(x, "x-added"), "2");
	assert_null(fake_header(x, "content-length"));
	assert_string_equal(fake_fields(x->response_extra), "x-rl: 1\n");
	fake_exchange_free(x);
	assert_true(run("GET /")); /* no descriptor: not asked */
}

static void test_what_a_service_answers(void **state)
{
	(void)state;
	struct rate_limit *l = service(false);
	struct exchange *x = asked("GET /\nx-who: a");
	answer_with(2, true);
	assert_int_equal(answer.status, 429);
	assert_int_equal(answer.flags, FLAG(RL));
	assert_string_equal(answer.details, "request_rate_limited");
	assert_string_equal(answer.body, "");
	assert_string_equal(answer.extra, "x-envoy-ratelimited: true\n");
	assert_string_equal(fake_fields(x->response_extra), "x-rl: 1\n");
	fake_exchange_free(x);
	for (size_t i = 0; i < 6; i++) {
		l->failure_deny = i & 1;
		x = asked("GET /\nx-who: a");
		if (i < 2)
			fake_call_answer(0, NULL, NULL, 0, NULL); /* none in time */
		else if (i < 4)
			fake_call_answer(200, "content-type: application/grpc", "\0\0\0\0\3xyz", 8, "grpc-status: 0");
		else
			answer_with(0, true);
		assert_int_equal(answer.continued, !(i & 1));
		assert_int_equal(answer.given, i & 1);
		if (i & 1) {
			assert_int_equal(answer.status, 500);
			assert_int_equal(answer.flags, FLAG(RLSE));
			assert_string_equal(answer.details, "rate_limiter_error");
			assert_int_equal(answer.reason, DROP_RATE_LIMIT_ERROR);
		}
		fake_exchange_free(x);
	}
	assert_int_equal(fake_metrics.limits_failed, 6);
}

static void test_two_services_and_a_client_that_goes_away(void **state)
{
	(void)state;
	service(false);
	service(true);
	struct exchange *x = asked("GET /\nx-who: a");
	answer_with(1, false);
	assert_false(answer.continued);
	assert_true(call.open);
	answer_with(1, false);
	assert_true(answer.continued);
	fake_exchange_free(x);
	x = asked("GET /\nx-who: a");
	fake_exchange_free(x); /* cancels */
	assert_false(call.open);
	x = fake_exchange("GET /\nx-who: a");
	x->filters = f;
	call.refuse = true;
	assert_int_equal(stage_rate_limit(x), STAGE_ANSWERED);
	assert_int_equal(answer.status, 500);
	fake_exchange_free(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_a_bucket_and_the_answer),
		CASE(test_grpc),
		CASE(test_enabled_and_enforced),
		CASE(test_x_ratelimit_headers),
		CASE(test_ports_and_other_pods_and_sides),
		CASE(test_descriptors),
		CASE(test_a_descriptor_needs_all_its_actions),
		CASE(test_header_value_matches),
		CASE(test_limits_of_a_route_are_in_place_of_others),
		CASE(test_what_a_service_is_asked),
		CASE(test_what_a_service_answers),
		CASE(test_two_services_and_a_client_that_goes_away),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
