/* SPDX-License-Identifier: Apache-2.0 */
/* Text: growing string builder, checked copies, number and duration parsing, edit distance. Pure. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A growing NUL-terminated string. Zero-initialise; sb_done frees. After a failed allocation
 * `failed` is set, further calls do nothing, and sb_take returns NULL. */
struct sb {
	char *p;
	size_t len, cap;
	bool failed;
};

void sb_add(struct sb *sb, const char *text);
void sb_add_bytes(struct sb *sb, const void *bytes, size_t len);
void sb_addf(struct sb *sb, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Hands the string over (caller frees), leaving sb empty; "" when nothing was added; NULL on failure. */
char *sb_take(struct sb *sb);
void sb_done(struct sb *sb);

/* Newly allocated formatted text, or NULL. */
char *str_format(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool str_eq(const char *a, const char *b); /* NULL equals only NULL */
bool str_starts(const char *text, const char *prefix);
bool str_ends(const char *text, const char *suffix);
/* Copies with truncation, always terminated. Returns false when it was cut. */
bool str_copy(char *to, size_t size, const char *from);
/* Whole-string unsigned decimal up to max. 0, -EINVAL or -ERANGE. */
int str_to_u64(const char *text, uint64_t max, uint64_t *out);
/* Decimal, terminated; returns its length. */
enum { U64_TEXT_MAX = 21 };
size_t str_from_u64(uint64_t value, char buf[U64_TEXT_MAX]);
/* Go/Protobuf durations: "10s", "1h30m", "250ms", "0.5s", "1.5h". 0, -EINVAL or -ERANGE. */
int str_to_duration_ns(const char *text, uint64_t *out_ns);
/* Damerau-Levenshtein distance, for "did you mean"; at most `limit` + 1 is returned. */
unsigned int str_distance(const char *a, const char *b, unsigned int limit);
