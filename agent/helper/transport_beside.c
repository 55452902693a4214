/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a call to an endpoint can do without a socket. On the way through the kernel it would be attested as the caller's
 * and come to the engine for the pod that it is to; so it may go there directly where all of that is sure, and where nothing
 * else is to be done on the way. Where in doubt, it is a socket's. */
#include "agent/helper/transport_pair.h"

#include "agent/helper/route/exchange.h"
#include "agent/helper/transport_internal.h"
#include "agent/helper/worker.h"
#include "agent/helper/worker_accept.h"
#include "agent/model/cluster.h"
#include "agent/model/identity.h"

enum { PORT_FIRST = 32768, PORTS = 28232 }; /* as the kernel would choose one */

static bool is_plain(const struct http_cluster *cluster, const struct cluster_endpoint *endpoint)
{
	return endpoint->tunnel == ENDPOINT_PLAIN && !cluster->proxy_protocol && !cluster->proxy_host &&
	       !transport_wants_tls(cluster, endpoint);
}

/* The caller's address that it would call from; one that others have, too, attests nobody. */
static const struct addr *source_of(struct worker *w, const struct worker_pod *pod, const struct addr *to)
{
	for (size_t i = 0; i < pod->addr_count; i++)
		if (addr_is_v4(&pod->addrs[i]) == addr_is_v4(to))
			return worker_pod_by_addr(w, &pod->addrs[i]) == pod ? &pod->addrs[i] : NULL;
	return NULL;
}

static struct worker_pod *callee_of(struct worker *w, const struct worker_pod *pod, const struct addr_port *to)
{
	struct worker_pod *callee = worker_pod_by_addr(w, &to->addr);
	/* A pod's calls to itself are its own affair. One without policy is not ready: the kernel says so. */
	if (!callee || callee == pod || !callee->policy)
		return NULL;
	enum port_kind kind = pod_port_kind(callee, to->port);
	return kind == PORT_HTTP || kind == PORT_SNIFF ? callee : NULL;
}

struct transport *transport_beside(struct worker *w, struct worker_pod *pod, const struct http_cluster *cluster,
				   const struct cluster_endpoint *endpoint, const char *alpn)
{
	if (!endpoint->local || !alpn || !pod->identity || !is_plain(cluster, endpoint))
		return NULL;
	struct worker_pod *callee = callee_of(w, pod, &endpoint->addr);
	const struct addr *source = callee ? source_of(w, pod, &endpoint->addr.addr) : NULL;
	struct transport *near, *far;
	if (!source || transport_pair_new(w, &near, &far) < 0)
		return NULL;
	struct transports *ts = worker_transports(w);
	near->local = far->remote = (struct addr_port){ *source, (uint16_t)(PORT_FIRST + ts->pair_ports++ % PORTS) };
	near->remote = far->local = endpoint->addr;
	transport_pair_identify(far, identity_ref(pod->identity));
	worker_metrics(w)->http_joined++;
	http_proxy_inbound(worker_http(w), callee, far, alpn[1] == '2' ? HTTP_PROTO_2 : HTTP_PROTO_1);
	return near;
}
