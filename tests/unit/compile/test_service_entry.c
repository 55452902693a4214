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

#define ENTRY(name, ns, spec)                                                                                          \
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: { name: " name ", namespace: " ns           \
	" }\nspec: { " spec " }\n---\n"
#define PORT80 "ports: [ { number: 80, name: tcp, protocol: TCP } ]"

static void test_static_endpoints_and_addresses(void **state)
{
	(void)state;
	struct addr a;

	world_with(&w,
		   ENTRY("e", "shop",
			 "hosts: [ db.example ], resolution: STATIC, location: MESH_EXTERNAL, addresses: [ 10.61.0.1, "
			 "10.62.0.0/16 ], ports: [ { number: 5432, name: pg, protocol: TCP, targetPort: 5433 } ], "
			 "endpoints: [ { address: 192.168.0.1 }, { address: 192.168.0.2, ports: { pg: 15432 }, weight: "
			 "3 } ]"));
	const struct service *s = world_service(&w, "shop", "db.example");
	assert_true(s->external);
	assert_int_equal(s->kind, SERVICE_ENTRY);
	assert_string_equal(world_endpoints(&s->ports[0]), "192.168.0.1:5433 192.168.0.2:15432");
	assert_int_equal(s->ports[0].slot_count, 4);
	assert_int_equal(s->dns_addr_count, 1); /* the range is no answer */
	addr_parse("10.62.7.7", &a);
	assert_ptr_equal(plan_service_by_vip(w.plan, &a, 5432, IPPROTO_TCP), s);
}

static void test_unix_sockets_are_left_out_and_told(void **state)
{
	(void)state;
	world_with(
		&w,
		ENTRY("e", "shop",
		      "hosts: [ sock.example ], resolution: STATIC, " PORT80
		      ", endpoints: [ { address: unix:///var/run/e.sock }, { address: 192.168.0.1, network: n2 } ]"));
	assert_string_equal(world_endpoints(world_port(&w, "shop", "sock.example", 80)), "192.168.0.1:80");
	assert_true(world_finds(&w, "ServiceEntry/shop/e", "unix sockets are not called"));
	assert_true(world_finds(&w, "ServiceEntry/shop/e", "network n2 has no effect"));
}

static void test_host_without_addresses_gets_a_stable_vip(void **state)
{
	(void)state;
	const char *yaml = ENTRY("e", "shop",
				 "hosts: [ a.example, \"*.wild.example\" ], resolution: STATIC, " PORT80
				 ", endpoints: [ { address: 192.168.0.1 } ]");
	world_with(&w, yaml);
	const struct service *s = world_service(&w, "shop", "a.example");
	struct cidr vip = s->vips[0], wild = world_service(&w, "shop", "*.wild.example")->vips[0];
	assert_true(addr_is_v4(&vip.addr) && vip.addr.b[12] == 240 && vip.addr.b[13] == 240);
	assert_int_equal(s->vips[1].addr.b[0], 0x20);
	assert_false(addr_eq(&vip.addr, &wild.addr));
	assert_ptr_equal(plan_dns_lookup(w.plan, "x.y.wild.example")->service,
			 world_service(&w, "shop", "*.wild.example"));

	world_with(&w, ENTRY("f", "shop",
			     "hosts: [ b.example ], resolution: STATIC, " PORT80
			     ", endpoints: [ { address: 192.168.0.1 } ]"));
	world_with(&w, ENTRY("e", "shop",
			     "hosts: [ a.example ], resolution: STATIC, " PORT80
			     ", endpoints: [ { address: 192.168.0.9 } ]"));
	assert_true(addr_eq(&world_service(&w, "shop", "a.example")->vips[0].addr, &vip.addr));
	assert_null(plan_service_by_name(w.plan, "shop", "*.wild.example"));

	struct world again;
	world_init(&again, "n2");
	world_with(&again, yaml);
	assert_true(addr_eq(&world_service(&again, "shop", "a.example")->vips[0].addr, &vip.addr));
	world_done(&again);
}

static void test_no_vips_when_the_mesh_says_so(void **state)
{
	(void)state;
	world_with(&w, "trustDomain: cluster.local\nweft: { dns: { autoAllocate: false } }\n---\n" ENTRY(
			       "e", "shop",
			       "hosts: [ a.example ], resolution: STATIC, " PORT80
			       ", endpoints: [ { address: 192.168.0.1 } ]"));
	assert_int_equal(world_service(&w, "shop", "a.example")->vip_count, 0);
}

static void test_dns_endpoints_follow_what_was_resolved(void **state)
{
	(void)state;
	struct addr a[2];
	size_t n;

	world_with(&w,
		   ENTRY("e", "shop",
			 "hosts: [ api.example ], resolution: DNS, ports: [ { number: 80, name: http, protocol: HTTP, "
			 "targetPort: 443 } ]")
			   ENTRY("f", "shop",
				 "hosts: [ named.example ], resolution: DNS, " PORT80
				 ", endpoints: [ { address: one.example }, { address: 10.0.0.7 } ]"));
	const char *const *hosts = compiler_hosts(w.compiler, &n);
	assert_int_equal(n, 2);
	assert_string_equal(hosts[0], "api.example");
	assert_string_equal(hosts[1], "one.example");
	assert_string_equal(world_endpoints(world_port(&w, "shop", "api.example", 80)), "");
	assert_string_equal(world_endpoints(world_port(&w, "shop", "named.example", 80)), "10.0.0.7:80");

	addr_parse("192.0.2.2", &a[0]);
	addr_parse("192.0.2.1", &a[1]);
	struct compile_host resolved[] = { { "api.example", a, 2 } };
	w.in.hosts = resolved;
	w.in.host_count = 1;
	world_compile(&w);
	assert_string_equal(world_slots(world_port(&w, "shop", "api.example", 80), false),
			    "192.0.2.1:443 192.0.2.2:443");

	/* Another order is no change; another address is. */
	struct addr turned[2] = { a[1], a[0] };
	resolved[0].addrs = turned;
	world_compile(&w);
	assert_int_equal(compiler_stats(w.compiler)->services_built, 0);
	resolved[0].addr_count = 1;
	world_compile(&w);
	assert_int_equal(compiler_stats(w.compiler)->services_built, 1);
	assert_string_equal(world_slots(world_port(&w, "shop", "api.example", 80), false), "192.0.2.1:443");
	w.in.host_count = 0;
	world_compile(&w);
	assert_string_equal(world_endpoints(world_port(&w, "shop", "api.example", 80)), "");
}

static void test_none_passes_to_the_address_asked(void **state)
{
	(void)state;
	struct addr a;

	world_with(&w,
		   ENTRY("e", "shop", "hosts: [ any.example ], resolution: NONE, addresses: [ 10.80.0.0/16 ], " PORT80)
			   ENTRY("f", "shop", "hosts: [ blind.example ], resolution: NONE, " PORT80));
	assert_int_equal(world_port(&w, "shop", "any.example", 80)->lb, LB_PASSTHROUGH);
	addr_parse("10.80.1.1", &a);
	assert_string_equal(plan_service_by_vip(w.plan, &a, 80, IPPROTO_TCP)->hostname, "any.example");
	assert_null(plan_dns_lookup(w.plan, "any.example")); /* the resolver knows */
	assert_true(world_finds(&w, "ServiceEntry/shop/f", "any address that nothing else has is its"));
}

static void test_workload_selector_chooses_entries(void **state)
{
	(void)state;
	world_with(&w, ENTRY("e", "shop",
			     "hosts: [ vm.example ], resolution: STATIC, location: MESH_INTERNAL, " PORT80
			     ", workloadSelector: { labels: { app: vm } }") "apiVersion: networking.istio.io/v1\nkind: "
									    "WorkloadEntry\nmetadata: { name: v, "
									    "namespace: shop }\n"
									    "spec: { address: 10.0.0.1, labels: { app: "
									    "vm }, ports: { tcp: 8080 } }\n");
	assert_string_equal(world_endpoints(world_port(&w, "shop", "vm.example", 80)), "10.0.0.1:8080");
	assert_ptr_equal(world_port(&w, "shop", "vm.example", 80)->endpoints[0].workload, world_workload(&w, "shop/v"));
}

static void test_listed_address_of_a_workload_is_that_workload(void **state)
{
	(void)state;
	world_with(&w,
		   ENTRY("e", "shop",
			 "hosts: [ a.example ], resolution: STATIC, " PORT80 ", endpoints: [ { address: 10.0.0.1 } ]"));
	assert_null(world_port(&w, "shop", "a.example", 80)->endpoints[0].workload);
	world_with(&w,
		   "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: { name: v, namespace: other }\n"
		   "spec: { address: 10.0.0.1 }\n");
	assert_ptr_equal(world_port(&w, "shop", "a.example", 80)->endpoints[0].workload, world_workload(&w, "other/v"));
	world_delete(&w, "WorkloadEntry/other/v");
	world_compile(&w);
	assert_null(world_port(&w, "shop", "a.example", 80)->endpoints[0].workload);
}

static void test_export_to_limits_names(void **state)
{
	(void)state;
	world_with(
		&w,
		ENTRY("e", "shop",
		      "hosts: [ a.example ], resolution: STATIC, exportTo: [ \".\" ], addresses: [ 10.61.0.1 ], " PORT80
		      ", endpoints: [ { address: 192.168.0.1 } ]"));
	assert_non_null(plan_dns_lookup_from(w.plan, "shop", "a.example"));
	assert_null(plan_dns_lookup_from(w.plan, "other", "a.example"));
}

static void test_second_entry_of_a_host_waits_for_the_first(void **state)
{
	(void)state;
	world_with(&w, ENTRY("b", "shop",
			     "hosts: [ a.example ], resolution: STATIC, " PORT80
			     ", endpoints: [ { address: 192.168.0.2 } ]")
			       ENTRY("a", "shop",
				     "hosts: [ a.example ], resolution: STATIC, " PORT80
				     ", endpoints: [ { address: 192.168.0.1 } ]"));
	assert_string_equal(world_endpoints(world_port(&w, "shop", "a.example", 80)), "192.168.0.1:80");
	assert_int_equal(w.plan->service_count, 1);
	assert_true(world_finds(&w, "ServiceEntry/shop/b", "ServiceEntry/shop/a has it already"));
	uint32_t id = w.plan->services[0]->id;
	world_delete(&w, "ServiceEntry/shop/a");
	world_compile(&w);
	assert_string_equal(world_endpoints(world_port(&w, "shop", "a.example", 80)), "192.168.0.2:80");
	assert_int_equal(w.plan->services[0]->id, id);
	world_with(&w, ENTRY("a", "shop",
			     "hosts: [ a.example ], resolution: STATIC, " PORT80
			     ", endpoints: [ { address: 192.168.0.1 } ]"));
	assert_string_equal(world_endpoints(world_port(&w, "shop", "a.example", 80)), "192.168.0.1:80");
	assert_int_equal(w.plan->service_count, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_CASE(test_static_endpoints_and_addresses),
		WORLD_CASE(test_unix_sockets_are_left_out_and_told),
		WORLD_CASE(test_host_without_addresses_gets_a_stable_vip),
		WORLD_CASE(test_no_vips_when_the_mesh_says_so),
		WORLD_CASE(test_dns_endpoints_follow_what_was_resolved),
		WORLD_CASE(test_none_passes_to_the_address_asked),
		WORLD_CASE(test_workload_selector_chooses_entries),
		WORLD_CASE(test_listed_address_of_a_workload_is_that_workload),
		WORLD_CASE(test_export_to_limits_names),
		WORLD_CASE(test_second_entry_of_a_host_waits_for_the_first),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
