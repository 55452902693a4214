/* SPDX-License-Identifier: Apache-2.0 */
/* A JSON Web Token taken apart: strict base64url, strict JSON, bounded. Nothing in it is to be believed before
 * jwt_keys_verify(). Pure. RFC 7515, 7519. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { JWT_TOKEN_MAX = 16 << 10, JWT_SKEW_S = 60 };

/* Envoy's sentences, which clients and alerts know. X(SYMBOL, "text") */
#define JWT_STATUSES(X)                                                                                                \
	X(OK, "OK")                                                                                                    \
	X(MISSING, "Jwt is missing")                                                                                   \
	X(UNKNOWN_ISSUER, "Jwt issuer is not configured")                                                              \
	X(BAD_FORMAT, "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections")               \
	X(HEADER_BASE64, "Jwt header is an invalid Base64url encoded")                                                 \
	X(HEADER_JSON, "Jwt header is an invalid JSON")                                                                \
	X(HEADER_ALG, "Jwt header [alg] field is required and must be a string")                                       \
	X(HEADER_ALG_UNKNOWN, "Jwt header [alg] is not supported")                                                     \
	X(HEADER_KID, "Jwt header [kid] field is not a string")                                                        \
	X(HEADER_CRIT, "Jwt header [crit] field is not supported")                                                     \
	X(PAYLOAD_BASE64, "Jwt payload is an invalid Base64url encoded")                                               \
	X(PAYLOAD_JSON, "Jwt payload is an invalid JSON")                                                              \
	X(PAYLOAD_ISS, "Jwt payload [iss] field is not a string")                                                      \
	X(PAYLOAD_SUB, "Jwt payload [sub] field is not a string")                                                      \
	X(PAYLOAD_AUD, "Jwt payload [aud] field is not a string or string list")                                       \
	X(PAYLOAD_IAT, "Jwt payload [iat] field is not an integer")                                                    \
	X(PAYLOAD_NBF, "Jwt payload [nbf] field is not an integer")                                                    \
	X(PAYLOAD_EXP, "Jwt payload [exp] field is not an integer")                                                    \
	X(SIGNATURE_BASE64, "Jwt signature is an invalid Base64url encoded")                                           \
	X(NOT_YET_VALID, "Jwt not yet valid")                                                                          \
	X(EXPIRED, "Jwt is expired")                                                                                   \
	X(AUDIENCE, "Audiences in Jwt are not allowed")                                                                \
	X(NO_KEY, "Jwks doesn't have key to match kid or alg from Jwt")                                                \
	X(BAD_SIGNATURE, "Jwt verification fails")                                                                     \
	X(NO_JWKS, "Jwks remote fetch is failed")                                                                      \
	X(BAD_JWKS, "Jwks doesn't have any valid public key")                                                          \
	X(NO_MEMORY, "Out of memory")

enum jwt_status {
#define JWT_STATUS_ID(symbol, text) JWT_##symbol,
	JWT_STATUSES(JWT_STATUS_ID)
#undef JWT_STATUS_ID
		JWT_STATUS_COUNT
};

enum jwt_alg {
	JWT_RS256,
	JWT_RS384,
	JWT_RS512,
	JWT_PS256,
	JWT_PS384,
	JWT_PS512,
	JWT_ES256,
	JWT_ES384,
	JWT_ES512,
	JWT_HS256,
	JWT_HS384,
	JWT_HS512,
	JWT_EDDSA,
	JWT_ALG_COUNT
};

struct jwt_token {
	const char *text; /* borrowed: whole, len bytes */
	size_t len;
	size_t signed_len;   /* "header.payload" */
	const char *payload; /* of text, still encoded */
	size_t payload_len;
	uint8_t *signature;
	size_t signature_len;
	json_t *header, *claims; /* objects */
	enum jwt_alg alg;
	const char *kid, *issuer, *subject; /* into header and claims; NULL: absent */
	bool has_exp, has_nbf, has_iat;
	int64_t exp, nbf, iat; /* seconds; beyond the range of integers: clamped to what is stricter */
};

const char *jwt_status_text(enum jwt_status status);
const char *jwt_alg_name(enum jwt_alg alg);
/* JWT_OK, or why not. jwt_token_done() in both cases. */
enum jwt_status jwt_token_parse(const char *text, size_t len, struct jwt_token *out);
void jwt_token_done(struct jwt_token *t);
/* Whether it is valid at this time. */
enum jwt_status jwt_token_time(const struct jwt_token *t, int64_t now_s);
/* Some audience of the token is among these; none given: any token. */
bool jwt_token_audience(const struct jwt_token *t, char *const *audiences, size_t count);
/* Decodes n characters without padding into out (room for 3 * n / 4 bytes); the length, or -EINVAL. */
int64_t jwt_base64url(const char *text, size_t n, uint8_t *out);
/* jansson seeds its tables from a file that the sandbox does not have, so this is called before any use of it. */
void jwt_json_init(void);
