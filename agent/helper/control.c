/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's messages. The agent is trusted with everything, but a message that makes no sense is a bug or a version
 * that does not fit: the helper ends rather than enforce half of a configuration. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/err.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/table.h"
#include "agent/helper/helper_internal.h"
#include "agent/helper/observe/log_writer.h"
#include "agent/helper/tls_credentials.h"
#include "agent/link/channel.h"
#include "agent/link/request_metrics.h"
#include "agent/model/identity.h"
#include "agent/model/workload.h"

enum { THREADS_DEFAULT_MAX = 4 };

void control_fail(struct helper *h, const char *what)
{
	log_error("the agent sent %s: ending (do the versions of weftd and weft-helper match?)", what);
	h->status = 2;
	loop_stop(h->loop);
}

/* --- hello --- */

static uint32_t threads_default(void)
{
	cpu_set_t cpus;
	int count = sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? CPU_COUNT(&cpus) : 1;
	return count < THREADS_DEFAULT_MAX ? (uint32_t)count : THREADS_DEFAULT_MAX;
}

static int settings_fill(struct helper_settings *s, const Weft__Link__Hello *m)
{
	/* One shard is the link thread's. */
	s->threads = m->threads ? m->threads : threads_default();
	if (s->threads > LINK_SHARDS_MAX - 1)
		s->threads = LINK_SHARDS_MAX - 1;
	s->max_connections_per_pod = m->max_connections_per_pod;
	s->connect_timeout_ms = m->connect_timeout_ms;
	s->rsa_keys = m->rsa_keys;
	s->trust_domain = strdup(m->trust_domain);
	s->node = strdup(m->node);
	s->trust_domain_aliases = calloc(m->n_trust_domain_aliases + 1, sizeof(char *));
	if (!s->trust_domain || !s->node || !s->trust_domain_aliases)
		return -ENOMEM;
	for (size_t i = 0; i < m->n_trust_domain_aliases; i++) {
		char *alias = strdup(m->trust_domain_aliases[i]);
		if (!alias)
			return -ENOMEM;
		s->trust_domain_aliases[s->trust_domain_alias_count++] = alias;
	}
	return 0;
}

static struct link_memory *memory_map(int fd)
{
	struct stat st;
	if (fstat(fd, &st) < 0 || st.st_size < (off_t)sizeof(struct link_memory))
		return NULL;
	struct link_memory *m = mmap(NULL, sizeof(*m), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (m == MAP_FAILED)
		return NULL;
	const struct link_metrics *metrics = &m->metrics;
	const struct request_metrics *requests = &m->requests;
	if (metrics->magic == LINK_METRICS_MAGIC && metrics->version == LINK_VERSION &&
	    metrics->shard_count == LINK_SHARDS_MAX && requests->magic == REQUEST_METRICS_MAGIC &&
	    requests->version == LINK_VERSION && requests->shard_count == LINK_SHARDS_MAX &&
	    requests->series_max == REQUEST_SERIES_MAX)
		return m;
	munmap(m, sizeof(*m));
	return NULL;
}

static void on_hello(struct helper *h, const Weft__Link__Hello *m, const int *fds, size_t fd_count)
{
	if (h->worker_count || m->version != LINK_VERSION || fd_count != 1) {
		control_fail(h, "a greeting of another version");
		return;
	}
	h->memory = memory_map(fds[0]);
	if (!h->memory) {
		control_fail(h, "a metrics memory of another layout");
		return;
	}
	h->metrics = &h->memory->metrics;
	rejoin_memory(h->rejoin, fds[0]);
	log_set_level(m->log_level <= LOG_DEBUG ? (enum log_level)m->log_level : LOG_INFO);
	h->cert_grace_percent = m->cert_grace_percent;
	struct err err = ERR_INIT;
	if (settings_fill(&h->settings, m) < 0 || log_writer_new(&h->settings.log_writer) < 0 ||
	    helper_workers_start(h, &err) < 0) {
		log_error("start: %s", err.code ? err.text : "out of memory");
		h->status = 1;
		loop_stop(h->loop);
		return;
	}
	Weft__Link__Ready ready = WEFT__LINK__READY__INIT;
	ready.version = LINK_VERSION;
	helper_send(h, WEFT__LINK__TO_AGENT__MSG_READY, &ready);
}

/* --- pods --- */

/* Each worker gets duplicates of the listeners; names are one worker's, the same for all of a pod's DNS sockets. */
static struct order *pod_order(const struct helper *h, unsigned int worker, struct pod_spec *spec,
			       const Weft__Link__PodSet *m, const int *fds)
{
	struct order *order = order_new(ORDER_POD, m->n_kinds ? POD_LISTENERS : 0);
	if (!order)
		return NULL;
	order->spec = pod_spec_ref(spec);
	bool names = spec->cookie % h->worker_count == worker;
	for (size_t i = 0; i < m->n_kinds; i++) {
		uint32_t kind = m->kinds[i];
		if ((kind == POD_DNS_UDP || kind == POD_DNS_TCP) && !names)
			continue;
		fd_closep(&order->fds[kind]);
		order->fds[kind] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
		if (order->fds[kind] < 0)
			log_error("pod %s: a listener can't be shared with worker %u: out of descriptors", spec->uid,
				  worker);
	}
	return order;
}

static void on_pod_set(struct helper *h, const Weft__Link__PodSet *m, const int *fds, size_t fd_count)
{
	if (m->only_known && !table_get(h->pods, &m->cookie, sizeof(m->cookie)))
		return;
	bool listeners_fit = m->n_kinds == fd_count;
	for (size_t i = 0; listeners_fit && i < m->n_kinds; i++)
		listeners_fit = m->kinds[i] < POD_LISTENERS;
	struct pod_spec *spec = NULL;
	int rc = listeners_fit ? control_pod_spec(m, &spec) : -EINVAL;
	if (rc < 0) {
		control_fail(h, rc == -ENOMEM ? "a pod that memory does not suffice for" : "a pod that makes no sense");
		return;
	}
	leaving_cancel(h->leaving, m->cookie);
	identities_use(h->identities, spec->identity->uri);
	struct pod_spec *old = table_get(h->pods, &m->cookie, sizeof(m->cookie));
	if (old)
		identities_release(h->identities, old->identity->uri);
	if (table_set(h->pods, &m->cookie, sizeof(m->cookie), spec) < 0) {
		pod_spec_unref(spec);
		control_fail(h, "a pod that memory does not suffice for");
		return;
	}
	for (unsigned int i = 0; i < h->worker_count; i++)
		worker_order(h->workers[i], pod_order(h, i, spec, m, fds));
}

void control_pod_end(struct helper *h, uint64_t cookie)
{
	struct pod_spec *spec = table_get(h->pods, &cookie, sizeof(cookie));
	if (!spec)
		return;
	identities_release(h->identities, spec->identity->uri);
	table_remove(h->pods, &cookie, sizeof(cookie));
	for (unsigned int i = 0; i < h->worker_count; i++) {
		struct order *order = order_new(ORDER_POD_REMOVE, 0);
		if (order)
			order->cookie = cookie;
		worker_order(h->workers[i], order);
	}
}

static void on_pod_remove(struct helper *h, const Weft__Link__PodRemove *m)
{
	if (m->gently && table_get(h->pods, &m->cookie, sizeof(m->cookie))) {
		leaving_begin(h->leaving, m->cookie);
		return;
	}
	leaving_cancel(h->leaving, m->cookie);
	control_pod_end(h, m->cookie);
}

static void on_sockets(struct helper *h, const Weft__Link__Sockets *m, int *fds, size_t fd_count)
{
	if (m->tag >= h->worker_count || m->kind >= POD_SOCKET_COUNT) {
		control_fail(h, "sockets for nobody");
		return;
	}
	if (!fd_count)
		log_debug("no outbound socket: %s", m->error);
	struct order *order = order_new(ORDER_SOCKETS, fd_count);
	if (!order)
		return; /* asked for again after a while */
	order->cookie = m->cookie;
	order->socket = (enum pod_socket)m->kind;
	for (size_t i = 0; i < fd_count; i++) {
		order->fds[i] = fds[i];
		fds[i] = -1;
	}
	worker_order(h->workers[m->tag], order);
}

/* --- endpoints, names --- */

static int endpoint_strings(struct endpoint_info *info, const Weft__Link__EndpointInfo *m)
{
	info->workload = strdup(m->workload);
	info->service = strdup(m->service);
	info->identities = calloc(m->n_identities + 1, sizeof(char *));
	if (!info->workload || !info->service || !info->identities)
		return -ENOMEM;
	for (size_t i = 0; i < m->n_identities; i++) {
		char *uri = strdup(m->identities[i]);
		if (!uri)
			return -ENOMEM;
		info->identities[info->identity_count++] = uri;
	}
	return 0;
}

static void on_endpoint(struct helper *h, const Weft__Link__EndpointInfo *m)
{
	struct endpoint_shared *e = calloc(1, sizeof(*e));
	if (!e)
		return; /* the question times out */
	e->refs = 1;
	struct endpoint_info *info = &e->info;
	if (message_addr_port_get(m->endpoint, &info->endpoint) < 0 || m->tunnel > TUNNEL_HBONE ||
	    (m->tunnel == TUNNEL_HBONE && message_addr_port_get(m->tunnel_addr, &info->tunnel) < 0)) {
		endpoint_shared_unref(e);
		control_fail(h, "an endpoint that makes no sense");
		return;
	}
	info->known = m->known;
	info->hbone = m->tunnel == TUNNEL_HBONE;
	info->connect_timeout_ms = m->connect_timeout_ms;
	info->max_connections = m->max_connections;
	info->keepalive_time_s = m->keepalive_time_s;
	info->keepalive_interval_s = m->keepalive_interval_s;
	info->keepalive_probes = m->keepalive_probes;
	info->idle_timeout_ms = m->idle_timeout_ms;
	info->max_connection_duration_ms = m->max_connection_duration_ms;
	if (endpoint_strings(info, m) < 0)
		endpoint_shared_unref(e);
	else
		endpoint_hub_info(h->endpoints, e);
}

static struct dns_answer *answer_make(const Weft__Link__DnsAnswer *m)
{
	struct dns_answer *a = calloc(1, sizeof(*a));
	if (!a)
		return NULL;
	a->known = m->known;
	a->ttl_s = m->ttl_s;
	a->name = strdup(m->name);
	a->addrs = calloc(m->n_addrs + 1, sizeof(*a->addrs));
	if (!a->name || !a->addrs) {
		dns_answer_free(a);
		return NULL;
	}
	for (size_t i = 0; i < m->n_addrs; i++)
		if (m->addrs[i].len == 16)
			memcpy(a->addrs[a->addr_count++].b, m->addrs[i].data, 16);
	return a;
}

static void on_dns(struct helper *h, const Weft__Link__DnsAnswer *m)
{
	struct dns_answer *answer = answer_make(m);
	struct order *order = answer ? order_new(ORDER_DNS, 0) : NULL;
	if (!order) {
		dns_answer_free(answer);
		return; /* the query times out */
	}
	order->cookie = m->cookie;
	order->answer = answer;
	worker_order(h->workers[m->cookie % h->worker_count], order);
}

static struct order *flush_order(void *arg)
{
	(void)arg;
	return order_new(ORDER_DNS_FLUSH, 0);
}

/* --- trust, the rest --- */

static struct order *trust_order(void *arg)
{
	struct order *order = order_new(ORDER_TRUST, 0);
	if (order)
		order->trust = tls_trust_ref(arg);
	return order;
}

static void on_trust(struct helper *h, const Weft__Link__Trust *m)
{
	struct tls_trust *trust;
	struct err err = ERR_INIT;
	struct sb roots = { 0 };
	for (size_t i = 0; i < m->n_roots_pem; i++)
		sb_addf(&roots, "%s\n", m->roots_pem[i]);
	AUTO(mem_freep) char *roots_pem = sb_take(&roots);
	int rc = roots_pem ? tls_trust_new(roots_pem, (const char *const *)m->revoked_serials, m->n_revoked_serials,
					   &trust, &err) :
			     err_set(&err, -ENOMEM, "out of memory");
	if (rc < 0) {
		log_error("trusted roots: %s; the ones before stay in force", err.text);
		return;
	}
	tls_trust_unref(h->trust);
	h->trust = trust;
	helper_order_all(h, trust_order, trust);
}

static void on_rejoin(struct helper *h, const Weft__Link__Rejoin *m, int *fds, size_t fd_count)
{
	h->drain_timeout_ms = m->drain_timeout_ms;
	if (fd_count != 1)
		return;
	rejoin_listener(h->rejoin, fds[0]);
	fds[0] = -1;
}

static void control_dispatch(struct helper *h, const Weft__Link__ToHelper *m, int *fds, size_t fd_count)
{
	if (m->msg_case == WEFT__LINK__TO_HELPER__MSG_HELLO) {
		on_hello(h, m->hello, fds, fd_count);
		return;
	}
	if (!h->worker_count) {
		control_fail(h, "something else before its greeting");
		return;
	}
	switch (m->msg_case) {
	case WEFT__LINK__TO_HELPER__MSG_POD_SET:
		return on_pod_set(h, m->pod_set, fds, fd_count);
	case WEFT__LINK__TO_HELPER__MSG_POD_REMOVE:
		return on_pod_remove(h, m->pod_remove);
	case WEFT__LINK__TO_HELPER__MSG_SOCKETS:
		return on_sockets(h, m->sockets, fds, fd_count);
	case WEFT__LINK__TO_HELPER__MSG_ENDPOINT:
		return on_endpoint(h, m->endpoint);
	case WEFT__LINK__TO_HELPER__MSG_CERTIFICATE:
		return identities_certificate(h->identities, m->certificate->identity, m->certificate->chain_pem,
					      m->certificate->not_after_s, m->certificate->error);
	case WEFT__LINK__TO_HELPER__MSG_TRUST:
		return on_trust(h, m->trust);
	case WEFT__LINK__TO_HELPER__MSG_ROTATE:
		return identities_rotate(h->identities, m->rotate->identity);
	case WEFT__LINK__TO_HELPER__MSG_DNS:
		return on_dns(h, m->dns);
	case WEFT__LINK__TO_HELPER__MSG_DRAIN:
		return helper_drain(h, m->drain->timeout_ms);
	case WEFT__LINK__TO_HELPER__MSG_LOG_LEVEL:
		if (m->log_level->level <= LOG_DEBUG)
			log_set_level((enum log_level)m->log_level->level);
		return;
	case WEFT__LINK__TO_HELPER__MSG_REJOIN:
		return on_rejoin(h, m->rejoin, fds, fd_count);
	case WEFT__LINK__TO_HELPER__MSG_DUMP:
		return reports_dump(h, m->dump->id, m->dump->what);
	case WEFT__LINK__TO_HELPER__MSG_DNS_FLUSH:
		return helper_order_all(h, flush_order, NULL);
	case WEFT__LINK__TO_HELPER__MSG_TARGET:
		return control_on_target(h, m->target);
	case WEFT__LINK__TO_HELPER__MSG_VHOST:
		return control_on_vhost(h, m->vhost);
	case WEFT__LINK__TO_HELPER__MSG_VHOST_FORGET:
		return target_hub_vhost_forget(h->targets, m->vhost_forget->id);
	case WEFT__LINK__TO_HELPER__MSG_CLUSTER:
		return control_on_cluster(h, m->cluster);
	case WEFT__LINK__TO_HELPER__MSG_LOG_SINK:
		return control_on_log_sink(h, m->log_sink, fds, fd_count);
	case WEFT__LINK__TO_HELPER__MSG_CARRIED:
		return control_on_carried(h, m->carried);
	case WEFT__LINK__TO_HELPER__MSG_TAP_START:
		return control_on_tap(h, m->tap_start->id, m->tap_start->filter, m->tap_start->per_second);
	case WEFT__LINK__TO_HELPER__MSG_TAP_STOP:
		return control_on_tap(h, m->tap_stop->id, "", 0);
	default:
		return; /* a newer agent's: additive by the protocol's rule */
	}
}

void control_on_message(const uint8_t *bytes, size_t len, int *fds, size_t fd_count, void *arg)
{
	struct helper *h = arg;
	Weft__Link__ToHelper *m = weft__link__to_helper__unpack(NULL, len, bytes);
	if (!m) {
		control_fail(h, "a message that is malformed");
		return;
	}
	control_dispatch(h, m, fds, fd_count);
	weft__link__to_helper__free_unpacked(m, NULL);
}
