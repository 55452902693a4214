/* SPDX-License-Identifier: Apache-2.0 */
/* What each %OPERATOR% stands for. Names as in Envoy's access log documentation; those that have no meaning here are
 * absent, as is a value that a request has not ("-"). One table; operators with an argument take it as text. */
#include "agent/helper/observe/operator.h"

#include "agent/base/addr.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/helper/worker.h"
#include "agent/model/cluster.h"
#include "agent/model/http.h"
#include "agent/model/identity.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { FIELD_NAME_MAX = 128 };

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

/* The seconds' part changes once a second: kept as text. "2026-11-21T16:00:00" */
static const char *seconds_text(time_t s)
{
	static _Thread_local time_t of = -1;
	static _Thread_local char text[32];
	struct tm tm;
	if (s == of)
		return text;
	if (!gmtime_r(&s, &tm) || !strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm))
		return NULL;
	of = s;
	return text;
}

/* Envoy's additions to strftime: %3f (digits of the second's fraction; %f: nine), %E3S (seconds with them), and %s, which is
 * the zone's in the C library. Returns how many bytes of the format it was; 0: none of those. */
static size_t fraction(const char *p, size_t n, uint64_t ns, char *out, size_t size)
{
	char digits[10];
	snprintf(digits, sizeof(digits), "%09u", (unsigned int)(ns % 1000000000));
	if (n >= 2 && p[1] == 's')
		return snprintf(out, size, "%llu", (unsigned long long)(ns / 1000000000)) > 0 ? 2 : 0;
	if (n >= 2 && p[1] == 'f')
		return snprintf(out, size, "%s", digits) > 0 ? 2 : 0;
	if (n >= 3 && p[1] >= '1' && p[1] <= '9' && p[2] == 'f')
		return snprintf(out, size, "%.*s", p[1] - '0', digits) > 0 ? 3 : 0;
	if (n >= 4 && p[1] == 'E' && p[2] >= '1' && p[2] <= '9' && p[3] == 'S')
		return snprintf(out, size, "%%S.%.*s", p[2] - '0', digits) > 0 ? 4 : 0;
	return 0;
}

static bool put_time(struct sb *out, uint64_t ns, struct operator_text f)
{
	time_t s = (time_t)(ns / 1000000000);
	char format[128], text[256];
	size_t len = 0;
	struct tm tm;

	for (size_t i = 0; i < f.n;) {
		char part[24] = { f.p[i], 0 };
		size_t n = 1;
		if (f.p[i] == '%') {
			n = fraction(f.p + i, f.n - i, ns, part, sizeof(part));
			if (!n && i + 1 < f.n) {
				part[1] = f.p[i + 1];
				n = 2;
			} else if (!n) {
				return false; /* ends in the middle */
			}
		}
		if (!str_copy(format + len, sizeof(format) - len, part))
			return false;
		len += strlen(part);
		i += n;
	}
	if (!gmtime_r(&s, &tm))
		return false;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* the configuration's own */
	size_t n = strftime(text, sizeof(text), format, &tm);
#pragma GCC diagnostic pop
	sb_add_bytes(out, text, n);
	return n > 0;
}

static bool op_start_time(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	unsigned int ms = (unsigned int)(r->start_ns / 1000000 % 1000);
	const char tail[] = { '.', (char)('0' + ms / 100), (char)('0' + ms / 10 % 10), (char)('0' + ms % 10), 'Z' };

	if (argument.n)
		return put_time(out, r->start_ns, argument);
	if (!put(out, seconds_text((time_t)(r->start_ns / 1000000000))))
		return false;
	sb_add_bytes(out, tail, sizeof(tail));
	return true;
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

/* --- where */

static bool op_upstream_host(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return r->endpoint && put_addr(out, &r->endpoint->addr, true);
}

static bool op_upstream_cluster(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return r->cluster && put(out, http_cluster_shown(r->cluster));
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
	return r->endpoint && put_addr(out, &r->endpoint->addr, false);
}

static bool op_upstream_port(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return r->endpoint && put_u64(out, r->endpoint->addr.port);
}

static bool op_route(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return r->route && put(out, r->route->name);
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

static bool op_hostname(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return r->pod && put(out, r->pod->name);
}

static bool op_trace_id(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	static const uint8_t none[16];
	(void)argument;
	if (!memcmp(r->trace_id, none, sizeof(none)))
		return false;
	for (size_t i = 0; i < sizeof(r->trace_id); i++)
		sb_addf(out, "%02x", r->trace_id[i]);
	return true;
}

static bool op_principal(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return put(out, r->request_principal);
}

struct operator
{
	const char *name;
	operator_fn write;
	bool number;
};

static const struct operator operators[] = {
	{ "REQ", op_req, false },
	{ "RESP", op_resp, false },
	{ "START_TIME", op_start_time, false },
	{ "PROTOCOL", op_protocol, false },
	{ "RESPONSE_CODE", op_code, true },
	{ "RESPONSE_FLAGS", op_flags, false },
	{ "RESPONSE_CODE_DETAILS", op_details, false },
	{ "UPSTREAM_TRANSPORT_FAILURE_REASON", op_transport_failure, false },
	{ "BYTES_RECEIVED", op_bytes_received, true },
	{ "BYTES_SENT", op_bytes_sent, true },
	{ "REQUEST_HEADERS_BYTES", op_request_header_bytes, true },
	{ "RESPONSE_HEADERS_BYTES", op_response_header_bytes, true },
	{ "DURATION", op_duration, true },
	{ "REQUEST_DURATION", op_request_duration, true },
	{ "RESPONSE_DURATION", op_response_duration, true },
	{ "RESPONSE_TX_DURATION", op_response_tx, true },
	{ "UPSTREAM_HOST", op_upstream_host, false },
	{ "UPSTREAM_REMOTE_ADDRESS", op_upstream_host, false },
	{ "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", op_upstream_host_bare, false },
	{ "UPSTREAM_REMOTE_PORT", op_upstream_port, true },
	{ "UPSTREAM_CLUSTER", op_upstream_cluster, false },
	{ "UPSTREAM_CLUSTER_RAW", op_upstream_cluster, false },
	{ "UPSTREAM_LOCAL_ADDRESS", op_upstream_local, false },
	{ "UPSTREAM_REQUEST_ATTEMPT_COUNT", op_attempts, true },
	{ "DOWNSTREAM_LOCAL_ADDRESS", op_local, false },
	{ "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", op_local_bare, false },
	{ "DOWNSTREAM_LOCAL_PORT", op_local_port, true },
	{ "DOWNSTREAM_REMOTE_ADDRESS", op_remote, false },
	{ "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", op_remote_bare, false },
	{ "DOWNSTREAM_DIRECT_REMOTE_ADDRESS", op_remote, false },
	{ "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", op_remote_bare, false },
	{ "DOWNSTREAM_REMOTE_PORT", op_remote_port, true },
	{ "DOWNSTREAM_PEER_URI_SAN", op_peer, false },
	{ "ROUTE_NAME", op_route, false },
	{ "VIRTUAL_HOST_NAME", op_vhost, false },
	{ "HOSTNAME", op_hostname, false },
	{ "GRPC_STATUS", op_grpc, false },
	{ "GRPC_STATUS_NUMBER", op_grpc_number, true },
	{ "TRAILER", op_trailer, false },
	{ "TRACE_ID", op_trace_id, false },
	{ "REQUEST_PRINCIPAL", op_principal, false }, /* Weft's own */
};

static bool is_name(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

size_t operator_find(const char *p, struct operator_call *out)
{
	const char *at = p + 1;
	*out = (struct operator_call){ .argument = "", .max = UINT32_MAX };
	while (is_name(*at) && at - p < FIELD_NAME_MAX)
		at++;
	size_t name_len = (size_t)(at - p - 1);
	if (!name_len)
		return 0;
	if (*at == '(') { /* which may hold percent signs, as START_TIME's does */
		size_t n = strcspn(++at, ")");
		if (!at[n] || n > UINT16_MAX)
			return 0;
		out->argument = at;
		out->argument_len = (uint32_t)n;
		at += n + 1;
	}
	if (*at == ':' && at[1] >= '0' && at[1] <= '9') {
		out->max = 0;
		for (at++; *at >= '0' && *at <= '9'; at++)
			out->max = out->max > UINT16_MAX ? out->max : out->max * 10 + (uint32_t)(*at - '0');
	}
	if (*at != '%')
		return 0;
	out->name = p + 1;
	for (size_t i = 0; i < ARRAY_SIZE(operators) && !out->op; i++)
		if (strlen(operators[i].name) == name_len && !memcmp(operators[i].name, out->name, name_len))
			out->op = &operators[i];
	return (size_t)(at - p) + 1;
}

bool operator_is_number(const struct operator_call *call)
{
	return call->op && call->op->number;
}

bool operator_write(const struct request_record *r, const struct operator_call *call, struct sb *out)
{
	size_t before = out->len;
	if (!call->op || !call->op->write(r, (struct operator_text){ call->argument, call->argument_len }, out))
		return false;
	/* "%REQ(X):10%": at most ten bytes, and no half characters. */
	if (!call->op->number && out->len - before > call->max && !out->failed) {
		size_t end = before + call->max;
		while (end > before && ((unsigned char)out->p[end] & 0xc0) == 0x80)
			end--;
		out->len = end;
		out->p[end] = 0;
	}
	return true;
}
