/* SPDX-License-Identifier: Apache-2.0 */
/* What each kind's table and checks make of documents, good and bad. */
#include "agent/config/kinds.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/str.h"
#include "agent/config/node.h"
#include "tests/unit/config/one.h"

#define HEAD(api, kind) "apiVersion: " api "\nkind: " kind "\nmetadata: { name: it, namespace: shop }\nspec:\n"
#define SERVICE HEAD("v1", "Service")
#define ENTRY HEAD("networking.istio.io/v1", "WorkloadEntry")
#define SERVICE_ENTRY HEAD("networking.istio.io/v1beta1", "ServiceEntry")
#define RULE HEAD("networking.istio.io/v1alpha3", "DestinationRule")
#define PEER HEAD("security.istio.io/v1", "PeerAuthentication")
#define AUTHZ HEAD("security.istio.io/v1beta1", "AuthorizationPolicy")

static struct one one;

static int done(void **state)
{
	(void)state;
	one_done(&one);
	return 0;
}

static const struct resource *good(const char *text)
{
	one_done(&one);
	one_decode(&one, "a.yaml", text);
	one_has_no_problem(&one);
	return one_resource(&one);
}

/* Rejected for this reason. */
static void bad(const char *text, const char *why)
{
	one_done(&one);
	one_decode(&one, "a.yaml", text);
	one_has(&one, PROBLEM_ERROR, why);
	assert_true(one.docs[0].rejected);
	assert_int_equal(one.docs[0].resource_count, 0);
}

static const struct resource *warned(const char *text, const char *why)
{
	one_done(&one);
	one_decode(&one, "a.yaml", text);
	one_has(&one, PROBLEM_WARNING, why);
	return one_resource(&one);
}

static void test_header_is_decoded(void **state)
{
	(void)state;
	const struct resource *r =
		good("# c\n---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n  generation: 4\n"
		     "  labels: { b: x, a: z }\n  annotations: { weft.dev/note: \"what ever\" }\n");
	assert_int_equal(r->kind, KIND_NAMESPACE);
	assert_string_equal(r->key, "Namespace/shop");
	assert_string_equal(r->ns, "");
	assert_string_equal(r->api_version, "v1");
	assert_string_equal(r->origin, "a.yaml:3");
	assert_int_equal(r->generation, 4);
	assert_string_equal(string_map_get(&r->labels, "a"), "z");
	assert_string_equal(string_map_get(&r->annotations, "weft.dev/note"), "what ever");
	assert_null(string_map_get(&r->labels, "c"));
}

static void test_header_namespace_defaults(void **state)
{
	(void)state;
	assert_string_equal(
		good("apiVersion: v1\nkind: Service\nmetadata: { name: a }\nspec: { ports: [ { port: 1 } ] }")->key,
		"Service/default/a");
}

static void test_header_bad_is_refused(void **state)
{
	(void)state;
	bad("a: b", "no \"kind\"");
	bad("- a", "the document is a list; an object is needed");
	bad("kind: Service", "apiVersion: is required");
	bad("apiVersion: v2\nkind: Service", "\"v2\" is not a known version of Service; use one of: v1");
	bad("apiVersion: v1\nkind: Service", "metadata: is required");
	bad("apiVersion: v1\nkind: Namespace\nmetadata: { labels: { a: b } }", "metadata.name: is required");
	bad("apiVersion: v1\nkind: Namespace\nmetadata: { name: Big }",
	    "metadata.name: \"Big\" is not a resource name");
	bad("apiVersion: v1\nkind: Namespace\nmetadata: { name: a, labels: { x: yes } }",
	    "3: metadata.labels.x: true is a boolean; a string is needed: put it in quotes");
	bad("apiVersion: v1\nkind: Namespace\nmetadata: { name: a, labels: { \"-x\": a } }",
	    "key \"-x\" is not a label key");
	bad("apiVersion: v1\nkind: Service\nmetadata: { name: a, namespace: a.b }",
	    "metadata.namespace: \"a.b\" is not a name");
}

static void test_unknown_kinds_are_told_with_a_suggestion(void **state)
{
	(void)state;
	one_done(&one);
	one_decode(&one, "a.yaml",
		   "apiVersion: v1\nkind: Servce\n---\napiVersion: serving.knative.dev/v1\nkind: Service\n---\n"
		   "apiVersion: v1\nkind: Pod\nmetadata: { name: a }\n");
	one_has(&one, PROBLEM_WARNING, "2: kind \"Servce\" is not known and left out; did you mean \"Service\"?");
	one_has(&one, PROBLEM_WARNING, "5: kind Service of \"serving.knative.dev/v1\" is not known");
	one_has(&one, PROBLEM_INFO, "Pod is recognised, but not used from files");
	assert_false(one.docs[0].rejected);
}

static void test_unknown_fields_are_told_with_a_suggestion(void **state)
{
	(void)state;
	const struct resource *r =
		warned(SERVICE "  ports: [ { port: 1, targetport: 2 } ]\n  sesionAffinity: ClientIP\nstatsu: {}\n",
		       "5: spec.ports[0].targetport: unknown field; did you mean \"targetPort\"?");
	one_has(&one, PROBLEM_WARNING, "6: spec.sesionAffinity: unknown field; did you mean \"sessionAffinity\"?");
	one_has(&one, PROBLEM_WARNING, "7: statsu: unknown field; did you mean \"status\"?");
	assert_int_equal(r->spec.service->ports.v[0].target_port.number, 1);
	warned(SERVICE "  ports: [ { port: 1 } ]\n  zzz: 1\n", "spec.zzz: unknown field");
}

static void test_gateway_is_two_kinds(void **state)
{
	(void)state;
	const struct resource *r = good("apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n"
					"metadata: { name: g, namespace: a }\nspec: { gatewayClassName: weft }");
	assert_int_equal(r->kind, KIND_K8S_GATEWAY);
	assert_string_equal(r->key, "Gateway.gateway.networking.k8s.io/a/g");
	assert_string_equal(node_get_text(r->spec.raw, "gatewayClassName"), "weft");
}

static void test_service_is_decoded(void **state)
{
	(void)state;
	const struct service_spec *s =
		good(SERVICE "  clusterIPs: [ 10.0.0.1, \"fd00::1\" ]\n  selector: { app: a }\n  ports:\n"
			     "  - { name: web, port: 80, targetPort: http, appProtocol: http }\n"
			     "  - { name: dns, port: 53, protocol: UDP }\n"
			     "  sessionAffinity: ClientIP\n"
			     "  sessionAffinityConfig: { clientIP: { timeoutSeconds: 600 } }\n")
			->spec.service;
	char text[ADDR_TEXT_MAX];
	assert_int_equal(s->cluster_ips.n, 2);
	assert_string_equal(addr_text(&s->cluster_ips.v[1], text), "fd00::1");
	assert_int_equal(s->ports.n, 2);
	assert_string_equal(s->ports.v[0].target_port.name, "http");
	assert_int_equal(s->ports.v[1].target_port.number, 53);
	assert_int_equal(s->ports.v[1].protocol, SERVICE_PROTO_UDP);
	assert_int_equal(s->session_affinity_config->client_ip->timeout_seconds, 600);
	assert_false(s->headless);
	assert_string_equal(string_map_get(&s->selector, "app"), "a");
}

static void test_service_headless_and_defaults(void **state)
{
	(void)state;
	const struct service_spec *s = good(SERVICE "  clusterIP: None\n  ports: [ { port: 80 } ]\n")->spec.service;
	assert_true(s->headless);
	assert_int_equal(s->cluster_ips.n, 0);
	assert_int_equal(s->ports.v[0].protocol, SERVICE_PROTO_TCP);
	assert_int_equal(s->ports.v[0].target_port.number, 80);
	assert_int_equal(s->session_affinity, SESSION_AFFINITY_NONE);
	assert_null(s->session_affinity_config);
}

static void test_service_bad_is_refused(void **state)
{
	(void)state;
	bad(SERVICE "  ports: [ { port: \"80\" } ]",
	    "spec.ports[0].port: \"80\" is a string; a whole number is needed");
	bad(SERVICE "  ports: [ { port: 0 } ]", "spec.ports[0].port: 0 is out of range (1 to 65535)");
	bad(SERVICE "  ports: [ { port: 1, targetPort: \"80\" } ]", "write a number without quotes");
	bad(SERVICE "  ports: [ { name: a } ]", "spec.ports[0].port: is required");
	bad(SERVICE "  ports: { port: 1 }", "spec.ports: is an object; a list is needed");
	bad(SERVICE "  ports: [ { port: 1 }, { port: 2 } ]",
	    "spec.ports[0].name: is required when there is more than one port");
	bad(SERVICE "  ports: [ { name: a, port: 1 }, { name: a, port: 2 } ]",
	    "spec.ports[1].name: \"a\" is used twice");
	bad(SERVICE "  ports: [ { name: a, port: 1 }, { name: b, port: 1 } ]", "spec.ports[1].port: 1 is used twice");
	bad(SERVICE "  ports: [ { port: 1, protocol: tcp } ]", "is not one of TCP, UDP, SCTP; did you mean \"TCP\"?");
	bad(SERVICE "  clusterIP: 10.0.0.300\n  ports: [ { port: 1 } ]", "spec.clusterIP: \"10.0.0.300\" is neither");
	bad(SERVICE "  clusterIPs: [ 10.0.0.1, 10.0.0.2 ]\n  ports: [ { port: 1 } ]",
	    "has two addresses of one family");
	bad(SERVICE "  clusterIP: 10.0.0.1\n  clusterIPs: [ 10.0.0.2 ]\n  ports: [ { port: 1 } ]",
	    "is not the first of clusterIPs");
	bad(SERVICE "  clusterIP: 10.0.0.1\n", "spec.ports: is required");
	bad(SERVICE "  type: ExternalName\n", "spec.externalName: is required");
	bad(SERVICE "  ports: [ { port: 1 } ]\n  sessionAffinityConfig: {}", "needs sessionAffinity: ClientIP");
	bad(SERVICE "  ports: [ { port: 1 } ]\n  sessionAffinity: ClientIP\n"
		    "  sessionAffinityConfig: { clientIP: { timeoutSeconds: 86401 } }",
	    "86401 is out of range (1 to 86400)");
}

static void test_workload_entry_is_decoded(void **state)
{
	(void)state;
	const struct workload_entry_spec *w =
		good(ENTRY "  address: \"fd50::2:20\"\n  ports: { http: 8080 }\n  labels: { app: a }\n  weight: 0\n"
			   "  serviceAccount: sa\n  locality: us/a/b\n")
			->spec.workload_entry;
	assert_true(w->is_ip);
	assert_string_equal(w->ports.v[0].key, "http");
	assert_int_equal(w->ports.v[0].port, 8080);
	assert_int_equal(w->weight, 1);
	assert_string_equal(w->service_account, "sa");
}

static void test_workload_entry_bad_is_refused(void **state)
{
	(void)state;
	bad(ENTRY "  labels: { a: b }", "spec.address: is required");
	bad(ENTRY "  address: \"a b\"", "is neither an IP address nor a DNS name");
	bad(ENTRY "  address: 0.0.0.0", "is not the address of a workload");
	bad(ENTRY "  address: unix://x", "a unix socket needs an absolute path");
	bad(ENTRY "  address: 1.2.3.4\n  ports: { http: 0 }", "spec.ports.http: 0 is out of range");
	bad(ENTRY "  address: 1.2.3.4\n  locality: /a", "is not region[/zone[/subzone]]");
	bad("apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n"
	    "metadata: { name: a, annotations: { weft.dev/netns: x, weft.dev/pid: \"1\" } }\nspec: { address: 1.2.3.4 "
	    "}",
	    "a workload lives in one place; weft.dev/netns is there already");
	bad("apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n"
	    "metadata: { name: a, annotations: { weft.dev/netns: x } }\nspec: { address: a.example }",
	    "spec.address: has to be an IP address when weft.dev/netns says");
}

static void test_service_entry_is_decoded(void **state)
{
	(void)state;
	const struct service_entry_spec *s =
		good(SERVICE_ENTRY
		     "  hosts: [ \"*.a.example\", b.example ]\n  addresses: [ 10.1.2.3/8, \"fd00::1\" ]\n"
		     "  ports: [ { number: 80, name: http, protocol: http, targetPort: 8080 } ]\n  resolution: STATIC\n"
		     "  location: MESH_INTERNAL\n  endpoints: [ { address: 1.2.3.4, ports: { http: 1 } } ]\n"
		     "  exportTo: [ \".\" ]\n")
			->spec.service_entry;
	char text[CIDR_TEXT_MAX];
	assert_string_equal(cidr_text(&s->addresses.v[0], text), "10.0.0.0/8");
	assert_string_equal(s->ports.v[0].protocol, "HTTP");
	assert_int_equal(s->ports.v[0].target_port, 8080);
	assert_int_equal(s->location, LOCATION_MESH_INTERNAL);
	assert_int_equal(s->endpoints.v[0].weight, 1);
}

static void test_service_entry_bad_is_refused(void **state)
{
	(void)state;
#define PORT "  ports: [ { number: 80, name: http } ]\n"
	bad(SERVICE_ENTRY "  ports: []\n", "spec.hosts: is required");
	bad(SERVICE_ENTRY "  hosts: []\n", "spec.hosts: is empty");
	bad(SERVICE_ENTRY "  hosts: [ \"*\" ]\n" PORT, "spec.hosts[0]: \"*\" matches every host");
	bad(SERVICE_ENTRY "  hosts: [ \"a.*.b\" ]\n" PORT, "has a \"*\" that is not its whole first label");
	bad(SERVICE_ENTRY "  hosts: [ a.b ]\n  addresses: [ 10.0.0.0/33 ]\n" PORT,
	    "\"10.0.0.0/33\" is not an IP address or range");
	bad(SERVICE_ENTRY "  hosts: [ \"*.b\" ]\n  resolution: DNS\n" PORT, "cannot be looked up in DNS");
	bad(SERVICE_ENTRY "  hosts: [ a.b ]\n  endpoints: [ { address: 1.2.3.4 } ]\n" PORT,
	    "has no meaning with resolution NONE");
	bad(SERVICE_ENTRY "  hosts: [ a.b ]\n  resolution: STATIC\n  endpoints: [ { address: c.d } ]\n" PORT,
	    "spec.endpoints[0].address: \"c.d\" is not an IP address, as resolution STATIC needs");
	bad(SERVICE_ENTRY
	    "  hosts: [ a.b ]\n  resolution: DNS\n  endpoints: [ { address: c.d, ports: { x: 1 } } ]\n" PORT,
	    "\"x\" is not the name of a port of this entry");
	bad(SERVICE_ENTRY "  hosts: [ a.b ]\n  resolution: STATIC\n  endpoints: [ { address: 1.2.3.4 } ]\n"
			  "  workloadSelector: { labels: { a: b } }\n" PORT,
	    "cannot be together with workloadSelector");
	bad(SERVICE_ENTRY "  hosts: [ a.b ]\n  ports: [ { number: 80, name: a }, { number: 80, name: b } ]\n",
	    "80 is used twice");
	bad(SERVICE_ENTRY "  hosts: [ a.b ]\n  ports: [ { number: 80, name: a, protocol: FOO } ]\n",
	    "\"FOO\" is not one of TCP");
}

static void test_destination_rule_is_decoded(void **state)
{
	(void)state;
	const struct traffic_policy *t =
		good(RULE "  host: a\n  trafficPolicy:\n    loadBalancer: { simple: LEAST_CONN }\n"
			  "    connectionPool: { tcp: { connectTimeout: 250ms, tcpKeepalive: { time: 1h30m, probes: 3 "
			  "} } }\n"
			  "    outlierDetection: { consecutive5xxErrors: 0, interval: 0.5s }\n"
			  "    portLevelSettings: [ { port: { number: 80 }, loadBalancer: { consistentHash: { "
			  "useSourceIp: true } } } ]\n"
			  "  subsets: [ { name: v1, labels: { version: v1 } } ]\n")
			->spec.destination_rule->traffic_policy;
	assert_int_equal(t->load_balancer->simple, SIMPLE_LB_LEAST_REQUEST);
	assert_int_equal(t->connection_pool->tcp->connect_timeout.ms, 250);
	assert_int_equal(t->connection_pool->tcp->tcp_keepalive->time.ms, 5400000);
	assert_false(t->connection_pool->tcp->tcp_keepalive->interval.set);
	assert_true(t->outlier_detection->consecutive_5xx_errors.set);
	assert_int_equal(t->outlier_detection->interval.ms, 500);
	assert_false(t->outlier_detection->base_ejection_time.set);
	assert_int_equal(t->port_level_settings.v[0].port->number, 80);
	assert_true(t->port_level_settings.v[0].load_balancer->consistent_hash->use_source_ip);
	assert_null(t->tls);
}

static void test_destination_rule_bad_is_refused(void **state)
{
	(void)state;
#define POLICY(x) RULE "  host: a\n  trafficPolicy: " x "\n"
	bad(RULE "  subsets: []\n", "spec.host: is required");
	bad(POLICY("{ connectionPool: { tcp: { connectTimeout: 2x } } }"),
	    "6: spec.trafficPolicy.connectionPool.tcp.connectTimeout: \"2x\" is not a duration");
	bad(POLICY("{ connectionPool: { tcp: { connectTimeout: 10 } } }"), "connectTimeout: 10 is not a duration");
	bad(POLICY("{ connectionPool: { tcp: { connectTimeout: 10us } } }"),
	    "\"10us\" is too short; at least 1ms is needed");
	bad(POLICY("{ loadBalancer: { simple: ROUNDROBIN } }"), "did you mean \"ROUND_ROBIN\"?");
	bad(POLICY("{ loadBalancer: { simple: RANDOM, consistentHash: { useSourceIp: true } } }"),
	    "cannot be together with \"simple\"");
	bad(POLICY("{ loadBalancer: { consistentHash: {} } }"), "needs one of httpHeaderName");
	bad(POLICY("{ loadBalancer: { localityLbSetting: { distribute: [ { from: a, to: { b: 60, c: 50 } } ] } } }"),
	    "the weights sum up to 110, not 100");
	bad(POLICY("{ loadBalancer: { localityLbSetting: { failover: [ { from: a, to: a } ] } } }"),
	    "from \"a\" to itself");
	bad(POLICY("{ outlierDetection: { maxEjectionPercent: 101 } }"), "101 is out of range (0 to 100)");
	bad(POLICY("{ tls: { mode: MUTUAL } }"), "needs clientCertificate and privateKey");
	bad(POLICY("{ portLevelSettings: [ { loadBalancer: {} } ] }"),
	    "spec.trafficPolicy.portLevelSettings[0].port: is required");
	bad(RULE "  host: a\n  subsets: [ { name: a }, { name: a } ]\n", "\"a\" is there twice");
}

static void test_peer_authentication_is_decoded(void **state)
{
	(void)state;
	const struct peer_authentication_spec *p =
		good(PEER "  selector: { matchLabels: { app: a } }\n  mtls: { mode: STRICT }\n"
			  "  portLevelMtls: { 7001: { mode: PERMISSIVE }, \"80\": {} }\n")
			->spec.peer_authentication;
	assert_int_equal(p->mtls->mode, PEER_MTLS_STRICT);
	assert_int_equal(p->port_level_mtls.v[0].port, 7001);
	assert_int_equal(p->port_level_mtls.v[0].mode, PEER_MTLS_PERMISSIVE);
	assert_int_equal(p->port_level_mtls.v[1].mode, PEER_MTLS_UNSET);
	assert_null(good(PEER "  {}\n")->spec.peer_authentication->mtls);
}

static void test_peer_authentication_bad_is_refused(void **state)
{
	(void)state;
	bad(PEER "  mtls: { mode: strict }", "did you mean \"STRICT\"?");
	bad(PEER "  mtls: STRICT", "spec.mtls: \"STRICT\" is a string; an object is needed");
	bad(PEER "  portLevelMtls: { 80: {} }", "needs a selector with matchLabels");
	bad(PEER "  selector: { matchLabels: { a: b } }\n  portLevelMtls: { http: {} }", "key \"http\" is not a port");
	bad(PEER "  selector: { matchLabels: { a: b } }\n  portLevelMtls: { 80: {}, \"080\": {} }",
	    "port 80 is there twice");
}

static void test_authorization_policy_is_decoded(void **state)
{
	(void)state;
	const struct authorization_policy_spec *a =
		good(AUTHZ
		     "  action: DENY\n  rules:\n  - from: [ { source: { ipBlocks: [ 10.0.0.0/8 ], notPrincipals: [ a/b "
		     "] } } ]\n"
		     "    to: [ { operation: { ports: [ \"80\" ], paths: [ \"/a/{*}\", \"/b/{**}\", \"/c*\" ] } } ]\n"
		     "    when: [ { key: destination.port, notValues: [ \"81\" ] } ]\n  - {}\n")
			->spec.authorization_policy;
	assert_int_equal(a->action, AUTHZ_DENY);
	assert_int_equal(a->rules.n, 2);
	assert_int_equal(a->rules.v[0].from.v[0].source->ip_blocks.n, 1);
	assert_string_equal(a->rules.v[0].to.v[0].operation->ports.v[0], "80");
	assert_int_equal(a->rules.v[0].line_offset, 6);
	assert_int_equal(a->rules.v[1].index, 1);
	assert_int_equal(a->rules.v[1].from.n, 0);
	assert_int_equal(good(AUTHZ "  {}\n")->spec.authorization_policy->rules.n, 0);
}

static void test_authorization_policy_bad_is_refused(void **state)
{
	(void)state;
#define RULES(x) AUTHZ "  rules: [ " x " ]\n"
	bad(RULES("{ from: [] }"), "spec.rules[0].from: is empty; at least one element is needed");
	bad(RULES("{ from: [ {} ] }"), "spec.rules[0].from[0].source: is required");
	bad(RULES("{ from: [ { source: {} } ] }"), "spec.rules[0].from[0].source: is empty");
	bad(RULES("{ from: [ { source: { principals: [] } } ] }"), "source.principals: is empty");
	bad(RULES("{ from: [ { source: { principals: [ \"\" ] } } ] }"), "source.principals[0]: \"\" is empty");
	bad(RULES("{ from: [ { source: { principals: [ \"spiffe://a/b\" ] } } ] }"), "write it without");
	bad(RULES("{ from: [ { source: { ipBlocks: [ 10.0.0.0/99 ] } } ] }"), "is not an IP address or range");
	bad(RULES("{ from: [ { source: { serviceAccounts: [ a ], principals: [ b ] } } ] }"),
	    "cannot be together with principals");
	bad(RULES("{ to: [ { operation: {} } ] }"), "spec.rules[0].to[0].operation: is empty");
	bad(RULES("{ to: [ { operation: { ports: [ 80 ] } } ] }"),
	    "ports[0]: 80 is a number; a string is needed: put it in quotes");
	bad(RULES("{ to: [ { operation: { ports: [ \"70000\" ] } } ] }"), "\"70000\" is not a port (1 to 65535)");
	bad(RULES("{ to: [ { operation: { paths: [ \"/a{*}\" ] } } ] }"), "is not {*} or {**} as a whole segment");
	bad(RULES("{ when: [ { key: foo, values: [ a ] } ] }"), "\"foo\" is not an attribute");
	bad(RULES("{ when: [ { key: \"request.headers[]\", values: [ a ] } ] }"), "is not an attribute");
	bad(RULES("{ when: [ { key: source.ip } ] }"), "needs values or notValues");
	bad(RULES("{ when: [ { key: source.ip, values: [ x ] } ] }"), "\"x\" is not an IP address or range");
	bad(RULES("~"), "spec.rules[0]: is nothing; an object is needed");
	bad(AUTHZ "  action: CUSTOM\n  rules: [ {} ]\n", "spec.provider: is required when the action is CUSTOM");
	bad(AUTHZ "  provider: { name: x }\n", "spec.provider: needs action: CUSTOM");
	bad(AUTHZ "  selector: {}\n  targetRefs: [ { kind: Gateway, name: g } ]\n",
	    "cannot be together with \"selector\"");
}

/* In a policy an unknown field could be the one that refuses: "acton: DENY" would be an ALLOW. */
static void test_policies_with_unknown_fields_are_refused(void **state)
{
	(void)state;
	bad(RULES("{ from: [ { source: { namespaces: [ a ], principal: [ b ] } } ]}"),
	    "spec.rules[0].from[0].source.principal: unknown field; did you mean \"principals\"?");
	bad(AUTHZ "  acton: DENY\n  rules: [ {} ]\n", "spec.acton: unknown field; did you mean \"action\"?");
	bad(PEER "  mtsl: { mode: STRICT }\n", "spec.mtsl: unknown field; did you mean \"mtls\"?");
}

static const struct mesh_config_spec *mesh(const char *text)
{
	one_done(&one);
	one_decode(&one, "10-mesh.yaml", text);
	return one.count && one.docs[0].resource_count ? one_resource(&one)->spec.mesh_config : NULL;
}

static void test_mesh_config_has_defaults(void **state)
{
	(void)state;
	const struct mesh_config_spec *m = mesh("enableTracing: true\n");
	one_has_no_problem(&one);
	assert_string_equal(one_resource(&one)->key, "MeshConfig/mesh");
	assert_string_equal(m->trust_domain, "cluster.local");
	assert_string_equal(m->root_namespace, "istio-system");
	assert_int_equal(m->outbound_traffic_policy->mode, OUTBOUND_MODE_ALLOW_ANY);
	assert_int_equal(m->weft->same_node, WEFT_SAME_NODE_ATTEST);
	assert_int_equal(m->weft->certificates->grace_percent, 50);
	assert_int_equal(m->weft->helper->max_connections_per_pod, 65536);
}

static void test_mesh_config_is_decoded(void **state)
{
	(void)state;
	const struct mesh_config_spec *m =
		mesh("trustDomain: td.example\noutboundTrafficPolicy: { mode: REGISTRY_ONLY }\n"
		     "defaultConfig: { a: { b: 1 } }\nextensionProviders: [ { name: x, prometheus: {} } ]\n"
		     "weft: { sameNode: mtls, certificates: { ttl: 1h, keyType: RSA-2048 }, dns: { ttl: 5s } }\n");
	one_has_no_problem(&one);
	assert_string_equal(m->trust_domain, "td.example");
	assert_int_equal(m->outbound_traffic_policy->mode, OUTBOUND_MODE_REGISTRY_ONLY);
	assert_int_equal(node_get(node_get(m->default_config, "a"), "b")->i, 1);
	assert_int_equal(m->extension_providers->count, 1);
	assert_int_equal(m->weft->same_node, WEFT_SAME_NODE_MTLS);
	assert_int_equal(m->weft->certificates->ttl.ms, 3600000);
	assert_int_equal(m->weft->certificates->key_type, WEFT_KEY_RSA_2048);
	assert_int_equal(m->weft->dns->ttl.ms, 5000);
}

static void test_mesh_config_bad_is_refused(void **state)
{
	(void)state;
	assert_null(mesh("trustDomain: \"a b\"\n"));
	one_has(&one, PROBLEM_ERROR, "1: trustDomain: \"a b\" is not a trust domain");
	assert_null(mesh("weft: { certificates: { ttl: 1h, gracePeriod: 2h } }\n"));
	one_has(&one, PROBLEM_ERROR, "weft.certificates.gracePeriod: is not shorter than the ttl");
	assert_null(mesh("caCertificates: [ { pem: hello } ]\n"));
	one_has(&one, PROBLEM_ERROR, "caCertificates[0].pem: has no BEGIN CERTIFICATE line");
	assert_non_null(mesh("trustdomain: a\n"));
	one_has(&one, PROBLEM_WARNING, "trustdomain: unknown field; did you mean \"trustDomain\"?");
}

static void mesh_bad(const char *text, const char *why)
{
	assert_null(mesh(text));
	one_has(&one, PROBLEM_ERROR, why);
}

static void test_mesh_providers_are_checked(void **state)
{
	(void)state;
	assert_non_null(
		mesh("accessLogFile: /dev/stdout\naccessLogFormat: \"%REQ(:PATH)% %DURATION%\\n\"\n"
		     "extensionProviders:\n- { name: a, envoyFileAccessLog: { path: /x, logFormat: { labels: { "
		     "code: '%RESPONSE_CODE%', more: { b: [ '%PROTOCOL%' ] } } } } }\n"
		     "- { name: b, zipkin: { service: a.b, port: 9411 } }\n- { name: c, prometheus: {} }\n"
		     "defaultProviders: { tracing: [ b ], metrics: [ prometheus ], accessLogging: [ envoy, a ] }\n"));
	one_has_no_problem(&one);
	mesh_bad("accessLogFormat: '%RESPONSE_COD%'\n", "1: accessLogFormat: %RESPONSE_COD% is no operator");
	mesh_bad("extensionProviders:\n- name: a\n  envoyFileAccessLog:\n    logFormat:\n      labels:\n"
		 "        code: '%NOPE%'\n",
		 "6: extensionProviders[0].envoyFileAccessLog.logFormat.labels.code: %NOPE% is no operator");
	mesh_bad("extensionProviders: [ { name: a, envoyFileAccessLog: { logFormat: {} } } ]\n",
		 "logFormat: needs one of text, labels");
	mesh_bad("extensionProviders: [ { zipkin: { service: a, port: 1 } } ]\n",
		 "extensionProviders[0].name: is required");
	mesh_bad("extensionProviders: [ { name: a, zipkin: { port: 1 } } ]\n", "zipkin.service: is required");
	mesh_bad("extensionProviders: [ { name: a, opentelemetry: { service: a } } ]\n",
		 "opentelemetry.port: a port's number");
	mesh_bad("extensionProviders: [ { name: a, prometheus: {} }, { name: a, prometheus: {} } ]\n",
		 "extensionProviders[1].name: is the name of another");
	mesh_bad("extensionProviders: [ { name: a } ]\n", "has no kind of provider");
	assert_non_null(mesh("extensionProviders: [ { name: a, envoyHttpAls: { service: a, port: 1 } } ]\n"));
	one_has(&one, PROBLEM_WARNING, "extensionProviders[0].envoyHttpAls: is not supported");
	mesh_bad("extensionProviders: [ { name: a, envoyOtelAls: { service: a } } ]\n",
		 "envoyOtelAls.port: a port's number");
	mesh_bad("extensionProviders: [ { name: a, envoyOtelAls: { service: a, port: 1, logFormat: { labels: { a: "
		 "'%NO%' } } } } ]\n",
		 "extensionProviders[0].envoyOtelAls.logFormat.labels.a: %NO% is no operator");
	assert_non_null(mesh("extensionProviders: [ { name: a, envoyOtelAls: { service: a, port: 1, logName: x, "
			     "logFormat: { text: '%PROTOCOL%', labels: { a: '%PROTOCOL%' } } } } ]\n"));
	one_has(&one, PROBLEM_INFO, "envoyOtelAls.logName: has no effect");
	assert_non_null(mesh("extensionProviders: [ { name: a, zipkins: {} } ]\n"));
	one_has(&one, PROBLEM_WARNING, "zipkins: is no kind of provider");
	assert_non_null(
		mesh("extensionProviders: [ { name: a, zipkin: { service: a, port: 1, maxTagLength: 9 } } ]\n"));
	one_has(&one, PROBLEM_INFO, "zipkin.maxTagLength: has no effect");
	assert_non_null(mesh("defaultProviders: { tracing: [ nobody ] }\n"));
	one_has(&one, PROBLEM_WARNING, "defaultProviders.tracing: \"nobody\" is not one of");
	assert_non_null(mesh("accessLogEncoding: JSON\naccessLogFormat: '%PROTOCOL%'\n"));
	one_has(&one, PROBLEM_WARNING, "accessLogFormat: is no JSON object");
}

static void test_problems_are_bounded(void **state)
{
	(void)state;
	struct sb sb = { 0 };
	sb_add(&sb, SERVICE "  ports:\n");
	for (int i = 0; i < 500; i++)
		sb_add(&sb, "  - { port: x }\n");
	bad(sb.p, "spec.ports[0].port: \"x\" is a string");
	assert_int_equal(one.docs[0].problem_count, PROBLEM_MAX);
	sb_done(&sb);
}

static void test_documents_are_cut_at_separators(void **state)
{
	(void)state;
	one_done(&one);
	one_decode(&one, "a.yaml",
		   "# nothing\n--- # also nothing\n\n---\napiVersion: v1\nkind: Namespace\nmetadata: { name: a }\n"
		   "--- {apiVersion: v1, kind: Namespace, metadata: {name: b}}\n---\r\napiVersion: v1\r\n"
		   "kind: Namespace\r\nmetadata: { name: c, annotations: { x: \"--- no\" } }\r\n---");
	assert_int_equal(one.count, 3);
	one_has_no_problem(&one);
	assert_string_equal(one.docs[0].resources[0]->origin, "a.yaml:5");
	assert_string_equal(one.docs[1].resources[0]->origin, "a.yaml:8");
	assert_string_equal(one.docs[2].resources[0]->origin, "a.yaml:10");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_teardown(name, done)
		T(test_header_is_decoded),
		T(test_header_namespace_defaults),
		T(test_header_bad_is_refused),
		T(test_unknown_kinds_are_told_with_a_suggestion),
		T(test_unknown_fields_are_told_with_a_suggestion),
		T(test_gateway_is_two_kinds),
		T(test_service_is_decoded),
		T(test_service_headless_and_defaults),
		T(test_service_bad_is_refused),
		T(test_workload_entry_is_decoded),
		T(test_workload_entry_bad_is_refused),
		T(test_service_entry_is_decoded),
		T(test_service_entry_bad_is_refused),
		T(test_destination_rule_is_decoded),
		T(test_destination_rule_bad_is_refused),
		T(test_peer_authentication_is_decoded),
		T(test_peer_authentication_bad_is_refused),
		T(test_authorization_policy_is_decoded),
		T(test_authorization_policy_bad_is_refused),
		T(test_policies_with_unknown_fields_are_refused),
		T(test_mesh_config_has_defaults),
		T(test_mesh_config_is_decoded),
		T(test_mesh_config_bad_is_refused),
		T(test_mesh_providers_are_checked),
		T(test_problems_are_bounded),
		T(test_documents_are_cut_at_separators),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
