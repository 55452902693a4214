/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files of the HTTP/2 codec: http2.c (connections), http2_settle.c (what is told to users, and when),
 * http2_input.c (nghttp2's callbacks), http2_body.c (bodies that come), http2_send.c (what goes out), http2_output.c (to the
 * transport), http2_head.c (heads), http2_ration.c (floods), http2_time.c, http2_memory.c. One connection, one thread. */
#pragma once

#include "agent/helper/buffer.h"
#include "agent/helper/http/stream.h"
#include "agent/helper/http/tick.h"

#include <sys/queue.h>

struct iovec;
struct nghttp2_session;

enum {
	HTTP2_MAGIC = 0x68327632,
	HTTP2_COPY_MAX = 64 << 10,  /* of a body, when it can't be framed at once */
	HTTP2_KEPT_MAX = 256 << 10, /* of such, of all streams */
	HTTP2_HEAD_SEND_MAX = 256 << 10,
	HTTP2_CLIENT_STREAMS_MAX = 1000, /* whatever the server allows; many say nothing, which is 2^32 - 1 */
	HTTP2_NO_RFC7540_PRIORITIES = 9, /* SETTINGS of RFC 9218; older nghttp2 headers don't know it */
	HTTP2_LINGER_MS = 30000,	 /* for a stream whose user is gone to send what is kept */
	HTTP2_PING_AFTER_MS = 30000,
	HTTP2_PING_WAIT_MS = 10000,
	HTTP2_DRAIN_MS = 1000, /* between the two GOAWAYs, when the PING between them is not answered */
};

/* A token bucket in whole seconds. */
struct http2_bucket {
	uint32_t tokens;
	uint32_t at_s;
};

/* Where the peer's bytes are among frames. */
struct http2_scan {
	uint32_t skip; /* of the preface or a payload */
	uint8_t bytes[13];
	uint8_t have, continuations;
	bool headers, last; /* in a header block, whose last frame this is */
	uint32_t heads;	    /* in what is scanned */
	uint32_t newest;    /* server: the highest id that the client has used */
	/* Streams that the peer itself has ended of late, and ids that it has skipped: nothing may come on them. */
	uint32_t ended[16];
	struct {
		uint32_t above, below;
	} skipped[2];
	uint8_t ended_at, skipped_at;
};

struct http2_stream {
	struct http_stream base;
	TAILQ_ENTRY(http2_stream) link; /* in the connection's streams */
	TAILQ_ENTRY(http2_stream) todo_link;
	int32_t id;	  /* 0: the request's head was not submitted yet */
	bool user : 1;	  /* somebody gets events */
	bool open : 1;	  /* nghttp2 has it and may send on it */
	bool counted : 1; /* among the connection's active ones */
	bool todo : 1;	  /* in the connection's todo */
	/* out */
	bool head_sent : 1;  /* the final one */
	bool local_end : 1;  /* said by the user, all taken */
	bool item : 1;	     /* nghttp2 has a DATA item of ours */
	bool wants_room : 1; /* on_room is owed */
	bool room : 1;	     /* and can be called */
	bool mute : 1;	     /* an answer without a body: END_STREAM is with its head, what is sent is dropped */
	bool discard : 1;    /* the peer wants no more: what is sent is dropped */
	bool end_unsent : 1; /* our end needs a frame of its own */
	bool local_sent : 1; /* END_STREAM went out */
	bool last_reset : 1; /* RST_STREAM(NO_ERROR) goes behind it */
	bool user_reset : 1;
	/* in */
	bool head_got : 1; /* the final one */
	bool too_large : 1;
	bool remote_end : 1;  /* END_STREAM came */
	bool remote_done : 1; /* and was told */
	bool delivering : 1;
	bool malformed : 1;
	bool is_connect : 1, is_extended : 1; /* CONNECT, RFC 8441's */
	bool is_head : 1, expect : 1;
	bool has_reset : 1;
	enum http_reset reset;		 /* to be told, when has_reset */
	uint32_t list_bytes, list_count; /* of the head that is coming, HPACK's count */
	struct http_head *head;		 /* that is coming */
	struct http_head *trailers;	 /* that came, told after the body */
	struct http_head *trailers_out;
	struct http_head *head_out; /* a request that waits for the server's SETTINGS */
	int64_t expected;	    /* Content-Length of what comes; -1 */
	uint64_t arrived;	    /* body bytes */
	struct buffer in;	    /* not taken by the user yet: at most the stream's window */
	struct buffer out;
	const uint8_t *now; /* inside send_body: the caller's bytes */
	size_t now_len;
	bool now_end;
	uint64_t begun_ms;
	uint64_t moved_ms; /* the last byte of body, either way */
};

TAILQ_HEAD(http2_streams, http2_stream);

struct http2_conn {
	struct http_conn base;
	uint32_t magic;
	bool server : 1, closed : 1;
	bool busy : 1;	   /* inside nghttp2: it must not be entered again */
	bool settling : 1; /* inside http2_settle() */
	bool scheduled : 1;
	bool blocked : 1; /* the transport took less than it was given; its on_room comes */
	bool failed : 1;  /* no memory in nghttp2: nothing can be sent any more */
	bool fatal : 1;	  /* nghttp2 gave up: a GOAWAY is the last that is sent */
	bool faulted : 1; /* on_bad was told of the connection's fault */
	bool flooded : 1;
	bool draining : 1, goaway_final : 1;
	bool capacity_changed : 1;
	bool settings_seen : 1, ping_out : 1;
	uint8_t bad; /* refused frames to be told to on_bad */
	struct loop *loop;
	struct http_limits limits;
	struct nghttp2_session *session;
	struct http2_streams streams, todo;
	struct http2_stream *heading; /* whose header block comes */
	uint32_t active;	      /* streams that count against the peer's limit */
	uint32_t live;		      /* streams in `streams` */
	uint32_t frame_left;
	uint32_t kept;	      /* bytes in streams' `out` */
	uint32_t held;	      /* bytes in streams' `in` */
	uint32_t owed;	      /* received bytes that the connection's window has not opened again for */
	struct buffer unsent; /* what the transport did not take: about one frame */
	struct tick tick;
	uint64_t heard_ms; /* the last bytes of the peer */
	uint64_t idle_ms;  /* since when there is no stream */
	uint64_t begun_ms, block_ms, ping_ms, drain_ms;
	struct http2_bucket noise, resets;
	struct http2_scan scan;
	/* Frames that the peer has earned: by DATA of ours, by what it sent, by streams. */
	uint32_t window_updates, pings, rsts;
};

static inline struct http2_conn *http2_of(const struct http2_stream *s)
{
	return (struct http2_conn *)s->base.conn;
}

/* Why a request that was not taken was not. */
static inline enum http_reset http2_refused(const struct http2_conn *c)
{
	return c->draining && !c->server ? HTTP_RESET_LEFT : HTTP_RESET_REFUSED;
}

/* http2.c */
void http2_finish(struct http2_conn *c, enum http_reset why); /* streams are reset, on_closed told, memory goes later */
void http2_drain_now(struct http2_conn *c);		      /* the second GOAWAY */
struct http2_stream *http2_stream_new(struct http2_conn *c, int32_t id);
void http2_stream_free(struct http2_stream *s); /* not while it has a user */
void http2_stream_uncount(struct http2_stream *s);

/* http2_settle.c */
void http2_settle(struct http2_conn *c);   /* sends what is pending, tells users what is pending; may close */
void http2_schedule(struct http2_conn *c); /* settles at the end of the tick, or of the event that is under way */
void http2_todo(struct http2_stream *s);
void http2_stream_reset(struct http2_stream *s, enum http_reset why); /* the user is told by the next settling */
void http2_user_done(struct http2_stream *s);			      /* after each end: the user's part may be over */

/* http2_input.c */
int http2_session_new(struct http2_conn *c); /* 0 or -ENOMEM */
void http2_input(struct http2_conn *c, const uint8_t *bytes, size_t len);
void http2_calm(struct http2_conn *c); /* the end of a connection that floods */

/* http2_body.c */
void http2_body(struct http2_stream *s, const uint8_t *bytes, size_t len);
void http2_body_end(struct http2_stream *s);
void http2_body_resume(struct http_stream *base);
void http2_body_drop(struct http2_stream *s); /* what is kept; its window returns */
void http2_body_forget(struct http2_conn *c); /* the connection goes */
void http2_trailers_tell(struct http2_stream *s);

/* http2_send.c */
extern const struct http_stream_ops http2_stream_ops;
void http2_send_pending(struct http2_stream *s);
void http2_send_held(struct http2_stream *s);		    /* SETTINGS came */
void http2_answer(struct http2_stream *s, uint16_t status); /* without a user */
void http2_stream_rst(struct http2_stream *s, uint32_t code);
void http2_stream_abort(struct http2_stream *s, enum http_reset why,
			uint32_t code); /* RST_STREAM, and the user is told */

/* http2_output.c */
void http2_flush(struct http2_conn *c);
void http2_output_callbacks(void *callbacks);  /* nghttp2_session_callbacks */
void http2_output_retry(struct http2_conn *c); /* on_room */

/* http2_head.c */
struct http2_field {
	const char *name, *value;
	size_t name_len, value_len;
	bool name_static; /* the name lives for ever */
	bool sensitive;
};
int http2_head_begin(struct http2_stream *s); /* -1: no memory */
/* -1: no memory, or far too long; merely too long: too_large is set. */
int http2_head_add(struct http2_stream *s, const struct http2_field *f);
/* The end of a head: false when it is malformed. */
bool http2_head_request(struct http2_stream *s);
bool http2_head_response(struct http2_stream *s); /* 1xx too */

/* http2_ration.c. The others: false is a flood, and flooded is set. */
enum http2_scanned { SCAN_OK, SCAN_FLOOD, SCAN_PROTOCOL, SCAN_CLOSED };
void http2_scan_begin(struct http2_conn *c);
enum http2_scanned http2_scan(struct http2_conn *c, const uint8_t *p, size_t len);
bool http2_ration_reset(struct http2_conn *c, const struct http2_stream *s);
void http2_ration_answered(struct http2_conn *c);
void http2_ration_sent_data(struct http2_conn *c);
void http2_ration_stream(struct http2_conn *c); /* one was opened */

/* http2_time.c */
void http2_time_arm(struct http2_conn *c);
void http2_on_tick(struct tick *t);

/* http2_memory.c */
void *http2_memory(bool making); /* an nghttp2_mem; making: inside nghttp2_session_*_new() */
