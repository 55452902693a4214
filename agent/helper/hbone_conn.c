/* SPDX-License-Identifier: Apache-2.0 */
/* A connection to another node: its socket, its states and its end. hbone_handshake.c brings it to HTTP/2,
 * hbone_receive.c and hbone_send.c move bytes, hbone_events.c has what HTTP/2 tells. */
#include "agent/helper/hbone_internal.h"

#include "agent/base/err.h"
#include "agent/base/log.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/model/identity.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READS_PER_WAKE = 4 };

static void on_tunnel(struct loop_io *io, int events, void *arg);

int hbone_conn_new(struct hbone *h, struct worker_pod *pod, bool server, struct hbone_conn **out)
{
	struct hbone_conn *c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;

	c->magic = CONN_MAGIC;
	c->h = h;
	c->fd = -1;
	c->server = server;
	c->pod = worker_pod_ref(pod);
	c->began_ms = hbone_now_ms(h);
	TAILQ_INIT(&c->blocked);
	TAILQ_INSERT_TAIL(&h->conns, c, all);
	h->conn_count++;
	hbone_unsettled(h, 1);
	*out = c;
	return 0;
}

void conn_settle(struct hbone_conn *c)
{
	if (c->settled)
		return;
	c->settled = true;
	hbone_unsettled(c->h, -1);
}

void conn_arm(struct hbone_conn *c)
{
	bool write = c->out.len > 0 || c->state == CONN_CONNECTING;
	loop_io_set(c->io, write ? LOOP_READ | LOOP_WRITE : LOOP_READ);
	c->writing = write;
}

int conn_use_fd(struct hbone_conn *c, int fd)
{
	c->fd = fd;
	int one = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return loop_io_new(c->h->loop, fd, on_tunnel, c, &c->io);
}

/* --- events --- */

static void on_writable(struct hbone_conn *c)
{
	if (hbone_conn_drain(c) < 1)
		return;
	conn_arm(c);
	conn_flush(c);
	if (c->state != CONN_OPEN)
		return;
	/* Those that were kept waiting read again, in order. */
	struct hbone_stream *s;
	while ((s = TAILQ_FIRST(&c->blocked))) {
		TAILQ_REMOVE(&c->blocked, s, queue);
		s->blocked = false;
		relay_resume(s);
	}
}

static void on_tunnel(struct loop_io *io, int events, void *arg)
{
	struct hbone_conn *c = arg;
	struct hbone *h = c->h;
	(void)io;
	if (c->state == CONN_CLOSED)
		return;

	hbone_begin(h);
	if (c->state == CONN_CONNECTING) {
		conn_connected(c);
	} else {
		if (events & LOOP_WRITE)
			on_writable(c);
		if (c->state == CONN_HANDSHAKE)
			conn_read_handshake(c);
		else if (events & (LOOP_READ | LOOP_HANGUP))
			for (int i = 0; i < READS_PER_WAKE && c->state == CONN_OPEN && conn_read(c); i++)
				;
	}
	hbone_later(h);
}

void conn_tick(struct hbone_conn *c, uint64_t now_ms)
{
	if (c->state != CONN_OPEN || (c->server && !c->settled)) {
		if (now_ms - c->began_ms < HANDSHAKE_TIMEOUT_MS)
			return;
		if (c->state == CONN_HANDSHAKE)
			worker_metrics(c->h->w)->handshakes_failed++;
		conn_fail(c,
			  c->state == CONN_OPEN	     ? DROP_HBONE_PROTOCOL :
			  c->state == CONN_HANDSHAKE ? DROP_TLS_HANDSHAKE :
						       DROP_UPSTREAM_CONNECT,
			  "no progress in time");
		return;
	}
	if (c->ping_sent && now_ms - c->pinged_ms >= PING_TIMEOUT_S * 1000) {
		conn_fail(c, DROP_UPSTREAM_CONNECT, "the peer does not answer PING");
		return;
	}
	if (!c->ping_sent && now_ms - c->received_ms >= PING_AFTER_S * 1000) {
		c->ping_sent = true;
		c->pinged_ms = now_ms;
		h2_ping(c->h2);
		conn_touch(c);
	}
	h2_review(c->h2);
	if (h2_output(c->h2)->len)
		conn_touch(c);
	uint64_t idle_s = c->server ? SERVER_IDLE_S : POOL_IDLE_S;
	if (c->unused_ms && now_ms - c->unused_ms >= idle_s * 1000)
		conn_shutdown(c);
}

/* --- the end --- */

static void on_reap(void *arg)
{
	struct hbone_conn *c = arg;
	c->magic = 0;
	h2_free(c->h2);
	tls_record_free(c->record);
	tls_handshake_free(c->handshake);
	tls_peer_done(&c->peer);
	free(c);
}

/* Streams that have ended on both sides only hand their last bytes to the application: they need no connection. */
static void conn_orphan(struct hbone_conn *c, enum drop_reason reason)
{
	struct hbone_stream *s, *next;
	for (s = TAILQ_FIRST(&c->h->streams); s; s = next) {
		next = TAILQ_NEXT(s, all);
		if (s->conn != c)
			continue;
		if (s->blocked)
			TAILQ_REMOVE(&c->blocked, s, queue);
		s->blocked = false;
		s->conn = NULL;
		bool ended = s->state == STREAM_OPEN && s->h2.local_end && s->h2.remote_end;
		s->h2.id = 0;
		if (ended)
			continue;
		if (s->inbound || s->state != STREAM_ASKED)
			stream_abort(s, H2_CANCEL);
		/* A connection that never carried anything was not a pooled one that went stale: no second try. Nor is
		 * there one for bytes that may have arrived. */
		else if (!c->settings_seen || s->sent || !pool_retry(s))
			outbound_fail(s, reason);
	}
}

static void conn_end(struct hbone_conn *c, enum drop_reason reason)
{
	if (c->state == CONN_CLOSED)
		return;

	struct hbone *h = c->h;
	bool open = c->state == CONN_OPEN;
	c->state = CONN_CLOSED;
	if (c->h2)
		h2_stop(c->h2);
	worker_wait_cancel(TAKE(c->wait));
	conn_settle(c);
	lazy_leave(c);
	if (c->dirty)
		TAILQ_REMOVE(&h->dirty, c, in_dirty);
	c->dirty = false;
	TAILQ_REMOVE(&h->conns, c, all);
	h->conn_count--;
	loop_io_free(TAKE(c->io));
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	hbone_count_bytes(h, -(int64_t)c->out.cap);
	buffer_done(&c->out);
	buffer_done(&c->rest);
	if (open && !c->server)
		worker_metrics(h->w)->pool_connections--;
	if (c->server)
		worker_pod_leave(h->w, c->pod);
	conn_orphan(c, reason);
	if (c->pool)
		pool_conn_gone(c, open ? DROP_NONE : reason);
	worker_pod_unref(h->w, TAKE(c->pod));
	loop_defer(h->loop, on_reap, c);
}

void hbone_conn_close(struct hbone_conn *c)
{
	conn_end(c, DROP_UPSTREAM_CONNECT);
}

void conn_fail(struct hbone_conn *c, enum drop_reason reason, const char *why)
{
	char remote[ADDR_PORT_TEXT_MAX];
	const char *uri = c->peer.identity ? c->peer.identity->uri :
			  c->handshake	   ? tls_handshake_peer_uri(c->handshake) :
					     NULL;
	log_debug("hbone: %s %s: %s", c->server ? "from" : "to", addr_port_text(&c->remote, remote), why);
	/* A client's waiting streams each count and report the reason; otherwise the connection does. */
	if (c->server || (c->state == CONN_OPEN && c->settings_seen))
		hbone_refuse(c->h, c->pod, reason, c->server, c->server ? &c->remote : NULL,
			     c->server ? &c->local : &c->remote, uri, NULL);
	conn_end(c, reason);
}

void conn_shutdown(struct hbone_conn *c)
{
	if (c->state == CONN_OPEN) {
		h2_goaway(c->h2, H2_NO_ERROR);
		conn_flush(c);
	}
	if (c->state == CONN_OPEN && c->out.len == 0) {
		uint8_t alert[TLS_ALERT_MAX];
		ssize_t n = tls_record_alert(c->record, 1, 0, alert);
		if (n > 0)
			conn_write(c, alert, (size_t)n);
	}
	hbone_conn_close(c);
}

void conn_unused(struct hbone_conn *c)
{
	if (c->state != CONN_OPEN || h2_stream_count(c->h2) > 0)
		return;
	c->unused_ms = hbone_now_ms(c->h);
	/* The tick of a later second sends GOAWAY and closes; one that takes no streams need not wait. */
	if (c->h->draining || c->retired || h2_is_closing(c->h2))
		c->unused_ms = 1;
}
