/* SPDX-License-Identifier: Apache-2.0 */
/* Which route a request takes. One walk over the conditions of a match serves the data path (does it hold?) and explain
 * (which does not, and why). An expression that finds no answer within its limits fulfils nothing, inverted or not. */
#include "agent/model/http.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "agent/base/regex.h"
#include "agent/base/str.h"
#include "agent/model/workload.h"

enum { PARAM_MAX = 4096 }; /* a longer query parameter is taken as absent */

static bool bytes_equal(const char *a, const char *b, size_t n, bool ignore_case)
{
	return ignore_case ? strncasecmp(a, b, n) == 0 : memcmp(a, b, n) == 0;
}

/* "/a/" and "/a" mean the same; "/" everything. */
static bool path_prefix_matches(const struct http_text *t, struct http_view value)
{
	size_t len = strlen(t->text);

	while (len && t->text[len - 1] == '/')
		len--;
	if (value.n < len || !bytes_equal(value.p, t->text, len, t->ignore_case))
		return false;
	return value.n == len || value.p[len] == '/';
}

/* 1, 0, or less: no answer. */
static int text_matches(const struct http_text *t, struct http_view value)
{
	size_t len;

	if (!value.p)
		return 0;
	switch (t->kind) {
	case HTTP_TEXT_EXACT:
		len = strlen(t->text);
		return value.n == len && bytes_equal(value.p, t->text, len, t->ignore_case);
	case HTTP_TEXT_PREFIX:
		len = strlen(t->text);
		return value.n >= len && bytes_equal(value.p, t->text, len, t->ignore_case);
	case HTTP_TEXT_SUFFIX:
		len = strlen(t->text);
		return value.n >= len && bytes_equal(value.p + value.n - len, t->text, len, t->ignore_case);
	case HTTP_TEXT_REGEX:
		return t->regex ? regex_match(t->regex, value.p, value.n) : -1;
	case HTTP_TEXT_PRESENT:
		return 1;
	case HTTP_TEXT_PATH_PREFIX:
		return path_prefix_matches(t, value);
	}
	return 0;
}

bool http_text_matches(const struct http_text *t, struct http_view value)
{
	return text_matches(t, value) == 1;
}

/* --- query parameters */

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Into buf; false: does not fit. A percent sign without two digits stands for itself. */
static bool percent_decode(struct http_view in, char *buf, size_t size, size_t *len)
{
	size_t n = 0;

	for (size_t i = 0; i < in.n; i++) {
		if (n >= size)
			return false;
		int high = in.p[i] == '%' && i + 2 < in.n ? hex(in.p[i + 1]) : -1;
		int low = high >= 0 ? hex(in.p[i + 2]) : -1;
		if (low >= 0) {
			buf[n++] = (char)(high << 4 | low);
			i += 2;
		} else {
			buf[n++] = in.p[i];
		}
	}
	*len = n;
	return true;
}

static bool name_is(struct http_view encoded, const char *name, char *buf, size_t size)
{
	size_t len = strlen(name), n;

	if (!memchr(encoded.p, '%', encoded.n))
		return encoded.n == len && memcmp(encoded.p, name, len) == 0;
	return percent_decode(encoded, buf, size, &n) && n == len && memcmp(buf, name, len) == 0;
}

bool http_query_get(struct http_view query, const char *name, char *buf, size_t size, struct http_view *out)
{
	const char *p = query.p, *end = query.p + query.n;

	while (query.p && p < end) {
		const char *amp = memchr(p, '&', (size_t)(end - p));
		const char *stop = amp ? amp : end;
		const char *eq = memchr(p, '=', (size_t)(stop - p));
		struct http_view key = { p, (size_t)((eq ? eq : stop) - p) };
		struct http_view value = { eq ? eq + 1 : stop, eq ? (size_t)(stop - eq - 1) : 0 };
		if (key.n && name_is(key, name, buf, size)) {
			*out = (struct http_view){ buf, 0 };
			return percent_decode(value, buf, size, &out->n);
		}
		p = stop + 1;
	}
	return false;
}

/* --- matching */

enum condition {
	COND_NONE, /* all hold */
	COND_PORT,
	COND_METHOD,
	COND_PATH,
	COND_AUTHORITY,
	COND_SCHEME,
	COND_NAMESPACE,
	COND_LABEL,
	COND_HEADER,
	COND_PARAM,
};

static struct http_view without_port(struct http_view authority)
{
	if (!authority.n)
		return authority;
	const char *bracket = memrchr(authority.p, ']', authority.n), *colon = memrchr(authority.p, ':', authority.n);

	if (colon && (!bracket || colon > bracket))
		authority.n = (size_t)(colon - authority.p);
	return authority;
}

static bool authority_matches(const struct http_text *t, struct http_view authority)
{
	return http_text_matches(t, authority) || http_text_matches(t, without_port(authority));
}

/* Pseudo-headers may be named as in HTTP/2. */
static struct http_view header_value(const struct http_request_view *r, const char *name)
{
	if (name[0] != ':')
		return r->header ? r->header(r, name) : (struct http_view){ NULL, 0 };
	if (strcmp(name, ":method") == 0)
		return r->method;
	if (strcmp(name, ":authority") == 0)
		return r->authority;
	if (strcmp(name, ":scheme") == 0)
		return r->scheme;
	return strcmp(name, ":path") == 0 ? r->path : (struct http_view){ NULL, 0 };
}

static bool field_holds(const struct http_field_match *f, struct http_view value)
{
	int rc = text_matches(&f->value, value);

	return rc >= 0 && (rc == 1) != f->invert;
}

static bool param_holds(const struct http_field_match *f, struct http_view query)
{
	char buf[PARAM_MAX];
	struct http_view value = { NULL, 0 };

	if (!http_query_get(query, f->name, buf, sizeof(buf), &value))
		value.p = NULL;
	return field_holds(f, value);
}

static const char *source_label(const struct http_request_view *r, const char *key)
{
	for (size_t i = 0; i < r->source_label_count; i++)
		if (strcmp(r->source_labels[i].key, key) == 0)
			return r->source_labels[i].value;
	return NULL;
}

/* The first condition that does not hold; *index: which label, header or parameter. Cheap ones first. */
static enum condition first_failed(const struct http_match *m, const struct http_request_view *r, size_t *index)
{
	if (m->port && m->port != r->port)
		return COND_PORT;
	if (m->method && !http_text_matches(m->method, r->method))
		return COND_METHOD;
	if (m->path && !http_text_matches(m->path, r->path))
		return COND_PATH;
	if (m->authority && !authority_matches(m->authority, r->authority))
		return COND_AUTHORITY;
	if (m->scheme && !http_text_matches(m->scheme, r->scheme))
		return COND_SCHEME;
	if (m->source_namespace && !str_eq(m->source_namespace, r->source_namespace))
		return COND_NAMESPACE;
	for (*index = 0; *index < m->source_label_count; (*index)++)
		if (!str_eq(m->source_labels[*index].value, source_label(r, m->source_labels[*index].key)))
			return COND_LABEL;
	for (*index = 0; *index < m->header_count; (*index)++)
		if (!field_holds(&m->headers[*index], header_value(r, m->headers[*index].name)))
			return COND_HEADER;
	for (*index = 0; *index < m->param_count; (*index)++)
		if (!param_holds(&m->params[*index], r->query))
			return COND_PARAM;
	return COND_NONE;
}

const struct http_route *http_route_find(const struct http_vhost *v, const struct http_request_view *r, size_t *match)
{
	size_t index;

	for (size_t i = 0; i < v->route_count; i++) {
		const struct http_route *route = &v->routes[i];
		*match = SIZE_MAX;
		if (!route->match_count)
			return route;
		for (size_t k = 0; k < route->match_count; k++)
			if (first_failed(&route->matches[k], r, &index) == COND_NONE) {
				*match = k;
				return route;
			}
	}
	return NULL;
}

/* --- in words */

static const char *text_kind(const struct http_text *t)
{
	static const char *const words[] = {
		[HTTP_TEXT_EXACT] = "exactly",	   [HTTP_TEXT_PREFIX] = "the prefix",
		[HTTP_TEXT_SUFFIX] = "the suffix", [HTTP_TEXT_REGEX] = "the regex",
		[HTTP_TEXT_PRESENT] = "any value", [HTTP_TEXT_PATH_PREFIX] = "the path prefix",
	};
	return words[t->kind];
}

static const char *say(char *buf, size_t size, const char *what, const char *name, const struct http_text *want,
		       bool invert, struct http_view got)
{
	char value[256], wanted[256];

	if (got.p)
		snprintf(value, sizeof(value), "is \"%.*s\"", (int)(got.n < 200 ? got.n : 200), got.p);
	else
		str_copy(value, sizeof(value), "is absent");
	if (want->kind == HTTP_TEXT_PRESENT)
		snprintf(wanted, sizeof(wanted), "%s", invert ? "absence" : "any value");
	else
		snprintf(wanted, sizeof(wanted), "%s%s \"%.200s\"%s", invert ? "anything but " : "", text_kind(want),
			 want->text, want->ignore_case ? " in any case" : "");
	snprintf(buf, size, "%s%s%s %s, wanted %s", what, *name ? " " : "", name, value, wanted);
	return buf;
}

static const char *say_label(char *buf, size_t size, const struct label *want, const char *got)
{
	if (got)
		snprintf(buf, size, "sourceLabels: the caller's %s is \"%s\", wanted \"%s\"", want->key, got,
			 want->value);
	else
		snprintf(buf, size, "sourceLabels: the caller has no %s, wanted \"%s\"", want->key, want->value);
	return buf;
}

static const char *say_param(char *buf, size_t size, const struct http_field_match *f, struct http_view query)
{
	char decoded[PARAM_MAX];
	struct http_view value = { NULL, 0 };

	if (!http_query_get(query, f->name, decoded, sizeof(decoded), &value))
		value.p = NULL;
	return say(buf, size, "query parameter", f->name, &f->value, f->invert, value);
}

const char *http_match_why(const struct http_match *m, const struct http_request_view *r, char *buf, size_t size)
{
	size_t i = 0;

	switch (first_failed(m, r, &i)) {
	case COND_NONE:
		return NULL;
	case COND_PORT:
		snprintf(buf, size, "port is %u, wanted %u", r->port, m->port);
		return buf;
	case COND_METHOD:
		return say(buf, size, "method", "", m->method, false, r->method);
	case COND_PATH:
		return say(buf, size, "path", "", m->path, false, r->path);
	case COND_AUTHORITY:
		return say(buf, size, "authority", "", m->authority, false, r->authority);
	case COND_SCHEME:
		return say(buf, size, "scheme", "", m->scheme, false, r->scheme);
	case COND_NAMESPACE:
		snprintf(buf, size, "sourceNamespace: the caller's is \"%s\", wanted \"%s\"",
			 r->source_namespace ? r->source_namespace : "", m->source_namespace);
		return buf;
	case COND_LABEL:
		return say_label(buf, size, &m->source_labels[i], source_label(r, m->source_labels[i].key));
	case COND_HEADER:
		return say(buf, size, "header", m->headers[i].name, &m->headers[i].value, m->headers[i].invert,
			   header_value(r, m->headers[i].name));
	case COND_PARAM:
		return say_param(buf, size, &m->params[i], r->query);
	}
	return NULL;
}
