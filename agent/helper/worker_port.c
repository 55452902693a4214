/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/worker.h"
#include "agent/helper/worker_accept.h"
#include "agent/model/service.h"
#include "agent/model/workload.h"

static const struct inbound_port *port_find(const struct worker_pod *pod, uint16_t port)
{
	size_t low = 0, high = pod->l7_port_count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (pod->l7_ports[middle].port < port)
			low = middle + 1;
		else
			high = middle;
	}
	return low < pod->l7_port_count && pod->l7_ports[low].port == port ? &pod->l7_ports[low] : NULL;
}

enum port_kind pod_port_kind(const struct worker_pod *pod, uint16_t port)
{
	const struct inbound_port *p = port_find(pod, port);
	if (!p)
		return pod->l7_other_ports ? PORT_SNIFF : PORT_L4;
	switch (p->app) {
	case APP_HTTP:
	case APP_HTTP2:
	case APP_GRPC:
		return PORT_HTTP;
	case APP_UNKNOWN:
		return PORT_SNIFF;
	default:
		return p->sni ? PORT_NAME : PORT_L4;
	}
}

const struct inbound_port *pod_inbound_port(const struct worker_pod *pod, uint16_t port)
{
	const struct inbound_port *p = port_find(pod, port);
	return p ? p : port_find(pod, 0);
}

struct addr_port pod_inbound_target(const struct worker_pod *pod, const struct addr_port *called)
{
	const struct inbound_port *p = port_find(pod, called->port);
	struct addr_port to = *called;
	if (!p || !p->target_port)
		return to;
	to.port = p->target_port;
	if (p->target != INBOUND_SAME)
		addr_parse(p->target == INBOUND_LOOPBACK ? "127.0.0.1" : "::1", &to.addr);
	return to;
}
