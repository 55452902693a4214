/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by worker*.c and dns*.c: one worker's state. Everything on the worker's thread, but worker_new(), which runs
 * before it exists, worker_order() and worker_join(). */
#pragma once

#include "agent/helper/orders.h"
#include "agent/link/rate.h"

#include <pthread.h>
#include <sys/queue.h>

struct acceptor;
struct hbone;
struct http_proxy;
struct loop_io;
struct loop_timer;
struct mailbox;
struct table;
struct tcp_proxy;
struct dns;
struct dns_pod;
struct err;

enum { POD_POOLS = 3, WAIT_TIMEOUT_MS = 2000, POD_TARGETS_RECENT = 8 /* a power of two */ };

TAILQ_HEAD(wait_list, worker_wait);

struct worker_wait {
	TAILQ_ENTRY(worker_wait) by_age;   /* in worker.waits: all have the same timeout, so the oldest is first */
	TAILQ_ENTRY(worker_wait) by_owner; /* in *owner: what it waits for */
	struct wait_list *owner;
	struct worker *w;
	struct worker_pod *pod; /* whose socket or call; NULL for an endpoint. A reference */
	uint64_t deadline_ns;
	worker_socket_fn on_socket; /* one of the three */
	worker_endpoint_fn on_endpoint;
	worker_target_fn on_target;
	void *arg;
};

/* Sockets of one kind in one pod, ahead of need. */
struct socket_pool {
	int *fds;
	size_t count, cap;
	struct wait_list waits;
	uint32_t batch;	    /* grows while the pool runs dry */
	uint32_t requested; /* one request is under way at a time; 0: none */
	uint64_t requested_ns;
};

struct listener {
	int fd;
	struct loop_io *io;
	enum pod_socket kind;
	struct pod_entry *entry;
	struct addr_port local;
};

/* What a pod's calls mean: worker_targets.c. */
struct pod_targets {
	struct cached_target *recent[POD_TARGETS_RECENT]; /* by a cheap hash: most requests are like the last */
	struct table *all;		   /* packed address and host -> struct cached_target; NULL: none yet */
	TAILQ_HEAD(, cached_target) hosts; /* those for a host, least recently used first */
	size_t host_count;
	struct rate rate; /* of hosts that are new */
};

struct pod_entry {
	struct worker_pod pod; /* first: hbone's pointers to it are ours */
	struct worker *w;
	struct pod_spec *spec;
	bool armed;   /* connections are accepted */
	bool leaving; /* it was taken from the mesh */
	struct listener listeners[POD_LISTENERS];
	struct socket_pool pools[POD_POOLS];
	struct pod_targets targets;
	struct dns_pod *dns; /* on the one worker that answers the pod's names, else NULL */
};

struct worker {
	unsigned int index, count;
	pthread_t thread;
	bool thread_started;
	struct loop *loop;
	struct mailbox *orders, *reports; /* reports: the link thread's */
	const struct helper_settings *settings;
	struct link_shard *shard;
	uint32_t spans_pending; /* batches that the link thread has not seen; atomic */
	struct worker_tap taps[WORKER_TAPS_MAX];
	struct rate tap_rates[WORKER_TAPS_MAX];
	size_t tap_count;
	uint32_t tap_generation;
	struct request_writer *requests; /* NULL: nobody counts (tests) */
	struct transports *transports;
	struct hbone *hbone;
	struct http_proxy *http;
	struct observe *observe;
	struct tcp_proxy *tcp;
	struct acceptor *acceptor;
	struct table *pods;				/* cookie -> struct pod_entry */
	struct table *endpoints;			/* packed endpoint -> struct cached_endpoint */
	TAILQ_HEAD(, cached_endpoint) endpoints_by_use; /* least recently used first */
	struct loop_timer *endpoint_timer;
	TAILQ_HEAD(, cached_target) targets_by_use; /* least recently used first */
	size_t target_count;
	struct table *clusters;			     /* name -> struct cached_cluster */
	TAILQ_HEAD(, cached_cluster) clusters_idle;  /* not watched, longest first */
	TAILQ_HEAD(, cached_cluster) clusters_asked; /* not answered, longest first */
	size_t clusters_dynamic;
	struct rate cluster_rate; /* of dynamic ones that are new */
	struct loop_timer *target_timer, *cluster_timer;
	struct wait_list waits;
	struct table *credentialed; /* identity -> (any): has a certificate */
	struct loop_timer *wait_timer, *accept_timer, *arm_timer, *drain_timer;
	struct rate drop_rate;
	struct dns *dns;
	bool away, alone;      /* no agent; alone: and nobody waits for one any more */
	uint64_t back_ns;      /* when one came back; 0: never */
	bool draining, closed; /* closed: accepts no more */
};

/* --- worker.c */
/* settings, shard and reports must outlive it. 0 or -errno. */
int worker_new(unsigned int index, unsigned int count, const struct helper_settings *settings, struct link_shard *shard,
	       struct mailbox *reports, struct worker **out, struct err *err);
int worker_start(struct worker *w, struct err *err);		   /* its thread */
void worker_carried(struct worker *w, const struct carried *c);	   /* worker_observe.c */
void worker_order(struct worker *w, struct order *order);	   /* any thread; takes it */
void worker_join(struct worker *w);				   /* after ORDER_STOP; frees */
void worker_handle(struct worker *w, struct order *order);	   /* what the mailbox does with each; takes it */
void worker_free(struct worker *w);				   /* without a thread */
bool worker_report(struct worker *w, const struct report *report); /* copies; takes text and rule; false: lost */

/* --- worker_pod.c */
void worker_pod_set(struct worker *w, struct pod_spec *spec, int *fds, size_t fd_count); /* takes spec and fds */
void worker_pod_leave_mesh(struct worker *w, uint64_t cookie); /* no new connections, as far as it depends on it */
void worker_pod_remove(struct worker *w, uint64_t cookie);
/* The identity has a certificate from now on: its pods' listeners are served. */
void worker_pods_credentialed(struct worker *w, const char *uri);
void worker_pods_free(struct worker *w);
void worker_listeners_close(struct worker *w);
int worker_listeners_init(struct worker *w);

/* --- worker_sockets.c */
void worker_pools_init(struct pod_entry *entry);
void worker_pools_prefill(struct pod_entry *entry);
void worker_pools_done(struct pod_entry *entry);
void worker_sockets_arrived(struct worker *w, uint64_t cookie, enum pod_socket kind, int *fds, size_t count);
void worker_sockets_alone(struct worker *w);
void worker_sockets_back(struct worker *w); /* what was asked for before is lost */

/* --- worker_wait.c */
int worker_waits_init(struct worker *w);
void worker_waits_rearm(struct worker *w); /* the agent went or came */
/* When a question of this time limit has waited long enough: not while an agent may come, nor at once when it has. */
uint64_t worker_deadline(const struct worker *w, uint64_t deadline_ns);
/* pod: referenced until the wait ends. */
struct worker_wait *worker_wait_add(struct worker *w, struct wait_list *owner, struct worker_pod *pod, void *arg);
/* Out of its lists; then calls back and frees. */
void worker_wait_socket(struct worker_wait *wait, int fd);
void worker_wait_endpoint(struct worker_wait *wait, const struct endpoint_info *info);
void worker_wait_target(struct worker_wait *wait, struct l7_target *target);
void worker_wait_move(struct worker_wait *wait, struct wait_list *owner);
void worker_waits_fail(struct wait_list *owner, int error); /* all of them */

/* --- worker_endpoints.c */
int worker_endpoints_init(struct worker *w);
void worker_endpoints_free(struct worker *w);
void worker_endpoint_arrived(struct worker *w, struct endpoint_shared *shared); /* takes a reference */

/* --- worker_targets.c */
int worker_targets_init(struct worker *w);
void worker_targets_free(struct worker *w);
void worker_target_arrived(struct worker *w, struct target_news *news); /* takes it */
void worker_pod_targets_init(struct pod_entry *entry);
void worker_pod_targets_done(struct pod_entry *entry); /* the pod is gone: forgets them all */

/* --- worker_observe.c */
void worker_tap_set(struct worker *w, uint32_t id, char *filter, uint32_t per_second); /* takes filter */
void worker_taps_free(struct worker *w);

/* --- worker_clusters.c */
int worker_clusters_init(struct worker *w);
void worker_clusters_free(struct worker *w);
void worker_cluster_arrived(struct worker *w, struct cluster_news *news); /* takes it */
