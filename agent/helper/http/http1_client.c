/* SPDX-License-Identifier: Apache-2.0 */
/* The client's side of HTTP/1: one request at a time, the connection reused while both ends agree on where the
 * messages end. Bytes that belong to no request are never taken for an answer: the connection is closed. */
#include "agent/helper/http/http1.h"
#include "agent/helper/http/http1_write.h"

#include <errno.h>
#include <string.h>

#include "agent/base/loop.h"

enum { INTERIM_MAX = 32, LOOK_MS = 10000 };

/* --- the response */

static void refused(struct http1 *c, const struct http1_fault *fault)
{
	http1_close(c, true, fault->why == HTTP_BAD_TOO_LARGE ? HTTP_RESET_TOO_LARGE : HTTP_RESET_PROTOCOL);
}

static void interim_came(struct http1 *c, struct http_head *head)
{
	http1_parse_begin(&c->parser, HTTP1_RESPONSE);
	bool pass = head->status != 100 || c->expected;
	if (++c->interim > INTERIM_MAX) {
		http_head_free(head);
		refused(c, &(struct http1_fault){ HTTP_BAD_FIELD, 502 });
	} else if (pass && c->live) {
		head->content_length = -1;
		c->stream.events->on_head(&c->stream, head, false);
	} else {
		http_head_free(head);
	}
}

/* RFC 9112 6.3. */
static enum http1_in framing(struct http1 *c, const struct http_head *head)
{
	if (c->tunnel && (head->status == 101 || (c->connect && head->status >= 200 && head->status < 300)))
		return IN_STREAM;
	if (c->head_method || head->status == 204 || head->status == 304)
		return IN_ENDED;
	if (c->parser.chunked)
		return IN_CHUNKED;
	if (head->content_length >= 0) {
		c->body_left = (uint64_t)head->content_length;
		return c->body_left ? IN_LENGTH : IN_ENDED;
	}
	c->persist = false;
	return IN_STREAM;
}

static void head_came(struct http1 *c, struct http_head *head)
{
	c->head_begun = false;
	if (head->status < 200 && head->status != 101) {
		interim_came(c, head);
		return;
	}
	if (head->status == 101 && (!c->tunnel || c->connect)) {
		http_head_free(head);
		refused(c, &(struct http1_fault){ HTTP_BAD_FIELD, 502 });
		return;
	}
	const struct http1_parser *p = &c->parser;
	c->persist &= head->version == HTTP_1_0 ? p->keep_alive && !p->close : !p->close;
	enum http1_in next = framing(c, head);
	bool tunnel = c->tunnel && next == IN_STREAM && (c->connect ? head->status < 300 : head->status == 101);
	if (tunnel)
		c->persist = false;
	if (tunnel || head->status == 204)
		head->content_length = -1; /* of nothing: RFC 9110 8.6 */
	c->chunks = (struct http1_chunks){ 0 };
	/* The state of a whole message is set after its event, so that nothing is over from inside it. */
	if (next != IN_ENDED)
		c->in_state = (uint8_t)next;
	if (tunnel && c->out_state == OUT_ENDED)
		transport_end(c->base.transport); /* the user gave its half up before */
	if (c->out_state == OUT_HELD)
		c->out_state = tunnel ? OUT_STREAM : OUT_NOTHING; /* the user still has to end its half */
	c->in_last = next == IN_ENDED;
	c->stream.events->on_head(&c->stream, head, next == IN_ENDED);
	c->in_last = false;
	if (!c->closed && c->live && tunnel && c->want_room) {
		c->want_room = false;
		c->stream.events->on_room(&c->stream);
	}
	if (!c->closed && next == IN_ENDED)
		http1_in_end(c);
}

static void peer_ended(struct http1 *c)
{
	if (c->in_state != IN_STREAM || !c->live) {
		http1_close(c, c->live, http1_gone(c));
		return;
	}
	c->stream.events->on_body(&c->stream, NULL, 0, true);
	if (!c->closed)
		http1_in_end(c);
}

static void extra(struct http1 *c)
{
	if (c->live)
		c->persist = false;
	else
		http1_close(c, true, HTTP_RESET_PROTOCOL);
}

/* --- between requests */

static bool reusable(const struct http1 *c)
{
	return c->persist && !c->draining && !(c->limits.max_requests && c->base.requests >= c->limits.max_requests);
}

static uint32_t capacity(const struct http_conn *conn)
{
	const struct http1 *c = http1_of(conn);
	return !c->live && !c->closed && !c->ending && !c->reading && c->out_state == OUT_ENDED &&
	       c->in_state == IN_ENDED && c->out.len == 0 && reusable(c);
}

static void tell_capacity(struct http1 *c)
{
	if (!c->capacity_owed || c->closed)
		return;
	c->capacity_owed = false;
	if (c->base.events->on_capacity)
		c->base.events->on_capacity(&c->base, c->base.arg);
}

static void capacity_now(void *arg)
{
	tell_capacity(arg);
}

/* The user opens the next stream from on_capacity: only when no byte of before is left to be looked at. */
static void over(struct http1 *c)
{
	c->want_room = false;
	c->since_ms = tick_now_ms(&c->tick);
	if (!reusable(c))
		http1_end_soon(c, false);
	c->capacity_owed = true;
	if (!c->reading)
		loop_defer(c->loop, capacity_now, c);
}

static void due(struct http1 *c)
{
	uint64_t now = tick_now_ms(&c->tick), at = c->since_ms + c->limits.idle_timeout_ms;
	if (c->live)
		tick_set(&c->tick, LOOK_MS);
	else if (now < at)
		tick_set(&c->tick, at - now);
	else
		http1_close(c, false, HTTP_RESET_TIMEOUT);
}

static const struct http1_side side = {
	.head_came = head_came,
	.peer_ended = peer_ended,
	.refused = refused,
	.over = over,
	.due = due,
	.extra = extra,
	.settled = tell_capacity,
};

/* --- the request */

static int open_stream(struct http_conn *conn, const struct http_stream_events *events, void *user,
		       struct http_stream **out)
{
	struct http1 *c = http1_of(conn);
	if (!capacity(conn))
		return -EAGAIN;
	conn->requests++;
	http1_parse_begin(&c->parser, HTTP1_RESPONSE);
	c->in_state = IN_HEAD;
	c->out_state = OUT_HEAD;
	c->head_begun = false;
	c->interim = 0;
	c->chunk_left = 0;
	c->live = true;
	c->stream.events = events;
	c->stream.user = user;
	c->stream.received = c->stream.sent = 0;
	*out = &c->stream;
	return 0;
}

/* Methods whose requests have a body as a rule say so when it is empty: RFC 9110 8.6. */
static bool says_empty(struct http_string method)
{
	return http_is(method, "POST") || http_is(method, "PUT") || http_is(method, "PATCH");
}

static enum http1_out request_framing(struct http1 *c, const struct http_head *head, bool end, struct http1_framing *f)
{
	if (c->tunnel)
		return OUT_HELD;
	f->length = head->content_length >= 0 || (end && says_empty(head->method));
	f->chunked = !f->length && !end;
	c->send_left = head->content_length > 0 ? (uint64_t)head->content_length : 0;
	return f->chunked ? OUT_CHUNKED : OUT_LENGTH;
}

static int send_head(struct http_stream *s, const struct http_head *head, bool end)
{
	struct http1 *c = http1_of(s->conn);
	if (!c->live || c->closed || c->ending || c->out_state != OUT_HEAD)
		return -EPIPE;
	struct http1_framing f = { .method = head->method, .now_ns = loop_now_ns(c->loop), .upgrade = head->upgrade };
	/* HTTP/2's way to ask (RFC 8441) has neither the method nor the key of HTTP/1's (RFC 6455). */
	if (head->upgrade && http_is(head->method, "CONNECT"))
		f.method = (struct http_string){ "GET", 3 };
	f.websocket_key = head->upgrade && http_is_nocase(head->protocol, "websocket");
	c->head_method = http_is(f.method, "HEAD");
	c->connect = http_is(f.method, "CONNECT");
	c->tunnel = c->connect || head->upgrade;
	c->expected = head->expect_continue;
	enum http1_out next = request_framing(c, head, end, &f);
	f.close = !reusable(c) && !c->tunnel;
	c->persist &= !f.close;
	int rc = end && next == OUT_LENGTH && c->send_left ? -EINVAL : http1_put_head(c, head, &f, http1_request_write);
	if (rc < 0) {
		http1_end_soon(c, true);
		return -EPIPE;
	}
	c->out_state = (uint8_t)next;
	if (end)
		http1_send_body(s, NULL, 0, true);
	return 0;
}

static void reset(struct http_stream *s, enum http_reset why)
{
	struct http1 *c = http1_of(s->conn);
	(void)why;
	if (!c->live || c->closed)
		return;
	c->live = false;
	bool unused = c->out_state == OUT_HEAD && c->in_state == IN_HEAD && !c->head_begun;
	bool whole = c->in_state == IN_ENDED || c->in_last; /* the response */
	if (whole && (c->out_state == OUT_NOTHING || c->out_state == OUT_ENDED)) {
		c->out_state = OUT_ENDED;
		http1_check_over(c); /* or after the event */
	} else if (unused) {
		c->in_state = IN_ENDED;
		c->out_state = OUT_ENDED;
		http1_check_over(c);
	} else {
		http1_end_soon(c, !whole);
	}
}

static void drain(struct http_conn *conn)
{
	struct http1 *c = http1_of(conn);
	if (c->draining || c->closed)
		return;
	c->draining = true;
	if (!c->live)
		http1_end_soon(c, false);
}

static const struct http_stream_ops stream_ops = { send_head, http1_send_body, http1_send_trailers, http1_resume,
						   reset };
static const struct http_conn_ops conn_ops = {
	drain, http1_conn_close, open_stream, capacity, http1_conn_streams, http1_conn_dump,
};

int http1_client_new(struct loop *loop, struct transport *t, const struct http_limits *limits,
		     const struct http_conn_events *events, void *arg, struct http_conn **out)
{
	struct http1 *c;
	int rc = http1_new(loop, t, limits, events, arg, &conn_ops, &stream_ops, &side, &c);
	if (rc < 0)
		return rc;
	c->in_state = IN_ENDED;
	c->out_state = OUT_ENDED;
	tick_set(&c->tick, c->limits.idle_timeout_ms);
	*out = &c->base;
	return 0;
}
