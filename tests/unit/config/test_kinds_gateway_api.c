/* SPDX-License-Identifier: Apache-2.0 */
/* The Gateway API's routes. */
#include "agent/config/kinds_gateway_api.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/config/node.h"
#include "tests/unit/config/one.h"

#define HEAD(kind)                                                                                                     \
	"apiVersion: gateway.networking.k8s.io/v1\nkind: " kind "\nmetadata: { name: it, namespace: shop }\nspec:\n"
#define RULES(kind) HEAD(kind) "  parentRefs: [ { group: \"\", kind: Service, name: a, port: 80 } ]\n  rules: [ "

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

static void test_http_route_is_decoded(void **state)
{
	(void)state;
	const struct http_route_spec *spec =
		good(RULES("HTTPRoute") "{ matches: [ { headers: [ { name: x, value: v1 } ], method: GET }, { path: { "
					"type: Exact, "
					"value: /a } } ], filters: [ { type: CORS, cors: { allowOrigins: [ \"*\" ] } } "
					"], "
					"backendRefs: [ { name: b, port: 80, weight: 3, namespace: other }, { name: c, "
					"port: 81 } ], "
					"timeouts: { request: 10s }, retry: { codes: [ 500 ], attempts: 2 } } ]\n")
			->spec.http_route;
	const struct http_route_rule *r = spec->rules.v;
	assert_string_equal(spec->parents.v[0].group, "");
	assert_string_equal(spec->parents.v[0].kind, "Service");
	assert_int_equal(spec->parents.v[0].port, 80);
	assert_null(r->matches.v[0].path);
	assert_int_equal(r->matches.v[0].headers.v[0].type, ROUTE_MATCH_EXACT);
	assert_int_equal(r->matches.v[1].path->type, ROUTE_MATCH_EXACT);
	assert_int_equal(r->filters.v[0].type, ROUTE_FILTER_CORS);
	assert_string_equal(r->backends.v[0].backend.ns, "other");
	assert_int_equal(r->backends.v[0].weight, 3);
	assert_int_equal(r->backends.v[1].weight, 1);
	assert_string_equal(r->backends.v[1].backend.kind, "Service");
	assert_int_equal(r->timeouts->request.ms, 10000);
	assert_int_equal(r->retry->codes->first->i, 500);
	good(RULES("HTTPRoute") "{ timeouts: { request: 0s, backendRequest: 2s } } ]\n"); /* 0: no limit */
	assert_string_equal(
		good(HEAD("HTTPRoute") "  parentRefs: [ { name: edge } ]\n")->spec.http_route->parents.v[0].kind,
		"Gateway");
}

static void test_http_route_bad_is_refused(void **state)
{
	(void)state;
	bad(RULES("HTTPRoute") "{ matches: [ { path: { value: a } } ] } ]\n",
	    "spec.rules[0].matches[0].path.value: \"a\" does not begin with a slash");
	bad(RULES("HTTPRoute") "{ filters: [ { type: URLRewrite } ] } ]\n", "needs urlRewrite");
	bad(RULES("HTTPRoute") "{ filters: [ { type: RequestRedirect, requestRedirect: {} } ], backendRefs: [ { name: "
			       "b, port: 1 } ] } ]\n",
	    "RequestRedirect together with backendRefs (Accepted=False, IncompatibleFilters)");
	bad(RULES("HTTPRoute") "{ timeouts: { request: 1s, backendRequest: 2s } } ]\n",
	    "backendRequest longer than request");
	bad(RULES("HTTPRoute") "{ filters: [ { type: DirectResponse, directResponse: { statusCode: 200 } } ], "
			       "backendRefs: [ { name: b, port: 1 } ] } ]\n",
	    "DirectResponse together with backendRefs (Accepted=False, IncompatibleFilters)");
	bad(RULES("HTTPRoute") "{ filters: [ { type: DirectResponse, directResponse: { statusCode: 199 } } ] } ]\n",
	    "statusCode");
	bad(RULES("HTTPRoute") "{ filters: [ { type: URLRewrite, urlRewrite: { path: { type: ReplaceFullPath } } } ] } "
			       "]\n",
	    "needs replaceFullPath");
	bad(RULES("HTTPRoute") "{ retry: { codes: [ 200 ] } } ]\n", "codes: holds something else than statuses");
	bad(RULES("HTTPRoute") "{ sessionPersistence: { type: Query } } ]\n", "is neither Cookie nor Header");
	bad(RULES("HTTPRoute") "{ sessionPersistence: { type: Header, cookieConfig: {} } } ]\n",
	    "is for the type Cookie only");
	bad(RULES("HTTPRoute") "{ sessionPersistence: { sessionName: 'a b' } } ]\n",
	    "characters that names of cookies");
	bad(RULES("HTTPRoute") "{ sessionPersistence: { cookieConfig: { lifetimeType: Permanent } } } ]\n",
	    "absoluteTimeout: is required");
	bad(RULES("HTTPRoute") "{ timeouts: { request: 2x } } ]\n", "\"2x\" is not a duration");
	bad(RULES("HTTPRoute") "{ matches: [ { path: { type: RegularExpression, value: '/a(' } } ] } ]\n",
	    "spec.rules[0].matches[0].path.value: regex \"/a(\"");
	bad(RULES("HTTPRoute") "{ matches: [ { headers: [ { type: RegularExpression, name: a, value: '[' } ] } ] } ]\n",
	    "spec.rules[0].matches[0].headers[0].value: regex \"[\"");
	bad(RULES("GRPCRoute") "{ matches: [ { method: { type: RegularExpression, method: '*' } } ] } ]\n",
	    "spec.rules[0].matches[0].method.method: regex \"*\"");
}

static void test_extension_is_warned_of(void **state)
{
	(void)state;
	one_done(&one);
	one_decode(&one, "a.yaml",
		   RULES("HTTPRoute") "{ filters: [ { type: ExtensionRef, extensionRef: { name: x } } ] } ]\n");
	one_has(&one, PROBLEM_WARNING, "ExtensionRef is not supported: requests that match get 500");
	one_done(&one);
	one_decode(
		&one, "a.yaml",
		RULES("HTTPRoute") "{ filters: [ { type: ExternalAuth, externalAuth: { protocol: GRPC, backendRef: { "
				   "name: x, port: 1 } } } ] } ]\n");
	one_has(&one, PROBLEM_WARNING, "ExternalAuth is not supported: requests that match get 500");
}

static void test_other_routes(void **state)
{
	(void)state;
	const struct grpc_route_spec *grpc =
		good(RULES("GRPCRoute") "{ matches: [ { method: { service: a.B, method: Get } } ] } ]\n")
			->spec.grpc_route;
	assert_string_equal(grpc->rules.v[0].matches.v[0].method->service, "a.B");
	bad(RULES("GRPCRoute") "{ matches: [ { method: {} } ] } ]\n", "needs service or method");
	assert_int_equal(
		good(RULES("TLSRoute") "{ backendRefs: [ { name: b, port: 1 } ] } ]\n  hostnames: [ a.example ]\n")
			->spec.tls_route->hostnames.n,
		1);
	bad("apiVersion: gateway.networking.k8s.io/v1alpha2\nkind: TCPRoute\nmetadata: { name: it, namespace: shop }\n"
	    "spec: { rules: [ {} ] }\n",
	    "backendRefs: is required");
}

/* A field that is not known could be the one that narrows the grant. */
static void test_grant_is_strict(void **state)
{
	(void)state;
	static const char grant[] = "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: { "
				    "name: g, namespace: shop }\n"
				    "spec: { from: [ { group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: "
				    "o%s } ], to: [ { kind: Service } ] }\n";
	char text[512];
	snprintf(text, sizeof(text), grant, "");
	assert_string_equal(good(text)->spec.reference_grant->from.v[0].ns, "o");
	snprintf(text, sizeof(text), grant, ", only: x");
	bad(text, "spec.from[0].only: unknown field");
}

#define BACKEND(targets, validation)                                                                                   \
	HEAD("BackendTLSPolicy") "  targetRefs: [ " targets " ]\n  validation: { " validation " }\n"
#define TO_S "{ group: '', kind: Service, name: s, sectionName: web }"

static void test_backend_tls_policy(void **state)
{
	(void)state;
	const struct backend_tls_policy_spec *spec =
		good(BACKEND(TO_S, "hostname: x.example, caCertificateRefs: [ { group: '', kind: ConfigMap, name: m } "
				   "], subjectAltNames: [ { type: URI, uri: 'spiffe://td/x' } ]"))
			->spec.backend_tls_policy;
	assert_string_equal(spec->targets.v[0].section, "web");
	assert_string_equal(spec->targets.v[0].group, "");
	assert_string_equal(spec->validation->ca_refs.v[0].kind, "ConfigMap");
	assert_int_equal(spec->validation->subject_alt_names.v[0].type, BACKEND_SAN_URI);
	good(BACKEND("{ kind: Service, name: s }", "hostname: x.example, wellKnownCACertificates: System"));

	bad(BACKEND(TO_S, "wellKnownCACertificates: System"), "spec.validation.hostname");
	bad(BACKEND(TO_S, "hostname: x.example"), "spec.validation: needs either caCertificateRefs or wellKnown");
	bad(BACKEND(TO_S, "hostname: x.example, wellKnownCACertificates: System, caCertificateRefs: [ { kind: Secret, "
			  "name: m } ]"),
	    "needs either");
	bad(BACKEND(TO_S, "hostname: '*.example', wellKnownCACertificates: System"), "is a wildcard");
	bad(BACKEND(TO_S, "hostname: x.example, wellKnownCACertificates: Mine"), "is not System");
	bad(BACKEND(TO_S, "hostname: x.example, wellKnownCACertificates: System, subjectAltNames: [ { type: Hostname, "
			  "uri: 'a://b' } ]"),
	    "needs hostname, and nothing else");
	bad(BACKEND(TO_S, "hostname: x.example, wellKnownCACertificates: System, subjectAltName: x"), "unknown field");
	bad(BACKEND("", "hostname: x.example, wellKnownCACertificates: System"), "spec.targetRefs");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_http_route_is_decoded, done),
		cmocka_unit_test_teardown(test_http_route_bad_is_refused, done),
		cmocka_unit_test_teardown(test_extension_is_warned_of, done),
		cmocka_unit_test_teardown(test_other_routes, done),
		cmocka_unit_test_teardown(test_grant_is_strict, done),
		cmocka_unit_test_teardown(test_backend_tls_policy, done),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
