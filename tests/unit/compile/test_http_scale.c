/* SPDX-License-Identifier: Apache-2.0 */
/* A target costs what its host's routes cost, not what all documents do; and one change is one change. WEFT_BENCH=1 prints
 * times at 1,000 VirtualServices of 10 routes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "agent/base/str.h"
#include "tests/unit/compile/http_world.h"

enum { FEW = 50, MANY = 1000, ROUTES = 10, ASKED = 50 };

static void host_set(struct world *w, int i, const char *name)
{
	struct sb sb = { 0 };

	sb_addf(&sb,
		"apiVersion: v1\nkind: Service\nmetadata: { name: s%d, namespace: shop }\n"
		"spec: { clusterIPs: [ 10.200.%d.%d ], ports: [ { name: http, port: 80 } ] }\n---\n"
		"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: v%d, namespace: shop }\n"
		"spec:\n  hosts: [ s%d ]\n  http:\n",
		i, i >> 8, i & 255, i, i);
	for (int k = 0; k < ROUTES; k++)
		sb_addf(&sb,
			"  - { name: %s-%d, match: [ { uri: { prefix: /p%d } } ], route: [ { destination: { host: s%d "
			"} } ] }\n",
			name, k, k, i);
	char *yaml = sb_take(&sb);
	assert_non_null(yaml);
	world_set(w, yaml);
	free(yaml);
}

static void town(struct world *w, int hosts)
{
	world_init(w, "n1");
	for (int i = 0; i < hosts; i++)
		host_set(w, i, "r");
	world_compile(w);
}

static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static struct l7_target *asked(const struct world *w, int i)
{
	char addr[64];

	snprintf(addr, sizeof(addr), "10.200.%d.%d:80", i >> 8, i & 255);
	return http_target(w, NULL, addr, NULL);
}

/* Of targets that nobody asked for before. */
static uint64_t ask_ns(const struct world *w)
{
	uint64_t start = cpu_ns();

	for (int i = 0; i < ASKED; i++) {
		struct l7_target *t = asked(w, i);
		assert_int_equal(t->vhost->route_count, ROUTES);
		l7_target_unref(t);
	}
	return (cpu_ns() - start) / ASKED;
}

static void test_a_target_does_not_cost_more_among_many(void **state)
{
	(void)state;
	struct world few, many;
	town(&few, FEW);
	town(&many, MANY);
	uint64_t a = ask_ns(&few), b = ask_ns(&many);
	if (getenv("WEFT_BENCH"))
		print_message("a target among %d: %.1f us, among %d: %.1f us\n", FEW, (double)a / 1e3, MANY,
			      (double)b / 1e3);
	assert_true(b < a * 6 + 20000); /* 20 times as much if all were looked through */
	uint64_t kept = ask_ns(&many);
	if (getenv("WEFT_BENCH"))
		print_message("kept: %.2f us\n", (double)kept / 1e3);
	world_done(&few);
	world_done(&many);
}

static void test_one_change_touches_one_service(void **state)
{
	(void)state;
	struct world w;
	town(&w, FEW);
	struct l7_target *before = asked(&w, 1), *other = asked(&w, 2);
	host_set(&w, 1, "changed");
	world_compile(&w);
	assert_int_equal(compiler_stats(w.compiler)->services_built, 1);
	struct l7_target *after = asked(&w, 1), *same = asked(&w, 2);
	assert_true(before->id != after->id);
	assert_true(other->id == same->id);
	l7_target_unref(before);
	l7_target_unref(other);
	l7_target_unref(after);
	l7_target_unref(same);
	world_done(&w);
}

/* Callers may name any host: what is kept of it has an end. */
static void test_hosts_that_callers_make_up_are_not_kept(void **state)
{
	(void)state;
	struct world w;
	town(&w, 1);
	for (int i = 0; i < 20000; i++) {
		char host[32];
		snprintf(host, sizeof(host), "h%d.example", i);
		struct l7_target *t = http_target(&w, NULL, "10.200.0.0:80", host);
		assert_string_equal(t->service, "shop/s0.shop.svc.cluster.local");
		l7_target_unref(t);
	}
	world_done(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_target_does_not_cost_more_among_many),
		cmocka_unit_test(test_one_change_touches_one_service),
		cmocka_unit_test(test_hosts_that_callers_make_up_are_not_kept),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
