/* SPDX-License-Identifier: Apache-2.0 */
/* How much is done for one change among many objects: counted, not timed. WEFT_BENCH=1 does the same with 10,000 services
 * and 50,000 endpoints and prints milliseconds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "tests/unit/compile/world.h"

enum { SERVICES = 200, BENCH_SERVICES = 10000, ENDPOINTS = 5, NAMESPACES = 20 };

static int services_of(void)
{
	return getenv("WEFT_BENCH") ? BENCH_SERVICES : SERVICES;
}

static void set_format(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void set_format(struct world *w, const char *format, ...)
{
	char yaml[2048];
	va_list args;

	va_start(args, format);
	vsnprintf(yaml, sizeof(yaml), format, args);
	va_end(args);
	world_set(w, yaml);
}

static void workload_set(struct world *w, int service, int i, int weight)
{
	int n = service * ENDPOINTS + i;

	set_format(
		w,
		"apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n"
		"metadata: { name: w%06d, namespace: ns%d, annotations: { weft.dev/netns: w%06d, weft.dev/node: n%d } "
		"}\n"
		"spec: { address: 10.%d.%d.%d, labels: { app: s%d, version: v1 }, serviceAccount: s%d, weight: %d }\n",
		n, service % NAMESPACES, n, n % 500, n >> 16, n >> 8 & 255, n & 255, service, service % 50, weight);
}

static void service_set(struct world *w, int service, int port)
{
	set_format(
		w,
		"apiVersion: v1\nkind: Service\nmetadata: { name: s%d, namespace: ns%d }\n"
		"spec: { clusterIPs: [ 10.200.%d.%d ], selector: { app: s%d }, ports: [ { name: tcp, port: %d } ] }\n",
		service, service % NAMESPACES, service >> 8, service & 255, service, port);
}

static void town_build(struct world *w)
{
	for (int i = 0; i < NAMESPACES; i++)
		set_format(
			w,
			"apiVersion: v1\nkind: Namespace\nmetadata: { name: ns%d, labels: { istio.io/dataplane-mode: "
			"ambient } }\n",
			i);
	for (int i = 0; i < services_of(); i++) {
		service_set(w, i, 80);
		for (int k = 0; k < ENDPOINTS; k++)
			workload_set(w, i, k, 1);
	}
}

/* CPU time: other processes of the machine don't count. */
static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void timed_compile(struct world *w, const char *what)
{
	uint64_t start = cpu_ns();

	world_compile(w);
	if (getenv("WEFT_BENCH")) {
		const struct compile_stats *s = compiler_stats(w->compiler);
		print_message("%-40s %7.2f ms  (%zu workloads, %zu policies, %zu services built)\n", what,
			      (double)(cpu_ns() - start) / 1e6, s->workloads_built, s->policies_built,
			      s->services_built);
	}
	/* As the sinks do: they hold the newest plan only. */
	start = cpu_ns();
	plan_unref(w->before);
	w->before = NULL;
	if (getenv("WEFT_BENCH"))
		print_message("%-40s %7.2f ms\n", "  release of the one before", (double)(cpu_ns() - start) / 1e6);
}

static struct world w;

static int on_setup(void **state)
{
	(void)state;
	world_init(&w, "n1");
	town_build(&w);
	timed_compile(&w, "all");
	return 0;
}

static int on_teardown(void **state)
{
	(void)state;
	world_done(&w);
	return 0;
}

static void test_first_run_builds_each_once(void **state)
{
	(void)state;
	const struct compile_stats *s = compiler_stats(w.compiler);

	assert_int_equal(s->workloads_built, services_of() * ENDPOINTS);
	assert_int_equal(s->services_built, services_of());
	assert_int_equal(w.plan->service_count, services_of());
	assert_int_equal(w.plan->by_vip_count, services_of());
	assert_int_equal(w.plan->by_addr_count, services_of() * ENDPOINTS);
}

static void test_nothing_changed_builds_nothing(void **state)
{
	(void)state;
	struct service **services = w.plan->services;

	timed_compile(&w, "nothing");
	const struct compile_stats *s = compiler_stats(w.compiler);
	assert_int_equal(s->workloads_built + s->services_built + s->policies_built, 0);
	assert_ptr_equal(w.plan->services, services); /* the very array */
}

static void test_one_workload_rebuilds_its_service_only(void **state)
{
	(void)state;
	struct service *other = world_service(&w, "ns8", "s8.ns8.svc.cluster.local");
	struct service *mine = world_service(&w, "ns7", "s7.ns7.svc.cluster.local");

	workload_set(&w, 7, 2, 5);
	timed_compile(&w, "one workload");
	const struct compile_stats *s = compiler_stats(w.compiler);
	assert_int_equal(s->workloads_built, 1);
	assert_int_equal(s->services_built, 1);
	assert_ptr_equal(world_service(&w, "ns8", "s8.ns8.svc.cluster.local"), other);
	assert_ptr_not_equal(world_service(&w, "ns7", "s7.ns7.svc.cluster.local"), mine);
}

static void test_one_service_rebuilds_itself(void **state)
{
	(void)state;

	service_set(&w, 9, 81);
	timed_compile(&w, "one service");
	const struct compile_stats *s = compiler_stats(w.compiler);
	assert_int_equal(s->workloads_built, 0);
	assert_int_equal(s->services_built, 1);
	assert_int_equal(world_service(&w, "ns9", "s9.ns9.svc.cluster.local")->ports[0].port, 81);
}

static void test_same_content_keeps_the_pointer(void **state)
{
	(void)state;
	struct service *before = world_service(&w, "ns5", "s5.ns5.svc.cluster.local");

	service_set(&w, 5, 80);
	timed_compile(&w, "one service, equal");
	assert_int_equal(compiler_stats(w.compiler)->services_replaced, 0);
	assert_ptr_equal(world_service(&w, "ns5", "s5.ns5.svc.cluster.local"), before);
}

static void test_policy_rebuilds_local_workloads_only(void **state)
{
	(void)state;
	set_format(&w, "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n"
		       "metadata: { name: default, namespace: istio-system }\nspec: { mtls: { mode: STRICT } }\n");
	timed_compile(&w, "mesh-wide PeerAuthentication");
	const struct compile_stats *s = compiler_stats(w.compiler);
	size_t local = 0;
	for (size_t i = 0; i < w.plan->workload_count; i++)
		local += workload_is_local(w.plan->workloads[i]);
	assert_true(local > 0);
	assert_int_equal(s->workloads_built, local);
	assert_int_equal(s->policies_built, local);
	assert_true(s->services_built <= local);
}

static void test_destination_rule_rebuilds_its_service_only(void **state)
{
	(void)state;
	set_format(&w, "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
		       "metadata: { name: r, namespace: ns3 }\n"
		       "spec: { host: s3, trafficPolicy: { loadBalancer: { simple: RANDOM } } }\n");
	timed_compile(&w, "one DestinationRule");
	assert_int_equal(compiler_stats(w.compiler)->services_built, 1);
	assert_int_equal(world_service(&w, "ns3", "s3.ns3.svc.cluster.local")->lb, LB_RANDOM);
}

static void test_wildcard_rule_rebuilds_all_services_and_no_workload(void **state)
{
	(void)state;
	set_format(&w,
		   "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
		   "metadata: { name: all, namespace: istio-system }\n"
		   "spec: { host: \"*.cluster.local\", trafficPolicy: { loadBalancer: { simple: ROUND_ROBIN } } }\n");
	timed_compile(&w, "DestinationRule of all services");
	assert_int_equal(compiler_stats(w.compiler)->services_built, services_of());
	assert_int_equal(compiler_stats(w.compiler)->workloads_built, 0);
}

static void test_ejection_rebuilds_services_of_that_endpoint(void **state)
{
	(void)state;
	struct addr_port out = { .port = 80 };
	assert_int_equal(addr_parse("10.0.0.11", &out.addr), 0); /* the second of s2 */

	w.in.ejected = &out;
	w.in.ejected_count = 1;
	timed_compile(&w, "one ejection");
	assert_int_equal(compiler_stats(w.compiler)->services_built, 1);
	w.in.ejected_count = 0;
	timed_compile(&w, "its end");
	assert_int_equal(compiler_stats(w.compiler)->services_built, 1);
}

static void test_many_plans_held_are_freed_in_any_order(void **state)
{
	(void)state;
	struct plan *held[4];

	for (int i = 0; i < 4; i++) {
		workload_set(&w, 4, i, 10 + i);
		held[i] = plan_ref(world_compile(&w));
	}
	const int order[] = { 1, 3, 0, 2 };
	for (int i = 0; i < 4; i++) {
		const struct plan *p = held[order[i]];
		const struct service *s = plan_service_by_name(p, "ns4", "s4.ns4.svc.cluster.local");
		assert_int_equal(s->ports[0].endpoints[0].workload->weight, 10);
		assert_int_equal(s->ports[0].endpoints[3].workload->weight, order[i] == 3 ? 13 : 1);
		plan_unref(held[order[i]]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_run_builds_each_once),
		cmocka_unit_test(test_nothing_changed_builds_nothing),
		cmocka_unit_test(test_one_workload_rebuilds_its_service_only),
		cmocka_unit_test(test_one_service_rebuilds_itself),
		cmocka_unit_test(test_same_content_keeps_the_pointer),
		cmocka_unit_test(test_policy_rebuilds_local_workloads_only),
		cmocka_unit_test(test_destination_rule_rebuilds_its_service_only),
		cmocka_unit_test(test_wildcard_rule_rebuilds_all_services_and_no_workload),
		cmocka_unit_test(test_ejection_rebuilds_services_of_that_endpoint),
		cmocka_unit_test(test_many_plans_held_are_freed_in_any_order),
	};
	return cmocka_run_group_tests(tests, on_setup, on_teardown);
}
