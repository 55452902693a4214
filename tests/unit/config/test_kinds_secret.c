/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets and ConfigMaps: which values are kept, and that none is ever said. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/config/kinds.h"
#include "agent/config/redact.h"
#include "tests/unit/config/one.h"

#define SECRET "apiVersion: v1\nkind: Secret\nmetadata: { name: it, namespace: shop }\n"
#define MAP "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: it }\n"

static struct one one;

static int done(void **state)
{
	(void)state;
	one_done(&one);
	return 0;
}

static const struct resource *good(const char *text)
{
	one_done(&one);
	one_decode(&one, "a.yaml", text);
	one_has_no_problem(&one);
	return one_resource(&one);
}

static const char *value(const struct resource *r, const char *key)
{
	return string_map_get(&r->spec.secret->values, key);
}

static void test_secret_known_keys_are_kept(void **state)
{
	(void)state;
	const struct resource *r = good(SECRET "type: kubernetes.io/tls\nimmutable: true\ndata:\n  tls.crt: aGVsbG8=\n"
					       "  tls.key: |\n    aGVs\n    bG8h\n  ca.crt: aGVsbA==\n  other: AAAA\n");
	assert_int_equal(r->kind, KIND_SECRET);
	assert_string_equal(r->key, "Secret/shop/it");
	assert_string_equal(r->spec.secret->type, "kubernetes.io/tls");
	assert_string_equal(value(r, "tls.crt"), "hello");
	assert_string_equal(value(r, "tls.key"), "hello!");
	assert_string_equal(value(r, "ca.crt"), "hell");
	assert_null(value(r, "other"));
	assert_int_equal(r->spec.secret->values.n, 3);
}

static void test_secret_string_data_goes_before_data(void **state)
{
	(void)state;
	const struct resource *r =
		good(SECRET "stringData: { cert: words, key: k }\ndata: { cert: aGVsbG8=, cacert: aGVsbG8= }\n");
	assert_string_equal(value(r, "cert"), "words");
	assert_string_equal(value(r, "key"), "k");
	assert_string_equal(value(r, "cacert"), "hello");
	assert_int_equal(good(SECRET)->spec.secret->values.n, 0);
}

/* What is refused, and that the reason does not repeat the value. */
static void test_secret_broken_is_refused_without_its_value(void **state)
{
	(void)state;
	static const struct {
		const char *text, *why;
	} rows[] = {
		{ SECRET "data: { tls.key: 's3cr3t!' }\n", "data[\"tls.key\"]: is not base64" },
		{ SECRET "data: { tls.key: s3cr3tA }\n", "data[\"tls.key\"]: is not base64" },
		{ SECRET "data: { tls.key: 's3cr=3tA' }\n", "data[\"tls.key\"]: is not base64" },
		{ SECRET "data: { tls.key: 's3cr====' }\n", "data[\"tls.key\"]: is not base64" },
		{ SECRET "data: { tls.key: AAAA }\n", "data[\"tls.key\"]: is not base64 of a text" },
		{ SECRET "stringData: { tls.key: 34 }\n", "stringData[\"tls.key\"]: is" },
		{ SECRET "data: s3cr3t\n", "data: is" },
		{ SECRET "data: { key: [ s3cr3t ] }\n", "data.key: is" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		one_done(&one);
		one_decode(&one, "a.yaml", rows[i].text);
		one_has(&one, PROBLEM_ERROR, rows[i].why);
		assert_true(one.docs[0].rejected);
		for (size_t k = 0; k < one.docs[0].problem_count; k++)
			assert_null(strstr(one.docs[0].problems[k].text, "s3cr"));
	}
}

static void test_config_map_is_text(void **state)
{
	(void)state;
	const struct resource *r = good(MAP "data: { ca.crt: words, tls.key: k }\nbinaryData: { ca.crl: aGVsbG8= }\n");
	assert_string_equal(r->key, "ConfigMap/default/it");
	assert_string_equal(string_map_get(&r->spec.config_map->values, "ca.crt"), "words");
	assert_string_equal(string_map_get(&r->spec.config_map->values, "ca.crl"), "hello");
	assert_int_equal(r->spec.config_map->values.n, 2);
}

/* --- what may be seen */

static void test_redact_hides_values_however_they_are_written(void **state)
{
	(void)state;
	static const struct {
		const char *file, *text;
	} rows[] = {
		{ "a.yaml", SECRET "data:\n  tls.key: s3cr3t\n" },
		{ "a.yaml", SECRET "data:\n  tls.key: |\n    first\n    s3cr3t\n" },
		{ "a.yaml", SECRET "stringData: { a: s3cr3t, 'odd\n\n  key': x }\n" },
		{ "a.yaml", "kind: \"Se\\x63ret\"\napiVersion: v1\ndata: { a: s3cr3t }\n" },
		{ "a.yaml", "x: &k Secret\nkind: *k\napiVersion: v1\ndata: { a: s3cr3t }\n" },
		{ "a.yaml", "apiVersion: v1\nkind: Secret\nmetadata: { name: a, annotations: { b: s3cr3t } }\n" },
		{ "a.json", "{\"kind\":\"Secret\",\"apiVersion\":\"v1\",\"data\":{\"a\":\"s3cr3t\"}}" },
		{ "a.json", "{\"kind\":\"\\u0053ecret\",\"apiVersion\":\"v1\",\"data\":{\"a\":\"s3cr3t\"}}" },
		{ "a.yaml", "apiVersion: v1\nkind: List\nitems: [ { kind: Secret, data: { a: s3cr3t } } ]\n" },
		{ "a.yaml", "kind: Secret\ndata: { a: s3cr3t\n" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct sb out = { 0 };
		int rc = document_redact(rows[i].file, rows[i].text, strlen(rows[i].text), &out);
		if (rc != 1 || !out.p || strstr(out.p, "s3cr3t"))
			fail_msg("%zu: %d\n%s", i, rc, out.p ? out.p : "");
		sb_done(&out);
	}
}

static void test_redact_says_names_and_keys(void **state)
{
	(void)state;
	static const char text[] = SECRET "type: Opaque\ndata:\n  cert: aGVsbG8=\n  key: aGVsbG8=\n";
	struct sb out = { 0 };
	assert_int_equal(document_redact("a.yaml", text, strlen(text), &out), 1);
	assert_string_equal(out.p, "# A Secret: its values are not shown.\napiVersion: v1\nkind: Secret\nmetadata:\n"
				   "  name: it\n  namespace: shop\ntype: Opaque\ndata:\n  cert: (hidden)\n"
				   "  key: (hidden)\n");
	sb_done(&out);
}

static void test_redact_leaves_others(void **state)
{
	(void)state;
	static const char *const texts[] = {
		MAP "data: { ca.crt: words }\n",
		"apiVersion: v1\nkind: Service\nmetadata: { name: Secret }\n",
		"apiVersion: v1\nkind: List\nitems: [ { kind: Service } ]\n# Secret\n",
	};
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct sb out = { 0 };
		assert_int_equal(document_redact("a.yaml", texts[i], strlen(texts[i]), &out), 0);
		assert_int_equal(out.len, 0);
		sb_done(&out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_teardown(name, done)
		T(test_secret_known_keys_are_kept),
		T(test_secret_string_data_goes_before_data),
		T(test_secret_broken_is_refused_without_its_value),
		T(test_config_map_is_text),
		T(test_redact_hides_values_however_they_are_written),
		T(test_redact_says_names_and_keys),
		T(test_redact_leaves_others),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
