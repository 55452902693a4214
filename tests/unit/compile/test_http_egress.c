/* SPDX-License-Identifier: Apache-2.0 */
/* ServiceEntries of resolution NONE without addresses: what is captured of them, and what a call means by its host. */
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/str.h"
#include "tests/unit/compile/http_world.h"

static struct world w;

#define ENTRY(name, ns, spec)                                                                                          \
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: { name: " name ", namespace: " ns           \
	" }\nspec: { location: MESH_EXTERNAL, " spec " }\n---\n"
#define PORT(number, protocol) "{ number: " number ", name: p" number ", protocol: " protocol " }"
#define POD(name, ns, addr)                                                                                            \
	"apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: { name: " name ", namespace: " ns          \
	" }\nspec: { address: " addr " }\n---\n"
#define VS(name, host, spec)                                                                                           \
	"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: " name                            \
	", namespace: shop }\nspec: { hosts: [ " host " ], " spec " }\n---\n"
#define REGISTRY_ONLY "outboundTrafficPolicy: { mode: REGISTRY_ONLY }\n---\n"

/* 80: HTTP; 443: TLS; 8000: both, and a service of any bytes; 9000: bytes alone; 9001: bytes for another port. */
static const char town[] = ENTRY(
	"wide", "shop",
	"hosts: [ \"*.example.com\" ], resolution: NONE, ports: [ " PORT("80", "HTTP") ", " PORT(
		"443", "TLS") ", " PORT("8000",
					"HTTP") " ]") ENTRY("one", "shop",
							    "hosts: [ api.example.org ], ports: [ " PORT(
								    "80",
								    "HTTP") ", " PORT("443",
										      "HTTPS") ", " PORT("8000",
													 "TLS") " ]")
	ENTRY("db", "shop",
	      "hosts: [ db.example.net ], ports: [ " PORT("8000", "TCP") ", " PORT(
		      "9000",
		      "MONGO") ", { number: 9001, name: p9001, protocol: TCP, targetPort: 9002 }, " PORT("53",
													 "UDP") " ]")
		ENTRY("range", "shop",
		      "hosts: [ range.example.net ], addresses: [ 10.80.0.0/16 ], ports: [ " PORT("80", "TCP") " ]")
			POD("me", "shop", "10.0.0.9") POD("you", "other", "10.0.0.8");

static struct world_fixture fixture = { &w, town };

/* "wide 1": of the service that the kernel's entry is made of, and whether the helper listens; "-": none. */
static const char *captured(const char *addr, uint8_t proto)
{
	static char text[300];
	struct addr_port a;

	assert_int_equal(addr_port_parse(addr, &a), 0);
	const struct plan_vip *vip = plan_vip_find(w.plan, &a.addr, a.port, proto);
	if (!vip)
		return "-";
	const struct service_port *port = service_port_find(vip->service, vip->service_port, proto);
	snprintf(text, sizeof(text), "%s %d", vip->service->name, port->l7 != L7_NONE);
	return text;
}

static void test_ports_are_captured_at_every_address(void **state)
{
	(void)state;
	static const struct {
		const char *addr, *service;
	} rows[] = {
		{ "192.0.2.1:80", "wide 1" },	{ "[2001:db8::1]:80", "wide 1" }, { "192.0.2.1:443", "wide 1" },
		{ "192.0.2.1:8000", "wide 1" }, { "192.0.2.1:9000", "db 0" },	  { "[2001:db8::1]:9000", "db 0" },
		{ "192.0.2.1:9001", "db 1" },	{ "192.0.2.1:81", "-" },	  { "10.80.1.1:80", "range 0" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (!str_eq(captured(rows[i].addr, IPPROTO_TCP), rows[i].service))
			fail_msg("%s: %s", rows[i].addr, captured(rows[i].addr, IPPROTO_TCP));
	assert_string_equal(captured("192.0.2.1:53", IPPROTO_UDP), "db 0");
	assert_string_equal(captured("192.0.2.1:80", IPPROTO_UDP), "-");
	assert_null(plan_dns_lookup(w.plan, "api.example.org")); /* the resolver knows */
	assert_true(world_finds(&w, "ServiceEntry/shop/db", "any address"));
	assert_false(world_finds(&w, "ServiceEntry/shop/wide", "address"));

	world_delete(&w, "ServiceEntry/shop/one");
	world_compile(&w);
	assert_string_equal(captured("192.0.2.1:80", IPPROTO_TCP), "wide 1");
	world_delete(&w, "ServiceEntry/shop/wide");
	world_compile(&w);
	assert_string_equal(captured("192.0.2.1:80", IPPROTO_TCP), "-");
	assert_string_equal(captured("192.0.2.1:8000", IPPROTO_TCP), "db 0");
}

/* Nobody listens there, so nothing is theirs: under REGISTRY_ONLY that is a refusal. */
static void test_ports_that_nobody_may_listen_to_are_not_captured(void **state)
{
	(void)state;
	world_with(&w,
		   "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: { name: nobody, namespace: shop, "
		   "annotations: { weft.dev/l7: disabled } }\nspec: { hosts: [ off.example ], ports: [ " PORT(
			   "70", "HTTP") ", " PORT("71", "TLS") ", " PORT("72", "TCP") " ] }\n---\n");
	assert_string_equal(captured("192.0.2.1:70", IPPROTO_TCP), "-");
	assert_string_equal(captured("192.0.2.1:71", IPPROTO_TCP), "-");
	assert_string_equal(captured("192.0.2.1:72", IPPROTO_TCP), "nobody 0");
}

/* "mode by_name service cluster route" */
static void check(const char *caller, const char *addr, const char *host, const char *expected)
{
	static const char *const modes[] = { "none", "http", "sniff", "tcp" };
	struct l7_target *t = http_target(&w, caller, addr, host);
	char text[600];

	snprintf(text, sizeof(text), "%s%s %s %s %s", modes[t->mode], t->by_name ? " name" : "",
		 t->service ? t->service : "-", t->default_cluster ? t->default_cluster : "-",
		 t->vhost ? t->vhost->routes[0].name : "-");
	if (!str_eq(text, expected))
		fail_msg("%s at %s: %s", host ? host : "-", addr, text);
	l7_target_unref(t);
}

#define WIDE "shop/*.example.com outbound|"
#define ONE "shop/api.example.org outbound|"
#define DB "shop/db.example.net outbound|"
#define ANY "192.0.2.1:"

static void test_the_host_says_who_is_called(void **state)
{
	(void)state;
	check("shop/me", ANY "80", "www.example.com", "http " WIDE "80||*.example.com default");
	check("shop/me", ANY "80", "WWW.a.example.com:80", "http " WIDE "80||*.example.com default");
	check("shop/me", "[2001:db8::1]:80", "api.example.org", "http " ONE "80||api.example.org default");
	check("shop/me", ANY "443", "www.example.com", "tcp " WIDE "443||*.example.com -");
	check("shop/me", ANY "443", "api.example.org", "tcp " ONE "443||api.example.org -");
	struct http_cluster *c = http_cluster(&w, "outbound|443||*.example.com");
	assert_int_equal(c->lb, CLUSTER_PASSTHROUGH);
	assert_true(c->external);
	http_cluster_unref(c);
}

static void test_target_port_is_in_place_of_the_one_called(void **state)
{
	(void)state;
	world_with(&w,
		   ENTRY("up", "shop",
			 "hosts: [ up.example ], addresses: [ 10.81.0.0/16 ], resolution: NONE, ports: [ { number: 80, "
			 "name: http, protocol: HTTP, targetPort: 443 }, { number: 81, name: tcp, protocol: TCP, "
			 "targetPort: "
			 "444 }, { number: 82, name: same, protocol: TCP } ]"));
	static const uint16_t to[] = { 443, 444, 0 };
	for (uint16_t i = 0; i < 3; i++) {
		char name[64];
		snprintf(name, sizeof(name), "outbound|%u||up.example", 80 + i);
		struct http_cluster *c = http_cluster(&w, name);
		assert_int_equal(c->lb, CLUSTER_PASSTHROUGH);
		assert_int_equal(c->original_port, to[i]);
		http_cluster_unref(c);
	}
	assert_string_equal(captured("10.81.1.1:81", IPPROTO_TCP), "up 1"); /* the kernel changes no port */
	assert_string_equal(captured("10.81.1.1:82", IPPROTO_TCP), "up 0");
}

static void test_others_pass_or_are_refused(void **state)
{
	(void)state;
	check("shop/me", ANY "80", NULL, "http name - PassthroughCluster default");
	check("shop/me", ANY "80", "example.com", "http name - PassthroughCluster default");
	check("shop/me", ANY "443", "192.0.2.1", "tcp name - PassthroughCluster -");
	world_with(&w, REGISTRY_ONLY);
	check("shop/me", ANY "80", NULL, "http name - - -");
	check("shop/me", ANY "80", "example.com", "http name - - -");
	check("shop/me", ANY "443", NULL, "tcp name - - -");
	check("shop/me", ANY "443", "example.com", "tcp name - - -");
	check("shop/me", ANY "443", "www.example.com", "tcp " WIDE "443||*.example.com -");
	check("shop/me", ANY "81", "www.example.com", "sniff - - -"); /* it has no such port */
}

/* What is neither is for the one that takes all bytes, whatever TLS and requests say that nobody has. */
static void test_bytes_are_for_who_takes_them(void **state)
{
	(void)state;
	world_with(&w, REGISTRY_ONLY);
	check("shop/me", ANY "8000", NULL, "sniff name " DB "8000||db.example.net default");
	check("shop/me", ANY "8000", "www.example.com", "http " WIDE "8000||*.example.com default");
	check("shop/me", ANY "8000", "api.example.org", "tcp " ONE "8000||api.example.org -");
	check("shop/me", ANY "8000", "example.com", "sniff name " DB "8000||db.example.net default");
	check("shop/me", ANY "9000", NULL, "tcp " DB "9000||db.example.net -");
}

/* Names that are looked up by the agent, and called at addresses that resolvers outside gave: where the mesh allocates none. */
static void test_without_allocated_addresses_the_host_says_it_too(void **state)
{
	(void)state;
	world_with(
		&w,
		"weft: { dns: { autoAllocate: false } }\noutboundTrafficPolicy: { mode: REGISTRY_ONLY }\n---\n" ENTRY(
			"dns", "shop",
			"hosts: [ dns.example.net ], resolution: DNS, ports: [ " PORT("80", "HTTP") ", " PORT(
				"444", "TLS") ", " PORT("9003", "TCP") " ]"));
	assert_string_equal(captured("192.0.2.1:444", IPPROTO_TCP), "dns 1");
	assert_string_equal(captured("192.0.2.1:9003", IPPROTO_TCP),
			    "-"); /* what its endpoints are is not what is called */
	assert_null(plan_dns_lookup(w.plan, "dns.example.net"));
	check("shop/me", ANY "80", "dns.example.net", "http shop/dns.example.net outbound|80||dns.example.net default");
	check("shop/me", ANY "444", "dns.example.net", "tcp shop/dns.example.net outbound|444||dns.example.net -");
	check("shop/me", ANY "444", NULL, "tcp name - - -");
	struct http_cluster *c = http_cluster(&w, "outbound|444||dns.example.net");
	assert_int_equal(c->lb, CLUSTER_LEAST_REQUEST);
	http_cluster_unref(c);
	assert_true(world_finds(&w, "ServiceEntry/shop/dns", "port 9003 say"));
	world_with(&w, "weft: { dns: { autoAllocate: true } }\n");
	assert_string_equal(captured("192.0.2.1:444", IPPROTO_TCP), "-");
	assert_non_null(plan_dns_lookup(w.plan, "dns.example.net"));
}

static void test_who_may_not_see_an_entry_is_not_listened_to(void **state)
{
	(void)state;
	world_with(&w, ENTRY("wide", "shop",
			     "hosts: [ \"*.example.com\" ], exportTo: [ . ], ports: [ " PORT("80", "HTTP") " ]")
			       ENTRY("one", "shop",
				     "hosts: [ api.example.org ], exportTo: [ . ], ports: [ " PORT("80", "HTTP") " ]"));
	check("shop/me", ANY "80", NULL, "http name - PassthroughCluster default");
	check("other/you", ANY "80", NULL, "tcp - PassthroughCluster -");
	world_with(&w, REGISTRY_ONLY);
	check("other/you", ANY "80", NULL, "tcp - - -");
	check("other/you", ANY "80", "www.example.com", "tcp - - -");
	check("shop/me", ANY "80", "www.example.com", "http " WIDE "80||*.example.com default");
}

static void test_documents_of_one_host_behind_a_wildcard(void **state)
{
	(void)state;
	world_with(&w,
		   VS("one", "www.example.com", "http: [ { name: just, directResponse: { status: 418 } } ]")
			   VS("all", "\"*.example.com\"", "http: [ { name: all, directResponse: { status: 419 } } ]"));
	for (int i = 0; i < 2; i++) { /* also when something is kept */
		check("shop/me", ANY "80", "www.example.com", "http " WIDE "80||*.example.com just");
		check("shop/me", ANY "80", "other.example.com", "http " WIDE "80||*.example.com all");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_CASE(test_ports_are_captured_at_every_address),
		WORLD_CASE(test_ports_that_nobody_may_listen_to_are_not_captured),
		WORLD_CASE(test_the_host_says_who_is_called),
		WORLD_CASE(test_target_port_is_in_place_of_the_one_called),
		WORLD_CASE(test_others_pass_or_are_refused),
		WORLD_CASE(test_bytes_are_for_who_takes_them),
		WORLD_CASE(test_without_allocated_addresses_the_host_says_it_too),
		WORLD_CASE(test_who_may_not_see_an_entry_is_not_listened_to),
		WORLD_CASE(test_documents_of_one_host_behind_a_wildcard),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
