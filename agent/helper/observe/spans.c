/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/observe/spans.h"

#include "agent/base/loop.h"
#include "agent/base/str.h"
#include "agent/helper/observe/record.h"
#include "agent/helper/worker.h"
#include "agent/link/span.h"
#include "agent/model/cluster.h"
#include "agent/model/http.h"
#include "agent/model/identity.h"
#include "agent/model/telemetry.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FLUSH_MS = 200, BATCH_BYTES = 32 << 10 };

struct spans {
	struct worker *w;
	struct loop_timer *timer;
	bool timer_runs;
	struct sb batch;
	uint32_t count;
};

static void flush(struct spans *s)
{
	if (s->count)
		worker_spans(s->w, (const uint8_t *)s->batch.p, s->batch.len, s->count);
	sb_done(&s->batch);
	s->batch = (struct sb){ 0 };
	s->count = 0;
}

static void on_flush(struct loop_timer *timer, void *arg)
{
	struct spans *s = arg;
	(void)timer;
	s->timer_runs = false;
	flush(s);
}

int spans_new(struct worker *w, struct spans **out)
{
	struct spans *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->w = w;
	int rc = loop_timer_new(worker_loop(w), on_flush, s, &s->timer);
	if (rc < 0) {
		free(s);
		return rc;
	}
	*out = s;
	return 0;
}

void spans_free(struct spans *s)
{
	if (!s)
		return;
	flush(s);
	loop_timer_free(s->timer);
	free(s);
}

/* --- one span, by OpenTelemetry's semantic conventions and Istio's own tags */

struct making {
	struct span span;
	char text[SPAN_ATTRIBUTES_MAX][256]; /* copies with an end, cut to what fits */
	size_t used;
};

static const char *copy(struct making *m, const char *p, size_t n)
{
	if (m->used == SPAN_ATTRIBUTES_MAX)
		return "";
	char *to = m->text[m->used++];
	n = n < sizeof(m->text[0]) - 1 ? n : sizeof(m->text[0]) - 1;
	for (size_t i = 0; i < n; i++) /* protobuf strings are UTF-8 */
		to[i] = (char)((unsigned char)p[i] < 0x80 && p[i] ? p[i] : '?');
	to[n] = 0;
	return to;
}

static void attribute(struct making *m, const char *key, const char *text)
{
	if (text && *text && m->span.attribute_count < SPAN_ATTRIBUTES_MAX)
		m->span.attributes[m->span.attribute_count++] = (struct span_attribute){ .key = key, .text = text };
}

/* A tag of the configuration's is in place of what has its name already. */
static void attribute_set(struct making *m, const char *key, const char *text)
{
	for (size_t i = 0; i < m->span.attribute_count; i++) {
		if (text && *text && !strcmp(m->span.attributes[i].key, key)) {
			m->span.attributes[i].text = text;
			return;
		}
	}
	attribute(m, key, text);
}

static void attribute_string(struct making *m, const char *key, struct http_string s)
{
	if (s.p && m->used < SPAN_ATTRIBUTES_MAX)
		attribute(m, key, copy(m, s.p, s.n));
}

static void attribute_number(struct making *m, const char *key, int64_t number)
{
	if (m->span.attribute_count < SPAN_ATTRIBUTES_MAX)
		m->span.attributes[m->span.attribute_count++] = (struct span_attribute){ .key = key, .number = number };
}

/* NULL or "": no tag. */
static const char *tag_value(struct making *m, const struct custom_tag *tag, const struct request_record *r)
{
	if (tag->kind == TAG_LITERAL)
		return tag->value;
	if (tag->kind == TAG_FORMATTER) {
		struct sb out = { 0 };
		record_format(r, tag->value, &out);
		const char *value = out.failed ? NULL : copy(m, out.p ? out.p : "", out.len);
		sb_done(&out);
		return value;
	}
	struct http_string v = http_get(r->request, tag->value);
	return v.p ? copy(m, v.p, v.n) : tag->default_value;
}

static void tags(struct making *m, const struct tracing *t, const struct request_record *r)
{
	for (size_t i = 0; i < t->tag_count; i++)
		attribute_set(m, t->tags[i].name, tag_value(m, &t->tags[i], r));
}

/* As Istio's proxies write them. */
static void dry_run(struct making *m, const struct policy_shadow *s, enum policy_action action, const char *name_key,
		    const char *result_key)
{
	char name[256];

	if (!s->asked)
		return;
	attribute(m, result_key, policy_shadow_refuses(s, action) ? "denied" : "allowed");
	if (!s->rule)
		return;
	policy_rule_text(s->rule, name, sizeof(name));
	attribute(m, name_key, copy(m, name, strlen(name)));
}

static void attributes(struct making *m, const struct request_record *r, bool istio)
{
	char flags[96], address[ADDR_PORT_TEXT_MAX];
	const struct http_head *h = r->request;

	attribute_string(m, "http.request.method", h->method);
	attribute_string(m, "url.path", r->original_path.p ? r->original_path : h->path);
	attribute_string(m, "server.address", r->original_authority.p ? r->original_authority : h->authority);
	attribute_string(m, "user_agent.original", http_get_id(h, HTTP_USER_AGENT));
	attribute_string(m, "guid:x-request-id", http_get_id(h, HTTP_X_REQUEST_ID));
	attribute(m, "network.protocol.version", h->version == HTTP_2 ? "2" : h->version == HTTP_1_1 ? "1.1" : "1.0");
	if (r->status)
		attribute_number(m, "http.response.status_code", r->status);
	if (r->grpc && r->grpc_status >= 0)
		attribute_number(m, "rpc.grpc.status_code", r->grpc_status);
	attribute_number(m, "http.request.body.size", (int64_t)r->request_bytes);
	attribute_number(m, "http.response.body.size", (int64_t)r->response_bytes);
	response_flags_text(r->flags, flags, sizeof(flags));
	attribute(m, "response_flags", copy(m, flags, strlen(flags)));
	attribute(m, "upstream_cluster", r->cluster ? http_cluster_shown(r->cluster) : NULL);
	if (r->endpoint) {
		addr_port_text(&r->endpoint->addr, address);
		attribute(m, "network.peer.address", copy(m, address, strlen(address)));
	}
	if (r->attempts > 1)
		attribute_number(m, "http.request.resend_count", r->attempts - 1);
	if (istio) {
		attribute(m, "istio.namespace", r->pod->ns);
		attribute(m, "istio.canonical_service", r->pod->canonical_name);
		attribute(m, "istio.canonical_revision", r->pod->canonical_revision);
	}
	attribute(m, "peer.principal", r->peer ? r->peer->uri : NULL);
	attribute(m, "component", "proxy");
	dry_run(m, &r->dry_deny, POLICY_DENY, "istio.authorization.dry_run.deny_policy.name",
		"istio.authorization.dry_run.deny_policy.result");
	dry_run(m, &r->dry_allow, POLICY_ALLOW, "istio.authorization.dry_run.allow_policy.name",
		"istio.authorization.dry_run.allow_policy.result");
}

void spans_add(struct spans *s, const struct tracing *t, const struct request_record *r)
{
	bool server = r->reporter == REPORTER_SERVER;
	struct making m; /* of 9 KiB, and little of it is needed */
	char service[160];

	if (!(server ? t->server : t->client))
		return;
	m.used = 0;
	m.span.attribute_count = 0;
	snprintf(service, sizeof(service), "%s.%s", r->pod->canonical_name ? r->pod->canonical_name : r->pod->name,
		 r->pod->ns);
	memcpy(m.span.trace_id, r->trace_id, sizeof(m.span.trace_id));
	memcpy(m.span.span_id, r->span_id, sizeof(m.span.span_id));
	memcpy(m.span.parent_id, r->parent_id, sizeof(m.span.parent_id));
	m.span.has_parent = r->has_parent;
	m.span.server = server;
	m.span.error = r->status >= 500 || r->status == 0 || (r->grpc && r->grpc_status > 0);
	/* Named after the virtual host, as the proxies of Istio do. */
	m.span.name = r->vhost ? r->vhost : r->pod->canonical_name ? r->pod->canonical_name : "http";
	m.span.provider = t->provider;
	m.span.service = service;
	m.span.start_ns = r->start_ns;
	m.span.end_ns = r->start_ns + (r->end_ns - r->began_ns);
	attributes(&m, r, !t->no_istio_tags);
	tags(&m, t, r);
	if (span_batch_add(&s->batch, &m.span) < 0) {
		flush(s);
		return;
	}
	s->count++;
	if (s->batch.len >= BATCH_BYTES) {
		flush(s);
	} else if (!s->timer_runs) {
		s->timer_runs = true;
		loop_timer_start(s->timer, FLUSH_MS, 0);
	}
}
