/* SPDX-License-Identifier: Apache-2.0 */
/* What happens when time passes: the tick is given a later clock, nobody sleeps. */
#include "agent/base/loop.h"
#include "agent/helper/hbone_internal.h"
#include "tests/unit/hbone/world.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* As the tick does, `later_ms` from now. */
static void pass(struct hbone *h, uint64_t later_ms)
{
	hbone_enter(h);
	uint64_t now_ms = hbone_now_ms(h) + later_ms;
	struct hbone_conn *c, *next;
	for (c = TAILQ_FIRST(&h->conns); c; c = next) {
		next = TAILQ_NEXT(c, all);
		conn_tick(c, now_ms);
	}
	hbone_leave(h);
}

static int connect_plain(struct world *w)
{
	struct sockaddr_storage sa;
	socklen_t len = addr_to_sockaddr(&w->server.tunnel, &sa);
	int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	connect(fd, (struct sockaddr *)&sa, len);
	run_until_count(w->loop, &w->server.tunnels_accepted, 1);
	return fd;
}

static void test_time_silent_peer_is_cut_after_handshake_timeout(void **state)
{
	struct world *w = *state;
	char byte;
	int fd = connect_plain(w);
	pass(w->server.hbone, HANDSHAKE_TIMEOUT_MS - 1000);
	assert_int_equal(w->server.drops[DROP_TLS_HANDSHAKE], 0);
	pass(w->server.hbone, HANDSHAKE_TIMEOUT_MS + 1000);
	assert_int_equal(w->server.drops[DROP_TLS_HANDSHAKE], 1);
	assert_int_equal(app_next(w->loop, fd, &byte, 1), 0);
	close(fd);
}

static void test_time_slow_peer_gets_no_more_time(void **state)
{
	struct world *w = *state;
	static const uint8_t hello[5] = { 0x16, 3, 1, 2, 0 };
	int fd = connect_plain(w);
	/* A byte now and then does not extend it. */
	for (int i = 0; i < 5; i++) {
		app_send(w->loop, fd, &hello[i], 1);
		run_turns(w->loop, 2);
	}
	pass(w->server.hbone, HANDSHAKE_TIMEOUT_MS + 1000);
	assert_int_equal(w->server.drops[DROP_TLS_HANDSHAKE], 1);
	close(fd);
}

static void test_time_quiet_connection_is_asked_and_answers(void **state)
{
	struct world *w = *state;
	int client, server;
	world_open(w, &client, &server);
	run_turns(w->loop, 3);
	struct hbone_conn *c = TAILQ_FIRST(&w->client.hbone->conns);
	pass(w->client.hbone, (PING_AFTER_S + 1) * 1000);
	assert_true(c->ping_sent);
	run_turns(w->loop, 10);
	assert_false(c->ping_sent);
	assert_int_equal(hbone_live(w->client.hbone), 1);
	close(client);
	close(server);
}

static void test_time_dead_peer_is_given_up(void **state)
{
	struct world *w = *state;
	int client, server;
	char byte;
	world_open(w, &client, &server);
	run_turns(w->loop, 3);
	pass(w->client.hbone, (PING_AFTER_S + 1) * 1000);
	/* No turn of the loop: the answer has not come when the time is up. */
	pass(w->client.hbone, (PING_AFTER_S + PING_TIMEOUT_S + 2) * 1000);
	assert_int_equal(w->client.drops[DROP_UPSTREAM_CONNECT], 1);
	assert_int_equal(app_next(w->loop, client, &byte, 1), -ECONNRESET);
	close(client);
	close(server);
}

static void test_time_unused_connection_is_released(void **state)
{
	struct world *w = *state;
	int client, server;
	world_open(w, &client, &server);
	close(client);
	close(server);
	run_turns(w->loop, 5);
	assert_int_equal(w->client.metrics.pool_connections, 1);
	pass(w->client.hbone, (POOL_IDLE_S - 5) * 1000);
	run_turns(w->loop, 5); /* the answer to PING */
	assert_int_equal(w->client.metrics.pool_connections, 1);
	pass(w->client.hbone, (POOL_IDLE_S + 5) * 1000);
	assert_int_equal(w->client.metrics.pool_connections, 0);
	run_turns(w->loop, 5);
	assert_true(TAILQ_EMPTY(&w->server.hbone->conns));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(test_time_silent_peer_is_cut_after_handshake_timeout),
		WORLD_TEST(test_time_slow_peer_gets_no_more_time),
		WORLD_TEST(test_time_quiet_connection_is_asked_and_answers),
		WORLD_TEST(test_time_dead_peer_is_given_up),
		WORLD_TEST(test_time_unused_connection_is_released),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
