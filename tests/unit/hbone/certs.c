/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/hbone/certs.h"

#include "agent/base/err.h"
#include "agent/helper/tls_credentials.h"
#include "agent/helper/tls_key.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Setup that fails is a broken test, not a result. */
#define must(condition)                                                                                                \
	do {                                                                                                           \
		if (!(condition))                                                                                      \
			abort();                                                                                       \
	} while (0)

struct test_ca {
	EVP_PKEY *root_key, *key; /* key: of what signs */
	X509 *root, *cert;
	char *root_pem;
	uint64_t serial;
};

static X509 *cert_begin(const char *name, EVP_PKEY *key, uint64_t serial, long from_s, long to_s)
{
	X509 *cert = X509_new();
	must(cert && X509_set_version(cert, 2) && ASN1_INTEGER_set_uint64(X509_get_serialNumber(cert), serial));
	must(X509_gmtime_adj(X509_getm_notBefore(cert), from_s) && X509_gmtime_adj(X509_getm_notAfter(cert), to_s));
	if (name)
		must(X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
						(const unsigned char *)name, -1, -1, 0));
	must(X509_set_pubkey(cert, key));
	return cert;
}

static void cert_extend(X509 *cert, int nid, const char *value)
{
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
	must(e && X509_add_ext(cert, e, -1));
	X509_EXTENSION_free(e);
}

static void cert_sign(X509 *cert, X509 *issuer, EVP_PKEY *key)
{
	must(X509_set_issuer_name(cert, X509_get_subject_name(issuer)) && X509_sign(cert, key, EVP_sha256()) > 0);
}

static char *pem_of(X509 *a, X509 *b)
{
	BIO *bio = BIO_new(BIO_s_mem());
	must(bio && PEM_write_bio_X509(bio, a) && (!b || PEM_write_bio_X509(bio, b)));
	char *bytes;
	long len = BIO_get_mem_data(bio, &bytes);
	char *text = strndup(bytes, (size_t)len);
	BIO_free(bio);
	must(text);
	return text;
}

struct test_ca *test_ca_new(bool intermediate)
{
	struct test_ca *ca = calloc(1, sizeof(*ca));
	must(ca && (ca->root_key = EVP_EC_gen("P-256")));
	ca->serial = 1000;
	ca->root = cert_begin("test root", ca->root_key, 1, -3600, 86400);
	cert_extend(ca->root, NID_basic_constraints, "critical,CA:TRUE");
	cert_extend(ca->root, NID_key_usage, "critical,keyCertSign,cRLSign");
	cert_sign(ca->root, ca->root, ca->root_key);
	ca->root_pem = pem_of(ca->root, NULL);
	if (!intermediate)
		return ca;

	must((ca->key = EVP_EC_gen("P-256")));
	ca->cert = cert_begin("test intermediate", ca->key, 2, -3600, 86400);
	cert_extend(ca->cert, NID_basic_constraints, "critical,CA:TRUE");
	cert_extend(ca->cert, NID_key_usage, "critical,keyCertSign,cRLSign");
	cert_sign(ca->cert, ca->root, ca->root_key);
	return ca;
}

void test_ca_free(struct test_ca *ca)
{
	EVP_PKEY_free(ca->root_key);
	EVP_PKEY_free(ca->key);
	X509_free(ca->root);
	X509_free(ca->cert);
	free(ca->root_pem);
	free(ca);
}

const char *test_ca_root_pem(const struct test_ca *ca)
{
	return ca->root_pem;
}

static void add_sans(X509 *cert, const struct cert_options *o)
{
	char san[1024] = "critical";
	for (int i = 0; i < 3 && o->uris[i]; i++) {
		strcat(san, ",URI:");
		strcat(san, o->uris[i]);
	}
	if (o->dns) {
		strcat(san, ",DNS:");
		strcat(san, o->dns);
	}
	if (strchr(san, ','))
		cert_extend(cert, NID_subject_alt_name, san);
}

static X509 *cert_make(struct test_ca *ca, struct tls_key *key, const struct cert_options *o)
{
	X509 *issuer = ca->cert ? ca->cert : ca->root;
	EVP_PKEY *issuer_key = ca->key ? ca->key : ca->root_key;
	X509 *cert = cert_begin(NULL, tls_key_pkey(key), o->serial ? o->serial : ++ca->serial, -3600,
				o->expired ? -60 : 3600);
	cert_extend(cert, NID_basic_constraints, "critical,CA:FALSE");
	cert_extend(cert, NID_key_usage, "critical,digitalSignature,keyEncipherment");
	cert_extend(cert, NID_ext_key_usage, "serverAuth,clientAuth");
	add_sans(cert, o);
	if (o->self_signed)
		cert_sign(cert, cert, tls_key_pkey(key));
	else
		cert_sign(cert, issuer, issuer_key);
	return cert;
}

struct tls_credentials *test_credentials(struct test_ca *ca, const char *uri, const struct cert_options *o)
{
	struct tls_key *key;
	struct err err = ERR_INIT;
	must(tls_key_new(o->rsa, &key, &err) == 0);
	X509 *cert = cert_make(ca, key, o);
	char *pem = pem_of(cert, ca->cert);
	struct tls_credentials *c = NULL;
	int rc = tls_credentials_new(uri, key, pem, &c, &err);
	if (rc < 0)
		c = NULL;
	free(pem);
	X509_free(cert);
	tls_key_free(key);
	return c;
}

size_t test_cert_der(struct test_ca *ca, const struct cert_options *o, uint8_t *out, size_t size)
{
	struct tls_key *key;
	must(tls_key_new(false, &key, NULL) == 0);
	X509 *cert = cert_make(ca, key, o);
	int len = i2d_X509(cert, NULL);
	must(len > 0 && (size_t)len <= size);
	i2d_X509(cert, &out);
	X509_free(cert);
	tls_key_free(key);
	return (size_t)len;
}

struct tls_credentials *test_credentials_for(struct test_ca *ca, const char *uri)
{
	struct cert_options o = { .uris = { uri } };
	struct tls_credentials *c = test_credentials(ca, uri, &o);
	must(c);
	return c;
}

struct tls_trust *test_trust(const struct test_ca *ca, const char *revoked)
{
	struct tls_trust *t;
	struct err err = ERR_INIT;
	must(tls_trust_new(ca->root_pem, &revoked, revoked ? 1 : 0, &t, &err) == 0);
	return t;
}

static void write_text(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");
	must(file && fputs(text, file) >= 0 && fclose(file) == 0);
}

void test_write_files(struct test_ca *ca, const char *uri, const char *root, const char *chain, const char *key_path)
{
	struct cert_options o = { .uris = { uri } };
	struct tls_key *key;
	must(tls_key_new(false, &key, NULL) == 0);
	X509 *cert = cert_make(ca, key, &o);
	char *pem = pem_of(cert, ca->cert);
	write_text(root, ca->root_pem);
	write_text(chain, pem);
	FILE *file = fopen(key_path, "w");
	must(file && PEM_write_PrivateKey(file, tls_key_pkey(key), NULL, NULL, 0, NULL, NULL) && fclose(file) == 0);
	free(pem);
	X509_free(cert);
	tls_key_free(key);
}

void test_pem(struct test_ca *ca, const struct cert_options *o, char **chain, char **key_pem)
{
	struct tls_key *key;
	char *bytes;
	must(tls_key_new(o->rsa, &key, NULL) == 0);
	X509 *cert = cert_make(ca, key, o);
	*chain = pem_of(cert, ca->cert);
	BIO *bio = BIO_new(BIO_s_mem());
	must(bio && PEM_write_bio_PrivateKey(bio, tls_key_pkey(key), NULL, NULL, 0, NULL, NULL));
	long len = BIO_get_mem_data(bio, &bytes);
	*key_pem = strndup(bytes, (size_t)len);
	must(*key_pem);
	BIO_free(bio);
	X509_free(cert);
	tls_key_free(key);
}

static ASN1_TIME *from_now(long seconds)
{
	ASN1_TIME *t = X509_gmtime_adj(NULL, seconds);
	must(t);
	return t;
}

char *test_crl_pem(const struct test_ca *ca, uint64_t serial, bool stale)
{
	X509_CRL *crl = X509_CRL_new();
	X509_REVOKED *revoked = X509_REVOKED_new();
	ASN1_INTEGER *number = ASN1_INTEGER_new();
	ASN1_TIME *last = from_now(-3600), *next = from_now(stale ? -60 : 3600);
	must(crl && revoked && number && ASN1_INTEGER_set_uint64(number, serial));
	must(X509_CRL_set_version(crl, 1) && X509_CRL_set_issuer_name(crl, X509_get_subject_name(ca->root)));
	must(X509_CRL_set1_lastUpdate(crl, last) && X509_CRL_set1_nextUpdate(crl, next));
	must(X509_REVOKED_set_serialNumber(revoked, number) && X509_REVOKED_set_revocationDate(revoked, last));
	must(X509_CRL_add0_revoked(crl, revoked) && X509_CRL_sign(crl, ca->root_key, EVP_sha256()) > 0);
	BIO *bio = BIO_new(BIO_s_mem());
	must(bio && PEM_write_bio_X509_CRL(bio, crl));
	char *bytes;
	long len = BIO_get_mem_data(bio, &bytes);
	char *text = strndup(bytes, (size_t)len);
	must(text);
	BIO_free(bio);
	ASN1_TIME_free(last);
	ASN1_TIME_free(next);
	ASN1_INTEGER_free(number);
	X509_CRL_free(crl);
	return text;
}
