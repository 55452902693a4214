/* SPDX-License-Identifier: Apache-2.0 */
/* A server's and a client's connection of HTTP/1 over a fake transport, whose user writes down all that it is told.
 * What is written does not depend on how bytes were split: a body is noted when it ends. */
#pragma once

#include "agent/base/str.h"
#include "agent/helper/http/stream.h"
#include "tests/unit/http/fake_transport.h"

struct fixture {
	struct loop *loop;
	struct fake_transport *t;
	struct http_conn *conn;
	struct http_limits limits;
	struct sb log; /* "GET /x a.b [k: v] cl=3 end\n" "body=abc\n" "reset=4\n" "bad=2/400\n" "closed\n" */
	struct sb body;
	struct http_stream *s; /* the last one; NULL: it is gone */
	size_t body_limit;     /* on_body takes at most this many in all */
	size_t taken;
	unsigned int requests, rooms, capacities;
	bool closed;
	bool answer;  /* answers each request when it is whole: 200 with its body */
	bool in_send; /* inside a call of ours: no event may come */
	bool pending_end;
	uint16_t bad_status;
	int bad_why; /* -1: none */
};

void fixture_server(struct fixture *f);
void fixture_server_with(struct fixture *f, const struct http_limits *limits);
void fixture_client(struct fixture *f);
void fixture_client_with(struct fixture *f, const struct http_limits *limits);
void fixture_done(struct fixture *f); /* closes it when it is open */

/* What the user says; heads from text: "200 k: v, k2: v2" or "GET /path host.name k: v". cl: -1 unknown. */
struct http_head *head_of(const char *text, int64_t cl);
int say_head(struct fixture *f, const char *text, int64_t cl, bool end);
size_t say_body(struct fixture *f, const char *text, bool end);
size_t say_bytes(struct fixture *f, const void *bytes, size_t len, bool end);
int say_trailers(struct fixture *f, const char *fields);
void say_reset(struct fixture *f, enum http_reset why);
/* Client: opens a stream and sends. */
int ask(struct fixture *f, const char *text, int64_t cl, bool end);
void tick(struct fixture *f);
/* What the peer got, without Date fields. Valid until the next call. */
const char *said(struct fixture *f);
