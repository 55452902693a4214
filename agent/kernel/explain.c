// SPDX-License-Identifier: Apache-2.0
/* explain runs the data path's own decisions (bpf/lib/route.h, verdict.h) over the live tables: here are their lookups,
 * as system calls. Looking changes nothing: round robin's cursor and affinity are read, not written. */
#include "agent/base/err.h"
#include "agent/base/loop.h"
#include "agent/kernel/internal.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#define INLINE static inline
#define bpf_htonl htonl

/* Of the call under way; the sink has one thread. */
static struct kernel *at;

INLINE struct service_value *lookup_service(const struct service_key *key)
{
	static struct service_value v;

	return ktable_get(&at->tables[KT_SERVICES], key, &v) == 0 ? &v : NULL;
}

INLINE struct service_value *lookup_service_range(const struct service_range_key *key)
{
	static struct service_value v;

	return bpf_map_lookup_elem(at->maps[KMAP_SERVICE_RANGES], key, &v) == 0 ? &v : NULL;
}

INLINE const struct slot_value *lookup_slot(const struct slot_key *key)
{
	static struct slot_value v;

	return ktable_get(&at->tables[KT_SLOTS], key, &v) == 0 ? &v : NULL;
}

INLINE const struct workload_value *lookup_workload(const struct ip_addr *addr)
{
	static struct workload_value v;

	return ktable_get(&at->tables[KT_WORKLOADS], addr, &v) == 0 ? &v : NULL;
}

INLINE const struct policy_value *lookup_policy(__u64 id)
{
	static struct policy_value v;

	return ktable_get(&at->tables[KT_POLICIES], &id, &v) == 0 ? &v : NULL;
}

INLINE const struct policy_row *lookup_policy_row(const struct policy_row_key *key)
{
	static struct policy_row v;

	return ktable_get(&at->tables[KT_POLICY_ROWS], key, &v) == 0 ? &v : NULL;
}

INLINE const __u32 *lookup_set(const struct set_key *key)
{
	static __u32 v;

	return ktable_get(&at->tables[KT_SETS], key, &v) == 0 ? &v : NULL;
}

INLINE const __u32 *lookup_cidr(const struct cidr_key *key)
{
	static __u32 v;

	return bpf_map_lookup_elem(at->maps[KMAP_CIDRS], key, &v) == 0 ? &v : NULL;
}

INLINE __s64 lookup_live(const struct service_key *endpoint)
{
	__s64 v;

	return bpf_map_lookup_elem(at->maps[KMAP_LIVE], endpoint, &v) == 0 ? v : 0;
}

INLINE struct affinity_value *lookup_affinity(const struct affinity_key *key)
{
	static struct affinity_value v;

	return bpf_map_lookup_elem(at->maps[KMAP_AFFINITY], key, &v) == 0 ? &v : NULL;
}

INLINE void store_affinity(const struct affinity_key *key, const struct affinity_value *value)
{
	(void)key;
	(void)value;
}

INLINE __u32 next_cursor(struct service_value *service)
{
	return service->cursor;
}

INLINE __u32 random_u32(void)
{
	__u32 v = 0;

	return getrandom(&v, sizeof(v), 0) == sizeof(v) ? v : 0;
}

INLINE __u64 now_ns(void)
{
	return clock_now_ns();
}

#include "bpf/lib/route.h"
#include "bpf/lib/verdict.h"

static enum path_choice path_of(uint32_t path)
{
	switch (path) {
	case ROUTE_PASS:
		return PATH_PASS;
	case ROUTE_HELPER:
		return PATH_HELPER_L4;
	case ROUTE_HTTP:
		return PATH_HELPER_L7;
	case ROUTE_DENY:
		return PATH_DENY;
	default:
		return PATH_DIRECT;
	}
}

int kernel_explain_outbound(struct kernel *k, const struct kernel_pod *source, const struct addr_port *destination,
			    uint8_t proto, struct explain_outbound *out, struct err *err)
{
	const struct pod *pod = pod_of(k, source);
	struct route_query q = { .addr = abi_addr(&destination->addr),
				 .port = htons(destination->port),
				 .proto = proto };
	struct route r = { 0 };

	if (!pod)
		return err_set(err, -ENOENT, "explain: the source is not enrolled");
	q.pod = source->cookie;
	q.pod_flags = pod->value.flags;
	q.source = ip_is_zero(&pod->value.addr4) ? pod->value.addr6 : pod->value.addr4;
	at = k;
	route_decide(&q, &r);
	*out = (struct explain_outbound){ .path = path_of(r.path),
					  .reason = (enum drop_reason)r.reason,
					  .service = r.service,
					  .slots_id = r.slots_id };
	out->chosen.addr = abi_addr_from(&r.endpoint);
	out->chosen.port = ntohs(r.port);
	if (r.path == ROUTE_PASS || r.path == ROUTE_HTTP)
		out->chosen = *destination;
	if ((r.path == ROUTE_HELPER || r.path == ROUTE_HTTP) && !pod->value.ports[POD_LISTEN_OUTBOUND]) {
		out->path = PATH_DENY;
		out->reason = DROP_NOT_READY;
	}
	return 0;
}

static bool attested_here(const struct kernel *k, uint32_t identity)
{
	for (size_t i = 0; k->plan && i < k->plan->workload_count; i++) {
		const struct workload *w = k->plan->workloads[i];

		if (w->enrolled && workload_is_local(w) && w->identity && w->identity->id == identity)
			return true;
	}
	return false;
}

/* Who is not on this node comes over HBONE, where the helper judges by struct policy. */
static int explain_by_policy(struct kernel *k, const struct pod *pod, const struct policy_input *in, uint32_t identity,
			     struct explain_inbound *out, struct err *err)
{
	const struct policy *policy = pod->pub.workload->policy;
	struct policy_input with = *in;
	struct policy_verdict v;

	with.peer = k->plan ? plan_identity_by_id(k->plan, identity) : NULL;
	if (!with.peer || !policy)
		return err_set(err, -ENOENT, "explain: the source's identity is not known");
	policy_eval(policy, &with, &v);
	*out = (struct explain_inbound){ .reason = v.reason,
					 .policy_id = policy->id,
					 .to_helper = true,
					 .rule = v.rule ? (uint32_t)(v.rule - policy->rules) : UINT32_MAX };
	return 0;
}

void explain_verdict(struct kernel *k, const struct pod *pod, const struct inbound_call *call,
		     struct explain_inbound *out)
{
	struct verdict_query q = { .policy = pod->value.policy,
				   .source = call->source,
				   .destination = call->destination,
				   .identity = call->identity,
				   .port = call->port,
				   .proto = call->proto,
				   .attested = call->attested,
				   .l7 = pod->value.l7,
				   .pod_flags = pod->value.flags };
	struct verdict v = { 0 };

	at = k;
	verdict_decide(&q, &v);
	*out = (struct explain_inbound){
		.reason = (enum drop_reason)v.reason, .to_helper = v.to_helper, .policy_id = v.policy, .rule = v.rule
	};
}

int kernel_explain_inbound(struct kernel *k, const struct kernel_pod *destination, uint32_t source_identity,
			   const struct addr *source, uint16_t port, uint8_t proto, struct explain_inbound *out,
			   struct err *err)
{
	const struct pod *pod = pod_of(k, destination);
	struct policy_input in = { .source = *source, .port = port, .proto = proto };
	struct inbound_call call = { .source = abi_addr(source),
				     .port = port,
				     .proto = proto,
				     .identity = source_identity,
				     .attested = source_identity != 0 };

	if (!pod)
		return err_set(err, -ENOENT, "explain: the destination is not enrolled");
	call.destination = addr_is_v4(source) ? pod->value.addr4 : pod->value.addr6;
	in.destination = abi_addr_from(&call.destination);
	if (source_identity && !attested_here(k, source_identity))
		return explain_by_policy(k, pod, &in, source_identity, out, err);
	explain_verdict(k, pod, &call, out);
	return 0;
}
