/* SPDX-License-Identifier: Apache-2.0 */
/* DestinationRules for some callers: namespaces, exportTo, workloadSelector, and several for one host. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "tests/unit/compile/http_world.h"

static struct world w;

#define FQDN "s.shop.svc.cluster.local"
#define POD(name, ns, addr, labels, more)                                                                              \
	"apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: { name: " name ", namespace: " ns          \
	", annotations: { weft.dev/netns: " name " } }\nspec: { address: " addr ", labels: { " labels " }" more        \
	" }\n---\n"
#define RULE(name, ns, host, spec)                                                                                     \
	"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: " name ", namespace: " ns        \
	" }\nspec: { host: " host ", " spec " }\n---\n"
#define POOL(n) "trafficPolicy: { connectionPool: { http: { maxRetries: " n " } } }"
#define SUBSET(name, label) "{ name: " name ", labels: { v: " label " } }"

static const char town[] =
	"apiVersion: v1\nkind: Namespace\nmetadata: { name: shop, labels: { istio.io/dataplane-mode: ambient } }\n---\n"
	"apiVersion: v1\nkind: Service\nmetadata: { name: s, namespace: shop }\nspec: { clusterIPs: [ 10.60.0.1 ], "
	"selector: { app: s }, ports: [ { name: http, port: 80 }, { name: tcp, port: 81 }, { name: x, port: 82 } ] "
	"}\n---\n" POD("s1", "shop", "10.0.0.1", "app: s, v: a", ", locality: east/a")
		POD("s2", "shop", "10.0.0.2", "app: s, v: b", ", locality: west/a")
			POD("own", "shop", "10.0.0.3", "app: own", "") POD("red", "team", "10.0.0.4", "app: red", "")
				POD("blue", "team", "10.0.0.5", "app: blue", "")
					POD("far", "other", "10.0.0.6", "app: far", "")
						POD("boss", "istio-system", "10.0.0.7", "app: boss", "");

static struct world_fixture fixture = { &w, town };

/* The cluster that a caller's plain call goes to. */
static struct http_cluster *called_by(const char *caller)
{
	struct l7_target *t = http_target(&w, caller, "10.60.0.1:80", NULL);
	struct http_cluster *c = http_cluster(&w, t->default_cluster);

	l7_target_unref(t);
	return c;
}

/* What maxRetries a caller's calls are under, which says which rule counts; 0: none. */
static unsigned int rule_of(const char *caller)
{
	struct http_cluster *c = called_by(caller);
	unsigned int n = c->max_retries;

	http_cluster_unref(c);
	return n;
}

#define assert_rules(own, red, blue, far, boss)                                                                        \
	do {                                                                                                           \
		assert_int_equal(rule_of("shop/own"), own);                                                            \
		assert_int_equal(rule_of("team/red"), red);                                                            \
		assert_int_equal(rule_of("team/blue"), blue);                                                          \
		assert_int_equal(rule_of("other/far"), far);                                                           \
		assert_int_equal(rule_of("istio-system/boss"), boss);                                                  \
	} while (0)

/* Each step adds a rule or takes one away; what was asked before must not stick. */
static void test_callers_namespace_comes_first(void **state)
{
	(void)state;
	assert_rules(0, 0, 0, 0, 0);
	world_with(&w, RULE("root", "istio-system", "\"*.local\"", POOL("1")));
	assert_rules(1, 1, 1, 1, 1);
	world_with(&w, RULE("r", "shop", "s", POOL("2")));
	assert_rules(2, 2, 2, 2, 2); /* of the root's own callers too */
	world_with(&w, RULE("mine", "team", FQDN, POOL("3")));
	assert_rules(2, 3, 3, 2, 2);
	world_with(&w, RULE("wide", "team", "\"*.shop.svc.cluster.local\"", POOL("4")));
	assert_rules(2, 3, 3, 2, 2);
	world_delete(&w, "DestinationRule/team/mine");
	world_compile(&w);
	assert_rules(2, 4, 4, 2, 2);
	world_with(&w, RULE("wide", "team", "\"*.shop.svc.cluster.local\"", POOL("5")));
	assert_rules(2, 5, 5, 2, 2);
	world_with(&w, RULE("wide", "team", "nobody.else", POOL("5")));
	assert_rules(2, 2, 2, 2, 2);
	assert_int_equal(world_port(&w, "shop", FQDN, 80)->endpoint_count, 2);
}

static void test_export_decides_who_sees_a_rule(void **state)
{
	(void)state;
	world_with(&w, RULE("root", "istio-system", "\"*\"", POOL("1") ", exportTo: [ \".\", team ]")
			       RULE("r", "shop", "s", POOL("2") ", exportTo: [ \".\" ]"));
	assert_rules(2, 1, 1, 0, 1);
	world_with(&w, RULE("r", "shop", "s", POOL("2") ", exportTo: [ other ]"));
	assert_rules(0, 1, 1, 2, 1);
	world_with(&w, RULE("r", "shop", "s", POOL("2") ", exportTo: [ \"*\" ]"));
	assert_rules(2, 2, 2, 2, 2);
	/* A rule of the root namespace for itself alone comes before those of the service. */
	world_with(&w, RULE("root", "istio-system", "\"*\"", POOL("1") ", exportTo: [ \".\" ]"));
	assert_rules(2, 2, 2, 2, 1);
	/* What no exportTo means is the mesh's to say. */
	world_delete(&w, "DestinationRule/istio-system/root");
	world_with(&w, RULE("r", "shop", "s", POOL("2")));
	assert_rules(2, 2, 2, 2, 2);
	world_with(&w, "defaultDestinationRuleExportTo: [ \".\" ]\n");
	assert_rules(2, 0, 0, 0, 0);
}

static void test_selectors_choose_callers(void **state)
{
	(void)state;
	world_with(&w,
		   RULE("r", "shop", "s", POOL("2"))
			   RULE("red", "team", FQDN, POOL("3") ", workloadSelector: { matchLabels: { app: red } }"));
	assert_rules(2, 3, 2, 2, 2);
	/* Of another namespace than the callers': without effect, whatever it says of exporting. */
	world_with(&w, RULE("red", "shop", "s",
			    POOL("4") ", exportTo: [ \"*\" ], workloadSelector: { matchLabels: { app: blue } }"));
	assert_rules(2, 3, 2, 2, 2);
	world_with(&w, RULE("general", "team", FQDN, POOL("5")));
	assert_rules(2, 3, 5, 2, 2);
	/* A caller whose labels become others. */
	world_with(&w, POD("blue", "team", "10.0.0.5", "app: red", ""));
	assert_rules(2, 3, 3, 2, 2);
	world_delete(&w, "DestinationRule/team/red");
	world_compile(&w);
	assert_rules(2, 5, 5, 2, 2);
}

static void test_callers_of_the_same_rules_share_a_cluster(void **state)
{
	(void)state;
	world_with(&w, RULE("red", "team", FQDN, POOL("3") ", workloadSelector: { matchLabels: { app: red } }")
			       RULE("r", "shop", "s", POOL("2") ", exportTo: [ \".\", team ]"));
	struct http_cluster *own = called_by("shop/own"), *blue = called_by("team/blue"), *red = called_by("team/red"),
			    *far = called_by("other/far");
	assert_ptr_equal(own, blue);
	assert_string_equal(own->name, "outbound|80||" FQDN);
	assert_string_equal(red->name, "outbound|80|@team/red|" FQDN);
	assert_string_equal(http_cluster_shown(red), "outbound|80||" FQDN);
	assert_string_equal(far->name, "outbound|80|@|" FQDN);
	assert_true(own->id != red->id && own->id != far->id && red->id != far->id);
	assert_int_equal(far->max_retries, 0);
	/* Rules of others leave the id alone. */
	world_with(&w, RULE("red", "team", FQDN, POOL("9") ", workloadSelector: { matchLabels: { app: red } }"));
	struct http_cluster *again = called_by("shop/own"), *other = called_by("team/red");
	assert_true(again->id == own->id);
	assert_true(other->id != red->id);
	http_cluster_unref(again);
	http_cluster_unref(other);
	/* A name that outlives its rule: what all callers have, until the caller is told. */
	world_delete(&w, "DestinationRule/team/red");
	world_compile(&w);
	again = http_cluster(&w, "outbound|80|@team/red|" FQDN);
	assert_int_equal(again->max_retries, 2);
	http_cluster_unref(again);
	http_cluster_unref(own);
	http_cluster_unref(blue);
	http_cluster_unref(red);
	http_cluster_unref(far);
}

static void test_several_rules_for_one_host_are_merged(void **state)
{
	(void)state;
	world_with(&w, RULE("b", "shop", "s", POOL("2") ", subsets: [ " SUBSET("x", "b") ", " SUBSET("k", "b") " ]")
			       RULE("a", "shop", FQDN, "subsets: [ " SUBSET("x", "a") " ]")
				       RULE("c", "shop", "s", POOL("7")));
	struct http_cluster *x = http_cluster(&w, "outbound|80|x|" FQDN), *k = http_cluster(&w, "outbound|80|k|" FQDN);
	assert_string_equal(http_endpoints_of(x), "10.0.0.1:80 p0 w1"); /* of a, which is first */
	assert_string_equal(http_endpoints_of(k), "10.0.0.2:80 p0 w1");
	assert_int_equal(x->max_retries, 2); /* of b, as a says nothing */
	assert_int_equal(k->max_retries, 2);
	http_cluster_unref(x);
	http_cluster_unref(k);
	assert_true(world_finds(&w, "DestinationRule/shop/b", "subset x is ignored: DestinationRule/shop/a"));
	assert_false(world_finds(&w, "DestinationRule/shop/b", "trafficPolicy is ignored"));
	/* For a caller with a selector's rule, that one comes before the rest. */
	world_with(&w,
		   RULE("z", "shop", "s",
			POOL("8") ", subsets: [ " SUBSET("x", "b") " ], workloadSelector: { matchLabels: { app: own "
								   "} }"));
	assert_int_equal(rule_of("shop/own"), 8);
	assert_int_equal(rule_of("other/far"), 2);
	x = http_cluster(&w, "outbound|80|x@shop/z,a,b,c|" FQDN);
	assert_string_equal(http_endpoints_of(x), "10.0.0.2:80 p0 w1");
	http_cluster_unref(x);
}

/* A VirtualService's subsets are those of the caller's rules, and so is the order of localities. */
static void test_subsets_and_localities_are_the_callers(void **state)
{
	(void)state;
	w.in.locality = "west/a";
	world_with(&w,
		   "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: v, namespace: shop }\n"
		   "spec: { hosts: [ s ], http: [ { name: r, route: [ { destination: { host: s, subset: x } } ] } ] "
		   "}\n---\n" RULE("r", "shop", "s", "subsets: [ " SUBSET("x", "a") " ]")
			   RULE("t", "team", FQDN,
				"trafficPolicy: { outlierDetection: {} }, subsets: [ { name: x }, { name: z, "
				"trafficPolicy: { loadBalancer: { localityLbSetting: { distribute: [ { from: "
				"west/*, to: { east/*: 100 } } ] } } } } ]"));
	struct l7_target *own = http_target(&w, "shop/own", "10.60.0.1:80", NULL),
			 *red = http_target(&w, "team/red", "10.60.0.1:80", NULL);
	assert_string_equal(http_clusters_of(http_route_named(own, "r")), "outbound|80|x|" FQDN " 1");
	assert_string_equal(http_clusters_of(http_route_named(red, "r")), "outbound|80|x@team/t|" FQDN " 1");
	assert_true(own->id != red->id);
	struct http_cluster *c = http_cluster(&w, "outbound|80|x|" FQDN);
	assert_string_equal(http_endpoints_of(c), "10.0.0.1:80 p0 w1");
	http_cluster_unref(c);
	c = http_cluster(&w, "outbound|80|x@team/t|" FQDN); /* with outlier detection the near come first */
	assert_string_equal(http_endpoints_of(c), "10.0.0.2:80 p0 w1, 10.0.0.1:80 p1 w1");
	http_cluster_unref(c);
	c = http_cluster(&w, "outbound|80|z@team/t|" FQDN);
	assert_int_equal(c->endpoint_count, 1);
	assert_int_equal(c->endpoints[0].addr.addr.b[15], 1);
	http_cluster_unref(c);
	l7_target_unref(own);
	l7_target_unref(red);
	/* The kernel's tables are as they were. */
	assert_string_equal(world_slots(world_port(&w, "shop", FQDN, 80), false), "10.0.0.1:80 10.0.0.2:80");
}

/* What one caller's rule asks of bytes brings all callers' connections to the helper. */
static void test_rules_of_others_reach_ports(void **state)
{
	(void)state;
	assert_int_equal(world_port(&w, "shop", FQDN, 81)->l7, L7_NONE);
	world_with(&w, RULE("t", "team", FQDN, POOL("3")));
	assert_int_equal(world_port(&w, "shop", FQDN, 81)->l7, L7_NONE);
	assert_int_equal(world_port(&w, "shop", FQDN, 82)->l7, L7_SNIFF);
	assert_true(world_finds(&w, "DestinationRule/team/t",
				"is for some callers only: on connections to " FQDN " port 81"));
	world_with(&w, RULE("t", "team", FQDN, "trafficPolicy: { tls: { mode: SIMPLE } }"));
	assert_int_equal(world_port(&w, "shop", FQDN, 81)->l7, L7_TCP);
	struct l7_target *red = http_target(&w, "team/red", "10.60.0.1:81", NULL),
			 *own = http_target(&w, "shop/own", "10.60.0.1:81", NULL);
	struct http_cluster *c = http_cluster(&w, red->default_cluster);
	assert_int_equal(c->tls, CLUSTER_TLS_SIMPLE);
	http_cluster_unref(c);
	c = http_cluster(&w, own->default_cluster);
	assert_int_equal(c->tls, CLUSTER_TLS_AUTO);
	http_cluster_unref(c);
	l7_target_unref(red);
	l7_target_unref(own);
	world_delete(&w, "DestinationRule/team/t");
	world_compile(&w);
	assert_int_equal(world_port(&w, "shop", FQDN, 81)->l7, L7_NONE);
	assert_int_equal(world_port(&w, "shop", FQDN, 82)->l7, L7_NONE);
}

/* failoverPriority compares labels of the caller with those of endpoints: of each caller its own. */
static void test_failover_priority_is_the_callers(void **state)
{
	(void)state;
	world_with(&w, POD("own", "shop", "10.0.0.3", "app: own, v: a", "") POD("red", "team", "10.0.0.4",
										"app: red, v: b", "")
			       RULE("r", "shop", "s",
				    "trafficPolicy: { outlierDetection: {}, loadBalancer: { localityLbSetting: { "
				    "failoverPriority: [ v ] } } }"));
	struct http_cluster *own = called_by("shop/own"), *red = called_by("team/red"), *far = called_by("other/far");
	assert_string_equal(own->name, "outbound|80|@*;v=a|" FQDN);
	assert_string_equal(http_cluster_shown(own), "outbound|80||" FQDN);
	assert_string_equal(http_endpoints_of(own), "10.0.0.1:80 p0 w1, 10.0.0.2:80 p1 w1");
	assert_string_equal(http_endpoints_of(red), "10.0.0.2:80 p0 w1, 10.0.0.1:80 p1 w1");
	assert_string_equal(far->name, "outbound|80||" FQDN);
	assert_string_equal(http_endpoints_of(far), "10.0.0.1:80 p0 w1, 10.0.0.2:80 p0 w1");
	http_cluster_unref(own);
	http_cluster_unref(red);
	http_cluster_unref(far);
	world_with(&w, RULE("mine", "team", FQDN,
			    "trafficPolicy: { outlierDetection: {}, loadBalancer: { localityLbSetting: { "
			    "failoverPriority: [ v ] } } }"));
	red = called_by("team/red");
	assert_string_equal(red->name, "outbound|80|@team/mine;v=b|" FQDN);
	assert_string_equal(http_endpoints_of(red), "10.0.0.2:80 p0 w1, 10.0.0.1:80 p1 w1");
	http_cluster_unref(red);
}

static void test_findings(void **state)
{
	(void)state;
	world_with(&w, RULE("a", "team", FQDN, POOL("1") ", workloadSelector: { matchLabels: { app: nobody } }")
			       RULE("b", "shop", "s", POOL("1") ", exportTo: [ team ]")
				       RULE("c", "shop", FQDN, POOL("1")) RULE("d", "team", "s", POOL("1")));
	assert_true(world_finds(&w, "DestinationRule/team/a", "selects no workload of namespace team"));
	assert_true(world_finds(&w, "DestinationRule/shop/b", "exportTo decides for requests"));
	assert_false(world_finds(&w, "DestinationRule/shop/c", "exportTo"));
	assert_true(world_finds(&w, "DestinationRule/shop/c", "trafficPolicy is ignored: DestinationRule/shop/b"));
	assert_true(world_finds(&w, "DestinationRule/team/d", "there is no such service (a short name"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_CASE(test_callers_namespace_comes_first),
		WORLD_CASE(test_export_decides_who_sees_a_rule),
		WORLD_CASE(test_selectors_choose_callers),
		WORLD_CASE(test_callers_of_the_same_rules_share_a_cluster),
		WORLD_CASE(test_several_rules_for_one_host_are_merged),
		WORLD_CASE(test_subsets_and_localities_are_the_callers),
		WORLD_CASE(test_rules_of_others_reach_ports),
		WORLD_CASE(test_failover_priority_is_the_callers),
		WORLD_CASE(test_findings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
