/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's side of the shared counts. Only this thread writes, so a relaxed store of the sum is enough; only the index
 * that publishes a slot has to be in order. */
#include "agent/link/request_metrics.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/hash.h"
#include "agent/model/telemetry.h"

const uint64_t request_bounds_milli[REQUEST_BUCKETS - 1] = REQUEST_BOUNDS_MILLI;

enum { INDEX_SLOTS = 2 * REQUEST_SERIES_MAX };

struct request_writer {
	struct request_shard *shard;
	uint32_t used; /* our own count: what is in shared memory is not read back */
	struct {
		uint32_t hash;
		uint32_t slot; /* 0: free, since the first slot is never found */
	} index[INDEX_SLOTS];
};

_Static_assert((INDEX_SLOTS & (INDEX_SLOTS - 1)) == 0, "a mask finds the place");
_Static_assert(REQUEST_METRIC_COUNT <= 32, "metrics are bits");

int request_writer_new(struct request_shard *shard, struct request_writer **out)
{
	struct request_writer *w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->shard = shard;
	w->used = 1;
	shard->series[0].metrics = UINT32_MAX;
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

static bool is_series(const struct request_series *s, uint32_t metrics, const void *key, size_t len)
{
	return s->metrics == metrics && s->key_len == len && memcmp(s->key, key, len) == 0;
}

struct request_series *request_series_get(struct request_writer *w, uint32_t metrics, const void *key, size_t len)
{
	struct request_shard *shard = w->shard;
	uint64_t hash = hash_keyed(key, len) ^ metrics * 0x9e3779b97f4a7c15ull;
	uint32_t tag = (uint32_t)(hash >> 32), at = (uint32_t)hash;
	if (!len || len > REQUEST_KEY_MAX)
		return &shard->series[0];
	for (;; at++) {
		at &= INDEX_SLOTS - 1;
		if (!w->index[at].slot)
			break; /* half of the index is free */
		struct request_series *s = &shard->series[w->index[at].slot];
		if (w->index[at].hash == tag && is_series(s, metrics, key, len))
			return s;
	}
	if (w->used == REQUEST_SERIES_MAX)
		return &shard->series[0];
	struct request_series *s = &shard->series[w->used];
	s->metrics = metrics;
	s->key_len = (uint32_t)len;
	memcpy(s->key, key, len);
	w->index[at].hash = tag;
	w->index[at].slot = w->used++;
	__atomic_store_n(&shard->used, w->used, __ATOMIC_RELEASE);
	return s;
}

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

/* The first slot of its shard is told by having no labels. */
static void count_unplaced(struct request_series *s)
{
	struct request_shard *shard =
		(struct request_shard *)(void *)((char *)s - offsetof(struct request_shard, series));
	add(&shard->unplaced, 1);
}

void request_series_add(struct request_series *s, const struct request_sample *sample)
{
	if (!s->key_len)
		count_unplaced(s);
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
