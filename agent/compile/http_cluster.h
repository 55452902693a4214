/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a cluster: its endpoints, and what is said of it. */
#pragma once

#include "agent/compile/http.h"
#include "agent/model/cluster.h"

#define HTTP_PASSTHROUGH "PassthroughCluster"
#define HTTP_BLACK_HOLE "BlackHoleCluster" /* there is none of this name: what goes to it is refused */

/* 0 or -ENOMEM. */
int http_cluster_endpoints(const struct compiler *c, struct http_cluster *out, const struct service_node *node,
			   const struct service_port *port, const struct subset *subset);
int http_cluster_settings(struct compiler *c, struct http_cluster *out, const struct service *s,
			  const struct service_port *port, const struct http_rule *rule);
