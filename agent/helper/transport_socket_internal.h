/* SPDX-License-Identifier: Apache-2.0 */
/* Between transport_socket.c, transport_socket_out.c, transport_splice.c and transport_shared.c. */
#pragma once

#include "agent/helper/transport_internal.h"

#include <stdlib.h>

enum { SOCKET_MAGIC = 0x6b636f73 };

struct transport_socket {
	struct transport t; /* first */
	uint32_t magic;
	int fd, events;
	struct transports *ts;
	struct loop_io *io;
	struct worker_pod *pod;		 /* it counts against; or NULL */
	struct identity *identity;	 /* t.peer, when it is ours */
	struct transport_socket *joined; /* what is read here is written there */
	uint64_t *moved;		 /* bytes that went there uncopied */
	struct buffer kept, out;
	uint32_t counted; /* of kept and out, in the metrics */
	uint32_t discarded;
	int error;	    /* -errno: nothing works any more */
	bool told;	    /* of the error */
	bool deferred;	    /* on_tick_end() will run */
	bool full;	    /* the socket took less than there was: it will tell */
	bool starved;	    /* a write was cut short */
	bool eof;	    /* the peer's */
	bool ending, ended; /* ours: asked for, done */
	bool held;	    /* on_data left something: not before transport_resume() */
	bool delivering;    /* inside on_data */
	bool resumed;	    /* transport_resume() at the end of the tick */
	bool lingers;
	bool bulk;	      /* there is as much to read as we take at a time */
	bool closed, gone;    /* by its owner; and from the loop */
	uint64_t deadline_ns; /* of lingering */
	TAILQ_ENTRY(transport_socket) all, by_age;
};

extern const struct transport_ops transport_socket_ops;

static inline struct transport_socket *transport_socket_of(const struct transport *t)
{
	struct transport_socket *s = (struct transport_socket *)(uintptr_t)t;
	if (s->magic != SOCKET_MAGIC)
		abort();
	return s;
}

void transport_socket_fail(struct transport_socket *s, int error); /* its user is told at the end of the tick */
void transport_socket_arm(struct transport_socket *s, int events);
void transport_socket_count(struct transport_socket *s); /* buffers in the metrics */
void transport_socket_eof(struct transport_socket *s);	 /* the peer sends no more; may call back */
/* Out of the loop at once; the memory goes at the end of the tick. */
void transport_socket_remove(struct transport_socket *s, bool abort_it);

void transport_socket_defer(struct transport_socket *s); /* the end of the tick sends and tells */

/* transport_socket_out.c */
size_t transport_socket_write(struct transport *t, const struct iovec *iov, int count);
void transport_socket_flush(struct transport *t);
/* Sends what is queued and then these, uncopied. Returns how many of these were sent. */
size_t transport_socket_send(struct transport_socket *s, const struct iovec *iov, int count);
/* After a send: what follows from an empty queue. May call back. */
void transport_socket_sent(struct transport_socket *s);
void transport_socket_writable(struct transport_socket *s); /* the loop says so */

/* transport_splice.c */
bool transport_can_splice(struct transport_socket *s);
bool transport_splice(struct transport_socket *s); /* moves bytes once; true: there may be more */

/* transport_shared.c */
void transports_trim(struct transports *ts);	   /* gives back what nothing uses */
void transports_linger_arm(struct transports *ts); /* for the oldest of those that linger */
