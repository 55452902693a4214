/* SPDX-License-Identifier: Apache-2.0 */
/* stage_authorize: what is refused and how it is said, and whom CUSTOM rules ask. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "agent/helper/filter/ext_authz.pb-c.h"
#include "agent/helper/worker.h"
#include "agent/link/metrics.h"
#include "agent/model/identity.h"
#include "tests/unit/filter/fake.h"

static struct policy *policy;
static struct http_filters *filters;
static struct identity *peer;
static struct exchange *x;

static int on_setup(void **state)
{
	(void)state;
	policy = policy_new();
	policy->rules = calloc(8, sizeof(*policy->rules));
	filters = http_filters_new();
	filters->ext_authz = calloc(4, sizeof(*filters->ext_authz));
	peer = identity_new("cluster.local", "shop", "frontend");
	fake_body = NULL;
	fake_body_late = false;
	x = NULL;
	return 0;
}

static int on_teardown(void **state)
{
	(void)state;
	if (x)
		fake_exchange_free(x);
	policy_unref(policy);
	http_filters_unref(filters);
	identity_unref(peer);
	return 0;
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, on_setup, on_teardown)

/* A rule for one path prefix. */
static struct policy_rule *rule_add(enum policy_action action, const char *name, const char *path)
{
	struct policy_rule *r = &policy->rules[policy->rule_count++];
	r->action = action;
	r->name = strdup(name);
	r->index = 3;
	r->matches = calloc(1, sizeof(*r->matches));
	r->match_count = 1;
	r->matches[0].has_http = true;
	r->matches[0].paths.v = calloc(1, sizeof(struct match_string));
	r->matches[0].paths.n = 1;
	assert_int_equal(match_path_init(r->matches[0].paths.v, path), 0);
	policy->has_allow |= action == POLICY_ALLOW;
	return r;
}

static struct ext_authz *provider_add(const char *name, bool grpc)
{
	struct ext_authz *p = &filters->ext_authz[filters->ext_authz_count++];
	struct policy_rule *r = rule_add(POLICY_CUSTOM, "shop/custom", "/ext*");
	r->provider = strdup(name);
	*p = (struct ext_authz){ .provider = strdup(name),
				 .grpc = grpc,
				 .cluster = strdup("outbound|9000||authz.shop.svc.cluster.local"),
				 .status_on_error = 403 };
	return p;
}

static void name_add(char ***list, size_t *n, const char *name)
{
	*list = reallocarray(*list, *n + 1, sizeof(char *));
	(*list)[(*n)++] = strdup(name);
}

static enum stage_result run(const char *request)
{
	if (x)
		fake_exchange_free(TAKE(x));
	x = fake_exchange(request);
	x->filters = filters;
	x->policy = policy;
	x->peer = peer;
	addr_parse("10.7.0.9", &x->remote); /* behind a proxy that is trusted */
	return stage_authorize(x);
}

static void test_allowed_denied_and_audited(void **state)
{
	(void)state;
	rule_add(POLICY_DENY, "shop/no-admin", "/admin*");
	rule_add(POLICY_ALLOW, "shop/all", "/*");
	rule_add(POLICY_AUDIT, "shop/watch", "/watched");

	assert_int_equal(run("GET /a"), STAGE_CONTINUE);
	assert_int_equal(answer.drops, 0);
	assert_null(x->record.authz_rule);
	assert_int_equal(run("GET /watched"), STAGE_CONTINUE);
	assert_string_equal(x->record.authz_rule, "shop/watch");

	assert_int_equal(run("GET /admin/x"), STAGE_ANSWERED);
	assert_int_equal(answer.status, 403);
	assert_string_equal(answer.body, "RBAC: access denied");
	assert_string_equal(answer.details, "rbac_access_denied_matched_policy[ns[shop]-policy[no-admin]-rule[3]]");
	assert_string_equal(x->record.authz_rule, "shop/no-admin");
	assert_int_equal(answer.reason, DROP_POLICY_DENY);
	assert_int_equal(answer.drops, 1);
	assert_string_equal(answer.rule, "shop/no-admin");
}

static void test_dry_runs_are_told_and_pass(void **state)
{
	(void)state;
	rule_add(POLICY_DENY, "shop/dry", "/admin*")->dry_run = true;
	fake_metrics.dry_run_denied = fake_metrics.dry_run_allowed = 0;
	assert_int_equal(run("GET /admin"), STAGE_CONTINUE);
	assert_int_equal(answer.drops, 0);
	assert_string_equal(x->record.dry_deny.rule->name, "shop/dry");
	assert_false(x->record.dry_allow.asked);
	assert_int_equal(run("GET /"), STAGE_CONTINUE);
	assert_true(x->record.dry_deny.asked);
	assert_null(x->record.dry_deny.rule);
	assert_int_equal(fake_metrics.dry_run_denied, 1);
	assert_int_equal(fake_metrics.dry_run_allowed, 1);
}

static void test_nothing_matched_and_unparsable(void **state)
{
	(void)state;
	rule_add(POLICY_ALLOW, "shop/some", "/a");
	assert_int_equal(run("GET /b"), STAGE_ANSWERED);
	assert_string_equal(answer.details, "rbac_access_denied_matched_policy[none]");
	assert_int_equal(answer.reason, DROP_POLICY_NO_ALLOW);

	fake_exchange_free(x);
	x = fake_exchange("GET /a");
	x->policy = policy;
	x->path = (struct http_string){ 0 };
	assert_int_equal(stage_authorize(x), STAGE_ANSWERED);
	assert_int_equal(answer.reason, DROP_POLICY_DENY);

	fake_exchange_free(x);
	x = fake_exchange("GET /a"); /* no policy yet */
	assert_int_equal(stage_authorize(x), STAGE_ANSWERED);
	fake_exchange_free(x);
	x = fake_exchange("GET /a");
	x->side = SIDE_CLIENT;
	assert_int_equal(stage_authorize(x), STAGE_CONTINUE);
}

static void test_a_tunnel_is_refused_whatever_the_rules_are(void **state)
{
	(void)state;
	assert_int_equal(run("CONNECT /"), STAGE_ANSWERED);
	assert_int_equal(answer.status, 403);
	assert_string_equal(answer.details, "upgrade_failed");
	assert_int_equal(answer.reason, DROP_POLICY_DENY);

	/* A WebSocket by HTTP/2 is a request like others. */
	fake_exchange_free(TAKE(x));
	x = fake_exchange("CONNECT /");
	x->policy = policy;
	x->head->upgrade = true;
	assert_int_equal(stage_authorize(x), STAGE_CONTINUE);
}

static void test_address_of_the_client_is_the_told_one(void **state)
{
	(void)state;
	struct policy_rule *r = rule_add(POLICY_DENY, "shop/them", "/a");
	r->matches[0].remote_ip_blocks.v = calloc(1, sizeof(struct cidr));
	r->matches[0].remote_ip_blocks.n = 1;
	cidr_parse("10.7.0.9/32", &r->matches[0].remote_ip_blocks.v[0]);
	assert_int_equal(run("GET /a"), STAGE_ANSWERED);
	cidr_parse("10.7.0.1/32", &r->matches[0].remote_ip_blocks.v[0]); /* the connection's */
	assert_int_equal(run("GET /a"), STAGE_CONTINUE);

	/* What was told is no address: whatever the rules are about would be a guess. */
	for (int asked = 0; asked < 2; asked++) {
		r->matches[0].remote_ip_blocks.n = (size_t)asked;
		fake_exchange_free(TAKE(x));
		x = fake_exchange("GET /b");
		x->policy = policy;
		x->remote_unknown = true;
		assert_int_equal(stage_authorize(x), asked ? STAGE_ANSWERED : STAGE_CONTINUE);
	}
	assert_int_equal(answer.status, 403);
	assert_int_equal(answer.reason, DROP_POLICY_DENY);
}

static void test_strict_is_held_for_requests_too(void **state)
{
	(void)state;
	policy->mtls = MTLS_STRICT;
	assert_int_equal(run("GET /a"), STAGE_CONTINUE);
	struct identity *kept = peer;
	peer = NULL;
	assert_int_equal(run("GET /a"), STAGE_ANSWERED);
	assert_int_equal(answer.reason, DROP_MTLS_REQUIRED);
	peer = kept;
}

/* A tunnel that was let in is asked by the rules of now; who was asked then is not asked again. */
static void test_rules_of_now_judge_what_goes_on(void **state)
{
	(void)state;
	struct policy *now = policy_new();
	struct worker_pod pod = { .policy = NULL };
	provider_add("ext", false);
	assert_int_equal(run("GET /admin"), STAGE_CONTINUE);
	x->pod = &pod;
	assert_false(authorize_holds(x)); /* not known: nothing may pass */
	pod.policy = policy;
	assert_true(authorize_holds(x));
	assert_int_equal(answer.drops, 0);
	rule_add(POLICY_DENY, "shop/no-admin", "/admin*");
	assert_false(authorize_holds(x));
	assert_int_equal(answer.reason, DROP_POLICY_DENY);
	assert_string_equal(answer.rule, "shop/no-admin");
	pod.policy = now;
	assert_true(authorize_holds(x));
	x->pod = NULL;
	policy_unref(now);
}

static void test_unknown_provider_denies(void **state)
{
	(void)state;
	rule_add(POLICY_CUSTOM, "shop/c", "/ext*")->provider = strdup("nobody");
	assert_int_equal(run("GET /ext"), STAGE_ANSWERED);
	assert_int_equal(answer.status, 403);
	assert_int_equal(answer.reason, DROP_EXT_AUTHZ_DENIED);
	assert_int_equal(run("GET /other"), STAGE_CONTINUE);
	filters = (http_filters_unref(filters), NULL);
	assert_int_equal(run("GET /ext"), STAGE_ANSWERED);
	filters = http_filters_new();
}

static void test_http_check_carries_what_is_configured(void **state)
{
	(void)state;
	struct ext_authz *p = provider_add("ext", false);
	p->path_prefix = strdup("/check");
	p->timeout_ms = 250;
	name_add(&p->include_request_headers, &p->include_request_header_count, "X-Ext-*");
	name_add(&p->include_request_headers, &p->include_request_header_count, "*-id");
	p->additional.set = calloc(1, sizeof(*p->additional.set));
	p->additional.set[p->additional.set_count++] = (struct http_header_value){ strdup("x-mesh"), strdup("weft") };

	assert_int_equal(
		run("POST /ext/a?b=c\nauthorization: Basic x\nx-ext-one: 1\nuser-id: 7\nx-other: no\ncookie: a=b"),
		STAGE_WAIT);
	assert_string_equal(call.cluster, "outbound|9000||authz.shop.svc.cluster.local");
	assert_string_equal(call.method, "POST");
	assert_string_equal(call.path, "/check/ext/a?b=c");
	assert_string_equal(call.authority, "shop.example");
	assert_string_equal(call.fields, "authorization: Basic x\nx-ext-one: 1\nuser-id: 7\nx-mesh: weft\n");
	assert_int_equal(call.timeout_ms, 250);
	assert_int_equal(call.body_len, 0);
	fake_call_answer(200, NULL, NULL, 0, NULL);
	assert_true(answer.continued);
	assert_false(answer.given);
}

static void test_http_check_of_a_request_without_host(void **state)
{
	(void)state;
	provider_add("ext", false);
	x = fake_exchange("GET /ext");
	x->filters = filters;
	x->policy = policy;
	x->head->authority = (struct http_string){ 0 };
	assert_int_equal(stage_authorize(x), STAGE_WAIT);
	assert_string_equal(call.authority, "authz.shop.svc.cluster.local");
}

static void test_http_allow_changes_headers(void **state)
{
	(void)state;
	struct ext_authz *p = provider_add("ext", false);
	name_add(&p->upstream_headers, &p->upstream_header_count, "x-user*");
	name_add(&p->upstream_headers, &p->upstream_header_count, "content-length");
	name_add(&p->downstream_on_allow, &p->downstream_on_allow_count, "x-back");

	assert_int_equal(run("GET /ext\nx-user: root\nx-user: toor"), STAGE_WAIT);
	fake_call_answer(200, "x-user: bob\nx-user-role: a\nx-user-role: b\nx-other: 1\nx-back: y\ncontent-length: 0",
			 NULL, 0, NULL);
	assert_true(answer.continued);
	assert_string_equal(fake_fields(x->head), "x-user: bob\nx-user-role: a\nx-user-role: b\n");
	assert_string_equal(fake_fields(x->response_extra), "x-back: y\n");
}

static void test_http_denial_is_passed_back(void **state)
{
	(void)state;
	provider_add("ext", false);
	assert_int_equal(run("GET /ext"), STAGE_WAIT);
	fake_call_answer(302, "location: https://login\nset-cookie: a=b\ncontent-length: 4", "soon", 4, NULL);
	assert_int_equal(answer.status, 302);
	assert_string_equal(answer.body, "soon");
	assert_string_equal(answer.extra, "location: https://login\nset-cookie: a=b\n");
	assert_string_equal(answer.details, "ext_authz_denied");
	assert_int_equal(answer.flags, FLAG(UAEX));
	assert_int_equal(answer.reason, DROP_EXT_AUTHZ_DENIED);
	assert_false(answer.continued);

	assert_int_equal(run("GET /ext"), STAGE_WAIT); /* any bytes */
	fake_call_answer(403, NULL, "a\0b", 3, NULL);
	assert_int_equal(answer.body_len, 3);
	assert_memory_equal(answer.body, "a\0b", 3);

	name_add(&filters->ext_authz[0].downstream_on_deny, &filters->ext_authz[0].downstream_on_deny_count, "x-why");
	assert_int_equal(run("GET /ext"), STAGE_WAIT);
	fake_call_answer(401, "x-why: no\nset-cookie: a=b\nwww-authenticate: Basic", NULL, 0, NULL);
	assert_int_equal(answer.status, 401);
	assert_string_equal(answer.extra, "x-why: no\nwww-authenticate: Basic\n");
}

static void test_errors_close_or_open(void **state)
{
	(void)state;
	struct ext_authz *p = provider_add("ext", false);
	const uint16_t errors[] = { 0, 500, 503 };
	for (int open = 0; open < 2; open++) {
		p->fail_open = open;
		p->status_on_error = 503;
		for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
			assert_int_equal(run("GET /ext"), STAGE_WAIT);
			fake_call_answer(errors[i], NULL, NULL, 0, NULL);
			assert_int_equal(answer.continued, open);
			assert_int_equal(answer.given, !open);
			if (!open) {
				assert_int_equal(answer.status, 503);
				assert_string_equal(answer.details, "ext_authz_error");
			}
		}
	}
}

static void test_custom_comes_before_deny_and_allow(void **state)
{
	(void)state;
	provider_add("ext", false);
	rule_add(POLICY_DENY, "shop/deny", "/ext/denied");
	assert_int_equal(run("GET /ext/denied"), STAGE_WAIT);
	fake_call_answer(302, "location: /login", NULL, 0, NULL);
	assert_int_equal(answer.status, 302);
	assert_int_equal(run("GET /ext/denied"), STAGE_WAIT);
	fake_call_answer(200, NULL, NULL, 0, NULL);
	assert_int_equal(answer.status, 403);
	assert_string_equal(answer.body, "RBAC: access denied");
	assert_false(answer.continued);
}

static void test_two_providers_are_both_asked(void **state)
{
	(void)state;
	provider_add("one", false);
	provider_add("two", false);
	assert_int_equal(run("GET /ext"), STAGE_WAIT);
	fake_call_answer(200, NULL, NULL, 0, NULL);
	assert_int_equal(call.count, 2);
	assert_false(answer.continued);
	fake_call_answer(403, NULL, NULL, 0, NULL);
	assert_int_equal(answer.status, 403);
}

static void test_client_that_leaves_cancels_the_call(void **state)
{
	(void)state;
	provider_add("ext", false);
	assert_int_equal(run("GET /ext"), STAGE_WAIT);
	assert_true(call.open);
	fake_exchange_free(TAKE(x));
	assert_false(call.open);
}

static void test_body_is_sent_when_wanted(void **state)
{
	(void)state;
	struct ext_authz *p = provider_add("ext", false);
	p->max_body_bytes = 4;
	fake_body = "abc";
	for (int late = 0; late < 2; late++) {
		fake_body_late = late;
		assert_int_equal(run("POST /ext"), STAGE_WAIT);
		assert_int_equal(call.open, !late);
		if (late)
			fake_body_deliver();
		assert_int_equal(call.body_len, 3);
		assert_memory_equal(call.body, "abc", 3);
		fake_call_answer(200, NULL, NULL, 0, NULL);
		assert_true(answer.continued);
	}
	fake_body_late = false;
	fake_body = "abcd"; /* just as much as is wanted */
	assert_int_equal(run("POST /ext"), STAGE_WAIT);
	assert_int_equal(call.body_len, 4);
	assert_string_equal(call.fields, "x-envoy-auth-partial-body: false\n");
	fake_body = "abcdef"; /* too large to be judged whole: also with failOpen */
	for (int open = 0; open < 2; open++) {
		p->fail_open = open;
		assert_int_equal(run("POST /ext"), STAGE_ANSWERED);
		assert_int_equal(answer.status, 413);
		assert_string_equal(answer.body, "Payload Too Large");
		assert_string_equal(answer.details, "request_payload_too_large");
		assert_int_equal(answer.drops, 1);
	}
	p->allow_partial = true;
	name_add(&p->include_request_headers, &p->include_request_header_count, "x-*");
	assert_int_equal(run("POST /ext\nx-envoy-auth-partial-body: false\nx-a: b"), STAGE_WAIT);
	assert_int_equal(call.body_len, 4);
	assert_string_equal(call.fields, "x-a: b\nx-envoy-auth-partial-body: true\n");
	fake_body = NULL; /* nothing to tell of, and what the client says of it is not told */
	assert_int_equal(run("POST /ext\nx-envoy-auth-partial-body: false"), STAGE_WAIT);
	assert_string_equal(call.fields, "");
}

/* --- gRPC */

static void grpc_answer(Weft__Authz__CheckResponse *m)
{
	uint8_t bytes[4096] = { 0 };
	size_t n = weft__authz__check_response__pack(m, bytes + 5);
	bytes[3] = (uint8_t)(n >> 8);
	bytes[4] = (uint8_t)n;
	fake_call_answer(200, "content-type: application/grpc", bytes, n + 5, "grpc-status: 0");
}

static void test_grpc_check_says_who_and_what(void **state)
{
	(void)state;
	provider_add("ext", true);
	assert_int_equal(run("GET /ext?q=1\nx-a: 1\nx-a: 2\nx-request-id: id7\nx-bin: \xff\xfe"), STAGE_WAIT);
	assert_string_equal(call.path, "/envoy.service.auth.v3.Authorization/Check");
	assert_string_equal(call.authority, "authz.shop.svc.cluster.local");
	assert_int_equal(call.body[0], 0);
	assert_int_equal(call.body[1] << 24 | call.body[2] << 16 | call.body[3] << 8 | call.body[4], call.body_len - 5);
	Weft__Authz__CheckRequest *m = weft__authz__check_request__unpack(NULL, call.body_len - 5, call.body + 5);
	assert_non_null(m);
	assert_string_equal(m->attributes->source->principal, "spiffe://cluster.local/ns/shop/sa/frontend");
	assert_string_equal(m->attributes->source->address->socket_address->address, "10.7.0.1");
	assert_int_equal(m->attributes->destination->address->socket_address->port_value, 8080);
	const Weft__Authz__HttpRequest *r = m->attributes->request->http;
	assert_string_equal(r->path, "/ext?q=1");
	assert_string_equal(r->id, "id7");
	assert_int_equal(r->n_headers, 7);
	assert_string_equal(r->headers[4]->key, "x-a");
	assert_string_equal(r->headers[4]->value, "1,2");
	assert_string_equal(r->headers[6]->value, "??");
	weft__authz__check_request__free_unpacked(m, NULL);
	fake_call_answer(200, NULL, "\0\0\0\0\0", 5, "grpc-status: 0");
	assert_true(answer.continued);
}

/* Whether the body is all is said by us: a client's word for it does not reach the service. */
static void test_grpc_check_with_a_body(void **state)
{
	(void)state;
	struct ext_authz *p = provider_add("ext", true);
	p->max_body_bytes = 4;
	p->allow_partial = true;
	const struct {
		const char *body, *partial;
	} rows[] = { { "abc", "false" }, { "abcdef", "true" }, { NULL, NULL } };

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		fake_body = rows[i].body;
		assert_int_equal(run("POST /ext\nx-envoy-auth-partial-body: no"), STAGE_WAIT);
		Weft__Authz__CheckRequest *m =
			weft__authz__check_request__unpack(NULL, call.body_len - 5, call.body + 5);
		assert_non_null(m);
		const Weft__Authz__HttpRequest *r = m->attributes->request->http;
		assert_int_equal(r->n_headers, rows[i].partial ? 5 : 4);
		if (rows[i].partial) {
			assert_string_equal(r->headers[4]->key, "x-envoy-auth-partial-body");
			assert_string_equal(r->headers[4]->value, rows[i].partial);
			assert_memory_equal(r->body, rows[i].body, strlen(r->body));
		}
		weft__authz__check_request__free_unpacked(m, NULL);
		fake_call_answer(200, NULL, "\0\0\0\0\0", 5, "grpc-status: 0");
		assert_true(answer.continued);
	}
}

static void test_grpc_allow_changes_headers(void **state)
{
	(void)state;
	provider_add("ext", true);
	assert_int_equal(run("GET /ext\nx-a: 1\nx-b: 1\nx-secret: 1"), STAGE_WAIT);
	Weft__Authz__CheckResponse m = WEFT__AUTHZ__CHECK_RESPONSE__INIT;
	Weft__Authz__OkHttpResponse ok = WEFT__AUTHZ__OK_HTTP_RESPONSE__INIT;
	Weft__Authz__Bool yes = WEFT__AUTHZ__BOOL__INIT;
	yes.value = true;
	Weft__Authz__HeaderValue values[4];
	Weft__Authz__HeaderValueOption options[4], *list[4];
	const char *const texts[][2] = { { "X-A", "2" }, { "x-b", "2" }, { "x-bad", "a\r\nb" }, { "host", "evil" } };
	for (size_t i = 0; i < 4; i++) {
		weft__authz__header_value__init(&values[i]);
		weft__authz__header_value_option__init(&options[i]);
		values[i].key = (char *)(uintptr_t)texts[i][0];
		values[i].value = (char *)(uintptr_t)texts[i][1];
		options[i].header = &values[i];
		list[i] = &options[i];
	}
	options[1].append = &yes;
	char *removed[] = { (char *)(uintptr_t) "x-secret" };
	ok.headers = list;
	ok.n_headers = 4;
	ok.headers_to_remove = removed;
	ok.n_headers_to_remove = 1;
	ok.response_headers_to_add = list;
	ok.n_response_headers_to_add = 1;
	m.ok_response = &ok;
	grpc_answer(&m);
	assert_true(answer.continued);
	assert_string_equal(fake_fields(x->head), "x-b: 1\nx-a: 2\nx-b: 2\n");
	assert_string_equal(fake_fields(x->response_extra), "x-a: 2\n");
}

static void test_grpc_denials_and_errors(void **state)
{
	(void)state;
	provider_add("ext", true);
	Weft__Authz__CheckResponse m = WEFT__AUTHZ__CHECK_RESPONSE__INIT;
	Weft__Authz__Status status = WEFT__AUTHZ__STATUS__INIT;
	Weft__Authz__DeniedHttpResponse denied = WEFT__AUTHZ__DENIED_HTTP_RESPONSE__INIT;
	Weft__Authz__HttpStatus http = WEFT__AUTHZ__HTTP_STATUS__INIT;
	status.code = 7;
	m.status = &status;
	assert_int_equal(run("GET /ext"), STAGE_WAIT);
	grpc_answer(&m);
	assert_int_equal(answer.status, 403);
	assert_string_equal(answer.details, "ext_authz_denied");

	http.code = 429;
	denied.status = &http;
	denied.body = (ProtobufCBinaryData){ 10, (uint8_t *)(uintptr_t) "slow\0down\xff" };
	m.denied_response = &denied;
	assert_int_equal(run("GET /ext"), STAGE_WAIT);
	grpc_answer(&m);
	assert_int_equal(answer.status, 429);
	assert_int_equal(answer.body_len, 10);
	assert_memory_equal(answer.body, "slow\0down\xff", 10);

	const struct {
		uint16_t status;
		const char *body;
		size_t len;
		const char *trailers;
	} rows[] = {
		{ 503, NULL, 0, NULL },
		{ 200, NULL, 0, "grpc-status: 14" },
		{ 200, "\0\0\0\0\0", 5, NULL },
		{ 200, "\0\0\0\0\0", 5, "x: y" },
		{ 200, "\0\0\0\0\1", 5, "grpc-status: 0" },
		{ 200, "\1\0\0\0\0", 5, "grpc-status: 0" },
		{ 200, "\0\0\0\0\1\xff", 6, "grpc-status: 0" },
		{ 200, "\0", 1, "grpc-status: 0" },
		{ 0, NULL, 0, NULL },
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(run("GET /ext"), STAGE_WAIT);
		fake_call_answer(rows[i].status, NULL, rows[i].body, rows[i].len, rows[i].trailers);
		assert_string_equal(answer.details, "ext_authz_error");
		assert_int_equal(answer.status, 403);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_allowed_denied_and_audited),
		CASE(test_dry_runs_are_told_and_pass),
		CASE(test_nothing_matched_and_unparsable),
		CASE(test_a_tunnel_is_refused_whatever_the_rules_are),
		CASE(test_address_of_the_client_is_the_told_one),
		CASE(test_strict_is_held_for_requests_too),
		CASE(test_rules_of_now_judge_what_goes_on),
		CASE(test_unknown_provider_denies),
		CASE(test_http_check_carries_what_is_configured),
		CASE(test_http_check_of_a_request_without_host),
		CASE(test_http_allow_changes_headers),
		CASE(test_http_denial_is_passed_back),
		CASE(test_errors_close_or_open),
		CASE(test_custom_comes_before_deny_and_allow),
		CASE(test_two_providers_are_both_asked),
		CASE(test_client_that_leaves_cancels_the_call),
		CASE(test_body_is_sent_when_wanted),
		CASE(test_grpc_check_says_who_and_what),
		CASE(test_grpc_check_with_a_body),
		CASE(test_grpc_allow_changes_headers),
		CASE(test_grpc_denials_and_errors),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
