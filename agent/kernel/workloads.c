// SPDX-License-Identifier: Apache-2.0
/* Workloads by address: who is behind a pod address that is called directly, and which pod of this node it is. */
#include "agent/base/err.h"
#include "agent/kernel/internal.h"

#include <string.h>

uint16_t workload_flags(const struct workload *w)
{
	uint16_t flags = 0;

	if (w->enrolled)
		flags |= EP_ENROLLED;
	if (workload_is_local(w))
		flags |= EP_LOCAL;
	if (w->tunnel == TUNNEL_HBONE)
		flags |= EP_HBONE;
	return flags;
}

static uint64_t cookie_of(const struct kernel *k, const struct workload *w)
{
	const struct kernel_pod *pod = kernel_pod_by_uid(k, w->uid);

	return pod ? pod->cookie : 0;
}

static void workload_fill(const struct workload *w, uint64_t cookie, struct workload_value *v)
{
	*v = (struct workload_value){ .cookie = cookie,
				      .identity = w->identity ? w->identity->id : 0,
				      .flags = workload_flags(w) };
}

int workload_write(struct kernel *k, const struct workload *w, uint64_t cookie, struct err *err)
{
	struct workload_value v;
	int rc = 0;

	workload_fill(w, cookie, &v);
	for (size_t i = 0; i < w->addr_count && rc == 0; i++) {
		struct ip_addr key = abi_addr(&w->addrs[i]);

		rc = ktable_set(&k->tables[KT_WORKLOADS], &key, &v, err);
	}
	return rc;
}

/* Steps through both plans' addresses; of several workloads with one address the first by uid has it. */
struct addr_walk {
	const struct plan *old, *plan;
	size_t i, j;
	const struct plan_addr *before, *after;
};

static size_t addr_skip(const struct plan *plan, size_t i)
{
	size_t first = i;

	while (++i < plan->by_addr_count && addr_eq(&plan->by_addr[first].addr, &plan->by_addr[i].addr))
		;
	return i;
}

static bool addr_next(struct addr_walk *w)
{
	size_t old_count = w->old ? w->old->by_addr_count : 0;

	while (w->i < old_count || w->j < w->plan->by_addr_count) {
		const struct plan_addr *a = w->i < old_count ? &w->old->by_addr[w->i] : NULL;
		const struct plan_addr *b = w->j < w->plan->by_addr_count ? &w->plan->by_addr[w->j] : NULL;
		int c = !a ? 1 : !b ? -1 : addr_cmp(&a->addr, &b->addr);

		w->before = c <= 0 ? a : NULL;
		w->after = c >= 0 ? b : NULL;
		if (w->before)
			w->i = addr_skip(w->old, w->i);
		if (w->after)
			w->j = addr_skip(w->plan, w->j);
		if (!w->before || !w->after || w->before->workload != w->after->workload)
			return true;
	}
	return false;
}

int workloads_write(struct kernel *k, const struct plan *old, const struct plan *plan, struct err *err)
{
	struct ktable *t = &k->tables[KT_WORKLOADS];
	struct addr_walk w = { .old = old, .plan = plan };
	struct workload_value v;
	int rc = old ? 0 : ktable_reserve(t, (uint32_t)plan->by_addr_count, err);

	while (rc == 0 && addr_next(&w)) {
		if (!w.after)
			continue;
		struct ip_addr key = abi_addr(&w.after->addr);

		workload_fill(w.after->workload, cookie_of(k, w.after->workload), &v);
		rc = ktable_add(t, &key, &v, err);
	}
	return rc == 0 ? ktable_flush(t, err) : rc;
}

static bool keep_workload(const void *key, const void *value, void *arg)
{
	struct addr addr = abi_addr_from(key);

	(void)value;
	return plan_workload_by_addr(arg, &addr) != NULL;
}

int workloads_remove(struct kernel *k, const struct plan *old, const struct plan *plan, struct err *err)
{
	struct ktable *t = &k->tables[KT_WORKLOADS];
	struct addr_walk w = { .old = old, .plan = plan };

	if (!old)
		return k->fresh ? 0 : ktable_sweep(t, keep_workload, (void *)plan, err);
	while (addr_next(&w)) {
		if (w.after || !w.before)
			continue;
		struct ip_addr key = abi_addr(&w.before->addr);

		ktable_delete(t, &key);
	}
	return 0;
}
