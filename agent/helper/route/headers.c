/* SPDX-License-Identifier: Apache-2.0 */
/* What a request's head becomes before it is sent on, as Istio's sidecars do it: x-forwarded-for is the application's own
 * (a sidecar is no edge and doesn't append), x-forwarded-proto is there, client certificates are never claimed, headers that
 * steer Envoy are not taken from applications. */
#include "agent/helper/route/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/helper/worker.h"
#include "agent/model/identity.h"

size_t number_text(char *buf, uint64_t n)
{
	char digits[20];
	size_t len = 0;
	do
		digits[len++] = (char)('0' + n % 10);
	while (n /= 10);
	for (size_t i = 0; i < len; i++)
		buf[i] = digits[len - 1 - i];
	return len;
}

struct http_string authority_host(struct http_string a)
{
	const char *colon = a.p ? memrchr(a.p, ':', a.n) : NULL;
	const char *bracket = a.p ? memrchr(a.p, ']', a.n) : NULL;
	if (colon && (!bracket || bracket < colon))
		a.n = (uint32_t)(colon - a.p);
	return a;
}

const char *request_host(struct exchange_private *e)
{
	struct http_string host = authority_host(e->x.head->authority);
	char *text = host.p ? http_head_room(e->x.head, host.n + 1u) : NULL;
	if (!text)
		return NULL;
	/* Hosts have no case; whoever looks it up need not know. */
	for (uint32_t i = 0; i < host.n; i++)
		text[i] = (char)(host.p[i] >= 'A' && host.p[i] <= 'Z' ? host.p[i] | 0x20 : host.p[i]);
	text[host.n] = '\0';
	return text;
}

/* --- operations of routes and destinations --- */

static bool is_authority(const char *name)
{
	return !strcasecmp(name, "host") || !strcasecmp(name, ":authority");
}

static void op_put(struct http_head *head, const struct http_header_value *v, bool add,
		   const struct request_record *record)
{
	AUTO(sb_done) struct sb text = { 0 };
	const char *value = v->value ? v->value : "";
	if (strchr(value, '%')) {
		record_format(record, value, &text);
		value = text.p && !text.failed ? text.p : "";
	}
	if (is_authority(v->name)) {
		struct http_string authority = http_head_text(head, value, strlen(value));
		if (authority.p && *value && !head->status)
			head->authority = authority;
	} else if (v->name[0] != ':') {
		if (add)
			http_add(head, v->name, value);
		else
			http_set(head, v->name, value);
	}
}

/* Removals first, so that a field can be removed and put anew. */
void header_ops_apply(const struct http_header_ops *ops, struct http_head *head, const struct request_record *record)
{
	for (size_t i = 0; i < ops->remove_count; i++)
		if (ops->remove[i][0] != ':' && !is_authority(ops->remove[i]))
			http_remove(head, ops->remove[i]);
	for (size_t i = 0; i < ops->set_count; i++)
		op_put(head, &ops->set[i], false, record);
	for (size_t i = 0; i < ops->add_count; i++)
		op_put(head, &ops->add[i], true, record);
}

/* --- what applications may not say --- */

static bool is_steering(struct http_string name)
{
	static const char *const names[] = {
		"retry-on",
		"retry-grpc-on",
		"max-retries",
		"retriable-status-codes",
		"retriable-header-names",
		"upstream-alt-stat-name",
		"upstream-rq-timeout-ms",
		"upstream-rq-per-try-timeout-ms",
		"upstream-rq-timeout-alt-response",
		"expected-rq-timeout-ms",
		"upstream-stream-duration-ms",
		"force-trace",
		"ip-tags",
		"original-url",
		"internal",
		"hedge-on-per-try-timeout",
		"original-path",
		"decorator-operation",
	};
	static const char prefix[] = "x-envoy-";
	size_t n = sizeof(prefix) - 1;
	if (name.n <= n || memcmp(name.p, prefix, n))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (name.n - n == strlen(names[i]) && !memcmp(name.p + n, names[i], name.n - n))
			return true;
	return false;
}

static void remove_steering(struct http_head *head)
{
	size_t kept = 0;
	for (size_t i = 0; i < head->field_count; i++) {
		if (head->fields[i].id == HTTP_NAME_OTHER && is_steering(head->fields[i].name))
			continue;
		if (kept != i)
			head->fields[kept] = head->fields[i];
		kept++;
	}
	head->field_count = kept;
}

/* x-forwarded-client-cert: from whom we know (hash and subject are of a certificate, which those whom the kernel vouches for
 * have not shown), added to what they were told; never from whom we don't, unless that is
 * asked for. As Envoy's forward_client_cert_details. */
static void client_cert(struct exchange_private *e, struct http_head *head)
{
	const struct exchange *x = &e->x;
	const struct proxy_settings *settings = exchange_settings(x);
	enum proxy_client_cert mode = settings->client_cert;
	if (x->side == SIDE_SERVER && mode == PROXY_CERT_ALWAYS_FORWARD)
		return;
	if (x->side == SIDE_CLIENT || !x->peer || mode == PROXY_CERT_SANITIZE) {
		http_remove_id(head, HTTP_X_FORWARDED_CLIENT_CERT);
		return;
	}
	if (mode == PROXY_CERT_FORWARD)
		return;
	struct http_string before = { 0 };
	if (mode == PROXY_CERT_APPEND)
		before = http_get_joined(head, "x-forwarded-client-cert");
	const char *by = x->pod->identity ? x->pod->identity->uri : "";
	const char *uri = settings->no_cert_uri ? "" : x->peer->uri;
	const char *hash = x->peer->certificate_hash, *subject = x->peer->certificate_subject;
	if (settings->no_cert_subject || !hash)
		subject = NULL;
	struct http_string value =
		http_head_textf(head, "%.*s%sBy=%s%s%s%s%s%s%s%s", (int)before.n, before.p ? before.p : "",
				before.n ? "," : "", by, hash ? ";Hash=" : "", hash ? hash : "",
				subject ? ";Subject=\"" : "", subject ? subject : "", subject ? "\"" : "",
				*uri ? ";URI=" : "", uri);
	if (value.p)
		http_set_id(head, HTTP_X_FORWARDED_CLIENT_CERT, value.p, value.n);
}

/* --- the route's changes --- */

static int rewrite_path(struct exchange_private *e, struct http_head *head)
{
	struct exchange *x = &e->x;
	bool failed = false;
	struct http_view path = { x->path.p, x->path.n }, query = { x->query.p, x->query.n };
	AUTO(mem_freep) char *rewritten = http_rewrite_path(x->route, x->match, path, query, &failed);
	if (failed)
		return -ENOMEM;
	if (!rewritten)
		return 0;
	struct http_string text = http_head_text(head, rewritten, strlen(rewritten));
	if (!text.p)
		return -ENOMEM;
	struct http_string before = head->path;
	head->path = text;
	if (exchange_settings(x)->no_envoy_headers)
		return 0;
	http_remove(head, "x-envoy-original-path");
	return http_add_ref(head, (struct http_string){ "x-envoy-original-path", 21 }, before);
}

static int rewrite_authority(struct exchange_private *e, struct http_head *head)
{
	const struct http_route *route = e->x.route;
	const char *host = e->destination->host_rewrite;
	if (!host && route->rewrite)
		host = route->rewrite->authority;
	if (!host)
		return 0;
	struct http_string text = http_head_text(head, host, strlen(host));
	if (!text.p)
		return -ENOMEM;
	head->authority = text;
	return 0;
}

static int routed(struct exchange_private *e, struct http_head *head)
{
	const struct http_route *route = e->x.route;
	const struct request_record *r = &e->x.record;
	if (e->timeout_ms && !exchange_settings(&e->x)->no_envoy_headers) {
		static const struct http_string name = { "x-envoy-expected-rq-timeout-ms", 30 };
		char text[20];
		struct http_string value = http_head_text(head, text, number_text(text, e->timeout_ms));
		if (!value.p || http_add_ref(head, name, value) < 0)
			return -ENOMEM;
	}
	header_ops_apply(&e->destination->request, head, r);
	header_ops_apply(&route->request, head, r);
	int rc = rewrite_authority(e, head);
	if (!rc && route->rewrite)
		rc = rewrite_path(e, head);
	return rc;
}

/* Before anything looks at it: what a filter changes later is not what the proxies before us told. */
static void remote_find(struct exchange *x)
{
	uint32_t trusted = exchange_settings(x)->trusted_proxies;
	if (!trusted)
		return;
	struct http_string told = http_get_joined(x->head, "x-forwarded-for");
	x->remote_unknown = proxy_remote_addr(trusted, told.p, told.n, &x->source.addr, &x->remote) < 0;
}

int request_receive(struct exchange_private *e)
{
	struct http_head *head = e->x.head;
	http_remove_hop_by_hop(head);
	remote_find(&e->x);
	remove_steering(head);
	client_cert(e, head);
	if (http_get_id(head, HTTP_X_FORWARDED_PROTO).p)
		return 0;
	bool https = e->conn->tls && e->x.side == SIDE_CLIENT;
	struct http_string proto = https ? (struct http_string){ "https", 5 } : (struct http_string){ "http", 4 };
	return http_add_ref(head, http_name_text(HTTP_X_FORWARDED_PROTO), proto);
}

int request_prepare(struct exchange_private *e)
{
	struct http_head *head = e->x.head;
	int rc = e->x.side == SIDE_CLIENT ? routed(e, head) : 0;
	trace_inject(worker_observe(e->x.w), &e->x.record, head);
	return rc;
}

void request_attempt_count(struct exchange_private *e, struct http_head *head)
{
	if (!e->x.vhost || !e->x.vhost->include_attempt_count || exchange_settings(&e->x)->no_attempt_count)
		return;
	char text[20];
	http_set_id(head, HTTP_X_ENVOY_ATTEMPT_COUNT, text, number_text(text, e->x.record.attempts));
}
