/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's side of the shared counts. Only this thread writes what is LIVE, so a relaxed store of the sum is enough; only
 * the states that hand a slot over have to be in order. What is needed to find and to age series is private: nothing but
 * a slot's state is read back from shared memory.
 *
 * Ages are looked at by a hand that goes round: a few slots each second, more when room is short. So no request waits for
 * a walk through the table, and what is retired is not used for long if not always the one that was used least. */
#include "agent/link/request_metrics.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/hash.h"
#include "agent/model/telemetry.h"

const uint64_t request_bounds_milli[REQUEST_BUCKETS - 1] = REQUEST_BOUNDS_MILLI;

enum {
	INDEX_SLOTS = 2 * REQUEST_SERIES_MAX,
	SWEEP = 8,			  /* slots each second: once around in nine minutes */
	SWEEP_FULL = 64,		  /* for each series that needs a place when few are left */
	FEW_LEFT = REQUEST_SERIES_MAX / 4 /* and as many as may come until the agent has given places back */
};

struct slot {
	uint32_t last_s, generation;
	uint32_t home; /* where its search in the index begins */
	bool live;
};

struct request_writer {
	struct request_shard *shard;
	uint32_t used; /* our own count: what is in shared memory is not read back */
	uint32_t hand, swept_s;
	uint32_t retired[REQUEST_SERIES_MAX]; /* given up; the oldest is the first that the agent gives back */
	uint32_t retired_at, retired_count;
	struct slot slots[REQUEST_SERIES_MAX];
	struct {
		uint32_t hash;
		uint32_t slot; /* 0: free, since the first slot is never found */
	} index[INDEX_SLOTS];
};

_Static_assert((INDEX_SLOTS & (INDEX_SLOTS - 1)) == 0, "a mask finds the place");
_Static_assert((REQUEST_SERIES_MAX & (REQUEST_SERIES_MAX - 1)) == 0, "a mask finds the place");
_Static_assert(REQUEST_METRIC_COUNT <= 32, "metrics are bits");

int request_writer_new(struct request_shard *shard, struct request_writer **out)
{
	struct request_writer *w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->shard = shard;
	w->used = 1;
	w->slots[0].live = true;
	shard->series[0].metrics = UINT32_MAX;
	__atomic_store_n(&shard->series[0].state, REQUEST_LIVE, __ATOMIC_RELEASE);
	__atomic_store_n(&shard->used, w->used, __ATOMIC_RELEASE);
	*out = w;
	return 0;
}

void request_writer_free(struct request_writer *w)
{
	free(w);
}

static void add(uint64_t *at, uint64_t n)
{
	__atomic_store_n(at, *at + n, __ATOMIC_RELAXED);
}

/* --- giving places up */

/* Those behind it that had to make way move up, so that no search meets a hole. */
static void index_remove(struct request_writer *w, uint32_t slot)
{
	uint32_t hole = w->slots[slot].home;
	while (w->index[hole].slot != slot)
		hole = (hole + 1) & (INDEX_SLOTS - 1);
	for (uint32_t at = (hole + 1) & (INDEX_SLOTS - 1); w->index[at].slot; at = (at + 1) & (INDEX_SLOTS - 1)) {
		uint32_t home = w->slots[w->index[at].slot].home;
		if (((at - home) & (INDEX_SLOTS - 1)) < ((at - hole) & (INDEX_SLOTS - 1)))
			continue; /* it is as near as it can be */
		w->index[hole] = w->index[at];
		hole = at;
	}
	w->index[hole].slot = 0;
}

static void retire(struct request_writer *w, uint32_t slot)
{
	struct request_shard *shard = w->shard;
	index_remove(w, slot);
	w->slots[slot].live = false;
	w->slots[slot].generation++;
	w->retired[(w->retired_at + w->retired_count++) & (REQUEST_SERIES_MAX - 1)] = slot;
	__atomic_store_n(&shard->series[slot].state, REQUEST_RETIRED, __ATOMIC_RELEASE);
	__atomic_store_n(&shard->retired, shard->retired + 1, __ATOMIC_RELEASE);
}

static void sweep(struct request_writer *w, uint32_t count, uint32_t idle_s, uint32_t now_s)
{
	for (; count && w->used > 1; count--) {
		w->hand = w->hand + 1 < w->used ? w->hand + 1 : 1;
		const struct slot *slot = &w->slots[w->hand];
		if (slot->live && now_s - slot->last_s >= idle_s)
			retire(w, w->hand);
	}
}

/* 0: there is none. Places that were given back come before new ones, which cost memory. */
static uint32_t slot_take(struct request_writer *w, uint32_t now_s)
{
	if (REQUEST_SERIES_MAX - w->used + w->retired_count < FEW_LEFT)
		sweep(w, SWEEP_FULL, REQUEST_IDLE_FULL_S, now_s);
	uint32_t oldest = w->retired[w->retired_at];
	if (w->retired_count && __atomic_load_n(&w->shard->series[oldest].state, __ATOMIC_ACQUIRE) == REQUEST_FREE) {
		w->retired_at = (w->retired_at + 1) & (REQUEST_SERIES_MAX - 1);
		w->retired_count--;
		return oldest;
	}
	return w->used < REQUEST_SERIES_MAX ? w->used++ : 0;
}

/* --- finding places */

static bool is_series(const struct request_series *s, uint32_t metrics, const void *key, size_t len)
{
	return s->metrics == metrics && s->key_len == len && memcmp(s->key, key, len) == 0;
}

static void slot_fill(struct request_writer *w, uint32_t slot, uint32_t metrics, const void *key, size_t len)
{
	struct request_series *s = &w->shard->series[slot];
	size_t sums = offsetof(struct request_series, requests);

	memset((char *)s + sums, 0, sizeof(*s) - sums);
	s->metrics = metrics;
	s->key_len = (uint32_t)len;
	memcpy(s->key, key, len);
	__atomic_store_n(&s->state, REQUEST_LIVE, __ATOMIC_RELEASE);
	__atomic_store_n(&w->shard->used, w->used, __ATOMIC_RELEASE);
}

struct request_place request_writer_place(struct request_writer *w, uint32_t metrics, const void *key, size_t len,
					  uint32_t now_s)
{
	const struct request_place none = { 0 };
	if (!len || len > REQUEST_KEY_MAX)
		return none;
	uint64_t hash = hash_keyed(key, len) ^ metrics * 0x9e3779b97f4a7c15ull;
	uint32_t tag = (uint32_t)(hash >> 32), home = (uint32_t)hash & (INDEX_SLOTS - 1), at = home;
	for (; w->index[at].slot; at = (at + 1) & (INDEX_SLOTS - 1)) { /* half of the index is free */
		uint32_t slot = w->index[at].slot;
		if (w->index[at].hash == tag && is_series(&w->shard->series[slot], metrics, key, len))
			return (struct request_place){ slot, w->slots[slot].generation };
	}
	uint32_t slot = slot_take(w, now_s);
	if (!slot)
		return none;
	slot_fill(w, slot, metrics, key, len);
	w->slots[slot].home = home;
	w->slots[slot].live = true;
	w->slots[slot].last_s = now_s;
	for (at = home; w->index[at].slot;) /* others may have left it meanwhile */
		at = (at + 1) & (INDEX_SLOTS - 1);
	w->index[at].hash = tag;
	w->index[at].slot = slot;
	return (struct request_place){ slot, w->slots[slot].generation };
}

/* --- adding */

static void histogram_add(struct request_histogram *h, uint64_t value, uint64_t milli)
{
	size_t bucket = 0;
	while (bucket < REQUEST_BUCKETS - 1 && milli > request_bounds_milli[bucket])
		bucket++;
	add(&h->sum, value);
	add(&h->buckets[bucket], 1);
}

static bool has(const struct request_series *s, enum request_metric metric)
{
	return s->metrics & (1u << metric);
}

static uint64_t milli_of(uint64_t bytes)
{
	return bytes > UINT64_MAX / 1000 ? UINT64_MAX : bytes * 1000;
}

static void series_add(struct request_series *s, const struct request_sample *sample)
{
	if (has(s, METRIC_REQUEST_COUNT))
		add(&s->requests, 1);
	if (has(s, METRIC_REQUEST_DURATION)) /* microseconds are thousandths of milliseconds */
		histogram_add(&s->duration, sample->duration_us, sample->duration_us);
	if (has(s, METRIC_REQUEST_SIZE))
		histogram_add(&s->request_bytes, sample->request_bytes, milli_of(sample->request_bytes));
	if (has(s, METRIC_RESPONSE_SIZE))
		histogram_add(&s->response_bytes, sample->response_bytes, milli_of(sample->response_bytes));
	if (sample->grpc_request_messages && has(s, METRIC_GRPC_REQUEST_MESSAGES))
		add(&s->grpc_request_messages, sample->grpc_request_messages);
	if (sample->grpc_response_messages && has(s, METRIC_GRPC_RESPONSE_MESSAGES))
		add(&s->grpc_response_messages, sample->grpc_response_messages);
}

bool request_writer_add(struct request_writer *w, struct request_place place, const struct request_sample *sample,
			uint32_t now_s)
{
	struct slot *slot = &w->slots[place.slot];
	if (slot->generation != place.generation)
		return false;
	slot->last_s = now_s;
	if (!place.slot)
		add(&w->shard->unplaced, 1);
	series_add(&w->shard->series[place.slot], sample);
	if (w->swept_s != now_s) {
		w->swept_s = now_s;
		sweep(w, SWEEP, REQUEST_IDLE_S, now_s);
	}
	return true;
}
