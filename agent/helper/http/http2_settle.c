/* SPDX-License-Identifier: Apache-2.0 */
/* What waits until nghttp2 can be entered again and users may be told: at the end of each event of the transport, and of
 * the tick in which users called. Frames go out, streams' pending events are told, then, if nothing is left to be said,
 * the connection ends. */
#include "agent/helper/http/http2_internal.h"

#include <nghttp2/nghttp2.h>

#include "agent/base/loop.h"
#include "agent/helper/transport.h"

enum { ROUNDS = 4 }; /* what is told may make more to tell; beyond this it waits for the end of the tick */

void http2_todo(struct http2_stream *s)
{
	struct http2_conn *c = http2_of(s);
	if (s->todo || c->closed)
		return;
	s->todo = true;
	TAILQ_INSERT_TAIL(&c->todo, s, todo_link);
	if (!c->busy)
		http2_schedule(c);
}

static void on_deferred(void *arg)
{
	struct http2_conn *c = arg;
	c->scheduled = false;
	http2_settle(c);
	/* The transport's own end of the tick may be over: without this its bytes would wait for the next. */
	if (!c->closed)
		transport_flush(c->base.transport);
}

void http2_schedule(struct http2_conn *c)
{
	if (c->scheduled || c->busy || c->settling || c->closed)
		return;
	c->scheduled = true;
	loop_defer(c->loop, on_deferred, c);
}

void http2_stream_reset(struct http2_stream *s, enum http_reset why)
{
	if (!s->user || s->has_reset)
		return;
	s->has_reset = true;
	s->reset = why;
	http2_todo(s);
}

void http2_user_done(struct http2_stream *s)
{
	if (s->remote_done && s->local_end)
		s->user = false;
	if (!s->user || s->discard)
		http2_todo(s);
}

static void tell_reset(struct http2_stream *s, enum http_reset why)
{
	s->user = false;
	http2_body_drop(s);
	s->base.events->on_reset(&s->base, why);
}

static void tell_room(struct http2_stream *s)
{
	struct http2_conn *c = http2_of(s);
	s->room = s->wants_room = false;
	/* Whom the last had room goes behind the others: a transport's queue is not shared by asking. */
	TAILQ_REMOVE(&c->streams, s, link);
	TAILQ_INSERT_TAIL(&c->streams, s, link);
	s->base.events->on_room(&s->base);
}

static void settle_stream(struct http2_stream *s)
{
	struct http2_conn *c = http2_of(s);
	if (s->user && s->has_reset)
		tell_reset(s, s->reset);
	else if (s->user && s->discard && s->remote_done)
		tell_reset(s, HTTP_RESET_NO_ERROR);
	if (!c->closed && s->trailers)
		http2_trailers_tell(s);
	if (!c->closed && s->user && s->room && !s->local_end)
		tell_room(s);
	if (c->closed)
		return;
	http2_send_held(s);
	http2_send_pending(s);
	if (!s->user && s->open && s->last_reset && s->local_sent) {
		s->last_reset = false;
		http2_stream_rst(s, NGHTTP2_NO_ERROR);
	}
	if (!s->user && !s->open && !s->todo && (s->id == 0 || !s->counted))
		http2_stream_free(s);
}

static void tell_bad(struct http2_conn *c)
{
	if ((c->fatal || c->flooded) && !c->faulted) {
		c->faulted = true;
		c->bad = (uint8_t)(c->bad ? c->bad - 1 : 0); /* the frame that did it */
		if (c->server && c->base.events->on_bad)
			c->base.events->on_bad(&c->base, c->flooded ? HTTP_BAD_H2_FLOOD : HTTP_BAD_H2_PROTOCOL, 0,
					       c->base.arg);
	}
	for (; c->bad && !c->closed; c->bad--)
		if (c->server && c->base.events->on_bad)
			c->base.events->on_bad(&c->base, HTTP_BAD_H2_PROTOCOL, 0, c->base.arg);
	c->bad = 0;
}

static void tell_capacity(struct http2_conn *c)
{
	c->capacity_changed = false;
	if (!c->server && c->base.events->on_capacity)
		c->base.events->on_capacity(&c->base, c->base.arg);
}

static void round_of(struct http2_conn *c)
{
	struct http2_streams now = TAILQ_HEAD_INITIALIZER(now);
	struct http2_stream *s;
	http2_flush(c);
	if (c->flooded && !c->fatal) {
		http2_calm(c);
		http2_flush(c);
	}
	TAILQ_CONCAT(&now, &c->todo, todo_link);
	while (!c->closed && (s = TAILQ_FIRST(&now))) {
		TAILQ_REMOVE(&now, s, todo_link);
		s->todo = false;
		settle_stream(s);
	}
	if (!c->closed && c->bad + c->fatal + c->flooded)
		tell_bad(c);
	if (!c->closed && c->capacity_changed)
		tell_capacity(c);
}

/* Nothing more to hear or say. */
static bool over(struct http2_conn *c)
{
	if (c->failed)
		return true;
	if (c->fatal)
		return !nghttp2_session_want_write(c->session) || c->blocked; /* who does not read is not waited for */
	if (c->blocked || nghttp2_session_want_write(c->session))
		return false;
	if (c->draining && !c->server)
		return c->live == 0;
	return c->live == 0 && !nghttp2_session_want_read(c->session);
}

void http2_settle(struct http2_conn *c)
{
	if (c->closed || c->busy || c->settling)
		return;
	c->settling = true;
	for (int i = 0; i < ROUNDS && !c->closed; i++) {
		round_of(c);
		if (TAILQ_EMPTY(&c->todo))
			break;
	}
	if (!c->closed)
		http2_flush(c);
	c->settling = false;
	if (c->closed)
		return;
	if (over(c)) {
		http2_finish(c, c->fatal ? HTTP_RESET_PROTOCOL : HTTP_RESET_CLOSED);
		return;
	}
	if (!TAILQ_EMPTY(&c->todo))
		http2_schedule(c);
	http2_time_arm(c);
}
