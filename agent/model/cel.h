/* SPDX-License-Identifier: Apache-2.0 */
/* The CEL that Telemetry resources use: filters of access logs ("response.code >= 400 && !connection.mtls") and values of
 * tags ("request.headers['x-tenant']"). Attributes by Envoy's names; literals, comparisons, && || ! ?:,
 * + - * / %, has(), size(), string(), int(), double(), duration() (in milliseconds, as attributes are), startsWith(),
 * endsWith(), contains(), matches() with a literal pattern (a search, as in CEL), `in` over a list or the headers. What is absent is an error, as in
 * CEL: `a != "x"` of an absent a is not true. Evaluated as it is read: no allocation but of patterns, once a thread; bounded depth. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct err;

/* NONE is CEL's error: of an attribute or header that is not there, of types that don't go together. It spreads, but through
 * && and || whose other side decides. */
enum cel_kind { CEL_NONE, CEL_BOOL, CEL_NUMBER, CEL_TEXT };

struct cel_text {
	const char *p; /* NULL: none */
	size_t n;
};

struct cel_value {
	enum cel_kind kind;
	bool b;
	bool real; /* a number that is none of CEL's whole ones */
	double number;
	struct cel_text text;
};

/* X(SYMBOL, "name", type) */
#define CEL_ATTRIBUTES(X)                                                                                              \
	X(REQUEST_METHOD, "request.method", TEXT)                                                                      \
	X(REQUEST_PATH, "request.path", TEXT)                                                                          \
	X(REQUEST_URL_PATH, "request.url_path", TEXT)                                                                  \
	X(REQUEST_QUERY, "request.query", TEXT)                                                                        \
	X(REQUEST_HOST, "request.host", TEXT)                                                                          \
	X(REQUEST_SCHEME, "request.scheme", TEXT)                                                                      \
	X(REQUEST_USERAGENT, "request.useragent", TEXT)                                                                \
	X(REQUEST_REFERER, "request.referer", TEXT)                                                                    \
	X(REQUEST_ID, "request.id", TEXT)                                                                              \
	X(REQUEST_PROTOCOL, "request.protocol", TEXT)                                                                  \
	X(REQUEST_SIZE, "request.size", NUMBER)                                                                        \
	X(REQUEST_TOTAL_SIZE, "request.total_size", NUMBER)                                                            \
	X(REQUEST_DURATION, "request.duration", NUMBER) /* milliseconds */                                             \
	X(RESPONSE_CODE, "response.code", NUMBER)                                                                      \
	X(RESPONSE_CODE_DETAILS, "response.code_details", TEXT)                                                        \
	X(RESPONSE_FLAGS, "response.flags", NUMBER)                                                                    \
	X(RESPONSE_FLAGS_TEXT, "response.flags_text", TEXT) /* Weft's own */                                           \
	X(RESPONSE_GRPC_STATUS, "response.grpc_status", NUMBER)                                                        \
	X(RESPONSE_SIZE, "response.size", NUMBER)                                                                      \
	X(RESPONSE_TOTAL_SIZE, "response.total_size", NUMBER)                                                          \
	X(RESPONSE_BACKEND_LATENCY, "response.backend_latency", NUMBER) /* milliseconds */                             \
	X(CONNECTION_MTLS, "connection.mtls", BOOL)                                                                    \
	X(CONNECTION_PEER, "connection.uri_san_peer_certificate", TEXT)                                                \
	X(CONNECTION_PEER_HASH, "connection.sha256_peer_certificate_digest", TEXT)                                     \
	X(CONNECTION_PEER_SUBJECT, "connection.subject_peer_certificate", TEXT)                                        \
	X(CONNECTION_SERVER_NAME, "connection.requested_server_name", TEXT)                                            \
	X(CONNECTION_TERMINATION, "connection.termination_details", TEXT)                                              \
	X(SOURCE_ADDRESS, "source.address", TEXT)                                                                      \
	X(SOURCE_PORT, "source.port", NUMBER)                                                                          \
	X(DESTINATION_ADDRESS, "destination.address", TEXT)                                                            \
	X(DESTINATION_PORT, "destination.port", NUMBER)                                                                \
	X(UPSTREAM_ADDRESS, "upstream.address", TEXT)                                                                  \
	X(UPSTREAM_PORT, "upstream.port", NUMBER)                                                                      \
	X(UPSTREAM_LOCAL_ADDRESS, "upstream.local_address", TEXT)                                                      \
	X(UPSTREAM_FAILURE, "upstream.transport_failure_reason", TEXT)                                                 \
	X(UPSTREAM_ATTEMPTS, "upstream.request_attempt_count", NUMBER)                                                 \
	X(XDS_CLUSTER_NAME, "xds.cluster_name", TEXT)                                                                  \
	X(XDS_ROUTE_NAME, "xds.route_name", TEXT)                                                                      \
	X(XDS_VIRTUAL_HOST_NAME, "xds.virtual_host_name", TEXT)                                                        \
	X(NODE_ID, "node.id", TEXT)

enum cel_attribute {
#define CEL_ATTRIBUTE_ID(symbol, name, type) CEL_##symbol,
	CEL_ATTRIBUTES(CEL_ATTRIBUTE_ID)
#undef CEL_ATTRIBUTE_ID
		CEL_ATTRIBUTE_COUNT
};

enum cel_fields { CEL_REQUEST_HEADERS, CEL_RESPONSE_HEADERS, CEL_RESPONSE_TRAILERS };

enum { CEL_SCRATCH = 96, CEL_SCRATCH_COUNT = 8, CEL_SCRATCH_TEXT = 4096 };
/* Texts that are made, as of addresses: values may point into it. Need not be cleared. */
struct cel_scratch {
	char v[CEL_SCRATCH_COUNT][CEL_SCRATCH];
	char text[CEL_SCRATCH_TEXT]; /* joined texts, and literals with escapes */
};

/* What an expression is about. scratch: of CEL_SCRATCH bytes, when a text has to be made. name: lower case. */
struct cel_source {
	struct cel_value (*attribute)(enum cel_attribute attribute, char *scratch, const void *arg);
	struct cel_value (*field)(enum cel_fields of, const char *name, const void *arg);
	const void *arg;
};

struct cel_value cel_text_of(struct cel_text text); /* p NULL: none */
struct cel_value cel_string(const char *text);	    /* NULL: none */
struct cel_value cel_number(double n);
struct cel_value cel_bool(bool b);

/* CEL_NONE also when it can't be read. */
struct cel_value cel_evaluate(const char *text, const struct cel_source *source, struct cel_scratch *scratch);
/* Whether it can be read: else -EINVAL, and where it goes wrong, in words that hold nothing that would have to be escaped.
 * -ENOENT: it can, but names an attribute that there is not. condition: it has to be true or false. */
int cel_check(const char *text, bool condition, struct err *err);
