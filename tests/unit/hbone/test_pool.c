/* SPDX-License-Identifier: Apache-2.0 */
/* Sharing, limits and the end of connections between workers. */
#include "agent/base/loop.h"
#include "agent/base/str.h"
#include "agent/helper/h2.h"
#include "agent/helper/tls_credentials.h"
#include "agent/model/policy.h"
#include "agent/model/service.h"
#include "tests/unit/hbone/world.h"

#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { MANY = 101, IDLE = 1000, SLOW = 72 };

static void echo(struct world *w, int client, int server)
{
	char byte = 0;
	app_send(w->loop, client, "x", 1);
	app_recv(w->loop, server, &byte, 1);
	assert_int_equal(byte, 'x');
	app_send(w->loop, server, "y", 1);
	app_recv(w->loop, client, &byte, 1);
	assert_int_equal(byte, 'y');
}

/* Opens n connections at once; returns when all have reached the application. */
static void open_many(struct world *w, int n, int *clients, int *servers)
{
	for (int i = 0; i < n; i++)
		clients[i] = app_connect(&w->client, &w->app);
	for (int i = 0; i < n; i++)
		servers[i] = tcp_accept(w->loop, w->listener);
}

static void close_many(int n, const int *clients, const int *servers)
{
	for (int i = 0; i < n; i++) {
		close(clients[i]);
		close(servers[i]);
	}
}

static void test_pool_first_connections_share_a_handshake(void **state)
{
	struct world *w = *state;
	int clients[20], servers[20];
	open_many(w, 20, clients, servers);
	assert_int_equal(w->client.metrics.handshakes_client, 1);
	assert_int_equal(w->server.tunnels_accepted, 1);
	close_many(20, clients, servers);
}

static void test_pool_later_connection_finds_it(void **state)
{
	struct world *w = *state;
	int clients[2], servers[2];
	world_open(w, &clients[0], &servers[0]);
	echo(w, clients[0], servers[0]);
	world_open(w, &clients[1], &servers[1]);
	assert_int_equal(w->client.metrics.handshakes_client, 1);
	assert_int_equal(w->client.metrics.pool_hits, 1);
	close_many(2, clients, servers);
}

static void test_pool_beyond_hundred_streams_gets_second_connection(void **state)
{
	struct world *w = *state;
	int clients[MANY], servers[MANY];
	open_many(w, MANY, clients, servers);
	assert_int_equal(w->client.metrics.handshakes_client, 2);
	close_many(MANY, clients, servers);
}

static void test_pool_other_expected_identity_is_another_pool(void **state)
{
	struct world *w = *state;
	int client, server;
	char byte;
	world_open(w, &client, &server);
	char *real = w->client.endpoints[0].identities[0];
	w->client.endpoints[0].identities[0] = (char *)"spiffe://cluster.local/ns/shop/sa/other";
	int refused = app_connect(&w->client, &w->app);
	assert_int_equal(app_next(w->loop, refused, &byte, 1), -ECONNRESET);
	assert_int_equal(w->client.drops[DROP_TLS_IDENTITY], 1);
	w->client.endpoints[0].identities[0] = real;
	echo(w, client, server);
	close(refused);
	close(client);
	close(server);
}

static void test_pool_connection_limit_of_destination_refuses(void **state)
{
	struct world *w = *state;
	int client, server;
	char byte;
	w->client.endpoints[0].max_connections = 1;
	world_open(w, &client, &server);
	int refused = app_connect(&w->client, &w->app);
	assert_int_equal(app_next(w->loop, refused, &byte, 1), -ECONNRESET);
	assert_int_equal(w->client.drops[DROP_CONNECTION_LIMIT], 1);
	close(refused);
	close(client);
	close(server);
}

static void test_pool_connection_limit_of_pod_refuses(void **state)
{
	struct world *w = *state;
	int client, server;
	char byte;
	w->client.pod.max_connections = 1;
	world_open(w, &client, &server);
	int refused = app_connect(&w->client, &w->app);
	assert_int_equal(app_next(w->loop, refused, &byte, 1), -ECONNRESET);
	assert_int_equal(w->client.drops[DROP_CONNECTION_LIMIT], 1);
	close(refused);
	close(client);
	close(server);
}

static void test_pool_without_certificate_refuses(void **state)
{
	struct world *w = *state;
	char byte;
	struct hbone *before = w->client.hbone;
	assert_int_equal(hbone_new(&w->client, &w->client.hbone), 0);
	int client = app_connect(&w->client, &w->app);
	assert_int_equal(app_next(w->loop, client, &byte, 1), -ECONNRESET);
	assert_int_equal(w->client.drops[DROP_NO_CERTIFICATE], 1);
	close(client);
	hbone_free(w->client.hbone);
	w->client.hbone = before;
}

static void test_drain_carries_on_and_takes_nothing_new(void **state)
{
	struct world *w = *state;
	int client, server;
	char byte;
	world_open(w, &client, &server);
	hbone_drain(w->client.hbone);
	run_turns(w->loop, 5);
	echo(w, client, server);
	int refused = app_connect(&w->client, &w->app);
	assert_int_equal(app_next(w->loop, refused, &byte, 1), -ECONNRESET);
	assert_int_equal(w->client.drops[DROP_DRAINING], 1);
	close(refused);
	close(client);
	close(server);
	run_turns(w->loop, 5);
	assert_int_equal(hbone_live(w->client.hbone), 0);
}

static void test_goaway_of_server_moves_new_streams_to_new_connection(void **state)
{
	struct world *w = *state;
	int clients[2], servers[2];
	world_open(w, &clients[0], &servers[0]);
	/* The server's side drains; a new helper takes its place on the same listener. */
	struct hbone *old = w->server.hbone;
	hbone_drain(old);
	assert_int_equal(hbone_new(&w->server, &w->server.hbone), 0);
	hbone_credentials(w->server.hbone, test_credentials_for(w->ca, BACKEND));
	hbone_trust(w->server.hbone, test_trust(w->ca, NULL));
	world_open(w, &clients[1], &servers[1]);
	echo(w, clients[0], servers[0]);
	echo(w, clients[1], servers[1]);
	assert_int_equal(w->client.metrics.handshakes_client, 2);
	close_many(2, clients, servers);
	run_turns(w->loop, 5);
	hbone_free(old);
}

static void test_server_that_dies_resets_and_is_connected_to_again(void **state)
{
	struct world *w = *state;
	int client, server;
	char byte;
	world_open(w, &client, &server);
	echo(w, client, server);
	hbone_free(w->server.hbone);
	assert_int_equal(hbone_new(&w->server, &w->server.hbone), 0);
	hbone_credentials(w->server.hbone, test_credentials_for(w->ca, BACKEND));
	hbone_trust(w->server.hbone, test_trust(w->ca, NULL));
	assert_int_equal(app_next(w->loop, client, &byte, 1), -ECONNRESET);
	close(client);
	close(server);
	world_open(w, &client, &server);
	echo(w, client, server);
	close(client);
	close(server);
}

static void test_rotation_keeps_connections_and_is_used_by_new_ones(void **state)
{
	struct world *w = *state;
	int clients[2], servers[2];
	world_open(w, &clients[0], &servers[0]);
	hbone_credentials(w->client.hbone, test_credentials_for(w->ca, FRONTEND));
	hbone_credentials(w->server.hbone, test_credentials_for(w->ca, BACKEND));
	echo(w, clients[0], servers[0]);
	world_open(w, &clients[1], &servers[1]);
	assert_int_equal(w->client.metrics.handshakes_client, 2);
	echo(w, clients[0], servers[0]);
	echo(w, clients[1], servers[1]);
	close_many(2, clients, servers);
}

static void test_revocation_cuts_live_connections(void **state)
{
	struct world *w = *state;
	int client, server;
	char byte;
	struct cert_options o = { .uris = { FRONTEND }, .serial = 0xabcdef };
	hbone_credentials(w->client.hbone, test_credentials(w->ca, FRONTEND, &o));
	world_open(w, &client, &server);
	echo(w, client, server);
	hbone_trust(w->server.hbone, test_trust(w->ca, "123"));
	run_turns(w->loop, 5);
	echo(w, client, server);
	hbone_trust(w->server.hbone, test_trust(w->ca, "ABCDEF"));
	assert_int_equal(app_next(w->loop, client, &byte, 1), -ECONNRESET);
	assert_int_equal(app_next(w->loop, server, &byte, 1), -ECONNRESET);
	assert_int_equal(w->server.drops[DROP_TLS_REVOKED], 1);
	assert_int_equal(w->server.metrics.policy_cuts, 1);
	close(client);
	close(server);
}

static void test_policy_change_cuts_what_it_forbids(void **state)
{
	struct world *w = *state;
	int client, server;
	char byte;
	world_open(w, &client, &server);
	echo(w, client, server);
	hbone_policy_changed(w->server.hbone, &w->server.pod);
	echo(w, client, server);
	w->server.pod.policy->has_allow = true;
	hbone_policy_changed(w->server.hbone, &w->server.pod);
	assert_int_equal(app_next(w->loop, client, &byte, 1), -ECONNRESET);
	assert_int_equal(app_next(w->loop, server, &byte, 1), -ECONNRESET);
	assert_int_equal(w->server.metrics.policy_cuts, 1);
	close(client);
	close(server);
}

static void rules_on_requests(struct world *w)
{
	static struct inbound_port port;
	port = (struct inbound_port){ .port = w->app.port, .app = APP_HTTP };
	w->server.pod.l7_ports = &port;
	w->server.pod.l7_port_count = 1;
	hbone_policy_changed(w->server.hbone, &w->server.pod);
	run_turns(w->loop, 5);
}

/* An answer to what was asked before still goes out; what is asked later reaches nobody. */
static void test_rules_on_requests_end_what_was_taken_for_bytes(void **state)
{
	struct world *w = *state;
	int client, server;
	char byte;
	world_open(w, &client, &server);
	app_send(w->loop, client, "?", 1);
	app_recv(w->loop, server, &byte, 1);
	rules_on_requests(w);
	app_send(w->loop, server, "!", 1);
	app_recv(w->loop, client, &byte, 1);
	assert_int_equal(byte, '!');
	assert_int_equal(w->server.metrics.policy_cuts, 0);
	app_send(w->loop, client, "?", 1);
	assert_int_equal(app_next(w->loop, client, &byte, 1), -ECONNRESET);
	assert_int_equal(app_next(w->loop, server, &byte, 1), -ECONNRESET);
	assert_int_equal(w->server.metrics.policy_cuts, 1);
	close(client);
	close(server);
}

static void test_rules_on_requests_end_http2_at_once(void **state)
{
	struct world *w = *state;
	int client, server;
	char bytes[4];
	world_open(w, &client, &server);
	app_send(w->loop, client, "PRI ", 4);
	app_recv(w->loop, server, bytes, 4);
	rules_on_requests(w);
	assert_int_equal(app_next(w->loop, client, bytes, 1), -ECONNRESET);
	assert_int_equal(app_next(w->loop, server, bytes, 1), -ECONNRESET);
	assert_int_equal(w->server.metrics.policy_cuts, 1);
	close(client);
	close(server);
}

static void test_removed_pod_takes_its_connections_along(void **state)
{
	struct world *w = *state;
	int client, server;
	char byte;
	world_open(w, &client, &server);
	echo(w, client, server);
	hbone_pod_removed(w->server.hbone, &w->server.pod);
	assert_int_equal(app_next(w->loop, client, &byte, 1), -ECONNRESET);
	run_turns(w->loop, 3);
	assert_int_equal(w->server.pod.refs, 0);
	close(client);
	close(server);
}

/* --- memory --- */

struct pour {
	int fd, stalled;
	size_t total;
	const uint64_t *buffered;
	uint64_t most;
};

static bool poured(void *arg)
{
	static const uint8_t block[65536];
	struct pour *p = arg;
	ssize_t n = send(p->fd, block, sizeof(block), MSG_NOSIGNAL);
	if (n > 0)
		p->total += (size_t)n;
	p->stalled = n > 0 ? 0 : p->stalled + 1;
	if (*p->buffered > p->most)
		p->most = *p->buffered;
	return p->stalled > 50;
}

static bool drained(void *arg)
{
	static uint8_t block[262144];
	struct pour *p = arg;
	ssize_t n;
	while ((n = recv(p->fd, block, sizeof(block), 0)) > 0)
		p->total -= (size_t)n;
	return p->total == 0;
}

static void test_slow_reader_holds_back_the_writer(void **state)
{
	struct world *w = *state;
	int client, server, other_client, other_server;
	world_open(w, &client, &server);
	world_open(w, &other_client, &other_server);
	struct pour pour = { .fd = client, .buffered = &w->server.metrics.buffers_bytes };
	run_until(w->loop, poured, &pour);
	/* The buffer's capacity may be twice what it holds. The rest is the kernel's. */
	assert_in_range(pour.most, H2_STREAM_WINDOW / 2, 2 * H2_STREAM_WINDOW_MAX);
	assert_true(pour.total < 64u << 20);
	echo(w, other_client, other_server); /* the tunnel itself is not blocked */
	pour.fd = server;
	run_until(w->loop, drained, &pour);
	run_turns(w->loop, 5);
	assert_int_equal(w->server.metrics.buffers_bytes, 0);
	assert_int_equal(w->client.metrics.buffers_bytes, 0);
	close(client);
	close(server);
	close(other_client);
	close(other_server);
}

static bool all_poured(void *arg)
{
	struct pour *p = arg;
	bool all = true;
	for (int i = 0; i < SLOW; i++)
		all &= poured(&p[i]);
	return all;
}

static bool all_drained(void *arg)
{
	struct pour *p = arg;
	bool all = true;
	for (int i = 0; i < SLOW; i++)
		all &= drained(&p[i]);
	return all;
}

/* Together they hold more than the tunnel's window. */
static void test_many_slow_readers_leave_the_others_alone(void **state)
{
	struct world *w = *state;
	static int clients[SLOW], servers[SLOW];
	static struct pour pours[SLOW];
	int client, server;
	world_open(w, &client, &server);
	for (int i = 0; i < SLOW; i++) {
		world_open(w, &clients[i], &servers[i]);
		pours[i] = (struct pour){ .fd = clients[i], .buffered = &w->server.metrics.buffers_bytes };
	}
	run_until(w->loop, all_poured, pours);
	assert_int_equal(w->server.tunnels_accepted, 1);
	assert_in_range(w->server.metrics.buffers_bytes, H2_CONNECTION_WINDOW, 2 * H2_HELD_MAX);
	echo(w, client, server);
	struct pour other = { .fd = client, .buffered = &w->server.metrics.buffers_bytes };
	run_until(w->loop, poured, &other);
	other.fd = server;
	run_until(w->loop, drained, &other);

	for (int i = 0; i < SLOW; i++)
		pours[i].fd = servers[i];
	run_until(w->loop, all_drained, pours);
	run_turns(w->loop, 5);
	assert_int_equal(w->server.metrics.buffers_bytes, 0);
	close_many(SLOW, clients, servers);
	close(client);
	close(server);
}

static void test_idle_connection_costs_little(void **state)
{
	struct world *w = *state;
	static int clients[IDLE], servers[IDLE];
	world_open(w, &clients[0], &servers[0]);
	echo(w, clients[0], servers[0]);
	run_turns(w->loop, 3);
	size_t before = mallinfo2().uordblks;
	for (int i = 1; i < IDLE; i++)
		world_open(w, &clients[i], &servers[i]);
	run_turns(w->loop, 3);
	/* Both ends are in this process: half of it is each side's. */
	size_t each = (mallinfo2().uordblks - before) / (IDLE - 1) / 2;
	assert_true(each <= 1536);
	close_many(IDLE, clients, servers);
}

static void test_dump_names_connections_and_pools(void **state)
{
	struct world *w = *state;
	int client, server;
	world_open(w, &client, &server);
	echo(w, client, server);
	struct sb sb = { 0 };
	hbone_dump(w->client.hbone, "connections", &sb);
	assert_non_null(strstr(sb.p, "\"state\":\"open\""));
	assert_non_null(strstr(sb.p, BACKEND));
	assert_non_null(strstr(sb.p, w->authority));
	sb_done(&sb);
	sb = (struct sb){ 0 };
	hbone_dump(w->client.hbone, "pools", &sb);
	assert_non_null(strstr(sb.p, "\"connections\":1"));
	sb_done(&sb);
	close(client);
	close(server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(test_pool_first_connections_share_a_handshake),
		WORLD_TEST(test_pool_later_connection_finds_it),
		WORLD_TEST(test_pool_beyond_hundred_streams_gets_second_connection),
		WORLD_TEST(test_pool_other_expected_identity_is_another_pool),
		WORLD_TEST(test_pool_connection_limit_of_destination_refuses),
		WORLD_TEST(test_pool_connection_limit_of_pod_refuses),
		WORLD_TEST(test_pool_without_certificate_refuses),
		WORLD_TEST(test_drain_carries_on_and_takes_nothing_new),
		WORLD_TEST(test_goaway_of_server_moves_new_streams_to_new_connection),
		WORLD_TEST(test_server_that_dies_resets_and_is_connected_to_again),
		WORLD_TEST(test_rotation_keeps_connections_and_is_used_by_new_ones),
		WORLD_TEST(test_revocation_cuts_live_connections),
		WORLD_TEST(test_policy_change_cuts_what_it_forbids),
		WORLD_TEST(test_rules_on_requests_end_what_was_taken_for_bytes),
		WORLD_TEST(test_rules_on_requests_end_http2_at_once),
		WORLD_TEST(test_removed_pod_takes_its_connections_along),
		WORLD_TEST(test_slow_reader_holds_back_the_writer),
		WORLD_TEST(test_many_slow_readers_leave_the_others_alone),
		WORLD_TEST(test_idle_connection_costs_little),
		WORLD_TEST(test_dump_names_connections_and_pools),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
