/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/observe/log_time.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "agent/base/str.h"

/* The seconds' part changes once a second: kept as text. "2026-11-21T16:00:00" */
static const char *seconds_text(time_t s)
{
	static _Thread_local time_t of = -1;
	static _Thread_local char text[32];
	struct tm tm;
	if (s == of)
		return text;
	if (!gmtime_r(&s, &tm) || !strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm))
		return NULL;
	of = s;
	return text;
}

/* Envoy's additions to strftime: %3f (digits of the second's fraction; %f: nine), %E3S (seconds with them), and %s, which is
 * the zone's in the C library. Returns how many bytes of the format it was; 0: none of those. */
static size_t fraction(const char *p, size_t n, uint64_t ns, char *out, size_t size)
{
	char digits[10];
	snprintf(digits, sizeof(digits), "%09u", (unsigned int)(ns % 1000000000));
	if (n >= 2 && p[1] == 's')
		return snprintf(out, size, "%llu", (unsigned long long)(ns / 1000000000)) > 0 ? 2 : 0;
	if (n >= 2 && p[1] == 'f')
		return snprintf(out, size, "%s", digits) > 0 ? 2 : 0;
	if (n >= 3 && p[1] >= '1' && p[1] <= '9' && p[2] == 'f')
		return snprintf(out, size, "%.*s", p[1] - '0', digits) > 0 ? 3 : 0;
	if (n >= 4 && p[1] == 'E' && p[2] >= '1' && p[2] <= '9' && p[3] == 'S')
		return snprintf(out, size, "%%S.%.*s", p[2] - '0', digits) > 0 ? 4 : 0;
	return 0;
}

/* Without Envoy's additions, which are values of this time. */
static bool format_plain(const char *format, size_t len, uint64_t ns, char *out, size_t size)
{
	size_t n = 0;
	for (size_t i = 0; i < len;) {
		char part[24] = { format[i], 0 };
		size_t took = 1;
		if (format[i] == '%') {
			took = fraction(format + i, len - i, ns, part, sizeof(part));
			if (!took && i + 1 < len) {
				part[1] = format[i + 1];
				took = 2;
			} else if (!took) {
				return false; /* ends in the middle */
			}
		}
		if (!str_copy(out + n, size - n, part))
			return false;
		n += strlen(part);
		i += took;
	}
	return true;
}

bool log_time_format(struct sb *out, uint64_t ns, const char *format, size_t len)
{
	time_t s = (time_t)(ns / 1000000000);
	char plain[128] = "", text[256];
	struct tm tm;

	if (!format_plain(format, len, ns, plain, sizeof(plain)) || !gmtime_r(&s, &tm))
		return false;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* the configuration's own */
	size_t n = strftime(text, sizeof(text), plain, &tm);
#pragma GCC diagnostic pop
	sb_add_bytes(out, text, n);
	return n > 0;
}

bool log_time_add(struct sb *out, uint64_t ns)
{
	unsigned int ms = (unsigned int)(ns / 1000000 % 1000);
	const char tail[] = { '.', (char)('0' + ms / 100), (char)('0' + ms / 10 % 10), (char)('0' + ms % 10), 'Z' };
	const char *seconds = seconds_text((time_t)(ns / 1000000000));

	if (!seconds)
		return false;
	sb_add(out, seconds);
	sb_add_bytes(out, tail, sizeof(tail));
	return true;
}
