/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes between a stream and the application's socket.
 *
 * To the tunnel: the socket is read only when windows and tunnel can take what comes, straight into the record that
 * will carry it; so nothing is ever buffered here, and back-pressure is the socket's own.
 * To the application: decrypted DATA is written from where it was decrypted; only what the socket does not take is
 * copied, at most a stream's window, because credit returns to the peer when the application has taken the bytes. */
#include "agent/helper/hbone_internal.h"

#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/helper/observe/connection_log.h"
#include "agent/helper/sniff.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static void on_app(struct loop_io *io, int events, void *arg);

enum { PULLS_PER_WAKE = 4, IOV_DRAIN_MAX = 512 << 10 };

static void relay_arm(struct hbone_stream *s, int events)
{
	if (s->events == events)
		return;
	s->events = events;
	if (s->io)
		loop_io_set(s->io, events);
	else if (loop_io_open(s->h->loop, s->fd, events, on_app, s, &s->io) < 0)
		stream_abort(s, H2_INTERNAL_ERROR);
}

static void account(struct hbone_stream *s, uint32_t cap_before)
{
	hbone_count_bytes(s->h, (int64_t)s->to_app.cap - cap_before);
}

/* The application took bytes. The connection may be gone when both sides have ended and only they were left. */
static void consumed(struct hbone_stream *s, size_t len)
{
	if (!s->conn)
		return;
	h2_consumed(s->conn->h2, &s->h2, len);
	conn_touch(s->conn);
}

/* After the application took bytes, or the peer ended: what follows from that. May close the stream. */
static void relay_progress(struct hbone_stream *s)
{
	if (s->to_app.len == 0 && s->h2.remote_end && !s->app_shut) {
		s->app_shut = true;
		if (!s->app_eof) /* else close() says it */
			shutdown(s->fd, SHUT_WR);
	}
	if (s->app_shut && s->app_eof) {
		stream_close(s);
		return;
	}
	int events = s->events & ~LOOP_WRITE;
	relay_arm(s, s->to_app.len ? events | LOOP_WRITE : events);
}

/* The application's socket failed. */
static void relay_broken(struct hbone_stream *s)
{
	held_answer(s);			/* the peer's client is told of a reset, not of a refusal */
	if (s->state == STREAM_ASKED) { /* told when it is open: a request that is given up costs the peer more */
		s->broken = true;
		relay_arm(s, 0);
		return;
	}
	stream_abort(s, H2_CONNECT_ERROR);
}

static void relay_drain(struct hbone_stream *s)
{
	while (s->to_app.len) {
		size_t n = s->to_app.len < IOV_DRAIN_MAX ? s->to_app.len : IOV_DRAIN_MAX;
		ssize_t sent = send(s->fd, buffer_head(&s->to_app), n, MSG_NOSIGNAL);
		if (sent < 0 && errno != EAGAIN && errno != EINTR) {
			relay_broken(s);
			return;
		}
		if (sent < 0)
			break;
		uint32_t cap = s->to_app.cap;
		buffer_consume(&s->to_app, (size_t)sent);
		account(s, cap);
		consumed(s, (size_t)sent);
		if ((size_t)sent < n)
			break;
	}
	relay_progress(s);
}

/* The application sends no more, and the peer has been told. May close the stream. */
static void relay_eof(struct hbone_stream *s)
{
	relay_progress(s);
	if (s->state == STREAM_CLOSED)
		return;
	int events = s->events & ~(LOOP_READ | LOOP_HANGUP);
	if (events) {
		relay_arm(s, events);
		return;
	}
	loop_io_free(TAKE(s->io)); /* in most cases there is nothing more to wait for */
	s->events = 0;
}

static void relay_tell_end(struct hbone_stream *s)
{
	if (s->peer_last)
		lazy_add(s->conn);
	else
		conn_touch(s->conn);
}

/* Reads what the application sends. May close the stream. */
static void relay_pull(struct hbone_stream *s)
{
	for (int i = 0; i < PULLS_PER_WAKE; i++) {
		ssize_t n = conn_pull(s->conn, s);
		if (s->state == STREAM_CLOSED || n == -ECANCELED)
			return; /* with its connection, or it waits for another one */
		if (n > 0) {
			s->active_s = (uint32_t)(hbone_now_ms(s->h) / 1000);
			if (s->app_eof)
				relay_eof(s);
			if (s->state == STREAM_CLOSED || s->app_eof || !s->eager)
				return; /* less than there was room for: it is drained */
			continue;
		}
		if (n == 0) {
			s->app_eof = true;
			h2_end(s->conn->h2, &s->h2);
			relay_tell_end(s);
			relay_eof(s);
		} else if (n == -EBUSY || n == -ENOBUFS) {
			/* relay_resume() arms it again. A reset must still be noticed. */
			relay_arm(s, (s->events & ~LOOP_READ) | LOOP_HANGUP);
		} else if (n != -EAGAIN && n != -EINTR) {
			relay_broken(s);
		}
		return;
	}
}

/* While reading is paused: a reset ends the stream, an orderly end can wait. */
static void relay_hangup(struct hbone_stream *s)
{
	int error = 0;
	socklen_t len = sizeof(error);
	if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error == 0) {
		relay_arm(s, s->events & ~LOOP_HANGUP);
		return;
	}
	relay_broken(s);
}

static void on_app(struct loop_io *io, int events, void *arg)
{
	struct hbone_stream *s = arg;
	struct hbone *h = s->h;
	(void)io;
	if (s->state == STREAM_CLOSED)
		return;

	hbone_begin(h);
	s->hung_up = events & LOOP_HANGUP;
	held_answer(s);
	if (events & LOOP_WRITE)
		relay_drain(s);
	if ((events & LOOP_READ) && s->state != STREAM_CLOSED && !s->app_eof)
		relay_pull(s);
	else if ((events & LOOP_HANGUP) && s->state != STREAM_CLOSED)
		relay_hangup(s);
	hbone_later(h);
}

/* --- for the access log, where somebody asks for it: what the first bytes say --- */

enum { LOOK_MAX = 2048 };

/* A server's line is not of a connection whose requests the caller's side has lines of. */
static void log_first(struct hbone_stream *s, const uint8_t *bytes, size_t len)
{
	char name[SNIFF_NAME_MAX];
	enum sniffed what = sniff(bytes, len, name);
	if (s->inbound && (what == SNIFF_HTTP1 || what == SNIFF_HTTP2)) {
		connection_log_end(TAKE(s->log), NULL);
		return;
	}
	connection_log_name(s->log, sniff_server_name(what, bytes, len, name));
}

static void log_peek(struct hbone_stream *s)
{
	uint8_t bytes[LOOK_MAX];
	ssize_t n = recv(s->fd, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);
	if (n > 0)
		log_first(s, bytes, (size_t)n);
}

static int relay_listen(struct hbone_stream *s)
{
	int events = LOOP_READ | LOOP_HANGUP;
	int rc = loop_io_open(s->h->loop, s->fd, events, on_app, s, &s->io);
	if (rc == 0)
		s->events = events;
	return rc;
}

int relay_start(struct hbone_stream *s)
{
	bool listens = s->io != NULL;
	int rc = listens || s->app_eof ? 0 : relay_listen(s);
	if (rc < 0)
		return rc;
	s->state = STREAM_OPEN;
	s->began_s = s->active_s = (uint32_t)(hbone_now_ms(s->h) / 1000);
	stream_settle(s);
	if (s->log && s->early_len)
		log_first(s, s->early, s->early_len);
	else if (s->log && !s->inbound)
		log_peek(s);
	else if (s->log && s->to_app.len)
		log_first(s, buffer_head(&s->to_app), s->to_app.len);
	free(TAKE(s->early));
	if (s->broken)
		relay_broken(s);
	else if (listens)
		relay_resume(s);
	else if (!s->inbound && !s->app_eof)
		relay_pull(s); /* most clients speak first, and have while the stream was opened */
	else if (s->to_app.len)
		relay_drain(s);
	return 0;
}

void relay_early(struct hbone_stream *s)
{
	struct iovec sent = { s->early, s->early_len };
	if (s->early_len && conn_push(s->conn, s, &sent, 1, 0) < s->early_len) {
		if (s->state == STREAM_ASKED)
			outbound_fail(s, DROP_HBONE_REFUSED);
		return;
	}
	if (s->app_eof)
		h2_end(s->conn->h2, &s->h2);
	else if (relay_listen(s) == 0)
		relay_pull(s);
}

void relay_unearly(struct hbone_stream *s)
{
	loop_io_free(TAKE(s->io));
	s->events = 0;
	s->sent = 0;
}

void relay_resume(struct hbone_stream *s)
{
	if (s->transport) {
		hbone_transport_resume(s);
		return;
	}
	if (s->state == STREAM_OPEN && !s->app_eof && !(s->events & LOOP_READ) && s->io)
		relay_arm(s, s->events | LOOP_READ | LOOP_HANGUP);
}

void relay_data(struct hbone_stream *s, const uint8_t *bytes, size_t len)
{
	struct hbone *h = s->h;
	if (h->batch.stream != s || h->batch.count == IOV_MAX_BATCH)
		relay_flush(h);
	h->batch.stream = s;
	h->batch.iov[h->batch.count++] = (struct iovec){ (void *)(uintptr_t)bytes, len };
	h->batch.bytes += len;
}

int relay_keep(struct hbone_stream *s, const struct iovec *iov, int count, size_t done)
{
	uint32_t cap = s->to_app.cap;
	int rc = 0;
	for (int i = 0; i < count && rc == 0; i++) {
		if (done >= iov[i].iov_len) {
			done -= iov[i].iov_len;
			continue;
		}
		rc = buffer_append(&s->to_app, (uint8_t *)iov[i].iov_base + done, iov[i].iov_len - done);
		done = 0;
	}
	account(s, cap);
	return rc;
}

void relay_flush(struct hbone *h)
{
	struct hbone_stream *s = h->batch.stream;
	int count = h->batch.count;
	size_t bytes = h->batch.bytes, done = 0;
	h->batch.stream = NULL;
	h->batch.count = 0;
	h->batch.bytes = 0;
	if (!s || s->state == STREAM_CLOSED)
		return;

	if (s->blind_ms) { /* an answer may go on; nothing more is asked behind the rules' back */
		inbound_end_blind(s);
		return;
	}
	if (s->log && s->inbound && !s->received && s->state == STREAM_OPEN)
		log_first(s, h->batch.iov[0].iov_base, h->batch.iov[0].iov_len);
	if (!s->received)
		s->framed = h->batch.iov[0].iov_len >= 3 && memcmp(h->batch.iov[0].iov_base, "PRI", 3) == 0;
	s->received += bytes;
	s->peer_last = true;
	s->active_s = (uint32_t)(hbone_now_ms(h) / 1000);
	if (s->transport) {
		hbone_transport_data(s, h->batch.iov, count, bytes);
		return;
	}
	if (s->to_app.len == 0 && s->state == STREAM_OPEN) {
		struct iovec *iov = h->batch.iov;
		struct msghdr msg = { .msg_iov = iov, .msg_iovlen = (size_t)count };
		ssize_t sent = count == 1 ? send(s->fd, iov->iov_base, iov->iov_len, MSG_NOSIGNAL | MSG_DONTWAIT) :
					    sendmsg(s->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent < 0 && errno != EAGAIN && errno != EINTR) {
			relay_broken(s);
			return;
		}
		done = sent < 0 ? 0 : (size_t)sent;
		consumed(s, done);
	}
	if (done < bytes && relay_keep(s, h->batch.iov, count, done) < 0) {
		hbone_refuse(h, s->pod, DROP_NO_MEMORY, s->inbound, NULL, &s->destination, NULL, NULL);
		stream_abort(s, H2_INTERNAL_ERROR);
		return;
	}
	if (s->state == STREAM_SNIFFING)
		inbound_sniff(s);
	else if (s->to_app.len && s->state == STREAM_OPEN)
		relay_arm(s, s->events | LOOP_WRITE);
}

void relay_end(struct hbone_stream *s)
{
	if (s->h->batch.stream == s)
		relay_flush(s->h);
	s->peer_last = true;
	if (s->state == STREAM_SNIFFING)
		inbound_sniff(s);
	else if (s->transport && s->state == STREAM_OPEN)
		hbone_transport_end(s);
	else if (s->state == STREAM_OPEN)
		relay_progress(s);
}
