/* SPDX-License-Identifier: Apache-2.0 */
/* An engine and a worker that take notes: one request, what filters did with it. */
#pragma once

#include "agent/helper/route/exchange.h"

struct fake_answer {
	bool given, continued, response_continued;
	bool replaced, replaced_response; /* the body, by `replacement` */
	char replacement[1024];
	uint16_t status;
	uint32_t flags;
	size_t body_len;
	char details[256], body[1024], challenge[512], location[128], extra[512]; /* extra: "name: value\n" ... */
	size_t drops;
	enum drop_reason reason;
	char rule[128];
};
extern struct fake_answer answer;

extern struct link_shard fake_metrics;

/* A request of the server's side: "GET /path?query", then lines "name: value"; the host is shop.example. */
struct exchange *fake_exchange(const char *request);
void fake_exchange_free(struct exchange *x);
struct http_head *fake_head(uint16_t status, const char *fields); /* of a response; free it */
const char *fake_header(struct exchange *x, const char *name);	  /* joined; NULL: absent. Until the next call */
/* Every field, "name: value\n". Until the next call. */
const char *fake_fields(const struct http_head *head);

/* --- the last side call; answered by the test */
struct fake_call {
	bool open;
	char cluster[256], method[32], path[1024], authority[256], fields[4096];
	uint8_t body[65536];
	size_t body_len, count;
	uint32_t timeout_ms;
	bool refuse; /* side_call_new() returns NULL */
};
extern struct fake_call call;
void fake_call_answer(uint16_t status, const char *fields, const void *body, size_t len, const char *trailers);
extern const char *fake_body; /* of the request, for exchange_buffer_body() */
extern bool fake_body_late;   /* it comes with fake_body_deliver() */
void fake_body_deliver(void);
/* The response's, for exchange_buffer_response(), and trailers of either: "name: value\n" ..., NULL: none. */
extern const char *fake_response_body, *fake_trailers;
extern bool fake_response_late; /* the body comes with fake_response_deliver() */
void fake_response_deliver(void);
extern struct http_head *fake_trailer_head; /* as scripts left them; until the next exchange */
