/* SPDX-License-Identifier: Apache-2.0 */
/* What access logs say of connections in tunnels, on both sides, when somebody asks for lines. */
#include "agent/model/policy.h"
#include "tests/unit/hbone/fake_log.h"
#include "tests/unit/hbone/world.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* rest: what is behind the address that was called. */
static void expect_line(struct world *w, struct worker_pod *pod, const char *begin, const char *rest)
{
	char want[512];
	run_until_count(w->loop, &fake_log_lines, 1);
	snprintf(want, sizeof(want), "%s 127.0.0.1 %s %s", begin, w->authority, rest);
	assert_string_equal(fake_log_line, want);
	assert_int_equal(fake_log_lines, 1);
	fake_log_done(pod);
}

/* Of the server's side: the port is the test's. */
static void expect_inbound(struct world *w, const char *begin, const char *upstream)
{
	char rest[128];
	snprintf(rest, sizeof(rest), "%s inbound|%u|| - " FRONTEND, upstream, w->app.port);
	expect_line(w, &w->server.pod, begin, rest);
}

static void expect_outbound(struct world *w, const char *begin)
{
	char rest[128];
	snprintf(rest, sizeof(rest), "%s PassthroughCluster - -", w->authority);
	expect_line(w, &w->client.pod, begin, rest);
}

static void question_and_answer(struct world *w)
{
	int client, server;
	char text[16];
	world_open(w, &client, &server);
	app_send(w->loop, client, "question", 8);
	app_recv(w->loop, server, text, 8);
	app_send(w->loop, server, "answer", 6);
	app_recv(w->loop, client, text, 6);
	close(client);
	close(server);
}

static void test_the_clients_side_has_a_line(void **state)
{
	struct world *w = *state;
	fake_log_want(&w->client.pod);
	question_and_answer(w);
	expect_outbound(w, "client - - 8 6");
}

static void test_the_servers_side_has_a_line(void **state)
{
	struct world *w = *state;
	fake_log_want(&w->server.pod);
	question_and_answer(w);
	expect_inbound(w, "server - - 8 6", w->authority);
}

static bool is_over(void *arg)
{
	struct world *w = arg;
	return w->server.metrics.inbound_closed && w->client.metrics.outbound_closed;
}

/* One line a request, of the caller's side, is enough. */
static void test_the_servers_side_has_none_of_http(void **state)
{
	struct world *w = *state;
	int client, server;
	char text[32];
	fake_log_want(&w->server.pod);
	world_open(w, &client, &server);
	app_send(w->loop, client, "GET / HTTP/1.1\r\n", 16);
	app_recv(w->loop, server, text, 16);
	close(client);
	close(server);
	run_until(w->loop, is_over, w);
	assert_int_equal(fake_log_lines, 0);
	fake_log_done(&w->server.pod);
}

static void test_what_the_server_refuses_has_lines_with_the_reason(void **state)
{
	struct world *w = *state;
	char byte;
	w->server.pod.policy->has_allow = true;
	for (int side = 0; side < 2; side++) {
		struct worker_pod *pod = side ? &w->server.pod : &w->client.pod;
		fake_log_want(pod);
		int client = app_connect(&w->client, &w->app);
		assert_int_equal(app_next(w->loop, client, &byte, 1), -ECONNRESET);
		close(client);
		if (side)
			expect_inbound(w, "server - rbac_access_denied_matched_policy[none] 0 0", "-");
		else
			expect_outbound(w, "client UF - 0 0");
	}
}

/* A ClientHello of a.example in one piece, the smallest that has a name. */
static void test_the_name_in_tls_is_on_both_sides(void **state)
{
	static const uint8_t begin[] = { 22, 3, 1, 0, 65, 1, 0, 0, 61, 3, 3 }; /* then 32 of random */
	static const uint8_t end[] = { 0, 0, 2, 0x13, 1, 1, 0, 0, 18, 0, 0, 0, 14, 0, 12, 0, 0, 9 };
	uint8_t hello[70] = { 0 };
	struct world *w = *state;
	char text[sizeof(hello)], rest[256];
	memcpy(hello, begin, sizeof(begin));
	memcpy(hello + sizeof(begin) + 32, end, sizeof(end));
	memcpy(hello + sizeof(begin) + 32 + sizeof(end), "a.example", 9);
	for (int side = 0; side < 2; side++) {
		struct worker_pod *pod = side ? &w->server.pod : &w->client.pod;
		fake_log_want(pod);
		int client = app_connect(&w->client, &w->app);
		app_send(w->loop, client, (const char *)hello, sizeof(hello));
		int server = tcp_accept(w->loop, w->listener);
		app_recv(w->loop, server, text, sizeof(hello));
		close(client);
		close(server);
		run_until_count(w->loop, &fake_log_lines, 1);
		snprintf(rest, sizeof(rest), " inbound|%u|| a.example " FRONTEND, w->app.port);
		if (!strstr(fake_log_line, side ? rest : " PassthroughCluster a.example -"))
			fail_msg("%s", fake_log_line);
		fake_log_done(pod);
	}
}

static void test_what_no_socket_is_there_for_has_a_line(void **state)
{
	struct world *w = *state;
	char byte;
	w->server.withhold_sockets = true;
	fake_log_want(&w->server.pod);
	int client = app_connect(&w->client, &w->app);
	assert_int_equal(app_next(w->loop, client, &byte, 1), -ECONNRESET);
	close(client);
	expect_inbound(w, "server UF - 0 0", "-");
}

static void test_what_a_changed_policy_cuts_has_its_reason(void **state)
{
	struct world *w = *state;
	int client, server;
	fake_log_want(&w->server.pod);
	world_open(w, &client, &server);
	w->server.pod.policy->has_allow = true;
	hbone_policy_changed(w->server.hbone, &w->server.pod);
	expect_inbound(w, "server - rbac_access_denied_matched_policy[none] 0 0", w->authority);
	close(client);
	close(server);
}

static void test_a_tunnel_that_breaks_leaves_lines(void **state)
{
	struct world *w = *state;
	int client, server;
	fake_log_want(&w->server.pod);
	world_open(w, &client, &server);
	hbone_pod_removed(w->client.hbone, &w->client.pod);
	expect_inbound(w, "server - - 0 0", w->authority);
	close(client);
	close(server);
}

static void test_without_a_telemetry_there_is_none(void **state)
{
	struct world *w = *state;
	fake_log_lines = 0;
	question_and_answer(w);
	run_until(w->loop, is_over, w);
	assert_int_equal(fake_log_lines, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(test_the_clients_side_has_a_line),
		WORLD_TEST(test_the_servers_side_has_a_line),
		WORLD_TEST(test_the_servers_side_has_none_of_http),
		WORLD_TEST(test_what_the_server_refuses_has_lines_with_the_reason),
		WORLD_TEST(test_the_name_in_tls_is_on_both_sides),
		WORLD_TEST(test_what_no_socket_is_there_for_has_a_line),
		WORLD_TEST(test_what_a_changed_policy_cuts_has_its_reason),
		WORLD_TEST(test_a_tunnel_that_breaks_leaves_lines),
		WORLD_TEST(test_without_a_telemetry_there_is_none),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
