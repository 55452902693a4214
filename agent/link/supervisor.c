/* SPDX-License-Identifier: Apache-2.0 */
/* The helper's life. One peer is current; others are outgoing: they drain once the current one is ready. The state that
 * a helper needs (settings, trust, pods with their listeners) is kept here, so that a new one gets all of it at once and
 * a crash costs only what the dead one carried: the listeners' queues go on filling meanwhile. */
#include "agent/link/supervisor_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/err.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/table.h"
#include "agent/model/identity.h"
#include "agent/model/plan.h"

enum { REQUESTS_MS = 10000, REQUESTS_AGE_S = 60 };
enum { STEADY_LIFE_S = 10, RESPAWN_FIRST_MS = 100, RESPAWN_MAX_MS = 5000, DEFAULT_POD_CONNECTIONS = 65536 };

/* --- the pid file: what the next agent needs to find the helpers that this one leaves behind --- */

void supervisor_note_pids(struct supervisor *s)
{
	enum { PEERS_NOTED = 2 * PEERS_MAX };
	const struct process *list[PEERS_NOTED + ORPHANS_MAX];
	size_t count = 0;
	for (struct peer *p = s->peers; p && count < PEERS_NOTED; p = p->next)
		list[count++] = &p->process;
	for (size_t i = 0; i < ORPHANS_MAX; i++)
		if (s->orphans[i])
			list[count++] = &s->orphans[i]->process;
	struct err err = ERR_INIT;
	if (process_file_write(s->pid_file, list, count, &err) < 0)
		peer_log(s, LOG_WARN, "%s; an agent that starts after this one will not find its helper", err.text);
}

void supervisor_stop(struct supervisor *s)
{
	for (struct peer *peer = s ? s->peers : NULL; peer; peer = peer->next)
		process_signal(&peer->process, SIGTERM);
}

/* --- lives --- */

static void supervisor_forget_peer(struct supervisor *s, struct peer *peer)
{
	for (struct peer **at = &s->peers; *at; at = &(*at)->next) {
		if (*at != peer)
			continue;
		*at = peer->next;
		break;
	}
	if (s->current == peer)
		s->current = NULL;
}

static int supervisor_start_peer(struct supervisor *s, struct err *err)
{
	struct peer *peer;
	int rc = peer_start(s, &peer, err);
	if (rc < 0)
		return rc;
	peer->next = s->peers;
	s->peers = peer;
	s->current = peer;
	supervisor_note_pids(s);
	return 0;
}

static void supervisor_respawn_later(struct supervisor *s)
{
	uint64_t delay = 0;
	if (s->quick_deaths > 0) {
		unsigned int shift = s->quick_deaths - 1 < 6 ? s->quick_deaths - 1 : 6;
		delay = (uint64_t)RESPAWN_FIRST_MS << shift;
	}
	loop_timer_start(s->respawn, delay < RESPAWN_MAX_MS ? delay : RESPAWN_MAX_MS, 0);
}

static void on_respawn(struct loop_timer *timer, void *arg)
{
	struct supervisor *s = arg;
	struct err err = ERR_INIT;
	(void)timer;
	if (s->current)
		return;
	if (supervisor_start_peer(s, &err) == 0)
		return;
	peer_log(s, LOG_ERROR, "%s; trying again", err.text);
	s->quick_deaths++;
	supervisor_respawn_later(s);
}

static void metrics_fold(const struct peer *peer, struct link_shard *sum, bool gauges)
{
	for (size_t i = 0; i < LINK_SHARDS_MAX; i++) {
		const struct link_shard *shard = &peer->memory->metrics.shards[i];
		enum { counter = 1, gauge = 0 };
#define FOLD(field, kind, suffix, help)                                                                                \
	if (kind == counter || gauges)                                                                                 \
		sum->field += __atomic_load_n(&shard->field, __ATOMIC_RELAXED);
		LINK_METRICS(FOLD)
#undef FOLD
		for (size_t b = 0; b < LINK_HANDSHAKE_BUCKETS; b++)
			sum->handshake_buckets[b] += __atomic_load_n(&shard->handshake_buckets[b], __ATOMIC_RELAXED);
		for (size_t d = 0; d < ARRAY_SIZE(sum->drops); d++)
			sum->drops[d] += __atomic_load_n(&shard->drops[d], __ATOMIC_RELAXED);
	}
}

void supervisor_metrics(const struct supervisor *s, struct link_shard *out)
{
	*out = s->past;
	for (const struct peer *p = s->peers; p; p = p->next)
		metrics_fold(p, out, true);
}

int supervisor_requests(const struct supervisor *s, struct request_totals *t)
{
	int rc = s->past_requests ? request_totals_merge(t, s->past_requests) : 0;
	for (const struct peer *p = s->peers; rc == 0 && p; p = p->next)
		rc = request_totals_add(t, &p->memory->requests);
	return rc;
}

/* When memory is short these counts are lost, as they are when the agent ends. */
static void requests_keep(struct supervisor *s, const struct peer *peer)
{
	if (!s->past_requests && request_totals_new(&s->past_requests) < 0)
		return;
	request_totals_clock(s->past_requests, loop_now_ns(s->loop) / 1000000000);
	request_totals_add(s->past_requests, &peer->memory->requests);
}

/* Labels that were not used for long: their sums are taken over, and forgotten when nobody comes back to them. */
static void on_requests_timer(struct loop_timer *timer, void *arg)
{
	struct supervisor *s = arg;
	uint64_t now_s = loop_now_ns(s->loop) / 1000000000;
	(void)timer;
	if (!s->past_requests && request_totals_new(&s->past_requests) < 0)
		return;
	request_totals_clock(s->past_requests, now_s);
	for (const struct peer *p = s->peers; p; p = p->next)
		request_totals_take(s->past_requests, &p->memory->requests);
	size_t count = request_totals_count(s->past_requests);
	if (!count || (count <= REQUEST_PAST_MAX && now_s - s->requests_aged_s < REQUESTS_AGE_S))
		return;
	s->requests_aged_s = now_s;
	request_totals_age_begin(s->past_requests);
	for (const struct peer *p = s->peers; p; p = p->next)
		request_totals_in_use(s->past_requests, &p->memory->requests);
	request_totals_age_end(s->past_requests);
}

void supervisor_peer_ready(struct peer *peer)
{
	struct supervisor *s = peer->s;
	peer->ready = true;
	loop_timer_stop(peer->timer);
	if (peer != s->current)
		return;
	for (struct peer *p = s->peers; p; p = p->next)
		if (p->outgoing)
			peer_drain(p);
	if (s->events.on_ready)
		s->events.on_ready(s->events.arg);
}

void supervisor_peer_ended(struct peer *peer, const char *how)
{
	struct supervisor *s = peer->s;
	bool was_current = peer == s->current;
	uint64_t lived_ns = loop_now_ns(s->loop) - peer->started_ns;
	char why[256];
	snprintf(why, sizeof(why), "weft-helper (pid %d) %s", (int)peer->process.pid, how);
	metrics_fold(peer, &s->past, false);
	requests_keep(s, peer);
	supervisor_dump_peer_ended(s, peer->serial);
	supervisor_forget_peer(s, peer);
	rejoin_unlink(s, peer->process.pid);
	bool drained = peer->draining;
	peer_free(peer);
	supervisor_note_pids(s);
	if (!was_current) {
		peer_log(s, LOG_INFO, "%s%s", why, drained ? " after draining" : "");
		return;
	}

	s->restarts++;
	if (lived_ns > STEADY_LIFE_S * 1000000000ull)
		s->quick_deaths = 0;
	if (s->quick_deaths == 0) {
		/* At once, not through the timer: connections wait in the listeners' queues. */
		struct err err = ERR_INIT;
		if (supervisor_start_peer(s, &err) < 0) {
			peer_log(s, LOG_ERROR, "%s; trying again", err.text);
			s->quick_deaths++;
			supervisor_respawn_later(s);
		}
	} else {
		supervisor_respawn_later(s);
	}
	s->quick_deaths++;
	if (s->events.on_died)
		s->events.on_died(why, s->events.arg);
}

/* --- settings --- */

static Weft__Link__Hello *hello_make(const struct supervisor *s, const struct mesh_settings *mesh)
{
	Weft__Link__Hello *h = malloc(sizeof(*h));
	if (!h)
		return NULL;
	weft__link__hello__init(h);
	h->version = LINK_VERSION;
	h->threads = mesh->helper_threads;
	h->max_connections_per_pod =
		mesh->max_connections_per_pod ? mesh->max_connections_per_pod : DEFAULT_POD_CONNECTIONS;
	h->log_level = LOG_INFO; /* the real one follows: it may change without a new helper */
	h->rsa_keys = mesh->rsa_keys;
	h->connect_timeout_ms = mesh->connect_timeout_ms;
	h->cert_grace_percent = mesh->cert_grace_percent;
	h->cluster_dns_ttl_s = mesh->dns_ttl_s;
	h->trust_domain = strdup(mesh->trust_domain);
	h->cluster_domain = strdup(mesh->cluster_domain);
	h->node = strdup(s->node);
	h->trust_domain_aliases = calloc(mesh->trust_domain_alias_count + 1, sizeof(char *));
	bool ok = h->trust_domain && h->cluster_domain && h->node && h->trust_domain_aliases;
	for (size_t i = 0; ok && i < mesh->trust_domain_alias_count; i++) {
		char *alias = strdup(mesh->trust_domain_aliases[i]);
		ok = alias != NULL;
		if (ok)
			h->trust_domain_aliases[h->n_trust_domain_aliases++] = alias;
	}
	if (ok)
		return h;
	weft__link__hello__free_unpacked(h, NULL);
	return NULL;
}

static bool hello_equal(const Weft__Link__Hello *a, const Weft__Link__Hello *b)
{
	size_t len = weft__link__hello__get_packed_size(a);
	if (len != weft__link__hello__get_packed_size(b))
		return false;
	AUTO(mem_freep) uint8_t *both = malloc(2 * len + 1);
	if (!both)
		return false;
	weft__link__hello__pack(a, both);
	weft__link__hello__pack(b, both + len);
	return memcmp(both, both + len, len) == 0;
}

static uint32_t draining_max(const struct mesh_settings *mesh)
{
	uint32_t most = mesh->helpers_draining ? mesh->helpers_draining : 4;
	return most < PEERS_MAX ? most : PEERS_MAX - 1;
}

int supervisor_settings(struct supervisor *s, const struct mesh_settings *mesh, struct err *err)
{
	Weft__Link__Hello *hello = hello_make(s, mesh);
	if (!hello)
		return err_set(err, -ENOMEM, "helper: out of memory");
	bool drain_same = s->drain_ms == mesh->helper_drain_ms;
	s->drain_ms = mesh->helper_drain_ms;
	s->draining_max = draining_max(mesh);
	for (struct peer *p = s->peers; p && !drain_same; p = p->next)
		rejoin_tell(p, false);
	supervisor_bound_peers(s);
	bool same = hello_equal(hello, s->hello);
	weft__link__hello__free_unpacked(same ? hello : s->hello, NULL);
	if (same)
		return 0;
	s->hello = hello;
	return supervisor_replace(s, err);
}

void supervisor_bound_peers(struct supervisor *s)
{
	for (;;) {
		struct peer *oldest = NULL;
		size_t count = 0;
		for (struct peer *p = s->peers; p; p = p->next) {
			if (!p->outgoing || p->condemned)
				continue;
			count++;
			if (!oldest || p->process.start_ticks < oldest->process.start_ticks)
				oldest = p;
		}
		if (count <= s->draining_max)
			return;
		peer_condemn(oldest, "more helpers are draining at once than weft.helper.draining says");
	}
}

int supervisor_replace(struct supervisor *s, struct err *err)
{
	struct peer *old = s->current;
	int rc = supervisor_start_peer(s, err);
	if (rc < 0)
		return rc;
	if (old)
		old->outgoing = true;
	supervisor_bound_peers(s);
	return 0;
}

void supervisor_log_level(struct supervisor *s, enum log_level level)
{
	s->log_level = level;
	Weft__Link__SetLogLevel m = WEFT__LINK__SET_LOG_LEVEL__INIT;
	m.level = level;
	for (struct peer *p = s->peers; p; p = p->next)
		peer_send(p, WEFT__LINK__TO_HELPER__MSG_LOG_LEVEL, &m, NULL, 0);
}

/* --- begin and end --- */

static void supervised_pod_free(void *value)
{
	struct supervised_pod *pod = value;
	for (size_t i = 0; i < POD_LISTENERS; i++)
		fd_closep(&pod->fds[i]);
	workload_unref(pod->workload);
	free(pod);
}

int supervisor_new(const struct supervisor_options *options, const struct mesh_settings *mesh,
		   const struct supervisor_events *events, struct supervisor **out, struct err *err)
{
	if (options->uid == 0)
		return err_set(err, -EINVAL, "helper: it must not run as root; give it a user of its own");
	struct supervisor *s = calloc(1, sizeof(*s));
	if (!s)
		return err_set(err, -ENOMEM, "helper: out of memory");
	s->loop = options->loop;
	s->carried_rate = RATE(4000, 4000);
	s->uid = options->uid;
	s->gid = options->gid;
	s->events = *events;
	s->log_level = LOG_INFO;
	for (size_t i = 0; i < LOG_SINKS_MAX; i++)
		s->sinks[i].fd = -1;
	s->helper_path = strdup(options->helper_path);
	s->node = strdup(options->node);
	s->run_dir = strdup(options->run_dir);
	s->drain_ms = mesh->helper_drain_ms;
	s->draining_max = draining_max(mesh);
	s->pid_file = str_format("%s/helper.pid", options->run_dir);
	s->pods = table_new(supervised_pod_free);
	s->identities = table_new(free);
	if (s->node)
		s->hello = hello_make(s, mesh);
	int rc = -ENOMEM;
	if (s->helper_path && s->run_dir && s->pid_file && s->pods && s->identities && s->hello)
		rc = loop_timer_new(s->loop, on_respawn, s, &s->respawn);
	if (rc == 0)
		rc = loop_timer_new(s->loop, on_requests_timer, s, &s->requests_timer);
	if (rc < 0) {
		err_sys(err, rc, "helper: prepare to start it");
	} else {
		supervisor_find_orphans(s);
		loop_timer_start(s->requests_timer, REQUESTS_MS, REQUESTS_MS);
		rc = supervisor_start_peer(s, err);
	}
	if (rc < 0) {
		supervisor_free(s);
		return rc;
	}
	*out = s;
	return 0;
}

void supervisor_free(struct supervisor *s)
{
	if (!s)
		return;
	supervisor_dump_peer_ended(s, 0);
	while (s->peers) {
		struct peer *peer = s->peers;
		s->peers = peer->next;
		peer_free(peer);
	}
	supervisor_orphans_free(s);
	loop_timer_free(s->respawn);
	loop_timer_free(s->requests_timer);
	table_free(s->pods);
	table_free(s->identities);
	request_totals_free(s->past_requests);
	supervisor_observe_free(s);
	if (s->hello)
		weft__link__hello__free_unpacked(s->hello, NULL);
	if (s->trust)
		weft__link__trust__free_unpacked(s->trust, NULL);
	free(s->helper_path);
	free(s->pid_file);
	free(s->run_dir);
	free(s->node);
	free(s);
}

void supervisor_status(const struct supervisor *s, struct supervisor_status *out)
{
	*out = (struct supervisor_status){ .restarts = s->restarts,
					   .protocol_errors = s->protocol_errors,
					   .rate_limited = s->rate_limited,
					   .pods = table_count(s->pods) };
	if (s->current) {
		out->pid = s->current->process.pid;
		out->ready = s->current->ready;
		out->started_ns = s->current->started_ns;
		out->endpoints = table_count(s->current->endpoints);
		out->targets = table_count(s->current->targets);
		out->clusters = table_count(s->current->clusters);
	}
	for (const struct peer *p = s->peers; p; p = p->next)
		out->draining += p->outgoing;
	for (size_t i = 0; i < ORPHANS_MAX; i++)
		out->orphans += s->orphans[i] != NULL;
}
