/* SPDX-License-Identifier: Apache-2.0 */
/* ProxyConfig, of the mesh and of a workload -> what is written into headers and believed of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/model/filters.h"
#include "tests/unit/compile/world.h"

static struct world w;

static struct world_fixture fixture = { &w, NULL };

/* One workload, with this annotation's text (on one line; NULL: none), and this MeshConfig. */
static const struct workload *with(const char *mesh, const char *annotation)
{
	char *text = str_format(
		"apiVersion: v1\nkind: Namespace\nmetadata: { name: shop, labels: { istio.io/dataplane-mode: ambient } "
		"}\n---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata:\n  name: a\n  namespace: "
		"shop\n  annotations:\n    weft.dev/netns: x\n%s%s\nspec: { address: 10.0.0.1, labels: { app: a } }\n",
		annotation ? "    proxy.istio.io/config: |\n      " : "", annotation ? annotation : "");
	world_set(&w, text);
	free(text);
	world_with(&w, mesh ? mesh : "trustDomain: cluster.local\n");
	return world_workload(&w, "shop/a");
}

static void test_nothing_said_is_no_filter(void **state)
{
	(void)state;
	assert_null(with(NULL, NULL)->inbound);
	assert_null(with("defaultConfig: { proxyHeaders: { server: { disabled: true }, forwardedClientCert: UNDEFINED "
			 "} }\n",
			 NULL)
			    ->inbound);
}

static void test_headers_of_the_mesh(void **state)
{
	(void)state;
	const struct workload *a = with(
		"defaultConfig:\n  proxyHeaders: { preserveHttp1HeaderCase: true, attemptCount: { disabled: true }, "
		"requestId: { disabled: true }, envoyDebugHeaders: { disabled: true }, server: { value: mine } }\n"
		"  gatewayTopology: { numTrustedProxies: 2 }\n",
		NULL);
	const struct proxy_settings *both[] = { &a->inbound->proxy, &a->outbound->proxy };
	for (size_t i = 0; i < 2; i++) {
		assert_true(both[i]->preserve_case && both[i]->no_attempt_count && both[i]->no_request_id &&
			    both[i]->no_envoy_headers);
		assert_string_equal(both[i]->server, "mine");
		assert_int_equal(both[i]->trusted_proxies, 2);
	}
	assert_false(a->l7_other_ports); /* nothing that requests have to be seen for */
}

static void test_annotation_counts_field_by_field(void **state)
{
	(void)state;
	const struct workload *a =
		with("defaultConfig:\n  proxyHeaders: { preserveHttp1HeaderCase: true, attemptCount: { "
		     "disabled: true }, server: { value: mine } }\n",
		     "proxyHeaders: { attemptCount: { disabled: false }, server: { disabled: true }, "
		     "requestId: { disabled: true } }");
	assert_true(a->inbound->proxy.preserve_case && a->inbound->proxy.no_request_id);
	assert_false(a->inbound->proxy.no_attempt_count);
	assert_null(a->inbound->proxy.server);
}

static void test_change_of_the_annotation_reaches_the_workload(void **state)
{
	(void)state;
	assert_null(with(NULL, NULL)->inbound);
	assert_true(with(NULL, "proxyHeaders: { preserveHttp1HeaderCase: true }")->inbound->proxy.preserve_case);
	assert_null(with(NULL, NULL)->inbound);
}

static void test_client_certificate_needs_requests_to_be_seen(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		enum proxy_client_cert mode;
	} rows[] = {
		{ "SANITIZE", PROXY_CERT_SANITIZE },
		{ "FORWARD_ONLY", PROXY_CERT_FORWARD },
		{ "APPEND_FORWARD", PROXY_CERT_APPEND },
		{ "SANITIZE_SET", PROXY_CERT_SET },
		{ "ALWAYS_FORWARD_ONLY", PROXY_CERT_ALWAYS_FORWARD },
		{ "WRONG", PROXY_CERT_SANITIZE },
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char *text = str_format("proxyHeaders: { forwardedClientCert: %s }", rows[i].text);
		const struct workload *a = with(NULL, text);
		free(text);
		assert_int_equal(a->inbound->proxy.client_cert, rows[i].mode);
		assert_true(a->l7_other_ports);
	}
	assert_true(world_finds(&w, "WorkloadEntry/shop/a", "forwardedClientCert is not UNDEFINED"));
}

static void test_trusted_proxies_matter_to_rules_about_addresses(void **state)
{
	(void)state;
	static const char rule[] =
		"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: p, namespace: shop }\n"
		"spec: { rules: [ { from: [ { source: { remoteIpBlocks: [ 192.0.2.0/24 ] } } ] } ] }\n";
	world_set(&w, rule);
	assert_false(with(NULL, NULL)->l7_other_ports); /* the kernel judges it */
	assert_true(with("defaultConfig: { gatewayTopology: { numTrustedProxies: 1 } }\n", NULL)->l7_other_ports);
	assert_false(with("defaultConfig: { gatewayTopology: { numTrustedProxies: 0 } }\n", NULL)->l7_other_ports);
}

static void test_what_has_no_effect_is_said(void **state)
{
	(void)state;
	with("defaultConfig:\n  proxyHeaders: { metadataExchangeHeaders: { mode: IN_MESH }, "
	     "setCurrentClientCertDetails: { "
	     "cert: true, subject: false, uri: false }, serverr: {}, attemptCount: { disabled: 3 }, "
	     "preserveHttp1HeaderCase: maybe "
	     "}\n"
	     "  gatewayTopology: { numTrustedProxies: -1, forwardClientCertDetails: SANITIZE, proxyProtocol: {} }\n",
	     "{ concurrency: 2, proxyHeaders: { xForwardedHost: { enabled: true } } }");
	static const char *const said[] = {
		"metadataExchangeHeaders has no effect",
		"setCurrentClientCertDetails.cert has no effect",
		"proxyHeaders.serverr has no effect: it is not known",
		"attemptCount.disabled is a number where true or false belongs",
		"proxyHeaders.preserveHttp1HeaderCase is a string where true or false belongs",
		"numTrustedProxies is not a number",
		"forwardClientCertDetails is for gateways",
		"proxyProtocol has no effect",
	};
	const char *key = "MeshConfig/mesh";
	for (size_t i = 0; i < ARRAY_SIZE(said); i++)
		if (!world_finds(&w, key, said[i]))
			fail_msg("not said: %s", said[i]);
	assert_true(world_finds(&w, "WorkloadEntry/shop/a", "concurrency has no effect on one workload"));
	assert_true(world_finds(&w, "WorkloadEntry/shop/a", "xForwardedHost has no effect"));
	const struct workload *a = world_workload(&w, "shop/a");
	assert_true(a->inbound->proxy.no_cert_uri && a->inbound->proxy.no_cert_subject);
	assert_false(a->inbound->proxy.no_attempt_count);
	assert_int_equal(a->inbound->proxy.trusted_proxies, 0);
}

static void test_annotation_that_is_no_map(void **state)
{
	(void)state;
	assert_null(with(NULL, "[ a")->inbound);
	assert_true(world_finds(&w, "WorkloadEntry/shop/a", "proxy.istio.io/config can't be read"));
	assert_null(with(NULL, "text")->inbound);
	assert_true(world_finds(&w, "WorkloadEntry/shop/a", "a string where a map belongs"));
}

static void test_server_that_is_no_value(void **state)
{
	(void)state;
	assert_null(with(NULL, "proxyHeaders: { server: { value: \"a\\nb\" } }")->inbound);
	assert_true(world_finds(&w, "WorkloadEntry/shop/a", "can't be a header's value"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_CASE(test_nothing_said_is_no_filter),
		WORLD_CASE(test_headers_of_the_mesh),
		WORLD_CASE(test_annotation_counts_field_by_field),
		WORLD_CASE(test_change_of_the_annotation_reaches_the_workload),
		WORLD_CASE(test_client_certificate_needs_requests_to_be_seen),
		WORLD_CASE(test_trusted_proxies_matter_to_rules_about_addresses),
		WORLD_CASE(test_what_has_no_effect_is_said),
		WORLD_CASE(test_annotation_that_is_no_map),
		WORLD_CASE(test_server_that_is_no_value),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
