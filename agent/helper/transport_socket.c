/* SPDX-License-Identifier: Apache-2.0 */
/* A socket as a transport. A request and its response are one read, one write and no change of what epoll watches:
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
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	READS_PER_WAKE = 4,
	DIRECT_BYTES = 8 << 10, /* from here on copying costs more than a system call of its own */
	FLUSH_BYTES = 64 << 10,
	DISCARD_MAX = 1 << 20, /* of a peer that goes on sending after we closed */
	IOV_AT_ONCE = 16,
};

static struct transport_socket *socket_of(const struct transport *t)
{
	struct transport_socket *s = (struct transport_socket *)(uintptr_t)t;
	if (s->magic != SOCKET_MAGIC)
		abort();
	return s;
}

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

static void socket_defer(struct transport_socket *s)
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
	socket_defer(s);
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
	socket_defer(s); /* on_broken is never called from inside an operation */
}

/* --- out --- */

/* All that was queued and asked for is done, after the owner closed it. */
static void socket_closing(struct transport_socket *s)
{
	if (!s->closed || s->gone || s->out.len)
		return;
	if (s->eof)
		transport_socket_remove(s, false);
	else
		transport_socket_arm(s, LOOP_READ);
}

static void socket_shut(struct transport_socket *s)
{
	if (!s->ending || s->ended || s->out.len || s->error || s->gone)
		return;
	s->ended = true;
	if (s->closed && s->eof)
		return; /* close() says it */
	shutdown(s->fd, SHUT_WR);
}

/* Sends what is queued and then these, uncopied. Returns how many of these were sent. */
static size_t socket_send(struct transport_socket *s, const struct iovec *iov, int count)
{
	struct iovec all[IOV_AT_ONCE];
	int n = 0;
	size_t queued = s->out.len, total = queued;
	if (queued)
		all[n++] = (struct iovec){ buffer_head(&s->out), queued };
	for (int i = 0; i < count && n < IOV_AT_ONCE; i++) {
		all[n++] = iov[i];
		total += iov[i].iov_len;
	}
	if (n == 0 || s->full)
		return 0;

	struct msghdr msg = { .msg_iov = all, .msg_iovlen = (size_t)n };
	ssize_t sent = n == 1 ? send(s->fd, all[0].iov_base, all[0].iov_len, MSG_NOSIGNAL | MSG_DONTWAIT) :
				sendmsg(s->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (sent < 0 && errno != EAGAIN && errno != EINTR) {
		transport_socket_fail(s, -errno);
		return 0;
	}
	size_t done = sent < 0 ? 0 : (size_t)sent;
	if (queued)
		transports_consume(s->ts, &s->out, done < queued ? done : queued);
	if (done < total) {
		s->full = true;
		transport_socket_arm(s, s->events | LOOP_WRITE);
	}
	return done > queued ? done - queued : 0;
}

static int socket_queue(struct transport_socket *s, const struct iovec *iov, int count, size_t skip, size_t len)
{
	for (int i = 0; i < count && len; i++) {
		if (skip >= iov[i].iov_len) {
			skip -= iov[i].iov_len;
			continue;
		}
		size_t n = iov[i].iov_len - skip;
		if (n > len)
			n = len;
		if (transports_append(s->ts, &s->out, (const uint8_t *)iov[i].iov_base + skip, n) < 0)
			return -ENOMEM;
		skip = 0;
		len -= n;
	}
	return 0;
}

static size_t socket_write(struct transport *t, const struct iovec *iov, int count)
{
	struct transport_socket *s = socket_of(t);
	size_t total = 0, sent = 0;
	for (int i = 0; i < count; i++)
		total += iov[i].iov_len;
	if (s->error || s->ending || s->closed)
		return total; /* on_broken tells */
	if (total >= DIRECT_BYTES && !s->full && count < IOV_AT_ONCE)
		sent = socket_send(s, iov, count);
	if (s->error || sent == total)
		return total;

	size_t room = s->out.len < TRANSPORT_QUEUE ? TRANSPORT_QUEUE - s->out.len : 0;
	size_t rest = total - sent < room ? total - sent : room;
	if (socket_queue(s, iov, count, sent, rest) < 0) {
		transport_socket_fail(s, -ENOMEM);
		return total;
	}
	if (s->out.len >= FLUSH_BYTES && !s->full)
		socket_send(s, NULL, 0);
	if (sent + rest < total)
		s->starved = true;
	transport_socket_count(s);
	socket_defer(s);
	return sent + rest;
}

static void socket_flush(struct transport *t)
{
	struct transport_socket *s = socket_of(t);
	if (!s->error && s->out.len)
		socket_send(s, NULL, 0);
	if (s->starved)
		socket_defer(s);
}

/* After a send: what follows from an empty queue. May call back. */
static void socket_sent(struct transport_socket *s)
{
	if (s->out.len || s->error || s->gone)
		return;
	socket_shut(s);
	socket_closing(s);
	if (s->starved && !s->closed) {
		s->starved = false;
		s->t.events->on_room(&s->t, s->t.arg);
	}
}

static void on_writable(struct transport_socket *s)
{
	s->full = false;
	if (s->out.len)
		socket_send(s, NULL, 0);
	if (!s->full && !s->error)
		transport_socket_arm(s, s->events & ~LOOP_WRITE);
	socket_sent(s);
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
		socket_sent(s);
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
		socket_defer(s);
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
		on_writable(s);
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
	struct transport_socket *s = socket_of(t);
	if (s->delivering)
		s->resumed = true; /* what it is about to leave is offered again at the end of the tick */
	else if (s->held && !s->closed && !s->error)
		socket_release(s);
}

/* --- the end --- */

static void socket_end(struct transport *t)
{
	struct transport_socket *s = socket_of(t);
	if (s->ending || s->error)
		return;
	s->ending = true;
	socket_defer(s);
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
	struct transport_socket *s = socket_of(t);
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
	socket_defer(s);
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
		socket_defer(s); /* not handed over yet */
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
		socket_send(s, NULL, 0);
	socket_sent(s);
	if (s->closed && !s->gone)
		socket_linger(s);
	else if (!s->gone)
		transport_socket_count(s);
}

static size_t socket_queued(const struct transport *t)
{
	return socket_of(t)->out.len;
}

const struct transport_ops transport_socket_ops = {
	.write = socket_write,
	.flush = socket_flush,
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
		socket_defer(s);
	}
	*out = &s->t;
	return 0;
}

void transport_socket_charge(struct transport *t, struct worker_pod *pod)
{
	socket_of(t)->pod = worker_pod_ref(pod);
}

void transport_socket_identify(struct transport *t, struct identity *peer)
{
	socket_of(t)->identity = peer;
	t->peer = peer;
}
