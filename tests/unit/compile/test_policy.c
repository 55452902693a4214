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

#include "agent/base/str.h"
#include "agent/model/identity.h"
#include "tests/unit/compile/world.h"

static struct world w;

static struct world_fixture fixture = { &w, NULL };

static const char base[] =
	"apiVersion: v1\nkind: Namespace\nmetadata: { name: shop, labels: { istio.io/dataplane-mode: ambient } }\n---\n"
	"apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n"
	"metadata: { name: a, namespace: shop, annotations: { weft.dev/netns: x } }\n"
	"spec: { address: 10.0.0.1, labels: { app: a, tier: front } }\n---\n";

#define PEER(name, ns, spec)                                                                                           \
	"apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: { name: " name ", namespace: " ns       \
	" }\nspec: { " spec " }\n---\n"
#define AUTHZ(name, ns, spec)                                                                                          \
	"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: " name ", namespace: " ns      \
	" }\nspec:\n" spec "\n---\n"

static const struct policy *policy_of(void)
{
	return world_workload(&w, "shop/a")->policy;
}

static void test_peer_levels_override_each_other(void **state)
{
	(void)state;
	static const struct {
		const char *yaml;
		enum mtls_mode want, want_8080;
		const char *origin;
	} rows[] = {
		{ "", MTLS_PERMISSIVE, MTLS_PERMISSIVE, "default" },
		{ PEER("m", "istio-system", "mtls: { mode: STRICT }"), MTLS_STRICT, MTLS_STRICT,
		  "PeerAuthentication/istio-system/m" },
		{ PEER("nsp", "shop", "mtls: { mode: DISABLE }"), MTLS_DISABLE, MTLS_DISABLE,
		  "PeerAuthentication/shop/nsp" },
		{ PEER("nsp", "shop", "mtls: { mode: UNSET }"), MTLS_STRICT, MTLS_STRICT,
		  "PeerAuthentication/istio-system/m" },
		{ PEER("w", "shop",
		       "selector: { matchLabels: { app: a } }, mtls: { mode: PERMISSIVE }, "
		       "portLevelMtls: { 8080: { mode: STRICT } }"),
		  MTLS_PERMISSIVE, MTLS_STRICT, "PeerAuthentication/shop/w" },
		{ PEER("w", "shop",
		       "selector: { matchLabels: { app: a } }, portLevelMtls: { 8080: { mode: UNSET }, 81: { "
		       "mode: DISABLE } }"),
		  MTLS_STRICT, MTLS_STRICT, "PeerAuthentication/istio-system/m" },
		{ PEER("w", "shop", "selector: { matchLabels: { app: b } }, mtls: { mode: DISABLE }"), MTLS_STRICT,
		  MTLS_STRICT, "PeerAuthentication/istio-system/m" },
		{ PEER("m", "istio-system", "selector: { matchLabels: { app: a } }, mtls: { mode: STRICT }"),
		  MTLS_PERMISSIVE, MTLS_PERMISSIVE, "default" },
	};

	world_set(&w, base);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		world_with(&w, rows[i].yaml);
		const struct policy *p = policy_of();
		if (p->mtls != rows[i].want || policy_mtls_mode(p, 8080) != rows[i].want_8080 ||
		    !str_starts(p->mtls_origin, rows[i].origin))
			fail_msg("row %zu: mode %d, 8080 %d, by %s", i, p->mtls, policy_mtls_mode(p, 8080),
				 p->mtls_origin);
	}
	assert_int_equal(policy_mtls_mode(policy_of(), 81), MTLS_PERMISSIVE); /* no longer selected */
}

static void test_two_peer_authentications_on_one_selector_are_found(void **state)
{
	(void)state;
	world_set(&w, base);
	world_with(&w, PEER("b", "shop", "selector: { matchLabels: { app: a } }, mtls: { mode: DISABLE }")
			       PEER("a", "shop", "selector: { matchLabels: { tier: front } }, mtls: { mode: STRICT }"));
	assert_int_equal(policy_of()->mtls, MTLS_STRICT);
	assert_true(world_finds(&w, "PeerAuthentication/shop/b", "is ignored where PeerAuthentication/shop/a applies"));
}

/* One row: a document, who calls, and what becomes of it. */
struct row {
	const char *yaml, *ns, *account; /* account NULL: anonymous */
	uint16_t port;
	enum drop_reason want;
};

static void rows_check(const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct policy_input in = { .port = rows[i].port, .proto = IPPROTO_TCP };
		struct policy_verdict out;
		struct identity *peer =
			rows[i].account ? identity_new("cluster.local", rows[i].ns, rows[i].account) : NULL;

		addr_parse("10.7.0.1", &in.source);
		addr_parse("10.0.0.1", &in.destination);
		in.peer = peer;
		world_with(&w, rows[i].yaml);
		policy_eval(policy_of(), &in, &out);
		identity_unref(peer);
		if (out.reason != rows[i].want)
			fail_msg("row %zu: reason %d, not %d, for:\n%s", i, out.reason, rows[i].want, rows[i].yaml);
	}
}

#define RULE(text) AUTHZ("p", "shop", "  rules:\n  - " text)
#define DENY(text) AUTHZ("p", "shop", "  action: DENY\n  rules:\n  - " text)
#define OK DROP_NONE
#define NO DROP_POLICY_NO_ALLOW
#define DENIED DROP_POLICY_DENY

static void test_authorization_from_to_and_when(void **state)
{
	(void)state;
	static const struct row rows[] = {
		{ "", "x", "bob", 80, OK },
		{ AUTHZ("p", "shop", "  {}"), "x", "bob", 80, NO },
		{ AUTHZ("p", "shop", "  rules: [ {} ]"), "x", NULL, 80, OK },
		{ AUTHZ("p", "shop", "  action: DENY"), "x", "bob", 80, OK },
		{ RULE("from: [ { source: { principals: [ cluster.local/ns/x/sa/bob ] } } ]"), "x", "bob", 80, OK },
		{ RULE("from: [ { source: { principals: [ cluster.local/ns/x/sa/bob ] } } ]"), "x", "z", 80, NO },
		{ RULE("from: [ { source: { principals: [ cluster.local/ns/x/sa/bob ] } } ]"), "x", NULL, 80, NO },
		{ RULE("from: [ { source: { principals: [ a, \"*/sa/bob\" ] } } ]"), "q", "bob", 80, OK },
		{ RULE("from: [ { source: { principals: [ \"*\" ] } } ]"), "q", NULL, 80, NO },
		{ RULE("from: [ { source: { namespaces: [ x ] } }, { source: { namespaces: [ q ] } } ]"), "q", "bob",
		  80, OK },
		{ RULE("from: [ { source: { namespaces: [ x ], notPrincipals: [ \"*/sa/bob\" ] } } ]"), "x", "bob", 80,
		  NO },
		{ RULE("from: [ { source: { namespaces: [ x ], notPrincipals: [ \"*/sa/bob\" ] } } ]"), "x", "z", 80,
		  OK },
		{ RULE("from: [ { source: { serviceAccounts: [ bob ] } } ]"), "shop", "bob", 80, OK },
		{ RULE("from: [ { source: { serviceAccounts: [ bob ] } } ]"), "x", "bob", 80, NO },
		{ RULE("from: [ { source: { serviceAccounts: [ x/bob ] } } ]"), "x", "bob", 80, OK },
		{ RULE("from: [ { source: { notServiceAccounts: [ x/bob ] } } ]"), "x", "bob", 80, NO },
		{ RULE("from: [ { source: { ipBlocks: [ 10.7.0.0/16 ] } } ]"), "x", NULL, 80, OK },
		{ RULE("from: [ { source: { ipBlocks: [ 10.7.0.0/16 ], notIpBlocks: [ 10.7.0.1 ] } } ]"), "x", NULL, 80,
		  NO },
		{ RULE("from: [ { source: { remoteIpBlocks: [ 10.8.0.0/16 ] } } ]"), "x", NULL, 80, NO },
		{ RULE("to: [ { operation: { ports: [ \"80\", \"81\" ] } } ]"), "x", "bob", 81, OK },
		{ RULE("to: [ { operation: { ports: [ \"80\", \"81\" ] } } ]"), "x", "bob", 82, NO },
		{ RULE("to: [ { operation: { notPorts: [ \"80\" ] } } ]"), "x", "bob", 80, NO },
		{ RULE("to: [ { operation: { ports: [ \"80\" ] } }, { operation: { ports: [ \"90\" ] } } ]"), "x",
		  "bob", 90, OK },
		{ RULE("when: [ { key: source.ip, values: [ 10.7.0.1 ] } ]"), "x", "bob", 80, OK },
		{ RULE("when: [ { key: source.ip, notValues: [ 10.7.0.1 ] } ]"), "x", "bob", 80, NO },
		{ RULE("when: [ { key: remote.ip, values: [ 10.7.0.0/24 ] } ]"), "x", "bob", 80, OK },
		{ RULE("when: [ { key: destination.ip, values: [ 10.0.0.1 ] } ]"), "x", "bob", 80, OK },
		{ RULE("when: [ { key: destination.ip, values: [ 10.0.0.2 ] } ]"), "x", "bob", 80, NO },
		{ RULE("when: [ { key: destination.port, values: [ \"80\" ] } ]"), "x", "bob", 80, OK },
		{ RULE("when: [ { key: source.namespace, values: [ x ] } ]"), "x", "bob", 80, OK },
		{ RULE("when: [ { key: source.namespace, notValues: [ x ] } ]"), "x", "bob", 80, NO },
		{ RULE("when: [ { key: source.principal, values: [ \"*/sa/bob\" ] } ]"), "x", "bob", 80, OK },
		{ RULE("when: [ { key: connection.sni, values: [ a ] } ]"), "x", "bob", 80, NO },
	};

	world_set(&w, base);
	rows_check(rows, sizeof(rows) / sizeof(rows[0]));
}

static void test_two_conditions_on_one_attribute_must_both_hold(void **state)
{
	(void)state;
	static const struct row rows[] = {
		{ RULE("from: [ { source: { namespaces: [ x, \"q*\" ] } } ]\n    when: [ { key: source.namespace, "
		       "values: [ \"*2\" "
		       "] } ]"),
		  "x", "bob", 80, NO },
		{ RULE("from: [ { source: { namespaces: [ x, x2 ] } } ]\n    when: [ { key: source.namespace, values: "
		       "[ \"*2\" ] } "
		       "]"),
		  "x2", "bob", 80, OK },
		{ RULE("from: [ { source: { namespaces: [ x, x2 ] } } ]\n    when: [ { key: source.namespace, values: "
		       "[ \"*2\" ] } "
		       "]"),
		  "x", "bob", 80, NO },
		{ RULE("to: [ { operation: { ports: [ \"80\", \"81\" ] } } ]\n    when: [ { key: destination.port, "
		       "values: [ "
		       "\"81\", \"82\" ] } ]"),
		  "x", "bob", 81, OK },
		{ RULE("to: [ { operation: { ports: [ \"80\", \"81\" ] } } ]\n    when: [ { key: destination.port, "
		       "values: [ "
		       "\"81\", \"82\" ] } ]"),
		  "x", "bob", 80, NO },
		{ RULE("to: [ { operation: { ports: [ \"80\" ] } } ]\n    when: [ { key: destination.port, values: [ "
		       "\"82\" ] } ]"),
		  "x", "bob", 80, NO },
		{ RULE("from: [ { source: { ipBlocks: [ 10.0.0.0/8 ] } } ]\n    when: [ { key: source.ip, values: [ "
		       "10.7.0.0/16 ] } "
		       "]"),
		  "x", "bob", 80, OK },
		{ RULE("from: [ { source: { ipBlocks: [ 10.0.0.0/8 ] } } ]\n    when: [ { key: source.ip, values: [ "
		       "11.0.0.0/8 ] } ]"),
		  "x", "bob", 80, NO },
		/* a prefix and a suffix can't be joined: an ALLOW allows less, a DENY denies more */
		{ RULE("from: [ { source: { namespaces: [ \"x*\" ] } } ]\n    when: [ { key: source.namespace, values: "
		       "[ \"*2\" ] } ]"),
		  "x2", "bob", 80, NO },
		{ DENY("from: [ { source: { namespaces: [ \"x*\" ] } } ]\n    when: [ { key: source.namespace, values: "
		       "[ \"*2\" ] } ]"),
		  "x2", "bob", 80, DENIED },
	};

	world_set(&w, base);
	rows_check(rows, sizeof(rows) / sizeof(rows[0]));
	assert_true(world_finds(&w, "AuthorizationPolicy/shop/p", "denies more"));
}

static void test_deny_custom_audit_and_dry_run(void **state)
{
	(void)state;
	static const struct row rows[] = {
		{ DENY("from: [ { source: { notNamespaces: [ x ] } } ]"), "x", "bob", 80, OK },
		{ DENY("from: [ { source: { notNamespaces: [ x ] } } ]"), "x", NULL, 80, DENIED },
		{ DENY("to: [ { operation: { methods: [ POST ] } } ]"), "x", "bob", 80, DENIED },
		{ DENY("to: [ { operation: { methods: [ POST ], ports: [ \"81\" ] } } ]"), "x", "bob", 80, OK },
		{ RULE("to: [ { operation: { methods: [ POST ] } } ]"), "x", "bob", 80, NO },
		{ RULE("from: [ { source: { requestPrincipals: [ \"*\" ] } } ]"), "x", "bob", 80, NO },
		{ AUTHZ("p", "shop", "  action: AUDIT\n  rules: [ {} ]"), "x", "bob", 80, OK },
		{ AUTHZ("p", "shop",
			"  action: CUSTOM\n  provider: { name: ext }\n  rules:\n  - to: [ { operation: { ports: [ "
			"\"80\" ] } } "
			"]"),
		  "x", "bob", 80, DENIED },
		{ AUTHZ("p", "shop",
			"  action: CUSTOM\n  provider: { name: ext }\n  rules:\n  - to: [ { operation: { ports: [ "
			"\"80\" ] } } "
			"]"),
		  "x", "bob", 81, OK },
		{ "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: p, namespace: shop, "
		  "annotations: { "
		  "istio.io/dry-run: \"true\" } }\nspec: { action: ALLOW, rules: [ { to: [ { operation: { ports: [ "
		  "\"1\" ] } } ] } ] }\n",
		  "x", "bob", 80, OK },
	};

	world_set(&w, base);
	rows_check(rows, sizeof(rows) / sizeof(rows[0]));
}

static void test_policies_of_root_and_selectors(void **state)
{
	(void)state;
	static const struct row rows[] = {
		{ AUTHZ("p", "istio-system", "  action: DENY\n  rules: [ {} ]"), "x", "bob", 80, DENIED },
		{ AUTHZ("p", "istio-system",
			"  selector: { matchLabels: { app: a } }\n  action: DENY\n  rules: [ {} ]"),
		  "x", "bob", 80, DENIED },
		{ AUTHZ("p", "istio-system",
			"  selector: { matchLabels: { app: b } }\n  action: DENY\n  rules: [ {} ]"),
		  "x", "bob", 80, OK },
		{ AUTHZ("p", "other", "  action: DENY\n  rules: [ {} ]"), "x", "bob", 80, OK },
		{ AUTHZ("p", "shop",
			"  selector: { matchLabels: { app: a, tier: back } }\n  action: DENY\n  rules: [ {} ]"),
		  "x", "bob", 80, OK },
		{ AUTHZ("p", "shop",
			"  selector: { matchLabels: { app: a, tier: front } }\n  action: DENY\n  rules: [ {} ]"),
		  "x", "y", 80, DENIED },
	};

	world_set(&w, base);
	rows_check(rows, sizeof(rows) / sizeof(rows[0]));
}

static void test_target_ref_is_the_workloads_behind_the_service(void **state)
{
	(void)state;
	world_set(&w, base);
	world_with(&w,
		   AUTHZ("p", "shop",
			 "  targetRefs: [ { kind: Service, group: \"\", name: a } ]\n  action: DENY\n  rules: [ {} ]"));
	assert_int_equal(policy_of()->rule_count, 0);
	assert_true(world_finds(&w, "AuthorizationPolicy/shop/p", "there is no Service a"));
	world_with(&w, "apiVersion: v1\nkind: Service\nmetadata: { name: a, namespace: shop }\n"
		       "spec: { clusterIPs: [ 10.60.0.1 ], selector: { app: a }, ports: [ { port: 80 } ] }\n");
	assert_int_equal(policy_of()->rule_count, 1);
}

static void test_trust_domain_aliases_stand_for_each_other(void **state)
{
	(void)state;
	static const struct {
		const char *principal, *want;
	} rows[] = {
		{ "cluster.local/ns/x/sa/bob", "td1/ns/x/sa/bob old/ns/x/sa/bob" }, /* a pointer to the mesh's own */
		{ "td1/ns/x/sa/bob", "td1/ns/x/sa/bob old/ns/x/sa/bob" },
		{ "old/ns/x/sa/bob", "td1/ns/x/sa/bob old/ns/x/sa/bob" },
		{ "foreign/ns/x/sa/bob", "foreign/ns/x/sa/bob" },
		{ "*/ns/x/sa/bob", "/ns/x/sa/bob" },
		{ "*d1/ns/x/sa/bob", "d1/ns/x/sa/bob old/ns/x/sa/bob" },
		{ "*/sa/bob", "/sa/bob" },
	};

	world_set(&w, base);
	world_set(&w, "trustDomain: td1\ntrustDomainAliases: [ old ]\n");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char yaml[512], got[512] = "";
		snprintf(yaml, sizeof(yaml), RULE("from: [ { source: { principals: [ \"%s\" ] } } ]"),
			 rows[i].principal);
		world_with(&w, yaml);
		const struct match_strings *m = &policy_of()->rules[0].matches[0].principals;
		for (size_t k = 0; k < m->n; k++)
			snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s%s", k ? " " : "", m->v[k].text);
		assert_string_equal(got, rows[i].want);
	}
}

static void test_equal_policy_keeps_its_pointer_and_moved_rule_its_id(void **state)
{
	(void)state;
	world_set(&w, base);
	world_with(&w, RULE("from: [ { source: { namespaces: [ x ] } } ]"));
	const struct policy *first = policy_of();
	uint64_t id = first->id; /* it is freed with the plans that have it */
	world_with(&w, PEER("other", "elsewhere", "mtls: { mode: STRICT }"));
	assert_ptr_equal(policy_of(), first);
	world_with(&w, "# a line more\n\n" RULE("from: [ { source: { namespaces: [ x ] } } ]"));
	assert_int_equal(policy_of()->id, id); /* the kernel has nothing to do */
	assert_string_equal(policy_of()->rules[0].origin, "test-mesh.yaml:8");
	world_with(&w, RULE("from: [ { source: { namespaces: [ z ] } } ]"));
	assert_true(policy_of()->id != id);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_CASE(test_peer_levels_override_each_other),
		WORLD_CASE(test_two_peer_authentications_on_one_selector_are_found),
		WORLD_CASE(test_authorization_from_to_and_when),
		WORLD_CASE(test_two_conditions_on_one_attribute_must_both_hold),
		WORLD_CASE(test_deny_custom_audit_and_dry_run),
		WORLD_CASE(test_policies_of_root_and_selectors),
		WORLD_CASE(test_target_ref_is_the_workloads_behind_the_service),
		WORLD_CASE(test_trust_domain_aliases_stand_for_each_other),
		WORLD_CASE(test_equal_policy_keeps_its_pointer_and_moved_rule_its_id),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
