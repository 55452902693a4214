/* SPDX-License-Identifier: Apache-2.0 */
/* Users of HTTP/2 connections for tests: what they were told, by stream. A side is a connection over a fake transport;
 * two of them are joined by side_pump(). A raw peer writes frames by hand and looks at the frames that come back. */
#pragma once

#include "agent/base/str.h"
#include "agent/helper/http/stream.h"
#include "tests/unit/http/fake_transport.h"

enum { SEEN_MAX = 512 };

enum answer {
	ANSWER_NONE, /* the test does */
	ANSWER_200,  /* no body, at once */
	ANSWER_ECHO, /* 200, then what comes, with trailers if they come */
};

struct seen {
	struct http_stream *s; /* NULL: gone */
	struct side *side;
	struct http_head *head, *trailers;
	uint16_t infos[4]; /* 1xx */
	size_t info_count;
	struct sb body;
	size_t pieces, take; /* calls of on_body; bytes taken by each */
	bool end;
	int reset; /* -1: none */
	unsigned int rooms;
	/* to be sent */
	const char *out;
	size_t out_len, out_sent;
	bool out_end;
};

struct side {
	struct loop *loop;
	struct fake_transport *f;
	struct http_conn *c; /* NULL: closed */
	struct http_limits limits;
	enum answer answer;
	struct seen seen[SEEN_MAX];
	size_t count;
	size_t take; /* of new streams; SIZE_MAX at first */
	unsigned int bad[HTTP_BAD_COUNT], capacity_told;
	uint16_t bad_status;
	bool closed;
	bool close_in_head, reset_in_head;
	size_t read; /* of the transport's output, by the other side */
};

void side_server(struct side *s, struct loop *loop);
void side_client(struct side *s, struct loop *loop);
void side_done(struct side *s);
/* Bytes both ways, and ticks of the loop, until there are no more. */
void side_pump(struct side *a, struct side *b);
struct seen *side_open(struct side *s);
struct http_head *request_head(const char *method, const char *path);
struct http_head *response_head(uint16_t status);
/* Opens, sends and frees the head. */
struct seen *side_request(struct side *s, const char *method, const char *path, bool end);
/* Sends what it can, and the rest on on_room. */
void seen_send(struct seen *x, const char *bytes, size_t len, bool end);

/* --- frames by hand */
enum { F_DATA, F_HEADERS, F_PRIORITY, F_RST, F_SETTINGS, F_PUSH, F_PING, F_GOAWAY, F_WINDOW, F_CONTINUATION };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4, PADDED = 8, PRIORITY_FLAG = 32 };

void raw_preface(struct side *s); /* of a client, and SETTINGS; SETTINGS alone to a client */
void raw_frame(struct side *s, uint8_t type, uint8_t flags, uint32_t id, const void *payload, size_t len);
/* Pairs of name and value, NULL at the end; literals without an index. */
size_t raw_block(uint8_t *out, size_t size, const char *const *fields);
void raw_headers(struct side *s, uint8_t flags, uint32_t id, const char *const *fields);
void raw_get(struct side *s, uint32_t id, bool end);
void raw_u32(struct side *s, uint8_t type, uint32_t id, uint32_t value);
/* What came back. -1: none such. */
long raw_rst(const struct side *s, uint32_t id);
long raw_goaway(const struct side *s);
size_t raw_count(const struct side *s, uint8_t type, uint8_t flags);
size_t raw_data(const struct side *s, uint32_t id, bool *end); /* bytes of DATA */
