/* SPDX-License-Identifier: Apache-2.0 */
/* The head of an HTTP message, version-independent: pseudo-headers as members, fields in order with lower-case names.
 * All text lies in one block that the head owns. One owner, one thread. RFC 9110. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Names that somebody looks for: found by their id without comparing. X(SYMBOL, "name") */
#define HTTP_NAMES(X)                                                                                                  \
	X(ACCEPT_ENCODING, "accept-encoding")                                                                          \
	X(ACCESS_CONTROL_REQUEST_METHOD, "access-control-request-method")                                              \
	X(AUTHORIZATION, "authorization")                                                                              \
	X(BAGGAGE, "baggage")                                                                                          \
	X(CONNECTION, "connection")                                                                                    \
	X(CONTENT_LENGTH, "content-length")                                                                            \
	X(CONTENT_TYPE, "content-type")                                                                                \
	X(COOKIE, "cookie")                                                                                            \
	X(DATE, "date")                                                                                                \
	X(EXPECT, "expect")                                                                                            \
	X(FORWARDED, "forwarded")                                                                                      \
	X(GRPC_MESSAGE, "grpc-message")                                                                                \
	X(GRPC_STATUS, "grpc-status")                                                                                  \
	X(GRPC_TIMEOUT, "grpc-timeout")                                                                                \
	X(HOST, "host")                                                                                                \
	X(HTTP2_SETTINGS, "http2-settings")                                                                            \
	X(KEEP_ALIVE, "keep-alive")                                                                                    \
	X(LOCATION, "location")                                                                                        \
	X(ORIGIN, "origin")                                                                                            \
	X(PROXY_CONNECTION, "proxy-connection")                                                                        \
	X(RETRY_AFTER, "retry-after")                                                                                  \
	X(SERVER, "server")                                                                                            \
	X(SET_COOKIE, "set-cookie")                                                                                    \
	X(TE, "te")                                                                                                    \
	X(TRACEPARENT, "traceparent")                                                                                  \
	X(TRACESTATE, "tracestate")                                                                                    \
	X(TRAILER, "trailer")                                                                                          \
	X(TRANSFER_ENCODING, "transfer-encoding")                                                                      \
	X(UPGRADE, "upgrade")                                                                                          \
	X(USER_AGENT, "user-agent")                                                                                    \
	X(VIA, "via")                                                                                                  \
	X(X_B3_FLAGS, "x-b3-flags")                                                                                    \
	X(X_B3_SAMPLED, "x-b3-sampled")                                                                                \
	X(X_B3_SPANID, "x-b3-spanid")                                                                                  \
	X(X_B3_TRACEID, "x-b3-traceid")                                                                                \
	X(X_ENVOY_ATTEMPT_COUNT, "x-envoy-attempt-count")                                                              \
	X(X_ENVOY_RATELIMITED, "x-envoy-ratelimited")                                                                  \
	X(X_FORWARDED_CLIENT_CERT, "x-forwarded-client-cert")                                                          \
	X(X_FORWARDED_FOR, "x-forwarded-for")                                                                          \
	X(X_FORWARDED_HOST, "x-forwarded-host")                                                                        \
	X(X_FORWARDED_PROTO, "x-forwarded-proto")                                                                      \
	X(X_REQUEST_ID, "x-request-id")

enum http_name {
	HTTP_NAME_OTHER,
#define HTTP_NAME_ID(symbol, text) HTTP_##symbol,
	HTTP_NAMES(HTTP_NAME_ID)
#undef HTTP_NAME_ID
		HTTP_NAME_COUNT
};

struct http_string { /* p NULL: absent. Not NUL-terminated unless said */
	const char *p;
	uint32_t n;
};

struct http_field {
	struct http_string name; /* lower case */
	struct http_string value;
	uint16_t id;	     /* enum http_name */
	bool sensitive;	     /* never indexed by HPACK */
	const char *as_sent; /* the name in the sender's case (HTTP/1), n bytes; NULL: lower case */
};

enum http_version { HTTP_1_0, HTTP_1_1, HTTP_2 };

/* Names that HTTP/1's codec writes itself, as their sender wrote them: same letters, perhaps of another case. NULL: lower. */
enum http_spelt {
	HTTP_SPELT_HOST,
	HTTP_SPELT_CONTENT_LENGTH,
	HTTP_SPELT_TRANSFER_ENCODING,
	HTTP_SPELT_EXPECT,
	HTTP_SPELT_CONNECTION,
	HTTP_SPELT_UPGRADE,
	HTTP_SPELT_COUNT
};
struct http_spelling {
	const char *of[HTTP_SPELT_COUNT];
};

struct http_head {
	enum http_version version; /* that it arrived in */
	/* request */
	struct http_string method, scheme,
		authority;	     /* authority: Host, or :authority, or of an absolute-form target */
	struct http_string path;     /* with query, as sent; "*" for OPTIONS * */
	struct http_string protocol; /* extended CONNECT's, or Upgrade's (one value) */
	/* response */
	uint16_t status;
	/* both */
	struct http_field *fields;
	size_t field_count, field_cap;
	int64_t content_length; /* -1: none said. The codec frames by this: it is not among the fields */
	bool upgrade;		/* request: asks for `protocol`; response: 101. Then bodies are raw bytes both ways */
	bool expect_continue;
	size_t text_bytes;		/* of all names and values, for limits */
	struct http_spelling *spelling; /* in the head; NULL: all lower case */
	/* private: the text, and what http_get_joined() made */
	struct http_block *blocks;
	struct http_joined *joined;
};

/* Heads come from a free list of the thread: cheap. NULL: no memory. */
struct http_head *http_head_new(void);
void http_heads_trim(void);		  /* gives the thread's free list back, as after a time without requests */
void http_head_free(struct http_head *h); /* NULL is fine */
struct http_head *http_head_copy(const struct http_head *h);
/* Copies text into the head. p NULL: no memory. */
struct http_string http_head_text(struct http_head *h, const char *p, size_t n);
struct http_string http_head_textf(struct http_head *h, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Room for n bytes that the caller fills. */
char *http_head_room(struct http_head *h, size_t n);
/* Remembers how n bytes of a name were written; what there is no memory for is lower case. */
void http_head_spell(struct http_head *h, enum http_spelt which, const char *as_sent, size_t n);

enum http_name http_name_id(const char *lower, size_t n);
struct http_string http_name_text(enum http_name id);

/* Fields. Names are lower-case. Names and values are not copied by _add_ref (they live as long as the head) nor
 * judged; the others refuse what http_name_valid() and http_value_valid() refuse: 0, -ENOMEM or -EINVAL. */
int http_add_ref(struct http_head *h, struct http_string name, struct http_string value);
int http_add_known(struct http_head *h, struct http_string name, enum http_name id,
		   struct http_string value); /* same */
int http_add(struct http_head *h, const char *name, const char *value);
int http_add_id(struct http_head *h, enum http_name id, const char *value, size_t n);
int http_set(struct http_head *h, const char *name, const char *value); /* replaces all of that name */
int http_set_id(struct http_head *h, enum http_name id, const char *value, size_t n);
void http_remove(struct http_head *h, const char *name);
void http_remove_id(struct http_head *h, enum http_name id);
/* The first; p NULL: absent. */
struct http_string http_get(const struct http_head *h, const char *name);
struct http_string http_get_id(const struct http_head *h, enum http_name id);
/* All of that name joined with "," (", " is Envoy's form for none: use ","); the text lies in the head. Cookies
 * with "; ". */
struct http_string http_get_joined(struct http_head *h, const char *name);
bool http_is(struct http_string s, const char *text);	     /* equal */
bool http_is_nocase(struct http_string s, const char *text); /* ASCII */
/* A token in a comma-separated list, without case ("close" in Connection). */
bool http_list_has(struct http_string list, const char *token);
/* Removes what belongs to one hop: Connection and what it names, Keep-Alive, Proxy-Connection, Transfer-Encoding,
 * TE (but "trailers"), Upgrade (unless head->upgrade), HTTP2-Settings. RFC 9110 7.6.1. */
void http_remove_hop_by_hop(struct http_head *h);
bool http_name_valid(const char *p, size_t n);	/* token, RFC 9110 5.6.2 */
bool http_value_valid(const char *p, size_t n); /* no NUL, CR, LF; no leading or trailing blank */
const char *http_reason(uint16_t status);	/* "Not Found"; "" when unknown */
bool http_status_has_body(uint16_t status);
