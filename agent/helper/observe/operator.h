/* SPDX-License-Identifier: Apache-2.0 */
/* The %OPERATORS% of access logs and header operations, in Envoy's words. Worker's thread. */
#pragma once

#include "agent/helper/observe/record.h"

#include <stdbool.h>
#include <stddef.h>

struct sb;

/* One %...% of a format: the text between the percent signs. */
struct operator_text {
	const char *p;
	size_t n;
};

/* Finds the operator that begins at p[0] == '%'. Returns how many bytes it takes with both percent signs; 0: none (a lone
 * percent sign). "%%" is none either: the caller writes one. */
size_t operator_find(const char *p, struct operator_text *out);
/* Appends what it stands for. false: there is no such value in this record (nothing was appended), or no such operator.
 * *number: the value is a number. */
bool operator_write(const struct request_record *r, struct operator_text op, struct sb *out, bool *number);
