/* SPDX-License-Identifier: Apache-2.0 */
/* Each name has a timer: it is asked when the timer fires, DNS_INFLIGHT_MAX names at a time, the others wait in a queue.
 * c-ares does the rest: both families, CNAMEs, retries over servers. Its sockets are watched by the loop.
 * An answer that there is no such name empties it; not getting an answer changes nothing but the error shown. */
#include "agent/source/dns.h"

#include <ares.h>
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/base/err.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"

enum {
	QUERY_TIMEOUT_MS = 2000, /* of one try; c-ares doubles it */
	QUERY_TRIES = 3,
	COALESCE_MS = 2, /* answers that come together are told together */
	SOCKETS_MAX = 64,
};

struct entry {
	struct dns_host host;
	struct dns_source *ds;
	struct loop_timer *timer;
	struct entry *next_due;
	bool due, asked, dropped; /* dropped: freed when its answer comes */
};

struct socket {
	ares_socket_t fd;
	struct loop_io *io;
};

struct dns_source {
	struct loop *loop;
	ares_channel channel;
	char *servers;
	struct timespec resolv_mtime;
	struct socket sockets[SOCKETS_MAX];
	size_t socket_count;
	struct loop_timer *timeout, *tell;
	struct entry **entries; /* by name */
	size_t count;
	struct entry *due, **due_tail;
	size_t inflight;
	struct dns_host *hosts; /* copies for dns_source_hosts() */
	bool hosts_stale;
	void (*on_change)(void *arg);
	void *arg;
};

static void pump(struct dns_source *ds);

/* --- c-ares and the loop */

static void arm_timeout(struct dns_source *ds)
{
	struct timeval tv, *next = ares_timeout(ds->channel, NULL, &tv);
	if (!next)
		loop_timer_stop(ds->timeout);
	else
		loop_timer_start(ds->timeout, (uint64_t)next->tv_sec * 1000 + (uint64_t)next->tv_usec / 1000 + 1, 0);
}

static void on_timeout(struct loop_timer *timer, void *arg)
{
	struct dns_source *ds = arg;
	(void)timer;
	ares_process_fd(ds->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	arm_timeout(ds);
	pump(ds);
}

static void on_socket(struct loop_io *io, int events, void *arg)
{
	struct dns_source *ds = arg;
	for (size_t i = 0; i < ds->socket_count; i++) {
		if (ds->sockets[i].io != io)
			continue;
		ares_socket_t fd = ds->sockets[i].fd;
		ares_process_fd(ds->channel, events & (LOOP_READ | LOOP_HANGUP) ? fd : ARES_SOCKET_BAD,
				events & LOOP_WRITE ? fd : ARES_SOCKET_BAD);
		break;
	}
	arm_timeout(ds);
	pump(ds);
}

/* c-ares says what it waits for; neither: it is about to close the socket. */
static void on_socket_state(void *arg, ares_socket_t fd, int readable, int writable)
{
	struct dns_source *ds = arg;
	size_t i = 0;
	while (i < ds->socket_count && ds->sockets[i].fd != fd)
		i++;
	if (!readable && !writable) {
		if (i < ds->socket_count) {
			loop_io_free(ds->sockets[i].io);
			ds->sockets[i] = ds->sockets[--ds->socket_count];
		}
		return;
	}
	if (i == ds->socket_count) {
		/* A socket that can't be watched ends in c-ares's timeout. */
		if (i == SOCKETS_MAX || loop_io_new(ds->loop, fd, on_socket, ds, &ds->sockets[i].io) < 0)
			return;
		ds->sockets[i].fd = fd;
		ds->socket_count++;
	}
	loop_io_set(ds->sockets[i].io, (readable ? LOOP_READ : 0) | (writable ? LOOP_WRITE : 0));
}

static struct timespec resolv_mtime(void)
{
	struct stat st;
	return stat("/etc/resolv.conf", &st) < 0 ? (struct timespec){ 0 } : st.st_mtim;
}

static int channel_open(struct dns_source *ds, struct err *err)
{
	struct ares_options options = {
		.timeout = QUERY_TIMEOUT_MS,
		.tries = QUERY_TRIES,
		.flags = ARES_FLAG_NOSEARCH,
		.sock_state_cb = on_socket_state,
		.sock_state_cb_data = ds,
	};
	int mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_FLAGS | ARES_OPT_SOCK_STATE_CB;
	int rc = ares_init_options(&ds->channel, &options, mask);
	if (rc != ARES_SUCCESS)
		return err_set(err, rc == ARES_ENOMEM ? -ENOMEM : -EINVAL, "dns: start resolver: %s",
			       ares_strerror(rc));
	rc = ds->servers ? ares_set_servers_ports_csv(ds->channel, ds->servers) : ARES_SUCCESS;
	if (rc != ARES_SUCCESS) {
		ares_destroy(ds->channel);
		ds->channel = NULL;
		return err_set(err, -EINVAL, "dns: servers \"%s\": %s", ds->servers, ares_strerror(rc));
	}
	ds->resolv_mtime = resolv_mtime();
	return 0;
}

/* c-ares reads resolv.conf once: a new one needs a new channel, which is made between questions. */
static void channel_refresh(struct dns_source *ds)
{
	struct timespec now = resolv_mtime();
	struct err err = ERR_INIT;
	if (ds->servers || ds->inflight || !memcmp(&now, &ds->resolv_mtime, sizeof(now)))
		return;
	ares_channel old = ds->channel;
	if (channel_open(ds, &err) < 0)
		ds->channel = old;
	else
		ares_destroy(old);
	ds->resolv_mtime = now;
}

/* --- answers */

static int addr_order(const void *a, const void *b)
{
	return addr_cmp(a, b);
}

/* The addresses of an answer, sorted, each once, and the shortest TTL of all that led to them. */
static size_t answer_addrs(const struct ares_addrinfo *result, struct addr addrs[DNS_ADDRS_MAX], uint32_t *ttl_s)
{
	size_t n = 0, unique = 0;
	int ttl = DNS_TTL_MAX_S;
	for (const struct ares_addrinfo_cname *c = result->cnames; c; c = c->next)
		ttl = c->ttl < ttl ? c->ttl : ttl;
	for (const struct ares_addrinfo_node *node = result->nodes; node && n < DNS_ADDRS_MAX; node = node->ai_next) {
		struct addr_port ap;
		if (addr_from_sockaddr(node->ai_addr, &ap) < 0)
			continue;
		addrs[n++] = ap.addr;
		ttl = node->ai_ttl < ttl ? node->ai_ttl : ttl;
	}
	qsort(addrs, n, sizeof(*addrs), addr_order);
	for (size_t i = 0; i < n; i++)
		if (!i || !addr_eq(&addrs[i], &addrs[unique - 1]))
			addrs[unique++] = addrs[i];
	*ttl_s = ttl < DNS_TTL_MIN_S ? DNS_TTL_MIN_S : (uint32_t)ttl;
	return unique;
}

static void changed(struct dns_source *ds)
{
	ds->hosts_stale = true;
	loop_timer_start(ds->tell, COALESCE_MS, 0);
}

/* The name has these addresses now. */
static void entry_answered(struct entry *e, const struct addr *addrs, size_t n, uint32_t ttl_s)
{
	struct dns_host *h = &e->host;
	bool differs = !h->resolved || n != h->addr_count || (n && memcmp(addrs, h->addrs, n * sizeof(*addrs)));
	struct addr *copy = differs && n ? malloc(n * sizeof(*addrs)) : NULL;
	if (differs && n && !copy)
		return; /* no memory: the old ones stay until the next answer */
	if (differs) {
		if (n)
			memcpy(copy, addrs, n * sizeof(*addrs));
		free(h->addrs);
		h->addrs = copy;
		h->addr_count = n;
		changed(e->ds);
	}
	h->resolved = true;
	h->ttl_s = ttl_s;
	h->last_ok_s = clock_wall_ns() / 1000000000;
	h->failures = 0;
}

static uint64_t retry_ms(uint64_t failures)
{
	uint64_t s = DNS_RETRY_MIN_S;
	while (--failures && s < DNS_RETRY_MAX_S)
		s *= 2;
	return (s < DNS_RETRY_MAX_S ? s : DNS_RETRY_MAX_S) * 1000;
}

static void entry_free(struct entry *e)
{
	loop_timer_free(e->timer);
	free(e->host.name);
	free(e->host.addrs);
	free(e->host.error);
	free(e);
}

static void on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *result)
{
	struct entry *e = arg;
	struct dns_host *h = &e->host;
	struct addr addrs[DNS_ADDRS_MAX];
	uint32_t ttl_s = DNS_RETRY_MIN_S;
	(void)timeouts;
	e->asked = false;
	e->ds->inflight--;
	if (e->dropped || status == ARES_EDESTRUCTION) {
		ares_freeaddrinfo(result);
		if (e->dropped)
			entry_free(e);
		return;
	}
	e->ds->hosts_stale = true;
	free(h->error);
	h->error = status == ARES_SUCCESS ? NULL : strdup(ares_strerror(status));
	if (status == ARES_SUCCESS) {
		size_t n = answer_addrs(result, addrs, &ttl_s);
		entry_answered(e, addrs, n, ttl_s);
		loop_timer_start(e->timer, (uint64_t)ttl_s * 1000, 0);
	} else {
		if (status == ARES_ENOTFOUND || status == ARES_ENODATA)
			entry_answered(e, NULL, 0, ttl_s);
		loop_timer_start(e->timer, retry_ms(++h->failures), 0);
	}
	ares_freeaddrinfo(result);
}

/* --- asking */

static void enqueue(struct entry *e)
{
	if (e->due || e->asked)
		return;
	e->due = true;
	e->next_due = NULL;
	*e->ds->due_tail = e;
	e->ds->due_tail = &e->next_due;
}

static void dequeue(struct dns_source *ds, const struct entry *e)
{
	struct entry **at = &ds->due;
	while (*at && *at != e)
		at = &(*at)->next_due;
	if (*at)
		*at = e->next_due;
	ds->due_tail = &ds->due;
	while (*ds->due_tail)
		ds->due_tail = &(*ds->due_tail)->next_due;
}

static void pump(struct dns_source *ds)
{
	static const struct ares_addrinfo_hints hints = { .ai_flags = ARES_AI_NOSORT,
							  .ai_family = AF_UNSPEC,
							  .ai_socktype = SOCK_STREAM };
	channel_refresh(ds);
	while (ds->due && ds->inflight < DNS_INFLIGHT_MAX) {
		struct entry *e = ds->due;
		ds->due = e->next_due;
		if (!ds->due)
			ds->due_tail = &ds->due;
		e->due = false;
		e->asked = true;
		ds->inflight++;
		/* May call on_answer at once (addresses, /etc/hosts). */
		ares_getaddrinfo(ds->channel, e->host.name, NULL, &hints, on_answer, e);
	}
	arm_timeout(ds);
}

static void on_due(struct loop_timer *timer, void *arg)
{
	struct entry *e = arg;
	(void)timer;
	enqueue(e);
	pump(e->ds);
}

static void on_tell(struct loop_timer *timer, void *arg)
{
	struct dns_source *ds = arg;
	(void)timer;
	ds->on_change(ds->arg);
}

int dns_source_new(struct loop *loop, const char *servers, void (*on_change)(void *arg), void *arg,
		   struct dns_source **out, struct err *err)
{
	struct dns_source *ds = calloc(1, sizeof(*ds));
	if (!ds)
		return err_set(err, -ENOMEM, "dns: no memory");
	*ds = (struct dns_source){ .loop = loop, .on_change = on_change, .arg = arg };
	ds->due_tail = &ds->due;
	ds->servers = servers ? strdup(servers) : NULL;
	int rc = ares_library_init(ARES_LIB_INIT_ALL) == ARES_SUCCESS && (!servers || ds->servers) ? 0 : -ENOMEM;
	if (rc == 0)
		rc = loop_timer_new(loop, on_timeout, ds, &ds->timeout);
	if (rc == 0)
		rc = loop_timer_new(loop, on_tell, ds, &ds->tell);
	rc = rc < 0 ? err_set(err, rc, "dns: no memory") : channel_open(ds, err);
	if (rc < 0) {
		dns_source_free(ds);
		return rc;
	}
	*out = ds;
	return 0;
}

void dns_source_free(struct dns_source *ds)
{
	if (!ds)
		return;
	if (ds->channel)
		ares_destroy(ds->channel); /* answers all questions with ARES_EDESTRUCTION */
	for (size_t i = 0; i < ds->count; i++)
		entry_free(ds->entries[i]);
	loop_timer_free(ds->timeout);
	loop_timer_free(ds->tell);
	free(ds->entries);
	free(ds->hosts);
	free(ds->servers);
	free(ds);
	ares_library_cleanup();
}

static struct entry *entry_new(struct dns_source *ds, const char *name)
{
	struct entry *e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	e->ds = ds;
	e->host.name = strdup(name);
	if (!e->host.name || loop_timer_new(ds->loop, on_due, e, &e->timer) < 0) {
		entry_free(e);
		return NULL;
	}
	return e;
}

static void entry_drop(struct entry *e)
{
	if (e->due)
		dequeue(e->ds, e);
	loop_timer_stop(e->timer);
	if (e->asked)
		e->dropped = true;
	else
		entry_free(e);
}

/* Both lists are sorted: one pass. */
int dns_source_set(struct dns_source *ds, const char *const *names, size_t count)
{
	struct entry **entries = calloc(count + 1, sizeof(struct entry *));
	size_t old = 0, made = 0;
	if (!entries)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		size_t at = old;
		while (at < ds->count && strcmp(ds->entries[at]->host.name, names[i]) < 0)
			at++;
		old = at;
		bool known = at < ds->count && !strcmp(ds->entries[at]->host.name, names[i]);
		entries[i] = known ? ds->entries[at] : entry_new(ds, names[i]);
		made += !known;
		if (entries[i])
			continue;
		for (size_t k = 0; k < i; k++) /* only those that were made here */
			if (!entries[k]->host.resolved && !entries[k]->due && !entries[k]->asked &&
			    !entries[k]->host.failures)
				entry_free(entries[k]);
		free(entries);
		return -ENOMEM;
	}
	for (size_t i = 0, k = 0; i < ds->count; i++) {
		while (k < count && strcmp(entries[k]->host.name, ds->entries[i]->host.name) < 0)
			k++;
		if (k == count || entries[k] != ds->entries[i])
			entry_drop(ds->entries[i]);
	}
	free(ds->entries);
	ds->entries = entries;
	ds->count = count;
	ds->hosts_stale = true;
	for (size_t i = 0; i < count && made; i++)
		if (!entries[i]->host.resolved && !entries[i]->host.failures)
			enqueue(entries[i]);
	pump(ds);
	return 0;
}

const struct dns_host *dns_source_hosts(const struct dns_source *ds, size_t *count)
{
	struct dns_source *cache = (struct dns_source *)ds; /* the copies are a cache */
	*count = 0;
	if (ds->hosts_stale) {
		struct dns_host *hosts = realloc(ds->hosts, (ds->count + 1) * sizeof(*hosts));
		if (!hosts)
			return NULL;
		for (size_t i = 0; i < ds->count; i++)
			hosts[i] = ds->entries[i]->host;
		cache->hosts = hosts;
		cache->hosts_stale = false;
	}
	*count = ds->count;
	return ds->hosts;
}
