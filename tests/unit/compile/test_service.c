/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <netinet/in.h>

#include "tests/unit/compile/world.h"

static struct world w;

static struct world_fixture fixture = { &w, NULL };

#define POD(name, addr, labels, more)                                                                                  \
	"apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: { name: " name                             \
	", namespace: shop, annotations: { weft.dev/node: n2 } }\nspec: { address: \"" addr "\", labels: { " labels    \
	" }" more " }\n---\n"
#define LOCAL(name, addr, labels)                                                                                      \
	"apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: { name: " name                             \
	", namespace: shop, annotations: { weft.dev/netns: x } }\nspec: { address: \"" addr "\", labels: { " labels    \
	" } }\n---\n"
#define SERVICE(name, spec)                                                                                            \
	"apiVersion: v1\nkind: Service\nmetadata: { name: " name ", namespace: shop }\nspec: { " spec " }\n---\n"
#define MESHED                                                                                                         \
	"apiVersion: v1\nkind: Namespace\nmetadata: { name: shop, labels: { istio.io/dataplane-mode: ambient } "       \
	"}\n---\n"
#define FQDN(name) name ".shop.svc.cluster.local"

static const struct service_port *port_of(uint16_t port)
{
	return world_port(&w, "shop", FQDN("s"), port);
}

static void test_selector_chooses_workloads_of_its_namespace(void **state)
{
	(void)state;
	world_with(&w,
		   POD("a", "10.0.0.1", "app: s, v: one", "") POD("b", "10.0.0.2", "app: s", "") POD(
			   "c", "10.0.0.3", "app: other",
			   "") "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: { name: z, "
			       "namespace: else }\n"
			       "spec: { address: 10.0.0.9, labels: { app: s } }\n---\n" SERVICE(
				       "s", "clusterIPs: [ 10.60.0.1 ], selector: { app: s }, ports: [ { port: 80 } ]")
				       SERVICE("none", "clusterIPs: [ 10.60.0.2 ], ports: [ { port: 80 } ]"));
	assert_string_equal(world_slots(port_of(80), false), "10.0.0.1:80 10.0.0.2:80");
	assert_int_equal(world_port(&w, "shop", FQDN("none"), 80)->endpoint_count, 0);

	world_with(&w,
		   SERVICE("s", "clusterIPs: [ 10.60.0.1 ], selector: { app: s, v: one }, ports: [ { port: 80 } ]"));
	assert_string_equal(world_slots(port_of(80), false), "10.0.0.1:80");
	world_with(&w, POD("b", "10.0.0.2", "app: s, v: one", ""));
	assert_string_equal(world_slots(port_of(80), false), "10.0.0.1:80 10.0.0.2:80");
	world_delete(&w, "WorkloadEntry/shop/a");
	world_compile(&w);
	assert_string_equal(world_slots(port_of(80), false), "10.0.0.2:80");
}

static void test_target_port_by_number_name_or_entry(void **state)
{
	(void)state;
	world_with(&w, POD("a", "10.0.0.1", "app: s", ", ports: { http: 8081, admin: 9000 }") POD("b", "10.0.0.2",
												  "app: s", "")
			       SERVICE("s", "clusterIPs: [ 10.60.0.1 ], selector: { app: s }, ports: [ "
					    "{ name: http, port: 80, targetPort: 8080 }, "
					    "{ name: adm, port: 90, targetPort: admin }, { name: same, port: 70 } ]"));
	assert_string_equal(world_endpoints(port_of(80)), "10.0.0.1:8081 10.0.0.2:8080");
	assert_string_equal(world_endpoints(port_of(90)), "10.0.0.1:9000");
	assert_string_equal(world_endpoints(port_of(70)), "10.0.0.1:70 10.0.0.2:70");
	assert_true(world_finds(&w, "Service/shop/s", "targetPort \"admin\""));
}

static void test_slots_of_a_family_are_what_its_sockets_reach(void **state)
{
	(void)state;
	/* local (direct): of its own family; remote by HBONE: of either; a pod of both families once. */
	world_with(&w, MESHED LOCAL("l4", "10.0.0.1", "app: s") LOCAL("l6", "fd00::1", "app: s")
			       POD("r4", "10.0.0.2", "app: s", "")
				       POD("r6", "fd00::2", "app: s",
					   "") "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: { "
					       "name: both, namespace: shop, annotations: { "
					       "weft.dev/node: n2, weft.dev/addresses: \"fd00::3\" } }\nspec: { "
					       "address: 10.0.0.3, labels: { app: s } }\n---\n" SERVICE(
						       "s", "clusterIPs: [ 10.60.0.1, \"fd60::1\" ], selector: { app: "
							    "s }, ports: [ { name: tcp, port: 80 }, "
							    "{ name: udp, port: 53, protocol: UDP } ]"));
	assert_string_equal(world_slots(port_of(80), false), "10.0.0.1:80 10.0.0.2:80 10.0.0.3:80 [fd00::2]:80");
	assert_string_equal(world_slots(port_of(80), true), "10.0.0.2:80 [fd00::1]:80 [fd00::2]:80 [fd00::3]:80");
	/* Datagrams don't go through the helper. */
	assert_string_equal(world_slots(port_of(53), false), "10.0.0.1:53 10.0.0.2:53 10.0.0.3:53");
	assert_string_equal(world_slots(port_of(53), true), "[fd00::1]:53 [fd00::2]:53 [fd00::3]:53");
	assert_true(port_of(80)->slots_id != port_of(80)->slots6_id);
}

static void test_same_node_mtls_takes_the_helper_for_local_ones_too(void **state)
{
	(void)state;
	world_with(&w,
		   MESHED LOCAL("l6", "fd00::1", "app: s") SERVICE(
			   "s", "clusterIPs: [ 10.60.0.1 ], selector: { app: s }, ports: [ { name: tcp, port: 80 } ]"));
	assert_string_equal(world_slots(port_of(80), false), "");
	assert_int_equal(port_of(80)->slots_id, 0);
	world_with(&w, "trustDomain: cluster.local\nweft: { sameNode: mtls }\n");
	assert_string_equal(world_slots(port_of(80), false), "[fd00::1]:80");
}

static void test_v6_vip_with_v4_endpoints_only_maps_them(void **state)
{
	(void)state;
	world_with(&w,
		   POD("a", "10.0.0.1", "app: s", "")
			   SERVICE("s", "clusterIPs: [ \"fd60::1\" ], selector: { app: s }, ports: [ { port: 80 } ]"));
	assert_string_equal(world_slots(port_of(80), true), "10.0.0.1:80");
	assert_string_equal(world_slots(port_of(80), false), "");
}

static void test_weights_are_in_the_slots(void **state)
{
	(void)state;
	world_with(&w,
		   POD("a", "10.0.0.1", "app: s", ", weight: 100") POD("b", "10.0.0.2", "app: s", ", weight: 200")
			   SERVICE("s", "clusterIPs: [ 10.60.0.1 ], selector: { app: s }, ports: [ { port: 80 } ]"));
	assert_string_equal(world_slots(port_of(80), false), "10.0.0.2:80 10.0.0.1:80 10.0.0.2:80");
}

static void test_headless_service_resolves_to_its_endpoints(void **state)
{
	(void)state;
	struct addr a;

	world_with(&w, POD("a", "10.0.0.2", "app: s", "") POD("b", "fd00::1", "app: s", "")
			       POD("c", "10.0.0.1", "app: s", "")
				       SERVICE("s", "clusterIP: None, selector: { app: s }, ports: [ { name: a, port: "
						    "80 }, { name: b, port: 81 } ]"));
	const struct service *s = world_service(&w, "shop", FQDN("s"));
	assert_int_equal(s->kind, SERVICE_HEADLESS);
	assert_int_equal(s->vip_count, 0);
	assert_int_equal(s->dns_addr_count, 3);
	addr_parse("10.0.0.1", &a);
	assert_true(addr_eq(&s->dns_addrs[0], &a));
	const struct dns_name *name = plan_dns_lookup_from(w.plan, "shop", "s");
	assert_ptr_equal(name->service, s);
	assert_int_equal(name->addr_count, 3);
}

static void test_export_annotation_may_name_several(void **state)
{
	(void)state;
	world_with(&w,
		   "apiVersion: v1\nkind: Service\nmetadata: { name: s, namespace: shop, annotations: { "
		   "networking.istio.io/exportTo: \"., team,other\" } }\nspec: { clusterIPs: [ 10.60.0.1 ], ports: [ { "
		   "port: 80 } ] }\n");
	const struct service *s = world_service(&w, "shop", "s.shop.svc.cluster.local");
	assert_int_equal(s->export_to_count, 3);
	assert_true(service_visible_from(s, "shop"));
	assert_true(service_visible_from(s, "team"));
	assert_true(service_visible_from(s, "other"));
	assert_false(service_visible_from(s, "far"));
}

static void test_service_without_address_gets_one(void **state)
{
	(void)state;
	world_with(&w,
		   POD("a", "10.0.0.1", "app: s", "") SERVICE("s", "selector: { app: s }, ports: [ { port: 80 } ]"));
	const struct service *s = world_service(&w, "shop", FQDN("s"));
	assert_int_equal(s->vip_count, 2);
	assert_int_equal(s->vips[0].addr.b[12], 240);
	assert_int_equal(s->dns_addr_count, 1); /* only IPv4 reaches the endpoint as it is */
	assert_string_equal(world_slots(port_of(80), false), "10.0.0.1:80");
}

static void test_ids_vips_and_ports(void **state)
{
	(void)state;
	world_with(&w,
		   SERVICE("s", "clusterIPs: [ 10.60.0.1 ], sessionAffinity: ClientIP, ports: [ { name: b, port: 81 }, "
				"{ name: a, port: 80 } ]")
			   SERVICE("t", "clusterIPs: [ 10.60.0.2 ], sessionAffinity: ClientIP, sessionAffinityConfig: "
					"{ clientIP: { "
					"timeoutSeconds: 60 } }, ports: [ { port: 80 } ]"));
	const struct service *s = world_service(&w, "shop", FQDN("s")), *t = world_service(&w, "shop", FQDN("t"));
	assert_int_equal(s->affinity_timeout_s, 10800);
	assert_int_equal(t->affinity_timeout_s, 60);
	assert_int_equal(s->ports[0].port, 80);
	assert_true(s->id && t->id && s->id != t->id);
	assert_ptr_equal(plan_service_by_vip(w.plan, &s->vips[0].addr, 81, IPPROTO_TCP), s);
	uint32_t id = s->id;
	world_with(&w, SERVICE("s", "clusterIPs: [ 10.60.0.7 ], ports: [ { port: 80 } ]"));
	assert_int_equal(world_service(&w, "shop", FQDN("s"))->id, id);
	world_delete(&w, "Service/shop/s");
	world_compile(&w);
	assert_null(plan_service_by_id(w.plan, id));
}

static void test_protocol_is_told_by_name_or_app_protocol(void **state)
{
	(void)state;
	static const struct {
		const char *port;
		enum app_protocol want;
	} rows[] = {
		{ "name: http", APP_HTTP },
		{ "name: http-web", APP_HTTP },
		{ "name: httpx", APP_UNKNOWN },
		{ "name: http2", APP_HTTP2 },
		{ "name: grpc-api", APP_GRPC },
		{ "name: tcp-x", APP_TCP },
		{ "name: https", APP_TLS },
		{ "name: x, appProtocol: http", APP_HTTP },
		{ "name: http, appProtocol: tcp", APP_TCP },
		{ "name: x, appProtocol: kubernetes.io/h2c", APP_HTTP2 },
		{ "name: http, protocol: UDP", APP_UDP },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char yaml[512];
		snprintf(yaml, sizeof(yaml), SERVICE("s", "clusterIPs: [ 10.60.0.1 ], ports: [ { port: 80, %s } ]"),
			 rows[i].port);
		world_with(&w, yaml);
		if (port_of(80)->app != rows[i].want)
			fail_msg("%s: %d", rows[i].port, port_of(80)->app);
	}
}

static void test_internal_traffic_policy_local_keeps_to_the_node(void **state)
{
	(void)state;
	world_with(&w, LOCAL("a", "10.0.0.1", "app: s") POD("b", "10.0.0.2", "app: s", "")
			       SERVICE("s", "clusterIPs: [ 10.60.0.1 ], internalTrafficPolicy: Local, selector: { app: "
					    "s }, ports: [ { port: 80 } ]"));
	assert_string_equal(world_slots(port_of(80), false), "10.0.0.1:80");
}

static void test_cluster_domain_renames_services(void **state)
{
	(void)state;
	world_with(
		&w,
		SERVICE("s",
			"clusterIPs: [ 10.60.0.1 ], ports: [ { port: 80 } ]") "apiVersion: "
									      "networking.istio.io/v1\nkind: "
									      "DestinationRule\nmetadata: { name: r, "
									      "namespace: shop }\n"
									      "spec: { host: s, trafficPolicy: { "
									      "loadBalancer: { simple: RANDOM } } }\n");
	assert_int_equal(port_of(80)->lb, LB_RANDOM);
	world_with(&w, "trustDomain: cluster.local\nweft: { dns: { clusterDomain: my.domain } }\n");
	assert_int_equal(w.plan->service_count, 1);
	assert_int_equal(world_port(&w, "shop", "s.shop.svc.my.domain", 80)->lb, LB_RANDOM);
	assert_non_null(plan_dns_lookup(w.plan, "s.shop"));
	world_delete(&w, "DestinationRule/shop/r");
	world_compile(&w);
	assert_int_equal(world_port(&w, "shop", "s.shop.svc.my.domain", 80)->lb, LB_LEAST_REQUEST);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_CASE(test_selector_chooses_workloads_of_its_namespace),
		WORLD_CASE(test_target_port_by_number_name_or_entry),
		WORLD_CASE(test_slots_of_a_family_are_what_its_sockets_reach),
		WORLD_CASE(test_same_node_mtls_takes_the_helper_for_local_ones_too),
		WORLD_CASE(test_v6_vip_with_v4_endpoints_only_maps_them),
		WORLD_CASE(test_weights_are_in_the_slots),
		WORLD_CASE(test_headless_service_resolves_to_its_endpoints),
		WORLD_CASE(test_service_without_address_gets_one),
		WORLD_CASE(test_export_annotation_may_name_several),
		WORLD_CASE(test_ids_vips_and_ports),
		WORLD_CASE(test_protocol_is_told_by_name_or_app_protocol),
		WORLD_CASE(test_internal_traffic_policy_local_keeps_to_the_node),
		WORLD_CASE(test_cluster_domain_renames_services),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
