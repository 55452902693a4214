/* SPDX-License-Identifier: Apache-2.0 */
/* What HTTP/2 tells of a connection and its streams. */
#include "agent/helper/hbone_internal.h"

#include "agent/base/log.h"
#include "agent/model/identity.h"

static struct h2_stream *on_stream_new(void *arg)
{
	struct hbone_conn *c = arg;
	struct hbone *h = c->h;
	if (h->draining || !worker_pod_admit(h->w, c->pod)) {
		hbone_refuse(h, c->pod, h->draining ? DROP_DRAINING : DROP_CONNECTION_LIMIT, true, &c->remote,
			     &c->local, c->peer.identity->uri, NULL);
		return NULL;
	}
	struct hbone_stream *s = stream_new(h, c->pod, -1, true);
	if (!s) {
		worker_pod_leave(h->w, c->pod);
		return NULL;
	}
	s->conn = c;
	s->state = STREAM_CONNECTING;
	c->unused_ms = 0;
	return &s->h2;
}

static void on_request(struct h2_stream *s, const struct h2_request *request, void *arg)
{
	(void)arg;
	inbound_request(stream_of(s), request);
}

static void on_response(struct h2_stream *s, int status, void *arg)
{
	(void)arg;
	outbound_opened(stream_of(s), status);
}

static void on_data(struct h2_stream *s, const uint8_t *bytes, size_t len, void *arg)
{
	(void)arg;
	relay_data(stream_of(s), bytes, len);
}

static void on_end(struct h2_stream *s, void *arg)
{
	(void)arg;
	relay_end(stream_of(s));
}

static void on_reset(struct h2_stream *h2s, uint32_t code, void *arg)
{
	struct hbone_stream *s = stream_of(h2s);
	(void)arg;
	if (s->state == STREAM_ASKED) {
		if (code == H2_REFUSED_STREAM && pool_retry(s))
			return;
		outbound_fail(s, DROP_HBONE_REFUSED);
		return;
	}
	stream_abort(s, H2_CANCEL);
}

static void on_window(struct h2_stream *h2s, void *arg)
{
	struct hbone_conn *c = arg;
	if (h2s) {
		relay_resume(stream_of(h2s));
		return;
	}
	for (size_t i = 0; i < h2_stream_count(c->h2); i++)
		relay_resume(stream_of(h2_stream_at(c->h2, i)));
}

static void on_goaway(uint32_t code, void *arg)
{
	struct hbone_conn *c = arg;
	if (code != H2_NO_ERROR)
		log_debug("hbone: the peer ended the connection with code %u", code);
	conn_unused(c);
}

static void on_settings(void *arg)
{
	struct hbone_conn *c = arg;
	c->settings_seen = true;
	conn_settle(c);
}

static void on_pong(void *arg)
{
	(void)arg; /* any received byte has cleared ping_sent */
}

const struct h2_events conn_server_events = { on_stream_new, on_request, on_response, on_data,	   on_end,
					      on_reset,	     on_window,	 on_goaway,   on_settings, on_pong };
const struct h2_events conn_client_events = { on_stream_new, on_request, on_response, on_data,	   on_end,
					      on_reset,	     on_window,	 on_goaway,   on_settings, on_pong };
