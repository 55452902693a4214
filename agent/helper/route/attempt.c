/* SPDX-License-Identifier: Apache-2.0 */
/* One try at an endpoint: a stream is asked for, the request is sent as it comes, and the response, or what goes wrong, is
 * either passed on or tried again. The route's timeout runs from the end of the request, as Envoy's does; the timeout of a
 * try from then or from when it has its stream. */
#include "agent/helper/route/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/helper/worker.h"

static uint64_t now_ns(const struct exchange_private *e)
{
	return loop_now_ns(e->x.proxy->loop);
}

/* --- timeouts --- */

static void timed_out(struct exchange_private *e, const char *details)
{
	if (!e->upstream && e->destination)
		e->x.record.cluster = upstream_cluster(e->x.proxy->upstreams, e->destination->cluster);
	if (e->head_sent) {
		exchange_abort(e, FLAG(UT), details, HTTP_RESET_INTERNAL);
		return;
	}
	if (e->up.s || e->upstream)
		attempt_end(e, OUTCOME_TIMEOUT, 504);
	exchange_respond(&e->x, 504, FLAG(UT), details, "upstream request timeout", NULL);
	if (!e->upstream)
		e->x.record.cluster = NULL;
}

static void on_total(struct deadline *d)
{
	timed_out(container_of(d, struct exchange_private, total), "response_timeout");
}

static void on_try_timeout(struct deadline *d)
{
	struct exchange_private *e = container_of(d, struct exchange_private, alarm);
	bool wanted = retry_on_reset(&e->x.route->retry, ATTEMPT_LOCAL_RESET, true);
	if (!retry_try(e, wanted, OUTCOME_TIMEOUT, 504))
		timed_out(e, "upstream_per_try_timeout");
}

static void arm_timeouts(struct exchange_private *e)
{
	struct exchange *x = &e->x;
	if (!e->request_ended || e->upgraded || !x->route)
		return;
	struct deadlines *d = &x->proxy->deadlines;
	if (e->timeout_ms && !e->total.set)
		deadline_set(d, &e->total, e->timeout_ms, on_total);
	uint32_t per_try = x->route->retry.per_try_timeout_ms;
	if (per_try && e->state == EX_UPSTREAM && !e->alarm.set)
		deadline_set(d, &e->alarm, per_try, on_try_timeout);
}

/* --- the request's way --- */

void attempt_pump(struct exchange_private *e)
{
	if (!e->up.s || e->up.sent_end)
		return;
	bool last = e->request_ended && !e->request_trailers;
	while (e->body_sent < e->body_len) {
		size_t left = e->body_len - e->body_sent;
		size_t n = stream_send_body(e->up.s, e->body + e->body_sent, left, last);
		e->body_sent += (uint32_t)n;
		if (n < left)
			return; /* on_room */
		e->up.sent_end = last;
	}
	if (!e->body_kept)
		body_free(e);
	if (!e->request_ended) {
		downstream_pull(e);
		return;
	}
	if (e->request_trailers)
		stream_send_trailers(e->up.s, e->request_trailers);
	else if (!e->up.sent_end)
		stream_send_body(e->up.s, NULL, 0, true);
	e->up.sent_end = true;
	leg_forget(&e->up);
	tunnel_half_ended(e);
}

void attempt_request_ended(struct exchange_private *e)
{
	mirrors_end(e);
	if (e->state == EX_UPSTREAM || e->state == EX_HELD || e->state == EX_RESPONSE)
		attempt_pump(e);
	if (e->up.sent_end)
		tunnel_half_ended(e);
	if (e->state != EX_STAGES && e->state != EX_DONE)
		arm_timeouts(e);
}

void attempt_got_stream(struct exchange_private *e, struct http_stream *s)
{
	struct exchange *x = &e->x;
	struct request_record *r = &x->record;
	e->up = (struct leg){ .s = s };
	e->body_sent = 0;
	exchange_state(e, EX_UPSTREAM);
	r->upstream_ns = now_ns(e);
	e->attempt_ns = r->upstream_ns;
	request_attempt_count(e, x->head);
	bool end = e->request_ended && !e->body_len && !e->request_trailers;
	e->up.sent_end = end;
	if (stream_send_head(s, x->head, end) < 0)
		return; /* on_reset follows */
	arm_timeouts(e);
	attempt_pump(e);
}

static void on_upstream(struct upstream *up, enum upstream_failure why, const struct cluster_endpoint *endpoint,
			void *arg)
{
	struct exchange_private *e = arg;
	e->wait = NULL;
	if (!up) {
		attempt_no_stream(e, why, endpoint);
		return;
	}
	struct request_record *r = &e->x.record;
	e->upstream = up;
	e->outcome_known = false;
	r->cluster = up->cluster;
	r->endpoint = up->endpoint;
	e->upstream_local = up->conn->transport->local;
	r->upstream_local = &e->upstream_local;
	r->upstream_tls = up->conn->transport->tls;
	r->mutual = up->conn->transport->peer != NULL;
	http_conn_preserve_case(up->conn, preserves_case(e->x.pod, SIDE_CLIENT));
	attempt_got_stream(e, up->stream);
}

void attempt_start(struct exchange_private *e)
{
	struct exchange *x = &e->x;
	exchange_state(e, EX_CONNECTING);
	x->record.attempts++;
	x->record.transport_failure = NULL;
	free(TAKE(e->transport_failure));
	e->attempt_ns = now_ns(e);
	if (e->request_ended)
		arm_timeouts(e);
	if (x->side == SIDE_SERVER) {
		local_open(e);
		return;
	}
	struct upstream_query q = {
		.pod = x->pod,
		.cluster = e->destination->cluster,
		.host = request_host(e),
		.original = e->target,
		.called = e->conn->vhost ? e->conn->vhost->host : NULL,
		.source = { x->remote, x->source.port },
		.head = x->head,
		.downstream_h2 = e->conn->conn->protocol == HTTP_PROTO_2 || x->record.grpc,
		.upgrade = x->head->upgrade,
		.avoid_count = e->avoid_count,
		.skip_priorities = e->skip_priorities,
		.pinned = e->pinned,
	};
	for (uint8_t i = 0; i < e->avoid_count; i++)
		q.avoid[i] = e->avoid[i];
	struct upstream_wait *wait = upstream_get(x->proxy->upstreams, &q, &upstream_events, e, on_upstream, e);
	if (e->state == EX_CONNECTING)
		e->wait = wait;
}

/* --- the end of a try --- */

void attempt_end(struct exchange_private *e, enum upstream_outcome outcome, uint16_t status)
{
	upstream_cancel(TAKE(e->wait));
	struct http_stream *s = TAKE(e->up.s);
	if (s)
		stream_reset(s, HTTP_RESET_CANCEL);
	if (e->x.side == SIDE_SERVER)
		local_cancel(e);
	if (e->outcome_known)
		return;
	e->outcome = outcome;
	e->outcome_status = status;
	e->outcome_known = true;
	e->attempt_end_ns = now_ns(e);
}

void attempt_settle(struct exchange_private *e)
{
	struct upstream *up = TAKE(e->upstream);
	struct request_record *r = &e->x.record;
	if (up)
		upstream_done(e->x.proxy->upstreams, up, e->outcome, e->outcome_status,
			      e->attempt_end_ns - e->attempt_ns);
	e->outcome_known = false;
	r->cluster = NULL;
	r->endpoint = NULL;
	r->upstream_local = NULL;
}

static void respond_reset(struct exchange_private *e, enum attempt_reset why)
{
	const struct reset_kind *kind = &reset_kinds[why];
	struct http_head *extra = NULL;
	char body[160];
	snprintf(body, sizeof(body), "upstream connect error or disconnect/reset before headers. %sreset reason: %s",
		 e->retried ? "retried and the latest " : "", kind->reason);
	bool told = why == ATTEMPT_OVERFLOW && !exchange_settings(&e->x)->no_envoy_headers;
	if (told && (extra = http_head_new()))
		http_add(extra, "x-envoy-overloaded", "true");
	exchange_respond(&e->x, kind->status, kind->flag, kind->before_head, body, extra);
	http_head_free(extra);
}

void attempt_failed(struct exchange_private *e, enum attempt_reset why)
{
	const struct reset_kind *kind = &reset_kinds[why];
	bool sent = e->upstream && why != ATTEMPT_REFUSED_STREAM;
	if (e->head_sent || e->state == EX_HELD) {
		attempt_end(e, OUTCOME_RESET, 0);
		exchange_abort(e, kind->flag, kind->after_head, HTTP_RESET_INTERNAL);
		return;
	}
	/* The application had closed its connection: it has seen nothing of this request. */
	if (e->x.side == SIDE_SERVER && why == ATTEMPT_REFUSED_STREAM && !e->retried && !e->x.record.request_bytes) {
		retry_again(e);
		return;
	}
	bool wanted = e->x.route && retry_on_reset(&e->x.route->retry, why, sent);
	if (retry_try(e, wanted, OUTCOME_RESET, 0))
		return;
	attempt_end(e, OUTCOME_RESET, 0);
	respond_reset(e, why);
}

static void no_stream(struct exchange_private *e, enum upstream_failure why)
{
	struct exchange *x = &e->x;
	switch (why) {
	case UPSTREAM_NO_CLUSTER:
		exchange_respond(x, 503, FLAG(NC), "cluster_not_found", NULL, NULL);
		return;
	case UPSTREAM_NO_ENDPOINT:
		exchange_respond(x, 503, FLAG(UH), "no_healthy_upstream", "no healthy upstream", NULL);
		return;
	case UPSTREAM_OVERFLOW:
		attempt_failed(e, ATTEMPT_OVERFLOW);
		return;
	case UPSTREAM_CONNECT_TIMEOUT:
		attempt_failed(e, ATTEMPT_CONNECT_TIMEOUT);
		return;
	default:
		attempt_failed(e, ATTEMPT_CONNECT_FAILURE);
	}
}

void attempt_no_stream(struct exchange_private *e, enum upstream_failure why, const struct cluster_endpoint *endpoint)
{
	struct request_record *r = &e->x.record;
	const char *failure = transport_failure(e->x.proxy->w);
	free(e->transport_failure);
	r->transport_failure = e->transport_failure = failure ? strdup(failure) : NULL;
	/* Valid for now, which is when the record is written, unless the client is slow to take our answer. */
	r->endpoint = endpoint;
	if (e->destination)
		r->cluster = upstream_cluster(e->x.proxy->upstreams, e->destination->cluster);
	no_stream(e, why);
	if (!e->upstream) {
		r->endpoint = NULL;
		r->cluster = NULL;
	}
}

/* --- the endpoint's stream --- */

static void on_head(struct http_stream *s, struct http_head *head, bool end)
{
	struct exchange_private *e = s->user;
	if (head->status < 200 && !(head->status == 101 && head->upgrade)) {
		response_informational(e, head);
		return;
	}
	if (end) {
		e->up.got_end = true;
		leg_forget(&e->up);
	}
	response_from_upstream(e, head, end);
}

static size_t on_body(struct http_stream *s, const uint8_t *bytes, size_t len, bool end)
{
	return response_body(s->user, bytes, len, end);
}

static void on_trailers(struct http_stream *s, struct http_head *trailers)
{
	struct exchange_private *e = s->user;
	e->up.got_end = true;
	leg_forget(&e->up);
	response_trailers(e, trailers);
}

static void on_room(struct http_stream *s)
{
	attempt_pump(s->user);
}

static void on_reset(struct http_stream *s, enum http_reset why)
{
	struct exchange_private *e = s->user;
	bool complete = e->up.got_end; /* the response was; the rest of the request is not wanted */
	e->up.s = NULL;
	if (e->state != EX_UPSTREAM && e->state != EX_HELD && e->state != EX_RESPONSE)
		return;
	if (complete && (why == HTTP_RESET_NO_ERROR || e->state == EX_HELD))
		return;
	switch (why) {
	case HTTP_RESET_STALE:
	case HTTP_RESET_LEFT:
		if (e->state == EX_UPSTREAM && retry_is_safe(e, why == HTTP_RESET_LEFT)) {
			e->stale_tries++;
			retry_again(e);
			break;
		}
		attempt_failed(e, why == HTTP_RESET_LEFT ? ATTEMPT_REFUSED_STREAM : ATTEMPT_TERMINATED);
		break;
	case HTTP_RESET_CLOSED:
		attempt_failed(e, ATTEMPT_TERMINATED);
		break;
	case HTTP_RESET_REFUSED:
		attempt_failed(e, ATTEMPT_REFUSED_STREAM);
		break;
	case HTTP_RESET_PROTOCOL:
	case HTTP_RESET_TOO_LARGE:
		attempt_failed(e, ATTEMPT_PROTOCOL);
		break;
	case HTTP_RESET_TIMEOUT:
		attempt_failed(e, ATTEMPT_LOCAL_RESET);
		break;
	default:
		attempt_failed(e, ATTEMPT_REMOTE_RESET);
	}
}

const struct http_stream_events upstream_events = {
	.on_head = on_head,
	.on_body = on_body,
	.on_trailers = on_trailers,
	.on_room = on_room,
	.on_reset = on_reset,
};
