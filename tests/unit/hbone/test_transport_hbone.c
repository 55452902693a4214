/* SPDX-License-Identifier: Apache-2.0 */
/* Streams whose user is a transport: towards an application behind the other worker, and between two transports. */
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/helper/h2.h"
#include "agent/helper/http/stream.h"
#include "agent/helper/transport_internal.h"
#include "agent/model/identity.h"
#include "agent/model/policy.h"
#include "agent/model/service.h"
#include "agent/model/workload.h"
#include "tests/unit/hbone/world.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { MUCH = 10 << 20 };

struct told {
	struct transport *t;
	unsigned int opened, failed, ends, rooms, broken;
	int error;
	uint8_t *data;
	size_t len, cap, take; /* take: how much is taken in all */
	bool close_on_data;
	const uint8_t *out; /* sent as there is room */
	size_t out_len, out_done;
	bool end_after;
};

static size_t on_data(struct transport *t, const uint8_t *bytes, size_t len, void *arg)
{
	struct told *told = arg;
	assert_ptr_equal(t, told->t);
	size_t took = told->len + len > told->take ? told->take - told->len : len;
	if (mem_reserve(&told->data, &told->cap, told->len + took + 1, 1) < 0)
		abort();
	memcpy(told->data + told->len, bytes, took);
	told->len += took;
	if (told->close_on_data) {
		told->t = NULL;
		transport_close(t, true);
	}
	return took;
}

static void pour(struct told *told)
{
	while (told->out_done < told->out_len) {
		size_t n = told->out_len - told->out_done;
		n = n > 50000 ? 50000 : n;
		struct iovec iov[2] = { { (void *)(uintptr_t)(told->out + told->out_done), n / 3 },
					{ (void *)(uintptr_t)(told->out + told->out_done + n / 3), n - n / 3 } };
		size_t took = transport_write(told->t, iov, 2);
		told->out_done += took;
		assert_true(transport_queued(told->t) <= TRANSPORT_QUEUE);
		if (took < n)
			return;
	}
	if (told->end_after)
		transport_end(told->t);
	told->end_after = false;
}

static void on_end(struct transport *t, void *arg)
{
	struct told *told = arg;
	assert_ptr_equal(t, told->t);
	told->ends++;
}

static void on_room(struct transport *t, void *arg)
{
	struct told *told = arg;
	assert_ptr_equal(t, told->t);
	told->rooms++;
	pour(told);
}

static void on_broken(struct transport *t, int error, void *arg)
{
	struct told *told = arg;
	assert_ptr_equal(t, told->t);
	told->broken++;
	told->error = error;
	told->t = NULL;
	transport_close(t, false);
}

static const struct transport_events events = { on_data, on_end, on_room, on_broken };

static void on_opened(struct transport *t, int error, void *arg)
{
	struct told *told = arg;
	told->error = error;
	if (!t) {
		told->failed++;
		return;
	}
	told->opened++;
	told->t = t;
	transport_on(t, &events, told);
}

static struct told told_new(void)
{
	return (struct told){ .take = SIZE_MAX };
}

static void told_done(struct told *told)
{
	if (told->t)
		transport_close(told->t, true);
	free(told->data);
	*told = (struct told){ 0 };
}

static void open_transport(struct world *w, struct told *told)
{
	*told = told_new();
	assert_non_null(hbone_open(w->client.hbone, &w->client.pod, &w->client.endpoints[0], on_opened, told));
	assert_int_equal(told->opened + told->failed, 0); /* never from inside */
}

static int opened(struct world *w, struct told *told)
{
	open_transport(w, told);
	int app = tcp_accept(w->loop, w->listener);
	run_until_count(w->loop, &told->opened, 1);
	return app;
}

static void put(struct told *told, const char *text)
{
	struct iovec iov = { (void *)(uintptr_t)text, strlen(text) };
	assert_int_equal(transport_write(told->t, &iov, 1), strlen(text));
}

static bool has_len(void *arg)
{
	const size_t *x = (const size_t *)arg;
	return *(const size_t *)x[0] >= x[1];
}

static void until_len(struct world *w, const struct told *told, size_t len)
{
	size_t x[2] = { (size_t)&told->len, len };
	run_until(w->loop, has_len, x);
}

static uint8_t *pattern(size_t len)
{
	uint8_t *p = malloc(len);
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(i * 31 + (i >> 11));
	return p;
}

/* --- towards an application --- */

static void test_transport_bytes_go_both_ways(void **state)
{
	struct world *w = *state;
	struct told told;
	char text[16];
	int app = opened(w, &told);
	assert_string_equal(told.t->peer->uri, BACKEND);
	assert_true(told.t->tls);
	assert_true(addr_port_eq(&told.t->remote, &w->app));
	put(&told, "que");
	put(&told, "stion");
	app_recv(w->loop, app, text, 8);
	assert_memory_equal(text, "question", 8);
	app_send(w->loop, app, "answer", 6);
	until_len(w, &told, 6);
	assert_memory_equal(told.data, "answer", 6);
	assert_int_equal(w->client.pod.connections, 0); /* not charged */
	assert_int_equal(w->client.metrics.buffers_bytes, 0);
	told_done(&told);
	assert_int_equal(app_next(w->loop, app, text, 1), -ECONNRESET);
	close(app);
}

static void test_transport_ends_are_halves(void **state)
{
	struct world *w = *state;
	struct told told;
	char text[16];
	int app = opened(w, &told);
	put(&told, "bye");
	transport_end(told.t);
	app_recv(w->loop, app, text, 3);
	assert_int_equal(app_next(w->loop, app, text, 1), 0);
	app_send(w->loop, app, "still here", 10);
	until_len(w, &told, 10);
	assert_int_equal(told.ends, 0);
	shutdown(app, SHUT_WR);
	run_until_count(w->loop, &told.ends, 1);
	assert_int_equal(told.broken, 0);
	transport_close(told.t, false);
	told.t = NULL;
	run_turns(w->loop, 3);
	assert_int_equal(hbone_live(w->client.hbone), 0);
	told_done(&told);
	close(app);
}

static void test_transport_close_sends_what_is_queued_and_waits_for_the_end(void **state)
{
	struct world *w = *state;
	struct told told;
	int app = opened(w, &told);
	uint8_t *out = pattern(MUCH), *in = malloc(MUCH);
	size_t took = transport_write(told.t, &(struct iovec){ out, MUCH }, 1);
	assert_true(took > TRANSPORT_QUEUE && took < MUCH);
	transport_close(told.t, false);
	told.t = NULL;
	app_recv(w->loop, app, in, took);
	assert_memory_equal(in, out, took);
	assert_int_equal(app_next(w->loop, app, in, 1), 0);
	assert_int_equal(hbone_live(w->client.hbone), 1);
	app_send(w->loop, app, "too late", 8);
	close(app);
	run_turns(w->loop, 50);
	assert_int_equal(hbone_live(w->client.hbone), 0);
	free(out);
	free(in);
	told_done(&told);
}

static void test_transport_close_before_the_answer_is_safe(void **state)
{
	struct world *w = *state;
	struct told told = told_new();
	struct transport *t = hbone_open(w->client.hbone, &w->client.pod, &w->client.endpoints[0], on_opened, &told);
	hbone_open_cancel(t);
	run_turns(w->loop, 20);
	assert_int_equal(told.opened + told.failed, 0);
	assert_int_equal(hbone_live(w->client.hbone), 0);
}

static void test_transport_close_inside_on_data_is_safe(void **state)
{
	struct world *w = *state;
	struct told told;
	char byte;
	int app = opened(w, &told);
	told.close_on_data = true;
	app_send(w->loop, app, "x", 1);
	until_len(w, &told, 1);
	assert_int_equal(app_next(w->loop, app, &byte, 1), -ECONNRESET);
	told_done(&told);
	close(app);
}

static void test_transport_what_is_not_taken_is_kept_and_bounded(void **state)
{
	struct world *w = *state;
	struct told told;
	int app = opened(w, &told);
	uint8_t *out = pattern(MUCH);
	told.take = 5;
	size_t sent = 0;
	for (int still = 0; still < 200;) {
		ssize_t n = send(app, out + sent, MUCH - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
		sent += n > 0 ? (size_t)n : 0;
		still = n > 0 ? 0 : still + 1;
		run_turns(w->loop, 1);
	}
	assert_true(sent < MUCH); /* the window holds it back */
	assert_int_equal(told.len, 5);
	assert_in_range(w->client.metrics.buffers_bytes, H2_STREAM_WINDOW - 5, 2 * H2_STREAM_WINDOW);
	told.take = SIZE_MAX;
	transport_resume(told.t);
	app_send(w->loop, app, out + sent, MUCH - sent);
	until_len(w, &told, MUCH);
	assert_memory_equal(told.data, out, MUCH);
	assert_int_equal(w->client.metrics.buffers_bytes, 0);
	free(out);
	told_done(&told);
	close(app);
}

static void test_transport_much_goes_both_ways_at_once(void **state)
{
	struct world *w = *state;
	struct told told;
	int app = opened(w, &told);
	uint8_t *out = pattern(MUCH), *in = malloc(MUCH);
	told.out = out;
	told.out_len = MUCH;
	told.end_after = true;
	pour(&told);
	size_t sent = 0, got = 0;
	while (sent < MUCH || got < MUCH || told.len < MUCH) {
		ssize_t n = send(app, out + sent, MUCH - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
		sent += n > 0 ? (size_t)n : 0;
		n = recv(app, in + got, MUCH - got, MSG_DONTWAIT);
		got += n > 0 ? (size_t)n : 0;
		run_turns(w->loop, 1);
		assert_int_equal(told.broken, 0);
	}
	assert_memory_equal(in, out, MUCH);
	assert_memory_equal(told.data, out, MUCH);
	assert_int_equal(app_next(w->loop, app, in, 1), 0);
	assert_true(told.rooms > 0);
	free(in);
	free(out);
	told_done(&told);
	close(app);
}

static void test_transport_many_share_a_tunnel(void **state)
{
	struct world *w = *state;
	enum { N = 20 };
	struct told told[N];
	int apps[N];
	char text[4];
	for (int i = 0; i < N; i++)
		apps[i] = opened(w, &told[i]);
	assert_int_equal(w->server.tunnels_accepted, 1);
	for (int i = 0; i < N; i++)
		put(&told[i], "ping");
	for (int i = 0; i < N; i++) {
		app_recv(w->loop, apps[i], text, 4);
		app_send(w->loop, apps[i], "pong", 4);
	}
	for (int i = 0; i < N; i++) {
		until_len(w, &told[i], 4);
		told_done(&told[i]);
		close(apps[i]);
	}
}

/* --- failures --- */

static void test_transport_reset_by_the_application_breaks_it(void **state)
{
	struct world *w = *state;
	struct told told;
	int app = opened(w, &told);
	struct linger linger = { .l_onoff = 1 };
	setsockopt(app, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(app);
	run_until_count(w->loop, &told.broken, 1);
	assert_int_equal(told.error, -ECONNRESET);
	told_done(&told);
}

static void test_transport_refused_by_policy_is_eperm(void **state)
{
	struct world *w = *state;
	struct told told;
	w->server.pod.policy->has_allow = true;
	open_transport(w, &told);
	run_until_count(w->loop, &told.failed, 1);
	assert_int_equal(told.error, -EPERM);
	assert_int_equal(w->client.drops[DROP_HBONE_REFUSED], 1);
	told_done(&told);
}

static void test_transport_no_application_is_econnrefused(void **state)
{
	struct world *w = *state;
	struct told told;
	struct addr_port gone = w->app;
	int fd = tcp_listen("127.0.0.2", &gone);
	close(fd);
	w->client.endpoints[0].endpoint = gone;
	open_transport(w, &told);
	run_until_count(w->loop, &told.failed, 1);
	assert_int_equal(told.error, -ECONNREFUSED);
	told_done(&told);
}

static void test_transport_wrong_identity_is_eperm(void **state)
{
	struct world *w = *state;
	struct told told;
	w->client.endpoints[0].identities[0] = (char *)FRONTEND;
	open_transport(w, &told);
	run_until_count(w->loop, &told.failed, 1);
	assert_int_equal(told.error, -EPERM);
	told_done(&told);
}

static void test_transport_silent_tunnel_is_etimedout(void **state)
{
	struct world *w = *state;
	struct told told;
	w->client.endpoints[0].connect_timeout_ms = 100;
	w->server.withhold_tunnels = true;
	open_transport(w, &told);
	run_until_count(w->loop, &told.failed, 1);
	assert_int_equal(told.error, -ETIMEDOUT);
	told_done(&told);
}

static void test_transport_is_cut_by_a_changed_policy(void **state)
{
	struct world *w = *state;
	struct told told;
	char byte;
	int app = opened(w, &told);
	w->server.pod.policy->has_allow = true;
	hbone_policy_changed(w->server.hbone, &w->server.pod);
	run_until_count(w->loop, &told.broken, 1);
	assert_int_equal(app_next(w->loop, app, &byte, 1), -ECONNRESET);
	told_done(&told);
	close(app);
}

static void test_transport_outlives_its_worker_parts(void **state)
{
	struct world *w = *state;
	struct told told;
	int app = opened(w, &told);
	hbone_pod_removed(w->client.hbone, &w->client.pod);
	put(&told, "into the void");
	run_until_count(w->loop, &told.broken, 1);
	told_done(&told);
	close(app);
}

/* --- from the other side: a pod with HTTP rules --- */

static struct told served;

static void on_http(struct worker *w, struct transport *t)
{
	(void)w;
	served = told_new();
	served.t = t;
	transport_on(t, &events, &served);
}

static struct inbound_port l7_port;

static void serve_http(struct world *w, uint8_t app)
{
	l7_port = (struct inbound_port){ .port = w->app.port, .app = app };
	w->server.pod.l7_ports = &l7_port;
	w->server.pod.l7_port_count = 1;
	w->server.on_http = on_http;
}

static void test_transport_http_port_goes_to_the_engine(void **state)
{
	struct world *w = *state;
	char text[8];
	serve_http(w, APP_HTTP);
	w->server.pod.policy->has_allow = true; /* the engine judges requests, not this */
	for (int h2 = 0; h2 < 2; h2++) {
		const char *first = h2 ? "PRI * HTTP/2.0\r\n" : "GET ", *rest = h2 ? "\r\nSM\r\n\r\n" : "/ HTTP";
		int client = app_connect(&w->client, &w->app);
		app_send(w->loop, client, first, strlen(first));
		run_turns(w->loop, 5);
		app_send(w->loop, client, rest, strlen(rest));
		run_until_count(w->loop, &w->server.http, (unsigned int)h2 + 1);
		assert_int_equal(w->server.http2, h2);
		until_len(w, &served, strlen(first) + strlen(rest));
		assert_memory_equal(served.data, first, strlen(first));
		assert_string_equal(served.t->peer->uri, FRONTEND);
		assert_true(addr_port_eq(&served.t->local, &w->app));
		assert_true(addr_eq(&served.t->remote.addr, &w->client.pod.addrs[0]));
		hbone_policy_changed(w->server.hbone, &w->server.pod);
		put(&served, "200");
		app_recv(w->loop, client, text, 3);
		shutdown(client, SHUT_WR);
		run_until_count(w->loop, &served.ends, 1);
		transport_close(served.t, false);
		served.t = NULL;
		assert_int_equal(app_next(w->loop, client, text, 1), 0);
		close(client);
		told_done(&served);
	}
	assert_int_equal(w->server.sockets_taken, 0);
}

static void test_transport_between_two_transports(void **state)
{
	struct world *w = *state;
	struct told told;
	uint8_t *out = pattern(MUCH);
	serve_http(w, APP_UNKNOWN);
	open_transport(w, &told);
	run_until_count(w->loop, &told.opened, 1);
	put(&told, "GET / HTTP/1.1\r\n");
	run_until_count(w->loop, &w->server.http, 1);
	until_len(w, &served, 16);
	served.len = 0;
	told.out = served.out = out;
	told.out_len = served.out_len = MUCH;
	told.end_after = served.end_after = true;
	pour(&told);
	pour(&served);
	run_until_count(w->loop, &served.ends, 1);
	run_until_count(w->loop, &told.ends, 1);
	assert_int_equal(served.len, MUCH);
	assert_memory_equal(served.data, out, MUCH);
	assert_memory_equal(told.data, out, MUCH);
	free(out);
	told_done(&told);
	told_done(&served);
}

static void test_transport_unknown_port_falls_back(void **state)
{
	struct world *w = *state;
	char text[8];
	serve_http(w, APP_UNKNOWN);
	for (int silent = 0; silent < 2; silent++) {
		int client = app_connect(&w->client, &w->app);
		if (!silent)
			app_send(w->loop, client, "*1\r\n", 4);
		int server = tcp_accept(w->loop, w->listener);
		app_send(w->loop, server, "+OK", 3);
		app_recv(w->loop, client, text, 3);
		if (!silent)
			app_recv(w->loop, server, text, 4);
		close(client);
		close(server);
	}
	/* L4 rules hold for what is not HTTP, when it is known. */
	w->server.pod.policy->has_allow = true;
	int client = app_connect(&w->client, &w->app);
	app_send(w->loop, client, "*1\r\n", 4);
	assert_int_equal(app_next(w->loop, client, text, 1), -ECONNRESET);
	assert_int_equal(w->server.drops[DROP_POLICY_NO_ALLOW], 1);
	assert_int_equal(w->server.http, 0);
	close(client);
}

/* The application is called while its client, who says nothing, is still listened to: whoever speaks first decides. */
static void test_transport_silent_client_and_its_server(void **state)
{
	struct world *w = *state;
	char text[8];
	serve_http(w, APP_UNKNOWN);
	int client = app_connect(&w->client, &w->app);
	int server = tcp_accept(w->loop, w->listener);
	app_send(w->loop, server, "220", 3);
	app_recv(w->loop, client, text, 3);
	app_send(w->loop, client, "helo", 4);
	app_recv(w->loop, server, text, 4);
	assert_int_equal(w->server.sockets_taken, 1);
	close(client);
	close(server);

	client = app_connect(&w->client, &w->app);
	server = tcp_accept(w->loop, w->listener);
	app_send(w->loop, client, "GET / HTTP", 10);
	run_until_count(w->loop, &w->server.http, 1);
	assert_int_equal(app_next(w->loop, server, text, 1), 0); /* it was only slow */
	close(client);
	run_until_count(w->loop, &served.ends, 1);
	told_done(&served);
	close(server);
}

static void test_transport_silent_client_that_would_be_refused(void **state)
{
	struct world *w = *state;
	char byte;
	serve_http(w, APP_UNKNOWN);
	w->server.pod.policy->has_allow = true;
	int client = app_connect(&w->client, &w->app);
	assert_int_equal(app_next(w->loop, client, &byte, 1), -ECONNRESET); /* its time is over */
	assert_int_equal(w->server.drops[DROP_POLICY_NO_ALLOW], 1);
	assert_int_equal(w->server.sockets_taken, 0);
	close(client);
}

static void test_transport_end_while_sniffing_is_safe(void **state)
{
	struct world *w = *state;
	char byte;
	serve_http(w, APP_HTTP);
	int client = app_connect(&w->client, &w->app);
	run_turns(w->loop, 30);
	shutdown(client, SHUT_WR);
	assert_int_equal(app_next(w->loop, client, &byte, 1), 0);
	close(client);
	client = app_connect(&w->client, &w->app);
	app_send(w->loop, client, "PRI", 3);
	shutdown(client, SHUT_WR);
	run_until_count(w->loop, &w->server.http, 1);
	run_until_count(w->loop, &served.ends, 1);
	assert_int_equal(served.len, 3);
	told_done(&served);
	close(client);
	client = app_connect(&w->client, &w->app);
	run_turns(w->loop, 30);
	hbone_pod_removed(w->server.hbone, &w->server.pod);
	assert_int_equal(app_next(w->loop, client, &byte, 1), -ECONNRESET);
	close(client);
}

/* A ClientHello as small as can be. */
static size_t hello(const char *name, uint8_t *out)
{
	size_t n = strlen(name), at = 0;
	const uint8_t head[] = { 22, 3, 1, 0, (uint8_t)(56 + n), 1, 0, 0, (uint8_t)(52 + n), 3, 3 };
	const uint8_t rest[] = {
		0, 0, 2,	 0x13, 1, 1, 0, 0, (uint8_t)(9 + n), 0, 0, 0, (uint8_t)(5 + n), 0, (uint8_t)(3 + n),
		0, 0, (uint8_t)n
	};
	memcpy(out, head, sizeof(head));
	at = sizeof(head);
	memset(out + at, 1, 32);
	at += 32;
	memcpy(out + at, rest, sizeof(rest));
	at += sizeof(rest);
	memcpy(out + at, name, n);
	return at + n;
}

static void test_transport_server_names_are_judged(void **state)
{
	struct world *w = *state;
	struct policy *p = w->server.pod.policy;
	static const struct {
		const char *name;
		bool passes;
	} rows[] = { { "a.example.com", true }, { "a.example.org", false }, { "b.example.com", true } };
	p->rules = calloc(1, sizeof(*p->rules));
	p->rule_count = 1;
	p->has_allow = true;
	*p->rules = (struct policy_rule){ .action = POLICY_ALLOW, .name = strdup("names"), .when_count = 1 };
	p->rules->matches = calloc(1, sizeof(*p->rules->matches));
	p->rules->match_count = 1;
	p->rules->matches->has_http = true;
	p->rules->when = calloc(1, sizeof(*p->rules->when));
	p->rules->when->attribute = POLICY_SNI;
	p->rules->when->values.v = calloc(1, sizeof(struct match_string));
	p->rules->when->values.n = 1;
	match_string_init(p->rules->when->values.v, "*.example.com");
	for (int kind = 0; kind < 2; kind++) { /* of TLS by declaration, and not declared */
		serve_http(w, kind ? APP_UNKNOWN : APP_TLS);
		l7_port.sni = !kind;
		for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
			uint8_t bytes[256], got[256];
			size_t n = hello(rows[i].name, bytes);
			int client = app_connect(&w->client, &w->app);
			app_send(w->loop, client, (char *)bytes, 30);
			run_turns(w->loop, 5);
			app_send(w->loop, client, (char *)bytes + 30, n - 30);
			if (rows[i].passes) {
				int server = tcp_accept(w->loop, w->listener);
				app_recv(w->loop, server, (char *)got, n);
				assert_memory_equal(got, bytes, n);
				hbone_policy_changed(w->server.hbone, &w->server.pod); /* it is still so called */
				app_send(w->loop, server, "+OK", 3);
				app_recv(w->loop, client, (char *)got, 3);
				close(server);
			} else {
				assert_int_equal(app_next(w->loop, client, (char *)got, 1), -ECONNRESET);
			}
			close(client);
		}
	}
	assert_int_equal(w->server.drops[DROP_POLICY_NO_ALLOW], 2);
	assert_int_equal(w->server.http, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(test_transport_bytes_go_both_ways),
		WORLD_TEST(test_transport_ends_are_halves),
		WORLD_TEST(test_transport_close_sends_what_is_queued_and_waits_for_the_end),
		WORLD_TEST(test_transport_close_before_the_answer_is_safe),
		WORLD_TEST(test_transport_close_inside_on_data_is_safe),
		WORLD_TEST(test_transport_what_is_not_taken_is_kept_and_bounded),
		WORLD_TEST(test_transport_much_goes_both_ways_at_once),
		WORLD_TEST_V6(test_transport_many_share_a_tunnel),
		WORLD_TEST(test_transport_reset_by_the_application_breaks_it),
		WORLD_TEST(test_transport_refused_by_policy_is_eperm),
		WORLD_TEST(test_transport_no_application_is_econnrefused),
		WORLD_TEST(test_transport_wrong_identity_is_eperm),
		WORLD_TEST(test_transport_silent_tunnel_is_etimedout),
		WORLD_TEST(test_transport_is_cut_by_a_changed_policy),
		WORLD_TEST(test_transport_outlives_its_worker_parts),
		WORLD_TEST(test_transport_http_port_goes_to_the_engine),
		WORLD_TEST(test_transport_between_two_transports),
		WORLD_TEST(test_transport_unknown_port_falls_back),
		WORLD_TEST(test_transport_silent_client_and_its_server),
		WORLD_TEST(test_transport_silent_client_that_would_be_refused),
		WORLD_TEST(test_transport_end_while_sniffing_is_safe),
		WORLD_TEST(test_transport_server_names_are_judged),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
