/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/link/process.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"

enum { WAIT_PIDFD = 3 }; /* P_PIDFD, which glibc knows since 2.36 */

enum { PROCESS_LINK_FD = 3, STAT_START_FIELD = 22 };

static int pidfd_open_pid(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0u);
	return fd < 0 ? -errno : fd;
}

/* 0: not known. The command name (field 2) may hold spaces and brackets, so fields count from the last bracket. */
static uint64_t process_start_ticks(pid_t pid)
{
	char path[64], stat[1024];
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	AUTO(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ssize_t n = read(fd, stat, sizeof(stat) - 1);
	if (n <= 0)
		return 0;
	stat[n] = 0;
	const char *p = strrchr(stat, ')');
	for (int field = 2; p && field < STAT_START_FIELD; field++)
		p = strchr(p + 1, ' ');
	return p ? strtoull(p + 1, NULL, 10) : 0;
}

static size_t process_environment(char **out, size_t max)
{
	static const char *const kept[] = { "ASAN_OPTIONS=", "UBSAN_OPTIONS=", "TSAN_OPTIONS=", "LLVM_PROFILE_FILE=" };
	size_t n = 0;
	for (char **e = environ; *e; e++)
		for (size_t i = 0; i < ARRAY_SIZE(kept) && n + 1 < max; i++)
			if (str_starts(*e, kept[i]))
				out[n++] = *e;
	out[n] = NULL;
	return n;
}

static int process_spawn_with(const char *path, char *const argv[], int fd, posix_spawn_file_actions_t *actions,
			      posix_spawnattr_t *attributes, pid_t *pid)
{
	sigset_t none, defaults;
	sigemptyset(&none);
	sigfillset(&defaults);
	char *environment[8];
	process_environment(environment, ARRAY_SIZE(environment));

	int rc = posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0);
	if (!rc)
		rc = posix_spawn_file_actions_addopen(actions, 1, "/dev/null", O_WRONLY, 0);
	if (!rc)
		rc = posix_spawn_file_actions_adddup2(actions, fd, PROCESS_LINK_FD);
	if (!rc)
		rc = posix_spawn_file_actions_addclosefrom_np(actions, PROCESS_LINK_FD + 1);
	if (!rc)
		rc = posix_spawnattr_setsigmask(attributes, &none);
	if (!rc)
		rc = posix_spawnattr_setsigdefault(attributes, &defaults);
	if (!rc)
		rc = posix_spawnattr_setflags(attributes,
					      POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
	if (!rc)
		rc = posix_spawn(pid, path, actions, attributes, argv, environment);
	return -rc;
}

int process_spawn(const char *path, char *const argv[], int fd, struct process *out, struct err *err)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	pid_t pid = 0;
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attributes);
	int rc = process_spawn_with(path, argv, fd, &actions, &attributes, &pid);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attributes);
	if (rc < 0)
		return err_sys(err, rc, "start %s", path);

	/* Our own child that nobody has reaped yet: its pid can't have been given to another. */
	int pidfd = pidfd_open_pid(pid);
	if (pidfd < 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return err_sys(err, pidfd, "watch %s (pidfd_open needs Linux 5.3)", path);
	}
	*out = (struct process){ .pid = pid, .pidfd = pidfd, .start_ticks = process_start_ticks(pid) };
	return 0;
}

int process_find(pid_t pid, uint64_t start_ticks, struct process *out)
{
	if (pid <= 1 || !start_ticks)
		return -ESRCH;
	int pidfd = pidfd_open_pid(pid);
	if (pidfd < 0)
		return pidfd;
	/* After the pidfd: from here on it can't become another. */
	if (process_start_ticks(pid) != start_ticks) {
		close(pidfd);
		return -ESRCH;
	}
	*out = (struct process){ .pid = pid, .pidfd = pidfd, .start_ticks = start_ticks };
	return 0;
}

int process_signal(const struct process *process, int signum)
{
	if (process->pidfd < 0)
		return -ESRCH;
	return syscall(SYS_pidfd_send_signal, process->pidfd, signum, NULL, 0u) < 0 ? -errno : 0;
}

bool process_reap(const struct process *process, char *how, size_t size)
{
	siginfo_t info = { 0 };
	if (waitid((idtype_t)WAIT_PIDFD, (id_t)process->pidfd, &info, WEXITED | WNOHANG) < 0 || !info.si_pid)
		return false;
	if (info.si_code == CLD_EXITED)
		snprintf(how, size, "exited with status %d", info.si_status);
	else if (info.si_status == SIGSYS)
		snprintf(how, size, "was killed: it made a system call that its seccomp filter forbids");
	else
		snprintf(how, size, "was killed by signal %d (%s)", info.si_status, sigdescr_np(info.si_status));
	return true;
}

void process_done(struct process *process)
{
	fd_closep(&process->pidfd);
}

int process_file_write(const char *path, const struct process *const *list, size_t count, struct err *err)
{
	struct sb text = { 0 };
	for (size_t i = 0; i < count; i++)
		sb_addf(&text, "%d %" PRIu64 "\n", (int)list[i]->pid, list[i]->start_ticks);
	AUTO(mem_freep) char *content = sb_take(&text);
	AUTO(mem_freep) char *temporary = str_format("%s.new", path);
	if (!content || !temporary)
		return err_set(err, -ENOMEM, "write %s: out of memory", path);

	size_t len = strlen(content);
	AUTO(fd_closep) int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return err_sys(err, -errno, "write %s", temporary);
	ssize_t n = write(fd, content, len);
	if (n != (ssize_t)len)
		return err_sys(err, n < 0 ? -errno : -EIO, "write %s", temporary);
	if (rename(temporary, path) < 0)
		return err_sys(err, -errno, "rename %s to %s", temporary, path);
	return 0;
}

size_t process_file_read(const char *path, struct process *list, size_t max)
{
	char text[4096];
	AUTO(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ssize_t n = read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return 0;
	text[n] = 0;

	size_t count = 0;
	char *rest = text, *line;
	while (count < max && (line = strsep(&rest, "\n"))) {
		int pid;
		uint64_t start;
		if (sscanf(line, "%d %" SCNu64, &pid, &start) != 2)
			continue;
		if (process_find(pid, start, &list[count]) == 0)
			count++;
	}
	return count;
}
