/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/control/http_inbound.h"

#include <netinet/in.h>

#include <jansson.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/control/backend.h"
#include "agent/control/http_filters.h"
#include "agent/control/json.h"
#include "agent/control/objects.h"
#include "agent/control/request.h"
#include "agent/model/filters.h"
#include "agent/model/identity.h"

/* What only a verified token could tell. */
static bool about_token(const char *why)
{
	return why && (str_eq(why, "requestPrincipals") || str_starts(why, "request.auth"));
}

/* Each rule with the first condition that does not hold. *token_matters: one hangs on a token's content. */
static json_t *rules_json(const struct policy *p, const struct policy_http_input *in, bool *token_matters)
{
	json_t *list = json_array();
	char buf[256];

	for (size_t i = 0; i < p->rule_count; i++) {
		const char *why = policy_rule_why(&p->rules[i], in, buf, sizeof(buf));
		json_t *o = policy_rule_json(&p->rules[i]);
		json_set_bool(o, "matches", !why);
		json_set_text(o, "why_not", why);
		json_set_text_if(o, "provider", p->rules[i].provider);
		json_add(list, o);
		*token_matters |= about_token(why) && !p->rules[i].dry_run && p->rules[i].action != POLICY_AUDIT;
	}
	return list;
}

static json_t *token_json(const struct workload *w, bool matters, bool has_token)
{
	json_t *o = json_object(), *issuers = json_array();

	for (size_t i = 0; w->inbound && i < w->inbound->jwt_count; i++) {
		json_t *issuer = json_object();
		json_set_text(issuer, "issuer", w->inbound->jwt[i].issuer);
		json_set_text(issuer, "origin", w->inbound->jwt[i].origin);
		json_set_bool(issuer, "has_keys", w->inbound->jwt[i].jwks != NULL);
		json_add(issuers, issuer);
	}
	json_set_bool(o, "known", w->inbound != NULL); /* of workloads of this node alone */
	json_set(o, "issuers", issuers);
	json_set_bool(o, "given", has_token);
	json_set_bool(o, "matters", matters);
	return o;
}

static void verdict_set(json_t *o, const struct policy *p, const struct policy_http_verdict *v)
{
	json_t *custom = json_array();

	json_set_text(o, "reason", v->reason == DROP_NONE ? NULL : text_of_reason(v->reason));
	json_set_text(o, "help", v->reason == DROP_NONE ? NULL : text_of_reason_help(v->reason));
	json_set(o, "rule", v->rule ? policy_rule_json(v->rule) : json_null());
	if (v->audit)
		json_set(o, "audit", policy_rule_json(v->audit));
	for (size_t i = 0; i < v->custom_count; i++) {
		json_t *rule = policy_rule_json(v->custom[i]);
		json_set_text(rule, "provider", v->custom[i]->provider);
		json_add(custom, rule);
	}
	json_set(o, "custom", custom);
	json_set_bool(o, "default_allow", !p->has_allow);
	json_set_text_if(o, "allow_policies", p->allow_names);
}

/* Does the kernel let the connection in (mTLS, L4 rules), before anybody sees a request? */
static bool kernel_refuses(struct request *rq, const struct http_inbound *in, enum drop_reason *reason)
{
	const struct control_backend *b = request_backend(rq);
	struct explain_inbound live;
	struct err err = ERR_INIT;

	if (!workload_is_local(in->workload) || !b->explain_inbound ||
	    b->explain_inbound(in->workload, in->peer ? in->peer->id : 0, &in->source_addr, in->at.port, IPPROTO_TCP,
			       &live, &err, b->arg) < 0)
		return false;
	*reason = live.reason;
	return !live.to_helper && live.reason != DROP_NONE;
}

/* As the helper has it: what trusted proxies told, else the source. false: they told something that is no address. */
static bool remote_of(const struct http_inbound *in, struct addr *out)
{
	const struct http_filters *f = in->workload->inbound;
	struct http_view told = in->request->header(in->request, "x-forwarded-for");

	return proxy_remote_addr(f ? f->proxy.trusted_proxies : 0, told.p, told.n, &in->source_addr, out) == 0;
}

static enum http_inbound_verdict judge(struct request *rq, const struct http_inbound *in, const struct policy *p,
				       json_t *o)
{
	struct addr remote;
	bool remote_known = remote_of(in, &remote);
	const struct policy_http_input input = {
		.peer = in->peer,
		.source = in->source_addr,
		.remote = remote,
		.destination = in->at.addr,
		.port = in->at.port,
		.request = in->request,
	};
	struct policy_http_verdict v;
	bool matters = false;

	policy_eval_http(p, &input, &v);
	if (!remote_known && policy_names_remote_ip(p) && v.reason == DROP_NONE)
		v.reason = DROP_POLICY_DENY;
	json_t *rules = rules_json(p, &input, &matters);
	enum drop_reason live = DROP_NONE;
	if (kernel_refuses(rq, in, &live) && v.reason == DROP_NONE && !policy_needs_http(p))
		v.reason = live;
	json_set_text(o, "mtls_mode", text_of_mtls(policy_mtls_mode(p, in->at.port)));
	json_set_text(o, "mtls_origin", p->mtls_origin);
	json_set_text(o, "peer", in->peer ? in->peer->uri : NULL);
	verdict_set(o, p, &v);
	json_set(o, "rules", rules);
	json_set(o, "token", token_json(in->workload, matters, in->has_token));
	const struct filters_met met = { .filters = in->workload->inbound, .at.port = in->at.port, .verdict = &v };
	json_set(o, "filters", filters_met_json(&met));
	/* A token that is given may fulfil what was judged as if there were none; and its absence is certain. */
	if (matters && in->has_token && v.reason != DROP_MTLS_REQUIRED)
		return INBOUND_UNKNOWN;
	if (v.reason != DROP_NONE)
		return INBOUND_REFUSED;
	return v.custom_count ? INBOUND_UNKNOWN : INBOUND_ALLOWED;
}

struct json_t *http_inbound_json(struct request *rq, const struct http_inbound *in, enum http_inbound_verdict *verdict)
{
	const struct workload *w = in->workload;
	json_t *o = json_object();

	*verdict = INBOUND_ALLOWED;
	json_set_text(o, "workload", w ? w->uid : NULL);
	json_set_text(o, "node", w ? w->node : NULL);
	json_set(o, "endpoint", json_of_addr_port(&in->at));
	if (!w || !w->enrolled || w == in->source) {
		json_set_bool(o, "allowed", true);
		json_set_text(o, "problem",
			      !w	   ? "outside the mesh: no policy is applied at its end" :
			      !w->enrolled ? "not in the mesh: no policy is applied at its end" :
					     "the workload calls itself: no policy is applied");
		return o;
	}
	struct policy *policy = policy_for(rq, w);
	if (!policy) {
		*verdict = INBOUND_UNKNOWN;
		json_set(o, "allowed", json_null());
		json_set_text(o, "problem", "runs on another node, where its policy is decided: ask there");
		return o;
	}
	*verdict = judge(rq, in, policy, o);
	json_set(o, "allowed", *verdict == INBOUND_UNKNOWN ? json_null() : json_boolean(*verdict == INBOUND_ALLOWED));
	policy_unref(policy);
	return o;
}
