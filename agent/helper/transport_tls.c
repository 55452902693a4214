/* SPDX-License-Identifier: Apache-2.0 */
/* TLS over another transport, as a client. Ciphertext is opened from where the inner transport has it, one record at a
 * time on the stack; what the user does not take of a record is kept, and the rest of the ciphertext stays with the inner
 * transport. What is written in a tick is sealed at its end in as few records as it fills. An end of the inner transport
 * without close_notify is an end: many servers have no other. */
#include "agent/helper/transport_internal.h"

#include "agent/base/err.h"
#include "agent/base/log.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/helper/tls_client.h"
#include "agent/helper/worker.h"
#include "agent/model/identity.h"

#include <errno.h>
#include <string.h>

enum { TLS_MAGIC = 0x74736c74, RECORD_MAX = 16384, DIRECT_BYTES = 8 << 10, SEALED_MAX = 64 << 10 };

enum tls_state { TLS_HANDSHAKE, TLS_OPEN, TLS_OVER };

struct transport_tls {
	struct transport t; /* first */
	uint32_t magic;
	enum tls_state state;
	struct transports *ts;
	struct transport *inner; /* NULL: closed */
	struct tls_client *tls;
	transport_opened_fn opened; /* until it was called */
	void *arg;
	struct buffer plain;	  /* to be sealed */
	struct buffer kept;	  /* opened, not taken */
	struct loop_timer *timer; /* after a close that could not send all */
	uint32_t counted;
	int error;
	char *failure; /* in words; NULL: see error */
	bool deferred, starved, held, delivering, resumed;
	bool inner_full; /* it will tell when it has room */
	bool eof, end_told, broken_told;
	bool ending, ended, closed, done;
	struct identity *peer;
	char alpn[32];
};

static struct transport_tls *tls_of(const struct transport *t)
{
	struct transport_tls *x = (struct transport_tls *)(uintptr_t)t;
	if (x->magic != TLS_MAGIC)
		abort();
	return x;
}

static void on_tick_end(void *arg);

static void tls_defer(struct transport_tls *x)
{
	if (x->deferred)
		return;
	x->deferred = true;
	loop_defer(x->ts->loop, on_tick_end, x);
}

static void tls_count(struct transport_tls *x)
{
	uint32_t now = x->kept.cap + x->plain.cap + (x->tls ? tls_client_output(x->tls)->cap : 0);
	if (now == x->counted)
		return;
	worker_metrics(x->ts->w)->buffers_bytes += (uint64_t)((int64_t)now - x->counted);
	x->counted = now;
}

/* Nothing is sent or received any more. */
static void tls_over(struct transport_tls *x, bool abort_inner)
{
	x->state = TLS_OVER;
	if (x->inner)
		transport_close(TAKE(x->inner), abort_inner);
	loop_timer_free(TAKE(x->timer));
	transports_release(x->ts, &x->plain);
	buffer_done(&x->kept);
	tls_client_free(TAKE(x->tls));
	tls_count(x);
	x->done = x->closed;
	tls_defer(x);
}

static void tls_fail(struct transport_tls *x, int error)
{
	if (x->state == TLS_OVER)
		return;
	x->error = error;
	tls_over(x, true);
}

/* --- out --- */

/* Hands sealed bytes to the inner transport. False: not all of them went. */
static bool pass_on(struct transport_tls *x)
{
	struct buffer *out = tls_client_output(x->tls);
	while (out->len && !x->inner_full) {
		struct iovec iov = { buffer_head(out), out->len };
		size_t took = transport_write(x->inner, &iov, 1);
		x->inner_full = took < iov.iov_len;
		if (took)
			buffer_consume(out, took);
	}
	return out->len == 0;
}

/* Seals what waits, as far as the inner transport takes it. */
static void tls_pump(struct transport_tls *x)
{
	if (x->state == TLS_OVER || !pass_on(x) || x->state != TLS_OPEN)
		return;
	while (x->plain.len) {
		size_t n = x->plain.len < SEALED_MAX ? x->plain.len : SEALED_MAX;
		if (tls_client_write(x->tls, buffer_head(&x->plain), n) < 0) {
			tls_fail(x, -EIO);
			return;
		}
		transports_consume(x->ts, &x->plain, n);
		if (!pass_on(x))
			return;
	}
	if (x->ending && !x->ended) {
		x->ended = true;
		tls_client_end(x->tls);
		pass_on(x);
	}
	if (x->ended && tls_client_output(x->tls)->len == 0) {
		transport_end(x->inner);
		if (x->closed)
			tls_over(x, false);
	}
}

static size_t tls_queued(const struct transport_tls *x)
{
	return x->plain.len + (x->tls ? tls_client_output(x->tls)->len : 0);
}

static int seal_at_once(struct transport_tls *x, const struct iovec *iov, int count)
{
	for (int i = 0; i < count; i++)
		if (tls_client_write(x->tls, iov[i].iov_base, iov[i].iov_len) < 0)
			return -EIO;
	pass_on(x);
	return 0;
}

static size_t transport_tls_write(struct transport *t, const struct iovec *iov, int count)
{
	struct transport_tls *x = tls_of(t);
	size_t total = 0, done = 0;
	for (int i = 0; i < count; i++)
		total += iov[i].iov_len;
	if (x->state != TLS_OPEN || x->ending || x->closed)
		return total; /* on_broken tells */

	tls_defer(x);
	size_t queued = tls_queued(x);
	size_t room = queued < TRANSPORT_QUEUE ? TRANSPORT_QUEUE - queued : 0;
	if (queued == 0 && total >= DIRECT_BYTES && total <= room) {
		if (seal_at_once(x, iov, count) < 0)
			tls_fail(x, -EIO);
		return total;
	}
	for (int i = 0; i < count && done < room; i++) {
		size_t n = iov[i].iov_len < room - done ? iov[i].iov_len : room - done;
		if (transports_append(x->ts, &x->plain, iov[i].iov_base, n) < 0) {
			tls_fail(x, -ENOMEM);
			return total;
		}
		done += n;
	}
	if (done < total)
		x->starved = true;
	return done;
}

static void transport_tls_flush(struct transport *t)
{
	struct transport_tls *x = tls_of(t);
	tls_pump(x);
	if (x->inner)
		transport_flush(x->inner);
}

/* --- in --- */

static void tell_end(struct transport_tls *x)
{
	if (!x->eof || x->end_told || x->held || x->closed || x->opened || x->state != TLS_OPEN)
		return;
	x->end_told = true;
	x->t.events->on_end(&x->t, x->t.arg);
}

/* False: no more for now. */
static bool deliver(struct transport_tls *x, const uint8_t *bytes, size_t len)
{
	x->delivering = true;
	size_t took = x->t.events->on_data(&x->t, bytes, len, x->t.arg);
	x->delivering = false;
	if (x->closed || x->state != TLS_OPEN)
		return false;
	if (took >= len) {
		x->resumed = false;
		return true;
	}
	x->held = true;
	if (buffer_append(&x->kept, bytes + took, len - took) < 0)
		tls_fail(x, -ENOMEM);
	if (x->resumed)
		tls_defer(x);
	return false;
}

static size_t open_records(struct transport_tls *x, const uint8_t *bytes, size_t len)
{
	uint8_t plain[RECORD_MAX];
	size_t left = len;
	while (x->state == TLS_OPEN && !x->held && !x->eof) {
		ssize_t n = tls_client_read(x->tls, &bytes, &left, plain, sizeof(plain));
		if (n == -EPIPE) {
			x->eof = true;
		} else if (n < 0) {
			tls_fail(x, -EPROTO);
		} else if (n == 0 || (!x->closed && !deliver(x, plain, (size_t)n))) {
			break; /* what comes after close is thrown away */
		}
	}
	if (x->state == TLS_OPEN && tls_client_output(x->tls)->len)
		tls_defer(x); /* answers to what OpenSSL was told */
	if (x->eof)
		tell_end(x);
	return x->eof || x->state == TLS_OVER || x->closed ? len : len - left;
}

static void tls_opened(struct transport_tls *x)
{
	const char *alpn = tls_client_alpn(x->tls), *peer = tls_client_peer(x->tls);
	x->state = TLS_OPEN;
	if (peer && str_starts(peer, "spiffe://") && identity_parse(peer, &x->peer, NULL) == 0)
		x->t.peer = x->peer;
	if (alpn) {
		/* Sidecars of Istio have names of their own for the same. */
		str_copy(x->alpn, sizeof(x->alpn), str_starts(alpn, "istio-") ? alpn + strlen("istio-") : alpn);
		x->t.alpn = x->alpn;
	}
	tls_defer(x);
}

static size_t handshake(struct transport_tls *x, const uint8_t *bytes, size_t len)
{
	struct err err = ERR_INIT;
	size_t left = len;
	int rc = tls_client_handshake(x->tls, &bytes, &left, &err);
	if (rc < 0)
		log_debug("%s", err.text);
	pass_on(x); /* an alert, too */
	if (rc < 0) {
		worker_metrics(x->ts->w)->handshakes_failed++;
		x->error = rc;
		x->failure = strdup(err.text);
		tls_over(x, false);
		return len;
	}
	if (rc == 1) {
		worker_metrics(x->ts->w)->handshakes_client++;
		x->held = true; /* what lies behind it waits for the user */
		tls_opened(x);
	}
	return len - left;
}

static size_t on_data(struct transport *inner, const uint8_t *bytes, size_t len, void *arg)
{
	struct transport_tls *x = arg;
	(void)inner;
	if (x->state == TLS_HANDSHAKE)
		return handshake(x, bytes, len);
	if (x->state != TLS_OPEN || x->eof)
		return len;
	if (x->held)
		return 0;
	size_t took = open_records(x, bytes, len);
	tls_count(x);
	return took;
}

static void on_end(struct transport *inner, void *arg)
{
	struct transport_tls *x = arg;
	(void)inner;
	x->eof = true;
	if (x->state == TLS_HANDSHAKE) { /* it wants none of this */
		x->failure = strdup("tls: the server ended the connection during the handshake");
		tls_fail(x, -EPROTO);
	} else {
		tell_end(x);
	}
}

static void on_room(struct transport *inner, void *arg)
{
	struct transport_tls *x = arg;
	(void)inner;
	x->inner_full = false;
	tls_pump(x);
	tls_count(x);
	if (x->starved)
		tls_defer(x);
}

static void on_broken(struct transport *inner, int error, void *arg)
{
	struct transport_tls *x = arg;
	(void)inner;
	tls_fail(x, error);
}

static const struct transport_events inner_events = { on_data, on_end, on_room, on_broken };

static void resume(struct transport_tls *x)
{
	struct buffer kept = x->kept;
	x->kept = (struct buffer){ 0 };
	x->held = false;
	if (kept.len) {
		bool more = deliver(x, buffer_head(&kept), kept.len);
		buffer_done(&kept);
		tls_count(x);
		if (!more)
			return;
	}
	tell_end(x);
	if (x->inner && !x->closed)
		transport_resume(x->inner);
}

static void transport_tls_resume(struct transport *t)
{
	struct transport_tls *x = tls_of(t);
	if (x->delivering)
		x->resumed = true;
	else if (x->held && !x->closed && x->state == TLS_OPEN && !x->opened)
		resume(x);
}

/* --- the end --- */

static void transport_tls_end(struct transport *t)
{
	struct transport_tls *x = tls_of(t);
	x->ending = true;
	tls_defer(x);
}

static void on_linger(struct loop_timer *timer, void *arg)
{
	(void)timer;
	tls_over(arg, true);
}

static void transport_tls_close(struct transport *t, bool abort_it)
{
	struct transport_tls *x = tls_of(t);
	if (x->closed)
		return;
	x->closed = x->ending = true;
	tls_defer(x);
	if (x->state != TLS_OPEN || abort_it) {
		tls_over(x, abort_it);
		return;
	}
	x->held = false;
	buffer_done(&x->kept);
}

/* What is not sent by the end of the tick gets its time. */
static void tls_linger(struct transport_tls *x)
{
	if (!x->closed || x->state != TLS_OPEN || x->timer)
		return;
	if (loop_timer_new(x->ts->loop, on_linger, x, &x->timer) == 0)
		loop_timer_start(x->timer, TRANSPORT_LINGER_MS, 0);
	else
		tls_over(x, true);
}

static size_t transport_tls_queued(const struct transport *t)
{
	return tls_queued(tls_of(t));
}

static void tell_opened(struct transport_tls *x)
{
	transport_opened_fn opened = TAKE(x->opened);
	if (x->state == TLS_OPEN) {
		opened(&x->t, 0, x->arg);
		x->resumed = true;
		return;
	}
	x->done = x->closed = true;
	x->ts->failure = x->failure;
	opened(NULL, x->error, x->arg);
	x->ts->failure = NULL;
}

static void on_tick_end(void *arg)
{
	struct transport_tls *x = arg;
	x->deferred = false;
	if (x->opened && x->state != TLS_HANDSHAKE)
		tell_opened(x);
	if (x->resumed && !x->opened && x->state == TLS_OPEN && !x->closed) {
		x->resumed = false;
		if (x->held)
			resume(x);
	}
	tls_pump(x);
	tls_linger(x);
	if (x->starved && x->state == TLS_OPEN && tls_queued(x) == 0 && !x->closed) {
		x->starved = false;
		x->t.events->on_room(&x->t, x->t.arg);
	}
	if (x->state == TLS_OVER && !x->closed && !x->opened && !x->broken_told) {
		x->broken_told = true;
		x->t.events->on_broken(&x->t, x->error ? x->error : -ECONNRESET, x->t.arg);
	}
	if (!x->done) {
		tls_count(x);
	} else if (!x->deferred) {
		x->magic = 0;
		identity_unref(x->peer);
		free(x->failure);
		free(x);
	}
}

static const struct transport_ops tls_ops = {
	.write = transport_tls_write,
	.flush = transport_tls_flush,
	.resume = transport_tls_resume,
	.end = transport_tls_end,
	.close = transport_tls_close,
	.queued = transport_tls_queued,
};

struct transport *transport_tls_open(struct worker *w, struct transport *inner, struct tls_client *client,
				     transport_opened_fn fn, void *arg)
{
	struct transport_tls *x = calloc(1, sizeof(*x));
	if (!x) {
		tls_client_free(client);
		transport_close(inner, true);
		return NULL;
	}
	x->t = (struct transport){ .ops = &tls_ops, .local = inner->local, .remote = inner->remote, .tls = true };
	x->magic = TLS_MAGIC;
	x->ts = worker_transports(w);
	x->inner = inner;
	x->tls = client;
	x->opened = fn;
	x->arg = arg;
	transport_on(inner, &inner_events, x);
	handshake(x, NULL, 0);
	return &x->t;
}

void transport_tls_cancel(struct transport *t)
{
	tls_of(t)->opened = NULL;
	transport_close(t, true);
}
