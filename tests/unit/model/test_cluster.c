/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/model/cluster.h"

static struct http_cluster *cluster_new(void)
{
	struct http_cluster *c = http_cluster_new();
	assert_non_null(c);
	c->name = http_cluster_name(80, "v1", "catalog.shop.svc.cluster.local");
	c->endpoint_count = 3;
	c->endpoints = calloc(3, sizeof(*c->endpoints));
	assert_non_null(c->endpoints);
	const char *addrs[] = { "10.0.0.9:80", "10.0.0.1:8080", "10.0.0.1:80" };
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(addr_port_parse(addrs[i], &c->endpoints[i].addr), 0);
		c->endpoints[i].weight = 1;
		c->endpoints[i].healthy = true;
		c->endpoints[i].priority = i == 2;
		c->endpoints[i].identities = calloc(1, sizeof(char *));
		c->endpoints[i].identities[0] = strdup("spiffe://cluster.local/ns/shop/sa/catalog");
		c->endpoints[i].identity_count = 1;
	}
	return c;
}

static void test_seal_sorts_endpoints_by_priority_then_address(void **state)
{
	(void)state;
	struct http_cluster *c = cluster_new();
	http_cluster_seal(c);
	char text[ADDR_PORT_TEXT_MAX];
	assert_string_equal(addr_port_text(&c->endpoints[0].addr, text), "10.0.0.1:8080");
	assert_string_equal(addr_port_text(&c->endpoints[1].addr, text), "10.0.0.9:80");
	assert_string_equal(addr_port_text(&c->endpoints[2].addr, text), "10.0.0.1:80");
	http_cluster_unref(c);
}

static void test_id_is_of_the_content_alone(void **state)
{
	(void)state;
	struct http_cluster *a = cluster_new(), *b = cluster_new();
	struct cluster_endpoint swap = b->endpoints[0];
	b->endpoints[0] = b->endpoints[2];
	b->endpoints[2] = swap;
	http_cluster_seal(a);
	http_cluster_seal(b);
	assert_int_equal(a->id, b->id);

	uint64_t before = b->id;
#define CHANGED(change)                                                                                                \
	do {                                                                                                           \
		change;                                                                                                \
		http_cluster_seal(b);                                                                                  \
		assert_int_not_equal(b->id, before);                                                                   \
		before = b->id;                                                                                        \
	} while (0)
	CHANGED(b->endpoints[1].weight = 2);
	CHANGED(b->endpoints[1].healthy = false);
	CHANGED(b->endpoints[1].tunnel = ENDPOINT_HBONE);
	CHANGED(b->endpoints[1].locality = strdup("eu/1"));
	CHANGED(b->lb = CLUSTER_RING_HASH);
	CHANGED(b->sni = strdup(""));
	CHANGED(b->outlier.consecutive_5xx = 5);
	CHANGED(b->outlier.min_health_percent = 1);
	CHANGED(b->tcp.max_connections = 1);
	CHANGED(b->warmup_aggression = 2);
	CHANGED(b->max_retries = 3);
	CHANGED(b->insecure = true);
#undef CHANGED
	http_cluster_unref(a);
	http_cluster_unref(b);
}

static void test_cluster_lives_as_long_as_its_references(void **state)
{
	(void)state;
	struct http_cluster *c = cluster_new();
	assert_ptr_equal(http_cluster_ref(c), c);
	http_cluster_unref(c);
	assert_string_equal(c->name, "outbound|80|v1|catalog.shop.svc.cluster.local");
	http_cluster_unref(c);
	http_cluster_unref(NULL);
}

static void test_name_without_subset_has_an_empty_part(void **state)
{
	(void)state;
	char *name = http_cluster_name(443, NULL, "api.example.com");
	assert_string_equal(name, "outbound|443||api.example.com");
	free(name);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_seal_sorts_endpoints_by_priority_then_address),
		cmocka_unit_test(test_id_is_of_the_content_alone),
		cmocka_unit_test(test_cluster_lives_as_long_as_its_references),
		cmocka_unit_test(test_name_without_subset_has_an_empty_part),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
