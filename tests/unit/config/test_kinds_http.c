/* SPDX-License-Identifier: Apache-2.0 */
/* The kinds above L4. */
#include "agent/config/kinds_http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/config/node.h"
#include "tests/unit/config/one.h"

#define HEAD(api, kind) "apiVersion: " api "\nkind: " kind "\nmetadata: { name: it, namespace: shop }\nspec:\n"
#define ROUTES HEAD("networking.istio.io/v1", "VirtualService") "  hosts: [ a ]\n  http:\n"
#define GATEWAY HEAD("networking.istio.io/v1", "Gateway") "  servers: [ "
#define JWT HEAD("security.istio.io/v1", "RequestAuthentication") "  jwtRules: [ "

static struct one one;

static int done(void **state)
{
	(void)state;
	one_done(&one);
	return 0;
}

static const struct resource *good(const char *text)
{
	one_done(&one);
	one_decode(&one, "a.yaml", text);
	one_has_no_problem(&one);
	return one_resource(&one);
}

static void bad(const char *text, const char *why)
{
	one_done(&one);
	one_decode(&one, "a.yaml", text);
	one_has(&one, PROBLEM_ERROR, why);
	assert_true(one.docs[0].rejected);
}

static void test_virtual_service_is_decoded(void **state)
{
	(void)state;
	const struct vs_route *r =
		good(ROUTES "  - match: [ { headers: { x-a: { regex: \"b|c\" }, x-b: {} }, uri: { prefix: /p } } ]\n"
			    "    route: [ { destination: { host: a, subset: v1 }, weight: 9 }, { destination: { host: "
			    "b.c } } ]\n"
			    "    timeout: 0s\n    retries: { perTryTimeout: 250ms }\n"
			    "    fault: { abort: { httpStatus: 503, percentage: { value: 0.5 } } }\n")
			->spec.virtual_service->http.v;
	assert_int_equal(r->match.v[0].headers.v[0].match.kind, STRING_MATCH_REGEX);
	assert_string_equal(r->match.v[0].headers.v[0].key, "x-a");
	assert_int_equal(r->match.v[0].headers.v[1].match.kind, STRING_MATCH_PRESENT);
	assert_string_equal(r->match.v[0].uri->text, "/p");
	assert_int_equal(r->route.v[0].weight, 9);
	assert_true(r->timeout.set && r->timeout.ms == 0);
	assert_int_equal(r->retries->attempts, 2);
	assert_true(r->fault->abort->percentage->value.v == 0.5);
	assert_int_equal(r->line_offset, 6);
}

static void test_virtual_service_bad_is_refused(void **state)
{
	(void)state;
	bad(ROUTES "  - route: [ { destination: { host: a } } ]\n    retries: { perTryTimeout: 2x }\n",
	    "8: spec.http[0].retries.perTryTimeout: \"2x\" is not a duration");
	bad(ROUTES "  - match: []\n", "spec.http[0]: needs one of route, redirect, directResponse, delegate");
	bad(ROUTES "  - { route: [ { destination: { host: a } } ], redirect: { uri: / } }\n",
	    "cannot be together with \"route\"");
	bad(ROUTES "  - route: [ { destination: { host: a } }, { destination: { host: b } } ]\n", "without any weight");
	bad(ROUTES "  - route: [ { weight: 1 } ]\n", "spec.http[0].route[0].destination: is required");
	bad(ROUTES "  - { match: [ { uri: { exact: a, prefix: b } } ], route: [ { destination: { host: a } } ] }\n",
	    "spec.http[0].match[0].uri.prefix: cannot be together with \"exact\"");
	bad(HEAD("networking.istio.io/v1", "VirtualService") "  hosts: [ a ]\n", "needs http, tls or tcp routes");
}

static void test_virtual_service_regexes_are_checked(void **state)
{
	(void)state;
#define RULE(text) ROUTES "  - { " text ", route: [ { destination: { host: a } } ] }\n"
	good(RULE("match: [ { uri: { regex: '/a/[0-9]+' }, headers: { x: { regex: 'EU|UK' } } } ]"));
	bad(RULE("match: [ { uri: { regex: '/a(' } } ]"), "7: spec.http[0].match[0].uri.regex: regex \"/a(\"");
	bad(RULE("match: [ { headers: { x-a: { regex: '(?=a)' } } } ]"),
	    "spec.http[0].match[0].headers.x-a.regex: regex \"(?=a)\"");
	bad(RULE("match: [ { queryParams: { a: { regex: '[' } } } ]"), "queryParams.a.regex: regex \"[\"");
	bad(RULE("corsPolicy: { allowOrigins: [ { regex: '*' } ] }"), "corsPolicy.allowOrigins[0].regex: regex \"*\"");
	good(RULE("rewrite: { uriRegexRewrite: { match: '/(a)', rewrite: '/\\1' } }"));
	bad(RULE("rewrite: { uriRegexRewrite: { match: '/a)', rewrite: '/' } }"),
	    "uriRegexRewrite.match: regex \"/a)\"");
	bad(RULE("rewrite: { uriRegexRewrite: { match: '/(a)', rewrite: '/\\2' } }"),
	    "uriRegexRewrite.match: substitution \"/\\2\"");
#undef RULE
}

static void test_gateway_is_checked(void **state)
{
	(void)state;
	const struct gateway_spec *g =
		good(GATEWAY "{ port: { number: 443, name: x, protocol: HTTPS }, hosts: [ \"ns/*.a.b\" ],\n"
			     "    tls: { mode: SIMPLE, credentialName: c, minProtocolVersion: TLSV1_2 } } ]\n")
			->spec.gateway;
	assert_int_equal(g->servers.v[0].tls->min_protocol_version, TLS_VERSION_1_2);
	bad(GATEWAY "{ port: { number: 443, protocol: HTTPS }, hosts: [ a ] } ]\n",
	    "spec.servers[0].tls: is required for protocol HTTPS");
	bad(GATEWAY "{ port: { number: 443, protocol: HTTPS }, hosts: [ a ], tls: { mode: SIMPLE } } ]\n",
	    "needs credentialName");
	bad(GATEWAY "{ port: { number: 443, protocol: https }, hosts: [ a ] } ]\n",
	    "\"https\" is not one of HTTP, HTTPS");
	bad(GATEWAY "{ hosts: [ a ] } ]\n", "spec.servers[0].port: is required");
}

static void test_request_authentication_is_checked(void **state)
{
	(void)state;
	const struct jwt_rule_spec *r =
		good(JWT
		     "{ issuer: a, jwksUri: \"https://a/b\", outputClaimToHeaders: [ { header: h, claim: c } ] } ]\n")
			->spec.request_authentication->jwt_rules.v;
	assert_string_equal(r->output_claim_to_headers.v[0].claim, "c");
	bad(JWT "{ jwksUri: \"https://a/b\" } ]\n", "spec.jwtRules[0].issuer: is required");
	bad(JWT "{ issuer: a, jwksUri: \"ftp://a/b\" } ]\n", "is not an http:// or https:// URL");
	bad(JWT "{ issuer: a, jwksUri: \"http://a/b\", jwks: x } ]\n",
	    "spec.jwtRules[0].jwks: cannot be together with \"jwksUri\"");
}

static void test_sidecar_is_checked(void **state)
{
	(void)state;
	good(HEAD("networking.istio.io/v1", "Sidecar") "  egress: [ { hosts: [ \"./*\", \"x/*.a.b\", \"~/*\" ] } ]\n");
	bad(HEAD("networking.istio.io/v1", "Sidecar") "  egress: [ { hosts: [ a ] } ]\n",
	    "\"a\" is not of the form namespace/host");
}

/* The shop example, every kind of it, from the fuzzer's corpus (where one byte stands before each file). */
static void test_shop_example_loads_without_a_problem(void **state)
{
	static const char *const files[] = { "00-workloads.yaml",	 "10-mesh.yaml",    "11-mtls.yaml",
					     "12-authorization.yaml",	 "20-traffic.yaml", "30-edge.yaml",
					     "40-filters-telemetry.yaml" };
	size_t resources = 0;
	(void)state;
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		static char text[65536];
		char path[200];
		snprintf(path, sizeof(path), "tests/fuzz/corpus/yaml/%s", files[i]);
		FILE *f = fopen(path, "r");
		if (!f)
			fail_msg("%s: run from the repository's root", path);
		size_t n = fread(text, 1, sizeof(text) - 1, f);
		fclose(f);
		text[n] = 0;
		one_done(&one);
		one_decode(&one, files[i], text + 1);
		one_has_no_problem(&one);
		for (size_t k = 0; k < one.count; k++)
			resources += one.docs[k].resource_count;
	}
	assert_int_equal(resources, 24);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_teardown(name, done)
		T(test_virtual_service_is_decoded),	      T(test_virtual_service_bad_is_refused),
		T(test_virtual_service_regexes_are_checked),  T(test_gateway_is_checked),
		T(test_request_authentication_is_checked),    T(test_sidecar_is_checked),
		T(test_shop_example_loads_without_a_problem),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
