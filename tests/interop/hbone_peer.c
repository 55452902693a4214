/* SPDX-License-Identifier: Apache-2.0 */
/* Both ends of Weft's HBONE with a fake worker, for conversations with another implementation:
 *   hbone_peer DIR TUNNEL
 * makes a CA, leaves root.pem, peer.pem and peer.key (the other implementation's, as FRONTEND) in DIR, and
 * - carries what connects to its plain port to 127.0.0.4:7 through the peer's HBONE port TUNNEL (of 127.0.0.4),
 * - is an HBONE server on 127.0.0.2 for an echo application that it runs itself at 127.0.0.2.
 * It prints "plain PORT tunnel PORT echo PORT" and then one line for every refusal; it ends with its standard input. */
#include "agent/base/loop.h"
#include "agent/helper/tls_credentials.h"
#include "tests/unit/hbone/world.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static struct loop *loop;
static struct worker client, server;
static struct addr_port plain_at, echo_at, endpoint;

static void on_plain(struct loop_io *io, int events, void *arg)
{
	int fd = accept4((int)(intptr_t)arg, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	(void)io;
	(void)events;
	if (fd >= 0)
		hbone_outbound(client.hbone, &client.pod, fd, &endpoint, &endpoint, NULL);
}

/* The echo application is a process of its own: it may block. */
static void echo_serve(int listener)
{
	static char bytes[65536];
	for (;;) {
		int fd = accept(listener, NULL, NULL);
		if (fd < 0) {
			usleep(1000);
			continue;
		}
		if (fork() != 0) {
			close(fd);
			continue;
		}
		ssize_t n;
		while ((n = read(fd, bytes, sizeof(bytes))) > 0)
			for (ssize_t at = 0, did; at < n; at += did)
				if ((did = write(fd, bytes + at, (size_t)(n - at))) < 0)
					_exit(1);
		_exit(0);
	}
}

static void on_stdin(struct loop_io *io, int events, void *arg)
{
	char byte;
	(void)io;
	(void)events;
	(void)arg;
	if (read(0, &byte, 1) <= 0)
		loop_stop(loop);
}

static void on_report(struct loop_timer *timer, void *arg)
{
	static unsigned int told[2][DROP_REASON_COUNT];
	struct worker *workers[] = { &client, &server };
	(void)timer;
	(void)arg;
	for (int i = 0; i < 2; i++)
		for (int r = 0; r < DROP_REASON_COUNT; r++)
			if (workers[i]->drops[r] != told[i][r]) {
				printf("%s reason %d peer %s\n", i ? "server" : "client", r, workers[i]->drop_peer);
				told[i][r] = workers[i]->drops[r];
			}
}

static void listen_on(int fd, loop_io_fn fn)
{
	struct loop_io *io;
	assert_int_equal(loop_io_new(loop, fd, fn, (void *)(intptr_t)fd, &io), 0);
	loop_io_set(io, LOOP_READ);
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	char path[3][256];
	setvbuf(stdout, NULL, _IOLBF, 0);
	snprintf(path[0], sizeof(path[0]), "%s/root.pem", argv[1]);
	snprintf(path[1], sizeof(path[1]), "%s/peer.pem", argv[1]);
	snprintf(path[2], sizeof(path[2]), "%s/peer.key", argv[1]);

	int echo = tcp_listen("127.0.0.2", &echo_at);
	pid_t app = fork();
	if (app == 0)
		echo_serve(echo);
	close(echo);

	assert_int_equal(loop_new(&loop, NULL), 0);
	struct test_ca *ca = test_ca_new(true);
	test_write_files(ca, FRONTEND, path[0], path[1], path[2]);
	fake_worker_init(&client, loop, ca, BACKEND, "127.0.0.1");
	fake_worker_init(&server, loop, ca, BACKEND, "127.0.0.2");
	addr_port_parse("127.0.0.4:7", &endpoint);
	struct endpoint_info *info = &client.endpoints[client.endpoint_count++];
	*info = (struct endpoint_info){ .endpoint = endpoint, .known = true, .hbone = true };
	info->tunnel = endpoint;
	info->tunnel.port = (uint16_t)atoi(argv[2]);
	info->identities = calloc(1, sizeof(char *));
	info->identities[0] = strdup(FRONTEND);
	info->identity_count = 1;
	listen_on(tcp_listen("127.0.0.1", &plain_at), on_plain);
	listen_on(0, on_stdin);
	struct loop_timer *timer;
	assert_int_equal(loop_timer_new(loop, on_report, NULL, &timer), 0);
	loop_timer_start(timer, 100, 100);
	printf("plain %u tunnel %u echo %u\n", plain_at.port, server.tunnel.port, echo_at.port);
	loop_run(loop);
	kill(app, 9);
	return 0;
}
