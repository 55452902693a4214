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
#include "agent/model/telemetry.h"
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

#define TELEMETRY HEAD("telemetry.istio.io/v1", "Telemetry")

static void warned(const char *text, enum problem_level level, const char *why)
{
	one_done(&one);
	one_decode(&one, "a.yaml", text);
	one_has(&one, level, why);
	assert_false(one.docs[0].rejected);
}

static void test_telemetry_is_decoded(void **state)
{
	(void)state;
	const struct telemetry_spec *t =
		good(TELEMETRY
		     "  tracing:\n  - match: { mode: SERVER }\n    providers: [ { name: zip } ]\n"
		     "    randomSamplingPercentage: 12.5\n    disableSpanReporting: false\n"
		     "    enableIstioTags: false\n    customTags:\n      a: { literal: { value: x } }\n"
		     "      b: { environment: { name: CELL, defaultValue: none } }\n"
		     "      c: { header: { name: x-c } }\n"
		     "      d: { formatter: { value: '%REQ(X-D)%/%PROTOCOL%' } }\n"
		     "  metrics:\n  - overrides:\n    - match: { metric: REQUEST_SIZE, mode: CLIENT }\n"
		     "      tagOverrides: { a: { operation: REMOVE }, b: { value: request.method } }\n"
		     "    - disabled: true\n"
		     "  accessLogging:\n  - { disabled: false, filter: { expression: 'response.code >= 400' } }\n")
			->spec.telemetry;
	const struct tracing_rule *r = t->tracing.v;
	assert_int_equal(r->match->mode, WORKLOAD_SERVER);
	assert_true(r->random_sampling_percentage.v == 12.5 && r->has_custom_tags && r->enable_istio_tags.set);
	assert_int_equal(r->custom_tags.n, 4);
	assert_string_equal(r->custom_tags.v[1].environment->default_value, "none");
	assert_string_equal(r->custom_tags.v[3].formatter->value, "%REQ(X-D)%/%PROTOCOL%");
	assert_int_equal(t->metrics.v->overrides.v[0].match->metric, METRIC_REQUEST_SIZE);
	assert_int_equal(t->metrics.v->overrides.v[0].tag_overrides.v[0].operation, TAG_REMOVE);
	assert_null(t->metrics.v->overrides.v[1].match);
	assert_string_equal(t->access_logging.v->filter->expression, "response.code >= 400");
}

static void test_telemetry_bad_is_refused(void **state)
{
	(void)state;
	bad(TELEMETRY "  tracing:\n  - randomSamplingPercentage: 101\n",
	    "6: spec.tracing[0].randomSamplingPercentage: 101 is out of range (0 to 100)");
	bad(TELEMETRY "  tracing: [ { match: { mode: INBOUND } } ]\n",
	    "spec.tracing[0].match.mode: \"INBOUND\" is not one of");
	bad(TELEMETRY "  tracing: [ { providers: [ zip ] } ]\n", "spec.tracing[0].providers[0]: ");
	bad(TELEMETRY "  tracing: [ { customTags: { a: {} } } ]\n",
	    "spec.tracing[0].customTags.a: needs one of literal, environment, header, formatter");
	bad(TELEMETRY "  tracing: [ { customTags: { a: { literal: { value: x }, header: { name: y } } } } ]\n",
	    "customTags.a.header: cannot be together with \"literal\"");
	bad(TELEMETRY "  tracing: [ { customTags: { a: { formatter: { value: '%NOBODY%' } } } } ]\n",
	    "customTags.a.formatter.value: %NOBODY% is no operator");
	bad(TELEMETRY "  metrics: [ { overrides: [ { match: { metric: REQUESTS } } ] } ]\n",
	    "spec.metrics[0].overrides[0].match.metric: \"REQUESTS\" is not one of");
	bad(TELEMETRY "  metrics: [ { overrides: [ { match: { metric: REQUEST_COUNT, customMetric: x } } ] } ]\n",
	    "customMetric: cannot be together with \"metric\"");
	bad(TELEMETRY "  metrics: [ { overrides: [ { tagOverrides: { a: { operation: UPSERT } } } ] } ]\n",
	    "tagOverrides.a.value: is required when the operation is UPSERT");
	bad(TELEMETRY "  metrics: [ { overrides: [ { tagOverrides: { a: { operation: REMOVE, value: x } } } ] } ]\n",
	    "tagOverrides.a.value: cannot be together with the operation REMOVE");
	bad(TELEMETRY "  metrics: [ { overrides: [ { tagOverrides: { a: { value: 'request.headers[' } } } ] } ]\n",
	    "tagOverrides.a.value: the expression can't be read: see character 17");
	bad(TELEMETRY "  accessLogging:\n  - filter:\n      expression: response.code >\n",
	    "7: spec.accessLogging[0].filter.expression: the expression can't be read");
	bad(TELEMETRY "  accessLogging: [ { filter: { expression: response.code } } ]\n",
	    "is a value, not a condition");
	bad(TELEMETRY "  accessLogging: [ { filter: {} } ]\n", "filter.expression: is required");
}

static void test_telemetry_odd_is_told(void **state)
{
	(void)state;
	warned(TELEMETRY "  accessLogging: [ { logFormat: {} } ]\n", PROBLEM_WARNING,
	       "spec.accessLogging[0].logFormat: unknown field");
	warned(TELEMETRY "  accessLogging: [ { filter: { expression: 'respons.code > 400' } } ]\n", PROBLEM_WARNING,
	       "it is never true");
	warned(TELEMETRY "  metrics: [ { overrides: [ { tagOverrides: { a: { value: istio_operationId } } } ] } ]\n",
	       PROBLEM_WARNING, "the tag is always \"unknown\"");
	warned(TELEMETRY "  metrics: [ { overrides: [ { match: { customMetric: x } } ] } ]\n", PROBLEM_WARNING,
	       "this override has no effect");
	warned(TELEMETRY "  metrics: [ { reportingInterval: 5s } ]\n", PROBLEM_INFO,
	       "spec.metrics[0].reportingInterval");
	warned(TELEMETRY "  tracing: [ { useRequestIdForTraceSampling: false } ]\n", PROBLEM_INFO,
	       "spec.tracing[0].useRequestIdForTraceSampling");
	warned(TELEMETRY "  tracing: [ { providers: [ { name: a }, { name: b } ] } ]\n", PROBLEM_WARNING,
	       "spec.tracing[0].providers: names 2 providers");
	warned(TELEMETRY "  tracing: [ { customTags: { a: { formatter: { value: '%CONNECTION_ID%' } } } } ]\n",
	       PROBLEM_INFO, "%CONNECTION_ID% never has a value here");
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
		T(test_virtual_service_is_decoded),
		T(test_virtual_service_bad_is_refused),
		T(test_virtual_service_regexes_are_checked),
		T(test_gateway_is_checked),
		T(test_request_authentication_is_checked),
		T(test_sidecar_is_checked),
		T(test_telemetry_is_decoded),
		T(test_telemetry_bad_is_refused),
		T(test_telemetry_odd_is_told),
		T(test_shop_example_loads_without_a_problem),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
