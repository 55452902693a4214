/* SPDX-License-Identifier: Apache-2.0 */
/* A worker for tests: one loop for all of them, sockets of the host's own namespace, endpoints from a list. It stands
 * in for the kernel, too: bind() to the true peer of a POD_CONNECT_LOCAL socket is noted and does nothing. */
#pragma once

#include "agent/base/addr.h"
#include "agent/helper/worker.h"

#include <stdbool.h>

struct test_ca;
struct transport;

struct worker {
	struct loop *loop;
	struct helper_settings settings;
	struct link_shard metrics;
	struct hbone *hbone;
	struct transports *transports;
	struct worker_pod pod;	   /* each has one pod */
	struct worker_pod *beside; /* and perhaps another one on its node */
	struct endpoint_info endpoints[8];
	size_t endpoint_count;
	bool withhold_endpoints; /* worker_endpoint_get() answers never */
	bool withhold_sockets;
	bool withhold_tunnels; /* accepts none */
	unsigned int drops[DROP_REASON_COUNT];
	char drop_peer[256], drop_rule[64];
	unsigned int results_ok, results_failed;
	struct addr_port last_bind; /* what the application would see as its peer */
	unsigned int sockets_taken;
	unsigned int http; /* transports that the engine got */
	struct transport *http_transport;
	bool http2;
	const char *says; /* by clients of app_connect(), before they are captured */
	void (*on_http)(struct worker *w, struct transport *t); /* sets its events */

	/* the tunnel's listener */
	int listener;
	struct loop_io *listener_io;
	struct addr_port tunnel;
	unsigned int tunnels_accepted;
};

/* A worker whose pod has this identity and address, with certificate and trust of the CA, and a tunnel listener on
 * that address. */
void fake_worker_init(struct worker *w, struct loop *loop, struct test_ca *ca, const char *uri, const char *address);
void fake_worker_done(struct worker *w);
/* Makes `endpoint` known as reached through another worker. */
void fake_worker_know(struct worker *w, const struct addr_port *endpoint, const struct worker *through);

/* Runs the loop until done(arg), or fails the test after five seconds. */
void run_until(struct loop *loop, bool (*done)(void *arg), void *arg);
/* Until *value >= want. */
void run_until_count(struct loop *loop, const unsigned int *value, unsigned int want);
/* Some turns of the loop, for what must not happen. */
void run_turns(struct loop *loop, int turns);

/* Connected TCP sockets over loopback, non-blocking; fds[1] is the accepted one. */
void tcp_pair(const char *address, int fds[2]);
int tcp_listen(const char *address, struct addr_port *out);
int tcp_accept(struct loop *loop, int listener); /* runs the loop until there is one */
/* Through the tunnels: a client's socket whose peer is captured by w for the endpoint. */
int app_connect(struct worker *w, const struct addr_port *endpoint);
/* Whole messages, running the loop meanwhile. */
void app_send(struct loop *loop, int fd, const void *bytes, size_t len);
void app_recv(struct loop *loop, int fd, void *bytes, size_t len);
/* What comes next at fd: bytes (> 0), 0 for an orderly end, or -errno. */
ssize_t app_next(struct loop *loop, int fd, void *bytes, size_t len);
