/* SPDX-License-Identifier: Apache-2.0 */
/* What is in force is one struct trust, built anew by every reload and put in place as a whole, so that a directory
 * that is half-way through a change is an error and not a state. */
#include "agent/ca/ca.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/x509.h>

#include "agent/base/err.h"
#include "agent/base/hash.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/ca/authority.h"
#include "agent/ca/pem.h"
#include "agent/ca/sign.h"
#include "agent/ca/state.h"

enum { TTL_DEFAULT_S = 86400 };

struct trust {
	struct authority *authority;
	struct ca_root roots[CA_ROOTS_MAX];
	size_t root_count;
	char *roots_pem;
	uint64_t next_retirement_s; /* UINT64_MAX: none */
	struct revoked_list revoked;
	uint64_t files_id; /* of the files' inodes, sizes and times when they were read */
};

struct ca {
	char *dir, *state_dir, *trust_domain;
	uint32_t ttl_s, overlap_s;
	bool rsa;
	char **extra;
	size_t extra_count;
	struct trust *trust;
	struct ca_cert *issued; /* oldest first */
	size_t issued_count, issued_cap;
};

static void trust_free(struct trust *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->root_count; i++)
		free(t->roots[i].subject);
	authority_free(t->authority);
	revoked_list_done(&t->revoked);
	free(t->roots_pem);
	free(t);
}

static void trust_freep(struct trust **t)
{
	trust_free(*t);
}

static uint64_t files_id(const struct ca *ca)
{
	static const char *const names[] = { "ca-key.pem", "ca-cert.pem", "cert-chain.pem", "root-cert.pem" };
	static const char *const state_names[] = { "revoked.json" };
	uint64_t id = HASH64_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(names) + ARRAY_SIZE(state_names); i++) {
		bool in_dir = i < ARRAY_SIZE(names);
		AUTO(mem_freep) char *path = str_format("%s/%s", in_dir ? ca->dir : ca->state_dir,
							in_dir ? names[i] : state_names[i - ARRAY_SIZE(names)]);
		struct stat st;
		if (!path || stat(path, &st) < 0) {
			id = hash64(id, "-", 1);
			continue;
		}
		int64_t what[] = { (int64_t)st.st_ino, st.st_size, st.st_mtim.tv_sec, st.st_mtim.tv_nsec };
		id = hash64(id, what, sizeof(what));
	}
	return id;
}

static int trust_add_root(struct trust *t, struct sb *pem, X509 *cert, const struct ca_root *about, struct err *err)
{
	struct ca_root root = *about;

	pem_fingerprint(cert, root.fingerprint);
	for (size_t i = 0; i < t->root_count; i++)
		if (str_eq(t->roots[i].fingerprint, root.fingerprint))
			return 0;
	if (t->root_count == CA_ROOTS_MAX)
		return err_set(err, -E2BIG,
			       "ca: more than %d trusted roots (root-cert.pem, replaced ones and "
			       "caCertificates together); remove some",
			       CA_ROOTS_MAX);
	AUTO(mem_freep) char *text = pem_cert_text(cert);
	root.subject = pem_subject(cert);
	if (!text || !root.subject) {
		free(root.subject);
		return err_set(err, -ENOMEM, "ca: no memory");
	}
	root.not_after_s = pem_not_after_s(cert);
	t->roots[t->root_count++] = root;
	sb_add(pem, text);
	return 0;
}

static int trust_add_retired(struct trust *t, const struct ca *ca, uint64_t now_s, struct sb *pem, struct err *err)
{
	AUTO(retired_roots_done) struct retired_roots retired = { 0 };
	int rc = state_roots_update(ca->state_dir, t->authority->roots, now_s, ca->overlap_s, &retired, err);

	for (int i = 0; rc == 0 && i < sk_X509_num(retired.certs); i++) {
		struct ca_root about = { .trusted_until_s = retired.until_s[i] };
		rc = trust_add_root(t, pem, sk_X509_value(retired.certs, i), &about, err);
		if (retired.until_s[i] < t->next_retirement_s)
			t->next_retirement_s = retired.until_s[i];
	}
	return rc;
}

static int trust_add_extra(struct trust *t, const struct ca *ca, struct sb *pem, struct err *err)
{
	for (size_t i = 0; i < ca->extra_count; i++) {
		AUTO(pem_stack_freep) STACK_OF(X509) *certs = NULL;
		char what[64];
		snprintf(what, sizeof(what), "mesh.yaml: caCertificates[%zu]", i);
		int rc = pem_certs_parse(ca->extra[i], what, &certs, err);
		for (int k = 0; rc == 0 && k < sk_X509_num(certs); k++)
			rc = trust_add_root(t, pem, sk_X509_value(certs, k), &(struct ca_root){ .extra = true }, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int trust_load(const struct ca *ca, uint64_t now_s, struct trust **out, struct err *err)
{
	AUTO(trust_freep) struct trust *t = calloc(1, sizeof(*t));
	if (!t)
		return err_set(err, -ENOMEM, "ca: no memory");
	t->next_retirement_s = UINT64_MAX;

	/* The signature of the files is taken before they are read: a change in between is seen by the next reload. */
	t->files_id = files_id(ca);
	int rc = authority_load(ca->dir, ca->trust_domain, ca->rsa, now_s, &t->authority, err);
	if (rc == 0)
		rc = authority_dir_make(ca->state_dir, err);
	struct sb pem = { 0 };
	for (int i = 0; rc == 0 && i < sk_X509_num(t->authority->roots); i++) {
		X509 *cert = sk_X509_value(t->authority->roots, i);
		struct ca_root about = { .signs = cert == t->authority->root };
		rc = trust_add_root(t, &pem, cert, &about, err);
	}
	if (rc == 0)
		rc = trust_add_retired(t, ca, now_s, &pem, err);
	if (rc == 0)
		rc = trust_add_extra(t, ca, &pem, err);
	if (rc == 0)
		rc = state_revoked_read(ca->state_dir, &t->revoked, err);
	t->roots_pem = sb_take(&pem);
	if (rc == 0 && !t->roots_pem)
		rc = err_set(err, -ENOMEM, "ca: no memory");
	if (rc == 0)
		*out = TAKE(t);
	return rc;
}

static bool same_revoked(const struct revoked_list *a, const struct revoked_list *b)
{
	if (a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++)
		if (strcmp(a->serials[i], b->serials[i]) != 0)
			return false;
	return true;
}

static void issued_mark(struct ca *ca)
{
	for (size_t i = 0; i < ca->issued_count; i++) {
		const char *serial = ca->issued[i].serial;
		const struct revoked_list *list = &ca->trust->revoked;
		for (size_t k = 0; !ca->issued[i].revoked && k < list->count; k++)
			ca->issued[i].revoked = str_eq(list->serials[k], serial);
	}
}

static void trust_put(struct ca *ca, struct trust *t, bool *changed)
{
	const struct trust *was = ca->trust;

	if (changed)
		*changed = !was || !str_eq(was->roots_pem, t->roots_pem) || !same_revoked(&was->revoked, &t->revoked) ||
			   X509_cmp(was->authority->signer, t->authority->signer) != 0;
	trust_free(ca->trust);
	ca->trust = t;
	issued_mark(ca);
}

static void texts_free(char **texts, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(texts[i]);
	free(texts);
}

static int options_take(struct ca *ca, const struct ca_options *o, struct err *err)
{
	size_t n = o->extra_root_count;
	char **extra = calloc(n ? n : 1, sizeof(*extra));
	char *trust_domain = strdup(o->trust_domain);
	bool ok = extra && trust_domain;

	for (size_t i = 0; ok && i < n; i++)
		ok = (extra[i] = strdup(o->extra_roots[i])) != NULL;
	if (!ok) {
		if (extra)
			texts_free(extra, n);
		free(trust_domain);
		return err_set(err, -ENOMEM, "ca: no memory");
	}
	texts_free(ca->extra, ca->extra_count);
	free(ca->trust_domain);
	ca->extra = extra;
	ca->extra_count = n;
	ca->trust_domain = trust_domain;
	ca->ttl_s = o->workload_ttl_s ? o->workload_ttl_s : TTL_DEFAULT_S;
	ca->overlap_s = o->root_overlap_s ? o->root_overlap_s : 2 * ca->ttl_s;
	ca->rsa = o->rsa_keys;
	return 0;
}

static uint64_t options_now_s(const struct ca_options *o)
{
	return o->now_s ? o->now_s : clock_wall_ns() / 1000000000u;
}

int ca_open(const struct ca_options *options, struct ca **out, struct err *err)
{
	AUTO(ca_freep) struct ca *ca = calloc(1, sizeof(*ca));
	if (!ca)
		return err_set(err, -ENOMEM, "ca: no memory");
	ca->dir = strdup(options->dir);
	ca->state_dir = strdup(options->state_dir ? options->state_dir : options->dir);
	if (!ca->dir || !ca->state_dir)
		return err_set(err, -ENOMEM, "ca: no memory");
	int rc = options_take(ca, options, err);
	if (rc < 0)
		return rc;

	struct trust *t;
	rc = trust_load(ca, options_now_s(options), &t, err);
	if (rc < 0)
		return rc;
	trust_put(ca, t, NULL);
	*out = TAKE(ca);
	return 0;
}

void ca_close(struct ca *ca)
{
	if (!ca)
		return;
	for (size_t i = 0; i < ca->issued_count; i++)
		free(ca->issued[i].identity);
	free(ca->issued);
	texts_free(ca->extra, ca->extra_count);
	trust_free(ca->trust);
	free(ca->trust_domain);
	free(ca->state_dir);
	free(ca->dir);
	free(ca);
}

void ca_freep(struct ca **ca)
{
	ca_close(*ca);
}

int ca_configure(struct ca *ca, const struct ca_options *options, bool *changed, struct err *err)
{
	/* Tried on a copy: an extra root that can't be parsed must not leave half of the options in force. */
	struct ca next = { .dir = ca->dir, .state_dir = ca->state_dir };
	struct trust *t;

	*changed = false;
	int rc = options_take(&next, options, err);
	if (rc < 0)
		return rc;
	rc = trust_load(&next, options_now_s(options), &t, err);
	if (rc == 0) {
		trust_put(ca, t, changed);
		char **extra = ca->extra;
		size_t extra_count = ca->extra_count;
		char *trust_domain = ca->trust_domain;
		ca->extra = next.extra;
		ca->extra_count = next.extra_count;
		ca->trust_domain = next.trust_domain;
		ca->ttl_s = next.ttl_s;
		ca->overlap_s = next.overlap_s;
		ca->rsa = next.rsa;
		next.extra = extra;
		next.extra_count = extra_count;
		next.trust_domain = trust_domain;
	}
	texts_free(next.extra, next.extra_count);
	free(next.trust_domain);
	return rc;
}

int ca_reload(struct ca *ca, uint64_t now_s, bool *changed, struct err *err)
{
	*changed = false;
	if (files_id(ca) == ca->trust->files_id && now_s < ca->trust->next_retirement_s)
		return 0;

	struct trust *t;
	int rc = trust_load(ca, now_s, &t, err);
	if (rc == 0)
		trust_put(ca, t, changed);
	return rc;
}

static int identity_check(const struct ca *ca, const char *identity, struct err *err)
{
	size_t len = strlen(ca->trust_domain);

	if (!str_starts(identity, "spiffe://") || strncmp(identity + 9, ca->trust_domain, len) != 0 ||
	    identity[9 + len] != '/' || identity[10 + len] == 0)
		return err_set(err, -EPERM, "ca: \"%.200s\" is no SPIFFE identity of trust domain %s", identity,
			       ca->trust_domain);
	return 0;
}

static void issued_drop(struct ca *ca, size_t at)
{
	free(ca->issued[at].identity);
	ca->issued_count--;
	memmove(&ca->issued[at], &ca->issued[at + 1], (ca->issued_count - at) * sizeof(*ca->issued));
}

static int issued_add(struct ca *ca, const char *identity, const X509 *cert, struct err *err)
{
	if (ca->issued_count == CA_ISSUED_MAX)
		issued_drop(ca, 0);
	if (mem_reserve(&ca->issued, &ca->issued_cap, ca->issued_count + 1, sizeof(*ca->issued)) < 0)
		return err_set(err, -ENOMEM, "ca: no memory");
	struct ca_cert entry = { .identity = strdup(identity),
				 .not_before_s = pem_not_before_s(cert),
				 .not_after_s = pem_not_after_s(cert) };
	if (!entry.identity)
		return err_set(err, -ENOMEM, "ca: no memory");
	sign_serial_text(cert, entry.serial);
	ca->issued[ca->issued_count++] = entry;
	return 0;
}

static char *chain_text(const struct authority *a, X509 *leaf)
{
	struct sb sb = { 0 };
	AUTO(mem_freep) char *text = pem_cert_text(leaf);
	sb_add(&sb, text ? text : "");
	sb.failed |= !text;
	for (int i = 0; i < sk_X509_num(a->intermediates); i++) {
		AUTO(mem_freep) char *more = pem_cert_text(sk_X509_value(a->intermediates, i));
		sb_add(&sb, more ? more : "");
		sb.failed |= !more;
	}
	return sb_take(&sb);
}

int ca_sign(struct ca *ca, const char *identity, const char *csr_pem, uint64_t now_s, char **chain_pem,
	    uint64_t *not_after_s, struct err *err)
{
	AUTO(pem_cert_freep) X509 *leaf = NULL;

	int rc = identity_check(ca, identity, err);
	if (rc == 0)
		rc = sign_leaf(ca->trust->authority, identity, csr_pem, now_s, ca->ttl_s, &leaf, err);
	if (rc < 0)
		return rc;
	char *text = chain_text(ca->trust->authority, leaf);
	if (!text)
		return err_set(err, -ENOMEM, "ca: no memory");
	rc = issued_add(ca, identity, leaf, err);
	if (rc < 0) {
		free(text);
		return rc;
	}
	*chain_pem = text;
	*not_after_s = pem_not_after_s(leaf);
	return 0;
}

const char *ca_roots_pem(const struct ca *ca)
{
	return ca->trust->roots_pem;
}

size_t ca_roots(const struct ca *ca, const struct ca_root **roots)
{
	*roots = ca->trust->roots;
	return ca->trust->root_count;
}

static int serial_parse(const char *text, char out[41])
{
	size_t n = 0;

	for (; *text; text++) {
		if (*text == ':')
			continue;
		if (!isxdigit((unsigned char)*text) || n == 40)
			return -EINVAL;
		out[n++] = (char)tolower((unsigned char)*text);
	}
	out[n] = 0;
	return n && n % 2 == 0 ? 0 : -EINVAL;
}

int ca_revoke(struct ca *ca, const char *serial, uint64_t now_s, struct err *err)
{
	char hex[41];
	if (serial_parse(serial, hex) < 0)
		return err_set(err, -EINVAL,
			       "ca: \"%.60s\" is no serial number: an even count of up to 40 hex digits; "
			       "`meshctl cert list` shows them",
			       serial);

	uint64_t expires_s = 0;
	for (size_t i = 0; i < ca->issued_count; i++)
		if (str_eq(ca->issued[i].serial, hex))
			expires_s = ca->issued[i].not_after_s;
	struct revoked_list list;
	int rc = state_revoked_add(ca->state_dir, hex, now_s, expires_s, &list, err);
	if (rc < 0)
		return rc;
	revoked_list_done(&ca->trust->revoked);
	ca->trust->revoked = list;
	issued_mark(ca);
	return 0;
}

size_t ca_revoked(const struct ca *ca, const char *const **serials)
{
	*serials = (const char *const *)ca->trust->revoked.serials;
	return ca->trust->revoked.count;
}

size_t ca_issued(struct ca *ca, uint64_t now_s, const struct ca_cert **certs)
{
	for (size_t i = ca->issued_count; i-- > 0;)
		if (ca->issued[i].not_after_s <= now_s)
			issued_drop(ca, i);
	*certs = ca->issued;
	return ca->issued_count;
}

uint64_t ca_root_not_after_s(const struct ca *ca)
{
	return pem_not_after_s(ca->trust->authority->root);
}

uint64_t ca_signer_not_after_s(const struct ca *ca)
{
	return ca->trust->authority->not_after_s;
}

const char *ca_warning(const struct ca *ca)
{
	return ca->trust->authority->warning;
}
