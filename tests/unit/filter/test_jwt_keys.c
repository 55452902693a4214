/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/helper/filter/jwt_keys.h"
#include "tests/unit/filter/tokens.h"

static const char *const algs[] = { "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
				    "ES384", "ES512", "HS256", "HS384", "HS512", "EdDSA" };
static const char payload[] = "{\"iss\":\"i\",\"sub\":\"s\"}";

static enum jwt_status verify(const char *jwks, bool symmetric, const char *token)
{
	struct jwt_keys *keys = NULL;
	struct jwt_token t;

	assert_int_equal(jwt_keys_parse(jwks, strlen(jwks), symmetric, &keys, NULL), 0);
	enum jwt_status status = jwt_token_parse(token, strlen(token), &t);
	if (status == JWT_OK)
		status = jwt_keys_verify(keys, &t);
	jwt_token_done(&t);
	jwt_keys_free(keys);
	return status;
}

#define SET(...) test_jwks((struct test_key *const[]){ __VA_ARGS__, NULL })

static void test_every_algorithm_verifies_its_own_and_no_other(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(algs); i++) {
		struct test_key *key = test_key(algs[i], NULL);
		char *token = strdup(test_token(key, payload));
		assert_int_equal(verify(SET(key), true, token), JWT_OK);
		for (size_t k = 0; k < ARRAY_SIZE(algs); k++)
			if (k != i)
				assert_int_equal(verify(SET(test_key(algs[k], NULL)), true, token), JWT_BAD_SIGNATURE);
		free(token);
	}
}

/* Each character of the token once: none may be changed without being noticed. */
static void test_every_changed_byte_is_refused(void **state)
{
	(void)state;
	static const char *const some[] = { "ES256", "HS256", "EdDSA", "RS256" };
	for (size_t i = 0; i < ARRAY_SIZE(some); i++) {
		struct test_key *key = test_key(some[i], NULL);
		char *token = strdup(test_token(key, payload)), *jwks = strdup(SET(key));
		for (size_t at = 0; token[at]; at++) {
			char was = token[at];
			token[at] = was == 'A' ? 'B' : 'A';
			if (verify(jwks, true, token) == JWT_OK)
				fail_msg("%s: byte %zu of %s", some[i], at, token);
			token[at] = was;
		}
		assert_int_equal(verify(jwks, true, token), JWT_OK);
		free(token);
		free(jwks);
	}
}

static void test_kid_and_alg_choose_the_key(void **state)
{
	(void)state;
	struct test_key *a = test_key("ES256", "a"), *b = test_key("ES256", "b"), *none = test_key("ES256", NULL);
	char *token = strdup(test_token(a, payload));

	assert_int_equal(verify(SET(b, a), false, token), JWT_OK);
	assert_int_equal(verify(SET(b), false, token), JWT_NO_KEY);
	assert_int_equal(verify(SET(none), false, token), JWT_BAD_SIGNATURE);
	assert_int_equal(verify(SET(b, none), false, test_token(none, payload)), JWT_OK); /* no kid: all are tried */
	free(token);

	char jwks[1024];
	snprintf(jwks, sizeof(jwks), "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"%s\",\"y\":\"%s\",%%s}]}",
		 test_public_member(none, "x"), test_public_member(none, "y"));
	const struct {
		const char *member;
		enum jwt_status want;
	} rows[] = {
		{ "\"alg\":\"ES256\"", JWT_OK },	{ "\"alg\":\"ES384\"", JWT_NO_KEY },
		{ "\"use\":\"sig\"", JWT_OK },		{ "\"use\":\"enc\"", JWT_BAD_JWKS },
		{ "\"key_ops\":[\"verify\"]", JWT_OK }, { "\"key_ops\":[\"sign\"]", JWT_BAD_JWKS },
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char with[1200];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(with, sizeof(with), jwks, rows[i].member);
#pragma GCC diagnostic pop
		assert_int_equal(verify(with, false, test_token(none, payload)), rows[i].want);
	}
}

/* The classic: the public key's text as an HMAC secret. Here a key set in which somebody put it as such, too. */
static void test_public_key_is_no_hmac_secret(void **state)
{
	(void)state;
	struct test_key *rsa = test_key("RS256", NULL), *mac = test_key("HS256", NULL);
	char *hs = strdup(test_token(mac, payload));

	assert_int_equal(verify(SET(rsa), true, hs), JWT_BAD_SIGNATURE);
	assert_int_equal(verify(SET(mac, rsa), false, hs), JWT_BAD_SIGNATURE); /* fetched sets have no symmetric keys */
	assert_int_equal(verify(SET(mac), false, hs), JWT_BAD_JWKS);
	free(hs);
}

static void test_keys_of_the_token_are_never_used(void **state)
{
	(void)state;
	struct test_key *ours = test_key("ES256", NULL), *theirs = test_key("ES256", "evil");
	char header[2048];

	snprintf(header, sizeof(header),
		 "{\"alg\":\"ES256\",\"jwk\":{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"%s\",\"y\":\"%s\"},"
		 "\"jku\":\"https://evil/jwks\",\"x5u\":\"https://evil/c\",\"x5c\":[\"AAAA\"]}",
		 test_public_member(theirs, "x"), test_public_member(theirs, "y"));
	assert_int_equal(verify(SET(ours), false, test_sign(theirs, header, payload)), JWT_BAD_SIGNATURE);
	assert_int_equal(verify(SET(ours), false, test_sign(ours, header, payload)), JWT_OK); /* ignored */
}

static void test_key_sets_that_are_odd(void **state)
{
	(void)state;
	static const struct {
		const char *json;
		int rc;
		size_t count;
	} rows[] = {
		{ "", -22, 0 },
		{ "[]", -22, 0 },
		{ "{\"keys\":{}}", -22, 0 },
		{ "{\"keys\":[]}", 0, 0 },
		{ "{\"keys\":[1,null,{}]}", 0, 0 },
		{ "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}]}", 0, 0 }, /* weak */
		{ "{\"keys\":[{\"kty\":\"RSA\"}]}", 0, 0 },
		{ "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AAAA\",\"y\":\"AAAA\"}]}", 0, 0 },
		{ "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"secp256k1\",\"x\":\"AAAA\",\"y\":\"AAAA\"}]}", 0, 0 },
		{ "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AAAA\"}]}", 0, 0 },
		{ "{\"keys\":[{\"kty\":\"oct\",\"k\":\"\"}]}", 0, 0 },
		{ "{\"keys\":[{\"kty\":\"oct\",\"k\":\"A\"}]}", 0, 0 }, /* libcjose would abort */
		{ "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQABA\",\"e\":\"A\"}]}", 0, 0 },
		{ "{\"keys\":[{\"kty\":\"oct\",\"k\":\"c2VjcmV0\"}]}", 0, 1 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct jwt_keys *keys = NULL;
		int rc = jwt_keys_parse(rows[i].json, strlen(rows[i].json), true, &keys, NULL);
		if (rc != rows[i].rc || (keys && jwt_keys_count(keys) != rows[i].count))
			fail_msg("%s: %d, %zu keys", rows[i].json, rc, keys ? jwt_keys_count(keys) : 0);
		jwt_keys_free(keys);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_algorithm_verifies_its_own_and_no_other),
		cmocka_unit_test(test_every_changed_byte_is_refused),
		cmocka_unit_test(test_kid_and_alg_choose_the_key),
		cmocka_unit_test(test_public_key_is_no_hmac_secret),
		cmocka_unit_test(test_keys_of_the_token_are_never_used),
		cmocka_unit_test(test_key_sets_that_are_odd),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
