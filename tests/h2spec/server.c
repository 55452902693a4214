/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP/2 codec's server over real sockets, for h2spec and others who speak HTTP/2: A request without a body is
 * answered with a short one, any other with what it sent. The worker is only a loop: that of tests/unit/transport.
 *
 *   server PORT [SECONDS [ADDRESS]]     IPv4; 127.0.0.1 and ten minutes unless told; prints "ready" */
#include "agent/base/loop.h"
#include "agent/helper/http/stream.h"
#include "tests/unit/transport/rig.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- requests */

static void on_head(struct http_stream *s, struct http_head *head, bool end)
{
	static const char body[] = "an answer for h2spec\n";
	struct http_head *answer = http_head_new();
	if (!answer)
		abort();
	answer->status = 200;
	http_add(answer, "content-type", "text/plain");
	if (end)
		answer->content_length = sizeof(body) - 1;
	http_head_free(head);
	int rc = stream_send_head(s, answer, false);
	http_head_free(answer);
	if (rc == 0 && end)
		stream_send_body(s, body, sizeof(body) - 1, true);
}

static size_t on_body(struct http_stream *s, const uint8_t *bytes, size_t len, bool end)
{
	return stream_send_body(s, bytes, len, end);
}

static void on_trailers(struct http_stream *s, struct http_head *trailers)
{
	stream_send_trailers(s, trailers);
	http_head_free(trailers);
}

static void on_room(struct http_stream *s)
{
	stream_resume(s);
}

static void on_reset(struct http_stream *s, enum http_reset why)
{
	(void)s;
	(void)why;
}

static const struct http_stream_events stream_events = { on_head, on_body, on_trailers, on_room, on_reset };

static void on_stream(struct http_conn *c, struct http_stream *s, void *arg)
{
	(void)c;
	(void)arg;
	s->events = &stream_events;
}

static void on_closed(struct http_conn *c, void *arg)
{
	(void)c;
	(void)arg;
}

static const struct http_conn_events conn_events = { .on_stream = on_stream, .on_closed = on_closed };

/* --- connections */

struct acceptor {
	struct worker *w;
	int fd;
};

static void on_accept(struct loop_io *io, int events, void *arg)
{
	struct acceptor *a = arg;
	struct transport *t;
	struct http_conn *c;
	(void)io;
	(void)events;
	int fd = accept4(a->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd >= 0 && transport_socket_new(a->w, fd, NULL, 0, &t) == 0)
		http2_server_new(a->w->loop, t, &http_limits_default, &conn_events, a, &c);
}

static void on_deadline(struct loop_timer *timer, void *arg)
{
	(void)timer;
	loop_stop(arg);
}

static int listen_on(uint16_t port, const char *address)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };
	if (inet_pton(AF_INET, address, &a.sin_addr) != 1)
		return -1;
	int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 1024) < 0)
		return -1;
	return fd;
}

int main(int argc, char **argv)
{
	struct acceptor a;
	struct loop_io *io;
	struct loop_timer *timer;
	void *rig;
	int port = argc > 1 ? atoi(argv[1]) : 0, seconds = argc > 2 ? atoi(argv[2]) : 600;

	if (port <= 0 || port > 65535 || (a.fd = listen_on((uint16_t)port, argc > 3 ? argv[3] : "127.0.0.1")) < 0) {
		fprintf(stderr, "usage: %s PORT [SECONDS [ADDRESS]]: %s\n", argv[0], strerror(errno));
		return 2;
	}
	rig_setup(&rig);
	a.w = rig;
	if (loop_io_new(a.w->loop, a.fd, on_accept, &a, &io) < 0 ||
	    loop_timer_new(a.w->loop, on_deadline, a.w->loop, &timer) < 0)
		return 1;
	loop_io_set(io, LOOP_READ);
	loop_timer_start(timer, (uint64_t)seconds * 1000, 0);
	puts("ready");
	fflush(stdout);
	loop_run(a.w->loop);
	return 0;
}
