/* SPDX-License-Identifier: Apache-2.0 */
/* An HBONE stream as a transport: where relay.c has an application's socket, here is an HTTP connection of our own.
 *
 *   in   DATA is handed out from where it was decrypted; what is not taken is kept in to_app, and its credit returns to
 *        the peer when it is taken. Nothing stops the tunnel's reading: the window bounds what is kept.
 *   out  small writes become frames in the tunnel's output, beside those of its other streams, and leave at the end of the
 *        tick in as few records as they fill. Large ones are sealed at once. What windows and tunnel do not take is
 *        queued here.
 *
 * The stream owns the transport's end: it may go first (reset, policy, the tunnel's end), and then the user is told; when
 * the user closes first, the stream goes on until what was queued is sent and the peer has ended, for 5 s. */
#include "agent/helper/hbone_internal.h"

#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/helper/transport_internal.h"
#include "agent/model/identity.h"

#include <errno.h>
#include <string.h>

enum {
	TRANSPORT_MAGIC = 0x6d727468,
	DIRECT_BYTES = 8 << 10, /* from here on sealed at once */
};

struct hbone_transport {
	struct transport t; /* first */
	uint32_t magic;
	struct loop *loop;
	struct hbone_stream *s;	    /* NULL: it is gone */
	transport_opened_fn opened; /* until it was called */
	void *arg;
	struct identity *peer;
	struct buffer out; /* what windows or tunnel did not take */
	int error;
	bool deferred;
	bool starved; /* a write was cut short */
	bool held;    /* on_data left something: not before transport_resume() */
	bool delivering, resumed;
	bool end_told, broken_told;
	bool ending, closed;
	bool done; /* nobody will call it any more */
};

static struct hbone_transport *transport_of(const struct transport *t)
{
	struct hbone_transport *ht = (struct hbone_transport *)(uintptr_t)t;
	if (ht->magic != TRANSPORT_MAGIC)
		abort();
	return ht;
}

static void on_tick_end(void *arg);

static void transport_defer(struct hbone_transport *ht)
{
	if (ht->deferred)
		return;
	ht->deferred = true;
	loop_defer(ht->loop, on_tick_end, ht);
}

static void out_count(struct hbone_transport *ht, uint32_t before)
{
	if (ht->s && ht->out.cap != before)
		hbone_count_bytes(ht->s->h, (int64_t)ht->out.cap - before);
}

void hbone_transport_gone(struct hbone_stream *s)
{
	struct hbone_transport *ht = TAKE(s->transport);
	if (!ht)
		return;
	uint32_t cap = ht->out.cap;
	buffer_done(&ht->out);
	out_count(ht, cap);
	ht->error = s->error ? s->error : -ECONNRESET;
	ht->s = NULL;
	ht->done = ht->closed;
	transport_defer(ht);
}

/* --- out --- */

/* Sends what the windows and the tunnel take. Both may end the stream. Returns the bytes sent. */
static size_t push(struct hbone_stream *s, const struct iovec *iov, int count, size_t len)
{
	struct hbone_transport *ht = s->transport;
	size_t done = 0;
	while (done < len && ht->s && s->conn) {
		ssize_t n = conn_push(s->conn, s, iov, count, done);
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return done;
}

/* What was asked for and waited for its turn. */
static void transport_pump(struct hbone_transport *ht)
{
	struct hbone_stream *s = ht->s;
	if (s->state != STREAM_OPEN)
		return;
	if (!s->conn) {
		if (ht->closed)
			stream_close(s);
		return;
	}
	if (ht->out.len) {
		uint32_t cap = ht->out.cap;
		struct iovec iov = { buffer_head(&ht->out), ht->out.len };
		size_t sent = push(s, &iov, 1, ht->out.len);
		if (!ht->s)
			return;
		if (sent)
			buffer_consume(&ht->out, sent);
		out_count(ht, cap);
	}
	if (ht->ending && ht->out.len == 0 && s->conn && !s->h2.local_end) {
		h2_end(s->conn->h2, &s->h2);
		conn_touch(s->conn);
	}
	if (ht->closed && s->h2.local_end && s->h2.remote_end)
		stream_close(s);
}

static int queue(struct hbone_transport *ht, const struct iovec *iov, int count, size_t skip, size_t len)
{
	uint32_t cap = ht->out.cap;
	uint8_t *to = len ? buffer_reserve(&ht->out, len) : NULL;
	if (len && !to)
		return -ENOMEM;
	for (int i = 0; i < count && len; i++) {
		if (skip >= iov[i].iov_len) {
			skip -= iov[i].iov_len;
			continue;
		}
		size_t n = iov[i].iov_len - skip < len ? iov[i].iov_len - skip : len;
		memcpy(to, (const uint8_t *)iov[i].iov_base + skip, n);
		buffer_added(&ht->out, n);
		to += n;
		skip = 0;
		len -= n;
	}
	out_count(ht, cap);
	return 0;
}

static size_t transport_hbone_write(struct transport *t, const struct iovec *iov, int count)
{
	struct hbone_transport *ht = transport_of(t);
	struct hbone_stream *s = ht->s;
	size_t total = 0, sent = 0;
	for (int i = 0; i < count; i++)
		total += iov[i].iov_len;
	if (!s || ht->ending || ht->closed)
		return total; /* on_broken tells */

	struct hbone *h = s->h;
	hbone_begin(h);
	if (ht->out.len == 0 && s->state == STREAM_OPEN)
		sent = push(s, iov, count, total);
	hbone_later(h);
	if (!ht->s || sent == total)
		return total;

	size_t room = ht->out.len < TRANSPORT_QUEUE ? TRANSPORT_QUEUE - ht->out.len : 0;
	size_t rest = total - sent < room ? total - sent : room;
	if (queue(ht, iov, count, sent, rest) < 0) {
		s->error = -ENOMEM;
		hbone_begin(h);
		stream_abort(s, H2_INTERNAL_ERROR);
		hbone_later(h);
		return total;
	}
	if (sent + rest < total)
		ht->starved = true;
	return sent + rest;
}

static void transport_hbone_flush(struct transport *t)
{
	struct hbone_transport *ht = transport_of(t);
	struct hbone_stream *s = ht->s;
	if (!s || !s->conn)
		return;
	struct hbone *h = s->h;
	hbone_begin(h);
	transport_pump(ht);
	if (ht->s && s->conn)
		conn_flush(s->conn);
	hbone_later(h);
	if (ht->starved)
		transport_defer(ht);
}

/* --- in --- */

static void tell_end(struct hbone_transport *ht)
{
	struct hbone_stream *s = ht->s;
	if (!s || ht->closed || ht->end_told || ht->held || s->to_app.len || !s->h2.remote_end)
		return;
	ht->end_told = true;
	ht->t.events->on_end(&ht->t, ht->t.arg);
}

void hbone_transport_data(struct hbone_stream *s, const struct iovec *iov, int count, size_t bytes)
{
	struct hbone_transport *ht = s->transport;
	struct hbone *h = s->h;
	struct hbone_conn *c = s->conn;
	size_t done = 0;
	int i = 0;
	if (ht->closed) {
		done = bytes; /* nobody wants them */
		i = count;
	}
	for (; i < count && !ht->held; i++) {
		ht->delivering = true;
		size_t took = ht->t.events->on_data(&ht->t, iov[i].iov_base, iov[i].iov_len, ht->t.arg);
		ht->delivering = false;
		done += took < iov[i].iov_len ? took : iov[i].iov_len;
		if (!ht->s || ht->closed) {
			done = bytes;
			break;
		}
		if (took < iov[i].iov_len)
			ht->held = true;
		else
			ht->resumed = false;
	}
	/* The stream may be gone; the credit of the connection returns all the same. */
	if (c && c->state == CONN_OPEN && done) {
		h2_consumed(c->h2, ht->s ? &s->h2 : NULL, done);
		conn_touch(c);
	}
	if (!ht->s)
		return;
	if (done < bytes && relay_keep(s, iov, count, done) < 0) {
		hbone_refuse(h, s->pod, DROP_NO_MEMORY, s->inbound, NULL, &s->destination, NULL, NULL);
		s->error = -ENOMEM;
		stream_abort(s, H2_INTERNAL_ERROR);
		return;
	}
	if (ht->held && ht->resumed)
		transport_defer(ht);
}

void hbone_transport_end(struct hbone_stream *s)
{
	struct hbone_transport *ht = s->transport;
	if (ht->closed)
		transport_defer(ht);
	else
		tell_end(ht);
}

void hbone_transport_resume(struct hbone_stream *s)
{
	/* Streams end and begin in what follows: not while the caller walks through them. */
	if (s->transport->out.len || s->transport->ending)
		transport_defer(s->transport);
}

static void deliver_kept(struct hbone_transport *ht)
{
	struct hbone_stream *s = ht->s;
	struct hbone *h = s->h;
	struct hbone_conn *c = s->conn;
	struct buffer kept = s->to_app;
	s->to_app = (struct buffer){ 0 };
	ht->held = false;
	if (kept.len) {
		size_t len = kept.len;
		ht->delivering = true;
		size_t took = ht->t.events->on_data(&ht->t, buffer_head(&kept), len, ht->t.arg);
		ht->delivering = false;
		bool over = !ht->s || ht->closed;
		if (over || took > len)
			took = len;
		if (c && c->state == CONN_OPEN && took) {
			h2_consumed(c->h2, ht->s ? &s->h2 : NULL, took);
			conn_touch(c);
		}
		if (took < len) {
			/* What came meanwhile, within on_data, can't be: only the tunnel brings bytes. */
			uint32_t cap = kept.cap;
			buffer_consume(&kept, took);
			hbone_count_bytes(h, (int64_t)kept.cap - cap);
			s->to_app = kept;
			ht->held = true;
			if (ht->resumed)
				transport_defer(ht);
			return;
		}
		hbone_count_bytes(h, -(int64_t)kept.cap);
	}
	buffer_done(&kept);
	tell_end(ht);
}

static void transport_hbone_resume(struct transport *t)
{
	struct hbone_transport *ht = transport_of(t);
	if (ht->delivering) {
		ht->resumed = true; /* what it is about to leave is offered again at the end of the tick */
		return;
	}
	if (!ht->held || !ht->s || ht->closed || ht->opened)
		return;
	struct hbone *h = ht->s->h;
	hbone_begin(h);
	deliver_kept(ht);
	hbone_later(h);
}

/* --- the end --- */

static void transport_hbone_end(struct transport *t)
{
	struct hbone_transport *ht = transport_of(t);
	if (ht->ending || !ht->s)
		return;
	ht->ending = true;
	transport_defer(ht);
}

static void transport_hbone_close(struct transport *t, bool abort_it)
{
	struct hbone_transport *ht = transport_of(t);
	struct hbone_stream *s = ht->s;
	if (ht->closed)
		return;
	ht->closed = true;
	transport_defer(ht);
	if (!s) {
		ht->done = true;
		return;
	}
	struct hbone *h = s->h;
	hbone_begin(h);
	if (abort_it || s->state != STREAM_OPEN) {
		stream_abort(s, H2_CANCEL);
	} else {
		stream_discard(s);
		ht->ending = true;
		s->closing = true;
		s->deadline_ms = (uint32_t)(hbone_now_ms(h) + TRANSPORT_LINGER_MS);
	}
	hbone_later(h);
}

static size_t transport_hbone_queued(const struct transport *t)
{
	return transport_of(t)->out.len;
}

static void tell_opened(struct hbone_transport *ht)
{
	transport_opened_fn opened = TAKE(ht->opened);
	if (ht->s) {
		opened(&ht->t, 0, ht->arg);
		ht->resumed = true;
		return;
	}
	ht->done = true;
	opened(NULL, ht->error, ht->arg);
}

static void on_tick_end(void *arg)
{
	struct hbone_transport *ht = arg;
	ht->deferred = false;
	struct hbone *h = ht->s ? ht->s->h : NULL;
	if (h)
		hbone_enter(h);
	if (ht->opened && (!ht->s || ht->s->state == STREAM_OPEN))
		tell_opened(ht);
	if (ht->s && ht->resumed && !ht->opened) {
		ht->resumed = false;
		if (ht->held && !ht->closed)
			deliver_kept(ht);
	}
	if (ht->s)
		transport_pump(ht);
	if (ht->s && ht->starved && ht->out.len == 0 && !ht->closed) {
		ht->starved = false;
		ht->t.events->on_room(&ht->t, ht->t.arg);
	}
	if (!ht->s && !ht->closed && !ht->opened && !ht->broken_told && !ht->done) {
		ht->broken_told = true;
		ht->t.events->on_broken(&ht->t, ht->error, ht->t.arg);
	}
	if (h)
		hbone_leave(h);
	if (ht->done && !ht->deferred) {
		identity_unref(ht->peer);
		ht->magic = 0;
		free(ht);
	}
}

static const struct transport_ops hbone_ops = {
	.write = transport_hbone_write,
	.flush = transport_hbone_flush,
	.resume = transport_hbone_resume,
	.end = transport_hbone_end,
	.close = transport_hbone_close,
	.queued = transport_hbone_queued,
};

static struct hbone_transport *transport_new(struct hbone_stream *s)
{
	struct hbone_transport *ht = calloc(1, sizeof(*ht));
	if (!ht)
		return NULL;
	ht->t.ops = &hbone_ops;
	ht->t.tls = true;
	ht->magic = TRANSPORT_MAGIC;
	ht->loop = s->h->loop;
	ht->s = s;
	ht->held = true; /* nobody listens yet */
	s->transport = ht;
	return ht;
}

static void transport_identify(struct hbone_transport *ht)
{
	const struct hbone_conn *c = ht->s->conn;
	if (!c || !c->peer.identity)
		return;
	ht->peer = identity_ref(c->peer.identity);
	ht->t.peer = ht->peer;
}

struct transport *hbone_transport_new(struct hbone_stream *s)
{
	struct hbone_transport *ht = transport_new(s);
	if (!ht)
		return NULL;
	transport_identify(ht);
	ht->t.remote = s->conn->remote;
	ht->t.local = s->destination;
	ht->resumed = true;
	transport_defer(ht);
	return &ht->t;
}

void hbone_transport_opened(struct hbone_stream *s)
{
	transport_identify(s->transport);
	transport_defer(s->transport);
}

struct transport *hbone_open(struct hbone *h, struct worker_pod *pod, const struct endpoint_info *info,
			     transport_opened_fn fn, void *arg)
{
	struct hbone_stream *s = stream_new(h, pod, -1, false);
	if (!s)
		return NULL;
	s->uncharged = true;
	struct hbone_transport *ht = transport_new(s);
	if (!ht) {
		stream_close(s);
		return NULL;
	}
	ht->opened = fn;
	ht->arg = arg;
	ht->t.remote = info->endpoint;
	if (pod->addr_count)
		ht->t.local.addr = pod->addrs[0];
	hbone_begin(h);
	s->destination = info->endpoint;
	outbound_join(s, info);
	hbone_later(h);
	return &ht->t;
}

void hbone_open_cancel(struct transport *t)
{
	struct hbone_transport *ht = transport_of(t);
	ht->opened = NULL;
	transport_close(t, true);
}
