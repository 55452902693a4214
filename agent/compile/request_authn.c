/* SPDX-License-Identifier: Apache-2.0 */
/* RequestAuthentications of a workload -> its jwt rules: those of the root namespace, then of its own, by name, all of
 * them together, as Istio merges them. */
#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/compile/filters.h"
#include "agent/compile/inventory.h"
#include "agent/config/kinds_http.h"

enum { FETCH_TIMEOUT_MS = 5000 };

struct copying {
	const struct resource *r;
	const struct jwt_rule_spec *spec;
	struct jwt_rule *to;
	bool failed;
};

static char *text(struct copying *x, const char *from)
{
	char *copy = from && *from ? strdup(from) : NULL;

	x->failed |= from && *from && !copy;
	return copy;
}

static char *lower(struct copying *x, const char *from)
{
	char *copy = text(x, from);

	for (char *p = copy; p && *p; p++)
		*p = (char)tolower((unsigned char)*p);
	return copy;
}

static void *room(struct copying *x, size_t n, size_t size)
{
	void *p = n ? calloc(n, size) : NULL;

	x->failed |= n && !p;
	return p;
}

static void texts(struct copying *x, const struct string_list *from, char ***to, size_t *count)
{
	*to = room(x, from->n, sizeof(**to));
	for (size_t i = 0; *to && i < from->n; i++)
		(*to)[(*count)++] = text(x, from->v[i]);
}

static void names(struct copying *x, const struct string_list *from, struct jwt_location **to, size_t *count)
{
	*to = room(x, from->n, sizeof(**to));
	for (size_t i = 0; *to && i < from->n; i++)
		(*to)[(*count)++].name = text(x, from->v[i]);
}

static void places_copy(struct copying *x)
{
	const struct jwt_rule_spec *s = x->spec;
	struct jwt_rule *to = x->to;

	to->headers = room(x, s->from_headers.n, sizeof(*to->headers));
	for (size_t i = 0; to->headers && i < s->from_headers.n; i++) {
		struct jwt_location *at = &to->headers[to->header_count++];
		at->name = lower(x, s->from_headers.v[i].name);
		at->prefix = text(x, s->from_headers.v[i].prefix);
	}
	names(x, &s->from_params, &to->params, &to->param_count);
	names(x, &s->from_cookies, &to->cookies, &to->cookie_count);
}

static void outputs_copy(struct copying *x)
{
	const struct jwt_rule_spec *s = x->spec;
	struct jwt_rule *to = x->to;

	to->forward = s->forward_original_token;
	to->output_payload_header = lower(x, s->output_payload_to_header);
	to->output_claims = room(x, s->output_claim_to_headers.n, sizeof(*to->output_claims));
	for (size_t i = 0; to->output_claims && i < s->output_claim_to_headers.n; i++) {
		struct jwt_claim_header *out = &to->output_claims[to->output_claim_count++];
		out->header = lower(x, s->output_claim_to_headers.v[i].header);
		out->claim = text(x, s->output_claim_to_headers.v[i].claim);
	}
	texts(x, &s->space_delimited_claims, &to->space_delimited_claims, &to->space_delimited_claim_count);
}

/* Where the keys are when the rule does not say: OpenID Connect Discovery 1.0, section 4. NULL: nowhere. */
static char *discovery_uri(struct copying *x)
{
	const char *issuer = x->spec->issuer;
	size_t n = strlen(issuer);

	if (!str_starts(issuer, "https://") && !str_starts(issuer, "http://"))
		return NULL;
	char *uri = str_format("%.*s/.well-known/openid-configuration", (int)(n - (issuer[n - 1] == '/')), issuer);
	x->failed |= !uri;
	return uri;
}

static void keys_copy(struct copying *x, const struct filters_of *of)
{
	struct jwt_rule *to = x->to;

	to->jwks_inline = x->spec->jwks && *x->spec->jwks;
	uint64_t timeout = x->spec->timeout.set ? x->spec->timeout.ms : FETCH_TIMEOUT_MS;
	to->jwks_timeout_ms = timeout > UINT32_MAX ? UINT32_MAX : (uint32_t)timeout;
	if (to->jwks_inline) {
		to->jwks = text(x, x->spec->jwks);
		return;
	}
	to->jwks_uri = x->spec->jwks_uri && *x->spec->jwks_uri ? text(x, x->spec->jwks_uri) : discovery_uri(x);
	to->jwks = to->jwks_uri ? text(x, jwks_get(of->c, to->jwks_uri)) : NULL;
	if (!to->jwks_uri)
		NOTE(of->notes, FINDING_ERROR, x->r,
		     "issuer %s: there is neither jwks nor jwksUri, and the issuer is no URL to find them at: its "
		     "tokens "
		     "are refused",
		     x->spec->issuer);
	else if (!to->jwks)
		NOTE(of->notes, FINDING_WARNING, x->r, "issuer %s: no keys from %s (yet): its tokens are refused",
		     x->spec->issuer, to->jwks_uri);
}

static int rule_add(const struct filters_of *of, const struct resource *r, const struct jwt_rule_spec *spec,
		    struct http_filters *f)
{
	struct jwt_rule *grown = reallocarray(f->jwt, f->jwt_count + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	f->jwt = grown;
	struct copying x = { .r = r, .spec = spec, .to = &f->jwt[f->jwt_count++] };
	*x.to = (struct jwt_rule){ 0 };

	x.to->issuer = text(&x, spec->issuer);
	x.to->origin = text(&x, r->origin);
	texts(&x, &spec->audiences, &x.to->audiences, &x.to->audience_count);
	keys_copy(&x, of);
	places_copy(&x);
	outputs_copy(&x);
	return x.failed ? -ENOMEM : 0;
}

static bool selects(const struct filters_of *of, const struct resource *r)
{
	const struct request_authentication_spec *spec = r->spec.request_authentication;

	if (spec->target_ref || spec->target_refs.n) {
		bool found = spec->target_ref &&
			     target_selects(of->c, r, spec->target_ref, of->ns, of->labels, of->label_count);
		for (size_t i = 0; i < spec->target_refs.n && !found; i++)
			found = target_selects(of->c, r, &spec->target_refs.v[i], of->ns, of->labels, of->label_count);
		return found;
	}
	return !spec->selector || !spec->selector->match_labels.n ||
	       labels_selected(&spec->selector->match_labels, of->labels, of->label_count);
}

int request_authn_add(const struct filters_of *of, struct http_filters *f)
{
	const char *root = of->c->mesh.root_namespace;
	const char *places[] = { root, of->ns };

	for (size_t k = str_eq(root, of->ns) ? 1 : 0; k < ARRAY_SIZE(places); k++) {
		struct resource_range range = inventory_range(of->c, KIND_REQUEST_AUTHENTICATION, places[k]);
		for (size_t i = 0; i < range.n; i++) {
			const struct request_authentication_spec *spec = range.v[i]->spec.request_authentication;
			if (!selects(of, range.v[i]))
				continue;
			for (size_t j = 0; j < spec->jwt_rules.n; j++)
				if (rule_add(of, range.v[i], &spec->jwt_rules.v[j], f) < 0)
					return -ENOMEM;
		}
	}
	return 0;
}

void request_authn_look(const struct resource *r, struct notes *notes)
{
	const struct request_authentication_spec *spec = r->spec.request_authentication;

	if (!spec->jwt_rules.n)
		NOTE(notes, FINDING_WARNING, r, "there are no jwtRules: it has no effect");
	for (size_t i = 0; i < spec->jwt_rules.n; i++) {
		const struct jwt_rule_spec *rule = &spec->jwt_rules.v[i];
		json_t *root = rule->jwks ? json_loads(rule->jwks, 0, NULL) : NULL;
		if (rule->jwks && !json_array_size(json_object_get(root, "keys")))
			NOTE(notes, FINDING_ERROR, r,
			     "issuer %s: jwks is not a JSON object with a list \"keys\", or it is empty: its tokens "
			     "are "
			     "refused",
			     rule->issuer);
		json_decref(root);
	}
}
