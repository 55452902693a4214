/* SPDX-License-Identifier: Apache-2.0 */
/* Resident memory of an idle process. */
#pragma once

/* Gives back what only passing work needed: free heap, and pages of code and constants, which the kernel maps again from
 * the page cache when they are used. For a quiet moment: what comes next pays a few hundred page faults, 1 µs each. Any
 * thread. */
void memory_settle(void);
