/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/tls_peer.h"
#include "tests/unit/hbone/world.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
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
		cmocka_unit_test(test_peer_uri_of_damaged_certificate_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
