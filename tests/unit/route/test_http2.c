/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/2 clients, many streams on a connection, before endpoints and an application of HTTP/1 and HTTP/2. The test's client is
 * our own codec: bytes are carried between two fake transports. */
#include "tests/unit/route/world.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/helper/worker.h"

enum { CALLS = 8 };

struct call {
	struct http_stream *s;
	struct http_head *head, *trailers;
	char body[256];
	size_t len;
	bool ended, reset;
	enum http_reset why;
};

struct client {
	struct world *w;
	struct fake_transport *t;
	size_t sent, heard; /* bytes carried each way */
	struct http_conn *conn;
	struct call calls[CALLS];
};

static void on_head(struct http_stream *s, struct http_head *head, bool end)
{
	struct call *c = s->user;
	http_head_free(c->head);
	c->head = head;
	c->ended = end;
}

static size_t on_body(struct http_stream *s, const uint8_t *bytes, size_t len, bool end)
{
	struct call *c = s->user;
	assert_true(c->len + len < sizeof(c->body));
	if (len)
		memcpy(c->body + c->len, bytes, len);
	c->len += len;
	c->ended |= end;
	return len;
}

static void on_trailers(struct http_stream *s, struct http_head *trailers)
{
	struct call *c = s->user;
	c->trailers = trailers;
	c->ended = true;
}

static void on_room(struct http_stream *s)
{
	(void)s;
}

static void on_reset(struct http_stream *s, enum http_reset why)
{
	struct call *c = s->user;
	c->reset = true;
	c->why = why;
	c->s = NULL;
}

static const struct http_stream_events call_events = { on_head, on_body, on_trailers, on_room, on_reset };

static void on_conn(struct http_conn *c, void *arg)
{
	(void)c;
	(void)arg;
}

static void on_conn_closed(struct http_conn *c, void *arg)
{
	(void)c;
	((struct client *)arg)->conn = NULL;
}

static const struct http_conn_events client_conn_events = { .on_capacity = on_conn, .on_closed = on_conn_closed };

/* Until neither has anything more to say. */
static void carry(struct client *c)
{
	for (int i = 0; i < 20; i++) {
		world_tick(c->w, 0);
		size_t to = c->t->out_len, from = c->w->client->out_len;
		if (to == c->sent && from == c->heard)
			return;
		fake_push(c->w->client, c->t->out + c->sent, to - c->sent);
		c->sent = to;
		fake_push(c->t, c->w->client->out + c->heard, from - c->heard);
		c->heard = from;
	}
}

static struct client *client_new(struct world *w, bool inbound)
{
	struct client *c = calloc(1, sizeof(*c));
	c->w = w;
	c->t = fake_transport_new();
	world_connect_h2(w, inbound);
	assert_int_equal(http2_client_new(worker_loop(w->w), &c->t->t, &http_limits_default, &client_conn_events, c,
					  &c->conn),
			 0);
	carry(c);
	return c;
}

static void client_free(struct client *c)
{
	if (c->conn)
		http_conn_close(c->conn);
	world_tick(c->w, 0);
	fake_transport_free(c->t);
	for (size_t i = 0; i < CALLS; i++) {
		http_head_free(c->calls[i].head);
		http_head_free(c->calls[i].trailers);
	}
	free(c);
}

static struct call *call(struct client *c, size_t n, const char *method, const char *type, bool end)
{
	struct call *call = &c->calls[n];
	assert_int_equal(http_client_open(c->conn, &call_events, call, &call->s), 0);
	struct http_head *h = http_head_new();
	h->method = http_head_text(h, method, strlen(method));
	h->scheme = http_head_text(h, "http", 4);
	h->authority = http_head_text(h, "shop", 4);
	h->path = http_head_text(h, "/x", 2);
	h->content_length = -1;
	if (type)
		http_add(h, "content-type", type);
	assert_int_equal(stream_send_head(call->s, h, end), 0);
	http_head_free(h);
	carry(c);
	return call;
}

static void test_streams_side_by_side_to_http1(void **state)
{
	(void)state;
	struct world *w = world_new();
	struct client *c = client_new(w, false);
	struct call *a = call(c, 0, "GET", NULL, true), *b = call(c, 1, "GET", NULL, true);
	assert_int_equal(w->attempt_count, 2);
	assert_true(w->attempts[0].h2);
	world_answer(w, 1, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb");
	carry(c);
	assert_true(b->ended && !a->ended);
	world_answer(w, 0, "HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx-t: 1\r\n\r\n");
	carry(c);
	assert_true(a->ended);
	assert_int_equal(a->head->status, 404);
	assert_memory_equal(a->body, "a", 1);
	assert_non_null(a->trailers);
	assert_int_equal(w->records, 2);
	client_free(c);
	world_free(w);
}

static void test_reset_of_one_leaves_the_other(void **state)
{
	(void)state;
	struct world *w = world_new();
	struct client *c = client_new(w, false);
	struct call *a = call(c, 0, "GET", NULL, true), *b = call(c, 1, "GET", NULL, true);
	stream_reset(a->s, HTTP_RESET_CANCEL);
	carry(c);
	assert_int_equal(w->records, 1);
	assert_int_equal(w->flags, FLAG(DC));
	assert_string_equal(w->details, "http2.remote_reset");
	assert_int_equal(w->attempts[0].outcome, OUTCOME_CANCELLED);
	world_answer(w, 1, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	carry(c);
	assert_int_equal(b->head->status, 200);
	client_free(c);
	world_free(w);
}

static void test_endpoint_that_breaks_off_resets_the_stream(void **state)
{
	(void)state;
	struct world *w = world_new();
	struct client *c = client_new(w, false);
	struct call *a = call(c, 0, "GET", NULL, true);
	world_answer(w, 0, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
	carry(c);
	fake_break(w->attempts[0].t, -ECONNRESET);
	carry(c);
	assert_true(a->reset);
	assert_non_null(c->conn); /* the connection lives */
	client_free(c);
	world_free(w);
}

static void test_answer_before_the_request_ended(void **state)
{
	(void)state;
	struct world *w = world_new();
	w->route->direct = calloc(1, sizeof(*w->route->direct));
	w->route->direct->status = 413;
	struct client *c = client_new(w, false);
	struct call *a = call(c, 0, "POST", NULL, false);
	assert_true(a->ended);
	assert_int_equal(a->head->status, 413);
	assert_int_equal(w->records, 1);
	assert_true(!a->reset || a->why == HTTP_RESET_NO_ERROR);
	client_free(c);
	world_free(w);
}

static void test_grpc_streams_both_ways(void **state)
{
	(void)state;
	struct world *w = world_new();
	w->upstream_h2 = true;
	struct client *c = client_new(w, false);
	struct call *a = call(c, 0, "POST", "application/grpc", false);
	stream_send_body(a->s, "\0\0\0\0\1x", 6, false);
	carry(c);
	stream_send_body(a->s, "\0\0\0\0\1y", 6, true);
	carry(c);
	assert_int_equal(w->attempt_count, 1);
	assert_int_equal(w->records, 0);
	assert_true(w->attempts[0].t->out_len > 24); /* HTTP/2's preface, and more */
	assert_memory_equal(w->attempts[0].t->out, "PRI * HTTP/2.0", 14);
	fake_break(w->attempts[0].t, -ECONNRESET);
	carry(c);
	assert_int_equal(a->head->status, 200);
	assert_true(http_is(http_get_id(a->head, HTTP_GRPC_STATUS), "14"));
	assert_int_equal(w->request_messages, 2);
	client_free(c);
	world_free(w);
}

static void test_application_of_an_http2_client_gets_http2(void **state)
{
	(void)state;
	struct world *w = world_new();
	struct client *c = client_new(w, true);
	call(c, 0, "GET", NULL, true);
	call(c, 1, "GET", NULL, true);
	world_tick(w, 0);
	assert_int_equal(w->app_count, 1); /* both on one connection */
	assert_memory_equal(w->app[0]->out, "PRI * HTTP/2.0", 14);
	fake_break(w->app[0], -ECONNRESET);
	carry(c);
	assert_int_equal(c->calls[0].head->status, 503);
	assert_int_equal(c->calls[1].head->status, 503);
	assert_int_equal(w->records, 2);
	client_free(c);
	world_free(w);
}

/* The endpoint's codec is a real one; these are its server's frames. */
static void frames(struct client *c, size_t attempt, const char *bytes, size_t len)
{
	assert_true(attempt < c->w->attempt_count);
	fake_push(c->w->attempts[attempt].t, bytes, len);
	carry(c);
	world_tick(c->w, 50); /* the next try */
	carry(c);
}

#define SETTINGS "\0\0\0\4\0\0\0\0\0"
#define GOAWAY_BEFORE_ALL "\0\0\10\7\0\0\0\0\0\0\0\0\0\0\0\0\0"
#define REFUSED_STREAM_1 "\0\0\4\3\0\0\0\0\1\0\0\0\7"
#define STATUS_200_ON_1 "\0\0\1\1\5\0\0\0\1\x88"

/* Servers do so after so many requests or seconds (nginx: keepalive_requests), also while one is on its way. No route's retry
 * is spent, and POST is as good as GET: nobody has seen it. */
static void test_request_that_a_goaway_leaves_out_goes_elsewhere(void **state)
{
	static const char *const methods[] = { "GET", "POST" };
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct world *w = world_new();
		w->upstream_h2 = true;
		struct client *c = client_new(w, false);
		struct call *a = call(c, 0, methods[i], NULL, true);
		for (size_t n = 0; n < 3; n++) {
			frames(c, n, SETTINGS GOAWAY_BEFORE_ALL, sizeof(SETTINGS GOAWAY_BEFORE_ALL) - 1);
			assert_int_equal(w->attempt_count, n + 2);
		}
		frames(c, 3, SETTINGS STATUS_200_ON_1, sizeof(SETTINGS STATUS_200_ON_1) - 1);
		assert_int_equal(a->head->status, 200);
		assert_int_equal(w->records, 1);
		assert_int_equal(w->flags, 0);
		client_free(c);
		world_free(w);
	}
}

static void test_goaways_without_end_are_an_error(void **state)
{
	(void)state;
	struct world *w = world_new();
	w->upstream_h2 = true;
	struct client *c = client_new(w, false);
	struct call *a = call(c, 0, "GET", NULL, true);
	for (size_t n = 0; n < 4; n++)
		frames(c, n, SETTINGS GOAWAY_BEFORE_ALL, sizeof(SETTINGS GOAWAY_BEFORE_ALL) - 1);
	assert_int_equal(w->attempt_count, 4);
	assert_int_equal(a->head->status, 503);
	assert_int_equal(w->flags, FLAG(UR));
	client_free(c);
	world_free(w);
}

/* A server that is full says the same of a stream; whether more is asked of it, the route decides. */
static void test_refused_stream_is_the_routes_matter(void **state)
{
	(void)state;
	struct world *w = world_new();
	w->upstream_h2 = true;
	struct client *c = client_new(w, false);
	struct call *a = call(c, 0, "GET", NULL, true);
	frames(c, 0, SETTINGS REFUSED_STREAM_1, sizeof(SETTINGS REFUSED_STREAM_1) - 1);
	assert_int_equal(w->attempt_count, 1);
	assert_int_equal(a->head->status, 503);
	client_free(c);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_request_that_a_goaway_leaves_out_goes_elsewhere),
		cmocka_unit_test(test_goaways_without_end_are_an_error),
		cmocka_unit_test(test_refused_stream_is_the_routes_matter),
		cmocka_unit_test(test_streams_side_by_side_to_http1),
		cmocka_unit_test(test_reset_of_one_leaves_the_other),
		cmocka_unit_test(test_endpoint_that_breaks_off_resets_the_stream),
		cmocka_unit_test(test_answer_before_the_request_ended),
		cmocka_unit_test(test_grpc_streams_both_ways),
		cmocka_unit_test(test_application_of_an_http2_client_gets_http2),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
