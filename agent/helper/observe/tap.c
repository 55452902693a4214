/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/observe/tap.h"

#include "agent/base/str.h"
#include "agent/helper/observe/expression.h"
#include "agent/helper/observe/format.h"
#include "agent/helper/observe/record.h"
#include "agent/helper/worker.h"

#include <stdlib.h>

/* One object; what is absent is null. */
static const char template[] =
	"{\"time\":\"%START_TIME%\",\"method\":\"%REQ(:METHOD)%\",\"authority\":\"%REQ(:AUTHORITY)%\","
	"\"path\":\"%REQ(:PATH)%\",\"protocol\":\"%PROTOCOL%\",\"status\":\"%RESPONSE_CODE%\","
	"\"grpc_status\":\"%GRPC_STATUS_NUMBER%\",\"flags\":\"%RESPONSE_FLAGS%\",\"details\":\"%RESPONSE_CODE_DETAILS%"
	"\","
	"\"duration_ms\":\"%DURATION%\",\"attempts\":\"%UPSTREAM_REQUEST_ATTEMPT_COUNT%\","
	"\"received_bytes\":\"%BYTES_RECEIVED%\",\"sent_bytes\":\"%BYTES_SENT%\","
	"\"source\":\"%DOWNSTREAM_REMOTE_ADDRESS%\",\"destination\":\"%DOWNSTREAM_LOCAL_ADDRESS%\","
	"\"peer\":\"%DOWNSTREAM_PEER_URI_SAN%\",\"cluster\":\"%UPSTREAM_CLUSTER%\",\"endpoint\":\"%UPSTREAM_HOST%\","
	"\"route\":\"%ROUTE_NAME%\",\"request_id\":\"%REQ(X-REQUEST-ID)%\",\"user_agent\":\"%REQ(USER-AGENT)%\"";

/* ,"dry_run_deny":{"result":"denied","policy":"shop/no-admin"} */
static void dry_run_json(struct sb *out, const char *name, const struct policy_shadow *s, enum policy_action action)
{
	if (!s->asked)
		return;
	sb_addf(out, ",\"dry_run_%s\":{\"result\":\"%s\"", name,
		policy_shadow_refuses(s, action) ? "denied" : "allowed");
	if (s->rule)
		sb_addf(out, ",\"policy\":\"%s\"", s->rule->name);
	sb_addf(out, "}");
}

static char *record_json(const struct request_record *r)
{
	struct sb out = { 0 };
	struct log_format *format = log_format_new(template, true);
	if (!format)
		return NULL;
	log_format_write(format, r, &out);
	log_format_free(format);
	/* Names of pods and policies come from the agent: nothing in them needs escaping. */
	if (r->authz_rule)
		sb_addf(&out, ",\"policy\":\"%s\"", r->authz_rule);
	dry_run_json(&out, "deny", &r->dry_deny, POLICY_DENY);
	dry_run_json(&out, "allow", &r->dry_allow, POLICY_ALLOW);
	sb_addf(&out, ",\"reporter\":\"%s\",\"pod\":\"%s\"}", r->reporter == REPORTER_CLIENT ? "source" : "destination",
		r->pod->uid);
	return sb_take(&out);
}

void taps_serve(struct worker *w, const struct request_record *r)
{
	const struct worker_tap *taps;
	uint32_t generation;
	size_t n = worker_taps(w, &taps, &generation);

	for (size_t i = 0; i < n; i++) {
		if ((taps[i].filter && *taps[i].filter && !expression_true(r, taps[i].filter)) ||
		    !worker_tap_allows(w, taps[i].id))
			continue;
		char *json = record_json(r);
		if (json)
			worker_tap_record(w, taps[i].id, json);
	}
}
