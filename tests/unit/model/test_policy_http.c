/* SPDX-License-Identifier: Apache-2.0 */
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

static struct policy *policy;
static struct identity *frontend;

static int on_setup(void **state)
{
	(void)state;
	policy = policy_new();
	policy->rules = calloc(16, sizeof(*policy->rules));
	frontend = identity_new("cluster.local", "shop", "frontend");
	return 0;
}

static int on_teardown(void **state)
{
	(void)state;
	policy_unref(policy);
	identity_unref(frontend);
	return 0;
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, on_setup, on_teardown)

static struct policy_rule *rule_add(enum policy_action action, const char *name)
{
	struct policy_rule *r = &policy->rules[policy->rule_count++];

	r->action = action;
	r->name = strdup(name);
	policy->has_allow |= action == POLICY_ALLOW;
	return r;
}

static struct policy_match *match_add(struct policy_rule *r)
{
	r->matches = reallocarray(r->matches, r->match_count + 1, sizeof(*r->matches));
	struct policy_match *m = &r->matches[r->match_count++];
	*m = (struct policy_match){ .has_http = true };
	return m;
}

static void strings_add(struct match_strings *to, const char *pattern)
{
	to->v = reallocarray(to->v, to->n + 1, sizeof(*to->v));
	assert_int_equal(match_path_init(&to->v[to->n++], pattern), 0);
}

/* "iss" or "realm.roles". */
static struct policy_condition *when_add(struct policy_rule *r, enum policy_attribute attribute, const char *path)
{
	r->when = reallocarray(r->when, r->when_count + 1, sizeof(*r->when));
	struct policy_condition *c = &r->when[r->when_count++];
	*c = (struct policy_condition){ .attribute = attribute, .path = calloc(4, sizeof(char *)) };
	char *copy = path ? strdup(path) : NULL, *save = NULL;
	for (char *at = copy ? strtok_r(copy, ".", &save) : NULL; at; at = strtok_r(NULL, ".", &save))
		c->path[c->path_count++] = strdup(at);
	free(copy);
	return c;
}

/* --- the request: GET http://shop.example/ unless a test says else; headers "a: 1\nb: 2\n" */

static struct http_view view(const char *text)
{
	return (struct http_view){ text, text ? strlen(text) : 0 };
}

static struct http_view on_header(const struct http_request_view *r, const char *name)
{
	const char *at = r->headers;
	size_t n = strlen(name);

	for (; at && *at; at = strchr(at, '\n') + 1)
		if (strncmp(at, name, n) == 0 && at[n] == ':')
			return (struct http_view){ at + n + 1, strcspn(at + n + 1, "\n") };
	return (struct http_view){ 0 };
}

struct token {
	const char *path, *values[4];
};

static bool on_claim(const void *claims, char *const *path, size_t path_count, policy_claim_fn fn, void *arg)
{
	const struct token *t = claims;
	char name[64] = "";

	for (size_t i = 0; i < path_count; i++)
		snprintf(name + strlen(name), sizeof(name) - strlen(name), "%s%s", i ? "." : "", path[i]);
	for (size_t i = 0; strcmp(t->path, name) == 0 && i < ARRAY_SIZE(t->values) && t->values[i]; i++)
		if (fn(view(t->values[i]), arg))
			return true;
	return false;
}

struct req {
	const char *method, *path, *host, *headers, *principal, *sni, *remote;
	bool anonymous;
	const struct token *token;
};

static struct policy_http_verdict eval(const struct req *q)
{
	struct http_request_view r = { .method = view(q->method ? q->method : "GET"),
				       .path = view(q->path ? q->path : "/"),
				       .authority = view(q->host ? q->host : "shop.example"),
				       .scheme = view("http"),
				       .header = on_header,
				       .headers = q->headers };
	struct policy_http_input in = { .peer = q->anonymous ? NULL : frontend,
					.port = 8080,
					.request = &r,
					.sni = view(q->sni),
					.request_principal = view(q->principal),
					.claim = q->token ? on_claim : NULL,
					.claims = q->token };
	struct policy_http_verdict out;

	addr_parse("10.1.2.3", &in.source);
	addr_parse(q->remote ? q->remote : "10.1.2.3", &in.remote);
	addr_parse("fd00::1", &in.destination);
	policy_eval_http(policy, &in, &out);
	return out;
}

static bool allows(const struct req *q)
{
	return eval(q).reason == DROP_NONE;
}

static void test_path_patterns(void **state)
{
	(void)state;
	static const struct {
		const char *pattern, *path;
		bool want;
	} rows[] = {
		{ "/a", "/a", true },
		{ "/a", "/a/", false },
		{ "/a", "/A", false },
		{ "/a*", "/ab/c", true },
		{ "/a*", "/", false },
		{ "*/info", "/x/info", true },
		{ "*/info", "/x/info/", false },
		{ "*.html", ".html", true },
		{ "*", "/", true },
		{ "/foo/{*}", "/foo/bar", true },
		{ "/foo/{*}", "/foo/bar/baz", false },
		{ "/foo/{*}", "/foo/", false },
		{ "/foo/{*}", "/foo", false },
		{ "/foo/{*}/", "/foo/bar/", true },
		{ "/foo/{*}/bar", "/foo/x/bar", true },
		{ "/foo/{*}/bar", "/foo//bar", false },
		{ "/foo/{*}/bar", "/foo/x/y/bar", false },
		{ "/foo/{**}", "/foo/", true },
		{ "/foo/{**}", "/foo/a/b/c", true },
		{ "/foo/{**}", "/foo", false },
		{ "/foo/{**}", "/food/a", false },
		{ "/foo/{**}/", "/foo//", true },
		{ "/foo/{**}/", "/foo/bar/", true },
		{ "/foo/{**}/", "/foo/bar", false },
		{ "/foo/{**}/end", "/foo/a/b/end", true },
		{ "/foo/{**}/end", "/foo/end", false },
		{ "/foo/{**}/end", "/foo/a/endx", false },
		{ "/foo/{*}/bar/{**}", "/foo/buzz/bar/", true },
		{ "/foo/{*}/bar/{**}", "/foo/buzz/bar/baz/x", true },
		{ "/foo/{*}/bar/{**}", "/foo/buzz/", false },
		{ "/{**}/v1/{*}", "/a/b/v1/x", true },
		{ "/{**}/v1/{*}", "/a/b/v1/x/y", false },
		{ "/{**}/{*}", "/a", false },
		{ "/{**}/{*}", "/a/b", true },
		{ "/{*}/{*}", "/a/b", true },
		{ "/{*}/{*}", "/a//b", false },
		{ "/{**}", "/", true },
		{ "/{**}/a/{*}/b", "/a/a/a/b/b", true },
		{ "/{**}/a/{*}/b", "/x/a/a/b", true },
		{ "/{**}/a/{*}/b", "/x/b/a/b", false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct match_string m;
		assert_int_equal(match_path_init(&m, rows[i].pattern), 0);
		if (match_string_holds(&m, rows[i].path, strlen(rows[i].path), false) != rows[i].want ||
		    match_string_matches(&m, rows[i].path) != rows[i].want)
			fail_msg("\"%s\" on \"%s\"", rows[i].pattern, rows[i].path);
		free(m.text);
	}
}

static void test_hosts_ignore_case_and_port(void **state)
{
	(void)state;
	static const struct {
		const char *pattern, *host;
		bool want;
	} rows[] = {
		{ "shop.example", "shop.example", true },
		{ "shop.example", "SHOP.example:8080", true },
		{ "shop.example", "shop.example.evil", false },
		{ "shop.example", "xshop.example", false },
		{ "shop.example:8080", "shop.example:8080", true },
		{ "shop.example:8080", "shop.example:8081", false },
		{ "*.EXAMPLE", "a.b.example:1", true },
		{ "*.example", "example", false },
		{ "shop.*", "Shop.x", true },
		{ "*", "x", true },
		{ "[fd00::1]", "[fd00::1]:80", true },
		{ "[fd00::1]", "[fd00::1]", true },
		{ "fd00:", "fd00::1", false },
		{ "shop.example", "shop.example:", true },
		{ "shop.example", "Shop.example.", true },
		{ "shop.example", "shop.example.:80", true },
		{ "shop.example", "shop.example..", false },
		{ "shop.example.", "shop.example.", true },
		{ "*.example", "shop.example.:8080", true },
		{ "[fd00::1]", "[fd00::1]:", true },
		{ ".", ".", true },
	};

	struct policy_rule *r = rule_add(POLICY_ALLOW, "x/hosts");
	struct policy_match *m = match_add(r);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		strings_add(&m->hosts, rows[i].pattern);
		if (allows(&(struct req){ .host = rows[i].host }) != rows[i].want)
			fail_msg("\"%s\" on \"%s\"", rows[i].pattern, rows[i].host);
		free(m->hosts.v[0].text);
		free(m->hosts.v);
		m->hosts = (struct match_strings){ 0 };
		strings_add(&m->not_hosts, rows[i].pattern);
		if (allows(&(struct req){ .host = rows[i].host }) == rows[i].want)
			fail_msg("not \"%s\" on \"%s\"", rows[i].pattern, rows[i].host);
		free(m->not_hosts.v[0].text);
		free(m->not_hosts.v);
		m->not_hosts = (struct match_strings){ 0 };
	}
}

static void test_fields_of_an_alternative_must_all_hold(void **state)
{
	(void)state;
	struct policy_match *m = match_add(rule_add(POLICY_ALLOW, "x/a"));
	strings_add(&m->methods, "POST");
	strings_add(&m->methods, "PU*");
	strings_add(&m->paths, "/pay");
	strings_add(&m->not_request_principals, "*");

	assert_true(allows(&(struct req){ .method = "POST", .path = "/pay" }));
	assert_true(allows(&(struct req){ .method = "PUT", .path = "/pay" }));
	assert_false(allows(&(struct req){ .method = "post", .path = "/pay" }));
	assert_false(allows(&(struct req){ .method = "POST", .path = "/pay/" }));
	assert_false(allows(&(struct req){ .method = "POST", .path = "/pay", .principal = "i/s" }));
	assert_int_equal(eval(&(struct req){ 0 }).reason, DROP_POLICY_NO_ALLOW);
}

static void test_request_principals_with_stars(void **state)
{
	(void)state;
	static const struct {
		const char *pattern, *principal;
		bool want;
	} rows[] = {
		{ "*", "https://i/s", true },
		{ "*", NULL, false },
		{ "https://i/*", "https://i/s", true },
		{ "https://i/*", "https://j/s", false },
		{ "*/s", "https://i/s", true },
		{ "https://i/s", "https://i/s", true },
		{ "https://i/s", "https://i/sx", false },
	};
	struct policy_match *m = match_add(rule_add(POLICY_ALLOW, "x/a"));

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		strings_add(&m->request_principals, rows[i].pattern);
		if (allows(&(struct req){ .principal = rows[i].principal }) != rows[i].want)
			fail_msg("\"%s\" on \"%s\"", rows[i].pattern, rows[i].principal);
		free(m->request_principals.v[0].text);
		m->request_principals.n = 0;
	}
}

static void test_when_headers(void **state)
{
	(void)state;
	struct policy_rule *r = rule_add(POLICY_ALLOW, "x/a");
	struct policy_condition *c = when_add(r, POLICY_HEADER, "x-tenant");
	strings_add(&c->values, "gold");
	strings_add(&c->values, "sil*");
	c = when_add(r, POLICY_HEADER, "x-bad");
	strings_add(&c->not_values, "*");
	c = when_add(r, POLICY_HEADER, ":method");
	strings_add(&c->values, "GET");
	c = when_add(r, POLICY_HEADER, "host");
	strings_add(&c->values, "shop.example");
	match_add(r);

	assert_true(allows(&(struct req){ .headers = "x-tenant:gold\n" }));
	assert_true(allows(&(struct req){ .headers = "x-tenant:silver\n" }));
	assert_false(allows(&(struct req){ .headers = "x-tenant:GOLD\n" }));
	assert_false(allows(&(struct req){ .headers = "x-tenant:gold,lead\n" })); /* repeated, joined */
	assert_false(allows(&(struct req){ .headers = "x-tenant:\n" }));
	assert_false(allows(&(struct req){ 0 }));
	assert_false(allows(&(struct req){ .headers = "x-tenant:gold\nx-bad:\n" })); /* empty is present */
	assert_false(allows(&(struct req){ .headers = "x-tenant:gold\n", .method = "POST" }));
	assert_false(allows(&(struct req){ .headers = "x-tenant:gold\nhost:shop.example\n", .host = "x" }));
}

static void test_when_claims(void **state)
{
	(void)state;
	static const struct token nested = { "realm.roles", { "user", "admin" } }, other = { "realm", { "admin" } };
	struct policy_rule *r = rule_add(POLICY_ALLOW, "x/a");
	struct policy_condition *c = when_add(r, POLICY_CLAIM, "realm.roles");
	strings_add(&c->values, "admin");
	match_add(r);
	assert_true(allows(&(struct req){ .token = &nested }));
	assert_false(allows(&(struct req){ .token = &other }));
	assert_false(allows(&(struct req){ 0 }));

	c = when_add(r, POLICY_CLAIM, "realm.roles");
	strings_add(&c->not_values, "guest");
	assert_true(allows(&(struct req){ .token = &nested }));
	strings_add(&c->not_values, "us*"); /* any element is enough to forbid */
	assert_false(allows(&(struct req){ .token = &nested }));
}

static void test_not_claim_holds_without_token(void **state)
{
	(void)state;
	struct policy_rule *r = rule_add(POLICY_DENY, "x/d");
	strings_add(&when_add(r, POLICY_CLAIM, "group")->not_values, "admin");
	match_add(r);
	assert_false(allows(&(struct req){ 0 }));
	assert_true(allows(&(struct req){ .token = &(struct token){ "group", { "admin" } } }));
}

static void test_when_principal_and_sni(void **state)
{
	(void)state;
	struct policy_rule *r = rule_add(POLICY_ALLOW, "x/a");
	strings_add(&when_add(r, POLICY_REQUEST_PRINCIPAL, NULL)->values, "i/*");
	strings_add(&when_add(r, POLICY_SNI, NULL)->values, "*.shop");
	match_add(r);
	assert_true(allows(&(struct req){ .principal = "i/s", .sni = "A.Shop" }));
	assert_false(allows(&(struct req){ .principal = "i/s" }));
	assert_false(allows(&(struct req){ .principal = "j/s", .sni = "a.shop" }));
}

static void test_remote_ip_is_the_forwarded_one(void **state)
{
	(void)state;
	struct policy_match *m = match_add(rule_add(POLICY_ALLOW, "x/a"));
	m->remote_ip_blocks.v = malloc(sizeof(struct cidr));
	m->remote_ip_blocks.n = 1;
	cidr_parse("192.0.2.0/24", m->remote_ip_blocks.v);
	assert_true(allows(&(struct req){ .remote = "192.0.2.7" }));
	assert_false(allows(&(struct req){ 0 }));
}

static void test_deny_wins_over_allow_in_any_order(void **state)
{
	(void)state;
	rule_add(POLICY_ALLOW, "x/a");
	struct policy_rule *deny = rule_add(POLICY_DENY, "x/d");
	strings_add(&match_add(deny)->paths, "/admin*");

	struct policy_http_verdict v = eval(&(struct req){ .path = "/admin/x" });
	assert_int_equal(v.reason, DROP_POLICY_DENY);
	assert_string_equal(v.rule->name, "x/d");
	v = eval(&(struct req){ .path = "/" });
	assert_int_equal(v.reason, DROP_NONE);
	assert_string_equal(v.rule->name, "x/a");
}

static void test_custom_names_each_provider_once(void **state)
{
	(void)state;
	static const char *const providers[] = { "one", "two", "one" };
	for (size_t i = 0; i < ARRAY_SIZE(providers); i++) {
		struct policy_rule *r = rule_add(POLICY_CUSTOM, providers[i]);
		r->provider = strdup(providers[i]);
		strings_add(&match_add(r)->paths, i == 1 ? "/two" : "*");
	}
	struct policy_http_verdict v = eval(&(struct req){ .path = "/two" });
	assert_int_equal(v.custom_count, 2);
	assert_string_equal(v.custom[0]->provider, "one");
	assert_string_equal(v.custom[1]->provider, "two");
	assert_int_equal(v.reason, DROP_NONE);
	assert_int_equal(eval(&(struct req){ .path = "/" }).custom_count, 1);
}

static void test_too_many_providers_are_a_refusal(void **state)
{
	(void)state;
	for (int i = 0; i <= POLICY_CUSTOM_MAX; i++) {
		char name[8];
		snprintf(name, sizeof(name), "p%d", i);
		rule_add(POLICY_CUSTOM, name)->provider = strdup(name);
	}
	assert_int_equal(eval(&(struct req){ 0 }).reason, DROP_POLICY_DENY);
}

static void test_audit_and_dry_run_only_watch(void **state)
{
	(void)state;
	rule_add(POLICY_DENY, "x/dry")->dry_run = true;
	rule_add(POLICY_AUDIT, "x/audit");
	struct policy_http_verdict v = eval(&(struct req){ 0 });
	assert_int_equal(v.reason, DROP_NONE);
	assert_null(v.rule);
	assert_string_equal(v.audit->name, "x/dry");
}

/* DENY and ALLOW apart: who would be refused by either, and by which rule. */
static void test_dry_runs_say_what_they_would(void **state)
{
	(void)state;
	struct policy_http_verdict v = eval(&(struct req){ 0 });
	assert_false(v.dry_deny.asked || v.dry_allow.asked);
	assert_false(policy_shadow_refuses(&v.dry_deny, POLICY_DENY));
	assert_false(policy_shadow_refuses(&v.dry_allow, POLICY_ALLOW));

	for (int i = 0; i < 4; i++) {
		struct policy_rule *r = rule_add(i < 2 ? POLICY_DENY : POLICY_ALLOW, i < 2 ? "x/deny" : "x/allow");
		r->dry_run = true;
		strings_add(&match_add(r)->methods, i % 2 ? "PUT" : "POST");
		r->index = (uint32_t)i % 2;
	}
	policy->has_allow = false; /* of those in force */
	v = eval(&(struct req){ .method = "PUT" });
	assert_int_equal(v.reason, DROP_NONE);
	assert_ptr_equal(v.dry_deny.rule, &policy->rules[1]);
	assert_ptr_equal(v.dry_allow.rule, &policy->rules[3]);
	assert_true(policy_shadow_refuses(&v.dry_deny, POLICY_DENY));
	assert_false(policy_shadow_refuses(&v.dry_allow, POLICY_ALLOW));
	char text[64];
	policy_rule_text(v.dry_deny.rule, text, sizeof(text));
	assert_string_equal(text, "ns[x]-policy[deny]-rule[1]");

	v = eval(&(struct req){ .method = "GET" });
	assert_true(v.dry_deny.asked && v.dry_allow.asked);
	assert_false(policy_shadow_refuses(&v.dry_deny, POLICY_DENY));
	assert_true(policy_shadow_refuses(&v.dry_allow, POLICY_ALLOW));
}

static void test_strict_and_paths_that_are_none_are_refused(void **state)
{
	(void)state;
	struct http_request_view r = { .header = on_header };
	struct policy_http_input in = { .request = &r };
	struct policy_http_verdict v;
	rule_add(POLICY_ALLOW, "x/all");
	policy_eval_http(policy, &in, &v);
	assert_int_equal(v.reason, DROP_POLICY_DENY);
	policy->mtls = MTLS_STRICT;
	assert_int_equal(eval(&(struct req){ .anonymous = true }).reason, DROP_MTLS_REQUIRED);
	assert_int_equal(eval(&(struct req){ 0 }).reason, DROP_NONE);
	r.path = (struct http_view){ "/", 1 };
	in.from_node = true;
	policy_eval_http(policy, &in, &v);
	assert_int_equal(v.reason, DROP_NONE);
}

static void test_needs_http_and_l4_refuses_custom(void **state)
{
	(void)state;
	struct policy_input in = { .port = 1, .proto = 6 };
	struct policy_verdict v;

	rule_add(POLICY_DENY, "x/none");
	match_add(&policy->rules[0])->has_http = false;
	assert_false(policy_needs_http(policy));
	policy->rules[0].matches[0].has_http = true;
	assert_true(policy_needs_http(policy));
	policy->rules[0].action = POLICY_CUSTOM;
	policy_eval(policy, &in, &v);
	assert_int_equal(v.reason, DROP_POLICY_DENY);
	policy->rules[0].matches[0].has_http = false;
	assert_true(policy_needs_http(policy));
}

static void test_why_names_the_field(void **state)
{
	(void)state;
	struct policy_rule *r = rule_add(POLICY_ALLOW, "x/a");
	strings_add(&match_add(r)->methods, "GET");
	strings_add(&when_add(r, POLICY_CLAIM, "a.b")->values, "x");
	struct http_request_view view_of = { .method = view("PUT"), .path = view("/"), .header = on_header };
	struct policy_http_input in = { .request = &view_of };
	char buf[64];
	assert_string_equal(policy_rule_why(r, &in, buf, sizeof(buf)), "methods");
	view_of.method = view("GET");
	assert_string_equal(policy_rule_why(r, &in, buf, sizeof(buf)), "request.auth.claims[a][b]");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_path_patterns),
		CASE(test_hosts_ignore_case_and_port),
		CASE(test_fields_of_an_alternative_must_all_hold),
		CASE(test_request_principals_with_stars),
		CASE(test_when_headers),
		CASE(test_when_claims),
		CASE(test_not_claim_holds_without_token),
		CASE(test_when_principal_and_sni),
		CASE(test_remote_ip_is_the_forwarded_one),
		CASE(test_deny_wins_over_allow_in_any_order),
		CASE(test_custom_names_each_provider_once),
		CASE(test_too_many_providers_are_a_refusal),
		CASE(test_audit_and_dry_run_only_watch),
		CASE(test_dry_runs_say_what_they_would),
		CASE(test_strict_and_paths_that_are_none_are_refused),
		CASE(test_needs_http_and_l4_refuses_custom),
		CASE(test_why_names_the_field),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
