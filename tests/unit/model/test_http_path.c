/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/model/http_path.h"

static const char *const mode_names[] = { "NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES" };

/* NULL: refused. */
static void check(enum path_normalization mode, const char *path, size_t n, const char *want)
{
	char *out = malloc(HTTP_PATH_ROOM(n) + 1); /* exactly */
	size_t len = 0;
	int rc = http_path_normalise(mode, path, n, out, &len);
	const char *got = rc == 1 ? path : out;
	size_t got_len = rc == 1 ? n : len;
	if (!want) {
		if (rc != -EINVAL)
			fail_msg("%s %s: %.*s instead of a refusal", mode_names[mode], path, (int)got_len, got);
	} else if (rc < 0 || got_len != strlen(want) || memcmp(got, want, got_len) != 0) {
		fail_msg("%s %s: %d %.*s instead of %s", mode_names[mode], path, rc, rc < 0 ? 0 : (int)got_len, got,
			 want);
	}
	free(out);
}

struct row {
	const char *path;
	const char *none, *base, *merge, *decode;
};

#define SAME(p)                                                                                                        \
	{                                                                                                              \
		p, p, p, p, p                                                                                          \
	}
#define REFUSED(p)                                                                                                     \
	{                                                                                                              \
		p, NULL, NULL, NULL, NULL                                                                              \
	}

static const struct row rows[] = {
	SAME("/"),
	SAME("*"),
	SAME("/xyz"),
	SAME("/x/y/z"),
	SAME("/x/y/"),
	SAME("/A/B"),
	SAME("/a.b/.c/..d/e../f./..."),
	SAME("/-._~!$&'()*+,;=:@[]"),
	SAME("/a;b=c;d/e;f"),
	SAME("/.well-known/x"),
	/* dot segments */
	{ "/a/b/../c", "/a/b/../c", "/a/c", "/a/c", "/a/c" },
	{ "/a/b/./c", "/a/b/./c", "/a/b/c", "/a/b/c", "/a/b/c" },
	{ "/a/b/../../../../c", "/a/b/../../../../c", "/c", "/c", "/c" },
	{ "/..", "/..", "/", "/", "/" },
	{ "/.", "/.", "/", "/", "/" },
	{ "/../a/b", "/../a/b", "/a/b", "/a/b", "/a/b" },
	{ "/./a/b", "/./a/b", "/a/b", "/a/b", "/a/b" },
	{ "/a/..", "/a/..", "/", "/", "/" },
	{ "/a/.", "/a/.", "/a/", "/a/", "/a/" },
	{ "/a/b/..", "/a/b/..", "/a/", "/a/", "/a/" },
	{ "/a/b/../", "/a/b/../", "/a/", "/a/", "/a/" },
	{ "/public/./data/abc/../xyz", "/public/./data/abc/../xyz", "/public/data/xyz", "/public/data/xyz",
	  "/public/data/xyz" },
	/* escaped dots */
	{ "/a/b/%2E%2E/c", "/a/b/%2E%2E/c", "/a/c", "/a/c", "/a/c" },
	{ "/a/b/%2e%2e/c", "/a/b/%2e%2e/c", "/a/c", "/a/c", "/a/c" },
	{ "/a/b/%2E./c", "/a/b/%2E./c", "/a/c", "/a/c", "/a/c" },
	{ "/a/b/.%2e/c", "/a/b/.%2e/c", "/a/c", "/a/c", "/a/c" },
	{ "/a/b/%2E/c", "/a/b/%2E/c", "/a/b/c", "/a/b/c", "/a/b/c" },
	{ "/a%2eb", "/a%2eb", "/a.b", "/a.b", "/a.b" },
	{ "/%2e%2e%2e", "/%2e%2e%2e", "/...", "/...", "/..." },
	/* nothing is decoded twice */
	{ "/%252e%252e/a", "/%252e%252e/a", "/%252e%252e/a", "/%252e%252e/a", "/%252e%252e/a" },
	{ "/%252F", "/%252F", "/%252F", "/%252F", "/%252F" },
	{ "/%2500", "/%2500", "/%2500", "/%2500", "/%2500" },
	/* backslashes */
	{ "/a/..\\c", "/a/..\\c", "/c", "/c", "/c" },
	{ "/some\\data", "/some\\data", "/some/data", "/some/data", "/some/data" },
	{ "\\da", NULL, "/da", "/da", "/da" },
	{ "/a\\\\b", "/a\\\\b", "/a//b", "/a/b", "/a/b" },
	{ "/a/\\../b", "/a/\\../b", "/a/b", "/b", "/b" },
	/* slashes */
	{ "//", "//", "//", "/", "/" },
	{ "//a/b/c", "//a/b/c", "//a/b/c", "/a/b/c", "/a/b/c" },
	{ "/a//b", "/a//b", "/a//b", "/a/b", "/a/b" },
	{ "/a/b/c//", "/a/b/c//", "/a/b/c//", "/a/b/c/", "/a/b/c/" },
	{ "/some//data///abc", "/some//data///abc", "/some//data///abc", "/some/data/abc", "/some/data/abc" },
	{ "/a//../b", "/a//../b", "/a/b", "/b", "/b" },
	{ "/a/.//b", "/a/.//b", "/a//b", "/a/b", "/a/b" },
	/* escaped slashes */
	{ "/some%2fdata/%61%62%63", "/some%2fdata/%61%62%63", "/some%2fdata/abc", "/some%2fdata/abc",
	  "/some/data/abc" },
	{ "/a%2Fb%2fc", "/a%2Fb%2fc", "/a%2Fb%2fc", "/a%2Fb%2fc", "/a/b/c" },
	{ "/a%5Cb%5cc", "/a%5Cb%5cc", "/a%5Cb%5cc", "/a%5Cb%5cc", "/a/b/c" },
	{ "/a/%2F%2f/c", "/a/%2F%2f/c", "/a/%2F%2f/c", "/a/%2F%2f/c", "/a/c" },
	{ "/a/b%2f..%2fc", "/a/b%2f..%2fc", "/a/b%2f..%2fc", "/a/b%2f..%2fc", "/a/c" },
	{ "/a/..%2fb", "/a/..%2fb", "/a/..%2fb", "/a/..%2fb", "/b" },
	{ "/a/%2e%2e%5cb", "/a/%2e%2e%5cb", "/a/..%5cb", "/a/..%5cb", "/b" },
	{ "/%2f", "/%2f", "/%2f", "/%2f", "/" },
	/* escapes */
	{ "/%30%39%41%5a%61%7a%2d%5f%7e", "/%30%39%41%5a%61%7a%2d%5f%7e", "/09AZaz-_~", "/09AZaz-_~", "/09AZaz-_~" },
	SAME("/%c0%af"),
	SAME("/%E2%82%AC"),
	SAME("/%20%22%23%25%3b%3F%40%0a%0d%7f"),
	{ "/\"<>^`{|}", "/\"<>^`{|}", "/%22%3C%3E%5E%60%7B%7C%7D", "/%22%3C%3E%5E%60%7B%7C%7D",
	  "/%22%3C%3E%5E%60%7B%7C%7D" },
	{ "/\xc3\xa9", "/\xc3\xa9", "/%C3%A9", "/%C3%A9", "/%C3%A9" },
	/* not an escape: what it means depends on who reads it */
	{ "/50%", "/50%", NULL, NULL, NULL },
	{ "/50%2", "/50%2", NULL, NULL, NULL },
	{ "/50%zz", "/50%zz", NULL, NULL, NULL },
	{ "/%%30%30", "/%%30%30", NULL, NULL, NULL },
	{ "/%u002f", "/%u002f", NULL, NULL, NULL },
	/* dot segments with parameters: some servers resolve them */
	{ "/a/..;/b", "/a/..;/b", NULL, NULL, NULL },
	{ "/a/..;x=1/b", "/a/..;x=1/b", NULL, NULL, NULL },
	{ "/a/.;/b", "/a/.;/b", NULL, NULL, NULL },
	{ "/a/%2e%2e;/b", "/a/%2e%2e;/b", NULL, NULL, NULL },
	{ "/a/..;", "/a/..;", NULL, NULL, NULL },
	{ "/a/x..;/b", "/a/x..;/b", "/a/x..;/b", "/a/x..;/b", "/a/x..;/b" },
	{ "/a/...;/b", "/a/...;/b", "/a/...;/b", "/a/...;/b", "/a/...;/b" },
	{ "/a%2f..;/b", "/a%2f..;/b", "/a%2f..;/b", "/a%2f..;/b", NULL },
	/* always refused */
	REFUSED("/a%00"),
	REFUSED("/xyz/.%00../abc"),
	REFUSED("/xyz/%00.%00./abc"),
	REFUSED("/a#b"),
	REFUSED("/#"),
	REFUSED("/a b"),
	REFUSED("/a\tb"),
	REFUSED("/a\rb"),
	REFUSED("/a\nb"),
	REFUSED("/a\x01"),
	REFUSED("/a\x7f"),
	REFUSED(""),
	REFUSED("a"),
	REFUSED("a/b"),
	REFUSED(".."),
	REFUSED("**"),
	REFUSED("http://a/"),
};

static void test_paths_of_each_mode(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *r = &rows[i];
		size_t n = strlen(r->path);
		check(PATH_NONE, r->path, n, r->none);
		check(PATH_BASE, r->path, n, r->base);
		check(PATH_MERGE_SLASHES, r->path, n, r->merge);
		check(PATH_DECODE_AND_MERGE_SLASHES, r->path, n, r->decode);
	}
	for (int mode = 0; mode < 4; mode++)
		check((enum path_normalization)mode, "/a\0b", 4, NULL);
}

/* Each byte, escaped and bare. */
static void test_every_byte(void **state)
{
	(void)state;
	for (unsigned int c = 0; c < 256; c++) {
		char path[8], want[8];
		snprintf(path, sizeof(path), "/%%%02x", c);
		bool unreserved = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
				  c == '-' || c == '_' || c == '~';
		snprintf(want, sizeof(want), "/%c", (int)c);
		check(PATH_BASE, path, 4, c == 0 ? NULL : unreserved ? want : c == '.' ? "/" : path);
		check(PATH_NONE, path, 4, c == 0 ? NULL : path);

		char bare[3] = { '/', (char)c, 'x' };
		snprintf(want, sizeof(want), "/%cx", (int)c);
		char escaped[8];
		snprintf(escaped, sizeof(escaped), "/%%%02Xx", c);
		bool bad = c <= 0x20 || c == 0x7f || c == '#' || c == '%';
		bool escape = c >= 0x80 || (c && strchr("\"<>?^`{|}", (int)c));
		check(PATH_BASE, bare, 3, bad ? NULL : escape ? escaped : c == '\\' ? "//x" : want);
	}
}

/* What was normalised once is normal. All paths of these pieces up to five of them. */
static void test_normal_form_is_stable(void **state)
{
	(void)state;
	static const char *const pieces[] = { "/", "\\", ".", "..", "%2e", "%2F", "%5c", "a", "%25", ";", "\"" };
	enum { PIECES = sizeof(pieces) / sizeof(pieces[0]), DEPTH = 5 };
	size_t total = 1;
	for (int i = 0; i < DEPTH; i++)
		total *= PIECES;
	for (size_t k = 0; k < total; k++) {
		char path[64] = "/", out[192], again[192];
		for (size_t i = 0, v = k; i < DEPTH; i++, v /= PIECES)
			strcat(path, pieces[v % PIECES]);
		for (int mode = PATH_BASE; mode <= PATH_DECODE_AND_MERGE_SLASHES; mode++) {
			size_t n = strlen(path), len, again_len;
			int rc = http_path_normalise((enum path_normalization)mode, path, n, out, &len);
			if (rc != 0)
				continue;
			assert_int_equal(out[0], '/');
			rc = http_path_normalise((enum path_normalization)mode, out, len, again, &again_len);
			if (rc < 0 || (rc == 0 && (again_len != len || memcmp(out, again, len) != 0)))
				fail_msg("%s %s: %.*s", mode_names[mode], path, (int)len, out);
		}
	}
}

static void test_queries(void **state)
{
	(void)state;
	assert_true(http_query_valid("", 0));
	assert_true(http_query_valid("a=b&c=%00?/\\\xc3\xa9", 14));
	assert_false(http_query_valid("a#b", 3));
	assert_false(http_query_valid("a b", 3));
	assert_false(http_query_valid("a\0b", 3));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_paths_of_each_mode),
		cmocka_unit_test(test_every_byte),
		cmocka_unit_test(test_normal_form_is_stable),
		cmocka_unit_test(test_queries),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
