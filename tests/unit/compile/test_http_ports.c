/* SPDX-License-Identifier: Apache-2.0 */
/* Which ports go through the HTTP engine: those of services, and of workloads with rules on requests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "agent/model/workload.h"
#include "tests/unit/compile/http_world.h"

static struct world w;

#define SERVICE(meta, ports)                                                                                           \
	"apiVersion: v1\nkind: Service\nmetadata: { name: s, namespace: shop" meta " }\n"                              \
	"spec: { clusterIPs: [ 10.60.0.1 ], selector: { app: s }, ports: [ " ports " ] }\n---\n"
#define POD(name, addr, where)                                                                                         \
	"apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: { name: " name                             \
	", namespace: shop, annotations: { " where " } }\nspec: { address: " addr ", labels: { app: s } }\n---\n"
#define RULE(spec)                                                                                                     \
	"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: r, namespace: shop }\nspec: { "  \
	"host: s, " spec " }\n---\n"
#define FQDN "s.shop.svc.cluster.local"

static const char town[] =
	"apiVersion: v1\nkind: Namespace\nmetadata: { name: shop, labels: { istio.io/dataplane-mode: ambient } "
	"}\n---\n" SERVICE(
		"", "{ name: http, port: 80, targetPort: 8080 }, { name: grpc, port: 81 }, { name: x, port: 82 }")
		POD("a", "10.0.0.1", "weft.dev/netns: a") POD("b", "10.0.0.2", "weft.dev/node: n2");

static struct world_fixture fixture = { &w, town };

static void test_declared_protocols(void **state)
{
	(void)state;
	static const struct {
		const char *port;
		enum l7_mode mode;
	} rows[] = {
		{ "{ name: http, port: 1 }", L7_HTTP },
		{ "{ name: http-web, port: 1 }", L7_HTTP },
		{ "{ name: http2-web, port: 1 }", L7_HTTP },
		{ "{ name: grpc, port: 1 }", L7_HTTP },
		{ "{ name: grpc-web, port: 1 }", L7_HTTP },
		{ "{ name: httpx, port: 1 }", L7_NONE },
		{ "{ name: https, port: 1 }", L7_NONE },
		{ "{ name: tls-x, port: 1 }", L7_NONE },
		{ "{ name: tcp, port: 1 }", L7_NONE },
		{ "{ name: mongo, port: 1 }", L7_NONE },
		{ "{ name: mysql, port: 1 }", L7_NONE },
		{ "{ name: redis-a, port: 1 }", L7_NONE },
		{ "{ name: web, port: 1 }", L7_NONE },
		{ "{ name: tcp, port: 1, appProtocol: http }", L7_HTTP },
		{ "{ name: x, port: 1, appProtocol: kubernetes.io/h2c }", L7_HTTP },
		{ "{ name: x, port: 1, appProtocol: kubernetes.io/ws }", L7_HTTP },
		{ "{ name: http, port: 1, appProtocol: tcp }", L7_NONE },
		{ "{ name: http, port: 1, protocol: UDP }", L7_NONE },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char yaml[512];
		snprintf(yaml, sizeof(yaml), SERVICE("", "%s"), rows[i].port);
		world_with(&w, yaml);
		if (world_port(&w, "shop", FQDN, 1)->l7 != rows[i].mode)
			fail_msg("%s: %d", rows[i].port, world_port(&w, "shop", FQDN, 1)->l7);
	}
}

static void test_undeclared_port_is_sniffed_when_rules_name_it(void **state)
{
	(void)state;
	static const struct {
		const char *yaml, *key;
	} rows[] = {
		{ "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: v, namespace: shop "
		  "}\nspec: { hosts: [ s ], http: [ { "
		  "route: [ { destination: { host: s } } ] } ] }\n",
		  "VirtualService/shop/v" },
		{ "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: v, namespace: other "
		  "}\nspec: { hosts: [ "
		  "\"*.cluster.local\" ], http: [ { route: [ { destination: { host: s } } ] } ] }\n",
		  "VirtualService/other/v" },
		{ "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: h, namespace: shop "
		  "}\nspec: { parentRefs: [ { group: "
		  "\"\", kind: Service, name: s } ], rules: [] }\n",
		  "HTTPRoute/shop/h" },
		{ RULE("subsets: [ { name: v1 } ]"), "DestinationRule/shop/r" },
		{ RULE("trafficPolicy: { connectionPool: { http: { maxRetries: 1 } } }"), "DestinationRule/shop/r" },
		{ RULE("trafficPolicy: { outlierDetection: { consecutive5xxErrors: 3 } }"), "DestinationRule/shop/r" },
		{ RULE("trafficPolicy: { loadBalancer: { consistentHash: { httpHeaderName: x } } }"),
		  "DestinationRule/shop/r" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(world_port(&w, "shop", FQDN, 82)->l7, L7_NONE);
		world_with(&w, rows[i].yaml);
		if (world_port(&w, "shop", FQDN, 82)->l7 != L7_SNIFF)
			fail_msg("row %zu", i);
		world_delete(&w, rows[i].key);
		world_compile(&w);
	}
	world_with(&w, RULE("trafficPolicy: { loadBalancer: { simple: RANDOM } }"));
	assert_int_equal(world_port(&w, "shop", FQDN, 82)->l7, L7_NONE);
	world_with(&w, RULE("trafficPolicy: { tls: { mode: SIMPLE } }"));
	assert_int_equal(world_port(&w, "shop", FQDN, 82)->l7, L7_TCP);
}

static void test_switched_off(void **state)
{
	(void)state;
	world_with(&w, SERVICE(", annotations: { weft.dev/l7: disabled }", "{ name: http, port: 80 }"));
	assert_int_equal(world_port(&w, "shop", FQDN, 80)->l7, L7_NONE);
	world_with(&w, SERVICE(", labels: { weft.dev/l7: disabled }", "{ name: http, port: 80 }"));
	assert_int_equal(world_port(&w, "shop", FQDN, 80)->l7, L7_NONE);
}

static void test_asked_to_look(void **state)
{
	(void)state;
	world_with(&w, SERVICE(", annotations: { weft.dev/l7: sniff }",
			       "{ port: 80, name: a }, { name: tcp-b, port: 81 }, { name: mysql, port: 82 }"));
	assert_int_equal(world_port(&w, "shop", FQDN, 80)->l7, L7_SNIFF);
	assert_int_equal(world_port(&w, "shop", FQDN, 81)->l7, L7_NONE);
	assert_int_equal(world_port(&w, "shop", FQDN, 82)->l7, L7_NONE);
	world_with(&w, SERVICE(", labels: { weft.dev/l7: always }", "{ port: 80, name: a }"));
	assert_int_equal(world_port(&w, "shop", FQDN, 80)->l7, L7_NONE);
	assert_true(world_finds(&w, "Service/shop/s", "weft.dev/l7 is neither"));
}

#define POLICY                                                                                                         \
	"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: p, namespace: shop }\nspec: "  \
	"{ rules: [ { to: [ { operation: "                                                                             \
	"{ %s } } ] } ] }\n"

static void test_inbound_ports_of_workloads_with_http_rules(void **state)
{
	(void)state;
	char yaml[512];
	const struct workload *a = world_workload(&w, "shop/a");
	assert_int_equal(a->l7_port_count, 0);
	assert_false(a->l7_other_ports);
	snprintf(yaml, sizeof(yaml), POLICY, "ports: [ \"80\" ]");
	world_with(&w, yaml);
	assert_false(world_workload(&w, "shop/a")->l7_other_ports);

	snprintf(yaml, sizeof(yaml), POLICY, "methods: [ GET ]");
	world_with(&w, yaml);
	a = world_workload(&w, "shop/a");
	assert_true(a->l7_other_ports);
	assert_int_equal(a->l7_port_count, 3);
	assert_int_equal(a->l7_ports[0].port, 81);
	assert_int_equal(a->l7_ports[0].app, APP_GRPC);
	assert_int_equal(a->l7_ports[1].port, 82);
	assert_int_equal(a->l7_ports[1].app, APP_UNKNOWN);
	assert_int_equal(a->l7_ports[2].port, 8080);
	assert_int_equal(a->l7_ports[2].app, APP_HTTP);
	assert_false(world_workload(&w, "shop/b")->l7_other_ports); /* of another node */

	world_with(&w, SERVICE("", "{ name: tcp, port: 80, targetPort: 8080 }"));
	a = world_workload(&w, "shop/a");
	assert_int_equal(a->l7_port_count, 1);
	assert_int_equal(a->l7_ports[0].app, APP_TCP);
	world_delete(&w, "AuthorizationPolicy/shop/p");
	world_compile(&w);
	assert_int_equal(world_workload(&w, "shop/a")->l7_port_count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_CASE(test_declared_protocols),
		WORLD_CASE(test_undeclared_port_is_sniffed_when_rules_name_it),
		WORLD_CASE(test_switched_off),
		WORLD_CASE(test_asked_to_look),
		WORLD_CASE(test_inbound_ports_of_workloads_with_http_rules),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
