/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/model/balance_table.h"

#include <errno.h>
#include <stdlib.h>

#include "agent/base/hash.h"
#include "agent/base/mem.h"
#include "agent/model/balance.h"
#include "agent/model/lb.h"

struct point {
	uint64_t at;
	uint32_t host;
};

struct balance_table {
	size_t size;
	uint32_t *slots;      /* Maglev; NULL: a ring */
	struct point *points; /* by `at` */
};

void balance_table_free(struct balance_table *t)
{
	if (!t)
		return;
	free(t->slots);
	free(t->points);
	free(t);
}

static void table_freep(struct balance_table **t)
{
	balance_table_free(*t);
}

size_t balance_table_size(const struct balance_table *t)
{
	return t->size;
}

static int on_point_cmp(const void *a, const void *b)
{
	const struct point *x = a, *y = b;
	if (x->at != y->at)
		return x->at < y->at ? -1 : 1;
	return x->host < y->host ? -1 : x->host > y->host;
}

static uint64_t at_least_one(uint32_t weight)
{
	return weight ? weight : 1;
}

/* As Envoy: the lightest host gets a whole number of points, the others in proportion. */
static double points_scale(const uint32_t *weights, size_t n, uint32_t size_min, double *total)
{
	double sum = 0, least = 0;
	for (size_t i = 0; i < n; i++) {
		double w = (double)at_least_one(weights[i]);
		sum += w;
		if (!i || w < least)
			least = w;
	}
	double of_least = least / sum * size_min;
	double whole = (double)(uint64_t)of_least;
	if (whole < of_least)
		whole += 1;
	double scale = whole / (least / sum);
	*total = sum;
	return scale < BALANCE_RING_MAX ? scale : BALANCE_RING_MAX;
}

int balance_ring_new(const uint64_t *keys, const uint32_t *weights, size_t n, uint32_t size_min,
		     struct balance_table **out)
{
	if (n > BALANCE_RING_MAX)
		return -E2BIG;
	AUTO(table_freep) struct balance_table *t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	double total, scale = points_scale(weights, n, size_min ? size_min : 1, &total);
	size_t cap = (size_t)scale + n + 1;
	t->points = malloc(cap * sizeof(*t->points));
	if (!t->points)
		return -ENOMEM;

	double due = 0;
	for (size_t i = 0; i < n; i++) {
		/* Fractions are carried over, so that rounding doesn't add up; every host has a point. */
		due += (double)at_least_one(weights[i]) / total * scale;
		uint64_t k = 0;
		do {
			uint64_t at = balance_mix(hash64(keys[i], &k, sizeof(k)));
			t->points[t->size++] = (struct point){ at, (uint32_t)i };
			k++;
		} while ((double)t->size < due && t->size < cap - (n - i));
	}
	qsort(t->points, t->size, sizeof(*t->points), on_point_cmp);
	*out = TAKE(t);
	return 0;
}

int balance_maglev_new(const uint64_t *keys, const uint32_t *weights, size_t n, uint32_t size,
		       struct balance_table **out)
{
	AUTO(table_freep) struct balance_table *t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	int rc = lb_maglev_sized(keys, weights, n, size, &t->slots);
	if (rc < 0)
		return rc;
	t->size = size;
	*out = TAKE(t);
	return 0;
}

static size_t ring_first(const struct balance_table *t, uint64_t hash)
{
	size_t low = 0, high = t->size;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (t->points[middle].at < hash)
			low = middle + 1;
		else
			high = middle;
	}
	return low == t->size ? 0 : low;
}

uint32_t balance_table_find(const struct balance_table *t, uint64_t hash, size_t steps,
			    bool (*good)(uint32_t host, void *arg), void *arg)
{
	size_t at = t->slots ? hash % t->size : ring_first(t, hash);
	uint32_t last = UINT32_MAX;
	for (size_t looked = 0; steps && looked < t->size; looked++) {
		uint32_t host = t->slots ? t->slots[at] : t->points[at].host;
		if (host != last) {
			if (good(host, arg))
				return host;
			steps--;
			last = host;
		}
		if (++at == t->size)
			at = 0;
	}
	return UINT32_MAX;
}
