/* SPDX-License-Identifier: Apache-2.0 */
/* What strangers write, fit for a line of a log: valid UTF-8 without control characters or ends of lines. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct sb;

/* Bytes of the UTF-8 sequence at p, of n bytes (RFC 3629); 0: it is none. */
size_t escape_utf8_len(const char *p, size_t n);
/* Escapes what was appended to out since `from`. Text: \" \\ \xNN; json: as RFC 8259 has it, U+FFFD for what is no UTF-8. */
void escape_since(struct sb *out, size_t from, bool json);
