/* SPDX-License-Identifier: Apache-2.0 */
/* The way to a cluster's endpoints: which one, over which connection, within which limits. One struct upstreams a worker;
 * clusters are asked for on demand (worker_cluster_get) and watched while used. Everything on the worker's thread. */
#pragma once

#include "agent/helper/http/stream.h"
#include "agent/model/cluster.h"

#include <stdbool.h>
#include <stdint.h>

struct sb;
struct upstream;
struct upstreams;
struct worker;
struct worker_pod;

int upstreams_new(struct worker *w, struct upstreams **out);
void upstreams_free(struct upstreams *u);
void upstreams_drain(struct upstreams *u);
size_t upstreams_live(const struct upstreams *u); /* connections with a stream */
/* What a pod of this node lets in may have changed: connections to it are made anew, as their streams end. */
void upstreams_pod_changed(struct upstreams *u, const struct worker_pod *pod);
void upstreams_pod_removed(struct upstreams *u, struct worker_pod *pod);
void upstreams_dump(struct upstreams *u, const char *what, struct sb *out); /* "clusters", "http-pools": JSON array */

enum upstream_failure {
	UPSTREAM_OK,
	UPSTREAM_NO_CLUSTER,  /* the agent knows none of that name: flag NC */
	UPSTREAM_NO_ENDPOINT, /* none, or none healthy: UH */
	UPSTREAM_OVERFLOW,    /* a limit of connectionPool: UO */
	UPSTREAM_CONNECT,     /* UF */
	UPSTREAM_CONNECT_TIMEOUT,
	UPSTREAM_TLS,
	UPSTREAM_REFUSED, /* by the destination's policy */
};

enum { UPSTREAM_AVOID_MAX = 8 };

struct upstream_query {
	struct worker_pod *pod; /* whose request; its sockets and identity are used */
	const char *cluster;
	const char *host;	   /* the request's, for SNI and DYNAMIC_DNS */
	struct addr_port original; /* for PASSTHROUGH */
	const char *
		called; /* for it: the host of the service that has `original`; NULL: not known. Outlives the question */
	struct addr_port source;      /* for HASH_SOURCE_IP */
	const struct http_head *head; /* for the other hashes; valid during the call */
	bool downstream_h2;	      /* for CLUSTER_AS_CLIENT; gRPC and HTTP/2-only requests set it too */
	bool upgrade;		      /* needs HTTP/1.1 (WebSocket) */
	struct addr_port avoid[UPSTREAM_AVOID_MAX]; /* previous hosts */
	size_t avoid_count;
	uint64_t skip_priorities; /* by bit: others first, if any has healthy endpoints */
	struct addr_port pinned;  /* session affinity: this endpoint, while it is healthy; port 0: none */
};

/* What was chosen; valid until upstream_done(). */
struct upstream {
	const struct http_cluster *cluster;
	const struct cluster_endpoint *endpoint;
	struct http_stream *stream; /* opened with the caller's events and user; its head was not sent */
	struct http_conn *conn;
	char cookie[256]; /* a Set-Cookie value that the response must carry (HASH_COOKIE with cookie_make); "": none */
};

struct upstream_wait;
typedef void (*upstream_fn)(struct upstream *up, enum upstream_failure why, const struct cluster_endpoint *endpoint,
			    void *arg);
/* A stream to the cluster. Calls back exactly once, perhaps at once (NULL is returned then). On failure `endpoint` says
 * which one failed, if one was chosen. `max_pending` waits for connections; the wait may be cancelled. */
struct upstream_wait *upstream_get(struct upstreams *u, const struct upstream_query *q,
				   const struct http_stream_events *events, void *user, upstream_fn fn, void *arg);
void upstream_cancel(struct upstream_wait *wait); /* NULL is fine; no callback then */

enum upstream_outcome {
	OUTCOME_RESPONSE, /* status says which; grpc status maps to one */
	OUTCOME_RESET,	  /* by the endpoint, or its connection broke */
	OUTCOME_TIMEOUT,
	OUTCOME_CANCELLED, /* by us or the client: says nothing of the endpoint */
};
/* Leave for one more try of a request, as max_retries or the retry budget has it: counts from now until it is given back,
 * after that try. up: the try that failed, not done yet; NULL: it had no stream. NULL: refused. */
struct caller;
struct caller *upstream_retry_begin(struct upstreams *u, struct worker_pod *pod, const char *cluster,
				    const struct upstream *up);
void upstream_retry_end(struct caller *leave); /* NULL is fine */

/* Once for each upstream that was had, when its stream is gone: feeds live counts, outlier detection, latency, retry
 * budget. Frees up. */
void upstream_done(struct upstreams *u, struct upstream *up, enum upstream_outcome outcome, uint16_t status,
		   uint64_t latency_ns);

/* What is known of a cluster that was asked for: for the record of a request that found no endpoint. NULL: nothing. Valid
 * until the loop turns. */
const struct http_cluster *upstream_cluster(struct upstreams *u, const char *name);

/* For connections that turn out not to be HTTP: the endpoint that the cluster's balancing chooses, by callback as above,
 * without a connection. Its live count is not kept. */
typedef void (*upstream_pick_fn)(const struct http_cluster *cluster, const struct cluster_endpoint *endpoint,
				 enum upstream_failure why, void *arg);
struct upstream_wait *upstream_pick(struct upstreams *u, const struct upstream_query *q, upstream_pick_fn fn,
				    void *arg);
/* The host's health as outlier detection sees it, for TCP too. */
void upstream_report(struct upstreams *u, const char *cluster, const struct addr_port *endpoint, bool connected);
