/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/filter/authorize.h"

#include <string.h>

#include "agent/helper/filter/jwt.h"
#include "agent/helper/filter/refuse.h"
#include "agent/helper/worker.h"

static void eval(struct exchange *x, const struct policy *policy, struct policy_http_verdict *out)
{
	struct http_request_view view = exchange_view(x);
	const char *principal = x->request_principal;
	const struct policy_http_input in = {
		.peer = x->peer,
		.from_node = x->from_node,
		.source = x->source.addr,
		.remote = x->remote,
		.destination = x->destination.addr,
		.port = x->destination.port,
		.request = &view,
		.request_principal = { principal, principal ? strlen(principal) : 0 },
		.claim = x->claims ? jwt_claims_visit : NULL,
		.claims = x->claims,
	};

	policy_eval_http(policy, &in, out);
}

void authorize_eval(struct exchange *x, struct policy_http_verdict *out)
{
	eval(x, x->policy, out);
}

bool authorize_holds(struct exchange *x)
{
	const struct policy *now = x->pod->policy;
	struct policy_http_verdict v;

	if (!now || (x->remote_unknown && policy_names_remote_ip(now)))
		return false;
	eval(x, now, &v);
	if (v.reason == DROP_NONE)
		return true;
	refuse_count(x, v.reason, v.rule ? v.rule->name : NULL);
	return false;
}

/* "rbac_access_denied_matched_policy[ns[shop]-policy[no-strangers]-rule[0]]", as Istio names what matched. */
static const char *denial_details(struct exchange *x, const struct policy_rule *rule)
{
	char name[600];

	if (!rule)
		return "rbac_access_denied_matched_policy[none]";
	policy_rule_text(rule, name, sizeof(name));
	struct http_string text = http_head_textf(x->head, "rbac_access_denied_matched_policy[%s]", name);
	return text.p ? text.p : "rbac_access_denied_matched_policy";
}

enum stage_result authorize_deny(struct exchange *x, enum drop_reason reason, const struct policy_rule *rule)
{
	x->record.authz_rule = rule ? rule->name : NULL;
	refuse_count(x, reason, x->record.authz_rule);
	exchange_respond(x, 403, 0, denial_details(x, rule), "RBAC: access denied", NULL);
	return STAGE_ANSWERED;
}

static void dry_run_tell(struct exchange *x, const struct policy_http_verdict *v)
{
	bool denied =
		policy_shadow_refuses(&v->dry_deny, POLICY_DENY) || policy_shadow_refuses(&v->dry_allow, POLICY_ALLOW);

	if (!v->dry_deny.asked && !v->dry_allow.asked)
		return;
	x->record.dry_deny = v->dry_deny;
	x->record.dry_allow = v->dry_allow;
	if (denied)
		worker_metrics(x->w)->dry_run_denied++;
	else
		worker_metrics(x->w)->dry_run_allowed++;
}

static enum stage_result verdict_apply(struct exchange *x, const struct policy_http_verdict *v)
{
	dry_run_tell(x, v);
	if (v->reason != DROP_NONE)
		return authorize_deny(x, v->reason, v->rule);
	if (v->audit)
		x->record.authz_rule = v->audit->name;
	return STAGE_CONTINUE;
}

enum stage_result authorize_decide(struct exchange *x)
{
	struct policy_http_verdict v;

	authorize_eval(x, &v);
	return verdict_apply(x, &v);
}

/* As Envoy where tunnels are not asked for. An application that takes CONNECT for any other method would read what follows
 * as requests that nobody judged. */
static enum stage_result refuse_tunnel(struct exchange *x)
{
	refuse_count(x, DROP_POLICY_DENY, NULL);
	exchange_respond(x, 403, 0, "upgrade_failed", NULL, NULL);
	return STAGE_ANSWERED;
}

enum stage_result stage_authorize(struct exchange *x)
{
	struct policy_http_verdict v;

	if (x->side != SIDE_SERVER)
		return STAGE_CONTINUE;
	if (!x->policy) /* a pod whose policy is not known yet takes nothing */
		return authorize_deny(x, DROP_NOT_READY, NULL);
	if (x->remote_unknown && policy_names_remote_ip(x->policy)) /* for both DENY and ALLOW */
		return authorize_deny(x, DROP_POLICY_DENY, NULL);
	if (http_is(x->head->method, "CONNECT") && !x->head->upgrade)
		return refuse_tunnel(x);
	authorize_eval(x, &v);
	return v.custom_count ? ext_authz_ask(x, v.custom, v.custom_count) : verdict_apply(x, &v);
}
