/* SPDX-License-Identifier: Apache-2.0 */
/* Logging for the boundary (main, callbacks, commands); libraries return struct err instead.
 * One line a message on stderr: time, level, component, text; or JSON. Thread-safe: one write()
 * a line. Level is an atomic that may be changed at any time. */
#pragma once

#include <stdbool.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_init(const char *component, bool json);
void log_set_level(enum log_level level);
enum log_level log_get_level(void);
const char *log_level_name(enum log_level level);
int log_level_parse(const char *text, enum log_level *out); /* 0 or -EINVAL */
/* Where the lines go instead of stderr, for a process without one (the helper sends them over its link);
 * NULL restores stderr. */
void log_set_sink(void (*sink)(enum log_level level, const char *line, void *arg), void *arg);
void log_at(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_at(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...)                                                                                                 \
	do {                                                                                                           \
		if (log_get_level() >= LOG_DEBUG)                                                                      \
			log_at(LOG_DEBUG, __VA_ARGS__);                                                                \
	} while (0)
