/* SPDX-License-Identifier: Apache-2.0 */
/* What values of expressions can do with one another; cel.c reads the text. */
#pragma once

#include "agent/model/cel.h"

enum cel_comparison { CEL_EQUAL, CEL_NOT_EQUAL, CEL_AT_MOST, CEL_AT_LEAST, CEL_LESS, CEL_MORE, CEL_COMPARISON_COUNT };

struct cel_value cel_real(double n); /* no whole number, whatever its value */
struct cel_value cel_compare(struct cel_value a, enum cel_comparison how, struct cel_value b);
/* operator: + - * / %. Whole numbers divide to whole ones, as in CEL. Texts are joined in scratch, of which *used bytes are. */
struct cel_value cel_calculate(struct cel_value a, char operator, struct cel_value b, struct cel_scratch *scratch,
			       size_t *used);
/* contains, startsWith, endsWith; none of a name that is no method. */
struct cel_value cel_find(const char *method, struct cel_value in, struct cel_value part);
bool cel_is_find(const char *method);
/* Some part of the text matches. Compiled patterns are kept by thread, a few dozen. *bad: the pattern can't be read. */
struct cel_value cel_matches(struct cel_value in, struct cel_text pattern, bool *bad);
/* int(), uint() (which cut: whole) and double() of a number or a text. */
struct cel_value cel_to_number(struct cel_value v, bool whole);
/* "1h2m3.5s" in milliseconds; none: it is no duration. */
struct cel_value cel_duration(struct cel_value text);
/* Takes the escapes of a string literal's text out, in place. false: one that is not known. */
bool cel_unescape(char *text, size_t *n);
