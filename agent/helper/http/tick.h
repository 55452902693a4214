/* SPDX-License-Identifier: Apache-2.0 */
/* Coarse deadlines of many connections over one timer of their loop: setting one costs a list insertion, and an idle
 * connection is looked at about once a minute. Half a second late at most. Everything on the loop's thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct loop;
struct ticker;

enum { TICK_MS = 500 };

struct tick { /* embedded in what has a deadline */
	LIST_ENTRY(tick) link;
	struct ticker *ticker; /* NULL: not joined */
	uint64_t due_ms;
	bool set;
	void (*fn)(struct tick *t);
};

int tick_init(struct tick *t, struct loop *loop, void (*fn)(struct tick *t)); /* 0 or -ENOMEM */
void tick_set(struct tick *t, uint64_t after_ms);			      /* replaces what was set; fires once */
void tick_clear(struct tick *t);
void tick_done(struct tick *t); /* also when not joined; may be called from fn */
/* Milliseconds of the clock that deadlines are measured by: monotonic, cached for the loop's tick. */
uint64_t tick_now_ms(const struct tick *t);
/* For tests: as if this much time had passed on this thread's loop; deadlines that are then due fire from inside. */
void tick_advance(struct loop *loop, uint64_t ms);
