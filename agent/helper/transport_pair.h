/* SPDX-License-Identifier: Apache-2.0 */
/* The way from a pod to another one of the same node without a socket: both are this worker's, so what the caller's side of
 * the engine writes is read by the callee's side of it. On the worker's thread. */
#pragma once

#include "agent/helper/transport.h"

struct identity;

/* Two transports, each the other's peer. Nothing is delivered to one before transport_on(). 0 or -ENOMEM. */
int transport_pair_new(struct worker *w, struct transport **a, struct transport **b);
/* Who is at the other end: takes the identity, which lives as long as the transport. */
void transport_pair_identify(struct transport *t, struct identity *peer);

/* The pod's end of a connection whose other end http_proxy_inbound() has got, for the pod that the endpoint is. NULL: it has
 * to be a socket, because the kernel is to judge it, or something has to be done on the way. alpn: what the user speaks. */
struct transport *transport_beside(struct worker *w, struct worker_pod *pod, const struct http_cluster *cluster,
				   const struct cluster_endpoint *endpoint, const char *alpn);
