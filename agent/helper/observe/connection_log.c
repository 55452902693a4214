/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/observe/connection_log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/helper/observe/record.h"
#include "agent/helper/worker.h"
#include "agent/model/cluster.h"
#include "agent/model/identity.h"
#include "agent/model/telemetry.h"

struct connection_log {
	struct worker *w;
	struct worker_pod *pod; /* a reference */
	int reporter;
	uint32_t flags;
	bool over; /* it lasted duration_ns */
	uint64_t start_ns, began_ns, duration_ns;
	struct addr_port source, destination;
	struct identity *peer; /* a reference */
	char *cluster, *server_name, *why;
	char termination[160];
};

static const char *const reason_names[DROP_REASON_COUNT] = {
#define REASON_NAME(symbol, name, help) [DROP_##symbol] = name,
	DROP_REASONS(REASON_NAME)
#undef REASON_NAME
};

struct connection_log *connection_log_new(struct worker *w, struct worker_pod *pod, int reporter)
{
	if (!pod->telemetry || !pod->telemetry->log_count[reporter])
		return NULL;
	struct connection_log *l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	l->w = w;
	l->pod = worker_pod_ref(pod);
	l->reporter = reporter;
	l->start_ns = clock_wall_ns();
	l->began_ns = loop_now_ns(worker_loop(w));
	return l;
}

void connection_log_times(struct connection_log *l, uint64_t start_ns, uint64_t duration_ns)
{
	if (!l)
		return;
	l->start_ns = start_ns;
	l->duration_ns = duration_ns;
	l->over = true;
}

/* Without memory the line says less. */
static void text_set(char **to, const char *text)
{
	if (!text || !*text)
		return;
	free(*to);
	*to = strdup(text);
}

void connection_log_asked(struct connection_log *l, const struct addr_port *destination, const char *cluster,
			  const char *server_name)
{
	if (!l)
		return;
	l->destination = *destination;
	text_set(&l->cluster, cluster);
	text_set(&l->server_name, server_name);
}

void connection_log_name(struct connection_log *l, const char *server_name)
{
	if (l)
		text_set(&l->server_name, server_name);
}

void connection_log_caller(struct connection_log *l, const struct addr_port *source, struct identity *peer)
{
	if (!l)
		return;
	l->source = *source;
	if (peer && !l->peer)
		l->peer = identity_ref(peer);
}

void connection_log_chosen(struct connection_log *l, const struct addr_port *endpoint, const char *service)
{
	if (!l || l->cluster)
		return;
	bool called = l->destination.port == endpoint->port && addr_eq(&l->destination.addr, &endpoint->addr);
	l->cluster = called || !service || !*service ? strdup("PassthroughCluster") :
						       http_cluster_name(l->destination.port, NULL, service);
}

/* Envoy's flag, 0: it has none. BlackHoleCluster, where Istio sends what no registry has, is a cluster without endpoints. */
static uint32_t flag_of(enum drop_reason reason)
{
	switch (reason) {
	case DROP_NO_ENDPOINT:
	case DROP_NOT_IN_REGISTRY:
		return FLAG(UH);
	case DROP_UNKNOWN_DESTINATION:
		return FLAG(NC);
	case DROP_CONNECTION_LIMIT:
		return FLAG(UO);
	case DROP_NO_CERTIFICATE:
	case DROP_TLS_HANDSHAKE:
	case DROP_TLS_UNTRUSTED:
	case DROP_TLS_IDENTITY:
	case DROP_TLS_REVOKED:
	case DROP_HBONE_REFUSED:
	case DROP_UPSTREAM_CONNECT:
	case DROP_NO_SOCKET:
		return FLAG(UF);
	default:
		return 0;
	}
}

static bool is_policys(enum drop_reason reason)
{
	return reason == DROP_POLICY_DENY || reason == DROP_POLICY_NO_ALLOW || reason == DROP_MTLS_REQUIRED;
}

void connection_log_refused(struct connection_log *l, enum drop_reason reason, const char *rule, const char *why)
{
	if (!l)
		return;
	l->flags |= flag_of(reason);
	if (reason == DROP_NOT_IN_REGISTRY)
		text_set(&l->cluster, "BlackHoleCluster");
	if (is_policys(reason))
		snprintf(l->termination, sizeof(l->termination), "rbac_access_denied_matched_policy[%s]",
			 rule && *rule ? rule : "none");
	else if (l->flags & FLAG(UF))
		text_set(&l->why, why ? why : reason_names[reason]);
	else
		snprintf(l->termination, sizeof(l->termination), "%s", reason_names[reason]);
}

void connection_log_timed_out(struct connection_log *l)
{
	if (l)
		l->flags |= FLAG(DT);
}

void connection_log_end(struct connection_log *l, const struct connection_end *end)
{
	if (!l)
		return;
	const struct identity *peer = end && end->peer ? end->peer : l->peer;
	const struct request_record r = {
		.reporter = l->reporter,
		.pod = l->pod,
		.grpc_status = -1,
		.details = "",
		.flags = l->flags,
		.transport_failure = l->why,
		.termination = l->termination,
		.start_ns = l->start_ns,
		.began_ns = l->began_ns,
		.end_ns = l->over ? l->began_ns + l->duration_ns : loop_now_ns(worker_loop(l->w)),
		.request_bytes = end ? end->received_bytes : 0,
		.response_bytes = end ? end->sent_bytes : 0,
		.cluster = end ? end->cluster : NULL,
		.cluster_name = l->cluster,
		.server_name = end && end->server_name && *end->server_name ? end->server_name : l->server_name,
		.source = end && end->source ? end->source : &l->source,
		.destination = end && end->destination ? end->destination : &l->destination,
		.upstream = end ? end->upstream : NULL,
		.upstream_local = end ? end->upstream_local : NULL,
		.peer = peer,
		.mutual = peer != NULL,
	};
	if (end)
		record_connection(worker_observe(l->w), &r);
	worker_pod_unref(l->w, l->pod);
	identity_unref(l->peer);
	free(l->cluster);
	free(l->server_name);
	free(l->why);
	free(l);
}
