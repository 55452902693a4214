/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/model/balance_edf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int edf_init(struct edf *e, size_t count)
{
	memset(e, 0, sizeof(*e));
	e->items = malloc((count ? count : 1) * sizeof(*e->items));
	return e->items ? 0 : -ENOMEM;
}

void edf_done(struct edf *e)
{
	free(e->items);
	memset(e, 0, sizeof(*e));
}

void edf_add(struct edf *e, uint32_t host, double weight, double start)
{
	struct edf_item item = { e->now + (1 - start) / weight, host };
	size_t at = e->count++;

	while (at && e->items[(at - 1) / 2].deadline > item.deadline) {
		e->items[at] = e->items[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	e->items[at] = item;
}

void edf_again(struct edf *e, double weight)
{
	struct edf_item item = e->items[0];
	size_t at = 0, child;

	e->now = item.deadline;
	item.deadline += 1 / weight;
	while ((child = 2 * at + 1) < e->count) {
		if (child + 1 < e->count && e->items[child + 1].deadline < e->items[child].deadline)
			child++;
		if (e->items[child].deadline >= item.deadline)
			break;
		e->items[at] = e->items[child];
		at = child;
	}
	e->items[at] = item;
}
