/* SPDX-License-Identifier: Apache-2.0 */
/* A server of ours, and a peer that writes frames by hand: what may not be is refused as RFC 9113 says. */
#include "tests/unit/http2/side.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/err.h"
#include "agent/base/loop.h"

enum {
	PROTOCOL_ERROR = 1,
	FLOW_CONTROL_ERROR = 3,
	STREAM_CLOSED = 5,
	FRAME_SIZE_ERROR = 6,
	COMPRESSION_ERROR = 9,
	CALM = 11
};

static struct loop *loop;
static struct side server;

static int setup(void **state)
{
	struct err err;
	(void)state;
	memset(&server, 0, sizeof(server));
	return loop_new(&loop, &err);
}

static int teardown(void **state)
{
	(void)state;
	side_done(&server);
	loop_free(loop);
	return 0;
}

static void start(enum answer answer)
{
	server.answer = answer;
	side_server(&server, loop);
	raw_preface(&server);
}

#define FIELDS(...) ((const char *const[]){ __VA_ARGS__, NULL })
#define GET ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a"

static const char *const *const malformed[] = {
	(const char *const[]){ GET, "Upper", "1", NULL },
	(const char *const[]){ GET, "connection", "close", NULL },
	(const char *const[]){ GET, "keep-alive", "1", NULL },
	(const char *const[]){ GET, "proxy-connection", "1", NULL },
	(const char *const[]){ GET, "transfer-encoding", "chunked", NULL },
	(const char *const[]){ GET, "upgrade", "h2c", NULL },
	(const char *const[]){ GET, "te", "gzip", NULL },
	(const char *const[]){ GET, "na me", "1", NULL },
	(const char *const[]){ GET, "name:", "1", NULL },
	(const char *const[]){ GET, "", "1", NULL },
	(const char *const[]){ GET, "name", "a\rb", NULL },
	(const char *const[]){ GET, "name", "a\nb", NULL },
	(const char *const[]){ GET, "name", " a", NULL },
	(const char *const[]){ GET, "name", "a\t", NULL },
	(const char *const[]){ GET, "content-length", "x", NULL },
	(const char *const[]){ GET, "content-length", "-1", NULL },
	(const char *const[]){ GET, "content-length", "1", "content-length", "2", NULL },
	(const char *const[]){ GET, "content-length", "99999999999999999999", NULL },
	(const char *const[]){ GET, "host", "b", NULL },
	(const char *const[]){ GET, "host", "a", "host", "b", NULL },
	(const char *const[]){ GET, ":path", "/2", NULL },
	(const char *const[]){ GET, ":status", "200", NULL },
	(const char *const[]){ GET, ":unknown", "1", NULL },
	(const char *const[]){ GET, "x", "1", ":protocol", "websocket", NULL },
	(const char *const[]){ GET, ":protocol", "websocket", NULL },
	(const char *const[]){ "x", "1", GET, NULL },
	(const char *const[]){ ":scheme", "http", ":path", "/", ":authority", "a", NULL },
	(const char *const[]){ ":method", "GET", ":path", "/", ":authority", "a", NULL },
	(const char *const[]){ ":method", "GET", ":scheme", "http", ":authority", "a", NULL },
	(const char *const[]){ ":method", "GET", ":scheme", "http", ":path", "/", NULL },
	(const char *const[]){ ":method", "GET", ":scheme", "http", ":path", "", ":authority", "a", NULL },
	(const char *const[]){ ":method", "GET", ":scheme", "http", ":path", "/a b", ":authority", "a", NULL },
	(const char *const[]){ ":method", "GET", ":scheme", "http", ":path", "nope", ":authority", "a", NULL },
	(const char *const[]){ ":method", "GET", ":scheme", "http", ":path", "*", ":authority", "a", NULL },
	(const char *const[]){ ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a b", NULL },
	(const char *const[]){ ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "", NULL },
	(const char *const[]){ ":method", "G T", ":scheme", "http", ":path", "/", ":authority", "a", NULL },
	(const char *const[]){ ":method", "", ":scheme", "http", ":path", "/", ":authority", "a", NULL },
	(const char *const[]){ ":method", "CONNECT", ":scheme", "http", ":path", "/", ":authority", "a:1", NULL },
	(const char *const[]){ ":method", "CONNECT", NULL },
	(const char *const[]){ ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "user@a", NULL },
	(const char *const[]){ ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a:99999", NULL },
	(const char *const[]){ ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a/b", NULL },
	(const char *const[]){ ":method", "GET", ":scheme", "http", ":path", "/a#b", ":authority", "a", NULL },
	(const char *const[]){ ":method", "GET", ":scheme", "http", ":path", "/\xc3\xa4", ":authority", "a", NULL },
	(const char *const[]){ ":method", "CONNECT", ":authority", "db", NULL },
	(const char *const[]){ ":method", "GET", ":scheme", "ftp", ":path", "/", ":authority", "a", NULL },
	(const char *const[]){ ":method", "CONNECT", ":protocol", "websocket", ":authority", "a", NULL },
	(const char *const[]){ ":method", "CONNECT", ":protocol", "h2c", ":scheme", "http", ":path", "/", ":authority",
			       "a", NULL },
	(const char *const[]){ ":method", "CONNECT", ":protocol", "H2C", ":scheme", "http", ":path", "/", ":authority",
			       "a", NULL },
	(const char *const[]){ ":method", "CONNECT", ":protocol", "websocket, h2c", ":scheme", "http", ":path", "/",
			       ":authority", "a", NULL },
	(const char *const[]){ ":method", "CONNECT", ":protocol", "", ":scheme", "http", ":path", "/", ":authority",
			       "a", NULL },
};

static void test_malformed_requests_are_reset(void **state)
{
	(void)state;
	start(ANSWER_200);
	uint32_t id = 1;
	for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++, id += 2) {
		raw_headers(&server, END_HEADERS | END_STREAM, id, malformed[i]);
		if (raw_rst(&server, id) != PROTOCOL_ERROR)
			fail_msg("malformed[%zu]: %ld", i, raw_rst(&server, id));
		assert_int_equal(server.count, 0);
		assert_int_equal(server.bad[HTTP_BAD_H2_PROTOCOL], i + 1);
		assert_int_equal(http_conn_streams(server.c), 0);
	}
	raw_get(&server, id, true); /* others are unharmed */
	assert_int_equal(server.count, 1);
	assert_int_equal(raw_rst(&server, id), -1);
}

static void test_good_requests(void **state)
{
	(void)state;
	start(ANSWER_200);
	raw_headers(&server, END_HEADERS | END_STREAM, 1,
		    FIELDS(":method", "OPTIONS", ":scheme", "http", ":path", "*", "host", "h:80", "te", "trailers"));
	raw_headers(&server, END_HEADERS | END_STREAM, 3,
		    FIELDS(GET, "host", "A", "cookie", "a=1", "x", "", "cookie", "b=2"));
	raw_headers(&server, END_HEADERS, 5, FIELDS(":method", "CONNECT", ":authority", "db:5432"));
	raw_headers(&server, END_HEADERS, 7,
		    FIELDS(":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":path", "/chat",
			   ":authority", "a"));
	assert_int_equal(server.count, 4);
	struct http_head *h = server.seen[0].head;
	assert_true(http_is(h->authority, "h:80") && http_is(h->path, "*"));
	h = server.seen[1].head;
	assert_true(http_is(h->authority, "a"));
	assert_null(http_get(h, "host").p);
	assert_int_equal(h->field_count, 2);
	assert_true(http_is(h->fields[0].value, "a=1; b=2"));
	assert_true(http_is(h->fields[1].value, ""));
	assert_true(http_is(server.seen[2].head->method, "CONNECT"));
	assert_true(server.seen[3].head->upgrade);
}

static void test_content_length_must_match_data(void **state)
{
	(void)state;
	start(ANSWER_NONE);
	for (uint32_t i = 0; i < 4; i++) {
		uint32_t id = 1 + 2 * i;
		raw_headers(&server, END_HEADERS, id, FIELDS(GET, "content-length", "4"));
		struct seen *x = &server.seen[i];
		raw_frame(&server, F_DATA, 0, id, "ab", 2);
		if (i == 0) /* too little */
			raw_frame(&server, F_DATA, END_STREAM, id, "c", 1);
		else if (i == 1) /* too much */
			raw_frame(&server, F_DATA, END_STREAM, id, "cde", 3);
		else if (i == 2) /* too little, then trailers */
			raw_headers(&server, END_HEADERS | END_STREAM, id, FIELDS("x", "1"));
		else
			raw_frame(&server, F_DATA, END_STREAM, id, "cd", 2);
		assert_int_equal(raw_rst(&server, id), i < 3 ? PROTOCOL_ERROR : -1);
		assert_int_equal(x->reset, i < 3 ? HTTP_RESET_PROTOCOL : -1);
		assert_int_equal(x->end, i == 3);
	}
	raw_headers(&server, END_HEADERS | END_STREAM, 9, FIELDS(GET, "content-length", "4"));
	assert_int_equal(raw_rst(&server, 9), PROTOCOL_ERROR);
	assert_int_equal(server.count, 4);
}

static void test_bad_trailers_are_reset(void **state)
{
	(void)state;
	const char *const *const bad[] = {
		(const char *const[]){ ":path", "/", NULL },
		(const char *const[]){ "Upper", "1", NULL },
		(const char *const[]){ "connection", "close", NULL },
		(const char *const[]){ "transfer-encoding", "chunked", NULL },
	};
	start(ANSWER_NONE);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint32_t id = (uint32_t)(1 + 2 * i);
		raw_get(&server, id, false);
		raw_headers(&server, END_HEADERS | END_STREAM, id, bad[i]);
		assert_int_equal(raw_rst(&server, id), PROTOCOL_ERROR);
		assert_int_equal(server.seen[i].reset, HTTP_RESET_PROTOCOL);
		assert_null(server.seen[i].trailers);
	}
	raw_get(&server, 21, false); /* trailers that don't end the stream */
	raw_headers(&server, END_HEADERS, 21, FIELDS("x", "1"));
	assert_int_equal(raw_rst(&server, 21), PROTOCOL_ERROR);
}

static void test_padding_is_not_body(void **state)
{
	(void)state;
	start(ANSWER_NONE);
	raw_get(&server, 1, false);
	raw_frame(&server, F_DATA, PADDED, 1, "\3abc\0\0\0", 7);
	raw_frame(&server, F_DATA, PADDED | END_STREAM, 1, "\4de\0\0\0\0", 7);
	assert_string_equal(server.seen[0].body.p, "abcde");
	assert_true(server.seen[0].end);
}

/* --- limits */

static void big_request(uint32_t id, size_t fields, size_t value_len, uint8_t flags)
{
	uint8_t block[70000];
	static char value[65000];
	size_t len = raw_block(block, sizeof(block), FIELDS(GET));
	memset(value, 'v', value_len);
	value[value_len] = '\0';
	for (size_t i = 0; i < fields; i++)
		len += raw_block(block + len, sizeof(block) - len, FIELDS("x-field", value));
	size_t first = len < 16384 ? len : 16384;
	raw_frame(&server, F_HEADERS, (uint8_t)(flags | (first == len ? END_HEADERS : 0)), id, block, first);
	for (size_t at = first; at < len;) {
		size_t n = len - at < 16384 ? len - at : 16384;
		raw_frame(&server, F_CONTINUATION, at + n == len ? END_HEADERS : 0, id, block + at, n);
		at += n;
	}
}

static void test_heads_beyond_the_limits_get_431(void **state)
{
	(void)state;
	start(ANSWER_200);
	big_request(1, 100, 10, END_STREAM);
	big_request(3, 1, 59000, END_STREAM);
	assert_int_equal(server.count, 2);
	big_request(5, 101, 10, END_STREAM); /* too many */
	assert_int_equal(server.count, 2);
	assert_int_equal(server.bad[HTTP_BAD_TOO_LARGE], 1);
	assert_int_equal(server.bad_status, 431);
	assert_int_equal(raw_rst(&server, 5), -1);
	big_request(7, 1, 64900, 0); /* too long; the request goes on, and is not wanted */
	assert_int_equal(server.bad[HTTP_BAD_TOO_LARGE], 2);
	assert_int_equal(raw_rst(&server, 7), 0);
	assert_int_equal(raw_goaway(&server), -1);
	assert_int_equal(http_conn_streams(server.c), 0);
	raw_get(&server, 9, true);
	assert_int_equal(server.count, 3);
}

static void test_long_trailers_are_reset(void **state)
{
	(void)state;
	start(ANSWER_NONE);
	raw_get(&server, 1, false);
	uint8_t block[16384];
	size_t len = 0;
	for (size_t i = 0; i < 101; i++)
		len += raw_block(block + len, sizeof(block) - len, FIELDS("x", "1"));
	raw_frame(&server, F_HEADERS, END_HEADERS | END_STREAM, 1, block, len);
	assert_int_equal(server.seen[0].reset, HTTP_RESET_TOO_LARGE);
	assert_int_equal(server.bad[HTTP_BAD_TOO_LARGE], 1);
	assert_true(raw_rst(&server, 1) > 0);
}

/* One long value in the table, then thousands of references to it. */
static void test_hpack_bomb_ends_the_connection(void **state)
{
	(void)state;
	static char value[3900];
	uint8_t block[16384];
	start(ANSWER_200);
	memset(value, 'v', sizeof(value) - 1);
	size_t len = raw_block(block, sizeof(block), FIELDS(GET));
	size_t at = len;
	len += raw_block(block + len, sizeof(block) - len, FIELDS("x", value));
	block[at] = 0x40; /* to be indexed */
	memset(block + len, 0x80 | 62, sizeof(block) - len);
	raw_frame(&server, F_HEADERS, END_HEADERS | END_STREAM, 1, block, sizeof(block));
	assert_int_equal(raw_goaway(&server), CALM);
	assert_int_equal(server.bad[HTTP_BAD_H2_FLOOD], 1);
	assert_true(server.closed && server.f->closed);
	assert_int_equal(server.count, 0);
}

static void test_streams_beyond_the_limit(void **state)
{
	(void)state;
	start(ANSWER_NONE);
	uint32_t id = 1;
	for (; id < 200; id += 2)
		raw_get(&server, id, true);
	assert_int_equal(server.count, 100);
	raw_get(&server, id, true); /* our SETTINGS were not acknowledged: refused, not wrong */
	assert_int_equal(raw_rst(&server, id), 7);
	raw_frame(&server, F_SETTINGS, ACK, 0, NULL, 0);
	raw_get(&server, id + 2, true);
	assert_int_equal(raw_goaway(&server), PROTOCOL_ERROR);
	assert_int_equal(server.count, 100);
	assert_int_equal(server.seen[0].reset, HTTP_RESET_PROTOCOL);
	assert_true(server.closed);
}

/* --- frames that end the connection */

struct shape {
	const char *name;
	uint8_t type, flags;
	uint32_t id;
	const char *payload;
	size_t len;
	long code;
};

static const struct shape shapes[] = {
	{ "DATA on stream 0", F_DATA, 0, 0, "a", 1, PROTOCOL_ERROR },
	{ "DATA on an idle stream", F_DATA, 0, 9, "a", 1, PROTOCOL_ERROR },
	{ "DATA with too much padding", F_DATA, PADDED, 1, "\5a", 2, PROTOCOL_ERROR },
	{ "DATA after the end", F_DATA, 0, 3, "a", 1, STREAM_CLOSED },
	{ "HEADERS on stream 0", F_HEADERS, END_HEADERS, 0, "", 0, PROTOCOL_ERROR },
	{ "HEADERS on an even stream", F_HEADERS, END_HEADERS, 2, "\202", 1, PROTOCOL_ERROR },
	{ "HEADERS after the end", F_HEADERS, END_HEADERS | END_STREAM, 3, "\202", 1, STREAM_CLOSED },
	{ "HEADERS that don't decompress", F_HEADERS, END_HEADERS, 5, "\377\377\377\377\377", 5, COMPRESSION_ERROR },
	{ "HEADERS with index 0", F_HEADERS, END_HEADERS, 5, "\200", 1, COMPRESSION_ERROR },
	{ "HEADERS with too much padding", F_HEADERS, END_HEADERS | PADDED, 5, "\5a", 2, PROTOCOL_ERROR },
	{ "PRIORITY on stream 0", F_PRIORITY, 0, 0, "\0\0\0\1\0", 5, PROTOCOL_ERROR },
	{ "PRIORITY on itself", F_PRIORITY, 0, 7, "\0\0\0\7\0", 5, PROTOCOL_ERROR },
	{ "RST_STREAM on stream 0", F_RST, 0, 0, "\0\0\0\0", 4, PROTOCOL_ERROR },
	{ "RST_STREAM on an idle stream", F_RST, 0, 9, "\0\0\0\0", 4, PROTOCOL_ERROR },
	{ "RST_STREAM of a wrong size", F_RST, 0, 1, "\0\0\0", 3, FRAME_SIZE_ERROR },
	{ "SETTINGS on a stream", F_SETTINGS, 0, 1, "", 0, PROTOCOL_ERROR },
	{ "SETTINGS of a wrong size", F_SETTINGS, 0, 0, "\0\1\0", 3, FRAME_SIZE_ERROR },
	{ "SETTINGS ACK with a payload", F_SETTINGS, ACK, 0, "\0\1\0\0\0\0", 6, FRAME_SIZE_ERROR },
	{ "SETTINGS with a window too large", F_SETTINGS, 0, 0, "\0\4\200\0\0\0", 6, FLOW_CONTROL_ERROR },
	{ "SETTINGS with a frame too small", F_SETTINGS, 0, 0, "\0\5\0\0\0\1", 6, PROTOCOL_ERROR },
	{ "SETTINGS with ENABLE_PUSH 2", F_SETTINGS, 0, 0, "\0\2\0\0\0\2", 6, PROTOCOL_ERROR },
	{ "PUSH_PROMISE of a client", F_PUSH, END_HEADERS, 1, "\0\0\0\2\202", 5, PROTOCOL_ERROR },
	{ "PING on a stream", F_PING, 0, 1, "12345678", 8, PROTOCOL_ERROR },
	{ "PING of a wrong size", F_PING, 0, 0, "1234567", 7, FRAME_SIZE_ERROR },
	{ "GOAWAY on a stream", F_GOAWAY, 0, 1, "\0\0\0\0\0\0\0\0", 8, PROTOCOL_ERROR },
	{ "WINDOW_UPDATE of 0", F_WINDOW, 0, 0, "\0\0\0\0", 4, PROTOCOL_ERROR },
	{ "WINDOW_UPDATE that overflows", F_WINDOW, 0, 0, "\177\377\377\377", 4, FLOW_CONTROL_ERROR },
	{ "WINDOW_UPDATE of a wrong size", F_WINDOW, 0, 0, "\0\0\0", 3, FRAME_SIZE_ERROR },
	{ "WINDOW_UPDATE on an idle stream", F_WINDOW, 0, 9, "\0\0\0\1", 4, PROTOCOL_ERROR },
	{ "CONTINUATION without HEADERS", F_CONTINUATION, END_HEADERS, 1, "\202", 1, PROTOCOL_ERROR },
};

static void test_frames_that_end_the_connection(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		const struct shape *s = &shapes[i];
		start(ANSWER_NONE);
		raw_get(&server, 1, false);
		raw_get(&server, 3, true);
		raw_frame(&server, s->type, s->flags, s->id, s->payload, s->len);
		if (raw_goaway(&server) != s->code || !server.closed || server.seen[0].reset != HTTP_RESET_PROTOCOL)
			fail_msg("%s: %ld", s->name, raw_goaway(&server));
		assert_int_equal(server.bad[HTTP_BAD_H2_PROTOCOL], 1);
		assert_int_equal(server.count, 2);
		side_done(&server);
		memset(&server, 0, sizeof(server));
	}
	start(ANSWER_NONE);
}

static void test_frames_longer_than_allowed(void **state)
{
	(void)state;
	static char payload[16385];
	start(ANSWER_NONE);
	raw_get(&server, 1, false);
	raw_frame(&server, F_DATA, 0, 1, payload, sizeof(payload));
	assert_true(raw_goaway(&server) == FRAME_SIZE_ERROR || raw_rst(&server, 1) == FRAME_SIZE_ERROR);
}

static void test_streams_that_were_skipped_are_closed(void **state)
{
	(void)state;
	start(ANSWER_200);
	raw_get(&server, 1, true);
	raw_get(&server, 9, true);
	raw_get(&server, 11, true);
	assert_int_equal(server.count, 3);
	raw_get(&server, 5, true);
	assert_int_equal(raw_goaway(&server), PROTOCOL_ERROR);
	assert_int_equal(server.count, 3);
}

static void test_header_block_that_is_interrupted(void **state)
{
	(void)state;
	start(ANSWER_NONE);
	raw_frame(&server, F_HEADERS, END_STREAM, 1, "\202", 1);
	raw_frame(&server, F_PING, 0, 0, "12345678", 8);
	assert_int_equal(raw_goaway(&server), PROTOCOL_ERROR);
}

static void test_bad_preface(void **state)
{
	(void)state;
	side_server(&server, loop);
	fake_push_text(server.f, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
	fake_tick(loop, 0);
	assert_true(server.closed);
	assert_int_equal(server.bad[HTTP_BAD_H2_PROTOCOL], 1);
}

static void test_unknown_frames_and_settings_are_ignored(void **state)
{
	(void)state;
	start(ANSWER_200);
	raw_frame(&server, 0xbe, 0xff, 0, "whatever", 8);
	raw_frame(&server, F_SETTINGS, 0, 0, "\0\x99\0\0\0\1", 6);
	raw_frame(&server, F_PRIORITY, 0, 5, "\0\0\0\3\0", 5);
	raw_get(&server, 1, true);
	assert_int_equal(server.count, 1);
	assert_int_equal(raw_goaway(&server), -1);
	assert_int_equal(raw_count(&server, F_SETTINGS, ACK), 2);
}

/* --- windows */

static void test_data_beyond_the_window(void **state)
{
	(void)state;
	static char payload[16384];
	server.limits = http_limits_default;
	server.limits.stream_window = 65535;
	server.take = 1;
	start(ANSWER_NONE);
	raw_frame(&server, F_SETTINGS, ACK, 0, NULL, 0);
	raw_get(&server, 1, false);
	for (int i = 0; i < 5 && raw_rst(&server, 1) < 0; i++)
		raw_frame(&server, F_DATA, 0, 1, payload, sizeof(payload));
	assert_int_equal(raw_rst(&server, 1), FLOW_CONTROL_ERROR);
	assert_int_equal(server.seen[0].reset, HTTP_RESET_PROTOCOL);
	assert_non_null(server.c);
}

static void test_window_overflow_of_a_stream(void **state)
{
	(void)state;
	start(ANSWER_NONE);
	raw_get(&server, 1, true);
	raw_u32(&server, F_WINDOW, 1, 0x7fffffff);
	assert_int_equal(raw_rst(&server, 1), FLOW_CONTROL_ERROR);
	assert_int_equal(server.seen[0].reset, HTTP_RESET_PROTOCOL);
	assert_non_null(server.c);
}

/* Windows of the peer are kept to, also when SETTINGS shrink them. */
static void test_answers_keep_to_the_windows(void **state)
{
	(void)state;
	static char body[200000];
	bool end;
	start(ANSWER_NONE);
	raw_frame(&server, F_SETTINGS, 0, 0, "\0\4\0\0\0\144", 6); /* 100 */
	raw_get(&server, 1, true);
	struct seen *x = &server.seen[0];
	struct http_head *h = response_head(200);
	stream_send_head(x->s, h, false);
	http_head_free(h);
	seen_send(x, body, sizeof(body), true);
	fake_tick(loop, 0);
	assert_int_equal(raw_data(&server, 1, &end), 100);
	raw_u32(&server, F_WINDOW, 1, 50);
	assert_int_equal(raw_data(&server, 1, &end), 150);
	raw_frame(&server, F_SETTINGS, 0, 0, "\0\4\0\0\0\0", 6); /* -100 now */
	raw_u32(&server, F_WINDOW, 1, 100);
	assert_int_equal(raw_data(&server, 1, &end), 150);
	raw_u32(&server, F_WINDOW, 1, 300000);
	assert_int_equal(raw_data(&server, 1, &end), 65535); /* the connection's */
	assert_false(end);
	raw_u32(&server, F_WINDOW, 0, 300000);
	assert_int_equal(raw_data(&server, 1, &end), sizeof(body));
	assert_true(end);
	assert_int_equal(x->out_sent, sizeof(body));
	assert_int_equal(http_conn_streams(server.c), 0);
}

static void test_zero_window_with_a_kept_body(void **state)
{
	(void)state;
	bool end;
	start(ANSWER_ECHO);
	raw_frame(&server, F_SETTINGS, 0, 0, "\0\4\0\0\0\0", 6);
	raw_get(&server, 1, false);
	raw_frame(&server, F_DATA, 0, 1, "abc", 3);
	raw_frame(&server, F_DATA, END_STREAM, 1, "def", 3);
	assert_int_equal(raw_data(&server, 1, &end), 0);
	raw_u32(&server, F_WINDOW, 1, 4);
	assert_int_equal(raw_data(&server, 1, &end), 4);
	raw_u32(&server, F_WINDOW, 1, 4);
	assert_int_equal(raw_data(&server, 1, &end), 6);
	assert_true(end);
	assert_int_equal(http_conn_streams(server.c), 0);
}

/* What is copied of answers that can't be sent is bounded, for a stream and for all of them; all arrives in the end. */
static void test_kept_answers_are_bounded(void **state)
{
	(void)state;
	static char payload[16384];
	bool end;
	start(ANSWER_ECHO);
	raw_frame(&server, F_SETTINGS, ACK, 0, NULL, 0); /* windows of 256 KiB */
	raw_frame(&server, F_SETTINGS, 0, 0, "\0\4\0\0\0\0", 6);
	size_t kept = 0;
	for (uint32_t i = 0; i < 12; i++) {
		raw_get(&server, 1 + 2 * i, false);
		for (int k = 0; k < 5; k++)
			raw_frame(&server, F_DATA, k == 4 ? END_STREAM : 0, 1 + 2 * i, payload, 16000);
		assert_true(server.seen[i].body.len <= 64 << 10);
		kept += server.seen[i].body.len;
	}
	assert_in_range(kept, 200 << 10, 256 << 10);
	raw_u32(&server, F_WINDOW, 0, 1 << 20);
	for (uint32_t i = 12; i-- > 0;)
		raw_u32(&server, F_WINDOW, 1 + 2 * i, 1 << 20);
	for (uint32_t i = 0; i < 12; i++) {
		assert_int_equal(raw_data(&server, 1 + 2 * i, &end), 80000);
		assert_true(end);
	}
	assert_int_equal(http_conn_streams(server.c), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_malformed_requests_are_reset),
		TEST(test_good_requests),
		TEST(test_content_length_must_match_data),
		TEST(test_bad_trailers_are_reset),
		TEST(test_padding_is_not_body),
		TEST(test_heads_beyond_the_limits_get_431),
		TEST(test_long_trailers_are_reset),
		TEST(test_hpack_bomb_ends_the_connection),
		TEST(test_streams_beyond_the_limit),
		TEST(test_frames_that_end_the_connection),
		TEST(test_frames_longer_than_allowed),
		TEST(test_streams_that_were_skipped_are_closed),
		TEST(test_header_block_that_is_interrupted),
		TEST(test_bad_preface),
		TEST(test_unknown_frames_and_settings_are_ignored),
		TEST(test_data_beyond_the_window),
		TEST(test_window_overflow_of_a_stream),
		TEST(test_answers_keep_to_the_windows),
		TEST(test_zero_window_with_a_kept_body),
		TEST(test_kept_answers_are_bounded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
