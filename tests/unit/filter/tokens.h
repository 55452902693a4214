/* SPDX-License-Identifier: Apache-2.0 */
/* Keys and tokens made for a test. Texts are static, for a hundred calls. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct test_key;

/* "RS256" and the like: a key for that algorithm; made once and kept. kid NULL: none. */
struct test_key *test_key(const char *alg, const char *kid);
/* A key set of these, NULL-terminated; members are as a provider would publish them. */
const char *test_jwks(struct test_key *const *keys);
/* Signs with the key's algorithm; header and payload are JSON texts. */
const char *test_sign(const struct test_key *key, const char *header, const char *payload);
/* {"alg":..,"kid":..} of the key. */
const char *test_header(const struct test_key *key);
/* The usual: test_header() and the payload. */
const char *test_token(const struct test_key *key, const char *payload);
/* Any three parts, encoded; the last as it is. */
const char *test_forge(const char *header, const char *payload, const char *signature);
const char *test_public_member(const struct test_key *key, const char *member); /* "n" */
