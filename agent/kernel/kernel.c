// SPDX-License-Identifier: Apache-2.0
/* Opening, applying and closing. A plan is applied leaves first: policies, slot sets, services, workloads, pods; then
 * what nothing refers to any more is removed. */
#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/table.h"
#include "agent/kernel/internal.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int rows_prepare(struct kernel *k, struct err *err)
{
	struct bpf_map_info info = { 0 };
	uint32_t len = sizeof(info);
	int cpus = libbpf_num_possible_cpus();
	AUTO(mem_freep) struct flow_sum_value *zero = calloc((size_t)(cpus > 0 ? cpus : 1), sizeof(*zero));

	if (!zero)
		return err_set(err, -ENOMEM, "kernel: out of memory");
	if (bpf_obj_get_info_by_fd(k->maps[KMAP_FLOW_SUMS], &info, &len) == 0)
		k->flow_rows = info.max_entries;
	/* Where everything is added up that finds no room. */
	for (uint8_t i = 0; i < 4 * 2 * 2; i++) {
		struct flow_sum_key key = { .path = i & 3,
					    .source_side = i >> 2 & 1,
					    .proto = i >> 3 ? IPPROTO_UDP : IPPROTO_TCP };

		bpf_map_update_elem(k->maps[KMAP_FLOW_SUMS], &key, zero, BPF_NOEXIST);
	}
	return 0;
}

static int kernel_init(struct kernel *k, const struct kernel_options *o, struct err *err)
{
	int rc = kernel_paths_init(&k->paths, o, err);

	if (rc < 0)
		return rc;
	k->pods_by_cookie = table_new(NULL);
	k->pods_by_uid = table_new(NULL);
	k->failed = table_new(free);
	if (!k->pods_by_cookie || !k->pods_by_uid || !k->failed)
		return err_set(err, -ENOMEM, "kernel: out of memory");
	k->own_netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (k->own_netns < 0)
		return err_sys(err, -errno, "kernel: open the host's network namespace");
	rc = netns_cookie(&k->host_cookie, err);
	if (rc < 0)
		return rc;
	if (!o->cgroup)
		return kernel_find_cgroup(k->cgroup, err);
	snprintf(k->cgroup, sizeof(k->cgroup), "%s", o->cgroup);
	return 0;
}

int kernel_open(const struct kernel_options *options, const struct kernel_events *events, struct kernel **out,
		struct err *err)
{
	struct kernel *k = calloc(1, sizeof(*k));

	if (!k)
		return err_set(err, -ENOMEM, "kernel: out of memory");
	k->events = *events;
	k->loop = options->loop;
	k->own_netns = k->host_link = -1;
	for (int i = 0; i < KMAP_COUNT; i++)
		k->maps[i] = -1;
	int rc = kernel_init(k, options, err);

	if (rc == 0)
		rc = kernel_mount_bpffs(k->paths.bpffs, err);
	if (rc == 0) {
		k->fresh = access(k->paths.links, F_OK) < 0;
		rc = kernel_load(k, options, err);
		if (rc == 0)
			rc = rows_prepare(k, err);
		if (rc == 0)
			rc = flow_reader_new(k, &k->flows, err);
		if (rc == 0 && k->loop)
			rc = recheck_new(k, &k->recheck, err);
		if (rc < 0 && k->fresh)
			kernel_cleanup(options, NULL);
	}
	if (rc < 0) {
		kernel_close(k);
		return rc;
	}
	pods_watch(k);
	*out = k;
	return 0;
}

/* Remembers the first failure and goes on: the rest of the plan is worth having. */
static void step(int rc, int *first)
{
	if (rc < 0 && *first == 0)
		*first = rc;
}

int kernel_apply(struct kernel *k, struct plan *plan, struct err *err)
{
	/* After a failure nothing is known of what the tables hold: all is written again, and they are swept. */
	struct plan *old = k->resync ? NULL : k->plan;
	int first = 0, policies = policies_write(k, plan, err);

	if (policies < 0)
		err = NULL;
	step(services_write(k, old, plan, err), &first);
	step(workloads_write(k, old, plan, first ? NULL : err), &first);
	step(pods_apply(k, plan, first ? NULL : err), &first);
	/* With something unwritten, what is old may still be referred to. */
	if (first == 0) {
		step(services_remove(k, old, plan, err), &first);
		step(workloads_remove(k, old, plan, first ? NULL : err), &first);
		step(policies_remove(k, first ? NULL : err), &first);
	}
	k->resync = first < 0;
	k->fresh = k->fresh && !first;
	plan_ref(plan);
	plan_unref(k->plan);
	k->plan = plan;
	return policies < 0 ? policies : first;
}

void kernel_close(struct kernel *k)
{
	if (!k)
		return;
	flow_reader_free(k->flows);
	recheck_free(TAKE(k->recheck));
	pods_free(k);
	policies_free(k->policies);
	plan_unref(k->plan);
	for (int i = 0; i < KT_COUNT; i++)
		ktable_close(&k->tables[i]);
	for (int i = 0; i < KMAP_COUNT; i++)
		if (k->maps[i] >= 0)
			close(k->maps[i]);
	if (k->own_netns >= 0)
		close(k->own_netns);
	if (k->host_link >= 0)
		close(k->host_link);
	free(k);
}

/* A link is detached at once: that its last reference goes is noticed some time later. */
static void link_detach(const char *dir, const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%.400s/%s", dir, name);
	int fd = bpf_obj_get(path);

	if (fd < 0)
		return;
	bpf_link_detach(fd);
	close(fd);
}

static int remove_dir(const char *path, bool links, struct err *err)
{
	DIR *dir = opendir(path);
	struct dirent *e;

	if (!dir)
		return errno == ENOENT ? 0 : err_sys(err, -errno, "kernel: read %s", path);
	while ((e = readdir(dir))) {
		if (e->d_name[0] == '.')
			continue;
		if (links)
			link_detach(path, e->d_name);
		if (unlinkat(dirfd(dir), e->d_name, 0) < 0)
			unlinkat(dirfd(dir), e->d_name, AT_REMOVEDIR);
	}
	closedir(dir);
	return rmdir(path) < 0 ? err_sys(err, -errno, "kernel: remove %s", path) : 0;
}

int kernel_cleanup(const struct kernel_options *options, struct err *err)
{
	struct kernel_paths p;
	int first = 0, rc = kernel_paths_init(&p, options, err);

	if (rc < 0)
		return rc;
	step(remove_dir(p.pods, true, err), &first); /* inbound links go first: without the tables they would refuse */
	step(remove_dir(p.links, true, first ? NULL : err), &first);
	step(remove_dir(p.maps, false, first ? NULL : err), &first);
	step(remove_dir(p.base, false, first ? NULL : err), &first);
	char *slash = strrchr(p.base, '/');

	if (slash) { /* the last instance removes the common folder */
		*slash = '\0';
		rmdir(p.base);
	}
	return first;
}
