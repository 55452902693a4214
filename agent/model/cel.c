/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/model/cel_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"

enum { DEPTH_MAX = 16, FIELD_NAME_MAX = 128 };

struct reader {
	const struct cel_source *source;
	const char *p;
	int depth;
	bool bad;
	bool checking;	     /* there are no values, only types */
	const char *unknown; /* behind the first attribute that there is not */
	const char *pattern; /* behind the first one that can't be read */
	struct cel_scratch *scratch;
	int used;
	size_t text_used;
};

static const struct {
	const char *name;
	enum cel_kind kind;
} attributes[CEL_ATTRIBUTE_COUNT] = {
#define CEL_ATTRIBUTE_NAME(symbol, name, type) [CEL_##symbol] = { name, CEL_##type },
	CEL_ATTRIBUTES(CEL_ATTRIBUTE_NAME)
#undef CEL_ATTRIBUTE_NAME
};

static char *scratch_take(struct reader *e)
{
	if (e->used == CEL_SCRATCH_COUNT) {
		e->bad = true; /* the last is overwritten, which nobody sees */
		e->used--;
	}
	return e->scratch->v[e->used++];
}

/* A text that is made needs a place of its own: taken only when it was used. */
static struct cel_value attribute(struct reader *e, const char *path)
{
	for (size_t i = 0; i < CEL_ATTRIBUTE_COUNT; i++) {
		if (!str_eq(attributes[i].name, path))
			continue;
		char *scratch = scratch_take(e);
		struct cel_value v = e->source->attribute((enum cel_attribute)i, scratch, e->source->arg);
		if (v.kind != CEL_TEXT || v.text.p != scratch)
			e->used--;
		return v;
	}
	if (!e->unknown)
		e->unknown = e->p;
	return (struct cel_value){ 0 };
}

/* --- reading */

static void skip(struct reader *e)
{
	while (*e->p == ' ' || *e->p == '\t' || *e->p == '\n' || *e->p == '\r')
		e->p++;
}

static bool take(struct reader *e, const char *token)
{
	size_t n = strlen(token);
	skip(e);
	if (strncmp(e->p, token, n) != 0)
		return false;
	e->p += n;
	return true;
}

static bool is_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* Escapes are taken out of a copy. */
static struct cel_text unescaped(struct reader *e, struct cel_text s)
{
	char *copy = e->scratch->text + e->text_used;
	if (s.n > sizeof(e->scratch->text) - e->text_used) {
		e->bad = true;
		return s;
	}
	memcpy(copy, s.p, s.n);
	if (!cel_unescape(copy, &s.n))
		e->bad = true;
	e->text_used += s.n;
	return (struct cel_text){ copy, s.n };
}

static bool is_quoted(const struct reader *e)
{
	const char *p = e->p;
	p += (*p == 'r' || *p == 'R') && (p[1] == '\'' || p[1] == '"');
	return *p == '\'' || *p == '"';
}

/* 'text', "text", r'text' without escapes */
static struct cel_value quoted(struct reader *e)
{
	bool raw = *e->p == 'r' || *e->p == 'R', escapes = false;
	e->p += raw;
	char quote = *e->p++;
	const char *from = e->p;
	while (*e->p && *e->p != quote) {
		bool escape = *e->p == '\\' && !raw && e->p[1];
		escapes |= escape;
		e->p += 1 + escape;
	}
	struct cel_text s = { from, (size_t)(e->p - from) };
	if (*e->p != quote) {
		e->bad = true;
		return cel_text_of(s);
	}
	e->p++;
	return cel_text_of(escapes ? unescaped(e, s) : s);
}

static struct cel_value read_choice(struct reader *e);

static bool name_lower(struct cel_text key, char out[FIELD_NAME_MAX])
{
	if (!key.n || key.n >= FIELD_NAME_MAX)
		return false;
	for (size_t i = 0; i < key.n; i++)
		out[i] = (char)(key.p[i] >= 'A' && key.p[i] <= 'Z' ? key.p[i] | 0x20 : key.p[i]);
	out[key.n] = 0;
	return true;
}

/* request.headers['name'], request.headers["name"], request.headers.name */
static struct cel_value headers(struct reader *e, enum cel_fields of)
{
	char name[FIELD_NAME_MAX];
	struct cel_text key = { 0 };
	if (take(e, "[")) {
		skip(e);
		if (is_quoted(e))
			key = quoted(e).text;
		if (!take(e, "]"))
			e->bad = true;
	} else if (*e->p == '.') {
		const char *from = ++e->p;
		while (is_word(*e->p))
			e->p++;
		key = (struct cel_text){ from, (size_t)(e->p - from) };
	}
	if (e->bad || !name_lower(key, name)) {
		e->bad = true;
		return (struct cel_value){ 0 };
	}
	return e->source->field(of, name, e->source->arg);
}

/* .matches('x'): the pattern stands there, as what a request says must not be one. */
static struct cel_value matching(struct reader *e, struct cel_value v)
{
	bool bad = true;
	skip(e);
	struct cel_text pattern = is_quoted(e) ? quoted(e).text : (struct cel_text){ 0 };
	struct cel_value found = pattern.p ? cel_matches(v, pattern, &bad) : (struct cel_value){ 0 };
	if (bad && !e->bad)
		e->pattern = e->p;
	e->bad |= bad;
	return found;
}

static struct cel_value size_of(struct cel_value v)
{
	return v.kind == CEL_TEXT ? cel_number((double)v.text.n) : (struct cel_value){ 0 };
}

/* .startsWith("x") and the like behind a value. */
static struct cel_value method(struct reader *e, struct cel_value v, const char *name)
{
	struct cel_value result = { 0 };
	if (!take(e, "("))
		e->bad = true;
	else if (str_eq(name, "matches"))
		result = matching(e, v);
	else if (str_eq(name, "size"))
		result = size_of(v);
	else
		result = cel_find(name, v, read_choice(e));
	if (!take(e, ")"))
		e->bad = true;
	return e->bad ? (struct cel_value){ 0 } : result;
}

static bool is_method(const char *name)
{
	return cel_is_find(name) || str_eq(name, "matches") || str_eq(name, "size");
}

/* The methods behind a value that stands complete. */
static struct cel_value methods(struct reader *e, struct cel_value v)
{
	while (*e->p == '.') {
		char name[16];
		size_t n = 0;
		e->p++;
		while (is_word(*e->p) && n + 1 < sizeof(name))
			name[n++] = *e->p++;
		name[n] = 0;
		if (!is_method(name)) {
			e->bad = true;
			return v;
		}
		v = method(e, v, name);
	}
	return v;
}

static struct cel_value string_of(struct reader *e, struct cel_value v)
{
	if (v.kind == CEL_BOOL)
		return cel_string(v.b ? "true" : "false");
	if (v.kind != CEL_NUMBER)
		return v;
	char *buf = scratch_take(e);
	snprintf(buf, CEL_SCRATCH, "%.10g", v.number);
	return cel_string(buf);
}

/* has(x), string(x), size(x), int(x), double(x), duration(x): behind the parenthesis. */
static struct cel_value call(struct reader *e, const char *name)
{
	struct cel_value v = read_choice(e);
	if (!take(e, ")"))
		e->bad = true;
	if (str_eq(name, "has"))
		return cel_bool(v.kind != CEL_NONE);
	if (str_eq(name, "size"))
		return size_of(v);
	if (str_eq(name, "string"))
		return string_of(e, v);
	if (str_eq(name, "int") || str_eq(name, "uint") || str_eq(name, "double"))
		return e->checking && v.kind == CEL_TEXT ? cel_number(1) : cel_to_number(v, name[0] != 'd');
	if (str_eq(name, "duration"))
		return e->checking && v.kind == CEL_TEXT && !v.text.n ? cel_number(0) : cel_duration(v);
	e->bad = true;
	return (struct cel_value){ 0 };
}

static struct cel_value path(struct reader *e)
{
	char name[64] = "";
	size_t n = 0;
	const char *dot = NULL, *dot_in_text = NULL;
	while (is_word(*e->p) || *e->p == '.') {
		if (n + 1 >= sizeof(name)) {
			e->bad = true;
			return (struct cel_value){ 0 };
		}
		if (*e->p == '.') {
			dot = name + n;
			dot_in_text = e->p;
		}
		name[n++] = *e->p++;
		name[n] = 0;
		if (str_eq(name, "request.headers") && !is_word(*e->p))
			return methods(e, headers(e, CEL_REQUEST_HEADERS));
		if (str_eq(name, "response.headers") && !is_word(*e->p))
			return methods(e, headers(e, CEL_RESPONSE_HEADERS));
		if (str_eq(name, "response.trailers") && !is_word(*e->p))
			return methods(e, headers(e, CEL_RESPONSE_TRAILERS));
	}
	if (str_eq(name, "true") || str_eq(name, "false"))
		return cel_bool(name[0] == 't');
	if (dot && is_method(dot + 1) && (*e->p == '(' || !str_eq(dot + 1, "size"))) { /* or request.size */
		name[dot - name] = 0;
		e->p = dot_in_text;
		return methods(e, attribute(e, name));
	}
	if (take(e, "("))
		return methods(e, call(e, name));
	return attribute(e, name);
}

/* 12, 1.5, 12u */
static struct cel_value number(struct reader *e)
{
	char *end;
	double n = strtod(e->p, &end);
	bool real = memchr(e->p, '.', (size_t)(end - e->p)) || memchr(e->p, 'e', (size_t)(end - e->p));
	e->p = end + (!real && *end == 'u');
	return real ? cel_real(n) : cel_number(n);
}

static struct cel_value operand(struct reader *e)
{
	skip(e);
	if (e->depth >= DEPTH_MAX || e->bad) {
		e->bad = true;
		return (struct cel_value){ 0 };
	}
	if (take(e, "(")) {
		e->depth++;
		struct cel_value v = read_choice(e);
		e->depth--;
		if (!take(e, ")"))
			e->bad = true;
		return methods(e, v);
	}
	if (take(e, "!")) { /* binds closer than a comparison */
		e->depth++;
		struct cel_value v = operand(e);
		e->depth--;
		return v.kind == CEL_BOOL ? cel_bool(!v.b) : (struct cel_value){ 0 };
	}
	if (take(e, "-")) {
		e->depth++;
		struct cel_value v = operand(e);
		e->depth--;
		return cel_calculate(cel_number(0), '-', v, e->scratch, &e->text_used);
	}
	if (is_quoted(e))
		return methods(e, quoted(e));
	if (*e->p >= '0' && *e->p <= '9')
		return number(e);
	if (is_word(*e->p))
		return path(e);
	e->bad = true;
	return (struct cel_value){ 0 };
}

static const char *const comparisons[CEL_COMPARISON_COUNT] = { "==", "!=", "<=", ">=", "<", ">" };

/* 'name' in request.headers */
static struct cel_value in_headers(struct reader *e, struct cel_value name, enum cel_fields of)
{
	char lower[FIELD_NAME_MAX];
	if (name.kind != CEL_TEXT)
		return (struct cel_value){ 0 };
	if (!name_lower(name.text, lower))
		return cel_bool(false);
	return cel_bool(e->source->field(of, lower, e->source->arg).kind != CEL_NONE);
}

static struct cel_value sum(struct reader *e);

static struct cel_value in_list(struct reader *e, struct cel_value v)
{
	bool found = false;
	if (take(e, "request.headers"))
		return in_headers(e, v, CEL_REQUEST_HEADERS);
	if (take(e, "response.headers"))
		return in_headers(e, v, CEL_RESPONSE_HEADERS);
	if (!take(e, "["))
		e->bad = true;
	while (!e->bad && !take(e, "]")) {
		struct cel_value same = cel_compare(v, CEL_EQUAL, sum(e));
		found |= same.kind == CEL_BOOL && same.b;
		if (!take(e, ",") && *e->p != ']')
			e->bad = true;
	}
	return v.kind == CEL_NONE ? v : cel_bool(found);
}

static struct cel_value calculate(struct reader *e, struct cel_value a, char operator, struct cel_value b)
{
	if (e->checking && b.kind == CEL_NUMBER && b.number == 0)
		b.number = 1; /* a type, not a value to divide by */
	return cel_calculate(a, operator, b, e->scratch, &e->text_used);
}

static struct cel_value product(struct reader *e)
{
	struct cel_value v = operand(e);
	skip(e);
	while (!e->bad && (*e->p == '*' || *e->p == '/' || *e->p == '%')) {
		char operator= * e->p++;
		v = calculate(e, v, operator, operand(e));
		skip(e);
	}
	return v;
}

static struct cel_value sum(struct reader *e)
{
	struct cel_value v = product(e);
	skip(e);
	while (!e->bad && (*e->p == '+' || *e->p == '-')) {
		char operator= * e->p++;
		v = calculate(e, v, operator, product(e));
		skip(e);
	}
	return v;
}

static struct cel_value comparison(struct reader *e)
{
	struct cel_value a = sum(e);
	skip(e);
	if (e->p[0] == 'i' && e->p[1] == 'n' && !is_word(e->p[2])) {
		e->p += 2;
		return in_list(e, a);
	}
	for (int how = 0; how < CEL_COMPARISON_COUNT; how++)
		if (take(e, comparisons[how]))
			return cel_compare(a, (enum cel_comparison)how, sum(e));
	return a;
}

static bool is_bool(struct cel_value v, bool b)
{
	return v.kind == CEL_BOOL && v.b == b;
}

/* One that decides decides, whatever the other is. */
static struct cel_value both(struct cel_value a, struct cel_value b, bool decides)
{
	if (is_bool(a, decides) || is_bool(b, decides))
		return cel_bool(decides);
	return is_bool(a, !decides) && is_bool(b, !decides) ? cel_bool(!decides) : (struct cel_value){ 0 };
}

static struct cel_value read_and(struct reader *e)
{
	struct cel_value v = comparison(e);
	while (!e->bad && take(e, "&&"))
		v = both(v, comparison(e), false);
	return v;
}

static struct cel_value read_or(struct reader *e)
{
	struct cel_value v = read_and(e);
	while (!e->bad && take(e, "||"))
		v = both(v, read_and(e), true);
	return v;
}

/* a ? b : c */
static struct cel_value read_choice(struct reader *e)
{
	if (++e->depth > DEPTH_MAX) {
		e->bad = true;
		return (struct cel_value){ 0 };
	}
	struct cel_value v = read_or(e);
	if (!e->bad && take(e, "?")) {
		struct cel_value yes = read_choice(e);
		if (!take(e, ":"))
			e->bad = true;
		struct cel_value no = e->bad ? (struct cel_value){ 0 } : read_choice(e);
		v = v.kind != CEL_BOOL ? (struct cel_value){ 0 } : v.b ? yes : no;
	}
	e->depth--;
	return v;
}

struct cel_value cel_evaluate(const char *text, const struct cel_source *source, struct cel_scratch *scratch)
{
	struct reader e = { .source = source, .p = text, .scratch = scratch };
	struct cel_value v = read_choice(&e);
	skip(&e);
	return e.bad || *e.p ? (struct cel_value){ 0 } : v;
}

/* --- checking: everything is there, with a value of its type */

static struct cel_value any_attribute(enum cel_attribute which, char *scratch, const void *arg)
{
	(void)scratch;
	(void)arg;
	return attributes[which].kind == CEL_BOOL   ? cel_bool(true) :
	       attributes[which].kind == CEL_NUMBER ? cel_number(0) :
						      cel_string("");
}

static struct cel_value any_field(enum cel_fields of, const char *name, const void *arg)
{
	(void)of;
	(void)name;
	(void)arg;
	return cel_string("");
}

int cel_check(const char *text, bool condition, struct err *err)
{
	static const struct cel_source any = { .attribute = any_attribute, .field = any_field };
	struct cel_scratch scratch;
	struct reader e = { .source = &any, .p = text, .scratch = &scratch, .checking = true };
	struct cel_value v = read_choice(&e);

	skip(&e);
	if (e.pattern)
		return err_set(err, -EINVAL, "matches() needs a regular expression in quotes: see before character %zu",
			       (size_t)(e.pattern - text) + 1);
	if (e.bad || *e.p)
		return err_set(err, -EINVAL, "the expression can't be read: see character %zu",
			       (size_t)(e.p - text) + 1);
	if (e.unknown)
		return err_set(err, -ENOENT,
			       "the expression asks for something that requests do not have: see before character %zu",
			       (size_t)(e.unknown - text) + 1);
	if (condition && (v.kind == CEL_NUMBER || v.kind == CEL_TEXT))
		return err_set(err, -EINVAL, "the expression is a value, not a condition: compare it with something");
	if (v.kind == CEL_NONE)
		return err_set(err, -EINVAL, "the expression compares what can't be compared: it never has a value");
	return 0;
}
