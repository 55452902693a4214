/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/model/cel_internal.h"

#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/hash.h"
#include "agent/base/mem.h"
#include "agent/base/regex.h"
#include "agent/base/str.h"

enum { REGEXES = 32 /* a power of two */, PATTERN_MAX = 512 };

static const struct cel_value none;

struct cel_value cel_text_of(struct cel_text s)
{
	return (struct cel_value){ .kind = s.p ? CEL_TEXT : CEL_NONE, .text = s };
}

struct cel_value cel_string(const char *s)
{
	return cel_text_of((struct cel_text){ s, s ? strlen(s) : 0 });
}

struct cel_value cel_number(double n)
{
	return (struct cel_value){ .kind = CEL_NUMBER, .number = n };
}

struct cel_value cel_real(double n)
{
	return (struct cel_value){ .kind = CEL_NUMBER, .number = n, .real = true };
}

struct cel_value cel_bool(bool b)
{
	return (struct cel_value){ .kind = CEL_BOOL, .b = b };
}

/* --- comparing */

/* Of values of one type. */
static int order(struct cel_value a, struct cel_value b)
{
	if (a.kind == CEL_NUMBER)
		return a.number < b.number ? -1 : a.number > b.number;
	if (a.kind == CEL_BOOL)
		return (int)a.b - (int)b.b;
	size_t n = a.text.n < b.text.n ? a.text.n : b.text.n;
	int c = memcmp(a.text.p, b.text.p, n);
	return c ? c : a.text.n < b.text.n ? -1 : a.text.n > b.text.n;
}

struct cel_value cel_compare(struct cel_value a, enum cel_comparison how, struct cel_value b)
{
	if (a.kind == CEL_NONE || b.kind == CEL_NONE || (a.kind != b.kind && how > CEL_NOT_EQUAL))
		return none;
	if (a.kind != b.kind)
		return cel_bool(how == CEL_NOT_EQUAL);
	int c = order(a, b);
	const bool results[CEL_COMPARISON_COUNT] = { c == 0, c != 0, c <= 0, c >= 0, c<0, c> 0 };
	return cel_bool(results[how]);
}

/* --- calculating */

static struct cel_value join(struct cel_text a, struct cel_text b, struct cel_scratch *scratch, size_t *used)
{
	char *to = scratch->text + *used;
	if (a.n + b.n > sizeof(scratch->text) - *used)
		return none;
	memcpy(to, a.p, a.n);
	memcpy(to + a.n, b.p, b.n);
	*used += a.n + b.n;
	return cel_text_of((struct cel_text){ to, a.n + b.n });
}

struct cel_value cel_calculate(struct cel_value a, char operator, struct cel_value b, struct cel_scratch *scratch,
			       size_t *used)
{
	if (operator== '+' && a.kind == CEL_TEXT && b.kind == CEL_TEXT)
		return join(a.text, b.text, scratch, used);
	if (a.kind != CEL_NUMBER || b.kind != CEL_NUMBER)
		return none;
	bool real = a.real || b.real;
	double x = a.number, y = b.number, n;
	if ((operator== '/' || operator== '%') && y == 0 && (!real || operator== '%'))
		return none;
	switch (operator) {
	case '+':
		n = x + y;
		break;
	case '-':
		n = x - y;
		break;
	case '*':
		n = x * y;
		break;
	case '/':
		n = real ? x / y : trunc(x / y);
		break;
	default: /* of whole numbers alone, with the sign of the first */
		if (real)
			return none;
		n = fmod(x, y);
	}
	return real ? cel_real(n) : cel_number(n);
}

struct cel_value cel_to_number(struct cel_value v, bool whole)
{
	double n = v.number;
	if (v.kind == CEL_TEXT) {
		char text[32], *end;
		if (!v.text.n || v.text.n >= sizeof(text) || strchr(" \t\r\n\v\f", v.text.p[0]))
			return none;
		memcpy(text, v.text.p, v.text.n);
		text[v.text.n] = 0;
		n = strtod(text, &end);
		if (end != text + v.text.n || !isfinite(n))
			return none;
	} else if (v.kind != CEL_NUMBER) {
		return none;
	}
	return whole ? cel_number(trunc(n)) : cel_real(n);
}

/* Go's notation, as CEL has it. */
struct cel_value cel_duration(struct cel_value v)
{
	static const struct {
		const char *name;
		double ms;
	} units[] = { { "ns", 1e-6 }, { "us", 1e-3 }, { "ms", 1 }, { "s", 1e3 }, { "m", 6e4 }, { "h", 36e5 } };
	char text[64], *p = text;
	double ms = 0;
	if (v.kind != CEL_TEXT || !v.text.n || v.text.n >= sizeof(text))
		return none;
	memcpy(text, v.text.p, v.text.n);
	text[v.text.n] = 0;
	bool minus = *p == '-';
	p += minus;
	do {
		char *end;
		size_t i = 0;
		if (*p < '0' || *p > '9')
			return none;
		double n = strtod(p, &end);
		for (; i < ARRAY_SIZE(units); i++) {
			size_t len = strlen(units[i].name);
			bool ends = !end[len] || (end[len] >= '0' && end[len] <= '9');
			if (strncmp(end, units[i].name, len) == 0 && ends)
				break;
		}
		if (i == ARRAY_SIZE(units))
			return none;
		ms += n * units[i].ms;
		p = end + strlen(units[i].name);
	} while (*p);
	return cel_number(minus ? -ms : ms);
}

/* --- texts */

bool cel_is_find(const char *method)
{
	return str_eq(method, "contains") || str_eq(method, "startsWith") || str_eq(method, "endsWith");
}

struct cel_value cel_find(const char *method, struct cel_value in, struct cel_value part)
{
	struct cel_text s = in.text, t = part.text;
	if (in.kind != CEL_TEXT || part.kind != CEL_TEXT)
		return none;
	if (s.n < t.n)
		return cel_bool(false);
	if (str_eq(method, "contains"))
		return cel_bool(!t.n || memmem(s.p, s.n, t.p, t.n));
	return cel_bool(!memcmp(str_eq(method, "endsWith") ? s.p + s.n - t.n : s.p, t.p, t.n));
}

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
}

bool cel_unescape(char *text, size_t *n)
{
	static const char names[] = "\\'\"`?abfnrtv", values[] = "\\'\"`?\a\b\f\n\r\t\v";
	size_t to = 0;
	for (size_t i = 0; i < *n; i++) {
		if (text[i] != '\\') {
			text[to++] = text[i];
			continue;
		}
		const char *name = ++i < *n && text[i] ? strchr(names, text[i]) : NULL;
		if (name) {
			text[to++] = values[name - names];
		} else if (i + 2 < *n && (text[i] | 0x20) == 'x' && hex(text[i + 1]) >= 0 && hex(text[i + 2]) >= 0) {
			text[to++] = (char)(hex(text[i + 1]) << 4 | hex(text[i + 2]));
			i += 2;
		} else {
			return false;
		}
	}
	*n = to;
	return true;
}

/* --- patterns: of configuration, so there are few */

struct known {
	char *pattern;
	struct regex *regex;
};

static pthread_key_t regexes_key;
static pthread_once_t regexes_once = PTHREAD_ONCE_INIT;
static bool regexes_usable;

static void known_done(struct known *k)
{
	regex_free(TAKE(k->regex));
	free(TAKE(k->pattern));
}

static void regexes_free(void *arg)
{
	struct known *all = arg;
	for (size_t i = 0; all && i < REGEXES; i++)
		known_done(&all[i]);
	free(all);
}

static void regexes_key_make(void)
{
	regexes_usable = pthread_key_create(&regexes_key, regexes_free) == 0;
}

static struct known *regexes(void)
{
	pthread_once(&regexes_once, regexes_key_make);
	struct known *all = regexes_usable ? pthread_getspecific(regexes_key) : NULL;
	if (all || !regexes_usable)
		return all;
	all = calloc(REGEXES, sizeof(*all));
	if (all && pthread_setspecific(regexes_key, all) != 0) {
		free(all);
		return NULL;
	}
	return all;
}

/* NULL: it can't be read, or no memory. */
static const struct regex *regex_of(struct cel_text pattern)
{
	struct known *all = pattern.n < PATTERN_MAX ? regexes() : NULL;
	if (!all)
		return NULL;
	struct known *k = &all[hash64(HASH64_INIT, pattern.p, pattern.n) & (REGEXES - 1)];
	if (k->regex && strlen(k->pattern) == pattern.n && !memcmp(k->pattern, pattern.p, pattern.n))
		return k->regex;
	known_done(k);
	k->pattern = strndup(pattern.p, pattern.n);
	if (!k->pattern || regex_new(k->pattern, false, &k->regex, NULL) < 0)
		known_done(k);
	return k->regex;
}

struct cel_value cel_matches(struct cel_value in, struct cel_text pattern, bool *bad)
{
	const struct regex *regex = regex_of(pattern);
	*bad = !regex;
	if (!regex || in.kind != CEL_TEXT)
		return none;
	int found = regex_search(regex, in.text.p, in.text.n);
	return found < 0 ? none : cel_bool(found); /* no answer within the limits is none */
}
