/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP/2 codec. The first byte says which side ours is, how the rest is cut, how much users take and how much the
 * transport does, and whether the peer starts as it should; the rest is what the peer sends. Streams must obey stream.h:
 * no event after the end, no more kept than windows allow. */
#include "agent/helper/http/stream.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/helper/transport.h"

enum { STREAMS = 300, CLIENT_STREAMS = 3 };

struct wire {
	struct transport t;
	size_t limit, queued;
	bool cut, closed;
};

struct user {
	struct http_stream *s; /* NULL: gone */
	struct side *side;
	bool head, end, local_end;
	uint64_t taken;
};

struct side {
	struct loop *loop;
	struct wire wire;
	struct http_conn *c;
	struct user users[STREAMS];
	size_t count;
	uint8_t mode;
};

/* --- a transport that forgets what it is given */

static size_t wire_write(struct transport *t, const struct iovec *iov, int count)
{
	struct wire *w = container_of(t, struct wire, t);
	size_t taken = 0;
	uint8_t sum = 0;
	assert(!w->closed);
	for (int i = 0; i < count; i++) {
		size_t n = iov[i].iov_len, room = w->limit - w->queued;
		w->cut |= n > room;
		n = n < room ? n : room;
		for (size_t k = 0; k < n; k++)
			sum ^= ((const uint8_t *)iov[i].iov_base)[k]; /* ASan sees a view that is too long */
		w->queued += n;
		taken += n;
		if (n < iov[i].iov_len)
			break;
	}
	return taken + (size_t)(sum & 0);
}

static void wire_nothing(struct transport *t)
{
	(void)t;
}

static void wire_close(struct transport *t, bool abort)
{
	struct wire *w = container_of(t, struct wire, t);
	(void)abort;
	assert(!w->closed);
	w->closed = true;
}

static size_t wire_queued(const struct transport *t)
{
	return container_of(t, const struct wire, t)->queued;
}

static const struct transport_ops wire_ops = { wire_write,   wire_nothing, wire_nothing,
					       wire_nothing, wire_close,   wire_queued };

/* --- users */

static void maybe_gone(struct user *u)
{
	if (u->end && u->local_end)
		u->s = NULL;
}

static void answer(struct user *u, const struct http_head *request, bool end)
{
	static const char text[5000] = "text";
	struct http_head *h = http_head_new();
	assert(h);
	h->status = request->upgrade ? 101 : 200;
	h->upgrade = request->upgrade;
	http_add(h, "x-one", "1");
	bool no_body = end && !request->upgrade && request->path.n % 2;
	u->local_end = no_body;
	int rc = stream_send_head(u->s, h, no_body);
	http_head_free(h);
	if (rc == 0 && !no_body && end) {
		u->local_end = stream_send_body(u->s, text, request->path.n % sizeof(text), true) ==
			       request->path.n % sizeof(text);
	}
}

static void on_head(struct http_stream *s, struct http_head *head, bool end)
{
	struct user *u = s->user;
	assert(u->s == s && !u->end);
	bool final = head->status == 0 || head->status >= 200 || head->upgrade;
	assert(!u->head && (final || !end));
	u->head = final;
	u->end = end;
	for (size_t i = 0; i < head->field_count; i++) {
		assert(http_name_valid(head->fields[i].name.p, head->fields[i].name.n));
		assert(http_value_valid(head->fields[i].value.p, head->fields[i].value.n));
	}
	if (head->status == 0) {
		assert(head->method.n && head->authority.n && (head->path.n || http_is(head->method, "CONNECT")));
		if (u->side->mode & 64 && head->path.n % 5 == 3) {
			stream_reset(s, HTTP_RESET_CANCEL);
			u->s = NULL;
		} else {
			answer(u, head, end);
		}
	}
	http_head_free(head);
	maybe_gone(u);
}

static size_t on_body(struct http_stream *s, const uint8_t *bytes, size_t len, bool end)
{
	struct user *u = s->user;
	assert(u->s == s && u->head && !u->end);
	uint8_t sum = 0;
	for (size_t i = 0; i < len; i++)
		sum ^= bytes[i];
	size_t n = u->side->mode & 32 ? len / 2 + (size_t)(sum & 0) : len;
	if (!u->local_end && u->side->count % 2) {
		size_t sent = stream_send_body(s, bytes, n, end && n == len);
		u->local_end = end && n == len && sent == n;
		n = sent < n ? sent : n;
	}
	u->taken += n;
	u->end = end && n == len;
	if (sum == 0x55) {
		stream_reset(s, HTTP_RESET_INTERNAL);
		u->s = NULL;
	}
	maybe_gone(u);
	return n;
}

static void on_trailers(struct http_stream *s, struct http_head *trailers)
{
	struct user *u = s->user;
	assert(u->s == s && u->head && !u->end);
	u->end = true;
	if (!u->local_end)
		u->local_end = stream_send_trailers(s, trailers) == 0;
	http_head_free(trailers);
	maybe_gone(u);
}

static void on_room(struct http_stream *s)
{
	struct user *u = s->user;
	assert(u->s == s && !u->local_end);
	stream_resume(s);
}

static void on_reset(struct http_stream *s, enum http_reset why)
{
	struct user *u = s->user;
	(void)why;
	assert(u->s == s);
	u->s = NULL;
}

static const struct http_stream_events stream_events = { on_head, on_body, on_trailers, on_room, on_reset };

static void on_stream(struct http_conn *c, struct http_stream *s, void *arg)
{
	struct side *side = arg;
	assert(side->c == c);
	if (side->count == STREAMS)
		abort(); /* the corpus has no input of so many; a limit of requests at once is the codec's */
	struct user *u = &side->users[side->count++];
	*u = (struct user){ .s = s, .side = side };
	s->events = &stream_events;
	s->user = u;
}

static void on_closed(struct http_conn *c, void *arg)
{
	struct side *side = arg;
	assert(side->c == c);
	for (size_t i = 0; i < side->count; i++)
		assert(!side->users[i].s);
	side->c = NULL;
}

static void on_bad(struct http_conn *c, enum http_bad why, uint16_t status, void *arg)
{
	struct side *side = arg;
	(void)why;
	(void)status;
	assert(side->c == c);
}

static void on_capacity(struct http_conn *c, void *arg)
{
	struct side *side = arg;
	assert(side->c == c);
	assert(http_conn_capacity(c) <= 100 + CLIENT_STREAMS || !(side->mode & 1));
}

static const struct http_conn_events conn_events = { on_stream, on_bad, on_capacity, on_closed };

/* --- */

static void on_stop(void *arg)
{
	loop_stop(arg);
}

static void turn(struct side *side)
{
	loop_defer(side->loop, on_stop, side->loop);
	loop_run(side->loop);
	if (side->wire.cut && side->c) {
		side->wire.cut = false;
		side->wire.queued = 0;
		side->wire.t.events->on_room(&side->wire.t, side->wire.t.arg);
	}
	if (!(side->mode & 16))
		side->wire.queued = 0;
	for (size_t i = 0; i < side->count && side->c; i++)
		if (side->users[i].s && side->mode & 32)
			stream_resume(side->users[i].s);
}

static void feed(struct side *side, const uint8_t *bytes, size_t len, size_t piece)
{
	size_t pieces = 0;
	while (len && side->c) {
		size_t n = piece && piece < len && pieces++ < 200 ? piece : len;
		AUTO(mem_freep) uint8_t *exact = malloc(n);
		assert(exact);
		memcpy(exact, bytes, n);
		size_t taken = side->wire.t.events->on_data(&side->wire.t, exact, n, side->wire.t.arg);
		assert(taken == n || !side->c);
		bytes += n;
		len -= n;
		turn(side);
	}
}

static void requests(struct side *side)
{
	for (size_t i = 0; i < CLIENT_STREAMS && side->c; i++) {
		struct user *u = &side->users[side->count++];
		*u = (struct user){ .side = side };
		if (http_client_open(side->c, &stream_events, u, &u->s) < 0)
			return;
		struct http_head *h = http_head_new();
		assert(h);
		h->method = (struct http_string){ i == 1 ? "HEAD" : "POST", 4 };
		h->scheme = (struct http_string){ "http", 4 };
		h->authority = (struct http_string){ "a", 1 };
		h->path = (struct http_string){ "/", 1 };
		h->expect_continue = i == 2;
		u->local_end = i == 1;
		stream_send_head(u->s, h, u->local_end);
		http_head_free(h);
		if (i == 2)
			u->local_end = stream_send_body(u->s, "body", 4, true) == 4;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t start[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
	static const size_t pieces[] = { 0, 1, 7, 64 };
	static struct loop *loop;
	if (size == 0 || (!loop && loop_new(&loop, NULL) < 0))
		return 0;
	static struct side side;
	side = (struct side){ .loop = loop, .mode = data[0] };
	bool server = data[0] & 1;
	side.wire.t.ops = &wire_ops;
	side.wire.limit = data[0] & 16 ? 600 : TRANSPORT_QUEUE;
	struct http_limits limits = http_limits_default;
	limits.head_bytes = 2000;
	limits.field_count = 20;
	int rc = server ? http2_server_new(loop, &side.wire.t, &limits, &conn_events, &side, &side.c) :
			  http2_client_new(loop, &side.wire.t, &limits, &conn_events, &side, &side.c);
	assert(rc == 0);
	if (!server)
		requests(&side);
	turn(&side);
	size_t skip = server ? 0 : 24;
	if (data[0] & 8)
		feed(&side, start + skip, sizeof(start) - 1 - skip, 0);
	feed(&side, data + 1, size - 1, pieces[data[0] >> 1 & 3]);
	if (side.c && data[0] & 128)
		http_conn_drain(side.c);
	turn(&side);
	if (side.c)
		http_conn_close(side.c);
	assert(!side.c && side.wire.closed);
	turn(&side);
	turn(&side);
	return 0;
}
