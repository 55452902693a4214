/* SPDX-License-Identifier: Apache-2.0 */
/* The token buckets of all local rate limits: one table for all workers of the process, so that a limit is exact whichever
 * of them serves a request. A bucket is found by a hash that nobody can aim at; it is made full when it is first asked for,
 * and is filled as Envoy's: tokens_per_fill at the end of each interval, never in between. Any thread. */
#pragma once

#include "agent/model/filters.h"

#include <stdbool.h>
#include <stdint.h>

struct bucket_key {
	uint64_t h[2];
};

/* Keyed hash of the parts that make a bucket what it is. */
struct bucket_key bucket_key(const void *bytes, size_t len);

enum {
	BUCKETS_MAX = 65536,
	BUCKET_SHARDS = 64, /* each with its own lock and an equal part of the places */
};

struct bucket_state {
	bool allowed;
	bool no_room; /* not allowed, because there is no place for another bucket */
	uint32_t remaining;
	uint64_t reset_ms; /* until the next fill */
};

struct buckets;
struct buckets *buckets_new(void); /* NULL: no memory */
void buckets_free(struct buckets *b);
struct buckets *buckets_shared(void); /* the process's; NULL: no memory */

/* Takes one token. When all places are taken, one whose bucket is full again gives way: forgetting it changes nothing.
 * owner: a hash of whose bucket it is, when clients choose how many of them there are: such take a quarter of the places
 * each at most, and three quarters together, so that nobody fills the table for others. 0: the configuration's. */
struct bucket_state buckets_take(struct buckets *b, struct bucket_key key, uint64_t owner,
				 const struct token_bucket *config, uint64_t now_ns);
size_t buckets_count(struct buckets *b);
