/* SPDX-License-Identifier: Apache-2.0 */
/* Verified tokens: what a request's token says, for authorisation, routing by claims and headers. Shared by the requests
 * that bring the same token; one thread. */
#pragma once

#include "agent/model/policy_http.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct exchange_claims;
struct json_t;
struct jwt_rule;
struct jwt_token;

/* Takes t->claims. NULL: no memory. The rule must outlive it, or be of filters with the same content hash. */
struct exchange_claims *jwt_claims_new(struct jwt_token *t, const struct jwt_rule *rule);
struct exchange_claims *jwt_claims_ref(struct exchange_claims *claims);
void exchange_claims_free(struct exchange_claims *claims);		/* a reference; NULL is fine */
const char *jwt_claims_principal(const struct exchange_claims *claims); /* "issuer/subject"; NULL: one is missing */
/* policy_http_input.claim: the text at path, or each text of a list. */
bool jwt_claims_visit(const void *claims, char *const *path, size_t path_count, policy_claim_fn fn, void *arg);
const struct json_t *jwt_claims_json(const struct exchange_claims *claims); /* an object, as policies see it */
/* The payload as in the token (base64url), and the headers of the rule's outputClaimToHeaders, in its order; a value is
 * NULL when the token has no such claim. */
const char *jwt_claims_payload(const struct exchange_claims *claims);
const char *jwt_claims_output(const struct exchange_claims *claims, size_t i);

/* --- what a worker's thread remembers of verified tokens (jwt_cache.c) */

enum { JWT_CACHE_SLOTS = 1024, JWT_CACHE_BYTES = 1 << 20, JWT_CACHE_KEYS = 128 };

/* The claims of this very token, verified by the rule `index` of filters `id` before and valid now: a new reference, or
 * NULL. */
struct exchange_claims *jwt_cache_get(uint64_t id, size_t index, const char *token, size_t len, int64_t now_s);
void jwt_cache_put(uint64_t id, size_t index, const struct jwt_token *t, struct exchange_claims *claims);
struct jwt_keys;
/* The keys of the rule, parsed once. NULL: no memory, or they are not a key set. */
const struct jwt_keys *jwt_cache_keys(uint64_t id, size_t index, const struct jwt_rule *rule);
