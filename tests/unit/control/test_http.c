/* SPDX-License-Identifier: Apache-2.0 */
/* Routes, explained requests and taps, over the compiler's own answers. */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/control/http_request.h"
#include "tests/unit/control/fake.h"

static int setup(void **state)
{
	struct fake *f = fake_new();
	fake_http(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	fake_free(*state);
	return 0;
}

static void json_freep(json_t **json)
{
	json_decref(*json);
}

static json_t *get(struct fake *f, const char *path)
{
	AUTO(answer_done) struct answer a = fake_ask(f, "GET", path, NULL);
	if (a.status != 200)
		fail_msg("%s: %ld %s", path, a.status, a.body ? a.body : "");
	json_t *json = json_loads(a.body, 0, NULL);
	assert_non_null(json);
	return json;
}

static void refused(struct fake *f, const char *path, long status, const char *says)
{
	AUTO(answer_done) struct answer a = fake_ask(f, "GET", path, NULL);
	if (a.status != status || !a.body || !strstr(a.body, says))
		fail_msg("%s: %ld %s; wanted %ld ... %s", path, a.status, a.body ? a.body : "", status, says);
}

/* "a.0.b" */
static const json_t *find(const json_t *json, const char *path)
{
	char copy[200], *save = NULL;

	str_copy(copy, sizeof(copy), path);
	for (char *key = strtok_r(copy, ".", &save); key; key = strtok_r(NULL, ".", &save))
		json = json_is_array(json) ? json_array_get(json, strtoul(key, NULL, 10)) : json_object_get(json, key);
	return json;
}

static void says(const json_t *json, const char *path, const char *wanted)
{
	const char *text = json_string_value(find(json, path));
	if (!str_eq(text, wanted)) {
		AUTO(mem_freep) char *all = json_dumps(json, JSON_INDENT(1));
		fail_msg("%s is \"%s\", wanted \"%s\" in\n%s", path, text ? text : "(none)", wanted, all);
	}
}

#define EXPLAIN "/v1/http/explain?source=frontend&url=http%3A%2F%2Fweb"

static void test_routes_are_listed_in_words(void **state)
{
	AUTO(json_freep) json_t *all = get(*state, "/v1/http/routes?workload=frontend");
	assert_int_equal(json_array_size(find(all, "items")), 3); /* TCP ports have none */
	says(all, "items.0.service", "*.example.com");
	says(all, "items.1.default_cluster", "outbound|444||*.example.com");
	AUTO(json_freep) json_t *r = get(*state, "/v1/http/routes?workload=frontend&service=web");
	says(r, "workload", "shop/frontend-1");
	assert_int_equal(json_array_size(find(r, "items")), 1);
	says(r, "items.0.service", "web.shop.svc.cluster.local");
	says(r, "items.0.mode", "http");
	assert_int_equal(json_array_size(find(r, "items.0.routes")), 4);
	says(r, "items.0.routes.0.matches.0", "header x-canary = true");
	says(r, "items.0.routes.0.action",
	     "outbound|80|v1|web.shop.svc.cluster.local; path prefix becomes /admin; timeout 2 s");
	says(r, "items.0.routes.0.retries", "3 on 5xx, each within 500 ms");
	says(r, "items.0.routes.1.action", "redirect 301 to path /new");
	says(r, "items.0.routes.3.action",
	     "outbound|80|v1|web.shop.svc.cluster.local 90 %, outbound|80||web.shop.svc.cluster.local 10 %");
	says(r, "items.0.routes.3.owner", "VirtualService shop/web");
	assert_true(str_starts(json_string_value(find(r, "items.0.routes.3.origin")), "web.yaml:"));
	AUTO(json_freep) json_t *none = get(*state, "/v1/http/routes?workload=frontend&service=catalog");
	assert_int_equal(json_array_size(find(none, "items")), 0);
	refused(*state, "/v1/http/routes?workload=nobody", 404, "nobody");
}

static void test_explain_names_the_match_that_fails_and_the_route_that_is_taken(void **state)
{
	AUTO(json_freep) json_t *x = get(*state, EXPLAIN "%2Fx");
	says(x, "verdict", "allowed");
	says(x, "outbound.decided_by", "kernel");
	assert_true(json_is_true(find(x, "outbound.to_helper")));
	says(x, "routes.0.name", "canary");
	assert_true(json_is_false(find(x, "routes.0.taken")));
	assert_true(str_starts(json_string_value(find(x, "routes.0.tried.0.why_not")), "header x-canary"));
	says(x, "routes.3.name", "split");
	assert_true(json_is_true(find(x, "routes.3.taken")));
	assert_int_equal(json_array_size(find(x, "clusters")), 2);
	says(x, "clusters.0.name", "outbound|80|v1|web.shop.svc.cluster.local");
	assert_true(json_real_value(find(x, "clusters.0.share")) > 0.89);
	says(x, "inbound.0.workload", "shop/web-1");
	says(x, "inbound.0.rule.name", "shop/web-callers");
	says(x, "inbound.0.peer", "spiffe://cluster.local/ns/shop/sa/frontend");
}

static void test_explain_judges_the_request_as_the_route_leaves_it(void **state)
{
	/* The route rewrites the path to one that a rule denies. */
	AUTO(json_freep) json_t *x = get(*state, EXPLAIN "%2Fx&headers=X-Canary%3A%20true");
	says(x, "verdict", "refused");
	assert_true(json_is_true(find(x, "routes.0.taken")));
	says(x, "inbound.0.reason", "policy_deny");
	says(x, "inbound.0.rule.name", "shop/web-admin");
	says(x, "inbound.0.rule.action", "DENY");
	says(x, "inbound.0.rules.1.why_not", NULL);
	AUTO(json_freep) json_t *plain = get(*state, EXPLAIN "%2F%61dmin%2Fx");
	says(plain, "verdict", "refused");
	says(plain, "inbound.0.rules.0.name", "shop/web-admin");
}

static void test_explain_tells_what_only_a_token_could(void **state)
{
	AUTO(json_freep) json_t *x = get(*state, EXPLAIN "%2F&method=POST");
	says(x, "verdict", "refused"); /* there is no token: nothing is left to know */
	says(x, "inbound.0.reason", "policy_no_allow");
	says(x, "inbound.0.rules.1.why_not", "methods");
	says(x, "inbound.0.rules.2.why_not", "requestPrincipals");
	AUTO(json_freep) json_t *token = get(*state, EXPLAIN "%2F&method=POST&headers=authorization%3A%20Bearer%20abc");
	says(token, "verdict", "unknown");
	assert_true(json_is_true(find(token, "inbound.0.token.matters")));
}

static void test_explain_redirects_and_normalises(void **state)
{
	AUTO(json_freep) json_t *x = get(*state, EXPLAIN "%2Fy%2F..%2Fold%3Fa%3D1");
	says(x, "request.path", "/old");
	says(x, "verdict", "allowed");
	assert_int_equal(json_integer_value(find(x, "response.status")), 301);
	assert_non_null(strstr(json_string_value(find(x, "response.text")), "/new"));
	assert_int_equal(json_array_size(find(x, "inbound")), 0);
}

static void test_explain_asks_the_ends_on_other_nodes_and_shows_ejections(void **state)
{
	struct fake *f = *state;
	f->clusters = "[{\"name\":\"outbound|80|v2|web.shop.svc.cluster.local\",\"endpoints\":[{\"address\":"
		      "\"10.50.2.40:8080\",\"health\":\"ejected\",\"ejected_for_s\":12.5}]}]";
	/* All of the fake's workloads are v1: the subset is empty. */
	AUTO(json_freep) json_t *x = get(f, EXPLAIN "%2Fgone");
	says(x, "verdict", "refused");
	assert_non_null(strstr(json_string_value(find(x, "inbound.0.problem")), "503"));
	f->clusters = "[{\"name\":\"outbound|80|v1|web.shop.svc.cluster.local\",\"endpoints\":[{\"address\":"
		      "\"10.50.2.40:8080\",\"health\":\"ejected\",\"ejected_for_s\":12.5}]}]";
	AUTO(json_freep) json_t *y = get(f, EXPLAIN "%2Fx");
	assert_true(json_is_false(find(y, "clusters.0.endpoints.0.ejected")));
	assert_true(json_is_true(find(y, "clusters.0.endpoints.1.ejected")));
	AUTO(json_freep) json_t *z =
		get(f, "/v1/http/explain?source=payments&url=http%3A%2F%2Fweb.shop%2Fx&method=PUT");
	says(z, "verdict", "refused");
	says(z, "inbound.1.workload", "shop/web-1");
}

static void test_explain_from_outside_has_no_routes(void **state)
{
	AUTO(json_freep) json_t *x = get(*state, "/v1/http/explain?source=192.0.2.9&url=http%3A%2F%2Fweb.shop%2Fx");
	assert_int_equal(json_array_size(find(x, "routes")), 0);
	says(x, "verdict", "refused"); /* STRICT */
	says(x, "inbound.0.reason", "mtls_required");
}

static void test_explain_bad_requests_are_told(void **state)
{
	refused(*state, "/v1/http/explain?source=frontend", 400, "url=");
	refused(*state, "/v1/http/explain?source=frontend&url=web", 400, "no URL");
	refused(*state, "/v1/http/explain?source=frontend&url=https%3A%2F%2Fweb%2F", 400, "TLS");
	refused(*state, EXPLAIN "%2F%2500", 400, "no unambiguous form");
	refused(*state, EXPLAIN "%2F&headers=nonsense", 400, "no header");
	refused(*state, EXPLAIN "%2F&method=A%20B", 400, "no method");
	refused(*state, "/v1/http/explain?source=frontend&url=http%3A%2F%2Fnowhere%2F", 404, "nowhere");
}

/* What is called at any address: by name, whose address its resolver knows. */
static void test_names_outside_of_the_mesh_are_explained(void **state)
{
	static const struct {
		const char *source, *to, *verdict, *path, *asked;
	} rows[] = {
		{ "frontend", "a.example.com:444", "allowed", "http", "*:444" },
		{ "payments", "a.example.com:444", "allowed", "http", "*:444" },
		{ "payments", "A.Example.com:81", "allowed", "http", "*:81" },
		{ "frontend", "b.example.org:444", "allowed", "http", "*:444" },
		{ "payments", "b.example.org:444", "refused", "refused", "*:444" },
		{ "payments", "b.example.org:81", "refused", "refused", "*:81" },
		{ "frontend", "192.0.2.1:444", "allowed", "http", "192.0.2.1:444" },
		{ "payments", "192.0.2.1:444", "unknown", "http", "192.0.2.1:444" },
		{ "payments", "192.0.2.1:9000", "allowed", "direct", "192.0.2.1:9000" },
		{ "payments", "b.example.org:9000", "allowed", "direct", "*:9000" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char url[200];
		snprintf(url, sizeof(url), "/v1/explain?source=%s&destination=%s", rows[i].source, rows[i].to);
		AUTO(json_freep) json_t *x = get(*state, url);
		says(x, "verdict", rows[i].verdict);
		says(x, "path", rows[i].path);
		says(x, "destination.asked", rows[i].asked);
	}
	refused(*state, "/v1/explain?source=frontend&destination=b.example.org:445", 404, "no service or workload");
	AUTO(json_freep) json_t *r = get(*state, "/v1/http/explain?source=payments&url=http://a.example.com:81/");
	says(r, "verdict", "allowed");
	says(r, "clusters.0.name", "outbound|81||*.example.com");
	AUTO(json_freep) json_t *q = get(*state, "/v1/http/explain?source=payments&url=http://b.example.org:81/");
	says(q, "verdict", "refused");
	assert_int_equal(json_integer_value(find(q, "response.status")), 502);
	AUTO(json_freep) json_t *p = get(*state, "/v1/http/explain?source=frontend&url=http://b.example.org:81/");
	says(p, "verdict", "allowed");
	says(p, "clusters.0.name", "PassthroughCluster");
}

static void test_a_connection_to_an_http_port_is_not_judged_by_rules_on_requests(void **state)
{
	AUTO(json_freep) json_t *x = get(*state, "/v1/explain?source=frontend&destination=web:80");
	says(x, "verdict", "allowed");
	says(x, "path", "http");
	assert_true(json_is_true(find(x, "inbound.by_request")));
	AUTO(json_freep) json_t *anonymous = get(*state, "/v1/explain?source=192.0.2.9&destination=shop/web-1:8080");
	says(anonymous, "verdict", "refused");
	says(anonymous, "inbound.reason", "mtls_required");
	AUTO(json_freep) json_t *check = get(*state, "/v1/authz/check?source=frontend&destination=web:80");
	assert_true(json_is_null(find(check, "items.0.allowed")));
	assert_true(json_is_true(find(check, "items.0.by_request")));
	AUTO(json_freep) json_t *tcp = get(*state, "/v1/authz/check?source=frontend&destination=payments:7000");
	assert_true(json_is_true(find(tcp, "items.0.allowed")));
	AUTO(json_freep) json_t *s = get(*state, "/v1/services/shop/web");
	says(s, "items.0.ports.0.http", "http");
	AUTO(json_freep) json_t *tls = get(*state, "/v1/tls-check?service=web");
	says(tls, "items.0.http", "http");
	says(tls, "items.0.status", "OK");
}

static void test_tap_passes_lines_through_until_it_ends(void **state)
{
	struct fake *f = *state;
	f->tap_lines[0] = "{\"path\":\"/a\"}";
	f->tap_lines[1] = "{\"bad\":\n1}"; /* would be two lines */
	f->tap_lines[2] = "{\"path\":\"/b\"}";
	AUTO(answer_done) struct answer a =
		fake_ask(f, "GET", "/v1/tap?filter=response.code%20%3E%3D%20500&rate=9", NULL);
	assert_int_equal(a.status, 200);
	assert_non_null(strstr(a.body, "{\"path\":\"/a\"}\n{\"path\":\"/b\"}\n"));
	assert_non_null(strstr(a.body, "{\"lost\":1}"));
	assert_null(strstr(a.body, "bad"));
	assert_int_equal(f->tap_rate, 9);
	assert_string_equal(f->tap_filter, ""); /* stopped */
}

static void test_tap_refusals_are_told(void **state)
{
	struct fake *f = *state;
	f->tap_error = -EBUSY;
	refused(f, "/v1/tap", 503, "end one of them");
	f->tap_error = -EINVAL;
	refused(f, "/v1/tap", 400, "too long");
	refused(f, "/v1/tap?rate=x", 400, "rate=x");
}

static void test_asked_request_headers_are_joined_and_operations_applied(void **state)
{
	struct asked_request r;
	struct err err = ERR_INIT;
	(void)state;
	assert_int_equal(asked_request_init(&r, "http://[fd00::1]:8080?q=1#f", NULL,
					    "A: 1\na:2\r\nHost: other\nB:  x \n", PATH_BASE, &err),
			 0);
	assert_string_equal(r.host, "[fd00::1]:8080");
	assert_string_equal(r.authority, "other");
	assert_string_equal(r.path, "/");
	assert_string_equal(r.query, "q=1");
	assert_string_equal(asked_request_header(&r, "a"), "1,2");
	assert_string_equal(asked_request_header(&r, "b"), "x");
	assert_null(asked_request_header(&r, "host"));
	char remove[] = "b", set_name[] = "A", set_value[] = "3", add_name[] = "a", add_value[] = "4";
	char *removes[] = { remove };
	struct http_header_value set = { set_name, set_value }, add = { add_name, add_value };
	struct http_route route = { .request = { .set = &set,
						 .set_count = 1,
						 .add = &add,
						 .add_count = 1,
						 .remove = removes,
						 .remove_count = 1 } };
	assert_int_equal(asked_request_apply(&r, &route, SIZE_MAX, NULL), 0);
	assert_string_equal(asked_request_header(&r, "a"), "3,4");
	assert_null(asked_request_header(&r, "b"));
	asked_request_done(&r);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_routes_are_listed_in_words),
		T(test_explain_names_the_match_that_fails_and_the_route_that_is_taken),
		T(test_explain_judges_the_request_as_the_route_leaves_it),
		T(test_explain_tells_what_only_a_token_could),
		T(test_explain_redirects_and_normalises),
		T(test_explain_asks_the_ends_on_other_nodes_and_shows_ejections),
		T(test_explain_from_outside_has_no_routes),
		T(test_explain_bad_requests_are_told),
		T(test_names_outside_of_the_mesh_are_explained),
		T(test_a_connection_to_an_http_port_is_not_judged_by_rules_on_requests),
		T(test_tap_passes_lines_through_until_it_ends),
		T(test_tap_refusals_are_told),
		cmocka_unit_test(test_asked_request_headers_are_joined_and_operations_applied),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
