// SPDX-License-Identifier: Apache-2.0
/* What is known of a TCP connection is kept while it lives, and no longer; a full table costs time, not answers. */
#include "tests/bpf/mesh.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { TABLE = 8, CONNECTIONS = 12 };

static struct mesh *const m = &mesh_shared;

static void apply(void)
{
	mesh_service(m, "s", "10.99.0.1", 80, IPPROTO_TCP, "$b4:8080", LB_LEAST_REQUEST);
	mesh_must_apply(m);
}

static int on_setup(void **state)
{
	(void)state;
	mesh_up(m);
	apply();
	return 0;
}

static int on_setup_small(void **state)
{
	(void)state;
	mesh_up(m);
	kernel_close(m->kernel);
	assert_int_equal(kernel_cleanup(&m->options, NULL), 0);
	m->options.map_connections = TABLE;
	mesh_open(m);
	apply();
	return 0;
}

static int states(void)
{
	char path[128];
	uint64_t key;
	int n = 0;

	snprintf(path, sizeof(path), "/sys/fs/bpf/weft/%.64s/maps/tcp_states", m->instance);
	int fd = bpf_obj_get(path);

	assert_true(fd >= 0);
	while (bpf_map_get_next_key(fd, n ? &key : NULL, &key) == 0)
		n++;
	close(fd);
	return n;
}

static void test_states_open_two_closed_none(void **state)
{
	(void)state;
	int listener = mesh_listen(&m->pods[1], SOCK_STREAM, mesh_text(m, "$b4:8080"));
	int client = mesh_connect(&m->pods[0], AF_INET, "10.99.0.1:80");
	int server = mesh_accept(listener, NULL);

	assert_true(client >= 0 && server >= 0);
	assert_int_equal(states(), 2);
	close(server);
	close(client);
	assert_int_equal(states(), 0);
	close(listener);
}

static void test_states_refused_connect_none(void **state)
{
	(void)state;
	assert_int_equal(mesh_connect(&m->pods[0], AF_INET, "10.99.0.1:80"), -ECONNREFUSED);
	assert_int_equal(states(), 0);
}

/* The kernel refuses a loopback source after the programs have decided and before there is a SYN. */
static void test_states_connect_without_syn_none(void **state)
{
	struct sockaddr_in loopback = { .sin_family = AF_INET };

	(void)state;
	inet_pton(AF_INET, "127.0.0.1", &loopback.sin_addr);
	int fd = mesh_socket(&m->pods[0], AF_INET, SOCK_STREAM);

	assert_int_equal(bind(fd, (struct sockaddr *)&loopback, sizeof(loopback)), 0);
	assert_int_equal(mesh_connect_fd(fd, AF_INET, "10.99.0.1:80"), -EINVAL);
	assert_int_equal(states(), 1);
	close(fd);
	assert_int_equal(states(), 0);
}

static void on_row(const struct flow_sum *row, void *arg)
{
	if (row->source_identity == 100)
		*(uint64_t *)arg += row->closed;
}

static void test_states_full_connections_still_known(void **state)
{
	int clients[CONNECTIONS], servers[CONNECTIONS];
	uint64_t closed = 0;

	(void)state;
	int listener = mesh_listen(&m->pods[1], SOCK_STREAM, mesh_text(m, "$b4:8080"));

	for (int i = 0; i < CONNECTIONS; i++) {
		struct addr_port peer;

		clients[i] = mesh_connect(&m->pods[0], AF_INET, "10.99.0.1:80");
		assert_true(clients[i] >= 0);
		servers[i] = mesh_accept(listener, NULL);
		assert_true(servers[i] >= 0);
		mesh_peer(clients[i], &peer);
		assert_addr(peer, "10.99.0.1:80");
	}
	assert_int_equal(states(), TABLE);
	for (int i = 0; i < CONNECTIONS; i++) {
		close(servers[i]);
		close(clients[i]);
	}
	close(listener);
	assert_int_equal(states(), 0);
	assert_int_equal(kernel_flow_sums(m->kernel, on_row, &closed), 0);
	assert_int_equal(closed, 2 * CONNECTIONS);
}

#define T(f, setup) cmocka_unit_test_setup_teardown(f, setup, mesh_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_states_open_two_closed_none, on_setup),
		T(test_states_refused_connect_none, on_setup),
		T(test_states_connect_without_syn_none, on_setup),
		T(test_states_full_connections_still_known, on_setup_small),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
