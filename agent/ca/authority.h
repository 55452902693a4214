/* SPDX-License-Identifier: Apache-2.0 */
/* What signs and what is trusted, as a directory has it: own root, or Istio's cacerts files. Loaded as a whole and
 * validated, immutable afterwards. Internal to agent/ca; on the caller's thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct err;
struct x509_st;
struct evp_pkey_st;
struct stack_st_X509;

struct authority {
	struct evp_pkey_st *key;
	struct x509_st *signer;		     /* one of intermediates[0] or roots */
	struct stack_st_X509 *intermediates; /* sent after the leaf: signer first; empty for an own root */
	struct stack_st_X509 *roots;	     /* root-cert.pem: may hold several while a root changes */
	struct x509_st *root;		     /* of roots: where the chain of the signer ends */
	uint64_t not_after_s;		     /* earliest of the signer's chain */
	char *warning;			     /* or NULL */
};

/* Reads dir, creating an own root when neither key nor certificate is there. Two agents may do so at once. */
int authority_load(const char *dir, const char *trust_domain, bool rsa, uint64_t now_s, struct authority **out,
		   struct err *err);
void authority_free(struct authority *a);
void authority_freep(struct authority **a);
int authority_dir_make(const char *dir, struct err *err); /* with its parents, mode 0700 */
/* An exclusive lock on the directory, released by close(). Returns the fd or -errno. */
int authority_dir_lock(const char *dir, struct err *err);
