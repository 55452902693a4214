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
#include "agent/helper/transport_internal.h"

#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/helper/worker.h"
#include "agent/model/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	SOCKET_MAGIC = 0x6b636f73,
	READS_PER_WAKE = 4,
	DIRECT_BYTES = 8 << 10, /* from here on copying costs more than a system call of its own */
	FLUSH_BYTES = 64 << 10,
	SPLICE_MIN = 16 << 10,
	DISCARD_MAX = 1 << 20, /* of a peer that goes on sending after we closed */
	IOV_AT_ONCE = 16,
};

struct transport_socket {
	struct transport t; /* first */
	uint32_t magic;
	int fd, events;
	struct transports *ts;
	struct loop_io *io;
	struct worker_pod *pod;	   /* it counts against; or NULL */
	struct identity *identity; /* t.peer, when it is ours */
	struct transport_socket *joined; /* what is read here is written there */
	uint64_t *moved;		 /* bytes that went there uncopied */
	struct buffer kept, out;
	uint32_t counted;    /* of kept and out, in the metrics */
	uint32_t discarded;
	int error;	     /* -errno: nothing works any more */
	bool told;	     /* of the error */
	bool deferred;	     /* on_tick_end() will run */
	bool full;	     /* the socket took less than there was: it will tell */
	bool starved;	     /* a write was cut short */
	bool eof;	     /* the peer's */
	bool ending, ended;  /* ours: asked for, done */
	bool held;	     /* on_data left something: not before transport_resume() */
	bool delivering;     /* inside on_data */
	bool resumed;	     /* transport_resume() at the end of the tick */
	bool lingers;
	bool bulk; /* there is as much to read as we take at a time */
	bool closed, gone;   /* by its owner; and from the loop */
	uint64_t deadline_ns; /* of lingering */
	TAILQ_ENTRY(transport_socket) all, by_age;
};

static struct transport_socket *socket_of(const struct transport *t)
{
	struct transport_socket *s = (struct transport_socket *)(uintptr_t)t;
	if (s->magic != SOCKET_MAGIC)
		abort();
	return s;
}

/* --- what a worker's transports share --- */

static void transports_trim(struct transports *ts)
{
	fd_closep(&ts->pipe[0]);
	fd_closep(&ts->pipe[1]);
	while (ts->chunk_count)
		free(ts->chunks[--ts->chunk_count]);
	free(TAKE(ts->scratch));
}

int transports_append(struct transports *ts, struct buffer *b, const void *bytes, size_t len)
{
	if (!b->p && len <= TRANSPORT_CHUNK) {
		b->p = ts->chunk_count ? ts->chunks[--ts->chunk_count] : malloc(TRANSPORT_CHUNK);
		if (!b->p)
			return -ENOMEM;
		b->cap = TRANSPORT_CHUNK;
	}
	return buffer_append(b, bytes, len);
}

void transports_release(struct transports *ts, struct buffer *b)
{
	if (b->cap == TRANSPORT_CHUNK && ts->chunk_count < TRANSPORT_CHUNKS) {
		ts->chunks[ts->chunk_count++] = b->p;
		*b = (struct buffer){ 0 };
	} else {
		buffer_done(b);
	}
}

void transports_consume(struct transports *ts, struct buffer *b, size_t len)
{
	if (len < b->len)
		buffer_consume(b, len);
	else
		transports_release(ts, b);
}

/* --- small things --- */

static void socket_count(struct transport_socket *s)
{
	uint32_t now = s->kept.cap + s->out.cap;
	if (now == s->counted)
		return;
	worker_metrics(s->ts->w)->buffers_bytes += (uint64_t)((int64_t)now - s->counted);
	s->counted = now;
}

static void socket_arm(struct transport_socket *s, int events)
{
	if (s->events == events || !s->io)
		return;
	s->events = events;
	loop_io_set(s->io, events);
}

static void on_tick_end(void *arg);
static const struct transport_ops socket_ops;

static void socket_defer(struct transport_socket *s)
{
	if (s->deferred)
		return;
	s->deferred = true;
	loop_defer(s->ts->loop, on_tick_end, s);
}

/* Out of the loop at once; the memory goes at the end of the tick. */
static void socket_remove(struct transport_socket *s, bool abort_it)
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
	socket_count(s);
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

static void socket_fail(struct transport_socket *s, int error)
{
	if (s->error)
		return;
	s->error = error ? error : -EIO;
	if (s->closed) {
		socket_remove(s, true);
		return;
	}
	socket_arm(s, 0);
	socket_defer(s); /* on_broken is never called from inside an operation */
}

/* --- out --- */

/* All that was queued and asked for is done, after the owner closed it. */
static void socket_closing(struct transport_socket *s)
{
	if (!s->closed || s->gone || s->out.len)
		return;
	if (s->eof)
		socket_remove(s, false);
	else
		socket_arm(s, LOOP_READ);
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
		socket_fail(s, -errno);
		return 0;
	}
	size_t done = sent < 0 ? 0 : (size_t)sent;
	if (queued)
		transports_consume(s->ts, &s->out, done < queued ? done : queued);
	if (done < total) {
		s->full = true;
		socket_arm(s, s->events | LOOP_WRITE);
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
		socket_fail(s, -ENOMEM);
		return total;
	}
	if (s->out.len >= FLUSH_BYTES && !s->full)
		socket_send(s, NULL, 0);
	if (sent + rest < total)
		s->starved = true;
	socket_count(s);
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
		socket_arm(s, s->events & ~LOOP_WRITE);
	socket_sent(s);
}

/* --- in --- */

/* Nothing is read until transport_resume(); a reset is noticed all the same. */
static void socket_hold(struct transport_socket *s)
{
	socket_arm(s, (s->events & ~LOOP_READ) | LOOP_HANGUP);
}

static void socket_eof(struct transport_socket *s)
{
	s->eof = true;
	if (s->closed) {
		socket_sent(s);
		if (!s->gone)
			socket_arm(s, s->events & ~LOOP_READ);
		return;
	}
	s->t.events->on_end(&s->t, s->t.arg);
	if (!s->gone && !s->error)
		socket_arm(s, s->events & ~(LOOP_READ | LOOP_HANGUP));
}

static void socket_held(struct transport_socket *s)
{
	s->held = true;
	socket_count(s);
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
		socket_fail(s, -ENOMEM);
	socket_held(s);
	return false;
}

static void socket_discard(struct transport_socket *s, size_t len)
{
	s->discarded += (uint32_t)len;
	if (s->discarded > DISCARD_MAX)
		socket_remove(s, true);
}

/* Reads once. True: there may be more. */
static bool socket_read(struct transport_socket *s)
{
	struct transports *ts = s->ts;
	if (!ts->scratch && !(ts->scratch = malloc(TRANSPORT_SCRATCH))) {
		socket_fail(s, -ENOMEM);
		return false;
	}
	ssize_t n = recv(s->fd, ts->scratch, TRANSPORT_SCRATCH, MSG_DONTWAIT);
	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			socket_fail(s, -errno);
		return false;
	}
	if (n == 0) {
		socket_eof(s);
		return false;
	}
	if (s->closed) {
		socket_discard(s, (size_t)n);
		return false;
	}
	s->bulk = n == TRANSPORT_SCRATCH;
	return socket_deliver(s, ts->scratch, (size_t)n) && s->bulk;
}

/* --- from socket to socket: while there is much, the bytes stay in the kernel (a third less work than copying them out
 * and in). The worker's one pipe is empty outside of socket_splice(). --- */

static bool can_splice(struct transport_socket *s)
{
	const struct transport_socket *to = s->joined;
	if (!to || !s->bulk || s->closed || to->closed || to->error || to->ending || to->full || to->out.len)
		return false;
	struct transports *ts = s->ts;
	if (ts->pipe[0] < 0 && pipe2(ts->pipe, O_NONBLOCK | O_CLOEXEC) < 0) {
		ts->pipe[0] = ts->pipe[1] = -1;
		s->joined = NULL; /* copying always works */
	}
	return s->joined != NULL;
}

/* What the socket did not take leaves the pipe again. */
static void splice_rest(struct transport_socket *s, size_t len)
{
	struct transport_socket *to = s->joined;
	struct transports *ts = s->ts;
	if (!ts->scratch && !(ts->scratch = malloc(TRANSPORT_SCRATCH)))
		abort(); /* bytes that were acknowledged would be lost, or another's connection get them */
	while (len) {
		ssize_t n = read(ts->pipe[0], ts->scratch, len < TRANSPORT_SCRATCH ? len : TRANSPORT_SCRATCH);
		if (n <= 0)
			abort();
		len -= (size_t)n;
		if (!to->error && transports_append(ts, &to->out, ts->scratch, (size_t)n) < 0)
			socket_fail(to, -ENOMEM);
	}
	if (to->error)
		return;
	to->full = true;
	socket_arm(to, to->events | LOOP_WRITE);
	socket_count(to);
}

/* Moves bytes once. True: there may be more. */
static bool socket_splice(struct transport_socket *s)
{
	struct transport_socket *to = s->joined;
	struct transports *ts = s->ts;
	ssize_t n = splice(s->fd, NULL, ts->pipe[1], NULL, TRANSPORT_SCRATCH, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
	if (n == 0)
		socket_eof(s);
	if (n < 0) {
		s->bulk = false; /* nothing there; or an error, which the next read meets */
		return errno != EAGAIN && errno != EINTR;
	}
	size_t done = 0, len = (size_t)n;
	while (done < len) {
		ssize_t m = splice(ts->pipe[0], NULL, to->fd, NULL, len - done, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
		if (m < 0 && errno != EAGAIN && errno != EINTR)
			socket_fail(to, -errno);
		if (m <= 0)
			break;
		done += (size_t)m;
	}
	*s->moved += len;
	if (done < len)
		splice_rest(s, len - done);
	s->bulk = len >= SPLICE_MIN;
	return s->bulk && !to->error;
}

void transport_socket_join(struct transport *a, struct transport *b, uint64_t *a_moved, uint64_t *b_moved)
{
	if (a->ops != &socket_ops || b->ops != &socket_ops)
		return;
	struct transport_socket *x = socket_of(a), *y = socket_of(b);
	if (x->gone || y->gone)
		return;
	x->joined = y;
	y->joined = x;
	x->moved = a_moved;
	y->moved = b_moved;
}

static void on_hangup(struct transport_socket *s)
{
	int error = 0;
	socklen_t len = sizeof(error);
	getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len);
	if (error)
		socket_fail(s, -error);
	else
		socket_arm(s, s->events & ~LOOP_HANGUP); /* an orderly end can wait until what is kept was taken */
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
			if (!(can_splice(s) ? socket_splice(s) : socket_read(s)))
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
	socket_count(s);
	if (!s->closed && !s->error && !s->eof)
		socket_arm(s, (s->events & ~LOOP_HANGUP) | LOOP_READ);
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

static void linger_arm(struct transports *ts)
{
	const struct transport_socket *oldest = TAILQ_FIRST(&ts->lingering);
	if (!oldest) {
		loop_timer_stop(ts->linger);
		return;
	}
	uint64_t now = loop_now_ns(ts->loop);
	uint64_t left = oldest->deadline_ns > now ? oldest->deadline_ns - now : 0;
	loop_timer_start(ts->linger, left / 1000000 + 1, 0);
}

static void on_linger(struct loop_timer *timer, void *arg)
{
	struct transports *ts = arg;
	struct transport_socket *s;
	(void)timer;
	while ((s = TAILQ_FIRST(&ts->lingering)) && s->deadline_ns <= loop_now_ns(ts->loop))
		socket_remove(s, true);
	linger_arm(ts);
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
		linger_arm(ts);
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
		socket_remove(s, abort_it || s->out.len);
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
		if (!s->told)
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
		socket_count(s);
}

static size_t socket_queued(const struct transport *t)
{
	return socket_of(t)->out.len;
}

static const struct transport_ops socket_ops = {
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
	s->t.ops = &socket_ops;
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

/* --- what a worker's transports share --- */

int transports_new(struct worker *w, struct transports **out)
{
	struct transports *ts = calloc(1, sizeof(*ts));
	if (!ts)
		return -ENOMEM;
	ts->w = w;
	ts->pipe[0] = ts->pipe[1] = -1;
	ts->loop = worker_loop(w);
	TAILQ_INIT(&ts->all);
	TAILQ_INIT(&ts->lingering);
	int rc = loop_timer_new(ts->loop, on_linger, ts, &ts->linger);
	if (rc < 0)
		free(ts);
	else
		*out = ts;
	return rc;
}

void transports_free(struct transports *ts)
{
	struct transport_socket *s;
	if (!ts)
		return;
	while ((s = TAILQ_FIRST(&ts->all))) {
		s->closed = true; /* their owners are gone */
		socket_remove(s, true);
	}
	loop_timer_free(ts->linger);
	if (ts->contexts)
		ts->contexts_free(ts->contexts);
	transports_trim(ts);
	free(ts);
}
