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

enum { OPERATOR_MAX = 256, FIELD_NAME_MAX = 128 };

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
	sb_addf(out, "%llu", (unsigned long long)v);
	return true;
}

static bool put_addr(struct sb *out, const struct addr_port *a, bool with_port)
{
	char buf[ADDR_PORT_TEXT_MAX];
	if (!a || (addr_is_zero(&a->addr) && !a->port))
		return false;
	sb_add(out, with_port ? addr_port_text(a, buf) : addr_text(&a->addr, buf));
	return true;
}

static bool put_span_ms(struct sb *out, uint64_t from_ns, uint64_t to_ns)
{
	return from_ns && to_ns >= from_ns && put_u64(out, (to_ns - from_ns) / 1000000);
}

/* --- the request */

static bool op_start_time(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	time_t s = (time_t)(r->start_ns / 1000000000);
	unsigned int ms = (unsigned int)(r->start_ns / 1000000 % 1000);
	char format[64], text[128];
	struct tm tm;

	if (!gmtime_r(&s, &tm))
		return false;
	if (argument.n == 0) {
		strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
		sb_addf(out, "%s.%03uZ", text, ms);
		return true;
	}
	if (argument.n >= sizeof(format))
		return false;
	memcpy(format, argument.p, argument.n);
	format[argument.n] = 0;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* the configuration's own */
	size_t n = strftime(text, sizeof(text), format, &tm);
#pragma GCC diagnostic pop
	sb_add_bytes(out, text, n);
	return n > 0;
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
	static const char *const names[] = { "OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded",
					     "NotFound", "AlreadyExists", "PermissionDenied", "ResourceExhausted",
					     "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented", "Internal",
					     "Unavailable", "DataLoss", "Unauthenticated" };
	if (!r->grpc || r->grpc_status < 0)
		return false;
	if ((argument.n == 6 && !memcmp(argument.p, "NUMBER", 6)) || (size_t)r->grpc_status >= ARRAY_SIZE(names))
		return put_u64(out, (uint64_t)r->grpc_status);
	return put(out, names[r->grpc_status]);
}

static bool op_grpc_number(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)argument;
	return r->grpc && r->grpc_status >= 0 && put_u64(out, (uint64_t)r->grpc_status);
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
	return r->cluster && put(out, r->cluster->name);
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

static bool op_absent(const struct request_record *r, struct operator_text argument, struct sb *out)
{
	(void)r;
	(void)argument;
	(void)out;
	return false;
}

static const struct operator {
	const char *name;
	operator_fn write;
	bool number;
} operators[] = {
	{ "REQ", op_req, false },
	{ "RESP", op_resp, false },
	{ "START_TIME", op_start_time, false },
	{ "PROTOCOL", op_protocol, false },
	{ "RESPONSE_CODE", op_code, true },
	{ "RESPONSE_FLAGS", op_flags, false },
	{ "RESPONSE_CODE_DETAILS", op_details, false },
	{ "BYTES_RECEIVED", op_bytes_received, true },
	{ "BYTES_SENT", op_bytes_sent, true },
	{ "DURATION", op_duration, true },
	{ "REQUEST_DURATION", op_request_duration, true },
	{ "RESPONSE_DURATION", op_response_duration, true },
	{ "RESPONSE_TX_DURATION", op_response_tx, true },
	{ "UPSTREAM_HOST", op_upstream_host, false },
	{ "UPSTREAM_REMOTE_ADDRESS", op_upstream_host, false },
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
	{ "DOWNSTREAM_PEER_URI_SAN", op_peer, false },
	{ "ROUTE_NAME", op_route, false },
	{ "VIRTUAL_CLUSTER_NAME", op_absent, false },
	{ "VIRTUAL_HOST_NAME", op_vhost, false },
	{ "HOSTNAME", op_hostname, false },
	{ "GRPC_STATUS", op_grpc, false },
	{ "GRPC_STATUS_NUMBER", op_grpc_number, true },
	{ "TRAILER", op_trailer, false },
	{ "TRACE_ID", op_trace_id, false },
	{ "REQUEST_PRINCIPAL", op_principal, false }, /* Weft's own */
};

size_t operator_find(const char *p, struct operator_text *out)
{
	const char *end = p + 1;
	bool argument = false;

	/* An argument may hold percent signs, as START_TIME's does. */
	while (*end && (*end != '%' || argument) && end - p < OPERATOR_MAX) {
		argument = *end == '(' ? true : *end == ')' ? false : argument;
		end++;
	}
	if (*end != '%' || end == p + 1)
		return 0;
	*out = (struct operator_text){ p + 1, (size_t)(end - p - 1) };
	return (size_t)(end - p) + 1;
}

/* "%REQ(X):10%": at most ten bytes. */
static void cut(struct sb *out, size_t before, struct operator_text op)
{
	const char *colon = memrchr(op.p, ':', op.n);
	size_t max = 0, digits = colon ? op.n - (size_t)(colon + 1 - op.p) : 0;

	if (!digits || digits > 6 || out->failed || colon[-1] != ')')
		return;
	for (size_t i = 1; i <= digits; i++) {
		if (colon[i] < '0' || colon[i] > '9')
			return;
		max = max * 10 + (size_t)(colon[i] - '0');
	}
	if (out->len - before > max) {
		out->len = before + max;
		out->p[out->len] = 0;
	}
}

bool operator_write(const struct request_record *r, struct operator_text op, struct sb *out, bool *number)
{
	const char *open = memchr(op.p, '(', op.n);
	size_t name_len = open ? (size_t)(open - op.p) : op.n;
	struct operator_text argument = { op.p, 0 };

	if (open) {
		const char *close = memrchr(open, ')', op.n - name_len);
		if (!close)
			return false;
		argument = (struct operator_text){ open + 1, (size_t)(close - open - 1) };
	}
	for (size_t i = 0; i < ARRAY_SIZE(operators); i++) {
		const struct operator *o = &operators[i];
		if (strlen(o->name) != name_len || memcmp(o->name, op.p, name_len) != 0)
			continue;
		size_t before = out->len;
		*number = o->number;
		if (!o->write(r, argument, out))
			return false;
		cut(out, before, op);
		return true;
	}
	return false;
}
