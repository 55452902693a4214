/* SPDX-License-Identifier: Apache-2.0 */
/* The steps of stage_authorize: CUSTOM rules ask (ext_authz.c), then DENY and ALLOW decide. */
#pragma once

#include "agent/helper/route/exchange.h"
#include "agent/model/policy_http.h"

void authorize_eval(struct exchange *x, struct policy_http_verdict *out);
/* DENY and ALLOW, on the request as it is now. STAGE_CONTINUE or STAGE_ANSWERED. */
enum stage_result authorize_decide(struct exchange *x);
/* 403 as Envoy's RBAC filter. rule NULL: a default refused. */
enum stage_result authorize_deny(struct exchange *x, enum drop_reason reason, const struct policy_rule *rule);
/* Asks the providers of these rules, one after the other; then authorize_decide(). */
enum stage_result ext_authz_ask(struct exchange *x, const struct policy_rule *const *rules, size_t count);
