/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/base/mem.h"

enum { LOG_TEXT_MAX = 2048, LOG_LINE_MAX = LOG_TEXT_MAX * 6 + 256 };

static const char *const names[] = { "error", "warn", "info", "debug" };

/* Set before threads are started; the lock guards the sink alone, which may be changed later. */
static const char *log_component = "weft";
static bool log_json;
static _Atomic enum log_level current = LOG_INFO;
static pthread_mutex_t sink_lock = PTHREAD_MUTEX_INITIALIZER;
static void (*log_sink)(enum log_level level, const char *line, void *arg);
static void *log_sink_arg;

void log_init(const char *component, bool json)
{
	log_component = component;
	log_json = json;
}

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&current, level, memory_order_relaxed);
}

enum log_level log_get_level(void)
{
	return atomic_load_explicit(&current, memory_order_relaxed);
}

const char *log_level_name(enum log_level level)
{
	return (size_t)level < ARRAY_SIZE(names) ? names[level] : "?";
}

int log_level_parse(const char *text, enum log_level *out)
{
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (strcmp(text, names[i]) != 0)
			continue;
		*out = (enum log_level)i;
		return 0;
	}
	return -EINVAL;
}

void log_set_sink(void (*sink)(enum log_level level, const char *line, void *arg), void *arg)
{
	pthread_mutex_lock(&sink_lock);
	log_sink = sink;
	log_sink_arg = arg;
	pthread_mutex_unlock(&sink_lock);
}

/* Control characters would let a peer's bytes forge lines or drive a terminal. Returns the length. */
static size_t log_escape(const char *text, char *to)
{
	size_t n = 0;
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;
		if (c < 0x20 || c == 0x7f || (log_json && (c == '"' || c == '\\')))
			n += (size_t)sprintf(to + n, log_json ? "\\u%04x" : "\\x%02x", c);
		else
			to[n++] = (char)c;
	}
	to[n] = 0;
	return n;
}

static void log_write(const char *line, size_t len)
{
	while (len > 0) {
		ssize_t n = write(STDERR_FILENO, line, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return; /* nobody to tell */
		line += n;
		len -= (size_t)n;
	}
}

void log_at(enum log_level level, const char *format, ...)
{
	if (level > log_get_level())
		return;

	int saved = errno;
	char text[LOG_TEXT_MAX], escaped[LOG_TEXT_MAX * 6 + 1], line[LOG_LINE_MAX];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	log_escape(text, escaped);

	struct timespec now;
	struct tm tm;
	char when[32];
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);

	const char *form = log_json ? "{\"time\":\"%s.%03ldZ\",\"level\":\"%s\",\"component\":\"%s\",\"msg\":\"%s\"}" :
				      "%s.%03ldZ %-5s %s: %s";
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	int len = snprintf(line, sizeof(line) - 1, form, when, now.tv_nsec / 1000000, log_level_name(level),
			   log_component, escaped);
#pragma GCC diagnostic pop

	pthread_mutex_lock(&sink_lock);
	if (log_sink) {
		log_sink(level, line, log_sink_arg);
	} else {
		size_t n = (size_t)len < sizeof(line) - 1 ? (size_t)len : sizeof(line) - 2;
		line[n] = '\n';
		log_write(line, n + 1);
	}
	pthread_mutex_unlock(&sink_lock);
	errno = saved;
}
