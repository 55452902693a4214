/* SPDX-License-Identifier: Apache-2.0 */
/* The stage that gives a request its one path. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/filter/fake.h"

struct row {
	enum path_normalization mode;
	const char *target, *path, *query; /* path NULL: refused; query NULL: none */
};

static const struct row rows[] = {
	{ PATH_BASE, "/a", "/a", NULL },
	{ PATH_BASE, "/a?b=/../c", "/a", "b=/../c" },
	{ PATH_BASE, "/a?", "/a", "" },
	{ PATH_BASE, "/a/../b?x?y", "/b", "x?y" },
	{ PATH_BASE, "/a/..%2fb//c", "/a/..%2fb//c", NULL },
	{ PATH_MERGE_SLASHES, "//b//c?d//e", "/b/c", "d//e" },
	{ PATH_DECODE_AND_MERGE_SLASHES, "/a/..%2fb//c", "/b/c", NULL },
	{ PATH_NONE, "/a/../b//%2e", "/a/../b//%2e", NULL },
	{ PATH_BASE, "/a%00", NULL, NULL },
	{ PATH_BASE, "/a%zz", NULL, NULL },
	{ PATH_BASE, "/a?b#c", NULL, NULL },
	{ PATH_NONE, "/a#c", NULL, NULL },
};

static void set_target(struct exchange *x, const char *target)
{
	x->head->path = http_head_text(x->head, target, strlen(target));
}

static void test_head_path_and_query_agree(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *r = &rows[i];
		struct exchange *x = fake_exchange("GET /");
		struct http_filters *filters = http_filters_new();
		filters->normalization = r->mode;
		const struct http_filters *before = x->filters;
		x->filters = filters;
		set_target(x, r->target);
		enum stage_result result = stage_normalise(x);
		if (!r->path) {
			assert_int_equal(result, STAGE_ANSWERED);
			assert_int_equal(answer.status, 400);
			assert_string_equal(answer.details, "path_normalization_failed");
		} else {
			assert_int_equal(result, STAGE_CONTINUE);
			assert_false(answer.given);
			assert_true(http_is(x->path, r->path));
			assert_int_equal(x->query.p != NULL, r->query != NULL);
			size_t n = strlen(r->path);
			assert_memory_equal(x->head->path.p, r->path, n);
			if (r->query) {
				assert_true(http_is(x->query, r->query));
				assert_int_equal(x->head->path.n, n + 1 + strlen(r->query));
				assert_memory_equal(x->head->path.p + n + 1, r->query, strlen(r->query));
			} else {
				assert_int_equal(x->head->path.n, n);
			}
		}
		x->filters = before;
		http_filters_unref(filters);
		fake_exchange_free(x);
	}
}

static void test_long_path(void **state)
{
	(void)state;
	struct exchange *x = fake_exchange("GET /");
	char *target = malloc(20001);
	for (size_t i = 0; i < 20000; i += 2)
		memcpy(target + i, "/\"", 2);
	target[20000] = '\0';
	set_target(x, target);
	assert_int_equal(stage_normalise(x), STAGE_CONTINUE);
	assert_int_equal(x->path.n, 40000);
	free(target);
	fake_exchange_free(x);
}

static void test_method_in_lower_case_is_refused(void **state)
{
	(void)state;
	struct exchange *x = fake_exchange("get /");
	assert_int_equal(stage_normalise(x), STAGE_ANSWERED);
	assert_int_equal(answer.status, 400);
	assert_string_equal(answer.details, "invalid_method");
	fake_exchange_free(x);
}

static void test_connect_has_no_path(void **state)
{
	(void)state;
	struct exchange *x = fake_exchange("CONNECT /");
	x->head->path = (struct http_string){ 0 };
	assert_int_equal(stage_normalise(x), STAGE_CONTINUE);
	assert_int_equal(x->path.n, 0);
	assert_null(x->query.p);
	fake_exchange_free(x);

	x = fake_exchange("GET /");
	x->head->path = (struct http_string){ 0 };
	assert_int_equal(stage_normalise(x), STAGE_ANSWERED);
	fake_exchange_free(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_head_path_and_query_agree),
		cmocka_unit_test(test_long_path),
		cmocka_unit_test(test_method_in_lower_case_is_refused),
		cmocka_unit_test(test_connect_has_no_path),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
