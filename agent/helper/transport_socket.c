/* SPDX-License-Identifier: Apache-2.0 */
/* A socket as a transport; transport_socket_out.c has what goes out. A request and its response are one read, one write
 * and no change of what epoll watches:
 *
 *   in   reading stays armed; what is read lies in the worker's scratch memory while on_data looks at it, and only what
 *        it leaves is kept. While something is kept, nothing is read; the loop is only told when it reports more.
 *   out  what is written in a tick collects and leaves in one send at its end, much of it at once and uncopied. Only what
 *        the socket does not take stays, and only then is the loop asked to tell when there is room.
 *
 * After transport_close() what is queued is still sent, then FIN; what the peer sends meanwhile is read and dropped,
 * because a close with unread bytes would be a reset, which may overtake the last response. */
#include "agent/helper/transport_socket_internal.h"

#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/helper/worker.h"
#include "agent/model/identity.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	READS_PER_WAKE = 4,
	DISCARD_MAX = 1 << 20, /* of a peer that goes on sending after we closed */
};

/* --- small things --- */

void transport_socket_count(struct transport_socket *s)
{
	uint32_t now = s->kept.cap + s->out.cap;
	if (now == s->counted)
		return;
	worker_metrics(s->ts->w)->buffers_bytes += (uint64_t)((int64_t)now - s->counted);
	s->counted = now;
}

void transport_socket_arm(struct transport_socket *s, int events)
{
	if (s->events == events || !s->io)
		return;
	s->events = events;
	loop_io_set(s->io, events);
}

static void on_tick_end(void *arg);

void transport_socket_defer(struct transport_socket *s)
{
	if (s->deferred)
		return;
	s->deferred = true;
	loop_defer(s->ts->loop, on_tick_end, s);
}

/* Out of the loop at once; the memory goes at the end of the tick. */
void transport_socket_remove(struct transport_socket *s, bool abort_it)
{
	if (s->gone)
		return;
	s->gone = true;
	loop_io_free(TAKE(s->io));
	if (s->lingers)
		TAILQ_REMOVE(&s->ts->lingering, s, by_age);
	if (abort_it) {
		struct linger linger = { .l_onoff = 1, .l_linger = 0 };
		setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	}
	close(s->fd);
	s->fd = -1;
	transports_release(s->ts, &s->out);
	buffer_done(&s->kept);
	transport_socket_count(s);
	if (s->joined)
		s->joined->joined = NULL;
	s->joined = NULL;
	TAILQ_REMOVE(&s->ts->all, s, all);
	if (--s->ts->sockets == 0)
		transports_trim(s->ts);
	if (s->pod) {
		worker_pod_leave(s->ts->w, s->pod);
		worker_pod_unref(s->ts->w, TAKE(s->pod));
	}
	transport_socket_defer(s);
}

void transport_socket_fail(struct transport_socket *s, int error)
{
	if (s->error)
		return;
	s->error = error ? error : -EIO;
	if (s->closed) {
		transport_socket_remove(s, true);
		return;
	}
	transport_socket_arm(s, 0);
	transport_socket_defer(s); /* on_broken is never called from inside an operation */
}

/* --- in --- */

/* Nothing is read until transport_resume(); a reset is noticed all the same. */
static void socket_hold(struct transport_socket *s)
{
	transport_socket_arm(s, (s->events & ~LOOP_READ) | LOOP_HANGUP);
}

void transport_socket_eof(struct transport_socket *s)
{
	s->eof = true;
	if (s->closed) {
		transport_socket_sent(s);
		if (!s->gone)
			transport_socket_arm(s, s->events & ~LOOP_READ);
		return;
	}
	s->t.events->on_end(&s->t, s->t.arg);
	if (!s->gone && !s->error)
		transport_socket_arm(s, s->events & ~(LOOP_READ | LOOP_HANGUP));
}

static void socket_held(struct transport_socket *s)
{
	s->held = true;
	transport_socket_count(s);
	if (s->resumed)
		transport_socket_defer(s);
}

/* Offers bytes; keeps what is not taken. False: read no more. */
static bool socket_deliver(struct transport_socket *s, const uint8_t *bytes, size_t len)
{
	s->delivering = true;
	size_t took = s->t.events->on_data(&s->t, bytes, len, s->t.arg);
	s->delivering = false;
	if (s->closed || s->error)
		return false;
	if (took >= len) {
		s->resumed = false;
		return true;
	}
	if (buffer_append(&s->kept, bytes + took, len - took) < 0)
		transport_socket_fail(s, -ENOMEM);
	socket_held(s);
	return false;
}

static void socket_discard(struct transport_socket *s, size_t len)
{
	s->discarded += (uint32_t)len;
	if (s->discarded > DISCARD_MAX)
		transport_socket_remove(s, true);
}

/* Reads once. True: there may be more. */
static bool socket_read(struct transport_socket *s)
{
	struct transports *ts = s->ts;
	if (!ts->scratch && !(ts->scratch = malloc(TRANSPORT_SCRATCH))) {
		transport_socket_fail(s, -ENOMEM);
		return false;
	}
	ssize_t n = recv(s->fd, ts->scratch, TRANSPORT_SCRATCH, MSG_DONTWAIT);
	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			transport_socket_fail(s, -errno);
		return false;
	}
	if (n == 0) {
		transport_socket_eof(s);
		return false;
	}
	if (s->closed) {
		socket_discard(s, (size_t)n);
		return false;
	}
	s->bulk = n == TRANSPORT_SCRATCH;
	return socket_deliver(s, ts->scratch, (size_t)n) && s->bulk;
}

static void on_hangup(struct transport_socket *s)
{
	int error = 0;
	socklen_t len = sizeof(error);
	getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len);
	if (error)
		transport_socket_fail(s, -error);
	else
		transport_socket_arm(
			s, s->events & ~LOOP_HANGUP); /* an orderly end can wait until what is kept was taken */
}

static void on_socket(struct loop_io *io, int events, void *arg)
{
	struct transport_socket *s = arg;
	(void)io;
	if (!s->t.events && !s->closed)
		return; /* connected in this tick, and not handed over yet */
	if (events & LOOP_WRITE)
		transport_socket_writable(s);
	if (s->gone || s->error)
		return;
	if (s->held && !s->closed) {
		if (events & LOOP_READ)
			socket_hold(s);
		else if (events & LOOP_HANGUP)
			on_hangup(s);
		return;
	}
	if (s->eof) {
		if (events & LOOP_HANGUP)
			on_hangup(s);
		return;
	}
	if (events & (LOOP_READ | LOOP_HANGUP))
		for (int i = 0; i < READS_PER_WAKE && !s->gone && !s->error; i++)
			if (!(transport_can_splice(s) ? transport_splice(s) : socket_read(s)))
				break;
}

/* Delivers what was kept, then lets reading go on. */
static void socket_release(struct transport_socket *s)
{
	struct buffer kept = s->kept; /* on_data may close the transport: the bytes outlive that */
	s->kept = (struct buffer){ 0 };
	s->held = false;
	if (kept.len) {
		s->delivering = true;
		size_t took = s->t.events->on_data(&s->t, buffer_head(&kept), kept.len, s->t.arg);
		s->delivering = false;
		if (took < kept.len && !s->closed && !s->error) {
			buffer_consume(&kept, took);
			s->kept = kept;
			socket_held(s);
			return;
		}
		buffer_done(&kept);
	}
	transport_socket_count(s);
	if (!s->closed && !s->error && !s->eof)
		transport_socket_arm(s, (s->events & ~LOOP_HANGUP) | LOOP_READ);
}

static void socket_resume(struct transport *t)
{
	struct transport_socket *s = transport_socket_of(t);
	if (s->delivering)
		s->resumed = true; /* what it is about to leave is offered again at the end of the tick */
	else if (s->held && !s->closed && !s->error)
		socket_release(s);
}

/* --- the end --- */

static void socket_end(struct transport *t)
{
	struct transport_socket *s = transport_socket_of(t);
	if (s->ending || s->error)
		return;
	s->ending = true;
	transport_socket_defer(s);
}

/* What is not done by the end of the tick gets its time. */
static void socket_linger(struct transport_socket *s)
{
	struct transports *ts = s->ts;
	if (s->lingers)
		return;
	s->lingers = true;
	s->deadline_ns = loop_now_ns(ts->loop) + TRANSPORT_LINGER_MS * 1000000ull;
	bool first = TAILQ_EMPTY(&ts->lingering);
	TAILQ_INSERT_TAIL(&ts->lingering, s, by_age);
	if (first)
		transports_linger_arm(ts);
}

static void socket_close(struct transport *t, bool abort_it)
{
	struct transport_socket *s = transport_socket_of(t);
	if (s->closed)
		return;
	s->closed = true;
	s->held = false;
	buffer_done(&s->kept);
	if (abort_it || s->error) {
		transport_socket_remove(s, abort_it || s->out.len);
		return;
	}
	s->ending = true;
	transport_socket_defer(s);
}

static void on_tick_end(void *arg)
{
	struct transport_socket *s = arg;
	s->deferred = false;
	if (s->gone) {
		s->magic = 0;
		identity_unref(s->identity);
		free(s);
		return;
	}
	if (s->error && !s->t.events && !s->closed) {
		transport_socket_defer(s); /* not handed over yet */
		return;
	}
	if (s->error) {
		if (!s->told && s->t.events)
			s->t.events->on_broken(&s->t, s->error, s->t.arg);
		s->told = true;
		return;
	}
	if (s->resumed) {
		s->resumed = false;
		socket_resume(&s->t);
	}
	if (s->out.len && !s->full && !s->gone && !s->error)
		transport_socket_send(s, NULL, 0);
	transport_socket_sent(s);
	if (s->closed && !s->gone)
		socket_linger(s);
	else if (!s->gone)
		transport_socket_count(s);
}

static size_t socket_queued(const struct transport *t)
{
	return transport_socket_of(t)->out.len;
}

const struct transport_ops transport_socket_ops = {
	.write = transport_socket_write,
	.flush = transport_socket_flush,
	.resume = socket_resume,
	.end = socket_end,
	.close = socket_close,
	.queued = socket_queued,
};

int transport_socket_new(struct worker *w, int fd, const void *first, size_t first_len, struct transport **out)
{
	struct transports *ts = worker_transports(w);
	struct transport_socket *s = calloc(1, sizeof(*s));
	int rc = s ? 0 : -ENOMEM;
	if (rc == 0 && first_len)
		rc = buffer_append(&s->kept, first, first_len);
	if (rc == 0)
		rc = loop_io_open(ts->loop, fd, LOOP_READ, on_socket, s, &s->io);
	if (rc < 0) {
		if (s)
			buffer_done(&s->kept);
		free(s);
		close(fd);
		return rc;
	}
	s->t.ops = &transport_socket_ops;
	s->magic = SOCKET_MAGIC;
	s->fd = fd;
	s->events = LOOP_READ;
	s->ts = ts;
	TAILQ_INSERT_TAIL(&ts->all, s, all);
	ts->sockets++;
	if (first_len) {
		s->held = s->resumed = true;
		transport_socket_defer(s);
	}
	*out = &s->t;
	return 0;
}

void transport_socket_charge(struct transport *t, struct worker_pod *pod)
{
	transport_socket_of(t)->pod = worker_pod_ref(pod);
}

void transport_socket_identify(struct transport *t, struct identity *peer)
{
	transport_socket_of(t)->identity = peer;
	t->peer = peer;
}
