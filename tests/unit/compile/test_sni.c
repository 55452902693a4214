/* SPDX-License-Identifier: Apache-2.0 */
/* connection.sni: what policies make of TLS server names, and which ports are looked at for them. */
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "agent/model/policy.h"
#include "agent/model/service.h"
#include "tests/unit/compile/world.h"

static struct world w;

static const char town[] =
	"apiVersion: v1\nkind: Namespace\nmetadata: { name: shop, labels: { istio.io/dataplane-mode: ambient } }\n---\n"
	"apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n"
	"metadata: { name: a, namespace: shop, annotations: { weft.dev/netns: x } }\n"
	"spec: { address: 10.0.0.1, labels: { app: a } }\n---\n"
	"apiVersion: v1\nkind: Service\nmetadata: { name: a, namespace: shop }\nspec: { clusterIPs: [ 10.60.0.1 ], "
	"selector: "
	"{ app: a }, ports: [ { name: https, port: 443, targetPort: 8443 }, { name: tcp-db, port: 5432 }, { name: "
	"http, "
	"port: 80 }, { name: any, port: 81 } ] }\n---\n";

#define POLICY(action, rules)                                                                                          \
	"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: p, namespace: shop }\n"        \
	"spec: { action: " action ", rules: [ " rules " ] }\n"
#define WHEN(condition) "{ when: [ { key: connection.sni, " condition " } ] }"

static int on_setup(void **state)
{
	(void)state;
	world_init(&w, "n1");
	world_with(&w, town);
	return 0;
}

static int on_teardown(void **state)
{
	(void)state;
	world_done(&w);
	return 0;
}

static enum drop_reason judge(uint16_t port, const char *sni)
{
	struct policy_input in = { .port = port, .proto = IPPROTO_TCP, .sni = sni };
	struct policy_verdict v;
	policy_eval(world_workload(&w, "shop/a")->policy, &in, &v);
	return v.reason;
}

enum { OK = DROP_NONE, DENY = DROP_POLICY_DENY, NONE = DROP_POLICY_NO_ALLOW };

/* NULL: not known; "": there is none, which has no value. */
static void test_names_are_judged(void **state)
{
	(void)state;
	static const struct {
		const char *yaml, *sni;
		int reason;
	} rows[] = {
		{ POLICY("ALLOW", WHEN("values: [ a.example ]")), "a.example", OK },
		{ POLICY("ALLOW", WHEN("values: [ A.example ]")), "a.example", OK },
		{ POLICY("ALLOW", WHEN("values: [ a.example ]")), "b.a.example", NONE },
		{ POLICY("ALLOW", WHEN("values: [ a.example ]")), "", NONE },
		{ POLICY("ALLOW", WHEN("values: [ a.example ]")), NULL, NONE },
		{ POLICY("ALLOW", WHEN("values: [ '*.example' ]")), "b.a.example", OK },
		{ POLICY("ALLOW", WHEN("values: [ '*.example' ]")), "a.other", NONE },
		{ POLICY("ALLOW", WHEN("values: [ 'api*' ]")), "api.example", OK },
		{ POLICY("ALLOW", WHEN("values: [ 'api*' ]")), "www.example", NONE },
		{ POLICY("ALLOW", WHEN("values: [ '*' ]")), "www.example", OK },
		{ POLICY("ALLOW", WHEN("values: [ '*' ]")), "", NONE },
		{ POLICY("ALLOW", WHEN("values: [ '*' ]")), NULL, NONE },
		{ POLICY("ALLOW", WHEN("notValues: [ a.example ]")), "a.example", NONE },
		{ POLICY("ALLOW", WHEN("notValues: [ a.example ]")), "b.example", OK },
		{ POLICY("ALLOW", WHEN("notValues: [ a.example ]")), "", OK },
		{ POLICY("ALLOW", WHEN("notValues: [ a.example ]")), NULL, NONE },
		{ POLICY("DENY", WHEN("values: [ a.example ]")), "a.example", DENY },
		{ POLICY("DENY", WHEN("values: [ a.example ]")), "b.example", OK },
		{ POLICY("DENY", WHEN("values: [ a.example ]")), "", OK },
		{ POLICY("DENY", WHEN("values: [ a.example ]")), NULL, DENY },
		{ POLICY("DENY", WHEN("notValues: [ '*.example' ]")), "a.example", OK },
		{ POLICY("DENY", WHEN("notValues: [ '*.example' ]")), "a.other", DENY },
		{ POLICY("DENY", WHEN("notValues: [ '*.example' ]")), "", DENY },
		{ POLICY("CUSTOM, provider: { name: x }", WHEN("values: [ a.example ]")), "a.example", DENY },
		{ POLICY("CUSTOM, provider: { name: x }", WHEN("values: [ a.example ]")), "b.example", OK },
		/* What only a request has is not known of a connection, whatever its name. */
		{ POLICY("ALLOW", "{ to: [ { operation: { methods: [ GET ] } } ], when: [ { key: connection.sni, "
				  "values: [ a.example ] } ] }"),
		  "a.example", NONE },
		{ POLICY("ALLOW", "{ when: [ { key: connection.sni, values: [ a.example ] }, { key: "
				  "'request.headers[x]', values: [ word ] } ] }"),
		  "a.example", NONE },
		{ POLICY("DENY", "{ to: [ { operation: { methods: [ GET ] } } ], when: [ { key: connection.sni, "
				 "values: [ a.example ] } ] }"),
		  "a.example", DENY },
		{ POLICY("DENY", "{ to: [ { operation: { methods: [ GET ] } } ], when: [ { key: connection.sni, "
				 "values: [ a.example ] } ] }"),
		  "b.example", OK },
		/* The rest of a rule must hold, too. */
		{ POLICY("ALLOW", "{ to: [ { operation: { ports: [ '8443' ] } } ], when: [ { key: connection.sni, "
				  "values: [ a.example ] } ] }"),
		  "a.example", OK },
		{ POLICY("ALLOW", "{ to: [ { operation: { ports: [ '8444' ] } } ], when: [ { key: connection.sni, "
				  "values: [ a.example ] } ] }"),
		  "a.example", NONE },
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		world_with(&w, rows[i].yaml);
		enum drop_reason reason = judge(8443, rows[i].sni);
		if ((int)reason != rows[i].reason)
			fail_msg("%zu: %s: %d\n%s", i, rows[i].sni ? rows[i].sni : "(not known)", reason, rows[i].yaml);
	}
}

/* "8443 5432": ports that are looked at for a name. */
static const char *named_ports(void)
{
	const struct workload *a = world_workload(&w, "shop/a");
	static char text[64];
	text[0] = '\0';
	for (size_t i = 0; i < a->l7_port_count; i++)
		if (a->l7_ports[i].sni)
			snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%u", *text ? " " : "",
				 a->l7_ports[i].port);
	return text;
}

static void test_ports_are_looked_at_where_a_rule_asks(void **state)
{
	(void)state;
	assert_int_equal(world_workload(&w, "shop/a")->l7_port_count, 0);
	world_with(&w, POLICY("DENY", WHEN("values: [ x ]")));
	assert_true(world_workload(&w, "shop/a")->l7_other_ports);
	assert_string_equal(named_ports(), "5432 8443"); /* those of HTTP, and undeclared ones, are looked at anyway */
	world_with(&w, POLICY("DENY", "{ to: [ { operation: { ports: [ '8443', '80' ] } } ], when: [ { key: "
				      "connection.sni, values: [ x ] } ] }"));
	assert_string_equal(named_ports(), "8443");
	world_with(&w, POLICY("DENY", "{ to: [ { operation: { notPorts: [ '8443' ] } } ], when: [ { key: "
				      "connection.sni, values: [ x ] } ] }"));
	assert_string_equal(named_ports(), "5432");
	world_with(&w, POLICY("DENY", "{ to: [ { operation: { methods: [ GET ] } } ] }"));
	assert_string_equal(named_ports(), "");
	assert_true(world_finds(&w, "AuthorizationPolicy/shop/p", "not looked at on TCP"));
	world_with(&w, POLICY("DENY", WHEN("values: [ x ]")));
	assert_false(world_finds(&w, "AuthorizationPolicy/shop/p", "not looked at on TCP"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, on_setup, on_teardown)
		T(test_names_are_judged),
		T(test_ports_are_looked_at_where_a_rule_asks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
