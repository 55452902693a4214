/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/observe/expression.h"

#include "agent/base/addr.h"
#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/helper/observe/record.h"
#include "agent/helper/worker.h"
#include "agent/model/cluster.h"
#include "agent/model/http.h"
#include "agent/model/identity.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 16, SCRATCH = 96, SCRATCH_COUNT = 8, FIELD_NAME_MAX = 128 };

/* NONE is CEL's error: of an attribute or header that is not there, of types that don't go together. It spreads, but through
 * && and || whose other side decides. */
enum value_kind { VALUE_NONE, VALUE_BOOL, VALUE_NUMBER, VALUE_TEXT };

struct value {
	enum value_kind kind;
	bool b;
	double number;
	struct http_string text;
};

struct reader {
	const struct request_record *r;
	const char *p;
	int depth;
	bool bad;
	const char *unknown;	  /* behind the first attribute that there is not */
	char (*scratch)[SCRATCH]; /* texts that are made, as of addresses */
	int used;
};

static struct value text_value(struct http_string s)
{
	return (struct value){ .kind = s.p ? VALUE_TEXT : VALUE_NONE, .text = s };
}

static struct value c_value(const char *s)
{
	return text_value((struct http_string){ s, s ? (uint32_t)strlen(s) : 0 });
}

static struct value number_value(double n)
{
	return (struct value){ .kind = VALUE_NUMBER, .number = n };
}

static struct value bool_value(bool b)
{
	return (struct value){ .kind = VALUE_BOOL, .b = b };
}

static struct value unknown(struct reader *e)
{
	if (!e->unknown)
		e->unknown = e->p;
	return (struct value){ 0 };
}

static char *scratch_take(struct reader *e)
{
	if (e->used == SCRATCH_COUNT) {
		e->bad = true; /* the last is overwritten, which nobody sees */
		e->used--;
	}
	return e->scratch[e->used++];
}

static struct value addr_value(struct reader *e, const struct addr_port *a)
{
	return a ? c_value(addr_port_text(a, scratch_take(e))) : (struct value){ 0 };
}

/* --- attributes */

static struct value flags_value(struct reader *e)
{
	char *buf = scratch_take(e);
	response_flags_text(e->r->flags, buf, SCRATCH);
	return c_value(buf);
}

static struct value url_path(const struct request_record *r)
{
	struct http_string path = r->original_path.p ? r->original_path : r->request->path;
	const char *mark = path.p ? memchr(path.p, '?', path.n) : NULL;
	if (mark)
		path.n = (uint32_t)(mark - path.p);
	return text_value(path);
}

static struct value milliseconds(uint64_t from, uint64_t to)
{
	uint64_t ms = to >= from ? (to - from) / 1000000 : 0;
	return to >= from && from ? number_value((double)ms) : (struct value){ 0 };
}

static struct value request_attribute(struct reader *e, const char *name)
{
	const struct request_record *r = e->r;
	const struct http_head *h = r->request;
	if (str_eq(name, "method"))
		return text_value(h->method);
	if (str_eq(name, "path"))
		return text_value(r->original_path.p ? r->original_path : h->path);
	if (str_eq(name, "url_path"))
		return url_path(r);
	if (str_eq(name, "host"))
		return text_value(r->original_authority.p ? r->original_authority : h->authority);
	if (str_eq(name, "scheme"))
		return text_value(h->scheme);
	if (str_eq(name, "useragent"))
		return text_value(http_get_id(h, HTTP_USER_AGENT));
	if (str_eq(name, "id"))
		return text_value(http_get_id(h, HTTP_X_REQUEST_ID));
	if (str_eq(name, "protocol"))
		return c_value(h->version == HTTP_2 ? "HTTP/2" : h->version == HTTP_1_1 ? "HTTP/1.1" : "HTTP/1.0");
	if (str_eq(name, "size"))
		return number_value((double)r->request_bytes);
	if (str_eq(name, "duration"))
		return milliseconds(r->began_ns, r->end_ns);
	return unknown(e);
}

static struct value response_attribute(struct reader *e, const char *name)
{
	const struct request_record *r = e->r;
	if (str_eq(name, "code"))
		return number_value(r->status);
	if (str_eq(name, "code_details"))
		return c_value(r->details);
	if (str_eq(name, "flags"))
		return number_value(r->flags);
	if (str_eq(name, "flags_text")) /* Weft's own */
		return flags_value(e);
	if (str_eq(name, "grpc_status"))
		return r->grpc && r->grpc_status >= 0 ? number_value(r->grpc_status) : (struct value){ 0 };
	if (str_eq(name, "size"))
		return number_value((double)r->response_bytes);
	return unknown(e);
}

static struct value connection_attribute(struct reader *e, const char *name)
{
	if (str_eq(name, "mtls"))
		return bool_value(e->r->mutual);
	if (str_eq(name, "uri_san_peer_certificate"))
		return e->r->peer ? c_value(e->r->peer->uri) : (struct value){ 0 };
	return unknown(e);
}

static struct value other_attribute(struct reader *e, const char *path)
{
	const struct request_record *r = e->r;
	if (str_eq(path, "source.address"))
		return addr_value(e, r->source);
	if (str_eq(path, "source.port"))
		return r->source ? number_value(r->source->port) : (struct value){ 0 };
	if (str_eq(path, "destination.address"))
		return addr_value(e, r->destination);
	if (str_eq(path, "destination.port"))
		return r->destination ? number_value(r->destination->port) : (struct value){ 0 };
	if (str_eq(path, "upstream.address"))
		return r->endpoint ? addr_value(e, &r->endpoint->addr) : (struct value){ 0 };
	if (str_eq(path, "xds.cluster_name"))
		return r->cluster ? c_value(http_cluster_shown(r->cluster)) : (struct value){ 0 };
	if (str_eq(path, "xds.route_name"))
		return r->route ? c_value(r->route->name) : (struct value){ 0 };
	if (str_eq(path, "node.id"))
		return r->pod ? c_value(r->pod->uid) : (struct value){ 0 };
	return unknown(e);
}

static struct value attribute(struct reader *e, const char *path)
{
	if (str_starts(path, "request."))
		return request_attribute(e, path + 8);
	if (str_starts(path, "response."))
		return response_attribute(e, path + 9);
	if (str_starts(path, "connection."))
		return connection_attribute(e, path + 11);
	return other_attribute(e, path);
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

static struct value quoted(struct reader *e)
{
	char quote = *e->p++;
	const char *from = e->p;
	while (*e->p && *e->p != quote)
		e->p++;
	struct http_string s = { from, (uint32_t)(e->p - from) };
	if (!*e->p)
		e->bad = true;
	else
		e->p++;
	return text_value(s);
}

static struct value read_choice(struct reader *e);

static bool name_lower(struct http_string key, char out[FIELD_NAME_MAX])
{
	if (!key.n || key.n >= FIELD_NAME_MAX)
		return false;
	for (uint32_t i = 0; i < key.n; i++)
		out[i] = (char)(key.p[i] >= 'A' && key.p[i] <= 'Z' ? key.p[i] | 0x20 : key.p[i]);
	out[key.n] = 0;
	return true;
}

/* request.headers['name'], request.headers["name"], request.headers.name */
static struct value headers(struct reader *e, const struct http_head *h)
{
	char name[FIELD_NAME_MAX];
	struct http_string key = { 0 };
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
		key = (struct http_string){ from, (uint32_t)(e->p - from) };
	}
	if (e->bad || !name_lower(key, name)) {
		e->bad = true;
		return (struct value){ 0 };
	}
	return h ? text_value(http_get(h, name)) : (struct value){ 0 };
}

static bool text_has(struct http_string s, struct http_string part)
{
	return !part.n || (s.n >= part.n && memmem(s.p, s.n, part.p, part.n));
}

/* .startsWith("x") and the like behind a value. */
static struct value method(struct reader *e, struct value v, const char *name)
{
	struct value part = { 0 };
	if (take(e, "("))
		part = read_choice(e);
	else
		e->bad = true;
	if (!take(e, ")"))
		e->bad = true;
	if (e->bad || v.kind != VALUE_TEXT || part.kind != VALUE_TEXT)
		return (struct value){ 0 };
	struct http_string s = v.text, t = part.text;
	if (str_eq(name, "contains"))
		return bool_value(text_has(s, t));
	if (s.n < t.n)
		return bool_value(false);
	return bool_value(!memcmp(str_eq(name, "endsWith") ? s.p + s.n - t.n : s.p, t.p, t.n));
}

static bool is_method(const char *name)
{
	return str_eq(name, "contains") || str_eq(name, "startsWith") || str_eq(name, "endsWith");
}

/* The methods behind a value that stands complete. */
static struct value methods(struct reader *e, struct value v)
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
static struct value call(struct reader *e, const char *name)
{
	struct value v = read_choice(e);
	if (!take(e, ")"))
		e->bad = true;
	if (str_eq(name, "has"))
		return bool_value(v.kind != VALUE_NONE);
	if (str_eq(name, "size"))
		return v.kind == VALUE_TEXT ? number_value(v.text.n) : (struct value){ 0 };
	if (!str_eq(name, "string")) {
		e->bad = true;
		return (struct value){ 0 };
	}
	if (v.kind == VALUE_BOOL)
		return c_value(v.b ? "true" : "false");
	if (v.kind != VALUE_NUMBER)
		return v;
	char *buf = scratch_take(e);
	snprintf(buf, SCRATCH, "%.10g", v.number);
	return c_value(buf);
}

static struct value path(struct reader *e)
{
	char name[64] = "";
	size_t n = 0;
	const char *dot = NULL, *dot_in_text = NULL;
	while (is_word(*e->p) || *e->p == '.') {
		if (n + 1 >= sizeof(name)) {
			e->bad = true;
			return (struct value){ 0 };
		}
		if (*e->p == '.') {
			dot = name + n;
			dot_in_text = e->p;
		}
		name[n++] = *e->p++;
		name[n] = 0;
		if (str_eq(name, "request.headers") && !is_word(*e->p))
			return methods(e, headers(e, e->r->request));
		if (str_eq(name, "response.headers") && !is_word(*e->p))
			return methods(e, headers(e, e->r->response));
		if (str_eq(name, "response.trailers") && !is_word(*e->p))
			return methods(e, headers(e, e->r->trailers));
	}
	if (str_eq(name, "true") || str_eq(name, "false"))
		return bool_value(name[0] == 't');
	if (dot && is_method(dot + 1)) {
		name[dot - name] = 0;
		e->p = dot_in_text;
		return methods(e, attribute(e, name));
	}
	if (take(e, "("))
		return methods(e, call(e, name));
	return attribute(e, name);
}

static struct value operand(struct reader *e)
{
	skip(e);
	if (e->depth >= DEPTH_MAX || e->bad) {
		e->bad = true;
		return (struct value){ 0 };
	}
	if (take(e, "(")) {
		e->depth++;
		struct value v = read_choice(e);
		e->depth--;
		if (!take(e, ")"))
			e->bad = true;
		return methods(e, v);
	}
	if (take(e, "!")) { /* binds closer than a comparison */
		e->depth++;
		struct value v = operand(e);
		e->depth--;
		return v.kind == VALUE_BOOL ? bool_value(!v.b) : (struct value){ 0 };
	}
	if (*e->p == '\'' || *e->p == '"')
		return methods(e, quoted(e));
	if ((*e->p >= '0' && *e->p <= '9') || (*e->p == '-' && e->p[1] >= '0' && e->p[1] <= '9')) {
		char *end;
		double n = strtod(e->p, &end);
		e->p = end;
		return number_value(n);
	}
	if (is_word(*e->p))
		return path(e);
	e->bad = true;
	return (struct value){ 0 };
}

/* Of values of one type. */
static int order(struct value a, struct value b)
{
	if (a.kind == VALUE_NUMBER)
		return a.number < b.number ? -1 : a.number > b.number;
	if (a.kind == VALUE_BOOL)
		return (int)a.b - (int)b.b;
	uint32_t n = a.text.n < b.text.n ? a.text.n : b.text.n;
	int c = memcmp(a.text.p, b.text.p, n);
	return c ? c : a.text.n < b.text.n ? -1 : a.text.n > b.text.n;
}

enum comparison { EQUAL, NOT_EQUAL, AT_MOST, AT_LEAST, LESS, MORE, COMPARISON_COUNT };
static const char *const comparisons[COMPARISON_COUNT] = { "==", "!=", "<=", ">=", "<", ">" };

static struct value compare(struct value a, enum comparison how, struct value b)
{
	if (a.kind == VALUE_NONE || b.kind == VALUE_NONE || (a.kind != b.kind && how > NOT_EQUAL))
		return (struct value){ 0 };
	if (a.kind != b.kind)
		return bool_value(how == NOT_EQUAL);
	int c = order(a, b);
	const bool results[COMPARISON_COUNT] = { c == 0, c != 0, c <= 0, c >= 0, c<0, c> 0 };
	return bool_value(results[how]);
}

/* 'name' in request.headers */
static struct value in_headers(struct value name, const struct http_head *h)
{
	char lower[FIELD_NAME_MAX];
	if (name.kind != VALUE_TEXT)
		return (struct value){ 0 };
	return bool_value(h && name_lower(name.text, lower) && http_get(h, lower).p);
}

static struct value in_list(struct reader *e, struct value v)
{
	bool found = false;
	if (take(e, "request.headers"))
		return in_headers(v, e->r->request);
	if (take(e, "response.headers"))
		return in_headers(v, e->r->response);
	if (!take(e, "["))
		e->bad = true;
	while (!e->bad && !take(e, "]")) {
		struct value same = compare(v, EQUAL, operand(e));
		found |= same.kind == VALUE_BOOL && same.b;
		if (!take(e, ",") && *e->p != ']')
			e->bad = true;
	}
	return v.kind == VALUE_NONE ? v : bool_value(found);
}

static struct value comparison(struct reader *e)
{
	struct value a = operand(e);
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

static bool is_bool(struct value v, bool b)
{
	return v.kind == VALUE_BOOL && v.b == b;
}

/* One that decides decides, whatever the other is. */
static struct value both(struct value a, struct value b, bool decides)
{
	if (is_bool(a, decides) || is_bool(b, decides))
		return bool_value(decides);
	return is_bool(a, !decides) && is_bool(b, !decides) ? bool_value(!decides) : (struct value){ 0 };
}

static struct value read_and(struct reader *e)
{
	struct value v = comparison(e);
	while (!e->bad && take(e, "&&"))
		v = both(v, comparison(e), false);
	return v;
}

static struct value read_or(struct reader *e)
{
	struct value v = read_and(e);
	while (!e->bad && take(e, "||"))
		v = both(v, read_and(e), true);
	return v;
}

/* a ? b : c */
static struct value read_choice(struct reader *e)
{
	if (++e->depth > DEPTH_MAX) {
		e->bad = true;
		return (struct value){ 0 };
	}
	struct value v = read_or(e);
	if (!e->bad && take(e, "?")) {
		struct value yes = read_choice(e);
		if (!take(e, ":"))
			e->bad = true;
		struct value no = e->bad ? (struct value){ 0 } : read_choice(e);
		v = v.kind != VALUE_BOOL ? (struct value){ 0 } : v.b ? yes : no;
	}
	e->depth--;
	return v;
}

static struct value evaluate(struct reader *e)
{
	struct value v = read_choice(e);
	skip(e);
	return e->bad || *e->p ? (struct value){ 0 } : v;
}

int expression_check(const char *text, struct err *err)
{
	static const struct http_head none = { .content_length = -1 };
	const struct request_record r = { .request = &none, .grpc_status = -1, .details = "" };
	char scratch[SCRATCH_COUNT][SCRATCH];
	struct reader e = { .r = &r, .p = text, .scratch = scratch };
	struct value v = read_choice(&e);

	skip(&e);
	if (e.bad || *e.p)
		return err_set(err, -EINVAL, "the filter can't be read: see character %zu", (size_t)(e.p - text) + 1);
	if (e.unknown)
		return err_set(err, -EINVAL,
			       "the filter asks for something that requests do not have: see before character %zu",
			       (size_t)(e.unknown - text) + 1);
	if (v.kind == VALUE_NUMBER || v.kind == VALUE_TEXT)
		return err_set(err, -EINVAL, "the filter is a value, not a condition: compare it with something");
	return 0;
}

bool expression_true(const struct request_record *r, const char *text)
{
	char scratch[SCRATCH_COUNT][SCRATCH];
	struct reader e = { .r = r, .p = text, .scratch = scratch };
	struct value v = evaluate(&e);
	return v.kind == VALUE_BOOL && v.b;
}

bool expression_value(const struct request_record *r, const char *text, struct sb *out)
{
	char scratch[SCRATCH_COUNT][SCRATCH];
	struct reader e = { .r = r, .p = text, .scratch = scratch };
	struct value v = evaluate(&e);
	switch (v.kind) {
	case VALUE_TEXT:
		sb_add_bytes(out, v.text.p, v.text.n);
		return true;
	case VALUE_NUMBER:
		sb_addf(out, "%.10g", v.number);
		return true;
	case VALUE_BOOL:
		sb_add(out, v.b ? "true" : "false");
		return true;
	default:
		return false;
	}
}
