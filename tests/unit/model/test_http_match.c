/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/model/http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/model/workload.h"

static struct http_view view(const char *text)
{
	return (struct http_view){ text, text ? strlen(text) : 0 };
}

/* "name=value;name=value" */
static struct http_view header_of(const struct http_request_view *r, const char *name)
{
	static char joined[256];
	char copy[256];
	char *at = copy, *one;
	bool found = false;

	snprintf(copy, sizeof(copy), "%s", r->headers ? (const char *)r->headers : "");
	joined[0] = 0;
	while ((one = strsep(&at, ";"))) {
		char *eq = strchr(one, '=');
		if (!eq || (size_t)(eq - one) != strlen(name) || strncmp(one, name, strlen(name)))
			continue;
		size_t len = strlen(joined);
		snprintf(joined + len, sizeof(joined) - len, "%s%s", found ? "," : "", eq + 1);
		found = true;
	}
	return found ? view(joined) : (struct http_view){ NULL, 0 };
}

static const struct label labels[] = { { (char *)"app", (char *)"frontend" }, { (char *)"version", (char *)"v1" } };

static struct http_request_view request(const char *path)
{
	const char *q = strchr(path, '?');
	return (struct http_request_view){
		.method = view("GET"),
		.scheme = view("http"),
		.authority = view("catalog:8080"),
		.path = { path, q ? (size_t)(q - path) : strlen(path) },
		.query = view(q ? q + 1 : NULL),
		.port = 80,
		.header = header_of,
		.source_namespace = "shop",
		.source_labels = labels,
		.source_label_count = ARRAY_SIZE(labels),
	};
}

static void test_text_every_operator(void **state)
{
	(void)state;
	static const struct {
		enum http_text_kind kind;
		bool ignore_case;
		const char *text, *value;
		bool want;
	} rows[] = {
		{ HTTP_TEXT_EXACT, false, "/a", "/a", true },
		{ HTTP_TEXT_EXACT, false, "/a", "/A", false },
		{ HTTP_TEXT_EXACT, true, "/a", "/A", true },
		{ HTTP_TEXT_EXACT, false, "/a", "/ab", false },
		{ HTTP_TEXT_EXACT, false, "", "", true },
		{ HTTP_TEXT_EXACT, false, "", NULL, false },
		{ HTTP_TEXT_PREFIX, false, "/a", "/ab", true },
		{ HTTP_TEXT_PREFIX, false, "/a", "/Ab", false },
		{ HTTP_TEXT_PREFIX, true, "/a", "/Ab", true },
		{ HTTP_TEXT_PREFIX, false, "/abc", "/ab", false },
		{ HTTP_TEXT_SUFFIX, false, "b", "ab", true },
		{ HTTP_TEXT_SUFFIX, false, "b", "abc", false },
		{ HTTP_TEXT_SUFFIX, true, "B", "ab", true },
		{ HTTP_TEXT_REGEX, false, "/[0-9]+", "/12", true },
		{ HTTP_TEXT_REGEX, false, "/[0-9]+", "/12/x", false },
		{ HTTP_TEXT_REGEX, true, "/a+", "/AA", true },
		{ HTTP_TEXT_PRESENT, false, NULL, "", true },
		{ HTTP_TEXT_PRESENT, false, NULL, NULL, false },
		{ HTTP_TEXT_PATH_PREFIX, false, "/a", "/a", true },
		{ HTTP_TEXT_PATH_PREFIX, false, "/a", "/a/b", true },
		{ HTTP_TEXT_PATH_PREFIX, false, "/a", "/a/", true },
		{ HTTP_TEXT_PATH_PREFIX, false, "/a", "/ab", false },
		{ HTTP_TEXT_PATH_PREFIX, false, "/a/", "/a", true },
		{ HTTP_TEXT_PATH_PREFIX, false, "/a/", "/a/b", true },
		{ HTTP_TEXT_PATH_PREFIX, false, "/", "/x", true },
		{ HTTP_TEXT_PATH_PREFIX, false, "/a/b", "/a", false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct http_vhost *v = http_vhost_new();
		v->routes = calloc(1, sizeof(*v->routes));
		v->route_count = 1;
		v->routes->matches = calloc(1, sizeof(*v->routes->matches));
		v->routes->match_count = 1;
		struct http_text *t = v->routes->matches->path = calloc(1, sizeof(*t));
		*t = (struct http_text){ .kind = rows[i].kind, .ignore_case = rows[i].ignore_case };
		t->text = rows[i].text ? strdup(rows[i].text) : NULL;
		assert_int_equal(http_vhost_seal(v, NULL), 0);
		if (http_text_matches(t, view(rows[i].value)) != rows[i].want)
			fail_msg("row %zu: \"%s\" on \"%s\"", i, rows[i].text, rows[i].value);
		http_vhost_unref(v);
	}
}

static void test_query_is_decoded_first_value_counts(void **state)
{
	(void)state;
	static const struct {
		const char *query, *name, *want;
	} rows[] = {
		{ "a=1&b=2", "b", "2" },
		{ "a=1&a=2", "a", "1" },
		{ "a=%41%2f%zz%4", "a", "A/%zz%4" },
		{ "%61=x", "a", "x" },
		{ "a", "a", "" },
		{ "a=", "a", "" },
		{ "b=1", "a", NULL },
		{ "", "a", NULL },
		{ NULL, "a", NULL },
		{ "aa=1&a=2", "a", "2" },
		{ "&&a=1=2&", "a", "1=2" },
		{ "a=1+2", "a", "1+2" },
		{ "=x", "", NULL },
		{ "a=0123456789abcdef", "a", NULL }, /* does not fit below */
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char buf[16];
		struct http_view out;
		bool found = http_query_get(view(rows[i].query), rows[i].name, buf, 15, &out);
		if (found != (rows[i].want != NULL) ||
		    (found && (out.n != strlen(rows[i].want) || memcmp(out.p, rows[i].want, out.n))))
			fail_msg("\"%s\" of \"%s\"", rows[i].name, rows[i].query);
	}
}

/* One match, of one condition: what it says of a request. */
struct one_match {
	struct http_vhost *v;
	struct http_match *m;
};

static struct one_match one_match(void)
{
	struct one_match one = { .v = http_vhost_new() };
	one.v->routes = calloc(1, sizeof(*one.v->routes));
	one.v->route_count = 1;
	one.m = one.v->routes->matches = calloc(1, sizeof(*one.m));
	one.v->routes->match_count = 1;
	return one;
}

static struct http_field_match *field(const char *name, enum http_text_kind kind, const char *text, bool invert)
{
	struct http_field_match *f = calloc(1, sizeof(*f));
	f->name = strdup(name);
	f->value = (struct http_text){ .kind = kind, .text = text ? strdup(text) : NULL };
	f->invert = invert;
	return f;
}

static void says(struct one_match *one, const struct http_request_view *r, const char *why)
{
	char buf[600];
	size_t match;
	assert_int_equal(http_vhost_seal(one->v, NULL), 0);
	const char *got = http_match_why(one->m, r, buf, sizeof(buf));
	if (why ? !got || strcmp(got, why) : got != NULL)
		fail_msg("got \"%s\", wanted \"%s\"", got, why);
	assert_ptr_equal(http_route_find(one->v, r, &match), why ? NULL : one->v->routes);
	if (!why)
		assert_int_equal(match, 0);
	http_vhost_unref(one->v);
}

static void test_headers(void **state)
{
	(void)state;
	static const struct {
		const char *headers;
		enum http_text_kind kind;
		const char *text;
		bool invert;
		const char *why;
	} rows[] = {
		{ "x-canary=true", HTTP_TEXT_EXACT, "true", false, NULL },
		{ "x-canary=TRUE", HTTP_TEXT_EXACT, "true", false,
		  "header x-canary is \"TRUE\", wanted exactly \"true\"" },
		{ "x-canary=a;x-canary=b", HTTP_TEXT_EXACT, "a,b", false, NULL },
		{ "x-canary=a;x-canary=b", HTTP_TEXT_EXACT, "a", false,
		  "header x-canary is \"a,b\", wanted exactly \"a\"" },
		{ "", HTTP_TEXT_EXACT, "a", false, "header x-canary is absent, wanted exactly \"a\"" },
		{ "x-canary=", HTTP_TEXT_PRESENT, NULL, false, NULL },
		{ "", HTTP_TEXT_PRESENT, NULL, false, "header x-canary is absent, wanted any value" },
		{ "", HTTP_TEXT_PRESENT, NULL, true, NULL },
		{ "x-canary=1", HTTP_TEXT_PRESENT, NULL, true, "header x-canary is \"1\", wanted absence" },
		{ "x-canary=1", HTTP_TEXT_EXACT, "1", true,
		  "header x-canary is \"1\", wanted anything but exactly \"1\"" },
		{ "x-canary=2", HTTP_TEXT_EXACT, "1", true, NULL },
		{ "", HTTP_TEXT_REGEX, "1", true, NULL },
		{ "x-canary=beta-2", HTTP_TEXT_REGEX, "beta.*", false, NULL },
		{ "x-canary=beta-2", HTTP_TEXT_PREFIX, "beta", false, NULL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct one_match one = one_match();
		struct http_request_view r = request("/");
		r.headers = rows[i].headers;
		one.m->headers = field("x-canary", rows[i].kind, rows[i].text, rows[i].invert);
		one.m->header_count = 1;
		says(&one, &r, rows[i].why);
	}
}

/* Neither what it says nor its opposite is known then. */
static void test_header_regex_without_answer_holds_neither_way(void **state)
{
	(void)state;
	char value[3000] = "x=";
	memset(value + 2, 'a', sizeof(value) - 4);
	value[sizeof(value) - 2] = '!';

	for (int invert = 0; invert < 2; invert++) {
		struct one_match one = one_match();
		struct http_request_view r = request(value + 2);
		size_t match;
		one.m->headers = field(":path", HTTP_TEXT_REGEX, "([a-z]+)*[0-9]", invert);
		one.m->header_count = 1;
		assert_int_equal(http_vhost_seal(one.v, NULL), 0);
		assert_null(http_route_find(one.v, &r, &match));
		http_vhost_unref(one.v);
	}
}

static void test_params(void **state)
{
	(void)state;
	struct one_match one = one_match();
	struct http_request_view r = request("/p?env=%70rod&x");
	one.m->params = field("env", HTTP_TEXT_EXACT, "prod", false);
	one.m->param_count = 1;
	says(&one, &r, NULL);
	one = one_match();
	one.m->params = field("y", HTTP_TEXT_PRESENT, NULL, false);
	one.m->param_count = 1;
	says(&one, &r, "query parameter y is absent, wanted any value");
	one = one_match();
	one.m->params = field("env", HTTP_TEXT_EXACT, "test", false);
	one.m->param_count = 1;
	says(&one, &r, "query parameter env is \"prod\", wanted exactly \"test\"");
}

static struct http_text *text(enum http_text_kind kind, const char *value)
{
	struct http_text *t = calloc(1, sizeof(*t));
	*t = (struct http_text){ .kind = kind, .text = strdup(value) };
	return t;
}

static void test_authority_with_and_without_its_port(void **state)
{
	(void)state;
	static const struct {
		const char *authority, *want;
		bool holds;
	} rows[] = {
		{ "catalog:8080", "catalog", true },	 { "catalog:8080", "catalog:8080", true },
		{ "catalog:8080", "catalog:80", false }, { "catalog", "catalog", true },
		{ "[fd00::1]:80", "[fd00::1]", true },	 { "[fd00::1]", "[fd00::1]", true },
		{ "Catalog", "catalog", false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct one_match one = one_match();
		struct http_request_view r = request("/");
		char why[100];
		r.authority = view(rows[i].authority);
		one.m->authority = text(HTTP_TEXT_EXACT, rows[i].want);
		snprintf(why, sizeof(why), "authority is \"%s\", wanted exactly \"%s\"", rows[i].authority,
			 rows[i].want);
		says(&one, &r, rows[i].holds ? NULL : why);
	}
}

static void test_the_other_conditions(void **state)
{
	(void)state;
	struct http_request_view r = request("/cart");
	struct one_match one = one_match();
	one.m->port = 8080;
	says(&one, &r, "port is 80, wanted 8080");
	one = one_match();
	one.m->method = text(HTTP_TEXT_EXACT, "POST");
	says(&one, &r, "method is \"GET\", wanted exactly \"POST\"");
	one = one_match();
	one.m->path = text(HTTP_TEXT_PREFIX, "/api");
	says(&one, &r, "path is \"/cart\", wanted the prefix \"/api\"");
	one = one_match();
	one.m->scheme = text(HTTP_TEXT_EXACT, "https");
	says(&one, &r, "scheme is \"http\", wanted exactly \"https\"");
	one = one_match();
	one.m->source_namespace = strdup("other");
	says(&one, &r, "sourceNamespace: the caller's is \"shop\", wanted \"other\"");

	static const char *const want[][3] = {
		{ "version", "v1", NULL },
		{ "version", "v2", "sourceLabels: the caller's version is \"v1\", wanted \"v2\"" },
		{ "team", "x", "sourceLabels: the caller has no team, wanted \"x\"" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		one = one_match();
		one.m->source_labels = calloc(1, sizeof(struct label));
		one.m->source_labels[0] = (struct label){ strdup(want[i][0]), strdup(want[i][1]) };
		one.m->source_label_count = 1;
		says(&one, &r, want[i][2]);
	}
}

static void test_find_takes_the_first_route_any_of_its_matches(void **state)
{
	(void)state;
	struct http_vhost *v = http_vhost_new();
	struct http_request_view a = request("/a"), b = request("/b"), c = request("/c");
	size_t match;
	v->routes = calloc(3, sizeof(*v->routes));
	v->routes[0].matches = calloc(2, sizeof(struct http_match));
	v->routes[0].match_count = 2;
	v->routes[0].matches[0].path = text(HTTP_TEXT_EXACT, "/a");
	v->routes[0].matches[1].path = text(HTTP_TEXT_EXACT, "/b");
	v->route_count = 1;
	assert_null(http_route_find(v, &c, &match));
	v->route_count = 3; /* the others match everything */
	assert_ptr_equal(http_route_find(v, &a, &match), &v->routes[0]);
	assert_int_equal(match, 0);
	assert_ptr_equal(http_route_find(v, &b, &match), &v->routes[0]);
	assert_int_equal(match, 1);
	assert_ptr_equal(http_route_find(v, &c, &match), &v->routes[1]);
	assert_true(match == SIZE_MAX);
	http_vhost_unref(v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text_every_operator),
		cmocka_unit_test(test_query_is_decoded_first_value_counts),
		cmocka_unit_test(test_headers),
		cmocka_unit_test(test_header_regex_without_answer_holds_neither_way),
		cmocka_unit_test(test_params),
		cmocka_unit_test(test_authority_with_and_without_its_port),
		cmocka_unit_test(test_the_other_conditions),
		cmocka_unit_test(test_find_takes_the_first_route_any_of_its_matches),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
