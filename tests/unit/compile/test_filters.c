/* SPDX-License-Identifier: Apache-2.0 */
/* RequestAuthentications, their keys, and the providers of CUSTOM rules -> a workload's inbound filters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "agent/model/filters.h"
#include "tests/unit/compile/world.h"

static struct world w;

static struct world_fixture fixture = { &w, NULL };

static const char base[] =
	"apiVersion: v1\nkind: Namespace\nmetadata: { name: shop, labels: { istio.io/dataplane-mode: ambient } }\n---\n"
	"apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n"
	"metadata: { name: a, namespace: shop, annotations: { weft.dev/netns: x } }\n"
	"spec: { address: 10.0.0.1, labels: { app: frontend } }\n---\n";

#define AUTHN(name, ns, spec)                                                                                          \
	"apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: { name: " name ", namespace: " ns    \
	" }\nspec: { " spec " }\n---\n"

static const struct http_filters *inbound(void)
{
	return world_workload(&w, "shop/a")->inbound;
}

static void test_shop_example_as_written(void **state)
{
	(void)state;
	static const struct compile_jwks jwks[] = { { "https://login.shop.example/.well-known/jwks.json",
						      "{\"keys\":[]}" } };
	size_t n;

	world_set(&w, base);
	world_load(&w, "tests/data/shop/12-authorization.yaml");
	world_compile(&w);
	const struct http_filters *f = inbound();
	assert_non_null(f);
	assert_int_equal(f->jwt_count, 2);
	const struct jwt_rule *r = &f->jwt[0];
	assert_string_equal(r->issuer, "https://login.shop.example");
	assert_string_equal(r->jwks_uri, jwks[0].uri);
	assert_null(r->jwks);
	assert_false(r->jwks_inline);
	assert_int_equal(r->audience_count, 1);
	assert_string_equal(r->audiences[0], "shop-web");
	assert_true(r->forward);
	assert_string_equal(r->output_claims[0].header, "x-user");
	assert_string_equal(r->output_claims[0].claim, "sub");
	assert_int_equal(r->header_count, 0);
	r = &f->jwt[1];
	assert_true(r->jwks_inline);
	assert_non_null(strstr(r->jwks, "ES256"));
	assert_null(r->jwks_uri);
	assert_false(r->forward);
	assert_string_equal(r->headers[0].name, "x-partner-token");
	assert_string_equal(r->headers[0].prefix, "Partner ");
	assert_true(world_finds(&w, "RequestAuthentication/shop/frontend-jwt", "no keys from"));

	/* what is to be fetched, and what comes of it */
	const struct compile_jwks_want *wanted = compiler_jwks(w.compiler, &n);
	assert_int_equal(n, 1);
	assert_string_equal(wanted[0].uri, jwks[0].uri);
	uint64_t id = f->id;
	w.in.jwks = jwks;
	w.in.jwks_count = 1;
	world_compile(&w);
	assert_string_equal(inbound()->jwt[0].jwks, jwks[0].keys);
	assert_true(inbound()->id != id);
	f = inbound();
	world_compile(&w); /* nothing new: the same object */
	assert_ptr_equal(inbound(), f);
	assert_int_equal(compiler_stats(w.compiler)->workloads_built, 0);
	w.in.jwks_count = 0;
	world_compile(&w);
	assert_null(inbound()->jwt[0].jwks);
}

static void test_merging_selectors_and_targets(void **state)
{
	(void)state;
	world_set(&w, base);
	world_with(&w,
		   AUTHN("b", "shop", "jwtRules: [ { issuer: ns, jwks: x } ]") AUTHN(
			   "a", "shop",
			   "selector: { matchLabels: { app: frontend } }, jwtRules: [ { issuer: own, jwks: x } ]")
			   AUTHN("c", "shop",
				 "selector: { matchLabels: { app: other } }, jwtRules: [ { issuer: other, jwks: x } ]")
				   AUTHN("d", "istio-system", "jwtRules: [ { issuer: mesh, jwks: x } ]")
					   AUTHN("e", "elsewhere", "jwtRules: [ { issuer: other, jwks: x } ]")
						   AUTHN("f", "shop",
							 "targetRefs: [ { kind: Service, group: \"\", name: a } ], "
							 "jwtRules: [ { issuer: "
							 "service, jwks: x } ]"));
	const struct http_filters *f = inbound();
	assert_int_equal(f->jwt_count, 3);
	assert_string_equal(f->jwt[0].issuer, "mesh");
	assert_string_equal(f->jwt[1].issuer, "own");
	assert_string_equal(f->jwt[2].issuer, "ns");
	world_with(&w, "apiVersion: v1\nkind: Service\nmetadata: { name: a, namespace: shop }\n"
		       "spec: { clusterIPs: [ 10.60.0.1 ], selector: { app: frontend }, ports: [ { port: 80 } ] }\n");
	assert_int_equal(inbound()->jwt_count, 4);
	assert_string_equal(inbound()->jwt[3].issuer, "service");
	world_delete(&w, "RequestAuthentication/istio-system/d");
	world_compile(&w);
	assert_int_equal(inbound()->jwt_count, 3);
}

static void test_where_keys_are_when_nothing_is_said(void **state)
{
	(void)state;
	size_t n;
	world_set(&w, base);
	world_with(&w, AUTHN("a", "shop",
			     "jwtRules: [ { issuer: \"https://i.example/r/\" }, { issuer: me@example.com } ]"));
	const struct compile_jwks_want *wanted = compiler_jwks(w.compiler, &n);
	assert_int_equal(n, 1);
	assert_string_equal(wanted[0].uri, "https://i.example/r/.well-known/openid-configuration");
	assert_int_equal(wanted[0].timeout_ms, 5000); /* Istio's */
	assert_null(inbound()->jwt[1].jwks_uri);
	assert_true(world_finds(&w, "RequestAuthentication/shop/a", "neither jwks nor jwksUri"));
	world_with(&w, AUTHN("b", "shop",
			     "jwtRules: [ { issuer: \"https://i.example/r/\", timeout: 7s }, { issuer: "
			     "\"https://i.example/r/\", timeout: 2s } ]"));
	world_delete(&w, "RequestAuthentication/shop/a");
	world_compile(&w);
	wanted = compiler_jwks(w.compiler, &n);
	assert_int_equal(n, 1);
	assert_int_equal(wanted[0].timeout_ms, 7000);
	world_delete(&w, "RequestAuthentication/shop/b");
	world_compile(&w);
	assert_null(inbound());
	compiler_jwks(w.compiler, &n);
	assert_int_equal(n, 0);
}

static void test_odd_documents_are_found(void **state)
{
	(void)state;
	static const struct {
		const char *spec, *part;
	} rows[] = {
		{ "jwtRules: [ { issuer: x, jwks: \"{}\" } ]", "jwks is not a JSON object" },
		{ "jwtRules: [ { issuer: x, jwks: \"{\\\"keys\\\":[]}\" } ]", "or it is empty" },
		{ "jwtRules: []", "no jwtRules" },
		{ "selector: { matchLabels: { app: none } }, jwtRules: [ { issuer: x } ]", "selects no workload" },
		{ "targetRefs: [ { kind: GatewayClass, group: gateway.networking.k8s.io, name: x } ], jwtRules: [ { "
		  "issuer: x } ]",
		  "not a matter of workloads" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char yaml[512];
		snprintf(yaml, sizeof(yaml), AUTHN("a", "shop", "%s"), rows[i].spec);
		world_set(&w, base);
		world_with(&w, yaml);
		if (!world_finds(&w, "RequestAuthentication/shop/a", rows[i].part))
			fail_msg("row %zu", i);
	}
}

static const char providers[] =
	"extensionProviders:\n"
	"- name: web\n  envoyExtAuthzHttp: { service: foo/authz.foo.svc.cluster.local, port: 8000, timeout: 1.5s, "
	"pathPrefix: /check, failOpen: true, statusOnError: \"503\", includeRequestHeadersInCheck: [ X-Ext-* ], "
	"includeAdditionalHeadersInCheck: { X-Mesh: weft }, headersToUpstreamOnAllow: [ authorization ], "
	"headersToDownstreamOnDeny: [ set-cookie ], headersToDownstreamOnAllow: [ x-b ], "
	"includeRequestBodyInCheck: { maxRequestBytes: 1024, allowPartialMessage: true, packAsBytes: true } }\n"
	"- name: rpc\n  envoyExtAuthzGrpc: { service: authz.foo.svc.cluster.local, port: \"9000\" }\n"
	"- name: log\n  envoyFileAccessLog: { path: /dev/stdout }\n";

#define CUSTOM(name, provider)                                                                                         \
	"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: " name ", namespace: shop }\n" \
	"spec: { action: CUSTOM, provider: { name: " provider " }, rules: [ {} ] }\n---\n"

static void test_providers_of_custom_rules(void **state)
{
	(void)state;
	world_set(&w, base);
	world_set(&w, providers);
	world_with(&w, CUSTOM("a", "web") CUSTOM("b", "rpc") CUSTOM("c", "web"));
	const struct http_filters *f = inbound();
	assert_int_equal(f->ext_authz_count, 2);
	const struct ext_authz *p = &f->ext_authz[0];
	assert_string_equal(p->provider, "web");
	assert_string_equal(p->cluster, "outbound|8000||authz.foo.svc.cluster.local");
	assert_false(p->grpc);
	assert_int_equal(p->timeout_ms, 1500);
	assert_string_equal(p->path_prefix, "/check");
	assert_true(p->fail_open);
	assert_int_equal(p->status_on_error, 503);
	assert_string_equal(p->include_request_headers[0], "x-ext-*");
	assert_string_equal(p->additional.set[0].name, "x-mesh");
	assert_string_equal(p->upstream_headers[0], "authorization");
	assert_string_equal(p->downstream_on_deny[0], "set-cookie");
	assert_string_equal(p->downstream_on_allow[0], "x-b");
	assert_int_equal(p->max_body_bytes, 1024);
	assert_true(p->allow_partial && p->pack_as_bytes);
	p = &f->ext_authz[1];
	assert_true(p->grpc);
	assert_string_equal(p->cluster, "outbound|9000||authz.foo.svc.cluster.local");
	assert_int_equal(p->timeout_ms, 600);
	assert_int_equal(p->status_on_error, 403);
	assert_false(p->fail_open);
}

static void test_providers_that_can_not_be_asked(void **state)
{
	(void)state;
	world_set(&w, base);
	world_set(&w, providers);
	world_with(&w, CUSTOM("a", "nobody") CUSTOM("b", "log"));
	for (size_t i = 0; inbound() && i < inbound()->ext_authz_count; i++)
		assert_null(inbound()->ext_authz[i].provider); /* found by nobody: refused */
	assert_true(world_finds(&w, "AuthorizationPolicy/shop/a", "is not among the mesh's extensionProviders"));
	assert_true(world_finds(&w, "AuthorizationPolicy/shop/b", "has no envoyExtAuthzHttp or envoyExtAuthzGrpc"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_CASE(test_shop_example_as_written),
		WORLD_CASE(test_merging_selectors_and_targets),
		WORLD_CASE(test_where_keys_are_when_nothing_is_said),
		WORLD_CASE(test_odd_documents_are_found),
		WORLD_CASE(test_providers_of_custom_rules),
		WORLD_CASE(test_providers_that_can_not_be_asked),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
