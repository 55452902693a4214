/* SPDX-License-Identifier: Apache-2.0 */
/* Accepted connections that are to be seen above L4, until it is known what they speak: HTTP goes to the engine, all else
 * to the TCP proxy. Their first bytes are only peeked at. One a worker; everything on its thread. */
#pragma once

#include "agent/base/addr.h"
#include "agent/model/pod_socket.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct acceptor;
struct worker;
struct worker_pod;

int acceptor_new(struct worker *w, struct acceptor **out);
void acceptor_free(struct acceptor *a);

/* A pod's call for which the kernel chose no endpoint. Takes fd. */
void acceptor_outbound(struct acceptor *a, struct worker_pod *pod, int fd, const struct addr_port *original);
/* A connection to the pod. kind: of the listener, POD_LISTEN_ATTESTED (the kernel vouches for the peer's address),
 * _ANONYMOUS or _NODE. Takes fd. */
void acceptor_inbound(struct acceptor *a, struct worker_pod *pod, int fd, const struct addr_port *peer,
		      const struct addr_port *local, enum pod_socket kind);
void acceptor_pod_removed(struct acceptor *a, struct worker_pod *pod);
void acceptor_drain(struct acceptor *a);	/* ends those that have said nothing */
size_t acceptor_live(const struct acceptor *a); /* those that have, or may be server-first */

/* How connections to a port of the pod are treated. */
enum port_kind {
	PORT_L4,    /* L4 rules alone */
	PORT_HTTP,  /* declared */
	PORT_SNIFF, /* by the first bytes */
	PORT_NAME,  /* L4 rules alone, which ask for the TLS server name */
};
enum port_kind pod_port_kind(const struct worker_pod *pod, uint16_t port);
/* What is said of a port, or of all; NULL: nothing. Until the pod's description changes. */
const struct inbound_port *pod_inbound_port(const struct worker_pod *pod, uint16_t port);
/* Where the application listens that is called at an address of the pod. */
struct addr_port pod_inbound_target(const struct worker_pod *pod, const struct addr_port *called);
