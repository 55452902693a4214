/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps one weft-helper running and speaks with it: starts it, restarts it when it dies and gives it everything anew,
 * drains the old one when settings change, hands over sockets, and answers its questions through callbacks. The helper is
 * not trusted: what it sends is checked, bounded and rate limited; one that breaks the protocol is killed and replaced.
 * All calls and callbacks on the agent's loop thread. */
#pragma once

#include "agent/base/addr.h"
#include "agent/base/log.h"
#include "agent/link/metrics.h"
#include "agent/model/pod_socket.h"
#include "agent/model/service.h"
#include "agent/model/workload.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct err;
struct http_cluster;
struct l7_target;
struct loop;
struct mesh_settings;
struct request_totals;
struct supervisor;

struct supervisor_options {
	struct loop *loop;
	const char *helper_path; /* "/usr/libexec/weft/weft-helper" */
	const char *run_dir;	 /* holds helper.pid; writable by root alone */
	uid_t uid;		 /* that the helper changes to; not 0 */
	gid_t gid;
	const char *node;
};

/* What a destination is. Pointers are borrowed and must be valid until the callback's caller has returned. */
struct link_endpoint {
	bool known;
	enum workload_tunnel tunnel;
	struct addr_port tunnel_addr;  /* pod IP:15008 */
	const char *const *identities; /* SPIFFE URIs, any of which the peer may have */
	size_t identity_count;
	struct tcp_settings tcp;
	const char *workload, *service; /* for logs and dumps; may be NULL */
};

struct link_dns_answer {
	bool known;		  /* the mesh owns the name; without addresses the answer is NODATA */
	const struct addr *addrs; /* borrowed */
	size_t addr_count;
	uint32_t ttl_s;
};

struct link_dropped {
	uint64_t cookie;
	enum drop_reason reason;
	bool inbound;
	struct addr_port source, destination;
	const char *peer, *rule; /* "" when not known */
};

struct supervisor_events {
	void (*on_ready)(void *arg);		     /* a helper takes connections; pods may be set before */
	void (*on_died)(const char *why, void *arg); /* the current helper; its successor is on its way */
	/* Sockets in the pod's network namespace, as kernel_pod_sockets(): how many (the supervisor takes them), or -errno. */
	int (*open_sockets)(uint64_t cookie, enum pod_socket kind, int *fds, size_t count, struct err *err, void *arg);
	void (*endpoint)(const struct addr_port *endpoint, struct link_endpoint *out, void *arg);
	/* What a call of the pod's to an address means above L4; host: of a request, when it is not the address's own, else
	 * NULL. *out: a new reference, or NULL when nothing is known (of the host: what is true of the address holds).
	 * May be NULL. Asked again at each supervisor_refresh() for all that helpers follow: it has to be cheap. */
	void (*target)(uint64_t cookie, const struct addr_port *original, const char *host, struct l7_target **out,
		       void *arg);
	/* A cluster by name, the same way. */
	void (*cluster)(const char *name, struct http_cluster **out, void *arg);
	/* name: lower case, no final dot */
	void (*dns)(uint64_t cookie, const char *name, struct link_dns_answer *out, void *arg);
	/* The identity is that of a pod that was set. Answer now or later with supervisor_certificate(request, ...). */
	void (*on_csr)(uint64_t request, const char *identity, const char *csr_pem, void *arg);
	void (*on_dropped)(const struct link_dropped *dropped, void *arg);
	void (*on_endpoint_result)(const struct addr_port *endpoint, bool ok, void *arg);
	void (*on_log)(enum log_level level, const char *text, void *arg); /* of the helper, and about it */
	/* Spans of `count` requests, in the form of span.h; nothing in it was checked. May be NULL. */
	void (*on_spans)(const uint8_t *batch, size_t len, uint32_t count, void *arg);
	void *arg;
};

/* Starts the helper. Helpers that an agent before this one left behind are found through helper.pid and go on until
 * supervisor_orphans_drain(). */
int supervisor_new(const struct supervisor_options *options, const struct mesh_settings *mesh,
		   const struct supervisor_events *events, struct supervisor **out, struct err *err);
/* For an agent that can't go on: its helpers finish what they carry and exit. Before supervisor_free(). */
void supervisor_stop(struct supervisor *s);
/* The helper is left running and carries on alone with what it has. */
void supervisor_free(struct supervisor *s);
/* New settings of the mesh. Those that the helper reads at start (threads, trust domain, keys, limits) start a new
 * helper; the old one drains. */
int supervisor_settings(struct supervisor *s, const struct mesh_settings *mesh, struct err *err);
/* Starts a new helper and drains the present one when the new one is ready (after an upgrade of the binary). */
int supervisor_replace(struct supervisor *s, struct err *err);

/* A new or changed pod. fds: its listeners by kind, [POD_LISTEN_OUTBOUND .. POD_DNS_TCP], -1 for none, duplicated here;
 * NULL: those that it has. The workload is kept by reference. -EMSGSIZE: its policy is too large for a message. */
int supervisor_pod_set(struct supervisor *s, uint64_t cookie, struct workload *workload, const int *fds,
		       struct err *err);
void supervisor_pod_remove(struct supervisor *s, uint64_t cookie);
/* The same for a pod that is there still, and was only taken from the mesh: what is carried for it may finish, for 5 s. */
void supervisor_pod_leave(struct supervisor *s, uint64_t cookie);
/* Trusted roots (PEM) and revoked serials (hex), both copied. */
int supervisor_trust(struct supervisor *s, const char *const *roots_pem, size_t root_count, const char *const *revoked,
		     size_t revoked_count, struct err *err);
/* Answers on_csr. error non-NULL: refused, and chain_pem is not read. An unknown request is ignored: its helper died. */
void supervisor_certificate(struct supervisor *s, uint64_t request, const char *identity, const char *chain_pem,
			    uint64_t not_after_s, const char *error);
void supervisor_rotate(struct supervisor *s, const char *identity); /* NULL: all */
/* The plan changed: asks `endpoint`, `target` and `cluster` again for all that the helper follows, sends what differs, and
 * has it forget names. */
void supervisor_refresh(struct supervisor *s);
void supervisor_log_level(struct supervisor *s, enum log_level level);
/* Once the new agent's listeners are in force everywhere: what was left behind finishes what it carries and exits. */
void supervisor_orphans_drain(struct supervisor *s);

/* what: "connections", "pools", "pods", "secrets". Calls back once with a JSON array, or with NULL after 5 s or when the
 * helper died. 0 or -errno (nothing is called back then). */
typedef void (*supervisor_dump_fn)(const char *json, void *arg);
int supervisor_dump(struct supervisor *s, const char *what, supervisor_dump_fn fn, void *arg);

/* Where the lines of access logs for `path` go: fd is duplicated and given to all helpers, those to come too, in place of the
 * one before (so it is reopened after a rotation). -1: nowhere. -E2BIG: there are too many. */
int supervisor_log_sink(struct supervisor *s, const char *path, int fd, struct err *err);

/* A connection that the kernel alone has carried, for the access log of its pod; borrowed. Texts: NULL is none. */
struct link_carried {
	uint64_t cookie;				/* of the pod */
	bool server;					/* it arrived there */
	struct addr_port source, destination, upstream; /* destination: as asked for; upstream port 0: none */
	uint64_t start_ns, duration_ns;			/* start: CLOCK_REALTIME */
	uint64_t received_bytes, sent_bytes;		/* from the client, to it */
	enum drop_reason reason;			/* DROP_NONE: it ended */
	const char *cluster, *peer, *rule;
};
/* False: the helper can't keep up, or there is none; the line is lost. At most some thousands a second. */
bool supervisor_carried(struct supervisor *s, const struct link_carried *c);

/* Calls back with a JSON object for each request that the filter takes (see the helper's observe), at most per_second, until
 * it is stopped. 0, -EBUSY: too many at once, or -ENOMEM. What a helper sends is bounded and not checked. */
typedef void (*supervisor_tap_fn)(const char *json, void *arg);
int supervisor_tap_start(struct supervisor *s, const char *filter, uint32_t per_second, supervisor_tap_fn fn, void *arg,
			 uint32_t *id);
void supervisor_tap_stop(struct supervisor *s, uint32_t id);

/* Sums over all workers and all helpers, past ones included (their gauges are not). */
void supervisor_metrics(const struct supervisor *s, struct link_shard *out);

/* Counts of requests, the same way, added to t. 0 or -ENOMEM. */
int supervisor_requests(const struct supervisor *s, struct request_totals *t);

struct supervisor_status {
	pid_t pid; /* 0: none at the moment */
	bool ready;
	uint64_t started_ns;			   /* CLOCK_MONOTONIC */
	uint64_t restarts;			   /* after deaths, not after settings */
	uint64_t protocol_errors;		   /* messages refused, or that cost a helper its life */
	uint64_t rate_limited;			   /* messages beyond their rate */
	size_t draining, orphans;		   /* older helpers that still carry connections */
	size_t pods, endpoints, targets, clusters; /* the last three: that the current helper follows */
};
void supervisor_status(const struct supervisor *s, struct supervisor_status *out);
