/* SPDX-License-Identifier: Apache-2.0 */
/* Requests per service from two readings of Prometheus text. Pure: the time between them is an argument. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum top_by { TOP_BY_SERVICE, TOP_BY_WORKLOAD, TOP_BY_SOURCE };
enum { TOP_BUCKETS_MAX = 64, TOP_GROUPS_MAX = 100000 };

/* Counters of one group, summed over its series. */
struct top_group {
	double requests, failed, received_bytes, sent_bytes;
	double buckets[TOP_BUCKETS_MAX]; /* cumulative, by top_reading's bounds */
};

struct top_reading {
	struct table *groups;		/* name -> top_group */
	double bounds[TOP_BUCKETS_MAX]; /* ms, ascending; the last may be infinite */
	size_t bound_count;
};

/* Takes the istio_* series of that reporter. 0 or -ENOMEM; in any case top_reading_done(). */
int top_read(const char *metrics, enum top_by by, const char *reporter, struct top_reading *out);
void top_reading_done(struct top_reading *r);

struct top_row {
	char *name;
	double requests, success;	   /* a second; share of 1 */
	double received_bytes, sent_bytes; /* a second */
	double p50_ms, p90_ms, p99_ms;	   /* negative: not known */
};

struct top_rows {
	struct top_row *v; /* most requests first */
	size_t n, cap;
};

/* The groups that had requests in between. A counter that went back has begun anew. 0 or -ENOMEM. */
int top_diff(const struct top_reading *before, const struct top_reading *now, double seconds, struct top_rows *out);
void top_rows_done(struct top_rows *rows);
/* Of a histogram with cumulative counts, by linear interpolation within the bucket; negative: it is empty. */
double top_quantile(const double *bounds, const double *cumulative, size_t n, double q);
