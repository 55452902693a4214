// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The life of TCP connections of pods: publishes who calls at TCP_CONNECT_CB, hands it to the accepted socket at
 * PASSIVE_ESTABLISHED_CB, and sums up bytes, round trips and retransmits when the connection closes. Nothing runs per
 * packet, and nothing at all for sockets that are no pod's. */
#include "bpf/lib/events.h"
#include "bpf/lib/flow.h"
#include "bpf/lib/pod.h"

#define TCP_FIN_WAIT2 5
#define TCP_CLOSE_WAIT 8
#define TCP_LAST_ACK 9
#define TCP_CLOSING 11
#define ECONNREFUSED 111
#define ETIMEDOUT 110

struct tuple {
	struct ip_addr local, remote;
	__be16 local_port, remote_port;
};

INLINE void tuple_read(struct bpf_sock_ops *ctx, struct tuple *t)
{
	if (ctx->family == AF_INET6) {
		t->local = ctx_read_v6(ctx, offsetof(struct bpf_sock_ops, local_ip6));
		t->remote = ctx_read_v6(ctx, offsetof(struct bpf_sock_ops, remote_ip6));
	} else {
		t->local = ctx_read_v4(ctx, offsetof(struct bpf_sock_ops, local_ip4));
		t->remote = ctx_read_v4(ctx, offsetof(struct bpf_sock_ops, remote_ip4));
	}
	t->local_port = bpf_htons((__u16)ctx->local_port);
	t->remote_port = bpf_htons((__u16)bpf_ntohl(ctx->remote_port));
}

INLINE void key_of_caller(const struct tuple *t, __u64 netns, struct conn_key *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->netns = netns;
	key->saddr = t->local;
	key->daddr = t->remote;
	key->sport = t->local_port;
	key->dport = t->remote_port;
}

INLINE void key_of_callee(const struct tuple *t, __u64 netns, struct conn_key *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->netns = netns;
	key->saddr = t->remote;
	key->daddr = t->local;
	key->sport = t->remote_port;
	key->dport = t->local_port;
}

INLINE void watch_state(struct bpf_sock_ops *ctx)
{
	/* Other programs' flags stay: several agents may be attached. */
	bpf_sock_ops_cb_flags_set(ctx, (int)(ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG));
}

INLINE void live_add(const struct conn_info *info, __s64 delta)
{
	struct service_key key = { .addr = info->endpoint, .port = info->endpoint_port, .proto = IPPROTO_TCP };
	__s64 *n = bpf_map_lookup_elem(&live, &key);

	if (!n && delta > 0) {
		__s64 zero = 0;

		bpf_map_update_elem(&live, &key, &zero, BPF_NOEXIST);
		n = bpf_map_lookup_elem(&live, &key);
	}
	if (n)
		__sync_fetch_and_add(n, delta);
}

/* Publishes the connection for the accepting side. */
INLINE void publish(struct sock_state *state, const struct tuple *t, __u64 netns)
{
	struct conn_setup setup = {};
	struct conn_key key;

	setup.info = state->info;
	setup.created_ns = bpf_ktime_get_coarse_ns();
	key_of_caller(t, state->info.flags & CONN_SAME_NETNS ? netns : 0, &key);
	if (bpf_map_update_elem(&conn_setup, &key, &setup, BPF_ANY) == 0)
		state->setup = 1;
	else
		drop_count(DROP_MAP_FULL); /* the accepting side takes it for anonymous */
}

INLINE void event_tuple(struct flow_event *e, const struct sock_state *state, const struct tuple *t)
{
	const struct conn_info *info = &state->info;
	int caller = state->role == ROLE_CALLER;

	e->proto = IPPROTO_TCP;
	e->path = info->path;
	e->source_side = (__u8)caller;
	e->source_identity = info->source_identity;
	e->destination_identity = info->destination_identity;
	e->service = info->service;
	e->source = caller ? t->local : t->remote;
	e->source_port = caller ? t->local_port : t->remote_port;
	e->destination = caller ? info->endpoint : t->local;
	e->destination_port = caller ? info->endpoint_port : t->local_port;
	if (caller && info->path == CONN_HTTP) { /* endpoints are chosen request by request */
		e->destination = info->original;
		e->destination_port = info->original_port;
	}
	e->original = info->original;
	e->original_port = info->original_port;
	if (info->flags & CONN_SHOWS_PEER) {
		e->source = info->peer;
		e->source_port = info->peer_port;
	}
	if (caller && ip_is_loopback(&t->local)) {
		__u64 id = state->pod;
		const struct pod_value *pod = bpf_map_lookup_elem(&pods, &id);

		if (pod)
			e->source = ip_is_v4(&info->original) ? pod->addr4 : pod->addr6;
	}
}

INLINE void opened(struct sock_state *state, const struct tuple *t, __u64 now)
{
	struct flow_sum_value *sum = flow_sum(&state->info, state->role == ROLE_CALLER, IPPROTO_TCP);
	struct flow_event *e;

	state->opened = 1;
	if (sum)
		sum->opened++;
	e = event_reserve_at(now);
	if (!e)
		return;
	e->kind = EVENT_OPENED;
	event_tuple(e, state, t);
	event_submit(e);
}

/* --- the caller's side */

INLINE void connect_helper(struct bpf_sock_ops *ctx, struct sock_state *state, const struct tuple *t, __u64 netns)
{
	const struct workload_value *peer = lookup_workload(&state->info.peer);
	__u64 id = state->pod;
	const struct pod_value *pod = bpf_map_lookup_elem(&pods, &id);

	if (peer) /* the helper has authenticated it; this is for the counters of the accepting side */
		state->info.source_identity = peer->identity;
	if (pod)
		state->info.destination_identity = pod->identity;
	publish(state, t, netns);
	watch_state(ctx);
}

INLINE void connect_host(struct bpf_sock_ops *ctx, struct bpf_sock *sk, const struct tuple *t)
{
	const struct workload_value *workload = lookup_workload(&t->remote);
	struct sock_state *state;

	if (!workload || !(workload->flags & EP_LOCAL) || !workload->cookie)
		return;
	state = state_create(sk);
	if (!state)
		return;
	__builtin_memset(state, 0, sizeof(*state));
	state->role = ROLE_HOST;
	state->info.path = CONN_ATTESTED;
	state->info.flags = CONN_HOST;
	state->info.original = state->info.endpoint = t->remote;
	state->info.original_port = state->info.endpoint_port = t->remote_port;
	state->info.source_identity = ABI_IDENTITY_HOST;
	state->info.destination_identity = workload->identity;
	if (ip_same_netns(&t->local, &t->remote)) /* a workload on the host's own address */
		state->info.flags |= CONN_SAME_NETNS;
	publish(state, t, host_netns);
	watch_state(ctx);
}

/* The helper calls another pod of this node for its own: attested as that pod, and counted where it arrives alone. */
INLINE void connect_for_pod(struct bpf_sock_ops *ctx, struct bpf_sock *sk, const struct sock_mark *mark,
			    const struct tuple *t, __u64 netns)
{
	const struct workload_value *workload = lookup_workload(&t->remote);
	__u64 id = mark->pod;
	const struct pod_value *pod = bpf_map_lookup_elem(&pods, &id);
	struct sock_state *state;

	if (!pod || pod->flags & POD_SAME_NODE_MTLS || !workload || !(workload->flags & EP_LOCAL))
		return;
	state = state_create(sk);
	if (!state)
		return;
	__builtin_memset(state, 0, sizeof(*state));
	state->role = ROLE_HELPER_CALLER;
	state->pod = id;
	state->info.path = CONN_ATTESTED;
	state->info.original = state->info.endpoint = t->remote;
	state->info.original_port = state->info.endpoint_port = t->remote_port;
	state->info.source_identity = pod->identity;
	state->info.source_pod = id;
	state->info.destination_identity = workload->identity;
	if (ip_same_netns(&t->local, &t->remote))
		state->info.flags |= CONN_SAME_NETNS;
	publish(state, t, netns);
	watch_state(ctx);
}

INLINE void on_connect(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	__u64 netns = bpf_get_netns_cookie(ctx);
	struct sock_state *state = tcp_state_of(ctx, sk);
	struct sock_mark *mark;
	struct tuple t;

	if (state && state->role == ROLE_HELPER_CONNECT) {
		tuple_read(ctx, &t);
		connect_helper(ctx, state, &t, netns);
		return;
	}
	if (!state || state->role != ROLE_CALLER) {
		mark = mark_of(sk);
		if (mark ? mark->kind != POD_CONNECT_REMOTE : netns != host_netns)
			return;
		tuple_read(ctx, &t);
		if (mark)
			connect_for_pod(ctx, sk, mark, &t, netns);
		else
			connect_host(ctx, sk, &t);
		return;
	}
	tuple_read(ctx, &t);
	if (ip_same_netns(&t.local, &t.remote))
		state->info.flags |= CONN_SAME_NETNS;
	if (state->info.flags & (CONN_TO_HELPER | CONN_DNS | CONN_SAME_NETNS) || state->info.path == CONN_ATTESTED)
		publish(state, &t, netns);
	if (!(state->info.flags & CONN_DNS) && state->info.path != CONN_HTTP)
		live_add(&state->info, 1);
	state->watched = 1;
	watch_state(ctx);
}

INLINE void on_active_established(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct sock_state *state = tcp_state_of(ctx, sk);
	struct tuple t;

	if (!state || state->role == ROLE_NONE)
		return;
	tuple_read(ctx, &t);
	if (state->setup) {
		struct conn_setup *setup;
		struct conn_key key;

		key_of_caller(&t, state->info.flags & CONN_SAME_NETNS ? bpf_get_netns_cookie(ctx) : 0, &key);
		setup = bpf_map_lookup_elem(&conn_setup, &key);
		if (setup)
			setup->established_ns = bpf_ktime_get_coarse_ns();
	}
	if (state->role == ROLE_CALLER && !(state->info.flags & CONN_DNS))
		opened(state, &t, bpf_ktime_get_ns());
}

/* --- the accepting side */

INLINE int take_setup(const struct tuple *t, __u64 netns, struct sock_state *state)
{
	struct conn_setup *setup;
	struct conn_key key;

	key_of_callee(t, ip_same_netns(&t->local, &t->remote) ? netns : 0, &key);
	setup = bpf_map_lookup_elem(&conn_setup, &key);
	if (!setup)
		return 0;
	state->info = setup->info;
	bpf_map_delete_elem(&conn_setup, &key);
	return 1;
}

/* Whose accepted socket this is; *id is its key. */
INLINE const struct pod_value *callee_pod(__u64 netns, const struct sock_mark *mark, const struct tuple *t, __u64 *id)
{
	const struct pod_value *pod;
	__u64 *found;

	*id = netns;
	pod = bpf_map_lookup_elem(&pods, id);
	if (pod || netns != host_netns)
		return pod;
	if (mark) {
		*id = mark->pod;
	} else {
		struct host_port_key key = { .addr = t->local, .port = t->local_port, .proto = IPPROTO_TCP };

		found = bpf_map_lookup_elem(&host_ports, &key);
		if (!found)
			return NULL;
		*id = *found;
	}
	return bpf_map_lookup_elem(&pods, id);
}

INLINE void on_passive_established(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	__u64 netns = bpf_get_netns_cookie(ctx), id;
	struct sock_mark *mark = mark_of(sk);
	struct sock_state state = {};
	const struct pod_value *pod;
	struct tuple t;

	tuple_read(ctx, &t);
	pod = callee_pod(netns, mark, &t, &id);
	if (!pod)
		return;
	if (!mark && ip_is_loopback(&t.remote))
		return; /* inside the pod */
	if (mark && mark->kind != POD_LISTEN_OUTBOUND && mark->kind != POD_DNS_TCP)
		return;
	state.pod = id;
	state.since_ns = bpf_ktime_get_ns();
	if (mark) { /* the helper refuses what it can't place */
		state.role = ROLE_HELPER;
		if (take_setup(&t, netns, &state))
			state_put(sk, &state);
		return;
	}
	state.role = ROLE_ACCEPTED;
	if (!take_setup(&t, netns, &state)) {
		state.info.path = CONN_PLAINTEXT;
		state.info.original = state.info.endpoint = t.local;
		state.info.original_port = state.info.endpoint_port = t.local_port;
	}
	state.info.destination_identity = pod->identity;
	state.opened = state.watched = 1;
	if (tcp_state_put(ctx, sk, &state) < 0)
		return; /* an application serves it uncounted */
	opened(&state, &t, state.since_ns);
	watch_state(ctx);
}

/* --- the end of either */

/* tcp_info's byte counts include the sequence numbers of SYN and FIN. In FIN_WAIT2 the peer's FIN has come when anything
 * has: a socket that its owner has closed leaves that state at once, without it. */
INLINE void event_counts(struct bpf_sock_ops *ctx, struct flow_event *e, const struct sock_state *state)
{
	__u32 old = ctx->args[0];

	e->sent_bytes = ctx->bytes_acked;
	e->received_bytes = ctx->bytes_received;
	if (state->role == ROLE_CALLER && e->sent_bytes)
		e->sent_bytes--;
	if ((old == TCP_FIN_WAIT2 || old == TCP_LAST_ACK) && e->sent_bytes)
		e->sent_bytes--;
	if ((old == TCP_CLOSE_WAIT || old == TCP_LAST_ACK || old == TCP_CLOSING ||
	     (old == TCP_FIN_WAIT2 && (__u32)e->received_bytes != state->received_at_fin)) &&
	    e->received_bytes)
		e->received_bytes--;
	e->rtt_us = ctx->srtt_us >> 3;
	e->min_rtt_us = ctx->rtt_min;
	e->retransmits = ctx->total_retrans;
}

INLINE void closed(struct bpf_sock_ops *ctx, struct sock_state *state)
{
	struct flow_sum_value *sum = flow_sum(&state->info, state->role == ROLE_CALLER, IPPROTO_TCP);
	struct flow_event local = {}, *e;
	struct tuple t;

	event_counts(ctx, &local, state);
	if (sum) {
		sum->closed++;
		sum->sent_bytes += local.sent_bytes;
		sum->received_bytes += local.received_bytes;
		sum->retransmits += local.retransmits;
		sum->rtt_sum_us += local.rtt_us;
		sum->rtt[rtt_bucket(local.rtt_us)]++;
	}
	e = event_reserve();
	if (!e)
		return;
	e->kind = EVENT_CLOSED;
	e->sent_bytes = local.sent_bytes;
	e->received_bytes = local.received_bytes;
	e->rtt_us = local.rtt_us;
	e->min_rtt_us = local.min_rtt_us;
	e->retransmits = local.retransmits;
	e->duration_ns = e->time_ns - state->since_ns;
	tuple_read(ctx, &t);
	event_tuple(e, state, &t);
	event_submit(e);
}

INLINE void failed(struct bpf_sock_ops *ctx, struct sock_state *state)
{
	struct flow_sum_value *sum = flow_sum(&state->info, 1, IPPROTO_TCP);
	struct flow_event *e;
	struct tuple t;

	if (sum)
		sum->failed++;
	e = event_reserve();
	if (!e)
		return;
	e->kind = EVENT_FAILED;
	e->duration_ns = e->time_ns - state->since_ns;
	/* The socket's error can't be read here: without a retransmit somebody has answered. */
	e->retransmits = ctx->total_retrans;
	e->error = e->retransmits ? ETIMEDOUT : ECONNREFUSED;
	tuple_read(ctx, &t);
	event_tuple(e, state, &t);
	event_submit(e);
}

INLINE void on_fin_acknowledged(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct sock_state *state = tcp_state_of(ctx, sk);

	if (state)
		state->received_at_fin = (__u32)ctx->bytes_received;
}

INLINE void on_close(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct sock_state *state = tcp_state_of(ctx, sk);

	if (!state || state->role == ROLE_NONE)
		return;
	if (state->setup) {
		struct conn_key key;
		struct tuple t;

		tuple_read(ctx, &t);
		key_of_caller(&t, state->info.flags & CONN_SAME_NETNS ? bpf_get_netns_cookie(ctx) : 0, &key);
		bpf_map_delete_elem(&conn_setup, &key);
		state->setup = 0;
	}
	if (state->watched && state->role == ROLE_CALLER && !(state->info.flags & CONN_DNS) &&
	    state->info.path != CONN_HTTP)
		live_add(&state->info, -1);
	if (state->opened)
		closed(ctx, state);
	else if (state->role == ROLE_CALLER && ctx->args[0] == TCP_SYN_SENT && !(state->info.flags & CONN_DNS))
		failed(ctx, state);
	state->role = ROLE_NONE;
	state->opened = 0;
	state->watched = 0;
	tcp_state_drop(ctx);
}

SEC("sockops")
int weft_sockops(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk;

	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		break;
	case BPF_SOCK_OPS_STATE_CB:
		if (ctx->args[1] == TCP_CLOSE || ctx->args[1] == TCP_FIN_WAIT2)
			break;
		return 1;
	default:
		return 1;
	}
	sk = ctx->sk;
	if (!sk)
		return 1;
	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		on_connect(ctx, sk);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		on_active_established(ctx, sk);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		on_passive_established(ctx, sk);
		break;
	default:
		if (ctx->args[1] == TCP_CLOSE)
			on_close(ctx, sk);
		else
			on_fin_acknowledged(ctx, sk);
	}
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
