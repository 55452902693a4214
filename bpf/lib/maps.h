/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Every map, declared once and pinned by name, so that all objects of an instance share them. Included by .bpf.c
 * files only, through lib/lookup.h.
 *
 * Tables that grow with the configuration are the single entry of an array of maps: the agent fills a larger inner
 * table and swaps it in, and no program is reloaded. */
#pragma once

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "bpf/abi.h"

#define GROWING_TABLE(name, key_type, value_type)                                                                      \
	struct name##_inner {                                                                                          \
		__uint(type, BPF_MAP_TYPE_HASH);                                                                       \
		__uint(map_flags, BPF_F_NO_PREALLOC);                                                                  \
		__uint(max_entries, 1024);                                                                             \
		__uint(key_size, sizeof(key_type));                                                                    \
		__uint(value_size, sizeof(value_type));                                                                \
	};                                                                                                             \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);                                                              \
		__uint(max_entries, 1);                                                                                \
		__uint(pinning, LIBBPF_PIN_BY_NAME);                                                                   \
		__type(key, __u32);                                                                                    \
		__array(values, struct name##_inner);                                                                  \
	} name SEC(".maps")

GROWING_TABLE(services, struct service_key, struct service_value);
GROWING_TABLE(slots, struct slot_key, struct slot_value);
GROWING_TABLE(workloads, struct ip_addr, struct workload_value);
GROWING_TABLE(policies, __u64, struct policy_value);
GROWING_TABLE(policy_rows, struct policy_row_key, struct policy_row);
GROWING_TABLE(sets, struct set_key, __u32);

/* A trie takes memory only for what it holds, so it need not grow. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 20);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct service_range_key);
	__type(value, struct service_value);
} service_ranges SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 20);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct cidr_key);
	__type(value, __u32);
} cidrs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u64);
	__type(value, struct pod_value);
} pods SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct host_port_key);
	__type(value, __u64);
} host_ports SEC(".maps");

/* A socket leaves by itself when it is closed. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 65536);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct listener_key);
	__type(value, __u64);
} listeners SEC(".maps");

/* Of applications' TCP connections, by cookie. A socket's local storage would do, and does when this is full: but it is
 * two allocations while connect() waits, once at each end. Entries go at TCP_CLOSE. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u64);
	__type(value, struct sock_state);
} tcp_states SEC(".maps");

/* Of all other sockets: the helper's, the host's, UDP. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, int);
	__type(value, struct sock_state);
} sock_states SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, int);
	__type(value, struct sock_mark);
} sock_marks SEC(".maps");

/* Tables that programs fill: least recently used entries give way. Sizes are set before loading. */
#define LRU_TABLE(name, key_type, value_type, size)                                                                    \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_LRU_HASH);                                                                   \
		__uint(max_entries, size);                                                                             \
		__uint(pinning, LIBBPF_PIN_BY_NAME);                                                                   \
		__type(key, key_type);                                                                                 \
		__type(value, value_type);                                                                             \
	} name SEC(".maps")

LRU_TABLE(conn_setup, struct conn_key, struct conn_setup, 16384);
LRU_TABLE(live, struct service_key, __s64, 16384);
LRU_TABLE(affinity, struct affinity_key, struct affinity_value, 16384);
LRU_TABLE(udp_flows, struct udp_key, struct udp_value, 16384);
LRU_TABLE(udp_replies, struct udp_reply_key, __u64, 16384);
LRU_TABLE(dns_clients, struct dns_client_key, struct ip_port, 8192);

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DROP_REASON_COUNT);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u64);
} drops SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct refusal_rate);
} event_rate SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct flow_sum_key);
	__type(value, struct flow_sum_value);
} flow_sums SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} events SEC(".maps");
