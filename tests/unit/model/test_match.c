/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/model/policy.h"

static void test_match_string_follows_istio(void **state)
{
	(void)state;
	static const struct {
		const char *pattern, *text;
		bool want;
	} rows[] = {
		{ "shop", "shop", true },
		{ "shop", "shop2", false },
		{ "shop", "", false },
		{ "shop*", "shop", true },
		{ "shop*", "shop-2", true },
		{ "shop*", "xshop", false },
		{ "*shop", "shop", true },
		{ "*shop", "my-shop", true },
		{ "*shop", "shopx", false },
		{ "*", "x", true },
		{ "*", "", false },
		{ "*a*", "xa*", true },
		{ "*a*", "xay", false },
		{ "", "", false },
		{ "", "x", false },
		{ "*/sa/frontend", "cluster.local/ns/shop/sa/frontend", true },
		{ "cluster.local/ns/shop/*", "cluster.local/ns/shop/sa/x", true },
		{ "cluster.local/ns/shop/*", "cluster.local/ns/shop2/sa/x", false },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct match_string m;
		assert_int_equal(match_string_init(&m, rows[i].pattern), 0);
		if (match_string_matches(&m, rows[i].text) != rows[i].want)
			fail_msg("\"%s\" on \"%s\"", rows[i].pattern, rows[i].text);
		free(m.text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_match_string_follows_istio) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
