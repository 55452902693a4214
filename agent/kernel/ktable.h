/* SPDX-License-Identifier: Apache-2.0 */
/* A kernel table that grows: the inner hash of a one-entry array of maps, replaced by one of twice the size when it is
 * full. The agent is its only writer. Loop thread only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

struct ktable {
	const char *name;
	int outer_fd, fd;
	uint32_t key_size, value_size, max_entries;
	/* entries that wait for ktable_flush */
	char *keys, *values;
	uint32_t waiting;
};

/* Takes over what outer_fd holds, or puts an empty table of at least min_entries there; *fresh says which. */
int ktable_open(struct ktable *t, const char *name, int outer_fd, uint32_t key_size, uint32_t value_size,
		uint32_t min_entries, bool *fresh, struct err *err);
void ktable_close(struct ktable *t);
int ktable_set(struct ktable *t, const void *key, const void *value, struct err *err);
/* As ktable_set, in batches: in force only after ktable_flush. */
int ktable_add(struct ktable *t, const void *key, const void *value, struct err *err);
int ktable_flush(struct ktable *t, struct err *err);
/* Makes room for this many entries at once, before a large load. */
int ktable_reserve(struct ktable *t, uint32_t entries, struct err *err);
int ktable_get(const struct ktable *t, const void *key, void *value); /* 0 or -ENOENT */
void ktable_delete(struct ktable *t, const void *key);
/* Removes what keep() denies. */
int ktable_sweep(struct ktable *t, bool (*keep)(const void *key, const void *value, void *arg), void *arg,
		 struct err *err);
/* The same for a map that is no ktable, such as a trie. */
int kmap_sweep(int fd, uint32_t key_size, uint32_t value_size,
	       bool (*keep)(const void *key, const void *value, void *arg), void *arg);
