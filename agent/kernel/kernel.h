/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel sink: loads and pins the BPF programs, keeps their tables equal to the plan, enrols the pods of this
 * node, opens sockets in their network namespaces, and reads flows and counters back. libbpf appears only in this
 * folder. All calls on the agent's loop thread. */
#pragma once

#include "agent/base/addr.h"
#include "agent/model/explain.h"
#include "agent/model/flow.h"
#include "agent/model/pod_socket.h"
#include "agent/model/policy.h"
#include "bpf/reason.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct loop;
struct plan;
struct workload;
struct kernel;

struct kernel_options {
	const char *instance; /* separates pins of several agents on one kernel; "default" */
	const char *bpffs;    /* "/sys/fs/bpf"; mounted when it is not */
	const char *cgroup;   /* cgroup2 root; NULL: found in /proc/mounts */
	uint32_t map_services, map_endpoints, map_workloads, map_connections, map_flows; /* 0: default */
	struct loop *loop;
};

/* A pod of this node that is captured and policed. Valid between on_pod_added and on_pod_removed. */
struct kernel_pod {
	uint64_t cookie;	   /* its network namespace's; for WORKLOAD_CGROUP the cgroup id */
	struct workload *workload; /* updated in place when the plan gives it anew */
	bool host_network;	   /* WORKLOAD_CGROUP: sockets are opened in the host's namespace */
	bool vanished;		   /* its namespace has no name any more */
};

struct kernel_events {
	void (*on_pod_added)(const struct kernel_pod *pod, void *arg);
	void (*on_pod_changed)(const struct kernel_pod *pod, void *arg); /* its workload object is a new one */
	void (*on_pod_removed)(const struct kernel_pod *pod, void *arg); /* also when its namespace vanished */
	void (*on_pod_failed)(const struct workload *w, const struct err *err, void *arg); /* not enrolled; retried */
	void (*on_flow)(const struct flow *flow, void *arg);
	void *arg;
};

/* Loads programs or takes over the pins of this instance without a gap. Nothing is left half-loaded on error. */
int kernel_open(const struct kernel_options *options, const struct kernel_events *events, struct kernel **out,
		struct err *err);
/* Makes tables and enrolment equal to plan (kept by reference until the next). Old entries are removed last. A pod that
 * can't be enrolled is reported by on_pod_failed and retried; a table that can't be written is an error, and what
 * worked before stays in force. */
int kernel_apply(struct kernel *kernel, struct plan *plan, struct err *err);
/* Detaches nothing: pins stay, so that the data path lives on. */
void kernel_close(struct kernel *kernel);
/* Removes every pin of the instance and detaches: `weftd cleanup`. */
int kernel_cleanup(const struct kernel_options *options, struct err *err);

/* Opens a socket for the pod, marked as `kind`; listeners are bound and listening. Sockets are non-blocking and
 * close-on-exec, AF_INET6 dual-stack where the kernel has IPv6, else AF_INET. Returns the fd or -errno. */
int kernel_pod_socket(struct kernel *kernel, const struct kernel_pod *pod, enum pod_socket kind, struct err *err);
/* `count` of them, at least 1, for the price of entering the pod's namespace once. Returns how many: fewer when the kernel
 * gives no more, -errno when none. */
int kernel_pod_sockets(struct kernel *kernel, const struct kernel_pod *pod, enum pod_socket kind, int *fds,
		       size_t count, struct err *err);
/* Puts listeners in force (the kernel steers to them from now on). Until it is called for a pod, what would need the
 * helper is refused with DROP_NOT_READY. fds[POD_LISTEN_OUTBOUND .. POD_DNS_TCP]. */
int kernel_pod_listeners_set(struct kernel *kernel, const struct kernel_pod *pod, const int fds[POD_DNS_TCP + 1],
			     struct err *err);
const struct kernel_pod *kernel_pod_by_uid(const struct kernel *kernel, const char *uid);
const struct kernel_pod *kernel_pod_by_cookie(const struct kernel *kernel, uint64_t cookie);

/* explain: the data path's own decision functions over the live tables. */
int kernel_explain_outbound(struct kernel *kernel, const struct kernel_pod *source, const struct addr_port *destination,
			    uint8_t proto, struct explain_outbound *out, struct err *err);
/* The verdict at SYN time of `destination` for a connection attested as from `source` (0: anonymous). */
int kernel_explain_inbound(struct kernel *kernel, const struct kernel_pod *destination, uint32_t source_identity,
			   const struct addr *source, uint16_t port, uint8_t proto, struct explain_inbound *out,
			   struct err *err);

/* Counters, read without stopping anything. */
/* Calls back for every row. */
int kernel_flow_sums(struct kernel *kernel, void (*on_row)(const struct flow_sum *row, void *arg), void *arg);
void kernel_drops(struct kernel *kernel, uint64_t counts[DROP_REASON_COUNT]);
uint64_t kernel_flows_lost(struct kernel *kernel); /* ring was full */
/* Established connections that a changed policy forbids: ended, by reason, and those that could not be. */
struct recheck_counts {
	uint64_t cut[DROP_REASON_COUNT];
	uint64_t failed;
};
void kernel_rechecks(const struct kernel *kernel, struct recheck_counts *out);
int kernel_map_fill(struct kernel *kernel, void (*on_map)(const struct map_fill *fill, void *arg), void *arg);

/* meshctl precheck, and what weftd prints when it can't start. */
int kernel_precheck(void (*on_item)(const struct precheck_item *item, void *arg), void *arg); /* 0, -ENOTSUP */
