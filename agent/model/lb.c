/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/model/lb.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/hash.h"
#include "agent/base/mem.h"

static uint32_t at_least_one(uint32_t weight)
{
	return weight ? weight : 1;
}

static uint32_t gcd(uint32_t a, uint32_t b)
{
	while (b) {
		uint32_t r = a % b;
		a = b;
		b = r;
	}
	return a;
}

/* Slots to each endpoint by largest remainders, none below one. Returns the sum. */
static size_t shares_round(const uint32_t *weights, uint64_t total, size_t n, uint32_t *shares)
{
	size_t sum = 0;
	for (size_t i = 0; i < n; i++) {
		shares[i] = at_least_one((uint32_t)((uint64_t)at_least_one(weights[i]) * LB_SCHEDULE_MAX / total));
		sum += shares[i];
	}
	while (sum != LB_SCHEDULE_MAX) {
		/* The share that is furthest from its due gives or gets one; at most n rounds. */
		size_t best = n;
		int64_t best_lack = 0;
		for (size_t i = 0; i < n; i++) {
			int64_t due = (int64_t)at_least_one(weights[i]) * LB_SCHEDULE_MAX;
			int64_t lack = due - (int64_t)(shares[i] * total);
			if (sum > LB_SCHEDULE_MAX)
				lack = shares[i] > 1 ? -lack : INT64_MIN;
			if (best == n || lack > best_lack) {
				best = i;
				best_lack = lack;
			}
		}
		bool grow = sum < LB_SCHEDULE_MAX;
		shares[best] += grow ? 1 : -1u;
		sum += grow ? 1 : (size_t)-1;
	}
	return sum;
}

static size_t shares_of(const uint32_t *weights, size_t n, uint32_t *shares)
{
	uint32_t divisor = 0;
	uint64_t total = 0;
	for (size_t i = 0; i < n; i++) {
		divisor = gcd(divisor, at_least_one(weights[i]));
		total += at_least_one(weights[i]);
	}
	if (n > LB_SCHEDULE_MAX) {
		for (size_t i = 0; i < n; i++)
			shares[i] = 1;
		return n;
	}
	if (total / divisor > LB_SCHEDULE_MAX)
		return shares_round(weights, total, n, shares);
	for (size_t i = 0; i < n; i++)
		shares[i] = at_least_one(weights[i]) / divisor;
	return (size_t)(total / divisor);
}

int lb_schedule(const uint32_t *weights, size_t n, uint32_t **slots, size_t *count)
{
	*slots = NULL;
	*count = 0;
	if (!n)
		return 0;

	AUTO(mem_freep) uint32_t *shares = calloc(n, sizeof(*shares));
	AUTO(mem_freep) int64_t *current = calloc(n, sizeof(*current));
	if (!shares || !current)
		return -ENOMEM;
	size_t total = shares_of(weights, n, shares);
	uint32_t *out = calloc(total, sizeof(*out));
	if (!out)
		return -ENOMEM;

	if (total == n) {
		for (size_t i = 0; i < n; i++)
			out[i] = (uint32_t)i;
	} else {
		for (size_t k = 0; k < total; k++) {
			size_t best = 0;
			for (size_t i = 0; i < n; i++) {
				current[i] += shares[i];
				if (current[i] > current[best])
					best = i;
			}
			current[best] -= (int64_t)total;
			out[k] = (uint32_t)best;
		}
	}
	*slots = out;
	*count = total;
	return 0;
}

size_t lb_maglev_size(size_t endpoint_count)
{
	static const uint32_t primes[] = { LB_MAGLEV_MIN, 509, 1021, 2039, 4093, 8191, 16381, 32749, LB_MAGLEV_MAX };

	for (size_t i = 0; i < ARRAY_SIZE(primes); i++)
		if (primes[i] >= endpoint_count * 100)
			return primes[i];
	return LB_MAGLEV_MAX;
}

struct turn {
	uint64_t key;
	uint32_t index; /* of the endpoint */
	uint32_t weight;
	uint32_t offset, skip, next;
	uint64_t credit;
};

static int on_turn_cmp(const void *a, const void *b)
{
	const struct turn *x = a, *y = b;

	return x->key < y->key ? -1 : x->key > y->key;
}

/* Every endpoint in turn claims the next free slot of its own permutation; one of less than the greatest weight sits
 * out the turns that its credit does not pay for. */
static void maglev_fill(struct turn *turns, size_t n, uint32_t max_weight, uint32_t *slots, size_t size)
{
	for (size_t filled = 0, first_round = 1; filled < size; first_round = 0) {
		for (size_t i = 0; i < n && filled < size; i++) {
			struct turn *t = &turns[i];
			t->credit += t->weight;
			if (t->credit < max_weight && !first_round)
				continue;
			t->credit -= t->credit < max_weight ? t->credit : max_weight;

			uint32_t slot;
			do {
				slot = (uint32_t)((t->offset + (uint64_t)t->skip * t->next++) % size);
			} while (slots[slot] != UINT32_MAX);
			slots[slot] = t->index;
			filled++;
		}
	}
}

static bool is_prime(size_t n)
{
	for (size_t d = 2; d * d <= n; d++)
		if (n % d == 0)
			return false;
	return n > 1;
}

int lb_maglev_sized(const uint64_t *keys, const uint32_t *weights, size_t n, size_t size, uint32_t **slots)
{
	*slots = NULL;
	if (!n || size < n || size < 3 || size > LB_MAGLEV_TABLE_MAX || !is_prime(size))
		return -EINVAL;

	AUTO(mem_freep) struct turn *turns = calloc(n, sizeof(*turns));
	uint32_t *out = malloc(size * sizeof(*out));
	if (!turns || !out) {
		free(out);
		return -ENOMEM;
	}

	uint32_t max_weight = 1;
	for (size_t i = 0; i < n; i++) {
		uint64_t a = hash64(HASH64_INIT, &keys[i], sizeof(keys[i]));
		uint64_t b = hash64(a, "skip", 4);
		turns[i] = (struct turn){
			.key = keys[i],
			.index = (uint32_t)i,
			.weight = at_least_one(weights[i]),
			.offset = (uint32_t)(a % size),
			.skip = (uint32_t)(b % (size - 1)) + 1,
		};
		if (turns[i].weight > max_weight)
			max_weight = turns[i].weight;
	}
	qsort(turns, n, sizeof(*turns), on_turn_cmp);
	memset(out, 0xff, size * sizeof(*out));
	maglev_fill(turns, n, max_weight, out, size);
	*slots = out;
	return 0;
}

int lb_maglev(const uint64_t *keys, const uint32_t *weights, size_t n, uint32_t **slots, size_t *count)
{
	*slots = NULL;
	*count = 0;
	if (!n)
		return 0;
	if (n > LB_MAGLEV_MAX)
		return -E2BIG;

	size_t size = lb_maglev_size(n);
	int rc = lb_maglev_sized(keys, weights, n, size, slots);
	if (rc == 0)
		*count = size;
	return rc;
}
