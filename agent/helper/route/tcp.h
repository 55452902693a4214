/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that the helper must see and that are not HTTP: outbound by TCP and TLS routes, or to the cluster that
 * stands for the address; inbound by the L4 rules of the pod's policy. Bytes go between two transports, as they are.
 * One a worker; everything on its thread. */
#pragma once

#include "agent/base/addr.h"

#include <stdbool.h>
#include <stddef.h>

struct identity;
struct l7_target;
struct sb;
struct tcp_proxy;
struct tcp_relay;
struct worker;
struct worker_pod;

int tcp_proxy_new(struct worker *w, struct tcp_proxy **out);
void tcp_proxy_free(struct tcp_proxy *p); /* cuts what it carries */

/* A pod's call to `original`. Takes fd, of which nothing was read, and its place in the pod's limit (worker_pod_admit()).
 * name: of the client's TLS; "": none. */
void tcp_proxy_outbound(struct tcp_proxy *p, struct worker_pod *pod, int fd, const struct addr_port *original,
			struct l7_target *target, const char *name);
/* Who has called the pod, and where. */
struct tcp_call {
	struct addr_port peer, local;
	struct identity *caller; /* as authenticated; NULL: nobody. Who keeps the call takes a reference */
	bool from_node;		 /* as policy_input's */
};

/* A connection to the pod. sni: as policy_input's. Takes fd and its place. */
void tcp_proxy_inbound(struct tcp_proxy *p, struct worker_pod *pod, int fd, const struct tcp_call *call,
		       const char *sni);
/* Whether the pod's L4 rules would let it in. */
bool tcp_proxy_admits(const struct worker_pod *pod, const struct tcp_call *call, const char *sni);

/* Ahead: the other side of a connection whose client says nothing is called as if it were not HTTP, while the socket stays
 * with its owner; so a server that speaks first is not kept waiting. Called back, never from inside a call: the server has
 * spoken (or ended), or there is none to be had, and the relay is gone (nothing is counted; who takes the socket to
 * tcp_proxy_*() is told why). NULL: there is none. */
typedef void (*tcp_ahead_fn)(bool spoke, void *arg);
struct tcp_relay *tcp_ahead_outbound(struct tcp_proxy *p, struct worker_pod *pod, const struct addr_port *original,
				     struct l7_target *target, tcp_ahead_fn fn, void *arg);
struct tcp_relay *tcp_ahead_inbound(struct tcp_proxy *p, struct worker_pod *pod, const struct tcp_call *call,
				    tcp_ahead_fn fn, void *arg);
/* It is not HTTP, and names no server: the relay goes on by itself. Takes fd and its place. sni: inbound, as above. */
void tcp_ahead_take(struct tcp_relay *r, int fd, const char *sni);
void tcp_ahead_cancel(struct tcp_relay *r); /* NULL is fine; no callback then */

void tcp_proxy_policy_changed(struct tcp_proxy *p, struct worker_pod *pod); /* cuts what it forbids now */
void tcp_proxy_pod_removed(struct tcp_proxy *p, struct worker_pod *pod);
size_t tcp_proxy_live(const struct tcp_proxy *p);
void tcp_proxy_dump(struct tcp_proxy *p,
		    struct sb *out); /* objects of a JSON array, each after a comma but the first */
