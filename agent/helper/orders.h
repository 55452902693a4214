/* SPDX-License-Identifier: Apache-2.0 */
/* What the link thread and the workers say to each other through mailboxes. Objects in them are immutable and
 * atomically reference-counted; a message owns its references and descriptors. */
#pragma once

#include "agent/base/addr.h"
#include "agent/base/log.h"
#include "agent/helper/worker.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct identity;
struct policy;

enum { POD_LISTENERS = POD_DNS_TCP + 1 };

/* A pod as the agent describes it, shared by all workers. */
struct pod_spec {
	unsigned int refs;
	uint64_t cookie;
	char *uid, *ns, *name, *owner, *canonical_name, *canonical_revision;
	struct identity *identity;
	struct policy *policy; /* NULL: none yet, everything inbound is refused */
	struct addr *addrs;
	size_t addr_count;
	uint32_t max_connections;
	struct http_filters *inbound, *outbound; /* NULL: none */
	struct telemetry *telemetry;
	struct label *labels; /* sorted by key */
	size_t label_count;
	struct inbound_port *l7_ports; /* sorted by port */
	size_t l7_port_count;
	bool l7_other_ports;
};
struct pod_spec *pod_spec_ref(struct pod_spec *spec);
void pod_spec_unref(struct pod_spec *spec);

struct endpoint_shared {
	unsigned int refs;
	bool absent;	 /* nobody can say any more what it is: only info.endpoint holds */
	bool no_trouble; /* atomic, by all workers: it was reached since a failure was reported */
	struct endpoint_info info;
};
struct endpoint_shared *endpoint_shared_ref(struct endpoint_shared *e);
void endpoint_shared_unref(struct endpoint_shared *e);

/* What a call above L4 means, or goes to, as the agent says. */
enum news { NEWS_ABSENT, /* nobody can say any more */ NEWS_NONE, NEWS_OWN, /* as the address alone */ NEWS_OBJECT };

struct target_news {
	uint64_t cookie;
	struct addr_port original;
	enum news what;
	struct l7_target *target;
	char host[]; /* "": the address alone */
};
struct target_news *target_news_new(uint64_t cookie, const struct addr_port *original, const char *host);
void target_news_free(struct target_news *news);

struct cluster_news {
	enum news what;
	struct http_cluster *cluster;
	char name[];
};
struct cluster_news *cluster_news_new(const char *name);
void cluster_news_free(struct cluster_news *news);

struct dns_answer {
	char *name; /* lower case */
	bool known;
	struct addr *addrs;
	size_t addr_count;
	uint32_t ttl_s;
};
void dns_answer_free(struct dns_answer *a);

/* A connection that the kernel alone has carried, for the access log. */
struct carried {
	uint64_t cookie;
	bool server;
	struct addr_port source, destination, upstream; /* upstream port 0: none */
	uint64_t start_ns, duration_ns, received_bytes, sent_bytes;
	enum drop_reason reason;
	struct identity *peer; /* NULL: anonymous */
	char *cluster, *rule;
};
void carried_free(struct carried *c);

/* Link thread to worker. */
enum order_kind {
	ORDER_POD,	   /* spec; fds[POD_LISTENERS], -1 for none, or fd_count 0: those that it has */
	ORDER_POD_LEAVE,   /* cookie: no new connections; it is removed soon */
	ORDER_POD_REMOVE,  /* cookie */
	ORDER_SOCKETS,	   /* cookie, socket, fds; none: refused */
	ORDER_ENDPOINT,	   /* endpoint */
	ORDER_TARGET,	   /* target */
	ORDER_CLUSTER,	   /* cluster */
	ORDER_CREDENTIALS, /* credentials */
	ORDER_TRUST,	   /* trust */
	ORDER_DNS,	   /* cookie, answer */
	ORDER_DNS_FLUSH,
	ORDER_AWAY,  /* the agent is gone: what has to be asked for waits for the next */
	ORDER_ALONE, /* and none came: nothing that has to be asked for will come */
	ORDER_BACK,  /* there is one again */
	ORDER_DRAIN,
	ORDER_DUMP,    /* id, text: what */
	ORDER_CARRIED, /* carried */
	ORDER_TAP,     /* id, text: filter; count: requests a second, 0: no more */
	ORDER_STOP,
};

struct order {
	enum order_kind kind;
	uint32_t id, count;
	uint64_t cookie;
	enum pod_socket socket;
	union {
		struct pod_spec *spec;
		struct endpoint_shared *endpoint;
		struct target_news *target;
		struct cluster_news *cluster;
		struct tls_credentials *credentials;
		struct tls_trust *trust;
		struct dns_answer *answer;
		struct carried *carried;
		char *text;
	};
	size_t fd_count;
	int fds[];
};
struct order *order_new(enum order_kind kind, size_t fd_count); /* fds -1; NULL: no memory */
void order_free(struct order *order);				/* with all that is still in it */

/* Worker to link thread. */
enum report_kind {
	REPORT_SOCKETS_WANTED, /* cookie, socket, count */
	REPORT_ENDPOINT_QUERY, /* destination */
	REPORT_ENDPOINT_FORGET,
	REPORT_ENDPOINT_RESULT, /* ok */
	REPORT_TARGET_QUERY,	/* cookie, destination, text: host or "" */
	REPORT_TARGET_FORGET,
	REPORT_CLUSTER_QUERY, /* text: name */
	REPORT_CLUSTER_FORGET,
	REPORT_DNS_QUERY, /* cookie, text */
	REPORT_DROPPED,	  /* cookie, reason, inbound, source, destination, text: peer, rule */
	REPORT_DUMP,	  /* id, text: JSON array, NULL when there was no memory */
	REPORT_LIVE,	  /* count, while draining */
	REPORT_LOG,	  /* level, text; any thread */
	REPORT_SPANS,	  /* text: bytes, len of them; count */
	REPORT_TAP,	  /* id, text: JSON */
};

struct report {
	enum report_kind kind;
	unsigned int worker;
	uint64_t cookie;
	enum pod_socket socket;
	uint32_t id, count;
	bool ok, inbound;
	enum drop_reason reason;
	enum log_level level;
	struct addr_port source, destination;
	char *text, *rule;
	size_t len;
};
void report_free(struct report *report);
