/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/tls_key.h"

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/helper/tls_internal.h"

#include <errno.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <string.h>

struct tls_key {
	EVP_PKEY *pkey;
};

int tls_key_new(bool rsa, struct tls_key **out, struct err *err)
{
	struct tls_key *key = calloc(1, sizeof(*key));
	if (!key)
		return err_set(err, -ENOMEM, "key: allocate");
	key->pkey = rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256");
	if (!key->pkey) {
		free(key);
		return tls_err(err, -EIO, "generate %s key", rsa ? "an RSA-2048" : "an ECDSA P-256");
	}
	*out = key;
	return 0;
}

void tls_key_free(struct tls_key *key)
{
	if (!key)
		return;

	EVP_PKEY_free(key->pkey);
	free(key);
}

EVP_PKEY *tls_key_pkey(const struct tls_key *key)
{
	return key->pkey;
}

/* The request's extensions: the URI, and critical because the subject is empty (RFC 5280, 4.2.1.6). */
static int csr_add_san(X509_REQ *req, const char *uri)
{
	int rc = -ENOMEM;
	STACK_OF(X509_EXTENSION) *extensions = sk_X509_EXTENSION_new_null();
	GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
	GENERAL_NAME *name = GENERAL_NAME_new();
	ASN1_IA5STRING *text = ASN1_IA5STRING_new();
	if (!extensions || !names || !name || !text || !ASN1_STRING_set(text, uri, -1))
		goto out;

	GENERAL_NAME_set0_value(name, GEN_URI, TAKE(text));
	if (!sk_GENERAL_NAME_push(names, name))
		goto out;
	name = NULL;
	if (X509V3_add1_i2d(&extensions, NID_subject_alt_name, names, 1, X509V3_ADD_APPEND) == 1 &&
	    X509_REQ_add_extensions(req, extensions))
		rc = 0;
out:
	ASN1_IA5STRING_free(text);
	GENERAL_NAME_free(name);
	GENERAL_NAMES_free(names);
	sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
	return rc;
}

static char *bio_text(BIO *bio)
{
	char *bytes = NULL;
	long len = BIO_get_mem_data(bio, &bytes);
	return len > 0 ? strndup(bytes, (size_t)len) : NULL;
}

int tls_key_csr(const struct tls_key *key, const char *uri, char **out, struct err *err)
{
	X509_REQ *req = X509_REQ_new();
	BIO *bio = BIO_new(BIO_s_mem());
	char *pem = NULL;
	if (req && bio && X509_REQ_set_version(req, X509_REQ_VERSION_1) && X509_REQ_set_pubkey(req, key->pkey) &&
	    csr_add_san(req, uri) == 0 && X509_REQ_sign(req, key->pkey, EVP_sha256()) > 0 &&
	    PEM_write_bio_X509_REQ(bio, req))
		pem = bio_text(bio);
	X509_REQ_free(req);
	BIO_free(bio);
	if (!pem)
		return tls_err(err, -EIO, "make a certificate request for %s", uri);

	*out = pem;
	return 0;
}
