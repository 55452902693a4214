/* SPDX-License-Identifier: Apache-2.0 */
/* Errors: functions return 0 or -errno; a struct err carries the sentence for people.
 * It is filled once, by whoever knows what was being done, with which name, why it failed
 * and what to do. Plain data, no locks, no allocation. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>

enum { ERR_TEXT_MAX = 512 };

struct err {
	int code; /* -errno; 0: not set */
	char text[ERR_TEXT_MAX];
};

#define ERR_INIT ((struct err){ 0 })

/* Sets code and sentence, and returns code. err may be NULL. A later call replaces the first. */
int err_set(struct err *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* As err_set, with ": <strerror(-code)>" appended. */
int err_sys(struct err *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Puts "format: " before the present sentence (context added on the way up); returns err->code. */
int err_prefix(struct err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* clang-tidy sees one file at a time, and would take what these return for a success. */
#ifdef __clang_analyzer__
#define err_set(err, code, ...) (err_set(err, code, __VA_ARGS__), (code) < 0 ? (code) : -1)
#define err_sys(err, code, ...) (err_sys(err, code, __VA_ARGS__), (code) < 0 ? (code) : -1)
#define err_prefix(err, ...) (err_prefix(err, __VA_ARGS__), -1)
#endif
