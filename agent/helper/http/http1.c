/* SPDX-License-Identifier: Apache-2.0 */
/* What the two sides of HTTP/1 share: reading bodies, lines that are not whole yet, and the life of a connection.
 *
 * A connection without an exchange holds no buffer. Bytes are worked on where the transport has them; only a line
 * of a head that is not whole is copied. What can't be used yet (the next request of a pipeline, a body that the
 * user does not take) stays with the transport, which then reads no more: that is all the back-pressure there is. */
#include "agent/helper/http/http1.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"

enum { END_MS = 5000 };

/* --- life */

static void free_now(void *arg)
{
	struct http1 *c = arg;
	http_head_free(c->parser.head);
	buffer_done(&c->in);
	buffer_done(&c->out);
	free(c);
}

void http1_close(struct http1 *c, bool abort, enum http_reset why)
{
	if (c->closed)
		return;
	c->closed = true;
	c->base.stale = why == HTTP_RESET_STALE;
	transport_close(c->base.transport, abort);
	tick_done(&c->tick);
	if (c->live) {
		c->live = false;
		c->stream.events->on_reset(&c->stream, why);
	}
	c->base.events->on_closed(&c->base, c->base.arg);
	loop_defer(c->loop, free_now, c);
}

/* What the transport had no room for is sent before, if the peer takes it. */
static void end_now(void *arg)
{
	struct http1 *c = arg;
	if (c->closed)
		return;
	if (c->out.len && !c->ending_abort)
		tick_set(&c->tick, END_MS);
	else
		http1_close(c, c->ending_abort, HTTP_RESET_CLOSED);
}

void http1_end_soon(struct http1 *c, bool abort)
{
	c->ending_abort |= abort;
	if (c->ending || c->closed)
		return;
	c->ending = true;
	loop_defer(c->loop, end_now, c);
}

void http1_conn_close(struct http_conn *conn)
{
	http1_close(http1_of(conn), true, HTTP_RESET_CANCEL);
}

size_t http1_conn_streams(const struct http_conn *conn)
{
	return http1_of(conn)->live;
}

void http1_conn_dump(const struct http_conn *conn, struct sb *out)
{
	static const char *const in[] = { "head", "length", "chunked", "trailers", "stream", "held", "ended" };
	static const char *const to[] = { "head", "length", "chunked", "stream", "held", "nothing", "ended" };
	const struct http1 *c = http1_of(conn);
	sb_addf(out,
		"{\"protocol\":\"HTTP/"
		"1.1\",\"requests\":%llu,\"streams\":%d,\"in\":\"%s\",\"out\":\"%s\",\"paused\":%s,"
		"\"draining\":%s,\"received\":%llu,\"sent\":%llu}",
		(unsigned long long)c->base.requests, c->live, in[c->in_state], to[c->out_state],
		c->paused ? "true" : "false", c->draining ? "true" : "false", (unsigned long long)c->stream.received,
		(unsigned long long)c->stream.sent);
}

void http_conn_preserve_case(struct http_conn *conn, bool yes)
{
	if (conn->protocol == HTTP_PROTO_1)
		http1_of(conn)->limits.preserve_case = yes;
}

/* --- reading */

void http1_check_over(struct http1 *c)
{
	if (c->in_state != IN_ENDED || c->out_state != OUT_ENDED || c->closed || c->ending)
		return;
	c->live = false;
	c->side->over(c);
}

void http1_in_end(struct http1 *c)
{
	c->in_state = IN_ENDED;
	http1_check_over(c);
}

size_t http1_deliver(struct http1 *c, const uint8_t *bytes, size_t len, bool end)
{
	if (len)
		c->expected = false; /* it did not wait for 100 */
	if (!c->live)
		return len; /* discarded */
	c->in_last = end;
	size_t taken = c->stream.events->on_body(&c->stream, bytes, len, end);
	c->in_last = false;
	if (c->closed || !c->live)
		return len;
	taken = taken < len ? taken : len;
	c->stream.received += taken;
	return taken;
}

/* Bytes of a body at p; n of them were used: false when the user took less than there was, or nothing more is to be
 * read. */
static bool body_length(struct http1 *c, const uint8_t *p, size_t len, size_t *n)
{
	size_t part = c->body_left < len ? (size_t)c->body_left : len;
	c->body_left -= part; /* the user may ask how much is left by answering from inside */
	*n = http1_deliver(c, p, part, c->body_left == 0);
	if (c->closed)
		return false;
	c->body_left += part - *n;
	if (c->body_left == 0)
		http1_in_end(c);
	return *n == part;
}

/* The data of a chunk. When all of it and the whole end of the body are there, they are one event. */
static bool chunk_data(struct http1 *c, const uint8_t *p, size_t len, size_t *n)
{
	static const char last[] = "\r\n0\r\n\r\n";
	enum { LAST = sizeof(last) - 1 };
	size_t part = c->chunks.left < len ? (size_t)c->chunks.left : len;
	bool end = part == c->chunks.left && len - part >= LAST && memcmp(p + part, last, LAST) == 0;
	*n = http1_deliver(c, p, part, end);
	if (c->closed)
		return false;
	http1_chunk_taken(&c->chunks, *n);
	if (end && *n == part) {
		*n += LAST;
		http1_in_end(c);
		return true;
	}
	return *n == part;
}

static bool body_chunked(struct http1 *c, const uint8_t *p, size_t len, size_t *n)
{
	size_t used, more = 0;
	enum http1_chunk what = http1_chunk_next(&c->chunks, p, len, &used);
	bool on = true;
	if (what == HTTP1_CHUNK_BAD) {
		c->side->refused(c, &(struct http1_fault){ HTTP_BAD_CHUNK, 400 });
		return false;
	}
	if (what == HTTP1_CHUNK_LAST) {
		c->in_state = IN_TRAILERS;
		http1_parse_begin(&c->parser, HTTP1_TRAILERS);
	} else if (what == HTTP1_CHUNK_DATA && used < len) {
		on = chunk_data(c, p + used, len - used, &more);
	}
	*n = used + more;
	return on;
}

static bool body_stream(struct http1 *c, const uint8_t *p, size_t len, size_t *n)
{
	*n = http1_deliver(c, p, len, false);
	return !c->closed && *n == len;
}

static void trailers_came(struct http1 *c)
{
	struct http_head *trailers = http1_parse_take(&c->parser);
	c->in_last = true;
	if (!c->live || trailers->field_count == 0) {
		http_head_free(trailers);
		if (c->live)
			c->stream.events->on_body(&c->stream, NULL, 0, true);
	} else {
		c->stream.events->on_trailers(&c->stream, trailers);
	}
	c->in_last = false;
	if (!c->closed)
		http1_in_end(c);
}

/* The line that began in c->in, up to its end in p. */
static int line_complete(struct http1 *c, const uint8_t *p, size_t len, size_t *n, struct http1_fault *fault)
{
	const uint8_t *lf = memchr(p, '\n', len);
	size_t part = lf ? (size_t)(lf + 1 - p) : len, used;
	int rc = http1_parse_partial(&c->parser, &c->limits, c->in.len + part, fault);
	if (rc == 0)
		rc = buffer_append(&c->in, p, part);
	if (rc < 0)
		return rc;
	*n = part;
	if (!lf)
		return 0;
	rc = http1_parse(&c->parser, &c->limits, buffer_head(&c->in), c->in.len, &used, fault);
	buffer_done(&c->in);
	return rc;
}

/* Lines of a head or of trailers. */
static bool lines(struct http1 *c, const uint8_t *p, size_t len, size_t *n)
{
	struct http1_fault fault = { HTTP_BAD_FIELD, 500 };
	int rc;
	if (c->in.len) {
		rc = line_complete(c, p, len, n, &fault);
	} else {
		rc = http1_parse(&c->parser, &c->limits, p, len, n, &fault);
		if (rc == 0 && *n < len) {
			rc = buffer_append(&c->in, p + *n, len - *n);
			*n = len;
		}
	}
	if (rc < 0) {
		c->side->refused(c, &fault);
		return false;
	}
	if (rc == 0)
		return true;
	if (c->in_state == IN_TRAILERS)
		trailers_came(c);
	else
		c->side->head_came(c, http1_parse_take(&c->parser));
	return !c->closed;
}

/* Uses some of the bytes. false: no more can be used now. */
static bool step(struct http1 *c, const uint8_t *p, size_t len, size_t *n)
{
	*n = 0;
	if (c->ending)
		return false;
	switch (c->in_state) {
	case IN_HEAD:
		if (!c->side->server && c->out_state == OUT_HEAD) { /* an answer before the question */
			http1_close(c, true, HTTP_RESET_REFUSED);
			return false;
		}
		if (!c->head_begun) {
			if (c->side->server && c->out.len)
				return false; /* answers that a pipelining client does not read */
			c->head_begun = true;
			c->since_ms = 0;
		}
		return lines(c, p, len, n);
	case IN_TRAILERS:
		return lines(c, p, len, n);
	case IN_LENGTH:
		return body_length(c, p, len, n);
	case IN_CHUNKED:
		return body_chunked(c, p, len, n);
	case IN_STREAM:
		return body_stream(c, p, len, n);
	case IN_ENDED:
		if (c->side->extra)
			c->side->extra(c);
		return false;
	default:
		return false;
	}
}

/* What is read without a user still costs; RFC 9112 9.6 leaves it to us how much. */
static bool discarded(struct http1 *c, size_t n)
{
	if (c->live || !c->discard_left || c->in_state == IN_HEAD)
		return true;
	c->discard_left = n < c->discard_left ? c->discard_left - (uint32_t)n : 0;
	if (c->discard_left == 0)
		http1_close(c, false, HTTP_RESET_NO_ERROR);
	return !c->closed;
}

static size_t on_data(struct transport *t, const uint8_t *bytes, size_t len, void *arg)
{
	struct http1 *c = arg;
	size_t used = 0, before, n;
	(void)t;
	c->reading = true;
	c->paused = false;
	do {
		before = used;
		c->resume_asked = false;
		while (used < len) {
			bool on = step(c, bytes + used, len - used, &n);
			if (c->closed)
				return len;
			used += n;
			if (!discarded(c, n))
				return len;
			if (!on)
				break;
		}
		/* The user asked for more from inside its event; once in vain is enough. */
	} while (c->resume_asked && used < len && used > before);
	c->reading = false;
	if (c->ending)
		return len; /* nothing of it will be used */
	c->paused = used < len;
	if (c->resume_asked && c->paused)
		http1_resume_soon(c);
	if (c->side->settled) {
		c->side->settled(c);
		if (c->closed)
			return len;
	}
	if (c->in_state == IN_HEAD && c->head_begun && c->since_ms == 0) {
		c->since_ms = tick_now_ms(&c->tick);
		tick_set(&c->tick, c->limits.head_timeout_ms);
	} else if (c->limits.body_timeout_ms && c->in_state != IN_HEAD) {
		c->since_ms = tick_now_ms(&c->tick);
	}
	return used;
}

static void on_end(struct transport *t, void *arg)
{
	struct http1 *c = arg;
	(void)t;
	if (!c->closed && !c->ending)
		c->side->peer_ended(c);
}

enum http_reset http1_gone(const struct http1 *c)
{
	bool unanswered = !c->side->server && c->in_state == IN_HEAD && !c->head_begun && !c->interim;
	return unanswered && c->base.requests > 1 ? HTTP_RESET_STALE : HTTP_RESET_CLOSED;
}

static void on_broken(struct transport *t, int error, void *arg)
{
	struct http1 *c = arg;
	(void)t;
	(void)error;
	http1_close(c, true, http1_gone(c));
}

static void resume_now(void *arg)
{
	struct http1 *c = arg;
	c->resume_deferred = false;
	if (!c->closed && !c->ending && c->paused)
		transport_resume(c->base.transport);
}

void http1_resume_soon(struct http1 *c)
{
	if (c->reading) {
		c->resume_asked = true;
	} else if (c->paused && !c->resume_deferred) {
		c->resume_deferred = true;
		loop_defer(c->loop, resume_now, c);
	}
}

void http1_resume(struct http_stream *s)
{
	struct http1 *c = http1_of(s->conn);
	if (!c->live || c->closed)
		return;
	if (c->reading)
		c->resume_asked = true;
	else if (c->paused)
		transport_resume(c->base.transport);
}

/* --- a new one */

static void on_room(struct transport *t, void *arg)
{
	struct http1 *c = arg;
	if (c->closed)
		return;
	if (c->out.len) {
		struct iovec iov = { buffer_head(&c->out), c->out.len };
		buffer_consume(&c->out, transport_write(t, &iov, 1));
		if (c->out.len)
			return;
	}
	if (c->ending && !c->ending_abort) {
		http1_close(c, false, HTTP_RESET_CLOSED);
		return;
	}
	if (c->end_owed) {
		c->end_owed = false;
		transport_end(t);
	}
	if (c->want_room && c->live && !c->ending) {
		c->want_room = false;
		c->stream.events->on_room(&c->stream);
		if (c->closed)
			return;
	}
	if (c->in_state == IN_HEAD && c->paused && !c->ending)
		transport_resume(c->base.transport);
}

static const struct transport_events transport_events = { on_data, on_end, on_room, on_broken };

static void on_tick(struct tick *t)
{
	struct http1 *c = container_of(t, struct http1, tick);
	if (c->ending)
		http1_close(c, true, HTTP_RESET_CLOSED);
	else
		c->side->due(c);
}

int http1_new(struct loop *loop, struct transport *t, const struct http_limits *limits,
	      const struct http_conn_events *events, void *arg, const struct http_conn_ops *ops,
	      const struct http_stream_ops *stream_ops, const struct http1_side *side, struct http1 **out)
{
	struct http1 *c = calloc(1, sizeof(*c));
	if (!c || tick_init(&c->tick, loop, on_tick) < 0) {
		free(c);
		transport_close(t, true);
		return -ENOMEM;
	}
	c->base = (struct http_conn){
		.ops = ops, .events = events, .arg = arg, .transport = t, .protocol = HTTP_PROTO_1
	};
	c->stream.ops = stream_ops;
	c->stream.conn = &c->base;
	c->side = side;
	c->loop = loop;
	c->limits = *limits;
	c->persist = true;
	c->since_ms = tick_now_ms(&c->tick);
	transport_on(t, &transport_events, c);
	*out = c;
	return 0;
}
