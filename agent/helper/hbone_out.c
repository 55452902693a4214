/* SPDX-License-Identifier: Apache-2.0 */
/* Captured connections of this node's pods to workloads on other nodes. */
#include "agent/helper/hbone_internal.h"

#include "agent/base/mem.h"
#include "agent/helper/observe/connection_log.h"
#include "agent/model/telemetry.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

static void app_refused(int fd)
{
	struct linger linger = { .l_onoff = 1, .l_linger = 0 };
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(fd);
}

/* For the report; the port is not known, as the captured socket's peer is the original destination. */
static struct addr_port source_of(const struct worker_pod *pod)
{
	struct addr_port source = { 0 };
	if (pod->addr_count)
		source.addr = pod->addrs[0];
	return source;
}

static int error_of(enum drop_reason reason)
{
	switch (reason) {
	case DROP_NO_MEMORY:
		return -ENOMEM;
	case DROP_NO_SOCKET:
		return -ETIMEDOUT;
	case DROP_NO_CERTIFICATE:
	case DROP_TLS_HANDSHAKE:
	case DROP_TLS_UNTRUSTED:
	case DROP_TLS_IDENTITY:
	case DROP_TLS_REVOKED:
	case DROP_HBONE_REFUSED:
		return -EPERM;
	default:
		return -ECONNREFUSED;
	}
}

void outbound_fail(struct hbone_stream *s, enum drop_reason reason)
{
	if (s->state == STREAM_CLOSED)
		return;
	if (reason != DROP_NONE) {
		struct addr_port source = source_of(s->pod);
		hbone_refuse(s->h, s->pod, reason, false, &source, &s->destination, NULL, NULL);
	}
	if (!s->error)
		s->error = error_of(reason);
	connection_log_refused(s->log, reason, NULL, NULL);
	if (reason == DROP_UPSTREAM_CONNECT)
		worker_endpoint_result(s->h->w, &s->destination, false);
	stream_abort(s, H2_CANCEL);
}

void outbound_join(struct hbone_stream *s, const struct endpoint_info *info)
{
	struct hbone *h = s->h;
	uint32_t timeout_ms =
		info->connect_timeout_ms ? info->connect_timeout_ms : worker_settings(h->w)->connect_timeout_ms;
	s->deadline_ms = (uint32_t)(hbone_now_ms(h) + (timeout_ms ? timeout_ms : CONNECT_TIMEOUT_MS));
	s->idle_ms = info->idle_timeout_ms;
	s->max_ms = info->max_connection_duration_ms;
	int rc = pool_join(s, info);
	if (rc == -ENOMEM)
		outbound_fail(s, DROP_NO_MEMORY);
	else if (rc < 0)
		outbound_fail(s, rc == -ENOENT ? DROP_NO_CERTIFICATE : DROP_CONNECTION_LIMIT);
}

static void on_endpoint(const struct endpoint_info *info, void *arg)
{
	struct hbone_stream *s = arg;
	struct hbone *h = s->h;
	s->wait = NULL;
	hbone_enter(h);
	if (!info) {
		outbound_fail(s, DROP_NOT_READY);
	} else if (!info->known || !info->hbone || info->identity_count == 0) {
		outbound_fail(s, DROP_UNKNOWN_DESTINATION);
	} else {
		connection_log_chosen(s->log, &s->destination, info->service);
		outbound_join(s, info);
	}
	hbone_leave(h);
}

void hbone_outbound(struct hbone *h, struct worker_pod *pod, int fd, const struct addr_port *endpoint,
		    const struct addr_port *original, struct connection_log *log)
{
	enum drop_reason reason = h->draining		      ? DROP_DRAINING :
				  worker_pod_admit(h->w, pod) ? DROP_NONE :
								DROP_CONNECTION_LIMIT;
	struct hbone_stream *s = reason == DROP_NONE ? stream_new(h, pod, fd, false) : NULL;
	if (!s) {
		struct addr_port source = source_of(pod);
		hbone_refuse(h, pod, reason == DROP_NONE ? DROP_NO_MEMORY : reason, false, &source, original, NULL,
			     NULL);
		if (reason == DROP_NONE)
			worker_pod_leave(h->w, pod);
		app_refused(fd);
		connection_log_end(log, NULL);
		return;
	}

	hbone_enter(h);
	s->log = log ? log : connection_log_new(h->w, pod, REPORTER_CLIENT);
	if (!log)
		connection_log_asked(s->log, original, NULL, NULL);
	s->state = STREAM_RESOLVING;
	s->destination = *endpoint;
	s->deadline_ms = (uint32_t)(hbone_now_ms(h) + CONNECT_TIMEOUT_MS);
	struct worker_wait *wait = worker_endpoint_get(h->w, endpoint, on_endpoint, s);
	if (wait)
		s->wait = wait;
	hbone_leave(h);
}

void outbound_opened(struct hbone_stream *s, int status)
{
	if (s->state != STREAM_ASKED)
		return;
	if (status != 200) {
		outbound_fail(s, status == 503 ? DROP_UPSTREAM_CONNECT : DROP_HBONE_REFUSED);
		return;
	}
	worker_endpoint_result(s->h->w, &s->destination, true);
	if (s->transport) {
		s->state = STREAM_OPEN;
		s->began_s = s->active_s = (uint32_t)(hbone_now_ms(s->h) / 1000);
		stream_settle(s);
		hbone_transport_opened(s);
		return;
	}
	if (relay_start(s) < 0)
		stream_abort(s, H2_INTERNAL_ERROR);
}
