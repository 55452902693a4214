// SPDX-License-Identifier: Apache-2.0
/* What this machine has and lacks: each item is tried, not derived from a version, and says what to do. */
#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/kernel/diag.h"
#include "agent/kernel/internal.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

struct check {
	void (*on_item)(const struct precheck_item *item, void *arg);
	void *arg;
	int rc;
};

__attribute__((format(printf, 5, 6))) static void report(struct check *c, const char *what, bool ok, bool required,
							 const char *format, ...)
{
	struct precheck_item item = { .what = what, .ok = ok, .required = required };
	va_list args;

	va_start(args, format);
	vsnprintf(item.detail, sizeof(item.detail), format, args);
	va_end(args);
	if (!ok && required)
		c->rc = -ENOTSUP;
	c->on_item(&item, c->arg);
}

static void check_kernel(struct check *c)
{
	struct utsname u;
	unsigned int major = 0, minor = 0;

	if (uname(&u) < 0 || sscanf(u.release, "%u.%u", &major, &minor) != 2) {
		report(c, "kernel", false, true, "its version can't be read");
		return;
	}
	bool ok = major > 5 || (major == 5 && minor >= 15);

	report(c, "kernel", ok, true, "Linux %s%s", u.release, ok ? "" : ": 5.15 or newer is needed");
}

/* A map whose types are described by BTF, as socket storage needs: permission, BPF and BTF loading in one. */
static bool check_permission(struct check *c)
{
	int fd = bpf_map_create(BPF_MAP_TYPE_HASH, "weft_precheck", 4, 4, 1, NULL);

	if (fd >= 0) {
		close(fd);
		report(c, "permission", true, true, "maps can be created");
		return true;
	}
	if (errno == EPERM || errno == EACCES)
		report(c, "permission", false, true,
		       "bpf() is refused: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN; in a "
		       "container "
		       "privileged and without a seccomp filter");
	else if (errno == ENOSYS)
		report(c, "permission", false, true, "this kernel has no bpf(): it needs CONFIG_BPF_SYSCALL");
	else
		report(c, "permission", false, true, "creating a map fails: %s", strerror(errno));
	return false;
}

static void check_cgroup(struct check *c)
{
	char path[PATH_MAX];
	struct err err = ERR_INIT;

	if (kernel_find_cgroup(path, &err) < 0)
		report(c, "cgroup2", false, true, "not mounted; try: mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified");
	else
		report(c, "cgroup2", true, true, "mounted at %.100s", path);
}

static void check_bpffs(struct check *c)
{
	struct err err = ERR_INIT;
	int rc = kernel_mount_bpffs("/sys/fs/bpf", &err);

	if (rc < 0)
		report(c, "BPF file system", false, true, "/sys/fs/bpf: %s; try: mount -t bpf bpf /sys/fs/bpf",
		       strerror(-rc));
	else
		report(c, "BPF file system", true, true, "mounted at /sys/fs/bpf");
}

static void check_btf(struct check *c)
{
	bool ok = access("/sys/kernel/btf/vmlinux", R_OK) == 0;

	report(c, "BTF", ok, false, "%s",
	       ok ? "the kernel describes its types" :
		    "/sys/kernel/btf/vmlinux is missing (CONFIG_DEBUG_INFO_BTF): Weft runs without it");
}

static void check_prog(struct check *c, const char *what, enum bpf_prog_type type, const char *config)
{
	int rc = libbpf_probe_bpf_prog_type(type, NULL);

	report(c, what, rc == 1, true, "%s%s", rc == 1 ? "can be loaded" : "not in this kernel: it needs ",
	       rc == 1 ? "" : config);
}

static void check_helper(struct check *c, const char *what, enum bpf_prog_type type, enum bpf_func_id id, bool required,
			 const char *without)
{
	int rc = libbpf_probe_bpf_helper(type, id, NULL);

	report(c, what, rc == 1, required, "%s", rc == 1 ? "there" : without);
}

static void check_map(struct check *c, const char *what, enum bpf_map_type type, const char *config)
{
	int rc = libbpf_probe_bpf_map_type(type, NULL);

	report(c, what, rc == 1, true, "%s%s", rc == 1 ? "can be created" : "not in this kernel: it needs ",
	       rc == 1 ? "" : config);
}

static void check_memlock(struct check *c)
{
	/* A table of the default size: a limit on locked memory (before 5.11) or on the control group shows here. */
	int fd = bpf_map_create(BPF_MAP_TYPE_LRU_HASH, "weft_precheck", sizeof(struct conn_key),
				sizeof(struct conn_setup), 16384, NULL);

	if (fd >= 0)
		close(fd);
	report(c, "memory for tables", fd >= 0, true, "%s",
	       fd >= 0	      ? "a table of the default size can be created" :
	       errno == EPERM ? "refused: raise the limit on locked memory (ulimit -l unlimited)" :
				"refused: raise the memory limit of weftd's control group");
}

static int no_output(enum libbpf_print_level level, const char *format, va_list args)
{
	(void)level;
	(void)format;
	(void)args;
	return 0;
}

int kernel_precheck(void (*on_item)(const struct precheck_item *item, void *arg), void *arg)
{
	struct check c = { .on_item = on_item, .arg = arg };

	libbpf_set_print(no_output);
	check_kernel(&c);
	check_cgroup(&c);
	check_bpffs(&c);
	check_btf(&c);
	if (!check_permission(&c))
		return c.rc; /* the rest would only say so again */
	check_memlock(&c);
	check_map(&c, "socket storage", BPF_MAP_TYPE_SK_STORAGE, "CONFIG_BPF_SYSCALL and CONFIG_NET");
	check_map(&c, "socket maps", BPF_MAP_TYPE_SOCKHASH, "CONFIG_BPF_STREAM_PARSER or CONFIG_NET_SOCK_MSG");
	check_map(&c, "ring buffer", BPF_MAP_TYPE_RINGBUF, "Linux 5.8");
	check_prog(&c, "connect programs", BPF_PROG_TYPE_CGROUP_SOCK_ADDR, "CONFIG_CGROUP_BPF");
	check_prog(&c, "sockops programs", BPF_PROG_TYPE_SOCK_OPS, "CONFIG_CGROUP_BPF");
	check_prog(&c, "sk_lookup programs", BPF_PROG_TYPE_SK_LOOKUP, "Linux 5.9");
	check_helper(&c, "namespace cookies in connect", BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_FUNC_get_netns_cookie,
		     true, "Linux 5.7 is needed");
	check_helper(&c, "namespace cookies in sockops", BPF_PROG_TYPE_SOCK_OPS, BPF_FUNC_get_netns_cookie, true,
		     "Linux 5.15 is needed");
	check_helper(&c, "errno of refusals", BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_FUNC_set_retval, false,
		     "refused connects say EPERM; ECONNREFUSED where it fits needs Linux 6.1");
	bool can_end = diag_can_end();
	report(&c, "ending connections", can_end, false, "%s",
	       can_end ? "those that a changed policy forbids can be ended" :
			 "CONFIG_INET_DIAG_DESTROY is missing: open connections live on under a policy that forbids "
			 "them");
	return c.rc;
}
