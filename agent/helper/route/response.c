/* SPDX-License-Identifier: Apache-2.0 */
/* An endpoint's response on its way to the client. */
#include "agent/helper/route/internal.h"

#include <stdio.h>
#include <string.h>

#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/helper/worker.h"

/* The status that says how the endpoint did: gRPC's own when there is one. */
static uint16_t outcome_status(const struct exchange_private *e, const struct http_head *head, uint16_t status)
{
	int grpc = e->x.record.grpc ? grpc_status(head) : -1;
	return grpc < 0 ? status : grpc_to_http(grpc);
}

void response_done(struct exchange_private *e)
{
	e->down.sent_end = true;
	attempt_end(e, OUTCOME_RESPONSE, e->response_outcome);
	downstream_response_done(e);
}

/* --- tunnels: what comes after an upgrade, or a CONNECT, that was agreed to. Each half ends for itself. */

/* With one half gone there may be nobody who would notice that the other is, too. */
static void on_half_idle(struct deadline *d)
{
	struct exchange_private *e = container_of(d, struct exchange_private, alarm);
	uint64_t most = e->x.proxy->half_idle_ms;
	uint64_t idle_ms = (loop_now_ns(e->x.proxy->loop) - e->tunnel_moved_ns) / 1000000;
	if (idle_ms >= most)
		exchange_abort(e, FLAG(SI), "stream_idle_timeout", HTTP_RESET_TIMEOUT);
	else
		deadline_set(&e->x.proxy->deadlines, &e->alarm, most - idle_ms, on_half_idle);
}

void tunnel_moved(struct exchange_private *e)
{
	if (e->upgraded)
		e->tunnel_moved_ns = loop_now_ns(e->x.proxy->loop);
}

void tunnel_half_ended(struct exchange_private *e)
{
	if (e->state != EX_RESPONSE || !e->upgraded)
		return;
	if (e->up.sent_end && e->down.sent_end) {
		response_done(e);
		return;
	}
	tunnel_moved(e);
	if (!e->alarm.set)
		deadline_set(&e->x.proxy->deadlines, &e->alarm, e->x.proxy->half_idle_ms, on_half_idle);
}

/* All of what the endpoint says was passed on. */
void response_ended(struct exchange_private *e)
{
	if (!e->upgraded) {
		response_done(e);
		return;
	}
	e->down.sent_end = true;
	leg_forget(&e->down);
	tunnel_half_ended(e);
}

static bool is_tunnel(const struct exchange_private *e, const struct http_head *head)
{
	return head->status == 101 ||
	       (http_is(e->x.head->method, "CONNECT") && head->status >= 200 && head->status < 300);
}

/* As Envoy's router: how long the endpoint took; another proxy's figure on the way is replaced. */
static void service_time(struct exchange_private *e, struct http_head *head)
{
	static const struct http_string name = { "x-envoy-upstream-service-time", 29 };
	char text[20];
	if (exchange_settings(&e->x)->no_envoy_headers)
		return;
	uint64_t ms = (e->x.record.response_begin_ns - e->x.record.upstream_ns) / 1000000;
	struct http_string value = http_head_text(head, text, number_text(text, ms));
	http_remove(head, name.p);
	if (value.p)
		http_add_ref(head, name, value);
}

void response_from_upstream(struct exchange_private *e, struct http_head *head, bool end)
{
	struct exchange *x = &e->x;
	struct request_record *r = &x->record;
	if (e->state != EX_UPSTREAM) {
		http_head_free(head);
		return;
	}
	uint16_t outcome = outcome_status(e, head, head->status);
	bool wanted = x->route && e->retries_may && retry_on_response(&x->route->retry, head);
	if (retry_try(e, wanted, OUTCOME_RESPONSE, outcome)) {
		http_head_free(head);
		return;
	}
	deadline_clear(&x->proxy->deadlines, &e->alarm);
	e->response = head;
	e->response_outcome = outcome;
	r->response = head;
	r->status = head->status;
	r->details = "via_upstream";
	r->response_begin_ns = loop_now_ns(x->proxy->loop);
	r->response_header_bytes = head->text_bytes;
	if (r->grpc)
		r->grpc_status = grpc_status(head);
	if (is_tunnel(e, head)) {
		if (x->side == SIDE_SERVER && !e->upgraded)
			TAILQ_INSERT_TAIL(&x->proxy->tunnels, e, link);
		e->upgraded = true; /* as long as it lives: the route's timeout was for the answer */
		deadline_clear(&x->proxy->deadlines, &e->total);
	}
	http_remove_hop_by_hop(head);
	if (x->side == SIDE_CLIENT)
		http_remove(head, "x-envoy-decorator-operation"); /* a sidecar's word to the caller's */
	service_time(e, head);
	if (e->destination)
		header_ops_apply(&e->destination->response, head, r);
	if (x->route)
		header_ops_apply(&x->route->response, head, r);
	exchange_state(e, EX_HELD);
	e->response_ended = end;
	if (response_finish(e))
		response_start(e);
}

void response_start(struct exchange_private *e)
{
	bool end = e->response_ended && !e->held_len && !e->response_trailers;
	exchange_state(e, EX_RESPONSE);
	e->head_sent = true;
	if (stream_send_head(e->down.s, e->response, end) < 0)
		return; /* on_reset follows */
	if (end)
		response_ended(e);
	else
		held_pump(e);
}

void response_informational(struct exchange_private *e, struct http_head *head)
{
	bool pass = e->state == EX_UPSTREAM && e->down.s && e->x.head->version != HTTP_1_0 && head->status != 101;
	if (pass) {
		http_remove_hop_by_hop(head);
		stream_send_head(e->down.s, head, false);
	}
	http_head_free(head);
}

size_t response_body(struct exchange_private *e, const uint8_t *bytes, size_t len, bool end)
{
	struct request_record *r = &e->x.record;
	if (e->state == EX_HELD)
		return held_take(e, bytes, len, end);
	if (e->state != EX_RESPONSE || !e->down.s)
		return len;
	if (e->held_sent < e->held_len) {
		e->up.refused = true;
		return 0;
	}
	size_t n = stream_send_body(e->down.s, bytes, len, end);
	r->response_bytes += n;
	tunnel_moved(e);
	if (r->grpc)
		grpc_count(&e->grpc_response, bytes, n);
	if (n < len) {
		e->up.refused = true; /* the client's on_room resumes it */
		return n;
	}
	if (end) {
		e->up.got_end = true;
		leg_forget(&e->up);
		response_ended(e);
	}
	return len;
}

void response_trailers(struct exchange_private *e, struct http_head *trailers)
{
	if ((e->state != EX_RESPONSE && e->state != EX_HELD) || !e->down.s) {
		http_head_free(trailers);
		return;
	}
	http_remove_hop_by_hop(trailers);
	e->response_trailers = trailers;
	if (e->x.record.grpc)
		e->x.record.grpc_status = grpc_status(trailers);
	e->response_outcome = outcome_status(e, trailers, e->response_outcome);
	if (e->state == EX_HELD)
		held_ended(e);
	else if (stream_send_trailers(e->down.s, trailers) == 0)
		response_ended(e);
}

static void fields_add(struct http_head *to, const struct http_head *from)
{
	for (size_t i = 0; i < from->field_count; i++) {
		const struct http_field *f = &from->fields[i];
		struct http_string name = http_head_text(to, f->name.p, f->name.n);
		struct http_string value = http_head_text(to, f->value.p, f->value.n);
		if (name.p && value.p)
			http_add_ref(to, name, value);
	}
}

bool response_finish(struct exchange_private *e)
{
	struct http_head *head = e->response;
	cors_response(e, head);
	if (e->x.response_extra)
		fields_add(head, e->x.response_extra);
	if (e->upstream && e->upstream->cookie[0])
		http_add(head, "set-cookie", e->upstream->cookie);
	session_write(e, head);
	const char *server = exchange_settings(&e->x)->server;
	if (server)
		http_set_id(head, HTTP_SERVER, server, strlen(server));
	if (!e->x.filters || !e->x.filters->script_count)
		return true;
	enum exchange_state state = e->state;
	enum stage_result result = stage_lua_response(&e->x, head);
	if (result == STAGE_WAIT && e->state == state)
		e->response_waits = true;
	return result != STAGE_WAIT && e->state == state;
}
