/* SPDX-License-Identifier: Apache-2.0 */
/* A client's connection: what is sent, how answers are framed, which are refused, when it may be used again. */
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

#define OK0 "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

/* --- requests */

struct request {
	const char *head;
	int64_t cl;
	const char *body; /* NULL: the head ends */
	const char *said;
};

static const struct request requests[] = {
	{ "GET /x?y a:80 k: v", -1, NULL, "GET /x?y HTTP/1.1\r\nhost: a:80\r\nk: v\r\n\r\n" },
	{ "GET / a host: b, connection: close, content-length: 7", -1, NULL, "GET / HTTP/1.1\r\nhost: a\r\n\r\n" },
	{ "DELETE / a", 0, NULL, "DELETE / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n" },
	{ "POST / a", -1, NULL, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n" },
	{ "PUT / a", 3, "abc", "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc" },
	{ "POST / a", -1, "abc",
	  "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" },
	{ "OPTIONS * a", -1, NULL, "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n" },
};

static void test_requests_are_framed(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		const struct request *r = &requests[i];
		struct fixture f;
		fixture_client(&f);
		assert_int_equal(http_conn_capacity(f.conn), 1);
		assert_int_equal(ask(&f, r->head, r->cl, !r->body), 0);
		assert_int_equal(http_conn_capacity(f.conn), 0);
		struct http_stream *other;
		assert_int_equal(http_client_open(f.conn, NULL, NULL, &other), -EAGAIN);
		if (r->body)
			assert_int_equal(say_body(&f, r->body, true), strlen(r->body));
		if (strcmp(said(&f), r->said) != 0)
			fail_msg("case %zu: %s", i, said(&f));
		fake_push_text(f.t, OK0);
		assert_string_equal(f.log.p, "200 cl=0 end\n");
		assert_int_equal(f.capacities, 1);
		assert_int_equal(http_conn_capacity(f.conn), 1);
		fixture_done(&f);
	}
}

static void test_heads_that_would_break_the_line(void **state)
{
	(void)state;
	static const char *const heads[][3] = {
		{ "GET", "/a b", "a" },	  { "GET", "/a\r\nx: y", "a" }, { "G T", "/", "a" },
		{ "GET", "/", "a\r\nb" }, { "GET", "/", "a b" },	{ "", "/", "a" },
	};
	static const struct http_stream_events none = { 0 };
	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		struct fixture f;
		fixture_client(&f);
		struct http_head *h = http_head_new();
		h->method = http_head_text(h, heads[i][0], strlen(heads[i][0]));
		h->path = http_head_text(h, heads[i][1], strlen(heads[i][1]));
		h->authority = http_head_text(h, heads[i][2], strlen(heads[i][2]));
		http_client_open(f.conn, &none, NULL, &f.s);
		assert_int_equal(stream_send_head(f.s, h, true), -EPIPE);
		assert_string_equal(f.t->out, "");
		stream_reset(f.s, HTTP_RESET_CANCEL);
		http_head_free(h);
		fixture_done(&f);
	}
}

/* --- answers */

struct answer {
	const char *method;
	const char *bytes;
	bool end; /* the peer ends after them */
	const char *log;
	bool reusable;
};

#define RESET(n) "reset=" #n "\nclosed\n"

static const struct answer answers[] = {
	{ "GET", OK0, false, "200 cl=0 end\n", true },
	{ "GET", "HTTP/1.1 200\r\nContent-Length: 3\r\n\r\nabc", false, "200 cl=3\nbody=abc\n", true },
	{ "GET", "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n", false,
	  "200\nbody=abcd\n", true },
	{ "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\na\r\n0\r\nT: v\r\n\r\n", false,
	  "200\nbody=a\ntrailers [t: v]\n", true },
	{ "GET", "HTTP/1.1 200 OK\r\nX: y\r\n\r\nuntil the end", true, "200 [x: y]\nbody=until the end\nclosed\n",
	  false },
	{ "GET", "HTTP/1.1 200 OK\r\n\r\n", true, "200\nbody=\nclosed\n", false },
	{ "GET", "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", false, "200 1.0 cl=1\nbody=a\nclosed\n", false },
	{ "GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na", false,
	  "200 1.0 [connection: keep-alive] cl=1\nbody=a\n", true },
	{ "GET", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na", false,
	  "200 [connection: close] cl=1\nbody=a\nclosed\n", false },
	{ "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false, "200 cl=5 end\n", true },
	{ "HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false, "200 end\n", true },
	{ "GET", "HTTP/1.1 204 No Content\r\n\r\n", false, "204 end\n", true },
	{ "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", false, "304 cl=5 end\n", true },
	{ "GET", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" OK0, false,
	  "103 [link: x]\n102\n200 cl=0 end\n", true },
	{ "GET", "HTTP/1.1 100 Continue\r\n\r\n" OK0, false, "200 cl=0 end\n", true }, /* not expected */
	{ "GET", "HTTP/1.1 999 \xc3\xa9 and more\r\nContent-Length: 0\r\n\r\n", false, "999 cl=0 end\n", true },
	/* more than the answer */
	{ "GET", OK0 "x", false, "200 cl=0 end\nclosed\n", false },
	{ "GET", OK0 OK0, false, "200 cl=0 end\nclosed\n", false },
	{ "GET", OK0 "\r\n", false, "200 cl=0 end\nclosed\n", false },
	{ "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", false, "200 cl=1 end\nclosed\n", false },
	{ "GET", "HTTP/1.1 204 No Content\r\nContent-Length: 1\r\n\r\na", false, "204 end\nclosed\n", false },
	/* less */
	{ "GET", "", true, RESET(5), false },
	{ "GET", "HTTP/1.1 200 OK\r\n", true, RESET(5), false },
	{ "GET", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", true, "200 cl=3\n" RESET(5), false },
	{ "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", true, "200\n" RESET(5), false },
	{ "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", true, "200\n" RESET(5),
	  false },
	/* what is no answer */
	{ "GET", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", false, RESET(4), false },
	{ "GET", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", false, RESET(4), false },
	{ "GET", "HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\na", false, RESET(4), false },
	{ "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", false, RESET(4), false },
	{ "GET", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false, RESET(4), false },
	{ "GET", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", false, RESET(4), false },
	{ "GET", "HTTP/1.1 200 OK\r\nX : a\r\n\r\n", false, RESET(4), false },
	{ "GET", "HTTP/1.1 200 OK\nX: a\n\n", false, RESET(4), false },
	{ "GET", "HTTP/1.1 20 OK\r\n\r\n", false, RESET(4), false },
	{ "GET", "HTTP/1.1 2000 OK\r\n\r\n", false, RESET(4), false },
	{ "GET", "HTTP/1.1 099 OK\r\n\r\n", false, RESET(4), false },
	{ "GET", "HTTP/1.1  200 OK\r\n\r\n", false, RESET(4), false },
	{ "GET", "HTTP/2.0 200 OK\r\n\r\n", false, RESET(4), false },
	{ "GET", "HTTP/1.2 200 OK\r\n\r\n", false, RESET(4), false },
	{ "GET", "ICY 200 OK\r\n\r\n", false, RESET(4), false },
	{ "GET", "\r\nHTTP/1.1 200 OK\r\n\r\n", false, RESET(4), false },
	{ "GET", "<html>hello</html>\r\n", false, RESET(4), false },
	{ "GET", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", false, RESET(4), false }, /* not asked for */
	{ "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\na\r\n", false, "200\n" RESET(4), false },
	{ "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 1\r\n\r\n", false,
	  "200\n" RESET(4), false },
};

static void run(struct fixture *f, const struct answer *a, int how)
{
	char head[64];
	fixture_client(f);
	snprintf(head, sizeof(head), "%s / a", a->method);
	assert_int_equal(ask(f, head, -1, true), 0);
	if (how == 0)
		fake_push_text(f->t, a->bytes);
	else if (how == 1)
		fake_push_pieces(f->t, a->bytes, strlen(a->bytes), 1);
	else
		fake_push_random(f->t, a->bytes, strlen(a->bytes), (unsigned int)how);
	if (a->end)
		fake_push_end(f->t);
	tick(f);
}

static void test_answers(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		for (int how = 0; how < 10; how++) {
			struct fixture f;
			run(&f, &answers[i], how);
			if (strcmp(f.log.p, answers[i].log) != 0)
				fail_msg("case %zu, split %d: %s instead of %s", i, how, f.log.p, answers[i].log);
			assert_int_equal(f.closed, !answers[i].reusable);
			if (!f.closed) { /* another one */
				assert_int_equal(http_conn_capacity(f.conn), 1);
				assert_int_equal(ask(&f, "GET /2 a", -1, true), 0);
				fake_push_text(f.t, OK0);
				assert_non_null(strstr(f.log.p + strlen(answers[i].log), "200 cl=0 end\n"));
			}
			fixture_done(&f);
		}
	}
}

/* Cut after each of its bytes, an answer is never taken for whole; nor when the end is a reset. */
static void test_answers_cut_at_each_byte(void **state)
{
	(void)state;
	static const char *const whole[] = {
		"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 10\r\n\r\n0123456789",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\n01234\r\n5\r\n56789\r\n0\r\nT: v\r\n\r\n",
	};
	for (size_t i = 0; i < 2; i++) {
		for (size_t n = 0; n < strlen(whole[i]); n++) {
			for (int broken = 0; broken < 2; broken++) {
				struct fixture f;
				fixture_client(&f);
				ask(&f, "GET / a", -1, true);
				fake_push(f.t, whole[i], n);
				if (broken)
					fake_break(f.t, -ECONNRESET);
				else
					fake_push_end(f.t);
				assert_null(strstr(f.log.p, "body="));
				assert_null(strstr(f.log.p, "end\n"));
				assert_non_null(strstr(f.log.p, "reset=5\nclosed\n"));
				fixture_done(&f);
			}
		}
	}
}

static void test_answer_head_too_large(void **state)
{
	(void)state;
	struct fixture f;
	fixture_client(&f);
	ask(&f, "GET / a", -1, true);
	fake_push_text(f.t, "HTTP/1.1 200 OK\r\n");
	for (int i = 0; i < 101; i++)
		fake_push_text(f.t, "a: b\r\n");
	assert_string_equal(f.log.p, "reset=6\nclosed\n");
	fixture_done(&f);
}

static void test_endless_interim_answers(void **state)
{
	(void)state;
	struct fixture f;
	fixture_client(&f);
	ask(&f, "GET / a", -1, true);
	for (int i = 0; i < 1000 && !f.closed; i++) {
		assert_true(i < 40);
		fake_push_text(f.t, "HTTP/1.1 103 Early Hints\r\n\r\n");
	}
	assert_non_null(strstr(f.log.p, "reset=4\nclosed\n"));
	fixture_done(&f);
}

static void test_continue_is_passed_on_when_expected(void **state)
{
	(void)state;
	static const struct http_stream_events none = { 0 };
	struct fixture f;
	fixture_client(&f);
	ask(&f, "GET / a", -1, true);
	fake_push_text(f.t, OK0);
	const struct http_stream_events *events = f.s->events;
	struct http_head *h = head_of("POST / a", 3);
	h->expect_continue = true;
	(void)none;
	assert_int_equal(http_client_open(f.conn, events, &f, &f.s), 0);
	fake_forget(f.t);
	stream_send_head(f.s, h, false);
	http_head_free(h);
	assert_string_equal(said(&f),
			    "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n");
	fake_push_text(f.t, "HTTP/1.1 100 Continue\r\n\r\n");
	say_body(&f, "abc", true);
	fake_push_text(f.t, OK0);
	assert_string_equal(f.log.p, "200 cl=0 end\n100\n200 cl=0 end\n");
	fixture_done(&f);
}

/* --- reuse */

static void test_bytes_on_an_idle_connection_close_it(void **state)
{
	(void)state;
	struct fixture f;
	fixture_client(&f);
	fake_push_text(f.t, OK0);
	assert_string_equal(f.log.p, "closed\n");
	fixture_done(&f);

	/* Nor are they the answer to a request that is about to be sent. */
	fixture_client(&f);
	ask(&f, "GET / a", -1, true);
	fake_push_text(f.t, OK0);
	const struct http_stream_events *events = f.s->events;
	assert_int_equal(http_client_open(f.conn, events, &f, &f.s), 0);
	fake_push_text(f.t, OK0);
	assert_string_equal(f.log.p, "200 cl=0 end\nreset=2\nclosed\n"); /* REFUSED: certainly not processed */
	fixture_done(&f);
}

static void test_idle_connection_ended_by_the_peer(void **state)
{
	(void)state;
	struct fixture f;
	fixture_client(&f);
	ask(&f, "GET / a", -1, true);
	fake_push_text(f.t, OK0);
	fake_push_end(f.t);
	assert_string_equal(f.log.p, "200 cl=0 end\nclosed\n");
	fixture_done(&f);
}

/* It was closed while it lay idle, as the next request went out; or in the answer, which is another matter. */
static void test_used_connection_ended_by_the_peer(void **state)
{
	(void)state;
	static const struct {
		const char *came, *log;
	} cases[] = {
		{ "", "200 cl=0 end\nreset=8\nclosed\n" },
		{ "H", "200 cl=0 end\nreset=5\nclosed\n" },
		{ "HTTP/1.1 103 Early Hints\r\n\r\n", "200 cl=0 end\n103\nreset=5\nclosed\n" },
	};
	for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
		struct fixture f;
		fixture_client(&f);
		ask(&f, "GET / a", -1, true);
		fake_push_text(f.t, OK0);
		assert_int_equal(ask(&f, "GET / a", -1, true), 0);
		fake_push_text(f.t, cases[i / 2].came);
		if (i % 2)
			fake_push_end(f.t);
		else
			fake_break(f.t, -ECONNRESET);
		assert_string_equal(f.log.p, cases[i / 2].log);
		fixture_done(&f);
	}
}

static void test_idle_timeout_and_drain(void **state)
{
	(void)state;
	struct http_limits limits = http_limits_default;
	limits.idle_timeout_ms = 10000;
	struct fixture f;
	fixture_client_with(&f, &limits);
	tick_advance(f.loop, 9000);
	ask(&f, "GET / a", -1, true);
	tick_advance(f.loop, 30000); /* an answer may take its time */
	assert_false(f.closed);
	fake_push_text(f.t, OK0);
	tick_advance(f.loop, 9000);
	assert_false(f.closed);
	tick_advance(f.loop, 12000);
	assert_true(f.closed);
	fixture_done(&f);

	fixture_client(&f);
	ask(&f, "GET / a", -1, true);
	http_conn_drain(f.conn);
	tick(&f);
	assert_false(f.closed);
	fake_push_text(f.t, OK0);
	tick(&f);
	assert_string_equal(f.log.p, "200 cl=0 end\nclosed\n");
	fixture_done(&f);

	fixture_client(&f);
	http_conn_drain(f.conn);
	assert_int_equal(http_conn_capacity(f.conn), 0);
	tick(&f);
	assert_true(f.closed && !f.t->aborted);
	fixture_done(&f);
}

static void test_max_requests(void **state)
{
	(void)state;
	struct http_limits limits = http_limits_default;
	limits.max_requests = 2;
	struct fixture f;
	fixture_client_with(&f, &limits);
	ask(&f, "GET /1 a", -1, true);
	fake_push_text(f.t, OK0);
	ask(&f, "GET /2 a", -1, true);
	fake_push_text(f.t, OK0);
	assert_int_equal(http_conn_capacity(f.conn), 0);
	tick(&f);
	assert_string_equal(
		said(&f), "GET /1 HTTP/1.1\r\nhost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
	assert_true(f.closed && !f.t->aborted);
	fixture_done(&f);
}

/* --- both directions */

static void test_answer_before_the_request_ends(void **state)
{
	(void)state;
	struct fixture f;
	fixture_client(&f);
	ask(&f, "POST / a", 4, false);
	say_body(&f, "ab", false);
	fake_push_text(f.t, "HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno");
	assert_string_equal(f.log.p, "413 cl=2\nbody=no\n");
	assert_int_equal(http_conn_capacity(f.conn), 0);
	say_body(&f, "cd", true); /* the user finishes: it can be used again */
	tick(&f);
	assert_int_equal(f.capacities, 1);
	assert_int_equal(http_conn_capacity(f.conn), 1);
	ask(&f, "POST / a", 4, false);
	fake_push_text(f.t, OK0);
	say_reset(&f, HTTP_RESET_NO_ERROR); /* or not: then it can't */
	tick(&f);
	assert_true(f.closed && !f.t->aborted);
	fixture_done(&f);
}

static void test_reset_by_the_user(void **state)
{
	(void)state;
	struct fixture f;
	fixture_client(&f);
	ask(&f, "GET / a", -1, true);
	say_reset(&f, HTTP_RESET_CANCEL);
	fake_push_text(f.t, OK0);
	tick(&f);
	assert_string_equal(f.log.p, "closed\n");
	assert_true(f.t->aborted);
	fixture_done(&f);

	fixture_client(&f); /* before a byte was sent nothing is lost */
	ask(&f, "GET / a", -1, true);
	fake_push_text(f.t, OK0);
	const struct http_stream_events *events = f.s->events;
	http_client_open(f.conn, events, &f, &f.s);
	say_reset(&f, HTTP_RESET_CANCEL);
	tick(&f);
	assert_int_equal(http_conn_capacity(f.conn), 1);
	fixture_done(&f);
}

static void test_answer_not_taken_stays_with_the_transport(void **state)
{
	(void)state;
	struct fixture f;
	fixture_client(&f);
	f.body_limit = 0;
	ask(&f, "GET / a", -1, true);
	fake_push_text(f.t, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde");
	fake_push_end(f.t);
	for (size_t n = 1; n <= 5; n++) {
		assert_int_equal(f.taken, n - 1);
		f.body_limit = n;
		stream_resume(f.s);
	}
	tick(&f);
	assert_string_equal(f.log.p, "200 cl=5\nbody=abcde\nclosed\n");
	fixture_done(&f);
}

/* --- tunnels */

static void test_upgrade(void **state)
{
	(void)state;
	struct fixture f;
	fixture_client(&f);
	ask(&f, "GET /ws a +websocket k: v, sec-websocket-key: x, sec-websocket-version: 13", -1, false);
	assert_string_equal(said(&f),
			    "GET /ws HTTP/1.1\r\nhost: a\r\nk: v\r\nsec-websocket-key: x\r\nsec-websocket-version: "
			    "13\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
	assert_int_equal(say_body(&f, "early", false), 0);
	fake_push_text(f.t, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi");
	assert_int_equal(f.rooms, 1);
	assert_int_equal(say_body(&f, "early", false), 5);
	say_body(&f, "", true);
	assert_true(f.t->ended);
	fake_push_text(f.t, " there");
	fake_push_end(f.t);
	tick(&f);
	assert_string_equal(
		f.log.p, "101 [connection: Upgrade] [upgrade: websocket] upgrade=websocket\nbody=hi there\nclosed\n");
	assert_true(f.closed && !f.t->aborted);
	fixture_done(&f);
}

static void test_upgrade_given_up_before_the_answer(void **state)
{
	(void)state;
	struct fixture f;
	fixture_client(&f);
	ask(&f, "GET /ws a +x", -1, false);
	say_body(&f, "", true);
	assert_false(f.t->ended);
	fake_push_text(f.t, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nhi");
	assert_true(f.t->ended);
	fake_push_end(f.t);
	tick(&f);
	assert_string_equal(f.log.p, "101 [upgrade: x] upgrade=x\nbody=hi\nclosed\n");
	fixture_done(&f);
}

static void test_long_head(void **state)
{
	(void)state;
	struct fixture f;
	fixture_client(&f);
	char *text = malloc(20100);
	strcpy(text, "GET / a x: ");
	memset(text + 11, 'v', 20000);
	text[20011] = '\0';
	assert_int_equal(ask(&f, text, -1, true), 0);
	assert_memory_equal(said(&f), "GET / HTTP/1.1\r\nhost: a\r\nx: vvv", 30);
	assert_int_equal(f.t->out_len, strlen("GET / HTTP/1.1\r\nhost: a\r\nx: \r\n\r\n") + 20000);
	free(text);
	fixture_done(&f);
}

static void test_dump_says_what_it_does(void **state)
{
	(void)state;
	struct fixture f;
	struct sb out = { 0 };
	fixture_client(&f);
	ask(&f, "GET / a", -1, true);
	assert_int_equal(http_conn_streams(f.conn), 1);
	f.conn->ops->dump(f.conn, &out);
	assert_string_equal(out.p,
			    "{\"protocol\":\"HTTP/1.1\",\"requests\":1,\"streams\":1,\"in\":\"head\",\"out\":\"ended\","
			    "\"paused\":false,\"draining\":false,\"received\":0,\"sent\":0}");
	sb_done(&out);
	fake_push_text(f.t, OK0);
	assert_int_equal(http_conn_streams(f.conn), 0);
	fixture_done(&f);
}

static void test_upgrade_refused(void **state)
{
	(void)state;
	for (int how = 0; how < 2; how++) {
		struct fixture f;
		fixture_client(&f);
		ask(&f, "GET /ws a +websocket", -1, false);
		fake_push_text(f.t, "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno");
		assert_string_equal(f.log.p, "403 cl=2\nbody=no\n");
		assert_int_equal(http_conn_capacity(f.conn), 0); /* the user has not ended its half */
		if (how)
			say_reset(&f, HTTP_RESET_NO_ERROR);
		else
			say_body(&f, "", true);
		tick(&f);
		assert_false(f.closed);
		assert_int_equal(http_conn_capacity(f.conn), 1);
		fixture_done(&f);
	}
}

/* A user that lets go from inside the refusal itself costs no connection. */
static void let_go_on_head(struct http_stream *s, struct http_head *head, bool end)
{
	http_head_free(head);
	if (end)
		stream_reset(s, HTTP_RESET_CANCEL);
}

static size_t let_go_on_body(struct http_stream *s, const uint8_t *bytes, size_t len, bool end)
{
	(void)bytes;
	if (end)
		stream_reset(s, HTTP_RESET_CANCEL);
	return len;
}

static void test_upgrade_refused_reset_from_inside(void **state)
{
	(void)state;
	static const char *const refusals[] = {
		"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno",
		"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
	};
	static const struct http_stream_events events = { .on_head = let_go_on_head, .on_body = let_go_on_body };
	for (size_t i = 0; i < 3; i++) {
		for (size_t piece = 0; piece < 2; piece++) {
			struct fixture f;
			fixture_client(&f);
			assert_int_equal(http_client_open(f.conn, &events, NULL, &f.s), 0);
			assert_int_equal(say_head(&f, "GET /ws a +websocket", -1, false), 0);
			fake_push_pieces(f.t, refusals[i], strlen(refusals[i]), piece);
			tick(&f);
			assert_false(f.closed);
			assert_int_equal(http_conn_capacity(f.conn), 1);
			assert_int_equal(f.capacities, 1);
			fixture_done(&f);
		}
	}
}

static void test_connect(void **state)
{
	(void)state;
	struct fixture f;
	fixture_client(&f);
	ask(&f, "GET / a", -1, true);
	fake_push_text(f.t, OK0);
	const struct http_stream_events *events = f.s->events;
	http_client_open(f.conn, events, &f, &f.s);
	struct http_head *h = http_head_new();
	h->method = http_head_text(h, "CONNECT", 7);
	h->authority = http_head_text(h, "b:443", 5);
	fake_forget(f.t);
	stream_send_head(f.s, h, false);
	http_head_free(h);
	assert_string_equal(said(&f), "CONNECT b:443 HTTP/1.1\r\nhost: b:443\r\n\r\n");
	fake_push_text(f.t, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nraw");
	fake_push_end(f.t);
	say_body(&f, "x", true);
	tick(&f);
	assert_string_equal(f.log.p, "200 cl=0 end\n200\nbody=raw\nclosed\n");
	fixture_done(&f);
}

/* RFC 8441: HTTP/2's way to ask for a WebSocket becomes HTTP/1's. */
static void test_extended_connect_becomes_a_handshake(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct fixture f;
		fixture_client(&f);
		ask(&f, i ? "GET /chat a +websocket" : "CONNECT /chat a +websocket", -1, false);
		const char *out = said(&f);
		const char *want = "GET /chat HTTP/1.1\r\nhost: a\r\nsec-websocket-key: ";
		assert_memory_equal(out, want, strlen(want));
		assert_string_equal(
			out + strlen(want) + 22,
			"==\r\nsec-websocket-version: 13\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
		fixture_done(&f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests_are_framed),
		cmocka_unit_test(test_heads_that_would_break_the_line),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_answers_cut_at_each_byte),
		cmocka_unit_test(test_answer_head_too_large),
		cmocka_unit_test(test_endless_interim_answers),
		cmocka_unit_test(test_continue_is_passed_on_when_expected),
		cmocka_unit_test(test_bytes_on_an_idle_connection_close_it),
		cmocka_unit_test(test_idle_connection_ended_by_the_peer),
		cmocka_unit_test(test_used_connection_ended_by_the_peer),
		cmocka_unit_test(test_idle_timeout_and_drain),
		cmocka_unit_test(test_max_requests),
		cmocka_unit_test(test_answer_before_the_request_ends),
		cmocka_unit_test(test_reset_by_the_user),
		cmocka_unit_test(test_answer_not_taken_stays_with_the_transport),
		cmocka_unit_test(test_upgrade),
		cmocka_unit_test(test_upgrade_given_up_before_the_answer),
		cmocka_unit_test(test_long_head),
		cmocka_unit_test(test_dump_says_what_it_does),
		cmocka_unit_test(test_upgrade_refused),
		cmocka_unit_test(test_upgrade_refused_reset_from_inside),
		cmocka_unit_test(test_connect),
		cmocka_unit_test(test_extended_connect_becomes_a_handshake),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
