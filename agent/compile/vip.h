/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses for hosts that have none of their own, from Istio's ranges 240.240.0.0/16 and 2001:2::/48. Where a host
 * lands follows from its name; of two that would land on one place the later one moves on. A host keeps its place
 * for as long as it exists. */
#pragma once

#include "agent/base/addr.h"

#include <stdint.h>

struct table;

enum { VIP_POOL_SIZE = 65534 }; /* without .0.0 and .255.255 */

struct vip_pool {
	struct table *by_key;
	uint64_t *used; /* a bit each */
	uint32_t count;
};

int vip_pool_init(struct vip_pool *pool); /* 0 or -ENOMEM */
void vip_pool_done(struct vip_pool *pool);
/* The pair of addresses of a key. 0, -ENOMEM, -ENOSPC (all are taken). */
int vip_pool_get(struct vip_pool *pool, const char *key, struct addr *v4, struct addr *v6);
void vip_pool_release(struct vip_pool *pool, const char *key); /* absent is fine */
