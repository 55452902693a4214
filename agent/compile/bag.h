/* SPDX-License-Identifier: Apache-2.0 */
/* A table from a key to several pointers. Most keys have few, so adding is O(1) and removing looks through the key's
 * own. Not thread-safe. */
#pragma once

#include <stddef.h>

struct table;

struct bag {
	struct table *table;
};

struct bag_items {
	void *const *v;
	size_t n;
};

int bag_init(struct bag *bag); /* 0 or -ENOMEM */
void bag_done(struct bag *bag);
int bag_add(struct bag *bag, const void *key, size_t len, void *item);
void bag_remove(struct bag *bag, const void *key, size_t len, const void *item); /* once; absent is fine */
struct bag_items bag_get(const struct bag *bag, const void *key, size_t len);	 /* borrowed until the next change */
