/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by dns.c (UDP) and dns_tcp.c. */
#pragma once

#include "agent/helper/dns.h"
#include "agent/helper/dns_message.h"
#include "agent/helper/dns_names.h"
#include "agent/helper/worker_internal.h"

enum { DNS_UPSTREAM_PORT = 53, DNS_QUERIES_PER_POD = 512, DNS_CONNS_PER_POD = 128 };

struct dns {
	struct worker *w;
	struct dns_names *names;
	size_t live; /* queries and connections */
};

TAILQ_HEAD(dns_query_list, dns_udp_query);
TAILQ_HEAD(dns_conn_list, dns_conn);

struct dns_pod {
	struct dns *dns;
	struct worker_pod *pod;
	int fd;
	struct loop_io *io;
	struct dns_query_list queries;
	struct dns_conn_list conns;
	size_t query_count, conn_count;
};

/* Non-blocking connect of a brokered socket, of whichever family it is. 0 (also when under way) or -errno. */
int dns_connect(int fd, const struct addr_port *to);
void dns_count(uint64_t *counter); /* of this worker's shard */
void dns_malformed(struct dns_pod *pod, const struct addr_port *resolver);

/* --- dns_tcp.c */
void dns_conns_free(struct dns_pod *pod);
