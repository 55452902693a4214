/* SPDX-License-Identifier: Apache-2.0 */
/* Making certificates: a root of our own, and leaves from CSRs, which are untrusted input. Internal to agent/ca. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct authority;
struct err;
struct x509_st;
struct evp_pkey_st;

enum { SIGN_ROOT_DAYS = 3650, SIGN_BACKDATE_S = 60, SIGN_CSR_MAX = 16 * 1024, SIGN_SERIAL_BYTES = 16 };

/* Self-signed, ten years, ECDSA P-256 or RSA-2048. The caller owns both. */
int sign_root_new(const char *trust_domain, bool rsa, uint64_t now_s, struct evp_pkey_st **key, struct x509_st **cert,
		  struct err *err);
/* Verifies the CSR and signs a leaf for `identity` until now_s + ttl_s, or the end of the signer's chain. */
int sign_leaf(const struct authority *a, const char *identity, const char *csr_pem, uint64_t now_s, uint32_t ttl_s,
	      struct x509_st **out, struct err *err);
/* 0 for ECDSA P-256, P-384 and RSA of 2048 to 8192 bits; else -EINVAL. */
int sign_key_check(struct evp_pkey_st *key);
/* Lower-case hex of a certificate's serial number. */
void sign_serial_text(const struct x509_st *cert, char out[41]);
