/* SPDX-License-Identifier: Apache-2.0 */
/* Unified diff of two texts, by lines. Pure. */
#pragma once

struct sb;

/* Appends "--- a", "+++ b" and the hunks; nothing when they are equal. NULL: the text is absent (/dev/null). Texts that are
 * large and very different come out as a whole replacement. */
void diff_unified(struct sb *out, const char *a, const char *b, const char *name_a, const char *name_b);
