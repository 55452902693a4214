/* SPDX-License-Identifier: Apache-2.0 */
/* Private keys of workload identities. They are born here and never leave the process; only certificate requests do.
 * Any thread; a key is immutable. */
#pragma once

#include <stdbool.h>

struct err;
struct evp_pkey_st;
struct tls_key;

/* ECDSA P-256, or RSA-2048. 0 or -errno. */
int tls_key_new(bool rsa, struct tls_key **out, struct err *err);
void tls_key_free(struct tls_key *key); /* NULL is fine */
/* A PKCS#10 request in PEM with `uri` (SPIFFE) as its only subjectAltName and an empty subject. Caller frees *out. */
int tls_key_csr(const struct tls_key *key, const char *uri, char **out, struct err *err);
/* For tls*.c only: borrowed. */
struct evp_pkey_st *tls_key_pkey(const struct tls_key *key);
