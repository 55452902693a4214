/* SPDX-License-Identifier: Apache-2.0 */
/* A worker's upstreams as a whole: their life, the sweep, and the memory of waits and of streams that were had. */
#include "agent/helper/balance/internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/hash.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/table.h"
#include "agent/helper/worker.h"

/* --- items and waits */

struct upstream_item *item_new(struct upstreams *u)
{
	struct upstream_item *item = LIST_FIRST(&u->free_items);
	if (!item)
		return malloc(sizeof(*item));
	LIST_REMOVE(item, link);
	u->free_count--;
	return item;
}

void item_free(struct upstreams *u, struct upstream_item *item)
{
	if (u->free_count >= UPSTREAM_KEPT) {
		free(item);
		return;
	}
	LIST_INSERT_HEAD(&u->free_items, item, link);
	u->free_count++;
}

void item_over(struct upstream_item *item)
{
	if (item->over)
		return;
	item->over = true;
	caller_add(item->caller, LIMIT_REQUESTS, -1);
	item->host->b.active--;
}

void wait_remove(struct upstream_wait *w)
{
	assert(w->queue && w->count);
	TAILQ_REMOVE(w->queue, w, link);
	--*w->count;
	if (w->pool)
		caller_add(w->pool->caller, LIMIT_PENDING, -1);
	w->queue = NULL;
	w->count = NULL;
	w->pool = NULL;
}

void wait_free(struct upstream_wait *w)
{
	struct upstreams *u = w->u;

	worker_pod_unref(u->w, w->attempt.q.pod);
	http_head_free(w->head);
	free(w->host);
	if (u->free_wait_count >= UPSTREAM_KEPT) {
		free(w);
		return;
	}
	TAILQ_INSERT_HEAD(&u->free_waits, w, link);
	u->free_wait_count++;
}

struct upstream_wait *wait_new(struct upstreams *u, const struct attempt *a, bool with_head)
{
	struct upstream_wait *w = TAILQ_FIRST(&u->free_waits);
	if (w) {
		TAILQ_REMOVE(&u->free_waits, w, link);
		u->free_wait_count--;
	} else {
		w = malloc(sizeof(*w));
		if (!w)
			return NULL;
	}
	*w = (struct upstream_wait){ .u = u, .attempt = *a };
	w->attempt.q.pod = worker_pod_ref(a->q.pod);
	w->attempt.q.cluster = NULL;
	if (a->q.host)
		w->attempt.q.host = w->host = strdup(a->q.host);
	if (a->q.head && with_head)
		w->head = http_head_copy(a->q.head);
	w->attempt.q.head = w->head;
	if ((a->q.host && !w->host) || (a->q.head && with_head && !w->head)) {
		wait_free(w);
		return NULL;
	}
	return w;
}

void wait_enqueue(struct upstream_wait *w, struct wait_queue *queue, size_t *count, struct pool *pool)
{
	w->queue = queue;
	w->count = count;
	w->pool = pool;
	TAILQ_INSERT_TAIL(queue, w, link);
	++*count;
	if (pool)
		caller_add(pool->caller, LIMIT_PENDING, 1);
}

/* --- all of them */

static void on_sweep(struct loop_timer *timer, void *arg)
{
	struct upstreams *u = arg;
	uint64_t now_ns = loop_now_ns(u->loop);
	bool was_short = u->short_sweeps;

	pools_sweep(u, now_ns);
	entries_sweep(u, upstreams_second(now_ns));
	if (TAILQ_EMPTY(&u->entry_list)) {
		u->sweeping = false;
		loop_timer_stop(timer);
	} else if (u->short_sweeps != was_short) {
		uint64_t every_ms = u->short_sweeps ? 1000 : UPSTREAM_SWEEP_S * 1000;
		loop_timer_start(timer, every_ms, every_ms);
	}
}

void upstreams_sweep_soon(struct upstreams *u, bool short_timeouts)
{
	if (u->sweeping && (u->short_sweeps || !short_timeouts))
		return;
	u->sweeping = true;
	u->short_sweeps |= short_timeouts;
	uint64_t every_ms = u->short_sweeps ? 1000 : UPSTREAM_SWEEP_S * 1000;
	loop_timer_start(u->sweep_timer, every_ms, every_ms);
}

static void upstreams_freep(struct upstreams **u)
{
	upstreams_free(*u);
}

int upstreams_new(struct worker *w, struct upstreams **out)
{
	AUTO(upstreams_freep) struct upstreams *u = calloc(1, sizeof(*u));
	if (!u)
		return -ENOMEM;
	u->w = w;
	u->loop = worker_loop(w);
	u->shard = worker_metrics(w);
	TAILQ_INIT(&u->entry_list);
	TAILQ_INIT(&u->pools);
	TAILQ_INIT(&u->serving);
	TAILQ_INIT(&u->connecting);
	LIST_INIT(&u->free_items);
	TAILQ_INIT(&u->free_waits);
	/* Workers must not choose in step. */
	const uint64_t seed[2] = { (uintptr_t)u, clock_now_ns() };
	u->random = hash_keyed(seed, sizeof(seed));
	u->entries = table_new(NULL);
	if (!u->entries)
		return -ENOMEM;
	int rc = loop_timer_new(u->loop, on_sweep, u, &u->sweep_timer);
	if (rc == 0)
		rc = conns_timer_new(u);
	if (rc < 0)
		return rc;
	*out = TAKE(u);
	return 0;
}

static void waits_drop(struct wait_queue *queue)
{
	struct upstream_wait *w;
	while ((w = TAILQ_FIRST(queue))) {
		wait_remove(w);
		wait_free(w);
	}
}

void upstreams_free(struct upstreams *u)
{
	struct entry *e;
	struct upstream_item *item;
	struct upstream_wait *w;

	if (!u)
		return;
	while ((e = TAILQ_FIRST(&u->entry_list))) {
		waits_drop(&e->waits);
		entry_free(e);
	}
	if (u->sweep_timer)
		loop_timer_free(u->sweep_timer);
	if (u->connect_timer)
		loop_timer_free(u->connect_timer);
	while ((item = LIST_FIRST(&u->free_items))) {
		LIST_REMOVE(item, link);
		free(item);
	}
	while ((w = TAILQ_FIRST(&u->free_waits))) {
		TAILQ_REMOVE(&u->free_waits, w, link);
		free(w);
	}
	table_free(u->entries);
	free(u->buckets);
	u->closed = true;
	if (!u->serve_deferred) /* else that frees it */
		free(u);
}

void upstreams_drain(struct upstreams *u)
{
	struct pool *p;
	struct conn *c, *next;

	u->draining = true;
	TAILQ_FOREACH(p, &u->pools, link)
	{
		for (c = TAILQ_FIRST(&p->ready); c; c = next) {
			next = TAILQ_NEXT(c, link);
			conn_drain(c);
		}
		for (c = TAILQ_FIRST(&p->busy); c; c = next) {
			next = TAILQ_NEXT(c, link);
			conn_drain(c);
		}
		if (p->pending_count)
			pool_serve_later(p);
	}
}

size_t upstreams_live(const struct upstreams *u)
{
	return u->live;
}

/* A connection that was made to the pod directly is judged by nobody any more: those to come are. */
void upstreams_pod_changed(struct upstreams *u, const struct worker_pod *pod)
{
	struct pool *p;
	TAILQ_FOREACH(p, &u->pools, link)
	{
		for (size_t i = 0; i < pod->addr_count; i++)
			if (addr_eq(&p->host->addr.addr, &pod->addrs[i])) {
				pool_drain(p, 0);
				break;
			}
	}
}

void upstreams_pod_removed(struct upstreams *u, struct worker_pod *pod)
{
	struct entry *e;
	TAILQ_FOREACH(e, &u->entry_list, link)
	{
		struct wait_queue queue = TAILQ_HEAD_INITIALIZER(queue);
		struct upstream_wait *w, *next;
		size_t count = 0;
		for (w = TAILQ_FIRST(&e->waits); w; w = next) {
			next = TAILQ_NEXT(w, link);
			if (w->attempt.q.pod != pod)
				continue;
			wait_remove(w);
			wait_enqueue(w, &queue, &count, NULL);
		}
		while ((w = TAILQ_FIRST(&queue))) {
			wait_remove(w);
			attempt_answer(u, &w->attempt, UPSTREAM_CONNECT);
			wait_free(w);
		}
	}
	pools_pod_removed(u, pod);
}
