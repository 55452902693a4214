/* SPDX-License-Identifier: Apache-2.0 */
/* What goes out of a socket's transport: it collects until the end of the tick, or leaves at once and uncopied when it is
 * much. What the socket does not take stays, and the loop tells when there is room. */
#include "agent/helper/transport_socket_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/base/loop.h"

enum {
	DIRECT_BYTES = 8 << 10, /* from here on copying costs more than a system call of its own */
	FLUSH_BYTES = 64 << 10,
	IOV_AT_ONCE = 16,
};

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

size_t transport_socket_send(struct transport_socket *s, const struct iovec *iov, int count)
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

size_t transport_socket_write(struct transport *t, const struct iovec *iov, int count)
{
	struct transport_socket *s = transport_socket_of(t);
	size_t total = 0, sent = 0;
	for (int i = 0; i < count; i++)
		total += iov[i].iov_len;
	if (s->error || s->ending || s->closed)
		return total; /* on_broken tells */
	if (total >= DIRECT_BYTES && !s->full && count < IOV_AT_ONCE)
		sent = transport_socket_send(s, iov, count);
	if (s->error || sent == total)
		return total;

	size_t room = s->out.len < TRANSPORT_QUEUE ? TRANSPORT_QUEUE - s->out.len : 0;
	size_t rest = total - sent < room ? total - sent : room;
	if (socket_queue(s, iov, count, sent, rest) < 0) {
		transport_socket_fail(s, -ENOMEM);
		return total;
	}
	if (s->out.len >= FLUSH_BYTES && !s->full)
		transport_socket_send(s, NULL, 0);
	if (sent + rest < total)
		s->starved = true;
	transport_socket_count(s);
	transport_socket_defer(s);
	return sent + rest;
}

void transport_socket_flush(struct transport *t)
{
	struct transport_socket *s = transport_socket_of(t);
	if (!s->error && s->out.len)
		transport_socket_send(s, NULL, 0);
	if (s->starved)
		transport_socket_defer(s);
}

void transport_socket_sent(struct transport_socket *s)
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

void transport_socket_writable(struct transport_socket *s)
{
	s->full = false;
	if (s->out.len)
		transport_socket_send(s, NULL, 0);
	if (!s->full && !s->error)
		transport_socket_arm(s, s->events & ~LOOP_WRITE);
	transport_socket_sent(s);
}
