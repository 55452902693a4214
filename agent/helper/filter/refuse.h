/* SPDX-License-Identifier: Apache-2.0 */
/* Counting what filters refuse. */
#pragma once

#include "bpf/reason.h"

struct exchange;

/* Counts a refusal of the request and reports it to the agent, as of a connection; rule may be NULL. */
void refuse_count(struct exchange *x, enum drop_reason reason, const char *rule);
