/* SPDX-License-Identifier: Apache-2.0 */
/* Frames other than DATA and headers, and what a peer may cost us. */
#include "agent/helper/h2_internal.h"

#include <errno.h>

/* Peers send a few SETTINGS and PINGs in a connection's life; those that measure bandwidth with PINGs some a second. */
enum { NOISE_BURST = 1000, NOISE_PER_S = 100 };
/* Requests that the peer gives up before they are answered (CVE-2023-44487). */
enum { RESETS_BURST = 200, RESETS_PER_S = 50 };

int h2_fail_as(struct h2 *h, enum h2_code code, enum drop_reason reason, const char *fault)
{
	if (!h->fault) {
		h->fault = fault;
		h->fault_reason = reason;
		h2_goaway(h, code);
	}
	return -EPROTO;
}

int h2_fail(struct h2 *h, enum h2_code code, const char *fault)
{
	return h2_fail_as(h, code, DROP_HBONE_PROTOCOL, fault);
}

int h2_flood(struct h2 *h, const char *fault)
{
	return h2_fail_as(h, H2_ENHANCE_YOUR_CALM, DROP_HBONE_FLOOD, fault);
}

static int ration(struct h2 *h, struct h2_bucket *b, uint32_t burst, uint32_t per_s, const char *fault)
{
	if (b->at_s == 0 || h->now_s - b->at_s >= burst / per_s)
		b->tokens = burst;
	else
		b->tokens += (uint32_t)(h->now_s - b->at_s) * per_s;
	if (b->tokens > burst)
		b->tokens = burst;
	b->at_s = h->now_s;
	if (b->tokens == 0)
		return h2_flood(h, fault);
	b->tokens--;
	return 0;
}

int h2_ration_noise(struct h2 *h, const char *fault)
{
	return ration(h, &h->noise, NOISE_BURST, NOISE_PER_S, fault);
}

int h2_ration_resets(struct h2 *h, const char *fault)
{
	return ration(h, &h->resets, RESETS_BURST, RESETS_PER_S, fault);
}

void h2_stream_error(struct h2 *h, struct h2_stream *s, enum h2_code code)
{
	h2_reset(h, s, code);
	h->events->on_reset(s, code, h->arg);
}

/* A stream id that was never used: frames for it, other than HEADERS to a server, are an error (RFC 9113, 5.1). */
bool h2_is_idle(const struct h2 *h, uint32_t id)
{
	if (id % 2 == 0)
		return true;
	return h->server ? id > h->last_peer_id : id >= h->next_id;
}

int h2_on_rst_stream(struct h2 *h, const uint8_t *p, size_t len)
{
	if (len != 4)
		return h2_fail(h, H2_FRAME_SIZE_ERROR, "RST_STREAM of a wrong size");
	if (h->frame_id == 0 || h2_is_idle(h, h->frame_id))
		return h2_fail(h, H2_PROTOCOL_ERROR, "RST_STREAM on a stream that is not open");

	struct h2_stream *s = h2_find(h, h->frame_id);
	if (!s)
		return h2_ration_noise(h, "a flood of RST_STREAM");
	bool hasty = h->server && !s->answered;
	h2_remove(h, s);
	h->events->on_reset(s, h2_u32(p), h->arg);
	if (!hasty)
		return 0;
	return h2_ration_resets(h, "a flood of requests that are reset at once");
}

static int on_initial_window(struct h2 *h, uint32_t value)
{
	if (value > INT32_MAX)
		return h2_fail(h, H2_FLOW_CONTROL_ERROR, "SETTINGS with an impossible window");
	int64_t change = (int64_t)value - h->peer_stream_window;
	for (size_t i = 0; i < h->stream_count; i++) {
		int64_t window = h->streams[i]->send_window + change;
		if (window > INT32_MAX)
			return h2_fail(h, H2_FLOW_CONTROL_ERROR, "SETTINGS that overflow a window");
		h->streams[i]->send_window = (int32_t)window; /* may become negative (RFC 9113, 6.9.2) */
	}
	h->peer_stream_window = (int32_t)value;
	if (change > 0)
		h->events->on_window(NULL, h->arg);
	return 0;
}

static int on_setting(struct h2 *h, uint16_t setting, uint32_t value)
{
	if (setting == SETTING_INITIAL_WINDOW)
		return on_initial_window(h, value);
	if (setting == SETTING_MAX_STREAMS)
		h->peer_max_streams = value;
	if (setting == SETTING_MAX_FRAME && (value < H2_FRAME_MAX || value > 0xffffff))
		return h2_fail(h, H2_PROTOCOL_ERROR, "SETTINGS with an impossible frame size");
	if (setting == SETTING_ENABLE_PUSH && (value > 1 || (value && !h->server)))
		return h2_fail(h, H2_PROTOCOL_ERROR, "SETTINGS with an impossible ENABLE_PUSH");
	return 0;
}

int h2_on_settings(struct h2 *h, const uint8_t *p, size_t len)
{
	if (h->frame_id != 0)
		return h2_fail(h, H2_PROTOCOL_ERROR, "SETTINGS on a stream");
	if (h->flags & FLAG_ACK)
		return len ? h2_fail(h, H2_FRAME_SIZE_ERROR, "SETTINGS acknowledgement with a payload") : 0;
	if (len % 6)
		return h2_fail(h, H2_FRAME_SIZE_ERROR, "SETTINGS of a wrong size");
	if (h2_ration_noise(h, "a flood of SETTINGS") < 0)
		return -EPROTO;

	for (size_t at = 0; at < len; at += 6)
		if (on_setting(h, (uint16_t)(p[at] << 8 | p[at + 1]), h2_u32(p + at + 2)) < 0)
			return -EPROTO;
	h2_frame(h, FRAME_SETTINGS, FLAG_ACK, 0, NULL, 0);
	if (!h->settings_seen) {
		h->settings_seen = true;
		h->events->on_settings(h->arg);
	}
	return 0;
}

int h2_on_ping(struct h2 *h, const uint8_t *p, size_t len)
{
	if (h->frame_id != 0)
		return h2_fail(h, H2_PROTOCOL_ERROR, "PING on a stream");
	if (len != 8)
		return h2_fail(h, H2_FRAME_SIZE_ERROR, "PING of a wrong size");
	if (h2_ration_noise(h, "a flood of PING") < 0)
		return -EPROTO;
	if (h->flags & FLAG_ACK)
		h->events->on_pong(h->arg);
	else
		h2_frame(h, FRAME_PING, FLAG_ACK, 0, p, len);
	return 0;
}

int h2_on_goaway(struct h2 *h, const uint8_t *p, size_t len)
{
	if (h->frame_id != 0 || len < 8)
		return h2_fail(h, H2_PROTOCOL_ERROR, "a malformed GOAWAY");
	if (h2_ration_noise(h, "a flood of GOAWAY") < 0)
		return -EPROTO;

	h->goaway_received = true;
	uint32_t last = h2_u32(p) & 0x7fffffff;
	/* From the end: those that are removed do not move what is still to be visited. */
	for (size_t i = h->stream_count; !h->server && i-- > 0 && i < h->stream_count;) {
		struct h2_stream *s = h->streams[i];
		if (s->id <= last)
			break;
		h2_remove(h, s);
		h->events->on_reset(s, H2_REFUSED_STREAM, h->arg);
	}
	h->events->on_goaway(h2_u32(p + 4), h->arg);
	return 0;
}

int h2_on_window_update(struct h2 *h, const uint8_t *p, size_t len)
{
	if (len != 4)
		return h2_fail(h, H2_FRAME_SIZE_ERROR, "WINDOW_UPDATE of a wrong size");
	uint32_t by = h2_u32(p) & 0x7fffffff;
	if (h->frame_id == 0) {
		if (by == 0 || (int64_t)h->send_window + by > INT32_MAX)
			return h2_fail(h, by ? H2_FLOW_CONTROL_ERROR : H2_PROTOCOL_ERROR, "a malformed WINDOW_UPDATE");
		bool was_shut = h->send_window <= 0;
		h->send_window += (int32_t)by;
		if (was_shut)
			h->events->on_window(NULL, h->arg);
		return 0;
	}
	if (h2_is_idle(h, h->frame_id))
		return h2_fail(h, H2_PROTOCOL_ERROR, "WINDOW_UPDATE on a stream that is not open");

	struct h2_stream *s = h2_find(h, h->frame_id);
	if (!s)
		return 0;
	if (by == 0 || (int64_t)s->send_window + by > INT32_MAX) {
		h2_stream_error(h, s, by ? H2_FLOW_CONTROL_ERROR : H2_PROTOCOL_ERROR);
		return h2_ration_noise(h, "a flood of malformed WINDOW_UPDATE");
	}
	bool was_shut = s->send_window <= 0;
	s->send_window += (int32_t)by;
	if (was_shut)
		h->events->on_window(s, h->arg);
	return 0;
}
