/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/filter/fake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "agent/helper/worker.h"

struct fake_answer answer;
struct fake_call call;
const char *fake_body;
bool fake_body_late;
const char *fake_response_body, *fake_trailers;
bool fake_response_late;
struct http_head *fake_trailer_head;

static char text[8192];

/* --- the request */

static void field_add(struct http_head *h, const char *line, size_t n)
{
	char copy[20000];
	assert_true(n < sizeof(copy));
	memcpy(copy, line, n);
	copy[n] = '\0';
	char *value = strstr(copy, ": ");
	assert_non_null(value);
	*value = '\0';
	assert_int_equal(http_add(h, copy, value + 2), 0);
}

static void fields_add(struct http_head *h, const char *lines)
{
	for (const char *at = lines; at && *at;) {
		size_t n = strcspn(at, "\n");
		field_add(h, at, n);
		at += n + (at[n] == '\n');
	}
}

struct exchange *fake_exchange(const char *request)
{
	struct exchange *x = calloc(1, sizeof(*x));
	size_t method = strcspn(request, " "), target = strcspn(request + method + 1, "\n");
	const char *path = request + method + 1;

	answer = (struct fake_answer){ 0 };
	http_head_free(fake_trailer_head);
	fake_trailer_head = NULL;
	call = (struct fake_call){ 0 };
	x->side = SIDE_SERVER;
	x->head = http_head_new();
	x->head->method = http_head_text(x->head, request, method);
	x->head->path = http_head_text(x->head, path, target);
	x->head->authority = http_head_text(x->head, "shop.example", 12);
	x->head->scheme = http_head_text(x->head, "http", 4);
	const char *mark = memchr(x->head->path.p, '?', x->head->path.n);
	size_t n = mark ? (size_t)(mark - x->head->path.p) : x->head->path.n;
	x->path = (struct http_string){ x->head->path.p, (uint32_t)n };
	if (mark)
		x->query = (struct http_string){ mark + 1, (uint32_t)(x->head->path.n - n - 1) };
	fields_add(x->head, path[target] ? path + target + 1 : NULL);
	addr_port_parse("10.7.0.1:40000", &x->source);
	x->remote = x->source.addr;
	addr_port_parse("10.0.0.1:8080", &x->destination);
	return x;
}

struct http_head *fake_head(uint16_t status, const char *fields)
{
	struct http_head *h = http_head_new();
	h->version = HTTP_1_1;
	h->status = status;
	h->content_length = -1;
	fields_add(h, fields);
	return h;
}

void fake_exchange_free(struct exchange *x)
{
	if (x->stage_cancel)
		x->stage_cancel(x);
	exchange_claims_free(x->claims);
	exchange_lua_free(x->lua);
	http_head_free(x->response_extra);
	http_head_free(x->head);
	free(x);
}

const char *fake_header(struct exchange *x, const char *name)
{
	struct http_string v = http_get_joined(x->head, name);
	if (!v.p)
		return NULL;
	snprintf(text, sizeof(text), "%.*s", (int)v.n, v.p);
	return text;
}

static void fields_text(const struct http_head *h, char *to, size_t size)
{
	to[0] = '\0';
	for (size_t i = 0; h && i < h->field_count; i++) {
		size_t len = strlen(to);
		const struct http_field *f = &h->fields[i];
		snprintf(to + len, size - len, "%.*s: %.*s\n", (int)f->name.n, f->name.p, (int)f->value.n, f->value.p);
	}
}

const char *fake_fields(const struct http_head *head)
{
	fields_text(head, text, sizeof(text));
	return text;
}

/* --- what filters call */

static void copy_string(char *to, size_t size, struct http_string s)
{
	snprintf(to, size, "%.*s", (int)s.n, s.p ? s.p : "");
}

void exchange_respond(struct exchange *x, uint16_t status, uint32_t flags, const char *details, const char *body,
		      const struct http_head *extra)
{
	exchange_respond_bytes(x, status, flags, details, body, body ? strlen(body) : 0, extra);
}

void exchange_respond_bytes(struct exchange *x, uint16_t status, uint32_t flags, const char *details, const void *body,
			    size_t len, const struct http_head *extra)
{
	assert_false(answer.given);
	answer.given = true;
	answer.status = status;
	answer.flags = flags;
	snprintf(answer.details, sizeof(answer.details), "%s", details);
	assert_true(len < sizeof(answer.body));
	if (len)
		memcpy(answer.body, body, len);
	answer.body[len] = '\0';
	answer.body_len = len;
	fields_text(extra, answer.extra, sizeof(answer.extra));
	if (extra) {
		copy_string(answer.challenge, sizeof(answer.challenge), http_get(extra, "www-authenticate"));
		copy_string(answer.location, sizeof(answer.location), http_get(extra, "location"));
	}
	x->stage_state = NULL;
	x->stage_cancel = NULL;
}

void exchange_continue(struct exchange *x)
{
	assert_false(answer.continued);
	answer.continued = true;
	x->stage_state = NULL;
	x->stage_cancel = NULL;
}

struct link_shard fake_metrics;

struct link_shard *worker_metrics(struct worker *w)
{
	(void)w;
	return &fake_metrics;
}

void worker_drop(struct worker *w, const struct worker_drop *drop)
{
	(void)w;
	answer.drops++;
	answer.reason = drop->reason;
	snprintf(answer.rule, sizeof(answer.rule), "%s", drop->rule ? drop->rule : "");
	assert_true(drop->inbound);
}

static struct http_view on_header(const struct http_request_view *r, const char *name)
{
	struct http_string v = http_get_joined((struct http_head *)(uintptr_t)r->headers, name);
	return (struct http_view){ v.p, v.n };
}

struct http_request_view exchange_view(struct exchange *x)
{
	return (struct http_request_view){ .method = { x->head->method.p, x->head->method.n },
					   .scheme = { x->head->scheme.p, x->head->scheme.n },
					   .authority = { x->head->authority.p, x->head->authority.n },
					   .path = { x->path.p, x->path.n },
					   .query = { x->query.p, x->query.n },
					   .header = on_header,
					   .headers = x->head };
}

static struct {
	struct exchange *x;
	size_t max;
	exchange_body_fn fn;
	void *arg;
} wait;

void fake_body_deliver(void)
{
	size_t len = fake_body ? strlen(fake_body) : 0;
	bool whole = len <= wait.max;
	wait.fn(wait.x, (const uint8_t *)fake_body, whole ? len : wait.max, whole, wait.arg);
}

void exchange_buffer_body(struct exchange *x, size_t max, exchange_body_fn fn, void *arg)
{
	wait.x = x;
	wait.max = max;
	wait.fn = fn;
	wait.arg = arg;
	if (!fake_body_late)
		fake_body_deliver();
}

static struct {
	struct exchange *x;
	size_t max;
	exchange_body_fn fn;
	void *arg;
} response_wait;

void fake_response_deliver(void)
{
	size_t len = fake_response_body ? strlen(fake_response_body) : 0;
	bool whole = len <= response_wait.max;
	response_wait.fn(response_wait.x, (const uint8_t *)fake_response_body, whole ? len : response_wait.max, whole,
			 response_wait.arg);
}

void exchange_buffer_response(struct exchange *x, size_t max, exchange_body_fn fn, void *arg)
{
	response_wait.x = x;
	response_wait.max = max;
	response_wait.fn = fn;
	response_wait.arg = arg;
	if (!fake_response_late)
		fake_response_deliver();
}

void exchange_response_continue(struct exchange *x)
{
	(void)x;
	assert_false(answer.response_continued);
	answer.response_continued = !answer.given;
}

int exchange_body_replace(struct exchange *x, bool response, const uint8_t *bytes, size_t len)
{
	(void)x;
	answer.replaced = true;
	answer.replaced_response = response;
	snprintf(answer.replacement, sizeof(answer.replacement), "%.*s", (int)len, (const char *)bytes);
	return 0;
}

struct http_head *exchange_trailers(struct exchange *x, bool response)
{
	(void)x;
	(void)response;
	if (fake_trailers && !fake_trailer_head) {
		fake_trailer_head = http_head_new();
		fields_add(fake_trailer_head, fake_trailers);
	}
	return fake_trailer_head;
}

/* --- side calls */

static side_call_fn call_fn;
static void *call_arg;

struct side_call *side_call_new(struct worker *w, struct worker_pod *pod, const char *cluster, struct http_head *head,
				const void *body, size_t len, uint32_t timeout_ms, side_call_fn fn, void *arg)
{
	(void)w;
	(void)pod;
	assert_false(call.open);
	if (call.refuse) {
		http_head_free(head);
		return NULL;
	}
	call.open = true;
	call.count++;
	snprintf(call.cluster, sizeof(call.cluster), "%s", cluster);
	copy_string(call.method, sizeof(call.method), head->method);
	copy_string(call.path, sizeof(call.path), head->path);
	copy_string(call.authority, sizeof(call.authority), head->authority);
	fields_text(head, call.fields, sizeof(call.fields));
	assert_true(len <= sizeof(call.body));
	if (len)
		memcpy(call.body, body, len);
	call.body_len = len;
	call.timeout_ms = timeout_ms;
	call_fn = fn;
	call_arg = arg;
	http_head_free(head);
	return (struct side_call *)(void *)&call;
}

void side_call_cancel(struct side_call *c)
{
	if (c)
		call.open = false;
}

void fake_call_answer(uint16_t status, const char *fields, const void *body, size_t len, const char *trailers)
{
	struct http_head *response = status ? http_head_new() : NULL, *trailer = trailers ? http_head_new() : NULL;

	assert_true(call.open);
	call.open = false;
	if (response) {
		response->status = status;
		fields_add(response, fields);
	}
	if (trailer)
		fields_add(trailer, trailers);
	call_fn(response, body, len, trailer, status, call_arg);
	http_head_free(response);
	http_head_free(trailer);
}
