/* SPDX-License-Identifier: Apache-2.0 */
/* Loading: key, signer, chain and roots are read and must fit together: the key is the signer's, the signer may sign
 * (basicConstraints, keyUsage), and X509_verify_cert finds a way from it to a root now.
 *
 * Creating: under a lock on the directory, key and certificate are both written under other names and then renamed,
 * key first; so a crash leaves either nothing, or a key whose certificate waits as root-cert.pem.new and is put in
 * place by the next start. */
#include "agent/ca/authority.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/x509v3.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/ca/pem.h"
#include "agent/ca/sign.h"

enum { ROOT_WARN_S = 30 * 86400 };

/* The files of a directory, as text; NULL: not there. */
struct files {
	char *key, *root, *signer, *chain;
	char *key_path, *root_path, *signer_path, *chain_path, *new_root_path;
};

static void files_done(struct files *f)
{
	pem_wipe(f->key);
	free(f->root);
	free(f->signer);
	free(f->chain);
	free(f->key_path);
	free(f->root_path);
	free(f->signer_path);
	free(f->chain_path);
	free(f->new_root_path);
}

static int files_init(struct files *f, const char *dir, struct err *err)
{
	f->key_path = str_format("%s/ca-key.pem", dir);
	f->root_path = str_format("%s/root-cert.pem", dir);
	f->signer_path = str_format("%s/ca-cert.pem", dir);
	f->chain_path = str_format("%s/cert-chain.pem", dir);
	f->new_root_path = str_format("%s/root-cert.pem.new", dir);
	if (!f->key_path || !f->root_path || !f->signer_path || !f->chain_path || !f->new_root_path)
		return err_set(err, -ENOMEM, "ca: %s: no memory", dir);
	return 0;
}

static int file_read_if(const char *path, char **out, struct err *err)
{
	int rc = pem_file_read(path, out, err);
	return rc == -ENOENT ? 0 : rc;
}

static int files_read(struct files *f, struct err *err)
{
	int rc = file_read_if(f->key_path, &f->key, err);
	if (rc == 0)
		rc = file_read_if(f->root_path, &f->root, err);
	if (rc == 0)
		rc = file_read_if(f->signer_path, &f->signer, err);
	if (rc == 0)
		rc = file_read_if(f->chain_path, &f->chain, err);
	return rc;
}

int authority_dir_lock(const char *dir, struct err *err)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, -errno, "ca: open directory %s", dir);
	while (flock(fd, LOCK_EX) < 0) {
		if (errno == EINTR)
			continue;
		int rc = err_sys(err, -errno, "ca: lock directory %s", dir);
		close(fd);
		return rc;
	}
	return fd;
}

int authority_dir_make(const char *dir, struct err *err)
{
	AUTO(mem_freep) char *path = strdup(dir);
	if (!path)
		return err_set(err, -ENOMEM, "ca: create %s: no memory", dir);

	for (char *p = path + 1;; p++) {
		if (*p && *p != '/')
			continue;
		char was = *p;
		*p = 0;
		if (mkdir(path, 0700) < 0 && errno != EEXIST)
			return err_sys(err, -errno, "ca: create directory %s", path);
		*p = was;
		if (!was)
			return 0;
	}
}

static int root_create(struct files *f, const char *trust_domain, bool rsa, uint64_t now_s, struct err *err)
{
	AUTO(pem_key_freep) EVP_PKEY *key = NULL;
	AUTO(pem_cert_freep) X509 *cert = NULL;

	int rc = sign_root_new(trust_domain, rsa, now_s, &key, &cert, err);
	if (rc < 0)
		return rc;
	AUTO(pem_wipep) char *key_text = pem_key_text(key);
	AUTO(mem_freep) char *cert_text = pem_cert_text(cert);
	if (!key_text || !cert_text)
		return err_set(err, -ENOMEM, "ca: new root: no memory");

	rc = pem_file_write(f->new_root_path, cert_text, 0644, err);
	if (rc == 0)
		rc = pem_file_write(f->key_path, key_text, 0600, err);
	if (rc == 0 && rename(f->new_root_path, f->root_path) < 0)
		rc = err_sys(err, -errno, "ca: rename %s", f->new_root_path);
	if (rc < 0)
		return rc;
	f->key = TAKE(key_text);
	f->root = TAKE(cert_text);
	return 0;
}

/* A first start that was cut off between its two renames. */
static int root_finish(struct files *f, struct err *err)
{
	int rc = file_read_if(f->new_root_path, &f->root, err);
	if (rc < 0 || !f->root)
		return rc;
	if (rename(f->new_root_path, f->root_path) < 0)
		return err_sys(err, -errno, "ca: rename %s", f->new_root_path);
	return 0;
}

static int files_load(struct files *f, const char *dir, const char *trust_domain, bool rsa, uint64_t now_s,
		      struct err *err)
{
	int rc = files_read(f, err);
	if (rc < 0)
		return rc;
	if (f->key && (f->root || f->signer))
		return 0;

	rc = authority_dir_make(dir, err);
	if (rc < 0)
		return rc;
	AUTO(fd_closep) int lock = authority_dir_lock(dir, err);
	if (lock < 0)
		return lock;

	/* Another agent may have been quicker: look again, now that nobody writes. */
	pem_wipe(TAKE(f->key));
	free(TAKE(f->root));
	free(TAKE(f->signer));
	free(TAKE(f->chain));
	rc = files_read(f, err);
	if (rc == 0 && !f->key && !f->root && !f->signer && !f->chain)
		return root_create(f, trust_domain, rsa, now_s, err);
	if (rc == 0 && f->key && !f->root && !f->signer)
		rc = root_finish(f, err);
	return rc;
}

static int files_check(const struct files *f, struct err *err)
{
	if (!f->key)
		return err_set(err, -ENOENT,
			       "ca: %s is missing beside %s; put the signer's key there, or remove the "
			       "certificates to have a new root made",
			       f->key_path, f->root ? f->root_path : f->signer_path);
	if (!f->root)
		return err_set(err, -ENOENT, "ca: %s is missing; it must hold the root certificate(s) that peers trust",
			       f->root_path);
	if (!f->signer && f->chain)
		return err_set(err, -ENOENT, "ca: %s is there but %s is not; Istio's cacerts have both", f->chain_path,
			       f->signer_path);
	return 0;
}

static int push_ref(STACK_OF(X509) * stack, X509 *cert)
{
	if (!X509_up_ref(cert))
		return -ENOMEM;
	if (sk_X509_push(stack, cert))
		return 0;
	X509_free(cert);
	return -ENOMEM;
}

static bool self_issued(X509 *cert)
{
	return X509_NAME_cmp(X509_get_subject_name(cert), X509_get_issuer_name(cert)) == 0;
}

/* Istio's cacerts: the signer from ca-cert.pem, then what cert-chain.pem adds but roots, which peers have. */
static int load_intermediates(struct authority *a, const struct files *f, struct err *err)
{
	AUTO(pem_stack_freep) STACK_OF(X509) *first = NULL;
	AUTO(pem_stack_freep) STACK_OF(X509) *chain = NULL;

	int rc = pem_certs_parse(f->signer, f->signer_path, &first, err);
	if (rc == 0 && f->chain)
		rc = pem_certs_parse(f->chain, f->chain_path, &chain, err);
	if (rc < 0)
		return rc;

	a->signer = sk_X509_value(first, 0);
	if (!self_issued(a->signer))
		rc = push_ref(a->intermediates, a->signer);
	for (int i = 0; rc == 0 && chain && i < sk_X509_num(chain); i++) {
		X509 *cert = sk_X509_value(chain, i);
		if (!self_issued(cert) && X509_cmp(cert, a->signer) != 0)
			rc = push_ref(a->intermediates, cert);
	}
	if (rc < 0)
		return err_set(err, rc, "ca: %s: no memory", f->chain_path);
	return X509_up_ref(a->signer) ? 0 : err_set(err, -ENOMEM, "ca: %s: no memory", f->signer_path);
}

/* An own root: of the certificates in root-cert.pem the one that has the key's public half. */
static int load_own_signer(struct authority *a, const struct files *f, struct err *err)
{
	for (int i = 0; i < sk_X509_num(a->roots); i++) {
		X509 *cert = sk_X509_value(a->roots, i);
		if (X509_check_private_key(cert, a->key) && X509_up_ref(cert)) {
			a->signer = cert;
			return 0;
		}
	}
	return pem_err(err, -EINVAL,
		       "ca: the key in %s belongs to no certificate in %s; restore the pair that belongs "
		       "together, or remove both to have a new root made",
		       f->key_path, f->root_path);
}

static int check_signer(struct authority *a, const struct files *f, uint64_t now_s, struct err *err)
{
	const char *path = f->signer ? f->signer_path : f->root_path;
	char date[32];

	if (!X509_check_private_key(a->signer, a->key))
		return pem_err(err, -EINVAL,
			       "ca: the key in %s is not that of the certificate in %s; restore the pair that "
			       "belongs together",
			       f->key_path, path);
	if (sign_key_check(a->key) < 0)
		return err_set(err, -EINVAL,
			       "ca: the key in %s is neither ECDSA P-256/P-384 nor RSA of 2048 to 8192 bits",
			       f->key_path);
	if (pem_not_after_s(a->signer) <= now_s) {
		pem_date_text(pem_not_after_s(a->signer), date);
		return err_set(err, -EKEYEXPIRED, "ca: the certificate in %s expired at %s; put a new one there%s",
			       path, date, f->signer ? "" : ", or remove it and ca-key.pem to have a new root made");
	}
	if (!(X509_get_extension_flags(a->signer) & EXFLAG_CA))
		return err_set(err, -EINVAL,
			       "ca: the certificate in %s has no basicConstraints CA:TRUE; peers would refuse "
			       "what it signs",
			       path);
	if (!(X509_get_key_usage(a->signer) & KU_KEY_CERT_SIGN))
		return err_set(err, -EINVAL,
			       "ca: the certificate in %s has no keyUsage keyCertSign; peers would refuse what "
			       "it signs",
			       path);
	return 0;
}

/* Peers will go the same way from leaf to root, so it must exist and hold now. Takes note of its root and end. */
static int check_chain(struct authority *a, const struct files *f, uint64_t now_s, struct err *err)
{
	X509_STORE *store = X509_STORE_new();
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	int rc = store && ctx ? 0 : -ENOMEM;

	for (int i = 0; rc == 0 && i < sk_X509_num(a->roots); i++)
		rc = X509_STORE_add_cert(store, sk_X509_value(a->roots, i)) ? 0 : -ENOMEM;
	if (rc == 0 && !X509_STORE_CTX_init(ctx, store, a->signer, a->intermediates))
		rc = -ENOMEM;
	if (rc < 0) {
		err_set(err, rc, "ca: verify %s: no memory", f->root_path);
		goto out;
	}
	X509_VERIFY_PARAM_set_time(X509_STORE_CTX_get0_param(ctx), (time_t)now_s);
	if (X509_verify_cert(ctx) != 1) {
		int depth = X509_STORE_CTX_get_error_depth(ctx);
		rc = pem_err(err, -EINVAL,
			     "ca: %s does not chain to a root in %s (%s, at certificate %d of the chain); "
			     "check cert-chain.pem and root-cert.pem",
			     f->signer ? f->signer_path : f->root_path, f->root_path,
			     X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)), depth);
		goto out;
	}
	STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(ctx);
	X509 *top = sk_X509_value(chain, sk_X509_num(chain) - 1);
	a->not_after_s = UINT64_MAX;
	for (int i = 0; i < sk_X509_num(chain); i++) {
		uint64_t end = pem_not_after_s(sk_X509_value(chain, i));
		a->not_after_s = end < a->not_after_s ? end : a->not_after_s;
	}
	for (int i = 0; i < sk_X509_num(a->roots); i++)
		if (X509_cmp(sk_X509_value(a->roots, i), top) == 0)
			a->root = sk_X509_value(a->roots, i);
out:
	X509_STORE_CTX_free(ctx);
	X509_STORE_free(store);
	return rc;
}

static void authority_warn(struct authority *a, const struct files *f, uint64_t now_s)
{
	struct stat st;
	char date[32];

	if (stat(f->key_path, &st) == 0 && (st.st_mode & S_IROTH)) {
		a->warning = str_format("ca: %s can be read by everybody on this host; chmod 600 it", f->key_path);
	} else if (a->not_after_s < now_s + ROOT_WARN_S) {
		pem_date_text(a->not_after_s, date);
		a->warning = str_format(
			"ca: the chain of %s expires at %s; add the new root to root-cert.pem on every node, "
			"then change the key",
			f->signer ? f->signer_path : f->root_path, date);
	}
}

static int authority_build(struct authority *a, const struct files *f, uint64_t now_s, struct err *err)
{
	a->intermediates = sk_X509_new_null();
	if (!a->intermediates)
		return err_set(err, -ENOMEM, "ca: no memory");
	int rc = files_check(f, err);
	if (rc == 0)
		rc = pem_key_parse(f->key, f->key_path, &a->key, err);
	if (rc == 0)
		rc = pem_certs_parse(f->root, f->root_path, &a->roots, err);
	if (rc == 0)
		rc = f->signer ? load_intermediates(a, f, err) : load_own_signer(a, f, err);
	if (rc == 0)
		rc = check_signer(a, f, now_s, err);
	if (rc == 0)
		rc = check_chain(a, f, now_s, err);
	if (rc == 0)
		authority_warn(a, f, now_s);
	return rc;
}

int authority_load(const char *dir, const char *trust_domain, bool rsa, uint64_t now_s, struct authority **out,
		   struct err *err)
{
	AUTO(files_done) struct files f = { 0 };
	int rc = files_init(&f, dir, err);
	if (rc == 0)
		rc = files_load(&f, dir, trust_domain, rsa, now_s, err);
	if (rc < 0)
		return rc;

	AUTO(authority_freep) struct authority *a = calloc(1, sizeof(*a));
	if (!a)
		return err_set(err, -ENOMEM, "ca: no memory");
	rc = authority_build(a, &f, now_s, err);
	if (rc < 0)
		return rc;
	*out = TAKE(a);
	return 0;
}

void authority_free(struct authority *a)
{
	if (!a)
		return;
	EVP_PKEY_free(a->key);
	X509_free(a->signer);
	sk_X509_pop_free(a->intermediates, X509_free);
	sk_X509_pop_free(a->roots, X509_free);
	free(a->warning);
	free(a);
}

void authority_freep(struct authority **a)
{
	authority_free(*a);
}
