/* SPDX-License-Identifier: Apache-2.0 */
/* The destination's end of an explained request: its policy, rule by rule, and whether it wants a token. Internal to
 * agent/control; pure but for asking the backend. */
#pragma once

#include "agent/model/policy_http.h"

#include <stdbool.h>

struct json_t;
struct request;
struct workload;

struct http_inbound {
	const struct workload *source; /* NULL: nobody the mesh knows */
	struct addr source_addr;
	const struct workload *workload; /* NULL: outside the mesh */
	struct addr_port at;		 /* its endpoint */
	const struct identity *peer;	 /* as proven; NULL: anonymous */
	const struct http_request_view *request;
	bool has_token; /* the request carries an Authorization header */
};

enum http_inbound_verdict { INBOUND_ALLOWED, INBOUND_REFUSED, INBOUND_UNKNOWN };

struct json_t *http_inbound_json(struct request *rq, const struct http_inbound *in, enum http_inbound_verdict *verdict);
