/* SPDX-License-Identifier: Apache-2.0 */
/* What tcp.c (where a connection goes, and whether it may) and tcp_relay.c (its life and bytes) share. */
#pragma once

#include "agent/helper/route/tcp.h"

#include <sys/queue.h>

#include "agent/base/loop.h"
#include "agent/helper/transport.h"
#include "agent/model/policy.h"

struct connection_log;
struct http_cluster;
struct shared_limits;
struct upstream_wait;

enum { TCP_IDLE_MS = 3600000, TCP_TICK_MS = 1000 };

struct relay_side {
	struct transport *t;
	struct tcp_relay *relay;
	struct relay_side *other;
	uint64_t bytes; /* that came from it */
	bool ended;	/* it sends no more */
};

struct tcp_relay {
	struct tcp_proxy *p;
	struct worker_pod *pod; /* a reference; the place in its limit is fd's, then near.t's */
	int fd;			/* accepted, until there is the other side */
	bool inbound, over;
	bool counted;		     /* as carried: what goes on as a tunnel's stream counts there */
	struct relay_side near, far; /* near: accepted */
	struct upstream_wait *pick;
	struct transport_connect *connect;
	struct l7_target *target; /* outbound: a reference */
	struct http_cluster *cluster;
	struct shared_limits *load; /* of the pod's connections to the cluster; NULL: there is no limit */
	char *load_name;
	struct identity *caller;
	bool from_node;		      /* as policy_input's */
	struct connection_log *log;   /* NULL: nobody asks for a line */
	struct addr_port peer, local; /* of the accepted one, as the application's peer sees them */
	struct addr_port endpoint;
	char *name;
	char *sni;			     /* inbound: as policy_input's */
	uint64_t began_ms, active_ms, bytes; /* active: when it was last seen that `bytes` had grown */
	uint32_t idle_ms, max_ms;
	tcp_ahead_fn ahead; /* the acceptor's, while it has the socket */
	void *ahead_arg;
	bool spoke; /* ahead: the server has said something, or has ended */
	TAILQ_ENTRY(tcp_relay) all;
};

struct tcp_proxy {
	struct worker *w;
	struct loop *loop;
	struct loop_timer *tick;
	uint64_t random;
	TAILQ_HEAD(, tcp_relay) relays;
	size_t count;
};

static inline uint64_t tcp_now_ms(const struct tcp_proxy *p)
{
	return loop_now_ns(p->loop) / 1000000;
}

/* fd: accepted, and its place in the pod's limit; -1: it comes with tcp_ahead_take(). NULL: no memory, fd is closed. */
struct tcp_relay *tcp_relay_new(struct tcp_proxy *p, struct worker_pod *pod, int fd, bool inbound);
/* Ends it: in order, when both sides have ended, or with resets. */
void tcp_relay_over(struct tcp_relay *r, bool abort_it);
/* Ends it, counted with its reason; of one that is ahead nothing is counted, as nothing was refused yet. */
void tcp_relay_refuse(struct tcp_relay *r, enum drop_reason reason, const char *rule);
/* False: the cluster has as many connections as it may. The limit is the destination's; each worker has its share. */
bool tcp_relay_load(struct tcp_relay *r, const struct http_cluster *cluster);
void tcp_relay_count(struct tcp_relay *r); /* as carried */
/* By the pod's L4 rules as they are now; of inbound ones. */
void tcp_relay_judge(const struct tcp_relay *r, struct policy_verdict *verdict);
/* The callback of transport_connect() to the other side. */
void tcp_relay_connected(struct transport *t, int error, void *arg);
