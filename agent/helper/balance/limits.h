/* SPDX-License-Identifier: Apache-2.0 */
/* How much of a limit is used, of a pod's calls to a cluster or of what its application takes: by all workers together.
 * Found under a lock, then atomic words. Any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum limit { LIMIT_CONNECTIONS, LIMIT_PENDING, LIMIT_REQUESTS, LIMIT_RETRIES, LIMIT_KINDS };

struct shared_limits {
	unsigned int refs;
	uint32_t n[LIMIT_KINDS];
};

struct shared_limits *shared_limits_get(const char *cluster, uint64_t pod); /* a reference; NULL: no memory */
void shared_limits_put(const char *cluster, uint64_t pod, struct shared_limits *l);

/* One more, unless there are max of them; 0: no limit. */
static inline bool limit_take(struct shared_limits *l, enum limit kind, uint32_t max)
{
	if (__atomic_add_fetch(&l->n[kind], 1, __ATOMIC_RELAXED) <= max || !max)
		return true;
	__atomic_sub_fetch(&l->n[kind], 1, __ATOMIC_RELAXED);
	return false;
}

static inline void limit_give(struct shared_limits *l, enum limit kind)
{
	__atomic_sub_fetch(&l->n[kind], 1, __ATOMIC_RELAXED);
}
