/* SPDX-License-Identifier: Apache-2.0 */
/* Two workers and a tunnel between them, over real sockets. */
#include "agent/base/loop.h"
#include "agent/base/str.h"
#include "agent/model/policy.h"
#include "tests/unit/hbone/world.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static void test_tunnel_message_arrives_both_ways(void **state)
{
	struct world *w = *state;
	int client, server;
	char text[16];
	world_open(w, &client, &server);
	app_send(w->loop, client, "question", 8);
	app_recv(w->loop, server, text, 8);
	assert_memory_equal(text, "question", 8);
	app_send(w->loop, server, "answer", 6);
	app_recv(w->loop, client, text, 6);
	assert_memory_equal(text, "answer", 6);
	assert_int_equal(w->client.results_ok, 1);
	assert_int_equal(w->client.metrics.handshakes_client, 1);
	assert_int_equal(w->server.metrics.handshakes_server, 1);
	close(client);
	close(server);
}

static void test_tunnel_over_v6_works(void **state)
{
	struct world *w = *state;
	int client, server;
	char text[16];
	assert_true(str_starts(w->authority, "[::1]:"));
	world_open(w, &client, &server);
	app_send(w->loop, client, "question", 8);
	app_recv(w->loop, server, text, 8);
	assert_memory_equal(text, "question", 8);
	assert_true(addr_eq(&w->server.last_bind.addr, &w->client.pod.addrs[0]));
	close(client);
	close(server);
}

static void test_tunnel_data_and_end_at_once_arrive_in_order(void **state)
{
	struct world *w = *state;
	int client, server;
	char text[16];
	world_open(w, &client, &server);
	app_send(w->loop, client, "all", 3);
	close(client);
	app_recv(w->loop, server, text, 3);
	assert_memory_equal(text, "all", 3);
	assert_int_equal(app_next(w->loop, server, text, 1), 0);
	close(server);
}

static void test_tunnel_application_sees_true_peer(void **state)
{
	struct world *w = *state;
	int client, server;
	struct addr expected;
	world_open(w, &client, &server);
	addr_parse("127.0.0.1", &expected);
	assert_true(addr_eq(&w->server.last_bind.addr, &expected));
	close(client);
	close(server);
}

static void test_tunnel_half_close_is_carried_both_ways(void **state)
{
	struct world *w = *state;
	int client, server;
	char byte;
	world_open(w, &client, &server);
	app_send(w->loop, client, "q", 1);
	shutdown(client, SHUT_WR);
	assert_int_equal(app_next(w->loop, server, &byte, 1), 1);
	assert_int_equal(app_next(w->loop, server, &byte, 1), 0);
	app_send(w->loop, server, "a", 1);
	shutdown(server, SHUT_WR);
	assert_int_equal(app_next(w->loop, client, &byte, 1), 1);
	assert_int_equal(byte, 'a');
	assert_int_equal(app_next(w->loop, client, &byte, 1), 0);
	close(client);
	close(server);
	run_turns(w->loop, 5);
	assert_int_equal(hbone_live(w->client.hbone), 0);
	assert_int_equal(hbone_live(w->server.hbone), 0);
}

static void reset_socket(int fd)
{
	struct linger linger = { .l_onoff = 1 };
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(fd);
}

static void test_tunnel_reset_by_client_resets_server(void **state)
{
	struct world *w = *state;
	int client, server;
	char byte;
	world_open(w, &client, &server);
	app_send(w->loop, client, "q", 1);
	app_recv(w->loop, server, &byte, 1);
	reset_socket(client);
	assert_int_equal(app_next(w->loop, server, &byte, 1), -ECONNRESET);
	close(server);
}

static void test_tunnel_reset_by_server_resets_client(void **state)
{
	struct world *w = *state;
	int client, server;
	char byte;
	world_open(w, &client, &server);
	app_send(w->loop, client, "q", 1);
	app_recv(w->loop, server, &byte, 1);
	reset_socket(server);
	assert_int_equal(app_next(w->loop, client, &byte, 1), -ECONNRESET);
	close(client);
}

/* --- refusals --- */

static void test_tunnel_unknown_endpoint_is_reset(void **state)
{
	struct world *w = *state;
	char byte;
	struct addr_port nowhere = w->app;
	nowhere.port = 1;
	int client = app_connect(&w->client, &nowhere);
	assert_int_equal(app_next(w->loop, client, &byte, 1), -ECONNRESET);
	assert_int_equal(w->client.drops[DROP_UNKNOWN_DESTINATION], 1);
	close(client);
}

static void test_tunnel_application_that_is_down_is_503(void **state)
{
	struct world *w = *state;
	char byte;
	close(w->listener);
	int client = app_connect(&w->client, &w->app);
	assert_int_equal(app_next(w->loop, client, &byte, 1), -ECONNRESET);
	assert_int_equal(w->server.drops[DROP_UPSTREAM_CONNECT], 1);
	assert_int_equal(w->client.drops[DROP_UPSTREAM_CONNECT], 1);
	assert_int_equal(w->client.results_failed, 1);
	close(client);
	w->listener = tcp_listen("127.0.0.2", &w->app);
}

static void test_tunnel_policy_without_matching_rule_is_401(void **state)
{
	struct world *w = *state;
	char byte;
	w->server.pod.policy->has_allow = true;
	int client = app_connect(&w->client, &w->app);
	assert_int_equal(app_next(w->loop, client, &byte, 1), -ECONNRESET);
	assert_int_equal(w->server.drops[DROP_POLICY_NO_ALLOW], 1);
	assert_string_equal(w->server.drop_peer, FRONTEND);
	assert_int_equal(w->client.drops[DROP_HBONE_REFUSED], 1);
	assert_int_equal(w->server.sockets_taken, 0);
	close(client);
}

static void test_tunnel_unexpected_identity_is_refused(void **state)
{
	struct world *w = *state;
	char byte;
	w->client.endpoints[0].identities[0] = (char *)"spiffe://cluster.local/ns/shop/sa/other";
	int client = app_connect(&w->client, &w->app);
	assert_int_equal(app_next(w->loop, client, &byte, 1), -ECONNRESET);
	assert_int_equal(w->client.drops[DROP_TLS_IDENTITY], 1);
	assert_int_equal(w->server.sockets_taken, 0);
	close(client);
}

static void test_tunnel_foreign_port_of_pod_is_refused(void **state)
{
	struct world *w = *state;
	char byte;
	struct addr_port mesh = w->app;
	mesh.port = 15008;
	fake_worker_know(&w->client, &mesh, &w->server);
	int client = app_connect(&w->client, &mesh);
	assert_int_equal(app_next(w->loop, client, &byte, 1), -ECONNRESET);
	assert_int_equal(w->server.drops[DROP_RESERVED_PORT], 1);
	close(client);
}

static void test_tunnel_foreign_address_is_refused(void **state)
{
	struct world *w = *state;
	char byte;
	struct addr_port foreign;
	addr_port_parse("127.0.0.3:80", &foreign);
	fake_worker_know(&w->client, &foreign, &w->server);
	int client = app_connect(&w->client, &foreign);
	assert_int_equal(app_next(w->loop, client, &byte, 1), -ECONNRESET);
	assert_int_equal(w->server.drops[DROP_HBONE_AUTHORITY], 1);
	close(client);
}

/* --- data --- */

struct flow {
	int from, to;
	uint32_t seed_tx, seed_rx;
	size_t sent, received, total;
	uint8_t pending[65536];
	size_t pending_len, pending_off;
	bool bad;
};

static uint8_t flow_byte(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return (uint8_t)(*seed >> 24);
}

static void flow_send(struct flow *f)
{
	if (f->pending_off == f->pending_len) {
		size_t n = f->total - f->sent < sizeof(f->pending) ? f->total - f->sent : sizeof(f->pending);
		if (n > 1000)
			n -= f->sent % 997; /* sizes of all kinds */
		for (size_t i = 0; i < n; i++)
			f->pending[i] = flow_byte(&f->seed_tx);
		f->pending_len = n;
		f->pending_off = 0;
		f->sent += n;
	}
	ssize_t n = send(f->from, f->pending + f->pending_off, f->pending_len - f->pending_off, MSG_NOSIGNAL);
	if (n > 0)
		f->pending_off += (size_t)n;
}

static void flow_recv(struct flow *f)
{
	static uint8_t bytes[200000];
	ssize_t n = recv(f->to, bytes, sizeof(bytes), 0);
	for (ssize_t i = 0; i < n; i++)
		f->bad |= bytes[i] != flow_byte(&f->seed_rx);
	if (n > 0)
		f->received += (size_t)n;
}

static bool flows_done(void *arg)
{
	struct flow *f = arg;
	for (int i = 0; i < 2; i++) {
		if (f[i].sent < f[i].total || f[i].pending_off < f[i].pending_len)
			flow_send(&f[i]);
		flow_recv(&f[i]);
	}
	return f[0].received == f[0].total && f[1].received == f[1].total;
}

static void test_tunnel_random_data_both_ways_is_intact(void **state)
{
	struct world *w = *state;
	int client, server;
	world_open(w, &client, &server);
	struct flow *f = calloc(2, sizeof(*f));
	f[0] = (struct flow){ .from = client, .to = server, .seed_tx = 1, .seed_rx = 1, .total = 24 << 20 };
	f[1] = (struct flow){ .from = server, .to = client, .seed_tx = 7, .seed_rx = 7, .total = 24 << 20 };
	run_until(w->loop, flows_done, f);
	assert_false(f[0].bad);
	assert_false(f[1].bad);
	free(f);
	close(client);
	close(server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(test_tunnel_message_arrives_both_ways),
		WORLD_TEST_V6(test_tunnel_over_v6_works),
		WORLD_TEST(test_tunnel_data_and_end_at_once_arrive_in_order),
		WORLD_TEST(test_tunnel_application_sees_true_peer),
		WORLD_TEST(test_tunnel_half_close_is_carried_both_ways),
		WORLD_TEST(test_tunnel_reset_by_client_resets_server),
		WORLD_TEST(test_tunnel_reset_by_server_resets_client),
		WORLD_TEST(test_tunnel_unknown_endpoint_is_reset),
		WORLD_TEST(test_tunnel_application_that_is_down_is_503),
		WORLD_TEST(test_tunnel_policy_without_matching_rule_is_401),
		WORLD_TEST(test_tunnel_unexpected_identity_is_refused),
		WORLD_TEST(test_tunnel_foreign_port_of_pod_is_refused),
		WORLD_TEST(test_tunnel_foreign_address_is_refused),
		WORLD_TEST(test_tunnel_random_data_both_ways_is_intact),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
