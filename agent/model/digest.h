/* SPDX-License-Identifier: Apache-2.0 */
/* Content ids of the model's objects: what is added is told apart (a NULL from an empty text, two lists from one), so that
 * different contents give different ids, the same on every node. Inline, pure. */
#pragma once

#include "agent/base/hash.h"

#include <stddef.h>
#include <stdint.h>

static inline uint64_t digest_number(uint64_t id, uint64_t number)
{
	return hash64(id, &number, sizeof(number));
}

static inline uint64_t digest_text(uint64_t id, const char *text)
{
	return text ? hash64_str(hash64(id, "+", 1), text) : hash64(id, "-", 1);
}

static inline uint64_t digest_texts(uint64_t id, char *const *texts, size_t count)
{
	id = digest_number(id, count);
	for (size_t i = 0; i < count; i++)
		id = digest_text(id, texts[i]);
	return id;
}

/* 0 means "no id" to those who keep them. */
static inline uint64_t digest_end(uint64_t id)
{
	return id ? id : 1;
}
