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

enum { CHANNEL_BATCH = 64, CHANNEL_SOCKET_BUFFER = 4 * CHANNEL_MESSAGE_MAX };

struct queued {
	struct queued *next;
	size_t len, fd_count;
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
	struct err err; /* code set: closed */
	bool freed, close_deferred;
};

int channel_pair(int fds[2], struct err *err)
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
		return err_sys(err, -errno, "link: make a socket pair");

	int size = CHANNEL_SOCKET_BUFFER;
	for (int i = 0; i < 2; i++)
		if (setsockopt(fds[i], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
			setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)); /* best effort */
	return 0;
}

static void queued_free(struct queued *q)
{
	for (size_t i = 0; i < q->fd_count; i++)
		fd_closep(&q->fds[i]);
	free(q);
}

static void channel_reap(void *arg)
{
	struct channel *c = arg;
	for (struct queued *q = c->first, *next; q; q = next) {
		next = q->next;
		queued_free(q);
	}
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
static int channel_write(struct channel *c, const uint8_t *bytes, size_t len, const int *fds, size_t fd_count)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int) * CHANNEL_FDS_MAX)];
	} control;
	struct iovec iov = { .iov_base = (void *)(uintptr_t)bytes, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
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

static int channel_enqueue(struct channel *c, const uint8_t *bytes, size_t len, const int *fds, size_t fd_count)
{
	if (c->queued_count >= CHANNEL_QUEUE_MESSAGES || c->queued_bytes + len > CHANNEL_QUEUE_BYTES)
		return -ENOBUFS;

	size_t padded = (len + sizeof(int) - 1) / sizeof(int) * sizeof(int);
	struct queued *q = malloc(sizeof(*q) + padded + fd_count * sizeof(int));
	if (!q)
		return -ENOMEM;
	q->next = NULL;
	q->len = len;
	q->fd_count = 0;
	q->fds = (int *)(void *)(q->bytes + padded);
	memcpy(q->bytes, bytes, len);
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

int channel_send(struct channel *c, const uint8_t *bytes, size_t len, const int *fds, size_t fd_count)
{
	if (c->freed || c->err.code)
		return -EPIPE;
	if (len > CHANNEL_MESSAGE_MAX || fd_count > CHANNEL_FDS_MAX)
		return -EMSGSIZE;

	if (!c->first) {
		int rc = channel_write(c, bytes, len, fds, fd_count);
		if (rc != 0)
			return rc < 0 ? rc : 0;
	}
	return channel_enqueue(c, bytes, len, fds, fd_count);
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
		int rc = channel_write(c, q->bytes, q->len, q->fds, q->fd_count);
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

static void channel_deliver(struct channel *c, const uint8_t *bytes, size_t len, struct msghdr *msg)
{
	int fds[CHANNEL_FDS_MAX];
	size_t fd_count = channel_take_fds(msg, fds);
	if (msg->msg_flags & (MSG_TRUNC | MSG_CTRUNC))
		channel_fail(c, -EMSGSIZE, "a message was longer or had more descriptors than is allowed");
	else
		c->on_message(bytes, len, fds, fd_count, c->arg);
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
	if (size > CHANNEL_MESSAGE_MAX) {
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
	channel_deliver(c, iov.iov_base, (size_t)n, &msg);
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

int channel_new(struct loop *loop, int fd, channel_message_fn on_message, channel_closed_fn on_closed, void *arg,
		struct channel **out)
{
	struct channel *c = calloc(1, sizeof(*c));
	if (!c) {
		close(fd);
		return -ENOMEM;
	}
	*c = (struct channel){ .loop = loop, .fd = fd, .on_message = on_message, .on_closed = on_closed, .arg = arg };
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
