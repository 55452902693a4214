// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Datagrams that are sent without connect(): each carries its address, so the choice of an endpoint is kept per socket
 * and destination, and answers get the address back that the application sent to. Also both ends of DNS capture: the
 * client believes that it talks to its resolver, and the helper sees which resolver was asked.
 *
 * On an AF_INET6 socket a v4-mapped destination runs the sendmsg4 program, and the answer the recvmsg6 one. */
#include "bpf/lib/outbound.h"

INLINE void key_fill(struct udp_key *key, __u64 socket, const struct ip_port *a, __u8 reverse)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->socket = socket;
	key->addr = a->addr;
	key->port = a->port;
	key->reverse = reverse;
}

/* Answers to the sending port pass the pod's policy. Refreshed seldom: an update costs more than a lookup. */
INLINE void note_reply(struct bpf_sock_addr *ctx, const struct pod_value *pod, __u64 id, const struct ip_port *to)
{
	struct udp_reply_key key = { .pod = id,
				     .remote = to->addr,
				     .remote_port = to->port,
				     .local_port = bpf_htons((__u16)ctx->sk->src_port),
				     .policy = (__u32)pod->policy };
	__u64 now = bpf_ktime_get_ns();
	__u64 *noted = bpf_map_lookup_elem(&udp_replies, &key);

	if (!noted || now - *noted > ABI_UDP_IDLE_NS / 4)
		bpf_map_update_elem(&udp_replies, &key, &now, BPF_ANY);
}

/* The endpoint that this socket used last for this destination, while its service still has the same endpoints. */
INLINE int flow_reuse(const struct udp_key *key, const struct route_query *q, struct route *r)
{
	struct udp_value *flow = bpf_map_lookup_elem(&udp_flows, key);
	struct service_value *service;
	__u64 now = bpf_ktime_get_ns();

	if (!flow || now - flow->used_ns > ABI_UDP_IDLE_NS)
		return 0;
	service = route_service(q);
	if (!service || service->slots_id != flow->slots_id)
		return 0;
	flow->used_ns = now;
	r->endpoint = flow->addr;
	r->port = flow->port;
	return 1;
}

INLINE void flow_store(struct udp_key *key, __u64 socket, const struct ip_port *asked, const struct route *r)
{
	struct udp_value value = { .addr = r->endpoint,
				   .port = r->port,
				   .flags = r->flags,
				   .identity = r->identity,
				   .slots_id = r->slots_id,
				   .used_ns = bpf_ktime_get_ns() };
	struct ip_port endpoint = { .addr = r->endpoint, .port = r->port };

	bpf_map_update_elem(&udp_flows, key, &value, BPF_ANY);
	key_fill(key, socket, &endpoint, 1);
	value.addr = asked->addr;
	value.port = asked->port;
	bpf_map_update_elem(&udp_flows, key, &value, BPF_ANY);
}

/* The helper answers a DNS client: back from the resolver's address to the client's own. */
INLINE int send_dns_answer(__u64 pod, struct ip_port *dst)
{
	struct dns_client_key key = { .pod = pod, .resolver = dst->addr, .port = dst->port };
	struct ip_port *client = bpf_map_lookup_elem(&dns_clients, &key);

	if (client)
		*dst = *client;
	else
		dst->addr = ip_loopback_like(&dst->addr);
	return 1;
}

INLINE int send_dns_query(struct bpf_sock_addr *ctx, const struct pod_value *pod, __u64 id, struct ip_port *dst,
			  __be16 listener)
{
	struct sock_state *state = state_create(ctx->sk);
	struct ip_port asked = *dst;
	struct route r = {};

	if (!state)
		return refuse_with(ctx, pod, &asked, &r, DROP_NO_MEMORY);
	dst->addr = ip_loopback_like(&dst->addr);
	dst->port = listener;
	r.endpoint = dst->addr;
	r.port = listener;
	state_fill(state, pod, id, &asked, &r);
	state->info.flags = CONN_DNS | CONN_REWRITTEN;
	return 1;
}

/* v4: the kernel can't turn an IPv6 datagram into an IPv4 one here, nor the other way. */
INLINE int send_decide(struct bpf_sock_addr *ctx, struct ip_port *dst, int v4)
{
	struct route_query q = {};
	struct ip_port asked = *dst;
	struct route r = {};
	struct pod_value *pod;
	struct sock_mark *mark;
	struct udp_key key;
	__be16 dns;
	__u64 id, socket;

	pod = caller_pod(ctx, &id, &mark);
	if (!pod)
		return 1;
	if (mark)
		return mark->kind == POD_DNS_UDP ? send_dns_answer(id, dst) : 1;
	if (ip_is_loopback(&dst->addr) || ip_is_zero(&dst->addr) || ip_is_group(&dst->addr))
		return 1;
	dns = dns_listener(pod, dst, IPPROTO_UDP);
	if (dns)
		return send_dns_query(ctx, pod, id, dst, dns);

	route_query_fill(&q, pod, id, dst, IPPROTO_UDP);
	socket = bpf_get_socket_cookie(ctx);
	key_fill(&key, socket, dst, 0);
	if (!flow_reuse(&key, &q, &r)) {
		route_decide(&q, &r);
		if (r.path == ROUTE_DENY)
			return refuse(ctx, pod, &asked, &r);
		if (r.path == ROUTE_PASS) {
			note_reply(ctx, pod, id, dst);
			return 1;
		}
		if (!!ip_is_v4(&r.endpoint) != v4)
			return refuse_with(ctx, pod, &asked, &r, DROP_NO_ENDPOINT);
		if (!same(&asked, &r.endpoint, r.port)) {
			flow_store(&key, socket, &asked, &r);
			udp_flow_opened(pod, &asked, &r);
		}
	}
	dst->addr = r.endpoint;
	dst->port = r.port;
	note_reply(ctx, pod, id, dst);
	return 1;
}

SEC("cgroup/sendmsg4")
int weft_sendmsg4(struct bpf_sock_addr *ctx)
{
	struct ip_port dst = user_addr4(ctx);

	if (!send_decide(ctx, &dst, 1))
		return 0;
	user_set4(ctx, &dst);
	return 1;
}

SEC("cgroup/sendmsg6")
int weft_sendmsg6(struct bpf_sock_addr *ctx)
{
	struct ip_port dst = user_addr6(ctx);

	if (!send_decide(ctx, &dst, 0))
		return 0;
	user_set6(ctx, &dst);
	return 1;
}

/* --- receiving */

INLINE struct bpf_sock *client_socket(struct bpf_sock_addr *ctx, const struct ip_port *client, __be16 listener)
{
	struct ip_addr us = ip_loopback_like(&client->addr);
	struct bpf_sock_tuple t = {};

	if (ip_is_v4(&client->addr)) {
		t.ipv4.saddr = us.w[3];
		t.ipv4.sport = listener;
		t.ipv4.daddr = client->addr.w[3];
		t.ipv4.dport = client->port;
		return bpf_sk_lookup_udp(ctx, &t, sizeof(t.ipv4), BPF_F_CURRENT_NETNS, 0);
	}
	__builtin_memcpy(t.ipv6.saddr, &us, sizeof(us));
	t.ipv6.sport = listener;
	__builtin_memcpy(t.ipv6.daddr, &client->addr, sizeof(us));
	t.ipv6.dport = client->port;
	return bpf_sk_lookup_udp(ctx, &t, sizeof(t.ipv6), BPF_F_CURRENT_NETNS, 0);
}

/* The helper receives a query: its source becomes {resolver that was asked, client's port}. */
INLINE int recv_dns_query(struct bpf_sock_addr *ctx, const struct pod_value *pod, __u64 id, struct ip_port *src)
{
	struct bpf_sock *sk = client_socket(ctx, src, pod->ports[POD_DNS_UDP]);
	struct dns_client_key key = { .pod = id, .port = src->port };
	struct ip_port client = *src;
	struct sock_state *state;

	if (!sk)
		return 0;
	state = state_of(sk);
	if (!state || state->role != ROLE_CALLER || !(state->info.flags & CONN_DNS) || state->pod != id) {
		bpf_sk_release(sk);
		return 0;
	}
	src->addr = state->info.original;
	bpf_sk_release(sk);
	key.resolver = src->addr;
	bpf_map_update_elem(&dns_clients, &key, &client, BPF_ANY);
	return 1;
}

INLINE int recv_source(struct bpf_sock_addr *ctx, struct ip_port *src)
{
	const struct udp_value *flow;
	struct sock_state *state;
	struct pod_value *pod;
	struct sock_mark *mark;
	struct udp_key key;
	__u64 id;

	pod = caller_pod(ctx, &id, &mark);
	if (!pod)
		return 0;
	if (mark)
		return mark->kind == POD_DNS_UDP ? recv_dns_query(ctx, pod, id, src) : 0;
	state = state_of(ctx->sk);
	if (state && state->role == ROLE_CALLER && state->info.flags & CONN_REWRITTEN) {
		int dns = state->info.flags & CONN_DNS && src->port == pod->ports[POD_DNS_UDP];

		if (dns || (src->port == state->info.endpoint_port && ip_eq(&src->addr, &state->info.endpoint))) {
			src->addr = state->info.original;
			src->port = state->info.original_port;
			return 1;
		}
	}
	key_fill(&key, bpf_get_socket_cookie(ctx), src, 1);
	flow = bpf_map_lookup_elem(&udp_flows, &key);
	if (!flow)
		return 0;
	src->addr = flow->addr;
	src->port = flow->port;
	return 1;
}

SEC("cgroup/recvmsg4")
int weft_recvmsg4(struct bpf_sock_addr *ctx)
{
	struct ip_port src = user_addr4(ctx);

	if (recv_source(ctx, &src) && ip_is_v4(&src.addr))
		user_set4(ctx, &src);
	return 1;
}

SEC("cgroup/recvmsg6")
int weft_recvmsg6(struct bpf_sock_addr *ctx)
{
	struct ip_port src = user_addr6(ctx);

	if (recv_source(ctx, &src))
		user_set6(ctx, &src);
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
