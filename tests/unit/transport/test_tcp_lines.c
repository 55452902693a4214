/* SPDX-License-Identifier: Apache-2.0 */
/* What access logs say of connections that are relayed, when somebody asks for lines. */
#include "agent/model/cluster.h"
#include "agent/model/l7.h"
#include "agent/model/policy.h"
#include "agent/model/service.h"
#include "agent/model/workload.h"
#include "tests/unit/hbone/fake_log.h"
#include "tests/unit/transport/stage.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static int lines_setup(void **state)
{
	int rc = stage_setup(state);
	struct worker *w = *state;
	fake_log_want(&w->pod);
	w->stage->cluster->name = strdup("outbound|80||redis");
	return rc;
}

static int lines_teardown(void **state)
{
	struct worker *w = *state;
	fake_log_done(&w->pod);
	return stage_teardown(state);
}

#define LINES_TEST(name) cmocka_unit_test_setup_teardown(name, lines_setup, lines_teardown)

static void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void hear(struct worker *w, int fd, const char *text)
{
	char got[64];
	for (size_t n = 0; n < strlen(text);) {
		ssize_t some = rig_next(w, fd, got + n, sizeof(got) - n);
		assert_true(some > 0);
		n += (size_t)some;
	}
}

static void expect_reset(struct worker *w, int fd)
{
	assert_int_equal(rig_next(w, fd, &(char){ 0 }, 1), -ECONNRESET);
	close(fd);
}

__attribute__((format(printf, 2, 3))) static void expect_line(struct worker *w, const char *format, ...)
{
	char want[512];
	va_list args;
	rig_until(w, &fake_log_lines, 1);
	rig_run(w, 3);
	assert_int_equal(fake_log_lines, 1);
	va_start(args, format);
	vsnprintf(want, sizeof(want), format, args);
	va_end(args);
	assert_string_equal(fake_log_line, want);
	fake_log_lines = 0;
}

static const char *text_of(const struct addr_port *a)
{
	static char text[ADDR_PORT_TEXT_MAX];
	return addr_port_text(a, text);
}

static void test_a_relay_has_one_line_with_its_bytes(void **state)
{
	struct worker *w = *state;
	int listener = stage_listen("127.0.0.1", &w->stage->endpoint->addr);
	int fd = stage_outbound(w);
	say(fd, "*1\r\n");
	int server = stage_accept(w, listener);
	hear(w, server, "*1\r\n");
	say(server, "+PONG\r\n");
	hear(w, fd, "+PONG\r\n");
	assert_int_equal(fake_log_lines, 0); /* when it is over */
	close(fd);
	close(server);
	expect_line(w, "client - - 4 7 - 10.96.0.1:80 %s outbound|80||redis - -", text_of(&w->stage->endpoint->addr));
	close(listener);
}

/* The server is called before it is known that the connection is its: no line of what is only tried. */
static void test_what_is_called_ahead_has_one_line(void **state)
{
	struct worker *w = *state;
	int listener = stage_listen("127.0.0.1", &w->stage->endpoint->addr);
	int fd = stage_outbound(w);
	int server = stage_accept(w, listener);
	say(server, "220\r\n");
	hear(w, fd, "220\r\n");
	close(fd);
	close(server);
	expect_line(w, "client - - 0 5 - 10.96.0.1:80 %s outbound|80||redis - -", text_of(&w->stage->endpoint->addr));

	fd = stage_outbound(w);
	server = stage_accept(w, listener);
	say(fd, "GET / HTTP/1.1\r\n");
	rig_until(w, &w->stage->http, 1);
	rig_run(w, 3);
	assert_int_equal(fake_log_lines, 0); /* its requests have lines */
	close(server);
	close(fd);
	close(listener);
}

static void test_a_tunnel_gets_the_line_that_was_begun(void **state)
{
	struct worker *w = *state;
	w->stage->endpoint->tunnel = ENDPOINT_HBONE;
	addr_port_parse("10.0.0.9:6379", &w->stage->endpoint->addr);
	int fd = stage_outbound(w);
	say(fd, "*1\r\n");
	expect_line(w, "client - - 0 0 - 10.96.0.1:80 %s outbound|80||redis - -", "10.0.0.9:6379");
	close(fd);
}

static void test_refusals_have_flags_and_reasons(void **state)
{
	struct worker *w = *state;
	struct addr_port nobody;
	w->stage->target->mode = L7_TCP;
	int listener = stage_listen("127.0.0.1", &nobody);
	close(listener);
	w->stage->endpoint->addr = nobody;
	expect_reset(w, stage_outbound(w));
	expect_line(w, "client UF - 0 0 - 10.96.0.1:80 %s outbound|80||redis - -", text_of(&nobody));

	free(w->stage->endpoint);
	w->stage->endpoint = NULL;
	expect_reset(w, stage_outbound(w));
	expect_line(w, "client UH %s 0 0 - 10.96.0.1:80 - outbound|6379||redis - -", "no_endpoint");

	free(w->stage->target->default_cluster);
	w->stage->target->default_cluster = NULL;
	w->stage->target->registry_only = true;
	expect_reset(w, stage_outbound(w));
	expect_line(w, "client UH %s 0 0 - 10.96.0.1:80 - BlackHoleCluster - -", "not_in_registry");
}

static void test_the_longest_duration_is_a_flag(void **state)
{
	struct worker *w = *state;
	w->stage->cluster->tcp.max_connection_duration_ms = 100;
	int listener = stage_listen("127.0.0.1", &w->stage->endpoint->addr);
	int fd = stage_outbound(w);
	say(fd, "*");
	int server = stage_accept(w, listener);
	expect_reset(w, fd);
	expect_line(w, "client DT - 1 0 - 10.96.0.1:80 %s outbound|80||redis - -", text_of(&w->stage->endpoint->addr));
	close(server);
	close(listener);
}

static void test_the_servers_side_says_who_called(void **state)
{
	struct worker *w = *state;
	char *uri = (char *)"spiffe://cluster.local/ns/shop/sa/frontend";
	struct addr_port local;
	int listener = stage_listen("127.0.0.1", &local);
	struct inbound_port port = { .port = local.port, .app = APP_TCP };
	w->pod.l7_ports = &port;
	w->pod.l7_port_count = 1;
	w->stage->caller = (struct endpoint_info){ .known = true, .identities = &uri, .identity_count = 1 };
	int fd = stage_inbound(w, &local, POD_LISTEN_ATTESTED);
	int app = stage_accept(w, listener);
	say(fd, "hello");
	hear(w, app, "hello");
	close(fd);
	close(app);
	expect_line(w, "server - - 5 0 10.1.1.1 %s %s inbound|%u|| - %s", text_of(&local), text_of(&local), local.port,
		    uri);

	w->pod.policy->has_allow = true;
	expect_reset(w, stage_inbound(w, &local, POD_LISTEN_ATTESTED));
	expect_line(w, "server - rbac_access_denied_matched_policy[none] 0 0 10.1.1.1 %s - inbound|%u|| - %s",
		    text_of(&local), local.port, uri);

	fake_log_done(&w->pod);
	expect_reset(w, stage_inbound(w, &local, POD_LISTEN_ATTESTED));
	rig_run(w, 3);
	assert_int_equal(fake_log_lines, 0);
	w->pod.l7_ports = NULL;
	close(listener);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		LINES_TEST(test_a_relay_has_one_line_with_its_bytes),
		LINES_TEST(test_what_is_called_ahead_has_one_line),
		LINES_TEST(test_a_tunnel_gets_the_line_that_was_begun),
		LINES_TEST(test_refusals_have_flags_and_reasons),
		LINES_TEST(test_the_longest_duration_is_a_flag),
		LINES_TEST(test_the_servers_side_says_who_called),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
