/* SPDX-License-Identifier: Apache-2.0 */
/* The %OPERATORS% of access logs, by Envoy's names: which there are, and how a format is read. What they stand for the helper
 * knows. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

/* Of an operator's value. ABSENT: Envoy has it, and nothing here has such a value: always "-". */
enum access_value { ACCESS_TEXT, ACCESS_NUMBER, ACCESS_ABSENT };
enum access_argument { ACCESS_BARE, ACCESS_MAY, ACCESS_MUST }; /* have one in parentheses */

/* X(NAME, value, argument) */
#define ACCESS_OPERATORS(X)                                                                                            \
	X(REQ, TEXT, MUST)                                                                                             \
	X(REQ_WITHOUT_QUERY, TEXT, MUST)                                                                               \
	X(RESP, TEXT, MUST)                                                                                            \
	X(TRAILER, TEXT, MUST)                                                                                         \
	X(CEL, TEXT, MUST)                                                                                             \
	X(START_TIME, TEXT, MAY)                                                                                       \
	X(PROTOCOL, TEXT, BARE)                                                                                        \
	X(RESPONSE_CODE, NUMBER, BARE)                                                                                 \
	X(RESPONSE_FLAGS, TEXT, BARE)                                                                                  \
	X(RESPONSE_FLAGS_LONG, TEXT, BARE)                                                                             \
	X(RESPONSE_CODE_DETAILS, TEXT, MAY)                                                                            \
	X(UPSTREAM_TRANSPORT_FAILURE_REASON, TEXT, BARE)                                                               \
	X(BYTES_RECEIVED, NUMBER, BARE)                                                                                \
	X(BYTES_SENT, NUMBER, BARE)                                                                                    \
	X(REQUEST_HEADERS_BYTES, NUMBER, BARE)                                                                         \
	X(RESPONSE_HEADERS_BYTES, NUMBER, BARE)                                                                        \
	X(DURATION, NUMBER, BARE)                                                                                      \
	X(REQUEST_DURATION, NUMBER, BARE)                                                                              \
	X(RESPONSE_DURATION, NUMBER, BARE)                                                                             \
	X(RESPONSE_TX_DURATION, NUMBER, BARE)                                                                          \
	X(UPSTREAM_HOST, TEXT, BARE)                                                                                   \
	X(UPSTREAM_REMOTE_ADDRESS, TEXT, BARE)                                                                         \
	X(UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT, TEXT, BARE)                                                            \
	X(UPSTREAM_REMOTE_PORT, NUMBER, BARE)                                                                          \
	X(UPSTREAM_CLUSTER, TEXT, BARE)                                                                                \
	X(UPSTREAM_CLUSTER_RAW, TEXT, BARE)                                                                            \
	X(UPSTREAM_LOCAL_ADDRESS, TEXT, BARE)                                                                          \
	X(UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT, TEXT, BARE)                                                             \
	X(UPSTREAM_LOCAL_PORT, NUMBER, BARE)                                                                           \
	X(UPSTREAM_REQUEST_ATTEMPT_COUNT, NUMBER, BARE)                                                                \
	X(DOWNSTREAM_LOCAL_ADDRESS, TEXT, BARE)                                                                        \
	X(DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT, TEXT, BARE)                                                           \
	X(DOWNSTREAM_LOCAL_PORT, NUMBER, BARE)                                                                         \
	X(DOWNSTREAM_REMOTE_ADDRESS, TEXT, BARE)                                                                       \
	X(DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT, TEXT, BARE)                                                          \
	X(DOWNSTREAM_REMOTE_PORT, NUMBER, BARE)                                                                        \
	X(DOWNSTREAM_DIRECT_REMOTE_ADDRESS, TEXT, BARE)                                                                \
	X(DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT, TEXT, BARE)                                                   \
	X(DOWNSTREAM_DIRECT_REMOTE_PORT, NUMBER, BARE)                                                                 \
	X(DOWNSTREAM_PEER_URI_SAN, TEXT, BARE)                                                                         \
	X(DOWNSTREAM_LOCAL_URI_SAN, TEXT, BARE)                                                                        \
	X(ROUTE_NAME, TEXT, BARE)                                                                                      \
	X(VIRTUAL_HOST_NAME, TEXT, BARE)                                                                               \
	X(HOSTNAME, TEXT, BARE)                                                                                        \
	X(STREAM_ID, TEXT, BARE)                                                                                       \
	X(GRPC_STATUS, TEXT, MAY)                                                                                      \
	X(GRPC_STATUS_NUMBER, NUMBER, BARE)                                                                            \
	X(TRACE_ID, TEXT, BARE)                                                                                        \
	X(SPAN_ID, TEXT, BARE)                                                                                         \
	X(ACCESS_LOG_TYPE, TEXT, BARE)                                                                                 \
	X(REQUEST_PRINCIPAL, TEXT, BARE) /* Weft's own */                                                              \
	X(REQUESTED_SERVER_NAME, TEXT, BARE)                                                                           \
	X(CONNECTION_TERMINATION_DETAILS, TEXT, BARE)                                                                  \
	X(CONNECTION_ID, ABSENT, BARE)                                                                                 \
	X(UPSTREAM_CONNECTION_ID, ABSENT, BARE)                                                                        \
	X(VIRTUAL_CLUSTER_NAME, ABSENT, BARE)                                                                          \
	X(LOCAL_REPLY_BODY, ABSENT, BARE)                                                                              \
	X(FILTER_CHAIN_NAME, ABSENT, BARE)                                                                             \
	X(DYNAMIC_METADATA, ABSENT, MAY)                                                                               \
	X(CLUSTER_METADATA, ABSENT, MAY)                                                                               \
	X(UPSTREAM_METADATA, ABSENT, MAY)                                                                              \
	X(METADATA, ABSENT, MAY)                                                                                       \
	X(FILTER_STATE, ABSENT, MAY)                                                                                   \
	X(UPSTREAM_FILTER_STATE, ABSENT, MAY)                                                                          \
	X(ENVIRONMENT, ABSENT, MAY)                                                                                    \
	X(DOWNSTREAM_TRANSPORT_FAILURE_REASON, ABSENT, BARE)                                                           \
	X(DOWNSTREAM_PEER_SUBJECT, TEXT, BARE)                                                                         \
	X(DOWNSTREAM_PEER_ISSUER, ABSENT, BARE)                                                                        \
	X(DOWNSTREAM_PEER_SERIAL, ABSENT, BARE)                                                                        \
	X(DOWNSTREAM_PEER_FINGERPRINT_256, TEXT, BARE)                                                                 \
	X(DOWNSTREAM_PEER_FINGERPRINT_1, ABSENT, BARE)                                                                 \
	X(DOWNSTREAM_PEER_CERT, ABSENT, BARE)                                                                          \
	X(DOWNSTREAM_LOCAL_SUBJECT, ABSENT, BARE)                                                                      \
	X(DOWNSTREAM_TLS_SESSION_ID, ABSENT, BARE)                                                                     \
	X(DOWNSTREAM_TLS_CIPHER, ABSENT, BARE)                                                                         \
	X(DOWNSTREAM_TLS_VERSION, ABSENT, BARE)                                                                        \
	X(UPSTREAM_PEER_SUBJECT, ABSENT, BARE)                                                                         \
	X(UPSTREAM_PEER_URI_SAN, ABSENT, BARE)                                                                         \
	X(UPSTREAM_TLS_CIPHER, ABSENT, BARE)                                                                           \
	X(UPSTREAM_TLS_VERSION, ABSENT, BARE)

enum access_operator_id {
#define ACCESS_OPERATOR_ID(name, value, argument) ACCESS_##name,
	ACCESS_OPERATORS(ACCESS_OPERATOR_ID)
#undef ACCESS_OPERATOR_ID
		ACCESS_OPERATOR_COUNT
};

extern const char access_format_default[]; /* Istio's */

/* One %NAME(argument):max% of a format, read. */
struct access_operator {
	int id; /* enum access_operator_id; -1: there is none of this name, and so never a value */
	enum access_value value;
	const char *name,
		*argument; /* borrowed from the format; name NULL: none was read; argument "" when there is none */
	uint32_t name_len, argument_len;
	uint32_t max; /* bytes */
};

/* Reads the operator that begins at p[0] == '%'. Returns how many bytes it takes with both percent signs; 0: there is none,
 * but a lone percent sign, or two. */
size_t access_operator_read(const char *p, struct access_operator *out);
/* Whether all of a format can be shown, as Envoy asks for it: -EINVAL for what is no operator, by its name. *absent (may be
 * NULL): the first that never has a value, or NULL. */
int access_format_check(const char *format, const char **absent, struct err *err);
