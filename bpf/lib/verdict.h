/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Whether an inbound connection may exist: mutual TLS mode of the port, then authorisation rows, DENY before ALLOW.
 * Compiled into inbound.bpf.c and into agent/kernel/explain.c; the includer provides the lookups (lib/lookup.h). */
#pragma once

#include "bpf/lib/addr.h"

struct verdict_query {
	__u64 policy; /* key of policies */
	struct ip_addr source, destination;
	__u32 identity; /* 0: anonymous; a process of the host too: it is attested, but has no principal */
	__u16 port;	/* host order */
	__u8 proto;
	__u8 attested;
	__u64 l7; /* pod_value.l7 */
	__u32 pod_flags;
	__u32 pad;
};

struct verdict {
	__u64 policy; /* struct policy's id */
	__u32 reason;
	__u32 rule;
	__u32 to_helper; /* reason is DROP_NONE, and the helper judges what is said on it */
	__u32 pad;
};

enum { ROW_NO_MATCH = 0, ROW_MATCH_ALLOW = 1, ROW_MATCH_DENY = 2, ROW_MISSING = 3 };

/* The verifier checks a global function once, not in every turn of the loop over rows. */
#ifdef __bpf__
#define VERDICT_ROW_FUNCTION __attribute__((noinline))
#else
#define VERDICT_ROW_FUNCTION static
#endif

INLINE int set_has(__u64 set, __u32 member)
{
	struct set_key key = { .set = set, .member = member };

	return lookup_set(&key) != NULL;
}

INLINE int cidr_has(__u64 set, const struct ip_addr *addr)
{
	struct cidr_key key = {
		.prefixlen = 64 + 128, .set_low = (__u32)set, .set_high = (__u32)(set >> 32), .addr = *addr
	};

	const __u32 *kind = lookup_cidr(&key);

	/* An IPv6 block such as ::/0 covers the v4-mapped addresses too, but is not meant for them. */
	return kind && (*kind == ABI_CIDR_ANY || !ip_is_v4(addr));
}

INLINE int row_matches_addrs(const struct policy_row *row, const struct ip_addr *source,
			     const struct ip_addr *destination)
{
	if (row->sources && !cidr_has(row->sources, source))
		return 0;
	if (row->not_sources && cidr_has(row->not_sources, source))
		return 0;
	if (row->remotes && !cidr_has(row->remotes, source))
		return 0;
	if (row->not_remotes && cidr_has(row->not_remotes, source))
		return 0;
	if (row->destinations && !cidr_has(row->destinations, destination))
		return 0;
	return !(row->not_destinations && cidr_has(row->not_destinations, destination));
}

/* Returns ROW_* in the low byte and the rule's index above it. */
VERDICT_ROW_FUNCTION __u64 verdict_row(const struct verdict_query *q, __u32 index)
{
	struct policy_row_key key = { .index = index };
	const struct policy_row *row;

	if (!q)
		return ROW_MISSING;
	key.policy = q->policy;
	row = lookup_policy_row(&key);
	if (!row)
		return ROW_MISSING;
	if (row->identities && !set_has(row->identities, q->identity))
		return ROW_NO_MATCH;
	if (row->ports && !set_has(row->ports, q->port))
		return ROW_NO_MATCH;
	if (row->not_ports && set_has(row->not_ports, q->port))
		return ROW_NO_MATCH;
	if (!row_matches_addrs(row, &q->source, &q->destination))
		return ROW_NO_MATCH;
	return (row->action == ROW_DENY ? ROW_MATCH_DENY : ROW_MATCH_ALLOW) | ((__u64)row->rule << 8);
}

enum { VERDICT_BLOCK = 16 };

/* The first row of a block that matches; two short loops of functions that are verified once are a tenth of the
 * verifier's work on one loop over all rows, and every pod loads its own program. */
VERDICT_ROW_FUNCTION __u64 verdict_block(const struct verdict_query *q, __u32 first, __u32 count)
{
	if (!q)
		return ROW_MISSING;
	for (__u32 i = 0; i < VERDICT_BLOCK; i++) {
		__u64 hit;

		if (first + i >= count)
			break;
		hit = verdict_row(q, first + i);
		if ((hit & 0xff) != ROW_NO_MATCH)
			return hit;
	}
	return ROW_NO_MATCH;
}

INLINE void verdict_rows(const struct verdict_query *q, __u32 count, int has_allow, struct verdict *v)
{
	for (__u32 block = 0; block < ABI_POLICY_ROWS_MAX / VERDICT_BLOCK; block++) {
		__u64 hit;

		if (block * VERDICT_BLOCK >= count)
			break;
		hit = verdict_block(q, block * VERDICT_BLOCK, count);
		if ((hit & 0xff) == ROW_NO_MATCH)
			continue;
		v->rule = (hit & 0xff) == ROW_MISSING ? ABI_RULE_NONE : (__u32)(hit >> 8);
		v->reason = (hit & 0xff) == ROW_MATCH_ALLOW ? DROP_NONE :
			    (hit & 0xff) == ROW_MATCH_DENY  ? DROP_POLICY_DENY :
							      DROP_MAP_MISSING;
		return;
	}
	v->reason = has_allow ? DROP_POLICY_NO_ALLOW : DROP_NONE;
}

INLINE __u32 verdict_mode(const struct verdict_query *q, const struct policy_value *policy)
{
	struct set_key key = { .set = q->policy, .member = ABI_PORT_MODE | q->port };
	const __u32 *mode;

	if (!policy->has_port_modes)
		return policy->mtls;
	mode = lookup_set(&key);
	return mode ? *mode - 1 : policy->mtls;
}

INLINE int verdict_is_l7(const struct verdict_query *q)
{
	struct set_key key = { .set = q->l7, .member = q->port };
	const __u32 *named;

	if (q->proto == 17)
		return 0;
	named = q->l7 ? lookup_set(&key) : NULL;
	return named ? *named == ABI_PORT_L7 : (q->pod_flags & POD_L7_OTHER) != 0;
}

INLINE void verdict_decide(const struct verdict_query *q, struct verdict *v)
{
	const struct policy_value *policy = lookup_policy(q->policy);

	v->policy = 0;
	v->rule = ABI_RULE_NONE;
	v->to_helper = 0;
	if (!policy) {
		v->reason = q->policy ? DROP_MAP_MISSING : DROP_NOT_READY;
		return;
	}
	v->policy = policy->plan_id;
	if (verdict_mode(q, policy) == ABI_MTLS_STRICT && !q->attested)
		v->reason = DROP_MTLS_REQUIRED;
	else if (q->proto == 17) /* AuthorizationPolicy is TCP's, as in Istio */
		v->reason = DROP_NONE;
	else if (verdict_is_l7(q)) {
		v->reason = DROP_NONE;
		v->to_helper = 1;
	} else
		verdict_rows(q, policy->row_count, policy->has_allow, v);
}
