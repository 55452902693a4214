/* SPDX-License-Identifier: Apache-2.0 */
/* The CEL that Telemetry resources use: filters of access logs ("response.code >= 400 && !connection.mtls") and values of
 * tags ("request.headers['x-tenant']"). Attributes by Envoy's names; literals, comparisons, && || ! ?:, has(),
 * size(), string(), startsWith(), endsWith(), contains(), `in` over a list or the headers. What is absent is an error, as in
 * CEL: `a != "x"` of an absent a is not true. Evaluated as it is read: no allocation, bounded depth. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct err;
struct request_record;
struct sb;

/* Whether a condition can be read, and knows its attributes: else -EINVAL and where it goes wrong, in words that hold nothing
 * that would have to be escaped. */
int expression_check(const char *text, struct err *err);
/* What can't be evaluated is false. */
bool expression_true(const struct request_record *r, const char *text);
/* Appends the value as text. false: there is none (an absent header, say). */
bool expression_value(const struct request_record *r, const char *text, struct sb *out);
