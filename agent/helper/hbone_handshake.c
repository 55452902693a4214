/* SPDX-License-Identifier: Apache-2.0 */
/* A connection until HTTP/2 begins: TCP, and the handshake on either side. */
#include "agent/helper/hbone_internal.h"

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/model/identity.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

static void count_handshake(struct hbone_conn *c)
{
	static const uint32_t bounds_us[LINK_HANDSHAKE_BUCKETS - 1] = { 250,   500,   1000,   2500,  5000,
									10000, 25000, 100000, 500000 };
	struct link_shard *m = worker_metrics(c->h->w);
	uint64_t us = (hbone_now_ms(c->h) - c->began_ms) * 1000;
	size_t i = 0;
	while (i < LINK_HANDSHAKE_BUCKETS - 1 && us > bounds_us[i])
		i++;
	m->handshake_buckets[i]++;
	m->handshake_sum_us += us;
	if (c->server)
		m->handshakes_server++;
	else
		m->handshakes_client++;
}

static void handshake_failed(struct hbone_conn *c, const struct err *err)
{
	worker_metrics(c->h->w)->handshakes_failed++;
	enum drop_reason reason = tls_handshake_reason(c->handshake);
	conn_fail(c, reason == DROP_NONE ? DROP_TLS_HANDSHAKE : reason, err->text);
}

/* The peer is who it should be: HTTP/2 begins. */
static int conn_established(struct hbone_conn *c)
{
	struct buffer early = { 0 };
	int rc = tls_handshake_finish(c->handshake, &c->record, &c->peer, &early);
	if (rc == 0)
		rc = h2_new(c->server, c->server ? &conn_server_events : &conn_client_events, c, &c->h2);
	if (rc < 0) {
		buffer_done(&early);
		return rc;
	}
	h2_share(c->h2, &c->h->budget);
	c->rest = early;
	tls_handshake_free(TAKE(c->handshake));
	c->state = CONN_OPEN;
	c->received_ms = c->unused_ms = hbone_now_ms(c->h);
	count_handshake(c);
	worker_metrics(c->h->w)->pool_connections += c->server ? 0 : 1;
	conn_touch(c);
	if (!c->server) {
		conn_settle(c);
		pool_conn_open(c);
	}
	return 0;
}

/* Returns what tls_handshake_step() does; the connection is failed when that is below 0. */
static int conn_handshake(struct hbone_conn *c, const uint8_t *bytes, size_t len)
{
	struct buffer out = { 0 };
	struct err err = ERR_INIT;
	int step = tls_handshake_step(c->handshake, bytes, len, &out, &err);
	int rc = out.len ? conn_write(c, buffer_head(&out), out.len) : 0;
	buffer_done(&out);
	if (step < 0) {
		handshake_failed(c, &err);
		return step;
	}
	if (rc == 0 && step == 1)
		rc = conn_established(c);
	if (rc < 0) {
		conn_fail(c, rc == -ENOMEM ? DROP_NO_MEMORY : DROP_TLS_HANDSHAKE, strerror(-rc));
		return rc;
	}
	return step;
}

static int conn_begin_tls(struct hbone_conn *c, const char *uri, const struct tls_expect *expect)
{
	struct err err = ERR_INIT;
	struct tls_context *context;
	int rc = hbone_context(c->h, uri, &context, &err);
	if (rc < 0) {
		conn_fail(c, rc == -ENOMEM ? DROP_NO_MEMORY : DROP_NO_CERTIFICATE, err.text);
		return rc;
	}
	rc = tls_handshake_new(context, c->server, expect, &c->handshake);
	if (rc < 0) {
		conn_fail(c, DROP_NO_MEMORY, "no memory for a handshake");
		return rc;
	}
	c->state = CONN_HANDSHAKE;
	return 0;
}

int conn_accepted(struct hbone_conn *c, int fd)
{
	int rc = conn_use_fd(c, fd);
	if (rc < 0) {
		conn_fail(c, DROP_INTERNAL, "the loop does not take the socket");
		return rc;
	}
	const struct helper_settings *settings = worker_settings(c->h->w);
	size_t count = 1 + settings->trust_domain_alias_count;
	const char **domains = calloc(count, sizeof(*domains));
	if (!domains) {
		conn_fail(c, DROP_NO_MEMORY, "no memory for a handshake");
		return -ENOMEM;
	}
	domains[0] = settings->trust_domain;
	for (size_t i = 1; i < count; i++)
		domains[i] = settings->trust_domain_aliases[i - 1];
	struct tls_expect expect = { .trust_domains = domains, .trust_domain_count = count };
	rc = conn_begin_tls(c, c->pod->identity->uri, &expect);
	free(domains);
	if (rc == 0)
		conn_arm(c);
	return rc;
}

int conn_connect(struct hbone_conn *c, int fd, const struct addr_port *to)
{
	int rc = conn_use_fd(c, fd);
	if (rc < 0)
		return rc;

	c->remote = *to;
	int domain = AF_INET6;
	socklen_t domain_len = sizeof(domain);
	getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &domain_len);
	struct sockaddr_storage sa;
	socklen_t len = sizeof(struct sockaddr_in6);
	if (domain == AF_INET6)
		addr_to_sockaddr6(to, (struct sockaddr_in6 *)&sa);
	else
		len = addr_to_sockaddr(to, &sa);
	if (connect(fd, (struct sockaddr *)&sa, len) < 0 && errno != EINPROGRESS)
		return -errno;
	c->state = CONN_CONNECTING;
	conn_arm(c);
	return 0;
}

/* Client: TCP stands, or failed. */
void conn_connected(struct hbone_conn *c)
{
	int error = 0;
	socklen_t len = sizeof(error);
	getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len);
	if (error) {
		conn_fail(c, DROP_UPSTREAM_CONNECT, strerror(error));
		return;
	}
	if (conn_begin_tls(c, pool_source(c->pool), pool_expect(c->pool)) < 0)
		return;
	conn_arm(c);
	conn_handshake(c, NULL, 0);
}

void conn_read_handshake(struct hbone_conn *c)
{
	ssize_t n = recv(c->fd, c->h->rx, TLS_RECORD_MAX, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		worker_metrics(c->h->w)->handshakes_failed++;
		conn_fail(c, DROP_TLS_HANDSHAKE, "the peer closed during the handshake");
		return;
	}
	if (conn_handshake(c, c->h->rx, (size_t)n) == 1 && c->state == CONN_OPEN)
		conn_early(c);
}
