/* SPDX-License-Identifier: Apache-2.0 */
/* Pools of outbound sockets, which only the agent can open. A pool asks for more when few are left, so that a new
 * connection hardly ever waits for the agent; the batch grows while a pool runs dry, and each pool has one request under
 * way at a time. */
#include "agent/helper/worker_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/table.h"
#include "agent/link/channel.h"

enum { POOL_LOW = 8, POOL_BATCH = 16, POOL_BATCH_MAX = CHANNEL_FDS_MAX, POOL_PREFILL = 2, POOL_MAX = 256 };

static int fd_take(int *fd)
{
	int taken = *fd;
	*fd = -1;
	return taken;
}

static struct socket_pool *pool_of(struct pod_entry *entry, enum pod_socket kind)
{
	switch (kind) {
	case POD_CONNECT_REMOTE:
		return &entry->pools[0];
	case POD_CONNECT_LOCAL:
		return &entry->pools[1];
	case POD_UDP_REMOTE:
		return &entry->pools[2];
	default:
		return NULL;
	}
}

static const enum pod_socket pool_kinds[POD_POOLS] = { POD_CONNECT_REMOTE, POD_CONNECT_LOCAL, POD_UDP_REMOTE };

static void pool_request(struct pod_entry *entry, enum pod_socket kind, uint32_t count)
{
	struct worker *w = entry->w;
	struct socket_pool *pool = pool_of(entry, kind);
	uint64_t now = loop_now_ns(w->loop);
	/* An answer that never came (the agent was too busy to queue it) must not stop the pool for good. */
	if (w->away || (pool->requested && now - pool->requested_ns < WAIT_TIMEOUT_MS * 1000000ull))
		return;
	struct report want = {
		.kind = REPORT_SOCKETS_WANTED, .cookie = entry->pod.cookie, .socket = kind, .count = count
	};
	if (!worker_report(w, &want))
		return;
	pool->requested = count;
	pool->requested_ns = now;
}

void worker_pools_init(struct pod_entry *entry)
{
	for (size_t i = 0; i < POD_POOLS; i++) {
		TAILQ_INIT(&entry->pools[i].waits);
		entry->pools[i].batch = POOL_BATCH;
	}
}

void worker_pools_prefill(struct pod_entry *entry)
{
	pool_request(entry, POD_CONNECT_REMOTE, POOL_PREFILL);
	pool_request(entry, POD_CONNECT_LOCAL, POOL_PREFILL);
}

void worker_pools_done(struct pod_entry *entry)
{
	for (size_t i = 0; i < POD_POOLS; i++) {
		struct socket_pool *pool = &entry->pools[i];
		worker_waits_fail(&pool->waits, -ENETDOWN);
		while (pool->count > 0)
			close(pool->fds[--pool->count]);
		free(TAKE(pool->fds));
		pool->cap = 0;
	}
}

struct worker_wait *worker_socket_take(struct worker *w, struct worker_pod *pod, enum pod_socket kind,
				       worker_socket_fn fn, void *arg)
{
	struct pod_entry *entry = container_of(pod, struct pod_entry, pod);
	struct socket_pool *pool = pool_of(entry, kind);
	if (pod->removed || !pool) {
		fn(pool ? -ENETDOWN : -EINVAL, arg);
		return NULL;
	}
	if (pool->count > 0) {
		int fd = pool->fds[--pool->count];
		if (pool->count < POOL_LOW)
			pool_request(entry, kind, pool->batch);
		fn(fd, arg);
		return NULL;
	}
	if (w->alone) {
		fn(-ENOTCONN, arg);
		return NULL;
	}
	if (pool->requested && pool->batch < POOL_BATCH_MAX)
		pool->batch *= 2; /* dry although a request is under way: ask for more at a time */
	struct worker_wait *wait = worker_wait_add(w, &pool->waits, pod, arg);
	if (!wait) {
		fn(-ENOMEM, arg);
		return NULL;
	}
	wait->on_socket = fn;
	pool_request(entry, kind, pool->batch);
	return wait;
}

void worker_sockets_arrived(struct worker *w, uint64_t cookie, enum pod_socket kind, int *fds, size_t count)
{
	struct pod_entry *entry = table_get(w->pods, &cookie, sizeof(cookie));
	struct socket_pool *pool = entry ? pool_of(entry, kind) : NULL;
	if (!pool)
		return;		     /* the pod is gone; its order closes them */
	worker_pod_ref(&entry->pod); /* a callback may be the last to use it */
	pool->requested = 0;
	if (!count)
		worker_waits_fail(&pool->waits, -EIO);
	struct worker_wait *wait;
	for (size_t i = 0; i < count; i++) {
		if ((wait = TAILQ_FIRST(&pool->waits))) {
			worker_wait_socket(wait, fd_take(&fds[i]));
			continue;
		}
		if (pool->count >= POOL_MAX || mem_reserve(&pool->fds, &pool->cap, pool->count + 1, sizeof(int)) < 0)
			break;
		pool->fds[pool->count++] = fd_take(&fds[i]);
	}
	if (!TAILQ_EMPTY(&pool->waits))
		pool_request(entry, kind, pool->batch);
	worker_pod_unref(w, &entry->pod);
}

void worker_sockets_back(struct worker *w)
{
	struct table_iter it = { 0 };
	while (table_next(w->pods, &it)) {
		struct pod_entry *entry = it.value;
		for (size_t i = 0; i < POD_POOLS; i++) {
			struct socket_pool *pool = pool_of(entry, pool_kinds[i]);
			pool->requested = 0;
			if (!TAILQ_EMPTY(&pool->waits))
				pool_request(entry, pool_kinds[i], pool->batch);
		}
	}
}

void worker_sockets_alone(struct worker *w)
{
	struct table_iter it = { 0 };
	while (table_next(w->pods, &it)) {
		struct pod_entry *entry = it.value;
		for (size_t i = 0; i < POD_POOLS; i++)
			worker_waits_fail(&pool_of(entry, pool_kinds[i])->waits, -ENOTCONN);
	}
}
