// SPDX-License-Identifier: Apache-2.0
/*
 * The server: an echo port and a sink port, epoll workers. Worker 0 accepts and deals connections out in turn, so that
 * bulk streams use all workers.
 */
#include "tests/bench/netload.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define FILES_MAX (1u << 20)

enum kind { KIND_NONE, KIND_ECHO_LISTENER, KIND_SINK_LISTENER, KIND_ECHO, KIND_SINK };

/* Indexed by file descriptor; touched by worker 0 before the descriptor is watched, then by its worker alone. */
struct conn {
	enum kind kind;
	uint64_t received;
};

static struct conn *conns;
static int *epolls;
static unsigned int workers;

static void conn_watch(unsigned int worker, int fd, enum kind kind)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	if ((unsigned int)fd >= FILES_MAX)
		fail("descriptor %d is over the limit", fd);
	conns[fd] = (struct conn){ .kind = kind };
	if (epoll_ctl(epolls[worker], EPOLL_CTL_ADD, fd, &event) < 0)
		fail("epoll_ctl: %s", strerror(errno));
}

static void conn_accept(int listener)
{
	static unsigned int turn;
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0)
		return;
	socket_tune(fd);
	conn_watch(turn++ % workers, fd, conns[listener].kind == KIND_SINK_LISTENER ? KIND_SINK : KIND_ECHO);
}

static bool conn_send(int fd, const char *data, size_t len)
{
	struct pollfd room = { .fd = fd, .events = POLLOUT };

	while (len) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN && poll(&room, 1, IO_TIMEOUT_S * 1000) > 0)
			continue;
		if (n <= 0)
			return false;
		data += n;
		len -= (size_t)n;
	}
	return true;
}

static void conn_serve(int fd, char *data)
{
	struct conn *conn = &conns[fd];
	bool sink = conn->kind == KIND_SINK;
	ssize_t n = recv(fd, data, sink ? BULK_BYTES : MESSAGE_MAX, 0);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n > 0 && sink) {
		conn->received += (uint64_t)n;
		return;
	}
	if (n > 0 && conn_send(fd, data, (size_t)n))
		return;
	if (n == 0 && sink)
		conn_send(fd, (const char *)&conn->received, sizeof(conn->received));
	close(fd);
}

static _Noreturn void worker_loop(unsigned int worker)
{
	struct epoll_event events[64];
	char *data = malloc(BULK_BYTES);

	if (!data)
		fail("out of memory");
	for (;;) {
		int n = epoll_wait(epolls[worker], events, 64, -1);

		for (int i = 0; i < n; i++) {
			int fd = events[i].data.fd;

			if (conns[fd].kind == KIND_ECHO || conns[fd].kind == KIND_SINK)
				conn_serve(fd, data);
			else
				conn_accept(fd);
		}
	}
}

static void *worker_thread(void *arg)
{
	worker_loop((unsigned int)(uintptr_t)arg);
}

static void listen_on(uint16_t port, enum kind kind)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int fd, one = 1, zero = 0;

	if (!port)
		return;
	fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
	if (bind(fd, (const struct sockaddr *)&any, sizeof(any)) < 0 || listen(fd, 4096) < 0)
		fail("listen on port %u: %s", port, strerror(errno));
	conn_watch(0, fd, kind);
}

void serve_run(uint16_t echo_port, uint16_t sink_port, unsigned int threads)
{
	pthread_t thread;

	workers = threads;
	epolls = calloc(workers, sizeof(*epolls));
	conns = calloc(FILES_MAX, sizeof(*conns));
	if (!epolls || !conns)
		fail("out of memory");
	for (unsigned int i = 0; i < workers; i++)
		epolls[i] = epoll_create1(EPOLL_CLOEXEC);
	listen_on(echo_port, KIND_ECHO_LISTENER);
	listen_on(sink_port, KIND_SINK_LISTENER);
	for (unsigned int i = 1; i < workers; i++)
		if (pthread_create(&thread, NULL, worker_thread, (void *)(uintptr_t)i))
			fail("cannot start thread %u", i);
	printf("{\"ready\": true}\n");
	fflush(stdout);
	worker_loop(0);
}
