/* SPDX-License-Identifier: Apache-2.0 */
/* The client's stream of an exchange: its events, and our own answers to it. */
#include "agent/helper/route/internal.h"

#include <stdlib.h>
#include <string.h>

#include "agent/base/loop.h"
#include "agent/helper/worker.h"

static uint64_t now_ns(const struct exchange_private *e)
{
	return loop_now_ns(e->x.proxy->loop);
}

static void request_ended(struct exchange_private *e)
{
	e->down.got_end = e->request_ended = true;
	e->x.record.request_end_ns = now_ns(e);
	leg_forget(&e->down);
}

static void on_head(struct http_stream *s, struct http_head *head, bool end)
{
	struct exchange_private *e = s->user;
	struct exchange *x = &e->x;
	struct request_record *r = &x->record;
	x->head = head;
	r->request = head;
	r->original_path = head->path;
	r->original_authority = head->authority;
	r->request_header_bytes = head->text_bytes;
	r->grpc = grpc_is(head);
	r->keep_request_id = exchange_settings(x)->no_request_id;
	trace_begin(worker_observe(x->w), r, head, x->pod->telemetry);
	if (end)
		request_ended(e);
	if (request_receive(e) < 0)
		exchange_respond(x, 503, FLAG(LR), "out_of_memory", NULL, NULL);
	else
		exchange_run(e);
}

/* One round: what the present state takes. */
static size_t body_take(struct exchange_private *e, const uint8_t *bytes, size_t len, bool end)
{
	size_t n = body_from_client(e, bytes, len, end);
	e->x.record.request_bytes += n;
	if (e->x.record.grpc)
		grpc_count(&e->grpc_request, bytes, n);
	tunnel_moved(e);
	if (n && e->mirror_count)
		mirrors_body(e, bytes, n);
	if (n == len && end) {
		request_ended(e);
		if (e->buffer_fn)
			body_stage_done(e, true);
		else
			attempt_request_ended(e);
	} else if (n < len && e->buffer_fn && e->body_len >= e->buffer_max) {
		body_stage_done(e, false);
	}
	return n;
}

static size_t on_body(struct http_stream *s, const uint8_t *bytes, size_t len, bool end)
{
	struct exchange_private *e = s->user;
	size_t taken = 0;
	if (e->state == EX_LOCAL) { /* answered: the rest is not needed */
		if (end)
			request_ended(e);
		return len;
	}
	e->in_body = true;
	do {
		e->pulled = false;
		taken += body_take(e, bytes + taken, len - taken, end);
	} while (e->pulled && taken < len && e->state != EX_DONE);
	e->in_body = false;
	if (taken == len || e->state == EX_DONE)
		return len;
	if (e->state == EX_LOCAL) { /* answered meanwhile */
		if (end)
			request_ended(e);
		return len;
	}
	e->down.refused = true;
	return taken;
}

static void on_trailers(struct http_stream *s, struct http_head *trailers)
{
	struct exchange_private *e = s->user;
	request_ended(e);
	if (e->state == EX_LOCAL) {
		http_head_free(trailers);
		return;
	}
	http_remove_hop_by_hop(trailers);
	e->request_trailers = trailers;
	if (e->buffer_fn)
		body_stage_done(e, true);
	else
		attempt_request_ended(e);
}

void downstream_pull(struct exchange_private *e)
{
	if (e->in_body) {
		e->pulled = true;
		return;
	}
	if (!e->down.refused || !e->down.s)
		return;
	e->down.refused = false;
	stream_resume(e->down.s);
}

/* What the client's connection ended like, in Envoy's words. */
static const char *gone_details(enum http_reset why)
{
	switch (why) {
	case HTTP_RESET_PROTOCOL:
	case HTTP_RESET_TOO_LARGE:
		return "downstream_protocol_error";
	case HTTP_RESET_CLOSED:
		return "downstream_remote_disconnect";
	case HTTP_RESET_TIMEOUT:
		return "request_body_timeout";
	default:
		return "http2.remote_reset";
	}
}

static void on_reset(struct http_stream *s, enum http_reset why)
{
	struct exchange_private *e = s->user;
	bool protocol = why == HTTP_RESET_PROTOCOL || why == HTTP_RESET_TOO_LARGE;
	e->down.s = NULL;
	exchange_abort(e,
		       protocol			 ? FLAG(DPE) :
		       why == HTTP_RESET_TIMEOUT ? FLAG(SI) :
						   FLAG(DC),
		       gone_details(why), why);
}

/* --- our own answer --- */

/* The caller's text need not outlive the call. */
static void local_keep(struct exchange_private *e)
{
	if (e->local_copy || !e->local_len)
		return;
	e->local_copy = malloc(e->local_len);
	if (!e->local_copy) {
		exchange_abort(e, FLAG(LR), "out_of_memory", HTTP_RESET_INTERNAL);
		return;
	}
	memcpy(e->local_copy, e->local_body, e->local_len);
	e->local_body = e->local_copy;
}

static void local_pump(struct exchange_private *e)
{
	size_t left = e->local_len - e->local_sent;
	size_t n = stream_send_body(e->down.s, e->local_body + e->local_sent, left, true);
	e->local_sent += (uint32_t)n;
	e->x.record.response_bytes += n;
	if (n == left) {
		e->down.sent_end = true;
		downstream_response_done(e);
		return;
	}
	local_keep(e);
}

void downstream_send_local(struct exchange_private *e, struct http_head *head)
{
	http_head_free(e->response);
	e->response = head;
	e->x.record.response = head;
	e->response_ended = true;
	if (response_finish(e))
		downstream_start_local(e);
	else
		local_keep(e); /* the caller's text need not outlive the call */
}

void downstream_start_local(struct exchange_private *e)
{
	struct request_record *r = &e->x.record;
	struct http_head *head = e->response;
	e->head_sent = true;
	r->response_begin_ns = now_ns(e);
	r->response_header_bytes = head->text_bytes;
	if (r->grpc)
		r->grpc_status = grpc_status(head);
	if (!e->down.s)
		return;
	bool end = !e->local_len;
	if (stream_send_head(e->down.s, head, end) < 0)
		return; /* on_reset follows */
	if (!end) {
		local_pump(e);
		return;
	}
	e->down.sent_end = true;
	downstream_response_done(e);
}

static void on_room(struct http_stream *s)
{
	struct exchange_private *e = s->user;
	if (e->state == EX_LOCAL && e->head_sent && e->local_sent < e->local_len) {
		local_pump(e);
	} else if (e->state == EX_RESPONSE && e->held_sent < e->held_len) {
		held_pump(e);
	} else if (e->up.s && e->up.refused) {
		e->up.refused = false;
		stream_resume(e->up.s);
	}
}

/* All of the answer is out. What is left of the request is the codec's to get rid of. */
void downstream_response_done(struct exchange_private *e)
{
	e->x.record.end_ns = now_ns(e);
	leg_forget(&e->down);
	exchange_finish(e);
}

const struct http_stream_events downstream_events = {
	.on_head = on_head,
	.on_body = on_body,
	.on_trailers = on_trailers,
	.on_room = on_room,
	.on_reset = on_reset,
};

/* --- a stream for which there is no exchange --- */

static void ignore_head(struct http_stream *s, struct http_head *head, bool end)
{
	(void)end;
	http_head_free(head);
	stream_reset(s, HTTP_RESET_REFUSED);
}

static size_t ignore_body(struct http_stream *s, const uint8_t *bytes, size_t len, bool end)
{
	(void)s;
	(void)bytes;
	(void)end;
	return len;
}

static void ignore_trailers(struct http_stream *s, struct http_head *trailers)
{
	(void)s;
	http_head_free(trailers);
}

static void ignore(struct http_stream *s)
{
	(void)s;
}

static void ignore_reset(struct http_stream *s, enum http_reset why)
{
	(void)s;
	(void)why;
}

const struct http_stream_events downstream_ignored = {
	.on_head = ignore_head,
	.on_body = ignore_body,
	.on_trailers = ignore_trailers,
	.on_room = ignore,
	.on_reset = ignore_reset,
};
