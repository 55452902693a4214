/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/compile/world.h"

static struct world w;

#define RULE(name, ns, spec)                                                                                           \
	"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: " name ", namespace: " ns        \
	" }\nspec: { " spec " }\n---\n"
#define POD(name, addr, locality)                                                                                      \
	"apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: { name: " name                             \
	", namespace: shop, annotations: { weft.dev/node: n2 } }\nspec: { address: " addr                              \
	", labels: { app: s }, locality: " locality " }\n---\n"
#define LB(simple) "trafficPolicy: { loadBalancer: { simple: " simple " } }"

static const char town[] =
	"apiVersion: v1\nkind: Service\nmetadata: { name: s, namespace: shop }\n"
	"spec: { clusterIPs: [ 10.60.0.1 ], selector: { app: s }, ports: [ { name: a, port: 80 }, { name: b, port: 81 "
	"} ] }\n---\n" POD("a", "10.0.0.1", "east/a") POD("b", "10.0.0.2", "east/b") POD("c", "10.0.0.3", "west/a");

static const char fqdn[] = "s.shop.svc.cluster.local";

static struct world_fixture fixture = { &w, town };

static const struct service_port *port_of(uint16_t port)
{
	return world_port(&w, "shop", fqdn, port);
}

static void test_defaults_are_istios(void **state)
{
	(void)state;
	const struct service_port *p = port_of(80);

	assert_int_equal(p->lb, LB_LEAST_REQUEST);
	assert_int_equal(p->tcp.connect_timeout_ms, 10000);
	assert_int_equal(p->tcp.max_connections, 0);
	assert_int_equal(p->tcp.keepalive_time_s, 0);
	assert_int_equal(p->outlier.consecutive_failures, 0);
	assert_string_equal(world_slots(p, false),
			    "10.0.0.1:80 10.0.0.2:80 10.0.0.3:80"); /* no locality without outliers */
}

static void test_most_specific_host_wins(void **state)
{
	(void)state;
	static const struct {
		const char *yaml;
		enum lb_algorithm want;
	} rows[] = {
		{ RULE("far", "other", "host: s.shop.svc.cluster.local, " LB("RANDOM")), LB_LEAST_REQUEST },
		{ RULE("root", "istio-system", "host: \"*.svc.cluster.local\", " LB("RANDOM")), LB_RANDOM },
		{ RULE("wide", "shop", "host: \"*.cluster.local\", " LB("ROUND_ROBIN")), LB_ROUND_ROBIN },
		{ RULE("narrow", "shop", "host: \"*.shop.svc.cluster.local\", " LB("RANDOM")), LB_RANDOM },
		{ RULE("short", "shop", "host: s, " LB("PASSTHROUGH")), LB_PASSTHROUGH },
		{ RULE("later", "shop", "host: s.shop.svc.cluster.local, " LB("ROUND_ROBIN")),
		  LB_ROUND_ROBIN }, /* first by name */
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		world_with(&w, rows[i].yaml);
		if (port_of(80)->lb != rows[i].want)
			fail_msg("row %zu: %d", i, port_of(80)->lb);
	}
	assert_true(world_finds(&w, "DestinationRule/shop/short", "DestinationRule/shop/later is for the same host"));
	assert_true(world_finds(&w, "DestinationRule/other/far", "is for some callers only"));
	world_delete(&w, "DestinationRule/shop/later");
	world_delete(&w, "DestinationRule/shop/short");
	world_compile(&w);
	assert_int_equal(port_of(80)->lb, LB_RANDOM);
}

static void test_port_level_settings_replace(void **state)
{
	(void)state;
	world_with(&w, RULE("r", "shop",
			    "host: s, trafficPolicy: { loadBalancer: { simple: RANDOM }, connectionPool: { tcp: { "
			    "maxConnections: 7, connectTimeout: 2s, tcpKeepalive: { time: 60s }, idleTimeout: 90s, "
			    "maxConnectionDuration: 1h } }, "
			    "portLevelSettings: [ { port: { number: 81 }, connectionPool: { tcp: { maxConnections: 9 } "
			    "} } ] }"));
	const struct service_port *a = port_of(80), *b = port_of(81);
	assert_int_equal(a->lb, LB_RANDOM);
	assert_int_equal(a->tcp.max_connections, 7);
	assert_int_equal(a->tcp.connect_timeout_ms, 2000);
	assert_int_equal(a->tcp.keepalive_time_s, 60);
	assert_int_equal(a->tcp.keepalive_interval_s, 75);
	assert_int_equal(a->tcp.idle_timeout_ms, 90000);
	assert_int_equal(a->tcp.max_connection_duration_ms, 3600000);
	assert_int_equal(b->lb, LB_LEAST_REQUEST);
	assert_int_equal(b->tcp.max_connections, 9);
	assert_int_equal(b->tcp.connect_timeout_ms, 10000);
	assert_int_equal(world_service(&w, "shop", fqdn)->lb, LB_RANDOM);
}

static void test_hash_on_source_is_maglev(void **state)
{
	(void)state;
	world_with(&w, RULE("r", "shop",
			    "host: s, trafficPolicy: { loadBalancer: { consistentHash: { useSourceIp: true } } }"));
	assert_int_equal(port_of(80)->lb, LB_CONSISTENT_HASH);
	assert_int_equal(port_of(80)->slot_count, 509);
	world_with(&w, RULE("r", "shop",
			    "host: s, trafficPolicy: { loadBalancer: { consistentHash: { httpHeaderName: x } } }"));
	assert_int_equal(port_of(80)->lb, LB_LEAST_REQUEST);
	assert_true(world_finds(&w, "DestinationRule/shop/r", "does not apply to TCP"));
}

#define OUTLIER "outlierDetection: { consecutive5xxErrors: 2, maxEjectionPercent: 50 }"

static void test_locality_is_used_with_outlier_detection(void **state)
{
	(void)state;
	w.in.locality = "east/a";
	world_with(&w, RULE("r", "shop", "host: s, trafficPolicy: { " OUTLIER " }"));
	assert_string_equal(world_slots(port_of(80), false), "10.0.0.1:80");
	assert_int_equal(port_of(80)->endpoints[2].priority, 2);
	w.in.locality = "west/a";
	world_compile(&w);
	assert_string_equal(world_slots(port_of(80), false), "10.0.0.3:80");
	world_with(&w, RULE("r", "shop",
			    "host: s, trafficPolicy: { " OUTLIER
			    ", loadBalancer: { localityLbSetting: { enabled: false } } }"));
	assert_string_equal(world_slots(port_of(80), false), "10.0.0.1:80 10.0.0.2:80 10.0.0.3:80");
}

static void test_locality_of_the_node_is_its_workloads(void **state)
{
	(void)state;
	world_with(&w, RULE("r", "shop",
			    "host: s, trafficPolicy: { " OUTLIER
			    " }") "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: { name: me, "
				  "namespace: shop, annotations: { "
				  "weft.dev/netns: x } }\nspec: { address: 10.0.1.1, locality: west/a }\n");
	assert_string_equal(world_slots(port_of(80), false), "10.0.0.3:80");
}

static void test_distribute_needs_no_outlier_detection(void **state)
{
	(void)state;
	w.in.locality = "east/a";
	world_with(&w, RULE("r", "shop",
			    "host: s, trafficPolicy: { loadBalancer: { localityLbSetting: { distribute: [ { from: "
			    "east/*, to: { "
			    "\"east/b\": 25, \"west/*\": 75 } } ] } } }"));
	assert_string_equal(world_slots(port_of(80), false), "10.0.0.3:80 10.0.0.2:80 10.0.0.3:80 10.0.0.3:80");
}

static void test_ejected_endpoints_are_left_out_within_limits(void **state)
{
	(void)state;
	struct addr_port out[2] = { { .port = 80 }, { .port = 80 } };
	struct outlier_settings settings;

	addr_parse("10.0.0.1", &out[0].addr);
	addr_parse("10.0.0.3", &out[1].addr);
	assert_false(compiler_outlier(w.compiler, &out[0], &settings));
	world_with(&w, RULE("r", "shop", "host: s, trafficPolicy: { " OUTLIER " }"));
	assert_true(compiler_outlier(w.compiler, &out[0], &settings));
	assert_int_equal(settings.consecutive_failures, 2);
	assert_int_equal(settings.base_ejection_ms, 30000);

	w.in.ejected = out;
	w.in.ejected_count = 1;
	world_compile(&w);
	assert_string_equal(world_slots(port_of(80), false), "10.0.0.2:80 10.0.0.3:80");
	assert_string_equal(world_endpoints(port_of(80)), "!10.0.0.1:80 10.0.0.2:80 10.0.0.3:80");
	assert_string_equal(world_slots(port_of(81), false), "10.0.0.1:81 10.0.0.2:81 10.0.0.3:81");
	w.in.ejected_count = 0;
	world_compile(&w);
	assert_string_equal(world_slots(port_of(80), false), "10.0.0.1:80 10.0.0.2:80 10.0.0.3:80");
}

static void test_failing_near_endpoints_give_way_to_far_ones(void **state)
{
	(void)state;
	struct addr_port out = { .port = 80 };

	addr_parse("10.0.0.1", &out.addr);
	w.in.locality = "east/a";
	w.in.ejected = &out;
	w.in.ejected_count = 1;
	world_with(&w, RULE("r", "shop", "host: s, trafficPolicy: { " OUTLIER " }"));
	assert_string_equal(world_slots(port_of(80), false), "10.0.0.2:80");
}

static void test_dangling_host_is_found(void **state)
{
	(void)state;
	world_with(&w, RULE("r", "shop", "host: nobody, " LB("RANDOM")));
	assert_true(world_finds(&w, "DestinationRule/shop/r", "there is no such service (a short name"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_CASE(test_defaults_are_istios),
		WORLD_CASE(test_most_specific_host_wins),
		WORLD_CASE(test_port_level_settings_replace),
		WORLD_CASE(test_hash_on_source_is_maglev),
		WORLD_CASE(test_locality_is_used_with_outlier_detection),
		WORLD_CASE(test_locality_of_the_node_is_its_workloads),
		WORLD_CASE(test_distribute_needs_no_outlier_detection),
		WORLD_CASE(test_ejected_endpoints_are_left_out_within_limits),
		WORLD_CASE(test_failing_near_endpoints_give_way_to_far_ones),
		WORLD_CASE(test_dangling_host_is_found),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
