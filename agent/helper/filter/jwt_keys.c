/* SPDX-License-Identifier: Apache-2.0 */
/* What a key is for is decided by the key and never by the token: its type, its curve and, when it says one, its alg. So a
 * public key is no HMAC secret whatever the token's header claims. libcjose verifies; Ed25519 is OpenSSL's. */
#include "agent/helper/filter/jwt_keys.h"

#include <cjose/cjose.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/helper/tls_ed25519.h"

enum key_type { KEY_RSA, KEY_P256, KEY_P384, KEY_P521, KEY_OCT, KEY_ED25519 };

struct jwt_key {
	enum key_type type;
	char *kid, *alg; /* NULL: not said */
	cjose_jwk_t *jwk;
	struct tls_ed25519 *ed25519;
};

struct jwt_keys {
	struct jwt_key *v;
	size_t n;
};

enum { TRIES_MAX = 16 }; /* keys that are tried for one token */

static const struct {
	enum key_type type;
	size_t signature_len; /* 0: the key's */
} algs[] = {
	[JWT_RS256] = { KEY_RSA, 0 },
	[JWT_RS384] = { KEY_RSA, 0 },
	[JWT_RS512] = { KEY_RSA, 0 },
	[JWT_PS256] = { KEY_RSA, 0 },
	[JWT_PS384] = { KEY_RSA, 0 },
	[JWT_PS512] = { KEY_RSA, 0 },
	[JWT_ES256] = { KEY_P256, 64 },
	[JWT_ES384] = { KEY_P384, 96 },
	[JWT_ES512] = { KEY_P521, 132 },
	[JWT_HS256] = { KEY_OCT, 32 },
	[JWT_HS384] = { KEY_OCT, 48 },
	[JWT_HS512] = { KEY_OCT, 64 },
	[JWT_EDDSA] = { KEY_ED25519, TLS_ED25519_SIGNATURE_LEN },
};

static void key_done(struct jwt_key *k)
{
	free(k->kid);
	free(k->alg);
	if (k->jwk)
		cjose_jwk_release(k->jwk);
	tls_ed25519_free(k->ed25519);
}

void jwt_keys_free(struct jwt_keys *keys)
{
	if (!keys)
		return;
	for (size_t i = 0; i < keys->n; i++)
		key_done(&keys->v[i]);
	free(keys->v);
	free(keys);
}

size_t jwt_keys_count(const struct jwt_keys *keys)
{
	return keys->n;
}

/* --- one key */

static bool type_of(const json_t *jwk, enum key_type *out)
{
	static const struct {
		const char *kty, *crv;
		enum key_type type;
	} types[] = {
		{ "RSA", NULL, KEY_RSA },    { "EC", "P-256", KEY_P256 }, { "EC", "P-384", KEY_P384 },
		{ "EC", "P-521", KEY_P521 }, { "oct", NULL, KEY_OCT },	  { "OKP", "Ed25519", KEY_ED25519 },
	};
	const char *kty = json_string_value(json_object_get(jwk, "kty"));
	const char *crv = json_string_value(json_object_get(jwk, "crv"));

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (str_eq(kty, types[i].kty) && (!types[i].crv || str_eq(crv, types[i].crv))) {
			*out = types[i].type;
			return true;
		}
	return false;
}

/* "use" and "key_ops" may say that the key is for something else. */
static bool is_for_signatures(const json_t *jwk)
{
	const char *use = json_string_value(json_object_get(jwk, "use"));
	const json_t *ops = json_object_get(jwk, "key_ops");

	if (use && strcmp(use, "sig") != 0)
		return false;
	if (!json_is_array(ops))
		return true;
	for (size_t i = 0; i < json_array_size(ops); i++)
		if (str_eq(json_string_value(json_array_get(ops, i)), "verify"))
			return true;
	return false;
}

/* libcjose asserts that numbers are well encoded, which would end the process. */
static bool number_valid(const json_t *value)
{
	size_t n = json_string_length(value);
	uint8_t *bytes = malloc(n + 1);
	bool valid = bytes && jwt_base64url(json_string_value(value), n, bytes) > 0;

	free(bytes);
	return valid;
}

/* Only the members that make the public key: no certificates, no private parts. */
static json_t *key_bare(const json_t *jwk)
{
	static const char *const names[] = { "kty", "crv" }, *const numbers[] = { "x", "y", "n", "e", "k" };
	json_t *bare = json_object();

	for (size_t i = 0; bare && i < ARRAY_SIZE(names); i++)
		if (json_object_get(jwk, names[i]))
			json_object_set(bare, names[i], json_object_get(jwk, names[i]));
	for (size_t i = 0; bare && i < ARRAY_SIZE(numbers); i++) {
		json_t *value = json_object_get(jwk, numbers[i]);
		if (json_is_string(value) && number_valid(value))
			json_object_set(bare, numbers[i], value);
	}
	return bare;
}

static int cjose_import(struct jwt_key *k, const json_t *jwk)
{
	json_t *bare = key_bare(jwk);
	cjose_err error = { 0 };

	if (!bare)
		return -ENOMEM;
	k->jwk = cjose_jwk_import_json((cjose_header_t *)bare, &error);
	json_decref(bare);
	if (!k->jwk)
		tls_errors_clear();
	if (!k->jwk)
		return error.code == CJOSE_ERR_NO_MEMORY ? -ENOMEM : -EINVAL;
	size_t bits = cjose_jwk_get_keysize(k->jwk, &error);
	if (k->type == KEY_RSA && (bits < JWT_RSA_BITS_MIN || bits > JWT_RSA_BITS_MAX))
		return -EINVAL;
	return k->type == KEY_OCT && !bits ? -EINVAL : 0;
}

static int ed25519_import(struct jwt_key *k, const json_t *jwk)
{
	uint8_t bytes[TLS_ED25519_KEY_LEN + 2];
	const char *x = json_string_value(json_object_get(jwk, "x"));

	if (!x || strlen(x) != 43 || jwt_base64url(x, 43, bytes) != TLS_ED25519_KEY_LEN)
		return -EINVAL;
	return tls_ed25519_new(bytes, &k->ed25519);
}

static int key_copy_text(const json_t *jwk, const char *name, char **out)
{
	const char *text = json_string_value(json_object_get(jwk, name));

	if (!text)
		return 0;
	*out = strdup(text);
	return *out ? 0 : -ENOMEM;
}

/* 0 also for a key that is left out. */
static int key_add(struct jwt_keys *keys, const json_t *jwk, bool symmetric)
{
	struct jwt_key k = { 0 };

	if (!json_is_object(jwk) || !type_of(jwk, &k.type) || !is_for_signatures(jwk) ||
	    (k.type == KEY_OCT && !symmetric))
		return 0;
	int rc = k.type == KEY_ED25519 ? ed25519_import(&k, jwk) : cjose_import(&k, jwk);
	if (rc == 0)
		rc = key_copy_text(jwk, "kid", &k.kid);
	if (rc == 0)
		rc = key_copy_text(jwk, "alg", &k.alg);
	if (rc < 0) {
		key_done(&k);
		return rc == -EINVAL ? 0 : rc;
	}
	keys->v[keys->n++] = k;
	return 0;
}

int jwt_keys_parse(const char *json, size_t len, bool symmetric, struct jwt_keys **out, struct err *err)
{
	jwt_json_init();
	json_t *root = json_loadb(json, len, 0, NULL);
	const json_t *list = json_object_get(root, "keys");
	size_t count = json_array_size(list) < JWT_KEYS_MAX ? json_array_size(list) : JWT_KEYS_MAX;
	struct jwt_keys *keys = calloc(1, sizeof(*keys));
	int rc = keys && (keys->v = calloc(count + 1, sizeof(*keys->v))) ? 0 : -ENOMEM;

	if (rc == 0 && !json_is_array(list))
		rc = err_set(err, -EINVAL, "jwks: not a JSON object with a list \"keys\"");
	for (size_t i = 0; rc == 0 && i < count; i++)
		rc = key_add(keys, json_array_get(list, i), symmetric);
	json_decref(root);
	if (rc < 0) {
		jwt_keys_free(keys);
		return rc;
	}
	*out = keys;
	return 0;
}

/* --- verifying */

static bool signature_good(const struct jwt_key *k, const struct jwt_token *t)
{
	size_t want = algs[t->alg].signature_len;

	if (k->type != algs[t->alg].type || (want && t->signature_len != want))
		return false;
	if (k->type == KEY_ED25519)
		return tls_ed25519_verify(k->ed25519, t->signature, t->text, t->signed_len);

	cjose_err error = { 0 };
	/* RSA_public_decrypt() reads as many bytes as it is told: the length is the modulus's. */
	if (k->type == KEY_RSA && t->signature_len != (cjose_jwk_get_keysize(k->jwk, &error) + 7) / 8)
		return false;
	cjose_jws_t *jws = cjose_jws_import(t->text, t->len, &error);
	bool good = jws && cjose_jws_verify(jws, k->jwk, &error);
	cjose_jws_release(jws);
	if (!good)
		tls_errors_clear();
	return good;
}

enum jwt_status jwt_keys_verify(const struct jwt_keys *keys, const struct jwt_token *t)
{
	size_t tries = 0;

	if (!keys->n)
		return JWT_BAD_JWKS;
	for (size_t i = 0; i < keys->n && tries < TRIES_MAX; i++) {
		const struct jwt_key *k = &keys->v[i];

		if (t->kid && *t->kid && k->kid && strcmp(t->kid, k->kid) != 0)
			continue;
		if (k->alg && strcmp(k->alg, jwt_alg_name(t->alg)) != 0)
			continue;
		tries++;
		if (signature_good(k, t))
			return JWT_OK;
	}
	return tries ? JWT_BAD_SIGNATURE : JWT_NO_KEY;
}
