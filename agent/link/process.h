/* SPDX-License-Identifier: Apache-2.0 */
/* Processes by pidfd: a pid alone may be another process tomorrow. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct err;

struct process {
	pid_t pid;
	int pidfd;	      /* -1: none; readable when the process has ended */
	uint64_t start_ticks; /* field 22 of /proc/PID/stat: with pid, unique until reboot */
};

/* Starts path with argv in a session of its own; descriptor `fd` becomes 3, 0 and 1 are /dev/null, 2 stays, all others
 * are closed; of the environment only sanitizer options go along. */
int process_spawn(const char *path, char *const argv[], int fd, struct process *out, struct err *err);
/* A process that somebody else started. -ESRCH when it is not there any more or another one has its pid. */
int process_find(pid_t pid, uint64_t start_ticks, struct process *out);
int process_signal(const struct process *process, int signum); /* 0 or -errno */
/* Reaps our own child that has ended and says how, or false when it still runs. */
bool process_reap(const struct process *process, char *how, size_t size);
void process_done(struct process *process); /* closes pidfd */

/* The processes of a pid file, written whole (to a temporary file, then renamed). */
int process_file_write(const char *path, const struct process *const *list, size_t count, struct err *err);
/* Those of the file that still run, at most max; returns how many. */
size_t process_file_read(const char *path, struct process *list, size_t max);
