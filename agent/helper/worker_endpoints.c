/* SPDX-License-Identifier: Apache-2.0 */
/* What the worker's connections have asked about destinations. The agent pushes changes while an entry is there, so a hit
 * is always current; entries that nobody used for a while are given back. */
#include "agent/helper/worker_internal.h"

#include <stdlib.h>
#include <string.h>

#include "agent/base/loop.h"
#include "agent/base/table.h"

enum {
	ENDPOINTS_IN_ALL = 8192, /* of all workers; the agent bounds what it is asked to follow */
	ENDPOINTS_EACH_MAX = 4096,
	ENDPOINT_SWEEP_MS = 30000,
	ENDPOINT_IDLE_MS = 300000,
	ENDPOINT_ASK_AGAIN_MS = 1000,
	ENDPOINT_TELL_AGAIN_MS = 1000,
};

struct cached_endpoint {
	TAILQ_ENTRY(cached_endpoint) by_use;
	struct addr_port at;
	struct endpoint_shared *shared; /* NULL: not answered yet */
	struct wait_list waits;
	uint64_t used_ns, asked_ns, told_ns; /* told_ns: that it was reached */
};

struct endpoint_key {
	uint8_t b[18];
};

static struct endpoint_key key_of(const struct addr_port *at)
{
	struct endpoint_key key;
	memcpy(key.b, at->addr.b, 16);
	memcpy(key.b + 16, &at->port, 2);
	return key;
}

static void endpoint_ask(struct worker *w, struct cached_endpoint *e)
{
	uint64_t now = loop_now_ns(w->loop);
	if (e->asked_ns && now - e->asked_ns < ENDPOINT_ASK_AGAIN_MS * 1000000ull)
		return;
	struct report query = { .kind = REPORT_ENDPOINT_QUERY, .destination = e->at };
	if (worker_report(w, &query))
		e->asked_ns = now;
}

static void endpoint_free(struct cached_endpoint *e)
{
	worker_waits_fail(&e->waits, 0);
	endpoint_shared_unref(e->shared);
	free(e);
}

static void endpoint_remove(struct worker *w, struct cached_endpoint *e)
{
	struct endpoint_key key = key_of(&e->at);
	TAILQ_REMOVE(&w->endpoints_by_use, e, by_use);
	table_remove(w->endpoints, &key, sizeof(key));
	endpoint_free(e);
}

static void endpoint_forget(struct worker *w, struct cached_endpoint *e)
{
	struct report forget = { .kind = REPORT_ENDPOINT_FORGET, .destination = e->at };
	worker_report(w, &forget);
	endpoint_remove(w, e);
}

static void on_endpoint_sweep(struct loop_timer *timer, void *arg)
{
	struct worker *w = arg;
	struct cached_endpoint *e;
	uint64_t now = loop_now_ns(w->loop);
	(void)timer;
	if (w->away)
		return; /* what is forgotten now can't be asked for again */
	while ((e = TAILQ_FIRST(&w->endpoints_by_use)) && now - e->used_ns > ENDPOINT_IDLE_MS * 1000000ull)
		endpoint_forget(w, e);
	if (!table_count(w->endpoints))
		loop_timer_stop(w->endpoint_timer);
}

int worker_endpoints_init(struct worker *w)
{
	TAILQ_INIT(&w->endpoints_by_use);
	return loop_timer_new(w->loop, on_endpoint_sweep, w, &w->endpoint_timer);
}

void worker_endpoints_free(struct worker *w)
{
	struct cached_endpoint *e;
	while ((e = TAILQ_FIRST(&w->endpoints_by_use))) {
		TAILQ_REMOVE(&w->endpoints_by_use, e, by_use);
		endpoint_free(e);
	}
}

static struct cached_endpoint *endpoint_add(struct worker *w, const struct addr_port *at)
{
	size_t max =
		ENDPOINTS_IN_ALL / w->count < ENDPOINTS_EACH_MAX ? ENDPOINTS_IN_ALL / w->count : ENDPOINTS_EACH_MAX;
	if (table_count(w->endpoints) >= max)
		endpoint_forget(w, TAILQ_FIRST(&w->endpoints_by_use));
	struct cached_endpoint *e = calloc(1, sizeof(*e));
	struct endpoint_key key = key_of(at);
	if (!e || table_set(w->endpoints, &key, sizeof(key), e) < 0) {
		free(e);
		return NULL;
	}
	e->at = *at;
	TAILQ_INIT(&e->waits);
	TAILQ_INSERT_TAIL(&w->endpoints_by_use, e, by_use);
	if (table_count(w->endpoints) == 1)
		loop_timer_start(w->endpoint_timer, ENDPOINT_SWEEP_MS, ENDPOINT_SWEEP_MS);
	return e;
}

struct worker_wait *worker_endpoint_get(struct worker *w, const struct addr_port *endpoint, worker_endpoint_fn fn,
					void *arg)
{
	struct endpoint_key key = key_of(endpoint);
	struct cached_endpoint *e = table_get(w->endpoints, &key, sizeof(key));
	if (!e)
		e = endpoint_add(w, endpoint); /* without an agent, another worker may still know it */
	if (!e) {
		fn(NULL, arg);
		return NULL;
	}
	e->used_ns = loop_now_ns(w->loop);
	TAILQ_REMOVE(&w->endpoints_by_use, e, by_use);
	TAILQ_INSERT_TAIL(&w->endpoints_by_use, e, by_use);
	if (e->shared) {
		/* The callback may make the cache forget it. */
		struct endpoint_shared *shared = endpoint_shared_ref(e->shared);
		fn(&shared->info, arg);
		endpoint_shared_unref(shared);
		return NULL;
	}
	struct worker_wait *wait = worker_wait_add(w, &e->waits, NULL, arg);
	if (!wait) {
		fn(NULL, arg);
		return NULL;
	}
	wait->on_endpoint = fn;
	endpoint_ask(w, e);
	return wait;
}

void worker_endpoint_arrived(struct worker *w, struct endpoint_shared *shared)
{
	struct endpoint_key key = key_of(&shared->info.endpoint);
	struct cached_endpoint *e = table_get(w->endpoints, &key, sizeof(key));
	if (!e || shared->absent) {
		endpoint_shared_unref(shared);
		if (e && !e->shared)
			endpoint_remove(w, e);
		return;
	}
	endpoint_shared_unref(e->shared);
	e->shared = endpoint_shared_ref(shared);
	/* One by one from the table: a callback may make the cache forget the entry, which ends the other waits. */
	struct worker_wait *wait;
	while ((e = table_get(w->endpoints, &key, sizeof(key))) && (wait = TAILQ_FIRST(&e->waits)))
		worker_wait_endpoint(wait, &shared->info);
	endpoint_shared_unref(shared);
}

/* Outlier detection counts failures in a row, so a success says nothing new unless there was a failure, of any worker.
 * What the agent itself saw fail is cleared by telling it now and then. Each report wakes two threads. */
static bool is_news(struct worker *w, const struct addr_port *endpoint, bool ok)
{
	struct endpoint_key key = key_of(endpoint);
	struct cached_endpoint *e = table_get(w->endpoints, &key, sizeof(key));
	if (!e || !e->shared)
		return true;
	if (!ok) {
		__atomic_store_n(&e->shared->no_trouble, false, __ATOMIC_RELAXED);
		return true;
	}
	uint64_t now = loop_now_ns(w->loop);
	bool known = __atomic_load_n(&e->shared->no_trouble, __ATOMIC_RELAXED);
	if (known && e->told_ns && now - e->told_ns < ENDPOINT_TELL_AGAIN_MS * 1000000ull)
		return false;
	__atomic_store_n(&e->shared->no_trouble, true, __ATOMIC_RELAXED);
	e->told_ns = now;
	return true;
}

void worker_endpoint_result(struct worker *w, const struct addr_port *endpoint, bool ok)
{
	if (!is_news(w, endpoint, ok))
		return;
	struct report result = { .kind = REPORT_ENDPOINT_RESULT, .destination = *endpoint, .ok = ok };
	worker_report(w, &result);
}
