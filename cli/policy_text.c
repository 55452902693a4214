/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/policy_text.h"

#include <stdlib.h>

#include <jansson.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "cli/format.h"

static char *must(char *text)
{
	if (!text)
		abort(); /* a line of text: there is no memory at all */
	return text;
}

char *policy_rule_text(const struct json_t *rule)
{
	return must(str_format("%s %s, rule %lld (%s)%s", at_text_or(rule, "action", "?"),
			       at_text_or(rule, "name", "?"), at_int(rule, "rule") + 1, at_text_or(rule, "origin", "?"),
			       at_true(rule, "dry_run") ? ", dry run" : ""));
}

char *policy_verdict_text(const struct json_t *v)
{
	bool allowed = at_true(v, "allowed");
	const char *reason = at_text_or(v, "reason", "");

	if (json_is_object(at(v, "rule"))) {
		AUTO(mem_freep) char *rule = policy_rule_text(at(v, "rule"));
		return must(str_format("%s by %s", allowed ? "allowed" : "refused", rule));
	}
	if (allowed)
		return must(str_format("%s", at_true(v, "default_allow") ?
						     "allowed: no ALLOW policy selects the workload" :
						     "allowed"));
	if (str_eq(reason, "policy_no_allow"))
		return must(str_format("refused: no rule of its ALLOW policies matches (%s)",
				       at_text_or(v, "allow_policies", "they have no rules")));
	if (str_eq(reason, "mtls_required"))
		return must(str_format("refused: %s asks for mutual TLS",
				       at_text_or(v, "mtls_origin", "PeerAuthentication")));
	return must(str_format("refused"));
}
