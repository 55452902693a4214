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
#include "agent/model/l7.h"
#include "agent/model/plan.h"

static struct plan *plan;

static struct workload *workload_add(const char *uid, const char *addr)
{
	struct workload *w = workload_new();

	w->uid = strdup(uid);
	w->addrs = calloc(1, sizeof(*w->addrs));
	w->addr_count = 1;
	assert_int_equal(addr_parse(addr, w->addrs), 0);
	plan->workloads[plan->workload_count++] = w;
	return w;
}

static struct service *service_add(const char *ns, const char *host, const char *vip, uint16_t port, uint8_t proto)
{
	struct service *s = service_new();

	s->ns = strdup(ns);
	s->hostname = strdup(host);
	s->vips = calloc(1, sizeof(*s->vips));
	s->vip_count = 1;
	assert_int_equal(cidr_parse(vip, s->vips), 0);
	s->ports = calloc(1, sizeof(*s->ports));
	s->port_count = 1;
	s->ports[0].port = port;
	s->ports[0].proto = proto;
	plan->services[plan->service_count++] = s;
	plan->names[plan->name_count++] = (struct dns_name){ .name = strdup(host), .service = s };
	return s;
}

static int on_setup(void **state)
{
	(void)state;
	plan = plan_new();
	plan->services = calloc(16, sizeof(*plan->services));
	plan->workloads = calloc(16, sizeof(*plan->workloads));
	plan->names = calloc(16, sizeof(*plan->names));
	workload_add("shop/b", "10.0.0.2");
	workload_add("shop/a", "fd00::1");
	workload_add("shop/c", "10.0.0.2"); /* the same address: the first by uid has it */
	service_add("shop", "catalog.shop.svc.cluster.local", "10.60.0.1", 80, IPPROTO_TCP);
	service_add("shop", "dns.shop.svc.cluster.local", "10.60.0.1", 53, IPPROTO_UDP);
	service_add("shop", "wide.example", "10.0.0.0/8", 443, IPPROTO_TCP);
	service_add("shop", "narrow.example", "10.70.0.0/16", 443, IPPROTO_TCP);
	service_add("shop", "six.example", "fd60::/64", 443, IPPROTO_TCP);
	service_add("shop", "*.wild.example", "240.240.0.1", 443, IPPROTO_TCP);
	service_add("edge", "twice.example", "240.240.0.2", 443, IPPROTO_TCP);
	service_add("shop", "twice.example", "240.240.0.3", 443, IPPROTO_TCP);
	struct service *hidden = service_add("edge", "hidden.example", "240.240.0.4", 443, IPPROTO_TCP);
	hidden->export_to = calloc(1, sizeof(*hidden->export_to));
	hidden->export_to[0] = strdup("edge");
	hidden->export_to_count = 1;
	return plan_seal(plan);
}

static int on_teardown(void **state)
{
	(void)state;
	plan_unref(plan);
	return 0;
}

static void test_workloads_are_found_by_address_and_uid(void **state)
{
	(void)state;
	struct addr a;

	addr_parse("10.0.0.2", &a);
	assert_string_equal(plan_workload_by_addr(plan, &a)->uid, "shop/b");
	addr_parse("fd00::1", &a);
	assert_string_equal(plan_workload_by_addr(plan, &a)->uid, "shop/a");
	addr_parse("10.0.0.3", &a);
	assert_null(plan_workload_by_addr(plan, &a));
	assert_non_null(plan_workload_by_uid(plan, "shop/c"));
	assert_null(plan_workload_by_uid(plan, "shop/d"));
}

static void test_vip_lookup_prefers_the_address_then_the_longest_range(void **state)
{
	(void)state;
	static const struct {
		const char *addr;
		uint16_t port;
		uint8_t proto;
		const char *want; /* hostname's beginning, or NULL */
	} rows[] = {
		{ "10.60.0.1", 80, IPPROTO_TCP, "catalog" },
		{ "10.60.0.1", 53, IPPROTO_UDP, "dns" },
		{ "10.60.0.1", 53, IPPROTO_TCP, NULL },
		{ "10.60.0.1", 443, IPPROTO_TCP, "wide" },
		{ "10.70.1.1", 443, IPPROTO_TCP, "narrow" },
		{ "10.71.1.1", 443, IPPROTO_TCP, "wide" },
		{ "10.70.1.1", 80, IPPROTO_TCP, NULL },
		{ "11.0.0.1", 443, IPPROTO_TCP, NULL },
		{ "fd60::9", 443, IPPROTO_TCP, "six" },
		{ "fd61::9", 443, IPPROTO_TCP, NULL },
		{ "10.60.0.1", 0, 0, "dns" },
		{ "10.70.0.1", 0, 0, "narrow" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct addr a;
		assert_int_equal(addr_parse(rows[i].addr, &a), 0);
		const struct service *s = plan_service_by_vip(plan, &a, rows[i].port, rows[i].proto);
		if (!s != !rows[i].want || (s && !str_starts(s->hostname, rows[i].want)))
			fail_msg("%s:%u: %s", rows[i].addr, rows[i].port, s ? s->hostname : "none");
	}
}

static void endpoint_add(struct service *s, const char *at)
{
	struct service_port *port = &s->ports[0];
	struct addr_port a;

	assert_int_equal(addr_port_parse(at, &a), 0);
	if (!port->endpoints)
		port->endpoints = calloc(4, sizeof(*port->endpoints));
	assert_true(port->endpoint_count < 4);
	port->endpoints[port->endpoint_count++] = (struct endpoint){ .addr = a.addr, .port = a.port };
}

static void test_endpoints_of_services_without_address_are_found_where_they_are_http(void **state)
{
	(void)state;
	static const char *const hosts[] = { "b.ring.example", "a.ring.example", "tcp.ring.example", "normal.example" };
	struct addr a, b;

	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
		struct service *s = service_add("shop", hosts[i], "10.60.0.9", 80, IPPROTO_TCP);
		endpoint_add(s, i == 2 ? "10.0.0.9:8080" : "10.0.0.2:8080");
		endpoint_add(s, "[fd00::1]:8080");
		s->by_endpoint = i < 3;
		s->vip_count = s->by_endpoint ? 0 : 1;
		s->ports[0].l7 = i == 2 ? L7_NONE : L7_HTTP;
	}
	assert_int_equal(plan_seal(plan), 0);
	addr_parse("10.0.0.2", &a);
	addr_parse("fd00::1", &b);
	const struct plan_vip *vip = plan_vip_find(plan, &a, 8080, IPPROTO_TCP);
	assert_string_equal(vip->service->hostname, "a.ring.example"); /* of several the first */
	assert_int_equal(vip->service_port, 80);
	assert_true(vip->endpoint);
	assert_true(plan_vip_same_key(vip, vip + 1));
	assert_string_equal(vip[1].service->hostname, "b.ring.example");
	assert_false(plan_vip_same_key(vip, vip + 2));
	assert_ptr_equal(plan_service_by_vip(plan, &b, 8080, IPPROTO_TCP), vip->service);
	assert_null(plan_vip_find(plan, &a, 80, IPPROTO_TCP));
	assert_null(plan_vip_find(plan, &a, 8080, IPPROTO_UDP));
	addr_parse("10.0.0.9", &a);
	assert_null(plan_vip_find(plan, &a, 8080, IPPROTO_TCP));
	addr_parse("10.60.0.9", &a);
	vip = plan_vip_find(plan, &a, 80, IPPROTO_TCP);
	assert_false(vip->endpoint);
	assert_int_equal(vip->service_port, 80);
}

static void test_pods_of_headless_services_have_names(void **state)
{
	(void)state;
	static const struct label stateful[] = { { "statefulset.kubernetes.io/pod-name", "web-0" } };
	static const struct {
		const char *ns, *name;
		bool found;
	} rows[] = {
		{ NULL, "web-0.web.shop.svc.cluster.local", true },
		{ "shop", "Web-0.web.", true },
		{ "edge", "web-0.web.shop", true },
		{ "edge", "web-0.web", false },
		{ NULL, "pod.web.shop", false }, /* the label says another */
		{ NULL, "web-1.web.shop", false },
		{ NULL, "web-0.catalog.shop", false }, /* it has an address */
		{ NULL, "b.web.shop", true },	       /* by its name */
		{ NULL, "c.web.shop", false },	       /* not ready */
		{ NULL, "web-0", false },
		{ NULL, "web-0.", false },
		{ NULL, "", false },
	};
	struct service *s = service_add("shop", "web.shop.svc.cluster.local", "10.60.0.8", 80, IPPROTO_TCP);
	struct workload *w = workload_add("shop/pod", "10.0.0.7");

	w->name = strdup("pod");
	w->labels = calloc(1, sizeof(*w->labels));
	w->labels[0] = (struct label){ strdup(stateful[0].key), strdup(stateful[0].value) };
	w->label_count = 1;
	s->kind = SERVICE_HEADLESS;
	s->vip_count = 0;
	for (size_t i = 0; i < 3; i++) {
		endpoint_add(s, "10.0.0.7:80");
		s->ports[0].endpoints[i].healthy = i != 2;
		s->ports[0].endpoints[i].workload = i ? plan->workloads[i == 1 ? 0 : 2] : w;
	}
	plan->workloads[0]->name = strdup("b");
	plan->workloads[2]->name = strdup("c");
	assert_int_equal(plan_seal(plan), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (!plan_dns_pod_lookup(plan, rows[i].ns, rows[i].name) == rows[i].found)
			fail_msg("%s from %s", rows[i].name, rows[i].ns ? rows[i].ns : "-");
	assert_ptr_equal(plan_dns_pod_lookup(plan, "shop", "web-0.web"), w);
}

static void test_names_are_found_in_all_their_forms(void **state)
{
	(void)state;
	static const struct {
		const char *ns, *name, *want;
	} rows[] = {
		{ NULL, "catalog.shop.svc.cluster.local", "catalog" },
		{ NULL, "Catalog.SHOP.svc.cluster.local.", "catalog" },
		{ NULL, "catalog.shop.svc", "catalog" },
		{ NULL, "catalog.shop", "catalog" },
		{ "shop", "catalog", "catalog" },
		{ "edge", "catalog", NULL },
		{ NULL, "catalog", NULL },
		{ "edge", "catalog.shop", "catalog" },
		{ NULL, "a.wild.example", "*.wild" },
		{ NULL, "b.a.wild.example", "*.wild" },
		{ NULL, "wild.example", NULL },
		{ NULL, "*.wild.example", NULL },
		{ NULL, "", NULL },
		{ NULL, ".", NULL },
		{ NULL, "nowhere.example", NULL },
		{ "shop", "hidden.example", NULL },
		{ "edge", "hidden.example", "hidden" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct dns_name *n = plan_dns_lookup_from(plan, rows[i].ns, rows[i].name);
		if (!n != !rows[i].want || (n && !str_starts(n->name, rows[i].want)))
			fail_msg("%s from %s: %s", rows[i].name, rows[i].ns ? rows[i].ns : "-", n ? n->name : "none");
	}
}

static void test_one_host_of_two_namespaces_is_the_askers(void **state)
{
	(void)state;
	assert_string_equal(plan_dns_lookup_from(plan, "shop", "twice.example")->service->ns, "shop");
	assert_string_equal(plan_dns_lookup_from(plan, "edge", "twice.example")->service->ns, "edge");
	assert_string_equal(plan_dns_lookup_from(plan, "other", "twice.example")->service->ns, "edge");
	assert_string_equal(plan_dns_lookup(plan, "twice.example")->service->ns, "edge");
}

static void test_overlong_name_is_not_found(void **state)
{
	(void)state;
	char name[600];

	memset(name, 'a', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_null(plan_dns_lookup_from(plan, "shop", name));
	name[255] = '\0';
	assert_null(plan_dns_lookup_from(plan, "shop", name));
}

static void test_services_are_found_by_name_and_id(void **state)
{
	(void)state;
	plan->services[0]->id = 7;
	assert_ptr_equal(plan_service_by_id(plan, 7), plan->services[0]);
	assert_null(plan_service_by_id(plan, 8));
	assert_string_equal(plan_service_by_name(plan, "shop", "twice.example")->ns, "shop");
	assert_null(plan_service_by_name(plan, "nope", "twice.example"));
}

static void test_empty_plan_finds_nothing(void **state)
{
	(void)state;
	struct plan *empty = plan_new();
	struct addr a = { { 0 } };

	assert_int_equal(plan_seal(empty), 0);
	assert_null(plan_workload_by_addr(empty, &a));
	assert_null(plan_workload_by_uid(empty, "x"));
	assert_null(plan_service_by_vip(empty, &a, 80, IPPROTO_TCP));
	assert_null(plan_dns_lookup(empty, "x.y"));
	assert_string_equal(empty->mesh.trust_domain, "cluster.local");
	plan_unref(plan_ref(empty));
	plan_unref(empty);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, on_setup, on_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_workloads_are_found_by_address_and_uid),
		CASE(test_vip_lookup_prefers_the_address_then_the_longest_range),
		CASE(test_endpoints_of_services_without_address_are_found_where_they_are_http),
		CASE(test_pods_of_headless_services_have_names),
		CASE(test_names_are_found_in_all_their_forms),
		CASE(test_one_host_of_two_namespaces_is_the_askers),
		CASE(test_overlong_name_is_not_found),
		CASE(test_services_are_found_by_name_and_id),
		CASE(test_empty_plan_finds_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
