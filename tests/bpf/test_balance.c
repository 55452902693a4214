// SPDX-License-Identifier: Apache-2.0
/* Balancing: which of a service's endpoints new connections get. */
#include "tests/bpf/mesh.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct mesh *const m = &mesh_shared;
static int listeners[3]; /* of b, c, d */

static int on_setup(void **state)
{
	(void)state;
	mesh_up(m);
	for (int i = 0; i < 3; i++)
		listeners[i] = mesh_listen(&m->pods[i + 1], SOCK_STREAM,
					   mesh_text(m, i == 0 ? "$b4:8080" :
							i == 1 ? "$c4:8080" :
								 "$d4:8080"));
	return 0;
}

static int on_teardown(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++)
		close(listeners[i]);
	mesh_down(m);
	return 0;
}

/* Connects once; returns which endpoint got it. The connection ends unless kept. */
static int hit(struct mesh_pod *from, const char *vip, int *kept)
{
	int fd = mesh_connect(from, AF_INET, vip);

	assert_true(fd >= 0);
	for (int i = 0; i < 3; i++) {
		struct addr_port a;

		if (!mesh_is_pending(listeners[i]))
			continue;
		int server = mesh_accept(listeners[i], &a);

		if (kept)
			*kept = fd;
		else
			close(fd);
		close(server);
		return i;
	}
	fail_msg("nobody got the connection");
	return -1;
}

static void test_round_robin_takes_turns(void **state)
{
	int hits[3] = { 0 };

	(void)state;
	mesh_service(m, "s", "10.99.0.1", 80, IPPROTO_TCP, "$b4:8080 $c4:8080 $d4:8080", LB_ROUND_ROBIN);
	mesh_must_apply(m);
	for (int i = 0; i < 6; i++)
		hits[hit(&m->pods[0], "10.99.0.1:80", NULL)]++;
	for (int i = 0; i < 3; i++)
		assert_int_equal(hits[i], 2);
}

static void test_random_reaches_all(void **state)
{
	int hits[3] = { 0 };

	(void)state;
	mesh_service(m, "s", "10.99.0.1", 80, IPPROTO_TCP, "$b4:8080 $c4:8080 $d4:8080", LB_RANDOM);
	mesh_must_apply(m);
	for (int i = 0; i < 100; i++)
		hits[hit(&m->pods[0], "10.99.0.1:80", NULL)]++;
	for (int i = 0; i < 3; i++)
		assert_true(hits[i] > 0); /* all but once in 10^17 runs */
}

/* With two endpoints both are always looked at, so the one with fewer live connections is certain. */
static void test_least_request_avoids_busy_endpoint(void **state)
{
	int kept[4];

	(void)state;
	mesh_service(m, "s", "10.99.0.1", 80, IPPROTO_TCP, "$b4:8080 $c4:8080", LB_LEAST_REQUEST);
	mesh_must_apply(m);
	int busy = hit(&m->pods[0], "10.99.0.1:80", &kept[0]);

	for (int i = 0; i < 6; i++)
		assert_int_equal(hit(&m->pods[0], "10.99.0.1:80", NULL), !busy);
	close(kept[0]);
}

static void test_hash_keeps_caller_on_endpoint(void **state)
{
	(void)state;
	mesh_service(m, "s", "10.99.0.1", 80, IPPROTO_TCP, "$b4:8080 $c4:8080 $d4:8080", LB_CONSISTENT_HASH);
	mesh_must_apply(m);
	int first = hit(&m->pods[0], "10.99.0.1:80", NULL);

	for (int i = 0; i < 6; i++)
		assert_int_equal(hit(&m->pods[0], "10.99.0.1:80", NULL), first);
}

static void test_affinity_keeps_endpoint_until_it_is_gone(void **state)
{
	struct service *s;

	(void)state;
	s = mesh_service(m, "s", "10.99.0.1", 80, IPPROTO_TCP, "$b4:8080 $c4:8080 $d4:8080", LB_ROUND_ROBIN);
	s->affinity_timeout_s = 600;
	mesh_must_apply(m);
	int first = hit(&m->pods[0], "10.99.0.1:80", NULL);

	for (int i = 0; i < 5; i++)
		assert_int_equal(hit(&m->pods[0], "10.99.0.1:80", NULL), first);
	/* Another endpoint goes: the affinity stays. */
	struct service_port *p = &s->ports[0];
	int other = (first + 1) % 3;
	struct endpoint gone = p->endpoints[other];

	p->endpoints[other] = p->endpoints[2];
	p->endpoint_count = 2;
	if (other != 2)
		p->endpoints[other] = p->endpoints[2];
	mesh_must_apply(m);
	for (int i = 0; i < 4; i++)
		assert_int_equal(hit(&m->pods[0], "10.99.0.1:80", NULL), first);
	/* Its own goes: it moves, and stays there. */
	p->endpoints[0] = gone;
	p->endpoint_count = 1;
	mesh_must_apply(m);
	assert_int_equal(hit(&m->pods[0], "10.99.0.1:80", NULL), other);
}

static void test_range_vip_longest_wins(void **state)
{
	(void)state;
	mesh_service(m, "wide", "10.99.0.0/16", 80, IPPROTO_TCP, "$b4:8080", LB_ROUND_ROBIN);
	mesh_service(m, "narrow", "10.99.7.0/24", 80, IPPROTO_TCP, "$c4:8080", LB_ROUND_ROBIN);
	mesh_must_apply(m);
	assert_int_equal(hit(&m->pods[0], "10.99.1.1:80", NULL), 0);
	assert_int_equal(hit(&m->pods[0], "10.99.7.1:80", NULL), 1);
}

static void test_passthrough_keeps_address(void **state)
{
	struct addr_port a;
	int kept;

	(void)state;
	mesh_service(m, "s", mesh_text(m, "$b4"), 8080, IPPROTO_TCP, "", LB_PASSTHROUGH);
	mesh_must_apply(m);
	assert_int_equal(hit(&m->pods[0], mesh_text(m, "$b4:8080"), &kept), 0);
	mesh_peer(kept, &a);
	assert_addr(a, mesh_text(m, "$b4:8080"));
	close(kept);
	mesh_poll(m);
	assert_int_equal(m->flows[0].service, 1000);
}

static void test_changed_service_takes_effect(void **state)
{
	struct service *s;

	(void)state;
	s = mesh_service(m, "s", "10.99.0.1", 80, IPPROTO_TCP, "$b4:8080", LB_ROUND_ROBIN);
	mesh_must_apply(m);
	assert_int_equal(hit(&m->pods[0], "10.99.0.1:80", NULL), 0);
	addr_parse(m->pods[2].v4, &s->ports[0].endpoints[0].addr);
	mesh_must_apply(m);
	assert_int_equal(hit(&m->pods[0], "10.99.0.1:80", NULL), 1);
}

#define T(f) cmocka_unit_test_setup_teardown(f, on_setup, on_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_round_robin_takes_turns),
		T(test_random_reaches_all),
		T(test_least_request_avoids_busy_endpoint),
		T(test_hash_keeps_caller_on_endpoint),
		T(test_affinity_keeps_endpoint_until_it_is_gone),
		T(test_range_vip_longest_wins),
		T(test_passthrough_keeps_address),
		T(test_changed_service_takes_effect),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
