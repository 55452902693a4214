/* SPDX-License-Identifier: Apache-2.0 */
/* What does not come in time: the preface, the rest of a head, a body, an answer to a PING, a request at all. Looked at
 * each second while something is expected, and else when the connection has been idle for its time. */
#include "agent/helper/http/http2_internal.h"

#include <nghttp2/nghttp2.h>

#include "agent/base/mem.h"

static bool older(uint64_t now, uint64_t since, uint64_t than_ms)
{
	return now - since >= than_ms;
}

enum { LOOK_MS = 2 * TICK_MS, LOOK_SELDOM_MS = 5000 };

/* When to look again; 0: never. */
static uint64_t look_after(const struct http2_conn *c, uint64_t now)
{
	if (c->scan.headers || c->ping_out || c->draining || c->fatal || !c->settings_seen)
		return LOOK_MS;
	if (c->live) /* a server without a limit for bodies has only kept answers to look at */
		return c->server && !c->limits.body_timeout_ms ? LOOK_SELDOM_MS : LOOK_MS;
	uint64_t end = c->idle_ms + c->limits.idle_timeout_ms;
	if (!c->limits.idle_timeout_ms)
		return 0;
	return end > now ? end - now : 1;
}

void http2_time_arm(struct http2_conn *c)
{
	uint64_t now = tick_now_ms(&c->tick);
	if (c->live)
		c->idle_ms = 0;
	else if (!c->idle_ms)
		c->idle_ms = now;
	uint64_t after = look_after(c, now);
	if (!after)
		tick_clear(&c->tick);
	else if (!c->tick.set || c->tick.due_ms > now + after) /* else it looks again before */
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
		http2_schedule(c);
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
	http2_time_arm(c); /* what was submitted goes at the end of the tick */
}
