/* SPDX-License-Identifier: Apache-2.0 */
/* What is in force, by kind, sorted by key. A few changes are moved in; many make the kind's array be built anew. */
#include "agent/source/store_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/table.h"

enum { REBUILD_AFTER = 64 }; /* changes of one commit */

/* The first position whose key is not less. */
static size_t index_position(const struct kind_index *k, const char *key)
{
	size_t low = 0, high = k->n;
	while (low < high) {
		size_t mid = (low + high) / 2;
		if (strcmp(k->v[mid]->key, key) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

int store_index_replace(struct store *s, struct resource *before, struct resource *after)
{
	const struct resource *any = after ? after : before;
	struct kind_index *k = &s->kinds[any->kind];
	k->dirty |= s->change_count > REBUILD_AFTER;
	if (k->dirty)
		return 0;
	size_t at = index_position(k, any->key);
	if (before && after) {
		k->v[at] = after;
	} else if (before) {
		memmove(k->v + at, k->v + at + 1, (--k->n - at) * sizeof(*k->v));
	} else {
		if (mem_reserve(&k->v, &k->cap, k->n + 1, sizeof(*k->v)) < 0)
			return -ENOMEM;
		memmove(k->v + at + 1, k->v + at, (k->n++ - at) * sizeof(*k->v));
		k->v[at] = after;
	}
	return 0;
}

static int key_cmp(const void *a, const void *b)
{
	return strcmp((*(struct resource *const *)a)->key, (*(struct resource *const *)b)->key);
}

int store_index_finish(struct store *s)
{
	bool dirty = false;
	for (int i = 0; i < KIND_COUNT; i++) {
		dirty |= s->kinds[i].dirty;
		if (s->kinds[i].dirty)
			s->kinds[i].n = 0;
	}
	struct table_iter it = { 0 };
	while (dirty && table_next(s->slots, &it)) {
		struct slot *slot = it.value;
		struct kind_index *k = slot->current ? &s->kinds[slot->current->kind] : NULL;
		if (!k || !k->dirty)
			continue;
		if (mem_reserve(&k->v, &k->cap, k->n + 1, sizeof(*k->v)) < 0)
			return -ENOMEM;
		k->v[k->n++] = slot->current;
	}
	for (int i = 0; i < KIND_COUNT; i++) {
		struct kind_index *k = &s->kinds[i];
		if (k->dirty && k->n)
			qsort(k->v, k->n, sizeof(*k->v), key_cmp);
		k->dirty = false;
	}
	return 0;
}

void store_changes_clear(struct store *s)
{
	for (size_t i = 0; i < s->change_count; i++) {
		resource_unref(s->changes[i].before);
		resource_unref(s->changes[i].after);
	}
	s->change_count = 0;
	if (s->change_cap > REBUILD_AFTER) {
		free(s->changes);
		s->changes = NULL;
		s->change_cap = 0;
	}
}

const struct resource *store_next(const struct store *s, enum resource_kind kind, const struct resource *after)
{
	/* Who iterates comes back with what it was given: the place is remembered (no state, only a hint). */
	struct kind_index *k = (struct kind_index *)&s->kinds[kind];
	size_t at = 0;
	if (after && k->hint < k->n && k->v[k->hint] == after)
		at = k->hint + 1;
	else if (after)
		for (at = index_position(k, after->key); at < k->n && strcmp(k->v[at]->key, after->key) <= 0; at++)
			;
	k->hint = at;
	return at < k->n ? k->v[at] : NULL;
}

const struct resource *store_get(const struct store *s, enum resource_kind kind, const char *ns, const char *name)
{
	const struct kind_index *k = &s->kinds[kind];
	AUTO(mem_freep) char *key = ns && *ns && resource_kind_is_namespaced(kind) ?
					    str_format("%s/%s/%s", resource_kind_key_name(kind), ns, name) :
					    str_format("%s/%s", resource_kind_key_name(kind), name);
	size_t at = key ? index_position(k, key) : k->n;
	return at < k->n && !strcmp(k->v[at]->key, key) ? k->v[at] : NULL;
}

size_t store_count(const struct store *s)
{
	size_t n = 0;
	for (int i = 0; i < KIND_COUNT; i++)
		n += s->kinds[i].n;
	return n;
}

const struct store_change *store_changes(const struct store *s, size_t *count)
{
	*count = s->change_count;
	return s->changes;
}
