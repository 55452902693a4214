/* SPDX-License-Identifier: Apache-2.0 */
/* A request's body on its way. Normally bytes go from codec to codec. They are kept, from the first one on, while a retry
 * may need them again (64 KiB, then there is no retry), and while a stage wants to see them. */
#include "agent/helper/route/internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_CAP = 2048 };

int body_append(uint8_t **body, uint32_t *len, uint32_t *cap, const uint8_t *bytes, size_t n)
{
	if (*len + n > *cap) {
		size_t wanted = *cap ? *cap : FIRST_CAP;
		while (wanted < *len + n)
			wanted *= 2;
		uint8_t *grown = realloc(*body, wanted);
		if (!grown)
			return -ENOMEM;
		*body = grown;
		*cap = (uint32_t)wanted;
	}
	if (n)
		memcpy(*body + *len, bytes, n);
	*len += (uint32_t)n;
	return 0;
}

int body_keep(struct exchange_private *e, const uint8_t *bytes, size_t len)
{
	return body_append(&e->body, &e->body_len, &e->body_cap, bytes, len);
}

void body_free(struct exchange_private *e)
{
	free(e->body);
	e->body = NULL;
	e->body_len = e->body_cap = e->body_sent = 0;
}

static size_t body_for_stage(struct exchange_private *e, const uint8_t *bytes, size_t len)
{
	size_t room = e->buffer_max - e->body_len;
	size_t n = len < room ? len : room;
	if (body_keep(e, bytes, n) == 0)
		return n;
	exchange_abort(e, FLAG(LR), "out_of_memory", HTTP_RESET_INTERNAL); /* the stage is told to forget it */
	return 0;
}

/* After the endpoint took n bytes: kept for another try, or no longer. */
static void body_passed(struct exchange_private *e, const uint8_t *bytes, size_t n)
{
	if (!e->body_kept)
		return;
	if (e->body_len + n <= BODY_KEPT_MAX && body_keep(e, bytes, n) == 0) {
		e->body_sent = e->body_len;
		return;
	}
	e->body_kept = false;
	body_free(e);
}

size_t body_from_client(struct exchange_private *e, const uint8_t *bytes, size_t len, bool end)
{
	if (e->buffer_fn)
		return body_for_stage(e, bytes, len);
	if (!e->up.s || (e->state != EX_UPSTREAM && e->state != EX_HELD && e->state != EX_RESPONSE) ||
	    e->body_sent < e->body_len)
		return 0;
	size_t n = stream_send_body(e->up.s, bytes, len, end);
	if (n == len && end) {
		e->up.sent_end = true;
		leg_forget(&e->up);
	}
	body_passed(e, bytes, n);
	return n;
}

void body_stage_done(struct exchange_private *e, bool whole)
{
	exchange_body_fn fn = e->buffer_fn;
	e->buffer_fn = NULL;
	if (e->state == EX_STAGES)
		fn(&e->x, e->body, e->body_len, whole, e->buffer_arg);
}

/* Who was told to wait for 100 Continue would wait for ever if the body is wanted before it is sent on. */
static void allow_body(struct exchange_private *e)
{
	if (!e->x.head->expect_continue || !e->down.s || e->request_ended)
		return;
	struct http_head *head = http_head_new();
	if (!head)
		return;
	head->version = HTTP_1_1;
	head->status = 100;
	head->content_length = -1;
	stream_send_head(e->down.s, head, false);
	http_head_free(head);
	e->x.head->expect_continue = false;
}

void exchange_buffer_body(struct exchange *x, size_t max, exchange_body_fn fn, void *arg)
{
	struct exchange_private *e = exchange_of(x);
	assert(e->state == EX_STAGES && !e->buffer_fn);
	e->buffer_max = max < BODY_FOR_STAGE_MAX ? max : BODY_FOR_STAGE_MAX;
	/* What follows the head of a tunnel is no body, and does not end before somebody answered. */
	bool tunnel = x->head->upgrade || http_is(x->head->method, "CONNECT");
	if (tunnel || e->request_ended || e->body_len >= e->buffer_max) {
		bool whole = tunnel || (e->request_ended && e->body_len <= e->buffer_max);
		fn(x, e->body, e->body_len < e->buffer_max ? e->body_len : e->buffer_max, whole, arg);
		return;
	}
	e->buffer_fn = fn;
	e->buffer_arg = arg;
	allow_body(e);
	downstream_pull(e);
}
