/* SPDX-License-Identifier: Apache-2.0 */
/* Between h2.c (streams, sending), h2_input.c (parsing, DATA, headers), h2_window.c (what the peer may send) and
 * h2_control.c (other frames, limits). */
#pragma once

#include "agent/helper/buffer.h"
#include "agent/helper/h2.h"

enum h2_frame_type {
	FRAME_DATA,
	FRAME_HEADERS,
	FRAME_PRIORITY,
	FRAME_RST_STREAM,
	FRAME_SETTINGS,
	FRAME_PUSH_PROMISE,
	FRAME_PING,
	FRAME_GOAWAY,
	FRAME_WINDOW_UPDATE,
	FRAME_CONTINUATION,
};

enum { FLAG_END_STREAM = 1, FLAG_ACK = 1, FLAG_END_HEADERS = 4, FLAG_PADDED = 8, FLAG_PRIORITY = 32 };

enum h2_setting {
	SETTING_HEADER_TABLE_SIZE = 1,
	SETTING_ENABLE_PUSH,
	SETTING_MAX_STREAMS,
	SETTING_INITIAL_WINDOW,
	SETTING_MAX_FRAME,
	SETTING_MAX_HEADER_LIST,
};

enum h2_parse {
	PARSE_PREFACE, /* server: the client's 24 bytes */
	PARSE_HEADER,  /* the 9 bytes before a frame */
	PARSE_PAD_LEN, /* DATA with padding: its length */
	PARSE_DATA,    /* handed out as it comes */
	PARSE_PADDING, /* skipped */
	PARSE_PAYLOAD, /* other frames: collected */
};

/* A token bucket in whole seconds. */
struct h2_bucket {
	uint32_t tokens;
	uint64_t at_s;
};

struct h2 {
	const struct h2_events *events;
	void *arg;
	struct buffer output;
	struct h2_stream **streams; /* sorted by id; at most H2_STREAMS_MAX */
	uint16_t stream_count, stream_cap;
	bool server, stopped, settings_seen, goaway_sent, goaway_received, failed;
	uint32_t next_id;      /* client: of the next stream */
	uint32_t last_peer_id; /* server: highest that the client has used */
	uint32_t goaway_id;    /* highest that our GOAWAY covers; must not grow (RFC 9113, 6.8) */
	uint32_t peer_max_streams;
	int32_t peer_stream_window;
	int32_t send_window, recv_window;
	uint32_t held;	/* received and not consumed */
	uint32_t grown; /* by how much the windows of streams are larger than at first */
	struct h2_budget *budget;

	/* Parser */
	enum h2_parse parse;
	uint8_t head[24]; /* frame header or preface, as far as it has come */
	uint8_t head_len;
	uint8_t type, flags;
	uint8_t pad;
	uint32_t frame_id, left; /* bytes of the payload still to come */
	struct buffer frame;	 /* a payload that did not come in one piece */
	struct buffer block;	 /* headers until END_HEADERS */
	uint32_t block_id;	 /* 0: none */
	uint8_t block_flags;
	struct h2_decoder *decoder;
	struct h2_bucket noise, resets;
	uint64_t now_s;
	const char *fault;
	enum drop_reason fault_reason;
};

struct h2_stream *h2_find(const struct h2 *h, uint32_t id);
int h2_add(struct h2 *h, struct h2_stream *s, uint32_t id); /* 0 or -ENOMEM */
void h2_remove(struct h2 *h, struct h2_stream *s);
/* Appends a frame; a failed allocation fails the connection (`failed`, seen by the next h2_input()). */
void h2_frame(struct h2 *h, uint8_t type, uint8_t flags, uint32_t id, const void *payload, size_t len);
void h2_frame_u32(struct h2 *h, uint8_t type, uint32_t id, uint32_t value);

/* h2_window.c: what we let the peer send. */
void h2_received(struct h2 *h, size_t len); /* a DATA frame, of any stream */
void h2_window_init(struct h2_stream *s);
void h2_window_done(struct h2 *h, struct h2_stream *s);

/* h2_control.c. The first fault stands and puts a GOAWAY into the output; all return -EPROTO. */
int h2_fail_as(struct h2 *h, enum h2_code code, enum drop_reason reason, const char *fault);
int h2_fail(struct h2 *h, enum h2_code code, const char *fault); /* HBONE_PROTOCOL */
int h2_flood(struct h2 *h, const char *fault);			 /* HBONE_FLOOD */
/* 0 while the peer stays within what it may cost us. */
int h2_ration_noise(struct h2 *h, const char *fault);
int h2_ration_resets(struct h2 *h, const char *fault);
void h2_stream_error(struct h2 *h, struct h2_stream *s, enum h2_code code); /* resets it and tells its owner */
bool h2_is_idle(const struct h2 *h, uint32_t id);
int h2_on_rst_stream(struct h2 *h, const uint8_t *p, size_t len);
int h2_on_settings(struct h2 *h, const uint8_t *p, size_t len);
int h2_on_ping(struct h2 *h, const uint8_t *p, size_t len);
int h2_on_goaway(struct h2 *h, const uint8_t *p, size_t len);
int h2_on_window_update(struct h2 *h, const uint8_t *p, size_t len);

static inline uint32_t h2_u32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline void h2_put_u32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}
