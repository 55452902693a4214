/* SPDX-License-Identifier: Apache-2.0 */
/* Timeouts of requests: coarse (10 ms), but nearly free. A wheel of slots for a worker with one loop timer, which is armed
 * only for the next slot that holds something; setting and clearing are list operations. Worker's thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct loop;
struct loop_timer;

enum { DEADLINE_TICK_MS = 10, DEADLINE_SLOTS = 1024 }; /* one turn: 10.24 s; later ones wait for their turn */

struct deadline { /* embedded; zero: not set */
	LIST_ENTRY(deadline) link;
	uint64_t tick; /* when it is due */
	bool set;
	void (*fn)(struct deadline *d); /* may set and clear any, and free what holds it */
};

LIST_HEAD(deadline_list, deadline);

struct deadlines {
	struct loop *loop;
	struct loop_timer *timer;
	struct deadline_list slots[DEADLINE_SLOTS];
	struct deadline_list due; /* being called */
	uint64_t tick;		  /* all before and this have been looked at */
	uint64_t armed;		  /* when the timer fires; 0: it does not */
	uint64_t count;
};

int deadlines_init(struct deadlines *d, struct loop *loop); /* 0 or -ENOMEM */
void deadlines_done(struct deadlines *d);		    /* calls none */
/* Replaces an earlier time. Never called from inside, after_ms 0 included. */
void deadline_set(struct deadlines *d, struct deadline *one, uint64_t after_ms, void (*fn)(struct deadline *d));
void deadline_clear(struct deadlines *d, struct deadline *one); /* fine when it is not set */
/* Calls what is due at a time of CLOCK_MONOTONIC; the timer does. */
void deadlines_run(struct deadlines *d, uint64_t now_ns);
