/* SPDX-License-Identifier: Apache-2.0 */
/* Several threads at once, as workers are: run with SANITIZE=thread this says that the sharing is sound. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "agent/helper/balance/internal.h"

enum { THREADS = 4, HOSTS = 6, ROUNDS = 3000 };

static const struct cluster_outlier settings = {
	.consecutive_5xx = 3, .interval_ms = 1, .base_ejection_ms = 2, .max_ejection_percent = 50
};

struct thread {
	pthread_t id;
	uint64_t random;
	int64_t ejected; /* as a gauge: the sum of all threads must come to 0 */
	size_t ejections, most;
};

/* A worker: uses the cluster for a while, ejects, sweeps, stops using it. */
static void use(struct thread *t, uint64_t *now_ns)
{
	struct shared_cluster *c = shared_cluster_get("shared");
	struct shared_host *hosts[HOSTS];
	struct host_health *healths[HOSTS];
	for (uint16_t i = 0; i < HOSTS; i++) {
		struct addr_port at = { .port = i };
		hosts[i] = shared_host_get(c, &at);
		healths[i] = &hosts[i]->health;
	}
	for (int i = 0; i < 40; i++) {
		uint64_t number = balance_random(&t->random);
		struct host_health *h = healths[number % HOSTS];
		enum health_event event = number >> 32 & 3 ? HEALTH_5XX : HEALTH_OK;
		*now_ns += 50000;
		if (health_note(&settings, &c->set, HOSTS, h, event, *now_ns)) {
			t->ejected++;
			t->ejections++;
		}
		if (health_sweep_due(&settings, &c->set, *now_ns))
			t->ejected -= (int64_t)health_sweep(&c->set, healths, HOSTS, *now_ns);
		size_t out = __atomic_load_n(&c->set.ejected, __ATOMIC_RELAXED);
		t->most = out > t->most ? out : t->most;
	}
	for (size_t i = 0; i < HOSTS; i++)
		t->ejected -= shared_host_put(c, hosts[i]);
	shared_cluster_put(c);

	struct shared_limits *l = shared_limits_get("shared", 7);
	__atomic_add_fetch(&l->n[LIMIT_REQUESTS], 1, __ATOMIC_RELAXED);
	__atomic_add_fetch(&l->n[LIMIT_REQUESTS], -1u, __ATOMIC_RELAXED);
	shared_limits_put("shared", 7, l);
}

static void *on_thread(void *arg)
{
	struct thread *t = arg;
	uint64_t now_ns = 1000000000;
	for (int i = 0; i < ROUNDS / 40; i++)
		use(t, &now_ns);
	return NULL;
}

static void test_threads_agree_on_who_is_ejected(void **state)
{
	(void)state;
	struct thread threads[THREADS];
	struct shared_cluster *keep = shared_cluster_get("shared");
	int64_t ejected = 0;
	size_t ejections = 0;
	for (size_t i = 0; i < THREADS; i++) {
		threads[i] = (struct thread){ .random = i };
		assert_int_equal(pthread_create(&threads[i].id, NULL, on_thread, &threads[i]), 0);
	}
	for (size_t i = 0; i < THREADS; i++) {
		pthread_join(threads[i].id, NULL);
		ejected += threads[i].ejected;
		ejections += threads[i].ejections;
		/* Half of six, and what several eject in the same instant. */
		assert_in_range(threads[i].most, 0, HOSTS / 2 + THREADS - 1);
	}
	assert_int_equal(ejected, 0);
	assert_true(ejections > 10);
	assert_int_equal(keep->set.ejected, 0);
	shared_cluster_put(keep);
}

static void test_names_and_pods_are_kept_apart(void **state)
{
	(void)state;
	struct shared_cluster *a = shared_cluster_get("a"), *b = shared_cluster_get("b"),
			      *again = shared_cluster_get("a");
	assert_ptr_equal(a, again);
	assert_ptr_not_equal(a, b);
	shared_cluster_put(a);
	shared_cluster_put(b);
	shared_cluster_put(again);
	shared_cluster_put(NULL);
	struct shared_limits *x = shared_limits_get("a", 1), *y = shared_limits_get("a", 2),
			     *z = shared_limits_get("a", 1);
	assert_ptr_equal(x, z);
	assert_ptr_not_equal(x, y);
	shared_limits_put("a", 1, x);
	shared_limits_put("a", 2, y);
	shared_limits_put("a", 1, z);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threads_agree_on_who_is_ejected),
		cmocka_unit_test(test_names_and_pods_are_kept_apart),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
