/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/filter/jwt.h"

#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/helper/filter/jwt_token.h"
#include "agent/helper/http/message.h"
#include "agent/model/filters.h"

struct exchange_claims {
	unsigned int refs;
	json_t *claims; /* with lists where the token has words with blanks between */
	char *principal, *payload;
	char **outputs;
	size_t output_count;
};

void exchange_claims_free(struct exchange_claims *claims)
{
	if (!claims || --claims->refs)
		return;
	for (size_t i = 0; i < claims->output_count; i++)
		free(claims->outputs[i]);
	free(claims->outputs);
	free(claims->principal);
	free(claims->payload);
	json_decref(claims->claims);
	free(claims);
}

struct exchange_claims *jwt_claims_ref(struct exchange_claims *claims)
{
	claims->refs++;
	return claims;
}

const char *jwt_claims_principal(const struct exchange_claims *claims)
{
	return claims->principal;
}

const json_t *jwt_claims_json(const struct exchange_claims *claims)
{
	return claims->claims;
}

const char *jwt_claims_payload(const struct exchange_claims *claims)
{
	return claims->payload;
}

const char *jwt_claims_output(const struct exchange_claims *claims, size_t i)
{
	return claims->outputs[i];
}

/* --- headers of claims */

/* "realm.name" leads through objects; a claim whose own name has dots comes first. */
static const json_t *claim_find(const json_t *object, const char *name)
{
	const json_t *whole = json_object_get(object, name);
	if (whole)
		return whole;
	for (const char *dot = strchr(name, '.'); dot; dot = strchr(dot + 1, '.')) {
		char part[256];
		if ((size_t)(dot - name) >= sizeof(part))
			return NULL;
		memcpy(part, name, (size_t)(dot - name));
		part[dot - name] = '\0';
		const json_t *inner = json_object_get(object, part);
		if (json_is_object(inner))
			return claim_find(inner, dot + 1);
	}
	return NULL;
}

static char *base64(const char *text)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const uint8_t *p = (const uint8_t *)text;
	size_t n = strlen(text);
	char *out = malloc((n + 2) / 3 * 4 + 1), *at = out;

	for (; out && n; p += 3) {
		uint32_t bits = (uint32_t)p[0] << 16 | (n > 1 ? (uint32_t)p[1] << 8 : 0) | (n > 2 ? p[2] : 0);
		*at++ = digits[bits >> 18];
		*at++ = digits[bits >> 12 & 63];
		*at++ = n > 1 ? digits[bits >> 6 & 63] : '=';
		*at++ = n > 2 ? digits[bits & 63] : '=';
		n -= n < 3 ? n : 3;
		if (!n)
			break;
	}
	if (out)
		*at = '\0';
	return out;
}

/* As Envoy writes them; *out NULL: the claim is of no kind that a header can say, or would break the header. */
static int output_text(const json_t *claim, char **out)
{
	*out = NULL;
	if (!claim || json_is_null(claim))
		return 0;
	if (json_is_string(claim)) {
		if (!http_value_valid(json_string_value(claim), json_string_length(claim)))
			return 0;
		*out = strdup(json_string_value(claim));
	} else if (json_is_integer(claim)) {
		*out = str_format("%" JSON_INTEGER_FORMAT, json_integer_value(claim));
	} else if (json_is_real(claim)) {
		*out = str_format("%.17g", json_real_value(claim));
	} else if (json_is_boolean(claim)) {
		*out = strdup(json_is_true(claim) ? "true" : "false");
	} else {
		char *text = json_dumps(claim, JSON_COMPACT | JSON_SORT_KEYS);
		*out = text ? base64(text) : NULL;
		free(text);
	}
	return *out ? 0 : -1;
}

static int outputs_make(struct exchange_claims *c, const json_t *claims, const struct jwt_rule *rule)
{
	c->outputs = calloc(rule->output_claim_count + 1, sizeof(*c->outputs));
	if (!c->outputs)
		return -1;
	for (size_t i = 0; i < rule->output_claim_count; i++) {
		c->output_count++;
		if (output_text(claim_find(claims, rule->output_claims[i].claim), &c->outputs[i]) < 0)
			return -1;
	}
	return 0;
}

/* --- claims that are lists with blanks */

static int words_split(json_t *claims, const char *name)
{
	const char *text = json_string_value(json_object_get(claims, name));
	if (!text)
		return 0;
	json_t *list = json_array();
	while (list && *text) {
		size_t n = strcspn(text, " ");
		if (n && json_array_append_new(list, json_stringn(text, n)) < 0) {
			json_decref(list);
			return -1;
		}
		text += n + (text[n] == ' ');
	}
	return list ? json_object_set_new(claims, name, list) : -1;
}

static int lists_make(json_t *claims, const struct jwt_rule *rule)
{
	static const char *const always[] = { "scope", "permission" };

	for (size_t i = 0; i < ARRAY_SIZE(always); i++)
		if (words_split(claims, always[i]) < 0)
			return -1;
	for (size_t i = 0; i < rule->space_delimited_claim_count; i++)
		if (words_split(claims, rule->space_delimited_claims[i]) < 0)
			return -1;
	return 0;
}

struct exchange_claims *jwt_claims_new(struct jwt_token *t, const struct jwt_rule *rule)
{
	struct exchange_claims *c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->refs = 1;
	bool named = t->issuer && *t->issuer && t->subject && *t->subject;
	if (named)
		c->principal = str_format("%s/%s", t->issuer, t->subject);
	c->payload = strndup(t->payload, t->payload_len);
	if ((named && !c->principal) || !c->payload || outputs_make(c, t->claims, rule) < 0 ||
	    lists_make(t->claims, rule) < 0) {
		exchange_claims_free(c);
		return NULL;
	}
	c->claims = TAKE(t->claims);
	t->issuer = t->subject = NULL;
	return c;
}

bool jwt_claims_visit(const void *claims, char *const *path, size_t path_count, policy_claim_fn fn, void *arg)
{
	const json_t *at = ((const struct exchange_claims *)claims)->claims;

	for (size_t i = 0; i < path_count; i++)
		at = json_object_get(at, path[i]);
	if (json_is_string(at))
		return fn((struct http_view){ json_string_value(at), json_string_length(at) }, arg);
	for (size_t i = 0; i < json_array_size(at); i++) {
		const json_t *item = json_array_get(at, i);
		if (json_is_string(item) &&
		    fn((struct http_view){ json_string_value(item), json_string_length(item) }, arg))
			return true;
	}
	return false;
}
