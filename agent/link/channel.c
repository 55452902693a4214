/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/link/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/err.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"

enum { CHANNEL_BATCH = 64, CHANNEL_SOCKET_BUFFER = 4 << 20 };

/* Before each fragment: 0, which no message of the protocol begins with, flags, two zeros, and the message's length, least
 * significant byte first. A message in one record goes without, unless it begins with a 0 or is empty. */
enum { FRAGMENT_HEADER = 8, FRAGMENT_FIRST = 1, FRAGMENT_LAST = 2 };

struct outgoing {
	const uint8_t *bytes;
	size_t len, at; /* at: sent before */
	const int *fds;
	size_t fd_count; /* with the first fragment */
	bool begun;
};

struct queued {
	struct queued *next;
	size_t len, at, fd_count;
	bool begun;
	int *fds; /* behind bytes; own duplicates */
	uint8_t bytes[];
};

struct channel {
	struct loop *loop;
	int fd;
	struct loop_io *io;
	channel_message_fn on_message;
	channel_closed_fn on_closed;
	void *arg;
	struct queued *first, **last;
	size_t queued_count, queued_bytes;
	size_t limit; /* of what is received */
	struct incoming {
		uint8_t *bytes; /* NULL: no fragments under way */
		size_t len, total, fd_count;
		int fds[CHANNEL_FDS_MAX];
	} in;
	struct err err; /* code set: closed */
	bool freed, close_deferred;
};

void channel_buffers(int fd)
{
	int size = CHANNEL_SOCKET_BUFFER;
	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)); /* best effort */
}

int channel_pair(int fds[2], struct err *err)
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
		return err_sys(err, -errno, "link: make a socket pair");

	for (int i = 0; i < 2; i++)
		channel_buffers(fds[i]);
	return 0;
}

static void queued_free(struct queued *q)
{
	for (size_t i = 0; i < q->fd_count; i++)
		fd_closep(&q->fds[i]);
	free(q);
}

static void incoming_done(struct incoming *in)
{
	for (size_t i = 0; i < in->fd_count; i++)
		fd_closep(&in->fds[i]);
	free(in->bytes);
	in->bytes = NULL;
	in->len = in->total = in->fd_count = 0;
}

static void channel_reap(void *arg)
{
	struct channel *c = arg;
	for (struct queued *q = c->first, *next; q; q = next) {
		next = q->next;
		queued_free(q);
	}
	incoming_done(&c->in);
	free(c);
}

void channel_free(struct channel *c)
{
	if (!c || c->freed)
		return;

	c->freed = true;
	loop_io_free(c->io);
	fd_closep(&c->fd);
	/* It may be in its own callback, or a deferred report of its closing may be under way. */
	loop_defer(c->loop, channel_reap, c);
}

static void channel_report_closed(void *arg)
{
	struct channel *c = arg;
	c->close_deferred = false;
	if (!c->freed)
		c->on_closed(&c->err, c->arg);
}

/* Reports later, so that no sender is surprised by the loss of what it stands on. */
static void channel_close(struct channel *c)
{
	loop_io_set(c->io, 0);
	if (c->close_deferred)
		return;
	c->close_deferred = true;
	loop_defer(c->loop, channel_report_closed, c);
}

static int channel_fail(struct channel *c, int code, const char *what)
{
	if (!c->err.code) {
		if (code == -EPIPE)
			err_set(&c->err, code, "link: the other end closed it");
		else
			err_sys(&c->err, code, "link: %s", what);
		channel_close(c);
	}
	return -EPIPE;
}

/* 1: sent, 0: the socket is full, -EPIPE: closed. -EMSGSIZE leaves the link as it was. */
static int channel_write_record(struct channel *c, struct iovec *iov, size_t iov_count, const int *fds, size_t fd_count)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int) * CHANNEL_FDS_MAX)];
	} control;
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = iov_count };
	if (fd_count) {
		memset(&control, 0, sizeof(control));
		msg.msg_control = control.buf;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
		struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
		memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * fd_count);
	}
	ssize_t n;
	do {
		n = sendmsg(c->fd, &msg, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	if (n >= 0)
		return 1;
	if (errno == EAGAIN || errno == EWOULDBLOCK)
		return 0;
	if (errno == EMSGSIZE)
		return -EMSGSIZE;
	if (errno == EPIPE || errno == ECONNRESET)
		return channel_fail(c, -EPIPE, "");
	return channel_fail(c, -errno, "send");
}

static int channel_write_fragment(struct channel *c, struct outgoing *o)
{
	size_t left = o->len - o->at, n = left < CHANNEL_RECORD_MAX ? left : CHANNEL_RECORD_MAX;
	uint8_t flags = (uint8_t)((o->begun ? 0 : FRAGMENT_FIRST) | (n == left ? FRAGMENT_LAST : 0));
	uint8_t header[FRAGMENT_HEADER] = { 0, flags };
	for (size_t i = 0; i < 4; i++)
		header[4 + i] = (uint8_t)(o->len >> (8 * i));
	struct iovec iov[2] = { { header, sizeof(header) }, { (void *)(uintptr_t)(o->bytes + o->at), n } };
	int rc = channel_write_record(c, iov, 2, o->fds, o->begun ? 0 : o->fd_count);
	if (rc <= 0)
		return rc;
	o->begun = true;
	o->at += n;
	return 1;
}

/* All of it, as far as the socket takes it: 1: all sent, 0: the socket is full. */
static int channel_write(struct channel *c, struct outgoing *o)
{
	int rc;
	if (!o->begun && o->len > 0 && o->len <= CHANNEL_RECORD_MAX && o->bytes[0] != 0) {
		struct iovec iov = { (void *)(uintptr_t)o->bytes, o->len };
		return channel_write_record(c, &iov, 1, o->fds, o->fd_count);
	}
	do {
		rc = channel_write_fragment(c, o);
	} while (rc > 0 && o->at < o->len);
	return rc;
}

static int channel_enqueue(struct channel *c, const struct outgoing *o)
{
	size_t len = o->len, fd_count = o->begun ? 0 : o->fd_count;
	const int *fds = o->fds;
	if (c->queued_count >= CHANNEL_QUEUE_MESSAGES || c->queued_bytes + len > CHANNEL_QUEUE_BYTES)
		return -ENOBUFS;

	size_t padded = (len + sizeof(int) - 1) / sizeof(int) * sizeof(int);
	struct queued *q = malloc(sizeof(*q) + padded + fd_count * sizeof(int));
	if (!q)
		return -ENOMEM;
	q->next = NULL;
	q->len = len;
	q->at = o->at;
	q->begun = o->begun;
	q->fd_count = 0;
	q->fds = (int *)(void *)(q->bytes + padded);
	memcpy(q->bytes, o->bytes, len);
	for (; q->fd_count < fd_count; q->fd_count++) {
		int fd = fcntl(fds[q->fd_count], F_DUPFD_CLOEXEC, 3);
		if (fd < 0) {
			int rc = -errno;
			queued_free(q);
			return rc;
		}
		q->fds[q->fd_count] = fd;
	}
	*c->last = q;
	c->last = &q->next;
	c->queued_count++;
	c->queued_bytes += len;
	loop_io_set(c->io, LOOP_READ | LOOP_WRITE);
	return 0;
}

/* The other end waits for the rest: without it the link is of no use any more. */
static int channel_half_sent(struct channel *c, const struct outgoing *o, int rc)
{
	return o->begun && rc != -EPIPE ? channel_fail(c, rc, "send the rest of a message") : rc;
}

int channel_send(struct channel *c, const uint8_t *bytes, size_t len, const int *fds, size_t fd_count)
{
	if (c->freed || c->err.code)
		return -EPIPE;
	if (len > CHANNEL_MESSAGE_MAX || fd_count > CHANNEL_FDS_MAX)
		return -EMSGSIZE;

	struct outgoing o = { .bytes = bytes, .len = len, .fds = fds, .fd_count = fd_count };
	if (!c->first) {
		int rc = channel_write(c, &o);
		if (rc != 0)
			return rc < 0 ? channel_half_sent(c, &o, rc) : 0;
	}
	int rc = channel_enqueue(c, &o);
	return rc < 0 ? channel_half_sent(c, &o, rc) : 0;
}

unsigned int channel_fill(const struct channel *c)
{
	size_t by_count = c->queued_count * 100 / CHANNEL_QUEUE_MESSAGES;
	size_t by_bytes = c->queued_bytes * 100 / CHANNEL_QUEUE_BYTES;
	return (unsigned int)(by_count > by_bytes ? by_count : by_bytes);
}

static void channel_flush(struct channel *c)
{
	for (int i = 0; c->first && i < CHANNEL_BATCH; i++) {
		struct queued *q = c->first;
		struct outgoing o = { q->bytes, q->len, q->at, q->fds, q->fd_count, q->begun };
		int rc = channel_write(c, &o);
		q->at = o.at;
		q->begun = o.begun;
		if (rc == 0 || rc == -EPIPE)
			return;
		if (rc < 0) {
			channel_fail(c, rc, "send a queued message");
			return;
		}
		c->first = q->next;
		if (!c->first)
			c->last = &c->first;
		c->queued_count--;
		c->queued_bytes -= q->len;
		queued_free(q);
	}
	if (!c->first)
		loop_io_set(c->io, LOOP_READ);
}

/* Takes descriptors out of the control messages; those beyond the limit were closed by the kernel (MSG_CTRUNC). */
static size_t channel_take_fds(struct msghdr *msg, int *fds)
{
	size_t count = 0;
	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg); cmsg; cmsg = CMSG_NXTHDR(msg, cmsg)) {
		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(fd));
			if (count < CHANNEL_FDS_MAX)
				fds[count++] = fd;
			else
				close(fd);
		}
	}
	return count;
}

static void channel_deliver(struct channel *c, const uint8_t *bytes, size_t len, int *fds, size_t fd_count)
{
	c->on_message(bytes, len, fds, fd_count, c->arg);
	for (size_t i = 0; i < fd_count; i++)
		fd_closep(&fds[i]);
}

/* -errno: what it breaks. */
static int incoming_begin(struct channel *c, size_t total, int *fds, size_t fd_count)
{
	struct incoming *in = &c->in;
	if (in->bytes)
		return -EPROTO;
	if (total > c->limit)
		return -EMSGSIZE;
	in->bytes = malloc(total + 1);
	if (!in->bytes)
		return -ENOMEM;
	in->total = total;
	in->fd_count = fd_count;
	memcpy(in->fds, fds, fd_count * sizeof(*fds));
	for (size_t i = 0; i < fd_count; i++)
		fds[i] = -1;
	return 0;
}

static int incoming_add(struct channel *c, const uint8_t *record, size_t len, int *fds, size_t fd_count)
{
	struct incoming *in = &c->in;
	if (len < FRAGMENT_HEADER || record[2] || record[3])
		return -EPROTO;
	size_t total = 0, n = len - FRAGMENT_HEADER;
	for (size_t i = 0; i < 4; i++)
		total |= (size_t)record[4 + i] << (8 * i);
	if (record[1] & FRAGMENT_FIRST) {
		int rc = incoming_begin(c, total, fds, fd_count);
		if (rc < 0)
			return rc;
	} else if (!in->bytes || fd_count) {
		return -EPROTO;
	}
	/* Only an empty message has an empty fragment, and only the last one completes it. */
	if (total != in->total || n > total - in->len || (!n && total) ||
	    !(record[1] & FRAGMENT_LAST) != (in->len + n < total))
		return -EPROTO;
	memcpy(in->bytes + in->len, record + FRAGMENT_HEADER, n);
	in->len += n;
	return 0;
}

/* The message is whole: out of the way first, since the callback may do anything. */
static void incoming_deliver(struct channel *c)
{
	struct incoming in = c->in;
	c->in.bytes = NULL;
	c->in.len = c->in.total = c->in.fd_count = 0;
	channel_deliver(c, in.bytes, in.len, in.fds, in.fd_count);
	free(in.bytes);
}

static void channel_take(struct channel *c, const uint8_t *record, size_t len, struct msghdr *msg)
{
	int fds[CHANNEL_FDS_MAX];
	size_t fd_count = channel_take_fds(msg, fds);
	int rc = 0;
	bool whole = len > 0 && record[0] != 0;
	if (msg->msg_flags & (MSG_TRUNC | MSG_CTRUNC))
		rc = -EMSGSIZE;
	else if (whole)
		rc = c->in.bytes ? -EPROTO : len > c->limit ? -EMSGSIZE : 0;
	else
		rc = incoming_add(c, record, len, fds, fd_count);
	if (rc == 0 && whole)
		channel_deliver(c, record, len, fds, fd_count);
	else if (rc == 0 && c->in.len == c->in.total)
		incoming_deliver(c);
	else if (rc == -EMSGSIZE)
		channel_fail(c, rc, "a message was longer or had more descriptors than is allowed");
	else if (rc < 0)
		channel_fail(c, rc, "put a message together");
	for (size_t i = 0; i < fd_count; i++)
		fd_closep(&fds[i]);
}

/* False when there is nothing more to read now. */
static bool channel_read(struct channel *c)
{
	/* Most messages are short; a long one is worth an allocation of its own, not a buffer that stays. */
	ssize_t size = recv(c->fd, NULL, 0, MSG_PEEK | MSG_TRUNC);
	if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		return false;
	if (size < 0) {
		channel_fail(c, errno == ECONNRESET ? -EPIPE : -errno, "receive");
		return false;
	}
	if ((size_t)size > c->limit + FRAGMENT_HEADER) {
		channel_fail(c, -EMSGSIZE, "a message was longer than is allowed");
		return false;
	}

	uint8_t small[4096];
	AUTO(mem_freep) uint8_t *large = (size_t)size > sizeof(small) ? malloc((size_t)size) : NULL;
	if ((size_t)size > sizeof(small) && !large) {
		channel_fail(c, -ENOMEM, "receive");
		return false;
	}
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int) * CHANNEL_FDS_MAX)];
	} control;
	struct iovec iov = { .iov_base = large ? large : small, .iov_len = large ? (size_t)size : sizeof(small) };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf, .msg_controllen = sizeof(control.buf)
	};
	ssize_t n = recvmsg(c->fd, &msg, MSG_CMSG_CLOEXEC);
	if (n < 0)
		return errno == EINTR;
	if (n == 0 && !msg.msg_controllen) {
		channel_fail(c, -EPIPE, "");
		return false;
	}
	channel_take(c, iov.iov_base, (size_t)n, &msg);
	return !c->freed && !c->err.code;
}

static void on_channel_io(struct loop_io *io, int events, void *arg)
{
	struct channel *c = arg;
	(void)io;
	if ((events & LOOP_WRITE) && !c->err.code)
		channel_flush(c);
	if (!(events & (LOOP_READ | LOOP_HANGUP)) || c->err.code)
		return;
	for (int i = 0; i < CHANNEL_BATCH && channel_read(c); i++)
		;
}

void channel_limit(struct channel *c, size_t bytes)
{
	c->limit = bytes;
}

int channel_new(struct loop *loop, int fd, channel_message_fn on_message, channel_closed_fn on_closed, void *arg,
		struct channel **out)
{
	struct channel *c = calloc(1, sizeof(*c));
	if (!c) {
		close(fd);
		return -ENOMEM;
	}
	*c = (struct channel){ .loop = loop, .fd = fd, .on_message = on_message, .on_closed = on_closed, .arg = arg };
	c->limit = CHANNEL_MESSAGE_MAX;
	c->last = &c->first;
	int rc = loop_io_new(loop, fd, on_channel_io, c, &c->io);
	if (rc == 0) {
		rc = loop_io_set(c->io, LOOP_READ);
		if (rc < 0)
			loop_io_free(c->io);
	}
	if (rc < 0) {
		close(fd);
		free(c);
		return rc;
	}
	*out = c;
	return 0;
}
