/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What connect.bpf.c and datagram.bpf.c share: the address argument, the caller's pod, the decision, refusals. */
#pragma once

#include "bpf/lib/events.h"
#include "bpf/lib/flow.h"
#include "bpf/lib/pod.h"
#include "bpf/lib/route.h"

#define DNS_PORT 53
#define ECONNREFUSED 111

/* --- the address argument of a call */

INLINE struct ip_port user_addr4(struct bpf_sock_addr *ctx)
{
	struct ip_port a = { .addr = ctx_read_v4(ctx, offsetof(struct bpf_sock_addr, user_ip4)),
			     .port = (__be16)ctx_read(ctx, offsetof(struct bpf_sock_addr, user_port)) };

	return a;
}

INLINE struct ip_port user_addr6(struct bpf_sock_addr *ctx)
{
	struct ip_port a = { .addr = ctx_read_v6(ctx, offsetof(struct bpf_sock_addr, user_ip6)),
			     .port = (__be16)ctx_read(ctx, offsetof(struct bpf_sock_addr, user_port)) };

	return a;
}

INLINE void user_set4(struct bpf_sock_addr *ctx, const struct ip_port *a)
{
	ctx_write(ctx, offsetof(struct bpf_sock_addr, user_ip4), a->addr.w[3]);
	ctx_write(ctx, offsetof(struct bpf_sock_addr, user_port), a->port);
}

INLINE void user_set6(struct bpf_sock_addr *ctx, const struct ip_port *a)
{
	ctx_write(ctx, offsetof(struct bpf_sock_addr, user_ip6), a->addr.w[0]);
	ctx_write(ctx, offsetof(struct bpf_sock_addr, user_ip6) + 4, a->addr.w[1]);
	ctx_write(ctx, offsetof(struct bpf_sock_addr, user_ip6) + 8, a->addr.w[2]);
	ctx_write(ctx, offsetof(struct bpf_sock_addr, user_ip6) + 12, a->addr.w[3]);
	ctx_write(ctx, offsetof(struct bpf_sock_addr, user_port), a->port);
}

INLINE struct pod_value *cgroup_pod(__u64 *id)
{
	__u64 all = ABI_COOKIE_CGROUP;
	const struct pod_value *levels = bpf_map_lookup_elem(&pods, &all);

	if (!levels)
		return NULL;
	for (int level = 1; level <= ABI_CGROUP_LEVELS; level++) {
		struct pod_value *pod;
		__u64 group;

		if (!(levels->flags & (1u << level)))
			continue;
		group = bpf_get_current_ancestor_cgroup_id(level);
		if (!group) /* the caller is not that deep */
			return NULL;
		*id = ABI_COOKIE_CGROUP | group;
		pod = bpf_map_lookup_elem(&pods, id);
		if (pod)
			return pod;
	}
	return NULL;
}

/* The pod whose process makes this call, or for which the mesh opened this socket (*mark is not NULL then); *id is its
 * key. */
INLINE struct pod_value *caller_pod(struct bpf_sock_addr *ctx, __u64 *id, struct sock_mark **mark)
{
	struct pod_value *pod;

	*mark = NULL;
	*id = bpf_get_netns_cookie(ctx);
	pod = bpf_map_lookup_elem(&pods, id);
	if (!pod && *id != host_netns)
		return NULL;
	*mark = mark_of(ctx->sk);
	if (pod)
		return pod;
	if (!*mark)
		return cgroup_pod(id);
	*id = (*mark)->pod;
	return bpf_map_lookup_elem(&pods, id);
}

INLINE struct ip_addr source_addr(const struct pod_value *pod, const struct ip_addr *family)
{
	return ip_is_v4(family) ? pod->addr4 : pod->addr6;
}

INLINE int refuse(struct bpf_sock_addr *ctx, const struct pod_value *pod, const struct ip_port *asked,
		  const struct route *r)
{
	if (drop_admit_event(r->reason)) {
		struct flow_event *e = event_reserve();

		if (e) {
			e->kind = EVENT_REFUSED;
			e->reason = (__u8)r->reason;
			e->proto = (__u8)ctx->protocol;
			e->source_side = 1;
			e->source = source_addr(pod, &asked->addr);
			e->destination = asked->addr;
			e->destination_port = asked->port;
			e->original = asked->addr;
			e->original_port = asked->port;
			e->source_identity = pod->identity;
			e->destination_identity = r->identity;
			e->service = r->service;
			event_submit(e);
		}
	}
	/* EPERM is what the kernel says without this; a missing endpoint or listener is for the caller to retry. */
	if (have_set_retval && r->reason != DROP_NOT_IN_REGISTRY)
		bpf_set_retval(-ECONNREFUSED);
	return 0;
}

INLINE int refuse_with(struct bpf_sock_addr *ctx, const struct pod_value *pod, const struct ip_port *asked,
		       struct route *r, __u32 reason)
{
	route_deny(r, reason);
	return refuse(ctx, pod, asked, r);
}

INLINE __u8 conn_path(const struct route *r)
{
	switch (r->path) {
	case ROUTE_ATTESTED:
		return CONN_ATTESTED;
	case ROUTE_HELPER:
		return CONN_HBONE;
	case ROUTE_HTTP:
		return CONN_HTTP;
	case ROUTE_PLAINTEXT:
		return CONN_PLAINTEXT;
	default:
		return CONN_DIRECT;
	}
}

INLINE void state_fill(struct sock_state *state, const struct pod_value *pod, __u64 id, const struct ip_port *asked,
		       const struct route *r)
{
	__builtin_memset(state, 0, sizeof(*state));
	state->info.original = asked->addr;
	state->info.original_port = asked->port;
	state->info.endpoint = r->endpoint;
	state->info.endpoint_port = r->port;
	state->info.path = conn_path(r);
	state->info.source_identity = pod->identity;
	state->info.destination_identity = r->identity;
	state->info.service = r->service;
	state->info.source_pod = id;
	state->pod = id;
	state->role = ROLE_CALLER;
	state->since_ns = bpf_ktime_get_ns();
}

INLINE int same(const struct ip_port *a, const struct ip_addr *addr, __be16 port)
{
	return a->port == port && ip_eq(&a->addr, addr);
}

/* DNS goes to the pod's own resolver, unless the application's resolver is on its own loopback already. */
INLINE __be16 dns_listener(const struct pod_value *pod, const struct ip_port *dst, __u32 protocol)
{
	if (dst->port != bpf_htons(DNS_PORT))
		return 0;
	return protocol == IPPROTO_UDP ? pod->ports[POD_DNS_UDP] : pod->ports[POD_DNS_TCP];
}

INLINE void route_query_fill(struct route_query *q, const struct pod_value *pod, __u64 id, const struct ip_port *dst,
			     __u32 protocol)
{
	q->addr = dst->addr;
	q->port = dst->port;
	q->proto = (__u8)protocol;
	q->pod_flags = pod->flags;
	q->pod = id;
	q->source = ip_is_zero(&pod->addr4) ? pod->addr6 : pod->addr4;
}

/* A UDP flow has no end that could be seen; its beginning is reported. */
INLINE void udp_flow_opened(const struct pod_value *pod, const struct ip_port *asked, const struct route *r)
{
	struct conn_info info = { .path = conn_path(r),
				  .source_identity = pod->identity,
				  .destination_identity = r->identity,
				  .service = r->service };
	struct flow_sum_value *sum = flow_sum(&info, 1, IPPROTO_UDP);
	struct flow_event *e;

	if (sum)
		sum->opened++;
	e = event_reserve();
	if (!e)
		return;
	e->kind = EVENT_OPENED;
	e->proto = IPPROTO_UDP;
	e->path = info.path;
	e->source_side = 1;
	e->source_identity = info.source_identity;
	e->destination_identity = info.destination_identity;
	e->service = info.service;
	e->source = source_addr(pod, &asked->addr);
	e->destination = r->endpoint;
	e->destination_port = r->port;
	e->original = asked->addr;
	e->original_port = asked->port;
	event_submit(e);
}
