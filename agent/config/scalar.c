/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/config/scalar.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/config/node.h"

enum { SCALAR_NUMBER_MAX = 64, WORD_MAX = sizeof("false") - 1 };

static bool word_in(const char *text, size_t len, const char *const *words, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (strlen(words[i]) == len && !memcmp(text, words[i], len))
			return true;
	return false;
}

static bool scalar_word(const char *text, size_t len, struct node *out)
{
	static const char *const nulls[] = { "~", "null", "Null", "NULL" };
	static const char *const yes[] = { "y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON" };
	static const char *const no[] = { "n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF" };

	/* Most words are names. */
	if (len > WORD_MAX || (len && !strchr("~nNyYtTfFoO", text[0])))
		return false;
	if (len == 0 || word_in(text, len, nulls, ARRAY_SIZE(nulls))) {
		out->type = NODE_NULL;
		return true;
	}
	bool is_yes = word_in(text, len, yes, ARRAY_SIZE(yes));
	if (!is_yes && !word_in(text, len, no, ARRAY_SIZE(no)))
		return false;
	out->type = NODE_BOOL;
	out->b = is_yes;
	return true;
}

/* 12, -3, 0x1f, 0b101, 0o17 and YAML 1.1's octal 017. */
static bool scalar_int(const char *text, struct node *out)
{
	const char *digits = text + (*text == '-' || *text == '+');
	int base = 10;
	if (digits[0] == '0' && digits[1]) {
		char mark = (char)tolower((unsigned char)digits[1]);
		base = mark == 'x' ? 16 : mark == 'b' ? 2 : 8;
		digits += mark == 'x' || mark == 'b' || mark == 'o' ? 2 : 1;
	}
	if (!isxdigit((unsigned char)*digits))
		return false;

	char *end;
	errno = 0;
	long long value = strtoll(digits, &end, base);
	if (*end || errno)
		return false;
	out->type = NODE_INT;
	out->i = *text == '-' ? -value : value;
	return true;
}

static bool scalar_double(const char *text, struct node *out)
{
	static const char *const infinite[] = { ".inf", ".Inf", ".INF" };
	static const char *const not_a_number[] = { ".nan", ".NaN", ".NAN" };
	const char *body = text + (*text == '-' || *text == '+');
	if (word_in(body, strlen(body), infinite, ARRAY_SIZE(infinite))) {
		out->type = NODE_DOUBLE;
		out->d = *text == '-' ? -HUGE_VAL : HUGE_VAL;
		return true;
	}
	if (word_in(text, strlen(text), not_a_number, ARRAY_SIZE(not_a_number))) {
		out->type = NODE_DOUBLE;
		out->d = NAN;
		return true;
	}
	/* strtod takes more than YAML does: hex, "inf", "nan" and locale's signs are kept out. */
	if (body[strspn(body, "0123456789.eE+-")] || !strpbrk(body, "0123456789") ||
	    !(isdigit((unsigned char)*body) || *body == '.'))
		return false;
	char *end;
	double value = strtod(text, &end);
	if (*end)
		return false;
	out->type = NODE_DOUBLE;
	out->d = value;
	return true;
}

bool scalar_resolve(const char *text, size_t len, struct node *out)
{
	if (scalar_word(text, len, out))
		return true;
	/* Most words are names: only what starts like a number is looked at further. */
	if (!(isdigit((unsigned char)*text) || *text == '.' || *text == '-' || *text == '+') ||
	    len >= SCALAR_NUMBER_MAX)
		return false;

	char clean[SCALAR_NUMBER_MAX];
	size_t n = 0;
	for (size_t i = 0; i < len; i++)
		if (text[i] != '_')
			clean[n++] = text[i];
	clean[n] = 0;
	return scalar_int(clean, out) || scalar_double(clean, out);
}
