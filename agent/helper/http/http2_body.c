/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies that come. The user gets them where they lie in the transport's buffer; what it does not take is kept, and the
 * stream's window, which only opens again for what was taken, bounds that. The connection's window opens again for what
 * came, so that users who take nothing don't stop the other streams; only beyond a bound of what the connection, or all
 * of the thread, keep it waits for what was taken. Trailers and the end wait behind a body. */
#include "agent/helper/http/http2_internal.h"

#include <nghttp2/nghttp2.h>

#include "agent/base/mem.h"

enum {
	HELD_MAX = 24 << 20,	    /* of a connection: that of some hundred streams of whole windows */
	HELD_THREAD_MAX = 32 << 20, /* beyond it connections get no more credit for what they hold */
};

static _Thread_local uint64_t held;

static void hold(struct http2_conn *c, int64_t change)
{
	c->held += (uint32_t)change;
	held += (uint64_t)change;
}

void http2_body_forget(struct http2_conn *c)
{
	hold(c, -(int64_t)c->held);
}

/* The credit of both windows, for n more bytes of the stream that were taken. */
static void give_back(struct http2_stream *s, size_t n)
{
	struct http2_conn *c = http2_of(s);
	uint32_t most = held > HELD_THREAD_MAX ? 0 : HELD_MAX;
	uint32_t waits = c->held > most ? c->held - most : 0;
	if (n)
		nghttp2_session_consume_stream(c->session, s->id, n);
	if (c->owed > waits) {
		nghttp2_session_consume_connection(c->session, c->owed - waits);
		c->owed = waits;
	}
	if (!c->busy)
		http2_schedule(c);
}

/* Bytes that were kept. */
static void consumed(struct http2_stream *s, size_t len)
{
	struct http2_conn *c = http2_of(s);
	if (len == 0 || c->closed)
		return;
	hold(c, -(int64_t)len);
	give_back(s, len);
}

/* Returns what was taken; all when nobody is there to take it. */
static size_t deliver(struct http2_stream *s, const uint8_t *bytes, size_t len)
{
	bool end = s->remote_end && !s->trailers;
	s->delivering = true;
	size_t n = s->base.events->on_body(&s->base, bytes, len, end);
	s->delivering = false;
	if (!s->user)
		return len;
	s->base.received += n;
	s->moved_ms = tick_now_ms(&http2_of(s)->tick);
	if (n == len && end) {
		s->remote_done = true;
		http2_user_done(s);
	}
	return n;
}

void http2_body(struct http2_stream *s, const uint8_t *bytes, size_t len)
{
	struct http2_conn *c = http2_of(s);
	size_t n = 0;
	if (!s->user)
		n = len;
	else if (s->in.len == 0 && !s->delivering)
		n = deliver(s, bytes, len);
	if (n < len && buffer_append(&s->in, bytes + n, len - n) < 0) {
		http2_stream_abort(s, HTTP_RESET_INTERNAL, NGHTTP2_INTERNAL_ERROR);
		n = len;
	}
	if (c->closed)
		return;
	c->owed += (uint32_t)len;
	hold(c, (int64_t)(len - n));
	give_back(s, n);
}

void http2_body_end(struct http2_stream *s)
{
	if (s->user && s->in.len == 0 && !s->delivering)
		deliver(s, NULL, 0);
}

void http2_body_resume(struct http_stream *base)
{
	struct http2_stream *s = container_of(base, struct http2_stream, base);
	while (s->user && !s->delivering && s->in.len) {
		size_t len = s->in.len;
		size_t n = deliver(s, buffer_head(&s->in), len);
		buffer_consume(&s->in, n);
		consumed(s, n);
		if (n < len)
			return;
	}
	if (s->user && !s->delivering && s->remote_end && !s->remote_done && !s->trailers)
		deliver(s, NULL, 0);
	if (s->trailers)
		http2_todo(s);
}

void http2_body_drop(struct http2_stream *s)
{
	size_t len = s->in.len;
	if (s->delivering)
		return; /* it is being read; it goes when that is over, or with the stream */
	buffer_done(&s->in);
	consumed(s, len);
}

void http2_trailers_tell(struct http2_stream *s)
{
	if (s->user && (s->in.len || s->delivering))
		return; /* resume() comes first */
	struct http_head *trailers = s->trailers;
	s->trailers = NULL;
	if (!s->user || !trailers) {
		http_head_free(trailers);
		return;
	}
	s->remote_done = true;
	s->base.events->on_trailers(&s->base, trailers);
	http2_user_done(s);
}
