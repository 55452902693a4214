/* SPDX-License-Identifier: Apache-2.0 */
/* A connection of HTTP/1, either side; private to http1*.c. Each direction of the one exchange has its state: `in`
 * is what the peer sends, `out` what the user sends. Everything on the worker's thread. */
#pragma once

#include "agent/helper/buffer.h"
#include "agent/helper/http/http1_parse.h"
#include "agent/helper/http/stream.h"
#include "agent/helper/http/tick.h"
#include "agent/helper/transport.h"

struct http1_framing;

enum http1_in {
	IN_HEAD,    /* expected, or partly there (parser, in) */
	IN_LENGTH,  /* body_left bytes of body */
	IN_CHUNKED, /* chunks */
	IN_TRAILERS,
	IN_STREAM, /* until the peer ends: a response without length, or a tunnel's bytes */
	IN_HELD,   /* a tunnel was asked for: nothing is read until it is answered */
	IN_ENDED,  /* the message is whole */
};

enum http1_out {
	OUT_HEAD,   /* the final head is not sent yet */
	OUT_LENGTH, /* send_left bytes of body */
	OUT_CHUNKED,
	OUT_STREAM,  /* until we end */
	OUT_HELD,    /* client: a tunnel was asked for */
	OUT_NOTHING, /* a body is not sent: HEAD, 204, 304 */
	OUT_ENDED,
};

struct http1;

/* What differs between server and client. */
struct http1_side {
	bool server;
	void (*head_came)(struct http1 *c, struct http_head *head); /* takes it; the parser still has its facts */
	void (*peer_ended)(struct http1 *c);
	void (*refused)(struct http1 *c, const struct http1_fault *fault); /* what the peer sent can't be used */
	void (*over)(struct http1 *c);	  /* both directions have ended; the stream is gone */
	void (*due)(struct http1 *c);	  /* the deadline */
	void (*extra)(struct http1 *c);	  /* client: bytes that belong to no response */
	void (*settled)(struct http1 *c); /* client: all bytes that came were looked at */
};

struct http1 {
	struct http_conn base;
	struct http_stream stream;
	const struct http1_side *side;
	struct loop *loop;
	struct tick tick;
	struct http_limits limits;
	struct http1_parser parser;
	struct buffer in;  /* the part of a line that came */
	struct buffer out; /* framing that the transport had no room for */
	struct http1_chunks chunks;
	uint64_t body_left, send_left;
	uint64_t chunk_left; /* of a chunk whose size was sent: its data, then CRLF */
	uint64_t since_ms;   /* idle, or the head began, or the body's last byte */
	uint32_t discard_left;
	uint32_t interim; /* 1xx responses that came */
	uint8_t in_state, out_state;
	bool live;   /* the stream is the user's */
	bool closed; /* waits to be freed */
	bool ending; /* is closed at the end of the tick */
	bool ending_abort;
	bool end_owed; /* our half ends when `out` is empty */
	bool reading;  /* inside on_data */
	bool paused;   /* the transport keeps bytes for us */
	bool resume_asked, resume_deferred;
	bool want_room;	 /* send_body took less than there was */
	bool head_begun; /* server: some of a head is there */
	bool draining;
	bool persist; /* the connection outlives this exchange, as far as its heads say */
	/* of the exchange */
	bool head_method, connect, tunnel; /* HEAD; CONNECT; asked for a tunnel (CONNECT, Upgrade) */
	bool old;			   /* server: the client speaks HTTP/1.0 */
	bool expected;			   /* 100-continue was asked for */
	bool in_last;			   /* client: inside the event that ends the response */
	bool capacity_owed;		   /* client: on_capacity is to be called */
};

int http1_new(struct loop *loop, struct transport *t, const struct http_limits *limits,
	      const struct http_conn_events *events, void *arg, const struct http_conn_ops *ops,
	      const struct http_stream_ops *stream_ops, const struct http1_side *side, struct http1 **out);
/* From inside events of transport, timer or user: the stream, if it is live, is reset with `why`; then on_closed. */
void http1_close(struct http1 *c, bool abort, enum http_reset why);
/* Why a live stream ends with its connection, which the peer has ended. */
enum http_reset http1_gone(const struct http1 *c);
/* From inside the user's calls: the same at the end of the tick, without on_reset. */
void http1_end_soon(struct http1 *c, bool abort);
/* After a direction ended: when both have, the stream is gone and the side says what next. */
void http1_check_over(struct http1 *c);
void http1_resume_soon(struct http1 *c);
/* The direction of what the peer sends has ended for the user, from inside an event. */
void http1_in_end(struct http1 *c);

/* Queues a head or the like; what does not fit is kept. -EPIPE: too much is kept already. */
int http1_put(struct http1 *c, const void *bytes, size_t len);
/* A head of at most 8 KiB lies on the stack for it. 0, -ENOMEM, -EPIPE, or -EINVAL for a head that can't be written. */
int http1_put_head(struct http1 *c, const struct http_head *head, const struct http1_framing *f,
		   size_t (*write)(char *to, const struct http_head *head, const struct http1_framing *f));

/* http_stream_ops that both sides share */
size_t http1_send_body(struct http_stream *s, const void *bytes, size_t len, bool end);
int http1_send_trailers(struct http_stream *s, const struct http_head *trailers);
void http1_resume(struct http_stream *s);
/* http_conn_ops */
void http1_conn_close(struct http_conn *conn);
size_t http1_conn_streams(const struct http_conn *conn);
void http1_conn_dump(const struct http_conn *conn, struct sb *out);

static inline struct http1 *http1_of(const struct http_conn *conn)
{
	return (struct http1 *)(uintptr_t)conn;
}
/* What http_stream_events are told. */
size_t http1_deliver(struct http1 *c, const uint8_t *bytes, size_t len, bool end);
