// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Inbound: the verdict on a connection before a socket exists. One link per pod network namespace; each is loaded
 * with the pod's key, because sk_lookup programs can't ask for their namespace.
 *
 * SK_DROP makes TCP answer with a reset and UDP with port unreachable, as if nothing listened. */
#include "bpf/lib/events.h"
#include "bpf/lib/pod.h"
#include "bpf/lib/verdict.h"

const volatile __u64 pod_cookie = 0; /* of the namespace that the program is attached to */

struct packet {
	struct ip_addr local, remote;
	__be16 local_port_be, remote_port;
	__u16 local_port;
};

INLINE void packet_read(struct bpf_sk_lookup *ctx, struct packet *p)
{
	if (ctx->family == AF_INET6) {
		p->local = ctx_read_v6(ctx, offsetof(struct bpf_sk_lookup, local_ip6));
		p->remote = ctx_read_v6(ctx, offsetof(struct bpf_sk_lookup, remote_ip6));
	} else {
		p->local = ctx_read_v4(ctx, offsetof(struct bpf_sk_lookup, local_ip4));
		p->remote = ctx_read_v4(ctx, offsetof(struct bpf_sk_lookup, remote_ip4));
	}
	p->local_port = (__u16)ctx->local_port;
	p->local_port_be = bpf_htons(p->local_port);
	p->remote_port = ctx->remote_port;
}

INLINE int refuse(struct bpf_sk_lookup *ctx, const struct pod_value *pod, const struct packet *p,
		  const struct verdict *v, __u32 identity)
{
	struct flow_event *e;

	if (!drop_admit_event(v->reason))
		return SK_DROP;
	e = event_reserve();
	if (!e)
		return SK_DROP;
	e->kind = EVENT_REFUSED;
	e->reason = (__u8)v->reason;
	e->proto = (__u8)ctx->protocol;
	e->path = identity ? CONN_ATTESTED : CONN_PLAINTEXT;
	e->source = p->remote;
	e->source_port = p->remote_port;
	e->destination = e->original = p->local;
	e->destination_port = e->original_port = p->local_port_be;
	e->source_identity = identity;
	e->destination_identity = pod ? pod->identity : 0;
	e->policy = v->policy;
	e->rule = v->rule;
	event_submit(e);
	return SK_DROP;
}

INLINE int refuse_with(struct bpf_sk_lookup *ctx, const struct pod_value *pod, const struct packet *p, __u32 reason)
{
	struct verdict v = { .reason = reason, .rule = ABI_RULE_NONE };

	return refuse(ctx, pod, p, &v, 0);
}

INLINE int steer(struct bpf_sk_lookup *ctx, const struct pod_value *pod, const struct packet *p, __u64 id, __u32 kind)
{
	struct listener_key key = { .pod = id, .kind = kind };
	struct bpf_sock *sk = bpf_map_lookup_elem(&listeners, &key);
	long rc;

	if (!sk)
		return refuse_with(ctx, pod, p, DROP_NOT_READY);
	rc = bpf_sk_assign(ctx, sk, 0);
	bpf_sk_release(sk);
	return rc == 0 ? SK_PASS : refuse_with(ctx, pod, p, DROP_INTERNAL);
}

INLINE int is_mesh_port(const struct pod_value *pod, __be16 port)
{
	for (int i = 0; i < POD_PORTS; i++)
		if (pod->ports[i] == port)
			return 1;
	return 0;
}

INLINE const struct conn_setup *setup_of(const struct packet *p, __u64 netns)
{
	struct conn_key key = { .netns = netns,
				.saddr = p->remote,
				.daddr = p->local,
				.sport = p->remote_port,
				.dport = p->local_port_be };
	const struct conn_setup *setup = bpf_map_lookup_elem(&conn_setup, &key);
	__u64 now = bpf_ktime_get_coarse_ns();

	/* An old tuple can't be replayed: entries live only while their connection is being set up. */
	if (!setup || now > setup->created_ns + ABI_SETUP_NS)
		return NULL;
	if (setup->established_ns && now > setup->established_ns + ABI_ESTABLISHED_NS)
		return NULL;
	return setup;
}

/* A server's answers are noted like a client's questions, so what was let in once comes in again while the exchange goes
 * on; not after a pause, and not under another policy. */
INLINE int is_udp_answer(const struct pod_value *pod, const struct packet *p, __u64 id)
{
	struct udp_reply_key key = { .pod = id,
				     .remote = p->remote,
				     .local_port = p->local_port_be,
				     .remote_port = p->remote_port,
				     .policy = (__u32)pod->policy };
	const __u64 *noted = bpf_map_lookup_elem(&udp_replies, &key);

	return noted && bpf_ktime_get_ns() - *noted < ABI_UDP_IDLE_NS;
}

/* The helper knows an attested caller by its address, if nobody else has that one; the node's processes have a listener of
 * their own. */
INLINE __u32 listener_for(const struct packet *p, __u32 identity)
{
	const struct workload_value *source;

	if (identity == ABI_IDENTITY_HOST)
		return POD_LISTEN_NODE;
	source = identity ? lookup_workload(&p->remote) : NULL;
	return source && source->identity == identity ? POD_LISTEN_ATTESTED : POD_LISTEN_ANONYMOUS;
}

INLINE int judge(struct bpf_sk_lookup *ctx, const struct pod_value *pod, const struct packet *p,
		 const struct conn_setup *setup, __u64 id)
{
	struct verdict_query q = { .policy = pod->policy,
				   .source = p->remote,
				   .destination = p->local,
				   .port = p->local_port,
				   .proto = (__u8)ctx->protocol,
				   .l7 = pod->l7,
				   .pod_flags = pod->flags };
	struct verdict v = {};
	__u32 identity = 0;

	if (setup) {
		q.attested = 1;
		identity = setup->info.source_identity;
		q.identity = identity == ABI_IDENTITY_HOST ? 0 : identity;
	}
	verdict_decide(&q, &v);
	if (v.reason != DROP_NONE)
		return refuse(ctx, pod, p, &v, identity);
	return v.to_helper ? steer(ctx, pod, p, id, listener_for(p, identity)) : SK_PASS;
}

INLINE int decide(struct bpf_sk_lookup *ctx, const struct packet *p, __u64 id)
{
	const struct pod_value *pod = bpf_map_lookup_elem(&pods, &id);
	const struct conn_setup *setup;

	if (!pod)
		return refuse_with(ctx, NULL, p, DROP_MAP_MISSING);
	if (ctx->protocol == IPPROTO_UDP) {
		if (is_udp_answer(pod, p, id))
			return SK_PASS;
		if (is_mesh_port(pod, p->local_port_be))
			return refuse_with(ctx, pod, p, DROP_RESERVED_PORT);
		return judge(ctx, pod, p, NULL, id);
	}
	if (p->local_port == MESH_HBONE_PORT)
		return steer(ctx, pod, p, id, POD_LISTEN_HBONE);
	if (is_mesh_port(pod, p->local_port_be))
		return refuse_with(ctx, pod, p, DROP_RESERVED_PORT);
	if (!ip_same_netns(&p->local, &p->remote))
		return judge(ctx, pod, p, setup_of(p, 0), id);
	setup = setup_of(p, pod_cookie);
	if (setup && setup->info.source_pod == id)
		return SK_PASS;		      /* the pod itself, or its helper, which has judged the caller */
	return judge(ctx, pod, p, setup, id); /* on the host's addresses there are others */
}

SEC("sk_lookup")
int weft_inbound(struct bpf_sk_lookup *ctx)
{
	struct packet p = {};

	packet_read(ctx, &p);
	return ip_is_loopback(&p.local) ? SK_PASS : decide(ctx, &p, pod_cookie);
}

/* On the host's namespace, when workloads are control groups: judges what is theirs, and nothing else. */
SEC("sk_lookup")
int weft_inbound_host(struct bpf_sk_lookup *ctx)
{
	struct host_port_key key = {};
	struct packet p = {};
	const __u64 *id;

	packet_read(ctx, &p);
	if (ip_is_loopback(&p.local))
		return SK_PASS;
	key.addr = p.local;
	key.port = p.local_port_be;
	key.proto = (__u8)ctx->protocol;
	id = bpf_map_lookup_elem(&host_ports, &key);
	if (id)
		return decide(ctx, &p, *id);
	__builtin_memset(&key.addr, 0, sizeof(key.addr));
	if (bpf_map_lookup_elem(&host_ports, &key))
		return refuse_with(ctx, NULL, &p, DROP_RESERVED_PORT);
	return SK_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
