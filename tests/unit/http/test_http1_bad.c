/* SPDX-License-Identifier: Apache-2.0 */
/* What must be refused, and what must not: each request whole, byte by byte, and in random pieces, with the same
 * result. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/loop.h"
#include "agent/helper/http/tick.h"
#include "tests/unit/http/http1_fixture.h"

struct bad {
	const char *request;
	size_t len; /* 0: as a string */
	enum http_bad why;
	uint16_t status;
};

#define BYTES(text) text, sizeof(text) - 1
#define TEXT(text) text, 0
#define GET "GET / HTTP/1.1\r\nHost: a\r\n"
#define POST "POST / HTTP/1.1\r\nHost: a\r\n"
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"

static const struct bad bads[] = {
	/* Content-Length with Transfer-Encoding, in either order */
	{ TEXT(POST "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX"), HTTP_BAD_FRAMING, 400 },
	{ TEXT(POST "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nX"), HTTP_BAD_FRAMING, 400 },
	{ TEXT(POST "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n"), HTTP_BAD_FRAMING, 400 },
	/* several lengths, equal or not; lengths that are no numbers */
	{ TEXT(POST "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"), HTTP_BAD_FRAMING, 400 },
	{ TEXT(POST "Content-Length: 1\r\nContent-Length: 1\r\n\r\na"), HTTP_BAD_FRAMING, 400 },
	{ TEXT(POST "Content-Length: 1, 1\r\n\r\na"), HTTP_BAD_FRAMING, 400 },
	{ TEXT(POST "Content-Length: 1,2\r\n\r\na"), HTTP_BAD_FRAMING, 400 },
	{ TEXT(POST "Content-Length: -1\r\n\r\n"), HTTP_BAD_FRAMING, 400 },
	{ TEXT(POST "Content-Length: +1\r\n\r\na"), HTTP_BAD_FRAMING, 400 },
	{ TEXT(POST "Content-Length: 0x1\r\n\r\na"), HTTP_BAD_FRAMING, 400 },
	{ TEXT(POST "Content-Length: 1 1\r\n\r\na"), HTTP_BAD_FRAMING, 400 },
	{ TEXT(POST "Content-Length: 1_0\r\n\r\na"), HTTP_BAD_FRAMING, 400 },
	{ TEXT(POST "Content-Length:\r\n\r\n"), HTTP_BAD_FRAMING, 400 },
	{ TEXT(POST "Content-Length: 1.0\r\n\r\n"), HTTP_BAD_FRAMING, 400 },
	{ TEXT(POST "Content-Length: 18446744073709551617\r\n\r\n"), HTTP_BAD_FRAMING, 400 },
	{ TEXT(POST "Content-Length: 9223372036854775808\r\n\r\n"), HTTP_BAD_FRAMING, 400 },
	{ TEXT(POST "Content-Length: 0000000000000000000000001\r\n\r\n"), HTTP_BAD_FRAMING, 400 },
	/* odd codings */
	{ TEXT(POST "Transfer-Encoding: xchunked\r\n\r\n"), HTTP_BAD_FRAMING, 400 },
	{ TEXT(POST "Transfer-Encoding: chunked, chunked\r\n\r\n"), HTTP_BAD_FRAMING, 400 },
	{ TEXT(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"), HTTP_BAD_FRAMING, 400 },
	{ TEXT(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n"), HTTP_BAD_FRAMING, 400 },
	{ TEXT(POST "Transfer-Encoding: chunked;q=1\r\n\r\n"), HTTP_BAD_FRAMING, 400 },
	{ TEXT(POST "Transfer-Encoding: \"chunked\"\r\n\r\n"), HTTP_BAD_FRAMING, 400 },
	{ TEXT(POST "Transfer-Encoding: chunked,\r\n\r\n"), HTTP_BAD_FRAMING, 400 },
	{ TEXT(POST "Transfer-Encoding: ,chunked\r\n\r\n"), HTTP_BAD_FRAMING, 400 },
	{ TEXT(POST "Transfer-Encoding: chunked, identity\r\n\r\n"), HTTP_BAD_FRAMING, 400 },
	{ TEXT(POST "Transfer-Encoding: identity\r\n\r\n"), HTTP_BAD_FRAMING, 400 },
	{ TEXT(POST "Transfer-Encoding: gzip\r\n\r\n"), HTTP_BAD_FRAMING, 400 },
	{ TEXT(POST "Transfer-Encoding:\r\n\r\n"), HTTP_BAD_FRAMING, 400 },
	{ TEXT(POST "Transfer-Encoding: gzip, chunked\r\n\r\n"), HTTP_BAD_FRAMING, 501 },
	{ BYTES(POST "Transfer-Encoding: \x0b"
		     "chunked\r\n\r\n"),
	  HTTP_BAD_FIELD, 400 },
	{ TEXT("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), HTTP_BAD_FRAMING, 400 },
	/* fields */
	{ TEXT(GET "X: a\r\n b\r\n\r\n"), HTTP_BAD_FIELD, 400 },
	{ TEXT(GET "X: a\r\n\tb\r\n\r\n"), HTTP_BAD_FIELD, 400 },
	{ TEXT("GET / HTTP/1.1\r\n Host: a\r\n\r\n"), HTTP_BAD_FIELD, 400 },
	{ TEXT("GET / HTTP/1.1\r\n \r\nHost: a\r\n\r\n"), HTTP_BAD_FIELD, 400 },
	{ TEXT(GET "X : a\r\n\r\n"), HTTP_BAD_FIELD, 400 },
	{ TEXT(POST "Content-Length : 1\r\n\r\na"), HTTP_BAD_FIELD, 400 },
	{ TEXT(POST "Transfer-Encoding : chunked\r\n\r\n"), HTTP_BAD_FIELD, 400 },
	{ TEXT(POST "Transfer-Encoding\t: chunked\r\n\r\n"), HTTP_BAD_FIELD, 400 },
	{ TEXT(GET "X\r\n\r\n"), HTTP_BAD_FIELD, 400 },
	{ TEXT(GET ": a\r\n\r\n"), HTTP_BAD_FIELD, 400 },
	{ TEXT(GET "X(): a\r\n\r\n"), HTTP_BAD_FIELD, 400 },
	{ TEXT(GET "X\xc3\xa9: a\r\n\r\n"), HTTP_BAD_FIELD, 400 },
	{ BYTES(GET "X\0: a\r\n\r\n"), HTTP_BAD_FIELD, 400 },
	{ BYTES(GET "X: a\0b\r\n\r\n"), HTTP_BAD_FIELD, 400 },
	{ BYTES(GET "X: a\x7f\r\n\r\n"), HTTP_BAD_FIELD, 400 },
	{ TEXT(GET "X: a\rb\r\n\r\n"), HTTP_BAD_FIELD, 400 },
	{ TEXT(GET "X: a\r\r\n\r\n"), HTTP_BAD_FIELD, 400 },
	{ TEXT(GET "X: a\n\r\n"), HTTP_BAD_FIELD, 400 },
	{ TEXT(GET "X: a\nY: b\r\n\r\n"), HTTP_BAD_FIELD, 400 },
	{ TEXT("GET / HTTP/1.1\r\nHost: a\r\n\n"), HTTP_BAD_FIELD, 400 },
	{ TEXT("GET / HTTP/1.1\nHost: a\n\n"), HTTP_BAD_REQUEST_LINE, 400 },
	{ TEXT("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP_BAD_REQUEST_LINE, 400 },
	{ TEXT("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP_BAD_REQUEST_LINE, 400 },
	/* Host */
	{ TEXT("GET / HTTP/1.1\r\n\r\n"), HTTP_BAD_HOST, 400 },
	{ TEXT("GET http://a/ HTTP/1.1\r\n\r\n"), HTTP_BAD_HOST, 400 },
	{ TEXT(GET "Host: a\r\n\r\n"), HTTP_BAD_HOST, 400 },
	{ TEXT(GET "Host: b\r\n\r\n"), HTTP_BAD_HOST, 400 },
	{ TEXT("GET / HTTP/1.1\r\nHost:\r\n\r\n"), HTTP_BAD_HOST, 400 },
	{ TEXT("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"), HTTP_BAD_HOST, 400 },
	{ TEXT("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"), HTTP_BAD_HOST, 400 },
	{ TEXT("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"), HTTP_BAD_HOST, 400 },
	{ TEXT("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n"), HTTP_BAD_HOST, 400 },
	{ TEXT("GET / HTTP/1.1\r\nHost: a?b\r\n\r\n"), HTTP_BAD_HOST, 400 },
	{ TEXT("GET / HTTP/1.1\r\nHost: a#b\r\n\r\n"), HTTP_BAD_HOST, 400 },
	{ TEXT("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n"), HTTP_BAD_HOST, 400 },
	{ TEXT("GET / HTTP/1.1\r\nHost: a:80:80\r\n\r\n"), HTTP_BAD_HOST, 400 },
	{ TEXT("GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n"), HTTP_BAD_HOST, 400 },
	{ TEXT("GET / HTTP/1.1\r\nHost: :80\r\n\r\n"), HTTP_BAD_HOST, 400 },
	{ TEXT("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"), HTTP_BAD_HOST, 400 },
	{ TEXT("GET / HTTP/1.1\r\nHost: []\r\n\r\n"), HTTP_BAD_HOST, 400 },
	{ TEXT("GET / HTTP/1.1\r\nHost: [::1]a\r\n\r\n"), HTTP_BAD_HOST, 400 },
	{ TEXT("GET / HTTP/1.1\r\nHost: \xc3\xa9\r\n\r\n"), HTTP_BAD_HOST, 400 },
	{ TEXT("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"), HTTP_BAD_HOST, 400 },
	/* the request line */
	{ TEXT(" GET / HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP_BAD_REQUEST_LINE, 400 },
	{ TEXT("GET  / HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP_BAD_REQUEST_LINE, 400 },
	{ TEXT("GET /  HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP_BAD_REQUEST_LINE, 400 },
	{ TEXT("GET / HTTP/1.1 \r\nHost: a\r\n\r\n"), HTTP_BAD_REQUEST_LINE, 400 },
	{ TEXT("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP_BAD_REQUEST_LINE, 400 },
	{ TEXT("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP_BAD_REQUEST_LINE, 400 },
	{ TEXT("GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP_BAD_REQUEST_LINE, 400 },
	{ BYTES("GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP_BAD_REQUEST_LINE, 400 },
	{ TEXT("GET /a\x7f HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP_BAD_REQUEST_LINE, 400 },
	{ TEXT("GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP_BAD_REQUEST_LINE, 400 },
	{ TEXT("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP_BAD_REQUEST_LINE, 400 },
	{ TEXT("GET a HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP_BAD_REQUEST_LINE, 400 },
	{ TEXT("GET * HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP_BAD_REQUEST_LINE, 400 },
	{ TEXT("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP_BAD_REQUEST_LINE, 400 },
	{ TEXT("GET http:// HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP_BAD_REQUEST_LINE, 400 },
	{ TEXT("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP_BAD_HOST, 400 },
	{ TEXT("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP_BAD_HOST, 400 },
	{ TEXT("GET http://a\\b/ HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP_BAD_HOST, 400 },
	{ TEXT("CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP_BAD_HOST, 400 },
	{ TEXT("CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP_BAD_HOST, 400 },
	{ TEXT("CONNECT a: HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP_BAD_HOST, 400 },
	{ TEXT("CONNECT http://a:80/ HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP_BAD_HOST, 400 },
	{ TEXT("CONNECT a:80 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"), HTTP_BAD_FRAMING, 400 },
	{ TEXT("G@T / HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP_BAD_REQUEST_LINE, 400 },
	{ TEXT("GET / HTTP/1.1\rHost: a\r\n\r\n"), HTTP_BAD_REQUEST_LINE, 400 },
	{ TEXT("GET / http/1.1\r\nHost: a\r\n\r\n"), HTTP_BAD_REQUEST_LINE, 400 },
	{ TEXT("GET / HTTP/1\r\nHost: a\r\n\r\n"), HTTP_BAD_REQUEST_LINE, 400 },
	{ TEXT("GET / HTTP/1.11\r\nHost: a\r\n\r\n"), HTTP_BAD_REQUEST_LINE, 400 },
	{ TEXT("GET / HTPP/1.1\r\nHost: a\r\n\r\n"), HTTP_BAD_REQUEST_LINE, 400 },
	/* of other protocols: not answered */
	{ BYTES("\x16\x03\x01\x02\x00\x01\r\n"), HTTP_BAD_REQUEST_LINE, 0 },
	{ TEXT("INVALID CONNECTION PREFACE\r\n\r\n"), HTTP_BAD_REQUEST_LINE, 0 },
	{ TEXT("SSH-2.0-OpenSSH_9\r\n"), HTTP_BAD_REQUEST_LINE, 0 },
	{ TEXT("PING\n"), HTTP_BAD_REQUEST_LINE, 0 },
	{ TEXT("EHLO HTTP/\r\n"), HTTP_BAD_REQUEST_LINE, 400 },
	{ TEXT("GET\r\n"), HTTP_BAD_REQUEST_LINE, 400 },
	{ TEXT("GET \r\n"), HTTP_BAD_REQUEST_LINE, 400 },
	/* versions */
	{ TEXT("GET /\r\n"), HTTP_BAD_VERSION, 505 },
	{ TEXT("GET / HTTP/2.0\r\n"), HTTP_BAD_VERSION, 505 },
	{ TEXT("GET / HTTP/0.9\r\n"), HTTP_BAD_VERSION, 505 },
	{ TEXT("GET / HTTP/1.2\r\n"), HTTP_BAD_VERSION, 505 },
	{ TEXT("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), HTTP_BAD_VERSION, 505 },
	/* chunks; the request itself was good */
	{ TEXT(CHUNKED "g\r\n"), HTTP_BAD_CHUNK, 400 },
	{ TEXT(CHUNKED "\r\n"), HTTP_BAD_CHUNK, 400 },
	{ TEXT(CHUNKED " 1\r\na\r\n0\r\n\r\n"), HTTP_BAD_CHUNK, 400 },
	{ TEXT(CHUNKED "1 \r\na\r\n0\r\n\r\n"), HTTP_BAD_CHUNK, 400 },
	{ TEXT(CHUNKED "1 ;a\r\na\r\n0\r\n\r\n"), HTTP_BAD_CHUNK, 400 },
	{ TEXT(CHUNKED "+1\r\na\r\n0\r\n\r\n"), HTTP_BAD_CHUNK, 400 },
	{ TEXT(CHUNKED "-1\r\na\r\n0\r\n\r\n"), HTTP_BAD_CHUNK, 400 },
	{ TEXT(CHUNKED "0x1\r\na\r\n0\r\n\r\n"), HTTP_BAD_CHUNK, 400 },
	{ TEXT(CHUNKED "1_\r\na\r\n0\r\n\r\n"), HTTP_BAD_CHUNK, 400 },
	{ TEXT(CHUNKED ";a\r\na\r\n0\r\n\r\n"), HTTP_BAD_CHUNK, 400 },
	{ TEXT(CHUNKED "1\na\r\n0\r\n\r\n"), HTTP_BAD_CHUNK, 400 },
	{ TEXT(CHUNKED "1\r\na0\r\n\r\n"), HTTP_BAD_CHUNK, 400 },
	{ TEXT(CHUNKED "1\r\na\n0\r\n\r\n"), HTTP_BAD_CHUNK, 400 },
	{ TEXT(CHUNKED "1\r\nab\r\n0\r\n\r\n"), HTTP_BAD_CHUNK, 400 },
	{ TEXT(CHUNKED "1\rXa\r\n0\r\n\r\n"), HTTP_BAD_CHUNK, 400 },
	{ TEXT(CHUNKED "1;a\nb\r\na\r\n0\r\n\r\n"), HTTP_BAD_CHUNK, 400 },
	{ TEXT(CHUNKED "1;a\rb\r\na\r\n0\r\n\r\n"), HTTP_BAD_CHUNK, 400 },
	{ BYTES(CHUNKED "1;a\0b\r\na\r\n0\r\n\r\n"), HTTP_BAD_CHUNK, 400 },
	{ TEXT(CHUNKED "10000000000000001\r\na\r\n0\r\n\r\n"), HTTP_BAD_CHUNK, 400 },
	{ TEXT(CHUNKED "ffffffffffffffff\r\na\r\n0\r\n\r\n"), HTTP_BAD_CHUNK, 400 },
	{ TEXT(CHUNKED "0000000000000000001\r\na\r\n0\r\n\r\n"), HTTP_BAD_CHUNK, 400 },
	/* trailers */
	{ TEXT(CHUNKED "0\r\nContent-Length: 5\r\n\r\n"), HTTP_BAD_FRAMING, 400 },
	{ TEXT(CHUNKED "0\r\nTransfer-Encoding: chunked\r\n\r\n"), HTTP_BAD_FRAMING, 400 },
	{ TEXT(CHUNKED "0\r\nHost: b\r\n\r\n"), HTTP_BAD_FRAMING, 400 },
	{ TEXT(CHUNKED "0\r\nX : b\r\n\r\n"), HTTP_BAD_FIELD, 400 },
	{ TEXT(CHUNKED "0\r\nX: a\r\n b\r\n\r\n"), HTTP_BAD_FIELD, 400 },
	{ TEXT(CHUNKED "0\r\nX: a\n\r\n"), HTTP_BAD_FIELD, 400 },
	{ TEXT(CHUNKED "0\r\n\n"), HTTP_BAD_FIELD, 400 },
	{ TEXT(CHUNKED "0\r\nGET / HTTP/1.1\r\n"), HTTP_BAD_FIELD, 400 },
};

enum { RANDOM = 8 };

static void run_server(struct fixture *f, const char *bytes, size_t len, int how)
{
	fixture_server(f);
	f->answer = true;
	if (how == 0)
		fake_push(f->t, bytes, len);
	else if (how == 1)
		fake_push_pieces(f->t, bytes, len, 1);
	else
		fake_push_random(f->t, bytes, len, (unsigned int)how);
	tick(f);
}

static void test_bad_requests_are_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bads) / sizeof(bads[0]); i++) {
		const struct bad *b = &bads[i];
		size_t len = b->len ? b->len : strlen(b->request);
		char want[96] = "", *first = NULL;
		if (b->status)
			snprintf(want, sizeof(want), "HTTP/1.1 %u %s\r\ncontent-length: 0\r\nconnection: close\r\n",
				 b->status, http_reason(b->status));
		for (int how = 0; how < 2 + RANDOM; how++) {
			struct fixture f;
			run_server(&f, b->request, len, how);
			if (f.bad_why != (int)b->why || f.bad_status != b->status || !f.closed)
				fail_msg("case %zu (%s), split %d: why %d, status %u, closed %d", i, b->request, how,
					 f.bad_why, f.bad_status, f.closed);
			assert_true(strncmp(said(&f), want, strlen(want)) == 0 && (b->status || !*said(&f)));
			assert_true(f.t->closed && !f.t->aborted);
			if (!first)
				first = strdup(f.log.p);
			assert_string_equal(f.log.p, first);
			/* None is ever taken for whole. */
			assert_null(strstr(f.log.p, "body="));
			fixture_done(&f);
		}
		free(first);
	}
}

static void test_who_has_spoken_http_is_answered(void **state)
{
	(void)state;
	struct fixture f;
	run_server(&f, GET "\r\nINVALID CONNECTION PREFACE\r\n", strlen(GET "\r\nINVALID CONNECTION PREFACE\r\n"), 0);
	assert_int_equal(f.bad_why, HTTP_BAD_REQUEST_LINE);
	assert_int_equal(f.bad_status, 400);
	assert_non_null(strstr(said(&f), "HTTP/1.1 400 "));
	fixture_done(&f);
}

struct good {
	const char *bytes, *log;
};

static const struct good goods[] = {
	{ GET "\r\n", "GET / a end\n" },
	{ "\r\n" GET "\r\n", "GET / a end\n" },
	{ GET "\r\n\r\n" GET "\r\n", "GET / a end\nGET / a end\n" },
	{ "GET /a?b=c;d%20%00|\"<>{}^` HTTP/1.1\r\nhost:a:80 \r\n\r\n", "GET /a?b=c;d%20%00|\"<>{}^` a:80 end\n" },
	{ GET "X-Y:\t b  c \t\r\nx-y:\r\n\r\n", "GET / a [x-y: b  c] [x-y: ] end\n" },
	{ GET "X: \xc3\xa9\t~\r\n!#$%&'*+-.^_`|~09: v\r\n\r\n",
	  "GET / a [x: \xc3\xa9\t~] [!#$%&'*+-.^_`|~09: v] end\n" },
	{ "GET / HTTP/1.1\r\nHost: [fe80::1%25eth0]:8080\r\n\r\n", "GET / [fe80::1%25eth0]:8080 end\n" },
	{ "GET / HTTP/1.1\r\nHost: a_b.c-d:\r\n\r\n", "GET / a_b.c-d: end\n" },
	{ "GET / HTTP/1.0\r\n\r\n", "GET /  1.0 end\nclosed\n" },
	{ "GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\n",
	  "GET / a 1.0 [connection: Keep-Alive] end\nGET /2  1.0 end\nclosed\n" },
	{ GET "Connection: x, Close\r\n\r\n" GET "\r\n", "GET / a [connection: x, Close] end\nclosed\n" },
	{ "GET http://b:81/x?y HTTP/1.1\r\nHost: a\r\n\r\n", "GET /x?y b:81 end\n" },
	{ "GET HTTPS://b HTTP/1.1\r\nHost: a\r\n\r\n", "GET / b end\n" },
	{ "GET http://b?q HTTP/1.1\r\nHost: a\r\n\r\n", "GET /?q b end\n" },
	{ "OPTIONS http://b:80 HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * b:80 end\n" },
	{ "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * a end\n" },
	{ "get /lower HTTP/1.1\r\nHost: a\r\n\r\n", "get /lower a end\n" },
	{ POST "Content-Length: 3\r\n\r\nabc" GET "\r\n", "POST / a cl=3\nbody=abc\nGET / a end\n" },
	{ POST "Content-Length: 0\r\n\r\n" GET "\r\n", "POST / a cl=0 end\nGET / a end\n" },
	{ POST "Content-Length: 003\r\n\r\nabc", "POST / a cl=3\nbody=abc\n" },
	{ "GET / HTTP/1.0\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\na",
	  "GET /  1.0 [connection: keep-alive] cl=1\nbody=a\n" },
	{ POST "Transfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0A\r\n0123456789\r\n0\r\n\r\n" GET "\r\n",
	  "POST / a\nbody=abc0123456789\nGET / a end\n" },
	{ CHUNKED "3;a=b;c=\"d \t\xff\"\r\nabc\r\n00;x\r\n\r\n" GET "\r\n", "POST / a\nbody=abc\nGET / a end\n" },
	{ CHUNKED "1\r\n\r\r\n1\r\n\n\r\n2\r\n\r\n\r\n0\r\n\r\n", "POST / a\nbody=\r\n\r\n\n" },
	{ CHUNKED "0\r\nX-Sum:  1 \r\nTE: x\r\nY: 2\r\n\r\n" GET "\r\n",
	  "POST / a\nbody=\ntrailers [x-sum: 1] [y: 2]\nGET / a end\n" },
	{ CHUNKED "0\r\nConnection: x\r\n\r\n", "POST / a\nbody=\n" },
	{ POST "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\na", "POST / a cl=1 expect\nbody=a\n" },
	{ GET "Expect: 100-continue\r\n\r\n", "GET / a end\n" },
	{ GET "Expect: other\r\n\r\n", "GET / a [expect: other] end\n" },
	{ "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\na",
	  "POST /  1.0 [connection: keep-alive] cl=1\nbody=a\n" },
	{ GET "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n" GET "\r\n",
	  "GET / a [connection: Upgrade, HTTP2-Settings] [upgrade: h2c] [http2-settings: AAA] end\nGET / a end\n" },
	{ GET "Upgrade: websocket\r\n\r\n", "GET / a [upgrade: websocket] end\n" },
	{ POST "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\na",
	  "POST / a [connection: upgrade] [upgrade: websocket] cl=1\nbody=a\n" },
};

static void test_good_requests_are_understood(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(goods) / sizeof(goods[0]); i++) {
		char *out = NULL;
		for (int how = 0; how < 2 + RANDOM; how++) {
			struct fixture f;
			run_server(&f, goods[i].bytes, strlen(goods[i].bytes), how);
			if (strcmp(f.log.p, goods[i].log) != 0)
				fail_msg("case %zu, split %d: %s instead of %s", i, how, f.log.p, goods[i].log);
			if (!out)
				out = strdup(said(&f));
			assert_string_equal(said(&f), out);
			fixture_done(&f);
		}
		free(out);
	}
}

/* --- limits */

static char *repeated(const char *before, const char *unit, size_t count, const char *after)
{
	struct sb sb = { 0 };
	sb_add(&sb, before);
	for (size_t i = 0; i < count; i++)
		sb_add(&sb, unit);
	sb_add(&sb, after);
	return sb_take(&sb);
}

static void check_limit(char *bytes, enum http_bad why, uint16_t status)
{
	char *first = NULL;
	for (int how = 0; how < 4; how++) {
		struct fixture f;
		run_server(&f, bytes, strlen(bytes), how);
		if (status) {
			assert_int_equal(f.bad_status, status);
			assert_int_equal(f.bad_why, why);
		} else {
			assert_int_equal(f.bad_why, -1);
			assert_int_equal(f.requests, 1);
		}
		if (!first)
			first = strdup(f.log.p);
		assert_string_equal(f.log.p, first);
		fixture_done(&f);
	}
	free(first);
	free(bytes);
}

static void test_limits_of_heads(void **state)
{
	(void)state;
	size_t max = http_limits_default.head_bytes;
	check_limit(repeated("GET /", "x", max, " HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP_BAD_TOO_LARGE, 414);
	check_limit(repeated("GET /", "x", max * 2, ""), HTTP_BAD_TOO_LARGE, 414);
	check_limit(repeated(GET "X: ", "x", max, "\r\n\r\n"), HTTP_BAD_TOO_LARGE, 431);
	check_limit(repeated(GET "",
			     "X: 12345678901234567890123456789012345678901234567890123456789012345678901234567890"
			     "12345678901234567890123456789012345678901234567890123456789012345678901234567890"
			     "12345678901234567890123456789012345678901234567890123456789012345678901234567890"
			     "12345678901234567890123456789012345678901234567890123456789012345678901234567890"
			     "12345678901234567890123456789012345678901234567890123456789012345678901234567890"
			     "12345678901234567890123456789012345678901234567890123456789012345678901234567890"
			     "12345678901234567890123456789012345678901234567890123456789012345678901234567890"
			     "12345678901234567890123456789012345678901234567890123456789012345678901234567890"
			     "\r\n",
			     99, "\r\n"),
		    HTTP_BAD_TOO_LARGE, 431);
	check_limit(repeated(GET, "X: y\r\n", 100, "\r\n"), HTTP_BAD_TOO_LARGE, 431);
	check_limit(repeated(GET, "X: y\r\n", 99, "\r\n"), 0, 0);
	check_limit(repeated(GET "Connection: ", "a,", 64, "a\r\n\r\n"), HTTP_BAD_FIELD, 400);
	check_limit(repeated(GET "Connection: ", "a,", 63, "a\r\n\r\n"), 0, 0);
	check_limit(repeated(CHUNKED "1;", "x", 1025, "\r\na\r\n0\r\n\r\n"), HTTP_BAD_CHUNK, 400);
	check_limit(repeated(CHUNKED "1;", "x", 1024, "\r\na\r\n0\r\n\r\n"), 0, 0);
	check_limit(repeated(CHUNKED "0\r\n", "X: y\r\n", 101, "\r\n"), HTTP_BAD_TOO_LARGE, 431);
	check_limit(repeated(CHUNKED "0\r\nX: ", "x", max, "\r\n"), HTTP_BAD_TOO_LARGE, 431);
	/* Exactly as long as allowed. */
	size_t others = strlen("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
	check_limit(repeated("GET /", "x", max - others, " HTTP/1.1\r\nHost: a\r\n\r\n"), 0, 0);
	check_limit(repeated("GET /", "x", max - others + 1, " HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP_BAD_TOO_LARGE, 431);
}

static void test_http10_not_accepted_is_told_to_upgrade(void **state)
{
	(void)state;
	struct http_limits limits = http_limits_default;
	limits.accept_http10 = false;
	struct fixture f;
	fixture_server_with(&f, &limits);
	fake_push_text(f.t, "GET / HTTP/1.0\r\n\r\n");
	assert_int_equal(f.bad_status, 426);
	assert_non_null(strstr(said(&f), "upgrade: HTTP/1.1\r\n"));
	fixture_done(&f);
}

/* --- time */

static void test_slow_head_is_answered_408(void **state)
{
	(void)state;
	struct fixture f;
	fixture_server(&f);
	f.answer = true;
	fake_push_text(f.t, GET "\r\nGET /slow HT");
	for (int i = 0; i < 9; i++) {
		tick_advance(f.loop, 1000);
		fake_push_text(f.t, "T");
		assert_int_equal(f.bad_why, -1);
	}
	tick_advance(f.loop, 2000);
	assert_int_equal(f.bad_why, HTTP_BAD_TIMEOUT);
	assert_int_equal(f.bad_status, 408);
	assert_non_null(strstr(said(&f), "HTTP/1.1 408 Request Timeout\r\n"));
	assert_true(f.closed && !f.t->aborted);
	fixture_done(&f);
}

static void test_silent_connection_is_closed(void **state)
{
	(void)state;
	struct fixture f;
	fixture_server(&f);
	tick_advance(f.loop, 9000);
	assert_false(f.closed);
	tick_advance(f.loop, 2000);
	assert_true(f.closed);
	assert_string_equal(said(&f), "");
	assert_int_equal(f.bad_why, -1);
	fixture_done(&f);
}

static void test_idle_connection_is_closed_after_its_time(void **state)
{
	(void)state;
	struct http_limits limits = http_limits_default;
	limits.idle_timeout_ms = 60000;
	struct fixture f;
	fixture_server_with(&f, &limits);
	f.answer = true;
	for (int i = 0; i < 3; i++) {
		fake_push_text(f.t, GET "\r\n");
		tick_advance(f.loop, 40000);
		assert_false(f.closed);
	}
	tick_advance(f.loop, 21000);
	assert_true(f.closed);
	assert_string_equal(strstr(f.log.p, "closed"), "closed\n");
	fixture_done(&f);
}

static void test_body_that_does_not_come(void **state)
{
	(void)state;
	struct http_limits limits = http_limits_default;
	limits.body_timeout_ms = 5000;
	for (int begun = 0; begun < 2; begun++) {
		struct fixture f;
		fixture_server_with(&f, &limits);
		fake_push_text(f.t, POST "Content-Length: 4\r\n\r\na");
		if (begun)
			say_head(&f, "200 a: b", -1, false);
		tick_advance(f.loop, 4000);
		fake_push_text(f.t, "b");
		tick_advance(f.loop, 4000);
		assert_false(f.closed);
		tick_advance(f.loop, 2000);
		assert_true(f.closed);
		assert_int_equal(f.t->aborted, begun);
		assert_int_equal(strstr(said(&f), "408") != NULL, !begun);
		assert_non_null(strstr(f.log.p, "reset=7\n"));
		fixture_done(&f);
	}
}

/* A user that does not take the body is not the client's fault. */
static void test_body_that_is_not_taken_is_not_late(void **state)
{
	(void)state;
	struct http_limits limits = http_limits_default;
	limits.body_timeout_ms = 5000;
	struct fixture f;
	fixture_server_with(&f, &limits);
	f.body_limit = 1;
	fake_push_text(f.t, POST "Content-Length: 4\r\n\r\nabcd");
	tick_advance(f.loop, 60000);
	assert_false(f.closed);
	f.body_limit = SIZE_MAX;
	stream_resume(f.s);
	assert_non_null(strstr(f.log.p, "body=abcd\n"));
	fixture_done(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_requests_are_refused),
		cmocka_unit_test(test_who_has_spoken_http_is_answered),
		cmocka_unit_test(test_good_requests_are_understood),
		cmocka_unit_test(test_limits_of_heads),
		cmocka_unit_test(test_http10_not_accepted_is_told_to_upgrade),
		cmocka_unit_test(test_slow_head_is_answered_408),
		cmocka_unit_test(test_silent_connection_is_closed),
		cmocka_unit_test(test_idle_connection_is_closed_after_its_time),
		cmocka_unit_test(test_body_that_does_not_come),
		cmocka_unit_test(test_body_that_is_not_taken_is_not_late),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
