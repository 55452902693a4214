/* SPDX-License-Identifier: Apache-2.0 */
/* The order: what needs privilege first (empty root, limits, user), then the privilege itself, then the way back to any
 * (no_new_privs), then the system calls. */
#include "agent/helper/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/base/err.h"
#include "agent/helper/sandbox_calls.h"

enum { SANDBOX_FILES = 1048576 };

static int sandbox_limits(struct err *err)
{
	struct rlimit none = { 0, 0 }, files;
	if (setrlimit(RLIMIT_CORE, &none) < 0)
		return err_sys(err, -errno, "sandbox: turn core dumps off");
	if (getrlimit(RLIMIT_NOFILE, &files) < 0)
		return err_sys(err, -errno, "sandbox: read the limit of open files");
	/* As far as fs.nr_open lets it; every carried connection needs descriptors. */
	struct rlimit wanted = { SANDBOX_FILES, SANDBOX_FILES };
	if (files.rlim_max < SANDBOX_FILES && setrlimit(RLIMIT_NOFILE, &wanted) == 0)
		return 0;
	files.rlim_cur = files.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &files) < 0)
		return err_sys(err, -errno, "sandbox: raise the limit of open files");
	return 0;
}

/* An empty, read-only tmpfs of its own becomes the root; the old one is let go. Mounted on /proc, which every system has. */
static int sandbox_root(struct err *err)
{
	if (unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS) < 0)
		return err_sys(err, -errno, "sandbox: unshare namespaces (start it as root)");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_sys(err, -errno, "sandbox: make mounts private");
	const unsigned long flags = MS_NODEV | MS_NOEXEC | MS_NOSUID;
	if (mount("none", "/proc", "tmpfs", flags, "size=4k,nr_inodes=4,mode=0555") < 0)
		return err_sys(err, -errno, "sandbox: mount an empty directory");
	if (chdir("/proc") < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 ||
	    chroot("/") < 0 || chdir("/") < 0)
		return err_sys(err, -errno, "sandbox: make the empty directory the root");
	if (mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | flags, NULL) < 0)
		return err_sys(err, -errno, "sandbox: make the root read-only");
	return 0;
}

static int sandbox_user(uid_t uid, gid_t gid, struct err *err)
{
	if (uid == 0 || gid == 0)
		return err_set(err, -EINVAL, "sandbox: user and group must not be root's");
	for (int cap = 0; prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0; cap++)
		;
	if (errno != EINVAL) /* past the last capability */
		return err_sys(err, -errno, "sandbox: empty the capability bounding set");
	if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
		return err_sys(err, -errno, "sandbox: become user %u and group %u", (unsigned int)uid,
			       (unsigned int)gid);

	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct empty[_LINUX_CAPABILITY_U32S_3] = { 0 };
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 || syscall(SYS_capset, &header, empty) < 0)
		return err_sys(err, -errno, "sandbox: drop capabilities");
	return 0;
}

int sandbox_enter(uid_t uid, gid_t gid, int keep_fd, struct err *err)
{
	if (syscall(SYS_close_range, (unsigned int)keep_fd + 1, ~0u, 0u) < 0 && errno != ENOSYS)
		return err_sys(err, -errno, "sandbox: close inherited descriptors");
	umask(077);
	int rc = sandbox_limits(err);
	if (rc == 0)
		rc = sandbox_root(err);
	if (rc == 0)
		rc = sandbox_user(uid, gid, err);
	if (rc < 0)
		return rc;
	/* After the change of user, which sets it anew. Nobody reads the keys out of memory by ptrace or /proc. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_sys(err, -errno, "sandbox: forbid being traced");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_sys(err, -errno, "sandbox: set no_new_privs");
	return sandbox_calls_restrict(err);
}
