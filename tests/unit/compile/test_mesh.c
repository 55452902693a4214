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

static struct world_fixture fixture = { &w, NULL };

static void test_no_mesh_document_means_defaults(void **state)
{
	(void)state;
	const struct mesh_settings *m = &world_compile(&w)->mesh;

	assert_string_equal(m->trust_domain, "cluster.local");
	assert_string_equal(m->cluster_domain, "cluster.local");
	assert_string_equal(m->root_namespace, "istio-system");
	assert_int_equal(m->outbound, OUTBOUND_ALLOW_ANY);
	assert_int_equal(m->same_node, SAME_NODE_ATTEST);
	assert_true(m->auto_allocate_vips);
	assert_int_equal(m->dns_ttl_s, 30);
	assert_int_equal(m->connect_timeout_ms, 10000);
	assert_int_equal(m->workload_cert_ttl_s, 86400);
	assert_int_equal(m->cert_grace_percent, 50);
	assert_int_equal(m->max_connections_per_pod, 65536);
	assert_false(m->rsa_keys);
}

static void test_empty_mesh_document_means_the_same_defaults(void **state)
{
	(void)state;
	const struct mesh_settings *m = &world_with(&w, "accessLogFile: /dev/stdout\n")->mesh;

	assert_string_equal(m->trust_domain, "cluster.local");
	assert_int_equal(m->workload_cert_ttl_s, 86400);
	assert_int_equal(m->cert_grace_percent, 50);
	assert_int_equal(m->max_connections_per_pod, 65536);
	assert_int_equal(m->helper_drain_ms, 86400000);
	assert_int_equal(m->helpers_draining, 4);
	assert_int_equal(m->dns_ttl_s, 30);
	assert_true(m->auto_allocate_vips);
}

static void test_every_setting_is_taken(void **state)
{
	(void)state;
	const struct mesh_settings *m =
		&world_with(&w, "trustDomain: td.example\n"
				"trustDomainAliases: [ old.example, older.example ]\n"
				"rootNamespace: mesh-root\n"
				"outboundTrafficPolicy: { mode: REGISTRY_ONLY }\n"
				"connectTimeout: 3s\n"
				"weft:\n"
				"  sameNode: mtls\n"
				"  dns: { autoAllocate: false, ttl: 5s, clusterDomain: k8s.example }\n"
				"  certificates: { ttl: 10h, gracePeriod: 1h, keyType: RSA-2048 }\n"
				"  helper: { threads: 3, maxConnectionsPerPod: 77, drainTimeout: 90s, draining: 2 }\n"
				"  maps: { services: 1000, endpoints: 2000, workloads: 3000, connections: 4000, flows: "
				"5000 }\n")
			 ->mesh;

	assert_string_equal(m->trust_domain, "td.example");
	assert_int_equal(m->trust_domain_alias_count, 2);
	assert_string_equal(m->trust_domain_aliases[1], "older.example");
	assert_string_equal(m->root_namespace, "mesh-root");
	assert_int_equal(m->outbound, OUTBOUND_REGISTRY_ONLY);
	assert_int_equal(m->connect_timeout_ms, 3000);
	assert_int_equal(m->same_node, SAME_NODE_MTLS);
	assert_false(m->auto_allocate_vips);
	assert_int_equal(m->dns_ttl_s, 5);
	assert_string_equal(m->cluster_domain, "k8s.example");
	assert_int_equal(m->workload_cert_ttl_s, 36000);
	assert_int_equal(m->cert_grace_percent, 10);
	assert_true(m->rsa_keys);
	assert_int_equal(m->helper_threads, 3);
	assert_int_equal(m->helper_drain_ms, 90000);
	assert_int_equal(m->helpers_draining, 2);
	assert_int_equal(m->max_connections_per_pod, 77);
	assert_int_equal(m->map_services, 1000);
	assert_int_equal(m->map_flows, 5000);
}

static void test_plan_keeps_its_settings_when_they_change(void **state)
{
	(void)state;
	world_with(&w, "trustDomain: one.example\n");
	struct plan *first = plan_ref(w.plan);
	world_with(&w, "trustDomain: two.example\n");
	world_delete(&w, "MeshConfig/mesh");
	world_compile(&w);
	assert_string_equal(first->mesh.trust_domain, "one.example");
	assert_string_equal(w.plan->mesh.trust_domain, "cluster.local");
	plan_unref(first);
}

static void test_trust_domain_changes_every_identity(void **state)
{
	(void)state;
	world_with(&w,
		   "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: { name: a, namespace: shop }\n"
		   "spec: { address: 10.0.0.1 }\n");
	world_with(&w, "trustDomain: other.example\n");
	assert_int_equal(w.plan->identity_count, 1);
	assert_string_equal(w.plan->identities[0]->uri, "spiffe://other.example/ns/shop/sa/default");
	assert_ptr_equal(world_workload(&w, "shop/a")->identity, w.plan->identities[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_CASE(test_no_mesh_document_means_defaults),
		WORLD_CASE(test_empty_mesh_document_means_the_same_defaults),
		WORLD_CASE(test_every_setting_is_taken),
		WORLD_CASE(test_plan_keeps_its_settings_when_they_change),
		WORLD_CASE(test_trust_domain_changes_every_identity),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
