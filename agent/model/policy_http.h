/* SPDX-License-Identifier: Apache-2.0 */
/* The verdict of a workload's policy on one request. Pure: the helper asks it for every request, `explain` with the same
 * code. Any thread. */
#pragma once

#include "agent/model/http.h"
#include "agent/model/policy.h"

enum { POLICY_CUSTOM_MAX = 8 }; /* providers that one request may have to be asked about; more is a refusal */

/* A value of a claim; true ends the search. */
typedef bool (*policy_claim_fn)(struct http_view value, void *arg);

struct policy_http_input {
	const struct identity *peer; /* as policy_input's */
	bool from_node;		     /* the same */
	struct addr source;	     /* of the connection */
	struct addr remote;	     /* the client's, as far as forwarded-for headers are trusted; else the source */
	struct addr destination;
	uint16_t port;
	const struct http_request_view *request; /* path absent: could not be normalised, which is refused */
	struct http_view sni;
	struct http_view request_principal; /* of a verified token */
	/* Calls fn for the text at path in the verified token, or for each element of a list; whether one returned true.
	 * NULL: there is no token. */
	bool (*claim)(const void *claims, char *const *path, size_t path_count, policy_claim_fn fn, void *arg);
	const void *claims;
};

/* What the dry-run rules of one action say: no part of the verdict. */
struct policy_shadow {
	bool asked;			/* there are such rules */
	const struct policy_rule *rule; /* the first that matched; NULL: none */
};

struct policy_http_verdict {
	/* Of DENY and ALLOW, if all of `custom` allow it. DROP_NONE, DROP_MTLS_REQUIRED, DROP_POLICY_DENY, _NO_ALLOW. */
	enum drop_reason reason;
	const struct policy_rule *rule;	 /* that decided; NULL: a default did */
	const struct policy_rule *audit; /* first AUDIT or dry-run rule that matched; NULL: none */
	struct policy_shadow dry_deny, dry_allow;
	/* To be asked before: the first CUSTOM rule that matched for each provider. */
	const struct policy_rule *custom[POLICY_CUSTOM_MAX];
	size_t custom_count;
};

/* Whether it would be refused if they were in force: by DENY when one matched, by ALLOW when none did. */
bool policy_shadow_refuses(const struct policy_shadow *shadow, enum policy_action action);
void policy_eval_http(const struct policy *p, const struct policy_http_input *in, struct policy_http_verdict *out);
/* "ns[shop]-policy[no-strangers]-rule[0]", as Istio names a rule. */
void policy_rule_text(const struct policy_rule *rule, char *buf, size_t size);
/* Why a rule does not match, for explain: NULL when it does. The words are those of the document: "from", "hosts",
 * "methods", "paths", "requestPrincipals", "ports", or buf with the key of a `when`. */
const char *policy_rule_why(const struct policy_rule *rule, const struct policy_http_input *in, char *buf, size_t size);
