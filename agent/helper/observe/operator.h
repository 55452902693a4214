/* SPDX-License-Identifier: Apache-2.0 */
/* The %OPERATORS% of access logs and header operations, in Envoy's words. Worker's thread. */
#pragma once

#include "agent/helper/observe/record.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct operator;
struct sb;

/* One %NAME(argument):max% of a format, read. */
struct operator_call {
	const struct operator* op;   /* NULL: there is none of this name, and so never a value */
	const char *name, *argument; /* borrowed from the format; argument "" when there is none */
	uint32_t argument_len;
	uint32_t max; /* bytes */
};

/* Reads the operator that begins at p[0] == '%'. Returns how many bytes it takes with both percent signs; 0: there is none,
 * but a lone percent sign, or two. */
size_t operator_find(const char *p, struct operator_call *out);
/* Appends what it stands for. false: there is no such value in this record, and nothing was appended. */
bool operator_write(const struct request_record *r, const struct operator_call *call, struct sb *out);
bool operator_is_number(const struct operator_call *call);
