/* SPDX-License-Identifier: Apache-2.0 */
/* Consistent hashing: a ring of points (Ketama) or a Maglev table over all hosts of a priority, healthy or not. Those that
 * can't be used are stepped over, so that their keys move and no others. Immutable, pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct balance_table;

/* keys: what stays the same of a host. n > 0. 0, -ENOMEM, -E2BIG. */
int balance_ring_new(const uint64_t *keys, const uint32_t *weights, size_t n, uint32_t size_min,
		     struct balance_table **out);
int balance_maglev_new(const uint64_t *keys, const uint32_t *weights, size_t n, uint32_t size,
		       struct balance_table **out);
void balance_table_free(struct balance_table *t); /* NULL is fine */
size_t balance_table_size(const struct balance_table *t);
/* The first host at or after the hash that is good; UINT32_MAX: none among the next `steps` different ones. */
uint32_t balance_table_find(const struct balance_table *t, uint64_t hash, size_t steps,
			    bool (*good)(uint32_t host, void *arg), void *arg);
