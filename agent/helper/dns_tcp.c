/* SPDX-License-Identifier: Apache-2.0 */
/* DNS over TCP: messages with a length before each (RFC 1035, 4.2.2). One query of a connection is looked at at a time;
 * those that are not ours go over one connection to the resolver, made when the first one needs it, whose answers come
 * back as they are. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/helper/buffer.h"
#include "agent/helper/dns_internal.h"

enum {
	TCP_READ = 4096,
	TCP_IN_MAX = 2 + DNS_MESSAGE_MAX,
	TCP_OUT_MAX = 4 * TCP_IN_MAX, /* more than this unread by the other end: no more is taken in */
	TCP_IDLE_MS = 30000,
};

/* One of the two directions' ends. */
struct dns_end {
	int fd;
	struct loop_io *io;
	struct buffer in, out;
	bool eof;
};

struct dns_conn {
	TAILQ_ENTRY(dns_conn) by_pod;
	struct dns_pod *pod;
	struct addr_port resolver;
	struct dns_end client, upstream;
	struct dns_query question;
	size_t message_len; /* of the query being looked at; 0: none */
	size_t unanswered;  /* sent upstream */
	struct dns_name_wait *name_wait;
	struct worker_wait *socket_wait;
	struct loop_timer *idle;
	bool dead; /* freed at the end of the tick */
};

static void conn_release(void *arg)
{
	struct dns_conn *c = arg;
	buffer_done(&c->client.in);
	buffer_done(&c->client.out);
	buffer_done(&c->upstream.in);
	buffer_done(&c->upstream.out);
	free(c);
}

static void end_close(struct dns_end *end)
{
	loop_io_free(TAKE(end->io));
	fd_closep(&end->fd);
}

static void conn_close(struct dns_conn *c)
{
	if (c->dead)
		return;
	c->dead = true;
	TAILQ_REMOVE(&c->pod->conns, c, by_pod);
	c->pod->conn_count--;
	c->pod->dns->live--;
	dns_names_cancel(c->name_wait);
	worker_wait_cancel(c->socket_wait);
	loop_timer_free(c->idle);
	end_close(&c->client);
	end_close(&c->upstream);
	loop_defer(c->pod->dns->w->loop, conn_release, c);
}

static void conn_touch(struct dns_conn *c)
{
	loop_timer_start(c->idle, TCP_IDLE_MS, 0);
}

/* What each end waits for, from the state of the buffers. */
static void conn_arm(struct dns_conn *c)
{
	if (c->dead)
		return;
	bool room =
		c->client.in.len < TCP_IN_MAX && c->client.out.len < TCP_OUT_MAX && c->upstream.out.len < TCP_OUT_MAX;
	loop_io_set(c->client.io, (room && !c->client.eof ? LOOP_READ : 0) | (c->client.out.len ? LOOP_WRITE : 0));
	if (c->upstream.io)
		loop_io_set(c->upstream.io,
			    (c->client.out.len < TCP_OUT_MAX ? LOOP_READ : 0) | (c->upstream.out.len ? LOOP_WRITE : 0));
}

/* -errno when the connection is of no use any more. */
static int end_write(struct dns_end *end)
{
	while (end->out.len > 0) {
		ssize_t n = send(end->fd, buffer_head(&end->out), end->out.len, MSG_NOSIGNAL);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR || errno == ENOTCONN ? 0 : -errno;
		buffer_consume(&end->out, (size_t)n);
	}
	return 0;
}

static int end_read(struct dns_end *end)
{
	uint8_t *to = buffer_reserve(&end->in, TCP_READ);
	if (!to)
		return -ENOMEM;
	ssize_t n = recv(end->fd, to, TCP_READ, 0);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n == 0)
		end->eof = true;
	buffer_added(&end->in, (size_t)n);
	return 0;
}

/* The first whole message of a buffer, after its length; 0 when it is not whole yet. */
static size_t frame_len(const struct buffer *in)
{
	if (in->len < 2)
		return 0;
	size_t len = (size_t)buffer_head(in)[0] << 8 | buffer_head(in)[1];
	return in->len >= len + 2 ? len + 2 : 0;
}

static int frame_append(struct buffer *out, const uint8_t *message, size_t len)
{
	uint8_t prefix[2] = { (uint8_t)(len >> 8), (uint8_t)len };
	int rc = buffer_append(out, prefix, sizeof(prefix));
	return rc < 0 ? rc : buffer_append(out, message, len);
}

static void conn_next(struct dns_conn *c);

/* --- upstream --- */

static void on_upstream(struct loop_io *io, int events, void *arg)
{
	struct dns_conn *c = arg;
	(void)io;
	int rc = events & LOOP_WRITE ? end_write(&c->upstream) : 0;
	if (rc == 0 && (events & (LOOP_READ | LOOP_HANGUP)))
		rc = end_read(&c->upstream);
	size_t len;
	while (rc == 0 && (len = frame_len(&c->upstream.in)) > 0) {
		rc = buffer_append(&c->client.out, buffer_head(&c->upstream.in), len);
		buffer_consume(&c->upstream.in, len);
		dns_count(&c->pod->dns->w->shard->dns_forwarded);
		c->unanswered -= c->unanswered > 0;
	}
	if (rc == 0)
		rc = end_write(&c->client);
	/* A resolver may close when it has answered; the next query makes a new connection. */
	if (rc == 0 && c->upstream.eof && c->unanswered == 0) {
		end_close(&c->upstream);
		buffer_done(&c->upstream.in);
		c->upstream.eof = false;
	}
	if (rc < 0 || c->upstream.eof || (c->client.eof && c->unanswered == 0 && !c->client.out.len)) {
		for (; c->unanswered > 0; c->unanswered--)
			dns_count(&c->pod->dns->w->shard->dns_failed);
		conn_close(c);
		return;
	}
	conn_touch(c);
	conn_arm(c);
}

static void on_conn_socket(int fd, void *arg)
{
	struct dns_conn *c = arg;
	c->socket_wait = NULL;
	c->upstream.fd = fd;
	if (fd < 0 || dns_connect(fd, &c->resolver) < 0 ||
	    loop_io_new(c->pod->dns->w->loop, fd, on_upstream, c, &c->upstream.io) < 0) {
		dns_count(&c->pod->dns->w->shard->dns_failed);
		conn_close(c);
		return;
	}
	conn_arm(c);
}

/* Moves the query being looked at on its way to the resolver. */
static void conn_forward(struct dns_conn *c)
{
	if (buffer_append(&c->upstream.out, buffer_head(&c->client.in), c->message_len + 2) < 0) {
		conn_close(c);
		return;
	}
	c->unanswered++;
	buffer_consume(&c->client.in, c->message_len + 2);
	c->message_len = 0;
	if (c->upstream.io || c->socket_wait)
		return;
	struct worker_wait *wait =
		worker_socket_take(c->pod->dns->w, c->pod->pod, POD_CONNECT_REMOTE, on_conn_socket, c);
	if (wait)
		c->socket_wait = wait;
}

/* --- client --- */

static void conn_answer(struct dns_conn *c, const struct dns_answer *answer)
{
	AUTO(mem_freep) uint8_t *reply = malloc(DNS_MESSAGE_MAX);
	size_t n = reply ? dns_response_write(buffer_head(&c->client.in) + 2, &c->question, DNS_NOERROR, answer->addrs,
					      answer->addr_count, answer->ttl_s, reply, DNS_MESSAGE_MAX) :
			   0;
	buffer_consume(&c->client.in, c->message_len + 2);
	c->message_len = 0;
	if (!n || frame_append(&c->client.out, reply, n) < 0 || end_write(&c->client) < 0) {
		conn_close(c);
		return;
	}
	dns_count(&c->pod->dns->w->shard->dns_answered);
}

static void on_conn_name(const struct dns_answer *answer, void *arg)
{
	struct dns_conn *c = arg;
	bool waited = c->name_wait != NULL;
	c->name_wait = NULL;
	if (answer)
		conn_answer(c, answer);
	else
		conn_forward(c);
	if (waited && !c->dead) {
		conn_next(c);
		conn_arm(c);
	}
}

/* Looks at the first whole query, if there is one; 0 when it could be dealt with at once and the next may follow. */
static bool conn_step(struct dns_conn *c)
{
	size_t len = frame_len(&c->client.in);
	if (!len || c->message_len || c->client.out.len >= TCP_OUT_MAX || c->upstream.out.len >= TCP_OUT_MAX)
		return false;
	c->message_len = len - 2;
	int rc = dns_query_parse(buffer_head(&c->client.in) + 2, c->message_len, &c->question);
	if (rc == -EINVAL) {
		dns_malformed(c->pod, &c->resolver);
		conn_close(c);
		return false;
	}
	if (rc < 0 || !c->question.name[0]) {
		conn_forward(c);
		return !c->dead;
	}
	struct dns_name_wait *wait =
		dns_names_get(c->pod->dns->names, c->pod->pod->cookie, c->question.name, on_conn_name, c);
	if (wait)
		c->name_wait = wait;
	return !wait && !c->dead;
}

static void conn_next(struct dns_conn *c)
{
	while (conn_step(c))
		;
}

static void on_client(struct loop_io *io, int events, void *arg)
{
	struct dns_conn *c = arg;
	(void)io;
	int rc = events & LOOP_WRITE ? end_write(&c->client) : 0;
	if (rc == 0 && (events & (LOOP_READ | LOOP_HANGUP)) && !c->client.eof)
		rc = end_read(&c->client);
	if (rc < 0) {
		conn_close(c);
		return;
	}
	conn_next(c);
	if (c->dead)
		return;
	if (c->client.eof && !c->name_wait && c->unanswered == 0 && !c->client.out.len) {
		conn_close(c);
		return;
	}
	conn_touch(c);
	conn_arm(c);
}

static void on_idle(struct loop_timer *timer, void *arg)
{
	(void)timer;
	conn_close(arg);
}

void dns_accept(struct dns_pod *pod, int fd, const struct addr_port *resolver)
{
	struct dns_conn *c = NULL;
	/* On loopback it was not captured: somebody called the listener itself. */
	if (pod && pod->conn_count < DNS_CONNS_PER_POD && !addr_is_loopback(&resolver->addr))
		c = calloc(1, sizeof(*c));
	if (!c) {
		close(fd);
		return;
	}
	c->pod = pod;
	c->resolver = (struct addr_port){ resolver->addr, DNS_UPSTREAM_PORT };
	c->client.fd = fd;
	c->upstream.fd = -1;
	TAILQ_INSERT_TAIL(&pod->conns, c, by_pod);
	pod->conn_count++;
	pod->dns->live++;
	struct loop *loop = pod->dns->w->loop;
	if (loop_timer_new(loop, on_idle, c, &c->idle) < 0 || loop_io_new(loop, fd, on_client, c, &c->client.io) < 0) {
		conn_close(c);
		return;
	}
	conn_touch(c);
	conn_arm(c);
}

void dns_conns_free(struct dns_pod *pod)
{
	while (!TAILQ_EMPTY(&pod->conns))
		conn_close(TAILQ_FIRST(&pod->conns));
}
