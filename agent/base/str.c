/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/base/str.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"

/* Room for `more` bytes and the NUL. */
static bool sb_room(struct sb *sb, size_t more)
{
	if (sb->failed)
		return false;
	if (more > SIZE_MAX - sb->len - 1 || mem_reserve(&sb->p, &sb->cap, sb->len + more + 1, 1) < 0) {
		sb->failed = true;
		return false;
	}
	return true;
}

void sb_add_bytes(struct sb *sb, const void *bytes, size_t len)
{
	if (!sb_room(sb, len))
		return;
	if (len)
		memcpy(sb->p + sb->len, bytes, len);
	sb->len += len;
	sb->p[sb->len] = 0;
}

void sb_add(struct sb *sb, const char *text)
{
	sb_add_bytes(sb, text, strlen(text));
}

void sb_addf(struct sb *sb, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	int len = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (len < 0) {
		sb->failed = true;
		return;
	}
	if (!sb_room(sb, (size_t)len))
		return;

	va_start(args, format);
	vsnprintf(sb->p + sb->len, (size_t)len + 1, format, args);
	va_end(args);
	sb->len += (size_t)len;
}

char *sb_take(struct sb *sb)
{
	if (!sb->p && !sb->failed)
		sb_add(sb, "");
	if (sb->failed) {
		sb_done(sb);
		return NULL;
	}
	char *p = sb->p;
	*sb = (struct sb){ 0 };
	return p;
}

void sb_done(struct sb *sb)
{
	free(sb->p);
	*sb = (struct sb){ 0 };
}

char *str_format(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	char *text;
	int len = vasprintf(&text, format, args);
	va_end(args);
	return len < 0 ? NULL : text;
}

bool str_eq(const char *a, const char *b)
{
	if (!a || !b)
		return a == b;
	return strcmp(a, b) == 0;
}

bool str_starts(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool str_ends(const char *text, const char *suffix)
{
	size_t len = strlen(text), tail = strlen(suffix);

	return len >= tail && memcmp(text + len - tail, suffix, tail) == 0;
}

bool str_copy(char *to, size_t size, const char *from)
{
	size_t len = strlen(from);
	if (size == 0)
		return false;

	size_t n = len < size ? len : size - 1;
	memcpy(to, from, n);
	to[n] = 0;
	return n == len;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

int str_to_u64(const char *text, uint64_t max, uint64_t *out)
{
	uint64_t value = 0;
	bool over = false;
	if (!*text)
		return -EINVAL;

	for (; *text; text++) {
		if (!is_digit(*text))
			return -EINVAL;
		over |= __builtin_mul_overflow(value, 10u, &value);
		over |= __builtin_add_overflow(value, (unsigned int)(*text - '0'), &value);
	}
	if (over || value > max)
		return -ERANGE;
	*out = value;
	return 0;
}

size_t str_from_u64(uint64_t value, char buf[U64_TEXT_MAX])
{
	char digits[U64_TEXT_MAX];
	size_t at = sizeof(digits);
	do
		digits[--at] = (char)('0' + value % 10);
	while (value /= 10);
	size_t len = sizeof(digits) - at;
	memcpy(buf, digits + at, len);
	buf[len] = 0;
	return len;
}

static const struct {
	const char *name;
	uint64_t ns;
} duration_units[] = {
	{ "ns", 1 },	     { "us", 1000 },	   { "ms", 1000000 },
	{ "s", 1000000000 }, { "m", 60000000000 }, { "h", 3600000000000 },
};

static uint64_t duration_unit_ns(const char *text, size_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(duration_units); i++)
		if (strlen(duration_units[i].name) == len && memcmp(duration_units[i].name, text, len) == 0)
			return duration_units[i].ns;
	return 0;
}

/* One "<digits>[.<digits>]<unit>" of a duration; moves *text past it. */
static int duration_part(const char **text, uint64_t *out_ns)
{
	const char *p = *text;
	uint64_t whole = 0, fraction = 0, scale = 1;
	unsigned int digits = 0;

	for (; is_digit(*p); p++, digits++)
		if (__builtin_mul_overflow(whole, 10u, &whole) ||
		    __builtin_add_overflow(whole, (unsigned int)(*p - '0'), &whole))
			return -ERANGE;
	if (*p == '.') {
		for (p++; is_digit(*p); p++, digits++) {
			if (scale >= 1000000000)
				continue; /* below a nanosecond for every unit but m and h: not worth more */
			fraction = fraction * 10 + (unsigned int)(*p - '0');
			scale *= 10;
		}
	}
	size_t len = strcspn(p, ".0123456789");
	uint64_t unit = duration_unit_ns(p, len), ns;
	if (!digits || !unit)
		return -EINVAL;
	if (__builtin_mul_overflow(whole, unit, &ns) ||
	    __builtin_add_overflow(ns, (uint64_t)((__uint128_t)fraction * unit / scale), &ns))
		return -ERANGE;
	*text = p + len;
	*out_ns = ns;
	return 0;
}

int str_to_duration_ns(const char *text, uint64_t *out_ns)
{
	uint64_t total = 0;
	if (strcmp(text, "0") == 0) { /* Go allows a bare zero */
		*out_ns = 0;
		return 0;
	}
	do {
		uint64_t ns;
		int rc = duration_part(&text, &ns);
		if (rc < 0)
			return rc;
		if (__builtin_add_overflow(total, ns, &total))
			return -ERANGE;
	} while (*text);
	*out_ns = total;
	return 0;
}

enum { DISTANCE_MAX_LEN = 128 };

static unsigned int min3(unsigned int a, unsigned int b, unsigned int c)
{
	unsigned int m = a < b ? a : b;

	return m < c ? m : c;
}

unsigned int str_distance(const char *a, const char *b, unsigned int limit)
{
	size_t la = strlen(a), lb = strlen(b);
	size_t gap = la > lb ? la - lb : lb - la;
	if (gap > limit || la > DISTANCE_MAX_LEN || lb > DISTANCE_MAX_LEN)
		return limit + 1;

	/* Optimal string alignment: rows i-2, i-1 and i of the usual matrix. */
	unsigned int rows[3][DISTANCE_MAX_LEN + 1];
	for (size_t j = 0; j <= lb; j++)
		rows[0][j] = (unsigned int)j;
	for (size_t i = 1; i <= la; i++) {
		unsigned int *row = rows[i % 3], *prev = rows[(i + 2) % 3], *prev2 = rows[(i + 1) % 3];
		row[0] = (unsigned int)i;
		for (size_t j = 1; j <= lb; j++) {
			row[j] = min3(prev[j] + 1, row[j - 1] + 1, prev[j - 1] + (a[i - 1] != b[j - 1]));
			bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
			if (swapped && prev2[j - 2] + 1 < row[j])
				row[j] = prev2[j - 2] + 1;
		}
	}
	unsigned int distance = rows[la % 3][lb];
	return distance > limit ? limit + 1 : distance;
}
