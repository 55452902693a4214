/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/err.h"
#include "agent/model/identity.h"

static void test_identity_of_names_has_uri_principal_and_id(void **state)
{
	(void)state;
	struct identity *a = identity_new("cluster.local", "shop", "frontend");
	struct identity *b = identity_new("cluster.local", "shop", "catalog");

	assert_string_equal(a->uri, "spiffe://cluster.local/ns/shop/sa/frontend");
	assert_string_equal(identity_principal(a), "cluster.local/ns/shop/sa/frontend");
	assert_int_not_equal(a->id, 0);
	assert_int_not_equal(a->id, b->id);
	identity_unref(a);
	identity_unref(b);
	identity_unref(NULL);
}

static void test_identity_parse_valid_uri_gives_the_same_object(void **state)
{
	(void)state;
	struct identity *want = identity_new("td1.example", "kube-system", "core-dns.v2"), *got = NULL;

	assert_int_equal(identity_parse(want->uri, &got, NULL), 0);
	assert_string_equal(got->trust_domain, "td1.example");
	assert_string_equal(got->ns, "kube-system");
	assert_string_equal(got->service_account, "core-dns.v2");
	assert_int_equal(got->id, want->id);
	identity_unref(identity_ref(got));
	identity_unref(got);
	identity_unref(want);
}

static void test_identity_parse_bad_uri_is_refused_with_a_sentence(void **state)
{
	(void)state;
	const char *bad[] = {
		"",
		"spiffe://",
		"https://td/ns/a/sa/b",
		"spiffe://td/ns/a/sa/",
		"spiffe://td/ns//sa/b",
		"spiffe:///ns/a/sa/b",
		"spiffe://td/ns/a/sa/b/",
		"spiffe://td/ns/a/sa/b/c",
		"spiffe://td/sa/a/ns/b",
		"spiffe://TD/ns/a/sa/b",
		"spiffe://td:80/ns/a/sa/b",
		"spiffe://u@td/ns/a/sa/b",
		"spiffe://td/ns/../sa/b",
		"spiffe://td/ns/a/sa/b?x",
		"spiffe://td/ns/a/sa/b#x",
		"spiffe://td/ns/a%2f/sa/b",
		"spiffe://td/ns/-a/sa/b",
		"spiffe://td/ns/a/sa/b ",
		"spiffe://td/ns/a/sa/\xc3\xa4",
		"SPIFFE://td/ns/a/sa/b",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct identity *got = NULL;
		struct err err = ERR_INIT;
		if (identity_parse(bad[i], &got, &err) != -EINVAL || got)
			fail_msg("accepted: %s", bad[i]);
		assert_int_not_equal(err.text[0], '\0');
	}
}

static void test_identity_parse_too_long_is_refused(void **state)
{
	(void)state;
	char uri[IDENTITY_URI_MAX + 64] = "spiffe://td/ns/a/sa/";
	size_t len = strlen(uri);
	struct identity *got = NULL;

	memset(uri + len, 'a', 254);
	assert_int_equal(identity_parse(uri, &got, NULL), -EINVAL);
	memset(uri + len, 'a', sizeof(uri) - len - 1);
	assert_int_equal(identity_parse(uri, &got, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_identity_of_names_has_uri_principal_and_id),
		cmocka_unit_test(test_identity_parse_valid_uri_gives_the_same_object),
		cmocka_unit_test(test_identity_parse_bad_uri_is_refused_with_a_sentence),
		cmocka_unit_test(test_identity_parse_too_long_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
