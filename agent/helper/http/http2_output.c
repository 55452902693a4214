/* SPDX-License-Identifier: Apache-2.0 */
/* From nghttp2 to the transport. Frames of one flush are put together in a buffer of the thread and written at once; long
 * payloads are written from where their owner has them. When the transport takes less than it was given, the rest (about a
 * frame) is kept, and nothing more is asked of nghttp2 until on_room. */
#include "agent/helper/http/http2_internal.h"

#include <nghttp2/nghttp2.h>
#include <string.h>
#include <sys/uio.h>

#include "agent/helper/transport.h"

enum { BATCH = 24 << 10, COPY_BELOW = 2048, FRAME_HEADER = 9 };

static _Thread_local uint8_t batch[BATCH];
static _Thread_local size_t batch_len;

static void keep(struct http2_conn *c, const uint8_t *bytes, size_t len)
{
	if (buffer_append(&c->unsent, bytes, len) < 0)
		c->failed = true;
}

/* What is in the batch and, after it, payload. */
static void write_out(struct http2_conn *c, const uint8_t *payload, size_t len)
{
	struct iovec iov[2] = { { batch, batch_len }, { (void *)(uintptr_t)payload, len } };
	size_t total = batch_len + len, taken = 0;
	if (total && !c->blocked)
		taken = transport_write(c->base.transport, iov, len ? 2 : 1);
	if (taken < total) {
		c->blocked = true;
		size_t of_batch = taken < batch_len ? taken : batch_len;
		keep(c, batch + of_batch, batch_len - of_batch);
		if (len)
			keep(c, payload + (taken - of_batch), len - (taken - of_batch));
	}
	batch_len = 0;
}

static void put(struct http2_conn *c, const uint8_t *bytes, size_t len)
{
	if (len > BATCH - batch_len)
		write_out(c, NULL, 0);
	if (len > BATCH) {
		write_out(c, bytes, len);
		return;
	}
	if (len)
		memcpy(batch + batch_len, bytes, len);
	batch_len += len;
}

/* nghttp2 has counted the frame against the windows; its payload is at the stream. Never padded. */
static int on_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *header, size_t len,
			nghttp2_data_source *source, void *arg)
{
	struct http2_conn *c = arg;
	struct http2_stream *s = source->ptr;
	(void)session;
	(void)frame;
	bool kept = s->out.len > 0;
	const uint8_t *payload = kept ? buffer_head(&s->out) : s->now;
	put(c, header, FRAME_HEADER);
	if (len <= COPY_BELOW)
		put(c, payload, len);
	else
		write_out(c, payload, len);
	if (kept && len) {
		buffer_consume(&s->out, len);
		c->kept -= (uint32_t)len;
	} else if (len) {
		s->now += len;
		s->now_len -= len;
	}
	s->moved_ms = tick_now_ms(&c->tick);
	http2_ration_sent_data(c);
	return c->failed ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

void http2_output_callbacks(void *callbacks)
{
	nghttp2_session_callbacks_set_send_data_callback(callbacks, on_send_data);
}

void http2_flush(struct http2_conn *c)
{
	const uint8_t *bytes;
	ssize_t n = 0;
	if (c->busy || c->blocked || c->closed || c->failed)
		return;
	c->busy = true;
	do {
		n = nghttp2_session_mem_send(c->session, &bytes);
		if (n > 0)
			put(c, bytes, (size_t)n);
	} while (n > 0 && !c->blocked);
	write_out(c, NULL, 0);
	c->busy = false;
	if (n < 0)
		c->failed = true;
}

void http2_output_retry(struct http2_conn *c)
{
	c->blocked = false;
	size_t len = c->unsent.len;
	if (len) {
		struct iovec iov = { buffer_head(&c->unsent), len };
		size_t n = transport_write(c->base.transport, &iov, 1);
		buffer_consume(&c->unsent, n);
		c->blocked = n < len;
	}
	struct http2_stream *s;
	TAILQ_FOREACH(s, &c->streams, link)
	if (!c->blocked && s->wants_room) {
		s->room = true;
		http2_todo(s);
	}
}
