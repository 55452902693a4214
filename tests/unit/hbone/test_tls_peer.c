/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/tls_peer.h"
#include "tests/unit/hbone/world.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int uri_of(struct cert_options o, char **uri)
{
	uint8_t der[4096];
	struct test_ca *ca = test_ca_new(false);
	size_t len = test_cert_der(ca, &o, der, sizeof(der));
	test_ca_free(ca);
	return tls_peer_uri_der(der, len, uri);
}

static void test_peer_uri_of_one_san(void **state)
{
	char *uri = NULL;
	(void)state;
	assert_int_equal(uri_of((struct cert_options){ .uris = { FRONTEND }, .dns = "a.b" }, &uri), 0);
	assert_string_equal(uri, FRONTEND);
	free(uri);
}

static void test_peer_uri_of_several_is_refused(void **state)
{
	char *uri = NULL;
	(void)state;
	assert_int_equal(uri_of((struct cert_options){ .uris = { FRONTEND, BACKEND } }, &uri), -EEXIST);
	assert_int_equal(uri_of((struct cert_options){ .uris = { FRONTEND, FRONTEND } }, &uri), -EEXIST);
	assert_null(uri);
}

static void test_peer_uri_of_none_is_refused(void **state)
{
	char *uri = NULL;
	(void)state;
	assert_int_equal(uri_of((struct cert_options){ .dns = "a.b" }, &uri), -ENOENT);
	assert_int_equal(uri_of((struct cert_options){ 0 }, &uri), -ENOENT);
	assert_null(uri);
}

static void test_peer_hash_and_subject(void **state)
{
	static const char uri[] = "spiffe://cluster.local/ns/shop/sa/frontend";
	struct cert_options o = { .uris = { uri } };
	struct test_ca *ca = test_ca_new(false);
	uint8_t der[4096], digest[32];
	char hash[TLS_HASH_SIZE], want[TLS_HASH_SIZE];
	(void)state;
	size_t len = test_cert_der(ca, &o, der, sizeof(der));
	const uint8_t *at = der;
	X509 *cert = d2i_X509(NULL, &at, (long)len);
	assert_non_null(cert);
	assert_int_equal(tls_peer_hash(cert, hash), 0);
	assert_int_equal(EVP_Digest(der, len, digest, NULL, EVP_sha256(), NULL), 1);
	for (size_t i = 0; i < sizeof(digest); i++)
		snprintf(want + 2 * i, 3, "%02x", digest[i]);
	assert_string_equal(hash, want);

	X509_NAME *name = X509_NAME_new();
	X509_NAME_add_entry_by_txt(name, "O", MBSTRING_UTF8, (const unsigned char *)"shop", -1, -1, 0);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)"a \"b\";\r\nx: y", -1, -1, 0);
	X509_set_subject_name(cert, name);
	char *subject = tls_peer_subject(cert); /* in the order of RFC 2253, and nothing that would end a header */
	assert_string_equal(subject, "CN=a \\\"b\\\"\\;\\0D\\0Ax: y,O=shop");
	free(subject);
	X509_NAME_free(name);
	name = X509_NAME_new();
	X509_set_subject_name(cert, name);
	subject = tls_peer_subject(cert);
	assert_string_equal(subject, "");
	free(subject);
	X509_NAME_free(name);
	X509_free(cert);
	test_ca_free(ca);
}

static void test_peer_uri_of_damaged_certificate_is_refused(void **state)
{
	uint8_t der[4096];
	char *uri = NULL;
	struct cert_options o = { .uris = { FRONTEND } };
	struct test_ca *ca = test_ca_new(false);
	size_t len = test_cert_der(ca, &o, der, sizeof(der));
	(void)state;
	for (size_t cut = 0; cut < len; cut += 7)
		assert_true(tls_peer_uri_der(der, cut, &uri) < 0);
	/* A NUL inside the URI must not shorten it to another identity. */
	uint8_t *at = memmem(der, len, "frontend", 8);
	assert_non_null(at);
	at[4] = '\0';
	assert_int_equal(tls_peer_uri_der(der, len, &uri), -EINVAL);
	test_ca_free(ca);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_peer_uri_of_one_san),
		cmocka_unit_test(test_peer_uri_of_several_is_refused),
		cmocka_unit_test(test_peer_uri_of_none_is_refused),
		cmocka_unit_test(test_peer_hash_and_subject),
		cmocka_unit_test(test_peer_uri_of_damaged_certificate_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
