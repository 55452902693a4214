/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Lookups for route.h and verdict.h, as BPF programs do them. agent/kernel/explain.c has the same functions over
 * system calls, so that `meshctl explain` runs the decisions themselves. */
#pragma once

#include "bpf/lib/maps.h"

#include <bpf/bpf_endian.h>

#define INLINE static __always_inline

INLINE void *table_lookup(void *outer, const void *key)
{
	__u32 zero = 0;
	void *inner = bpf_map_lookup_elem(outer, &zero);

	return inner ? bpf_map_lookup_elem(inner, key) : NULL;
}

INLINE struct service_value *lookup_service(const struct service_key *key)
{
	return table_lookup(&services, key);
}

INLINE struct service_value *lookup_service_range(const struct service_range_key *key)
{
	return bpf_map_lookup_elem(&service_ranges, key);
}

INLINE const struct slot_value *lookup_slot(const struct slot_key *key)
{
	return table_lookup(&slots, key);
}

INLINE const struct workload_value *lookup_workload(const struct ip_addr *addr)
{
	return table_lookup(&workloads, addr);
}

INLINE const struct policy_value *lookup_policy(__u64 id)
{
	return table_lookup(&policies, &id);
}

INLINE const struct policy_row *lookup_policy_row(const struct policy_row_key *key)
{
	return table_lookup(&policy_rows, key);
}

INLINE const __u32 *lookup_set(const struct set_key *key)
{
	return table_lookup(&sets, key);
}

INLINE const __u32 *lookup_cidr(const struct cidr_key *key)
{
	return bpf_map_lookup_elem(&cidrs, key);
}

INLINE __s64 lookup_live(const struct service_key *endpoint)
{
	__s64 *n = bpf_map_lookup_elem(&live, endpoint);

	return n ? *n : 0;
}

INLINE struct affinity_value *lookup_affinity(const struct affinity_key *key)
{
	return bpf_map_lookup_elem(&affinity, key);
}

INLINE void store_affinity(const struct affinity_key *key, const struct affinity_value *value)
{
	bpf_map_update_elem(&affinity, key, value, BPF_ANY);
}

INLINE __u32 next_cursor(struct service_value *service)
{
	return __sync_fetch_and_add(&service->cursor, 1);
}

INLINE __u32 random_u32(void)
{
	return bpf_get_prandom_u32();
}

INLINE __u64 now_ns(void)
{
	return bpf_ktime_get_ns();
}
