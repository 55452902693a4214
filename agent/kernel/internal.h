/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the kernel sink share. Loop thread only. */
#pragma once

#include "agent/kernel/kernel.h"
#include "agent/kernel/ktable.h"
#include "agent/model/plan.h"
#include "bpf/abi.h"

#include <limits.h>
#include <stdio.h>
#include <sys/queue.h>
#include <sys/types.h>

struct table;
struct loop_timer;
struct loop_watch;
struct flow_reader;
struct lowered;
struct recheck;

/* Pinned maps other than the growing tables. */
#define KERNEL_MAPS(X)                                                                                                 \
	X(SERVICE_RANGES, service_ranges)                                                                              \
	X(CIDRS, cidrs)                                                                                                \
	X(PODS, pods)                                                                                                  \
	X(HOST_PORTS, host_ports)                                                                                      \
	X(LISTENERS, listeners)                                                                                        \
	X(TCP_STATES, tcp_states)                                                                                      \
	X(SOCK_STATES, sock_states)                                                                                    \
	X(SOCK_MARKS, sock_marks)                                                                                      \
	X(CONN_SETUP, conn_setup)                                                                                      \
	X(LIVE, live)                                                                                                  \
	X(AFFINITY, affinity)                                                                                          \
	X(UDP_FLOWS, udp_flows)                                                                                        \
	X(UDP_REPLIES, udp_replies)                                                                                    \
	X(DNS_CLIENTS, dns_clients)                                                                                    \
	X(DROPS, drops)                                                                                                \
	X(EVENT_RATE, event_rate)                                                                                      \
	X(FLOW_SUMS, flow_sums)                                                                                        \
	X(EVENTS, events)

enum kernel_map {
#define KERNEL_MAP_VALUE(symbol, name) KMAP_##symbol,
	KERNEL_MAPS(KERNEL_MAP_VALUE)
#undef KERNEL_MAP_VALUE
		KMAP_COUNT
};

/* Tables that grow, in the order of ktable_specs. */
enum kernel_table { KT_SERVICES, KT_SLOTS, KT_WORKLOADS, KT_POLICIES, KT_POLICY_ROWS, KT_SETS, KT_COUNT };

struct kernel_paths {
	char bpffs[PATH_MAX];
	char base[PATH_MAX]; /* <bpffs>/weft/<instance> */
	char maps[PATH_MAX], links[PATH_MAX], pods[PATH_MAX];
};

/* Namespace identity on nsfs, and the pod's place in it. */
struct netns_id {
	dev_t dev;
	ino_t ino;
};

enum pod_waits { POD_WAITS_NOT, POD_WAITS_NOW, POD_WAITS_LATER };

TAILQ_HEAD(pod_list, pod);

struct pod {
	struct kernel_pod pub; /* first */
	struct netns_id netns;
	int link_fd;		/* of its sk_lookup program; -1: none */
	uint32_t level;		/* of a control group, below the root */
	uint64_t policy;	/* key in policies; 0: none in place */
	struct pod_value value; /* as written */
	bool gone;		/* its namespace has no name any more: reported as removed, policed until it is dead */
	bool stale;		/* scratch of kernel_apply */
	/* recheck.c's */
	TAILQ_ENTRY(pod) queue;
	enum pod_waits waits;
	uint32_t round;
	uint64_t changed_ns; /* what it was queued for */
	uint64_t due_ns;
};

struct kernel {
	struct kernel_paths paths;
	struct kernel_events events;
	struct loop *loop;
	char cgroup[PATH_MAX];
	bool fresh;  /* the pins were made by this run: the tables hold nothing but what it wrote */
	bool resync; /* the last plan was not written whole */
	int own_netns;
	int host_link; /* sk_lookup on the host's namespace; -1: none */
	uint64_t host_cookie;
	int maps[KMAP_COUNT];
	struct ktable tables[KT_COUNT];
	struct plan *plan;
	struct table *pods_by_uid;    /* uid -> struct pod, owning */
	struct table *pods_by_cookie; /* cookie -> struct pod */
	struct table *failed;	      /* uid -> why, so that it is reported once */
	struct lowered *policies;     /* those in force */
	bool policies_changed;	      /* unused rows and sets are still to be removed */
	struct loop_timer *pod_timer;
	struct loop_watch *netns_watch;
	struct flow_reader *flows;
	struct recheck *recheck; /* NULL: no loop */
	uint32_t flow_rows;	 /* capacity of flow_sums */
};

/* load.c */
int kernel_paths_init(struct kernel_paths *paths, const struct kernel_options *options, struct err *err);
int kernel_load(struct kernel *k, const struct kernel_options *options, struct err *err);
/* Loads the sk_lookup program of the namespace with this cookie and puts it into the link pinned at path, or makes the
 * link; its fd is the caller's. */
int inbound_attach(struct kernel *k, uint64_t cookie, bool host, int netns_fd, const char *path, int *link_fd,
		   struct err *err);
int kernel_find_cgroup(char path[PATH_MAX], struct err *err);
int kernel_mount_bpffs(const char *path, struct err *err);

/* netns.c */
/* Path of the workload's network namespace; -EINVAL with a sentence when its place is not valid. */
int netns_path(const struct workload *w, char path[PATH_MAX], struct err *err);
int netns_open(const char *path, int *fd, struct netns_id *id, struct err *err);
int netns_stat(const char *path, struct netns_id *id);
/* Moves the thread into the namespace until netns_leave, which can't fail (the process ends if it does). */
int netns_enter(struct kernel *k, int fd, struct err *err);
void netns_leave(struct kernel *k);
int netns_cookie(uint64_t *cookie, struct err *err); /* of the thread's namespace */
int netns_loopback_up(struct err *err);

/* services.c */
int services_write(struct kernel *k, const struct plan *old, const struct plan *plan, struct err *err);
int services_remove(struct kernel *k, const struct plan *old, const struct plan *plan, struct err *err);
uint32_t services_count_entries(const struct plan *plan, enum kernel_table table);
uint64_t service_slots_id(const struct service *s, const struct service_port *p);

/* workloads.c */
int workloads_write(struct kernel *k, const struct plan *old, const struct plan *plan, struct err *err);
int workloads_remove(struct kernel *k, const struct plan *old, const struct plan *plan, struct err *err);
int workload_write(struct kernel *k, const struct workload *w, uint64_t cookie, struct err *err);
uint16_t workload_flags(const struct workload *w);

/* policies.c: struct policy to rows and sets */
int policies_write(struct kernel *k, const struct plan *plan, struct err *err);
int policies_remove(struct kernel *k, struct err *err); /* what the last policies_write left unused */
uint64_t policies_key(const struct kernel *k, const struct policy *policy); /* 0: not in force */
/* The set of a workload's ports that the helper must see or must not; 0: it names none. */
uint64_t policies_l7_set(const struct workload *w);
void policies_free(struct lowered *l);
void policies_fill(const struct kernel *k, uint32_t counts[KT_COUNT], uint32_t *cidr_count);

/* pods.c */
int pods_apply(struct kernel *k, struct plan *plan, struct err *err);
void pods_watch(struct kernel *k);
void pods_free(struct kernel *k);
struct pod *pod_of(const struct kernel *k, const struct kernel_pod *pub);
int pod_write(struct kernel *k, struct pod *pod, struct err *err);
bool pods_keep_older_policy(const struct kernel *k); /* a pod refers to a policy that is not in k->policies */

/* hostpods.c */
/* Fills in what a pod that is a control group is known by. */
int host_pod_look(struct kernel *k, struct workload *w, struct pod *pod, struct err *err);
int host_pod_path(const struct kernel *k, const struct workload *w, char path[PATH_MAX], struct err *err);
bool host_pod_alive(const struct kernel *k, const struct pod *pod);
int host_pods_sync(struct kernel *k, struct err *err);

/* sockets.c */
int pod_enter(struct kernel *k, const struct kernel_pod *pub, struct err *err); /* until netns_leave */

/* explain.c: inbound.bpf.c's verdict. No padding: calls are compared as bytes. */
struct inbound_call {
	struct ip_addr source, destination;
	uint32_t identity; /* 0: none, though attested it may be (the host's processes are) */
	uint16_t port;
	uint8_t proto, attested;
};

void explain_verdict(struct kernel *k, const struct pod *pod, const struct inbound_call *call,
		     struct explain_inbound *out);

/* recheck.c: open connections under a changed policy. recheck may be NULL. */
int recheck_new(struct kernel *k, struct recheck **out, struct err *err);
void recheck_free(struct recheck *r); /* before the pods */
/* Whether some call may be judged another way. */
bool recheck_differs(const struct pod_value *before, const struct pod_value *after);
void recheck_pod(struct recheck *r, struct pod *pod); /* soon, from the start */
void recheck_forget(struct recheck *r, struct pod *pod);

/* flows.c */
int flow_reader_new(struct kernel *k, struct flow_reader **out, struct err *err);
void flow_reader_free(struct flow_reader *r);

static inline struct ip_addr abi_addr(const struct addr *a)
{
	struct ip_addr out;

	__builtin_memcpy(&out, a, sizeof(out));
	return out;
}

static inline struct addr abi_addr_from(const struct ip_addr *a)
{
	struct addr out;

	__builtin_memcpy(&out, a, sizeof(out));
	return out;
}
