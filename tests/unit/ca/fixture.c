/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/ca/fixture.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/pem.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/ca/pem.h"

EVP_PKEY *fixture_key(void)
{
	return EVP_EC_gen("P-256");
}

static void add_extension(STACK_OF(X509_EXTENSION) * to, int nid, const char *value)
{
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
	if (!extension)
		abort();
	sk_X509_EXTENSION_push(to, extension);
}

char *fixture_csr(EVP_PKEY *key, const char *san, const char *basic_constraints)
{
	X509_REQ *csr = X509_REQ_new();
	STACK_OF(X509_EXTENSION) *extensions = sk_X509_EXTENSION_new_null();

	X509_REQ_set_pubkey(csr, key);
	if (san)
		add_extension(extensions, NID_subject_alt_name, san);
	if (basic_constraints)
		add_extension(extensions, NID_basic_constraints, basic_constraints);
	if (sk_X509_EXTENSION_num(extensions))
		X509_REQ_add_extensions(csr, extensions);
	sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
	X509_REQ_sign(csr, key, EVP_sha256());

	BIO *bio = BIO_new(BIO_s_mem());
	char *data;
	PEM_write_bio_X509_REQ(bio, csr);
	long len = BIO_get_mem_data(bio, &data);
	char *text = strndup(data, (size_t)len);
	BIO_free(bio);
	X509_REQ_free(csr);
	return text;
}

X509 *fixture_ca_cert(EVP_PKEY *key, const char *cn, X509 *issuer, EVP_PKEY *issuer_key, const char *constraints,
		      uint64_t from_s, uint64_t to_s)
{
	static long serial = 1000;
	X509 *cert = X509_new();

	X509_set_version(cert, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), serial++);
	ASN1_TIME_set(X509_getm_notBefore(cert), (time_t)from_s);
	ASN1_TIME_set(X509_getm_notAfter(cert), (time_t)to_s);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1,
				   0);
	X509_set_issuer_name(cert, X509_get_subject_name(issuer ? issuer : cert));
	X509_set_pubkey(cert, key);
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, constraints);
	X509_add_ext(cert, extension, -1);
	X509_EXTENSION_free(extension);
	X509_sign(cert, issuer_key ? issuer_key : key, EVP_sha256());
	return cert;
}

char *fixture_dir(void)
{
	char *dir = strdup("/tmp/weft-test-ca-XXXXXX");
	if (!mkdtemp(dir))
		abort();
	return dir;
}

void fixture_dir_remove(char *dir)
{
	DIR *d = opendir(dir);
	for (struct dirent *e; d && (e = readdir(d));) {
		AUTO(mem_freep) char *path = str_format("%s/%s", dir, e->d_name);
		if (e->d_name[0] != '.')
			unlink(path);
	}
	if (d)
		closedir(d);
	rmdir(dir);
	free(dir);
}

void fixture_put(const char *dir, const char *name, const char *text)
{
	AUTO(mem_freep) char *path = str_format("%s/%s", dir, name);
	if (pem_file_write(path, text, 0600, NULL) < 0)
		abort();
}

void fixture_put_cert(const char *dir, const char *name, X509 *cert)
{
	AUTO(mem_freep) char *text = pem_cert_text(cert);
	fixture_put(dir, name, text);
}

void fixture_put_key(const char *dir, const char *name, EVP_PKEY *key)
{
	AUTO(mem_freep) char *text = pem_key_text(key);
	fixture_put(dir, name, text);
}

char *fixture_get(const char *dir, const char *name)
{
	AUTO(mem_freep) char *path = str_format("%s/%s", dir, name);
	char *text = NULL;
	return pem_file_read(path, &text, NULL) < 0 ? NULL : text;
}

static bool verify_as(STACK_OF(X509) * chain, STACK_OF(X509) * roots, uint64_t now_s, int purpose)
{
	X509_STORE *store = X509_STORE_new();
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();

	for (int i = 0; i < sk_X509_num(roots); i++)
		X509_STORE_add_cert(store, sk_X509_value(roots, i));
	X509_STORE_CTX_init(ctx, store, sk_X509_value(chain, 0), chain);
	X509_STORE_CTX_set_purpose(ctx, purpose);
	X509_VERIFY_PARAM_set_time(X509_STORE_CTX_get0_param(ctx), (time_t)now_s);
	X509_VERIFY_PARAM_set_flags(X509_STORE_CTX_get0_param(ctx), X509_V_FLAG_X509_STRICT);
	bool ok = X509_verify_cert(ctx) == 1;
	if (!ok)
		printf("# verify: %s\n", X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
	X509_STORE_CTX_free(ctx);
	X509_STORE_free(store);
	return ok;
}

X509 *fixture_verify(const char *chain_pem, const char *roots_pem, uint64_t now_s)
{
	AUTO(pem_stack_freep) STACK_OF(X509) *chain = NULL;
	AUTO(pem_stack_freep) STACK_OF(X509) *roots = NULL;

	if (pem_certs_parse(chain_pem, "chain", &chain, NULL) < 0 ||
	    pem_certs_parse(roots_pem, "roots", &roots, NULL) < 0)
		return NULL;
	if (!verify_as(chain, roots, now_s, X509_PURPOSE_SSL_CLIENT) ||
	    !verify_as(chain, roots, now_s, X509_PURPOSE_SSL_SERVER))
		return NULL;
	return sk_X509_shift(chain);
}
