// SPDX-License-Identifier: Apache-2.0
/* Enrolment of this node's pods. A pod is in force when its entry is in `pods` (outbound) and its sk_lookup link is on
 * its network namespace (inbound); the entry is written first and removed last, so that the link never meets a
 * namespace without one.
 *
 * No descriptor of a namespace is kept: it would keep a deleted one alive. A namespace whose name is gone is reported
 * as removed, but stays policed until the kernel has destroyed it: processes may live on in it. */
#include "agent/base/err.h"
#include "agent/base/log.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/table.h"
#include "agent/kernel/internal.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { POD_CHECK_MS = 500 };

/* Why a workload could not be enrolled the last time. */
struct failure {
	struct err err;
	char uid[];
};

struct pod *pod_of(const struct kernel *k, const struct kernel_pod *pub)
{
	return pub ? table_get(k->pods_by_cookie, &pub->cookie, sizeof(pub->cookie)) : NULL;
}

const struct kernel_pod *kernel_pod_by_uid(const struct kernel *k, const char *uid)
{
	const struct pod *pod = table_get_str(k->pods_by_uid, uid);

	return pod ? &pod->pub : NULL;
}

const struct kernel_pod *kernel_pod_by_cookie(const struct kernel *k, uint64_t cookie)
{
	const struct pod *pod = table_get(k->pods_by_cookie, &cookie, sizeof(cookie));

	return pod && !pod->gone ? &pod->pub : NULL;
}

bool pods_keep_older_policy(const struct kernel *k)
{
	struct table_iter it = { 0 };

	while (table_next(k->pods_by_cookie, &it)) {
		const struct pod *pod = it.value;

		if (pod->policy && pod->policy != policies_key(k, pod->pub.workload->policy))
			return true;
	}
	return false;
}

static void pin_path(const struct kernel *k, uint64_t cookie, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%.400s/%llu", k->paths.pods, (unsigned long long)cookie);
}

static void value_fill(const struct pod *pod, const struct plan *plan, struct pod_value *v)
{
	const struct workload *w = pod->pub.workload;

	*v = (struct pod_value){ .policy = pod->policy,
				 .l7 = policies_l7_set(w),
				 .identity = w->identity ? w->identity->id : 0 };
	for (size_t i = 0; i < w->addr_count; i++) {
		struct ip_addr *to = addr_is_v4(&w->addrs[i]) ? &v->addr4 : &v->addr6;

		if (!to->w[0] && !to->w[3])
			*to = abi_addr(&w->addrs[i]);
	}
	if (plan->mesh.same_node == SAME_NODE_MTLS)
		v->flags |= POD_SAME_NODE_MTLS;
	if (w->outbound_policy == OUTBOUND_REGISTRY_ONLY)
		v->flags |= POD_REGISTRY_ONLY;
	if (w->outbound_policy == OUTBOUND_EGRESS_PROXY)
		v->flags |= POD_EGRESS_PROXY;
	if (pod->pub.host_network)
		v->flags |= POD_HOST_NETWORK;
	if (w->l7_other_ports)
		v->flags |= POD_L7_OTHER;
	v->flags |= pod->value.flags & POD_RECHECK;
	memcpy(v->ports, pod->value.ports, sizeof(v->ports));
}

int pod_write(struct kernel *k, struct pod *pod, struct err *err)
{
	if (bpf_map_update_elem(k->maps[KMAP_PODS], &pod->pub.cookie, &pod->value, BPF_ANY) < 0)
		return err_sys(err, -errno, "kernel: write the entry of pod %s", pod->pub.workload->uid);
	return 0;
}

static int pod_refresh(struct kernel *k, struct pod *pod, const struct plan *plan, struct err *err)
{
	uint64_t policy = policies_key(k, pod->pub.workload->policy);
	struct pod_value v;

	if (policy) /* one that could not be lowered leaves the last in force */
		pod->policy = policy;
	value_fill(pod, plan, &v);
	if (memcmp(&v, &pod->value, sizeof(v)) == 0)
		return 0;
	if (recheck_differs(&pod->value, &v)) {
		v.flags |= POD_RECHECK;
		recheck_pod(k->recheck, pod);
	}
	pod->value = v;
	return pod_write(k, pod, err);
}

/* --- the link of the sk_lookup program */

/* Inode of the namespace that the link is on; 0: it is dead. */
static uint32_t link_netns(int fd)
{
	struct bpf_link_info info = { 0 };
	uint32_t len = sizeof(info);

	return bpf_obj_get_info_by_fd(fd, &info, &len) == 0 ? info.netns.netns_ino : 0;
}

/* --- enrolment */

static void listeners_forget(struct kernel *k, uint64_t cookie)
{
	for (uint32_t kind = 0; kind < POD_PORTS; kind++) {
		struct listener_key key = { .pod = cookie, .kind = kind };

		bpf_map_delete_elem(k->maps[KMAP_LISTENERS], &key);
	}
}

/* A restarted agent finds the ports of listeners that an older helper still serves, and what was in force until now in
 * *was; false: nothing. */
static bool pod_take_over(struct kernel *k, struct pod *pod, struct pod_value *was)
{
	struct listener_key key = { .pod = pod->pub.cookie, .kind = POD_LISTEN_OUTBOUND };
	uint64_t socket;

	if (bpf_map_lookup_elem(k->maps[KMAP_PODS], &pod->pub.cookie, was) < 0)
		return false;
	if (bpf_map_lookup_elem(k->maps[KMAP_LISTENERS], &key, &socket) == 0)
		memcpy(pod->value.ports, was->ports, sizeof(was->ports));
	pod->policy = was->policy;
	return true;
}

static void pod_free(struct kernel *k, struct pod *pod)
{
	recheck_forget(k->recheck, pod);
	if (pod->link_fd >= 0)
		close(pod->link_fd);
	workload_unref(pod->pub.workload);
	free(pod);
}

/* Takes everything of the pod out of the kernel, and frees it. */
static void pod_drop(struct kernel *k, struct pod *pod)
{
	uint64_t cookie = pod->pub.cookie;
	bool host = pod->pub.host_network;
	char path[PATH_MAX];

	pin_path(k, cookie, path);
	unlink(path);
	if (pod->link_fd >= 0)
		bpf_link_detach(pod->link_fd);
	table_remove(k->pods_by_cookie, &cookie, sizeof(cookie));
	if (host)
		host_pods_sync(k, NULL); /* its ports stay closed while the entry is there */
	bpf_map_delete_elem(k->maps[KMAP_PODS], &cookie);
	listeners_forget(k, cookie);
	if (table_get_str(k->pods_by_uid, pod->pub.workload->uid) == pod)
		table_remove_str(k->pods_by_uid, pod->pub.workload->uid);
	pod_free(k, pod);
}

static void pod_unlist(struct kernel *k, struct pod *pod)
{
	table_remove_str(k->pods_by_uid, pod->pub.workload->uid);
	if (k->events.on_pod_removed)
		k->events.on_pod_removed(&pod->pub, k->events.arg);
}

static void pod_remove(struct kernel *k, struct pod *pod)
{
	if (!pod->gone)
		pod_unlist(k, pod);
	pod_drop(k, pod);
}

static void pod_vanished(struct kernel *k, struct pod *pod)
{
	struct err ignored = ERR_INIT;

	pod->pub.vanished = true;
	pod_unlist(k, pod);
	recheck_forget(k->recheck, pod);
	pod->gone = true;
	workload_write(k, pod->pub.workload, 0, &ignored);
	memset(pod->value.ports, 0, sizeof(pod->value.ports));
	pod_write(k, pod, &ignored);
	listeners_forget(k, pod->pub.cookie);
	log_info("pod %s: its network namespace or control group is gone", pod->pub.workload->uid);
}

static int netns_look(struct kernel *k, int fd, uint64_t *cookie, struct err *err)
{
	int rc = netns_enter(k, fd, err);

	if (rc < 0)
		return rc;
	rc = netns_cookie(cookie, err);
	if (rc == 0)
		rc = netns_loopback_up(err);
	netns_leave(k);
	return rc;
}

static int cookie_free(struct kernel *k, const char *path, uint64_t cookie, struct err *err)
{
	struct pod *other = table_get(k->pods_by_cookie, &cookie, sizeof(cookie));

	if (cookie == k->host_cookie)
		return err_set(
			err, -EINVAL,
			"%s is the host's own network namespace; use weft.dev/cgroup for a workload that shares it",
			path);
	if (!other)
		return 0;
	if (!other->gone)
		return err_set(err, -EBUSY, "network namespace %s is enrolled as %s already", path,
			       other->pub.workload->uid);
	table_remove(k->pods_by_cookie, &cookie, sizeof(cookie)); /* back under another name; its pins are taken over */
	pod_free(k, other);
	return 0;
}

static int pod_list(struct kernel *k, struct pod *pod, struct err *err)
{
	if (table_set(k->pods_by_cookie, &pod->pub.cookie, sizeof(pod->pub.cookie), pod) < 0)
		return err_set(err, -ENOMEM, "kernel: out of memory");
	if (table_set_str(k->pods_by_uid, pod->pub.workload->uid, pod) < 0) {
		table_remove(k->pods_by_cookie, &pod->pub.cookie, sizeof(pod->pub.cookie));
		return err_set(err, -ENOMEM, "kernel: out of memory");
	}
	return 0;
}

static bool wants_host(const struct workload *w)
{
	return w->place == WORKLOAD_CGROUP;
}

/* Fills in what the pod is known by; *netns_fd is the caller's, -1 for a control group. */
static int pod_look(struct kernel *k, struct workload *w, struct pod *pod, int *netns_fd, struct err *err)
{
	char path[PATH_MAX];
	int rc;

	if (wants_host(w)) {
		rc = host_pod_look(k, w, pod, err);
	} else {
		rc = netns_path(w, path, err);
		if (rc == 0)
			rc = netns_open(path, netns_fd, &pod->netns, err);
		if (rc == 0)
			rc = netns_look(k, *netns_fd, &pod->pub.cookie, err);
	}
	return rc == 0 ? cookie_free(k, w->place_name, pod->pub.cookie, err) : rc;
}

static int pod_put(struct kernel *k, struct pod *pod, int netns_fd, struct err *err)
{
	char pin[PATH_MAX];
	int rc = pod_write(k, pod, err);

	pin_path(k, pod->pub.cookie, pin);
	if (rc == 0 && !pod->pub.host_network)
		rc = inbound_attach(k, pod->pub.cookie, false, netns_fd, pin, &pod->link_fd, err);
	if (rc == 0)
		rc = workload_write(k, pod->pub.workload, pod->pub.cookie, err);
	if (rc == 0)
		rc = pod_list(k, pod, err);
	if (rc == 0 && pod->pub.host_network)
		rc = host_pods_sync(k, err);
	return rc;
}

static int pod_enrol(struct kernel *k, struct workload *w, const struct plan *plan, struct err *err)
{
	AUTO(fd_closep) int netns_fd = -1;
	struct pod *pod = calloc(1, sizeof(*pod));
	struct pod_value v, was;

	if (!pod)
		return err_set(err, -ENOMEM, "kernel: out of memory");
	*pod = (struct pod){ .link_fd = -1, .pub.workload = workload_ref(w) };
	int rc = pod_look(k, w, pod, &netns_fd, err);
	if (rc < 0) {
		pod_free(k, pod);
		return rc;
	}

	bool known = pod_take_over(k, pod, &was);
	uint64_t policy = policies_key(k, w->policy);
	pod->policy = policy ? policy : pod->policy;
	value_fill(pod, plan, &v); /* keeps the ports that were taken over */
	/* It changed while no agent was there, or the last one did not come to it. */
	if (known && (recheck_differs(&was, &v) || was.flags & POD_RECHECK))
		v.flags |= POD_RECHECK;
	pod->value = v;
	rc = pod_put(k, pod, netns_fd, err);
	if (rc < 0) {
		pod_drop(k, pod);
		return rc;
	}
	if (v.flags & POD_RECHECK)
		recheck_pod(k->recheck, pod);
	if (k->events.on_pod_added)
		k->events.on_pod_added(&pod->pub, k->events.arg);
	return 0;
}

static void report_failure(struct kernel *k, const struct workload *w, const struct err *err)
{
	struct failure *last = table_get_str(k->failed, w->uid);

	if (last && str_eq(last->err.text, err->text))
		return;
	struct failure *f = malloc(sizeof(*f) + strlen(w->uid) + 1);
	if (f) {
		f->err = *err;
		memcpy(f->uid, w->uid, strlen(w->uid) + 1);
		if (table_set_str(k->failed, w->uid, f) < 0)
			free(f);
	}
	if (k->events.on_pod_failed)
		k->events.on_pod_failed(w, err, k->events.arg);
}

static void pod_try(struct kernel *k, struct workload *w, const struct plan *plan)
{
	struct err err = ERR_INIT;

	if (pod_enrol(k, w, plan, &err) < 0)
		report_failure(k, w, &err);
	else
		table_remove_str(k->failed, w->uid);
}

/* --- kernel_apply */

static bool same_place(const struct workload *a, const struct workload *b)
{
	return a->place == b->place && str_eq(a->place_name, b->place_name);
}

static int pod_update(struct kernel *k, struct pod *pod, struct workload *w, const struct plan *plan, struct err *err)
{
	bool changed = pod->pub.workload != w;

	if (changed) {
		workload_unref(pod->pub.workload);
		pod->pub.workload = workload_ref(w);
		/* Its addresses may be new: workloads_write gave them the cookie, by uid. */
	}
	int rc = pod_refresh(k, pod, plan, err);

	if (rc == 0 && changed && pod->pub.host_network)
		rc = host_pods_sync(k, err);
	if (changed && k->events.on_pod_changed)
		k->events.on_pod_changed(&pod->pub, k->events.arg);
	return rc;
}

static bool wants_pod(const struct workload *w)
{
	return w && w->enrolled && workload_is_local(w);
}

static void remove_stale(struct kernel *k, const struct plan *plan)
{
	struct table_iter it = { 0 };

	while (table_next(k->pods_by_cookie, &it)) {
		struct pod *pod = it.value;
		const struct workload *w = plan_workload_by_uid(plan, pod->pub.workload->uid);

		if (!wants_pod(w) || (!pod->gone && !same_place(w, pod->pub.workload)))
			pod_remove(k, pod);
	}
	it = (struct table_iter){ 0 };
	while (table_next(k->failed, &it)) {
		const struct failure *f = it.value;

		if (!wants_pod(plan_workload_by_uid(plan, f->uid)))
			table_remove_str(k->failed, f->uid);
	}
}

/* Pins of an earlier run that no workload has any more. */
static void remove_leftovers(struct kernel *k)
{
	DIR *dir = opendir(k->paths.pods);
	struct dirent *e;

	while (dir && (e = readdir(dir))) {
		uint64_t cookie;
		char path[PATH_MAX];

		if (str_to_u64(e->d_name, UINT64_MAX, &cookie) < 0 ||
		    table_get(k->pods_by_cookie, &cookie, sizeof(cookie)))
			continue;
		pin_path(k, cookie, path);
		int fd = bpf_obj_get(path);
		/* While a workload could not be enrolled, this may be its link. */
		bool keep = fd >= 0 && table_count(k->failed) && link_netns(fd);

		if (!keep) {
			unlink(path);
			if (fd >= 0)
				bpf_link_detach(fd);
			bpf_map_delete_elem(k->maps[KMAP_PODS], &cookie);
			listeners_forget(k, cookie);
		}
		if (fd >= 0)
			close(fd);
	}
	if (dir)
		closedir(dir);
}

int pods_apply(struct kernel *k, struct plan *plan, struct err *err)
{
	int rc = 0;

	remove_stale(k, plan);
	for (size_t i = 0; i < plan->workload_count; i++) {
		struct workload *w = plan->workloads[i];

		if (!wants_pod(w))
			continue;
		struct pod *pod = table_get_str(k->pods_by_uid, w->uid);

		if (!pod) {
			pod_try(k, w, plan);
			continue;
		}
		int one = pod_update(k, pod, w, plan, rc == 0 ? err : NULL);

		rc = rc == 0 ? one : rc;
	}
	if (!k->fresh) {
		remove_leftovers(k);
		int one = host_pods_sync(k, rc == 0 ? err : NULL);

		rc = rc == 0 ? one : rc;
	}
	return rc;
}

/* --- namespaces come and go */

static bool pod_alive(const struct kernel *k, const struct pod *pod, uint32_t link_ino)
{
	struct netns_id now = { 0 };
	char path[PATH_MAX];

	if (pod->pub.host_network)
		return host_pod_alive(k, pod);
	return link_ino && netns_path(pod->pub.workload, path, NULL) == 0 && netns_stat(path, &now) == 0 &&
	       now.dev == pod->netns.dev && now.ino == pod->netns.ino;
}

static void pod_check(struct kernel *k, struct pod *pod)
{
	static const struct err gone = { .code = -ENOENT, .text = "its network namespace or control group is gone" };
	uint32_t ino = pod->pub.host_network ? 0 : link_netns(pod->link_fd);

	if (!pod->gone) {
		if (pod_alive(k, pod, ino))
			return;
		pod_vanished(k, pod);
		report_failure(k, pod->pub.workload, &gone);
	}
	if (!ino) /* nothing of it is left */
		pod_drop(k, pod);
}

static void pods_check(struct kernel *k)
{
	struct table_iter it = { 0 };

	while (table_next(k->pods_by_cookie, &it))
		pod_check(k, it.value);
	if (!k->plan || !table_count(k->failed))
		return;
	for (size_t i = 0; i < k->plan->workload_count; i++) {
		struct workload *w = k->plan->workloads[i];

		if (wants_pod(w) && !table_get_str(k->pods_by_uid, w->uid))
			pod_try(k, w, k->plan);
	}
}

static void on_pod_timer(struct loop_timer *timer, void *arg)
{
	(void)timer;
	pods_check(arg);
}

static void on_netns_change(struct loop_watch *watch, const char *name, void *arg)
{
	(void)watch;
	(void)name;
	pods_check(arg);
}

void pods_watch(struct kernel *k)
{
	struct err ignored = ERR_INIT;

	if (!k->loop)
		return;
	if (loop_timer_new(k->loop, on_pod_timer, k, &k->pod_timer) == 0)
		loop_timer_start(k->pod_timer, POD_CHECK_MS, POD_CHECK_MS);
	/* Only makes it faster than the timer; the directory need not exist. */
	if (access("/run/netns", F_OK) == 0 &&
	    loop_watch_new(k->loop, "/run/netns", on_netns_change, k, &k->netns_watch, &ignored) < 0)
		k->netns_watch = NULL;
}

void pods_free(struct kernel *k)
{
	struct table_iter it = { 0 };

	loop_timer_free(k->pod_timer);
	loop_watch_free(k->netns_watch);
	while (k->pods_by_cookie && table_next(k->pods_by_cookie, &it))
		pod_free(k, it.value);
	table_free(k->pods_by_cookie);
	table_free(k->pods_by_uid);
	table_free(k->failed);
}
