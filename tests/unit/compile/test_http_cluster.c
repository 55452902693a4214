/* SPDX-License-Identifier: Apache-2.0 */
/* Clusters: endpoints, subsets, and what DestinationRules say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/model/filters.h"
#include "agent/model/workload.h"
#include "tests/unit/compile/http_world.h"

static struct world w;

#define SERVICE(name, meta, ports)                                                                                     \
	"apiVersion: v1\nkind: Service\nmetadata: { name: " name ", namespace: shop" meta " }\n"                       \
	"spec: { clusterIPs: [ 10.60.0.1 ], selector: { app: s }, ports: [ " ports " ] }\n---\n"
#define POD(name, addr, more, labels, spec)                                                                            \
	"apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: { name: " name                             \
	", namespace: shop, annotations: { " more " } }\nspec: { address: " addr ", labels: { app: s, " labels         \
	" }" spec " }\n---\n"
#define RULE_FOR(host, spec)                                                                                           \
	"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: other, namespace: shop "         \
	"}\nspec: { "                                                                                                  \
	"host: " host ", " spec " }\n---\n"
#define RULE(spec)                                                                                                     \
	"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: r, namespace: shop }\nspec: { "  \
	"host: s, " spec " }\n---\n"
#define ENTRY(host, spec)                                                                                              \
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: { name: e, namespace: shop }\nspec: { "     \
	"hosts: [ " host " ], " spec " }\n---\n"
#define FQDN "s.shop.svc.cluster.local"
#define ALL "outbound|80||" FQDN

static const char town[] =
	"apiVersion: v1\nkind: Namespace\nmetadata: { name: shop, labels: { istio.io/dataplane-mode: ambient } "
	"}\n---\n" SERVICE(
		"s", "", "{ name: http, port: 80, targetPort: 8080 }, { name: grpc, port: 81 }, { name: x, port: 82 }")
		POD("a", "10.0.0.1", "weft.dev/netns: a", "version: v1", ", locality: east/a, weight: 2")
			POD("b", "10.0.0.2", "weft.dev/node: n2", "version: v2",
			    ", locality: east/b, serviceAccount: bee")
				POD("c", "10.0.0.3", "weft.dev/node: n3, weft.dev/addresses: \"fd00::3\"",
				    "version: v2", ", locality: west/a");

static struct world_fixture fixture = { &w, town };

static struct http_cluster *with(const char *rule)
{
	world_with(&w, rule);
	return http_cluster(&w, ALL);
}

static void test_defaults_are_istios(void **state)
{
	(void)state;
	struct http_cluster *c = http_cluster(&w, ALL);
	assert_string_equal(c->name, ALL);
	assert_string_equal(c->host, FQDN);
	assert_string_equal(c->service, "s");
	assert_string_equal(c->ns, "shop");
	assert_int_equal(c->lb, CLUSTER_LEAST_REQUEST);
	assert_int_equal(c->protocol, CLUSTER_H1);
	assert_int_equal(c->tls, CLUSTER_TLS_AUTO);
	assert_int_equal(c->outlier.consecutive_5xx, 0);
	assert_int_equal(c->max_retries, 0);
	assert_int_equal(c->tcp.connect_timeout_ms, 10000);
	assert_false(c->external);
	http_cluster_unref(c);
	c = http_cluster(&w, "outbound|81||" FQDN);
	assert_int_equal(c->protocol, CLUSTER_H2);
	http_cluster_unref(c);
	c = http_cluster(&w, "outbound|82||" FQDN);
	assert_int_equal(c->protocol, CLUSTER_AS_CLIENT);
	http_cluster_unref(c);
}

/* A workload of both families is one endpoint; one of this node is called as it is. */
static void test_endpoints_are_workloads(void **state)
{
	(void)state;
	struct http_cluster *c = http_cluster(&w, ALL);
	assert_string_equal(http_endpoints_of(c), "10.0.0.1:8080 p0 w2, 10.0.0.2:8080 p0 w1, 10.0.0.3:8080 p0 w1");
	assert_int_equal(c->endpoints[0].tunnel, ENDPOINT_PLAIN);
	assert_true(c->endpoints[0].local && c->endpoints[0].enrolled && c->endpoints[0].healthy);
	assert_int_equal(c->endpoints[1].tunnel, ENDPOINT_HBONE);
	assert_int_equal(c->endpoints[1].tunnel_addr.port, 15008);
	assert_string_equal(c->endpoints[1].identities[0], "spiffe://cluster.local/ns/shop/sa/bee");
	assert_string_equal(c->endpoints[1].workload, "b");
	assert_string_equal(c->endpoints[1].app, "s");
	assert_string_equal(c->endpoints[1].canonical_revision, "v2");
	assert_string_equal(c->endpoints[1].locality, "east/b");
	http_cluster_unref(c);
	world_with(&w, "weft: { sameNode: mtls }\n");
	c = http_cluster(&w, ALL);
	assert_int_equal(c->endpoints[0].tunnel, ENDPOINT_HBONE);
	http_cluster_unref(c);
}

static void test_subsets(void **state)
{
	(void)state;
	world_with(
		&w,
		RULE("trafficPolicy: { connectionPool: { http: { http1MaxPendingRequests: 7 } }, outlierDetection: { "
		     "consecutiveGatewayErrors: 3, splitExternalLocalOriginErrors: true }, loadBalancer: { simple: "
		     "RANDOM } }, subsets: [ { "
		     "name: v2, labels: { version: v2 } }, { name: v1, labels: { version: v1 }, trafficPolicy: { "
		     "loadBalancer: { simple: "
		     "ROUND_ROBIN }, connectionPool: { http: { maxRetries: 1 } } } }, { name: none, labels: { version: "
		     "v9 } } ]"));
	struct http_cluster *c = http_cluster(&w, "outbound|80|v2|" FQDN);
	assert_string_equal(http_endpoints_of(c),
			    "10.0.0.2:8080 p0 w1, 10.0.0.3:8080 p1 w1"); /* east before west, ranks closed */
	assert_int_equal(c->lb, CLUSTER_RANDOM);
	assert_int_equal(c->max_pending, 7);
	assert_int_equal(c->outlier.consecutive_5xx, 5);
	assert_int_equal(c->outlier.consecutive_gateway, 3);
	assert_int_equal(c->outlier.consecutive_local, 5);
	assert_true(c->outlier.split_local);
	assert_int_equal(c->outlier.max_ejection_percent, 10);
	http_cluster_unref(c);
	c = http_cluster(&w, "outbound|80|v1|" FQDN);
	assert_string_equal(http_endpoints_of(c), "10.0.0.1:8080 p0 w2");
	assert_int_equal(c->lb, CLUSTER_ROUND_ROBIN);
	assert_int_equal(c->max_pending, 0); /* the subset's pool replaces the rule's */
	assert_int_equal(c->max_retries, 1);
	http_cluster_unref(c);
	c = http_cluster(&w, "outbound|80|none|" FQDN);
	assert_int_equal(c->endpoint_count, 0);
	http_cluster_unref(c);
	assert_true(http_cluster_missing(&w, "outbound|80|v3|" FQDN));
	char **names;
	size_t n;
	assert_int_equal(compiler_cluster_names(w.compiler, &names, &n), 0);
	assert_int_equal(n, 12);
	assert_string_equal(names[0], "outbound|80|none|" FQDN);
	for (size_t i = 0; i < n; i++)
		free(names[i]);
	free(names);
}

static void test_port_level_settings_replace(void **state)
{
	(void)state;
	struct http_cluster *c = with(RULE("trafficPolicy: { loadBalancer: { simple: RANDOM }, outlierDetection: {}, "
					   "portLevelSettings: [ { port: { "
					   "number: 80 }, connectionPool: { http: { h2UpgradePolicy: UPGRADE }, tcp: { "
					   "maxConnections: 3 } } } ] }"));
	assert_int_equal(c->lb, CLUSTER_LEAST_REQUEST);
	assert_int_equal(c->outlier.consecutive_5xx, 0);
	assert_int_equal(c->tcp.max_connections, 3);
	http_cluster_unref(c);
	c = http_cluster(&w, "outbound|81||" FQDN);
	assert_int_equal(c->lb, CLUSTER_RANDOM);
	assert_int_equal(c->outlier.consecutive_5xx, 5);
	http_cluster_unref(c);
}

#define BALANCER(spec) RULE("trafficPolicy: { loadBalancer: { " spec " } }")

static void test_balancers(void **state)
{
	(void)state;
	struct http_cluster *c =
		with(BALANCER("consistentHash: { httpHeaderName: X-User, ringHash: { minimumRingSize: 4096 } }"));
	assert_int_equal(c->lb, CLUSTER_RING_HASH);
	assert_int_equal(c->hash, HASH_HEADER);
	assert_string_equal(c->hash_key, "x-user");
	assert_int_equal(c->ring_size_min, 4096);
	http_cluster_unref(c);
	c = with(BALANCER(
		"consistentHash: { httpCookie: { name: u, path: /p, ttl: 60s }, maglev: { tableSize: 1000 } }"));
	assert_int_equal(c->lb, CLUSTER_MAGLEV);
	assert_int_equal(c->maglev_size, 1009); /* the next prime */
	assert_int_equal(c->hash, HASH_COOKIE);
	assert_true(c->cookie_make && c->cookie_ttl_s == 60);
	assert_string_equal(c->cookie_path, "/p");
	http_cluster_unref(c);
	c = with(BALANCER("consistentHash: { httpCookie: { name: u } }"));
	assert_false(c->cookie_make);
	http_cluster_unref(c);
	c = with(BALANCER("consistentHash: { useSourceIp: true }"));
	assert_int_equal(c->hash, HASH_SOURCE_IP);
	http_cluster_unref(c);
	c = with(BALANCER("consistentHash: { httpQueryParameterName: Q }"));
	assert_int_equal(c->hash, HASH_QUERY);
	assert_string_equal(c->hash_key, "Q");
	http_cluster_unref(c);
	c = with(BALANCER("simple: LEAST_REQUEST, warmup: { duration: 30s, minimumPercent: 20, aggression: 2 }"));
	assert_int_equal(c->warmup_ms, 30000);
	assert_int_equal(c->warmup_min_percent, 20);
	assert_true(c->warmup_aggression == 2);
	http_cluster_unref(c);
	c = with(BALANCER("simple: LEAST_CONN"));
	assert_int_equal(c->lb, CLUSTER_LEAST_REQUEST);
	http_cluster_unref(c);
	c = with("apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: r, namespace: shop, "
		 "annotations: { "
		 "weft.dev/load-balancer: peak-ewma } }\nspec: { host: s }\n");
	assert_int_equal(c->lb, CLUSTER_PEAK_EWMA);
	http_cluster_unref(c);
}

static void test_upgrades_outside_of_the_mesh_alone(void **state)
{
	(void)state;
	world_with(&w, "h2UpgradePolicy: UPGRADE\n");
	struct http_cluster *c =
		with(RULE("trafficPolicy: { connectionPool: { http: { h2UpgradePolicy: UPGRADE } } }"));
	assert_int_equal(c->protocol, CLUSTER_H1); /* the application speaks what its port says */
	http_cluster_unref(c);
	world_with(&w, ENTRY("x.example", "resolution: STATIC, location: MESH_EXTERNAL, ports: [ { number: 80, name: "
					  "http, protocol: HTTP } ]"));
	c = http_cluster(&w, "outbound|80||x.example");
	assert_int_equal(c->protocol, CLUSTER_H1);
	http_cluster_unref(c);
	world_with(&w,
		   RULE_FOR("x.example", "trafficPolicy: { connectionPool: { http: { h2UpgradePolicy: UPGRADE } } }"));
	c = http_cluster(&w, "outbound|80||x.example");
	assert_int_equal(c->protocol, CLUSTER_H2);
	http_cluster_unref(c);
}

static void test_affinity_of_the_service_is_by_source(void **state)
{
	(void)state;
	world_with(&w, "apiVersion: v1\nkind: Service\nmetadata: { name: s, namespace: shop }\nspec: { clusterIPs: [ "
		       "10.60.0.1 ], selector: { app: "
		       "s }, sessionAffinity: ClientIP, ports: [ { name: http, port: 80 } ] }\n");
	struct http_cluster *c = http_cluster(&w, ALL);
	assert_int_equal(c->lb, CLUSTER_MAGLEV);
	assert_int_equal(c->hash, HASH_SOURCE_IP);
	http_cluster_unref(c);
	c = with(BALANCER("simple: RANDOM"));
	assert_int_equal(c->lb, CLUSTER_RANDOM);
	assert_int_equal(c->hash, HASH_NONE);
	http_cluster_unref(c);
}

static void test_path_normalisation_of_the_mesh(void **state)
{
	(void)state;
	assert_null(world_workload(&w, "shop/a")->inbound);
	world_with(&w, "pathNormalization: { normalization: MERGE_SLASHES }\n");
	assert_int_equal(world_workload(&w, "shop/a")->inbound->normalization, PATH_MERGE_SLASHES);
	assert_int_equal(world_workload(&w, "shop/a")->outbound->normalization, PATH_MERGE_SLASHES);
	assert_false(world_workload(&w, "shop/a")->l7_other_ports); /* no rule yet that it could matter to */
	world_with(&w, "pathNormalization: { normalization: DEFAULT }\n");
	assert_null(world_workload(&w, "shop/a")->inbound);
}

static char *on_read_file(void *arg, const char *path)
{
	(void)arg;
	return strcmp(path, "/ca.pem") == 0	       ? strdup("CA") :
	       strcmp(path, COMPILE_SYSTEM_ROOTS) == 0 ? strdup("ROOTS") :
							 NULL;
}

static void test_tls_settings(void **state)
{
	(void)state;
	struct http_cluster *c = with(RULE("trafficPolicy: { tls: { mode: SIMPLE, caCertificates: /ca.pem, sni: "
					   "x.example, subjectAltNames: [ y.example ] } }"));
	assert_int_equal(c->tls, CLUSTER_TLS_SIMPLE);
	assert_string_equal(c->ca_pem, ""); /* nobody reads files: nothing verifies */
	assert_string_equal(c->sni, "x.example");
	assert_string_equal(c->subject_alt_names[0], "y.example");
	http_cluster_unref(c);
	compiler_set_files(w.compiler, on_read_file, NULL);
	c = http_cluster(&w, ALL);
	assert_string_equal(c->ca_pem, "CA");
	http_cluster_unref(c);
	c = with(RULE("trafficPolicy: { tls: { mode: MUTUAL, clientCertificate: /none, privateKey: /none, "
		      "caCertificates: /ca.pem } }"));
	assert_int_equal(c->tls, CLUSTER_TLS_MUTUAL);
	assert_string_equal(c->key_pem, "");
	http_cluster_unref(c);
	c = with(RULE("trafficPolicy: { tls: { mode: SIMPLE } }"));
	assert_string_equal(c->ca_pem, "ROOTS");
	http_cluster_unref(c);
	c = with(RULE("trafficPolicy: { tls: { mode: SIMPLE, credentialName: secret } }"));
	assert_string_equal(c->ca_pem, ""); /* not the system's roots instead */
	http_cluster_unref(c);
	c = with(RULE("trafficPolicy: { tls: { mode: SIMPLE, insecureSkipVerify: true } }"));
	assert_true(c->insecure);
	assert_null(c->ca_pem);
	http_cluster_unref(c);
	c = with(RULE("trafficPolicy: { tls: { mode: ISTIO_MUTUAL } }"));
	assert_int_equal(c->tls, CLUSTER_TLS_ISTIO_MUTUAL);
	http_cluster_unref(c);
	c = with(RULE("trafficPolicy: { tls: { mode: DISABLE } }"));
	assert_int_equal(c->tls, CLUSTER_TLS_DISABLE);
	http_cluster_unref(c);
}

static void test_proxies_and_budgets(void **state)
{
	(void)state;
	struct http_cluster *c = with(RULE("trafficPolicy: { tunnel: { protocol: CONNECT, targetHost: api.example, "
					   "targetPort: 443 }, proxyProtocol: { "
					   "version: V2 }, retryBudget: { percent: 30, minRetryConcurrency: 5 } }"));
	assert_string_equal(c->proxy_host, "api.example:443");
	assert_int_equal(c->proxy_protocol, 2);
	assert_int_equal(c->retry_budget_percent, 30);
	assert_int_equal(c->retry_budget_min, 5);
	http_cluster_unref(c);
}

static void test_entry_endpoints_and_subsets(void **state)
{
	(void)state;
	world_with(&w, ENTRY("x.example",
			     "resolution: STATIC, location: MESH_EXTERNAL, subjectAltNames: [ z ], ports: [ { number: "
			     "80, name: http, "
			     "protocol: HTTP } ], endpoints: [ { address: 192.0.2.1, labels: { v: a } }, { address: "
			     "192.0.2.2, labels: "
			     "{ v: b }, ports: { http: 81 } } ]") "apiVersion: networking.istio.io/v1\nkind: "
								  "DestinationRule\nmetadata: { name: x, namespace: "
								  "shop }\nspec: { host: "
								  "x.example, subsets: [ { name: b, labels: { v: b } } "
								  "], trafficPolicy: { tls: { mode: SIMPLE } } }\n");
	struct http_cluster *c = http_cluster(&w, "outbound|80||x.example");
	assert_string_equal(http_endpoints_of(c), "192.0.2.1:80 p0 w1, 192.0.2.2:81 p0 w1");
	assert_true(c->external);
	assert_string_equal(c->subject_alt_names[0], "z"); /* the entry's, as the rule names none */
	http_cluster_unref(c);
	c = http_cluster(&w, "outbound|80|b|x.example");
	assert_string_equal(http_endpoints_of(c), "192.0.2.2:81 p0 w1");
	http_cluster_unref(c);
	world_with(&w, ENTRY("x.example", "resolution: NONE, addresses: [ 192.0.2.0/24 ], ports: [ { number: 80, name: "
					  "http, protocol: HTTP } ]"));
	c = http_cluster(&w, "outbound|80||x.example");
	assert_int_equal(c->lb, CLUSTER_PASSTHROUGH);
	http_cluster_unref(c);
}

/* The addresses of what is behind a star are asked for when a request names it. */
static void test_dynamic_dns(void **state)
{
	(void)state;
	size_t n;
	world_with(&w,
		   ENTRY("\"*.example.com\"",
			 "resolution: DYNAMIC_DNS, ports: [ { number: 443, name: tls, protocol: TLS }, { number: 80, "
			 "name: http, protocol: HTTP, targetPort: 8080 } ]"));
	assert_int_equal(world_port(&w, "shop", "*.example.com", 443)->l7, L7_TCP);
	struct http_cluster *c = http_cluster(&w, "outbound|80||*.example.com");
	assert_true(c->dynamic_dns);
	assert_int_equal(c->endpoint_count, 0);
	http_cluster_unref(c);
	c = http_cluster(&w, "outbound|80||*.example.com|evil.example.org");
	assert_int_equal(c->endpoint_count, 0);
	http_cluster_unref(c);
	compiler_hosts(w.compiler, &n);
	assert_int_equal(n, 0); /* not covered by the entry: not asked for */
	c = http_cluster(&w, "outbound|80||*.example.com|a.example.com");
	assert_int_equal(c->endpoint_count, 0);
	http_cluster_unref(c);
	assert_string_equal(compiler_hosts(w.compiler, &n)[0], "a.example.com");
	assert_int_equal(n, 1);

	struct addr a;
	struct compile_host host = { "a.example.com", &a, 1 };
	assert_int_equal(addr_parse("192.0.2.9", &a), 0);
	w.in.hosts = &host;
	w.in.host_count = 1;
	world_compile(&w);
	c = http_cluster(&w, "outbound|80||*.example.com|a.example.com");
	assert_string_equal(http_endpoints_of(c), "192.0.2.9:8080 p0 w1");
	assert_string_equal(c->host, "a.example.com");
	assert_false(c->dynamic_dns);
	http_cluster_unref(c);
}

static void test_unchanged_clusters_are_kept(void **state)
{
	(void)state;
	struct http_cluster *a = http_cluster(&w, ALL), *b = http_cluster(&w, ALL);
	assert_ptr_equal(a, b);
	http_cluster_unref(b);
	world_with(&w, RULE("trafficPolicy: { connectionPool: { http: { maxRetries: 1 } } }"));
	b = http_cluster(&w, ALL);
	assert_true(a->id != b->id);
	http_cluster_unref(b);
	world_delete(&w, "DestinationRule/shop/r");
	world_compile(&w);
	b = http_cluster(&w, ALL);
	assert_true(a->id == b->id);
	http_cluster_unref(b);
	world_with(&w, POD("d", "10.0.0.4", "weft.dev/node: n2", "version: v1", ""));
	b = http_cluster(&w, ALL);
	assert_int_equal(b->endpoint_count, 4);
	assert_true(a->id != b->id);
	http_cluster_unref(b);
	http_cluster_unref(a);
}

/* --- ports */

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_CASE(test_defaults_are_istios),
		WORLD_CASE(test_endpoints_are_workloads),
		WORLD_CASE(test_subsets),
		WORLD_CASE(test_port_level_settings_replace),
		WORLD_CASE(test_balancers),
		WORLD_CASE(test_upgrades_outside_of_the_mesh_alone),
		WORLD_CASE(test_affinity_of_the_service_is_by_source),
		WORLD_CASE(test_path_normalisation_of_the_mesh),
		WORLD_CASE(test_tls_settings),
		WORLD_CASE(test_proxies_and_budgets),
		WORLD_CASE(test_entry_endpoints_and_subsets),
		WORLD_CASE(test_dynamic_dns),
		WORLD_CASE(test_unchanged_clusters_are_kept),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
