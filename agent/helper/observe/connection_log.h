/* SPDX-License-Identifier: Apache-2.0 */
/* The line that access logs have of a connection which is no HTTP, while the connection lives. There is one only where a
 * Telemetry resource has lines written, so that the others cost a look at a pointer. Worker's thread. */
#pragma once

#include "bpf/reason.h"

#include <stdint.h>

struct addr_port;
struct connection_log;
struct http_cluster;
struct identity;
struct worker;
struct worker_pod;

/* As it was when it ended; borrowed. */
struct connection_end {
	const struct addr_port *source;	     /* NULL: what connection_log_caller() said, as for the peer */
	const struct addr_port *destination; /* as asked for; NULL: what connection_log_asked() said */
	const struct addr_port *upstream, *upstream_local; /* NULL: none */
	const struct http_cluster *cluster;		   /* NULL: what connection_log_asked() said */
	const char *server_name;			   /* the same */
	const struct identity *peer;			   /* as authenticated; NULL: anonymous */
	uint64_t received_bytes, sent_bytes;		   /* from the client, to it */
};

/* It begins now. reporter: REPORTER_CLIENT or REPORTER_SERVER. NULL: nobody wants a line (or there is no memory). */
struct connection_log *connection_log_new(struct worker *w, struct worker_pod *pod, int reporter);
/* Of one that is over already: start: CLOCK_REALTIME. */
void connection_log_times(struct connection_log *l, uint64_t start_ns, uint64_t duration_ns);
/* What only who begins it knows: what was called, where it goes (NULL or "": not known) and the name in the client's TLS
 * (the same). Copied. */
void connection_log_asked(struct connection_log *l, const struct addr_port *destination, const char *cluster,
			  const char *server_name);
void connection_log_name(struct connection_log *l, const char *server_name); /* when it is known later; as there */
/* Who calls, as authenticated: a reference is taken. */
void connection_log_caller(struct connection_log *l, const struct addr_port *source, struct identity *peer);
/* The kernel has chosen the endpoint: the cluster is that of the service (host; NULL or "": none) that was called for it,
 * unless it is known already. */
void connection_log_chosen(struct connection_log *l, const struct addr_port *endpoint, const char *service);
/* It was ended by us, or never came about. rule: of the policy that refused it, may be NULL. Within the callback of a
 * connect that failed, why: transport_failure(); else NULL. */
void connection_log_refused(struct connection_log *l, enum drop_reason reason, const char *rule, const char *why);
void connection_log_timed_out(struct connection_log *l); /* it has lived as long as it may */
/* Writes the line, and frees it. end NULL: there is to be none. */
void connection_log_end(struct connection_log *l, const struct connection_end *end);
