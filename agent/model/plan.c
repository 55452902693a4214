/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/model/plan.h"
#include "agent/model/l7.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

struct plan *plan_new(void)
{
	struct plan *plan = calloc(1, sizeof(*plan));
	if (!plan)
		return NULL;

	plan->refs = 1;
	if (mesh_settings_init(&plan->mesh) < 0) {
		plan_unref(plan);
		return NULL;
	}
	return plan;
}

struct plan *plan_ref(struct plan *plan)
{
	__atomic_add_fetch(&plan->refs, 1, __ATOMIC_RELAXED);
	return plan;
}

static void plan_contents_free(struct plan *plan)
{
	for (size_t i = 0; i < plan->name_count; i++) {
		free(plan->names[i].name);
		free(plan->names[i].addrs);
	}
	for (size_t i = 0; i < plan->service_count; i++)
		service_unref(plan->services[i]);
	for (size_t i = 0; i < plan->workload_count; i++)
		workload_unref(plan->workloads[i]);
	for (size_t i = 0; i < plan->identity_count; i++)
		identity_unref(plan->identities[i]);
	free(plan->names);
	free(plan->services);
	free(plan->workloads);
	free(plan->identities);
	free(plan->by_addr);
	free(plan->by_vip);
}

void plan_unref(struct plan *plan)
{
	if (!plan || __atomic_sub_fetch(&plan->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;

	if (plan->on_release)
		plan->on_release(plan->shared);
	else
		plan_contents_free(plan);
	mesh_settings_done(&plan->mesh);
	free(plan->node);
	free(plan);
}

int service_cmp(const struct service *a, const struct service *b)
{
	int c = strcmp(a->ns, b->ns);

	return c ? c : strcmp(a->hostname, b->hostname);
}

int dns_name_cmp(const struct dns_name *a, const struct dns_name *b)
{
	int c = strcmp(a->name, b->name);

	return c || a->service == b->service ? c : service_cmp(a->service, b->service);
}

int plan_addr_cmp(const struct plan_addr *a, const struct plan_addr *b)
{
	int c = addr_cmp(&a->addr, &b->addr);

	return c || a->workload == b->workload ? c : strcmp(a->workload->uid, b->workload->uid);
}

static int range_cmp(const struct plan_vip *a, const struct plan_vip *b)
{
	if (a->range.bits != b->range.bits)
		return a->range.bits > b->range.bits ? -1 : 1;
	return addr_cmp(&a->range.addr, &b->range.addr);
}

int plan_vip_cmp(const struct plan_vip *a, const struct plan_vip *b)
{
	int c = range_cmp(a, b);
	if (c)
		return c;
	if (a->port != b->port)
		return a->port < b->port ? -1 : 1;
	if (a->proto != b->proto)
		return a->proto < b->proto ? -1 : 1;
	if (a->endpoint != b->endpoint)
		return a->endpoint ? 1 : -1;
	if (a->unheard != b->unheard)
		return a->unheard ? 1 : -1;
	c = a->service == b->service ? 0 : service_cmp(a->service, b->service);
	return c ? c : (int)a->service_port - (int)b->service_port;
}

bool plan_vip_same_key(const struct plan_vip *a, const struct plan_vip *b)
{
	return range_cmp(a, b) == 0 && a->port == b->port && a->proto == b->proto;
}

static int endpoint_vips(struct service *s, const struct service_port *port,
			 int (*fn)(void *arg, const struct plan_vip *vip), void *arg)
{
	int rc = 0;

	if (!s->by_endpoint || port->l7 == L7_NONE || port->proto != IPPROTO_TCP)
		return 0;
	for (size_t i = 0; !rc && i < port->endpoint_count; i++)
		rc = fn(arg, &(struct plan_vip){ .range = { port->endpoints[i].addr, 128 },
						 .port = port->endpoints[i].port,
						 .service_port = port->port,
						 .proto = port->proto,
						 .endpoint = true,
						 .service = s });
	return rc;
}

int plan_vips_of(struct service *s, int (*fn)(void *arg, const struct plan_vip *vip), void *arg)
{
	int rc = 0;

	for (size_t k = 0; !rc && k < s->port_count; k++) {
		const struct service_port *port = &s->ports[k];
		/* Where a name is needed and nobody listens for it, nothing is this service's. */
		if (s->any_address && port->l7 == L7_NONE && (app_says_host(port->app) || port->lb != LB_PASSTHROUGH))
			continue;
		for (size_t i = 0; !rc && i < s->vip_count; i++)
			rc = fn(arg, &(struct plan_vip){ .range = s->vips[i],
							 .port = port->port,
							 .service_port = port->port,
							 .proto = port->proto,
							 .unheard = s->any_address && port->l7 == L7_NONE,
							 .service = s });
		if (!rc)
			rc = endpoint_vips(s, port, fn, arg);
	}
	return rc;
}

static int on_service_cmp(const void *a, const void *b)
{
	return service_cmp(*(struct service *const *)a, *(struct service *const *)b);
}

static int on_workload_cmp(const void *a, const void *b)
{
	return strcmp((*(struct workload *const *)a)->uid, (*(struct workload *const *)b)->uid);
}

static int on_identity_cmp(const void *a, const void *b)
{
	return strcmp((*(struct identity *const *)a)->uri, (*(struct identity *const *)b)->uri);
}

static int on_name_cmp(const void *a, const void *b)
{
	return dns_name_cmp(a, b);
}

static int on_addr_cmp(const void *a, const void *b)
{
	return plan_addr_cmp(a, b);
}

static int on_vip_cmp(const void *a, const void *b)
{
	return plan_vip_cmp(a, b);
}

static void sort(void *array, size_t count, size_t size, int (*cmp)(const void *, const void *))
{
	if (count)
		qsort(array, count, size, cmp);
}

static int seal_addrs(struct plan *plan)
{
	size_t n = 0;
	for (size_t i = 0; i < plan->workload_count; i++)
		n += plan->workloads[i]->addr_count;
	plan->by_addr = calloc(n ? n : 1, sizeof(*plan->by_addr));
	if (!plan->by_addr)
		return -ENOMEM;

	for (size_t i = 0; i < plan->workload_count; i++) {
		struct workload *w = plan->workloads[i];
		for (size_t k = 0; k < w->addr_count; k++)
			plan->by_addr[plan->by_addr_count++] = (struct plan_addr){ w->addrs[k], w };
	}
	sort(plan->by_addr, plan->by_addr_count, sizeof(*plan->by_addr), on_addr_cmp);
	return 0;
}

static int on_vip_count(void *arg, const struct plan_vip *vip)
{
	(void)vip;
	++*(size_t *)arg;
	return 0;
}

static int on_vip_add(void *arg, const struct plan_vip *vip)
{
	struct plan *plan = arg;

	plan->by_vip[plan->by_vip_count++] = *vip;
	return 0;
}

static int seal_vips(struct plan *plan)
{
	size_t n = 0;
	for (size_t i = 0; i < plan->service_count; i++)
		plan_vips_of(plan->services[i], on_vip_count, &n);
	plan->by_vip = calloc(n ? n : 1, sizeof(*plan->by_vip));
	if (!plan->by_vip)
		return -ENOMEM;

	for (size_t i = 0; i < plan->service_count; i++)
		plan_vips_of(plan->services[i], on_vip_add, plan);
	sort(plan->by_vip, plan->by_vip_count, sizeof(*plan->by_vip), on_vip_cmp);
	return 0;
}

int plan_seal(struct plan *plan)
{
	sort(plan->services, plan->service_count, sizeof(struct service *), on_service_cmp);
	sort(plan->workloads, plan->workload_count, sizeof(struct workload *), on_workload_cmp);
	sort(plan->identities, plan->identity_count, sizeof(struct identity *), on_identity_cmp);
	sort(plan->names, plan->name_count, sizeof(*plan->names), on_name_cmp);

	free(plan->by_addr);
	free(plan->by_vip);
	plan->by_addr_count = plan->by_vip_count = 0;
	plan->by_addr = NULL;
	plan->by_vip = NULL;
	if (seal_addrs(plan) < 0 || seal_vips(plan) < 0)
		return -ENOMEM;
	plan->sealed = true;
	return 0;
}
