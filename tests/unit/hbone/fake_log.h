/* SPDX-License-Identifier: Apache-2.0 */
/* Where the lines of connections go: the last is kept, with everything that a line can say of one. */
#pragma once

struct worker_pod;

extern char fake_log_line[1024];
extern unsigned int fake_log_lines;

/* The pod's telemetry wants lines of both sides, from now on; fake_log_done() takes it away again. */
void fake_log_want(struct worker_pod *pod);
void fake_log_done(struct worker_pod *pod);
