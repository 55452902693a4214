/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Whose socket is it, and small accessors of socket addresses. */
#pragma once

#include "bpf/lib/lookup.h"

#include "bpf/lib/addr.h"

#include <stddef.h>

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define TCP_SYN_SENT 2
#define TCP_CLOSE 7

/* Set before loading. */
const volatile __u64 host_netns = 0;
const volatile __u8 have_set_retval = 0; /* bpf_set_retval in sock_addr programs: 5.18 or newer */

INLINE struct sock_state *state_of(struct bpf_sock *sk)
{
	return bpf_sk_storage_get(&sock_states, sk, 0, 0);
}

INLINE struct sock_state *state_create(struct bpf_sock *sk)
{
	return bpf_sk_storage_get(&sock_states, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
}

INLINE int state_put(struct bpf_sock *sk, const struct sock_state *value)
{
	struct sock_state *state = state_create(sk);

	if (!state)
		return -1;
	*state = *value;
	return 0;
}

/* The same for TCP sockets, in the context of sock_addr and sockops programs. */
INLINE struct sock_state *tcp_state_of(void *ctx, struct bpf_sock *sk)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct sock_state *state = bpf_map_lookup_elem(&tcp_states, &cookie);

	return state ? state : state_of(sk);
}

INLINE int tcp_state_put(void *ctx, struct bpf_sock *sk, const struct sock_state *value)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);

	return bpf_map_update_elem(&tcp_states, &cookie, value, BPF_ANY) == 0 ? 0 : state_put(sk, value);
}

INLINE void tcp_state_drop(void *ctx)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);

	bpf_map_delete_elem(&tcp_states, &cookie);
}

INLINE struct sock_mark *mark_of(struct bpf_sock *sk)
{
	return bpf_sk_storage_get(&sock_marks, sk, 0, 0);
}

/* The verifier wants context fields at constant offsets; the compiler likes to merge the two families' accesses into one
 * through a computed pointer, which assembly prevents. */
INLINE __u32 ctx_read(const void *ctx, const int offset)
{
	__u64 v;

	asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(v) : "r"(ctx), "i"(offset));
	return (__u32)v;
}

INLINE void ctx_write(void *ctx, const int offset, __u32 value)
{
	__u64 v = value;

	asm volatile("*(u32 *)(%0 + %1) = %2" : : "r"(ctx), "i"(offset), "r"(v) : "memory");
}

INLINE struct ip_addr ctx_read_v6(const void *ctx, const int offset)
{
	struct ip_addr addr;

	addr.w[0] = ctx_read(ctx, offset);
	addr.w[1] = ctx_read(ctx, offset + 4);
	addr.w[2] = ctx_read(ctx, offset + 8);
	addr.w[3] = ctx_read(ctx, offset + 12);
	return addr;
}

INLINE struct ip_addr ctx_read_v4(const void *ctx, const int offset)
{
	return ip_v4(ctx_read(ctx, offset));
}
