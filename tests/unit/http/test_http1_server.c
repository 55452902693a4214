/* SPDX-License-Identifier: Apache-2.0 */
/* A server's connection: framing of answers, keep-alive, pipelines, tunnels, early answers, back-pressure, endings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/loop.h"
#include "agent/helper/http/tick.h"
#include "tests/unit/http/http1_fixture.h"

#define GET "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
#define GET10 "GET / HTTP/1.0\r\n\r\n"
#define HEAD "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
#define CONNECT "CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n"
#define UPGRADE "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

static void start(struct fixture *f, const char *request)
{
	fixture_server(f);
	fake_push_text(f->t, request);
	assert_non_null(f->s);
}

/* --- framing */

struct framing {
	const char *request, *head;
	int64_t cl;
	const char *body; /* NULL: none; the head ends */
	const char *said;
	bool closed;
};

static const struct framing framings[] = {
	{ GET, "200 a: b", 3, "abc", "HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 3\r\n\r\nabc", false },
	{ GET, "200 a: b", 0, NULL, "HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 0\r\n\r\n", false },
	{ GET, "404 ", -1, NULL, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", false },
	{ GET, "299 ", -1, NULL, "HTTP/1.1 299 \r\ncontent-length: 0\r\n\r\n", false },
	{ GET, "200 ", -1, "abc", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", false },
	{ GET, "200 ", -1, "", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", false },
	{ GET, "204 ", -1, NULL, "HTTP/1.1 204 No Content\r\n\r\n", false },
	{ GET, "204 ", 0, NULL, "HTTP/1.1 204 No Content\r\n\r\n", false },
	{ GET, "204 ", -1, "no", "HTTP/1.1 204 No Content\r\n\r\n", false },
	{ GET, "304 ", 5, NULL, "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", false },
	{ GET, "304 ", -1, NULL, "HTTP/1.1 304 Not Modified\r\n\r\n", false },
	{ HEAD, "200 ", 5, NULL, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", false },
	{ HEAD, "200 ", 5, "", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", false },
	{ HEAD, "200 ", -1, NULL, "HTTP/1.1 200 OK\r\n\r\n", false },
	{ HEAD, "200 ", -1, "dropped", "HTTP/1.1 200 OK\r\n\r\n", false },
	{ GET10, "200 ", 3, "abc", "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nabc", true },
	{ GET10, "200 ", -1, "abc", "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc", true },
	{ "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "200 ", 3, "abc",
	  "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: keep-alive\r\n\r\nabc", false },
	{ "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "200 ", -1, "abc",
	  "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc", true },
	{ "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "200 ", -1, "a",
	  "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n1\r\na\r\n0\r\n\r\n", true },
	/* what the codec says itself is not said twice */
	{ GET, "200 connection: close, keep-alive: 1, transfer-encoding: chunked, content-length: 9, upgrade: x, e: f",
	  1, "a", "HTTP/1.1 200 OK\r\ne: f\r\ncontent-length: 1\r\n\r\na", false },
	{ CONNECT, "403 ", -1, NULL, "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", false },
	{ UPGRADE, "403 ", 2, "no", "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno", false },
};

static void test_responses_are_framed(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(framings) / sizeof(framings[0]); i++) {
		const struct framing *c = &framings[i];
		struct fixture f;
		start(&f, c->request);
		assert_int_equal(say_head(&f, c->head, c->cl, !c->body), 0);
		if (c->body)
			assert_int_equal(say_body(&f, c->body, true), strlen(c->body));
		tick(&f);
		if (strcmp(said(&f), c->said) != 0)
			fail_msg("case %zu: %s", i, said(&f));
		assert_int_equal(f.closed, c->closed);
		if (c->closed) {
			assert_false(f.t->aborted);
		} else { /* the connection still works */
			fake_push_text(f.t, GET);
			assert_int_equal(f.requests, 2);
			fake_forget(f.t);
			say_head(&f, "200 ", 0, true);
			assert_string_equal(said(&f), "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
		}
		fixture_done(&f);
	}
}

static void test_date_is_added_once(void **state)
{
	(void)state;
	struct fixture f;
	start(&f, GET);
	say_head(&f, "200 ", 0, true);
	const char *date = strstr(f.t->out, "\r\ndate: ");
	assert_non_null(date);
	assert_memory_equal(date + 8 + 26, "GMT\r\n", 5);
	fake_forget(f.t);
	fake_push_text(f.t, GET);
	say_head(&f, "200 date: Sun", 0, true);
	assert_string_equal(f.t->out, "HTTP/1.1 200 OK\r\ndate: Sun\r\ncontent-length: 0\r\n\r\n");
	fixture_done(&f);
}

static void test_chunks_and_trailers(void **state)
{
	(void)state;
	struct fixture f;
	start(&f, GET);
	say_head(&f, "200 ", -1, false);
	char *big = malloc(70000);
	memset(big, 'x', 70000);
	assert_int_equal(say_body(&f, "", false), 0);
	assert_int_equal(say_body(&f, "0123456789abcdef", false), 16);
	assert_int_equal(say_bytes(&f, big, 70000, false), 70000);
	assert_int_equal(say_trailers(&f, "a: 1, b: 2"), 0);
	tick(&f);
	const char *out = said(&f);
	const char *want =
		"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n10\r\n0123456789abcdef\r\n11170\r\nxxx";
	assert_memory_equal(out, want, strlen(want));
	want = "xxx\r\n0\r\na: 1\r\nb: 2\r\n\r\n";
	assert_string_equal(out + strlen(out) - strlen(want), want);
	fake_push_text(f.t, GET);
	assert_int_equal(f.requests, 2);
	free(big);
	fixture_done(&f);
}

static void test_trailers_without_a_place_are_dropped(void **state)
{
	(void)state;
	struct fixture f;
	start(&f, GET);
	say_head(&f, "200 ", 1, false);
	say_body(&f, "a", false);
	assert_int_equal(say_trailers(&f, "a: 1"), 0);
	assert_string_equal(said(&f), "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na");
	tick(&f);
	assert_false(f.closed);
	fixture_done(&f);
}

static void test_wrong_length_cuts_the_connection(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++) {
		struct fixture f;
		start(&f, GET);
		if (i == 0) {
			say_head(&f, "200 ", 3, false);
			say_body(&f, "abcd", true);
		} else if (i == 1) {
			say_head(&f, "200 ", 3, false);
			say_body(&f, "ab", true);
		} else if (i == 2) {
			assert_int_equal(say_head(&f, "200 ", 3, true), -EPIPE);
		} else {
			assert_int_equal(say_head(&f, "101 ", -1, false), -EPIPE); /* nobody asked */
			assert_string_equal(said(&f), "");
		}
		tick(&f);
		assert_true(f.closed && f.t->aborted);
		assert_string_equal(f.log.p, "GET / a end\nreset=5\nclosed\n");
		fixture_done(&f);
	}
}

static void test_interim_responses(void **state)
{
	(void)state;
	struct fixture f;
	start(&f, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
	say_head(&f, "100 ", -1, false);
	say_head(&f, "103 link: x", -1, false);
	fake_push_text(f.t, "ab");
	say_head(&f, "200 ", 0, true);
	assert_string_equal(said(&f), "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
				      "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
	tick(&f);
	assert_false(f.closed);
	fixture_done(&f);

	start(&f, GET10);
	say_head(&f, "103 link: x", -1, false);
	assert_string_equal(said(&f), "");
	fixture_done(&f);
}

/* RFC 9110 10.1.1: the body may or may not come. */
static void test_final_answer_instead_of_continue_closes(void **state)
{
	(void)state;
	struct fixture f;
	start(&f, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
	say_head(&f, "403 ", 0, true);
	say_reset(&f, HTTP_RESET_NO_ERROR);
	tick(&f);
	assert_string_equal(said(&f), "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
	assert_true(f.closed && !f.t->aborted);
	fixture_done(&f);
}

/* --- pipelines */

static void test_pipelined_requests_wait_for_the_answer(void **state)
{
	(void)state;
	struct fixture f;
	start(&f, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nxGET /3 "
		  "HTTP/1.1\r\n"
		  "Host: a\r\n\r\n");
	assert_int_equal(f.requests, 1);
	say_head(&f, "200 ", 0, true);
	assert_int_equal(f.requests, 1); /* never from inside */
	tick(&f);
	assert_int_equal(f.requests, 2);
	assert_string_equal(f.log.p, "GET /1 a end\nPOST /2 a cl=1\nbody=x\n");
	say_head(&f, "200 ", -1, false);
	tick(&f);
	assert_int_equal(f.requests, 2);
	say_body(&f, "", true);
	tick(&f);
	assert_int_equal(f.requests, 3);
	say_head(&f, "200 ", 0, true);
	tick(&f);
	assert_int_equal(f.t->kept_len, 0);
	fixture_done(&f);
}

static void test_pipeline_whose_answers_are_not_read_stops(void **state)
{
	(void)state;
	struct fixture f;
	fixture_server(&f);
	f.answer = true;
	f.t->hold = true;
	f.t->limit = 1000;
	for (int i = 0; i < 100; i++)
		fake_push_text(f.t, GET);
	tick(&f);
	unsigned int before = f.requests;
	assert_true(before < 20);
	assert_true(f.t->kept_len > 50 * strlen(GET));
	for (int i = 0; i < 200 && f.requests < 100; i++)
		fake_drain(f.t);
	assert_int_equal(f.requests, 100);
	fake_drain(f.t);
	f.t->hold = false;
	size_t count = 0;
	for (const char *p = f.t->out; (p = strstr(p, "HTTP/1.1 200 OK\r\nx: y\r\ndate: ")); p++)
		count++;
	assert_int_equal(count, 100);
	fixture_done(&f);
}

static void test_max_requests_ends_politely(void **state)
{
	(void)state;
	struct http_limits limits = http_limits_default;
	limits.max_requests = 2;
	struct fixture f;
	fixture_server_with(&f, &limits);
	f.answer = true;
	fake_push_text(f.t, GET GET GET);
	tick(&f);
	assert_int_equal(f.requests, 2);
	assert_non_null(strstr(said(&f), "content-length: 0\r\nconnection: close\r\n\r\n"));
	assert_true(f.closed && !f.t->aborted);
	fixture_done(&f);
}

static void test_drain(void **state)
{
	(void)state;
	struct fixture f;
	start(&f, GET); /* in an exchange: says so in the answer */
	http_conn_drain(f.conn);
	tick(&f);
	assert_false(f.closed);
	say_head(&f, "200 ", 0, true);
	tick(&f);
	assert_string_equal(said(&f), "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
	assert_true(f.closed && !f.t->aborted);
	fixture_done(&f);

	fixture_server(&f); /* idle: a request on its way is answered */
	f.answer = true;
	fake_push_text(f.t, GET);
	http_conn_drain(f.conn);
	assert_false(f.closed);
	fake_push_text(f.t, GET);
	tick(&f);
	assert_true(f.closed);
	assert_non_null(strstr(said(&f), "connection: close\r\n"));
	fixture_done(&f);

	fixture_server(&f); /* idle, and nothing comes */
	f.answer = true;
	fake_push_text(f.t, GET);
	http_conn_drain(f.conn);
	tick_advance(f.loop, 2500);
	assert_true(f.closed && !f.t->aborted);
	fixture_done(&f);

	start(&f, GET); /* the head is out already */
	say_head(&f, "200 ", 1, false);
	http_conn_drain(f.conn);
	say_body(&f, "a", true);
	tick(&f);
	assert_false(f.closed);
	tick_advance(f.loop, 2500);
	assert_true(f.closed && !f.t->aborted);
	fixture_done(&f);
}

/* --- answers before the request's end */

#define POST_BIG(n) "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " #n "\r\n\r\n"

static void test_early_answer_small_rest_is_read_away(void **state)
{
	(void)state;
	struct fixture f;
	start(&f, POST_BIG(1000) "abc");
	say_head(&f, "403 ", 0, true);
	say_reset(&f, HTTP_RESET_NO_ERROR);
	tick(&f);
	char rest[997];
	memset(rest, 'r', sizeof(rest));
	fake_push(f.t, rest, sizeof(rest));
	fake_push_text(f.t, GET);
	tick(&f);
	assert_int_equal(f.requests, 2);
	assert_string_equal(said(&f), "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
	assert_false(f.closed);
	fixture_done(&f);
}

static void test_early_answer_large_rest_closes(void **state)
{
	(void)state;
	struct fixture f;
	start(&f, POST_BIG(100000) "abc");
	say_head(&f, "403 ", 0, true);
	say_reset(&f, HTTP_RESET_NO_ERROR);
	tick(&f);
	assert_string_equal(said(&f), "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
	assert_true(f.closed && !f.t->aborted);
	fixture_done(&f);
}

static void test_early_answer_chunked_rest_is_bounded(void **state)
{
	(void)state;
	struct fixture f;
	start(&f, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
	say_head(&f, "403 ", 0, true);
	say_reset(&f, HTTP_RESET_NO_ERROR);
	tick(&f);
	for (int i = 0; i < 10000 && !f.closed; i++) {
		assert_true(i < 4000);
		fake_push_text(f.t, "10\r\n0123456789abcdef\r\n");
	}
	assert_true(f.closed && !f.t->aborted);
	fixture_done(&f);
}

static void test_early_answer_rest_that_does_not_come(void **state)
{
	(void)state;
	struct fixture f;
	start(&f, POST_BIG(10) "abc");
	say_head(&f, "403 ", 0, true);
	say_reset(&f, HTTP_RESET_NO_ERROR);
	tick_advance(f.loop, 3000);
	assert_true(f.closed && !f.t->aborted);
	fixture_done(&f);
}

/* A user that goes on reading: both directions at once. */
static void test_answer_during_the_request(void **state)
{
	(void)state;
	struct fixture f;
	start(&f, POST_BIG(4) "a");
	say_head(&f, "200 ", -1, false);
	say_body(&f, "A", false);
	fake_push_text(f.t, "b");
	say_body(&f, "B", true);
	tick(&f);
	assert_false(f.closed);
	fake_push_text(f.t, "cd" GET);
	assert_string_equal(f.log.p, "POST / a cl=4\nbody=abcd\nGET / a end\n");
	fixture_done(&f);
}

/* --- tunnels */

static void test_upgrade_passes_raw_bytes(void **state)
{
	(void)state;
	struct fixture f;
	start(&f, UPGRADE "early");
	assert_string_equal(f.log.p, "GET /ws a [connection: Upgrade] [upgrade: websocket] upgrade=websocket\n");
	say_head(&f, "101 +websocket x: y", -1, false);
	tick(&f);
	assert_string_equal(
		said(&f),
		"HTTP/1.1 101 Switching Protocols\r\nx: y\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
	fake_push_text(f.t, " late" GET);
	say_body(&f, "down", false);
	assert_int_equal(f.requests, 1);
	fake_push_end(f.t); /* half closed: the other half goes on */
	assert_non_null(strstr(f.log.p, "body=early late" GET));
	assert_false(f.closed);
	say_body(&f, " and out", true);
	tick(&f);
	assert_non_null(strstr(said(&f), "\r\n\r\ndown and out"));
	assert_true(f.closed && !f.t->aborted);
	fixture_done(&f);
}

static void test_upgrade_our_half_ends_first(void **state)
{
	(void)state;
	struct fixture f;
	start(&f, UPGRADE);
	say_head(&f, "101 +websocket", -1, false);
	say_body(&f, "bye", true);
	tick(&f);
	assert_true(f.t->ended && !f.closed);
	fake_push_text(f.t, "rest");
	fake_push_end(f.t);
	tick(&f);
	assert_non_null(strstr(f.log.p, "body=rest\n"));
	assert_true(f.closed && !f.t->aborted);
	fixture_done(&f);
}

static void test_half_of_a_tunnel_ends_behind_what_is_kept(void **state)
{
	(void)state;
	struct fixture f;
	start(&f, UPGRADE);
	f.t->hold = true;
	f.t->limit = 10;
	say_head(&f, "101 +websocket", -1, false);
	say_body(&f, "", true);
	assert_false(f.t->ended);
	for (int i = 0; i < 100 && !f.t->ended; i++)
		fake_drain(f.t);
	assert_true(f.t->ended);
	assert_string_equal(said(&f),
			    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
	fixture_done(&f);
}

static void test_connect_passes_raw_bytes(void **state)
{
	(void)state;
	struct fixture f;
	start(&f, CONNECT "tls");
	assert_string_equal(f.log.p, "CONNECT  b:443\n");
	say_head(&f, "200 ", -1, false);
	tick(&f);
	assert_string_equal(said(&f), "HTTP/1.1 200 OK\r\n\r\n");
	fake_push_end(f.t);
	assert_string_equal(f.log.p, "CONNECT  b:443\nbody=tls\n");
	fixture_done(&f);
}

/* Until the end of the connection, and yet no tunnel. */
static void test_refused_connect_of_an_old_client(void **state)
{
	(void)state;
	struct fixture f;
	start(&f, "CONNECT b:443 HTTP/1.0\r\n\r\nmore");
	say_head(&f, "403 ", -1, false);
	tick(&f);
	say_body(&f, "no", true);
	tick(&f);
	assert_string_equal(said(&f), "HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\nno");
	assert_string_equal(f.log.p, "CONNECT  b:443 1.0\nbody=\nclosed\n");
	fixture_done(&f);
}

static void test_refused_tunnel_what_follows_is_a_request(void **state)
{
	(void)state;
	struct fixture f;
	start(&f, UPGRADE GET);
	say_head(&f, "401 ", 0, true);
	assert_int_equal(f.requests, 1);
	tick(&f);
	assert_string_equal(
		f.log.p,
		"GET /ws a [connection: Upgrade] [upgrade: websocket] upgrade=websocket\nbody=\nGET / a end\n");
	fixture_done(&f);

	start(&f, UPGRADE GET); /* the same when the user lets go at once */
	say_head(&f, "401 ", 0, true);
	say_reset(&f, HTTP_RESET_NO_ERROR);
	tick(&f);
	assert_int_equal(f.requests, 2);
	assert_false(f.closed);
	fixture_done(&f);
}

/* --- back-pressure */

static void test_body_not_taken_stays_with_the_transport(void **state)
{
	(void)state;
	static const char *const requests[] = {
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789" GET,
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
		"chunked\r\n\r\n4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n" GET,
	};
	for (size_t i = 0; i < 2; i++) {
		struct fixture f;
		fixture_server(&f);
		f.body_limit = 0;
		fake_push_text(f.t, requests[i]);
		for (size_t n = 1; n <= 10; n++) {
			assert_int_equal(f.taken, n - 1);
			f.body_limit = n;
			stream_resume(f.s);
			stream_resume(f.s);
		}
		assert_string_equal(f.log.p, i ? "POST / a\nbody=0123456789\n" : "POST / a cl=10\nbody=0123456789\n");
		f.body_limit = 10;
		say_head(&f, "200 ", 0, true);
		tick(&f);
		assert_int_equal(f.requests, 2);
		fixture_done(&f);
	}
}

static size_t taken_in_all;

/* Takes one byte a call and asks for more from inside. */
static size_t sip(struct http_stream *s, const uint8_t *bytes, size_t len, bool end)
{
	(void)bytes;
	(void)end;
	taken_in_all += len > 0;
	stream_resume(s);
	return len > 0;
}

static void test_resume_from_inside_goes_on(void **state)
{
	(void)state;
	struct fixture f;
	fixture_server(&f);
	fake_push_text(f.t, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n");
	struct http_stream_events events = *f.s->events;
	events.on_body = sip;
	f.s->events = &events;
	taken_in_all = 0;
	fake_push_text(f.t, "0123456789" GET);
	for (int i = 0; i < 20; i++)
		tick(&f);
	assert_int_equal(taken_in_all, 10);
	say_head(&f, "200 ", 0, true);
	tick(&f);
	assert_int_equal(f.requests, 2);
	fixture_done(&f);
}

/* Sends all of a body through a transport with room for `limit` bytes at a time. */
static void squeeze(int64_t cl, size_t limit, size_t len)
{
	struct fixture f;
	start(&f, GET);
	f.t->hold = true;
	f.t->limit = limit;
	char *body = malloc(len);
	for (size_t i = 0; i < len; i++)
		body[i] = (char)('a' + i % 26);
	assert_int_equal(say_head(&f, "200 ", cl, false), 0);
	size_t sent = 0;
	unsigned int rooms = 0;
	for (int i = 0; sent < len && i < 100000; i++) {
		size_t part = len - sent < 1000 ? len - sent : 1000;
		size_t n = say_bytes(&f, body + sent, part, sent + part == len);
		sent += n;
		if (n < part) {
			for (int k = 0; k < 1000 && f.rooms == rooms; k++)
				fake_drain(f.t);
			assert_true(f.rooms > rooms);
			rooms = f.rooms;
		}
	}
	assert_int_equal(sent, len);
	assert_true(rooms > 0);
	for (int k = 0; k < 1000 && f.t->queued; k++)
		fake_drain(f.t);
	tick(&f);
	assert_false(f.closed);

	/* What came out, taken apart again. */
	const char *p = strstr(f.t->out, "\r\n\r\n") + 4;
	size_t got = 0;
	if (cl >= 0) {
		got = f.t->out_len - (size_t)(p - f.t->out);
		assert_memory_equal(p, body, len);
	} else {
		for (;;) {
			char *end;
			size_t n = strtoul(p, &end, 16);
			assert_memory_equal(end, "\r\n", 2);
			if (n == 0)
				break;
			assert_memory_equal(end + 2, body + got, n);
			got += n;
			assert_memory_equal(end + 2 + n, "\r\n", 2);
			p = end + 2 + n + 2;
		}
		assert_string_equal(p, "0\r\n\r\n");
	}
	assert_int_equal(got, len);
	f.t->hold = false;
	fake_push_text(f.t, GET);
	assert_int_equal(f.requests, 2);
	free(body);
	fixture_done(&f);
}

static void test_body_through_a_narrow_transport(void **state)
{
	(void)state;
	static const size_t limits[] = { 1,  2,	 3,  4,	 5,   6,   7,	 8,    9,    10,  11,
					 12, 13, 50, 99, 100, 999, 1000, 1003, 1007, 4096 };
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		size_t len = limits[i] < 20 ? 3000 : 50000;
		squeeze((int64_t)len, limits[i], len);
		squeeze(-1, limits[i], len);
	}
}

static void test_close_waits_for_what_is_kept(void **state)
{
	(void)state;
	struct fixture f;
	start(&f, GET10);
	f.t->hold = true;
	f.t->limit = 10;
	say_head(&f, "200 a: b", 0, true);
	tick(&f);
	assert_false(f.closed);
	for (int i = 0; i < 100 && !f.closed; i++)
		fake_drain(f.t);
	assert_true(f.closed && !f.t->aborted);
	assert_string_equal(said(&f), "HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
	fixture_done(&f);

	start(&f, GET10); /* but not for ever */
	f.t->hold = true;
	f.t->limit = 10;
	say_head(&f, "200 a: b", 0, true);
	tick(&f);
	tick_advance(f.loop, 6000);
	assert_true(f.closed && f.t->aborted);
	fixture_done(&f);
}

/* --- endings */

static void test_client_goes_away(void **state)
{
	(void)state;
	static const char *const when[] = { GET, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na", UPGRADE };
	for (size_t i = 0; i < 3; i++) {
		for (int how = 0; how < 2; how++) {
			struct fixture f;
			start(&f, when[i]);
			if (how)
				fake_break(f.t, -ECONNRESET);
			else
				fake_push_end(f.t);
			assert_non_null(strstr(f.log.p, "reset=5\nclosed\n"));
			assert_true(f.t->aborted);
			fixture_done(&f);
		}
	}
	struct fixture f;
	fixture_server(&f); /* between requests it is no error, in a head neither */
	fake_push_text(f.t, "GET / HT");
	fake_push_end(f.t);
	assert_string_equal(f.log.p, "closed\n");
	assert_false(f.t->aborted);
	fixture_done(&f);
}

static void test_reset_by_the_user_cuts(void **state)
{
	(void)state;
	for (int begun = 0; begun < 2; begun++) {
		struct fixture f;
		start(&f, GET);
		if (begun)
			say_head(&f, "200 ", -1, false);
		say_reset(&f, HTTP_RESET_CANCEL);
		tick(&f);
		assert_true(f.closed && f.t->aborted);
		assert_string_equal(f.log.p, "GET / a end\nclosed\n");
		fixture_done(&f);
	}
}

static void test_close_by_the_user(void **state)
{
	(void)state;
	struct fixture f;
	start(&f, GET GET);
	http_conn_close(f.conn);
	assert_string_equal(f.log.p, "GET / a end\nreset=1\nclosed\n");
	assert_true(f.t->aborted);
	tick(&f);
	fixture_done(&f);
}

static void test_preserve_case(void **state)
{
	(void)state;
	struct http_limits limits = http_limits_default;
	limits.preserve_case = true;
	struct fixture f;
	fixture_server_with(&f, &limits);
	fake_push_text(f.t, "GET / HTTP/1.1\r\nhOST: a\r\nX-MiXeD: 1\r\nACCEPT-encoding: x\r\n\r\n");
	assert_string_equal(f.log.p, "GET / a [X-MiXeD: 1] [ACCEPT-encoding: x] end\n");
	struct http_head *h = head_of("200 x-mixed: 1, y: 2", 0);
	h->fields[0].as_sent = "X-MiXeD";
	http_head_spell(h, HTTP_SPELT_CONTENT_LENGTH, "Content-LENGTH", 14);
	http_head_spell(h, HTTP_SPELT_CONNECTION, "no name of that length", 22); /* nothing is remembered */
	struct http_head *copy = http_head_copy(h);
	http_head_free(h);
	stream_send_head(f.s, copy, true);
	http_head_free(copy);
	assert_string_equal(said(&f), "HTTP/1.1 200 OK\r\nX-MiXeD: 1\r\ny: 2\r\nContent-LENGTH: 0\r\n\r\n");
	fixture_done(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_responses_are_framed),
		cmocka_unit_test(test_date_is_added_once),
		cmocka_unit_test(test_chunks_and_trailers),
		cmocka_unit_test(test_trailers_without_a_place_are_dropped),
		cmocka_unit_test(test_wrong_length_cuts_the_connection),
		cmocka_unit_test(test_interim_responses),
		cmocka_unit_test(test_final_answer_instead_of_continue_closes),
		cmocka_unit_test(test_pipelined_requests_wait_for_the_answer),
		cmocka_unit_test(test_pipeline_whose_answers_are_not_read_stops),
		cmocka_unit_test(test_max_requests_ends_politely),
		cmocka_unit_test(test_drain),
		cmocka_unit_test(test_early_answer_small_rest_is_read_away),
		cmocka_unit_test(test_early_answer_large_rest_closes),
		cmocka_unit_test(test_early_answer_chunked_rest_is_bounded),
		cmocka_unit_test(test_early_answer_rest_that_does_not_come),
		cmocka_unit_test(test_answer_during_the_request),
		cmocka_unit_test(test_upgrade_passes_raw_bytes),
		cmocka_unit_test(test_upgrade_our_half_ends_first),
		cmocka_unit_test(test_connect_passes_raw_bytes),
		cmocka_unit_test(test_refused_connect_of_an_old_client),
		cmocka_unit_test(test_refused_tunnel_what_follows_is_a_request),
		cmocka_unit_test(test_body_not_taken_stays_with_the_transport),
		cmocka_unit_test(test_resume_from_inside_goes_on),
		cmocka_unit_test(test_half_of_a_tunnel_ends_behind_what_is_kept),
		cmocka_unit_test(test_body_through_a_narrow_transport),
		cmocka_unit_test(test_close_waits_for_what_is_kept),
		cmocka_unit_test(test_client_goes_away),
		cmocka_unit_test(test_reset_by_the_user_cuts),
		cmocka_unit_test(test_close_by_the_user),
		cmocka_unit_test(test_preserve_case),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
