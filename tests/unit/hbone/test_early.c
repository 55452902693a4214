/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes that go out with the request, answers and ends that wait a moment for company. */
#include "agent/base/loop.h"
#include "agent/base/str.h"
#include "agent/helper/tls_credentials.h"
#include "tests/unit/hbone/raw_peer.h"
#include "tests/unit/hbone/world.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static void expect(struct world *w, int fd, const char *text)
{
	char got[64] = { 0 };
	app_recv(w->loop, fd, got, strlen(text));
	assert_string_equal(got, text);
}

/* A tunnel that has just been used. */
static void warm(struct world *w, int *client, int *server)
{
	world_open(w, client, server);
	app_send(w->loop, *client, "warm", 4);
	expect(w, *server, "warm");
	app_send(w->loop, *server, "warm", 4);
	expect(w, *client, "warm");
}

/* Another helper takes the old one's place behind the server's listener. */
static struct hbone *replace_server(struct world *w)
{
	struct hbone *old = w->server.hbone;
	assert_int_equal(hbone_new(&w->server, &w->server.hbone), 0);
	hbone_credentials(w->server.hbone, test_credentials_for(w->ca, BACKEND));
	hbone_trust(w->server.hbone, test_trust(w->ca, NULL));
	return old;
}

static void test_early_bytes_leave_with_the_request(void **state)
{
	struct world *w = *state;
	int client, server, other;
	struct sb sb = { 0 };
	warm(w, &client, &server);
	w->client.says = "hello";
	other = app_connect(&w->client, &w->app);
	hbone_dump(w->client.hbone, "connections", &sb);
	const char *asked = strstr(sb.p, "\"state\":\"connecting\"");
	assert_non_null(asked);
	assert_non_null(strstr(asked, "\"sent_bytes\":5"));
	sb_done(&sb);
	close(other);
	close(client);
	close(server);
}

static void test_early_bytes_arrive_in_order(void **state)
{
	struct world *w = *state;
	int clients[2], servers[2];
	warm(w, &clients[0], &servers[0]);
	w->client.says = "first ";
	clients[1] = app_connect(&w->client, &w->app);
	app_send(w->loop, clients[1], "second", 6);
	servers[1] = tcp_accept(w->loop, w->listener);
	expect(w, servers[1], "first second");
	app_send(w->loop, servers[1], "answer", 6);
	expect(w, clients[1], "answer");
	for (int i = 0; i < 2; i++) {
		close(clients[i]);
		close(servers[i]);
	}
}

/* More than is sent ahead, and the end behind it. */
static void test_early_bytes_many_and_their_end_arrive(void **state)
{
	struct world *w = *state;
	static char many[20000], got[sizeof(many)];
	int clients[2], servers[2];
	char byte;
	memset(many, 'm', sizeof(many) - 1);
	warm(w, &clients[0], &servers[0]);
	w->client.says = many;
	clients[1] = app_connect(&w->client, &w->app);
	shutdown(clients[1], SHUT_WR);
	servers[1] = tcp_accept(w->loop, w->listener);
	app_recv(w->loop, servers[1], got, sizeof(many) - 1);
	assert_memory_equal(got, many, sizeof(many) - 1);
	assert_int_equal(app_next(w->loop, servers[1], &byte, 1), 0);
	app_send(w->loop, servers[1], "answer", 6);
	expect(w, clients[1], "answer");
	for (int i = 0; i < 2; i++) {
		close(clients[i]);
		close(servers[i]);
	}
}

/* The server has said GOAWAY when the request comes: it was not worked off, and its bytes go to the next one. */
static void test_early_bytes_of_refused_stream_are_sent_again(void **state)
{
	struct world *w = *state;
	int clients[2], servers[2];
	warm(w, &clients[0], &servers[0]);
	struct hbone *old = replace_server(w);
	hbone_drain(old);
	w->client.says = "hello";
	clients[1] = app_connect(&w->client, &w->app);
	servers[1] = tcp_accept(w->loop, w->listener);
	expect(w, servers[1], "hello");
	app_send(w->loop, clients[1], " again", 6);
	expect(w, servers[1], " again");
	assert_int_equal(w->client.metrics.handshakes_client, 2);
	for (int i = 0; i < 2; i++) {
		close(clients[i]);
		close(servers[i]);
	}
	run_turns(w->loop, 5);
	hbone_free(old);
}

static void test_early_end_of_refused_stream_is_sent_again(void **state)
{
	struct world *w = *state;
	int clients[2], servers[2];
	char byte;
	warm(w, &clients[0], &servers[0]);
	struct hbone *old = replace_server(w);
	w->server.withhold_tunnels = true; /* the second try waits, and the client ends meanwhile */
	hbone_drain(old);
	w->client.says = "hello";
	clients[1] = app_connect(&w->client, &w->app);
	shutdown(clients[1], SHUT_WR);
	run_turns(w->loop, 3);
	w->server.withhold_tunnels = false;
	loop_io_set(w->server.listener_io, LOOP_READ);
	servers[1] = tcp_accept(w->loop, w->listener);
	expect(w, servers[1], "hello");
	assert_int_equal(app_next(w->loop, servers[1], &byte, 1), 0);
	for (int i = 0; i < 2; i++) {
		close(clients[i]);
		close(servers[i]);
	}
	run_turns(w->loop, 5);
	hbone_free(old);
}

static bool none_waits(int listener)
{
	return accept(listener, NULL, NULL) < 0 && errno == EAGAIN;
}

/* They may have arrived: nobody gets them twice. */
static void test_early_bytes_of_lost_connection_are_not_sent_again(void **state)
{
	struct world *w = *state;
	int clients[2], server;
	char byte;
	warm(w, &clients[0], &server);
	struct hbone *old = replace_server(w);
	w->client.says = "hello";
	clients[1] = app_connect(&w->client, &w->app);
	hbone_free(old);
	assert_int_equal(app_next(w->loop, clients[1], &byte, 1), -ECONNRESET);
	run_turns(w->loop, 10);
	assert_true(none_waits(w->listener));
	close(clients[0]);
	close(clients[1]);
	close(server);
}

static void test_silent_client_of_lost_connection_is_tried_again(void **state)
{
	struct world *w = *state;
	int clients[2], servers[2];
	warm(w, &clients[0], &servers[0]);
	struct hbone *old = replace_server(w);
	clients[1] = app_connect(&w->client, &w->app);
	hbone_free(old);
	servers[1] = tcp_accept(w->loop, w->listener);
	app_send(w->loop, clients[1], "hello", 5);
	expect(w, servers[1], "hello");
	for (int i = 0; i < 2; i++) {
		close(clients[i]);
		close(servers[i]);
	}
}

static void test_early_client_that_resets_is_let_go(void **state)
{
	struct world *w = *state;
	int clients[2], servers[2];
	struct linger linger = { .l_onoff = 1 };
	char byte;
	warm(w, &clients[0], &servers[0]);
	w->client.says = "hello";
	clients[1] = app_connect(&w->client, &w->app);
	setsockopt(clients[1], SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(clients[1]);
	servers[1] = tcp_accept(w->loop, w->listener);
	expect(w, servers[1], "hello");
	assert_int_equal(app_next(w->loop, servers[1], &byte, 1), -ECONNRESET);
	assert_int_equal(w->client.drops[DROP_HBONE_REFUSED], 0);
	close(clients[0]);
	close(servers[0]);
	close(servers[1]);
}

/* --- answers that wait, by frames */

static void raw_open(struct world *w, struct raw_peer *p)
{
	struct raw_options o = { .credentials = test_credentials_for(w->ca, FRONTEND) };
	assert_true(raw_connect(p, w->loop, &w->server.tunnel, &o));
	tls_credentials_unref(o.credentials);
	raw_begin(p);
}

static void test_answer_to_early_bytes_does_not_wait_for_long(void **state)
{
	struct world *w = *state;
	struct raw_peer p;
	struct raw_frame f;
	raw_open(w, &p);
	raw_request(&p, 1, w->authority, 0);
	raw_send_frame(&p, 0, 0, 1, "hello", 5);
	assert_int_equal(raw_status(&p, 1), 200); /* the application has said nothing */
	int server = tcp_accept(w->loop, w->listener);
	expect(w, server, "hello");
	app_send(w->loop, server, "answer", 6);
	assert_true(raw_next(&p, &f));
	assert_int_equal(f.type, 0);
	assert_memory_equal(f.payload, "answer", 6);
	close(server);
	raw_close(&p);
}

static void test_application_that_resets_at_once_is_no_refusal(void **state)
{
	struct world *w = *state;
	struct raw_peer p;
	struct raw_frame f;
	struct linger linger = { .l_onoff = 1 };
	raw_open(w, &p);
	raw_request(&p, 1, w->authority, 0);
	raw_send_frame(&p, 0, 0, 1, "hello", 5);
	int server = tcp_accept(w->loop, w->listener);
	setsockopt(server, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(server);
	assert_int_equal(raw_status(&p, 1), 200);
	assert_true(raw_next(&p, &f));
	assert_int_equal(f.type, 3); /* RST_STREAM */
	raw_close(&p);
}

/* --- ends that wait */

static void test_end_behind_the_peers_is_told_soon(void **state)
{
	struct world *w = *state;
	int client, server;
	char byte;
	warm(w, &client, &server);
	shutdown(client, SHUT_WR);
	assert_int_equal(app_next(w->loop, server, &byte, 1), 0);
	close(server);
	assert_int_equal(app_next(w->loop, client, &byte, 1), 0);
	close(client);
	run_turns(w->loop, 3);
	assert_int_equal(hbone_live(w->client.hbone), 0);
	assert_int_equal(hbone_live(w->server.hbone), 0);
}

struct pour {
	int fd, stalled;
	size_t total;
};

static bool poured(void *arg)
{
	static const char block[65536];
	struct pour *p = arg;
	ssize_t n = send(p->fd, block, sizeof(block), MSG_NOSIGNAL);
	p->total += n > 0 ? (size_t)n : 0;
	p->stalled = n > 0 ? 0 : p->stalled + 1;
	return p->stalled > 50;
}

static bool drained(void *arg)
{
	static char block[262144];
	struct pour *p = arg;
	ssize_t n;
	while ((n = recv(p->fd, block, sizeof(block), 0)) > 0)
		p->total -= (size_t)n;
	return n == 0;
}

/* Nobody waits for a client's socket once it has ended; what it does not take at once must come all the same. */
static void test_answer_after_the_end_arrives_whole(void **state)
{
	struct world *w = *state;
	int client, server;
	char byte;
	warm(w, &client, &server);
	shutdown(client, SHUT_WR);
	assert_int_equal(app_next(w->loop, server, &byte, 1), 0);
	struct pour pour = { .fd = server };
	run_until(w->loop, poured, &pour);
	assert_true(w->client.metrics.buffers_bytes > 0);
	close(server);
	pour.fd = client;
	run_until(w->loop, drained, &pour);
	assert_int_equal(pour.total, 0);
	close(client);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(test_early_bytes_leave_with_the_request),
		WORLD_TEST(test_early_bytes_arrive_in_order),
		WORLD_TEST(test_early_bytes_many_and_their_end_arrive),
		WORLD_TEST(test_early_bytes_of_refused_stream_are_sent_again),
		WORLD_TEST(test_early_end_of_refused_stream_is_sent_again),
		WORLD_TEST(test_early_bytes_of_lost_connection_are_not_sent_again),
		WORLD_TEST(test_silent_client_of_lost_connection_is_tried_again),
		WORLD_TEST(test_early_client_that_resets_is_let_go),
		WORLD_TEST(test_answer_to_early_bytes_does_not_wait_for_long),
		WORLD_TEST(test_application_that_resets_at_once_is_no_refusal),
		WORLD_TEST(test_end_behind_the_peers_is_told_soon),
		WORLD_TEST(test_answer_after_the_end_arrives_whole),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
