/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/tls_ed25519.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdlib.h>

struct tls_ed25519 {
	EVP_PKEY *pkey;
};

int tls_ed25519_new(const uint8_t key[TLS_ED25519_KEY_LEN], struct tls_ed25519 **out)
{
	struct tls_ed25519 *k = calloc(1, sizeof(*k));
	if (!k)
		return -ENOMEM;
	k->pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, key, TLS_ED25519_KEY_LEN);
	if (!k->pkey) {
		ERR_clear_error();
		free(k);
		return -EINVAL;
	}
	*out = k;
	return 0;
}

void tls_ed25519_free(struct tls_ed25519 *key)
{
	if (!key)
		return;
	EVP_PKEY_free(key->pkey);
	free(key);
}

bool tls_ed25519_verify(const struct tls_ed25519 *key, const uint8_t signature[TLS_ED25519_SIGNATURE_LEN],
			const void *message, size_t len)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool good = ctx && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key->pkey) == 1 &&
		    EVP_DigestVerify(ctx, signature, TLS_ED25519_SIGNATURE_LEN, message, len) == 1;

	EVP_MD_CTX_free(ctx);
	if (!good)
		ERR_clear_error();
	return good;
}

void tls_errors_clear(void)
{
	ERR_clear_error();
}
