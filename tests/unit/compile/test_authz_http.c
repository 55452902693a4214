/* SPDX-License-Identifier: Apache-2.0 */
/* What people write in an AuthorizationPolicy about requests, judged as the helper does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "agent/model/identity.h"
#include "agent/model/policy_http.h"
#include "tests/unit/compile/world.h"

static struct world w;

static struct world_fixture fixture = { &w, NULL };

static const char base[] =
	"apiVersion: v1\nkind: Namespace\nmetadata: { name: shop, labels: { istio.io/dataplane-mode: ambient } }\n---\n"
	"apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n"
	"metadata: { name: a, namespace: shop, annotations: { weft.dev/netns: x } }\n"
	"spec: { address: 10.0.0.1, labels: { app: payments } }\n---\n";

#define POLICY(head, spec)                                                                                             \
	"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: p, namespace: shop" head       \
	" }\nspec:\n" spec "\n"

struct req {
	const char *ns, *account, *method, *path, *header, *value, *principal, *claim, *claim_value;
	uint16_t port;
};

static struct http_view view(const char *text)
{
	return (struct http_view){ text, text ? strlen(text) : 0 };
}

static struct http_view on_header(const struct http_request_view *r, const char *name)
{
	const struct req *q = r->headers;

	return q->header && strcmp(q->header, name) == 0 ? view(q->value) : (struct http_view){ 0 };
}

static bool on_claim(const void *claims, char *const *path, size_t path_count, policy_claim_fn fn, void *arg)
{
	const struct req *q = claims;
	char text[128] = "";

	for (size_t i = 0; i < path_count; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", i ? "." : "", path[i]);
	return strcmp(text, q->claim) == 0 && fn(view(q->claim_value), arg);
}

static struct policy_http_verdict judge(const struct req *q)
{
	struct http_request_view r = { .method = view(q->method ? q->method : "GET"),
				       .path = view(q->path ? q->path : "/"),
				       .authority = view("payments.shop"),
				       .scheme = view("http"),
				       .header = on_header,
				       .headers = q };
	struct identity *peer = q->account ? identity_new("cluster.local", q->ns, q->account) : NULL;
	struct policy_http_input in = { .peer = peer,
					.port = q->port ? q->port : 7000,
					.request = &r,
					.request_principal = view(q->principal),
					.claim = q->claim ? on_claim : NULL,
					.claims = q };
	struct policy_http_verdict out;

	addr_parse("10.7.0.1", &in.source);
	addr_parse("10.7.0.1", &in.remote);
	addr_parse("10.0.0.1", &in.destination);
	policy_eval_http(world_workload(&w, "shop/a")->policy, &in, &out);
	identity_unref(peer);
	return out;
}

#define OK DROP_NONE
#define NO DROP_POLICY_NO_ALLOW
#define DENIED DROP_POLICY_DENY

struct row {
	struct req req;
	enum drop_reason want;
};

static void rows_check(const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		enum drop_reason got = judge(&rows[i].req).reason;
		if (got != rows[i].want)
			fail_msg("row %zu: reason %d, not %d", i, got, rows[i].want);
	}
}

static void test_shop_example_as_written(void **state)
{
	(void)state;
	static const struct row rows[] = {
		/* the first rule: the frontend on port 7000, whatever it asks */
		{ { "shop", "frontend", "DELETE", "/x", .port = 7000 }, OK },
		{ { "shop", "frontend", "DELETE", "/x", .port = 7001 }, NO },
		{ { "shop", "catalog", "GET", "/x", .port = 7000 }, NO },
		/* the second: any frontend, two paths, by POST, with a tenant */
		{ { "edge", "frontend", "POST", "/api/v1/pay", "x-tenant", "gold" }, OK },
		{ { "edge", "frontend", "POST", "/api/v1/refund/7", "x-tenant", "silver" }, OK },
		{ { "edge", "frontend", "POST", "/api/v1/refund/7/8", "x-tenant", "silver" }, NO },
		{ { "edge", "frontend", "POST", "/api/v1/refund/", "x-tenant", "silver" }, NO },
		{ { "edge", "frontend", "POST", "/api/v1/pay", "x-tenant", "lead" }, NO },
		{ { "edge", "frontend", "POST", "/api/v1/pay", "x-tenant", "gold,silver" }, NO },
		{ { "edge", "frontend", "POST", "/api/v1/pay" }, NO },
		{ { "edge", "frontend", "GET", "/api/v1/pay", "x-tenant", "gold" }, NO },
		{ { "edge", "frontend", "POST", "/api/v1/pay/", "x-tenant", "gold" }, NO },
		/* the third: who observes */
		{ { "observability", "prometheus", "GET", "/metrics" }, OK },
		{ { "observability", "prometheus", "GET", "/healthz" }, OK },
		{ { "observability", "prometheus", "GET", "/metricsx" }, NO },
		{ { "observability", "prometheus", "POST", "/metrics" }, NO },
		/* strangers, before all of that */
		{ { "other", "frontend", "POST", "/api/v1/pay", "x-tenant", "gold" }, DENIED },
		{ { "shop", NULL, "GET", "/metrics" }, DENIED },
	};

	world_set(&w, base);
	world_load(&w, "tests/data/shop/12-authorization.yaml");
	world_compile(&w);
	rows_check(rows, ARRAY_SIZE(rows));
	assert_string_equal(judge(&rows[16].req).rule->name, "shop/no-strangers");
	assert_true(policy_needs_http(world_workload(&w, "shop/a")->policy));
}

static void test_conditions_on_requests(void **state)
{
	(void)state;
	static const struct {
		const char *when;
		struct req req;
		enum drop_reason want;
	} rows[] = {
		{ "request.headers[X-Tenant], values: [ gold ]", { .header = "x-tenant", .value = "gold" }, OK },
		{ "request.headers[X-Tenant], values: [ gold ]", { 0 }, NO },
		{ "request.headers[x-tenant], notValues: [ \"le*\" ]", { .header = "x-tenant", .value = "lead" }, NO },
		{ "request.headers[x-tenant], notValues: [ \"le*\" ]", { 0 }, OK },
		{ "request.auth.principal, values: [ \"i/*\" ]", { .principal = "i/s" }, OK },
		{ "request.auth.principal, values: [ \"i/*\" ]", { 0 }, NO },
		{ "request.auth.audiences, values: [ web ]", { .claim = "aud", .claim_value = "web" }, OK },
		{ "request.auth.presenter, values: [ app ]", { .claim = "azp", .claim_value = "app" }, OK },
		{ "request.auth.claims[realm][roles], values: [ admin ]",
		  { .claim = "realm.roles", .claim_value = "admin" },
		  OK },
		{ "request.auth.claims[realm][roles], values: [ admin ]",
		  { .claim = "Realm.roles", .claim_value = "admin" },
		  NO },
		{ "request.auth.claims[groups], notValues: [ guest ]",
		  { .claim = "groups", .claim_value = "guest" },
		  NO },
		{ "source.ip, values: [ 10.7.0.0/24 ]", { 0 }, OK },
		{ "remote.ip, notValues: [ 10.7.0.0/24 ]", { 0 }, NO },
		{ "source.serviceAccount, values: [ x/bob ]", { .ns = "x", .account = "bob" }, OK },
		{ "destination.port, values: [ \"7001\" ]", { 0 }, NO },
		{ "connection.sni, values: [ x ]", { 0 }, NO },
		{ "experimental.envoy.filters.a.b, values: [ x ]", { 0 }, NO },
	};

	world_set(&w, base);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char yaml[512];
		snprintf(yaml, sizeof(yaml), POLICY("", "  rules: [ { when: [ { key: \"%.*s\"%s } ] } ]"),
			 (int)strcspn(rows[i].when, ","), rows[i].when, strchr(rows[i].when, ','));
		world_with(&w, yaml);
		enum drop_reason got = judge(&rows[i].req).reason;
		if (got != rows[i].want)
			fail_msg("row %zu: reason %d, not %d for %s", i, got, rows[i].want, rows[i].when);
	}
	assert_true(world_finds(&w, "AuthorizationPolicy/shop/p", "experimental.envoy.filters.a.b is not supported"));
}

static void test_unsupported_condition_makes_a_denial_wider(void **state)
{
	(void)state;
	world_set(&w, base);
	world_with(&w,
		   POLICY("", "  action: DENY\n  rules: [ { to: [ { operation: { paths: [ /admin ] } } ], when: [ { "
			      "key: experimental.envoy.filters.a.b, values: [ x ] } ] } ]"));
	assert_int_equal(judge(&(struct req){ .path = "/admin" }).reason, DENIED);
	assert_int_equal(judge(&(struct req){ .path = "/" }).reason, OK);
}

static void test_from_and_to_are_crossed_and_when_is_kept_once(void **state)
{
	(void)state;
	world_set(&w, base);
	world_with(&w,
		   POLICY("",
			  "  rules:\n  - from: [ { source: { namespaces: [ x ] } }, { source: { requestPrincipals: [ "
			  "\"*\" ] } } ]\n    to: [ { operation: { hosts: [ payments.SHOP ] } }, { operation: { "
			  "methods: [ PUT "
			  "] } } ]\n    when: [ { key: \"request.headers[a]\", values: [ b ] } ]"));
	const struct policy_rule *rule = &world_workload(&w, "shop/a")->policy->rules[0];
	assert_int_equal(rule->match_count, 4);
	assert_int_equal(rule->when_count, 1);
	for (size_t i = 0; i < rule->match_count; i++)
		assert_true(rule->matches[i].has_http); /* nothing of it may be decided at L4 */
	static const struct row rows[] = {
		{ { "x", "bob", .header = "a", .value = "b" }, OK },
		{ { "y", "bob", .header = "a", .value = "b" }, NO },
		{ { "y", "bob", .header = "a", .value = "b", .principal = "i/s" }, OK },
		{ { "x", "bob", .header = "a", .value = "c" }, NO },
	};
	rows_check(rows, ARRAY_SIZE(rows));
}

static void test_custom_asks_its_provider(void **state)
{
	(void)state;
	world_set(&w, base);
	world_with(&w,
		   POLICY("", "  action: CUSTOM\n  provider: { name: ext }\n  rules: [ { to: [ { operation: { paths: [ "
			      "\"/admin*\" ] } } ] } ]"));
	struct policy_http_verdict v = judge(&(struct req){ .path = "/admin/x" });
	assert_int_equal(v.reason, OK);
	assert_int_equal(v.custom_count, 1);
	assert_string_equal(v.custom[0]->provider, "ext");
	assert_int_equal(judge(&(struct req){ .path = "/" }).custom_count, 0);
}

static void test_dry_run_only_watches(void **state)
{
	(void)state;
	world_set(&w, base);
	world_with(&w, POLICY(", annotations: { istio.io/dry-run: \"true\" }",
			      "  action: DENY\n  rules: [ { to: [ { operation: { methods: [ PUT ] } } ] } ]"));
	struct policy_http_verdict v = judge(&(struct req){ .method = "PUT" });
	assert_int_equal(v.reason, OK);
	assert_string_equal(v.audit->name, "shop/p");
	assert_null(judge(&(struct req){ 0 }).audit);
}

static void test_hash_tells_requests_conditions_apart(void **state)
{
	(void)state;
	static const char *const rules[] = {
		"{ to: [ { operation: { paths: [ /a ] } } ] }",
		"{ to: [ { operation: { paths: [ /b ] } } ] }",
		"{ to: [ { operation: { notPaths: [ /a ] } } ] }",
		"{ to: [ { operation: { methods: [ /a ] } } ] }",
		"{ to: [ { operation: { hosts: [ /a ] } } ] }",
		"{ from: [ { source: { requestPrincipals: [ /a ] } } ] }",
		"{ when: [ { key: \"request.headers[a]\", values: [ b ] } ] }",
		"{ when: [ { key: \"request.headers[b]\", values: [ b ] } ] }",
		"{ when: [ { key: \"request.headers[a]\", notValues: [ b ] } ] }",
		"{ when: [ { key: \"request.auth.claims[a]\", values: [ b ] } ] }",
	};
	uint64_t ids[ARRAY_SIZE(rules)];

	world_set(&w, base);
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
		char yaml[512];
		snprintf(yaml, sizeof(yaml), POLICY("", "  rules: [ %s ]"), rules[i]);
		world_with(&w, yaml);
		ids[i] = world_workload(&w, "shop/a")->policy->id;
		for (size_t k = 0; k < i; k++)
			assert_true(ids[k] != ids[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_CASE(test_shop_example_as_written),
		WORLD_CASE(test_conditions_on_requests),
		WORLD_CASE(test_unsupported_condition_makes_a_denial_wider),
		WORLD_CASE(test_from_and_to_are_crossed_and_when_is_kept_once),
		WORLD_CASE(test_custom_asks_its_provider),
		WORLD_CASE(test_dry_run_only_watches),
		WORLD_CASE(test_hash_tells_requests_conditions_apart),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
