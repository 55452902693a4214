/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by supervisor*.c (what should be, lifecycle) and peer*.c (one helper process and its messages). */
#pragma once

#include "agent/link/channel.h"
#include "agent/link/message.h"
#include "agent/link/process.h"
#include "agent/link/rate.h"
#include "agent/link/request_metrics.h"
#include "agent/link/supervisor.h"

struct loop_io;
struct loop_timer;
struct table;

enum {
	POD_LISTENERS = POD_DNS_TCP + 1,
	PEERS_MAX = 8,
	ORPHANS_MAX = 16,
	DUMPS_MAX = 16,
	LOG_SINKS_MAX = 16,
	TAPS_MAX = 4
};

/* A pod as it was set, so that a new helper can be given all. */
struct supervised_pod {
	uint64_t cookie;
	struct workload *workload;
	int fds[POD_LISTENERS]; /* own duplicates, -1: none */
};

/* One helper process; several live while old ones drain. */
struct peer {
	struct supervisor *s;
	struct peer *next;
	uint64_t serial; /* names it in requests that outlive it */
	struct process process;
	struct loop_io *exit_io;
	struct loop_timer *timer; /* to become ready; to end after draining; to answer */
	struct orphan *orphan;	  /* not a peer yet: it has not answered */
	uint64_t *unsure;	  /* pods that it had when this agent came */
	size_t unsure_count;
	struct loop_timer *prune;
	struct channel *channel; /* NULL: closed */
	struct link_memory *memory;
	uint64_t started_ns;
	bool ready, outgoing, draining, condemned;
	bool rejoined;		 /* an agent before this one started it */
	struct table *endpoints; /* packed endpoint -> struct sent_endpoint */
	struct table *targets;	 /* packed pod, address and host -> struct sent_target */
	struct table *clusters;	 /* name -> struct sent_cluster */
	struct table *vhosts;	 /* hash -> struct sent_vhost */
	uint64_t vhost_ids;
	struct table *csrs; /* identity -> struct rate */
	struct rate csr_rate, socket_rate, endpoint_rate, target_rate, cluster_rate, dns_rate, drop_rate, result_rate,
		log_rate, bad_rate, message_rate, span_rate, tap_rate;
};

struct sent_endpoint {
	struct addr_port endpoint;
	uint64_t hash; /* of what was sent last */
};

/* What was said last of a target or cluster. */
struct sent_object {
	enum { SENT_NOTHING, SENT_NONE, SENT_OWN, SENT_OBJECT } what;
	uint64_t id;
};

/* Routes that a helper has, by a hash that nobody outside can aim at: they are most of a target, and the pods of a
 * namespace that call one service have the same. */
struct sent_vhost {
	uint64_t hash, id;
	size_t targets; /* that have it */
};

struct sent_target {
	struct sent_object sent;
	struct sent_vhost *vhost; /* NULL: none */
	uint64_t cookie;
	struct addr_port original;
	char host[]; /* "": the address alone */
};

struct sent_cluster {
	struct sent_object sent;
	bool gone; /* there is none any more, and that is still to be said */
	char name[];
};

struct orphan {
	struct supervisor *s;
	struct process process;
	struct loop_io *exit_io;
	struct peer *peer; /* that it may become; NULL: it can't be spoken with */
};

struct dump {
	struct dump *next;
	struct supervisor *s;
	uint32_t id;
	uint64_t peer;
	supervisor_dump_fn fn;
	void *arg;
	struct sb *text;
	struct loop_timer *timer;
};

struct log_sink {
	char *path; /* NULL: free */
	int fd;	    /* own duplicate, -1: none */
};

struct tap {
	uint32_t id; /* 0: free */
	char *filter;
	uint32_t per_second;
	supervisor_tap_fn fn;
	void *arg;
};

struct supervisor {
	struct loop *loop;
	char *helper_path, *run_dir, *pid_file, *node;
	uint32_t drain_ms, draining_max;
	uid_t uid;
	gid_t gid;
	struct supervisor_events events;
	Weft__Link__Hello *hello;
	Weft__Link__Trust *trust; /* NULL: not set yet */
	enum log_level log_level;
	struct table *pods;	  /* cookie -> struct supervised_pod */
	struct table *identities; /* URI -> struct identity_use */
	struct peer *peers, *current;
	uint64_t serials;
	struct loop_timer *respawn;
	unsigned int quick_deaths;
	struct orphan *orphans[ORPHANS_MAX];
	bool orphans_draining, orphans_ending;
	struct dump *dumps;
	uint32_t dump_ids;
	struct log_sink sinks[LOG_SINKS_MAX];
	struct rate carried_rate;
	struct tap taps[TAPS_MAX];
	uint32_t tap_ids;
	struct link_shard past;
	struct request_totals
		*past_requests; /* of helpers that have ended, and of labels long unused; NULL: none yet */
	struct loop_timer *requests_timer;
	uint64_t requests_aged_s;
	uint64_t restarts, protocol_errors, rate_limited;
};

struct identity_use {
	size_t pods;
};

/* --- supervisor_rejoin.c */
void supervisor_find_orphans(struct supervisor *s);
void supervisor_orphans_end(struct supervisor *s); /* those that can't be told, at once */
void supervisor_orphans_free(struct supervisor *s);
void rejoin_tell(struct peer *peer, bool with_socket);
void rejoin_unlink(const struct supervisor *s, pid_t pid);
void rejoin_on_message(struct peer *peer, const Weft__Link__ToAgent *m, const int *fds, size_t fd_count);

/* --- peer.c */
int peer_start(struct supervisor *s, struct peer **out, struct err *err);
struct peer *peer_new(struct supervisor *s);		    /* without a process */
int peer_watch(struct peer *peer, struct process *process); /* takes the process */
void peer_on_closed(const struct err *err, void *peer);
void peer_tell_rest(struct peer *peer); /* all but the greeting */
void peer_free(struct peer *peer);	/* the process, if alive, is left alone */
/* -EMSGSIZE is the caller's to report; a queue that is full condemns the helper. */
int peer_send(struct peer *peer, Weft__Link__ToHelper__MsgCase which, void *message, const int *fds, size_t fd_count);
void peer_condemn(struct peer *peer, const char *why); /* kills it; what follows happens when it has ended */
void peer_drain(struct peer *peer);
void peer_log(struct supervisor *s, enum log_level level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* --- peer_pod.c */
bool peer_pod_set(struct peer *peer, const struct supervised_pod *pod, bool with_fds, struct err *err);

/* --- peer_messages.c */
void peer_on_message(const uint8_t *bytes, size_t len, int *fds, size_t fd_count, void *peer);
int peer_endpoint_send(struct peer *peer, struct sent_endpoint *sent);

/* Counted against `rate`; false: beyond it. */
bool peer_within(struct peer *peer, struct rate *rate, uint32_t count);

/* --- peer_targets.c */
void peer_on_target_query(struct peer *peer, const Weft__Link__TargetQuery *m);
void peer_on_target_forget(struct peer *peer, const Weft__Link__TargetForget *m);
void peer_on_cluster_query(struct peer *peer, const Weft__Link__ClusterQuery *m);
void peer_on_cluster_forget(struct peer *peer, const Weft__Link__ClusterForget *m);
void peer_targets_refresh(struct peer *peer); /* all that it follows: sends what differs */

/* --- supervisor_observe.c */
void supervisor_observe_tell(struct peer *peer); /* a new one: sinks and taps */
void supervisor_observe_free(struct supervisor *s);
void peer_on_spans(struct peer *peer, const Weft__Link__Spans *m);
void peer_on_tap_record(struct peer *peer, const Weft__Link__TapRecord *m);

/* --- supervisor.c */
void supervisor_peer_ready(struct peer *peer);
void supervisor_peer_ended(struct peer *peer, const char *how);
void supervisor_note_pids(struct supervisor *s);
void supervisor_bound_peers(struct supervisor *s); /* beyond so many that drain, the oldest have had their time */
/* --- supervisor_dump.c */
void supervisor_dump_piece(struct peer *peer, uint32_t id, const char *json, bool more);
void supervisor_dump_peer_ended(struct supervisor *s, uint64_t peer); /* 0: all */
