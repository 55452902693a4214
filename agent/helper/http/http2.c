/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/2 connections over nghttp2 sessions: their life, and what their users ask of them as a whole. nghttp2 keeps the
 * protocol's states, windows and compression; what is ours is who is told what and when, what a peer may cost, and that
 * bytes are not copied. See http2_internal.h for the parts. */
#include "agent/helper/http/http2_internal.h"

#include <assert.h>
#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <stdlib.h>

#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/helper/transport.h"

/* A client's ids run out at 2^31; well before, the connection ends as if the server had asked for it. */
#define IDS_END (INT32_MAX - (1 << 20))

/* --- streams */

struct http2_stream *http2_stream_new(struct http2_conn *c, int32_t id)
{
	struct http2_stream *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->base.ops = &http2_stream_ops;
	s->base.conn = &c->base;
	s->id = id;
	s->expected = -1;
	s->counted = true;
	s->begun_ms = s->moved_ms = tick_now_ms(&c->tick);
	TAILQ_INSERT_TAIL(&c->streams, s, link);
	c->live++;
	c->active++;
	if (!c->server)
		http2_ration_stream(c);
	return s;
}

void http2_stream_uncount(struct http2_stream *s)
{
	struct http2_conn *c = http2_of(s);
	if (!s->counted)
		return;
	s->counted = false;
	c->active--;
	if (c->server)
		return;
	c->capacity_changed = true;
	if (nghttp2_session_get_next_stream_id(c->session) > IDS_END)
		c->draining = true;
}

static void stream_release(struct http2_stream *s)
{
	http_head_free(s->head);
	http_head_free(s->trailers);
	http_head_free(s->trailers_out);
	http_head_free(s->head_out);
	buffer_done(&s->in);
	buffer_done(&s->out);
	free(s);
}

void http2_stream_free(struct http2_stream *s)
{
	struct http2_conn *c = http2_of(s);
	http2_stream_uncount(s);
	http2_body_drop(s);
	c->kept -= s->out.len;
	c->live--;
	if (c->heading == s)
		c->heading = NULL;
	TAILQ_REMOVE(&c->streams, s, link);
	stream_release(s);
}

/* --- the end */

static void on_free(void *arg)
{
	struct http2_conn *c = arg;
	struct http2_stream *s;
	http2_body_forget(c);
	while ((s = TAILQ_FIRST(&c->streams))) {
		TAILQ_REMOVE(&c->streams, s, link);
		stream_release(s);
	}
	nghttp2_session_del(c->session);
	buffer_done(&c->unsent);
	tick_done(&c->tick);
	c->magic = 0;
	free(c);
}

void http2_finish(struct http2_conn *c, enum http_reset why)
{
	struct http2_stream *s;
	if (c->closed)
		return;
	if (!c->fatal && !c->busy && !c->goaway_final) {
		nghttp2_session_terminate_session(c->session, NGHTTP2_NO_ERROR);
		http2_flush(c);
	}
	c->closed = true;
	c->draining = true;
	tick_clear(&c->tick);
	TAILQ_FOREACH(s, &c->streams, link)
	{
		if (!s->user)
			continue;
		s->user = false;
		s->base.events->on_reset(&s->base, s->has_reset ? s->reset : why);
	}
	transport_close(c->base.transport, false);
	c->base.events->on_closed(&c->base, c->base.arg);
	loop_defer(c->loop, on_free, c);
}

/* --- transport */

static size_t on_data(struct transport *t, const uint8_t *bytes, size_t len, void *arg)
{
	struct http2_conn *c = arg;
	(void)t;
	assert(c->magic == HTTP2_MAGIC);
	if (c->closed || c->fatal)
		return len;
	c->heard_ms = tick_now_ms(&c->tick);
	http2_input(c, bytes, len);
	http2_settle(c);
	return len;
}

static void on_end(struct transport *t, void *arg)
{
	struct http2_conn *c = arg;
	(void)t;
	c->fatal = true; /* a GOAWAY would not be read */
	c->faulted = true;
	http2_finish(c, HTTP_RESET_CLOSED);
}

static void on_room(struct transport *t, void *arg)
{
	struct http2_conn *c = arg;
	(void)t;
	if (c->closed)
		return;
	http2_output_retry(c);
	http2_settle(c);
}

static void on_broken(struct transport *t, int error, void *arg)
{
	(void)error;
	on_end(t, arg);
}

static const struct transport_events transport_events = { on_data, on_end, on_room, on_broken };

/* --- what users ask */

void http2_drain_now(struct http2_conn *c)
{
	if (c->goaway_final)
		return;
	c->goaway_final = true;
	nghttp2_submit_goaway(c->session, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(c->session),
			      NGHTTP2_NO_ERROR, NULL, 0);
	http2_schedule(c);
}

static void drain(struct http_conn *base)
{
	struct http2_conn *c = (struct http2_conn *)base;
	if (c->draining || c->closed)
		return;
	c->draining = true;
	c->drain_ms = tick_now_ms(&c->tick);
	c->capacity_changed = true;
	if (c->server) { /* requests may be on their way: RFC 9113 6.8 */
		nghttp2_submit_shutdown_notice(c->session);
		nghttp2_submit_ping(c->session, NGHTTP2_FLAG_NONE, NULL);
	}
	http2_schedule(c);
}

static void close_now(struct http_conn *base)
{
	http2_finish((struct http2_conn *)base, HTTP_RESET_CLOSED);
}

static uint32_t capacity(const struct http_conn *base)
{
	const struct http2_conn *c = (const struct http2_conn *)base;
	if (c->closed || c->draining || c->fatal || c->failed || c->server)
		return 0;
	uint32_t most = nghttp2_session_get_remote_settings(c->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
	if (most > HTTP2_CLIENT_STREAMS_MAX)
		most = HTTP2_CLIENT_STREAMS_MAX;
	return most > c->active ? most - c->active : 0;
}

static int open_stream(struct http_conn *base, const struct http_stream_events *events, void *user,
		       struct http_stream **out)
{
	struct http2_conn *c = (struct http2_conn *)base;
	if (capacity(base) == 0)
		return -EAGAIN;
	struct http2_stream *s = http2_stream_new(c, 0);
	if (!s)
		return -ENOMEM;
	s->base.events = events;
	s->base.user = user;
	s->user = true;
	c->base.requests++;
	*out = &s->base;
	if (c->limits.max_requests && c->base.requests >= c->limits.max_requests)
		drain(base); /* this one still goes: it was counted before */
	return 0;
}

static size_t stream_count(const struct http_conn *base)
{
	return ((const struct http2_conn *)base)->live;
}

static void dump(const struct http_conn *base, struct sb *out)
{
	const struct http2_conn *c = (const struct http2_conn *)base;
	sb_addf(out, "{\"protocol\":\"h2\",\"streams\":%u,\"requests\":%llu,\"draining\":%s,\"blocked\":%s}", c->live,
		(unsigned long long)base->requests, c->draining ? "true" : "false", c->blocked ? "true" : "false");
}

static const struct http_conn_ops conn_ops = {
	.drain = drain,
	.close = close_now,
	.open = open_stream,
	.capacity = capacity,
	.streams = stream_count,
	.dump = dump,
};

/* --- making */

static int conn_new(struct loop *loop, struct transport *t, const struct http_limits *limits, bool server,
		    const struct http_conn_events *events, void *arg, struct http_conn **out)
{
	struct http2_conn *c = calloc(1, sizeof(*c));
	if (!c || tick_init(&c->tick, loop, http2_on_tick) < 0) {
		free(c);
		transport_close(t, true);
		return -ENOMEM;
	}
	c->base = (struct http_conn){ &conn_ops, events, arg, t, HTTP_PROTO_2, 0 };
	c->magic = HTTP2_MAGIC;
	c->server = server;
	c->loop = loop;
	c->limits = *limits;
	TAILQ_INIT(&c->streams);
	TAILQ_INIT(&c->todo);
	c->begun_ms = c->heard_ms = c->idle_ms = tick_now_ms(&c->tick);
	http2_scan_begin(c);
	if (http2_session_new(c) < 0) {
		transport_close(t, true);
		on_free(c);
		return -ENOMEM;
	}
	transport_on(t, &transport_events, c);
	http2_flush(c);
	http2_time_arm(c);
	*out = &c->base;
	return 0;
}

int http2_server_new(struct loop *loop, struct transport *t, const struct http_limits *limits,
		     const struct http_conn_events *events, void *arg, struct http_conn **out)
{
	return conn_new(loop, t, limits, true, events, arg, out);
}

int http2_client_new(struct loop *loop, struct transport *t, const struct http_limits *limits,
		     const struct http_conn_events *events, void *arg, struct http_conn **out)
{
	return conn_new(loop, t, limits, false, events, arg, out);
}
