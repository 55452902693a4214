/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/h2_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOW_DEFAULT = 65535, STREAM_ID_MAX = 0x7fffffff };

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

static void frame_header(uint8_t out[H2_FRAME_HEADER], size_t len, uint8_t type, uint8_t flags, uint32_t id)
{
	out[0] = (uint8_t)(len >> 16);
	out[1] = (uint8_t)(len >> 8);
	out[2] = (uint8_t)len;
	out[3] = type;
	out[4] = flags;
	h2_put_u32(out + 5, id);
}

void h2_frame(struct h2 *h, uint8_t type, uint8_t flags, uint32_t id, const void *payload, size_t len)
{
	uint8_t header[H2_FRAME_HEADER];
	frame_header(header, len, type, flags, id);
	if (!buffer_reserve(&h->output, sizeof(header) + len)) {
		h->failed = true;
		return;
	}
	buffer_append(&h->output, header, sizeof(header));
	buffer_append(&h->output, payload, len);
}

void h2_frame_u32(struct h2 *h, uint8_t type, uint32_t id, uint32_t value)
{
	uint8_t payload[4];
	h2_put_u32(payload, value);
	h2_frame(h, type, 0, id, payload, sizeof(payload));
}

static size_t put_setting(uint8_t *out, enum h2_setting setting, uint32_t value)
{
	out[0] = 0;
	out[1] = (uint8_t)setting;
	h2_put_u32(out + 2, value);
	return 6;
}

int h2_new(bool server, const struct h2_events *events, void *arg, struct h2 **out)
{
	struct h2 *h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;

	h->events = events;
	h->arg = arg;
	h->server = server;
	h->next_id = 1;
	h->peer_max_streams = H2_STREAMS_MAX;
	h->peer_stream_window = h->send_window = WINDOW_DEFAULT;
	h->recv_window = H2_CONNECTION_WINDOW;
	h->parse = server ? PARSE_PREFACE : PARSE_HEADER;

	uint8_t settings[24];
	size_t n = 0;
	if (!server) {
		h->failed = buffer_append(&h->output, preface, sizeof(preface) - 1) < 0;
		n += put_setting(settings, SETTING_ENABLE_PUSH, 0);
	}
	n += put_setting(settings + n, SETTING_MAX_STREAMS, H2_STREAMS_MAX);
	n += put_setting(settings + n, SETTING_INITIAL_WINDOW, H2_STREAM_WINDOW);
	n += put_setting(settings + n, SETTING_MAX_HEADER_LIST, H2_HEADERS_MAX);
	h2_frame(h, FRAME_SETTINGS, 0, 0, settings, n);
	h2_frame_u32(h, FRAME_WINDOW_UPDATE, 0, H2_CONNECTION_WINDOW - WINDOW_DEFAULT);
	if (h->failed) {
		h2_free(h);
		return -ENOMEM;
	}
	*out = h;
	return 0;
}

void h2_free(struct h2 *h)
{
	if (!h)
		return;

	h2_stop(h);
	buffer_done(&h->output);
	buffer_done(&h->frame);
	buffer_done(&h->block);
	h2_decoder_free(h->decoder);
	free(h->streams);
	free(h);
}

void h2_stop(struct h2 *h)
{
	h->stopped = true;
	if (h->budget)
		h->budget->held -= h->held;
	h->budget = NULL;
}

struct buffer *h2_output(struct h2 *h)
{
	return &h->output;
}

const char *h2_fault(const struct h2 *h, enum drop_reason *reason)
{
	*reason = h->fault_reason;
	return h->fault ? h->fault : "no fault";
}

/* --- streams --- */

size_t h2_stream_count(const struct h2 *h)
{
	return h->stream_count;
}

struct h2_stream *h2_stream_at(const struct h2 *h, size_t i)
{
	return h->streams[i];
}

/* Index of the first stream whose id is not below. */
static size_t stream_index(const struct h2 *h, uint32_t id)
{
	size_t low = 0, high = h->stream_count;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (h->streams[middle]->id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct h2_stream *h2_find(const struct h2 *h, uint32_t id)
{
	size_t i = stream_index(h, id);
	return i < h->stream_count && h->streams[i]->id == id ? h->streams[i] : NULL;
}

int h2_add(struct h2 *h, struct h2_stream *s, uint32_t id)
{
	if (h->stream_count == h->stream_cap) {
		uint16_t cap = h->stream_cap ? (uint16_t)(h->stream_cap * 2) : 4;
		struct h2_stream **streams = realloc(h->streams, cap * sizeof(*streams));
		if (!streams)
			return -ENOMEM;
		h->streams = streams;
		h->stream_cap = cap;
	}
	s->id = id;
	s->send_window = h->peer_stream_window;
	h2_window_init(s);
	h->streams[h->stream_count++] = s; /* ids only grow, so this keeps the order */
	return 0;
}

void h2_remove(struct h2 *h, struct h2_stream *s)
{
	size_t i = stream_index(h, s->id);
	h2_window_done(h, s);
	h->stream_count--;
	memmove(h->streams + i, h->streams + i + 1, (h->stream_count - i) * sizeof(*h->streams));
	s->id = 0;
}

bool h2_is_closing(const struct h2 *h)
{
	return h->goaway_sent || h->goaway_received;
}

bool h2_can_open(const struct h2 *h)
{
	return !h->stopped && !h2_is_closing(h) && h->next_id <= STREAM_ID_MAX && h->stream_count < H2_STREAMS_MAX &&
	       h->stream_count < h->peer_max_streams;
}

int h2_open(struct h2 *h, struct h2_stream *s, const struct h2_connect *request)
{
	struct buffer block = { 0 };
	int rc = h2_encode_connect(request, &block);
	if (rc == 0 && block.len > H2_FRAME_MAX)
		rc = -E2BIG;
	if (rc == 0)
		rc = h2_add(h, s, h->next_id);
	if (rc == 0) {
		h->next_id += 2;
		h2_frame(h, FRAME_HEADERS, FLAG_END_HEADERS, s->id, buffer_head(&block), block.len);
	}
	buffer_done(&block);
	return rc;
}

int h2_respond(struct h2 *h, struct h2_stream *s, int status, bool end)
{
	struct buffer block = { 0 };
	int rc = h2_encode_status(status, &block);
	if (rc == 0) {
		uint8_t flags = FLAG_END_HEADERS | (end ? FLAG_END_STREAM : 0);
		h2_frame(h, FRAME_HEADERS, flags, s->id, buffer_head(&block), block.len);
		s->answered = true;
		s->local_end = end;
		if (end && s->remote_end)
			h2_remove(h, s);
	}
	buffer_done(&block);
	return rc;
}

/* --- sending --- */

size_t h2_credit(const struct h2 *h, const struct h2_stream *s)
{
	if (s->id == 0 || s->local_end)
		return 0;
	int32_t least = s->send_window < h->send_window ? s->send_window : h->send_window;
	return least > 0 ? (size_t)least : 0;
}

void h2_data_header(struct h2 *h, struct h2_stream *s, size_t len, bool end, uint8_t out[H2_FRAME_HEADER])
{
	frame_header(out, len, FRAME_DATA, end ? FLAG_END_STREAM : 0, s->id);
	s->send_window -= (int32_t)len;
	h->send_window -= (int32_t)len;
	if (!end)
		return;
	s->local_end = true;
	if (s->remote_end)
		h2_remove(h, s);
}

void h2_end(struct h2 *h, struct h2_stream *s)
{
	if (s->id == 0 || s->local_end)
		return;

	s->local_end = true;
	h2_frame(h, FRAME_DATA, FLAG_END_STREAM, s->id, NULL, 0);
	if (s->remote_end)
		h2_remove(h, s);
}

void h2_reset(struct h2 *h, struct h2_stream *s, enum h2_code code)
{
	if (s->id == 0)
		return;

	h2_frame_u32(h, FRAME_RST_STREAM, s->id, code);
	h2_remove(h, s);
}

void h2_ping(struct h2 *h)
{
	static const uint8_t opaque[8] = "weft";
	h2_frame(h, FRAME_PING, 0, 0, opaque, sizeof(opaque));
}

void h2_goaway(struct h2 *h, enum h2_code code)
{
	if (h->goaway_sent && code == H2_NO_ERROR)
		return;
	if (!h->goaway_sent)
		h->goaway_id = h->last_peer_id;
	h->goaway_sent = true;
	uint8_t payload[8];
	h2_put_u32(payload, h->goaway_id);
	h2_put_u32(payload + 4, code);
	h2_frame(h, FRAME_GOAWAY, 0, 0, payload, sizeof(payload));
}
