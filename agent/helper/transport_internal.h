/* SPDX-License-Identifier: Apache-2.0 */
/* What the kinds of transports of one worker share: scratch memory that is used within one call, small buffers for what
 * is queued in a tick, and those that still send after their owner closed them. One worker, one thread. */
#pragma once

#include "agent/helper/buffer.h"
#include "agent/helper/transport.h"

#include <sys/queue.h>

enum {
	TRANSPORT_SCRATCH = 64 << 10,
	TRANSPORT_CHUNK = 2 << 10, /* most of what is queued in a tick fits */
	TRANSPORT_CHUNKS = 64,
	TRANSPORT_LINGER_MS = 5000,
};

struct endpoint_info;
struct hbone;
struct identity;
struct loop_timer;
struct tls_contexts;
struct transport_pair;
struct transport_socket;
struct worker_pod;

struct transports {
	struct loop *loop;
	struct worker *w;
	uint8_t *scratch;
	int pipe[2]; /* for bytes on their way from socket to socket; -1: not made */
	size_t sockets;
	uint8_t *chunks[TRANSPORT_CHUNKS];
	size_t chunk_count;
	struct loop_timer *linger;
	struct tls_contexts *contexts; /* of originated TLS; NULL: none yet, and nothing to be linked with it */
	void (*contexts_free)(struct tls_contexts *all);
	TAILQ_HEAD(, transport_pair) pairs;
	const char *failure;			       /* of the connection whose failure is being told */
	uint32_t pair_ports;			       /* that were shown as callers' */
	TAILQ_HEAD(, transport_socket) all, lingering; /* lingering: by age, all have the same time */
};

/* buffer_append() and buffer_consume() that take the first chunk from those at hand and give it back. */
int transports_append(struct transports *ts, struct buffer *b, const void *bytes, size_t len);
void transports_consume(struct transports *ts, struct buffer *b, size_t len);
void transports_release(struct transports *ts, struct buffer *b); /* empties it */

void transport_pairs_cut(struct transports *ts); /* transport_pair.c: their owners are gone */

/* The socket counts against the pod's limit from here on until it is closed: the caller had it admitted. */
void transport_socket_charge(struct transport *t, struct worker_pod *pod);
/* Its peer: takes the identity, which lives as long as the transport. */
void transport_socket_identify(struct transport *t, struct identity *peer);

/* The users of these two write all that comes from one to the other: when there is much, and both are sockets, it may go
 * there without being seen, and is counted in *moved, which lives until one of them is closed. */
void transport_socket_join(struct transport *a, struct transport *b, uint64_t *a_moved, uint64_t *b_moved);

/* A transport that is being made is told once, never from inside the call: NULL and -errno, or it. */
typedef void (*transport_opened_fn)(struct transport *t, int error, void *arg);

/* An HBONE stream to info->endpoint through info->tunnel as the pod's identity; info is not kept. fn is called once, never
 * from inside: with the transport, or NULL and -errno. Returns a handle for hbone_open_cancel() until then (no callback any
 * more); NULL: no memory, and no callback. It does not count against the pod's limit. */
struct transport *hbone_open(struct hbone *h, struct worker_pod *pod, const struct endpoint_info *info,
			     transport_opened_fn fn, void *arg);
void hbone_open_cancel(struct transport *t);

struct tls_credentials;
struct tls_trust;
int hbone_material(struct hbone *h, const char *uri, struct tls_credentials **credentials,
		   struct tls_trust **trust); /* 0 or -ENOENT; borrowed */

/* TLS over inner; takes both, also on failure. As hbone_open(). */
struct tls_client;
struct transport *transport_tls_open(struct worker *w, struct transport *inner, struct tls_client *client,
				     transport_opened_fn fn, void *arg);
void transport_tls_cancel(struct transport *t);

/* transport_tls_context.c: what a cluster's TLS is, with contexts kept. sni: NULL, or the request's host. 0 or -errno. */
struct cluster_endpoint;
struct err;
struct http_cluster;
bool transport_wants_tls(const struct http_cluster *cluster, const struct cluster_endpoint *endpoint);
int transport_tls_client(struct worker *w, const struct worker_pod *pod, const struct http_cluster *cluster,
			 const struct cluster_endpoint *endpoint, const char *alpn, const char *sni,
			 struct tls_client **out, struct err *err);

/* transport_proxy.c. A PROXY header (version 1 or 2) before anything else. */
void transport_proxy_header(struct transport *t, int version, const struct addr_port *from, const struct addr_port *to);
/* Asks an HTTP proxy for the way to "host:port". fn gets the transport back, or NULL and -errno; never from inside. NULL: no
 * memory, or no such target; takes t in any case. */
struct transport_through;
typedef void (*transport_through_fn)(struct transport *t, int error, void *arg);
struct transport_through *transport_through(struct transport *t, const char *target, transport_through_fn fn,
					    void *arg);
void transport_through_cancel(struct transport_through *x);
