/* SPDX-License-Identifier: Apache-2.0 */
/* Connections to other nodes, shared by the streams that may share one: same source pod (and so identity and address),
 * same tunnel address, same expected identities. Streams that come while the first connection is being made wait for
 * it, so a burst makes one handshake; each connection carries at most a hundred. */
#include "agent/helper/hbone_internal.h"

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/table.h"
#include "agent/model/identity.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 256, BAGGAGE_MAX = 512 };

struct hbone_pool {
	struct hbone *h;
	char *key;
	size_t key_len;
	char *source; /* our identity */
	char *baggage, *forwarded;
	struct worker_pod *pod;
	struct addr_port tunnel;
	struct tls_expect expect;
	uint32_t keepalive_time_s, keepalive_interval_s, keepalive_probes;
	uint32_t streams, streams_max;
	struct hbone_conns conns;
	size_t conn_count, connecting;
	struct hbone_streams waiting;
	size_t waiting_count;
	bool pumping;
};

const struct tls_expect *pool_expect(const struct hbone_pool *p)
{
	return &p->expect;
}

const struct addr_port *pool_tunnel(const struct hbone_pool *p)
{
	return &p->tunnel;
}

const char *pool_source(const struct hbone_pool *p)
{
	return p->source;
}

static void pool_free(struct hbone_pool *p)
{
	for (size_t i = 0; i < p->expect.uri_count; i++)
		free((char *)(uintptr_t)p->expect.uris[i]);
	free((void *)(uintptr_t)p->expect.uris);
	if (p->pod)
		worker_pod_unref(p->h->w, p->pod);
	free(p->key);
	free(p->source);
	free(p->baggage);
	free(p->forwarded);
	free(p);
}

static void pool_release(struct hbone_pool *p)
{
	if (p->conn_count || p->waiting_count || p->streams || p->pumping)
		return;
	table_remove(p->h->pools, p->key, p->key_len);
	pool_free(p);
}

static char *pool_key(const struct worker_pod *pod, const struct endpoint_info *info, size_t *len)
{
	struct sb sb = { 0 };
	sb_add_bytes(&sb, &pod->cookie, sizeof(pod->cookie));
	sb_add_bytes(&sb, &info->tunnel.addr, sizeof(info->tunnel.addr));
	sb_add_bytes(&sb, &info->tunnel.port, sizeof(info->tunnel.port));
	sb_add_bytes(&sb, pod->identity->uri, strlen(pod->identity->uri) + 1);
	for (size_t i = 0; i < info->identity_count; i++)
		sb_add_bytes(&sb, info->identities[i], strlen(info->identities[i]) + 1);
	*len = sb.len;
	return sb_take(&sb);
}

/* Who calls, in Istio's words; for the peer's telemetry, never for its decisions. */
static char *pool_baggage(const struct worker_pod *pod)
{
	const char *name = pod->name ? pod->name : "";
	bool named = pod->canonical_name && *pod->canonical_name;
	bool versioned = pod->canonical_revision && *pod->canonical_revision;
	return str_format("k8s.cluster.name=Kubernetes,k8s.namespace.name=%s,k8s.pod.name=%s,service.name=%s,"
			  "service.version=%s",
			  pod->ns ? pod->ns : "", name, named ? pod->canonical_name : name,
			  versioned ? pod->canonical_revision : "latest");
}

/* The caller's address (RFC 7239). Its port is not known here: the captured socket's peer is the original destination. */
static char *pool_forwarded(const struct worker_pod *pod)
{
	char text[ADDR_TEXT_MAX];
	struct addr none = { 0 };
	const struct addr *a = pod->addr_count ? &pod->addrs[0] : &none;
	addr_text(a, text);
	return addr_is_v4(a) ? str_format("for=%s", text) : str_format("for=\"[%s]\"", text);
}

static int pool_new(struct hbone *h, struct worker_pod *pod, const struct endpoint_info *info, struct hbone_pool **out)
{
	struct hbone_pool *p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;

	p->h = h;
	p->pod = worker_pod_ref(pod);
	p->tunnel = info->tunnel;
	p->keepalive_time_s = info->keepalive_time_s;
	p->keepalive_interval_s = info->keepalive_interval_s;
	p->keepalive_probes = info->keepalive_probes;
	TAILQ_INIT(&p->conns);
	TAILQ_INIT(&p->waiting);
	p->source = strdup(pod->identity->uri);
	p->baggage = pool_baggage(pod);
	p->forwarded = pool_forwarded(pod);
	p->key = pool_key(pod, info, &p->key_len);
	char **uris = calloc(info->identity_count, sizeof(*uris));
	p->expect.uris = (const char *const *)uris;
	bool ok = p->source && p->baggage && p->forwarded && p->key && uris;
	for (size_t i = 0; ok && i < info->identity_count; i++) {
		uris[i] = strdup(info->identities[i]);
		p->expect.uri_count = i + 1;
		ok = uris[i] != NULL;
	}
	if (!ok || table_set(h->pools, p->key, p->key_len, p) < 0) {
		pool_free(p);
		return -ENOMEM;
	}
	*out = p;
	return 0;
}

static int pool_get(struct hbone *h, struct worker_pod *pod, const struct endpoint_info *info, struct hbone_pool **out)
{
	size_t len;
	char *key = pool_key(pod, info, &len);
	if (!key)
		return -ENOMEM;
	struct hbone_pool *p = table_get(h->pools, key, len);
	free(key);
	if (p) {
		*out = p;
		return 0;
	}
	return pool_new(h, pod, info, out);
}

/* --- connections of the pool --- */

static void set_keepalive(const struct hbone_pool *p, int fd)
{
	if (!p->keepalive_time_s && !p->keepalive_interval_s && !p->keepalive_probes)
		return;
	int one = 1, time_s = (int)p->keepalive_time_s, interval_s = (int)p->keepalive_interval_s,
	    probes = (int)p->keepalive_probes;
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	if (time_s)
		setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &time_s, sizeof(time_s));
	if (interval_s)
		setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
	if (probes)
		setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
}

static void on_socket(int fd, void *arg)
{
	struct hbone_conn *c = arg;
	struct hbone *h = c->h;
	c->wait = NULL;
	hbone_enter(h);
	if (fd < 0) {
		conn_fail(c, DROP_NO_SOCKET, "no socket in the pod's network namespace");
	} else {
		set_keepalive(c->pool, fd);
		int rc = conn_connect(c, fd, &c->pool->tunnel);
		if (rc < 0)
			conn_fail(c, DROP_UPSTREAM_CONNECT, strerror(-rc));
	}
	hbone_leave(h);
}

static int pool_connect(struct hbone_pool *p)
{
	struct hbone_conn *c;
	int rc = hbone_conn_new(p->h, p->pod, false, &c);
	if (rc < 0)
		return rc;

	c->pool = p;
	c->remote = p->tunnel;
	TAILQ_INSERT_TAIL(&p->conns, c, in_pool);
	p->conn_count++;
	p->connecting++;
	worker_metrics(p->h->w)->pool_misses++;
	struct worker_wait *wait = worker_socket_take(p->h->w, p->pod, POD_CONNECT_REMOTE, on_socket, c);
	if (wait)
		c->wait = wait;
	return 0;
}

/* --- streams --- */

static void waiting_add(struct hbone_pool *p, struct hbone_stream *s)
{
	s->state = STREAM_QUEUED;
	TAILQ_INSERT_TAIL(&p->waiting, s, queue);
	p->waiting_count++;
}

static void waiting_remove(struct hbone_pool *p, struct hbone_stream *s)
{
	TAILQ_REMOVE(&p->waiting, s, queue);
	p->waiting_count--;
}

/* What is sent ahead of the answer is lost with the connection, and can't be sent again: it may have arrived. */
static bool is_alive(const struct hbone_conn *c)
{
	return c->settings_seen && !c->ping_sent && hbone_now_ms(c->h) - c->received_ms < EARLY_ALIVE_MS;
}

static int stream_ask(struct hbone_pool *p, struct hbone_stream *s, struct hbone_conn *c)
{
	char authority[ADDR_PORT_TEXT_MAX], traceparent[56];
	addr_port_text(&s->destination, authority);
	snprintf(traceparent, sizeof(traceparent), "00-%016llx%016llx-%016llx-00",
		 (unsigned long long)hbone_random(p->h), (unsigned long long)hbone_random(p->h) | 1,
		 (unsigned long long)hbone_random(p->h) | 1);
	struct h2_connect request = {
		.authority = authority,
		.baggage = p->baggage,
		.forwarded = p->forwarded,
		.traceparent = traceparent,
	};
	s->h2 = (struct h2_stream){ 0 };
	int rc = h2_open(c->h2, &s->h2, &request);
	if (rc < 0)
		return rc;
	s->conn = c;
	s->state = STREAM_ASKED;
	c->unused_ms = 0;
	conn_touch(c);
	if (s->early_len || is_alive(c))
		relay_early(s);
	return 0;
}

static struct hbone_conn *pool_find(struct hbone_pool *p)
{
	struct hbone_conn *c;
	TAILQ_FOREACH(c, &p->conns, in_pool)
	if (c->state == CONN_OPEN && !c->retired && h2_can_open(c->h2))
		return c;
	return NULL;
}

/* Makes as many connections as those that wait need. */
static void pool_grow(struct hbone_pool *p)
{
	while (p->connecting * H2_STREAMS_MAX < p->waiting_count && p->conn_count < CONNECTIONS_MAX)
		if (pool_connect(p) < 0) {
			struct hbone_stream *s = TAILQ_FIRST(&p->waiting);
			outbound_fail(s, DROP_NO_MEMORY);
		}
}

void pool_pump(struct hbone_pool *p)
{
	if (p->pumping)
		return;
	p->pumping = true;
	struct hbone_stream *s;
	struct hbone_conn *c;
	while ((s = TAILQ_FIRST(&p->waiting)) && (c = pool_find(p))) {
		waiting_remove(p, s);
		if (stream_ask(p, s, c) < 0) {
			s->state = STREAM_RESOLVING;
			outbound_fail(s, DROP_NO_MEMORY);
		}
	}
	pool_grow(p);
	p->pumping = false;
	pool_release(p);
}

int pool_join(struct hbone_stream *s, const struct endpoint_info *info)
{
	struct hbone *h = s->h;
	struct tls_context *context;
	int rc = hbone_context(h, s->pod->identity->uri, &context, NULL);
	if (rc < 0)
		return rc;
	struct hbone_pool *p;
	rc = pool_get(h, s->pod, info, &p);
	if (rc < 0)
		return rc;

	/* The limit is the destination's; each worker has its share. */
	uint32_t threads = worker_settings(h->w)->threads ? worker_settings(h->w)->threads : 1;
	p->streams_max = info->max_connections ? (info->max_connections + threads - 1) / threads : UINT32_MAX;
	if (p->streams >= p->streams_max)
		return -EUSERS;
	p->streams++;
	s->pool = p;
	if (pool_find(p))
		worker_metrics(h->w)->pool_hits++;
	waiting_add(p, s);
	pool_pump(p);
	return 0;
}

void pool_leave(struct hbone_stream *s)
{
	struct hbone_pool *p = s->pool;
	if (!p)
		return;
	if (s->state == STREAM_QUEUED)
		waiting_remove(p, s);
	s->pool = NULL;
	p->streams--;
	pool_release(p);
}

bool pool_retry(struct hbone_stream *s)
{
	struct hbone_pool *p = s->pool;
	if (s->retried || s->h->draining || !p)
		return false;
	s->retried = true;
	struct hbone_conn *c = TAKE(s->conn);
	if (s->blocked)
		TAILQ_REMOVE(&c->blocked, s, queue);
	s->blocked = false;
	relay_unearly(s);
	waiting_add(p, s);
	if (c)
		conn_unused(c);
	pool_pump(p);
	return true;
}

void pool_conn_open(struct hbone_conn *c)
{
	c->pool->connecting--;
	pool_pump(c->pool);
}

void pool_conn_gone(struct hbone_conn *c, enum drop_reason reason)
{
	struct hbone_pool *p = c->pool;
	c->pool = NULL;
	TAILQ_REMOVE(&p->conns, c, in_pool);
	p->conn_count--;
	if (reason == DROP_NONE) {
		pool_pump(p);
		return;
	}
	p->connecting--;
	/* Those that would have come over this connection; others wait for the connections still in the making. */
	bool nested = p->pumping;
	p->pumping = true;
	while (p->waiting_count > p->connecting * H2_STREAMS_MAX)
		outbound_fail(TAILQ_FIRST(&p->waiting), reason);
	p->pumping = nested;
	pool_release(p);
}

void pool_dump(struct hbone *h, struct sb *out)
{
	struct table_iter it = { 0 };
	bool first = true;
	sb_add(out, "[");
	while (table_next(h->pools, &it)) {
		const struct hbone_pool *p = it.value;
		char to[ADDR_PORT_TEXT_MAX];
		sb_addf(out,
			"%s{\"pod\":\"%s\",\"source\":\"%s\",\"tunnel\":\"%s\",\"destination\":\"%s\","
			"\"connections\":%zu,\"connecting\":%zu,\"streams\":%u,\"waiting\":%zu}",
			first ? "" : ",", p->pod->uid ? p->pod->uid : "", p->source, addr_port_text(&p->tunnel, to),
			p->expect.uris[0], p->conn_count, p->connecting, p->streams, p->waiting_count);
		first = false;
	}
	sb_add(out, "]");
}
