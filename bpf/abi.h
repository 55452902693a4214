/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Every key, value and event that BPF programs and the agent share. Fixed-width fields, explicit padding, sizes
 * asserted by both compilers. Addresses are 16 bytes, IPv4 v4-mapped; ports in tables are big-endian unless the
 * field says host order. Pinned tables outlive the agent: a change of a layout is a new ABI_VERSION. */
#pragma once

#include <linux/types.h>

#include "agent/model/pod_socket.h"
#include "bpf/reason.h"

#define ABI_VERSION 3

/* Bounds that the verifier needs to see. */
enum {
	ABI_POLICY_ROWS_MAX = 256,
	ABI_RTT_BUCKETS = 12,
	ABI_CGROUP_LEVELS = 8,		/* how deep below the root a workload's control group may be */
	ABI_REFUSALS_PER_SECOND = 1000, /* events per CPU; counters are never limited */
};

#define ABI_SETUP_NS 130000000000ull	 /* an entry of conn_setup lives at most this long: six SYN retries */
#define ABI_ESTABLISHED_NS 3000000000ull /* and this long once the caller is established (SYN cookies) */
#define ABI_UDP_IDLE_NS 60000000000ull	 /* a UDP flow keeps its endpoint for this long */
/* A pod key that is a control group's id instead of a namespace's cookie. The entry of the bit alone says in its flags at
 * which levels (bit n: level n) there are workloads; there is none when no control group is one. */
#define ABI_COOKIE_CGROUP (1ull << 63)
#define ABI_IDENTITY_HOST 0xffffffffu /* attested, but a process of the host: matches no principal */
#define ABI_RULE_NONE 0xffffffffu     /* a default decided */
#define ABI_SLOT_MEMBER 0x80000000u   /* slot_key.index of membership entries: this bit and a hash */
#define ABI_PORT_MODE 0x10000u	      /* set member of a policy's id: this bit and a port; the value is 1 + mode */
#define ABI_PORT_L7 2u		      /* value of a member of pod_value.l7: the helper must see the port */
#define ABI_PORT_L4 1u		      /* the same: rules on the connection are all there is */

struct ip_addr {
	__be32 w[4];
};

struct ip_port {
	struct ip_addr addr;
	__be16 port;
	__u16 pad;
};

/* --- services: what an address and port means to callers */
struct service_key {
	struct ip_addr addr;
	__be16 port;
	__u8 proto;
	__u8 pad;
};

/* Longest prefix match over ServiceEntry ranges: port and protocol come first, so they always match whole. */
struct service_range_key {
	__u32 prefixlen;
	__be16 port;
	__u8 proto;
	__u8 pad;
	struct ip_addr addr;
};

enum service_flags {
	SERVICE_L7 = 1,	 /* callers go to the helper, which chooses the endpoint by what they say */
	SERVICE_ANY = 2, /* of all addresses that nothing else is known of */
};

enum service_algorithm { ABI_LB_LEAST_REQUEST, ABI_LB_ROUND_ROBIN, ABI_LB_RANDOM, ABI_LB_HASH, ABI_LB_PASSTHROUGH };

struct service_value {
	__u64 slots_id;
	__u32 service; /* id in the plan */
	__u32 slot_count;
	__u32 affinity_s;
	__u32 cursor; /* round robin, written by programs; starts anew when the agent writes the entry */
	__u8 algorithm;
	__u8 flags; /* service_flags */
	__u8 pad[6];
};

struct slot_key {
	__u64 slots_id;
	__u32 index;
	__u32 pad;
};

enum endpoint_flags {
	EP_ENROLLED = 1, /* in the mesh */
	EP_LOCAL = 2,	 /* a pod of this node */
	EP_HBONE = 4,	 /* speaks HBONE over a wire */
};

struct slot_value {
	struct ip_addr addr;
	__be16 port;
	__u16 flags; /* endpoint_flags */
	__u32 identity;
};

struct workload_value {
	__u64 cookie; /* of a pod of this node: its key in pods; 0 otherwise */
	__u32 identity;
	__u16 flags; /* endpoint_flags */
	__u16 pad;
};

/* --- pods of this node */
enum pod_flags {
	POD_SAME_NODE_MTLS = 1, /* no attestation: encrypt on the node too */
	POD_REGISTRY_ONLY = 2,
	POD_HOST_NETWORK = 4,  /* a control group in the host's namespace */
	POD_L7_OTHER = 8,      /* so are inbound ports that pod_value.l7 does not name */
	POD_RECHECK = 16,      /* the agent's: its open connections are still to be judged by what has changed */
	POD_EGRESS_PROXY = 32, /* TCP to what is not known is the helper's */
};

enum { POD_PORTS = POD_DNS_TCP + 1 };

struct pod_value {
	__u64 policy;	      /* key of policies; 0: not in place, everything inbound is refused */
	__u64 l7;	      /* set of ports: ABI_PORT_L7 or ABI_PORT_L4; 0: none is named */
	struct ip_addr addr4; /* zero: none */
	struct ip_addr addr6;
	__u32 identity;
	__u32 flags;
	__be16 ports[POD_PORTS]; /* of its listeners, by enum pod_socket; 0: not there */
	__u16 pad[8 - POD_PORTS];
};

/* The host's own namespace: inbound port -> pod, for workloads that are control groups. Address zero: a port of the
 * mesh's own listeners, at any address. */
struct host_port_key {
	struct ip_addr addr;
	__be16 port;
	__u8 proto;
	__u8 pad;
};

struct listener_key {
	__u64 pod;
	__u32 kind;
	__u32 pad;
};

/* --- inbound policy */
enum policy_mode { ABI_MTLS_PERMISSIVE, ABI_MTLS_STRICT, ABI_MTLS_DISABLE };

struct policy_value {
	__u64 plan_id; /* struct policy's id */
	__u32 row_count;
	__u8 mtls;
	__u8 has_port_modes;
	__u8 has_allow;
	__u8 pad;
};

struct policy_row_key {
	__u64 policy;
	__u32 index;
	__u32 pad;
};

enum row_action { ROW_ALLOW, ROW_DENY };

/* One alternative of a rule. Set ids; 0: no condition. DENY rows come first. */
struct policy_row {
	__u64 identities; /* those that fulfil every condition on the peer; member 0: anonymous */
	__u64 ports, not_ports;
	__u64 sources, not_sources;
	__u64 remotes, not_remotes;
	__u64 destinations, not_destinations;
	__u32 rule; /* index into struct policy's rules */
	__u8 action;
	__u8 pad[3];
};

struct set_key {
	__u64 set;
	__u32 member;
	__u32 pad;
};

enum cidr_kind { ABI_CIDR_ANY = 1, ABI_CIDR_IPV6 = 2 }; /* values of cidrs; the second is shorter than ::ffff:0:0/96 */

struct cidr_key {
	__u32 prefixlen; /* 64 + bits of the address */
	__u32 set_low, set_high;
	struct ip_addr addr;
};

/* --- connections */
enum conn_path { CONN_DIRECT, CONN_ATTESTED, CONN_HBONE, CONN_PLAINTEXT, CONN_HTTP }; /* enum flow_path */

enum conn_flags {
	CONN_SAME_NETNS = 1, /* both ends are in the caller's namespace */
	CONN_REWRITTEN = 2,  /* the caller asked for another address than the socket has */
	CONN_TO_HELPER = 4,
	CONN_DNS = 8,
	CONN_HOST = 16,	      /* by a process of the host that is no workload */
	CONN_SHOWS_PEER = 32, /* the accepting application is to see `peer` */
};

/* What is known about one connection; original, endpoint and peer are v4-mapped with big-endian ports. */
struct conn_info {
	struct ip_addr original; /* what the caller asked for */
	struct ip_addr endpoint; /* what was chosen; CONN_HTTP: nothing yet, zero with port 0 */
	struct ip_addr peer;	 /* CONN_SHOWS_PEER: the true caller */
	__be16 original_port, endpoint_port, peer_port;
	__u8 path;
	__u8 flags;
	__u32 source_identity, destination_identity, service;
	__u32 pad;
	__u64 source_pod;
};

/* conn_setup: connections whose handshake is under way; only sockops writes it, so raw sockets can't. */
struct conn_key {
	__u64 netns; /* cookie when both ends are in that namespace, 0 between namespaces */
	struct ip_addr saddr, daddr;
	__be16 sport, dport;
	__u32 pad;
};

struct conn_setup {
	struct conn_info info;
	__u64 created_ns, established_ns; /* monotonic; 0: not yet */
};

enum sock_role {
	ROLE_NONE,
	ROLE_CALLER,	     /* an application's connecting socket, or UDP socket */
	ROLE_ACCEPTED,	     /* an application's accepted socket */
	ROLE_HELPER,	     /* accepted by one of the pod's mesh listeners */
	ROLE_HELPER_CONNECT, /* POD_CONNECT_LOCAL */
	ROLE_HOST,	     /* a process of the host calls a pod */
	ROLE_HELPER_CALLER,  /* POD_CONNECT_REMOTE to a pod of this node: the helper calls for its pod */
};

/* What is known of a socket: in tcp_states by its cookie, or in its local storage. */
struct sock_state {
	struct conn_info info;
	__u64 pod;
	__u64 since_ns;
	__u8 role;
	__u8 setup;   /* published to conn_setup */
	__u8 watched; /* its end will be seen; a caller is in live */
	__u8 opened;
	__u32 received_at_fin; /* low half of bytes_received when our FIN was acknowledged */
};

/* Local storage of the mesh's own sockets, written by the agent; accepted sockets inherit it. */
struct sock_mark {
	__u64 pod;
	__u32 kind; /* enum pod_socket */
	__u32 pad;
};

struct affinity_key {
	__u64 source_pod;
	__u32 service;
	__be16 port;
	__u8 proto;
	__u8 pad;
};

struct affinity_value {
	struct ip_addr addr;
	__be16 port;
	__u16 pad;
	__u32 pad2;
	__u64 used_ns;
};

/* --- UDP */
struct udp_key { /* socket and VIP -> endpoint (flow), socket and endpoint -> VIP (reverse) */
	__u64 socket;
	struct ip_addr addr;
	__be16 port;
	__u8 reverse;
	__u8 pad[5];
};

struct udp_value {
	struct ip_addr addr;
	__be16 port;
	__u16 flags; /* endpoint_flags */
	__u32 identity;
	__u64 slots_id;
	__u64 used_ns;
};

struct udp_reply_key { /* a pod's socket sent there: answers pass its policy */
	__u64 pod;
	struct ip_addr remote;
	__be16 local_port, remote_port;
	__u32 policy; /* low half of the pod's: a server's answers under another one open nothing */
};

struct dns_client_key { /* answers find the client's true address */
	__u64 pod;
	struct ip_addr resolver;
	__be16 port;
	__u16 pad;
	__u32 pad2;
};

/* --- observation */
enum event_kind { EVENT_OPENED, EVENT_CLOSED, EVENT_FAILED, EVENT_REFUSED }; /* enum flow_kind */

struct flow_event {
	__u64 time_ns; /* monotonic */
	struct ip_addr source, destination, original;
	__be16 source_port, destination_port, original_port;
	__u8 kind, path;
	__u8 proto, reason, source_side, pad;
	__u32 source_identity, destination_identity, service, rule;
	__u32 error;
	__u64 policy;
	__u64 sent_bytes, received_bytes, duration_ns;
	__u32 rtt_us, min_rtt_us, retransmits, pad2;
};

struct flow_sum_key {
	__u32 source_identity, destination_identity, service;
	__u8 path, source_side, proto, pad;
};

struct flow_sum_value { /* per CPU */
	__u64 opened, closed, failed, sent_bytes, received_bytes, retransmits, rtt_sum_us;
	__u64 rtt[ABI_RTT_BUCKETS];
};

struct refusal_rate { /* per CPU */
	__u64 second;
	__u64 events;
	__u64 lost; /* flow events that found the ring full */
};

_Static_assert(sizeof(struct ip_addr) == 16, "abi");
_Static_assert(sizeof(struct ip_port) == 20, "abi");
_Static_assert(sizeof(struct service_key) == 20, "abi");
_Static_assert(sizeof(struct service_range_key) == 24, "abi");
_Static_assert(sizeof(struct service_value) == 32, "abi");
_Static_assert(sizeof(struct slot_key) == 16, "abi");
_Static_assert(sizeof(struct slot_value) == 24, "abi");
_Static_assert(sizeof(struct workload_value) == 16, "abi");
_Static_assert(sizeof(struct pod_value) == 72, "abi");
_Static_assert(sizeof(struct listener_key) == 16, "abi");
_Static_assert(sizeof(struct policy_value) == 16, "abi");
_Static_assert(sizeof(struct policy_row_key) == 16, "abi");
_Static_assert(sizeof(struct policy_row) == 80, "abi");
_Static_assert(sizeof(struct set_key) == 16, "abi");
_Static_assert(sizeof(struct cidr_key) == 28, "abi");
_Static_assert(sizeof(struct conn_info) == 80, "abi");
_Static_assert(sizeof(struct conn_key) == 48, "abi");
_Static_assert(sizeof(struct conn_setup) == 96, "abi");
_Static_assert(sizeof(struct sock_state) == 104, "abi");
_Static_assert(sizeof(struct sock_mark) == 16, "abi");
_Static_assert(sizeof(struct affinity_key) == 16, "abi");
_Static_assert(sizeof(struct affinity_value) == 32, "abi");
_Static_assert(sizeof(struct udp_key) == 32, "abi");
_Static_assert(sizeof(struct udp_value) == 40, "abi");
_Static_assert(sizeof(struct udp_reply_key) == 32, "abi");
_Static_assert(sizeof(struct dns_client_key) == 32, "abi");
_Static_assert(sizeof(struct flow_event) == 136, "abi");
_Static_assert(sizeof(struct flow_sum_key) == 16, "abi");
_Static_assert(sizeof(struct flow_sum_value) == 152, "abi");
