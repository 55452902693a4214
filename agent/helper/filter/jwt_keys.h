/* SPDX-License-Identifier: Apache-2.0 */
/* A JSON Web Key Set as configured, and whether one of its keys signed a token. Keys never come from a token. One thread. */
#pragma once

#include "agent/helper/filter/jwt_token.h"

#include <stdbool.h>
#include <stddef.h>

struct err;
struct jwt_keys;

enum { JWT_KEYS_MAX = 256, JWT_RSA_BITS_MIN = 2048, JWT_RSA_BITS_MAX = 8192 };

/* Keys that are of no use (unknown types, weak, for encryption) are left out; symmetric ones unless allowed. 0, -EINVAL
 * when it is no key set, -ENOMEM. */
int jwt_keys_parse(const char *json, size_t len, bool symmetric, struct jwt_keys **out, struct err *err);
void jwt_keys_free(struct jwt_keys *keys);
size_t jwt_keys_count(const struct jwt_keys *keys);
/* JWT_OK, JWT_NO_KEY, JWT_BAD_SIGNATURE or JWT_BAD_JWKS. */
enum jwt_status jwt_keys_verify(const struct jwt_keys *keys, const struct jwt_token *t);
