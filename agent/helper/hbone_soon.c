/* SPDX-License-Identifier: Apache-2.0 */
/* What need not leave at once, because somebody else's turn comes first, and what shares a record, a write and the peer's
 * wake-up when it waits for that; a millisecond at most:
 *
 * - The 200 of a stream whose client has sent its first bytes with its request: it waits for the application's bytes, not
 *   for our word. What comes without bytes is answered in the same tick.
 * - The end of an application to which the peer's side has spoken last, or ended: both have said what they had to say. */
#include "agent/helper/hbone_internal.h"

#include "agent/base/loop.h"

enum { SOON_MS = 1 };

static void soon_start(struct hbone *h)
{
	if (TAILQ_EMPTY(&h->held) && TAILQ_EMPTY(&h->lazy))
		loop_timer_start(h->soon_timer, SOON_MS, 0);
}

static void soon_stop(struct hbone *h)
{
	if (TAILQ_EMPTY(&h->held) && TAILQ_EMPTY(&h->lazy))
		loop_timer_stop(h->soon_timer);
}

static void on_soon(struct loop_timer *timer, void *arg)
{
	struct hbone *h = arg;
	struct hbone_stream *s;
	struct hbone_conn *c;
	(void)timer;
	hbone_enter(h);
	while ((s = TAILQ_FIRST(&h->held)))
		held_answer(s);
	while ((c = TAILQ_FIRST(&h->lazy))) {
		lazy_leave(c);
		conn_touch(c);
	}
	hbone_leave(h);
}

int soon_init(struct hbone *h)
{
	TAILQ_INIT(&h->held);
	TAILQ_INIT(&h->lazy);
	return loop_timer_new(h->loop, on_soon, h, &h->soon_timer);
}

/* --- ends --- */

void lazy_leave(struct hbone_conn *c)
{
	if (!c->lazy)
		return;
	c->lazy = false;
	TAILQ_REMOVE(&c->h->lazy, c, in_lazy);
	soon_stop(c->h);
}

void lazy_add(struct hbone_conn *c)
{
	if (c->lazy || c->dirty || c->state == CONN_CLOSED)
		return;
	soon_start(c->h);
	c->lazy = true;
	TAILQ_INSERT_TAIL(&c->h->lazy, c, in_lazy);
}

/* --- answers --- */

void held_leave(struct hbone_stream *s)
{
	if (s->held == HELD_NO)
		return;
	s->held = HELD_NO;
	TAILQ_REMOVE(&s->h->held, s, queue);
	soon_stop(s->h);
}

void held_answer(struct hbone_stream *s)
{
	if (s->held == HELD_NO)
		return;
	held_leave(s);
	if (s->conn && s->h2.id)
		inbound_answer(s);
}

void held_add(struct hbone_stream *s)
{
	if (s->h2.answered)
		return;
	soon_start(s->h);
	s->held = HELD_FRESH;
	TAILQ_INSERT_TAIL(&s->h->held, s, queue);
}

void held_settle(struct hbone *h)
{
	struct hbone_stream *s, *before;
	for (s = TAILQ_LAST(&h->held, hbone_streams); s && s->held == HELD_FRESH; s = before) {
		before = TAILQ_PREV(s, hbone_streams, queue);
		s->held = HELD_WAITS;
		if (!s->received)
			held_answer(s);
	}
}
