/* SPDX-License-Identifier: Apache-2.0 */
/* nghttp2's callbacks for what comes. They run inside nghttp2_session_mem_recv(): users' events are called from here for
 * heads and bodies as they come, what they send then is queued (busy), and all else waits for http2_settle(). */
#include "agent/helper/http/http2_internal.h"

#include <assert.h>
#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <pthread.h>

#include "agent/base/loop.h"

static struct http2_stream *stream_of(nghttp2_session *session, int32_t id)
{
	return nghttp2_session_get_stream_user_data(session, id);
}

/* What a callback says to nghttp2 after users' code ran. */
static int after_user(const struct http2_conn *c)
{
	return c->closed || c->flooded ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, void *arg)
{
	struct http2_conn *c = arg;
	(void)session; /* and its signature is not const-correct */
	c->frame_left = (uint32_t)hd->length;
	return after_user(c);
}

/* --- heads */

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct http2_conn *c = arg;
	struct http2_stream *s = stream_of(session, frame->hd.stream_id);
	if (!s && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
		s = http2_stream_new(c, frame->hd.stream_id);
		if (!s)
			return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
		s->open = true;
		nghttp2_session_set_stream_user_data(session, s->id, s);
	}
	c->heading = s;
	if (!s)
		return 0;
	return http2_head_begin(s) < 0 ? NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE : 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name, nghttp2_rcbuf *value,
		     uint8_t flags, void *arg)
{
	struct http2_conn *c = arg;
	struct http2_stream *s = c->heading;
	(void)session;
	if (!s || !s->head || s->id != frame->hd.stream_id)
		return 0;
	nghttp2_vec n = nghttp2_rcbuf_get_buf(name), v = nghttp2_rcbuf_get_buf(value);
	struct http2_field f = {
		.name = (const char *)n.base,
		.name_len = n.len,
		.value = (const char *)v.base,
		.value_len = v.len,
		.name_static = nghttp2_rcbuf_is_static(name),
		.sensitive = flags & NGHTTP2_NV_FLAG_NO_INDEX,
	};
	if (http2_head_add(s, &f) == 0)
		return 0;
	c->flooded = s->too_large;
	return c->flooded ? NGHTTP2_ERR_CALLBACK_FAILURE : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

/* nghttp2 would ignore such a field and go on. */
static int on_invalid_header(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name,
			     nghttp2_rcbuf *value, uint8_t flags, void *arg)
{
	(void)session, (void)frame, (void)name, (void)value, (void)flags, (void)arg;
	return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static void bad(struct http2_conn *c, struct http2_stream *s, enum http_bad why, uint16_t status)
{
	if (c->server && c->base.events->on_bad)
		c->base.events->on_bad(&c->base, why, status, c->base.arg);
	if (c->closed)
		return;
	if (status) {
		http2_answer(s, status);
		return;
	}
	enum http_reset reset = why == HTTP_BAD_TOO_LARGE ? HTTP_RESET_TOO_LARGE : HTTP_RESET_PROTOCOL;
	http2_stream_abort(s, reset, why == HTTP_BAD_TOO_LARGE ? NGHTTP2_ENHANCE_YOUR_CALM : NGHTTP2_PROTOCOL_ERROR);
}

static void on_request(struct http2_conn *c, struct http2_stream *s, bool end)
{
	s->head_got = true;
	s->remote_end = end;
	if (s->too_large) {
		bad(c, s, HTTP_BAD_TOO_LARGE, 431);
		return;
	}
	if (!http2_head_request(s)) {
		bad(c, s, HTTP_BAD_H2_PROTOCOL, 0);
		return;
	}
	struct http_head *head = s->head;
	s->head = NULL;
	c->base.requests++;
	if (c->limits.max_requests && c->base.requests >= c->limits.max_requests)
		c->base.ops->drain(&c->base);
	s->user = true;
	c->base.events->on_stream(&c->base, &s->base, c->base.arg);
	assert(c->closed || s->base.events);
	if (c->closed || !s->user) { /* it was reset at once */
		http_head_free(head);
		return;
	}
	s->remote_done = end;
	s->base.events->on_head(&s->base, head, end);
	http2_user_done(s);
}

static void on_response(struct http2_conn *c, struct http2_stream *s, bool end)
{
	if (s->too_large || !http2_head_response(s)) {
		bad(c, s, s->too_large ? HTTP_BAD_TOO_LARGE : HTTP_BAD_H2_PROTOCOL, 0);
		return;
	}
	struct http_head *head = s->head;
	s->head = NULL;
	bool skip = head->status == 100 && !s->expect;
	s->head_got = head->status >= 200 || head->status == 101;
	s->remote_end = end;
	if (!s->user || skip) {
		http_head_free(head);
		return;
	}
	s->remote_done = end;
	s->base.events->on_head(&s->base, head, end);
	http2_user_done(s);
}

static void on_trailers(struct http2_conn *c, struct http2_stream *s)
{
	s->remote_end = true;
	if (s->too_large) {
		bad(c, s, HTTP_BAD_TOO_LARGE, 0);
		return;
	}
	s->trailers = s->head;
	s->head = NULL;
	http2_trailers_tell(s);
}

static void on_headers(struct http2_conn *c, struct http2_stream *s, const nghttp2_frame *frame)
{
	bool end = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
	if (!s->head)
		return;
	if (s->head_got)
		on_trailers(c, s);
	else if (c->server)
		on_request(c, s, end);
	else
		on_response(c, s, end);
}

/* --- bodies */

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *bytes, size_t len,
			 void *arg)
{
	struct http2_conn *c = arg;
	struct http2_stream *s = stream_of(session, id);
	c->frame_left -= (uint32_t)len;
	if (!s) {
		nghttp2_session_consume(session, id, len);
		return after_user(c);
	}
	/* The end is told with the last bytes, if nothing can be wrong with it any more. */
	s->arrived += len;
	if ((flags & NGHTTP2_FLAG_END_STREAM) && !(flags & NGHTTP2_FLAG_PADDED) && c->frame_left == 0 &&
	    (s->expected < 0 || (uint64_t)s->expected == s->arrived))
		s->remote_end = true;
	http2_body(s, bytes, len);
	return after_user(c);
}

static void on_data_end(struct http2_stream *s)
{
	if (s->remote_end)
		return;
	s->remote_end = true;
	http2_body_end(s);
}

/* --- the connection's own */

static void on_settings(struct http2_conn *c, const nghttp2_frame *frame)
{
	if (frame->hd.flags & NGHTTP2_FLAG_ACK)
		return;
	struct http2_stream *s;
	if (!c->settings_seen)
		TAILQ_FOREACH(s, &c->streams, link)
	if (s->head_out)
		http2_todo(s);
	c->settings_seen = true;
	c->capacity_changed = true;
}

static void on_ping_ack(struct http2_conn *c)
{
	c->ping_out = false;
	if (c->draining && c->server)
		http2_drain_now(c);
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct http2_conn *c = arg;
	struct http2_stream *s = frame->hd.stream_id ? stream_of(session, frame->hd.stream_id) : NULL;
	switch (frame->hd.type) {
	case NGHTTP2_HEADERS:
		if (s)
			on_headers(c, s, frame);
		break;
	case NGHTTP2_DATA:
		if (s && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
			on_data_end(s);
		break;
	case NGHTTP2_SETTINGS:
		on_settings(c, frame);
		break;
	case NGHTTP2_PING:
		if (frame->hd.flags & NGHTTP2_FLAG_ACK)
			on_ping_ack(c);
		break;
	case NGHTTP2_GOAWAY:
		if (!c->server)
			c->draining = c->capacity_changed = true;
		break;
	default:
		break;
	}
	return after_user(c);
}

static int on_invalid_frame(nghttp2_session *session, const nghttp2_frame *frame, int error, void *arg)
{
	struct http2_conn *c = arg;
	(void)session;
	(void)frame;
	(void)error;
	if (c->bad < UINT8_MAX)
		c->bad++;
	return 0;
}

static enum http_reset reset_of(const struct http2_conn *c, uint32_t code)
{
	switch (code) {
	case NGHTTP2_NO_ERROR:
		return HTTP_RESET_NO_ERROR;
	case NGHTTP2_CANCEL:
		return HTTP_RESET_CANCEL;
	case NGHTTP2_REFUSED_STREAM: /* nghttp2 says it, too, of what a GOAWAY leaves out */
		return http2_refused(c);
	case NGHTTP2_PROTOCOL_ERROR:
	case NGHTTP2_FLOW_CONTROL_ERROR:
	case NGHTTP2_STREAM_CLOSED:
	case NGHTTP2_FRAME_SIZE_ERROR:
		return HTTP_RESET_PROTOCOL;
	default:
		return HTTP_RESET_INTERNAL;
	}
}

/* Both ends were said, or a RST_STREAM came or went; nghttp2 forgets the stream after this. */
static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg)
{
	struct http2_conn *c = arg;
	struct http2_stream *s = stream_of(session, id);
	if (!s)
		return 0;
	/* Work that we began and that nobody will have an answer of. */
	bool hasty = code && c->server && !s->user_reset && !(s->local_end && s->head_sent);
	s->open = s->item = false;
	s->id = id;
	http2_stream_uncount(s);
	bool whole = s->remote_end && (s->local_end || code == NGHTTP2_NO_ERROR);
	if (whole && !s->local_end)
		s->discard = true; /* the response is whole, and the rest of the request not wanted */
	else if (!whole || (code && code != NGHTTP2_NO_ERROR))
		http2_stream_reset(s, reset_of(c, code));
	http2_todo(s);
	if (hasty)
		http2_ration_reset(c, s);
	else if (code == NGHTTP2_NO_ERROR)
		http2_ration_answered(c);
	return 0;
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct http2_conn *c = arg;
	bool stream_end = frame->hd.type <= NGHTTP2_HEADERS && frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
	bool request = frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST;
	struct http2_stream *s = stream_end || request ? stream_of(session, frame->hd.stream_id) : NULL;
	if (s) {
		s->open |= request;
		s->local_sent |= stream_end;
		s->room |= request && s->wants_room;
		http2_todo(s);
	}
	if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.error_code != NGHTTP2_NO_ERROR)
		c->fatal = true;
	return 0;
}

static int on_frame_not_send(nghttp2_session *session, const nghttp2_frame *frame, int error, void *arg)
{
	(void)arg;
	/* A head that HPACK or the limit of header blocks refused. After a request on_stream_close() follows. */
	if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat == NGHTTP2_HCAT_REQUEST ||
	    error == NGHTTP2_ERR_STREAM_CLOSED || error == NGHTTP2_ERR_STREAM_CLOSING)
		return 0;
	struct http2_stream *s = stream_of(session, frame->hd.stream_id);
	if (s)
		http2_stream_abort(s, HTTP_RESET_INTERNAL, NGHTTP2_INTERNAL_ERROR);
	return 0;
}

/* --- sessions */

void nghttp2_option_set_stream_reset_rate_limit(nghttp2_option *option, uint64_t burst, uint64_t rate)
	__attribute__((weak));
void nghttp2_option_set_max_continuations(nghttp2_option *option, size_t val) __attribute__((weak));

static nghttp2_session_callbacks *callbacks;
static nghttp2_option *options;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_shared(void)
{
	if (nghttp2_session_callbacks_new(&callbacks) < 0 || nghttp2_option_new(&options) < 0)
		return;
	nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_begin_frame);
	nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback2(callbacks, on_header);
	nghttp2_session_callbacks_set_on_invalid_header_callback2(callbacks, on_invalid_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
	nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, on_invalid_frame);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
	nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
	nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_frame_not_send);
	http2_output_callbacks(callbacks);

	nghttp2_option_set_no_auto_window_update(options, 1);
	nghttp2_option_set_no_closed_streams(options, 1);
	nghttp2_option_set_max_reserved_remote_streams(options, 0);
	nghttp2_option_set_max_send_header_block_length(options, HTTP2_HEAD_SEND_MAX);
	/* What http2_ration.c counts, and better: nghttp2 takes pieces of a frame header for frames, and timeouts for
	 * an attack. Its later versions have these, and Debian's 1.52. */
	if (nghttp2_option_set_stream_reset_rate_limit)
		nghttp2_option_set_stream_reset_rate_limit(options, 1 << 20, 1 << 20);
	if (nghttp2_option_set_max_continuations)
		nghttp2_option_set_max_continuations(options, 1000);
}

static int settings_submit(struct http2_conn *c)
{
	const struct http_limits *l = &c->limits;
	nghttp2_settings_entry iv[8];
	size_t n = 0;
	iv[n++] = (nghttp2_settings_entry){ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, l->stream_window };
	iv[n++] = (nghttp2_settings_entry){ NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, l->head_bytes };
	iv[n++] = (nghttp2_settings_entry){ HTTP2_NO_RFC7540_PRIORITIES, 1 };
	if (c->server) {
		iv[n++] = (nghttp2_settings_entry){ NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, l->max_streams };
		iv[n++] = (nghttp2_settings_entry){ NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1 };
	} else {
		iv[n++] = (nghttp2_settings_entry){ NGHTTP2_SETTINGS_ENABLE_PUSH, 0 };
	}
	if (nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, iv, n) < 0)
		return -ENOMEM;
	return nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0, (int32_t)l->conn_window) < 0 ?
		       -ENOMEM :
		       0;
}

int http2_session_new(struct http2_conn *c)
{
	pthread_once(&once, make_shared);
	if (!options)
		return -ENOMEM;
	nghttp2_mem *mem = http2_memory(true);
	int rc = c->server ? nghttp2_session_server_new3(&c->session, callbacks, c, options, mem) :
			     nghttp2_session_client_new3(&c->session, callbacks, c, options, mem);
	http2_memory(false);
	return rc < 0 ? -ENOMEM : settings_submit(c);
}

static void terminate(struct http2_conn *c, uint32_t code)
{
	if (c->fatal)
		return;
	c->fatal = true;
	nghttp2_session_terminate_session(c->session, code);
}

void http2_calm(struct http2_conn *c)
{
	terminate(c, NGHTTP2_ENHANCE_YOUR_CALM);
}

void http2_input(struct http2_conn *c, const uint8_t *bytes, size_t len)
{
	c->scan.heads = 0;
	enum http2_scanned scanned = http2_scan(c, bytes, len);
	if (c->scan.heads > 1)
		loop_read_together(c->loop, c->scan.heads - 1);
	if (scanned == SCAN_PROTOCOL || scanned == SCAN_CLOSED) {
		terminate(c, scanned == SCAN_CLOSED ? NGHTTP2_STREAM_CLOSED : NGHTTP2_PROTOCOL_ERROR);
		return;
	}
	ssize_t rc = NGHTTP2_ERR_CALLBACK_FAILURE;
	c->busy = true;
	if (scanned == SCAN_OK)
		rc = nghttp2_session_mem_recv(c->session, bytes, len);
	c->busy = false;
	if (c->closed)
		return;
	/* What else nghttp2 gives up for are too many frames of a kind. */
	c->flooded |= rc < 0 && rc != NGHTTP2_ERR_CALLBACK_FAILURE && rc != NGHTTP2_ERR_NOMEM &&
		      rc != NGHTTP2_ERR_BAD_CLIENT_MAGIC;
	if (c->flooded)
		http2_calm(c);
	else if (rc < 0)
		terminate(c, rc == NGHTTP2_ERR_NOMEM ? NGHTTP2_INTERNAL_ERROR : NGHTTP2_PROTOCOL_ERROR);
}
