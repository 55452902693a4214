/* SPDX-License-Identifier: Apache-2.0 */
/* The last flows of this node, in a ring: what `meshctl flows` reads. On the agent's loop thread. */
#pragma once

#include "agent/model/flow.h"

#include <stddef.h>
#include <stdint.h>

struct flowlog;

enum { FLOWLOG_MAX = 4096 };

struct flowlog *flowlog_new(size_t capacity); /* rounded up to a power of two; NULL: no memory */
void flowlog_free(struct flowlog *log);	      /* NULL is fine */
/* rule: name of the deciding rule when it is known, or NULL. */
void flowlog_add(struct flowlog *log, const struct flow *flow, const char *rule);
/* The first entry with a sequence greater than `after`; NULL: none. Borrowed until the next flowlog_add. A reader that
 * was too slow sees a gap in the sequences. */
const struct flow_entry *flowlog_next(const struct flowlog *log, uint64_t after);
uint64_t flowlog_newest(const struct flowlog *log); /* 0: none yet */
uint64_t flowlog_oldest(const struct flowlog *log); /* 0: none yet */
