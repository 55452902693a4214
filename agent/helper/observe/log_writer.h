/* SPDX-License-Identifier: Apache-2.0 */
/* Writes access logs to descriptors that the agent opened, on a thread of its own: a disk or a reader that is slow costs
 * lines, which are counted, and never a request's time. Every function from any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct log_writer;

int log_writer_new(struct log_writer **out); /* 0 or -errno */
void log_writer_free(struct log_writer *w);  /* writes what is queued, for at most a second; NULL is fine */
/* Where lines for `path` go from now on; takes fd. -1: nowhere. 0, -ENOMEM or -E2BIG. */
int log_writer_sink(struct log_writer *w, const char *path, int fd);
/* Whole lines; takes them (malloc'ed). false: they were dropped, for want of a sink or of room. */
bool log_writer_put(struct log_writer *w, const char *path, char *lines, size_t len, uint32_t count);
/* Lines that were lost since the last call, of whoever calls: each is told of once. */
uint64_t log_writer_dropped(struct log_writer *w);
bool log_writer_busy(struct log_writer *w); /* something is queued or being written */
