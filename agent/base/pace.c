/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/base/pace.h"

enum {
	AT_ONCE_NS = 5000,    /* a wait that took no longer had something to find */
	BUSY_WAITS = 4,	      /* so many of them in a row: the loop is never idle */
	FEW_EVENTS = 3,	      /* more are a batch already */
	LONG_TURN_NS = 40000, /* much was done for what was found: bytes in bulk, handshakes */
	GATHERED = 5,	      /* events that make a rest worth its while */
	FUTILE_MAX = 12,
	SKIP_WAITS = 2000,
};

/* What the last rest was good for. */
static void judge(struct pace *p)
{
	if (p->events >= GATHERED || p->together >= GATHERED - 1)
		p->futile = p->futile > 2 ? p->futile - 2 : 0;
	else if (++p->futile >= FUTILE_MAX) {
		p->futile = 0;
		p->skip = SKIP_WAITS;
	}
}

bool pace_before(struct pace *p, uint64_t now_ns)
{
	bool little = p->events <= FEW_EVENTS && now_ns - p->woke_ns < LONG_TURN_NS;
	if (p->rested)
		judge(p);
	p->rested = p->busy >= BUSY_WAITS && little && !p->skip;
	if (p->skip)
		p->skip--;
	p->waits_ns = now_ns;
	return p->rested;
}

void pace_after(struct pace *p, uint64_t now_ns, uint32_t events)
{
	if (!p->rested)
		p->busy = events && now_ns - p->waits_ns <= AT_ONCE_NS ? p->busy + 1 : 0;
	p->woke_ns = now_ns;
	p->events = events;
	p->together = 0;
}
