/* SPDX-License-Identifier: Apache-2.0 */
/* Linear probing in a power of two of slots, at most 3/4 of them used or deleted. A removed slot
 * stays as a tombstone (so that removal during iteration moves nothing) until the next rebuild. */
#include "agent/base/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/hash.h"

struct entry {
	void *value;
	size_t len;
	uint8_t key[];
};

struct slot {
	uint64_t hash;
	struct entry *entry; /* NULL: free; tombstone: removed */
};

struct table {
	struct slot *slots;
	size_t size;  /* 0 or a power of two */
	size_t count; /* entries */
	size_t used;  /* entries and tombstones */
	void (*on_free)(void *value);
};

enum { TABLE_MIN_SIZE = 8 };

static struct entry tombstone;

static bool slot_is_entry(const struct slot *slot)
{
	return slot->entry && slot->entry != &tombstone;
}

struct table *table_new(void (*on_free)(void *value))
{
	struct table *t = calloc(1, sizeof(*t));
	if (t)
		t->on_free = on_free;
	return t;
}

static void entry_free(const struct table *t, struct entry *e)
{
	if (t->on_free)
		t->on_free(e->value);
	free(e);
}

void table_free(struct table *t)
{
	if (!t)
		return;

	for (size_t i = 0; i < t->size; i++)
		if (slot_is_entry(&t->slots[i]))
			entry_free(t, t->slots[i].entry);
	free(t->slots);
	free(t);
}

void table_freep(struct table **t)
{
	table_free(*t);
	*t = NULL;
}

size_t table_count(const struct table *t)
{
	return t->count;
}

static struct slot *slot_find(const struct table *t, uint64_t hash, const void *key, size_t len)
{
	if (!t->size)
		return NULL;

	/* A free slot always exists, so this ends. */
	for (size_t i = hash & (t->size - 1);; i = (i + 1) & (t->size - 1)) {
		struct slot *slot = &t->slots[i];
		if (!slot->entry)
			return NULL;
		if (slot->entry != &tombstone && slot->hash == hash && slot->entry->len == len &&
		    (!len || memcmp(slot->entry->key, key, len) == 0))
			return slot;
	}
}

void *table_get(const struct table *t, const void *key, size_t len)
{
	struct slot *slot = slot_find(t, hash_keyed(key, len), key, len);

	return slot ? slot->entry->value : NULL;
}

void *table_get_str(const struct table *t, const char *key)
{
	return table_get(t, key, strlen(key));
}

static void slot_place(struct slot *slots, size_t size, struct slot slot)
{
	size_t i = slot.hash & (size - 1);
	while (slots[i].entry)
		i = (i + 1) & (size - 1);
	slots[i] = slot;
}

static int table_make_room(struct table *t)
{
	if ((t->used + 1) * 4 <= t->size * 3)
		return 0;

	size_t size = t->size ? t->size : TABLE_MIN_SIZE;
	while ((t->count + 1) * 2 > size)
		size *= 2;
	struct slot *slots = calloc(size, sizeof(*slots));
	if (!slots)
		return -ENOMEM;

	for (size_t i = 0; i < t->size; i++)
		if (slot_is_entry(&t->slots[i]))
			slot_place(slots, size, t->slots[i]);
	free(t->slots);
	t->slots = slots;
	t->size = size;
	t->used = t->count;
	return 0;
}

int table_set(struct table *t, const void *key, size_t len, void *value)
{
	uint64_t hash = hash_keyed(key, len);
	struct slot *slot = slot_find(t, hash, key, len);
	if (slot) {
		void *old = slot->entry->value;
		slot->entry->value = value;
		if (t->on_free && old != value)
			t->on_free(old);
		return 0;
	}

	if (table_make_room(t) < 0)
		return -ENOMEM;
	struct entry *e = malloc(sizeof(*e) + len);
	if (!e)
		return -ENOMEM;
	e->value = value;
	e->len = len;
	if (len)
		memcpy(e->key, key, len);
	slot_place(t->slots, t->size, (struct slot){ hash, e });
	t->count++;
	t->used++;
	return 0;
}

int table_set_str(struct table *t, const char *key, void *value)
{
	return table_set(t, key, strlen(key), value);
}

bool table_remove(struct table *t, const void *key, size_t len)
{
	struct slot *slot = slot_find(t, hash_keyed(key, len), key, len);
	if (!slot)
		return false;

	struct entry *e = slot->entry;
	slot->entry = &tombstone;
	t->count--;
	entry_free(t, e);
	return true;
}

bool table_remove_str(struct table *t, const char *key)
{
	return table_remove(t, key, strlen(key));
}

bool table_next(const struct table *t, struct table_iter *it)
{
	while (it->at < t->size) {
		const struct slot *slot = &t->slots[it->at++];
		if (!slot_is_entry(slot))
			continue;
		it->key = slot->entry->key;
		it->key_len = slot->entry->len;
		it->value = slot->entry->value;
		return true;
	}
	return false;
}
