/* SPDX-License-Identifier: Apache-2.0 */
/* Counts of requests in the memory that helper and agent share: for each worker a table of series, written by that worker
 * alone and read by the agent at scrape time without stopping anyone. A series is a set of labels (their values, with a NUL
 * after each) and the sums of the metrics that have it.
 *
 * A slot is the worker's while it is FREE, is filled, then published as LIVE with labels that do not change. One that was
 * not used for long is RETIRED: the worker has written it for the last time. The agent takes its sums over, which are never
 * lost that way, and gives the slot back as FREE. So each word has one writer at a time, and a slot's state says whom.
 * Slots that nobody used are holes in a sparse file. The agent believes none of it: it reads within fixed bounds, and
 * copies before it looks. */
#pragma once

#include "agent/link/metrics.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REQUEST_METRICS_MAGIC 0x31514557u /* "WEQ1" */
enum {
	REQUEST_SERIES_MAX = 4096, /* of a worker; the first is for what has no room */
	REQUEST_KEY_MAX = 704,	   /* bytes of all labels */
	REQUEST_BUCKETS = 20,	   /* of which the last is +Inf */
	REQUEST_TOTALS_MAX = 32768,
	REQUEST_PAST_MAX = 4096, /* label sets without a slot, whose sums the agent keeps */
	REQUEST_IDLE_S = 3600,	 /* unused so long, a label set gives its place up */
	REQUEST_IDLE_FULL_S = 60 /* the same when there is hardly room for another */
};

/* Of a slot. What is none of these is FREE. */
enum request_state { REQUEST_FREE, REQUEST_LIVE, REQUEST_RETIRED };

/* Envoy's bounds, and so Istio's: of milliseconds as of bytes. In thousandths, since the first is 0.5. */
#define REQUEST_BOUNDS_MILLI                                                                                           \
	{                                                                                                              \
		500, 1000, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000,     \
			30000000, 60000000, 300000000, 600000000, 1800000000, 3600000000                               \
	}
extern const uint64_t request_bounds_milli[REQUEST_BUCKETS - 1];

struct request_histogram {
	uint64_t sum;			   /* microseconds, or bytes */
	uint64_t buckets[REQUEST_BUCKETS]; /* each for itself: not cumulative */
};

struct request_series {
	uint32_t state;	  /* enum request_state; atomic */
	uint32_t metrics; /* bits by enum request_metric: those that it is of */
	uint32_t key_len;
	char key[REQUEST_KEY_MAX];
	uint64_t requests;
	uint64_t grpc_request_messages, grpc_response_messages;
	struct request_histogram duration, request_bytes, response_bytes;
} __attribute__((aligned(64)));

struct request_shard {
	uint32_t used;	   /* slots that were ever published; atomic */
	uint32_t retired;  /* how often one was retired; atomic */
	uint64_t unplaced; /* requests counted in the first slot: the table was full, or their labels too long */
	struct request_series series[REQUEST_SERIES_MAX] __attribute__((aligned(128)));
};

struct request_metrics {
	uint32_t magic, version, shard_count, series_max;
	struct request_shard shards[LINK_SHARDS_MAX] __attribute__((aligned(4096)));
};

/* The whole memfd. */
struct link_memory {
	struct link_metrics metrics;
	struct request_metrics requests __attribute__((aligned(4096)));
};

_Static_assert(sizeof(struct request_series) % 64 == 0, "series share no cache line");

/* --- the worker's side: one thread */

struct request_writer; /* finds series by their labels */

int request_writer_new(struct request_shard *shard, struct request_writer **out); /* 0 or -ENOMEM */
void request_writer_free(struct request_writer *w);
/* Where a series' sums are, for as long as it has its place. Zero: where all go that have no room. */
struct request_place {
	uint32_t slot, generation;
};
/* The place of these metrics and labels, made when it is new. Keep it where it is used again: finding it costs a hash of
 * the labels. now_s: of a clock that only goes forward, as below. */
struct request_place request_writer_place(struct request_writer *w, uint32_t metrics, const void *key, size_t len,
					  uint32_t now_s);

struct request_sample {
	uint64_t duration_us, request_bytes, response_bytes;
	uint64_t grpc_request_messages, grpc_response_messages;
};
/* Adds one request to those of its metrics that the series has. False: it has lost its place, ask for another. */
bool request_writer_add(struct request_writer *w, struct request_place place, const struct request_sample *sample,
			uint32_t now_s);

/* --- the agent's side */

struct request_totals; /* series by labels, summed over workers and helpers */
struct request_totals_iter {
	size_t at;
};

int request_totals_new(struct request_totals **out);
void request_totals_free(struct request_totals *t);
/* Adds what a helper's memory holds. Labels come out as valid UTF-8 without control characters. 0 or -ENOMEM. */
int request_totals_add(struct request_totals *t, const struct request_metrics *m);
/* The same from other totals (of helpers that have ended, and of series that have lost their places). */
int request_totals_merge(struct request_totals *t, const struct request_totals *from);
/* Takes over what was retired, and gives the slots back. How many there were, or -ENOMEM (the rest stays where it is). */
int request_totals_take(struct request_totals *t, struct request_metrics *m);
/* What is older than REQUEST_IDLE_S in such totals is forgotten, and the oldest beyond REQUEST_PAST_MAX; but for series that
 * a helper has in use, which would seem to go backwards. So first the marks: in_use() for each helper's memory. */
void request_totals_age_begin(struct request_totals *t);
void request_totals_in_use(struct request_totals *t, const struct request_metrics *m);
void request_totals_age_end(struct request_totals *t);
/* When the next rows are from, for age_end(). */
void request_totals_clock(struct request_totals *t, uint64_t now_s);
/* Series in no order; key_len 0: what had no room. Borrowed until t changes. */
const struct request_series *request_totals_next(const struct request_totals *t, struct request_totals_iter *it);
size_t request_totals_count(const struct request_totals *t);
uint64_t request_totals_unplaced(const struct request_totals *t);
/* The values of the labels, borrowed from the series: how many there are, at most max. */
size_t request_series_labels(const struct request_series *series, const char *values[], size_t max);
