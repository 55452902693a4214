/* SPDX-License-Identifier: Apache-2.0 */
/* RequestAuthentication. A request without a token passes (policies decide what it may); one whose tokens are all bad is
 * refused. As Istio has it: the first rule whose tokens are good gives the claims; a rule is good when all tokens at its
 * places are. Headers that rules write are taken from the client before, so that nobody can send their own. */
#include "agent/helper/filter/jwt.h"

#include <errno.h>
#include <string.h>

#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/helper/filter/jwt_keys.h"
#include "agent/helper/filter/jwt_locations.h"
#include "agent/helper/filter/jwt_token.h"
#include "agent/helper/filter/refuse.h"
#include "agent/helper/route/exchange.h"
#include "agent/helper/worker.h"

/* "jwt_authn_access_denied{Jwt_is_expired}" for each status. */
static const char *status_details(enum jwt_status status)
{
	static __thread char details[256];
	size_t n = 0;

	n = (size_t)snprintf(details, sizeof(details), "jwt_authn_access_denied{%s}", jwt_status_text(status));
	for (size_t i = 0; i < n && i < sizeof(details); i++)
		if (details[i] == ' ')
			details[i] = '_';
	return details;
}

/* Bearer realm="http://host/path", error="invalid_token", as Envoy; what would end the quoted string is left out. */
static int challenge_add(struct exchange *x, struct http_head *extra)
{
	enum { REALM_MAX = 256 };
	const struct http_head *h = x->head;
	char realm[REALM_MAX + 1];
	size_t kept = 0;
	int n = snprintf(realm, sizeof(realm), "%.*s://%.*s%.*s", h->scheme.p ? (int)h->scheme.n : 4,
			 h->scheme.p ? h->scheme.p : "http", (int)h->authority.n, h->authority.p ? h->authority.p : "",
			 (int)h->path.n, h->path.p ? h->path.p : "");

	for (int i = 0; i < n && i < REALM_MAX; i++)
		if (realm[i] > ' ' && realm[i] < 0x7f && realm[i] != '"' && realm[i] != '\\')
			realm[kept++] = realm[i];
	realm[kept] = '\0';
	struct http_string value = http_head_textf(extra, "Bearer realm=\"%s\", error=\"invalid_token\"", realm);
	return value.p ? http_add(extra, "www-authenticate", value.p) : -ENOMEM;
}

static enum stage_result deny(struct exchange *x, enum jwt_status status)
{
	/* Envoy's exception: a good token for somebody else is forbidden rather than unauthenticated. */
	uint16_t code = status == JWT_AUDIENCE ? 403 : 401;
	struct http_head *extra = code == 401 ? http_head_new() : NULL;
	struct http_string details = http_head_textf(x->head, "%s", status_details(status));

	if (extra)
		challenge_add(x, extra);
	refuse_count(x, DROP_JWT_INVALID, NULL);
	exchange_respond(x, code, 0, details.p ? details.p : "jwt_authn_access_denied", jwt_status_text(status), extra);
	http_head_free(extra);
	return STAGE_ANSWERED;
}

/* --- verifying */

static enum jwt_status token_verify(struct exchange *x, const struct jwt_candidate *c, int64_t now_s,
				    struct exchange_claims **out)
{
	const struct jwt_rule *rule = &x->filters->jwt[c->rule];
	struct jwt_token t;
	enum jwt_status status = jwt_token_parse(c->token.p, c->token.n, &t);

	if (status == JWT_OK && !str_eq(t.issuer, rule->issuer))
		status = JWT_UNKNOWN_ISSUER;
	if (status == JWT_OK)
		status = jwt_token_time(&t, now_s);
	if (status == JWT_OK && !jwt_token_audience(&t, rule->audiences, rule->audience_count))
		status = JWT_AUDIENCE;
	if (status == JWT_OK && !rule->jwks)
		status = JWT_NO_JWKS;
	if (status == JWT_OK) {
		const struct jwt_keys *keys = jwt_cache_keys(x->filters->id, c->rule, rule);
		status = keys ? jwt_keys_verify(keys, &t) : JWT_BAD_JWKS;
	}
	if (status == JWT_OK) {
		*out = jwt_claims_new(&t, rule);
		if (*out)
			jwt_cache_put(x->filters->id, c->rule, &t, *out);
		else
			status = JWT_NO_MEMORY;
	}
	jwt_token_done(&t);
	return status;
}

/* All tokens at the places of a rule; the first one's claims. */
static enum jwt_status rule_verify(struct exchange *x, const struct jwt_candidate *c, size_t count, int64_t now_s,
				   struct exchange_claims **out)
{
	enum jwt_status status = JWT_OK;

	for (size_t i = 0; i < count && status == JWT_OK; i++) {
		struct exchange_claims *claims =
			jwt_cache_get(x->filters->id, c[i].rule, c[i].token.p, c[i].token.n, now_s);
		if (!claims)
			status = token_verify(x, &c[i], now_s, &claims);
		if (status == JWT_OK && i == 0)
			*out = claims;
		else
			exchange_claims_free(claims);
	}
	if (status != JWT_OK) {
		exchange_claims_free(*out);
		*out = NULL;
	}
	return status;
}

/* --- what a good token does to the request */

static void outputs_remove(struct exchange *x)
{
	for (size_t i = 0; i < x->filters->jwt_count; i++) {
		const struct jwt_rule *rule = &x->filters->jwt[i];
		if (rule->output_payload_header)
			http_remove(x->head, rule->output_payload_header);
		for (size_t k = 0; k < rule->output_claim_count; k++)
			http_remove(x->head, rule->output_claims[k].header);
	}
}

static int outputs_add(struct exchange *x, const struct jwt_rule *rule, const struct exchange_claims *claims)
{
	int rc = 0;

	if (rule->output_payload_header)
		rc = http_add(x->head, rule->output_payload_header, jwt_claims_payload(claims));
	for (size_t k = 0; k < rule->output_claim_count && rc == 0; k++)
		if (jwt_claims_output(claims, k))
			rc = http_add(x->head, rule->output_claims[k].header, jwt_claims_output(claims, k));
	return rc;
}

static enum stage_result accept_claims(struct exchange *x, const struct jwt_candidate *c, size_t count,
				       struct exchange_claims *claims)
{
	const struct jwt_rule *rule = &x->filters->jwt[c->rule];
	int rc = 0;

	exchange_claims_free(x->claims);
	x->claims = claims;
	x->request_principal = jwt_claims_principal(claims);
	x->record.request_principal = x->request_principal;
	for (size_t i = 0; !rule->forward && i < count && rc == 0; i++)
		rc = jwt_candidate_remove(x, &c[i]);
	if (rc == 0)
		rc = outputs_add(x, rule, claims);
	return rc == 0 ? STAGE_CONTINUE : deny(x, JWT_NO_MEMORY);
}

/* Which of two refusals says more. */
static enum jwt_status worse(enum jwt_status a, enum jwt_status b)
{
	return a > JWT_UNKNOWN_ISSUER || b <= a ? a : b;
}

enum stage_result stage_jwt(struct exchange *x)
{
	const struct http_filters *f = x->filters;
	struct jwt_candidate candidates[JWT_CANDIDATES_MAX];
	size_t count = 0;
	enum jwt_status status = JWT_MISSING;

	if (x->side != SIDE_SERVER || !f || !f->jwt_count)
		return STAGE_CONTINUE;
	for (size_t i = 0; i < f->jwt_count; i++)
		if (jwt_candidates_find(x, i, candidates, &count) < 0)
			return deny(x, JWT_BAD_FORMAT);
	outputs_remove(x);

	int64_t now_s = count ? (int64_t)(clock_wall_ns() / 1000000000u) : 0;
	for (size_t i = 0, n; i < count; i += n) {
		struct exchange_claims *claims = NULL;
		for (n = 1; i + n < count && candidates[i + n].rule == candidates[i].rule;)
			n++;
		enum jwt_status one = rule_verify(x, &candidates[i], n, now_s, &claims);
		if (one == JWT_OK)
			return accept_claims(x, &candidates[i], n, claims);
		status = worse(status, one);
	}
	return status == JWT_MISSING ? STAGE_CONTINUE : deny(x, status);
}
