/* SPDX-License-Identifier: Apache-2.0 */
/* The server's side of HTTP/1: requests come, the user answers. What is not HTTP as RFC 9112 has it is answered by
 * the codec itself, and the connection ends.
 *
 * A client that ends its half in the middle of an exchange has given up (as for Envoy and nginx): there is no
 * telling it from one that waits for the answer, and the endpoint should not work in vain. */
#include "agent/helper/http/http1.h"
#include "agent/helper/http/http1_write.h"

#include <errno.h>
#include <string.h>

#include "agent/base/loop.h"

/* A rest of a request that the user does not want is read up to this, within this time. */
enum { DISCARD_MAX = 64 << 10, DISCARD_MS = 2000, DRAIN_IDLE_MS = 1000, LOOK_MS = 10000 };

/* --- the request */

static void refuse(struct http1 *c, const struct http1_fault *fault)
{
	uint16_t status = fault->status;
	if (status == 0 && c->base.requests) /* it has spoken HTTP/1 before */
		status = 400;
	bool answer = c->out_state == OUT_HEAD;
	if (answer && status) {
		char text[HTTP1_REFUSAL_MAX];
		http1_put(c, text, http1_refusal_write(text, status, loop_now_ns(c->loop)));
	}
	c->base.events->on_bad(&c->base, fault->why, status, c->base.arg);
	enum http_reset why = fault->why == HTTP_BAD_TIMEOUT   ? HTTP_RESET_TIMEOUT :
			      fault->why == HTTP_BAD_TOO_LARGE ? HTTP_RESET_TOO_LARGE :
								 HTTP_RESET_PROTOCOL;
	http1_close(c, !answer && c->out_state != OUT_ENDED, why);
}

static void head_came(struct http1 *c, struct http_head *head)
{
	const struct http1_parser *p = &c->parser;
	c->head_begun = false;
	c->base.requests++;
	c->old = head->version == HTTP_1_0;
	c->persist = c->old ? p->keep_alive && !p->close : !p->close;
	c->head_method = http_is(head->method, "HEAD");
	c->connect = http_is(head->method, "CONNECT");
	c->tunnel = c->connect || head->upgrade;
	c->expected = head->expect_continue;
	c->discard_left = 0;
	c->chunk_left = 0;
	c->out_state = OUT_HEAD;
	if (c->connect && (p->chunked || head->content_length > 0)) {
		http_head_free(head);
		refuse(c, &(struct http1_fault){ HTTP_BAD_FRAMING, 400 });
		return;
	}

	if (c->tunnel) {
		c->in_state = IN_HELD;
	} else if (p->chunked) {
		c->in_state = IN_CHUNKED;
		c->chunks = (struct http1_chunks){ 0 };
	} else if (head->content_length > 0) {
		c->in_state = IN_LENGTH;
		c->body_left = (uint64_t)head->content_length;
	} else {
		c->in_state = IN_ENDED;
	}
	if (c->limits.body_timeout_ms && c->in_state != IN_ENDED)
		tick_set(&c->tick, c->limits.body_timeout_ms);

	c->stream.events = NULL;
	c->stream.received = c->stream.sent = 0;
	c->live = true;
	c->base.events->on_stream(&c->base, &c->stream, c->base.arg);
	if (c->closed)
		http_head_free(head);
	else
		c->stream.events->on_head(&c->stream, head, c->in_state == IN_ENDED);
}

static void peer_ended(struct http1 *c)
{
	if (c->in_state == IN_STREAM) {
		if (c->live)
			c->stream.events->on_body(&c->stream, NULL, 0, true);
		if (!c->closed)
			http1_in_end(c);
		return;
	}
	if (c->out_state == OUT_ENDED && c->in_state == IN_ENDED)
		return; /* over already, closed soon */
	http1_close(c, c->live, HTTP_RESET_CLOSED);
}

static void over(struct http1 *c)
{
	c->want_room = false;
	if (!c->persist) {
		http1_end_soon(c, false);
		return;
	}
	c->in_state = IN_HEAD;
	c->out_state = OUT_HEAD;
	http1_parse_begin(&c->parser, HTTP1_REQUEST);
	c->since_ms = tick_now_ms(&c->tick);
	if (c->draining) /* without having said so */
		tick_set(&c->tick, DRAIN_IDLE_MS);
	else if (!c->tick.set)
		tick_set(&c->tick, c->limits.idle_timeout_ms);
	http1_resume_soon(c);
}

static bool waits_for_body(const struct http1 *c)
{
	return c->live && !c->paused &&
	       (c->in_state == IN_LENGTH || c->in_state == IN_CHUNKED || c->in_state == IN_TRAILERS);
}

/* The deadline was set for what was then; what is it now? */
static void due(struct http1 *c)
{
	uint64_t now = tick_now_ms(&c->tick), limit = c->limits.idle_timeout_ms;
	bool head = c->in_state == IN_HEAD && (c->head_begun || c->base.requests == 0);
	bool body = c->limits.body_timeout_ms && waits_for_body(c);
	if (!c->live && c->in_state != IN_HEAD) { /* a rest that is discarded */
		http1_close(c, false, HTTP_RESET_NO_ERROR);
		return;
	}
	if (head)
		limit = c->limits.head_timeout_ms;
	else if (body)
		limit = c->limits.body_timeout_ms;
	else if (c->live)
		limit = 0;
	else if (c->draining)
		limit = DRAIN_IDLE_MS;
	uint64_t at = limit ? c->since_ms + limit : now + LOOK_MS;
	if (now < at)
		tick_set(&c->tick, at - now);
	else if (body || (head && c->head_begun))
		refuse(c, &(struct http1_fault){ HTTP_BAD_TIMEOUT, 408 });
	else
		http1_close(c, false, HTTP_RESET_TIMEOUT);
}

static const struct http1_side side = {
	.server = true, .head_came = head_came, .peer_ended = peer_ended, .refused = refuse, .over = over, .due = due
};

/* --- the answer */

/* The rest of the request when the answer is whole, or begins without having asked for the body. */
static bool worth_reading(const struct http1 *c)
{
	if (c->in_state == IN_LENGTH)
		return c->body_left <= DISCARD_MAX && !c->expected;
	return !c->expected;
}

static int send_interim(struct http1 *c, const struct http_head *head)
{
	if (c->old)
		return 0; /* RFC 9110 15.2 */
	if (head->status == 100)
		c->expected = false;
	struct http1_framing f = { .status = head->status };
	return http1_put_head(c, head, &f, http1_response_write);
}

/* What follows the head, by the rules of RFC 9112 6.3. */
static enum http1_out framing(struct http1 *c, const struct http_head *head, bool end, struct http1_framing *f)
{
	bool success = head->status >= 200 && head->status < 300;
	if (f->upgrade || (c->connect && success))
		return OUT_STREAM;
	if (head->status == 204)
		return OUT_NOTHING;
	if (c->head_method || head->status == 304) {
		f->length = head->content_length >= 0;
		return OUT_NOTHING;
	}
	f->length = head->content_length >= 0 || end;
	f->chunked = !f->length && !c->old;
	if (f->length) {
		c->send_left = head->content_length > 0 ? (uint64_t)head->content_length : 0;
		return OUT_LENGTH;
	}
	return f->chunked ? OUT_CHUNKED : OUT_STREAM;
}

static void no_tunnel(void *arg);

/* The user's head can't be sent: nothing that follows could be right. */
static int refuse_head(struct http1 *c)
{
	http1_end_soon(c, true);
	return -EPIPE;
}

static int send_final(struct http1 *c, const struct http_head *head, bool end)
{
	struct http1_framing f = { .status = head->status, .date = true, .now_ns = loop_now_ns(c->loop) };
	f.upgrade = c->tunnel && !c->connect && head->upgrade && (head->status == 101 || head->status == 200);
	if (f.upgrade)
		f.status = 101;	 /* 200 is how HTTP/2 says it */
	else if (f.status < 200) /* 101 to one who did not ask */
		return refuse_head(c);
	enum http1_out next = framing(c, head, end, &f);
	if (end && next == OUT_LENGTH && c->send_left)
		return refuse_head(c);
	bool tunnel = f.upgrade || (c->connect && head->status < 300);
	if (tunnel || (next == OUT_STREAM && c->old) || c->draining ||
	    (c->limits.max_requests && c->base.requests >= c->limits.max_requests) ||
	    (c->in_state != IN_ENDED && c->in_state != IN_HELD && end && !worth_reading(c)) ||
	    (c->expected && c->in_state != IN_ENDED))
		c->persist = false;
	f.close = !c->persist && !tunnel;
	f.keep_alive = c->persist && c->old;
	int rc = http1_put_head(c, head, &f, http1_response_write);
	if (rc < 0)
		return refuse_head(c);
	c->out_state = (uint8_t)next;
	if (tunnel) {
		c->in_state = IN_STREAM;
		http1_resume_soon(c);
	} else if (c->in_state == IN_HELD) {
		loop_defer(c->loop, no_tunnel, c);
	}
	return 0;
}

/* The request had no body: its end can be told only now that it is known not to be a tunnel. */
static void no_tunnel(void *arg)
{
	struct http1 *c = arg;
	if (c->closed || c->in_state != IN_HELD)
		return;
	c->in_state = IN_ENDED;
	if (c->live)
		c->stream.events->on_body(&c->stream, NULL, 0, true);
	if (!c->closed)
		http1_check_over(c);
}

static int send_head(struct http_stream *s, const struct http_head *head, bool end)
{
	struct http1 *c = http1_of(s->conn);
	if (!c->live || c->closed || c->ending || c->out_state != OUT_HEAD)
		return -EPIPE;
	if (head->status < 200 && head->status != 101)
		return send_interim(c, head);
	int rc = send_final(c, head, end);
	if (rc == 0 && end)
		http1_send_body(s, NULL, 0, true);
	return rc;
}

static void reset(struct http_stream *s, enum http_reset why)
{
	struct http1 *c = http1_of(s->conn);
	if (!c->live || c->closed)
		return;
	c->live = false;
	bool answered = c->out_state == OUT_ENDED;
	if (answered && c->in_state == IN_HELD)
		return; /* no_tunnel() ends it */
	if (!answered || why != HTTP_RESET_NO_ERROR) {
		http1_end_soon(c, !answered);
		return;
	}
	if (!c->persist || !worth_reading(c)) {
		http1_end_soon(c, false);
		return;
	}
	c->discard_left = DISCARD_MAX;
	tick_set(&c->tick, DISCARD_MS);
	http1_resume_soon(c);
}

/* --- the connection */

static void drain(struct http_conn *conn)
{
	struct http1 *c = http1_of(conn);
	c->draining = true;
	/* A request may be on its way: one that comes within a second is answered. */
	if (!c->closed && !c->ending && !c->live && c->in_state == IN_HEAD && !c->head_begun) {
		c->since_ms = tick_now_ms(&c->tick);
		tick_set(&c->tick, DRAIN_IDLE_MS);
	}
}

static int open_none(struct http_conn *conn, const struct http_stream_events *events, void *user,
		     struct http_stream **out)
{
	(void)conn;
	(void)events;
	(void)user;
	(void)out;
	return -EAGAIN;
}

static uint32_t no_capacity(const struct http_conn *conn)
{
	(void)conn;
	return 0;
}

static const struct http_stream_ops stream_ops = { send_head, http1_send_body, http1_send_trailers, http1_resume,
						   reset };
static const struct http_conn_ops conn_ops = {
	drain, http1_conn_close, open_none, no_capacity, http1_conn_streams, http1_conn_dump,
};

int http1_server_new(struct loop *loop, struct transport *t, const struct http_limits *limits,
		     const struct http_conn_events *events, void *arg, struct http_conn **out)
{
	struct http1 *c;
	int rc = http1_new(loop, t, limits, events, arg, &conn_ops, &stream_ops, &side, &c);
	if (rc < 0)
		return rc;
	http1_parse_begin(&c->parser, HTTP1_REQUEST);
	tick_set(&c->tick, c->limits.head_timeout_ms);
	*out = &c->base;
	return 0;
}
