/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/hbone_internal.h"

#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/helper/observe/connection_log.h"
#include "agent/helper/worker_accept.h"

#include <sys/socket.h>
#include <unistd.h>

struct hbone_stream *stream_new(struct hbone *h, struct worker_pod *pod, int fd, bool inbound)
{
	struct hbone_stream *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;

	s->magic = STREAM_MAGIC;
	s->h = h;
	s->fd = fd;
	s->inbound = inbound;
	s->pod = worker_pod_ref(pod);
	TAILQ_INSERT_TAIL(&h->streams, s, all);
	h->stream_count++;
	hbone_unsettled(h, 1);
	struct link_shard *m = worker_metrics(h->w);
	if (inbound)
		m->inbound_opened++;
	else
		m->outbound_opened++;
	return s;
}

void stream_settle(struct hbone_stream *s)
{
	if (s->settled)
		return;
	s->settled = true;
	hbone_unsettled(s->h, -1);
}

static void on_reap(void *arg)
{
	struct hbone_stream *s = arg;
	s->magic = 0;
	free(s->sni);
	free(s->early);
	free(s);
}

void stream_discard(struct hbone_stream *s)
{
	struct hbone *h = s->h;
	size_t len = s->to_app.len;
	hbone_count_bytes(h, -(int64_t)s->to_app.cap);
	buffer_done(&s->to_app);
	if (h->batch.stream == s) {
		len += h->batch.bytes;
		h->batch.stream = NULL;
		h->batch.count = 0;
		h->batch.bytes = 0;
	}
	if (s->conn && len) {
		h2_consumed(s->conn->h2, NULL, len);
		conn_touch(s->conn);
	}
}

static void stream_log(struct hbone_stream *s)
{
	struct addr_port local = { 0 }, upstream = s->destination;
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct connection_end end = { .upstream = &upstream, .upstream_local = &local };
	if (s->inbound) {
		end.destination = &s->destination;
		if (s->fd < 0 && !s->app_port) /* nobody was called */
			end.upstream = NULL;
		upstream = pod_inbound_target(s->pod, &s->destination);
		if (s->fd >= 0 && getsockname(s->fd, (struct sockaddr *)&ss, &len) == 0)
			addr_from_sockaddr((const struct sockaddr *)&ss, &local);
		end.server_name = s->sni;
		end.received_bytes = s->received;
		end.sent_bytes = s->sent;
	} else {
		if (s->pod->addr_count)
			local.addr = s->pod->addrs[0];
		end.source = &local; /* its port is not known */
		end.received_bytes = s->sent;
		end.sent_bytes = s->received;
	}
	connection_log_end(TAKE(s->log), &end);
}

static void stream_unlink(struct hbone_stream *s)
{
	struct hbone *h = s->h;
	if (s->log)
		stream_log(s);
	ahead_leave(s);
	held_leave(s);
	worker_wait_cancel(TAKE(s->wait));
	pool_leave(s);
	if (s->blocked)
		TAILQ_REMOVE(&s->conn->blocked, s, queue);
	s->blocked = false;
	stream_settle(s);
	stream_discard(s);
	TAILQ_REMOVE(&h->streams, s, all);
	h->stream_count--;
	struct link_shard *m = worker_metrics(h->w);
	m->sent_bytes += s->inbound ? 0 : s->sent;
	m->received_bytes += s->inbound ? 0 : s->received;
	if (s->inbound)
		m->inbound_closed++;
	else
		m->outbound_closed++;
}

void stream_close(struct hbone_stream *s)
{
	if (s->state == STREAM_CLOSED)
		return;

	struct hbone *h = s->h;
	struct hbone_conn *c = s->conn;
	if (c && s->h2.id) {
		h2_reset(c->h2, &s->h2, H2_CANCEL);
		conn_touch(c);
	}
	stream_unlink(s);
	s->state = STREAM_CLOSED;
	s->conn = NULL;
	hbone_transport_gone(s);
	loop_io_free(TAKE(s->io));
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	if (c)
		conn_unused(c);
	if (!s->uncharged)
		worker_pod_leave(h->w, s->pod);
	worker_pod_unref(h->w, s->pod);
	s->pod = NULL;
	loop_defer(h->loop, on_reap, s);
}

void stream_abort(struct hbone_stream *s, enum h2_code code)
{
	if (s->state == STREAM_CLOSED)
		return;

	if (s->conn && s->h2.id) {
		h2_reset(s->conn->h2, &s->h2, code);
		conn_touch(s->conn);
	}
	if (s->fd >= 0) {
		struct linger linger = { .l_onoff = 1, .l_linger = 0 };
		setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	}
	stream_close(s);
}
