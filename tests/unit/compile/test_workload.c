/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/model/identity.h"
#include "tests/unit/compile/world.h"

static struct world w;

static struct world_fixture fixture = { &w, NULL };

#define ENTRY(name, ns, meta, spec)                                                                                    \
	"apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: { name: " name ", namespace: " ns meta     \
	" }\nspec: { " spec " }\n---\n"
#define NAMESPACE(name, labels)                                                                                        \
	"apiVersion: v1\nkind: Namespace\nmetadata: { name: " name ", labels: { " labels " } }\n---\n"

static void test_enrolment_follows_labels(void **state)
{
	(void)state;
	static const struct {
		const char *ns_labels, *labels;
		bool want;
	} rows[] = {
		{ "", "", false },
		{ "istio.io/dataplane-mode: ambient", "", true },
		{ "istio-injection: enabled", "", true },
		{ "weft.dev/mesh: enabled", "", true },
		{ "istio.io/dataplane-mode: none", "", false },
		{ "istio.io/dataplane-mode: ambient, weft.dev/mesh: disabled", "", false },
		{ "istio.io/dataplane-mode: ambient", "istio.io/dataplane-mode: none", false },
		{ "istio.io/dataplane-mode: ambient", "weft.dev/mesh: disabled", false },
		{ "istio.io/dataplane-mode: none", "weft.dev/mesh: enabled", true },
		{ "", "istio.io/dataplane-mode: ambient", true },
		{ "istio.io/dataplane-mode: other", "", false },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char yaml[1024];
		snprintf(yaml, sizeof(yaml),
			 NAMESPACE("shop", "%s") ENTRY("a", "shop", "", "address: 10.0.0.1, labels: { %s }"),
			 rows[i].ns_labels, rows[i].labels);
		world_with(&w, yaml);
		if (world_workload(&w, "shop/a")->enrolled != rows[i].want)
			fail_msg("namespace {%s}, workload {%s}", rows[i].ns_labels, rows[i].labels);
	}
}

static void test_place_follows_annotations_and_node(void **state)
{
	(void)state;
	static const struct {
		const char *annotations;
		enum workload_place want;
		const char *name, *node;
	} rows[] = {
		{ "", WORKLOAD_REMOTE, NULL, NULL },
		{ "weft.dev/node: n1", WORKLOAD_REMOTE, NULL, "n1" },
		{ "weft.dev/netns: pod-a", WORKLOAD_NETNS, "pod-a", "n1" },
		{ "weft.dev/netns: pod-a, weft.dev/node: n1", WORKLOAD_NETNS, "pod-a", "n1" },
		{ "weft.dev/netns: pod-a, weft.dev/node: n2", WORKLOAD_REMOTE, NULL, "n2" },
		{ "weft.dev/pid: \"123\"", WORKLOAD_PID, "123", "n1" },
		{ "weft.dev/cgroup: /system.slice/x.service", WORKLOAD_CGROUP, "/system.slice/x.service", "n1" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char yaml[1024];
		snprintf(yaml, sizeof(yaml), ENTRY("a", "shop", ", annotations: { %s }", "address: 10.0.0.1"),
			 rows[i].annotations);
		world_with(&w, yaml);
		const struct workload *got = world_workload(&w, "shop/a");
		assert_int_equal(got->place, rows[i].want);
		if (rows[i].name)
			assert_string_equal(got->place_name, rows[i].name);
		else
			assert_null(got->place_name);
		if (rows[i].node)
			assert_string_equal(got->node, rows[i].node);
		else
			assert_null(got->node);
	}
}

static void test_tunnel_needs_a_weft_node_or_istios_mark(void **state)
{
	(void)state;
	world_with(&w,
		   NAMESPACE("in", "istio.io/dataplane-mode: ambient") NAMESPACE("out", "a: b") ENTRY(
			   "here", "in", ", annotations: { weft.dev/netns: x }",
			   "address: 10.0.0.1") ENTRY("there", "in", ", annotations: { weft.dev/node: n2 }",
						      "address: 10.0.0.2") ENTRY("vm", "in", "", "address: 10.0.0.3")
			   ENTRY("ztunnel", "in", "", "address: 10.0.0.4, labels: { networking.istio.io/tunnel: http }")
				   ENTRY("plain", "out", ", annotations: { weft.dev/node: n2 }", "address: 10.0.0.5"));
	assert_int_equal(world_workload(&w, "in/here")->tunnel, TUNNEL_HBONE);
	assert_int_equal(world_workload(&w, "in/there")->tunnel, TUNNEL_HBONE);
	assert_int_equal(world_workload(&w, "in/vm")->tunnel, TUNNEL_NONE);
	assert_int_equal(world_workload(&w, "in/ztunnel")->tunnel, TUNNEL_HBONE);
	assert_int_equal(world_workload(&w, "out/plain")->tunnel, TUNNEL_NONE);
}

static void test_identity_and_names_come_from_the_entry(void **state)
{
	(void)state;
	world_with(&w,
		   "trustDomain: td.example\n---\n" ENTRY(
			   "a-1", "shop", "", "address: 10.0.0.1, serviceAccount: acc, labels: { app: a, version: v2 }")
			   ENTRY("b-1", "shop", ", labels: { app: meta, x: own }",
				 "address: 10.0.0.2, labels: { x: z }"));
	const struct workload *a = world_workload(&w, "shop/a-1"), *b = world_workload(&w, "shop/b-1");
	assert_string_equal(a->identity->uri, "spiffe://td.example/ns/shop/sa/acc");
	assert_string_equal(b->identity->uri, "spiffe://td.example/ns/shop/sa/default");
	assert_string_equal(a->canonical_name, "a");
	assert_string_equal(a->canonical_revision, "v2");
	assert_string_equal(b->canonical_name, "meta");
	assert_string_equal(b->canonical_revision, "latest");
	assert_string_equal(b->owner, "b-1");
	assert_string_equal(workload_label(b, "x"), "z"); /* the spec's labels win */
	assert_int_equal(w.plan->identity_count, 2);
}

static void test_identity_goes_with_its_last_workload(void **state)
{
	(void)state;
	world_with(&w, ENTRY("a", "shop", "", "address: 10.0.0.1, serviceAccount: s")
			       ENTRY("b", "shop", "", "address: 10.0.0.2, serviceAccount: s"));
	const struct identity *identity = w.plan->identities[0];
	world_delete(&w, "WorkloadEntry/shop/a");
	world_compile(&w);
	assert_int_equal(w.plan->identity_count, 1);
	assert_ptr_equal(w.plan->identities[0], identity);
	world_delete(&w, "WorkloadEntry/shop/b");
	world_compile(&w);
	assert_int_equal(w.plan->identity_count, 0);
	world_with(&w, ENTRY("c", "shop", "", "address: 10.0.0.1, serviceAccount: s"));
	assert_int_equal(w.plan->identity_count, 1);
}

static void test_second_address_is_one_workload(void **state)
{
	(void)state;
	struct addr a;

	world_with(&w, ENTRY("a", "shop", ", annotations: { weft.dev/addresses: \"fd00::1, 10.0.0.1\" }",
			     "address: 10.0.0.1"));
	assert_int_equal(world_workload(&w, "shop/a")->addr_count, 2);
	addr_parse("fd00::1", &a);
	assert_ptr_equal(plan_workload_by_addr(w.plan, &a), world_workload(&w, "shop/a"));
}

static void test_host_process_has_its_ports(void **state)
{
	(void)state;
	world_with(&w,
		   ENTRY("a", "shop", ", annotations: { weft.dev/cgroup: /x, weft.dev/ports: \"80, 8000-8100 nine\" }",
			 "address: 10.0.0.1, ports: { http: 8080 }"));
	const struct workload *a = world_workload(&w, "shop/a");
	assert_int_equal(a->port_count, 3);
	assert_int_equal(a->ports[0].first, 8080);
	assert_int_equal(a->ports[1].last, 80);
	assert_int_equal(a->ports[2].first, 8000);
	assert_int_equal(a->ports[2].last, 8100);
	assert_true(world_finds(&w, "WorkloadEntry/shop/a", "\"nine\" is not a port"));
}

static void test_named_address_is_resolved(void **state)
{
	(void)state;
	struct addr a[1];
	size_t n;

	addr_parse("10.9.9.9", &a[0]);
	world_with(&w, ENTRY("vm", "shop", "", "address: vm.example"));
	assert_int_equal(w.plan->workload_count, 0);
	assert_string_equal(compiler_hosts(w.compiler, &n)[0], "vm.example");
	assert_int_equal(n, 1);
	assert_true(world_finds(&w, "WorkloadEntry/shop/vm", "does not resolve"));

	w.in.hosts = &(struct compile_host){ "vm.example", a, 1 };
	w.in.host_count = 1;
	world_compile(&w);
	assert_true(addr_eq(&world_workload(&w, "shop/vm")->addrs[0], &a[0]));
}

static void test_only_local_enrolled_workloads_have_a_policy(void **state)
{
	(void)state;
	world_with(&w, NAMESPACE("in", "istio.io/dataplane-mode: ambient")
			       ENTRY("here", "in", ", annotations: { weft.dev/netns: x }", "address: 10.0.0.1")
				       ENTRY("there", "in", ", annotations: { weft.dev/node: n2 }", "address: 10.0.0.2")
					       ENTRY("out", "other", ", annotations: { weft.dev/netns: pod-b }",
						     "address: 10.0.0.3"));
	assert_non_null(world_workload(&w, "in/here")->policy);
	assert_null(world_workload(&w, "in/there")->policy);
	assert_null(world_workload(&w, "other/out")->policy);
}

static void test_namespace_label_enrols_at_once(void **state)
{
	(void)state;
	world_with(&w, NAMESPACE("shop", "a: b")
			       ENTRY("a", "shop", ", annotations: { weft.dev/netns: x }", "address: 10.0.0.1"));
	struct workload *before = world_workload(&w, "shop/a");
	assert_false(before->enrolled);
	world_with(&w, NAMESPACE("shop", "istio.io/dataplane-mode: ambient"));
	assert_true(world_workload(&w, "shop/a")->enrolled);
	world_delete(&w, "Namespace/shop");
	world_compile(&w);
	assert_false(world_workload(&w, "shop/a")->enrolled);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_CASE(test_enrolment_follows_labels),
		WORLD_CASE(test_place_follows_annotations_and_node),
		WORLD_CASE(test_tunnel_needs_a_weft_node_or_istios_mark),
		WORLD_CASE(test_identity_and_names_come_from_the_entry),
		WORLD_CASE(test_identity_goes_with_its_last_workload),
		WORLD_CASE(test_second_address_is_one_workload),
		WORLD_CASE(test_host_process_has_its_ports),
		WORLD_CASE(test_named_address_is_resolved),
		WORLD_CASE(test_only_local_enrolled_workloads_have_a_policy),
		WORLD_CASE(test_namespace_label_enrols_at_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
