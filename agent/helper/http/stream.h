/* SPDX-License-Identifier: Apache-2.0 */
/* What an HTTP codec and its user say to each other: one request and its response is a stream, on connections of HTTP/1
 * (one stream at a time) and HTTP/2 alike, on the server's and on the client's side. Streams belong to their connection.
 *
 * A stream is gone for its user when both directions have ended (END said by each side), or it was reset by either side.
 * No event comes after that; the user may still call nothing on it. Events are never called from inside send_* or reset of
 * the same stream; on_body may be from inside resume.
 * Back-pressure: on_body and send_body return how many bytes were taken. After fewer, resume() or on_room() continue.
 * Everything on the worker's thread. RFC 9110, 9112, 9113. */
#pragma once

#include "agent/helper/http/message.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_conn;
struct http_stream;
struct loop;
struct sb;
struct transport;

enum http_reset {
	HTTP_RESET_NO_ERROR, /* server: the rest of the request is not needed */
	HTTP_RESET_CANCEL,   /* the other side of the proxy went away, or a timeout */
	HTTP_RESET_REFUSED,  /* REFUSED_STREAM: certainly not processed */
	HTTP_RESET_INTERNAL,
	HTTP_RESET_PROTOCOL,  /* the peer broke the protocol */
	HTTP_RESET_CLOSED,    /* the connection ended in the middle */
	HTTP_RESET_TOO_LARGE, /* the peer's head or trailers exceed the limits */
	HTTP_RESET_TIMEOUT,   /* a head or body that does not come */
	HTTP_RESET_STALE, /* HTTP/1: closed before a byte of the answer came, on a connection that was used before */
	HTTP_RESET_LEFT, /* client: the server leaves the connection (GOAWAY) and will not look at it: certainly not processed */
};

struct http_stream_events { /* the user's */
	/* Takes head. Client side: 1xx heads come before the final one (100 is not passed on when not expected). end: no body. */
	void (*on_head)(struct http_stream *s, struct http_head *head, bool end);
	/* end: these are the last bytes, if all are taken; bytes may be none then. */
	size_t (*on_body)(struct http_stream *s, const uint8_t *bytes, size_t len, bool end);
	void (*on_trailers)(struct http_stream *s, struct http_head *trailers); /* takes it; ends */
	void (*on_room)(struct http_stream *s);
	void (*on_reset)(struct http_stream *s, enum http_reset why);
};

struct http_stream_ops { /* the codec's */
	/* head stays the caller's and may be freed after. -EPIPE: the stream can't be used (on_reset follows). A server may
	 * send 1xx heads before the final one. The codec adds framing (Content-Length from head, Transfer-Encoding, Date by a
	 * server) and removes nothing: hop-by-hop fields were removed before. */
	int (*send_head)(struct http_stream *s, const struct http_head *head, bool end);
	size_t (*send_body)(struct http_stream *s, const void *bytes, size_t len, bool end);
	int (*send_trailers)(struct http_stream *s, const struct http_head *trailers);
	void (*resume)(struct http_stream *s);
	void (*reset)(struct http_stream *s, enum http_reset why);
};

struct http_stream { /* embedded first in each codec's */
	const struct http_stream_ops *ops;
	const struct http_stream_events *events; /* set by the user in on_stream or http_client_open */
	void *user;
	struct http_conn *conn;
	uint64_t received, sent; /* body bytes so far */
};

static inline int stream_send_head(struct http_stream *s, const struct http_head *head, bool end)
{
	return s->ops->send_head(s, head, end);
}
static inline size_t stream_send_body(struct http_stream *s, const void *bytes, size_t len, bool end)
{
	return s->ops->send_body(s, bytes, len, end);
}
static inline int stream_send_trailers(struct http_stream *s, const struct http_head *trailers)
{
	return s->ops->send_trailers(s, trailers);
}
static inline void stream_resume(struct http_stream *s)
{
	s->ops->resume(s);
}
static inline void stream_reset(struct http_stream *s, enum http_reset why)
{
	s->ops->reset(s, why);
}

/* --- connections */

struct http_limits {
	uint32_t head_bytes;		     /* of a request or response line and fields: 60 KiB */
	uint32_t field_count;		     /* 100 */
	uint32_t head_timeout_ms;	     /* from the first byte to the end of the head, and for the first: 10000 */
	uint32_t body_timeout_ms;	     /* without a byte of an expected body; 0: none (streams may be silent) */
	uint32_t idle_timeout_ms;	     /* without a stream: 3600000 */
	uint32_t max_streams;		     /* HTTP/2 SETTINGS_MAX_CONCURRENT_STREAMS: 100 for servers */
	uint32_t stream_window, conn_window; /* HTTP/2: 256 KiB, 1 MiB */
	uint32_t max_requests;		     /* then the connection ends, politely; 0: none */
	bool accept_http10;		     /* true */
	bool preserve_case;		     /* HTTP/1: fields know how their names were written (as_sent); false */
};
extern const struct http_limits http_limits_default;

enum http_protocol { HTTP_PROTO_1, HTTP_PROTO_2 };

/* Why a server's codec refused what a peer sent: counted by the user. Names as in metrics. X(SYMBOL, "name") */
#define HTTP_BAD(X)                                                                                                    \
	X(REQUEST_LINE, "bad_request_line")                                                                            \
	X(FIELD, "bad_field")                                                                                          \
	X(FRAMING, "bad_framing") /* Content-Length and Transfer-Encoding: smuggling */                                \
	X(CHUNK, "bad_chunk")                                                                                          \
	X(HOST, "bad_host")                                                                                            \
	X(TOO_LARGE, "head_too_large")                                                                                 \
	X(TIMEOUT, "head_timeout")                                                                                     \
	X(H2_PROTOCOL, "h2_protocol")                                                                                  \
	X(H2_FLOOD, "h2_flood")                                                                                        \
	X(VERSION, "bad_version")

enum http_bad {
#define HTTP_BAD_ID(symbol, text) HTTP_BAD_##symbol,
	HTTP_BAD(HTTP_BAD_ID)
#undef HTTP_BAD_ID
		HTTP_BAD_COUNT
};

struct http_conn_events {
	/* Server: a request begins; set s->events and s->user, on_head follows at once. */
	void (*on_stream)(struct http_conn *c, struct http_stream *s, void *arg);
	/* Server: refused (answered with 400, 431, 505 ... or GOAWAY by the codec itself); for counting and logs. */
	void (*on_bad)(struct http_conn *c, enum http_bad why, uint16_t status, void *arg);
	/* Client: http_conn_capacity() may have grown, or become 0 for good (draining). */
	void (*on_capacity)(struct http_conn *c, void *arg);
	/* The connection is gone, and freed after this call; its streams had on_reset before. */
	void (*on_closed)(struct http_conn *c, void *arg);
};

struct http_conn_ops {
	void (*drain)(struct http_conn *c);
	void (*close)(struct http_conn *c);
	int (*open)(struct http_conn *c, const struct http_stream_events *events, void *user, struct http_stream **out);
	uint32_t (*capacity)(const struct http_conn *c);
	size_t (*streams)(const struct http_conn *c);
	void (*dump)(const struct http_conn *c, struct sb *out);
};

struct http_conn { /* embedded first in each codec's */
	const struct http_conn_ops *ops;
	const struct http_conn_events *events;
	void *arg;
	struct transport *transport;
	enum http_protocol protocol;
	uint64_t requests; /* begun on it */
	bool stale;	   /* closed: HTTP_RESET_STALE */
};

/* Takes the transport. 0 or -ENOMEM (the transport is closed then). */
int http1_server_new(struct loop *loop, struct transport *t, const struct http_limits *limits,
		     const struct http_conn_events *events, void *arg, struct http_conn **out);
int http2_server_new(struct loop *loop, struct transport *t, const struct http_limits *limits,
		     const struct http_conn_events *events, void *arg, struct http_conn **out);
int http1_client_new(struct loop *loop, struct transport *t, const struct http_limits *limits,
		     const struct http_conn_events *events, void *arg, struct http_conn **out);
int http2_client_new(struct loop *loop, struct transport *t, const struct http_limits *limits,
		     const struct http_conn_events *events, void *arg, struct http_conn **out);

/* Of the next heads that come: limits.preserve_case may change while a connection lives. HTTP/2 has lower case only. */
void http_conn_preserve_case(struct http_conn *c, bool yes);

/* Client: a new stream. -EAGAIN: no capacity now. */
static inline int http_client_open(struct http_conn *c, const struct http_stream_events *events, void *user,
				   struct http_stream **out)
{
	return c->ops->open(c, events, user, out);
}
/* How many more streams may be opened now. HTTP/1: 1 or 0. */
static inline uint32_t http_conn_capacity(const struct http_conn *c)
{
	return c->ops->capacity(c);
}
static inline size_t http_conn_streams(const struct http_conn *c)
{
	return c->ops->streams(c);
}
/* No new streams; ends when the present ones have: GOAWAY, or Connection: close on the next response. */
static inline void http_conn_drain(struct http_conn *c)
{
	c->ops->drain(c);
}
/* At once; streams get on_reset, then on_closed comes, from inside. */
static inline void http_conn_close(struct http_conn *c)
{
	c->ops->close(c);
}
