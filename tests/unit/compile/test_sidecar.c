/* SPDX-License-Identifier: Apache-2.0 */
/* Sidecars: what workloads may call, where unknown calls go, and what is taken on inbound ports. */
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

#define POD(name, ns, addr, labels)                                                                                    \
	"apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: { name: " name ", namespace: " ns          \
	", annotations: { weft.dev/netns: " name " } }\nspec: { address: " addr ", labels: { " labels " } }\n---\n"
#define SIDECAR(name, ns, spec)                                                                                        \
	"apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: { name: " name ", namespace: " ns                \
	" }\nspec: { " spec " }\n---\n"
#define FQDN "s.shop.svc.cluster.local"

static const char town[] =
	"apiVersion: v1\nkind: Namespace\nmetadata: { name: shop, labels: { istio.io/dataplane-mode: ambient } }\n---\n"
	"apiVersion: v1\nkind: Service\nmetadata: { name: s, namespace: shop }\nspec: { clusterIPs: [ 10.60.0.1 ], "
	"selector: { app: s }, ports: [ { name: http, port: 80, targetPort: 8080 }, { name: tcp, port: 81 } ] "
	"}\n---\n" POD("s1", "shop", "10.0.0.1", "app: s") POD("caller", "shop", "10.0.0.2", "app: caller");

static struct world_fixture fixture = { &w, town };

static int policy_of(const char *uid)
{
	return world_workload(&w, uid)->outbound_policy;
}

static void test_outbound_policy_is_the_workloads(void **state)
{
	(void)state;
	assert_int_equal(policy_of("shop/caller"), OUTBOUND_ALLOW_ANY);
	world_with(&w, SIDECAR("one", "shop",
			       "workloadSelector: { labels: { app: caller } }, outboundTrafficPolicy: { mode: "
			       "REGISTRY_ONLY }"));
	assert_int_equal(policy_of("shop/caller"), OUTBOUND_REGISTRY_ONLY);
	assert_int_equal(policy_of("shop/s1"), OUTBOUND_ALLOW_ANY);
	world_with(&w, "outboundTrafficPolicy: { mode: REGISTRY_ONLY }\n");
	assert_int_equal(policy_of("shop/s1"), OUTBOUND_REGISTRY_ONLY);
	world_with(&w, SIDECAR("one", "shop",
			       "workloadSelector: { labels: { app: caller } }, outboundTrafficPolicy: { mode: "
			       "ALLOW_ANY }"));
	assert_int_equal(policy_of("shop/caller"), OUTBOUND_ALLOW_ANY);
	assert_int_equal(policy_of("shop/s1"), OUTBOUND_REGISTRY_ONLY);
	/* The root namespace's is for all namespaces without one. */
	world_delete(&w, "Sidecar/shop/one");
	world_with(&w, SIDECAR("all", "istio-system", "outboundTrafficPolicy: { mode: ALLOW_ANY }"));
	assert_int_equal(policy_of("shop/caller"), OUTBOUND_ALLOW_ANY);
	world_delete(&w, "Sidecar/istio-system/all");
	world_compile(&w);
	assert_int_equal(policy_of("shop/caller"), OUTBOUND_REGISTRY_ONLY);
}

static void test_unknown_calls_go_to_the_egress_proxy(void **state)
{
	(void)state;
	struct l7_target *t = http_target(&w, "shop/caller", "192.0.2.1:443", NULL);
	assert_string_equal(t->default_cluster, "PassthroughCluster");
	l7_target_unref(t);
	world_with(&w, SIDECAR("one", "shop",
			       "workloadSelector: { labels: { app: caller } }, outboundTrafficPolicy: { egressProxy: { "
			       "host: s, port: { number: 80 } } }"));
	assert_int_equal(policy_of("shop/caller"), OUTBOUND_EGRESS_PROXY);
	for (int i = 0; i < 2; i++) {
		t = http_target(&w, "shop/caller", "192.0.2.1:443", i ? "unknown.example" : NULL);
		assert_string_equal(t->default_cluster, "outbound|80||" FQDN);
		assert_int_equal(t->mode, L7_SNIFF);
		assert_string_equal(http_clusters_of(&t->vhost->routes[0]), "outbound|80||" FQDN " 1");
		l7_target_unref(t);
	}
	t = http_target(&w, "shop/s1", "192.0.2.1:443", NULL);
	assert_string_equal(t->default_cluster, "PassthroughCluster");
	l7_target_unref(t);
	/* What is known goes where it did. */
	t = http_target(&w, "shop/caller", "10.60.0.1:81", NULL);
	assert_string_equal(t->default_cluster, "outbound|81||" FQDN);
	l7_target_unref(t);
	world_with(&w, SIDECAR("one", "shop", "outboundTrafficPolicy: { egressProxy: { host: s } }"));
	assert_true(world_finds(&w, "Sidecar/shop/one", "has several ports: give one"));
	world_with(&w, SIDECAR("one", "shop", "outboundTrafficPolicy: { egressProxy: { host: none } }"));
	assert_true(world_finds(&w, "Sidecar/shop/one", "there is no such service"));
}

static const struct inbound_port *port_of(uint16_t port)
{
	const struct workload *s = world_workload(&w, "shop/s1");

	for (size_t i = 0; i < s->l7_port_count; i++)
		if (s->l7_ports[i].port == port)
			return &s->l7_ports[i];
	return NULL;
}

static void test_pool_of_inbound_connections(void **state)
{
	(void)state;
	assert_int_equal(world_workload(&w, "shop/s1")->l7_port_count, 0);
	world_with(
		&w,
		SIDECAR("one", "shop",
			"workloadSelector: { labels: { app: s } }, inboundConnectionPool: { tcp: { maxConnections: 7, "
			"idleTimeout: 1s }, http: { http1MaxPendingRequests: 3, http2MaxRequests: 5, "
			"maxRequestsPerConnection: 2, idleTimeout: 4s } }"));
	const struct inbound_port *p = port_of(8080), *others = port_of(0);
	assert_true(world_workload(&w, "shop/s1")->l7_other_ports);
	assert_false(world_workload(&w, "shop/caller")->l7_other_ports);
	assert_non_null(p);
	assert_non_null(others);
	assert_int_equal(p->app, APP_HTTP);
	assert_int_equal(p->max_connections, 7);
	assert_int_equal(p->max_pending, 3);
	assert_int_equal(p->max_requests, 5);
	assert_int_equal(p->max_requests_per_connection, 2);
	assert_int_equal(p->idle_ms, 4000);
	assert_int_equal(others->max_requests, 5);
	assert_int_equal(port_of(81)->app, APP_TCP); /* the kernel's, still */
	assert_false(port_of(81)->helper);
	assert_true(
		world_finds(&w, "Sidecar/shop/one", "inboundConnectionPool.tcp.maxConnections is in force on HTTP"));
	/* A port's own replaces it whole. */
	world_with(&w, SIDECAR("one", "shop",
			       "inboundConnectionPool: { http: { http2MaxRequests: 5 } }, ingress: [ { port: { number: "
			       "8080, protocol: GRPC, name: a }, connectionPool: { tcp: { maxConnections: 2 } } } ]"));
	p = port_of(8080);
	assert_int_equal(p->app, APP_GRPC);
	assert_int_equal(p->max_requests, 0);
	assert_int_equal(p->max_connections, 2);
	world_delete(&w, "Sidecar/shop/one");
	world_compile(&w);
	assert_int_equal(world_workload(&w, "shop/s1")->l7_port_count, 0);
	assert_false(world_workload(&w, "shop/s1")->l7_other_ports);
}

static void test_default_endpoints(void **state)
{
	(void)state;
	static const struct {
		const char *endpoint;
		enum inbound_target target;
		uint16_t port;
	} rows[] = { { "127.0.0.1:9090", INBOUND_LOOPBACK, 9090 },
		     { "[::1]:9090", INBOUND_LOOPBACK6, 9090 },
		     { "0.0.0.0:9091", INBOUND_SAME, 9091 },
		     { "[::]:9091", INBOUND_SAME, 9091 } };
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char yaml[512];
		snprintf(yaml, sizeof(yaml),
			 SIDECAR("one", "shop",
				 "ingress: [ { port: { number: 7000, protocol: TCP, name: a }, defaultEndpoint: "
				 "\"%s\" } ]"),
			 rows[i].endpoint);
		world_with(&w, yaml);
		const struct inbound_port *p = port_of(7000);
		assert_non_null(p);
		assert_true(p->helper); /* bytes, too, can only be led there by it */
		assert_int_equal(p->target, rows[i].target);
		assert_int_equal(p->target_port, rows[i].port);
		assert_false(world_workload(&w, "shop/s1")->l7_other_ports);
		assert_int_equal(world_workload(&w, "shop/s1")->l7_port_count, 1);
	}
	/* What can't be followed is refused, and what was in force stays. */
	static const char *const refused[] = { "unix:///run/app.sock", "10.0.0.9:80", "127.0.0.1", "localhost:80" };
	w.skip_rejected = true;
	world_delete(&w, "Sidecar/shop/one");
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		char yaml[512];
		snprintf(yaml, sizeof(yaml),
			 SIDECAR("two", "shop",
				 "ingress: [ { port: { number: 7001, protocol: TCP, name: a }, defaultEndpoint: "
				 "\"%s\" } ]"),
			 refused[i]);
		world_with(&w, yaml);
		if (port_of(7001))
			fail_msg("%s", refused[i]);
	}
}

static void test_what_has_no_effect_is_said(void **state)
{
	(void)state;
	static const struct {
		const char *yaml, *text;
	} rows[] = {
		{ SIDECAR("one", "shop",
			  "egress: [ { bind: 127.0.0.1, port: { number: 80, protocol: HTTP, name: a }, hosts: "
			  "[ ./* ] } ]"),
		  "egress[0].bind 127.0.0.1: nothing listens there" },
		{ SIDECAR("one", "shop", "egress: [ { bind: \"unix:///x\", hosts: [ ./* ] } ]"),
		  "there is no unix socket" },
		{ SIDECAR("one", "shop", "egress: [ { captureMode: NONE, hosts: [ ./* ] } ]"),
		  "egress[0].captureMode NONE has no effect" },
		{ SIDECAR("one", "shop",
			  "ingress: [ { port: { number: 80, protocol: HTTP, name: a }, bind: 10.0.0.1 } ]"),
		  "ingress[0].bind has no effect" },
		{ SIDECAR("one", "shop",
			  "ingress: [ { port: { number: 443, protocol: HTTPS, name: a }, tls: { mode: SIMPLE, "
			  "serverCertificate: /a, privateKey: /b } } ]"),
		  "ingress[0].tls is not served" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		world_with(&w, rows[i].yaml);
		if (!world_finds(&w, "Sidecar/shop/one", rows[i].text))
			fail_msg("%s", rows[i].text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_CASE(test_outbound_policy_is_the_workloads),
		WORLD_CASE(test_unknown_calls_go_to_the_egress_proxy),
		WORLD_CASE(test_pool_of_inbound_connections),
		WORLD_CASE(test_default_endpoints),
		WORLD_CASE(test_what_has_no_effect_is_said),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
