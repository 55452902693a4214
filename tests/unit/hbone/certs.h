/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates made in a test. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tls_credentials;
struct tls_trust;

struct test_ca; /* a root, and optionally an intermediate below it that signs */
struct test_ca *test_ca_new(bool intermediate);
void test_ca_free(struct test_ca *ca);
const char *test_ca_root_pem(const struct test_ca *ca);

struct cert_options {
	const char *uris[3]; /* URI SANs */
	const char *dns;     /* and a DNS SAN */
	bool expired;
	bool self_signed;
	bool rsa;
	uint64_t serial; /* 0: one of its own */
};

/* Credentials whose certificate says what the options say, under the identity `uri`; NULL: refused. */
struct tls_credentials *test_credentials(struct test_ca *ca, const char *uri, const struct cert_options *o);
/* Usual: one URI SAN, valid. */
struct tls_credentials *test_credentials_for(struct test_ca *ca, const char *uri);
struct tls_trust *test_trust(const struct test_ca *ca, const char *revoked);
/* Such a certificate in DER; returns its length. */
size_t test_cert_der(struct test_ca *ca, const struct cert_options *o, uint8_t *out, size_t size);
/* For another implementation: root, chain with the URI, and its key, as PEM files. */
void test_write_files(struct test_ca *ca, const char *uri, const char *root, const char *chain, const char *key);
/* What the root revokes: one serial; stale: it was to be replaced by now. The caller frees. */
char *test_crl_pem(const struct test_ca *ca, uint64_t serial, bool stale);
/* Such a certificate with its chain, and its key, as PEM texts (caller frees). */
void test_pem(struct test_ca *ca, const struct cert_options *o, char **chain, char **key);
