/* SPDX-License-Identifier: Apache-2.0 */
/* Ed25519 signatures, which libcjose has not. A key is for one thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TLS_ED25519_KEY_LEN = 32, TLS_ED25519_SIGNATURE_LEN = 64 };

struct tls_ed25519;

int tls_ed25519_new(const uint8_t key[TLS_ED25519_KEY_LEN], struct tls_ed25519 **out); /* 0, -EINVAL or -ENOMEM */
void tls_ed25519_free(struct tls_ed25519 *key);					       /* NULL is fine */
bool tls_ed25519_verify(const struct tls_ed25519 *key, const uint8_t signature[TLS_ED25519_SIGNATURE_LEN],
			const void *message, size_t len);
/* Forgets what OpenSSL noted of a failure on this thread: for those who use it through another library. */
void tls_errors_clear(void);
