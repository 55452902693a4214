/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/base/loop.h"
#include "agent/helper/transport.h"
#include "agent/model/cluster.h"
#include "agent/model/identity.h"
#include "agent/model/policy.h"
#include "agent/model/service.h"
#include "agent/model/workload.h"
#include "tests/unit/hbone/world.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct got {
	struct transport *t;
	unsigned int calls, bytes, broken;
	int error;
};

static size_t on_data(struct transport *t, const uint8_t *bytes, size_t len, void *arg)
{
	struct got *got = arg;
	(void)t;
	(void)bytes;
	got->bytes += (unsigned int)len;
	return len;
}

static void on_nothing(struct transport *t, void *arg)
{
	(void)t;
	(void)arg;
}

static void on_broken(struct transport *t, int error, void *arg)
{
	struct got *got = arg;
	got->broken++;
	got->error = error;
	got->t = NULL;
	transport_close(t, true);
}

static const struct transport_events events = { on_data, on_nothing, on_nothing, on_broken };

static void on_connect(struct transport *t, int error, void *arg)
{
	struct got *got = arg;
	got->calls++;
	got->error = error;
	got->t = t;
	if (t)
		transport_on(t, &events, got);
}

/* A connection to the world's application, as the cluster has it. */
static struct transport_connect *begin(struct world *w, struct http_cluster *cluster, struct cluster_endpoint *endpoint,
				       struct got *got)
{
	*got = (struct got){ 0 };
	struct transport_connect *c =
		transport_connect(&w->client, &w->client.pod, cluster, endpoint, NULL, NULL, on_connect, got);
	assert_int_equal(got->calls, 0); /* never from inside */
	return c;
}

static struct cluster_endpoint plain(const struct addr_port *to)
{
	return (struct cluster_endpoint){ .addr = *to, .weight = 1, .healthy = true };
}

static void check_speaks(struct world *w, struct got *got)
{
	char text[8];
	assert_non_null(got->t);
	int app = tcp_accept(w->loop, w->listener);
	transport_write(got->t, &(struct iovec){ (char[]){ "hello" }, 5 }, 1);
	app_recv(w->loop, app, text, 5);
	assert_memory_equal(text, "hello", 5);
	app_send(w->loop, app, "you", 3);
	run_until_count(w->loop, &got->bytes, 3);
	transport_close(got->t, true);
	close(app);
}

static void test_connect_plain_speaks(void **state)
{
	struct world *w = *state;
	struct http_cluster *cluster = http_cluster_new();
	cluster->tcp.keepalive_time_s = 60;
	for (int local = 0; local < 2; local++) {
		struct cluster_endpoint e = plain(&w->app);
		struct got got;
		e.local = local;
		begin(w, cluster, &e, &got);
		run_until_count(w->loop, &got.calls, 1);
		assert_false(got.t->tls);
		assert_null(got.t->peer);
		assert_true(addr_port_eq(&got.t->remote, &w->app));
		assert_int_not_equal(got.t->local.port, 0);
		check_speaks(w, &got);
	}
	http_cluster_unref(cluster);
}

static void test_connect_hbone_speaks(void **state)
{
	struct world *w = *state;
	struct http_cluster *cluster = http_cluster_new();
	struct cluster_endpoint e = plain(&w->app);
	struct got got;
	e.tunnel = ENDPOINT_HBONE;
	e.tunnel_addr = w->server.tunnel;
	e.identities = w->client.endpoints[0].identities;
	e.identity_count = 1;
	begin(w, cluster, &e, &got);
	run_until_count(w->loop, &got.calls, 1);
	assert_true(got.t->tls);
	assert_non_null(got.t->peer);
	check_speaks(w, &got);
	http_cluster_unref(cluster);
}

static void test_connect_hbone_without_identity_is_refused(void **state)
{
	struct world *w = *state;
	struct http_cluster *cluster = http_cluster_new();
	struct cluster_endpoint e = plain(&w->app);
	struct got got;
	e.tunnel = ENDPOINT_HBONE;
	e.tunnel_addr = w->server.tunnel;
	begin(w, cluster, &e, &got);
	run_until_count(w->loop, &got.calls, 1);
	assert_null(got.t);
	assert_int_equal(got.error, -EPERM);
	http_cluster_unref(cluster);
}

static void test_connect_refused_is_told(void **state)
{
	struct world *w = *state;
	struct http_cluster *cluster = http_cluster_new();
	struct addr_port gone;
	struct got got;
	close(tcp_listen("127.0.0.1", &gone));
	for (int local = 0; local < 2; local++) {
		struct cluster_endpoint e = plain(&gone);
		e.local = local;
		begin(w, cluster, &e, &got);
		run_until_count(w->loop, &got.calls, 1);
		assert_int_equal(got.error, -ECONNREFUSED);
	}
	w->client.withhold_sockets = true;
	struct cluster_endpoint e = plain(&gone);
	begin(w, cluster, &e, &got);
	run_until_count(w->loop, &got.calls, 1);
	assert_int_equal(got.error, -ETIMEDOUT);
	http_cluster_unref(cluster);
}

static void test_connect_takes_no_longer_than_it_may(void **state)
{
	struct world *w = *state;
	struct http_cluster *cluster = http_cluster_new();
	cluster->tcp.connect_timeout_ms = 50;
	/* A listener whose queue is full answers no SYN. */
	struct addr_port at;
	int listener = tcp_listen("127.0.0.1", &at);
	listen(listener, 0);
	struct sockaddr_storage sa;
	socklen_t len = addr_to_sockaddr(&at, &sa);
	int fill[3];
	for (int i = 0; i < 3; i++) {
		fill[i] = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		connect(fill[i], (struct sockaddr *)&sa, len);
	}
	struct cluster_endpoint e = plain(&at);
	struct got got;
	begin(w, cluster, &e, &got);
	run_until_count(w->loop, &got.calls, 1);
	assert_int_equal(got.error, -ETIMEDOUT);
	for (int i = 0; i < 3; i++)
		close(fill[i]);
	close(listener);
	http_cluster_unref(cluster);
}

/* --- another pod of the node --- */

struct beside {
	struct http_cluster *cluster;
	struct worker_pod pod;
	struct addr addr;
	struct inbound_port port;
	struct policy policy;
	struct cluster_endpoint endpoint;
	struct got near, far;
};

static struct got *far_got;

static void on_far(struct worker *w, struct transport *t)
{
	(void)w;
	far_got->t = t;
	transport_on(t, &events, far_got);
}

static void beside_init(struct world *w, struct beside *b, const char *addr, uint16_t port)
{
	*b = (struct beside){ .cluster = http_cluster_new(), .port = { .port = port, .app = APP_HTTP } };
	assert_int_equal(addr_parse(addr, &b->addr), 0);
	b->pod = (struct worker_pod){ .refs = 1,
				      .addrs = &b->addr,
				      .addr_count = 1,
				      .l7_ports = &b->port,
				      .l7_port_count = 1,
				      .policy = &b->policy };
	b->endpoint =
		(struct cluster_endpoint){ .addr = { b->addr, port }, .weight = 1, .healthy = true, .local = true };
	w->client.beside = &b->pod;
	w->client.on_http = on_far;
	far_got = &b->far;
}

static struct transport_connect *beside_begin(struct world *w, struct beside *b, const char *alpn)
{
	b->near = b->far = (struct got){ 0 };
	w->client.http = 0;
	struct transport_connect *c = transport_connect(&w->client, &w->client.pod, b->cluster, &b->endpoint, alpn,
							NULL, on_connect, &b->near);
	assert_int_equal(b->near.calls, 0); /* never from inside */
	return c;
}

static void test_connect_beside_goes_to_the_engine(void **state)
{
	struct world *w = *state;
	for (int h2 = 0; h2 < 2; h2++) {
		struct beside b;
		beside_init(w, &b, "127.0.0.77", 8080);
		unsigned int sockets = w->client.sockets_taken;
		beside_begin(w, &b, h2 ? "h2" : "http/1.1");
		run_until_count(w->loop, &b.near.calls, 1);
		assert_non_null(b.near.t);
		assert_int_equal(w->client.http, 1);
		assert_int_equal(w->client.http2, h2);
		assert_int_equal(w->client.sockets_taken, sockets);
		assert_true(addr_port_eq(&b.far.t->local, &b.endpoint.addr));
		assert_true(addr_port_eq(&b.near.t->remote, &b.endpoint.addr));
		assert_true(addr_eq(&b.far.t->remote.addr, &w->client.pod.addrs[0]));
		assert_int_not_equal(b.far.t->remote.port, 0);
		assert_string_equal(b.far.t->peer->uri, FRONTEND);
		assert_null(b.near.t->peer);
		assert_false(b.far.t->tls);
		transport_write(b.near.t, &(struct iovec){ (char[]){ "hello" }, 5 }, 1);
		transport_write(b.far.t, &(struct iovec){ (char[]){ "you" }, 3 }, 1);
		run_until_count(w->loop, &b.far.bytes, 5);
		run_until_count(w->loop, &b.near.bytes, 3);
		transport_close(b.near.t, true);
		run_until_count(w->loop, &b.far.broken, 1);
		w->client.beside = NULL;
		http_cluster_unref(b.cluster);
	}
	assert_int_equal(w->client.metrics.http_joined, 2);
}

static void test_connect_beside_cancelled_breaks_the_engine_s_end(void **state)
{
	struct world *w = *state;
	struct beside b;
	beside_init(w, &b, "127.0.0.77", 8080);
	struct transport_connect *c = beside_begin(w, &b, "http/1.1");
	transport_connect_cancel(c);
	run_until_count(w->loop, &b.far.broken, 1);
	assert_int_equal(b.near.calls, 0);
	w->client.beside = NULL;
	http_cluster_unref(b.cluster);
}

static void not_beside(struct world *w, struct beside *b, const char *alpn)
{
	beside_begin(w, b, alpn);
	run_until_count(w->loop, &b->near.calls, 1);
	assert_int_equal(w->client.http, 0);
	if (b->near.t)
		transport_close(b->near.t, true);
}

static void test_connect_beside_only_where_all_is_sure(void **state)
{
	struct world *w = *state;
	struct beside b;
	beside_init(w, &b, "127.0.0.77", 8080);
	not_beside(w, &b, NULL); /* not the engine's */
	b.endpoint.local = false;
	not_beside(w, &b, "h2");
	b.endpoint.local = true;
	b.pod.policy = NULL;
	not_beside(w, &b, "h2");
	b.pod.policy = &b.policy;
	b.port.app = APP_TCP;
	not_beside(w, &b, "h2");
	b.port.app = APP_HTTP;
	b.port.port++;
	not_beside(w, &b, "h2"); /* a port without rules */
	b.port.port--;
	b.endpoint.tunnel = ENDPOINT_HBONE; /* mutual TLS on the node, too */
	not_beside(w, &b, "h2");
	b.endpoint.tunnel = ENDPOINT_PLAIN;
	b.cluster->proxy_protocol = 1;
	not_beside(w, &b, "h2");
	b.cluster->proxy_protocol = 0;
	b.cluster->tls = CLUSTER_TLS_SIMPLE;
	not_beside(w, &b, "h2");
	b.cluster->tls = CLUSTER_TLS_AUTO;
	w->client.beside = NULL; /* not of this node, or not ready */
	not_beside(w, &b, "h2");
	w->client.beside = &b.pod;
	b.endpoint.addr.addr = w->client.pod.addrs[0]; /* the pod's own */
	not_beside(w, &b, "h2");
	assert_int_equal(w->client.metrics.http_joined, 0);
	w->client.beside = NULL;
	http_cluster_unref(b.cluster);
}

static void test_connect_cancel_calls_nobody(void **state)
{
	struct world *w = *state;
	struct http_cluster *cluster = http_cluster_new();
	for (int kind = 0; kind < 3; kind++) {
		struct cluster_endpoint e = plain(&w->app);
		struct got got;
		e.local = kind == 1; /* done, but not told */
		if (kind == 2) {
			e.tunnel = ENDPOINT_HBONE;
			e.tunnel_addr = w->server.tunnel;
			e.identities = w->client.endpoints[0].identities;
			e.identity_count = 1;
		}
		transport_connect_cancel(begin(w, cluster, &e, &got));
		run_turns(w->loop, 10);
		assert_int_equal(got.calls, 0);
	}
	transport_connect_cancel(NULL);
	http_cluster_unref(cluster);
}

static void test_connect_tls_is_never_in_the_clear(void **state)
{
	struct world *w = *state;
	struct http_cluster *cluster = http_cluster_new();
	struct cluster_endpoint e = plain(&w->app);
	struct got got;
	cluster->tls = CLUSTER_TLS_SIMPLE; /* and no roots */
	begin(w, cluster, &e, &got);
	run_until_count(w->loop, &got.calls, 1);
	assert_null(got.t);
	assert_int_equal(got.error, -EPERM);
	http_cluster_unref(cluster);
}

static void test_connect_local_shows_the_peer(void **state)
{
	struct world *w = *state;
	struct addr_port peer = { .port = 4242 };
	struct got got = { 0 };
	addr_parse("10.1.2.3", &peer.addr);
	transport_connect_local(&w->client, &w->client.pod, &peer, &w->app, on_connect, &got);
	assert_int_equal(got.calls, 0);
	run_until_count(w->loop, &got.calls, 1);
	assert_true(addr_port_eq(&w->client.last_bind, &peer));
	check_speaks(w, &got);
}

static void check_hears(struct world *w, int fd, const void *bytes, size_t len)
{
	uint8_t got[256];
	app_recv(w->loop, fd, got, len);
	assert_memory_equal(got, bytes, len);
}

static void test_connect_proxy_header_goes_first(void **state)
{
	struct world *w = *state;
	struct http_cluster *cluster = http_cluster_new();
	for (uint8_t version = 1; version <= 2; version++) {
		struct cluster_endpoint e = plain(&w->app);
		struct got got;
		cluster->proxy_protocol = version;
		begin(w, cluster, &e, &got);
		run_until_count(w->loop, &got.calls, 1);
		int app = tcp_accept(w->loop, w->listener);
		transport_write(got.t, &(struct iovec){ (char[]){ "hello" }, 5 }, 1);
		char text[128];
		uint16_t from = got.t->local.port, to = w->app.port;
		if (version == 1) {
			int n = snprintf(text, sizeof(text), "PROXY TCP4 127.0.0.1 127.0.0.2 %u %u\r\nhello", from, to);
			check_hears(w, app, text, (size_t)n);
		} else {
			static const char fixed[] = "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\1\x7f\0\0\2";
			uint8_t header[sizeof(fixed) - 1 + 4 + 5];
			uint8_t ports[] = { (uint8_t)(from >> 8), (uint8_t)from, (uint8_t)(to >> 8), (uint8_t)to };
			memcpy(header, fixed, sizeof(fixed) - 1);
			memcpy(header + sizeof(fixed) - 1, ports, sizeof(ports));
			memcpy(header + sizeof(header) - 5, "hello", 5);
			check_hears(w, app, header, sizeof(header));
		}
		transport_close(got.t, true);
		close(app);
	}
	http_cluster_unref(cluster);
}

static void test_connect_goes_through_a_proxy(void **state)
{
	static const char asked[] = "CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\n\r\n";
	static const struct {
		const char *answer;
		int error;
	} rows[] = {
		{ "HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\nyou", 0 },
		{ "HTTP/1.0 200\r\n\r\nyou", 0 },
		{ "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", -EPERM },
		{ "HTTP/1.1 502 Bad Gateway\r\n\r\n", -ECONNREFUSED },
		{ "SSH-2.0-x\r\n\r\n", -EPROTO },
		{ "", -ECONNREFUSED },
	};
	struct world *w = *state;
	struct http_cluster *cluster = http_cluster_new();
	cluster->proxy_host = strdup("api.example.com:443");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct cluster_endpoint e = plain(&w->app);
		struct got got;
		begin(w, cluster, &e, &got);
		int proxy = tcp_accept(w->loop, w->listener);
		check_hears(w, proxy, asked, sizeof(asked) - 1);
		assert_int_equal(got.calls, 0);
		size_t len = strlen(rows[i].answer);
		for (size_t at = 0; at < len; at += 20) /* in pieces */
			app_send(w->loop, proxy, rows[i].answer + at, len - at < 20 ? len - at : 20);
		if (!len)
			close(proxy);
		run_until_count(w->loop, &got.calls, 1);
		assert_int_equal(got.error, rows[i].error);
		if (got.t) {
			run_until_count(w->loop, &got.bytes, 3);
			transport_write(got.t, &(struct iovec){ (char[]){ "hello" }, 5 }, 1);
			check_hears(w, proxy, "hello", 5);
			transport_close(got.t, true);
		}
		if (len)
			close(proxy);
	}
	struct cluster_endpoint e = plain(&w->app);
	struct got got;
	struct transport_connect *c = begin(w, cluster, &e, &got);
	int proxy = tcp_accept(w->loop, w->listener);
	check_hears(w, proxy, asked, sizeof(asked) - 1);
	transport_connect_cancel(c);
	close(proxy);
	run_turns(w->loop, 3);
	assert_int_equal(got.calls, 0);
	free(cluster->proxy_host);
	cluster->proxy_host = strdup("a\r\nX: y:80");
	begin(w, cluster, &e, &got);
	run_until_count(w->loop, &got.calls, 1);
	assert_null(got.t);
	http_cluster_unref(cluster);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(test_connect_plain_speaks),
		WORLD_TEST_V6(test_connect_plain_speaks),
		WORLD_TEST(test_connect_hbone_speaks),
		WORLD_TEST(test_connect_hbone_without_identity_is_refused),
		WORLD_TEST(test_connect_refused_is_told),
		WORLD_TEST(test_connect_takes_no_longer_than_it_may),
		WORLD_TEST(test_connect_beside_goes_to_the_engine),
		WORLD_TEST(test_connect_beside_cancelled_breaks_the_engine_s_end),
		WORLD_TEST(test_connect_beside_only_where_all_is_sure),
		WORLD_TEST(test_connect_cancel_calls_nobody),
		WORLD_TEST(test_connect_tls_is_never_in_the_clear),
		WORLD_TEST(test_connect_local_shows_the_peer),
		WORLD_TEST(test_connect_proxy_header_goes_first),
		WORLD_TEST(test_connect_goes_through_a_proxy),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
