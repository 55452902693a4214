/* SPDX-License-Identifier: Apache-2.0 */
/* The engine between two fakes: a client whose bytes the test pushes through a real HTTP/1 or HTTP/2 codec, and endpoints
 * that the test plays, behind an upstream_get() of our own with a script. The worker is a loop. */
#pragma once

#include "agent/helper/route/exchange.h"
#include "tests/unit/http/fake_transport.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct worker_pod;

enum { ATTEMPTS = 128 };

/* What an attempt meets, in order; the last one repeats. */
struct script {
	enum upstream_failure failure; /* UPSTREAM_OK: a stream */
	bool later;		       /* the answer comes with world_attempt_ready() */
};

/* An attempt as the fake upstreams saw it. */
struct seen_attempt {
	char cluster[64], host[64];
	bool upgrade, h2, done, pending;
	enum upstream_outcome outcome;
	uint16_t status;
	size_t avoid_count;
	uint64_t skip;
	struct addr_port pinned, source;
	struct fake_transport *t; /* NULL: there was no stream */
	struct http_conn *conn;
	struct upstream up;
	upstream_fn fn;
	void *arg, *user;
	const struct http_stream_events *events;
};

struct world {
	struct worker *w;
	struct http_proxy *proxy;
	struct fake_transport *client;
	struct http_vhost *vhost;
	struct http_route *route; /* its first */
	struct script script[ATTEMPTS];
	size_t script_count;
	struct seen_attempt attempts[ATTEMPTS];
	size_t attempt_count;
	bool retries_over;   /* the cluster's limit refuses any */
	size_t retry_leaves; /* that are out */
	/* what was recorded */
	size_t records;
	uint32_t flags;
	uint16_t status;
	uint32_t tries;
	int grpc_status;
	uint64_t request_bytes, response_bytes, request_messages, response_messages;
	char details[96], endpoint[64], cluster[64], failure[64];
	/* the worker's answers */
	struct http_vhost *other; /* of the host "other" */
	bool registry_only, no_target, target_later;
	char asked_host[64];
	/* server side */
	struct fake_transport *app[4];
	size_t app_count;
	int app_error;
	bool upstream_h2;
	stage_fn authorize; /* what stage_authorize() does; NULL: continue */
	stage_fn jwt;
	bool rules_forbid; /* authorize_holds() says no */
};

/* One route to the cluster "c", named "r", with retries off. */
struct world *world_new(void);
void world_free(struct world *w); /* asserts that each exchange was recorded once and each attempt ended */
struct http_route *world_add_route(struct world *w);	       /* before the first; the others move on */
void world_connect(struct world *w);			       /* seals the vhost; the client's connection comes */
void world_connect_inbound(struct world *w, const char *peer); /* peer: a SPIFFE URI, or NULL */
struct worker_pod *worker_pod_of(struct world *w);
void world_connect_h2(struct world *w, bool inbound);
void world_tick(struct world *w, unsigned int ms);
void world_send(struct world *w, const char *text);		      /* the client does */
const char *world_received(struct world *w);			      /* what the client was sent, all of it */
void world_answer(struct world *w, size_t attempt, const char *text); /* the endpoint does */
const char *world_request(struct world *w, size_t attempt);	      /* what the endpoint was sent */
void world_attempt_ready(struct world *w, size_t attempt, enum upstream_failure why);
void world_priority(struct world *w, size_t endpoint, uint8_t priority);
void world_retry(struct world *w, const char *on, uint32_t attempts);
#define assert_received(w, text) assert_non_null(strstr(world_received(w), text))
#define assert_not_received(w, text) assert_null(strstr(world_received(w), text))
#define assert_requested(w, n, text) assert_non_null(strstr(world_request(w, n), text))
#define assert_not_requested(w, n, text) assert_null(strstr(world_request(w, n), text))
