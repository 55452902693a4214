/* SPDX-License-Identifier: Apache-2.0 */
/* One worker's HBONE: what the worker calls, credentials by identity, the clock tick, and the state dump. */
#include "agent/helper/hbone_internal.h"

#include "agent/base/err.h"
#include "agent/base/log.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/table.h"
#include "agent/helper/observe/connection_log.h"
#include "agent/helper/tls_credentials.h"
#include "agent/helper/transport_internal.h"
#include "agent/model/identity.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

struct hbone_identity {
	struct tls_credentials *credentials;
	struct tls_context *context; /* made when first needed; NULL after a change */
};

static void identity_free(void *value)
{
	struct hbone_identity *id = value;
	tls_credentials_unref(id->credentials);
	tls_context_unref(id->context);
	free(id);
}

uint64_t hbone_now_ms(const struct hbone *h)
{
	return loop_now_ns(h->loop) / 1000000;
}

/* xoroshiro128+: trace ids need to be unlikely to collide, not secret. */
uint64_t hbone_random(struct hbone *h)
{
	uint64_t a = h->random[0], b = h->random[1], sum = a + b;
	b ^= a;
	h->random[0] = (a << 24 | a >> 40) ^ b ^ (b << 16);
	h->random[1] = b << 37 | b >> 27;
	return sum;
}

void hbone_count_bytes(struct hbone *h, int64_t change)
{
	worker_metrics(h->w)->buffers_bytes += (uint64_t)change;
}

void hbone_refuse(struct hbone *h, struct worker_pod *pod, enum drop_reason reason, bool inbound,
		  const struct addr_port *source, const struct addr_port *destination, const char *peer,
		  const char *rule)
{
	struct worker_drop drop = { .pod = pod, .reason = reason, .inbound = inbound, .peer = peer, .rule = rule };
	if (source)
		drop.source = *source;
	if (destination)
		drop.destination = *destination;
	worker_drop(h->w, &drop);
}

/* --- the tick --- */

static bool is_overdue(const struct hbone_stream *s, uint64_t now_ms)
{
	uint64_t now_s = now_ms / 1000;
	if (s->idle_ms && (now_s - s->active_s) * 1000 >= s->idle_ms)
		return true;
	bool late = s->max_ms && (now_s - s->began_s) * 1000 >= s->max_ms;
	if (late)
		connection_log_timed_out(s->log);
	return late;
}

static bool is_past(const struct hbone_stream *s, uint64_t now_ms)
{
	return (uint32_t)now_ms - s->deadline_ms < UINT32_MAX / 2;
}

static void tick_streams(struct hbone *h, uint64_t now_ms)
{
	struct hbone_stream *s, *next;
	for (s = TAILQ_FIRST(&h->streams); s; s = next) {
		next = TAILQ_NEXT(s, all);
		if (s->state == STREAM_OPEN) {
			if (is_overdue(s, now_ms) || (s->closing && is_past(s, now_ms)))
				stream_abort(s, H2_CANCEL);
		} else if (!s->inbound && is_past(s, now_ms)) {
			s->error = -ETIMEDOUT;
			outbound_fail(s, DROP_UPSTREAM_CONNECT);
		} else if (s->inbound && is_past(s, now_ms)) {
			inbound_late(s);
		}
	}
}

static void tick_arm(struct hbone *h)
{
	uint64_t every = h->unsettled ? TICK_BUSY_MS : h->conn_count + h->stream_count ? TICK_MS : 0;
	if (every == h->tick_ms)
		return;
	h->tick_ms = every;
	if (every)
		loop_timer_start(h->tick, every, every);
	else
		loop_timer_stop(h->tick);
}

static void on_tick(struct loop_timer *timer, void *arg)
{
	struct hbone *h = arg;
	(void)timer;
	hbone_enter(h);
	uint64_t now_ms = hbone_now_ms(h);
	struct hbone_conn *c, *next;
	for (c = TAILQ_FIRST(&h->conns); c; c = next) {
		next = TAILQ_NEXT(c, all);
		conn_tick(c, now_ms);
	}
	tick_streams(h, now_ms);
	hbone_leave(h);
}

void hbone_unsettled(struct hbone *h, int change)
{
	h->unsettled += (size_t)change;
}

void hbone_enter(struct hbone *h)
{
	h->depth++;
}

void hbone_leave(struct hbone *h)
{
	if (h->depth == 1) {
		struct hbone_conn *c;
		held_settle(h);
		while ((c = TAILQ_FIRST(&h->dirty))) {
			TAILQ_REMOVE(&h->dirty, c, in_dirty);
			c->dirty = false;
			conn_flush(c);
		}
		tick_arm(h);
	}
	h->depth--;
}

static void on_later(void *arg)
{
	struct hbone *h = arg;
	h->later = false;
	if (h->freed) {
		free(h);
		return;
	}
	hbone_enter(h);
	hbone_leave(h);
}

void hbone_later(struct hbone *h)
{
	h->depth--;
	if (h->depth || h->later)
		return;
	h->later = true;
	loop_defer(h->loop, on_later, h);
}

/* --- life --- */

int hbone_new(struct worker *w, struct hbone **out)
{
	struct hbone *h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;

	h->w = w;
	h->loop = worker_loop(w);
	h->budget.limit = HELD_MAX;
	TAILQ_INIT(&h->conns);
	TAILQ_INIT(&h->dirty);
	TAILQ_INIT(&h->streams);
	h->identities = table_new(identity_free);
	h->pools = table_new(NULL);
	h->rx = malloc(RX_SIZE);
	h->tx = malloc(TX_SIZE);
	bool random = getrandom(h->random, sizeof(h->random), 0) == sizeof(h->random);
	int rc = h->identities && h->pools && h->rx && h->tx ? 0 : -ENOMEM;
	if (rc == 0 && !random)
		rc = -EIO;
	if (rc == 0)
		rc = loop_timer_new(h->loop, on_tick, h, &h->tick);
	if (rc == 0)
		rc = blind_init(h);
	if (rc == 0)
		rc = ahead_init(h);
	if (rc == 0)
		rc = soon_init(h);
	if (rc < 0) {
		hbone_free(h);
		return rc;
	}
	*out = h;
	return 0;
}

void hbone_free(struct hbone *h)
{
	if (!h)
		return;

	h->depth++; /* nothing more is sent */
	h->draining = true;
	struct hbone_stream *s;
	while ((s = TAILQ_FIRST(&h->streams)))
		stream_abort(s, H2_CANCEL);
	struct hbone_conn *c;
	while ((c = TAILQ_FIRST(&h->conns)))
		hbone_conn_close(c);
	loop_timer_free(h->tick);
	loop_timer_free(h->quiet_timer);
	loop_timer_free(h->blind_timer);
	loop_timer_free(h->soon_timer);
	table_free(h->identities);
	table_free(h->pools);
	tls_trust_unref(h->trust);
	free(h->rx);
	free(h->tx);
	h->freed = true;
	if (!h->later)
		free(h);
}

/* --- identities --- */

int hbone_context(struct hbone *h, const char *uri, struct tls_context **out, struct err *err)
{
	struct hbone_identity *id = table_get_str(h->identities, uri);
	if (!id || !h->trust)
		return err_set(err, -ENOENT, "hbone: no certificate for %s yet", uri);
	int rc = id->context ? 0 : tls_context_new(id->credentials, h->trust, &id->context, err);
	if (rc == 0)
		*out = id->context;
	return rc;
}

int hbone_material(struct hbone *h, const char *uri, struct tls_credentials **credentials, struct tls_trust **trust)
{
	struct hbone_identity *id = table_get_str(h->identities, uri);
	if (!id || !h->trust)
		return -ENOENT;
	*credentials = id->credentials;
	*trust = h->trust;
	return 0;
}

/* Pooled connections with the old certificate finish what they carry and take nothing new. */
static void retire(struct hbone *h, const char *uri)
{
	struct hbone_conn *c;
	TAILQ_FOREACH(c, &h->conns, all)
	if (c->pool && (!uri || str_eq(pool_source(c->pool), uri)))
		c->retired = true;
}

void hbone_credentials(struct hbone *h, struct tls_credentials *credentials)
{
	const char *uri = tls_credentials_uri(credentials);
	struct hbone_identity *id = table_get_str(h->identities, uri);
	if (!id) {
		id = calloc(1, sizeof(*id));
		if (!id || table_set_str(h->identities, uri, id) < 0) {
			log_error("hbone: no memory for the certificate of %s", uri);
			free(id);
			tls_credentials_unref(credentials);
			return;
		}
	} else {
		retire(h, uri);
		tls_credentials_unref(id->credentials);
		tls_context_unref(TAKE(id->context));
	}
	id->credentials = credentials;
	worker_metrics(h->w)->rotations++;
}

static bool is_revoked(const struct hbone *h, const struct tls_peer *peer)
{
	for (size_t i = 0; i < peer->serial_count; i++)
		if (tls_trust_revokes(h->trust, peer->serials[i]))
			return true;
	return false;
}

void hbone_trust(struct hbone *h, struct tls_trust *trust)
{
	tls_trust_unref(h->trust);
	h->trust = trust;
	struct table_iter it = { 0 };
	while (table_next(h->identities, &it)) {
		struct hbone_identity *id = it.value;
		tls_context_unref(TAKE(id->context));
	}

	hbone_enter(h);
	struct hbone_conn *c, *next;
	for (c = TAILQ_FIRST(&h->conns); c; c = next) {
		next = TAILQ_NEXT(c, all);
		if (c->state != CONN_OPEN || !is_revoked(h, &c->peer))
			continue;
		worker_metrics(h->w)->policy_cuts += h2_stream_count(c->h2);
		conn_fail(c, DROP_TLS_REVOKED, "the peer's certificate was revoked");
	}
	hbone_leave(h);
}

/* --- changes to pods --- */

void hbone_policy_changed(struct hbone *h, struct worker_pod *pod)
{
	hbone_enter(h);
	struct hbone_stream *s, *next;
	for (s = TAILQ_FIRST(&h->streams); s; s = next) {
		next = TAILQ_NEXT(s, all);
		if (s->pod == pod && s->inbound)
			inbound_judge(s);
	}
	hbone_leave(h);
}

void hbone_pod_removed(struct hbone *h, struct worker_pod *pod)
{
	hbone_enter(h);
	struct hbone_stream *s, *next;
	for (s = TAILQ_FIRST(&h->streams); s; s = next) {
		next = TAILQ_NEXT(s, all);
		if (s->pod == pod)
			stream_abort(s, H2_CANCEL);
	}
	struct hbone_conn *c, *next_conn;
	for (c = TAILQ_FIRST(&h->conns); c; c = next_conn) {
		next_conn = TAILQ_NEXT(c, all);
		if (c->pod == pod)
			conn_shutdown(c);
	}
	hbone_leave(h);
}

void hbone_drain(struct hbone *h)
{
	hbone_enter(h);
	h->draining = true;
	struct hbone_conn *c, *next;
	for (c = TAILQ_FIRST(&h->conns); c; c = next) {
		next = TAILQ_NEXT(c, all);
		if (c->state != CONN_OPEN)
			continue;
		h2_goaway(c->h2, H2_NO_ERROR);
		conn_touch(c);
		conn_unused(c);
	}
	hbone_leave(h);
}

size_t hbone_live(const struct hbone *h)
{
	return h->stream_count + !TAILQ_EMPTY(&h->lazy); /* the end of the last must leave too */
}

/* --- dump --- */

static const char *const stream_states[] = {
	[STREAM_RESOLVING] = "resolving",   [STREAM_QUEUED] = "waiting",    [STREAM_ASKED] = "connecting",
	[STREAM_CONNECTING] = "connecting", [STREAM_SNIFFING] = "sniffing", [STREAM_OPEN] = "open",
	[STREAM_CLOSED] = "closed",
};

static void dump_stream(const struct hbone_stream *s, uint64_t now_s, struct sb *out)
{
	char to[ADDR_PORT_TEXT_MAX], remote[ADDR_PORT_TEXT_MAX] = "";
	if (s->conn)
		addr_port_text(&s->conn->remote, remote);
	const struct identity *peer = s->conn ? s->conn->peer.identity : NULL;
	sb_addf(out,
		"{\"pod\":\"%s\",\"direction\":\"%s\",\"state\":\"%s\",\"destination\":\"%s\",\"tunnel\":\"%s\","
		"\"peer\":\"%s\",\"sent_bytes\":%llu,\"received_bytes\":%llu,\"buffered_bytes\":%u,\"age_s\":%llu}",
		s->pod->uid ? s->pod->uid : "", s->inbound ? "inbound" : "outbound", stream_states[s->state],
		addr_port_text(&s->destination, to), remote, peer ? peer->uri : "", (unsigned long long)s->sent,
		(unsigned long long)s->received, s->to_app.len,
		s->began_s ? (unsigned long long)(now_s - s->began_s) : 0ull);
}

void hbone_dump(struct hbone *h, const char *what, struct sb *out)
{
	if (str_eq(what, "pools")) {
		pool_dump(h, out);
		return;
	}
	const struct hbone_stream *s;
	bool first = true;
	sb_add(out, "[");
	TAILQ_FOREACH(s, &h->streams, all)
	{
		if (!first)
			sb_add(out, ",");
		first = false;
		dump_stream(s, hbone_now_ms(h) / 1000, out);
	}
	sb_add(out, "]");
}
