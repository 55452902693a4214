/* SPDX-License-Identifier: Apache-2.0 */
/* Parsing of what a peer sends. The peer is authenticated but not trusted: frames may come in any pieces and break any
 * rule. A rule that concerns one stream resets that stream; one that concerns the connection (framing, HPACK state,
 * flow control of the whole) ends it. What costs us work and the peer nothing is rationed: see h2_control.c. */
#include "agent/helper/h2_internal.h"

#include <errno.h>
#include <string.h>

enum { BLOCK_MAX = 2 * H2_HEADERS_MAX, CONTINUATIONS_MIN_BYTES = 16 };

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/* The peer is done with sending on the stream. */
static void remote_end(struct h2 *h, struct h2_stream *s)
{
	s->remote_end = true;
	bool closed = s->local_end;
	if (closed)
		h2_remove(h, s);
	h->events->on_end(s, h->arg);
}

/* --- DATA --- */

static int on_data_header(struct h2 *h)
{
	if (h->frame_id == 0 || h2_is_idle(h, h->frame_id))
		return h2_fail(h, H2_PROTOCOL_ERROR, "DATA on a stream that is not open");
	if (h->left == 0 && !(h->flags & FLAG_END_STREAM) && h2_ration_noise(h, "a flood of empty DATA") < 0)
		return -EPROTO;
	if ((h->flags & FLAG_PADDED) && h->left == 0)
		return h2_fail(h, H2_FRAME_SIZE_ERROR, "DATA with a padding that it has no room for");

	if ((int64_t)h->left > h->recv_window)
		return h2_fail(h, H2_FLOW_CONTROL_ERROR, "DATA beyond the connection's window");
	h2_received(h, h->left);
	struct h2_stream *s = h2_find(h, h->frame_id);
	if (s && (s->remote_end || (int64_t)h->left > s->recv_window)) {
		h2_stream_error(h, s, s->remote_end ? H2_STREAM_CLOSED : H2_FLOW_CONTROL_ERROR);
		s = NULL;
	}
	if (s)
		s->recv_window -= (int32_t)h->left;
	h->parse = h->flags & FLAG_PADDED ? PARSE_PAD_LEN : PARSE_DATA;
	h->pad = 0;
	return 0;
}

static void data_done(struct h2 *h)
{
	h->parse = PARSE_HEADER;
	if (!(h->flags & FLAG_END_STREAM))
		return;
	struct h2_stream *s = h2_find(h, h->frame_id);
	if (s && !s->remote_end)
		remote_end(h, s);
}

static size_t on_pad_len(struct h2 *h, const uint8_t *bytes)
{
	h->pad = bytes[0];
	h->left--;
	h2_consumed(h, h2_find(h, h->frame_id), 1);
	if (h->pad > h->left) {
		h2_fail(h, H2_PROTOCOL_ERROR, "DATA with more padding than payload");
		return 1;
	}
	h->parse = PARSE_DATA;
	return 1;
}

static size_t on_data_bytes(struct h2 *h, const uint8_t *bytes, size_t len)
{
	size_t n = h->left - h->pad;
	if (n > len)
		n = len;
	h->left -= (uint32_t)n;
	if (n) {
		struct h2_stream *s = h2_find(h, h->frame_id);
		if (s && (s->answered || h->server))
			h->events->on_data(s, bytes, n, h->arg);
		else
			h2_consumed(h, NULL, n);
	}
	if (h->left == h->pad)
		h->parse = PARSE_PADDING;
	return n;
}

static size_t on_padding(struct h2 *h, size_t len)
{
	size_t n = h->left < len ? h->left : len;
	h->left -= (uint32_t)n;
	if (n)
		h2_consumed(h, h2_find(h, h->frame_id), n);
	if (h->left == 0)
		data_done(h);
	return n;
}

/* --- HEADERS, CONTINUATION --- */

static int on_new_request(struct h2 *h, uint32_t id, const struct h2_request *request, bool end)
{
	h->last_peer_id = id; /* also when it is refused: what follows on it is late, not wrong */
	bool refuse = h->goaway_sent || h->stream_count >= H2_STREAMS_MAX;
	struct h2_stream *s = refuse ? NULL : h->events->stream_new(h->arg);
	if (!s) {
		h2_frame_u32(h, FRAME_RST_STREAM, id, H2_REFUSED_STREAM);
		return h2_ration_resets(h, "a flood of requests beyond the limit");
	}
	if (h2_add(h, s, id) < 0)
		return h2_fail_as(h, H2_INTERNAL_ERROR, DROP_NO_MEMORY, "out of memory");
	h->events->on_request(s, request, h->arg);
	if (end && h2_find(h, id) == s)
		remote_end(h, s);
	return 0;
}

static int on_request_block(struct h2 *h, uint32_t id, bool end, const uint8_t *block, size_t len)
{
	struct h2_request request;
	int rc = h2_decode_request(&h->decoder, block, len, &request);
	if (rc == -E2BIG)
		return h2_flood(h, "a header list beyond the limit");
	if (rc < 0)
		return h2_fail(h, H2_COMPRESSION_ERROR, "headers that do not decompress");

	struct h2_stream *s = h2_find(h, id);
	if (!s && id > h->last_peer_id)
		return on_new_request(h, id, &request, end);
	if (!s)
		return h2_ration_noise(h, "a flood of HEADERS on closed streams");
	if (s->remote_end || !end)
		h2_stream_error(h, s, s->remote_end ? H2_STREAM_CLOSED : H2_PROTOCOL_ERROR);
	else
		remote_end(h, s); /* trailers */
	return 0;
}

static int on_response_block(struct h2 *h, uint32_t id, bool end, const uint8_t *block, size_t len)
{
	int status;
	int rc = h2_decode_response(&h->decoder, block, len, &status);
	if (rc == -E2BIG)
		return h2_flood(h, "a header list beyond the limit");
	if (rc < 0)
		return h2_fail(h, H2_COMPRESSION_ERROR, "headers that do not decompress");

	struct h2_stream *s = h2_find(h, id);
	if (!s)
		return 0;
	if (s->remote_end || (s->answered && !end) || (!s->answered && status < 200 && (end || status < 100))) {
		h2_stream_error(h, s, s->remote_end ? H2_STREAM_CLOSED : H2_PROTOCOL_ERROR);
		return 0;
	}
	if (!s->answered && status < 200)
		return h2_ration_noise(h, "a flood of interim responses");
	if (!s->answered) {
		s->answered = true;
		h->events->on_response(s, status, h->arg);
	}
	if (end && h2_find(h, id) == s)
		remote_end(h, s);
	return 0;
}

static int on_block(struct h2 *h, uint32_t id, uint8_t flags, const uint8_t *block, size_t len)
{
	bool end = flags & FLAG_END_STREAM;
	return h->server ? on_request_block(h, id, end, block, len) : on_response_block(h, id, end, block, len);
}

static int on_headers(struct h2 *h, const uint8_t *p, size_t len)
{
	uint32_t id = h->frame_id;
	if (id % 2 == 0 || (!h->server && h2_is_idle(h, id)))
		return h2_fail(h, H2_PROTOCOL_ERROR, "HEADERS on a stream that may not be opened");

	size_t pad = 0;
	if (h->flags & FLAG_PADDED) {
		if (len == 0)
			return h2_fail(h, H2_FRAME_SIZE_ERROR, "HEADERS with a padding that it has no room for");
		pad = *p++;
		len--;
	}
	if (h->flags & FLAG_PRIORITY) {
		if (len < 5)
			return h2_fail(h, H2_FRAME_SIZE_ERROR, "HEADERS with a priority that it has no room for");
		p += 5;
		len -= 5;
	}
	if (pad > len)
		return h2_fail(h, H2_PROTOCOL_ERROR, "HEADERS with more padding than payload");
	len -= pad;
	if (h->flags & FLAG_END_HEADERS)
		return on_block(h, id, h->flags, p, len);

	if (buffer_append(&h->block, p, len) < 0)
		return h2_fail_as(h, H2_INTERNAL_ERROR, DROP_NO_MEMORY, "out of memory");
	h->block_id = id;
	h->block_flags = h->flags;
	return 0;
}

static int on_continuation(struct h2 *h, const uint8_t *p, size_t len)
{
	if (h->block_id == 0)
		return h2_fail(h, H2_PROTOCOL_ERROR, "CONTINUATION without HEADERS");
	if (h->block.len + len > BLOCK_MAX)
		return h2_flood(h, "a header block beyond the limit");
	bool last = h->flags & FLAG_END_HEADERS;
	if (!last && len < CONTINUATIONS_MIN_BYTES && h2_ration_noise(h, "a flood of CONTINUATION") < 0)
		return -EPROTO;
	if (buffer_append(&h->block, p, len) < 0)
		return h2_fail_as(h, H2_INTERNAL_ERROR, DROP_NO_MEMORY, "out of memory");
	if (!last)
		return 0;

	struct buffer block = h->block;
	uint32_t id = h->block_id;
	h->block = (struct buffer){ 0 };
	h->block_id = 0;
	int rc = on_block(h, id, h->block_flags, buffer_head(&block), block.len);
	buffer_done(&block);
	return rc;
}

static int on_frame(struct h2 *h, const uint8_t *p, size_t len)
{
	switch (h->type) {
	case FRAME_HEADERS:
		return on_headers(h, p, len);
	case FRAME_CONTINUATION:
		return on_continuation(h, p, len);
	case FRAME_RST_STREAM:
		return h2_on_rst_stream(h, p, len);
	case FRAME_SETTINGS:
		return h2_on_settings(h, p, len);
	case FRAME_PING:
		return h2_on_ping(h, p, len);
	case FRAME_GOAWAY:
		return h2_on_goaway(h, p, len);
	case FRAME_WINDOW_UPDATE:
		return h2_on_window_update(h, p, len);
	case FRAME_PUSH_PROMISE:
		return h2_fail(h, H2_PROTOCOL_ERROR, "PUSH_PROMISE, which was not allowed");
	case FRAME_PRIORITY:
		if (len != 5)
			return h2_fail(h, H2_FRAME_SIZE_ERROR, "PRIORITY of a wrong size");
		return h2_ration_noise(h, "a flood of PRIORITY");
	default: /* RFC 9113, 5.5: ignored */
		return h2_ration_noise(h, "a flood of unknown frames");
	}
}

/* --- the parser --- */

static int on_frame_header(struct h2 *h)
{
	const uint8_t *p = h->head;
	h->head_len = 0;
	h->left = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
	h->type = p[3];
	h->flags = p[4];
	h->frame_id = h2_u32(p + 5) & 0x7fffffff;
	if (h->left > H2_FRAME_MAX)
		return h2_fail(h, H2_FRAME_SIZE_ERROR, "a frame larger than was allowed");
	if (h->block_id && (h->type != FRAME_CONTINUATION || h->frame_id != h->block_id))
		return h2_fail(h, H2_PROTOCOL_ERROR, "another frame inside a header block");
	if (!h->settings_seen && (h->type != FRAME_SETTINGS || (h->flags & FLAG_ACK)))
		return h2_fail(h, H2_PROTOCOL_ERROR, "no SETTINGS at the start");
	if (h->type == FRAME_DATA)
		return on_data_header(h);
	h->parse = PARSE_PAYLOAD;
	return 0;
}

static size_t on_head_bytes(struct h2 *h, const uint8_t *bytes, size_t len, size_t want)
{
	size_t n = want - h->head_len;
	if (n > len)
		n = len;
	memcpy(h->head + h->head_len, bytes, n);
	h->head_len = (uint8_t)(h->head_len + n);
	return n;
}

static size_t on_preface(struct h2 *h, const uint8_t *bytes, size_t len)
{
	size_t n = on_head_bytes(h, bytes, len, sizeof(preface) - 1);
	if (memcmp(h->head, preface, h->head_len) != 0) {
		h2_fail(h, H2_PROTOCOL_ERROR, "not an HTTP/2 client");
	} else if (h->head_len == sizeof(preface) - 1) {
		h->head_len = 0;
		h->parse = PARSE_HEADER;
	}
	return n;
}

static size_t on_payload(struct h2 *h, const uint8_t *bytes, size_t len)
{
	size_t n = h->left < len ? h->left : len;
	h->left -= (uint32_t)n;
	if (h->left == 0 && h->frame.len == 0) {
		h->parse = PARSE_HEADER;
		on_frame(h, bytes, n);
		return n;
	}
	if (buffer_append(&h->frame, bytes, n) < 0) {
		h2_fail_as(h, H2_INTERNAL_ERROR, DROP_NO_MEMORY, "out of memory");
		return n;
	}
	if (h->left == 0) {
		struct buffer frame = h->frame;
		h->frame = (struct buffer){ 0 };
		h->parse = PARSE_HEADER;
		on_frame(h, buffer_head(&frame), frame.len);
		buffer_done(&frame);
	}
	return n;
}

static size_t parse_some(struct h2 *h, const uint8_t *bytes, size_t len)
{
	size_t n;
	switch (h->parse) {
	case PARSE_PREFACE:
		return on_preface(h, bytes, len);
	case PARSE_HEADER:
		n = on_head_bytes(h, bytes, len, H2_FRAME_HEADER);
		if (h->head_len == H2_FRAME_HEADER)
			on_frame_header(h);
		return n;
	case PARSE_PAD_LEN:
		return on_pad_len(h, bytes);
	case PARSE_DATA:
		return on_data_bytes(h, bytes, len);
	case PARSE_PADDING:
		return on_padding(h, len);
	case PARSE_PAYLOAD:
		return on_payload(h, bytes, len);
	}
	return 0;
}

/* States whose frame is complete without a further byte. */
static bool is_due(const struct h2 *h)
{
	return ((h->parse == PARSE_DATA || h->parse == PARSE_PADDING) && h->left == h->pad && h->pad == 0) ||
	       (h->parse == PARSE_PAYLOAD && h->left == 0);
}

int h2_input(struct h2 *h, const uint8_t *bytes, size_t len, uint64_t now_s)
{
	h->now_s = now_s + 1; /* 0 means never */
	while ((len > 0 || is_due(h)) && !h->stopped && !h->fault) {
		size_t n = parse_some(h, bytes, len);
		bytes += n;
		len -= n;
	}
	if (h->failed)
		h2_fail_as(h, H2_INTERNAL_ERROR, DROP_NO_MEMORY, "out of memory");
	if (h->stopped)
		return -ECANCELED;
	return h->fault ? -EPROTO : 0;
}
