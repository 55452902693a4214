/* SPDX-License-Identifier: Apache-2.0 */
/* What is known of one request when it is over: written once by the engine, read by metrics, access log, spans and tap.
 * Pointers are borrowed and valid during record_finish(). Worker's thread. */
#pragma once

#include "agent/helper/http/message.h"
#include "agent/model/policy_http.h"
#include "agent/model/telemetry.h"

#include "agent/base/addr.h"

#include <stdbool.h>
#include <stdint.h>

struct cluster_endpoint;
struct http_cluster;
struct http_route;
struct identity;
struct observe;
struct sb;
struct worker;
struct worker_pod;

/* Envoy's response flags. X(SYMBOL, "short", "LongName", "meaning") */
#define RESPONSE_FLAGS(X)                                                                                              \
	X(UH, "UH", "NoHealthyUpstream", "no healthy endpoint")                                                        \
	X(UF, "UF", "UpstreamConnectionFailure", "the connection to the endpoint failed")                              \
	X(UO, "UO", "UpstreamOverflow", "a connectionPool limit was reached")                                          \
	X(NR, "NR", "NoRouteFound", "no route matched")                                                                \
	X(NC, "NC", "NoClusterFound", "the route's destination does not exist")                                        \
	X(URX, "URX", "UpstreamRetryLimitExceeded", "all retries failed")                                              \
	X(DC, "DC", "DownstreamConnectionTermination", "the client went away")                                         \
	X(LR, "LR", "LocalReset", "reset by this proxy")                                                               \
	X(UR, "UR", "UpstreamRemoteReset", "reset by the endpoint")                                                    \
	X(UC, "UC", "UpstreamConnectionTermination", "the endpoint's connection ended in the middle")                  \
	X(UT, "UT", "UpstreamRequestTimeout", "the route's timeout")                                                   \
	X(DI, "DI", "DelayInjected", "a fault delayed it")                                                             \
	X(FI, "FI", "FaultInjected", "a fault aborted it")                                                             \
	X(RL, "RL", "RateLimited", "a rate limit")                                                                     \
	X(UAEX, "UAEX", "UnauthorizedExternalService", "external authorisation denied it")                             \
	X(RLSE, "RLSE", "RateLimitServiceError", "the rate limit service failed")                                      \
	X(SI, "SI", "StreamIdleTimeout", "an idle stream")                                                             \
	X(DPE, "DPE", "DownstreamProtocolError", "the client broke HTTP")                                              \
	X(UPE, "UPE", "UpstreamProtocolError", "the endpoint broke HTTP")                                              \
	X(UMSDR, "UMSDR", "UpstreamMaxStreamDurationReached", "the longest duration")                                  \
	X(DT, "DT", "DurationTimeout", "the longest duration of a connection")

enum response_flag {
#define RESPONSE_FLAG_BIT(symbol, short_name, long_name, meaning) FLAG_INDEX_##symbol,
	RESPONSE_FLAGS(RESPONSE_FLAG_BIT)
#undef RESPONSE_FLAG_BIT
		RESPONSE_FLAG_COUNT
};
#define FLAG(symbol) (1u << FLAG_INDEX_##symbol)

struct request_record {
	int reporter;		/* REPORTER_CLIENT or REPORTER_SERVER */
	struct worker_pod *pod; /* of this node: the client, or the server */
	const struct http_head
		*request; /* NULL: a connection that is no HTTP; bytes are its own, and lines all there is */
	const struct http_head *response;		      /* NULL: none was sent */
	const struct http_head *trailers;		      /* of the response; NULL: none */
	struct http_string original_path, original_authority; /* before rewrites */
	uint16_t status;				      /* that the client saw; 0: none */
	int grpc_status;				      /* -1: not gRPC */
	bool grpc;
	uint32_t flags;		       /* FLAG() bits */
	const char *transport_failure; /* why the last attempt got no connection; NULL: it did, or nobody knows */
	const char *details; /* response code details, Envoy's words: "via_upstream", "route_not_found"; never NULL */
	uint64_t start_ns;   /* CLOCK_REALTIME */
	/* CLOCK_MONOTONIC; 0: did not happen */
	uint64_t began_ns, request_end_ns, upstream_ns, response_begin_ns, end_ns;
	uint64_t request_bytes, response_bytes; /* bodies */
	uint64_t request_header_bytes, response_header_bytes;
	uint64_t grpc_request_messages, grpc_response_messages;
	uint32_t attempts;
	const struct http_route *route;
	const char *vhost;
	const struct http_cluster *cluster;
	const struct cluster_endpoint *endpoint;
	/* Server side: who called, as authenticated; NULL: anonymous. Client side: the endpoint's labels say who was called. */
	const struct identity *peer;
	const struct addr_port *source, *destination; /* of the downstream connection; destination: as asked for */
	const struct addr_port *upstream_local;
	const struct addr_port *upstream; /* when there is no endpoint that says it */
	/* Of connections; NULL: none */
	const char *cluster_name, *server_name,
		*termination;			   /* when there is no cluster; of its TLS; why it was ended */
	bool downstream_tls, upstream_tls, mutual; /* mutual: both ends are authenticated (attested too) */
	const char *request_principal;		   /* "issuer/subject"; NULL: none */
	const char *authz_rule;			   /* that denied or audited; NULL: none */
	struct policy_shadow dry_deny, dry_allow;  /* what dry-run rules would say */
	/* Span */
	uint8_t trace_id[16], span_id[8], parent_id[8];
	bool has_parent, sampled;
	bool keep_request_id; /* set before trace_begin(): none is made */
};

int observe_new(struct worker *w, struct observe **out);
void observe_free(struct observe *o);
/* Once a request: counts, writes the access log, emits the span, serves taps. */
void record_finish(struct observe *o, const struct request_record *r);
/* Once a connection that is no HTTP: the access log alone. The kernel counts connections. */
void record_connection(struct observe *o, const struct request_record *r);
/* At the request's beginning: reads traceparent or B3, decides on sampling, makes ids; sets x-request-id when absent.
 * Then, before it is sent on, writes the headers for the next hop. */
void trace_begin(struct observe *o, struct request_record *r, struct http_head *head, const struct telemetry *t);
void trace_inject(struct observe *o, const struct request_record *r, struct http_head *head);
/* %OPERATORS% of access logs, also used by header operations: appends the text. head: the response's when known. */
void record_format(const struct request_record *r, const char *format, struct sb *out);
const char *response_flag_name(enum response_flag flag);
void response_flags_text(uint32_t flags, char *buf, size_t size); /* "UF,URX" or "-" */
