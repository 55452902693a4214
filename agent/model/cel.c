/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/model/cel.h"

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
	const char *unknown; /* behind the first attribute that there is not */
	struct cel_scratch *scratch;
	int used;
};

static const struct {
	const char *name;
	enum cel_kind kind;
} attributes[CEL_ATTRIBUTE_COUNT] = {
#define CEL_ATTRIBUTE_NAME(symbol, name, type) [CEL_##symbol] = { name, CEL_##type },
	CEL_ATTRIBUTES(CEL_ATTRIBUTE_NAME)
#undef CEL_ATTRIBUTE_NAME
};

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

struct cel_value cel_bool(bool b)
{
	return (struct cel_value){ .kind = CEL_BOOL, .b = b };
}

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

static struct cel_value quoted(struct reader *e)
{
	char quote = *e->p++;
	const char *from = e->p;
	while (*e->p && *e->p != quote && *e->p != '\\') /* there are no escapes here */
		e->p++;
	struct cel_text s = { from, (size_t)(e->p - from) };
	if (*e->p != quote)
		e->bad = true;
	else
		e->p++;
	return cel_text_of(s);
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
		if (*e->p == '\'' || *e->p == '"')
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

static bool text_has(struct cel_text s, struct cel_text part)
{
	return !part.n || (s.n >= part.n && memmem(s.p, s.n, part.p, part.n));
}

/* .startsWith("x") and the like behind a value. */
static struct cel_value method(struct reader *e, struct cel_value v, const char *name)
{
	struct cel_value part = { 0 };
	if (take(e, "("))
		part = read_choice(e);
	else
		e->bad = true;
	if (!take(e, ")"))
		e->bad = true;
	if (e->bad || v.kind != CEL_TEXT || part.kind != CEL_TEXT)
		return (struct cel_value){ 0 };
	struct cel_text s = v.text, t = part.text;
	if (str_eq(name, "contains"))
		return cel_bool(text_has(s, t));
	if (s.n < t.n)
		return cel_bool(false);
	return cel_bool(!memcmp(str_eq(name, "endsWith") ? s.p + s.n - t.n : s.p, t.p, t.n));
}

static bool is_method(const char *name)
{
	return str_eq(name, "contains") || str_eq(name, "startsWith") || str_eq(name, "endsWith");
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

/* has(x), string(x), size(x): behind the parenthesis. */
static struct cel_value call(struct reader *e, const char *name)
{
	struct cel_value v = read_choice(e);
	if (!take(e, ")"))
		e->bad = true;
	if (str_eq(name, "has"))
		return cel_bool(v.kind != CEL_NONE);
	if (str_eq(name, "size"))
		return v.kind == CEL_TEXT ? cel_number((double)v.text.n) : (struct cel_value){ 0 };
	if (!str_eq(name, "string")) {
		e->bad = true;
		return (struct cel_value){ 0 };
	}
	if (v.kind == CEL_BOOL)
		return cel_string(v.b ? "true" : "false");
	if (v.kind != CEL_NUMBER)
		return v;
	char *buf = scratch_take(e);
	snprintf(buf, CEL_SCRATCH, "%.10g", v.number);
	return cel_string(buf);
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
	if (dot && is_method(dot + 1)) {
		name[dot - name] = 0;
		e->p = dot_in_text;
		return methods(e, attribute(e, name));
	}
	if (take(e, "("))
		return methods(e, call(e, name));
	return attribute(e, name);
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
	if (*e->p == '\'' || *e->p == '"')
		return methods(e, quoted(e));
	if ((*e->p >= '0' && *e->p <= '9') || (*e->p == '-' && e->p[1] >= '0' && e->p[1] <= '9')) {
		char *end;
		double n = strtod(e->p, &end);
		e->p = end;
		return cel_number(n);
	}
	if (is_word(*e->p))
		return path(e);
	e->bad = true;
	return (struct cel_value){ 0 };
}

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

enum comparison { EQUAL, NOT_EQUAL, AT_MOST, AT_LEAST, LESS, MORE, COMPARISON_COUNT };
static const char *const comparisons[COMPARISON_COUNT] = { "==", "!=", "<=", ">=", "<", ">" };

static struct cel_value compare(struct cel_value a, enum comparison how, struct cel_value b)
{
	if (a.kind == CEL_NONE || b.kind == CEL_NONE || (a.kind != b.kind && how > NOT_EQUAL))
		return (struct cel_value){ 0 };
	if (a.kind != b.kind)
		return cel_bool(how == NOT_EQUAL);
	int c = order(a, b);
	const bool results[COMPARISON_COUNT] = { c == 0, c != 0, c <= 0, c >= 0, c<0, c> 0 };
	return cel_bool(results[how]);
}

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
		struct cel_value same = compare(v, EQUAL, operand(e));
		found |= same.kind == CEL_BOOL && same.b;
		if (!take(e, ",") && *e->p != ']')
			e->bad = true;
	}
	return v.kind == CEL_NONE ? v : cel_bool(found);
}

static struct cel_value comparison(struct reader *e)
{
	struct cel_value a = operand(e);
	skip(e);
	if (e->p[0] == 'i' && e->p[1] == 'n' && !is_word(e->p[2])) {
		e->p += 2;
		return in_list(e, a);
	}
	for (int how = 0; how < COMPARISON_COUNT; how++)
		if (take(e, comparisons[how]))
			return compare(a, (enum comparison)how, operand(e));
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
	struct reader e = { .source = &any, .p = text, .scratch = &scratch };
	struct cel_value v = read_choice(&e);

	skip(&e);
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
