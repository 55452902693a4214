/* SPDX-License-Identifier: Apache-2.0 */
/* Files of access logs: opened here, where files can be, and written by the helper. A file that was moved away or removed
 * (logrotate) is opened anew within a second. */
#include "agent/base/err.h"
#include "agent/base/log.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/daemon/internal.h"
#include "agent/link/supervisor.h"
#include "agent/model/telemetry.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LOG_CHECK_MS = 1000 };

struct daemon_log {
	dev_t device;
	ino_t inode;
	bool stream;	   /* stdout or stderr: nothing to look after */
	bool open, wanted; /* open: the helper has it */
	bool failed;	   /* said so in the log */
};

static int path_open(const char *path)
{
	if (str_eq(path, "/dev/stdout"))
		return fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
	if (str_eq(path, "/dev/stderr"))
		return fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
	return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
}

static void log_open(struct daemon *d, const char *path, struct daemon_log *l)
{
	AUTO(fd_closep) int fd = path_open(path);
	struct stat st;
	struct err err = ERR_INIT;
	int rc = fd < 0 || fstat(fd, &st) < 0 ? err_sys(&err, -errno, "access log %s", path) :
						supervisor_log_sink(d->supervisor, path, fd, &err);
	if (rc < 0) {
		if (!l->failed)
			log_error("%s: requests are not logged there until it can be opened", err.text);
		l->failed = true;
		return;
	}
	l->failed = false;
	l->open = true;
	l->stream = str_starts(path, "/dev/");
	l->device = st.st_dev;
	l->inode = st.st_ino;
}

static bool is_gone(const char *path, const struct daemon_log *l)
{
	struct stat st;
	return !l->stream && (stat(path, &st) < 0 || st.st_ino != l->inode || st.st_dev != l->device);
}

void daemon_on_log_timer(struct loop_timer *timer, void *arg)
{
	struct daemon *d = arg;
	struct table_iter it = { 0 };
	(void)timer;
	while (table_next(d->logs, &it)) {
		struct daemon_log *l = it.value;
		if (!l->open || is_gone(it.key, l))
			log_open(d, it.key, l);
	}
}

static void want(struct daemon *d, const char *path)
{
	struct daemon_log *l = table_get(d->logs, path, strlen(path) + 1);
	if (!l) {
		l = calloc(1, sizeof(*l));
		/* The key's NUL is part of it, so that it can be used as text. */
		if (!l || table_set(d->logs, path, strlen(path) + 1, l) < 0) {
			free(l);
			log_error("access log %s: out of memory", path);
			return;
		}
		log_open(d, path, l);
	}
	l->wanted = true;
}

void daemon_logs_sync(struct daemon *d, const struct plan *plan)
{
	struct table_iter it = { 0 };

	for (size_t i = 0; i < plan->workload_count; i++) {
		const struct telemetry *t = plan->workloads[i]->telemetry;
		for (size_t side = 0; t && side < REPORTER_COUNT; side++)
			for (size_t k = 0; k < t->log_count[side]; k++)
				want(d, t->logs[side][k].path);
	}
	while (table_next(d->logs, &it)) {
		struct daemon_log *l = it.value;
		if (!l->wanted) {
			supervisor_log_sink(d->supervisor, it.key, -1, NULL);
			table_remove(d->logs, it.key, it.key_len);
			continue;
		}
		l->wanted = false;
	}
	if (table_count(d->logs))
		loop_timer_start(d->log_timer, LOG_CHECK_MS, LOG_CHECK_MS);
	else
		loop_timer_stop(d->log_timer);
}
