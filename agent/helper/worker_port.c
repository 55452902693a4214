/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/worker.h"
#include "agent/helper/worker_accept.h"
#include "agent/model/service.h"
#include "agent/model/workload.h"

enum port_kind pod_port_kind(const struct worker_pod *pod, uint16_t port)
{
	size_t low = 0, high = pod->l7_port_count;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (pod->l7_ports[middle].port < port)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == pod->l7_port_count || pod->l7_ports[low].port != port)
		return pod->l7_other_ports ? PORT_SNIFF : PORT_L4;
	switch (pod->l7_ports[low].app) {
	case APP_HTTP:
	case APP_HTTP2:
	case APP_GRPC:
		return PORT_HTTP;
	case APP_UNKNOWN:
		return PORT_SNIFF;
	default:
		return pod->l7_ports[low].sni ? PORT_NAME : PORT_L4;
	}
}
