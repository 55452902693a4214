/* SPDX-License-Identifier: Apache-2.0 */
/* Earliest deadline first: weighted turns where weights may differ from turn to turn. A heap; pure. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct edf_item {
	double deadline;
	uint32_t host;
};

struct edf {
	struct edf_item *items; /* a heap, earliest first */
	size_t count;
	double now; /* the deadline that was served last */
};

int edf_init(struct edf *e, size_t count); /* room for so many; 0 or -ENOMEM */
void edf_done(struct edf *e);
/* Adds host at a fraction of its first turn, 0 <= start < 1, so that workers don't go in step. */
void edf_add(struct edf *e, uint32_t host, double weight, double start);
/* Whose turn it is; NULL: empty. */
static inline const struct edf_item *edf_first(const struct edf *e)
{
	return e->count ? &e->items[0] : NULL;
}
/* The first has had its turn; its next one comes after 1 / weight. */
void edf_again(struct edf *e, double weight);
