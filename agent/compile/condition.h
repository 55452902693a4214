/* SPDX-License-Identifier: Apache-2.0 */
/* The lists of one alternative of a rule. A list holds what any of may match; a second condition on the same attribute
 * (from.source.namespaces and when source.namespace) must hold too, so the lists are intersected. */
#pragma once

#include "agent/config/resource.h"
#include "agent/model/policy.h"

enum condition_result {
	CONDITION_OK,
	CONDITION_NEVER,   /* nothing is left that could match */
	CONDITION_INEXACT, /* the intersection can't be written as patterns; see `widen` */
};

/* Each returns a condition_result or -ENOMEM. values empty: no condition, nothing happens. widen: of two patterns
 * whose intersection has no form of its own, keep one (a DENY denies more) instead of none (an ALLOW allows less). */
int condition_strings(struct match_strings *to, const struct string_list *values, bool widen);
int condition_cidrs(struct match_cidrs *to, const struct cidr *values, size_t n);
int condition_ports(struct match_ports *to, const struct string_list *values);
/* For `not` lists, of which none may match: just appended. 0 or -ENOMEM. */
int condition_not_strings(struct match_strings *to, const struct string_list *values);
int condition_not_cidrs(struct match_cidrs *to, const struct cidr *values, size_t n);
int condition_not_ports(struct match_ports *to, const struct string_list *values);
