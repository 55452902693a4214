/* SPDX-License-Identifier: Apache-2.0 */
/* Session persistence of HTTPRoutes: by cookie and by header, with time limits, before weights. */
#include "tests/unit/route/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "agent/model/cluster.h"

enum { ENDPOINT = 36, DESTINATION = 8, TIME = 8, TOKEN = ENDPOINT + DESTINATION + 2 * TIME };

static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

static struct world *session(const char *name, bool header)
{
	struct world *w = world_new();
	w->route->session_name = strdup(name);
	w->route->session_header = header;
	return w;
}

/* What the client is given; in text. */
static const char *given(struct world *w, const char *prefix, char text[TOKEN + 1])
{
	const char *at = strstr(world_received(w), prefix);
	text[0] = '\0';
	if (at)
		snprintf(text, TOKEN + 1, "%s", at + strlen(prefix));
	return at ? text : NULL;
}

static size_t ask(struct world *w, const char *field, const char *token)
{
	char text[512];
	fake_forget(w->client);
	snprintf(text, sizeof(text), "GET /a/b HTTP/1.1\r\nHost: shop\r\n%s%s\r\n\r\n", field, token);
	world_send(w, text);
	return w->attempt_count - 1;
}

/* The fake endpoint of the nth attempt is 10.1.0.(n + 1). */
static void endpoint_set(char *token, size_t n)
{
	token[31] = (char)('1' + n);
}

/* As if it were that many seconds ago. */
static void age(char *token, bool began, bool used, unsigned int seconds)
{
	for (int i = 0; i < 2; i++) {
		char *at = token + ENDPOINT + DESTINATION + i * TIME, digits[TIME + 1];
		if (!(i ? used : began))
			continue;
		snprintf(digits, sizeof(digits), "%.8s", at);
		snprintf(digits, sizeof(digits), "%08lx", strtoul(digits, NULL, 16) - seconds);
		memcpy(at, digits, TIME);
	}
}

static void test_a_cookie_pins_an_endpoint(void **state)
{
	(void)state;
	struct world *w = session("stick", false);
	char token[TOKEN + 1];
	w->route->session_absolute_s = 60;
	w->route->session_max_age = true;
	world_connect(w);
	assert_int_equal(w->attempts[ask(w, "x-none: ", "1")].pinned.port, 0);
	world_answer(w, 0, ok);
	assert_non_null(given(w, "set-cookie: stick=\"", token));
	assert_memory_equal(token, "00000000000000000000ffff0a0100011f90", ENDPOINT);
	assert_received(w, "\"; Max-Age=60; Path=/; HttpOnly; SameSite=Strict\r\n");

	endpoint_set(token, 1);
	size_t n = ask(w, "Cookie: a=b; stick=zz; stick=; sticky=1;stick=\"", token);
	assert_int_equal(w->attempts[n].pinned.port, 8080);
	assert_int_equal(w->attempts[n].pinned.addr.b[15], 2);
	world_answer(w, n, ok);
	assert_not_received(w, "set-cookie"); /* nothing new */
	n = ask(w, "Cookie: stick=", token);
	assert_int_equal(w->attempts[n].pinned.addr.b[15], 2);
	world_answer(w, n, ok); /* another endpoint answered: that one was not there */
	assert_non_null(given(w, "set-cookie: stick=\"", token));
	assert_int_equal(token[31], '3');
	world_free(w);
}

static void test_a_header_pins_an_endpoint(void **state)
{
	(void)state;
	struct world *w = session("x-session", true);
	char token[TOKEN + 1];
	world_connect(w);
	assert_int_equal(w->attempts[ask(w, "x-session: ", "garbage")].pinned.port, 0);
	world_answer(w, 0, "HTTP/1.1 200 OK\r\nx-session: mine\r\nContent-Length: 0\r\n\r\n");
	assert_non_null(given(w, "x-session: ", token));
	assert_not_received(w, "mine");
	assert_not_received(w, "set-cookie");
	endpoint_set(token, 1);
	size_t n = ask(w, "X-Session: ", token);
	assert_int_equal(w->attempts[n].pinned.addr.b[15], 2);
	world_answer(w, n, ok);
	assert_not_received(w, "x-session");
	world_free(w);
}

static void test_sessions_end(void **state)
{
	(void)state;
	static const struct {
		unsigned int absolute, idle, began, used;
		bool alive, renewed;
	} rows[] = {
		{ 0, 0, 1000000, 1000000, true, false },
		{ 100, 0, 90, 90, true, false },
		{ 100, 0, 110, 5, false, true },
		{ 0, 50, 1000, 40, true, true },
		{ 0, 50, 1000, 60, false, true },
		{ 100, 50, 110, 10, false, true },
		{ 0, 50, 0, 0, true, false }, /* used this second: it says so already */
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct world *w = session("x-session", true);
		char token[TOKEN + 1], old[TOKEN + 1];
		w->route->session_absolute_s = rows[i].absolute;
		w->route->session_idle_s = rows[i].idle;
		world_connect(w);
		world_answer(w, ask(w, "x-none: ", "1"), ok);
		assert_non_null(given(w, "x-session: ", token));
		endpoint_set(token, 1);
		age(token, true, false, rows[i].began);
		age(token, false, true, rows[i].used);
		memcpy(old, token, sizeof(old));
		size_t n = ask(w, "x-session: ", token);
		assert_int_equal(w->attempts[n].pinned.port != 0, rows[i].alive);
		world_answer(w, n, ok);
		if (i != 6) /* the second may have passed */
			assert_int_equal(given(w, "x-session: ", token) != NULL, rows[i].renewed);
		if (rows[i].renewed) /* one that lives keeps its beginning */
			assert_int_equal(memcmp(old + ENDPOINT + DESTINATION, token + ENDPOINT + DESTINATION, TIME) ==
						 0,
					 rows[i].alive);
		world_free(w);
	}
}

/* From the future, or used before it began: not ours. */
static void test_impossible_times_are_no_session(void **state)
{
	(void)state;
	struct world *w = session("x-session", true);
	char token[TOKEN + 1], other[TOKEN + 1];
	world_connect(w);
	world_answer(w, ask(w, "x-none: ", "1"), ok);
	given(w, "x-session: ", token);
	memcpy(other, token, sizeof(other));
	age(other, false, true, 100);
	size_t n = ask(w, "x-session: ", other);
	assert_int_equal(w->attempts[n].pinned.port, 0);
	world_answer(w, n, ok);
	memcpy(other, token, sizeof(other));
	age(other, true, true, (unsigned int)-100000);
	n = ask(w, "x-session: ", other);
	assert_int_equal(w->attempts[n].pinned.port, 0);
	world_answer(w, n, ok);
	memcpy(other, token, sizeof(other));
	other[ENDPOINT] = other[ENDPOINT] == '0' ? '1' : '0'; /* of another route or destination */
	n = ask(w, "x-session: ", other);
	assert_int_equal(w->attempts[n].pinned.port, 0);
	world_answer(w, n, ok);
	world_free(w);
}

/* GEP-1619: also when the weight is 0 now. */
static void test_a_session_counts_before_weights(void **state)
{
	(void)state;
	struct world *w = session("x-session", true);
	struct http_route *r = w->route;
	char token[TOKEN + 1];
	r->destinations = reallocarray(r->destinations, 2, sizeof(*r->destinations));
	r->destinations[r->destination_count++] = (struct http_destination){ .cluster = strdup("d") };
	world_connect(w);
	world_answer(w, ask(w, "x-none: ", "1"), ok);
	assert_string_equal(w->attempts[0].cluster, "c");
	given(w, "x-session: ", token);
	r->destinations[0].weight = 0;
	r->destinations[1].weight = r->total_weight;
	size_t n = ask(w, "x-session: ", token);
	assert_string_equal(w->attempts[n].cluster, "c");
	world_answer(w, n, ok);
	n = ask(w, "x-none: ", "1");
	assert_string_equal(w->attempts[n].cluster, "d");
	world_answer(w, n, ok);
	world_free(w);
}

static void test_a_cookie_has_the_path_of_its_rule(void **state)
{
	(void)state;
	static const struct {
		enum http_text_kind kind;
		const char *path, *cookie;
	} rows[] = {
		{ HTTP_TEXT_PATH_PREFIX, "/a", "Path=/a;" }, { HTTP_TEXT_EXACT, "/a/b", "Path=/a/b;" },
		{ HTTP_TEXT_REGEX, "/a/.*", "Path=/a;" },    { HTTP_TEXT_REGEX, "/a/b|/c", "Path=/a;" },
		{ HTTP_TEXT_REGEX, ".*", "Path=/;" },	     { HTTP_TEXT_PATH_PREFIX, "/", "Path=/;" },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct world *w = session("stick", false);
		w->route->matches = calloc(1, sizeof(*w->route->matches));
		w->route->match_count = 1;
		w->route->matches[0].path = calloc(1, sizeof(struct http_text));
		w->route->matches[0].path->kind = rows[i].kind;
		w->route->matches[0].path->text = strdup(rows[i].path);
		world_connect(w);
		world_answer(w, ask(w, "x-none: ", "1"), ok);
		if (!strstr(world_received(w), rows[i].cookie))
			fail_msg("%s: %s", rows[i].path, world_received(w));
		world_free(w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_cookie_pins_an_endpoint),
		cmocka_unit_test(test_a_header_pins_an_endpoint),
		cmocka_unit_test(test_sessions_end),
		cmocka_unit_test(test_impossible_times_are_no_session),
		cmocka_unit_test(test_a_session_counts_before_weights),
		cmocka_unit_test(test_a_cookie_has_the_path_of_its_rule),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
