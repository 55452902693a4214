// SPDX-License-Identifier: Apache-2.0
/* Services to tables. A slot set is keyed by a hash of its service port and content, so a change writes a new set
 * beside the old one, flips the entries that refer to it, and removes the old one last: no caller ever meets half a
 * set. Two plans are compared by object pointers. */
#include "agent/base/err.h"
#include "agent/base/hash.h"
#include "agent/base/mem.h"
#include "agent/kernel/internal.h"
#include "agent/model/l7.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { FAMILIES = 2 };

#define INLINE static inline
#define bpf_htonl htonl
#include "bpf/lib/addr.h"

static uint8_t algorithm_of(enum lb_algorithm lb)
{
	switch (lb) {
	case LB_ROUND_ROBIN:
		return ABI_LB_ROUND_ROBIN;
	case LB_RANDOM:
		return ABI_LB_RANDOM;
	case LB_CONSISTENT_HASH:
		return ABI_LB_HASH;
	case LB_PASSTHROUGH:
		return ABI_LB_PASSTHROUGH;
	case LB_LEAST_REQUEST:
		break;
	}
	return ABI_LB_LEAST_REQUEST;
}

static void slots_of(const struct service_port *p, int family, const uint32_t **slots, size_t *count)
{
	*slots = family ? p->slots6 : p->slots;
	*count = family ? p->slot6_count : p->slot_count;
}

static void slot_fill(const struct endpoint *e, struct slot_value *v)
{
	*v = (struct slot_value){ .addr = abi_addr(&e->addr), .port = htons(e->port) };
	if (e->workload) {
		v->flags = workload_flags(e->workload);
		v->identity = e->workload->identity ? e->workload->identity->id : 0;
	}
}

/* 0: no endpoint. */
static uint64_t slots_id(const struct service *s, const struct service_port *p, int family)
{
	struct {
		uint32_t service;
		uint16_t port;
		uint16_t proto;
		uint32_t affinity;
	} of = { s->id, p->port, p->proto, s->affinity_timeout_s ? 1 : 0 };
	const uint32_t *slots;
	struct slot_value v;
	size_t n;
	uint64_t h = hash64(HASH64_INIT, &of, sizeof(of));

	slots_of(p, family, &slots, &n);
	if (!n)
		return 0;
	for (size_t i = 0; i < n; i++) {
		slot_fill(&p->endpoints[slots[i]], &v);
		h = hash64(h, &v, sizeof(v));
	}
	return h ? h : 1;
}

uint64_t service_slots_id(const struct service *s, const struct service_port *p)
{
	return slots_id(s, p, 0);
}

static int slots_write(struct kernel *k, const struct service *s, const struct service_port *p, int family,
		       struct err *err)
{
	struct ktable *t = &k->tables[KT_SLOTS];
	struct slot_key key = { .slots_id = slots_id(s, p, family) };
	const uint32_t *slots;
	struct slot_value v;
	size_t n;
	int rc = 0;

	slots_of(p, family, &slots, &n);
	for (size_t i = 0; i < n && rc == 0; i++) {
		slot_fill(&p->endpoints[slots[i]], &v);
		key.index = (uint32_t)i;
		rc = ktable_add(t, &key, &v, err);
		if (rc == 0 && s->affinity_timeout_s) {
			key.index = slot_member_index(&v.addr, v.port);
			rc = ktable_add(t, &key, &v, err);
		}
	}
	return rc;
}

static void slots_remove(struct kernel *k, const struct service *s, const struct service_port *p, int family)
{
	struct ktable *t = &k->tables[KT_SLOTS];
	struct slot_key key = { .slots_id = slots_id(s, p, family) };
	const uint32_t *slots;
	struct slot_value v;
	size_t n;

	slots_of(p, family, &slots, &n);
	for (size_t i = 0; i < n; i++) {
		key.index = (uint32_t)i;
		ktable_delete(t, &key);
		if (!s->affinity_timeout_s)
			continue;
		slot_fill(&p->endpoints[slots[i]], &v);
		key.index = slot_member_index(&v.addr, v.port);
		ktable_delete(t, &key);
	}
}

static bool uses_slots(const struct service *s, uint64_t id)
{
	for (size_t i = 0; s && i < s->port_count; i++)
		for (int family = 0; family < FAMILIES; family++)
			if (slots_id(s, &s->ports[i], family) == id)
				return true;
	return false;
}

/* Steps through both plans' services together; either side is NULL where it has none of the name. Pairs whose pointer
 * is the same are skipped. */
struct service_walk {
	const struct plan *old, *plan;
	size_t i, j;
	const struct service *before, *after;
};

static bool service_next(struct service_walk *w)
{
	size_t old_count = w->old ? w->old->service_count : 0;

	while (w->i < old_count || w->j < w->plan->service_count) {
		const struct service *a = w->i < old_count ? w->old->services[w->i] : NULL;
		const struct service *b = w->j < w->plan->service_count ? w->plan->services[w->j] : NULL;
		int c = a == b ? 0 : !a ? 1 : !b ? -1 : service_cmp(a, b);

		w->before = c <= 0 ? a : NULL;
		w->after = c >= 0 ? b : NULL;
		w->i += c <= 0;
		w->j += c >= 0;
		if (w->before != w->after)
			return true;
	}
	return false;
}

/* The same over addresses and ports. Of several services with one address and port the first in the plan's order has
 * it. */
struct vip_walk {
	const struct plan *old, *plan;
	size_t i, j;
	const struct plan_vip *before, *after;
};

static int vip_key_cmp(const struct plan_vip *a, const struct plan_vip *b)
{
	if (a->range.bits != b->range.bits)
		return a->range.bits > b->range.bits ? -1 : 1;
	int c = addr_cmp(&a->range.addr, &b->range.addr);

	return c ? c : a->port != b->port ? (a->port < b->port ? -1 : 1) : (int)a->proto - (int)b->proto;
}

static size_t vip_skip(const struct plan *plan, size_t i)
{
	size_t first = i;

	while (++i < plan->by_vip_count && vip_key_cmp(&plan->by_vip[first], &plan->by_vip[i]) == 0)
		;
	return i;
}

static bool vip_next(struct vip_walk *w)
{
	size_t old_count = w->old ? w->old->by_vip_count : 0;

	while (w->i < old_count || w->j < w->plan->by_vip_count) {
		const struct plan_vip *a = w->i < old_count ? &w->old->by_vip[w->i] : NULL;
		const struct plan_vip *b = w->j < w->plan->by_vip_count ? &w->plan->by_vip[w->j] : NULL;
		int c = !a ? 1 : !b ? -1 : vip_key_cmp(a, b);

		w->before = c <= 0 ? a : NULL;
		w->after = c >= 0 ? b : NULL;
		if (w->before)
			w->i = vip_skip(w->old, w->i);
		if (w->after)
			w->j = vip_skip(w->plan, w->j);
		if (!w->before || !w->after || w->before->service != w->after->service ||
		    w->before->service_port != w->after->service_port)
			return true;
	}
	return false;
}

static void service_fill(const struct plan_vip *vip, struct service_value *v)
{
	const struct service *s = vip->service;
	const struct service_port *p = service_port_find(s, vip->service_port, vip->proto);
	int family = !addr_is_v4(&vip->range.addr);
	const uint32_t *slots;
	size_t n = 0;

	*v = (struct service_value){ .service = s->id, .affinity_s = s->affinity_timeout_s };
	if (!p)
		return;
	slots_of(p, family, &slots, &n);
	v->slot_count = (uint32_t)n;
	v->slots_id = slots_id(s, p, family);
	v->algorithm = algorithm_of(p->lb);
	if (p->l7 != L7_NONE)
		v->flags |= SERVICE_L7;
	if (s->any_address)
		v->flags |= SERVICE_ANY;
	if (s->any_address && p->l7 != L7_NONE)
		v->service = 0; /* whose call it is the helper will know: many services share the port */
}

static void exact_key(const struct plan_vip *vip, struct service_key *key)
{
	*key = (struct service_key){ .addr = abi_addr(&vip->range.addr),
				     .port = htons(vip->port),
				     .proto = vip->proto };
}

static void range_key(const struct plan_vip *vip, struct service_range_key *key)
{
	*key = (struct service_range_key){ .prefixlen = 32u + vip->range.bits,
					   .addr = abi_addr(&vip->range.addr),
					   .port = htons(vip->port),
					   .proto = vip->proto };
}

static int vip_write(struct kernel *k, const struct plan_vip *vip, struct err *err)
{
	struct service_range_key range;
	struct service_key key;
	struct service_value v;

	service_fill(vip, &v);
	if (vip->range.bits == 128) {
		exact_key(vip, &key);
		return ktable_add(&k->tables[KT_SERVICES], &key, &v, err);
	}
	range_key(vip, &range);
	if (bpf_map_update_elem(k->maps[KMAP_SERVICE_RANGES], &range, &v, BPF_ANY) < 0)
		return err_sys(err, -errno, "kernel: write the address range of service %s/%s", vip->service->ns,
			       vip->service->hostname);
	return 0;
}

static void vip_remove(struct kernel *k, const struct plan_vip *vip)
{
	struct service_range_key range;
	struct service_key key;

	if (vip->range.bits == 128) {
		exact_key(vip, &key);
		ktable_delete(&k->tables[KT_SERVICES], &key);
	} else {
		range_key(vip, &range);
		bpf_map_delete_elem(k->maps[KMAP_SERVICE_RANGES], &range);
	}
}

static uint32_t count_slots(const struct plan *plan)
{
	size_t n = 0;

	for (size_t i = 0; i < plan->service_count; i++) {
		const struct service *s = plan->services[i];

		for (size_t j = 0; j < s->port_count; j++)
			n += (s->ports[j].slot_count + s->ports[j].slot6_count) * (s->affinity_timeout_s ? 2 : 1);
	}
	return n > UINT32_MAX / 4 ? UINT32_MAX / 4 : (uint32_t)n;
}

uint32_t services_count_entries(const struct plan *plan, enum kernel_table table)
{
	return table == KT_SLOTS ? count_slots(plan) : (uint32_t)plan->by_vip_count;
}

int services_write(struct kernel *k, const struct plan *old, const struct plan *plan, struct err *err)
{
	struct service_walk services = { .old = old, .plan = plan };
	struct vip_walk vips = { .old = old, .plan = plan };
	int rc = 0;

	if (!old) { /* one table of the right size instead of growing step by step */
		rc = ktable_reserve(&k->tables[KT_SLOTS], count_slots(plan), err);
		if (rc == 0)
			rc = ktable_reserve(&k->tables[KT_SERVICES], (uint32_t)plan->by_vip_count, err);
	}
	while (rc == 0 && service_next(&services)) {
		const struct service *s = services.after;

		for (size_t i = 0; s && i < s->port_count && rc == 0; i++)
			for (int family = 0; family < FAMILIES && rc == 0; family++)
				rc = slots_write(k, s, &s->ports[i], family, err);
	}
	if (rc == 0)
		rc = ktable_flush(&k->tables[KT_SLOTS], err);
	while (rc == 0 && vip_next(&vips))
		if (vips.after)
			rc = vip_write(k, vips.after, err);
	return rc == 0 ? ktable_flush(&k->tables[KT_SERVICES], err) : rc;
}

/* --- the first plan of a run that took over pins: what it doesn't have goes */

struct sweep {
	const struct plan *plan;
	uint64_t *ids; /* sorted */
	size_t id_count, id_cap;
};

static int id_cmp(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static bool keep_slot(const void *key, const void *value, void *arg)
{
	const struct sweep *s = arg;
	const struct slot_key *slot = key;

	(void)value;
	return bsearch(&slot->slots_id, s->ids, s->id_count, sizeof(*s->ids), id_cmp) != NULL;
}

static bool keep_service(const void *key, const void *value, void *arg)
{
	const struct sweep *s = arg;
	const struct service_key *at = key;
	const struct service_value *v = value;
	struct addr addr = abi_addr_from(&at->addr);
	const struct service *service = plan_service_by_vip(s->plan, &addr, ntohs(at->port), at->proto);

	return service && service->id == v->service;
}

static bool keep_range(const void *key, const void *value, void *arg)
{
	const struct sweep *s = arg;
	const struct service_range_key *at = key;

	(void)value;
	for (size_t i = 0; i < s->plan->by_vip_count; i++) {
		struct service_range_key wanted;

		range_key(&s->plan->by_vip[i], &wanted);
		if (memcmp(&wanted, at, sizeof(wanted)) == 0)
			return true;
	}
	return false;
}

static int services_sweep(struct kernel *k, const struct plan *plan, struct err *err)
{
	struct sweep s = { .plan = plan };
	int rc = 0;

	for (size_t i = 0; i < plan->service_count && rc == 0; i++)
		for (size_t j = 0; j < plan->services[i]->port_count && rc == 0; j++)
			for (int family = 0; family < FAMILIES && rc == 0; family++) {
				uint64_t id = slots_id(plan->services[i], &plan->services[i]->ports[j], family);

				rc = mem_reserve(&s.ids, &s.id_cap, s.id_count + 1, sizeof(*s.ids));
				if (rc == 0 && id)
					s.ids[s.id_count++] = id;
			}
	if (rc < 0)
		rc = err_set(err, rc, "kernel: out of memory");
	if (rc == 0)
		rc = ktable_sweep(&k->tables[KT_SERVICES], keep_service, &s, err);
	if (rc == 0)
		rc = kmap_sweep(k->maps[KMAP_SERVICE_RANGES], sizeof(struct service_range_key),
				sizeof(struct service_value), keep_range, &s);
	if (rc == 0 && s.id_count)
		qsort(s.ids, s.id_count, sizeof(*s.ids), id_cmp);
	if (rc == 0)
		rc = ktable_sweep(&k->tables[KT_SLOTS], keep_slot, &s, err);
	free(s.ids);
	return rc;
}

int services_remove(struct kernel *k, const struct plan *old, const struct plan *plan, struct err *err)
{
	struct service_walk services = { .old = old, .plan = plan };
	struct vip_walk vips = { .old = old, .plan = plan };

	if (!old)
		return k->fresh ? 0 : services_sweep(k, plan, err);
	while (vip_next(&vips))
		if (vips.before && !vips.after)
			vip_remove(k, vips.before);
	while (service_next(&services)) {
		const struct service *s = services.before;

		for (size_t i = 0; s && i < s->port_count; i++)
			for (int family = 0; family < FAMILIES; family++)
				if (!uses_slots(services.after, slots_id(s, &s->ports[i], family)))
					slots_remove(k, s, &s->ports[i], family);
	}
	return 0;
}
