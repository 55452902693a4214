/* SPDX-License-Identifier: Apache-2.0 */
/* The shop's documents, as its users wrote them, against what is to come of them on each node. After a change that is
 * meant: UPDATE_GOLDEN=1 writes the files anew; read the diff. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/compile/world.h"

static void shop_load(struct world *w)
{
	world_load(w, "tests/data/shop/00-workloads.yaml");
	world_load(w, "tests/data/shop/10-mesh.yaml");
	world_load(w, "tests/data/shop/11-mtls.yaml");
	world_load(w, "tests/data/shop/12-authorization.yaml");
}

static void golden_check(const char *node, const char *path)
{
	struct world w;
	static char want[65536];

	world_init(&w, node);
	shop_load(&w);
	char *got = plan_dump(world_compile(&w));
	if (getenv("UPDATE_GOLDEN")) {
		FILE *f = fopen(path, "w");
		assert_non_null(f);
		fputs(got, f);
		fclose(f);
	}
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	size_t n = fread(want, 1, sizeof(want) - 1, f);
	fclose(f);
	want[n] = '\0';
	assert_string_equal(got, want);
	free(got);
	world_done(&w);
}

static void test_shop_on_node_a_is_as_written(void **state)
{
	(void)state;
	golden_check("node-a", "tests/unit/compile/shop-node-a.txt");
}

static void test_shop_on_node_b_is_as_written(void **state)
{
	(void)state;
	golden_check("node-b", "tests/unit/compile/shop-node-b.txt");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shop_on_node_a_is_as_written),
		cmocka_unit_test(test_shop_on_node_b_is_as_written),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
