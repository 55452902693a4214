/* SPDX-License-Identifier: Apache-2.0 */
/* weftd cleanup: the helpers of an instance end, then its pins go, and with them every hook. */
#include "agent/base/err.h"
#include "agent/base/str.h"
#include "agent/daemon/daemon.h"
#include "agent/kernel/kernel.h"
#include "agent/link/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

enum { HELPERS_MAX = 64 };

static int agent_running(const struct daemon_options *options)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/weftd.lock", options->run_dir);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return 0; /* never ran, or not with this directory */
	int busy = flock(fd, LOCK_EX | LOCK_NB) < 0;
	close(fd);
	return busy;
}

static void helpers_end(const char *run_dir)
{
	static const char *const files[] = { "helper.pid", "weft.sock", "weftd.lock" };
	struct process helpers[HELPERS_MAX];
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/helper.pid", run_dir);
	size_t n = process_file_read(path, helpers, HELPERS_MAX);
	for (size_t i = 0; i < n; i++) {
		process_signal(&helpers[i], SIGKILL);
		snprintf(path, sizeof(path), "%s/helper-%d.sock", run_dir, (int)helpers[i].pid);
		unlink(path);
		process_done(&helpers[i]);
	}
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", run_dir, files[i]);
		unlink(path);
	}
	rmdir(run_dir); /* stays when somebody keeps something there */
}

int daemon_cleanup(const struct daemon_options *options, struct err *err)
{
	const struct kernel_options kernel = {
		.instance = options->instance,
		.bpffs = "/sys/fs/bpf",
		.cgroup = options->cgroup,
	};

	if (agent_running(options))
		return err_set(err, -EBUSY, "instance \"%s\" is running (%s/weftd.lock is locked); stop it first",
			       options->instance, options->run_dir);
	helpers_end(options->run_dir);
	return kernel_cleanup(&kernel, err);
}
