/* SPDX-License-Identifier: Apache-2.0 */
/* What the helper gives up before it reads a stranger's first byte, in the order that the kernel wants. Called once, by
 * the only thread there is. */
#pragma once

#include <sys/types.h>

struct err;

/* Descriptors above `keep_fd` are closed. Needs root to start from; everything must succeed or the process must end. */
int sandbox_enter(uid_t uid, gid_t gid, int keep_fd, struct err *err);
