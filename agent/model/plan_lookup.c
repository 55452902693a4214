/* SPDX-License-Identifier: Apache-2.0 */
/* Binary searches over a sealed plan's sorted arrays. */
#include <ctype.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/str.h"
#include "agent/model/plan.h"

enum { DNS_TEXT_MAX = 256 };

static size_t addr_lower_bound(const struct plan *plan, const struct addr *a)
{
	size_t low = 0, high = plan->by_addr_count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (addr_cmp(&plan->by_addr[mid].addr, a) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

struct workload *plan_workload_by_addr(const struct plan *plan, const struct addr *a)
{
	size_t i = addr_lower_bound(plan, a);

	return i < plan->by_addr_count && addr_eq(&plan->by_addr[i].addr, a) ? plan->by_addr[i].workload : NULL;
}

static int uid_cmp(const void *key, const void *entry)
{
	return strcmp(key, (*(struct workload *const *)entry)->uid);
}

struct workload *plan_workload_by_uid(const struct plan *plan, const char *uid)
{
	struct workload **found = plan->workload_count ? bsearch(uid, plan->workloads, plan->workload_count,
								 sizeof(*plan->workloads), uid_cmp) :
							 NULL;

	return found ? *found : NULL;
}

struct identity *plan_identity_by_id(const struct plan *plan, uint32_t id)
{
	for (size_t i = 0; i < plan->identity_count; i++)
		if (plan->identities[i]->id == id)
			return plan->identities[i];
	return NULL;
}

struct service *plan_service_by_id(const struct plan *plan, uint32_t id)
{
	for (size_t i = 0; i < plan->service_count; i++)
		if (plan->services[i]->id == id)
			return plan->services[i];
	return NULL;
}

struct service *plan_service_by_name(const struct plan *plan, const char *ns, const char *hostname)
{
	size_t low = 0, high = plan->service_count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		struct service *s = plan->services[mid];
		int c = strcmp(s->ns, ns);
		if (!c)
			c = strcmp(s->hostname, hostname);
		if (!c)
			return s;
		if (c < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

/* The first entry not before {range, port, proto}; the service does not count. */
static size_t vip_lower_bound(const struct plan *plan, const struct cidr *range, uint16_t port, uint8_t proto)
{
	size_t low = 0, high = plan->by_vip_count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const struct plan_vip *e = &plan->by_vip[mid];
		int c;
		if (e->range.bits != range->bits)
			c = e->range.bits > range->bits ? -1 : 1;
		else
			c = addr_cmp(&e->range.addr, &range->addr);
		if (!c && e->port != port)
			c = e->port < port ? -1 : 1;
		if (!c && e->proto != proto)
			c = e->proto < proto ? -1 : 1;
		if (c < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static void addr_mask(struct addr *a, uint8_t bits)
{
	for (unsigned int i = 0; i < sizeof(a->b); i++) {
		unsigned int keep = bits >= (i + 1) * 8 ? 8 : bits > i * 8 ? bits - i * 8 : 0;
		a->b[i] &= (uint8_t)(0xff00u >> keep);
	}
}

const struct plan_vip *plan_vip_find(const struct plan *plan, const struct addr *a, uint16_t port, uint8_t proto)
{
	/* One search for each prefix length that is present, longest first. */
	for (size_t at = 0; at < plan->by_vip_count;) {
		uint8_t bits = plan->by_vip[at].range.bits;
		struct cidr range = { *a, bits };
		addr_mask(&range.addr, bits);

		size_t i = vip_lower_bound(plan, &range, port, port ? proto : 0);
		if (i < plan->by_vip_count) {
			const struct plan_vip *e = &plan->by_vip[i];
			if (e->range.bits == bits && addr_eq(&e->range.addr, &range.addr) &&
			    (!port || (e->port == port && e->proto == proto)))
				return e;
		}
		if (!bits)
			break;
		at = vip_lower_bound(plan, &(struct cidr){ .bits = (uint8_t)(bits - 1) }, 0, 0);
	}
	return NULL;
}

struct service *plan_service_by_vip(const struct plan *plan, const struct addr *a, uint16_t port, uint8_t proto)
{
	const struct plan_vip *vip = plan_vip_find(plan, a, port, proto);

	return vip ? vip->service : NULL;
}

static const struct dns_name *name_find(const struct plan *plan, const char *ns, const char *name)
{
	size_t low = 0, high = plan->name_count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (strcmp(plan->names[mid].name, name) < 0)
			low = mid + 1;
		else
			high = mid;
	}

	const struct dns_name *best = NULL;
	for (; low < plan->name_count && strcmp(plan->names[low].name, name) == 0; low++) {
		const struct dns_name *n = &plan->names[low];
		if (!n->service)
			return n;
		if (!service_visible_from(n->service, ns))
			continue;
		if (ns && str_eq(n->service->ns, ns))
			return n;
		if (!best)
			best = n;
	}
	return best;
}

static bool name_normalise(const char *name, char out[DNS_TEXT_MAX])
{
	size_t len = strlen(name);
	if (len && name[len - 1] == '.')
		len--;
	if (!len || len >= DNS_TEXT_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
		out[i] = (char)tolower((unsigned char)name[i]);
	out[len] = '\0';
	return true;
}

/* "catalog" (for ns), "catalog.shop", "catalog.shop.svc" written out with the cluster's domain. */
static const struct dns_name *short_find(const struct plan *plan, const char *ns, const char *name)
{
	char full[2 * DNS_TEXT_MAX];
	unsigned int dots = 0;
	for (const char *p = name; *p; p++)
		dots += *p == '.';

	int len = 0;
	if (dots == 0 && ns)
		len = snprintf(full, sizeof(full), "%s.%s.svc.%s", name, ns, plan->mesh.cluster_domain);
	else if (dots == 1)
		len = snprintf(full, sizeof(full), "%s.svc.%s", name, plan->mesh.cluster_domain);
	else if (str_ends(name, ".svc"))
		len = snprintf(full, sizeof(full), "%s.%s", name, plan->mesh.cluster_domain);
	if (len <= 0 || (size_t)len >= sizeof(full))
		return NULL;
	return name_find(plan, ns, full);
}

static const struct dns_name *wildcard_find(const struct plan *plan, const char *ns, const char *name)
{
	char wild[DNS_TEXT_MAX + 2];

	for (const char *dot = strchr(name, '.'); dot; dot = strchr(dot + 1, '.')) {
		snprintf(wild, sizeof(wild), "*%s", dot);
		const struct dns_name *found = name_find(plan, ns, wild);
		if (found)
			return found;
	}
	return NULL;
}

const struct dns_name *plan_dns_lookup_from(const struct plan *plan, const char *ns, const char *name)
{
	char text[DNS_TEXT_MAX];
	if (!name_normalise(name, text) || strchr(text, '*'))
		return NULL;

	const struct dns_name *found = name_find(plan, ns, text);
	if (!found)
		found = short_find(plan, ns, text);
	if (!found)
		found = wildcard_find(plan, ns, text);
	return found;
}

static const struct workload *pod_of_port(const struct service_port *port, const char *hostname)
{
	for (size_t i = 0; i < port->endpoint_count; i++) {
		const struct workload *w = port->endpoints[i].workload;
		if (!w || !port->endpoints[i].healthy)
			continue;
		const char *label = workload_label(w, "statefulset.kubernetes.io/pod-name");
		if (str_eq(label ? label : w->name, hostname))
			return w;
	}
	return NULL;
}

const struct workload *plan_dns_pod_lookup(const struct plan *plan, const char *ns, const char *name)
{
	char text[DNS_TEXT_MAX];
	if (!name_normalise(name, text))
		return NULL;
	char *dot = strchr(text, '.');
	const struct dns_name *of = dot ? plan_dns_lookup_from(plan, ns, dot + 1) : NULL;
	if (!of || !of->service || of->service->kind != SERVICE_HEADLESS)
		return NULL;
	*dot = '\0';
	const struct workload *found = NULL;
	for (size_t i = 0; !found && i < of->service->port_count; i++)
		found = pod_of_port(&of->service->ports[i], text);
	return found;
}

const struct dns_name *plan_dns_lookup(const struct plan *plan, const char *name)
{
	return plan_dns_lookup_from(plan, NULL, name);
}
