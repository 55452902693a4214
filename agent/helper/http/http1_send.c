/* SPDX-License-Identifier: Apache-2.0 */
/* Sending on a connection of HTTP/1, either side. Body bytes go to the transport from where they lie, between
 * framing that is made on the stack. What a transport cuts short is, at most, one frame's worth of framing: it is
 * kept in c->out, and a chunk whose size was promised is continued by the next bytes that the user sends. */
#include "agent/helper/http/http1.h"
#include "agent/helper/http/http1_write.h"

#include <errno.h>
#include <stdlib.h>

#include "agent/base/mem.h"

enum { OUT_MAX = 256 << 10, STACK_HEAD = 8192 };

int http1_put(struct http1 *c, const void *bytes, size_t len)
{
	size_t taken = 0;
	if (c->out.len + len > OUT_MAX)
		return -EPIPE;
	if (c->out.len == 0) {
		struct iovec iov = { (void *)(uintptr_t)bytes, len };
		taken = transport_write(c->base.transport, &iov, 1);
	}
	return buffer_append(&c->out, (const uint8_t *)bytes + taken, len - taken);
}

int http1_put_head(struct http1 *c, const struct http_head *head, const struct http1_framing *f,
		   size_t (*write)(char *to, const struct http_head *head, const struct http1_framing *f))
{
	char stack[STACK_HEAD];
	AUTO(mem_freep) char *heap = NULL;
	size_t room = http1_head_room(head, f);
	if (room > sizeof(stack)) {
		heap = malloc(room);
		if (!heap)
			return -ENOMEM;
	}
	char *to = heap ? heap : stack;
	size_t n = write(to, head, f);
	return n ? http1_put(c, to, n) : -EINVAL;
}

/* The user's message is whole. */
static void out_end(struct http1 *c)
{
	/* Without a length the end of the connection says it: half of it when the peer may still send. */
	bool half = c->out_state == OUT_STREAM && c->in_state == IN_STREAM;
	c->out_state = OUT_ENDED;
	if (half && c->out.len)
		c->end_owed = true;
	else if (half)
		transport_end(c->base.transport);
	http1_check_over(c);
}

/* The message can't be completed as it was announced: only cutting the connection says so. */
static size_t out_broken(struct http1 *c, size_t len)
{
	http1_end_soon(c, true);
	return len;
}

/* Writes some of n body bytes between framing; returns how many of them were taken. */
static size_t write_framed(struct http1 *c, const char *before, size_t before_len, const void *bytes, size_t n,
			   const char *after, size_t after_len, bool *failed)
{
	struct iovec iov[3] = { { (void *)(uintptr_t)before, before_len },
				{ (void *)(uintptr_t)bytes, n },
				{ (void *)(uintptr_t)after, after_len } };
	size_t taken = transport_write(c->base.transport, iov, 3);
	int rc = 0;
	if (taken < before_len) {
		rc = buffer_append(&c->out, before + taken, before_len - taken);
		taken = before_len;
	}
	taken -= before_len;
	size_t of_body = taken < n ? taken : n;
	if (of_body == n && taken - n < after_len)
		rc = rc < 0 ? rc : buffer_append(&c->out, after + (taken - n), after_len - (taken - n));
	*failed = rc < 0;
	return of_body;
}

/* Continues the chunk that was promised, or makes one of all there is. */
static size_t send_chunk(struct http1 *c, const uint8_t *bytes, size_t len, bool end, bool *failed)
{
	char size[24];
	size_t size_len = 0;
	if (!c->chunk_left) {
		c->chunk_left = len;
		size_len = http1_chunk_write(size, len);
	}
	size_t n = c->chunk_left < len ? (size_t)c->chunk_left : len;
	bool whole = n == c->chunk_left;
	bool last = whole && n == len && end;
	size_t taken = write_framed(c, size, size_len, bytes, n, "\r\n0\r\n\r\n", last ? 7 : whole ? 2 : 0, failed);
	c->chunk_left -= taken;
	if (taken == n && last)
		out_end(c);
	return taken;
}

static size_t send_chunked(struct http1 *c, const uint8_t *bytes, size_t len, bool end)
{
	size_t done = 0;
	bool failed = false;
	while (done < len && c->out.len == 0 && !failed) {
		size_t part = len - done, asked = c->chunk_left && c->chunk_left < part ? (size_t)c->chunk_left : part;
		size_t taken = send_chunk(c, bytes + done, part, end, &failed);
		done += taken;
		if (taken < asked)
			break;
	}
	if (len == 0 && end && !c->chunk_left)
		failed = http1_put(c, "0\r\n\r\n", 5) < 0;
	if (failed || (end && done == len && c->chunk_left))
		return out_broken(c, len);
	if (len == 0 && end)
		out_end(c);
	return done;
}

static size_t send_plain(struct http1 *c, const uint8_t *bytes, size_t len, bool end)
{
	bool counted = c->out_state == OUT_LENGTH;
	if (counted && (len > c->send_left || (end && len < c->send_left)))
		return out_broken(c, len);
	size_t taken = 0;
	if (len) {
		struct iovec iov = { (void *)(uintptr_t)bytes, len };
		taken = transport_write(c->base.transport, &iov, 1);
	}
	if (counted)
		c->send_left -= taken;
	if (end && taken == len)
		out_end(c);
	return taken;
}

size_t http1_send_body(struct http_stream *s, const void *bytes, size_t len, bool end)
{
	struct http1 *c = http1_of(s->conn);
	size_t taken = 0;
	if (!c->live || c->closed || c->ending || c->out_state == OUT_ENDED)
		return len;
	if (c->out_state == OUT_NOTHING) {
		taken = len;
		if (end)
			out_end(c);
	} else if (c->out_state == OUT_HEAD || (c->out_state == OUT_HELD && !(end && len == 0)) ||
		   (c->out.len && len)) {
		taken = 0;
	} else if (c->out_state == OUT_HELD) {
		/* The user gives the tunnel up before it is answered: the answer may still be read. */
		out_end(c);
	} else if (c->out_state == OUT_CHUNKED) {
		taken = send_chunked(c, bytes, len, end);
	} else {
		taken = send_plain(c, bytes, len, end);
	}
	s->sent += taken;
	c->want_room |= taken < len;
	return taken;
}

int http1_send_trailers(struct http_stream *s, const struct http_head *trailers)
{
	struct http1 *c = http1_of(s->conn);
	if (!c->live || c->closed || c->ending || c->out_state == OUT_ENDED || c->out_state == OUT_HEAD)
		return -EPIPE;
	if (c->out_state != OUT_CHUNKED) { /* there is no place for them */
		http1_send_body(s, NULL, 0, true);
		return 0;
	}
	struct http1_framing none = { 0 };
	int rc = c->chunk_left ? -EPIPE : http1_put(c, "0\r\n", 3);
	if (rc == 0) {
		size_t room = http1_head_room(trailers, &none);
		AUTO(mem_freep) char *text = malloc(room);
		rc = text ? http1_put(c, text, http1_trailers_write(text, trailers)) : -ENOMEM;
	}
	if (rc < 0) {
		http1_end_soon(c, true);
		return -EPIPE;
	}
	out_end(c);
	return 0;
}
