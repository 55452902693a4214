/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/filter/tokens.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <cjose/cjose.h>
#include <jansson.h>
#include <openssl/evp.h>

struct test_key {
	char alg[8], kid[16];
	cjose_jwk_t *jwk;
	EVP_PKEY *ed25519;
};

static struct test_key keys[64];
static size_t key_count;

static char *room(void)
{
	static char texts[128][40000];
	static size_t next;
	return texts[next++ % 128];
}

static void base64url(const void *bytes, size_t n, char *out)
{
	char *text = NULL;
	size_t len = 0;
	out[0] = '\0';
	if (!n)
		return;
	assert_true(cjose_base64url_encode(bytes, n, &text, &len, NULL));
	memcpy(out, text, len);
	out[len] = '\0';
	free(text);
}

struct test_key *test_key(const char *alg, const char *kid)
{
	for (size_t i = 0; i < key_count; i++)
		if (!strcmp(keys[i].alg, alg) && !strcmp(keys[i].kid, kid ? kid : ""))
			return &keys[i];
	struct test_key *k = &keys[key_count++];
	static const uint8_t e[] = { 1, 0, 1 };
	cjose_err err;
	snprintf(k->alg, sizeof(k->alg), "%s", alg);
	snprintf(k->kid, sizeof(k->kid), "%s", kid ? kid : "");
	if (alg[0] == 'R' || alg[0] == 'P')
		k->jwk = cjose_jwk_create_RSA_random(2048, e, sizeof(e), &err);
	else if (alg[0] == 'H')
		k->jwk = cjose_jwk_create_oct_random(512, &err);
	else if (!strcmp(alg, "EdDSA"))
		assert_non_null(k->ed25519 = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"));
	else
		k->jwk = cjose_jwk_create_EC_random(alg[2] == '2' ? CJOSE_JWK_EC_P_256 :
						    alg[2] == '3' ? CJOSE_JWK_EC_P_384 :
								    CJOSE_JWK_EC_P_521,
						    &err);
	assert_true(k->jwk || k->ed25519);
	return k;
}

static json_t *key_json(const struct test_key *k)
{
	json_t *json;
	if (k->jwk) {
		char *text = cjose_jwk_to_json(k->jwk, k->alg[0] == 'H', NULL);
		json = json_loads(text, 0, NULL);
		free(text);
	} else {
		uint8_t raw[32];
		char x[64];
		size_t n = sizeof(raw);
		assert_int_equal(EVP_PKEY_get_raw_public_key(k->ed25519, raw, &n), 1);
		base64url(raw, n, x);
		json = json_pack("{s:s,s:s,s:s}", "kty", "OKP", "crv", "Ed25519", "x", x);
	}
	if (*k->kid)
		json_object_set_new(json, "kid", json_string(k->kid));
	return json;
}

const char *test_public_member(const struct test_key *key, const char *member)
{
	json_t *json = key_json(key);
	char *out = room();
	snprintf(out, 40000, "%s", json_string_value(json_object_get(json, member)));
	json_decref(json);
	return out;
}

const char *test_jwks(struct test_key *const *list)
{
	json_t *array = json_array();
	for (; *list; list++)
		json_array_append_new(array, key_json(*list));
	json_t *root = json_pack("{s:o}", "keys", array);
	char *text = json_dumps(root, 0), *out = room();
	snprintf(out, 40000, "%s", text);
	free(text);
	json_decref(root);
	return out;
}

const char *test_header(const struct test_key *key)
{
	char *out = room();
	snprintf(out, 40000, *key->kid ? "{\"alg\":\"%s\",\"kid\":\"%s\"}" : "{\"alg\":\"%s\"}", key->alg, key->kid);
	return out;
}

const char *test_forge(const char *header, const char *payload, const char *signature)
{
	char *out = room();
	base64url(header, strlen(header), out);
	strcat(out, ".");
	base64url(payload, strlen(payload), out + strlen(out));
	strcat(out, ".");
	strcat(out, signature);
	return out;
}

static void ed25519_sign(const struct test_key *key, char *token)
{
	uint8_t sig[64];
	size_t n = sizeof(sig);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	assert_int_equal(EVP_DigestSignInit(ctx, NULL, NULL, NULL, key->ed25519), 1);
	assert_int_equal(EVP_DigestSign(ctx, sig, &n, (uint8_t *)token, strlen(token) - 1), 1);
	EVP_MD_CTX_free(ctx);
	base64url(sig, n, token + strlen(token));
}

const char *test_sign(const struct test_key *key, const char *header, const char *payload)
{
	if (key->ed25519) {
		char *out = (char *)(uintptr_t)test_forge(header, payload, "");
		ed25519_sign(key, out);
		return out;
	}
	json_t *json = json_loads(header, 0, NULL);
	const char *text = NULL;
	cjose_err err;
	cjose_jws_t *jws =
		cjose_jws_sign(key->jwk, (cjose_header_t *)json, (const uint8_t *)payload, strlen(payload), &err);
	assert_non_null(jws);
	assert_true(cjose_jws_export(jws, &text, &err));
	char *out = room();
	snprintf(out, 40000, "%s", text);
	cjose_jws_release(jws);
	json_decref(json);
	return out;
}

const char *test_token(const struct test_key *key, const char *payload)
{
	return test_sign(key, test_header(key), payload);
}
