/* SPDX-License-Identifier: Apache-2.0 */
/* Keys, CSRs, intermediates and directories for the CA's tests. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <openssl/evp.h>
#include <openssl/x509v3.h>

#define NOW_S 1800000000u
#define FRONTEND "spiffe://cluster.local/ns/shop/sa/frontend"

EVP_PKEY *fixture_key(void); /* ECDSA P-256 */
/* A CSR with subjectAltName and basicConstraints in OpenSSL's notation; NULL: without. Caller frees. */
char *fixture_csr(EVP_PKEY *key, const char *san, const char *basic_constraints);
/* An intermediate (or, with issuer NULL, a root). constraints e.g. "critical,CA:TRUE". */
X509 *fixture_ca_cert(EVP_PKEY *key, const char *cn, X509 *issuer, EVP_PKEY *issuer_key, const char *constraints,
		      uint64_t from_s, uint64_t to_s);
char *fixture_dir(void); /* new and empty; caller frees */
void fixture_dir_remove(char *dir);
void fixture_put(const char *dir, const char *name, const char *text);
void fixture_put_cert(const char *dir, const char *name, X509 *cert);
void fixture_put_key(const char *dir, const char *name, EVP_PKEY *key);
char *fixture_get(const char *dir, const char *name); /* caller frees; NULL: not there */
/* First certificate of the chain, verified by OpenSSL at now_s against roots_pem as purpose "sslclient" and
 * "sslserver"; NULL when it does not verify. */
X509 *fixture_verify(const char *chain_pem, const char *roots_pem, uint64_t now_s);
