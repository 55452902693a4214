/* SPDX-License-Identifier: Apache-2.0 */
/* The certificate authority: its own root or one in Istio's cacerts layout, signing of CSRs for workloads of this
 * node, overlap of roots, revocation. OpenSSL appears only here and in the helper's tls files. On the agent's loop
 * thread; signing is quick (ECDSA P-256), so nothing is asynchronous. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ca;
struct err;

enum { CA_ISSUED_MAX = 4096, CA_REVOKED_MAX = 8192, CA_ROOTS_MAX = 32 };

struct ca_options {
	/* Holds root-cert.pem and, for an own root, ca-key.pem (0600), created on first start; or Istio's cacerts files:
	 * ca-cert.pem, ca-key.pem, root-cert.pem, cert-chain.pem. Several agents may share it. */
	const char *dir;
	const char *state_dir; /* for revoked.json and trusted-roots.json; NULL: dir (a mounted Secret is read-only) */
	const char *trust_domain;
	uint32_t workload_ttl_s;	/* 0: 86400 */
	uint32_t root_overlap_s;	/* a root that was replaced stays trusted that long; 0: twice workload_ttl_s */
	bool rsa_keys;			/* a new root is RSA-2048 instead of ECDSA P-256 */
	const char *const *extra_roots; /* PEM, trusted besides the own root (MeshConfig caCertificates) */
	size_t extra_root_count;
	uint64_t now_s; /* of ca_open and ca_configure; 0: the wall clock */
};

struct ca_cert {	 /* one issued certificate */
	char serial[41]; /* hex, lower case */
	char *identity;	 /* SPIFFE URI */
	uint64_t not_before_s, not_after_s;
	bool revoked;
};

struct ca_root { /* one trusted root */
	char *subject;
	char fingerprint[65]; /* SHA-256, hex, lower case */
	uint64_t not_after_s;
	uint64_t trusted_until_s; /* 0: in force; else it was replaced and goes at that time */
	bool signs;		  /* the chain of new certificates ends here */
	bool extra;		  /* from ca_options.extra_roots */
};

int ca_open(const struct ca_options *options, struct ca **out, struct err *err);
void ca_close(struct ca *ca); /* NULL is fine */
void ca_freep(struct ca **ca);
/* Takes over trust_domain, times and extra_roots of a changed mesh.yaml (dir stays as opened). *changed: the roots are
 * other ones. On error everything stays as it was. */
int ca_configure(struct ca *ca, const struct ca_options *options, bool *changed, struct err *err);
/* Signs a CSR for `identity`, which the caller has found to run on this node. The CSR must be self-signed correctly and,
 * when it carries URI SANs, name exactly this identity; other SANs and CA:TRUE are refused. now_s: wall clock.
 * *chain_pem (caller frees): leaf, intermediates. -EINVAL: the CSR's fault; -EPERM: not for this identity;
 * -EKEYEXPIRED: the signer has expired. */
int ca_sign(struct ca *ca, const char *identity, const char *csr_pem, uint64_t now_s, char **chain_pem,
	    uint64_t *not_after_s, struct err *err);
/* All trusted roots, PEM, one after another; changes with ca_reload and ca_configure. Borrowed until then. */
const char *ca_roots_pem(const struct ca *ca);
size_t ca_roots(const struct ca *ca, const struct ca_root **roots); /* borrowed until the next reload */
/* Reads dir again when its files changed: a new root is trusted at once, the old one stays trusted until
 * root_overlap_s has passed (call it now and then: it also lets go of roots whose time is over). *changed: roots,
 * signer or revocations are other ones. On error what was in force stays. */
int ca_reload(struct ca *ca, uint64_t now_s, bool *changed, struct err *err);
/* Revocation list, kept in state_dir/revoked.json. Serial in hex, with or without colons. -EINVAL: not a serial. */
int ca_revoke(struct ca *ca, const char *serial, uint64_t now_s, struct err *err);
size_t ca_revoked(const struct ca *ca, const char *const **serials);
/* Issued certificates that have not expired (bounded: the newest CA_ISSUED_MAX), oldest first. Borrowed until the next
 * ca_sign or ca_issued. */
size_t ca_issued(struct ca *ca, uint64_t now_s, const struct ca_cert **certs);
uint64_t ca_root_not_after_s(const struct ca *ca);   /* of the root that signs */
uint64_t ca_signer_not_after_s(const struct ca *ca); /* of the certificate that signs; the root's own, or earlier */
/* What an operator should look at ("... expires in 12 days: ...", "... can be read by others: ..."); NULL: nothing. */
const char *ca_warning(const struct ca *ca);
