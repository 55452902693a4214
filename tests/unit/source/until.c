/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/source/until.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/base/loop.h"

enum { DEADLINE_MS = 60000 };

struct wait {
	struct loop *loop;
	bool (*holds)(void *arg);
	void *arg;
	uint64_t end_ns;
	bool held;
};

static void on_tick(struct loop_timer *timer, void *arg)
{
	struct wait *w = arg;
	(void)timer;
	w->held = w->holds && w->holds(w->arg);
	if (w->held || clock_now_ns() > w->end_ns)
		loop_stop(w->loop);
}

static bool wait_for(struct loop *loop, bool (*holds)(void *arg), void *arg, unsigned int ms)
{
	struct wait w = { .loop = loop, .holds = holds, .arg = arg, .end_ns = clock_now_ns() + ms * 1000000ull };
	struct loop_timer *timer;
	assert_int_equal(loop_timer_new(loop, on_tick, &w, &timer), 0);
	loop_timer_start(timer, 1, 1);
	loop_run(loop);
	loop_timer_free(timer);
	return w.held;
}

void until(struct loop *loop, bool (*holds)(void *arg), void *arg, const char *what)
{
	if (!wait_for(loop, holds, arg, DEADLINE_MS))
		fail_msg("did not happen: %s", what);
}

void for_a_while(struct loop *loop, unsigned int ms)
{
	wait_for(loop, NULL, NULL, ms);
}
