/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Addresses: IPv4 is v4-mapped everywhere, so that there is one path. Pure. Compiled into programs and agent; the
 * includer provides INLINE and bpf_htonl (lib/lookup.h or agent/kernel/explain.c). */
#pragma once

INLINE struct ip_addr ip_v4(__be32 v4)
{
	struct ip_addr a = { .w = { 0, 0, bpf_htonl(0xffff), v4 } };

	return a;
}

INLINE int ip_is_v4(const struct ip_addr *a)
{
	return a->w[0] == 0 && a->w[1] == 0 && a->w[2] == bpf_htonl(0xffff);
}

INLINE int ip_eq(const struct ip_addr *a, const struct ip_addr *b)
{
	return a->w[0] == b->w[0] && a->w[1] == b->w[1] && a->w[2] == b->w[2] && a->w[3] == b->w[3];
}

INLINE int ip_is_zero(const struct ip_addr *a)
{
	return a->w[3] == 0 && a->w[0] == 0 && a->w[1] == 0 && (a->w[2] == 0 || a->w[2] == bpf_htonl(0xffff));
}

INLINE int ip_is_loopback(const struct ip_addr *a)
{
	if (ip_is_v4(a))
		return (a->w[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
	return a->w[0] == 0 && a->w[1] == 0 && a->w[2] == 0 && a->w[3] == bpf_htonl(1);
}

/* Multicast, broadcast and unspecified: never a service, never another workload. */
INLINE int ip_is_group(const struct ip_addr *a)
{
	if (ip_is_v4(a))
		return (a->w[3] & bpf_htonl(0xf0000000)) == bpf_htonl(0xe0000000) || a->w[3] == 0xffffffff;
	return (a->w[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000);
}

/* Both ends in one namespace: a call to a local address has that address as its source too, unless the caller bound
 * another one. Both sides of conn_setup derive its key from this. */
INLINE int ip_same_netns(const struct ip_addr *a, const struct ip_addr *b)
{
	return ip_eq(a, b) || ip_is_loopback(a) || ip_is_loopback(b);
}

INLINE struct ip_addr ip_loopback_like(const struct ip_addr *family)
{
	struct ip_addr v6 = { .w = { 0, 0, 0, bpf_htonl(1) } };

	return ip_is_v4(family) ? ip_v4(bpf_htonl(0x7f000001)) : v6;
}

INLINE struct ip_addr ip_any_like(const struct ip_addr *family)
{
	struct ip_addr v6 = {};

	return ip_is_v4(family) ? ip_v4(0) : v6;
}

INLINE __u32 ip_hash(const struct ip_addr *a, __u32 seed)
{
	__u32 h = seed ^ 0x9e3779b9;

	h = (h ^ a->w[0]) * 0x85ebca6b;
	h = (h ^ (h >> 15) ^ a->w[1]) * 0xc2b2ae35;
	h = (h ^ (h >> 13) ^ a->w[2]) * 0x85ebca6b;
	h = (h ^ (h >> 16) ^ a->w[3]) * 0xc2b2ae35;
	return h ^ (h >> 16);
}

/* Where an endpoint is noted as a member of its slot set, so that affinity can verify it in one lookup. */
INLINE __u32 slot_member_index(const struct ip_addr *a, __be16 port)
{
	return ABI_SLOT_MEMBER | ip_hash(a, port);
}
