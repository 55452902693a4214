/* SPDX-License-Identifier: Apache-2.0 */
/* A byte stream under an HTTP connection: a socket, an HBONE stream, TLS over one of them. Push in, queue out, so that
 * nothing is copied that need not be. Everything on its worker's thread; events are never called from inside an operation
 * other than transport_resume(). */
#pragma once

#include "agent/base/addr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct cluster_endpoint;
struct http_cluster;
struct loop;
struct transport;
struct worker;
struct worker_pod;

struct transport_events {
	/* Bytes arrived. Returns how many it took; fewer than len: the transport keeps the rest and reads no more until
	 * transport_resume(). May close the transport (return anything then). */
	size_t (*on_data)(struct transport *t, const uint8_t *bytes, size_t len, void *arg);
	void (*on_end)(struct transport *t, void *arg);	 /* the peer sends no more; all bytes were delivered */
	void (*on_room)(struct transport *t, void *arg); /* the queue is empty again, after a write was cut short */
	void (*on_broken)(struct transport *t, int error, void *arg); /* -errno; nothing works any more: close it */
};

struct transport_ops {
	size_t (*write)(struct transport *t, const struct iovec *iov, int count);
	void (*flush)(struct transport *t);
	void (*resume)(struct transport *t);
	void (*end)(struct transport *t);
	void (*close)(struct transport *t, bool abort);
	size_t (*queued)(const struct transport *t);
};

struct transport { /* embedded first in each kind */
	const struct transport_ops *ops;
	const struct transport_events *events;
	void *arg;
	struct addr_port local, remote; /* as the application's peer would see them */
	/* The peer as authenticated by mTLS on this very stream, or attested by the kernel; NULL: anonymous. Borrowed. */
	const struct identity *peer;
	bool from_node;	  /* as policy_input's */
	bool tls;	  /* bytes are encrypted on the wire */
	const char *alpn; /* what TLS negotiated; NULL: nothing */
};

static inline void transport_on(struct transport *t, const struct transport_events *events, void *arg)
{
	t->events = events;
	t->arg = arg;
}
/* Queues bytes; sent by the end of the loop's tick, or at once when there is much. Returns how many were taken: all as long
 * as less than TRANSPORT_QUEUE is queued; fewer: wait for on_room. */
enum { TRANSPORT_QUEUE = 256 << 10 };
static inline size_t transport_write(struct transport *t, const struct iovec *iov, int count)
{
	return t->ops->write(t, iov, count);
}
static inline void transport_flush(struct transport *t)
{
	t->ops->flush(t);
}
/* Delivers what was kept (on_data may be called from within) and reads on. */
static inline void transport_resume(struct transport *t)
{
	t->ops->resume(t);
}
static inline void transport_end(struct transport *t) /* after what is queued: FIN */
{
	t->ops->end(t);
}
/* Frees it at the end of the tick. Without abort what is queued is still sent (for at most 5 s); abort: RST. */
static inline void transport_close(struct transport *t, bool abort)
{
	t->ops->close(t, abort);
}
static inline size_t transport_queued(const struct transport *t)
{
	return t->ops->queued(t);
}

/* What the transports of one worker share. Freed after their owners: what is left is cut. */
struct transports;
int transports_new(struct worker *w, struct transports **out);
void transports_free(struct transports *ts);

/* An accepted or connected socket, non-blocking; takes fd, also on failure. Reading starts at the end of the tick. first:
 * bytes read from it before. local, remote, peer, tls and alpn are left to the caller. After a close without abort what the
 * peer still sends is dropped until it ends, too (5 s): a reset could overtake the last response. */
int transport_socket_new(struct worker *w, int fd, const void *first, size_t first_len, struct transport **out);

/* Connects to an endpoint on behalf of a pod: within this worker when it is HTTP (alpn) to a pod of this node whose port the
 * engine serves, a socket of the pod (kind POD_CONNECT_REMOTE) when it is otherwise plaintext or on this node, an HBONE stream when that is its tunnel, TLS over it when the cluster originates TLS. Exactly one callback, never
 * from inside the call; t NULL: failed with error (-errno; -ETIMEDOUT, -ECONNREFUSED, -EPERM: refused by policy, or TLS
 * that lacks its certificates; -EKEYREJECTED, -EKEYREVOKED, -EPROTO: TLS failed). Within the callback of a failure
 * transport_failure() says why.
 * alpn: "h2", "http/1.1" or NULL, offered by originated TLS; sni: host for TLS when the cluster does not say. */
struct transport_connect;
typedef void (*transport_connect_fn)(struct transport *t, int error, void *arg);
struct transport_connect *transport_connect(struct worker *w, struct worker_pod *pod,
					    const struct http_cluster *cluster, const struct cluster_endpoint *endpoint,
					    const char *alpn, const char *sni, transport_connect_fn fn, void *arg);
/* Connects to the pod's own application, at the address that the peer called, so that it sees the peer's address
 * (POD_CONNECT_LOCAL). The callback as above. */
struct transport_connect *transport_connect_local(struct worker *w, struct worker_pod *pod,
						  const struct addr_port *peer, const struct addr_port *local,
						  transport_connect_fn fn, void *arg);
void transport_connect_cancel(struct transport_connect *c); /* NULL is fine; no callback then */
/* Within the callback of a failure: why, in words. NULL: nothing is known, or it is not the time. */
const char *transport_failure(struct worker *w);
