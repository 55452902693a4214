/* SPDX-License-Identifier: Apache-2.0 */
/* A world for upstreams: a clock that is set, clusters that are pushed, connections that succeed or fail when the test says
 * so, and codecs that only count streams. It stands in for the loop, the worker, transport_connect() and the codecs. */
#pragma once

#include "agent/helper/balance/upstream.h"
#include "agent/helper/transport.h"
#include "agent/helper/worker.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FAKE_MAX = 2048 };

struct transport_connect {
	struct addr_port to;
	struct worker_pod *pod;
	char alpn[16], sni[64];
	bool hbone;
	char identity[64];
	transport_connect_fn fn;
	void *arg;
	bool over, cancelled;
};

struct fake_stream {
	struct http_stream base;
	bool open;
};

struct fake_conn {
	struct http_conn base;
	struct transport t;
	struct addr_port to;
	bool closed, draining;
	uint32_t max; /* streams at a time */
	size_t live;
	struct fake_stream streams[256];
	struct http_limits limits;
};

struct worker {
	struct helper_settings settings;
	struct link_shard shard;
};

struct fake {
	uint64_t now_ns;
	struct worker workers[2];
	struct worker_pod pods[2];
	struct upstreams *u; /* of workers[0] */
	struct transport_connect *connects[FAKE_MAX];
	size_t connect_count;
	struct fake_conn *conns[FAKE_MAX];
	size_t conn_count;
	size_t watches; /* now */
	size_t watched; /* ever */
	uint32_t h2_max;
	const char *alpn;	   /* that connections negotiate */
	struct endpoint_info info; /* what the agent says of an address */
	bool info_withheld;
	size_t info_asked;
};
extern struct fake fake;

int fake_setup(void **state);
int fake_teardown(void **state);
/* Takes the cluster; NULL: there is none. Before it is pushed, nobody answers. */
void fake_push(const char *name, struct http_cluster *c);
/* A sealed cluster named "c" of n endpoints 10.0.0.1..n:80; change it before fake_seal(). */
struct http_cluster *fake_cluster(size_t n);
void fake_push_c(struct http_cluster *c);	       /* seals, then as "c" */
void fake_advance_ms(uint64_t ms);		       /* timers fire on the way */
void fake_tell_info(const struct endpoint_info *info); /* to those who asked while it was withheld */
void fake_turn(void);				       /* what was deferred */

size_t fake_connecting(void);			     /* connects under way */
struct transport_connect *fake_connect_at(size_t i); /* of those under way, oldest first */
struct fake_conn *fake_connected(struct transport_connect *c);
void fake_refused(struct transport_connect *c, int error);
struct fake_conn *fake_connected_all(void); /* returns the last */
size_t fake_open_conns(void);

void fake_stream_ends(struct http_stream *s); /* response and request are complete */
void fake_conn_breaks(struct http_conn *c);   /* by the peer */
void fake_goaway(struct http_conn *c);

/* A request of the engine. */
struct request {
	struct upstream *up;
	struct upstream_wait *wait;
	enum upstream_failure why;
	struct addr_port endpoint;
	unsigned int answers, resets;
	size_t order; /* in which answers came */
};
void request_query(struct upstream_query *q); /* of cluster "c", pods[0] */
void request_start(struct request *r);
void request_start_with(struct request *r, const struct upstream_query *q);
void request_start_on(struct upstreams *u, struct request *r, const struct upstream_query *q);
/* The response came whole, then upstream_done(). */
void request_end(struct request *r, uint16_t status);
void request_done(struct upstreams *u, struct request *r, enum upstream_outcome outcome, uint16_t status);
/* A request at once, by a connection that is there or is made: returns the endpoint's last byte; 0: it failed. */
unsigned int request_whole(uint16_t status);
