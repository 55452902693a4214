/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/observe/expression.h"

#include "agent/base/addr.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/helper/observe/record.h"
#include "agent/helper/worker.h"
#include "agent/model/cluster.h"
#include "agent/model/http.h"
#include "agent/model/identity.h"

#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 16, SCRATCH = 256 };

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
	char scratch[2][SCRATCH]; /* texts that are made: two operands of a comparison */
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

static char *scratch_take(struct reader *e)
{
	return e->scratch[e->used++ & 1];
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
	return to >= from && from ? number_value((double)((to - from) / 1000000)) : (struct value){ 0 };
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
	return (struct value){ 0 };
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
	return (struct value){ 0 };
}

static struct value connection_attribute(struct reader *e, const char *name)
{
	if (str_eq(name, "mtls"))
		return bool_value(e->r->mutual);
	if (str_eq(name, "uri_san_peer_certificate"))
		return e->r->peer ? c_value(e->r->peer->uri) : (struct value){ 0 };
	return (struct value){ 0 };
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
		return r->cluster ? c_value(r->cluster->name) : (struct value){ 0 };
	if (str_eq(path, "xds.route_name"))
		return r->route ? c_value(r->route->name) : (struct value){ 0 };
	if (str_eq(path, "node.id"))
		return r->pod ? c_value(r->pod->uid) : (struct value){ 0 };
	return (struct value){ 0 };
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

static struct value read_or(struct reader *e);

/* request.headers['name'], request.headers["name"], request.headers.name */
static struct value headers(struct reader *e, const struct http_head *h)
{
	char name[128];
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
	if (e->bad || !key.n || key.n >= sizeof(name)) {
		e->bad = true;
		return (struct value){ 0 };
	}
	for (uint32_t i = 0; i < key.n; i++)
		name[i] = (char)(key.p[i] >= 'A' && key.p[i] <= 'Z' ? key.p[i] | 0x20 : key.p[i]);
	name[key.n] = 0;
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
		part = read_or(e);
	if (!take(e, ")") || part.kind != VALUE_TEXT) {
		e->bad = true;
		return (struct value){ 0 };
	}
	struct http_string s = v.kind == VALUE_TEXT ? v.text : (struct http_string){ "", 0 }, t = part.text;
	if (str_eq(name, "contains"))
		return bool_value(v.kind == VALUE_TEXT && text_has(s, t));
	if (str_eq(name, "startsWith"))
		return bool_value(v.kind == VALUE_TEXT && s.n >= t.n && !memcmp(s.p, t.p, t.n));
	if (str_eq(name, "endsWith"))
		return bool_value(v.kind == VALUE_TEXT && s.n >= t.n && !memcmp(s.p + s.n - t.n, t.p, t.n));
	e->bad = true;
	return (struct value){ 0 };
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

static struct value path(struct reader *e)
{
	char name[64];
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
	if (str_eq(name, "has")) {
		struct value v = { 0 };
		if (take(e, "("))
			v = read_or(e);
		if (!take(e, ")"))
			e->bad = true;
		return bool_value(v.kind != VALUE_NONE);
	}
	if (dot && is_method(dot + 1)) {
		name[dot - name] = 0;
		e->p = dot_in_text;
		return methods(e, attribute(e, name));
	}
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
		struct value v = read_or(e);
		e->depth--;
		if (!take(e, ")"))
			e->bad = true;
		return v;
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

static int compare(struct value a, struct value b, bool *comparable)
{
	*comparable = a.kind == b.kind && a.kind != VALUE_NONE;
	if (!*comparable)
		return 1;
	if (a.kind == VALUE_NUMBER)
		return a.number < b.number ? -1 : a.number > b.number;
	if (a.kind == VALUE_BOOL)
		return (int)a.b - (int)b.b;
	uint32_t n = a.text.n < b.text.n ? a.text.n : b.text.n;
	int c = memcmp(a.text.p, b.text.p, n);
	return c ? c : a.text.n < b.text.n ? -1 : a.text.n > b.text.n;
}

static struct value in_list(struct reader *e, struct value v)
{
	bool found = false, comparable;
	if (!take(e, "[")) {
		e->bad = true;
		return (struct value){ 0 };
	}
	while (!e->bad && !take(e, "]")) {
		struct value item = operand(e);
		found |= compare(v, item, &comparable) == 0 && comparable;
		if (!take(e, ",") && *e->p != ']')
			e->bad = true;
	}
	return bool_value(found);
}

static struct value comparison(struct reader *e)
{
	static const char *const operators[] = { "==", "!=", "<=", ">=", "<", ">" };
	if (take(e, "!")) {
		if (++e->depth > DEPTH_MAX)
			e->bad = true;
		struct value v = e->bad ? (struct value){ 0 } : comparison(e);
		e->depth--;
		return bool_value(v.kind == VALUE_BOOL && !v.b);
	}
	struct value a = operand(e);
	skip(e);
	if (!strncmp(e->p, "in ", 3) || !strncmp(e->p, "in[", 3)) {
		e->p += 2;
		return in_list(e, a);
	}
	for (size_t i = 0; i < ARRAY_SIZE(operators); i++) {
		if (!take(e, operators[i]))
			continue;
		bool comparable;
		int c = compare(a, operand(e), &comparable);
		const bool results[] = { c == 0, c != 0, c <= 0, c >= 0, c < 0, c > 0 };
		return bool_value(comparable ? results[i] : i == 1);
	}
	return a;
}

static struct value read_and(struct reader *e)
{
	struct value v = comparison(e);
	while (!e->bad && take(e, "&&")) {
		struct value more = comparison(e);
		v = bool_value(v.kind == VALUE_BOOL && v.b && more.kind == VALUE_BOOL && more.b);
	}
	return v;
}

static struct value read_or(struct reader *e)
{
	struct value v;
	if (++e->depth > DEPTH_MAX) {
		e->bad = true;
		return (struct value){ 0 };
	}
	v = read_and(e);
	while (!e->bad && take(e, "||")) {
		struct value more = read_and(e);
		v = bool_value((v.kind == VALUE_BOOL && v.b) || (more.kind == VALUE_BOOL && more.b));
	}
	e->depth--;
	return v;
}

static struct value evaluate(struct reader *e)
{
	struct value v = read_or(e);
	skip(e);
	return e->bad || *e->p ? (struct value){ 0 } : v;
}

bool expression_true(const struct request_record *r, const char *text)
{
	struct reader e = { .r = r, .p = text };
	struct value v = evaluate(&e);
	return v.kind == VALUE_BOOL && v.b;
}

bool expression_value(const struct request_record *r, const char *text, struct sb *out)
{
	struct reader e = { .r = r, .p = text };
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
