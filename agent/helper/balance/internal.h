/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of balance/. An entry is a cluster that this worker uses, with a host for each endpoint; a pool is
 * the connections of one pod to one host; a caller is one pod's use of one cluster: the limits of connectionPool are its
 * own, as a sidecar's would be. Everything on the worker's thread but what shared.c says. */
#pragma once

#include "agent/helper/balance/limits.h"
#include "agent/helper/balance/upstream.h"
#include "agent/model/balance.h"
#include "agent/model/balance_health.h"

#include <sys/queue.h>

struct cluster_watch;
struct ad_hoc;
struct conn;
struct entry;
struct loop;
struct loop_timer;
struct table;
struct transport_connect;

enum {
	UPSTREAM_UNUSED_S = 300,       /* then a cluster is not watched any more */
	UPSTREAM_AD_HOC_UNUSED_S = 60, /* an address that PASSTHROUGH was asked for */
	UPSTREAM_ABSENT_UNUSED_S = 20, /* a cluster that there is none of */
	UPSTREAM_ASK_AGAIN_MS = 1000,  /* about such a one */
	UPSTREAM_ENTRIES_MAX = 16384,
	UPSTREAM_AD_HOC_MAX = 4096,   /* in a cluster */
	UPSTREAM_PENDING_MAX = 16384, /* in a pool, where the cluster says no less */
	UPSTREAM_WAITS_MAX = 16384,   /* for the first answer about a cluster */
	UPSTREAM_H2_EXPECTED = 100,   /* streams of a connection that is not made yet */
	UPSTREAM_KEPT = 1024,	      /* in free lists */
	UPSTREAM_CACHE = 512,	      /* names whose entry is found without hashing; a power of two */
	UPSTREAM_SWEEP_S = 30,	      /* and every second while there are timeouts shorter than UPSTREAM_SHORT_S */
	UPSTREAM_SHORT_S = 120,
	UPSTREAM_IDLE_MS = 3600000,
	UPSTREAM_HOST_MAX = 256,
};

/* --- shared.c: between the workers of the process, found under a lock, then atomic */

struct shared_host {
	unsigned int refs;
	struct addr_port addr;
	struct host_health health;
};

struct shared_cluster {
	unsigned int refs;
	char *name;
	struct table *hosts; /* under the lock */
	struct health_set set;
};

struct shared_cluster *shared_cluster_get(const char *name); /* a reference; NULL: no memory */
void shared_cluster_put(struct shared_cluster *c);
struct shared_host *shared_host_get(struct shared_cluster *c, const struct addr_port *addr);
bool shared_host_put(struct shared_cluster *c, struct shared_host *h); /* true: it was the last, and ejected */

/* --- clusters.c */

TAILQ_HEAD(wait_queue, upstream_wait);
TAILQ_HEAD(conn_list, conn);
TAILQ_HEAD(pool_list, pool);
TAILQ_HEAD(entry_list, entry);
LIST_HEAD(host_pools, pool);
LIST_HEAD(caller_list, caller);
LIST_HEAD(upstream_list, upstream_item);

struct version { /* of a cluster; keeps endpoints alive without an atomic count for each request */
	unsigned int refs;
	struct http_cluster *cluster;
};

struct host {
	struct balance_host b; /* first */
	unsigned int refs;     /* by its entry, pools, upstreams */
	struct entry *entry;
	struct version *version;
	const struct cluster_endpoint *endpoint; /* of version, or own */
	struct ad_hoc *own;			 /* it was made for PASSTHROUGH; lives as long as the host */
	struct addr_port addr;
	uint64_t transport_id;	    /* how it is spoken to: connections made otherwise take no more */
	struct shared_host *shared; /* NULL: no outlier detection */
	bool gone, seen;
	struct host_pools pools;
	uint64_t requests, errors, connect_failures, used_s;
};

struct entry {
	struct upstreams *u;
	TAILQ_ENTRY(entry) link;
	char *name;
	struct cluster_watch *watch;
	bool answered, applying;
	struct version *version; /* NULL: there is no such cluster */
	struct host **hosts;	 /* as version's endpoints */
	size_t host_count;
	struct table *by_addr; /* and those of PASSTHROUGH */
	size_t ad_hoc_count;
	struct balance *balance;
	struct shared_cluster *shared; /* NULL: no outlier detection */
	uint32_t generation;	       /* of shared, that `balance` knows */
	struct caller_list callers;
	struct host_pools pools;
	struct wait_queue waits; /* until it is answered */
	size_t wait_count;
	uint64_t live; /* upstreams */
	uint64_t used_s, watched_ns;
};

void entry_ask_again(struct entry *e);				/* when there was none, a while ago */
struct entry *entry_get(struct upstreams *u, const char *name); /* NULL: no memory, or there is none */
void entries_sweep(struct upstreams *u, uint64_t now_s);
void entry_free(struct entry *e); /* with its pools; nothing of it is used any more */

/* --- hosts.c */

struct addr_key {
	uint8_t b[18];
};

struct addr_key addr_key_of(const struct addr_port *a);
struct version *version_new(struct http_cluster *c);
void version_unref(struct version *v);
static inline struct version *version_ref(struct version *v)
{
	v->refs++;
	return v;
}
uint64_t transport_id_of(const struct http_cluster *c, const struct cluster_endpoint *e);
struct host *host_new(struct entry *e, const struct addr_port *addr);
void host_unref(struct host *h);
struct host *host_find(const struct entry *e, const struct addr_port *addr); /* NULL: none */
/* first: of the entry's first version: what is in it is warm. */
void host_set(struct host *h, struct version *v, const struct cluster_endpoint *endpoint, bool is_new, bool first,
	      uint64_t now_ns);
void host_transport(struct host *h, uint64_t transport_id);
void host_retire(struct host *h); /* takes the entry's reference */

/* --- ad_hoc.c */

/* The host of an address that the caller chose. NULL: none (too many, no memory, nobody knows what it is), or, with
 * *queue: not yet. */
struct host *ad_hoc_get(struct entry *e, const struct addr_port *addr, uint64_t now_ns, struct wait_queue **queue,
			size_t **count);
bool host_is_ad_hoc(const struct host *h);
void ad_hoc_retire(struct host *h);
void ad_hoc_free(struct ad_hoc *own);			  /* NULL is fine */
void ad_hoc_keep(struct entry *e, struct table *by_addr); /* in a new version, unless they are endpoints now */
void ad_hoc_sweep(struct entry *e, uint64_t now_s);

/* --- health.c */

void entry_health_attach(struct entry *e); /* to what workers share, as the version says */
void entry_health_read(struct entry *e);
/* Brings what outlier detection of all workers says to the balance, when it changed. */
void entry_health(struct entry *e, uint64_t now_ns);
void host_health_release(struct host *h);
void host_note(struct host *h, enum health_event event, uint64_t now_ns);

/* --- hash_input.c */

/* The hash of what cluster->hash names. cookie: what the response must set, or "". false: random. */
bool hash_input(const struct http_cluster *c, const struct upstream_query *q, uint64_t *random, uint64_t *hash,
		char *cookie, size_t cookie_size);

/* --- callers.c */

struct caller {
	LIST_ENTRY(caller) link; /* of entry */
	struct entry *entry;
	struct worker_pod *pod;	      /* a reference */
	unsigned int refs;	      /* pools, upstreams */
	uint32_t n[LIMIT_KINDS];      /* of this worker */
	struct shared_limits *shared; /* NULL: there is no limit */
};

struct caller *caller_get(struct entry *e, struct worker_pod *pod); /* a reference; NULL: no memory */
void caller_ref(struct caller *c);
void caller_unref(struct caller *c);
void caller_add(struct caller *c, enum limit limit, int n);
/* Whether one more is over the limit; 0: there is no limit. */
bool caller_over(const struct caller *c, enum limit limit, uint32_t max);
bool caller_retry_over(const struct caller *c, const struct http_cluster *cluster);
void callers_changed(struct entry *e); /* its limits may have */

/* --- pools.c and conns.c */

struct attempt { /* what upstream_get() was asked */
	struct upstream_query q;
	const struct http_stream_events *events;
	void *user;
	upstream_fn fn;
	upstream_pick_fn pick; /* instead of fn */
	void *arg;
	bool hash_known, has_hash;
	bool of_host; /* DYNAMIC_DNS: it has come to the cluster of its host */
	uint64_t hash;
	char cookie[256];
};

struct upstream_wait {
	TAILQ_ENTRY(upstream_wait) link;
	struct wait_queue *queue; /* that it is in; NULL: being called back */
	size_t *count;
	struct upstreams *u;
	struct pool *pool; /* NULL: waits for the cluster */
	struct attempt attempt;
	char *host, *cluster;
	struct http_head *head;
};

struct upstream_item {
	struct upstream up;		/* first */
	LIST_ENTRY(upstream_item) link; /* of conn, or the free list */
	struct conn *conn;		/* NULL: closed */
	struct host *host;
	struct caller *caller;
	struct version *version;
	bool over; /* its stream has ended: it counts no more */
};

struct pool {
	struct pool *chain; /* of its bucket */
	TAILQ_ENTRY(pool) link;
	LIST_ENTRY(pool) by_host, by_entry;
	struct upstreams *u;
	struct host *host;
	struct caller *caller;
	enum http_protocol protocol;
	char *sni;		/* the request's, when the cluster names none; NULL otherwise */
	struct conn_list ready; /* last used first */
	struct conn_list busy, connecting, draining;
	size_t ready_count, busy_count, connecting_count, draining_count,
		expected; /* expected: streams, of connecting */
	struct wait_queue pending;
	size_t pending_count;
	bool serve_later; /* in u->serving */
	bool broken;	  /* a connection ended before it was used */
	TAILQ_ENTRY(pool) by_serve;
	uint64_t used_s;
};

enum conn_state { CONN_CONNECTING, CONN_READY, CONN_BUSY, CONN_DRAINING, CONN_CLOSED };

struct conn {
	TAILQ_ENTRY(conn) link;	  /* of pool, by state */
	TAILQ_ENTRY(conn) by_age; /* connecting ones of the worker */
	struct pool *pool;
	enum conn_state state;
	struct http_conn *http;
	struct transport_connect *connect;
	struct version *version;
	uint64_t transport_id;
	uint64_t born_ns, idle_ns, deadline_ns;
	uint32_t expected;
	bool drained; /* http_conn_drain() was called */
	size_t up_count;
	uint64_t served;
	struct upstream_list ups;
};

enum attach { ATTACH_OK, ATTACH_AGAIN, ATTACH_OVERFLOW, ATTACH_FAILED };

struct pool *pool_get(struct upstreams *u, struct host *h, struct worker_pod *pod, enum http_protocol protocol,
		      const char *sni); /* made when it is not there; NULL: no memory */
void pool_free(struct pool *p);		/* its connections are closed; who waits is forgotten */
enum attach pool_attach(struct pool *p, const struct attempt *a, struct upstream **out);
/* Makes connections for those that wait. false: none is there nor on its way. */
bool pool_grow(struct pool *p);
void pool_serve(struct pool *p);       /* those that wait, as far as there is capacity */
void pool_serve_later(struct pool *p); /* at the end of the tick */
/* Calls back the first `count` of those that wait. */
void pool_fail(struct pool *p, size_t count, enum upstream_failure why);
void pool_failed(struct pool *p, enum upstream_failure why);   /* a connection did not come about */
void pool_drain(struct pool *p, uint64_t except_transport_id); /* 0: all */
void pools_sweep(struct upstreams *u, uint64_t now_ns);
void pools_pod_removed(struct upstreams *u, struct worker_pod *pod);
bool pool_is_empty(const struct pool *p);
bool pool_is_short(const struct pool *p); /* its connections have short timeouts */

bool conn_new(struct pool *p);	  /* begins to connect; false: no memory */
void conn_update(struct conn *c); /* its capacity may have changed */
void conn_drain(struct conn *c);
void conns_drain_unused(struct pool *p);
void conn_close(struct conn *c);     /* at once; frees it */
void conn_not_ready(struct conn *c); /* it was, but would not open a stream */
void conn_up_add(struct conn *c, struct upstream_item *item);
void conn_up_remove(struct conn *c, struct upstream_item *item); /* may free it */
void conns_sweep(struct pool *p, uint64_t now_ns);
int conns_timer_new(struct upstreams *u);
void conns_timer(struct upstreams *u);

/* --- upstreams.c; upstream.c has waits_again() and attempt_answer() */

struct upstreams {
	struct worker *w;
	struct loop *loop;
	struct link_shard *shard;
	uint64_t random;
	struct table *entries; /* name -> struct entry */
	struct entry_list entry_list;
	struct {
		const char *name;
		struct entry *entry;
	} cache[UPSTREAM_CACHE];
	struct pool **buckets;
	size_t bucket_count, pool_count;
	struct pool_list pools, serving;
	bool serve_deferred, draining, sweeping, short_sweeps, closed;
	struct conn_list connecting; /* of all pools */
	struct loop_timer *sweep_timer, *connect_timer;
	uint64_t connect_timer_ns; /* when it fires; 0: it is stopped */
	struct upstream_list free_items;
	size_t free_count;
	struct wait_queue free_waits;
	size_t free_wait_count;
	size_t live; /* connections with a stream */
};

struct upstream_item *item_new(struct upstreams *u);
void item_free(struct upstreams *u, struct upstream_item *item);
void item_over(struct upstream_item *item);
void wait_remove(struct upstream_wait *w); /* out of its queue */
void wait_enqueue(struct upstream_wait *w, struct wait_queue *queue, size_t *count, struct pool *pool);
/* Copies what the caller lends for the call. The head only where its hash is not known yet. NULL: no memory. */
struct upstream_wait *wait_new(struct upstreams *u, const struct attempt *a, bool with_head);
void wait_free(struct upstream_wait *w);
void attempt_answer(struct upstreams *u, const struct attempt *a, enum upstream_failure why);
/* The waiting ones choose again, as their host or cluster changed. */
void waits_again(struct upstreams *u, struct entry *e, struct wait_queue *queue);
void upstreams_sweep_soon(struct upstreams *u, bool short_timeouts);
static inline uint64_t upstreams_second(uint64_t now_ns)
{
	return now_ns / 1000000000;
}
