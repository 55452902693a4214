/* SPDX-License-Identifier: Apache-2.0 */
/* What the HBONE files of one worker share. An application's connection is a stream (struct hbone_stream) of a
 * connection to another node (struct hbone_conn); the pool finds or makes the latter.
 *
 *   application fd --- relay.c --- stream --- h2.c --- hbone_conn.c --- tls_record.c --- tunnel fd
 *
 * Every entry from outside (event, timer, worker's callback, API) runs between hbone_enter() and hbone_leave(); the
 * latter sends what has collected, so that one wake-up makes one write. Streams and connections are unlinked and marked
 * at once and freed at the end of the tick. */
#pragma once

#include "agent/base/addr.h"
#include "agent/helper/buffer.h"
#include "agent/helper/h2.h"
#include "agent/helper/tls_handshake.h"
#include "agent/helper/worker.h"

#include <sys/queue.h>
#include <sys/uio.h>

enum {
	CONN_MAGIC = 0x6e6e6f63,
	STREAM_MAGIC = 0x6d727473,
	BATCH_RECORDS = 16,
	/* One DATA frame a record. */
	FRAME_PAYLOAD = TLS_CONTENT_MAX - H2_FRAME_HEADER,
	RECORD_SLOT = TLS_HEADER + TLS_CONTENT_MAX + TLS_TAIL,
	TX_SIZE = (BATCH_RECORDS + 2) * RECORD_SLOT,
	RX_SIZE = (BATCH_RECORDS + 1) * TLS_RECORD_MAX,
	IOV_MAX_BATCH = 64,

	HANDSHAKE_TIMEOUT_MS = 10000,
	CONNECT_TIMEOUT_MS = 10000, /* when no config says otherwise */
	EARLY_MAX = 4096,	    /* bytes of an application that go out before the peer has answered */
	EARLY_ALIVE_MS = 1000,	    /* on a connection that has said something in that time */
	PING_AFTER_S = 30,
	PING_TIMEOUT_S = 10,
	POOL_IDLE_S = 60,
	SERVER_IDLE_S = 600,
	TICK_BUSY_MS = 250, /* while something has a deadline below seconds */
	TICK_MS = 1000,
	HELD_MAX = 32 << 20,	/* received bytes that a worker keeps before connections feel it */
	OUTPUT_MAX = 256 << 10, /* frames that wait behind a peer that does not read */
};

struct connection_log;
struct hbone_conn;
struct hbone_pool;
struct hbone_stream;
TAILQ_HEAD(hbone_conns, hbone_conn);
TAILQ_HEAD(hbone_streams, hbone_stream);

struct hbone {
	struct worker *w;
	struct loop *loop;
	struct loop_timer *tick;
	uint64_t tick_ms;	  /* 0: stopped */
	struct table *identities; /* URI -> struct hbone_identity */
	struct table *pools;	  /* key -> struct hbone_pool */
	struct tls_trust *trust;
	struct hbone_conns conns, dirty;
	struct hbone_streams streams;
	struct hbone_streams quiet; /* whose clients have said nothing yet, by age: hbone_ahead.c */
	struct loop_timer *quiet_timer;
	struct loop_timer *blind_timer; /* hbone_blind.c */
	struct hbone_streams held;	/* open and not answered yet: hbone_soon.c */
	struct hbone_conns lazy;	/* with output that may wait a moment */
	struct loop_timer *soon_timer;
	size_t conn_count, stream_count, unsettled; /* unsettled: connections and streams with a near deadline */
	unsigned int depth;
	bool draining, later, freed;
	uint64_t random[2];
	struct h2_budget budget;
	uint8_t *rx, *tx; /* scratch, used within one call */
	struct {
		struct hbone_stream *stream;
		struct iovec iov[IOV_MAX_BATCH];
		int count;
		size_t bytes;
	} batch; /* decrypted DATA on its way to one application */
};

enum conn_state { CONN_CONNECTING, CONN_HANDSHAKE, CONN_OPEN, CONN_CLOSED };

struct hbone_conn {
	uint32_t magic;
	enum conn_state state;
	bool server, settled, dirty, writing, ping_sent, settings_seen;
	bool retired; /* takes no new stream */
	bool lazy;    /* in h->lazy */
	int fd;
	struct hbone *h;
	struct worker_pod *pod;
	struct hbone_pool *pool; /* client */
	struct worker_wait *wait;
	struct loop_io *io;
	struct tls_handshake *handshake; /* until it is done */
	struct tls_record *record;	 /* from then on */
	struct h2 *h2;
	struct tls_peer peer;
	struct addr_port remote, local;
	struct buffer rest;				      /* the beginning of a record whose end has not come */
	struct buffer out;				      /* sealed bytes that the socket did not take */
	uint64_t began_ms, received_ms, pinged_ms, unused_ms; /* unused: since when it has no stream; 0: it has */
	struct hbone_streams blocked;			      /* wait until `out` is sent */
	TAILQ_ENTRY(hbone_conn) all, in_pool, in_dirty, in_lazy;
};

/* An answer that waits for the application's first bytes. */
enum stream_held { HELD_NO, HELD_FRESH, HELD_WAITS };

/* The application's socket of a stream that is still sniffed. */
enum stream_ahead { AHEAD_NONE, AHEAD_CONNECTING, AHEAD_OPEN };

enum stream_state {
	STREAM_RESOLVING,  /* outbound: what is the endpoint? */
	STREAM_QUEUED,	   /* outbound: waits for a connection of its pool */
	STREAM_ASKED,	   /* outbound: CONNECT sent */
	STREAM_SNIFFING,   /* inbound, open to the peer: what does it speak? */
	STREAM_CONNECTING, /* inbound: socket to the application */
	STREAM_OPEN,
	STREAM_CLOSED,
};

struct hbone_stream {
	struct h2_stream h2; /* first: h2.c knows only this */
	uint32_t magic;
	uint8_t state, ahead, held;
	bool inbound, settled, app_eof, app_shut, blocked, eager, retried;
	bool hung_up;	/* the application has sent its last byte, as epoll says */
	bool broken;	/* the application's socket failed while its stream was asked for */
	bool peer_last; /* the peer's side was the last to say something */
	bool framed;	/* HTTP/2, by the first bytes */
	bool http;	/* inbound, and the engine judges each request */
	bool l4;	/* inbound, to a port that had no rules for HTTP when it began */
	bool declared;	/* inbound: HTTP by declaration */
	bool l4_named;	/* inbound, to a port where L4 rules ask for the TLS server name */
	bool uncharged; /* does not count against the pod's limit */
	bool quiet;	/* in h->quiet */
	bool closing;	/* its transport's user has closed it: not past deadline_ms */
	int fd, events;
	int error;			   /* for the transport's user; 0: -ECONNRESET */
	struct hbone_transport *transport; /* in place of fd */
	struct hbone *h;
	struct hbone_conn *conn;
	struct hbone_pool *pool;
	struct worker_pod *pod;
	struct loop_io *io;
	struct worker_wait *wait;
	struct buffer to_app;
	struct addr_port destination; /* endpoint, or the authority */
	uint16_t app_port;	      /* inbound: where the application was found */
	uint32_t deadline_ms, idle_ms, max_ms;
	uint32_t quiet_ms; /* since when */
	uint32_t blind_ms; /* since when it has been to end between two requests; 0: it isn't */
	uint16_t early_len;
	uint8_t *early;		    /* outbound, while asked: what was sent, should it have to be sent again */
	uint32_t active_s, began_s; /* of the worker's clock */
	uint64_t sent, received;
	char *sni;			      /* inbound: as policy_input's */
	struct connection_log *log;	      /* NULL: nobody asks for a line */
	TAILQ_ENTRY(hbone_stream) all, queue; /* queue: the pool's waiting, the connection's blocked, quiet or held */
};

static inline struct hbone_stream *stream_of(struct h2_stream *s)
{
	return (struct hbone_stream *)s;
}

/* hbone.c */
void hbone_enter(struct hbone *h);
void hbone_leave(struct hbone *h);
/* The same around what others call several times in a tick: what it makes dirty is flushed at the tick's end. */
static inline void hbone_begin(struct hbone *h)
{
	h->depth++;
}
void hbone_later(struct hbone *h);
uint64_t hbone_now_ms(const struct hbone *h);
/* A context for handshakes as this identity; borrowed. -ENOENT: no certificate or no trust yet. */
int hbone_context(struct hbone *h, const char *uri, struct tls_context **out, struct err *err);
void hbone_refuse(struct hbone *h, struct worker_pod *pod, enum drop_reason reason, bool inbound,
		  const struct addr_port *source, const struct addr_port *destination, const char *peer,
		  const char *rule);
uint64_t hbone_random(struct hbone *h);
void hbone_unsettled(struct hbone *h, int change);	 /* something with a near deadline came (+1) or went (-1) */
void hbone_count_bytes(struct hbone *h, int64_t change); /* gauge of buffered bytes */

/* hbone_blind.c */
int blind_init(struct hbone *h);
bool blind_may_finish(struct hbone_stream *s); /* a request is under way: it is judged again soon */

/* stream.c: life of a stream. */
struct hbone_stream *stream_new(struct hbone *h, struct worker_pod *pod, int fd, bool inbound);
void stream_settle(struct hbone_stream *s); /* open: no near deadline any more */
/* Ends it in order: the application's socket is closed as is. */
void stream_close(struct hbone_stream *s);
/* Ends it abruptly: the application sees a reset; the peer, when the stream is still open, RST_STREAM with code. */
void stream_abort(struct hbone_stream *s, enum h2_code code);
/* Bytes that nobody will take any more: their credit goes back to the connection. */
void stream_discard(struct hbone_stream *s);

/* relay.c: bytes between an open stream and its application. */
int relay_start(struct hbone_stream *s); /* 0 or -errno */
/* Asked, on a connection that is alive: what the application says goes out at once, up to EARLY_MAX. */
void relay_early(struct hbone_stream *s);
void relay_unearly(struct hbone_stream *s);				   /* it will be asked again */
void relay_data(struct hbone_stream *s, const uint8_t *bytes, size_t len); /* bytes stay until relay_flush() */
void relay_flush(struct hbone *h);
void relay_end(struct hbone_stream *s);	   /* the peer sends no more */
void relay_resume(struct hbone_stream *s); /* a window or the tunnel opened */

/* Keeps what lies behind the first `done` bytes in to_app. 0 or -ENOMEM. */
int relay_keep(struct hbone_stream *s, const struct iovec *iov, int count, size_t done);

/* transport_hbone.c: a stream whose application is a struct transport. */
struct transport;
struct transport *hbone_transport_new(struct hbone_stream *s); /* inbound; NULL: no memory */
void hbone_transport_opened(struct hbone_stream *s);
void hbone_transport_data(struct hbone_stream *s, const struct iovec *iov, int count, size_t bytes);
void hbone_transport_end(struct hbone_stream *s);    /* the peer sends no more */
void hbone_transport_resume(struct hbone_stream *s); /* a window or the tunnel opened */
void hbone_transport_gone(struct hbone_stream *s);   /* the stream is */

/* hbone_conn.c: a connection to another node. */
int hbone_conn_new(struct hbone *h, struct worker_pod *pod, bool server, struct hbone_conn **out);
int conn_use_fd(struct hbone_conn *c, int fd); /* 0 or -errno; paused until conn_arm() */
void conn_arm(struct hbone_conn *c);
void conn_settle(struct hbone_conn *c); /* it has no near deadline any more */
/* Takes it down; its streams are reset or tried again elsewhere. */
void hbone_conn_close(struct hbone_conn *c);
/* The same for a reason that is counted and reported. */
void conn_fail(struct hbone_conn *c, enum drop_reason reason, const char *why);
void conn_shutdown(struct hbone_conn *c); /* GOAWAY, close_notify, close */
void conn_tick(struct hbone_conn *c, uint64_t now_ms);
void conn_unused(struct hbone_conn *c); /* a stream left */

/* hbone_handshake.c. All may end the connection. */
int conn_accepted(struct hbone_conn *c, int fd);			    /* server */
int conn_connect(struct hbone_conn *c, int fd, const struct addr_port *to); /* client: 0 or -errno */
void conn_connected(struct hbone_conn *c);				    /* client: TCP stands, or failed */
void conn_read_handshake(struct hbone_conn *c);

/* hbone_receive.c. Both may end the connection. */
bool conn_read(struct hbone_conn *c);  /* reads and works off once; true: there may be more */
void conn_early(struct hbone_conn *c); /* what came right behind the handshake */

/* hbone_send.c */
void conn_touch(struct hbone_conn *c); /* it has output: hbone_leave() flushes it */
void conn_flush(struct hbone_conn *c); /* may end the connection */
/* Sends sealed bytes, keeping what the socket does not take. 0 or -errno. */
int conn_write(struct hbone_conn *c, const uint8_t *bytes, size_t len);
int hbone_conn_drain(struct hbone_conn *c); /* sends what was kept: 1 all, 0 not yet, -1 the connection is gone */
int conn_rekey(struct hbone_conn *c, bool request); /* 0 or -errno */
/* Reads from the stream's application and sends it as DATA; when that was the last of it, as a whole with END_STREAM
 * and app_eof set. Bytes sent, 0 at the end, -EAGAIN: nothing there, -EBUSY: the tunnel is full (the stream is queued
 * as blocked), -ENOBUFS: no window, or the socket's -errno. */
ssize_t conn_pull(struct hbone_conn *c, struct hbone_stream *s);
/* Sends what lies behind the first `skip` bytes as DATA: a little goes to the output, much is sealed and sent at once.
 * Bytes taken, or as conn_pull(). */
ssize_t conn_push(struct hbone_conn *c, struct hbone_stream *s, const struct iovec *iov, int count, size_t skip);

/* hbone_events.c */
extern const struct h2_events conn_server_events, conn_client_events;

/* hbone_in.c, hbone_out.c: streams of either direction. */
void inbound_request(struct hbone_stream *s, const struct h2_request *request);
void inbound_sniff(struct hbone_stream *s);	/* more bytes, or the end, came while sniffing */
void inbound_late(struct hbone_stream *s);	/* past its deadline */
void inbound_answer(struct hbone_stream *s);	/* with 200, unless it was answered */
void inbound_judge(struct hbone_stream *s);	/* policy changed: cut what it forbids */
void inbound_end_blind(struct hbone_stream *s); /* one with blind_ms, whose peer says more */
/* Answers with the status, counts the reason (DROP_NONE: not) and ends the stream. */
void inbound_fail(struct hbone_stream *s, int status, enum drop_reason reason, const char *rule);
void outbound_opened(struct hbone_stream *s, int status);
/* The stream can't be had: counted, reported, the application's connection reset. */
void outbound_fail(struct hbone_stream *s, enum drop_reason reason);
void outbound_join(struct hbone_stream *s, const struct endpoint_info *info); /* its pool; may fail it */

bool inbound_admits(const struct hbone_stream *s); /* by the L4 rules */

/* hbone_ahead.c */
int ahead_init(struct hbone *h);
void ahead_wait(struct hbone_stream *s);  /* sniffing begins, and its client may wait for its server */
void ahead_leave(struct hbone_stream *s); /* it is HTTP, or gone */
bool ahead_take(struct hbone_stream *s);  /* it is not; true: the stream has the application's socket, connected */

/* hbone_soon.c */
int soon_init(struct hbone *h);
void lazy_add(struct hbone_conn *c); /* it has output that may wait a moment for more */
void lazy_leave(struct hbone_conn *c);
void held_add(struct hbone_stream *s);	  /* open: to be answered */
void held_settle(struct hbone *h);	  /* the tick's end: those that brought no bytes are answered */
void held_answer(struct hbone_stream *s); /* now, if it is held */
void held_leave(struct hbone_stream *s);  /* it needs no answer */

/* pool.c */
int pool_join(struct hbone_stream *s, const struct endpoint_info *info); /* 0 or -errno; the stream is queued */
void pool_pump(struct hbone_pool *p);
void pool_conn_open(struct hbone_conn *c);
/* The connection is gone; reason is of one that was never open. */
void pool_conn_gone(struct hbone_conn *c, enum drop_reason reason);
void pool_leave(struct hbone_stream *s);
/* A stream that has got nothing yet lost its connection: queued again, once. False: it had its chance. */
bool pool_retry(struct hbone_stream *s);
const struct tls_expect *pool_expect(const struct hbone_pool *p);
const struct addr_port *pool_tunnel(const struct hbone_pool *p);
const char *pool_source(const struct hbone_pool *p);
void pool_dump(struct hbone *h, struct sb *out);
