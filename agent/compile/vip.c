/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/compile/vip.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/hash.h"
#include "agent/base/table.h"

static const uint8_t v4_prefix[14] = { [10] = 0xff, [11] = 0xff, [12] = 240, [13] = 240 };
static const uint8_t v6_prefix[14] = { 0x20, 0x01, 0, 2 };

int vip_pool_init(struct vip_pool *pool)
{
	pool->by_key = table_new(NULL);
	pool->used = calloc((VIP_POOL_SIZE + 64) / 64, sizeof(*pool->used));
	pool->count = 0;
	if (pool->by_key && pool->used)
		return 0;
	vip_pool_done(pool);
	return -ENOMEM;
}

void vip_pool_done(struct vip_pool *pool)
{
	table_free(pool->by_key);
	free(pool->used);
	*pool = (struct vip_pool){ 0 };
}

/* Places count from 1, so that a table can hold them as pointers. */
static bool place_used(const struct vip_pool *pool, uint32_t place)
{
	return pool->used[place / 64] >> (place % 64) & 1;
}

static void place_set(struct vip_pool *pool, uint32_t place, bool used)
{
	uint64_t bit = 1ull << (place % 64);

	if (used)
		pool->used[place / 64] |= bit;
	else
		pool->used[place / 64] &= ~bit;
}

static int place_find(struct vip_pool *pool, const char *key, uint32_t *out)
{
	uint32_t place = (uint32_t)(uintptr_t)table_get_str(pool->by_key, key);
	if (place) {
		*out = place;
		return 0;
	}
	if (pool->count >= VIP_POOL_SIZE)
		return -ENOSPC;

	uint64_t h = hash64_str(HASH64_INIT, key);
	place = (uint32_t)((h ^ h >> 32) % VIP_POOL_SIZE) + 1;
	while (place_used(pool, place))
		place = place % VIP_POOL_SIZE + 1;
	if (table_set_str(pool->by_key, key, (void *)(uintptr_t)place) < 0)
		return -ENOMEM;
	place_set(pool, place, true);
	pool->count++;
	*out = place;
	return 0;
}

int vip_pool_get(struct vip_pool *pool, const char *key, struct addr *v4, struct addr *v6)
{
	uint32_t place;
	int rc = place_find(pool, key, &place);
	if (rc < 0)
		return rc;

	memcpy(v4->b, v4_prefix, sizeof(v4_prefix));
	memcpy(v6->b, v6_prefix, sizeof(v6_prefix));
	v4->b[14] = v6->b[14] = (uint8_t)(place >> 8);
	v4->b[15] = v6->b[15] = (uint8_t)place;
	return 0;
}

void vip_pool_release(struct vip_pool *pool, const char *key)
{
	uint32_t place = (uint32_t)(uintptr_t)table_get_str(pool->by_key, key);
	if (!place)
		return;
	place_set(pool, place, false);
	pool->count--;
	table_remove_str(pool->by_key, key);
}
