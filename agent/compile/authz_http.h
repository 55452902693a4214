/* SPDX-License-Identifier: Apache-2.0 */
/* The part of AuthorizationPolicy that is about requests. Appends to what is given, and marks alternatives that have any
 * of it. Each 0 or -ENOMEM unless said. */
#pragma once

#include "agent/config/kinds.h"
#include "agent/model/policy.h"

int authz_http_source(const struct authz_source *s, struct policy_match *m);
int authz_http_operation(const struct authz_operation *op, struct policy_match *m);
/* 1: *out is filled; 0: the condition is about connections. */
int authz_http_condition(const struct authz_condition *w, struct policy_condition *out);
