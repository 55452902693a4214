/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/compile/bag.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/base/table.h"

struct bucket {
	size_t n, cap; /* cap 0: the only item is in `one` */
	void *one;
	void **more;
};

static void bucket_free(void *value)
{
	struct bucket *b = value;

	free(b->more);
	free(b);
}

int bag_init(struct bag *bag)
{
	bag->table = table_new(bucket_free);
	return bag->table ? 0 : -ENOMEM;
}

void bag_done(struct bag *bag)
{
	table_free(bag->table);
	bag->table = NULL;
}

int bag_add(struct bag *bag, const void *key, size_t len, void *item)
{
	struct bucket *b = table_get(bag->table, key, len);
	if (!b) {
		b = calloc(1, sizeof(*b));
		if (!b)
			return -ENOMEM;
		if (table_set(bag->table, key, len, b) < 0) {
			free(b);
			return -ENOMEM;
		}
	}
	if (!b->n && !b->cap) {
		b->one = item;
		b->n = 1;
		return 0;
	}
	if (mem_reserve(&b->more, &b->cap, b->n + 1, sizeof(*b->more)) < 0)
		return -ENOMEM;
	if (b->one) {
		b->more[0] = b->one;
		b->one = NULL;
	}
	b->more[b->n++] = item;
	return 0;
}

void bag_remove(struct bag *bag, const void *key, size_t len, const void *item)
{
	struct bucket *b = table_get(bag->table, key, len);
	if (!b)
		return;

	if (!b->cap && b->one == item) {
		b->n = 0;
	} else {
		for (size_t i = 0; b->cap && i < b->n; i++)
			if (b->more[i] == item) {
				memmove(&b->more[i], &b->more[i + 1], (b->n - i - 1) * sizeof(*b->more));
				b->n--;
				break;
			}
	}
	if (!b->n)
		table_remove(bag->table, key, len);
}

struct bag_items bag_get(const struct bag *bag, const void *key, size_t len)
{
	const struct bucket *b = table_get(bag->table, key, len);

	if (!b)
		return (struct bag_items){ 0 };
	return (struct bag_items){ b->cap ? b->more : (void *const *)&b->one, b->n };
}
