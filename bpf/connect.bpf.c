// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Outbound: what an application's connect() means, and the addresses that it sees afterwards.
 *
 * connect() of a pod's socket finds the service or workload behind the address, chooses an endpoint (lib/route.h) and
 * rewrites the destination: to the endpoint, or to the pod's own outbound listener when the bytes must be encrypted.
 * What was asked and chosen is kept for the socket: sockops.bpf.c publishes it to the accepting side, and
 * getpeername() and getsockname() show the application the addresses it expects.
 *
 * All programs are attached to the root of cgroup2 and return at once for sockets that are no pod's. Sockets that the
 * agent marked are the helper's and are never captured. */
#include "bpf/lib/outbound.h"

INLINE struct sock_state *known_of(struct bpf_sock_addr *ctx)
{
	return ctx->protocol == IPPROTO_TCP ? tcp_state_of(ctx, ctx->sk) : state_of(ctx->sk);
}

INLINE void forget(struct bpf_sock_addr *ctx)
{
	struct sock_state *state = known_of(ctx);

	if (state)
		state->role = ROLE_NONE;
}

/* Decides and rewrites *dst. 1: go on, 0: refused. `v4_only`: the socket can't reach an IPv6 endpoint. */
INLINE int connect_decide(struct bpf_sock_addr *ctx, struct ip_port *dst, int v4_only)
{
	struct ip_port asked = *dst;
	struct route_query q = {};
	struct route r = {};
	struct sock_state value;
	struct pod_value *pod;
	struct sock_mark *mark;
	__be16 dns;
	__u64 id;

	if (ctx->protocol != IPPROTO_TCP && ctx->protocol != IPPROTO_UDP)
		return 1;
	pod = caller_pod(ctx, &id, &mark);
	if (!pod || mark)
		return 1;
	if (ip_is_loopback(&dst->addr) || ip_is_zero(&dst->addr)) {
		forget(ctx); /* an earlier connect() of this socket */
		return 1;
	}
	dns = dns_listener(pod, dst, ctx->protocol);
	if (dns) {
		dst->addr = ip_loopback_like(&dst->addr);
		dst->port = dns;
		r.endpoint = dst->addr;
		r.port = dst->port;
	} else {
		route_query_fill(&q, pod, id, dst, ctx->protocol);
		route_decide(&q, &r);
		if (r.path == ROUTE_DENY)
			return refuse(ctx, pod, &asked, &r);
		if (r.path == ROUTE_HELPER || r.path == ROUTE_HTTP) {
			dst->port = pod->ports[POD_LISTEN_OUTBOUND];
			if (!dst->port)
				return refuse_with(ctx, pod, &asked, &r, DROP_NOT_READY);
			dst->addr = ip_loopback_like(&dst->addr);
		} else if (r.path != ROUTE_PASS) {
			if (v4_only && !ip_is_v4(&r.endpoint))
				return refuse_with(ctx, pod, &asked, &r, DROP_NO_ENDPOINT);
			dst->addr = r.endpoint;
			dst->port = r.port;
		}
	}

	state_fill(&value, pod, id, &asked, &r);
	if (!same(&asked, &dst->addr, dst->port))
		value.info.flags |= CONN_REWRITTEN;
	if (r.path == ROUTE_HELPER || r.path == ROUTE_HTTP)
		value.info.flags |= CONN_TO_HELPER;
	if (dns)
		value.info.flags |= CONN_DNS;
	if (ctx->protocol == IPPROTO_TCP ? tcp_state_put(ctx, ctx->sk, &value) : state_put(ctx->sk, &value))
		return refuse_with(ctx, pod, &asked, &r, DROP_NO_MEMORY);
	if (!dns && ctx->protocol == IPPROTO_UDP)
		udp_flow_opened(pod, &asked, &r);
	return 1;
}

SEC("cgroup/connect4")
int weft_connect4(struct bpf_sock_addr *ctx)
{
	struct ip_port dst = user_addr4(ctx);

	if (!connect_decide(ctx, &dst, 1))
		return 0;
	user_set4(ctx, &dst);
	return 1;
}

SEC("cgroup/connect6")
int weft_connect6(struct bpf_sock_addr *ctx)
{
	struct ip_port dst = user_addr6(ctx);

	if (!connect_decide(ctx, &dst, 0))
		return 0;
	user_set6(ctx, &dst);
	return 1;
}

/* --- addresses that applications and the helper see */

INLINE int shows_peer(struct bpf_sock_addr *ctx, struct ip_port *addr)
{
	struct sock_state *state = known_of(ctx);

	if (!state)
		return 0;
	if (state->info.flags & CONN_SHOWS_PEER && state->role == ROLE_ACCEPTED) {
		addr->addr = state->info.peer;
		addr->port = state->info.peer_port;
		return 1;
	}
	if (state->role == ROLE_HELPER || (state->role == ROLE_CALLER && state->info.flags & CONN_REWRITTEN)) {
		addr->addr = state->info.original;
		addr->port = state->info.original_port;
		return 1;
	}
	return 0;
}

INLINE int shows_local(struct bpf_sock_addr *ctx, struct ip_port *addr)
{
	struct sock_state *state = known_of(ctx);
	struct pod_value *pod;
	__u64 id;

	if (!state)
		return 0;
	if (state->role == ROLE_HELPER && state->info.flags & CONN_TO_HELPER) {
		addr->addr = state->info.endpoint;
		addr->port = state->info.endpoint_port;
		return 1;
	}
	if (state->role != ROLE_CALLER || !(state->info.flags & CONN_REWRITTEN) || !ip_is_loopback(&addr->addr))
		return 0;
	id = state->pod;
	pod = bpf_map_lookup_elem(&pods, &id);
	if (!pod)
		return 0;
	addr->addr = source_addr(pod, &state->info.original);
	return !ip_is_zero(&addr->addr);
}

SEC("cgroup/getpeername4")
int weft_getpeername4(struct bpf_sock_addr *ctx)
{
	struct ip_port a = user_addr4(ctx);

	if (shows_peer(ctx, &a) && ip_is_v4(&a.addr))
		user_set4(ctx, &a);
	return 1;
}

SEC("cgroup/getpeername6")
int weft_getpeername6(struct bpf_sock_addr *ctx)
{
	struct ip_port a = user_addr6(ctx);

	if (shows_peer(ctx, &a))
		user_set6(ctx, &a);
	return 1;
}

SEC("cgroup/getsockname4")
int weft_getsockname4(struct bpf_sock_addr *ctx)
{
	struct ip_port a = user_addr4(ctx);

	if (shows_local(ctx, &a) && ip_is_v4(&a.addr))
		user_set4(ctx, &a);
	return 1;
}

SEC("cgroup/getsockname6")
int weft_getsockname6(struct bpf_sock_addr *ctx)
{
	struct ip_port a = user_addr6(ctx);

	if (shows_local(ctx, &a))
		user_set6(ctx, &a);
	return 1;
}

/* --- bind() of POD_CONNECT_LOCAL: the address is what the application is to see, not where the socket is */

INLINE int bind_peer(struct bpf_sock_addr *ctx, const struct ip_port *peer)
{
	struct sock_mark *mark = mark_of(ctx->sk);
	struct sock_state *state;

	if (!mark || mark->kind != POD_CONNECT_LOCAL)
		return -1;
	state = state_create(ctx->sk);
	if (!state)
		return 0;
	__builtin_memset(state, 0, sizeof(*state));
	state->role = ROLE_HELPER_CONNECT;
	state->pod = mark->pod;
	state->info.source_pod = mark->pod; /* on its behalf: the helper has judged the caller */
	state->info.peer = peer->addr;
	state->info.peer_port = peer->port;
	state->info.flags = CONN_SHOWS_PEER | CONN_SAME_NETNS;
	state->info.path = CONN_HBONE;
	return 1;
}

SEC("cgroup/bind4")
int weft_bind4(struct bpf_sock_addr *ctx)
{
	struct ip_port a = user_addr4(ctx), any = {};
	int rc = bind_peer(ctx, &a);

	if (rc < 0)
		return 1;
	user_set4(ctx, &any);
	return rc;
}

SEC("cgroup/bind6")
int weft_bind6(struct bpf_sock_addr *ctx)
{
	struct ip_port a = user_addr6(ctx), any = {};
	int rc = bind_peer(ctx, &a);

	if (rc < 0)
		return 1;
	user_set6(ctx, &any);
	return rc;
}

/* A connect() that failed before TCP_CONNECT_CB, for want of a route or a port, has an entry whose end nobody sees. */
SEC("cgroup/sock_release")
int weft_sock_release(struct bpf_sock *ctx)
{
	struct sock_state *state;
	__u64 cookie;

	if (ctx->protocol != IPPROTO_TCP || (ctx->state != TCP_CLOSE && ctx->state != TCP_SYN_SENT))
		return 1;
	cookie = bpf_get_socket_cookie(ctx);
	state = bpf_map_lookup_elem(&tcp_states, &cookie);
	if (state && !state->watched)
		bpf_map_delete_elem(&tcp_states, &cookie);
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
