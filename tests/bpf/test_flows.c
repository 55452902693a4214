// SPDX-License-Identifier: Apache-2.0
/* What is counted and reported of connections. */
#include "tests/bpf/mesh.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

static struct mesh *const m = &mesh_shared;

static int on_setup(void **state)
{
	(void)state;
	mesh_up(m);
	mesh_service(m, "s", "10.99.0.1", 80, IPPROTO_TCP, "$b4:8080", LB_ROUND_ROBIN);
	mesh_must_apply(m);
	return 0;
}

static struct flow_sum found[2]; /* [source_side] */

static void on_row(const struct flow_sum *row, void *arg)
{
	(void)arg;
	if (row->source_identity == 100 && row->destination_identity == 101)
		found[row->source_side] = *row;
}

static void read_all(int fd)
{
	char buffer[4096];

	while (read(fd, buffer, sizeof(buffer)) > 0)
		;
}

static void exchange(bool caller_closes_first)
{
	int listener = mesh_listen(&m->pods[1], SOCK_STREAM, mesh_text(m, "$b4:8080"));
	int client = mesh_connect(&m->pods[0], AF_INET, "10.99.0.1:80");
	int server = mesh_accept(listener, NULL);
	char buffer[3000] = { 0 };

	assert_true(client >= 0 && server >= 0);
	assert_int_equal(write(client, buffer, 1000), 1000);
	assert_int_equal(read(server, buffer, 1000), 1000);
	assert_int_equal(write(server, buffer, 3000), 3000);
	int first = caller_closes_first ? client : server, second = caller_closes_first ? server : client;

	if (caller_closes_first) {
		size_t left = 3000;

		while (left)
			left -= (size_t)read(client, buffer, left);
	}
	shutdown(first, SHUT_WR);
	read_all(second);
	close(second);
	read_all(first);
	close(first);
	close(listener);
	mesh_poll(m);
}

static void check_sums(void)
{
	memset(found, 0, sizeof(found));
	assert_int_equal(kernel_flow_sums(m->kernel, on_row, NULL), 0);
	for (int side = 0; side < 2; side++) {
		assert_int_equal(found[side].opened, 1);
		assert_int_equal(found[side].closed, 1);
		assert_int_equal(found[side].failed, 0);
		assert_int_equal(found[side].service, 1000);
		assert_int_equal(found[side].path, FLOW_ATTESTED);
		assert_int_equal(found[side].sent_bytes, side ? 1000 : 3000);
		assert_int_equal(found[side].received_bytes, side ? 3000 : 1000);
		uint64_t rtts = 0;

		for (int i = 0; i < RTT_BUCKETS; i++)
			rtts += found[side].rtt[i];
		assert_int_equal(rtts, 1);
	}
}

static void test_sums_caller_closes_exact_bytes(void **state)
{
	(void)state;
	exchange(true);
	check_sums();
}

static void test_sums_callee_closes_exact_bytes(void **state)
{
	(void)state;
	exchange(false);
	check_sums();
}

static const struct flow *flow_find(enum flow_kind kind, bool source_side)
{
	for (size_t i = 0; i < m->flow_count; i++)
		if (m->flows[i].kind == kind && m->flows[i].source_side == source_side)
			return &m->flows[i];
	fail_msg("no such flow among %zu", m->flow_count);
	return NULL;
}

static void test_events_opened_and_closed_on_both_sides(void **state)
{
	(void)state;
	exchange(true);
	assert_int_equal(m->flow_count, 4);
	for (int side = 0; side < 2; side++) {
		const struct flow *f = flow_find(FLOW_OPENED, side);

		assert_addr(f->source, mesh_text(m, "$a4:*"));
		assert_addr(f->destination, mesh_text(m, "$b4:8080"));
		assert_addr(f->original, "10.99.0.1:80");
		assert_int_equal(f->source_identity, 100);
		assert_int_equal(f->destination_identity, 101);
		f = flow_find(FLOW_CLOSED, side);
		assert_int_equal(f->sent_bytes, side ? 1000 : 3000);
		assert_true(f->duration_ns > 0);
		assert_true(f->rtt_us > 0);
	}
}

static void test_failed_connect_reported(void **state)
{
	(void)state;
	assert_int_equal(mesh_connect(&m->pods[0], AF_INET, "10.99.0.1:80"), -ECONNREFUSED); /* nobody listens */
	mesh_poll(m);
	const struct flow *f = flow_find(FLOW_FAILED, true);

	assert_int_equal(f->error, ECONNREFUSED);
	assert_addr(f->original, "10.99.0.1:80");
}

static void on_fill(const struct map_fill *fill, void *arg)
{
	if (!strcmp(fill->name, "services")) {
		assert_int_equal(fill->entries, 1);
		assert_true(fill->max_entries >= 1);
		(*(int *)arg)++;
	}
}

static void test_map_fill_counts_services(void **state)
{
	int seen = 0;

	(void)state;
	assert_int_equal(kernel_map_fill(m->kernel, on_fill, &seen), 0);
	assert_int_equal(seen, 1);
}

#define T(f) cmocka_unit_test_setup_teardown(f, on_setup, mesh_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_sums_caller_closes_exact_bytes),
		T(test_sums_callee_closes_exact_bytes),
		T(test_events_opened_and_closed_on_both_sides),
		T(test_failed_connect_reported),
		T(test_map_fill_counts_services),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
