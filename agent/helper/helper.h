/* SPDX-License-Identifier: Apache-2.0 */
/* The helper process after its sandbox: the link thread, which speaks with the agent, keeps keys and shares out work, and
 * the workers that it starts. */
#pragma once

/* link_fd: the connected SOCK_SEQPACKET end. Runs until drained or told to end; the process's exit status. */
int helper_run(int link_fd);
