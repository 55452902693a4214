/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens and key sets from strangers: parsed without fault, and a token is good only with a signature that the fuzzer can't
 * make. Input: a token, then perhaps a line feed and a key set. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/helper/filter/jwt.h"
#include "agent/helper/filter/jwt_keys.h"
#include "agent/helper/filter/jwt_token.h"
#include "agent/model/filters.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Whose private half nobody has any more. */
static const char jwks[] = "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\","
			   "\"x\":\"_UI5n1csSgTWKfj1SRSShpMkj9x1LWD-GKw7KHF0WKo\","
			   "\"y\":\"NfRS4nx_zTj34pIAU6uvd5vRJQ4vPe4d-T7sTkIEIM4\"}]}";

static bool on_value(struct http_view value, void *arg)
{
	*(size_t *)arg += value.n;
	return false;
}

static void claims_read(struct jwt_token *t)
{
	struct jwt_claim_header outputs[] = { { (char *)"x-a", (char *)"sub" }, { (char *)"x-b", (char *)"a.b.c" } };
	char *words[] = { (char *)"scp" }, *path[] = { (char *)"a", (char *)"b" };
	const struct jwt_rule rule = { .output_claims = outputs,
				       .output_claim_count = 2,
				       .space_delimited_claims = words,
				       .space_delimited_claim_count = 1 };
	char *audiences[] = { (char *)"web" };
	size_t sum = 0;

	jwt_token_audience(t, audiences, 1);
	jwt_token_time(t, 1700000000);
	struct exchange_claims *claims = jwt_claims_new(t, &rule);
	if (!claims)
		return;
	jwt_claims_visit(claims, path, 2, on_value, &sum);
	jwt_claims_visit(claims, path, 1, on_value, &sum);
	assert(strlen(jwt_claims_payload(claims)) == t->payload_len);
	exchange_claims_free(claims);
}

static void keys_read(const char *text, size_t len, const struct jwt_token *t)
{
	struct jwt_keys *keys = NULL;

	if (jwt_keys_parse(text, len, true, &keys, NULL) < 0)
		return;
	assert(jwt_keys_count(keys) <= JWT_KEYS_MAX);
	if (t)
		jwt_keys_verify(keys, t);
	jwt_keys_free(keys);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct jwt_keys *ours;
	AUTO(mem_freep) char *text = malloc(size + !size); /* exactly, so that ASan sees a read past it */
	struct jwt_token t;

	if (!text || (!ours && jwt_keys_parse(jwks, sizeof(jwks) - 1, false, &ours, NULL) < 0))
		return 0;
	if (size)
		memcpy(text, data, size);
	const char *line = size ? memchr(text, '\n', size) : NULL;
	size_t len = line ? (size_t)(line - text) : size;
	enum jwt_status status = jwt_token_parse(text, len, &t);
	if (status == JWT_OK) {
		assert(t.signed_len < len && t.payload >= text && t.payload + t.payload_len < text + len);
		assert(jwt_keys_verify(ours, &t) != JWT_OK);
	}
	if (line)
		keys_read(line + 1, size - len - 1, status == JWT_OK ? &t : NULL);
	if (status == JWT_OK)
		claims_read(&t);
	jwt_token_done(&t);
	return 0;
}
