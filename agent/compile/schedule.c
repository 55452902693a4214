/* SPDX-License-Identifier: Apache-2.0 */
/* The endpoints of one port put in order, and the schedules of each family made of those that are first in line. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/hash.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/compile/build.h"
#include "agent/model/lb.h"
#include "agent/model/locality.h"
#include "agent/model/outlier.h"

/* --- locality */

enum { SETTING_MAX = 64 };

struct locality_buffers {
	struct locality_distribution distribute[SETTING_MAX];
	struct locality_share shares[SETTING_MAX];
	struct locality_failover_rule failover[SETTING_MAX];
};

static const char *const near_first[] = { "topology.kubernetes.io/region", "topology.kubernetes.io/zone",
					  "topology.istio.io/subzone" };

/* false: locality plays no part. Istio distributes always, but fails over only with outlier detection. */
static bool setting_of(const struct traffic *t, struct locality_buffers *b, struct locality_setting *out)
{
	const struct locality_lb_setting *from = t->locality;
	*out = (struct locality_setting){ 0 };

	if (t->near_first) {
		out->failover_priority = near_first;
		out->failover_priority_count = ARRAY_SIZE(near_first);
		return true;
	}
	if (from && from->enabled.set && !from->enabled.v)
		return false;
	if (from && from->distribute.n) {
		size_t shares = 0;
		for (size_t i = 0; i < from->distribute.n && i < SETTING_MAX; i++) {
			const struct locality_distribute *d = &from->distribute.v[i];
			b->distribute[i] = (struct locality_distribution){ d->from, &b->shares[shares], 0 };
			for (size_t k = 0; k < d->to.n && shares < SETTING_MAX; k++, b->distribute[i].to_count++)
				b->shares[shares++] = (struct locality_share){ d->to.v[k].key, d->to.v[k].value };
			out->distribute_count++;
		}
		out->distribute = b->distribute;
		return true;
	}
	if (!t->outlier_set)
		return false;
	if (from) {
		out->failover_priority = from->failover_priority.v;
		out->failover_priority_count = from->failover_priority.n;
		for (size_t i = 0; i < from->failover.n && i < SETTING_MAX; i++, out->failover_count++)
			b->failover[i] =
				(struct locality_failover_rule){ from->failover.v[i].from, from->failover.v[i].to };
		out->failover = b->failover;
	}
	return true;
}

/* Workloads of one node may differ in their labels: in the kernel's tables, and where nobody compares labels, the caller has
 * none but the node's locality. */
static int priorities_assign(const struct compiler *c, const struct traffic *t, struct endpoint_list *list)
{
	struct locality_buffers buffers;
	struct locality_setting setting;
	if (!list->n || !setting_of(t, &buffers, &setting))
		return 0;

	AUTO(mem_freep) struct locality_endpoint *places = calloc(list->n, sizeof(*places));
	if (!places)
		return -ENOMEM;
	for (size_t i = 0; i < list->n; i++) {
		const struct workload *w = list->v[i].workload;
		places[i].weight = list->v[i].weight;
		if (w)
			places[i].place = (struct locality_place){ w->locality, w->labels, w->label_count };
	}
	const struct locality_place caller = { c->locality, (struct label *)(uintptr_t)t->labels, t->label_count };
	locality_assign(&setting, &caller, places, list->n);

	size_t kept = 0;
	for (size_t i = 0; i < list->n; i++) {
		if (places[i].dropped)
			continue;
		list->v[kept] = list->v[i];
		list->v[kept].weight = places[i].weight;
		list->v[kept++].priority = places[i].priority;
	}
	list->n = kept;
	return 0;
}

/* --- health */

static bool is_ejected(const struct compiler *c, const struct endpoint *e)
{
	for (size_t i = 0; i < c->ejected_count; i++)
		if (c->ejected[i].port == e->port && addr_eq(&c->ejected[i].addr, &e->addr))
			return true;
	return false;
}

static int health_assign(const struct compiler *c, const struct outlier_settings *settings, struct endpoint_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		list->v[i].healthy = true;
	if (!c->ejected_count || !settings->consecutive_failures || !list->n)
		return 0;

	AUTO(mem_freep) bool *flags = calloc(list->n, 2 * sizeof(*flags));
	if (!flags)
		return -ENOMEM;
	for (size_t i = 0; i < list->n; i++)
		flags[i] = is_ejected(c, &list->v[i]);
	outlier_usable(settings, flags, list->n, flags + list->n);
	for (size_t i = 0; i < list->n; i++)
		list->v[i].healthy = flags[list->n + i];
	return 0;
}

/* --- schedules */

/* Connections to it are carried by the helper, whose sockets are of the family that is needed. */
static bool by_helper(const struct compiler *c, const struct service_port *port, const struct endpoint *e)
{
	const struct workload *w = e->workload;

	return port->proto == IPPROTO_TCP && w && w->tunnel == TUNNEL_HBONE &&
	       !(workload_is_local(w) && c->mesh.same_node == SAME_NODE_ATTEST);
}

static bool workload_has_family(const struct workload *w, bool v4)
{
	for (size_t i = 0; i < w->addr_count; i++)
		if (addr_is_v4(&w->addrs[i]) == v4)
			return true;
	return false;
}

/* A workload with addresses of both families is one endpoint: by that of the caller's family. */
static bool reachable(const struct compiler *c, const struct service_port *port, const struct endpoint *e, bool v4)
{
	if (addr_is_v4(&e->addr) == v4)
		return true;
	return by_helper(c, port, e) && !workload_has_family(e->workload, v4);
}

/* The indexes of the endpoints that are first in line for callers of a family. */
static size_t first_in_line(const struct compiler *c, const struct service_port *port, bool v4, bool any_family,
			    uint32_t *chosen)
{
	size_t n = 0;
	uint8_t priority = 0;

	/* Sorted by priority. */
	for (size_t i = 0; i < port->endpoint_count; i++) {
		const struct endpoint *e = &port->endpoints[i];
		if (n && e->priority != priority)
			break;
		if (!e->healthy || !(any_family || reachable(c, port, e, v4)))
			continue;
		priority = e->priority;
		chosen[n++] = (uint32_t)i;
	}
	return n;
}

static uint64_t endpoint_key(const struct endpoint *e)
{
	return hash64(hash64(HASH64_INIT, &e->addr, sizeof(e->addr)), &e->port, sizeof(e->port));
}

static int schedule_build(const struct compiler *c, const struct service_port *port, bool v4, uint32_t **slots,
			  size_t *slot_count)
{
	if (!port->endpoint_count || port->lb == LB_PASSTHROUGH)
		return 0;
	size_t room = port->endpoint_count;
	AUTO(mem_freep) uint32_t *chosen = calloc(room, sizeof(*chosen));
	AUTO(mem_freep) uint32_t *weights = calloc(room, sizeof(*weights));
	AUTO(mem_freep) uint64_t *keys = calloc(room, sizeof(*keys));
	if (!chosen || !weights || !keys)
		return -ENOMEM;

	size_t n = first_in_line(c, port, v4, false, chosen);
	if (!n && !v4)
		n = first_in_line(c, port, v4, true, chosen); /* v4-mapped */
	for (size_t i = 0; i < n; i++) {
		weights[i] = port->endpoints[chosen[i]].weight;
		keys[i] = endpoint_key(&port->endpoints[chosen[i]]);
	}
	int rc = -E2BIG;
	if (port->lb == LB_CONSISTENT_HASH)
		rc = lb_maglev(keys, weights, n, slots, slot_count);
	if (rc == -E2BIG) /* more endpoints than a Maglev table holds are balanced all the same */
		rc = lb_schedule(weights, n, slots, slot_count);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < *slot_count; i++)
		(*slots)[i] = chosen[(*slots)[i]];
	return 0;
}

static int on_endpoint_cmp(const void *a, const void *b)
{
	const struct endpoint *x = a, *y = b;
	if (x->priority != y->priority)
		return x->priority < y->priority ? -1 : 1;
	int c = addr_cmp(&x->addr, &y->addr);
	if (!c)
		c = (int)x->port - (int)y->port;
	if (!c && x->workload && y->workload)
		c = strcmp(x->workload->uid, y->workload->uid);

	return c;
}

/* Two entries of one address and port are one endpoint, with the weight of the first. */
static void duplicates_drop(struct endpoint_list *list)
{
	size_t kept = 0;
	for (size_t i = 0; i < list->n; i++)
		if (!kept || list->v[kept - 1].port != list->v[i].port ||
		    !addr_eq(&list->v[kept - 1].addr, &list->v[i].addr))
			list->v[kept++] = list->v[i];
	list->n = kept;
}

int port_finish(const struct compiler *c, struct service_port *port, struct endpoint_list *endpoints,
		const struct traffic *traffic, struct vip_family vips)
{
	port->lb = traffic->lb;
	port->tcp = traffic->tcp;
	port->outlier = traffic->outlier;
	if (endpoints->n)
		qsort(endpoints->v, endpoints->n, sizeof(*endpoints->v), on_endpoint_cmp);
	duplicates_drop(endpoints);

	int rc = priorities_assign(c, traffic, endpoints);
	if (!rc)
		rc = health_assign(c, &port->outlier, endpoints);
	if (endpoints->n)
		qsort(endpoints->v, endpoints->n, sizeof(*endpoints->v), on_endpoint_cmp);
	port->endpoints = endpoints->v;
	port->endpoint_count = endpoints->n;
	*endpoints = (struct endpoint_list){ 0 };

	if (!rc && vips.v4)
		rc = schedule_build(c, port, true, &port->slots, &port->slot_count);
	if (!rc && vips.v6)
		rc = schedule_build(c, port, false, &port->slots6, &port->slot6_count);
	if (!rc)
		service_port_seal(port);
	return rc;
}
