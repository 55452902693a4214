/* SPDX-License-Identifier: Apache-2.0 */
/* The resources of the last run, sorted by key, and what is different in this one. */
#pragma once

#include "agent/config/resource.h"

#include <stddef.h>

struct compile_source;
struct compiler;
struct inventory;

struct resource_range {
	const struct resource *const *v;
	size_t n;
};

/* Those of one namespace. */
struct resource_range inventory_range(const struct compiler *c, enum resource_kind kind, const char *ns);
const struct resource *inventory_get(const struct compiler *c, enum resource_kind kind, const char *ns,
				     const char *name);

/* Makes the inventory of a kind equal to the source. Calls back for each difference: old NULL: added; new NULL: removed.
 * old is released after the callbacks. 0 or -ENOMEM (also from the callback, whose result is passed on). */
int inventory_sync(struct compiler *c, enum resource_kind kind, const struct compile_source *source,
		   int (*on_change)(struct compiler *c, const struct resource *old, const struct resource *new));
void inventory_done(struct inventory *inv);
