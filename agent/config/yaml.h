/* SPDX-License-Identifier: Apache-2.0 */
/* YAML and JSON text of one document -> nodes. Input is hostile: depth, number of nodes and what aliases expand to are
 * bounded, duplicate keys and cycles are refused. libyaml is used here only. Pure. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct arena;
struct err;
struct node;

/* first_line: the line of the file at which the text starts, from 1. err says "line N: ...", err_line that N.
 * *out is NULL for an empty document. 0, -EINVAL or -ENOMEM. */
int yaml_parse(struct arena *a, const char *text, size_t len, uint32_t first_line, struct node **out,
	       uint32_t *err_line, struct err *err);
/* Strict JSON (RFC 8259). The same contract. */
int json_parse(struct arena *a, const char *text, size_t len, uint32_t first_line, struct node **out,
	       uint32_t *err_line, struct err *err);
