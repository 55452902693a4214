/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/observe/expression.h"

#include <string.h>

#include "agent/base/addr.h"
#include "agent/base/str.h"
#include "agent/helper/observe/record.h"
#include "agent/helper/worker.h"
#include "agent/model/cel.h"
#include "agent/model/cluster.h"
#include "agent/model/http.h"
#include "agent/model/identity.h"

static struct cel_value none(void)
{
	return (struct cel_value){ 0 };
}

static struct cel_value text(struct http_string s)
{
	return cel_text_of((struct cel_text){ s.p, s.n });
}

static struct cel_value address(const struct addr_port *a, char *scratch)
{
	return a ? cel_string(addr_port_text(a, scratch)) : none();
}

static struct cel_value port(const struct addr_port *a)
{
	return a ? cel_number(a->port) : none();
}

static struct cel_value milliseconds(uint64_t from, uint64_t to)
{
	uint64_t ms = to >= from ? (to - from) / 1000000 : 0;
	return from && to >= from ? cel_number((double)ms) : none();
}

static struct http_string path_of(const struct request_record *r)
{
	return r->original_path.p ? r->original_path : r->request->path;
}

/* The path before the question mark, or what is behind it. */
static struct cel_value url_part(const struct request_record *r, bool query)
{
	struct http_string path = path_of(r);
	const char *mark = path.p ? memchr(path.p, '?', path.n) : NULL;
	uint32_t before = mark ? (uint32_t)(mark - path.p) : path.n;
	if (!query)
		path.n = before;
	else
		path = mark ? (struct http_string){ mark + 1, path.n - before - 1 } : (struct http_string){ "", 0 };
	return text(path);
}

static struct cel_value request_attribute(enum cel_attribute which, const struct request_record *r)
{
	const struct http_head *h = r->request;
	if (which == CEL_REQUEST_DURATION)
		return milliseconds(r->began_ns, r->end_ns);
	if (!h) /* a connection that is no HTTP */
		return none();
	switch (which) {
	case CEL_REQUEST_METHOD:
		return text(h->method);
	case CEL_REQUEST_PATH:
		return text(path_of(r));
	case CEL_REQUEST_URL_PATH:
	case CEL_REQUEST_QUERY:
		return url_part(r, which == CEL_REQUEST_QUERY);
	case CEL_REQUEST_HOST:
		return text(r->original_authority.p ? r->original_authority : h->authority);
	case CEL_REQUEST_SCHEME:
		return text(h->scheme);
	case CEL_REQUEST_USERAGENT:
		return text(http_get_id(h, HTTP_USER_AGENT));
	case CEL_REQUEST_REFERER:
		return text(http_get(h, "referer"));
	case CEL_REQUEST_ID:
		return text(http_get_id(h, HTTP_X_REQUEST_ID));
	case CEL_REQUEST_PROTOCOL:
		return cel_string(h->version == HTTP_2 ? "HTTP/2" : h->version == HTTP_1_1 ? "HTTP/1.1" : "HTTP/1.0");
	case CEL_REQUEST_SIZE:
		return cel_number((double)r->request_bytes);
	default: /* CEL_REQUEST_TOTAL_SIZE */
		return cel_number((double)(r->request_bytes + r->request_header_bytes));
	}
}

static struct cel_value response_attribute(enum cel_attribute which, char *scratch, const struct request_record *r)
{
	switch (which) {
	case CEL_RESPONSE_CODE:
		return r->request ? cel_number(r->status) : none();
	case CEL_RESPONSE_CODE_DETAILS:
		return cel_string(r->details);
	case CEL_RESPONSE_FLAGS:
		return cel_number(r->flags);
	case CEL_RESPONSE_FLAGS_TEXT:
		response_flags_text(r->flags, scratch, CEL_SCRATCH);
		return cel_string(scratch);
	case CEL_RESPONSE_GRPC_STATUS:
		return r->grpc && r->grpc_status >= 0 ? cel_number(r->grpc_status) : none();
	case CEL_RESPONSE_SIZE:
		return r->request ? cel_number((double)r->response_bytes) : none();
	case CEL_RESPONSE_TOTAL_SIZE:
		return cel_number((double)(r->response_bytes + r->response_header_bytes));
	default:
		return milliseconds(r->upstream_ns, r->response_begin_ns);
	}
}

static struct cel_value upstream_attribute(enum cel_attribute which, char *scratch, const struct request_record *r)
{
	const struct addr_port *endpoint = r->endpoint ? &r->endpoint->addr : r->upstream;
	switch (which) {
	case CEL_UPSTREAM_ADDRESS:
		return address(endpoint, scratch);
	case CEL_UPSTREAM_PORT:
		return port(endpoint);
	case CEL_UPSTREAM_LOCAL_ADDRESS:
		return address(r->upstream_local, scratch);
	case CEL_UPSTREAM_ATTEMPTS:
		return cel_number(r->attempts);
	default:
		return cel_string(r->transport_failure);
	}
}

static struct cel_value attribute(enum cel_attribute which, char *scratch, const void *arg)
{
	const struct request_record *r = arg;
	if (which <= CEL_REQUEST_DURATION)
		return request_attribute(which, r);
	if (which <= CEL_RESPONSE_BACKEND_LATENCY)
		return response_attribute(which, scratch, r);
	if (which >= CEL_UPSTREAM_ADDRESS && which <= CEL_UPSTREAM_ATTEMPTS)
		return upstream_attribute(which, scratch, r);
	switch (which) {
	case CEL_CONNECTION_MTLS:
		return cel_bool(r->mutual);
	case CEL_CONNECTION_PEER:
		return cel_string(r->peer ? r->peer->uri : NULL);
	case CEL_CONNECTION_PEER_HASH:
		return cel_string(r->peer ? r->peer->certificate_hash : NULL);
	case CEL_CONNECTION_PEER_SUBJECT:
		return cel_string(r->peer ? r->peer->certificate_subject : NULL);
	case CEL_CONNECTION_SERVER_NAME:
		return cel_string(r->server_name);
	case CEL_CONNECTION_TERMINATION:
		return cel_string(r->termination);
	case CEL_SOURCE_ADDRESS:
		return address(r->source, scratch);
	case CEL_SOURCE_PORT:
		return port(r->source);
	case CEL_DESTINATION_ADDRESS:
		return address(r->destination, scratch);
	case CEL_DESTINATION_PORT:
		return port(r->destination);
	case CEL_XDS_CLUSTER_NAME:
		return cel_string(r->cluster ? http_cluster_shown(r->cluster) : r->cluster_name);
	case CEL_XDS_ROUTE_NAME:
		return cel_string(r->route ? r->route->name : NULL);
	case CEL_XDS_VIRTUAL_HOST_NAME:
		return cel_string(r->vhost);
	default: /* CEL_NODE_ID */
		return cel_string(r->pod ? r->pod->uid : NULL);
	}
}

static struct cel_value field(enum cel_fields of, const char *name, const void *arg)
{
	const struct request_record *r = arg;
	const struct http_head *h = of == CEL_REQUEST_HEADERS  ? r->request :
				    of == CEL_RESPONSE_HEADERS ? r->response :
								 r->trailers;
	return h ? text(http_get(h, name)) : none();
}

bool expression_true(const struct request_record *r, const char *expression)
{
	const struct cel_source source = { .attribute = attribute, .field = field, .arg = r };
	struct cel_scratch scratch;
	struct cel_value v = cel_evaluate(expression, &source, &scratch);
	return v.kind == CEL_BOOL && v.b;
}

bool expression_value(const struct request_record *r, const char *expression, struct sb *out)
{
	const struct cel_source source = { .attribute = attribute, .field = field, .arg = r };
	struct cel_scratch scratch;
	struct cel_value v = cel_evaluate(expression, &source, &scratch);
	switch (v.kind) {
	case CEL_TEXT:
		sb_add_bytes(out, v.text.p, v.text.n);
		return true;
	case CEL_NUMBER:
		sb_addf(out, "%.10g", v.number);
		return true;
	case CEL_BOOL:
		sb_add(out, v.b ? "true" : "false");
		return true;
	default:
		return false;
	}
}
