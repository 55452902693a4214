/* SPDX-License-Identifier: Apache-2.0 */
/* Two ends of a connection in memory. What one writes in a tick lies in the other's buffer and is delivered at the tick's
 * end, in one piece; what is not taken stays there, and bounds what may be written. So no event comes from inside an
 * operation, as with sockets, and the users of the two ends never see each other's stack. */
#include "agent/helper/transport_pair.h"

#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/helper/transport_internal.h"
#include "agent/helper/worker.h"
#include "agent/model/identity.h"

#include <errno.h>
#include <stdlib.h>

enum { PAIR_MAGIC = 0x70616972 };

struct pair_end {
	struct transport t; /* first */
	uint32_t magic;
	struct transport_pair *pair;
	struct pair_end *other;
	struct buffer in; /* written by the other, not taken yet */
	struct identity *peer;
	int error;	    /* to be told */
	bool ended, closed; /* by its user */
	bool starved;	    /* a write was cut short */
	bool held;	    /* on_data left something: not before transport_resume() */
	bool delivering, resumed;
	bool end_told, broken_told;
};

struct transport_pair {
	TAILQ_ENTRY(transport_pair) link;
	struct transports *ts; /* NULL: it is gone, and both ends are closed */
	struct loop *loop;
	struct loop_timer *linger; /* one end was closed and the other goes on */
	struct pair_end ends[2];
	uint32_t counted;
	bool deferred;
};

static struct pair_end *end_of(const struct transport *t)
{
	struct pair_end *e = (struct pair_end *)(uintptr_t)t;
	if (e->magic != PAIR_MAGIC)
		abort();
	return e;
}

static void on_tick_end(void *arg);

static void pair_defer(struct transport_pair *p)
{
	if (p->deferred)
		return;
	p->deferred = true;
	loop_defer(p->loop, on_tick_end, p);
}

static void pair_count(struct transport_pair *p)
{
	uint32_t now = p->ends[0].in.cap + p->ends[1].in.cap;
	if (!p->ts || now == p->counted)
		return;
	worker_metrics(p->ts->w)->buffers_bytes += (uint64_t)((int64_t)now - p->counted);
	p->counted = now;
}

static void end_fail(struct pair_end *e, int error)
{
	if (e->closed || e->error)
		return;
	e->error = error;
	pair_defer(e->pair);
}

/* --- out --- */

static size_t pair_write(struct transport *t, const struct iovec *iov, int count)
{
	struct pair_end *e = end_of(t), *to = e->other;
	size_t total = 0, taken = 0;
	for (int i = 0; i < count; i++)
		total += iov[i].iov_len;
	if (e->closed || e->ended || e->error)
		return total; /* on_broken tells */
	if (to->closed) {
		if (e->end_told)
			end_fail(e, -EPIPE);
		return total;
	}
	size_t room = to->in.len < TRANSPORT_QUEUE ? TRANSPORT_QUEUE - to->in.len : 0;
	for (int i = 0; i < count && taken < room; i++) {
		size_t n = iov[i].iov_len < room - taken ? iov[i].iov_len : room - taken;
		if (n && transports_append(e->pair->ts, &to->in, iov[i].iov_base, n) < 0) {
			end_fail(e, -ENOMEM);
			end_fail(to, -ENOMEM);
			return total;
		}
		taken += n;
	}
	pair_count(e->pair);
	e->starved |= taken < total;
	pair_defer(e->pair);
	return taken;
}

static void pair_flush(struct transport *t)
{
	(void)t; /* there is nothing to be gained before the end of the tick */
}

static size_t pair_queued(const struct transport *t)
{
	return end_of(t)->other->in.len;
}

static void pair_half(struct transport *t)
{
	struct pair_end *e = end_of(t);
	e->ended = true;
	pair_defer(e->pair);
}

/* --- in --- */

/* Offers what there is, once. on_data may close either end, and bytes may come meanwhile. */
static void end_deliver(struct pair_end *e)
{
	struct transports *ts = e->pair->ts;
	struct buffer in = e->in;
	e->in = (struct buffer){ 0 };
	e->delivering = true;
	e->resumed = false;
	size_t took = e->t.events->on_data(&e->t, buffer_head(&in), in.len, e->t.arg);
	e->delivering = false;
	if (!e->pair->ts) {
		buffer_done(&in);
		return;
	}
	if (e->closed || took >= in.len) {
		transports_release(ts, &in);
		pair_count(e->pair);
		return;
	}
	buffer_consume(&in, took);
	e->held = !e->resumed;
	if (e->in.len && buffer_append(&in, buffer_head(&e->in), e->in.len) < 0) {
		end_fail(e, -ENOMEM);
		end_fail(e->other, -ENOMEM);
	}
	transports_release(ts, &e->in);
	e->in = in;
	pair_count(e->pair);
	if (e->resumed) /* from inside: it is offered again at the end of the next tick */
		pair_defer(e->pair);
}

static void pair_resume(struct transport *t)
{
	struct pair_end *e = end_of(t);
	if (e->delivering) {
		e->resumed = true;
		return;
	}
	if (!e->held || e->closed || e->error)
		return;
	e->held = false;
	if (e->in.len)
		end_deliver(e);
	/* The other's user learns of the room, and this one of the end, when the caller is out of the way. */
	if (!e->closed)
		pair_defer(e->pair);
}

/* --- the end --- */

static void on_linger(struct loop_timer *timer, void *arg)
{
	struct transport_pair *p = arg;
	(void)timer;
	end_fail(&p->ends[0], -ECONNRESET);
	end_fail(&p->ends[1], -ECONNRESET);
}

/* One that goes on when the other is closed does it for nobody: not for long. */
static void pair_linger(struct pair_end *e)
{
	struct transport_pair *p = e->pair;
	if (e->closed || !e->other->closed || p->linger)
		return;
	if (loop_timer_new(p->loop, on_linger, p, &p->linger) < 0)
		end_fail(e, -ENOMEM);
	else
		loop_timer_start(p->linger, TRANSPORT_LINGER_MS, 0);
}

static void pair_forget(struct transport_pair *p)
{
	if (!p->ts)
		return;
	for (size_t i = 0; i < 2; i++)
		transports_release(p->ts, &p->ends[i].in);
	pair_count(p);
	TAILQ_REMOVE(&p->ts->pairs, p, link);
	p->ts = NULL;
}

static void pair_close(struct transport *t, bool abort)
{
	struct pair_end *e = end_of(t);
	if (e->closed)
		return;
	e->closed = true;
	e->ended = true;
	e->starved = false;
	if (abort)
		end_fail(e->other, -ECONNRESET);
	transports_release(e->pair->ts, &e->in);
	pair_count(e->pair);
	if (e->other->closed)
		pair_forget(e->pair);
	pair_defer(e->pair);
}

/* --- the end of the tick --- */

static bool end_wants_data(const struct pair_end *e)
{
	return !e->closed && !e->error && !e->held && e->in.len;
}

static void end_tick(struct pair_end *e)
{
	if (e->closed)
		return;
	if (!e->t.events) { /* its user is about to be told of it */
		pair_defer(e->pair);
		return;
	}
	if (end_wants_data(e))
		end_deliver(e);
	if (e->closed || e->broken_told)
		return;
	if (e->error) {
		e->broken_told = true;
		e->starved = false;
		e->t.events->on_broken(&e->t, e->error, e->t.arg);
		return;
	}
	if (e->starved && (e->other->closed || !e->other->in.len)) {
		e->starved = false;
		e->t.events->on_room(&e->t, e->t.arg);
	}
	if (e->closed || e->error || e->in.len || !e->other->ended)
		return;
	if (!e->end_told) {
		e->end_told = true;
		e->t.events->on_end(&e->t, e->t.arg);
	}
	pair_linger(e);
}

static void on_tick_end(void *arg)
{
	struct transport_pair *p = arg;
	struct pair_end *first = &p->ends[0], *second = &p->ends[1];
	p->deferred = false;
	end_tick(first);
	end_tick(second);
	if (first->starved && !second->in.len) /* the second has taken it */
		pair_defer(p);
	if (!first->closed || !second->closed || p->deferred)
		return;
	loop_timer_free(p->linger);
	identity_unref(first->peer);
	identity_unref(second->peer);
	free(p);
}

void transport_pairs_cut(struct transports *ts)
{
	struct transport_pair *p;
	while ((p = TAILQ_FIRST(&ts->pairs))) {
		p->ends[0].closed = p->ends[1].closed = true;
		pair_forget(p);
		pair_defer(p);
	}
}

static const struct transport_ops pair_ops = {
	.write = pair_write,
	.flush = pair_flush,
	.resume = pair_resume,
	.end = pair_half,
	.close = pair_close,
	.queued = pair_queued,
};

int transport_pair_new(struct worker *w, struct transport **a, struct transport **b)
{
	struct transport_pair *p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->ts = worker_transports(w);
	p->loop = p->ts->loop;
	for (size_t i = 0; i < 2; i++) {
		p->ends[i].t.ops = &pair_ops;
		p->ends[i].magic = PAIR_MAGIC;
		p->ends[i].pair = p;
		p->ends[i].other = &p->ends[1 - i];
	}
	TAILQ_INSERT_TAIL(&p->ts->pairs, p, link);
	*a = &p->ends[0].t;
	*b = &p->ends[1].t;
	return 0;
}

void transport_pair_identify(struct transport *t, struct identity *peer)
{
	struct pair_end *e = end_of(t);
	identity_unref(e->peer);
	e->peer = peer;
	t->peer = peer;
}
