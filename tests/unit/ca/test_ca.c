/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/ca/ca.h"
#include "agent/ca/pem.h"
#include "tests/unit/ca/fixture.h"

struct test {
	char *dir;
	struct ca_options options;
	struct ca *ca;
	EVP_PKEY *key; /* a workload's */
	struct err err;
};

static int setup(void **state)
{
	struct test *t = calloc(1, sizeof(*t));
	t->dir = fixture_dir();
	t->options = (struct ca_options){ .dir = t->dir, .trust_domain = "cluster.local", .now_s = NOW_S };
	t->key = fixture_key();
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct test *t = *state;
	ca_close(t->ca);
	EVP_PKEY_free(t->key);
	fixture_dir_remove(t->dir);
	free(t);
	return 0;
}

static void open_ok(struct test *t)
{
	if (ca_open(&t->options, &t->ca, &t->err) < 0)
		fail_msg("%s", t->err.text);
}

static void open_fails(struct test *t, int code, const char *says)
{
	assert_int_equal(ca_open(&t->options, &t->ca, &t->err), code);
	assert_null(t->ca);
	if (!strstr(t->err.text, says))
		fail_msg("\"%s\" does not say \"%s\"", t->err.text, says);
}

/* Signs and verifies; the caller frees the leaf. */
static X509 *sign_ok(struct test *t, const char *identity)
{
	AUTO(mem_freep) char *csr = fixture_csr(t->key, NULL, NULL);
	AUTO(mem_freep) char *chain = NULL;
	uint64_t not_after_s;
	if (ca_sign(t->ca, identity, csr, NOW_S, &chain, &not_after_s, &t->err) < 0)
		fail_msg("%s", t->err.text);
	X509 *leaf = fixture_verify(chain, ca_roots_pem(t->ca), NOW_S);
	assert_non_null(leaf);
	assert_int_equal(pem_not_after_s(leaf), not_after_s);
	return leaf;
}

static void sign_fails(struct test *t, int code, const char *csr, const char *says)
{
	char *chain = NULL;
	uint64_t not_after_s;
	assert_int_equal(ca_sign(t->ca, FRONTEND, csr, NOW_S, &chain, &not_after_s, &t->err), code);
	assert_null(chain);
	if (!strstr(t->err.text, says))
		fail_msg("\"%s\" does not say \"%s\"", t->err.text, says);
}

static void test_open_empty_dir_makes_root(void **state)
{
	struct test *t = *state;
	struct stat st;
	AUTO(mem_freep) char *key_path = str_format("%s/ca-key.pem", t->dir);

	open_ok(t);
	assert_int_equal(stat(key_path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(ca_root_not_after_s(t->ca), NOW_S + 3650ull * 86400);
	assert_null(ca_warning(t->ca));
}

static void test_open_again_keeps_root(void **state)
{
	struct test *t = *state;
	open_ok(t);
	AUTO(mem_freep) char *roots = strdup(ca_roots_pem(t->ca));
	ca_close(TAKE(t->ca));
	open_ok(t);
	assert_string_equal(roots, ca_roots_pem(t->ca));
}

static void test_open_rsa_makes_rsa_root(void **state)
{
	struct test *t = *state;
	t->options.rsa_keys = true;
	open_ok(t);
	AUTO(pem_stack_freep) STACK_OF(X509) *roots = NULL;
	assert_int_equal(pem_certs_parse(ca_roots_pem(t->ca), "roots", &roots, NULL), 0);
	EVP_PKEY *key = X509_get0_pubkey(sk_X509_value(roots, 0));
	assert_int_equal(EVP_PKEY_get_base_id(key), EVP_PKEY_RSA);
	assert_int_equal(EVP_PKEY_get_bits(key), 2048);
	X509_free(sign_ok(t, FRONTEND));
}

static void *open_in_thread(void *arg)
{
	const struct test *t = arg;
	struct ca *ca = NULL;
	struct err err;
	return ca_open(&t->options, &ca, &err) < 0 ? NULL : ca;
}

static void test_open_by_several_at_once_gives_one_root(void **state)
{
	struct test *t = *state;
	pthread_t threads[6];
	struct ca *cas[6];
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, open_in_thread, t), 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		void *ca;
		pthread_join(threads[i], &ca);
		assert_non_null(ca);
		cas[i] = ca;
		assert_string_equal(ca_roots_pem(cas[0]), ca_roots_pem(cas[i]));
	}
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		ca_close(cas[i]);
}

static void test_open_after_interrupted_creation_finishes_it(void **state)
{
	struct test *t = *state;
	open_ok(t);
	AUTO(mem_freep) char *roots = strdup(ca_roots_pem(t->ca));
	ca_close(TAKE(t->ca));
	AUTO(mem_freep) char *from = str_format("%s/root-cert.pem", t->dir);
	AUTO(mem_freep) char *to = str_format("%s/root-cert.pem.new", t->dir);
	assert_int_equal(rename(from, to), 0);
	open_ok(t);
	assert_string_equal(roots, ca_roots_pem(t->ca));
}

static void test_open_key_of_another_root_fails(void **state)
{
	struct test *t = *state;
	open_ok(t);
	ca_close(TAKE(t->ca));
	AUTO(pem_key_freep) EVP_PKEY *other = fixture_key();
	fixture_put_key(t->dir, "ca-key.pem", other);
	open_fails(t, -EINVAL, "ca-key.pem belongs to no certificate");
}

static void test_open_expired_root_fails_with_its_date(void **state)
{
	struct test *t = *state;
	AUTO(pem_key_freep) EVP_PKEY *key = fixture_key();
	AUTO(pem_cert_freep) X509 *root =
		fixture_ca_cert(key, "old", NULL, NULL, "critical,CA:TRUE", NOW_S - 2000, NOW_S - 1);
	fixture_put_key(t->dir, "ca-key.pem", key);
	fixture_put_cert(t->dir, "root-cert.pem", root);
	open_fails(t, -EKEYEXPIRED, "expired at 2027-01-15 07:59:59Z");
}

static void test_open_root_that_is_no_ca_fails(void **state)
{
	struct test *t = *state;
	AUTO(pem_key_freep) EVP_PKEY *key = fixture_key();
	AUTO(pem_cert_freep) X509 *root =
		fixture_ca_cert(key, "leaf", NULL, NULL, "critical,CA:FALSE", NOW_S - 2000, NOW_S + 2000);
	fixture_put_key(t->dir, "ca-key.pem", key);
	fixture_put_cert(t->dir, "root-cert.pem", root);
	open_fails(t, -EINVAL, "CA:TRUE");
}

static void test_open_certificate_without_key_fails(void **state)
{
	struct test *t = *state;
	AUTO(pem_key_freep) EVP_PKEY *key = fixture_key();
	AUTO(pem_cert_freep) X509 *root =
		fixture_ca_cert(key, "x", NULL, NULL, "critical,CA:TRUE", NOW_S - 2000, NOW_S + 2000);
	fixture_put_cert(t->dir, "root-cert.pem", root);
	open_fails(t, -ENOENT, "ca-key.pem is missing");
}

static void test_open_garbage_certificate_names_file(void **state)
{
	struct test *t = *state;
	open_ok(t);
	ca_close(TAKE(t->ca));
	fixture_put(t->dir, "root-cert.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
	open_fails(t, -EINVAL, "root-cert.pem: certificate 1 is damaged");
}

/* Istio's cacerts: root -> intermediate, the root's key is not there. */
static void put_cacerts(struct test *t, const char *constraints, uint64_t to_s, bool right_root)
{
	AUTO(pem_key_freep) EVP_PKEY *root_key = fixture_key();
	AUTO(pem_key_freep) EVP_PKEY *other_key = fixture_key();
	AUTO(pem_key_freep) EVP_PKEY *key = fixture_key();
	AUTO(pem_cert_freep) X509 *root =
		fixture_ca_cert(root_key, "root", NULL, NULL, "critical,CA:TRUE", NOW_S - 9000, NOW_S + 900000000);
	AUTO(pem_cert_freep) X509 *other =
		fixture_ca_cert(other_key, "other", NULL, NULL, "critical,CA:TRUE", NOW_S - 9000, NOW_S + 900000000);
	AUTO(pem_cert_freep) X509 *signer =
		fixture_ca_cert(key, "intermediate", root, root_key, constraints, NOW_S - 9000, to_s);
	AUTO(mem_freep) char *signer_text = pem_cert_text(signer);
	AUTO(mem_freep) char *root_text = pem_cert_text(root);
	AUTO(mem_freep) char *chain = str_format("%s%s", signer_text, root_text);

	fixture_put_key(t->dir, "ca-key.pem", key);
	fixture_put(t->dir, "ca-cert.pem", signer_text);
	fixture_put(t->dir, "cert-chain.pem", chain);
	fixture_put_cert(t->dir, "root-cert.pem", right_root ? root : other);
}

static void test_open_cacerts_sends_intermediate_and_no_root(void **state)
{
	struct test *t = *state;
	put_cacerts(t, "critical,CA:TRUE,pathlen:0", NOW_S + 90000000, true);
	open_ok(t);
	AUTO(mem_freep) char *csr = fixture_csr(t->key, NULL, NULL);
	AUTO(mem_freep) char *chain = NULL;
	uint64_t not_after_s;
	assert_int_equal(ca_sign(t->ca, FRONTEND, csr, NOW_S, &chain, &not_after_s, &t->err), 0);
	AUTO(pem_stack_freep) STACK_OF(X509) *certs = NULL;
	assert_int_equal(pem_certs_parse(chain, "chain", &certs, NULL), 0);
	assert_int_equal(sk_X509_num(certs), 2);
	assert_int_equal(ca_signer_not_after_s(t->ca), NOW_S + 90000000);
}

static void test_open_cacerts_with_foreign_root_fails(void **state)
{
	struct test *t = *state;
	put_cacerts(t, "critical,CA:TRUE", NOW_S + 90000000, false);
	open_fails(t, -EINVAL, "does not chain to a root");
}

static void test_open_cacerts_with_expired_intermediate_fails(void **state)
{
	struct test *t = *state;
	put_cacerts(t, "critical,CA:TRUE", NOW_S - 1, true);
	open_fails(t, -EKEYEXPIRED, "ca-cert.pem expired");
}

static void test_open_chain_near_its_end_warns(void **state)
{
	struct test *t = *state;
	put_cacerts(t, "critical,CA:TRUE", NOW_S + 5 * 86400, true);
	open_ok(t);
	assert_non_null(strstr(ca_warning(t->ca), "expires at"));
}

static void test_sign_leaf_has_one_critical_uri_and_both_usages(void **state)
{
	struct test *t = *state;
	open_ok(t);
	AUTO(pem_cert_freep) X509 *leaf = sign_ok(t, FRONTEND);

	int crit;
	GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, &crit, NULL);
	assert_int_equal(sk_GENERAL_NAME_num(names), 1);
	assert_int_equal(crit, 1);
	const ASN1_STRING *uri = sk_GENERAL_NAME_value(names, 0)->d.uniformResourceIdentifier;
	assert_memory_equal(ASN1_STRING_get0_data(uri), FRONTEND, sizeof(FRONTEND) - 1);
	assert_int_equal(ASN1_STRING_length(uri), sizeof(FRONTEND) - 1);
	GENERAL_NAMES_free(names);
	assert_int_equal(X509_get_key_usage(leaf), KU_DIGITAL_SIGNATURE);
	assert_int_equal(X509_get_extended_key_usage(leaf), XKU_SSL_CLIENT | XKU_SSL_SERVER);
	assert_int_equal(X509_check_ca(leaf), 0);
	assert_int_equal(pem_not_before_s(leaf), NOW_S - 60);
	assert_int_equal(pem_not_after_s(leaf), NOW_S + 86400);
}

static void test_sign_life_ends_with_the_chain(void **state)
{
	struct test *t = *state;
	put_cacerts(t, "critical,CA:TRUE", NOW_S + 1000, true);
	open_ok(t);
	AUTO(mem_freep) char *csr = fixture_csr(t->key, NULL, NULL);
	AUTO(mem_freep) char *chain = NULL;
	uint64_t not_after_s;
	assert_int_equal(ca_sign(t->ca, FRONTEND, csr, NOW_S, &chain, &not_after_s, &t->err), 0);
	assert_int_equal(not_after_s, NOW_S + 1000);
	char *late = NULL;
	assert_int_equal(ca_sign(t->ca, FRONTEND, csr, NOW_S + 1000, &late, &not_after_s, &t->err), -EKEYEXPIRED);
	assert_null(late);
}

static void test_sign_serials_differ_and_are_listed(void **state)
{
	struct test *t = *state;
	open_ok(t);
	X509_free(sign_ok(t, FRONTEND));
	X509_free(sign_ok(t, "spiffe://cluster.local/ns/shop/sa/catalog"));
	const struct ca_cert *certs;
	assert_int_equal(ca_issued(t->ca, NOW_S, &certs), 2);
	assert_string_not_equal(certs[0].serial, certs[1].serial);
	assert_int_equal(strlen(certs[0].serial), 32);
	assert_string_equal(certs[0].identity, FRONTEND);
	assert_int_equal(ca_issued(t->ca, NOW_S + 86400, &certs), 0);
}

static void test_sign_issued_list_is_bounded(void **state)
{
	struct test *t = *state;
	open_ok(t);
	AUTO(mem_freep) char *csr = fixture_csr(t->key, NULL, NULL);
	for (int i = 0; i < CA_ISSUED_MAX + 3; i++) {
		AUTO(mem_freep) char *identity = str_format("spiffe://cluster.local/ns/a/sa/w%d", i);
		AUTO(mem_freep) char *chain = NULL;
		uint64_t not_after_s;
		assert_int_equal(ca_sign(t->ca, identity, csr, NOW_S, &chain, &not_after_s, &t->err), 0);
	}
	const struct ca_cert *certs;
	assert_int_equal(ca_issued(t->ca, NOW_S, &certs), CA_ISSUED_MAX);
	assert_string_equal(certs[0].identity, "spiffe://cluster.local/ns/a/sa/w3");
}

static void test_sign_csr_naming_the_identity_passes(void **state)
{
	struct test *t = *state;
	open_ok(t);
	AUTO(mem_freep) char *csr = fixture_csr(t->key, "URI:" FRONTEND, NULL);
	AUTO(mem_freep) char *chain = NULL;
	uint64_t not_after_s;
	assert_int_equal(ca_sign(t->ca, FRONTEND, csr, NOW_S, &chain, &not_after_s, &t->err), 0);
}

static void test_sign_hostile_csr_is_refused(void **state)
{
	struct test *t = *state;
	static const struct {
		const char *san, *constraints, *says;
	} cases[] = {
		{ "URI:spiffe://cluster.local/ns/shop/sa/payments", NULL, "asks for another identity" },
		{ "URI:" FRONTEND "x", NULL, "asks for another identity" },
		{ "URI:" FRONTEND ",URI:spiffe://cluster.local/ns/shop/sa/payments", NULL,
		  "asks for another identity" },
		{ "URI:" FRONTEND ",URI:" FRONTEND, NULL, "more than once" },
		{ "URI:" FRONTEND ",DNS:istiod.istio-system.svc", NULL, "asks for a name that is no URI" },
		{ "DNS:localhost", NULL, "asks for a name that is no URI" },
		{ NULL, "CA:TRUE", "asks to become a CA" },
	};
	open_ok(t);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		AUTO(mem_freep) char *csr = fixture_csr(t->key, cases[i].san, cases[i].constraints);
		sign_fails(t, -EPERM, csr, cases[i].says);
	}
	const struct ca_cert *certs;
	assert_int_equal(ca_issued(t->ca, NOW_S, &certs), 0);
}

static void test_sign_csr_signed_by_another_key_is_refused(void **state)
{
	struct test *t = *state;
	open_ok(t);
	/* One signature bit flipped: the last base64 character of the body before the padding. */
	AUTO(mem_freep) char *csr = fixture_csr(t->key, NULL, NULL);
	char *end = strstr(csr, "\n-----END");
	char *p = end - 10;
	*p = *p == 'A' ? 'B' : 'A';
	sign_fails(t, -EINVAL, csr, "CSR for " FRONTEND);
}

static void test_sign_weak_or_odd_key_is_refused(void **state)
{
	struct test *t = *state;
	open_ok(t);
	EVP_PKEY *keys[] = { EVP_RSA_gen(1024), EVP_EC_gen("secp256k1") };
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		assert_non_null(keys[i]);
		AUTO(mem_freep) char *csr = fixture_csr(keys[i], NULL, NULL);
		sign_fails(t, -EINVAL, csr, "neither ECDSA");
		EVP_PKEY_free(keys[i]);
	}
}

static void test_sign_garbage_is_refused(void **state)
{
	struct test *t = *state;
	open_ok(t);
	sign_fails(t, -EINVAL, "", "can't be parsed");
	sign_fails(t, -EINVAL, "-----BEGIN CERTIFICATE REQUEST-----\nMA==\n-----END CERTIFICATE REQUEST-----\n",
		   "can't be parsed");
	AUTO(mem_freep) char *large = malloc(20000);
	memset(large, 'A', 19999);
	large[19999] = 0;
	sign_fails(t, -EINVAL, large, "larger than 16 KiB");
}

static void test_sign_foreign_trust_domain_is_refused(void **state)
{
	struct test *t = *state;
	open_ok(t);
	AUTO(mem_freep) char *csr = fixture_csr(t->key, NULL, NULL);
	static const char *const identities[] = { "spiffe://cluster.localx/ns/a/sa/b", "spiffe://evil/ns/a/sa/b",
						  "https://cluster.local/ns/a/sa/b", "spiffe://cluster.local/", "" };
	for (size_t i = 0; i < ARRAY_SIZE(identities); i++) {
		char *chain = NULL;
		uint64_t not_after_s;
		assert_int_equal(ca_sign(t->ca, identities[i], csr, NOW_S, &chain, &not_after_s, &t->err), -EPERM);
		assert_null(chain);
	}
}

static void test_reload_without_change_tells_none(void **state)
{
	struct test *t = *state;
	open_ok(t);
	bool changed = true;
	assert_int_equal(ca_reload(t->ca, NOW_S + 5, &changed, &t->err), 0);
	assert_false(changed);
}

static void test_reload_new_root_keeps_the_old_for_the_overlap(void **state)
{
	struct test *t = *state;
	t->options.root_overlap_s = 500;
	open_ok(t);
	AUTO(pem_cert_freep) X509 *old_leaf = sign_ok(t, FRONTEND);
	AUTO(mem_freep) char *old_leaf_text = pem_cert_text(old_leaf);

	AUTO(pem_key_freep) EVP_PKEY *key = fixture_key();
	AUTO(pem_cert_freep) X509 *root =
		fixture_ca_cert(key, "new", NULL, NULL, "critical,CA:TRUE", NOW_S - 100, NOW_S + 90000000);
	fixture_put_key(t->dir, "ca-key.pem", key);
	fixture_put_cert(t->dir, "root-cert.pem", root);
	bool changed = false;
	assert_int_equal(ca_reload(t->ca, NOW_S, &changed, &t->err), 0);
	assert_true(changed);
	const struct ca_root *roots;
	assert_int_equal(ca_roots(t->ca, &roots), 2);
	assert_true(roots[0].signs);
	assert_int_equal(roots[1].trusted_until_s, NOW_S + 500);
	AUTO(pem_cert_freep) X509 *still = fixture_verify(old_leaf_text, ca_roots_pem(t->ca), NOW_S);
	assert_non_null(still);

	/* Also across a restart, and gone when its time is over. */
	ca_close(TAKE(t->ca));
	t->options.now_s = NOW_S + 100;
	open_ok(t);
	assert_int_equal(ca_roots(t->ca, &roots), 2);
	assert_int_equal(roots[1].trusted_until_s, NOW_S + 500);
	assert_int_equal(ca_reload(t->ca, NOW_S + 500, &changed, &t->err), 0);
	assert_true(changed);
	assert_int_equal(ca_roots(t->ca, &roots), 1);
}

static void test_reload_broken_files_keep_what_was(void **state)
{
	struct test *t = *state;
	open_ok(t);
	AUTO(mem_freep) char *roots = strdup(ca_roots_pem(t->ca));
	fixture_put(t->dir, "root-cert.pem", "nothing");
	bool changed = true;
	assert_int_equal(ca_reload(t->ca, NOW_S, &changed, &t->err), -EINVAL);
	assert_false(changed);
	assert_string_equal(roots, ca_roots_pem(t->ca));
	X509_free(sign_ok(t, FRONTEND));
}

static void test_configure_extra_root_is_trusted_and_bad_one_changes_nothing(void **state)
{
	struct test *t = *state;
	open_ok(t);
	AUTO(pem_key_freep) EVP_PKEY *key = fixture_key();
	AUTO(pem_cert_freep) X509 *root =
		fixture_ca_cert(key, "partner", NULL, NULL, "critical,CA:TRUE", NOW_S - 100, NOW_S + 90000000);
	AUTO(mem_freep) char *text = pem_cert_text(root);
	const char *extra[] = { text };
	t->options.extra_roots = extra;
	t->options.extra_root_count = 1;
	bool changed = false;
	assert_int_equal(ca_configure(t->ca, &t->options, &changed, &t->err), 0);
	assert_true(changed);
	assert_non_null(strstr(ca_roots_pem(t->ca), text));

	extra[0] = "rubbish";
	assert_int_equal(ca_configure(t->ca, &t->options, &changed, &t->err), -EINVAL);
	assert_non_null(strstr(t->err.text, "caCertificates[0]"));
	assert_false(changed);
	assert_non_null(strstr(ca_roots_pem(t->ca), text));
}

static void test_revoke_persists_and_marks(void **state)
{
	struct test *t = *state;
	open_ok(t);
	X509_free(sign_ok(t, FRONTEND));
	const struct ca_cert *certs;
	ca_issued(t->ca, NOW_S, &certs);
	AUTO(mem_freep) char *serial = strdup(certs[0].serial);
	assert_int_equal(ca_revoke(t->ca, serial, NOW_S, &t->err), 0);
	assert_int_equal(ca_revoke(t->ca, serial, NOW_S, &t->err), 0); /* twice is once */
	assert_int_equal(ca_revoke(t->ca, "AB:CD", NOW_S, &t->err), 0);
	ca_issued(t->ca, NOW_S, &certs);
	assert_true(certs[0].revoked);

	ca_close(TAKE(t->ca));
	open_ok(t);
	const char *const *serials;
	assert_int_equal(ca_revoked(t->ca, &serials), 2);
	assert_true(str_eq(serials[0], serial) || str_eq(serials[1], serial));
	assert_true(str_eq(serials[0], "abcd") || str_eq(serials[1], "abcd"));
}

static void test_revoke_no_serial_is_refused(void **state)
{
	struct test *t = *state;
	open_ok(t);
	static const char *const bad[] = { "", "abc", "xyz0", "../../etc",
					   "00112233445566778899001122334455667788990011" };
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(ca_revoke(t->ca, bad[i], NOW_S, &t->err), -EINVAL);
}

static void test_revoke_by_another_agent_is_seen_on_reload(void **state)
{
	struct test *t = *state;
	struct ca *other;
	open_ok(t);
	assert_int_equal(ca_open(&t->options, &other, &t->err), 0);
	assert_int_equal(ca_revoke(other, "0a0b", NOW_S, &t->err), 0);
	ca_close(other);
	bool changed = false;
	assert_int_equal(ca_reload(t->ca, NOW_S, &changed, &t->err), 0);
	assert_true(changed);
	const char *const *serials;
	assert_int_equal(ca_revoked(t->ca, &serials), 1);
}

static void test_revoke_damaged_list_stops_opening(void **state)
{
	struct test *t = *state;
	open_ok(t);
	ca_close(TAKE(t->ca));
	fixture_put(t->dir, "revoked.json", "{\"revoked\": [");
	open_fails(t, -EINVAL, "revoked.json:1");
}

static void test_open_encrypted_key_fails_without_asking(void **state)
{
	struct test *t = *state;
	open_ok(t);
	ca_close(TAKE(t->ca));
	AUTO(mem_freep) char *cmd = str_format("openssl pkcs8 -topk8 -in %s/ca-key.pem -out %s/k -passout pass:x && "
					       "mv %s/k %s/ca-key.pem",
					       t->dir, t->dir, t->dir, t->dir);
	if (system(cmd) != 0)
		skip();
	open_fails(t, -EINVAL, "is encrypted");
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_open_empty_dir_makes_root),
		T(test_open_again_keeps_root),
		T(test_open_rsa_makes_rsa_root),
		T(test_open_by_several_at_once_gives_one_root),
		T(test_open_after_interrupted_creation_finishes_it),
		T(test_open_key_of_another_root_fails),
		T(test_open_expired_root_fails_with_its_date),
		T(test_open_root_that_is_no_ca_fails),
		T(test_open_certificate_without_key_fails),
		T(test_open_garbage_certificate_names_file),
		T(test_open_encrypted_key_fails_without_asking),
		T(test_open_cacerts_sends_intermediate_and_no_root),
		T(test_open_cacerts_with_foreign_root_fails),
		T(test_open_cacerts_with_expired_intermediate_fails),
		T(test_open_chain_near_its_end_warns),
		T(test_sign_leaf_has_one_critical_uri_and_both_usages),
		T(test_sign_life_ends_with_the_chain),
		T(test_sign_serials_differ_and_are_listed),
		T(test_sign_issued_list_is_bounded),
		T(test_sign_csr_naming_the_identity_passes),
		T(test_sign_hostile_csr_is_refused),
		T(test_sign_csr_signed_by_another_key_is_refused),
		T(test_sign_weak_or_odd_key_is_refused),
		T(test_sign_garbage_is_refused),
		T(test_sign_foreign_trust_domain_is_refused),
		T(test_reload_without_change_tells_none),
		T(test_reload_new_root_keeps_the_old_for_the_overlap),
		T(test_reload_broken_files_keep_what_was),
		T(test_configure_extra_root_is_trusted_and_bad_one_changes_nothing),
		T(test_revoke_persists_and_marks),
		T(test_revoke_no_serial_is_refused),
		T(test_revoke_by_another_agent_is_seen_on_reload),
		T(test_revoke_damaged_list_stops_opening),
	};
	return cmocka_run_group_tests_name("ca", tests, NULL, NULL);
}
