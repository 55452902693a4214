/* SPDX-License-Identifier: Apache-2.0 */
/* A response that is kept while a script looks at it: its head, and as much of its body as the script asked for. What nobody
 * asked for stays with the endpoint's codec, which reads no more. The endpoint has answered, so nothing is tried again. */
#include "agent/helper/route/internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"

void held_free(struct exchange_private *e)
{
	free(e->held);
	e->held = NULL;
	e->held_len = e->held_cap = e->held_sent = 0;
	e->held_fn = NULL;
}

static int held_keep(struct exchange_private *e, const uint8_t *bytes, size_t len)
{
	return body_append(&e->held, &e->held_len, &e->held_cap, bytes, len);
}

static void held_give(struct exchange_private *e, bool whole)
{
	exchange_body_fn fn = TAKE(e->held_fn);
	if (fn)
		fn(&e->x, e->held, e->held_len, whole, e->held_arg);
}

void held_ended(struct exchange_private *e)
{
	e->response_ended = true;
	deadline_clear(&e->x.proxy->deadlines, &e->total); /* the endpoint was in time */
	held_give(e, true);
}

size_t held_take(struct exchange_private *e, const uint8_t *bytes, size_t len, bool end)
{
	size_t room = e->held_fn ? e->held_max - e->held_len : 0;
	size_t n = len < room ? len : room;
	if (held_keep(e, bytes, n) < 0) {
		exchange_abort(e, FLAG(LR), "out_of_memory", HTTP_RESET_INTERNAL);
		return len;
	}
	if (n == len && end) {
		e->up.got_end = true;
		leg_forget(&e->up);
		held_ended(e);
	}
	if (n < len && e->held_fn) {
		held_give(e, false);
		if (e->state != EX_HELD) /* answered, or it goes on without */
			return n + response_body(e, bytes + n, len - n, end);
	}
	e->up.refused = n < len;
	return n;
}

void held_pump(struct exchange_private *e)
{
	bool last = e->response_ended && !e->response_trailers;
	while (e->held_sent < e->held_len) {
		size_t left = e->held_len - e->held_sent;
		size_t n = stream_send_body(e->down.s, e->held + e->held_sent, left, last);
		e->x.record.response_bytes += n;
		if (e->x.record.grpc)
			grpc_count(&e->grpc_response, e->held + e->held_sent, n);
		e->held_sent += (uint32_t)n;
		if (n < left)
			return; /* on_room */
	}
	bool sent = e->held_len > 0;
	held_free(e);
	if (e->response_ended) {
		if (e->response_trailers ? stream_send_trailers(e->down.s, e->response_trailers) == 0 :
					   sent || stream_send_body(e->down.s, NULL, 0, true) == 0)
			response_ended(e);
	} else if (e->up.s && e->up.refused) {
		e->up.refused = false;
		stream_resume(e->up.s);
	}
}

/* --- for the script */

void exchange_buffer_response(struct exchange *x, size_t max, exchange_body_fn fn, void *arg)
{
	struct exchange_private *e = exchange_of(x);
	assert((e->state == EX_HELD || e->state == EX_LOCAL) && !e->held_fn && !e->head_sent);
	if (e->state == EX_LOCAL) {
		fn(x, (const uint8_t *)e->local_body, e->local_len, true, arg);
		return;
	}
	if (e->response_ended || e->upgraded) {
		fn(x, e->held, e->held_len, true, arg);
		return;
	}
	e->held_max = max < BODY_FOR_STAGE_MAX ? max : BODY_FOR_STAGE_MAX;
	e->held_fn = fn;
	e->held_arg = arg;
	if (e->up.s && e->up.refused) {
		e->up.refused = false;
		stream_resume(e->up.s);
	}
}

void exchange_response_continue(struct exchange *x)
{
	struct exchange_private *e = exchange_of(x);
	if (!e->response_waits)
		return; /* it was answered, or the client went away meanwhile */
	e->response_waits = false;
	x->stage_cancel = NULL;
	if (e->state == EX_HELD)
		response_start(e);
	else if (e->state == EX_LOCAL)
		downstream_start_local(e);
}

static int request_replace(struct exchange_private *e, const uint8_t *bytes, size_t len)
{
	if (e->state != EX_STAGES || !e->request_ended || e->x.head->upgrade)
		return -EINVAL;
	body_free(e);
	e->x.head->content_length = e->request_trailers ? -1 : (int64_t)len;
	return body_keep(e, bytes, len);
}

static int response_replace(struct exchange_private *e, const uint8_t *bytes, size_t len)
{
	uint16_t status = e->response->status;
	if (!e->response_ended || e->upgraded || status == 204 || status == 304)
		return -EINVAL;
	e->response->content_length = e->response_trailers ? -1 : (int64_t)len;
	if (exchange_is_head(e))
		return 0;
	if (e->state == EX_HELD) {
		held_free(e);
		return held_keep(e, bytes, len);
	}
	char *copy = malloc(len + 1);
	if (!copy)
		return -ENOMEM;
	if (len)
		memcpy(copy, bytes, len);
	free(e->local_copy);
	e->local_body = e->local_copy = copy;
	e->local_len = (uint32_t)len;
	return 0;
}

int exchange_body_replace(struct exchange *x, bool response, const uint8_t *bytes, size_t len)
{
	struct exchange_private *e = exchange_of(x);
	return response ? response_replace(e, bytes, len) : request_replace(e, bytes, len);
}

struct http_head *exchange_trailers(struct exchange *x, bool response)
{
	struct exchange_private *e = exchange_of(x);
	return response ? e->response_trailers : e->request_trailers;
}
