/* SPDX-License-Identifier: Apache-2.0 */
/* A client and a server of ours, back to back. */
#include "tests/unit/http2/side.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/err.h"
#include "agent/base/loop.h"

static struct loop *loop;
static struct side client, server;

static int setup(void **state)
{
	struct err err;
	(void)state;
	memset(&client, 0, sizeof(client));
	memset(&server, 0, sizeof(server));
	return loop_new(&loop, &err);
}

static void start(void)
{
	side_server(&server, loop);
	side_client(&client, loop);
	side_pump(&client, &server);
}

static int teardown(void **state)
{
	(void)state;
	side_done(&client);
	side_done(&server);
	loop_free(loop);
	return 0;
}

static char *noise(size_t len)
{
	char *p = malloc(len);
	for (size_t i = 0; i < len; i++)
		p[i] = (char)(i * 7 + i / 251);
	return p;
}

static void test_request_response(void **state)
{
	(void)state;
	server.answer = ANSWER_200;
	start();
	struct seen *x = side_request(&client, "GET", "/items?x=1", true);
	side_pump(&client, &server);
	struct seen *y = &server.seen[0];
	assert_int_equal(server.count, 1);
	assert_true(y->end && x->end);
	assert_true(http_is(y->head->method, "GET"));
	assert_true(http_is(y->head->path, "/items?x=1"));
	assert_true(http_is(y->head->scheme, "http"));
	assert_true(http_is(y->head->authority, "shop.example"));
	assert_int_equal(y->head->version, HTTP_2);
	assert_int_equal(x->head->status, 200);
	assert_int_equal(http_get_id(x->head, HTTP_DATE).n, 29);
	assert_int_equal(http_conn_streams(client.c), 0);
	assert_int_equal(http_conn_streams(server.c), 0);
	assert_int_equal(x->reset, -1);
}

static void test_echo_body(void **state)
{
	(void)state;
	server.answer = ANSWER_ECHO;
	start();
	size_t len = 3 << 20;
	char *bytes = noise(len);
	struct seen *x = side_request(&client, "POST", "/", false);
	seen_send(x, bytes, len, true);
	side_pump(&client, &server);
	assert_int_equal(x->out_sent, len);
	assert_int_equal(x->body.len, len);
	assert_memory_equal(x->body.p, bytes, len);
	assert_true(x->end);
	assert_true(x->rooms > 0);
	assert_int_equal(http_conn_streams(client.c), 0);
	assert_int_equal(http_conn_streams(server.c), 0);
	free(bytes);
}

static void test_trailers_both_ways(void **state)
{
	(void)state;
	server.answer = ANSWER_ECHO;
	start();
	struct seen *x = side_request(&client, "POST", "/", false);
	assert_int_equal(stream_send_body(x->s, "abc", 3, false), 3);
	struct http_head *t = http_head_new();
	http_add(t, "grpc-status", "0");
	http_add(t, "x-b", "");
	http_add(t, "x-a", "2");
	http_add(t, "x-a", "1");
	assert_int_equal(stream_send_trailers(x->s, t), 0);
	http_head_free(t);
	side_pump(&client, &server);
	struct seen *both[] = { x, &server.seen[0] };
	for (size_t i = 0; i < 2; i++) {
		assert_string_equal(both[i]->body.p, "abc");
		assert_non_null(both[i]->trailers);
		assert_int_equal(both[i]->trailers->field_count, 4);
		assert_true(http_is(both[i]->trailers->fields[0].name, "grpc-status"));
		assert_true(http_is(both[i]->trailers->fields[1].value, ""));
		assert_true(http_is(both[i]->trailers->fields[2].value, "2"));
		assert_true(http_is(both[i]->trailers->fields[3].value, "1"));
	}
	assert_int_equal(http_conn_streams(client.c) + http_conn_streams(server.c), 0);
}

/* gRPC's answer without a message: one head that ends the stream, and no DATA. */
static void test_trailers_only_is_a_head_with_end(void **state)
{
	(void)state;
	start();
	struct seen *x = side_request(&client, "POST", "/pkg.Service/Call", true);
	side_pump(&client, &server);
	struct http_head *h = response_head(200);
	http_add(h, "content-type", "application/grpc");
	http_add(h, "grpc-status", "5");
	stream_send_head(server.seen[0].s, h, true);
	http_head_free(h);
	side_pump(&client, &server);
	assert_true(x->end);
	assert_null(x->trailers);
	assert_true(http_is(http_get_id(x->head, HTTP_GRPC_STATUS), "5"));
	assert_int_equal(raw_count(&server, F_DATA, 0), 0);
}

static void test_trailers_without_body_send_no_data(void **state)
{
	(void)state;
	start();
	struct seen *x = side_request(&client, "POST", "/", true);
	side_pump(&client, &server);
	struct http_head *h = response_head(200), *t = http_head_new();
	http_add(t, "grpc-status", "0");
	stream_send_head(server.seen[0].s, h, false);
	stream_send_trailers(server.seen[0].s, t);
	http_head_free(h);
	http_head_free(t);
	side_pump(&client, &server);
	assert_non_null(x->trailers);
	assert_int_equal(raw_count(&server, F_DATA, 0), 0);
}

static void test_informational_heads(void **state)
{
	(void)state;
	start();
	struct seen *x = side_open(&client);
	struct http_head *h = request_head("POST", "/");
	h->expect_continue = true;
	stream_send_head(x->s, h, false);
	http_head_free(h);
	struct seen *plain = side_request(&client, "POST", "/", false);
	side_pump(&client, &server);
	assert_true(server.seen[0].head->expect_continue);
	assert_null(http_get(server.seen[0].head, "expect").p);
	assert_false(server.seen[1].head->expect_continue);
	for (size_t i = 0; i < 2; i++) {
		static const uint16_t statuses[] = { 100, 103, 200 };
		for (size_t k = 0; k < 3; k++) {
			h = response_head(statuses[k]);
			assert_int_equal(stream_send_head(server.seen[i].s, h, false), 0);
			http_head_free(h);
		}
	}
	side_pump(&client, &server);
	assert_int_equal(x->info_count, 2);
	assert_int_equal(x->infos[0], 100);
	assert_int_equal(plain->info_count, 1); /* 100 that nobody asked for stays here */
	assert_int_equal(plain->infos[0], 103);
	assert_int_equal(x->head->status, 200);
}

static void test_hundred_streams_at_once(void **state)
{
	(void)state;
	server.answer = ANSWER_ECHO;
	start();
	char *bytes = noise(100000);
	struct seen *x[100];
	for (size_t i = 0; i < 100; i++) {
		assert_int_equal(http_conn_capacity(client.c), 100 - i);
		x[i] = side_request(&client, "POST", "/", false);
		seen_send(x[i], bytes, 50000 + i * 500, true);
	}
	assert_null(side_open(&client));
	side_pump(&client, &server);
	for (size_t i = 0; i < 100; i++) {
		assert_int_equal(x[i]->body.len, 50000 + i * 500);
		assert_memory_equal(x[i]->body.p, bytes, x[i]->body.len);
		assert_true(x[i]->end);
	}
	assert_true(client.capacity_told > 0);
	assert_int_equal(http_conn_capacity(client.c), 100);
	free(bytes);
}

/* What the server does not take stops the client, at the stream's window; nothing is lost when it goes on. */
static void test_back_pressure_of_a_slow_reader(void **state)
{
	(void)state;
	server.take = 1;
	start();
	size_t len = 2 << 20;
	char *bytes = noise(len);
	struct seen *x = side_request(&client, "POST", "/", false);
	seen_send(x, bytes, len, true);
	side_pump(&client, &server);
	struct seen *y = &server.seen[0];
	assert_true(x->out_sent >= 65535 && x->out_sent <= server.limits.stream_window + 1);
	assert_int_equal(y->body.len, y->pieces);
	y->take = SIZE_MAX;
	stream_resume(y->s);
	side_pump(&client, &server);
	assert_int_equal(y->body.len, len);
	assert_memory_equal(y->body.p, bytes, len);
	assert_true(y->end);
	free(bytes);
}

/* A slow reader must not stop other streams. */
static void test_slow_stream_leaves_others_alone(void **state)
{
	(void)state;
	start();
	char *bytes = noise(1 << 20);
	server.take = 1;
	struct seen *slow = side_request(&client, "POST", "/slow", false);
	side_pump(&client, &server);
	seen_send(slow, bytes, 1 << 20, true);
	side_pump(&client, &server);
	server.take = SIZE_MAX;
	struct seen *fast = side_request(&client, "POST", "/fast", false);
	seen_send(fast, bytes, 1 << 20, true);
	side_pump(&client, &server);
	assert_int_equal(server.seen[1].body.len, 1 << 20);
	assert_true(server.seen[0].body.len < 1000);
	/* and one that is reset gives its window back */
	stream_reset(slow->s, HTTP_RESET_CANCEL);
	slow->s = NULL;
	side_pump(&client, &server);
	assert_int_equal(server.seen[0].reset, HTTP_RESET_CANCEL);
	for (int i = 0; i < 4; i++) {
		fast = side_request(&client, "POST", "/fast", false);
		seen_send(fast, bytes, 1 << 20, true);
		side_pump(&client, &server);
		assert_int_equal(server.seen[2 + i].body.len, 1 << 20);
	}
	free(bytes);
}

/* Whatever is not taken of many: together more than the connection's window is at first. */
static void test_many_slow_streams_leave_others_alone(void **state)
{
	enum { SLOW = 40 };
	struct seen *slow[SLOW];
	(void)state;
	start();
	char *bytes = noise(1 << 20);
	server.take = 1;
	for (size_t i = 0; i < SLOW; i++) {
		slow[i] = side_request(&client, "POST", "/slow", false);
		seen_send(slow[i], bytes, 1 << 20, true);
		side_pump(&client, &server);
		assert_true(slow[i]->out_sent >= server.limits.stream_window);
	}
	server.take = SIZE_MAX;
	struct seen *fast = side_request(&client, "POST", "/fast", false);
	seen_send(fast, bytes, 1 << 20, true);
	side_pump(&client, &server);
	assert_int_equal(server.seen[SLOW].body.len, 1 << 20);
	for (size_t i = 0; i < SLOW; i++) {
		server.seen[i].take = SIZE_MAX;
		stream_resume(server.seen[i].s);
		side_pump(&client, &server);
		assert_int_equal(server.seen[i].body.len, 1 << 20);
		assert_memory_equal(server.seen[i].body.p, bytes, 1 << 20);
	}
	free(bytes);
}

/* A client that is told nothing of it may not make us keep more than a connection's bound. */
static void test_what_a_connection_keeps_is_bounded(void **state)
{
	(void)state;
	start();
	char *bytes = noise(1 << 20);
	size_t kept = 0;
	server.take = 0;
	server.limits.max_requests = 0;
	for (size_t i = 0; i < 100; i++) {
		struct seen *x = side_request(&client, "POST", "/slow", false);
		seen_send(x, bytes, 1 << 20, true);
		side_pump(&client, &server);
		kept += x->out_sent;
	}
	assert_in_range(kept, 20 << 20, 26 << 20);
	free(bytes);
}

/* Bytes that were kept for a user who went away must not stay counted against the connection. */
static void test_windows_return_from_streams_that_are_reset(void **state)
{
	(void)state;
	start();
	char *bytes = noise(1 << 20);
	server.take = 1;
	for (size_t i = 0; i < 10; i++) {
		struct seen *x = side_request(&client, "POST", "/", false);
		seen_send(x, bytes, 1 << 20, true);
		side_pump(&client, &server);
		assert_true(x->out_sent >= server.limits.stream_window);
		stream_reset(i % 2 ? server.seen[i].s : x->s, HTTP_RESET_CANCEL);
		if (i % 2)
			server.seen[i].s = NULL;
		else
			x->s = NULL;
		side_pump(&client, &server);
	}
	free(bytes);
}

/* The transport takes little: what it does not take is bounded, and goes on. */
static void test_transport_that_takes_little(void **state)
{
	(void)state;
	server.answer = ANSWER_ECHO;
	start();
	client.f->hold = server.f->hold = true;
	client.f->limit = server.f->limit = 1000;
	size_t len = 300000;
	char *bytes = noise(len);
	struct seen *x = side_request(&client, "POST", "/", false), *z = side_request(&client, "POST", "/", false);
	seen_send(x, bytes, len, true);
	seen_send(z, bytes, len, true);
	for (int i = 0; i < 5000 && !(x->end && z->end); i++) {
		side_pump(&client, &server);
		fake_drain(client.f);
		fake_drain(server.f);
	}
	assert_true(x->end && z->end);
	assert_memory_equal(x->body.p, bytes, len);
	assert_memory_equal(z->body.p, bytes, len);
	free(bytes);
}

static void test_reset_by_client(void **state)
{
	(void)state;
	start();
	struct seen *x = side_request(&client, "GET", "/", true);
	side_pump(&client, &server);
	stream_reset(x->s, HTTP_RESET_CANCEL);
	x->s = NULL;
	side_pump(&client, &server);
	assert_int_equal(server.seen[0].reset, HTTP_RESET_CANCEL);
	assert_int_equal(http_conn_streams(client.c) + http_conn_streams(server.c), 0);
}

static void test_reset_by_server(void **state)
{
	(void)state;
	start();
	static const enum http_reset whys[] = { HTTP_RESET_REFUSED, HTTP_RESET_INTERNAL, HTTP_RESET_CANCEL };
	for (size_t i = 0; i < 3; i++) {
		struct seen *x = side_request(&client, "GET", "/", false);
		side_pump(&client, &server);
		stream_reset(server.seen[i].s, whys[i]);
		server.seen[i].s = NULL;
		side_pump(&client, &server);
		assert_int_equal(x->reset, whys[i]);
	}
}

static void test_reset_before_the_head_was_sent(void **state)
{
	(void)state;
	start();
	struct seen *x = side_open(&client);
	stream_reset(x->s, HTTP_RESET_CANCEL);
	struct seen *y = side_request(&client, "GET", "/", false);
	stream_reset(y->s, HTTP_RESET_CANCEL); /* queued, taken back */
	side_pump(&client, &server);
	assert_int_equal(http_conn_streams(client.c), 0);
	assert_int_equal(http_conn_capacity(client.c), 100);
	assert_int_equal(server.count, 0);
}

/* An answer that is whole before the request is: the client gets all of it, then stops sending. */
static void test_early_answer_then_no_error(void **state)
{
	(void)state;
	start();
	char *bytes = noise(1 << 20);
	client.take = 10;
	server.take = 1;
	struct seen *x = side_request(&client, "POST", "/", false);
	seen_send(x, bytes, 1 << 20, true);
	side_pump(&client, &server);
	struct seen *y = &server.seen[0];
	struct http_head *h = response_head(413);
	stream_send_head(y->s, h, false);
	http_head_free(h);
	assert_int_equal(stream_send_body(y->s, "too much to send", 16, true), 16);
	stream_reset(y->s, HTTP_RESET_NO_ERROR);
	y->s = NULL;
	side_pump(&client, &server);
	assert_int_equal(x->head->status, 413);
	assert_int_equal(x->reset, -1);
	x->take = SIZE_MAX;
	stream_resume(x->s);
	side_pump(&client, &server);
	assert_string_equal(x->body.p, "too much to send");
	assert_int_equal(x->reset, HTTP_RESET_NO_ERROR);
	assert_int_equal(http_conn_streams(client.c) + http_conn_streams(server.c), 0);
	free(bytes);
}

/* The same when nothing of the answer has left yet. */
static void test_no_error_does_not_overtake_the_answer(void **state)
{
	(void)state;
	start();
	struct seen *x = side_request(&client, "POST", "/", false);
	side_pump(&client, &server);
	struct seen *y = &server.seen[0];
	struct http_head *h = response_head(403);
	stream_send_head(y->s, h, true);
	http_head_free(h);
	stream_reset(y->s, HTTP_RESET_NO_ERROR);
	y->s = NULL;
	side_pump(&client, &server);
	assert_non_null(x->head);
	assert_int_equal(x->head->status, 403);
	assert_true(x->end);
	assert_int_equal(x->reset, HTTP_RESET_NO_ERROR);
	assert_int_equal(http_conn_streams(client.c) + http_conn_streams(server.c), 0);
}

static void test_extended_connect(void **state)
{
	(void)state;
	start();
	struct seen *x = side_open(&client);
	struct http_head *h = request_head("GET", "/chat");
	h->upgrade = true;
	h->protocol = http_head_text(h, "websocket", 9);
	assert_int_equal(stream_send_head(x->s, h, false), 0);
	http_head_free(h);
	side_pump(&client, &server);
	struct seen *y = &server.seen[0];
	assert_true(y->head->upgrade);
	assert_true(http_is(y->head->protocol, "websocket"));
	assert_true(http_is(y->head->method, "GET"));
	h = response_head(101);
	h->upgrade = true;
	assert_int_equal(stream_send_head(y->s, h, false), 0);
	http_head_free(h);
	stream_send_body(y->s, "hi", 2, false);
	side_pump(&client, &server);
	assert_true(x->head->upgrade);
	assert_int_equal(x->head->status, 101);
	assert_string_equal(x->body.p, "hi");
	stream_send_body(x->s, "ho", 2, true);
	stream_send_body(y->s, NULL, 0, true);
	side_pump(&client, &server);
	assert_true(x->end && y->end);
	assert_string_equal(y->body.p, "ho");
}

/* The client does not know yet whether the server can: it waits for its SETTINGS. */
static void test_extended_connect_on_a_new_connection(void **state)
{
	(void)state;
	side_client(&client, loop);
	side_server(&server, loop);
	struct seen *x = side_open(&client), *gone = side_open(&client);
	struct http_head *h = request_head("GET", "/chat");
	h->upgrade = true;
	h->protocol = http_head_text(h, "websocket", 9);
	assert_int_equal(stream_send_head(x->s, h, false), 0);
	assert_int_equal(stream_send_head(gone->s, h, false), 0);
	http_head_free(h);
	seen_send(x, "early", 5, false);
	stream_reset(gone->s, HTTP_RESET_CANCEL);
	gone->s = NULL;
	side_pump(&client, &server);
	assert_int_equal(server.count, 1);
	assert_true(server.seen[0].head->upgrade);
	assert_string_equal(server.seen[0].body.p, "early");
	assert_int_equal(x->reset, -1);
	assert_int_equal(http_conn_streams(client.c), 1);
}

static void test_connect(void **state)
{
	(void)state;
	start();
	struct seen *x = side_open(&client);
	struct http_head *h = request_head("CONNECT", "");
	h->authority = http_head_text(h, "db:5432", 7);
	stream_send_head(x->s, h, false);
	http_head_free(h);
	side_pump(&client, &server);
	assert_true(http_is(server.seen[0].head->method, "CONNECT"));
	assert_null(server.seen[0].head->path.p);
	assert_false(server.seen[0].head->upgrade);
}

static void test_head_and_no_content(void **state)
{
	(void)state;
	start();
	static const char *methods[] = { "HEAD", "GET", "GET" };
	static const uint16_t statuses[] = { 200, 204, 304 };
	for (size_t i = 0; i < 3; i++) {
		struct seen *x = side_request(&client, methods[i], "/", true);
		side_pump(&client, &server);
		struct http_head *h = response_head(statuses[i]);
		h->content_length = 1234;
		stream_send_head(server.seen[i].s, h, i == 0);
		http_head_free(h);
		if (i) /* a body that may not be is dropped */
			assert_int_equal(stream_send_body(server.seen[i].s, "abc", 3, true), 3);
		side_pump(&client, &server);
		assert_int_equal(x->reset, -1);
		assert_true(x->end);
		assert_int_equal(x->body.len, 0);
		assert_int_equal(raw_count(&server, F_DATA, 0), 0);
		assert_int_equal(x->head->content_length, statuses[i] == 204 ? -1 : 1234);
	}
}

static void test_content_length_is_carried(void **state)
{
	(void)state;
	start();
	struct seen *x = side_open(&client);
	struct http_head *h = request_head("POST", "/");
	h->content_length = 3;
	http_add(h, "cookie", "a=1");
	http_add(h, "cookie", "b=2");
	http_add(h, "te", "trailers");
	http_add(h, "x-many", "1");
	stream_send_head(x->s, h, false);
	http_head_free(h);
	stream_send_body(x->s, "abc", 3, true);
	side_pump(&client, &server);
	struct seen *y = &server.seen[0];
	assert_int_equal(y->head->content_length, 3);
	assert_null(http_get(y->head, "content-length").p);
	assert_true(http_is(http_get(y->head, "cookie"), "a=1; b=2"));
	assert_true(http_is(http_get(y->head, "te"), "trailers"));
	assert_int_equal(y->head->field_count, 3);
	assert_int_equal(y->pieces, 1); /* the end came with the bytes */
	assert_true(y->end);
}

static void test_drain_of_server_lets_streams_end(void **state)
{
	(void)state;
	start();
	struct seen *x = side_request(&client, "GET", "/", true);
	side_pump(&client, &server);
	http_conn_drain(server.c);
	side_pump(&client, &server);
	assert_int_equal(http_conn_capacity(client.c), 0);
	assert_null(side_open(&client));
	assert_non_null(server.c);
	assert_int_equal(raw_count(&server, F_GOAWAY, 0), 2);
	struct http_head *h = response_head(200);
	stream_send_head(server.seen[0].s, h, true);
	http_head_free(h);
	side_pump(&client, &server);
	assert_true(x->end);
	assert_int_equal(x->reset, -1);
	assert_true(server.closed && client.closed);
	assert_int_equal(raw_goaway(&server), 0);
}

/* A request that crosses the first GOAWAY on the wire is still served. */
static void test_request_that_crosses_goaway_is_served(void **state)
{
	(void)state;
	server.answer = ANSWER_200;
	start();
	http_conn_drain(server.c);
	struct seen *x = side_request(&client, "GET", "/", true);
	side_pump(&client, &server);
	assert_true(x->end);
	assert_int_equal(x->head->status, 200);
	assert_true(server.closed && client.closed);
}

static void test_drain_of_client(void **state)
{
	(void)state;
	start();
	struct seen *x = side_request(&client, "GET", "/", true);
	http_conn_drain(client.c);
	side_pump(&client, &server);
	assert_int_equal(http_conn_capacity(client.c), 0);
	assert_int_equal(server.count, 1);
	assert_non_null(client.c);
	struct http_head *h = response_head(200);
	stream_send_head(server.seen[0].s, h, true);
	http_head_free(h);
	side_pump(&client, &server);
	assert_true(x->end && client.closed && server.closed);
	assert_int_equal(x->reset, -1);
}

static void test_max_requests_drains(void **state)
{
	(void)state;
	server.limits = http_limits_default;
	server.limits.max_requests = 2;
	server.answer = ANSWER_200;
	start();
	struct seen *x = side_request(&client, "GET", "/", true), *y;
	side_pump(&client, &server);
	y = side_request(&client, "GET", "/", true);
	side_pump(&client, &server);
	assert_true(x->end && y->end);
	assert_true(server.closed && client.closed);
}

static void test_end_of_transport_resets_streams(void **state)
{
	(void)state;
	start();
	struct seen *x = side_request(&client, "GET", "/", true);
	side_pump(&client, &server);
	fake_push_end(client.f);
	assert_int_equal(x->reset, HTTP_RESET_CLOSED);
	assert_true(client.closed);
	fake_break(server.f, -ECONNRESET);
	assert_int_equal(server.seen[0].reset, HTTP_RESET_CLOSED);
	assert_true(server.closed);
}

static void test_close_inside_an_event(void **state)
{
	(void)state;
	server.close_in_head = true;
	start();
	struct seen *x = side_request(&client, "GET", "/", true);
	struct seen *y = side_request(&client, "GET", "/", true);
	side_pump(&client, &server);
	assert_true(server.closed);
	assert_int_equal(server.count, 1);
	assert_int_equal(server.seen[0].reset, HTTP_RESET_CLOSED);
	fake_push_end(client.f);
	assert_int_equal(x->reset, HTTP_RESET_CLOSED);
	assert_int_equal(y->reset, HTTP_RESET_CLOSED);
}

static void test_reset_inside_an_event(void **state)
{
	(void)state;
	server.reset_in_head = true;
	start();
	struct seen *x = side_request(&client, "POST", "/", false);
	stream_send_body(x->s, "abc", 3, true);
	side_pump(&client, &server);
	assert_int_equal(x->reset, HTTP_RESET_REFUSED);
	assert_int_equal(http_conn_streams(client.c) + http_conn_streams(server.c), 0);
}

/* Pieces of every size give the same. */
static void test_pieces(void **state)
{
	(void)state;
	server.answer = ANSWER_ECHO;
	start();
	struct seen *x = side_request(&client, "POST", "/", false);
	stream_send_body(x->s, "some bytes", 10, false);
	struct http_head *t = http_head_new();
	http_add(t, "x-sum", "1");
	stream_send_trailers(x->s, t);
	http_head_free(t);
	fake_tick(loop, 0);
	size_t len = client.f->out_len - client.read;
	fake_push_pieces(server.f, client.f->out + client.read, len, 1);
	client.read += len;
	fake_tick(loop, 0);
	len = server.f->out_len - server.read;
	fake_push_random(client.f, server.f->out + server.read, len, 7);
	server.read += len;
	side_pump(&client, &server);
	assert_true(x->end);
	assert_string_equal(x->body.p, "some bytes");
	assert_non_null(x->trailers);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_request_response),
		TEST(test_echo_body),
		TEST(test_trailers_both_ways),
		TEST(test_trailers_only_is_a_head_with_end),
		TEST(test_trailers_without_body_send_no_data),
		TEST(test_informational_heads),
		TEST(test_hundred_streams_at_once),
		TEST(test_back_pressure_of_a_slow_reader),
		TEST(test_slow_stream_leaves_others_alone),
		TEST(test_many_slow_streams_leave_others_alone),
		TEST(test_what_a_connection_keeps_is_bounded),
		TEST(test_windows_return_from_streams_that_are_reset),
		TEST(test_transport_that_takes_little),
		TEST(test_reset_by_client),
		TEST(test_reset_by_server),
		TEST(test_reset_before_the_head_was_sent),
		TEST(test_early_answer_then_no_error),
		TEST(test_no_error_does_not_overtake_the_answer),
		TEST(test_extended_connect),
		TEST(test_extended_connect_on_a_new_connection),
		TEST(test_connect),
		TEST(test_head_and_no_content),
		TEST(test_content_length_is_carried),
		TEST(test_drain_of_server_lets_streams_end),
		TEST(test_request_that_crosses_goaway_is_served),
		TEST(test_drain_of_client),
		TEST(test_max_requests_drains),
		TEST(test_end_of_transport_resets_streams),
		TEST(test_close_inside_an_event),
		TEST(test_reset_inside_an_event),
		TEST(test_pieces),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
