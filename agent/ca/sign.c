/* SPDX-License-Identifier: Apache-2.0 */
/* A CSR gives its public key and nothing else: subject, identity, life and extensions are ours. It is still read
 * strictly, so that a client that asks for something it won't get is told. */
#include "agent/ca/sign.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/ca/authority.h"
#include "agent/ca/pem.h"

static bool key_group_ok(EVP_PKEY *key)
{
	char group[64];
	size_t len;

	if (!EVP_PKEY_get_group_name(key, group, sizeof(group), &len))
		return false;
	return str_eq(group, "prime256v1") || str_eq(group, "P-256") || str_eq(group, "secp384r1") ||
	       str_eq(group, "P-384");
}

int sign_key_check(struct evp_pkey_st *key)
{
	int bits = EVP_PKEY_get_bits(key);

	if (EVP_PKEY_get_base_id(key) == EVP_PKEY_EC)
		return key_group_ok(key) ? 0 : -EINVAL;
	if (EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA)
		return bits >= 2048 && bits <= 8192 ? 0 : -EINVAL;
	return -EINVAL;
}

static int extension_add(X509 *cert, X509V3_CTX *ctx, int nid, const char *value)
{
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, ctx, nid, value);
	int ok = extension && X509_add_ext(cert, extension, -1);

	X509_EXTENSION_free(extension);
	return ok ? 0 : -EINVAL;
}

/* Built as objects, not by OpenSSL's configuration syntax: an identity with a comma in it must stay one name. */
static int san_add(X509 *cert, const char *identity)
{
	GENERAL_NAMES *names = GENERAL_NAMES_new();
	GENERAL_NAME *name = GENERAL_NAME_new();
	ASN1_IA5STRING *uri = ASN1_IA5STRING_new();
	int rc = -ENOMEM;

	if (names && name && uri && ASN1_STRING_set(uri, identity, -1)) {
		GENERAL_NAME_set0_value(name, GEN_URI, uri);
		uri = NULL;
		if (sk_GENERAL_NAME_push(names, name)) {
			name = NULL;
			/* Critical, as the subject is empty (RFC 5280, 4.2.1.6). */
			rc = X509_add1_ext_i2d(cert, NID_subject_alt_name, names, 1, 0) == 1 ? 0 : -ENOMEM;
		}
	}
	ASN1_IA5STRING_free(uri);
	GENERAL_NAME_free(name);
	GENERAL_NAMES_free(names);
	return rc;
}

static int serial_set(X509 *cert)
{
	unsigned char bytes[SIGN_SERIAL_BYTES];

	if (RAND_bytes(bytes, sizeof(bytes)) != 1)
		return -EIO;
	bytes[0] = (unsigned char)((bytes[0] & 0x7f) | 0x40); /* positive, and of one length */
	BIGNUM *n = BN_bin2bn(bytes, sizeof(bytes), NULL);
	int ok = n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(cert));
	BN_free(n);
	return ok ? 0 : -ENOMEM;
}

static int times_set(X509 *cert, uint64_t from_s, uint64_t to_s)
{
	int ok = ASN1_TIME_set(X509_getm_notBefore(cert), (time_t)from_s) &&
		 ASN1_TIME_set(X509_getm_notAfter(cert), (time_t)to_s);
	return ok ? 0 : -ENOMEM;
}

static const EVP_MD *digest_for(EVP_PKEY *key)
{
	return EVP_PKEY_get_base_id(key) == EVP_PKEY_EC && EVP_PKEY_get_bits(key) > 256 ? EVP_sha384() : EVP_sha256();
}

static int root_fill(X509 *cert, EVP_PKEY *key, const char *trust_domain, uint64_t now_s)
{
	X509_NAME *name = X509_get_subject_name(cert);
	X509V3_CTX ctx;

	int org_len = (int)strnlen(trust_domain, 64); /* ub-organization-name */

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
	if (!X509_set_version(cert, X509_VERSION_3) || !X509_set_pubkey(cert, key) ||
	    !X509_NAME_add_entry_by_txt(name, "O", MBSTRING_UTF8, (const unsigned char *)trust_domain, org_len, -1,
					0) ||
	    !X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)"Weft root", -1, -1, 0) ||
	    !X509_set_issuer_name(cert, name))
		return -EINVAL;
	int rc = serial_set(cert);
	if (rc == 0)
		rc = times_set(cert, now_s - SIGN_BACKDATE_S, now_s + SIGN_ROOT_DAYS * 86400ull);
	if (rc == 0)
		rc = extension_add(cert, &ctx, NID_basic_constraints, "critical,CA:TRUE");
	if (rc == 0)
		rc = extension_add(cert, &ctx, NID_key_usage, "critical,keyCertSign,cRLSign");
	if (rc == 0)
		rc = extension_add(cert, &ctx, NID_subject_key_identifier, "hash");
	return rc;
}

int sign_root_new(const char *trust_domain, bool rsa, uint64_t now_s, struct evp_pkey_st **key, struct x509_st **cert,
		  struct err *err)
{
	AUTO(pem_key_freep) EVP_PKEY *k = rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256");
	if (!k)
		return pem_err(err, -EIO, "ca: generate the root's key");
	AUTO(pem_cert_freep) X509 *c = X509_new();
	if (!c || root_fill(c, k, trust_domain, now_s) < 0 || !X509_sign(c, k, digest_for(k)))
		return pem_err(err, -EIO, "ca: make the root certificate of trust domain \"%s\"", trust_domain);
	*key = TAKE(k);
	*cert = TAKE(c);
	return 0;
}

static int csr_san_check(const GENERAL_NAMES *names, const char *identity, struct err *err)
{
	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
		if (name->type != GEN_URI)
			return err_set(err, -EPERM,
				       "ca: CSR for %s asks for a name that is no URI; only its SPIFFE URI is "
				       "given",
				       identity);
		const ASN1_IA5STRING *uri = name->d.uniformResourceIdentifier;
		int len = ASN1_STRING_length(uri);
		const unsigned char *text = ASN1_STRING_get0_data(uri);
		/* By length: "spiffe://td/ns/a/sa/b\0..." must not pass for its prefix. */
		if (len < 0 || (size_t)len != strlen(identity) || memcmp(text, identity, (size_t)len) != 0)
			return err_set(err, -EPERM, "ca: CSR for %s asks for another identity (%.*s)", identity,
				       len > 200 ? 200 : len, (const char *)text);
	}
	if (sk_GENERAL_NAME_num(names) > 1)
		return err_set(err, -EPERM, "ca: CSR for %s names it more than once", identity);
	return 0;
}

static void *csr_extension(const STACK_OF(X509_EXTENSION) * extensions, int nid, int *found)
{
	int crit;
	void *value = X509V3_get_d2i(extensions, nid, &crit, NULL);

	/* crit: -1 not there, -2 more than one; present but undecodable gives NULL with crit >= 0. */
	*found = value ? 1 : crit == -1 ? 0 : -1;
	return value;
}

static int csr_extensions_check(X509_REQ *csr, const char *identity, struct err *err)
{
	STACK_OF(X509_EXTENSION) *extensions = X509_REQ_get_extensions(csr);
	if (!extensions)
		return 0;

	int san_found, bc_found, rc = 0;
	GENERAL_NAMES *names = csr_extension(extensions, NID_subject_alt_name, &san_found);
	BASIC_CONSTRAINTS *bc = csr_extension(extensions, NID_basic_constraints, &bc_found);
	if (san_found < 0 || bc_found < 0)
		rc = err_set(err, -EINVAL, "ca: CSR for %s has a damaged or repeated extension", identity);
	else if (bc && bc->ca)
		rc = err_set(err, -EPERM, "ca: CSR for %s asks to become a CA", identity);
	else if (names)
		rc = csr_san_check(names, identity, err);
	GENERAL_NAMES_free(names);
	BASIC_CONSTRAINTS_free(bc);
	sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
	return rc;
}

static int csr_parse(const char *pem, const char *identity, X509_REQ **out, struct err *err)
{
	if (strnlen(pem, SIGN_CSR_MAX + 1) > SIGN_CSR_MAX)
		return err_set(err, -EINVAL, "ca: CSR for %s is larger than 16 KiB", identity);
	BIO *bio = BIO_new_mem_buf(pem, -1);
	if (!bio)
		return err_set(err, -ENOMEM, "ca: CSR for %s: no memory", identity);
	X509_REQ *csr = PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL);
	BIO_free(bio);
	if (!csr)
		return pem_err(err, -EINVAL, "ca: CSR for %s can't be parsed", identity);
	*out = csr;
	return 0;
}

static int csr_check(X509_REQ *csr, const char *identity, struct err *err)
{
	EVP_PKEY *key = X509_REQ_get0_pubkey(csr);
	if (!key)
		return pem_err(err, -EINVAL, "ca: CSR for %s has no public key that can be read", identity);
	if (sign_key_check(key) < 0)
		return err_set(err, -EINVAL,
			       "ca: CSR for %s: the key is neither ECDSA P-256/P-384 nor RSA of 2048 to 8192 "
			       "bits",
			       identity);
	if (X509_REQ_verify(csr, key) != 1)
		return pem_err(err, -EINVAL, "ca: CSR for %s is not signed by its own key", identity);
	return csr_extensions_check(csr, identity, err);
}

static int leaf_fill(X509 *cert, const struct authority *a, EVP_PKEY *key, const char *identity)
{
	bool rsa = EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA;
	X509V3_CTX ctx;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, a->signer, cert, NULL, NULL, 0);
	if (!X509_set_version(cert, X509_VERSION_3) || !X509_set_pubkey(cert, key) ||
	    !X509_set_issuer_name(cert, X509_get_subject_name(a->signer)))
		return -EINVAL;
	int rc = serial_set(cert);
	if (rc == 0)
		rc = san_add(cert, identity);
	if (rc == 0)
		rc = extension_add(cert, &ctx, NID_basic_constraints, "critical,CA:FALSE");
	if (rc == 0)
		rc = extension_add(cert, &ctx, NID_key_usage,
				   rsa ? "critical,digitalSignature,keyEncipherment" : "critical,digitalSignature");
	if (rc == 0)
		rc = extension_add(cert, &ctx, NID_ext_key_usage, "serverAuth,clientAuth");
	if (rc == 0)
		rc = extension_add(cert, &ctx, NID_subject_key_identifier, "hash");
	if (rc == 0 && X509_get0_subject_key_id(a->signer))
		rc = extension_add(cert, &ctx, NID_authority_key_identifier, "keyid");
	return rc;
}

static int leaf_make(const struct authority *a, X509_REQ *csr, const char *identity, uint64_t from_s, uint64_t to_s,
		     struct x509_st **out, struct err *err)
{
	AUTO(pem_cert_freep) X509 *cert = X509_new();
	if (!cert || times_set(cert, from_s, to_s) < 0 || leaf_fill(cert, a, X509_REQ_get0_pubkey(csr), identity) < 0)
		return pem_err(err, -EIO, "ca: make the certificate of %s", identity);
	if (!X509_sign(cert, a->key, digest_for(a->key)))
		return pem_err(err, -EIO, "ca: sign the certificate of %s", identity);
	*out = TAKE(cert);
	return 0;
}

int sign_leaf(const struct authority *a, const char *identity, const char *csr_pem, uint64_t now_s, uint32_t ttl_s,
	      struct x509_st **out, struct err *err)
{
	char date[32];
	if (a->not_after_s <= now_s) {
		pem_date_text(a->not_after_s, date);
		return err_set(err, -EKEYEXPIRED,
			       "ca: the signing chain expired at %s, so %s gets no certificate; put a new "
			       "root or intermediate in place",
			       date, identity);
	}
	X509_REQ *csr = NULL;
	int rc = csr_parse(csr_pem, identity, &csr, err);
	if (rc < 0)
		return rc;
	rc = csr_check(csr, identity, err);
	uint64_t to_s = now_s + ttl_s < a->not_after_s ? now_s + ttl_s : a->not_after_s;
	if (rc == 0)
		rc = leaf_make(a, csr, identity, now_s - SIGN_BACKDATE_S, to_s, out, err);
	X509_REQ_free(csr);
	return rc;
}

void sign_serial_text(const struct x509_st *cert, char out[41])
{
	const ASN1_INTEGER *serial = X509_get0_serialNumber(cert);
	const unsigned char *bytes = ASN1_STRING_get0_data(serial);
	int len = ASN1_STRING_length(serial);

	out[0] = 0;
	for (int i = 0; i < len && i < 20; i++)
		snprintf(out + 2 * (size_t)i, 3, "%02x", bytes[i]);
}
