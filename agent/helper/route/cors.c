/* SPDX-License-Identifier: Apache-2.0 */
/* Cross-origin requests: preflights are answered here, others get the fields that their origin may have (as Envoy's CORS
 * filter). */
#include "agent/helper/route/internal.h"

#include <stdio.h>
#include <string.h>

static bool origin_allowed(const struct http_cors *cors, struct http_string origin)
{
	struct http_view view = { origin.p, origin.n };
	for (size_t i = 0; i < cors->origin_count; i++)
		if (http_text_matches(&cors->origins[i], view))
			return true;
	return false;
}

/* With credentials a browser takes a star by its word: there the answer names what was asked for. */
static void allow(const struct http_cors *cors, struct http_head *head, const char *name, const char *text,
		  struct http_string asked)
{
	if (!text || !*text)
		return;
	if (!cors->credentials || strcmp(text, "*") != 0) {
		http_add(head, name, text);
		return;
	}
	struct http_string value = asked.n ? http_head_text(head, asked.p, asked.n) : asked;
	if (value.p)
		http_add_ref(head, (struct http_string){ name, (uint32_t)strlen(name) }, value);
}

/* The fields that only a preflight is told; those of every answer are cors_response()'s. */
static void preflight_fields(const struct http_cors *cors, const struct http_head *request, struct http_head *head)
{
	allow(cors, head, "access-control-allow-methods", cors->methods,
	      http_get_id(request, HTTP_ACCESS_CONTROL_REQUEST_METHOD));
	allow(cors, head, "access-control-allow-headers", cors->headers,
	      http_get(request, "access-control-request-headers"));
	if (cors->has_max_age) {
		char age[12];
		snprintf(age, sizeof(age), "%u", cors->max_age_s);
		http_add(head, "access-control-max-age", age);
	}
}

enum stage_result stage_cors(struct exchange *x)
{
	struct exchange_private *e = exchange_of(x);
	const struct http_cors *cors = x->route->cors;
	if (!cors)
		return STAGE_CONTINUE;
	struct http_string origin = http_get_id(x->head, HTTP_ORIGIN);
	if (!origin.n)
		return STAGE_CONTINUE;
	bool preflight =
		http_is(x->head->method, "OPTIONS") && http_get_id(x->head, HTTP_ACCESS_CONTROL_REQUEST_METHOD).n;
	bool allowed = origin_allowed(cors, origin);
	if (allowed)
		e->cors_origin = origin;
	if (!preflight || (!allowed && cors->forward_unmatched_preflights))
		return STAGE_CONTINUE;
	struct http_head *extra = http_head_new();
	if (extra && allowed)
		preflight_fields(cors, x->head, extra);
	e->cors_preflight = true;
	exchange_respond(x, 200, 0, "cors_response", NULL, extra);
	http_head_free(extra);
	return STAGE_ANSWERED;
}

void cors_response(struct exchange_private *e, struct http_head *head)
{
	if (!e->cors_origin.p)
		return;
	const struct http_cors *cors = e->x.route->cors;
	struct http_string origin = http_head_text(head, e->cors_origin.p, e->cors_origin.n);
	static const struct http_string name = { "access-control-allow-origin", 27 };
	http_remove(head, "access-control-allow-origin");
	if (origin.p)
		http_add_ref(head, name, origin);
	if (cors->credentials)
		http_set(head, "access-control-allow-credentials", "true");
	if (cors->expose && *cors->expose && !e->cors_preflight)
		http_set(head, "access-control-expose-headers", cors->expose);
}
