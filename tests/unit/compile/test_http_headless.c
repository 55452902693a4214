/* SPDX-License-Identifier: Apache-2.0 */
/* Services whose callers choose the endpoint: which of its addresses the HTTP engine sees, and what a call of one means. */
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/str.h"
#include "tests/unit/compile/http_world.h"

static struct world w;

#define SERVICE(name, ns, spec)                                                                                        \
	"apiVersion: v1\nkind: Service\nmetadata: { name: " name ", namespace: " ns " }\nspec: { " spec " }\n---\n"
#define HEADLESS(name, app, ports)                                                                                     \
	SERVICE(name, "shop", "clusterIP: None, selector: { app: " app " }, ports: [ " ports " ]")
#define POD(name, ns, addr, labels, more)                                                                              \
	"apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: { name: " name ", namespace: " ns          \
	", annotations: { " more " } }\nspec: { address: " addr ", labels: { " labels " } }\n---\n"
#define VS(name, host)                                                                                                 \
	"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: " name                            \
	", namespace: shop }\nspec: { hosts: [ " host " ], http: [ { name: " name                                      \
	", route: [ { destination: { host: " host " } } ] } ] }\n---\n"
#define ENTRY(host, spec)                                                                                              \
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: { name: e, namespace: shop }\nspec: { "     \
	"hosts: [ " host " ], ports: [ { number: 80, name: http, protocol: HTTP } ], " spec " }\n---\n"

/* ring: port 80 is 8080 at the pods; db: HTTP on one port, TCP on another; both: of the same pods as ring. */
static const char town[] = HEADLESS("ring", "ring", "{ name: http, port: 80, targetPort: 8080 }")
	HEADLESS("db", "db", "{ name: http, port: 8080 }, { name: tcp-sql, port: 5432 }, { name: x, port: 9000 }")
		HEADLESS("all", "ring", "{ name: http, port: 8080 }")
			SERVICE("normal", "shop",
				"clusterIPs: [ 10.60.0.1 ], selector: { app: normal }, ports: [ { name: http, "
				"port: 80 } ]") POD("ring-0", "shop", "10.0.0.1", "app: ring, version: v1",
						    "weft.dev/addresses: \"fd00::1\"")
				POD("ring-1", "shop", "10.0.0.2", "app: ring, version: v2", "")
					POD("db-0", "shop", "10.0.0.3", "app: db", "")
						POD("normal-0", "shop", "10.0.0.4", "app: normal", "")
							POD("me", "shop", "10.0.0.9", "app: me", "")
								POD("you", "other", "10.0.0.8", "app: you", "");

#define RING "ring.shop.svc.cluster.local"

static struct world_fixture fixture = { &w, town };

/* "ring:80" of the service and port that the kernel brings to the helper; "-": none. */
static const char *captured(const char *addr)
{
	static char text[300];
	struct addr_port a;

	assert_int_equal(addr_port_parse(addr, &a), 0);
	const struct plan_vip *vip = plan_vip_find(w.plan, &a.addr, a.port, IPPROTO_TCP);
	if (!vip)
		return "-";
	snprintf(text, sizeof(text), "%s:%u", vip->service->name, vip->service_port);
	return text;
}

static void test_endpoints_of_http_ports_are_captured(void **state)
{
	(void)state;
	static const struct {
		const char *addr, *service;
	} rows[] = {
		{ "10.0.0.2:80", "-" },		{ "10.0.0.2:8080", "all:8080" }, { "[fd00::1]:8080", "all:8080" },
		{ "10.0.0.3:8080", "db:8080" }, { "10.0.0.3:5432", "-" },	 { "10.0.0.3:9000", "-" },
		{ "10.0.0.4:80", "-" },		{ "10.60.0.1:80", "normal:80" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (!str_eq(captured(rows[i].addr), rows[i].service))
			fail_msg("%s: %s", rows[i].addr, captured(rows[i].addr));
	assert_false(world_finds(&w, "Service/shop/ring", "is also that of")); /* endpoints may be of many services */
	/* A port of which nothing is said, once a route is about it. */
	world_with(&w, VS("db", "db"));
	assert_string_equal(captured("10.0.0.3:9000"), "db:9000");
	assert_string_equal(captured("10.0.0.3:5432"), "-");
	world_delete(&w, "VirtualService/shop/db");
	world_compile(&w);
	assert_string_equal(captured("10.0.0.3:9000"), "-");
}

static void test_endpoints_that_come_and_go(void **state)
{
	(void)state;
	world_with(&w, POD("db-1", "shop", "10.0.0.5", "app: db", ""));
	assert_string_equal(captured("10.0.0.5:8080"), "db:8080");
	world_delete(&w, "WorkloadEntry/shop/db-0");
	world_compile(&w);
	assert_string_equal(captured("10.0.0.3:8080"), "-");
	assert_string_equal(captured("10.0.0.5:8080"), "db:8080");
	world_delete(&w, "Service/shop/db");
	world_compile(&w);
	assert_string_equal(captured("10.0.0.5:8080"), "-");
	world_delete(&w, "Service/shop/all");
	world_compile(&w);
	assert_string_equal(captured("10.0.0.2:8080"), "ring:80");
}

/* Service, and the name of the first route. */
static void check(const char *caller, const char *addr, const char *host, const char *service, const char *route)
{
	struct l7_target *t = http_target(&w, caller, addr, host);
	const char *name = t->vhost ? t->vhost->routes[0].name : "none";

	if (!str_eq(t->service ? t->service : "-", service) || !str_eq(name, route))
		fail_msg("%s at %s: %s, %s", host ? host : "-", addr, t->service ? t->service : "-", name);
	l7_target_unref(t);
}

static void test_host_decides_then_the_address(void **state)
{
	(void)state;
	static const struct {
		const char *host, *service, *route;
	} rows[] = {
		{ NULL, "shop/" RING, "ring" }, /* of an endpoint of both the one that is seen first */
		{ "", "shop/" RING, "ring" },
		{ "ring", "shop/" RING, "ring" },
		{ "RING.shop:8080", "shop/" RING, "ring" },
		{ RING, "shop/" RING, "ring" },
		{ "ring-0." RING, "shop/" RING, "ring" },
		{ "ring-0.ring.shop", "shop/" RING, "ring" },
		{ "ring-0.ring", "shop/" RING, "ring" },
		{ "normal", "shop/normal.shop.svc.cluster.local", "default" },
		{ "x.normal", "shop/" RING, "default" },
		{ "example.com", "shop/" RING, "default" },
		{ "10.0.0.2:8080", "shop/" RING, "default" },
		{ "[fd00::1]:8080", "shop/" RING, "default" },
	};

	world_delete(&w, "Service/shop/all");
	world_with(&w, VS("ring", "ring"));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		/* by the port of the service, whatever that of its pods is */
		const char *service = str_eq(rows[i].host, "normal") ? "10.0.0.2:8080" : "[fd00::1]:8080";
		check("shop/me", service, rows[i].host, rows[i].service, rows[i].route);
	}
	struct l7_target *t = http_target(&w, "shop/me", "10.0.0.2:8080", "example.com");
	assert_string_equal(t->default_cluster, "outbound|80||" RING);
	assert_int_equal(t->mode, L7_HTTP);
	l7_target_unref(t);
	check("shop/me", "10.0.0.4:80", "normal", "shop/normal.shop.svc.cluster.local", "default");
}

/* A match's port is the service's, wherever its pods listen. */
static void test_a_match_of_a_port_means_the_services(void **state)
{
	(void)state;
	world_delete(&w, "Service/shop/all");
	world_with(&w,
		   "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: p, namespace: shop }\n"
		   "spec: { hosts: [ ring ], http: [ { name: pods, match: [ { port: 8080 } ], directResponse: { "
		   "status: 500 } }, "
		   "{ name: service, match: [ { port: 80 } ], directResponse: { status: 200 } } ] }\n---\n");
	struct l7_target *t = http_target(&w, "shop/me", "10.0.0.2:8080", "ring");
	assert_int_equal(t->vhost->route_count, 1);
	struct http_request_view r = http_request(&w, "shop/me", "GET / host=ring");
	r.port = 8080; /* of the pod that is called */
	size_t match;
	const struct http_route *taken = http_route_find(t->vhost, &r, &match);
	assert_non_null(taken);
	assert_string_equal(taken->name, "service");
	l7_target_unref(t);
}

static void test_of_many_services_the_host_says_which(void **state)
{
	(void)state;
	world_with(&w, VS("ring", "ring") VS("all", "all"));
	check("shop/me", "10.0.0.2:8080", "ring", "shop/" RING, "ring");
	check("shop/me", "10.0.0.2:8080", "all", "shop/all.shop.svc.cluster.local", "all");
	check("shop/me", "10.0.0.2:8080", NULL, "shop/all.shop.svc.cluster.local", "all");
}

/* What the first service of the address hides, another may show. */
static void test_who_sees_what(void **state)
{
	(void)state;
	world_with(&w,
		   VS("ring", "ring") VS(
			   "all",
			   "all") "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: { name: s, namespace: "
				  "shop }\nspec: { egress: [ { hosts: [ \"./" RING "\" ] } ] }\n---\n");
	check("shop/me", "10.0.0.2:8080", NULL, "shop/" RING, "ring");
	check("shop/me", "10.0.0.2:8080", "all", "shop/" RING, "default"); /* as any unknown host */
	check("shop/me", "10.0.0.3:8080", "db", "shop/db.shop.svc.cluster.local", "default");
	world_with(&w, "outboundTrafficPolicy: { mode: REGISTRY_ONLY }\n");
	check("shop/me", "10.0.0.2:8080", RING, "shop/" RING, "ring");
	check("shop/me", "10.0.0.2:8080", "10.0.0.2", "shop/" RING, "default"); /* the registry has the address */
	check("shop/me", "10.0.0.3:8080", "db", "shop/db.shop.svc.cluster.local", "none");
	check("shop/me", "10.0.0.3:8080", NULL, "shop/db.shop.svc.cluster.local", "none");
}

static void test_the_cluster_goes_to_the_address(void **state)
{
	(void)state;
	world_with(&w,
		   "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: r, namespace: shop }\n"
		   "spec: { host: ring, trafficPolicy: { loadBalancer: { simple: RANDOM }, outlierDetection: { "
		   "consecutive5xxErrors: 3 } } }\n---\n");
	struct http_cluster *c = http_cluster(&w, "outbound|80||" RING);
	assert_int_equal(c->lb, CLUSTER_PASSTHROUGH);
	assert_int_equal(c->outlier.consecutive_5xx, 3);
	/* Each address, since each may be called. */
	assert_string_equal(http_endpoints_of(c), "10.0.0.1:8080 p0 w1, 10.0.0.2:8080 p0 w1, [fd00::1]:8080 p0 w1");
	http_cluster_unref(c);
}

static void test_service_entries_with_nothing_but_endpoints(void **state)
{
	(void)state;
	static const char fixed[] = ENTRY("vm.example", "resolution: STATIC, endpoints: [ { address: 192.0.2.1 }, { "
							"address: 192.0.2.2, ports: { http: 8000 } } ]");
	world_with(&w, fixed);
	assert_string_equal(captured("192.0.2.1:80"), "e:80");
	assert_string_equal(captured("192.0.2.2:8000"), "e:80");
	check("shop/me", "192.0.2.2:8000", "vm.example", "shop/vm.example", "default");
	check("shop/me", "192.0.2.2:8000", NULL, "shop/vm.example", "default");
	/* Somebody else's host there: to the address, by nobody's rules. */
	struct l7_target *t = http_target(&w, "shop/me", "192.0.2.2:8000", "other.example");
	assert_null(t->service);
	assert_string_equal(t->default_cluster, "PassthroughCluster");
	l7_target_unref(t);
	world_with(&w, "outboundTrafficPolicy: { mode: REGISTRY_ONLY }\n");
	check("shop/me", "192.0.2.2:8000", "vm.example", "shop/vm.example", "default");
	check("shop/me", "192.0.2.2:8000", "other.example", "-", "none");
	world_with(&w, ENTRY("vm.example", "resolution: STATIC, addresses: [ 240.0.0.1 ], endpoints: [ { address: "
					   "192.0.2.1 } ]"));
	assert_string_equal(captured("192.0.2.1:80"), "-");
	assert_string_equal(captured("240.0.0.1:80"), "e:80");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_CASE(test_endpoints_of_http_ports_are_captured),
		WORLD_CASE(test_endpoints_that_come_and_go),
		WORLD_CASE(test_host_decides_then_the_address),
		WORLD_CASE(test_a_match_of_a_port_means_the_services),
		WORLD_CASE(test_of_many_services_the_host_says_which),
		WORLD_CASE(test_who_sees_what),
		WORLD_CASE(test_the_cluster_goes_to_the_address),
		WORLD_CASE(test_service_entries_with_nothing_but_endpoints),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
