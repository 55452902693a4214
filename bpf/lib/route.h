/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where an outbound connection or datagram goes: service, endpoint, path, or the reason why it may not. One decision
 * for TCP and UDP, compiled into connect.bpf.c and into agent/kernel/explain.c; the includer provides the lookups
 * (lib/lookup.h). */
#pragma once

#include "bpf/lib/addr.h"

#define ROUTE_IPPROTO_UDP 17

enum route_path { ROUTE_PASS, ROUTE_DIRECT, ROUTE_ATTESTED, ROUTE_PLAINTEXT, ROUTE_HELPER, ROUTE_HTTP, ROUTE_DENY };

struct route_query {
	struct ip_addr addr; /* destination that was asked for */
	__be16 port;
	__u8 proto;
	__u8 pad;
	__u32 pod_flags;
	__u64 pod;	       /* of the caller */
	struct ip_addr source; /* of the caller, for consistent hashing */
};

struct route {
	struct ip_addr endpoint;
	__be16 port;
	__u16 flags; /* endpoint_flags */
	__u32 identity;
	__u32 service;
	__u32 path;
	__u32 reason;
	__u32 pad;
	__u64 slots_id;
};

INLINE int route_take_slot(struct route *r, __u32 index)
{
	struct slot_key key = { .slots_id = r->slots_id, .index = index };
	const struct slot_value *slot = lookup_slot(&key);

	if (!slot)
		return 0;
	r->endpoint = slot->addr;
	r->port = slot->port;
	r->flags = slot->flags;
	r->identity = slot->identity;
	return 1;
}

INLINE __s64 route_live(const struct route *r, __u8 proto)
{
	struct service_key key = { .addr = r->endpoint, .port = r->port, .proto = proto };

	return lookup_live(&key);
}

/* Power of two choices over connections of this node's pods. */
INLINE int route_least(const struct route_query *q, struct route *r, __u32 slot_count)
{
	__u32 first, second;
	__s64 first_live;

	if (slot_count == 1)
		return route_take_slot(r, 0);
	first = random_u32() % slot_count;
	if (!route_take_slot(r, first))
		return 0;
	first_live = route_live(r, q->proto);
	second = random_u32() % (slot_count - 1);
	if (second >= first)
		second++;
	if (!route_take_slot(r, second))
		return 0;
	return route_live(r, q->proto) < first_live ? 1 : route_take_slot(r, first);
}

INLINE int route_pick(const struct route_query *q, struct service_value *service, struct route *r)
{
	__u32 n = service->slot_count;

	switch (service->algorithm) {
	case ABI_LB_ROUND_ROBIN:
		return route_take_slot(r, next_cursor(service) % n);
	case ABI_LB_HASH:
		return route_take_slot(r, ip_hash(&q->source, 0) % n);
	case ABI_LB_RANDOM:
		return route_take_slot(r, random_u32() % n);
	default:
		return route_least(q, r, n);
	}
}

/* The endpoint that this caller had, when it is still one of the service's. */
INLINE int route_affine(struct service_value *service, const struct affinity_key *key, struct route *r)
{
	struct affinity_value *had = lookup_affinity(key);
	struct ip_addr addr;
	__be16 port;

	if (!had || now_ns() - had->used_ns > service->affinity_s * 1000000000ull)
		return 0;
	addr = had->addr;
	port = had->port;
	if (!route_take_slot(r, slot_member_index(&addr, port)) || !ip_eq(&r->endpoint, &addr) || r->port != port)
		return 0;
	had->used_ns = now_ns();
	return 1;
}

INLINE int route_balance(const struct route_query *q, struct service_value *service, struct route *r)
{
	struct affinity_key key = {
		.source_pod = q->pod, .service = service->service, .port = q->port, .proto = q->proto
	};
	struct affinity_value value = {};

	if (!service->affinity_s)
		return route_pick(q, service, r);
	if (route_affine(service, &key, r))
		return 1;
	if (!route_pick(q, service, r))
		return 0;
	value.addr = r->endpoint;
	value.port = r->port;
	value.used_ns = now_ns();
	store_affinity(&key, &value);
	return 1;
}

INLINE struct service_value *route_service(const struct route_query *q)
{
	struct service_key key = { .addr = q->addr, .port = q->port, .proto = q->proto };
	struct service_range_key range = { .prefixlen = 32 + 128, .port = q->port, .proto = q->proto, .addr = q->addr };
	struct service_value *service = lookup_service(&key);

	return service ? service : lookup_service_range(&range);
}

INLINE void route_deny(struct route *r, __u32 reason)
{
	r->path = ROUTE_DENY;
	r->reason = reason;
}

/* An address without balancing: what the caller asked for, with what is known of it. 0: nothing is. */
INLINE int route_as_asked(const struct route_query *q, struct route *r)
{
	const struct workload_value *workload = lookup_workload(&q->addr);

	r->endpoint = q->addr;
	r->port = q->port;
	if (!workload)
		return 0;
	r->flags = workload->flags;
	r->identity = workload->identity;
	return 1;
}

INLINE __u32 route_path_of(const struct route_query *q, __u16 flags)
{
	if (q->proto == ROUTE_IPPROTO_UDP)
		return flags & EP_ENROLLED ? ROUTE_PLAINTEXT : ROUTE_DIRECT;
	if (flags & EP_LOCAL) {
		if (!(flags & EP_ENROLLED))
			return ROUTE_DIRECT;
		return q->pod_flags & POD_SAME_NODE_MTLS && flags & EP_HBONE ? ROUTE_HELPER : ROUTE_ATTESTED;
	}
	if (flags & EP_HBONE)
		return ROUTE_HELPER;
	return flags & EP_ENROLLED ? ROUTE_PLAINTEXT : ROUTE_DIRECT;
}

INLINE void route_to_engine(const struct route_query *q, struct route *r)
{
	r->endpoint = ip_any_like(&q->addr);
	r->port = 0;
	r->path = ROUTE_HTTP;
}

/* *r is zeroed by the caller. */
INLINE void route_decide(const struct route_query *q, struct route *r)
{
	struct service_value *service = route_service(q);

	if (service && service->flags & SERVICE_ANY && lookup_workload(&q->addr))
		service = NULL;
	if (service) {
		r->service = service->service;
		r->slots_id = service->slots_id;
		if (service->flags & SERVICE_L7 && q->proto != ROUTE_IPPROTO_UDP) {
			route_to_engine(q, r); /* without an endpoint too: a route may not need one */
			return;
		}
		if (service->algorithm == ABI_LB_PASSTHROUGH) {
			route_as_asked(q, r);
		} else if (!service->slot_count) {
			route_deny(r, DROP_NO_ENDPOINT);
			return;
		} else if (!route_balance(q, service, r)) {
			route_deny(r, DROP_MAP_MISSING);
			return;
		}
	} else if (!route_as_asked(q, r)) {
		if (q->pod_flags & POD_REGISTRY_ONLY && !ip_is_group(&q->addr))
			route_deny(r, DROP_NOT_IN_REGISTRY);
		else if (q->pod_flags & POD_EGRESS_PROXY && q->proto != ROUTE_IPPROTO_UDP)
			route_to_engine(q, r);
		else
			r->path = ROUTE_PASS;
		return;
	}
	r->path = route_path_of(q, r->flags);
}
