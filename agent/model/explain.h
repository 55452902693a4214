/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel sink answers to "which way would this connection go" and "can this machine run Weft". Plain data. */
#pragma once

#include "agent/base/addr.h"
#include "bpf/reason.h"

#include <stdbool.h>
#include <stdint.h>

enum path_choice { PATH_PASS, PATH_DIRECT, PATH_HELPER_L4, PATH_HELPER_L7, PATH_DENY };

struct explain_outbound {
	enum path_choice path;
	enum drop_reason reason; /* for PATH_DENY */
	uint32_t service;	 /* 0: none */
	struct addr_port chosen; /* one pick */
	uint64_t slots_id;
};

struct explain_inbound {
	enum drop_reason reason; /* DROP_NONE: passes */
	bool to_helper;
	uint64_t policy_id;
	uint32_t rule; /* UINT32_MAX: a default */
};

/* One line of `meshctl precheck`, and of what weftd prints when it can't start. */
struct precheck_item {
	const char *what; /* "sk_lookup programs" */
	bool ok, required;
	char detail[200]; /* what is missing and what to do */
};
