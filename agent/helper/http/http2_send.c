/* SPDX-License-Identifier: Apache-2.0 */
/* What users send. Heads are queued with nghttp2 and go out when the connection settles. Bodies are framed from where the
 * user has them while send_body() runs, as far as windows and the transport allow; only inside nghttp2's own callbacks,
 * where it can't be entered again, are they copied (at most HTTP2_COPY_MAX). */
#include "agent/helper/http/http2_internal.h"
#include "agent/helper/http/http2_nv.h"
#include "agent/helper/transport.h"

#include <assert.h>
#include <errno.h>

#include "agent/base/mem.h"

static struct http2_stream *stream_of(struct http_stream *base)
{
	return container_of(base, struct http2_stream, base);
}

/* --- heads */

/* RFC 8441: nothing of an upgrade may be sent to a server that did not announce it. */
static bool may_upgrade(const struct http2_conn *c)
{
	return nghttp2_session_get_remote_settings(c->session, NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL) == 1;
}

static int request_submit(struct http2_stream *s, const struct http2_nv *nv, bool end)
{
	struct http2_conn *c = http2_of(s);
	int32_t id = nghttp2_submit_headers(c->session, end ? NGHTTP2_FLAG_END_STREAM : NGHTTP2_FLAG_NONE, -1, NULL,
					    nv->nv, nv->count, s);
	if (id < 0) {
		c->draining |= id == NGHTTP2_ERR_STREAM_ID_NOT_AVAILABLE;
		return id == NGHTTP2_ERR_NOMEM ? -ENOMEM : -EPIPE;
	}
	s->id = id;
	return 0;
}

static int client_head(struct http2_stream *s, const struct http_head *head, bool end)
{
	struct http2_conn *c = http2_of(s);
	if (head->upgrade && !may_upgrade(c))
		return -EPIPE;
	s->is_extended = head->upgrade;
	s->is_connect = !head->upgrade && http_is(head->method, "CONNECT");
	s->is_head = http_is(head->method, "HEAD");
	s->expect = head->expect_continue;
	struct http2_nv nv;
	int rc = http2_nv_request(&nv, head, c->base.transport->tls);
	if (rc == 0)
		rc = request_submit(s, &nv, end);
	http2_nv_done(&nv);
	return rc;
}

/* Whether the server knows RFC 8441 is in its SETTINGS. */
static int client_hold(struct http2_stream *s, const struct http_head *head)
{
	s->head_out = http_head_copy(head);
	return s->head_out ? 0 : -ENOMEM;
}

static int server_head(struct http2_stream *s, const struct http_head *head, bool end)
{
	uint16_t status = head->status;
	if (status == 101 && !(s->is_extended && head->upgrade))
		return -EPIPE; /* what is not HTTP/2's: only extended CONNECT has an upgrade */
	if (status == 101)
		status = 200;
	if (status < 200 && end)
		return -EINVAL;
	s->mute = status == 204 || status == 304 || (s->is_head && status >= 200);
	end |= s->mute;
	struct http2_nv nv;
	int rc = http2_nv_response(&nv, head, status);
	if (rc == 0 && nghttp2_submit_headers(http2_of(s)->session, end ? NGHTTP2_FLAG_END_STREAM : NGHTTP2_FLAG_NONE,
					      s->id, NULL, nv.nv, nv.count, NULL) < 0)
		rc = -ENOMEM;
	http2_nv_done(&nv);
	s->head_sent |= status >= 200;
	return rc;
}

static int send_head(struct http_stream *base, const struct http_head *head, bool end)
{
	struct http2_stream *s = stream_of(base);
	struct http2_conn *c = http2_of(s);
	if (!s->user || s->has_reset || s->local_end || c->closed)
		return -EPIPE;
	if (s->discard)
		return 0;
	assert(!s->head_sent && (c->server || s->id == 0));
	int rc;
	if (c->server)
		rc = server_head(s, head, end);
	else if (head->upgrade && !c->settings_seen && !end)
		rc = client_hold(s, head);
	else
		rc = client_head(s, head, end);
	if (rc < 0) {
		enum http_reset why = rc == -EPIPE && !c->server ? http2_refused(c) : HTTP_RESET_INTERNAL;
		http2_stream_abort(s, why, NGHTTP2_INTERNAL_ERROR);
		return -EPIPE;
	}
	s->head_sent |= !c->server;
	s->moved_ms = tick_now_ms(&c->tick);
	if (end) {
		s->local_end = true;
		http2_user_done(s);
	}
	http2_schedule(c);
	return 0;
}

void http2_send_held(struct http2_stream *s)
{
	struct http_head *head = s->head_out;
	if (!head || !http2_of(s)->settings_seen)
		return;
	s->head_out = NULL;
	if (s->user && client_head(s, head, false) < 0)
		http2_stream_abort(s, HTTP_RESET_REFUSED, NGHTTP2_INTERNAL_ERROR);
	http_head_free(head);
}

static int trailers_submit(struct http2_stream *s, const struct http_head *trailers)
{
	struct http2_nv nv;
	int rc = http2_nv_trailers(&nv, trailers);
	/* Nothing that may be sent: the end alone. */
	if (rc == 0 && nv.count == 0)
		rc = 1;
	else if (rc == 0 && nghttp2_submit_trailer(http2_of(s)->session, s->id, nv.nv, nv.count) < 0)
		rc = -ENOMEM;
	http2_nv_done(&nv);
	return rc;
}

/* --- bodies */

static ssize_t on_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t length, uint32_t *flags,
		       nghttp2_data_source *source, void *arg)
{
	struct http2_conn *c = arg;
	struct http2_stream *s = source->ptr;
	(void)session;
	(void)id;
	(void)buf;
	if (c->blocked)
		return NGHTTP2_ERR_PAUSE;
	size_t first = s->out.len ? s->out.len : s->now_len;
	size_t n = first < length ? first : length;
	bool last = n == s->out.len + s->now_len;
	*flags = NGHTTP2_DATA_FLAG_NO_COPY;
	if (!last)
		return (ssize_t)n;
	/* The item ends with what there is; the next bytes make another. So none waits for a user. */
	*flags |= NGHTTP2_DATA_FLAG_EOF;
	s->item = false;
	bool end = (s->local_end && !s->trailers_out) || (s->now_end && n);
	if (s->trailers_out) {
		end = trailers_submit(s, s->trailers_out) != 0;
		http_head_free(s->trailers_out);
		s->trailers_out = NULL;
	}
	if (!end)
		*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
	if (s->wants_room && !s->local_end) {
		s->room = true;
		http2_todo(s);
	}
	return (ssize_t)n;
}

/* A DATA item, unless there is one; with nothing to say it would be an empty frame. */
static bool data_submit(struct http2_stream *s)
{
	if (s->item)
		return true;
	nghttp2_data_provider provider = { .source.ptr = s, .read_callback = on_read };
	s->item = nghttp2_submit_data(http2_of(s)->session, NGHTTP2_FLAG_END_STREAM, s->id, &provider) == 0;
	return s->item;
}

/* What was kept because nghttp2 could not be entered, or did not have the stream yet. */
void http2_send_pending(struct http2_stream *s)
{
	if (s->open && !s->item && (s->out.len || s->end_unsent))
		data_submit(s);
	s->end_unsent = s->end_unsent && !s->item;
}

static size_t body_keep(struct http2_stream *s, const void *bytes, size_t len, bool end)
{
	struct http2_conn *c = http2_of(s);
	size_t n = HTTP2_COPY_MAX > s->out.len ? HTTP2_COPY_MAX - s->out.len : 0;
	if (n > HTTP2_KEPT_MAX - c->kept)
		n = HTTP2_KEPT_MAX - c->kept;
	if (n > len)
		n = len;
	if (buffer_append(&s->out, bytes, n) < 0) {
		http2_stream_abort(s, HTTP_RESET_INTERNAL, NGHTTP2_INTERNAL_ERROR);
		return 0;
	}
	c->kept += (uint32_t)n;
	if (end && n == len) {
		s->local_end = true;
		s->end_unsent = true;
	}
	http2_todo(s);
	return n;
}

static size_t body_frame(struct http2_stream *s, const void *bytes, size_t len, bool end)
{
	struct http2_conn *c = http2_of(s);
	if (!s->open)
		http2_flush(c); /* a request's head has to go first */
	if (!s->open || (s->out.len && len) || (c->blocked && len))
		return 0;
	if (len == 0) {
		s->local_end = s->end_unsent = end;
		http2_send_pending(s);
		http2_schedule(c);
		return 0;
	}
	s->now = bytes;
	s->now_len = len;
	s->now_end = end;
	if (data_submit(s))
		http2_flush(c);
	size_t taken = len - s->now_len;
	s->now = NULL;
	s->now_len = 0;
	if (taken == len && end)
		s->local_end = true;
	s->now_end = false;
	return taken;
}

static size_t send_body(struct http_stream *base, const void *bytes, size_t len, bool end)
{
	struct http2_stream *s = stream_of(base);
	struct http2_conn *c = http2_of(s);
	if (!s->user || s->has_reset || s->local_end || c->closed || (len == 0 && !end))
		return 0;
	assert(s->head_sent);
	size_t taken = len;
	if (s->discard || s->mute)
		s->local_end = end;
	else if (c->busy || (len == 0 && !s->open))
		taken = body_keep(s, bytes, len, end);
	else
		taken = body_frame(s, bytes, len, end);
	base->sent += taken;
	s->wants_room = taken < len;
	s->room = c->busy && s->wants_room && !s->out.len; /* others hold the budget: when nghttp2 can be entered */
	if (taken)
		s->moved_ms = tick_now_ms(&c->tick);
	if (s->local_end)
		http2_user_done(s);
	if (!c->busy)
		http2_schedule(c);
	return taken;
}

static int send_trailers(struct http_stream *base, const struct http_head *trailers)
{
	struct http2_stream *s = stream_of(base);
	struct http2_conn *c = http2_of(s);
	if (!s->user || s->has_reset || s->local_end || c->closed)
		return -EPIPE;
	assert(s->head_sent);
	int rc = 0;
	s->local_end = true;
	if (s->discard || s->mute) {
		;
	} else if (s->item || s->out.len || !s->open) { /* behind the body */
		s->trailers_out = http_head_copy(trailers);
		s->end_unsent = true;
		rc = s->trailers_out ? 0 : -ENOMEM;
		http2_todo(s);
	} else {
		rc = trailers_submit(s, trailers);
		s->end_unsent = rc == 1;
	}
	if (rc < 0) {
		http2_stream_abort(s, HTTP_RESET_INTERNAL, NGHTTP2_INTERNAL_ERROR);
		return -EPIPE;
	}
	if (s->end_unsent)
		http2_todo(s);
	http2_user_done(s);
	http2_schedule(c);
	return 0;
}

/* --- ends */

static uint32_t code_of(const struct http2_conn *c, enum http_reset why)
{
	switch (why) {
	case HTTP_RESET_NO_ERROR:
		return c->server ? NGHTTP2_NO_ERROR : NGHTTP2_CANCEL;
	case HTTP_RESET_REFUSED:
		return NGHTTP2_REFUSED_STREAM;
	case HTTP_RESET_PROTOCOL:
		return NGHTTP2_PROTOCOL_ERROR;
	case HTTP_RESET_INTERNAL:
	case HTTP_RESET_TOO_LARGE:
		return NGHTTP2_INTERNAL_ERROR;
	case HTTP_RESET_CLOSED:
		return c->server ? NGHTTP2_INTERNAL_ERROR : NGHTTP2_CANCEL;
	default:
		return NGHTTP2_CANCEL;
	}
}

static void out_drop(struct http2_stream *s)
{
	http2_of(s)->kept -= s->out.len;
	buffer_done(&s->out);
	http_head_free(s->trailers_out);
	s->trailers_out = NULL;
	s->end_unsent = false;
}

void http2_stream_rst(struct http2_stream *s, uint32_t code)
{
	struct http2_conn *c = http2_of(s);
	/* Also of a request that still waits: it is taken back. */
	if (s->id && (s->open || !c->server))
		nghttp2_submit_rst_stream(c->session, NGHTTP2_FLAG_NONE, s->id, code);
	out_drop(s);
	http2_schedule(c);
}

void http2_stream_abort(struct http2_stream *s, enum http_reset why, uint32_t code)
{
	http2_stream_rst(s, code);
	http2_stream_reset(s, why);
	http2_todo(s);
}

static void reset(struct http_stream *base, enum http_reset why)
{
	struct http2_stream *s = stream_of(base);
	struct http2_conn *c = http2_of(s);
	if (!s->user || c->closed)
		return;
	s->user = false;
	s->user_reset = true;
	http2_body_drop(s);
	/* An answer that is whole must not be overtaken. */
	s->last_reset = why == HTTP_RESET_NO_ERROR && c->server && s->local_end;
	if (!s->last_reset)
		http2_stream_rst(s, code_of(c, why));
	http2_todo(s);
}

/* RFC 9113 8.1.1, 10.5.1: an answer to what was not shown to anybody. */
void http2_answer(struct http2_stream *s, uint16_t status)
{
	struct http_head *head = http_head_new();
	s->head_sent = s->local_end = s->last_reset = true;
	if (head) {
		head->status = status;
		head->content_length = 0;
		struct http2_nv nv;
		if (http2_nv_response(&nv, head, status) == 0)
			nghttp2_submit_headers(http2_of(s)->session, NGHTTP2_FLAG_END_STREAM, s->id, NULL, nv.nv,
					       nv.count, NULL);
		http2_nv_done(&nv);
	}
	http_head_free(head);
	http2_todo(s);
}

const struct http_stream_ops http2_stream_ops = {
	.send_head = send_head,
	.send_body = send_body,
	.send_trailers = send_trailers,
	.resume = http2_body_resume,
	.reset = reset,
};
