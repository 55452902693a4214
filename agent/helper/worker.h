/* SPDX-License-Identifier: Apache-2.0 */
/* A worker: one thread with its own loop, pods, socket pools, TLS contexts and metric shard. It shares nothing on
 * the path; the link thread (helper main) sends it immutable objects through its mailbox and takes requests through
 * its own. Everything here is called on the worker's thread. Seam: worker*.c, pod*.c, dns*.c, sandbox.c, main are one
 * part; tls*.c, h2*.c, hbone*.c, relay*.c, pool*.c the other, which sees only this header. */
#pragma once

#include "agent/base/addr.h"
#include "agent/link/metrics.h"
#include "agent/model/pod_socket.h"
#include "bpf/reason.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cluster_endpoint;
struct connection_log;
struct hbone;
struct http_cluster;
struct http_filters;
struct http_proxy;
struct inbound_port;
struct l7_target;
struct label;
struct loop;
struct identity;
struct observe;
struct policy;
struct request_writer;
struct tcp_proxy;
struct telemetry;
struct transports;
struct worker;

struct helper_settings {
	char *trust_domain;
	char **trust_domain_aliases;
	size_t trust_domain_alias_count;
	char *node;
	uint32_t threads, max_connections_per_pod, connect_timeout_ms;
	bool rsa_keys;
	struct log_writer *log_writer; /* of access logs; shared by all workers. NULL: none */
};

/* A pod as one worker sees it. Freed when removed and its last connection is gone (pod_ref/unref, worker-local). */
struct worker_pod {
	unsigned int refs;
	uint64_t cookie;
	bool removed;
	char *uid, *ns, *name;
	char *owner;				   /* the workload that it belongs to, by name; may be NULL */
	char *canonical_name, *canonical_revision; /* Istio's service.name and service.version; may be NULL */
	struct identity *identity;
	struct policy *policy; /* replaced as a whole; hbone_policy_changed() is called after */
	struct addr *addrs;
	size_t addr_count;
	uint32_t max_connections, connections; /* of this worker: the pod's limit divided by workers, rounded up */
	/* Above L4: borrowed from the pod's description; who keeps one beyond a callback takes a reference. May be NULL. */
	struct http_filters *inbound, *outbound;
	struct telemetry *telemetry;
	struct label *labels; /* sorted by key */
	size_t label_count;
	uint64_t labels_id; /* changes with what metrics say of it: names, identity, labels */
	struct inbound_port *l7_ports;
	size_t l7_port_count;
	bool l7_other_ports;
};

/* What is known of a destination; owned by the worker's cache, valid during the callback. */
struct endpoint_info {
	struct addr_port endpoint;
	bool known, hbone;
	struct addr_port tunnel;
	char **identities; /* SPIFFE URIs, exact */
	size_t identity_count;
	uint32_t connect_timeout_ms, max_connections, keepalive_time_s, keepalive_interval_s, keepalive_probes;
	uint32_t idle_timeout_ms, max_connection_duration_ms; /* 0: none */
	char *workload, *service;
};

/* ---- provided by the worker */
struct loop *worker_loop(struct worker *w);
const struct helper_settings *worker_settings(const struct worker *w);
struct link_shard *worker_metrics(struct worker *w);
struct request_writer *worker_requests(struct worker *w); /* agent/link/request_metrics.h; NULL: nobody counts */
struct worker_pod *worker_pod_ref(struct worker_pod *pod);
void worker_pod_unref(struct worker *w, struct worker_pod *pod);
/* The one pod that has the address, if its connections are accepted. NULL: none, or several have it. Looks at all pods. */
struct worker_pod *worker_pod_by_addr(struct worker *w, const struct addr *addr);

/* A socket in the pod's namespace from the pool, or when one arrives. fd is the callee's; -errno on failure or after
 * 2 s (count DROP_NO_SOCKET). May call back at once. The handle cancels; NULL when it has called back already. */
struct worker_wait;
typedef void (*worker_socket_fn)(int fd, void *arg);
struct worker_wait *worker_socket_take(struct worker *w, struct worker_pod *pod, enum pod_socket kind,
				       worker_socket_fn fn, void *arg);
typedef void (*worker_endpoint_fn)(const struct endpoint_info *info, void *arg); /* NULL: no answer within 2 s */
struct worker_wait *worker_endpoint_get(struct worker *w, const struct addr_port *endpoint, worker_endpoint_fn fn,
					void *arg);
void worker_wait_cancel(struct worker_wait *wait); /* NULL is fine */
/* What a call of the pod's to an address means above L4. host: of the request, when it is not the address's own; NULL: the
 * address alone. NULL: nothing is known of the address, no answer within 2 s, or the pod has asked for too many hosts; a host
 * that is not known gets the address's own target. Valid during the callback; may call back at once, as the others. Answers
 * are kept and change with the configuration: cheap enough to ask for each request. */
typedef void (*worker_target_fn)(struct l7_target *target, void *arg);
struct worker_wait *worker_target_get(struct worker *w, struct worker_pod *pod, const struct addr_port *original,
				      const char *host, worker_target_fn fn, void *arg);
/* A cluster by name; NULL: there is none, or no answer within 2 s (a late one still comes). Its later versions, and its end
 * (NULL), go to `changed` as long as the watch is not ended. What is known is told before this returns. NULL: no memory, and
 * nothing is called back. A callback may end its own watch, and make and end others. */
struct cluster_watch;
typedef void (*worker_cluster_fn)(struct http_cluster *cluster, void *arg);
struct cluster_watch *worker_cluster_watch(struct worker *w, const char *name, worker_cluster_fn changed, void *arg);
void worker_cluster_unwatch(struct cluster_watch *watch); /* NULL is fine */
struct http_proxy *worker_http(struct worker *w);
struct observe *worker_observe(struct worker *w);
struct hbone *worker_hbone(struct worker *w);
struct transports *worker_transports(struct worker *w);
struct tcp_proxy *worker_tcp(struct worker *w);
/* A batch of spans for the agent, copied. When the agent is away or slow they are dropped, and counted. */
void worker_spans(struct worker *w, const uint8_t *bytes, size_t len, uint32_t count);
/* Requests that somebody watches live (meshctl tap): those that the filter takes are told of, within the rate. */
struct worker_tap {
	uint32_t id;
	const char *filter;
};
enum { WORKER_TAPS_MAX = 4 };
/* How many taps there are; *generation changes when they do. Borrowed until then. */
size_t worker_taps(const struct worker *w, const struct worker_tap **taps, uint32_t *generation);
bool worker_tap_allows(struct worker *w, uint32_t id);		   /* one more within its rate: else it is counted */
void worker_tap_record(struct worker *w, uint32_t id, char *json); /* takes it */
/* Whether a destination could be reached, for outlier detection. Every failure is reported, and the first success after. */
void worker_endpoint_result(struct worker *w, const struct addr_port *endpoint, bool ok);

/* A refusal: counts it and reports it to the agent (rate limited). peer and rule may be NULL. */
struct worker_drop {
	struct worker_pod *pod;
	enum drop_reason reason;
	bool inbound;
	struct addr_port source, destination;
	const char *peer, *rule;
};
void worker_drop(struct worker *w, const struct worker_drop *drop);

/* Per-connection accounting against the pod's limit. */
bool worker_pod_admit(struct worker *w, struct worker_pod *pod); /* false: over the limit; the caller drops */
void worker_pod_leave(struct worker *w, struct worker_pod *pod);

/* ---- provided by hbone.c for the worker */
struct hbone; /* per-worker state: contexts, pools, connections */
int hbone_new(struct worker *w, struct hbone **out);
void hbone_free(struct hbone *h);
/* A captured connection of the pod's application: fd accepted from POD_LISTEN_OUTBOUND; takes fd, and log (NULL: it gets its
 * own, if lines are asked for). */
void hbone_outbound(struct hbone *h, struct worker_pod *pod, int fd, const struct addr_port *endpoint,
		    const struct addr_port *original, struct connection_log *log);
/* A TCP connection accepted from POD_LISTEN_HBONE; takes fd. */
void hbone_inbound(struct hbone *h, struct worker_pod *pod, int fd, const struct addr_port *peer,
		   const struct addr_port *local);
/* Credentials of an identity, or new ones: PEM chain (leaf first) and private key. Established connections stay. */
struct tls_credentials; /* immutable, atomically reference-counted; made by the link thread (tls_credentials.h) */
struct tls_trust;	/* roots and revoked serials; the same */
void hbone_credentials(struct hbone *h, struct tls_credentials *credentials);
void hbone_trust(struct hbone *h, struct tls_trust *trust);	    /* cuts live connections whose peer it revokes */
void hbone_policy_changed(struct hbone *h, struct worker_pod *pod); /* cuts live connections it forbids now */
void hbone_pod_removed(struct hbone *h, struct worker_pod *pod);
void hbone_drain(struct hbone *h);	  /* GOAWAY everywhere, no new pooled connection */
size_t hbone_live(const struct hbone *h); /* connections and streams still carried */
/* Appends a JSON array for "connections" or "pools". */
struct sb;
void hbone_dump(struct hbone *h, const char *what, struct sb *out);

/* What the link thread uses of tls_credentials.h (hbone's), on its own thread; results go to all workers:
 *   int tls_key_new(bool rsa, struct tls_key **out, struct err *err);
 *   void tls_key_free(struct tls_key *key);
 *   int tls_key_csr(const struct tls_key *key, const char *uri, char **csr_pem, struct err *err);   caller frees csr_pem
 *   int tls_credentials_new(const char *uri, const struct tls_key *key, const char *chain_pem,
 *                           struct tls_credentials **out, struct err *err);   refuses a chain that is not the key's
 *   tls_credentials_ref/unref, tls_trust_ref/unref
 *   int tls_trust_new(const char *roots_pem, const char *const *revoked, size_t revoked_count,
 *                     struct tls_trust **out, struct err *err);
 * hbone_credentials() and hbone_trust() take over the reference that they are given. The drain: workers accept for two
 * more seconds, close their listeners, then call hbone_drain(). */
