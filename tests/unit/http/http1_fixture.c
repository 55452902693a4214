/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/http/http1_fixture.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/loop.h"
#include "agent/base/mem.h"

static struct fixture *of(struct http_stream *s)
{
	return s->user;
}

static void log_head(struct fixture *f, const struct http_head *h, bool end)
{
	if (h->status)
		sb_addf(&f->log, "%u", h->status);
	else
		sb_addf(&f->log, "%.*s %.*s %.*s", (int)h->method.n, h->method.p, (int)h->path.n,
			h->path.p ? h->path.p : "", (int)h->authority.n, h->authority.p ? h->authority.p : "");
	if (h->version == HTTP_1_0)
		sb_add(&f->log, " 1.0");
	for (size_t i = 0; i < h->field_count; i++)
		sb_addf(&f->log, " [%.*s: %.*s]", (int)h->fields[i].name.n,
			h->fields[i].as_sent ? h->fields[i].as_sent : h->fields[i].name.p, (int)h->fields[i].value.n,
			h->fields[i].value.p);
	if (h->content_length >= 0)
		sb_addf(&f->log, " cl=%lld", (long long)h->content_length);
	if (h->upgrade)
		sb_addf(&f->log, " upgrade=%.*s", (int)h->protocol.n, h->protocol.p ? h->protocol.p : "");
	if (h->expect_continue)
		sb_add(&f->log, " expect");
	sb_add(&f->log, end ? " end\n" : "\n");
}

static void log_body(struct fixture *f)
{
	sb_addf(&f->log, "body=%s\n", f->body.p ? f->body.p : "");
}

static void answer(struct fixture *f)
{
	struct http_stream *s = f->s;
	struct http_head *h = head_of("200 x: y", (int64_t)f->body.len);
	f->s = NULL;
	stream_send_head(s, h, false);
	stream_send_body(s, f->body.p ? f->body.p : "", f->body.len, true);
	http_head_free(h);
}

static void ended(struct fixture *f)
{
	if (f->answer)
		answer(f);
	sb_done(&f->body);
}

static void on_head(struct http_stream *s, struct http_head *head, bool end)
{
	struct fixture *f = of(s);
	assert(!f->in_send && !f->closed);
	log_head(f, head, end);
	http_head_free(head);
	if (end)
		ended(f);
}

static size_t on_body(struct http_stream *s, const uint8_t *bytes, size_t len, bool end)
{
	struct fixture *f = of(s);
	assert(!f->in_send && !f->closed);
	size_t n = f->body_limit - f->taken < len ? f->body_limit - f->taken : len;
	if (n)
		sb_add_bytes(&f->body, bytes, n);
	f->taken += n;
	if (end && n == len) {
		log_body(f);
		ended(f);
	}
	return n;
}

static void on_trailers(struct http_stream *s, struct http_head *trailers)
{
	struct fixture *f = of(s);
	assert(!f->in_send && !f->closed);
	log_body(f);
	sb_add(&f->log, "trailers");
	for (size_t i = 0; i < trailers->field_count; i++)
		sb_addf(&f->log, " [%.*s: %.*s]", (int)trailers->fields[i].name.n, trailers->fields[i].name.p,
			(int)trailers->fields[i].value.n, trailers->fields[i].value.p);
	sb_add(&f->log, "\n");
	http_head_free(trailers);
	ended(f);
}

static void on_room(struct http_stream *s)
{
	struct fixture *f = of(s);
	assert(!f->in_send && !f->closed);
	f->rooms++;
}

static void on_reset(struct http_stream *s, enum http_reset why)
{
	struct fixture *f = of(s);
	assert(!f->in_send && !f->closed);
	sb_addf(&f->log, "reset=%d\n", why);
	f->s = NULL;
	sb_done(&f->body);
}

static const struct http_stream_events stream_events = { on_head, on_body, on_trailers, on_room, on_reset };

static void on_stream(struct http_conn *c, struct http_stream *s, void *arg)
{
	struct fixture *f = arg;
	assert(!f->in_send && c == f->conn);
	s->events = &stream_events;
	s->user = f;
	f->s = s;
	f->requests++;
	f->taken = 0;
	sb_done(&f->body);
}

static void on_bad(struct http_conn *c, enum http_bad why, uint16_t status, void *arg)
{
	struct fixture *f = arg;
	assert(!f->in_send && c == f->conn);
	f->bad_why = (int)why;
	f->bad_status = status;
	sb_addf(&f->log, "bad=%d/%u\n", why, status);
}

static void on_capacity(struct http_conn *c, void *arg)
{
	struct fixture *f = arg;
	assert(!f->in_send && c == f->conn);
	f->capacities++;
}

static void on_closed(struct http_conn *c, void *arg)
{
	struct fixture *f = arg;
	assert(c == f->conn && !f->closed);
	sb_add(&f->log, "closed\n");
	f->closed = true;
	f->s = NULL;
}

static const struct http_conn_events conn_events = { on_stream, on_bad, on_capacity, on_closed };

static void fixture_init(struct fixture *f, const struct http_limits *limits)
{
	*f = (struct fixture){ .body_limit = SIZE_MAX, .bad_why = -1, .limits = *limits };
	sb_add(&f->log, "");
	if (loop_new(&f->loop, NULL) < 0)
		abort();
	f->t = fake_transport_new();
}

void fixture_server_with(struct fixture *f, const struct http_limits *limits)
{
	fixture_init(f, limits);
	if (http1_server_new(f->loop, &f->t->t, &f->limits, &conn_events, f, &f->conn) < 0)
		abort();
}

void fixture_server(struct fixture *f)
{
	fixture_server_with(f, &http_limits_default);
}

void fixture_client_with(struct fixture *f, const struct http_limits *limits)
{
	fixture_init(f, limits);
	if (http1_client_new(f->loop, &f->t->t, &f->limits, &conn_events, f, &f->conn) < 0)
		abort();
}

void fixture_client(struct fixture *f)
{
	fixture_client_with(f, &http_limits_default);
}

void fixture_done(struct fixture *f)
{
	if (!f->closed)
		http_conn_close(f->conn);
	tick(f);
	loop_free(f->loop);
	fake_transport_free(f->t);
	sb_done(&f->log);
	sb_done(&f->body);
}

static void add_fields(struct http_head *h, const char *fields)
{
	while (*fields) {
		while (*fields == ' ' || *fields == ',')
			fields++;
		const char *colon = strstr(fields, ": "), *end = strchr(fields, ',');
		if (!colon)
			return;
		if (!end)
			end = fields + strlen(fields);
		struct http_string name = http_head_text(h, fields, (size_t)(colon - fields));
		struct http_string value = http_head_text(h, colon + 2, (size_t)(end - colon - 2));
		http_add_ref(h, name, value);
		fields = end;
	}
}

static struct http_string word(struct http_head *h, const char **text)
{
	size_t n = strcspn(*text, " ");
	struct http_string s = http_head_text(h, *text, n);
	*text += n + ((*text)[n] == ' ');
	return s;
}

struct http_head *head_of(const char *text, int64_t cl)
{
	struct http_head *h = http_head_new();
	h->content_length = cl;
	if (*text >= '0' && *text <= '9') {
		h->status = (uint16_t)atoi(word(h, &text).p);
	} else {
		h->method = word(h, &text);
		h->path = word(h, &text);
		h->authority = word(h, &text);
	}
	if (strncmp(text, "+", 1) == 0) { /* "+websocket": asks for a tunnel */
		text++;
		h->upgrade = true;
		h->protocol = word(h, &text);
	}
	add_fields(h, text);
	return h;
}

int say_head(struct fixture *f, const char *text, int64_t cl, bool end)
{
	struct http_head *h = head_of(text, cl);
	f->in_send = true;
	int rc = stream_send_head(f->s, h, end);
	f->in_send = false;
	http_head_free(h);
	return rc;
}

size_t say_bytes(struct fixture *f, const void *bytes, size_t len, bool end)
{
	f->in_send = true;
	size_t n = stream_send_body(f->s, bytes, len, end);
	f->in_send = false;
	return n;
}

size_t say_body(struct fixture *f, const char *text, bool end)
{
	return say_bytes(f, text, strlen(text), end);
}

int say_trailers(struct fixture *f, const char *fields)
{
	struct http_head *h = http_head_new();
	add_fields(h, fields);
	f->in_send = true;
	int rc = stream_send_trailers(f->s, h);
	f->in_send = false;
	http_head_free(h);
	return rc;
}

void say_reset(struct fixture *f, enum http_reset why)
{
	f->in_send = true;
	stream_reset(f->s, why);
	f->in_send = false;
	f->s = NULL;
}

int ask(struct fixture *f, const char *text, int64_t cl, bool end)
{
	f->taken = 0;
	sb_done(&f->body);
	int rc = http_client_open(f->conn, &stream_events, f, &f->s);
	return rc < 0 ? rc : say_head(f, text, cl, end);
}

void tick(struct fixture *f)
{
	fake_tick(f->loop, 0);
	fake_tick(f->loop, 0); /* what was deferred by the deferred */
}

const char *said(struct fixture *f)
{
	static char text[1 << 20];
	size_t n = 0;
	for (const char *p = f->t->out; *p;) {
		const char *lf = strstr(p, "\r\n");
		size_t len = lf ? (size_t)(lf + 2 - p) : strlen(p);
		if (strncmp(p, "date: ", 6) != 0 && n + len < sizeof(text)) {
			memcpy(text + n, p, len);
			n += len;
		}
		p += len;
	}
	text[n] = '\0';
	return text;
}
