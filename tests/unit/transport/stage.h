/* SPDX-License-Identifier: Apache-2.0 */
/* What surrounds acceptance and relays: targets, callers, clusters, the engine and the tunnels, as a test sets them. */
#pragma once

#include "agent/helper/route/exchange.h"
#include "agent/helper/route/tcp.h"
#include "agent/helper/worker_accept.h"
#include "tests/unit/transport/rig.h"

struct cluster_endpoint;
struct http_cluster;
struct l7_target;

struct stage {
	struct acceptor *acceptor;
	struct tcp_proxy *tcp;
	struct l7_target *target; /* of every call; NULL: not known */
	struct l7_target *named;  /* of every call that a name was asked for with; the stage frees it */
	char asked_name[64];
	bool withhold_target;
	struct endpoint_info caller; /* of every source */
	bool no_caller;
	struct http_cluster *cluster;
	struct cluster_endpoint *endpoint;
	char picked[64], picked_host[64], picked_called[64]; /* the cluster that was asked for */
	unsigned int picks, reports_ok, reports_failed;
	struct addr_port last_bind;
	/* what came to the engine and to the tunnels */
	unsigned int http, tunnels;
	bool http_inbound;
	enum http_protocol protocol;
	struct told told; /* of the engine's transport */
	int tunnel_fd;
	struct addr_port tunnel_endpoint;
};

int stage_setup(void **state); /* *state: struct worker */
int stage_teardown(void **state);
int stage_listen(const char *address, struct addr_port *out);
int stage_accept(struct worker *w, int listener); /* runs the loop until there is one */
/* The client's end of a connection that the pod made, or that was made to it. */
int stage_outbound(struct worker *w);
int stage_inbound(struct worker *w, const struct addr_port *local, enum pod_socket kind);

#define STAGE_TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
