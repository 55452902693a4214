/* SPDX-License-Identifier: Apache-2.0 */
/* Which limits, authorizers and scripts an explained request meets besides rules, in the order of the helper's stages.
 * Internal to agent/control; pure. */
#pragma once

#include "agent/model/filters.h"
#include "agent/model/policy_http.h"

struct json_t;

struct filters_met {
	const struct http_filters *filters; /* NULL: there are none */
	struct filter_place at;
	const struct policy_http_verdict *verdict; /* of the server's side; NULL: the client's */
};

/* [{"kind": "script", "name": ..., "origin": ..., "text": ...}, ...]. What comes behind a refusal is left out. */
struct json_t *filters_met_json(const struct filters_met *m);
