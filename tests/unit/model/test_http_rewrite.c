/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/model/http.h"

static struct http_view view(const char *text)
{
	return (struct http_view){ text, text ? strlen(text) : 0 };
}

static void test_rewrite_paths(void **state)
{
	(void)state;
	enum { NO_MATCH = -1 };
	static const struct {
		int kind;
		const char *match, *prefix, *full, *regex, *substitution, *path, *query, *want;
	} rows[] = {
		{ HTTP_TEXT_PREFIX, "/api/", "/", NULL, NULL, NULL, "/api/v1", NULL, "/v1" },
		{ HTTP_TEXT_PREFIX, "/api", "/v2", NULL, NULL, NULL, "/api/x", "q=1", "/v2/x?q=1" },
		{ HTTP_TEXT_EXACT, "/api", "/v2", NULL, NULL, NULL, "/api", "", "/v2?" },
		{ HTTP_TEXT_REGEX, "/a.*", "/v2", NULL, NULL, NULL, "/api/x", NULL, "/v2" },
		{ NO_MATCH, NULL, "/v2/", NULL, NULL, NULL, "/x", NULL, "/v2/x" },
		{ NO_MATCH, NULL, NULL, "/only", NULL, NULL, "/x/y", "a=b", "/only?a=b" },
		{ NO_MATCH, NULL, NULL, NULL, "^/([a-z]+)/(.*)$", "/\\2/\\1", "/ab/1/2", "k", "/1/2/ab?k" },
		{ NO_MATCH, NULL, NULL, NULL, "zzz", "y", "/x", NULL, "/x" },
		/* The table of the Gateway API's ReplacePrefixMatch. */
		{ HTTP_TEXT_PATH_PREFIX, "/foo", "/xyz", NULL, NULL, NULL, "/foo/bar", NULL, "/xyz/bar" },
		{ HTTP_TEXT_PATH_PREFIX, "/foo", "/xyz/", NULL, NULL, NULL, "/foo/bar", NULL, "/xyz/bar" },
		{ HTTP_TEXT_PATH_PREFIX, "/foo/", "/xyz", NULL, NULL, NULL, "/foo/bar", NULL, "/xyz/bar" },
		{ HTTP_TEXT_PATH_PREFIX, "/foo/", "/xyz/", NULL, NULL, NULL, "/foo/bar", NULL, "/xyz/bar" },
		{ HTTP_TEXT_PATH_PREFIX, "/foo", "/xyz", NULL, NULL, NULL, "/foo", NULL, "/xyz" },
		{ HTTP_TEXT_PATH_PREFIX, "/foo", "/xyz", NULL, NULL, NULL, "/foo/", NULL, "/xyz/" },
		{ HTTP_TEXT_PATH_PREFIX, "/foo", "", NULL, NULL, NULL, "/foo/bar", NULL, "/bar" },
		{ HTTP_TEXT_PATH_PREFIX, "/foo", "", NULL, NULL, NULL, "/foo/", NULL, "/" },
		{ HTTP_TEXT_PATH_PREFIX, "/foo", "", NULL, NULL, NULL, "/foo", NULL, "/" },
		{ HTTP_TEXT_PATH_PREFIX, "/foo", "/", NULL, NULL, NULL, "/foo/", NULL, "/" },
		{ HTTP_TEXT_PATH_PREFIX, "/foo", "/", NULL, NULL, NULL, "/foo", NULL, "/" },
		{ HTTP_TEXT_PATH_PREFIX, "/", "/x", NULL, NULL, NULL, "/foo", NULL, "/x/foo" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct http_text path = { .kind = rows[i].kind < 0 ? 0 : (enum http_text_kind)rows[i].kind,
					  .text = rows[i].match ? strdup(rows[i].match) : NULL };
		struct http_route route = { 0 };
		bool failed;
		route.rewrite = calloc(1, sizeof(*route.rewrite));
		route.rewrite->path_prefix = rows[i].prefix ? strdup(rows[i].prefix) : NULL;
		route.rewrite->path_full = rows[i].full ? strdup(rows[i].full) : NULL;
		route.rewrite->path_regex = rows[i].regex ? strdup(rows[i].regex) : NULL;
		route.rewrite->path_substitution = rows[i].substitution ? strdup(rows[i].substitution) : NULL;
		if (rows[i].kind >= 0) {
			route.matches = calloc(1, sizeof(*route.matches));
			route.match_count = 1;
			route.matches->path = malloc(sizeof(path));
			*route.matches->path = path;
		}
		assert_int_equal(http_route_seal(&route, NULL), 0);
		AUTO(mem_freep) char *got = http_rewrite_path(&route, route.match_count ? 0 : SIZE_MAX,
							      view(rows[i].path), view(rows[i].query), &failed);
		assert_false(failed);
		if (!got || strcmp(got, rows[i].want))
			fail_msg("row %zu: \"%s\", wanted \"%s\"", i, got, rows[i].want);
		http_route_done(&route);
	}
	bool failed;
	assert_null(http_rewrite_path(&(struct http_route){ 0 }, SIZE_MAX, view("/"), view(NULL), &failed));
	assert_false(failed);
}

static void test_bad_expressions_are_refused_when_sealed(void **state)
{
	(void)state;
	struct err err = ERR_INIT;
	struct http_rewrite rw = { .path_regex = (char *)"(a)", .path_substitution = (char *)"\\2" };
	struct http_rewrite *heap = malloc(sizeof(rw));
	*heap = rw;
	heap->path_regex = strdup(rw.path_regex);
	heap->path_substitution = strdup(rw.path_substitution);
	struct http_route route = { .rewrite = heap };
	assert_int_equal(http_route_seal(&route, &err), -EINVAL);
	assert_non_null(strstr(err.text, "groups"));
	http_route_done(&route);
}

static void test_redirect_location(void **state)
{
	(void)state;
	static const struct {
		const char *authority, *path, *query;
		struct http_redirect rd;
		const char *want;
	} rows[] = {
		{ "a", "/x", "q", { .authority = (char *)"b" }, "http://b/x?q" },
		{ "a:8080", "/x", NULL, { .path_full = (char *)"/y" }, "http://a:8080/y" },
		{ "a", "/x", "q", { .path_full = (char *)"/y?z" }, "http://a/y?z" },
		{ "a:80", "/x", NULL, { .scheme = (char *)"https" }, "https://a/x" },
		{ "a:443", "/x", NULL, { .scheme = (char *)"https" }, "https://a/x" },
		{ "a:8080", "/x", NULL, { .scheme = (char *)"https" }, "https://a:8080/x" },
		{ "a:8080", "/x", NULL, { .scheme = (char *)"https", .default_port = true }, "https://a/x" },
		{ "a:8080", "/x", NULL, { .port = 9090 }, "http://a:9090/x" },
		{ "a:8080", "/x", NULL, { .port = 80 }, "http://a/x" },
		{ "a", "/x", NULL, { .authority = (char *)"b", .keep_port = true }, "http://b:8000/x" },
		{ "a", "/x", NULL, { .authority = (char *)"b:81" }, "http://b:81/x" },
		{ "[fd00::1]:80", "/x", NULL, { .port = 81 }, "http://[fd00::1]:81/x" },
		{ "[fd00::1]", "/x", NULL, { .scheme = (char *)"https" }, "https://[fd00::1]/x" },
		{ "a", "/x/y", NULL, { .path_prefix = (char *)"/z/" }, "http://a/z/x/y" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct http_redirect rd = rows[i].rd;
		struct http_route route = { .redirect = &rd };
		struct http_request_view r = {
			.authority = view(rows[i].authority),
			.path = view(rows[i].path),
			.query = view(rows[i].query),
			.port = 8000,
		};
		AUTO(mem_freep) char *got = http_redirect_location(&route, SIZE_MAX, &r, false);
		if (!got || strcmp(got, rows[i].want))
			fail_msg("row %zu: \"%s\", wanted \"%s\"", i, got, rows[i].want);
	}
}

static void test_pick_is_by_weight(void **state)
{
	(void)state;
	struct http_destination d[] = { { .weight = 90 }, { .weight = 0 }, { .weight = 10 } };
	struct http_route route = {
		.destinations = d, .destination_count = 3, .total_weight = 100, .invalid_weight = 5
	};
	unsigned int counts[4] = { 0 };

	for (uint32_t random = 0; random < 105; random++) {
		const struct http_destination *got = http_route_pick(&route, random);
		counts[got ? got - d : 3]++;
	}
	assert_int_equal(counts[0], 90);
	assert_int_equal(counts[1], 0);
	assert_int_equal(counts[2], 10);
	assert_int_equal(counts[3], 5);

	/* As the engine draws: 10,000 requests, within 1 %. */
	unsigned int first = 0;
	uint64_t x = 88172645463325252ull;
	for (int i = 0; i < 10000; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		first += http_route_pick(&route, (uint32_t)((x >> 32) % 100)) == &d[0];
	}
	assert_in_range(first, 8900, 9100);
}

static void test_retry_on(void **state)
{
	(void)state;
	struct http_retry retry = { .attempts = 2 };
	struct err err = ERR_INIT;
	assert_int_equal(http_retry_on_parse("connect-failure, refused-stream,503 ,unavailable,,504,503", &retry, &err),
			 0);
	assert_int_equal(retry.on,
			 RETRY_CONNECT_FAILURE | RETRY_REFUSED_STREAM | RETRY_GRPC_UNAVAILABLE | RETRY_STATUS_CODES);
	assert_int_equal(retry.status_count, 2);
	assert_int_equal(retry.statuses[0], 503);
	assert_int_equal(retry.statuses[1], 504);
	assert_int_equal(retry.attempts, 2);
	assert_int_equal(http_retry_on_parse("5xx,4xx", &retry, &err), -EINVAL);
	assert_string_equal(err.text, "retryOn: \"4xx\" is neither a condition nor a status");
	assert_int_equal(retry.status_count, 2); /* untouched */
	assert_int_equal(http_retry_on_parse("600", &retry, &err), -EINVAL);
	assert_int_equal(http_retry_on_parse(
				 "5xx,gateway-error,reset,reset-before-request,connect-failure,envoy-ratelimited,"
				 "retriable-4xx,refused-stream,retriable-status-codes,retriable-headers,cancelled,"
				 "deadline-exceeded,internal,resource-exhausted,unavailable,http3-post-connect-failure",
				 &retry, &err),
			 0);
	assert_int_equal(retry.on, 65535);
	assert_int_equal(retry.status_count, 0);
	free(retry.statuses);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rewrite_paths),
		cmocka_unit_test(test_bad_expressions_are_refused_when_sealed),
		cmocka_unit_test(test_redirect_location),
		cmocka_unit_test(test_pick_is_by_weight),
		cmocka_unit_test(test_retry_on),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
