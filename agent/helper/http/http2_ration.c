/* SPDX-License-Identifier: Apache-2.0 */
/* What a peer may cost us. Frame headers are read before nghttp2 sees them, so that every frame is counted, also those
 * that it ignores. Rates as for HBONE (helper/h2_control.c). */
#include "agent/helper/http/http2_internal.h"

#include "agent/base/mem.h"

/* Peers send a few SETTINGS and PINGs in a connection's life; those that measure bandwidth with PINGs some a second. */
enum { NOISE_BURST = 1000, NOISE_PER_S = 100 };
/* Streams that end before they are answered, by either side's RST_STREAM (CVE-2023-44487, CVE-2025-8671). */
enum { RESETS_BURST = 200, RESETS_PER_S = 50, HASTY_MS = 1000 };
/* WINDOW_UPDATE frames that each DATA frame of ours earns the peer; Envoy's figure. */
enum { UPDATES_PER_DATA = 10, UPDATES_MAX = 100000 };
/* What carries something earns a PING: gRPC's Go measures bandwidth with one for each round trip. */
enum { PINGS_MAX = 10000 };
/* Each stream earns one RST_STREAM: nginx, and others who answer before they have read the request, end every stream
 * so. Those that come before the answer have a ration of their own. */
enum { RSTS_MAX = 10000 };
/* Frames of one header block beyond the first; the limit of header bytes is 60 KiB, four frames. */
enum { CONTINUATIONS_MAX = 8 };

enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION };
enum { FRAME_HEADER = 9, PREFACE = 24, FLAG_ACK = 1, FLAG_END_STREAM = 1, FLAG_END_HEADERS = 4, PRIORITY_LEN = 5 };

static bool ration(struct http2_conn *c, struct http2_bucket *b, uint32_t burst, uint32_t per_s)
{
	uint32_t now_s = (uint32_t)(tick_now_ms(&c->tick) / 1000) + 1;
	uint32_t passed = now_s - b->at_s;
	if (b->at_s == 0 || passed >= burst / per_s)
		b->tokens = burst;
	else
		b->tokens += passed * per_s;
	if (b->tokens > burst)
		b->tokens = burst;
	b->at_s = now_s;
	if (b->tokens == 0) {
		c->flooded = true;
		return false;
	}
	b->tokens--;
	return true;
}

static bool noise(struct http2_conn *c)
{
	return ration(c, &c->noise, NOISE_BURST, NOISE_PER_S);
}

/* A stream that ended for the peer's sake before it was answered. One that lived for a while was worth its head; and as
 * many as are answered may be given up: timeouts of clients come in swarms. */
bool http2_ration_reset(struct http2_conn *c, const struct http2_stream *s)
{
	if (tick_now_ms(&c->tick) - s->begun_ms >= HASTY_MS)
		return true;
	return ration(c, &c->resets, RESETS_BURST, RESETS_PER_S);
}

void http2_ration_answered(struct http2_conn *c)
{
	if (c->resets.at_s && c->resets.tokens < RESETS_BURST)
		c->resets.tokens++;
}

void http2_ration_sent_data(struct http2_conn *c)
{
	if (c->window_updates < UPDATES_MAX)
		c->window_updates += UPDATES_PER_DATA;
}

static void earn(uint32_t *earned, uint32_t max)
{
	if (*earned < max)
		++*earned;
}

void http2_ration_stream(struct http2_conn *c)
{
	earn(&c->rsts, RSTS_MAX);
}

static bool spend(struct http2_conn *c, uint32_t *earned)
{
	if (*earned == 0)
		return noise(c);
	--*earned;
	return true;
}

static bool on_continuation(struct http2_conn *c)
{
	c->flooded |= ++c->scan.continuations > CONTINUATIONS_MAX;
	return !c->flooded;
}

static void on_block(struct http2_scan *scan, uint8_t flags)
{
	scan->headers = true;
	scan->last = flags & FLAG_END_HEADERS;
}

static bool on_frame(struct http2_conn *c, uint8_t type, uint8_t flags, uint32_t length)
{
	switch (type) {
	case HEADERS:
		c->scan.heads++;
		c->scan.continuations = 0;
		c->block_ms = tick_now_ms(&c->tick);
		on_block(&c->scan, flags);
		earn(&c->pings, PINGS_MAX);
		if (c->server)
			http2_ration_stream(c);
		return true;
	case CONTINUATION:
		on_block(&c->scan, flags);
		return on_continuation(c);
	case DATA:
		if (length)
			earn(&c->pings, PINGS_MAX);
		return length || (flags & FLAG_END_STREAM) || noise(c);
	case WINDOW_UPDATE:
		return spend(c, &c->window_updates);
	case RST_STREAM:
		return spend(c, &c->rsts);
	case PING:
		return (flags & FLAG_ACK) || spend(c, &c->pings);
	case SETTINGS:
		return (flags & FLAG_ACK) || noise(c);
	default:
		return noise(c); /* PRIORITY, GOAWAY and what nobody knows */
	}
}

static uint32_t u32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* A stream that depends on itself (RFC 7540 5.3.1): nothing else of a PRIORITY frame is of interest. */
static bool priority_ok(const struct http2_scan *scan)
{
	return (u32(scan->bytes + 5) & INT32_MAX) != (u32(scan->bytes + FRAME_HEADER) & INT32_MAX);
}

static void frame_over(struct http2_scan *scan)
{
	if (scan->skip == 0 && scan->last)
		scan->headers = scan->last = false;
}

/* --- frames on streams that are closed */

/* RFC 9113 5.1: after END_STREAM or RST_STREAM of the peer's own nothing comes on a stream. (What we reset is another
 * matter: frames may be on their way. nghttp2 ignores those, and knows no other closed streams.) */
static bool is_ended(const struct http2_scan *scan, uint32_t id)
{
	for (size_t i = 0; i < ARRAY_SIZE(scan->ended); i++)
		if (scan->ended[i] == id)
			return true;
	return false;
}

static void note_ended(struct http2_scan *scan, uint32_t id)
{
	scan->ended[scan->ended_at++ % ARRAY_SIZE(scan->ended)] = id;
}

/* RFC 9113 5.1.1: a new stream closes those below it that were not used. */
static bool is_skipped(const struct http2_scan *scan, uint32_t id)
{
	for (size_t i = 0; i < ARRAY_SIZE(scan->skipped); i++)
		if (id > scan->skipped[i].above && id < scan->skipped[i].below)
			return true;
	return false;
}

static void note_request(struct http2_scan *scan, uint32_t id)
{
	if (id > scan->newest + 2) {
		size_t at = scan->skipped_at++ % ARRAY_SIZE(scan->skipped);
		scan->skipped[at].above = scan->newest;
		scan->skipped[at].below = id;
	}
	scan->newest = id;
}

static enum http2_scanned on_stream_frame(struct http2_conn *c, uint8_t type, uint8_t flags, uint32_t id)
{
	struct http2_scan *scan = &c->scan;
	if (id == 0) /* nghttp2 does not look at PRIORITY */
		return type == PRIORITY ? SCAN_PROTOCOL : SCAN_OK;
	if (type == RST_STREAM) {
		note_ended(scan, id);
		return SCAN_OK;
	}
	if (type > HEADERS)
		return SCAN_OK;
	if (is_ended(scan, id))
		return SCAN_CLOSED;
	if (c->server && is_skipped(scan, id))
		return SCAN_PROTOCOL;
	if (c->server && type == HEADERS && id > scan->newest)
		note_request(scan, id);
	if (flags & FLAG_END_STREAM)
		note_ended(scan, id);
	return SCAN_OK;
}

/* --- */

static enum http2_scanned on_header(struct http2_conn *c, uint32_t length)
{
	const uint8_t *frame = c->scan.bytes;
	if (!on_frame(c, frame[3], frame[4], length))
		return SCAN_FLOOD;
	return on_stream_frame(c, frame[3], frame[4], u32(frame + 5) & INT32_MAX);
}

void http2_scan_begin(struct http2_conn *c)
{
	c->scan.skip = c->server ? PREFACE : 0;
}

enum http2_scanned http2_scan(struct http2_conn *c, const uint8_t *p, size_t len)
{
	struct http2_scan *scan = &c->scan;
	while (len) {
		if (scan->skip) {
			size_t n = scan->skip < len ? scan->skip : len;
			scan->skip -= (uint32_t)n;
			p += n;
			len -= n;
			frame_over(scan);
			continue;
		}
		scan->bytes[scan->have++] = *p++;
		len--;
		if (scan->have < FRAME_HEADER)
			continue;
		uint32_t length = u32(scan->bytes) >> 8;
		bool look = scan->bytes[3] == PRIORITY && length == PRIORITY_LEN;
		enum http2_scanned rc = scan->have == FRAME_HEADER ? on_header(c, length) : SCAN_OK;
		if (rc != SCAN_OK)
			return rc;
		if (look && scan->have < FRAME_HEADER + 4)
			continue;
		if (look && !priority_ok(scan))
			return SCAN_PROTOCOL;
		scan->skip = length - (scan->have - FRAME_HEADER);
		scan->have = 0;
		frame_over(scan);
	}
	return SCAN_OK;
}
