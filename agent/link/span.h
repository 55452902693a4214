/* SPDX-License-Identifier: Apache-2.0 */
/* Spans in a form of the link's own, see span.proto. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sb;

enum { SPAN_ATTRIBUTES_MAX = 32, SPAN_TEXT_MAX = 1024 };

struct span_attribute {
	const char *key;
	const char *text; /* NULL: the value is number */
	int64_t number;
};

struct span {
	uint8_t trace_id[16], span_id[8], parent_id[8];
	bool has_parent, server, error;
	const char *name, *provider, *service;
	uint64_t start_ns, end_ns; /* CLOCK_REALTIME */
	struct span_attribute attributes[SPAN_ATTRIBUTES_MAX];
	size_t attribute_count;
};

/* Appends one span to a batch. 0, -ENOMEM, or -EINVAL: megabytes of text. */
int span_batch_add(struct sb *batch, const struct span *s);
/* Calls back for each span of a batch; texts are valid during the call. 0, or -EINVAL: not a batch, or out of bounds. */
int span_batch_read(const uint8_t *bytes, size_t len, void (*fn)(const struct span *s, void *arg), void *arg);
