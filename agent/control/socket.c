/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/control/server.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/base/addr.h"
#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"

enum { BACKLOG = 64 };

static int unix_addr(const char *path, struct sockaddr_un *out, struct err *err)
{
	*out = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (!str_copy(out->sun_path, sizeof(out->sun_path), path))
		return err_set(err, -ENAMETOOLONG,
			       "admin socket: %s is longer than the %zu bytes that a socket's path may "
			       "have; choose a shorter --run-dir",
			       path, sizeof(out->sun_path) - 1);
	return 0;
}

/* A socket file that nobody listens on was left by an agent that was killed. */
static int refuse_if_alive(const char *path, struct err *err)
{
	struct sockaddr_un sun;
	int rc = unix_addr(path, &sun, err);
	if (rc < 0)
		return rc;
	AUTO(fd_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_sys(err, -errno, "admin socket");
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) == 0 || errno == EAGAIN)
		return err_set(err, -EADDRINUSE,
			       "admin socket: another weftd answers on %s; stop it, or give this one "
			       "another --instance and --run-dir",
			       path);
	return 0;
}

static int give_to_group(const char *path, const char *group, struct err *err)
{
	struct group *g = group && *group ? getgrnam(group) : NULL;

	if (g && chown(path, (uid_t)-1, g->gr_gid) < 0)
		return err_sys(err, -errno, "admin socket: give %s to group %s", path, group);
	if (chmod(path, g ? 0660 : 0600) < 0)
		return err_sys(err, -errno, "admin socket: chmod %s", path);
	return 0;
}

/* Bound under another name and renamed: the file never exists with the wrong rights, and is never missing. */
int socket_listen_unix(const char *path, const char *group, uint64_t *inode, struct err *err)
{
	AUTO(mem_freep) char *tmp = str_format("%s.new", path);
	struct sockaddr_un sun;
	struct stat st;
	if (!tmp)
		return err_set(err, -ENOMEM, "admin socket: no memory");
	int rc = refuse_if_alive(path, err);
	if (rc == 0)
		rc = unix_addr(tmp, &sun, err);
	if (rc < 0)
		return rc;

	AUTO(fd_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_sys(err, -errno, "admin socket");
	unlink(tmp);
	if (bind(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0)
		return err_sys(err, -errno, "admin socket: create %s", path);
	rc = give_to_group(tmp, group, err);
	if (rc == 0 && listen(fd, BACKLOG) < 0)
		rc = err_sys(err, -errno, "admin socket: listen on %s", path);
	if (rc == 0 && (rename(tmp, path) < 0 || stat(path, &st) < 0))
		rc = err_sys(err, -errno, "admin socket: put %s in place", path);
	if (rc < 0) {
		unlink(tmp);
		return rc;
	}
	*inode = st.st_ino;
	int listening = fd;
	fd = -1;
	return listening;
}

int socket_listen_tcp(const char *text, uint16_t *port, struct err *err)
{
	struct addr_port at;
	if (addr_port_parse(text, &at) < 0)
		return err_set(err, -EINVAL,
			       "metrics: \"%s\" is no address to listen on; write it as 127.0.0.1:15020, "
			       "[::]:15020 or off",
			       text);
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&at, &ss);
	int fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_sys(err, -errno, "metrics: socket for %s", text);

	int one = 1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&ss, len) < 0 || listen(fd, BACKLOG) < 0) {
		int rc = err_sys(err, -errno, "metrics: listen on %s; choose another with --metrics-listen", text);
		close(fd);
		return rc;
	}
	len = sizeof(ss);
	if (getsockname(fd, (struct sockaddr *)&ss, &len) == 0 && addr_from_sockaddr((struct sockaddr *)&ss, &at) == 0)
		*port = at.port;
	return fd;
}
