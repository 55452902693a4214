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

/* Random changes one after another: each plan must be what a compiler that sees everything for the first time makes.
 * The sequences are fixed, so a failure can be repeated; SEEDS=100 tries more of them. */

enum { STEPS = 400, NAMES = 4, NAMESPACES = 3 };

static uint64_t seed;

static unsigned int pick(unsigned int n)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (unsigned int)(seed >> 33) % n;
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

static void namespace_set(struct world *w, unsigned int ns)
{
	static const char *const labels[] = { "a: b", "istio.io/dataplane-mode: ambient",
					      "istio.io/dataplane-mode: none" };

	set_format(w, "apiVersion: v1\nkind: Namespace\nmetadata: { name: ns%u, labels: { %s } }\n", ns,
		   labels[pick(3)]);
}

static void workload_set(struct world *w, unsigned int ns, unsigned int name)
{
	static const char *const places[] = { "weft.dev/netns: x", "weft.dev/node: n2", "a: b" };
	static const char *const addrs[] = { "10.0.", "\"fd00::", "host" }, *const dots[] = { ".", ":", "-" },
				 *const ends[] = { "", "\"", ".example" };
	unsigned int form = pick(3);
	char addr[64];

	snprintf(addr, sizeof(addr), "%s%u%s%u%s", addrs[form], ns, dots[form], pick(NAMES), ends[form]);
	set_format(
		w,
		"apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n"
		"metadata: { name: w%u, namespace: ns%u, annotations: { %s } }\n"
		"spec: { address: %s, labels: { app: s%u, v: v%u }, serviceAccount: a%u, locality: %s, weight: %u }\n",
		name, ns, places[pick(3)], addr, pick(NAMES), pick(2), pick(3), pick(2) ? "east/a" : "west/b", pick(3));
}

static void service_set(struct world *w, unsigned int ns, unsigned int name)
{
	static const char *const ips[] = { "clusterIP: None, sessionAffinity: None", "sessionAffinity: ClientIP" };
	char ip[128];

	if (pick(2))
		snprintf(ip, sizeof(ip), "clusterIPs: [ 10.60.0.%u%s ]", ns * NAMES + name + 1,
			 pick(2) ? ", \"fd60::1\"" : "");
	else
		snprintf(ip, sizeof(ip), "%s", ips[pick(2)]);
	set_format(w,
		   "apiVersion: v1\nkind: Service\nmetadata: { name: s%u, namespace: ns%u }\n"
		   "spec: { %s, selector: { app: s%u%s }, ports: [ { name: http, port: %u }, { name: u, port: 53, "
		   "protocol: UDP } ] }\n",
		   name, ns, ip, name, pick(2) ? ", v: v1" : "", 80 + pick(2));
}

static void entry_set(struct world *w, unsigned int ns, unsigned int name)
{
	static const char *const bodies[] = {
		"resolution: STATIC, endpoints: [ { address: 10.0.0.1 }, { address: 10.0.1.2 } ]",
		"resolution: DNS",
		"resolution: DNS, endpoints: [ { address: host1-1.example } ]",
		"resolution: NONE, addresses: [ 10.80.0.0/16 ]",
		"resolution: STATIC, addresses: [ 10.61.0.1 ], workloadSelector: { labels: { v: v1 } }",
	};

	set_format(w,
		   "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: { name: e%u, namespace: ns%u }\n"
		   "spec: { hosts: [ h%u.example, host%u-%u.example ], ports: [ { number: 443, name: tcp, protocol: "
		   "TCP } ], %s }\n",
		   name, ns, pick(3), pick(2), pick(2), bodies[pick(5)]);
}

static void rule_set(struct world *w, unsigned int ns, unsigned int name)
{
	static const char *const begins[] = { "s", "\"*.ns", "h" }, *const ends[] = { "", ".svc.cluster.local\"",
										      ".example" };
	static const char *const policies[] = {
		"loadBalancer: { simple: RANDOM }",
		"outlierDetection: { consecutive5xxErrors: 1, maxEjectionPercent: 100 }",
		"loadBalancer: { consistentHash: { useSourceIp: true } }",
		"connectionPool: { tcp: { maxConnections: 3 } }",
		"tls: { mode: SIMPLE }",
	};
	static const char *const audiences[] = { "", "", ", exportTo: [ \".\" ]",
						 ", workloadSelector: { matchLabels: { v: v1 } }" };
	char host[64] = "\"*.local\"";
	unsigned int which = pick(4);

	if (which < 3)
		snprintf(host, sizeof(host), "%s%u%s", begins[which], pick(3), ends[which]);
	set_format(
		w,
		"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: r%u, namespace: %s%u }\n"
		"spec: { host: %s, trafficPolicy: { %s }%s }\n",
		name, pick(4) ? "ns" : "root", ns, host, policies[pick(5)], audiences[pick(4)]);
}

static void policy_set(struct world *w, unsigned int ns, unsigned int name)
{
	if (pick(2))
		set_format(w,
			   "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: { name: p%u, "
			   "namespace: %s%u }\n"
			   "spec: { %smtls: { mode: %s } }\n",
			   name, pick(3) ? "ns" : "root", ns, pick(2) ? "selector: { matchLabels: { v: v1 } }, " : "",
			   pick(2) ? "STRICT" : "PERMISSIVE");
	else
		set_format(w,
			   "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: p%u, "
			   "namespace: %s%u }\n"
			   "spec: { %saction: %s, rules: [ { from: [ { source: { namespaces: [ ns%u ] } } ] } ] }\n",
			   name, pick(3) ? "ns" : "root", ns,
			   pick(2) ? "targetRefs: [ { kind: Service, group: \"\", name: s1 } ], " : "",
			   pick(2) ? "ALLOW" : "DENY", pick(3));
}

static void mesh_set(struct world *w)
{
	set_format(w, "trustDomain: td%u\nrootNamespace: root%u\nweft: { sameNode: %s, dns: { clusterDomain: %s } }\n",
		   pick(2), pick(2), pick(2) ? "mtls" : "attest", pick(3) ? "cluster.local" : "other.domain");
}

static void step(struct world *w)
{
	unsigned int ns = pick(NAMESPACES), name = pick(NAMES);

	switch (pick(12)) {
	case 0:
		namespace_set(w, ns);
		break;
	case 1:
	case 2:
	case 3:
		workload_set(w, ns, name);
		break;
	case 4:
	case 5:
		service_set(w, ns, name);
		break;
	case 6:
		entry_set(w, ns, name);
		break;
	case 7:
		rule_set(w, ns, name);
		break;
	case 8:
		policy_set(w, ns, name);
		break;
	case 9:
		if (!pick(4))
			mesh_set(w);
		break;
	default:
		if (w->n) {
			char key[256];
			snprintf(key, sizeof(key), "%s", w->v[pick((unsigned int)w->n)]->key);
			world_delete(w, key);
		}
	}
}

/* What comes from outside changes too. */
static struct compile_host hosts[2];
static struct addr host_addrs[2];
static struct addr_port ejected;

static void outside_change(struct world *w)
{
	addr_parse("192.0.2.1", &host_addrs[0]);
	addr_parse(pick(2) ? "10.0.0.2" : "fd00::7", &host_addrs[1]);
	hosts[0] = (struct compile_host){ "host1-1.example", host_addrs, 1 + pick(2) };
	hosts[1] = (struct compile_host){ "h1.example", host_addrs + 1, pick(2) };
	w->in.hosts = hosts;
	w->in.host_count = pick(3);
	addr_parse("10.0.0.1", &ejected.addr);
	ejected.port = pick(2) ? 80 : 443;
	w->in.ejected = &ejected;
	w->in.ejected_count = pick(2);
}

/* Allocated addresses are compared too: with so few hosts no two want the same place. */
static void dump_check(const struct plan *plan, struct world *fresh)
{
	char *got = plan_dump(plan), *want = plan_dump(fresh->plan);

	if (strcmp(got, want) != 0) {
		size_t i = 0;
		while (got[i] == want[i])
			i++;
		while (i > 0 && got[i - 1] != '\n')
			i--;
		fail_msg("from here on they differ:\n--- incremental\n%.600s\n--- fresh\n%.600s", got + i, want + i);
	}
	free(got);
	free(want);
}

static void names_check(const struct plan *plan)
{
	assert_int_equal(plan->by_addr_count == 0, plan->workload_count == 0);
	for (size_t i = 1; i < plan->name_count; i++)
		assert_true(dns_name_cmp(&plan->names[i - 1], &plan->names[i]) < 0);
	for (size_t i = 1; i < plan->by_addr_count; i++)
		assert_true(plan_addr_cmp(&plan->by_addr[i - 1], &plan->by_addr[i]) < 0);
	for (size_t i = 1; i < plan->by_vip_count; i++)
		assert_true(plan_vip_cmp(&plan->by_vip[i - 1], &plan->by_vip[i]) < 0);
	for (size_t i = 1; i < plan->identity_count; i++)
		assert_true(strcmp(plan->identities[i - 1]->uri, plan->identities[i]->uri) < 0);
}

static void run(uint64_t from)
{
	struct world w, fresh;

	seed = from;
	world_init(&w, "n1");
	w.skip_rejected = true;
	for (int i = 0; i < STEPS; i++) {
		for (unsigned int k = pick(4); k <= 3; k++)
			step(&w);
		if (!pick(5))
			outside_change(&w);
		world_compile(&w);
		names_check(w.plan);

		world_init(&fresh, "n1");
		for (size_t k = 0; k < w.n; k++)
			world_put(&fresh, resource_ref(w.v[k]));
		fresh.in = w.in;
		world_compile(&fresh);
		dump_check(w.plan, &fresh);
		world_done(&fresh);
	}
	world_done(&w);
}

static void test_every_plan_is_that_of_a_first_run(void **state)
{
	(void)state;
	const char *seeds = getenv("SEEDS");
	int n = seeds ? atoi(seeds) : 3;

	for (int i = 1; i <= n; i++)
		run((uint64_t)i);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_every_plan_is_that_of_a_first_run) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
