/* SPDX-License-Identifier: Apache-2.0 */
/* What the helper asks: endpoints and names from the plan in force, certificates from the CA. Whether it may ask for an
 * identity at all the supervisor has checked: only those of pods of this node. */
#include "agent/base/err.h"
#include "agent/base/log.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/ca/ca.h"
#include "agent/compile/compile.h"
#include "agent/daemon/internal.h"
#include "agent/kernel/kernel.h"
#include "agent/link/supervisor.h"
#include "agent/source/dns.h"

#include <stdlib.h>
#include <string.h>

/* The DestinationRule settings of an endpoint are those of the first service, by name, that has it and sets any. */
static void endpoint_tcp(const struct plan *plan, const struct addr_port *endpoint, struct link_endpoint *out)
{
	for (size_t i = 0; i < plan->service_count; i++) {
		const struct service *s = plan->services[i];
		for (size_t p = 0; p < s->port_count; p++) {
			const struct service_port *port = &s->ports[p];
			for (size_t e = 0; e < port->endpoint_count; e++) {
				if (port->endpoints[e].port != endpoint->port ||
				    !addr_eq(&port->endpoints[e].addr, &endpoint->addr))
					continue;
				out->tcp = s->tcp;
				out->service = s->hostname;
				return;
			}
		}
	}
}

void daemon_on_endpoint(const struct addr_port *endpoint, struct link_endpoint *out, void *arg)
{
	struct daemon *d = arg;

	memset(out, 0, sizeof(*out));
	if (!d->plan)
		return;
	const struct workload *w = plan_workload_by_addr(d->plan, &endpoint->addr);
	if (!w)
		return;
	out->known = true;
	out->tunnel = w->tunnel;
	out->tunnel_addr = (struct addr_port){ endpoint->addr, MESH_HBONE_PORT };
	out->identities = (const char *const *)&w->identity->uri;
	out->identity_count = 1;
	out->workload = w->uid;
	out->tcp.connect_timeout_ms = d->plan->mesh.connect_timeout_ms;
	endpoint_tcp(d->plan, endpoint, out);
}

void daemon_on_target(uint64_t cookie, const struct addr_port *original, const char *host, struct l7_target **out,
		      void *arg)
{
	struct daemon *d = arg;
	const struct kernel_pod *pod = kernel_pod_by_cookie(d->kernel, cookie);

	*out = NULL;
	if (d->plan && pod && compiler_target(d->compiler, pod->workload, original, host, out) < 0)
		*out = NULL;
}

void daemon_on_cluster(const char *name, struct http_cluster **out, void *arg)
{
	struct daemon *d = arg;

	size_t before, after;

	*out = NULL;
	if (!d->plan)
		return;
	compiler_hosts(d->compiler, &before);
	if (compiler_cluster(d->compiler, name, out) < 0)
		*out = NULL;
	/* A host behind a wildcard was asked for the first time: it is to be resolved. */
	const char *const *names = compiler_hosts(d->compiler, &after);
	if (after != before && dns_source_set(d->dns, names, after) < 0)
		log_error("out of memory: %s is not resolved", name);
}

void daemon_on_dns(uint64_t cookie, const char *name, struct link_dns_answer *out, void *arg)
{
	struct daemon *d = arg;
	const struct kernel_pod *pod = kernel_pod_by_cookie(d->kernel, cookie);

	memset(out, 0, sizeof(*out));
	if (!d->plan || !pod)
		return;
	const char *ns = pod->workload->ns;
	const struct dns_name *found = plan_dns_lookup_from(d->plan, ns, name);
	/* A pod of a headless service is less than a name of its own, and more than one behind a wildcard. */
	bool of_pod = !found || found->name[0] == '*';
	const struct workload *named = of_pod ? plan_dns_pod_lookup(d->plan, ns, name) : NULL;
	if (!found && !named)
		return;
	out->known = true;
	out->addrs = named ? named->addrs : found->addrs;
	out->addr_count = named ? named->addr_count : found->addr_count;
	out->ttl_s = d->plan->mesh.dns_ttl_s;
}

void daemon_on_csr(uint64_t request, const char *identity, const char *csr_pem, void *arg)
{
	struct daemon *d = arg;
	AUTO(mem_freep) char *chain = NULL;
	uint64_t not_after_s = 0;
	struct err err = ERR_INIT;

	daemon_settle_later(d);
	if (ca_sign(d->ca, identity, csr_pem, clock_wall_ns() / 1000000000, &chain, &not_after_s, &err) < 0) {
		log_error("certificate for %s: %s", identity, err.text);
		supervisor_certificate(d->supervisor, request, identity, NULL, 0, err.text);
		return;
	}
	supervisor_certificate(d->supervisor, request, identity, chain, not_after_s, NULL);
}

int daemon_trust_push(struct daemon *d, struct err *err)
{
	const char *roots = ca_roots_pem(d->ca);
	const char *const *revoked = NULL;
	size_t count = ca_revoked(d->ca, &revoked);

	return supervisor_trust(d->supervisor, &roots, 1, revoked, count, err);
}

void daemon_on_helper_log(enum log_level level, const char *text, void *arg)
{
	(void)arg;
	log_at(level, "helper: %s", text);
}
