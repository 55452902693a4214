/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1 heads as bytes. Pure, but for the date, which is kept for a second by each thread. */
#pragma once

#include "agent/helper/http/message.h"

#include <stdint.h>

/* What the codec says of the body and the connection. */
struct http1_framing {
	bool length, chunked;	   /* Content-Length: head->content_length; Transfer-Encoding: chunked */
	bool close, keep_alive;	   /* Connection */
	bool upgrade;		   /* Connection: upgrade, Upgrade: head->protocol */
	bool date;		   /* when the head has none */
	uint64_t now_ns;	   /* of the loop's clock; for the date */
	uint16_t status;	   /* of a response */
	struct http_string method; /* of a request */
	bool websocket_key;	   /* of RFC 6455, when the head has none */
};

/* At most this many bytes. */
size_t http1_head_room(const struct http_head *head, const struct http1_framing *f);
/* Returns how many bytes were written at `to`; 0: the head can't be sent (its method, target or authority would
 * break the line). */
size_t http1_request_write(char *to, const struct http_head *head, const struct http1_framing *f);
size_t http1_response_write(char *to, const struct http_head *head, const struct http1_framing *f);
/* Fields and the empty line. */
size_t http1_trailers_write(char *to, const struct http_head *trailers);
/* A number's hexadecimal digits and CRLF, as before a chunk: at most 18 bytes. */
size_t http1_chunk_write(char *to, uint64_t size);
/* The codec's own answer to what it refuses, without a body. Returns its length. */
enum { HTTP1_REFUSAL_MAX = 256 };
size_t http1_refusal_write(char to[HTTP1_REFUSAL_MAX], uint16_t status, uint64_t now_ns);
