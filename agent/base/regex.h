/* SPDX-License-Identifier: Apache-2.0 */
/* Regular expressions as RE2 has them (so as Istio, Envoy and the Gateway API mean them): no backreference, no lookaround,
 * no possessive or atomic group. Matching is bounded in time and memory whatever the pattern and the text. A compiled
 * expression is immutable and may be used by several threads at once; each thread keeps some scratch memory. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct err;
struct regex;

enum {
	REGEX_PATTERN_MAX = 8192, /* bytes */
	REGEX_REPEAT_MAX = 1000,  /* in {n,m}, as RE2 */
	REGEX_OUTPUT_MAX = 65536, /* bytes that a substitution may make */
};

/* 0, -ENOMEM, or -EINVAL with a sentence that quotes the pattern. */
int regex_new(const char *pattern, bool ignore_case, struct regex **out, struct err *err);
void regex_free(struct regex *re);
void regex_freep(struct regex **re);

/* The whole text matches: 1 or 0; -E2BIG when no answer was found within the limits. */
int regex_match(const struct regex *re, const char *text, size_t len);
/* As above; a text that exceeds the limits does not match. */
bool regex_matches(const struct regex *re, const char *text, size_t len);
/* Some part of the text matches: 1, 0 or -E2BIG. */
int regex_search(const struct regex *re, const char *text, size_t len);

/* The substitution has nothing but text, "\0" to "\9" (groups of the pattern) and "\\". 0 or -EINVAL. */
int regex_substitution_check(const struct regex *re, const char *substitution, struct err *err);
/* Every part that matches is replaced. *out is newly allocated. 0, -ENOMEM, or -E2BIG: beyond the limits. */
int regex_replace(const struct regex *re, const char *text, size_t len, const char *substitution, char **out);
