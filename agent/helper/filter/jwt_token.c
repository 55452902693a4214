/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/filter/jwt_token.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static const char *const status_texts[] = {
#define JWT_STATUS_TEXT(symbol, text) text,
	JWT_STATUSES(JWT_STATUS_TEXT)
#undef JWT_STATUS_TEXT
};

static const char *const alg_names[] = {
	[JWT_RS256] = "RS256", [JWT_RS384] = "RS384", [JWT_RS512] = "RS512", [JWT_PS256] = "PS256",
	[JWT_PS384] = "PS384", [JWT_PS512] = "PS512", [JWT_ES256] = "ES256", [JWT_ES384] = "ES384",
	[JWT_ES512] = "ES512", [JWT_HS256] = "HS256", [JWT_HS384] = "HS384", [JWT_HS512] = "HS512",
	[JWT_EDDSA] = "EdDSA",
};

const char *jwt_status_text(enum jwt_status status)
{
	return status_texts[status];
}

const char *jwt_alg_name(enum jwt_alg alg)
{
	return alg_names[alg];
}

static void json_seed(void)
{
	size_t seed = 0;

	if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed) || !seed)
		seed = (uintptr_t)&seed; /* at least where the stack happens to be */
	json_object_seed(seed);
}

void jwt_json_init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, json_seed);
}

/* --- base64url, RFC 4648 section 5: no padding, no other characters, no bits left over */

static int digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '-' ? 62 : c == '_' ? 63 : -1;
}

int64_t jwt_base64url(const char *text, size_t n, uint8_t *out)
{
	uint32_t bits = 0;
	unsigned int have = 0;
	int64_t len = 0;

	if (n % 4 == 1)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		int d = digit(text[i]);
		if (d < 0)
			return -EINVAL;
		bits = bits << 6 | (uint32_t)d;
		have += 6;
		if (have >= 8) {
			have -= 8;
			out[len++] = (uint8_t)(bits >> have);
		}
	}
	return bits & ((1u << have) - 1) ? -EINVAL : len;
}

/* NULL: not base64url (*bad_base64), or not a JSON object. */
static json_t *part_parse(const char *text, size_t n, bool *bad_base64)
{
	uint8_t *bytes = malloc(n + 1);
	if (!bytes)
		return NULL;
	int64_t len = jwt_base64url(text, n, bytes);
	*bad_base64 = len < 0;
	/* No duplicate names: two readers of one token must not see two contents. */
	json_t *json = len < 0 ? NULL : json_loadb((char *)bytes, (size_t)len, JSON_REJECT_DUPLICATES, NULL);
	free(bytes);
	if (json && !json_is_object(json)) {
		json_decref(json);
		return NULL;
	}
	return json;
}

/* --- fields */

/* false: it is there and no string. */
static bool text_get(const json_t *object, const char *name, const char **out)
{
	const json_t *value = json_object_get(object, name);

	*out = value ? json_string_value(value) : NULL;
	return !value || *out;
}

/* NumericDate may have a fraction (RFC 7519 section 2). false: it is there and no number. */
static bool time_get(const json_t *object, const char *name, bool *has, int64_t *out)
{
	const json_t *value = json_object_get(object, name);

	*has = value != NULL;
	if (!value)
		return true;
	if (json_is_integer(value)) {
		*out = json_integer_value(value);
		return true;
	}
	if (!json_is_real(value))
		return false;
	double real = json_real_value(value);
	*out = real >= 9e18 ? INT64_MAX : real <= -9e18 ? INT64_MIN : (int64_t)real;
	return true;
}

static enum jwt_status header_read(struct jwt_token *t)
{
	const char *alg;

	if (!text_get(t->header, "alg", &alg) || !alg)
		return JWT_HEADER_ALG;
	for (t->alg = 0; t->alg < JWT_ALG_COUNT && strcmp(alg, alg_names[t->alg]) != 0; t->alg++)
		;
	if (t->alg == JWT_ALG_COUNT)
		return JWT_HEADER_ALG_UNKNOWN;
	if (!text_get(t->header, "kid", &t->kid))
		return JWT_HEADER_KID;
	/* Extensions that must be understood (RFC 7515 section 4.1.11): none are. */
	return json_object_get(t->header, "crit") ? JWT_HEADER_CRIT : JWT_OK;
}

static bool audience_valid(const json_t *aud)
{
	if (!aud || json_is_string(aud))
		return true;
	if (!json_is_array(aud))
		return false;
	for (size_t i = 0; i < json_array_size(aud); i++)
		if (!json_is_string(json_array_get(aud, i)))
			return false;
	return true;
}

static enum jwt_status claims_read(struct jwt_token *t)
{
	if (!text_get(t->claims, "iss", &t->issuer))
		return JWT_PAYLOAD_ISS;
	if (!text_get(t->claims, "sub", &t->subject))
		return JWT_PAYLOAD_SUB;
	if (!time_get(t->claims, "iat", &t->has_iat, &t->iat))
		return JWT_PAYLOAD_IAT;
	if (!time_get(t->claims, "nbf", &t->has_nbf, &t->nbf))
		return JWT_PAYLOAD_NBF;
	if (!time_get(t->claims, "exp", &t->has_exp, &t->exp))
		return JWT_PAYLOAD_EXP;
	return audience_valid(json_object_get(t->claims, "aud")) ? JWT_OK : JWT_PAYLOAD_AUD;
}

enum jwt_status jwt_token_parse(const char *text, size_t len, struct jwt_token *out)
{
	*out = (struct jwt_token){ .text = text, .len = len };
	const char *end = text + len;
	const char *dot = len <= JWT_TOKEN_MAX ? memchr(text, '.', len) : NULL;
	const char *second = dot ? memchr(dot + 1, '.', (size_t)(end - dot - 1)) : NULL;
	bool bad = false;

	if (!second || memchr(second + 1, '.', (size_t)(end - second - 1)))
		return JWT_BAD_FORMAT;
	jwt_json_init();
	out->signed_len = (size_t)(second - text);
	out->payload = dot + 1;
	out->payload_len = (size_t)(second - dot - 1);

	out->header = part_parse(text, (size_t)(dot - text), &bad);
	if (!out->header)
		return bad ? JWT_HEADER_BASE64 : JWT_HEADER_JSON;
	enum jwt_status status = header_read(out);
	if (status != JWT_OK)
		return status;
	out->claims = part_parse(out->payload, out->payload_len, &bad);
	if (!out->claims)
		return bad ? JWT_PAYLOAD_BASE64 : JWT_PAYLOAD_JSON;
	status = claims_read(out);
	if (status != JWT_OK)
		return status;

	size_t n = (size_t)(end - second - 1);
	out->signature = malloc(n + 1);
	if (!out->signature)
		return JWT_NO_MEMORY;
	int64_t signature_len = jwt_base64url(second + 1, n, out->signature);
	if (signature_len <= 0)
		return JWT_SIGNATURE_BASE64;
	out->signature_len = (size_t)signature_len;
	return JWT_OK;
}

void jwt_token_done(struct jwt_token *t)
{
	json_decref(t->header);
	json_decref(t->claims);
	free(t->signature);
	*t = (struct jwt_token){ 0 };
}

enum jwt_status jwt_token_time(const struct jwt_token *t, int64_t now_s)
{
	int64_t early = now_s + JWT_SKEW_S, late = now_s - JWT_SKEW_S;

	if ((t->has_nbf && t->nbf > early) || (t->has_iat && t->iat > early))
		return JWT_NOT_YET_VALID;
	return t->has_exp && t->exp < late ? JWT_EXPIRED : JWT_OK;
}

/* Istio ignores the scheme and a final slash of audiences, as Envoy's checker does. */
static bool audience_eq(const char *a, const char *b)
{
	const char *const schemes[] = { "https://", "http://" };
	const char *texts[] = { a, b };
	size_t lens[2];

	for (size_t i = 0; i < 2; i++) {
		for (size_t k = 0; k < 2; k++)
			if (strncmp(texts[i], schemes[k], strlen(schemes[k])) == 0) {
				texts[i] += strlen(schemes[k]);
				break;
			}
		lens[i] = strlen(texts[i]);
		if (lens[i] && texts[i][lens[i] - 1] == '/')
			lens[i]--;
	}
	return lens[0] == lens[1] && memcmp(texts[0], texts[1], lens[0]) == 0;
}

static bool audience_listed(const char *aud, char *const *audiences, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (audience_eq(aud, audiences[i]))
			return true;
	return false;
}

bool jwt_token_audience(const struct jwt_token *t, char *const *audiences, size_t count)
{
	const json_t *aud = json_object_get(t->claims, "aud");

	if (!count)
		return true;
	if (json_is_string(aud))
		return audience_listed(json_string_value(aud), audiences, count);
	for (size_t i = 0; i < json_array_size(aud); i++)
		if (audience_listed(json_string_value(json_array_get(aud, i)), audiences, count))
			return true;
	return false;
}
