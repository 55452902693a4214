/* SPDX-License-Identifier: Apache-2.0 */
/* What each %OPERATOR% stands for. Names as in Envoy's access log documentation; those that have no meaning here are
 * absent, as is a value that a request has not ("-"). One table; operators with an argument take it as text. */
#include "agent/helper/observe/operator.h"

#include "agent/base/addr.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/helper/observe/expression.h"
#include "agent/helper/observe/log_time.h"
#include "agent/helper/worker.h"
#include "agent/model/cluster.h"
#include "agent/model/http.h"
#include "agent/model/identity.h"

#include <stdio.h>
#include <string.h>

enum { FIELD_NAME_MAX = 128, EXPRESSION_MAX = 1024 };

struct operator_text {
	const char *p;
	size_t n;
};

typedef bool (*operator_fn)(const struct request_record *r, struct operator_text argument, struct sb *out);

static bool put(struct sb *out, const char *text)
{
	if (!text || !*text)
		return false;
	sb_add(out, text);
	return true;
}

static bool put_u64(struct sb *out, uint64_t v)
{
	char digits[20];
	size_t at = sizeof(digits);
	do {
		digits[--at] = (char)('0' + v % 10);
		v /= 10;
	} while (v);
	sb_add_bytes(out, digits + at, sizeof(digits) - at);
	return true;
}

static bool is_text(struct operator_text t, const char *text)
{
	return strlen(text) == t.n && memcmp(t.p, text, t.n) == 0;
}

static bool put_addr(struct sb *out, const struct addr_port *a, bool with_port)
{
	char buf[ADDR_PORT_TEXT_MAX];
	if (!a || (addr_is_zero(&a->addr) && !a->port))
		return false;
	if (!addr_is_v4(&a->addr)) {
		sb_add(out, with_port ? addr_port_text(a, buf) : addr_text(&a->addr, buf));
		return true;
	}
	for (size_t i = 12; i < 16; i++) { /* several on each line: without the C library */
		put_u64(out, a->addr.b[i]);
		if (i < 15)
			sb_add_bytes(out, ".", 1);
	}
	if (with_port) {
		sb_add_bytes(out, ":", 1);
		put_u64(out, a->port);
	}
	return true;
}

static bool put_span_ms(struct sb *out, uint64_t from_ns, uint64_t to_ns)
{
	return from_ns && to_ns >= from_ns && put_u64(out, (to_ns - from_ns) / 1000000);
}

/* --- the request */

static bool op_start_time(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	return argument.n ? log_time_format(out, r->start_ns, argument.p, argument.n) : log_time_add(out, r->start_ns);
}

/* A pseudo-header or field of a head, lower case. */
static struct http_string head_value(const struct request_record *r, const struct http_head *h, const char *name)
{
	if (!h)
		return (struct http_string){ 0 };
	if (name[0] != ':')
		return http_get(h, name);
	if (str_eq(name, ":method"))
		return h->method;
	if (str_eq(name, ":authority"))
		return h->authority;
	if (str_eq(name, ":scheme"))
		return h->scheme;
	if (str_eq(name, ":path"))
		return r && r->original_path.p ? r->original_path : h->path;
	return (struct http_string){ 0 };
}

static bool lower_name(char buf[FIELD_NAME_MAX], const char *p, size_t n)
{
	if (n == 0 || n >= FIELD_NAME_MAX)
		return false;
	for (size_t i = 0; i < n; i++)
		buf[i] = (char)(p[i] >= 'A' && p[i] <= 'Z' ? p[i] | 0x20 : p[i]);
	buf[n] = 0;
	return true;
}

/* "X-NAME", or "X-NAME?OTHER": the first that is there. */
static bool put_field(const struct request_record *r, const struct http_head *h, struct operator_text argument,
		      struct sb *out)
{
	char name[FIELD_NAME_MAX];
	const char *p = argument.p;
	size_t n = argument.n;

	while (n) {
		const char *mark = memchr(p, '?', n);
		size_t len = mark ? (size_t)(mark - p) : n;
		struct http_string v = { 0 };
		if (lower_name(name, p, len))
			v = head_value(str_eq(name, ":path") ? r : NULL, h, name);
		if (v.p) {
			sb_add_bytes(out, v.p, v.n);
			return true;
		}
		p += len + (mark != NULL);
		n -= len + (mark != NULL);
	}
	return false;
}

static bool op_req(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	return put_field(r, r->request, argument, out);
}

/* The query may hold what should not be written down. */
static bool op_req_bare(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	size_t before = out->len;
	if (!put_field(r, r->request, argument, out))
		return false;
	const char *mark = out->failed ? NULL : memchr(out->p + before, '?', out->len - before);
	if (mark) {
		out->len = (size_t)(mark - out->p);
		out->p[out->len] = 0;
	}
	return true;
}

static bool op_resp(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	char name[FIELD_NAME_MAX];
	if (lower_name(name, argument.p, argument.n) && str_eq(name, "x-envoy-upstream-service-time"))
		return put_span_ms(out, r->upstream_ns, r->response_begin_ns);
	return put_field(NULL, r->response, argument, out);
}

static bool op_trailer(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	return put_field(NULL, r->trailers, argument, out);
}

static bool op_protocol(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	static const char *const names[] = { "HTTP/1.0", "HTTP/1.1", "HTTP/2" };
	(void)argument;
	return r->request && put(out, names[r->request->version]);
}

/* --- the answer */

static bool op_code(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return put_u64(out, r->status);
}

static bool op_transport_failure(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return put(out, r->transport_failure);
}

static bool op_details(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return put(out, r->details);
}

static bool op_flags(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	char buf[128];
	(void)argument;
	response_flags_text(r->flags, buf, sizeof(buf));
	return put(out, buf);
}

static bool op_flags_long(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	static const char *const names[RESPONSE_FLAG_COUNT] = {
#define LONG_NAME(symbol, short_name, long_name, meaning) [FLAG_INDEX_##symbol] = long_name,
		RESPONSE_FLAGS(LONG_NAME)
#undef LONG_NAME
	};
	bool any = false;
	(void)argument;
	for (size_t i = 0; i < RESPONSE_FLAG_COUNT; i++) {
		if (!(r->flags & (1u << i)))
			continue;
		sb_addf(out, "%s%s", any ? "," : "", names[i]);
		any = true;
	}
	return any;
}

static bool op_grpc(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	static const char *const names[] = {
		"OK",	    "Canceled",	      "Unknown",	  "InvalidArgument",   "DeadlineExceeded",
		"NotFound", "AlreadyExists",  "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
		"Aborted",  "OutOfRange",     "Unimplemented",	  "Internal",	       "Unavailable",
		"DataLoss", "Unauthenticated"
	};
	static const char *const snake[] = {
		"OK",	     "CANCELLED",      "UNKNOWN",	    "INVALID_ARGUMENT",	  "DEADLINE_EXCEEDED",
		"NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
		"ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",	    "INTERNAL",		  "UNAVAILABLE",
		"DATA_LOSS", "UNAUTHENTICATED"
	};
	if (!r->grpc || r->grpc_status < 0)
		return false;
	if (is_text(argument, "NUMBER") || (size_t)r->grpc_status >= ARRAY_SIZE(names))
		return put_u64(out, (uint64_t)r->grpc_status);
	return put(out, (is_text(argument, "SNAKE_STRING") ? snake : names)[r->grpc_status]);
}

static bool op_grpc_number(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return r->grpc && r->grpc_status >= 0 && put_u64(out, (uint64_t)r->grpc_status);
}

static bool op_request_header_bytes(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return put_u64(out, r->request_header_bytes);
}

static bool op_response_header_bytes(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return put_u64(out, r->response_header_bytes);
}

static bool op_bytes_received(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return put_u64(out, r->request_bytes);
}

static bool op_bytes_sent(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return put_u64(out, r->response_bytes);
}

static bool op_duration(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return put_span_ms(out, r->began_ns, r->end_ns);
}

static bool op_request_duration(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return put_span_ms(out, r->began_ns, r->request_end_ns);
}

static bool op_response_duration(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return put_span_ms(out, r->began_ns, r->response_begin_ns);
}

static bool op_response_tx(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return put_span_ms(out, r->response_begin_ns, r->end_ns);
}

static bool op_attempts(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return r->attempts && put_u64(out, r->attempts);
}

static bool op_termination(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return put(out, r->termination);
}

/* --- where */

static const struct addr_port *upstream_of(const struct request_record *r)
{
	return r->endpoint ? &r->endpoint->addr : r->upstream;
}

static bool op_upstream_host(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return put_addr(out, upstream_of(r), true);
}

/* On the server's side as Envoy calls the way to the application. */
static bool op_upstream_cluster(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	if (r->cluster || r->cluster_name)
		return put(out, r->cluster ? http_cluster_shown(r->cluster) : r->cluster_name);
	if (r->reporter != REPORTER_SERVER || !r->destination)
		return false;
	sb_addf(out, "inbound|%u||", r->destination->port);
	return true;
}

static bool op_upstream_local(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return put_addr(out, r->upstream_local, true);
}

static bool op_local(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return put_addr(out, r->destination, true);
}

static bool op_local_bare(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return put_addr(out, r->destination, false);
}

static bool op_local_port(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return r->destination && put_u64(out, r->destination->port);
}

static bool op_remote(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return put_addr(out, r->source, true);
}

static bool op_remote_bare(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return put_addr(out, r->source, false);
}

static bool op_remote_port(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return r->source && put_u64(out, r->source->port);
}

static bool op_upstream_host_bare(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return put_addr(out, upstream_of(r), false);
}

static bool op_upstream_port(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	const struct addr_port *upstream = upstream_of(r);
	return upstream && put_u64(out, upstream->port);
}

static bool op_route(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	/* The server's side has none but that one, in Istio too. */
	return r->route ? put(out, r->route->name) :
			  r->request && r->reporter == REPORTER_SERVER && put(out, "default");
}

static bool op_vhost(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return put(out, r->vhost);
}

static bool op_peer(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return r->peer && put(out, r->peer->uri);
}

static bool op_peer_hash(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return r->peer && put(out, r->peer->certificate_hash);
}

static bool op_peer_subject(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return r->peer && put(out, r->peer->certificate_subject);
}

static bool op_hostname(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return r->pod && put(out, r->pod->name);
}

static bool op_server_name(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return put(out, r->server_name);
}

static bool put_id(struct sb *out, const uint8_t *id, size_t n)
{
	static const uint8_t none[16];
	if (!memcmp(id, none, n))
		return false;
	for (size_t i = 0; i < n; i++)
		sb_addf(out, "%02x", id[i]);
	return true;
}

static bool op_trace_id(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return put_id(out, r->trace_id, sizeof(r->trace_id));
}

static bool op_span_id(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return put_id(out, r->span_id, sizeof(r->span_id));
}

static bool op_principal(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return put(out, r->request_principal);
}

static bool op_local_uri(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return r->mutual && r->pod && r->pod->identity && put(out, r->pod->identity->uri);
}

static bool op_upstream_local_bare(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return put_addr(out, r->upstream_local, false);
}

static bool op_upstream_local_port(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return r->upstream_local && r->upstream_local->port && put_u64(out, r->upstream_local->port);
}

static bool op_stream_id(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	struct http_string id = r->request ? http_get_id(r->request, HTTP_X_REQUEST_ID) : (struct http_string){ 0 };
	(void)argument;
	sb_add_bytes(out, id.p, id.n);
	return id.n > 0;
}

static bool op_type(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return put(out, r->request ? "DownstreamEnd" : "TcpConnectionEnd"); /* none of what is under way */
}

static bool op_cel(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	char text[EXPRESSION_MAX];
	if (argument.n >= sizeof(text))
		return false;
	memcpy(text, argument.p, argument.n);
	text[argument.n] = 0;
	return expression_value(r, text, out);
}

static const operator_fn writers[ACCESS_OPERATOR_COUNT] = {
	[ACCESS_REQ] = op_req,
	[ACCESS_RESP] = op_resp,
	[ACCESS_START_TIME] = op_start_time,
	[ACCESS_PROTOCOL] = op_protocol,
	[ACCESS_RESPONSE_CODE] = op_code,
	[ACCESS_RESPONSE_FLAGS] = op_flags,
	[ACCESS_RESPONSE_CODE_DETAILS] = op_details,
	[ACCESS_UPSTREAM_TRANSPORT_FAILURE_REASON] = op_transport_failure,
	[ACCESS_BYTES_RECEIVED] = op_bytes_received,
	[ACCESS_BYTES_SENT] = op_bytes_sent,
	[ACCESS_REQUEST_HEADERS_BYTES] = op_request_header_bytes,
	[ACCESS_RESPONSE_HEADERS_BYTES] = op_response_header_bytes,
	[ACCESS_DURATION] = op_duration,
	[ACCESS_REQUEST_DURATION] = op_request_duration,
	[ACCESS_RESPONSE_DURATION] = op_response_duration,
	[ACCESS_RESPONSE_TX_DURATION] = op_response_tx,
	[ACCESS_UPSTREAM_HOST] = op_upstream_host,
	[ACCESS_UPSTREAM_REMOTE_ADDRESS] = op_upstream_host,
	[ACCESS_UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT] = op_upstream_host_bare,
	[ACCESS_UPSTREAM_REMOTE_PORT] = op_upstream_port,
	[ACCESS_UPSTREAM_CLUSTER] = op_upstream_cluster,
	[ACCESS_UPSTREAM_CLUSTER_RAW] = op_upstream_cluster,
	[ACCESS_UPSTREAM_LOCAL_ADDRESS] = op_upstream_local,
	[ACCESS_UPSTREAM_REQUEST_ATTEMPT_COUNT] = op_attempts,
	[ACCESS_DOWNSTREAM_LOCAL_ADDRESS] = op_local,
	[ACCESS_DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT] = op_local_bare,
	[ACCESS_DOWNSTREAM_LOCAL_PORT] = op_local_port,
	[ACCESS_DOWNSTREAM_REMOTE_ADDRESS] = op_remote,
	[ACCESS_DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT] = op_remote_bare,
	[ACCESS_DOWNSTREAM_DIRECT_REMOTE_ADDRESS] = op_remote,
	[ACCESS_DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT] = op_remote_bare,
	[ACCESS_DOWNSTREAM_REMOTE_PORT] = op_remote_port,
	[ACCESS_DOWNSTREAM_PEER_URI_SAN] = op_peer,
	[ACCESS_DOWNSTREAM_PEER_FINGERPRINT_256] = op_peer_hash,
	[ACCESS_DOWNSTREAM_PEER_SUBJECT] = op_peer_subject,
	[ACCESS_ROUTE_NAME] = op_route,
	[ACCESS_VIRTUAL_HOST_NAME] = op_vhost,
	[ACCESS_HOSTNAME] = op_hostname,
	[ACCESS_GRPC_STATUS] = op_grpc,
	[ACCESS_GRPC_STATUS_NUMBER] = op_grpc_number,
	[ACCESS_TRAILER] = op_trailer,
	[ACCESS_TRACE_ID] = op_trace_id,
	[ACCESS_REQUEST_PRINCIPAL] = op_principal,
	[ACCESS_REQ_WITHOUT_QUERY] = op_req_bare,
	[ACCESS_CEL] = op_cel,
	[ACCESS_RESPONSE_FLAGS_LONG] = op_flags_long,
	[ACCESS_UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT] = op_upstream_local_bare,
	[ACCESS_UPSTREAM_LOCAL_PORT] = op_upstream_local_port,
	[ACCESS_DOWNSTREAM_DIRECT_REMOTE_PORT] = op_remote_port,
	[ACCESS_DOWNSTREAM_LOCAL_URI_SAN] = op_local_uri,
	[ACCESS_STREAM_ID] = op_stream_id,
	[ACCESS_SPAN_ID] = op_span_id,
	[ACCESS_ACCESS_LOG_TYPE] = op_type,
	[ACCESS_REQUESTED_SERVER_NAME] = op_server_name,
	[ACCESS_CONNECTION_TERMINATION_DETAILS] = op_termination,
};

bool operator_write(const struct request_record *r, const struct access_operator *op, struct sb *out)
{
	size_t before = out->len;
	if (op->id < 0 || !writers[op->id] ||
	    !writers[op->id](r, (struct operator_text){ op->argument, op->argument_len }, out))
		return false;
	/* "%REQ(X):10%": at most ten bytes, and no half characters. */
	if (op->value == ACCESS_TEXT && out->len - before > op->max && !out->failed) {
		size_t end = before + op->max;
		while (end > before && ((unsigned char)out->p[end] & 0xc0) == 0x80)
			end--;
		out->len = end;
		out->p[end] = 0;
	}
	return true;
}
