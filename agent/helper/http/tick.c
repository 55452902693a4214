/* SPDX-License-Identifier: Apache-2.0 */
/* A wheel of lists, one for each half second of the next minute. What is due later than that stays in its list when the
 * wheel comes round, so a deadline of an hour costs one look a minute. A loop's wheel exists while something has joined. */
#include "agent/helper/http/tick.h"

#include <errno.h>
#include <stdlib.h>

#include "agent/base/loop.h"

enum { SLOTS = 128 };

LIST_HEAD(tick_list, tick);

struct ticker {
	LIST_ENTRY(ticker) link;
	struct loop *loop;
	struct loop_timer *timer;
	uint64_t refs;
	uint64_t skew_ms; /* tests */
	uint64_t at;	  /* slots up to and with this one were visited */
	struct tick_list slots[SLOTS];
};

static _Thread_local LIST_HEAD(, ticker) tickers; /* of this thread: one, in practice */

static uint64_t now_ms(const struct ticker *k)
{
	return loop_now_ns(k->loop) / 1000000 + k->skew_ms;
}

static void take_all(struct tick_list *to, struct tick_list *from)
{
	LIST_INIT(to);
	if (LIST_EMPTY(from))
		return;
	to->lh_first = from->lh_first;
	to->lh_first->link.le_prev = &to->lh_first;
	LIST_INIT(from);
}

static void visit(struct ticker *k, size_t slot)
{
	/* A callback may set or end any tick, so those of this slot are taken off one by one. */
	struct tick_list due, later = LIST_HEAD_INITIALIZER(later);
	struct tick *t;
	uint64_t now = now_ms(k);

	take_all(&due, &k->slots[slot]);
	while ((t = LIST_FIRST(&due))) {
		LIST_REMOVE(t, link);
		if (t->due_ms > now) {
			LIST_INSERT_HEAD(&later, t, link);
			continue;
		}
		t->set = false;
		t->fn(t);
	}
	while ((t = LIST_FIRST(&later))) {
		LIST_REMOVE(t, link);
		LIST_INSERT_HEAD(&k->slots[slot], t, link);
	}
}

static void ticker_unref(struct ticker *k)
{
	if (--k->refs)
		return;
	LIST_REMOVE(k, link);
	loop_timer_free(k->timer);
	free(k);
}

static void run(struct ticker *k)
{
	uint64_t to = now_ms(k) / TICK_MS;
	k->refs++; /* the last tick may go */
	if (to - k->at > SLOTS)
		k->at = to - SLOTS;
	while (k->at < to)
		visit(k, (size_t)(++k->at % SLOTS));
	ticker_unref(k);
}

static void on_timer(struct loop_timer *timer, void *arg)
{
	(void)timer;
	run(arg);
}

static struct ticker *find(const struct loop *loop)
{
	struct ticker *k;
	LIST_FOREACH(k, &tickers, link)
	if (k->loop == loop)
		return k;
	return NULL;
}

static struct ticker *ticker_new(struct loop *loop)
{
	struct ticker *k = calloc(1, sizeof(*k));
	if (!k)
		return NULL;
	k->loop = loop;
	if (loop_timer_new(loop, on_timer, k, &k->timer) < 0) {
		free(k);
		return NULL;
	}
	k->at = now_ms(k) / TICK_MS;
	loop_timer_start(k->timer, TICK_MS, TICK_MS);
	LIST_INSERT_HEAD(&tickers, k, link);
	return k;
}

int tick_init(struct tick *t, struct loop *loop, void (*fn)(struct tick *t))
{
	struct ticker *k = find(loop);
	if (!k)
		k = ticker_new(loop);
	if (!k)
		return -ENOMEM;
	k->refs++;
	*t = (struct tick){ .ticker = k, .fn = fn };
	return 0;
}

void tick_set(struct tick *t, uint64_t after_ms)
{
	struct ticker *k = t->ticker;
	tick_clear(t);
	t->due_ms = now_ms(k) + after_ms;
	uint64_t slot = t->due_ms / TICK_MS + 1; /* when it is visited all of it is due */
	LIST_INSERT_HEAD(&k->slots[slot % SLOTS], t, link);
	t->set = true;
}

void tick_clear(struct tick *t)
{
	if (!t->set)
		return;
	LIST_REMOVE(t, link);
	t->set = false;
}

void tick_done(struct tick *t)
{
	tick_clear(t);
	if (!t->ticker)
		return;
	ticker_unref(t->ticker);
	t->ticker = NULL;
}

uint64_t tick_now_ms(const struct tick *t)
{
	return now_ms(t->ticker);
}

void tick_advance(struct loop *loop, uint64_t ms)
{
	struct ticker *k = find(loop);
	if (!k)
		return;
	k->skew_ms += ms;
	run(k);
}
