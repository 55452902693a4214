/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/route/deadline.h"

#include "agent/base/loop.h"
#include "agent/base/mem.h"

#include <errno.h>
#include <stddef.h>

static uint64_t tick_of(uint64_t ns)
{
	return ns / (DEADLINE_TICK_MS * 1000000ull);
}

static void arm(struct deadlines *d, uint64_t tick, uint64_t now_tick)
{
	d->armed = tick;
	loop_timer_start(d->timer, (tick > now_tick ? tick - now_tick : 1) * DEADLINE_TICK_MS, 0);
}

/* The next slot that holds something, whether it is due in this turn or a later one. */
static void arm_next(struct deadlines *d)
{
	d->armed = 0;
	if (!d->count)
		return;
	uint64_t tick = d->tick + 1;
	while (tick <= d->tick + DEADLINE_SLOTS && LIST_EMPTY(&d->slots[tick % DEADLINE_SLOTS]))
		tick++;
	arm(d, tick, d->tick);
}

static void slot_collect(struct deadlines *d, uint64_t slot, uint64_t now_tick)
{
	struct deadline *one, *next;
	for (one = LIST_FIRST(&d->slots[slot]); one; one = next) {
		next = LIST_NEXT(one, link);
		if (one->tick > now_tick)
			continue;
		LIST_REMOVE(one, link);
		LIST_INSERT_HEAD(&d->due, one, link);
	}
}

void deadlines_run(struct deadlines *d, uint64_t now_ns)
{
	uint64_t now = tick_of(now_ns);
	if (now < d->tick)
		now = d->tick;
	/* A long sleep passes each slot once. */
	uint64_t from = now - d->tick > DEADLINE_SLOTS ? now - DEADLINE_SLOTS : d->tick;
	for (uint64_t tick = from + 1; d->count && tick <= now; tick++)
		slot_collect(d, tick % DEADLINE_SLOTS, now);
	d->tick = now;
	struct deadline *one;
	while ((one = LIST_FIRST(&d->due))) {
		LIST_REMOVE(one, link);
		one->set = false;
		d->count--;
		one->fn(one);
	}
	arm_next(d);
}

static void on_timer(struct loop_timer *timer, void *arg)
{
	struct deadlines *d = arg;
	(void)timer;
	deadlines_run(d, loop_now_ns(d->loop));
}

int deadlines_init(struct deadlines *d, struct loop *loop)
{
	*d = (struct deadlines){ .loop = loop, .tick = tick_of(loop_now_ns(loop)) };
	return loop_timer_new(loop, on_timer, d, &d->timer);
}

void deadlines_done(struct deadlines *d)
{
	if (d->timer)
		loop_timer_free(TAKE(d->timer));
}

void deadline_set(struct deadlines *d, struct deadline *one, uint64_t after_ms, void (*fn)(struct deadline *d))
{
	deadline_clear(d, one);
	uint64_t now = tick_of(loop_now_ns(d->loop));
	/* Rounded up, so that nothing is due too early; and at least a tick away, so it is not called from inside. */
	uint64_t ticks = (after_ms + DEADLINE_TICK_MS - 1) / DEADLINE_TICK_MS;
	one->tick = now + (ticks ? ticks : 1);
	if (one->tick <= d->tick)
		one->tick = d->tick + 1;
	one->fn = fn;
	one->set = true;
	if (!d->count)
		d->tick = now > d->tick ? now : d->tick; /* nothing to be looked at in between */
	d->count++;
	LIST_INSERT_HEAD(&d->slots[one->tick % DEADLINE_SLOTS], one, link);
	if (!d->armed || one->tick < d->armed)
		arm(d, one->tick, now);
}

void deadline_clear(struct deadlines *d, struct deadline *one)
{
	if (!one->set)
		return;
	LIST_REMOVE(one, link);
	one->set = false;
	d->count--;
}
