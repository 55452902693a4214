/* SPDX-License-Identifier: Apache-2.0 */
/* client == (near server, far client) == server: two connections joined as a proxy joins them, with transports that take
 * little, users that take less, resets in between, and every stream's bytes checked. By seeds, so that a failure repeats. */
#include "tests/unit/http2/side.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/err.h"
#include "agent/base/loop.h"

enum { STREAMS = 60, BODY_MAX = 200000 };

/* One request on its way through the middle. */
struct joint {
	struct http_stream *near, *far;		 /* NULL: gone, or all said both ways */
	bool near_in, near_out, far_in, far_out; /* ended */
};

struct middle {
	struct side near, far; /* only their connections and transports are used */
	struct joint joints[STREAMS * 2];
	size_t count;
};

static struct loop *loop;
static struct side client, server;
static struct middle *middle;
static unsigned int seed;

static unsigned int dice(unsigned int sides)
{
	return (unsigned int)rand_r(&seed) % sides;
}

static void near_done(struct joint *j)
{
	if (j->near_in && j->near_out)
		j->near = NULL;
}

static void far_done(struct joint *j)
{
	if (j->far_in && j->far_out)
		j->far = NULL;
}

static size_t pass(struct http_stream *to, const uint8_t *bytes, size_t len, bool end, bool *ended)
{
	size_t n = stream_send_body(to, bytes, len, end);
	*ended = end && n == len;
	return n;
}

/* --- the far side: answers */

static void far_head(struct http_stream *s, struct http_head *head, bool end)
{
	struct joint *j = s->user;
	assert_ptr_equal(j->far, s);
	if (j->near) {
		j->near_out = end;
		stream_send_head(j->near, head, end);
		near_done(j);
	}
	j->far_in = end;
	far_done(j);
	http_head_free(head);
}

static size_t far_body(struct http_stream *s, const uint8_t *bytes, size_t len, bool end)
{
	struct joint *j = s->user;
	size_t n = j->near ? pass(j->near, bytes, len, end, &j->near_out) : len;
	j->far_in = end && n == len;
	near_done(j);
	far_done(j);
	return n;
}

static void far_trailers(struct http_stream *s, struct http_head *trailers)
{
	struct joint *j = s->user;
	assert_ptr_equal(j->far, s);
	j->far_in = true;
	if (j->near) {
		j->near_out = true;
		stream_send_trailers(j->near, trailers);
	}
	http_head_free(trailers);
	near_done(j);
	far_done(j);
}

static void far_room(struct http_stream *s)
{
	struct joint *j = s->user;
	assert_ptr_equal(j->far, s);
	if (j->near)
		stream_resume(j->near);
}

static void far_reset(struct http_stream *s, enum http_reset why)
{
	struct joint *j = s->user;
	assert_ptr_equal(j->far, s);
	j->far = NULL;
	if (j->near)
		stream_reset(j->near, why);
	j->near = NULL;
}

static const struct http_stream_events far_events = { far_head, far_body, far_trailers, far_room, far_reset };

/* --- the near side: requests */

static void near_head(struct http_stream *s, struct http_head *head, bool end)
{
	struct joint *j = s->user;
	assert_ptr_equal(j->near, s);
	if (http_client_open(middle->far.c, &far_events, j, &j->far) < 0) {
		stream_reset(s, HTTP_RESET_REFUSED);
		j->near = NULL;
	} else {
		j->far_out = end;
		stream_send_head(j->far, head, end);
	}
	j->near_in = end;
	http_head_free(head);
}

static size_t near_body(struct http_stream *s, const uint8_t *bytes, size_t len, bool end)
{
	struct joint *j = s->user;
	assert_ptr_equal(j->near, s);
	size_t n = j->far ? pass(j->far, bytes, len, end, &j->far_out) : len;
	j->near_in = end && n == len;
	far_done(j);
	near_done(j);
	return n;
}

static void near_trailers(struct http_stream *s, struct http_head *trailers)
{
	struct joint *j = s->user;
	assert_ptr_equal(j->near, s);
	j->near_in = true;
	if (j->far) {
		j->far_out = true;
		stream_send_trailers(j->far, trailers);
	}
	http_head_free(trailers);
	far_done(j);
	near_done(j);
}

static void near_room(struct http_stream *s)
{
	struct joint *j = s->user;
	assert_ptr_equal(j->near, s);
	if (j->far)
		stream_resume(j->far);
}

static void near_reset(struct http_stream *s, enum http_reset why)
{
	struct joint *j = s->user;
	assert_ptr_equal(j->near, s);
	j->near = NULL;
	if (j->far)
		stream_reset(j->far, why);
	j->far = NULL;
}

static const struct http_stream_events near_events = { near_head, near_body, near_trailers, near_room, near_reset };

static void on_stream(struct http_conn *c, struct http_stream *s, void *arg)
{
	(void)c;
	(void)arg;
	struct joint *j = &middle->joints[middle->count++];
	*j = (struct joint){ .near = s };
	s->events = &near_events;
	s->user = j;
}

static void on_closed(struct http_conn *c, void *arg)
{
	struct side *side = arg;
	(void)c;
	side->c = NULL;
}

static const struct http_conn_events conn_events = { .on_stream = on_stream, .on_closed = on_closed };

static void start(size_t limit)
{
	side_server(&server, loop);
	side_client(&client, loop);
	struct side *both[] = { &middle->near, &middle->far };
	for (size_t i = 0; i < 2; i++) {
		both[i]->loop = loop;
		both[i]->f = fake_transport_new();
	}
	struct fake_transport *f[] = { client.f, middle->near.f, middle->far.f, server.f };
	for (size_t i = 0; i < 4; i++) {
		f[i]->hold = limit > 0;
		f[i]->limit = limit;
	}
	assert_int_equal(http2_server_new(loop, &middle->near.f->t, &http_limits_default, &conn_events, &middle->near,
					  &middle->near.c),
			 0);
	assert_int_equal(http2_client_new(loop, &middle->far.f->t, &http_limits_default, &conn_events, &middle->far,
					  &middle->far.c),
			 0);
}

/* A random part of what one end has written goes to the other. */
static bool carry(struct side *from, struct side *to)
{
	size_t len = from->f->out_len - from->read;
	if (len == 0 || to->f->closed)
		return false;
	size_t n = dice(4) ? 1 + dice((unsigned int)len) : len;
	char *bytes = malloc(n);
	memcpy(bytes, from->f->out + from->read, n);
	from->read += n;
	fake_push(to->f, bytes, n);
	free(bytes);
	return true;
}

static bool turn(void)
{
	bool moved = carry(&client, &middle->near);
	moved |= carry(&middle->near, &client);
	moved |= carry(&middle->far, &server);
	moved |= carry(&server, &middle->far);
	fake_tick(loop, 0);
	struct fake_transport *f[] = { client.f, middle->near.f, middle->far.f, server.f };
	for (size_t i = 0; i < 4; i++) {
		moved |= f[i]->queued > 0 || f[i]->cut;
		if (dice(2))
			fake_drain(f[i]);
	}
	return moved;
}

static void settle(void)
{
	for (int quiet = 0, i = 0; quiet < 8; i++) {
		quiet = turn() ? 0 : quiet + 1;
		assert_true(i < 1000000);
	}
}

static void check(struct seen *x, const char *body, size_t len, bool trailers)
{
	assert_int_equal(x->reset, -1);
	assert_true(x->end);
	assert_int_equal(x->body.len, len);
	if (len)
		assert_memory_equal(x->body.p, body, len);
	assert_int_equal(x->trailers != NULL, trailers);
}

static void run(unsigned int from, size_t limit)
{
	struct err err;
	static char body[BODY_MAX];
	size_t lens[STREAMS];
	struct seen *x[STREAMS];
	seed = from;
	memset(&client, 0, sizeof(client));
	memset(&server, 0, sizeof(server));
	middle = calloc(1, sizeof(*middle));
	loop_new(&loop, &err);
	for (size_t i = 0; i < sizeof(body); i++)
		body[i] = (char)(i * 31 + i / 257);
	server.answer = ANSWER_ECHO;
	start(limit);
	settle();
	for (size_t i = 0; i < STREAMS; i++) {
		lens[i] = dice(3) ? dice(BODY_MAX) : dice(300);
		x[i] = side_request(&client, "POST", "/", false);
		bool trailers = i % 3 == 0;
		if (trailers)
			lens[i] %= 3000;
		seen_send(x[i], body, lens[i], !trailers);
		if (trailers && x[i]->out_sent < lens[i])
			lens[i] = x[i]->out_sent, x[i]->out_len = lens[i];
		if (trailers) {
			struct http_head *t = http_head_new();
			http_add(t, "grpc-status", "0");
			stream_send_trailers(x[i]->s, t);
			http_head_free(t);
		}
		if (i % 7 == 6 && x[i]->s) { /* given up */
			for (unsigned int k = dice(6); k; k--)
				turn();
			if (x[i]->s && !x[i]->end)
				stream_reset(x[i]->s, HTTP_RESET_CANCEL);
			x[i]->s = NULL;
			x[i] = NULL;
		}
		for (unsigned int k = dice(3); k; k--)
			turn();
	}
	settle();
	for (size_t i = 0; i < STREAMS; i++)
		if (x[i])
			check(x[i], body, lens[i], i % 3 == 0);
	struct side *all[] = { &client, &middle->near, &middle->far, &server };
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(http_conn_streams(all[i]->c), 0);
	side_done(&client);
	side_done(&middle->near);
	side_done(&middle->far);
	side_done(&server);
	free(middle);
	loop_free(loop);
}

static void test_relay(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 6; i++)
		run(i, 0);
}

static void test_relay_over_small_transports(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 6; i++)
		run(100 + i, 20000 + 7001 * i);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_relay),
		cmocka_unit_test(test_relay_over_small_transports),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
