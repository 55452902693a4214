/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes of accepted connections, by what their destination means and what they say. */
#include "agent/base/loop.h"
#include "agent/helper/balance/limits.h"
#include "agent/model/cluster.h"
#include "agent/model/identity.h"
#include "agent/model/l7.h"
#include "agent/model/policy.h"
#include "agent/model/service.h"
#include "agent/model/workload.h"
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

static void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void hear(struct worker *w, int fd, const char *text)
{
	char got[256];
	size_t n = 0, want = strlen(text);
	while (n < want) {
		ssize_t some = rig_next(w, fd, got + n, want - n);
		if (some <= 0)
			fail_msg("instead of \"%s\": %zd", text, some);
		n += (size_t)some;
	}
	assert_memory_equal(got, text, want);
}

static void heard_by_engine(struct worker *w, const char *text)
{
	rig_until_bytes(w, &w->stage->told, strlen(text));
	assert_int_equal(w->stage->told.data.len, strlen(text));
	assert_memory_equal(w->stage->told.data.p, text, strlen(text));
}

static void check_reset(struct worker *w, int fd, enum drop_reason reason)
{
	char byte;
	assert_int_equal(rig_next(w, fd, &byte, 1), -ECONNRESET);
	assert_int_equal(w->drops[reason], 1);
	close(fd);
}

static void say_bytes(int fd, const uint8_t *bytes, size_t n)
{
	assert_int_equal(send(fd, bytes, n, 0), n);
}

/* --- outbound, declared HTTP --- */

static void test_accept_declared_http_goes_to_the_engine(void **state)
{
	static const struct {
		const char *first, *then;
		enum http_protocol protocol;
	} rows[] = {
		{ "GET / HTTP/1.1\r\n", NULL, HTTP_PROTO_1 },
		{ "GE", NULL, HTTP_PROTO_1 }, /* it can't be HTTP/2: the codec waits for the rest */
		{ "P", "OST / HTTP/1.1\r\n", HTTP_PROTO_1 },
		{ "PRI * HTTP/2.0\r\n", "\r\nSM\r\n\r\n", HTTP_PROTO_2 },
		{ "GET  bad request\r\n\r\n", NULL, HTTP_PROTO_1 }, /* answered by the codec */
	};
	struct worker *w = *state;
	w->stage->target->mode = L7_HTTP;
	for (unsigned int i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char all[64];
		int fd = stage_outbound(w);
		say(fd, rows[i].first);
		if (rows[i].then) {
			rig_run(w, 3);
			assert_int_equal(w->stage->http, i);
			say(fd, rows[i].then);
		}
		rig_until(w, &w->stage->http, i + 1);
		assert_int_equal(w->stage->protocol, rows[i].protocol);
		snprintf(all, sizeof(all), "%s%s", rows[i].first, rows[i].then ? rows[i].then : "");
		heard_by_engine(w, all);
		assert_int_equal(w->pod.connections, 1);
		told_done(&w->stage->told);
		assert_int_equal(w->pod.connections, 0);
		close(fd);
	}
	assert_int_equal(w->stage->picks, 0);
}

static void test_accept_declared_http_may_be_silent(void **state)
{
	struct worker *w = *state;
	w->stage->target->mode = L7_HTTP;
	int fd = stage_outbound(w);
	rig_run(w, 350);
	assert_int_equal(acceptor_live(w->stage->acceptor), 0);
	assert_int_equal(w->pod.connections, 1);
	say(fd, "GET / HTTP/1.1\r\n");
	rig_until(w, &w->stage->http, 1);
	close(fd);

	fd = stage_outbound(w);
	rig_run(w, 5);
	close(fd);
	rig_run(w, 5);
	assert_int_equal(w->pod.connections, 1);
	assert_int_equal(w->stage->http, 1);

	fd = stage_outbound(w);
	rig_run(w, 5);
	acceptor_drain(w->stage->acceptor);
	assert_int_equal(rig_next(w, fd, &(char){ 0 }, 1), 0);
	close(fd);
}

static void test_accept_end_behind_a_beginning_is_the_codecs(void **state)
{
	struct worker *w = *state;
	w->stage->target->mode = L7_HTTP;
	int fd = stage_outbound(w);
	say(fd, "PRI *");
	shutdown(fd, SHUT_WR);
	rig_until(w, &w->stage->http, 1);
	rig_until(w, &w->stage->told.ends, 1);
	close(fd);
}

/* --- outbound, sniffed --- */

static void redis_at(struct worker *w, int *listener)
{
	*listener = stage_listen("127.0.0.1", &w->stage->endpoint->addr);
}

static void test_accept_sniffed_http_goes_to_the_engine(void **state)
{
	struct worker *w = *state;
	int fd = stage_outbound(w);
	say(fd, "GE");
	rig_run(w, 3);
	say(fd, "T /x HTT");
	rig_until(w, &w->stage->http, 1);
	heard_by_engine(w, "GET /x HTT");
	close(fd);
}

static void test_accept_other_bytes_are_relayed_whole(void **state)
{
	struct worker *w = *state;
	int listener;
	redis_at(w, &listener);
	w->stage->target->service = strdup("shop/redis.shop.svc");
	int fd = stage_outbound(w);
	say(fd, "*1\r\n$4\r\nPING\r\n");
	int server = stage_accept(w, listener);
	hear(w, server, "*1\r\n$4\r\nPING\r\n");
	say(server, "+PONG\r\n");
	hear(w, fd, "+PONG\r\n");
	assert_string_equal(w->stage->picked, "outbound|6379||redis");
	assert_string_equal(w->stage->picked_called, "redis.shop.svc");
	assert_int_equal(w->stage->reports_ok, 1);
	assert_int_equal(tcp_proxy_live(w->stage->tcp), 1);
	assert_int_equal(w->pod.connections, 1);
	shutdown(fd, SHUT_WR);
	assert_int_equal(rig_next(w, server, &(char){ 0 }, 1), 0);
	say(server, "last");
	hear(w, fd, "last");
	assert_int_equal(tcp_proxy_live(w->stage->tcp), 1);
	close(server);
	assert_int_equal(rig_next(w, fd, &(char){ 0 }, 1), 0);
	rig_run(w, 3);
	assert_int_equal(tcp_proxy_live(w->stage->tcp), 0);
	assert_int_equal(w->pod.connections, 0);
	close(fd);
	close(listener);
}

/* Its server is called while it is still listened to: both know nothing of each other yet. */
static void test_accept_server_speaks_first(void **state)
{
	struct worker *w = *state;
	int listener;
	redis_at(w, &listener);
	int fd = stage_outbound(w);
	int server = stage_accept(w, listener);
	assert_int_equal(acceptor_live(w->stage->acceptor), 1);
	say(server, "220 mail\r\n");
	hear(w, fd, "220 mail\r\n");
	assert_int_equal(acceptor_live(w->stage->acceptor), 0);
	say(fd, "helo\r\n");
	hear(w, server, "helo\r\n");
	close(server);
	close(fd);
	close(listener);
}

static void test_accept_server_says_all_and_ends(void **state)
{
	struct worker *w = *state;
	int listener;
	redis_at(w, &listener);
	int fd = stage_outbound(w);
	int server = stage_accept(w, listener);
	char byte;
	say(server, "17:00");
	close(server);
	hear(w, fd, "17:00");
	assert_int_equal(rig_next(w, fd, &byte, 1), 0);
	close(fd);
	close(listener);
}

static void test_accept_slow_http_client_was_only_early(void **state)
{
	struct worker *w = *state;
	int listener;
	redis_at(w, &listener);
	int fd = stage_outbound(w);
	int server = stage_accept(w, listener);
	char byte;
	say(fd, "GET / HTTP/1.1\r\n");
	rig_until(w, &w->stage->http, 1);
	heard_by_engine(w, "GET / HTTP/1.1\r\n");
	assert_int_equal(rig_next(w, server, &byte, 1), 0); /* and nothing before */
	assert_int_equal(w->metrics.outbound_opened, 0);
	close(server);
	close(fd);
	close(listener);
}

static void test_accept_server_that_cannot_be_called_ahead(void **state)
{
	struct worker *w = *state;
	int listener;
	redis_at(w, &listener);
	close(listener);
	int fd = stage_outbound(w);
	rig_until(w, &w->stage->reports_failed, 1);
	assert_int_equal(w->drops[DROP_UPSTREAM_CONNECT], 0); /* it may still be HTTP: nothing was refused */
	say(fd, "GET / HTTP/1.1\r\n");
	rig_until(w, &w->stage->http, 1);
	close(fd);
}

static void test_accept_half_a_request_line_is_not_http_for_ever(void **state)
{
	struct worker *w = *state;
	int listener;
	redis_at(w, &listener);
	int fd = stage_outbound(w);
	say(fd, "hello");
	int server = stage_accept(w, listener);
	hear(w, server, "hello");
	close(server);
	close(fd);
	close(listener);
}

static void test_accept_much_goes_both_ways(void **state)
{
	enum { SIZE = 8 << 20 };
	struct worker *w = *state;
	int listener;
	redis_at(w, &listener);
	int fd = stage_outbound(w);
	uint8_t *out = malloc(SIZE), *in = malloc(SIZE), *back = malloc(SIZE);
	for (size_t i = 0; i < SIZE; i++)
		out[i] = (uint8_t)(i ^ (i >> 13));
	out[0] = '*';
	size_t sent = 0, got = 0, sent_back = 0, got_back = 0;
	ssize_t n = send(fd, out, 1000, MSG_NOSIGNAL);
	sent = (size_t)n;
	int server = stage_accept(w, listener);
	while (got < SIZE || got_back < SIZE) {
		n = send(fd, out + sent, SIZE - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
		sent += n > 0 ? (size_t)n : 0;
		n = send(server, out + sent_back, SIZE - sent_back, MSG_NOSIGNAL | MSG_DONTWAIT);
		sent_back += n > 0 ? (size_t)n : 0;
		n = recv(server, in + got, SIZE - got, MSG_DONTWAIT);
		got += n > 0 ? (size_t)n : 0;
		n = recv(fd, back + got_back, SIZE - got_back, MSG_DONTWAIT);
		got_back += n > 0 ? (size_t)n : 0;
		rig_run(w, 1);
	}
	assert_memory_equal(in, out, SIZE);
	assert_memory_equal(back, out, SIZE);
	free(out);
	free(in);
	free(back);
	close(server);
	close(fd);
	close(listener);
}

static void test_accept_reset_is_passed_on(void **state)
{
	struct worker *w = *state;
	struct linger linger = { .l_onoff = 1 };
	int listener;
	redis_at(w, &listener);
	int fd = stage_outbound(w);
	say(fd, "*");
	int server = stage_accept(w, listener);
	hear(w, server, "*");
	setsockopt(server, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(server);
	assert_int_equal(rig_next(w, fd, &(char){ 0 }, 1), -ECONNRESET);
	close(fd);
	close(listener);
}

static void test_accept_longest_duration_cuts(void **state)
{
	struct worker *w = *state;
	int listener;
	w->stage->cluster->tcp.max_connection_duration_ms = 100;
	redis_at(w, &listener);
	int fd = stage_outbound(w);
	say(fd, "*");
	int server = stage_accept(w, listener);
	hear(w, server, "*");
	assert_int_equal(rig_next(w, fd, &(char){ 0 }, 1), -ECONNRESET);
	close(server);
	close(fd);
	close(listener);
}

static void test_accept_goes_to_the_tunnel_for_a_tunneled_endpoint(void **state)
{
	struct worker *w = *state;
	char text[8];
	w->stage->endpoint->tunnel = ENDPOINT_HBONE;
	w->stage->endpoint->addr.port = 6379;
	int fd = stage_outbound(w);
	say(fd, "*1\r\n");
	rig_until(w, &w->stage->tunnels, 1);
	assert_int_equal(w->stage->tunnel_endpoint.port, 6379);
	assert_int_equal(recv(w->stage->tunnel_fd, text, sizeof(text), 0), 4); /* nothing was lost */
	assert_int_equal(w->pod.connections, 0);			       /* the tunnel asks for itself */
	close(fd);
}

static void test_accept_refusals_are_resets_with_reasons(void **state)
{
	struct worker *w = *state;
	w->stage->target->mode = L7_TCP;
	free(w->stage->endpoint);
	w->stage->endpoint = NULL;
	check_reset(w, stage_outbound(w), DROP_NO_ENDPOINT);

	free(w->stage->target->default_cluster);
	w->stage->target->default_cluster = NULL;
	check_reset(w, stage_outbound(w), DROP_UNKNOWN_DESTINATION);
	w->stage->target->registry_only = true;
	check_reset(w, stage_outbound(w), DROP_NOT_IN_REGISTRY);

	l7_target_unref(w->stage->target);
	w->stage->target = NULL;
	check_reset(w, stage_outbound(w), DROP_NOT_READY);

	w->pod.max_connections = 0;
	check_reset(w, stage_outbound(w), DROP_CONNECTION_LIMIT);
}

static void test_accept_clusters_limit_is_kept(void **state)
{
	struct worker *w = *state;
	int listener;
	w->stage->target->mode = L7_TCP;
	w->stage->cluster->name = strdup("outbound|6379||redis");
	w->stage->cluster->tcp.max_connections = 1;
	redis_at(w, &listener);
	for (int i = 0; i < 2; i++) {
		int fd = stage_outbound(w);
		int server = stage_accept(w, listener);
		w->drops[DROP_CONNECTION_LIMIT] = 0;
		check_reset(w, stage_outbound(w), DROP_CONNECTION_LIMIT);
		say(server, "still");
		hear(w, fd, "still");
		close(server);
		close(fd);
		rig_run(w, 5);
	}
	/* Those of other workers count, too. */
	struct shared_limits *load = shared_limits_get("outbound|6379||redis", w->pod.cookie);
	assert_int_equal(load->n[LIMIT_CONNECTIONS], 0);
	load->n[LIMIT_CONNECTIONS] = 1;
	w->drops[DROP_CONNECTION_LIMIT] = 0;
	check_reset(w, stage_outbound(w), DROP_CONNECTION_LIMIT);
	load->n[LIMIT_CONNECTIONS] = 0;
	shared_limits_put("outbound|6379||redis", w->pod.cookie, load);
	close(listener);
}

static void test_accept_removed_pod_cuts(void **state)
{
	struct worker *w = *state;
	int fd = stage_outbound(w);
	rig_run(w, 2);
	acceptor_pod_removed(w->stage->acceptor, &w->pod);
	assert_int_equal(rig_next(w, fd, &(char){ 0 }, 1), -ECONNRESET);
	close(fd);
	w->stage->withhold_target = true;
	close(stage_outbound(w)); /* ended by the teardown */
}

/* --- TLS routes --- */

static size_t hello(const char *name, uint8_t *out)
{
	size_t n = strlen(name), at = 0;
	uint8_t head[] = { 22, 3, 1, 0, (uint8_t)(56 + n), 1, 0, 0, (uint8_t)(52 + n), 3, 3 };
	memcpy(out, head, sizeof(head));
	at = sizeof(head);
	memset(out + at, 1, 32);
	at += 32;
	uint8_t rest[] = {
		0, 0, 2,	 0x13, 1, 1, 0, 0, (uint8_t)(9 + n), 0, 0, 0, (uint8_t)(5 + n), 0, (uint8_t)(3 + n),
		0, 0, (uint8_t)n
	};
	memcpy(out + at, rest, sizeof(rest));
	at += sizeof(rest);
	memcpy(out + at, name, n);
	return at + n;
}

static void test_accept_tls_is_routed_by_name(void **state)
{
	struct worker *w = *state;
	struct l7_target *t = w->stage->target;
	t->mode = L7_TCP;
	t->l4_count = 1;
	t->l4 = calloc(1, sizeof(*t->l4));
	t->l4[0].sni_hosts = calloc(1, sizeof(char *));
	t->l4[0].sni_hosts[0] = strdup("*.example.com");
	t->l4[0].sni_host_count = 1;
	t->l4[0].clusters = calloc(1, sizeof(*t->l4[0].clusters));
	t->l4[0].clusters[0].cluster = strdup("by-name");
	t->l4[0].clusters[0].weight = t->l4[0].total_weight = 1;
	t->l4[0].cluster_count = 1;
	int listener;
	redis_at(w, &listener);
	uint8_t bytes[256], got[256];
	size_t n = hello("a.Example.com", bytes);
	int fd = stage_outbound(w);
	assert_int_equal(send(fd, bytes, 20, 0), 20);
	rig_run(w, 3);
	assert_int_equal(w->stage->picks, 0);
	assert_int_equal(send(fd, bytes + 20, n - 20, 0), n - 20);
	int server = stage_accept(w, listener);
	assert_string_equal(w->stage->picked, "by-name");
	assert_string_equal(w->stage->picked_host, "a.example.com");
	for (size_t at = 0; at < n;)
		at += (size_t)rig_next(w, server, got + at, n - at);
	assert_memory_equal(got, bytes, n);
	close(fd);
	close(server);

	n = hello("example.com", bytes);
	fd = stage_outbound(w);
	send(fd, bytes, n, 0);
	close(stage_accept(w, listener));
	assert_string_equal(w->stage->picked, "outbound|6379||redis");
	close(fd);
	close(listener);
}

/* At an address that says nothing, the name in the client's TLS is asked for, as a request's host is. */
static void by_name(struct worker *w)
{
	w->stage->target->by_name = true;
	w->stage->target->registry_only = true;
	free(w->stage->target->default_cluster);
	w->stage->target->default_cluster = NULL;
	w->stage->named = l7_target_new();
	w->stage->named->mode = L7_TCP;
	w->stage->named->default_cluster = strdup("outbound|443||wide");
}

static void test_accept_tls_is_asked_for_by_name(void **state)
{
	struct worker *w = *state;
	static const enum l7_mode modes[] = { L7_TCP, L7_SNIFF, L7_HTTP };
	int listener;
	uint8_t bytes[256];
	redis_at(w, &listener);
	by_name(w);
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		w->stage->target->mode = modes[i];
		size_t n = hello("a.Example.com", bytes);
		int fd = stage_outbound(w);
		assert_int_equal(send(fd, bytes, 20, 0), 20);
		rig_run(w, 3);
		assert_int_equal(w->stage->picks, i);
		assert_int_equal(send(fd, bytes + 20, n - 20, 0), n - 20);
		close(stage_accept(w, listener));
		assert_string_equal(w->stage->asked_name, "a.example.com");
		assert_string_equal(w->stage->picked, "outbound|443||wide");
		close(fd);
	}
	close(listener);
}

static void test_accept_nobody_named_is_refused(void **state)
{
	struct worker *w = *state;
	static const char no_hello[] = "\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00";
	uint8_t bytes[256];
	by_name(w);
	w->stage->target->mode = L7_TCP;
	/* the name is nobody's; TLS without one that can be read; no TLS */
	free(w->stage->named->default_cluster);
	w->stage->named->default_cluster = NULL;
	w->stage->named->registry_only = true;
	size_t n = hello("example.com", bytes);
	for (int i = 0; i < 3; i++) {
		int fd = stage_outbound(w);
		w->drops[DROP_NOT_IN_REGISTRY] = 0;
		send(fd,
		     i == 0 ? (const void *)bytes :
		     i == 1 ? no_hello :
			      "EHLO me\r\n",
		     i == 0 ? n :
		     i == 1 ? 10 :
			      9,
		     0);
		rig_until(w, &w->drops[DROP_NOT_IN_REGISTRY], 1);
		assert_int_equal(recv(fd, bytes + 200, 1, 0), -1);
		close(fd);
	}
	assert_int_equal(w->stage->picks, 0);
	/* and who is not known to be somebody is not let on */
	l7_target_unref(w->stage->named);
	w->stage->named = NULL;
	int fd = stage_outbound(w);
	send(fd, bytes, n, 0);
	rig_until(w, &w->drops[DROP_NOT_READY], 1);
	close(fd);
}

/* Whoever is refused without a name may take its time to say it, and no server's first words are fetched for it. */
static void test_accept_who_must_name_somebody_may_be_silent(void **state)
{
	struct worker *w = *state;
	int listener;
	uint8_t bytes[256];
	redis_at(w, &listener);
	by_name(w);
	w->stage->target->mode = L7_SNIFF;
	int fd = stage_outbound(w);
	uint64_t end = clock_now_ns() + 400000000;
	while (clock_now_ns() < end)
		rig_run(w, 1);
	assert_int_equal(w->stage->picks, 0);
	assert_int_equal(w->drops[DROP_NOT_IN_REGISTRY], 0);
	size_t n = hello("a.example.com", bytes);
	send(fd, bytes, n, 0);
	close(stage_accept(w, listener));
	assert_string_equal(w->stage->picked, "outbound|443||wide");
	close(fd);
	close(listener);
}

/* --- inbound --- */

static struct inbound_port ports[] = { { .port = 80, .app = APP_HTTP }, { .port = 6379, .app = APP_TCP } };

static void inbound_ports(struct worker *w, bool others)
{
	w->pod.l7_ports = ports;
	w->pod.l7_port_count = 2;
	w->pod.l7_other_ports = others;
}

static void test_accept_attested_caller_has_its_identity(void **state)
{
	struct worker *w = *state;
	char *uri = (char *)"spiffe://cluster.local/ns/shop/sa/frontend";
	struct addr_port local = { .port = 80 };
	inbound_ports(w, false);
	w->stage->caller = (struct endpoint_info){ .known = true, .identities = &uri, .identity_count = 1 };
	static const enum pod_socket kinds[] = { POD_LISTEN_ATTESTED, POD_LISTEN_NODE, POD_LISTEN_ANONYMOUS };
	for (unsigned int i = 0; i < 3; i++) {
		int fd = stage_inbound(w, &local, kinds[i]);
		say(fd, "GET / HTTP/1.1\r\n");
		rig_until(w, &w->stage->http, i + 1);
		assert_true(w->stage->http_inbound);
		const struct transport *t = w->stage->told.t;
		assert_int_equal(t->remote.port, 40000);
		assert_int_equal(t->local.port, 80);
		assert_false(t->tls);
		if (i == 0)
			assert_string_equal(t->peer->uri, uri);
		else
			assert_null(t->peer);
		assert_int_equal(t->from_node, kinds[i] == POD_LISTEN_NODE);
		told_done(&w->stage->told);
		close(fd);
	}
	w->stage->caller.known = false; /* it has vanished since */
	check_reset(w, stage_inbound(w, &local, POD_LISTEN_ATTESTED), DROP_UNKNOWN_SOURCE);
	w->stage->no_caller = true;
	check_reset(w, stage_inbound(w, &local, POD_LISTEN_ATTESTED), DROP_NOT_READY);
}

static void test_accept_inbound_l4_is_judged_and_relayed(void **state)
{
	struct worker *w = *state;
	struct addr_port local;
	int listener = stage_listen("127.0.0.1", &local);
	ports[1].port = local.port;
	inbound_ports(w, false);
	int fd = stage_inbound(w, &local, POD_LISTEN_ANONYMOUS);
	int app = stage_accept(w, listener);
	assert_int_equal(w->stage->last_bind.port, 40000);
	say(app, "first");
	hear(w, fd, "first");
	say(fd, "second");
	hear(w, app, "second");
	assert_int_equal(w->metrics.inbound_opened, 1);

	w->pod.policy->mtls = MTLS_STRICT;
	tcp_proxy_policy_changed(w->stage->tcp, &w->pod);
	assert_int_equal(rig_next(w, fd, &(char){ 0 }, 1), -ECONNRESET);
	assert_int_equal(rig_next(w, app, &(char){ 0 }, 1), -ECONNRESET);
	assert_int_equal(w->metrics.policy_cuts, 1);
	close(fd);
	close(app);

	w->drops[DROP_MTLS_REQUIRED] = 0;
	check_reset(w, stage_inbound(w, &local, POD_LISTEN_ANONYMOUS), DROP_MTLS_REQUIRED);
	close(listener);
}

static void test_accept_inbound_unknown_port_is_sniffed(void **state)
{
	struct worker *w = *state;
	struct addr_port local;
	int listener = stage_listen("127.0.0.1", &local);
	ports[1].port = 1;
	inbound_ports(w, true);
	int fd = stage_inbound(w, &local, POD_LISTEN_ANONYMOUS);
	say(fd, "*1\r\n");
	int app = stage_accept(w, listener);
	hear(w, app, "*1\r\n");
	close(fd);
	close(app);
	fd = stage_inbound(w, &local, POD_LISTEN_ANONYMOUS);
	say(fd, "GET / HTTP/1.1\r\n");
	rig_until(w, &w->stage->http, 1);
	close(fd);
	close(listener);
}

/* --- inbound, with rules on TLS server names --- */

static void name_rule(struct worker *w, enum policy_action action, const char *name)
{
	struct policy *p = w->pod.policy;
	struct policy_rule *r = p->rules = calloc(1, sizeof(*p->rules));
	p->rule_count = 1;
	p->has_allow = action == POLICY_ALLOW;
	*r = (struct policy_rule){ .action = action, .name = strdup("names"), .match_count = 1, .when_count = 1 };
	r->matches = calloc(1, sizeof(*r->matches));
	r->matches[0].has_http = true;
	r->when = calloc(1, sizeof(*r->when));
	r->when[0].attribute = POLICY_SNI;
	r->when[0].values.v = calloc(1, sizeof(struct match_string));
	r->when[0].values.n = 1;
	match_string_init(r->when[0].values.v, name);
}

/* A port of TLS, or one that nobody declares. */
static int named_port(struct worker *w, struct addr_port *local, bool declared)
{
	int listener = stage_listen("127.0.0.1", local);
	ports[1] = (struct inbound_port){ .port = declared ? local->port : 1, .app = APP_TLS, .sni = true };
	inbound_ports(w, true);
	return listener;
}

static void check_name(struct worker *w, int listener, const struct addr_port *local, const char *name, bool passes)
{
	uint8_t bytes[256], got[256];
	size_t n = hello(name, bytes);
	int fd = stage_inbound(w, local, POD_LISTEN_ANONYMOUS);
	say_bytes(fd, bytes, 20);
	rig_run(w, 3);
	say_bytes(fd, bytes + 20, n - 20);
	if (!passes) {
		char byte;
		assert_int_equal(rig_next(w, fd, &byte, 1), -ECONNRESET);
		close(fd);
		return;
	}
	int app = stage_accept(w, listener);
	for (size_t at = 0; at < n;)
		at += (size_t)rig_next(w, app, got + at, n - at);
	assert_memory_equal(got, bytes, n);
	close(fd);
	close(app);
}

static void test_accept_inbound_names_are_judged(void **state)
{
	struct worker *w = *state;
	for (int declared = 0; declared < 2; declared++) {
		struct addr_port local;
		int listener = named_port(w, &local, declared);
		policy_unref(w->pod.policy);
		w->pod.policy = policy_new();
		name_rule(w, POLICY_ALLOW, "*.example.com");
		check_name(w, listener, &local, "a.Example.com", true);
		check_name(w, listener, &local, "a.example.org", false);
		policy_unref(w->pod.policy);
		w->pod.policy = policy_new();
		name_rule(w, POLICY_DENY, "bad.example.com");
		check_name(w, listener, &local, "a.example.com", true);
		check_name(w, listener, &local, "bad.example.com", false);
		close(listener);
	}
}

/* Neither a hello in small pieces nor one that is odd passes for a connection without a name. */
static void test_accept_inbound_name_that_cannot_be_told_is_refused(void **state)
{
	struct worker *w = *state;
	struct addr_port local;
	uint8_t bytes[256];
	char byte;
	int listener = named_port(w, &local, true);
	name_rule(w, POLICY_DENY, "bad.example.com");
	hello("good.example.com", bytes);
	int fd = stage_inbound(w, &local, POD_LISTEN_ANONYMOUS);
	say_bytes(fd, bytes, 20); /* and no more */
	assert_int_equal(rig_next(w, fd, &byte, 1), -ECONNRESET);
	close(fd);
	fd = stage_inbound(w, &local, POD_LISTEN_ANONYMOUS);
	say_bytes(fd, (const uint8_t *)"\x16\x03\x09\x00\x05xxxxx", 10);
	assert_int_equal(rig_next(w, fd, &byte, 1), -ECONNRESET);
	close(fd);
	assert_int_equal(w->drops[DROP_POLICY_DENY], 2);

	/* What is no TLS has none: it may pass, and is HTTP for nobody here. */
	fd = stage_inbound(w, &local, POD_LISTEN_ANONYMOUS);
	say(fd, "GET / HTTP/1.1\r\n");
	int app = stage_accept(w, listener);
	hear(w, app, "GET / HTTP/1.1\r\n");
	assert_int_equal(w->stage->http, 0);
	close(fd);
	close(app);
	close(listener);
}

/* Its server may speak first where that is allowed whatever the name is. */
static void test_accept_inbound_silent_client_waits_or_passes(void **state)
{
	struct worker *w = *state;
	struct addr_port local;
	uint8_t bytes[256];
	int listener = named_port(w, &local, true);
	name_rule(w, POLICY_ALLOW, "a.example.com");
	int fd = stage_inbound(w, &local, POD_LISTEN_ANONYMOUS);
	rig_run(w, 3);
	assert_int_equal(acceptor_live(w->stage->acceptor), 0); /* it has no deadline */
	size_t n = hello("a.example.com", bytes);
	say_bytes(fd, bytes, n);
	close(stage_accept(w, listener));
	close(fd);

	w->pod.policy->has_allow = false;
	w->pod.policy->rules[0].action = POLICY_AUDIT;
	fd = stage_inbound(w, &local, POD_LISTEN_ANONYMOUS);
	int app = stage_accept(w, listener);
	say(app, "first");
	hear(w, fd, "first");
	close(fd);
	close(app);
	close(listener);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STAGE_TEST(test_accept_declared_http_goes_to_the_engine),
		STAGE_TEST(test_accept_declared_http_may_be_silent),
		STAGE_TEST(test_accept_end_behind_a_beginning_is_the_codecs),
		STAGE_TEST(test_accept_sniffed_http_goes_to_the_engine),
		STAGE_TEST(test_accept_tls_is_asked_for_by_name),
		STAGE_TEST(test_accept_nobody_named_is_refused),
		STAGE_TEST(test_accept_who_must_name_somebody_may_be_silent),
		STAGE_TEST(test_accept_other_bytes_are_relayed_whole),
		STAGE_TEST(test_accept_server_speaks_first),
		STAGE_TEST(test_accept_server_says_all_and_ends),
		STAGE_TEST(test_accept_slow_http_client_was_only_early),
		STAGE_TEST(test_accept_server_that_cannot_be_called_ahead),
		STAGE_TEST(test_accept_half_a_request_line_is_not_http_for_ever),
		STAGE_TEST(test_accept_much_goes_both_ways),
		STAGE_TEST(test_accept_reset_is_passed_on),
		STAGE_TEST(test_accept_longest_duration_cuts),
		STAGE_TEST(test_accept_goes_to_the_tunnel_for_a_tunneled_endpoint),
		STAGE_TEST(test_accept_refusals_are_resets_with_reasons),
		STAGE_TEST(test_accept_clusters_limit_is_kept),
		STAGE_TEST(test_accept_removed_pod_cuts),
		STAGE_TEST(test_accept_tls_is_routed_by_name),
		STAGE_TEST(test_accept_attested_caller_has_its_identity),
		STAGE_TEST(test_accept_inbound_l4_is_judged_and_relayed),
		STAGE_TEST(test_accept_inbound_unknown_port_is_sniffed),
		STAGE_TEST(test_accept_inbound_names_are_judged),
		STAGE_TEST(test_accept_inbound_name_that_cannot_be_told_is_refused),
		STAGE_TEST(test_accept_inbound_silent_client_waits_or_passes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
