/* SPDX-License-Identifier: Apache-2.0 */
/* Balancing as tables: which endpoint stands in which slot. Pure functions; the results are the caller's to free. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum {
	LB_SCHEDULE_MAX = 1024, /* slots of a weighted schedule; more than so many endpoints get one slot each */
	LB_MAGLEV_MIN = 251,
	LB_MAGLEV_MAX = 65537, /* also the most endpoints that a Maglev table holds */
};

/* Smooth weighted round robin (as nginx's): indexes 0..n-1, each at least once, in proportion to its weight and spread
 * evenly. Weights are reduced by their gcd, and rounded in proportion when the sum is more than LB_SCHEDULE_MAX. A
 * weight of 0 counts as 1. n 0: *slots NULL, *count 0. 0 or -ENOMEM. */
int lb_schedule(const uint32_t *weights, size_t n, uint32_t **slots, size_t *count);

/* Maglev (NSDI 2016, 3.4) of about 100 slots an endpoint. keys: what stays the same of an endpoint, as its address
 * hashed; the order of the endpoints doesn't matter to which key owns a slot. 0, -ENOMEM, -E2BIG. */
int lb_maglev(const uint64_t *keys, const uint32_t *weights, size_t n, uint32_t **slots, size_t *count);
size_t lb_maglev_size(size_t endpoint_count); /* the table's size, a prime */
/* The same of a size that the caller chose: a prime, at least n and 3, at most LB_MAGLEV_TABLE_MAX; else -EINVAL. n > 0. */
enum { LB_MAGLEV_TABLE_MAX = 5000011 };
int lb_maglev_sized(const uint64_t *keys, const uint32_t *weights, size_t n, size_t size, uint32_t **slots);
