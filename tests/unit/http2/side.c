/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/http2/side.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void gone_check(struct seen *x)
{
	(void)x;
}

static void echo(struct seen *x, const uint8_t *bytes, size_t len, bool end, size_t *taken)
{
	*taken = stream_send_body(x->s, bytes, len, end);
}

static void push(struct seen *x)
{
	while (x->s && (x->out_sent < x->out_len || x->out_end)) {
		size_t n = stream_send_body(x->s, x->out + x->out_sent, x->out_len - x->out_sent, x->out_end);
		x->out_sent += n;
		if (x->out_sent < x->out_len)
			return;
		x->out_end = false;
	}
}

void seen_send(struct seen *x, const char *bytes, size_t len, bool end)
{
	x->out = bytes;
	x->out_len = len;
	x->out_sent = 0;
	x->out_end = end;
	push(x);
}

static void on_head(struct http_stream *s, struct http_head *head, bool end)
{
	struct seen *x = s->user;
	assert(x->s == s && x->reset < 0 && !x->end);
	if (head->status >= 100 && head->status < 200 && !head->upgrade) {
		x->infos[x->info_count++ % 4] = head->status;
		http_head_free(head);
		return;
	}
	assert(!x->head);
	x->head = head;
	x->end = end;
	if (x->side->close_in_head) {
		http_conn_close(x->side->c);
		return;
	}
	if (x->side->reset_in_head) {
		stream_reset(s, HTTP_RESET_REFUSED);
		x->s = NULL;
		return;
	}
	if (x->side->answer == ANSWER_NONE)
		return;
	struct http_head *answer = response_head(200);
	stream_send_head(s, answer, end || x->side->answer == ANSWER_200);
	http_head_free(answer);
}

static size_t on_body(struct http_stream *s, const uint8_t *bytes, size_t len, bool end)
{
	struct seen *x = s->user;
	assert(x->s == s && x->reset < 0 && !x->end && x->head);
	size_t n = len < x->take ? len : x->take;
	x->pieces++;
	if (x->side->answer == ANSWER_ECHO)
		echo(x, bytes, n, end && n == len, &n);
	if (n)
		sb_add_bytes(&x->body, bytes, n);
	x->end = end && n == len;
	return n;
}

static void on_trailers(struct http_stream *s, struct http_head *trailers)
{
	struct seen *x = s->user;
	assert(x->s == s && x->reset < 0 && !x->end && !x->trailers);
	x->trailers = trailers;
	x->end = true;
	if (x->side->answer == ANSWER_ECHO)
		stream_send_trailers(s, trailers);
}

static void on_room(struct http_stream *s)
{
	struct seen *x = s->user;
	assert(x->s == s && x->reset < 0);
	x->rooms++;
	if (x->side->answer == ANSWER_ECHO)
		stream_resume(s);
	else
		push(x);
}

static void on_reset(struct http_stream *s, enum http_reset why)
{
	struct seen *x = s->user;
	assert(x->s == s && x->reset < 0);
	x->reset = (int)why;
	x->s = NULL;
}

static const struct http_stream_events stream_events = { on_head, on_body, on_trailers, on_room, on_reset };

static struct seen *seen_new(struct side *side)
{
	assert(side->count < SEEN_MAX);
	struct seen *x = &side->seen[side->count++];
	*x = (struct seen){ .side = side, .take = side->take, .reset = -1 };
	return x;
}

static void on_stream(struct http_conn *c, struct http_stream *s, void *arg)
{
	struct side *side = arg;
	assert(side->c == c);
	struct seen *x = seen_new(side);
	x->s = s;
	s->events = &stream_events;
	s->user = x;
}

static void on_bad(struct http_conn *c, enum http_bad why, uint16_t status, void *arg)
{
	struct side *side = arg;
	assert(side->c == c);
	side->bad[why]++;
	side->bad_status = status;
}

static void on_capacity(struct http_conn *c, void *arg)
{
	struct side *side = arg;
	assert(side->c == c);
	side->capacity_told++;
}

static void on_closed(struct http_conn *c, void *arg)
{
	struct side *side = arg;
	assert(side->c == c);
	side->c = NULL;
	side->closed = true;
}

static const struct http_conn_events conn_events = { on_stream, on_bad, on_capacity, on_closed };

static void begin(struct side *s, struct loop *loop)
{
	s->loop = loop;
	s->f = fake_transport_new();
	if (!s->limits.head_bytes)
		s->limits = http_limits_default;
	s->take = s->take ? s->take : SIZE_MAX;
}

void side_server(struct side *s, struct loop *loop)
{
	begin(s, loop);
	int rc = http2_server_new(loop, &s->f->t, &s->limits, &conn_events, s, &s->c);
	assert(rc == 0);
}

void side_client(struct side *s, struct loop *loop)
{
	begin(s, loop);
	int rc = http2_client_new(loop, &s->f->t, &s->limits, &conn_events, s, &s->c);
	assert(rc == 0);
}

void side_done(struct side *s)
{
	if (s->c)
		http_conn_close(s->c);
	fake_tick(s->loop, 0);
	fake_tick(s->loop, 0);
	fake_transport_free(s->f);
	for (size_t i = 0; i < s->count; i++) {
		gone_check(&s->seen[i]);
		http_head_free(s->seen[i].head);
		http_head_free(s->seen[i].trailers);
		sb_done(&s->seen[i].body);
	}
}

static bool carry(struct side *from, struct side *to)
{
	if (from->read == from->f->out_len || to->f->closed)
		return false;
	size_t len = from->f->out_len - from->read;
	char *bytes = malloc(len);
	memcpy(bytes, from->f->out + from->read, len);
	from->read += len;
	fake_push(to->f, bytes, len);
	free(bytes);
	return true;
}

void side_pump(struct side *a, struct side *b)
{
	for (int i = 0; i < 10000; i++) {
		fake_tick(a->loop, 0);
		bool moved = carry(a, b);
		moved |= carry(b, a);
		if (!moved) {
			fake_tick(a->loop, 0);
			if (a->read == a->f->out_len && b->read == b->f->out_len)
				return;
			if (a->f->closed || b->f->closed)
				return;
		}
	}
	assert(!"they never fall silent");
}

struct seen *side_open(struct side *s)
{
	struct seen *x = seen_new(s);
	if (http_client_open(s->c, &stream_events, x, &x->s) == 0)
		return x;
	s->count--;
	return NULL;
}

struct http_head *request_head(const char *method, const char *path)
{
	struct http_head *h = http_head_new();
	h->method = http_head_text(h, method, strlen(method));
	h->path = http_head_text(h, path, strlen(path));
	h->scheme = http_head_text(h, "http", 4);
	h->authority = http_head_text(h, "shop.example", 12);
	return h;
}

struct http_head *response_head(uint16_t status)
{
	struct http_head *h = http_head_new();
	h->status = status;
	return h;
}

struct seen *side_request(struct side *s, const char *method, const char *path, bool end)
{
	struct seen *x = side_open(s);
	assert(x);
	struct http_head *h = request_head(method, path);
	int rc = stream_send_head(x->s, h, end);
	assert(rc == 0);
	http_head_free(h);
	return x;
}
