/* SPDX-License-Identifier: Apache-2.0 */
/* What of a document people may see: a Secret's values never. Pure; may be called from any thread. */
#pragma once

#include <stddef.h>

struct sb;

/* 1: there is a Secret in it, and *out has got its names and keys, all in place of values; 0: nothing of it is secret,
 * *out is as it was; -ENOMEM. file: as decoder_run()'s. A text that can't be parsed counts as secret if it has the word. */
int document_redact(const char *file, const char *text, size_t len, struct sb *out);
