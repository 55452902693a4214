/* SPDX-License-Identifier: Apache-2.0 */
/* An exchange's life: made when a client's stream begins, led through the table of stages, answered by us or from an
 * endpoint, recorded once, freed at the end of the tick. Every callback may be the last one, so whoever calls out looks at
 * the state after. */
#include "agent/helper/route/internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/helper/worker.h"
#include "agent/model/identity.h"

/* --- stages --- */

enum { FOR_CLIENT = 1, FOR_SERVER = 2, WITH_FILTERS = 4 };

/* In Istio's order. WITH_FILTERS: a pod without any pays nothing. */
static const struct stage {
	const char *name;
	stage_fn run;
	int when;
} stages[] = {
	{ "normalise", stage_normalise, FOR_CLIENT | FOR_SERVER },
	{ "route", stage_route, FOR_CLIENT },
	{ "early lua", stage_lua_early, FOR_SERVER | WITH_FILTERS },
	{ "jwt", stage_jwt, FOR_SERVER | WITH_FILTERS },
	{ "authorize", stage_authorize, FOR_SERVER },
	{ "rate limit", stage_rate_limit, FOR_CLIENT | FOR_SERVER | WITH_FILTERS },
	{ "lua", stage_lua, FOR_CLIENT | FOR_SERVER | WITH_FILTERS },
	{ "reroute", stage_reroute, FOR_CLIENT | WITH_FILTERS },
	{ "cors", stage_cors, FOR_CLIENT },
	{ "fault", stage_fault, FOR_CLIENT },
	{ "forward", stage_forward, FOR_CLIENT | FOR_SERVER },
};

static bool stage_wanted(const struct stage *s, const struct exchange *x)
{
	if (!(s->when & (x->side == SIDE_CLIENT ? FOR_CLIENT : FOR_SERVER)))
		return false;
	return !(s->when & WITH_FILTERS) || x->filters;
}

const struct proxy_settings *exchange_settings(const struct exchange *x)
{
	static const struct proxy_settings defaults;
	return x->filters ? &x->filters->proxy : &defaults;
}

void exchange_run(struct exchange_private *e)
{
	while (e->state == EX_STAGES && e->stage < ARRAY_SIZE(stages)) {
		const struct stage *s = &stages[e->stage];
		enum stage_result result = stage_wanted(s, &e->x) ? s->run(&e->x) : STAGE_CONTINUE;
		if (result == STAGE_WAIT) {
			e->stage_waits = e->state == EX_STAGES;
			return;
		}
		if (result == STAGE_ANSWERED) {
			assert(e->state != EX_STAGES);
			return;
		}
		e->stage++;
	}
}

void exchange_continue(struct exchange *x)
{
	struct exchange_private *e = exchange_of(x);
	assert(x->magic == EXCHANGE_MAGIC);
	if (e->state != EX_STAGES || !e->stage_waits)
		return; /* it was answered or the client went away meanwhile */
	e->stage_waits = false;
	x->stage_cancel = NULL;
	e->stage++;
	exchange_run(e);
}

/* --- state --- */

#define TO(state) (1u << (state))
static const uint32_t transitions[EX_STATES] = {
	[EX_STAGES] = TO(EX_CONNECTING) | TO(EX_LOCAL) | TO(EX_DONE),
	[EX_CONNECTING] = TO(EX_UPSTREAM) | TO(EX_BACKOFF) | TO(EX_LOCAL) | TO(EX_DONE),
	[EX_BACKOFF] = TO(EX_CONNECTING) | TO(EX_LOCAL) | TO(EX_DONE),
	[EX_UPSTREAM] = TO(EX_BACKOFF) | TO(EX_HELD) | TO(EX_LOCAL) | TO(EX_DONE),
	[EX_HELD] = TO(EX_RESPONSE) | TO(EX_LOCAL) | TO(EX_DONE),
	[EX_RESPONSE] = TO(EX_DONE),
	[EX_LOCAL] = TO(EX_DONE),
};

void exchange_state(struct exchange_private *e, enum exchange_state to)
{
	assert(e->x.magic == EXCHANGE_MAGIC);
	assert(transitions[e->state] & TO(to));
	e->state = to;
}

/* --- life --- */

static struct exchange_private *exchange_alloc(struct http_proxy *p)
{
	struct exchange_private *e = TAILQ_FIRST(&p->idle);
	if (!e)
		return calloc(1, sizeof(*e));
	TAILQ_REMOVE(&p->idle, e, link);
	p->idle_count--;
	memset(e, 0, sizeof(*e));
	return e;
}

static void record_begin(struct exchange_private *e)
{
	struct exchange *x = &e->x;
	struct request_record *r = &x->record;
	r->reporter = x->side == SIDE_CLIENT ? REPORTER_CLIENT : REPORTER_SERVER;
	r->pod = x->pod;
	r->grpc_status = -1;
	r->details = "";
	r->start_ns = clock_wall_ns();
	r->began_ns = loop_now_ns(e->conn->proxy->loop);
	r->peer = x->peer;
	r->source = &x->source;
	r->destination = &x->destination;
	r->downstream_tls = e->conn->tls;
	r->mutual = x->peer != NULL;
}

struct exchange_private *exchange_new(struct downstream *d, struct http_stream *s)
{
	struct http_proxy *p = d->proxy;
	struct exchange_private *e = exchange_alloc(p);
	if (!e)
		return NULL;
	struct exchange *x = &e->x;
	x->magic = EXCHANGE_MAGIC;
	x->side = d->side;
	x->proxy = p;
	x->w = p->w;
	x->pod = worker_pod_ref(d->pod);
	x->source = d->source;
	x->remote = d->source.addr;
	x->destination = d->destination;
	x->private = e;
	e->conn = d;
	e->target = d->original;
	e->down.s = s;
	if (d->peer)
		x->peer = e->peer = identity_ref(d->peer);
	x->peer_attested = d->peer && !d->tls;
	x->from_node = d->from_node;
	struct http_filters *filters = d->side == SIDE_CLIENT ? d->pod->outbound : d->pod->inbound;
	if (filters)
		x->filters = http_filters_ref(filters);
	if (d->side == SIDE_SERVER && d->pod->policy)
		x->policy = policy_ref(d->pod->policy);
	d->exchanges++;
	p->live++;
	worker_metrics(p->w)->http_requests++;
	record_begin(e);
	return e;
}

static void record_end(struct exchange_private *e)
{
	struct request_record *r = &e->x.record;
	r->request = e->x.head;
	r->response = e->response;
	r->trailers = e->response_trailers;
	r->route = e->x.route;
	r->vhost = e->x.vhost ? e->x.vhost->name : NULL;
	r->request_principal = e->x.request_principal;
	r->grpc_request_messages = e->grpc_request.messages;
	r->grpc_response_messages = e->grpc_response.messages;
	if (!r->end_ns)
		r->end_ns = loop_now_ns(e->x.proxy->loop);
	if (!*r->details)
		r->details = "downstream_remote_disconnect";
	if (r->request)
		record_finish(worker_observe(e->x.w), r);
}

void exchange_finish(struct exchange_private *e)
{
	struct exchange *x = &e->x;
	if (e->state == EX_DONE)
		return;
	bool waited = e->stage_waits || e->response_waits;
	exchange_state(e, EX_DONE);
	if (waited && x->stage_cancel)
		x->stage_cancel(x);
	worker_wait_cancel(TAKE(e->target_wait));
	deadline_clear(&x->proxy->deadlines, &e->total);
	deadline_clear(&x->proxy->deadlines, &e->alarm);
	mirrors_drop(e);
	attempt_end(e, OUTCOME_CANCELLED, 0);
	record_end(e);
	attempt_settle(e); /* after: the record points to the endpoint */
	upstream_retry_end(TAKE(e->retry_leave));
	struct http_stream *s = TAKE(e->down.s);
	if (s)
		stream_reset(s, HTTP_RESET_NO_ERROR);
	x->proxy->live--;
	if (e->upgraded && x->side == SIDE_SERVER)
		TAILQ_REMOVE(&x->proxy->tunnels, e, link);
	TAILQ_INSERT_TAIL(&x->proxy->dead, e, link);
	downstream_release(TAKE(e->conn));
	proxy_reap_later(x->proxy);
}

void exchange_abort(struct exchange_private *e, uint32_t flags, const char *details, enum http_reset why)
{
	if (e->state == EX_DONE)
		return;
	e->x.record.flags |= flags;
	if (details)
		e->x.record.details = details;
	struct http_stream *s = TAKE(e->down.s);
	if (s)
		stream_reset(s, why);
	exchange_finish(e);
}

void exchange_reap(struct http_proxy *p, struct exchange_private *e)
{
	struct exchange *x = &e->x;
	assert(e->state == EX_DONE);
	http_head_free(x->head);
	http_head_free(x->response_extra);
	http_head_free(e->request_trailers);
	http_head_free(e->response);
	http_head_free(e->response_trailers);
	body_free(e);
	held_free(e);
	free(e->local_copy);
	if (x->claims)
		exchange_claims_free(x->claims);
	exchange_lua_free(x->lua);
	if (x->filters)
		http_filters_unref((struct http_filters *)x->filters);
	if (x->policy)
		policy_unref((struct policy *)x->policy);
	if (x->vhost)
		http_vhost_unref((struct http_vhost *)x->vhost);
	identity_unref(e->peer);
	free(e->transport_failure);
	worker_pod_unref(x->w, x->pod);
	x->magic = 0;
	if (p->idle_count >= EXCHANGES_KEPT) {
		free(e);
		return;
	}
	TAILQ_INSERT_HEAD(&p->idle, e, link);
	p->idle_count++;
}

/* --- local answers --- */

bool exchange_is_head(const struct exchange_private *e)
{
	return http_is(e->x.head->method, "HEAD");
}

/* Fields of a filter's, or of a direct response's: they replace ours. */
static int fields_copy(struct http_head *to, const struct http_head *from)
{
	int rc = 0;
	for (size_t i = 0; from && !rc && i < from->field_count; i++) {
		const struct http_field *f = &from->fields[i];
		if (f->id == HTTP_CONTENT_TYPE) {
			rc = http_set_id(to, f->id, f->value.p, f->value.n);
			continue;
		}
		struct http_string name =
			f->id ? http_name_text((enum http_name)f->id) : http_head_text(to, f->name.p, f->name.n);
		struct http_string value = http_head_text(to, f->value.p, f->value.n);
		rc = name.p && value.p ? http_add_ref(to, name, value) : -ENOMEM;
	}
	return rc;
}

static int local_grpc(struct http_head *h, uint16_t status, uint32_t flags, const char *body, size_t len)
{
	int code = flags & FLAG(UT) ? GRPC_DEADLINE_EXCEEDED : grpc_from_http(status);
	char number[4], message[1024];
	int digits = snprintf(number, sizeof(number), "%d", code);
	size_t n = grpc_message_encode(body ? body : "", len, message, sizeof(message));
	h->status = 200;
	int rc = http_add_id(h, HTTP_CONTENT_TYPE, "application/grpc", 16);
	if (!rc)
		rc = http_add_id(h, HTTP_GRPC_STATUS, number, (size_t)digits);
	return rc || !n ? rc : http_add_id(h, HTTP_GRPC_MESSAGE, message, n);
}

static struct http_head *local_head(struct exchange_private *e, uint16_t status, uint32_t flags, const char *body,
				    size_t len, const struct http_head *extra)
{
	struct http_head *h = http_head_new();
	if (!h)
		return NULL;
	h->version = HTTP_1_1;
	h->status = status;
	h->content_length = (int64_t)len;
	int rc = 0;
	bool preset = extra && http_get_id(extra, HTTP_GRPC_STATUS).p;
	if (e->x.record.grpc && !preset && status >= 400) {
		rc = local_grpc(h, status, flags, body, len);
		h->content_length = -1;
	} else if (len) {
		rc = http_add_id(h, HTTP_CONTENT_TYPE, "text/plain", 10);
	}
	if (!rc)
		rc = fields_copy(h, extra);
	if (rc) {
		http_head_free(h);
		return NULL;
	}
	return h;
}

void exchange_respond(struct exchange *x, uint16_t status, uint32_t flags, const char *details, const char *body,
		      const struct http_head *extra)
{
	exchange_respond_bytes(x, status, flags, details, body, body ? strlen(body) : 0, extra);
}

void exchange_respond_bytes(struct exchange *x, uint16_t status, uint32_t flags, const char *details, const void *body,
			    size_t len, const struct http_head *extra)
{
	struct exchange_private *e = exchange_of(x);
	assert(x->magic == EXCHANGE_MAGIC);
	if (e->state == EX_DONE || e->state == EX_LOCAL)
		return;
	if (e->head_sent) { /* too late for another */
		exchange_abort(e, flags, details, HTTP_RESET_INTERNAL);
		return;
	}
	struct http_head *head = local_head(e, status, flags, body, len, extra);
	x->record.flags |= flags;
	x->record.details = details;
	x->record.status = status;
	if (!head) {
		exchange_abort(e, FLAG(LR), "out_of_memory", HTTP_RESET_INTERNAL);
		return;
	}
	e->stage_waits = e->response_waits = false;
	x->stage_cancel = NULL;
	held_free(e);
	deadline_clear(&x->proxy->deadlines, &e->total);
	deadline_clear(&x->proxy->deadlines, &e->alarm);
	worker_wait_cancel(TAKE(e->target_wait));
	attempt_end(e, OUTCOME_CANCELLED, 0);
	mirrors_drop(e);
	exchange_state(e, EX_LOCAL);
	bool with_body = head->content_length > 0 && !exchange_is_head(e);
	e->local_body = with_body ? body : NULL;
	e->local_len = with_body ? (uint32_t)len : 0;
	downstream_send_local(e, head);
}

/* --- the matcher's view --- */

static struct http_view view_of(struct http_string s)
{
	return (struct http_view){ s.p, s.n };
}

static struct http_view view_header(const struct http_request_view *r, const char *name)
{
	/* The joined text is kept in the head: the matcher's view of it is const, its memory is not. */
	return view_of(http_get_joined((struct http_head *)r->headers, name));
}

struct http_request_view exchange_view(struct exchange *x)
{
	struct http_head *h = x->head;
	struct http_request_view v = {
		.method = view_of(h->method),
		.scheme = view_of(h->scheme),
		.authority = view_of(h->authority),
		.path = view_of(x->path),
		.query = view_of(x->query),
		.port = x->destination.port,
		.header = view_header,
		.headers = h,
		.source_namespace = x->pod->ns,
		.source_labels = x->pod->labels,
		.source_label_count = x->pod->label_count,
	};
	if (!v.scheme.p) {
		v.scheme = view_of(http_get_id(h, HTTP_X_FORWARDED_PROTO));
		if (!v.scheme.p)
			v.scheme = (struct http_view){ "http", 4 };
	}
	/* HTTP/2 asks for a WebSocket with CONNECT (RFC 8441); routes are written for the GET that HTTP/1 has. */
	if (h->upgrade && http_is(h->method, "CONNECT"))
		v.method = (struct http_view){ "GET", 3 };
	return v;
}
