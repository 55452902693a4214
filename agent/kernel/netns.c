// SPDX-License-Identifier: Apache-2.0
/* Network namespaces: finding a workload's, entering it for a moment on the loop thread, and its cookie. */
#include "agent/base/err.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/kernel/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <net/if.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

int netns_path(const struct workload *w, char path[PATH_MAX], struct err *err)
{
	const char *name = w->place_name;
	uint64_t pid;
	int n = 0;

	if (!name || !*name)
		return err_set(err, -EINVAL, "%s: it is not said where the workload lives", w->uid);
	if (w->place == WORKLOAD_PID) {
		if (str_to_u64(name, INT32_MAX, &pid) < 0 || !pid)
			return err_set(err, -EINVAL, "%s: weft.dev/pid: \"%s\" is not a process id", w->uid, name);
		n = snprintf(path, PATH_MAX, "/proc/%s/ns/net", name);
	} else if (name[0] == '/') {
		n = snprintf(path, PATH_MAX, "%s", name);
	} else {
		if (strchr(name, '/') || str_eq(name, ".") || str_eq(name, ".."))
			return err_set(
				err, -EINVAL,
				"%s: weft.dev/netns: \"%s\" is neither a name below /run/netns nor an absolute path",
				w->uid, name);
		n = snprintf(path, PATH_MAX, "/run/netns/%s", name);
	}
	return n < PATH_MAX ? 0 : err_set(err, -ENAMETOOLONG, "%s: path of the network namespace is too long", w->uid);
}

int netns_stat(const char *path, struct netns_id *id)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	*id = (struct netns_id){ st.st_dev, st.st_ino };
	return 0;
}

int netns_open(const char *path, int *fd, struct netns_id *id, struct err *err)
{
	struct stat st;
	int f = open(path, O_RDONLY | O_CLOEXEC);

	if (f < 0)
		return err_sys(err, -errno, "open network namespace %s", path);
	/* `ip netns add` makes an empty file first and mounts the namespace on it. */
	if (ioctl(f, NS_GET_NSTYPE) != CLONE_NEWNET || fstat(f, &st) < 0) {
		close(f);
		return err_set(err, -EINVAL, "%s is not a network namespace", path);
	}
	*fd = f;
	*id = (struct netns_id){ st.st_dev, st.st_ino };
	return 0;
}

int netns_enter(struct kernel *k, int fd, struct err *err)
{
	(void)k;
	return setns(fd, CLONE_NEWNET) < 0 ? err_sys(err, -errno, "enter network namespace") : 0;
}

void netns_leave(struct kernel *k)
{
	if (setns(k->own_netns, CLONE_NEWNET) == 0)
		return;
	/* Going on in a pod's namespace would open the host's sockets there. */
	log_error("return to the host's network namespace: %s", strerror(errno));
	abort();
}

int netns_cookie(uint64_t *cookie, struct err *err)
{
	socklen_t len = sizeof(*cookie);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), rc;

	if (fd < 0)
		return err_sys(err, -errno, "open a socket in the network namespace");
	rc = getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, cookie, &len) < 0 ? -errno : 0;
	close(fd);
	return rc < 0 ? err_sys(err, rc, "read the cookie of the network namespace (needs Linux 5.14)") : 0;
}

int netns_loopback_up(struct err *err)
{
	struct ifreq ifr = { .ifr_name = "lo" };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), rc = 0;

	if (fd < 0)
		return err_sys(err, -errno, "open a socket in the network namespace");
	if (ioctl(fd, SIOCGIFFLAGS, &ifr) < 0)
		rc = err_sys(err, -errno, "read the state of lo");
	else if (!(ifr.ifr_flags & IFF_UP)) {
		ifr.ifr_flags |= IFF_UP;
		if (ioctl(fd, SIOCSIFFLAGS, &ifr) < 0)
			rc = err_sys(err, -errno, "set lo up, which captured connections need");
	}
	close(fd);
	return rc;
}
