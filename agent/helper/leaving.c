/* SPDX-License-Identifier: Apache-2.0 */
/* Pods that were taken from the mesh and are there still: they get no new connections, and what is carried for them has
 * LEAVE_MS to finish, because callers on other nodes hear of it a little later or earlier. One that comes back stays. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/loop.h"
#include "agent/base/table.h"
#include "agent/helper/helper_internal.h"

enum { LEAVE_MS = 5000, LOOK_MS = 500 };

struct leaving {
	struct helper *h;
	struct table *due; /* cookie -> uint64_t, ns */
	struct loop_timer *timer;
};

static void on_look(struct loop_timer *timer, void *arg)
{
	struct leaving *l = arg;
	struct table_iter it = { 0 };
	uint64_t now = loop_now_ns(l->h->loop), cookie;
	while (table_next(l->due, &it)) {
		if (*(const uint64_t *)it.value > now)
			continue;
		memcpy(&cookie, it.key, sizeof(cookie));
		table_remove(l->due, &cookie, sizeof(cookie));
		control_pod_end(l->h, cookie);
	}
	if (!table_count(l->due))
		loop_timer_stop(timer);
}

int leaving_new(struct helper *h, struct leaving **out)
{
	struct leaving *l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->h = h;
	l->due = table_new(free);
	int rc = l->due ? loop_timer_new(h->loop, on_look, l, &l->timer) : -ENOMEM;
	if (rc < 0) {
		leaving_free(l);
		return rc;
	}
	*out = l;
	return 0;
}

void leaving_free(struct leaving *l)
{
	if (!l)
		return;
	loop_timer_free(l->timer);
	table_free(l->due);
	free(l);
}

static struct order *leave_order(void *cookie)
{
	struct order *order = order_new(ORDER_POD_LEAVE, 0);
	if (order)
		order->cookie = *(const uint64_t *)cookie;
	return order;
}

void leaving_begin(struct leaving *l, uint64_t cookie)
{
	if (table_get(l->due, &cookie, sizeof(cookie)))
		return;
	uint64_t *due = malloc(sizeof(*due));
	if (!due || table_set(l->due, &cookie, sizeof(cookie), due) < 0) {
		free(due);
		control_pod_end(l->h, cookie);
		return;
	}
	*due = loop_now_ns(l->h->loop) + LEAVE_MS * 1000000ull;
	helper_order_all(l->h, leave_order, &cookie);
	loop_timer_start(l->timer, LOOK_MS, LOOK_MS);
}

void leaving_cancel(struct leaving *l, uint64_t cookie)
{
	table_remove(l->due, &cookie, sizeof(cookie));
}

bool leaving_has(const struct leaving *l, uint64_t cookie)
{
	return l && table_get(l->due, &cookie, sizeof(cookie)) != NULL;
}
