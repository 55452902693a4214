/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/compile/inventory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/compile/state.h"

enum { KEY_TEXT_MAX = 640 }; /* kind, namespace and name are at most 253 bytes each */

static size_t lower_bound(const struct inventory *inv, const char *key)
{
	size_t low = 0, high = inv->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (strcmp(inv->v[mid]->key, key) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

struct resource_range inventory_range(const struct compiler *c, enum resource_kind kind, const char *ns)
{
	const struct inventory *inv = &c->inventory[kind];
	char key[KEY_TEXT_MAX];

	/* '0' follows '/', so this is the first key behind all of the namespace's. */
	snprintf(key, sizeof(key), "%s/%s/", resource_kind_key_name(kind), ns);
	size_t first = lower_bound(inv, key);
	key[strlen(key) - 1] = '/' + 1;
	return (struct resource_range){ inv->v + first, lower_bound(inv, key) - first };
}

const struct resource *inventory_get(const struct compiler *c, enum resource_kind kind, const char *ns,
				     const char *name)
{
	const struct inventory *inv = &c->inventory[kind];
	char key[KEY_TEXT_MAX];

	snprintf(key, sizeof(key), "%s/%s/%s", resource_kind_key_name(kind), ns, name);
	size_t i = lower_bound(inv, key);
	return i < inv->n && str_eq(inv->v[i]->key, key) ? inv->v[i] : NULL;
}

static const struct resource *hold(const struct resource *r)
{
	return resource_ref((struct resource *)r);
}

static void release(const struct resource *r)
{
	resource_unref((struct resource *)r);
}

void inventory_done(struct inventory *inv)
{
	for (size_t i = 0; i < inv->n; i++)
		release(inv->v[i]);
	free(inv->v);
	*inv = (struct inventory){ 0 };
}

/* Usually nothing or one is different, and both are in the same order: pointers are compared in step, and keys only
 * where they differ. */
int inventory_sync(struct compiler *c, enum resource_kind kind, const struct compile_source *source,
		   int (*on_change)(struct compiler *c, const struct resource *old, const struct resource *new))
{
	struct inventory *inv = &c->inventory[kind], now = { 0 };
	struct change {
		const struct resource *old, *new;
	} *changes = NULL;
	size_t n = 0, cap = 0, at = 0;
	int rc = mem_reserve(&now.v, &now.cap, inv->n + 8, sizeof(*now.v));

	for (const struct resource *r = source->next(source->arg, kind, NULL); !rc && (r || at < inv->n);) {
		const struct resource *old = at < inv->n ? inv->v[at] : NULL;
		int order = old == r ? 0 : !old ? 1 : !r ? -1 : strcmp(old->key, r->key);

		if (old != r) {
			rc = mem_reserve(&changes, &cap, n + 1, sizeof(*changes));
			if (rc < 0)
				break;
			changes[n++] = (struct change){ order <= 0 ? old : NULL, order >= 0 ? r : NULL };
		}
		at += order <= 0;
		if (order < 0)
			continue;
		rc = mem_reserve(&now.v, &now.cap, now.n + 1, sizeof(*now.v));
		if (rc < 0)
			break;
		now.v[now.n++] = r;
		r = source->next(source->arg, kind, r);
	}
	if (rc < 0) {
		free(now.v);
		free(changes);
		return rc;
	}

	for (size_t i = 0; i < n; i++)
		if (changes[i].new)
			hold(changes[i].new);
	free(inv->v);
	*inv = now;
	for (size_t i = 0; i < n; i++) {
		/* Every change must reach the nodes, or they would keep what is released below. */
		int failed = on_change(c, changes[i].old, changes[i].new);
		rc = rc ? rc : failed;
	}
	for (size_t i = 0; i < n; i++)
		if (changes[i].old)
			release(changes[i].old);
	c->stats.resources_changed += n;
	free(changes);
	return rc;
}
