/* SPDX-License-Identifier: Apache-2.0 */
/* Spans from the helper to collectors, which are services of the mesh or names outside of it. */
#include "agent/base/loop.h"
#include "agent/daemon/internal.h"
#include "agent/telemetry/exporters.h"

#include <netinet/in.h>
#include <stdio.h>

/* The agent is a process of the host: it calls an endpoint itself, the next one each second. */
static bool locate(const struct trace_provider *p, char *buf, size_t size, void *arg)
{
	const struct daemon *d = arg;
	const struct dns_name *name = d->plan ? plan_dns_lookup(d->plan, p->host) : NULL;
	const struct service_port *port = name ? service_port_find(name->service, p->port, IPPROTO_TCP) : NULL;
	char text[ADDR_PORT_TEXT_MAX];

	if (!name) {
		snprintf(buf, size, "%s:%u", p->host, p->port);
		return true; /* a name of the outside */
	}
	for (size_t i = 0; port && i < port->endpoint_count; i++) {
		const struct endpoint *e =
			&port->endpoints[(i + loop_now_ns(d->loop) / 1000000000) % port->endpoint_count];
		if (!e->healthy)
			continue;
		snprintf(buf, size, "%s", addr_port_text(&(struct addr_port){ e->addr, e->port }, text));
		return true;
	}
	return false;
}

int daemon_traces_open(struct daemon *d, struct err *err)
{
	const struct exporters_options options = {
		.loop = d->loop, .node = d->options->node, .locate = locate, .arg = d
	};
	return exporters_new(&options, &d->exporters, err);
}

void daemon_on_spans(const uint8_t *batch, size_t len, uint32_t count, void *arg)
{
	struct daemon *d = arg;
	(void)count;
	exporters_add(d->exporters, batch, len);
}
