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

#define SERVICE(name, spec)                                                                                            \
	"apiVersion: v1\nkind: Service\nmetadata: { name: " name ", namespace: shop }\nspec: { " spec " }\n---\n"
#define WORKLOAD(name, meta, spec)                                                                                     \
	"apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: { name: " name ", namespace: shop" meta    \
	" }\nspec: { " spec " }\n---\n"
#define ISTIO(kind, name, ns, spec)                                                                                    \
	"apiVersion: security.istio.io/v1\nkind: " kind "\nmetadata: { name: " name ", namespace: " ns                 \
	" }\nspec: { " spec " }\n---\n"

#define ISTIO_RULE(policy)                                                                                             \
	"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: a, namespace: shop }\n"          \
	"spec: { host: s, " policy " }\n"

static void test_odd_documents_are_found(void **state)
{
	(void)state;
	static const struct {
		const char *yaml, *key, *part;
	} rows[] = {
		{ SERVICE("s", "clusterIPs: [ 10.60.0.1 ], selector: { app: nobody }, ports: [ { port: 80 } ]"),
		  "Service/shop/s", "selects no workload of namespace shop" },
		{ SERVICE("s", "clusterIPs: [ 10.60.0.1 ], ports: [ { port: 80 } ]"), "Service/shop/s", "no endpoint" },
		{ SERVICE("s", "type: ExternalName, externalName: x.example"), "Service/shop/s",
		  "ServiceEntry with resolution DNS" },
		{ SERVICE("s", "clusterIPs: [ 10.60.0.1 ], ports: [ { port: 80 } ]")
			  SERVICE("t", "clusterIPs: [ 10.60.0.1 ], ports: [ { port: 80 } ]"),
		  "Service/shop/t", "10.60.0.1/32 port 80 is also that of shop/s" },
		{ SERVICE("s", "clusterIPs: [ 10.60.0.1 ], ports: [ { port: 80, protocol: SCTP } ]"), "Service/shop/s",
		  "SCTP" },
		{ WORKLOAD("a", "", "address: 10.0.0.1") WORKLOAD("b", "", "address: 10.0.0.1"), "WorkloadEntry/shop/b",
		  "also that of WorkloadEntry/shop/a" },
		{ WORKLOAD("a", ", annotations: { weft.dev/netns: x }", "address: 10.0.0.1"), "WorkloadEntry/shop/a",
		  "no Namespace document" },
		{ WORKLOAD("a", ", annotations: { weft.dev/cgroup: /x }", "address: 10.0.0.1"), "WorkloadEntry/shop/a",
		  "without ports of its own" },
		{ ISTIO("PeerAuthentication", "a", "shop",
			"selector: { matchLabels: { app: none } }, mtls: { mode: STRICT }"),
		  "PeerAuthentication/shop/a", "selects no workload" },
		{ ISTIO("PeerAuthentication", "a", "shop", "mtls: { mode: STRICT }")
			  ISTIO("PeerAuthentication", "b", "shop", "mtls: { mode: DISABLE }"),
		  "PeerAuthentication/shop/b", "PeerAuthentication/shop/a is for the whole namespace too" },
		{ ISTIO("AuthorizationPolicy", "a", "shop", "selector: { matchLabels: { app: none } }"),
		  "AuthorizationPolicy/shop/a", "selects no workload of namespace shop" },
		{ ISTIO("AuthorizationPolicy", "a", "istio-system", "selector: { matchLabels: { app: none } }"),
		  "AuthorizationPolicy/istio-system/a", "any namespace" },
		{ ISTIO("AuthorizationPolicy", "a", "shop", "action: CUSTOM, provider: { name: x }, rules: [ {} ]"),
		  "AuthorizationPolicy/shop/a", "is not among the mesh's extensionProviders" },
		{ ISTIO("AuthorizationPolicy", "a", "shop",
			"rules: [ { to: [ { operation: { methods: [ GET ] } } ] } ]"),
		  "AuthorizationPolicy/shop/a", "never match on TCP" },
		{ "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: { name: e, namespace: shop }\n"
		  "spec: { hosts: [ a.example ], resolution: STATIC, ports: [ { number: 80, name: tcp, protocol: TCP } "
		  "], "
		  "endpoints: [ { address: 10.0.0.1, labels: { networking.istio.io/tunnel: http } } ] }\n",
		  "ServiceEntry/shop/e", "called in plaintext" },
		{ ISTIO_RULE("trafficPolicy: { portLevelSettings: [ { port: { number: 80 }, tls: { mode: MUTUAL, "
			     "credentialName: x } } ] }"),
		  "DestinationRule/shop/a", "tls.credentialName: there is no Secret x in namespace shop" },
		{ ISTIO_RULE("trafficPolicy: { connectionPool: { tcp: { maxConnections: 1 } } }"),
		  "DestinationRule/shop/a", "connectionPool.tcp is in force on" },
		{ ISTIO_RULE("trafficPolicy: { loadBalancer: { simple: RANDOM, warmupDurationSecs: 10s } }"),
		  "DestinationRule/shop/a", "warmup is in force on requests" },
		{ "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: a, namespace: shop, "
		  "annotations: { "
		  "weft.dev/load-balancer: best } }\nspec: { host: s }\n",
		  "DestinationRule/shop/a", "is not peak-ewma" },
		{ SERVICE("s", "clusterIPs: [ 10.60.0.1 ], ports: [ { name: tcp, port: 80 } ]") "apiVersion: "
												"networking.istio.io/"
												"v1\nkind: "
												"VirtualService\nmetada"
												"ta: { name: v, "
												"namespace: shop }\n"
												"spec: { hosts: [ s ], "
												"http: [ { route: [ { "
												"destination: { host: "
												"s } } ] } ] }\n",
		  "VirtualService/shop/v", "none of its ports is HTTP" },
		{ "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: v, namespace: shop }\n"
		  "spec: { hosts: [ a.shop ], http: [ { redirect: { uri: / } } ] }\n",
		  "VirtualService/shop/v", "host a.shop: no Service or ServiceEntry has it: the routes" },
		{ "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: { name: e, namespace: shop }\n"
		  "spec: { hosts: [ a.example ], subjectAltNames: [ x ], exportTo: [ . ], ports: [ { number: 80, name: "
		  "tcp } ] }\n",
		  "ServiceEntry/shop/e", "subjectAltNames are looked at where" },
		{ "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: { name: e, namespace: shop }\n"
		  "spec: { hosts: [ a.example ], exportTo: [ . ], ports: [ { number: 80, name: tcp } ] }\n",
		  "ServiceEntry/shop/e", "called from every namespace" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct world one;
		world_init(&one, "n1");
		world_with(&one, rows[i].yaml);
		if (!world_finds(&one, rows[i].key, rows[i].part))
			fail_msg("row %zu: not found: %s: %s", i, rows[i].key, rows[i].part);
		world_done(&one);
	}
}

static void test_sound_configuration_has_no_finding_but_infos(void **state)
{
	(void)state;
	struct findings f;

	world_load(&w, "tests/data/shop/00-workloads.yaml");
	world_load(&w, "tests/data/shop/10-mesh.yaml");
	world_load(&w, "tests/data/shop/11-mtls.yaml");
	world_load(&w, "tests/data/shop/12-authorization.yaml");
	world_compile(&w);
	assert_int_equal(compiler_findings(w.compiler, &f), 0);
	for (size_t i = 0; i < f.n; i++)
		if (f.v[i].severity != FINDING_INFO)
			fail_msg("%s: %s", f.v[i].key, f.v[i].text);
	findings_done(&f);
}

static void test_looking_changes_nothing(void **state)
{
	(void)state;
	world_with(&w, SERVICE("s", "selector: { app: nobody }, ports: [ { port: 80 } ]")
			       WORKLOAD("a", ", annotations: { weft.dev/netns: x }, labels: { weft.dev/mesh: enabled }",
					"address: 10.0.0.1"));
	const struct service *s = w.plan->services[0];
	const struct workload *a = w.plan->workloads[0];
	struct findings f;

	assert_int_equal(compiler_findings(w.compiler, &f), 0);
	findings_done(&f);
	world_compile(&w);
	assert_ptr_equal(w.plan->services[0], s);
	assert_ptr_equal(w.plan->workloads[0], a);
	assert_int_equal(compiler_stats(w.compiler)->services_built, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_CASE(test_odd_documents_are_found),
		WORLD_CASE(test_sound_configuration_has_no_finding_but_infos),
		WORLD_CASE(test_looking_changes_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
