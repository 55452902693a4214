// SPDX-License-Identifier: Apache-2.0
/* Loading programs over the instance's pinned maps, and attaching them by pinned links. A restarted agent loads its own
 * programs over the maps that are there and puts them into the links that are there: no moment without a program, no
 * state lost. On a first start nothing is left behind when anything fails. */
#include "agent/base/err.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/kernel/internal.h"

#include "connect.skel.h"
#include "datagram.skel.h"
#include "inbound.skel.h"
#include "sockops.skel.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <mntent.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#define BPFFS_MAGIC 0xcafe4a11
#define OTHER_VERSION "its tables are of another version of Weft: `weftd cleanup`, then start it again"

/* The first warning of libbpf: it names the map or program and the cause, which errno does not. */
static char libbpf_said[256];

static int libbpf_print(enum libbpf_print_level level, const char *format, va_list args)
{
	if (level > LIBBPF_WARN || *libbpf_said)
		return 0;
	vsnprintf(libbpf_said, sizeof(libbpf_said), format, args);
	libbpf_said[strcspn(libbpf_said, "\n")] = '\0';
	return 0;
}

static int load_error(struct err *err, int rc, const char *what)
{
	const char *hint = "`meshctl precheck` says what this kernel lacks";

	if (rc == -EPERM)
		hint = "run weftd as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN";
	else if (strstr(libbpf_said, "couldn't reuse pinned map"))
		hint = OTHER_VERSION;

	return err_set(err, rc, "kernel: load %s: %s%s%s (%s)", what, strerror(-rc), *libbpf_said ? ": " : "",
		       libbpf_said, hint);
}

int kernel_paths_init(struct kernel_paths *p, const struct kernel_options *o, struct err *err)
{
	const char *instance = o->instance ? o->instance : "default";

	if (!*instance || strlen(instance) > 64 || strchr(instance, '/') || instance[0] == '.')
		return err_set(err, -EINVAL, "kernel: \"%s\" is not a valid instance name", instance);
	if (snprintf(p->bpffs, 256, "%s", o->bpffs ? o->bpffs : "/sys/fs/bpf") >= 256)
		return err_set(err, -ENAMETOOLONG, "kernel: path of the BPF file system is too long");
	snprintf(p->base, sizeof(p->base), "%.256s/weft/%s", p->bpffs, instance);
	snprintf(p->maps, sizeof(p->maps), "%.400s/maps", p->base);
	snprintf(p->links, sizeof(p->links), "%.400s/links", p->base);
	snprintf(p->pods, sizeof(p->pods), "%.400s/pods", p->base);
	return 0;
}

int kernel_mount_bpffs(const char *path, struct err *err)
{
	struct statfs fs;

	if (statfs(path, &fs) == 0 && (uint32_t)fs.f_type == BPFFS_MAGIC)
		return 0;
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_sys(err, -errno, "kernel: create %s for the BPF file system", path);
	if (mount("bpffs", path, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") < 0)
		return err_sys(err, -errno, "kernel: mount the BPF file system at %s (try: mount -t bpf bpf %s)", path,
			       path);
	return 0;
}

int kernel_find_cgroup(char path[PATH_MAX], struct err *err)
{
	FILE *f = setmntent("/proc/mounts", "r");
	struct mntent *m;
	int rc = -ENOENT;

	if (!f)
		return err_sys(err, -errno, "kernel: read /proc/mounts");
	while (rc < 0 && (m = getmntent(f)))
		if (str_eq(m->mnt_type, "cgroup2") && str_copy(path, PATH_MAX, m->mnt_dir))
			rc = 0;
	endmntent(f);
	if (rc < 0)
		return err_set(
			err, rc,
			"kernel: cgroup2 is not mounted (try: mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 "
			"cgroup2 /sys/fs/cgroup/unified)");
	return 0;
}

/* A directory's name tells which ABI_VERSION the tables have, because libbpf compares sizes alone. */
static int make_dirs(const struct kernel_paths *p, struct err *err)
{
	char root[PATH_MAX], version[PATH_MAX];
	const char *dirs[] = { root, p->base, version, p->maps, p->links, p->pods };

	snprintf(root, sizeof(root), "%.256s/weft", p->bpffs);
	snprintf(version, sizeof(version), "%.400s/abi-%d", p->base, ABI_VERSION);
	if (access(p->maps, F_OK) == 0 && access(version, F_OK) < 0)
		return err_set(err, -EPROTO, "kernel: %s: " OTHER_VERSION, p->base);
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
		if (mkdir(dirs[i], 0700) < 0 && errno != EEXIST)
			return err_sys(err, -errno, "kernel: create %s", dirs[i]);
	return 0;
}

/* A pinned map keeps its size: libbpf refuses to take over one of another. */
static void map_size(struct bpf_map *map, const struct kernel_paths *p, uint32_t wanted)
{
	struct bpf_map_info info = { 0 };
	uint32_t len = sizeof(info);
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%.400s/%s", p->maps, bpf_map__name(map));
	int fd = bpf_obj_get(path);

	if (fd >= 0) {
		if (bpf_obj_get_info_by_fd(fd, &info, &len) == 0)
			wanted = info.max_entries;
		close(fd);
	}
	if (wanted)
		bpf_map__set_max_entries(map, wanted);
}

static const struct {
	const char *name;
	size_t option; /* of struct kernel_options */
} map_sizes[] = {
	{ "conn_setup", offsetof(struct kernel_options, map_connections) },
	{ "tcp_states", offsetof(struct kernel_options, map_connections) },
	{ "live", offsetof(struct kernel_options, map_endpoints) },
	{ "affinity", offsetof(struct kernel_options, map_connections) },
	{ "udp_flows", offsetof(struct kernel_options, map_connections) },
	{ "udp_replies", offsetof(struct kernel_options, map_connections) },
	{ "dns_clients", 0 },
	{ "flow_sums", offsetof(struct kernel_options, map_flows) },
};

static void set_sizes(struct bpf_object *obj, const struct kernel_paths *p, const struct kernel_options *o)
{
	for (size_t i = 0; i < ARRAY_SIZE(map_sizes); i++) {
		struct bpf_map *map = bpf_object__find_map_by_name(obj, map_sizes[i].name);
		uint32_t wanted = 0;

		if (o && map_sizes[i].option)
			memcpy(&wanted, (const char *)o + map_sizes[i].option, sizeof(wanted));
		if (map)
			map_size(map, p, wanted);
	}
}

/* Puts the program into the pinned link, or makes the link. */
static int attach(struct kernel *k, const struct bpf_program *prog, int cgroup_fd, struct err *err)
{
	const char *name = bpf_program__name(prog);
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%.400s/%s", k->paths.links, name);
	AUTO(fd_closep) int fd = bpf_obj_get(path);
	if (fd >= 0 && bpf_link_update(fd, bpf_program__fd(prog), NULL) == 0)
		return 0;
	if (fd >= 0) { /* its control group is gone: the link holds nothing any more */
		unlink(path);
		close(fd);
	}
	fd = bpf_link_create(bpf_program__fd(prog), cgroup_fd, bpf_program__expected_attach_type(prog), NULL);
	if (fd < 0)
		return err_sys(err, -errno, "kernel: attach %s to %s", name, k->cgroup);
	if (bpf_obj_pin(fd, path) < 0)
		return err_sys(err, -errno, "kernel: pin %s", path);
	return 0;
}

static int attach_all(struct kernel *k, struct bpf_object *objs[], size_t n, struct err *err)
{
	AUTO(fd_closep) int cgroup_fd = open(k->cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct bpf_program *prog;

	if (cgroup_fd < 0)
		return err_sys(err, -errno, "kernel: open control group %s", k->cgroup);
	for (size_t i = 0; i < n; i++)
		bpf_object__for_each_program(prog, objs[i])
		{
			int rc = attach(k, prog, cgroup_fd, err);

			if (rc < 0)
				return rc;
		}
	return 0;
}

static int open_maps(struct kernel *k, const struct kernel_options *o, struct err *err)
{
	static const char *const names[KMAP_COUNT] = {
#define KERNEL_MAP_NAME(symbol, name) [KMAP_##symbol] = #name,
		KERNEL_MAPS(KERNEL_MAP_NAME)
#undef KERNEL_MAP_NAME
	};
	const struct {
		const char *name;
		size_t key, value;
		uint32_t entries;
	} tables[KT_COUNT] = {
		{ "services", sizeof(struct service_key), sizeof(struct service_value),
		  o->map_services ? o->map_services : 1024 },
		{ "slots", sizeof(struct slot_key), sizeof(struct slot_value),
		  o->map_endpoints ? o->map_endpoints : 4096 },
		{ "workloads", sizeof(struct ip_addr), sizeof(struct workload_value),
		  o->map_workloads ? o->map_workloads : 1024 },
		{ "policies", sizeof(uint64_t), sizeof(struct policy_value), 256 },
		{ "policy_rows", sizeof(struct policy_row_key), sizeof(struct policy_row), 1024 },
		{ "sets", sizeof(struct set_key), sizeof(uint32_t), 4096 },
	};
	char path[PATH_MAX];
	bool fresh;

	for (int i = 0; i < KMAP_COUNT; i++) {
		snprintf(path, sizeof(path), "%.400s/%s", k->paths.maps, names[i]);
		k->maps[i] = bpf_obj_get(path);
		if (k->maps[i] < 0)
			return err_sys(err, -errno, "kernel: open %s", path);
	}
	for (int i = 0; i < KT_COUNT; i++) {
		snprintf(path, sizeof(path), "%.400s/%s", k->paths.maps, tables[i].name);
		int outer = bpf_obj_get(path);

		if (outer < 0)
			return err_sys(err, -errno, "kernel: open %s", path);
		int rc = ktable_open(&k->tables[i], tables[i].name, outer, (uint32_t)tables[i].key,
				     (uint32_t)tables[i].value, tables[i].entries, &fresh, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int load_object(struct bpf_object *obj, const struct kernel_paths *p, const struct kernel_options *o,
		       struct err *err)
{
	set_sizes(obj, p, o);
	int rc = bpf_object__load(obj);

	return rc < 0 ? load_error(err, rc, bpf_object__name(obj)) : 0;
}

int kernel_load(struct kernel *k, const struct kernel_options *o, struct err *err)
{
	LIBBPF_OPTS(bpf_object_open_opts, opts, .pin_root_path = k->paths.maps);
	struct connect_bpf *connect = NULL;
	struct datagram_bpf *datagram = NULL;
	struct sockops_bpf *sockops = NULL;
	int rc = make_dirs(&k->paths, err);

	if (rc < 0)
		return rc;
	libbpf_set_print(libbpf_print);
	libbpf_said[0] = '\0';
	connect = connect_bpf__open_opts(&opts);
	datagram = datagram_bpf__open_opts(&opts);
	sockops = sockops_bpf__open_opts(&opts);
	if (!connect || !datagram || !sockops) {
		rc = load_error(err, -errno, "programs");
	} else {
		struct bpf_object *objs[] = { sockops->obj, connect->obj, datagram->obj };

		connect->rodata->host_netns = sockops->rodata->host_netns = datagram->rodata->host_netns =
			k->host_cookie;
		connect->rodata->have_set_retval = datagram->rodata->have_set_retval =
			libbpf_probe_bpf_helper(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_FUNC_set_retval, NULL) == 1;
		for (size_t i = 0; i < ARRAY_SIZE(objs) && rc == 0; i++)
			rc = load_object(objs[i], &k->paths, o, err);
		if (rc == 0)
			rc = open_maps(k, o, err);
		if (rc == 0)
			rc = attach_all(k, objs, ARRAY_SIZE(objs), err);
	}
	connect_bpf__destroy(connect);
	datagram_bpf__destroy(datagram);
	sockops_bpf__destroy(sockops);
	malloc_trim(0);
	return rc;
}

static int inbound_load(struct kernel *k, uint64_t cookie, bool host, int *prog_fd, struct err *err)
{
	LIBBPF_OPTS(bpf_object_open_opts, opts, .pin_root_path = k->paths.maps);
	struct inbound_bpf *inbound;
	struct bpf_program *prog;
	int rc;

	libbpf_said[0] = '\0';
	inbound = inbound_bpf__open_opts(&opts);
	if (!inbound)
		return load_error(err, -errno, "inbound program");
	set_sizes(inbound->obj, &k->paths, NULL);
	inbound->rodata->pod_cookie = cookie;
	prog = host ? inbound->progs.weft_inbound_host : inbound->progs.weft_inbound;
	bpf_program__set_autoload(host ? inbound->progs.weft_inbound : inbound->progs.weft_inbound_host, false);
	rc = inbound_bpf__load(inbound);
	if (rc < 0) {
		load_error(err, rc, "inbound program");
	} else {
		*prog_fd = fcntl(bpf_program__fd(prog), F_DUPFD_CLOEXEC, 3);
		rc = *prog_fd < 0 ? err_sys(err, -errno, "kernel: keep inbound program") : 0;
	}
	inbound_bpf__destroy(inbound);
	return rc;
}

int inbound_attach(struct kernel *k, uint64_t cookie, bool host, int netns_fd, const char *path, int *link_fd,
		   struct err *err)
{
	AUTO(fd_closep) int prog = -1;
	int rc = inbound_load(k, cookie, host, &prog, err);

	if (rc < 0)
		return rc;
	int fd = bpf_obj_get(path);
	if (fd >= 0 && bpf_link_update(fd, prog, NULL) == 0) {
		*link_fd = fd;
		return 0;
	}
	if (fd >= 0) { /* its namespace is dead */
		close(fd);
		unlink(path);
	}
	fd = bpf_link_create(prog, netns_fd, BPF_SK_LOOKUP, NULL);
	if (fd < 0)
		return err_sys(err, -errno, "kernel: attach the inbound program");
	if (bpf_obj_pin(fd, path) < 0) {
		rc = err_sys(err, -errno, "kernel: pin %s", path);
		close(fd);
		return rc;
	}
	*link_fd = fd;
	return 0;
}
