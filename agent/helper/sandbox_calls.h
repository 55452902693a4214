/* SPDX-License-Identifier: Apache-2.0 */
/* The system calls that the helper may make; any other kills the process. libseccomp appears only in the .c file. */
#pragma once

struct err;

/* Needs no_new_privs. Holds for this thread and those it starts. */
int sandbox_calls_restrict(struct err *err);
