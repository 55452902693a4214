/* SPDX-License-Identifier: Apache-2.0 */
/* A connection of HTTP/1, either side, over a transport that delivers the bytes once whole and once in random
 * pieces, to a user that takes them as it likes: what the user is told and what is sent must be the same.
 * First byte: bit 0 client, bits 1-2 the client's request, bit 3 small limits, bit 4 a narrow transport; the
 * second: seed. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/loop.h"
#include "agent/base/str.h"
#include "agent/helper/http/stream.h"
#include "agent/helper/transport.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct loop *loop;

struct run {
	struct transport t;
	struct http_conn *conn;
	struct http_stream *s;
	struct sb log, out, body;
	bool closed, transport_closed, ended, piecewise, client, length;
	size_t room; /* of the transport, until the next on_room; SIZE_MAX: any */
	bool cut;
	unsigned int seed;
	uint8_t *kept;
	size_t kept_len;
};

static struct run *run_of(const struct transport *t)
{
	return (struct run *)(uintptr_t)t;
}

/* --- the transport */

static size_t fuzz_write(struct transport *t, const struct iovec *iov, int count)
{
	struct run *r = run_of(t);
	size_t taken = 0;
	assert(!r->transport_closed && !r->ended);
	for (int i = 0; i < count; i++) {
		size_t n = iov[i].iov_len < r->room ? iov[i].iov_len : r->room;
		if (n)
			sb_add_bytes(&r->out, iov[i].iov_base, n);
		taken += n;
		if (r->room != SIZE_MAX)
			r->room -= n;
		if (n < iov[i].iov_len) {
			r->cut = true;
			break;
		}
	}
	return taken;
}

static void fuzz_flush(struct transport *t)
{
	(void)t;
}

/* The codec keeps the order: what it does not take comes first next time. */
static void deliver(struct run *r, const uint8_t *bytes, size_t len)
{
	size_t total = r->kept_len + len;
	if (r->transport_closed || total == 0)
		return;
	uint8_t *all = malloc(total);
	assert(all);
	if (r->kept_len)
		memcpy(all, r->kept, r->kept_len);
	if (len)
		memcpy(all + r->kept_len, bytes, len);
	free(r->kept);
	r->kept = NULL;
	r->kept_len = 0;
	size_t taken = r->t.events->on_data(&r->t, all, total, r->t.arg);
	if (!r->transport_closed) {
		assert(taken <= total);
		r->kept_len = total - taken;
		if (r->kept_len) {
			r->kept = malloc(r->kept_len);
			assert(r->kept);
			memcpy(r->kept, all + taken, r->kept_len);
		}
	}
	free(all);
}

static void fuzz_resume(struct transport *t)
{
	deliver(run_of(t), NULL, 0);
}

static void fuzz_end(struct transport *t)
{
	run_of(t)->ended = true;
}

static void fuzz_close(struct transport *t, bool abort)
{
	struct run *r = run_of(t);
	assert(!r->transport_closed);
	(void)abort;
	r->transport_closed = true;
}

static size_t fuzz_queued(const struct transport *t)
{
	(void)t;
	return 0;
}

static const struct transport_ops transport_ops = { fuzz_write, fuzz_flush, fuzz_resume,
						    fuzz_end,	fuzz_close, fuzz_queued };

/* --- the user */

static void log_fields(struct run *r, const struct http_head *h)
{
	for (size_t i = 0; i < h->field_count; i++) {
		const struct http_field *f = &h->fields[i];
		assert(http_name_valid(f->name.p, f->name.n) && http_value_valid(f->value.p, f->value.n));
		assert(f->id == http_name_id(f->name.p, f->name.n));
		assert(f->id != HTTP_CONTENT_LENGTH && f->id != HTTP_TRANSFER_ENCODING);
		sb_addf(&r->log, "%.*s:%.*s\n", (int)f->name.n, f->name.p, (int)f->value.n, f->value.p);
	}
}

static void answer(struct run *r)
{
	struct http_head *h = http_head_new();
	assert(h);
	h->status = 200;
	h->content_length = r->length ? (int64_t)r->body.len : -1;
	struct http_stream *s = r->s;
	stream_send_head(s, h, false);
	if (r->body.len < 1000 && !r->cut)
		stream_send_body(s, r->body.p ? r->body.p : "", r->body.len, true);
	else
		stream_reset(s, HTTP_RESET_CANCEL);
	r->s = NULL;
	http_head_free(h);
}

static void message_ended(struct run *r)
{
	sb_addf(&r->log, "body %zu ", r->body.len);
	if (r->body.len)
		sb_add_bytes(&r->log, r->body.p, r->body.len);
	sb_add(&r->log, "\n");
	if (!r->client)
		answer(r);
	sb_done(&r->body);
}

static void on_head(struct http_stream *s, struct http_head *h, bool end)
{
	struct run *r = s->user;
	assert(!r->closed);
	sb_addf(&r->log, "%u %.*s %.*s %.*s %lld %d %d\n", h->status, (int)h->method.n, h->method.p ? h->method.p : "",
		(int)h->path.n, h->path.p ? h->path.p : "", (int)h->authority.n, h->authority.p ? h->authority.p : "",
		(long long)h->content_length, h->upgrade, end);
	log_fields(r, h);
	if (!r->client && h->upgrade) { /* every tunnel is granted */
		struct http_head *yes = http_head_new();
		yes->status = 101;
		yes->upgrade = true;
		yes->protocol = http_head_text(yes, "x", 1);
		stream_send_head(s, yes, false);
		http_head_free(yes);
	}
	http_head_free(h);
	if (end)
		message_ended(r);
}

static size_t on_body(struct http_stream *s, const uint8_t *bytes, size_t len, bool end)
{
	struct run *r = s->user;
	assert(!r->closed);
	size_t n = len;
	if (r->piecewise && len && rand_r(&r->seed) % 3 == 0)
		n = (size_t)rand_r(&r->seed) % len;
	if (n)
		sb_add_bytes(&r->body, bytes, n);
	if (end && n == len)
		message_ended(r);
	return n;
}

static void on_trailers(struct http_stream *s, struct http_head *trailers)
{
	struct run *r = s->user;
	assert(trailers->field_count);
	log_fields(r, trailers);
	http_head_free(trailers);
	message_ended(r);
}

static void on_room(struct http_stream *s)
{
	(void)s;
}

static void on_reset(struct http_stream *s, enum http_reset why)
{
	struct run *r = s->user;
	assert(!r->closed);
	sb_addf(&r->log, "reset %d\n", why);
	r->s = NULL;
	sb_done(&r->body);
}

static const struct http_stream_events stream_events = { on_head, on_body, on_trailers, on_room, on_reset };

static void on_stream(struct http_conn *c, struct http_stream *s, void *arg)
{
	(void)c;
	struct run *r = arg;
	s->events = &stream_events;
	s->user = r;
	r->s = s;
	sb_done(&r->body);
}

static void on_bad(struct http_conn *c, enum http_bad why, uint16_t status, void *arg)
{
	(void)c;
	struct run *r = arg;
	assert(why < HTTP_BAD_COUNT && (*http_reason(status) || (status == 0 && why == HTTP_BAD_REQUEST_LINE)));
	sb_addf(&r->log, "bad %d %u\n", why, status);
}

static void on_capacity(struct http_conn *c, void *arg)
{
	(void)c;
	(void)arg;
}

static void on_closed(struct http_conn *c, void *arg)
{
	(void)c;
	struct run *r = arg;
	assert(!r->closed);
	r->closed = true;
	r->s = NULL;
}

static const struct http_conn_events conn_events = { on_stream, on_bad, on_capacity, on_closed };

/* --- a run */

static void stop(void *arg)
{
	loop_stop(arg);
}

static void tick(void)
{
	loop_defer(loop, stop, loop);
	loop_run(loop);
}

static void ask(struct run *r, unsigned int kind)
{
	static const char *const methods[] = { "GET", "HEAD", "CONNECT", "GET" };
	struct http_head *h = http_head_new();
	assert(h && http_client_open(r->conn, &stream_events, r, &r->s) == 0);
	h->method = http_head_text(h, methods[kind], strlen(methods[kind]));
	h->authority = http_head_text(h, "a:1", 3);
	if (kind != 2)
		h->path = http_head_text(h, "/", 1);
	h->upgrade = kind == 3;
	if (h->upgrade)
		h->protocol = http_head_text(h, "x", 1);
	assert(stream_send_head(r->s, h, kind < 2) == 0);
	http_head_free(h);
}

/* Several ticks: what one defers, the next does. */
static void settle(struct run *r)
{
	for (int i = 0; i < 4; i++) {
		tick();
		if (r->closed)
			continue;
		if (r->cut) {
			r->cut = false;
			r->room = 100;
			r->t.events->on_room(&r->t, r->t.arg);
		}
		if (!r->closed && r->s)
			stream_resume(r->s);
	}
}

static void run(struct run *r, const uint8_t *data, size_t size, bool piecewise)
{
	struct http_limits limits = http_limits_default;
	*r = (struct run){ .t = { .ops = &transport_ops }, .client = data[0] & 1, .piecewise = piecewise };
	limits.preserve_case = data[0] & 32;
	if (data[0] & 8) {
		limits.head_bytes = 100;
		limits.field_count = 5;
	}
	r->seed = data[1];
	r->length = data[1] & 1;
	r->room = data[0] & 16 ? 20 : SIZE_MAX;
	int rc = (r->client ? http1_client_new : http1_server_new)(loop, &r->t, &limits, &conn_events, r, &r->conn);
	assert(rc == 0);
	if (r->client)
		ask(r, data[0] >> 1 & 3);
	data += 2;
	size -= 2;
	while (size && !r->transport_closed) {
		size_t n = piecewise ? 1 + (size_t)rand_r(&r->seed) % 7 : size;
		n = n < size ? n : size;
		deliver(r, data, n);
		data += n;
		size -= n;
		if (piecewise && rand_r(&r->seed) % 8 == 0)
			settle(r);
	}
	for (int i = 0; i < 200 && !r->closed && (r->kept_len || r->cut); i++)
		settle(r);
	if (!r->transport_closed && !r->kept_len)
		r->t.events->on_end(&r->t, r->t.arg);
	settle(r);
	if (!r->closed)
		http_conn_close(r->conn);
	tick();
	tick();
	assert(r->transport_closed && r->closed);
}

static void run_done(struct run *r)
{
	free(r->kept);
	sb_done(&r->log);
	sb_done(&r->out);
	sb_done(&r->body);
}

static bool same(const struct sb *a, const struct sb *b)
{
	return a->len == b->len && (a->len == 0 || memcmp(a->p, b->p, a->len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	if (!loop && loop_new(&loop, NULL) < 0)
		return 0;
	struct run whole, pieces;
	run(&whole, data, size, false);
	run(&pieces, data, size, true);
	/* Through a narrow transport what is cut, and so what is reset, depends on when. */
	if (!(data[0] & 16) && !same(&whole.log, &pieces.log))
		abort();
	run_done(&whole);
	run_done(&pieces);
	return 0;
}
