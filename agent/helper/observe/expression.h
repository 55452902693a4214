/* SPDX-License-Identifier: Apache-2.0 */
/* Expressions of Telemetry resources and taps (model/cel.h) about a request that is over. Pure. */
#pragma once

#include <stdbool.h>

struct request_record;
struct sb;

/* What can't be evaluated is false. */
bool expression_true(const struct request_record *r, const char *text);
/* Appends the value as text. false: there is none (an absent header, say). */
bool expression_value(const struct request_record *r, const char *text, struct sb *out);
