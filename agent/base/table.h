/* SPDX-License-Identifier: Apache-2.0 */
/* Hash table from byte-string keys to pointers: open addressing, keyed siphash, grows itself.
 * Keys are copied, values are the caller's. Not thread-safe. Removal during iteration of the
 * current entry is allowed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct table;

struct table_iter {
	size_t at;
	const void *key;
	size_t key_len;
	void *value;
};

/* on_free, or NULL, runs on a value that is replaced or removed, and on all by table_free. NULL: no memory. */
struct table *table_new(void (*on_free)(void *value));
void table_free(struct table *t);
void table_freep(struct table **t);
size_t table_count(const struct table *t);
void *table_get(const struct table *t, const void *key, size_t len); /* NULL: none */
void *table_get_str(const struct table *t, const char *key);
int table_set(struct table *t, const void *key, size_t len, void *value); /* 0 or -ENOMEM; value non-NULL */
int table_set_str(struct table *t, const char *key, void *value);
bool table_remove(struct table *t, const void *key, size_t len);
bool table_remove_str(struct table *t, const char *key);
/* struct table_iter it = {0}; while (table_next(t, &it)) ... ; order is unspecified */
bool table_next(const struct table *t, struct table_iter *it);
