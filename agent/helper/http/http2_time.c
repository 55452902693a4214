/* SPDX-License-Identifier: Apache-2.0 */
/* What does not come in time: the preface, the rest of a head, a body, an answer to a PING, a request at all. Looked at
 * twice a second while something is expected, and else when the connection has been idle for its time. */
#include "agent/helper/http/http2_internal.h"

#include <nghttp2/nghttp2.h>

#include "agent/base/mem.h"

static bool older(uint64_t now, uint64_t since, uint64_t than_ms)
{
	return now - since >= than_ms;
}

static bool expecting(const struct http2_conn *c)
{
	return c->live || c->scan.headers || c->scan.have || c->scan.skip || c->ping_out || c->draining || c->fatal ||
	       !c->settings_seen;
}

void http2_time_arm(struct http2_conn *c)
{
	uint64_t now = tick_now_ms(&c->tick);
	bool is_idle = !c->live;
	if (!is_idle)
		c->idle_ms = 0;
	else if (!c->idle_ms)
		c->idle_ms = now;
	uint64_t after = TICK_MS * 2;
	if (!expecting(c)) {
		if (!c->limits.idle_timeout_ms) {
			tick_clear(&c->tick);
			return;
		}
		uint64_t end = c->idle_ms + c->limits.idle_timeout_ms;
		after = end > now ? end - now : 0;
	}
	if (c->tick.set && c->tick.due_ms <= now + after)
		return; /* it looks again then */
	tick_set(&c->tick, after);
}

/* A stalled body: the peer neither sends what it announced nor takes what we have. */
static void check_stream(struct http2_stream *s, uint64_t now)
{
	const struct http_limits *l = &http2_of(s)->limits;
	bool waits_for_peer = !s->remote_end && s->head_got && s->in.len == 0;
	bool peer_full = s->wants_room || s->out.len || s->item;
	if (s->user && !s->has_reset && l->body_timeout_ms && (waits_for_peer || peer_full) &&
	    older(now, s->moved_ms, l->body_timeout_ms))
		http2_stream_abort(s, HTTP_RESET_TIMEOUT, NGHTTP2_CANCEL);
	else if (!s->user && s->open && older(now, s->moved_ms, HTTP2_LINGER_MS))
		http2_stream_rst(s, NGHTTP2_CANCEL);
}

/* False: the connection is over. */
static bool check_peer(struct http2_conn *c, uint64_t now)
{
	const struct http_limits *l = &c->limits;
	if (!c->settings_seen && l->head_timeout_ms && older(now, c->begun_ms, l->head_timeout_ms))
		return false;
	if (c->scan.headers && l->head_timeout_ms && older(now, c->block_ms, l->head_timeout_ms)) {
		if (c->server && c->base.events->on_bad)
			c->base.events->on_bad(&c->base, HTTP_BAD_TIMEOUT, 0, c->base.arg);
		return false;
	}
	if (c->ping_out && older(now, c->ping_ms, HTTP2_PING_WAIT_MS) && older(now, c->heard_ms, HTTP2_PING_WAIT_MS))
		return false;
	if (c->fatal && c->blocked)
		return false;
	return true;
}

static void check_connection(struct http2_conn *c, uint64_t now)
{
	if (!c->server && c->live && !c->ping_out && older(now, c->heard_ms, HTTP2_PING_AFTER_MS)) {
		c->ping_out = true;
		c->ping_ms = now;
		nghttp2_submit_ping(c->session, NGHTTP2_FLAG_NONE, NULL);
	}
	if (c->draining && c->server && !c->goaway_final && older(now, c->drain_ms, HTTP2_DRAIN_MS))
		http2_drain_now(c);
	if (!c->live && c->idle_ms && c->limits.idle_timeout_ms && !c->draining &&
	    older(now, c->idle_ms, c->limits.idle_timeout_ms))
		c->base.ops->drain(&c->base);
}

void http2_on_tick(struct tick *t)
{
	struct http2_conn *c = container_of(t, struct http2_conn, tick);
	uint64_t now = tick_now_ms(t);
	if (c->closed)
		return;
	if (!check_peer(c, now)) {
		if (!c->closed)
			http2_finish(c, HTTP_RESET_CLOSED);
		return;
	}
	struct http2_stream *s;
	TAILQ_FOREACH(s, &c->streams, link)
	check_stream(s, now);
	check_connection(c, now);
	http2_settle(c);
}
