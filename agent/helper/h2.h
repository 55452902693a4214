/* SPDX-License-Identifier: Apache-2.0 */
/* One HTTP/2 connection that carries CONNECT streams (RFC 9113), either side. It frames, keeps the flow-control
 * windows exactly, and limits what a peer may make us do. It never copies DATA: received payload is handed out where
 * it lies, and sent DATA is framed by its owner in place (h2_data_header). Everything else to be sent collects in
 * h2_output(). No I/O, no clock; one owner, one thread. Callbacks may call any function here but h2_free(). */
#pragma once

#include "agent/helper/h2_headers.h"
#include "bpf/reason.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffer;
struct h2;

enum {
	H2_FRAME_HEADER = 9,
	H2_FRAME_MAX = 16384,
	H2_STREAMS_MAX = 100,
	H2_STREAM_WINDOW = 128 << 10,	/* at first */
	H2_STREAM_WINDOW_MAX = 4 << 20, /* of a stream whose bytes are taken as fast as they come */
	H2_GROWN_MAX = 16 << 20,	/* what all streams of a connection may have grown by */
	H2_CONNECTION_WINDOW = 16 << 20,
	/* Unconsumed bytes beyond which the connection's window shrinks: more than its streams can have at once. */
	H2_HELD_MAX = H2_STREAMS_MAX * H2_STREAM_WINDOW + H2_GROWN_MAX,
};

/* What connections together hold of received bytes. Beyond the limit those that hold some get no more credit for it. */
struct h2_budget {
	uint64_t held, limit;
};

enum h2_code {
	H2_NO_ERROR,
	H2_PROTOCOL_ERROR,
	H2_INTERNAL_ERROR,
	H2_FLOW_CONTROL_ERROR,
	H2_SETTINGS_TIMEOUT,
	H2_STREAM_CLOSED,
	H2_FRAME_SIZE_ERROR,
	H2_REFUSED_STREAM,
	H2_CANCEL,
	H2_COMPRESSION_ERROR,
	H2_CONNECT_ERROR,
	H2_ENHANCE_YOUR_CALM,
};

/* Embedded in the owner's stream; zeroed before use. */
struct h2_stream {
	uint32_t id; /* 0: not open (any more) */
	int32_t send_window, recv_window;
	uint32_t unreturned; /* consumed bytes that no WINDOW_UPDATE has told yet */
	uint32_t window;     /* what the peer may have under way, or unconsumed here */
	uint32_t taken;	     /* bytes consumed in the second taken_s */
	uint32_t taken_s;
	bool local_end, remote_end;
	bool answered; /* response headers were sent or received */
};

struct h2_events {
	/* Server: a request comes; memory for its stream, or NULL to refuse it. */
	struct h2_stream *(*stream_new)(void *arg);
	void (*on_request)(struct h2_stream *s, const struct h2_request *request, void *arg);
	void (*on_response)(struct h2_stream *s, int status, void *arg); /* client; 0: malformed */
	void (*on_data)(struct h2_stream *s, const uint8_t *bytes, size_t len, void *arg);
	void (*on_end)(struct h2_stream *s, void *arg);
	/* The stream is gone: RST_STREAM, or (H2_REFUSED_STREAM) a GOAWAY that does not cover it. */
	void (*on_reset)(struct h2_stream *s, uint32_t code, void *arg);
	void (*on_window)(struct h2_stream *s, void *arg); /* more may be sent; NULL: on any stream */
	void (*on_goaway)(uint32_t code, void *arg);
	void (*on_settings)(void *arg); /* the peer's first SETTINGS: it speaks HTTP/2 */
	void (*on_pong)(void *arg);
};

/* 0 or -ENOMEM. Preface, SETTINGS and the connection's window are in the output at once. */
int h2_new(bool server, const struct h2_events *events, void *arg, struct h2 **out);
void h2_free(struct h2 *h);
void h2_share(struct h2 *h, struct h2_budget *budget); /* before the first input; borrowed until h2_stop() */
/* No callback after this; a running h2_input() returns. */
void h2_stop(struct h2 *h);

/* Parses any piece of the peer's bytes. now_s: any monotonic clock in seconds, for the limits.
 * 0, -ECANCELED (stopped) or -EPROTO: the connection is over, a GOAWAY is in the output, h2_fault() says why. */
int h2_input(struct h2 *h, const uint8_t *bytes, size_t len, uint64_t now_s);
/* The sentence and the reason (HBONE_PROTOCOL, HBONE_FLOOD or NO_MEMORY) of -EPROTO. */
const char *h2_fault(const struct h2 *h, enum drop_reason *reason);
struct buffer *h2_output(struct h2 *h); /* to be sent and consumed by the owner */

size_t h2_stream_count(const struct h2 *h);
struct h2_stream *h2_stream_at(const struct h2 *h, size_t i);
/* Client: whether another stream may be opened now; false for good after a GOAWAY or when ids run out. */
bool h2_can_open(const struct h2 *h);
bool h2_is_closing(const struct h2 *h);						  /* a GOAWAY was sent or received */
int h2_open(struct h2 *h, struct h2_stream *s, const struct h2_connect *request); /* 0 or -ENOMEM */
int h2_respond(struct h2 *h, struct h2_stream *s, int status, bool end);	  /* 0 or -ENOMEM */

/* Bytes that may be sent as DATA on the stream now. */
size_t h2_credit(const struct h2 *h, const struct h2_stream *s);
/* The header of a DATA frame with len bytes (at most h2_credit() and H2_FRAME_MAX), which the owner sends behind all
 * that is in the output now. Takes them from the windows. end: as h2_end(), with this frame. */
void h2_data_header(struct h2 *h, struct h2_stream *s, size_t len, bool end, uint8_t out[H2_FRAME_HEADER]);
void h2_end(struct h2 *h, struct h2_stream *s); /* END_STREAM; closes the stream when the peer ended, too */
void h2_reset(struct h2 *h, struct h2_stream *s, enum h2_code code); /* closes the stream; no callback */
/* len bytes from on_data are dealt with; also for streams that are closed (NULL). Returns the stream's credit to the
 * peer; the connection's was returned when they came, as far as the budgets go: what one stream holds stops no other. */
void h2_consumed(struct h2 *h, struct h2_stream *s, size_t len);
void h2_review(struct h2 *h); /* now and then: returns what waited for the shared budget */

void h2_ping(struct h2 *h);
/* Announces that no further stream of the peer is accepted. Once. */
void h2_goaway(struct h2 *h, enum h2_code code);
