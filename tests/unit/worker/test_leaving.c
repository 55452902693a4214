/* SPDX-License-Identifier: Apache-2.0 */
/* A pod that is taken from the mesh: a helper put together by hand, with one real worker. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/addr.h"
#include "agent/base/table.h"
#include "agent/helper/helper_internal.h"
#include "tests/unit/worker/worker_fixture.h"

enum { COOKIE = 77 };

struct fixture {
	struct worker_fixture *f;
	struct helper h;
};

static int setup(void **state)
{
	struct fixture *t = calloc(1, sizeof(*t));
	int fds[POD_LISTENERS];
	uint16_t port;
	t->f = worker_fixture_new();
	t->h.loop = t->f->link_loop;
	t->h.worker_count = 1;
	t->h.workers[0] = t->f->w;
	assert_int_equal(leaving_new(&t->h, &t->h.leaving), 0);
	for (size_t i = 0; i < POD_LISTENERS; i++)
		fds[i] = -1;
	fds[POD_LISTEN_HBONE] = worker_fixture_listen(&port);
	worker_fixture_pod(t->f, COOKIE, fds);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *t = *state;
	leaving_free(t->h.leaving);
	worker_fixture_free(t->f);
	free(t);
	return 0;
}

static struct pod_entry *entry(const struct fixture *t)
{
	uint64_t cookie = COOKIE;
	return table_get(t->f->w->pods, &cookie, sizeof(cookie));
}

static void test_leaving_pod_stays_for_a_while_without_listeners(void **state)
{
	struct fixture *t = *state;
	assert_true(entry(t)->listeners[POD_LISTEN_HBONE].fd >= 0);
	leaving_begin(t->h.leaving, COOKIE);
	worker_fixture_run(t->f);
	assert_non_null(entry(t));
	assert_true(entry(t)->leaving);
	assert_int_equal(entry(t)->listeners[POD_LISTEN_HBONE].fd, -1);
	assert_int_equal(t->f->removals, 0);
	assert_true(leaving_has(t->h.leaving, COOKIE));
}

static void test_leaving_pod_that_comes_back_stays(void **state)
{
	struct fixture *t = *state;
	leaving_begin(t->h.leaving, COOKIE);
	worker_fixture_run(t->f);
	leaving_cancel(t->h.leaving, COOKIE);
	assert_false(leaving_has(t->h.leaving, COOKIE));
	worker_fixture_pod(t->f, COOKIE, NULL);
	assert_false(entry(t)->leaving);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_leaving_pod_stays_for_a_while_without_listeners),
		T(test_leaving_pod_that_comes_back_stays),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
