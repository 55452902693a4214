/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that wait for a socket or for what a destination is. Every wait has the same timeout, so one timer for the
 * oldest serves all. */
#include "agent/helper/worker_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "agent/base/loop.h"

uint64_t worker_deadline(const struct worker *w, uint64_t deadline_ns)
{
	if (w->away && !w->alone)
		return UINT64_MAX;
	uint64_t since_back = w->back_ns ? w->back_ns + WAIT_TIMEOUT_MS * 1000000ull : 0;
	return deadline_ns > since_back ? deadline_ns : since_back;
}

static void waits_arm(struct worker *w)
{
	const struct worker_wait *oldest = TAILQ_FIRST(&w->waits);
	uint64_t deadline = oldest ? worker_deadline(w, oldest->deadline_ns) : UINT64_MAX;
	if (deadline == UINT64_MAX) {
		loop_timer_stop(w->wait_timer);
		return;
	}
	uint64_t now = loop_now_ns(w->loop);
	uint64_t left = deadline > now ? deadline - now : 0;
	loop_timer_start(w->wait_timer, left / 1000000 + 1, 0);
}

void worker_waits_rearm(struct worker *w)
{
	waits_arm(w);
}

static void wait_fail(struct worker_wait *wait, int error)
{
	if (wait->on_socket)
		worker_wait_socket(wait, error);
	else if (wait->on_target)
		worker_wait_target(wait, NULL);
	else
		worker_wait_endpoint(wait, NULL);
}

static void on_wait_timer(struct loop_timer *timer, void *arg)
{
	struct worker *w = arg;
	struct worker_wait *wait;
	(void)timer;
	while ((wait = TAILQ_FIRST(&w->waits)) && worker_deadline(w, wait->deadline_ns) <= loop_now_ns(w->loop))
		wait_fail(wait, -ETIMEDOUT);
	waits_arm(w);
}

int worker_waits_init(struct worker *w)
{
	TAILQ_INIT(&w->waits);
	return loop_timer_new(w->loop, on_wait_timer, w, &w->wait_timer);
}

struct worker_wait *worker_wait_add(struct worker *w, struct wait_list *owner, struct worker_pod *pod, void *arg)
{
	struct worker_wait *wait = calloc(1, sizeof(*wait));
	if (!wait)
		return NULL;
	wait->owner = owner;
	wait->w = w;
	wait->pod = pod ? worker_pod_ref(pod) : NULL;
	wait->arg = arg;
	wait->deadline_ns = loop_now_ns(w->loop) + WAIT_TIMEOUT_MS * 1000000ull;
	bool first = TAILQ_EMPTY(&w->waits);
	TAILQ_INSERT_TAIL(&w->waits, wait, by_age);
	TAILQ_INSERT_TAIL(owner, wait, by_owner);
	if (first)
		waits_arm(w);
	return wait;
}

static void wait_remove(struct worker_wait *wait)
{
	TAILQ_REMOVE(&wait->w->waits, wait, by_age);
	TAILQ_REMOVE(wait->owner, wait, by_owner);
}

static void wait_free(struct worker_wait *wait)
{
	if (wait->pod)
		worker_pod_unref(wait->w, wait->pod);
	free(wait);
}

void worker_wait_socket(struct worker_wait *wait, int fd)
{
	wait_remove(wait);
	wait->on_socket(fd, wait->arg);
	wait_free(wait);
}

void worker_wait_endpoint(struct worker_wait *wait, const struct endpoint_info *info)
{
	wait_remove(wait);
	wait->on_endpoint(info, wait->arg);
	wait_free(wait);
}

void worker_wait_target(struct worker_wait *wait, struct l7_target *target)
{
	wait_remove(wait);
	wait->on_target(target, wait->arg);
	wait_free(wait);
}

void worker_wait_move(struct worker_wait *wait, struct wait_list *owner)
{
	TAILQ_REMOVE(wait->owner, wait, by_owner);
	wait->owner = owner;
	TAILQ_INSERT_TAIL(owner, wait, by_owner);
}

void worker_wait_cancel(struct worker_wait *wait)
{
	if (!wait)
		return;
	wait_remove(wait);
	wait_free(wait);
}

void worker_waits_fail(struct wait_list *owner, int error)
{
	struct worker_wait *wait;
	while ((wait = TAILQ_FIRST(owner)))
		wait_fail(wait, error);
}
