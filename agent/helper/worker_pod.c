/* SPDX-License-Identifier: Apache-2.0 */
/* Pods as this worker sees them, and the connections that their listeners bring. Every worker waits on its own duplicate
 * of each listener: of those that are idle the kernel wakes one, in turn, so that the load spreads without a dispatcher
 * between and nobody wakes for nothing. */
#include "agent/helper/worker_internal.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/hash.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/table.h"
#include "agent/helper/dns.h"
#include "agent/helper/route/exchange.h"
#include "agent/helper/route/tcp.h"
#include "agent/helper/worker_accept.h"
#include "agent/model/identity.h"
#include "agent/model/policy.h"

enum { ACCEPT_PAUSE_MS = 100, ARM_TIMEOUT_MS = 5000 };

/* --- listeners --- */

static void listener_close(struct listener *l)
{
	loop_io_free(TAKE(l->io));
	fd_closep(&l->fd);
}

static int socket_addr(int fd, int (*get)(int, struct sockaddr *, socklen_t *), struct addr_port *out)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	if (get(fd, (struct sockaddr *)&ss, &len) < 0)
		return -errno;
	return addr_from_sockaddr((const struct sockaddr *)&ss, out);
}

static void on_outbound(struct listener *l, int fd, const struct addr_port *peer)
{
	struct worker *w = l->entry->w;
	struct addr_port endpoint = { 0 };
	int rc = socket_addr(fd, getsockname, &endpoint);
	/* The kernel had no note of where it was going (somebody called the listener itself): the address is ours. */
	bool own = endpoint.port == l->local.port && addr_is_loopback(&endpoint.addr);
	if (rc == 0 && endpoint.port == 0) {
		acceptor_outbound(w->acceptor, &l->entry->pod, fd, peer); /* the kernel left the choice to us */
		return;
	}
	if (rc < 0 || own || addr_is_zero(&endpoint.addr)) {
		close(fd);
		struct worker_drop drop = { .pod = &l->entry->pod,
					    .reason = DROP_UNKNOWN_DESTINATION,
					    .destination = *peer };
		worker_drop(w, &drop);
		return;
	}
	hbone_outbound(w->hbone, &l->entry->pod, fd, &endpoint, peer, NULL);
}

static void on_hbone(struct listener *l, int fd, const struct addr_port *peer)
{
	struct addr_port local = { 0 };
	if (socket_addr(fd, getsockname, &local) < 0) {
		close(fd); /* it is gone already */
		return;
	}
	hbone_inbound(l->entry->w->hbone, &l->entry->pod, fd, peer, &local);
}

static void on_inbound(struct listener *l, int fd, const struct addr_port *peer)
{
	struct addr_port local = { 0 };
	if (socket_addr(fd, getsockname, &local) < 0) {
		close(fd); /* it is gone already */
		return;
	}
	acceptor_inbound(l->entry->w->acceptor, &l->entry->pod, fd, peer, &local, l->kind);
}

/* One connection a wake-up: an accept() that finds none costs more than being told again. */
static void listener_accept(struct listener *l)
{
	struct worker *w = l->entry->w;
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	int fd = accept4(l->fd, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			/* Level-triggered: it would wake us for ever. The rest waits in the queue. */
			loop_io_set(l->io, 0);
			loop_timer_start(w->accept_timer, ACCEPT_PAUSE_MS, 0);
		}
		return;
	}
	struct addr_port peer;
	if (addr_from_sockaddr((const struct sockaddr *)&ss, &peer) < 0) {
		close(fd);
		return;
	}
	if (l->kind == POD_LISTEN_OUTBOUND)
		on_outbound(l, fd, &peer);
	else if (l->kind == POD_LISTEN_HBONE)
		on_hbone(l, fd, &peer);
	else if (l->kind != POD_DNS_TCP)
		on_inbound(l, fd, &peer);
	else
		dns_accept(l->entry->dns, fd, &peer);
}

static void on_listener(struct loop_io *io, int events, void *arg)
{
	struct listener *l = arg;
	(void)io;
	(void)events;
	struct pod_entry *entry = l->entry;
	worker_pod_ref(&entry->pod); /* what is accepted may end the pod's last use */
	if (l->fd >= 0)
		listener_accept(l);
	worker_pod_unref(entry->w, &entry->pod);
}

/* Names don't need a certificate. */
static void listener_arm(struct listener *l)
{
	if (l->io)
		loop_io_set(l->io, l->entry->armed || l->kind == POD_DNS_TCP ? LOOP_READ | LOOP_EXCLUSIVE : 0);
}

static void entry_arm(struct pod_entry *entry, bool armed)
{
	entry->armed = armed;
	for (size_t i = 0; i < POD_LISTENERS; i++)
		listener_arm(&entry->listeners[i]);
}

static void on_accept_again(struct loop_timer *timer, void *arg)
{
	struct worker *w = arg;
	struct table_iter it = { 0 };
	(void)timer;
	while (table_next(w->pods, &it)) {
		struct pod_entry *entry = it.value;
		entry_arm(entry, entry->armed);
	}
}

/* --- certificates: until its identity has one, a pod's connections wait in the queues. A helper that takes over would
 * else refuse what arrives in the moment before its certificates do. If none comes, waiting is no better than refusing.
 */

static void on_arm_timeout(struct loop_timer *timer, void *arg)
{
	struct worker *w = arg;
	struct table_iter it = { 0 };
	(void)timer;
	while (table_next(w->pods, &it))
		entry_arm(it.value, true);
}

void worker_pods_credentialed(struct worker *w, const char *uri)
{
	struct table_iter it = { 0 };
	if (!table_get_str(w->credentialed, uri) && table_set_str(w->credentialed, uri, w) < 0)
		return; /* its pods are served after the timeout */
	while (table_next(w->pods, &it)) {
		struct pod_entry *entry = it.value;
		if (!entry->armed && strcmp(entry->spec->identity->uri, uri) == 0)
			entry_arm(entry, true);
	}
}

int worker_listeners_init(struct worker *w)
{
	int rc = loop_timer_new(w->loop, on_accept_again, w, &w->accept_timer);
	return rc < 0 ? rc : loop_timer_new(w->loop, on_arm_timeout, w, &w->arm_timer);
}

/* Takes fd. */
static void listener_open(struct pod_entry *entry, enum pod_socket kind, int fd)
{
	struct listener *l = &entry->listeners[kind];
	struct worker *w = entry->w;
	bool wanted = kind <= POD_LISTEN_NODE || (kind == POD_DNS_TCP && entry->dns != NULL);
	listener_close(l);
	if (!wanted || w->closed || socket_addr(fd, getsockname, &l->local) < 0) {
		close(fd);
		return;
	}
	l->fd = fd;
	int one = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* what is accepted inherits it */
	if (loop_io_new(w->loop, fd, on_listener, l, &l->io) < 0) {
		fd_closep(&l->fd);
		log_error("pod %s: can't wait on its listener %d; its connections will not be carried", entry->pod.uid,
			  (int)kind);
		return;
	}
	listener_arm(l);
}

static void entry_listeners(struct pod_entry *entry, int *fds, size_t count)
{
	struct worker *w = entry->w;
	if (!count)
		return;
	int dns_fd = count > POD_DNS_UDP ? fds[POD_DNS_UDP] : -1;
	if (dns_fd >= 0) {
		fds[POD_DNS_UDP] = -1;
		dns_pod_free(entry->dns);
		entry->dns = w->closed ? NULL : dns_pod_new(w->dns, &entry->pod, dns_fd);
		if (w->closed)
			close(dns_fd);
	}
	for (size_t kind = 0; kind < count && kind < POD_LISTENERS; kind++) {
		if (fds[kind] < 0)
			continue;
		listener_open(entry, (enum pod_socket)kind, fds[kind]);
		fds[kind] = -1;
	}
}

void worker_listeners_close(struct worker *w)
{
	struct table_iter it = { 0 };
	w->closed = true;
	while (table_next(w->pods, &it)) {
		struct pod_entry *entry = it.value;
		for (size_t i = 0; i < POD_LISTENERS; i++)
			listener_close(&entry->listeners[i]);
		dns_pod_free(TAKE(entry->dns));
	}
}

/* --- pods --- */

static struct pod_entry *entry_new(struct worker *w, uint64_t cookie)
{
	struct pod_entry *entry = calloc(1, sizeof(*entry));
	if (!entry || table_set(w->pods, &cookie, sizeof(cookie), entry) < 0) {
		free(entry);
		return NULL;
	}
	entry->w = w;
	entry->pod.refs = 1; /* the table's */
	entry->pod.cookie = cookie;
	for (size_t i = 0; i < POD_LISTENERS; i++)
		entry->listeners[i] = (struct listener){ .fd = -1, .kind = (enum pod_socket)i, .entry = entry };
	worker_pools_init(entry);
	worker_pod_targets_init(entry);
	return entry;
}

/* The pod's limit is for the whole helper; each worker has its part of it. */
static uint32_t entry_limit(const struct worker *w, const struct pod_spec *spec)
{
	uint32_t all = spec->max_connections ? spec->max_connections : w->settings->max_connections_per_pod;
	return all / w->count + (all % w->count != 0);
}

static bool ports_differ(const struct pod_spec *a, const struct pod_spec *b)
{
	if (a->l7_other_ports != b->l7_other_ports || a->l7_port_count != b->l7_port_count)
		return true;
	for (size_t i = 0; i < a->l7_port_count; i++)
		if (memcmp(&a->l7_ports[i], &b->l7_ports[i], sizeof(a->l7_ports[i])) != 0)
			return true;
	return false;
}

/* Of the content: a pod may be described anew under the same cookie. */
static uint64_t spec_labels_id(const struct pod_spec *spec)
{
	const char *const texts[] = {
		spec->uid,	    spec->ns, spec->name, spec->owner, spec->canonical_name, spec->canonical_revision,
		spec->identity->uri
	};
	uint64_t id = hash64(HASH64_INIT, &spec->cookie, sizeof(spec->cookie));
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		id = hash64_str(id, texts[i] ? texts[i] : "");
	for (size_t i = 0; i < spec->label_count; i++)
		id = hash64_str(hash64_str(id, spec->labels[i].key), spec->labels[i].value);
	return id;
}

enum { CHANGED_CALLERS = 1, CHANGED_INBOUND = 2 };

/* Takes spec. Returns what may have changed: who is allowed to connect, and what inbound connections meet. */
static unsigned int entry_update(struct pod_entry *entry, struct pod_spec *spec)
{
	struct worker_pod *pod = &entry->pod;
	struct pod_spec *old = entry->spec;
	unsigned int changed = 0;
	if (old && (!old->policy != !spec->policy || (spec->policy && old->policy->id != spec->policy->id) ||
		    strcmp(old->identity->uri, spec->identity->uri) != 0))
		changed = CHANGED_CALLERS | CHANGED_INBOUND;
	if (old && (!old->inbound != !spec->inbound || ports_differ(old, spec)))
		changed |= CHANGED_INBOUND;
	entry->spec = spec;
	pod->uid = spec->uid;
	pod->ns = spec->ns;
	pod->name = spec->name;
	pod->owner = spec->owner;
	pod->canonical_name = spec->canonical_name;
	pod->canonical_revision = spec->canonical_revision;
	pod->identity = spec->identity;
	pod->policy = spec->policy;
	pod->addrs = spec->addrs;
	pod->addr_count = spec->addr_count;
	pod->max_connections = entry_limit(entry->w, spec);
	pod->inbound = spec->inbound;
	pod->outbound = spec->outbound;
	pod->telemetry = spec->telemetry;
	pod->labels = spec->labels;
	pod->label_count = spec->label_count;
	pod->labels_id = spec_labels_id(spec);
	pod->l7_ports = spec->l7_ports;
	pod->l7_port_count = spec->l7_port_count;
	pod->l7_other_ports = spec->l7_other_ports;
	pod_spec_unref(old);
	return changed;
}

void worker_pod_set(struct worker *w, struct pod_spec *spec, int *fds, size_t fd_count)
{
	struct pod_entry *entry = table_get(w->pods, &spec->cookie, sizeof(spec->cookie));
	bool added = !entry;
	if (added)
		entry = entry_new(w, spec->cookie);
	if (!entry) {
		log_error("pod %s: out of memory; its connections will not be carried", spec->uid);
		pod_spec_unref(spec);
		return;
	}
	unsigned int changed = entry_update(entry, spec);
	entry->leaving = false;
	entry_arm(entry, table_get_str(w->credentialed, spec->identity->uri) != NULL);
	if (!entry->armed)
		loop_timer_start(w->arm_timer, ARM_TIMEOUT_MS, 0);
	entry_listeners(entry, fds, fd_count);
	if (added)
		worker_pools_prefill(entry);
	if (changed)
		hbone_policy_changed(w->hbone, &entry->pod);
	if (changed & CHANGED_CALLERS)
		tcp_proxy_policy_changed(w->tcp, &entry->pod);
	if (changed & CHANGED_INBOUND && w->http)
		http_proxy_pod_changed(w->http, &entry->pod);
}

void worker_pod_leave_mesh(struct worker *w, uint64_t cookie)
{
	struct pod_entry *entry = table_get(w->pods, &cookie, sizeof(cookie));
	if (!entry)
		return;
	entry->leaving = true;
	for (size_t i = 0; i < POD_LISTENERS; i++)
		listener_close(&entry->listeners[i]);
	dns_pod_free(TAKE(entry->dns));
}

static void entry_retire(struct worker *w, struct pod_entry *entry)
{
	entry->pod.removed = true;
	for (size_t i = 0; i < POD_LISTENERS; i++)
		listener_close(&entry->listeners[i]);
	dns_pod_free(TAKE(entry->dns));
	worker_pools_done(entry);
	if (w->hbone)
		hbone_pod_removed(w->hbone, &entry->pod);
	if (w->acceptor)
		acceptor_pod_removed(w->acceptor, &entry->pod);
	if (w->tcp)
		tcp_proxy_pod_removed(w->tcp, &entry->pod);
	if (w->http)
		http_proxy_pod_removed(w->http, &entry->pod);
	worker_pod_targets_done(entry); /* who still waits is told */
	worker_pod_unref(w, &entry->pod);
}

void worker_pod_remove(struct worker *w, uint64_t cookie)
{
	struct pod_entry *entry = table_get(w->pods, &cookie, sizeof(cookie));
	if (!entry)
		return;
	table_remove(w->pods, &cookie, sizeof(cookie));
	entry_retire(w, entry);
}

void worker_pods_free(struct worker *w)
{
	struct table_iter it = { 0 };
	while (table_next(w->pods, &it)) {
		struct pod_entry *entry = it.value;
		table_remove(w->pods, it.key, it.key_len);
		entry_retire(w, entry);
	}
}

struct worker_pod *worker_pod_ref(struct worker_pod *pod)
{
	pod->refs++;
	return pod;
}

void worker_pod_unref(struct worker *w, struct worker_pod *pod)
{
	(void)w;
	if (!pod || --pod->refs > 0)
		return;
	struct pod_entry *entry = container_of(pod, struct pod_entry, pod);
	pod_spec_unref(entry->spec);
	free(entry);
}

static bool has_addr(const struct worker_pod *pod, const struct addr *addr)
{
	for (size_t i = 0; i < pod->addr_count; i++)
		if (addr_eq(&pod->addrs[i], addr))
			return true;
	return false;
}

struct worker_pod *worker_pod_by_addr(struct worker *w, const struct addr *addr)
{
	struct pod_entry *found = NULL;
	struct table_iter it = { 0 };
	while (!w->closed && table_next(w->pods, &it)) {
		struct pod_entry *entry = it.value;
		if (entry->leaving || !has_addr(&entry->pod, addr))
			continue;
		if (found)
			return NULL;
		found = entry;
	}
	return found && found->armed ? &found->pod : NULL;
}

bool worker_pod_admit(struct worker *w, struct worker_pod *pod)
{
	(void)w;
	if (pod->connections >= pod->max_connections)
		return false;
	pod->connections++;
	return true;
}

void worker_pod_leave(struct worker *w, struct worker_pod *pod)
{
	(void)w;
	pod->connections--;
}
