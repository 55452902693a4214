/* SPDX-License-Identifier: Apache-2.0 */
/* What is told of requests besides counts: where access logs are written, who watches live, and spans on their way to a
 * collector. Sinks and taps are kept, so that a new helper gets them at once. */
#include "agent/link/supervisor_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/err.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"

enum { TAP_FILTER_MAX = 4096, TAP_RECORD_MAX = 16 << 10, TAP_RATE_MAX = 1000 };

/* --- access logs --- */

static void sink_tell(struct peer *peer, const struct log_sink *sink, uint32_t id)
{
	Weft__Link__LogSink m = WEFT__LINK__LOG_SINK__INIT;
	m.id = id;
	m.path = sink->path;
	peer_send(peer, WEFT__LINK__TO_HELPER__MSG_LOG_SINK, &m, &sink->fd, sink->fd >= 0);
}

static struct log_sink *sink_find(struct supervisor *s, const char *path)
{
	struct log_sink *unused = NULL;
	for (size_t i = 0; i < LOG_SINKS_MAX; i++) {
		if (s->sinks[i].path && strcmp(s->sinks[i].path, path) == 0)
			return &s->sinks[i];
		if (!s->sinks[i].path && !unused)
			unused = &s->sinks[i];
	}
	return unused;
}

int supervisor_log_sink(struct supervisor *s, const char *path, int fd, struct err *err)
{
	struct log_sink *sink = sink_find(s, path);
	if (!sink || strlen(path) >= PATH_MAX)
		return err_set(err, -E2BIG, "access log %s: the helper writes to %d files at most", path,
			       LOG_SINKS_MAX);
	int own = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (fd >= 0 && own < 0)
		return err_sys(err, -errno, "access log %s: keep it open", path);
	if (!sink->path && !(sink->path = strdup(path))) {
		fd_closep(&own);
		return err_set(err, -ENOMEM, "access log %s: out of memory", path);
	}
	fd_closep(&sink->fd);
	sink->fd = own;
	for (struct peer *p = s->peers; p; p = p->next)
		sink_tell(p, sink, (uint32_t)(sink - s->sinks));
	if (own < 0) {
		free(sink->path);
		sink->path = NULL;
	}
	return 0;
}

enum { CARRIED_FILL_MAX = 25 /* percent of the queue: what can wait has no claim to more */ };

bool supervisor_carried(struct supervisor *s, const struct link_carried *c)
{
	struct peer *peer = s->current;
	if (!peer || !peer->channel || channel_fill(peer->channel) > CARRIED_FILL_MAX ||
	    !rate_take(&s->carried_rate, loop_now_ns(s->loop), 1))
		return false;
	char none[] = "";
	Weft__Link__AddrPort source, destination, upstream;
	Weft__Link__Carried m = WEFT__LINK__CARRIED__INIT;
	message_addr_port_set(&source, &c->source);
	message_addr_port_set(&destination, &c->destination);
	message_addr_port_set(&upstream, &c->upstream);
	m.cookie = c->cookie;
	m.server = c->server;
	m.source = &source;
	m.destination = &destination;
	m.upstream = c->upstream.port ? &upstream : NULL;
	m.start_ns = c->start_ns;
	m.duration_ns = c->duration_ns;
	m.received_bytes = c->received_bytes;
	m.sent_bytes = c->sent_bytes;
	m.reason = (uint32_t)c->reason;
	m.cluster = c->cluster ? (char *)(uintptr_t)c->cluster : none;
	m.peer = c->peer ? (char *)(uintptr_t)c->peer : none;
	m.rule = c->rule ? (char *)(uintptr_t)c->rule : none;
	return peer_send(peer, WEFT__LINK__TO_HELPER__MSG_CARRIED, &m, NULL, 0) == 0;
}

/* --- taps --- */

static void tap_tell(struct peer *peer, const struct tap *tap)
{
	Weft__Link__TapStart m = WEFT__LINK__TAP_START__INIT;
	m.id = tap->id;
	m.filter = tap->filter;
	m.per_second = tap->per_second;
	peer_send(peer, WEFT__LINK__TO_HELPER__MSG_TAP_START, &m, NULL, 0);
}

static struct tap *tap_find(struct supervisor *s, uint32_t id)
{
	for (size_t i = 0; i < TAPS_MAX; i++)
		if (s->taps[i].id == id)
			return &s->taps[i];
	return NULL;
}

int supervisor_tap_start(struct supervisor *s, const char *filter, uint32_t per_second, supervisor_tap_fn fn, void *arg,
			 uint32_t *id)
{
	struct tap *tap = tap_find(s, 0);
	if (!tap)
		return -EBUSY;
	if (strlen(filter) > TAP_FILTER_MAX)
		return -EINVAL;
	char *copy = strdup(filter);
	if (!copy)
		return -ENOMEM;
	if (++s->tap_ids == 0)
		s->tap_ids = 1;
	uint32_t rate = per_second && per_second < TAP_RATE_MAX ? per_second : TAP_RATE_MAX;
	*tap = (struct tap){ .id = s->tap_ids, .filter = copy, .per_second = rate, .fn = fn, .arg = arg };
	*id = tap->id;
	for (struct peer *p = s->peers; p; p = p->next)
		tap_tell(p, tap);
	return 0;
}

void supervisor_tap_stop(struct supervisor *s, uint32_t id)
{
	struct tap *tap = id ? tap_find(s, id) : NULL;
	if (!tap)
		return;
	Weft__Link__TapStop m = WEFT__LINK__TAP_STOP__INIT;
	m.id = id;
	free(tap->filter);
	*tap = (struct tap){ 0 };
	for (struct peer *p = s->peers; p; p = p->next)
		peer_send(p, WEFT__LINK__TO_HELPER__MSG_TAP_STOP, &m, NULL, 0);
}

void peer_on_tap_record(struct peer *peer, const Weft__Link__TapRecord *m)
{
	if (strnlen(m->json, TAP_RECORD_MAX + 1) > TAP_RECORD_MAX) {
		peer_condemn(peer, "it told of a request at too great length");
		return;
	}
	/* One that was stopped may still be told of. */
	const struct tap *tap = m->id ? tap_find(peer->s, m->id) : NULL;
	if (tap && peer_within(peer, &peer->tap_rate, 1))
		tap->fn(m->json, tap->arg);
}

/* --- spans --- */

void peer_on_spans(struct peer *peer, const Weft__Link__Spans *m)
{
	if (!m->batch.len || !peer->s->events.on_spans || !peer_within(peer, &peer->span_rate, 1))
		return;
	peer->s->events.on_spans(m->batch.data, m->batch.len, m->count, peer->s->events.arg);
}

void supervisor_observe_tell(struct peer *peer)
{
	struct supervisor *s = peer->s;
	for (size_t i = 0; i < LOG_SINKS_MAX; i++)
		if (s->sinks[i].path)
			sink_tell(peer, &s->sinks[i], (uint32_t)i);
	for (size_t i = 0; i < TAPS_MAX; i++)
		if (s->taps[i].id)
			tap_tell(peer, &s->taps[i]);
}

void supervisor_observe_free(struct supervisor *s)
{
	for (size_t i = 0; i < LOG_SINKS_MAX; i++) {
		free(s->sinks[i].path);
		fd_closep(&s->sinks[i].fd);
	}
	for (size_t i = 0; i < TAPS_MAX; i++)
		free(s->taps[i].filter);
}
