/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1 heads and chunk framing from bytes, strictly: what RFC 9112 allows a server to repair is refused, because
 * two parsers that repair differently are how requests are smuggled. Works by whole lines, so the result does not
 * depend on how the bytes were split. No I/O, no clock; one owner. */
#pragma once

#include "agent/helper/http/stream.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum http1_kind { HTTP1_REQUEST, HTTP1_RESPONSE, HTTP1_TRAILERS };

struct http1_fault {
	enum http_bad why;
	uint16_t status; /* that a server answers with; 0: the line is none of HTTP/1's at all */
};

struct http1_parser {
	struct http_head *head; /* the parser's until http1_parse_take() */
	enum http1_kind kind;
	uint32_t bytes;	 /* in lines so far */
	uint32_t fields; /* counted, also those that are not kept */
	bool first_line_done, blank_skipped;
	/* Said by the head; valid when it is complete. */
	bool chunked, has_host, close, keep_alive, connection_upgrade;
	bool coded; /* a Transfer-Encoding was there */
	uint8_t upgrades;
	uint16_t connection_tokens;
	bool absolute; /* the target said the authority */
	struct http_string upgrade;
};

/* Ready for another head; frees a half-parsed one. */
void http1_parse_begin(struct http1_parser *p, enum http1_kind kind);
/* Whole lines of bytes; *used: how many bytes they were. 1: the head is complete and coherent (the bytes after
 * *used are what follows it). 0: more is needed; the caller keeps what was not used and presents it again with more
 * behind it. -EBADMSG: *fault says why. -ENOMEM. */
int http1_parse(struct http1_parser *p, const struct http_limits *limits, const uint8_t *bytes, size_t len,
		size_t *used, struct http1_fault *fault);
/* len bytes without an end of line are kept by the caller: still within the limits? 0 or -EBADMSG. */
int http1_parse_partial(const struct http1_parser *p, const struct http_limits *limits, size_t len,
			struct http1_fault *fault);
struct http_head *http1_parse_take(struct http1_parser *p);
/* "host", "host:port", "[::1]:port": RFC 3986 3.2.2 without userinfo. */
bool http1_authority_valid(const char *p, size_t n, bool need_port);

/* --- chunks */

struct http1_chunks { /* zero: before the first */
	uint8_t state, digits;
	uint16_t extension;
	uint64_t left; /* data of this chunk that is still to come */
};

enum http1_chunk { HTTP1_CHUNK_MORE, HTTP1_CHUNK_DATA, HTTP1_CHUNK_LAST, HTTP1_CHUNK_BAD };

/* The framing at the start of bytes. MORE: all used. DATA: up to c->left bytes of data follow; http1_chunk_taken()
 * counts them. LAST: trailers follow. */
enum http1_chunk http1_chunk_next(struct http1_chunks *c, const uint8_t *bytes, size_t len, size_t *used);
void http1_chunk_taken(struct http1_chunks *c, size_t n);
